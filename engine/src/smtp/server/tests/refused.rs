//! What is refused, and what a pipelining peer sends behind it: answered one by one, and not for ever.

use super::support::*;
use crate::smtp::Profile;
use crate::wire::Span;

/// Tarpitted answers to the commands in `stream`.
fn all_codes(bench: &mut Bench, stream: &[u8]) -> Vec<String> {
    bench.feed(stream);
    bench.wait();
    bench.codes()
}

#[test]
fn f_137_m_018_commands_behind_a_refused_mail_do_not_go_on_for_ever() {
    for from in ["refused@a.test", "nodots@local"] {
        let mut bench = Bench::rfc().hello();
        bench.ask(&format!("MAIL FROM:<{from}>"));
        let codes = all_codes(&mut bench, &b"RCPT TO:<b@b.test>\r\n".repeat(10_000));
        assert_eq!(codes.last().map(String::as_str), Some("421 4.7.0"), "{from}");
        assert!(bench.closed && codes[..codes.len() - 1].iter().all(|code| code == "503 5.5.1"), "{from}");
        assert!(codes.len() > 1_000, "as many as a transaction may have are no errors: {}", codes.len());
    }
}

#[test]
fn s_021_what_is_beyond_the_excuse_of_a_refused_mail_is_answered_late() {
    let mut options = options(Profile::Rfc);
    options.timers.tarpit = Span::seconds(5);
    let mut bench = Bench::new(options).hello();
    bench.ask("MAIL FROM:<refused@a.test>");
    bench.patient = false;
    let began = bench.now;
    bench.feed(&b"RCPT TO:<b@b.test>\r\n".repeat(10_000));
    assert!(bench.session.is_delayed());
    bench.wait();
    assert!(bench.closed && bench.now == began.after(Span::seconds(100)), "20 errors");
}

#[test]
fn f_137_refused_mails_do_not_go_on_for_ever() {
    for (line, code, most) in [
        ("MAIL FROM:<refused@a.test>", "550 5.1.1", 199),
        ("MAIL FROM:<a@a.test> SIZE=999999999999", "552 5.3.4", 199),
        // There was no room, which is no fault of the peer.
        ("MAIL FROM:<a@a.test> SIZE=452", "452 4.3.1", 10_000),
    ] {
        // EHLO brings no message nearer either.
        let mut bench = Bench::rfc().hello();
        let refused = (0..20_000).take_while(|_| bench.ask(line) == [code]).count();
        assert_eq!((refused, bench.closed), (most, true), "{line}");
        // A front end of ours is not counted.
        let mut bench = Bench::with(options(Profile::Rfc), true).hello();
        assert!((0..20_000).all(|_| bench.ask(line) == [code]), "{line}");
    }
}

/// A peer that pipelines whole transactions cannot know that a MAIL among them is refused.
#[test]
fn m_109_m_118_a_pipelined_transaction_whose_mail_is_refused_counts_as_one_refused_command() {
    let recipients = b"RCPT TO:<b@b.test>\r\n".repeat(1_000);
    let refused = &b"MAIL FROM:<refused@a.test>\r\n"[..];
    for body in [&b"DATA\r\n"[..], b"BDAT 2\r\nxxBDAT 2 LAST\r\nxx"] {
        for (profile, times) in [(Profile::Rfc, 90), (Profile::Exchange, 50)] {
            let mut bench = Bench::new(options(profile)).hello();
            let transaction = [&b"RSET\r\n"[..], refused, &recipients, body].concat();
            for _ in 0..times {
                let codes = all_codes(&mut bench, &transaction);
                assert!(codes[2..].iter().all(|code| code == "503 5.5.1"), "{codes:?}");
            }
            assert!(!bench.closed);
        }
    }
    // Nor does what is behind it lose anything: here without RSET between.
    let mut bench = Bench::rfc().hello();
    let good = &b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 2 LAST\r\nok"[..];
    let codes = all_codes(&mut bench, &[refused, &recipients, b"BDAT 2 LAST\r\nxx", good].concat());
    assert_eq!((bench.messages.len(), codes.last().map(String::as_str)), (1, Some("250 2.0.0")));
}

#[test]
fn m_033_f_138_recipients_beyond_the_most_cost_the_others_nothing() {
    for (profile, most) in [(Profile::Rfc, 1_000), (Profile::Exchange, 200)] {
        for body in [&b"DATA\r\n.\r\n"[..], b"BDAT 0 LAST\r\n"] {
            let mut bench = Bench::new(options(profile)).hello();
            let recipients = b"RCPT TO:<b@b.test>\r\n".repeat(most + 150);
            let codes = all_codes(&mut bench, &[b"MAIL FROM:<a@a.test>\r\n", &recipients[..], body].concat());
            let put_off = codes.iter().filter(|code| *code == "452 4.5.3").count();
            assert!(put_off == 150 && codes.last().is_some_and(|last| last.starts_with("250 2.")), "{codes:?}");
            assert_eq!(bench.messages[0].to.len(), most);
        }
    }
}
