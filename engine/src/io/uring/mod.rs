//! The default driver: our own small reactor on io_uring, one per thread.
//!
//! Multishot accept and receive into shared buffers, batched sends at the end of each turn, direct durable writes, one
//! lazy timer per connection. One turn: fire timers, run what is ready, send what was queued, hand everything to the
//! kernel in one system call (waiting if nothing is ready), reap what completed.

mod conn;
mod files;
mod listener;
mod reactor;
mod remote;
mod timers;

pub use conn::{UringConn, UringHandle};
pub use files::{UringDir, UringFile};
pub use listener::UringListener;
pub use remote::UringRemote;

use super::driver::{DirectIo, Driver, Entry, IoCounts, Open, Stable};
use crate::sys::exec;
pub use crate::sys::ring::Setup;
use crate::sys::slice::{Fill, Slice};
use crate::wire::{Tick, Wall};
use reactor::Reactor;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

/// One thread's reactor, as a [`Driver`].
#[derive(Clone)]
pub struct Uring(Rc<Reactor>);

/// Builds the reactor on this thread and runs `main` to its end; then drops every other task, and lets connections send what
/// they have queued and linger, for at most two seconds.
///
/// # Errors
/// When the kernel refuses a ring, or entering it fails.
pub fn run<F, Fut>(setup: Setup, main: F) -> io::Result<()>
where
    F: FnOnce(Uring) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let reactor = Reactor::new(setup)?;
    let main = main(Uring(reactor.clone()));
    reactor.run(main)
}

impl Uring {
    /// The flags that the kernel took at set-up, for logs.
    pub fn flags(&self) -> &'static str {
        self.0.ring.borrow().flags()
    }
}

impl Driver for Uring {
    type Conn = UringConn;
    type Listener = UringListener;
    type File = UringFile;
    type Dir = UringDir;
    type Remote = UringRemote;

    const NAME: &'static str = "uring";

    fn now(&self) -> Tick {
        self.0.now()
    }

    fn precise_now(&self) -> Tick {
        reactor::clock()
    }

    fn wall(&self) -> Wall {
        super::wall()
    }

    fn random(&self, into: &mut [u8]) {
        super::random(into);
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task);
    }

    fn sleep_until(&self, at: Tick) -> impl Future<Output = ()> {
        timers::sleep_until(self.0.clone(), at)
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        exec::yield_now()
    }

    fn listen(&self, at: SocketAddr) -> io::Result<UringListener> {
        listener::listen(&self.0, at)
    }

    fn local(&self, listener: &UringListener) -> io::Result<SocketAddr> {
        listener.local()
    }

    fn accept(&self, listener: &UringListener) -> impl Future<Output = io::Result<UringConn>> {
        listener.accept()
    }

    fn shed(&self, listener: &UringListener, reply: &[u8]) {
        listener.shed(reply);
    }

    fn connect(&self, to: SocketAddr, by: Tick) -> impl Future<Output = io::Result<UringConn>> {
        conn::connect(self.0.clone(), to, by)
    }

    fn root(&self, path: &Path) -> io::Result<UringDir> {
        files::root(path)
    }

    fn dir(&self, at: &UringDir, name: &str) -> impl Future<Output = io::Result<UringDir>> {
        files::dir(&self.0, at, name)
    }

    fn create_dir(&self, at: &UringDir, name: &str) -> impl Future<Output = io::Result<()>> {
        files::create_dir(&self.0, at, name)
    }

    fn open(&self, at: &UringDir, name: &str, how: Open) -> impl Future<Output = io::Result<UringFile>> {
        files::open(&self.0, at, name, how)
    }

    fn allocate(&self, file: &UringFile, bytes: u64) -> impl Future<Output = io::Result<()>> {
        files::allocate(&self.0, file, bytes)
    }

    fn lock(&self, file: &UringFile) -> io::Result<bool> {
        super::base::files::lock(file.0.as_fd())
    }

    fn size(&self, file: &UringFile) -> io::Result<u64> {
        super::base::files::size(file.0.as_fd())
    }

    fn direct_io(&self, file: &UringFile) -> io::Result<DirectIo> {
        super::base::files::direct_io(file.0.as_fd())
    }

    fn write(
        &self,
        file: &UringFile,
        parts: Vec<Slice>,
        at: u64,
        stable: Stable,
    ) -> impl Future<Output = (io::Result<usize>, Vec<Slice>)> {
        files::write(&self.0, file, parts, at, stable)
    }

    fn read(&self, file: &UringFile, into: Fill, at: u64) -> impl Future<Output = (io::Result<usize>, Fill)> {
        files::read(&self.0, file, into, at)
    }

    fn sync(&self, file: &UringFile) -> impl Future<Output = io::Result<()>> {
        files::sync(&self.0, &file.0)
    }

    fn sync_dir(&self, dir: &UringDir) -> impl Future<Output = io::Result<()>> {
        files::sync(&self.0, &dir.0)
    }

    fn rename(&self, at: &UringDir, from: &str, into: &UringDir, to: &str) -> impl Future<Output = io::Result<()>> {
        files::rename(&self.0, at, from, into, to)
    }

    fn remove(&self, at: &UringDir, name: &str) -> impl Future<Output = io::Result<()>> {
        files::remove(&self.0, at, name)
    }

    async fn list(&self, dir: &UringDir) -> io::Result<Vec<Entry>> {
        super::base::files::list(dir.0.as_fd())
    }

    fn free_bytes(&self, dir: &UringDir) -> io::Result<u64> {
        super::base::files::free_bytes(dir.0.as_fd())
    }

    fn descriptors_max(&self) -> usize {
        super::base::files::descriptors_max()
    }

    fn remote(&self) -> UringRemote {
        self.0.remote.clone()
    }

    fn woken(&self) -> impl Future<Output = ()> {
        remote::woken(self.0.clone())
    }

    fn counts(&self) -> IoCounts {
        self.0.counts()
    }
}
