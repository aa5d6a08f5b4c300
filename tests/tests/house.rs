//! The rules of the house that no compiler holds: layers, sizes, where `unsafe` may stand, who declares which file, what
//! no file may say, and what may enter the build.

#![forbid(unsafe_code)]

mod house {
    mod counters;
    mod guards;
    mod layers;
    mod licences;
    mod promises;
    mod results;
    mod rows;
    mod shape;
    mod words;
}
