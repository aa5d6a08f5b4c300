//! The accounts of a run: every intended (message, recipient) pair ends in exactly one place (perf/METHODOLOGY.md, "Accounts").
//!
//! Joins what the sender recorded with what the sinks' ledgers say. Pure: give it everything after the drain.

use crate::ledger::{
    Delivery, FLAG_DIFFERS, FLAG_FOR_GOOD, FLAG_NO_FAILURE, FLAG_REFUSED, FLAG_REPORT, FLAG_SILENT, FLAG_UNRECORDED,
    FLAG_UNSTAMPED,
};
use crate::record::histogram::Times;
use crate::record::{MessageRecord, State};
use crate::workload::recipients::Recipients;
use engine::wire::{Span, Tick};
use serde::{Deserialize, Serialize};

/// How many examples of something wrong are kept by name.
pub const EXAMPLES_MAX: usize = 100;

/// Surplus copies by window (I-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Duplicated {
    /// The next hop had said 2yz and the settle was not yet durable.
    #[serde(rename = "W1")]
    pub w1: u64,
    /// A server died in the transaction, so that no reply reached the sender, and who stood behind him repeated. Senders of
    /// ours repeat nothing that may have been taken: without a death nothing explains such a copy.
    #[serde(rename = "W2")]
    pub w2: u64,
    /// A shadow holder took over.
    #[serde(rename = "W3")]
    pub w3: u64,
    /// Deliberate resubmission.
    #[serde(rename = "W4")]
    pub w4: u64,
    /// The outcome at the next hop was unknown, or the sink took what it had refused for now: who sends it again does right.
    #[serde(rename = "W5")]
    pub w5: u64,
    /// In none of them: a bug of the target.
    pub unattributed: u64,
}

/// Where a surplus copy lies, as [`Duplicated`] counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `Duplicated` say what each is")]
pub enum Window {
    W1,
    W2,
    W3,
    W4,
    W5,
    None,
}

impl Window {
    /// As results spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::W1 => "W1",
            Self::W2 => "W2",
            Self::W3 => "W3",
            Self::W4 => "W4",
            Self::W5 => "W5",
            Self::None => "none",
        }
    }
}

impl Duplicated {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.w1 + self.w2 + self.w3 + self.w4 + self.w5 + self.unattributed
    }
}

/// Where each pair ended. `result.json` has it as `pairs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Accounts {
    /// Pairs of the schedule that became due.
    pub intended: u64,
    /// Arrived, once or more.
    pub delivered: u64,
    /// A report came back instead that says so of this recipient. One that nobody can read explains one recipient.
    pub bounced: u64,
    /// Acknowledged, and nowhere.
    pub lost: u64,
    /// Acknowledged, and still waiting in the target.
    pub queued: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Refused for now, or never attempted.
    pub deferred: u64,
    /// The connection broke after the end of the message and before its reply, and it did not arrive.
    pub unknown: u64,
    /// Of the delivered: those whose reply the sender never saw.
    pub recovered: u64,
    /// Surplus copies.
    pub duplicated: Duplicated,
    /// What arrived and nobody sent.
    pub unexpected: u64,
    /// Of the delivered: those whose sender was told 4yz, and whose transaction was under way when a server behind the one
    /// that answered died, so that nobody could know whether it had taken them. No harm done yet: the sender's repeat would
    /// be a copy of window W2.
    pub deferred_yet_taken: u64,
    /// Of the delivered: all others whose sender was told 4yz or 5yz. Never right, unless the sink was told to.
    pub refused_yet_delivered: u64,
    /// Copies whose content is not what was sent (I-4).
    pub content_differs: u64,
    /// What sinks took and had no room to write down: so many of the lost may have arrived, and copies among them are not seen.
    pub unrecorded: u64,
}

impl Accounts {
    /// intended = delivered + bounced + lost + queued + rejected + deferred + unknown.
    pub fn add_up(&self) -> bool {
        let ends = [self.delivered, self.bounced, self.lost, self.queued, self.rejected, self.deferred, self.unknown];
        self.intended == ends.iter().sum::<u64>()
    }

    /// Of the lost, those that no gap in a sink's ledger explains.
    pub fn lost_for_certain(&self) -> u64 {
        self.lost.saturating_sub(self.unrecorded)
    }
}

/// A recipient that the peer refused on its own, while the message went on for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecipientRefusal {
    /// The message.
    pub seq: u64,
    /// Which of its recipients, from 0.
    pub place: u16,
    /// The reply's code.
    pub code: u16,
}

/// What a sender recorded, as far as the accounts need it. Message `seq` stands in
/// `shards[seq % shards.len()][seq / shards.len()]`.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// The run's number in stamps.
    pub run: u32,
    /// CLOCK_MONOTONIC at the start of the schedule.
    pub started: Tick,
    /// Records of each shard, in order.
    pub shards: &'a [Vec<MessageRecord>],
    /// Who gets what.
    pub recipients: &'a Recipients,
    /// Refusals of single recipients, sorted.
    pub refusals: &'a [RecipientRefusal],
}

/// What is known about the run from outside.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// Pairs that the target says are still in its queues.
    pub queued: u64,
    /// When a server between sender and sink was dead or cut off, with its restart's first seconds: duplicates whose
    /// first copy arrived in one of these are W1, others of messages that had no reply and were under way in one W2.
    pub server_breaks: Vec<(Tick, Tick)>,
    /// From the blow to the end of each server that another one hands messages to before it answers: a 4yz to a
    /// transaction that was under way then says that nobody knows. Not of a server that answers senders itself: it takes
    /// its answers with it.
    pub deaths_behind: Vec<(Tick, Tick)>,
    /// The target resubmitted on purpose in these.
    pub resubmissions: Vec<(Tick, Tick)>,
}

impl Circumstances {
    fn is_in_doubt(&self, record: &MessageRecord, started: Tick) -> bool {
        was_under_way(&self.deaths_behind, record, started)
    }

    fn had_no_reply_by_a_death(&self, record: &MessageRecord, state: State, started: Tick) -> bool {
        state == State::Unknown && was_under_way(&self.server_breaks, record, started)
    }
}

fn was_under_way(spans: &[(Tick, Tick)], record: &MessageRecord, started: Tick) -> bool {
    let (begun, answered) = (started + record.begun(), started + record.answered());
    spans.iter().any(|&(from, until)| begun <= until && from <= answered)
}

fn is_inside(spans: &[(Tick, Tick)], at: Tick) -> bool {
    spans.iter().any(|&(from, until)| (from..=until).contains(&at))
}

/// One surplus copy, explained or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// The message.
    pub seq: u64,
    /// The recipient's key.
    pub recipient: u32,
    /// When the first copy arrived.
    pub first: Tick,
    /// When this one did.
    pub again: Tick,
}

/// The accounts with what they rest on.
#[derive(Debug, Clone)]
pub struct Correlation {
    /// Where everything ended.
    pub accounts: Accounts,
    /// `t3 - t0` of first copies.
    pub delivery: Times,
    /// The same only for messages due at or after the time given as warm-up.
    pub delivery_main: Times,
    /// Each surplus copy: its message, and the window it lies in.
    pub doubled: Vec<(u64, Window)>,
    /// Examples of lost pairs: message and recipient key.
    pub lost: Vec<(u64, u32)>,
    /// Examples of duplicates in no window.
    pub unattributed: Vec<Duplicate>,
}

/// When the first copy of each message of `sent` arrived, and at which of the sinks with these `ledgers`; by its number.
pub fn first_arrivals<'l>(
    sent: &Sent<'_>,
    ledgers: impl IntoIterator<Item = &'l [Delivery]>,
) -> Vec<Option<(Tick, u16)>> {
    let messages = sent.shards.iter().map(Vec::len).max().unwrap_or(0) * sent.shards.len();
    let mut first: Vec<Option<(Tick, u16)>> = vec![None; messages];
    for (sink, ledger) in ledgers.into_iter().enumerate() {
        let copies = ledger.iter().filter(|copy| copy.run == sent.run && is_copy(copy));
        for copy in copies {
            let Some(slot) = usize::try_from(copy.seq).ok().and_then(|seq| first.get_mut(seq)) else { continue };
            if slot.is_none_or(|(at, _)| copy.at < at) {
                *slot = Some((copy.at, sink as u16));
            }
        }
    }
    first
}

/// Every message of `sent`, with how long after its intended time it arrived, where [`first_arrivals`] says so.
pub fn with_delivery<'s>(sent: &Sent<'s>, arrivals: &[Option<(Tick, u16)>]) -> Vec<(&'s MessageRecord, Option<Span>)> {
    let arrival = |seq: u64| *arrivals.get(usize::try_from(seq).ok()?)?;
    let one = |seq| {
        let record = sent.record(seq)?;
        Some((record, arrival(seq).map(|(at, _)| at.since(sent.started + record.intended()))))
    };
    sent.numbers().filter_map(one).collect()
}

/// Joins `sent` with `deliveries` (any order; sorted in place).
pub fn correlate(sent: &Sent<'_>, deliveries: &mut [Delivery], around: &Circumstances, warm_up: Span) -> Correlation {
    let mut joined = Correlation {
        accounts: Accounts::default(),
        delivery: Times::new(),
        delivery_main: Times::new(),
        doubled: Vec::new(),
        lost: Vec::new(),
        unattributed: Vec::new(),
    };
    let accounts = &mut joined.accounts;
    accounts.content_differs = deliveries.iter().filter(|delivery| delivery.is(FLAG_DIFFERS)).count() as u64;
    let gaps = || deliveries.iter().filter(|delivery| delivery.is(FLAG_UNRECORDED));
    accounts.unrecorded = gaps().map(|gap| gap.seq).sum();
    let gaps = gaps().count();
    // Reports sort behind copies, so that a pair that was delivered and reported counts as delivered.
    deliveries.sort_unstable_by_key(|delivery| (delivery.run, delivery.seq, delivery.recipient, delivery.at));
    let ours = deliveries.partition_point(|delivery| delivery.run < sent.run);
    let end = deliveries.partition_point(|delivery| delivery.run <= sent.run);
    let others = deliveries.len() - (end - ours);
    let ours = &deliveries[ours..end];
    let nobodys = ours.iter().filter(|delivery| !sent.has(delivery)).count();
    accounts.unexpected = (others + nobodys - gaps) as u64;
    for seq in sent.numbers() {
        let Some(record) = sent.record(seq) else { continue };
        let from = ours.partition_point(|delivery| delivery.seq < seq);
        let until = ours.partition_point(|delivery| delivery.seq <= seq);
        settle_message(sent, seq, record, &ours[from..until], around, warm_up, &mut joined);
    }
    let accounts = &mut joined.accounts;
    accounts.queued = around.queued.min(accounts.lost);
    accounts.lost -= accounts.queued;
    joined
}

fn settle_message(
    sent: &Sent<'_>,
    seq: u64,
    record: &MessageRecord,
    copies: &[Delivery],
    around: &Circumstances,
    warm_up: Span,
    joined: &mut Correlation,
) {
    let mut reports = Reports::of(copies, || sent.recipients.of(seq).map(|address| address.key));
    for (place, address) in sent.recipients.of(seq).enumerate() {
        let mut copies = copies.iter().filter(|copy| copy.recipient == address.key && is_copy(copy));
        let state = sent.state_of(seq, place, record);
        let accounts = &mut joined.accounts;
        accounts.intended += 1;
        let Some(first) = copies.next() else {
            match state {
                State::Accepted if reports.tell_of(address.key) => accounts.bounced += 1,
                State::Accepted => {
                    accounts.lost += 1;
                    keep(&mut joined.lost, (seq, address.key));
                }
                State::Rejected => accounts.rejected += 1,
                State::Deferred | State::NotAttempted | State::Waiting => accounts.deferred += 1,
                State::Unknown | State::Started => accounts.unknown += 1,
            }
            continue;
        };
        accounts.delivered += 1;
        accounts.recovered += u64::from(matches!(state, State::Unknown | State::Started));
        let is_in_doubt = state == State::Deferred && around.is_in_doubt(record, sent.started);
        accounts.deferred_yet_taken += u64::from(is_in_doubt);
        accounts.refused_yet_delivered += u64::from(matches!(state, State::Rejected | State::Deferred) && !is_in_doubt);
        let delivery_us = first.at.since(sent.started + record.intended()).as_micros();
        joined.delivery.record(delivery_us);
        if record.intended() >= warm_up {
            joined.delivery_main.record(delivery_us);
        }
        let was_silenced = around.had_no_reply_by_a_death(record, state, sent.started);
        let mut before = first;
        for again in copies {
            attribute([first, before, again], was_silenced, around, joined);
            before = again;
        }
    }
}

/// A copy of a message, and nothing about one.
fn is_copy(delivery: &Delivery) -> bool {
    !delivery.is(FLAG_REPORT | FLAG_UNSTAMPED | FLAG_UNRECORDED)
}

/// What reports say about the recipients of one message.
struct Reports {
    /// Those they name.
    failed: Vec<u32>,
    /// Those that name none of its recipients, and may be about any.
    unread: usize,
}

impl Reports {
    fn of<I: Iterator<Item = u32>>(deliveries: &[Delivery], recipients: impl Fn() -> I) -> Self {
        let about = deliveries.iter().filter(|delivery| delivery.is(FLAG_REPORT) && !delivery.is(FLAG_NO_FAILURE));
        let (failed, unread): (Vec<u32>, Vec<u32>) =
            about.map(|report| report.recipient).partition(|&key| recipients().any(|recipient| recipient == key));
        Self { failed, unread: unread.len() }
    }

    /// Whether this recipient, of whom nothing arrived, is accounted for.
    fn tell_of(&mut self, recipient: u32) -> bool {
        let named = self.failed.contains(&recipient);
        let guessed = !named && self.unread > 0;
        self.unread -= usize::from(guessed);
        named || guessed
    }
}

/// In which window a surplus copy lies (I-3): the `first` one, the one `before` it that made it surplus, and itself. No reply
/// reached its sender because somebody died if it `was_silenced`.
fn attribute(
    [first, before, again]: [&Delivery; 3],
    was_silenced: bool,
    around: &Circumstances,
    joined: &mut Correlation,
) {
    let windows = &mut joined.accounts.duplicated;
    let was_refused_for_now = before.is(FLAG_REFUSED) && !before.is(FLAG_FOR_GOOD);
    let window = if before.is(FLAG_SILENT) || was_refused_for_now {
        windows.w5 += 1;
        Window::W5
    } else if is_inside(&around.resubmissions, again.at) {
        windows.w4 += 1;
        Window::W4
    } else if is_inside(&around.server_breaks, before.at) {
        windows.w1 += 1;
        Window::W1
    } else if was_silenced {
        windows.w2 += 1;
        Window::W2
    } else {
        windows.unattributed += 1;
        let duplicate = Duplicate { seq: again.seq, recipient: again.recipient, first: first.at, again: again.at };
        keep(&mut joined.unattributed, duplicate);
        Window::None
    };
    joined.doubled.push((again.seq, window));
}

fn keep<T>(examples: &mut Vec<T>, example: T) {
    if examples.len() < EXAMPLES_MAX {
        examples.push(example);
    }
}

impl<'a> Sent<'a> {
    /// Message `seq`'s record.
    pub fn record(&self, seq: u64) -> Option<&'a MessageRecord> {
        let shards = self.shards.len().max(1) as u64;
        let shard = self.shards.get((seq % shards) as usize)?;
        shard.get(usize::try_from(seq / shards).ok()?)
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let shards = self.shards.len() as u64;
        let each = self.shards.iter().enumerate();
        each.flat_map(move |(shard, records)| (0..records.len() as u64).map(move |index| index * shards + shard as u64))
    }

    fn has(&self, delivery: &Delivery) -> bool {
        let known = !delivery.is(FLAG_UNSTAMPED) && self.record(delivery.seq).is_some();
        known && (delivery.is(FLAG_REPORT) || self.recipients.of(delivery.seq).any(|to| to.key == delivery.recipient))
    }

    fn state_of(&self, seq: u64, place: usize, record: &MessageRecord) -> State {
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        match self.refusals.binary_search_by_key(&(seq, place), |refusal| (refusal.seq, refusal.place)) {
            Ok(at) if self.refusals[at].code >= 500 => State::Rejected,
            Ok(_) => State::Deferred,
            Err(_) => record.state,
        }
    }
}

#[cfg(test)]
mod tests;
