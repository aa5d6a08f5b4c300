//! Memory as the tokio-uring crate takes it: owned by the operation until its completion.

use super::slice::{Fill, Slice};
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use tokio_uring::buf::{IoBuf, IoBufMut};

/// Octets to be sent or written.
pub enum Octets {
    /// A copy.
    Text(Vec<u8>),
    /// A shared window.
    Slice(Slice),
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Octets::Text(text) => text,
            Octets::Slice(slice) => slice,
        }
    }
}

// SAFETY: both variants point to memory on the heap (a vector's, a chunk's) that stays where it is when the value moves,
// is initialised in the stated length, and is not changed while the value lives: a vector in here is never touched again,
// a slice is immutable.
unsafe impl IoBuf for Octets {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }
}

/// The free part of a chunk, to be read into.
pub struct Room {
    fill: Fill,
    start: *mut u8,
    octets: usize,
}

impl Room {
    /// Lends the free part of `fill` out.
    pub fn of(mut fill: Fill) -> Self {
        let spare = fill.spare();
        let (start, octets) = (spare.as_mut_ptr(), spare.len());
        Self { fill, start, octets }
    }

    /// The chunk, not yet advanced by what came.
    pub fn into_fill(self) -> Fill {
        self.fill
    }
}

// SAFETY: the free part of a chunk is initialised memory on the heap that does not move with the `Fill`; the `Fill` alone
// may touch it, is private here, and is left alone until `into_fill`, which ends the lending.
unsafe impl IoBuf for Room {
    fn stable_ptr(&self) -> *const u8 {
        self.start
    }

    fn bytes_init(&self) -> usize {
        self.octets
    }

    fn bytes_total(&self) -> usize {
        self.octets
    }
}

// SAFETY: as above; `stable_mut_ptr` names the same octets as `stable_ptr`. All of them are initialised from the start, so
// there is nothing for `set_init` to note.
unsafe impl IoBufMut for Room {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.start
    }

    unsafe fn set_init(&mut self, _octets: usize) {}
}

/// The descriptor of a socket that tokio-uring owns, for plain system calls.
pub fn socket(stream: &tokio_uring::net::TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream keeps its descriptor open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// The descriptor of a file that tokio-uring owns, for plain system calls.
pub fn file(file: &tokio_uring::fs::File) -> BorrowedFd<'_> {
    // SAFETY: the file keeps its descriptor open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) }
}
