//! Next hops that swallow what they are sent: connections that are never made, bodies that are never read (F-061, F-084).

use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use tests::ledger::{content, sender};
use tests::peers::{free_address, trace_before};
use tests::server::{Server, Told, waits};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

/// A listener whose queue is full: the kernel drops what knocks, as a packet filter would.
struct Hole {
    _listener: TcpListener,
    _inside: Vec<TcpStream>,
    at: SocketAddr,
}

impl Hole {
    fn open() -> Self {
        let at = free_address();
        let raw = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&raw, &at).expect("an address of our own");
        listen(&raw, 0).expect("a listener");
        let knock = || TcpStream::connect_timeout(&at, Duration::from_millis(200));
        let inside = std::iter::from_fn(|| knock().ok()).take(16).collect::<Vec<_>>();
        assert!(inside.len() < 16, "a full queue swallows connections");
        Self { _listener: raw.into(), _inside: inside, at }
    }

    /// Connections that somebody tries to make to it now.
    fn attempts(&self) -> usize {
        let SocketAddr::V4(at) = self.at else { panic!("IPv4") };
        let wanted = format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port());
        let table = std::fs::read_to_string("/proc/net/tcp").expect("a table of connections");
        let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        // 02: SYN sent.
        rows.filter(|row| row.get(2) == Some(&wanted.as_str()) && row.get(3) == Some(&"02")).count()
    }
}

#[test]
fn f_061_a_host_that_swallows_connections_is_tried_by_two_at_a_time_and_holds_nobody_up() {
    tests::drivers("f_061_a_host_that_swallows_connections_is_tried_by_two_at_a_time_and_holds_nobody_up")
        .for_each(tries_by_two);
}

fn tries_by_two(driver: &'static str) {
    let hole = Hole::open();
    until("our own knocking to be over", || (hole.attempts() == 0).then_some(()));
    let sink = Sink::start(Offers { chunking: true });
    let told = Told::relaying_to_any(vec![hole.at, sink.address()]).with("delivery", waits("2s"));
    let mut hub = Server::started(Told { driver, ..told });
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let mut most = 0;
    for id in 0..60 {
        assert_eq!(talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply").code, 250);
        most = most.max(hole.attempts());
    }
    until("everything at the host that answers", || {
        most = most.max(hole.attempts());
        (sink.taken().len() >= 60).then_some(())
    });
    println!("at most {most} attempts at once");
    assert!((1..=2).contains(&most), "{most} attempts at once on a host that swallows them");
    hub.stop();
    assert!(sink.count_by_sender().values().all(|count| *count == 1));
}

/// Takes an envelope, says 354 and reads nothing more; tells when it has come so far.
fn reads_no_body(told: std::sync::mpsc::Sender<TcpStream>) -> SocketAddr {
    let raw = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_recv_buffer_size(&raw, 4096).expect("a small window");
    let at = free_address();
    bind(&raw, &at).expect("an address of our own");
    listen(&raw, 16).expect("a listener");
    let listener = TcpListener::from(raw);
    thread::spawn(move || {
        for mut out in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(out.try_clone().expect("a second handle"));
            // Whoever goes away before the body ends this session and nothing else.
            let mut reply = |text: &str| out.write_all(text.as_bytes()).is_ok();
            let mut line = String::new();
            let mut said = reply("220 narrow.test\r\n");
            while said && reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                said = match line.get(..4) {
                    Some("EHLO") => reply("250-narrow.test\r\n250 8BITMIME\r\n"),
                    Some("DATA") => {
                        reply("354 go on\r\n");
                        drop(told.send(reader.into_inner()));
                        break;
                    }
                    _ => reply("250 ok\r\n"),
                };
                line.clear();
            }
        }
    });
    at
}

#[test]
fn f_084_a_window_that_stays_closed_ends_by_the_timer_for_blocks() {
    tests::drivers("f_084_a_window_that_stays_closed_ends_by_the_timer_for_blocks").for_each(ends_by_the_timer);
}

fn ends_by_the_timer(driver: &'static str) {
    let (told, stuck) = channel();
    let narrow = reads_no_body(told);
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told {
        driver,
        ..Told::relaying_to_any(vec![narrow, sink.address()]).with("delivery", waits("500ms"))
    });
    let large =
        [b"Subject: large\r\n\r\n".as_slice(), &b"0123456789abcdef0123456789abcdef\r\n".repeat(400_000)].concat();
    // Whichever host comes first for a message: sooner or later one meets the narrow one.
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let mut sent = 0;
    let held = until("the narrow host to be given a body", || {
        assert_eq!(talk.send("a@a.test", &["bob@b.test"], &large).expect("a reply").code, 250);
        sent += 1;
        stuck.recv_timeout(Duration::from_millis(300)).ok()
    });
    let taken = sink.wait_for(sent);
    assert!(taken.iter().all(|one| trace_before(&large, &one.content).is_some()), "I-4");
    assert!(hub.counter("timeouts_out") > 0, "it was given up by its timer");
    drop(held);
    hub.stop();
    assert_eq!(sink.taken().len(), sent, "each once");
}
