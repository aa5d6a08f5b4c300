//! The sink's ledger: one entry per (message, recipient) that it took, in a compact binary form that the sender or the
//! harness correlates with what was sent.
//!
//! File and admin dump, version 1, little endian:
//!
//! | offset | octets | meaning |
//! |---|---|---|
//! | 0 | 8 | `RPLEDGER` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | octets per entry, 32; a reader of a later version skips what it does not know |
//! | 16 | 32 each | entries to the end |
//!
//! An entry:
//!
//! | offset | octets | meaning |
//! |---|---|---|
//! | 0 | 4 | run of the stamp, 0 without one |
//! | 4 | 4 | key of the recipient ([`crate::stamp::recipient_key`]); of a report that can be read: of the one it tells of |
//! | 8 | 8 | number of the message in the run; without a stamp `u64::MAX`; of a gap how many pairs are not here |
//! | 16 | 8 | `t3`: CLOCK_MONOTONIC in nanoseconds when the sink had the whole message, before its reply |
//! | 24 | 4 | octets of content with what was put in front, at most `u32::MAX` |
//! | 28 | 1 | flags, below |
//! | 29 | 3 | 0 |

use engine::wire::Tick;
use std::io;

/// First octets of a ledger.
pub const LEDGER_MAGIC: &[u8; 8] = b"RPLEDGER";
/// The version that this module writes.
pub const LEDGER_VERSION: u32 = 1;
/// Octets of an entry.
pub const DELIVERY_BYTES: usize = 32;
const HEADER_BYTES: usize = 16;

/// The sender was not (or not completely) told that the message was taken: `take+close`, `cut`, a reset.
pub const FLAG_SILENT: u8 = 1;
/// The message was taken although its reply refused it: `take+reply`.
pub const FLAG_REFUSED: u8 = 2;
/// The content is not what the stamp says was sent (I-4).
pub const FLAG_DIFFERS: u8 = 4;
/// The reverse-path was null: a report to the message's reverse-path. One entry for each recipient that it calls failed (RFC
/// 3464); one with the key of the reverse-path where it cannot be read.
pub const FLAG_REPORT: u8 = 8;
/// No stamp: nobody of ours sent it.
pub const FLAG_UNSTAMPED: u8 = 16;
/// With [`FLAG_REPORT`]: the report calls nobody failed, but delayed, relayed or delivered.
pub const FLAG_NO_FAILURE: u8 = 32;
/// With [`FLAG_REFUSED`]: it was refused with 5yz, which nobody repeats.
pub const FLAG_FOR_GOOD: u8 = 64;
/// No message: a gap. The ledger was full, and so many pairs that were taken are not in it.
pub const FLAG_UNRECORDED: u8 = 128;

/// One message taken for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Run of the stamp.
    pub run: u32,
    /// Key of the recipient.
    pub recipient: u32,
    /// Number of the message in its run.
    pub seq: u64,
    /// When the sink had all of it.
    pub at: Tick,
    /// Octets of content as received.
    pub bytes: u32,
    /// `FLAG_*`.
    pub flags: u8,
}

/// Why a ledger could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file or socket.
    #[error("ledger: {0}")]
    Io(#[from] io::Error),
    /// Not a ledger, or cut in its header.
    #[error("not a ledger: it does not begin with RPLEDGER and a version")]
    NotALedger,
    /// Written by a later program in a way that this one cannot skip.
    #[error(
        "ledger version {0} with entries of {1} octets; this program reads version {LEDGER_VERSION} and entries of at least {DELIVERY_BYTES}"
    )]
    Version(u32, u32),
    /// Cut in the middle of an entry.
    #[error("the ledger ends in the middle of an entry ({0} octets too many)")]
    Torn(usize),
}

impl Delivery {
    /// Whether any of `flags` is set.
    pub fn is(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// What a ledger ends with that was full when `pairs` more were taken.
    pub fn gap(pairs: u64, at: Tick) -> Self {
        Self { run: 0, recipient: 0, seq: pairs, at, bytes: 0, flags: FLAG_UNSTAMPED | FLAG_UNRECORDED }
    }

    /// Its 32 octets.
    pub fn encode(&self) -> [u8; DELIVERY_BYTES] {
        let mut entry = [0; DELIVERY_BYTES];
        entry[0..4].copy_from_slice(&self.run.to_le_bytes());
        entry[4..8].copy_from_slice(&self.recipient.to_le_bytes());
        entry[8..16].copy_from_slice(&self.seq.to_le_bytes());
        entry[16..24].copy_from_slice(&self.at.0.to_le_bytes());
        entry[24..28].copy_from_slice(&self.bytes.to_le_bytes());
        entry[28] = self.flags;
        entry
    }

    fn decode(entry: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(entry.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(entry.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            run: word(0)?,
            recipient: word(4)?,
            seq: long(8)?,
            at: Tick(long(16)?),
            bytes: word(24)?,
            flags: *entry.get(28)?,
        })
    }
}

/// The 16 octets in front of the entries.
pub fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(LEDGER_MAGIC);
    header[8..12].copy_from_slice(&LEDGER_VERSION.to_le_bytes());
    header[12..].copy_from_slice(&(DELIVERY_BYTES as u32).to_le_bytes());
    header
}

/// Writes a whole ledger.
///
/// # Errors
/// Those of `into`.
pub fn write<'a>(into: &mut impl io::Write, deliveries: impl IntoIterator<Item = &'a Delivery>) -> io::Result<()> {
    into.write_all(&header())?;
    for delivery in deliveries {
        into.write_all(&delivery.encode())?;
    }
    Ok(())
}

/// Reads a whole ledger.
///
/// # Errors
/// [`LedgerError`]; nothing is returned of a torn one.
pub fn read(from: &mut impl io::Read) -> Result<Vec<Delivery>, LedgerError> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    let (header, entries) = bytes.split_at_checked(HEADER_BYTES).ok_or(LedgerError::NotALedger)?;
    let word = |at: usize| header.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes);
    if !header.starts_with(LEDGER_MAGIC) {
        return Err(LedgerError::NotALedger);
    }
    let (version, entry_bytes) = (word(8), word(12));
    if version < LEDGER_VERSION || (entry_bytes as usize) < DELIVERY_BYTES || entry_bytes > 4096 {
        return Err(LedgerError::Version(version, entry_bytes));
    }
    let chunks = entries.chunks_exact(entry_bytes as usize);
    match chunks.remainder().len() {
        0 => Ok(chunks.filter_map(Delivery::decode).collect()),
        torn => Err(LedgerError::Torn(torn)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delivery(seq: u64, flags: u8) -> Delivery {
        Delivery { run: 7, recipient: 0xdead_beef, seq, at: Tick(seq * 1000 + 5), bytes: 4096, flags }
    }

    #[test]
    fn a_ledger_reads_back() {
        let all: Vec<Delivery> = (0..100).map(|seq| delivery(seq, (seq % 32) as u8)).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, &all).expect("memory takes it");
        assert_eq!(bytes.len(), 16 + 100 * 32);
        assert_eq!(read(&mut bytes.as_slice()).expect("whole"), all);
    }

    #[test]
    fn what_is_no_whole_ledger_is_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, &[delivery(1, 0)]).expect("memory takes it");
        assert!(matches!(read(&mut &bytes[..10]), Err(LedgerError::NotALedger)));
        assert!(matches!(read(&mut &b"RPLEDGEX\x01\0\0\0\x20\0\0\0"[..]), Err(LedgerError::NotALedger)));
        assert!(matches!(read(&mut &bytes[..bytes.len() - 1]), Err(LedgerError::Torn(31))));
        bytes[12] = 8;
        assert!(matches!(read(&mut &bytes[..]), Err(LedgerError::Version(1, 8))));
    }

    #[test]
    fn longer_entries_of_a_later_version_are_read_as_far_as_known() {
        let mut bytes = header().to_vec();
        (bytes[8], bytes[12]) = (2, 40);
        bytes.extend_from_slice(&delivery(3, 1).encode());
        bytes.extend_from_slice(&[9; 8]);
        assert_eq!(read(&mut &bytes[..]).expect("readable"), [delivery(3, 1)]);
    }

    proptest! {
        #[test]
        fn no_octets_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = read(&mut &bytes[..]);
            let _ = read(&mut &[&header()[..], &bytes].concat()[..]);
        }
    }
}
