//! A descriptor in the care of tokio's epoll.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd` for `interest`, in the runtime that this is called in.
///
/// # Errors
/// When epoll refuses the descriptor, or has no memory for it.
///
/// # Panics
/// Outside a tokio runtime with I/O.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and names the same file until it is dropped; the `AsyncFd` owns it, gives it out by
    // shared reference only, and the standard library's type cannot be closed or exchanged through that.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
