//! The `tokio-uring` driver: the same interface on the tokio-uring crate, from Linux 5.11. It serves older kernels, and is
//! the yardstick for our own reactor.
//!
//! Receives, sends, file reads, writes and syncs go through the ring. Accepting and connecting wait by readiness, since the
//! crate loses a connection when an accept is dropped; names are worked on by tokio's blocking threads, since the crate
//! knows no folder handles. A durable write is a write and an fdatasync: the crate passes no RWF_DSYNC.
//!
//! Traps of the crate: a dropped read is not cancelled and swallows octets, so a connection's one read
//! lives with its socket ([`conn`]); requests are handed over when the thread parks, so there is at most one turn of delay.

mod conn;

use crate::io::base::conn::Line;
use crate::io::base::errno::{Op, retried};
use crate::io::base::file_threads::{self, Shared, named};
use crate::io::base::readiness::{self, Listener};
use crate::io::base::turn::{self, Turn};
use crate::io::base::{files, sockets};
use crate::io::driver::{DirectIo, Driver, Entry, IoCounts, Open, Stable};
use crate::sys::owned::{self, Octets, Room};
use crate::sys::slice::{Fill, Slice};
use crate::wire::{Tick, Wall};
use conn::Stream;
use rustix::net::SocketFlags;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Requests that wait to be handed over; the crate hands them over early when there are more.
const ENTRIES: u32 = 1024;
/// Parts that one gathered write takes; the rest is a short write.
const PARTS_MAX: usize = 1024; // UIO_MAXIOV

/// One shard's I/O on the tokio-uring crate.
#[derive(Clone)]
pub struct TokioUring(Rc<Turn>);

/// An open file.
type File = Rc<tokio_uring::fs::File>;

/// Whether this machine allows the ring that the driver needs.
///
/// # Errors
/// What the kernel said: EPERM where it is refused, ENOSYS where it is missing.
pub fn probe() -> io::Result<()> {
    // The crate would leak a runtime on refusal: ask before.
    io_uring::IoUring::new(4).map(drop)
}

/// The crate's builder with the flags that this kernel takes. Deferred task work hangs it.
fn builder() -> tokio_uring::Builder {
    let mut flags = tokio_uring::uring_builder();
    flags.setup_cqsize(8 * ENTRIES).setup_clamp();
    let takes = |trial: &mut io_uring::Builder| trial.build(4).is_ok();
    if takes(io_uring::IoUring::builder().setup_coop_taskrun().setup_single_issuer()) {
        flags.setup_coop_taskrun().setup_single_issuer();
    } else if takes(io_uring::IoUring::builder().setup_coop_taskrun()) {
        flags.setup_coop_taskrun();
    }
    let mut builder = tokio_uring::builder();
    builder.entries(ENTRIES).uring_builder(&flags);
    builder
}

/// Runs `f`'s future on this thread to its end, with a driver of its own.
///
/// Dropped connections are then given a bounded time to send and linger.
///
/// # Errors
/// When the kernel refuses a ring, or the system has no descriptors left.
///
/// # Panics
/// When a spawned task panicked.
pub fn run<F, Fut>(f: F) -> io::Result<()>
where
    F: FnOnce(TokioUring) -> Fut,
    Fut: Future<Output = ()>,
{
    probe()?;
    let runtime = tokio_uring::Runtime::new(&builder())?;
    runtime.block_on(async {
        let turn = Turn::new(Arc::default());
        turn.run(f(TokioUring(turn.clone()))).await;
    });
    Ok(())
}

impl TokioUring {
    fn line(&self, socket: OwnedFd, peer: SocketAddr) -> io::Result<Line<Stream>> {
        self.0.count(|counts| counts.syscalls += 1);
        let local = sockets::local(&socket)?;
        Ok(Line::new(self.0.clone(), Stream::new(socket), peer, local))
    }

    async fn write_parts(&self, file: &File, mut parts: Vec<Slice>, at: u64) -> (io::Result<usize>, Vec<Slice>) {
        let rest = parts.split_off(parts.len().min(PARTS_MAX));
        let parts = parts.into_iter().map(Octets::Slice).collect();
        let (result, back) = file.writev_at(parts, at).await;
        let slices = back.into_iter().filter_map(|part| match part {
            Octets::Slice(slice) => Some(slice),
            Octets::Text(_) => None,
        });
        (result, slices.chain(rest).collect())
    }
}

impl Driver for TokioUring {
    type Conn = Line<Stream>;
    type Listener = Listener;
    type File = File;
    type Dir = Shared;
    type Remote = turn::Remote;

    const NAME: &'static str = "tokio-uring";

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

    async fn accept(&self, listener: &Listener) -> io::Result<Line<Stream>> {
        // Blocking sockets: the ring would answer EAGAIN for others instead of waiting.
        let (socket, peer) = listener.accept(&self.0, SocketFlags::empty()).await?;
        self.line(socket, peer)
    }

    fn shed(&self, listener: &Listener, reply: &[u8]) {
        listener.shed(reply);
    }

    async fn connect(&self, to: SocketAddr, by: Tick) -> io::Result<Line<Stream>> {
        let socket = readiness::connect(&self.0, to, by).await?;
        rustix::io::ioctl_fionbio(&socket, false)?;
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

    async fn open(&self, at: &Shared, name: &str, how: Open) -> io::Result<File> {
        let file = named(at, name, move |at, name| files::open(at, name, how)).await?;
        Ok(Rc::new(tokio_uring::fs::File::from_std(file.into())))
    }

    async fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let file = owned::file(file).try_clone_to_owned()?;
        file_threads::run(move || files::allocate(file.as_fd(), bytes)).await
    }

    fn lock(&self, file: &File) -> io::Result<bool> {
        files::lock(owned::file(file))
    }

    fn size(&self, file: &File) -> io::Result<u64> {
        files::size(owned::file(file))
    }

    fn direct_io(&self, file: &File) -> io::Result<DirectIo> {
        files::direct_io(owned::file(file))
    }

    async fn write(&self, file: &File, parts: Vec<Slice>, at: u64, stable: Stable) -> (io::Result<usize>, Vec<Slice>) {
        let mut parts = parts;
        let mut result = retried(Op::File, async || {
            let (result, back) = self.write_parts(file, std::mem::take(&mut parts), at).await;
            parts = back;
            result
        })
        .await;
        if stable == Stable::Yes
            && result.is_ok()
            && let Err(error) = file.sync_data().await
        {
            result = Err(error);
        }
        self.0.count(|counts| {
            counts.writes += 1;
            counts.stable_writes += u64::from(stable == Stable::Yes);
            counts.written_bytes += result.as_ref().map_or(0, |&written| written as u64);
        });
        (result, parts)
    }

    async fn read(&self, file: &File, into: Fill, at: u64) -> (io::Result<usize>, Fill) {
        let mut room = Some(Room::of(into));
        let result = retried(Op::File, async || {
            let (result, back) = file.read_at(room.take().expect("a read gives its chunk back"), at).await;
            room = Some(back);
            result
        })
        .await;
        let mut into = room.expect("a read gives its chunk back").into_fill();
        into.advance(*result.as_ref().unwrap_or(&0));
        (result, into)
    }

    async fn sync(&self, file: &File) -> io::Result<()> {
        retried(Op::Sync, async || file.sync_all().await).await
    }

    async fn sync_dir(&self, dir: &Shared) -> io::Result<()> {
        let dir = dir.clone();
        file_threads::run(move || files::sync(dir.as_fd())).await
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
