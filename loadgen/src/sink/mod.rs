//! The sink: accepts mail, writes down what it took and when, and misbehaves on request.
//!
//! The same shards, drivers and SMTP sessions as the engine. Every message is correlated by the stamp in its
//! reverse-path; the ledger ([`crate::ledger`]) is kept in memory, and is read by whoever started the sink
//! ([`SinkHandle::ledger`]), over the admin address, or from the file that is written at the end.

pub mod admin;
pub mod content;
pub mod fault;
mod guest;
mod report;
mod serve;
mod shared;

use crate::clock::{monotonic, thread_named};
use crate::ledger::{self, Delivery};
use admin::{AdminAddress, AdminListener};
use engine::io::choice::DriverChoice;
use engine::io::launch::{Launch, LaunchError, Running, launch};
use engine::smtp::server::{Extensions, ServerOptions};
use engine::smtp::{Dialect, Profile};
use engine::wire::Span;
use fault::Fault;
use serve::Sink;
use shared::Shared;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use shared::{Counts, LEDGER_ENTRIES_MAX};

/// What a sink is told.
#[derive(Debug, Clone)]
pub struct SinkOptions {
    /// Where it listens; port 0 lets the system choose one. Every shard listens on each.
    pub listen: Vec<SocketAddr>,
    /// The driver asked for.
    pub driver: DriverChoice,
    /// One shard per element, pinned to that processor where there is one.
    pub cores: Vec<Option<usize>>,
    /// Its name in the banner.
    pub name: String,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// CHUNKING is announced.
    pub chunking: bool,
    /// PIPELINING is announced.
    pub pipelining: bool,
    /// What goes wrong, from the start.
    pub faults: Vec<Fault>,
    /// The admin interface.
    pub admin: Option<AdminAddress>,
    /// The ledger is written here when the sink ends.
    pub ledger: Option<PathBuf>,
    /// Entries that are kept, at most; 32 octets of memory each.
    pub ledger_entries_max: usize,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            driver: DriverChoice::Auto,
            cores: vec![None],
            name: "sink.test".into(),
            lmtp: false,
            chunking: true,
            pipelining: true,
            faults: Vec::new(),
            admin: None,
            ledger: None,
            ledger_entries_max: LEDGER_ENTRIES_MAX,
        }
    }
}

impl SinkOptions {
    fn server(&self) -> Arc<ServerOptions> {
        let mut server = ServerOptions::new(Profile::Bench, &self.name);
        server.extensions = Extensions { chunking: self.chunking, pipelining: self.pipelining, ..server.extensions };
        if self.lmtp {
            server.dialect = Dialect::Lmtp;
        }
        // A sink takes what any server under test may send, and never tires of a silent peer: idle connections are part of what
        // is measured.
        server.timers.command = Span::hours(24);
        (server.size_max, server.recipients_max) = (1 << 30, 100_000);
        (server.header_bytes_max, server.header_fields_max) = (1 << 20, 100_000);
        (server.errors_max, server.idle_commands_max, server.refused_recipients_max) = (u32::MAX, u32::MAX, u32::MAX);
        Arc::new(server)
    }
}

/// Why a sink did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// No address, or no shard.
    #[error("a sink needs at least one address to listen on and one shard")]
    Nothing,
    /// A name that is none.
    #[error("the banner's name `{0}` is no domain name: write one as sink.test")]
    Name(String),
    /// The address is taken or not ours.
    #[error("cannot listen on {0}: {1}; choose another address, or end what listens there")]
    Listen(SocketAddr, io::Error),
    /// The admin address is taken or not ours.
    #[error("cannot listen on {0}: {1}; choose another address, or end what listens there")]
    Admin(AdminAddress, io::Error),
    /// There will be no ledger there.
    #[error("ledger {path}: {1}; name a file that may be written", path = .0.display())]
    NoLedger(PathBuf, io::Error),
    /// The driver or its threads.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A shard ended with an error.
    #[error("a shard of the sink failed: {0}")]
    Shard(io::Error),
    /// The ledger could not be written; what stands in it, and what the sink did, is here.
    #[error("ledger {path}: {error}", path = .path.display())]
    Ledger {
        /// Where it was to stand.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
        /// What the sink came to.
        outcome: Box<SinkOutcome>,
    },
}

/// Controls a running sink from any thread.
#[derive(Debug, Clone)]
pub struct SinkHandle {
    shared: Arc<Shared>,
    admin: Option<AdminAddress>,
}

impl SinkHandle {
    /// What the sink did so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts(monotonic())
    }

    /// The same, as last published: without waking anybody.
    pub fn counts_published(&self) -> Counts {
        self.shared.published(monotonic())
    }

    /// Everything it took so far; `false` when a shard did not answer within 5 s.
    pub fn ledger(&self) -> (Vec<Delivery>, bool) {
        self.shared.ledger()
    }

    /// The faults in force.
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.faults()
    }

    /// Replaces all faults. When it returns `true` every shard has them.
    pub fn set_faults(&self, faults: Vec<Fault>) -> bool {
        self.shared.set_faults(faults)
    }

    /// Neither reads nor answers for `span` from now. When it returns `true` every shard has stopped.
    pub fn pause(&self, span: Span) -> bool {
        self.shared.pause(monotonic(), span)
    }

    /// Ends the sink.
    pub fn stop(&self) {
        self.shared.stop();
        if let Some(admin) = &self.admin {
            // Whoever accepts there looks up; nobody does, if it is gone already.
            let _ = admin::AdminClient::connect(admin);
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.shared.stopping()
    }
}

/// A sink that accepts.
#[derive(Debug)]
pub struct RunningSink {
    /// Where it listens, with the ports that the system chose.
    pub listen: Vec<SocketAddr>,
    /// Its admin interface, with the port that the system chose.
    pub admin: Option<AdminAddress>,
    /// The driver in use.
    pub driver: &'static str,
    handle: SinkHandle,
    running: Running,
    ledger: Option<PathBuf>,
}

/// What a sink came to.
#[derive(Debug, Clone)]
pub struct SinkOutcome {
    /// What it did.
    pub counts: Counts,
    /// What it took.
    pub ledger: Vec<Delivery>,
}

impl RunningSink {
    /// What controls it.
    pub fn handle(&self) -> SinkHandle {
        self.handle.clone()
    }

    /// Waits until somebody stops it.
    ///
    /// # Errors
    /// A shard that failed, a ledger that could not be written.
    pub fn join(self) -> Result<SinkOutcome, SinkError> {
        self.running.join().map_err(|error| SinkError::Shard(error.into()))?;
        let counts = self.handle.counts_published();
        let ledger = self.handle.shared.kept();
        let outcome = SinkOutcome { counts, ledger };
        match self.ledger.map(|path| (write_ledger(&path, &outcome.ledger), path)) {
            Some((Err(error), path)) => Err(SinkError::Ledger { path, error, outcome: Box::new(outcome) }),
            _ => Ok(outcome),
        }
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// As `join`.
    pub fn stop(self) -> Result<SinkOutcome, SinkError> {
        self.handle.stop();
        self.join()
    }
}

fn write_ledger(path: &PathBuf, entries: &[Delivery]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    ledger::write(&mut file, entries)?;
    file.flush()
}

/// Starts a sink; it accepts when this returns.
///
/// # Errors
/// [`SinkError`]: everything here is the caller's to mend.
pub fn start(options: SinkOptions) -> Result<RunningSink, SinkError> {
    if options.listen.is_empty() || options.cores.is_empty() {
        return Err(SinkError::Nothing);
    }
    if !engine::wire::is_domain(options.name.as_bytes()) {
        return Err(SinkError::Name(options.name));
    }
    if let Some(path) = &options.ledger {
        // Looked at before there is anything to write, so that it is not lost at the end.
        let there = OpenOptions::new().create(true).append(true).open(path);
        there.map_err(|error| SinkError::NoLedger(path.clone(), error))?;
    }
    let reserved = options.listen.iter().map(|&at| reserve(at).map_err(|error| SinkError::Listen(at, error)));
    let reserved = reserved.collect::<Result<Vec<_>, _>>()?;
    let listen: Vec<SocketAddr> = reserved.iter().map(|(_, at)| *at).collect();
    let admin = match &options.admin {
        Some(at) => Some(AdminListener::bind(at).map_err(|error| SinkError::Admin(at.clone(), error))?),
        None => None,
    };
    let address = match &admin {
        Some(bound) => {
            Some(bound.address().map_err(|error| SinkError::Admin(options.admin.clone().expect("bound"), error))?)
        }
        None => None,
    };
    let shared = Shared::new(options.cores.len(), options.faults.clone(), options.ledger_entries_max, monotonic());
    let (ready, answers) = mpsc::channel();
    let program = Sink {
        server: options.server(),
        listen: listen.clone(),
        shared: shared.clone(),
        ready: Arc::new(Mutex::new(ready)),
    };
    let cores = options.cores.clone();
    let running = launch(&Launch { driver: options.driver, cores: cores.clone() }, program)?;
    let handle = SinkHandle { shared, admin: address.clone() };
    for _ in &cores {
        let answer = answers.recv().unwrap_or_else(|_| Err((listen[0], io::Error::other("a shard ended at once"))));
        if let Err((at, error)) = answer {
            handle.stop();
            return Err(SinkError::Listen(at, error));
        }
    }
    if let Some(admin) = admin {
        let sink = handle.clone();
        thread_named("sink-admin", move || admin.serve(&sink));
    }
    Ok(RunningSink { listen, admin: address, driver: running.driver, handle, running, ledger: options.ledger })
}

/// Starts a sink and waits for its end.
///
/// # Errors
/// As `start` and [`RunningSink::join`].
pub fn run(options: SinkOptions) -> Result<SinkOutcome, SinkError> {
    start(options)?.join()
}

/// How long an address that is taken is asked for again, and how often.
const LEAVING_WAIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

fn bind_alone(at: SocketAddr) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())
}

/// Binds, without listening, so that all shards find the same port free.
fn reserve(at: SocketAddr) -> io::Result<(socket2::Socket, SocketAddr)> {
    // Another sink of ours there would let us in, and each would take a part of the mail: an address that is shared is taken.
    // One that was killed leaves it a moment after its end, with its ring.
    let by = Instant::now() + LEAVING_WAIT;
    while let Err(error) = bind_alone(at) {
        if error.kind() != io::ErrorKind::AddrInUse || Instant::now() >= by {
            return Err(error);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&at.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(at);
    Ok((socket, bound))
}
