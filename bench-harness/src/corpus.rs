//! The small corpus of real-shaped mail that the quickstart replays, carried inside the program, so that an installed one
//! needs nothing beside it. Origin and licence: `tests/corpus/README.md`.

use anyhow::Context;
use std::path::{Path, PathBuf};

const FILES: &[(&str, &[u8])] = &[
    ("attachment.eml", include_bytes!("../../tests/corpus/attachment.eml")),
    ("bare.eml", include_bytes!("../../tests/corpus/bare.eml")),
    ("blank-lines.eml", include_bytes!("../../tests/corpus/blank-lines.eml")),
    ("calendar.eml", include_bytes!("../../tests/corpus/calendar.eml")),
    ("delivery-report.eml", include_bytes!("../../tests/corpus/delivery-report.eml")),
    ("eight-bit-latin1.eml", include_bytes!("../../tests/corpus/eight-bit-latin1.eml")),
    ("eight-bit-utf8.eml", include_bytes!("../../tests/corpus/eight-bit-utf8.eml")),
    ("empty-body.eml", include_bytes!("../../tests/corpus/empty-body.eml")),
    ("flowed.eml", include_bytes!("../../tests/corpus/flowed.eml")),
    ("iso-2022-jp.eml", include_bytes!("../../tests/corpus/iso-2022-jp.eml")),
    ("large-attachment.eml", include_bytes!("../../tests/corpus/large-attachment.eml")),
    ("large-headers.eml", include_bytes!("../../tests/corpus/large-headers.eml")),
    ("leading-dots.eml", include_bytes!("../../tests/corpus/leading-dots.eml")),
    ("list.eml", include_bytes!("../../tests/corpus/list.eml")),
    ("long-lines.eml", include_bytes!("../../tests/corpus/long-lines.eml")),
    ("nested.eml", include_bytes!("../../tests/corpus/nested.eml")),
    ("plain.eml", include_bytes!("../../tests/corpus/plain.eml")),
    ("quoted-printable.eml", include_bytes!("../../tests/corpus/quoted-printable.eml")),
    ("raw-header.eml", include_bytes!("../../tests/corpus/raw-header.eml")),
    ("signed.eml", include_bytes!("../../tests/corpus/signed.eml")),
];

/// Puts the corpus into a folder below `scratch`.
///
/// # Errors
/// The system's.
pub fn unpack(scratch: &Path) -> anyhow::Result<PathBuf> {
    let folder = scratch.join("corpus");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for (name, octets) in FILES {
        let file = folder.join(name);
        std::fs::write(&file, octets).with_context(|| format!("writing {}", file.display()))?;
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
        assert_eq!(messages.len(), FILES.len(), "each file is a message");
        let mean = messages.iter().map(|m| m.bytes.len()).sum::<usize>() / messages.len();
        assert!((2_000..100_000).contains(&mean), "{mean}");
    }
}
