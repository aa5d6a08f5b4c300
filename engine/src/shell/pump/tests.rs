//! The pump between real sockets, and what happens when one of its ends fails.

use super::*;
use crate::io::choice::DriverChoice;
use crate::io::launch::{Launch, launch};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|port| port.local_addr()).expect("a free port")
}

fn one(driver: DriverChoice) -> Launch {
    Launch { driver, cores: vec![None] }
}

/// Waits until `holds`, at most a while.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn await_listener(at: SocketAddr) {
    eventually("it listens", || TcpStream::connect(at).is_ok());
}

fn options(sink: SocketAddr, frame_bytes: usize, trouble: &Sender<PumpError>) -> PumpOptions {
    PumpOptions {
        listen: free_port(),
        sink,
        frame_bytes,
        form: Form::Batched,
        answers: true,
        folder: None,
        stable: Stable::No,
        patience: PATIENCE,
        trouble: trouble.clone(),
    }
}

/// Pumps `frames` on some connections, then stops and looks whether every acknowledged frame is at the sink.
fn pump_some(driver: DriverChoice, options: PumpOptions, connections: usize, trouble: &Receiver<PumpError>) {
    let story = format!("{driver} {options:?} {connections}");
    let received = Arc::new(AtomicU64::new(0));
    let PumpOptions { listen, sink, frame_bytes, answers, trouble: to, .. } = options.clone();
    let end = PumpSink { listen: sink, frame_bytes, answers, received_bytes: received.clone(), trouble: to.clone() };
    launch(&one(driver), end).expect("starts");
    await_listener(sink);
    launch(&one(driver), Pump(Arc::new(options))).expect("starts");
    await_listener(listen);
    let source = PumpSource {
        target: listen,
        connections,
        frame_bytes,
        answered: Arc::default(),
        stop: Arc::default(),
        latency_us: Arc::default(),
        trouble: to,
    };
    let running = launch(&one(driver), source.clone()).expect("starts");
    eventually(&story, || source.answered.load(Ordering::Relaxed) >= 20 * connections as u64);
    source.stop.store(true, Ordering::Relaxed);
    running.join().expect("the source ends");
    let answered = source.answered.load(Ordering::Relaxed);
    eventually(&story, || received.load(Ordering::Relaxed) == answered * frame_bytes as u64);
    let times = source.latency_us.lock().expect("no panic").len() as u64;
    assert_eq!(times, answered, "{story}: one time for each frame");
    assert!(trouble.try_recv().is_err(), "{story}: nobody complains");
}

#[test]
fn every_acknowledged_frame_reaches_the_sink_in_every_form() {
    let (to, trouble) = channel();
    for driver in [DriverChoice::Auto, DriverChoice::Epoll] {
        for (frame_bytes, connections) in [(FRAME_BYTES_MIN, 3), (4096, 1), (4096, 16), (15_000, 2), (100 << 10, 5)] {
            for (form, answers) in [
                (Form::Batched, true),
                (Form::Batched, false),
                (Form::OnePerWrite { connections: 1 }, true),
                (Form::OnePerWrite { connections: 3 }, true),
                (Form::OnePerWrite { connections: 3 }, false),
            ] {
                let options = PumpOptions { form, answers, ..options(free_port(), frame_bytes, &to) };
                pump_some(driver, options, connections, &trouble);
            }
        }
    }
}

#[test]
fn what_is_acknowledged_from_a_log_reaches_the_sink_too() {
    let (to, trouble) = channel();
    for frame_bytes in [4096, 70_000] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = PumpOptions {
            folder: Some(folder.path().to_owned()),
            stable: Stable::Yes,
            ..options(free_port(), frame_bytes, &to)
        };
        pump_some(DriverChoice::Auto, log, 8, &trouble);
    }
}

/// A relay with a sink of the test's own; gives the sink's side of its connection and one of a source's.
fn relay_between(options: PumpOptions, sink: &TcpListener) -> (TcpStream, TcpStream) {
    let listen = options.listen;
    launch(&one(DriverChoice::Epoll), Pump(Arc::new(options))).expect("starts");
    let (behind, _) = sink.accept().expect("the relay connects");
    await_listener(listen);
    (TcpStream::connect(listen).expect("it listens"), behind)
}

fn send_one(source: &mut TcpStream, frame_bytes: usize) {
    std::io::Write::write_all(source, &vec![b'x'; frame_bytes]).expect("sent");
    source.read_exact(&mut [0]).expect("acknowledged");
}

const WAIT: Duration = Duration::from_secs(30);

#[test]
fn a_sink_that_goes_away_is_an_error_with_its_place() {
    let (to, trouble) = channel();
    let sink = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = sink.local_addr().expect("bound");
    let (mut source, behind) = relay_between(options(address, 4096, &to), &sink);
    send_one(&mut source, 4096);
    drop(behind);
    match trouble.recv_timeout(WAIT) {
        Ok(PumpError::Lost { place: Place::Relay, peer, frames: 0, owed: 1, .. }) => assert_eq!(peer, address),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sink_that_never_answers_is_an_error_in_time() {
    let (to, trouble) = channel();
    let sink = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = sink.local_addr().expect("bound");
    let options = PumpOptions { patience: Span::millis(50), ..options(address, 4096, &to) };
    let (mut source, _behind) = relay_between(options, &sink);
    send_one(&mut source, 4096);
    match trouble.recv_timeout(WAIT) {
        Ok(PumpError::Lost { how: Ending::Silent, owed: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_source_may_end_between_two_frames_and_nowhere_else() {
    for (frame_bytes, cut) in [(4096, 100), (100 << 10, 70_000)] {
        let (to, trouble) = channel();
        let sink = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let options = options(sink.local_addr().expect("bound"), frame_bytes, &to);
        let listen = options.listen;
        let (mut whole, _behind) = relay_between(options, &sink);
        send_one(&mut whole, frame_bytes);
        drop(whole);
        let mut torn = TcpStream::connect(listen).expect("it listens");
        std::io::Write::write_all(&mut torn, &vec![b'x'; cut]).expect("sent");
        let theirs = torn.local_addr().expect("connected");
        drop(torn);
        match trouble.recv_timeout(WAIT) {
            Ok(PumpError::Lost { place: Place::Relay, peer, frames: 0, .. }) => assert_eq!(peer, theirs),
            other => panic!("{frame_bytes}: {other:?}"),
        }
    }
}

#[test]
fn a_relay_without_a_sink_says_whom_it_cannot_reach() {
    let (to, trouble) = channel();
    let nobody = free_port();
    launch(&one(DriverChoice::Epoll), Pump(Arc::new(options(nobody, 10, &to)))).expect("starts");
    match trouble.recv_timeout(WAIT) {
        Ok(error @ PumpError::Connect { place: Place::Relay, .. }) => {
            assert!(error.to_string().contains(&nobody.to_string()), "{error}");
        }
        other => panic!("{other:?}"),
    }
}
