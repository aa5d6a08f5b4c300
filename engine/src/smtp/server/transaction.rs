//! MAIL and RCPT (RFC 5321 §4.1.1.2, §4.1.1.3) with their parameters.

use super::facts::{ClientIdentity, Protocol};
use super::options::RECIPIENTS_HANDED_ON_MAX;
use super::replies::{Failure, Say};
use super::{ServerSession, State, Turn};
use crate::smtp::command::{Parameter, next_parameter, saturating_number};
use crate::wire::cursor::Cursor;
use crate::wire::{
    BodyType, ENVELOPE_KEPT_BYTES, MailboxRef, Notify, PathError, PathLimits, Refusal, Return, ReversePathRef, dsn,
    xtext,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Our front end and we do not agree (I-9).
const NOT_ALL: Refusal =
    Refusal::fixed(451, (4, 3, 5), "Not every recipient is taken here, so none is; try again later");
/// Commands that a session puts off by 4yz before it ends, since a recipient was last accepted: far more than recipients
/// beyond the limit of a transaction that is no attack (F-138), or tries of MAIL while there is no room (F-137).
const PUT_OFF_MAX: u32 = 10_000;
/// Longest EHLO name that a front end may pass on, in octets.
const XHELO_BYTES_MAX: usize = 255;

/// What MAIL's parameters said.
#[derive(Debug, Default)]
struct MailParameters<'a> {
    size: Option<u64>,
    body: Option<BodyType>,
    ret: Option<Return>,
    envelope_id: Option<&'a [u8]>,
    address: Option<IpAddr>,
    name: bool,
    protocol: Option<Protocol>,
}

impl ServerSession {
    pub(super) fn on_mail(&mut self, argument: &[u8], turn: &mut Turn<'_>) {
        match self.state {
            State::Ready => {}
            _ => return self.out_of_order(Say::BadSequence, turn),
        }
        let Some(path) = self.path_text(argument, b"FROM:") else { return self.error(Say::BadSyntax, turn) };
        match self.read_mail(path, turn) {
            Ok(()) => {
                self.state = State::Mail;
                self.excused = 0;
                self.served();
                self.say(Say::SenderOk, turn.out);
            }
            Err(no) => {
                self.envelope.clear();
                if self.may_refuse_mail(&no, turn) {
                    self.refuse(no, turn);
                }
            }
        }
    }

    /// Whether the session goes on behind this refusal of MAIL, which brings no message nearer (F-137).
    fn may_refuse_mail(&mut self, no: &No, turn: &mut Turn<'_>) -> bool {
        match no {
            // Counted as it is said.
            No::Error(_) => true,
            No::Policy(refusal) if !refusal.is_permanent() => self.puts_off(turn),
            No::Said(_) | No::Policy(_) | No::Room(_) => self.idles(turn),
        }
    }

    /// A command is put off through no fault of the peer: whether the session goes on.
    fn puts_off(&mut self, turn: &mut Turn<'_>) -> bool {
        self.put_off = self.put_off.saturating_add(1);
        self.goes_on(self.put_off, PUT_OFF_MAX, turn)
    }

    fn read_mail(&mut self, path: &[u8], turn: &Turn<'_>) -> Result<(), No> {
        let (paths, size_max) = (self.paths(), self.options.size_max);
        let rest = self.envelope.read_reverse_path(path, paths).map_err(|error| {
            No::Error(match error {
                PathError::Syntax => Say::BadSender,
                PathError::Domain => Say::BadSenderDomain,
                PathError::NotAscii => Say::Utf8Sender,
            })
        })?;
        let parameters = self.read_mail_parameters(rest).map_err(No::Error)?;
        if let ReversePathRef::Mailbox(mailbox) = self.envelope.as_ref().reverse_path()
            && !self.is_qualified(mailbox)
        {
            return Err(No::Said(Say::UnqualifiedSender));
        }
        let declared = parameters.size.unwrap_or(0);
        if size_max != 0 && declared > size_max {
            return Err(No::Said(Say::TooLarge));
        }
        self.envelope.set_body(parameters.body);
        self.envelope.set_declared_bytes(declared);
        if parameters.ret.is_some() || parameters.envelope_id.is_some() {
            self.envelope.set_report(parameters.ret, parameters.envelope_id);
        }
        if let (Some(address), Some(protocol)) = (parameters.address, parameters.protocol) {
            let identity = &mut self.facts.identity;
            identity.address = address;
            identity.protocol = protocol;
            self.facts.identified = true;
        }
        turn.policy.mail(&self.facts, self.envelope.as_ref().reverse_path())?;
        turn.policy.room(declared)?;
        Ok(())
    }

    fn read_mail_parameters<'a>(&mut self, mut rest: &'a [u8]) -> Result<MailParameters<'a>, Say> {
        let extended = self.facts.protocol != Protocol::Smtp;
        let offered = self.options.extensions;
        let trusted = self.facts.trusted_front_end;
        let mut all = MailParameters::default();
        self.facts.identified = false;
        while let Some(parameter) = next_parameter(&mut rest).map_err(|_| Say::BadSyntax)? {
            let is = |keyword: &[u8]| parameter.keyword.eq_ignore_ascii_case(keyword);
            if !extended {
                return Err(Say::UnknownParameter);
            } else if offered.size && is(b"SIZE") {
                let octets = parameter.value.and_then(saturating_number).ok_or(Say::BadParameter)?;
                once(&mut all.size, octets)?;
            } else if offered.eight_bit_mime && is(b"BODY") {
                let binary = offered.binary_mime && offered.chunking;
                once(&mut all.body, body_type(parameter, binary)?)?;
            } else if offered.dsn && is(b"RET") {
                once(&mut all.ret, parameter.value.and_then(Return::named).ok_or(Say::BadParameter)?)?;
            } else if offered.dsn && is(b"ENVID") {
                let id = parameter.value.filter(|id| dsn::is_envelope_id(id));
                once(&mut all.envelope_id, id.ok_or(Say::BadParameter)?)?;
            } else if trusted && is(b"XADDR") {
                once(&mut all.address, parameter.value.and_then(address).ok_or(Say::BadParameter)?)?;
            } else if trusted && is(b"XPROTO") {
                once(&mut all.protocol, parameter.value.and_then(Protocol::named).ok_or(Say::BadParameter)?)?;
            } else if trusted && is(b"XHELO") {
                let fresh = !std::mem::replace(&mut all.name, true);
                if !fresh || !read_name(parameter.value.unwrap_or_default(), &mut self.facts.identity) {
                    return Err(Say::BadParameter);
                }
            } else {
                return Err(Say::UnknownParameter);
            }
        }
        let half = all.address.is_some() != all.protocol.is_some() || (all.name && all.address.is_none());
        if half {
            return Err(Say::BadParameter);
        }
        if !all.name {
            self.facts.identity.ehlo_name.clear();
        }
        Ok(all)
    }

    pub(super) fn on_rcpt(&mut self, argument: &[u8], turn: &mut Turn<'_>) {
        match self.state {
            State::Mail | State::Rcpt => {}
            _ => return self.out_of_order(Say::BadSequence, turn),
        }
        let Some(path) = self.path_text(argument, b"TO:") else { return self.error(Say::BadSyntax, turn) };
        match self.read_rcpt(path, turn) {
            Ok(()) => {
                self.envelope.commit();
                self.state = State::Rcpt;
                self.counts.recipients_accepted = self.counts.recipients_accepted.saturating_add(1);
                self.refused_recipients = 0;
                self.put_off = 0;
                self.idle_commands = 0;
                self.served();
                self.say(Say::RecipientOk, turn.out);
            }
            Err(no) => {
                self.envelope.unstage();
                self.counts.recipients_refused = self.counts.recipients_refused.saturating_add(1);
                self.lacks_recipients |= self.facts.identity().is_some();
                if self.may_refuse_recipient(&no, turn) {
                    self.refuse(no, turn);
                }
            }
        }
    }

    /// Whether the session goes on behind this refusal of RCPT (F-138). One too many is no fault of the peer, which knows no
    /// limit: it gets 452 for each, and the message goes to the others (RFC 5321 §4.5.3.1.10). Nor is our want of memory.
    fn may_refuse_recipient(&mut self, no: &No, turn: &mut Turn<'_>) -> bool {
        if matches!(no, No::Said(Say::TooManyRecipients) | No::Room(_)) {
            return self.puts_off(turn);
        }
        self.refused_recipients = self.refused_recipients.saturating_add(1);
        self.goes_on(self.refused_recipients, self.options.refused_recipients_max, turn)
    }

    fn read_rcpt(&mut self, path: &[u8], turn: &Turn<'_>) -> Result<(), No> {
        let rest = self.envelope.stage_recipient(path, self.paths()).map_err(|error| {
            No::Error(match error {
                PathError::Syntax => Say::BadRecipient,
                PathError::Domain => Say::BadRecipientDomain,
                PathError::NotAscii => Say::Utf8Recipient,
            })
        })?;
        self.read_rcpt_parameters(rest).map_err(No::Error)?;
        let full = self.envelope.staged_bytes() > self.options.envelope_bytes_max;
        // A front end has said yes to whom it hands on: its limits hold, and what names are its own.
        let handed_on = self.facts.identity().is_some();
        let most = if handed_on { RECIPIENTS_HANDED_ON_MAX } else { self.options.recipients_max };
        if full || self.envelope.recipient_count() >= most {
            return Err(No::Said(Say::TooManyRecipients));
        }
        // Just staged.
        let Some(recipient) = self.envelope.staged() else { return Err(No::Error(Say::BadRecipient)) };
        if !handed_on && !self.is_qualified(recipient.mailbox) {
            return Err(No::Said(Say::UnqualifiedRecipient));
        }
        turn.policy.rcpt(&self.facts, self.envelope.as_ref().reverse_path(), recipient)?;
        if self.envelope.staged_bytes() > ENVELOPE_KEPT_BYTES {
            let declared = self.envelope.as_ref().declared_bytes().unwrap_or(0);
            turn.policy.room(declared).map_err(No::Room)?;
        }
        Ok(())
    }

    fn read_rcpt_parameters(&mut self, mut rest: &[u8]) -> Result<(), Say> {
        let offered = self.options.extensions.dsn && self.facts.protocol != Protocol::Smtp;
        let (mut notify, mut original) = (None, None);
        while let Some(parameter) = next_parameter(&mut rest).map_err(|_| Say::BadSyntax)? {
            let is = |keyword: &[u8]| offered && parameter.keyword.eq_ignore_ascii_case(keyword);
            if is(b"NOTIFY") {
                once(&mut notify, parameter.value.and_then(Notify::parse).ok_or(Say::BadParameter)?)?;
            } else if is(b"ORCPT") {
                let address = parameter.value.filter(|address| dsn::is_original_recipient(address));
                once(&mut original, address.ok_or(Say::BadParameter)?)?;
            } else {
                return Err(Say::UnknownParameter);
            }
        }
        if notify.is_some() || original.is_some() {
            self.envelope.set_staged_report(notify, original);
        }
        Ok(())
    }

    /// How long paths may be: from a front end as long as any profile allows.
    fn paths(&self) -> PathLimits {
        if self.facts.trusted_front_end { PathLimits::EXCHANGE } else { self.options.paths }
    }

    /// Whether content of this transaction is taken, of so many octets.
    ///
    /// # Errors
    /// A front end's message stands or falls with all of its recipients: it has said yes to each, so what was taken for some
    /// of them alone would be sent to them again and again.
    pub(super) fn may_have_content(&self, octets: u64, turn: &Turn<'_>) -> Result<(), Refusal> {
        if self.lacks_recipients { Err(NOT_ALL) } else { turn.policy.room(octets) }
    }

    /// The path behind `FROM:` or `TO:`.
    fn path_text<'a>(&self, argument: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
        let mut cursor = Cursor::new(argument);
        if !cursor.eat_ignore_case(prefix) || (cursor.skip_blanks() && self.options.strict_blanks) {
            return None;
        }
        Some(cursor.rest())
    }

    /// A domain with a dot, a literal, a single label that is ours, or none at all (`postmaster`).
    fn is_qualified(&self, mailbox: MailboxRef<'_>) -> bool {
        let domain = mailbox.domain();
        domain.is_empty()
            || mailbox.is_literal()
            || domain.contains(&b'.')
            || self.options.single_label_domains.binary_search_by(|name| name.as_bytes().cmp(domain)).is_ok()
    }

    fn refuse(&mut self, no: No, turn: &mut Turn<'_>) {
        match no {
            No::Error(say) => self.error(say, turn),
            No::Said(say) => {
                self.excuse();
                self.say(say, turn.out);
            }
            No::Policy(refusal) if refusal.is_permanent() => {
                self.excuse();
                self.answer_late(Failure::Policy(refusal), turn.now, turn.out);
            }
            No::Policy(refusal) | No::Room(refusal) => {
                self.excuse();
                self.replies.put_with(turn.out, |out| refusal.write(out));
            }
        }
    }
}

/// Why MAIL or RCPT was refused.
enum No {
    /// The peer's mistake: counted.
    Error(Say),
    /// A limit of ours.
    Said(Say),
    /// The role's decision.
    Policy(Refusal),
    /// There is no memory for a larger envelope.
    Room(Refusal),
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        No::Policy(refusal)
    }
}

/// Sets what may be said once (M-025).
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Say> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Say::BadParameter),
    }
}

fn body_type(parameter: Parameter<'_>, binary_offered: bool) -> Result<BodyType, Say> {
    let value = parameter.value.ok_or(Say::BadParameter)?;
    if value.eq_ignore_ascii_case(b"7BIT") {
        Ok(BodyType::SevenBit)
    } else if value.eq_ignore_ascii_case(b"8BITMIME") {
        Ok(BodyType::EightBit)
    } else if value.eq_ignore_ascii_case(b"BINARYMIME") {
        if binary_offered { Ok(BodyType::Binary) } else { Err(Say::UnknownParameter) }
    } else {
        Err(Say::BadParameter)
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?;
    match text.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn read_name(value: &[u8], identity: &mut ClientIdentity) -> bool {
    identity.ehlo_name.clear();
    let good = !value.is_empty()
        && xtext::decode(value, &mut identity.ehlo_name)
        && identity.ehlo_name.len() <= XHELO_BYTES_MAX
        && identity.ehlo_name.iter().all(u8::is_ascii_graphic);
    if !good {
        identity.ehlo_name.clear();
    }
    good
}
