//! What is seen of a run from outside: processes through /proc, the engine's own counters, the host, the clock.

pub mod counters;
pub mod host;
pub mod process;

use engine::wire::Tick;
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC now: the clock of every process's ticks on this machine.
pub fn monotonic() -> Tick {
    Tick(nanoseconds(ClockId::Monotonic))
}

/// How far the wall clock is ahead of the monotonic one, in nanoseconds.
pub fn wall_ahead_ns() -> i128 {
    i128::from(nanoseconds(ClockId::Realtime)) - i128::from(nanoseconds(ClockId::Monotonic))
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.unsigned_abs().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.unsigned_abs())
}
