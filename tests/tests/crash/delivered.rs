//! Killed on the way out, hook by hook: one message, one connection, one settle, so that the number of copies is known.

use super::rounds;
use tests::ledger::{content, sender};
use tests::programs::Build;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

/// How the next hop behaves in the life that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It takes and says so.
    Taken,
    /// It takes, says nothing and closes.
    Silence,
}

/// `false`: it died before its reply. No message is so large that it is still leaving when the reply to its MAIL is read: who
/// dies then has sent no copy.
fn hand_over(hub: &Server, id: u64) -> bool {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let reply = talk.send(&sender(id), &["bob@b.test"], &content(id % 15));
    reply.is_ok_and(|reply| {
        assert!(reply.is_positive(), "{reply:?}");
        true
    })
}

/// Each message meets the hook once; then its outcome is found, and it has come so many times. Later lives do not bring it
/// again.
fn killed_at(shards: usize, hook: &str, offers: Offers, answer: Answer, copies: usize, rounds: u64) {
    let sink = Sink::start(offers);
    let more = vec![("delivery", "connections_per_hop_max = 1\nin_flight_max = 1".to_owned())];
    let told = Told { build: Build::FailPoints, shards, more, ..Told::relaying_to(sink.address()) };
    let mut hub = Server::new(told);
    let count = |id: u64| sink.count_by_sender().get(&sender(id)).copied().unwrap_or(0);
    for id in 0..rounds {
        assert!(hub.start_to_die(&format!("{hook}:1")), "nothing is left of earlier rounds");
        sink.fall_silent(usize::from(answer == Answer::Silence));
        // Another shard may be done with it before the reply leaves.
        assert!(hand_over(&hub, id) || shards > 1, "it was acknowledged before it was sent");
        hub.died();
        if copies > 1 {
            assert_eq!(u64::from(hub.explained()), id + 1, "{hook}, {offers:?}, {answer:?}: it was to be expected");
            // What comes again comes now, and its outcome is on disk when the drain ends.
            hub.start();
            until("the next copy", || (count(id) >= copies).then_some(()));
            hub.stop();
        }
    }
    hub.start();
    assert!(hand_over(&hub, rounds), "nothing kills this life");
    until("the last one", || (count(rounds) == 1 && hub.queued() == 0).then_some(()));
    hub.stop();
    for id in 0..rounds {
        assert_eq!(count(id), copies, "{hook}, {offers:?}, {answer:?}: message {id}");
    }
}

const WAYS: [Offers; 2] = [Offers { chunking: true }, Offers { chunking: false }];

/// Half of the rounds by BDAT, half by DATA.
fn killed_both_ways_at(hook: &str, answer: Answer, copies: usize) {
    WAYS.iter().for_each(|way| killed_at(1, hook, *way, answer, copies, rounds().div_ceil(2)));
}

#[test]
fn f_005_killed_before_the_reply_is_read_it_is_tried_again() {
    killed_both_ways_at("K12", Answer::Taken, 2);
}

#[test]
fn f_005_killed_when_the_next_hop_took_it_and_closed_it_is_tried_again() {
    killed_both_ways_at("K12", Answer::Silence, 2);
}

#[test]
fn f_006_killed_before_the_settle_is_written_it_comes_twice() {
    killed_both_ways_at("K13", Answer::Taken, 2);
}

/// Two shards have one connection between them: about every other message is sent by the one and kept by the other, which dies
/// when it is told what became of it.
#[test]
fn f_006_p_004_what_crosses_to_the_shard_that_keeps_it_is_in_the_last_words() {
    WAYS.iter().for_each(|way| killed_at(2, "K13", *way, Answer::Taken, 2, rounds().div_ceil(2)));
}

#[test]
fn f_006_a_settle_written_and_not_synced_outlives_the_process() {
    killed_both_ways_at("K14", Answer::Taken, 1);
}

#[test]
fn f_007_killed_before_memory_knows_the_outcome_it_comes_once() {
    killed_both_ways_at("K15", Answer::Taken, 1);
}
