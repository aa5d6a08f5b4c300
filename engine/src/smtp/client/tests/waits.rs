//! How long each step is waited for.

use super::support::*;
use crate::smtp::client::*;
use crate::wire::{Span, Tick};

fn timers() -> ClientTimers {
    let wait = Span::seconds;
    ClientTimers {
        greeting: wait(1),
        hello: wait(2),
        mail: wait(3),
        rcpt: wait(4),
        data: wait(5),
        block: wait(6),
        end: wait(7),
        quit: wait(8),
        session: wait(9),
    }
}

fn options() -> ClientOptions {
    ClientOptions { timers: timers(), ..ClientOptions::new("c.test") }
}

/// Seconds until the next deadline.
fn waits(talk: &Talk, unsent: bool) -> u64 {
    talk.client.deadline(unsent).since(talk.now).as_micros() / 1_000_000
}

#[test]
fn m_069_each_step_has_a_wait_of_its_own() {
    let mut talk = Talk::new(options());
    assert_eq!(waits(&talk, false), 1);
    talk.hear(b"220 peer.test\r\n");
    assert_eq!(waits(&talk, false), 2);
    talk.hear(b"250-peer.test\r\n250 PIPELINING\r\n");
    assert_eq!(talk.client.deadline(false), Tick::NEVER);
    talk.offer(1, &mail("a@a.test", &["b@b.test"], b"hi\r\n")).expect("sent");
    assert_eq!(waits(&talk, false), 3);
    talk.hear(b"250 m\r\n");
    assert_eq!(waits(&talk, false), 4);
    talk.hear(b"250 r\r\n");
    assert_eq!(waits(&talk, false), 5);
    talk.hear(b"354 go\r\n");
    assert_eq!((waits(&talk, false), waits(&talk, true)), (7, 6));
    talk.hear(b"250 done\r\n");
    talk.client.quit(talk.now, &mut talk.wire);
    assert_eq!(waits(&talk, false), 8);
    // Pipelined transactions begin with RSET.
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
    talk.offer(1, &mail("a@a.test", &["b@b.test"], b"hi\r\n")).expect("sent");
    assert_eq!(waits(&talk, false), 2);
}

#[test]
fn m_069_the_end_of_a_session_s_time_cuts_nothing_that_runs() {
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    talk.offer(1, &mail("a@a.test", &["b@b.test"], b"hi\r\n")).expect("sent");
    for (second, reply) in [(3, &b"250 m\r\n"[..]), (6, b"250 r\r\n"), (10, b"354 go\r\n")] {
        talk.now = Tick(0).after(Span::seconds(second));
        assert_eq!(talk.client.on_timeout(Tick(talk.now.0 - 1), false), ClientEvent::More);
        assert_eq!(talk.hear(reply), [], "second {second}");
    }
    talk.now = Tick(0).after(Span::seconds(16));
    assert_eq!(talk.hear(b"250 done\r\n"), [ClientEvent::Done { token: 1, class: Class::Accepted }]);
    assert_eq!(talk.client.room(), 0, "and no other begins");
}

/// Whose body comes from somebody who is slow: the peer has answered all of it that it has, and owes nothing.
#[test]
fn m_069_f_100_a_streamed_body_is_waited_for_only_while_the_peer_owes_an_answer() {
    for extensions in [&["PIPELINING", "CHUNKING"][..], &["CHUNKING"]] {
        let mut talk = Talk::ready(options(), extensions);
        talk.stream(1, &mail("a@a.test", &["b@b.test"], b"hi\r\n")).expect("sent");
        for reply in ["RSET", "MAIL", "RCPT"].iter().skip(usize::from(extensions.len() == 1)) {
            assert_ne!(talk.client.deadline(false), Tick::NEVER, "before the reply to {reply}");
            assert_eq!(talk.hear(b"250 x\r\n"), []);
        }
        for (second, last) in [(100, false), (1000, false), (2000, true)] {
            assert_eq!(talk.client.deadline(false), Tick::NEVER);
            talk.now = Tick(0).after(Span::seconds(second));
            assert_eq!(talk.client.on_timeout(talk.now, false), ClientEvent::More);
            assert!(talk.client.takes_chunk(1));
            talk.client.chunk(1, 4, last, talk.now, &mut talk.wire);
            assert_eq!(waits(&talk, false), 7, "from the chunk on");
            // A second one behind it does not make the wait for the first longer.
            if !last && talk.client.takes_chunk(1) {
                talk.now = talk.now.after(Span::seconds(2));
                talk.client.chunk(1, 4, last, talk.now, &mut talk.wire);
                assert_eq!(waits(&talk, false), 5);
                assert_eq!(talk.hear(b"250 x\r\n"), []);
                assert_eq!(waits(&talk, false), 7);
            }
            if !last {
                assert_eq!(talk.hear(b"250 x\r\n"), []);
            }
        }
        let down = ClientEvent::Down(DownReason::TimedOut(Stage::End));
        assert_eq!(talk.client.on_timeout(talk.now.after(Span::seconds(7)), false), down);
    }
}
