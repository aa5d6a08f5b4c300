//! What a spool holds, read from its octets: the records that a start would find, and what of them is unsettled.

use super::disk::Disk;
use super::file::Inode;
use crate::spool::{
    BATCH_BYTES_MAX, Durability, Fetch, Fetched, FileId, Log, LogOptions, Numbers, Read, RecordKind, RecordRef,
    Recovery, Refused, Scanned, scan_image,
};
use crate::sys::slice::{Budget, Pool};
use crate::wire::{EnvelopeRef, ReversePathRef};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

/// A segment's file and all of its octets.
pub(crate) type Images = Vec<(FileId, Vec<u8>)>;

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
    let found = live(images, |log, record, content| {
        let envelope = EnvelopeRef::parse(record.envelope).ok()?;
        let ReversePathRef::Mailbox(sender) = envelope.reverse_path() else { return None };
        let message = std::str::from_utf8(sender.local().strip_prefix(b"n")?).ok()?.parse().ok()?;
        let unsettled = envelope.recipients().filter(|recipient| {
            let number = u16::try_from(recipient.index).unwrap_or(u16::MAX);
            !log.is_settled(record.head.id, number)
        });
        let recipients = unsettled.map(|recipient| recipient.mailbox.to_string()).collect();
        Some(Held { kind: record.head.kind, message, recipients, is_whole: content.is_some() })
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// What `visit` makes of each live record that can be read, and of its content if every octet is as it was received.
///
/// # Errors
/// As [`held`].
pub(crate) fn live<T>(
    images: &Images,
    mut visit: impl FnMut(&Log, &RecordRef<'_>, Option<Vec<u8>>) -> T,
) -> Result<Vec<T>, Refused> {
    let mut recovery = Recovery::new();
    for (file, octets) in images {
        recovery.add(scan_image(*file, octets)?);
    }
    let recovered = recovery.finish(1);
    let files: Files<'_> = images.iter().map(|(file, octets)| (*file, &octets[..])).collect();
    let options = LogOptions {
        shard: 0,
        durability: Durability::Disk,
        segment_bytes: 1 << 20,
        batch_bytes_max: BATCH_BYTES_MAX,
        numbers: Numbers::of_shard(recovered.next_number, 0, 1),
    };
    let mut log = Log::new(options, Pool::new(Budget::new(8 << 20)));
    let mut found = Vec::new();
    for adoption in recovered.adoptions {
        let mut backlog = log.adopt(adoption);
        loop {
            if let Some(read) = backlog.wants() {
                backlog.feed(part(&files, read));
            }
            match backlog.next(&log).map(|loaded| loaded.id) {
                Some(id) => {
                    let Some(fetch) = log.fetch(id) else { continue };
                    let Some(record) = record(&fetch, &files) else { continue };
                    let content = content(&log, &files, &record);
                    found.push(visit(&log, &record, content));
                }
                None if backlog.is_done() => break,
                None => {}
            }
        }
    }
    Ok(found)
}

/// The damage in one file, by recovery's word.
pub(super) fn damage_of(file: FileId, octets: &[u8]) -> Result<Vec<crate::spool::Damage>, Refused> {
    Ok(match scan_image(file, octets)? {
        Scanned::Segment(segment) => segment.damage,
        Scanned::Lost(damage) => vec![damage],
        Scanned::Blank(_) => Vec::new(),
    })
}

type Files<'a> = BTreeMap<FileId, &'a [u8]>;

fn part<'a>(files: &Files<'a>, read: Read) -> &'a [u8] {
    let octets = files.get(&read.file).copied().unwrap_or_default();
    let at = usize::try_from(read.at).unwrap_or(usize::MAX).min(octets.len());
    &octets[at..at.saturating_add(read.bytes).min(octets.len())]
}

fn record<'a>(fetch: &Fetch, files: &Files<'a>) -> Option<RecordRef<'a>> {
    let mut read = fetch.first_read();
    loop {
        match fetch.parse(part(files, read)).ok()? {
            Fetched::More(more) => read = more,
            Fetched::Record(found) => return Some(found),
        }
    }
}

fn content(log: &Log, files: &Files<'_>, record: &RecordRef<'_>) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    for stretch in log.content_of(record).ok()? {
        let bytes = usize::try_from(stretch.bytes).ok()?.saturating_add(stretch.skip);
        let octets = part(files, Read { file: stretch.file, at: stretch.at, bytes }).get(stretch.skip..)?;
        content.extend_from_slice(stretch.is_whole([octets]).then_some(octets)?);
    }
    Some(content)
}
