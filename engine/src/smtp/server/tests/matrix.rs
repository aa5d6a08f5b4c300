//! The matrix of docs/ROWS.md: every command in every state, as it is, in lower case, and pipelined behind NOOP.

use super::support::*;
use crate::smtp::Profile;

const STATES: [(&str, &[&str]); 6] = [
    ("C", &[]),
    ("E", &["EHLO c.test"]),
    ("M", &["EHLO c.test", "MAIL FROM:<a@a.test>"]),
    ("R", &["EHLO c.test", "MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>"]),
    ("B", &["EHLO c.test", "MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>", "BDAT 0"]),
    ("X", &["EHLO c.test", "MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>", "BDAT 0", "DATA"]),
];

/// The command with what follows it in the same breath, and per state of `STATES`: the reply, and the state it leads to.
type Row = (&'static str, [&'static str; 6]);

const ROWS: &[Row] = &[
    ("EHLO d.test", ["250 E", "250 E", "250 E", "250 E", "250 E", "250 E"]),
    ("HELO d.test", ["250 E", "250 E", "250 E", "250 E", "250 E", "250 E"]),
    (
        "MAIL FROM:<x@x.test>",
        ["503 5.5.1 C", "250 2.1.0 M", "503 5.5.1 M", "503 5.5.1 R", "503 5.5.1 B", "503 5.5.1 X"],
    ),
    ("RCPT TO:<x@x.test>", ["503 5.5.1 C", "503 5.5.1 E", "250 2.1.5 R", "250 2.1.5 R", "503 5.5.1 B", "503 5.5.1 X"]),
    ("DATA", ["503 5.5.1 C", "503 5.5.1 E", "503 5.5.1 M", "354 D", "503 5.5.1 X", "503 5.5.1 X"]),
    ("BDAT 3\r\nx\r\n", ["503 5.5.1 C", "503 5.5.1 E", "503 5.5.1 M", "250 2.0.0 B", "250 2.0.0 B", "503 5.5.1 X"]),
    (
        "BDAT 3 LAST\r\nx\r\n",
        ["503 5.5.1 C", "503 5.5.1 E", "503 5.5.1 M", "250 2.0.0 E", "250 2.0.0 E", "503 5.5.1 X"],
    ),
    ("BDAT 3\r\nx\ny", ["503 5.5.1 C", "503 5.5.1 E", "503 5.5.1 M", "550 5.5.2 X", "550 5.5.2 X", "503 5.5.1 X"]),
    ("BDAT 3 LAST\r\nx\ny", ["503 5.5.1 C", "503 5.5.1 E", "503 5.5.1 M", "550 5.5.2 E", "550 5.5.2 E", "503 5.5.1 X"]),
    ("RSET", ["250 2.0.0 C", "250 2.0.0 E", "250 2.0.0 E", "250 2.0.0 E", "250 2.0.0 E", "250 2.0.0 E"]),
    ("NOOP", ["250 2.0.0 C", "250 2.0.0 E", "250 2.0.0 M", "250 2.0.0 R", "250 2.0.0 B", "250 2.0.0 X"]),
    ("QUIT", ["221 2.0.0 Q", "221 2.0.0 Q", "221 2.0.0 Q", "221 2.0.0 Q", "221 2.0.0 Q", "221 2.0.0 Q"]),
    ("VRFY x", ["252 2.5.0 C", "252 2.5.0 E", "252 2.5.0 M", "252 2.5.0 R", "252 2.5.0 B", "252 2.5.0 X"]),
    ("EXPN x", ["502 5.5.1 C", "502 5.5.1 E", "502 5.5.1 M", "502 5.5.1 R", "502 5.5.1 B", "502 5.5.1 X"]),
    ("HELP", ["214 2.0.0 C", "214 2.0.0 E", "214 2.0.0 M", "214 2.0.0 R", "214 2.0.0 B", "214 2.0.0 X"]),
    ("XYZZY x", ["500 5.5.2 C", "500 5.5.2 E", "500 5.5.2 M", "500 5.5.2 R", "500 5.5.2 B", "500 5.5.2 X"]),
];

fn reach(state: usize, profile: Profile) -> Bench {
    let mut bench = Bench::new(options(profile));
    for line in STATES[state].1 {
        bench.ask(line);
    }
    bench.out.clear();
    bench
}

/// In which state the session is, told by what it answers.
fn state_of(bench: &mut Bench) -> &'static str {
    if bench.closed {
        return "Q";
    }
    bench.feed(b"");
    if bench.session.aim_hint().is_some() {
        return "D";
    }
    match bench.ask("RCPT TO:<probe@b.test>").join("").as_str() {
        "250 2.1.5" if bench.session.envelope().recipient_count() == 1 => "M",
        "250 2.1.5" => "R",
        _ => match bench.ask("BDAT 0").join("").as_str() {
            "250 2.0.0" => "B",
            _ if bench.ask("MAIL FROM:<probe@a.test>").join("") == "250 2.1.0" => "E",
            _ => {
                bench.ask("EHLO probe.test");
                bench.out.clear();
                "C or X"
            }
        },
    }
}

fn run(prefix: &str, lower: bool) {
    for &(command, cells) in ROWS {
        for (state, cell) in cells.iter().enumerate() {
            let (name, _) = STATES[state];
            let mut bench = reach(state, Profile::Rfc);
            let text = if command.contains("\r\n") { command.to_owned() } else { format!("{command}\r\n") };
            let text = if lower { text.to_ascii_lowercase() } else { text };
            bench.feed(format!("{prefix}{text}").as_bytes());
            let codes = bench.codes();
            let (expected, next) = cell.rsplit_once(' ').expect("reply and state");
            let replies = if prefix.is_empty() { vec![expected] } else { vec!["250 2.0.0", expected] };
            assert_eq!(codes, replies, "{command:?} in {name}");
            let reached = state_of(&mut bench);
            assert!(reached.contains(next), "{command:?} in {name} led to {reached}, not {next}");
        }
    }
}

#[test]
fn matrix_every_command_in_every_state() {
    run("", false);
}

#[test]
fn matrix_every_command_in_every_state_in_lower_case() {
    run("", true);
}

#[test]
fn matrix_every_command_in_every_state_pipelined_behind_noop() {
    run("NOOP\r\n", false);
    run("noop\r\n", true);
}

#[test]
fn matrix_in_profile_exchange_only_the_published_codes_differ() {
    for &(command, cells) in ROWS {
        for (state, cell) in cells.iter().enumerate() {
            let (name, _) = STATES[state];
            let mut bench = reach(state, Profile::Exchange);
            let text = if command.contains("\r\n") { command.to_owned() } else { format!("{command}\r\n") };
            bench.feed(text.as_bytes());
            let (expected, _) = cell.rsplit_once(' ').expect("reply and state");
            let expected = match (expected, name) {
                ("503 5.5.1", "C") => "503 5.5.2",
                ("500 5.5.2", _) => "500 5.3.3",
                ("250 2.0.0", _) if command.contains("LAST") => "250 2.6.0",
                (same, _) => same,
            };
            assert_eq!(bench.codes(), [expected], "{command:?} in {name}");
        }
    }
}
