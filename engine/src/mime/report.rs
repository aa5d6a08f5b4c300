//! Delivery status notifications as messages (RFC 3461 §6, RFC 3464, RFC 6522, RFC 3834): one text a person understands, the
//! fields that programs read, and what is given back of the original.
//!
//! Whatever came from others is cleaned on its way in: nothing but printable ASCII, no line over 998 octets, no end of a
//! part inside another. The result is 7-bit text with CRLF, whatever the original was.

mod original;
#[cfg(test)]
mod tests;
mod text;

use crate::wire::{EnhancedStatus, MailboxRef, xtext};
use std::io::Write as _;
use text::Words;

pub use original::Original;

/// No line of a report is longer, in octets without CRLF (RFC 5322 §2.1.1).
const LINE_BYTES_MAX: usize = 998;
/// Fields are folded behind so many octets where they have a blank.
const FOLD_BYTES: usize = 76;
/// A subject that is longer is not repeated.
const SUBJECT_BYTES_MAX: usize = 400;

/// What a report says became of its recipients (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nobody tries any more.
    Failed,
    /// It is tried on.
    Delayed {
        /// Until this date.
        until: &'a [u8],
    },
    /// It was handed on to a host that sends no reports.
    Relayed,
    /// It is in the mailbox.
    Delivered,
}

impl Action<'_> {
    /// As the field spells it.
    fn name(self) -> &'static str {
        match self {
            Action::Failed => "failed",
            Action::Delayed { .. } => "delayed",
            Action::Relayed => "relayed",
            Action::Delivered => "delivered",
        }
    }
}

/// One recipient.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// To whom it was sent.
    pub mailbox: MailboxRef<'a>,
    /// What ORCPT said, as it came.
    pub original: Option<&'a [u8]>,
    /// What became of him.
    pub status: EnhancedStatus,
    /// The host that said so, as `Remote-MTA` names it: `dns; [192.0.2.1]`.
    pub remote: Option<&'a [u8]>,
    /// What it said, as `Diagnostic-Code` has it: `smtp; 550 5.1.1 nobody`.
    pub diagnostic: Option<&'a [u8]>,
    /// When it was last tried, as a date.
    pub last_attempt: Option<&'a [u8]>,
}

/// Everything that a report is made from. Dates are texts by [`super::DateText`].
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What became of all of these recipients.
    pub action: Action<'a>,
    /// Our name.
    pub reporting: &'a str,
    /// To whom it goes: the reverse-path of the original.
    pub to: MailboxRef<'a>,
    /// Our name for the report: no two have the same.
    pub id: u64,
    /// Now.
    pub date: &'a [u8],
    /// When the original came.
    pub arrival: Option<&'a [u8]>,
    /// What ENVID said, as xtext.
    pub envelope_id: Option<&'a [u8]>,
    /// Whom it is about, one at least.
    pub recipients: &'a [Recipient<'a>],
    /// What is given back.
    pub original: Original<'a>,
}

impl Report<'_> {
    /// The whole message, header and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        let text = self.text();
        let status = self.status();
        let (kind, encoding, returned) = self.original.part();
        let boundary = self.boundary([&text, &status, &returned]);
        self.header(&boundary, out);
        let parts: [(&str, &str, &[u8]); 3] = [
            ("text/plain; charset=us-ascii", "Notification", &text),
            ("message/delivery-status", "Delivery report", &status),
            (kind, "Undelivered message", &returned),
        ];
        for (index, (kind, description, body)) in parts.into_iter().enumerate() {
            if index == 2 && self.original.is_nothing() {
                continue;
            }
            // Writing to a Vec cannot fail.
            let _ = write!(out, "--{boundary}\r\nContent-Type: {kind}\r\nContent-Description: ");
            let headers = index == 2 && kind != "message/rfc822";
            let description = if headers { "Header of the message" } else { description };
            let _ = write!(out, "{description}\r\n");
            if index == 2
                && let Some(encoding) = encoding
            {
                let _ = write!(out, "Content-Transfer-Encoding: {encoding}\r\n");
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(body);
            // What ends a part is the CRLF before the boundary, which is not the part's.
            out.extend_from_slice(b"\r\n");
        }
        let _ = write!(out, "--{boundary}--\r\n");
    }

    fn header(&self, boundary: &str, out: &mut Vec<u8>) {
        let words = Words::of(self.action);
        let _ = write!(out, "From: Mail Delivery System <postmaster@{}>\r\nTo: <", self.reporting);
        self.to.write(out);
        out.extend_from_slice(b">\r\n");
        let subject = self.original.field("subject", SUBJECT_BYTES_MAX);
        let subject = match &subject {
            Some(subject) => [words.subject.as_bytes(), b": ", subject].concat(),
            None => words.subject.as_bytes().to_vec(),
        };
        push_field("Subject", &subject, out);
        let _ = write!(out, "Date: ");
        out.extend_from_slice(self.date);
        let _ = write!(out, "\r\nMessage-ID: <{:016x}@{}>\r\n", self.id, self.reporting);
        if let Some(id) = self.original.message_id() {
            push_field("In-Reply-To", &id, out);
            push_field("References", &id, out);
        }
        out.extend_from_slice(b"MIME-Version: 1.0\r\nAuto-Submitted: auto-replied\r\n");
        let _ = write!(
            out,
            "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\"\r\n\r\n\
             This is a delivery status notification in MIME format.\r\n\r\n"
        );
    }

    /// What stands between the parts, and in none of them.
    fn boundary(&self, parts: [&[u8]; 3]) -> String {
        let candidates = (0u64..).map(|turn| format!("=_{:016x}.{turn}", self.id));
        let is_free = |boundary: &String| {
            let line = format!("--{boundary}");
            parts.iter().all(|part| memchr::memmem::find(part, line.as_bytes()).is_none())
        };
        // There are more candidates than the parts have places for them.
        candidates.into_iter().find(is_free).unwrap_or_default()
    }

    /// The fields for programs (RFC 3464 §2).
    fn status(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_field("Reporting-MTA", format!("dns; {}", self.reporting).as_bytes(), &mut out);
        if let Some(id) = self.envelope_id {
            push_field("Original-Envelope-Id", &decoded(id, false), &mut out);
        }
        if let Some(date) = self.arrival {
            push_field("Arrival-Date", date, &mut out);
        }
        for recipient in self.recipients {
            out.extend_from_slice(b"\r\n");
            self.status_of(recipient, &mut out);
        }
        out
    }

    fn status_of(&self, recipient: &Recipient<'_>, out: &mut Vec<u8>) {
        if let Some(original) = recipient.original {
            push_field("Original-Recipient", &original_recipient(original), out);
        }
        let mut address = b"rfc822; ".to_vec();
        recipient.mailbox.write(&mut address);
        push_field("Final-Recipient", &address, out);
        push_field("Action", self.action.name().as_bytes(), out);
        push_field("Status", recipient.status.to_string().as_bytes(), out);
        for (name, value) in [
            ("Remote-MTA", recipient.remote),
            ("Diagnostic-Code", recipient.diagnostic),
            ("Last-Attempt-Date", recipient.last_attempt),
        ] {
            if let Some(value) = value {
                push_field(name, value, out);
            }
        }
        if let Action::Delayed { until } = self.action {
            push_field("Will-Retry-Until", until, out);
        }
    }
}

/// What an ORCPT says, for a field: address type, semicolon, the address without xtext (RFC 3461 §6.3).
fn original_recipient(original: &[u8]) -> Vec<u8> {
    let at = memchr::memchr(b';', original).unwrap_or(original.len());
    let (kind, rest) = original.split_at(at);
    let mut out = kind.to_vec();
    out.extend_from_slice(b"; ");
    out.extend(decoded(rest.get(1..).unwrap_or_default(), kind.eq_ignore_ascii_case(b"utf-8")));
    out
}

/// What xtext stands for, as printable ASCII. Letters beyond it are written as RFC 6533 §3 has them where they are UTF-8.
fn decoded(xtext: &[u8], utf8: bool) -> Vec<u8> {
    let mut octets = Vec::new();
    if !xtext::decode(xtext, &mut octets) {
        return xtext.to_vec();
    }
    let mut out = Vec::new();
    match std::str::from_utf8(&octets).ok().filter(|_| utf8) {
        Some(text) => text.chars().for_each(|letter| {
            let _ = match letter {
                ' '..='~' => write!(out, "{letter}"),
                letter => write!(out, "\\x{{{:X}}}", u32::from(letter)),
            };
        }),
        None => out = octets,
    }
    out
}

/// Appends a field: its value cleaned, folded at blanks, and in any case before a line is too long (M-158, S-025).
fn push_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    let mut column = name.len().saturating_add(1);
    for word in value.trim_ascii().split(|octet| octet.is_ascii_whitespace()).filter(|word| !word.is_empty()) {
        let mut rest = word;
        loop {
            let (piece, more) = rest.split_at_checked(LINE_BYTES_MAX / 2).unwrap_or((rest, &[]));
            if column.saturating_add(piece.len()) >= FOLD_BYTES && column > name.len().saturating_add(1) {
                out.extend_from_slice(b"\r\n");
                column = 0;
            }
            out.push(b' ');
            out.extend(piece.iter().map(|&octet| clean(octet)));
            column = column.saturating_add(piece.len()).saturating_add(1);
            if more.is_empty() {
                break;
            }
            rest = more;
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Nothing but printable ASCII goes into what we write.
fn clean(octet: u8) -> u8 {
    if matches!(octet, 0x20..=0x7e) { octet } else { b'?' }
}
