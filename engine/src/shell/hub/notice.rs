//! What a bounce will be made from. A recipient that failed for good is settled in the same batch as a record of kind
//! [`RecordKind::Owed`]: its envelope has the sender and who failed, its trace part says why in the fields of RFC 3464 §2.3,
//! its content is the header section of the original. Either both are durable or none is (I-1).
//!
//! A message without a sender is owed none (RFC 5321 §6.1), nor is anything kept in durability `none`.

use super::Hub;
use super::accept::crc;
use super::load::{LoadError, NO_MEMORY_WAIT};
use super::messages::Message;
use crate::io::driver::Driver;
use crate::queue::EntryId;
use crate::settings::Durability;
use crate::shell::body::Slices;
use crate::spool::{ALL_RECIPIENTS, Content, Facts, Failure, Full, NewRecord, Outcome, RecordId, RecordKind, Ticket};
use crate::track::counters::Counter;
use crate::wire::{EnhancedStatus, EnvelopeBuf, EnvelopeRef, Reply, ReversePathRef, Span};
use std::collections::VecDeque;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;

/// Recipients that one record names.
const RECIPIENTS_MAX: usize = 256;
/// Octets of the original that one record holds.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// So many messages whose time is over wait to be read.
const EXPIRED_MAX: usize = 1024;
/// Before a record that the disk did not give back is read again.
const READ_WAIT: Span = Span::seconds(5);

/// Why recipients failed.
#[derive(Debug, Clone)]
pub(super) struct Why {
    /// The code of RFC 3463, where no reply has one.
    pub status: EnhancedStatus,
    /// The last word of a next hop, and who said it.
    pub said: Option<(SocketAddr, Reply)>,
}

impl Why {
    /// A next hop refused it.
    pub fn refused(by: SocketAddr, reply: &Reply) -> Self {
        Self { said: Some((by, reply.clone())), ..Self::unknown() }
    }

    /// Nobody said.
    pub fn unknown() -> Self {
        Self { status: EnhancedStatus::new(5, 0, 0), said: None }
    }

    /// It was not delivered in its time.
    pub fn expired() -> Self {
        Self { status: EnhancedStatus::new(4, 4, 7), said: None }
    }

    /// The fields of a report that tell it (RFC 3464 §2.3).
    fn fields(&self) -> Vec<u8> {
        let status = self.said.as_ref().and_then(|(_, reply)| reply.enhanced()).unwrap_or(self.status);
        let mut out = format!("Action: failed\r\nStatus: {status}\r\n").into_bytes();
        if let Some((host, reply)) = &self.said {
            let family = if host.is_ipv6() { "IPv6:" } else { "" };
            // Writing to memory cannot fail.
            let _never = write!(out, "Remote-MTA: dns; [{family}{}]\r\n", host.ip());
            let _never = write!(out, "Diagnostic-Code: smtp; {}", reply.code());
            if let Some(status) = reply.enhanced() {
                let _never = write!(out, " {status}");
            }
            let _never = write!(out, " {}\r\n", reply.text());
        }
        out
    }
}

/// One record to be.
#[derive(Debug)]
struct Notice {
    original: RecordId,
    failed: Vec<u16>,
    envelope: EnvelopeBuf,
    fields: Vec<u8>,
    header: Vec<u8>,
    /// Who waits for it to be durable.
    entries: Vec<EntryId>,
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
    header: Vec<u8>,
}

impl<D: Driver> Hub<D> {
    /// These recipients of a message in memory, ascending, failed for good.
    pub(super) fn fail(&self, message: u32, failed: &[u16], why: &Why) {
        let message: Message = self.messages.borrow().get(message).clone();
        let header_bytes = usize::try_from(message.facts.header_bytes).unwrap_or(HEADER_BYTES_MAX);
        let pieces = std::iter::once(&message.trace).chain(&message.content).map(|piece| &**piece);
        let header = start_of(pieces, message.trace.len().saturating_add(header_bytes));
        let envelope = EnvelopeRef::parse(&message.envelope).expect("an envelope of our own making");
        self.owe(&Original { record: message.record, envelope, header }, failed, why);
    }

    fn owe(&self, original: &Original<'_>, failed: &[u16], why: &Why) {
        // The host's words may name people: its code does not (S-040).
        let host = why.said.as_ref().map(|(host, _)| tracing::field::display(host));
        let code = why.said.as_ref().map(|(_, reply)| reply.code());
        tracing::info!(cause = "failed", record = %original.record, recipients = failed.len(), status = %why.status, host, code,
            "recipients failed for good");
        let unsent = original.envelope.reverse_path() == ReversePathRef::Null;
        if unsent || self.settings.server.durability == Durability::None {
            let counter = if unsent { Counter::FailedUnowed } else { Counter::DsnOwed };
            self.tally.add(counter, failed.len() as u64);
            return failed.iter().for_each(|&recipient| self.settle(original.record, recipient, Outcome::Failed));
        }
        self.tally.add(Counter::DsnOwed, failed.len() as u64);
        // Both go up: each recipient is looked at once, however many there are.
        let mut recipients = original.envelope.recipients();
        for failed in failed.chunks(RECIPIENTS_MAX) {
            let mut envelope = EnvelopeBuf::new();
            envelope.set_reverse_path(original.envelope.reverse_path());
            for &wanted in failed {
                if let Some(recipient) = recipients.find(|recipient| recipient.index == u32::from(wanted)) {
                    envelope.add_recipient(recipient.mailbox);
                }
            }
            let (fields, header) = (why.fields(), original.header.clone());
            let (original, failed, entries) = (original.record, failed.to_vec(), Vec::new());
            let notice = Notice { original, failed, envelope, fields, header, entries };
            self.notices.borrow_mut().waiting.push_back(notice);
        }
        self.write_notices();
    }

    /// Puts into batches what waits for room there.
    pub(super) fn write_notices(&self) {
        loop {
            let Some(mut notice) = self.notices.borrow_mut().waiting.pop_front() else { return };
            match self.append_notice(&notice) {
                Ok(ticket) => {
                    notice.failed.iter().for_each(|_| self.settled_in(ticket));
                    notice.entries.drain(..).for_each(|entry| self.await_last_settle(entry));
                    self.notices.borrow_mut().written.push_back((ticket, notice));
                    self.settle_is_due();
                }
                Err(Full::TooLarge | Full::Lost) => {
                    tracing::error!(cause = "spool", record = %notice.original, "a notice is too large to be kept");
                    let settled = notice.failed.iter();
                    settled.for_each(|&recipient| self.settle(notice.original, recipient, Outcome::Failed));
                }
                Err(Full::Space) if !notice.header.is_empty() => {
                    // What little is kept for outcomes takes many that are small.
                    notice.header.clear();
                    self.notices.borrow_mut().waiting.push_front(notice);
                }
                Err(full @ (Full::Segment | Full::Space | Full::Memory)) => {
                    self.notices.borrow_mut().waiting.push_front(notice);
                    let who = if full == Full::Memory { &self.owed } else { &self.segments };
                    return who.raise();
                }
            }
        }
    }

    fn append_notice(&self, notice: &Notice) -> Result<Ticket, Full> {
        let bytes = notice.header.len() as u64;
        let facts = Facts {
            body_bytes: bytes,
            header_bytes: u32::try_from(bytes).expect("cut to its bound"),
            crc32c: crc([notice.header.as_slice()].into_iter()),
            ..Facts::default()
        };
        let record = NewRecord {
            kind: RecordKind::Owed,
            envelope: notice.envelope.bytes(),
            recipients: u16::try_from(notice.failed.len()).expect("cut to its bound"),
            trace: &notice.fields,
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
            Some(message) => self.fail(message, &failed, &Why::expired()),
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
        self.owe(&Original { record, envelope, header }, failed, &Why::expired());
        true
    }
}

/// Reads messages whose time is over, one after the other, and finds memory for notices, as long as the shard runs.
pub(super) async fn run<D: Driver>(hub: Rc<Hub<D>>) {
    loop {
        if hub.notices.borrow().wait() {
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
fn start_of<'a>(pieces: impl Iterator<Item = &'a [u8]>, most: usize) -> Vec<u8> {
    let most = most.min(HEADER_BYTES_MAX);
    let mut out = Vec::with_capacity(most);
    for piece in pieces {
        let room = most.saturating_sub(out.len());
        out.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    out
}

/// Recipients by their numbers in the record.
pub(super) fn numbers(recipients: impl Iterator<Item = usize>) -> Vec<u16> {
    let number = |recipient| u16::try_from(recipient).expect("recipients are numbered by 16 bits");
    let numbers: Vec<u16> = recipients.map(number).collect();
    debug_assert!(!numbers.contains(&ALL_RECIPIENTS), "65 534 at most");
    numbers
}
