//! Shards that share their work: what one accepted leaves by connections of all, and caps hold over all of them.

use loadgen::ledger::{FLAG_DIFFERS, FLAG_REFUSED};
use loadgen::sink::{RunningSink, SinkOptions, start};
use loadgen::stamp::{Stamp, crc32c};
use serde_json::Value;
use std::collections::BTreeMap;
use tests::server::{Server, Told};
use tests::talk::Talk;
use tests::wait::until;

const RUN: u32 = 11;
const CONTENT: &[u8] = b"Subject: shared\r\n\r\nby whoever has room\r\n";

fn sink(faults: &[&str]) -> RunningSink {
    let faults = faults.iter().map(|text| text.parse().unwrap_or_else(|error| panic!("{error}"))).collect();
    start(SinkOptions { faults, ..SinkOptions::default() }).expect("a sink")
}

/// A hub of so many shards that may have so many connections, with one message under way on each.
fn told(sink: &RunningSink, shards: usize, connections: u32) -> Told {
    let caps = format!("connections_per_hop_max = {connections}\nin_flight_max = 1");
    Told { shards, ..Told::relaying_to(sink.listen[0]).with("delivery", caps) }
}

/// Sends messages with these numbers on one connection: one shard accepts them all.
fn send(hub: &Server, numbers: std::ops::Range<u64>) {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    for seq in numbers {
        let mut from = String::new();
        let bytes = u64::try_from(CONTENT.len()).expect("a length");
        Stamp { run: RUN, seq, bytes, crc32c: crc32c(CONTENT), ends_with_crlf: true }.write(&mut from);
        let reply = talk.send(&format!("{from}@a.test"), &["bob@b.test"], CONTENT).expect("a reply");
        assert!(reply.is_positive(), "{reply:?}");
    }
}

/// How often each message was taken.
fn taken(sink: &RunningSink) -> BTreeMap<u64, u64> {
    let mut taken = BTreeMap::new();
    for one in sink.handle().ledger().0.iter().filter(|one| one.flags & FLAG_REFUSED == 0) {
        assert_eq!((one.run, one.flags & FLAG_DIFFERS), (RUN, 0), "I-4");
        *taken.entry(one.seq).or_insert(0) += 1;
    }
    taken
}

fn of_shards(status: &Value, key: &str) -> Vec<u64> {
    let shards = status["shards"].as_array().expect("shards");
    shards.iter().map(|shard| shard[key].as_u64().expect("a number")).collect()
}

fn counter(status: &Value, name: &str) -> u64 {
    status["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
}

fn all_come_once(sink: &RunningSink, messages: u64) {
    let wanted = usize::try_from(messages).expect("few");
    let taken = until("every message", || Some(taken(sink)).filter(|taken| taken.len() == wanted));
    assert!(taken.values().all(|count| *count == 1), "{taken:?}");
}

#[test]
fn what_one_shard_accepted_leaves_by_both_and_survives_them() {
    let sink = sink(&["rcpt:stall"]);
    let mut hub = Server::started(told(&sink, 2, 2));
    send(&hub, 0..40);
    let status = until("a connection of each shard", || {
        let status = hub.status();
        (of_shards(&status, "connections_out") == [1, 1] && counter(&status, "messages_borrowed") > 0).then_some(status)
    });
    let mut accepted = of_shards(&status, "messages_accepted");
    accepted.sort_unstable();
    assert_eq!(accepted, [0, 40], "one shard accepted them all");
    assert!(counter(&status, "messages_lent") > 0 && counter(&status, "crossings_sent") > 0);
    assert_eq!(counter(&status, "crossings_full"), 0);
    // The owner is the only one who keeps them: whoever dies with them has lost nothing.
    hub.kill();
    assert!(sink.handle().set_faults(Vec::new()));
    hub.start();
    all_come_once(&sink, 40);
    hub.stop();
    sink.stop().expect("it stops");
}

#[test]
fn a_cap_of_one_connection_holds_over_more_shards_than_cores() {
    let sink = sink(&["eod:delay 5ms"]);
    let mut hub = Server::started(told(&sink, 5, 1));
    let clients: u64 = 10;
    (0..clients).for_each(|client| send(&hub, client * 10..client * 10 + 10));
    let wanted = usize::try_from(clients * 10).expect("few");
    until("every message, over one connection at a time", || {
        assert!(sink.handle().counts().connections_open <= 1);
        (taken(&sink).len() == wanted).then_some(())
    });
    all_come_once(&sink, clients * 10);
    assert_eq!(sink.handle().counts().connections, 1);
    let status = hub.status();
    assert!(counter(&status, "messages_lent") > 0, "connections are spread over shards by the system");
    hub.stop();
    sink.stop().expect("it stops");
}

#[test]
fn a_drain_takes_back_what_was_lent_and_the_next_life_delivers_it() {
    let sink = sink(&["accept:refuse"]);
    let mut hub = Server::started(told(&sink, 3, 1));
    for client in 0..6 {
        send(&hub, client * 10..client * 10 + 10);
    }
    until("every message queued", || {
        (counter(&hub.status(), "queued") + counter(&hub.status(), "sending") == 60).then_some(())
    });
    hub.stop();
    assert!(sink.handle().set_faults(Vec::new()));
    hub.tell(|told| told.shards = 2);
    hub.start();
    all_come_once(&sink, 60);
    hub.stop();
    sink.stop().expect("it stops");
}

/// One pinned thread a shard: each says of itself where it may run.
#[test]
fn each_shard_is_a_thread_that_stays_on_its_core() {
    let own = processors("/proc/self/status").expect("a status");
    let cores = [own[0], *own.last().expect("at least one")];
    let sink = sink(&[]);
    let mut hub = Server::started(told(&sink, 2, 2).with("server", format!("cores = {cores:?}")));
    let threads = std::path::PathBuf::from(format!("/proc/{}/task", hub.process().pid()));
    let wanted = [("shard-0\n".to_owned(), vec![cores[0]]), ("shard-1\n".to_owned(), vec![cores[1]])];
    // Threads that they start have their names until they have taken their own, and may be gone when they are looked at.
    until("each shard on its core", || {
        let threads = std::fs::read_dir(&threads).expect("threads").filter_map(|thread| Some(thread.ok()?.path()));
        let name = |thread: &std::path::Path| std::fs::read_to_string(thread.join("comm")).ok();
        let mut shards: Vec<(String, Vec<usize>)> = threads
            .filter_map(|thread| Some((name(&thread)?, processors(thread.join("status"))?)))
            .filter(|(name, _)| name.starts_with("shard-"))
            .collect();
        shards.sort();
        (shards == wanted).then_some(())
    });
    hub.stop();
    sink.stop().expect("it stops");
}

/// Where the thread with this status may run; `None`: it is gone.
fn processors(status: impl AsRef<std::path::Path>) -> Option<Vec<usize>> {
    let status = std::fs::read_to_string(status).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let ranges = list.trim().split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
    Some(ranges.flat_map(|(first, last)| number(first)..=number(last)).collect())
}
