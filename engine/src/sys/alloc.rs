//! The allocator that counts, each thread by itself: a shard knows its own allocations per message, and no two threads write
//! to one place. Only in a build with `count-alloc` (perf/METHODOLOGY.md, "Cost").

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

thread_local! {
    static HERE: Cell<u64> = const { Cell::new(0) };
}

/// Allocations and growths on this thread so far; 0 where nothing counts.
pub fn allocations_here() -> u64 {
    HERE.get()
}

/// Counts what `A` gives.
#[derive(Debug, Default)]
pub struct Counting<A>(pub A);

fn count() {
    // A thread that is ending has no cell any more; its last allocations are not counted.
    let _gone = HERE.try_with(|count| count.set(count.get().wrapping_add(1)));
}

// SAFETY: every call is handed on unchanged to `A`, which keeps the contract; counting neither allocates nor unwinds: the
// cell is constant-initialized, has no destructor, and `try_with` answers instead of panicking.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { self.0.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { self.0.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { self.0.realloc(at, layout, bytes) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { self.0.dealloc(at, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    fn each_allocation_and_growth_is_counted_once_on_its_thread() {
        let allocator = Counting(System);
        let layout = Layout::from_size_align(64, 8).expect("a layout");
        let here = allocations_here();
        // SAFETY: the layout has a size; what is allocated is grown and freed with its own layouts.
        unsafe {
            let at = allocator.alloc(layout);
            assert!(!at.is_null());
            let at = allocator.realloc(at, layout, 128);
            allocator.dealloc(at, Layout::from_size_align(128, 8).expect("a layout"));
        }
        assert_eq!(allocations_here() - here, 2);
        let there = std::thread::spawn(allocations_here).join().expect("no panic");
        assert!(there <= 2, "another thread has its own count");
    }
}
