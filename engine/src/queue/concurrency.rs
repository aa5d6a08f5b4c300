//! How many connections a destination bears: grows with its answers, shrinks with its delay and when it says 421.
//!
//! ```text
//! answer, and more was wanted:   below the threshold  limit += 1          (doubles in a round of answers)
//!                                above it             limit += 1 / limit  (one more a round)
//! 421, or a refused extra one:   threshold = limit = limit / 2
//! delay > 4 x its floor + 50 ms: threshold = limit = limit x 7/8
//! ```
//! It shrinks at most once per round of answers, so that one event that shows on many connections counts once.

use crate::wire::{Span, Tick};

/// Fixed point: 256 are one connection.
const ONE: u32 = 256;

/// The shortest round.
const ROUND_MIN: Span = Span::millis(100);

/// The floor of the delay is the least of this period and the one before.
const FLOOR_PERIOD: Span = Span::seconds(10);

/// A delay that is never called growth: scheduling and group commits on a healthy machine.
const DELAY_TOLERANCE: Span = Span::millis(50);

/// The adaptive limit of one destination.
#[derive(Debug)]
pub(super) struct Concurrency {
    limit: u32,
    threshold: u32,
    cap: u32,
    start: u32,
    pressed: bool,
    round_ends: Tick,
    delay_us: u64,
    floor_us: [u64; 2],
    floor_began: Tick,
}

impl Concurrency {
    /// Begins with `start` connections and never allows more than `cap`, nor fewer than one.
    pub fn new(start: u32, cap: u32) -> Self {
        let cap = cap.clamp(1, u32::MAX / ONE);
        let start = start.clamp(1, cap);
        Self {
            limit: start * ONE,
            threshold: cap * ONE,
            cap: cap * ONE,
            start: start * ONE,
            pressed: false,
            round_ends: Tick(0),
            delay_us: 0,
            floor_us: [u64::MAX; 2],
            floor_began: Tick(0),
        }
    }

    /// Connections allowed now.
    pub fn allowed(&self) -> u32 {
        self.limit / ONE
    }

    /// Never allows more than `cap`, nor fewer than one.
    pub fn cap_at(&mut self, cap: u32) {
        let before = std::mem::replace(&mut self.cap, cap.clamp(1, u32::MAX / ONE) * ONE);
        if self.threshold == before {
            self.threshold = self.cap;
        }
        self.start = self.start.min(self.cap);
        self.limit = self.limit.min(self.cap);
        self.threshold = self.threshold.min(self.cap);
    }

    /// More were wanted than allowed.
    pub fn press(&mut self) {
        self.pressed = true;
    }

    /// The destination answered a message after `delay`. Whether the limit grew by a connection.
    pub fn on_answer(&mut self, delay: Span, now: Tick) -> bool {
        let sample = delay.as_micros();
        self.delay_us = if self.delay_us == 0 { sample } else { (self.delay_us * 7 + sample) / 8 };
        self.note_floor(sample, now);
        let floor = self.floor_us[0].min(self.floor_us[1]);
        let tolerance = DELAY_TOLERANCE.as_micros();
        if self.delay_us > floor.saturating_mul(4).saturating_add(tolerance) {
            self.shrink(self.limit / 8 * 7, now);
            return false;
        }
        let steady = self.delay_us <= floor.saturating_mul(2).saturating_add(tolerance);
        if !self.pressed || !steady {
            return false;
        }
        self.pressed = false;
        let before = self.allowed();
        let step = if self.limit < self.threshold { ONE } else { ONE * ONE / self.limit.max(ONE) };
        self.limit = self.limit.saturating_add(step.max(1)).min(self.cap);
        self.allowed() > before
    }

    /// The destination said 421, or refused a further connection while others stand.
    pub fn on_push_back(&mut self, now: Tick) {
        self.shrink(self.limit / 2, now);
    }

    /// The destination returns from the dead: as if new.
    pub fn restart(&mut self) {
        *self = Concurrency::new(self.start / ONE, self.cap / ONE);
        self.limit = self.limit.min(2 * ONE);
    }

    fn shrink(&mut self, to: u32, now: Tick) {
        if now < self.round_ends {
            return;
        }
        self.limit = to.max(ONE);
        self.threshold = self.limit;
        self.pressed = false;
        self.round_ends = now + ROUND_MIN.max(Span::micros(self.delay_us * 2));
    }

    fn note_floor(&mut self, sample: u64, now: Tick) {
        if now.since(self.floor_began) >= FLOOR_PERIOD {
            self.floor_us = [sample, self.floor_us[0]];
            self.floor_began = now;
        }
        self.floor_us[0] = self.floor_us[0].min(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Tick {
        Tick(0) + Span::millis(ms)
    }

    fn answers(limit: &mut Concurrency, count: u32, delay: Span, from: &mut u64) {
        for _ in 0..count {
            *from += 10;
            limit.press();
            limit.on_answer(delay, at(*from));
        }
    }

    #[test]
    fn it_grows_with_answers_up_to_the_cap_and_only_when_more_is_wanted() {
        let (mut limit, mut now) = (Concurrency::new(2, 20), 0);
        limit.on_answer(Span::millis(1), at(1));
        assert_eq!(limit.allowed(), 2, "nothing more was wanted");
        answers(&mut limit, 5, Span::millis(1), &mut now);
        assert_eq!(limit.allowed(), 7);
        answers(&mut limit, 100, Span::millis(1), &mut now);
        assert_eq!(limit.allowed(), 20);
    }

    #[test]
    fn f_064_421_halves_it_once_a_round_and_growth_is_slow_afterwards() {
        let (mut limit, mut now) = (Concurrency::new(16, 16), 1000);
        limit.on_push_back(at(now));
        limit.on_push_back(at(now));
        assert_eq!(limit.allowed(), 8);
        answers(&mut limit, 4, Span::millis(1), &mut now);
        assert_eq!(limit.allowed(), 8, "one more needs a whole round of answers");
        answers(&mut limit, 6, Span::millis(1), &mut now);
        assert_eq!(limit.allowed(), 9);
        for _ in 0..20 {
            now += 1000;
            limit.on_push_back(at(now));
        }
        assert_eq!(limit.allowed(), 1);
    }

    #[test]
    fn growth_of_the_delay_shrinks_it_and_noise_does_not() {
        let (mut limit, mut now) = (Concurrency::new(16, 16), 0);
        answers(&mut limit, 50, Span::millis(5), &mut now);
        answers(&mut limit, 50, Span::millis(40), &mut now);
        assert_eq!(limit.allowed(), 16, "within tolerance");
        answers(&mut limit, 200, Span::millis(400), &mut now);
        assert!(limit.allowed() < 12, "{}", limit.allowed());
        // What lasts becomes the floor: the limit settles instead of falling for ever.
        answers(&mut limit, 3000, Span::millis(400), &mut now);
        assert!(limit.allowed() > 1);
    }
}
