//! The shared receive buffers of one ring: one allocation, lent to the kernel through a ring of entries, and leased to
//! whoever looks at what was received. Small in total, so that they stay in cache (measured: larger pools cost 1.2
//! to 1.3 times); a lease is dropped by the end of the turn, so a slow sender pins nobody else's.

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The buffer group that the entries are registered as.
pub(super) const BUFFER_GROUP: u16 = 0;

/// What the ring was set up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Octets of each shared receive buffer.
    pub buffer_bytes: u32,
    /// How many there are; a power of two.
    pub buffers: u16,
    /// Requests that the submission queue takes between two turns; a power of two. Others wait (F-047).
    pub submissions: u32,
    /// Completions that the completion queue holds; a power of two, not below `submissions`. The kernel keeps others (F-046).
    pub completions: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self { buffer_bytes: 16 << 10, buffers: 128, submissions: 1024, completions: 8192 }
    }
}

/// Octets in a shared receive buffer; dropping it gives the buffer back to the kernel.
pub struct Lease {
    buffers: Rc<ReceiveBuffers>,
    buffer: u16,
    len: u32,
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies inside the allocation (checked by `lease`); the kernel gave this buffer out and gets it
        // back only when this lease, of which there is one, is dropped, so nobody writes it.
        unsafe { std::slice::from_raw_parts(self.buffers.start(self.buffer), self.len as usize) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.buffers.recycle(self.buffer);
    }
}

/// All buffers of one ring.
pub(super) struct ReceiveBuffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    setup: Setup,
    tail: Cell<u16>,
    /// Which buffers the kernel has, and how many.
    lent: RefCell<Vec<bool>>,
    free: Cell<usize>,
}

impl ReceiveBuffers {
    fn layouts(setup: Setup) -> (std::alloc::Layout, std::alloc::Layout) {
        let entries = std::alloc::Layout::from_size_align(usize::from(setup.buffers) * 16, 4096);
        let memory =
            std::alloc::Layout::from_size_align(usize::from(setup.buffers) * setup.buffer_bytes as usize, 4096);
        (entries.expect("small"), memory.expect("small"))
    }

    pub(super) fn register(ring: &IoUring, setup: Setup) -> io::Result<Rc<Self>> {
        assert!(setup.buffers.is_power_of_two() && setup.buffer_bytes > 0, "a buffer ring has 2^n buffers");
        let (entries_layout, memory_layout) = Self::layouts(setup);
        // SAFETY: both layouts have sizes above zero, asserted above.
        let (entries, memory) =
            unsafe { (std::alloc::alloc_zeroed(entries_layout), std::alloc::alloc_zeroed(memory_layout)) };
        let (Some(entries), Some(memory)) = (NonNull::new(entries), NonNull::new(memory)) else {
            std::alloc::handle_alloc_error(memory_layout)
        };
        let lent = RefCell::new(vec![false; usize::from(setup.buffers)]);
        let (tail, free) = (Cell::new(0), Cell::new(0));
        let buffers = Rc::new(Self { entries: entries.cast(), memory, setup, tail, lent, free });
        // SAFETY: the entries are page-aligned, zeroed, as many as said, and live until `Drop`, which runs after the ring
        // has ended every operation (and never when it could not).
        unsafe {
            let entries = buffers.entries.as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(entries, setup.buffers, BUFFER_GROUP, 0)?;
        }
        for buffer in 0..setup.buffers {
            buffers.recycle(buffer);
        }
        Ok(buffers)
    }

    /// The lease that a completion of `result` octets in `buffer` gives.
    pub(super) fn lease(buffers: &Rc<Self>, buffer: u16, result: i32) -> Lease {
        let len = u32::try_from(result).unwrap_or(0);
        assert!(
            buffer < buffers.setup.buffers && len <= buffers.setup.buffer_bytes,
            "a completion names a buffer of ours"
        );
        let lent = std::mem::replace(&mut buffers.lent.borrow_mut()[usize::from(buffer)], false);
        assert!(lent, "the kernel uses only what it was lent");
        buffers.free.set(buffers.free.get() - 1);
        Lease { buffers: buffers.clone(), buffer, len }
    }

    pub(super) fn free(&self) -> usize {
        self.free.get()
    }

    fn start(&self, buffer: u16) -> *const u8 {
        let offset = usize::from(buffer) * self.setup.buffer_bytes as usize;
        // SAFETY: `buffer` is below the count (checked where leases are made), so the offset lies inside the allocation.
        unsafe { self.memory.as_ptr().add(offset).cast_const() }
    }

    fn recycle(&self, buffer: u16) {
        assert!(!std::mem::replace(&mut self.lent.borrow_mut()[usize::from(buffer)], true), "given back once");
        self.free.set(self.free.get() + 1);
        let tail = self.tail.get();
        let slot = usize::from(tail & (self.setup.buffers - 1));
        // SAFETY: the slot lies inside the entries; the kernel reads an entry only after the tail moved past it.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(self.start(buffer) as u64);
            entry.set_len(self.setup.buffer_bytes);
            entry.set_bid(buffer);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail overlays the first entry's reserved field; the kernel reads it concurrently, so it is stored
        // atomically, with the entry before it.
        unsafe {
            let shared = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(shared).store(self.tail.get(), Ordering::Release);
        }
    }
}

impl Drop for ReceiveBuffers {
    fn drop(&mut self) {
        let (entries, memory) = Self::layouts(self.setup);
        // SAFETY: allocated in `register` with these layouts; the ring is gone, so the kernel uses them no more.
        unsafe {
            std::alloc::dealloc(self.entries.as_ptr().cast(), entries);
            std::alloc::dealloc(self.memory.as_ptr(), memory);
        }
    }
}
