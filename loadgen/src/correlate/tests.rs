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
    let states =
        [Accepted, Accepted, Accepted, Rejected, Deferred, NotAttempted, Unknown, Unknown, Waiting, Started, Accepted];
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
    let mut states = [State::Accepted; 8];
    states[2] = State::Unknown;
    let deliveries = vec![
        copy(&one, 0, 0, 10, FLAG_SILENT),
        copy(&one, 0, 0, 20, 0),
        copy(&one, 1, 0, 150, 0),
        copy(&one, 1, 0, 400, 0),
        // Nobody died, and our sender repeats nothing: no reply is no excuse.
        copy(&one, 2, 0, 10, 0),
        copy(&one, 2, 0, 20, 0),
        copy(&one, 3, 0, 10, 0),
        copy(&one, 3, 0, 20, 0),
        copy(&one, 3, 0, 1_000, 0),
        copy(&one, 4, 0, 10, FLAG_REFUSED | FLAG_DIFFERS),
        // Settled long before the server died: its death explains no second copy.
        copy(&one, 5, 0, 10, 0),
        copy(&one, 5, 0, 150, 0),
        // The sink kept what it refused: for now, and for good.
        copy(&one, 6, 0, 10, FLAG_REFUSED),
        copy(&one, 6, 0, 20, 0),
        copy(&one, 7, 0, 10, FLAG_REFUSED | FLAG_FOR_GOOD),
        copy(&one, 7, 0, 20, 0),
    ];
    let around = Circumstances {
        server_breaks: vec![(Tick(100), Tick(200))],
        resubmissions: vec![(Tick(900), Tick(1100))],
        ..Circumstances::default()
    };
    let all = joined(&states, &one, &[], deliveries, &around);
    assert_eq!(all.accounts.duplicated, Duplicated { w1: 1, w2: 0, w4: 1, w5: 2, unattributed: 4, w3: 0 });
    assert_eq!(all.accounts.duplicated.total(), 8);
    assert_eq!(all.unattributed.len(), 4);
    assert_eq!((all.accounts.delivered, all.accounts.content_differs), (8, 1));
    assert!(all.accounts.add_up());
}

#[test]
fn i_3_w2_is_a_copy_of_what_had_no_reply_because_a_server_died_meanwhile() {
    let to = people(1);
    let at = |us: u64| Tick(1_000_000) + Span::micros(us);
    // Begun 100 µs and given up 300 µs behind the start; it arrived long after the server was back.
    let record = |state| MessageRecord { started_us: 100, done_us: 300, state, ..MessageRecord::default() };
    let copies = || [copy(&to, 0, 0, at(900).0, 0), copy(&to, 0, 0, at(950).0, 0)];
    for (state, broken, w2) in [
        (State::Unknown, vec![(at(200), at(400))], 1),
        (State::Unknown, vec![(at(0), at(100)), (at(500), at(600))], 1),
        (State::Unknown, vec![(at(301), at(400))], 0),
        (State::Unknown, vec![(at(0), at(99))], 0),
        (State::Unknown, vec![], 0),
        (State::Accepted, vec![(at(200), at(400))], 0),
        (State::Deferred, vec![(at(200), at(400))], 0),
    ] {
        let shards = vec![vec![record(state)]];
        let sent = Sent { run: RUN, started: Tick(1_000_000), shards: &shards, recipients: &to, refusals: &[] };
        let around = Circumstances { server_breaks: broken, ..Circumstances::default() };
        let windows = correlate(&sent, &mut copies(), &around, Span::ZERO).accounts.duplicated;
        assert_eq!((windows.w2, windows.unattributed), (w2, 1 - w2), "{state:?} {around:?}");
    }
}

#[test]
fn i_11_a_report_accounts_for_the_recipients_it_names_and_for_no_other() {
    let three = people(3);
    let unread = |flags: u8| Delivery { recipient: 1, ..copy(&three, 0, 0, 9, FLAG_REPORT | flags) };
    let named = |place: u32, flags: u8| copy(&three, 0, place, 9, FLAG_REPORT | flags);
    let arrived = copy(&three, 0, 0, 5, 0);
    for (told, bounced, lost) in [
        (vec![arrived], 0, 2),
        (vec![arrived, named(1, 0)], 1, 1),
        (vec![arrived, named(1, 0), named(1, 0)], 1, 1),
        (vec![arrived, named(0, 0)], 0, 2),
        (vec![arrived, named(1, 0), named(2, 0)], 2, 0),
        (vec![arrived, unread(0)], 1, 1),
        (vec![arrived, unread(0), named(1, 0)], 2, 0),
        (vec![arrived, unread(FLAG_NO_FAILURE)], 0, 2),
        (vec![unread(0), unread(0), unread(0), unread(0)], 3, 0),
    ] {
        let all = joined(&[State::Accepted], &three, &[], told.clone(), &Circumstances::default());
        assert_eq!((all.accounts.bounced, all.accounts.lost), (bounced, lost), "{told:?}");
        assert_eq!(
            (all.accounts.add_up(), all.accounts.unexpected, all.lost.len() as u64),
            (true, 0, lost),
            "{told:?}"
        );
    }
}

#[test]
fn what_a_full_ledger_does_not_hold_is_no_certain_loss() {
    let one = people(1);
    let deliveries = vec![copy(&one, 0, 0, 5, 0), Delivery::gap(2, Tick(7)), Delivery::gap(1, Tick(7))];
    let all = joined(&[State::Accepted; 5], &one, &[], deliveries, &Circumstances::default()).accounts;
    assert_eq!((all.delivered, all.lost, all.unrecorded, all.unexpected), (1, 4, 3, 0));
    assert_eq!((all.lost_for_certain(), all.add_up()), (1, true));
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
        copies in prop::collection::vec((0u64..45, 0u32..2, 0u64..1_000_000, 0u8..128), 0..80),
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
