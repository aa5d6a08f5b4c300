//! The spool: a shard's durable log. Format and logic only; the shell performs the writes that [`Log`] orders and the
//! reads that [`Scan`], [`Backlog`] and [`Fetch`] ask for. Nothing here owns a file, a clock or a thread.
//!
//! # How it holds its promise
//! - A *segment* is a preallocated, zero-filled file. Each of its lives has a number that is never used again and a random
//!   secret that seeds every checksum, so nothing of an earlier life, and nothing that came in a mail, reads as a record.
//! - A *batch* is one write. It starts on a fresh block, every gap in it is zero, and no block is written twice in a life
//!   (but for a footer that was torn: nothing in it was ever acknowledged). One write is in flight at a time, and a batch
//!   in flight takes nothing more.
//! - An outcome (*settle*) stands in any later batch, in any segment. What is live only ever shrinks and all changes
//!   commute, so recovery applies settles and marks in any order, and twice.
//! - A failed write poisons its segment. Its records are cancelled in the next one before anyone hears 451; what hung on
//!   them (a report and the failure it reports, a relocated record and the end of the old one) did not happen either; what
//!   was durable in the segment is read back and written elsewhere ([`Log::relocation`]).
//! - What is live in a segment that became sparse is written elsewhere, too ([`Log::sparse`]): to a second open segment, so
//!   that what stays stands together. One batch of it at a time is under way, between those of the current segment
//!   ([`Log::apart`]).
//! - A segment is overwritten only when nothing in it is live and no settle in it is needed: *marks* in the open batch
//!   say what is live in the segments that it spoke of.
//!
//! # Bounds
//! Memory per queued message: eight octets (more only while a message with several recipients is settled in part),
//! a hundred more for one that was moved in this process, since it goes on being known by its names, plus what the footers of the segments not yet closed will say (at most a quarter of a segment each). A batch: `batch_bytes_max`, or
//! one record; 512 KiB of table; about 512 parts. A record: 65 534 recipients, 256 KiB of envelope and of trace header,
//! 256 KiB of packed content, 8 MiB in chunks, 8192 extents of up to 8 MiB. A segment: 64 KiB to 256 MiB.
//!
//! # Format, version 1
//! All numbers are little-endian; a block is 4096 octets; "crc" is CRC-32C, started from CRC-32C(secret) where it says
//! *seeded*. Octets not named are zero. A reader refuses a head of a greater version by name and reads its own and older.
//!
//! ```text
//! segment   block 0            head
//!           block 1 ..         batches, one behind the other
//!           .. last but one    footer, once the segment is closed; it ends with its trailer, the last block but one
//!           last block         copy of the head
//! ```
//!
//! | head: offset | octets | meaning |
//! |---|---|---|
//! | 0 | 8 | `RINGPOST` |
//! | 8 | 4 | format version: 1 |
//! | 12 | 4 | crc of octets 16 to 4096, unseeded |
//! | 16 | 8 | the life's number, 1 to 2^40 - 1 |
//! | 24 | 16 | the life's secret |
//! | 40 | 8 | octets of the segment |
//! | 48 | 2 | shard |
//! | 50 | 1 | durability mode when the life began: 1 none, 2 os, 3 disk |
//! | 51 | 1 | 1: the file was all zero before this life |
//! | 52 | 4 | file |
//!
//! Both copies are durable, block 0 first, before the first batch. If they differ, preparing was cut off: the greater
//! number is the life, and it is empty.
//!
//! | batch: offset | octets | meaning |
//! |---|---|---|
//! | 0 | 4 | `RPbt` |
//! | 4 | 1 | version: 1 |
//! | 8 | 4 | crc of the header but for this field, seeded |
//! | 12 | 4 | crc of the table, seeded |
//! | 16 | 8 | number of the segment's life |
//! | 24 | 8 | offset of this batch in the segment |
//! | 32 | 8 | ticket: counts the batches of the log in its process |
//! | 40 | 4 | counts the batches of this life, from 1 |
//! | 44 | 4 | records in it |
//! | 48 | 8 | octets of the whole batch, whole blocks |
//! | 56 | 8 | `synced_upto`: below this offset everything was known to be on stable storage; 0 unless the mode is disk |
//! | 64 | 8 | where the table stands, from the batch's start |
//! | 72 | 4 | octets of the table |
//! | 76 | 4 | settles in it |
//! | 128 | | packed records, each at a multiple of 16; content in blocks of its own; the table; zeros |
//!
//! | table item: offset | octets | meaning |
//! |---|---|---|
//! | 0 | 1 | 1 record, 2 settle, 3 mark, 4 extent; the items follow each other without gaps |
//! | 1 | 1 | settle: outcome, 1 delivered, 2 failed, 3 moved, 4 cancelled, 5 removed |
//! | 2 | 2 | settle: recipient's index, 65535 = all |
//! | 4 | 4 | record: place in units of 16 octets of the segment; settle: place of the record in this batch that it hangs on, or 0; mark: octets of payload; extent: block in the segment |
//! | 8 | 8 | record: packed octets (4); settle: record id; mark: number of the segment; extent: octets of content (4), their seeded crc (4) |
//! | 16 | | mark: per live record its place (4), unsettled recipients (2), words of bitmap (2), the bitmap of settled recipients (8 each) |
//!
//! A record id is `number << 24 | offset / 16`.
//!
//! | record: offset | octets | meaning |
//! |---|---|---|
//! | 0 | 4 | `RPrm` |
//! | 4 | 1 | version: 1 |
//! | 5 | 1 | 1 message, 2 owed report |
//! | 6 | 2 | recipients in the envelope |
//! | 8 | 4 | crc of the head but for this field, of extents, envelope and trace header, seeded |
//! | 12 | 1 | content: 0 packed behind the trace header, 1 in blocks of the same batch, 2 in extents |
//! | 13 | 1 | 1 eight-bit, 2 NUL, 4 ends with CRLF |
//! | 14 | 1 | leading-dot lines kept, 255 = too many |
//! | 15 | 1 | priority |
//! | 16 | 8 | its own id |
//! | 24 | 8 | the id that it had before it was relocated, or 0 |
//! | 32 | 8 | received, microseconds since 1970 UTC |
//! | 40 | 8 | octets of content |
//! | 48 | 4 | octets of the envelope |
//! | 52 | 4 | octets of the trace header |
//! | 56 | 4 | CRC-32C of the content, unseeded, taken at receive |
//! | 60 | 4 | content 1: its first block in the segment |
//! | 64 | 4 | octets of the longest line |
//! | 68 | 4 | octets of the header section |
//! | 72 | 2 | `Received:` fields |
//! | 74 | 2 | content 2: extents |
//! | 76 | 32 | offsets of leading dots (4 each) |
//! | 128 | | extents: number (8), block (4), octets (4), seeded crc (4), zero (4); envelope; trace header; packed content |
//!
//! | trailer: offset | octets | meaning |
//! |---|---|---|
//! | 0 | 4 | `RPft` |
//! | 4 | 1 | version: 1 |
//! | 8 | 4 | crc of the trailer's block but for this field, seeded |
//! | 16 | 8 | number of the segment's life |
//! | 24 | 8 | where the footer begins in the segment |
//! | 32 | 48 | four sections: offset from the footer's start (4), octets (4), seeded crc (4): live, pins, foreign, properties |
//! | 80 | 8 | where the batches end |
//! | 88 | 4 | batches |
//! | 92 | 1 | 1: all of them were known to be on stable storage |
//!
//! *live*: as a mark's payload. *pins*: per live record with extents its place (4), how many (4), and their segments (8
//! each). *foreign*: the settles and marks that stand in this segment and speak of others that still exist, as items.
//! *properties*: per live record the octets that follow (4), its head, its extents, and its envelope up to 512 octets.
//!
//! # What damage means
//! Below the greatest `synced_upto` it is [`Cause::Rot`], above it [`Cause::Torn`]: the tail of a write that was never
//! acknowledged, or the last batch, rotten. Both are listed with file, offset and length, kept from being overwritten until
//! [`Recovered::put_aside`], and never delivered; reading goes on at the next block with a header of this life and this offset.
//! What is damaged only because the disk refused to give it is the next start's to judge ([`Recovered::unread`]).

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batch;
mod bytes;
mod extents;
mod fetch;
mod footer;
mod head;
mod ids;
mod live;
mod log;
mod notes;
mod pack;
mod reclaim;
mod record;
mod recover;
mod renamed;
mod room;
mod scan;
mod segment;
mod sparse;
#[cfg(test)]
mod tests;
mod write;

pub use batch::{ALL_RECIPIENTS, Outcome, Settle};
pub use extents::Extents;
pub use fetch::{Fetch, Fetched, Stretch};
pub use head::{HeadBlock, SegmentHead};
pub use ids::{FileId, Numbers, RECORD_ALIGN, RecordId, SEGMENT_BYTES_LIMIT, Secret, SegmentNumber, Ticket};
pub use log::{Appended, Content, Full, Log, LogOptions, NewRecord, Want};
pub use record::{
    EXTENTS_MAX, Extent, Facts, LEADING_DOTS_MAX, LeadingDots, Placement, RECORD_HEAD_BYTES, RECORD_TEXT_BYTES_MAX,
    RecordError, RecordHead, RecordKind, RecordRef,
};
pub use recover::{Adoption, Backlog, Loaded, Recovered, Recovery};
pub use scan::{Cause, Damage, Read, Refused, Scan, Scanned, ScannedSegment, scan_image};
pub use sparse::Sparse;
#[cfg(feature = "fail-points")]
pub use write::Carries;
pub use write::{Failure, Order, WriteResult, Written};

use std::fmt;
use std::str::FromStr;

/// The version of everything on disk, kept in each segment's head.
pub const FORMAT_VERSION: u32 = 1;

/// The unit of placing and writing.
const BLOCK: usize = crate::sys::slice::BLOCK_BYTES;

/// Octets of a segment, unless configured otherwise: one preallocation.
pub const SEGMENT_BYTES: u64 = 64 << 20;
const _: () = assert!(SEGMENT_BYTES.is_multiple_of(BLOCK as u64), "a segment is whole blocks");

/// Smallest segment: heads, footer, and a few batches.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// A batch that has reached so many octets takes no more, unless configured otherwise: a millisecond or two of a fast
/// disk, so that a message does not wait for much more than its own write.
pub const BATCH_BYTES_MAX: u64 = 2 << 20;

/// Most content that is copied into a batch; more comes in chunks or extents.
pub const PACKED_BYTES_MAX: usize = 256 << 10;

/// Most octets of content that stand in one batch by reference, or of one extent.
pub const OWN_BYTES_MAX: u64 = 8 << 20;

/// No batch is longer, whatever a header says.
const BATCH_BYTES_LIMIT: u64 = 16 << 20;

/// Envelopes up to so many octets are repeated in the footer.
const PROPERTY_ENVELOPE_BYTES_MAX: usize = 512;

/// What a 250 after the final dot means (`interfaces`, "Durability modes"), as far as one server's disk is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Durability {
    /// The message is in memory.
    None = 1,
    /// It is written to the file, not synced.
    Os = 2,
    /// It is on stable storage.
    #[default]
    Disk = 3,
}

impl Durability {
    fn from_octet(octet: u8) -> Option<Self> {
        [Self::None, Self::Os, Self::Disk].into_iter().find(|&mode| mode as u8 == octet)
    }

    /// As options and results spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Os => "os",
            Self::Disk => "disk",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A durability mode of another name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("durability is none, os or disk")]
pub struct UnknownDurability;

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(text: &str) -> Result<Self, UnknownDurability> {
        [Self::None, Self::Os, Self::Disk].into_iter().find(|mode| mode.as_str() == text).ok_or(UnknownDurability)
    }
}
