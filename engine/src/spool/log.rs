//! One shard's log: takes records and outcomes, gathers them into batches, and orders the writes.
//!
//! The shell's part, in a loop: while [`Log::wants`] asks for a file, bring one by [`Log::give`]; when nothing is in flight
//! and [`Log::pending`], yield once, take [`Log::seal`]'s order, write its parts where it says, and tell
//! [`Log::written`] how that ended. Who waits for a [`Ticket`] is the shell's business.
//!
//! Memory: per queued message eight octets (its place, unsettled recipients and weight), a bitmap more when it is settled in part;
//! per open segment what its footer will say of the records in it (at most a quarter of the segment); per segment a few
//! hundred octets. Batches in the making are charged to the pool.

use super::batch::{self, ALL_RECIPIENTS, Outcome, Settle};
use super::extents::{Extents, own_bytes};
use super::ids::{FileId, Numbers, RecordId, Secret, SegmentNumber, Ticket};
use super::notes::Pieces;
use super::pack::Batch;
use super::record::{Facts, Placement, RECORD_TEXT_BYTES_MAX, RecordHead, RecordKind};
use super::renamed::Renamed;
use super::room::Need;
use super::segment::{Segment, Segments, State};
use super::sparse::Look;
use super::write::{Chore, Flight};
use super::{BLOCK, Durability, OWN_BYTES_MAX, PACKED_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::sys::slice::{Fill, Pool, Slice};
use crate::sys::spare::Spare;
use crate::wire::Wall;
use std::collections::{BTreeSet, VecDeque};

/// How a log is set up.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// Whose log it is; kept in each segment's head.
    pub shard: u16,
    /// What a commit promises.
    pub durability: Durability,
    /// Octets of each segment; a multiple of the block, [`SEGMENT_BYTES_MIN`] at least.
    pub segment_bytes: u64,
    /// A batch that has reached so many octets takes no more; the next one starts.
    pub batch_bytes_max: u64,
    /// Where segment numbers come from.
    pub numbers: Numbers,
}

/// A message to be kept.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// What it is for.
    pub kind: RecordKind,
    /// The encoded envelope, [`RECORD_TEXT_BYTES_MAX`] octets at most.
    pub envelope: &'a [u8],
    /// Recipients in it: 1 to 65 534.
    pub recipients: u16,
    /// The trace header that we put in front, [`RECORD_TEXT_BYTES_MAX`] octets at most.
    pub trace: &'a [u8],
    /// What is known of the content.
    pub facts: &'a Facts,
    /// Higher leaves first.
    pub priority: u8,
    /// When it was received.
    pub received: Wall,
    /// The content.
    pub content: Content<'a>,
    /// Outcomes that become true together with this record or not at all (a bounce and the original's failure).
    pub settles: &'a [Settle],
}

/// Where a message's content is.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// Pieces to be copied into the batch: the one copy. [`PACKED_BYTES_MAX`] octets at most.
    Octets(&'a [&'a [u8]]),
    /// Chunks to be written as they are: every slice aligned and whole blocks, all content but for zeros behind the last
    /// octet of the last one. [`OWN_BYTES_MAX`] octets at most. Must stay as they are (they are shared, so they do).
    Chunks(&'a [Slice]),
    /// Written while it arrived, by [`Log::extent`]; taken over by the record when `append` succeeds.
    Extents(&'a Extents),
}

/// A record that was put into a batch.
#[derive(Debug)]
pub struct Appended {
    /// Its name from now on. It means nothing before `ticket` is durable.
    pub id: RecordId,
    /// When it is durable.
    pub ticket: Ticket,
    /// The envelope, as it was given.
    pub envelope: Slice,
    /// The trace header, for delivery.
    pub trace: Slice,
    /// The content, if it was copied into the batch; else it is where the caller had it.
    pub content: Option<Slice>,
}

/// Why nothing was taken. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The next segment is being prepared: try again after the next completion.
    #[error("the next segment is not ready")]
    Segment,
    /// There is no file for a next segment ([`Log::no_file`]): 452 for messages; deliveries pause when settles get this
    /// (F-022, F-024).
    #[error("no space for a further segment")]
    Space,
    /// No memory to gather the batch in: back pressure.
    #[error("no memory for the batch")]
    Memory,
    /// It does not fit the format's bounds, whenever it is tried.
    #[error("larger than a record may be")]
    TooLarge,
    /// An extent of the body stands in a segment that was lost since: 451 for this message.
    #[error("a part of the body could not be kept")]
    Lost,
}

/// What the log needs from the shell to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A new file of `segment_bytes` octets that exist and read as zero.
    File,
    /// Only a fresh secret: this file gets its next life.
    Recycle(FileId),
}

/// One shard's log.
#[derive(Debug)]
pub struct Log {
    pub(super) options: LogOptions,
    pub(super) pool: Pool,
    /// No further segment is wanted: the process ends.
    pub(super) closed: bool,
    /// Memory in hand, so that outcomes can be written when the budget is spent.
    pub(super) in_hand: Option<Fill>,
    pub(super) segments: Segments,
    pub(super) current: Option<SegmentNumber>,
    pub(super) spare: Option<SegmentNumber>,
    /// Where moved mail goes, open beside the current one.
    pub(super) cold: Option<SegmentNumber>,
    /// The two have changed places for the moment.
    pub(super) is_apart: bool,
    /// Which segments are sparse.
    pub(super) look: Look,
    /// Segments given up of which records were moved because they had become sparse.
    pub(super) rewritten: u64,
    /// The shell said that it has no file, or the disk takes no heads.
    pub(super) no_space: bool,
    /// Files in a row whose heads could not be written.
    pub(super) heads_failed: u32,
    pub(super) chores: VecDeque<Chore>,
    /// Batches written since the last chore.
    pub(super) batches_between: u32,
    pub(super) open: Option<Batch>,
    /// Finished batches, oldest first, waiting for the one in flight.
    pub(super) ready: VecDeque<Batch>,
    pub(super) flight: Option<Flight>,
    pub(super) next_ticket: u64,
    /// Settles that must be written (again) and have no batch yet.
    pub(super) owed: Vec<Settle>,
    /// The first ticket that one of them was promised by.
    pub(super) owed_since: Option<u64>,
    /// A dead segment waits for something before it can be reclaimed.
    pub(super) reclaim_due: bool,
    /// Somebody knows notices that are owed by their names.
    pub(super) knows_owed: bool,
    /// Records that were or are being relocated.
    pub(super) renamed: Renamed,
    /// Records of poisoned segments that cannot be read: they stay where they are.
    pub(super) left: BTreeSet<RecordId>,
    /// Records of poisoned segments that could not be relocated for the moment: others go first.
    pub(super) put_off: BTreeSet<RecordId>,
    /// Emptied batches and lists, for their memory.
    pub(super) spare_batches: Spare<Batch, SPARES_MAX>,
    pub(super) spare_parts: Spare<Vec<Slice>, SPARES_MAX>,
    /// Memory for what the next segment's footer will say.
    spare_pieces: Pieces,
}

/// Emptied batches and lists that are kept: one is open, one under way, and a few may wait to be written.
const SPARES_MAX: usize = 16;

/// One file may be bad; with so many in a row it is the disk.
pub(super) const HEADS_FAILED_MAX: u32 = 2;

/// Octets kept in hand for outcomes.
const IN_HAND_BYTES: usize = 64 << 10;

impl Log {
    /// An empty log.
    ///
    /// # Panics
    /// When the segment size is no whole number of blocks, too small, or too large for record ids.
    pub fn new(options: LogOptions, pool: Pool) -> Self {
        let bytes = options.segment_bytes;
        assert!(bytes.is_multiple_of(BLOCK as u64), "a segment is whole blocks");
        assert!((SEGMENT_BYTES_MIN..=super::SEGMENT_BYTES_LIMIT).contains(&bytes), "a segment of {bytes} octets");
        let in_hand = pool.fill(IN_HAND_BYTES);
        Self {
            options,
            pool,
            closed: false,
            in_hand,
            segments: Segments::default(),
            current: None,
            spare: None,
            cold: None,
            is_apart: false,
            look: Look::default(),
            rewritten: 0,
            no_space: false,
            heads_failed: 0,
            chores: VecDeque::new(),
            batches_between: 0,
            open: None,
            ready: VecDeque::new(),
            flight: None,
            next_ticket: 1,
            owed: Vec::new(),
            owed_since: None,
            reclaim_due: false,
            knows_owed: false,
            renamed: Renamed::default(),
            left: BTreeSet::new(),
            put_off: BTreeSet::new(),
            spare_batches: Spare::default(),
            spare_parts: Spare::default(),
            spare_pieces: Pieces::default(),
        }
    }

    /// What the log needs from the shell. Asks before the current segment is full; asks on after [`Log::no_file`], so the
    /// shell decides when to look for space again. Of files whose heads cannot be written there is one at a time: it asks
    /// for another when [`Log::unborn`] is gone.
    pub fn wants(&self) -> Option<Want> {
        if self.closed
            || self.spare.is_some()
            || self.segments.values().any(|segment| matches!(segment.state, State::Preparing | State::Unborn))
        {
            return None;
        }
        let free = self.segments.values().find(|segment| segment.state == State::Free && !segment.kept);
        Some(free.map_or(Want::File, |segment| Want::Recycle(segment.file)))
    }

    /// Nothing more will be put in: segments get their footers, from which the next start sees that this one ended well
    /// (F-013). To be called when everything was written; [`Log::pending`] says when the footers are.
    pub fn close(&mut self) {
        if self.closed || self.has_batches_left() {
            return;
        }
        self.closed = true;
        self.drop_open();
        self.close_segment();
        self.current = self.cold.take();
        self.close_segment();
        self.current = self.spare.take();
        self.close_segment();
    }

    /// Whether there is a segment to write to.
    pub fn has_segment(&self) -> bool {
        self.current.is_some() || self.spare.is_some()
    }

    /// Brings what [`Log::wants`] asked for: a file (new and zero-filled, or the one to be recycled) and a fresh secret.
    pub fn give(&mut self, file: FileId, secret: Secret) {
        self.no_space &= self.heads_failed >= HEADS_FAILED_MAX;
        let number = self.options.numbers.take();
        let mut segment = Segment::new(file, secret, self.options.segment_bytes);
        let old = self.segments.iter().find(|(_, old)| old.file == file && old.state == State::Free);
        if let Some((&old, was)) = old {
            segment.segment_bytes = was.segment_bytes;
            segment.first_life = false;
            segment.replaces = Some(old);
        }
        self.segments.insert(number, segment);
        self.chores.push_front(Chore::HeadCopy(number));
        self.chores.push_front(Chore::Head(number));
    }

    /// There is no file to be had now (ENOSPC, EMFILE …).
    pub fn no_file(&mut self) {
        self.no_space = true;
    }

    /// Whether no further segment was to be had when the shell looked last, for whatever reason.
    pub fn is_short(&self) -> bool {
        self.no_space
    }

    /// Files in a row of which the disk did not take the heads. From the second on it is as after [`Log::no_file`] until one
    /// succeeds; how long to wait before the next is the shell's business.
    pub fn heads_failed(&self) -> u32 {
        self.heads_failed
    }

    /// Whether a message of so many octets will probably find a place: asked before its content is taken. No further
    /// segment is to be had when it says no, and what is left of the last one is too little.
    pub fn has_room_for(&self, octets: u64) -> bool {
        if !self.no_space || self.spare.is_some() {
            return true;
        }
        let Some(segment) = self.current.and_then(|number| self.segments.get(&number)) else { return false };
        let end = self.open.as_ref().map_or(segment.next_at, Batch::end).next_multiple_of(BLOCK as u64);
        // Its envelope, and a batch's head, table and padding; and a block for its entry in the footer.
        let more = segment.reserve().saturating_add((BLOCK as u64).saturating_mul(5));
        end.saturating_add(octets).saturating_add(more) <= segment.batches_end(BLOCK as u64)
    }

    /// Puts a record into the open batch.
    ///
    /// # Errors
    /// Flow control, see [`Full`]; nothing has changed then.
    ///
    /// # Panics
    /// When the content does not agree with its facts, or chunks are not whole aligned blocks: the caller's mistake.
    pub fn append(&mut self, new: &NewRecord<'_>) -> Result<Appended, Full> {
        self.append_as(new, None, &[])
    }

    /// The same for a record that replaces `was`, of which these recipients are settled.
    pub(super) fn append_as(
        &mut self,
        new: &NewRecord<'_>,
        was: Option<RecordId>,
        settled: &[u16],
    ) -> Result<Appended, Full> {
        let head = Self::head_of(new, was)?;
        let own = match new.content {
            Content::Chunks(slices) => own_bytes(slices, new.facts.body_bytes),
            _ => 0,
        };
        if let Content::Extents(extents) = new.content {
            self.check_extents(extents, new.facts.body_bytes)?;
        }
        let items = new.settles.len().saturating_add(settled.len()).saturating_add(1);
        let need = Need {
            packed: head.packed_bytes(),
            own,
            table: batch::item_bytes(items),
            footer: Segment::property_bytes(&head).saturating_add(batch::item_bytes(new.settles.len())),
            // What is kept at a segment's end is for outcomes, and for what goes with them.
            message: new.kind == RecordKind::Message || was.is_some(),
        };
        if let Content::Extents(extents) = new.content {
            self.make_room(&need)?;
            self.check_order(extents)?;
        }
        let mut room = self.make_room(&need)?;
        let appended = room.put_record(new, head);
        for &recipient in settled {
            let settle = Settle { id: appended.id, recipient, outcome: Outcome::Moved };
            room.put_settle(settle, Some(appended.id.place()));
        }
        Ok(appended)
    }

    fn head_of(new: &NewRecord<'_>, was: Option<RecordId>) -> Result<RecordHead, Full> {
        assert!(new.recipients > 0 && new.recipients < ALL_RECIPIENTS, "a record has 1 to 65534 recipients");
        let bounded = new.envelope.len() <= RECORD_TEXT_BYTES_MAX && new.trace.len() <= RECORD_TEXT_BYTES_MAX;
        let (placement, content_max) = match new.content {
            Content::Octets(_) => (Placement::Packed, PACKED_BYTES_MAX as u64),
            Content::Chunks(_) => (Placement::Own { block: 0 }, OWN_BYTES_MAX),
            Content::Extents(extents) => {
                let count = u16::try_from(extents.list.len()).map_err(|_| Full::TooLarge)?;
                (Placement::Extents { count }, u64::MAX)
            }
        };
        if !bounded || new.facts.body_bytes > content_max {
            return Err(Full::TooLarge);
        }
        Ok(RecordHead {
            // Its own is known when it is put in.
            id: RecordId::at_place(SegmentNumber::FIRST, 0),
            was,
            kind: new.kind,
            recipients: new.recipients,
            priority: new.priority,
            received: new.received,
            envelope_bytes: u32::try_from(new.envelope.len()).map_err(|_| Full::TooLarge)?,
            trace_bytes: u32::try_from(new.trace.len()).map_err(|_| Full::TooLarge)?,
            placement,
            facts: *new.facts,
        })
    }

    /// Writes down what became of a recipient, or of all ([`ALL_RECIPIENTS`]). The ticket says when it is durable
    /// ([`Log::settled_upto`]). A record that is not (or no longer) here is left alone.
    ///
    /// # Errors
    /// Flow control; deliveries pause until it succeeds (F-024).
    pub fn settle(&mut self, id: RecordId, recipient: u16, outcome: Outcome) -> Result<Ticket, Full> {
        let settle = Settle { id, recipient, outcome };
        let mut ticket = self.put_settle(settle)?;
        let mut name = id;
        while let Some(now) = self.renamed.after(name) {
            // Where it stood first may be gone; where it stands now counts.
            ticket = ticket.max(self.put_settle(Settle { id: now, ..settle })?);
            name = now;
        }
        Ok(ticket)
    }

    /// Puts a record into the open batch that says why recipients of `original` failed, and with it that they did: both are
    /// durable or none is. Nothing is written when the original is not here any more: all of it was settled.
    ///
    /// # Errors
    /// Flow control; nothing has changed then.
    pub fn append_owed(
        &mut self,
        original: RecordId,
        failed: &[u16],
        owed: &NewRecord<'_>,
    ) -> Result<Option<Appended>, Full> {
        let here = self.names_here(original);
        let settle = |id| failed.iter().map(move |&recipient| Settle { id, recipient, outcome: Outcome::Failed });
        let settles: Vec<Settle> = here.flat_map(settle).collect();
        if settles.is_empty() {
            return Ok(None);
        }
        self.append(&NewRecord { settles: &settles, ..*owed }).map(Some)
    }

    /// Puts a report into the open batch, and with it that the notices it was made from are done: all of that is durable or
    /// nothing. Nothing is written when none of them is here any more. To be called only after [`Log::know_owed`].
    ///
    /// # Errors
    /// Flow control; nothing has changed then.
    pub fn append_report(&mut self, owed: &[RecordId], report: &NewRecord<'_>) -> Result<Option<Appended>, Full> {
        let here = owed.iter().flat_map(|&id| self.names_here(id));
        let done = |id| Settle { id, recipient: ALL_RECIPIENTS, outcome: Outcome::Delivered };
        let settles: Vec<Settle> = here.map(done).collect();
        if settles.is_empty() {
            return Ok(None);
        }
        self.append(&NewRecord { settles: &settles, ..*report }).map(Some)
    }

    /// From now on notices are known by the names that they were appended by, however often they move.
    pub fn know_owed(&mut self) {
        self.knows_owed = true;
    }

    /// All names of a record whose segments are still here.
    fn names_here(&self, id: RecordId) -> impl Iterator<Item = RecordId> + '_ {
        let names = std::iter::successors(Some(id), |name| self.renamed.after(*name));
        names.filter(|name| self.segments.contains_key(&name.number()))
    }

    /// Takes a durable record back: it will not be delivered.
    ///
    /// # Errors
    /// Flow control.
    pub fn cancel(&mut self, id: RecordId) -> Result<Ticket, Full> {
        self.settle(id, ALL_RECIPIENTS, Outcome::Removed)
    }

    pub(super) fn put_settle(&mut self, settle: Settle) -> Result<Ticket, Full> {
        if !self.segments.contains_key(&settle.id.number()) {
            // The whole segment is gone: everything in it was settled, durably.
            return Ok(Ticket(0));
        }
        let bytes = batch::ITEM_BYTES as u64;
        let mut room = self.make_room(&Need { table: bytes, footer: bytes, ..Need::default() })?;
        Ok(room.put_settle(settle, None))
    }

    pub(super) fn out_of_segments(&self) -> Full {
        if self.no_space { Full::Space } else { Full::Segment }
    }

    pub(super) fn open_batch(&mut self) -> Result<(), Full> {
        let number = match self.current {
            Some(number) => number,
            None => self.next_segment()?,
        };
        let at = self.segments.of(number).next_at;
        let mut batch = Batch::new(number, at, self.next_ticket, self.spare_batches.pop());
        batch.parts = self.spare_parts.take();
        batch.is_apart = self.is_apart;
        self.next_ticket = self.next_ticket.saturating_add(1);
        self.open = Some(batch);
        Ok(())
    }

    fn next_segment(&mut self) -> Result<SegmentNumber, Full> {
        let number = self.spare.take().ok_or_else(|| self.out_of_segments())?;
        let segment = self.segments.of_mut(number);
        segment.state = State::Open;
        segment.reuse(std::mem::take(&mut self.spare_pieces));
        self.current = Some(number);
        Ok(number)
    }

    /// Keeps the memory of what a footer was made of: what one segment can need, and one more that is being closed.
    pub(super) fn keep_pieces(&mut self, mut pieces: Pieces) {
        self.spare_pieces.gather(&mut pieces, self.options.segment_bytes / 4);
    }

    /// Goes on in the next segment; the open batch, if any, is empty.
    pub(super) fn rotate(&mut self) -> Result<(), Full> {
        if self.spare.is_none() {
            return Err(self.out_of_segments());
        }
        self.drop_open();
        self.close_segment();
        self.next_segment().map(|_| ())
    }

    pub(super) fn drop_open(&mut self) {
        if let Some(batch) = self.open.take() {
            self.keep_batch(batch);
        }
    }

    /// The current segment takes no more batches; its footer comes when its batches are written.
    pub(super) fn close_segment(&mut self) {
        let Some(number) = self.current.take() else { return };
        let segment = self.segments.of_mut(number);
        segment.state = State::Closing;
        let pieces = segment.spare();
        self.keep_pieces(pieces);
        self.chores.push_back(Chore::Footer(number));
    }

    /// The open batch takes no more: it waits for its write.
    pub(super) fn close_batch(&mut self) -> Result<(), Full> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let segment = self.segments.of_mut(open.number);
        open.finish(&self.pool, &mut self.in_hand, segment.seed)?;
        segment.next_at = open.end();
        self.ready.extend(self.open.take());
        if self.in_hand.is_none() {
            self.in_hand = self.pool.fill(IN_HAND_BYTES);
        }
        Ok(())
    }

    /// Keeps an emptied batch for its memory.
    pub(super) fn keep_batch(&mut self, mut batch: Batch) {
        batch.clear();
        // Its parts are with its write, if it had one.
        let parts = std::mem::take(&mut batch.parts);
        self.keep_parts(parts);
        self.spare_batches.keep(batch);
    }

    /// The same for what a write was made of.
    pub(super) fn keep_parts(&mut self, mut parts: Vec<Slice>) {
        parts.clear();
        if parts.capacity() > 0 {
            self.spare_parts.keep(parts);
        }
    }
}
