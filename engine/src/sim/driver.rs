//! The driver of one simulated shard.

use super::conn::SimConn;
use super::disk::{Disk, Fails, Folder};
use super::file::Inode;
use super::net::Listening;
use super::nth::Op;
use super::tasks::locked;
use super::trace::{What, digest};
use super::world::{Shard, WALL_AT_START, World};
use crate::io::driver::{DirectIo, Driver, Entry, IoCounts, Open, Stable};
use crate::sys::slice::{Fill, Slice};
use crate::wire::{Span, Tick, Wall};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// The first wait before a connection is asked for again; it doubles.
const KNOCK_WAIT: Span = Span::seconds(1);
/// What a process is told that it may have open; nothing here holds it to that.
const DESCRIPTORS_MAX: usize = 1_024;

/// One shard's I/O in a simulated world.
#[derive(Clone)]
pub struct Sim {
    pub(super) world: Rc<World>,
    pub(super) shard: Rc<Shard>,
    remote: Remote,
}

/// Wakes a simulated shard.
#[derive(Clone, Default)]
pub struct Remote(Arc<RemoteState>);

#[derive(Default)]
struct RemoteState {
    pending: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl crate::io::driver::Remote for Remote {
    fn wake(&self) {
        self.0.pending.store(true, Ordering::Release);
        if let Some(waker) = locked(&self.0.waker).take() {
            waker.wake();
        }
    }
}

/// A listening socket.
pub struct SimListener {
    world: Rc<World>,
    listening: Rc<Listening>,
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if self.listening.process.is_alive() {
            self.world.net.unlisten(&self.world, &self.listening);
        }
    }
}

/// An open file.
#[derive(Clone)]
pub struct SimFile(Rc<OpenFile>);

struct OpenFile {
    inode: Rc<Inode>,
    is_direct: bool,
    is_writable: bool,
    holds_lock: Cell<bool>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.holds_lock.get() {
            self.inode.locked.set(false);
        }
    }
}

/// How a write ended, once it has.
#[derive(Default)]
struct Outcome {
    result: RefCell<Option<io::Result<usize>>>,
    waker: RefCell<Option<Waker>>,
}

impl Outcome {
    fn tell(&self, result: io::Result<usize>) {
        *self.result.borrow_mut() = Some(result);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn wait(&self) -> io::Result<usize> {
        poll_fn(|context| {
            if let Some(result) = self.result.borrow_mut().take() {
                return Poll::Ready(result);
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Sim {
    pub(super) fn new(world: Rc<World>, shard: Rc<Shard>) -> Self {
        Self { world, shard, remote: Remote::default() }
    }

    fn disk(&self) -> &Rc<Disk> {
        &self.shard.process.machine.disk
    }

    /// Counts an operation; the one that is to fail does.
    fn pass(&self, op: Op) -> io::Result<()> {
        self.shard.process.machine.nth.pass(op)
    }

    /// A step of the disk: it takes its time, then it is done whole, or not at all.
    async fn step<T>(&self, op: Op, act: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        let passed = self.pass(op);
        self.step_counted(op, |disk| passed.and_then(|()| act(disk))).await
    }

    async fn step_counted<T>(&self, op: Op, act: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        self.sleep(self.disk().latency()).await;
        let done = act(self.disk());
        self.world.trace.add(
            self.world.now(),
            What::Disk,
            &[self.disk().machine() as u64, op as u64, u64::from(done.is_ok())],
        );
        done
    }

    /// Begins a write, which ends whatever becomes of the caller.
    fn begin_write(&self, inode: &Rc<Inode>, bytes: Vec<u8>, at: u64, is_stable: bool) -> Rc<Outcome> {
        let outcome = Rc::new(Outcome::default());
        let disk = self.disk().clone();
        let (size, wear) = (bytes.len(), disk.wear.borrow().clone());
        let is_full = at + size as u64 > inode.size() && disk.free() < at + size as u64 - inode.size();
        if is_full {
            outcome.tell(Err(io::ErrorKind::StorageFull.into()));
            return outcome;
        }
        let done = if size > 1 && disk.chance.once_in(wear.short_once_in) { 1 + disk.chance.index(size) } else { size };
        // Direct I/O is short by whole blocks only.
        let done = if done < size { (done / 4096 * 4096).max(size.min(4096)) } else { done };
        let ambush = is_stable.then(|| disk.ambushed()).flatten();
        let is_struck =
            disk.chance.once_in(wear.write_error_once_in) || ambush.as_ref().is_some_and(|it| it.fails.is_some());
        let error = self.pass(Op::Write).err().or_else(|| is_struck.then(refused));
        let fails = error.is_some();
        self.world.trace.add(self.world.now(), What::Written, &[inode.number, at, digest(&bytes), u64::from(fails)]);
        let number = inode.begin(at, bytes);
        let (told, inode) = (outcome.clone(), inode.clone());
        self.world.after(disk.latency(), move |world| {
            if let Some(error) = error {
                let whole = ambush.as_ref().is_some_and(|ambush| ambush.fails == Some(Fails::InWord));
                inode.fail(number, &disk.chance, disk.sector, whole);
                told.tell(Err(error));
            } else {
                inode.finish(number, done, is_stable);
                told.tell(Ok(done));
            }
            if let Some(ambush) = ambush {
                (ambush.springs)(world);
            }
        });
        outcome
    }
}

/// What Linux calls a disk's refusal.
const EIO: i32 = 5;

fn refused() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

impl Driver for Sim {
    type Conn = SimConn;
    type Listener = SimListener;
    type File = SimFile;
    type Dir = Rc<Folder>;
    type Remote = Remote;

    const NAME: &'static str = "sim";

    fn now(&self) -> Tick {
        self.world.now()
    }

    fn precise_now(&self) -> Tick {
        self.world.now()
    }

    fn wall(&self) -> Wall {
        let passed = i64::try_from(self.world.now().0 / 1_000).unwrap_or(i64::MAX);
        Wall(WALL_AT_START.saturating_add(passed).saturating_add(self.shard.process.machine.wall_shift.get()))
    }

    fn random(&self, into: &mut [u8]) {
        self.world.chance.fill(into);
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.shard.tasks.spawn(task);
    }

    fn sleep_until(&self, at: Tick) -> impl Future<Output = ()> {
        let mut armed = false;
        poll_fn(move |context| {
            if self.world.now() >= at {
                return Poll::Ready(());
            }
            if !armed && at != Tick::NEVER {
                armed = true;
                self.world.wake_at(at, context.waker().clone());
            }
            Poll::Pending
        })
    }

    async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn listen(&self, at: SocketAddr) -> io::Result<SimListener> {
        self.pass(Op::Listen)?;
        let listening = self.world.net.listen(at, &self.shard.process)?;
        Ok(SimListener { world: self.world.clone(), listening })
    }

    fn local(&self, listener: &SimListener) -> io::Result<SocketAddr> {
        Ok(listener.listening.at)
    }

    async fn accept(&self, listener: &SimListener) -> io::Result<SimConn> {
        let end = poll_fn(|context| {
            let mut queue = listener.listening.queue.borrow_mut();
            if !queue.is_empty()
                && let Err(error) = self.pass(Op::Accept)
            {
                return Poll::Ready(Err(error));
            }
            if let Some(end) = queue.pop_front() {
                return Poll::Ready(Ok(end));
            }
            *listener.listening.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        });
        Ok(SimConn::new(self.clone(), end.await?))
    }

    fn shed(&self, listener: &SimListener, reply: &[u8]) {
        let end = listener.listening.queue.borrow_mut().pop_front();
        if let Some(end) = end {
            crate::io::driver::Conn::put(&mut SimConn::new(self.clone(), end), reply);
        }
    }

    async fn connect(&self, to: SocketAddr, by: Tick) -> io::Result<SimConn> {
        self.pass(Op::Connect)?;
        let process = &self.shard.process;
        let machine =
            if to.ip().is_loopback() { Some(process.machine.clone()) } else { self.world.machine_at(to.ip()) };
        let machine = machine.ok_or(io::ErrorKind::NetworkUnreachable)?;
        let (us, them) = (process.machine.number(), machine.number());
        let source = if to.ip().is_loopback() { to.ip() } else { process.machine.address() };
        let from = SocketAddr::new(source, process.machine.free_port());
        let mut wait = KNOCK_WAIT;
        loop {
            let delay = self.world.net.delay(&self.world, us == them);
            self.sleep_until((self.now() + delay).min(by)).await;
            let both_ways = self.world.is_open(us, them) && self.world.is_open(them, us);
            if both_ways && self.now() < by {
                let near = self.world.net.arrive_at(&self.world, (process, from), &machine, to);
                // Held by a connection at once: who gives up waiting closes it.
                let conn = near.map(|end| SimConn::new(self.clone(), end));
                self.sleep(self.world.net.delay(&self.world, us == them)).await;
                return conn.ok_or_else(|| io::ErrorKind::ConnectionRefused.into());
            }
            let again = self.now() + wait;
            wait = wait + wait;
            self.sleep_until(again.min(by)).await;
            if self.now() >= by {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    fn root(&self, path: &Path) -> io::Result<Rc<Folder>> {
        self.pass(Op::Folder)?;
        self.disk().root(path)
    }

    async fn dir(&self, at: &Rc<Folder>, name: &str) -> io::Result<Rc<Folder>> {
        self.step(Op::Folder, |_| at.folder(name)).await
    }

    async fn create_dir(&self, at: &Rc<Folder>, name: &str) -> io::Result<()> {
        self.step(Op::MakeFolder, |disk| disk.create_dir(at, name)).await
    }

    async fn open(&self, at: &Rc<Folder>, name: &str, how: Open) -> io::Result<SimFile> {
        let is_direct = matches!(how, Open::Write { direct: true } | Open::Create { direct: true });
        let op = if matches!(how, Open::Create { .. }) { Op::Create } else { Op::Open };
        let inode = self.step(op, |disk| {
            if is_direct && disk.direct_align.is_none() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            if matches!(how, Open::Create { .. }) { disk.create(at, name) } else { at.file(name) }
        });
        let inode = inode.await?;
        let is_writable = how != Open::Read;
        Ok(SimFile(Rc::new(OpenFile { inode, is_direct, is_writable, holds_lock: Cell::new(false) })))
    }

    async fn allocate(&self, file: &SimFile, bytes: u64) -> io::Result<()> {
        self.step(Op::Allocate, |disk| {
            if bytes.saturating_sub(file.0.inode.size()) > disk.free() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.0.inode.extend(bytes);
            Ok(())
        })
        .await
    }

    fn lock(&self, file: &SimFile) -> io::Result<bool> {
        self.pass(Op::Lock)?;
        let is_ours = file.0.holds_lock.get() || !file.0.inode.locked.replace(true);
        file.0.holds_lock.set(is_ours);
        Ok(is_ours)
    }

    fn size(&self, file: &SimFile) -> io::Result<u64> {
        self.pass(Op::Ask)?;
        Ok(file.0.inode.size())
    }

    fn direct_io(&self, _file: &SimFile) -> io::Result<DirectIo> {
        self.pass(Op::Ask)?;
        let align = self.disk().direct_align.unwrap_or(0);
        Ok(DirectIo { memory_align: align, offset_align: align })
    }

    async fn write(
        &self,
        file: &SimFile,
        parts: Vec<Slice>,
        at: u64,
        stable: Stable,
    ) -> (io::Result<usize>, Vec<Slice>) {
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>();
        let align = self.disk().direct_align.map_or(1, u64::from);
        let is_aligned = at.is_multiple_of(align) && (bytes.len() as u64).is_multiple_of(align);
        if !file.0.is_writable || (file.0.is_direct && !is_aligned) {
            return (Err(io::ErrorKind::InvalidInput.into()), parts);
        }
        let written = self.begin_write(&file.0.inode, bytes, at, stable == Stable::Yes).wait().await;
        self.shard.count(|counts| {
            counts.writes += 1;
            counts.stable_writes += u64::from(stable == Stable::Yes);
            counts.written_bytes += written.as_ref().map_or(0, |&written| written as u64);
        });
        (written, parts)
    }

    async fn read(&self, file: &SimFile, mut into: Fill, at: u64) -> (io::Result<usize>, Fill) {
        let read = self.step(Op::Read, |disk| {
            let wear = disk.wear.borrow();
            if disk.chance.once_in(wear.read_error_once_in) {
                return Err(refused());
            }
            let room = into.room();
            let is_short = room > 1 && disk.chance.once_in(wear.short_once_in);
            let most = if is_short { 1 + disk.chance.index(room) } else { room };
            Ok(file.0.inode.read(at, &mut into.spare()[..most.min(room)]))
        });
        let read = read.await;
        if let Ok(count) = &read {
            into.advance(*count);
        }
        (read, into)
    }

    async fn sync(&self, file: &SimFile) -> io::Result<()> {
        let passed = self.pass(Op::Sync);
        self.step_counted(Op::Sync, |disk| {
            let is_struck = disk.chance.once_in(disk.wear.borrow().sync_error_once_in);
            let done = passed.and_then(|()| if is_struck { Err(refused()) } else { Ok(()) });
            match &done {
                Ok(()) => file.0.inode.sync(),
                Err(_) => file.0.inode.fail_sync(&disk.chance, disk.sector),
            }
            done
        })
        .await
    }

    async fn sync_dir(&self, dir: &Rc<Folder>) -> io::Result<()> {
        self.step(Op::SyncFolder, |disk| {
            if disk.chance.once_in(disk.wear.borrow().sync_error_once_in) {
                return Err(refused());
            }
            disk.sync_dir(dir);
            Ok(())
        })
        .await
    }

    async fn rename(&self, at: &Rc<Folder>, from: &str, into: &Rc<Folder>, to: &str) -> io::Result<()> {
        self.step(Op::Rename, |disk| disk.rename(at, from, into, to)).await
    }

    async fn remove(&self, at: &Rc<Folder>, name: &str) -> io::Result<()> {
        self.step(Op::Remove, |disk| disk.remove(at, name)).await
    }

    async fn list(&self, dir: &Rc<Folder>) -> io::Result<Vec<Entry>> {
        self.step(Op::List, |_| Ok(dir.list())).await
    }

    fn descriptors_max(&self) -> usize {
        DESCRIPTORS_MAX
    }

    fn free_bytes(&self, _dir: &Rc<Folder>) -> io::Result<u64> {
        self.pass(Op::Ask)?;
        Ok(self.disk().free())
    }

    fn remote(&self) -> Remote {
        self.remote.clone()
    }

    async fn woken(&self) {
        let state = &self.remote.0;
        poll_fn(|context| {
            if state.pending.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            *locked(&state.waker) = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn counts(&self) -> IoCounts {
        self.shard.counts.get()
    }
}
