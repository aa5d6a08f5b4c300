//! Real mail from disk: a folder of `.eml` files (its subfolders too), one `.eml` file, or an mbox, replayed byte for byte.
//!
//! One thing is changed, because SMTP has no other form: a file whose lines all end in LF, as Unix mailboxes store them,
//! is sent with CRLF. A file that holds a single CRLF is taken to be in wire form and sent exactly as it is, bare LF and
//! bare CR included. An mbox is cut at lines that begin with `From ` at its start or behind an empty line; nothing is
//! unquoted (`>From ` stays), and the empty line before such a line belongs to the mailbox, not to the message.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Octets of a whole corpus: it is held in memory.
pub const CORPUS_BYTES_MAX: u64 = 1 << 30;

/// Folders below the one named.
const DEPTH_MAX: usize = 8;

/// A message as it stood on disk, in wire form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// Its file, with `#N` behind it for the N-th message of an mbox, from 1.
    pub name: String,
    /// Header section and body, lines ended by CRLF (see the module's text); not dot-stuffed.
    pub bytes: Vec<u8>,
}

/// Why a corpus cannot be used. All are the caller's to mend: exit 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// A file or folder could not be read.
    #[error("corpus {path}: {source}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing to send.
    #[error("corpus {path}: no .eml file and no mbox message in it", path = .0.display())]
    Empty(PathBuf),
    /// A file that is neither.
    #[error("corpus {path}: neither a folder, nor an .eml file, nor an mbox (its first line begins with `From `)", path = .0.display())]
    Unknown(PathBuf),
    /// An empty `.eml` file.
    #[error("corpus {path}: the file is empty", path = .0.display())]
    EmptyFile(PathBuf),
    /// Larger than memory should hold.
    #[error("corpus {path}: more than {CORPUS_BYTES_MAX} octets", path = .0.display())]
    TooLarge(PathBuf),
}

/// Reads everything below `path`, in the order of names.
///
/// # Errors
/// [`CorpusError`], naming the file.
pub fn read(path: &Path) -> Result<Vec<RawMessage>, CorpusError> {
    let mut messages = Vec::new();
    let mut left = CORPUS_BYTES_MAX;
    let kind = fs::metadata(path).map_err(failed(path))?.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        return Err(CorpusError::Unknown(path.to_owned()));
    }
    if kind.is_dir() {
        read_folder(path, DEPTH_MAX, &mut left, &mut messages)?;
    } else {
        let bytes = read_bounded(path, &mut left)?;
        let name = path.display().to_string();
        if bytes.starts_with(b"From ") {
            split_mbox(&name, &bytes, &mut messages);
        } else if is_eml(path) {
            messages.push(single(path, name, bytes)?);
        } else {
            return Err(CorpusError::Unknown(path.to_owned()));
        }
    }
    if messages.is_empty() { Err(CorpusError::Empty(path.to_owned())) } else { Ok(messages) }
}

fn read_folder(folder: &Path, depth: usize, left: &mut u64, messages: &mut Vec<RawMessage>) -> Result<(), CorpusError> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(failed(folder))?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if depth > 0 {
                read_folder(&path, depth - 1, left, messages)?;
            }
        } else if is_eml(&path) {
            let bytes = read_bounded(&path, left)?;
            messages.push(single(&path, path.display().to_string(), bytes)?);
        }
    }
    Ok(())
}

fn single(path: &Path, name: String, bytes: Vec<u8>) -> Result<RawMessage, CorpusError> {
    if bytes.is_empty() {
        return Err(CorpusError::EmptyFile(path.to_owned()));
    }
    Ok(RawMessage { name, bytes: to_wire(&bytes) })
}

fn is_eml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("eml"))
}

fn read_bounded(path: &Path, left: &mut u64) -> Result<Vec<u8>, CorpusError> {
    let mut bytes = Vec::new();
    // What stands there need not have the size that it says, or any: a pipe, a device.
    let file = File::open(path).map_err(failed(path))?;
    let read = file.take(*left + 1).read_to_end(&mut bytes).map_err(failed(path))?;
    *left = left.checked_sub(read as u64).ok_or_else(|| CorpusError::TooLarge(path.to_owned()))?;
    Ok(bytes)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CorpusError + '_ {
    move |source| CorpusError::Read { path: path.to_owned(), source }
}

fn split_mbox(name: &str, mailbox: &[u8], messages: &mut Vec<RawMessage>) {
    let starts = separators(mailbox);
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(mailbox.len());
        let part = &mailbox[start..end];
        let body_at = memchr::memchr(b'\n', part).map_or(part.len(), |at| at + 1);
        let body = without_last_empty_line(&part[body_at..]);
        if !body.is_empty() {
            messages.push(RawMessage { name: format!("{name}#{}", index + 1), bytes: to_wire(body) });
        }
    }
}

/// Offsets of the lines that begin a message.
fn separators(mailbox: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut after_empty = true;
    let mut at = 0;
    while at < mailbox.len() {
        let end = memchr::memchr(b'\n', &mailbox[at..]).map_or(mailbox.len(), |length| at + length + 1);
        let line = &mailbox[at..end];
        if after_empty && line.starts_with(b"From ") {
            starts.push(at);
        }
        after_empty = line == b"\n" || line == b"\r\n";
        at = end;
    }
    starts
}

fn without_last_empty_line(body: &[u8]) -> &[u8] {
    for (ending, line) in [(&b"\r\n\r\n"[..], 2), (&b"\n\n"[..], 1)] {
        if body.ends_with(ending) {
            return &body[..body.len() - line];
        }
    }
    body
}

/// LF to CRLF where every line ends in LF alone; everything else as it is.
fn to_wire(bytes: &[u8]) -> Vec<u8> {
    if memchr::memmem::find(bytes, b"\r\n").is_some() {
        return bytes.to_vec();
    }
    let lines = memchr::memchr_iter(b'\n', bytes).count();
    let mut wire = Vec::with_capacity(bytes.len() + lines);
    for line in bytes.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                wire.extend_from_slice(text);
                wire.extend_from_slice(b"\r\n");
            }
            None => wire.extend_from_slice(line),
        }
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        folder
    }

    #[test]
    fn eml_files_come_in_order_of_names_byte_for_byte() {
        let odd: &[u8] = b"Subject: \xff\x00\r\n\r\n.dot\r\nbare\nbare\rend";
        let folder =
            folder(&[("b.eml", b"B: 2\r\n\r\n"), ("a/z.EML", odd), ("notes.txt", b"no"), ("c.eml", b"C: 3\n")]);
        let messages = read(folder.path()).expect("readable");
        let bytes: Vec<&[u8]> = messages.iter().map(|message| &message.bytes[..]).collect();
        assert_eq!(bytes, [odd, b"B: 2\r\n\r\n", b"C: 3\r\n"]);
    }

    #[test]
    fn an_mbox_is_cut_only_where_a_message_begins() {
        let mailbox = b"From a@x Mon Jan  1 00:00:00 2024\nA: 1\n\n>From quoted\nFrom inside a paragraph\n\n\
                        From b@x Mon Jan  1 00:00:00 2024\nB: 2\n\nbody";
        let folder = folder(&[("mbox", mailbox)]);
        let messages = read(&folder.path().join("mbox")).expect("readable");
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].bytes, b"A: 1\r\n\r\n>From quoted\r\nFrom inside a paragraph\r\n");
        assert_eq!(messages[1].bytes, b"B: 2\r\n\r\nbody");
        assert!(messages[1].name.ends_with("mbox#2"));
    }

    #[test]
    fn an_mbox_with_crlf_keeps_its_octets() {
        let folder = folder(&[("m", b"From a\r\nA: 1\r\n\r\nx\r\n\r\nFrom b\r\nB: 2\r\n\r\n\r\n")]);
        let messages = read(&folder.path().join("m")).expect("readable");
        assert_eq!(messages[0].bytes, b"A: 1\r\n\r\nx\r\n");
        assert_eq!(messages[1].bytes, b"B: 2\r\n\r\n");
    }

    #[test]
    fn what_is_no_corpus_is_refused_with_its_name() {
        let folder = folder(&[("empty.eml", b""), ("text.txt", b"hello"), ("sub/x.txt", b"")]);
        assert!(matches!(read(&folder.path().join("none")), Err(CorpusError::Read { .. })));
        assert!(matches!(read(&folder.path().join("text.txt")), Err(CorpusError::Unknown(_))));
        assert!(matches!(read(&folder.path().join("empty.eml")), Err(CorpusError::EmptyFile(_))));
        assert!(matches!(read(&folder.path().join("sub")), Err(CorpusError::Empty(_))));
    }
}
