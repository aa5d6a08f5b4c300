//! A message's octets as slices: collected while they arrive, and sent in either form without another copy.

use crate::io::driver::Conn;
use crate::smtp::stuff::{Stuffer, end_of_data};
use crate::sys::slice::{BLOCK_BYTES, Fill, Pool, Slice};
use crate::wire::ContentFacts;
use smallvec::SmallVec;

/// Slices of one message. Small messages have one.
pub type Slices = SmallVec<[Slice; 2]>;

/// The size of the chunks of a body of unknown length, octets: the first one, and those after it.
const FIRST_CHUNK_BYTES: usize = 16 << 10;
const NEXT_CHUNK_BYTES: usize = 256 << 10;
/// The largest chunk of any body, octets.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A body that did not arrive in one piece: chunks of its own, filled in order.
#[derive(Debug)]
pub struct Body {
    full: Slices,
    open: Option<Fill>,
    bytes: u64,
    /// No chunk is larger.
    chunk_bytes_max: usize,
}

impl Default for Body {
    fn default() -> Self {
        Self::in_chunks(CHUNK_BYTES_MAX)
    }
}

impl Body {
    /// A body whose chunks have so many octets at most: at least [`BLOCK_BYTES`].
    pub fn in_chunks(chunk_bytes_max: usize) -> Self {
        Self { full: Slices::new(), open: None, bytes: 0, chunk_bytes_max }
    }

    /// Octets collected.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Copies `octets` behind what there is. `false`: no memory; what did not fit is lost, and so is the body.
    pub fn put(&mut self, pool: &Pool, mut octets: &[u8], expected: u64) -> bool {
        while !octets.is_empty() {
            let Some(mut fill) = self.take_open(pool, expected) else { return false };
            let put = fill.put(octets);
            octets = &octets[put..];
            self.put_back(fill, put);
        }
        true
    }

    /// The chunk to write or receive into next; give it back by [`Body::put_back`]. `None`: no memory.
    pub fn take_open(&mut self, pool: &Pool, expected: u64) -> Option<Fill> {
        if let Some(fill) = self.open.take() {
            return Some(fill);
        }
        let least = if self.full.is_empty() { FIRST_CHUNK_BYTES } else { NEXT_CHUNK_BYTES };
        let left = usize::try_from(expected.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
        let wanted = if left == 0 { least } else { left.next_multiple_of(BLOCK_BYTES) };
        pool.fill(wanted.min(self.chunk_bytes_max))
    }

    /// Takes a chunk back to which `added` octets of content were added. What stands behind the content and is not yet
    /// decided upon keeps the chunk open.
    pub fn put_back(&mut self, mut fill: Fill, added: usize) {
        fill.unlimit();
        self.bytes += added as u64;
        if fill.room() == 0 {
            self.full.push(fill.take());
        } else {
            self.open = Some(fill);
        }
    }

    /// Free octets in the chunk that is open.
    pub fn open_room(&self) -> usize {
        self.open.as_ref().map_or(0, Fill::room)
    }

    /// Takes the chunks that are full, in order, and how many octets they hold: a piece of a large body to be written.
    pub fn take_full(&mut self) -> (Slices, u64) {
        let full = std::mem::take(&mut self.full);
        let bytes = full.iter().map(|slice| slice.len() as u64).sum();
        (full, bytes)
    }

    /// Octets in full chunks.
    pub fn full_bytes(&self) -> usize {
        self.full.iter().map(|slice| slice.len()).sum()
    }

    /// Ends the body: every chunk, the last one zero-padded to whole blocks. What [`Body::take_full`] took is not in it.
    pub fn finish(mut self) -> Slices {
        if let Some(mut fill) = self.open.take()
            && fill.filled() > 0
        {
            fill.pad_to(BLOCK_BYTES);
            self.full.push(fill.take());
        }
        self.full
    }
}

/// Cuts padded chunks to the `bytes` octets that are content.
pub fn trim(chunks: &[Slice], bytes: u64) -> Slices {
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut slices = Slices::new();
    for chunk in chunks {
        let count = left.min(chunk.len());
        if count > 0 {
            slices.push(chunk.sub(0..count));
        }
        left -= count;
    }
    slices
}

/// Queues content as a chunk: as it is.
pub fn push_chunk<C: Conn>(conn: &mut C, content: &[Slice]) {
    for slice in content {
        conn.push(slice.clone());
    }
}

/// Queues content as DATA: a dot in front of each line that begins with one, a CRLF behind a last line without, and the
/// final dot (RFC 5321 §4.5.2; M-047).
pub fn push_data<C: Conn>(conn: &mut C, content: &[Slice], facts: &ContentFacts) {
    stuff(content, facts, |part| match part {
        Part::Content(slice) => conn.push(slice),
        Part::Fixed(octets) => conn.put(octets),
    });
}

/// A part of a body as it travels by DATA.
enum Part {
    Content(Slice),
    Fixed(&'static [u8]),
}

/// All of a body as it travels by DATA: a dot more in front of each leading one, and the end (M-047).
fn stuff(content: &[Slice], facts: &ContentFacts, mut send: impl FnMut(Part)) {
    match facts.leading_dots.all() {
        Some([]) => content.iter().for_each(|slice| send(Part::Content(slice.clone()))),
        Some(dots) => stuff_at(content, dots.iter().map(|&dot| u64::from(dot)), &mut send),
        None => stuff_at(content, leading_dots(content).into_iter(), &mut send),
    }
    send(Part::Fixed(end_of_data(facts.ends_with_crlf || facts.bytes == 0)));
}

fn stuff_at(content: &[Slice], mut dots: impl Iterator<Item = u64>, send: &mut impl FnMut(Part)) {
    let mut next = dots.next();
    let mut at = 0u64;
    for slice in content {
        let end = at + slice.len() as u64;
        let mut sent = 0;
        while let Some(dot) = next.filter(|&dot| dot < end) {
            let cut = usize::try_from(dot - at).expect("inside the slice");
            send(Part::Content(slice.sub(sent..cut)));
            send(Part::Fixed(b"."));
            sent = cut;
            next = dots.next();
        }
        send(Part::Content(slice.sub(sent..slice.len())));
        at = end;
    }
}

/// Where lines begin with a dot, for content that has more of them than its facts keep.
fn leading_dots(content: &[Slice]) -> Vec<u64> {
    let (mut stuffer, mut at) = (Stuffer::new(), 0u64);
    let mut dots = Vec::new();
    for slice in content {
        dots.extend(stuffer.dots(slice).map(|dot| at + dot as u64));
        at += slice.len() as u64;
    }
    dots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::slice::Budget;

    fn slices(pool: &Pool, pieces: &[&[u8]]) -> Vec<Slice> {
        pieces
            .iter()
            .map(|piece| {
                let mut fill = pool.fill(piece.len().max(1)).expect("fits");
                fill.put(piece);
                fill.take()
            })
            .collect()
    }

    #[test]
    fn leading_dots_are_found_however_the_content_is_cut() {
        let pool = Pool::new(Budget::new(1 << 20));
        let text = b".a\r\n..b\r\nc.\r\n.\r\n\r\n.";
        let expected: Vec<u64> = vec![0, 4, 13, 18];
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let cut = slices(&pool, &[&text[..first], &text[first..second], &text[second..]]);
                assert_eq!(leading_dots(&cut), expected, "cut at {first}, {second}");
            }
        }
    }

    /// What leaves by DATA of content cut at these places.
    fn sent(pool: &Pool, content: &[u8], cuts: [usize; 2]) -> Vec<u8> {
        let [first, second] = cuts;
        let mut facts = ContentFacts {
            bytes: content.len() as u64,
            ends_with_crlf: content.is_empty() || content.ends_with(b"\r\n"),
            ..ContentFacts::default()
        };
        let mut at = 0;
        for line in content.split_inclusive(|&octet| octet == b'\n') {
            if line.starts_with(b".") {
                facts.leading_dots.push(at);
            }
            at += line.len() as u64;
        }
        let mut out = Vec::new();
        let cut = slices(pool, &[&content[..first], &content[first..second], &content[second..]]);
        stuff(&cut, &facts, |part| match part {
            Part::Content(slice) => out.extend_from_slice(&slice),
            Part::Fixed(octets) => out.extend_from_slice(octets),
        });
        out
    }

    #[test]
    fn m_047_lines_with_a_dot_get_another_and_the_end_stands_alone() {
        let pool = Pool::new(Budget::new(8 << 20));
        let (many, stuffed) = (b".x\r\n".repeat(7), [b"..x\r\n".repeat(7), b".\r\n".to_vec()].concat());
        for (content, stream) in [
            (&b""[..], &b".\r\n"[..]),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b"..\r\n.\r\n.a\r\nb.\r\n", b"...\r\n..\r\n..a\r\nb.\r\n.\r\n"),
            (b"a\r\n.", b"a\r\n..\r\n.\r\n"),
            // More than the facts keep: the content is looked at.
            (&many, &stuffed),
        ] {
            for first in 0..=content.len() {
                for second in first..=content.len() {
                    let out = sent(&pool, content, [first, second]);
                    assert_eq!(out, stream, "{} cut at {first} and {second}", content.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn a_body_comes_back_padded_and_trims_to_what_was_put_in() {
        let pool = Pool::new(Budget::new(8 << 20));
        let text: Vec<u8> = (0..700_000u32).map(|index| (index % 253) as u8).collect();
        for expected in [0, 700_000, 10] {
            let mut body = Body::default();
            for piece in text.chunks(70_001) {
                assert!(body.put(&pool, piece, expected));
            }
            let chunks = body.finish();
            assert!(chunks.iter().all(|chunk| chunk.len().is_multiple_of(BLOCK_BYTES)));
            let whole: Vec<u8> = trim(&chunks, 700_000).iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(whole == text);
        }
    }
}
