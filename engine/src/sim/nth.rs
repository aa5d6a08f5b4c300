//! "Fail the n-th operation" (F-184): whatever a machine's processes ask of their kernel is counted, and one of it fails, with
//! an errno that it can give.

use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, ECONNREFUSED, ECONNRESET, EDQUOT, EFBIG, EHOSTUNREACH, EIO, EMFILE, ENETUNREACH,
    ENFILE, ENOBUFS, ENOLCK, ENOMEM, ENOSPC, EPIPE, EROFS, ETIMEDOUT,
};
use std::cell::Cell;
use std::io;

/// What can be asked of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// To open a folder.
    Folder,
    /// To make one.
    MakeFolder,
    /// To open a file that is there.
    Open,
    /// To create one.
    Create,
    /// To extend it.
    Allocate,
    /// To read.
    Read,
    /// To write.
    Write,
    /// To make a file stable.
    Sync,
    /// To make a folder stable.
    SyncFolder,
    /// To rename.
    Rename,
    /// To remove a file.
    Remove,
    /// To list a folder.
    List,
    /// To lock a file.
    Lock,
    /// What is known of a file or its file system: size, alignment, room.
    Ask,
    /// To listen.
    Listen,
    /// To take a connection.
    Accept,
    /// To make one.
    Connect,
    /// To send.
    Send,
    /// To receive.
    Receive,
}

impl Op {
    /// What it can answer on Linux. EINTR and EAGAIN stand in none: drivers ask again themselves (`io::base::errno`).
    pub fn errnos(self) -> &'static [i32] {
        match self {
            Op::Folder | Op::Open => &[EIO, EACCES, EMFILE, ENFILE, ENOMEM],
            Op::MakeFolder | Op::Create => &[EIO, EACCES, EDQUOT, EMFILE, ENFILE, ENOMEM, ENOSPC, EROFS],
            Op::Allocate => &[EIO, EDQUOT, EFBIG, ENOSPC],
            Op::Read => &[EIO, ENOMEM],
            Op::Write => &[EIO, EDQUOT, EFBIG, ENOMEM, ENOSPC],
            Op::Sync | Op::SyncFolder => &[EIO, EDQUOT, ENOSPC, EROFS],
            Op::Rename => &[EIO, EACCES, EDQUOT, ENOMEM, ENOSPC, EROFS],
            Op::Remove => &[EIO, EACCES, ENOMEM, EROFS],
            Op::List => &[EIO, ENOMEM],
            Op::Lock => &[EIO, ENOLCK],
            Op::Ask => &[EIO, ENOMEM],
            Op::Listen => &[EADDRINUSE, EMFILE, ENFILE, ENOBUFS, ENOMEM],
            Op::Accept => &[EMFILE, ENFILE, ENOBUFS, ENOMEM],
            Op::Connect => &[
                EADDRNOTAVAIL,
                ECONNREFUSED,
                ECONNRESET,
                EHOSTUNREACH,
                EMFILE,
                ENETUNREACH,
                ENFILE,
                ENOBUFS,
                ENOMEM,
                ETIMEDOUT,
            ],
            Op::Send => &[ECONNRESET, EHOSTUNREACH, EPIPE, ETIMEDOUT],
            Op::Receive => &[ECONNRESET, EHOSTUNREACH, ETIMEDOUT],
        }
    }
}

/// What is to fail on a machine.
#[derive(Debug, Default)]
pub struct Nth {
    /// So many pass before it, and which of its errnos it gives.
    laid: Cell<Option<(u64, usize)>>,
    met: Cell<Option<Op>>,
}

impl Nth {
    /// So many operations pass; the next gives one of its errnos: this one, counted round and round.
    pub fn lay(&self, passing: u64, errno: usize) {
        self.laid.set(Some((passing, errno)));
        self.met.set(None);
    }

    /// Nothing lies in wait any more.
    pub fn lift(&self) {
        self.laid.set(None);
    }

    /// What failed of late.
    pub fn met(&self) -> Option<Op> {
        self.met.get()
    }

    /// Counts an operation.
    ///
    /// # Errors
    /// It is the one that fails.
    pub(super) fn pass(&self, op: Op) -> io::Result<()> {
        let Some((passing, errno)) = self.laid.get() else { return Ok(()) };
        self.laid.set(passing.checked_sub(1).map(|passing| (passing, errno)));
        if passing > 0 {
            return Ok(());
        }
        self.met.set(Some(op));
        let errnos = op.errnos();
        Err(io::Error::from_raw_os_error(errnos[errno % errnos.len()]))
    }
}
