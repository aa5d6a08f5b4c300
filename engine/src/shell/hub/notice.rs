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
//! A message without a sender is owed none (RFC 5321 §6.1), nor is one for whose recipient NOTIFY asked for no word of
//! failure (M-151), nor is anything kept in durability `none`. What becomes of notices stands in `dsn`.

use super::Hub;
use super::accept::crc;
use super::dsn::Owed;
use super::failures::{Failures, Why, fields};
use super::load::{HeadOctets, LoadError, NO_MEMORY_WAIT};
use super::messages::Message;
use crate::io::driver::Driver;
use crate::planted;
use crate::queue::EntryId;
use crate::settings::Durability;
use crate::shell::body::Slices;
use crate::shell::hooks;
use crate::spool::{
    ALL_RECIPIENTS, Appended, Content, Facts, Failure, Full, NewRecord, Outcome, RecordId, RecordKind, RecordRef,
    Ticket,
};
use crate::track::counters::Counter;
use crate::wire::{EnvelopeBuf, EnvelopeRef, Notify, RecipientRef, Return, ReversePathRef, Span, Wall};
use std::collections::VecDeque;
use std::iter::repeat_n;
use std::rc::Rc;

/// Recipients that one record names.
const RECIPIENTS_MAX: usize = 1000;
/// Octets that a report says of them, to people and to programs.
const ABOUT_BYTES_MAX: usize = 128 << 10;
/// Octets of the original's header that one record holds.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Originals up to so many octets are held whole, where RET asks for it (M-156).
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// So many messages that are given up wait to be read.
const GIVEN_UP_MAX: usize = 1024;
/// Before a record that the disk did not give back is read again.
const READ_WAIT: Span = Span::seconds(5);

/// The original's header, or all of it; and how much of that is the header.
#[derive(Debug, Clone, Default)]
struct GivenBack {
    octets: Rc<[u8]>,
    header_bytes: usize,
}

/// One record to be.
#[derive(Debug)]
struct Notice {
    original: RecordId,
    failed: Vec<u16>,
    envelope: EnvelopeBuf,
    /// When the original came, as a date.
    arrival: Rc<[u8]>,
    /// Why, and how many recipients in a row each reason is about.
    whys: Vec<(Why, u16)>,
    given_back: GivenBack,
    /// Who waits for it to be durable.
    entries: Vec<EntryId>,
    /// What counts against [`ABOUT_BYTES_MAX`].
    about_bytes: usize,
}

impl Notice {
    /// About nobody so far.
    fn new(original: RecordId, said: &EnvelopeRef<'_>, arrival: &Rc<[u8]>, given_back: GivenBack) -> Self {
        let mut envelope = EnvelopeBuf::new();
        envelope.set_reverse_path(said.reverse_path());
        envelope.set_report(said.ret(), said.envelope_id());
        let (failed, whys, entries) = (Vec::new(), Vec::new(), Vec::new());
        Self { original, failed, envelope, arrival: arrival.clone(), whys, given_back, entries, about_bytes: 0 }
    }

    /// One more has failed, of this number in the original; `false` when it takes no more.
    fn add(&mut self, number: u16, recipient: RecipientRef<'_>, why: &Why) -> bool {
        let mailbox = recipient.local().len() + recipient.domain().len();
        let bytes = recipient.original().map_or(0, <[u8]>::len) + 2 * (mailbox + why.fields_bytes());
        let full = self.failed.len() >= RECIPIENTS_MAX || self.about_bytes + bytes > ABOUT_BYTES_MAX;
        if full && !self.failed.is_empty() {
            return false;
        }
        self.about_bytes += bytes;
        self.failed.push(number);
        self.envelope.add_copy(recipient);
        match self.whys.last_mut() {
            Some((last, count)) if last == why => *count += 1,
            _ => self.whys.push((why.clone(), 1)),
        }
        true
    }

    /// Whether there is a [`Notice::smaller`] one.
    fn is_divisible(&self) -> bool {
        !self.given_back.octets.is_empty() || self.failed.len() > 1
    }

    /// What takes less room and says that these recipients failed all the same, first things first.
    fn smaller(mut self) -> Vec<Self> {
        if !self.given_back.octets.is_empty() {
            self.given_back = GivenBack::default();
            return vec![self];
        }
        let half = self.failed.len() / 2;
        let said = self.envelope.as_ref();
        let empty = || Self::new(self.original, &said, &self.arrival, GivenBack::default());
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
    written: VecDeque<(Ticket, Option<RecordId>, Notice)>,
    /// Messages that are given up, and who of their recipients was not delivered to: their records are to be read.
    given_up: VecDeque<(RecordId, Failures)>,
}

impl Notices {
    /// The log has had no room for some.
    pub fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Messages that were given up are still to be read.
    pub fn are_unread(&self) -> bool {
        !self.given_up.is_empty()
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
        self.waiting.is_empty() && self.written.is_empty() && self.given_up.is_empty()
    }
}

/// The message that recipients failed of.
struct Original<'a> {
    record: RecordId,
    envelope: EnvelopeRef<'a>,
    received: Wall,
    given_back: GivenBack,
}

impl<'a> Original<'a> {
    /// Of the message with these pieces, `header` octets of which are its header section with our trace.
    fn of(
        (record, envelope, received): (RecordId, EnvelopeRef<'a>, Wall),
        pieces: impl Iterator<Item = &'a [u8]> + Clone,
        (header, whole): (usize, u64),
    ) -> Self {
        let there: u64 = pieces.clone().map(|piece| piece.len() as u64).sum();
        let wanted = envelope.ret() == Some(Return::Full) && whole <= WHOLE_BYTES_MAX && there == whole;
        let octets = start_of(pieces, if wanted { usize::MAX } else { header.min(HEADER_BYTES_MAX) });
        let header_bytes = header.min(octets.len());
        Self { record, envelope, received, given_back: GivenBack { octets, header_bytes } }
    }

    /// As few notices as tell that these failed, and those of whom nobody is told.
    fn notices(&self, failures: &mut Failures, arrival: &[u8]) -> (Vec<Notice>, Vec<u16>) {
        let arrival = Rc::from(arrival);
        let empty = || Notice::new(self.record, &self.envelope, &arrival, self.given_back.clone());
        let (mut notices, mut untold) = (vec![empty()], Vec::new());
        // Both go up: each recipient is looked at once, however many there are.
        let mut recipients = self.envelope.recipients();
        for (number, why) in failures.sorted() {
            let recipient = recipients.find(|recipient| recipient.index == u32::from(number));
            let Some(recipient) = recipient.filter(wants_failures) else {
                untold.push(number);
                continue;
            };
            if !notices.last_mut().is_some_and(|last| last.add(number, recipient, why)) {
                let mut next = empty();
                next.add(number, recipient, why);
                notices.push(next);
            }
        }
        notices.retain(|notice| !notice.failed.is_empty());
        (notices, untold)
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
        let header_bytes = message.trace.len().saturating_add(header_bytes);
        let whole = message.facts.bytes.saturating_add(message.trace.len() as u64);
        let envelope = EnvelopeRef::parse(&message.envelope).expect("an envelope of our own making");
        let original = Original::of((message.record, envelope, message.received), pieces, (header_bytes, whole));
        self.owe(&original, failures);
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
        let (notices, untold) = original.notices(&mut failures, &self.trace.date(original.received));
        self.tally.add(Counter::DsnOwed, (failures.len() - untold.len()) as u64);
        self.tally.add(Counter::FailedUnowed, untold.len() as u64);
        untold.into_iter().for_each(settle);
        self.notices.borrow_mut().waiting.extend(notices);
        self.write_notices();
    }

    /// Puts into batches what waits for room there.
    pub(super) fn write_notices(&self) {
        loop {
            let Some(mut notice) = self.notices.borrow_mut().waiting.pop_front() else { return };
            let full = match self.append_notice(&notice) {
                Ok(appended) => {
                    let ticket = appended.as_ref().map_or(Ticket(0), |appended| appended.ticket);
                    for _ in &notice.failed {
                        hooks::outcome();
                        self.settled_in(ticket);
                    }
                    notice.entries.drain(..).for_each(|entry| self.await_last_settle(entry));
                    self.notices.borrow_mut().written.push_back((ticket, appended.map(|appended| appended.id), notice));
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

    fn append_notice(&self, notice: &Notice) -> Result<Option<Appended>, Full> {
        let GivenBack { octets, header_bytes } = &notice.given_back;
        let facts = Facts {
            body_bytes: octets.len() as u64,
            header_bytes: u32::try_from(*header_bytes).expect("cut to its bound"),
            crc32c: crc([&**octets].into_iter()),
            ..Facts::default()
        };
        let record = NewRecord {
            kind: RecordKind::Owed,
            envelope: notice.envelope.bytes(),
            recipients: u16::try_from(notice.failed.len()).expect("cut to its bound"),
            trace: &fields(&notice.arrival, &notice.whys),
            facts: &facts,
            priority: 1,
            received: self.driver.wall(),
            content: Content::Octets(&[octets]),
            settles: &[],
        };
        self.log.borrow_mut().append_owed(notice.original, &notice.failed, &record)
    }

    /// Batches up to this one are durable, and so are their notices.
    pub(super) fn notices_are_durable(&self, up_to: Ticket) {
        let mut notices = self.notices.borrow_mut();
        while let Some((_, record, notice)) = notices.written.pop_front_if(|(ticket, ..)| *ticket <= up_to) {
            if let Some(record) = record {
                let recipients = u16::try_from(notice.failed.len()).expect("cut to its bound");
                self.report_is_due(Owed { record, original: Some(notice.original), recipients });
            }
        }
    }

    /// What stood in batches that failed is written again.
    pub(super) fn notices_failed(&self, failure: &Failure) {
        let mut notices = self.notices.borrow_mut();
        let Notices { waiting, written, .. } = &mut *notices;
        let (lost, kept) = std::mem::take(written).into_iter().partition(|(ticket, ..)| failure.holds(*ticket));
        *written = kept;
        let lost: VecDeque<(Ticket, Option<RecordId>, Notice)> = lost;
        waiting.extend(lost.into_iter().map(|(.., notice)| notice));
    }

    /// A message is given up; `false` when that cannot be said now. Its record is read for it when the message is not in
    /// memory: until that is done it is as live as before.
    pub(super) fn fail_later(&self, record: RecordId, message: Option<u32>, failures: Failures) -> bool {
        let in_memory = message.filter(|&message| self.messages.borrow().get(message).is_whole());
        match in_memory {
            Some(message) => self.fail(message, failures),
            None if self.notices.borrow().given_up.len() >= GIVEN_UP_MAX => return false,
            None => {
                self.notices.borrow_mut().given_up.push_back((record, failures));
                self.owed.raise();
            }
        }
        true
    }

    /// Reads what a notice is made from, and has it written down; `false` when the disk does not give it back now.
    async fn read_given_up(self: &Rc<Self>, record: RecordId, failures: &Failures) -> bool {
        let head = match self.read_record(record).await {
            Ok(head) => head,
            Err(error) => return matches!(error, LoadError::Gone),
        };
        let Some(found) = head.record() else { return false };
        let Ok(envelope) = EnvelopeRef::parse(found.envelope) else { return false };
        let content = self.read_start(&found).await;
        let pieces = std::iter::once(found.trace).chain(content.iter().map(|piece| &**piece));
        let header_bytes = found.trace.len().saturating_add(found.head.facts.header_bytes as usize);
        let whole = found.head.facts.body_bytes.saturating_add(found.trace.len() as u64);
        let original = Original::of((record, envelope, found.head.received), pieces, (header_bytes, whole));
        self.owe(&original, failures.clone());
        true
    }

    /// The first stretch of a record's content: all of it, but for large ones; nothing when the disk does not give it back.
    pub(super) async fn read_start(self: &Rc<Self>, record: &RecordRef<'_>) -> Slices {
        let mut read = self.read_first(record).await;
        if read.is_err() && !self.log.borrow().is_here(record.head.id) {
            // It was moved meanwhile, and its place is used again.
            let elsewhere = self.read_record(record.head.id).await;
            if let Some(record) = elsewhere.as_ref().ok().and_then(HeadOctets::record) {
                read = self.read_first(&record).await;
            }
        }
        read.unwrap_or_else(|error| {
            tracing::warn!(cause = "spool", record = %record.head.id, %error,
                "a notice goes without the header of its message");
            Slices::new()
        })
    }

    async fn read_first(self: &Rc<Self>, record: &RecordRef<'_>) -> Result<Slices, LoadError> {
        let stretches = self.log.borrow().content_of(record).map_err(|_| LoadError::Gone)?;
        let Some(stretch) = stretches.first() else { return Ok(Slices::new()) };
        let read = async || {
            let mut content = Slices::new();
            self.read_stretch(stretch, &mut content).await.map(|()| content)
        };
        self.patiently(read).await
    }
}

/// Reads messages that are given up, one after the other, and finds memory for notices, as long as the shard runs.
pub(super) async fn run<D: Driver>(hub: Rc<Hub<D>>) {
    loop {
        // Nothing is added to those that wait.
        while hub.notices.borrow().wait() {
            hub.relieve();
            hub.driver.sleep(NO_MEMORY_WAIT).await;
            hub.retry_settles();
        }
        let next = hub.notices.borrow_mut().given_up.pop_front();
        let Some((record, failures)) = next else {
            hub.owed.wait().await;
            continue;
        };
        if !hub.read_given_up(record, &failures).await {
            hub.notices.borrow_mut().given_up.push_back((record, failures));
            hub.owed.unless_raised(hub.driver.sleep(READ_WAIT)).await;
        }
    }
}

/// Whether the sender wants to hear that this recipient failed (M-151).
fn wants_failures(recipient: &RecipientRef<'_>) -> bool {
    planted!(ForgottenNotify) || recipient.notify().is_none_or(|notify| notify.has(Notify::FAILURE))
}

/// The first `most` octets of `pieces`.
fn start_of<'a>(pieces: impl Iterator<Item = &'a [u8]>, most: usize) -> Rc<[u8]> {
    let mut out = Vec::new();
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
