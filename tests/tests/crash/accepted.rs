//! Killed on the way in, hook by hook: one sender and a next hop that is down, so that what becomes of the one message under
//! way is known exactly.

use super::rounds;
use tests::ledger::id_of;
use tests::peers::Nowhere;
use tests::programs::Build;
use tests::senders::Senders;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::wait::until;

/// What has to become of the message that was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// No trace of it is delivered.
    Vanishes,
    /// Whole or not at all.
    WholeOrNot,
    /// Nobody was told, and it comes.
    Stays,
    /// Its sender was told, and it comes once.
    Acknowledged,
}

/// Every round dies at a later passage of the hook, with so many more messages taken before.
fn killed_at(hook: &str, then: Then) {
    let (nowhere, sink, senders) = (Nowhere::hold(), Sink::start(Offers { chunking: true }), Senders::start(1));
    let mut hub = Server::new(Told { build: Build::FailPoints, ..Told::relaying_to(nowhere.address()) });
    for round in 0..rounds() {
        assert!(hub.start_to_die(&format!("{hook}:{}", 1 + round * 5 % 17)), "{hook} is passed by mail alone");
        senders.aim(Some(hub.address()));
        hub.died();
        senders.aim(None);
    }
    hub.tell(|told| told.relay_to(sink.address()));
    hub.start();
    senders.aim(Some(hub.address()));
    let more = senders.ledger().acked() + 3;
    until("mail to flow again", || (senders.ledger().acked() >= more).then_some(()));
    let ledger = senders.stop();
    sink.wait("everything acknowledged", |taken| ledger.is_all_there(taken));
    until("the queue to be empty", || (hub.queued() == 0).then_some(()));
    hub.stop();
    ledger.judge(&sink.taken()).assert_kept(0);
    let mut unanswered = 0;
    let came = sink.count_by_sender();
    let copies = |id: u64| came.iter().filter(|(from, _)| id_of(from) == Some(id)).map(|(_, count)| *count).sum();
    for (id, offered) in ledger.offered() {
        assert_eq!(offered.refused, 0, "{hook}: nothing is refused for good");
        unanswered += u64::from(offered.unknown);
        let least = offered.acked + if then == Then::Stays { offered.unknown } else { 0 };
        let most = offered.acked + if then == Then::Vanishes { 0 } else { offered.unknown };
        let copies: usize = copies(id);
        assert!(
            (least as usize..=most as usize).contains(&copies),
            "{hook}: message {id} came {copies} times, of {offered:?} {least} to {most} are right"
        );
    }
    let expected = if then == Then::Acknowledged { 0 } else { rounds() };
    assert_eq!(unanswered, expected, "{hook}: every death is met where it should be");
}

#[test]
fn f_001_killed_before_data_it_vanishes() {
    killed_at("K1", Then::Vanishes);
}

#[test]
fn f_001_killed_in_the_middle_of_data_it_vanishes() {
    killed_at("K2", Then::Vanishes);
}

#[test]
fn f_001_killed_before_the_record_is_written_it_vanishes() {
    killed_at("K3", Then::Vanishes);
}

#[test]
fn f_002_a_record_written_in_part_is_discarded() {
    killed_at("K4", Then::Vanishes);
}

#[test]
fn f_002_a_record_written_and_not_synced_is_whole() {
    // The process dies and the kernel lives: what was written is there.
    killed_at("K5", Then::Stays);
}

#[test]
fn f_002_killed_while_the_write_is_under_way_it_is_whole_or_not_there() {
    killed_at("K6", Then::WholeOrNot);
}

#[test]
fn f_003_killed_between_the_sync_and_the_reply_it_stays() {
    killed_at("K7", Then::Stays);
}

#[test]
fn f_003_killed_behind_the_reply_it_comes_once() {
    killed_at("K8", Then::Acknowledged);
}

#[test]
fn f_004_killed_before_the_queue_knows_it_comes_once() {
    killed_at("K9", Then::Acknowledged);
}
