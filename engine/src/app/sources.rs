//! Where a configuration comes from: files, and the machine.

use super::cli::StatusFlags;
use crate::config::{self, Checked, File, Machine, Origin, Overrides, Problem, Weight};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A configuration file's octets, bounded.
///
/// # Errors
/// It cannot be read.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| Problem {
        weight: Weight::Error,
        origin: Origin::File { name: path.display().to_string(), line: 1, column: 1 },
        key: String::new(),
        wrong: format!("the file cannot be read: {error}"),
        right: "name a file that can be read".into(),
    };
    let file = fs::File::open(path).map_err(unreadable)?;
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
pub(super) fn settings(path: Option<&Path>, overrides: &Overrides) -> Result<Checked, String> {
    let octets = path.map(read_file).transpose().map_err(|problem| problem.to_string())?;
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

/// The socket of the server that `ringpost status` asks.
///
/// # Errors
/// One line: nothing names it.
pub(super) fn admin_socket(flags: &StatusFlags) -> Result<PathBuf, String> {
    if let Some(path) = &flags.admin {
        return Ok(path.clone());
    }
    if let Some(dir) = &flags.data_dir {
        return Ok(dir.join("admin.sock"));
    }
    let Some(path) = &flags.config else {
        return Err("status: no server is named; say --admin UNIX-PATH, --config FILE or --data-dir DIR".into());
    };
    let checked = settings(Some(path), &Overrides::default())?;
    checked.settings.server.admin.ok_or_else(|| {
        format!(
            "{}:1:1: server.admin: there is no admin socket; write admin = \"/run/ringpost/admin.sock\"",
            path.display()
        )
    })
}
