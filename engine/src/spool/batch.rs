//! The batch: what one write carries. A header in front, a table of what is inside behind.

use super::BLOCK;
use super::bytes::{Reader, Store, length};
use super::ids::{RecordId, Seed, SegmentNumber, Ticket};
use super::live::LiveSet;

/// Octets of the header in front of every batch.
pub(super) const BATCH_HEAD_BYTES: usize = 128;

/// Octets of one item of the table; a live mark is followed by its payload.
pub(super) const ITEM_BYTES: usize = 16;

/// Octets of so many.
pub(super) const fn item_bytes(items: usize) -> u64 {
    (items as u64).saturating_mul(ITEM_BYTES as u64)
}

const MAGIC: &[u8; 4] = b"RPbt";
const VERSION: u8 = 1;

/// What became of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// The next hop took it, or the mailbox has it.
    Delivered = 1,
    /// It failed for good; an owed record or a report stands in the same batch.
    Failed = 2,
    /// The record was written again elsewhere.
    Moved = 3,
    /// Its batch failed and may stand on disk all the same: it never counted, and what hung on it did not happen. Written
    /// by the log alone.
    Cancelled = 4,
    /// An operator took it out.
    Removed = 5,
}

impl Outcome {
    fn from_octet(octet: u8) -> Option<Self> {
        [Self::Delivered, Self::Failed, Self::Moved, Self::Cancelled, Self::Removed]
            .into_iter()
            .find(|&outcome| outcome as u8 == octet)
    }
}

/// Stands for every recipient of a record.
pub const ALL_RECIPIENTS: u16 = u16::MAX;

/// A recipient's outcome, to be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle {
    /// The record.
    pub id: RecordId,
    /// The recipient's index in the envelope, or [`ALL_RECIPIENTS`].
    pub recipient: u16,
    /// What became of it.
    pub outcome: Outcome,
}

/// One item of a batch's table or of a footer.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// A record starts at `place` (units of 16 octets in the segment).
    Record { place: u32, packed_bytes: u32 },
    /// An outcome; with `needs` it counts only if the record at that place of this batch is whole.
    Settle { settle: Settle, needs: Option<u32> },
    /// Of this earlier segment nothing else is live any more.
    Live { number: SegmentNumber, live: LiveSet },
    /// A stretch of a body.
    Extent { block: u32, bytes: u32, crc: u32 },
}

pub(super) fn put_record(table: &mut Vec<u8>, place: u32, packed_bytes: u32) {
    let mut item = [0; ITEM_BYTES];
    item[0] = 1;
    item.store_u32(4, place);
    item.store_u32(8, packed_bytes);
    table.extend_from_slice(&item);
}

pub(super) fn put_settle(table: &mut Vec<u8>, settle: &Settle, needs: Option<u32>) {
    let mut item = [0; ITEM_BYTES];
    item[0] = 2;
    item[1] = settle.outcome as u8;
    item.store_u16(2, settle.recipient);
    item.store_u32(4, needs.map_or(0, |place| place));
    item.store_u64(8, settle.id.raw());
    table.extend_from_slice(&item);
}

pub(super) fn put_live(table: &mut Vec<u8>, number: SegmentNumber, live: &LiveSet) {
    let start = table.len();
    table.extend_from_slice(&[0; ITEM_BYTES]);
    live.encode(table);
    let Some((head, payload)) = table.get_mut(start..).and_then(|item| item.split_first_chunk_mut()) else {
        unreachable!("it was just put there")
    };
    let mut item = [0; ITEM_BYTES];
    item[0] = 3;
    item.store_u32(4, length(payload.len()));
    item.store_u64(8, number.get());
    *head = item;
}

pub(super) fn put_extent(table: &mut Vec<u8>, block: u32, bytes: u32, crc: u32) {
    let mut item = [0; ITEM_BYTES];
    item[0] = 4;
    item.store_u32(4, block);
    item.store_u32(8, bytes);
    item.store_u32(12, crc);
    table.extend_from_slice(&item);
}

/// Reads the items of a table, front to back. `None` at the end; an item that makes no sense ends it with an error.
pub(super) struct Items<'a> {
    reader: Reader<'a>,
}

/// A table holds an item that this format does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadItem;

impl<'a> Items<'a> {
    pub(super) fn new(table: &'a [u8]) -> Self {
        Self { reader: Reader::new(table) }
    }

    fn item(&mut self) -> Option<Item> {
        let reader = &mut self.reader;
        let (tag, outcome, recipient, word) = (reader.u8()?, reader.u8()?, reader.u16()?, reader.u32()?);
        match tag {
            1 => {
                let item = Item::Record { place: word, packed_bytes: reader.u32()? };
                reader.u32()?;
                Some(item)
            }
            2 => {
                let id = RecordId::from_raw(reader.u64()?)?;
                let settle = Settle { id, recipient, outcome: Outcome::from_octet(outcome)? };
                Some(Item::Settle { settle, needs: (word != 0).then_some(word) })
            }
            3 => {
                let number = SegmentNumber::new(reader.u64()?)?;
                let live = LiveSet::decode(reader.take(word as usize)?)?;
                Some(Item::Live { number, live })
            }
            4 => Some(Item::Extent { block: word, bytes: reader.u32()?, crc: reader.u32()? }),
            _ => None,
        }
    }
}

impl Iterator for Items<'_> {
    type Item = Result<Item, BadItem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let item = self.item();
        if item.is_none() {
            self.reader = Reader::new(&[]);
        }
        Some(item.ok_or(BadItem))
    }
}

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHead {
    pub(super) number: SegmentNumber,
    /// Octets from the segment's start.
    pub(super) at: u64,
    pub(super) ticket: Ticket,
    /// Counts the batches of this life from 1.
    pub(super) ordinal: u32,
    pub(super) records: u32,
    pub(super) settles: u32,
    /// Octets of the whole batch, whole blocks.
    pub(super) bytes: u64,
    /// Everything in the segment below this offset was known to be on stable storage when this batch was written.
    pub(super) synced_upto: u64,
    /// Where the table stands, from the batch's start.
    pub(super) table_at: u64,
    pub(super) table_bytes: u32,
    pub(super) table_crc: u32,
}

impl BatchHead {
    pub(super) fn encode(&self, seed: Seed) -> [u8; BATCH_HEAD_BYTES] {
        let mut head = [0; BATCH_HEAD_BYTES];
        head.store(0, MAGIC);
        head.store(4, &[VERSION]);
        head.store_u32(12, self.table_crc);
        head.store_u64(16, self.number.get());
        head.store_u64(24, self.at);
        head.store_u64(32, self.ticket.0);
        head.store_u32(40, self.ordinal);
        head.store_u32(44, self.records);
        head.store_u64(48, self.bytes);
        head.store_u64(56, self.synced_upto);
        head.store_u64(64, self.table_at);
        head.store_u32(72, self.table_bytes);
        head.store_u32(76, self.settles);
        let crc = seed.crc(&[&head[..8], &head[12..]]);
        head.store_u32(8, crc);
        head
    }

    /// Whether a header of this very place seems to stand here, its checksum left aside: what a torn one looks like.
    pub(super) fn resembles(bytes: &[u8], number: SegmentNumber, at: u64) -> bool {
        let mut reader = Reader::new(bytes);
        let magic = reader.take(4) == Some(MAGIC);
        reader.take(12);
        magic && reader.u64() == Some(number.get()) && reader.u64() == Some(at)
    }

    /// The header that stands at offset `at` of segment `number`; anything else is `None`: damage, another life's batch, a
    /// batch that landed in the wrong place, content that looks like one.
    pub(super) fn decode(bytes: &[u8], number: SegmentNumber, at: u64, seed: Seed) -> Option<Self> {
        let fixed = bytes.get(..BATCH_HEAD_BYTES)?;
        let mut reader = Reader::new(fixed);
        let (magic, version) = (reader.take(4)?, reader.u8()?);
        reader.take(3)?;
        if magic != MAGIC || version != VERSION || reader.u32()? != seed.crc(&[fixed.get(..8)?, fixed.get(12..)?]) {
            return None;
        }
        let table_crc = reader.u32()?;
        let head = Self {
            number: SegmentNumber::new(reader.u64()?)?,
            at: reader.u64()?,
            ticket: Ticket(reader.u64()?),
            ordinal: reader.u32()?,
            records: reader.u32()?,
            bytes: reader.u64()?,
            synced_upto: reader.u64()?,
            table_at: reader.u64()?,
            table_bytes: reader.u32()?,
            settles: reader.u32()?,
            table_crc,
        };
        (head.number == number && head.at == at && head.is_plausible()).then_some(head)
    }

    fn is_plausible(&self) -> bool {
        let table_end = self.table_at.checked_add(u64::from(self.table_bytes));
        self.bytes > 0
            && self.bytes.is_multiple_of(BLOCK as u64)
            && self.bytes <= super::BATCH_BYTES_LIMIT
            && table_end.is_some_and(|end| end <= self.bytes)
    }

    /// The table inside `batch`; `None` when it is damaged.
    pub(super) fn table<'a>(&self, batch: &'a [u8], seed: Seed) -> Option<&'a [u8]> {
        let start = usize::try_from(self.table_at).ok()?;
        let table = batch.get(start..start.checked_add(self.table_bytes as usize)?)?;
        (seed.crc(&[table]) == self.table_crc).then_some(table)
    }
}
