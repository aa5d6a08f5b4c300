//! Trace fields (RFC 5321 §4.4). Everything that came from a peer is cleaned on its way in: no control, no octet beyond
//! ASCII, nothing that could end a comment or a clause (M-077, S-025).

use crate::wire::{MailboxRef, ReversePathRef};
use std::io::Write;
use std::net::IpAddr;

/// Longest name of a peer that is written, in octets.
const NAME_BYTES_MAX: usize = 255;

/// In which form a Received field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceForm<'a> {
    /// docs/PROFILES.md: `from PEER (IP) by SERVER (IP) with Ringpost SMTP Server id VERSION[ via SERVICE]; DATE`.
    Exchange {
        /// Our version.
        version: &'a str,
        /// `Frontend Transport` or `Mailbox Transport`; none at a hub.
        via: Option<&'a str>,
    },
    /// M-073: `from NAME ([IP]) by SERVER with PROTOCOL id ID[ for <RCPT>]; DATE`.
    Rfc {
        /// `SMTP`, `ESMTP` and so on (RFC 3848).
        protocol: &'a str,
        /// Our name for the message.
        id: u64,
        /// The recipient, if the transaction has only this one (M-074).
        recipient: Option<MailboxRef<'a>>,
    },
}

/// What a Received field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The name that the client gave with EHLO; may be empty.
    pub from_name: &'a [u8],
    /// Its address: the peer's, or the proxied one that a trusted front end supplied.
    pub from_address: IpAddr,
    /// Our name.
    pub by_name: &'a str,
    /// Our address of the connection.
    pub by_address: IpAddr,
    /// The date, by [`super::DateText`].
    pub date: &'a [u8],
    /// The form.
    pub form: TraceForm<'a>,
}

/// Appends a Received field, folded behind its clauses.
pub fn write_received(received: &Received<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Received: from ");
    // Writing to a Vec cannot fail.
    let _ = match received.form {
        TraceForm::Exchange { version, via } => {
            write_name(received, out);
            let _ = write!(out, " ({})\r\n by {}", received.from_address, received.by_name);
            let _ = write!(out, " ({})\r\n with Ringpost SMTP Server id {version}", received.by_address);
            via.map_or(Ok(()), |via| write!(out, " via {via}"))
        }
        TraceForm::Rfc { protocol, id, recipient } => {
            write_name(received, out);
            out.extend_from_slice(b" (");
            write_literal(received.from_address, out);
            let _ = write!(out, ")\r\n\tby {} with {protocol} id {id:x}", received.by_name);
            if let Some(recipient) = recipient {
                out.extend_from_slice(b"\r\n\tfor <");
                recipient.write(out);
                out.push(b'>');
            }
            Ok(())
        }
    };
    out.extend_from_slice(b";\r\n\t");
    out.extend_from_slice(received.date);
    out.extend_from_slice(b"\r\n");
}

fn write_name(received: &Received<'_>, out: &mut Vec<u8>) {
    if received.from_name.is_empty() {
        return write_literal(received.from_address, out);
    }
    let harmless =
        |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_' | b'[' | b']' | b':');
    let clean = |&octet: &u8| if harmless(octet) { octet } else { b'?' };
    out.extend(received.from_name.iter().take(NAME_BYTES_MAX).map(clean));
}

fn write_literal(address: IpAddr, out: &mut Vec<u8>) {
    let _ = match address {
        IpAddr::V4(address) => write!(out, "[{address}]"),
        IpAddr::V6(address) => write!(out, "[IPv6:{address}]"),
    };
}

/// Appends the Return-Path field of final delivery (M-079).
pub fn write_return_path(path: ReversePathRef<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Return-Path: ");
    path.write(out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime::header::fields;
    use crate::wire::Mailbox;

    const DATE: &[u8] = b"Sun, 22 Nov 2026 06:28:15 +0000";

    fn received<'a>(from_name: &'a [u8], form: TraceForm<'a>) -> Received<'a> {
        let (from_address, by_address) = ("2001:db8::1".parse().expect("IP"), "192.0.2.2".parse().expect("IP"));
        Received { from_name, from_address, by_name: "mx.test", by_address, date: DATE, form }
    }

    fn text(received: &Received<'_>) -> String {
        let mut out = Vec::new();
        write_received(received, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn m_073_m_074_m_075_the_rfc_form() {
        let mailbox = Mailbox::parse(b"\"b c\"@b.test").expect("a mailbox");
        let form = |recipient| TraceForm::Rfc { protocol: "ESMTP", id: 0x5f, recipient };
        assert_eq!(
            text(&received(b"client.test", form(Some(mailbox.as_ref())))),
            "Received: from client.test ([IPv6:2001:db8::1])\r\n\tby mx.test with ESMTP id 5f\r\n\tfor <\"b c\"@b.test>;\r\n\
             \tSun, 22 Nov 2026 06:28:15 +0000\r\n"
        );
        assert_eq!(
            text(&received(b"", form(None))),
            "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n\tby mx.test with ESMTP id 5f;\r\n\
             \tSun, 22 Nov 2026 06:28:15 +0000\r\n"
        );
    }

    #[test]
    fn m_073_the_exchange_form() {
        let form = |via| TraceForm::Exchange { version: "0.1.0", via };
        assert_eq!(
            text(&received(b"client.test", form(Some("Frontend Transport")))),
            "Received: from client.test (2001:db8::1)\r\n by mx.test (192.0.2.2)\r\n with Ringpost SMTP Server id 0.1.0 via \
             Frontend Transport;\r\n\tSun, 22 Nov 2026 06:28:15 +0000\r\n"
        );
        assert!(text(&received(b"client.test", form(None))).contains("id 0.1.0;"));
    }

    #[test]
    fn m_077_s_025_names_of_peers_cannot_leave_their_place() {
        let long = [b'x'; 3000];
        for name in [&b"a\r\nX: y"[..], b"a) by evil (b", b"a;b", b"a\0\x1b", b"\xff\xfe", b"a \"b\" <c>", &long] {
            for form in [
                TraceForm::Exchange { version: "1", via: None },
                TraceForm::Rfc { protocol: "SMTP", id: 1, recipient: None },
            ] {
                let text = text(&received(name, form));
                assert_eq!(fields(text.as_bytes()).count(), 1);
                assert!(text.is_ascii() && !text.contains("evil ("));
                assert_eq!(text.matches(';').count(), 1);
                assert!(text.lines().all(|line| line.len() <= 998));
            }
        }
    }

    /// Whatever a mailbox holds stays inside of its brackets, on its line.
    #[test]
    fn s_025_addresses_cannot_leave_their_place() {
        let mut parsed = 0;
        for path in [
            &b"\"a\\\"b\"@b.test"[..],
            b"\"; Sun, 1 Jan 2000\"@b.test",
            b"\"> X: y\"@b.test",
            b"\"a b) (c\"@b.test",
            b"|prog@b.test",
            b"../../x@b.test",
            b"x@[192.0.2.1]",
            b"\"a\\\r\nX: y\"@b.test",
            b"\"a\r\nX: y\"@b.test",
            b"\"a\0b\"@b.test",
            b"a\r\nX: y@b.test",
            b"x@b.test\r\nX: y",
        ] {
            let Ok(mailbox) = Mailbox::parse(path) else {
                continue;
            };
            parsed += 1;
            let mut out = text(&received(
                b"c.test",
                TraceForm::Rfc { protocol: "SMTP", id: 1, recipient: Some(mailbox.as_ref()) },
            ));
            assert_eq!(out.lines().count(), 4, "{out}");
            let mut path = Vec::new();
            write_return_path(ReversePathRef::Mailbox(mailbox.as_ref()), &mut path);
            out.push_str(&String::from_utf8(path).expect("ASCII"));
            assert_eq!(fields(out.as_bytes()).count(), 2, "{out}");
            assert!(out.bytes().all(|octet| matches!(octet, b' '..=b'~' | b'\r' | b'\n' | b'\t')), "{out}");
        }
        assert!(parsed >= 5, "some of them are mailboxes: {parsed}");
    }

    #[test]
    fn m_079_the_return_path() {
        let mut out = Vec::new();
        write_return_path(ReversePathRef::Null, &mut out);
        assert_eq!(out, b"Return-Path: <>\r\n");
    }
}
