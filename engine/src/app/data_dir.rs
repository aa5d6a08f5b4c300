//! The folder that a server keeps: its segments, its lock, its socket. Looked at before anything is written into it; what is
//! not ours, not ours alone, or not of our format is refused in one line (S-007, F-032, F-033).
//!
//! | name | what |
//! |---|---|
//! | `format` | `ringpost data 1` and a newline: whose folder this is, and how to read it; written last when it is made |
//! | `lock` | locked by the server that runs on it |
//! | `memory-only` | a hub runs that keeps its mail in memory; one that is found was left by a run that did not end well |
//! | `suspended.json` | the queues that an operator has suspended, where there are any |
//! | `admin.sock` | the admin socket, unless it is elsewhere |
//! | the rest | the spool's: segments, and what was put aside |

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What stands in `format`.
const FORMAT: &str = "ringpost data 1\n";
/// Stands there while a hub keeps its mail in memory alone.
const MEMORY_ONLY: &str = "memory-only";
/// Names that may stand in a folder that is not ours yet.
const FOREIGN: [&str; 4] = ["lost+found", "admin.sock", "lock", "format.new"];

/// A folder that is ours alone for as long as this is held.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    /// Locked.
    _lock: File,
}

impl DataDir {
    /// Takes `path`. A folder that does not exist is made where `make` says so (a trial without a file), and only itself:
    /// a server with a file must not begin with an empty spool because a disk was not mounted.
    ///
    /// # Errors
    /// One line that says what is wrong and what would be right.
    pub fn take(path: &Path, make: bool) -> Result<DataDir, String> {
        let shown = path.display();
        let failed = |error: io::Error| format!("server.data_dir: {shown}: {error}; mend that, or name another folder");
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && make => {
                DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(format!("server.data_dir: {shown} does not exist; make it: install -d -m 0700 {shown}"));
            }
            Err(error) => return Err(failed(error)),
            Ok(_) => {}
        }
        ours_alone(path)?;
        let known = known(path)?;
        let lock = lock(path)?;
        if !known {
            begin(path).map_err(failed)?;
        }
        Ok(DataDir { path: path.to_owned(), _lock: lock })
    }

    /// Takes a folder that is ours already, to look at it: nothing is made or written. One without a lock is run by nobody.
    ///
    /// # Errors
    /// One line that says what is wrong and what would be right.
    pub fn look(path: &Path) -> Result<Option<File>, String> {
        let shown = path.display();
        if !known(path)? {
            return Err(format!("server.data_dir: {shown} holds no spool; name the data folder of a hub"));
        }
        match File::open(path.join("lock")) {
            Ok(file) => locked(path, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("server.data_dir: {shown}/lock: {error}; mend that first")),
        }
    }

    /// Marks that what this run takes is in memory alone, if `forgets`, until [`Self::ended_well`]. Whether an earlier run
    /// left such a mark: it did not end well, and what it held is lost (F-013).
    ///
    /// # Errors
    /// One line: the mark cannot be made or taken away.
    pub fn mark(&self, forgets: bool) -> Result<bool, String> {
        let mark = self.path.join(MEMORY_ONLY);
        let was = mark.symlink_metadata().is_ok();
        let made = || OpenOptions::new().create_new(true).write(true).mode(0o600).open(&mark);
        let done = match (was, forgets) {
            // On the disk before anything is taken: it is there for what a power cut takes.
            (false, true) => made().and_then(|_| File::open(&self.path)?.sync_all()),
            (true, false) => fs::remove_file(&mark),
            _ => Ok(()),
        };
        done.map(|()| was).map_err(|error| format!("server.data_dir: {}: {error}; mend that first", mark.display()))
    }

    /// Nothing was lost that was not said.
    pub fn ended_well(&self) {
        // A mark that stays says too much at the next start, never too little.
        let _ = fs::remove_file(self.path.join(MEMORY_ONLY));
    }
}

/// Refuses a folder that others may look into or that belongs to somebody else.
fn ours_alone(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let there = fs::metadata(path).map_err(|error| format!("server.data_dir: {shown}: {error}; mend that first"))?;
    let us = rustix::process::geteuid().as_raw();
    if !there.is_dir() {
        return Err(format!("server.data_dir: {shown} is not a folder; name a folder"));
    }
    if there.uid() != us {
        return Err(format!(
            "server.data_dir: {shown} belongs to user {}, not to user {us}; say chown {us} {shown}",
            there.uid()
        ));
    }
    match there.mode() & 0o777 {
        0o700 => Ok(()),
        // Who named a folder of other things by mistake must not be told to close it.
        _ if holds_other_things(path) => known(path).map(drop),
        mode => Err(format!("server.data_dir: {shown} has mode {mode:04o}; say chmod 0700 {shown}")),
    }
}

/// Whether the folder can be read, and neither is ours nor could become ours.
fn holds_other_things(path: &Path) -> bool {
    fs::read_dir(path).is_ok() && known(path).is_err()
}

/// Whether the folder is one of ours already. One with other people's things in it is refused.
fn known(path: &Path) -> Result<bool, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("server.data_dir: {shown}: {error}; mend that first");
    match fs::read(path.join("format")) {
        Ok(format) if format == FORMAT.as_bytes() => return Ok(true),
        Ok(_) => {
            let wrong = format!("server.data_dir: {shown} has the format of another version");
            return Err(format!("{wrong}; run that version, or name another folder"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(error)),
    }
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if !FOREIGN.iter().any(|foreign| name == *foreign) {
            let wrong = format!(
                "server.data_dir: {shown} is no folder of ours and not empty: {}",
                name.to_string_lossy().escape_debug()
            );
            return Err(format!("{wrong}; name an empty folder"));
        }
    }
    Ok(false)
}

fn lock(path: &Path) -> Result<File, String> {
    let shown = path.display();
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"));
    let file = file.map_err(|error| format!("server.data_dir: {shown}/lock: {error}; mend that first"))?;
    locked(path, file)
}

fn locked(path: &Path, file: File) -> Result<File, String> {
    let shown = path.display();
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(format!("server.data_dir: another server runs on {shown}; stop it, or name another folder"))
        }
        Err(TryLockError::Error(error)) => {
            Err(format!("server.data_dir: {shown}/lock: {error}; use a file system with locks"))
        }
    }
}

/// Makes the folder ours: the format is there whole, and on the disk, or not at all.
fn begin(path: &Path) -> io::Result<()> {
    let new = path.join("format.new");
    // What a crash left of it.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut format = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
    format.write_all(FORMAT.as_bytes())?;
    format.sync_all()?;
    fs::rename(&new, path.join("format"))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().expect("a folder")
    }

    fn refused(path: &Path) -> String {
        DataDir::take(path, false).expect_err("refused")
    }

    #[test]
    fn f_032_a_folder_that_is_missing_or_not_ours_alone_is_refused_and_not_written_into() {
        let folder = folder();
        let missing = folder.path().join("missing");
        assert!(refused(&missing).contains("does not exist; make it: install -d -m 0700"));
        assert!(!missing.exists());
        for mode in [0o755, 0o750, 0o701, 0o500] {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("a mode");
            let line = refused(folder.path());
            assert!(line.contains(&format!("has mode {mode:04o}; say chmod 0700")), "{line}");
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).expect("a mode");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0, "nothing was written");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(refused(&file).contains("is not a folder"));
        assert!(refused(folder.path()).contains("not empty: file; name an empty folder"));
        if rustix::process::geteuid().is_root() {
            let theirs = self::folder();
            std::os::unix::fs::chown(theirs.path(), Some(12_345), None).expect("given away");
            assert!(refused(theirs.path()).contains("belongs to user 12345, not to user 0; say chown 0"));
        }
    }

    #[test]
    fn f_032_another_version_s_format_is_refused() {
        let folder = folder();
        drop(DataDir::take(folder.path(), false).expect("ours"));
        drop(DataDir::take(folder.path(), false).expect("ours again"));
        fs::write(folder.path().join("format"), "ringpost data 2\n").expect("written");
        assert!(refused(folder.path()).contains("has the format of another version"));
    }

    #[test]
    fn a_start_that_was_cut_short_is_taken_up_again() {
        let folder = folder();
        fs::create_dir(folder.path().join("lost+found")).expect("made");
        fs::write(folder.path().join("format.new"), "ringpo").expect("written");
        drop(DataDir::take(folder.path(), false).expect("ours"));
        fs::remove_file(folder.path().join("format")).expect("removed");
        drop(DataDir::take(folder.path(), false).expect("ours, with its lock left behind"));
        fs::remove_file(folder.path().join("format")).expect("removed");
        fs::write(folder.path().join("00000001.segment"), "").expect("written");
        assert!(refused(folder.path()).contains("not empty: 00000001.segment"), "a spool without its format");
    }

    #[test]
    fn f_033_two_servers_never_run_on_one_folder() {
        let folder = folder();
        let first = DataDir::take(folder.path(), false).expect("ours");
        assert!(refused(folder.path()).contains("another server runs on"));
        drop(first);
        drop(DataDir::take(folder.path(), false).expect("free again"));
    }

    #[test]
    fn f_013_a_run_that_kept_nothing_and_did_not_end_well_is_known_by_its_mark() {
        let folder = folder();
        for (forgets, ends_well, was) in [
            (true, true, false),
            (true, false, false),
            (true, false, true),
            (false, false, true),
            (false, false, false),
        ] {
            let ours = DataDir::take(folder.path(), false).expect("ours");
            assert_eq!(ours.mark(forgets), Ok(was));
            if ends_well {
                ours.ended_well();
            }
        }
    }

    #[test]
    fn s_007_what_is_made_is_ours_alone() {
        let folder = folder();
        let path = folder.path().join("data");
        let _held = DataDir::take(&path, true).expect("a trial's folder is made");
        for (name, mode) in [("", 0o700), ("lock", 0o600), ("format", 0o600)] {
            let found = fs::metadata(path.join(name)).expect("it stands there").mode() & 0o777;
            assert_eq!(found, mode, "{name:?}");
        }
        assert!(DataDir::take(&folder.path().join("no/parent"), true).is_err(), "only itself is made");
    }
}
