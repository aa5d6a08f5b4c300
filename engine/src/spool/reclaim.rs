//! Space comes back segment by segment; what stands in a poisoned one goes elsewhere first.
//!
//! A segment is dead when no record in it is live and no body needs an extent in it. But settles that stand in it may be
//! all that keeps records of other segments settled: before it may be overwritten, the open batch says of each such
//! segment what is live there (a *mark*). Marks cost eight octets per live record, so a segment whose marks would be
//! large waits until those others have drained; and one whose marks would be about a segment that was not read whole waits
//! for the next start.

use super::batch::{self, ALL_RECIPIENTS, Outcome, Settle};
use super::ids::{FileId, RecordId, SegmentNumber};
use super::log::{Appended, Content, Full, Log, NewRecord};
use super::record::{RecordHead, RecordKind, RecordRef};
use super::room::{Need, Room};
use super::segment::{Segment, State};
use super::write::Chore;
use crate::planted;

/// Marks that free one segment may take so many octets.
const MARK_BYTES_MAX: usize = 64 << 10;
/// The same as a part of the segment, of a large one.
const MARK_SHARE: u64 = 256;

impl Log {
    /// Looks at every segment again.
    pub(super) fn reclaim_all(&mut self) {
        self.reclaim_due = false;
        let numbers: Vec<_> = self.segments.keys().copied().collect();
        for number in numbers {
            self.reclaim(number);
        }
    }

    /// Frees the segment if nothing in it is needed any more.
    pub(super) fn reclaim(&mut self, number: SegmentNumber) {
        let Some(segment) = self.segments.get(&number) else { return };
        let over = matches!(segment.state, State::Closing | State::Closed | State::Poisoned);
        let dead = segment.live.count() == 0 && segment.extent_pins == 0 && !segment.kept;
        if !over || !dead || segment.marking {
            return;
        }
        if self.has_batches(number) || self.writes_footer(number) {
            self.reclaim_due = true;
            return;
        }
        if segment.cancels.iter().any(|other| self.segments.contains_key(other)) {
            self.reclaim_due = true;
            return;
        }
        let (is_moved, poisoned) = (segment.is_moved, segment.state == State::Poisoned);
        let refs: Vec<_> = segment.refs.iter().copied().filter(|other| self.segments.contains_key(other)).collect();
        if !self.has_free() && self.cold.is_some_and(|cold| refs.contains(&cold)) {
            self.close_cold();
        }
        if refs.is_empty() {
            self.rewritten = self.rewritten.saturating_add(u64::from(is_moved && !poisoned));
            self.free(number);
        } else if self.mark(&refs).is_ok() {
            if let Some(segment) = self.segments.get_mut(&number) {
                segment.marking = true;
            }
        } else {
            self.reclaim_due = true;
        }
    }

    fn free(&mut self, number: SegmentNumber) {
        self.chores.retain(|chore| *chore != Chore::Footer(number));
        let Some(segment) = self.segments.get_mut(&number) else { return };
        segment.state = if segment.state == State::Poisoned { State::Bad } else { State::Free };
        segment.live = Default::default();
        segment.owed.clear();
        let pieces = segment.forget_notes();
        self.keep_pieces(pieces);
    }

    /// Says in the open batch what is live in each of these.
    fn mark(&mut self, numbers: &[SegmentNumber]) -> Result<(), Full> {
        // It would settle what is not known to be there.
        if numbers.iter().any(|number| self.segments.get(number).is_some_and(|segment| segment.unread)) {
            return Err(Full::TooLarge);
        }
        let cost = |number: &SegmentNumber| {
            self.segments
                .get(number)
                .map_or(0, |segment| segment.live.encoded_bytes().saturating_add(batch::ITEM_BYTES))
        };
        let bytes: usize = numbers.iter().map(cost).sum();
        let is_open = |number| self.current == Some(number) || self.cold == Some(number);
        let open = |number: &SegmentNumber| self.has_batches(*number) || is_open(*number);
        let most = MARK_BYTES_MAX.max(usize::try_from(self.options.segment_bytes / MARK_SHARE).unwrap_or(0));
        if bytes > most || numbers.iter().any(open) {
            return Err(Full::TooLarge);
        }
        let need = Need { table: bytes as u64, footer: bytes as u64, ..Need::default() };
        let here = self.make_room(&need)?.open.number;
        // A settle on its way in another segment would be forgotten with that segment although no mark contains it.
        if self.has_batches_outside(here) {
            return Err(Full::Segment);
        }
        let live = |&number: &SegmentNumber| self.segments.get(&number).map(|marked| (number, marked.live.clone()));
        let marks: Vec<_> = numbers.iter().filter_map(live).collect();
        let Room { open, segment } = self.make_room(&need)?;
        for (number, live) in &marks {
            batch::put_live(&mut open.table, *number, live);
            segment.note_live(*number, live);
        }
        open.marks.extend_from_slice(numbers);
        open.is_urgent = true;
        Ok(())
    }

    /// These segments are gone: nobody's settles of them are needed.
    pub(super) fn forget_refs(&mut self, numbers: &[SegmentNumber]) {
        self.drop_refs(numbers, |_| false);
    }

    /// A durable mark in `here` says of these all that was known when it was put in: nobody else's settles of them are
    /// needed, but for those put in since. At that time no batch of another segment waited, so where one does, all are newer.
    pub(super) fn refs_are_marked(&mut self, numbers: &[SegmentNumber], here: SegmentNumber) {
        let mut newer: Vec<_> = self.ready.iter().chain(&self.open).map(|batch| batch.number).collect();
        newer.push(here);
        self.drop_refs(numbers, |holder| newer.contains(&holder));
    }

    fn drop_refs(&mut self, numbers: &[SegmentNumber], keeps: impl Fn(SegmentNumber) -> bool) {
        for (&holder, segment) in self.segments.iter_mut() {
            if !keeps(holder) {
                numbers.iter().for_each(|&number| segment.drop_ref(number));
            }
            segment.marking = false;
        }
        self.reclaim_due = true;
    }

    /// The footer of this segment says what became of records that were cancelled in it.
    pub(super) fn forget_cancels(&mut self, number: SegmentNumber) {
        for segment in self.segments.values_mut() {
            self.reclaim_due |= segment.cancels.remove(&number);
        }
    }

    /// A file that must not be used again and holds nothing that is needed: the shell moves it out of the spool, syncs the
    /// folder, and says [`Log::removed`].
    pub fn discard(&self) -> Option<FileId> {
        self.segments.values().find(|segment| segment.state == State::Bad).map(|segment| segment.file)
    }

    /// A file whose heads could not be written; nothing that is needed stands in it: the shell removes it, syncs the
    /// folder, and says [`Log::removed`].
    pub fn unborn(&self) -> Option<FileId> {
        self.segments.values().find(|segment| segment.state == State::Unborn).map(|segment| segment.file)
    }

    /// A file that is free and that the shell may remove to give space back to the system: as [`Log::discard`].
    pub fn surplus(&self, keep: usize) -> Option<FileId> {
        let mut free = self.segments.values().filter(|segment| segment.state == State::Free && !segment.kept);
        free.nth(keep).map(|segment| segment.file)
    }

    /// The file is gone from the spool, durably.
    pub fn removed(&mut self, file: FileId) {
        let of_file = self.segments.iter().filter(|(_, segment)| segment.file == file);
        let gone: Vec<_> = of_file.map(|(&number, _)| number).collect();
        for number in &gone {
            self.segments.remove(number);
        }
        self.forget_refs(&gone);
        self.reclaim_all();
    }

    /// What a live record of an earlier run is.
    pub fn note_head(&mut self, id: RecordId, head: &RecordHead) {
        let Some(segment) = self.segments.get_mut(&id.number()) else { return };
        segment.live.weigh(id.place(), head.octets());
        if head.kind == RecordKind::Owed {
            segment.owed.insert(id.place(), u32::try_from(head.packed_bytes()).unwrap_or(u32::MAX));
        }
    }

    /// The oldest live record that stands, or has a part of its content, in a poisoned segment and is not yet on its way
    /// (F-027); or, while no segment is free, that is one of few notices for which alone a segment is kept. The shell reads it ([`Log::fetch`]) and calls [`Log::relocate`]; when it cannot now, [`Log::put_off`], and when
    /// it never will, [`Log::leave`].
    pub fn relocation(&mut self) -> Option<RecordId> {
        let next = self.next_relocation();
        if next.is_some() || self.put_off.is_empty() {
            return next;
        }
        self.put_off.clear();
        self.next_relocation()
    }

    fn next_relocation(&self) -> Option<RecordId> {
        let is_short = !self.segments.values().any(|segment| segment.state == State::Free);
        let leaves = |segment: &Segment| segment.state == State::Poisoned || (is_short && segment.is_held_by_notices());
        for (&number, segment) in self.segments.iter().filter(|(_, segment)| leaves(segment)) {
            let inside = segment.live.iter().map(|(place, _)| RecordId::at_place(number, place));
            let elsewhere = self.segments.iter().filter(|_| segment.extent_pins > 0).flat_map(|(&other, segment)| {
                let needing = segment.pins.iter().filter(move |(_, holders)| holders.contains(&number));
                needing.map(move |(&place, _)| RecordId::at_place(other, place))
            });
            let stays = |id: &RecordId| self.left.contains(id) || self.put_off.contains(id);
            let waits = |id: &RecordId| self.renamed.after(*id).is_none() && !stays(id);
            let next = inside.chain(elsewhere).find(|id| waits(id) && !self.settles_pending(*id));
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// A record could not be relocated: it is asked for again when all others were.
    pub fn put_off(&mut self, id: RecordId) {
        self.put_off.insert(id);
    }

    /// A record cannot be read: it stays in its poisoned segment, which is kept for it, and others are moved.
    pub fn leave(&mut self, id: RecordId) {
        self.left.insert(id);
    }

    /// Writes a record again elsewhere, under a new name; the old one goes on meaning it. Durable with the ticket.
    ///
    /// # Errors
    /// Flow control; so it is for one that stands there no more ([`Log::is_here`]).
    pub fn relocate(&mut self, record: &RecordRef<'_>, content: Content<'_>) -> Result<Appended, Full> {
        let old = record.head.id;
        if !self.is_here(old) || self.settles_pending(old) {
            return Err(Full::Segment);
        }
        let place = old.place();
        let settled: Vec<u16> =
            self.segments.get(&old.number()).map(|segment| segment.live.settled(place).collect()).unwrap_or_default();
        let new = NewRecord {
            kind: record.head.kind,
            envelope: record.envelope,
            recipients: record.head.recipients,
            trace: record.trace,
            facts: &record.head.facts,
            priority: record.head.priority,
            received: record.head.received,
            content,
            settles: &[Settle { id: old, recipient: ALL_RECIPIENTS, outcome: Outcome::Moved }],
        };
        let appended = self.append_as(&new, Some(old), &settled)?;
        if !planted!(ForgottenName) {
            self.renamed.add(old, appended.id);
        }
        if let Some(open) = self.open.as_mut() {
            open.moved.push((old, appended.id));
        }
        Ok(appended)
    }
}
