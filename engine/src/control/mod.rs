//! The control plane: one thread with ordinary tokio on it, beside the shards and never on a message's way. It resolves the
//! names of next hops and publishes routes as snapshots, obeys signals, answers on the admin socket, serves metrics, writes
//! the log, and tells the service manager. When it is stuck, mail goes on with the last snapshot.
//!
//! ```text
//!  start ─► wait for every shard ─► serve ──SIGTERM, SIGINT──► drain ─► end
//!                                    │ ▲ SIGHUP: routes anew (a bad file changes nothing: F-177)
//! ```
//! Bounds: one gathering of reports at a time, at most one in [`FRESH`]; one round of name look-ups at a time, whose answers
//! count as they come, and beside it those of names that are new; a drain ends at its deadline and [`STUCK_WAIT`] (I-12).

// The control plane lives by the system's clock and sockets; it is the outside.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod held;
pub mod log;
mod metrics;
mod names;
mod plane;
pub(crate) mod routes;
pub mod socket;
mod status;

use crate::route::Snapshot;
use crate::settings::Settings;
use crate::track::counters::Board;
use crate::track::desk::{ControlDesk, Links, ShardLink, desk};
use arc_swap::ArcSwap;
use held::Held;
use names::Lookups;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};

/// A status younger than this is given again instead of asking the shards.
pub const FRESH: Duration = Duration::from_millis(100);
/// How long shards may take for their reports.
const REPORT_WAIT: Duration = Duration::from_secs(1);
/// Names of hosts are asked for again after this; the system's resolver tells no lifetime.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);
/// The same while a name has no address.
const RESOLVE_SOON: Duration = Duration::from_secs(5);
/// How long the start waits for names.
const FIRST_RESOLVE_WAIT: Duration = Duration::from_secs(5);
/// How long beyond its deadline a shard may take before the process ends without it.
const STUCK_WAIT: Duration = Duration::from_secs(2);

/// What a control plane needs to begin.
pub struct Plan {
    /// What the server was told.
    pub settings: Arc<Settings>,
    /// Reads the configuration anew; on failure says in one line why nothing changes.
    pub reload: Box<dyn FnMut() -> Result<Settings, String> + Send>,
    /// The program's version.
    pub version: &'static str,
    /// The commit it was built from.
    pub git: Option<&'static str>,
}

/// Why the server did not run to a clean end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The user's to mend: exit 2.
    #[error("{0}")]
    Usage(String),
    /// A shard could not begin, or ended by itself: exit 4.
    #[error("{0}")]
    Died(String),
    /// The drain's deadline passed; what is on disk is safe, what was under way will be sent again: exit 4.
    #[error("shards {} did not stop within the drain's deadline; their mail is on disk", numbers(.0))]
    Late(Vec<usize>),
    /// The system has no thread, signal or clock for us.
    #[error("the control plane cannot run: {0}")]
    System(#[from] io::Error),
}

/// A shard whose thread ended by an error.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} ended: {error}")]
pub struct Fallen {
    /// Its number.
    pub shard: usize,
    /// What its driver said.
    pub error: io::Error,
}

fn numbers(of: &[usize]) -> String {
    of.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// A control plane that is ready to run, with its sockets bound.
pub struct Control {
    runtime: Runtime,
    parts: Parts,
    signals: Signals,
    admin: Option<UnixListener>,
    metrics: Option<(TcpListener, SocketAddr)>,
}

/// What the plane works with.
struct Parts {
    settings: Arc<Settings>,
    reload: Box<dyn FnMut() -> Result<Settings, String> + Send>,
    version: &'static str,
    git: Option<&'static str>,
    board: Board,
    desks: Vec<ControlDesk>,
    woken: Arc<Notify>,
    published: Arc<ArcSwap<Snapshot>>,
    lookups: Lookups,
    held: Held,
}

/// Takes the admin socket away at the end.
fn remove_socket(settings: &Settings) {
    if let Some(path) = &settings.server.admin {
        // It may be gone already.
        let _gone = std::fs::remove_file(path);
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Control {
    /// Binds the admin socket and the metrics port, obeys signals from here on, asks for the names of hosts (bounded: a
    /// resolver that hangs delays the start by a few seconds only), and makes each shard's link.
    ///
    /// # Errors
    /// An address or a path cannot be had (the user's), or the system is short of something.
    pub fn prepare(plan: Plan) -> Result<(Control, Links), ControlError> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(names::THREADS).build()?;
        let inside = runtime.enter();
        let admin = plan.settings.server.admin.as_ref().map(|path| {
            socket::bind(path).map_err(|error| {
                let path = path.display();
                ControlError::Usage(format!("server.admin: cannot listen on {path}: {error}; write another path"))
            })
        });
        let metrics = plan.settings.server.metrics.map(|address| {
            bind_metrics(address).map_err(|error| {
                ControlError::Usage(format!("server.metrics: cannot listen on {address}: {error}; write another port"))
            })
        });
        let (admin, metrics) = (admin.transpose()?, metrics.transpose()?);
        let signals = Signals::new()?;
        let mut lookups = Lookups::new();
        lookups.begin(&plan.settings);
        drop(inside);
        runtime.block_on(lookups.hear_for(FIRST_RESOLVE_WAIT));
        let known = |name: &str, port| lookups.names().addresses(name, port);
        let held = Held::read(plan.settings.server.data_dir.as_deref()).map_err(ControlError::Usage)?;
        let routes = Snapshot { suspended: held.names(), ..routes::snapshot(&plan.settings, known, 1) };
        let published = Arc::new(ArcSwap::from_pointee(routes));
        let woken = Arc::new(Notify::new());
        let (board, tallies) = Board::new(plan.settings.server.cores.len());
        let (mut links, mut desks) = (Vec::new(), Vec::new());
        for tally in tallies {
            let woken = woken.clone();
            let (shard, control) = desk(Arc::new(move || woken.notify_one()));
            links.push(ShardLink { tally, desk: shard });
            desks.push(control);
        }
        let Plan { settings, reload, version, git } = plan;
        let parts = Parts { settings, reload, version, git, board, desks, woken, published, lookups, held };
        let control = Control { runtime, parts, signals, admin, metrics };
        Ok((control, Links::new(links)))
    }

    /// Where mail goes, for shards to look at whenever they like; [`crate::track::desk::Order::Routes`] says that it is new.
    pub fn routes(&self) -> Arc<ArcSwap<Snapshot>> {
        self.parts.published.clone()
    }

    /// What `work` comes to on a thread of its own: what a start has to do first, and may take long. `None` when a signal
    /// asks for the end meanwhile; the work ends with the process then.
    ///
    /// # Errors
    /// There is no thread for it, or it panicked.
    pub fn unless_ended<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, ControlError> {
        let (done, result) = oneshot::channel();
        std::thread::Builder::new().name("start".into()).spawn(move || {
            // Nobody listens any more when the end was asked for.
            let _unheard = done.send(work());
        })?;
        let Signals { terminate, interrupt, .. } = &mut self.signals;
        let result = self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = terminate.recv() => Ok(None),
                _ = interrupt.recv() => Ok(None),
                result = result => result.map(Some),
            }
        });
        result.map_err(|_| io::Error::other("the start panicked").into())
    }

    /// The start has come to nothing. Look-ups under way are not waited for: a name server may be silent for minutes.
    pub fn abandon(self) {
        remove_socket(&self.parts.settings);
        self.runtime.shutdown_background();
    }

    /// Runs until the server has ended. `driver` is the name of the I/O in use; `join` waits for the shards' threads, or for one that fails;
    /// `ready` is called once with what the ready line says, when every shard serves.
    ///
    /// # Errors
    /// As `ControlError` says.
    pub fn run(
        self,
        driver: &'static str,
        join: impl FnOnce() -> Result<(), Fallen> + Send + 'static,
        ready: impl FnOnce(&Serving),
    ) -> Result<(), ControlError> {
        plane::run(self, driver, join, ready)
    }
}

/// What a server says when it serves.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Serving {
    /// The addresses bound, in the order of the listeners.
    pub listen: Vec<SocketAddr>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// The I/O in use.
    pub driver: &'static str,
    /// `direct` or `buffered`; `None` for servers that keep nothing.
    pub commit: Option<&'static str>,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

fn bind_metrics(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, bound))
}
