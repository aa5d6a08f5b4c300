//! Names of things on disk: records, segments, files, and one message's claim on a group commit.

use std::fmt;

/// Octets that a record's place in its segment is counted in: every record starts at a multiple.
pub const RECORD_ALIGN: usize = 16;

/// Bits of a [`RecordId`] that hold the place in the segment.
const PLACE_BITS: u32 = 24;

/// The largest segment whose every record can be named: 2^24 places of 16 octets.
pub const SEGMENT_BYTES_LIMIT: u64 = (1 << PLACE_BITS) * RECORD_ALIGN as u64;

/// Segment numbers are below this (40 bits of a [`RecordId`]).
const NUMBER_LIMIT: u64 = 1 << (64 - PLACE_BITS);

/// One life of a segment file, server-wide and never used again: a recycled file gets a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(u64);

impl SegmentNumber {
    /// The segment `number`; `None` for 0 and for what does not fit into a [`RecordId`].
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 || number >= NUMBER_LIMIT { None } else { Some(Self(number)) }
    }

    /// The first of all.
    pub(super) const FIRST: Self = Self(1);

    /// As a plain number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A record's name, server-wide: its segment's number and its place there. Ordered oldest first within a shard's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(u64);

impl RecordId {
    /// The record at `offset` octets in segment `number`; `None` unless the offset is a record's place.
    pub fn new(number: SegmentNumber, offset: u64) -> Option<Self> {
        let place = offset.checked_div(RECORD_ALIGN as u64)?;
        let valid = offset.is_multiple_of(RECORD_ALIGN as u64) && place < 1 << PLACE_BITS;
        valid.then_some(Self(number.0 << PLACE_BITS | place))
    }

    /// The record that is put at `offset`.
    ///
    /// # Panics
    /// When the offset is no record's place, our mistake: batches place records, and segments are below
    /// [`SEGMENT_BYTES_LIMIT`].
    pub(super) fn at(number: SegmentNumber, offset: u64) -> Self {
        let Some(id) = Self::new(number, offset) else { unreachable!("a record stands at a multiple, in its segment") };
        id
    }

    /// From what [`RecordId::raw`] gave; `None` when no segment has such a number.
    pub const fn from_raw(raw: u64) -> Option<Self> {
        if raw >> PLACE_BITS == 0 { None } else { Some(Self(raw)) }
    }

    /// As a plain number, never 0.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The segment's number.
    pub const fn number(self) -> SegmentNumber {
        SegmentNumber(self.0 >> PLACE_BITS)
    }

    /// Octets from the start of the segment.
    pub const fn offset(self) -> u64 {
        (self.place() as u64).saturating_mul(RECORD_ALIGN as u64)
    }

    /// The offset in units of [`RECORD_ALIGN`].
    pub(super) const fn place(self) -> u32 {
        (self.0 & ((1 << PLACE_BITS) - 1)) as u32
    }

    /// The record at `place` units in `number`.
    pub(super) const fn at_place(number: SegmentNumber, place: u32) -> Self {
        Self(number.0 << PLACE_BITS | (place as u64 & ((1 << PLACE_BITS) - 1)))
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A segment's file, as the shell names it on disk; stays while lives pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A claim on one group commit: everything with the same ticket shares one write. Grows by one per batch of this log in
/// this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// 16 octets from the system's generator (S-037): what makes one life of a segment unlike every other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What every checksum of one segment life starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Seed {
    pub(super) fn of(secret: Secret) -> Self {
        Self(crc_fast::crc32_iscsi(&secret.0))
    }

    /// CRC-32C of `parts`, one behind the other.
    pub(super) fn crc(self, parts: &[&[u8]]) -> u32 {
        let mut running = self.running();
        parts.iter().for_each(|part| running.update(part));
        running.finish()
    }

    /// A checksum to be fed piece by piece.
    pub(super) fn running(self) -> Running {
        Running(crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, u64::from(self.0)))
    }
}

/// A CRC-32C under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running(crc_fast::Digest);

impl Running {
    /// A plain one, seeded by nothing.
    pub(super) fn plain() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> u32 {
        // The upper half of a 32-bit checksum is zero.
        self.0.finalize() as u32
    }
}

/// Numbers for new segments: every shard takes its own residue, so that none asks another.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    /// The next to be given.
    pub next: u64,
    /// How many shards share the counting.
    pub stride: u64,
}

impl Numbers {
    /// Those of `shard` among `shards`, all from `base` on: one above every number ever seen (`Recovered::next_number`).
    pub fn of_shard(base: u64, shard: usize, shards: usize) -> Self {
        Self { next: base.max(1).saturating_add(shard as u64), stride: shards.max(1) as u64 }
    }

    /// Takes the next one.
    ///
    /// # Panics
    /// After 2^40 segments: at one a second, in 34 000 years.
    pub(super) fn take(&mut self) -> SegmentNumber {
        let Some(number) = SegmentNumber::new(self.next) else { unreachable!("segment numbers last") };
        self.next = self.next.saturating_add(self.stride);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_id_names_segment_and_offset() {
        let number = SegmentNumber::new(0x12_3456).expect("valid");
        let id = RecordId::new(number, 4096 + 128).expect("aligned");
        assert_eq!((id.number(), id.offset()), (number, 4096 + 128));
        assert_eq!(RecordId::from_raw(id.raw()), Some(id));
        assert_eq!(RecordId::new(number, 4096 + 8), None);
        assert_eq!(RecordId::new(number, SEGMENT_BYTES_LIMIT), None);
        assert_eq!(RecordId::from_raw(77), None);
        assert_eq!(SegmentNumber::new(0), None);
        assert_eq!(SegmentNumber::new(1 << 40), None);
    }

    #[test]
    fn f_020_the_same_octets_have_another_checksum_in_another_life() {
        let (one, two) = (Seed::of(Secret([1; 16])), Seed::of(Secret([2; 16])));
        assert_ne!(one.crc(&[b"record"]), two.crc(&[b"record"]));
        assert_eq!(one.crc(&[b"rec", b"ord"]), one.crc(&[b"record"]));
    }

    #[test]
    fn shards_never_share_a_segment_number() {
        let mut taken: Vec<_> = (0..3)
            .flat_map(|shard| {
                let mut numbers = Numbers::of_shard(7, shard, 3);
                (0..5).map(move |_| numbers.take()).collect::<Vec<_>>()
            })
            .collect();
        taken.sort();
        assert_eq!(taken, (7..22).filter_map(SegmentNumber::new).collect::<Vec<_>>());
    }
}
