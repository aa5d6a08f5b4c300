//! Reading one segment back: who it is, what is live in it, what it says about others, and what is damaged.
//!
//! A machine that is fed with reads. A closed segment costs its two heads and its footer; any other is read once from
//! front to back, every record checked with its content. Damage never ends the reading: it goes on at the next block that
//! holds a batch header of this very life and place.

use super::BLOCK;
use super::batch::{ALL_RECIPIENTS, BatchHead, Item, Items, Settle};
use super::footer::{self, Trailer};
use super::head::{HeadBlock, SegmentHead};
use super::ids::{FileId, RECORD_ALIGN, RecordId, Running, SegmentNumber};
use super::record::{Placement, RECORD_HEAD_BYTES, RecordRef};
use super::segment::{Segment, State};
use crate::planted;
use std::ops::Range;

/// Octets asked for at once.
const READ_BYTES: usize = 1 << 20;

/// So many damaged places are listed per segment; what comes behind is added to the last.
const DAMAGE_MAX: usize = 1024;

const BLOCK_U64: u64 = BLOCK as u64;

/// A read to be performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// From this file.
    pub file: FileId,
    /// At this offset, a multiple of the block.
    pub at: u64,
    /// So many octets, whole blocks.
    pub bytes: usize,
}

/// Why octets are not what was once written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Above all that was known to be synced: the tail of an unfinished write, or the last batch, rotten.
    Torn,
    /// Below: it was synced once, and the disk lost it (F-016).
    Rot,
}

/// A damaged place: to be kept aside and reported, never delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: FileId,
    /// The life of the file, as far as it is known.
    pub number: Option<SegmentNumber>,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// The one record that it is.
    pub record: Option<RecordId>,
    /// Where the damaged content of that record begins, and how long it is, if it stands in blocks of its own.
    pub content: Option<(u64, u64)>,
    /// What it means.
    pub cause: Cause,
}

/// Why the spool must not be opened at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A newer program wrote it (F-036): exit 2, and nothing is changed.
    #[error("spool file {:08x} has format version {version}; this program knows version {} and older: run the newer program", file.0, super::FORMAT_VERSION)]
    Newer {
        /// The file.
        file: FileId,
        /// The version that it says.
        version: u32,
    },
}

/// What a file turned out to be.
#[derive(Debug)]
pub enum Scanned {
    /// Never finished preparing: nothing was ever kept in it. Remove it.
    Blank(FileId),
    /// Both heads are unreadable: the whole file is set aside.
    Lost(Damage),
    /// A segment.
    Segment(Box<ScannedSegment>),
}

/// A segment that was read.
#[derive(Debug)]
pub struct ScannedSegment {
    pub(super) number: SegmentNumber,
    pub(super) head: SegmentHead,
    pub(super) segment: Segment,
    /// Its footer, if it was closed.
    pub(super) trailer: Option<Trailer>,
    /// The greatest number that any of its heads names.
    pub(super) number_max: u64,
    /// Outcomes that count unless the record that they hang on was cancelled.
    pub(super) dependent: Vec<Dependent>,
    /// What is damaged in it.
    pub damage: Vec<Damage>,
}

impl ScannedSegment {
    /// Its life's head.
    pub fn head(&self) -> &SegmentHead {
        &self.head
    }

    /// The file that it is.
    pub fn file(&self) -> FileId {
        self.segment.file
    }

    /// Where its batches end.
    pub fn batches_end(&self) -> u64 {
        self.segment.next_at
    }

    /// It was closed in good order.
    pub fn is_closed(&self) -> bool {
        self.trailer.is_some()
    }

    /// Records in it with unsettled recipients, as far as it says itself.
    pub fn live_count(&self) -> usize {
        self.segment.live.count()
    }
}

#[derive(Debug)]
enum Phase {
    FirstHead,
    LastHead(HeadBlock),
    /// Neither head says anything, and the last is blank or the file is short: where the first batch would stand decides.
    FirstBatch,
    Trailer(Box<Found>),
    Index(Box<Found>, Trailer, Vec<u8>),
    Batches(Box<Found>, Stream),
    Done(Option<Scanned>),
    Refused(Refused),
}

/// The segment as far as it is read.
#[derive(Debug)]
struct Found {
    number: SegmentNumber,
    head: SegmentHead,
    segment: Segment,
    number_max: u64,
    damage: Vec<Damage>,
    synced_upto: u64,
    /// Where the batches end, if a trailer says so.
    batches_end: Option<u64>,
    dependent: Vec<Dependent>,
}

/// An outcome that hangs on a record of its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dependent {
    pub(super) settle: Settle,
    /// The record; when it was cancelled, the outcome does not count.
    pub(super) needs: RecordId,
    /// The record is whole.
    whole: bool,
    /// Where the batch ends: what was synced once did happen, whatever became of the record since.
    end: u64,
}

/// Where the front-to-back reading is.
#[derive(Debug, Default)]
struct Stream {
    window: Vec<u8>,
    window_at: u64,
    at: u64,
    /// Blocks since here are no batch.
    bad_from: Option<u64>,
    /// The first of them looks like a torn header.
    resembles: bool,
    /// The last of them that is not zero ends here.
    nonzero_upto: u64,
    /// The last block that the disk did not give ends here.
    refused_upto: u64,
}

/// Reads one segment. Ask [`Scan::wants`], read, answer by [`Scan::feed`] or [`Scan::failed`], until it wants no more.
#[derive(Debug)]
pub struct Scan {
    file: FileId,
    file_bytes: u64,
    /// Read block by block: the last larger read failed.
    careful: bool,
    phase: Phase,
}

impl Scan {
    /// Begins with the file `file` of `file_bytes` octets.
    pub fn new(file: FileId, file_bytes: u64) -> Self {
        // What is shorter than any segment may be what is left of one.
        let usable = file_bytes >= BLOCK_U64;
        let phase = if usable { Phase::FirstHead } else { Phase::Done(Some(Scanned::Blank(file))) };
        Self { file, file_bytes, careful: false, phase }
    }

    /// The next read; `None` when all is known.
    pub fn wants(&self) -> Option<Read> {
        let block = |at: u64| Some((at, BLOCK_U64));
        let (at, bytes) = match &self.phase {
            Phase::FirstHead => block(0),
            Phase::LastHead(_) => block(self.file_bytes.saturating_sub(BLOCK_U64) & !BLOCK_U64.saturating_sub(1)),
            Phase::FirstBatch => block(BLOCK_U64),
            Phase::Trailer(found) => block(found.end().saturating_sub(BLOCK_U64)),
            Phase::Index(found, trailer, index) => {
                let have = index.len() as u64;
                let left = trailer.index_bytes().next_multiple_of(BLOCK_U64).saturating_sub(have);
                let at = trailer.at.saturating_add(have);
                Some((at, left.min(found.end().saturating_sub(at))))
            }
            Phase::Batches(found, stream) => {
                let at = stream.window_at.saturating_add(stream.window.len() as u64);
                Some((at, found.stream_end().saturating_sub(at)))
            }
            Phase::Done(_) | Phase::Refused(_) => None,
        }?;
        let most = if self.careful { BLOCK } else { READ_BYTES };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(most);
        Some(Read { file: self.file, at, bytes })
    }

    /// The octets that the wanted read gave, from its beginning; fewer than asked for is no error, none is.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Some(read) = self.wants() else { return };
        let whole = bytes.len().min(read.bytes) & !BLOCK.saturating_sub(1);
        match bytes.get(..whole) {
            Some(bytes) if whole > 0 => self.take(bytes),
            _ => self.failed(),
        }
    }

    /// The wanted read failed. A large one is repeated block by block; a block that cannot be read is damaged.
    pub fn failed(&mut self) {
        match self.wants() {
            Some(read) if read.bytes > BLOCK => self.careful = true,
            Some(read) => {
                if let Phase::Batches(_, stream) = &mut self.phase {
                    stream.refused_upto = read.at.saturating_add(BLOCK_U64);
                }
                // No header, no record and no content is all ones.
                self.take(&[0xff; BLOCK]);
            }
            None => {}
        }
    }

    /// What was found; once, when nothing more is wanted.
    ///
    /// # Errors
    /// The spool is not for this program: do not start.
    pub fn finish(self) -> Result<Scanned, Refused> {
        match self.phase {
            Phase::Done(Some(scanned)) => Ok(scanned),
            Phase::Refused(refused) => Err(refused),
            _ => Ok(Scanned::Blank(self.file)),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let phase = std::mem::replace(&mut self.phase, Phase::Done(None));
        self.phase = match phase {
            Phase::FirstHead => Phase::LastHead(SegmentHead::decode(bytes)),
            Phase::LastHead(first) => self.identify(first, SegmentHead::decode(bytes)),
            Phase::FirstBatch if bytes.iter().all(|octet| *octet == 0) => Phase::Done(Some(Scanned::Blank(self.file))),
            Phase::FirstBatch => Phase::Done(Some(self.lost())),
            Phase::Trailer(found) => {
                let trailer = Trailer::decode(bytes, found.number, found.end(), found.segment.seed);
                match trailer.filter(|trailer| trailer.at >= BLOCK_U64) {
                    Some(trailer) => Phase::Index(found, trailer, Vec::new()).settled(),
                    None => Phase::Batches(found, Stream::new()).settled(),
                }
            }
            Phase::Index(found, trailer, mut index) => {
                index.extend_from_slice(bytes);
                Phase::Index(found, trailer, index).settled()
            }
            Phase::Batches(mut found, mut stream) => {
                stream.window.extend_from_slice(bytes);
                stream.advance(&mut found);
                Phase::Batches(found, stream).settled()
            }
            done @ (Phase::Done(_) | Phase::Refused(_)) => done,
        };
    }

    /// The first head is written before the last: a blank last one says that preparing never ended, unless both are lost, and
    /// mail stands between them.
    fn doubtful(&self) -> Phase {
        if self.file_bytes < 2 * BLOCK_U64 { Phase::Done(Some(Scanned::Blank(self.file))) } else { Phase::FirstBatch }
    }

    /// The whole file, of which nobody can say what it was.
    fn lost(&self) -> Scanned {
        let (offset, bytes) = (0, self.file_bytes);
        let (file, cause) = (self.file, Cause::Rot);
        Scanned::Lost(Damage { file, number: None, offset, bytes, record: None, content: None, cause })
    }

    fn identify(&self, first: HeadBlock, last: HeadBlock) -> Phase {
        let (head, number_max) = match (first, last) {
            // In a file that was cut short the last block is no head, whatever it looks like.
            (HeadBlock::Valid(first), _) if first.segment_bytes > self.file_bytes => (first, first.number.get()),
            _ if self.file_bytes < super::SEGMENT_BYTES_MIN => return self.doubtful(),
            (HeadBlock::Valid(first), HeadBlock::Valid(last)) => {
                let newer = if last.number > first.number { last } else { first };
                (newer, newer.number.get())
            }
            (HeadBlock::Valid(head), _) | (_, HeadBlock::Valid(head)) => (head, head.number.get()),
            (HeadBlock::Newer(version), _) | (_, HeadBlock::Newer(version)) => {
                return Phase::Refused(Refused::Newer { file: self.file, version });
            }
            (_, HeadBlock::Blank) => return self.doubtful(),
            _ => return Phase::Done(Some(self.lost())),
        };
        let mut segment = Segment::new(self.file, head.secret, head.segment_bytes);
        segment.first_life = head.first_life;
        segment.state = State::Closing;
        let whole = self.file_bytes & !BLOCK_U64.saturating_sub(1);
        segment.cut_at = (whole < head.segment_bytes).then_some(whole);
        let (damage, dependent) = (Vec::new(), Vec::new());
        Phase::Trailer(Box::new(Found {
            number: head.number,
            head,
            segment,
            number_max,
            damage,
            synced_upto: 0,
            batches_end: None,
            dependent,
        }))
    }
}

impl Phase {
    /// Goes on to what follows when nothing more is to be read for this.
    fn settled(self) -> Self {
        match self {
            Phase::Index(mut found, trailer, index) if index.len() as u64 >= trailer.index_bytes() => {
                match found.read_index(&trailer, &index) {
                    Some(()) => Phase::Done(Some(found.done(Some(trailer)))),
                    None => {
                        let at = trailer.at;
                        let bytes = found.end().saturating_sub(at);
                        found.reset();
                        found.damaged(at..at.saturating_add(bytes), None);
                        // The trailer stands, so the batches that it speaks of were written before it.
                        found.synced_upto = if trailer.synced { trailer.batches_end } else { 0 };
                        found.batches_end = Some(trailer.batches_end);
                        Phase::Batches(found, Stream::new()).settled()
                    }
                }
            }
            Phase::Batches(mut found, stream) if stream.is_at_end(&found) => {
                stream.close(&mut found);
                Phase::Done(Some(found.done(None)))
            }
            phase => phase,
        }
    }
}

impl Found {
    /// Where reading from front to back ends.
    fn stream_end(&self) -> u64 {
        self.batches_end.unwrap_or(u64::MAX).min(self.end())
    }

    /// Where batches and footer end at the latest.
    fn end(&self) -> u64 {
        self.segment.end()
    }

    fn reset(&mut self) {
        let mut segment = Segment::new(self.segment.file, self.head.secret, self.segment.segment_bytes);
        segment.first_life = self.head.first_life;
        segment.state = State::Closing;
        segment.cut_at = self.segment.cut_at;
        self.segment = segment;
        self.dependent.clear();
    }

    /// Lists a damaged place; what it means is decided at the end.
    fn damaged(&mut self, range: Range<u64>, record: Option<RecordId>) {
        let bytes = range.end.saturating_sub(range.start);
        let number = Some(self.number);
        let file = self.segment.file;
        if self.damage.len() < DAMAGE_MAX {
            let (offset, cause) = (range.start, Cause::Torn);
            self.damage.push(Damage { file, number, offset, bytes, record, content: None, cause });
        } else if let Some(last) = self.damage.last_mut() {
            last.bytes = range.end.saturating_sub(last.offset);
            last.record = None;
            last.content = None;
        }
    }

    /// A record is damaged, or its content in blocks of its own: both are one place.
    fn damaged_record(&mut self, range: Range<u64>, id: RecordId, content: Option<(u64, u64)>) {
        self.damaged(range, Some(id));
        if let Some(damage) = self.damage.last_mut().filter(|damage| damage.record == Some(id)) {
            damage.content = content;
        }
    }

    fn read_index(&mut self, trailer: &Trailer, index: &[u8]) -> Option<()> {
        let seed = self.segment.seed;
        self.segment.live = super::live::LiveSet::decode(trailer.live.of(index, seed)?)?;
        self.segment.pins = footer::decode_pins(trailer.pins.of(index, seed)?)?;
        for item in Items::new(trailer.foreign.of(index, seed)?) {
            match item.ok()? {
                Item::Settle { settle, .. } => self.segment.note_settle(&settle),
                Item::Live { number, live } => self.segment.note_live(number, &live),
                Item::Record { .. } | Item::Extent { .. } => return None,
            }
        }
        self.segment.next_at = trailer.batches_end;
        self.segment.ordinal = trailer.batches;
        self.segment.state = State::Closed;
        Some(())
    }

    /// Reads a whole batch whose header is sound.
    fn read_batch(&mut self, head: &BatchHead, batch: &[u8]) {
        let end = head.at.saturating_add(head.bytes);
        self.synced_upto = self.synced_upto.max(head.synced_upto.min(head.at));
        self.segment.next_at = end;
        self.segment.ordinal = head.ordinal;
        let Some(table) = head.table(batch, self.segment.seed) else {
            return self.damaged(head.at..end, None);
        };
        let mut settles = Vec::new();
        for item in Items::new(table) {
            match item {
                Ok(Item::Record { place, packed_bytes }) => self.read_record(head, batch, place, packed_bytes),
                Ok(Item::Extent { block, bytes, crc }) => self.read_extent(head, batch, block, bytes, crc),
                Ok(Item::Settle { settle, needs: None }) => settles.push(settle),
                Ok(Item::Settle { settle, needs: Some(place) }) => {
                    // The record stands in front of what hangs on it.
                    let whole = self.segment.live.left(place) > 0;
                    let needs = RecordId::at_place(self.number, place);
                    self.dependent.push(Dependent { settle, needs, whole, end });
                }
                Ok(Item::Live { number, live }) if number != self.number => self.segment.note_live(number, &live),
                Ok(Item::Live { .. }) => {}
                Err(_) => self.damaged(head.at..end, None),
            }
        }
        for settle in settles {
            self.segment.read_settle(self.number, &settle);
        }
    }

    fn read_record(&mut self, head: &BatchHead, batch: &[u8], place: u32, packed_bytes: u32) {
        let id = RecordId::at_place(self.number, place);
        let offset = u64::from(place).saturating_mul(RECORD_ALIGN as u64);
        let start = offset.checked_sub(head.at).and_then(|start| usize::try_from(start).ok());
        let bytes = start.and_then(|start| batch.get(start..)).unwrap_or_default();
        let seed = self.segment.seed;
        let sound = RecordRef::parse(bytes, id, seed).ok();
        let record = sound.filter(|record| {
            record.head.recipients != ALL_RECIPIENTS
                && self.segment.live.is_next(place)
                && content_is_whole(record, head, bytes, batch)
        });
        let encoded = bytes.first_chunk::<RECORD_HEAD_BYTES>();
        let (Some(record), Some(encoded)) = (record, encoded) else {
            let content = sound.and_then(|record| own_content(&record, head, batch));
            return self.damaged_record(offset..offset.saturating_add(u64::from(packed_bytes)), id, content);
        };
        self.segment.live.push_weighing(place, record.head.recipients, record.head.octets());
        self.segment.note_recipients(record.head.recipients);
        self.segment.note_properties(encoded, record.extents_bytes(), record.envelope);
        if let Placement::Extents { .. } = record.head.placement {
            self.segment.pins.insert(place, record.extents().map(|extent| extent.number).collect());
        }
    }

    fn read_extent(&mut self, head: &BatchHead, batch: &[u8], block: u32, bytes: u32, crc: u32) {
        let offset = u64::from(block).saturating_mul(BLOCK_U64);
        let content = window(batch, head.at, offset, u64::from(bytes));
        if content.is_none_or(|content| self.segment.seed.crc(&[content]) != crc) {
            self.damaged(offset..offset.saturating_add(u64::from(bytes)), None);
        }
    }

    fn done(mut self, trailer: Option<Trailer>) -> Scanned {
        let synced_upto = self.synced_upto;
        if let (Some(at), None) = (self.segment.cut_at, &trailer) {
            // What stood there, if anything did, is gone.
            self.damaged(at..self.segment.segment_bytes, None);
        }
        for damage in &mut self.damage {
            let below = damage.offset.saturating_add(damage.bytes) <= synced_upto;
            damage.cause = match below {
                _ if planted!(TornAsRot) => Cause::Rot,
                _ if planted!(RotAsTorn) => Cause::Torn,
                true => Cause::Rot,
                false => Cause::Torn,
            };
        }
        self.dependent.retain(|dependent| dependent.whole || dependent.end <= synced_upto);
        self.segment.kept = !self.damage.is_empty();
        let Self { number, head, segment, number_max, dependent, damage, .. } = self;
        Scanned::Segment(Box::new(ScannedSegment { number, head, segment, trailer, number_max, dependent, damage }))
    }
}

/// The octets `[offset, offset + bytes)` of the segment, if they lie in this batch.
fn window(batch: &[u8], batch_at: u64, offset: u64, bytes: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset.checked_sub(batch_at)?).ok()?;
    batch.get(start..start.checked_add(usize::try_from(bytes).ok()?)?)
}

/// Whether the content is what was received. Extents answer for themselves, where they stand.
fn content_is_whole(record: &RecordRef<'_>, head: &BatchHead, bytes: &[u8], batch: &[u8]) -> bool {
    let body_bytes = record.head.facts.body_bytes;
    let content = match record.head.placement {
        Placement::Packed => window(bytes, 0, record.trace_range().end as u64, body_bytes),
        Placement::Own { block } => window(batch, head.at, u64::from(block).saturating_mul(BLOCK_U64), body_bytes),
        Placement::Extents { .. } => return true,
    };
    let mut crc = Running::plain();
    content.is_some_and(|content| {
        crc.update(content);
        crc.finish() == record.head.facts.crc32c || planted!(UncheckedContent)
    })
}

/// Where the content of a record stands in blocks of its own, if it does and they lie in its batch.
fn own_content(record: &RecordRef<'_>, head: &BatchHead, batch: &[u8]) -> Option<(u64, u64)> {
    let Placement::Own { block } = record.head.placement else { return None };
    let (offset, bytes) = (u64::from(block).saturating_mul(BLOCK_U64), record.head.facts.body_bytes);
    window(batch, head.at, offset, bytes).map(|_| (offset, bytes))
}

impl Stream {
    fn new() -> Self {
        Self { window_at: BLOCK_U64, at: BLOCK_U64, ..Self::default() }
    }

    fn is_at_end(&self, found: &Found) -> bool {
        self.window_at.saturating_add(self.window.len() as u64) >= found.stream_end()
    }

    /// Reads as many whole batches as there are.
    fn advance(&mut self, found: &mut Found) {
        let window = std::mem::take(&mut self.window);
        loop {
            let start = usize::try_from(self.at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
            let Some(rest) = window.get(start..).filter(|rest| rest.len() >= BLOCK) else { break };
            let head = BatchHead::decode(rest, found.number, self.at, found.segment.seed);
            match head.filter(|head| head.at.saturating_add(head.bytes) <= found.stream_end()) {
                Some(head) => {
                    let Some(batch) = usize::try_from(head.bytes).ok().and_then(|bytes| rest.get(..bytes)) else {
                        break;
                    };
                    if let Some(from) = self.bad_from.take() {
                        found.damaged(from..self.at, None);
                    }
                    found.read_batch(&head, batch);
                    self.at = self.at.saturating_add(head.bytes);
                }
                None => self.skip(rest.get(..BLOCK).unwrap_or_default(), found.number),
            }
        }
        let done = usize::try_from(self.at.saturating_sub(self.window_at)).unwrap_or(usize::MAX).min(window.len());
        self.window = window;
        self.window.drain(..done);
        self.window_at = self.window_at.saturating_add(done as u64);
    }

    fn skip(&mut self, block: &[u8], number: SegmentNumber) {
        if self.bad_from.is_none() {
            self.bad_from = Some(self.at);
            self.resembles = BatchHead::resembles(block, number, self.at);
            self.nonzero_upto = 0;
        }
        self.at = self.at.saturating_add(BLOCK_U64);
        if block.iter().any(|&octet| octet != 0) {
            self.nonzero_upto = self.at;
        }
    }

    /// All is read. What no batch follows is the free rest, unless something was once written there, or may have been.
    fn close(mut self, found: &mut Found) {
        // A batch that its segment's end cuts off cannot be: its header was refused before.
        if !self.window.is_empty() && self.bad_from.is_none() {
            self.bad_from = Some(self.at);
            self.resembles = true;
        }
        let Some(from) = self.bad_from else { return };
        let written_upto = if found.head.first_life { self.nonzero_upto } else { 0 };
        let touched_upto = written_upto.max(self.refused_upto);
        if touched_upto > from || self.resembles {
            found.damaged(from..touched_upto.max(from.saturating_add(BLOCK_U64)), None);
        } else if from < found.synced_upto {
            found.damaged(from..found.synced_upto, None);
        }
    }
}

/// Reads a segment whose octets are all at hand: for offline tools and fuzzing.
///
/// # Errors
/// As [`Scan::finish`].
pub fn scan_image(file: FileId, image: &[u8]) -> Result<Scanned, Refused> {
    let mut scan = Scan::new(file, image.len() as u64);
    while let Some(read) = scan.wants() {
        let start = usize::try_from(read.at).unwrap_or(usize::MAX);
        let rest = image.get(start..).unwrap_or_default();
        scan.feed(rest.get(..read.bytes.min(rest.len())).unwrap_or_default());
    }
    scan.finish()
}
