//! The lock-free structures of `engine`, from the very same file, with nothing around them: loom tries every interleaving
//! of their models (`#[cfg(all(test, loom))]` beside the code). That file names nothing of its crate.

#[path = "../../../engine/src/sys/lockfree.rs"]
pub mod lockfree;
