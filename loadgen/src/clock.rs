//! Clocks of the machine, for the parts that run outside a driver.

use engine::wire::{Span, Tick};
use rustix::time::{ClockId, Timespec, clock_gettime};

fn nanos(time: Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.unsigned_abs())
}

/// CLOCK_MONOTONIC now: the same clock as every driver's ticks on this machine.
pub fn monotonic() -> Tick {
    Tick(nanos(clock_gettime(ClockId::Monotonic)))
}

/// Wall-clock time minus monotonic time, in nanoseconds: moves only when the wall clock is set or slewed.
pub fn wall_offset_ns() -> i128 {
    i128::from(nanos(clock_gettime(ClockId::Realtime))) - i128::from(monotonic().0)
}

/// User and system time of the calling thread.
pub fn thread_cpu() -> Span {
    Span(nanos(clock_gettime(ClockId::ThreadCPUTime)))
}

/// User and system time of the whole process.
pub fn process_cpu() -> Span {
    Span(nanos(clock_gettime(ClockId::ProcessCPUTime)))
}

/// Starts a thread that nobody waits for.
pub fn thread_named(name: &str, body: impl FnOnce() + Send + 'static) {
    // Without a thread the service it offers is missing, and whoever calls it is told so by the connection.
    let _ = std::thread::Builder::new().name(name.to_owned()).spawn(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_forward() {
        let (before, cpu) = (monotonic(), thread_cpu());
        let mut sum = 0u64;
        while monotonic().since(before) < Span::millis(2) {
            sum = sum.wrapping_add(1);
        }
        assert!(sum > 0 && thread_cpu() > cpu && process_cpu() >= thread_cpu());
    }
}
