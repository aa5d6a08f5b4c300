//! Which records of one segment still have unsettled recipients.
//!
//! Eight octets per live record, plus a bitmap for each that is settled in part. The set only ever shrinks but for records
//! appended to an open segment, and all its changes commute: recovery may apply settles and marks in any order, and twice.

use super::batch::ALL_RECIPIENTS;
use super::bytes::Reader;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Settled recipients of one record, a bit each.
type Bits = SmallVec<[u64; 1]>;

/// Below so many entries dead ones are not worth removing.
const COMPACT_MIN: usize = 256;

/// What weights are counted in: with 16 bits, up to 64 MiB. What weighs more is never worth to be moved for its space.
const WEIGHT_BYTES: u64 = 1024;
const TOO_HEAVY: u64 = 1 << 40;

fn weight_of(octets: u64) -> u16 {
    u16::try_from(octets.div_ceil(WEIGHT_BYTES)).unwrap_or(u16::MAX)
}

fn counted(weight: u16) -> u64 {
    if weight == u16::MAX { TOO_HEAVY } else { weight.into() }
}

/// The live records of a segment, by their place (units of 16 octets), ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LiveSet {
    places: Vec<u32>,
    /// Unsettled recipients of the record at the same index; 0 = nothing is.
    left: Vec<u16>,
    /// What moving each would write, in [`WEIGHT_BYTES`]; 0 until it is known.
    weights: Vec<u16>,
    /// Their sum over what is live.
    weight: u64,
    /// Records settled in part.
    partly: BTreeMap<u32, Bits>,
    live: usize,
}

/// What settling changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing: the record or the recipient was settled before, or never existed.
    Before,
    /// The record has other recipients left.
    Partly,
    /// That was the last one: the record is dead space.
    Wholly,
}

impl LiveSet {
    /// Records with unsettled recipients.
    pub(super) fn count(&self) -> usize {
        self.live
    }

    /// Octets that moving all of them would write, as far as they were told.
    pub(super) fn octets(&self) -> u64 {
        self.weight.saturating_mul(WEIGHT_BYTES)
    }

    /// The same for the record at `place`; 0 when it is not live.
    pub(super) fn octets_of(&self, place: u32) -> u64 {
        let index = self.index(place).filter(|&index| self.left.get(index).is_some_and(|&left| left > 0));
        let weight = index.and_then(|index| self.weights.get(index));
        weight.map_or(0, |&weight| counted(weight).saturating_mul(WEIGHT_BYTES))
    }

    /// Moving the record at `place`, if it is live, would write so many octets.
    pub(super) fn weigh(&mut self, place: u32, octets: u64) {
        let Some(index) = self.index(place) else { return };
        let is_live = self.left.get(index).is_some_and(|&left| left > 0);
        let Some(weight) = self.weights.get_mut(index).filter(|_| is_live) else { return };
        let now = weight_of(octets);
        let before = std::mem::replace(weight, now);
        self.weight = self.weight.saturating_sub(counted(before)).saturating_add(counted(now));
    }

    /// Adds a record behind all others; what it weighs is said by [`LiveSet::weigh`].
    ///
    /// # Panics
    /// When it does not stand behind all others, or has no recipient.
    #[inline]
    pub(super) fn push(&mut self, place: u32, recipients: u16) {
        assert!(self.places.last().is_none_or(|&last| last < place), "records are appended in order");
        assert!(recipients > 0, "a record has recipients");
        self.places.push(place);
        self.left.push(recipients);
        self.weights.push(0);
        self.live = self.live.saturating_add(1);
    }

    /// Adds a record behind all others that moving would cost so many octets.
    ///
    /// # Panics
    /// As [`LiveSet::push`].
    #[inline]
    pub(super) fn push_weighing(&mut self, place: u32, recipients: u16, octets: u64) {
        self.push(place, recipients);
        let now = weight_of(octets);
        if let Some(weight) = self.weights.last_mut() {
            *weight = now;
            self.weight = self.weight.saturating_add(counted(now));
        }
    }

    fn index(&self, place: u32) -> Option<usize> {
        self.places.binary_search(&place).ok()
    }

    /// Whether `place` lies behind all records.
    pub(super) fn is_next(&self, place: u32) -> bool {
        self.places.last().is_none_or(|&last| last < place)
    }

    /// Unsettled recipients of the record at `place`; 0 when it is not live.
    pub(super) fn left(&self, place: u32) -> u16 {
        self.index(place).and_then(|index| self.left.get(index).copied()).unwrap_or(0)
    }

    /// Whether that recipient of the record at `place` is settled, as far as a live record says.
    pub(super) fn is_settled(&self, place: u32, recipient: u16) -> bool {
        self.left(place) == 0 || self.partly.get(&place).is_some_and(|bits| bit(bits, recipient))
    }

    /// Settles a recipient, or all.
    pub(super) fn settle(&mut self, place: u32, recipient: u16) -> Settled {
        let Some(index) = self.index(place) else { return Settled::Before };
        let Some(left) = self.left.get_mut(index).filter(|left| **left > 0) else { return Settled::Before };
        if recipient == ALL_RECIPIENTS {
            *left = 0;
        } else {
            let settled = self.partly.get(&place).map_or(0, |bits| bits.iter().map(|word| word.count_ones()).sum());
            let recipients = u32::from(*left).saturating_add(settled);
            let known = u32::from(recipient) < recipients;
            // A single recipient needs no bitmap.
            if !known || recipients > 1 && !set_bit(self.partly.entry(place).or_default(), recipient) {
                return Settled::Before;
            }
            *left = left.saturating_sub(1);
        }
        if *left > 0 {
            return Settled::Partly;
        }
        self.partly.remove(&place);
        self.weight = self.weight.saturating_sub(self.weights.get(index).copied().map_or(0, counted));
        self.live = self.live.saturating_sub(1);
        self.compact();
        Settled::Wholly
    }

    fn compact(&mut self) {
        if self.places.len() >= COMPACT_MIN && self.live < self.places.len() / 2 {
            self.drop_dead();
        }
    }

    fn drop_dead(&mut self) {
        let mut left = self.left.iter();
        self.places.retain(|_| left.next().is_some_and(|&left| left > 0));
        let mut left = self.left.iter();
        self.weights.retain(|_| left.next().is_some_and(|&left| left > 0));
        self.left.retain(|&left| left > 0);
    }

    /// Gives back memory that no longer serves; for a segment that takes no more records.
    pub(super) fn shrink(&mut self) {
        self.drop_dead();
        // Copies: an allocator may leave a block that shrinks where it is, with twice the room it needs.
        self.places = self.places.as_slice().into();
        self.left = self.left.as_slice().into();
        self.weights = self.weights.as_slice().into();
    }

    /// The live records: place and unsettled recipients.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u16)> + '_ {
        self.places.iter().copied().zip(self.left.iter().copied()).filter(|&(_, left)| left > 0)
    }

    /// The settled recipients of a record that is settled in part.
    pub(super) fn settled(&self, place: u32) -> impl Iterator<Item = u16> + '_ {
        let words = self.partly.get(&place).map(|bits| bits.as_slice()).unwrap_or_default();
        let recipients = u16::try_from(words.len().saturating_mul(64)).unwrap_or(u16::MAX);
        (0..recipients).filter(move |&recipient| bit(words, recipient))
    }

    /// Keeps what is live in both (a mark says that nothing else is).
    pub(super) fn intersect(&mut self, mark: &LiveSet) {
        let mine: Vec<u32> = self.iter().map(|(place, _)| place).collect();
        for place in mine {
            if mark.left(place) == 0 {
                self.settle(place, ALL_RECIPIENTS);
            } else {
                for recipient in mark.settled(place) {
                    self.settle(place, recipient);
                }
            }
        }
    }

    /// Octets of the encoded form, at most.
    pub(super) fn encoded_bytes(&self) -> usize {
        let bits: usize = self.partly.values().map(|bits| bits.len().saturating_mul(8)).sum();
        bits.saturating_add(self.live.saturating_mul(8))
    }

    /// Appends the encoded form, without the weights: for each live record its place (4), unsettled recipients (2), words of the bitmap of
    /// settled ones (2), and the words (8 each).
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        for (place, left) in self.iter() {
            let words = self.partly.get(&place).map(|bits| bits.as_slice()).unwrap_or_default();
            into.extend_from_slice(&place.to_le_bytes());
            into.extend_from_slice(&left.to_le_bytes());
            into.extend_from_slice(&u16::try_from(words.len()).unwrap_or(0).to_le_bytes());
            for word in words {
                into.extend_from_slice(&word.to_le_bytes());
            }
        }
    }

    /// Reads the encoded form; `None` when it is none. Allocates no more than `bytes` justify.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut set = Self::default();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let (place, left, words) = (reader.u32()?, reader.u16()?, reader.u16()?);
            if left == 0 || set.places.last().is_some_and(|&last| last >= place) {
                return None;
            }
            set.push(place, left);
            if words > 0 {
                let bits = (0..words).map(|_| reader.u64()).collect::<Option<Bits>>()?;
                set.partly.insert(place, bits);
            }
        }
        Some(set)
    }
}

fn bit(words: &[u64], index: u16) -> bool {
    words.get(usize::from(index / 64)).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

/// Sets a bit; false when it was set.
fn set_bit(bits: &mut Bits, index: u16) -> bool {
    let word = usize::from(index / 64);
    if bits.len() <= word {
        bits.resize(word.saturating_add(1), 0);
    }
    let mask = 1 << (index % 64);
    match bits.get_mut(word) {
        Some(word) if *word & mask == 0 => {
            *word |= mask;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_live_weighs_what_moving_it_would_write() {
        let mut set = LiveSet::default();
        (0..400).for_each(|place| set.push(place, 1 + (place % 2) as u16));
        assert_eq!(set.octets(), 0, "nobody said");
        (0..400).for_each(|place| set.weigh(place, 5000));
        set.weigh(7, 1 << 27);
        set.weigh(400, 5000);
        assert_eq!((set.octets_of(6), set.octets_of(7), set.octets_of(400)), (5 << 10, 1 << 50, 0));
        assert_eq!(set.octets(), 399 * (5 << 10) + (1 << 50));
        for place in 2..400 {
            assert_eq!(set.settle(place, ALL_RECIPIENTS), Settled::Wholly);
        }
        set.weigh(2, 5000);
        assert_eq!((set.octets(), set.octets_of(7), set.octets_of(1)), (10 << 10, 0, 5 << 10));
        set.shrink();
        assert_eq!((set.octets(), set.octets_of(1), set.count()), (10 << 10, 5 << 10, 2));
    }

    #[test]
    fn a_record_dies_with_its_last_recipient_and_only_once() {
        let mut set = LiveSet::default();
        set.push(8, 3);
        set.push(16, 1);
        assert_eq!(set.settle(8, 1), Settled::Partly);
        assert_eq!(set.settle(8, 1), Settled::Before);
        assert_eq!(set.settle(8, 3), Settled::Before, "there is no fourth recipient");
        assert_eq!(set.settle(8, 0), Settled::Partly);
        assert_eq!(set.settle(8, 2), Settled::Wholly);
        assert_eq!(set.settle(8, 2), Settled::Before);
        assert_eq!(set.settle(16, 0), Settled::Wholly);
        assert_eq!(set.settle(12, 0), Settled::Before);
        assert_eq!(set.count(), 0);
    }

    /// Recipients settled, as a naive set of pairs would say.
    fn naive(recipients: &[u16], settles: &[(usize, u16)]) -> BTreeSet<(usize, u16)> {
        let mut left: BTreeSet<_> =
            (0..recipients.len()).flat_map(|i| (0..recipients[i]).map(move |r| (i, r))).collect();
        for &(record, recipient) in settles {
            left.retain(|&(i, r)| i != record || recipient != ALL_RECIPIENTS && r != recipient);
        }
        left
    }

    fn set(recipients: &[u16]) -> LiveSet {
        let mut set = LiveSet::default();
        recipients.iter().enumerate().for_each(|(i, &count)| set.push(i as u32 * 10, count));
        set
    }

    fn pairs(set: &LiveSet, recipients: &[u16]) -> BTreeSet<(usize, u16)> {
        (0..recipients.len())
            .flat_map(|i| (0..recipients[i]).map(move |r| (i, r)))
            .filter(|&(i, r)| !set.is_settled(i as u32 * 10, r))
            .collect()
    }

    proptest! {
        #[test]
        fn settles_equal_a_set_of_pairs_and_marks_carry_them(
            recipients in prop::collection::vec(prop_oneof![Just(1u16), 1u16..200], 1..400),
            settles in prop::collection::vec((0usize..400, prop_oneof![0u16..4, 0u16..200, Just(ALL_RECIPIENTS)]), 0..600),
            split in 0usize..600,
        ) {
            let mut whole = set(&recipients);
            settles.iter().for_each(|&(record, recipient)| { whole.settle(record as u32 * 10, recipient); });
            let expected = naive(&recipients, &settles);
            prop_assert_eq!(&pairs(&whole, &recipients), &expected);
            prop_assert_eq!(whole.count(), expected.iter().map(|pair| pair.0).collect::<BTreeSet<_>>().len());

            // A mark taken half-way, applied to a set that never saw those settles, and the rest applied after it.
            let (early, late) = settles.split_at(split.min(settles.len()));
            let mut marked = set(&recipients);
            early.iter().for_each(|&(record, recipient)| { marked.settle(record as u32 * 10, recipient); });
            let mut encoded = Vec::new();
            marked.encode(&mut encoded);
            prop_assert_eq!(encoded.len(), marked.encoded_bytes());
            let mark = LiveSet::decode(&encoded).expect("own encoding");
            let mut fresh = set(&recipients);
            late.iter().for_each(|&(record, recipient)| { fresh.settle(record as u32 * 10, recipient); });
            fresh.intersect(&mark);
            prop_assert_eq!(&pairs(&fresh, &recipients), &expected);
        }

        #[test]
        fn f_017_any_octets_decode_or_do_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(set) = LiveSet::decode(&bytes) {
                prop_assert!(set.count() * 8 <= bytes.len());
            }
        }
    }
}
