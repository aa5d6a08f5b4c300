//! The result folder: made fresh or taken as given, with a place for what a run leaves behind only while it runs.

use crate::exit::UsageError;
use crate::process::words::{ENGINE_LOG, STDERR};
use anyhow::Context;
use serde::Serialize;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the folder of a run begins with that is needed only while it runs.
const SCRATCH: &str = ".running-";
/// The file in it that its run has locked: unlocked, the run is gone.
const OWNER: &str = "owner";

/// A result folder.
#[derive(Debug)]
pub struct ResultFolder {
    path: PathBuf,
    scratch: tempfile::TempDir,
    _owner: File,
}

impl ResultFolder {
    /// Makes `asked`, or a new one named after the time and `name` below `ringbench-results`. What an earlier run left in it goes,
    /// so that all files in it are of one run.
    ///
    /// # Errors
    /// The system's; it holds what is no run's, or a run is under way in it.
    pub fn make(asked: Option<&Path>, name: &str) -> anyhow::Result<Self> {
        let path = match asked {
            Some(path) => path.to_owned(),
            None => {
                let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
                Path::new("ringbench-results").join(format!("{now}-{name}"))
            }
        };
        let path = std::path::absolute(&path).context("the folder we are in is gone")?;
        let unusable = |error| {
            let path = path.display();
            UsageError(format!("the result folder {path} cannot be used: {error}; name another by --out"))
        };
        std::fs::create_dir_all(&path).map_err(unusable)?;
        clear_up(&path);
        let others = strangers(&path).map_err(unusable)?;
        if let Some(other) = others.first() {
            let (path, more) = (path.display(), others.len() - 1);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let whose =
                if other.starts_with(SCRATCH) { "of a run that is under way in it" } else { "which is no run's" };
            let text = format!(
                "the result folder {path} holds {other}{more}, {whose}: name a new folder, or one of an earlier run, by --out"
            );
            return Err(UsageError(text).into());
        }
        if asked.is_none() {
            let others = path.parent().and_then(|all| std::fs::read_dir(all).ok()).into_iter().flatten().flatten();
            others.for_each(|other| clear_up(&other.path()));
        }
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&path).map_err(unusable)?;
        let owner = own(scratch.path()).map_err(unusable)?;
        forget(&path).with_context(|| format!("clearing {}", path.display()))?;
        Ok(Self { path, scratch, _owner: owner })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Spools and other data of the run: gone when this value is.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a file of it, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, name: &str, text: &[u8]) -> anyhow::Result<()> {
        let (there, new) = (self.path.join(name), self.scratch.path().join("new-file"));
        let write = || -> std::io::Result<()> {
            File::create(&new)?.write_all(text)?;
            std::fs::rename(&new, &there)
        };
        write().with_context(|| format!("writing {}", there.display()))
    }

    /// Writes `value` as JSON.
    ///
    /// # Errors
    /// The system's.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(value).context("a result as JSON")?;
        text.push(b'\n');
        self.write(name, &text)
    }
}

/// Makes the folder `scratch` this process's. Nobody sees the file before it is locked.
fn own(scratch: &Path) -> std::io::Result<File> {
    let new = scratch.join("new-owner");
    let file = File::create(&new)?;
    file.lock()?;
    std::fs::rename(&new, scratch.join(OWNER))?;
    Ok(file)
}

/// Removes what runs left behind in `folder` that were killed. What cannot be removed, or looked at, stays.
fn clear_up(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_scratch = entry.file_name().to_string_lossy().starts_with(SCRATCH);
        if !is_scratch || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let owner = File::open(entry.path().join(OWNER));
        if owner.is_ok_and(|owner| owner.try_lock().is_ok()) {
            let _stays = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether `name` is that of a file that runs leave. What the engine was told (`hub.toml`) stands beside what it said
/// (`hub.stderr`); `is_there` tells of that.
fn is_a_runs(name: &str, is_there: impl Fn(&str) -> bool) -> bool {
    const WHOLE: [&str; 9] = [
        "result.json",
        "report.html",
        "run.toml",
        "pump.json",
        "targets.json",
        "targets.md",
        "targets.txt",
        "grid.json",
        ENGINE_LOG,
    ];
    const BEGINNINGS: [(&str, &[&str]); 3] =
        [("timeline", &["csv"]), ("affected", &["csv"]), ("latency-", &["hgrm", "hlog"])];
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    WHOLE.contains(&name)
        || ending == STDERR
        || BEGINNINGS.iter().any(|(begins, ends)| stem.starts_with(begins) && ends.contains(&ending))
        || (ending == "toml" && is_there(&format!("{stem}.{STDERR}")))
}

/// What `folder` holds that is no run's, or belongs to one that is under way there.
fn strangers(folder: &Path) -> std::io::Result<Vec<String>> {
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<String>>>()?;
    names.sort_unstable();
    let is_there = |name: &str| names.binary_search_by(|other| other.as_str().cmp(name)).is_ok();
    Ok(names.iter().filter(|name| !is_a_runs(name, is_there)).cloned().collect())
}

/// Removes the files of an earlier run: figures of two runs in one folder would be taken for those of one. Its `run.toml` stays
/// until the new one takes its place: it may be what is run again.
fn forget(folder: &Path) -> std::io::Result<()> {
    let stays = |name: &str| name.starts_with(SCRATCH) || name == "run.toml";
    let names = std::fs::read_dir(folder)?.flatten().map(|entry| entry.file_name());
    let mut names: Vec<OsString> = names.filter(|name| !stays(&name.to_string_lossy())).collect();
    // What the engine was told first: without what it said beside it nobody knew it for a run's, should this end half-way.
    names.sort_by_key(|name| Path::new(name).extension().is_none_or(|ending| ending != "toml"));
    names.iter().try_for_each(|name| std::fs::remove_file(folder.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_gone_and_what_a_living_one_needs_stays() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let living = ResultFolder::make(Some(root.path()), "x").expect("made");
        for (name, file) in [(".running-dead", OWNER), (".running-unknown", "something"), ("running", OWNER)] {
            std::fs::create_dir(root.path().join(name)).expect("made");
            std::fs::write(root.path().join(name).join(file), b"").expect("written");
        }
        let refused = ResultFolder::make(Some(root.path()), "x").expect_err("a run is under way in it").to_string();
        assert!(refused.contains("holds .running-") && refused.contains("and 2 more, of a run that"), "{refused}");
        assert!(living.scratch().is_dir());
        let is_there = |name: &str| root.path().join(name).is_dir();
        assert_eq!([".running-dead", ".running-unknown", "running"].map(is_there), [false, true, true]);
    }

    #[test]
    fn a_folder_holds_the_files_of_one_run_and_nobody_elses_are_touched() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let files = || {
            let mut names: Vec<String> = std::fs::read_dir(root.path())
                .expect("kept")
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| !name.starts_with(SCRATCH))
                .collect();
            names.sort_unstable();
            names
        };
        let write = |name: &str| std::fs::write(root.path().join(name), b"old").expect("written");
        let earlier = [
            "result.json",
            "run.toml",
            "timeline-hub-killed.csv",
            "latency-response-latency.hlog",
            "hub.toml",
            "hub.stderr",
            "engine.log",
        ];
        earlier.into_iter().for_each(write);
        ResultFolder::make(Some(root.path()), "x").expect("an earlier run's");
        assert_eq!(files(), ["run.toml"], "it may be what is run again");
        for name in ["thesis.txt", "hub.toml"] {
            earlier[..4].iter().copied().for_each(write);
            write(name);
            let refused = ResultFolder::make(Some(root.path()), "x").expect_err("somebody's").to_string();
            assert!(refused.contains(&format!("holds {name}, which is no run's: name a new folder")), "{refused}");
            assert_eq!(files().len(), 5, "all of it is still there");
            std::fs::remove_file(root.path().join(name)).expect("ours");
        }
    }

    #[test]
    fn what_is_left_of_a_run_that_was_half_forgotten_is_known_for_a_runs() {
        let root = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(root.path().join("hub.toml"), "old").expect("written");
        // No file: it cannot be removed like one.
        std::fs::create_dir(root.path().join("hub.stderr")).expect("made");
        forget(root.path()).expect_err("it ends half-way");
        assert!(!root.path().join("hub.toml").exists());
    }

    #[test]
    fn what_a_run_needs_only_while_it_runs_is_gone_afterwards() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let wanted = root.path().join("a/b");
        std::fs::create_dir_all(&wanted).expect("made");
        for words in ["hub.stderr", "engine.log"] {
            std::fs::write(wanted.join(words), "of another run").expect("written");
        }
        let folder = ResultFolder::make(Some(&wanted), "x").expect("made");
        std::fs::write(folder.scratch().join("spool"), b"x").expect("scratch");
        folder.write("timeline.csv", b"a,b\n").expect("written");
        folder.write("timeline.csv", b"c\n").expect("written again");
        drop(folder);
        let left: Vec<_> = std::fs::read_dir(&wanted).expect("kept").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["timeline.csv"]);
        assert_eq!(std::fs::read(wanted.join("timeline.csv")).expect("kept"), b"c\n");
    }
}
