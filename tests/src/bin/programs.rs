//! Builds every program that the whole-process tests start, in every variant, and prints the folder they are in:
//! `RINGPOST_PROGRAMS=$(cargo run -p tests --bin programs)` spares each test asking cargo.

#![forbid(unsafe_code)]

use tests::programs::{Build, folder, ringbench, ringload, ringpost};

fn main() {
    for build in [Build::Plain, Build::FailPoints] {
        ringpost(build);
    }
    ringload();
    ringbench();
    println!("{}", folder().display());
}
