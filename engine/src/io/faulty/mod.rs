//! A driver that misbehaves by a script: any driver, wrapped, for the tests of everything above it.
//!
//! What it does to files it really does: a torn write leaves its beginning in the file, a misdirected one lands elsewhere,
//! a lost one leaves nothing. It runs on the shard's thread like every driver; the script ([`Faults`]) may be changed from
//! any thread while it runs.

mod conn;
mod script;
#[cfg(test)]
mod tests;

pub use conn::FaultyConn;
pub use script::{Errno, Fault, Faults, Op, Rule, Seen};

use crate::io::driver::{DirectIo, Driver, Entry, IoCounts, Open, Stable};
use crate::sys::slice::{Fill, Slice};
use crate::wire::{Span, Tick, Wall};
use script::Plan;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

/// How often a held operation looks whether it was released.
const LOOK: Span = Span::millis(1);

/// `D`, with faults.
#[derive(Clone)]
pub struct Faulty<D: Driver> {
    inner: D,
    faults: Faults,
}

/// A file of a faulty driver.
pub struct FaultyFile<D: Driver> {
    inner: D::File,
    place: Rc<Place<D>>,
}

/// Where a file was opened.
struct Place<D: Driver> {
    dir: D::Dir,
    name: String,
    direct: bool,
}

impl<D: Driver> Clone for FaultyFile<D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), place: self.place.clone() }
    }
}

impl<D: Driver> Faulty<D> {
    /// `inner`, which goes wrong as `faults` says.
    pub fn new(inner: D, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// Reports `done` when the plan lets it.
    async fn settle<T>(&self, plan: Plan, done: T) -> T {
        let delay = plan.delay();
        if delay > Span::ZERO {
            self.inner.sleep_until(self.inner.precise_now() + delay).await;
        }
        while self.faults.is_held(&plan) {
            self.inner.sleep(LOOK).await;
        }
        self.faults.report();
        done
    }

    /// One operation that can only fail or be late.
    async fn plain<T>(&self, op: Op, name: &str, act: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let plan = self.faults.begin(op, name);
        let done = match plan.refusal() {
            Ok(()) => plan.outcome(act.await),
            Err(refused) => Err(refused),
        };
        self.settle(plan, done).await
    }

    /// Writes the first `bytes` of `parts`; past the alignment of direct I/O by another way into the same file.
    async fn write_prefix(
        &self,
        file: &FaultyFile<D>,
        parts: &[Slice],
        bytes: usize,
        at: u64,
        stable: Stable,
    ) -> io::Result<usize> {
        let plain = match file.place.direct {
            true => self.inner.open(&file.place.dir, &file.place.name, Open::Write { direct: false }).await?,
            false => file.inner.clone(),
        };
        let mut left = prefix(parts, bytes);
        let mut written = 0;
        while !left.is_empty() {
            let (step, back) = self.inner.write(&plain, left, at + written as u64, stable).await;
            let step = step?;
            if step == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            written += step;
            left = suffix(&back, step);
        }
        Ok(written)
    }

    async fn write_with(
        &self,
        plan: &Plan,
        file: &FaultyFile<D>,
        parts: Vec<Slice>,
        at: u64,
        stable: Stable,
    ) -> (io::Result<usize>, Vec<Slice>) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        match plan.effect {
            Some(Fault::Fails(errno)) => (Err(errno.into()), parts),
            Some(Fault::Lost) => (Ok(bytes), parts),
            Some(Fault::Short(most)) => (self.write_prefix(file, &parts, most.min(bytes), at, stable).await, parts),
            Some(Fault::Torn(most, errno)) => {
                let torn = self.write_prefix(file, &parts, most.min(bytes), at, stable).await;
                (torn.and(Err(errno.into())), parts)
            }
            Some(Fault::Misdirected(by)) => self.inner.write(&file.inner, parts, at.saturating_add(by), stable).await,
            _ => {
                let (done, parts) = self.inner.write(&file.inner, parts, at, stable).await;
                (plan.outcome(done), parts)
            }
        }
    }

    /// Takes back or changes what a read has delivered into the end of `into`.
    fn spoil(plan: &Plan, into: &mut Fill, added: usize, (at, direct): (u64, bool)) -> usize {
        match plan.effect {
            Some(Fault::Short(most)) => {
                into.retreat(added - most.min(added));
                most.min(added)
            }
            Some(Fault::CachedFlips { .. }) if direct => added,
            Some(Fault::Flips { at: place, mask } | Fault::CachedFlips { at: place, mask }) => {
                let start = into.filled() - added;
                let octet = place.checked_sub(at).and_then(|offset| usize::try_from(offset).ok());
                if let Some(octet) = octet.and_then(|offset| into.written_mut()[start..].get_mut(offset)) {
                    *octet ^= mask;
                }
                added
            }
            _ => added,
        }
    }
}

/// The first `bytes` octets of `parts`.
fn prefix(parts: &[Slice], mut bytes: usize) -> Vec<Slice> {
    let mut front = Vec::new();
    for part in parts {
        let step = bytes.min(part.len());
        if step > 0 {
            front.push(part.sub(0..step));
        }
        bytes -= step;
    }
    front
}

/// `parts` without the first `bytes` octets.
fn suffix(parts: &[Slice], mut bytes: usize) -> Vec<Slice> {
    let mut back = Vec::new();
    for part in parts {
        let step = bytes.min(part.len());
        if step < part.len() {
            back.push(part.sub(step..part.len()));
        }
        bytes -= step;
    }
    back
}

impl<D: Driver> Driver for Faulty<D> {
    type Conn = FaultyConn<D>;
    type Listener = D::Listener;
    type File = FaultyFile<D>;
    type Dir = D::Dir;
    type Remote = D::Remote;

    const NAME: &'static str = "faulty";

    fn now(&self) -> Tick {
        self.inner.now()
    }

    fn precise_now(&self) -> Tick {
        self.inner.precise_now()
    }

    fn wall(&self) -> Wall {
        Wall(self.inner.wall().0.saturating_add(self.faults.wall_shift()))
    }

    fn random(&self, into: &mut [u8]) {
        self.inner.random(into);
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.inner.spawn(task);
    }

    fn sleep_until(&self, at: Tick) -> impl Future<Output = ()> {
        self.inner.sleep_until(at)
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        self.inner.yield_now()
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Self::Listener> {
        self.inner.listen(at)
    }

    fn local(&self, listener: &Self::Listener) -> io::Result<SocketAddr> {
        self.inner.local(listener)
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<Self::Conn> {
        let name = self.local(listener).map(|at| at.to_string()).unwrap_or_default();
        let conn = self.plain(Op::Accept, &name, self.inner.accept(listener)).await?;
        Ok(FaultyConn::new(self.inner.clone(), self.faults.clone(), conn))
    }

    fn shed(&self, listener: &Self::Listener, reply: &[u8]) {
        self.inner.shed(listener, reply);
    }

    async fn connect(&self, to: SocketAddr, by: Tick) -> io::Result<Self::Conn> {
        let conn = self.plain(Op::Connect, &to.to_string(), self.inner.connect(to, by)).await?;
        Ok(FaultyConn::new(self.inner.clone(), self.faults.clone(), conn))
    }

    fn root(&self, path: &Path) -> io::Result<Self::Dir> {
        self.inner.root(path)
    }

    async fn dir(&self, at: &Self::Dir, name: &str) -> io::Result<Self::Dir> {
        self.plain(Op::Dir, name, self.inner.dir(at, name)).await
    }

    async fn create_dir(&self, at: &Self::Dir, name: &str) -> io::Result<()> {
        self.plain(Op::CreateDir, name, self.inner.create_dir(at, name)).await
    }

    async fn open(&self, at: &Self::Dir, name: &str, how: Open) -> io::Result<Self::File> {
        let (op, direct) = match how {
            Open::Read => (Op::Open, false),
            Open::Write { direct } => (Op::Open, direct),
            Open::Create { direct } => (Op::Create, direct),
        };
        let inner = self.plain(op, name, self.inner.open(at, name, how)).await?;
        Ok(FaultyFile { inner, place: Rc::new(Place { dir: at.clone(), name: name.to_owned(), direct }) })
    }

    async fn allocate(&self, file: &Self::File, bytes: u64) -> io::Result<()> {
        self.plain(Op::Allocate, &file.place.name, self.inner.allocate(&file.inner, bytes)).await
    }

    fn lock(&self, file: &Self::File) -> io::Result<bool> {
        self.faults.begin(Op::Lock, &file.place.name).refusal()?;
        self.inner.lock(&file.inner)
    }

    fn size(&self, file: &Self::File) -> io::Result<u64> {
        self.inner.size(&file.inner)
    }

    fn direct_io(&self, file: &Self::File) -> io::Result<DirectIo> {
        self.inner.direct_io(&file.inner)
    }

    async fn write(
        &self,
        file: &Self::File,
        parts: Vec<Slice>,
        at: u64,
        stable: Stable,
    ) -> (io::Result<usize>, Vec<Slice>) {
        let op = if stable == Stable::Yes { Op::StableWrite } else { Op::Write };
        let plan = self.faults.begin(op, &file.place.name);
        let done = self.write_with(&plan, file, parts, at, stable).await;
        self.settle(plan, done).await
    }

    async fn read(&self, file: &Self::File, into: Fill, at: u64) -> (io::Result<usize>, Fill) {
        let plan = self.faults.begin(Op::Read, &file.place.name);
        let done = match plan.refusal() {
            Err(refused) => (Err(refused), into),
            Ok(()) => {
                let (added, mut into) = self.inner.read(&file.inner, into, at).await;
                let added =
                    plan.outcome(added.map(|added| Self::spoil(&plan, &mut into, added, (at, file.place.direct))));
                (added, into)
            }
        };
        self.settle(plan, done).await
    }

    async fn sync(&self, file: &Self::File) -> io::Result<()> {
        self.plain(Op::Sync, &file.place.name, self.inner.sync(&file.inner)).await
    }

    async fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()> {
        self.plain(Op::SyncDir, "", self.inner.sync_dir(dir)).await
    }

    async fn rename(&self, at: &Self::Dir, from: &str, into: &Self::Dir, to: &str) -> io::Result<()> {
        self.plain(Op::Rename, from, self.inner.rename(at, from, into, to)).await
    }

    async fn remove(&self, at: &Self::Dir, name: &str) -> io::Result<()> {
        self.plain(Op::Remove, name, self.inner.remove(at, name)).await
    }

    async fn list(&self, dir: &Self::Dir) -> io::Result<Vec<Entry>> {
        self.plain(Op::List, "", self.inner.list(dir)).await
    }

    fn descriptors_max(&self) -> usize {
        self.inner.descriptors_max()
    }

    fn free_bytes(&self, dir: &Self::Dir) -> io::Result<u64> {
        match self.faults.begin(Op::FreeBytes, "").effect {
            Some(Fault::Fails(_)) => Ok(0),
            _ => self.inner.free_bytes(dir),
        }
    }

    fn remote(&self) -> Self::Remote {
        self.inner.remote()
    }

    fn woken(&self) -> impl Future<Output = ()> {
        self.inner.woken()
    }

    fn counts(&self) -> IoCounts {
        self.inner.counts()
    }
}
