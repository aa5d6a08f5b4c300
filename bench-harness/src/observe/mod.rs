//! What is seen of a run from outside: processes through /proc, the engine's own counters, the host.

pub mod counters;
pub mod host;
pub mod process;
