//! Whether what arrived is what was sent (I-4), without having seen what was sent: the stamp in the reverse-path says how
//! many octets there were and their CRC-32C. What stands in front of them must be trace that hops put there.

use crate::stamp::{Stamp, crc32c, crc32c_back, crc32c_join};
use crc_fast::{CrcAlgorithm, Digest};

/// Octets at the front of a content that are kept until its end: as much trace as a check can see past.
pub const TRACE_BYTES_MAX: usize = 16 << 10;

/// One content while it arrives. Reused for the next one.
pub struct Content {
    digest: Digest,
    bytes: u64,
    head: Vec<u8>,
}

impl Default for Content {
    fn default() -> Self {
        Self { digest: Digest::new(CrcAlgorithm::Crc32Iscsi), bytes: 0, head: Vec::new() }
    }
}

impl Content {
    /// A new content begins.
    pub fn begin(&mut self) {
        self.digest.reset();
        self.bytes = 0;
        self.head.clear();
    }

    /// Its next octets.
    pub fn add(&mut self, octets: &[u8]) {
        self.digest.update(octets);
        self.bytes += octets.len() as u64;
        let room = TRACE_BYTES_MAX - self.head.len();
        self.head.extend_from_slice(&octets[..octets.len().min(room)]);
    }

    /// Octets so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the content, which is complete, is what `stamp` says with nothing but trace in front. A final CRLF that
    /// the sender's content lacked and a hop had to add is no difference.
    pub fn is_what(&self, stamp: &Stamp) -> bool {
        let whole = self.digest.finalize() as u32;
        if self.ends_as(whole, stamp.bytes, stamp.crc32c) {
            return true;
        }
        !stamp.ends_with_crlf && {
            let with_end = crc32c_join(stamp.crc32c, crc32c(b"\r\n"), 2);
            self.ends_as(whole, stamp.bytes + 2, with_end)
        }
    }

    fn ends_as(&self, whole: u32, bytes: u64, crc: u32) -> bool {
        let Some(trace_bytes) = self.bytes.checked_sub(bytes) else { return false };
        let trace = usize::try_from(trace_bytes).ok().and_then(|bytes| self.head.get(..bytes));
        trace.is_some_and(|trace| {
            let back = if trace.is_empty() { whole } else { crc32c_back(whole, crc32c(trace), bytes) };
            back == crc && is_trace(trace)
        })
    }
}

/// Whether `octets` are whole header fields.
fn is_trace(octets: &[u8]) -> bool {
    let field = |line: &[u8]| {
        let continued = matches!(line.first(), Some(b' ' | b'\t'));
        line.ends_with(b"\r\n") && (continued || memchr::memchr(b':', line).is_some_and(|at| at > 0))
    };
    octets.split_inclusive(|&octet| octet == b'\n').all(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp(content: &[u8]) -> Stamp {
        Stamp {
            run: 1,
            seq: 2,
            bytes: content.len() as u64,
            crc32c: crc32c(content),
            ends_with_crlf: content.ends_with(b"\r\n"),
        }
    }

    fn arrived(pieces: &[&[u8]]) -> Content {
        let mut content = Content::default();
        content.add(b"what came before");
        content.begin();
        pieces.iter().for_each(|piece| content.add(piece));
        content
    }

    const MAIL: &[u8] = b"Received: from old\r\nSubject: x\r\n\r\nbody\r\n";

    #[test]
    fn i_4_trace_in_front_is_no_difference_and_anything_else_is_one() {
        let trace: &[u8] = b"Received: from a by b;\r\n\tSun, 1 Jan 2024\r\nReturn-Path: <>\r\n";
        assert!(arrived(&[MAIL]).is_what(&stamp(MAIL)));
        assert!(arrived(&[trace, MAIL]).is_what(&stamp(MAIL)));
        for front in [&b"x"[..], b"not a field\r\n", b"Received: x\n", b": x\r\n", b"Received: cut"] {
            assert!(!arrived(&[front, MAIL]).is_what(&stamp(MAIL)), "{front:?}");
        }
        assert!(!arrived(&[MAIL, b"\r\n"]).is_what(&stamp(MAIL)));
        assert!(!arrived(&[&MAIL[..MAIL.len() - 1]]).is_what(&stamp(MAIL)));
        assert!(!arrived(&[]).is_what(&stamp(MAIL)));
        let mut flipped = MAIL.to_vec();
        flipped[20] ^= 1;
        assert!(!arrived(&[&flipped]).is_what(&stamp(MAIL)));
    }

    #[test]
    fn i_4_a_line_end_that_data_had_to_add_is_no_difference() {
        assert!(arrived(&[b"a: b\r\n\r\nno end", b"\r", b"\n"]).is_what(&stamp(b"a: b\r\n\r\nno end")));
        assert!(!arrived(&[b"a: b\r\n\r\nno end\n\n"]).is_what(&stamp(b"a: b\r\n\r\nno end")));
    }

    #[test]
    fn more_trace_than_can_be_seen_past_is_a_difference() {
        let long = [b"A: ".to_vec(), vec![b'x'; TRACE_BYTES_MAX], b"\r\n".to_vec()].concat();
        assert!(!arrived(&[&long, MAIL]).is_what(&stamp(MAIL)));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(octets in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(0usize..300, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(octets.len())).collect();
            cuts.sort_unstable();
            let mut content = Content::default();
            let mut from = 0;
            for cut in cuts.into_iter().chain([octets.len()]) {
                content.add(&octets[from..cut]);
                from = cut;
            }
            prop_assert_eq!(content.bytes(), octets.len() as u64);
            prop_assert!(content.is_what(&stamp(&octets)));
        }
    }
}
