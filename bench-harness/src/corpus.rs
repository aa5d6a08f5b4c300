//! The small corpus of real-shaped mail that the quickstart replays, carried inside the program, so that an installed one
//! needs nothing beside it. Origin and licence: `tests/corpus/README.md`.

use anyhow::Context;
use std::path::{Path, PathBuf};

/// Each with its share of the mixture: one mail in thirty has 90 KiB, one in two hundred 440 KiB, as in a mailbox.
const FILES: &[(&str, u32, &[u8])] = &[
    ("attachment.eml", 6, include_bytes!("../../tests/corpus/attachment.eml")),
    ("bare.eml", 10, include_bytes!("../../tests/corpus/bare.eml")),
    ("blank-lines.eml", 10, include_bytes!("../../tests/corpus/blank-lines.eml")),
    ("calendar.eml", 10, include_bytes!("../../tests/corpus/calendar.eml")),
    ("delivery-report.eml", 10, include_bytes!("../../tests/corpus/delivery-report.eml")),
    ("eight-bit-latin1.eml", 10, include_bytes!("../../tests/corpus/eight-bit-latin1.eml")),
    ("eight-bit-utf8.eml", 10, include_bytes!("../../tests/corpus/eight-bit-utf8.eml")),
    ("empty-body.eml", 10, include_bytes!("../../tests/corpus/empty-body.eml")),
    ("flowed.eml", 10, include_bytes!("../../tests/corpus/flowed.eml")),
    ("iso-2022-jp.eml", 10, include_bytes!("../../tests/corpus/iso-2022-jp.eml")),
    ("large-attachment.eml", 1, include_bytes!("../../tests/corpus/large-attachment.eml")),
    ("large-headers.eml", 4, include_bytes!("../../tests/corpus/large-headers.eml")),
    ("leading-dots.eml", 10, include_bytes!("../../tests/corpus/leading-dots.eml")),
    ("list.eml", 10, include_bytes!("../../tests/corpus/list.eml")),
    ("long-lines.eml", 10, include_bytes!("../../tests/corpus/long-lines.eml")),
    ("nested.eml", 10, include_bytes!("../../tests/corpus/nested.eml")),
    ("plain.eml", 10, include_bytes!("../../tests/corpus/plain.eml")),
    ("quoted-printable.eml", 10, include_bytes!("../../tests/corpus/quoted-printable.eml")),
    ("raw-header.eml", 10, include_bytes!("../../tests/corpus/raw-header.eml")),
    ("signed.eml", 10, include_bytes!("../../tests/corpus/signed.eml")),
];

/// Puts the corpus into a folder below `scratch`: each message as many times as its share says, since every file of a corpus
/// is sent as often as every other. It is done once for each `scratch`.
///
/// # Errors
/// The system's.
pub fn unpack(scratch: &Path) -> anyhow::Result<PathBuf> {
    let folder = scratch.join("corpus");
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for (name, share, octets) in FILES {
        for copy in 0..*share {
            let file = folder.join(format!("{copy}-{name}"));
            std::fs::write(&file, octets).with_context(|| format!("writing {}", file.display()))?;
        }
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_generator_takes_the_whole_corpus() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let corpus = unpack(folder.path()).expect("unpacked");
        let messages = loadgen::workload::corpus::read(&corpus).expect("a corpus");
        let shares: u32 = FILES.iter().map(|(_, share, _)| share).sum();
        assert_eq!(messages.len(), shares as usize, "each file is a message");
        let mean = messages.iter().map(|m| m.bytes.len()).sum::<usize>() / messages.len();
        assert!((5_000..20_000).contains(&mean), "{mean}");
        let large = messages.iter().filter(|m| m.bytes.len() > 64 << 10).count();
        assert!((20..40).contains(&(messages.len() / large)), "one in {}", messages.len() / large);
    }
}
