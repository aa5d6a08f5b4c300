//! What a connection is about to send: short copied text and shared slices, in order.

use super::slice::Slice;

enum Piece {
    /// A range of `text`.
    Text {
        from: usize,
        len: usize,
    },
    Slice(Slice),
}

/// A gather list. Keeps its capacity when emptied, so a connection in steady state does not allocate.
#[derive(Default)]
pub struct Outgoing {
    text: Vec<u8>,
    pieces: Vec<Piece>,
    /// Pieces before this one are sent.
    head: usize,
    bytes: usize,
}

impl Outgoing {
    /// Octets queued.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether it has no memory of its own yet.
    pub fn is_bare(&self) -> bool {
        self.text.capacity() == 0 && self.pieces.capacity() == 0
    }

    /// Queues a copy of `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let from = self.text.len();
        self.text.extend_from_slice(bytes);
        self.bytes += bytes.len();
        if let Some(Piece::Text { from: last, len }) = self.pieces.last_mut()
            && *last + *len == from
        {
            *len += bytes.len();
            return;
        }
        self.pieces.push(Piece::Text { from, len: bytes.len() });
    }

    /// Queues `slice` as it is.
    pub fn push(&mut self, slice: Slice) {
        if slice.is_empty() {
            return;
        }
        self.bytes += slice.len();
        if let Some(Piece::Slice(last)) = self.pieces.last_mut()
            && last.is_followed_by(&slice)
        {
            *last = last.join(&slice);
            return;
        }
        self.pieces.push(Piece::Slice(slice));
    }

    /// What is queued, front to back.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces[self.head..].iter().map(|piece| match piece {
            Piece::Text { from, len } => &self.text[*from..*from + *len],
            Piece::Slice(slice) => slice,
        })
    }

    /// The first `bytes` octets were sent.
    ///
    /// # Panics
    /// When fewer are queued.
    pub fn consume(&mut self, mut bytes: usize) {
        assert!(bytes <= self.bytes, "more was sent than queued");
        self.bytes -= bytes;
        if self.bytes == 0 {
            self.clear();
            return;
        }
        while bytes > 0 {
            match &mut self.pieces[self.head] {
                Piece::Text { from, len } if *len > bytes => {
                    *from += bytes;
                    *len -= bytes;
                    return;
                }
                Piece::Slice(slice) if slice.len() > bytes => {
                    *slice = slice.sub(bytes..slice.len());
                    return;
                }
                Piece::Text { len, .. } => bytes -= std::mem::take(len),
                Piece::Slice(slice) => {
                    bytes -= slice.len();
                    *slice = slice.sub(0..0);
                }
            }
            self.head += 1;
        }
    }

    /// Drops everything queued.
    pub fn clear(&mut self) {
        self.text.clear();
        self.pieces.clear();
        self.head = 0;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::slice::{Budget, Pool};

    fn all(out: &Outgoing) -> Vec<u8> {
        out.parts().flatten().copied().collect()
    }

    #[test]
    fn order_is_kept_and_any_amount_may_be_sent_at_a_time() {
        let mut fill = Pool::new(Budget::new(1 << 16)).fill(100).expect("fits");
        fill.put(b"SLICE");
        let slice = fill.take();
        for step in 1..=14 {
            let mut out = Outgoing::default();
            out.put(b"ab");
            out.put(b"cd");
            out.push(slice.clone());
            out.push(slice.sub(0..0));
            out.put(b"efghi");
            let whole = all(&out);
            assert_eq!(whole, b"abcdSLICEefghi");
            let mut sent = Vec::new();
            while !out.is_empty() {
                let now = step.min(out.bytes());
                sent.extend_from_slice(&all(&out)[..now]);
                out.consume(now);
            }
            assert_eq!(sent, whole);
        }
    }

    #[test]
    fn neighbours_leave_as_one_part() {
        let mut fill = Pool::new(Budget::new(1 << 16)).fill(100).expect("fits");
        fill.put(b"one");
        let one = fill.take();
        fill.put(b"two");
        let two = fill.take();
        let mut out = Outgoing::default();
        out.push(one);
        out.push(two);
        assert_eq!(out.parts().count(), 1);
        assert_eq!(all(&out), b"onetwo");
    }
}
