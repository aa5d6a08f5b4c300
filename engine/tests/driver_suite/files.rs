//! Files and folders.

use crate::harness::*;
use engine::io::driver::{Driver, Entry, Open, Stable};
use engine::sys::slice::{BLOCK_BYTES, Pool, Slice};
use std::cell::Cell;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::rc::Rc;

crate::each!(files:
    what_is_written_is_read
    parts_are_written_one_behind_the_other_and_come_back
    a_read_is_short_at_the_end_and_keeps_what_stands_in_the_chunk
    open_says_what_is_wrong
    created_files_and_folders_are_private
    allocated_octets_exist_and_read_as_zero
    f_033_a_lock_excludes_others_until_the_file_is_closed
    direct_writes_ask_for_alignment_and_get_it
    folders_are_made_listed_and_left
    rename_replaces_across_folders
    s_008_names_never_leave_their_folder
    s_008_only_files_with_one_name_are_opened
    f_050_a_dropped_write_still_owns_its_slices
    many_operations_at_once_all_complete
    writes_are_counted_and_preparations_are_none
    f_053_a_write_to_a_file_opened_for_reading_is_an_error
);

/// A folder of the test's own, opened by the driver. It is removed at the end.
fn folder<D: Driver>(driver: &D) -> (tempfile::TempDir, PathBuf, D::Dir) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().to_owned();
    let root = driver.root(&path).expect("just made");
    (folder, path, root)
}

const PLAIN: Open = Open::Create { direct: false };

async fn write_all<D: Driver>(driver: &D, file: &D::File, parts: Vec<Slice>, at: u64, stable: Stable) {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let (written, _parts) = driver.write(file, parts, at, stable).await;
    assert_eq!(written.expect("written"), bytes);
}

async fn read<D: Driver>(driver: &D, file: &D::File, pool: &Pool, bytes: usize, at: u64) -> Vec<u8> {
    let mut into = fill(pool, bytes);
    loop {
        let before = into.filled();
        let (added, back) = driver.read(file, into, at + before as u64).await;
        into = back;
        assert_eq!(added.expect("readable"), into.filled() - before);
        if into.room() == 0 || into.filled() == before {
            return into.written().to_vec();
        }
    }
}

pub fn what_is_written_is_read<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        let pool = pool();
        let file = driver.open(&root, "f", PLAIN).await.expect("created");
        let content = numbered(300_000);
        write_all(&driver, &file, vec![slice(&pool, &content)], 0, Stable::No).await;
        write_all(&driver, &file, vec![slice(&pool, b"durable")], 1_000_000, Stable::Yes).await;
        driver.sync(&file).await.expect("synced");
        driver.sync_dir(&root).await.expect("synced");
        assert_eq!(driver.size(&file).expect("open"), 1_000_007);
        assert!(read(&driver, &file, &pool, 300_000, 0).await == content);
        let reopened = driver.open(&root, "f", Open::Read).await.expect("there");
        assert_eq!(read(&driver, &reopened, &pool, 7, 1_000_000).await, b"durable");
        let bytes = fs::read(path.join("f")).expect("readable");
        assert!(bytes[..300_000] == content && bytes[300_000..1_000_000].iter().all(|&octet| octet == 0));
        assert!(driver.free_bytes(&root).expect("open") > 0);
    });
}

pub fn parts_are_written_one_behind_the_other_and_come_back<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        let pool = pool();
        let file = driver.open(&root, "f", PLAIN).await.expect("created");
        let content = numbered(2000 * 24);
        // More parts than one system call takes: the rest is a short write, continued as F-021 says.
        let whole = slice(&pool, &content);
        let mut parts: Vec<Slice> = (0..2000).map(|index| whole.sub(index * 24..index * 24 + 24)).collect();
        let mut at = 0;
        while !parts.is_empty() {
            let asked = parts.len();
            let (written, mut back) = driver.write(&file, parts, at, Stable::No).await;
            let written = written.expect("written");
            assert!(back.len() == asked && written > 0 && written <= asked * 24);
            assert_eq!(*back[0], content[at as usize..at as usize + 24]);
            assert_eq!(written % 24, 0, "short inside a part of a regular file");
            back.drain(..written / 24);
            at += written as u64;
            parts = back;
        }
        assert!(fs::read(path.join("f")).expect("readable") == content);
    });
}

pub fn a_read_is_short_at_the_end_and_keeps_what_stands_in_the_chunk<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        fs::write(path.join("f"), b"0123456789").expect("written");
        let file = driver.open(&root, "f", Open::Read).await.expect("there");
        let pool = pool();
        let mut into = fill(&pool, 100);
        into.put(b"kept ");
        let (added, into) = driver.read(&file, into, 6).await;
        assert_eq!((added.expect("readable"), into.written()), (4, &b"kept 6789"[..]));
        let (added, into) = driver.read(&file, into, 10).await;
        assert_eq!((added.expect("the end"), into.filled()), (0, 9));
    });
}

pub fn open_says_what_is_wrong<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        fs::write(path.join("there"), b"x").expect("written");
        let kind = async |name: &str, how| driver.open(&root, name, how).await.err().map(|error| error.kind());
        assert_eq!(kind("missing", Open::Read).await, Some(ErrorKind::NotFound));
        assert_eq!(kind("missing", Open::Write { direct: false }).await, Some(ErrorKind::NotFound));
        assert_eq!(kind("there", PLAIN).await, Some(ErrorKind::AlreadyExists));
        assert_eq!(fs::read(path.join("there")).expect("untouched"), b"x");
        assert!(driver.dir(&root, "there").await.is_err());
        assert!(driver.root(&path.join("missing")).is_err());
        assert_eq!(driver.remove(&root, "missing").await.expect_err("missing").kind(), ErrorKind::NotFound);
    });
}

pub fn created_files_and_folders_are_private<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        driver.open(&root, "f", PLAIN).await.expect("created");
        driver.create_dir(&root, "d").await.expect("made");
        let mode = |name: &str| fs::metadata(path.join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("f"), mode("d")), (0o600, 0o700));
    });
}

pub fn allocated_octets_exist_and_read_as_zero<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        let pool = pool();
        const BYTES: u64 = (5 << 20) + 4096;
        for (name, direct) in [("buffered", false), ("direct", true)] {
            let Ok(file) = driver.open(&root, name, Open::Create { direct }).await else {
                crate::skip::skip_part("allocated_octets_exist_and_read_as_zero, direct", "no direct I/O here");
                continue;
            };
            driver.allocate(&file, BYTES).await.expect("space");
            assert_eq!(driver.size(&file).expect("open"), BYTES);
            let blocks = fs::metadata(path.join(name)).expect("there").blocks();
            assert!(blocks * 512 >= BYTES, "{blocks} sectors are fewer than was asked for");
            for at in (0..BYTES).step_by(1 << 20) {
                let bytes = read(&driver, &file, &pool, (BYTES - at).min(1 << 20) as usize, at).await;
                assert!(bytes.iter().all(|&octet| octet == 0));
            }
        }
    });
}

pub fn f_033_a_lock_excludes_others_until_the_file_is_closed<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        let file = driver.open(&root, "lock", PLAIN).await.expect("created");
        // Another open file stands for another process: the lock is flock's, whatever the driver, so that processes with
        // different drivers exclude each other.
        let other = fs::File::open(path.join("lock")).expect("there");
        other.try_lock().expect("free");
        assert!(!driver.lock(&file).expect("answered"));
        other.unlock().expect("held");
        assert!(driver.lock(&file).expect("answered"));
        let clone = file.clone();
        drop(file);
        assert!(other.try_lock().is_err());
        drop(clone);
        until(&driver, || other.try_lock().is_ok()).await;
    });
}

pub fn direct_writes_ask_for_alignment_and_get_it<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        let pool = pool();
        let plain = driver.open(&root, "plain", PLAIN).await.expect("created");
        let asks = driver.direct_io(&plain).expect("answered");
        if asks.offset_align == 0 {
            return crate::skip::skip("direct_writes_ask_for_alignment_and_get_it", "no direct I/O here");
        }
        assert!(asks.memory_align > 0 && asks.offset_align as usize <= BLOCK_BYTES, "{asks:?}");
        let file =
            driver.open(&root, "direct", Open::Create { direct: true }).await.expect("direct I/O is said to work");
        driver.allocate(&file, 64 << 10).await.expect("space");
        let content = numbered(8 * BLOCK_BYTES);
        let whole = slice(&pool, &content);
        let parts = vec![whole.sub(0..BLOCK_BYTES), whole.sub(BLOCK_BYTES..8 * BLOCK_BYTES)];
        write_all(&driver, &file, parts, BLOCK_BYTES as u64, Stable::Yes).await;
        assert!(read(&driver, &file, &pool, 8 * BLOCK_BYTES, BLOCK_BYTES as u64).await == content);
        let (written, _) = driver.write(&file, vec![whole.sub(0..100)], 0, Stable::Yes).await;
        assert_eq!(written.expect_err("unaligned").kind(), ErrorKind::InvalidInput);
        let bytes = fs::read(path.join("direct")).expect("readable");
        assert!(bytes[..BLOCK_BYTES].iter().all(|&octet| octet == 0) && bytes[BLOCK_BYTES..9 * BLOCK_BYTES] == content);
    });
}

pub fn folders_are_made_listed_and_left<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        assert!(driver.list(&root).await.expect("readable").is_empty());
        for name in ["tmp", "new", "cur"] {
            driver.create_dir(&root, name).await.expect("made");
        }
        assert_eq!(driver.create_dir(&root, "tmp").await.expect_err("there").kind(), ErrorKind::AlreadyExists);
        let tmp = driver.dir(&root, "tmp").await.expect("there");
        for index in [3, 1, 2] {
            driver.open(&tmp, &format!("m{index}"), PLAIN).await.expect("created");
        }
        fs::write(path.join("tmp").join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff")), b"")
            .expect("any name");
        let entry = |name: &str, is_dir| Entry { name: name.to_owned(), is_dir };
        let folders: Vec<_> = ["cur", "new", "tmp"].map(|name| entry(name, true)).into();
        assert_eq!(driver.list(&root).await.expect("readable"), folders);
        let files: Vec<_> = ["m1", "m2", "m3"].map(|name| entry(name, false)).into();
        assert_eq!(driver.list(&tmp).await.expect("readable"), files);
        driver.remove(&tmp, "m2").await.expect("removed");
        assert_eq!(driver.list(&tmp).await.expect("readable").len(), 2);
    });
}

pub fn rename_replaces_across_folders<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        for name in ["tmp", "new"] {
            driver.create_dir(&root, name).await.expect("made");
        }
        fs::write(path.join("tmp/m"), b"newer").expect("written");
        fs::write(path.join("new/m"), b"older").expect("written");
        let tmp = driver.dir(&root, "tmp").await.expect("there");
        let new = driver.dir(&root, "new").await.expect("there");
        driver.rename(&tmp, "m", &new, "m").await.expect("renamed");
        driver.sync_dir(&new).await.expect("synced");
        assert_eq!(fs::read(path.join("new/m")).expect("there"), b"newer");
        assert!(driver.list(&tmp).await.expect("readable").is_empty());
        assert_eq!(driver.rename(&tmp, "m", &new, "m").await.expect_err("gone").kind(), ErrorKind::NotFound);
    });
}

pub fn s_008_only_files_with_one_name_are_opened<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        let pool = pool();
        let owner_only = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path.join("pipe"), rustix::fs::FileType::Fifo, owner_only, 0)
            .expect("made");
        fs::write(path.join("victim"), b"theirs").expect("written");
        fs::hard_link(path.join("victim"), path.join("planted")).expect("linked");
        for planted in ["pipe", "planted"] {
            for how in [Open::Read, Open::Write { direct: false }] {
                // A pipe without a writer would be waited for.
                let opened = driver.open(&root, planted, how).await;
                assert_eq!(opened.err().map(|error| error.kind()), Some(ErrorKind::InvalidInput), "{planted}");
            }
            assert!(driver.open(&root, planted, PLAIN).await.is_err(), "{planted}");
        }
        assert_eq!(fs::read(path.join("victim")).expect("there"), b"theirs");
        // Once the other name is gone it is a file like any other, and reads wait for the disk.
        driver.remove(&root, "planted").await.expect("removed");
        let file = driver.open(&root, "victim", Open::Read).await.expect("a file");
        assert_eq!(read(&driver, &file, &pool, 6, 0).await, b"theirs");
    });
}

pub fn s_008_names_never_leave_their_folder<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        fs::create_dir_all(path.join("inside/deep")).expect("made");
        fs::write(path.join("secret"), b"secret").expect("written");
        fs::write(path.join("inside/own"), b"own").expect("written");
        symlink("../secret", path.join("inside/link")).expect("linked");
        symlink("own", path.join("inside/harmless")).expect("linked");
        symlink("..", path.join("inside/up")).expect("linked");
        symlink("deep", path.join("inside/sideways")).expect("linked");
        let inside = driver.dir(&root, "inside").await.expect("there");
        let absolute = path.join("secret");
        let absolute = absolute.to_str().expect("UTF-8");
        let escapes = ["../secret", "link", "harmless", "up/secret", "deep/../../secret", "/etc/passwd", absolute];
        for name in escapes {
            for how in [Open::Read, Open::Write { direct: false }, PLAIN] {
                assert!(driver.open(&inside, name, how).await.is_err(), "{name} was opened");
            }
            assert!(driver.remove(&inside, name).await.is_err() || matches!(name, "link" | "harmless"), "{name}");
        }
        for name in ["up", "sideways", "..", "../inside", "/etc"] {
            assert!(driver.dir(&inside, name).await.is_err(), "{name} was entered");
            assert!(driver.create_dir(&inside, &format!("{name}/new")).await.is_err(), "{name} was written to");
        }
        for to in ["../moved", "up/moved", "/tmp/moved", "", ".", ".."] {
            assert!(driver.rename(&inside, "own", &inside, to).await.is_err(), "moved to {to}");
        }
        assert_eq!(fs::read(path.join("secret")).expect("still there"), b"secret");
        assert_eq!(fs::read(path.join("inside/own")).expect("still there"), b"own");
    });
}

pub fn f_050_a_dropped_write_still_owns_its_slices<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        let file = driver.open(&root, "f", PLAIN).await.expect("created");
        let pool = pool();
        let content = numbered(1 << 20);
        for round in 0..10_u64 {
            let parts = vec![slice(&pool, &content)];
            let polled = poll_once(driver.write(&file, parts, round << 20, Stable::Yes));
            drop(polled);
            let _ = poll_once(driver.read(&file, fill(&pool, 1 << 20), 0));
            // What the kernel still reads from must not be leased again; scribble on what is.
            let mut scribble = fill(&pool, 1 << 20);
            scribble.spare().fill(0xee);
        }
        let budget = pool.budget().clone();
        until(&driver, || budget.leased_bytes() == 0).await;
        let bytes = fs::read(path.join("f")).expect("readable");
        for chunk in bytes.chunks(1 << 20) {
            assert!(*chunk == content[..chunk.len()] || chunk.iter().all(|&octet| octet == 0), "someone else's octets");
        }
    });
}

pub fn many_operations_at_once_all_complete<U: Under>() {
    U::run(async move |driver| {
        let (_folder, _path, root) = folder(&driver);
        let pool = pool();
        let file = driver.open(&root, "f", PLAIN).await.expect("created");
        let done = Rc::new(Cell::new(0));
        for index in 0..200_u64 {
            let (driver_too, file, pool, done) = (driver.clone(), file.clone(), pool.clone(), done.clone());
            driver.spawn(async move {
                let content = [index as u8; 1000];
                let stable = if index % 3 == 0 { Stable::Yes } else { Stable::No };
                write_all(&driver_too, &file, vec![slice(&pool, &content)], index * 1000, stable).await;
                assert_eq!(read(&driver_too, &file, &pool, 1000, index * 1000).await, content);
                done.set(done.get() + 1);
            });
        }
        until(&driver, || done.get() == 200).await;
        assert_eq!(driver.size(&file).expect("open"), 200_000);
    });
}

pub fn writes_are_counted_and_preparations_are_none<U: Under>() {
    U::run(async move |driver| {
        let (_folder, _path, root) = folder(&driver);
        let pool = pool();
        let file = driver.open(&root, "f", PLAIN).await.expect("created");
        let before = driver.counts();
        driver.allocate(&file, 3 << 20).await.expect("there is room");
        write_all(&driver, &file, vec![slice(&pool, b"12345")], 0, Stable::No).await;
        write_all(&driver, &file, vec![slice(&pool, b"6789")], 5, Stable::Yes).await;
        let after = driver.counts();
        assert_eq!((after.writes - before.writes, after.stable_writes - before.stable_writes), (2, 1));
        assert_eq!(after.written_bytes - before.written_bytes, 9);
    });
}

pub fn f_053_a_write_to_a_file_opened_for_reading_is_an_error<U: Under>() {
    U::run(async move |driver| {
        let (_folder, path, root) = folder(&driver);
        let pool = pool();
        fs::write(path.join("f"), b"kept").expect("written");
        let file = driver.open(&root, "f", Open::Read).await.expect("there");
        let (written, parts) = driver.write(&file, vec![slice(&pool, b"lost")], 0, Stable::No).await;
        assert!(written.is_err());
        assert_eq!(&*parts[0], b"lost");
        assert_eq!(fs::read(path.join("f")).expect("there"), b"kept");
    });
}
