//! How a server treats clients without manners.

use std::io::Read;
use std::time::{Duration, Instant};
use tests::peers::free_address;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

fn hub(driver: &'static str, receive: &str) -> Server {
    let more = vec![("receive", receive.to_owned())];
    Server::started(Told { driver, more, ..Told::relaying_to(free_address()) })
}

/// Waits until a counter of the hub shows this.
fn counted(hub: &Server, counter: &str, count: u64) {
    until(counter, || (hub.status()["counters"][counter].as_u64() == Some(count)).then_some(()));
}

/// Octets before the greeting end the wait for it: they are counted, and refused where the listener says so.
#[test]
fn m_017_who_talks_before_the_greeting_is_seen() {
    for driver in tests::drivers("m_017_who_talks_before_the_greeting_is_seen") {
        for (refuse, greeting, hello) in [(true, 554, 503), (false, 220, 250)] {
            let mut hub =
                hub(driver, &format!("greeting_wait = \"1m\"\nrefuse_early_talkers = {refuse}\ntarpit_wait = \"0s\""));
            let mut talk = Talk::connect(hub.address()).expect("a connection");
            talk.write(b"EHLO client.test\r\n").expect("an open connection");
            assert_eq!(talk.reply().expect("a greeting").code, greeting, "{driver}");
            assert_eq!(talk.reply().expect("the answer to what it said early").code, hello, "{driver}");
            assert_eq!(talk.say("QUIT").expect("a farewell").code, 221, "{driver}");
            counted(&hub, "early_talkers", 1);
            hub.stop();
        }
    }
}

/// M-110: what came together is answered together, when nothing more is there to read, and no answer waits for the rest of a
/// command that has only begun.
#[test]
fn m_110_replies_leave_when_nothing_more_is_there_to_read() {
    for driver in tests::drivers("m_110_replies_leave_when_nothing_more_is_there_to_read") {
        let mut hub = hub(driver, "");
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        talk.write(&[&b"NOOP\r\n".repeat(50)[..], b"NOO"].concat()).expect("an open connection");
        let mut stream = talk.stream();
        let mut octets = [0; 8192];
        let count = stream.read(&mut octets).expect("replies");
        let replies = String::from_utf8_lossy(&octets[..count]).into_owned();
        assert_eq!(replies.matches("250 2.0.0").count(), 50, "{driver}: in one piece: {replies:?}");
        assert!(replies.ends_with("\r\n"), "{driver}: and none of the command that has begun");
        talk.write(b"P\r\n").expect("an open connection");
        assert_eq!(talk.reply().expect("a reply").code, 250, "{driver}");
        hub.stop();
    }
}

#[test]
fn m_017_who_waits_for_the_greeting_gets_it() {
    for driver in tests::drivers("m_017_who_waits_for_the_greeting_gets_it") {
        let mut hub = hub(driver, "greeting_wait = \"50ms\"\nrefuse_early_talkers = true");
        let mut talk = Talk::hello(hub.address()).expect("a greeting and a hello");
        assert_eq!(talk.say("NOOP").expect("a reply").code, 250);
        assert_eq!(hub.status()["counters"]["early_talkers"], 0);
        hub.stop();
    }
}

/// The answer to a command in error comes after its time; meanwhile others are served, and what was accepted before is
/// answered.
#[test]
fn s_021_s_022_a_delayed_answer_delays_nobody_else() {
    const WAIT: Duration = Duration::from_secs(2);
    for driver in tests::drivers("s_021_s_022_a_delayed_answer_delays_nobody_else") {
        let mut hub = hub(driver, "tarpit_wait = \"2s\"");
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        let began = Instant::now();
        let body = "Subject: x\r\n\r\n";
        let pipelined = format!(
            "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT {} LAST\r\n{body}XYZZY\r\nNOOP\r\nXYZZY\r\nQUIT\r\n",
            body.len()
        );
        talk.write(pipelined.as_bytes()).expect("an open connection");
        let mut codes = || talk.reply().map(|reply| reply.code).expect("a reply");
        assert_eq!([codes(), codes(), codes()], [250, 250, 250], "{driver}");
        let mut other = Talk::hello(hub.address()).expect("a greeting");
        assert!(other.send("c@c.test", &["d@d.test"], b"Subject: y\r\n\r\n").expect("a reply").is_positive());
        assert_eq!([codes(), codes(), codes(), codes()], [500, 250, 500, 221], "{driver}");
        assert!(began.elapsed() >= 2 * WAIT, "{driver}: {:?}", began.elapsed());
        counted(&hub, "command_errors", 2);
        hub.stop();
    }
}

/// While its answer is delayed nothing is received of what a client goes on to say.
#[test]
fn s_022_a_delayed_session_receives_nothing() {
    for driver in tests::drivers("s_022_a_delayed_session_receives_nothing") {
        let mut hub = hub(driver, "tarpit_wait = \"5m\"");
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        talk.write(b"XYZZY\r\n").expect("an open connection");
        counted(&hub, "command_errors", 1);
        talk.write(&b"NOOP\r\n".repeat(10_000)).expect("room in the kernel");
        let mut other = Talk::hello(hub.address()).expect("a greeting");
        assert!(other.send("c@c.test", &["d@d.test"], b"Subject: y\r\n\r\n").expect("a reply").is_positive());
        let came = hub.counter("socket_in_bytes");
        assert!(came < 8192, "{driver}: {came} octets");
        hub.stop();
    }
}

/// A client that says everything and closes its side hears all of it, delayed or not (F-147).
#[test]
fn f_147_s_021_who_has_closed_his_side_still_gets_delayed_answers() {
    for driver in tests::drivers("f_147_s_021_who_has_closed_his_side_still_gets_delayed_answers") {
        let mut hub = hub(driver, "tarpit_wait = \"100ms\"");
        let mut talk = Talk::connect(hub.address()).expect("a connection");
        assert_eq!(talk.reply().expect("a greeting").code, 220);
        talk.write(b"XYZZY\r\nNOOP\r\nXYZZY\r\nHELP\r\n").expect("an open connection");
        talk.finish().expect("an open connection");
        let codes: Vec<u16> = std::iter::from_fn(|| talk.reply().ok()).map(|reply| reply.code).collect();
        assert_eq!(codes, [500, 250, 500, 214], "{driver}");
        hub.stop();
    }
}

/// A server that goes down waits for no delayed answer.
#[test]
fn f_010_s_021_a_drain_gives_delayed_answers_at_once() {
    for driver in tests::drivers("f_010_s_021_a_drain_gives_delayed_answers_at_once") {
        let mut hub = hub(driver, "tarpit_wait = \"5m\"");
        let mut patient = Talk::hello(hub.address()).expect("a greeting");
        patient.write(b"XYZZY\r\n").expect("an open connection");
        counted(&hub, "command_errors", 1);
        hub.stop();
        let codes: Vec<u16> = std::iter::from_fn(|| patient.reply().ok()).map(|reply| reply.code).collect();
        assert_eq!(codes, [500, 421], "{driver}");
    }
}

/// Without a rule nobody relays; accepted domains are taken from anybody, in every form that means them and in no other.
#[test]
fn m_030_m_031_s_012_strangers_reach_accepted_domains_alone() {
    let access = "relay_from = [\"10.0.0.0/8\"]\naccepted_domains = [\"ours.test\", \"b.test\"]".to_owned();
    let mut hub = Server::started(Told { more: vec![("access", access)], ..Told::relaying_to(free_address()) });
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    assert_eq!(talk.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
    for (to, code, status) in [
        ("user@ours.test", 250, "2.1.5"),
        ("User@OURS.Test", 250, "2.1.5"),
        ("postmaster", 250, "2.1.5"),
        ("user@elsewhere.test", 550, "5.7.1"),
        ("user@sub.ours.test", 550, "5.7.1"),
        ("user@[127.0.0.1]", 550, "5.7.1"),
        ("user%elsewhere.test@ours.test", 550, "5.7.1"),
        ("elsewhere.test!user@ours.test", 550, "5.7.1"),
        ("\"user@elsewhere.test\"@ours.test", 550, "5.7.1"),
        ("@ours.test:user@elsewhere.test", 550, "5.7.1"),
    ] {
        let reply = talk.say(&format!("RCPT TO:<{to}>")).expect("a reply");
        assert_eq!((reply.code, reply.lines[0].split(' ').next()), (code, Some(status)), "{to}: {reply:?}");
    }
    hub.stop();
}

/// What the routes know no way for is refused at RCPT: a literal for good, a domain for now.
#[test]
fn m_092_what_has_no_way_is_refused_at_rcpt() {
    let mut hub = Server::started(Told { routed: "a.test", ..Told::relaying_to(free_address()) });
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    assert_eq!(talk.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
    for (to, code, status) in [
        ("b@a.test", 250, "2.1.5"),
        ("b@b.test", 451, "4.4.4"),
        ("b@[192.0.2.1]", 550, "5.1.2"),
        ("b@[IPv6:2001:db8::1]", 550, "5.1.2"),
    ] {
        let reply = talk.say(&format!("RCPT TO:<{to}>")).expect("a reply");
        assert_eq!((reply.code, reply.lines[0].split(' ').next()), (code, Some(status)), "{to}: {reply:?}");
    }
    hub.stop();
}

/// Recipients beyond what one record holds are put off at RCPT; those taken get their mail (M-033).
#[test]
fn m_033_six_thousand_long_recipients_are_split_by_452() {
    const EACH: usize = 6_000;
    let sink = Sink::start(Offers { chunking: true });
    let limits = ("receive", "recipients_max = 20000".to_owned());
    let mut hub = Server::started(Told { more: vec![limits], profile: "bench", ..Told::relaying_to(sink.address()) });
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let mut pipelined = b"MAIL FROM:<a@a.test>\r\n".to_vec();
    for at in 0..EACH {
        pipelined.extend_from_slice(format!("RCPT TO:<{}{at:05}@b.test>\r\n", "r".repeat(50)).as_bytes());
    }
    // The replies stay below what a connection may leave unsent: they are read behind the commands.
    talk.write(&pipelined).expect("an open connection");
    assert_eq!(talk.reply().expect("a reply").code, 250);
    let codes: Vec<u16> = (0..EACH).map(|_| talk.reply().expect("a reply").code).collect();
    let taken = codes.iter().take_while(|code| **code == 250).count();
    assert!(taken > 1_000 && codes[taken..].iter().all(|code| *code == 452), "{taken}");
    talk.write(b"BDAT 2 LAST\r\n\r\n").expect("an open connection");
    assert_eq!(talk.reply().expect("a reply").code, 250);
    sink.wait("every recipient taken", |all| all.iter().map(|one| one.to.len()).sum::<usize>() == taken);
    hub.stop();
}

/// Each limit of a listener is its own: what comes beyond it is 421 and the end, and one less is served.
#[test]
fn m_112_f_137_f_138_the_limits_of_a_listener_end_a_session() {
    for driver in tests::drivers("m_112_f_137_f_138_the_limits_of_a_listener_end_a_session") {
        let limits = "idle_commands_max = 3\nrefused_recipients_max = 2\ntarpit_wait = \"0s\"";
        let mut hub = hub(driver, limits);
        let mut idle = Talk::hello(hub.address()).expect("a greeting");
        // EHLO was the first.
        let codes: Vec<u16> = (0..3).map(|_| idle.say("NOOP").expect("a reply").code).collect();
        assert_eq!(codes, [250, 250, 421], "{driver}");
        let mut refused = Talk::hello(hub.address()).expect("a greeting");
        assert_eq!(refused.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
        let codes: Vec<u16> = (0..3).map(|_| refused.say("RCPT TO:<a@[192.0.2.1]>").expect("a reply").code).collect();
        assert_eq!(codes, [550, 550, 421], "{driver}");
        hub.stop();
    }
}

/// M-112: a strict listener closes on what cannot be a reply's answer; another takes it in order.
#[test]
fn m_112_octets_behind_ehlo_close_a_strict_listener_s_session_alone() {
    for driver in tests::drivers("m_112_octets_behind_ehlo_close_a_strict_listener_s_session_alone") {
        for strict in [true, false] {
            let mut hub = hub(driver, &format!("strict_pipelining = {strict}"));
            let mut talk = Talk::connect(hub.address()).expect("a connection");
            assert_eq!(talk.reply().expect("a greeting").code, 220);
            talk.write(b"EHLO client.test\r\nNOOP\r\n").expect("an open connection");
            let codes: Vec<u16> = (0..2).map_while(|_| talk.reply().ok()).map(|reply| reply.code).collect();
            assert_eq!(codes, if strict { &[554][..] } else { &[250, 250] }, "{driver}, strict: {strict}");
            hub.stop();
        }
    }
}
