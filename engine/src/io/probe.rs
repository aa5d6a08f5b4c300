//! What this machine allows: asked once at start, logged as one line, and decisive where the driver is `auto`.
//!
//! Every answer is a trial, not a version number: containers refuse by seccomp what their kernel could do, and
//! distributions port features back.

use super::choice::DriverChoice;
use crate::io::base::files;
use crate::io::driver::DirectIo;
use crate::sys::ring::{Returned, Ring, Setup};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::ReadWriteFlags;
use rustix::process::Resource;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How long the kernel may take to hand over an octet that is there already.
const TRIAL_WAIT_NS: u64 = 1_000_000_000;

/// What this machine allows.
#[derive(Debug)]
pub struct Probe {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The set-up flags that io_uring takes, or why it is refused.
    pub io_uring: io::Result<&'static str>,
    /// Whether our own reactor runs: buffer rings (5.19) and multishot receive (6.0), by trial.
    pub reactor: io::Result<()>,
    /// Whether names can be resolved beneath a folder by the kernel (openat2, 5.6).
    pub openat2: bool,
    /// Locked memory allowed, in octets; `None` without a limit.
    pub memlock_bytes: Option<u64>,
    /// What the spool's folder can do, if it was asked.
    pub storage: Option<io::Result<Storage>>,
}

/// What a folder's file system and device allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// Durable writes (RWF_DSYNC) without a sync of their own.
    pub durable_writes: bool,
    /// What direct I/O asks for; zeros when it is refused.
    pub direct_io: DirectIo,
}

impl Probe {
    /// Tries everything; `folder` is where the spool is to be. Leaves nothing behind.
    pub fn new(folder: Option<&Path>) -> Self {
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            io_uring: set_up_flags(),
            reactor: reactor(),
            openat2: openat2(),
            memlock_bytes: rustix::process::getrlimit(Resource::Memlock).current,
            storage: folder.map(Storage::of),
        }
    }

    /// The driver that `auto` stands for here.
    pub fn best(&self) -> DriverChoice {
        if self.reactor.is_ok() { DriverChoice::Uring } else { DriverChoice::Epoll }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}, io_uring ", self.kernel)?;
        match &self.io_uring {
            Ok(flags) => write!(f, "{flags}")?,
            Err(error) => write!(f, "refused ({error})")?,
        }
        match &self.reactor {
            Ok(()) => write!(f, ", buffer rings and multishot yes")?,
            Err(_) if self.io_uring.is_err() => {}
            Err(error) => write!(f, ", buffer rings and multishot no ({error})")?,
        }
        write!(f, ", openat2 {}, memlock ", yes(self.openat2))?;
        match self.memlock_bytes {
            Some(bytes) => write!(f, "{} KiB", bytes >> 10)?,
            None => write!(f, "unlimited")?,
        }
        match &self.storage {
            Some(Ok(storage)) => write!(f, ", {storage}"),
            Some(Err(error)) => write!(f, ", spool folder unusable ({error})"),
            None => Ok(()),
        }
    }
}

fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "durable writes {}, direct I/O ", yes(self.durable_writes))?;
        match self.direct_io {
            DirectIo { offset_align: 0, .. } => write!(f, "no"),
            DirectIo { memory_align, offset_align } => write!(f, "{memory_align}/{offset_align}"),
        }
    }
}

impl Storage {
    /// Tries a file of its own in `folder`, which has no name or loses it at once.
    ///
    /// # Errors
    /// When no file can be made there.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let file = nameless(folder)?;
        let durable = rustix::io::pwritev2(&file, &[IoSlice::new(b"x")], 0, ReadWriteFlags::DSYNC).is_ok();
        Ok(Self { durable_writes: durable, direct_io: files::direct_io(file.as_fd())? })
    }
}

fn nameless(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(folder, flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok(file),
        // Not every file system makes files without a name.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let root = files::root(folder)?;
            let name = format!(".probe-{}", std::process::id());
            let file = rustix::fs::openat(&root, &name, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
            files::remove(root.as_fd(), &name)?;
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}

/// The set-up flags that io_uring takes, whatever else is missing.
fn set_up_flags() -> io::Result<&'static str> {
    match Ring::new(trial()) {
        Ok(ring) => Ok(ring.flags()),
        Err(_) => io_uring::IoUring::new(4).map(|_| "plain"),
    }
}

fn trial() -> Setup {
    Setup { buffer_bytes: 4096, buffers: 1, ..Setup::default() }
}

/// Whether our own reactor runs here, tried by receiving an octet as it would.
///
/// # Errors
/// What the kernel said: EPERM where it is refused, ENOSYS or EINVAL where it is missing something.
pub fn reactor() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let mut ring = Ring::new(trial())?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::write(&theirs, b"x")?;
    ring.receive_many(0, ours.as_fd());
    ring.turn(TRIAL_WAIT_NS)?;
    let done = ring.reap().ok_or(io::ErrorKind::TimedOut)?;
    match done.returned {
        Returned::Lease(lease) if *lease == *b"x" => Ok(()),
        _ if done.result < 0 => Err(io::Error::from_raw_os_error(-done.result)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn openat2() -> bool {
    rustix::fs::openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::driver::Driver;
    use crate::io::launch::{Launch, LaunchError, Program, launch};
    use crate::sys::refuse::refuse_io_uring;
    use std::process::Command;
    use std::sync::mpsc::{Sender, channel};

    /// Says to a child process that it is to refuse io_uring to itself.
    const CHILD: &str = "RINGPOST_PROBE_CHILD";

    /// Sends the name of the driver that it runs on, once that has slept and written.
    #[derive(Clone)]
    struct Names(Sender<&'static str>);

    impl Program for Names {
        async fn run<D: Driver>(self, driver: D, _shard: usize) {
            driver.yield_now().await;
            self.0.send(D::NAME).expect("awaited");
        }
    }

    fn driver_of(choice: DriverChoice) -> Result<(&'static str, Option<String>), LaunchError> {
        let (names, name) = channel();
        let running = launch(&Launch { driver: choice, cores: vec![None] }, Names(names))?;
        let (named, passed_over) = (running.driver, running.passed_over.clone());
        running.join().expect("it ran");
        assert_eq!(name.recv().expect("sent"), named);
        Ok((named, passed_over))
    }

    #[test]
    fn what_is_said_is_one_line_and_agrees_with_what_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let probe = Probe::new(Some(folder.path()));
        let line = probe.to_string();
        assert!(line.starts_with("kernel ") && !line.contains('\n'), "{line}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0, "something was left behind");
        assert!(matches!(probe.storage, Some(Ok(_))), "{line}");
        let (driver, passed_over) = driver_of(DriverChoice::Auto).expect("one of them runs");
        assert_eq!(driver, probe.best().to_string());
        assert_eq!(passed_over.is_some(), probe.reactor.is_err());
        let missing = Probe::new(Some(Path::new("/nowhere/at/all"))).to_string();
        assert!(missing.contains("spool folder unusable"), "{missing}");
    }

    #[test]
    fn f_045_s_004_where_io_uring_is_refused_epoll_serves() {
        const NAME: &str = "io::probe::tests::f_045_s_004_where_io_uring_is_refused_epoll_serves";
        if std::env::var_os(CHILD).is_some() {
            return in_the_refused_process();
        }
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args([NAME, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("started");
        let out = String::from_utf8_lossy(&child.stdout);
        let err = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", child.status);
    }

    fn in_the_refused_process() {
        refuse_io_uring().expect("filters are allowed");
        let probe = Probe::new(None);
        let eperm = Some(libc::EPERM);
        assert_eq!(probe.io_uring.as_ref().expect_err("refused").raw_os_error(), eperm);
        assert_eq!(probe.reactor.as_ref().expect_err("refused").raw_os_error(), eperm);
        assert_eq!(probe.best(), DriverChoice::Epoll);
        assert!(probe.to_string().contains("io_uring refused (Operation not permitted"), "{probe}");
        let (driver, passed_over) = driver_of(DriverChoice::Auto).expect("epoll runs");
        assert_eq!(driver, "epoll");
        assert!(passed_over.expect("said").contains("Operation not permitted"));
        for choice in [DriverChoice::Uring, DriverChoice::TokioUring] {
            let refused = driver_of(choice).expect_err("named and refused: exit 2");
            let LaunchError::Refused { driver, error } = refused else { panic!("{refused}") };
            assert_eq!((driver, error.raw_os_error()), (choice, eperm));
        }
    }
}
