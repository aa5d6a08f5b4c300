//! One inbound session (RFC 5321 §4). Owns no socket, no buffer of content, no clock.
//!
//! In: `greet` once, then `step` with whatever was received and not yet consumed, `on_aimed` for content received straight
//! into a chunk, `on_verdict` for each complete message, `on_timeout` after `deadline`, `on_shutdown`. Out: replies, put
//! into the caller's buffer, and exactly one [`Event`] per input.
//!
//! The session runs ahead of its verdicts, up to `slots_max` messages; replies leave in the order of their commands.
//! Octets of content are never copied here: events name ranges of what was shown. A tail that further octets must decide
//! (half a command, a dot at the end) is left unconsumed, so a caller shows it again with what follows.
//!
//! The answer to a command in error may be delayed (`timers.tarpit`): the session then waits like a paused one.
//!
//! Bounds: a command line of `command_line_bytes_max` octets, 64 KiB of replies held behind owed verdicts, the envelope of
//! `recipients_max` recipients; nothing grows with the length of lines, chunks or bodies. Steady state allocates nothing
//! per command or message.
//!
//! | file | what |
//! |---|---|
//! | `facts` | the contract: events, verdicts, policy |
//! | `options` | limits, timers, extensions by profile |
//! | `commands` | command lines, greeting, the small commands |
//! | `transaction` | MAIL, RCPT and their parameters |
//! | `body` | DATA, BDAT and content |
//! | `replies` | order and texts |

mod body;
mod commands;
mod facts;
mod options;
pub(super) mod replies;
mod transaction;

pub use facts::{
    AcceptAll, Aimed, ClientIdentity, ClientIdentityRef, Event, Expect, Policy, Protocol, SessionCounts, SessionFacts,
    Slot, Step, Verdict,
};
pub use options::{Extensions, RECIPIENTS_HANDED_ON_MAX, ServerOptions, ServerTimers};

use super::scan::Scan;
use crate::wire::{ContentFacts, ENVELOPE_KEPT_BYTES, EnvelopeBuf, EnvelopeRef, Refusal, Span, Tick};
use replies::{Failure, HELD_BYTES_MAX, Replies, Say};
use std::net::SocketAddr;
use std::sync::Arc;

/// How long a command is waited for while connections or memory run short (F-121).
const PRESSED_WAIT: Span = Span::minutes(1);
/// The average that content must reach then, from its second minute on, in octets per second (F-122).
const PRESSED_BYTES_PER_SECOND_MIN: u64 = 128;
/// Chunks behind a refused transaction that are no errors, as its recipients are none: a pipelining peer sent them before it
/// knew (F-137).
const EXCUSED_CHUNKS_MAX: u32 = 1_000;

/// Where the session stands between commands: the states of docs/ROWS.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Greeted with 554: only QUIT is served.
    NoService,
    /// C: greeted, no EHLO.
    Connected,
    /// E: EHLO or HELO done.
    Ready,
    /// M: MAIL accepted.
    Mail,
    /// R: a recipient accepted.
    Rcpt,
    /// B: a chunk accepted, not the last.
    Chunks,
    /// X: a chunk failed, not the last; RSET is awaited.
    Failed,
}

/// What the next octets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Command,
    /// The rest of a line that was too long.
    SkipLine,
    /// Content up to the dot.
    Data,
    /// A bare LF comes next; its CR is to be inserted first.
    DataInsert,
    /// The dot was read.
    DataEnd,
    Chunk(Chunk),
    /// Nothing: what comes is ignored (M-063, F-148).
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    /// Octets still to come.
    left: u64,
    last: bool,
    /// No transaction to take it: read, discarded, refused, and nothing changes (M-118).
    outside: bool,
}

/// The caller's side of one input.
struct Turn<'a> {
    bytes: &'a [u8],
    at: usize,
    now: Tick,
    policy: &'a dyn Policy,
    out: &'a mut Vec<u8>,
}

impl<'a> Turn<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self, octets: usize) {
        self.at = self.at.saturating_add(octets);
    }
}

/// The reply to a command in error, which its sender has to wait for (S-021).
#[derive(Debug)]
struct Delayed {
    until: Tick,
    reply: Failure,
}

/// Why nothing more of the body being received is handed out.
#[derive(Debug)]
enum Void {
    /// Refused whatever is in it.
    Refused(Failure),
    /// It broke a limit: which one is said when all of it was seen.
    Limit,
}

/// One inbound session.
#[derive(Debug)]
pub struct ServerSession {
    options: Arc<ServerOptions>,
    facts: SessionFacts,
    state: State,
    phase: Phase,
    envelope: EnvelopeBuf,
    scan: Scan,
    replies: Replies,
    /// Why the body being received will be refused; nothing of it is handed out any more.
    void: Option<Void>,
    /// Bare LF of this body become CRLF (M-044).
    normalize: bool,
    /// `Begin` was reported, and neither `Message` nor `Discard` yet.
    begun: bool,
    /// `Message` was reported: the next step clears the transaction.
    completed: bool,
    shutting_down: bool,
    /// A verdict did not come in time: nothing more is said (M-049).
    silent: bool,
    /// Something in this transaction was refused by policy: so many commands behind it may be out of order through no fault
    /// of the peer.
    excused: u32,
    /// A recipient of this transaction, which a front end hands on, was refused.
    lacks_recipients: bool,
    delayed: Option<Delayed>,
    errors: u32,
    counts: SessionCounts,
    idle_commands: u32,
    refused_recipients: u32,
    /// Commands put off by 4yz since a recipient was last accepted.
    put_off: u32,
    deadline: Tick,
    session_end: Tick,
    body_began: Tick,
    /// Octets of the body being received that were discarded without a look.
    unseen_bytes: u64,
    /// Connections or memory run short here.
    pressed: bool,
}

impl ServerSession {
    /// A session on a connection just accepted. `trusted_front_end`: the peer is one of ours and may say who it speaks for.
    pub fn new(
        options: Arc<ServerOptions>,
        peer: SocketAddr,
        local: SocketAddr,
        trusted_front_end: bool,
        now: Tick,
    ) -> Self {
        let session_end = options.timers.session.map_or(Tick::NEVER, |span| now.after(span));
        let deadline = now.after(options.timers.command);
        Self {
            options,
            facts: SessionFacts::new(peer, local, trusted_front_end),
            state: State::Connected,
            phase: Phase::Command,
            envelope: EnvelopeBuf::new(),
            scan: Scan::new(),
            replies: Replies::default(),
            void: None,
            normalize: false,
            begun: false,
            completed: false,
            shutting_down: false,
            silent: false,
            excused: 0,
            lacks_recipients: false,
            delayed: None,
            errors: 0,
            counts: SessionCounts::default(),
            idle_commands: 0,
            refused_recipients: 0,
            put_off: 0,
            deadline,
            session_end,
            body_began: now,
            unseen_bytes: 0,
            pressed: false,
        }
    }

    /// Octets came before the greeting (M-017): where the listener refuses who talks early, `greet` will say so.
    pub fn on_early_talk(&mut self) {
        self.facts.early_talker = true;
    }

    /// Puts the greeting, or `refuse` in its place: 5yz leaves the session to QUIT (M-001), 4yz closes it (M-016).
    pub fn greet(&mut self, refuse: Option<&Refusal>, out: &mut Vec<u8>) -> Event {
        self.greet_on(b"", refuse, out)
    }

    /// As `greet`; the greeting of profile `exchange` says the date, where one is given.
    pub fn greet_on(&mut self, date: &[u8], refuse: Option<&Refusal>, out: &mut Vec<u8>) -> Event {
        match refuse {
            None if self.facts.early_talker && self.options.refuse_early_talkers => {
                self.say(Say::EarlyTalker, out);
                self.state = State::NoService;
            }
            None => self.write_greeting(date, out),
            Some(refusal) => {
                refusal.write(out);
                if !refusal.is_permanent() {
                    self.phase = Phase::Closed;
                    return Event::Close;
                }
                self.state = State::NoService;
            }
        }
        Event::More
    }

    /// Takes what it can of `bytes`, up to the first event. Call it again with what is left until it answers `More`,
    /// `Paused` or `Close`.
    pub fn step(&mut self, bytes: &[u8], now: Tick, policy: &dyn Policy, out: &mut Vec<u8>) -> Step {
        if self.completed {
            self.end_transaction();
        }
        let mut turn = Turn { bytes, at: 0, now, policy, out };
        let event = loop {
            if self.delayed.is_some() {
                break Event::Paused;
            }
            let event = match self.phase {
                Phase::Command => self.command_phase(&mut turn),
                Phase::SkipLine => skip_line(&mut self.phase, &mut turn),
                Phase::Data => self.data_phase(&mut turn),
                Phase::DataInsert => self.insert_phase(),
                Phase::DataEnd => self.finish_body(turn.now, turn.out),
                Phase::Chunk(chunk) => self.chunk_phase(chunk, &mut turn),
                Phase::Closed => {
                    turn.at = turn.bytes.len();
                    Some(self.closing())
                }
            };
            if let Some(event) = event {
                break event;
            }
        };
        Step { consumed: turn.at, event }
    }

    /// One verdict on a message: the only one, or in LMTP that of its next accepted recipient. What waited behind it leaves.
    /// A slot that is owed nothing is ignored.
    pub fn on_verdict(&mut self, slot: Slot, verdict: Verdict<'_>, now: Tick, out: &mut Vec<u8>) {
        let options = &self.options;
        self.replies.settle(slot, out, |out| {
            replies::write_verdict(verdict, options.profile, &options.fqdn, out);
        });
        if self.phase == Phase::Command && self.replies.in_flight() == 0 {
            self.deadline = now.after(self.options.timers.command);
        }
    }

    /// The body being received is refused by its taker: the rest of it is swallowed, `refusal` is its reply, or that of the
    /// next chunk when the last one has its reply already, and no further event speaks of it. Does nothing when no body is
    /// being received.
    pub fn refuse_content(&mut self, refusal: &Refusal) {
        if self.begun {
            self.begun = false;
            self.void = Some(Void::Refused(Failure::Policy(refusal.clone())));
        }
    }

    /// When to call `on_timeout`.
    pub fn deadline(&self) -> Tick {
        self.verdict_deadline().min(self.peer_deadline())
    }

    /// When the oldest verdict owed is no longer waited for: `on_timeout` then closes without a reply, whatever the peer
    /// does (M-049).
    pub fn verdict_deadline(&self) -> Tick {
        if self.silent { Tick::NEVER } else { self.replies.owed_by() }
    }

    /// Whether connections or memory run short here: who says nothing is waited for less, and content must keep a least rate
    /// (F-121, F-122). A front end of ours has its time: it speaks for many.
    pub fn set_pressed(&mut self, pressed: bool) {
        self.pressed = pressed && !self.facts.trusted_front_end;
    }

    /// How long a command is waited for between transactions, if less than usual. In one the whole wait stands (M-071).
    fn command_deadline(&self) -> Tick {
        let spared = if self.pressed { self.options.timers.command.0.saturating_sub(PRESSED_WAIT.0) } else { 0 };
        Tick(self.deadline.0.saturating_sub(spared))
    }

    fn peer_deadline(&self) -> Tick {
        if let Some(delayed) = &self.delayed {
            return delayed.until;
        }
        let in_body = matches!(self.phase, Phase::Data | Phase::DataInsert | Phase::Chunk(_));
        if in_body {
            return self.deadline.min(self.rate_deadline());
        }
        if self.replies.in_flight() > 0 {
            // The peer waits for us.
            return Tick::NEVER;
        }
        let between = matches!(self.state, State::NoService | State::Connected | State::Ready);
        if between { self.command_deadline().min(self.session_end) } else { self.deadline }
    }

    /// The content's average rate falls below the least at this instant, unless more comes (M-071).
    fn rate_deadline(&self) -> Tick {
        let configured = u64::from(self.options.timers.content_bytes_per_second_min);
        let least = if self.pressed { configured.max(PRESSED_BYTES_PER_SECOND_MIN) } else { configured };
        match self.scan.facts().bytes.saturating_add(self.unseen_bytes).checked_div(least) {
            None => Tick::NEVER,
            Some(seconds) => self.body_began.after(Span::seconds(seconds.saturating_add(60))),
        }
    }

    /// Nothing was received from `since` to `now`, for a reason that is not the peer's: of the time that it has for content,
    /// and of what its rate is the mean over, that is no part (F-122).
    pub fn on_held_up(&mut self, since: Tick, now: Tick) {
        let span = now.since(since);
        self.body_began = self.body_began.after(span);
        self.deadline = self.deadline.after(span);
    }

    /// Whether the answer to a command in error waits for its time (S-021): nothing is read meanwhile, `deadline` is that
    /// time, and after it what was left unconsumed is to be shown again.
    pub fn is_delayed(&self) -> bool {
        self.delayed.is_some()
    }

    /// A delayed answer does not wait any longer.
    pub fn answer_now(&mut self, out: &mut Vec<u8>) {
        if let Some(Delayed { reply, .. }) = self.delayed.take() {
            let profile = self.options.profile;
            self.replies.put_with(out, |out| reply.write(profile, out));
        }
    }

    /// Time has passed: 421 and `Close` when the deadline has, `More` otherwise, or when it was a delayed answer's. `Close`
    /// without a reply when it was that of a verdict.
    pub fn on_timeout(&mut self, now: Tick, out: &mut Vec<u8>) -> Event {
        if self.replies.in_flight() > 0 && now >= self.verdict_deadline() {
            self.silent = true;
            self.phase = Phase::Closed;
            return self.closing();
        }
        if now < self.deadline() {
            return Event::More;
        }
        if self.is_delayed() {
            self.answer_now(out);
            self.deadline = now.after(self.options.timers.command);
            return Event::More;
        }
        if self.phase != Phase::Closed {
            self.close_with(Say::TimedOut, out);
        }
        self.closing()
    }

    /// The service goes down: 421 4.3.2 at the next command boundary (M-012). A body being received still reaches its
    /// verdict. Answers as `step` would.
    pub fn on_shutdown(&mut self, out: &mut Vec<u8>) -> Event {
        self.shutting_down = true;
        self.answer_now(out);
        match self.phase {
            Phase::Command | Phase::SkipLine => {
                self.close_with(Say::ShutDown, out);
                self.closing()
            }
            Phase::Closed => self.closing(),
            _ => Event::More,
        }
    }

    /// The service ends now: 421 4.3.2 wherever the session stands, in the middle of a body too, which is void then
    /// (F-010). Verdicts that are owed still come before it. Answers as `step` would.
    pub fn on_last_call(&mut self, out: &mut Vec<u8>) -> Event {
        if self.phase != Phase::Closed {
            self.close_with(Say::ShutDown, out);
        }
        self.closing()
    }

    /// The envelope of the transaction: complete at `Message`.
    pub fn envelope(&self) -> EnvelopeRef<'_> {
        self.envelope.as_ref()
    }

    /// Facts about the content: complete at `Message`.
    pub fn content(&self) -> &ContentFacts {
        self.scan.facts()
    }

    /// Facts about the session.
    pub fn facts(&self) -> &SessionFacts {
        &self.facts
    }

    /// What the listener's sessions share.
    pub fn options(&self) -> &Arc<ServerOptions> {
        &self.options
    }

    /// Whether nothing is open and nothing is owed: the connection may be closed without anybody's loss.
    pub fn idle(&self) -> bool {
        self.phase == Phase::Command
            && self.delayed.is_none()
            && matches!(self.state, State::NoService | State::Connected | State::Ready)
            && self.replies.in_flight() == 0
    }

    /// Messages whose verdict is owed.
    pub fn in_flight(&self) -> usize {
        self.replies.in_flight()
    }

    /// Octets of memory that the session holds beyond its own size: at most twice `envelope_bytes_max` (a buffer that
    /// doubles), and 64 KiB of replies with what one command adds to them.
    pub fn held_bytes(&self) -> usize {
        self.envelope.capacity_bytes().saturating_add(self.replies.held_bytes())
    }

    /// Of these, those of an envelope that is larger than most: the caller charges them to whatever bounds its memory, and
    /// says by `Policy::room` when that allows no more.
    pub fn envelope_excess_bytes(&self) -> usize {
        self.envelope.capacity_bytes().saturating_sub(ENVELOPE_KEPT_BYTES)
    }

    fn is_full(&self) -> bool {
        self.replies.in_flight() >= self.options.slots_max as usize || self.replies.held_bytes() > HELD_BYTES_MAX
    }

    /// Clears the transaction; the session stays greeted (M-052).
    fn end_transaction(&mut self) {
        self.completed = false;
        self.excused = 0;
        self.lacks_recipients = false;
        self.facts.identified = false;
        self.envelope.clear();
        if !matches!(self.state, State::NoService | State::Connected) {
            self.state = State::Ready;
        }
    }

    /// A begun body is void.
    fn abandon(&mut self) -> Option<Event> {
        std::mem::take(&mut self.begun).then_some(Event::Discard)
    }

    fn closing(&mut self) -> Event {
        if let Some(discard) = self.abandon() {
            return discard;
        }
        if self.replies.in_flight() > 0 && !self.silent { Event::Paused } else { Event::Close }
    }

    /// What happened since the last call, for whoever counts.
    pub fn take_counts(&mut self) -> SessionCounts {
        std::mem::take(&mut self.counts)
    }

    fn close_with(&mut self, say: Say, out: &mut Vec<u8>) {
        match say {
            Say::Bye | Say::ShutDown => {}
            Say::TimedOut => self.counts.timeouts = 1,
            _ => self.counts.violations = 1,
        }
        self.say(say, out);
        self.phase = Phase::Closed;
    }

    fn say(&mut self, say: Say, out: &mut Vec<u8>) {
        self.replies.put(say.line(self.options.profile), out);
    }
}

/// Discards up to the CRLF; a CR at the end stays for its LF.
fn skip_line(phase: &mut Phase, turn: &mut Turn<'_>) -> Option<Event> {
    let rest = turn.rest();
    if let Some(at) = memchr::memmem::find(rest, b"\r\n") {
        turn.advance(at.saturating_add(2));
        *phase = Phase::Command;
        return None;
    }
    let kept = usize::from(rest.last() == Some(&b'\r'));
    turn.advance(rest.len().saturating_sub(kept));
    Some(Event::More)
}

#[cfg(test)]
mod tests;
