//! The sending half of a connection as plain state: copied text and shared slices in the order in which they leave.

use crate::io::driver::SEND_ROOM_BYTES;
use crate::sys::owned::Octets;
use crate::sys::slice::Slice;
use std::collections::VecDeque;

/// What stands in the queue.
#[derive(Debug)]
enum Part {
    /// So many octets of `text`.
    Text(usize),
    Slice(Slice),
}

/// Octets queued to be sent.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Copied octets of all `Part::Text`, in order; those before `text_start` are sent.
    text: Vec<u8>,
    text_start: usize,
    parts: VecDeque<Part>,
    /// Octets of the front slice that are sent.
    front_sent: usize,
    unsent: usize,
    /// `unsent` reached the limit since room was last reported.
    was_above: bool,
    /// The limit, if it is not the usual one.
    room: usize,
}

/// What the buffers of an empty outbox may keep allocated, in octets and in parts.
const KEPT_BYTES: usize = 512;
const KEPT_PARTS: usize = 8;
/// Sent text that may stay in front of what waits: a peer that reads more slowly than we answer never empties the outbox.
const SENT_TEXT_KEPT_BYTES: usize = 16 << 10;

impl Outbox {
    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    /// So many octets may wait; 0 is [`SEND_ROOM_BYTES`].
    pub(crate) fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
    }

    fn room(&self) -> usize {
        if self.room == 0 { SEND_ROOM_BYTES } else { self.room }
    }

    /// Queues a copy of `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.text.extend_from_slice(bytes);
        match self.parts.back_mut() {
            Some(Part::Text(count)) => *count += bytes.len(),
            _ => self.parts.push_back(Part::Text(bytes.len())),
        }
        self.grow(bytes.len());
    }

    /// Queues `slice`.
    pub(crate) fn push(&mut self, slice: Slice) {
        let bytes = slice.len();
        if bytes == 0 {
            return;
        }
        self.parts.push_back(Part::Slice(slice));
        self.grow(bytes);
    }

    fn grow(&mut self, bytes: usize) {
        self.unsent += bytes;
        self.was_above |= self.unsent >= self.room();
    }

    /// Whether so much waits that the peer is not read from.
    pub(crate) fn is_above(&self) -> bool {
        self.unsent >= self.room()
    }

    /// Once after the octets waiting fell below the limit.
    pub(crate) fn take_room(&mut self) -> bool {
        let room = self.was_above && !self.is_above();
        if room {
            self.was_above = false;
        }
        room
    }

    /// Whether `take_room` would answer yes.
    pub(crate) fn has_room_to_tell(&self) -> bool {
        self.was_above && !self.is_above()
    }

    /// The windows to send next, in order.
    pub(crate) fn windows(&self) -> impl Iterator<Item = &[u8]> {
        let mut text_at = self.text_start;
        self.parts.iter().enumerate().map(move |(index, part)| match part {
            Part::Text(count) => {
                text_at += count;
                &self.text[text_at - count..text_at]
            }
            Part::Slice(slice) => &slice[if index == 0 { self.front_sent } else { 0 }..],
        })
    }

    /// The first `most` windows to send next, in order, for an operation that owns what it sends: text copied, slices
    /// shared. Also how many octets were copied.
    pub(crate) fn owned_windows(&self, most: usize) -> (Vec<Octets>, usize) {
        let mut copied = 0;
        let windows = self.windows().zip(&self.parts).take(most).map(|(window, part)| match part {
            Part::Text(_) => {
                copied += window.len();
                Octets::Text(window.to_vec())
            }
            Part::Slice(slice) => Octets::Slice(slice.sub(slice.len() - window.len()..slice.len())),
        });
        let windows = windows.collect();
        (windows, copied)
    }

    /// Forgets the first `bytes` octets: the kernel has them.
    ///
    /// # Panics
    /// When fewer are queued.
    pub(crate) fn sent(&mut self, mut bytes: usize) {
        assert!(bytes <= self.unsent, "no more is sent than was queued");
        self.unsent -= bytes;
        while bytes > 0 {
            let left = match self.parts.front_mut().expect("counted in unsent") {
                Part::Text(count) => {
                    let step = bytes.min(*count);
                    *count -= step;
                    self.text_start += step;
                    bytes -= step;
                    *count
                }
                Part::Slice(slice) => {
                    let step = bytes.min(slice.len() - self.front_sent);
                    self.front_sent += step;
                    bytes -= step;
                    slice.len() - self.front_sent
                }
            };
            if left == 0 {
                self.parts.pop_front();
                self.front_sent = 0;
            }
        }
        if self.unsent == 0 {
            self.reset_buffers();
        } else if self.text_start >= SENT_TEXT_KEPT_BYTES && self.text_start * 2 >= self.text.len() {
            // No more is moved than was sent since the last time.
            self.text.drain(..self.text_start);
            self.text_start = 0;
        }
    }

    /// Drops everything that waits.
    pub(crate) fn clear(&mut self) {
        self.parts.clear();
        self.front_sent = 0;
        self.unsent = 0;
        self.was_above = false;
        self.reset_buffers();
    }

    fn reset_buffers(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.text_start = 0;
        self.parts.shrink_to(KEPT_PARTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::slice::{Budget, Pool};
    use proptest::prelude::*;

    fn slice(bytes: &[u8]) -> Slice {
        let mut fill = Pool::new(Budget::new(1 << 20)).fill(bytes.len()).expect("within budget");
        assert_eq!(fill.put(bytes), bytes.len());
        fill.take()
    }

    fn all(outbox: &Outbox) -> Vec<u8> {
        outbox.windows().flatten().copied().collect()
    }

    /// So many octets of a pattern that shows where each belongs.
    fn some_bytes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        (count, any::<u8>())
            .prop_map(|(count, first)| (0..count).map(|at| first.wrapping_add((at % 251) as u8)).collect())
    }

    proptest! {
        #[test]
        fn everything_leaves_once_and_in_order(
            parts in prop::collection::vec((any::<bool>(), prop_oneof![some_bytes(0..40), some_bytes(0..40_000)]), 0..12),
            steps in prop::collection::vec(prop_oneof![0_usize..60, 0_usize..60_000], 0..40),
        ) {
            let mut outbox = Outbox::default();
            let mut naive = Vec::new();
            let mut steps = steps.into_iter();
            for (copied, bytes) in &parts {
                if *copied { outbox.put(bytes) } else { outbox.push(slice(bytes)) }
                naive.extend_from_slice(bytes);
                let step = steps.next().unwrap_or(0).min(naive.len());
                outbox.sent(step);
                naive.drain(..step);
                prop_assert_eq!(&all(&outbox), &naive);
                prop_assert_eq!(outbox.unsent(), naive.len());
                let owned: Vec<u8> = outbox.owned_windows(99).0.iter().flat_map(|part| part.to_vec()).collect();
                prop_assert_eq!(&owned, &naive);
                prop_assert!(outbox.text.len() <= 2 * outbox.unsent() + SENT_TEXT_KEPT_BYTES);
            }
            outbox.sent(naive.len());
            prop_assert!(all(&outbox).is_empty());
        }
    }

    #[test]
    fn f_040_text_that_was_sent_does_not_stay_although_some_always_waits() {
        let mut outbox = Outbox::default();
        outbox.put(&[0; 200 << 10]);
        for _ in 0..1000 {
            outbox.sent(30 << 10);
            outbox.put(&[1; 30 << 10]);
            assert_eq!(outbox.unsent(), 200 << 10);
            assert!(outbox.text.capacity() <= 1 << 20, "{}", outbox.text.capacity());
        }
    }

    #[test]
    fn room_is_told_once_per_fall() {
        let mut outbox = Outbox::default();
        outbox.put(&vec![b'x'; SEND_ROOM_BYTES - 1]);
        assert!(!outbox.is_above() && !outbox.take_room());
        outbox.put(b"yz");
        assert!(outbox.is_above() && !outbox.take_room());
        outbox.sent(2);
        assert!(outbox.take_room());
        assert!(!outbox.take_room());
    }
}
