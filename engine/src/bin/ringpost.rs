//! `ringpost`: the transport engine. Everything is in `engine::app`; here stands only what a whole process has one of.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(not(feature = "count-alloc"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "count-alloc")]
#[global_allocator]
static ALLOCATOR: engine::sys::alloc::Counting<mimalloc::MiMalloc> = engine::sys::alloc::Counting(mimalloc::MiMalloc);

fn main() -> ExitCode {
    engine::app::main(std::env::args_os())
}
