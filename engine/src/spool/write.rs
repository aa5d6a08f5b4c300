//! The log's writes: one order at a time, and what follows from how it ended.

use super::BLOCK;
use super::batch::{ALL_RECIPIENTS, Outcome, Settle};
use super::head::SegmentHead;
use super::ids::{FileId, RecordId, SegmentNumber, Ticket};
use super::live::Settled;
use super::log::{HEADS_FAILED_MAX, Log};
use super::pack::Batch;
use super::segment::State;
use super::{Durability, footer};
use crate::planted;
use crate::sys::slice::Slice;
use std::ops::RangeInclusive;

/// Work besides batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chore {
    /// A new life's head, first block.
    Head(SegmentNumber),
    /// The same, last block.
    HeadCopy(SegmentNumber),
    /// What is live in a segment that takes no more.
    Footer(SegmentNumber),
}

/// What is being written.
#[derive(Debug)]
pub(super) struct Flight {
    what: What,
    file: FileId,
    at: u64,
    bytes: u64,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one exists per log; a box would be an allocation per batch")]
enum What {
    Batch(Batch),
    Chore(Chore),
}

impl What {
    /// It carries records that stood elsewhere or outcomes whose first place is used anew then (marks), or is a head, without
    /// which a file could not be read.
    fn replaces(&self) -> bool {
        match self {
            Self::Batch(batch) => batch.is_apart || !batch.moved.is_empty() || !batch.marks.is_empty(),
            Self::Chore(Chore::Head(_) | Chore::HeadCopy(_)) => true,
            Self::Chore(Chore::Footer(_)) => false,
        }
    }
}

/// A write to be performed.
#[derive(Debug)]
pub struct Order {
    /// Into this file.
    pub file: FileId,
    /// At this offset, a multiple of the block.
    pub at: u64,
    /// These parts, one behind the other: aligned, whole blocks.
    pub parts: Vec<Slice>,
    /// Octets of all parts.
    pub bytes: u64,
    /// It counts only when the octets are on stable storage.
    pub stable: bool,
}

/// What the write in flight carries, for the hooks of tests.
#[cfg(feature = "fail-points")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carries {
    /// Messages that somebody waits for.
    pub messages: bool,
    /// So many outcomes.
    pub settles: usize,
    /// A segment's head or footer.
    pub head: bool,
}

/// How a write ended, as the shell knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteResult {
    /// So many octets were written, all of them or fewer.
    Octets(usize),
    /// It failed, or nobody knows.
    Failed,
}

/// What follows from a completed write.
#[derive(Debug)]
pub enum Written {
    /// Every record up to this ticket is durable, in the mode's sense, but for tickets named in a [`Failure`]. Outcomes
    /// are as far as [`Log::settled_upto`] says.
    Durable(Ticket),
    /// Housekeeping; nobody waits.
    Chore,
    /// It was short: write the rest (F-021).
    Rest(Order),
    /// It failed.
    Failed(Failure),
}

/// A failed write of a batch. Its segment is poisoned; nothing will be written there again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The file, for the alarm.
    pub file: FileId,
    /// What was being written may or may not stand on disk. Messages of this ticket get 451 only when `cancelled_by` is
    /// durable; if that fails, or is `None`, their connections close without a reply.
    pub in_doubt: Option<Ticket>,
    /// The last of the batches that cancel them and carry the outcomes that stood in failed batches: done when
    /// [`Log::settled_upto`] has reached it. An outcome that hung on a record of a failed batch is not carried: it never
    /// happened.
    pub cancelled_by: Option<Ticket>,
    /// Batches that were never given to the disk: 451 at once.
    pub unwritten: Option<RangeInclusive<u64>>,
}

impl Failure {
    /// Whether this is the ticket of a batch that failed.
    pub fn holds(&self, ticket: Ticket) -> bool {
        self.in_doubt == Some(ticket) || self.unwritten.as_ref().is_some_and(|unwritten| unwritten.contains(&ticket.0))
    }
}

/// So many batches may pass before a chore that could wait gets its turn.
const CHORE_WAIT_BATCHES: u32 = 16;

/// With more chores waiting than one segment's heads and footer and another's footer, batches wait.
const CHORES_MAX: usize = 4;

impl Log {
    /// Something is to be written.
    pub fn pending(&self) -> bool {
        self.has_batch() || self.can_flush_owed() || self.due_chore().is_some()
    }

    /// An order is with the shell.
    pub fn is_writing(&self) -> bool {
        self.flight.is_some()
    }

    /// Something is to be written that should not wait for more to come: everything but outcomes that were put in since
    /// the last write. To be asked after each write, and after [`Log::abandon`] and [`Log::removed`]: nobody else asks
    /// for what stands in the open batch on the log's own account.
    pub fn is_urgent(&self) -> bool {
        let open = self.open.as_ref().is_some_and(|open| open.is_urgent && !open.is_empty());
        open || !self.ready.is_empty() || self.can_flush_owed() || self.due_chore().is_some()
    }

    /// Outcomes wait for a batch, and there is a segment to open one in.
    fn can_flush_owed(&self) -> bool {
        !self.owed.is_empty() && self.current.or(self.spare).is_some()
    }

    /// What the order that is with the shell carries.
    #[cfg(feature = "fail-points")]
    pub fn in_flight(&self) -> Carries {
        match self.flight.as_ref().map(|flight| &flight.what) {
            Some(What::Batch(batch)) => {
                let messages = !batch.records.is_empty() && batch.moved.is_empty();
                Carries { messages, settles: batch.settles.len(), head: false }
            }
            Some(What::Chore(_)) => Carries { head: true, ..Carries::default() },
            None => Carries::default(),
        }
    }

    /// Whether anything was put in that is not written yet.
    pub(super) fn has_batches_left(&self) -> bool {
        self.has_batch() || self.flight.is_some() || !self.owed.is_empty()
    }

    fn has_batch(&self) -> bool {
        !self.ready.is_empty() || self.open.as_ref().is_some_and(|open| !open.is_empty())
    }

    /// Whether batches of this segment are not written yet.
    pub(super) fn has_batches(&self, number: SegmentNumber) -> bool {
        let of = |batch: &Batch| batch.number == number;
        self.open.as_ref().is_some_and(|open| of(open) && !open.is_empty())
            || self.ready.iter().any(of)
            || self.flight.as_ref().is_some_and(|flight| matches!(&flight.what, What::Batch(batch) if of(batch)))
    }

    /// Whether a batch that was put apart is not written yet.
    pub fn has_batches_apart(&self) -> bool {
        self.open.iter().chain(&self.ready).any(|batch| batch.is_apart) || self.is_writing_apart()
    }

    /// Whether the order that is with the shell is such a batch.
    pub fn is_writing_apart(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| matches!(&flight.what, What::Batch(batch) if batch.is_apart))
    }

    /// Whether batches of any other segment are not written yet.
    pub(super) fn has_batches_outside(&self, number: SegmentNumber) -> bool {
        let other = |batch: &Batch| batch.number != number;
        self.ready.iter().any(other)
            || self.flight.as_ref().is_some_and(|flight| matches!(&flight.what, What::Batch(batch) if other(batch)))
    }

    /// Whether this segment's footer is being written.
    pub(super) fn writes_footer(&self, number: SegmentNumber) -> bool {
        let footer = Chore::Footer(number);
        self.flight.as_ref().is_some_and(|flight| matches!(flight.what, What::Chore(chore) if chore == footer))
    }

    /// Whether outcomes of this record are not written yet.
    pub(super) fn settles_pending(&self, id: RecordId) -> bool {
        let of = |batch: &Batch| batch.settles.iter().any(|pending| pending.settle.id == id);
        self.open.as_ref().is_some_and(of)
            || self.ready.iter().any(of)
            || self.owed.iter().any(|settle| settle.id == id)
            || self.flight.as_ref().is_some_and(|flight| matches!(&flight.what, What::Batch(batch) if of(batch)))
    }

    fn due_chore(&self) -> Option<usize> {
        self.chores.iter().position(|chore| match chore {
            Chore::Head(_) | Chore::HeadCopy(_) => true,
            Chore::Footer(number) => {
                // It may stand where something damaged is kept.
                let kept = self.segments.get(number).is_some_and(|segment| segment.kept);
                !kept && !self.has_batches(*number)
            }
        })
    }

    /// The next write; `None` while one is in flight, when there is nothing to write, or when there is no memory for it
    /// now (try again when some came back).
    pub fn seal(&mut self) -> Option<Order> {
        if self.flight.is_some() {
            return None;
        }
        self.flush_owed();
        let chore_first = !self.has_batch() || self.is_tight() || self.batches_between >= CHORE_WAIT_BATCHES;
        if chore_first && let Some(order) = self.issue_chore() {
            self.batches_between = 0;
            return Some(order);
        }
        if self.ready.is_empty() && self.has_batch() {
            self.close_batch().ok()?;
        }
        match self.ready.pop_front() {
            Some(batch) => Some(self.issue_batch(batch)),
            None => self.issue_chore(),
        }
    }

    /// The next segment will be needed soon and is not prepared, or too many chores wait.
    fn is_tight(&self) -> bool {
        let current = self.current.and_then(|number| self.segments.get(&number));
        let half_full = current.is_none_or(|segment| segment.next_at >= segment.segment_bytes / 2);
        self.spare.is_none() && half_full || self.chores.len() > CHORES_MAX
    }

    fn issue_batch(&mut self, mut batch: Batch) -> Order {
        self.batches_between = self.batches_between.saturating_add(1);
        let segment = self.segments.of_mut(batch.number);
        segment.ordinal = segment.ordinal.saturating_add(1);
        // One write is in flight at a time, so whatever stands below this batch is durable already, if anything is.
        let synced_upto = if self.options.durability == Durability::Disk { batch.at } else { 0 };
        batch.write_header(segment.seed, segment.ordinal, synced_upto);
        let (file, at, bytes) = (segment.file, batch.at, batch.len);
        let parts = std::mem::take(&mut batch.parts);
        self.fly(Flight { what: What::Batch(batch), file, at, bytes }, parts)
    }

    /// It is with the shell now.
    fn fly(&mut self, flight: Flight, parts: Vec<Slice>) -> Order {
        let stable = match self.options.durability {
            Durability::Disk => true,
            // What takes the place of something that was written back long ago is not to be lost with the machine.
            Durability::Os => flight.what.replaces(),
            Durability::None => false,
        };
        let order = Order { file: flight.file, at: flight.at, parts, bytes: flight.bytes, stable };
        self.flight = Some(flight);
        order
    }

    fn issue_chore(&mut self) -> Option<Order> {
        let index = self.due_chore()?;
        let chore = *self.chores.get(index)?;
        let (number, at, parts) = match chore {
            Chore::Head(number) => (number, 0, self.head_parts(number)?),
            Chore::HeadCopy(number) => {
                let at = self.segments.get(&number)?.copy_at();
                (number, at, self.head_parts(number)?)
            }
            Chore::Footer(number) => {
                let exists = |other: SegmentNumber| self.segments.contains_key(&other);
                let segment = self.segments.get(&number)?;
                let parts = footer::build(number, segment, exists, self.options.durability, &self.pool)?;
                let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
                let at = segment.copy_at().saturating_sub(bytes);
                assert!(at >= segment.next_at, "room for the footer was left in segment {number}");
                (number, at, parts)
            }
        };
        self.chores.remove(index);
        let file = self.segments.get(&number)?.file;
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        Some(self.fly(Flight { what: What::Chore(chore), file, at, bytes }, parts))
    }

    fn head_parts(&mut self, number: SegmentNumber) -> Option<Vec<Slice>> {
        let segment = self.segments.get(&number)?;
        let head = SegmentHead {
            number,
            secret: segment.secret,
            segment_bytes: segment.segment_bytes,
            shard: self.options.shard,
            durability: self.options.durability,
            first_life: segment.first_life,
            file: segment.file,
        };
        let mut fill = self.pool.fill(BLOCK).or_else(|| self.in_hand.take())?;
        fill.put(&head.encode());
        let mut parts = self.spare_parts.take();
        parts.push(fill.take());
        Some(parts)
    }

    /// Takes the parts of the order in flight back, and how its write ended.
    ///
    /// # Panics
    /// When no order is in flight.
    pub fn written(&mut self, mut parts: Vec<Slice>, result: WriteResult) -> Written {
        let Some(mut flight) = self.flight.take() else { unreachable!("no order is in flight") };
        let written = match result {
            WriteResult::Octets(octets) if octets as u64 == flight.bytes => {
                self.keep_parts(parts);
                self.done(flight.what)
            }
            // Whole blocks count; a block written in part is written again with the same octets.
            WriteResult::Octets(octets) if octets >= BLOCK && (octets as u64) < flight.bytes => {
                let done = octets & !(BLOCK - 1);
                drop_front(&mut parts, done);
                flight.at = flight.at.saturating_add(done as u64);
                flight.bytes = flight.bytes.saturating_sub(done as u64);
                return Written::Rest(self.fly(flight, parts));
            }
            _ => Written::Failed(self.failed(flight)),
        };
        if self.reclaim_due {
            self.reclaim_all();
        }
        written
    }

    fn done(&mut self, what: What) -> Written {
        match what {
            What::Batch(batch) => {
                let ticket = Ticket(batch.ticket);
                self.apply(batch);
                Written::Durable(ticket)
            }
            What::Chore(chore) => {
                self.chore_done(chore);
                Written::Chore
            }
        }
    }

    fn chore_done(&mut self, chore: Chore) {
        match chore {
            Chore::Head(_) => {}
            Chore::HeadCopy(number) => {
                let Some(segment) = self.segments.get_mut(&number) else { return };
                segment.state = State::Spare;
                (self.heads_failed, self.no_space) = (0, false);
                let replaced = segment.replaces.take();
                self.spare = Some(number);
                if let Some(old) = replaced {
                    self.segments.remove(&old);
                    self.forget_refs(&[old]);
                }
            }
            Chore::Footer(number) => {
                if let Some(segment) = self.segments.get_mut(&number) {
                    segment.state = State::Closed;
                    segment.live.shrink();
                    let pieces = segment.forget_notes();
                    self.keep_pieces(pieces);
                }
                self.forget_cancels(number);
                self.reclaim(number);
            }
        }
    }

    /// What a durable batch makes true.
    fn apply(&mut self, batch: Batch) {
        let number = batch.number;
        let segment = self.segments.of_mut(number);
        for added in &batch.records {
            segment.live.push_weighing(added.place, added.recipients, added.octets);
            segment.owed.extend(added.owed.map(|bytes| (added.place, bytes)));
        }
        for (place, holders) in &batch.pins {
            segment.pins.insert(*place, holders.clone());
        }
        for pending in &batch.settles {
            self.apply_settle(&pending.settle);
        }
        if !batch.marks.is_empty() {
            self.refs_are_marked(&batch.marks, number);
        }
        self.keep_batch(batch);
    }

    fn apply_settle(&mut self, settle: &Settle) {
        let (number, place) = (settle.id.number(), settle.id.place());
        let Some(segment) = self.segments.get_mut(&number) else { return };
        if segment.settle(place, settle.recipient) != Settled::Wholly {
            return;
        }
        segment.is_moved |= settle.outcome == Outcome::Moved;
        let holders = segment.pins.remove(&place);
        let is_owed = segment.owed.remove(&place).is_some();
        let dead = segment.live.count() == 0;
        for holder in holders.into_iter().flatten() {
            self.unpin(holder);
        }
        if settle.outcome != Outcome::Moved {
            self.renamed.forget(settle.id);
        } else if is_owed
            && !self.knows_owed
            && let Some(now) = self.renamed.after(settle.id)
        {
            // Nobody knows a notice by its name.
            self.renamed.take_back(settle.id, now);
        }
        if dead {
            self.reclaim(number);
        }
    }

    fn failed(&mut self, flight: Flight) -> Failure {
        let mut failure = Failure { file: flight.file, in_doubt: None, cancelled_by: None, unwritten: None };
        match flight.what {
            What::Batch(batch) => {
                let number = batch.number;
                failure.in_doubt = Some(Ticket(batch.ticket));
                let cancelled = if planted!(ForgottenCancel) { 1 } else { usize::MAX };
                for added in batch.records.iter().take(cancelled) {
                    let id = RecordId::at_place(number, added.place);
                    self.owed.push(Settle { id, recipient: ALL_RECIPIENTS, outcome: Outcome::Cancelled });
                }
                failure.unwritten = self.poison(number);
                self.unmake(batch);
                failure.cancelled_by = self.flush_owed();
                self.reclaim(number);
            }
            What::Chore(Chore::Footer(number)) => {
                failure.unwritten = self.poison(number);
                failure.cancelled_by = self.flush_owed();
                self.reclaim(number);
            }
            What::Chore(Chore::Head(number) | Chore::HeadCopy(number)) => self.bad_file(number),
        }
        failure
    }

    /// Nothing more is written to this segment. Batches that wait for it are unmade; their tickets are returned.
    fn poison(&mut self, number: SegmentNumber) -> Option<RangeInclusive<u64>> {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.state = State::Poisoned;
            // It gets no footer.
            let pieces = segment.forget_notes();
            self.keep_pieces(pieces);
        }
        self.current = self.current.filter(|&current| current != number);
        self.cold = self.cold.filter(|&cold| cold != number);
        self.chores.retain(|chore| *chore != Chore::Footer(number));
        let mut tickets: Option<RangeInclusive<u64>> = None;
        let (mine, others) = std::mem::take(&mut self.ready).into_iter().partition(|batch| batch.number == number);
        self.ready = others;
        let open = self.open.take_if(|open| open.number == number);
        for batch in std::collections::VecDeque::into_iter(mine).chain(open) {
            let first = tickets.as_ref().map_or(batch.ticket, |range| *range.start());
            tickets = Some(first..=batch.ticket);
            self.unmake(batch);
        }
        tickets
    }

    /// What a batch would have made true does not happen: outcomes are owed again, but for those that hung on its
    /// records; extents and marks are as before.
    fn unmake(&mut self, batch: Batch) {
        self.owed.extend(batch.settles.iter().filter(|pending| pending.needs.is_none()).map(|pending| pending.settle));
        if !self.owed.is_empty() {
            self.owed_since = Some(self.owed_since.map_or(batch.since, |since| since.min(batch.since)));
        }
        for (_, holders) in &batch.pins {
            for &holder in holders {
                self.unpin(holder);
            }
        }
        for &(old, new) in &batch.moved {
            self.renamed.take_back(old, new);
        }
        if !batch.marks.is_empty() {
            self.segments.values_mut().for_each(|segment| segment.marking = false);
            self.reclaim_due = true;
        }
        self.keep_batch(batch);
    }

    /// Puts owed settles into batches; the last one's ticket, when all went in.
    pub(super) fn flush_owed(&mut self) -> Option<Ticket> {
        let mut ticket = None;
        while let Some(settle) = self.owed.last().copied() {
            // One about a segment that is gone needs no batch.
            ticket = ticket.max(Some(self.put_settle(settle).ok()?));
            self.owed.pop();
            let since = self.owed_since;
            self.open.iter_mut().for_each(|open| {
                open.is_urgent = true;
                open.since = since.map_or(open.since, |since| open.since.min(since));
            });
        }
        self.owed_since = None;
        ticket
    }

    /// Every outcome that was promised by this ticket or an earlier one is durable, in the mode's sense, whichever batch
    /// carried it in the end: one whose own batch failed counts when a later batch with it is written (M-102).
    pub fn settled_upto(&self) -> Ticket {
        let flight = self.flight.iter().filter_map(|flight| match &flight.what {
            What::Batch(batch) => Some(batch),
            What::Chore(_) => None,
        });
        let batches = self.open.iter().chain(&self.ready).chain(flight);
        let waiting = batches.map(|batch| batch.since).chain(self.owed_since).fold(self.next_ticket, u64::min);
        Ticket(waiting.saturating_sub(1))
    }

    /// A file whose head could not be written is of no use; what it was before stays known until the shell removed it. When
    /// it is not the first, no further one is to be had for the moment.
    fn bad_file(&mut self, number: SegmentNumber) {
        self.chores.retain(|chore| *chore != Chore::HeadCopy(number));
        let Some(segment) = self.segments.get_mut(&number) else { return };
        segment.state = State::Unborn;
        self.heads_failed = self.heads_failed.saturating_add(1);
        self.no_space |= self.heads_failed >= HEADS_FAILED_MAX;
        if let Some(old) = segment.replaces.take()
            && let Some(old) = self.segments.get_mut(&old)
        {
            old.state = State::Unborn;
        }
    }

    /// Every outcome and message taken so far was written, in the mode's sense.
    pub fn is_written(&self) -> bool {
        self.flight.is_none() && !self.has_batch() && self.owed.is_empty()
    }
}

/// Removes the first `count` octets, whole blocks.
fn drop_front(parts: &mut Vec<Slice>, mut count: usize) {
    let whole = parts.iter().take_while(|part| match count.checked_sub(part.len()) {
        Some(left) => {
            count = left;
            true
        }
        None => false,
    });
    let whole = whole.count();
    parts.drain(..whole);
    if count > 0
        && let Some(first) = parts.first_mut()
    {
        *first = first.sub(count..first.len());
    }
}
