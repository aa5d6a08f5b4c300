//! Space comes back while mail stays: what is live in sparse segments is read back and written again, dense, apart from new
//! mail, a small batch at a time and under a bandwidth cap. Which, the log says ([`Sparse`]).

use super::Hub;
use super::load::{HeadOctets, LoadError};
use super::relocate::MoveError;
use crate::hook;
use crate::io::driver::Driver;
use crate::settings::Durability;
use crate::shell::body::Slices;
use crate::shell::signal::Signal;
use crate::spool::{Content, Extents, Full, Log, PACKED_BYTES_MAX, RecordId, Sparse, Stretch};
use crate::track::counters::Counter;
use crate::wire::Span;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long until the log is asked again when there was nothing to do, and before what could not be done is tried again.
const LOOK_WAIT: Span = Span::millis(250);

/// Before something else is tried, or the same once more: what was read for nothing counts against no cap.
const AGAIN_WAIT: Span = Span::millis(50);

/// What rewriting waits for, and what it has begun.
#[derive(Debug, Default)]
pub(super) struct Rewriting {
    /// Something was written.
    pub written: Signal,
    /// What an earlier run left is not all told.
    pub untold: Cell<bool>,
    /// Large bodies on their way out of bad or sparse segments, by record: what of each is written already.
    pub moving: RefCell<BTreeMap<RecordId, Extents>>,
    /// The longest that a write of what is rewritten has kept all others waiting.
    longest: Cell<Span>,
}

/// Records of one group, read.
type Group = Vec<(HeadOctets, Slices)>;

/// Rewrites what is sparse, as long as the shard runs.
pub(super) async fn run<D: Driver>(hub: Rc<Hub<D>>) {
    if hub.settings.spool.rewrite_rate == 0 || hub.settings.server.durability == Durability::None {
        return;
    }
    loop {
        hub.rewriting.written.wait().await;
        // What is worth it changes with what is written, and with time.
        while let Some(pause) = hub.rewrite().await {
            hub.driver.sleep(pause).await;
        }
        hub.driver.sleep(LOOK_WAIT).await;
    }
}

impl<D: Driver> Hub<D> {
    /// Does one piece of this work; how long to wait before the next one, if there may be any.
    async fn rewrite(self: &Rc<Self>) -> Option<Span> {
        let rewritten = self.log.borrow().rewritten();
        self.tally.set(Counter::SegmentsRewritten, rewritten);
        // Before everything that was left is known, nobody knows what is sparse.
        if self.draining.get() || self.rewriting.untold.get() {
            return None;
        }
        let sparse = self.log.borrow_mut().sparse(self.driver.now());
        let records = match sparse {
            Sparse::Nothing => return None,
            Sparse::Later => return Some(LOOK_WAIT),
            Sparse::Records(records) => records,
        };
        let moved = self.rewrite_records(&records).await;
        match moved {
            Ok(octets) => {
                self.tally.add(Counter::RewrittenBytes, octets);
                // One batch at a time.
                while self.log.borrow().has_batches_apart() {
                    let _written = self.rewriting.written.unless_raised(self.driver.sleep(LOOK_WAIT)).await;
                }
                hook!("K17", octets > 0);
                Some(self.pause_after(octets))
            }
            Err((id, error)) => {
                self.not_rewritten(id, error).await;
                Some(AGAIN_WAIT)
            }
        }
    }

    /// A batch of this work was under way for so long.
    pub(super) fn rewriting_held_up(&self, span: Span) {
        let longest = &self.rewriting.longest;
        if span > longest.get() {
            longest.set(span);
            self.tally.set(Counter::RewritePauseMax, span.as_micros());
        }
    }

    /// How long so many octets last under the cap; there is none while room is short.
    fn pause_after(&self, octets: u64) -> Span {
        match octets {
            0 => LOOK_WAIT,
            _ if self.log.borrow().is_full() => Span::ZERO,
            _ => Span::micros(octets.saturating_mul(1_000_000) / self.settings.spool.rewrite_rate),
        }
    }

    /// Writes some of these records again, the first ones; octets written, or why not even one.
    async fn rewrite_records(self: &Rc<Self>, records: &[RecordId]) -> Result<u64, (RecordId, MoveError)> {
        let mut group = Group::new();
        for &id in records {
            let read = match self.read_one(id).await {
                Err(error) if self.asks_again(&error) => self.read_one(id).await,
                read => read,
            };
            match read {
                Ok((head, Body::Packed(content))) => group.push((head, content)),
                Ok((head, Body::Pieces(stretches))) if group.is_empty() => {
                    return self.rewrite_large(id, &head, &stretches).await.map_err(|error| (id, error));
                }
                Err(LoadError::Gone) => {}
                Err(error) if group.is_empty() => return Err((id, error.into())),
                Ok(_) | Err(_) => break,
            }
        }
        let written = self.put_apart(true, |log| put_group(log, &group));
        written.map_err(|full| (records.first().copied().expect("there are some"), full.into()))
    }

    /// Puts something into the log apart from new mail, or among it when there is no other place; not where what stands in
    /// front of it, being new mail, may be lost with the machine: nothing behind a gap is found again.
    /// Nor, where it is not `whole`, in front of its content: that has the higher number then, and a start that cannot read a
    /// file keeps only what stands before it.
    fn put_apart<R>(&self, whole: bool, put: impl Fn(&mut Log) -> Result<R, Full>) -> Result<R, Full> {
        let may_join = whole && self.settings.server.durability == Durability::Disk;
        let mut log = self.log.borrow_mut();
        let done = match log.apart(&put) {
            Err(Full::Space) if may_join => put(&mut log),
            done => done,
        };
        drop(log);
        self.commit.raise();
        self.segments.raise();
        done
    }

    async fn read_one(self: &Rc<Self>, id: RecordId) -> Result<(HeadOctets, Body), LoadError> {
        if !self.log.borrow().is_here(id) {
            return Err(LoadError::Gone);
        }
        let head = self.read_head(id).await?;
        let damaged = || head.damaged();
        let record = head.record().ok_or_else(damaged)?;
        let stretches = self.log.borrow().content_of(&record).map_err(|_| damaged())?;
        if record.head.facts.body_bytes > PACKED_BYTES_MAX as u64 {
            return Ok((head, Body::Pieces(stretches)));
        }
        let mut content = Slices::new();
        for stretch in &stretches {
            self.read_stretch(stretch, &mut content).await?;
        }
        Ok((head, Body::Packed(content)))
    }

    /// Goes on with a large body, by one piece; its record comes behind the last one. Octets written.
    async fn rewrite_large(
        self: &Rc<Self>,
        id: RecordId,
        head: &HeadOctets,
        stretches: &[Stretch],
    ) -> Result<u64, MoveError> {
        let mut written = self.rewriting.moving.borrow_mut().remove(&id).unwrap_or_default();
        let done = self.rewrite_piece(head, stretches, &mut written).await;
        if !matches!(done, Ok((_, true))) {
            self.go_on_later(id, written);
        }
        done.map(|(octets, _)| octets)
    }

    /// Octets written, and whether the record was: `written` is its then.
    async fn rewrite_piece(
        self: &Rc<Self>,
        head: &HeadOctets,
        stretches: &[Stretch],
        written: &mut Extents,
    ) -> Result<(u64, bool), MoveError> {
        let Some(record) = head.record() else { return Err(head.damaged().into()) };
        if let Some(stretch) = stretches.get(written.count()) {
            if self.log.borrow().is_full() {
                // What is left is for mail that can be moved whole.
                return Err(Full::Space.into());
            }
            let chunks = self.read_blocks(stretch).await?;
            let mut log = self.log.borrow_mut();
            log.apart(|log| log.extent(written, &chunks, stretch.bytes))?;
            drop(log);
            self.commit.raise();
            return Ok((stretch.bytes, false));
        }
        if !self.log.borrow().is_here(record.head.id) {
            return Ok((0, false));
        }
        self.put_apart(false, |log| log.relocate(&record, Content::Extents(written)))?;
        Ok((record.head.packed_bytes(), true))
    }

    /// A record was not written again: it is tried later, or never.
    async fn not_rewritten(self: &Rc<Self>, id: RecordId, error: MoveError) {
        if error.is_final() {
            return self.leave_in_place(id, error).await;
        }
        match error {
            MoveError::Full(Full::Segment) => {
                if self.log.borrow().wants().is_some() {
                    self.segments.raise();
                }
                // The next segment is under way, or outcomes of this one.
                let _waited = self.rewriting.written.unless_raised(self.driver.sleep(LOOK_WAIT)).await;
                return;
            }
            MoveError::Full(Full::Memory) | MoveError::Load(_) => self.relieve(),
            // What is written of it may be the room that others need, or lost.
            MoveError::Full(_) => self.stop_moving(id),
        }
        self.log.borrow_mut().pass_over();
    }
}

/// Where a record's content is.
enum Body {
    /// Here.
    Packed(Slices),
    /// To be read piece by piece.
    Pieces(Vec<Stretch>),
}

/// Puts records in as far as there is room; octets, or why not even one.
fn put_group(log: &mut Log, group: &Group) -> Result<u64, Full> {
    let mut octets = 0;
    for (head, content) in group {
        let Some(record) = head.record().filter(|record| log.is_here(record.head.id)) else { continue };
        let pieces: Vec<&[u8]> = content.iter().map(|slice| &**slice).collect();
        match log.relocate(&record, Content::Octets(&pieces)) {
            Ok(_) => octets += record.head.octets(),
            Err(full) if octets == 0 => return Err(full),
            Err(_) => break,
        }
    }
    Ok(octets)
}
