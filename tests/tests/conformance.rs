//! The scripts of `tests/scripts`, played against the bare session: whole, octet by octet, cut at every place, and with
//! content received straight into chunks.

#![forbid(unsafe_code)]

use engine::smtp::server::{Aimed, Event, Policy, ServerOptions, ServerSession, SessionFacts, Slot, Verdict};
use engine::smtp::{Dialect, Profile};
use engine::wire::{RecipientRef, Refusal, ReversePathRef, Tick};
use std::path::Path;
use std::sync::Arc;
use tests::script::{Case, Expected, Line, read_all};

/// Cuts tried per case at most; longer dialogues are cut at so many places.
const CUTS_MAX: usize = 600;

/// Refuses `nobody`.
struct Directory;

impl Policy for Directory {
    fn mail(&self, _: &SessionFacts, _: ReversePathRef<'_>) -> Result<(), Refusal> {
        Ok(())
    }
    fn rcpt(&self, _: &SessionFacts, _: ReversePathRef<'_>, to: RecipientRef<'_>) -> Result<(), Refusal> {
        if to.local() == b"nobody" { Err(Refusal::fixed(550, (5, 1, 1), "User unknown")) } else { Ok(()) }
    }
    fn room(&self, _: u64) -> Result<(), Refusal> {
        Ok(())
    }
}

struct Played {
    session: ServerSession,
    out: Vec<u8>,
    unread: Vec<u8>,
    undecided: Vec<u8>,
    body: Vec<u8>,
    messages: Vec<(String, Vec<u8>)>,
    closed: bool,
    aimed: bool,
}

impl Played {
    fn new(case: &Case, profile: &str, aimed: bool) -> Self {
        let mut options = ServerOptions::new(profile.parse::<Profile>().expect("a profile"), "mx.test");
        options.dialect = if case.lmtp { Dialect::Lmtp } else { Dialect::Smtp };
        // Time stands still here: no answer is delayed.
        options.timers.tarpit = engine::wire::Span::ZERO;
        for (name, value) in &case.options {
            set(&mut options, name, value);
        }
        let at = "192.0.2.1:25".parse().expect("an address");
        let mut session = ServerSession::new(Arc::new(options), at, at, false, Tick(0));
        let mut out = Vec::new();
        session.greet(None, &mut out);
        let (unread, undecided, body) = (Vec::new(), Vec::new(), Vec::new());
        Self { session, out, unread, undecided, body, messages: Vec::new(), closed: false, aimed }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.aimed && self.session.aim_hint().is_some() && self.unread.is_empty() {
            let mut octets = std::mem::take(&mut self.undecided);
            octets.extend_from_slice(bytes);
            let Aimed { content, undecided, rest, event } = self.session.on_aimed(&mut octets, Tick(0), &mut self.out);
            self.body.extend_from_slice(&octets[..content]);
            self.undecided = octets[content..content + undecided].to_vec();
            self.unread = octets[rest].to_vec();
            self.event(event);
        } else {
            self.unread.extend_from_slice(bytes);
        }
        while !self.closed {
            let step = self.session.step(&self.unread, Tick(0), &Directory, &mut self.out);
            let shown = std::mem::take(&mut self.unread);
            self.unread = shown[step.consumed..].to_vec();
            match step.event {
                Event::More | Event::Paused => return,
                Event::Body(range) => self.body.extend_from_slice(&shown[range]),
                other => self.event(other),
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Begin { .. } | Event::Discard => self.body.clear(),
            Event::Insert(octets) => self.body.extend_from_slice(octets),
            Event::Message(slot) => self.message(slot),
            Event::Close => self.closed = true,
            Event::More | Event::Paused | Event::Body(_) => {}
        }
    }

    fn message(&mut self, slot: Slot) {
        let envelope = self.session.envelope();
        let mut text = match envelope.reverse_path() {
            ReversePathRef::Null => "<>".to_owned(),
            ReversePathRef::Mailbox(mailbox) => mailbox.to_string(),
        };
        for to in envelope.recipients() {
            text += &format!(" {}", to.mailbox);
        }
        let verdicts = if self.session.options().dialect == Dialect::Lmtp { envelope.recipient_count() } else { 1 };
        self.messages.push((text, std::mem::take(&mut self.body)));
        for _ in 0..verdicts {
            let verdict = Verdict::Accepted { id: 1, message_id: b"" };
            self.session.on_verdict(slot, verdict, Tick(0), &mut self.out);
        }
    }

    /// The next reply with all its lines.
    fn reply(&mut self) -> Option<String> {
        let mut end = 0;
        loop {
            let line = self.out[end..].iter().position(|&octet| octet == b'\n')? + 1;
            end += line;
            if self.out[end - line + 3] != b'-' {
                break;
            }
        }
        Some(String::from_utf8(self.out.drain(..end).collect()).expect("ASCII"))
    }
}

fn set(options: &mut ServerOptions, name: &str, value: &str) {
    let (number, flag) = (value.parse().unwrap_or(0), value == "true");
    match name {
        "size_max" => options.size_max = number,
        "recipients_max" => options.recipients_max = u32::try_from(number).expect("a count"),
        "errors_max" => options.errors_max = u32::try_from(number).expect("a count"),
        "strict_pipelining" => options.strict_pipelining = flag,
        "strict_blanks" => options.strict_blanks = flag,
        "binary_mime" => options.extensions.binary_mime = flag,
        "dsn" => options.extensions.dsn = flag,
        "normalize" => {
            options.normalize_from = flag.then(|| "0.0.0.0/0".parse().expect("everybody")).into_iter().collect()
        }
        _ => panic!("no option is called {name}"),
    }
}

/// How a piece of the client's octets, `at` octets into all of them, is cut.
type Cut<'a> = &'a dyn Fn(usize, &[u8]) -> Vec<usize>;

fn play(case: &Case, profile: &str, aimed: bool, how: &str, cut: Cut<'_>) {
    let mut played = Played::new(case, profile, aimed);
    let (mut sent, mut messages) = (0, 0);
    let story = format!("{} ({profile}, {how})", case.name);
    for line in &case.lines {
        match line {
            Line::Client(piece) => {
                let mut from = 0;
                for to in cut(sent, piece).into_iter().chain([piece.len()]) {
                    played.feed(&piece[from..to]);
                    from = to;
                }
                sent += piece.len();
            }
            Line::Reply(all) => {
                let expected = Expected::for_profile(all, profile);
                let reply = played.reply().unwrap_or_default();
                assert!(expected.holds(&reply), "{story}: {reply:?} is not {expected:?}");
            }
            Line::Nothing => assert_eq!(played.reply(), None, "{story}"),
            Line::Close => assert!(played.closed, "{story}: still open"),
            Line::Message { envelope, content } => {
                let (of, body) = played.messages.get(messages).unwrap_or_else(|| panic!("{story}: no message"));
                assert_eq!(
                    (of, body.escape_ascii().to_string()),
                    (envelope, content.escape_ascii().to_string()),
                    "{story}"
                );
                messages += 1;
            }
        }
    }
    assert_eq!(played.reply(), None, "{story}: a reply that nobody expected");
    assert_eq!(played.messages.len(), messages, "{story}: a message that nobody expected");
}

fn cases() -> Vec<Case> {
    let cases = read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"));
    assert!(cases.len() >= 40, "the scripts are where they should be");
    cases
}

#[test]
fn scripts_hold_when_pieces_arrive_whole() {
    for case in cases() {
        for profile in &case.profiles {
            play(&case, profile, false, "whole", &|_, _| Vec::new());
        }
    }
}

#[test]
fn scripts_hold_octet_by_octet() {
    for case in cases().iter().filter(|case| !case.whole) {
        for profile in &case.profiles {
            for aimed in [false, true] {
                play(case, profile, aimed, "octet by octet", &|_, piece| (1..piece.len()).collect());
            }
        }
    }
}

#[test]
fn scripts_hold_at_every_cut() {
    for case in cases().iter().filter(|case| !case.whole) {
        let octets: usize =
            case.lines.iter().map(|line| if let Line::Client(piece) = line { piece.len() } else { 0 }).sum();
        for profile in &case.profiles {
            for place in (0..octets).step_by(octets.div_ceil(CUTS_MAX).max(1)) {
                for aimed in [false, true] {
                    play(case, profile, aimed, &format!("cut at {place}"), &|at, piece| {
                        if (at + 1..at + piece.len()).contains(&place) { vec![place - at] } else { Vec::new() }
                    });
                }
            }
        }
    }
}
