//! Starting shards: one pinned thread each, on the driver that was chosen or that the machine allows.

use super::choice::DriverChoice;
use super::driver::Driver;
use super::epoll;
use super::probe;
use super::tokio_uring;
use super::uring;
use std::future::Future;
use std::io;
use std::thread::JoinHandle;

/// What to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The driver asked for.
    pub driver: DriverChoice,
    /// One shard per element, pinned to that processor where there is one.
    pub cores: Vec<Option<usize>>,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The driver that was named is refused by the machine: a usage error (exit 2).
    #[error("the driver {driver} is not to be had here: {error}; name another by --driver, or auto")]
    Refused {
        /// Which.
        driver: DriverChoice,
        /// What the system said.
        error: io::Error,
    },
    /// The system has no thread for us.
    #[error("cannot start a shard's thread: {0}")]
    Thread(io::Error),
}

/// What every shard runs, whatever the driver.
pub trait Program: Clone + Send + 'static {
    /// Runs shard number `shard`; the shard stops when the future ends.
    fn run<D: Driver>(self, driver: D, shard: usize) -> impl Future<Output = ()> + 'static;
}

/// Started shards.
#[derive(Debug)]
pub struct Running {
    /// The driver in use, as results name it.
    pub driver: &'static str,
    /// Why a better driver was passed over, if one was.
    pub passed_over: Option<String>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Waits for every shard.
    ///
    /// # Errors
    /// The first shard's failure.
    pub fn join(self) -> io::Result<()> {
        let mut first = Ok(());
        for thread in self.threads {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard's thread panicked")));
            first = first.and(ended);
        }
        first
    }
}

/// Starts `program` on every shard.
///
/// # Errors
/// When the driver that was named is refused, or a thread cannot be had.
pub fn launch<P: Program>(launch: &Launch, program: P) -> Result<Running, LaunchError> {
    let choice = choose(launch.driver)?;
    let mut running = Running { driver: "", passed_over: choice.1, threads: Vec::with_capacity(launch.cores.len()) };
    for (shard, core) in launch.cores.iter().copied().enumerate() {
        let program = program.clone();
        let (name, body) = body(choice.0, program, shard);
        running.driver = name;
        let thread = std::thread::Builder::new().name(format!("shard-{shard}")).spawn(move || {
            if let Some(core) = core {
                pin(core);
            }
            body()
        });
        running.threads.push(thread.map_err(LaunchError::Thread)?);
    }
    Ok(running)
}

type Body = Box<dyn FnOnce() -> io::Result<()> + Send>;

fn body<P: Program>(driver: DriverChoice, program: P, shard: usize) -> (&'static str, Body) {
    match driver {
        DriverChoice::Auto | DriverChoice::Uring => {
            let body = move || uring::run(uring::Setup::default(), move |driver| program.run(driver, shard));
            (uring::Uring::NAME, Box::new(body))
        }
        DriverChoice::Epoll => {
            let body = move || epoll::run(&epoll::Options::default(), move |driver| program.run(driver, shard));
            (epoll::Epoll::NAME, Box::new(body))
        }
        DriverChoice::TokioUring => {
            let body = move || tokio_uring::run(move |driver| program.run(driver, shard));
            (tokio_uring::TokioUring::NAME, Box::new(body))
        }
    }
}

/// The driver to take for `driver`, and why a better one was passed over.
///
/// # Errors
/// [`LaunchError::Refused`]: it was named, and the machine does not allow it.
pub fn choose(driver: DriverChoice) -> Result<(DriverChoice, Option<String>), LaunchError> {
    Ok(match driver {
        DriverChoice::Auto => match probe::reactor() {
            Ok(()) => (DriverChoice::Uring, None),
            Err(error) => (DriverChoice::Epoll, Some(format!("io_uring is refused: {error}"))),
        },
        DriverChoice::Uring => (named(driver, probe::reactor())?, None),
        DriverChoice::TokioUring => (named(driver, tokio_uring::probe())?, None),
        DriverChoice::Epoll => (driver, None),
    })
}

/// The driver that was named, if the machine allows it.
fn named(driver: DriverChoice, allowed: io::Result<()>) -> Result<DriverChoice, LaunchError> {
    allowed.map(|()| driver).map_err(|error| LaunchError::Refused { driver, error })
}

/// Keeps this thread on processor `core`; where the system refuses, it stays free.
pub fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Lets others have this thread's processor first: a tenth of what they get, as long as they want it. Threads made later by
/// this one are like it.
pub fn give_way() {
    use crate::sys::process::{Turns, ask_for};
    let _as_it_was = ask_for(Turns::Few);
}

/// Lets this thread have its processor as soon as it wakes, for what must be punctual beside others on one core: before
/// all ordinary threads where the system permits it, else in turns of a tenth of a millisecond, else as it was. Threads
/// made later by this one are ordinary again only if it was; call it last.
pub fn be_punctual() {
    use crate::sys::process::{Turns, ask_for};
    let _as_it_was = ask_for(Turns::First).or_else(|_| ask_for(Turns::Short(100_000)));
}
