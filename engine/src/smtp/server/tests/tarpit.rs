//! Answers to commands in error that their sender has to wait for (S-021, S-022).

use super::support::*;
use crate::smtp::Profile;
use crate::smtp::server::*;
use crate::wire::{Span, Tick};

const WAIT: Span = Span::seconds(5);

fn slow(more: impl FnOnce(&mut ServerOptions)) -> ServerOptions {
    let mut options = options(Profile::Rfc);
    options.timers.tarpit = WAIT;
    more(&mut options);
    options
}

/// A client that sends on while answers are delayed.
fn impatient(options: ServerOptions) -> Bench {
    let mut bench = Bench::new(options);
    bench.patient = false;
    bench
}

fn bench() -> Bench {
    impatient(slow(|_| ())).hello()
}

#[test]
fn s_021_the_answer_to_a_command_in_error_waits_and_nothing_overtakes_it() {
    let mut bench = bench();
    let began = bench.now;
    bench.feed(b"MAIL FROM:<a@a.test>\r\nXYZZY\r\nRCPT TO:<b@b.test>\r\nNOOP\r\n");
    assert_eq!(bench.codes(), ["250 2.1.0"]);
    assert!(bench.session.is_delayed() && !bench.session.idle());
    assert_eq!(bench.session.deadline(), began.after(WAIT));
    bench.now = Tick(began.after(WAIT).0 - 1);
    assert_eq!(bench.session.on_timeout(bench.now, &mut bench.out), Event::More);
    bench.feed(b"");
    assert_eq!(bench.codes(), Vec::<String>::new(), "not a tick early");
    bench.wait();
    assert_eq!(bench.codes(), ["500 5.5.2", "250 2.1.5", "250 2.0.0"]);
    // The wait is not held against the peer: its own time starts anew.
    assert_eq!(bench.session.deadline(), bench.now.after(bench.session.options().timers.command));
}

#[test]
fn s_021_refusals_for_good_wait_and_those_for_now_do_not() {
    for (line, code, waits) in [
        ("RCPT TO:<nobody@b.test>", "550 5.1.1", true),
        ("RCPT TO:<later@b.test>", "451 4.3.0", false),
        ("RCPT TO:<b@b.test>", "250 2.1.5", false),
        ("RCPT TO:<>", "501 5.1.3", true),
        ("MAIL FROM:<b@b.test>", "503 5.5.1", true),
        ("EHLO bad_name", "501 5.5.4", true),
        ("EXPN x", "502 5.5.1", true),
    ] {
        let mut bench = bench();
        bench.ask("MAIL FROM:<a@a.test>");
        bench.feed(format!("{line}\r\n").as_bytes());
        assert_eq!(bench.session.is_delayed(), waits, "{line}");
        bench.wait();
        assert_eq!(bench.codes(), [code], "{line}");
    }
}

#[test]
fn s_018_s_021_a_trusted_front_end_never_waits() {
    let mut bench = Bench::with(slow(|_| ()), true).hello();
    bench.patient = false;
    assert_eq!(bench.ask("XYZZY"), ["500 5.5.2"]);
}

#[test]
fn s_021_beyond_the_most_errors_421_comes_at_once() {
    let mut bench = impatient(slow(|options| options.errors_max = 2)).hello();
    bench.feed(b"X\r\nX\r\nX\r\nNOOP\r\n");
    let began = bench.now;
    bench.wait();
    assert_eq!(bench.codes(), ["500 5.5.2", "500 5.5.2", "421 4.7.0"]);
    assert_eq!(bench.now, began.after(Span(2 * WAIT.0)));
    assert!(bench.closed);
}

#[test]
fn m_020_s_021_a_session_out_of_step_closes_behind_its_delayed_reply() {
    let mut bench = bench();
    bench.feed(b"NOOP\nNOOP\r\n");
    assert!(bench.out.is_empty() && !bench.closed);
    bench.wait();
    assert_eq!(bench.codes(), ["500 5.5.2"]);
    assert!(bench.closed);
}

#[test]
fn m_109_s_021_a_delayed_answer_stays_behind_owed_verdicts_which_do_not_wait_for_it() {
    for verdict_first in [true, false] {
        let mut bench = bench();
        bench.at_once = false;
        bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 2 LAST\r\n\r\nXYZZY\r\nNOOP\r\n");
        assert_eq!(bench.codes(), ["250 2.1.0", "250 2.1.5"]);
        if verdict_first {
            bench.settle();
            assert_eq!(bench.codes(), ["250 2.0.0"]);
            bench.wait();
            assert_eq!(bench.codes(), ["500 5.5.2", "250 2.0.0"]);
        } else {
            bench.wait();
            assert!(bench.out.is_empty());
            bench.settle();
            assert_eq!(bench.codes(), ["250 2.0.0", "500 5.5.2", "250 2.0.0"]);
        }
    }
}

#[test]
fn m_012_s_021_a_shutdown_does_not_wait_for_a_delayed_answer() {
    let mut bench = bench();
    bench.feed(b"XYZZY\r\n");
    assert_eq!(bench.session.on_shutdown(&mut bench.out), Event::Close);
    assert_eq!(bench.codes(), ["500 5.5.2", "421 4.3.2"]);
}

#[test]
fn s_022_a_session_may_be_answered_at_once_instead() {
    let mut bench = bench();
    bench.feed(b"XYZZY\r\nNOOP\r\n");
    bench.session.answer_now(&mut bench.out);
    bench.feed(b"");
    assert_eq!(bench.codes(), ["500 5.5.2", "250 2.0.0"]);
    assert!(!bench.session.is_delayed());
}
