//! The sink as a whole, on real sockets and every driver that this machine has, spoken to by a plain client.

#![forbid(unsafe_code)]

#[path = "../../tests/src/skip.rs"]
mod skip;

use engine::io::choice::DriverChoice;
use engine::wire::Span;
use loadgen::sink::admin::{AdminAddress, AdminClient, AdminError};
use loadgen::sink::{RunningSink, SinkError, SinkOptions, start};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const DRIVERS: [DriverChoice; 2] = [DriverChoice::Uring, DriverChoice::Epoll];

fn sink(driver: DriverChoice, change: impl FnOnce(&mut SinkOptions)) -> Option<RunningSink> {
    let mut options = SinkOptions { driver, ..SinkOptions::default() };
    change(&mut options);
    match start(options) {
        Err(SinkError::Launch(refused)) => {
            // The test runner names its threads after the tests.
            skip::skip(std::thread::current().name().unwrap_or("?"), &refused.to_string());
            None
        }
        other => Some(other.unwrap_or_else(|error| panic!("{driver}: {error}"))),
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(to: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    fn greeted(to: SocketAddr) -> Self {
        let mut client = Self::connect(to).expect("the sink listens");
        assert_eq!(client.reply(), "220");
        assert_eq!(client.say("EHLO client.test\r\n"), "250");
        client
    }

    /// The code of the next reply; empty at the end of the connection.
    fn reply(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).is_err() || line.as_bytes().get(3) != Some(&b'-') {
                return line.get(..3).unwrap_or(&line).to_owned();
            }
        }
    }

    fn say(&mut self, text: &str) -> String {
        // A sink that closed already is found out by the reply that does not come.
        let _ = self.0.get_mut().write_all(text.as_bytes());
        self.reply()
    }

    fn mail(&mut self) -> Vec<String> {
        let commands = ["MAIL FROM:<ann@a.test>\r\n", "RCPT TO:<u1@x.test>\r\n", "DATA\r\n", "A: b\r\n\r\n..\r\n.\r\n"];
        let mut replies = Vec::new();
        for command in commands {
            replies.push(self.say(command));
            if replies.last().is_some_and(|reply| !reply.starts_with(['2', '3'])) {
                break;
            }
        }
        replies
    }
}

#[test]
fn it_takes_mail_and_remembers_it() {
    for driver in DRIVERS {
        let Some(sink) = sink(driver, |options| options.cores = vec![None, None]) else { continue };
        assert_eq!(sink.driver, driver.to_string());
        for _ in 0..4 {
            let mut client = Client::greeted(sink.listen[0]);
            assert_eq!(client.mail(), ["250", "250", "354", "250"]);
            assert_eq!(client.say("QUIT\r\n"), "221");
        }
        let counts = sink.handle().counts();
        assert_eq!((counts.connections, counts.messages, counts.unstamped), (4, 4, 4));
        assert!(counts.shard_cpu_ns.iter().sum::<u64>() > 0);
        let outcome = sink.stop().expect("it ends well");
        assert_eq!(outcome.ledger.len(), 4);
        assert!(outcome.ledger.iter().all(|entry| entry.bytes == 11 && entry.at.0 >= counts.started_ns));
    }
}

#[test]
fn f_060_a_refusing_sink_closes_its_listener_and_opens_it_again() {
    for driver in DRIVERS {
        let Some(sink) = sink(driver, |_| {}) else { continue };
        let (at, handle) = (sink.listen[0], sink.handle());
        let mut before = Client::greeted(at);
        assert!(handle.set_faults(vec!["accept:refuse".parse().expect("a fault")]));
        let refused = || matches!(TcpStream::connect(at), Err(error) if error.kind() == ErrorKind::ConnectionRefused);
        wait_until("the listener is closed", refused);
        assert_eq!(before.say("NOOP\r\n"), "250", "who is in stays in");
        assert!(handle.set_faults(Vec::new()));
        wait_until("the listener is open again", || {
            Client::connect(at).is_ok_and(|mut client| client.reply() == "220")
        });
        sink.stop().expect("it ends well");
    }
}

#[test]
fn faults_are_changed_while_it_runs() {
    for driver in DRIVERS {
        let Some(sink) =
            sink(driver, |options| options.faults = vec!["mail:reply 451 later".parse().expect("a fault")])
        else {
            continue;
        };
        let (at, handle) = (sink.listen[0], sink.handle());
        let mut client = Client::greeted(at);
        assert_eq!(client.mail(), ["451"]);
        assert!(handle.set_faults(vec!["eod:take+close".parse().expect("a fault")]));
        assert_eq!(client.mail(), ["250", "250", "354", ""]);
        assert!(
            handle.set_faults(vec!["any:split".parse().expect("a fault"), "eod:delay 1ms".parse().expect("a fault")])
        );
        assert_eq!(Client::greeted(at).mail(), ["250", "250", "354", "250"]);
        assert!(handle.set_faults(vec!["rcpt:reset".parse().expect("a fault")]));
        assert_eq!(Client::greeted(at).mail(), ["250", ""]);
        let counts = handle.counts();
        assert_eq!((counts.messages, counts.silent), (2, 1));
        sink.stop().expect("it ends well");
    }
}

#[test]
fn a_pause_holds_everybody_and_then_everything_goes_on() {
    const PAUSE: Span = Span::millis(300);
    for driver in DRIVERS {
        let Some(sink) = sink(driver, |options| options.cores = vec![None, None]) else { continue };
        let mut clients: Vec<Client> = (0..4).map(|_| Client::greeted(sink.listen[0])).collect();
        assert!(sink.handle().pause(PAUSE));
        let started = Instant::now();
        for client in &mut clients {
            client.0.get_mut().write_all(b"NOOP\r\nRSET\r\n").expect("room in the socket");
        }
        for client in &mut clients {
            assert_eq!([client.reply(), client.reply()], ["250", "250"]);
        }
        // `started` is at most as late after the pause's start as two wakes take; the replies cannot come before its end.
        let (from, until) = sink.handle().counts().pauses_ns[0];
        assert_eq!(until - from, PAUSE.0);
        assert!(started.elapsed() + Duration::from_millis(150) >= Duration::from_nanos(PAUSE.0));
        sink.stop().expect("it ends well");
    }
}

#[test]
fn the_admin_interface_does_what_the_handle_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let unix = AdminAddress::Unix(folder.path().join("admin"));
    let tcp = "127.0.0.1:0".parse().expect("an address");
    for (driver, admin) in DRIVERS.into_iter().zip([unix, tcp]) {
        let ledger_at = folder.path().join(format!("{driver}.ledger"));
        let options = |options: &mut SinkOptions| {
            (options.admin, options.ledger) = (Some(admin), Some(ledger_at.clone()));
        };
        let Some(sink) = sink(driver, options) else { continue };
        let mut admin = AdminClient::connect(sink.admin.as_ref().expect("asked for")).expect("it listens");
        assert_eq!(Client::greeted(sink.listen[0]).mail()[3], "250");
        assert_eq!(admin.counts().expect("counts").messages, 1);
        assert_eq!(admin.ledger().expect("a ledger").len(), 1);
        assert_eq!(admin.ledger_from(1).expect("nothing since then"), []);
        assert_eq!(admin.counts().expect("the line is in step behind a ledger").messages, 1);
        admin.fault("rcpt:reply 550 5.1.1 no").expect("a fault");
        assert_eq!(Client::greeted(sink.listen[0]).mail(), ["250", "550"]);
        assert!(matches!(admin.fault("rcpt:explode"), Err(AdminError::Refused(why)) if why.contains("not an action")));
        assert!(matches!(admin.fault("nonsense"), Err(AdminError::Refused(_))));
        admin.clear().expect("no more faults");
        admin.pause(1).expect("a pause");
        assert_eq!(Client::greeted(sink.listen[0]).mail()[3], "250");
        assert_eq!(admin.ledger().expect("a ledger")[1..], admin.ledger_from(1).expect("what came since")[..]);
        assert_eq!(admin.ledger_from(1).expect("what came since").len(), 1);
        admin.stop().expect("it stops");
        let outcome = sink.join().expect("it ends well");
        let mut file = std::fs::File::open(ledger_at).expect("the ledger was written");
        assert_eq!(loadgen::ledger::read(&mut file).expect("whole"), outcome.ledger);
        assert_eq!(outcome.ledger.len(), 2);
    }
}

#[test]
fn s_016_garbage_at_the_admin_interface_ends_nothing() {
    let admin: AdminAddress = "127.0.0.1:0".parse().expect("an address");
    let Some(sink) = sink(DriverChoice::Auto, |options| options.admin = Some(admin)) else { return };
    let Some(AdminAddress::Tcp(at)) = sink.admin.clone() else { panic!("asked for TCP") };
    for garbage in [&b"\n"[..], b"\0\xff\n", b"pause\n", b"pause forever\n", &[b'x'; 10_000]] {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"{\"error\"") || answer.starts_with(b"{\"ok\":false"));
    }
    assert_eq!(Client::greeted(sink.listen[0]).mail()[3], "250");
    sink.stop().expect("it ends well");
}

#[test]
fn what_cannot_be_bound_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("bound");
    let refused = start(SinkOptions { listen: vec![at], ..SinkOptions::default() });
    assert!(matches!(refused, Err(SinkError::Listen(address, _)) if address == at));
    assert!(matches!(start(SinkOptions { listen: vec![], ..SinkOptions::default() }), Err(SinkError::Nothing)));
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
