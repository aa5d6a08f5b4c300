//! Sets of a record's recipients, by their index in the envelope: one word for most messages, words aside for the rest.

use slab::Slab;

/// Walks the members of a set given as words of a bitmap, in ascending order.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    words: &'a [u64],
    left_out: [&'a [u64]; 2],
    at: usize,
    word: u64,
}

impl<'a> Members<'a> {
    /// The members of `words` that are in neither of the others.
    pub(super) fn new(words: &'a [u64], left_out: &'a [u64], also: &'a [u64]) -> Self {
        let mut members = Self { words, left_out: [left_out, also], at: 0, word: 0 };
        members.word = members.load(0);
        members
    }

    fn load(&self, at: usize) -> u64 {
        let word = |words: &[u64]| words.get(at).copied().unwrap_or(0);
        word(self.words) & !word(self.left_out[0]) & !word(self.left_out[1])
    }
}

impl Iterator for Members<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.word == 0 {
            if self.at + 1 >= self.words.len() {
                return None;
            }
            self.at += 1;
            self.word = self.load(self.at);
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some(self.at * 64 + bit)
    }
}

/// Whether `words` has no member.
pub(super) fn is_empty(words: &[u64]) -> bool {
    words.iter().all(|&word| word == 0)
}

/// Whether `index` is a member of `words`.
pub(super) fn contains(words: &[u64], index: usize) -> bool {
    words.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
}

/// Takes `index` out of `words`; whether it was in.
pub(super) fn take(words: &mut [u64], index: usize) -> bool {
    let was_in = contains(words, index);
    if was_in {
        words[index / 64] &= !(1 << (index % 64));
    }
    was_in
}

/// Bitmaps of more than one word, kept aside and used again.
#[derive(Debug, Default)]
pub(super) struct Wide {
    sets: Slab<Vec<u64>>,
    spare: Vec<Vec<u64>>,
}

/// Emptied bitmaps that are kept for reuse.
const SPARE_SETS_MAX: usize = 256;

impl Wide {
    /// Keeps a copy of `words`.
    pub fn insert(&mut self, words: &[u64]) -> u32 {
        let mut set = self.spare.pop().unwrap_or_default();
        set.clear();
        set.extend_from_slice(words);
        u32::try_from(self.sets.insert(set)).expect("sets are named by 32 bits")
    }

    /// Forgets a set.
    pub fn remove(&mut self, index: u32) {
        let set = self.sets.remove(index as usize);
        if self.spare.len() < SPARE_SETS_MAX {
            self.spare.push(set);
        }
    }

    /// The set's words.
    pub fn words(&self, index: u32) -> &[u64] {
        &self.sets[index as usize]
    }

    /// The set's words, to change.
    pub fn words_mut(&mut self, index: u32) -> &mut [u64] {
        &mut self.sets[index as usize]
    }

    /// Adds `member`, growing the set as needed.
    pub fn add(&mut self, index: u32, member: usize) {
        let set = &mut self.sets[index as usize];
        if set.len() <= member / 64 {
            set.resize(member / 64 + 1, 0);
        }
        set[member / 64] |= 1 << (member % 64);
    }

    /// Sets kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.sets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn words(members: &BTreeSet<usize>) -> Vec<u64> {
        let mut words = vec![0; members.last().map_or(1, |last| last / 64 + 1)];
        members.iter().for_each(|&member| words[member / 64] |= 1 << (member % 64));
        words
    }

    proptest! {
        #[test]
        fn a_bitmap_equals_a_plain_set(
            members in prop::collection::btree_set(0usize..300, 0..100),
            left_out in prop::collection::btree_set(0usize..300, 0..100),
            also in prop::collection::btree_set(0usize..300, 0..100),
        ) {
            let (bits, out, more) = (words(&members), words(&left_out), words(&also));
            let seen: Vec<usize> = Members::new(&bits, &out, &more).collect();
            let naive: Vec<usize> = members.iter().copied().filter(|m| !left_out.contains(m) && !also.contains(m)).collect();
            prop_assert_eq!(seen, naive);
            prop_assert_eq!(is_empty(&bits), members.is_empty());
            let mut rest = bits.clone();
            for index in 0..310 {
                prop_assert_eq!(contains(&bits, index), members.contains(&index));
                prop_assert_eq!(take(&mut rest, index), members.contains(&index));
            }
            prop_assert!(is_empty(&rest));
        }
    }

    #[test]
    fn wide_sets_are_used_again() {
        let mut wide = Wide::default();
        let first = wide.insert(&[1, 2, 3]);
        wide.remove(first);
        let second = wide.insert(&[9]);
        assert_eq!((wide.words(second), wide.len()), (&[9][..], 1));
        wide.add(second, 130);
        assert_eq!(wide.words(second), &[9, 0, 4]);
    }
}
