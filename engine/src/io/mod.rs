//! The only module that knows rings, files and sockets. The core never imports it: a shard is given a [`driver::Driver`].

#![allow(clippy::disallowed_methods)] // this is where clocks are read

pub(crate) mod base;
pub mod choice;
pub mod driver;
pub mod epoll;
#[cfg(any(test, feature = "faults"))]
pub mod faulty;
pub mod launch;
pub mod probe;
pub mod tokio_uring;
pub mod uring;

use crate::wire::{Tick, Wall};

/// CLOCK_MONOTONIC, so that ticks of processes on one machine compare.
pub fn monotonic() -> Tick {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Tick(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0)))
}

/// The wall clock.
pub fn wall() -> Wall {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Wall(now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000))
}

/// Octets of the operating system's generator.
///
/// # Panics
/// When the system has none: nothing that needs secrets can run then.
#[expect(clippy::panic, reason = "nothing that needs secrets can go on")]
pub fn random(into: &mut [u8]) {
    let mut filled = 0;
    while filled < into.len() {
        match rustix::rand::getrandom(&mut into[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(octets) => filled += octets,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("getrandom failed: {errno}"),
        }
    }
}
