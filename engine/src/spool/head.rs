//! The segment head: who this file is in this life. Written twice, in the first and in the last block, before anything
//! else; never again in that life.

use super::bytes::{Reader, Store};
use super::ids::{FileId, SEGMENT_BYTES_LIMIT, Secret, SegmentNumber};
use super::{BLOCK, Durability, FORMAT_VERSION};

const MAGIC: &[u8; 8] = b"RINGPOST";
const FIELDS_BYTES: usize = 64;

/// What a segment's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    /// The life's number.
    pub number: SegmentNumber,
    /// Seeds every checksum of this life.
    pub secret: Secret,
    /// Octets of the whole segment.
    pub segment_bytes: u64,
    /// The shard whose log this is.
    pub shard: u16,
    /// What a commit promised when this life began.
    pub durability: Durability,
    /// The file was all zero before this life, so anything else behind the last batch was once written.
    pub first_life: bool,
    /// The file that it was written to.
    pub file: FileId,
}

/// What a head block turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadBlock {
    /// A head.
    Valid(SegmentHead),
    /// All zero: a file not yet prepared.
    Blank,
    /// Ours, of a format that this program does not know (F-036).
    Newer(u32),
    /// Anything else.
    Damaged,
}

impl SegmentHead {
    /// The whole block.
    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block.store(0, MAGIC);
        block.store_u32(8, FORMAT_VERSION);
        block.store_u64(16, self.number.get());
        block.store(24, &self.secret.0);
        block.store_u64(40, self.segment_bytes);
        block.store_u16(48, self.shard);
        block.store(50, &[self.durability as u8, u8::from(self.first_life)]);
        block.store_u32(52, self.file.0);
        let crc = crc_fast::crc32_iscsi(&block[16..]);
        block.store_u32(12, crc);
        block
    }

    /// Reads a head block. Total: every block is something.
    pub fn decode(block: &[u8]) -> HeadBlock {
        if block.iter().all(|&octet| octet == 0) {
            return HeadBlock::Blank;
        }
        let mut reader = Reader::new(block);
        if reader.take(MAGIC.len()) != Some(MAGIC) || block.len() != BLOCK {
            return HeadBlock::Damaged;
        }
        match reader.u32() {
            Some(FORMAT_VERSION) => Self::decode_fields(block).map_or(HeadBlock::Damaged, HeadBlock::Valid),
            Some(version) if version > FORMAT_VERSION => HeadBlock::Newer(version),
            _ => HeadBlock::Damaged,
        }
    }

    fn decode_fields(block: &[u8]) -> Option<SegmentHead> {
        let mut reader = Reader::new(block.get(12..FIELDS_BYTES)?);
        let crc = reader.u32()?;
        if crc != crc_fast::crc32_iscsi(block.get(16..)?) {
            return None;
        }
        let number = SegmentNumber::new(reader.u64()?)?;
        let secret = Secret(reader.take(16)?.try_into().ok()?);
        let segment_bytes = reader.u64()?;
        let whole = segment_bytes.is_multiple_of(BLOCK as u64);
        if !whole || !(super::SEGMENT_BYTES_MIN..=SEGMENT_BYTES_LIMIT).contains(&segment_bytes) {
            return None;
        }
        let shard = reader.u16()?;
        let durability = Durability::from_octet(reader.u8()?)?;
        let first_life = reader.u8()? == 1;
        let file = FileId(reader.u32()?);
        Some(SegmentHead { number, secret, segment_bytes, shard, durability, first_life, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> SegmentHead {
        SegmentHead {
            number: SegmentNumber::new(9).expect("valid"),
            secret: Secret([7; 16]),
            segment_bytes: 1 << 20,
            shard: 3,
            durability: Durability::Os,
            first_life: true,
            file: FileId(5),
        }
    }

    #[test]
    fn a_head_survives_the_disk() {
        assert_eq!(SegmentHead::decode(&head().encode()), HeadBlock::Valid(head()));
        assert_eq!(SegmentHead::decode(&[0; BLOCK]), HeadBlock::Blank);
        assert_eq!(SegmentHead::decode(b"RINGPOST"), HeadBlock::Damaged);
        assert_eq!(SegmentHead::decode(b""), HeadBlock::Blank);
    }

    #[test]
    fn f_036_a_newer_format_is_refused_by_name() {
        let mut block = head().encode();
        block[8] = 2;
        assert_eq!(SegmentHead::decode(&block), HeadBlock::Newer(2));
    }

    #[test]
    fn f_017_no_flipped_bit_passes_for_a_head() {
        let block = head().encode();
        for bit in (0..FIELDS_BYTES * 8).chain([BLOCK * 8 - 1]) {
            let mut flipped = block;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(SegmentHead::decode(&flipped), HeadBlock::Valid(_)), "bit {bit}");
        }
    }
}
