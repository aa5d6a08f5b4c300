//! What is made of a run: figures, `result.json`, the result folder, text for people.

pub mod figures;
pub mod folder;
pub mod result;
pub mod schema;
pub mod text;
