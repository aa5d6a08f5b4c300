//! The real-shaped mail of `tests/corpus`.

use crate::source::root;
use std::path::PathBuf;

/// One message as it travels: CRLF at every line's end, the last included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The file's name without its ending.
    pub name: String,
    /// Header and body.
    pub content: Vec<u8>,
}

/// Where the corpus lies.
pub fn folder() -> PathBuf {
    root().join("tests/corpus")
}

/// Every message, by name.
///
/// # Panics
/// When the folder cannot be read.
pub fn mails() -> Vec<Mail> {
    let entries = std::fs::read_dir(folder()).expect("tests/corpus");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut mails: Vec<Mail> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "eml"))
        .map(|path| Mail {
            name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
            content: std::fs::read(&path).expect("a readable message"),
        })
        .collect();
    mails.sort_by(|one, other| one.name.cmp(&other.name));
    mails
}
