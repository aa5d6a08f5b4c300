//! `ringbench`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(not(feature = "count-alloc"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "count-alloc")]
#[global_allocator]
static ALLOCATOR: engine::sys::alloc::Counting<mimalloc::MiMalloc> = engine::sys::alloc::Counting(mimalloc::MiMalloc);

fn main() -> ExitCode {
    bench_harness::app::main(std::env::args_os())
}
