//! Reading one record back from disk: first its head with envelope and trace header, then its content, every octet
//! checked before it may leave.

use super::BLOCK;
use super::head::SegmentHead;
use super::ids::{FileId, RecordId, Running, Seed, SegmentNumber};
use super::log::Log;
use super::record::{Placement, RecordError, RecordRef};
use super::scan::Read;

const BLOCK_U64: u64 = BLOCK as u64;

/// Octets read at first: most records with their content fit.
const FIRST_READ_BYTES: u64 = 16 << 10;

/// How to read a record.
#[derive(Debug, Clone, Copy)]
pub struct Fetch {
    id: RecordId,
    file: FileId,
    seed: Seed,
    segment_end: u64,
}

/// What the head's octets are good for.
#[derive(Debug)]
pub enum Fetched<'a> {
    /// The record; its content is told by [`Log::content_of`].
    Record(RecordRef<'a>),
    /// Too few octets: read this instead, and try again.
    More(Read),
}

impl Fetch {
    /// How to read a record of the segment with this head; `None` when it is of another.
    pub fn in_segment(head: &SegmentHead, id: RecordId) -> Option<Self> {
        let segment_end = head.segment_bytes.saturating_sub(BLOCK_U64);
        let of = head.number == id.number();
        of.then(|| Self { id, file: head.file, seed: Seed::of(head.secret), segment_end })
    }

    /// The record's name now: another than asked for when it was relocated.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// The first read.
    pub fn first_read(&self) -> Read {
        self.read(FIRST_READ_BYTES)
    }

    /// A read of at least `bytes` octets from the record on, as far as the segment goes.
    fn read(&self, bytes: u64) -> Read {
        let at = self.id.offset() & !BLOCK_U64.saturating_sub(1);
        let end = self.id.offset().saturating_add(bytes).next_multiple_of(BLOCK_U64).min(self.segment_end);
        let bytes = usize::try_from(end.saturating_sub(at)).unwrap_or(0);
        Read { file: self.file, at, bytes }
    }

    /// Makes sense of `bytes`, the result of a read of this plan.
    ///
    /// # Errors
    /// The disk's: read once more (F-028), then set the record aside.
    pub fn parse<'a>(&self, bytes: &'a [u8]) -> Result<Fetched<'a>, RecordError> {
        let skip = self.id.offset() & BLOCK_U64.saturating_sub(1);
        let record = usize::try_from(skip).ok().and_then(|skip| bytes.get(skip..)).unwrap_or_default();
        match RecordRef::parse(record, self.id, self.seed) {
            Ok(record) => Ok(Fetched::Record(record)),
            Err(RecordError::Short(needed)) => {
                let more = self.read(needed);
                if more.bytes > bytes.len() { Ok(Fetched::More(more)) } else { Err(RecordError::Damaged) }
            }
            Err(error) => Err(error),
        }
    }
}

/// A contiguous part of a record's content on disk.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// The file.
    pub file: FileId,
    /// The segment that was in it.
    pub number: SegmentNumber,
    /// Where to begin reading, a multiple of the block.
    pub at: u64,
    /// Octets in front of the content in what is read.
    pub skip: usize,
    /// Octets of content.
    pub bytes: u64,
    crc: u32,
    /// Of the segment that holds the extent; none for content checked as a whole by the receiver's checksum.
    seed: Option<Seed>,
}

impl Stretch {
    /// Octets to be read, whole blocks.
    pub fn read_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.skip as u64).next_multiple_of(BLOCK_U64)
    }

    /// Whether `pieces`, the content of this stretch in order and without what is skipped, is what was written. Nothing
    /// that fails this may leave.
    pub fn is_whole<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut crc = self.seed.map_or_else(Running::plain, Seed::running);
        let mut left = self.bytes;
        for piece in pieces {
            crc.update(piece);
            match left.checked_sub(piece.len() as u64) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        left == 0 && crc.finish() == self.crc
    }
}

impl Log {
    /// How to read a record; `None` when it is not (or no longer) in this log.
    pub fn fetch(&self, id: RecordId) -> Option<Fetch> {
        let segment = self.segments.get(&id.number()).filter(|segment| segment.live.left(id.place()) > 0);
        match segment {
            Some(segment) => Some(Fetch { id, file: segment.file, seed: segment.seed, segment_end: segment.end() }),
            None => self.renamed.after(id).and_then(|now| self.fetch(now)),
        }
    }

    /// Where a record's content stands, in order.
    ///
    /// # Errors
    /// A part of it is gone, or lies outside its segment: set the record aside.
    pub fn content_of(&self, record: &RecordRef<'_>) -> Result<Vec<Stretch>, RecordError> {
        stretches(record, |number| {
            let segment = self.segments.get(&number)?;
            Some((segment.file, segment.seed, segment.segment_bytes))
        })
    }

    /// Whether a recipient of a record is settled.
    pub fn is_settled(&self, id: RecordId, recipient: u16) -> bool {
        let now = self.fetch(id).map(|fetch| fetch.id);
        now.is_none_or(|id| {
            self.segments.get(&id.number()).is_none_or(|segment| segment.live.is_settled(id.place(), recipient))
        })
    }
}

impl RecordRef<'_> {
    /// Where its content stands, in order, for a reader that knows segments by their heads alone.
    ///
    /// # Errors
    /// A part of it is gone, or lies outside its segment.
    pub fn content_in(&self, head: impl Fn(SegmentNumber) -> Option<SegmentHead>) -> Result<Vec<Stretch>, RecordError> {
        stretches(self, |number| head(number).map(|head| (head.file, Seed::of(head.secret), head.segment_bytes)))
    }
}

/// Where a record's content stands, in segments of which file, seed and length are told.
fn stretches(
    record: &RecordRef<'_>,
    segment: impl Fn(SegmentNumber) -> Option<(FileId, Seed, u64)>,
) -> Result<Vec<Stretch>, RecordError> {
    let head = &record.head;
    let stretch = |number, offset: u64, bytes: u64, crc, of_segment: bool| {
        let (file, seed, segment_bytes) = segment(number).ok_or(RecordError::Damaged)?;
        if offset.saturating_add(bytes) > segment_bytes {
            return Err(RecordError::Damaged);
        }
        let at = offset & !BLOCK_U64.saturating_sub(1);
        let skip = usize::try_from(offset.saturating_sub(at)).unwrap_or(0);
        Ok(Stretch { file, number, at, skip, bytes, crc, seed: of_segment.then_some(seed) })
    };
    let (number, crc) = (head.id.number(), head.facts.crc32c);
    match head.placement {
        Placement::Packed => {
            let offset = head.id.offset().saturating_add(record.trace_range().end as u64);
            Ok(vec![stretch(number, offset, head.facts.body_bytes, crc, false)?])
        }
        Placement::Own { block } => {
            let offset = u64::from(block).saturating_mul(BLOCK_U64);
            Ok(vec![stretch(number, offset, head.facts.body_bytes, crc, false)?])
        }
        Placement::Extents { count } => {
            let stretches: Vec<_> = record
                .extents()
                .map(|extent| stretch(extent.number, extent.offset(), extent.bytes.into(), extent.crc, true))
                .collect::<Result<_, _>>()?;
            let bytes = stretches.iter().fold(0u64, |sum, stretch| sum.saturating_add(stretch.bytes));
            let whole = stretches.len() == usize::from(count) && bytes == head.facts.body_bytes;
            if whole { Ok(stretches) } else { Err(RecordError::Damaged) }
        }
    }
}
