//! What a report gives back of the message that it is about.

use super::clean;
use crate::mime::header::fields;
use std::io::Write as _;

/// A line of quoted-printable, without the `=` that ends it where the line goes on (RFC 2045 §6.7).
const QUOTED_BYTES_MAX: usize = 75;
/// Fields that were for the insides of an organization stay there.
const INSIDE: [&str; 2] = ["x-ms-exchange-organization-", "x-ms-exchange-forest-"];

/// What there is of the original, and how much of it is wanted.
#[derive(Debug, Clone, Copy)]
pub enum Original<'a> {
    /// Its header section, or the beginning of it.
    Headers(&'a [u8]),
    /// All of it. Given back whole only if it is text that any host takes: 7-bit, with lines that are not too long.
    Whole(&'a [u8]),
}

impl<'a> Original<'a> {
    fn octets(&self) -> &'a [u8] {
        match self {
            Original::Headers(octets) | Original::Whole(octets) => octets,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.octets().is_empty()
    }

    /// The third part: its type, how it is encoded, if it is, and what stands in it.
    pub(super) fn part(&self) -> (&'static str, Option<&'static str>, Vec<u8>) {
        let (header, body) = self.split();
        if matches!(self, Original::Whole(_)) && is_plain(&header) && is_plain(body) {
            return ("message/rfc822", None, [&header, body].concat());
        }
        if is_plain(&header) {
            return ("text/rfc822-headers", None, header);
        }
        ("text/rfc822-headers", Some("quoted-printable"), quoted(&header))
    }

    /// The header section without what is not for outside, every line ended; and what follows it, the empty line included.
    fn split(&self) -> (Vec<u8>, &'a [u8]) {
        let octets = self.octets();
        let mut header = Vec::with_capacity(octets.len());
        let mut all = fields(octets);
        for field in all.by_ref() {
            let is_inside = |prefix: &str| {
                field.name.get(..prefix.len()).is_some_and(|name| name.eq_ignore_ascii_case(prefix.as_bytes()))
            };
            if !INSIDE.into_iter().any(is_inside) {
                header.extend_from_slice(octets.get(field.range).unwrap_or_default());
            }
        }
        let body = octets.get(all.bytes()..).unwrap_or_default();
        if !header.is_empty() && !header.ends_with(b"\n") {
            header.extend_from_slice(b"\r\n");
        }
        (header, body)
    }

    /// A field's text on one line, if it is printable ASCII and not longer than this.
    pub(super) fn field(&self, name: &str, bytes_max: usize) -> Option<Vec<u8>> {
        let field = fields(self.octets()).find(|field| field.is(name))?;
        let mut text = Vec::new();
        field.unfold(&mut text);
        text.iter_mut().filter(|octet| **octet == b'\t').for_each(|octet| *octet = b' ');
        let good = !text.is_empty() && text.len() <= bytes_max && text.iter().all(|&octet| clean(octet) == octet);
        good.then_some(text)
    }

    /// The original's own name, if it is one.
    pub(super) fn message_id(&self) -> Option<Vec<u8>> {
        let id = self.field("message-id", 250)?;
        (id.starts_with(b"<") && id.ends_with(b">") && !id.contains(&b' ')).then_some(id)
    }
}

/// Text that goes through any host as it is.
fn is_plain(octets: &[u8]) -> bool {
    octets.split_inclusive(|&octet| octet == b'\n').all(|line| {
        let whole = line.strip_suffix(b"\n").map_or(Some(line), |line| line.strip_suffix(b"\r"));
        let good = |octet: &u8| matches!(octet, 0x20..=0x7e | b'\t');
        whole.is_some_and(|line| line.len() <= super::LINE_BYTES_MAX && line.iter().all(good))
    })
}

/// In quoted-printable; line ends stay line ends.
fn quoted(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len().saturating_mul(2));
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        let ended = line.strip_suffix(b"\n");
        let own = ended.map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut column = 0usize;
        for (at, &octet) in own.iter().enumerate() {
            let last = at.saturating_add(1) == own.len();
            let plain = matches!(octet, b'!'..=b'<' | b'>'..=b'~') || (matches!(octet, b' ' | b'\t') && !last);
            let width = if plain { 1 } else { 3 };
            if column.saturating_add(width) > QUOTED_BYTES_MAX {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            if plain {
                out.push(octet);
            } else {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "={octet:02X}");
            }
            column = column.saturating_add(width);
        }
        if ended.is_some() {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}
