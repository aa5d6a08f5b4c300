//! Looks at a spool on a machine's disk while nobody uses it: what recovery makes of its damage, and where a message stands
//! that can rot.

use super::disk::Disk;
use super::ledger::{FIELD, Ledger};
use super::records::{self, segments};
use crate::spool::{Cause, Damage, RecordKind};
use std::path::Path;

const BLOCK: usize = 4096;

/// Compares what recovery says of damage with the format's own words (F-014): below an offset that a later batch of the same
/// life knew to be synced it is rot, and only a disk that rots has any; above it was never promised.
pub(super) fn inspect(disk: &Disk, spool: &Path, ledger: &Ledger) {
    for (file, inode) in segments(disk, spool) {
        let octets = inode.octets();
        let damage = match records::damage_of(file, &octets) {
            Ok(damage) => damage,
            Err(refused) => return ledger.breach("F-036", refused.to_string()),
        };
        // A file of which nothing but a footer says what was synced is not for this judge.
        let has_footer = octets.chunks(BLOCK).any(|block| block.starts_with(b"RPft"));
        for damage in damage.iter().filter(|_| !has_footer) {
            judge(disk, &octets, damage, ledger);
        }
    }
}

/// Tells the ledger which recipients have failed on record: what a start would find.
pub(super) fn read_failures(disk: &Disk, spool: &Path, ledger: &Ledger) {
    let held = match records::held(&records::images(disk, spool)) {
        Ok(held) => held,
        Err(refused) => return ledger.breach("F-036", refused.to_string()),
    };
    for record in held.iter().filter(|record| record.kind == RecordKind::Owed && record.is_whole) {
        record.recipients.iter().for_each(|recipient| ledger.is_on_record(record.message, recipient));
    }
}

fn judge(disk: &Disk, octets: &[u8], damage: &Damage, ledger: &Ledger) {
    let is_below = damage.number.is_none_or(|number| was_synced(octets, number.get(), damage));
    let (file, at) = (damage.file.0, damage.offset);
    let is_rot = damage.cause == Cause::Rot;
    if is_rot != is_below {
        let (said, should) = if is_rot { ("rot", "the end of a write") } else { ("the end of a write", "rot") };
        ledger.breach("F-014", format!("damage in file {file} at {at} is called {said}, and is {should}"));
    } else if is_rot && !disk.is_rotten() {
        ledger.breach("F-013", format!("file {file} has damage at {at}, which was synced on a disk that does not rot"));
    }
}

/// Whether a batch of life `number` behind the damage says that everything up to the damage's end was synced.
fn was_synced(octets: &[u8], number: u64, damage: &Damage) -> bool {
    let end = damage.offset + damage.bytes;
    let word = |block: &[u8], at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight octets"));
    octets.chunks_exact(BLOCK).enumerate().any(|(index, block)| {
        let at = (index * BLOCK) as u64;
        let is_batch = block.starts_with(b"RPbt") && word(block, 16) == number && word(block, 24) == at;
        is_batch && at >= end && word(block, 56) >= end
    })
}

/// Lets a message rot that is still owed and stands on this disk; whether there was one.
pub(super) fn rot(disk: &Disk, spool: &Path, ledger: &Ledger) -> bool {
    let mut places = Vec::new();
    for (_, inode) in segments(disk, spool) {
        let octets = inode.octets();
        for at in memchr::memmem::find_iter(&octets, FIELD) {
            let digits: Vec<u8> = octets[at + FIELD.len()..].iter().copied().take_while(u8::is_ascii_digit).collect();
            let number = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
            if let Some(number) = number.filter(|&number| ledger.is_owed(number)) {
                places.push((inode.clone(), at as u64, number, digits.len() as u64));
            }
        }
    }
    if places.is_empty() {
        return false;
    }
    let (inode, at, number, digits) = disk.chance.one_of(&places);
    // Name, number, or the line's end: all of it is content.
    disk.rot(inode, at + disk.chance.below(FIELD.len() as u64 + digits + 2));
    ledger.rots(*number);
    true
}
