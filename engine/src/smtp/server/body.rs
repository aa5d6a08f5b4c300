//! DATA and BDAT (RFC 5321 §4.1.1.4, RFC 3030 §2): which octets are content, where it ends, and whether it is kept.

use super::facts::{Aimed, Event, Expect, Protocol};
use super::replies::{Failure, Say};
use super::{Chunk, Phase, ServerSession, State, Turn, Void};
use crate::smtp::Dialect;
use crate::smtp::command;
use crate::smtp::scan::{Bare, Scan, Then};
use crate::wire::{BodyType, Tick};

impl ServerSession {
    pub(super) fn on_data(&mut self, argument: &[u8], turn: &mut Turn<'_>) -> Option<Event> {
        if !argument.is_empty() {
            self.error(Say::NoArgument, turn);
            return None;
        }
        match self.state {
            State::Rcpt if self.is_binary() => return self.mixed_bodies(turn),
            State::Rcpt => {}
            State::Chunks => return self.mixed_bodies(turn),
            State::Mail => {
                self.out_of_order(Say::NoRecipients, turn);
                return None;
            }
            _ => {
                self.out_of_order(Say::BadSequence, turn);
                return None;
            }
        }
        if self.options.strict_pipelining && !turn.rest().is_empty() {
            self.close_with(Say::EarlyTalker, turn.out);
            return None;
        }
        let expected = self.envelope.as_ref().declared_bytes();
        if let Err(refusal) = self.may_have_content(expected.unwrap_or(0), turn) {
            self.excuse();
            self.replies.put_with(turn.out, |out| refusal.write(out));
            return None;
        }
        self.served();
        self.say(Say::StartMail, turn.out);
        self.phase = Phase::Data;
        self.begin_body(turn.now);
        Some(Event::Begin { expected })
    }

    /// DATA where only BDAT may come fails the transaction (M-119, M-123).
    fn mixed_bodies(&mut self, turn: &mut Turn<'_>) -> Option<Event> {
        self.state = State::Failed;
        self.error(Say::BadSequence, turn);
        self.abandon()
    }

    pub(super) fn on_bdat(&mut self, argument: &[u8], turn: &mut Turn<'_>) -> Option<Event> {
        if !self.options.extensions.chunking {
            self.error(Say::Unimplemented, turn);
            return None;
        }
        let Some((octets, last)) = command::chunk(argument) else {
            // How many octets follow is unknown: the stream is no longer in step (M-117).
            self.close_with(Say::BadChunk, turn.out);
            return None;
        };
        let size_max = self.options.size_max;
        if size_max != 0 && octets > size_max.saturating_mul(2) {
            self.phase = Phase::Closed;
            self.counts.violations = 1;
            return None;
        }
        // Behind HELO no extension holds (M-003); the octets are read all the same: they must not be taken for commands.
        let outside = self.facts.protocol == Protocol::Smtp || !matches!(self.state, State::Rcpt | State::Chunks);
        self.phase = Phase::Chunk(Chunk { left: octets, last, outside });
        if outside {
            self.begin_count(turn.now);
            self.void = Some(Void::Refused(Failure::Fixed(Say::BadSequence)));
            return None;
        }
        if self.state == State::Rcpt {
            self.void = None;
        } else if self.void.is_some() {
            // Its taker refused the body behind the 250 of the last chunk: this one hears of it (I-2).
            return None;
        }
        if octets == 0 && !last && !self.may_idle(turn) {
            return None;
        }
        if self.state == State::Rcpt {
            self.begin_body(turn.now);
            self.begun = false;
        }
        let total = self.scan.facts().bytes.saturating_add(octets);
        if size_max != 0 && total > size_max {
            self.void = Some(Void::Refused(Failure::Fixed(Say::TooLarge)));
            return self.abandon();
        }
        if self.state == State::Chunks {
            return None;
        }
        // A declaration that the first chunk exceeds already is no better known than that chunk.
        let declared = self.envelope.as_ref().declared_bytes().map(|declared| declared.max(octets));
        let expected = if last { Some(octets) } else { declared };
        if let Err(refusal) = self.may_have_content(expected.unwrap_or(octets), turn) {
            self.void = Some(Void::Refused(Failure::Policy(refusal)));
            return None;
        }
        self.begun = true;
        Some(Event::Begin { expected })
    }

    /// Octets of a body, or of a chunk that is none's, are counted from here on.
    fn begin_count(&mut self, now: Tick) {
        self.scan = Scan::new();
        self.unseen_bytes = 0;
        self.body_began = now;
        self.deadline = now.after(self.options.timers.block);
    }

    fn begin_body(&mut self, now: Tick) {
        self.begin_count(now);
        self.void = None;
        self.begun = true;
        let client = self.facts.client_address();
        let normal = |client| self.options.normalize_from.iter().any(|network| network.contains(client));
        self.normalize = client.is_some_and(normal);
    }

    fn is_binary(&self) -> bool {
        self.envelope.as_ref().body() == Some(BodyType::Binary)
    }

    fn bare(&self) -> Bare {
        if self.normalize { Bare::Normalize } else { Bare::Note }
    }

    /// Content of DATA.
    pub(super) fn data_phase(&mut self, turn: &mut Turn<'_>) -> Option<Event> {
        let rest = turn.rest();
        if rest.is_empty() {
            return Some(Event::More);
        }
        let found = self.scan.stuffed(rest, self.bare());
        let start = turn.at;
        turn.advance(found.content);
        let end = turn.at;
        self.after_found(found.then, turn);
        self.deadline = turn.now.after(self.options.timers.block);
        if self.is_endless() {
            self.void = None;
            self.close_with(Say::TooLarge, turn.out);
            return None;
        }
        if let Some(discard) = self.check_limits() {
            return Some(discard);
        }
        if found.content > 0 && self.void.is_none() {
            return Some(Event::Body(start..end));
        }
        (found.then == Then::Undecided).then_some(Event::More)
    }

    fn after_found(&mut self, then: Then, turn: &mut Turn<'_>) {
        match then {
            Then::More | Then::Undecided => {}
            Then::Dot => turn.advance(1),
            Then::End => {
                turn.advance(3);
                self.phase = Phase::DataEnd;
            }
            Then::BareLf => self.phase = Phase::DataInsert,
        }
    }

    /// More than twice the largest message came without an end (M-106).
    fn is_endless(&self) -> bool {
        let size_max = self.options.size_max;
        size_max != 0 && self.scan.facts().bytes > size_max.saturating_mul(2)
    }

    pub(super) fn insert_phase(&mut self) -> Option<Event> {
        self.scan.insert_cr();
        self.phase = Phase::Data;
        self.void.is_none().then_some(Event::Insert(b"\r"))
    }

    /// Content of a chunk, and its end.
    pub(super) fn chunk_phase(&mut self, chunk: Chunk, turn: &mut Turn<'_>) -> Option<Event> {
        if chunk.left == 0 {
            return self.end_chunk(chunk, turn.now, turn.out);
        }
        let rest = turn.rest();
        let take = usize::try_from(chunk.left).map_or(rest.len(), |left| left.min(rest.len()));
        let Some(piece) = rest.get(..take).filter(|piece| !piece.is_empty()) else { return Some(Event::More) };
        let start = turn.at;
        turn.advance(take);
        self.phase = Phase::Chunk(Chunk { left: chunk.left.saturating_sub(take as u64), ..chunk });
        self.deadline = turn.now.after(self.options.timers.block);
        let broken = self.scan_chunk(piece);
        if self.void.is_some() { broken } else { Some(Event::Body(start..turn.at)) }
    }

    /// Looks at octets of a chunk, as long as its reply hangs on them. `Discard` when they break a limit.
    fn scan_chunk(&mut self, piece: &[u8]) -> Option<Event> {
        if matches!(self.void, Some(Void::Refused(_))) {
            self.unseen_bytes = self.unseen_bytes.saturating_add(piece.len() as u64);
            return None;
        }
        self.scan.plain(piece);
        self.check_limits()
    }

    fn end_chunk(&mut self, chunk: Chunk, now: Tick, out: &mut Vec<u8>) -> Option<Event> {
        self.phase = Phase::Command;
        self.deadline = now.after(self.options.timers.command);
        if chunk.last && !chunk.outside {
            return self.finish_body(now, out);
        }
        let failure = self.take_failure();
        if chunk.outside {
            // In LMTP one reply per accepted recipient: where there is none, none (M-212).
            let nobody = self.options.dialect == Dialect::Lmtp && chunk.last && self.envelope.recipient_count() == 0;
            if !nobody {
                self.out_of_order_at(Say::BadSequence, now, out);
            }
            return None;
        }
        let Some(failure) = failure else {
            self.state = State::Chunks;
            self.say(Say::ChunkOk, out);
            return None;
        };
        self.excuse();
        self.state = State::Failed;
        self.say_failure(&failure, out);
        None
    }

    /// The last octet of a body was read.
    pub(super) fn finish_body(&mut self, now: Tick, out: &mut Vec<u8>) -> Option<Event> {
        self.phase = Phase::Command;
        self.deadline = now.after(self.options.timers.command);
        self.scan.finish();
        let discard = self.check_limits();
        if let Some(failure) = self.take_failure() {
            let replies = if self.options.dialect == Dialect::Lmtp { self.envelope.recipient_count() } else { 1 };
            for _ in 0..replies {
                self.say_failure(&failure, out);
            }
            self.end_transaction();
            return discard;
        }
        self.begun = false;
        self.completed = true;
        self.state = State::Ready;
        self.idle_commands = 0;
        self.served();
        let verdicts = if self.options.dialect == Dialect::Lmtp { self.envelope.recipient_count() } else { 1 };
        let by = now.after(self.options.timers.verdict);
        Some(Event::Message(self.replies.owe(verdicts, by)))
    }

    fn say_failure(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        let profile = self.options.profile;
        self.replies.put_with(out, |out| failure.write(profile, out));
    }

    /// Voids the body when a limit is broken. `Discard` if it had begun.
    fn check_limits(&mut self) -> Option<Event> {
        if self.void.is_some() {
            return None;
        }
        self.broken_limit()?;
        self.void = Some(Void::Limit);
        self.abandon()
    }

    /// Why the body is refused, now that all of it was seen: of several broken limits always the same one is named, however
    /// the octets were cut. No limit that is broken ever heals.
    fn take_failure(&mut self) -> Option<Failure> {
        match self.void.take()? {
            Void::Refused(failure) => Some(failure),
            Void::Limit => Some(Failure::Fixed(self.broken_limit().unwrap_or(Say::TooLarge))),
        }
    }

    /// The first limit, in a fixed order, that what was seen of the body breaks.
    fn broken_limit(&self) -> Option<Say> {
        let (options, facts) = (&*self.options, self.scan.facts());
        let binary = self.is_binary();
        if options.size_max != 0 && facts.bytes > options.size_max {
            Some(Say::TooLarge)
        } else if facts.bare && !binary {
            Some(Say::BareLine)
        } else if self.scan.longest_line() > options.text_line_bytes_max && !binary {
            Some(Say::LongTextLine)
        } else if self.scan.header_bytes() > options.header_bytes_max || facts.header_fields > options.header_fields_max
        {
            Some(Say::HeaderTooLarge)
        } else if facts.received_count > options.hops_max {
            Some(Say::Loop)
        } else if self.scan.header_nul() {
            Some(Say::HeaderNul)
        } else {
            None
        }
    }

    /// Whether what comes next is content that may be received straight into a chunk, and how much of it is certain.
    pub fn aim_hint(&self) -> Option<Expect> {
        if self.void.is_some() || !self.begun {
            return None;
        }
        match self.phase {
            Phase::Chunk(chunk) if chunk.left > 0 => Some(Expect::Chunk(chunk.left)),
            // A normalized LF needs room that is not there.
            Phase::Data if !self.normalize => Some(Expect::UntilDot),
            _ => None,
        }
    }

    /// Octets were received straight into a chunk: `octets` are those that are new, behind any that the last call left
    /// undecided. Dots are removed in place. Only while `aim_hint` says so; a body's last octets may have others behind
    /// them, which are `rest`.
    pub fn on_aimed(&mut self, octets: &mut [u8], now: Tick, out: &mut Vec<u8>) -> Aimed {
        self.deadline = now.after(self.options.timers.block);
        match self.phase {
            Phase::Chunk(chunk) => self.aimed_chunk(chunk, octets, now, out),
            Phase::Data => self.aimed_data(octets, now, out),
            _ => Aimed { content: 0, undecided: 0, rest: 0..octets.len(), event: Event::More },
        }
    }

    fn aimed_chunk(&mut self, chunk: Chunk, octets: &[u8], now: Tick, out: &mut Vec<u8>) -> Aimed {
        let take = usize::try_from(chunk.left).map_or(octets.len(), |left| left.min(octets.len()));
        let chunk = Chunk { left: chunk.left.saturating_sub(take as u64), ..chunk };
        self.phase = Phase::Chunk(chunk);
        let mut event = self.scan_chunk(octets.get(..take).unwrap_or_default());
        let void = self.void.is_some();
        if chunk.left == 0 {
            // Even behind a Discard: the reply must not wait for octets that the peer sends only after it.
            let ended = self.end_chunk(chunk, now, out);
            event = event.or(ended);
        }
        let event = event.unwrap_or(Event::More);
        let content = if void || event == Event::Discard { 0 } else { take };
        Aimed { content, undecided: 0, rest: take..octets.len(), event }
    }

    fn aimed_data(&mut self, octets: &mut [u8], now: Tick, out: &mut Vec<u8>) -> Aimed {
        let (mut read, mut written, mut undecided) = (0usize, 0usize, 0usize);
        loop {
            let found = self.scan.stuffed(octets.get(read..).unwrap_or_default(), Bare::Note);
            let from = read;
            read = read.saturating_add(found.content);
            octets.copy_within(from..read, written);
            written = written.saturating_add(found.content);
            match found.then {
                Then::Dot => read = read.saturating_add(1),
                Then::End => {
                    read = read.saturating_add(3);
                    self.phase = Phase::DataEnd;
                    break;
                }
                Then::Undecided => {
                    undecided = octets.len().saturating_sub(read);
                    octets.copy_within(read.., written);
                    read = octets.len();
                    break;
                }
                Then::More | Then::BareLf => break,
            }
        }
        let mut event = self.check_limits();
        if self.is_endless() {
            self.close_with(Say::TooLarge, out);
            event = event.or(Some(self.closing()));
        } else if self.phase == Phase::DataEnd {
            let finished = self.finish_body(now, out);
            event = event.or(finished);
        }
        let event = event.unwrap_or(Event::More);
        if self.void.is_some() && undecided > 0 {
            // Nothing is taken in any more: what was undecided is for `step` to decide.
            return Aimed { content: 0, undecided: 0, rest: written..written.saturating_add(undecided), event };
        }
        let content = if self.void.is_some() || event == Event::Discard { 0 } else { written };
        Aimed { content, undecided, rest: read..octets.len(), event }
    }
}
