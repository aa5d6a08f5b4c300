//! One outbound session (RFC 5321 §3). Owns no socket, no body, no clock.
//!
//! In: `on_bytes` with whatever was received and not yet consumed, `offer` with a transaction, `on_timeout` after
//! `deadline`, `on_lost` when the connection ends. Out: commands and the places of bodies, put into an [`Outbox`], and one
//! [`ClientEvent`] per input. Each transaction offered gets exactly one of `Done`, `NotAttempted`, or a place in
//! `unfinished` after `Down`; recipients that fare differently are named by `Recipient` before. When nothing is under way and
//! nothing can be offered, the connection's time is over, or it [is refused](ClientSession::is_refused): say `quit`.
//!
//! How transactions are sent depends on what the peer offers:
//!
//! | peer | commands | under way |
//! |---|---|---|
//! | CHUNKING and PIPELINING | `RSET MAIL RCPT… BDAT n LAST` and the body, all at once | `in_flight_max` |
//! | PIPELINING | `MAIL RCPT… DATA` at once; after the 354 the body, its end, and the next `MAIL RCPT… DATA` behind it | 2 |
//! | neither | one command at a time | 1 |
//!
//! A departure: BDAT leaves before the replies to MAIL and RCPT were read, and the next transaction behind BDAT LAST (M-113
//! would wait for both; RFC 3030 §4.2 shows it so, and forbids neither). What makes it safe is how the server answers:
//! octets of a refused chunk are read, and everything behind it is 503 until RSET. A round trip per message is what it saves.
//!
//! Each pipelined BDAT transaction begins with RSET, so that a refused one cannot spoil the next; a 503 that follows a
//! refused one is "not attempted", never an outcome (M-118). Nor is a 503 to a MAIL that nothing refused is before: no message is
//! out of sequence, so it is the host that takes none, and no further one is offered. LMTP always uses DATA: with nobody accepted, BDAT LAST has no
//! reply there (M-212), which a pipelining client could not count.
//!
//! Who has to take all recipients of a transaction or none (`all_or_none`) holds back its DATA, or its first BDAT, until each
//! RCPT was answered: nothing is pipelined behind such a transaction until then, and a refusal ends it there.
//!
//! Addresses and parameters are written from their parsed forms, never copied from what a peer said (S-026).

mod facts;
mod flight;
mod options;

pub use facts::{
    Body, BodyForm, CannotSend, Class, ClientEvent, DownReason, Outbox, PeerFacts, Stage, Transaction, Unfinished,
};
pub use options::{ClientOptions, ClientTimers};

use super::Dialect;
use super::reader::{ProtocolError, Read, ReplyReader};
use super::server::ClientIdentityRef;
use super::server::replies::push_decimal;
use crate::wire::{BodyType, Reply, ReplyClass, Span, TEXT_LINE_BYTES_MAX, Tick, xtext};
use flight::{Flight, Outcome, Step};
use std::collections::VecDeque;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    /// EHLO or LHLO was sent.
    Ehlo,
    /// HELO was sent.
    Helo,
    Ready,
    Down,
}

/// One outbound session.
#[derive(Debug)]
pub struct ClientSession {
    options: Arc<ClientOptions>,
    /// Our address, where it stands for our name in EHLO.
    local: Option<IpAddr>,
    phase: Phase,
    reader: ReplyReader,
    peer: PeerFacts,
    flights: VecDeque<Flight>,
    /// To be told before anything else is read.
    next: Option<ClientEvent>,
    /// Commands of the one transaction that goes step by step: what is not out yet starts at `unsent_at`.
    commands: Vec<u8>,
    unsent_at: usize,
    /// The last transaction was refused, or left the peer inside it.
    after_refusal: bool,
    unclean: bool,
    quitting: bool,
    /// Transactions in a row that were answered with 503 behind a refused one.
    unlooked: usize,
    /// The peer said 503 to a MAIL that no refused transaction was before: it takes none.
    unwilling: bool,
    /// 421 was read: nothing behind it was attempted.
    closing: bool,
    /// The last reply, or what asked for the next one.
    since: Tick,
    /// The connection had octets to send when it was last looked at.
    is_blocked: bool,
    session_end: Tick,
    now: Tick,
}

impl ClientSession {
    /// A session on a connection just opened: it waits for the greeting.
    pub fn new(options: Arc<ClientOptions>, now: Tick) -> Self {
        let session_end = now.after(options.timers.session);
        Self {
            options,
            local: None,
            phase: Phase::Greeting,
            reader: ReplyReader::new(),
            peer: PeerFacts::default(),
            flights: VecDeque::new(),
            next: None,
            commands: Vec::new(),
            unsent_at: 0,
            after_refusal: false,
            unclean: false,
            quitting: false,
            unlooked: 0,
            unwilling: false,
            closing: false,
            since: now,
            is_blocked: false,
            session_end,
            now,
        }
    }

    /// The same on a connection whose end here is `local`: the name in EHLO where we have no qualified one (M-009).
    #[must_use]
    pub fn speaking_from(self, local: IpAddr) -> Self {
        let local = (!self.options.our_name.contains(['.', '['])).then_some(local);
        Self { local, ..self }
    }

    /// Takes what it can of `bytes`, up to the first event. Call it again with what is left until it answers `More` or
    /// `Down`. Returns the octets consumed.
    pub fn on_bytes(&mut self, bytes: &[u8], now: Tick, out: &mut impl Outbox) -> (usize, ClientEvent) {
        self.now = now;
        let mut at = 0usize;
        loop {
            if let Some(event) = self.next.take() {
                return (at, event);
            }
            if self.phase == Phase::Down {
                return (bytes.len(), ClientEvent::More);
            }
            let rest = bytes.get(at..).unwrap_or_default();
            let Self { reader, peer, phase, .. } = self;
            let (taken, read) = reader.read(rest, |number, text| {
                if *phase == Phase::Ehlo {
                    peer.line(number, text);
                }
            });
            at = at.saturating_add(taken);
            let event = match read {
                Read::More => return (at, ClientEvent::More),
                Read::Bad(error) => Some(self.down(DownReason::Protocol(error))),
                Read::Complete => {
                    self.since = now;
                    self.on_reply(out)
                }
            };
            if let Some(event) = event {
                return (at, event);
            }
        }
    }

    /// The reply that caused the last event.
    pub fn reply(&self) -> &Reply {
        self.reader.reply()
    }

    /// Transactions that may be offered now.
    pub fn room(&self) -> usize {
        if self.phase != Phase::Ready || self.quitting || self.unwilling || self.now > self.session_end {
            return 0;
        }
        let Some(last) = self.flights.back() else {
            // By DATA a second envelope has to wait for the first body.
            return if self.form() == BodyForm::Bdat { self.in_flight_max() } else { 1 };
        };
        if self.in_flight_max() == 1 || (last.form == BodyForm::Bdat && !last.last_out) {
            return 0;
        }
        if last.form == BodyForm::Bdat {
            return self.in_flight_max().saturating_sub(self.flights.len());
        }
        // The next envelope follows the body in one segment; what follows it has to wait for its 354.
        usize::from(last.step == Step::End && self.flights.len() < 2)
    }

    /// Transactions that may be under way now, those that are counted in. It grows and shrinks with what the peer answers.
    pub fn window(&self) -> usize {
        self.flights.len().saturating_add(self.room())
    }

    fn in_flight_max(&self) -> usize {
        match (self.pipelining(), self.form()) {
            (false, _) => 1,
            (true, BodyForm::Bdat) => self.options.in_flight_max.max(1),
            (true, BodyForm::Data) => 2,
        }
    }

    fn pipelining(&self) -> bool {
        self.peer.pipelining && self.options.pipelining
    }

    fn form(&self) -> BodyForm {
        let chunking = self.peer.chunking && self.options.chunking && self.options.dialect == Dialect::Smtp;
        if chunking { BodyForm::Bdat } else { BodyForm::Data }
    }

    /// Transactions under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether the peer has said 503 to a MAIL that no refused transaction was before. What was offered behind it may have
    /// outcomes still; then this connection is of no more use, and the host as good as one that refuses sessions.
    pub fn is_refused(&self) -> bool {
        self.unwilling
    }

    /// Whether transactions can be offered, now or when others are done.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready && !self.quitting
    }

    /// Sends a transaction; `token` names it in events and is free again when its last event came.
    ///
    /// # Errors
    /// `CannotSend`: nothing was sent, and the session is as before.
    pub fn offer(
        &mut self,
        token: u32,
        transaction: &Transaction<'_>,
        now: Tick,
        out: &mut impl Outbox,
    ) -> Result<(), CannotSend> {
        self.now = now;
        if self.room() == 0 {
            return Err(CannotSend::Busy);
        }
        self.check(transaction)?;
        let mut flight = Flight::new(token, self.form(), self.options.dialect == Dialect::Lmtp);
        flight.behind_refusal = self.after_refusal;
        flight.lockstep = !self.pipelining();
        self.write_commands(transaction, &mut flight)?;
        if self.flights.is_empty() {
            self.since = now;
        }
        if flight.lockstep {
            self.unsent_at = 0;
            self.flights.push_back(flight);
            self.send_next_command(out);
            return Ok(());
        }
        let until = if flight.held { self.unsent_at } else { self.commands.len() };
        out.text(self.commands.get(..until).unwrap_or_default());
        if flight.form == BodyForm::Bdat && flight.last_out {
            flight.body_out = true;
            out.body(token, BodyForm::Bdat);
        }
        self.flights.push_back(flight);
        Ok(())
    }

    /// Whether the peer takes this.
    fn check(&self, transaction: &Transaction<'_>) -> Result<(), CannotSend> {
        let (options, peer, facts) = (&*self.options, &self.peer, transaction.facts);
        let bdat = self.form() == BodyForm::Bdat;
        let binary = transaction.envelope.body() == Some(BodyType::Binary);
        if binary && !(bdat && peer.binary_mime) {
            return Err(CannotSend::Binary);
        }
        let Body::Whole(bytes) = transaction.body else {
            return if bdat { Ok(()) } else { Err(CannotSend::NeedsChunking) };
        };
        if let Some(most @ 1..) = peer.size
            && bytes > most
        {
            return Err(CannotSend::TooLarge(most));
        }
        if binary {
            return Ok(());
        }
        if facts.eight_bit && !peer.eight_bit_mime && !options.just_send_eight_bit {
            return Err(CannotSend::EightBit);
        }
        let long = self.is_long(transaction);
        if facts.bare || (long && !(bdat && (peer.binary_mime || peer.ringpost))) {
            return Err(CannotSend::Lines);
        }
        Ok(())
    }

    /// Whether it has lines that are too long for text, and nobody said that this host takes them.
    fn is_long(&self, transaction: &Transaction<'_>) -> bool {
        transaction.facts.longest_line > TEXT_LINE_BYTES_MAX && !self.options.long_lines
    }

    /// Writes all commands of a transaction into `commands`.
    fn write_commands(&mut self, transaction: &Transaction<'_>, flight: &mut Flight) -> Result<(), CannotSend> {
        let mut commands = std::mem::take(&mut self.commands);
        commands.clear();
        if self.unclean || (flight.form == BodyForm::Bdat && !flight.lockstep) {
            commands.extend_from_slice(b"RSET\r\n");
            flight.step = Step::Reset;
        }
        self.write_mail(transaction, &mut commands);
        flight.recipients = write_recipients(transaction, self.peer.dsn, &mut commands);
        flight.all_or_none = self.options.all_or_none && !self.peer.ringpost && flight.recipients > 1;
        self.unsent_at = commands.len();
        match (flight.form, transaction.body) {
            (BodyForm::Data, _) => commands.extend_from_slice(b"DATA\r\n"),
            (BodyForm::Bdat, Body::Streamed) => {}
            (BodyForm::Bdat, Body::Whole(bytes)) => write_chunk(bytes, true, &mut commands),
        }
        let has_rest = self.unsent_at < commands.len();
        flight.held = flight.all_or_none && !flight.lockstep && has_rest;
        if flight.form == BodyForm::Bdat && has_rest && !flight.held {
            flight.chunks_owed = 1;
            flight.last_out = true;
        }
        self.commands = commands;
        if flight.recipients == 0 {
            return Err(CannotSend::Nobody);
        }
        self.unclean = false;
        Ok(())
    }

    fn write_mail(&self, transaction: &Transaction<'_>, commands: &mut Vec<u8>) {
        let peer = &self.peer;
        commands.extend_from_slice(b"MAIL FROM:");
        transaction.envelope.reverse_path().write(commands);
        if let (Some(_), Body::Whole(bytes)) = (peer.size, transaction.body) {
            commands.extend_from_slice(b" SIZE=");
            push_decimal(bytes, commands);
        }
        let declared = transaction.envelope.body();
        let unknown = transaction.body == Body::Streamed && declared != Some(BodyType::SevenBit);
        // Lines too long for text go as binary where that is offered (M-054); another hub of ours takes them as they are.
        let long = self.is_long(transaction) && peer.binary_mime && !peer.ringpost;
        if declared == Some(BodyType::Binary) || long {
            commands.extend_from_slice(b" BODY=BINARYMIME");
        } else if peer.eight_bit_mime
            && (transaction.facts.eight_bit || unknown || declared == Some(BodyType::EightBit))
        {
            commands.extend_from_slice(b" BODY=8BITMIME");
        }
        if peer.dsn {
            write_report(transaction, commands);
        }
        if let Some(identity) = transaction.identity.filter(|_| peer.ringpost) {
            write_identity(identity, commands);
        }
        commands.extend_from_slice(b"\r\n");
    }

    /// Whether the next chunk of the streamed body of `token` may be announced now: a peer without PIPELINING takes it when it
    /// has answered all before it (RFC 3030 §4.2), and one to all or none waits for the answers to RCPT.
    pub fn takes_chunk(&self, token: u32) -> bool {
        let flight = self.flights.back().filter(|flight| flight.token == token);
        let Some(flight) = flight.filter(|flight| flight.lockstep || flight.all_or_none) else { return true };
        flight.step == Step::End && (flight.chunks_owed == 0 || !flight.lockstep)
    }

    /// Announces the next `bytes` octets of the streamed body of `token`, and their place in the outbox. Does nothing when
    /// the transaction is over already (M-125), which its events told, or does not end in the open.
    pub fn chunk(&mut self, token: u32, bytes: u64, last: bool, now: Tick, out: &mut impl Outbox) {
        let mut line = [0u8; 40];
        self.now = now;
        let Some(flight) = self.flights.back_mut() else { return };
        if flight.token != token || flight.last_out || flight.settled {
            return;
        }
        if flight.waits_for_us() {
            // Until now the peer owed nothing.
            self.since = now;
        }
        flight.chunks_owed = flight.chunks_owed.saturating_add(1);
        flight.last_out = last;
        flight.body_out = true;
        let mut rest = &mut line[..];
        // 40 octets hold the longest.
        let _ = write!(rest, "BDAT {bytes}{}\r\n", if last { " LAST" } else { "" });
        let left = rest.len();
        out.text(line.get(..line.len().saturating_sub(left)).unwrap_or_default());
        out.body(token, BodyForm::Bdat);
    }

    /// The taker of a streamed body gave up before its last chunk: the peer forgets it with the next RSET. Its token is free
    /// at once.
    pub fn abandon(&mut self, token: u32) {
        if let Some(flight) = self.flights.back_mut()
            && flight.token == token
            && !flight.last_out
        {
            flight.settled = true;
            flight.last_out = true;
            self.unclean = true;
            self.after_refusal = true;
            let unanswered = flight.answered < flight.recipients || flight.chunks_owed > 0;
            if !unanswered {
                self.flights.pop_back();
            }
        }
    }

    fn on_reply(&mut self, out: &mut impl Outbox) -> Option<ClientEvent> {
        let (code, class) = (self.reply().code(), self.reply().class());
        out.replied(self.flights.front().map_or(0, |flight| flight.token), self.stage());
        if code == 421 {
            self.closing = true;
            if !self.quitting {
                // Whatever is announced is out behind it; the answer is not waited for (M-014, M-015).
                out.text(b"QUIT\r\n");
            }
            return Some(self.down(DownReason::Closing));
        }
        match self.phase {
            Phase::Greeting => self.on_greeting(class, out),
            Phase::Ehlo | Phase::Helo => self.on_hello(code, class, out),
            Phase::Ready => self.on_transaction_reply(out),
            Phase::Down => None,
        }
    }

    fn on_greeting(&mut self, class: ReplyClass, out: &mut impl Outbox) -> Option<ClientEvent> {
        match class {
            ReplyClass::Positive => {}
            ReplyClass::Intermediate => return Some(self.down(DownReason::Protocol(ProtocolError::WrongClass))),
            _ => return Some(self.refused(Stage::Greeting, class, out)),
        }
        if self.is_ourselves() {
            out.text(b"QUIT\r\n");
            return Some(self.down(DownReason::Loop));
        }
        let lmtp = self.options.dialect == Dialect::Lmtp;
        self.hello(if lmtp { "LHLO" } else { "EHLO" }, out);
        self.phase = Phase::Ehlo;
        None
    }

    fn hello(&mut self, verb: &str, out: &mut impl Outbox) {
        self.commands.clear();
        // Writing to a Vec cannot fail.
        let _ = match self.local {
            None => write!(self.commands, "{verb} {}\r\n", self.options.our_name),
            Some(IpAddr::V4(address)) => write!(self.commands, "{verb} [{address}]\r\n"),
            Some(IpAddr::V6(address)) => write!(self.commands, "{verb} [IPv6:{address}]\r\n"),
        };
        out.text(&self.commands);
    }

    /// The greeting has our name and our instance.
    fn is_ourselves(&self) -> bool {
        let mut words = self.reply().text().split(' ');
        !self.options.instance.is_empty()
            && words.next().is_some_and(|name| name.eq_ignore_ascii_case(&self.options.our_name))
            && words.any(|word| word == self.options.instance)
    }

    fn on_hello(&mut self, code: u16, class: ReplyClass, out: &mut impl Outbox) -> Option<ClientEvent> {
        if class == ReplyClass::Positive {
            self.peer.extended = self.phase == Phase::Ehlo;
            self.phase = Phase::Ready;
            return Some(ClientEvent::Ready);
        }
        let unknown = matches!(code, 500 | 502 | 504);
        if self.phase == Phase::Ehlo && unknown && self.options.dialect == Dialect::Smtp {
            self.peer = PeerFacts::default();
            self.hello("HELO", out);
            self.phase = Phase::Helo;
            return None;
        }
        if class == ReplyClass::Intermediate {
            return Some(self.down(DownReason::Protocol(ProtocolError::WrongClass)));
        }
        Some(self.refused(Stage::Hello, class, out))
    }

    fn refused(&mut self, at: Stage, class: ReplyClass, out: &mut impl Outbox) -> ClientEvent {
        out.text(b"QUIT\r\n");
        self.down(DownReason::Refused { at, permanent: class == ReplyClass::Permanent })
    }

    fn on_transaction_reply(&mut self, out: &mut impl Outbox) -> Option<ClientEvent> {
        let Self { flights, reader, .. } = self;
        let Some(flight) = flights.front_mut() else {
            let reason = if self.quitting { DownReason::Quit } else { DownReason::Protocol(ProtocolError::Unasked) };
            return Some(self.down(reason));
        };
        let excused = flight.behind_refusal;
        let outcome = flight.on_reply(reader.reply(), out);
        if let Outcome::Tell(event) | Outcome::Last(Some(event)) = outcome {
            self.note_unlooked(event, excused);
        }
        let flight = self.flights.front()?;
        match outcome {
            Outcome::Wrong(error) => Some(self.down(DownReason::Protocol(error))),
            Outcome::Quiet => {
                self.go_on(out);
                None
            }
            Outcome::Tell(event) => {
                if flight.is_complete() {
                    let done = ClientEvent::Done { token: flight.token, class: Class::Accepted };
                    self.next = Some(done);
                    self.note_refusal(self.next);
                    self.land();
                } else {
                    self.go_on(out);
                }
                Some(event)
            }
            Outcome::Last(event) => {
                self.note_refusal(event);
                self.land();
                event
            }
        }
    }

    /// A 503 means "not attempted" behind a refused transaction, for as many as may be under way there; else it is the host's
    /// refusal.
    fn note_unlooked(&mut self, event: ClientEvent, excused: bool) {
        if !matches!(event, ClientEvent::NotAttempted { .. }) {
            self.unlooked = 0;
            return;
        }
        self.unlooked = self.unlooked.saturating_add(1);
        self.unwilling |= !excused || self.unlooked > self.in_flight_max();
    }

    /// A refused transaction leaves those behind it without a say (M-118).
    fn note_refusal(&mut self, event: Option<ClientEvent>) {
        let refused = !matches!(event, Some(ClientEvent::Done { class: Class::Accepted, .. }));
        self.after_refusal = refused;
        if let Some(behind) = self.flights.get_mut(1) {
            behind.behind_refusal = refused;
        }
    }

    /// The front transaction's last reply was read.
    fn land(&mut self) {
        if let Some(flight) = self.flights.pop_front() {
            let inside = flight.unclean || (flight.lockstep && flight.settled && flight.step != Step::End);
            self.unclean |= inside || (flight.lockstep && flight.is_hopeless() && flight.step != Step::End);
        }
    }

    /// Sends what waited for this reply, where commands go one by one.
    fn go_on(&mut self, out: &mut impl Outbox) {
        let Some(flight) = self.flights.front() else { return };
        if flight.is_over() {
            // Nobody to send it to: it ends here, and RSET comes before the next.
            let (token, told, class) = (flight.token, flight.settled, flight.refused.unwrap_or(Class::Refused));
            self.unclean = true;
            self.after_refusal = true;
            self.flights.pop_front();
            self.next = (!told).then_some(ClientEvent::Done { token, class });
        } else if flight.lockstep {
            self.send_next_command(out);
        } else if flight.held && flight.is_answered() {
            self.release(out);
        } else {
            self.forget_abandoned();
        }
    }

    /// Everybody was taken: what was held of the one transaction that nothing can be behind goes out.
    fn release(&mut self, out: &mut impl Outbox) {
        out.text(self.commands.get(self.unsent_at..).unwrap_or_default());
        let Some(flight) = self.flights.back_mut() else { return };
        flight.held = false;
        if flight.form == BodyForm::Bdat {
            flight.chunks_owed = 1;
            flight.last_out = true;
            flight.body_out = true;
            out.body(flight.token, BodyForm::Bdat);
        }
    }

    /// A streamed transaction that its taker gave up has no last reply.
    fn forget_abandoned(&mut self) {
        let over = |flight: &Flight| {
            flight.settled
                && flight.form == BodyForm::Bdat
                && flight.step == Step::End
                && flight.chunks_owed == 0
                && flight.last_out
        };
        if self.flights.front().is_some_and(over) {
            self.flights.pop_front();
        }
    }

    fn send_next_command(&mut self, out: &mut impl Outbox) {
        let rest = self.commands.get(self.unsent_at..).unwrap_or_default();
        let Some(lf) = memchr::memchr(b'\n', rest) else { return };
        let end = lf.saturating_add(1);
        out.text(rest.get(..end).unwrap_or_default());
        self.unsent_at = self.unsent_at.saturating_add(end);
        if self.unsent_at == self.commands.len()
            && let Some(flight) = self.flights.back_mut()
            && flight.form == BodyForm::Bdat
            && flight.last_out
        {
            flight.body_out = true;
            out.body(flight.token, BodyForm::Bdat);
        }
    }

    fn down(&mut self, reason: DownReason) -> ClientEvent {
        self.phase = Phase::Down;
        ClientEvent::Down(reason)
    }

    /// After `Down`: the transactions without an outcome, oldest first.
    pub fn unfinished(&self) -> impl Iterator<Item = (u32, Unfinished)> {
        self.flights.iter().filter(|flight| !flight.settled).map(|flight| {
            let whole = flight.body_out && (flight.form == BodyForm::Data || flight.last_out);
            let sent = whole && !flight.is_hopeless() && !self.closing;
            (flight.token, if sent { Unfinished::Unknown } else { Unfinished::NotAttempted })
        })
    }

    /// Writes QUIT behind what is under way; `Down(Quit)` comes with its reply.
    pub fn quit(&mut self, now: Tick, out: &mut impl Outbox) {
        if self.phase != Phase::Down && !self.quitting {
            self.quitting = true;
            if self.flights.is_empty() {
                self.since = now;
            }
            out.text(b"QUIT\r\n");
        }
    }

    /// The connection ended or broke: `Down`.
    pub fn on_lost(&mut self) -> ClientEvent {
        let stage = self.stage();
        self.down(if stage == Stage::Quit { DownReason::Quit } else { DownReason::Lost(stage) })
    }

    /// The connection's octets last moved at `at`; `unsent`: more of them waited. While they do, the timer starts anew with
    /// each that leaves (RFC 5321 §4.5.3.2.5), and once more with the last. To be told before every `on_timeout`.
    pub fn on_sent(&mut self, at: Tick, unsent: bool) {
        if unsent || self.is_blocked {
            self.since = self.since.max(at);
        }
        self.is_blocked = unsent;
    }

    /// When to call `on_timeout`. `unsent`: whether the connection still has octets to send.
    pub fn deadline(&self, unsent: bool) -> Tick {
        let Some(wait) = self.wait() else { return Tick::NEVER };
        self.since.after(if unsent { wait.min(self.options.timers.block) } else { wait })
    }

    fn wait(&self) -> Option<Span> {
        let timers = &self.options.timers;
        if self.phase == Phase::Ready && self.flights.front().is_some_and(Flight::waits_for_us) {
            return None;
        }
        Some(match self.stage() {
            Stage::Greeting => timers.greeting,
            Stage::Hello | Stage::Reset => timers.hello,
            Stage::Mail => timers.mail,
            Stage::Rcpt => timers.rcpt,
            Stage::Data => timers.data,
            Stage::End => timers.end,
            Stage::Quit => timers.quit,
            Stage::Idle => return None,
        })
    }

    fn stage(&self) -> Stage {
        match (self.phase, self.flights.front()) {
            (Phase::Greeting, _) => Stage::Greeting,
            (Phase::Ehlo | Phase::Helo, _) => Stage::Hello,
            (_, Some(flight)) => flight.stage(),
            (_, None) if self.quitting => Stage::Quit,
            (_, None) => Stage::Idle,
        }
    }

    /// Time has passed: `Down` when the deadline has, `More` otherwise.
    pub fn on_timeout(&mut self, now: Tick, unsent: bool) -> ClientEvent {
        self.now = now;
        if now < self.deadline(unsent) || self.phase == Phase::Down {
            return ClientEvent::More;
        }
        let stage = self.stage();
        self.down(if stage == Stage::Quit { DownReason::Quit } else { DownReason::TimedOut(stage) })
    }

    /// What the peer said about itself.
    pub fn peer(&self) -> &PeerFacts {
        &self.peer
    }

    /// Reply lines of the peer that ended in LF alone, since the last call (F-079): for whoever counts.
    pub fn take_bare_lf(&mut self) -> u64 {
        self.reader.take_bare_lf()
    }
}

/// Writes a RCPT for each recipient asked for, to a peer that knows `dsn` with what was said about reports; returns how many.
fn write_recipients(transaction: &Transaction<'_>, dsn: bool, commands: &mut Vec<u8>) -> u32 {
    let mut wanted = transaction.recipients.map(<[u32]>::iter);
    let mut count = 0u32;
    let mut next = wanted.as_mut().and_then(Iterator::next);
    for recipient in transaction.envelope.recipients() {
        if let Some(wanted) = &mut wanted {
            match next {
                None => break,
                Some(&index) if index != recipient.index => continue,
                Some(_) => next = wanted.next(),
            }
        }
        commands.extend_from_slice(b"RCPT TO:<");
        recipient.mailbox.write(commands);
        commands.push(b'>');
        if let Some(notify) = recipient.notify().filter(|_| dsn) {
            commands.extend_from_slice(b" NOTIFY=");
            notify.write(commands);
        }
        if let Some(original) = recipient.original().filter(|_| dsn) {
            commands.extend_from_slice(b" ORCPT=");
            commands.extend_from_slice(original);
        }
        commands.extend_from_slice(b"\r\n");
        count = count.saturating_add(1);
    }
    count
}

/// What MAIL said about reports, as it was said (M-149).
fn write_report(transaction: &Transaction<'_>, commands: &mut Vec<u8>) {
    if let Some(ret) = transaction.envelope.ret() {
        commands.extend_from_slice(b" RET=");
        commands.extend_from_slice(ret.name().as_bytes());
    }
    if let Some(id) = transaction.envelope.envelope_id() {
        commands.extend_from_slice(b" ENVID=");
        commands.extend_from_slice(id);
    }
}

fn write_chunk(bytes: u64, last: bool, commands: &mut Vec<u8>) {
    commands.extend_from_slice(b"BDAT ");
    push_decimal(bytes, commands);
    commands.extend_from_slice(if last { b" LAST\r\n" } else { b"\r\n" });
}

fn write_identity(identity: ClientIdentityRef<'_>, commands: &mut Vec<u8>) {
    let _ = match identity.address {
        IpAddr::V4(address) => write!(commands, " XADDR={address}"),
        IpAddr::V6(address) => write!(commands, " XADDR=IPv6:{address}"),
    };
    if !identity.ehlo_name.is_empty() {
        commands.extend_from_slice(b" XHELO=");
        xtext::encode(identity.ehlo_name, commands);
    }
    commands.extend_from_slice(b" XPROTO=");
    commands.extend_from_slice(identity.protocol.name().as_bytes());
}

#[cfg(test)]
mod tests;
