//! A batch while it is put together: records packed into chunks (the one copy), content in chunks of its own by
//! reference, and the list of what becomes true when the write is done.

use super::BLOCK;
use super::batch::{BATCH_HEAD_BYTES, BatchHead, Settle};
use super::bytes::length;
use super::ids::{RECORD_ALIGN, RecordId, Seed, SegmentNumber, Ticket};
use super::log::Full;
use crate::sys::slice::{Fill, Pool, Slice};

/// A record that becomes part of its segment when the batch is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    pub(super) place: u32,
    pub(super) recipients: u16,
    /// Its octets, if a notice is owed by it.
    pub(super) owed: Option<u32>,
    /// What writing it again would take.
    pub(super) octets: u64,
}

/// A settle on its way to disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) settle: Settle,
    /// It counts only with this record of its batch.
    pub(super) needs: Option<u32>,
}

/// One batch.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) ticket: u64,
    /// The first ticket that an outcome in it was promised by: its own, unless it carries those of a batch that failed.
    pub(super) since: u64,
    /// The segment that it belongs to.
    pub(super) number: SegmentNumber,
    /// Where it will stand in its segment.
    pub(super) at: u64,
    /// Octets so far, the header included.
    pub(super) len: u64,
    header: Option<Fill>,
    fill: Option<Fill>,
    /// What was packed since the last part was closed.
    run: Option<Slice>,
    pub(super) parts: Vec<Slice>,
    chunks: usize,
    pub(super) table: Vec<u8>,
    table_at: u64,
    table_crc: u32,
    pub(super) records: Vec<Added>,
    pub(super) settles: Vec<Pending>,
    /// Segments of which this batch says what is live.
    pub(super) marks: Vec<SegmentNumber>,
    /// Records here with extents, and the segments that hold those.
    pub(super) pins: Vec<(u32, Box<[SegmentNumber]>)>,
    /// Records here that replace others.
    pub(super) moved: Vec<(RecordId, RecordId)>,
    /// More than outcomes stand in it: it is to be written without waiting for more to come.
    pub(super) is_urgent: bool,
    /// It stands, or was to stand, in the segment for moved mail.
    pub(super) is_apart: bool,
}

impl Batch {
    /// An empty one, with the memory of the lists of a cleared one, if there is any.
    pub(super) fn new(number: SegmentNumber, at: u64, ticket: u64, memory: Option<Self>) -> Self {
        let memory = memory.unwrap_or_else(|| Self {
            ticket,
            since: ticket,
            number,
            at,
            len: 0,
            header: None,
            fill: None,
            run: None,
            parts: Vec::new(),
            chunks: 0,
            table: Vec::new(),
            table_at: 0,
            table_crc: 0,
            records: Vec::new(),
            settles: Vec::new(),
            marks: Vec::new(),
            pins: Vec::new(),
            moved: Vec::new(),
            is_urgent: false,
            is_apart: false,
        });
        Self { ticket, since: ticket, number, at, ..memory }
    }

    /// Makes it ready for reuse, keeping the memory of its lists.
    pub(super) fn clear(&mut self) {
        (self.at, self.len, self.chunks, self.table_at) = (0, 0, 0, 0);
        (self.header, self.fill, self.run) = (None, None, None);
        self.parts.clear();
        self.table.clear();
        self.records.clear();
        self.settles.clear();
        self.marks.clear();
        self.pins.clear();
        self.moved.clear();
        (self.is_urgent, self.is_apart) = (false, false);
    }

    /// Nothing stands in it.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Octets that the batch would take on disk with so much more in it, at most.
    pub(super) fn bytes_with(&self, packed: u64, own: u64, table: u64) -> u64 {
        // Each of: what is there, one chunk switch, own blocks, one more switch before the table; all padded.
        let block = BLOCK as u64;
        let head = BATCH_HEAD_BYTES as u64;
        let body = self.len.max(head).saturating_add(packed).saturating_add((RECORD_ALIGN as u64).saturating_mul(2));
        let table = (self.table.len() as u64).saturating_add(table).saturating_add(8);
        let whole = body.next_multiple_of(block).saturating_add(own).saturating_add(table.next_multiple_of(block));
        whole.saturating_add(block).saturating_add(block)
    }

    /// Where it ends, so far.
    pub(super) fn end(&self) -> u64 {
        self.at.saturating_add(self.len)
    }

    /// Makes sure that `bytes` can be packed in one piece.
    pub(super) fn ensure(&mut self, pool: &Pool, spare: &mut Option<Fill>, bytes: usize) -> Result<(), Full> {
        let bytes = bytes.saturating_add(RECORD_ALIGN);
        if self.fill.as_ref().is_some_and(|fill| fill.room() >= bytes) {
            return Ok(());
        }
        let bytes = bytes.saturating_add(if self.header.is_none() { BATCH_HEAD_BYTES } else { 0 });
        // Chunks of a batch grow, so that a lone message does not pin much and a full batch has few parts.
        let wanted = bytes.max(match self.chunks {
            0 => 16 << 10,
            1 => 64 << 10,
            _ => 256 << 10,
        });
        let fill = pool.fill(wanted).or_else(|| pool.fill(bytes)).or_else(|| spare.take());
        let mut fill = fill.filter(|fill| fill.room() >= bytes).ok_or(Full::Memory)?;
        self.chunks = self.chunks.saturating_add(1);
        if self.header.is_none() {
            self.header = Some(fill.reserve(BATCH_HEAD_BYTES));
            self.len = BATCH_HEAD_BYTES as u64;
        } else {
            self.close_run();
        }
        self.fill = Some(fill);
        Ok(())
    }

    /// Where the next packed record will start, from the segment's start.
    pub(super) fn next_place(&self) -> u64 {
        self.at.saturating_add(self.len.next_multiple_of(RECORD_ALIGN as u64))
    }

    /// Packs `pieces` behind each other at a record's place; room was made by `ensure`.
    pub(super) fn pack<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Slice {
        let Some(fill) = self.fill.as_mut() else { unreachable!("room was made for what is packed") };
        self.is_urgent = true;
        // Chunk and batch are aligned alike: both go on at a whole block.
        let gap = fill.pad_to(RECORD_ALIGN);
        for piece in pieces {
            let put = fill.put(piece);
            assert_eq!(put, piece.len(), "room was made for what is packed");
        }
        let packed = fill.take();
        self.len = self.len.saturating_add(packed.len() as u64);
        self.run = Some(match self.run.take() {
            Some(run) => run.join(&packed),
            None => packed.clone(),
        });
        packed.sub(gap..packed.len())
    }

    /// Where blocks of their own would stand now, from the segment's start. A chunk was ensured.
    pub(super) fn next_block(&self) -> u64 {
        self.at.saturating_add(self.len.next_multiple_of(BLOCK as u64))
    }

    /// Puts whole blocks in by reference.
    pub(super) fn push_own(&mut self, slices: &[Slice]) {
        self.is_urgent = true;
        self.close_run();
        for slice in slices {
            self.len = self.len.saturating_add(slice.len() as u64);
            self.parts.push(slice.clone());
        }
    }

    fn close_run(&mut self) {
        let Some(fill) = self.fill.as_mut() else { return };
        self.len = self.len.saturating_add(fill.pad_to(BLOCK) as u64);
        let pad = fill.take();
        match self.run.take() {
            Some(run) => self.parts.push(run.join(&pad)),
            None if !pad.is_empty() => self.parts.push(pad),
            None => {}
        }
    }

    /// Closes the batch: nothing joins any more, its length is final.
    pub(super) fn finish(&mut self, pool: &Pool, spare: &mut Option<Fill>, seed: Seed) -> Result<(), Full> {
        self.ensure(pool, spare, self.table.len())?;
        self.table_crc = seed.crc(&[&self.table]);
        self.table_at = self.len.next_multiple_of(RECORD_ALIGN as u64);
        let table = std::mem::take(&mut self.table);
        self.pack([table.as_slice()]);
        self.table = table;
        self.close_run();
        self.fill = None;
        assert!(self.len.is_multiple_of(BLOCK as u64), "a batch is whole blocks");
        Ok(())
    }

    /// Writes the header of a finished batch; its parts are complete then.
    pub(super) fn write_header(&mut self, seed: Seed, ordinal: u32, synced_upto: u64) {
        let head = BatchHead {
            number: self.number,
            at: self.at,
            ticket: Ticket(self.ticket),
            ordinal,
            records: u32::try_from(self.records.len()).unwrap_or(u32::MAX),
            settles: u32::try_from(self.settles.len()).unwrap_or(u32::MAX),
            bytes: self.len,
            synced_upto,
            table_at: self.table_at,
            table_bytes: length(self.table.len()),
            table_crc: self.table_crc,
        };
        let (Some(mut header), Some(first)) = (self.header.take(), self.parts.first_mut()) else {
            unreachable!("a finished batch has its header's place, and a part")
        };
        header.put(&head.encode(seed));
        *first = header.take().join(first);
    }
}
