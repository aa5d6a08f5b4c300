//! Space comes back while mail stays: what is live in a segment that has become sparse is written again, and the segment
//! is free. Moved records are mail that stays, so they go *apart*, to an open segment of their own beside the current one:
//! among new mail they would soon lie as sparse as before, and be moved again and again. Where they stand together they
//! are moved again only when most of them have left.
//!
//! What is put apart is a batch like any other, between two of the current segment. There is one of them at a time that is
//! not yet written, so that the batches of neither segment are parted by those of the other when one of them fails.

use super::ids::{RecordId, SegmentNumber};
use super::log::{Full, Log};
use super::segment::{Segment, State};
use super::write::Chore;
use crate::wire::{Span, Tick};
use std::collections::BTreeMap;

/// A segment is worth to be rewritten when moving what is live in it writes at most so small a part of it. A part of u costs
/// u/(1-u) octets for each that comes back, and as many to be read; a new segment costs one octet of zeros for each, so
/// up to a third something is saved, and from a quarter on at least a third of it.
const SHARE: u64 = 4;
/// The same while there is no room for a further segment.
const SHARE_SHORT: u64 = 2;

/// With so many segments free nothing is rewritten: what stays a while longer leaves by itself.
const FREE_WANTED: usize = 2;

/// What is live in a segment stays when in so long a time less than one in [`CALM_SHARE`] left.
const CALM_WAIT: Span = Span::seconds(2);
const CALM_SHARE: usize = 8;

/// How long what a look at all segments found is good for; once more for each so many bodies in pieces, which are looked at too.
const LOOK_WAIT: Span = Span::millis(200);
const BODIES_PER_LOOK: usize = 4096;

/// Records, and about how many octets, that are asked for at a time: a batch that others can wait for.
const GROUP_RECORDS_MAX: usize = 128;
const GROUP_BYTES_MAX: u64 = 256 << 10;

/// What is to be rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sparse {
    /// Nothing, before something else happens.
    Nothing,
    /// Nothing yet.
    Later,
    /// These records, of one segment, as far as they are still there: [`Log::relocate`], within [`Log::apart`].
    Records(Vec<RecordId>),
}

/// What a look at all segments found.
#[derive(Debug, Default)]
pub(super) struct Look {
    at: Option<Tick>,
    /// Segments worth to be rewritten, the cheapest first.
    calm: Vec<SegmentNumber>,
    /// There are others that mail still leaves, or that were passed over.
    others: bool,
    /// The one that was asked for last.
    asked: Option<SegmentNumber>,
}

/// Bodies of which extents stand in a segment.
#[derive(Debug, Default)]
struct Bodies {
    /// Extents of them.
    pins: u32,
    /// What moving those would write whose records stand elsewhere.
    octets: u64,
    /// One cannot be moved.
    is_left: bool,
}

impl Log {
    /// What is to be rewritten now. To be asked several times a second while the log is written to: it sees from one time to
    /// the next where mail still leaves.
    pub fn sparse(&mut self, now: Tick) -> Sparse {
        let is_due = self.look.at.is_none_or(|at| now.since(at) >= self.look_wait());
        if is_due {
            self.look_for_calm(now);
            self.look = Look { at: Some(now), ..Look::default() };
        }
        let free = self.segments.values().filter(|segment| segment.state == State::Free && !segment.kept).count();
        // What stands in a bad segment goes first, unless it waits for the room that is made here.
        let is_poisoned = self.segments.values().any(|segment| segment.state == State::Poisoned);
        if self.closed || (is_poisoned && !self.is_full()) || free >= FREE_WANTED {
            return Sparse::Nothing;
        }
        if is_due {
            self.look_for_sparse(now);
        }
        let waits = self.look.others || !self.look.calm.is_empty();
        // The first ones need a segment to go to: one alone gains nothing.
        let gains = self.look.calm.len() > 1 || self.cold.is_some() || self.no_space;
        let has_place = self.cold.is_some() || self.spare.is_some() || self.is_full();
        let calm = if gains && has_place { self.look.calm.as_slice() } else { &[] };
        let mut groups = calm.iter().map(|&number| (number, self.group(number)));
        match groups.find(|(_, group)| !group.is_empty()) {
            Some((number, group)) => {
                self.look.asked = Some(number);
                Sparse::Records(group)
            }
            None if !waits => Sparse::Nothing,
            None => Sparse::Later,
        }
    }

    /// What was asked for last cannot be moved now: others go first.
    pub fn pass_over(&mut self) {
        let asked = self.look.asked.take();
        self.look.calm.retain(|&number| Some(number) != asked);
        self.look.others = true;
    }

    /// A look at bodies takes time, so that many are looked at less often.
    fn look_wait(&self) -> Span {
        let bodies: usize = self.segments.values().map(|segment| segment.pins.len()).sum();
        Span(LOOK_WAIT.0.saturating_mul((bodies / BODIES_PER_LOOK).saturating_add(1) as u64))
    }

    /// Whether there is no room for a further segment, and none is free: nothing is to be spared then.
    pub fn is_full(&self) -> bool {
        self.no_space && !self.has_free()
    }

    /// Segments given up so far of which records were moved because they had become sparse.
    pub fn rewritten(&self) -> u64 {
        self.rewritten
    }

    /// Whether this is where a record stands now, under this name.
    pub fn is_here(&self, id: RecordId) -> bool {
        self.segments.get(&id.number()).is_some_and(|segment| segment.live.left(id.place()) > 0)
    }

    /// Does `put` with the segment for moved mail in place of the current one. Its error is that of `put`.
    ///
    /// # Errors
    /// Flow control, as ever; [`Full::Segment`] too while an earlier batch of this kind is not yet written.
    pub fn apart<R>(&mut self, put: impl FnOnce(&mut Self) -> Result<R, Full>) -> Result<R, Full> {
        if self.has_batches_apart() {
            return Err(Full::Segment);
        }
        self.end_batch()?;
        // The last segment there is belongs to new mail, and to outcomes.
        let kept = if self.is_full() { self.spare.take() } else { None };
        self.swap_cold(true);
        let done = put(self);
        // Without memory for it now, it stays open, takes more, and is written as soon as there is.
        let _later = self.end_batch();
        self.swap_cold(false);
        self.spare = self.spare.or(kept);
        done
    }

    fn swap_cold(&mut self, is_apart: bool) {
        std::mem::swap(&mut self.current, &mut self.cold);
        self.is_apart = is_apart;
    }

    /// The open batch, if anything stands in it, takes no more.
    fn end_batch(&mut self) -> Result<(), Full> {
        match &self.open {
            Some(open) if open.is_empty() => {
                self.drop_open();
                Ok(())
            }
            _ => self.close_batch(),
        }
    }

    pub(super) fn has_free(&self) -> bool {
        self.segments.values().any(|segment| segment.state == State::Free && !segment.kept)
    }

    /// The segment for moved mail takes no more: as long as it is open, no other can say what is live in it.
    pub(super) fn close_cold(&mut self) {
        let Some(number) = self.cold.filter(|&number| !self.has_batches(number)) else { return };
        self.cold = None;
        let segment = self.segments.of_mut(number);
        segment.state = State::Closing;
        let pieces = segment.spare();
        self.keep_pieces(pieces);
        self.chores.push_back(Chore::Footer(number));
    }

    /// Notes of each closed segment how much is live in it, as long as little leaves.
    fn look_for_calm(&mut self, now: Tick) {
        for segment in self.segments.values_mut().filter(|segment| segment.state == State::Closed) {
            let count = segment.live.count();
            let stays = |was: usize| count >= was.saturating_sub(was / CALM_SHARE);
            if !segment.calm.is_some_and(|(was, _)| stays(was)) {
                segment.calm = Some((count, now));
            }
        }
    }

    /// Closed segments that are worth to be rewritten.
    fn look_for_sparse(&mut self, now: Tick) {
        let share = if self.is_full() { SHARE_SHORT } else { SHARE };
        let is_cheap = |octets: u64, segment: &Segment| octets.saturating_mul(share) <= segment.segment_bytes;
        let is_left = |number: SegmentNumber| {
            let (first, last) = (RecordId::at_place(number, 0), RecordId::at_place(number, u32::MAX));
            self.left.range(first..=last).next().is_some()
        };
        let may_go = |(number, segment): &(&SegmentNumber, &Segment)| {
            let is_needed = segment.live.count() > 0 || segment.extent_pins > 0;
            let is_whole = segment.state == State::Closed && !segment.kept && !is_left(**number);
            is_whole && is_needed && is_cheap(segment.live.octets(), segment)
        };
        let some: BTreeMap<_, _> = self.segments.iter().filter(may_go).collect();
        let bodies = self.bodies(&some);
        let cost = |(&&number, segment): (&&SegmentNumber, &&Segment)| {
            let none = Bodies::default();
            let Bodies { pins, octets, is_left } = bodies.get(&number).unwrap_or(&none);
            let octets = segment.live.octets().saturating_add(*octets);
            // Of a body that is still arriving nobody knows yet what it will be.
            let goes = *pins == segment.extent_pins && !is_left && is_cheap(octets, segment);
            goes.then_some((octets, number))
        };
        let mut all: Vec<_> = some.iter().filter_map(cost).collect();
        all.sort_unstable();
        let since = |number: &SegmentNumber| some.get(number).and_then(|segment| segment.calm).map(|(_, since)| since);
        let is_calm = |number: &SegmentNumber| since(number).is_some_and(|since| now.since(since) >= CALM_WAIT);
        let calm: Vec<_> = all.iter().map(|&(_, number)| number).filter(is_calm).collect();
        (self.look.others, self.look.calm) = (calm.len() < all.len(), calm);
    }

    /// By segment, the bodies of which extents stand in these.
    fn bodies(&self, of: &BTreeMap<&SegmentNumber, &Segment>) -> BTreeMap<SegmentNumber, Bodies> {
        let mut all: BTreeMap<SegmentNumber, Bodies> = BTreeMap::new();
        let holders: Vec<_> =
            of.iter().filter(|(_, segment)| segment.extent_pins > 0).map(|(&&number, _)| number).collect();
        if holders.is_empty() {
            return all;
        }
        for (&number, segment) in self.segments.iter() {
            for (&place, pinned) in &segment.pins {
                let mut last = None;
                for &holder in pinned.iter().filter(|holder| holders.binary_search(holder).is_ok()) {
                    let bodies = all.entry(holder).or_default();
                    bodies.pins = bodies.pins.saturating_add(1);
                    bodies.is_left |= self.left.contains(&RecordId::at_place(number, place));
                    if holder != number && last.replace(holder) != Some(holder) {
                        bodies.octets = bodies.octets.saturating_add(segment.live.octets_of(place));
                    }
                }
            }
        }
        all
    }

    /// Records elsewhere that have extents in this segment.
    fn bodies_in(&self, number: SegmentNumber, segment: &Segment) -> impl Iterator<Item = RecordId> {
        let others = self.segments.iter().filter(move |(other, _)| segment.extent_pins > 0 && **other != number);
        others.flat_map(move |(&other, segment)| {
            let needing = segment.pins.iter().filter(move |(_, holders)| holders.contains(&number));
            needing.map(move |(&place, _)| RecordId::at_place(other, place))
        })
    }

    /// The next records to be moved out of a segment; none when all are on their way.
    fn group(&self, number: SegmentNumber) -> Vec<RecordId> {
        let segment = self.segments.get(&number).filter(|segment| segment.state == State::Closed);
        let Some(segment) = segment else { return Vec::new() };
        let inside = segment.live.iter().map(|(place, _)| RecordId::at_place(number, place));
        let bodies = self.bodies_in(number, segment);
        let most = GROUP_BYTES_MAX.min(segment.segment_bytes / 16);
        let mut octets = 0_u64;
        inside
            .chain(bodies)
            .filter(|&id| self.renamed.after(id).is_none() && self.is_here(id))
            .take(GROUP_RECORDS_MAX)
            .take_while(|id| {
                let goes = octets < most;
                let of = self.segments.get(&id.number()).map_or(0, |segment| segment.live.octets_of(id.place()));
                octets = octets.saturating_add(of);
                goes
            })
            .collect()
    }
}
