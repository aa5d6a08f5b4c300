//! What a spool holds, read from its octets: the records that a start would find, and what of them is unsettled.

use super::disk::Disk;
use super::file::Inode;
use crate::spool::{
    BATCH_BYTES_MAX, Durability, Fetched, FileId, Log, LogOptions, Numbers, RecordId, RecordKind, Recovery, Refused,
    Scanned, Stretch, scan_image,
};
use crate::sys::slice::{Budget, Pool};
use crate::wire::{EnvelopeRef, ReversePathRef};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

/// A segment's file and all of its octets.
pub(super) type Images = Vec<(FileId, Vec<u8>)>;

/// A record of which something is unsettled.
#[derive(Debug)]
pub(super) struct Held {
    /// A message, or a failure on record.
    pub kind: RecordKind,
    /// The message's number, as its sender's address says.
    pub message: usize,
    /// Who is unsettled, by address.
    pub recipients: Vec<String>,
    /// Every octet of its content is as it was received.
    pub is_whole: bool,
}

/// The segments of a spool, by their files.
pub(super) fn segments(disk: &Disk, spool: &Path) -> Vec<(FileId, Rc<Inode>)> {
    disk.files(spool).into_iter().filter_map(|(name, inode)| Some((id_of(&name)?, inode))).collect()
}

/// The segment whose file has this name.
pub(super) fn id_of(name: &str) -> Option<FileId> {
    u32::from_str_radix(name.strip_suffix(".segment")?, 16).ok().map(FileId)
}

/// What is stable of a spool.
pub(super) fn images(disk: &Disk, spool: &Path) -> Images {
    segments(disk, spool).into_iter().map(|(file, inode)| (file, inode.octets())).collect()
}

/// What a start would find.
///
/// # Errors
/// A segment says that a newer program wrote it.
pub(super) fn held(images: &Images) -> Result<Vec<Held>, Refused> {
    let mut recovery = Recovery::new();
    for (file, octets) in images {
        recovery.add(scan_image(*file, octets)?);
    }
    let recovered = recovery.finish(1);
    let files: BTreeMap<u32, &[u8]> = images.iter().map(|(file, octets)| (file.0, &octets[..])).collect();
    let options = LogOptions {
        shard: 0,
        durability: Durability::Disk,
        segment_bytes: 1 << 20,
        batch_bytes_max: BATCH_BYTES_MAX,
        numbers: Numbers::of_shard(recovered.next_number, 0, 1),
    };
    let mut log = Log::new(options, Pool::new(Budget::new(8 << 20)));
    let mut held = Vec::new();
    for adoption in recovered.adoptions {
        let mut backlog = log.adopt(adoption);
        loop {
            if let Some(read) = backlog.wants() {
                backlog.feed(part(&files, read.file, read.at, read.bytes));
            }
            match backlog.next(&log).map(|loaded| loaded.id) {
                Some(id) => held.extend(record(&log, &files, id)),
                None if backlog.is_done() => break,
                None => {}
            }
        }
    }
    Ok(held)
}

/// The damage in one file, by recovery's word.
pub(super) fn damage_of(file: FileId, octets: &[u8]) -> Result<Vec<crate::spool::Damage>, Refused> {
    Ok(match scan_image(file, octets)? {
        Scanned::Segment(segment) => segment.damage,
        Scanned::Lost(damage) => vec![damage],
        Scanned::Blank(_) => Vec::new(),
    })
}

fn part<'a>(files: &BTreeMap<u32, &'a [u8]>, file: FileId, at: u64, bytes: usize) -> &'a [u8] {
    let octets = files.get(&file.0).copied().unwrap_or_default();
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(octets.len());
    &octets[at..at.saturating_add(bytes).min(octets.len())]
}

fn record(log: &Log, files: &BTreeMap<u32, &[u8]>, id: RecordId) -> Option<Held> {
    let fetch = log.fetch(id)?;
    let mut read = fetch.first_read();
    loop {
        let found = match fetch.parse(part(files, read.file, read.at, read.bytes)).ok()? {
            Fetched::More(more) => {
                read = more;
                continue;
            }
            Fetched::Record(found) => found,
        };
        let envelope = EnvelopeRef::parse(found.envelope).ok()?;
        let ReversePathRef::Mailbox(sender) = envelope.reverse_path() else { return None };
        let message = std::str::from_utf8(sender.local().strip_prefix(b"n")?).ok()?.parse().ok()?;
        let unsettled = envelope.recipients().filter(|recipient| {
            let number = u16::try_from(recipient.index).unwrap_or(u16::MAX);
            !log.is_settled(id, number)
        });
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let recipients =
            unsettled.map(|recipient| format!("{}@{}", text(recipient.local()), text(recipient.domain()))).collect();
        let stretches = log.content_of(&found).unwrap_or_default();
        let is_whole = !stretches.is_empty() && stretches.iter().all(|stretch| is_whole(files, stretch));
        return Some(Held { kind: found.head.kind, message, recipients, is_whole });
    }
}

fn is_whole(files: &BTreeMap<u32, &[u8]>, stretch: &Stretch) -> bool {
    let bytes = usize::try_from(stretch.bytes).unwrap_or(usize::MAX);
    let octets = part(files, stretch.file, stretch.at, bytes.saturating_add(stretch.skip));
    stretch.is_whole(octets.get(stretch.skip..))
}
