//! A front end before hubs, all of them processes: it keeps nothing, its 250 is a hub's, and what is behind it may come and
//! go (F-100 to F-103, S-018, P-111).

use rustix::process::Signal;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tests::corpus::mails;
use tests::ledger::{content, sender};
use tests::peers::{free_address, trace_before};
use tests::programs::Build;
use tests::server::{Server, Told, waits};
use tests::sink::{Offers, Sink};
use tests::talk::{Reply, Talk, stuffed};
use tests::wait::until;

/// The most octets of a message that a front end may hold (ARCHITECTURE.md, "Front end").
const HELD_MAX: u64 = 64 << 10;
/// Figures are published every quarter of a second: one that does not change for so long stands still.
const STANDSTILL: Duration = Duration::from_secs(2);
/// What every wait is that a front end has for a hub, where a test waits for its end.
const HUB_WAIT: Duration = Duration::from_secs(1);

/// A hub behind a front end on this machine.
fn hub_told(sink: &Sink) -> Told {
    let address = free_address();
    Told { address, ..Told::relaying_to(sink.address()).with("access", "trusted_front_ends = [\"127.0.0.1\"]") }
}

/// A front end, its hubs, and what is behind them.
struct House {
    front: Server,
    hubs: Vec<Server>,
    sink: Sink,
}

impl House {
    fn of(driver: &'static str, hubs: usize) -> Self {
        Self::with(hubs, |told| Told { driver, ..told }, |told| Told { driver, ..told })
    }

    fn with(hubs: usize, hub: impl Fn(Told) -> Told, front: impl Fn(Told) -> Told) -> Self {
        let sink = Sink::start(Offers { chunking: true });
        let hubs: Vec<Server> = (0..hubs).map(|_| Server::started(hub(hub_told(&sink)))).collect();
        let addresses = hubs.iter().map(Server::address).collect();
        let front = Server::started(front(Told::before(addresses).with("delivery", waits("30s"))));
        Self { front, hubs, sink }
    }

    fn send(&self, id: u64) -> Reply {
        let mut talk = Talk::hello(self.front.address()).expect("a greeting");
        talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply")
    }

    /// Sends a message until it is accepted; before that it is put off.
    fn send_until_accepted(&self, what: &str, id: u64) {
        let mut talk = Talk::hello(self.front.address()).expect("a greeting");
        until(what, || match talk.send(&sender(id), &["bob@b.test"], &content(id)) {
            Ok(reply) if reply.code == 250 => Some(()),
            Ok(reply) => panic!("content was asked for, and {reply:?}"),
            Err(refused) => {
                assert!(refused.to_string().contains("451"), "{refused}");
                None
            }
        });
    }

    /// Everything of `ids` came, once and unchanged, and nothing else.
    fn ends_with(mut self, ids: &[u64]) {
        self.sink.wait_for(ids.len());
        self.front.stop();
        for mut hub in self.hubs {
            hub.stop();
        }
        let taken = self.sink.taken();
        let mut came: Vec<&str> = taken.iter().map(|one| one.from.as_str()).collect();
        let mut wanted: Vec<String> = ids.iter().map(|id| sender(*id)).collect();
        came.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(came, wanted);
        for id in ids {
            let one = taken.iter().find(|one| one.from == sender(*id)).expect("it came");
            assert!(trace_before(&content(*id), &one.content).is_some(), "{id} is changed");
        }
    }
}

/// A line of content, and many of them: larger than what travels in one piece.
const LINE: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n";

fn large(lines: usize) -> Vec<u8> {
    [b"Subject: large\r\n\r\n".as_slice(), &LINE.repeat(lines)].concat()
}

fn carries_the_corpus(driver: &'static str) {
    let mut house = House::of(driver, 2);
    let mut talk = Talk::hello(house.front.address()).expect("a greeting");
    for (at, mail) in mails().iter().enumerate() {
        let from = format!("{}@a.test", mail.name);
        let by_data = talk.send(&from, &["bob@b.test"], &mail.content).expect("a reply");
        let by_bdat = talk.send_in_chunks(&from, &["eve@b.test"], &mail.content, 64 + at * 997).expect("a reply");
        assert!(by_data.is_positive() && by_bdat.is_positive(), "{}: {by_data:?}, {by_bdat:?}", mail.name);
    }
    let taken = house.sink.wait_for(2 * mails().len());
    for mail in mails() {
        let same: Vec<_> = taken.iter().filter(|one| one.from == format!("{}@a.test", mail.name)).collect();
        assert_eq!(same.len(), 2, "{}", mail.name);
        for one in same {
            // One field: a front end adds none where RFC 5321 rules (M-078).
            let trace = trace_before(&mail.content, &one.content);
            assert_eq!(trace, Some(vec!["Received".to_owned()]), "{} is changed", mail.name);
        }
    }
    house.front.stop();
    for hub in &mut house.hubs {
        hub.stop();
    }
}

#[test]
fn i_4_through_a_front_end_on_every_driver() {
    for driver in tests::drivers("i_4_through_a_front_end_on_every_driver") {
        carries_the_corpus(driver);
    }
}

/// Front end and hub were told different things: the front end takes both recipients, and more than the hub would. Its word
/// holds, so that each gets the message, once.
#[test]
fn m_113_a_large_body_crosses_to_a_hub_without_pipelining() {
    let house = House::with(1, |told| told.with("receive", "pipelining = false"), |told| told);
    let mut talk = Talk::hello(house.front.address()).expect("a greeting");
    for _ in 0..2 {
        let reply = talk.send(&sender(3), &["bob@b.test", "eve@b.test"], &large(20_000)).expect("a reply");
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    house.sink.wait_for(2);
    assert!(house.sink.taken().iter().all(|one| one.content.len() > large(20_000).len()), "all of it");
}

#[test]
fn i_3_s_018_what_the_front_end_accepts_the_hub_takes_for_every_recipient() {
    for driver in tests::drivers("i_3_s_018_what_the_front_end_accepts_the_hub_takes_for_every_recipient") {
        let mut house = House::with(
            1,
            |told| {
                let told = told.with("access", "relay_from = [\"127.0.0.9\"]\naccepted_domains = [\"b.test\"]");
                Told { driver, ..told.with("receive", "recipients_max = 100") }
            },
            |told| Told { driver, ..told },
        );
        let many: Vec<String> = (0..150).map(|number| format!("user{number}@b.test")).collect();
        let mixed: Vec<&str> =
            ["bob@b.test", "eve@c.test"].into_iter().chain(many.iter().map(String::as_str)).collect();
        for (id, recipients) in [(0, &mixed[..2]), (1, &mixed[..])] {
            let mut talk = Talk::hello(house.front.address()).expect("a greeting");
            let reply = talk.send(&sender(id), recipients, &content(id)).expect("a reply");
            assert_eq!(reply.code, 250, "{reply:?}");
            house.sink.wait("all of them", |taken| {
                let came = taken.iter().filter(|one| one.from == sender(id)).map(|one| one.to.len()).sum::<usize>();
                came == recipients.len()
            });
        }
        house.front.stop();
        house.hubs[0].stop();
        let mut came: Vec<String> = house.sink.taken().into_iter().flat_map(|one| one.to).collect();
        came.sort_unstable();
        came.dedup();
        assert_eq!(came.len(), mixed.len(), "{came:?}");
    }
}

/// The front end relays for one client alone. The hub takes its word for that, and for who it is; and nobody else's.
#[test]
fn s_018_the_hub_takes_the_word_of_a_trusted_front_end() {
    for driver in tests::drivers("s_018_the_hub_takes_the_word_of_a_trusted_front_end") {
        let one: IpAddr = "127.0.0.9".parse().expect("an address");
        let other: IpAddr = "127.0.0.8".parse().expect("an address");
        let mut house = House::with(
            1,
            |told| Told { driver, ..told.with("access", "relay_from = []") },
            |told| Told { driver, ..told.with("access", "relay_from = [\"127.0.0.9\"]") },
        );
        let greeted = |from, server: &Server| {
            Talk::connect_from(from, server.address()).and_then(Talk::greeted).expect("a greeting")
        };
        let sent = greeted(one, &house.front).send(&sender(0), &["bob@b.test"], &content(0)).expect("a reply");
        assert_eq!(sent.code, 250, "{sent:?}");
        let mut refused = greeted(other, &house.front);
        assert_eq!(refused.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
        let refused = refused.say("RCPT TO:<bob@b.test>").expect("a reply");
        assert_eq!((refused.code, refused.lines[0].starts_with("5.7.1")), (550, true), "{refused:?}");
        let taken = house.sink.wait_for(1);
        let received = String::from_utf8_lossy(&taken[0].content).into_owned();
        assert!(received.contains("from client.test ([127.0.0.9])"), "the client's own name and address: {received}");

        // The same words from a peer that is not listed are no words at all.
        let claimed =
            greeted(other, &house.hubs[0]).say("MAIL FROM:<a@a.test> XADDR=127.0.0.9 XPROTO=ESMTP").expect("a reply");
        assert_eq!(claimed.code, 555, "{claimed:?}");
        // And a front end that is not listed is a client like any other: its own address counts.
        house.hubs[0].stop();
        house.hubs[0].tell(|told| {
            told.more.retain(|(section, _)| *section != "access");
            told.more.push(("access", "relay_from = [\"127.0.0.9\"]".to_owned()));
        });
        house.hubs[0].start();
        let denied = until("the hub to be used again", || {
            let mut talk = Talk::connect_from(one, house.front.address()).and_then(Talk::greeted).expect("a greeting");
            talk.send(&sender(1), &["bob@b.test"], &content(1)).ok().filter(|reply| reply.code != 451)
        });
        assert_eq!(denied.code, 550, "{denied:?}");
        assert_eq!(house.sink.taken().len(), 1);
    }
}

/// What it costs to send each of `ids`; every one is accepted.
fn times(house: &House, ids: std::ops::Range<u64>) -> Vec<Duration> {
    let time = |id| {
        let began = Instant::now();
        let reply = house.send(id);
        assert_eq!(reply.code, 250, "{reply:?}");
        began.elapsed()
    };
    ids.map(time).collect()
}

/// F-100: one of two hubs goes, by death (connections are refused) and by silence (they are made and nothing comes).
/// Messages go through the other, and of those that come once it is known dead none waits for it.
#[test]
fn f_100_a_dead_hub_of_two_costs_new_messages_nothing() {
    for driver in tests::drivers("f_100_a_dead_hub_of_two_costs_new_messages_nothing") {
        for signal in [Signal::KILL, Signal::STOP] {
            let mut house = House::with(
                2,
                |told| Told { driver, ..told },
                |told| Told { driver, more: vec![("delivery", waits("1s"))], ..told },
            );
            times(&house, 0..4);
            house.hubs[0].process().signal(signal);
            // At most one message finds out: what was on its way to the hub then is answered 4yz and no other is lost.
            until("a message past the dead hub", || {
                let mut talk = Talk::hello(house.front.address()).expect("a greeting");
                match talk.send(&sender(4), &["bob@b.test"], &content(4)) {
                    Ok(reply) => {
                        assert!([250, 451].contains(&reply.code), "{reply:?}");
                        (reply.code == 250).then_some(())
                    }
                    // What the hub may have got is not spoken about (M-049).
                    Err(end) => {
                        assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "{end}");
                        None
                    }
                }
            });
            let waited = times(&house, 5..45).into_iter().filter(|time| *time >= HUB_WAIT).count();
            assert_eq!(waited, 0, "messages waited for a hub that is known dead ({signal:?})");
            house.hubs[0].kill();
            house.sink.wait("everything acknowledged by the living hub", |taken| {
                (4..45).all(|id| taken.iter().any(|one| one.from == sender(id)))
            });
            let mut log = || house.front.process().complaints();
            until("its death to be told", || log().contains("a hub is dead: it is looked for").then_some(()));
            house.hubs[0].start();
            let mut log = || house.front.process().complaints();
            until("its return to be told", || log().contains("a hub is dead no more").then_some(()));
        }
    }
}

/// F-100, M-049: hubs that keep silent all at once, as behind a cut line, are nobody to take mail for; who waits for one
/// hears the truth when it speaks again.
#[test]
fn f_100_m_049_of_hubs_that_are_all_silent_nobody_is_promised_anything() {
    for driver in tests::drivers("f_100_m_049_of_hubs_that_are_all_silent_nobody_is_promised_anything") {
        let mut house = House::of(driver, 2);
        assert_eq!(house.send(0).code, 250);
        house.hubs.iter_mut().for_each(|hub| hub.process().signal(Signal::STOP));
        // A message for each: of a hub that owes nothing nobody knows that it would be silent.
        let mut waits = [1, 2].map(|id| {
            let mut talk = Talk::hello(house.front.address()).expect("a greeting");
            talk.begin(&sender(id), &["bob@b.test"]).expect("nobody knows yet");
            talk.write(&[&stuffed(&content(id))[..], b".\r\n"].concat()).expect("a connection");
            talk
        });
        until("the front end to take nothing more", || {
            let mut talk = Talk::hello(house.front.address()).expect("a greeting");
            let reply = talk.say("MAIL FROM:<a@a.test>").expect("a reply");
            let refused = (reply.code, reply.lines[0].starts_with("4.4.0")) == (451, true);
            assert!(refused || reply.code == 250, "{reply:?}");
            refused.then_some(())
        });
        house.hubs.iter_mut().for_each(|hub| hub.process().signal(Signal::CONT));
        waits.iter_mut().for_each(|talk| assert_eq!(talk.reply().expect("the verdict").code, 250));
        house.send_until_accepted("mail to be taken again", 3);
        house.ends_with(&[0, 1, 2, 3]);
    }
}

/// F-100, F-101: no hub at all is 451 4.4.0 to MAIL at once, and the first that returns is used without a restart.
#[test]
fn f_100_f_101_without_hubs_mail_is_put_off_and_returns_with_them() {
    for driver in tests::drivers("f_100_f_101_without_hubs_mail_is_put_off_and_returns_with_them") {
        let mut house = House::of(driver, 2);
        assert_eq!(house.send(0).code, 250);
        until("its outcome on disk", || {
            (house.hubs.iter().map(|hub| hub.counter("settles")).sum::<u64>() == 1).then_some(())
        });
        for hub in &mut house.hubs {
            hub.kill();
        }
        let mut talk = Talk::hello(house.front.address()).expect("a greeting");
        until("the front end to know", || {
            if let Err(refused) = talk.begin(&sender(1), &["bob@b.test"]) {
                assert!(refused.to_string().contains("451"), "{refused}");
                return Some(());
            }
            // It did not know yet: the message is refused at its end instead, or nothing is said, but never 250.
            talk.write(b"x\r\n.\r\n").expect("a connection");
            match talk.reply() {
                Ok(reply) => assert_eq!(reply.code, 451, "{reply:?}"),
                Err(_) => talk = Talk::hello(house.front.address()).expect("a greeting"),
            }
            None
        });
        let refused = talk.say("MAIL FROM:<a@a.test>").expect("a reply");
        assert_eq!((refused.code, refused.lines[0].starts_with("4.4.0")), (451, true), "{refused:?}");
        until("the status to say so", || (house.front.status()["roles"][0]["why"] == "no hub answers").then_some(()));
        house.hubs[1].start();
        house.send_until_accepted("mail to be taken again", 2);
        until("the status to be well again", || (house.front.status()["healthy"] == true).then_some(()));
        house.hubs[0].start();
        house.ends_with(&[0, 2]);
    }
}

/// Small messages of many clients share connections to hubs: few are made, however many clients there are.
#[test]
fn small_messages_of_many_clients_share_few_hub_connections() {
    const CLIENTS: u64 = 48;
    const EACH: u64 = 4;
    // One in sixteen ids has a large message (`tests::ledger`): those of a client are beside it.
    let ids = |client: u64| (0..EACH).map(move |nth| client * 16 + nth);
    for driver in tests::drivers("small_messages_of_many_clients_share_few_hub_connections") {
        let house = House::of(driver, 2);
        let front = house.front.address();
        let accept = |client: u64| {
            let mut talk = Talk::hello(front).expect("a greeting");
            for id in ids(client) {
                talk.envelope(&sender(id), &["bob@b.test"]).expect("an envelope");
                // In one write: what is there whole shares a connection, what comes in pieces has one alone.
                let command = format!("BDAT {} LAST\r\n", content(id).len());
                talk.write(&[command.as_bytes(), &content(id)].concat()).expect("a connection");
                let reply = talk.reply().expect("a reply");
                assert_eq!(reply.code, 250, "{reply:?}");
            }
        };
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || accept(client));
            }
        });
        let clients = house.front.counter("connections_accepted");
        let made = house.front.counter("connections_made");
        let accepted: u64 = house.hubs.iter().map(|hub| hub.counter("connections_accepted")).sum();
        println!("{clients} clients, {made} connections made, {accepted} accepted by hubs");
        assert!(clients >= CLIENTS, "{clients} clients");
        // One shard, two hubs: one connection to each holds more than all that is under way.
        assert!((1..=4).contains(&made), "{made} connections to hubs for {clients} clients");
        assert!(accepted <= made, "{accepted} connections at the hubs, {made} made");
        house.ends_with(&(0..CLIENTS).flat_map(ids).collect::<Vec<_>>());
    }
}

/// A client in the middle of a large body that its hub has begun to receive.
fn amid_a_large_body(house: &House, body: &[u8]) -> Talk {
    let mut talk = Talk::hello(house.front.address()).expect("a greeting");
    talk.begin("large@a.test", &["bob@b.test"]).expect("an envelope");
    talk.write(&body[..body.len() / 2]).expect("room");
    until("half of the body at the hub", || {
        let bytes: u64 = house.hubs.iter().map(|hub| hub.counter("socket_in_bytes")).sum();
        (bytes > 256 << 10).then_some(())
    });
    talk
}

#[test]
fn f_102_killed_in_mid_body_it_leaves_nothing_at_the_hub() {
    for driver in tests::drivers("f_102_killed_in_mid_body_it_leaves_nothing_at_the_hub") {
        let mut house = House::of(driver, 1);
        let body = large(20_000);
        let talk = amid_a_large_body(&house, &body);
        house.front.kill();
        drop(talk);
        until("the hub to let go", || (house.hubs[0].counter("connections_in") == 0).then_some(()));
        house.front.start();
        assert_eq!(house.send(0).code, 250);
        until("the one message at the hub", || (house.hubs[0].counter("messages_accepted") == 1).then_some(()));
        // Killed before that, it would send it again (W1).
        until("its outcome on the disk", || (house.hubs[0].counter("settles") == 1).then_some(()));
        // Nor is anything found by the hub's next life.
        house.hubs[0].kill();
        house.hubs[0].start();
        house.send_until_accepted("the hub to be used again", 1);
        house.ends_with(&[0, 1]);
    }
}

#[test]
fn f_103_a_hub_killed_in_mid_body_is_451_and_the_repeat_goes_to_the_other() {
    for driver in tests::drivers("f_103_a_hub_killed_in_mid_body_is_451_and_the_repeat_goes_to_the_other") {
        let mut house = House::of(driver, 2);
        let body = large(20_000);
        let mut talk = amid_a_large_body(&house, &body);
        let served = house.hubs.iter().position(|hub| hub.counter("connections_in") > 0).expect("one has it");
        // Figures are those of a moment ago.
        until("the front end to count it", || (house.front.counter("connections_out") > 0).then_some(()));
        house.hubs[served].kill();
        until("the front end to know", || (house.front.counter("connections_out") == 0).then_some(()));
        assert_eq!(house.front.counter("connections_broken_out"), 1);
        talk.write(&body[body.len() / 2..]).expect("the client's session goes on");
        talk.write(b".\r\n").expect("the client's session goes on");
        let reply = talk.reply().expect("a reply");
        assert_eq!((reply.code, reply.lines[0].starts_with("4.3.0")), (451, true), "{reply:?}");
        // The same session, the same message: the sender tries again.
        let repeated = talk.send("large@a.test", &["bob@b.test"], &body).expect("a reply");
        assert_eq!(repeated.code, 250, "{repeated:?}");
        house.hubs[served].start();
        let taken = house.sink.wait_for(1);
        assert!(trace_before(&body, &taken[0].content).is_some());
        house.front.stop();
        for hub in &mut house.hubs {
            hub.stop();
        }
        assert_eq!(house.sink.taken().len(), 1);
    }
}

/// The hub has all of a message, and its copy durable, when it dies before its 250: the front end neither says 250 nor
/// gives it to the other hub. The sender hears nothing (M-049), and the message comes once.
#[test]
fn f_103_what_was_handed_on_to_the_last_octet_is_never_sent_again() {
    for driver in tests::drivers("f_103_what_was_handed_on_to_the_last_octet_is_never_sent_again") {
        what_was_handed_on_is_not_sent_again(driver);
    }
}

fn what_was_handed_on_is_not_sent_again(driver: &'static str) {
    let sink = Sink::start(Offers { chunking: true });
    let mut dying = Server::new(Told { driver, build: Build::FailPoints, ..hub_told(&sink) });
    assert!(dying.start_to_die("K7:1"));
    let mut other = Server::started(Told { driver, ..hub_told(&sink) });
    let told = Told::before(vec![dying.address(), other.address()]).with("delivery", waits("5s"));
    let mut front = Server::started(Told { driver, ..told });
    let mut refused = Vec::new();
    for id in (0..).take_while(|id| *id < 2 || !dying.has_ended()) {
        let mut talk = Talk::hello(front.address()).expect("a greeting");
        match talk.send(&sender(id), &["bob@b.test"], &content(id)) {
            Ok(reply) => assert_eq!(reply.code, 250, "{reply:?}"),
            Err(end) => {
                assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "{end}");
                refused.push(id);
            }
        }
    }
    assert_eq!(refused.len(), 1, "the one that the hub died with");
    dying.died();
    assert!(!sink.taken().iter().any(|one| one.from == sender(refused[0])), "the other hub was not given it");
    dying.start();
    sink.wait("the message of the hub that died", |taken| taken.iter().any(|one| one.from == sender(refused[0])));
    front.stop();
    other.stop();
    dying.stop();
    assert!(sink.count_by_sender().values().all(|count| *count == 1), "{:?}", sink.count_by_sender());
}

/// A front end whose hub is patient, and the hub.
fn patient(driver: &'static str) -> House {
    let waiting = |told: Told| Told { driver, more: vec![("delivery", waits("60s"))], ..told };
    House::with(1, |told| Told { driver, ..told }, waiting)
}

/// The hub reads nothing while `rest` is written: the front end reads on until what it may hold is full, and at no time
/// holds more. When the hub goes on, so does the client.
fn holds_no_more_than_it_may(house: &mut House, talk: &Talk, rest: Vec<u8>) {
    house.hubs[0].process().signal(Signal::STOP);
    let mut stream = talk.stream().try_clone().expect("a second handle");
    let bytes = rest.len();
    let writer = std::thread::spawn(move || stream.write_all(&rest));
    // It reads on as long as it has room; then the same figure many times over is a standstill.
    let (mut most, mut last) = (0, (0, Instant::now()));
    until("a standstill", || {
        let status = house.front.status();
        let of = |name: &str| status["counters"][name].as_u64().expect("a counter");
        let received = of("socket_in_bytes");
        most = most.max(received.saturating_sub(of("socket_out_bytes")));
        if last.0 != received {
            last = (received, Instant::now());
        }
        (most > HELD_MAX / 2 && last.1.elapsed() >= STANDSTILL).then_some(())
    });
    assert!(!writer.is_finished(), "the client has to wait");
    // What the kernel has not taken of the last write counts as held too, and so do commands and replies.
    println!("the front end held at most {most} octets of {bytes}");
    assert!(most <= HELD_MAX + 4096, "{most} octets are held");
    house.hubs[0].process().signal(Signal::CONT);
    writer.join().expect("no panic").expect("the hub reads again");
}

/// A hub that stops reading in the middle of a body.
#[test]
fn f_100_at_most_64_kib_of_a_message_are_held() {
    for driver in tests::drivers("f_100_at_most_64_kib_of_a_message_are_held") {
        let mut house = patient(driver);
        // More than all the buffers of the kernel on its way.
        let body = large(480_000);
        let mut talk = amid_a_large_body(&house, &body[..2 << 20]);
        holds_no_more_than_it_may(&mut house, &talk, [&body[1 << 20..], b".\r\n"].concat());
        assert_eq!(talk.reply().expect("a reply").code, 250);
        assert!(trace_before(&body, &house.sink.wait_for(1)[0].content).is_some());
    }
}

/// A hub that reads nothing of a body from its first octet on, and a client that does not wait before it sends all.
#[test]
fn f_100_at_most_64_kib_of_a_message_are_held_from_its_beginning() {
    for driver in tests::drivers("f_100_at_most_64_kib_of_a_message_are_held_from_its_beginning") {
        let mut house = patient(driver);
        // The connection to the hub is there.
        assert_eq!(house.send(1).code, 250);
        let body = large(480_000);
        let mut talk = Talk::hello(house.front.address()).expect("a greeting");
        let commands = format!("MAIL FROM:<large@a.test>\r\nRCPT TO:<bob@b.test>\r\nBDAT {} LAST\r\n", body.len());
        holds_no_more_than_it_may(&mut house, &talk, [commands.as_bytes(), &body].concat());
        for _ in ["MAIL", "RCPT", "BDAT"] {
            let reply = talk.reply().expect("a reply");
            assert_eq!(reply.code, 250, "{reply:?}");
        }
        assert!(trace_before(&body, &house.sink.wait_for(2)[1].content).is_some());
    }
}

/// One client stops in the middle of a small body and one of a large: the others share the hub connections all the same.
#[test]
fn i_5_slow_clients_hold_nobody_up() {
    for driver in tests::drivers("i_5_slow_clients_hold_nobody_up") {
        let house = House::of(driver, 1);
        let body = large(20_000);
        let mut slow = amid_a_large_body(&house, &body);
        let mut slower = Talk::hello(house.front.address()).expect("a greeting");
        slower.begin(&sender(100), &["bob@b.test"]).expect("an envelope");
        let small = stuffed(&content(100));
        slower.write(&small[..small.len() / 2]).expect("room");
        times(&house, 0..30);
        house.sink.wait_for(30);
        slow.write(&body[body.len() / 2..]).expect("room");
        slow.write(b".\r\n").expect("room");
        assert_eq!(slow.reply().expect("a reply").code, 250);
        drop(slower);
        let taken = house.sink.wait_for(31);
        assert!(!taken.iter().any(|one| one.from == sender(100)), "half a message is none");
    }
}

/// A hub does not answer: what the front end itself has to say of the commands before leaves all the same.
#[test]
fn m_110_replies_do_not_wait_for_a_hub_that_is_silent() {
    for driver in tests::drivers("m_110_replies_do_not_wait_for_a_hub_that_is_silent") {
        let mut house = patient(driver);
        // The connection to the hub is there.
        assert_eq!(house.send(0).code, 250);
        let mut talk = Talk::hello(house.front.address()).expect("a greeting");
        house.hubs[0].process().signal(Signal::STOP);
        talk.write(b"NOOP\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<bob@b.test>\r\nBDAT 2 LAST\r\n\r\n").expect("room");
        for command in ["NOOP", "MAIL", "RCPT"] {
            assert_eq!(talk.reply().expect(command).code, 250);
        }
        house.hubs[0].process().signal(Signal::CONT);
        assert_eq!(talk.reply().expect("the verdict").code, 250);
    }
}

/// A client pauses in the middle of a large body for longer than a hub's answer is waited for: the hub owes none, so it is
/// not given up for dead.
#[test]
fn f_100_m_069_a_pause_of_a_client_is_no_silence_of_the_hub() {
    for driver in tests::drivers("f_100_m_069_a_pause_of_a_client_is_no_silence_of_the_hub") {
        let told = waits("30s").replace("dot_wait = \"30s\"", "dot_wait = \"1s\"");
        let house = House::with(
            1,
            |told| Told { driver, ..told },
            |front| Told { driver, more: vec![("delivery", told.clone())], ..front },
        );
        let body = large(20_000);
        let mut slow = amid_a_large_body(&house, &body);
        let (paused, mut id) = (Instant::now(), 0);
        until("the pause to be long enough", || {
            assert_eq!(house.send(id).code, 250);
            id += 1;
            (paused.elapsed() >= 2 * HUB_WAIT).then_some(())
        });
        slow.write(&body[body.len() / 2..]).expect("room");
        slow.write(b".\r\n").expect("room");
        assert_eq!(slow.reply().expect("a reply").code, 250);
        house.sink.wait_for(usize::try_from(id + 1).expect("a few"));
    }
}

/// What a hub says at the end is what the client hears, word for word.
#[test]
fn the_hubs_reply_is_the_clients() {
    for driver in tests::drivers("the_hubs_reply_is_the_clients") {
        let house = House::with(
            1,
            |told| Told { driver, ..told.with("receive", "size_max = \"64 KiB\"") },
            |told| Told { driver, ..told },
        );
        let mut talk = Talk::hello(house.front.address()).expect("a greeting");
        for (lines, code) in [(1, 250), (2_000, 552), (20_000, 552), (1, 250)] {
            let reply = talk.send("a@a.test", &["bob@b.test"], &large(lines)).expect("a reply");
            assert_eq!(reply.code, code, "{lines} lines: {reply:?}");
        }
        assert_eq!(house.sink.wait_for(2).len(), 2);
    }
}

/// A client that breaks off leaves nothing behind, at the front end or at the hub.
#[test]
fn f_147_a_client_that_goes_in_mid_body_leaves_nothing() {
    for driver in tests::drivers("f_147_a_client_that_goes_in_mid_body_leaves_nothing") {
        let house = House::of(driver, 1);
        let body = large(20_000);
        drop(amid_a_large_body(&house, &body));
        until("the front end to let go", || (house.front.counter("connections_in") == 0).then_some(()));
        let mut talk = Talk::hello(house.front.address()).expect("a greeting");
        talk.begin("half@a.test", &["bob@b.test"]).expect("an envelope");
        talk.write(b"Subject: half\r\n").expect("room");
        drop(talk);
        assert_eq!(house.send(0).code, 250);
        house.ends_with(&[0]);
    }
}
