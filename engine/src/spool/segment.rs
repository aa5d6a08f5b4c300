//! One segment as the log keeps it in memory.

use super::batch::{self, Outcome, Settle};
use super::bytes::length;
use super::ids::{FileId, Secret, Seed, SegmentNumber};
use super::live::LiveSet;
use super::notes::{Notes, Pieces};
use super::record::{RECORD_HEAD_BYTES, RecordHead};
use super::{BLOCK, PROPERTY_ENVELOPE_BYTES_MAX};
use crate::wire::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};

/// Octets of a footer's trailer, and of what fills its last block.
const OWN_BYTES: u64 = 2 * BLOCK as u64;
/// Octets of an entry of its property section, beside envelope and extents.
const ENTRY_BYTES: u64 = 4 + RECORD_HEAD_BYTES as u64;

/// Where a segment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its heads are being written.
    Preparing,
    /// Prepared, waiting to be taken.
    Spare,
    /// Batches go here.
    Open,
    /// Takes no more batches; its footer is not written yet.
    Closing,
    /// Its footer is written.
    Closed,
    /// A write failed: what is live here must go elsewhere, nothing is written here any more.
    Poisoned,
    /// Nothing here is needed: may be given a new life.
    Free,
    /// Nothing here is needed, and the file must not be used again.
    Bad,
    /// The same, and nothing was ever kept in this life: its heads could not be written.
    Unborn,
}

/// Part of the last segment that is left to settles when no further one is at hand: 1/16.
const RESERVE_SHARE: u64 = 16;

/// A segment is worth to be rewritten when what is live in it is at most so small a part.
const SPARSE_SHARE: u64 = 8;

/// A log's segments.
#[derive(Debug, Default)]
pub(super) struct Segments(BTreeMap<SegmentNumber, Segment>);

impl Segments {
    /// The one that something of ours is to be written to.
    ///
    /// # Panics
    /// When it is not there, our mistake: a segment stays for as long as anything is to be written to it.
    pub(super) fn of(&self, number: SegmentNumber) -> &Segment {
        let Some(segment) = self.0.get(&number) else { unreachable!("segment {number} went under its writes") };
        segment
    }

    /// The same, for changing.
    pub(super) fn of_mut(&mut self, number: SegmentNumber) -> &mut Segment {
        let Some(segment) = self.0.get_mut(&number) else { unreachable!("segment {number} went under its writes") };
        segment
    }
}

impl Deref for Segments {
    type Target = BTreeMap<SegmentNumber, Segment>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Segments {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: FileId,
    pub(super) secret: Secret,
    pub(super) seed: Seed,
    pub(super) state: State,
    pub(super) segment_bytes: u64,
    /// The file was found cut short: it ends here, in whole blocks.
    pub(super) cut_at: Option<u64>,
    pub(super) first_life: bool,
    /// The life whose place this one takes, until both heads are written.
    pub(super) replaces: Option<SegmentNumber>,
    /// Where the next batch goes.
    pub(super) next_at: u64,
    /// Batches issued in this life.
    pub(super) ordinal: u32,
    pub(super) live: LiveSet,
    /// Of those, the ones that a notice is owed by, as far as they were told, and their octets.
    pub(super) owed: BTreeMap<u32, u32>,
    /// For records here whose content is in extents: the segments that hold them.
    pub(super) pins: BTreeMap<u32, Box<[SegmentNumber]>>,
    /// Extents here that a record or a body under way needs.
    pub(super) extent_pins: u32,
    /// Other segments of whose records settles or marks stand here and nowhere else.
    pub(super) refs: BTreeSet<SegmentNumber>,
    /// Poisoned segments of which records are cancelled here. A mark cannot say that, because what hangs on a cancelled
    /// record did not happen either: this segment stays until those are gone or have a footer.
    pub(super) cancels: BTreeSet<SegmentNumber>,
    last_ref: Option<SegmentNumber>,
    /// Those settles and marks, as items.
    pub(super) foreign: Notes,
    /// What the footer will say of each record.
    pub(super) properties: Notes,
    /// Memory for more of both, while it is open.
    spare: Pieces,
    /// Octets of bitmaps that the footer may need.
    bitmap_bytes: u64,
    /// A batch under way says what is live in all that it refers to.
    pub(super) marking: bool,
    /// Damage here was not yet put aside, or what the next start may read needs this: not to be overwritten.
    pub(super) kept: bool,
    /// More may be live here than is known: the disk refused to give a part of it.
    pub(super) unread: bool,
    /// Closed: how many records were live in it at that time, since when few have left.
    pub(super) calm: Option<(usize, Tick)>,
    /// Records were moved out of it.
    pub(super) is_moved: bool,
}

impl Segment {
    /// It is kept by notices alone that are owed, and they are few.
    pub(super) fn is_held_by_notices(&self) -> bool {
        let count = self.owed.len();
        // Each by the blocks that a batch of its own takes, or they would be moved in a circle.
        let block = BLOCK as u64;
        let bytes = || self.owed.values().map(|&bytes| u64::from(bytes).next_multiple_of(block)).sum::<u64>();
        let is_all = count > 0 && self.live.count() == count && self.extent_pins == 0 && !self.kept;
        is_all && self.state == State::Closed && bytes() <= self.segment_bytes / SPARSE_SHARE
    }

    pub(super) fn new(file: FileId, secret: Secret, segment_bytes: u64) -> Self {
        Self {
            file,
            secret,
            seed: Seed::of(secret),
            state: State::Preparing,
            segment_bytes,
            cut_at: None,
            first_life: true,
            replaces: None,
            next_at: BLOCK as u64,
            ordinal: 0,
            live: LiveSet::default(),
            owed: BTreeMap::new(),
            pins: BTreeMap::new(),
            extent_pins: 0,
            refs: BTreeSet::new(),
            cancels: BTreeSet::new(),
            last_ref: None,
            foreign: Notes::default(),
            properties: Notes::default(),
            spare: Pieces::default(),
            bitmap_bytes: 0,
            marking: false,
            kept: false,
            unread: false,
            calm: None,
            is_moved: false,
        }
    }

    /// Uses this memory for what its footer will say.
    pub(super) fn reuse(&mut self, spare: Pieces) {
        self.spare = spare;
    }

    /// Takes no more batches: the memory that was not needed.
    pub(super) fn spare(&mut self) -> Pieces {
        std::mem::take(&mut self.spare)
    }

    /// The footer says it now, or nobody asks: what was noted is forgotten. Its memory.
    pub(super) fn forget_notes(&mut self) -> Pieces {
        self.properties.clear(&mut self.spare);
        self.foreign.clear(&mut self.spare);
        self.spare()
    }

    /// Where the copy of the head stands.
    pub(super) fn copy_at(&self) -> u64 {
        self.segment_bytes.saturating_sub(BLOCK as u64)
    }

    /// Where batches and footer end at the latest: before the copied head, or where the file was cut.
    pub(super) fn end(&self) -> u64 {
        self.copy_at().min(self.cut_at.unwrap_or(u64::MAX))
    }

    /// What messages leave to settles in the last segment.
    pub(super) fn reserve(&self) -> u64 {
        self.segment_bytes / RESERVE_SHARE
    }

    /// Where batches must end: before the footer, if it were written now with so much more in it, and the copied head.
    pub(super) fn batches_end(&self, footer_more: u64) -> u64 {
        let footer = self.footer_bytes_max().saturating_add(footer_more).next_multiple_of(BLOCK as u64);
        self.copy_at().saturating_sub(footer)
    }

    /// Octets of the footer, at most.
    pub(super) fn footer_bytes_max(&self) -> u64 {
        // Live entries take 8 octets where a property entry takes 132 and more: one eighth more covers them. Pins take
        // no more than the extents that the property section lists.
        let properties = self.properties.bytes();
        let copied = properties.saturating_mul(2).saturating_add(self.foreign.bytes());
        copied.saturating_add(self.bitmap_bytes).saturating_add(OWN_BYTES)
    }

    /// Notes what the footer will say of a record.
    pub(super) fn note_properties(&mut self, head: &[u8; RECORD_HEAD_BYTES], extents: &[u8], envelope: &[u8]) {
        let envelope = if envelope.len() <= PROPERTY_ENVELOPE_BYTES_MAX { envelope } else { &[] };
        let bytes = RECORD_HEAD_BYTES.saturating_add(extents.len()).saturating_add(envelope.len());
        self.properties.add(&mut self.spare, bytes.saturating_add(4), |into| {
            into.extend_from_slice(&length(bytes).to_le_bytes());
            into.extend_from_slice(head);
            into.extend_from_slice(extents);
            into.extend_from_slice(envelope);
        });
    }

    /// Octets that `note_properties` will add to the footer, at most.
    pub(super) fn property_bytes(head: &RecordHead) -> u64 {
        let envelope = u64::from(head.envelope_bytes).min(PROPERTY_ENVELOPE_BYTES_MAX as u64);
        let entry = ENTRY_BYTES.saturating_add(envelope).saturating_add(head.extents_bytes());
        entry.saturating_mul(2).saturating_add(Self::bitmap_bytes_of(head.recipients))
    }

    fn bitmap_bytes_of(recipients: u16) -> u64 {
        if recipients > 1 { u64::from(recipients.div_ceil(64)) * 8 } else { 0 }
    }

    pub(super) fn note_recipients(&mut self, recipients: u16) {
        self.bitmap_bytes = self.bitmap_bytes.saturating_add(Self::bitmap_bytes_of(recipients));
    }

    /// Notes a settle that stands here and is about another segment.
    pub(super) fn note_settle(&mut self, settle: &Settle) {
        self.foreign.add(&mut self.spare, batch::ITEM_BYTES, |into| batch::put_settle(into, settle, None));
        let number = settle.id.number();
        if settle.outcome == Outcome::Cancelled {
            self.cancels.insert(number);
        }
        if self.last_ref != Some(number) {
            self.last_ref = Some(number);
            self.refs.insert(number);
        }
    }

    /// A settle that stands here, in segment `number`, was read back.
    pub(super) fn read_settle(&mut self, number: SegmentNumber, settle: &Settle) {
        if settle.id.number() == number {
            self.settle(settle.id.place(), settle.recipient);
        } else {
            self.note_settle(settle);
        }
    }

    /// Notes a mark that stands here.
    pub(super) fn note_live(&mut self, number: SegmentNumber, live: &LiveSet) {
        let bytes = batch::ITEM_BYTES.saturating_add(live.encoded_bytes());
        self.foreign.add(&mut self.spare, bytes, |into| batch::put_live(into, number, live));
        self.refs.insert(number);
    }

    /// Another batch says what is live in `number`: settles of it that stand here are not needed any more.
    pub(super) fn drop_ref(&mut self, number: SegmentNumber) {
        self.refs.remove(&number);
        if self.last_ref == Some(number) {
            self.last_ref = None;
        }
    }

    /// Settles here; true when the record became dead space.
    pub(super) fn settle(&mut self, place: u32, recipient: u16) -> super::live::Settled {
        self.live.settle(place, recipient)
    }
}
