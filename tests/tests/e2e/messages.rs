//! Single messages in a running hub's queues: what is listed of them, copied out of them, taken out.

use loadgen::sink::{SinkOptions, start};
use serde_json::Value;
use std::fs;
use tests::peers::{free_address, trace_before};
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

/// A hub of two shards whose next hop for everybody is this one; reports go to the other.
fn hub(far: std::net::SocketAddr, senders: &Sink) -> Server {
    let told = Told { shards: 2, address: free_address(), ..Told::relaying_to(far) };
    Server::started(told.with_senders_at(senders.address()))
}

fn content(number: usize) -> Vec<u8> {
    let body = "line\r\n".repeat(number * 20_000);
    format!("Subject: number {number}\r\nMessage-ID: <{number}@a.test>\r\n\r\n{body}").into_bytes()
}

/// Messages 0 to `count`, each larger than the one before, each on a connection of its own.
fn send(hub: &Server, count: usize) {
    for number in 0..count {
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        let to = ["bob@b.test", "eve@b.test"];
        let reply = talk.send("ann@a.test", &to, &content(number)).expect("a reply");
        assert!(reply.is_positive(), "{reply:?}");
    }
}

/// What a command that succeeds says as JSON.
fn said(hub: &Server, words: &[&str]) -> Vec<Value> {
    match hub.ask(&[words, &["--json"]].concat()) {
        (Some(0), said, _) => serde_json::from_str(&said).expect("a JSON list"),
        other => panic!("{words:?}: {other:?}"),
    }
}

fn subjects(hub: &Server, filter: &str) -> Vec<String> {
    let listed = said(hub, &["message", "list", "--filter", filter, "--sort", "+Size"]);
    listed.iter().map(|message| message["Subject"].as_str().expect("a subject").to_owned()).collect()
}

#[test]
fn x_203_messages_are_found_by_what_they_say_and_copied_byte_for_byte() {
    let senders = Sink::start(Offers { chunking: true });
    let mut hub = hub(free_address(), &senders);
    send(&hub, 4);
    assert_eq!(subjects(&hub, "Size -gt '1'"), ["number 0", "number 1", "number 2", "number 3"]);
    assert_eq!(subjects(&hub, "Subject -like '*2' -and FromAddress -eq 'ANN@a.test'"), ["number 2"]);
    assert_eq!(subjects(&hub, "InternetMessageId -eq '<1@a.test>'"), ["number 1"]);
    assert_eq!(subjects(&hub, "Recipients -like '*eve@b.test' -and Size -ge 360000"), ["number 3"]);
    assert_eq!(subjects(&hub, "DateReceived -lt '2000-01-01'"), [""; 0]);
    // In memory or read back after a restart: the same.
    hub.stop();
    hub.start();
    let folder = tempfile::tempdir().expect("a folder");
    let listed = said(&hub, &["message", "list", "--queue", "FAR", "--sort", "-Size"]);
    assert_eq!(listed.len(), 4);
    for (number, message) in (0..4).rev().zip(&listed) {
        let identity = message["Identity"].as_str().expect("a name");
        assert!(identity.starts_with("server.test\\far\\"), "{identity}");
        let shown = said(&hub, &["message", "show", identity]);
        assert_eq!((shown.len(), &shown[0]["Recipients"]), (1, &Value::from("bob@b.test;eve@b.test")));
        let out = folder.path().join(format!("{number}.eml"));
        let out = out.to_str().expect("a name");
        let (exit, _, complaint) = hub.ask(&["message", "export", identity, "--out", out]);
        assert_eq!(exit, Some(0), "{complaint}");
        let copy = fs::read(out).expect("a copy");
        let trace = trace_before(&content(number), &copy);
        assert_eq!(trace.as_deref(), Some(&["Received".to_owned()][..]), "{number} is changed");
        let (exit, _, complaint) = hub.ask(&["message", "export", identity, "--out", out]);
        assert!(exit == Some(4) && complaint.contains("exists"), "{complaint}");
    }
    assert_eq!(hub.queued(), 4, "they stay");
    hub.stop();
}

/// with a notice to the sender and without one; what is gone stays so after a kill.
#[test]
fn x_243_f_182_what_is_taken_out_stays_out_and_its_sender_hears_of_it_if_he_is_to() {
    let senders = Sink::start(Offers { chunking: true });
    let mut hub = hub(free_address(), &senders);
    send(&hub, 4);
    for (filter, ndr, count) in [("Subject -eq 'number 1'", "no", 1), ("Size -lt 300000", "yes", 2)] {
        let removed = said(&hub, &["message", "remove", "--filter", filter, "--ndr", ndr]);
        assert_eq!(removed.len(), count, "{removed:#?}");
        assert!(removed.iter().all(|one| one["removed"] == "done"), "{removed:#?}");
        hub.kill();
        hub.start();
    }
    assert_eq!(subjects(&hub, "Status -like '*'"), ["number 3"]);
    let reports = senders.wait_for(2);
    for report in &reports {
        let text = String::from_utf8_lossy(&report.content);
        for part in [
            "550 4.3.2 QUEUE.Admin; message deleted by administrative action",
            "An administrator has taken",
            "bob@b.test",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("number 1"));
    }
    until("both to be told", || (hub.queued() == 1).then_some(()));
    let (exit, _, complaint) = hub.ask(&["message", "remove", "--filter", "Subject -eq 'number 1'"]);
    assert!(exit == Some(1) && complaint.contains("no message is as it was asked for"), "{complaint}");
    hub.stop();
}

/// what is under way is asked for, and goes when its attempt comes to nothing.
#[test]
fn x_243_what_is_under_way_goes_when_its_attempt_comes_to_nothing() {
    let senders = Sink::start(Offers { chunking: true });
    let fault = "rcpt:stall".parse().expect("a fault");
    let far = start(SinkOptions { faults: vec![fault], ..SinkOptions::default() }).expect("a sink");
    let mut hub = hub(far.listen[0], &senders);
    send(&hub, 1);
    until("it to be under way", || {
        (!said(&hub, &["message", "list", "--filter", "Status -eq 'Active'"]).is_empty()).then_some(())
    });
    let removed = said(&hub, &["message", "remove", "--queue", "far", "--ndr", "no"]);
    assert_eq!(removed[0]["removed"], "pending");
    assert_eq!(said(&hub, &["message", "list"])[0]["Status"], "PendingRemove");
    far.stop().expect("it ends");
    until("it to be gone", || (hub.queued() == 0).then_some(()));
    hub.stop();
}

#[test]
fn i_10_a_command_about_messages_that_means_nothing_says_so() {
    let senders = Sink::start(Offers { chunking: true });
    let mut hub = hub(free_address(), &senders);
    for (words, code, told) in [
        (&["message", "remove"][..], 2, "no message is named"),
        (&["message", "show", "17"], 1, "no message is as it was asked for"),
        (&["message", "show", "far"], 1, "far names no message; say SERVER\\QUEUE\\NUMBER"),
        (&["message", "list", "--filter", "Colour -eq 1"], 2, "--filter: column 1: Colour is no property"),
        (&["message", "export", "17", "--out", "x.eml"], 1, "no message is as it was asked for"),
    ] {
        let (exit, said, complaint) = hub.ask(words);
        assert_eq!((exit, said.as_str()), (Some(code), ""), "{words:?}: {complaint}");
        assert!(complaint.contains(told) && complaint.lines().count() == 1, "{words:?}: {complaint}");
    }
    assert!(said(&hub, &["message", "list"]).is_empty());
    hub.stop();
}
