//! An in-memory disk that remembers every write, and a shell that drives a log on it.

use crate::spool::*;
use crate::sys::slice::{Budget, Pool, Slice};
use crate::wire::Wall;
use std::collections::BTreeMap;

/// One completed write; at [`GONE`], the removal of a file.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub(super) file: FileId,
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

/// Where the removal of a file is.
pub(super) const GONE: u64 = u64::MAX;

/// What the next write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It succeeds.
    Good,
    /// It fails after so many octets reached the disk.
    Fails(usize),
    /// It reports so many octets, and they are there.
    Short(usize),
}

/// Files by name, and the writes that made them.
#[derive(Debug, Default, Clone)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<FileId, Vec<u8>>,
    pub(super) ops: Vec<Op>,
}

impl Disk {
    pub(super) fn write(&mut self, op: &Op) {
        if op.at == GONE {
            self.files.remove(&op.file);
            return;
        }
        let file = self.files.get_mut(&op.file).expect("the file was created");
        let at = usize::try_from(op.at).expect("small");
        file[at..at + op.bytes.len()].copy_from_slice(&op.bytes);
    }
}

/// A log, its disk, and what a shell knows.
pub(super) struct World {
    pub(super) log: Log,
    pub(super) disk: Disk,
    pub(super) pool: Pool,
    /// The disk as it was at the start; files created since are blank in it.
    pub(super) start: Disk,
    pub(super) next_file: u32,
    pub(super) secrets: u8,
    /// Files that may be created.
    pub(super) files_max: usize,
    /// Fates of the next writes, first to last; then they are good.
    pub(super) fates: Vec<Fate>,
    pub(super) flight: Option<Order>,
    pub(super) durable: Ticket,
    pub(super) failures: Vec<Failure>,
}

pub(super) const SEGMENT: u64 = 256 << 10;

pub(super) fn options(durability: Durability) -> LogOptions {
    let numbers = Numbers::of_shard(1, 0, 1);
    LogOptions { shard: 0, durability, segment_bytes: SEGMENT, batch_bytes_max: 64 << 10, numbers }
}

impl World {
    pub(super) fn new(durability: Durability) -> Self {
        let pool = Pool::new(Budget::new(64 << 20));
        Self::with(Log::new(options(durability), pool.clone()), pool, Disk::default())
    }

    pub(super) fn with(log: Log, pool: Pool, disk: Disk) -> Self {
        let next_file = disk.files.keys().last().map_or(1, |file| file.0 + 1);
        Self {
            log,
            start: disk.clone(),
            disk,
            pool,
            next_file,
            secrets: 0,
            files_max: 64,
            fates: Vec::new(),
            flight: None,
            durable: Ticket(0),
            failures: Vec::new(),
        }
    }

    /// A segment is open and the next one prepared.
    pub(super) fn warm_up(&mut self) {
        let appended = self.append_patiently(b"warm", 1);
        self.settle_patiently(appended.id, 0);
        self.settle_down();
    }

    /// Brings what the log wants.
    pub(super) fn supply(&mut self) {
        while let Some(file) = self.log.unborn() {
            let op = Op { file, at: GONE, bytes: Vec::new() };
            self.disk.write(&op);
            self.disk.ops.push(op);
            self.log.removed(file);
        }
        while let Some(want) = self.log.wants() {
            let file = match want {
                Want::Recycle(file) => file,
                Want::File if self.disk.files.len() >= self.files_max => return self.log.no_file(),
                Want::File => {
                    let file = FileId(self.next_file);
                    self.next_file += 1;
                    self.disk.files.insert(file, vec![0; SEGMENT as usize]);
                    self.start.files.insert(file, vec![0; SEGMENT as usize]);
                    file
                }
            };
            self.secrets = self.secrets.wrapping_add(1);
            self.log.give(file, Secret([self.secrets ^ (file.0 as u8).rotate_left(4); 16]));
        }
    }

    /// Performs one write, the one in flight if there is one; false when there was none.
    pub(super) fn write_one(&mut self) -> bool {
        if self.flight.is_none() && !self.start_write() {
            return false;
        }
        self.finish_write();
        true
    }

    /// Gives a write to the disk; false when there was none.
    pub(super) fn start_write(&mut self) -> bool {
        self.supply();
        assert!(self.flight.is_none(), "one write at a time");
        self.flight = self.log.seal();
        self.flight.is_some()
    }

    /// The write in flight ends as its fate wills.
    pub(super) fn finish_write(&mut self) {
        let mut order = self.flight.take().expect("a write is in flight");
        loop {
            let bytes: Vec<u8> = order.parts.iter().flat_map(|part| part.iter().copied()).collect();
            assert_eq!(bytes.len() as u64, order.bytes);
            assert!(order.at.is_multiple_of(4096) && order.parts.iter().all(|part| part.len().is_multiple_of(4096)));
            let fate = if self.fates.is_empty() { Fate::Good } else { self.fates.remove(0) };
            let (reached, result) = match fate {
                Fate::Good => (bytes.len(), WriteResult::Octets(bytes.len())),
                Fate::Fails(octets) => (octets.min(bytes.len()), WriteResult::Failed),
                Fate::Short(octets) => (octets.min(bytes.len()), WriteResult::Octets(octets.min(bytes.len()))),
            };
            let op = Op { file: order.file, at: order.at, bytes: bytes[..reached].to_vec() };
            self.disk.write(&op);
            self.disk.ops.push(op);
            match self.log.written(order.parts, result) {
                Written::Durable(ticket) => self.durable = ticket,
                Written::Chore => {}
                Written::Rest(rest) => {
                    order = rest;
                    continue;
                }
                Written::Failed(failure) => self.failures.push(failure),
            }
            return;
        }
    }

    /// Writes until nothing is left to write.
    pub(super) fn settle_down(&mut self) {
        while self.write_one() {}
    }

    /// Appends a message whose content is `content`, to `recipients` recipients.
    pub(super) fn append(&mut self, content: &[u8], recipients: u16) -> Result<Appended, Full> {
        self.supply();
        let facts = facts(content);
        let envelope = envelope(content, recipients);
        self.log.append(&NewRecord { content: Content::Octets(&[content]), ..record(&envelope, recipients, &facts) })
    }

    /// The same, writing as often as the log asks for time.
    pub(super) fn append_patiently(&mut self, content: &[u8], recipients: u16) -> Appended {
        loop {
            match self.append(content, recipients) {
                Ok(appended) => return appended,
                Err(Full::Segment) => assert!(self.write_one(), "the log waits for a write that it does not order"),
                Err(full) => panic!("{full}"),
            }
        }
    }

    /// The same for content that was written while it arrived.
    pub(super) fn append_in_extents(&mut self, content: &[u8], recipients: u16) -> RecordId {
        let mut extents = Extents::default();
        for piece in content.chunks(32 << 10) {
            let slices = self.chunks(piece);
            while self.log.extent(&mut extents, &slices, piece.len() as u64).is_err() {
                assert!(self.write_one());
            }
            self.write_one();
        }
        self.settle_down();
        let (facts, envelope) = (facts(content), envelope(content, recipients));
        let new = NewRecord { content: Content::Extents(&extents), ..record(&envelope, recipients, &facts) };
        self.log.append(&new).expect("room").id
    }

    pub(super) fn settle_patiently(&mut self, id: RecordId, recipient: u16) -> Ticket {
        loop {
            match self.log.settle(id, recipient, Outcome::Delivered) {
                Ok(ticket) => return ticket,
                Err(Full::Segment) => assert!(self.write_one(), "the log waits for a write that it does not order"),
                Err(full) => panic!("{full}"),
            }
        }
    }

    /// Chunks that hold `content`, padded with zeros.
    pub(super) fn chunks(&self, content: &[u8]) -> Vec<Slice> {
        let mut slices = Vec::new();
        for piece in content.chunks(1 << 20) {
            let mut fill = self.pool.fill(piece.len()).expect("within budget");
            fill.put(piece);
            fill.pad_to(4096);
            slices.push(fill.take());
        }
        slices
    }
}

/// An envelope that a test can check: it hangs on the content.
pub(super) fn envelope(content: &[u8], recipients: u16) -> Vec<u8> {
    format!("envelope of {:08x} to {recipients}", crc_fast::crc32_iscsi(content)).into_bytes()
}

pub(super) fn facts(content: &[u8]) -> Facts {
    Facts {
        body_bytes: content.len() as u64,
        crc32c: crc_fast::crc32_iscsi(content),
        longest_line: 78,
        header_bytes: 10,
        received_count: 2,
        eight_bit: true,
        nul: false,
        ends_with_crlf: true,
        leading_dots: LeadingDots::new([3, 17]),
    }
}

pub(super) const TRACE: &[u8] = b"Received: from here by there\r\n";

pub(super) fn record<'a>(envelope: &'a [u8], recipients: u16, facts: &'a Facts) -> NewRecord<'a> {
    NewRecord {
        kind: RecordKind::Message,
        envelope,
        recipients,
        trace: TRACE,
        facts,
        priority: 1,
        received: Wall(1_700_000_000_000_000),
        content: Content::Octets(&[]),
        settles: &[],
    }
}

/// Content of `bytes` octets that differs by `seed`.
pub(super) fn content(seed: u32, bytes: usize) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(next).collect()
}
