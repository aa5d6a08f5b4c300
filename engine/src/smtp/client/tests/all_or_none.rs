//! Transactions to all of their recipients or to none: content leaves when everybody was taken, and one refusal takes the
//! transaction back (M-049, I-3).

use super::support::*;
use crate::smtp::client::*;
use crate::wire::{ContentFacts, Tick};

const BDAT: &[&str] = &["PIPELINING", "CHUNKING"];
const DATA: &[&str] = &["PIPELINING"];
const ENVELOPE: &str = "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<c@b.test>\r\n";

fn options() -> ClientOptions {
    ClientOptions { all_or_none: true, ..ClientOptions::new("c.test") }
}

fn to_two() -> Mail {
    mail("a@a.test", &["b@b.test", "c@b.test"], b"hi\r\n")
}

fn done(token: u32, class: Class) -> ClientEvent {
    ClientEvent::Done { token, class }
}

#[test]
fn m_049_content_waits_until_every_recipient_was_taken() {
    for (extensions, reset, rest, end) in [
        (BDAT, "RSET\r\n", "BDAT 4 LAST\r\nhi\r\n", &b"250 ok\r\n"[..]),
        (DATA, "", "DATA\r\n", b"354 go\r\n250 ok\r\n"),
    ] {
        let mut talk = Talk::ready(options(), extensions);
        talk.offer(1, &to_two()).expect("sent");
        assert_eq!(talk.sent(), format!("{reset}{ENVELOPE}"));
        assert_eq!(talk.client.room(), 0, "nothing goes behind it yet");
        let resets = if reset.is_empty() { "" } else { "250 reset\r\n" };
        assert_eq!(talk.hear(format!("{resets}250 mail\r\n250 one\r\n").as_bytes()), []);
        assert_eq!(talk.sent(), "");
        assert_eq!(talk.hear(b"250 two\r\n"), []);
        assert_eq!(talk.sent(), rest);
        assert_eq!(
            talk.client.room() > 0,
            !reset.is_empty(),
            "behind BDAT the next may go, behind DATA it waits for the 354"
        );
        assert_eq!(talk.hear(end), [done(1, Class::Accepted)]);
    }
}

#[test]
fn m_049_i_3_one_refusal_takes_the_transaction_back_and_the_next_begins_anew() {
    use Class::{Again, Deferred, Refused};
    for extensions in [BDAT, DATA, &["CHUNKING"], &[]] {
        for (replies, told, class) in [
            (["250 x", "550 x"], &[(1, Refused)][..], Refused),
            (["550 x", "250 x"], &[(0, Refused)], Refused),
            (["451 x", "250 x"], &[(0, Deferred)], Deferred),
            (["550 x", "451 x"], &[(0, Refused), (1, Deferred)], Deferred),
            (["451 x", "550 x"], &[(0, Deferred), (1, Refused)], Deferred),
            (["250 x", "552 too many"], &[(1, Again)], Deferred),
        ] {
            let mut talk = Talk::ready(options(), extensions);
            talk.offer(1, &to_two()).expect("sent");
            let reset = if talk.sent().starts_with("RSET") { "250 reset\r\n" } else { "" };
            let mut events = talk.hear(format!("{reset}250 mail\r\n").as_bytes());
            events.extend(replies.iter().flat_map(|reply| talk.hear(format!("{reply}\r\n").as_bytes())));
            let told = told.iter().map(|&(index, class)| ClientEvent::Recipient { token: 1, index, class });
            assert_eq!(events, told.chain([done(1, class)]).collect::<Vec<_>>(), "{extensions:?} {replies:?}");
            let sent = talk.sent();
            assert!(!["DATA", "BDAT"].iter().any(|verb| sent.contains(verb)), "{extensions:?}: {sent}");
            assert_eq!(talk.client.in_flight(), 0);
            talk.offer(2, &to_two()).expect("sent");
            assert!(talk.sent().starts_with("RSET\r\n"), "{extensions:?}: the peer is still inside the last one");
        }
    }
}

#[test]
fn m_049_what_is_held_goes_behind_what_was_not() {
    let mut talk = Talk::ready(options(), BDAT);
    let one = mail("a@a.test", &["b@b.test"], b"hi\r\n");
    talk.offer(1, &one).expect("sent");
    assert!(talk.sent().ends_with("BDAT 4 LAST\r\nhi\r\n"), "one recipient is all of them: nothing waits");
    talk.offer(2, &to_two()).expect("sent");
    assert_eq!(talk.sent(), format!("RSET\r\n{ENVELOPE}"));
    let reply = b"250 x\r\n250 x\r\n250 x\r\n250 one\r\n250 x\r\n250 x\r\n250 x\r\n";
    assert_eq!(talk.hear(reply), [done(1, Class::Accepted)]);
    assert_eq!((talk.sent().as_str(), talk.client.room()), ("", 0));
    talk.client.on_lost();
    let left: Vec<_> = talk.client.unfinished().collect();
    assert_eq!(left, [(2, Unfinished::NotAttempted)], "no octet of it has left");
}

#[test]
fn a_hub_of_our_kind_answers_for_all_alike_and_nothing_waits_there() {
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING", "XRINGPOST"]);
    talk.offer(1, &to_two()).expect("sent");
    assert!(talk.sent().ends_with("BDAT 4 LAST\r\nhi\r\n"));
    let mut talk = Talk::ready(ClientOptions::new("c.test"), BDAT);
    talk.offer(1, &to_two()).expect("sent");
    assert!(talk.sent().ends_with("BDAT 4 LAST\r\nhi\r\n"), "who may answer for each has no reason to wait");
}

#[test]
fn m_049_a_streamed_body_waits_too() {
    for (extensions, refused) in [(BDAT, false), (BDAT, true), (&["CHUNKING"], false), (&["CHUNKING"], true)] {
        let mut talk = Talk::ready(options(), extensions);
        let mail = to_two();
        let transaction = Transaction {
            envelope: mail.envelope.as_ref(),
            recipients: None,
            facts: &ContentFacts::default(),
            body: Body::Streamed,
            identity: None,
        };
        talk.client.offer(1, &transaction, Tick(0), &mut talk.wire).expect("sent");
        talk.wire.bodies.push((1, mail.clone()));
        let reset = if talk.sent().starts_with("RSET") { "250 reset\r\n" } else { "" };
        talk.hear(format!("{reset}250 mail\r\n250 one\r\n").as_bytes());
        assert!(!talk.client.takes_chunk(1), "{extensions:?}");
        let events = talk.hear(if refused { b"550 two\r\n" } else { b"250 two\r\n" });
        talk.sent();
        if refused {
            let recipient = ClientEvent::Recipient { token: 1, index: 1, class: Class::Refused };
            assert_eq!(events, [recipient, done(1, Class::Refused)]);
        } else {
            assert_eq!((events, talk.client.takes_chunk(1)), (Vec::new(), true));
        }
        talk.client.chunk(1, 4, true, talk.now, &mut talk.wire);
        assert_eq!(talk.sent(), if refused { "" } else { "BDAT 4 LAST\r\nhi\r\n" });
    }
}
