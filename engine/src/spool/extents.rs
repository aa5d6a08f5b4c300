//! Bodies in blocks of their own: in one piece beside their record, or in extents written while they arrive.

use super::batch;
use super::bytes::length;
use super::ids::{SegmentNumber, Ticket};
use super::log::{Full, Log};
use super::record::{EXTENTS_MAX, Extent};
use super::room::{Need, Room};
use super::segment::{Segment, State};
use super::{BLOCK, OWN_BYTES_MAX};
use crate::sys::slice::Slice;

/// A body written while it arrives. Give it to [`Log::append`] or to [`Log::abandon`]: it holds its segments in use.
#[derive(Debug, Default)]
pub struct Extents {
    pub(super) list: Vec<Extent>,
    bytes: u64,
}

impl Extents {
    /// Octets of content written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pieces written so far.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Log {
    /// Writes the next `bytes` octets of a body that is still arriving: `slices` as in [`Content::Chunks`]. Large pieces:
    /// a body has [`EXTENTS_MAX`] at most. The chunks may go when the ticket is durable.
    ///
    /// # Errors
    /// Flow control, and `TooLarge` for one extent too many.
    ///
    /// # Panics
    /// When the slices are not whole aligned blocks.
    pub fn extent(&mut self, into: &mut Extents, slices: &[Slice], bytes: u64) -> Result<Ticket, Full> {
        let own = own_bytes(slices, bytes);
        if bytes > OWN_BYTES_MAX || into.list.len() >= EXTENTS_MAX {
            return Err(Full::TooLarge);
        }
        let need = Need { own, table: batch::ITEM_BYTES as u64, message: true, ..Need::default() };
        let Room { open, segment } = self.make_room(&need)?;
        let crc = own_crc(segment, slices, bytes);
        let (block, bytes32) = (length(open.next_block().div_ceil(BLOCK as u64)), length(bytes));
        open.push_own(slices);
        batch::put_extent(&mut open.table, block, bytes32, crc);
        segment.extent_pins = segment.extent_pins.saturating_add(1);
        into.list.push(Extent { number: open.number, block, bytes: bytes32, crc });
        into.bytes = into.bytes.saturating_add(bytes);
        Ok(Ticket(open.ticket))
    }

    /// The body under way will not become a message: its extents are dead space.
    pub fn abandon(&mut self, extents: Extents) {
        for extent in extents.list {
            self.unpin(extent.number);
        }
    }

    pub(super) fn check_extents(&self, extents: &Extents, body_bytes: u64) -> Result<(), Full> {
        assert_eq!(extents.bytes, body_bytes, "the extents hold the whole body");
        let sound =
            |extent: &Extent| self.segments.get(&extent.number).is_some_and(|segment| segment.state != State::Poisoned);
        if extents.list.iter().all(sound) { Ok(()) } else { Err(Full::Lost) }
    }

    /// A record must not become durable when an extent of it does not: they share a segment, and so its fate, or the
    /// extent is written already.
    pub(super) fn check_order(&self, extents: &Extents) -> Result<(), Full> {
        let here = self.open.as_ref().map(|open| open.number);
        let mut elsewhere = extents.list.iter().map(|extent| extent.number).filter(|number| Some(*number) != here);
        let mut last = None;
        let waits = elsewhere.any(|number| last.replace(number) != Some(number) && self.has_batches(number));
        if waits { Err(Full::Segment) } else { Ok(()) }
    }

    pub(super) fn unpin(&mut self, number: SegmentNumber) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.extent_pins = segment.extent_pins.saturating_sub(1);
        }
        self.reclaim(number);
    }
}

/// Octets of `slices`, which must be whole aligned blocks around `bytes` octets of content.
pub(super) fn own_bytes(slices: &[Slice], bytes: u64) -> u64 {
    let aligned = |slice: &Slice| slice.len().is_multiple_of(BLOCK) && (slice.as_ptr() as usize).is_multiple_of(BLOCK);
    assert!(slices.iter().all(aligned), "chunks are aligned and whole blocks");
    let own: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
    assert_eq!(own, bytes.next_multiple_of(BLOCK as u64), "chunks hold the content and no block more");
    own
}

fn own_crc(segment: &Segment, slices: &[Slice], bytes: u64) -> u32 {
    let mut left = bytes as usize;
    let mut crc = segment.seed.running();
    for slice in slices {
        let content = slice.get(..left).unwrap_or(slice);
        crc.update(content);
        left = left.saturating_sub(content.len());
    }
    crc.finish()
}
