//! The queues that an operator has suspended: kept in the data folder, so that they stay so over a restart.
//!
//! `suspended.json` is `{"version":1,"queues":["NAME",…]}`; it is replaced whole, synced, before any shard hears of a change,
//! and gone when nothing is suspended. A file that cannot be read keeps the server from starting: mail that somebody holds
//! back must not leave because of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "suspended.json";
const FILE_NEW: &str = "suspended.json.new";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    queues: BTreeSet<String>,
}

/// Names of suspended queues, and where they are kept.
#[derive(Debug, Default)]
pub(super) struct Held {
    names: Arc<BTreeSet<String>>,
    /// `None`: a server without a folder forgets them with everything else.
    folder: Option<PathBuf>,
}

impl Held {
    /// Those of an earlier run.
    ///
    /// # Errors
    /// One line: the file cannot be read, or is not ours.
    pub fn read(folder: Option<&Path>) -> Result<Held, String> {
        let Some(folder) = folder else { return Ok(Held::default()) };
        let path = folder.join(FILE);
        let wrong = |what: String| {
            let path = path.display();
            format!("{path}: {what}; mend it, or remove it if no queue is to be suspended")
        };
        let names = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(wrong(error.to_string())),
            Ok(octets) => match serde_json::from_slice::<Kept>(&octets) {
                Ok(Kept { version: VERSION, queues }) => queues,
                Ok(Kept { version, .. }) => return Err(wrong(format!("version {version} is not known here"))),
                Err(error) => return Err(wrong(format!("these are not suspended queues: {error}"))),
            },
        };
        Ok(Held { names: Arc::new(names), folder: Some(folder.to_owned()) })
    }

    /// Their names.
    pub fn names(&self) -> Arc<BTreeSet<String>> {
        self.names.clone()
    }

    /// Suspends the queue, or lets it go; `false` when it was so before. It is on the disk then.
    ///
    /// # Errors
    /// It cannot be kept, and nothing is changed.
    pub fn suspend(&mut self, queue: &str, held: bool) -> io::Result<bool> {
        let mut names = BTreeSet::clone(&self.names);
        let changed = if held { names.insert(queue.to_owned()) } else { names.remove(queue) };
        if changed {
            if let Some(folder) = &self.folder {
                keep(folder, &names)?;
            }
            self.names = Arc::new(names);
        }
        Ok(changed)
    }
}

fn keep(folder: &Path, names: &BTreeSet<String>) -> io::Result<()> {
    let (path, new) = (folder.join(FILE), folder.join(FILE_NEW));
    if names.is_empty() {
        fs::remove_file(&path)?;
    } else {
        let octets = serde_json::to_vec(&Kept { version: VERSION, queues: names.clone() })?;
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&octets)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(held: &Held) -> Vec<String> {
        held.names().iter().cloned().collect()
    }

    #[test]
    fn f_182_what_is_suspended_is_so_in_the_next_run_and_said_twice_is_done_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut held = Held::read(Some(folder.path())).expect("nothing yet");
        assert!(held.suspend("b", true).expect("kept"));
        assert!(held.suspend("a", true).expect("kept"));
        assert!(!held.suspend("a", true).expect("kept"));
        let mut again = Held::read(Some(folder.path())).expect("read");
        assert_eq!(names(&again), ["a", "b"]);
        assert!(again.suspend("a", false).expect("kept"));
        assert!(!again.suspend("a", false).expect("kept"));
        assert!(again.suspend("b", false).expect("kept"));
        assert!(names(&Held::read(Some(folder.path())).expect("read")).is_empty());
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0, "nothing is left lying");
    }

    #[test]
    fn i_10_what_cannot_be_read_or_kept_is_said_and_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        for (text, told) in [
            ("", "not suspended queues"),
            (r#"{"version":2,"queues":[]}"#, "version 2 is not known"),
            (r#"{"version":1,"queues":[1]}"#, "not suspended queues"),
        ] {
            fs::write(folder.path().join(FILE), text).expect("written");
            let error = Held::read(Some(folder.path())).expect_err("it is wrong");
            assert!(error.contains(told) && error.contains(FILE) && error.contains("remove it"), "{error}");
        }
        fs::write(folder.path().join(FILE), r#"{"version":1,"queues":["a"]}"#).expect("written");
        let mut held = Held::read(Some(folder.path())).expect("read");
        fs::create_dir(folder.path().join(FILE_NEW)).expect("made");
        held.suspend("b", true).expect_err("something stands in the way");
        assert_eq!(names(&held), ["a"]);
        let mut nowhere = Held::read(None).expect("a front end");
        assert!(nowhere.suspend("a", true).expect("in memory"));
    }
}
