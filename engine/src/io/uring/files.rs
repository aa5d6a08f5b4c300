//! Files and folders on the ring.

use super::reactor::{Outcome, Reactor, clock};
use super::timers::sleep_until;
use crate::io::base::errno::{Op, retried};
use crate::io::base::files as calls;
use crate::io::driver::{Open, Stable};
use crate::sys::ring::Returned;
use crate::sys::slice::{Budget, Fill, Pool, Slice};
use crate::wire::Span;
use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

/// An open file.
#[derive(Clone)]
pub struct UringFile(pub(super) Rc<OwnedFd>);

/// An open folder.
#[derive(Clone)]
pub struct UringDir(pub(super) Rc<OwnedFd>);

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Octets of one step of zeroing: not much longer under way than a commit is.
const ZERO_BYTES: usize = 1 << 20;
/// The longest rest behind a step: where a sync takes long, a segment would not be ready in time.
const REST_MAX: Span = Span::millis(1);

fn name(name: &str) -> io::Result<CString> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file name is one component"));
    }
    CString::new(name).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a file name holds no NUL"))
}

pub(super) fn root(path: &Path) -> io::Result<UringDir> {
    Ok(UringDir(Rc::new(calls::root(path)?)))
}

pub(super) async fn dir(reactor: &Rc<Reactor>, at: &UringDir, called: &str) -> io::Result<UringDir> {
    let called = name(called)?;
    let open = async || {
        let called = called.clone();
        reactor.open_once(|ring, user| ring.open(user, &at.0, called, libc::O_DIRECTORY, 0)).await
    };
    let fd = retried(Op::File, open).await?;
    Ok(UringDir(Rc::new(fd)))
}

pub(super) async fn create_dir(reactor: &Rc<Reactor>, at: &UringDir, called: &str) -> io::Result<()> {
    let called = name(called)?;
    reactor.once(|ring, user| ring.make_dir(user, &at.0, called, DIR_MODE)).await.unit()
}

pub(super) async fn open(reactor: &Rc<Reactor>, at: &UringDir, called: &str, how: Open) -> io::Result<UringFile> {
    let called = name(called)?;
    let direct = |direct: bool| if direct { libc::O_DIRECT } else { 0 };
    let (flags, mode) = match how {
        Open::Read => (libc::O_RDONLY, 0),
        Open::Write { direct: on } => (libc::O_RDWR | direct(on), 0),
        Open::Create { direct: on } => (libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | direct(on), FILE_MODE),
    };
    let open = async || {
        let (called, flags) = (called.clone(), flags | libc::O_NONBLOCK | libc::O_NOCTTY);
        reactor.open_once(|ring, user| ring.open(user, &at.0, called, flags, mode)).await
    };
    let fd = calls::ours(retried(Op::File, open).await?, flags & libc::O_DIRECT != 0)?;
    Ok(UringFile(Rc::new(fd)))
}

/// Reserved blocks alone read as zero but still change their state when they are first written, which a durable write then
/// has to record: so real zeros are written, once (measured: 265 against 152 µs a sync).
///
/// Somebody may wait for a durable write meanwhile, and a device takes writes in turn and flushes all that it holds: so the
/// zeros go in steps that are durable themselves, and a step beside which a commit was under way is followed by a short
/// rest.
pub(super) async fn allocate(reactor: &Rc<Reactor>, file: &UringFile, bytes: u64) -> io::Result<()> {
    reserve(reactor, file, bytes).await?;
    zero(reactor, file, bytes).await?;
    sync(reactor, &file.0).await
}

/// Reserves the space, so that there is none before anything is written. Not every file system does; zeros extend the file
/// too.
async fn reserve(reactor: &Rc<Reactor>, file: &UringFile, bytes: u64) -> io::Result<()> {
    let allocate = async || reactor.once(|ring, user| ring.allocate(user, &file.0, bytes)).await.unit();
    match retried(Op::File, allocate).await {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(()),
        reserved => reserved,
    }
}

/// Writes zeros; behind how many of its steps it rested.
async fn zero(reactor: &Rc<Reactor>, file: &UringFile, bytes: u64) -> io::Result<u64> {
    let mut zeros = Pool::new(Budget::new(ZERO_BYTES)).fill(ZERO_BYTES).expect("a pool of one chunk");
    zeros.spare().fill(0);
    zeros.advance(zeros.room());
    let zeros = zeros.take();
    let (mut at, mut rests) = (0, 0);
    while at < bytes {
        let now = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(ZERO_BYTES);
        let (began, ended) = (clock(), reactor.commits.ended());
        let (written, _) = write_parts(reactor, file, vec![zeros.sub(0..now)], at, Stable::Yes).await;
        match written? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => at += written as u64,
        }
        if reactor.commits.any_since(ended) {
            rests += 1;
            sleep_until(reactor.clone(), clock() + clock().since(began).min(REST_MAX)).await;
        }
    }
    Ok(rests)
}

/// Durable writes that somebody waits for. Zeros for a new segment are none.
#[derive(Debug, Default)]
pub(super) struct Commits {
    under_way: Cell<u32>,
    ended: Cell<u64>,
}

/// One of them, from its beginning until this is dropped.
struct Commit<'a>(&'a Commits);

impl Commits {
    fn begin(&self) -> Commit<'_> {
        self.under_way.set(self.under_way.get() + 1);
        Commit(self)
    }

    /// How many have ended.
    fn ended(&self) -> u64 {
        self.ended.get()
    }

    /// Whether any was under way at any time since so many had ended.
    fn any_since(&self, ended: u64) -> bool {
        self.under_way.get() > 0 || self.ended.get() != ended
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.ended.set(self.0.ended.get() + 1);
    }
}

pub(super) async fn write(
    reactor: &Rc<Reactor>,
    file: &UringFile,
    parts: Vec<Slice>,
    at: u64,
    stable: Stable,
) -> (io::Result<usize>, Vec<Slice>) {
    let commit = (stable == Stable::Yes).then(|| reactor.commits.begin());
    let (written, parts) = write_parts(reactor, file, parts, at, stable).await;
    drop(commit);
    if let Ok(bytes) = written {
        reactor.count(|counts| {
            counts.writes += 1;
            counts.stable_writes += u64::from(stable == Stable::Yes);
            counts.written_bytes += bytes as u64;
        });
    }
    (written, parts)
}

async fn write_parts(
    reactor: &Rc<Reactor>,
    file: &UringFile,
    mut parts: Vec<Slice>,
    at: u64,
    stable: Stable,
) -> (io::Result<usize>, Vec<Slice>) {
    let written = retried(Op::File, async || {
        let given = std::mem::take(&mut parts);
        let outcome = reactor.once(|ring, user| ring.write(user, &file.0, given, at, stable == Stable::Yes)).await;
        let written = outcome.count();
        if let Returned::Parts(back) = outcome.returned {
            parts = back;
        }
        written
    })
    .await;
    (written, parts)
}

pub(super) async fn read(reactor: &Rc<Reactor>, file: &UringFile, into: Fill, at: u64) -> (io::Result<usize>, Fill) {
    let mut into = Some(into);
    let count = retried(Op::File, async || {
        let fill = into.take().expect("a read gives its chunk back");
        let outcome = reactor.once(|ring, user| ring.read(user, &file.0, fill, at)).await;
        let count = outcome.count();
        let Returned::Fill(fill) = outcome.returned else { unreachable!("a read returns its chunk") };
        into = Some(fill);
        count
    })
    .await;
    let mut fill = into.expect("a read gives its chunk back");
    if let Ok(bytes) = count {
        fill.advance(bytes);
    }
    (count, fill)
}

pub(super) async fn sync(reactor: &Rc<Reactor>, file: &Rc<OwnedFd>) -> io::Result<()> {
    retried(Op::Sync, async || reactor.once(|ring, user| ring.sync(user, file)).await.unit()).await
}

pub(super) async fn rename(
    reactor: &Rc<Reactor>,
    at: &UringDir,
    from: &str,
    into: &UringDir,
    to: &str,
) -> io::Result<()> {
    let (from, to) = (name(from)?, name(to)?);
    reactor.once(|ring, user| ring.rename(user, (&at.0, from), (&into.0, to))).await.unit()
}

pub(super) async fn remove(reactor: &Rc<Reactor>, at: &UringDir, called: &str) -> io::Result<()> {
    let called = name(called)?;
    reactor.once(|ring, user| ring.remove(user, &at.0, called)).await.unit()
}

impl Outcome {
    fn unit(self) -> io::Result<()> {
        self.count().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::uring::{Setup, run};

    const STEPS: u64 = 4;
    const BYTES: u64 = STEPS * ZERO_BYTES as u64;

    /// Runs `test` on a reactor, with so many new files.
    fn with_files<const N: usize>(test: impl AsyncFnOnce(Rc<Reactor>, [UringFile; N]) + 'static) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_owned();
        let on_files = async move |reactor: Rc<Reactor>| {
            let root = root(&path).expect("just made");
            let mut files = Vec::new();
            for index in 0..N {
                let how = Open::Create { direct: false };
                files.push(open(&reactor, &root, &format!("{index}"), how).await.expect("made"));
            }
            test(reactor, files.try_into().ok().expect("so many")).await;
        };
        run(Setup::default(), |driver| on_files(driver.0)).expect("runs");
    }

    #[test]
    fn the_preparation_of_a_file_rests_behind_each_step_that_kept_a_commit_waiting() {
        with_files(async |reactor, [file]| {
            assert_eq!(zero(&reactor, &file, BYTES).await.expect("written"), 0, "nobody commits");
            let commit = reactor.commits.begin();
            assert_eq!(zero(&reactor, &file, BYTES).await.expect("written"), STEPS, "one is under way all the time");
            drop(commit);
            assert_eq!(zero(&reactor, &file, BYTES).await.expect("written"), 0, "it has ended");
        });
    }

    #[test]
    fn a_file_system_that_reserves_nothing_is_no_reason_to_have_no_file() {
        with_files(async |reactor, []| {
            let name = std::fs::OpenOptions::new().read(true).write(true).open("/proc/self/comm").expect("our name");
            let file = UringFile(Rc::new(name.into()));
            let asked = rustix::fs::fallocate(&*file.0, rustix::fs::FallocateFlags::empty(), 0, BYTES);
            assert_eq!(asked, Err(rustix::io::Errno::OPNOTSUPP), "of a file of the kernel's own");
            reserve(&reactor, &file, BYTES).await.expect("the zeros do it");
        });
    }

    #[test]
    fn preparations_beside_each_other_are_no_commits() {
        with_files(async |reactor, [one, another]| {
            let beside = Rc::new(Cell::new(None));
            let (theirs, on) = (beside.clone(), reactor.clone());
            reactor.spawn(async move { theirs.set(Some(zero(&on, &another, BYTES).await.expect("written"))) });
            assert_eq!(zero(&reactor, &one, BYTES).await.expect("written"), 0);
            while beside.get().is_none() {
                crate::sys::exec::yield_now().await;
            }
            assert_eq!(beside.get(), Some(0));
        });
    }

    #[test]
    fn a_commit_that_ended_between_two_looks_is_seen() {
        let commits = Commits::default();
        assert!(!commits.any_since(commits.ended()));
        let commit = commits.begin();
        let looked = commits.ended();
        assert!(commits.any_since(looked), "it is under way");
        drop(commit);
        assert!(commits.any_since(looked), "it has ended since");
        assert!(!commits.any_since(commits.ended()), "and is of no concern any more");
    }
}
