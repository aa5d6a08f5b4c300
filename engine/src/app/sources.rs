//! Where a configuration comes from: files, and the machine.

use super::cli::ServerFlags;
use crate::config::{self, Checked, File, Machine, Origin, Overrides, Problem, Weight};
use rustix::fs::OFlags;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// When a configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before anything runs: a pipe is waited for, as a shell's `<(...)` is one, and a signal ends the wait.
    First,
    /// While the server runs: nothing is waited for, and a pipe has been read already.
    Again,
}

/// A configuration file's octets, bounded.
///
/// # Errors
/// It cannot be read, or is neither a file nor a pipe.
pub(super) fn read_file(path: &Path, when: When) -> Result<Vec<u8>, Problem> {
    let refused = |wrong: String, right: &str| Problem {
        weight: Weight::Error,
        origin: Origin::File { name: path.display().to_string(), line: 1, column: 1 },
        key: String::new(),
        wrong,
        right: right.into(),
    };
    let unreadable =
        |error: std::io::Error| refused(format!("the file cannot be read: {error}"), "name a file that can be read");
    // Looked at before it is opened: to open a device is to do something with it.
    let kind = fs::metadata(path).map_err(unreadable)?.file_type();
    if kind.is_dir() {
        return Err(refused("this is a folder".into(), "name a file in it"));
    }
    if !kind.is_file() && !kind.is_fifo() {
        return Err(refused("this is a device or a socket".into(), "name a file, or a pipe"));
    }
    let mut options = fs::OpenOptions::new();
    options.read(true);
    if when == When::Again {
        // What was a file a moment ago may be a pipe now.
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path).map_err(unreadable)?;
    if when == When::Again && !file.metadata().map_err(unreadable)?.is_file() {
        return Err(refused("a pipe is read at the start alone".into(), "start with a file to reload it"));
    }
    let mut octets = Vec::new();
    file.take(config::FILE_BYTES_MAX as u64 + 1).read_to_end(&mut octets).map_err(unreadable)?;
    Ok(octets)
}

/// What this machine offers.
pub(super) fn machine() -> Machine {
    let cores = rustix::thread::sched_getaffinity(None)
        .map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect());
    Machine {
        hostname: fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()),
        cores: cores.unwrap_or_default(),
        folder: std::env::current_dir().unwrap_or_else(|_| "/".into()),
    }
}

/// Settings from a file and flags.
///
/// # Errors
/// One line: the first error, and how many more there are.
pub(super) fn settings(path: Option<&Path>, when: When, overrides: &Overrides) -> Result<Checked, String> {
    let octets = path.map(|path| read_file(path, when)).transpose().map_err(|problem| problem.to_string())?;
    let name = path.map(|path| path.display().to_string()).unwrap_or_default();
    let file = octets.as_deref().map(|octets| File { name: &name, octets });
    config::read(file, overrides, &machine()).map_err(|problems| first_of(&problems, path))
}

/// The first error in one line, and how many more there are.
fn first_of(problems: &[Problem], path: Option<&Path>) -> String {
    let mut errors = problems.iter().filter(|problem| problem.weight == Weight::Error);
    let first = errors.next().map(Problem::to_string).unwrap_or_default();
    match (errors.count(), path) {
        (0, _) => first,
        (more, Some(path)) => format!("{first} (and {more} more: ringpost check --config {})", path.display()),
        (more, None) => format!("{first} (and {more} more)"),
    }
}

/// The socket of the server that `command` asks.
///
/// # Errors
/// One line: nothing names it.
pub(super) fn admin_socket(command: &str, flags: &ServerFlags) -> Result<PathBuf, String> {
    if let Some(path) = &flags.admin {
        return Ok(path.clone());
    }
    if let Some(dir) = &flags.data_dir {
        return Ok(dir.join("admin.sock"));
    }
    let Some(path) = &flags.config else {
        return Err(format!("{command}: no server is named; say --admin UNIX-PATH, --config FILE or --data-dir DIR"));
    };
    let checked = settings(Some(path), When::First, &Overrides::default())?;
    checked.settings.server.admin.ok_or_else(|| {
        format!(
            "{}:1:1: server.admin: there is no admin socket; write admin = \"/run/ringpost/admin.sock\"",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};

    #[test]
    fn a_file_and_a_pipe_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file.toml");
        fs::write(&file, "[server]\n").unwrap();
        let pipe = folder.path().join("pipe");
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        for when in [When::First, When::Again] {
            assert_eq!(read_file(&file, when), Ok(b"[server]\n".to_vec()));
            for (path, told) in [
                (folder.path(), ":1:1: this is a folder; name a file in it"),
                (Path::new("/dev/zero"), "/dev/zero:1:1: this is a device or a socket; name a file, or a pipe"),
                (&folder.path().join("none"), ":1:1: the file cannot be read: No such file"),
            ] {
                let problem = read_file(path, when).unwrap_err().to_string();
                assert!(problem.contains(told), "{problem}");
            }
        }
        // Nobody writes to it, and nobody waits for that while the server runs.
        let problem = read_file(&pipe, When::Again).unwrap_err().to_string();
        assert!(
            problem.ends_with(":1:1: a pipe is read at the start alone; start with a file to reload it"),
            "{problem}"
        );
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::write(pipe, "[server]\n")
        });
        assert_eq!(read_file(&pipe, When::First), Ok(b"[server]\n".to_vec()));
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn a_pipe_without_an_end_is_left_at_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                use std::io::Write;
                let mut pipe = fs::OpenOptions::new().write(true).open(pipe).unwrap();
                let page = vec![b'\n'; 1 << 20];
                // Until nobody reads any more.
                while pipe.write_all(&page).is_ok() {}
            }
        });
        assert_eq!(read_file(&pipe, When::First).unwrap().len(), config::FILE_BYTES_MAX + 1);
        writer.join().unwrap();
    }
}
