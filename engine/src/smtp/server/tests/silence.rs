//! Silence: verdicts that do not come, of which nobody is told what nobody knows (M-049), and clients that say nothing.

use super::support::*;
use crate::smtp::Profile;
use crate::smtp::server::*;
use crate::wire::{Refusal, Span, Tick};
use std::sync::Arc;

const WAIT: Span = Span::minutes(5);
const MESSAGE: &[u8] = b"RSET\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 3 LAST\r\nabc";

fn owing() -> Bench {
    let mut bench = Bench::new(options(Profile::Rfc)).hello();
    bench.at_once = false;
    bench.feed(MESSAGE);
    bench.out.clear();
    bench
}

/// What the session says when nothing happens until `at`.
fn late(bench: &mut Bench, at: Tick) -> Event {
    bench.now = at;
    bench.session.on_timeout(at, &mut bench.out)
}

#[test]
fn m_049_a_verdict_that_does_not_come_in_time_closes_without_a_reply() {
    let mut bench = owing();
    let by = bench.now.after(WAIT);
    assert_eq!((bench.session.deadline(), bench.session.verdict_deadline()), (by, by));
    assert_eq!(late(&mut bench, Tick(by.0 - 1)), Event::More, "not a tick early");
    assert_eq!(late(&mut bench, by), Event::Close);
    assert_eq!(bench.codes(), Vec::<String>::new());
}

#[test]
fn m_049_the_oldest_verdict_counts_whatever_goes_on_behind_it() {
    let mut bench = owing();
    let by = bench.now.after(WAIT);
    bench.now = bench.now.after(Span::minutes(4));
    bench.feed(MESSAGE);
    bench.feed(b"RSET\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 9\r\nhalf");
    assert_eq!(bench.session.deadline(), by, "neither the second message nor the body under way moves it");
    assert_eq!(late(&mut bench, by), Event::Discard, "what is being received is void");
    let step = bench.session.step(b"", by, &ByName, &mut bench.out);
    assert_eq!(step.event, Event::Close);
    assert_eq!(bench.codes(), Vec::<String>::new());
}

#[test]
fn m_049_a_verdict_in_time_gives_the_next_one_its_own_time() {
    let mut bench = owing();
    bench.now = bench.now.after(Span::minutes(4));
    let second = bench.now.after(WAIT);
    bench.feed(MESSAGE);
    bench.session.on_verdict(Slot(0), Verdict::Accepted { id: 1, message_id: b"" }, bench.now, &mut bench.out);
    assert_eq!(bench.codes(), ["250 2.0.0", "250 2.0.0", "250 2.1.0", "250 2.1.5"]);
    assert_eq!(bench.session.deadline(), second);
    bench.session.on_verdict(Slot(1), Verdict::Accepted { id: 2, message_id: b"" }, bench.now, &mut bench.out);
    assert_eq!(bench.session.verdict_deadline(), Tick::NEVER);
}

#[test]
fn m_049_a_session_that_only_waits_to_say_bye_does_not_wait_for_ever() {
    let mut bench = owing();
    let by = bench.now.after(WAIT);
    bench.feed(b"QUIT\r\n");
    assert!(!bench.closed);
    assert_eq!(late(&mut bench, by), Event::Close);
    assert_eq!(bench.codes(), Vec::<String>::new());
}

#[test]
fn m_001_m_071_a_client_that_was_greeted_with_554_and_says_nothing_is_closed_like_any_other() {
    let (peer, local) = ("192.0.2.1:1000".parse().expect("address"), "192.0.2.2:25".parse().expect("address"));
    let mut session = ServerSession::new(Arc::new(options(Profile::Rfc)), peer, local, false, Tick(1));
    let mut out = Vec::new();
    assert_eq!(session.greet(Some(&Refusal::fixed(554, (5, 7, 1), "Not for you")), &mut out), Event::More);
    let by = Tick(1).after(Span::minutes(5));
    assert_eq!(session.deadline(), by);
    assert_eq!(session.on_timeout(Tick(by.0 - 1), &mut out), Event::More);
    assert_eq!(session.on_timeout(by, &mut out), Event::Close);
    assert_eq!(out, b"554 5.7.1 Not for you\r\n421 4.4.2 Connection timed out\r\n");
}

#[test]
fn f_121_f_122_who_is_silent_or_slow_is_waited_for_less_while_places_or_memory_are_short() {
    let minutes = |count| Tick(1).after(Span::minutes(count));
    let mut bench = Bench::rfc().hello();
    bench.session.set_pressed(true);
    assert_eq!(bench.session.deadline(), minutes(1));
    bench.session.set_pressed(false);
    assert_eq!(late(&mut bench, minutes(1)), Event::More, "it has passed in time");
    bench.session.set_pressed(true);
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\n");
    assert_eq!(bench.session.deadline(), minutes(6), "in a transaction a command has its whole wait (M-071)");
    bench.feed(b"DATA\r\n");
    assert_eq!(bench.session.deadline(), minutes(2), "the least rate counts from the second minute on");
    bench.feed(&[b'x'; 1280]);
    assert_eq!(bench.session.deadline(), minutes(2).after(Span::seconds(10)));
    bench.session.set_pressed(false);
    assert_eq!(bench.session.deadline(), minutes(6), "else the block's wait is all");
    // A wait that is shorter anyway stays; a front end speaks for many and has its time.
    let mut short = options(Profile::Rfc);
    short.timers.command = Span::seconds(30);
    for (trusted, options, by) in
        [(false, short, Tick(1).after(Span::seconds(30))), (true, options(Profile::Rfc), minutes(5))]
    {
        let mut bench = Bench::with(options, trusted);
        bench.session.set_pressed(true);
        assert_eq!(bench.session.deadline(), by, "trusted: {trusted}");
    }
}
