//! Command lines and the commands outside transactions: greeting, EHLO, RSET, NOOP, VRFY, HELP, QUIT.

use super::facts::Protocol;
use super::replies::{Failure, Say, push_decimal};
use super::{Delayed, EXCUSED_CHUNKS_MAX, Event, Phase, ServerSession, State, Turn};
use crate::smtp::command::{self, Verb};
use crate::smtp::{Dialect, FRONT_END_KEYWORD, Profile};
use crate::wire::{Span, Tick, is_ehlo_name};
use memchr::memchr;
use std::io::Write;

/// Longest name that EHLO takes, in octets (RFC 5321 §4.5.3.1.2).
const EHLO_NAME_BYTES_MAX: usize = 255;

impl ServerSession {
    /// Takes the next command line, if it is complete.
    pub(super) fn command_phase(&mut self, turn: &mut Turn<'_>) -> Option<Event> {
        if self.shutting_down {
            self.close_with(Say::ShutDown, turn.out);
            return None;
        }
        if self.is_full() {
            return Some(Event::Paused);
        }
        let rest = turn.rest();
        let line_bytes_max = self.options.command_line_bytes_max;
        let Some(lf) = memchr(b'\n', rest.get(..line_bytes_max).unwrap_or(rest)) else {
            if rest.len() < line_bytes_max {
                return Some(Event::More);
            }
            self.phase = Phase::SkipLine;
            self.error(Say::LineTooLong, turn);
            return None;
        };
        turn.advance(lf.saturating_add(1));
        self.deadline = turn.now.after(self.options.timers.command);
        let line = rest.get(..lf).unwrap_or_default();
        let Some(line) = line.strip_suffix(b"\r").filter(|line| memchr(b'\r', line).is_none()) else {
            self.error(Say::BadLine, turn);
            if !turn.rest().is_empty() {
                // Where the peer's next command begins is anybody's guess (M-020).
                self.phase = Phase::Closed;
                self.counts.violations = 1;
            }
            return None;
        };
        self.command(trim_end(line), turn)
    }

    fn command(&mut self, line: &[u8], turn: &mut Turn<'_>) -> Option<Event> {
        let (verb, argument) = command::parse(line);
        if !is_clean(line, verb) {
            self.error(Say::BadLine, turn);
            return None;
        }
        if self.state == State::NoService && verb != Verb::Quit {
            self.error(Say::NoService, turn);
            return None;
        }
        match verb {
            Verb::Mail => self.on_mail(argument, turn),
            Verb::Rcpt => self.on_rcpt(argument, turn),
            Verb::Data => return self.on_data(argument, turn),
            Verb::Bdat => return self.on_bdat(argument, turn),
            Verb::Rset => return self.on_reset(argument, turn),
            Verb::Quit => return self.on_quit(argument, turn),
            Verb::Ehlo | Verb::Helo | Verb::Lhlo => return self.on_hello(verb, argument, turn),
            Verb::Noop => self.idle_command(Say::Noop, turn),
            Verb::Help => self.idle_command(Say::Help, turn),
            Verb::Vrfy if argument.is_empty() => self.error(Say::NeedsArgument, turn),
            Verb::Vrfy => self.idle_command(Say::Vrfy, turn),
            Verb::Unimplemented => self.error(Say::Unimplemented, turn),
            Verb::Foreign if self.state == State::Connected => self.close_with(Say::Foreign, turn.out),
            Verb::Foreign | Verb::Unknown => self.error(Say::Unknown, turn),
        }
        None
    }

    /// A command in error: its reply, or the end when there were too many (M-018).
    pub(super) fn error(&mut self, say: Say, turn: &mut Turn<'_>) {
        self.error_at(say, turn.now, turn.out);
    }

    pub(super) fn error_at(&mut self, say: Say, now: Tick, out: &mut Vec<u8>) {
        self.errors = self.errors.saturating_add(1);
        self.counts.errors = self.counts.errors.saturating_add(1);
        if self.errors > self.options.errors_max && !self.facts.trusted_front_end {
            self.close_with(Say::TooManyErrors, out);
        } else {
            self.answer_late(Failure::Fixed(say), now, out);
        }
    }

    /// Refuses a command for good: after a while, where the listener makes such peers wait (S-021).
    pub(super) fn answer_late(&mut self, reply: Failure, now: Tick, out: &mut Vec<u8>) {
        self.delayed = Some(Delayed { until: now.after(self.options.timers.tarpit), reply });
        if self.options.timers.tarpit == Span::ZERO || self.facts.trusted_front_end {
            self.answer_now(out);
        }
    }

    /// A command out of order; behind a refusal of ours that is no error of the peer (a pipelining one cannot know).
    pub(super) fn out_of_order(&mut self, say: Say, turn: &mut Turn<'_>) {
        self.out_of_order_at(say, turn.now, turn.out);
    }

    pub(super) fn out_of_order_at(&mut self, say: Say, now: Tick, out: &mut Vec<u8>) {
        if self.state == State::Connected {
            self.error_at(Say::HelloFirst, now, out);
        } else if let Some(left) = self.excused.checked_sub(1) {
            self.excused = left;
            self.say(say, out);
        } else {
            self.error_at(say, now, out);
        }
    }

    /// A pipelining peer cannot know that this transaction is refused: what it has on its way for it is no error, up to as
    /// many recipients and chunks as one may have (F-137).
    pub(super) fn excuse(&mut self) {
        self.excused = self.options.recipients_max.saturating_add(EXCUSED_CHUNKS_MAX);
    }

    /// A command was served.
    pub(super) fn served(&mut self) {
        if self.options.errors_in_a_row {
            self.errors = 0;
        }
    }

    /// A command that brings no message nearer was served (F-137).
    fn idle_command(&mut self, say: Say, turn: &mut Turn<'_>) {
        if self.may_idle(turn) {
            self.say(say, turn.out);
        }
    }

    pub(super) fn may_idle(&mut self, turn: &mut Turn<'_>) -> bool {
        self.served();
        self.idles(turn)
    }

    /// A command brought no message nearer: whether the session goes on.
    pub(super) fn idles(&mut self, turn: &mut Turn<'_>) -> bool {
        self.idle_commands = self.idle_commands.saturating_add(1);
        self.goes_on(self.idle_commands, self.options.idle_commands_max, turn)
    }

    /// Whether a session goes on that has done something `count` times. Beyond `most` it ends by 421, unless it is that of a
    /// front end of ours.
    pub(super) fn goes_on(&mut self, count: u32, most: u32, turn: &mut Turn<'_>) -> bool {
        let good = count <= most || self.facts.trusted_front_end;
        if !good {
            self.close_with(Say::TooManyErrors, turn.out);
        }
        good
    }

    fn on_reset(&mut self, argument: &[u8], turn: &mut Turn<'_>) -> Option<Event> {
        if !argument.is_empty() {
            self.error(Say::NoArgument, turn);
            return None;
        }
        if self.may_idle(turn) {
            self.say(Say::Reset, turn.out);
            self.end_transaction();
        }
        self.abandon()
    }

    fn on_quit(&mut self, argument: &[u8], turn: &mut Turn<'_>) -> Option<Event> {
        if argument.is_empty() {
            self.close_with(Say::Bye, turn.out);
        } else {
            self.error(Say::NoArgument, turn);
        }
        None
    }

    fn on_hello(&mut self, verb: Verb, name: &[u8], turn: &mut Turn<'_>) -> Option<Event> {
        let lmtp = self.options.dialect == Dialect::Lmtp;
        if (verb == Verb::Lhlo) != lmtp {
            self.error(if lmtp { Say::NotLmtp } else { Say::Unknown }, turn);
            return None;
        }
        if self.options.strict_pipelining && !turn.rest().is_empty() {
            self.close_with(Say::EarlyTalker, turn.out);
            return None;
        }
        if name.is_empty() {
            self.error(Say::NeedsArgument, turn);
            return None;
        }
        if !self.is_good_name(name) {
            self.error(Say::BadName, turn);
            return None;
        }
        if !self.may_idle(turn) {
            return None;
        }
        self.facts.ehlo_name.clear();
        self.facts.ehlo_name.extend_from_slice(name);
        self.facts.protocol = match verb {
            Verb::Ehlo => Protocol::Esmtp,
            Verb::Lhlo => Protocol::Lmtp,
            _ => Protocol::Smtp,
        };
        self.state = State::Ready;
        self.end_transaction();
        self.write_hello(turn.out);
        self.abandon()
    }

    fn is_good_name(&self, name: &[u8]) -> bool {
        // An address with a zone is no name that is merely odd: it means nothing here (M-008).
        let zone = || name.starts_with(b"[") && memchr(b'%', name).is_some();
        let odd = || name.len() <= EHLO_NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic) && !zone();
        is_ehlo_name(name) || (self.options.odd_ehlo_names && odd())
    }

    /// Names us, and nothing about what we are made of (M-001, S-023). In profile `exchange` in its documents' form.
    pub(super) fn write_greeting(&self, date: &[u8], out: &mut Vec<u8>) {
        let exchange = self.options.profile == Profile::Exchange;
        let name = match (self.options.dialect, exchange) {
            (Dialect::Lmtp, _) => "LMTP Ringpost",
            (Dialect::Smtp, false) => "ESMTP Ringpost",
            (Dialect::Smtp, true) => "Ringpost ESMTP MAIL Service",
        };
        // Writing to a Vec cannot fail.
        let _ = write!(out, "220 {} {name}", self.options.fqdn);
        if !self.options.instance.is_empty() {
            let _ = write!(out, " {}", self.options.instance);
        }
        out.extend_from_slice(b" ready");
        if exchange && !date.is_empty() {
            out.extend_from_slice(b" at ");
            out.extend_from_slice(date);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_hello(&mut self, out: &mut Vec<u8>) {
        let Self { options, facts, replies, .. } = self;
        replies.put_with(out, |out| {
            let extended = facts.protocol != Protocol::Smtp;
            let _ = write!(out, "250{}{}", if extended { '-' } else { ' ' }, options.fqdn);
            let _ = write!(out, " Hello [{}]\r\n", facts.peer.ip());
            if !extended {
                return;
            }
            let offered = options.extensions;
            if offered.size {
                out.extend_from_slice(b"250-SIZE ");
                push_decimal(options.size_max, out);
                out.extend_from_slice(b"\r\n");
            }
            for (offer, line) in [
                (offered.pipelining, &b"250-PIPELINING\r\n"[..]),
                (offered.dsn, b"250-DSN\r\n"),
                (offered.enhanced_status_codes, b"250-ENHANCEDSTATUSCODES\r\n"),
                (offered.eight_bit_mime, b"250-8BITMIME\r\n"),
                (offered.binary_mime && offered.chunking, b"250-BINARYMIME\r\n"),
                (offered.chunking, b"250-CHUNKING\r\n"),
            ] {
                if offer {
                    out.extend_from_slice(line);
                }
            }
            if facts.trusted_front_end {
                let _ = write!(out, "250-{FRONT_END_KEYWORD}\r\n");
            }
            // Every list has a last line, and HELP is always true.
            out.extend_from_slice(b"250 HELP\r\n");
        });
    }
}

/// Without the blanks at its end (M-021).
fn trim_end(line: &[u8]) -> &[u8] {
    let kept = line.iter().rposition(|octet| !matches!(octet, b' ' | b'\t')).map_or(0, |last| last.saturating_add(1));
    line.get(..kept).unwrap_or_default()
}

/// No control anywhere; beyond ASCII only UTF-8, and only where addresses stand, which have their own reply (M-176).
/// This comes before any syntax: a control or a NUL in a name or a path is 500 as M-020 says, not 501 (M-005), and a TAB is
/// white space at the end of a line alone (M-021).
fn is_clean(line: &[u8], verb: Verb) -> bool {
    let controls = line.iter().fold(false, |found, &octet| found | (octet < 0x20) | (octet == 0x7f));
    if controls {
        return false;
    }
    line.is_ascii() || (matches!(verb, Verb::Mail | Verb::Rcpt) && std::str::from_utf8(line).is_ok())
}
