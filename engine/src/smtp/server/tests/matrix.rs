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

/// The other way into X.
const BY_FAILED_CHUNK: &[&str] = &["EHLO c.test", "MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>", "BDAT 5\r\nx\ny"];

fn reach(state: usize, profile: Profile) -> Bench {
    reach_by(STATES[state].1, profile)
}

fn reach_by(lines: &[&str], profile: Profile) -> Bench {
    let mut bench = Bench::new(options(profile));
    for line in lines {
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
            _ => {
                bench.feed(b"MAIL FROM:<probe@a.test>\r\n");
                match bench.replies().join("").as_str() {
                    "250 2.1.0 Sender OK" => "E",
                    "503 5.5.1 Send hello first" => "C",
                    _ => "X",
                }
            }
        },
    }
}

fn run(prefix: &str, lower: bool) {
    for &(command, cells) in ROWS {
        for (state, cell) in cells.iter().enumerate() {
            let (name, lines) = STATES[state];
            for way in [lines, BY_FAILED_CHUNK].into_iter().take(1 + usize::from(name == "X")) {
                let mut bench = reach_by(way, Profile::Rfc);
                let text = if command.contains("\r\n") { command.to_owned() } else { format!("{command}\r\n") };
                let text = if lower { text.to_ascii_lowercase() } else { text };
                bench.feed(format!("{prefix}{text}").as_bytes());
                let codes = bench.codes();
                let (expected, next) = cell.rsplit_once(' ').expect("reply and state");
                let replies = if prefix.is_empty() { vec![expected] } else { vec!["250 2.0.0", expected] };
                assert_eq!(codes, replies, "{command:?} in {name}");
                assert_eq!(state_of(&mut bench), next, "where {command:?} in {name} led");
            }
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

#[test]
fn m_008_an_address_with_a_zone_is_no_name_in_any_profile() {
    for profile in [Profile::Rfc, Profile::Exchange, Profile::Bench] {
        for (name, code) in [("[IPv6:fe80::1%eth0]", "501 5.5.4"), ("[IPv6:fe80::1]", "250"), ("[192.0.2.1]", "250")] {
            assert_eq!(Bench::new(options(profile)).ask(&format!("EHLO {name}")).last().expect("a reply"), code);
        }
    }
    let odd = Bench::new(options(Profile::Exchange)).ask("EHLO my_pc%1");
    assert_eq!(odd.last().expect("a reply"), "250", "what is merely odd stays tolerated (M-005)");
}

#[test]
fn m_022_the_least_set_of_commands_is_always_there() {
    for profile in [Profile::Rfc, Profile::Exchange, Profile::Bench] {
        for command in [
            "EHLO c.test",
            "HELO c.test",
            "MAIL FROM:<a@a.test>",
            "RCPT TO:<b@b.test>",
            "DATA",
            "RSET",
            "NOOP",
            "QUIT",
            "VRFY x",
        ] {
            let mut bench = Bench::new(options(profile));
            bench.out.clear();
            let codes = bench.ask(command);
            assert!(!codes[0].starts_with("500") && !codes[0].starts_with("502"), "{command}: {codes:?}");
        }
    }
}
