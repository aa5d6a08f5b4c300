//! Killed between a refusal for good and its report: whatever the step, the sender hears of it once.

use super::rounds;
use tests::ledger::{content, sender};
use tests::programs::Build;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

fn killed_at(hook: &str, passage: u64) {
    let sink = Sink::start(Offers { chunking: true });
    sink.refuse("bob@b.test", "550 5.1.1 nobody of that name");
    let more = vec![("delivery", "connections_per_hop_max = 1\nin_flight_max = 1".to_owned())];
    let mut hub = Server::new(Told { build: Build::FailPoints, more, ..Told::relaying_to(sink.address()) });
    let count = |id: u64| sink.taken().iter().filter(|taken| taken.to == [sender(id)]).count();
    for id in 0..rounds().div_ceil(4) {
        assert!(hub.start_to_die(&format!("{hook}:{passage}")), "nothing is left of earlier rounds");
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        let reply = talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply");
        assert!(reply.is_positive(), "{reply:?}");
        hub.died();
        hub.start();
        until("the report", || (count(id) > 0 && hub.queued() == 0).then_some(()));
        hub.stop();
        assert_eq!(count(id), 1, "{hook}: message {id}");
    }
}

#[test]
fn f_006_killed_before_a_refusal_is_on_record_its_sender_hears_of_it_once() {
    killed_at("K12", 1);
}

#[test]
fn f_009_killed_before_a_report_is_written_it_comes_once() {
    killed_at("K19", 1);
}

#[test]
fn f_009_killed_while_a_report_is_written_it_comes_once() {
    killed_at("K14", 1);
}

#[test]
fn f_009_killed_when_a_refusal_is_durable_its_report_comes_once() {
    killed_at("K15", 1);
}

#[test]
fn f_009_killed_before_a_durable_report_is_queued_it_comes_once() {
    killed_at("K19", 2);
}
