//! The ladder of waits: how long a queue whose hosts all failed, or a message that was deferred, waits for its next try.

use crate::wire::Span;
use smallvec::SmallVec;

/// Waits by the number of failures so far: each step holds for a count of them, the last wait for all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    steps: SmallVec<[(u16, Span); 4]>,
    then: Span,
}

impl Ladder {
    /// `steps` in order, each (failures it serves, wait); behind them always `then`.
    pub fn new(steps: &[(u16, Span)], then: Span) -> Self {
        Self { steps: SmallVec::from_slice(steps), then }
    }

    /// Each step: failures it serves, and the wait after them.
    pub fn steps(&self) -> &[(u16, Span)] {
        &self.steps
    }

    /// The wait behind all steps.
    pub fn last(&self) -> Span {
        self.then
    }

    /// The wait after the `failures`-th failure in a row, counted from 1.
    pub fn wait(&self, failures: u16) -> Span {
        let mut left = failures.saturating_sub(1);
        for &(count, span) in &self.steps {
            match left.checked_sub(count) {
                None => return span,
                Some(rest) => left = rest,
            }
        }
        self.then
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_is_climbed_step_by_step() {
        let ladder = Ladder::new(&[(4, Span::minutes(1)), (6, Span::minutes(5))], Span::minutes(10));
        let minutes: Vec<u64> = (1..=13).map(|failures| ladder.wait(failures).as_micros() / 60_000_000).collect();
        assert_eq!(minutes, [1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 10, 10, 10]);
        assert_eq!(ladder.wait(u16::MAX), Span::minutes(10));
        assert_eq!(Ladder::new(&[], Span::seconds(1)).wait(1), Span::seconds(1));
        let skipped = Ladder::new(&[(0, Span::minutes(1))], Span::minutes(9));
        assert_eq!(skipped.wait(1), Span::minutes(9), "a step of no failures is skipped");
    }
}
