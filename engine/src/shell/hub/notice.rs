//! What a bounce will be made from. A recipient that failed for good is settled in the same batch as a record of kind
//! [`RecordKind::Owed`]: its envelope has the sender and who failed, its trace part says why in the fields of RFC 3464 §2.3,
//! its content is the header section of the original. Either both are durable or none is (I-1).
//!
//! The recipients of a message that failed in one attempt, or whose time was over together, share a record as far as its
//! bounds allow, so that the header stands there once. No budget counts what waits in memory; it is bounded by construction:
//! while one has no room in the log no attempt begins and nothing expires, so those that wait are of attempts that were
//! under way, and of one message that was read; those on their way to the disk hold no more than their batches do, which
//! are counted.
//!
//! A message without a sender is owed none (RFC 5321 §6.1), nor is anything kept in durability `none`.

use super::Hub;
use super::accept::crc;
use super::failures::{Failures, Why, fields};
use super::load::{LoadError, NO_MEMORY_WAIT};
use super::messages::Message;
use crate::io::driver::Driver;
use crate::queue::EntryId;
use crate::settings::Durability;
use crate::shell::body::Slices;
use crate::spool::{ALL_RECIPIENTS, Content, Facts, Failure, Full, NewRecord, Outcome, RecordId, RecordKind, Ticket};
use crate::track::counters::Counter;
use crate::wire::{EnvelopeBuf, EnvelopeRef, RecipientRef, ReversePathRef, Span};
use std::collections::VecDeque;
use std::iter::repeat_n;
use std::rc::Rc;

/// Recipients that one record names.
const RECIPIENTS_MAX: usize = 1000;
/// Octets that one record says of them, were each told of on its own: what a report on it takes.
const ABOUT_BYTES_MAX: usize = 64 << 10;
/// Octets of the original that one record holds.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// So many messages whose time is over wait to be read.
const EXPIRED_MAX: usize = 1024;
/// Before a record that the disk did not give back is read again.
const READ_WAIT: Span = Span::seconds(5);

/// One record to be.
#[derive(Debug)]
struct Notice {
    original: RecordId,
    failed: Vec<u16>,
    envelope: EnvelopeBuf,
    /// Why, and how many recipients in a row each reason is about.
    whys: Vec<(Why, u16)>,
    header: Rc<[u8]>,
    /// Who waits for it to be durable.
    entries: Vec<EntryId>,
    /// What counts against [`ABOUT_BYTES_MAX`].
    about_bytes: usize,
}

impl Notice {
    /// About nobody so far.
    fn new(original: RecordId, sender: ReversePathRef<'_>, header: Rc<[u8]>) -> Self {
        let mut envelope = EnvelopeBuf::new();
        envelope.set_reverse_path(sender);
        let (failed, whys, entries) = (Vec::new(), Vec::new(), Vec::new());
        Self { original, failed, envelope, whys, header, entries, about_bytes: 0 }
    }

    /// One more has failed, of this number in the original; `false` when it takes no more.
    fn add(&mut self, number: u16, recipient: RecipientRef<'_>, why: &Why) -> bool {
        let bytes = recipient.local().len() + recipient.domain().len() + why.fields_bytes();
        let full = self.failed.len() >= RECIPIENTS_MAX || self.about_bytes + bytes > ABOUT_BYTES_MAX;
        if full && !self.failed.is_empty() {
            return false;
        }
        self.about_bytes += bytes;
        self.failed.push(number);
        self.envelope.add_recipient(recipient.mailbox);
        match self.whys.last_mut() {
            Some((last, count)) if last == why => *count += 1,
            _ => self.whys.push((why.clone(), 1)),
        }
        true
    }

    /// Whether there is a [`Notice::smaller`] one.
    fn is_divisible(&self) -> bool {
        !self.header.is_empty() || self.failed.len() > 1
    }

    /// What takes less room and says that these recipients failed all the same, first things first.
    fn smaller(mut self) -> Vec<Self> {
        if !self.header.is_empty() {
            self.header = Rc::default();
            return vec![self];
        }
        let half = self.failed.len() / 2;
        let said = self.envelope.as_ref();
        let empty = || Self::new(self.original, said.reverse_path(), Rc::default());
        let mut halves = vec![empty(), empty()];
        let whys = self.whys.iter().flat_map(|(why, count)| repeat_n(why, usize::from(*count)));
        for (at, ((number, recipient), why)) in self.failed.iter().zip(said.recipients()).zip(whys).enumerate() {
            halves[usize::from(at >= half)].add(*number, recipient, why);
        }
        halves[1].entries = self.entries;
        halves
    }
}

/// Those on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// The log had no room for them yet.
    waiting: VecDeque<Notice>,
    /// In a batch that is not yet durable.
    written: VecDeque<(Ticket, Notice)>,
    /// Messages whose time is over, and who of their recipients was not delivered to: their records are to be read.
    expired: VecDeque<(RecordId, Vec<u16>)>,
}

impl Notices {
    /// The log has had no room for some.
    pub fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// This entry goes on only when those that wait are durable (M-102); `false` when none does.
    pub fn hold(&mut self, entry: EntryId) -> bool {
        self.waiting.back_mut().map(|last| last.entries.push(entry)).is_some()
    }
}

#[cfg(test)]
impl Notices {
    /// All of them are durable.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.written.is_empty() && self.expired.is_empty()
    }
}

/// The message that recipients failed of.
struct Original<'a> {
    record: RecordId,
    envelope: EnvelopeRef<'a>,
    header: Rc<[u8]>,
}

impl Original<'_> {
    /// As few notices as say that these failed, and those that it knows nothing of.
    fn notices(&self, failures: &mut Failures) -> (Vec<Notice>, Vec<u16>) {
        let empty = || Notice::new(self.record, self.envelope.reverse_path(), self.header.clone());
        let (mut notices, mut strangers) = (vec![empty()], Vec::new());
        // Both go up: each recipient is looked at once, however many there are.
        let mut recipients = self.envelope.recipients();
        for (number, why) in failures.sorted() {
            let Some(recipient) = recipients.find(|recipient| recipient.index == u32::from(number)) else {
                strangers.push(number);
                continue;
            };
            if !notices.last_mut().is_some_and(|last| last.add(number, recipient, why)) {
                let mut next = empty();
                next.add(number, recipient, why);
                notices.push(next);
            }
        }
        notices.retain(|notice| !notice.failed.is_empty());
        (notices, strangers)
    }
}

impl<D: Driver> Hub<D> {
    /// These recipients of a message in memory failed for good.
    pub(super) fn fail(&self, message: u32, failures: Failures) {
        if failures.is_empty() {
            return;
        }
        let message: Message = self.messages.borrow().get(message).clone();
        let header_bytes = usize::try_from(message.facts.header_bytes).unwrap_or(HEADER_BYTES_MAX);
        let pieces = std::iter::once(&message.trace).chain(&message.content).map(|piece| &**piece);
        let header = start_of(pieces, message.trace.len().saturating_add(header_bytes));
        let envelope = EnvelopeRef::parse(&message.envelope).expect("an envelope of our own making");
        self.owe(&Original { record: message.record, envelope, header }, failures);
    }

    fn owe(&self, original: &Original<'_>, mut failures: Failures) {
        // The host's words may name people: its code does not (S-040).
        let first = failures.first();
        let (host, code) = (first.and_then(Why::host), first.and_then(Why::code));
        tracing::info!(cause = "failed", record = %original.record, recipients = failures.len(),
            status = first.map(|why| tracing::field::display(why.status())), host = host.map(tracing::field::display), code,
            "recipients failed for good");
        let unsent = original.envelope.reverse_path() == ReversePathRef::Null;
        let settle = |recipient| self.settle(original.record, recipient, Outcome::Failed);
        if unsent || self.settings.server.durability == Durability::None {
            let counter = if unsent { Counter::FailedUnowed } else { Counter::DsnOwed };
            self.tally.add(counter, failures.len() as u64);
            return failures.numbers().for_each(settle);
        }
        self.tally.add(Counter::DsnOwed, failures.len() as u64);
        let (notices, strangers) = original.notices(&mut failures);
        strangers.into_iter().for_each(settle);
        self.notices.borrow_mut().waiting.extend(notices);
        self.write_notices();
    }

    /// Puts into batches what waits for room there.
    pub(super) fn write_notices(&self) {
        loop {
            let Some(mut notice) = self.notices.borrow_mut().waiting.pop_front() else { return };
            let full = match self.append_notice(&notice) {
                Ok(ticket) => {
                    notice.failed.iter().for_each(|_| self.settled_in(ticket));
                    notice.entries.drain(..).for_each(|entry| self.await_last_settle(entry));
                    self.notices.borrow_mut().written.push_back((ticket, notice));
                    self.settle_is_due();
                    continue;
                }
                Err(full) => full,
            };
            match full {
                Full::Space | Full::TooLarge if notice.is_divisible() => {
                    // What little is kept for outcomes takes many that are small.
                    let waiting = &mut self.notices.borrow_mut().waiting;
                    notice.smaller().into_iter().rev().for_each(|notice| waiting.push_front(notice));
                }
                Full::TooLarge | Full::Lost => self.settle_unnoticed(notice),
                Full::Segment | Full::Space | Full::Memory => {
                    self.notices.borrow_mut().waiting.push_front(notice);
                    let who = if full == Full::Memory { &self.owed } else { &self.segments };
                    return who.raise();
                }
            }
        }
    }

    /// It cannot be kept whenever it is tried: that they failed is.
    fn settle_unnoticed(&self, notice: Notice) {
        tracing::error!(cause = "spool", record = %notice.original, "a notice is too large to be kept");
        notice.failed.iter().for_each(|&recipient| self.settle(notice.original, recipient, Outcome::Failed));
        notice.entries.into_iter().for_each(|entry| self.await_settle(entry));
    }

    fn append_notice(&self, notice: &Notice) -> Result<Ticket, Full> {
        let bytes = notice.header.len() as u64;
        let facts = Facts {
            body_bytes: bytes,
            header_bytes: u32::try_from(bytes).expect("cut to its bound"),
            crc32c: crc([&*notice.header].into_iter()),
            ..Facts::default()
        };
        let record = NewRecord {
            kind: RecordKind::Owed,
            envelope: notice.envelope.bytes(),
            recipients: u16::try_from(notice.failed.len()).expect("cut to its bound"),
            trace: &fields(&notice.whys),
            facts: &facts,
            priority: 1,
            received: self.driver.wall(),
            content: Content::Octets(&[&notice.header]),
            settles: &[],
        };
        self.log.borrow_mut().append_owed(notice.original, &notice.failed, &record)
    }

    /// Batches up to this one are durable, and so are their notices.
    pub(super) fn notices_are_durable(&self, up_to: Ticket) {
        let mut notices = self.notices.borrow_mut();
        while notices.written.pop_front_if(|(ticket, _)| *ticket <= up_to).is_some() {}
    }

    /// What stood in batches that failed is written again.
    pub(super) fn notices_failed(&self, failure: &Failure) {
        let mut notices = self.notices.borrow_mut();
        let Notices { waiting, written, .. } = &mut *notices;
        let (lost, kept) = std::mem::take(written).into_iter().partition(|(ticket, _)| failure.holds(*ticket));
        *written = kept;
        let lost: VecDeque<(Ticket, Notice)> = lost;
        waiting.extend(lost.into_iter().map(|(_, notice)| notice));
    }

    /// The time of these recipients of a message is over; `false` when that cannot be said now. Its record is read for it
    /// when the message is not in memory: until that is done it is as live as before.
    pub(super) fn fail_expired(&self, record: RecordId, message: Option<u32>, failed: Vec<u16>) -> bool {
        let in_memory = message.filter(|&message| self.messages.borrow().get(message).is_whole());
        match in_memory {
            Some(message) => self.fail(message, Failures::of(failed, Why::expired())),
            None if self.notices.borrow().expired.len() >= EXPIRED_MAX => return false,
            None => {
                self.notices.borrow_mut().expired.push_back((record, failed));
                self.owed.raise();
            }
        }
        true
    }

    /// Reads what a notice is made from, and has it written down; `false` when the disk does not give it back now.
    async fn read_expired(self: &Rc<Self>, record: RecordId, failed: &[u16]) -> bool {
        let head = match self.read_record(record).await {
            Ok(head) => head,
            Err(error) => return matches!(error, LoadError::Gone),
        };
        let Some(found) = head.record() else { return false };
        let Ok(envelope) = EnvelopeRef::parse(found.envelope) else { return false };
        let first = self.log.borrow().content_of(&found).ok().and_then(|stretches| stretches.into_iter().next());
        let mut content = Slices::new();
        if let Some(stretch) = first {
            let read = async || {
                let mut content = Slices::new();
                self.read_stretch(&stretch, &mut content).await.map(|()| content)
            };
            match self.patiently(read).await {
                Ok(read) => content = read,
                Err(error) => tracing::warn!(cause = "spool", record = %record, %error,
                    "a notice goes without the header of its message"),
            }
        }
        let pieces = std::iter::once(found.trace).chain(content.iter().map(|piece| &**piece));
        let header_bytes = found.head.facts.header_bytes as usize;
        let header = start_of(pieces, found.trace.len().saturating_add(header_bytes));
        self.owe(&Original { record, envelope, header }, Failures::of(failed.iter().copied(), Why::expired()));
        true
    }
}

/// Reads messages whose time is over, one after the other, and finds memory for notices, as long as the shard runs.
pub(super) async fn run<D: Driver>(hub: Rc<Hub<D>>) {
    loop {
        // Nothing is added to those that wait.
        while hub.notices.borrow().wait() {
            hub.relieve();
            hub.driver.sleep(NO_MEMORY_WAIT).await;
            hub.retry_settles();
        }
        let next = hub.notices.borrow_mut().expired.pop_front();
        let Some((record, failed)) = next else {
            hub.owed.wait().await;
            continue;
        };
        if !hub.read_expired(record, &failed).await {
            hub.notices.borrow_mut().expired.push_back((record, failed));
            hub.owed.unless_raised(hub.driver.sleep(READ_WAIT)).await;
        }
    }
}

/// The first `most` octets of `pieces`, within the bound.
fn start_of<'a>(pieces: impl Iterator<Item = &'a [u8]>, most: usize) -> Rc<[u8]> {
    let most = most.min(HEADER_BYTES_MAX);
    let mut out = Vec::with_capacity(most);
    for piece in pieces {
        let room = most.saturating_sub(out.len());
        out.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    out.into()
}

/// Recipients by their numbers in the record.
pub(super) fn numbers(recipients: impl Iterator<Item = usize>) -> Vec<u16> {
    let number = |recipient| u16::try_from(recipient).expect("recipients are numbered by 16 bits");
    let numbers: Vec<u16> = recipients.map(number).collect();
    debug_assert!(!numbers.contains(&ALL_RECIPIENTS), "65 534 at most");
    numbers
}
