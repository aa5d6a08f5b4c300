//! What is seen of a run from outside: processes through /proc, the engine's own counters, the host, the clock.

pub mod counters;
pub mod host;
pub mod process;

use engine::wire::Tick;
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC now: the clock of every process's ticks on this machine.
pub fn monotonic() -> Tick {
    let now = clock_gettime(ClockId::Monotonic);
    Tick(now.tv_sec.unsigned_abs().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.unsigned_abs()))
}
