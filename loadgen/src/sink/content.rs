//! Whether what arrived is what was sent (I-4), without having seen what was sent: the stamp in the reverse-path says how
//! many octets there were and their CRC-32C. What stands in front of them must be trace that hops put there.

use crate::stamp::{Stamp, crc32c, crc32c_back, crc32c_factor, crc32c_join};
use crc_fast::{CrcAlgorithm, Digest};
use memchr::memmem::Finder;
use std::cell::Cell;

/// Octets at the front of a content that are kept until its end: as much trace as a check can see past.
pub const TRACE_BYTES_MAX: usize = 16 << 10;

/// The end of a header section.
const HEADER_END: &[u8] = b"\r\n\r\n";

/// One content while it arrives. Reused for the next one.
pub struct Content {
    digest: Digest,
    bytes: u64,
    /// The front up to the end of its header section: trace is nowhere else.
    head: Vec<u8>,
    head_is_whole: bool,
    /// The last length that a checksum was taken back by, and its factor: contents of one size follow each other.
    factor: Cell<(u64, u32)>,
    /// Finds the end of a header section: made once, for it is looked for in every content.
    header_end: Finder<'static>,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            digest: Digest::new(CrcAlgorithm::Crc32Iscsi),
            bytes: 0,
            head: Vec::new(),
            head_is_whole: false,
            factor: Cell::new((0, crc32c_factor(0))),
            header_end: Finder::new(HEADER_END),
        }
    }
}

impl Content {
    /// A new content begins.
    pub fn begin(&mut self) {
        self.digest.reset();
        self.bytes = 0;
        self.head.clear();
        self.head_is_whole = false;
    }

    /// Its next octets.
    pub fn add(&mut self, octets: &[u8]) {
        self.digest.update(octets);
        self.bytes += octets.len() as u64;
        if !self.head_is_whole {
            self.add_to_head(octets);
        }
    }

    fn add_to_head(&mut self, octets: &[u8]) {
        let room = TRACE_BYTES_MAX - self.head.len();
        // An empty line may have begun in what came before.
        let from = self.head.len().saturating_sub(HEADER_END.len() - 1);
        let before = self.head.len() - from;
        let mut seam = [0; 2 * (HEADER_END.len() - 1)];
        let behind = octets.len().min(HEADER_END.len() - 1);
        seam[..before].copy_from_slice(&self.head[from..]);
        seam[before..before + behind].copy_from_slice(&octets[..behind]);
        let in_seam =
            memchr::memmem::find(&seam[..before + behind], HEADER_END).map(|at| at + HEADER_END.len() - before);
        let end = in_seam.or_else(|| self.header_end.find(octets).map(|at| at + HEADER_END.len()));
        self.head_is_whole = end.is_some() || octets.len() >= room;
        self.head.extend_from_slice(&octets[..end.unwrap_or(octets.len()).min(room)]);
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
            let back = if trace.is_empty() { whole } else { crc32c_back(whole, crc32c(trace), self.factor_of(bytes)) };
            back == crc && is_trace(trace)
        })
    }

    fn factor_of(&self, bytes: u64) -> u32 {
        if self.factor.get().0 != bytes {
            self.factor.set((bytes, crc32c_factor(bytes)));
        }
        self.factor.get().1
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
        // The empty line that ends the front is no trace, nor is anything behind it.
        assert!(!arrived(&[b"A: b\r\n\r\n", MAIL]).is_what(&stamp(MAIL)));
        assert!(!arrived(&[b"A: b\r\n\r\nC: d\r\n", MAIL]).is_what(&stamp(MAIL)));
        // Trace in front of a body without header section.
        for body in [&b"\r\nbody\r\n"[..], b"no header\r\n\r\nbody"] {
            assert!(arrived(&[trace, body]).is_what(&stamp(body)));
        }
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

        #[test]
        fn trace_is_seen_past_however_it_is_cut(cuts in prop::collection::vec(0usize..120, 0..6)) {
            let trace = b"Received: from a by b;\r\n\tSun, 1 Jan 2024\r\n";
            let whole = [&trace[..], MAIL].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.sort_unstable();
            let mut content = Content::default();
            let mut from = 0;
            for cut in cuts.into_iter().chain([whole.len()]) {
                content.add(&whole[from..cut]);
                from = cut;
            }
            prop_assert!(content.is_what(&stamp(MAIL)));
            prop_assert!(content.head.ends_with(HEADER_END) && content.head.len() < whole.len(), "the body is not kept");
        }
    }
}
