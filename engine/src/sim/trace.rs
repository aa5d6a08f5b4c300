//! The trace of a run, folded into one number: every event with its time. Two runs with the same number did the same.

use crate::wire::Tick;
use std::cell::Cell;

/// The hash of everything that happened so far (FNV-1a over words, mixed at the end).
#[derive(Debug)]
pub struct Trace {
    hash: Cell<u64>,
    events: Cell<u64>,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum What {
    /// A shard had a turn: shard, polls.
    Turn = 1,
    /// Octets, FIN or a reset arrived: connection, checksum.
    Arrival,
    /// A connection was made: its number, the port.
    Connected,
    /// A file was written: file, offset, checksum.
    Written,
    /// Any other step of a disk.
    Disk,
    /// A process or a machine died or began.
    Life,
    /// A fault was drawn.
    Fault,
    /// The ledger was told something.
    Ledger,
}

impl Trace {
    /// Nothing has happened.
    pub fn new() -> Self {
        Self { hash: Cell::new(0xcbf2_9ce4_8422_2325), events: Cell::new(0) }
    }

    /// Adds an event.
    pub fn add(&self, at: Tick, what: What, facts: &[u64]) {
        self.events.set(self.events.get() + 1);
        let mut hash = fold(fold(self.hash.get(), at.0), what as u64);
        for &fact in facts {
            hash = fold(hash, fact);
        }
        self.hash.set(hash);
    }

    /// The number of the trace so far.
    pub fn hash(&self) -> u64 {
        let hash = self.hash.get();
        (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events.get()
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

fn fold(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
}

/// One number for some octets.
pub fn digest(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|piece| {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_about_an_event_counts() {
        let of = |at: u64, what, facts: &[u64]| {
            let trace = Trace::new();
            trace.add(Tick(at), what, facts);
            trace.hash()
        };
        let plain = of(1, What::Turn, &[1, 2]);
        assert_eq!(plain, of(1, What::Turn, &[1, 2]));
        for other in [of(2, What::Turn, &[1, 2]), of(1, What::Disk, &[1, 2]), of(1, What::Turn, &[2, 1])] {
            assert_ne!(plain, other);
        }
        assert_ne!(digest(b"abcdefghi"), digest(b"abcdefgh"));
        assert_ne!(digest(b"a\0"), digest(b"a"));
    }
}
