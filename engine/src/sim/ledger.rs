//! The ledger of a run: what was acknowledged, what arrived where, what died when, and whether that is as promised.

use super::chance::Chance;
use super::trace::{What, digest};
use super::world::World;
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// An outcome is durable so long after a sink said it, whatever the disk and the network do meanwhile.
const SETTLED_WITHIN: Span = Span::seconds(45);

/// What the sender of a message was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet: it is under way.
    Open,
    /// 250 to the last octet.
    Acknowledged,
    /// Refused, at any step.
    Refused,
    /// Nobody knows: the connection was lost before the answer.
    Unknown,
}

/// A message came to a sink.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// When.
    pub at: Tick,
    /// The hub's task has taken our 250 to it.
    pub heard: Rc<Cell<bool>>,
}

/// What becomes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It stands on a disk, and stays there.
    Record,
    /// The sender hears of it.
    Report,
    /// Nothing: the sender wants it so.
    Silence,
}

/// One message for one recipient.
#[derive(Debug)]
struct Pair {
    recipient: String,
    verdict: Verdict,
    arrivals: Vec<Arrival>,
    /// A sink refused it for good.
    failed: bool,
    /// What follows from that, or from its time being over; and what the sender heard.
    word: Word,
    reports: Vec<Arrival>,
    /// The disk that it was kept on let it rot: it need not come.
    rotted: bool,
    /// That it failed stands on a disk, and will after any crash.
    on_record: bool,
}

impl Pair {
    fn new(recipient: String, word: Word) -> Self {
        let (arrivals, reports) = (Vec::new(), Vec::new());
        let [failed, rotted, on_record] = [false; 3];
        Self { recipient, verdict: Verdict::Open, arrivals, failed, word, reports, rotted, on_record }
    }

    /// Whether we still owe it: it has to come, or to fail and be reported to who wants that.
    fn is_owed(&self) -> bool {
        self.verdict == Verdict::Acknowledged && !self.is_over()
    }

    /// It came, or need not come any more.
    fn is_over(&self) -> bool {
        let has_failed = match self.word {
            Word::Record => self.failed || self.on_record,
            Word::Report => !self.reports.is_empty(),
            Word::Silence => self.failed,
        };
        !self.arrivals.is_empty() || self.rotted || has_failed
    }
}

#[derive(Debug)]
struct Message {
    content: Rc<[u8]>,
    begun: Tick,
    pairs: Vec<Pair>,
}

/// What was not as promised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// Which promise (docs/ROWS.md).
    pub row: &'static str,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.row, self.text)
    }
}

/// How many of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Accounts {
    /// Messages that senders began.
    pub messages: usize,
    /// (message, recipient) pairs that were answered with 250.
    pub acknowledged: usize,
    /// Pairs refused.
    pub refused: usize,
    /// Pairs of which the sender does not know.
    pub unknown: usize,
    /// Pairs that arrived at least once.
    pub delivered: usize,
    /// Pairs that a sink refused for good.
    pub failed: usize,
    /// Pairs that a server gave up because their time was over.
    pub given_up: usize,
    /// Further arrivals of the same pair, each explained by W1 or W5.
    pub duplicates: usize,
    /// Pairs whose failure was reported to the sender.
    pub reported: usize,
}

impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, acknowledged, refused, unknown, delivered, failed, given_up, duplicates, reported } = self;
        write!(
            f,
            "{messages} messages: {acknowledged} acknowledged, {refused} refused, {unknown} unknown; {delivered} delivered, \
             {failed} failed, {given_up} given up, {duplicates} duplicates, {reported} reported"
        )
    }
}

/// The ledger.
pub struct Ledger {
    world: Rc<World>,
    messages: RefCell<Vec<Message>>,
    owed: Cell<usize>,
    deaths: RefCell<Vec<Tick>>,
    breaches: RefCell<Vec<Breach>>,
    /// How long servers keep what they cannot deliver.
    expire_after: Cell<Span>,
    reports: Cell<bool>,
    /// Which message is meant by what a server calls it.
    names: RefCell<BTreeMap<String, usize>>,
}

impl Ledger {
    /// An empty one.
    pub fn new(world: &Rc<World>) -> Rc<Self> {
        Rc::new(Self {
            world: world.clone(),
            messages: RefCell::default(),
            owed: Cell::new(0),
            deaths: RefCell::default(),
            breaches: RefCell::default(),
            expire_after: Cell::new(Span(u64::MAX)),
            reports: Cell::new(true),
            names: RefCell::default(),
        })
    }

    /// From now on servers give a message up that is so old, and not before.
    pub fn expires_after(&self, span: Span) {
        self.expire_after.set(span);
    }

    /// From now on servers send no reports: failures stay on record.
    pub fn without_reports(&self) {
        self.reports.set(false);
    }

    /// A new message for these recipients: its number and content.
    pub fn intend(&self, chance: &Chance, recipients: Vec<String>, bytes: usize) -> (usize, Rc<[u8]>) {
        let mut messages = self.messages.borrow_mut();
        let number = messages.len();
        let content: Rc<[u8]> = content(chance, number, bytes).into();
        let word = |at| match self.wish(number, at) {
            _ if !self.reports.get() => Word::Record,
            Some(wish) if !wish.contains("FAILURE") => Word::Silence,
            _ => Word::Report,
        };
        let pairs = recipients.into_iter().enumerate().map(|(at, recipient)| Pair::new(recipient, word(at))).collect();
        messages.push(Message { content: content.clone(), begun: self.world.now(), pairs });
        (number, content)
    }

    /// What the sender of message `number` wants to hear about the recipient at this place, as NOTIFY says it.
    pub fn wish(&self, number: usize, at: usize) -> Option<&'static str> {
        match (number * 5 + at) % 8 {
            // Who is given up and not reported leaves nothing to be seen.
            _ if self.expire_after.get() != Span(u64::MAX) => None,
            0 => Some("NEVER"),
            1 => Some("SUCCESS,DELAY"),
            2 => Some("FAILURE"),
            _ => None,
        }
    }

    /// Changes a pair; what is owed is counted.
    fn change<R>(&self, pair: &mut Pair, change: impl FnOnce(&mut Pair) -> R) -> R {
        let before = usize::from(pair.is_owed());
        let result = change(pair);
        self.owed.set(self.owed.get() + usize::from(pair.is_owed()) - before);
        result
    }

    /// What the sender was told of the recipient at this place.
    pub fn tell(&self, message: usize, recipient: usize, verdict: Verdict) {
        self.note(&[1, message as u64, recipient as u64, verdict as u64]);
        let mut messages = self.messages.borrow_mut();
        let pair = &mut messages[message].pairs[recipient];
        self.world.tell(|| format!("message {message} to {}: {verdict:?}", pair.recipient));
        self.change(pair, |pair| pair.verdict = verdict);
    }

    /// Content came to a sink for `recipient`; the number of the message, if it is one of ours and whole.
    pub fn arrive(&self, recipient: &str, content: &[u8], arrival: Arrival) {
        let Some(number) = number_of(content) else {
            return self.breach("I-2", format!("what arrived for {recipient} is no message of ours"));
        };
        self.note(&[2, number as u64, digest(recipient.as_bytes()), digest(content)]);
        self.world.tell(|| format!("message {number} arrives for {recipient}"));
        let mut messages = self.messages.borrow_mut();
        let Some(message) = messages.get_mut(number) else {
            return self.breach("I-2", format!("message {number} arrived, which nobody sent"));
        };
        let is_whole =
            content.ends_with(&message.content) && is_trace_fields(&content[..content.len() - message.content.len()]);
        if !is_whole {
            return self.breach("I-4", format!("message {number} arrived changed for {recipient}"));
        }
        self.is_named_apart(number, &content[..content.len() - message.content.len()]);
        match message.pairs.iter_mut().find(|pair| pair.recipient == recipient) {
            Some(pair) => self.change(pair, |pair| pair.arrivals.push(arrival)),
            None => self.breach("I-2", format!("message {number} arrived for {recipient}, who was not named")),
        }
    }

    /// No server calls two messages by one name, whatever its clock was at either (F-057).
    fn is_named_apart(&self, number: usize, front: &[u8]) {
        let front = String::from_utf8_lossy(front);
        let mut names = self.names.borrow_mut();
        for name in front.lines().filter_map(|line| line.strip_prefix("\tby ")) {
            let meant = *names.entry(name.to_owned()).or_insert(number);
            if meant != number {
                self.breach("F-057", format!("messages {meant} and {number} are both named {name}"));
            }
        }
    }

    /// How many names servers have given.
    pub fn names(&self) -> usize {
        self.names.borrow().len()
    }

    /// A report came to a sink for `sender`.
    pub fn report(&self, sender: &str, content: &[u8], arrival: &Arrival) {
        let text = String::from_utf8_lossy(content);
        let number = sender.strip_prefix('n').and_then(|rest| rest.split('@').next()?.parse::<usize>().ok());
        let Some(number) = number.filter(|_| text.contains("Auto-Submitted: auto-replied\r\n")) else {
            return self.breach("I-2", format!("what arrived for {sender} is no report to a sender"));
        };
        self.note(&[4, number as u64, digest(content)]);
        if number_of(content).is_some_and(|about| about != number) {
            self.breach("I-4", format!("the sender of message {number} got a report on another"));
        }
        let mut messages = self.messages.borrow_mut();
        let Some(message) = messages.get_mut(number) else {
            return self.breach("I-2", format!("a report on message {number}, which nobody sent"));
        };
        let (pairs, age) = (&mut message.pairs, self.world.now().since(message.begun));
        let about: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Final-Recipient: rfc822; ")).collect();
        if about.is_empty() || text.matches("Action: failed\r\n").count() != about.len() {
            self.breach("I-4", format!("a report on message {number} is not whole"));
        }
        for who in about {
            self.world.tell(|| format!("the sender of message {number} hears that it failed for {who}"));
            match pairs.iter_mut().find(|pair| pair.recipient == who) {
                Some(pair) if !pair.failed && age < self.expire_after.get() => {
                    self.breach("I-2", format!("message {number} did not fail for {who}, and that was reported"));
                }
                Some(pair) if pair.word != Word::Report => {
                    self.breach("M-151", format!("the sender of message {number} heard of {who}, and was not to"));
                }
                Some(pair) => self.change(pair, |pair| pair.reports.push(arrival.clone())),
                None => self.breach("I-2", format!("a report on message {number} names {who}, whom nobody named")),
            }
        }
    }

    /// A sink refused message `number` for `recipient`, for good.
    pub fn fail(&self, recipient: &str, number: Option<usize>) {
        self.world.tell(|| format!("message {number:?} fails for {recipient}"));
        let mut messages = self.messages.borrow_mut();
        let message = number.and_then(|number| messages.get_mut(number));
        let pair = message.and_then(|message| message.pairs.iter_mut().find(|pair| pair.recipient == recipient));
        match pair {
            Some(pair) => self.change(pair, |pair| pair.failed = true),
            None => self.breach("I-2", format!("{recipient} was named in a message that nobody sent to him")),
        }
    }

    /// A disk holds that message `number` failed for `recipient`: a sink said so, or its time was over.
    pub fn is_on_record(&self, number: usize, recipient: &str) {
        let mut messages = self.messages.borrow_mut();
        let Some(message) = messages.get_mut(number) else {
            return self.breach("I-2", format!("it is on record that message {number} failed, which nobody sent"));
        };
        let age = self.world.now().since(message.begun);
        let Some(pair) = message.pairs.iter_mut().find(|pair| pair.recipient == recipient) else {
            return self.breach("I-2", format!("message {number} is said to have failed for {recipient}, not named"));
        };
        if !pair.failed && age < self.expire_after.get() {
            self.breach("M-097", format!("message {number} was given up for {recipient} after {age}"));
        }
        self.change(pair, |pair| pair.on_record = true);
    }

    /// What is on record is about to be read again from all disks.
    pub fn forget_records(&self) {
        let mut messages = self.messages.borrow_mut();
        for pair in messages.iter_mut().flat_map(|message| &mut message.pairs) {
            self.change(pair, |pair| pair.on_record = false);
        }
    }

    /// The disk has let message `number` rot: from now on it need not come, but if it does, then whole.
    pub fn rots(&self, number: usize) {
        self.note(&[3, number as u64]);
        self.world.tell(|| format!("message {number} rots"));
        let mut messages = self.messages.borrow_mut();
        for pair in messages.get_mut(number).into_iter().flat_map(|message| &mut message.pairs) {
            self.change(pair, |pair| pair.rotted = true);
        }
    }

    /// Whether message `number` has still to come to somebody.
    pub fn is_owed(&self, number: usize) -> bool {
        self.messages.borrow().get(number).is_some_and(|message| message.pairs.iter().any(Pair::is_owed))
    }

    /// A server's process or machine died.
    pub fn death(&self) {
        self.deaths.borrow_mut().push(self.world.now());
    }

    /// Something was not as promised.
    pub fn breach(&self, row: &'static str, text: String) {
        self.world.tell(|| format!("BREACH of {row}: {text}"));
        self.breaches.borrow_mut().push(Breach { row, text });
    }

    /// Whether everything acknowledged arrived or failed for good, and whether every sender knows.
    pub fn is_settled(&self) -> bool {
        self.owed.get() == 0
    }

    /// What was not as promised, over the whole run.
    pub fn audit(&self) -> Vec<Breach> {
        for (number, message) in self.messages.borrow().iter().enumerate() {
            for pair in &message.pairs {
                self.audit_pair(number, pair);
            }
        }
        let mut breaches = self.breaches.take();
        breaches.sort();
        breaches.dedup();
        breaches
    }

    fn audit_pair(&self, number: usize, pair: &Pair) {
        let who = &pair.recipient;
        if pair.is_owed() {
            let what = if pair.failed { "failed, and its sender never heard of" } else { "never came to" };
            self.breach("I-1", format!("message {number} was acknowledged and {what} {who}"));
        }
        // What a sink said of a copy that came by another way as well is no outcome of the message.
        let failed = pair.arrivals.is_empty() && pair.failed && !pair.rotted;
        if pair.verdict == Verdict::Acknowledged && pair.word == Word::Record && failed && !pair.on_record {
            self.breach("I-11", format!("message {number} failed for {who}, and no disk says so"));
        }
        if pair.verdict == Verdict::Refused && !(pair.arrivals.is_empty() && pair.reports.is_empty()) {
            self.breach("I-2", format!("message {number} was refused and came to {who}, or was reported"));
        }
        self.audit_twice(&format!("message {number} came to {who}"), &pair.arrivals);
        self.audit_twice(&format!("a report on message {number} and {who} came"), &pair.reports);
    }

    /// What came more than once has a reason.
    fn audit_twice(&self, what: &str, arrivals: &[Arrival]) {
        for again in arrivals.windows(2) {
            let (first, next) = (&again[0], &again[1]);
            // Of one of both the hub never heard (W5), or it died before the first was settled for good (W1).
            let was_in_doubt = !first.heard.get() || !next.heard.get();
            let window = first.at..=next.at.min(first.at + SETTLED_WITHIN);
            let is_explained = was_in_doubt || self.deaths.borrow().iter().any(|death| window.contains(death));
            if !is_explained {
                let [at, then] = [first.at, next.at].map(|at| at.since(Tick(0)));
                self.breach("I-3", format!("{what} at {at} and, unexplained, at {then}"));
            }
        }
    }

    /// How many of what.
    pub fn accounts(&self) -> Accounts {
        let messages = self.messages.borrow();
        let mut accounts = Accounts { messages: messages.len(), ..Accounts::default() };
        for pair in messages.iter().flat_map(|message| &message.pairs) {
            match pair.verdict {
                Verdict::Acknowledged => accounts.acknowledged += 1,
                Verdict::Refused => accounts.refused += 1,
                Verdict::Open | Verdict::Unknown => accounts.unknown += 1,
            }
            accounts.delivered += usize::from(!pair.arrivals.is_empty());
            accounts.failed += usize::from(pair.failed);
            accounts.given_up += usize::from(pair.on_record && !pair.failed && pair.arrivals.is_empty());
            accounts.reported += usize::from(!pair.reports.is_empty());
            accounts.duplicates += pair.arrivals.len().saturating_sub(1);
        }
        accounts
    }

    fn note(&self, facts: &[u64]) {
        self.world.trace.add(self.world.now(), What::Ledger, facts);
    }
}

/// The header field that names a message.
pub(super) const FIELD: &[u8] = b"X-Number: ";

/// The number of the message that `content` is, if it says.
fn number_of(content: &[u8]) -> Option<usize> {
    let at = content.windows(FIELD.len()).take(4096).position(|window| window == FIELD)?;
    let digits = content[at + FIELD.len()..].split(|&octet| octet == b'\r').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Content that is unlike any other's: lines of all lengths, some of which begin with a dot.
fn content(chance: &Chance, number: usize, bytes: usize) -> Vec<u8> {
    let mut content = format!("Subject: one of many\r\nX-Number: {number}\r\n\r\n").into_bytes();
    while content.len() < bytes {
        if chance.once_in(8) {
            content.push(b'.');
        }
        let text = chance.any();
        let length = chance.index(if chance.once_in(8) { 900 } else { 80 });
        content.extend((0..length).map(|at| b'a' + (text >> (at % 60)) as u8 % 26));
        content.extend_from_slice(b"\r\n");
    }
    content
}

/// Whether these are whole header fields that servers put in front, and nothing else.
fn is_trace_fields(front: &[u8]) -> bool {
    let begins = front.starts_with(b"Received: ") || front.starts_with(b"Return-Path: ");
    front.is_empty() || (begins && front.ends_with(b"\r\n") && !front.windows(4).any(|four| four == b"\r\n\r\n"))
}
