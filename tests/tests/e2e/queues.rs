//! The queue viewer against a running hub: what it lists, what it holds, and what stays so after a restart.

use serde_json::Value;
use tests::peers::free_address;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

/// A hub of two shards with a next hop for everybody, `far`, and one for `b.test`, `near`.
fn hub(far: std::net::SocketAddr, near: &Sink) -> Server {
    let hop = format!("hosts = [\"{}\"]", near.address());
    let told = Told { shards: 2, address: free_address(), ..Told::relaying_to(far) };
    Server::started(told.with("next_hop.near", hop).with("routes", "\"b.test\" = \"near\""))
}

/// So many messages to this person, each on a connection of its own: both shards get some.
fn send(hub: &Server, count: usize, to: &str) {
    for number in 0..count {
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        let content = format!("Subject: {number}\r\n\r\nbody\r\n");
        assert!(talk.send("ann@a.test", &[to], content.as_bytes()).expect("a reply").is_positive());
    }
}

/// What a command that succeeds says as JSON.
fn said(hub: &Server, words: &[&str]) -> Value {
    match hub.ask(&[words, &["--json"]].concat()) {
        (Some(0), said, _) => serde_json::from_str(&said).expect("JSON"),
        other => panic!("{words:?}: {other:?}"),
    }
}

fn show(hub: &Server, queue: &str) -> Value {
    said(hub, &["queue", "show", queue])[0].clone()
}

/// held mail stays, other queues go on; a restart and a kill change nothing about that.
#[test]
fn x_206_f_182_a_suspended_queue_holds_its_mail_over_restarts_and_others_go_on() {
    let (far, near) = (Sink::start(Offers { chunking: true }), Sink::start(Offers { chunking: true }));
    let mut hub = hub(far.address(), &near);
    for _twice in 0..2 {
        let done = said(&hub, &["queue", "suspend", "server.test\\NEAR"]);
        assert_eq!(done["done"], "suspend", "before there is any mail");
    }
    send(&hub, 5, "bob@b.test");
    send(&hub, 5, "bob@c.test");
    far.wait_for(5);
    let held = show(&hub, "near");
    assert_eq!((&held["Status"], &held["MessageCount"]), (&Value::from("Suspended"), &Value::from(5)), "{held:#}");
    assert!(near.taken().is_empty());
    hub.stop();
    hub.start();
    send(&hub, 2, "bob@b.test");
    hub.kill();
    hub.start();
    assert_eq!(hub.queued(), 7);
    send(&hub, 1, "bob@c.test");
    far.wait_for(6);
    assert!(near.taken().is_empty(), "it is held still");
    said(&hub, &["queue", "resume", "--filter", "Status -eq 'Suspended'"]);
    near.wait_for(7);
    until("all outcomes", || (hub.queued() == 0).then_some(()));
    hub.stop();
    hub.start();
    send(&hub, 1, "bob@b.test");
    near.wait_for(8);
    hub.stop();
}

/// what stands in Retry says why and until when, and a retry by hand does not wait for that.
#[test]
fn x_206_a_queue_in_retry_says_why_and_is_tried_when_somebody_says_so() {
    let (nobody, near) = (free_address(), Sink::start(Offers { chunking: true }));
    let hop = format!("hosts = [\"{}\"]", near.address());
    let told = Told { address: free_address(), ..Told::relaying_to(nobody) };
    let slow = "retry = [\"12h\"]\nmessage_retry = \"12h\"\nhost_backoff_min = \"1h\"\nhost_backoff_max = \"1h\"";
    let told = told.with("delivery", slow).with("next_hop.near", hop).with("routes", "\"b.test\" = \"near\"");
    let mut hub = Server::started(told);
    send(&hub, 3, "bob@c.test");
    let queue = until("it to be in Retry", || {
        let listed = said(&hub, &["queue", "list", "--filter", "Status -eq 'Retry' -and MessageCount -eq 3"]);
        listed.get(0).cloned()
    });
    assert_eq!(queue["Identity"], "server.test\\far");
    assert_eq!((&queue["RetryCount"], &queue["NextHopCategory"]), (&Value::from(1), &Value::from("External")));
    assert!(queue["LastError"].as_str().is_some_and(|error| error.contains("refused")), "{queue:#}");
    assert!(queue["NextRetryTime"].is_string(), "{queue:#}");
    let far = Sink::start_at(nobody, Offers { chunking: true });
    said(&hub, &["queue", "retry", "far"]);
    far.wait_for(3);
    hub.stop();
}

#[test]
fn i_10_a_command_that_means_nothing_says_so_and_changes_nothing() {
    let near = Sink::start(Offers { chunking: true });
    let mut hub = hub(near.address(), &near);
    for (words, code, told) in [
        (&["queue", "suspend"][..], 2, "no queue is named; say a QUEUE, '*' for all, or --filter"),
        (&["queue", "suspend", "nowhere"], 1, "there is no queue nowhere"),
        (&["queue", "suspend", "other\\far"], 1, "this server is server.test, not other"),
        (&["queue", "list", "--filter", "Size -gt 1"], 2, "--filter: column 1: Size is no property"),
        (&["queue", "list", "--sort", "+Size"], 2, "--sort: Size is no property"),
        (&["queue", "resume", "--filter", "Status -eq 'Suspended'"], 1, "no queue is as it was asked for"),
    ] {
        let (exit, said, complaint) = hub.ask(words);
        assert_eq!((exit, said.as_str()), (Some(code), ""), "{words:?}: {complaint}");
        assert!(complaint.contains(told) && complaint.lines().count() == 1, "{words:?}: {complaint}");
    }
    send(&hub, 1, "bob@b.test");
    near.wait_for(1);
    hub.stop();
    let (exit, _, complaint) = hub.ask(&["queue", "list"]);
    assert_eq!(exit, Some(4), "{complaint}");
}
