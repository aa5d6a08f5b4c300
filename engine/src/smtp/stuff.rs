//! Content on its way out by DATA: a dot in front of every line that begins with one, and the end of data behind a final
//! CRLF (RFC 5321 §4.5.2, M-047). Content that came in through a session has its leading dots noted, so it is not looked at
//! again; where there were too many to note, [`Stuffer`] looks.

use memchr::memmem;

/// What ends the data behind content that ends, or does not end, in CRLF; empty content counts as ending in it.
pub fn end_of_data(ends_with_crlf: bool) -> &'static [u8] {
    if ends_with_crlf { b".\r\n" } else { b"\r\n.\r\n" }
}

/// Finds leading dots in content that is seen part by part.
#[derive(Debug, Clone)]
pub struct Stuffer {
    /// The last two octets seen.
    tail: [u8; 2],
}

impl Default for Stuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Stuffer {
    /// At the beginning of the content, which is the beginning of a line.
    pub fn new() -> Self {
        Self { tail: *b"\r\n" }
    }

    /// The offsets in `part`, ascending, in front of which a dot is to be sent.
    pub fn dots<'p>(&mut self, part: &'p [u8]) -> impl Iterator<Item = usize> + use<'p> {
        let head = match (self.tail, part) {
            ([b'\r', b'\n'], [b'.', ..]) => Some(0),
            ([_, b'\r'], [b'\n', b'.', ..]) => Some(1),
            _ => None,
        };
        self.tail = match *part {
            [] => self.tail,
            [only] => [self.tail.last().copied().unwrap_or(0), only],
            [.., before, last] => [before, last],
        };
        head.into_iter().chain(memmem::find_iter(part, b"\r\n.").map(|at| at.saturating_add(2)))
    }

    /// What ends the data behind what was seen.
    pub fn end(&self) -> &'static [u8] {
        end_of_data(self.tail == *b"\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::scan::{Bare, Scan, Then};
    use proptest::prelude::*;

    fn send_searched(content: &[u8], cut: usize) -> Vec<u8> {
        let (mut stuffer, mut out) = (Stuffer::new(), Vec::new());
        for part in [&content[..cut], &content[cut..]] {
            let mut at = 0;
            for dot in stuffer.dots(part) {
                out.extend_from_slice(&part[at..dot]);
                out.push(b'.');
                at = dot;
            }
            out.extend_from_slice(&part[at..]);
        }
        out.extend_from_slice(stuffer.end());
        out
    }

    /// The other side's view: what DATA content these octets are.
    fn received(stream: &[u8]) -> Vec<u8> {
        let (mut scan, mut at, mut content) = (Scan::new(), 0, Vec::new());
        loop {
            let found = scan.stuffed(&stream[at..], Bare::Note);
            content.extend_from_slice(&stream[at..at + found.content]);
            at += found.content;
            match found.then {
                Then::Dot => at += 1,
                Then::End => {
                    assert_eq!(at + 3, stream.len(), "the data ends where the stream does");
                    return content;
                }
                other => panic!("{other:?} at {at} of {}", stream.escape_ascii()),
            }
        }
    }

    #[test]
    fn leading_dots_and_the_end_are_found_at_every_cut() {
        for (content, stream) in [
            (&b""[..], &b".\r\n"[..]),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b"..\r\n.\r\n.a\r\nb.\r\n", b"...\r\n..\r\n..a\r\nb.\r\n.\r\n"),
            (b"a\r\n.", b"a\r\n..\r\n.\r\n"),
        ] {
            for cut in 0..=content.len() {
                assert_eq!(send_searched(content, cut), stream, "{} cut at {cut}", content.escape_ascii());
            }
        }
    }

    proptest! {
        #[test]
        fn m_045_text_out_and_in_again_is_the_same(lines in proptest::collection::vec("[.a\u{0}]{0,4}", 0..12), cut in 0usize..60) {
            let content = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>().into_bytes();
            let searched = send_searched(&content, cut.min(content.len()));
            prop_assert_eq!(&received(&searched), &content);
        }
    }
}
