//! One session at the sink: the engine's server session, what is written down of its messages, and the faults that
//! strike it. Owns no socket and no clock; the shell shows it octets and does what its [`After`] says.
//!
//! Without faults everything that was received goes to the session in one piece. With any fault in force commands are
//! shown to it line by line, so that each can be struck on its own.

mod line;

use super::content::Content;
use super::fault::mangle::{Then, mangle};
use super::fault::plan::{Occasion, Plan};
use super::fault::{Action, FalseReply, Fault, Where};
use super::report::{REPORT_BYTES_MAX, failed_recipients};
use super::shared::{ShardCounts, Shared};
use crate::ledger::{
    Delivery, FLAG_DIFFERS, FLAG_FOR_GOOD, FLAG_NO_FAILURE, FLAG_REFUSED, FLAG_REPORT, FLAG_SILENT, FLAG_UNSTAMPED,
};
use crate::stamp::{Stamp, recipient_key};
use engine::smtp::Dialect;
use engine::smtp::server::{AcceptAll, Event, ServerOptions, ServerSession, Slot, Verdict};
use engine::wire::{ReversePathRef, Span, Tick};
use line::{declared_bytes, path_of, place_of};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;

/// Entries that a shard holds before it hands them over.
const BLOCK_ENTRIES: usize = 4096;
/// A command line without an end in sight goes to the session, which knows what to say.
const LINE_BYTES_MAX: usize = 4096;
/// Between two octets of a split reply: long enough for each to be a segment.
const SPLIT_EVERY: Span = Span::micros(200);
/// How often a slow reader reads.
const SLOW_READ_EVERY: Span = Span::millis(100);

/// What the sessions of one shard share.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) shard: usize,
    plan: RefCell<Arc<Plan>>,
    faulty: Cell<bool>,
    pub(super) paused_until: Cell<Tick>,
    pub(super) stopping: Cell<bool>,
    block: RefCell<Vec<Delivery>>,
    messages: Cell<u64>,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, shard: usize) -> Self {
        let plan = shared.plan();
        Self {
            faulty: Cell::new(!plan.is_empty()),
            plan: RefCell::new(plan),
            paused_until: Cell::new(Tick(0)),
            stopping: Cell::new(false),
            block: RefCell::new(Vec::with_capacity(BLOCK_ENTRIES)),
            messages: Cell::new(0),
            shard,
            shared,
        }
    }

    /// Takes over what the control side changed.
    pub(super) fn look(&self) {
        let plan = self.shared.plan();
        self.faulty.set(!plan.is_empty());
        *self.plan.borrow_mut() = plan;
        self.paused_until.set(self.shared.paused_until());
        self.stopping.set(self.shared.stopping());
        self.shared.keep(self.shard, &mut self.block.borrow_mut());
    }

    pub(super) fn plan(&self) -> Arc<Plan> {
        self.plan.borrow().clone()
    }

    pub(super) fn counts(&self) -> &ShardCounts {
        self.shared.counts_of(self.shard)
    }

    fn write_down(&self, delivery: Delivery) {
        let mut block = self.block.borrow_mut();
        block.push(delivery);
        if block.len() >= BLOCK_ENTRIES {
            self.shared.keep(self.shard, &mut block);
        }
    }

    fn next_message(&self) -> u64 {
        self.messages.set(self.messages.get() + 1);
        self.messages.get()
    }
}

/// How a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum End {
    /// As usual.
    #[default]
    GoOn,
    /// Never another octet; what arrives is thrown away.
    Stall,
    /// What is queued is sent, then FIN.
    Close,
    /// At once.
    Reset,
    /// FIN now; what arrives is thrown away.
    HalfClose,
}

/// What the shell does next: `out[..from]` leaves at once; the whole sink pauses for `pause`; after `wait` the rest of
/// `out` leaves, an octet `every` so often if that is not zero; then `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct After {
    pub(super) from: usize,
    pub(super) pause: Span,
    pub(super) wait: Span,
    pub(super) every: Span,
    pub(super) end: End,
    /// Octets may be left that have to be shown again.
    pub(super) again: bool,
}

impl After {
    fn end(end: End) -> Self {
        Self { end, from: usize::MAX, ..Self::default() }
    }

    /// Send what is there, and go on.
    pub(super) fn plain() -> Self {
        Self { from: usize::MAX, ..Self::default() }
    }
}

/// What struck on one occasion, sorted by what it changes.
#[derive(Default)]
struct Ruling<'a> {
    reply: Option<&'a FalseReply>,
    taken: Option<&'a Action>,
    octets: Vec<&'a Action>,
    after: After,
    read_rate: Option<u64>,
    /// What is answered now, ahead of its time.
    early: Option<Where>,
    struck: bool,
}

impl<'a> Ruling<'a> {
    fn add(&mut self, fault: &'a Fault, here: Where) {
        self.struck = true;
        match &fault.action {
            Action::Reply(reply) => self.reply = Some(reply),
            Action::Delay(span) => self.after.wait = self.after.wait + *span,
            Action::Pause(span) => self.after.pause = *span,
            Action::Stall => self.after.end = End::Stall,
            Action::Close => self.after.end = End::Close,
            Action::Reset => self.after.end = End::Reset,
            Action::HalfClose => self.after.end = End::HalfClose,
            action @ (Action::TakeClose | Action::DropClose | Action::TakeReply(_)) => self.taken = Some(action),
            Action::Split => self.after.every = SPLIT_EVERY,
            Action::SlowWrite(rate) => self.after.every = Span(1_000_000_000 / rate.max(&1)),
            Action::SlowRead(rate) => self.read_rate = Some(*rate),
            Action::Early => self.early = fault.early(here),
            octets => self.octets.push(octets),
        }
    }

    /// Does to the `replies` in `out[from..]` what was ruled, and says what the shell does.
    fn finish(mut self, out: &mut Vec<u8>, from: usize, replies: u32) -> Option<After> {
        if self.after.end != End::GoOn {
            out.truncate(from);
        } else if let Some(reply) = self.reply {
            out.truncate(from);
            (0..replies).for_each(|_| reply.write(out));
            if reply.code == 421 {
                self.after.end = End::Close;
            }
        }
        for action in &self.octets {
            if mangle(action, out, from) == Then::Close {
                self.after.end = End::Close;
            }
        }
        let plain = self.after == After::default();
        (!plain).then_some(After { from, again: true, ..self.after })
    }
}

pub(super) struct Guest {
    session: ServerSession,
    number: u64,
    dialect: Dialect,
    /// Replies that are to leave.
    pub(super) out: Vec<u8>,
    content: Content,
    /// The content under way, if it has a null reverse-path: what is to be read of it.
    report: Option<Vec<u8>>,
    in_body: bool,
    by_chunks: bool,
    read_rate: Option<u64>,
    /// The message under way was answered when it began.
    answered: bool,
    /// A command that has its answer already.
    owed: Option<Where>,
    sender: Vec<u8>,
    declared_bytes: u64,
}

impl Guest {
    pub(super) fn new(
        options: Arc<ServerOptions>,
        number: u64,
        peer: SocketAddr,
        local: SocketAddr,
        now: Tick,
    ) -> Self {
        Self {
            dialect: options.dialect,
            session: ServerSession::new(options, peer, local, false, now),
            number,
            out: Vec::with_capacity(512),
            content: Content::default(),
            report: None,
            in_body: false,
            by_chunks: false,
            read_rate: None,
            answered: false,
            owed: None,
            sender: Vec::new(),
            declared_bytes: 0,
        }
    }

    pub(super) fn deadline(&self) -> Tick {
        self.session.deadline()
    }

    /// The connection was accepted: the banner.
    pub(super) fn open(&mut self, desk: &Desk, now: Tick) -> After {
        if !desk.faulty.get() {
            self.session.greet(None, &mut self.out);
            return After::plain();
        }
        let plan = desk.plan();
        let accepted = self.rule(desk, &plan, Where::Accept, b"", now);
        if accepted.after.end != End::GoOn {
            return accepted.after;
        }
        let mut banner = self.rule(desk, &plan, Where::Banner, b"", now);
        banner.after.pause = Span(banner.after.pause.0.max(accepted.after.pause.0));
        self.session.greet(None, &mut self.out);
        banner.finish(&mut self.out, 0, 1).unwrap_or(After::plain())
    }

    pub(super) fn on_timeout(&mut self, now: Tick) -> After {
        match self.session.on_timeout(now, &mut self.out) {
            Event::Close => After::end(End::Close),
            _ => After::plain(),
        }
    }

    pub(super) fn on_shutdown(&mut self) -> After {
        match self.session.on_shutdown(&mut self.out) {
            Event::Close => After::end(End::Close),
            _ => After::plain(),
        }
    }

    /// Takes what it can of `bytes`; says how much that was, and what to do.
    pub(super) fn see(&mut self, bytes: &[u8], desk: &Desk, now: &impl Fn() -> Tick) -> (usize, After) {
        let at = now();
        if at < desk.paused_until.get() {
            return (0, After { again: true, ..After::plain() });
        }
        if !desk.faulty.get() && self.read_rate.is_none() {
            return self.plain(bytes, desk, at);
        }
        let plan = desk.plan();
        let allowed = self.read_rate.map_or(bytes.len(), |rate| (rate / 10).max(1) as usize).min(bytes.len());
        let (consumed, after) = self.struck(&bytes[..allowed], desk, &plan, now);
        match after {
            None if allowed < bytes.len() => {
                (consumed, After { from: usize::MAX, wait: SLOW_READ_EVERY, again: true, ..After::default() })
            }
            after => (consumed, after.unwrap_or(After::plain())),
        }
    }

    /// What is shown was all there `at` that moment: it is when every message in it was complete.
    fn plain(&mut self, bytes: &[u8], desk: &Desk, at: Tick) -> (usize, After) {
        let mut consumed = 0;
        loop {
            let rest = &bytes[consumed..];
            let step = self.session.step(rest, at, &AcceptAll, &mut self.out);
            consumed += step.consumed;
            match step.event {
                Event::More | Event::Paused => return (consumed, After::plain()),
                Event::Close => return (consumed, After::end(End::Close)),
                Event::Message(slot) => {
                    self.in_body = false;
                    let after = self.message(slot, desk, None, at);
                    debug_assert!(after.is_none(), "no plan, no strike");
                }
                event => self.content_event(&event, rest),
            }
        }
    }

    fn content_event(&mut self, event: &Event, shown: &[u8]) {
        match event {
            Event::Begin { .. } => {
                self.in_body = true;
                self.content.begin();
                let is_report = self.session.envelope().reverse_path() == ReversePathRef::Null;
                self.report = is_report.then(Vec::new);
            }
            Event::Body(range) => self.add(shown.get(range.clone()).unwrap_or_default()),
            Event::Insert(octets) => self.add(octets),
            Event::Discard => self.in_body = false,
            Event::More | Event::Paused | Event::Close | Event::Message(_) => {}
        }
    }

    fn add(&mut self, octets: &[u8]) {
        self.content.add(octets);
        if let Some(report) = &mut self.report {
            let room = REPORT_BYTES_MAX - report.len();
            report.extend_from_slice(&octets[..octets.len().min(room)]);
        }
    }

    /// As `plain`, command by command; ends at the first strike.
    fn struck(&mut self, bytes: &[u8], desk: &Desk, plan: &Plan, now: &impl Fn() -> Tick) -> (usize, Option<After>) {
        let mut consumed = 0;
        loop {
            let rest = &bytes[consumed..];
            if !self.in_body && !rest.is_empty() {
                let line = match memchr::memchr(b'\n', rest) {
                    Some(end) => &rest[..=end],
                    None if rest.len() > LINE_BYTES_MAX => rest,
                    None => return (consumed, None),
                };
                let (taken, after) = self.command(line, desk, plan, now);
                consumed += taken;
                if after.is_some() {
                    return (consumed, after);
                }
                if taken == 0 {
                    return (consumed, None);
                }
                continue;
            }
            let (taken, more, after) = self.step(rest, desk, plan, now);
            consumed += taken;
            if after.is_some() || !more {
                return (consumed, after);
            }
        }
    }

    /// One step of the session: octets consumed, whether to go on, and what struck.
    fn step(
        &mut self,
        shown: &[u8],
        desk: &Desk,
        plan: &Plan,
        now: &impl Fn() -> Tick,
    ) -> (usize, bool, Option<After>) {
        let step = self.session.step(shown, now(), &AcceptAll, &mut self.out);
        let after = match step.event {
            Event::More | Event::Paused => return (step.consumed, false, None),
            Event::Close => Some(After::end(End::Close)),
            Event::Message(slot) => {
                self.in_body = false;
                self.message(slot, desk, Some(plan), now())
            }
            event => {
                self.content_event(&event, shown);
                let begins = matches!(event, Event::Begin { .. });
                begins.then(|| self.body_begins(desk, plan, now())).flatten()
            }
        };
        (step.consumed, true, after)
    }

    fn body_begins(&mut self, desk: &Desk, plan: &Plan, now: Tick) -> Option<After> {
        let ruling = self.rule(desk, plan, Where::Body, b"", now);
        self.read_rate = ruling.read_rate.or(self.read_rate);
        let by_chunk = self.owed.take_if(|owed| *owed == Where::Bdat).is_some();
        self.answered = ruling.early.is_some() || by_chunk;
        if ruling.early.is_some() {
            (0..self.verdicts()).for_each(|_| self.out.extend_from_slice(b"250 2.0.0 Taken before it came\r\n"));
        }
        let plain = ruling.after == After::default() && ruling.read_rate.is_none();
        (!plain).then_some(After { from: usize::MAX, again: true, ..ruling.after })
    }

    fn command(&mut self, line: &[u8], desk: &Desk, plan: &Plan, now: &impl Fn() -> Tick) -> (usize, Option<After>) {
        let path = path_of(line);
        let here = place_of(line);
        if here == Where::Mail {
            self.sender.clear();
            self.sender.extend_from_slice(path);
            self.declared_bytes = declared_bytes(line);
        }
        self.by_chunks = here == Where::Bdat;
        // A chunk is struck when it is complete; its octets have to be read in any case.
        let recipient = if here == Where::Rcpt { path } else { b"" };
        let ruling = match here {
            Where::Bdat => Ruling::default(),
            _ => self.rule(desk, plan, here, recipient, now()),
        };
        let from = self.out.len();
        self.read_rate = ruling.read_rate.or(self.read_rate);
        let success = if here == Where::Data { 3 } else { 2 };
        let unseen = ruling.reply.is_some_and(|reply| reply.class() != success) || ruling.after.end != End::GoOn;
        if ruling.struck && unseen {
            return (line.len(), ruling.finish(&mut self.out, from, 1));
        }
        if here == Where::Mail {
            // What was answered too early in a transaction that was given up is no answer in the next.
            self.owed.take_if(|owed| *owed != here);
        }
        let (taken, _, after) = self.step(line, desk, plan, now);
        if self.owed.take_if(|owed| *owed == here && here != Where::Bdat).is_some() {
            self.out.truncate(from);
        }
        // Behind the first recipient, and no other.
        if let Some(early) = ruling.early.filter(|_| self.owed.is_none()) {
            let reply = if early == Where::Data { "354 Go on, says who" } else { "250 2.0.0 Yes, says who" };
            self.out.extend_from_slice(format!("{reply} was not asked\r\n").as_bytes());
            self.owed = Some(early);
        }
        (taken, ruling.finish(&mut self.out, from, 1).or(after))
    }

    /// A message is complete: written down as ruled, and answered.
    fn message(&mut self, slot: Slot, desk: &Desk, plan: Option<&Plan>, now: Tick) -> Option<After> {
        let from = self.out.len();
        self.declared_bytes = self.content.bytes();
        let mut ruling = match plan {
            Some(plan) => self.rule(desk, plan, Where::Eod, b"", now),
            None => Ruling::default(),
        };
        let hidden = self.answered || ruling.octets.iter().any(|action| hides(action));
        let (taken, flags) = match (ruling.taken, ruling.reply) {
            (Some(Action::DropClose), _) => (false, 0),
            (Some(Action::TakeReply(reply)), _) => {
                ruling.reply = Some(reply);
                (true, flags_of_refusal(reply))
            }
            (Some(_), _) => (true, FLAG_SILENT),
            (None, Some(reply)) => (reply.class() == 2, 0),
            // Whoever stops at the end of a message without another word did not take it.
            (None, None) => (ruling.after.end == End::GoOn, if hidden { FLAG_SILENT } else { 0 }),
        };
        if matches!(ruling.taken, Some(Action::TakeClose | Action::DropClose)) {
            ruling.after.end = End::Close;
        }
        if taken {
            self.write_down(desk, flags, now);
        }
        let verdicts = self.verdicts();
        let verdict = Verdict::Accepted { id: desk.next_message(), message_id: b"" };
        for _ in 0..verdicts {
            self.session.on_verdict(slot, verdict, now, &mut self.out);
        }
        if std::mem::take(&mut self.answered) {
            self.out.truncate(from);
        }
        let plan = plan?;
        let after = ruling.finish(&mut self.out, from, verdicts);
        after.or_else(|| self.idle(desk, plan, now))
    }

    /// Replies to the end of a message.
    fn verdicts(&self) -> u32 {
        if self.dialect == Dialect::Lmtp { self.session.envelope().recipient_count() } else { 1 }
    }

    fn idle(&mut self, desk: &Desk, plan: &Plan, now: Tick) -> Option<After> {
        let ruling = self.rule(desk, plan, Where::Idle, b"", now);
        if !ruling.struck {
            return None;
        }
        if let Some(reply) = ruling.reply {
            reply.write(&mut self.out);
        }
        let closes = ruling.reply.is_some_and(|reply| reply.code == 421) && ruling.after.end == End::GoOn;
        let end = if closes { End::Close } else { ruling.after.end };
        Some(After { from: usize::MAX, again: true, end, ..ruling.after })
    }

    fn write_down(&self, desk: &Desk, flags: u8, now: Tick) {
        let counts = desk.counts();
        let envelope = self.session.envelope();
        let bytes = self.content.bytes();
        ShardCounts::add(&counts.messages, 1);
        ShardCounts::add(&counts.bytes, bytes);
        ShardCounts::add(&counts.recipients, u64::from(envelope.recipient_count()));
        ShardCounts::add(&counts.silent, u64::from(flags & FLAG_SILENT != 0));
        let sender = match envelope.reverse_path() {
            ReversePathRef::Null => None,
            ReversePathRef::Mailbox(mailbox) => Some(Stamp::parse(mailbox.local())),
        };
        let differs = sender.flatten().is_some_and(|stamp| !self.content.is_what(&stamp));
        ShardCounts::add(&counts.content_differs, u64::from(differs));
        ShardCounts::add(&counts.reports, u64::from(sender.is_none()));
        ShardCounts::add(&counts.unstamped, u64::from(sender == Some(None)));
        let flags = flags | if differs { FLAG_DIFFERS } else { 0 };
        for recipient in envelope.recipients() {
            let key = recipient_key(recipient.local(), recipient.domain());
            let entry = |stamp: Option<Stamp>| Delivery {
                run: stamp.map_or(0, |stamp| stamp.run),
                seq: stamp.map_or(u64::MAX, |stamp| stamp.seq),
                recipient: key,
                at: now,
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                flags: flags | if stamp.is_none() { FLAG_UNSTAMPED } else { 0 },
            };
            match sender {
                Some(stamp) => desk.write_down(entry(stamp)),
                None => self.write_down_report(entry(Stamp::parse(recipient.local())), desk),
            }
        }
    }

    /// A report is about one of our messages if it went to the reverse-path of one: an entry for each recipient that failed.
    fn write_down_report(&self, entry: Delivery, desk: &Desk) {
        let entry = Delivery { flags: entry.flags | FLAG_REPORT, ..entry };
        let is_about_ours = !entry.is(FLAG_UNSTAMPED);
        let report = self.report.as_deref().filter(|_| is_about_ours);
        match report.and_then(failed_recipients) {
            None => desk.write_down(entry),
            Some(failed) if failed.is_empty() => {
                desk.write_down(Delivery { flags: entry.flags | FLAG_NO_FAILURE, ..entry });
            }
            Some(failed) => failed.into_iter().for_each(|recipient| desk.write_down(Delivery { recipient, ..entry })),
        }
    }

    fn rule<'a>(&self, desk: &Desk, plan: &'a Plan, here: Where, recipient: &[u8], now: Tick) -> Ruling<'a> {
        let occasion = Occasion {
            here,
            connection: self.number,
            sender: &self.sender,
            recipient,
            bytes: self.declared_bytes,
            since_start: now.since(desk.shared.started),
        };
        let mut strikes = Vec::new();
        plan.strike(&occasion, &mut strikes);
        if here == Where::Eod && self.by_chunks {
            plan.strike(&Occasion { here: Where::Bdat, ..occasion }, &mut strikes);
        }
        ShardCounts::add(&desk.counts().faults_struck, strikes.len() as u64);
        let mut ruling = Ruling::default();
        strikes.into_iter().for_each(|fault| ruling.add(fault, here));
        ruling
    }
}

/// What is written down of a message that is taken and answered so.
fn flags_of_refusal(reply: &FalseReply) -> u8 {
    match reply.class() {
        4 => FLAG_REFUSED,
        5 => FLAG_REFUSED | FLAG_FOR_GOOD,
        _ => 0,
    }
}

/// Whether the peer cannot know the outcome from what is left of the reply.
fn hides(action: &Action) -> bool {
    matches!(action, Action::Cut(_) | Action::NoCrlf | Action::Garbage(_) | Action::TwoDigits | Action::MixedCodes)
}

#[cfg(test)]
mod tests;
