//! All chance of a simulated world: one stream of numbers from one seed (SplitMix64, Steele, Lea and Flood 2014).

use crate::wire::Span;
use std::cell::Cell;
use std::ops::Range;

/// Draws numbers. The same seed and the same questions give the same answers, on every machine.
#[derive(Debug)]
pub struct Chance(Cell<u64>);

impl Chance {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed ^ 0x5bd1_e995_9d1b_3a7f))
    }

    /// Any number.
    pub fn any(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&self, bound: u64) -> u64 {
        // The bias is below 2^-32 for every bound that is drawn here.
        self.any().checked_rem(bound).unwrap_or(0)
    }

    /// An index below `bound`.
    pub fn index(&self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below an index")
    }

    /// A number of this range; its start when it is empty.
    pub fn within(&self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// A time of this range.
    pub fn span(&self, range: Range<Span>) -> Span {
        Span(self.within(range.start.0..range.end.0))
    }

    /// Once in `times`, in the long run; never for 0.
    pub fn once_in(&self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// When there is none.
    pub fn one_of<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// Fills `into`.
    pub fn fill(&self, into: &mut [u8]) {
        for piece in into.chunks_mut(8) {
            piece.copy_from_slice(&self.any().to_le_bytes()[..piece.len()]);
        }
    }

    /// A stream of its own for somebody whose questions are not to change the others' answers.
    pub fn branch(&self) -> Chance {
        Chance::new(self.any())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_stream_and_bounds_hold() {
        let (one, same, other) = (Chance::new(7), Chance::new(7), Chance::new(8));
        let draw = |chance: &Chance| (0..100).map(|_| chance.any()).collect::<Vec<_>>();
        let numbers = draw(&one);
        assert_eq!(numbers, draw(&same));
        assert_ne!(numbers, draw(&other));
        for _ in 0..1000 {
            assert!(one.below(3) < 3 && (5..9).contains(&one.within(5..9)));
        }
        assert_eq!((one.below(0), one.within(4..4), one.once_in(0)), (0, 4, false));
        assert!((0..1000).filter(|_| one.once_in(4)).count() > 150);
    }
}
