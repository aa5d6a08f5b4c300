//! The spool: a shard's durable log. Format and logic only; the shell performs the writes that [`Log`] orders and the
//! reads that recovery asks for.

mod batch;
mod bytes;
mod fetch;
mod footer;
mod head;
mod ids;
mod live;
mod log;
mod pack;
mod reclaim;
mod record;
mod recover;
mod scan;
mod segment;
#[cfg(test)]
mod tests;
mod write;

pub use batch::{ALL_RECIPIENTS, Outcome, Settle};
pub use fetch::{Fetch, Fetched, Stretch};
pub use head::{HeadBlock, SegmentHead};
pub use ids::{FileId, Numbers, RECORD_ALIGN, RecordId, SEGMENT_BYTES_LIMIT, Secret, SegmentNumber, Ticket};
pub use log::{Appended, Content, Extents, Full, Log, LogOptions, NewRecord, Want};
pub use record::{
    EXTENTS_MAX, Extent, Facts, LEADING_DOTS_MAX, LeadingDots, Placement, RECORD_HEAD_BYTES, RECORD_TEXT_BYTES_MAX,
    RecordError, RecordHead, RecordKind, RecordRef,
};
pub use recover::{Adoption, Backlog, Loaded, Recovered, Recovery};
pub use scan::{Cause, Damage, Read, Refused, Scan, Scanned, ScannedSegment, scan_image};
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
