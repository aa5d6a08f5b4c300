//! The record: one message (or one owed report) with its envelope, trace header and what was learnt about its content.

use super::BLOCK;
use super::bytes::{Reader, Store};
use super::ids::{RecordId, Seed, SegmentNumber};
use crate::wire::Wall;
use std::ops::Range;

/// Octets of the fixed part of a record.
pub const RECORD_HEAD_BYTES: usize = 128;

/// Octets of one extent's entry in a record.
pub(super) const EXTENT_ENTRY_BYTES: usize = 24;

/// Most extents that one record names. With extents of 256 KiB and more, a body of 2 GiB.
pub const EXTENTS_MAX: usize = 8192;

/// Most octets of envelope, and of trace header, in one record.
pub const RECORD_TEXT_BYTES_MAX: usize = 256 << 10;

/// Leading-dot lines whose offsets are kept; a body with more is scanned again when it leaves by DATA.
pub const LEADING_DOTS_MAX: usize = 8;

const MAGIC: &[u8; 4] = b"RPrm";
const VERSION: u8 = 1;

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RecordKind {
    /// A message to be relayed or delivered.
    Message = 1,
    /// Recipients that failed for good and whose sender is owed a report: the envelope names them, the trace part holds
    /// the reason, the content what is known of the original. Never delivered itself.
    Owed = 2,
}

/// Where the lines begin that start with a dot, as offsets in the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeadingDots {
    offsets: [u32; LEADING_DOTS_MAX],
    count: u8,
}

/// Count that says: more than fit.
const OVERFLOW: u8 = u8::MAX;

impl LeadingDots {
    /// Those of `offsets`, ascending; more than [`LEADING_DOTS_MAX`], or one that does not fit 32 bits, overflows.
    pub fn new(offsets: impl IntoIterator<Item = u64>) -> Self {
        let mut dots = Self::default();
        for offset in offsets {
            match (dots.offsets.get_mut(usize::from(dots.count)), u32::try_from(offset)) {
                (Some(place), Ok(offset)) => *place = offset,
                _ => return Self::overflow(),
            }
            dots.count = dots.count.saturating_add(1);
        }
        dots
    }

    /// Too many to keep: the content must be scanned.
    pub fn overflow() -> Self {
        Self { offsets: [0; LEADING_DOTS_MAX], count: OVERFLOW }
    }

    /// All of them, or `None` when there are too many to keep.
    pub fn offsets(&self) -> Option<&[u32]> {
        self.offsets.get(..usize::from(self.count))
    }
}

/// What the receiver learnt about the content, so that no one scans it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// Octets of content, unstuffed, without the trace header.
    pub body_bytes: u64,
    /// Plain CRC-32C of the content, taken at receive (F-018).
    pub crc32c: u32,
    /// Octets of the longest line, without its CRLF.
    pub longest_line: u32,
    /// Octets of the header section.
    pub header_bytes: u32,
    /// `Received:` fields counted.
    pub received_count: u16,
    /// An octet above 127 occurs.
    pub eight_bit: bool,
    /// A NUL octet occurs.
    pub nul: bool,
    /// The last two octets are CRLF.
    pub ends_with_crlf: bool,
    /// Lines that begin with a dot.
    pub leading_dots: LeadingDots,
}

/// A stretch of a body that was written while it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The segment it stands in.
    pub number: SegmentNumber,
    /// Its first block there.
    pub block: u32,
    /// Octets of content; the rest of its last block is zero.
    pub bytes: u32,
    /// CRC-32C of these octets, seeded by the segment's life.
    pub crc: u32,
}

impl Extent {
    /// Octets from the start of the segment.
    pub fn offset(&self) -> u64 {
        u64::from(self.block).saturating_mul(BLOCK as u64)
    }

    fn encode(&self) -> [u8; EXTENT_ENTRY_BYTES] {
        let mut entry = [0; EXTENT_ENTRY_BYTES];
        entry.store_u64(0, self.number.get());
        entry.store_u32(8, self.block);
        entry.store_u32(12, self.bytes);
        entry.store_u32(16, self.crc);
        entry
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let number = SegmentNumber::new(reader.u64()?)?;
        let extent = Self { number, block: reader.u32()?, bytes: reader.u32()?, crc: reader.u32()? };
        (reader.u32()? == 0).then_some(extent)
    }
}

/// Where a record's content stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Right behind the trace header.
    Packed,
    /// In blocks of its own in the same batch, from this block of the segment on.
    Own {
        /// The first block.
        block: u32,
    },
    /// In extents, which the record lists.
    Extents {
        /// How many.
        count: u16,
    },
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// Its own name: where it must stand.
    pub id: RecordId,
    /// The record that it replaces, relocated out of a poisoned segment.
    pub was: Option<RecordId>,
    /// What it is for.
    pub kind: RecordKind,
    /// Recipients in the envelope.
    pub recipients: u16,
    /// Higher leaves first.
    pub priority: u8,
    /// When the message was received.
    pub received: Wall,
    /// Octets of the encoded envelope.
    pub envelope_bytes: u32,
    /// Octets of the trace header.
    pub trace_bytes: u32,
    /// Where the content is.
    pub placement: Placement,
    /// What is known of the content.
    pub facts: Facts,
}

/// Why octets are not the record that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too few octets: read more.
    #[error("a record of {0} octets is cut off")]
    Short(u64),
    /// No record starts here, or its checksum is wrong: set it aside.
    #[error("the record is damaged")]
    Damaged,
    /// A whole record of another place: a misdirected block, or a copy (F-019).
    #[error("another record stands in its place")]
    Misplaced,
}

/// A record as it lies in memory: the head and windows onto its variable parts.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// The fixed part.
    pub head: RecordHead,
    /// The encoded extents.
    extents: &'a [u8],
    /// The encoded envelope.
    pub envelope: &'a [u8],
    /// The trace header.
    pub trace: &'a [u8],
}

impl RecordHead {
    /// Octets of extents, envelope and trace header.
    pub fn text_bytes(&self) -> u64 {
        self.extents_bytes().saturating_add(u64::from(self.envelope_bytes)).saturating_add(u64::from(self.trace_bytes))
    }

    /// Octets from the record's start to the end of what is packed with it.
    pub fn packed_bytes(&self) -> u64 {
        let content = if self.placement == Placement::Packed { self.facts.body_bytes } else { 0 };
        (RECORD_HEAD_BYTES as u64).saturating_add(self.text_bytes()).saturating_add(content)
    }

    /// Octets that writing it again takes, the content included; whole blocks of content that stands in such.
    pub fn octets(&self) -> u64 {
        let own = if self.placement == Placement::Packed { 0 } else { self.facts.body_bytes };
        self.packed_bytes().saturating_add(own.next_multiple_of(BLOCK as u64))
    }

    /// Octets of the entries of its extents.
    pub(super) fn extents_bytes(&self) -> u64 {
        match self.placement {
            Placement::Extents { count } => u64::from(count).saturating_mul(EXTENT_ENTRY_BYTES as u64),
            _ => 0,
        }
    }

    /// The head with its checksum over itself and `text` (extents, envelope, trace header, in this order).
    pub(super) fn encode(&self, seed: Seed, text: [&[u8]; 3]) -> [u8; RECORD_HEAD_BYTES] {
        let facts = &self.facts;
        let (place, block, extents) = match self.placement {
            Placement::Packed => (0, 0, 0),
            Placement::Own { block } => (1, block, 0),
            Placement::Extents { count } => (2, 0, count),
        };
        let flags = u8::from(facts.eight_bit) | u8::from(facts.nul) << 1 | u8::from(facts.ends_with_crlf) << 2;
        let mut head = [0; RECORD_HEAD_BYTES];
        head.store(0, MAGIC);
        head.store(4, &[VERSION, self.kind as u8]);
        head.store_u16(6, self.recipients);
        head.store(12, &[place, flags, facts.leading_dots.count, self.priority]);
        head.store_u64(16, self.id.raw());
        head.store_u64(24, self.was.map_or(0, RecordId::raw));
        head.store(32, &self.received.0.to_le_bytes());
        head.store_u64(40, facts.body_bytes);
        head.store_u32(48, self.envelope_bytes);
        head.store_u32(52, self.trace_bytes);
        head.store_u32(56, facts.crc32c);
        head.store_u32(60, block);
        head.store_u32(64, facts.longest_line);
        head.store_u32(68, facts.header_bytes);
        head.store_u16(72, facts.received_count);
        head.store_u16(74, extents);
        let mut dots = [0; 4 * LEADING_DOTS_MAX];
        for (place, offset) in dots.as_chunks_mut().0.iter_mut().zip(facts.leading_dots.offsets) {
            *place = offset.to_le_bytes();
        }
        head.store(76, &dots);
        let crc = seed.crc(&[&head[..8], &head[12..], text[0], text[1], text[2]]);
        head.store_u32(8, crc);
        head
    }

    /// Reads the fixed part without its checksum: good for nothing but to learn how much to read.
    fn peek(bytes: &[u8]) -> Option<(Self, u32)> {
        let mut reader = Reader::new(bytes.get(..RECORD_HEAD_BYTES)?);
        if reader.take(4)? != MAGIC || reader.u8()? != VERSION {
            return None;
        }
        let kind = match reader.u8()? {
            1 => RecordKind::Message,
            2 => RecordKind::Owed,
            _ => return None,
        };
        let (recipients, crc) = (reader.u16()?, reader.u32()?);
        let (place, flags, dots, priority) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
        let id = RecordId::from_raw(reader.u64()?)?;
        let was = RecordId::from_raw(reader.u64()?);
        let received = Wall(reader.u64()?.cast_signed());
        let body_bytes = reader.u64()?;
        let (envelope_bytes, trace_bytes) = (reader.u32()?, reader.u32()?);
        let (crc32c, block) = (reader.u32()?, reader.u32()?);
        let (longest_line, header_bytes) = (reader.u32()?, reader.u32()?);
        let (received_count, extents) = (reader.u16()?, reader.u16()?);
        let placement = match place {
            0 => Placement::Packed,
            1 => Placement::Own { block },
            2 => Placement::Extents { count: extents },
            _ => return None,
        };
        let mut leading_dots = LeadingDots { offsets: [0; LEADING_DOTS_MAX], count: dots };
        for offset in &mut leading_dots.offsets {
            *offset = reader.u32()?;
        }
        let facts = Facts {
            body_bytes,
            crc32c,
            longest_line,
            header_bytes,
            received_count,
            eight_bit: flags & 1 != 0,
            nul: flags & 2 != 0,
            ends_with_crlf: flags & 4 != 0,
            leading_dots,
        };
        let head =
            Self { id, was, kind, recipients, priority, received, envelope_bytes, trace_bytes, placement, facts };
        Some((head, crc))
    }

    /// Whether the lengths stay inside their bounds, so that reading by them is safe.
    fn is_plausible(&self) -> bool {
        let packed = match self.placement {
            Placement::Packed => self.facts.body_bytes <= super::PACKED_BYTES_MAX as u64,
            Placement::Own { .. } => self.facts.body_bytes <= super::OWN_BYTES_MAX,
            Placement::Extents { count } => usize::from(count) <= EXTENTS_MAX,
        };
        packed
            && self.envelope_bytes as usize <= RECORD_TEXT_BYTES_MAX
            && self.trace_bytes as usize <= RECORD_TEXT_BYTES_MAX
            && self.recipients > 0
    }
}

impl<'a> RecordRef<'a> {
    /// Reads the record that must stand at the start of `bytes`: head, extents, envelope and trace header are checked; the
    /// content is not (see [`RecordRef::packed_content`]).
    ///
    /// # Errors
    /// The disk's: what stands there is not that record, or `bytes` end before its trace header does. The length that
    /// `Short` asks for is bounded whatever the octets say.
    pub(super) fn parse(bytes: &'a [u8], id: RecordId, seed: Seed) -> Result<Self, RecordError> {
        if bytes.len() < RECORD_HEAD_BYTES {
            return Err(RecordError::Short(RECORD_HEAD_BYTES as u64));
        }
        let (head, crc) = RecordHead::peek(bytes).ok_or(RecordError::Damaged)?;
        if !head.is_plausible() {
            return Err(RecordError::Damaged);
        }
        let front = bytes.get(..8).unwrap_or_default();
        let mut reader = Reader::new(bytes.get(12..).unwrap_or_default());
        let fixed = reader.take(RECORD_HEAD_BYTES - 12);
        let extents = reader.take(usize::try_from(head.extents_bytes()).unwrap_or(usize::MAX));
        let envelope = reader.take(head.envelope_bytes as usize);
        let trace = reader.take(head.trace_bytes as usize);
        let (Some(fixed), Some(extents), Some(envelope), Some(trace)) = (fixed, extents, envelope, trace) else {
            return Err(RecordError::Short((RECORD_HEAD_BYTES as u64).saturating_add(head.text_bytes())));
        };
        if seed.crc(&[front, fixed, extents, envelope, trace]) != crc {
            return Err(RecordError::Damaged);
        }
        if head.id != id {
            return Err(RecordError::Misplaced);
        }
        Ok(Self { head, extents, envelope, trace })
    }

    /// Reads an entry of a footer's property section, whose checksum was right: the head and the envelope, if it is there.
    pub(super) fn parse_entry(
        entry: &'a [u8],
        id: RecordId,
        _seed: Seed,
    ) -> Result<(RecordHead, Option<&'a [u8]>), RecordError> {
        let (head, _) = RecordHead::peek(entry).filter(|(head, _)| head.is_plausible()).ok_or(RecordError::Damaged)?;
        if head.id != id {
            return Err(RecordError::Misplaced);
        }
        let mut reader = Reader::new(entry.get(RECORD_HEAD_BYTES..).unwrap_or_default());
        reader.take(usize::try_from(head.extents_bytes()).unwrap_or(usize::MAX));
        let envelope = reader.take(head.envelope_bytes as usize).filter(|envelope| !envelope.is_empty());
        Ok((head, envelope))
    }

    /// The extents that hold the content.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + 'a {
        let mut reader = Reader::new(self.extents);
        std::iter::from_fn(move || Extent::decode(&mut reader))
    }

    /// The encoded extents.
    pub(super) fn extents_bytes(&self) -> &'a [u8] {
        self.extents
    }

    /// Where the envelope stands, from the record's start.
    pub(super) fn envelope_range(&self) -> Range<usize> {
        let start = RECORD_HEAD_BYTES.saturating_add(self.extents.len());
        start..start.saturating_add(self.envelope.len())
    }

    /// Where the trace header stands, from the record's start.
    pub(super) fn trace_range(&self) -> Range<usize> {
        let start = self.envelope_range().end;
        start..start.saturating_add(self.trace.len())
    }
}

/// Encodes `extents` behind each other.
pub(super) fn encode_extents(extents: &[Extent], into: &mut Vec<u8>) {
    for extent in extents {
        into.extend_from_slice(&extent.encode());
    }
}
