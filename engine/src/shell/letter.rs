//! A message as a mailbox gets it: what final delivery puts in front of the content, and what it leaves out of it.

use super::body::Slices;
use crate::mime::header::fields;
use crate::sys::slice::Slice;
use crate::wire::MailboxRef;
use std::borrow::Cow;
use std::ops::Range;

/// The first `bytes` octets of `content`, in one piece; copied only where they stand in several.
pub(super) fn front(content: &[Slice], bytes: u64) -> Cow<'_, [u8]> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    match content.first() {
        Some(first) if first.len() >= bytes => Cow::Borrowed(&first[..bytes]),
        _ => Cow::Owned(content.iter().flat_map(|slice| slice.iter().copied()).take(bytes).collect()),
    }
}

/// `content`, which begins with `header`, without the Return-Path fields that others left in it: the one in front is ours
/// (M-079).
pub(super) fn without_return_paths(content: &[Slice], header: &[u8]) -> Slices {
    let mut kept = Slices::new();
    let mut from = 0;
    for field in fields(header).filter(|field| field.is("return-path")) {
        push_range(content, from..field.range.start, &mut kept);
        from = field.range.end;
    }
    push_range(content, from..usize::MAX, &mut kept);
    kept
}

fn push_range(content: &[Slice], range: Range<usize>, into: &mut Slices) {
    let mut at = 0;
    for slice in content {
        let end = at + slice.len();
        let part = range.start.max(at)..range.end.min(end);
        if part.start < part.end {
            into.push(slice.sub(part.start - at..part.end - at));
        }
        at = end;
    }
}

/// Whether a message with this header section was delivered to `mailbox` before: it goes round in a loop (M-080).
pub(super) fn was_delivered_to(header: &[u8], mailbox: MailboxRef<'_>) -> bool {
    let mut found = fields(header).filter(|field| field.is("delivered-to")).peekable();
    if found.peek().is_none() {
        return false;
    }
    let mut address = Vec::new();
    mailbox.write(&mut address);
    let mut text = Vec::new();
    found.any(|field| {
        text.clear();
        field.unfold(&mut text);
        text.trim_ascii().eq_ignore_ascii_case(&address)
    })
}

/// Appends the field by which a later delivery to the same mailbox knows this one.
pub(super) fn write_delivered_to(mailbox: MailboxRef<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Delivered-To: ");
    mailbox.write(out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::slice::{Budget, Pool};
    use crate::wire::Mailbox;

    fn slices(octets: &[u8], size: usize) -> Slices {
        let pool = Pool::new(Budget::new(1 << 20));
        let slice = |part: &[u8]| {
            let mut fill = pool.fill(part.len()).expect("memory");
            fill.put(part);
            fill.take()
        };
        octets.chunks(size).map(slice).collect()
    }

    #[test]
    fn m_079_return_paths_of_others_are_left_out_and_nothing_else_is() {
        for (content, header_bytes, kept) in [
            (&b"To: x\r\n\r\nReturn-Path: <body>\r\n"[..], 7, &b"To: x\r\n\r\nReturn-Path: <body>\r\n"[..]),
            (b"Return-Path: <a>\r\nTo: x\r\n\r\nb\r\n", 25, b"To: x\r\n\r\nb\r\n"),
            (b"To: x\r\nRETURN-path :\r\n <a>\r\nCc: y\r\nReturn-Path: <>\r\n\r\nb", 53, b"To: x\r\nCc: y\r\n\r\nb"),
            (b"Return-Path: <a>\r\n", 18, b""),
            (b"Return-Path-Not: a\r\nReturn-Path", 20, b"Return-Path-Not: a\r\nReturn-Path"),
            (b"", 0, b""),
        ] {
            for size in 1..=content.len().max(1) {
                let pieces = slices(content, size);
                let header = front(&pieces, header_bytes);
                assert_eq!(&*header, &content[..header_bytes as usize]);
                let left: Vec<u8> =
                    without_return_paths(&pieces, &header).iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!(left, kept, "{} by {size}", content.escape_ascii());
            }
        }
    }

    #[test]
    fn m_080_a_message_that_was_here_before_is_known() {
        let mailbox = Mailbox::parse(b"Ann@b.test").expect("a mailbox");
        for (header, known) in [
            (&b"To: ann@b.test\r\n"[..], false),
            (b"Delivered-To: bob@b.test\r\n", false),
            (b"Delivered-To: bob@b.test\r\ndelivered-to:\r\n\tann@B.test \r\n", true),
            (b"Delivered-To: ann@b.test.example\r\n", false),
        ] {
            assert_eq!(was_delivered_to(header, mailbox.as_ref()), known, "{}", header.escape_ascii());
        }
        let mut ours = Vec::new();
        write_delivered_to(mailbox.as_ref(), &mut ours);
        assert!(was_delivered_to(&ours, mailbox.as_ref()));
    }
}
