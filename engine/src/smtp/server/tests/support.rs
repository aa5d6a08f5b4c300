//! A session with a taker of its messages: what a shell does, in memory.

use crate::smtp::Profile;
use crate::smtp::server::*;
use crate::wire::{ContentFacts, EnvelopeRef, RecipientRef, Refusal, ReversePathRef, Tick};
use std::sync::Arc;

/// A message as its taker got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub from: String,
    pub to: Vec<String>,
    pub content: Vec<u8>,
    pub facts: ContentFacts,
}

/// Refuses mailboxes by their local-part.
pub(super) struct ByName;

pub(super) const UNKNOWN: Refusal = Refusal::fixed(550, (5, 1, 1), "User unknown");
pub(super) const LATER: Refusal = Refusal::fixed(451, (4, 3, 0), "Try again");

impl Policy for ByName {
    fn mail(&self, _: &SessionFacts, from: ReversePathRef<'_>) -> Result<(), Refusal> {
        match from {
            ReversePathRef::Mailbox(mailbox) if mailbox.local() == b"refused" => Err(UNKNOWN),
            _ => Ok(()),
        }
    }
    fn rcpt(&self, _: &SessionFacts, _: ReversePathRef<'_>, to: RecipientRef<'_>) -> Result<(), Refusal> {
        match to.local() {
            b"nobody" => Err(UNKNOWN),
            b"later" => Err(LATER),
            _ => Ok(()),
        }
    }
    fn room(&self, octets: u64) -> Result<(), Refusal> {
        if octets == 452 { Err(Refusal::fixed(452, (4, 3, 1), "Insufficient system resources")) } else { Ok(()) }
    }
}

/// How octets come to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Content is shown by `step`.
    Shown,
    /// Content is received straight into chunks as soon as the session hints so.
    Aimed,
}

pub(super) struct Bench {
    pub session: ServerSession,
    pub out: Vec<u8>,
    pub messages: Vec<Message>,
    pub closed: bool,
    pub now: Tick,
    /// Verdicts are given at once, or when `settle` is called.
    pub at_once: bool,
    pub way: Way,
    /// Every second message is refused by its taker.
    pub refuse_every_second: bool,
    /// The client waits for answers that are delayed (S-021), as most do.
    pub patient: bool,
    /// A body is refused by its taker as soon as it has more octets than these.
    pub refuse_beyond: usize,
    owed: Vec<(Slot, u32)>,
    unread: Vec<u8>,
    undecided: Vec<u8>,
    body: Option<Vec<u8>>,
}

pub(super) fn options(profile: Profile) -> ServerOptions {
    ServerOptions { strict_pipelining: false, ..ServerOptions::new(profile, "mx.test") }
}

impl Bench {
    pub fn new(options: ServerOptions) -> Self {
        Self::with(options, false)
    }

    pub fn with(options: ServerOptions, trusted: bool) -> Self {
        Self::begun(options, trusted, |_| ())
    }

    /// A session to which something happens before it is greeted.
    pub fn greeted(options: ServerOptions, before: impl FnOnce(&mut ServerSession)) -> Self {
        Self::begun(options, false, before)
    }

    fn begun(options: ServerOptions, trusted: bool, before: impl FnOnce(&mut ServerSession)) -> Self {
        let (peer, local) = ("192.0.2.1:1000".parse().expect("address"), "192.0.2.2:25".parse().expect("address"));
        let now = Tick(1);
        let mut session = ServerSession::new(Arc::new(options), peer, local, trusted, now);
        before(&mut session);
        let mut out = Vec::new();
        assert_eq!(session.greet(None, &mut out), Event::More);
        Self {
            session,
            out,
            messages: Vec::new(),
            closed: false,
            now,
            at_once: true,
            way: Way::Shown,
            refuse_every_second: false,
            patient: true,
            refuse_beyond: usize::MAX,
            owed: Vec::new(),
            unread: Vec::new(),
            undecided: Vec::new(),
            body: None,
        }
    }

    pub fn rfc() -> Self {
        Self::new(options(Profile::Rfc))
    }

    /// Receives `bytes` and does what a shell does.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.way == Way::Aimed && self.session.aim_hint().is_some() && self.unread.is_empty() && !self.closed {
            self.aimed(bytes);
        } else {
            self.unread.extend_from_slice(bytes);
        }
        self.work();
        if self.patient {
            self.wait();
        }
    }

    fn aimed(&mut self, bytes: &[u8]) {
        let mut octets = std::mem::take(&mut self.undecided);
        octets.extend_from_slice(bytes);
        let Aimed { content, undecided, rest, event } = self.session.on_aimed(&mut octets, self.now, &mut self.out);
        match &mut self.body {
            // A body that is complete is taken: it is in memory.
            Some(body) if event != Event::More => body.extend_from_slice(&octets[..content]),
            Some(_) => self.keep(&octets[..content]),
            None => {}
        }
        self.undecided = octets[content..content + undecided].to_vec();
        self.unread = octets[rest].to_vec();
        if self.session.aim_hint().is_none() {
            // Of a body that was given up they may still be the beginning of its end.
            self.unread.splice(0..0, self.undecided.drain(..));
        }
        self.on_event(event);
    }

    fn work(&mut self) {
        while !self.closed {
            let step = self.session.step(&self.unread, self.now, &ByName, &mut self.out);
            let shown = std::mem::take(&mut self.unread);
            self.unread = shown[step.consumed..].to_vec();
            match step.event {
                Event::More | Event::Paused => return,
                Event::Body(range) => {
                    assert!(range.end <= step.consumed && !range.is_empty());
                    self.keep(&shown[range]);
                }
                other => self.on_event(other),
            }
            if self.way == Way::Aimed && self.session.aim_hint().is_some() && !self.unread.is_empty() {
                let rest = std::mem::take(&mut self.unread);
                self.aimed(&rest);
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Begin { .. } => assert!(self.body.replace(Vec::new()).is_none(), "one body at a time"),
            Event::Insert(octets) => self.keep(octets),
            Event::Message(slot) => self.message(slot),
            Event::Discard => assert!(self.body.take().is_some(), "only what began is discarded"),
            Event::Close => self.closed = true,
            Event::More | Event::Paused | Event::Body(_) => {}
        }
    }

    fn keep(&mut self, octets: &[u8]) {
        let body = self.body.as_mut().expect("begun");
        body.extend_from_slice(octets);
        if body.len() > self.refuse_beyond {
            self.give_up_body();
        }
    }

    /// Its taker has no room for what it got of a body.
    pub fn give_up_body(&mut self) {
        self.session.refuse_content(&LATER);
        self.body = None;
    }

    fn message(&mut self, slot: Slot) {
        let content = self.body.take().expect("begun");
        let envelope = EnvelopeRef::parse(self.session.envelope().bytes()).expect("sound");
        let from = match envelope.reverse_path() {
            ReversePathRef::Null => "<>".to_owned(),
            ReversePathRef::Mailbox(mailbox) => mailbox.to_string(),
        };
        let to: Vec<_> = envelope.recipients().map(|to| to.mailbox.to_string()).collect();
        let facts = *self.session.content();
        assert_eq!(facts.bytes, content.len() as u64);
        let verdicts = if self.session.facts().protocol() == Protocol::Lmtp { to.len() } else { 1 };
        self.messages.push(Message { from, to, content, facts });
        self.owed.push((slot, u32::try_from(verdicts).expect("few")));
        if self.at_once {
            self.settle();
        }
    }

    /// Gives every verdict owed: accepted, numbered by message.
    pub fn settle(&mut self) {
        for (slot, verdicts) in std::mem::take(&mut self.owed) {
            for _ in 0..verdicts {
                let verdict = match self.refuse_every_second && slot.0 % 2 == 1 {
                    true => Verdict::Refused(&LATER),
                    false => Verdict::Accepted { id: u64::from(slot.0), message_id: b"" },
                };
                self.session.on_verdict(slot, verdict, self.now, &mut self.out);
            }
        }
        self.work();
    }

    /// Lets time pass until no answer is delayed.
    pub fn wait(&mut self) {
        while self.session.is_delayed() && !self.closed {
            self.now = self.session.deadline();
            let event = self.session.on_timeout(self.now, &mut self.out);
            self.on_event(event);
            self.work();
        }
    }

    /// The replies since the last time, one line each, without the greeting's and EHLO's further lines.
    pub fn replies(&mut self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut self.out)).expect("ASCII");
        assert!(text.is_empty() || text.ends_with("\r\n"));
        text.split_terminator("\r\n").filter(|line| line.as_bytes()[3] == b' ').map(str::to_owned).collect()
    }

    /// Sends a line and returns the code and status of each reply to it.
    pub fn ask(&mut self, line: &str) -> Vec<String> {
        self.feed(line.as_bytes());
        self.feed(b"\r\n");
        self.codes()
    }

    /// Code and status of each reply since the last time.
    pub fn codes(&mut self) -> Vec<String> {
        self.replies().iter().map(|line| code_of(line)).collect()
    }

    /// EHLO, and the greeting is forgotten.
    pub fn hello(mut self) -> Self {
        self.feed(b"EHLO client.test\r\n");
        self.out.clear();
        self
    }
}

/// `250 2.1.0` of `250 2.1.0 Sender OK`; `354` of `354 Start`.
pub(super) fn code_of(line: &str) -> String {
    let mut words = line.split(' ');
    let code = words.next().unwrap_or_default();
    match words.next() {
        Some(status) if status.split('.').count() == 3 && status.len() < 12 && code != "220" && status != "mx.test" => {
            format!("{code} {status}")
        }
        _ => code.to_owned(),
    }
}
