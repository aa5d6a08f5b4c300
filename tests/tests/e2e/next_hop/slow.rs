//! Next hops that are slow, or never come to an end: bounded in time and memory, and nobody else waits (F-078, F-083).

use super::{CONTENT, MESSAGES, pairs, send, sink, waiting};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tests::server::{Server, Told};
use tests::talk::Talk;
use tests::wait::until;

/// The most memory that a process ever had, in octets.
fn peak_bytes(hub: &mut Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.process().pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line for the peak");
    let kib: u64 = line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number of KiB");
    kib << 10
}

/// A second next hop of this name and domain.
fn with_next_hop(mut told: Told, section: &'static str, host: SocketAddr) -> Told {
    let name = section.strip_prefix("next_hop.").expect("a section of next hops");
    told.more.push((section, format!("hosts = [\"{host}\"]")));
    told.more.push(("routes", format!("\"{name}.test\" = \"{name}\"")));
    told
}

#[test]
fn f_078_endless_replies_leave_memory_flat() {
    let calm = sink(&[], true);
    let mut hub = Server::started(waiting(vec![calm.listen[0]], "30s"));
    send(&hub, MESSAGES, 2, CONTENT);
    until("mail without trouble", || (hub.queued() == 0).then_some(()));
    let before = peak_bytes(&mut hub);
    hub.stop();
    for fault in ["banner:long 60000000;first=2", "ehlo:multiline 3000000;first=2", "mail:long 60000000;first=2"] {
        let sink = sink(&[fault], true);
        let mut hub = Server::started(waiting(vec![sink.listen[0]], "30s"));
        send(&hub, MESSAGES, 2, CONTENT);
        until(fault, || (pairs(&sink.handle().ledger().0).len() as u64 == 2 * MESSAGES).then_some(()));
        assert_eq!(sink.handle().counts().faults_struck, 2, "{fault}");
        let more = peak_bytes(&mut hub).saturating_sub(before);
        assert!(more < 8 << 20, "{fault}: {more} octets more than without");
        hub.stop();
    }
}

/// One octet of a reply after the other, without an end: its time counts from the command to the whole reply.
#[test]
fn f_078_f_085_a_slow_reply_without_an_end_ends_by_its_timer() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endless = listener.local_addr().expect("an address");
    let calm = sink(&[], true);
    let mut hub = Server::started(waiting(vec![endless], "1s"));
    let said = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the hub connects");
        stream.set_nodelay(true).expect("a socket of ours");
        stream.set_read_timeout(Some(Duration::from_millis(10))).expect("a socket of ours");
        stream.write_all(b"220-").expect("it listens");
        (0_u32..).find(|_| {
            // The hub says nothing before the greeting is complete: this only takes its time.
            let _silence = stream.read(&mut [0]);
            stream.write_all(b"x").is_err()
        })
    });
    send(&hub, 1, 1, CONTENT);
    let octets = said.join().expect("no panic").expect("the hub hangs up");
    assert!(octets > 10, "it is given its time: {octets} octets");
    hub.stop();
    hub.tell(|told| told.relay_to(calm.listen[0]));
    hub.start();
    until("the message elsewhere", || (pairs(&calm.handle().ledger().0).len() == 1).then_some(()));
    hub.stop();
}

#[test]
fn f_083_a_slow_reader_ends_by_its_timer_and_keeps_nobody_waiting() {
    let (slow, good) = (sink(&["body:slowread 100"], true), sink(&[], true));
    let mut told = with_next_hop(waiting(vec![good.listen[0]], "1s"), "next_hop.slow", slow.listen[0]);
    told.more.push(("spool", "segment_size = \"64 MiB\"".to_owned()));
    let mut hub = Server::started(told);
    let large =
        [b"Subject: large\r\n\r\n".as_slice(), &b"0123456789abcdef0123456789abcdef\r\n".repeat(300_000)].concat();
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    assert!(talk.send("", &["x@slow.test"], &large).expect("a reply").is_positive());
    until("the slow body to be under way", || (slow.handle().counts().faults_struck > 0).then_some(()));
    let before = peak_bytes(&mut hub);
    send(&hub, MESSAGES, 2, CONTENT);
    until("the others' mail", || (pairs(&good.handle().ledger().0).len() as u64 == 2 * MESSAGES).then_some(()));
    until("the slow one's timer", || (hub.status()["counters"]["timeouts_out"].as_u64() >= Some(2)).then_some(()));
    assert!(slow.handle().ledger().0.is_empty(), "nobody takes ten megabytes at that pace");
    let more = peak_bytes(&mut hub).saturating_sub(before);
    assert!(more < 24 << 20, "tries of ten megabytes cost {more} octets more");
    hub.kill();
}
