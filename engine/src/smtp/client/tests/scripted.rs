//! Peers of any quality, one story each (F-060 to F-095).

use super::support::*;
use crate::smtp::Dialect;
use crate::smtp::client::*;
use crate::smtp::reader::ProtocolError;
use crate::wire::{Span, Tick};

fn options() -> ClientOptions {
    ClientOptions::new("c.test")
}

fn one() -> Mail {
    mail("a@a.test", &["b@b.test"], b"hi\r\n")
}

#[test]
fn m_009_ehlo_first_and_helo_only_when_ehlo_is_unknown() {
    for code in ["500", "502", "504"] {
        let mut talk = Talk::new(options());
        talk.hear(b"220 peer.test\r\n");
        assert_eq!(talk.sent(), "EHLO c.test\r\n");
        assert_eq!(talk.hear(format!("{code} what\r\n").as_bytes()), []);
        assert_eq!(talk.sent(), "HELO c.test\r\n");
        assert_eq!(talk.hear(b"250-peer.test\r\n250 PIPELINING\r\n"), [ClientEvent::Ready]);
        assert!(!talk.client.peer().pipelining);
    }
    for (code, permanent) in [("550", true), ("554", true), ("451", false)] {
        let mut talk = Talk::new(options());
        talk.hear(b"220 peer.test\r\n");
        talk.sent();
        let down = DownReason::Refused { at: Stage::Hello, permanent };
        assert_eq!(talk.hear(format!("{code} no\r\n").as_bytes()), [ClientEvent::Down(down)]);
        assert_eq!(talk.sent(), "QUIT\r\n");
    }
}

#[test]
fn every_reply_is_said_with_what_it_answers() {
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    assert_eq!(std::mem::take(&mut talk.wire.replied), [(0, Stage::Greeting), (0, Stage::Hello)]);
    talk.offer(7, &mail("a@a.test", &["b@b.test", "c@b.test"], b"hi\r\n")).expect("sent");
    talk.hear(b"250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n250 ok\r\n");
    let stages = [Stage::Mail, Stage::Rcpt, Stage::Rcpt, Stage::Data, Stage::End];
    assert_eq!(talk.wire.replied, stages.map(|stage| (7, stage)));
}

#[test]
fn m_010_only_what_was_offered_is_used() {
    let mut talk = Talk::ready(options(), &[]);
    talk.offer(1, &one()).expect("sent");
    assert_eq!(talk.sent(), "MAIL FROM:<a@a.test>\r\n");
    let mut talk = Talk::ready(options(), &["size 1000", "Pipelining"]);
    talk.offer(1, &one()).expect("sent");
    assert_eq!(talk.sent(), "MAIL FROM:<a@a.test> SIZE=4\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING", "8BITMIME", "X-NEW thing", "AUTH=PLAIN"]);
    talk.offer(1, &mail("", &["b@b.test"], "é\r\n".as_bytes())).expect("sent");
    let whole = "RSET\r\nMAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<b@b.test>\r\nBDAT 4 LAST\r\né\r\n";
    assert_eq!(talk.sent(), whole);
}

#[test]
fn m_149_what_was_said_about_reports_goes_to_hosts_with_dsn_as_it_came() {
    let mut talk = Talk::ready(options(), &["PIPELINING", "dsn"]);
    talk.offer(1, &with_reports()).expect("sent");
    let sent = "MAIL FROM:<a@a.test> RET=HDRS ENVID=QQ+2B1\r\n\
                RCPT TO:<b@b.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;Bob+2Bx@b.test\r\n\
                RCPT TO:<c@b.test> NOTIFY=NEVER\r\nRCPT TO:<d@b.test>\r\nDATA\r\n";
    assert_eq!(talk.sent(), sent);
    let lmtp = ClientOptions { dialect: Dialect::Lmtp, ..options() };
    let mut talk = Talk::ready(lmtp, &["PIPELINING", "DSN"]);
    talk.offer(1, &with_reports()).expect("sent");
    assert_eq!(talk.sent(), sent);
    let mut talk = Talk::ready(options(), &["PIPELINING", "DSN"]);
    talk.offer(1, &one()).expect("sent");
    assert_eq!(talk.sent(), "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n", "nothing is made up");
}

#[test]
fn m_149_hosts_without_dsn_see_none_of_it() {
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    talk.offer(1, &with_reports()).expect("sent");
    let sent = "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<c@b.test>\r\nRCPT TO:<d@b.test>\r\nDATA\r\n";
    assert_eq!(talk.sent(), sent);
}

#[test]
fn m_011_the_first_of_repeated_keywords_wins() {
    let talk = Talk::ready(options(), &["SIZE 10", "SIZE 20", "SIZE"]);
    assert_eq!(talk.client.peer().size, Some(10));
    let talk = Talk::ready(options(), &["SIZE"]);
    assert_eq!(talk.client.peer().size, Some(0));
}

#[test]
fn m_107_f_087_a_message_over_the_offered_size_is_not_sent() {
    let mut talk = Talk::ready(options(), &["SIZE 3"]);
    let error = talk.offer(1, &one()).expect_err("too large");
    assert_eq!(error, CannotSend::TooLarge(3));
    assert_eq!(
        error.refusal().map(|refusal| refusal.reply().to_string()[..9].to_owned()).as_deref(),
        Some("552 5.3.4")
    );
    assert_eq!((talk.sent().as_str(), talk.client.in_flight()), ("", 0));
    let mut talk = Talk::ready(options(), &["SIZE 0"]);
    assert_eq!(talk.offer(1, &one()), Ok(()));
}

#[test]
fn m_175_eight_bit_is_refused_unless_told_to_just_send() {
    let eight = mail("a@a.test", &["b@b.test"], b"\xe9\r\n");
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    let error = talk.offer(1, &eight).expect_err("refused");
    assert_eq!(error, CannotSend::EightBit);
    assert!(error.refusal().is_some_and(|refusal| refusal.reply().to_string().starts_with("554 5.6.3")));
    let mut talk = Talk::ready(ClientOptions { just_send_eight_bit: true, ..options() }, &["PIPELINING"]);
    assert_eq!(talk.offer(1, &eight), Ok(()));
    assert!(!talk.sent().contains("BODY"));
}

#[test]
fn m_054_m_045_lines_that_smtp_cannot_carry_are_not_sent() {
    let long = mail("a@a.test", &["b@b.test"], &[b'x'; 999]);
    let fits = mail("a@a.test", &["b@b.test"], &[b'x'; 998]);
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    assert_eq!(talk.offer(1, &long), Err(CannotSend::Lines));
    assert_eq!(talk.offer(1, &fits), Ok(()));
    let mut talk = Talk::ready(ClientOptions { long_lines: true, ..options() }, &["PIPELINING"]);
    assert_eq!(talk.offer(1, &long), Ok(()));
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING", "BINARYMIME"]);
    assert_eq!(talk.offer(1, &long), Ok(()));
    for bare in [&b"a\nb\r\n"[..], b"a\rb\r\n", b"a\r", b"\n.\r\n"] {
        let mut talk = Talk::ready(ClientOptions { long_lines: true, ..options() }, &["PIPELINING", "CHUNKING"]);
        assert_eq!(talk.offer(1, &mail("a@a.test", &["b@b.test"], bare)), Err(CannotSend::Lines));
    }
}

#[test]
fn m_033_m_034_one_recipient_too_many_goes_again_at_once() {
    use Class::{Again, Deferred, Refused};
    for (first, reply, class) in [
        ("250", "452 4.5.3 too many", Again),
        ("250", "452 too many", Again),
        ("250", "552 5.5.3 too many", Again),
        ("250", "552 too many", Again),
        ("250", "552 5.3.4 too large", Refused),
        ("250", "552 5.2.2 full", Refused),
        ("550", "452 4.5.3 too many", Deferred),
        ("550", "552 5.5.3 too many", Deferred),
        ("550", "552 too many", Refused),
        ("250", "451 later", Deferred),
        ("250", "550 never", Refused),
    ] {
        let mut talk = Talk::ready(options(), &["PIPELINING"]);
        talk.offer(1, &mail("a@a.test", &["b@b.test", "c@b.test"], b"x\r\n")).expect("sent");
        let events = talk.hear(format!("250 ok\r\n{first} x\r\n{reply}\r\n").as_bytes());
        assert_eq!(events.last(), Some(&ClientEvent::Recipient { token: 1, index: 1, class }), "{first} {reply}");
    }
}

#[test]
fn f_064_f_065_f_067_refusals_at_each_command_are_the_messages_own() {
    for (reply, class) in [("451 4.0.0 later", Class::Deferred), ("550 5.0.0 never", Class::Refused)] {
        let done = ClientEvent::Done { token: 1, class };
        // MAIL, pipelined: what follows is swallowed.
        let mut talk = Talk::ready(options(), &["PIPELINING"]);
        talk.offer(1, &one()).expect("sent");
        assert_eq!(talk.hear(format!("{reply}\r\n503 x\r\n503 x\r\n").as_bytes()), [done]);
        assert_eq!((talk.client.in_flight(), talk.client.room()), (0, 1));
        // DATA.
        let mut talk = Talk::ready(options(), &["PIPELINING"]);
        talk.offer(1, &one()).expect("sent");
        assert_eq!(talk.hear(format!("250 x\r\n250 x\r\n{reply}\r\n").as_bytes()), [done]);
        talk.sent();
        talk.offer(2, &one()).expect("sent");
        assert!(talk.sent().starts_with("RSET\r\nMAIL"), "the peer is still inside the last transaction");
        // The end of data.
        let mut talk = Talk::ready(options(), &["PIPELINING"]);
        talk.offer(1, &one()).expect("sent");
        assert_eq!(talk.hear(format!("250 x\r\n250 x\r\n354 go\r\n{reply}\r\n").as_bytes()), [done]);
        talk.sent();
        talk.offer(2, &one()).expect("sent");
        assert!(talk.sent().starts_with("MAIL"));
        // A chunk.
        let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
        talk.offer(1, &one()).expect("sent");
        assert_eq!(talk.hear(format!("250 x\r\n250 x\r\n250 x\r\n{reply}\r\n").as_bytes()), [done]);
    }
}

#[test]
fn m_118_a_503_behind_a_refused_transaction_is_no_outcome() {
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
    for token in 1..=3 {
        talk.offer(token, &one()).expect("sent");
    }
    let done = |token, class| ClientEvent::Done { token, class };
    let refused = talk.hear(b"250 rset\r\n550 mail\r\n503 rcpt\r\n503 bdat\r\n");
    assert_eq!(refused, [done(1, Class::Refused)]);
    // A peer whose RSET did not help.
    let spoiled = talk.hear(b"250 rset\r\n503 mail\r\n503 rcpt\r\n503 bdat\r\n");
    assert_eq!(spoiled, [ClientEvent::NotAttempted { token: 2 }]);
    let good = talk.hear(b"250 rset\r\n250 mail\r\n250 rcpt\r\n250 bdat\r\n");
    assert_eq!(good, [done(3, Class::Accepted)]);
}

/// Offers all that there is room for to a peer that says `first` to the first MAIL and 503 to every other, until there is no room any
/// more. What came of it.
fn say_503_for_ever(extensions: &[&str], first: &str) -> Vec<ClientEvent> {
    let mut talk = Talk::ready(options(), extensions);
    let (mut events, mut commands) = (Vec::new(), std::collections::VecDeque::new());
    let mut mail = Some(first);
    loop {
        while talk.client.room() > 0 {
            talk.offer(7, &one()).expect("sent");
        }
        commands.extend(talk.sent().lines().map(str::to_owned));
        let Some(command) = commands.pop_front() else { break };
        let reply = match command.get(..4) {
            Some("RSET") => "250 x",
            Some("MAIL") => mail.take().unwrap_or("503 x"),
            Some("RCPT" | "DATA" | "BDAT") => "503 x",
            _ => continue,
        };
        events.extend(talk.hear(format!("{reply}\r\n").as_bytes()));
        assert!(events.len() <= 4 * options().in_flight_max, "{extensions:?}: for ever");
    }
    assert!(talk.client.is_ready() && talk.client.in_flight() == 0, "{extensions:?}");
    events
}

#[test]
fn m_118_a_host_that_says_503_to_mail_is_asked_no_more() {
    for extensions in [&["PIPELINING", "CHUNKING"][..], &["PIPELINING"], &[]] {
        let events = say_503_for_ever(extensions, "503 x");
        let unlooked = |event: &ClientEvent| *event == ClientEvent::NotAttempted { token: 7 };
        assert!(!events.is_empty() && events.iter().all(unlooked), "{extensions:?}: {events:?}");
        assert!(events.len() == 1 || extensions.len() == 2, "{extensions:?}: {events:?}");
        // Behind one that was refused for what it was, each of those that may have been under way is excused.
        let events = say_503_for_ever(extensions, "550 5.7.1 not from you");
        assert_eq!(events[0], ClientEvent::Done { token: 7, class: Class::Refused }, "{extensions:?}");
        assert!(events.len() > 1 && events[1..].iter().all(unlooked), "{extensions:?}: {events:?}");
    }
}

#[test]
fn m_114_f_070_a_354_for_nobody_gets_just_the_dot() {
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    talk.offer(1, &one()).expect("sent");
    talk.sent();
    let events = talk.hear(b"250 x\r\n550 x\r\n354 go\r\n");
    assert_eq!(events, [ClientEvent::Recipient { token: 1, index: 0, class: Class::Refused }]);
    assert_eq!(talk.sent(), ".\r\n");
    assert_eq!(talk.hear(b"250 taken\r\n"), [ClientEvent::Done { token: 1, class: Class::Refused }]);
    // In LMTP that dot has no reply, so the stream could not be kept in step.
    let mut talk = Talk::new(ClientOptions { dialect: Dialect::Lmtp, ..options() });
    talk.hear(b"220 x\r\n250-x\r\n250 PIPELINING\r\n");
    talk.offer(1, &one()).expect("sent");
    let events = talk.hear(b"250 x\r\n550 x\r\n354 go\r\n");
    assert_eq!(events[1], ClientEvent::Down(DownReason::Protocol(ProtocolError::WrongClass)));
}

#[test]
fn m_113_the_next_envelope_follows_the_body_in_one_breath() {
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    talk.offer(1, &one()).expect("sent");
    assert_eq!(talk.client.room(), 0);
    talk.sent();
    talk.hear(b"250 x\r\n250 x\r\n354 go\r\n");
    assert_eq!(talk.client.room(), 1);
    talk.offer(2, &one()).expect("sent");
    assert_eq!(talk.sent(), "hi\r\n.\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
    assert_eq!(talk.hear(b"250 one\r\n"), [ClientEvent::Done { token: 1, class: Class::Accepted }]);
}

#[test]
fn f_071_replies_of_the_wrong_class_end_the_session() {
    let wrong = ClientEvent::Down(DownReason::Protocol(ProtocolError::WrongClass));
    for replies in [
        "354 mail\r\n",
        "250 x\r\n354 rcpt\r\n",
        "250 x\r\n250 x\r\n250 data\r\n",
        "250 x\r\n250 x\r\n354 x\r\n354 end\r\n",
    ] {
        let mut talk = Talk::ready(options(), &["PIPELINING"]);
        talk.offer(1, &one()).expect("sent");
        assert_eq!(talk.hear(replies.as_bytes()), [wrong], "{replies}");
    }
    let mut talk = Talk::new(options());
    assert_eq!(talk.hear(b"354 hello\r\n"), [wrong]);
}

#[test]
fn f_081_replies_that_nothing_asked_for_end_the_session_and_keep_what_came_before() {
    let unasked = ClientEvent::Down(DownReason::Protocol(ProtocolError::Unasked));
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
    talk.offer(1, &one()).expect("sent");
    let events = talk.hear(b"250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 surplus\r\n");
    assert_eq!(events, [ClientEvent::Done { token: 1, class: Class::Accepted }, unasked]);
    let mut talk = Talk::ready(options(), &[]);
    assert_eq!(talk.hear(b"250 early\r\n"), [unasked]);
    assert_eq!(talk.client.room(), 0);
}

#[test]
fn m_015_f_064_a_421_leaves_nothing_attempted() {
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
    for token in 1..=3 {
        talk.offer(token, &one()).expect("sent");
    }
    let events = talk.hear(b"250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n421 4.3.2 closing\r\n");
    assert_eq!(
        events,
        [ClientEvent::Done { token: 1, class: Class::Accepted }, ClientEvent::Down(DownReason::Closing)]
    );
    let left: Vec<_> = talk.client.unfinished().collect();
    assert_eq!(left, [(2, Unfinished::NotAttempted), (3, Unfinished::NotAttempted)]);
}

#[test]
fn m_014_m_015_behind_a_421_the_client_says_quit_and_waits_for_nothing() {
    let closing = [ClientEvent::Down(DownReason::Closing)];
    let mut talk = Talk::new(options());
    assert_eq!(talk.hear(b"421 4.3.2 not now\r\n"), closing);
    assert_eq!(talk.sent(), "QUIT\r\n");
    for extensions in [&["PIPELINING", "CHUNKING"][..], &[]] {
        let mut talk = Talk::ready(options(), extensions);
        talk.offer(1, &one()).expect("sent");
        talk.sent();
        assert_eq!(talk.hear(b"421 4.3.2 closing\r\n"), closing);
        assert_eq!(talk.sent(), "QUIT\r\n");
    }
    // Once is enough.
    let mut talk = Talk::ready(options(), &[]);
    talk.client.quit(talk.now, &mut talk.wire);
    assert_eq!(talk.hear(b"421 4.3.2 closing\r\n"), closing);
    assert_eq!(talk.sent(), "QUIT\r\n");
}

#[test]
fn f_072_f_073_f_076_f_193_what_is_unknown_and_what_is_not() {
    // Three in the pipeline, the connection breaks in the middle of the second's last reply.
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
    for token in 1..=3 {
        talk.offer(token, &one()).expect("sent");
    }
    let events = talk.hear(b"250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 o");
    assert_eq!(events, [ClientEvent::Done { token: 1, class: Class::Accepted }]);
    assert_eq!(talk.client.on_lost(), ClientEvent::Down(DownReason::Lost(Stage::End)));
    let left: Vec<_> = talk.client.unfinished().collect();
    assert_eq!(left, [(2, Unfinished::Unknown), (3, Unfinished::Unknown)]);
    // By DATA: before the 354 nothing can have been taken.
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    talk.offer(1, &one()).expect("sent");
    talk.hear(b"250 x\r\n");
    assert_eq!(talk.client.on_lost(), ClientEvent::Down(DownReason::Lost(Stage::Rcpt)));
    assert_eq!(talk.client.unfinished().collect::<Vec<_>>(), [(1, Unfinished::NotAttempted)]);
    // A recipient refused before the end keeps its outcome; a transaction that nobody was left of is over.
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
    talk.offer(1, &one()).expect("sent");
    talk.hear(b"250 x\r\n250 x\r\n550 x\r\n");
    talk.client.on_lost();
    assert_eq!(talk.client.unfinished().collect::<Vec<_>>(), [(1, Unfinished::NotAttempted)]);
}

#[test]
fn m_069_m_070_f_063_f_085_timers_count_to_the_complete_reply() {
    let mut talk = Talk::new(options());
    assert_eq!(talk.client.deadline(false), Tick(0).after(Span::minutes(5)));
    talk.now = Tick(0).after(Span::minutes(4));
    talk.hear(b"220 pe");
    assert_eq!(talk.client.deadline(false), Tick(0).after(Span::minutes(5)));
    let late = Tick(0).after(Span::minutes(5));
    assert_eq!(talk.client.on_timeout(talk.now, false), ClientEvent::More);
    assert_eq!(talk.client.on_timeout(late, false), ClientEvent::Down(DownReason::TimedOut(Stage::Greeting)));

    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    assert_eq!(talk.client.deadline(false), Tick::NEVER);
    talk.now = Tick(0).after(Span::seconds(10));
    let begun = talk.now;
    talk.offer(1, &one()).expect("sent");
    assert_eq!(talk.client.deadline(false), begun.after(Span::minutes(5)));
    talk.hear(b"250 x\r\n250 x\r\n");
    assert_eq!(talk.client.deadline(false), begun.after(Span::minutes(2)));
    talk.hear(b"354 go\r\n");
    assert_eq!(talk.client.deadline(false), begun.after(Span::minutes(10)));
    // F-083, F-084: while octets of the body are not taken, a shorter timer that each block restarts.
    assert_eq!(talk.client.deadline(true), begun.after(Span::minutes(3)));
    let at = |minutes: u64| begun.after(Span::minutes(minutes));
    for minute in [2, 4, 7] {
        talk.client.on_sent(at(minute), true);
        assert_eq!(talk.client.on_timeout(at(minute), true), ClientEvent::More);
        assert_eq!(talk.client.deadline(true), at(minute + 3), "minute {minute}");
    }
    // The wait for the answer begins with the last octet of it; what leaves behind it does not prolong it.
    let last = at(9);
    talk.client.on_sent(last, false);
    assert_eq!(talk.client.deadline(false), last.after(Span::minutes(10)));
    talk.client.on_sent(at(12), false);
    let end = last.after(Span::minutes(10));
    assert_eq!(talk.client.deadline(false), end);
    assert_eq!(talk.client.on_timeout(end, false), ClientEvent::Down(DownReason::TimedOut(Stage::End)));
    assert_eq!(talk.client.unfinished().collect::<Vec<_>>(), [(1, Unfinished::Unknown)]);
}

#[test]
fn m_014_quit_waits_a_little_and_the_message_before_it_is_safe() {
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
    talk.offer(1, &one()).expect("sent");
    talk.client.quit(talk.now, &mut talk.wire);
    assert!(talk.sent().ends_with("hi\r\nQUIT\r\n"));
    let events = talk.hear(b"250 x\r\n250 x\r\n250 x\r\n250 x\r\n");
    assert_eq!(events, [ClientEvent::Done { token: 1, class: Class::Accepted }]);
    assert_eq!(talk.client.deadline(false), Tick(0).after(Span::seconds(5)));
    let gone = talk.client.on_timeout(Tick(0).after(Span::seconds(5)), false);
    assert_eq!(gone, ClientEvent::Down(DownReason::Quit));
}

#[test]
fn m_068_m_091_a_host_that_refuses_with_its_greeting_is_left_politely() {
    for (reply, permanent) in [("521 no mail here", true), ("554 5.7.1 go away", true), ("450 later", false)] {
        let mut talk = Talk::new(options());
        let down = DownReason::Refused { at: Stage::Greeting, permanent };
        assert_eq!(talk.hear(format!("{reply}\r\n").as_bytes()), [ClientEvent::Down(down)]);
        assert_eq!(talk.sent(), "QUIT\r\n");
    }
}

#[test]
fn m_081_our_own_greeting_is_a_loop() {
    let ours = ClientOptions { instance: "5f3a".into(), ..options() };
    let mut talk = Talk::new(ours.clone());
    assert_eq!(talk.hear(b"220 C.test ESMTP Ringpost 5f3a ready\r\n"), [ClientEvent::Down(DownReason::Loop)]);
    for other in ["220 c.test ESMTP Ringpost 5f3b ready", "220 d.test ESMTP 5f3a", "220 c.test ESMTP"] {
        let mut talk = Talk::new(ours.clone());
        assert_eq!(talk.hear(format!("{other}\r\n").as_bytes()), [], "{other}");
    }
}

#[test]
fn m_069_no_transaction_begins_in_a_worn_session() {
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
    talk.now = Tick(0).after(Span::hours(2));
    talk.hear(b"");
    assert_eq!(talk.client.room(), 0);
    assert_eq!(talk.offer(1, &one()), Err(CannotSend::Busy));
}

#[test]
fn m_125_streamed_bodies_leave_chunk_by_chunk_and_end_at_a_refused_one() {
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING", "8BITMIME"]);
    let mail = one();
    let offer = |talk: &mut Talk, token| talk.stream(token, &mail).expect("sent");
    offer(&mut talk, 1);
    assert_eq!(talk.client.room(), 0);
    talk.client.chunk(1, 4, false, talk.now, &mut talk.wire);
    talk.client.chunk(1, 4, true, talk.now, &mut talk.wire);
    assert!(talk.sent().ends_with("RCPT TO:<b@b.test>\r\nBDAT 4\r\nhi\r\nBDAT 4 LAST\r\nhi\r\n"));
    assert_eq!(talk.hear(b"250 x\r\n250 x\r\n250 x\r\n250 chunk\r\n"), []);
    assert_eq!(talk.hear(b"250 taken\r\n"), [ClientEvent::Done { token: 1, class: Class::Accepted }]);
    // M-125: a refused chunk is the end; later ones are not sent.
    offer(&mut talk, 2);
    talk.client.chunk(2, 4, false, talk.now, &mut talk.wire);
    talk.sent();
    let events = talk.hear(b"250 x\r\n250 x\r\n250 x\r\n552 5.3.4 large\r\n");
    assert_eq!(events, [ClientEvent::Done { token: 2, class: Class::Refused }]);
    talk.client.chunk(2, 4, true, talk.now, &mut talk.wire);
    assert_eq!(talk.sent(), "");
    // Nobody accepted: over without a chunk.
    offer(&mut talk, 3);
    assert!(talk.sent().starts_with("RSET\r\nMAIL FROM:"), "a refused chunk leaves the peer inside its transaction");
    let events = talk.hear(b"250 x\r\n250 x\r\n550 x\r\n");
    assert_eq!(events[1], ClientEvent::Done { token: 3, class: Class::Refused });
    // Given up by its taker: the next one begins behind RSET, and replies still count.
    offer(&mut talk, 4);
    talk.client.chunk(4, 4, false, talk.now, &mut talk.wire);
    talk.client.abandon(4);
    talk.sent();
    talk.offer(5, &mail).expect("sent");
    assert!(talk.sent().starts_with("RSET\r\n"));
    let events = talk.hear(b"250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n");
    assert_eq!(events, [ClientEvent::Done { token: 5, class: Class::Accepted }]);
    // The peer refuses it afterwards: that is nobody's outcome, though its token is another's by now.
    offer(&mut talk, 6);
    talk.client.chunk(6, 4, false, talk.now, &mut talk.wire);
    talk.client.abandon(6);
    talk.offer(6, &mail).expect("sent");
    assert_eq!(talk.hear(b"250 x\r\n452 4.3.1 short\r\n503 x\r\n503 x\r\n"), []);
    let events = talk.hear(b"250 x\r\n250 x\r\n250 x\r\n250 x\r\n");
    assert_eq!(events, [ClientEvent::Done { token: 6, class: Class::Accepted }]);
}

#[test]
fn m_098_only_the_recipients_asked_for_are_named() {
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    let mail = mail("a@a.test", &["b@b.test", "c@c.test", "d@d.test"], b"x\r\n");
    let mut transaction = Transaction {
        envelope: mail.envelope.as_ref(),
        recipients: Some(&[0, 2]),
        facts: &mail.facts,
        body: Body::Whole(3),
        identity: None,
    };
    talk.client.offer(1, &transaction, talk.now, &mut talk.wire).expect("sent");
    let sent = talk.sent();
    assert!(sent.contains("<b@b.test>") && sent.contains("<d@d.test>") && !sent.contains("<c@c.test>"));
    let mut talk = Talk::ready(options(), &["PIPELINING"]);
    transaction.recipients = Some(&[7]);
    assert_eq!(talk.client.offer(1, &transaction, talk.now, &mut talk.wire), Err(CannotSend::Nobody));
    assert_eq!((talk.sent().as_str(), talk.client.in_flight()), ("", 0));
}

#[test]
fn m_009_a_client_without_a_qualified_name_gives_its_address() {
    for (name, local, hello) in [
        ("mx.c.test", "192.0.2.7", "EHLO mx.c.test\r\n"),
        ("localhost", "192.0.2.7", "EHLO [192.0.2.7]\r\n"),
        ("ourhost", "2001:db8::7", "EHLO [IPv6:2001:db8::7]\r\n"),
        ("[192.0.2.9]", "192.0.2.7", "EHLO [192.0.2.9]\r\n"),
    ] {
        let mut talk = Talk::new(ClientOptions::new(name));
        talk.client = talk.client.speaking_from(local.parse().expect("an address"));
        talk.hear(b"220 peer.test ESMTP\r\n");
        assert_eq!(talk.sent(), hello);
        assert_eq!(talk.hear(b"502 no\r\n"), []);
        assert_eq!(talk.sent(), hello.replace("EHLO", "HELO"));
    }
}

#[test]
fn m_010_m_124_binary_content_goes_only_where_it_was_offered_streamed_or_not() {
    for (extensions, good) in
        [(&["CHUNKING", "BINARYMIME"][..], true), (&["CHUNKING"], false), (&["BINARYMIME"], false)]
    {
        for streamed in [false, true] {
            let mut talk = Talk::ready(options(), extensions);
            let mut binary = one();
            binary.envelope.set_body(Some(crate::wire::BodyType::Binary));
            let transaction = Transaction {
                envelope: binary.envelope.as_ref(),
                recipients: None,
                facts: &binary.facts,
                body: if streamed { Body::Streamed } else { Body::Whole(binary.content.len() as u64) },
                identity: None,
            };
            talk.wire.bodies.push((1, binary.clone()));
            let sent = talk.client.offer(1, &transaction, talk.now, &mut talk.wire);
            assert_eq!(sent, if good { Ok(()) } else { Err(CannotSend::Binary) }, "{extensions:?}");
            let said = talk.sent();
            assert_eq!((said.contains(" BODY=BINARYMIME\r\n"), said.contains("DATA")), (good, false));
        }
    }
}

#[test]
fn m_054_lines_too_long_for_text_are_declared_binary_where_that_is_offered() {
    let long = mail("a@a.test", &["b@b.test"], &[&b"Subject: x\r\n\r\n"[..], &[b'x'; 999], b"\r\n"].concat());
    for (extensions, outcome) in [
        (&["PIPELINING", "CHUNKING", "BINARYMIME"][..], Ok(true)),
        (&["PIPELINING", "CHUNKING", "BINARYMIME", "XRINGPOST"], Ok(false)),
        (&["PIPELINING", "CHUNKING", "XRINGPOST"], Ok(false)),
        (&["PIPELINING", "CHUNKING"], Err(CannotSend::Lines)),
        (&["PIPELINING", "BINARYMIME"], Err(CannotSend::Lines)),
    ] {
        let mut talk = Talk::ready(options(), extensions);
        let declared = talk.offer(1, &long).map(|()| talk.sent().contains(" BODY=BINARYMIME\r\n"));
        assert_eq!(declared, outcome, "{extensions:?}");
    }
    let mut talk = Talk::ready(ClientOptions { long_lines: true, ..options() }, &["CHUNKING", "BINARYMIME"]);
    talk.offer(1, &long).expect("sent");
    assert!(!talk.sent().contains("BODY="), "who says that they are welcome sends them as text");
}

fn three() -> Mail {
    mail("a@a.test", &["b@b.test", "c@b.test", "d@b.test"], b"hi\r\n")
}

fn told(index: u32, class: Class) -> ClientEvent {
    ClientEvent::Recipient { token: 1, index, class }
}

fn done(class: Class) -> ClientEvent {
    ClientEvent::Done { token: 1, class }
}

#[test]
fn m_035_mixed_answers_to_rcpt_are_each_recipients_own() {
    for extensions in [&["PIPELINING", "CHUNKING"][..], &["PIPELINING"], &[]] {
        let mut talk = Talk::ready(options(), extensions);
        talk.offer(1, &three()).expect("sent");
        let reset = if extensions.len() == 2 { "250 reset\r\n" } else { "" };
        let go = if extensions.len() == 2 { "" } else { "354 go\r\n" };
        let replies = format!("{reset}250 m\r\n450 4.2.0 later\r\n250 r\r\n550 5.1.1 never\r\n{go}250 done\r\n");
        let mut events = Vec::new();
        for line in replies.split_inclusive("\r\n") {
            events.extend(talk.hear(line.as_bytes()));
        }
        let expected = [told(0, Class::Deferred), told(2, Class::Refused), done(Class::Accepted)];
        assert_eq!(events, expected, "{extensions:?}");
    }
}

#[test]
fn m_038_251_is_success_and_551_is_failure_without_another_try() {
    let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
    talk.offer(1, &three()).expect("sent");
    talk.sent();
    let replies =
        "250 reset\r\n250 m\r\n251 will forward to <else@c.test>\r\n551 try <else@c.test>\r\n250 r\r\n250 done\r\n";
    assert_eq!(talk.hear(replies.as_bytes()), [told(1, Class::Refused), done(Class::Accepted)]);
    assert_eq!(talk.sent(), "", "nobody follows the address that it names");
}

#[test]
fn m_036_the_first_digit_decides_over_codes_that_nobody_knows() {
    for (code, class) in [
        ("259", Class::Accepted),
        ("299", Class::Accepted),
        ("400", Class::Deferred),
        ("499", Class::Deferred),
        ("500", Class::Refused),
        ("599", Class::Refused),
    ] {
        let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
        talk.offer(1, &one()).expect("sent");
        let events = talk.hear(format!("250 x\r\n250 x\r\n250 x\r\n{code} whatever\r\n").as_bytes());
        assert_eq!(events, [done(class)], "{code}");
    }
    for bad in ["150", "650", "099", "25", "2500", "abc"] {
        let mut talk = Talk::ready(options(), &["PIPELINING", "CHUNKING"]);
        talk.offer(1, &one()).expect("sent");
        let events = talk.hear(format!("250 x\r\n250 x\r\n250 x\r\n{bad} whatever\r\n").as_bytes());
        assert!(matches!(events[..], [ClientEvent::Down(DownReason::Protocol(_))]), "{bad}: {events:?}");
    }
}

#[test]
fn m_037_a_refused_mail_is_its_message_s_affair_and_the_next_goes_at_once() {
    for extensions in [&["PIPELINING", "CHUNKING"][..], &["PIPELINING"], &[]] {
        let mut talk = Talk::ready(options(), extensions);
        talk.offer(1, &one()).expect("sent");
        let mut events = Vec::new();
        let reset = if extensions.len() == 2 { "250 reset\r\n" } else { "" };
        let behind = if extensions.is_empty() { "" } else { "503 no\r\n503 no\r\n" };
        for line in format!("{reset}550 5.7.1 not from you\r\n{behind}").split_inclusive("\r\n") {
            events.extend(talk.hear(line.as_bytes()));
        }
        assert_eq!(events, [done(Class::Refused)], "{extensions:?}");
        assert!(talk.client.is_ready() && talk.client.room() > 0, "{extensions:?}");
        talk.sent();
        talk.offer(2, &one()).expect("the same host takes the next");
        let sent = talk.sent();
        assert!(sent.starts_with("RSET\r\n") || sent.starts_with("MAIL FROM:"), "{extensions:?}: {sent}");
    }
}

#[test]
fn m_213_lmtp_replies_that_came_before_the_loss_count() {
    let mut talk = Talk::ready(ClientOptions { dialect: Dialect::Lmtp, ..options() }, &["PIPELINING"]);
    talk.offer(1, &three()).expect("sent");
    assert_eq!(talk.hear(b"250 m\r\n250 r\r\n250 r\r\n250 r\r\n354 go\r\n"), []);
    let events = talk.hear(b"250 one\r\n450 4.2.0 two\r\n25");
    assert_eq!(events, [told(0, Class::Accepted), told(1, Class::Deferred)]);
    assert_eq!(talk.client.on_lost(), ClientEvent::Down(DownReason::Lost(Stage::End)));
    assert_eq!(talk.client.unfinished().collect::<Vec<_>>(), [(1, Unfinished::Unknown)]);
}
