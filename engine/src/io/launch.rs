//! Starting shards: one pinned thread each, on the driver that was chosen or that the machine allows.

use super::choice::DriverChoice;
use super::driver::Driver;
use super::epoll;
use super::probe;
use super::tokio_uring;
use super::uring;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
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

/// A shard that did not end as it should.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} ended: {error}")]
pub struct ShardError {
    /// Its number.
    pub shard: usize,
    /// What its driver said.
    pub error: io::Error,
}

impl From<ShardError> for io::Error {
    fn from(error: ShardError) -> io::Error {
        io::Error::new(error.error.kind(), error)
    }
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
    threads: Threads,
}

/// The threads of shards; each says how it ended when it ends.
#[derive(Debug)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    ends: Receiver<(usize, io::Result<()>)>,
}

impl Running {
    /// Waits until every shard has ended, or one has failed: the others may live on then.
    ///
    /// # Errors
    /// The failure that came first.
    pub fn join(self) -> Result<(), ShardError> {
        self.threads.join()
    }
}

impl Threads {
    /// Starts a thread for each body, pinned to its processor where there is one.
    fn start(bodies: impl IntoIterator<Item = (Option<usize>, Body)>) -> Result<Threads, LaunchError> {
        let (end, ends) = channel();
        let mut handles = Vec::new();
        for (shard, (core, body)) in bodies.into_iter().enumerate() {
            let end = end.clone();
            let run = move || {
                if let Some(core) = core {
                    pin(core);
                }
                let ended = catch_unwind(AssertUnwindSafe(body));
                // Nobody listens any more when the process ends, or another shard failed first.
                let _unheard =
                    end.send((shard, ended.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))));
            };
            let thread = std::thread::Builder::new().name(format!("shard-{shard}")).spawn(run);
            handles.push(thread.map_err(LaunchError::Thread)?);
        }
        Ok(Threads { handles, ends })
    }

    fn join(self) -> Result<(), ShardError> {
        // All have ended when the last sender is gone.
        for (shard, ended) in &self.ends {
            ended.map_err(|error| ShardError { shard, error })?;
        }
        for thread in self.handles {
            // It has said how it ended.
            let _said = thread.join();
        }
        Ok(())
    }
}

/// Starts `program` on every shard.
///
/// # Errors
/// When the driver that was named is refused, or a thread cannot be had.
pub fn launch<P: Program>(launch: &Launch, program: P) -> Result<Running, LaunchError> {
    let choice = choose(launch.driver)?;
    let (mut driver, mut bodies) = ("", Vec::with_capacity(launch.cores.len()));
    for (shard, core) in launch.cores.iter().copied().enumerate() {
        let (name, body) = body(choice.0, program.clone(), shard);
        driver = name;
        bodies.push((core, body));
    }
    Ok(Running { driver, passed_over: choice.1, threads: Threads::start(bodies)? })
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

/// Keeps this thread on processor `core`; where the system refuses, it stays free, and says so.
pub fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(cause = "driver", core, %error, "a shard cannot be kept on its processor");
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    fn threads<const N: usize>(bodies: [Body; N]) -> Threads {
        Threads::start(bodies.map(|body| (None, body))).expect("the system has threads")
    }

    #[test]
    fn a_shard_that_fails_is_heard_of_while_another_lives() {
        type Failing = (fn() -> io::Result<()>, &'static str);
        let failing: [Failing; 2] = [
            (|| Err(io::ErrorKind::OutOfMemory.into()), "shard 1 ended: out of memory"),
            (|| std::panic::resume_unwind(Box::new(())), "shard 1 ended: its thread panicked"),
        ];
        for (body, text) in failing {
            let (over, live) = channel::<()>();
            let ended = Arc::new(AtomicBool::new(false));
            let there = ended.clone();
            let living = move || {
                // Who does not hear of the failure hears of this end.
                let _over = live.recv_timeout(Duration::from_secs(20));
                there.store(true, Ordering::Release);
                Ok(())
            };
            let error = threads([Box::new(living), Box::new(body)]).join().expect_err("one failed");
            assert_eq!((error.shard, error.to_string().as_str()), (1, text));
            assert!(!ended.load(Ordering::Acquire), "the other lives");
            drop(over);
        }
    }

    #[test]
    fn shards_that_end_well_are_all_waited_for() {
        let ended = Arc::new(AtomicBool::new(false));
        let there = ended.clone();
        let (say, hear) = channel();
        let last = move || {
            hear.recv().map_err(io::Error::other)?;
            there.store(true, Ordering::Release);
            Ok(())
        };
        let first = move || say.send(()).map_err(io::Error::other);
        threads([Box::new(last), Box::new(first)]).join().expect("both ended well");
        assert!(ended.load(Ordering::Acquire));
    }
}
