//! io_uring behind safe types: every operation owns the memory that the kernel uses until its completion was reaped.
//!
//! The ring knows nothing of connections or tasks: an operation carries the caller's `user` number and comes back as a
//! [`Done`]. Requests that find the submission queue full wait in order (F-047), and there are no more of them than
//! operations that connections and files have under way; completions are never dropped by the kernel (IORING_FEAT_NODROP
//! is required), so an overflow of the completion queue only costs time (F-046). Both are counted.

use super::outgoing::Outgoing;
pub use super::receive_buffers::Setup;
use super::receive_buffers::{BUFFER_GROUP, Lease, ReceiveBuffers};
use super::slice::{Fill, Slice};
use io_uring::types::{Fd, FsyncFlags, OpenHow, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;

/// Parts of one `sendmsg` or `pwritev`; the rest follows in the next.
const IOVECS_MAX: usize = 512;
/// Octets handed over in one send, which completes when all of them are taken: that a large body moves shows after each.
/// Twice what may wait in a connection before no further small message is queued, so those still leave by one.
const SEND_BYTES_MAX: usize = 512 << 10;
/// An operation's key: its place in the lower bits, its generation above.
const PLACE_BITS: u32 = 32;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
const _: () = assert!(usize::BITS == 64, "a key is a number of 64 bits");

/// Memory that an operation held while it was under way.
pub enum Returned {
    /// None.
    Nothing,
    /// The octets received, in a shared receive buffer: to be dropped soon.
    Lease(Lease),
    /// What was being sent.
    Sent(Box<Sending>),
    /// The chunk received or read into, not yet advanced.
    Fill(Fill),
    /// What was being written.
    Parts(Vec<Slice>),
    /// The descriptor that an accept or open gave: closed with this, unless somebody takes it.
    Descriptor(OwnedFd),
}

/// A completed operation.
pub struct Done {
    /// The caller's number.
    pub user: u64,
    /// The system call's result: a count or descriptor, or a negative errno.
    pub result: i32,
    /// The operation goes on and will complete again (multishot).
    pub more: bool,
    /// Its memory.
    pub returned: Returned,
}

impl Done {
    /// The new descriptor that an accept or open gave; `None` when it failed.
    pub fn into_fd(self) -> Option<OwnedFd> {
        match self.returned {
            Returned::Descriptor(fd) => Some(fd),
            _ => None,
        }
    }
}

/// A gather list in the kernel's hands. Reused, so that sending does not allocate.
pub struct Sending {
    /// What is sent.
    pub out: Outgoing,
    iovecs: Vec<libc::iovec>,
    header: libc::msghdr,
}

struct Writing {
    parts: Vec<Slice>,
    iovecs: Vec<libc::iovec>,
}

/// Keeps memory and descriptors alive that the kernel reads or writes.
enum Held {
    Nothing,
    /// An accept: each result is a new descriptor.
    Accept,
    Send(Box<Sending>),
    Fill(Fill),
    Write(Box<Writing>, Rc<OwnedFd>),
    Read(Fill, #[expect(dead_code, reason = "held open")] Rc<OwnedFd>),
    #[expect(dead_code, reason = "held alive")]
    File(Rc<OwnedFd>),
    Path(Box<Paths>),
    Address(Box<socket2::SockAddr>, #[expect(dead_code, reason = "held open")] Rc<OwnedFd>),
    Counter(Box<u64>, #[expect(dead_code, reason = "held open")] Rc<OwnedFd>),
}

struct Paths {
    /// The result is a new descriptor.
    opens: bool,
    at: Rc<OwnedFd>,
    name: CString,
    into: Option<(Rc<OwnedFd>, CString)>,
    how: OpenHow,
}

struct Op {
    user: u64,
    held: Held,
}

/// One thread's ring.
pub struct Ring {
    ring: IoUring,
    buffers: Rc<ReceiveBuffers>,
    ops: Slab<Op>,
    /// Distinguishes operations that have the same place in `ops`, one after the other: a cancel may wait in the backlog
    /// until its target's place is another's.
    generation: u32,
    /// Entries that found the submission queue full, oldest first.
    backlog: VecDeque<squeue::Entry>,
    #[expect(clippy::vec_box, reason = "the boxes are what is kept: the kernel holds their addresses")]
    spare_sends: Vec<Box<Sending>>,
    #[expect(clippy::vec_box, reason = "as above")]
    spare_writes: Vec<Box<Writing>>,
    syscalls: u64,
    /// Requests that waited in the backlog.
    waited: u64,
    /// Turns behind which the completion queue had overflowed.
    overflows: u64,
    flags: &'static str,
}

impl Ring {
    /// A ring for this thread, with the best set of flags that the kernel takes.
    ///
    /// # Errors
    /// What the kernel said to the plainest attempt: EPERM where io_uring is refused, ENOSYS where it is missing, EINVAL
    /// where something needed (provided buffer rings, 5.19) is too new for it.
    pub fn new(setup: Setup) -> io::Result<Self> {
        let (ring, flags) = Self::build(setup)?;
        if !ring.params().is_feature_nodrop() || !ring.params().is_feature_ext_arg() {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let buffers = ReceiveBuffers::register(&ring, setup)?;
        Ok(Self {
            ring,
            buffers,
            ops: Slab::with_capacity(1024),
            generation: 0,
            backlog: VecDeque::new(),
            spare_sends: Vec::new(),
            spare_writes: Vec::new(),
            syscalls: 0,
            waited: 0,
            overflows: 0,
            flags,
        })
    }

    fn build(setup: Setup) -> io::Result<(IoUring, &'static str)> {
        let builder = || {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(setup.completions).setup_clamp();
            builder
        };
        let full = builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(setup.submissions);
        match full {
            Ok(ring) => return Ok((ring, "single-issuer,defer-taskrun")),
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            Err(_) => {}
        }
        let coop = builder().setup_coop_taskrun().setup_taskrun_flag().build(setup.submissions);
        match coop {
            Ok(ring) => Ok((ring, "coop-taskrun")),
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
            Err(_) => Ok((builder().build(setup.submissions)?, "plain")),
        }
    }

    /// The set-up flags that the kernel took, for logs and results.
    pub fn flags(&self) -> &'static str {
        self.flags
    }

    /// System calls made so far.
    pub fn syscalls(&self) -> u64 {
        self.syscalls
    }

    /// Requests that found the submission queue full and waited, so far (F-047).
    pub fn waited(&self) -> u64 {
        self.waited
    }

    /// Turns behind which more had completed than the completion queue holds, so far (F-046).
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Operations under way.
    pub fn in_flight(&self) -> usize {
        self.ops.len()
    }

    fn begin(&mut self, user: u64, held: Held, entry: impl FnOnce(&mut Held) -> squeue::Entry) -> usize {
        let place = self.ops.insert(Op { user, held });
        self.generation = self.generation.wrapping_add(1);
        let key = place | (self.generation as usize) << PLACE_BITS;
        let entry = entry(&mut self.ops[place].held).user_data(key as u64);
        self.submit_entry(entry);
        key
    }

    fn submit_entry(&mut self, entry: squeue::Entry) {
        // SAFETY: whatever memory the entry points to is owned by its slot in `ops` (or is static), boxed or in a chunk so
        // that it does not move, and is dropped only after the final completion was reaped.
        if !self.backlog.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.waited += 1;
            self.backlog.push_back(entry);
        }
    }

    /// Accepts connections until told otherwise; each completion's result is a new descriptor.
    pub fn accept_many(&mut self, user: u64, listener: BorrowedFd<'_>) -> usize {
        let fd = Fd(listener.as_raw_fd());
        self.begin(user, Held::Accept, |_| opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build())
    }

    /// Receives into shared buffers until told otherwise, or until there are none (ENOBUFS).
    pub fn receive_many(&mut self, user: u64, socket: BorrowedFd<'_>) -> usize {
        let fd = Fd(socket.as_raw_fd());
        self.begin(user, Held::Nothing, |_| opcode::RecvMulti::new(fd, BUFFER_GROUP).build())
    }

    /// Receives once, at most `bytes` octets into one shared buffer.
    pub fn receive_one(&mut self, user: u64, socket: BorrowedFd<'_>, bytes: u32) -> usize {
        let fd = Fd(socket.as_raw_fd());
        self.begin(user, Held::Nothing, |_| {
            let entry = opcode::Recv::new(fd, std::ptr::null_mut(), bytes).buf_group(BUFFER_GROUP).build();
            entry.flags(squeue::Flags::BUFFER_SELECT)
        })
    }

    /// Receives once, into the free part of `fill`.
    pub fn receive_into(&mut self, user: u64, socket: BorrowedFd<'_>, fill: Fill) -> usize {
        let fd = Fd(socket.as_raw_fd());
        self.begin(user, Held::Fill(fill), |held| {
            let Held::Fill(fill) = held else { unreachable!("just stored") };
            let spare = fill.spare();
            opcode::Recv::new(fd, spare.as_mut_ptr(), u32::try_from(spare.len()).unwrap_or(u32::MAX)).build()
        })
    }

    /// Sends the front of `out` (which is left empty).
    pub fn send(&mut self, user: u64, socket: BorrowedFd<'_>, out: &mut Outgoing) -> usize {
        let mut sending = self.spare_sends.pop().unwrap_or_else(|| {
            // SAFETY: all-zero is a valid msghdr: null pointers with zero lengths.
            let header = unsafe { std::mem::zeroed() };
            Box::new(Sending { out: Outgoing::default(), iovecs: Vec::new(), header })
        });
        std::mem::swap(&mut sending.out, out);
        self.send_rest(user, socket, sending)
    }

    /// Sends what is left of a gather list that came back.
    pub fn send_rest(&mut self, user: u64, socket: BorrowedFd<'_>, sending: Box<Sending>) -> usize {
        let fd = Fd(socket.as_raw_fd());
        self.begin(user, Held::Send(sending), |held| {
            let Held::Send(sending) = held else { unreachable!("just stored") };
            let Sending { out, iovecs, header } = &mut **sending;
            iovecs.clear();
            let mut room = SEND_BYTES_MAX;
            for part in out.parts().take(IOVECS_MAX) {
                let part = &part[..part.len().min(room)];
                room -= part.len();
                iovecs.push(iovec(part));
                if room == 0 {
                    break;
                }
            }
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
            if let [only] = iovecs[..] {
                // A reply, most often: no header to copy in.
                let bytes = u32::try_from(only.iov_len).unwrap_or(u32::MAX);
                return opcode::Send::new(fd, only.iov_base.cast(), bytes).flags(flags).build();
            }
            header.msg_iov = iovecs.as_mut_ptr();
            header.msg_iovlen = iovecs.len() as _;
            opcode::SendMsg::new(fd, std::ptr::from_ref(header)).flags(flags as u32).build()
        })
    }

    /// Takes a gather list back for the next send.
    pub fn recycle_send(&mut self, mut sending: Box<Sending>) {
        sending.out.clear();
        if self.spare_sends.len() < 256 {
            self.spare_sends.push(sending);
        }
    }

    /// Connects `socket` to `to`.
    pub fn connect(&mut self, user: u64, socket: &Rc<OwnedFd>, to: SocketAddr) -> usize {
        let fd = Fd(socket.as_raw_fd());
        self.begin(user, Held::Address(Box::new(to.into()), socket.clone()), |held| {
            let Held::Address(address, _) = held else { unreachable!("just stored") };
            opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
        })
    }

    /// Closes a descriptor without waiting.
    pub fn close(&mut self, user: u64, fd: OwnedFd) {
        use std::os::fd::IntoRawFd;
        let fd = Fd(fd.into_raw_fd());
        self.begin(user, Held::Nothing, |_| opcode::Close::new(fd).build());
    }

    /// Asks the kernel to end the operation `key`; it still completes, with ECANCELED or its result.
    pub fn cancel(&mut self, user: u64, key: usize) {
        self.begin(user, Held::Nothing, |_| opcode::AsyncCancel::new(key as u64).build());
    }

    /// Writes `parts` at `at`; durable with its completion when `stable`.
    pub fn write(&mut self, user: u64, file: &Rc<OwnedFd>, parts: Vec<Slice>, at: u64, stable: bool) -> usize {
        let mut writing =
            self.spare_writes.pop().unwrap_or_else(|| Box::new(Writing { parts: Vec::new(), iovecs: Vec::new() }));
        writing.parts = parts;
        self.begin(user, Held::Write(writing, file.clone()), |held| {
            let Held::Write(writing, file) = held else { unreachable!("just stored") };
            let Writing { parts, iovecs } = &mut **writing;
            iovecs.clear();
            iovecs.extend(parts.iter().take(IOVECS_MAX).map(|part| iovec(part)));
            let count = u32::try_from(iovecs.len()).expect("at most IOVECS_MAX");
            opcode::Writev::new(Fd(file.as_raw_fd()), iovecs.as_ptr(), count)
                .offset(at)
                .rw_flags(if stable { libc::RWF_DSYNC } else { 0 })
                .build()
        })
    }

    /// Reads into the free part of `fill` from `at`.
    pub fn read(&mut self, user: u64, file: &Rc<OwnedFd>, fill: Fill, at: u64) -> usize {
        let fd = Fd(file.as_raw_fd());
        self.begin(user, Held::Read(fill, file.clone()), |held| {
            let Held::Read(fill, _) = held else { unreachable!("just stored") };
            let spare = fill.spare();
            opcode::Read::new(fd, spare.as_mut_ptr(), u32::try_from(spare.len()).unwrap_or(u32::MAX)).offset(at).build()
        })
    }

    /// fsync.
    pub fn sync(&mut self, user: u64, file: &Rc<OwnedFd>) -> usize {
        let fd = Fd(file.as_raw_fd());
        self.begin(user, Held::File(file.clone()), |_| opcode::Fsync::new(fd).flags(FsyncFlags::empty()).build())
    }

    /// Reserves `bytes` octets from the start of the file.
    pub fn allocate(&mut self, user: u64, file: &Rc<OwnedFd>, bytes: u64) -> usize {
        let fd = Fd(file.as_raw_fd());
        self.begin(user, Held::File(file.clone()), |_| opcode::Fallocate::new(fd, bytes).build())
    }

    /// Opens `name` below `at`; it never leaves `at` and follows no symbolic link (S-008).
    pub fn open(&mut self, user: u64, at: &Rc<OwnedFd>, name: CString, flags: i32, mode: u32) -> usize {
        let how = OpenHow::new()
            .flags(u64::try_from(flags | libc::O_CLOEXEC).expect("flags are not negative"))
            .mode(u64::from(mode))
            .resolve(libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS);
        self.on_path(user, Paths { opens: true, at: at.clone(), name, into: None, how }, |at, paths| {
            opcode::OpenAt2::new(at, paths.name.as_ptr(), std::ptr::from_ref(&paths.how)).build()
        })
    }

    /// Makes a folder.
    pub fn make_dir(&mut self, user: u64, at: &Rc<OwnedFd>, name: CString, mode: u32) -> usize {
        self.on_path(
            user,
            Paths { opens: false, at: at.clone(), name, into: None, how: OpenHow::new() },
            |at, paths| opcode::MkDirAt::new(at, paths.name.as_ptr()).mode(mode).build(),
        )
    }

    /// Removes a file.
    pub fn remove(&mut self, user: u64, at: &Rc<OwnedFd>, name: CString) -> usize {
        self.on_path(
            user,
            Paths { opens: false, at: at.clone(), name, into: None, how: OpenHow::new() },
            |at, paths| opcode::UnlinkAt::new(at, paths.name.as_ptr()).build(),
        )
    }

    /// Renames, replacing what was there.
    pub fn rename(
        &mut self,
        user: u64,
        (at, name): (&Rc<OwnedFd>, CString),
        (into, to): (&Rc<OwnedFd>, CString),
    ) -> usize {
        let paths = Paths { opens: false, at: at.clone(), name, into: Some((into.clone(), to)), how: OpenHow::new() };
        self.on_path(user, paths, |at, paths| {
            let (into, to) = paths.into.as_ref().map_or((at, paths.name.as_c_str()), |(into, to)| {
                (Fd(into.as_raw_fd()), CStr::from_bytes_with_nul(to.as_bytes_with_nul()).unwrap_or(c""))
            });
            opcode::RenameAt::new(at, paths.name.as_ptr(), into, to.as_ptr()).build()
        })
    }

    fn on_path(&mut self, user: u64, paths: Paths, entry: impl FnOnce(Fd, &Paths) -> squeue::Entry) -> usize {
        self.begin(user, Held::Path(Box::new(paths)), |held| {
            let Held::Path(paths) = held else { unreachable!("just stored") };
            entry(Fd(paths.at.as_raw_fd()), paths)
        })
    }

    /// Reads an event counter once; completes when another thread raised it.
    pub fn read_counter(&mut self, user: u64, counter: &Rc<OwnedFd>) -> usize {
        let fd = Fd(counter.as_raw_fd());
        self.begin(user, Held::Counter(Box::new(0), counter.clone()), |held| {
            let Held::Counter(value, _) = held else { unreachable!("just stored") };
            opcode::Read::new(fd, std::ptr::from_mut(&mut **value).cast(), 8).build()
        })
    }

    /// Hands everything begun to the kernel and, if `wait_ns` is not zero, waits so long for a completion.
    ///
    /// # Errors
    /// What io_uring_enter said, but for interruptions, time-outs and a full completion queue, which are no errors. EBADR
    /// is one: the kernel had no memory to keep a completion in, and nobody knows which.
    pub fn turn(&mut self, wait_ns: u64) -> io::Result<()> {
        loop {
            self.syscalls += 1;
            // Entries that found the queue full go first: nobody may sleep on them.
            let entered = if wait_ns == 0 || !self.backlog.is_empty() {
                // Deferred task work runs only inside the kernel, and only when asked for: the ring's TASKRUN flag says
                // when, and the library asks then.
                self.ring.submitter().submit_with_args(0, &SubmitArgs::new())
            } else {
                let limit = Timespec::new().sec(wait_ns / 1_000_000_000).nsec((wait_ns % 1_000_000_000) as u32);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            };
            match entered {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                    _ => return Err(error),
                },
            }
            self.overflows += u64::from(self.ring.submission().cq_overflow());
            if self.backlog.is_empty() || !self.refill() {
                return Ok(());
            }
        }
    }

    /// Whether entries of the backlog found room and nothing has completed yet that should be looked at first.
    fn refill(&mut self) -> bool {
        let mut moved = false;
        while let Some(entry) = self.backlog.pop_front() {
            // SAFETY: as in `submit_entry`.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                self.backlog.push_front(entry);
                break;
            }
            moved = true;
        }
        moved && self.ring.completion().is_empty()
    }

    /// Hands everything that was asked for to the kernel, and drops what completes meanwhile. Each turn moves some of it,
    /// unless the kernel is out of memory.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.turn(0)?;
        for _ in 0..1000 {
            if self.backlog.is_empty() {
                break;
            }
            while self.reap().is_some() {}
            self.turn(0)?;
        }
        Ok(())
    }

    /// Gives the next completion, if there is one.
    pub fn reap(&mut self) -> Option<Done> {
        let entry = self.ring.completion().next()?;
        let place = usize::try_from(entry.user_data() & PLACE_MASK).expect("32 bits");
        let more = cqueue::more(entry.flags());
        let buffer = cqueue::buffer_select(entry.flags());
        let (user, held) = match &self.ops[place] {
            Op { user, held: Held::Accept } if more => (*user, Held::Accept),
            Op { user, .. } if more => (*user, Held::Nothing),
            _ => {
                let op = self.ops.remove(place);
                (op.user, op.held)
            }
        };
        let opens = matches!(&held, Held::Accept) || matches!(&held, Held::Path(paths) if paths.opens);
        let returned = match (buffer, held) {
            // SAFETY: the result of an accept or open that did not fail is a descriptor that nobody else owns.
            _ if opens && entry.result() >= 0 => Returned::Descriptor(unsafe { OwnedFd::from_raw_fd(entry.result()) }),
            (Some(buffer), _) => Returned::Lease(ReceiveBuffers::lease(&self.buffers, buffer, entry.result())),
            (None, Held::Send(sending)) => Returned::Sent(sending),
            (None, Held::Fill(fill) | Held::Read(fill, _)) => Returned::Fill(fill),
            (None, Held::Write(mut writing, _)) => {
                let parts = std::mem::take(&mut writing.parts);
                if self.spare_writes.len() < 16 {
                    self.spare_writes.push(writing);
                }
                Returned::Parts(parts)
            }
            (None, _) => Returned::Nothing,
        };
        Some(Done { user, result: entry.result(), more, returned })
    }

    /// Shared receive buffers that the kernel has now.
    pub fn free_buffers(&self) -> usize {
        self.buffers.free()
    }
}

fn iovec(part: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
}

impl Drop for Ring {
    /// Ends everything under way and waits for it: the kernel must let go of memory before it is freed.
    fn drop(&mut self) {
        // Descriptors of connections are closed by their owner before; what is left ends by being cancelled.
        let any = io_uring::types::CancelBuilder::any();
        let _ = self.ring.submitter().register_sync_cancel(None, any);
        for _ in 0..1000 {
            while self.reap().is_some() {}
            if self.ops.is_empty() {
                return;
            }
            let _ = self.turn(1_000_000);
        }
        // An operation that cannot be cancelled (a disk that never answers): its memory is leaked, not freed under it.
        std::mem::forget(std::mem::take(&mut self.ops));
        std::mem::forget(self.buffers.clone());
    }
}
