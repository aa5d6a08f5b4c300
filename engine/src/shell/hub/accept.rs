//! The first step of a message's way: into the open batch.

use super::messages::{self, Message};
use super::{Hub, Waiting};
use crate::hook;
use crate::io::driver::Driver;
use crate::settings::Durability;
use crate::shell::body::{CHUNK_BYTES_MAX, Slices, trim};
use crate::shell::inlet::{Answer, Inlet};
use crate::shell::serve::{Arrived, Incoming, NO_MEMORY, Service};
use crate::smtp::server::{Policy, ServerSession, SessionFacts, Slot};
use crate::spool::{Appended, Content, Extents, Facts, Full, NewRecord, RecordKind};
use crate::sys::slice::{BLOCK_BYTES, Charge, Pool};
use crate::track::counters::Counter;
use crate::wire::{ContentFacts, RecipientRef, Refusal, ReversePathRef, Wall};
use crc_fast::{CrcAlgorithm, Digest};
use std::collections::VecDeque;
use std::rc::Rc;

/// From so many octets on a body is written while it arrives (ARCHITECTURE.md, "Five decisions", 4).
const SPILL_BYTES: usize = 256 << 10;

const NO_SPACE: Refusal = Refusal::fixed(452, (4, 3, 1), "Insufficient system storage");
const TOO_LARGE: Refusal = Refusal::fixed(552, (5, 3, 4), "Message size exceeds fixed maximum message size");
const NOT_KEPT: Refusal = Refusal::fixed(451, (4, 3, 0), "The message could not be stored; try again later");

/// A large body under way: what of it is in the log already, what the log had no room for yet, and its checksum so far.
pub struct Spill {
    extents: Extents,
    /// In order, behind `extents`; bounded by the memory budget that its chunks are charged to.
    held: VecDeque<(Slices, u64)>,
    crc: Digest,
}

impl Default for Spill {
    fn default() -> Self {
        Self { extents: Extents::default(), held: VecDeque::new(), crc: Digest::new(CrcAlgorithm::Crc32Iscsi) }
    }
}

/// A message that found no room in the log for the moment: everything about it, in memory of its own.
pub(super) struct Stalled<D: Driver> {
    id: u64,
    inlet: Rc<Inlet<D>>,
    slot: Slot,
    envelope: Vec<u8>,
    recipients: u16,
    trace: Vec<u8>,
    /// For envelope and trace; content is leased.
    _charge: Charge,
    record: Facts,
    facts: ContentFacts,
    received: Wall,
    content: Kept,
}

enum Kept {
    Chunks(Slices),
    Spilled(Box<Spill>),
}

/// What a message is, wherever its content is at the moment.
struct Fresh<'a, D: Driver> {
    id: u64,
    inlet: &'a Rc<Inlet<D>>,
    slot: Slot,
    envelope: &'a [u8],
    recipients: u16,
    trace: &'a [u8],
    record: Facts,
    facts: &'a ContentFacts,
    received: Wall,
}

impl<D: Driver> Service<D> for Hub<D> {
    type Spill = Spill;

    fn policy(&self) -> &dyn Policy {
        self
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn spill_bytes(&self, _: bool) -> usize {
        // What is kept in memory alone cannot be written while it arrives.
        if self.settings.server.durability == Durability::None { usize::MAX } else { SPILL_BYTES }
    }

    fn spill(
        &self,
        _: &ServerSession,
        _: &Rc<Inlet<D>>,
        spill: &mut Spill,
        chunks: Slices,
        bytes: u64,
    ) -> Result<(), Refusal> {
        if bytes == 0 {
            return Ok(());
        }
        for slice in trim(&chunks, bytes) {
            spill.crc.update(&slice);
        }
        spill.held.push_back((chunks, bytes));
        match self.write_held(spill) {
            // It goes when the next segment has come, at the latest with the message.
            Ok(()) | Err(Full::Segment) => Ok(()),
            Err(full) => Err(refusal(full)),
        }
    }

    fn abandon(&self, spill: Spill) {
        self.abandon_extents(spill.extents);
    }

    fn message(&self, arrived: Arrived<'_, D, Spill>) {
        let facts = arrived.session.content();
        let envelope = arrived.session.envelope();
        let received = self.driver.wall();
        let id = self.ids.next();
        let mut trace = self.trace.buffer();
        self.trace.write(arrived.session, None, (id, received), &mut trace);
        hook!("K3");
        let mut fresh = Fresh {
            id,
            inlet: arrived.inlet,
            slot: arrived.slot,
            envelope: envelope.bytes(),
            recipients: u16::try_from(envelope.recipient_count()).unwrap_or(u16::MAX),
            trace: &trace,
            record: messages::to_record(facts, 0),
            facts,
            received,
        };
        match arrived.content {
            Incoming::Octets(pieces) => {
                fresh.record.crc32c = crc(pieces.iter().copied());
                self.accept_octets(&fresh, pieces);
            }
            Incoming::Chunks(chunks) => {
                let content = trim(&chunks, facts.bytes);
                fresh.record.crc32c = crc(content.iter().map(|slice| &**slice));
                self.accept_kept(&fresh, Kept::Chunks(chunks), content);
            }
            Incoming::Spilled(spill) => {
                fresh.record.crc32c = crc_of(&spill.crc);
                self.accept_kept(&fresh, Kept::Spilled(Box::new(spill)), Slices::new());
            }
        }
        self.trace.keep(trace);
    }
}

/// The role's decisions, and whether the log has room: a client learns of a full disk before it sends (M-105, F-022).
impl<D: Driver> Policy for Hub<D> {
    fn mail(&self, session: &SessionFacts, from: ReversePathRef<'_>) -> Result<(), Refusal> {
        self.policy.mail(session, from)
    }

    fn rcpt(&self, session: &SessionFacts, from: ReversePathRef<'_>, to: RecipientRef<'_>) -> Result<(), Refusal> {
        self.policy.rcpt(session, from, to)
    }

    fn room(&self, octets: u64) -> Result<(), Refusal> {
        self.policy.room(octets)?;
        if self.log.borrow().has_room_for(octets) { Ok(()) } else { Err(NO_SPACE) }
    }
}

impl<D: Driver> Hub<D> {
    fn accept_octets(&self, fresh: &Fresh<'_, D>, pieces: &[&[u8]]) {
        let full = if self.stalled.borrow().is_empty() {
            match self.append(fresh, Content::Octets(pieces)) {
                Ok(appended) => {
                    let content = appended.content.iter().cloned().collect();
                    self.tally.add(Counter::CopiedBytes, fresh.facts.bytes);
                    return self.wait_for(fresh, &appended, content);
                }
                Err(full) => full,
            }
        } else {
            Full::Segment
        };
        if full == Full::Segment
            && let Some(chunks) = self.copy(pieces)
        {
            return self.stall(fresh, Kept::Chunks(chunks));
        }
        self.refuse(fresh.inlet, fresh.slot, full);
    }

    fn accept_kept(&self, fresh: &Fresh<'_, D>, mut kept: Kept, content: Slices) {
        if !self.stalled.borrow().is_empty() {
            return self.stall(fresh, kept);
        }
        match self.append_kept(fresh, &mut kept) {
            Ok(appended) => self.wait_for(fresh, &appended, content),
            Err(Full::Segment) => self.stall(fresh, kept),
            Err(full) => self.give_up(fresh.inlet, fresh.slot, kept, full),
        }
    }

    fn append_kept(&self, fresh: &Fresh<'_, D>, kept: &mut Kept) -> Result<Appended, Full> {
        match kept {
            // Nothing of it will be read back, so the log's bounds are none of its.
            Kept::Chunks(_) if self.settings.server.durability == Durability::None => {
                let record = Facts { body_bytes: 0, ..fresh.record };
                self.append(&Fresh { record, ..*fresh }, Content::Octets(&[]))
            }
            Kept::Chunks(chunks) => self.append(fresh, Content::Chunks(chunks)),
            Kept::Spilled(spill) => {
                self.write_held(spill)?;
                self.append(fresh, Content::Extents(&spill.extents))
            }
        }
    }

    /// Writes what of a body under way the log had no room for.
    fn write_held(&self, spill: &mut Spill) -> Result<(), Full> {
        while let Some((chunks, bytes)) = spill.held.front() {
            let written = self.log.borrow_mut().extent(&mut spill.extents, chunks, *bytes);
            if let Err(full) = written {
                self.segments.raise();
                return Err(full);
            }
            spill.held.pop_front();
            self.commit.raise();
        }
        Ok(())
    }

    /// What was written of a body will not become a message.
    pub(super) fn abandon_extents(&self, extents: Extents) {
        if extents.is_empty() {
            return;
        }
        self.log.borrow_mut().abandon(extents);
        // They may have been the last that was needed in their segments.
        if self.log.borrow().is_urgent() {
            self.commit.raise();
        }
        self.segments.raise();
    }

    fn give_up(&self, inlet: &Rc<Inlet<D>>, slot: Slot, kept: Kept, full: Full) {
        if let Kept::Spilled(spill) = kept {
            self.abandon(*spill);
        }
        self.refuse(inlet, slot, full);
    }

    fn append(&self, fresh: &Fresh<'_, D>, content: Content<'_>) -> Result<Appended, Full> {
        self.log.borrow_mut().append(&NewRecord {
            kind: RecordKind::Message,
            envelope: fresh.envelope,
            recipients: fresh.recipients,
            trace: fresh.trace,
            facts: &fresh.record,
            priority: 1,
            received: fresh.received,
            content,
            settles: &[],
        })
    }

    fn wait_for(&self, fresh: &Fresh<'_, D>, appended: &Appended, content: Slices) {
        let message = self.messages.borrow_mut().insert(Message {
            id: fresh.id,
            record: appended.id,
            envelope: appended.envelope.clone(),
            trace: appended.trace.clone(),
            content,
            facts: *fresh.facts,
            crc32c: fresh.record.crc32c,
            received: fresh.received,
            spoiled: false,
            recipients: fresh.recipients,
            undivided: false,
            entries: 0,
        });
        self.waiting.borrow_mut().push_back(Waiting {
            ticket: appended.ticket,
            inlet: fresh.inlet.clone(),
            slot: fresh.slot,
            message,
            since: self.driver.now(),
        });
        self.commit.raise();
    }

    /// Copies content that the log has no room for at the moment.
    fn copy(&self, pieces: &[&[u8]]) -> Option<Slices> {
        let mut body = crate::shell::body::Body::default();
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let copied = pieces.iter().all(|piece| body.put(&self.pool, piece, bytes as u64));
        self.tally.add(Counter::CopiedBytes, bytes as u64);
        copied.then(|| body.finish())
    }

    fn stall(&self, fresh: &Fresh<'_, D>, content: Kept) {
        let mut charge = Charge::new(&self.pool);
        if !charge.try_set(fresh.envelope.len() + fresh.trace.len()) {
            return self.give_up(fresh.inlet, fresh.slot, content, Full::Memory);
        }
        self.stalled.borrow_mut().push_back(Stalled {
            id: fresh.id,
            inlet: fresh.inlet.clone(),
            slot: fresh.slot,
            envelope: fresh.envelope.to_vec(),
            recipients: fresh.recipients,
            trace: fresh.trace.to_vec(),
            _charge: charge,
            record: fresh.record,
            facts: *fresh.facts,
            received: fresh.received,
            content,
        });
        self.segments.raise();
    }

    /// Tries what stalled again, oldest first.
    pub(super) fn retry_stalled(&self) {
        loop {
            let Some(mut stalled) = self.stalled.borrow_mut().pop_front() else { return };
            let fresh = Fresh {
                id: stalled.id,
                inlet: &stalled.inlet,
                slot: stalled.slot,
                envelope: &stalled.envelope,
                recipients: stalled.recipients,
                trace: &stalled.trace,
                record: stalled.record,
                facts: &stalled.facts,
                received: stalled.received,
            };
            match self.append_kept(&fresh, &mut stalled.content) {
                Ok(appended) => {
                    let content = match &stalled.content {
                        Kept::Chunks(chunks) => trim(chunks, stalled.facts.bytes),
                        Kept::Spilled(_) => Slices::new(),
                    };
                    self.wait_for(&fresh, &appended, content);
                }
                Err(Full::Segment) => {
                    self.stalled.borrow_mut().push_front(stalled);
                    return;
                }
                Err(full) => self.give_up(&stalled.inlet, stalled.slot, stalled.content, full),
            }
        }
    }

    fn refuse(&self, inlet: &Rc<Inlet<D>>, slot: Slot, full: Full) {
        self.tally.one(Counter::MessagesDeferred);
        inlet.answer(slot, Answer::Refused(refusal(full)));
    }
}

fn refusal(full: Full) -> Refusal {
    match full {
        Full::Segment | Full::Space => NO_SPACE,
        Full::Memory => NO_MEMORY,
        Full::TooLarge => TOO_LARGE,
        Full::Lost => NOT_KEPT,
    }
}

pub(super) fn crc<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    pieces.for_each(|piece| digest.update(piece));
    crc_of(&digest)
}

#[expect(clippy::cast_possible_truncation, reason = "the upper half of a 32-bit checksum is zero")]
fn crc_of(digest: &Digest) -> u32 {
    digest.finalize() as u32
}

const _: () = assert!(SPILL_BYTES.is_multiple_of(BLOCK_BYTES), "pieces of a body are whole blocks");

/// No piece of a body that is handed to the spool is larger: what was collected, and the chunk that filled behind it. A segment
/// that cannot hold one refuses the message.
pub const PIECE_BYTES_MAX: usize = SPILL_BYTES + CHUNK_BYTES_MAX;
