//! Time as the core sees it: instants of a monotonic clock, spans between them, and wall-clock stamps for headers.

use std::fmt;
use std::ops::{Add, Sub};

/// An instant of the driver's monotonic clock, in nanoseconds since a start that only the driver knows. In production
/// it is CLOCK_MONOTONIC itself, so ticks of processes on one machine compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Never: later than every instant.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// `span` later; `+` says the same where arithmetic needs no excuse.
    pub fn after(self, span: Span) -> Tick {
        Tick(self.0.saturating_add(span.0))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Tick) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Tick {
    type Output = Tick;
    fn add(self, span: Span) -> Tick {
        Tick(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Tick {
    type Output = Tick;
    fn sub(self, span: Span) -> Tick {
        Tick(self.0.saturating_sub(span.0))
    }
}

/// A length of time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub u64);

impl Span {
    /// Nothing.
    pub const ZERO: Span = Span(0);

    /// `count` microseconds.
    pub const fn micros(count: u64) -> Span {
        Span(count.saturating_mul(1_000))
    }
    /// `count` milliseconds.
    pub const fn millis(count: u64) -> Span {
        Span(count.saturating_mul(1_000_000))
    }
    /// `count` seconds.
    pub const fn seconds(count: u64) -> Span {
        Span(count.saturating_mul(1_000_000_000))
    }
    /// `count` minutes.
    pub const fn minutes(count: u64) -> Span {
        Span::seconds(count.saturating_mul(60))
    }
    /// `count` hours.
    pub const fn hours(count: u64) -> Span {
        Span::minutes(count.saturating_mul(60))
    }
    /// In whole microseconds, rounded down.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }
    /// In whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
    /// In seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{} ns", self.0),
            1_000..1_000_000 => write!(f, "{} µs", self.as_micros()),
            1_000_000..1_000_000_000 => write!(f, "{} ms", self.as_millis()),
            _ => write!(f, "{:.1} s", self.as_secs_f64()),
        }
    }
}

/// A stamp of the wall clock: microseconds since 1970-01-01 UTC. For headers and records only; no decision hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub i64);

impl Wall {
    /// How long after `earlier` this is; zero when it is not, because somebody set the clock back.
    pub fn since(self, earlier: Wall) -> Span {
        Span::micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}
