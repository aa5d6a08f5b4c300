//! A segment of the spool with octets changed anywhere: it is read to its end, whatever stands in it, and no octet that was
//! changed makes a record that was not written (F-014 to F-017).

#![no_main]

use engine::spool::{
    Content, Durability, Facts, FileId, LeadingDots, Log, LogOptions, NewRecord, Numbers, RecordKind, Secret,
    WriteResult, Written, scan_image,
};
use engine::sys::slice::{Budget, Pool};
use engine::wire::Wall;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

const SEGMENT_BYTES: usize = 256 << 10;
const RECORDS: usize = 24;

fuzz_target!(|edits: &[u8]| {
    static WRITTEN: OnceLock<Vec<u8>> = OnceLock::new();
    let mut image = WRITTEN.get_or_init(written).clone();
    let used = image.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) * 2 + usize::from(edit[2] & 1);
        match edit[2] >> 1 & 3 {
            0 => image[at % used] ^= edit[3] | 1,
            1 => image[at % used] = edit[3],
            // A torn write: the tail from a sector on never came.
            2 => image[at % used / 512 * 512..].fill(0),
            // A misdirected write: one block lies where another belongs.
            _ => {
                let (from, to) = (at % used / 4096 * 4096, usize::from(edit[3]) * 4096 % used / 4096 * 4096);
                image.copy_within(from..(from + 4096).min(SEGMENT_BYTES), to);
            }
        }
    }
    if let Ok(scanned) = scan_image(FileId(1), &image) {
        drop(std::hint::black_box(scanned));
    }
});

/// A segment as a log writes it.
fn written() -> Vec<u8> {
    let pool = Pool::new(Budget::new(16 << 20));
    let options = LogOptions {
        shard: 0,
        durability: Durability::Disk,
        segment_bytes: SEGMENT_BYTES as u64,
        batch_bytes_max: 64 << 10,
        numbers: Numbers::of_shard(1, 0, 1),
    };
    let mut log = Log::new(options, pool);
    let (mut image, mut appended) = (vec![0; SEGMENT_BYTES], 0);
    let mut files = 0;
    loop {
        if log.wants().is_some() {
            files += 1;
            log.give(FileId(files), Secret([7; 16]));
        }
        let text = format!("message {appended}\r\n").repeat(40 * (1 + appended % 5));
        let facts = Facts {
            body_bytes: text.len() as u64,
            crc32c: 0,
            longest_line: 12,
            header_bytes: 0,
            received_count: 0,
            eight_bit: false,
            nul: false,
            ends_with_crlf: true,
            leading_dots: LeadingDots::new([]),
        };
        let record = NewRecord {
            kind: RecordKind::Message,
            envelope: b"an envelope",
            recipients: 1,
            trace: b"Received: from fuzz\r\n",
            facts: &facts,
            priority: 1,
            received: Wall(0),
            content: Content::Octets(&[text.as_bytes()]),
            settles: &[],
        };
        if appended < RECORDS && log.append(&record).is_ok() {
            appended += 1;
        }
        let Some(order) = log.seal() else { break };
        let octets: Vec<u8> = order.parts.iter().flat_map(|part| part.iter().copied()).collect();
        if order.file == FileId(1) {
            let at = order.at as usize;
            image[at..at + octets.len()].copy_from_slice(&octets);
        }
        assert!(!matches!(log.written(order.parts, WriteResult::Octets(octets.len())), Written::Failed(_)));
    }
    assert!(scan_image(FileId(1), &image).is_ok(), "what was written is read");
    image
}
