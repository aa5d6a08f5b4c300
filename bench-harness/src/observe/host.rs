//! The host a run was made on, described for `result.json`: figures are never compared across hosts (perf/METHODOLOGY.md).

use crate::stats::percentile;
use loadgen::report::schema::{Host, SyncTimes};
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Blocks that are written and synced in turn.
const BLOCKS: u64 = 200;
/// For how long.
const SYNC_TIME: Duration = Duration::from_millis(400);
const BLOCK_BYTES: usize = 4096;
/// Octets of the file that a load of writes goes round in.
const LOAD_FILE_BYTES: usize = 64 << 20;

/// Describes this machine; `folder` is where the spools will stand. Takes up to half a second.
pub fn here(folder: &Path) -> Host {
    Host {
        cores: crate::process::placement::available().len(),
        fs: file_system(folder),
        disk_sync_us: sync_times(folder, SYNC_TIME).unwrap_or_default(),
        ..Host::here()
    }
}

fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mount_of(&mounts, &folder)
}

/// The type of the mount that holds `folder`: the longest mount point that it lies below, the last one where they nest.
fn mount_of(mounts: &str, folder: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else { continue };
        let point = point.replace("\\040", " ");
        if folder.starts_with(&point) && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// What a synced write of 4 KiB into an existing file in `folder` takes, seen for `length`.
///
/// # Errors
/// The system's.
pub fn sync_times(folder: &Path, length: Duration) -> io::Result<SyncTimes> {
    let file: File = tempfile::tempfile_in(folder)?;
    let block = [0x5a; BLOCK_BYTES];
    for index in 0..BLOCKS {
        file.write_all_at(&block, index * BLOCK_BYTES as u64)?;
    }
    file.sync_all()?;
    let began = Instant::now();
    let mut taken = Vec::new();
    for index in (0..BLOCKS).cycle() {
        let start = Instant::now();
        file.write_all_at(&block, index * BLOCK_BYTES as u64)?;
        file.sync_data()?;
        taken.push(start.elapsed().as_nanos() as f64 / 1000.0);
        if began.elapsed() > length {
            break;
        }
    }
    taken.sort_unstable_by(f64::total_cmp);
    Ok(SyncTimes { p50: percentile(&taken, 50.0), p99: percentile(&taken, 99.0) })
}

/// What durable writes of `bytes` octets take that are due `per_s` times a second, one under way at a time, seen for
/// `length`, each from the moment it was due: what a disk alone makes of a load of that size.
///
/// # Errors
/// The system's; `InvalidInput` for a load of nothing.
pub fn write_times(folder: &Path, bytes: usize, per_s: f64, length: Duration) -> io::Result<SyncTimes> {
    let bytes = bytes.next_multiple_of(BLOCK_BYTES);
    if bytes == 0 || bytes > LOAD_FILE_BYTES || per_s.is_nan() || per_s <= 0.0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let name = tempfile::NamedTempFile::new_in(folder)?;
    // A hub's writes may be larger than any chunk of a pool; direct I/O wants them aligned.
    let memory = vec![0x5a; bytes + BLOCK_BYTES];
    let block = &memory[memory.as_ptr().align_offset(BLOCK_BYTES)..][..bytes];
    let open = |flags: OFlags| File::options().write(true).custom_flags(flags.bits() as i32).open(name.path());
    let file = open(OFlags::DIRECT | OFlags::DSYNC).or_else(|_| open(OFlags::DSYNC))?;
    let places = (LOAD_FILE_BYTES / bytes) as u64;
    for place in 0..places {
        file.write_all_at(block, place * bytes as u64)?;
    }
    let (began, mut taken) = (Instant::now(), Vec::new());
    for index in 0.. {
        let due = Duration::from_secs_f64(index as f64 / per_s);
        if due >= length {
            break;
        }
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        file.write_all_at(block, index % places * bytes as u64)?;
        taken.push(began.elapsed().saturating_sub(due).as_nanos() as f64 / 1000.0);
    }
    taken.sort_unstable_by(f64::total_cmp);
    Ok(SyncTimes { p50: percentile(&taken, 50.0), p99: percentile(&taken, 99.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/b /srv/my\\040mail xfs rw 0 0\n";
        for (folder, kind) in [("/var/x", "ext4"), ("/run/x", "tmpfs"), ("/runx", "ext4"), ("/srv/my mail/q", "xfs")] {
            assert_eq!(mount_of(mounts, Path::new(folder)).as_deref(), Some(kind), "{folder}");
        }
        assert_eq!(mount_of("", Path::new("/x")), None);
    }

    #[test]
    fn this_host_can_be_described() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let host = here(folder.path());
        assert!(host.cores >= 1 && !host.kernel.is_empty());
        let (p50, p99) = (host.disk_sync_us.p50.expect("measured"), host.disk_sync_us.p99.expect("measured"));
        assert!(0.0 < p50 && p50 <= p99);
    }

    #[test]
    fn writes_count_from_when_they_were_due() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder on a disk");
        let length = Duration::from_millis(100);
        assert!(
            write_times(folder.path(), 0, 1.0, length).is_err() && write_times(folder.path(), 1, 0.0, length).is_err()
        );
        // More than any disk can do: none is left out, and the last of them waited for the others.
        let late = write_times(folder.path(), 1 << 20, 1e5, Duration::from_millis(1)).expect("a disk");
        assert!(late.p50.expect("measured") < late.p99.expect("measured"), "{late:?}");
        // As large as a hub's with many large messages under way.
        let large = write_times(folder.path(), (2 << 20) + 1, 1e3, Duration::from_millis(1)).expect("a disk");
        assert!(large.p50.is_some(), "{large:?}");
    }
}
