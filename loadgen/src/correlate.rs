//! The accounts of a run: every intended (message, recipient) pair ends in exactly one place (perf/METHODOLOGY.md, "Accounts").
//!
//! Joins what the sender recorded with what the sinks' ledgers say. Pure: give it everything after the drain.

use crate::ledger::{Delivery, FLAG_DIFFERS, FLAG_REPORT, FLAG_SILENT, FLAG_UNSTAMPED};
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
    /// Our 250 did not reach the sender, who repeated.
    #[serde(rename = "W2")]
    pub w2: u64,
    /// A shadow holder took over.
    #[serde(rename = "W3")]
    pub w3: u64,
    /// Deliberate resubmission.
    #[serde(rename = "W4")]
    pub w4: u64,
    /// The outcome at the next hop was unknown.
    #[serde(rename = "W5")]
    pub w5: u64,
    /// In none of them: a bug of the target.
    pub unattributed: u64,
}

impl Duplicated {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.w1 + self.w2 + self.w3 + self.w4 + self.w5 + self.unattributed
    }
}

/// Where each pair ended. `result.json` has it as `pairs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Accounts {
    /// Pairs of the schedule that became due.
    pub intended: u64,
    /// Arrived, once or more.
    pub delivered: u64,
    /// A report about it came back instead.
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
}

impl Accounts {
    /// intended = delivered + bounced + lost + queued + rejected + deferred + unknown.
    pub fn add_up(&self) -> bool {
        let ends = [self.delivered, self.bounced, self.lost, self.queued, self.rejected, self.deferred, self.unknown];
        self.intended == ends.iter().sum::<u64>()
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
    /// first copy arrived in one of these are W1.
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
        let (begun, answered) = (started + record.begun(), started + record.answered());
        self.deaths_behind.iter().any(|&(struck, gone)| begun <= gone && struck <= answered)
    }
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
        let copies = ledger.iter().filter(|copy| copy.run == sent.run && !copy.is(FLAG_REPORT | FLAG_UNSTAMPED));
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
        lost: Vec::new(),
        unattributed: Vec::new(),
    };
    let accounts = &mut joined.accounts;
    accounts.content_differs = deliveries.iter().filter(|delivery| delivery.is(FLAG_DIFFERS)).count() as u64;
    // Reports sort behind copies, so that a pair that was delivered and reported counts as delivered.
    deliveries.sort_unstable_by_key(|delivery| (delivery.run, delivery.seq, delivery.recipient, delivery.at));
    let ours = deliveries.partition_point(|delivery| delivery.run < sent.run);
    let end = deliveries.partition_point(|delivery| delivery.run <= sent.run);
    accounts.unexpected = (deliveries.len() - (end - ours)) as u64;
    let ours = &deliveries[ours..end];
    accounts.unexpected += ours.iter().filter(|delivery| !sent.has(delivery)).count() as u64;
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
    let reported = copies.iter().any(|copy| copy.is(FLAG_REPORT));
    for (place, address) in sent.recipients.of(seq).enumerate() {
        let copies =
            copies.iter().filter(|copy| copy.recipient == address.key && !copy.is(FLAG_REPORT | FLAG_UNSTAMPED));
        let state = sent.state_of(seq, place, record);
        let accounts = &mut joined.accounts;
        accounts.intended += 1;
        let mut copies = copies.clone();
        let Some(first) = copies.next() else {
            match state {
                State::Accepted if reported => accounts.bounced += 1,
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
        let mut before = first;
        for again in copies {
            attribute(before, again, state, first, around, joined);
            before = again;
        }
    }
}

/// In which window a surplus copy lies (I-3): `before` is the copy that made it surplus.
fn attribute(
    before: &Delivery,
    again: &Delivery,
    state: State,
    first: &Delivery,
    around: &Circumstances,
    joined: &mut Correlation,
) {
    let windows = &mut joined.accounts.duplicated;
    if before.is(FLAG_SILENT) {
        windows.w5 += 1;
    } else if is_inside(&around.resubmissions, again.at) {
        windows.w4 += 1;
    } else if is_inside(&around.server_breaks, before.at) {
        windows.w1 += 1;
    } else if state == State::Unknown {
        windows.w2 += 1;
    } else {
        windows.unattributed += 1;
        let duplicate = Duplicate { seq: again.seq, recipient: again.recipient, first: first.at, again: again.at };
        keep(&mut joined.unattributed, duplicate);
    }
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
mod tests {
    use super::*;
    use crate::ledger::FLAG_REFUSED;
    use proptest::prelude::*;

    const RUN: u32 = 9;

    fn people(per_message: u32) -> Recipients {
        let templates = ["u{1..5}@x.test".parse().expect("a template")];
        Recipients::new(&templates, per_message, 3).expect("five")
    }

    fn records(states: &[State]) -> Vec<Vec<MessageRecord>> {
        let record = |(index, &state): (usize, &State)| MessageRecord {
            intended_ns: index as u64 * 1_000_000,
            state,
            ..MessageRecord::default()
        };
        vec![states.iter().enumerate().map(record).collect()]
    }

    fn copy(people: &Recipients, seq: u64, place: u32, at: u64, flags: u8) -> Delivery {
        let recipient = people.addresses()[people.pick(seq, place)].key;
        Delivery { run: RUN, recipient, seq, at: Tick(at), bytes: 10, flags }
    }

    fn joined(
        states: &[State],
        people: &Recipients,
        refusals: &[RecipientRefusal],
        mut deliveries: Vec<Delivery>,
        around: &Circumstances,
    ) -> Correlation {
        let shards = records(states);
        let sent = Sent { run: RUN, started: Tick(1_000_000), shards: &shards, recipients: people, refusals };
        correlate(&sent, &mut deliveries, around, Span::ZERO)
    }

    #[test]
    fn i_11_every_pair_ends_in_exactly_one_account() {
        use State::{Accepted, Deferred, NotAttempted, Rejected, Started, Unknown, Waiting};
        let one = people(1);
        let states = [
            Accepted,
            Accepted,
            Accepted,
            Rejected,
            Deferred,
            NotAttempted,
            Unknown,
            Unknown,
            Waiting,
            Started,
            Accepted,
        ];
        let mut report = copy(&one, 2, 0, 9_000_000, FLAG_REPORT);
        report.recipient = 0;
        let deliveries = vec![
            copy(&one, 0, 0, 1_500_000, 0),
            report,
            copy(&one, 7, 0, 9_000_000, FLAG_SILENT),
            Delivery { run: RUN + 1, ..copy(&one, 0, 0, 5, 0) },
            Delivery { seq: 500, ..copy(&one, 0, 0, 5, 0) },
            Delivery { recipient: 1, ..copy(&one, 0, 0, 5, 0) },
        ];
        let around = Circumstances { queued: 1, ..Circumstances::default() };
        let all = joined(&states, &one, &[], deliveries, &around);
        let expected = Accounts {
            intended: 11,
            delivered: 2,
            bounced: 1,
            lost: 1,
            queued: 1,
            rejected: 1,
            deferred: 3,
            unknown: 2,
            recovered: 1,
            unexpected: 3,
            ..Accounts::default()
        };
        assert_eq!(all.accounts, expected);
        assert!(all.accounts.add_up());
        assert_eq!(all.delivery.max(), Some(1000), "7 was due at 8 ms, 0 at 1 ms");
    }

    #[test]
    fn i_3_surplus_copies_fall_into_their_windows() {
        let one = people(1);
        let states =
            [State::Accepted, State::Accepted, State::Unknown, State::Accepted, State::Accepted, State::Accepted];
        let deliveries = vec![
            copy(&one, 0, 0, 10, FLAG_SILENT),
            copy(&one, 0, 0, 20, 0),
            copy(&one, 1, 0, 150, 0),
            copy(&one, 1, 0, 400, 0),
            copy(&one, 2, 0, 10, 0),
            copy(&one, 2, 0, 20, 0),
            copy(&one, 3, 0, 10, 0),
            copy(&one, 3, 0, 20, 0),
            copy(&one, 3, 0, 1_000, 0),
            copy(&one, 4, 0, 10, FLAG_REFUSED | FLAG_DIFFERS),
            // Settled long before the server died: its death explains no second copy.
            copy(&one, 5, 0, 10, 0),
            copy(&one, 5, 0, 150, 0),
        ];
        let around = Circumstances {
            server_breaks: vec![(Tick(100), Tick(200))],
            resubmissions: vec![(Tick(900), Tick(1100))],
            ..Circumstances::default()
        };
        let all = joined(&states, &one, &[], deliveries, &around);
        assert_eq!(all.accounts.duplicated, Duplicated { w1: 1, w2: 1, w4: 1, w5: 1, unattributed: 2, w3: 0 });
        assert_eq!(all.accounts.duplicated.total(), 6);
        assert_eq!(all.unattributed.len(), 2);
        assert_eq!((all.accounts.delivered, all.accounts.content_differs), (6, 1));
        assert!(all.accounts.add_up());
    }

    #[test]
    fn refused_recipients_are_counted_by_themselves() {
        let three = people(3);
        let refusals = [
            RecipientRefusal { seq: 0, place: 0, code: 550 },
            RecipientRefusal { seq: 0, place: 2, code: 451 },
            RecipientRefusal { seq: 1, place: 1, code: 550 },
        ];
        let deliveries = vec![copy(&three, 0, 1, 5, 0), copy(&three, 1, 1, 5, 0)];
        let all = joined(&[State::Accepted, State::Rejected], &three, &refusals, deliveries, &Circumstances::default());
        let expected = Accounts {
            intended: 6,
            delivered: 2,
            rejected: 3,
            deferred: 1,
            refused_yet_delivered: 1,
            ..Accounts::default()
        };
        assert_eq!(all.accounts, expected);
    }

    #[test]
    fn a_451_to_what_was_under_way_when_a_server_behind_died_is_no_broken_promise() {
        let to = people(1);
        let death = |struck_us: u64| {
            let struck = Tick(1_000_000) + Span::micros(struck_us);
            Circumstances { deaths_behind: vec![(struck, struck + Span::micros(10))], ..Circumstances::default() }
        };
        // Begun 100 µs and answered 300 µs behind the start.
        let record = |state| MessageRecord { started_us: 100, done_us: 300, state, ..MessageRecord::default() };
        for (state, around, in_doubt, broken) in [
            (State::Deferred, death(100), 1, 0),
            (State::Deferred, death(300), 1, 0),
            (State::Deferred, death(90), 1, 0),
            (State::Deferred, death(89), 0, 1),
            (State::Deferred, death(301), 0, 1),
            (State::Deferred, Circumstances::default(), 0, 1),
            (State::Rejected, death(200), 0, 1),
            (State::Accepted, death(200), 0, 0),
        ] {
            let shards = vec![vec![record(state)]];
            let sent = Sent { run: RUN, started: Tick(1_000_000), shards: &shards, recipients: &to, refusals: &[] };
            let accounts = correlate(&sent, &mut [copy(&to, 0, 0, 1_300_000, 0)], &around, Span::ZERO).accounts;
            let found = (accounts.deferred_yet_taken, accounts.refused_yet_delivered);
            assert_eq!(found, (in_doubt, broken), "{state:?} {around:?}");
            assert_eq!((accounts.delivered, accounts.deferred, accounts.lost), (1, 0, 0), "it is there");
        }
    }

    proptest! {
        #[test]
        fn accounts_always_add_up(
            states in prop::collection::vec(0u8..7, 0..40),
            copies in prop::collection::vec((0u64..45, 0u32..2, 0u64..1_000_000, 0u8..32), 0..80),
            queued in 0u64..20,
            shards in 1usize..4,
        ) {
            let two = people(2);
            let state = |code: &u8| match code {
                0 => State::Waiting, 1 => State::Started, 2 => State::Accepted, 3 => State::Rejected,
                4 => State::Deferred, 5 => State::NotAttempted, _ => State::Unknown,
            };
            let mut split = vec![Vec::new(); shards];
            for (seq, code) in states.iter().enumerate() {
                split[seq % shards].push(MessageRecord { state: state(code), ..MessageRecord::default() });
            }
            let mut deliveries: Vec<Delivery> =
                copies.iter().map(|&(seq, place, at, flags)| copy(&two, seq, place, at, flags)).collect();
            let sent = Sent { run: RUN, started: Tick(0), shards: &split, recipients: &two, refusals: &[] };
            let around = Circumstances { queued, ..Circumstances::default() };
            let all = correlate(&sent, &mut deliveries, &around, Span::ZERO);
            prop_assert!(all.accounts.add_up(), "{:?}", all.accounts);
            prop_assert_eq!(all.accounts.intended, 2 * states.len() as u64);
            // Every copy is a first one, a surplus one, a report, or unexpected.
            let reports = deliveries.iter().filter(|copy| copy.is(FLAG_REPORT) && sent.has(copy)).count() as u64;
            let sum = all.accounts.delivered + all.accounts.duplicated.total() + all.accounts.unexpected + reports;
            prop_assert_eq!(sum, deliveries.len() as u64);
        }
    }
}
