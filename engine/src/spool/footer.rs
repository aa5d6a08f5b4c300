//! The footer: what was live when a segment took no more batches, and what recovery needs to know of the rest, so that it
//! need not read the segment.

use super::batch::{self, Item, Items};
use super::bytes::{Reader, Store, length};
use super::ids::{Seed, SegmentNumber};
use super::live::LiveSet;
use super::notes::Notes;
use super::record::RECORD_HEAD_BYTES;
use super::segment::Segment;
use super::{BLOCK, Durability};
use crate::sys::slice::{Pool, Slice};
use std::collections::BTreeMap;

const MAGIC: &[u8; 4] = b"RPft";
const VERSION: u8 = 1;

/// Octets of a chunk that carries part of a footer.
const CHUNK_BYTES: usize = 256 << 10;

/// One section's place in a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Section {
    /// Octets from the footer's start.
    pub(super) at: u32,
    pub(super) bytes: u32,
    pub(super) crc: u32,
}

/// The last block of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) number: SegmentNumber,
    /// The footer's start in the segment.
    pub(super) at: u64,
    /// Live records: the encoded [`LiveSet`].
    pub(super) live: Section,
    /// For live records with extents: place (4), count (4), and the segments that hold them (8 each).
    pub(super) pins: Section,
    /// Settles and marks of other segments, as items.
    pub(super) foreign: Section,
    /// Per live record: octets that follow (4), the record's head, its extents, and its envelope unless that is long.
    pub(super) properties: Section,
    /// Where the batches end.
    pub(super) batches_end: u64,
    pub(super) batches: u32,
    /// Everything below `batches_end` was known to be on stable storage.
    pub(super) synced: bool,
}

impl Trailer {
    fn encode(&self, seed: Seed) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block.store(0, MAGIC);
        block.store(4, &[VERSION]);
        block.store_u64(16, self.number.get());
        block.store_u64(24, self.at);
        for (at, section) in [(32, self.live), (44, self.pins), (56, self.foreign), (68, self.properties)] {
            block.store(at, &section.encode());
        }
        block.store_u64(80, self.batches_end);
        block.store_u32(88, self.batches);
        block.store(92, &[u8::from(self.synced)]);
        let crc = seed.crc(&[&block[..8], &block[12..]]);
        block.store_u32(8, crc);
        block
    }

    /// The trailer of segment `number`, which ends at `end`; `None` for anything else.
    pub(super) fn decode(block: &[u8], number: SegmentNumber, end: u64, seed: Seed) -> Option<Self> {
        let mut reader = Reader::new(block);
        let (magic, version) = (reader.take(4)?, reader.u8()?);
        reader.take(3)?;
        if magic != MAGIC || version != VERSION || reader.u32()? != seed.crc(&[block.get(..8)?, block.get(12..BLOCK)?])
        {
            return None;
        }
        reader.take(4)?;
        let (found, at) = (SegmentNumber::new(reader.u64()?)?, reader.u64()?);
        let mut section = || Some(Section { at: reader.u32()?, bytes: reader.u32()?, crc: reader.u32()? });
        let (live, pins, foreign, properties) = (section()?, section()?, section()?, section()?);
        let (batches_end, batches, synced) = (reader.u64()?, reader.u32()?, reader.u8()? == 1);
        let trailer = Self { number: found, at, live, pins, foreign, properties, batches_end, batches, synced };
        let bytes = end.checked_sub(at)?;
        let inside = [live, pins, foreign, properties].iter().all(|section| section.end() <= bytes);
        (found == number && batches_end <= at && at.is_multiple_of(BLOCK as u64) && inside).then_some(trailer)
    }

    /// Octets from the footer's start that recovery reads before anything is delivered: all but the properties.
    pub(super) fn index_bytes(&self) -> u64 {
        [self.live, self.pins, self.foreign].iter().map(Section::end).max().unwrap_or(0)
    }
}

impl Section {
    fn encode(self) -> [u8; 12] {
        let mut fields = [0; 12];
        fields.store_u32(0, self.at);
        fields.store_u32(4, self.bytes);
        fields.store_u32(8, self.crc);
        fields
    }

    /// Where it ends, from the footer's start.
    fn end(&self) -> u64 {
        u64::from(self.at).saturating_add(u64::from(self.bytes))
    }

    /// The section's octets in `footer`, which starts where the footer does; `None` when damaged.
    pub(super) fn of<'a>(&self, footer: &'a [u8], seed: Seed) -> Option<&'a [u8]> {
        let start = self.at as usize;
        let bytes = footer.get(start..start.checked_add(self.bytes as usize)?)?;
        (seed.crc(&[bytes]) == self.crc).then_some(bytes)
    }
}

/// The parts of the footer of `segment`; `None` when there is no memory for it now.
pub(super) fn build(
    number: SegmentNumber,
    segment: &Segment,
    exists: impl Fn(SegmentNumber) -> bool,
    durability: Durability,
    pool: &Pool,
) -> Option<Vec<Slice>> {
    let mut bytes = Vec::new();
    let mut section = |write: &mut dyn FnMut(&mut Vec<u8>)| {
        let at = bytes.len();
        write(&mut bytes);
        let written = bytes.get(at..).unwrap_or_default();
        let section = Section { at: length(at), bytes: length(written.len()), crc: segment.seed.crc(&[written]) };
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        section
    };
    let live = section(&mut |out| segment.live.encode(out));
    let pins = section(&mut |out| encode_pins(&segment.pins, out));
    let foreign = section(&mut |out| segment.foreign.iter().for_each(|items| copy_foreign(items, &exists, out)));
    let properties = section(&mut |out| copy_properties(&segment.properties, &segment.live, out));
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    let end = segment.segment_bytes.saturating_sub(BLOCK as u64);
    let trailer = Trailer {
        number,
        at: end.saturating_sub(BLOCK as u64).saturating_sub(bytes.len() as u64),
        live,
        pins,
        foreign,
        properties,
        batches_end: segment.next_at,
        batches: segment.ordinal,
        synced: durability == Durability::Disk,
    };
    bytes.extend_from_slice(&trailer.encode(segment.seed));
    bytes
        .chunks(CHUNK_BYTES)
        .map(|piece| {
            let mut fill = pool.fill(piece.len())?;
            fill.put(piece);
            Some(fill.take())
        })
        .collect()
}

fn encode_pins(pins: &BTreeMap<u32, Box<[SegmentNumber]>>, into: &mut Vec<u8>) {
    for (place, holders) in pins {
        into.extend_from_slice(&place.to_le_bytes());
        into.extend_from_slice(&length(holders.len()).to_le_bytes());
        for holder in holders {
            into.extend_from_slice(&holder.get().to_le_bytes());
        }
    }
}

/// Reads what [`encode_pins`] wrote.
pub(super) fn decode_pins(bytes: &[u8]) -> Option<BTreeMap<u32, Box<[SegmentNumber]>>> {
    let mut pins = BTreeMap::new();
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let (place, count) = (reader.u32()?, reader.u32()?);
        let mut holders = Vec::new();
        for _ in 0..count {
            holders.push(SegmentNumber::new(reader.u64()?)?);
        }
        pins.insert(place, holders.into());
    }
    Some(pins)
}

/// Settles and marks of segments that still exist.
fn copy_foreign(foreign: &[u8], exists: &impl Fn(SegmentNumber) -> bool, into: &mut Vec<u8>) {
    for item in Items::new(foreign).flatten() {
        match item {
            Item::Settle { settle, .. } if exists(settle.id.number()) => batch::put_settle(into, &settle, None),
            Item::Live { number, live } if exists(number) => batch::put_live(into, number, &live),
            _ => {}
        }
    }
}

/// The entries of live records.
pub(super) fn copy_properties(properties: &Notes, live: &LiveSet, into: &mut Vec<u8>) {
    if live.count() == 0 {
        return;
    }
    for (place, entry) in properties.iter().flat_map(entries) {
        if live.left(place) > 0 {
            into.extend_from_slice(&length(entry.len()).to_le_bytes());
            into.extend_from_slice(entry);
        }
    }
}

/// The entries of a property section: each record's place, and its head with what follows it.
fn entries(properties: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (place, entry, next) = entry_at(properties, at)?;
        at = next;
        Some((place, entry))
    })
}

/// The entry that starts at `at`: its record's place, its octets, and where the next one starts.
pub(super) fn entry_at(properties: &[u8], at: usize) -> Option<(u32, &[u8], usize)> {
    let mut reader = Reader::new(properties.get(at..)?);
    let bytes = reader.u32()? as usize;
    let entry = reader.take(bytes).filter(|entry| entry.len() >= RECORD_HEAD_BYTES)?;
    let id = super::RecordId::from_raw(Reader::new(entry.get(16..24)?).u64()?)?;
    Some((id.place(), entry, at.checked_add(4)?.checked_add(bytes)?))
}
