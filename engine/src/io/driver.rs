//! The small interface between linear, single-threaded async code and whatever performs its I/O: our own reactor on
//! io_uring, tokio on epoll, tokio-uring, or a simulated world.
//!
//! Everything here happens on one thread. A driver's futures may be dropped at any point unless said otherwise; what
//! the kernel still owns then (a pending write, an aimed chunk) stays alive inside the driver until its completion.
//! Time-outs are events, not dropped futures: the pending receive lives in the connection and is never cut half-way.

pub(crate) use crate::io::base::errno::is_ours;
use crate::sys::slice::{Fill, Slice};
use crate::wire::{Span, Tick, Wall};
use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

/// What a connection has to tell. In this order when several are true: `Note`, `Bytes`/`Filled`, `Room`, `End`/`Broken`,
/// `Deadline`.
#[derive(Debug)]
pub enum Next<R> {
    /// `see` was shown octets and answered this.
    Bytes(R),
    /// The aimed chunk comes back, with so many further octets at its end. Receiving pauses until the next aim or `next`.
    Filled(Fill, usize),
    /// Bits noted since the last call, or-ed. What they mean is read from the shard's state.
    Note(u32),
    /// The octets waiting to be sent fell from above to below [`SEND_ROOM_BYTES`].
    Room,
    /// The peer will send no more (FIN); all it sent was shown. Reported once; notes, room and what is left to show after
    /// a note go on being reported.
    End,
    /// The connection is gone (reset, time-out of the transport). Nothing more will be sent or shown, but for what
    /// arrived before. Reported once.
    Broken(io::ErrorKind),
    /// `by` has passed.
    Deadline,
}

/// At most so many octets wait unsent in a connection before [`Conn::next`] stops showing bytes (the peer does not read
/// its replies, so it is not read from either: M-116). It is no limit on `put` and `push`, which never fail.
pub const SEND_ROOM_BYTES: usize = 256 << 10;

/// At most so many received octets wait unshown in shared buffers before the connection's receive is cancelled.
pub const UNREAD_BYTES: usize = 64 << 10;

/// Wakes a connection's task from elsewhere on its own shard, at no cost when it is already awake.
pub trait Notify: Clone + 'static {
    /// Ors `bits` into what [`Next::Note`] will report. Does nothing when the connection is gone.
    fn note(&self, bits: u32);
}

/// A TCP connection. Dropping it sends what is queued, then FIN, lingers for the peer's FIN for a bounded time (so that a
/// last reply is not lost to a reset), and closes: all without the caller.
pub trait Conn: 'static {
    /// What wakes this connection's task.
    type Handle: Notify;

    /// Waits for the next thing to happen, at the latest until `by`.
    ///
    /// `see` is shown octets received and not yet consumed, in order and in one piece, and says how many it consumed
    /// and what it makes of them. It is called at most once, and only with octets that it has not seen before or after a
    /// note or an aim: what it leaves is shown again, with what arrived behind it, after the next note, or behind what an
    /// aim took of it. At most [`UNREAD_BYTES`] are ever left, and what the driver's shared buffers held when those were
    /// reached.
    ///
    /// Cancel-safe: a dropped future loses nothing.
    fn next<R>(&mut self, by: Tick, see: impl FnOnce(&[u8]) -> (usize, R)) -> impl Future<Output = Next<R>>;

    /// What is received next goes straight into `into`, as far as it has room, and is reported by [`Next::Filled`], which
    /// gives the chunk back, instead of being shown. Octets already received and unshown are copied there first. One aim
    /// is one `Filled`, as soon as any octets stand in the chunk; until then notes, room and deadlines are reported and
    /// the aim holds. To go on, aim again; not to, call `next` without.
    ///
    /// # Panics
    /// When a chunk is already aimed at, or `into` has no room.
    fn aim(&mut self, into: Fill);

    /// Puts `bytes` back in front of what is shown or aimed next: received by aim, but not part of what was aimed at.
    fn give_back(&mut self, bytes: &[u8]);

    /// Queues a copy of `bytes` to be sent at the end of this turn. For commands and replies, not for content.
    fn put(&mut self, bytes: &[u8]);

    /// Queues `slice` to be sent behind what is queued, without a copy. The driver keeps it until the kernel has sent it.
    fn push(&mut self, slice: Slice);

    /// Octets queued and not yet taken by the kernel.
    fn unsent(&self) -> usize;

    /// When the kernel last took octets of what was queued, `Tick(0)` before it did. While the peer takes some, it moves.
    fn sent_at(&self) -> Tick;

    /// When the peer last took octets of what was queued, as far as the system knows; never before [`Conn::sent_at`], which
    /// stands still while a slow peer empties the kernel's own buffers. A system call: for who is about to give up.
    fn taken_at(&self) -> Tick;

    /// From now on `bytes` takes the place of [`SEND_ROOM_BYTES`] on this connection; at least 1.
    fn set_send_room(&mut self, bytes: usize);

    /// From now on no receive is begun that could bring what stands received and unconsumed above `bytes`; 0 pauses
    /// receiving, and ends a receive that would go on by itself. What an aim has room for is its caller's to know. Without a call the driver receives as it likes
    /// ([`UNREAD_BYTES`]), which is cheaper where a connection sends in many small pieces: call it before the first `next`, or
    /// with 0 to pause and `usize::MAX` to go on.
    fn set_receive_room(&mut self, bytes: usize);

    /// Keeps `held` as long as the connection has its descriptor: when it is dropped, until it has sent what is queued, and
    /// lingered. What was kept before is dropped.
    fn keep(&mut self, held: Rc<dyn Any>);

    /// Sends FIN behind what is queued; receiving goes on.
    fn finish(&mut self);

    /// Closes at once, dropping what is queued, with a reset where the system allows it.
    fn abort(self);

    /// The handle that wakes this connection.
    fn handle(&self) -> Self::Handle;

    /// The peer's address.
    fn peer(&self) -> SocketAddr;

    /// Our address of this connection.
    fn local(&self) -> SocketAddr;
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Existing, for reading.
    Read,
    /// Existing, for reading and writing; direct I/O if asked for.
    Write {
        /// Bypass the page cache; needs aligned memory, offsets and lengths.
        direct: bool,
    },
    /// Must not exist; created with mode 0600, for reading and writing.
    Create {
        /// As in `Write`.
        direct: bool,
    },
}

/// What a write's completion means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stable {
    /// The kernel has the octets: they survive the process.
    No,
    /// The octets are on stable storage: they survive the machine (RWF_DSYNC).
    Yes,
}

/// What a file's device asks of direct I/O (STATX_DIOALIGN), or that it cannot do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectIo {
    /// Alignment of memory, in octets; 0 when direct I/O is refused.
    pub memory_align: u32,
    /// Alignment of offset and length, in octets; 0 when direct I/O is refused.
    pub offset_align: u32,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name; entries whose names are not UTF-8 are not listed.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// Counts kept by the I/O layer itself (perf/METHODOLOGY.md, "Cost"). Monotonic since the driver began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoCounts {
    /// System calls made on this shard's thread.
    pub syscalls: u64,
    /// Octets of received or sent data copied in user space by the driver.
    pub copied_bytes: u64,
    /// Octets received.
    pub received_bytes: u64,
    /// Octets sent.
    pub sent_bytes: u64,
    /// Completed file writes. What [`Driver::allocate`] writes to prepare a file is none.
    pub writes: u64,
    /// Of those, with `Stable::Yes`.
    pub stable_writes: u64,
    /// Octets written to files.
    pub written_bytes: u64,
    /// Requests that waited because the kernel's queue for them was full; they are never lost (F-047).
    pub requests_waited: u64,
    /// Turns of the loop behind which more had completed than the queue of completions holds; none is lost (F-046).
    pub completions_overflowed: u64,
    /// Allocations on this shard's thread, whoever made them; 0 in a build without `count-alloc`.
    pub allocations: u64,
}

/// Wakes a driver's thread from any other thread.
pub trait Remote: Clone + Send + Sync + 'static {
    /// Makes the driver's [`Driver::woken`] return, unless it is going to anyway. A system call only if the thread sleeps.
    fn wake(&self);
}

/// One shard's I/O.
pub trait Driver: Clone + 'static {
    /// A connection.
    type Conn: Conn;
    /// A listening socket.
    type Listener: 'static;
    /// An open file. Cheap to clone; closed with the last clone.
    type File: Clone + 'static;
    /// An open folder. Cheap to clone. Names below it never leave it (openat2, RESOLVE_BENEATH without symlinks).
    type Dir: Clone + 'static;
    /// Wakes this driver from elsewhere.
    type Remote: Remote;

    /// The driver's name as `--driver` and results spell it.
    const NAME: &'static str;

    /// Monotonic time at the start of this turn of the loop.
    fn now(&self) -> Tick;
    /// Monotonic time right now: for measuring inside a turn.
    fn precise_now(&self) -> Tick;
    /// Wall-clock time.
    fn wall(&self) -> Wall;
    /// Fills `into` with random octets fit for secrets and ids (S-037).
    fn random(&self, into: &mut [u8]);
    /// Runs `task` on this thread, in the background, until it ends or the driver stops.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// Completes at `at` or soon after.
    fn sleep_until(&self, at: Tick) -> impl Future<Output = ()>;
    /// Completes after `span`.
    fn sleep(&self, span: Span) -> impl Future<Output = ()> {
        self.sleep_until(self.now() + span)
    }
    /// Completes after everything that is ready now has run once.
    fn yield_now(&self) -> impl Future<Output = ()>;

    /// A socket that listens on `at`, with SO_REUSEPORT (one per shard share the port) and TCP_NODELAY inherited.
    fn listen(&self, at: SocketAddr) -> io::Result<Self::Listener>;
    /// The address really bound (port 0 asks the system to choose).
    fn local(&self, listener: &Self::Listener) -> io::Result<SocketAddr>;
    /// The next connection. Out of descriptors is an error of kind `Other` with its errno: the caller pauses (F-038).
    fn accept(&self, listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Conn>>;
    /// Out of descriptors: takes one waiting connection by means of a descriptor kept in reserve, sends it `reply` if that
    /// needs no waiting, and closes it (F-038).
    fn shed(&self, listener: &Self::Listener, reply: &[u8]);
    /// Connects, at the latest by `by` (`TimedOut`).
    fn connect(&self, to: SocketAddr, by: Tick) -> impl Future<Output = io::Result<Self::Conn>>;

    /// Opens a folder by its path; for the roots that configuration names.
    fn root(&self, path: &Path) -> io::Result<Self::Dir>;
    /// Opens the folder `name` below `at`.
    fn dir(&self, at: &Self::Dir, name: &str) -> impl Future<Output = io::Result<Self::Dir>>;
    /// Makes the folder `name` below `at`, mode 0700.
    fn create_dir(&self, at: &Self::Dir, name: &str) -> impl Future<Output = io::Result<()>>;
    /// Opens the file `name` below `at`.
    fn open(&self, at: &Self::Dir, name: &str, how: Open) -> impl Future<Output = io::Result<Self::File>>;
    /// Extends a new file to `bytes` octets that really exist on the device and read as zero.
    fn allocate(&self, file: &Self::File, bytes: u64) -> impl Future<Output = io::Result<()>>;
    /// Takes an exclusive lock on the file for as long as it is open; `false` when another process holds it.
    fn lock(&self, file: &Self::File) -> io::Result<bool>;
    /// Octets in the file.
    fn size(&self, file: &Self::File) -> io::Result<u64>;
    /// What the file asks of direct I/O.
    fn direct_io(&self, file: &Self::File) -> io::Result<DirectIo>;
    /// Writes `parts`, one behind the other, at offset `at`, and gives them back with how many octets were written: possibly
    /// fewer than asked for. The parts stay untouched until the completion, even if the future is dropped.
    fn write(
        &self,
        file: &Self::File,
        parts: Vec<Slice>,
        at: u64,
        stable: Stable,
    ) -> impl Future<Output = (io::Result<usize>, Vec<Slice>)>;
    /// Reads into the free part of `into` from offset `at`; the result counts the octets added: fewer than room at the end
    /// of the file, or for no reason at all.
    fn read(&self, file: &Self::File, into: Fill, at: u64) -> impl Future<Output = (io::Result<usize>, Fill)>;
    /// Everything written to the file, and its size, is on stable storage (fsync).
    fn sync(&self, file: &Self::File) -> impl Future<Output = io::Result<()>>;
    /// The folder's entries are on stable storage.
    fn sync_dir(&self, dir: &Self::Dir) -> impl Future<Output = io::Result<()>>;
    /// Renames `from` below `at` to `to` below `into`, replacing what was there.
    fn rename(&self, at: &Self::Dir, from: &str, into: &Self::Dir, to: &str) -> impl Future<Output = io::Result<()>>;
    /// Removes the file `name`.
    fn remove(&self, at: &Self::Dir, name: &str) -> impl Future<Output = io::Result<()>>;
    /// The folder's entries, sorted by name, without `.` and `..`.
    fn list(&self, dir: &Self::Dir) -> impl Future<Output = io::Result<Vec<Entry>>>;
    /// Octets free for us on the folder's file system.
    fn free_bytes(&self, dir: &Self::Dir) -> io::Result<u64>;
    /// Descriptors that this process may have open, for whatever.
    fn descriptors_max(&self) -> usize;

    /// What wakes this driver from other threads.
    fn remote(&self) -> Self::Remote;
    /// Completes when [`Remote::wake`] was called since the last time it completed. One task waits.
    fn woken(&self) -> impl Future<Output = ()>;
    /// Counts so far.
    fn counts(&self) -> IoCounts;
}
