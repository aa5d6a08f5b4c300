//! M rows about commands, one by one; where profile `exchange` differs, its value stands beside.

use super::support::*;
use crate::smtp::server::*;
use crate::smtp::{Dialect, Profile};
use crate::wire::{RecipientRef, Refusal, ReversePathRef, Span, Tick};
use std::cell::Cell;

#[test]
fn m_002_a_message_comes_in() {
    let mut bench = Bench::rfc().hello();
    assert_eq!(bench.ask("MAIL FROM:<a@a.test> SIZE=5 BODY=8BITMIME"), ["250 2.1.0"]);
    assert_eq!(bench.ask("RCPT TO:<b@b.test>"), ["250 2.1.5"]);
    assert_eq!(bench.ask("DATA"), ["354"]);
    bench.feed(b"Subject: x\r\n\r\n..dot\r\nend\r\n.\r\n");
    assert_eq!(bench.codes(), ["250 2.0.0"]);
    let message = &bench.messages[0];
    assert_eq!((message.from.as_str(), message.to.join(" ")), ("a@a.test", "b@b.test".to_owned()));
    assert_eq!(message.content, b"Subject: x\r\n\r\n.dot\r\nend\r\n");
}

#[test]
fn m_001_s_023_the_greeting_names_us_and_no_version() {
    let bench = Bench::new(ServerOptions { instance: "5f3a".into(), ..options(Profile::Rfc) });
    assert_eq!(bench.out, b"220 mx.test ESMTP Ringpost 5f3a ready\r\n");
    assert!(!String::from_utf8_lossy(&bench.out).contains(env!("CARGO_PKG_VERSION")));
    // Profile `exchange`: the form of its documents, with our name and the date.
    let date = b"Sun, 22 Nov 2026 06:28:15 +0000";
    for (profile, greeting) in [
        (Profile::Exchange, "220 mx.test Ringpost ESMTP MAIL Service ready at Sun, 22 Nov 2026 06:28:15 +0000\r\n"),
        (Profile::Rfc, "220 mx.test ESMTP Ringpost ready\r\n"),
    ] {
        let mut bench = Bench::new(options(profile));
        bench.out.clear();
        bench.session.greet_on(date, None, &mut bench.out);
        assert_eq!(String::from_utf8_lossy(&bench.out), greeting);
    }
}

#[test]
fn s_023_no_answer_tells_a_version_or_who_is_there() {
    let mut bench = Bench::rfc().hello();
    let mut said = String::new();
    for line in ["HELP", "VRFY b@b.test", "VRFY nobody@b.test", "EXPN staff", "EHLO c.test", "XYZZY", "NOOP", "RSET"] {
        bench.feed(format!("{line}\r\n").as_bytes());
        bench.wait();
        said.push_str(&String::from_utf8(std::mem::take(&mut bench.out)).expect("ASCII"));
    }
    for secret in [env!("CARGO_PKG_VERSION"), "192.0.2.2", "src/", ".rs"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    // Who is there and who is not get the same answer.
    let verify = |name: &str| Bench::rfc().hello().ask(&format!("VRFY {name}@b.test"));
    assert_eq!(verify("b"), verify("nobody"));
}

#[test]
fn m_001_m_016_a_refusing_greeting_serves_quit_alone_or_closes() {
    let refuse = |refusal: Refusal| {
        let mut bench = Bench::rfc();
        let mut out = Vec::new();
        let event = bench.session.greet(Some(&refusal), &mut out);
        bench.out.clear();
        (bench, event, String::from_utf8(out).expect("ASCII"))
    };
    let (mut bench, event, greeting) = refuse(Refusal::fixed(554, (5, 7, 1), "No"));
    assert_eq!((event, greeting.as_str()), (Event::More, "554 5.7.1 No\r\n"));
    for line in ["EHLO c.test", "NOOP", "MAIL FROM:<a@a.test>", "XYZZY"] {
        assert_eq!(bench.ask(line), ["503 5.5.1"], "{line}");
    }
    assert_eq!(bench.ask("QUIT"), ["221 2.0.0"]);
    assert!(bench.closed);
    let (_, event, greeting) = refuse(Refusal::fixed(421, (4, 7, 0), "Too many connections"));
    assert_eq!((event, greeting.as_str()), (Event::Close, "421 4.7.0 Too many connections\r\n"));
}

#[test]
fn m_017_who_talks_before_the_greeting_is_noted_or_served_quit_alone() {
    for (refuse, greeting) in [(true, "554 5.5.0 "), (false, "220 mx.test ")] {
        for early in [true, false] {
            let options = ServerOptions { refuse_early_talkers: refuse, ..options(Profile::Rfc) };
            let mut bench = Bench::greeted(options, |session| {
                if early {
                    session.on_early_talk();
                }
            });
            let said = String::from_utf8_lossy(&bench.out).into_owned();
            let expected = if early { greeting } else { "220 mx.test " };
            assert!(said.starts_with(expected), "{refuse} {early}: {said}");
            assert_eq!(bench.session.facts().early_talker(), early);
            bench.out.clear();
            // What it said early is looked at behind the greeting, whatever that was.
            let hello = if refuse && early { "503 5.5.1" } else { "250" };
            assert_eq!(bench.ask("EHLO client.test"), [hello]);
            assert_eq!(bench.ask("QUIT"), ["221 2.0.0"]);
            assert!(bench.closed);
        }
    }
}

#[test]
fn s_021_a_session_counts_what_happens_in_it() {
    let mut bench = Bench::rfc().hello();
    for line in ["XYZZY", "MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>", "RCPT TO:<nobody@b.test>", "RCPT TO:<c@c.test>"]
    {
        bench.ask(line);
    }
    let counts = bench.session.take_counts();
    assert_eq!((counts.errors, counts.recipients_accepted, counts.recipients_refused), (1, 2, 1));
    assert_eq!(bench.session.take_counts(), SessionCounts::default(), "each is told once");
    bench.ask("QUIT");
    assert_eq!(bench.session.take_counts(), SessionCounts::default(), "a farewell is no violation");
    let mut bench = Bench::rfc();
    bench.feed(b"GET / HTTP/1.1\r\n");
    assert_eq!(bench.session.take_counts().violations, 1);
    let mut bench = Bench::rfc();
    bench.now = Tick::NEVER;
    bench.session.on_timeout(bench.now, &mut bench.out);
    assert_eq!(bench.session.take_counts().timeouts, 1);
}

#[test]
fn m_002_m_104_m_174_ehlo_lists_what_is_there() {
    let mut bench = Bench::rfc();
    bench.out.clear();
    bench.feed(b"EHLO client.test\r\n");
    let expected = "250-mx.test Hello [192.0.2.1]\r\n250-SIZE 52428800\r\n250-PIPELINING\r\n250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n\
                    250-8BITMIME\r\n250-CHUNKING\r\n250 HELP\r\n";
    assert_eq!(String::from_utf8_lossy(&bench.out), expected);
    let mut exchange = Bench::new(options(Profile::Exchange));
    exchange.out.clear();
    exchange.feed(b"EHLO client.test\r\n");
    assert!(String::from_utf8_lossy(&exchange.out).contains("250-SIZE 37748736\r\n"));
    let mut bench = Bench::rfc();
    assert_eq!(bench.ask("EHLO")[1..], ["501 5.5.4"]);
}

#[test]
fn m_003_m_174_helo_has_no_extensions() {
    let mut bench = Bench::rfc();
    bench.out.clear();
    bench.feed(b"HELO client.test\r\n");
    assert_eq!(bench.out, b"250 mx.test Hello [192.0.2.1]\r\n");
    bench.out.clear();
    assert_eq!(bench.ask("MAIL FROM:<a@a.test> BODY=8BITMIME"), ["555 5.5.4"]);
    assert_eq!(bench.ask("MAIL FROM:<a@a.test>"), ["250 2.1.0"]);
    assert_eq!(bench.session.facts().protocol(), Protocol::Smtp);
}

#[test]
fn m_004_a_second_ehlo_resets_and_a_refused_one_changes_nothing() {
    let mut bench = Bench::rfc().hello();
    bench.ask("MAIL FROM:<a@a.test>");
    assert_eq!(bench.ask("EHLO bad_name"), ["501 5.5.4"]);
    assert_eq!(bench.ask("RCPT TO:<b@b.test>"), ["250 2.1.5"]);
    assert_eq!(bench.ask("EHLO other.test"), ["250"]);
    assert_eq!(bench.ask("RCPT TO:<b@b.test>"), ["503 5.5.1"]);
    assert_eq!(bench.session.facts().ehlo_name(), b"other.test");
}

#[test]
fn m_005_m_008_ehlo_names() {
    for name in ["a.test", "[192.0.2.7]", "[IPv6:2001:db8::1]", "[x-tag:thing]"] {
        assert_eq!(Bench::rfc().ask(&format!("EHLO {name}"))[1..], ["250"], "{name}");
    }
    for name in ["a_b.test", "a b", "a!b", "[IPv6:fe80::1%eth0]", "-a.test", &"a".repeat(300)] {
        assert_eq!(Bench::rfc().ask(&format!("EHLO {name}"))[1..], ["501 5.5.4"], "{name}");
    }
    for (name, code) in [("a_b.test", "250"), ("a!b", "250"), ("a b", "501 5.5.4")] {
        assert_eq!(Bench::new(options(Profile::Exchange)).ask(&format!("EHLO {name}"))[1..], [code], "{name}");
    }
}

#[test]
fn m_006_what_is_allowed_before_ehlo() {
    for (line, code) in [
        ("NOOP", "250 2.0.0"),
        ("HELP", "214 2.0.0"),
        ("VRFY x", "252 2.5.0"),
        ("EXPN x", "502 5.5.1"),
        ("RSET", "250 2.0.0"),
        ("QUIT", "221 2.0.0"),
        ("MAIL FROM:<a@a.test>", "503 5.5.1"),
    ] {
        assert_eq!(Bench::rfc().ask(line)[1..], [code], "{line}");
    }
    let mut exchange = Bench::new(options(Profile::Exchange));
    assert_eq!(exchange.ask("MAIL FROM:<a@a.test>")[1..], ["503 5.5.2"]);
}

#[test]
fn m_012_shutdown_comes_at_a_command_boundary_behind_durable_answers() {
    let mut bench = Bench::rfc().hello();
    assert_eq!(bench.session.on_shutdown(&mut bench.out), Event::Close);
    assert_eq!(bench.codes(), ["421 4.3.2"]);

    let mut bench = Bench::rfc().hello();
    bench.at_once = false;
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
    bench.out.clear();
    assert_eq!(bench.session.on_shutdown(&mut bench.out), Event::More);
    bench.feed(b"x\r\n.\r\nNOOP\r\n");
    assert!(bench.codes().is_empty() && !bench.closed);
    bench.settle();
    assert_eq!(bench.codes(), ["250 2.0.0", "421 4.3.2"]);
    assert!(bench.closed);
}

#[test]
fn f_010_the_last_call_ends_a_body_under_way_behind_the_answers_that_are_owed() {
    for body in ["DATA\r\nhalf a bo", "BDAT 20 LAST\r\nhalf a bo", "BDAT 4\r\nhalf"] {
        let mut bench = Bench::rfc().hello();
        bench.at_once = false;
        bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 5 LAST\r\nwhole");
        bench.feed(format!("MAIL FROM:<c@a.test>\r\nRCPT TO:<b@b.test>\r\n{body}").as_bytes());
        assert_eq!(bench.session.on_shutdown(&mut bench.out) == Event::More, !body.ends_with("half"), "{body}");
        let mut event = bench.session.on_last_call(&mut bench.out);
        while event == Event::Discard {
            event = bench.session.step(b"", bench.now, &ByName, &mut bench.out).event;
        }
        assert_eq!(event, Event::Paused, "{body}: a verdict is owed");
        bench.out.clear();
        bench.settle();
        let codes = bench.codes();
        assert_eq!((codes[0].as_str(), codes.last().map(String::as_str)), ("250 2.0.0", Some("421 4.3.2")), "{body}");
        assert!(bench.closed, "{body}");
        assert_eq!(bench.messages.len(), 1, "{body}: half a message is nobody's");
    }
}

#[test]
fn m_013_m_063_f_148_quit_aborts_and_what_follows_is_ignored() {
    let mut bench = Bench::rfc().hello();
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 1\r\nxQUIT\r\nNOOP\r\n");
    assert_eq!(bench.codes(), ["250 2.1.0", "250 2.1.5", "250 2.0.0", "221 2.0.0"]);
    assert!(bench.closed && bench.messages.is_empty());
}

#[test]
fn m_013_quit_behind_a_message_waits_for_its_verdict() {
    let mut bench = Bench::rfc().hello();
    bench.at_once = false;
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 1 LAST\r\nxQUIT\r\n");
    assert_eq!(bench.codes(), ["250 2.1.0", "250 2.1.5"]);
    assert!(!bench.closed);
    bench.settle();
    assert_eq!(bench.codes(), ["250 2.0.0", "221 2.0.0"]);
    assert!(bench.closed);
}

#[test]
fn m_018_too_many_errors_close() {
    let mut bench = Bench::rfc().hello();
    for _ in 0..20 {
        assert_eq!(bench.ask("XYZZY"), ["500 5.5.2"]);
    }
    assert_eq!(bench.ask("XYZZY"), ["421 4.7.0"]);
    assert!(bench.closed);
    // A good command in between forgives.
    let mut bench = Bench::rfc().hello();
    for _ in 0..100 {
        assert_eq!(bench.ask("XYZZY"), ["500 5.5.2"]);
        assert_eq!(bench.ask("NOOP"), ["250 2.0.0"]);
    }
    // exchange: 5 in all.
    let mut bench = Bench::new(options(Profile::Exchange)).hello();
    for _ in 0..5 {
        assert_eq!(bench.ask("XYZZY"), ["500 5.3.3"]);
        assert_eq!(bench.ask("NOOP"), ["250 2.0.0"]);
    }
    assert_eq!(bench.ask("XYZZY"), ["421 4.7.0"]);
}

#[test]
fn f_137_storms_of_idle_commands_close() {
    for storm in ["NOOP", "RSET", "EHLO c.test", "HELP", "VRFY x"] {
        let mut bench = Bench::rfc().hello();
        let answered = (0..1000).take_while(|_| bench.ask(storm)[0] != "421 4.7.0").count();
        assert!((100..=200).contains(&answered), "{storm}: {answered}");
        assert!(bench.closed);
    }
    let mut bench = Bench::rfc().hello();
    let mails = (0..1000).take_while(|_| bench.ask("MAIL FROM:<a@a.test>")[0] != "421 4.7.0").count();
    assert_eq!(mails, 21);
    // A front end of ours is not counted: it speaks for many.
    let mut bench = Bench::with(options(Profile::Rfc), true).hello();
    assert!((0..1000).all(|_| bench.ask("NOOP") == ["250 2.0.0"]));
}

#[test]
fn f_138_address_harvesting_closes_and_too_many_recipients_wait() {
    let mut bench = Bench::rfc().hello();
    bench.ask("MAIL FROM:<a@a.test>");
    let refused = (0..1000).take_while(|_| bench.ask("RCPT TO:<nobody@b.test>") == ["550 5.1.1"]).count();
    assert_eq!(refused, 100);
    assert!(bench.closed);
}

#[test]
fn m_033_f_138_an_envelope_that_would_not_fit_its_record_gets_452_at_rcpt() {
    let most = 4 << 10;
    let mut bench = Bench::new(ServerOptions { envelope_bytes_max: most, ..options(Profile::Rfc) }).hello();
    bench.ask("MAIL FROM:<a@a.test>");
    let replies: Vec<String> =
        (0..100).map(|at| bench.ask(&format!("RCPT TO:<{}{at:02}@b.test>", "r".repeat(50))).concat()).collect();
    let taken = replies.iter().take_while(|reply| *reply == "250 2.1.5").count();
    assert!((50..70).contains(&taken), "{taken}");
    assert!(replies[taken..].iter().all(|reply| reply == "452 4.5.3"), "{replies:?}");
    // A shorter one may still fit, and the message goes to those taken.
    assert_eq!(bench.ask("RCPT TO:<c@b.test>"), ["250 2.1.5"]);
    bench.ask("DATA");
    bench.feed(b".\r\n");
    assert_eq!(bench.messages[0].to.len(), taken + 1);
    assert!(bench.session.envelope().bytes().len() <= most);
}

/// Has room until it is said that there is none.
struct Room(Cell<bool>);

impl Policy for Room {
    fn mail(&self, _: &SessionFacts, _: ReversePathRef<'_>) -> Result<(), Refusal> {
        Ok(())
    }
    fn rcpt(&self, _: &SessionFacts, _: ReversePathRef<'_>, _: RecipientRef<'_>) -> Result<(), Refusal> {
        Ok(())
    }
    fn room(&self, octets: u64) -> Result<(), Refusal> {
        assert_eq!(octets, 7, "what MAIL declared");
        if self.0.get() { Ok(()) } else { Err(Refusal::fixed(452, (4, 3, 1), "Insufficient system resources")) }
    }
}

#[test]
fn f_040_recipients_beyond_a_small_envelope_wait_while_there_is_no_room() {
    let (mut session, room) = (Bench::rfc().hello().session, Room(Cell::new(true)));
    let ask = |session: &mut ServerSession, line: &str| {
        let (line, mut out) = (format!("{line}\r\n"), Vec::new());
        let step = session.step(line.as_bytes(), Tick(1), &room, &mut out);
        assert_eq!((step.consumed, step.event), (line.len(), Event::More));
        String::from_utf8_lossy(&out[..9]).into_owned()
    };
    let recipient = |number: usize| format!("RCPT TO:<{number:04}{}@b.test>", "r".repeat(50));
    assert_eq!(ask(&mut session, "MAIL FROM:<a@a.test> SIZE=7"), "250 2.1.0");
    room.0.set(false);
    let taken = (0..).take_while(|&number| ask(&mut session, &recipient(number)) == "250 2.1.5").count();
    let kept = session.envelope().bytes().len();
    assert!((3 << 10..=4 << 10).contains(&kept), "{kept} octets need nobody's leave");
    // It is no fault of the peer's: however often it tries, the session goes on.
    assert!((0..500).all(|number| ask(&mut session, &recipient(number)) == "452 4.3.1"));
    assert_eq!(session.envelope().recipient_count() as usize, taken);
    assert!(session.envelope_excess_bytes() <= 4 << 10, "{} octets", session.envelope_excess_bytes());
    room.0.set(true);
    assert!((0..500).all(|number| ask(&mut session, &recipient(number)) == "250 2.1.5"));
    let (whole, excess) = (session.envelope().bytes().len(), session.envelope_excess_bytes());
    assert!((whole - (4 << 10)..2 * whole).contains(&excess), "{excess} of {whole} octets");
    assert_eq!((ask(&mut session, "RSET"), session.envelope_excess_bytes()), ("250 2.0.0".to_owned(), 0));
}

#[test]
fn m_033_recipients_beyond_the_most_get_452_and_the_others_stay() {
    for (profile, most) in [(Profile::Rfc, 1000), (Profile::Exchange, 200)] {
        let mut bench = Bench::new(options(profile)).hello();
        bench.ask("MAIL FROM:<a@a.test>");
        for n in 0..most {
            assert_eq!(bench.ask(&format!("RCPT TO:<r{n}@b.test>")), ["250 2.1.5"]);
        }
        assert_eq!(bench.ask("RCPT TO:<more@b.test>"), ["452 4.5.3"]);
        bench.feed(b"BDAT 0 LAST\r\n");
        assert_eq!(bench.messages[0].to.len(), most);
    }
}

#[test]
fn m_058_m_059_m_062_vrfy_expn_and_help_say_the_same_to_everybody_and_change_nothing() {
    for who in ["b", "b@b.test", "nobody@b.test", "refused", "\"a b\"@b.test"] {
        let mut bench = Bench::rfc().hello();
        bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\n");
        bench.out.clear();
        assert_eq!(bench.ask(&format!("VRFY {who}")), ["252 2.5.0"], "{who}");
        assert_eq!(bench.ask(&format!("EXPN {who}")), ["502 5.5.1"], "{who}");
        assert_eq!(bench.ask(&format!("HELP {who}")), ["214 2.0.0"], "{who}");
        bench.feed(b"BDAT 0 LAST\r\n");
        assert_eq!(bench.messages[0].to, ["b@b.test"], "{who}: the transaction is as it was");
    }
    let mut hello = Bench::rfc();
    hello.out.clear();
    hello.feed(b"EHLO c.test\r\n");
    let said = String::from_utf8(hello.out).expect("ASCII");
    assert!(!said.contains("EXPN") && !said.contains("VRFY"), "{said}");
}

#[test]
fn m_019_arguments_where_none_belong() {
    for line in ["DATA x", "RSET x", "QUIT x"] {
        assert_eq!(Bench::rfc().hello().ask(line), ["501 5.5.4"], "{line}");
    }
    assert_eq!(Bench::rfc().hello().ask("NOOP anything at all"), ["250 2.0.0"]);
    assert_eq!(Bench::rfc().hello().ask("HELP me"), ["214 2.0.0"]);
    assert_eq!(Bench::rfc().hello().ask("VRFY"), ["501 5.5.4"]);
}

#[test]
fn m_020_f_128_f_129_lines_end_in_crlf_alone_and_hold_no_control() {
    let answer = |bytes: &[u8]| {
        let mut bench = Bench::rfc().hello();
        bench.feed(bytes);
        (bench.codes(), bench.closed)
    };
    let bad = || vec!["500 5.5.2".to_owned()];
    assert_eq!(answer(b"NOOP\n"), (bad(), false));
    assert_eq!(answer(b"NOOP\nNOOP\r\n"), (bad(), true));
    assert_eq!(answer(b"NO\rOP\r\n"), (bad(), false));
    assert_eq!(answer(b"NO\rOP\r\nNOOP\r\n"), (bad(), true));
    assert_eq!(answer(b"NOOP\r\r\n"), (bad(), false));
    assert_eq!(answer(b"NOOP\r"), (vec![], false));
    for control in [0u8, 1, 8, 0x0b, 0x1b, 0x7f] {
        let codes = answer(&[b"NOOP x", &[control][..], b"y\r\nNOOP\r\n"].concat());
        assert_eq!(codes, (vec!["500 5.5.2".to_owned(), "250 2.0.0".to_owned()], false), "{control}");
    }
    for beyond in
        [&b"NOOP \xc3\xa9\r\n"[..], b"NOOP \xff\r\n", b"MAIL FROM:<\xff@a.test>\r\n", b"EHLO \x80\r\n", b"\xc3\xa9\r\n"]
    {
        assert_eq!(answer(beyond), (bad(), false), "{}", beyond.escape_ascii());
    }
    assert_eq!(answer("MAIL FROM:<é@a.test>\r\n".as_bytes()).0, ["550 5.6.7"]);
}

#[test]
fn m_176_addresses_beyond_ascii_are_told_so() {
    let mut bench = Bench::rfc().hello();
    bench.ask("MAIL FROM:<a@a.test>");
    assert_eq!(bench.ask("RCPT TO:<é@b.test>"), ["553 5.6.7"]);
    assert_eq!(bench.ask("RCPT TO:<b@é.test>"), ["553 5.6.7"]);
}

#[test]
fn m_021_blanks_are_tolerated_at_ends_and_before_paths() {
    let mut bench = Bench::rfc().hello();
    assert_eq!(bench.ask("MAIL FROM: <a@a.test> \t "), ["250 2.1.0"]);
    assert_eq!(bench.ask("RCPT TO:\t<b@b.test>"), ["500 5.5.2"]);
    assert_eq!(bench.ask("RCPT TO:   <b@b.test>"), ["250 2.1.5"]);
    assert_eq!(bench.ask("DATA  "), ["354"]);
    let mut strict = Bench::new(ServerOptions { strict_blanks: true, ..options(Profile::Rfc) }).hello();
    assert_eq!(strict.ask("MAIL FROM: <a@a.test>"), ["501 5.5.4"]);
    assert_eq!(strict.ask("MAIL FROM:<a@a.test>"), ["250 2.1.0"]);
}

#[test]
fn f_126_an_overlong_line_is_refused_once_and_costs_no_memory() {
    let mut bench = Bench::rfc().hello();
    let exact = format!("NOOP {}\r\n", "x".repeat(2048 - 7));
    bench.feed(exact.as_bytes());
    assert_eq!(bench.codes(), ["250 2.0.0"]);
    let over = format!("NOOP {}\r\nNOOP\r\n", "x".repeat(2048 - 6));
    bench.feed(over.as_bytes());
    assert_eq!(bench.codes(), ["500 5.5.2", "250 2.0.0"]);
    for _ in 0..1000 {
        bench.feed(&[b'x'; 10_000]);
        assert!(bench.session.held_bytes() < 10_000);
    }
    bench.feed(b"\r");
    bench.feed(b"\nNOOP\r\n");
    assert_eq!(bench.codes(), ["500 5.5.2", "250 2.0.0"]);
}

#[test]
fn m_023_m_024_one_mail_at_a_time_and_null_is_welcome() {
    let mut bench = Bench::rfc().hello();
    assert_eq!(bench.ask("MAIL FROM:<>"), ["250 2.1.0"]);
    assert_eq!(bench.ask("MAIL FROM:<a@a.test>"), ["503 5.5.1"]);
    assert_eq!(bench.ask("RCPT TO:<b@b.test>"), ["250 2.1.5"]);
    bench.feed(b"BDAT 0 LAST\r\n");
    assert_eq!(bench.messages[0].from, "<>");
}

#[test]
fn m_025_parameters() {
    for (line, code) in [
        ("MAIL FROM:<a@a.test> X=1", "555 5.5.4"),
        ("MAIL FROM:<a@a.test> BY=120;R", "555 5.5.4"),
        ("MAIL FROM:<a@a.test> SMTPUTF8", "555 5.5.4"),
        ("MAIL FROM:<a@a.test> BODY=BINARYMIME", "555 5.5.4"),
        ("MAIL FROM:<a@a.test> XADDR=192.0.2.9 XPROTO=ESMTP", "555 5.5.4"),
        ("MAIL FROM:<a@a.test> SIZE=", "501 5.5.4"),
        ("MAIL FROM:<a@a.test> SIZE", "501 5.5.4"),
        ("MAIL FROM:<a@a.test> SIZE=x", "501 5.5.4"),
        ("MAIL FROM:<a@a.test> SIZE=-1", "501 5.5.4"),
        ("MAIL FROM:<a@a.test> SIZE=1 SIZE=1", "501 5.5.4"),
        ("MAIL FROM:<a@a.test> BODY=9BIT", "501 5.5.4"),
        ("MAIL FROM:<a@a.test> BODY=7BIT BODY=7BIT", "501 5.5.4"),
        ("MAIL FROM:<a@a.test>SIZE=1", "501 5.5.4"),
        ("MAIL FROM:<a@a.test> size=1 body=7bit", "250 2.1.0"),
        ("MAIL <a@a.test>", "501 5.5.4"),
        ("MAIL", "501 5.5.4"),
        ("MAIL TO:<a@a.test>", "501 5.5.4"),
    ] {
        assert_eq!(Bench::rfc().hello().ask(line), [code], "{line}");
    }
    let mut bench = Bench::rfc().hello();
    bench.ask("MAIL FROM:<a@a.test>");
    assert_eq!(bench.ask("RCPT TO:<b@b.test> X=1"), ["555 5.5.4"]);
    assert_eq!(bench.ask("RCPT TO:<b@b.test> ="), ["501 5.5.4"]);
    assert_eq!(bench.ask("RCPT TO:<b@b.test>"), ["250 2.1.5"]);
}

#[test]
fn m_026_m_028_m_029_m_030_addresses_and_their_replies() {
    for (path, code) in [
        ("a@a", "550 5.1.8"),
        ("a..b@a.test", "501 5.1.7"),
        ("a@b..test", "501 5.1.8"),
        ("nodomain", "501 5.1.7"),
        ("postmaster", "250 2.1.0"),
        ("a@mx.test", "250 2.1.0"),
        ("a@[192.0.2.1]", "250 2.1.0"),
    ] {
        assert_eq!(Bench::rfc().hello().ask(&format!("MAIL FROM:<{path}>")), [code], "{path}");
    }
    for (path, code, exchange) in [
        ("", "501 5.1.3", "501 5.1.3"),
        ("a@a", "550 5.1.2", "550 5.1.6"),
        ("a..b@a.test", "501 5.1.3", "501 5.1.3"),
        ("a@b..test", "501 5.1.2", "501 5.1.2"),
        ("Postmaster", "250 2.1.5", "250 2.1.5"),
        ("@x.test,@y.test:b@b.test", "250 2.1.5", "250 2.1.5"),
        ("\"b\"@B.TEST", "250 2.1.5", "250 2.1.5"),
        ("nobody@b.test", "550 5.1.1", "550 5.1.1"),
        ("later@b.test", "451 4.3.0", "451 4.3.0"),
    ] {
        for (profile, code) in [(Profile::Rfc, code), (Profile::Exchange, exchange)] {
            let mut bench = Bench::new(options(profile)).hello();
            bench.ask("MAIL FROM:<a@a.test>");
            assert_eq!(bench.ask(&format!("RCPT TO:<{path}>")), [code], "{path} in {profile}");
        }
    }
    let mut exchange = Bench::new(options(Profile::Exchange)).hello();
    assert_eq!(exchange.ask("MAIL FROM:<a..b@a.test>"), ["550 5.1.7"]);
    let single = ServerOptions { single_label_domains: vec!["intra".into()], ..options(Profile::Rfc) };
    assert_eq!(Bench::new(single).hello().ask("MAIL FROM:<a@Intra>"), ["250 2.1.0"]);
}

#[test]
fn m_031_a_refused_sender_or_recipient_gets_the_policys_reply() {
    let mut bench = Bench::rfc().hello();
    assert_eq!(bench.ask("MAIL FROM:<refused@a.test>"), ["550 5.1.1"]);
    // What a pipelining peer sends behind it is out of order, and no error of the peer.
    for _ in 0..100 {
        assert_eq!(bench.ask("RCPT TO:<b@b.test>"), ["503 5.5.1"]);
    }
    assert_eq!(bench.ask("DATA"), ["503 5.5.1"]);
}

#[test]
fn m_060_rset_keeps_the_greeting_and_drops_the_rest() {
    let mut bench = Bench::rfc().hello();
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 3\r\nabcRSET\r\nMAIL FROM:<c@c.test>\r\nRCPT TO:<d@d.test>\r\n");
    bench.feed(b"BDAT 1 LAST\r\nx");
    assert_eq!(bench.messages.len(), 1);
    assert_eq!((bench.messages[0].from.as_str(), bench.messages[0].content.as_slice()), ("c@c.test", &b"x"[..]));
}

#[test]
fn m_071_f_121_f_122_timers() {
    let minutes = |count| Tick(1).after(Span::minutes(count));
    // A whole command line has five minutes, however its octets trickle in.
    let mut bench = Bench::rfc();
    bench.now = minutes(4);
    bench.feed(b"EHL");
    assert_eq!(bench.session.deadline(), minutes(5));
    let mut out = Vec::new();
    assert_eq!(bench.session.on_timeout(minutes(4), &mut out), Event::More);
    assert_eq!(bench.session.on_timeout(minutes(5), &mut out), Event::Close);
    assert_eq!(out, b"421 4.4.2 Connection timed out\r\n");
    // A block of content restarts its own.
    let mut bench = Bench::rfc().hello();
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
    assert_eq!(bench.session.deadline(), minutes(5));
    bench.now = minutes(2);
    bench.feed(b"x");
    assert_eq!(bench.session.deadline(), minutes(7));
    // A least rate, from the second minute on.
    let mut options = options(Profile::Rfc);
    options.timers.content_bytes_per_second_min = 128;
    let mut bench = Bench::new(options).hello();
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
    assert_eq!(bench.session.deadline(), minutes(1));
    bench.feed(&[b'x'; 1280]);
    assert_eq!(bench.session.deadline(), minutes(1).after(Span::seconds(10)));
    // While a verdict is owed the peer waits for us, not we for it.
    let mut bench = Bench::rfc().hello();
    bench.at_once = false;
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 0 LAST\r\n");
    assert_eq!(bench.session.deadline(), bench.session.verdict_deadline());
    bench.now = minutes(4);
    bench.settle();
    assert_eq!(bench.session.deadline(), minutes(9));
}

#[test]
fn f_122_time_in_which_we_read_nothing_is_not_the_peers() {
    let minutes = |count| Tick(1).after(Span::minutes(count));
    let mut options = options(Profile::Rfc);
    for (rate, by) in [(0, minutes(5)), (128, minutes(1).after(Span::seconds(10)))] {
        options.timers.content_bytes_per_second_min = rate;
        let mut bench = Bench::new(options.clone()).hello();
        bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
        bench.feed(&[b'x'; 1280]);
        assert_eq!(bench.session.deadline(), by);
        bench.session.on_held_up(Tick(1), minutes(10));
        assert_eq!(bench.session.deadline(), by.after(Span::minutes(10)), "rate {rate}");
    }
}

/// Chunks that are read and discarded have their time like others, and their reply at the end.
#[test]
fn m_071_m_118_f_122_chunks_that_nobody_takes_are_timed_like_others() {
    const TOO_LARGE: &str = "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 120000 LAST\r\n";
    let mut options = ServerOptions { size_max: 100_000, ..options(Profile::Rfc) };
    options.timers.content_bytes_per_second_min = 128;
    for (before, reply) in [
        (TOO_LARGE, "552 5.3.4"),
        ("BDAT 120000 LAST\r\n", "503 5.5.1"),
        ("MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 1\r\n\nBDAT 120000\r\n", "503 5.5.1"),
    ] {
        let mut bench = Bench::new(options.clone()).hello();
        bench.now = Tick(1).after(Span::minutes(4));
        bench.feed(before.as_bytes());
        bench.codes();
        for _ in 0..120 {
            bench.now = bench.now.after(Span::seconds(1));
            assert_eq!(bench.session.on_timeout(bench.now, &mut bench.out), Event::More, "{before}");
            bench.feed(&[b'x'; 1000]);
        }
        assert_eq!((bench.codes(), bench.closed), (vec![reply.to_owned()], false), "{before}");
    }
    // Who does not keep the rate is cut.
    let mut bench = Bench::new(options).hello();
    bench.feed(TOO_LARGE.as_bytes());
    bench.feed(&[b'x'; 1280]);
    assert_eq!(bench.session.deadline(), Tick(1).after(Span::seconds(70)));
}

#[test]
fn m_061_connection_timeout_of_exchange_ends_sessions_between_transactions_only_and_noop_moves_it_not() {
    let minutes = |count| Tick(1).after(Span::minutes(count));
    let mut bench = Bench::new(options(Profile::Exchange)).hello();
    bench.now = minutes(8);
    bench.ask("NOOP");
    assert_eq!(bench.session.deadline(), minutes(10));
    bench.ask("MAIL FROM:<a@a.test>");
    assert_eq!(bench.session.deadline(), minutes(13));
}

#[test]
fn f_186_http_is_not_spoken_here() {
    for line in ["GET / HTTP/1.1", "POST /x HTTP/1.1", "HEAD /", "PUT / HTTP/1.0", "OPTIONS *", "CONNECT a:25 HTTP/1.1"]
    {
        let mut bench = Bench::rfc();
        bench.out.clear();
        bench.feed(format!("{line}\r\nHost: x\r\n\r\nMAIL FROM:<a@a.test>\r\n").as_bytes());
        assert_eq!(bench.codes(), ["421 4.7.0"], "{line}");
        assert!(bench.closed);
    }
}

#[test]
fn s_018_m_078_front_ends_say_who_they_speak_for() {
    let mut bench = Bench::with(options(Profile::Rfc), true);
    bench.out.clear();
    bench.feed(b"EHLO fe.test\r\n");
    assert!(String::from_utf8_lossy(&bench.out).contains("250-XRINGPOST\r\n"));
    bench.out.clear();
    assert_eq!(bench.session.facts().client_address(), None);
    assert_eq!(bench.ask("MAIL FROM:<a@a.test> XADDR=198.51.100.7 XHELO=we+2Bird.test XPROTO=ESMTP"), ["250 2.1.0"]);
    let identity = bench.session.facts().identity().expect("given").clone();
    assert_eq!(identity.address, "198.51.100.7".parse::<std::net::IpAddr>().expect("IP"));
    assert_eq!((identity.ehlo_name.as_slice(), identity.protocol), (&b"we+ird.test"[..], Protocol::Esmtp));
    // It holds for its transaction alone.
    bench.ask("RSET");
    assert_eq!(bench.session.facts().identity(), None);
    assert_eq!(bench.ask("MAIL FROM:<a@a.test> XADDR=IPv6:2001:db8::7 XPROTO=smtp"), ["250 2.1.0"]);
    assert_eq!(bench.session.facts().identity().expect("given").ehlo_name, b"");
    for bad in [
        "XADDR=198.51.100.7",
        "XPROTO=ESMTP",
        "XADDR=198.51.100.777 XPROTO=ESMTP",
        "XADDR=198.51.100.7 XPROTO=HTTP",
        "XADDR=198.51.100.7 XPROTO=ESMTP XHELO=a+0D+0Ab",
        "XADDR=198.51.100.7 XPROTO=ESMTP XHELO=a+b",
        "XADDR=198.51.100.7 XADDR=198.51.100.7 XPROTO=ESMTP",
        "XHELO=a",
    ] {
        bench.ask("RSET");
        assert_eq!(bench.ask(&format!("MAIL FROM:<a@a.test> {bad}")), ["501 5.5.4"], "{bad}");
        assert_eq!(bench.session.facts().identity(), None, "{bad}");
    }
}

/// The front end has counted them, and knows its own names and lengths: a limit of the hub's would part its recipients.
#[test]
fn m_033_s_018_the_limits_of_a_front_end_hold_for_whom_it_hands_on() {
    let few = ServerOptions { recipients_max: 100, ..options(Profile::Rfc) };
    let mut bench = Bench::with(few, true);
    bench.ask("EHLO fe.test");
    let long = "x".repeat(300);
    for (client, last) in [(" XADDR=198.51.100.7 XPROTO=ESMTP", "250 2.1.5"), ("", "452 4.5.3")] {
        assert_eq!(bench.ask(&format!("MAIL FROM:<a@a.test>{client}")), ["250 2.1.0"]);
        for number in 0..100 {
            assert_eq!(bench.ask(&format!("RCPT TO:<user{number}@b.test>")), ["250 2.1.5"], "{number}");
        }
        assert_eq!(bench.ask("RCPT TO:<one@b.test>"), [last]);
        bench.ask("RSET");
    }
    bench.ask("MAIL FROM:<a@a.test> XADDR=198.51.100.7 XPROTO=ESMTP");
    for to in ["host@front", &format!("{long}@b.test")] {
        assert_eq!(bench.ask(&format!("RCPT TO:<{to}>")), ["250 2.1.5"], "{to}");
    }
}

/// Else who was taken would get the message at each repetition for the sake of who was not.
#[test]
fn i_3_s_018_what_a_front_end_hands_on_is_taken_for_all_of_its_recipients_or_for_none() {
    let mut bench = Bench::with(options(Profile::Rfc), true);
    bench.ask("EHLO fe.test");
    let mixed = b"RCPT TO:<b@b.test>\r\nRCPT TO:<nobody@b.test>\r\nRCPT TO:<c@b.test>\r\n";
    let begin = |client: &str| [format!("MAIL FROM:<a@a.test>{client}\r\n").as_bytes(), mixed].concat();
    let handed_on = begin(" XADDR=198.51.100.7 XPROTO=ESMTP");
    bench.feed(&[&handed_on[..], b"DATA\r\nRSET\r\n"].concat());
    assert_eq!(bench.codes()[1..], ["250 2.1.5", "550 5.1.1", "250 2.1.5", "451 4.3.5", "250 2.0.0"]);
    bench.feed(&[&handed_on[..], b"BDAT 2\r\nhiBDAT 2 LAST\r\n\r\nRSET\r\n"].concat());
    assert_eq!(bench.codes()[4..], ["451 4.3.5", "503 5.5.1", "250 2.0.0"]);
    assert!(bench.messages.is_empty());
    // The next one has nothing to do with it; and a client that speaks for itself hears of each, and is served.
    bench.feed(b"MAIL FROM:<a@a.test> XADDR=198.51.100.7 XPROTO=ESMTP\r\nRCPT TO:<b@b.test>\r\nBDAT 4 LAST\r\nhi\r\n");
    assert_eq!(bench.codes()[2..], ["250 2.0.0"]);
    bench.feed(&[&begin("")[..], b"BDAT 4 LAST\r\nhi\r\n"].concat());
    assert_eq!(bench.codes()[4..], ["250 2.0.0"]);
    assert_eq!(bench.messages.len(), 2);
}

#[test]
fn m_210_m_211_m_212_lmtp_answers_per_recipient() {
    let lmtp = ServerOptions { dialect: Dialect::Lmtp, ..options(Profile::Rfc) };
    let mut bench = Bench::new(lmtp);
    assert_eq!(bench.ask("EHLO c.test")[1..], ["500 5.5.1"]);
    assert_eq!(bench.ask("HELO c.test"), ["500 5.5.1"]);
    assert_eq!(bench.ask("LHLO c.test"), ["250"]);
    // Nobody was accepted, so nobody is answered for, with MAIL or without.
    bench.feed(b"BDAT 2 LAST\r\nxyBDAT 2\r\nxyNOOP\r\n");
    assert_eq!(bench.codes(), ["503 5.5.1", "250 2.0.0"]);
    assert_eq!(Bench::rfc().ask("LHLO c.test")[1..], ["500 5.5.2"]);
    bench.feed(b"MAIL FROM:<a@a.test>\r\n");
    assert_eq!(bench.ask("DATA"), ["250 2.1.0", "503 5.5.1"]);
    bench.feed(b"BDAT 2 LAST\r\nxyNOOP\r\n");
    assert_eq!(bench.codes(), ["250 2.0.0"]);
    bench.feed(b"RCPT TO:<b@b.test>\r\nRCPT TO:<nobody@b.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
    assert_eq!(bench.codes(), ["250 2.1.5", "550 5.1.1", "250 2.1.5", "354"]);
    bench.feed(b"x\r\n.\r\n");
    assert_eq!(bench.codes(), ["250 2.0.0", "250 2.0.0"]);
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<c@b.test>\r\nDATA\r\nbare\nlf\r\n.\r\n");
    assert_eq!(bench.codes()[4..], ["550 5.5.2", "550 5.5.2"]);
}

/// One recipient's loop is his alone: the other has the message.
#[test]
fn m_211_m_080_lmtp_refuses_one_recipient_and_takes_the_message_for_the_other() {
    let mut bench = Bench::new(ServerOptions { dialect: Dialect::Lmtp, ..options(Profile::Rfc) });
    bench.at_once = false;
    bench.feed(b"LHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<c@b.test>\r\nDATA\r\n");
    bench.feed(b"x\r\n.\r\n");
    bench.out.clear();
    let looped = Refusal::fixed(554, (5, 4, 6), "Routing loop");
    for verdict in [Verdict::Refused(&looped), Verdict::Accepted { id: 1, message_id: b"" }] {
        bench.session.on_verdict(Slot(0), verdict, bench.now, &mut bench.out);
    }
    assert_eq!(bench.codes(), ["554 5.4.6", "250 2.0.0"]);
    assert_eq!(bench.session.in_flight(), 0);
}
