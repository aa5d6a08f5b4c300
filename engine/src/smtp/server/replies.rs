//! The replies: their order behind owed verdicts, and their texts by profile.
//!
//! M rows give the codes of `rfc` and `bench`; docs/PROFILES.md those of `exchange` where they differ.

use super::facts::{Slot, Verdict};
use crate::smtp::Profile;
use crate::wire::{Refusal, Tick};
use std::collections::VecDeque;

/// Replies that wait behind owed verdicts, in octets, before the session pauses.
pub(super) const HELD_BYTES_MAX: usize = 64 << 10;
/// Longest reply line that is sent, with its CRLF (RFC 5321 §4.5.3.1.5).
const REPLY_LINE_BYTES_MAX: usize = 512;
/// Capacity that an empty queue keeps, in octets.
const KEPT_BYTES: usize = 8 << 10;

#[derive(Debug)]
struct Owed {
    /// Verdicts still owed: one, or in LMTP one per recipient.
    verdicts: u32,
    /// When they are no longer waited for (M-049).
    by: Tick,
    /// Octets of `held` that follow them.
    behind: usize,
    /// Verdicts that came before those of older slots, written out.
    early: Vec<u8>,
}

/// Replies leave in the order of their commands, whenever the verdicts come (M-109).
#[derive(Debug, Default)]
pub(super) struct Replies {
    owed: VecDeque<Owed>,
    /// Number of the oldest slot owed.
    first: u32,
    held: Vec<u8>,
    /// Octets at the front of `held` that have left.
    left: usize,
}

impl Replies {
    pub(super) fn in_flight(&self) -> usize {
        self.owed.len()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.len().saturating_sub(self.left)
    }

    /// Where the next reply goes: straight out, or behind the youngest owed verdict.
    pub(super) fn put(&mut self, reply: &[u8], out: &mut Vec<u8>) {
        match self.owed.back_mut() {
            None => out.extend_from_slice(reply),
            Some(owed) => {
                owed.behind = owed.behind.saturating_add(reply.len());
                self.held.extend_from_slice(reply);
            }
        }
    }

    /// Lets `write` put a reply where it belongs.
    pub(super) fn put_with(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        match self.owed.back_mut() {
            None => write(out),
            Some(owed) => {
                let before = self.held.len();
                write(&mut self.held);
                owed.behind = owed.behind.saturating_add(self.held.len().saturating_sub(before));
            }
        }
    }

    /// Owes `verdicts` of a new slot, `by` this time.
    pub(super) fn owe(&mut self, verdicts: u32, by: Tick) -> Slot {
        let slot = Slot(self.first.wrapping_add(self.owed.len() as u32));
        self.owed.push_back(Owed { verdicts, by, behind: 0, early: Vec::new() });
        slot
    }

    /// When the oldest verdict owed is no longer waited for.
    pub(super) fn owed_by(&self) -> Tick {
        self.owed.front().map_or(Tick::NEVER, |owed| owed.by)
    }

    /// One verdict of `slot`, written by `write`; what it held back leaves with it. Ignores slots that are not owed.
    pub(super) fn settle(&mut self, slot: Slot, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let index = slot.0.wrapping_sub(self.first) as usize;
        let Some(owed) = self.owed.get_mut(index) else { return };
        if owed.verdicts == 0 {
            return;
        }
        owed.verdicts = owed.verdicts.saturating_sub(1);
        if index != 0 {
            write(&mut owed.early);
            return;
        }
        write(out);
        self.release(out);
    }

    /// Lets go of every slot at the front that owes nothing more.
    fn release(&mut self, out: &mut Vec<u8>) {
        while self.owed.front().is_some_and(|owed| owed.verdicts == 0) {
            let Some(owed) = self.owed.pop_front() else { return };
            self.first = self.first.wrapping_add(1);
            let end = self.left.saturating_add(owed.behind);
            out.extend_from_slice(self.held.get(self.left..end).unwrap_or_default());
            self.left = end;
            if let Some(next) = self.owed.front_mut() {
                out.append(&mut next.early);
            }
        }
        if self.left >= self.held.len() {
            self.held.clear();
            self.held.shrink_to(KEPT_BYTES);
            self.left = 0;
        } else if self.left > KEPT_BYTES {
            self.held.drain(..self.left);
            self.left = 0;
        }
    }
}

/// A reply of fixed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    SenderOk,
    RecipientOk,
    Reset,
    Noop,
    Bye,
    Vrfy,
    Help,
    StartMail,
    ChunkOk,
    HelloFirst,
    BadSequence,
    NoRecipients,
    NoService,
    BadName,
    NeedsArgument,
    NoArgument,
    BadSyntax,
    BadChunk,
    Unknown,
    Unimplemented,
    NotLmtp,
    BadLine,
    LineTooLong,
    EarlyTalker,
    TooManyErrors,
    Foreign,
    UnknownParameter,
    BadParameter,
    BadSender,
    BadSenderDomain,
    UnqualifiedSender,
    Utf8Sender,
    BadRecipient,
    BadRecipientDomain,
    UnqualifiedRecipient,
    Utf8Recipient,
    TooManyRecipients,
    TooLarge,
    BareLine,
    HeaderNul,
    LongTextLine,
    HeaderTooLarge,
    Loop,
    TimedOut,
    ShutDown,
}

impl Say {
    /// Every one.
    #[cfg(test)]
    pub(super) const ALL: [Say; 45] = [
        Say::SenderOk,
        Say::RecipientOk,
        Say::Reset,
        Say::Noop,
        Say::Bye,
        Say::Vrfy,
        Say::Help,
        Say::StartMail,
        Say::ChunkOk,
        Say::HelloFirst,
        Say::BadSequence,
        Say::NoRecipients,
        Say::NoService,
        Say::BadName,
        Say::NeedsArgument,
        Say::NoArgument,
        Say::BadSyntax,
        Say::BadChunk,
        Say::Unknown,
        Say::Unimplemented,
        Say::NotLmtp,
        Say::BadLine,
        Say::LineTooLong,
        Say::EarlyTalker,
        Say::TooManyErrors,
        Say::Foreign,
        Say::UnknownParameter,
        Say::BadParameter,
        Say::BadSender,
        Say::BadSenderDomain,
        Say::UnqualifiedSender,
        Say::Utf8Sender,
        Say::BadRecipient,
        Say::BadRecipientDomain,
        Say::UnqualifiedRecipient,
        Say::Utf8Recipient,
        Say::TooManyRecipients,
        Say::TooLarge,
        Say::BareLine,
        Say::HeaderNul,
        Say::LongTextLine,
        Say::HeaderTooLarge,
        Say::Loop,
        Say::TimedOut,
        Say::ShutDown,
    ];

    /// The whole line, with CRLF.
    pub(super) fn line(self, profile: Profile) -> &'static [u8] {
        if profile == Profile::Exchange
            && let Some(line) = self.exchange()
        {
            return line;
        }
        match self {
            Say::SenderOk => b"250 2.1.0 Sender OK\r\n",
            Say::RecipientOk => b"250 2.1.5 Recipient OK\r\n",
            Say::Reset => b"250 2.0.0 Reset\r\n",
            Say::Noop => b"250 2.0.0 OK\r\n",
            Say::Bye => b"221 2.0.0 Service closing transmission channel\r\n",
            Say::Vrfy => b"252 2.5.0 Cannot verify, but will take mail for it\r\n",
            Say::Help => b"214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n",
            Say::StartMail => b"354 Start mail input; end with <CRLF>.<CRLF>\r\n",
            Say::ChunkOk => b"250 2.0.0 Chunk received\r\n",
            Say::HelloFirst => b"503 5.5.1 Send hello first\r\n",
            Say::BadSequence => b"503 5.5.1 Bad sequence of commands\r\n",
            Say::NoRecipients => b"503 5.5.1 No valid recipients\r\n",
            Say::NoService => b"503 5.5.1 No service here, only QUIT\r\n",
            Say::BadName => b"501 5.5.4 Invalid domain name\r\n",
            Say::NeedsArgument => b"501 5.5.4 Argument required\r\n",
            Say::NoArgument => b"501 5.5.4 No argument allowed\r\n",
            Say::BadSyntax => b"501 5.5.4 Syntax error in parameters\r\n",
            Say::BadChunk => b"501 5.5.4 Not a chunk size\r\n",
            Say::Unknown => b"500 5.5.2 Unrecognized command\r\n",
            Say::Unimplemented => b"502 5.5.1 Command not implemented\r\n",
            Say::NotLmtp => b"500 5.5.1 This is LMTP, which begins with LHLO\r\n",
            Say::BadLine => b"500 5.5.2 Line with a control or an end other than CRLF\r\n",
            Say::LineTooLong => b"500 5.5.2 Line too long\r\n",
            Say::EarlyTalker => b"554 5.5.0 Data before its reply was read\r\n",
            Say::TooManyErrors => b"421 4.7.0 Too many errors, closing\r\n",
            Say::Foreign => b"421 4.7.0 This is SMTP, closing\r\n",
            Say::UnknownParameter => b"555 5.5.4 Unsupported parameter\r\n",
            Say::BadParameter => b"501 5.5.4 Invalid parameter\r\n",
            Say::BadSender => b"501 5.1.7 Invalid address\r\n",
            Say::BadSenderDomain => b"501 5.1.8 Invalid domain\r\n",
            Say::UnqualifiedSender => b"550 5.1.8 Domain not fully qualified\r\n",
            Say::Utf8Sender => b"550 5.6.7 Address beyond ASCII\r\n",
            Say::BadRecipient => b"501 5.1.3 Invalid address\r\n",
            Say::BadRecipientDomain => b"501 5.1.2 Invalid domain\r\n",
            Say::UnqualifiedRecipient => b"550 5.1.2 Domain not fully qualified\r\n",
            Say::Utf8Recipient => b"553 5.6.7 Address beyond ASCII\r\n",
            Say::TooManyRecipients => b"452 4.5.3 Too many recipients\r\n",
            Say::TooLarge => b"552 5.3.4 Message size exceeds fixed maximum message size\r\n",
            Say::BareLine => b"550 5.5.2 Content with a bare CR or LF\r\n",
            Say::HeaderNul => b"550 5.6.0 NUL in the header\r\n",
            Say::LongTextLine => b"550 5.6.0 Line of content too long\r\n",
            Say::HeaderTooLarge => b"552 5.3.4 Header size exceeds fixed maximum size\r\n",
            Say::Loop => b"554 5.4.6 Hop count exceeded - possible mail loop\r\n",
            Say::TimedOut => b"421 4.4.2 Connection timed out\r\n",
            Say::ShutDown => b"421 4.3.2 Service not available, closing\r\n",
        }
    }

    fn exchange(self) -> Option<&'static [u8]> {
        Some(match self {
            Say::HelloFirst => b"503 5.5.2 Send hello first\r\n",
            Say::Unknown => b"500 5.3.3 Unrecognized command\r\n",
            Say::BadSender => b"550 5.1.7 Invalid address\r\n",
            Say::UnqualifiedRecipient => b"550 5.1.6 Recipient addresses in single label domains not accepted\r\n",
            _ => return None,
        })
    }
}

/// Why a body will be refused at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Fixed(Say),
    Policy(Refusal),
}

impl Failure {
    pub(super) fn write(&self, profile: Profile, out: &mut Vec<u8>) {
        match self {
            Failure::Fixed(say) => out.extend_from_slice(say.line(profile)),
            Failure::Policy(refusal) => refusal.write(out),
        }
    }
}

/// Writes the reply to the end of a body.
pub(super) fn write_verdict(verdict: Verdict<'_>, profile: Profile, fqdn: &str, out: &mut Vec<u8>) {
    match verdict {
        Verdict::Refused(refusal) => refusal.write(out),
        Verdict::Relayed(reply) => reply.write(out),
        Verdict::Accepted { id, .. } if profile != Profile::Exchange => {
            out.extend_from_slice(b"250 2.0.0 Queued as ");
            push_decimal(id, out);
            out.extend_from_slice(b"\r\n");
        }
        Verdict::Accepted { id, message_id } => write_queued(id, message_id, fqdn, out),
    }
}

/// The reply of profile `exchange`: the message's own id, or one of ours in its place; never over 512 octets.
fn write_queued(id: u64, message_id: &[u8], fqdn: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"250 2.6.0 ");
    // What the rest takes at most: fixed texts, two numbers, our name.
    let room = REPLY_LINE_BYTES_MAX.saturating_sub(62 + 2 * 20 + 3).saturating_sub(fqdn.len());
    if message_id.is_empty() {
        out.push(b'<');
        push_decimal(id, out);
        out.push(b'@');
        out.extend(fqdn.bytes().take(room.saturating_sub(2)));
        out.push(b'>');
    } else {
        // Others wrote it: nothing in it may end the line or fill it (M-066).
        let clean = |&octet: &u8| if matches!(octet, 0x20..=0x7e) { octet } else { b'?' };
        out.extend(message_id.iter().take(room.min(250)).map(clean));
    }
    out.extend_from_slice(b" [InternalId=");
    push_decimal(id, out);
    out.extend_from_slice(b", Hostname=");
    out.extend_from_slice(fqdn.as_bytes());
    out.extend_from_slice(b"] Queued mail for delivery\r\n");
}

/// Appends `number` in decimal; the formatting machinery costs ten times as much.
pub(crate) fn push_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut used = 0usize;
    for place in digits.iter_mut().rev() {
        *place = b'0'.wrapping_add((number % 10) as u8);
        number /= 10;
        used = used.saturating_add(1);
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len().saturating_sub(used)..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m_109_replies_leave_in_order_whenever_verdicts_come() {
        let mut replies = Replies::default();
        let mut out = Vec::new();
        replies.put(b"a", &mut out);
        let one = replies.owe(1, Tick(1));
        replies.put(b"b", &mut out);
        let two = replies.owe(2, Tick(2));
        replies.put(b"c", &mut out);
        let three = replies.owe(1, Tick(3));
        assert_eq!(out, b"a");
        replies.settle(three, &mut out, |out| out.push(b'3'));
        replies.settle(two, &mut out, |out| out.push(b'x'));
        replies.settle(three, &mut out, |out| out.push(b'!'));
        assert_eq!(out, b"a");
        replies.settle(one, &mut out, |out| out.push(b'1'));
        assert_eq!(out, b"a1bx");
        replies.settle(two, &mut out, |out| out.push(b'y'));
        assert_eq!(out, b"a1bxyc3");
        assert_eq!((replies.in_flight(), replies.held_bytes()), (0, 0));
        replies.settle(one, &mut out, |out| out.push(b'!'));
        replies.put(b"d", &mut out);
        assert_eq!(out, b"a1bxyc3d");
    }

    /// RFC 5248's registry, as far as we use it.
    const REGISTERED: [&str; 33] = [
        "2.0.0", "2.1.0", "2.1.5", "2.5.0", "2.6.0", "4.2.1", "4.3.0", "4.3.1", "4.3.2", "4.4.0", "4.4.2", "4.4.4",
        "4.5.3", "4.7.0", "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.7", "5.1.8", "5.1.10", "5.3.3", "5.3.4", "5.4.6",
        "5.5.0", "5.5.1", "5.5.2", "5.5.4", "5.6.0", "5.6.3", "5.6.7", "5.7.0", "5.7.1",
    ];

    #[test]
    fn m_039_no_reply_tells_where_somebody_else_is() {
        for profile in [Profile::Exchange, Profile::Rfc, Profile::Bench] {
            for say in Say::ALL {
                let line = say.line(profile);
                assert!(!line.starts_with(b"251") && !line.starts_with(b"551"), "{say:?}");
            }
        }
    }

    #[test]
    fn m_064_m_143_m_144_m_146_every_reply_but_354_has_a_registered_status_of_its_class_on_one_line() {
        for profile in [Profile::Exchange, Profile::Rfc, Profile::Bench] {
            for say in Say::ALL {
                let line = say.line(profile);
                assert!(line.ends_with(b"\r\n") && line.len() <= 512 && line.is_ascii(), "{say:?}");
                assert!(!line[..line.len() - 2].iter().any(u8::is_ascii_control), "{say:?}");
                if say == Say::StartMail {
                    assert_eq!(&line[..4], b"354 ");
                    continue;
                }
                let (code, rest) = line.split_at(4);
                let code: u16 = String::from_utf8_lossy(code).trim().parse().expect("a code");
                let (status, text) = crate::wire::EnhancedStatus::parse(rest, code).expect("a status");
                assert!(REGISTERED.contains(&&*status.to_string()), "{say:?}: {status}");
                assert!(matches!(code / 100, 2 | 4 | 5) && text.len() > 2, "{say:?}");
            }
        }
    }

    #[test]
    fn verdicts_read_as_the_profile_says() {
        let line = |verdict: Verdict<'_>, profile| {
            let mut out = Vec::new();
            write_verdict(verdict, profile, "hub.test", &mut out);
            String::from_utf8(out).expect("ASCII")
        };
        let accepted = |message_id| Verdict::Accepted { id: 70, message_id };
        assert_eq!(line(accepted(b""), Profile::Rfc), "250 2.0.0 Queued as 70\r\n");
        assert_eq!(
            line(accepted(b"<1@a.test>"), Profile::Exchange),
            "250 2.6.0 <1@a.test> [InternalId=70, Hostname=hub.test] Queued mail for delivery\r\n"
        );
        assert_eq!(
            line(accepted(b""), Profile::Exchange),
            "250 2.6.0 <70@hub.test> [InternalId=70, Hostname=hub.test] Queued mail for delivery\r\n"
        );
        assert!(!line(accepted(b"<a\r\n250 x>"), Profile::Exchange).trim_end().contains(['\r', '\n']));
        let mut out = Vec::new();
        push_decimal(u64::MAX, &mut out);
        push_decimal(0, &mut out);
        assert_eq!(out, b"184467440737095516150");
    }
    #[test]
    fn m_064_m_066_no_reply_to_a_message_is_longer_than_512_octets() {
        let long = format!("{}.test", "x".repeat(250));
        for fqdn in ["hub.test", &long] {
            for message_id in [&b""[..], b"<1@a.test>", &[b'i'; 250], &[b'\r'; 60_000]] {
                for profile in [Profile::Rfc, Profile::Exchange] {
                    let mut out = Vec::new();
                    write_verdict(Verdict::Accepted { id: u64::MAX, message_id }, profile, fqdn, &mut out);
                    assert!(out.len() <= 512 && out.ends_with(b"\r\n"), "{} octets", out.len());
                    assert_eq!(out.iter().filter(|octet| **octet < b' ').count(), 2);
                }
            }
        }
    }
}
