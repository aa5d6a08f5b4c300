//! Reports read back: by eye, by a parser of our own, by properties.

use super::*;
use crate::mime::header::fields;
use crate::wire::Mailbox;
use proptest::prelude::*;

const HEADER: &[u8] =
    b"Received: from x\r\n\tby y; now\r\nFrom: Ann <ann@a.test>\r\nSubject: Lunch\r\n on Thursday\r\n\
Message-ID: <1@a.test>\r\nX-MS-Exchange-Organization-SCL: 1\r\n";

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text.as_bytes()).expect("a mailbox")
}

fn refused<'a>(mailbox: &'a Mailbox) -> Recipient<'a> {
    Recipient {
        mailbox: mailbox.as_ref(),
        original: Some(b"rfc822;Bob+2Bx@b.test"),
        status: EnhancedStatus::new(5, 1, 1),
        remote: Some(b"dns; [192.0.2.1]"),
        diagnostic: Some(b"smtp; 550 5.1.1 nobody of that name"),
        last_attempt: Some(b"Sun, 22 Nov 2026 06:28:16 +0000"),
    }
}

fn report<'a>(to: &'a Mailbox, recipients: &'a [Recipient<'a>], original: Original<'a>) -> Report<'a> {
    Report {
        action: Action::Failed,
        reporting: "hub.test",
        to: to.as_ref(),
        id: 0x1234,
        date: b"Sun, 22 Nov 2026 06:28:17 +0000",
        arrival: Some(b"Sun, 22 Nov 2026 06:28:15 +0000"),
        envelope_id: Some(b"QQ+2B1"),
        recipients,
        original,
    }
}

fn written(report: &Report<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    report.write(&mut out);
    out
}

/// The header section, and each part with its own.
fn parts(message: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut all = fields(message);
    all.by_ref().for_each(drop);
    let (header, body) = message.split_at(all.bytes());
    let text = String::from_utf8_lossy(header);
    let boundary = text.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a boundary");
    let delimiter = format!("\r\n--{boundary}");
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, delimiter.as_bytes()) {
        pieces.push(rest[..at].to_vec());
        rest = &rest[at + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n", "the last boundary ends the message");
    pieces.remove(0);
    (header.to_vec(), pieces.iter().map(|piece| piece.strip_prefix(b"\r\n").expect("a line end").to_vec()).collect())
}

#[test]
fn m_153_m_154_m_155_a_report_on_a_failure() {
    let (ann, bob) = (mailbox("ann@a.test"), mailbox("bob@b.test"));
    let recipients = [refused(&bob)];
    let text = String::from_utf8(written(&report(&ann, &recipients, Original::Headers(HEADER)))).expect("ASCII");
    let expected = "From: Mail Delivery System <postmaster@hub.test>\r\n\
To: <ann@a.test>\r\n\
Subject: Undeliverable: Lunch on Thursday\r\n\
Date: Sun, 22 Nov 2026 06:28:17 +0000\r\n\
Message-ID: <0000000000001234@hub.test>\r\n\
In-Reply-To: <1@a.test>\r\n\
References: <1@a.test>\r\n\
MIME-Version: 1.0\r\n\
Auto-Submitted: auto-replied\r\n\
Content-Type: multipart/report; report-type=delivery-status;\r\n\
\x20boundary=\"=_0000000000001234.0\"\r\n\
\r\n\
This is a delivery status notification in MIME format.\r\n\
\r\n\
--=_0000000000001234.0\r\n\
Content-Type: text/plain; charset=us-ascii\r\n\
Content-Description: Notification\r\n\
\r\n\
Your message could not be delivered to:\r\n\
\r\n\
\x20 bob@b.test\r\n\
\x20   There is no mailbox of this address, or it has moved.\r\n\
\x20   Check the address, and ask the recipient for his.\r\n\
\r\n\
\r\n\
Diagnostic information for administrators:\r\n\
\r\n\
Generating server: hub.test\r\n\
\r\n\
bob@b.test\r\n\
Remote server: [192.0.2.1]\r\n\
Reply: 550 5.1.1 nobody of that name\r\n\
\r\n\
--=_0000000000001234.0\r\n\
Content-Type: message/delivery-status\r\n\
Content-Description: Delivery report\r\n\
\r\n\
Reporting-MTA: dns; hub.test\r\n\
Original-Envelope-Id: QQ+1\r\n\
Arrival-Date: Sun, 22 Nov 2026 06:28:15 +0000\r\n\
\r\n\
Original-Recipient: rfc822; Bob+x@b.test\r\n\
Final-Recipient: rfc822; bob@b.test\r\n\
Action: failed\r\n\
Status: 5.1.1\r\n\
Remote-MTA: dns; [192.0.2.1]\r\n\
Diagnostic-Code: smtp; 550 5.1.1 nobody of that name\r\n\
Last-Attempt-Date: Sun, 22 Nov 2026 06:28:16 +0000\r\n\
\r\n\
--=_0000000000001234.0\r\n\
Content-Type: text/rfc822-headers\r\n\
Content-Description: Header of the message\r\n\
\r\n\
Received: from x\r\n\tby y; now\r\nFrom: Ann <ann@a.test>\r\nSubject: Lunch\r\n on Thursday\r\nMessage-ID: <1@a.test>\r\n\
\r\n\
--=_0000000000001234.0--\r\n";
    assert_eq!(text, expected);
}

#[test]
fn m_156_a_whole_message_is_given_back_if_any_host_takes_it() {
    let (ann, bob) = (mailbox("ann@a.test"), mailbox("bob@b.test"));
    let recipients = [refused(&bob)];
    let third = |original| parts(&written(&report(&ann, &recipients, original))).1.pop().expect("three");
    let whole = b"Subject: x\r\n\r\nbody\r\n--=_0000000000001234.0\r\nno end\r\n";
    let part = third(Original::Whole(whole));
    assert!(part.starts_with(b"Content-Type: message/rfc822\r\n") && part.ends_with(whole), "{}", part.escape_ascii());
    let long = [b"Subject: x\r\n\r\n", &[b'a'; 999][..], b"\r\n"].concat();
    for other in [&b"Subject: x\r\n\r\n\xe9\r\n"[..], b"Subject: x\r\n\r\na\nb", b"Subject: x\r\n\r\n\0", &long] {
        let part = third(Original::Whole(other));
        assert!(
            part.starts_with(b"Content-Type: text/rfc822-headers\r\n") && part.ends_with(b"\r\n\r\nSubject: x\r\n")
        );
    }
    let part = third(Original::Headers("Subject: caf\u{e9} =\r\nTo: x \r\n".as_bytes()));
    let text = String::from_utf8(part).expect("ASCII");
    assert!(text.contains("Content-Transfer-Encoding: quoted-printable\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nSubject: caf=C3=A9 =3D\r\nTo: x=20\r\n"), "{text}");
    assert_eq!(parts(&written(&report(&ann, &recipients, Original::Headers(b"")))).1.len(), 2, "nothing is there");
}

#[test]
fn m_154_a_report_on_a_delay_says_until_when() {
    let (ann, bob, eve) = (mailbox("ann@a.test"), mailbox("bob@b.test"), mailbox("\"e v e\"@[192.0.2.9]"));
    let quiet = Recipient {
        original: None,
        status: EnhancedStatus::new(4, 4, 7),
        remote: None,
        diagnostic: None,
        last_attempt: None,
        ..refused(&eve)
    };
    let recipients = [quiet, refused(&bob)];
    let action = Action::Delayed { until: b"Tue, 24 Nov 2026 06:28:15 +0000" };
    let delay =
        Report { action, envelope_id: None, arrival: None, ..report(&ann, &recipients, Original::Headers(HEADER)) };
    let (header, parts) = parts(&written(&delay));
    assert!(String::from_utf8_lossy(&header).contains("Subject: Delayed: Lunch on Thursday\r\n"));
    let text = String::from_utf8_lossy(&parts[0]);
    assert!(text.contains("\"e v e\"@[192.0.2.9]\r\n") && text.contains("until Tue, 24 Nov 2026 06:28:15 +0000."));
    let status = String::from_utf8_lossy(&parts[1]);
    let first = "Reporting-MTA: dns; hub.test\r\n\r\nFinal-Recipient: rfc822; \"e v e\"@[192.0.2.9]\r\nAction: delayed\r\n\
                 Status: 4.4.7\r\nWill-Retry-Until: Tue, 24 Nov 2026 06:28:15 +0000\r\n\r\nOriginal-Recipient";
    assert!(status.contains(first), "{status}");
}

#[test]
fn m_148_what_an_original_recipient_stands_for_is_written_in_ascii() {
    for (orcpt, field) in [
        (&b"rfc822;Bob+2Bx@b.test"[..], "rfc822; Bob+x@b.test"),
        (b"utf-8;b\\x{FC}@b.test", "utf-8; b\\x{FC}@b.test"),
        (b"UTF-8;b+C3+BC@b.test", "UTF-8; b\\x{FC}@b.test"),
        (b"utf-8;b+FC@b.test", "utf-8; b?@b.test"),
        (b"rfc822;a+0D+0ABcc:+20x", "rfc822; a Bcc: x"),
        (b"x;", "x;"),
    ] {
        let mut out = Vec::new();
        push_field("F", &original_recipient(orcpt), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("F: {field}\r\n"));
    }
}

#[test]
fn m_158_long_and_odd_texts_are_folded_and_cleaned() {
    let long = [&b"smtp; 550 "[..], &b"word ".repeat(60), &[b'x'; 3000], b" \x1b[0m\xff end"].concat();
    let mut out = Vec::new();
    push_field("Diagnostic-Code", &long, &mut out);
    assert!(out.split(|&octet| octet == b'\n').all(|line| line.len() <= LINE_BYTES_MAX));
    let found = fields(&out).next().expect("one field");
    assert_eq!(found.range, 0..out.len(), "folded, not ended");
    assert!(out.ends_with(b" ?[0m? end\r\n"), "{}", out.escape_ascii());
}

/// What an original may try to be mistaken by.
const BITS: [&[u8]; 7] =
    [b"\r\n", b"--=_0000000000001234.", b"0", b"A: b", b"\r\n\r\n", b"\xc3\xa9", b"Subject: x\r\n"];

proptest! {
    /// Whatever others said, a report is three parts of 7-bit text in bounded lines, and nothing of one leaks into another.
    #[test]
    fn m_158_s_025_whatever_came_in_a_report_keeps_its_form(
        original in proptest::collection::vec(any::<u8>(), 0..300),
        bits in proptest::collection::vec(proptest::sample::select(&BITS[..]), 0..20),
        said in proptest::collection::vec(any::<u8>(), 0..1500),
        whole in any::<bool>(),
    ) {
        let octets = if bits.is_empty() { original } else { bits.concat() };
        let (ann, bob) = (mailbox("ann@a.test"), mailbox("bob@b.test"));
        let recipients = [Recipient { diagnostic: Some(&said), remote: Some(&said), ..refused(&bob) }];
        let original = if whole { Original::Whole(&octets) } else { Original::Headers(&octets) };
        let message = written(&report(&ann, &recipients, original));
        for line in message.split_inclusive(|&octet| octet == b'\n') {
            let own = line.strip_suffix(b"\r\n").expect("CRLF everywhere");
            prop_assert!(own.len() <= LINE_BYTES_MAX);
            prop_assert!(own.iter().all(|octet| matches!(octet, b' '..=b'~' | b'\t')));
        }
        let (_, parts) = parts(&message);
        prop_assert_eq!(parts.len(), if original.is_nothing() { 2 } else { 3 });
        prop_assert!(parts[1].starts_with(b"Content-Type: message/delivery-status\r\n"));
        prop_assert_eq!(memchr::memmem::find_iter(&parts[1], b"\r\nFinal-Recipient:").count(), 1);
        prop_assert_eq!(memchr::memmem::find_iter(&parts[1], b"\r\n\r\n").count(), 2, "two groups behind the part's header");
    }
}
