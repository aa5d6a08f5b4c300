//! Knows every message that was appended, what was promised about it, and when; judges what recovery finds.

use super::disk::*;
use crate::spool::*;
use crate::sys::slice::{Budget, Pool};
use std::collections::BTreeMap;

/// One message.
pub(super) struct Entry {
    pub(super) content: Vec<u8>,
    pub(super) recipients: u16,
    pub(super) id: RecordId,
    pub(super) ticket: Ticket,
    /// Writes completed when it was appended.
    pub(super) appended_at: usize,
    /// For each recipient settled: the ticket, and writes completed then.
    pub(super) settles: BTreeMap<u16, (Ticket, usize)>,
    /// For recipients that failed for good: the content of the record that owes the report.
    pub(super) owed: BTreeMap<u16, u32>,
}

/// All messages, by the checksum of their content, and when which ticket became durable.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<u32, Entry>,
    /// Writes completed when the ticket was durable.
    pub(super) durable: BTreeMap<Ticket, usize>,
    /// Tickets that failed: what cancels them, if anything must.
    pub(super) failed: BTreeMap<Ticket, Option<Ticket>>,
    /// By writes completed: up to which ticket outcomes were said to be durable then.
    pub(super) settled: BTreeMap<usize, Ticket>,
}

impl Ledger {
    pub(super) fn note(&mut self, content: &[u8], recipients: u16, appended: &Appended, ops: usize) {
        let entry = Entry {
            content: content.to_vec(),
            recipients,
            id: appended.id,
            ticket: appended.ticket,
            appended_at: ops,
            settles: BTreeMap::new(),
            owed: BTreeMap::new(),
        };
        assert!(self.entries.insert(crc_fast::crc32_iscsi(content), entry).is_none(), "contents differ");
    }

    fn durable_by(&self, ticket: Ticket, ops: usize) -> bool {
        !self.failed.contains_key(&ticket)
            && (ticket.0 == 0 || self.durable.range(ticket..).next().is_some_and(|(_, &at)| at <= ops))
    }

    /// As `durable_by` for an outcome, which goes into a later batch when its own fails.
    fn settled_by(&self, ticket: Ticket, ops: usize) -> bool {
        let said = self.settled.range(..=ops).next_back().map_or(Ticket(0), |(_, &upto)| upto);
        ticket <= said
    }

    /// Judges what was found after a crash while write `ops` was under way, all before it being complete.
    pub(super) fn judge(&self, found: &Found, ops: usize, story: &str) {
        let mut seen = BTreeMap::new();
        for live in &found.live {
            let crc = crc_fast::crc32_iscsi(&live.content);
            let entry = self.entries.get(&crc).unwrap_or_else(|| panic!("{story}: {} is nobody's message", live.id));
            assert_eq!(live.content, entry.content, "{story}: half a message");
            assert_eq!(live.envelope, envelope(&entry.content, entry.recipients), "{story}: another's envelope");
            assert!(entry.appended_at <= ops, "{story}: a message from the future");
            assert!(seen.insert(crc, live).is_none(), "{story}: {} stands twice", live.id);
            let cancelled = self.failed.get(&entry.ticket).copied().flatten();
            assert!(
                cancelled.is_none_or(|cancel| !self.settled_by(cancel, ops)),
                "{story}: {} was refused, the cancel is durable, and it came back",
                live.id
            );
        }
        for (crc, entry) in &self.entries {
            let left: &[u16] = seen.get(crc).map_or(&[], |live| &live.unsettled);
            for recipient in 0..entry.recipients {
                let settle = entry.settles.get(&recipient);
                let promised = self.durable_by(entry.ticket, ops) && entry.appended_at <= ops;
                if promised && settle.is_none_or(|&(_, at)| at > ops) {
                    assert!(left.contains(&recipient), "{story}: {} recipient {recipient} is lost", entry.id);
                }
                let owed = entry.owed.get(&recipient);
                let durable = |ticket| match owed {
                    Some(_) => self.durable_by(ticket, ops),
                    None => self.settled_by(ticket, ops),
                };
                if settle.is_some_and(|&(ticket, at)| at <= ops && durable(ticket)) {
                    assert!(!left.contains(&recipient), "{story}: {} recipient {recipient} rises again", entry.id);
                }
                let Some(report) = owed.filter(|_| promised && !left.contains(&recipient)) else { continue };
                let settled = self.entries[report].settles.get(&0).is_some_and(|&(_, at)| at <= ops);
                assert!(settled || seen.contains_key(report), "{story}: the report for {} is lost", entry.id);
            }
        }
    }
}

/// A live record as a shell would load it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) id: RecordId,
    pub(super) content: Vec<u8>,
    pub(super) envelope: Vec<u8>,
    pub(super) unsettled: Vec<u16>,
}

/// What recovery gave.
pub(super) struct Found {
    pub(super) logs: Vec<Log>,
    pub(super) pool: Pool,
    pub(super) live: Vec<Live>,
    /// Live records that could not be read.
    pub(super) unreadable: Vec<RecordId>,
    pub(super) damage: Vec<Damage>,
    pub(super) unclean: Option<Durability>,
}

fn read(disk: &Disk, read: Read) -> &[u8] {
    let at = usize::try_from(read.at).expect("small");
    let file = &disk.files[&read.file];
    &file[at.min(file.len())..(at + read.bytes).min(file.len())]
}

/// Reads a record as a shell does.
pub(super) fn fetch(log: &Log, disk: &Disk, id: RecordId) -> Result<(RecordHead, Vec<u8>, Vec<u8>), RecordError> {
    let fetch = log.fetch(id).expect("live");
    let mut octets = read(disk, fetch.first_read());
    let record = loop {
        match fetch.parse(octets)? {
            Fetched::Record(record) => break record,
            Fetched::More(more) => octets = read(disk, more),
        }
    };
    let mut content = Vec::new();
    for stretch in log.content_of(&record)? {
        let bytes = usize::try_from(stretch.read_bytes()).expect("small");
        let octets = read(disk, Read { file: stretch.file, at: stretch.at, bytes });
        let octets = octets.get(stretch.skip..stretch.skip + stretch.bytes as usize).ok_or(RecordError::Damaged)?;
        if !stretch.is_whole(octets.chunks(1000)) {
            return Err(RecordError::Damaged);
        }
        content.extend_from_slice(octets);
    }
    Ok((record.head, record.envelope.to_vec(), content))
}

/// Scans one file.
pub(super) fn scan(disk: &Disk, file: FileId) -> Result<Scanned, Refused> {
    scan_image(file, &disk.files[&file])
}

/// The same while the disk does not give these blocks.
pub(super) fn scan_without(disk: &Disk, file: FileId, refused: &[(FileId, u64)]) -> Result<Scanned, Refused> {
    let mut scan = Scan::new(file, disk.files[&file].len() as u64);
    while let Some(wanted) = scan.wants() {
        let range = wanted.at..wanted.at + wanted.bytes as u64;
        if refused.iter().any(|(of, at)| *of == file && range.contains(at)) {
            scan.failed();
        } else {
            scan.feed(read(disk, wanted));
        }
    }
    scan.finish()
}

/// Recovers everything for `shards` shards; damage stays where it is.
pub(super) fn recover(disk: &Disk, shards: usize, durability: Durability) -> Found {
    recover_with(disk, shards, durability, scan, |_| ())
}

/// The same while the disk does not give these blocks, as a shell does it.
pub(super) fn recover_without(disk: &Disk, refused: &[(FileId, u64)]) -> Found {
    recover_with(
        disk,
        1,
        Durability::Disk,
        |disk, file| scan_without(disk, file, refused),
        |recovered| {
            recovered.next_number += 1 << 20;
            recovered.unread(&refused.iter().map(|(file, _)| *file).collect());
        },
    )
}

/// The same, with all damage put aside.
pub(super) fn recover_aside(disk: &Disk, shards: usize, durability: Durability) -> Found {
    recover_with(disk, shards, durability, scan, |recovered| {
        let files: Vec<_> = recovered.damage.iter().map(|damage| damage.file).collect();
        files.into_iter().for_each(|file| recovered.put_aside(file));
    })
}

fn recover_with(
    disk: &Disk,
    shards: usize,
    durability: Durability,
    scan: impl Fn(&Disk, FileId) -> Result<Scanned, Refused>,
    then: impl Fn(&mut Recovered),
) -> Found {
    let mut recovery = Recovery::new();
    for &file in disk.files.keys() {
        recovery.add(scan(disk, file).expect("this version"));
    }
    let mut recovered = recovery.finish(shards);
    then(&mut recovered);
    let pool = Pool::new(Budget::new(64 << 20));
    let mut found = Found {
        logs: Vec::new(),
        pool: pool.clone(),
        live: Vec::new(),
        unreadable: Vec::new(),
        damage: recovered.damage,
        unclean: recovered.unclean,
    };
    for (shard, adoption) in recovered.adoptions.into_iter().enumerate() {
        let numbers = Numbers::of_shard(recovered.next_number, shard, shards);
        let options = LogOptions { shard: shard as u16, numbers, ..options(durability) };
        let mut log = Log::new(options, pool.clone());
        let mut backlog = log.adopt(adoption);
        loop {
            if let Some(wanted) = backlog.wants() {
                backlog.feed(read(disk, wanted));
                continue;
            }
            let Some(loaded) = backlog.next(&log) else { break };
            let (id, known_head) = (loaded.id, loaded.head);
            let known = loaded.envelope.map(<[u8]>::to_vec);
            match fetch(&log, disk, id) {
                Ok((head, envelope, content)) => {
                    // A torn footer tells nothing; a whole one the truth.
                    assert!(known.is_none_or(|known| known == envelope), "the footer tells the truth");
                    assert!(known_head.is_none_or(|known| known == head), "the footer tells the truth");
                    let unsettled = (0..head.recipients).filter(|&r| !log.is_settled(id, r)).collect();
                    found.live.push(Live { id, content, envelope, unsettled });
                }
                Err(_) => found.unreadable.push(id),
            }
        }
        assert!(backlog.is_done());
        found.logs.push(log);
    }
    found
}
