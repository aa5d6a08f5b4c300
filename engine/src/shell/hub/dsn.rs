//! From what is owed to what is sent: each notice on disk becomes a message from the null sender to who sent the original
//! (RFC 3461 §6). The message's record and the end of the notice stand in one batch, so a crash neither loses nor doubles
//! a report.
//!
//! Notices are read back from the disk, so that however many there are, memory holds their names alone. Those of one
//! message that became durable together become one report.

use super::Hub;
use super::accept::crc;
use super::failures::Said;
use super::load::{HeadOctets, LoadError};
use super::messages::{Message, to_record};
use crate::hook;
use crate::io::driver::Driver;
use crate::mime::report::{Action, Original, Recipient, Report};
use crate::shell::body::Slices;
use crate::shell::signal::Signal;
use crate::smtp::content_facts;
use crate::spool::{
    Appended, Content, Failure, Full, NewRecord, PACKED_BYTES_MAX, RecordId, RecordKind, RecordRef, Ticket,
};
use crate::track::counters::Counter;
use crate::wire::{EnvelopeBuf, EnvelopeRef, MailboxRef, Notify, ReversePathRef, Span, Tick};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Recipients that one report is about, where they failed apart.
const RECIPIENTS_MAX: u32 = 64;
/// Notices that are looked through for others of the same message.
const LOOKED_THROUGH_MAX: usize = 256;
/// Reports made between two looks at everything else.
const REPORTS_PER_TURN: u32 = 16;
/// Before a report is made again that found no room.
const AGAIN_WAIT: Span = Span::millis(200);
/// Before notices are read again that the disk did not give back.
const READ_WAIT: Span = Span::seconds(5);

/// A notice on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owed {
    /// Its record.
    pub record: RecordId,
    /// That of the message, if that is known: it is of this run.
    pub original: Option<RecordId>,
    /// Whom it is about.
    pub recipients: u16,
}

/// A report in a batch that is not yet durable.
#[derive(Debug)]
struct Made {
    ticket: Ticket,
    /// The message in memory.
    message: u32,
    /// What it is made from.
    owed: Vec<Owed>,
}

/// Everything between a durable notice and a queued report.
#[derive(Debug, Default)]
pub(super) struct Reports {
    list: RefCell<List>,
    /// Some are to be made.
    due: Signal,
}

#[derive(Debug, Default)]
struct List {
    owed: VecDeque<Owed>,
    made: VecDeque<Made>,
    /// The disk did not give them back: they are read again when all others were, and a while has passed.
    unread: VecDeque<Owed>,
    read_at: Tick,
    /// None is made before what was settled up to here is durable: a report in doubt is cancelled first.
    hold: Option<Ticket>,
}

impl List {
    /// The next notices that make one report.
    fn next(&mut self) -> Option<Vec<Owed>> {
        let first = self.owed.pop_front()?;
        let mut group = vec![first];
        let mut count = u32::from(first.recipients);
        let mut at = 0;
        while first.original.is_some() && at < self.owed.len().min(LOOKED_THROUGH_MAX) {
            let next = self.owed[at];
            let fits = count + u32::from(next.recipients) <= RECIPIENTS_MAX;
            if next.original == first.original && fits {
                count += u32::from(next.recipients);
                group.extend(self.owed.remove(at));
            } else {
                at += 1;
            }
        }
        Some(group)
    }
}

#[cfg(test)]
impl Reports {
    /// None is made, or they are again.
    pub fn pause(&self, pause: bool) {
        self.list.borrow_mut().hold = pause.then_some(Ticket(u64::MAX));
        self.due.raise();
    }

    /// Notices that wait to become reports.
    pub fn waiting(&self) -> usize {
        self.list.borrow().owed.len()
    }

    /// Whether nothing waits to become a report, and none to become durable.
    pub fn is_empty(&self) -> bool {
        let list = self.list.borrow();
        list.owed.is_empty() && list.made.is_empty() && list.unread.is_empty()
    }
}

/// Makes reports as long as the shard runs.
pub(super) async fn run<D: Driver>(hub: Rc<Hub<D>>) {
    let mut made = 0u32;
    loop {
        let next = if hub.may_report() { hub.reports.list.borrow_mut().next() } else { None };
        let Some(owed) = next else {
            hub.await_notices().await;
            continue;
        };
        if let Err((there, full)) = hub.make_report(&owed).await {
            hub.not_made(there, full).await;
        }
        made = made.wrapping_add(1);
        if made.is_multiple_of(REPORTS_PER_TURN) {
            hub.driver.yield_now().await;
        }
    }
}

impl<D: Driver> Hub<D> {
    /// A notice is durable: its report is due, where reports are sent.
    pub(super) fn report_is_due(&self, owed: Owed) {
        if self.settings.delivery.reports {
            self.reports.list.borrow_mut().owed.push_back(owed);
            self.reports.due.raise();
        }
    }

    fn may_report(&self) -> bool {
        !self.draining.get() && self.reports.list.borrow().hold <= Some(self.settled_upto.get())
    }

    /// Batches up to this one are durable: reports in them are queued.
    pub(super) fn reports_are_durable(&self, up_to: Ticket) {
        let now = self.driver.now();
        loop {
            let made = self.reports.list.borrow_mut().made.pop_front_if(|made| made.ticket <= up_to);
            let Some(made) = made else { break };
            self.tally.one(Counter::Reports);
            hook!("K19");
            self.enqueue(made.message, now);
        }
        let reports = self.reports.list.borrow();
        if reports.hold.is_some() && !reports.owed.is_empty() {
            self.reports.due.raise();
        }
    }

    /// What stood in batches that failed is made again, once it is sure that it will not come to life.
    pub(super) fn reports_failed(&self, failure: &Failure) {
        let mut reports = self.reports.list.borrow_mut();
        let (lost, kept): (VecDeque<Made>, VecDeque<Made>) =
            std::mem::take(&mut reports.made).into_iter().partition(|made| failure.holds(made.ticket));
        reports.made = kept;
        for made in lost {
            // What was never given to the disk cannot come to life.
            if failure.in_doubt == Some(made.ticket) {
                reports.hold = reports.hold.max(failure.in_doubt);
            }
            reports.owed.extend(made.owed);
            self.messages.borrow_mut().remove(made.message);
        }
        self.reports.due.raise();
    }

    /// Waits for notices; those that were not to be read are due again after a while.
    async fn await_notices(&self) {
        if self.reports.list.borrow().unread.is_empty() || self.draining.get() {
            return self.reports.due.wait().await;
        }
        let wait = self.reports.list.borrow().read_at.since(self.driver.now());
        self.reports.due.unless_raised(self.driver.sleep(wait)).await;
        let mut list = self.reports.list.borrow_mut();
        let List { owed, unread, read_at, .. } = &mut *list;
        if *read_at <= self.driver.now() {
            owed.append(unread);
        }
    }

    /// There was no room for a report: its notices stay as they are.
    async fn not_made(&self, owed: Vec<Owed>, full: Full) {
        match full {
            Full::TooLarge | Full::Lost if owed.len() > 1 => {
                let apart = owed.into_iter().map(|owed| Owed { original: None, ..owed });
                self.reports.list.borrow_mut().owed.extend(apart);
            }
            Full::TooLarge | Full::Lost => {
                tracing::error!(cause = "spool", record = %owed[0].record, "a report is too large to be made");
            }
            Full::Segment | Full::Space | Full::Memory => {
                self.reports.list.borrow_mut().owed.extend(owed);
                self.relieve();
                self.driver.sleep(AGAIN_WAIT).await;
            }
        }
    }

    /// Those of these notices that are there and readable, with what they say.
    async fn read_notices(self: &Rc<Self>, owed: &[Owed]) -> (Vec<Owed>, Vec<HeadOctets>) {
        let (mut there, mut heads) = (Vec::new(), Vec::new());
        for &owed in owed {
            match self.read_record(owed.record).await {
                Ok(head) => {
                    there.push(owed);
                    heads.push(head);
                }
                Err(LoadError::Gone) => {}
                Err(error) => {
                    tracing::error!(cause = "spool", record = %owed.record, %error, "a report waits for its notice");
                    let mut list = self.reports.list.borrow_mut();
                    list.unread.push_back(owed);
                    list.read_at = self.driver.now() + READ_WAIT;
                }
            }
        }
        (there, heads)
    }

    /// Makes one report from these notices, which are of one message. Where there is no room for it, those of them that are
    /// there; who cannot be read waits already.
    async fn make_report(self: &Rc<Self>, owed: &[Owed]) -> Result<(), (Vec<Owed>, Full)> {
        let (owed, heads) = self.read_notices(owed).await;
        let records: Vec<RecordRef<'_>> = heads.iter().filter_map(HeadOctets::record).collect();
        let Some(first) = records.first() else { return Ok(()) };
        let given_back: Vec<u8> = self.read_start(first).await.iter().flat_map(|piece| piece.to_vec()).collect();
        hook!("K19");
        let Ok(envelope) = EnvelopeRef::parse(first.envelope) else {
            tracing::error!(
                cause = "spool",
                "a notice is not readable and reports nothing; it stays for the next start"
            );
            return Ok(());
        };
        let ReversePathRef::Mailbox(to) = envelope.reverse_path() else { return Ok(()) };
        let content = self.report_to(to, &records, first, &given_back);
        let (appended, message) = match self.write_report(&owed, to, &content) {
            Ok(Some(written)) => written,
            Ok(None) => return Ok(()),
            Err(full) => return Err((owed, full)),
        };
        let message = self.messages.borrow_mut().insert(message);
        let made = Made { ticket: appended.ticket, message, owed };
        self.reports.list.borrow_mut().made.push_back(made);
        self.commit.raise();
        Ok(())
    }

    /// The report on these records, of which the first says what is said once.
    fn report_to(
        &self,
        to: MailboxRef<'_>,
        records: &[RecordRef<'_>],
        first: &RecordRef<'_>,
        given_back: &[u8],
    ) -> Vec<u8> {
        let dates: Vec<Vec<u8>> = records.iter().map(|record| self.trace.date(record.head.received)).collect();
        let mut recipients = Vec::new();
        for (record, date) in records.iter().zip(&dates) {
            let Ok(envelope) = EnvelopeRef::parse(record.envelope) else { continue };
            let mut of_record = envelope.recipients();
            for why in Said::groups(record.trace) {
                recipients.extend(of_record.by_ref().take(why.recipients).map(|recipient| Recipient {
                    mailbox: recipient.mailbox,
                    original: recipient.original(),
                    status: why.status,
                    remote: why.remote,
                    diagnostic: why.diagnostic,
                    // Who was given up was not tried then.
                    last_attempt: why.diagnostic.map(|_| &date[..]),
                }));
            }
        }
        let is_whole = given_back.len() > first.head.facts.header_bytes as usize;
        let date = self.trace.date(self.driver.wall());
        let report = Report {
            action: Action::Failed,
            reporting: &self.settings.server.fqdn,
            to,
            id: self.ids.next(),
            date: &date,
            arrival: Said::groups(first.trace).find_map(|said| said.arrival),
            envelope_id: EnvelopeRef::parse(first.envelope).ok().and_then(|envelope| envelope.envelope_id()),
            recipients: &recipients,
            original: if is_whole { Original::Whole(given_back) } else { Original::Headers(given_back) },
        };
        let mut content = Vec::new();
        report.write(&mut content);
        if content.len() > PACKED_BYTES_MAX {
            content.clear();
            Report { original: Original::Headers(&[]), ..report }.write(&mut content);
        }
        content
    }

    /// Puts a report into the open batch, and with it the end of its notices; `None` when they have ended before.
    fn write_report(
        &self,
        owed: &[Owed],
        to: MailboxRef<'_>,
        content: &[u8],
    ) -> Result<Option<(Appended, Message)>, Full> {
        let mut envelope = EnvelopeBuf::new();
        envelope.set_reverse_path(ReversePathRef::Null);
        // Nobody is told what becomes of a report (M-152).
        envelope.add(to, Some(Notify::NEVER), None);
        let facts = content_facts(content);
        let (crc32c, received) = (crc([content].into_iter()), self.driver.wall());
        let record = NewRecord {
            kind: RecordKind::Message,
            envelope: envelope.bytes(),
            recipients: 1,
            trace: &[],
            facts: &to_record(&facts, crc32c),
            priority: 1,
            received,
            content: Content::Octets(&[content]),
            settles: &[],
        };
        let names: Vec<RecordId> = owed.iter().map(|owed| owed.record).collect();
        let Some(appended) = self.log.borrow_mut().append_report(&names, &record)? else { return Ok(None) };
        let mut slices = Slices::new();
        slices.extend(appended.content.clone());
        let message = Message {
            id: appended.id.raw(),
            record: appended.id,
            envelope: appended.envelope.clone(),
            trace: appended.trace.clone(),
            content: slices,
            facts,
            crc32c,
            received,
            spoiled: false,
            recipients: 1,
            undivided: false,
            entries: 0,
        };
        Ok(Some((appended, message)))
    }
}
