//! Killed between a refusal for good and its report: whatever the step, the sender hears of it once.

use super::rounds;
use tests::ledger::{content, sender};
use tests::peers::Nowhere;
use tests::programs::Build;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

fn refusing() -> Sink {
    let sink = Sink::start(Offers { chunking: true });
    sink.refuse("bob@b.test", "550 5.1.1 nobody of that name");
    sink
}

fn hand_over(hub: &Server, id: u64) {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let reply = talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply");
    assert!(reply.is_positive(), "{reply:?}");
}

fn killed_at(hook: &str, passage: u64) {
    let sink = refusing();
    let more = vec![("delivery", "connections_per_hop_max = 1\nin_flight_max = 1".to_owned())];
    let mut hub = Server::new(Told { build: Build::FailPoints, more, ..Told::relaying_to(sink.address()) });
    let count = |id: u64| sink.taken().iter().filter(|taken| taken.to == [sender(id)]).count();
    for id in 0..rounds().div_ceil(4) {
        assert!(hub.start_to_die(&format!("{hook}:{passage}")), "nothing is left of earlier rounds");
        hand_over(&hub, id);
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

#[test]
fn f_009_killed_while_reports_wait_for_the_senders_host_each_comes_once_and_whole() {
    let (sink, nowhere) = (refusing(), Nowhere::hold());
    let mut hub = Server::started(Told::relaying_to(sink.address()).with_senders_at(nowhere.address()));
    (0..4).for_each(|id| hand_over(&hub, id));
    until("the reports", || (hub.counter("reports_made") == 4 && hub.queued() == 4).then_some(()));
    hub.kill();
    hub.tell(|told| told.more.clear());
    hub.start();
    let taken = sink.wait_for(4);
    until("nothing to be left", || (hub.queued() == 0).then_some(()));
    hub.stop();
    assert_eq!(sink.taken().len(), 4, "nothing comes twice");
    for id in 0..4 {
        let one = taken.iter().find(|taken| taken.to == [sender(id)]).expect("each sender's");
        let text = String::from_utf8_lossy(&one.content);
        assert_eq!(one.from, "");
        for part in [
            "Content-Type: multipart/report; report-type=delivery-status;\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "Content-Type: message/delivery-status\r\n",
            "Final-Recipient: rfc822; bob@b.test\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            "Diagnostic-Code: smtp; 550 5.1.1 nobody of that name\r\n",
            "Content-Type: text/rfc822-headers\r\n",
            &format!("Subject: message {id}\r\n"),
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
