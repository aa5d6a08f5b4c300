//! The `epoll` driver: tokio's current-thread runtime, readiness by epoll, files by a few blocking threads. It is taken
//! where io_uring is refused (containers, sysctl), and by tools that want a socket and no ring.
//!
//! Same behaviour as every driver; no promise about memory, allocations or system calls.

mod conn;

use crate::io::base::file_threads::{self, Shared, named};
use crate::io::base::readiness::{self, Listener};
use crate::io::base::turn::{self, Turn};
use crate::io::base::{conn::Line, files, sockets};
use crate::io::driver::{DirectIo, Driver, Entry, IoCounts, Open, Stable};
use crate::sys::slice::{Fill, Slice};
use crate::wire::{Tick, Wall};
use conn::Socket;
use rustix::net::SocketFlags;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the driver is built.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that do file work, at most; at least 1. A shard has one write in flight, recovery and relocation read.
    pub file_threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { file_threads: 4 }
    }
}

/// One shard's I/O on epoll.
#[derive(Clone)]
pub struct Epoll(Rc<Turn>);

/// Runs `f`'s future on this thread to its end, with a driver of its own.
///
/// Dropped connections are then given a bounded time to send and linger.
///
/// # Errors
/// When the system has no descriptors or threads left for the runtime.
///
/// # Panics
/// When a spawned task panicked.
pub fn run<F, Fut>(options: &Options, f: F) -> io::Result<()>
where
    F: FnOnce(Epoll) -> Fut,
    Fut: Future<Output = ()>,
{
    let parks = Arc::new(AtomicU64::new(0));
    let waits = parks.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(options.file_threads.max(1))
        .on_thread_park(move || {
            waits.fetch_add(1, Ordering::Relaxed);
        })
        .build()?;
    runtime.block_on(async {
        let turn = Turn::new(parks);
        turn.run(f(Epoll(turn.clone()))).await;
    });
    Ok(())
}

impl Epoll {
    fn line(&self, socket: OwnedFd, peer: SocketAddr) -> io::Result<Line<Socket>> {
        self.0.count(|counts| counts.syscalls += 2);
        let local = sockets::local(&socket)?;
        Ok(Line::new(self.0.clone(), Socket::new(socket)?, peer, local))
    }
}

impl Driver for Epoll {
    type Conn = Line<Socket>;
    type Listener = Listener;
    type File = Shared;
    type Dir = Shared;
    type Remote = turn::Remote;

    const NAME: &'static str = "epoll";

    fn now(&self) -> Tick {
        self.0.now()
    }

    fn precise_now(&self) -> Tick {
        self.0.now()
    }

    fn wall(&self) -> Wall {
        self.0.wall()
    }

    fn random(&self, into: &mut [u8]) {
        self.0.random(into);
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task);
    }

    fn sleep_until(&self, at: Tick) -> impl Future<Output = ()> {
        self.0.sleep_until(at)
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        self.0.yield_now()
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        Listener::new(at)
    }

    fn local(&self, listener: &Listener) -> io::Result<SocketAddr> {
        listener.local()
    }

    async fn accept(&self, listener: &Listener) -> io::Result<Line<Socket>> {
        let (socket, peer) = listener.accept(&self.0, SocketFlags::NONBLOCK).await?;
        self.line(socket, peer)
    }

    fn shed(&self, listener: &Listener, reply: &[u8]) {
        listener.shed(reply);
    }

    async fn connect(&self, to: SocketAddr, by: Tick) -> io::Result<Line<Socket>> {
        let socket = readiness::connect(&self.0, to, by).await?;
        self.line(socket, to)
    }

    fn root(&self, path: &Path) -> io::Result<Shared> {
        files::root(path).map(Arc::new)
    }

    async fn dir(&self, at: &Shared, name: &str) -> io::Result<Shared> {
        named(at, name, files::dir).await.map(Arc::new)
    }

    async fn create_dir(&self, at: &Shared, name: &str) -> io::Result<()> {
        named(at, name, files::create_dir).await
    }

    async fn open(&self, at: &Shared, name: &str, how: Open) -> io::Result<Shared> {
        named(at, name, move |at, name| files::open(at, name, how)).await.map(Arc::new)
    }

    async fn allocate(&self, file: &Shared, bytes: u64) -> io::Result<()> {
        let file = file.clone();
        file_threads::run(move || files::allocate(file.as_fd(), bytes)).await
    }

    fn lock(&self, file: &Shared) -> io::Result<bool> {
        files::lock(file.as_fd())
    }

    fn size(&self, file: &Shared) -> io::Result<u64> {
        files::size(file.as_fd())
    }

    fn direct_io(&self, file: &Shared) -> io::Result<DirectIo> {
        files::direct_io(file.as_fd())
    }

    async fn write(
        &self,
        file: &Shared,
        parts: Vec<Slice>,
        at: u64,
        stable: Stable,
    ) -> (io::Result<usize>, Vec<Slice>) {
        let file = file.clone();
        let work = move || (files::write(file.as_fd(), &parts, at, stable == Stable::Yes), parts);
        let (result, parts) = file_threads::run(work).await;
        self.0.count(|counts| {
            counts.writes += 1;
            counts.stable_writes += u64::from(stable == Stable::Yes);
            counts.written_bytes += result.as_ref().map_or(0, |&written| written as u64);
        });
        (result, parts)
    }

    async fn read(&self, file: &Shared, mut into: Fill, at: u64) -> (io::Result<usize>, Fill) {
        let file = file.clone();
        file_threads::run(move || (files::read(file.as_fd(), &mut into, at), into)).await
    }

    async fn sync(&self, file: &Shared) -> io::Result<()> {
        let file = file.clone();
        file_threads::run(move || files::sync(file.as_fd())).await
    }

    async fn sync_dir(&self, dir: &Shared) -> io::Result<()> {
        self.sync(dir).await
    }

    async fn rename(&self, at: &Shared, from: &str, into: &Shared, to: &str) -> io::Result<()> {
        let (into, to) = (into.clone(), to.to_owned());
        named(at, from, move |at, from| files::rename(at, from, into.as_fd(), &to)).await
    }

    async fn remove(&self, at: &Shared, name: &str) -> io::Result<()> {
        named(at, name, files::remove).await
    }

    async fn list(&self, dir: &Shared) -> io::Result<Vec<Entry>> {
        let dir = dir.clone();
        file_threads::run(move || files::list(dir.as_fd())).await
    }

    fn free_bytes(&self, dir: &Shared) -> io::Result<u64> {
        files::free_bytes(dir.as_fd())
    }

    fn descriptors_max(&self) -> usize {
        files::descriptors_max()
    }

    fn remote(&self) -> turn::Remote {
        self.0.remote()
    }

    fn woken(&self) -> impl Future<Output = ()> {
        self.0.woken()
    }

    fn counts(&self) -> IoCounts {
        self.0.counts()
    }
}
