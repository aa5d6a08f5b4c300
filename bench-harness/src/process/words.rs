//! What components write to stderr: kept in the result folder, and the last of it in memory, so that a full disk takes
//! nobody's last words.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What all engine processes say, in the order in which it came: each line behind its process's name.
pub const ENGINE_LOG: &str = "engine.log";
/// Behind a process's name: what it says, octet by octet.
pub const STDERR: &str = "stderr";
/// Octets shown when a component fails.
const LAST_BYTES: usize = 2_000;
/// A longer line is kept in parts.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Somebody else may hold the pipe open when a component has ended.
const END_WAIT: Duration = Duration::from_secs(1);

/// One component's stderr.
#[derive(Debug)]
pub struct Words {
    last: Arc<Mutex<VecDeque<u8>>>,
    over: Receiver<()>,
}

/// Where a component's words go.
#[derive(Debug)]
struct Kept {
    name: String,
    own: File,
    /// Engines only.
    all: Option<File>,
    last: Arc<Mutex<VecDeque<u8>>>,
}

impl Words {
    /// Listens to `from` on a thread of its own until it ends. `NAME.stderr` in `folder` takes it as it comes; with
    /// `is_engine` so does [`ENGINE_LOG`], line by line.
    ///
    /// # Errors
    /// A file that cannot be made, by name, or no thread.
    pub fn of(name: &str, is_engine: bool, from: impl Read + Send + 'static, folder: &Path) -> io::Result<Self> {
        let own = appended(&folder.join(format!("{name}.{STDERR}")))?;
        let all = is_engine.then(|| appended(&folder.join(ENGINE_LOG))).transpose()?;
        let last = Arc::default();
        let kept = Kept { name: name.to_owned(), own, all, last: Arc::clone(&last) };
        let (done, over) = channel();
        std::thread::Builder::new().name(format!("stderr of {name}")).spawn(move || {
            kept.listen(BufReader::new(from));
            drop(done);
        })?;
        Ok(Self { last, over })
    }

    /// Waits a moment for the end of what a component says that has ended itself.
    pub fn settle(&self) -> bool {
        self.over.recv_timeout(END_WAIT) == Err(RecvTimeoutError::Disconnected)
    }

    /// The last it said.
    pub fn last(&self) -> String {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(last.make_contiguous()).trim().to_owned()
    }
}

impl Kept {
    fn listen(mut self, mut from: impl BufRead) {
        let mut line = Vec::new();
        loop {
            line.clear();
            match from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => self.keep(&line),
            }
        }
    }

    /// Words that find no room on the disk are lost but for the last: a run does not end by them.
    fn keep(&mut self, line: &[u8]) {
        let _lost = self.own.write_all(line);
        if let Some(all) = &mut self.all {
            let end: &[u8] = if line.ends_with(b"\n") { b"" } else { b"\n" };
            // In one write: lines of others stand before or behind it.
            let _lost = all.write_all(&[self.name.as_bytes(), b": ", line, end].concat());
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.extend(line);
        let beyond = last.len().saturating_sub(LAST_BYTES);
        last.drain(..beyond);
    }
}

/// Opens a file that only grows.
///
/// # Errors
/// The system's, with the file's name.
pub fn appended(path: &Path) -> io::Result<File> {
    let opened = File::options().create(true).append(true).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(folder: &Path, name: &str, is_engine: bool, text: &'static str) -> Words {
        let words = Words::of(name, is_engine, text.as_bytes(), folder).expect("a folder of ours");
        assert!(words.settle(), "it ends with what it says");
        words
    }

    #[test]
    fn engines_are_kept_by_themselves_and_together() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        said(folder.path(), "hub-1", true, "one\ntwo\n");
        said(folder.path(), "sink-a", false, "three\n");
        said(folder.path(), "hub-2", true, "four");
        said(folder.path(), "hub-1", true, "five\n");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("kept");
        assert_eq!(read("hub-1.stderr"), "one\ntwo\nfive\n");
        assert_eq!((read("sink-a.stderr"), read("hub-2.stderr")), ("three\n".to_owned(), "four".to_owned()));
        assert_eq!(read(ENGINE_LOG), "hub-1: one\nhub-1: two\nhub-2: four\nhub-1: five\n");
    }

    #[test]
    fn the_last_words_need_no_disk() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::os::unix::fs::symlink("/dev/full", folder.path().join("hub.stderr")).expect("a link");
        let words = said(folder.path(), "hub", false, "first\nno space left\n");
        assert_eq!(words.last(), "first\nno space left");
        let long: &'static str = "0123456789\n".repeat(1000).leak();
        assert!(said(folder.path(), "hub-2", false, long).last().len() <= LAST_BYTES);
    }
}
