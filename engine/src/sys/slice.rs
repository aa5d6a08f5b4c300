//! Leased memory: aligned chunks, the one place that may write into a part of them ([`Fill`]), and shared, immutable
//! windows onto what was written ([`Slice`]).
//!
//! A chunk is at once the source of the disk write and the source of delivery, so its memory is aligned for direct I/O
//! and never moves. A `Fill` owns a range of it exclusively and hands the written front part out as `Slice`s; the ranges
//! of one chunk that a `Fill` and its `Slice`s cover never overlap, which is what makes sharing sound. Memory goes back
//! to its [`Pool`] when the last window closes, on whatever thread that happens.
//!
//! Bounds: a pool charges every octet that it took from the allocator, leased or cached, to its [`Budget`] and answers
//! `None` beyond it: that is flow control, not an error. What is cached, in whatever pool of the budget, gives way before
//! that, so `None` means that leases leave less than that of it. What stands outside chunks and may be much is charged to it too
//! ([`Charge`]).

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Alignment of every chunk in memory, and of every batch on disk, in octets: the largest logical block that direct I/O
/// asks for on the devices in use.
pub const BLOCK_BYTES: usize = 4096;

/// Sizes of chunks in octets, smallest first. A lease pins a whole chunk, whatever part of it is used.
pub const CHUNK_CLASSES: [usize; 8] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20];

/// How many free chunks of each class a pool keeps for reuse; the rest goes back to the allocator. What all pools keep counts
/// as held by the budget that they share, and is taken from whomever has it where somebody lacks it.
const CACHED_CHUNKS: [usize; 8] = [1024, 512, 512, 256, 256, 256, 64, 16];

/// Pools that count what they lease each on a cache line of its own; beyond them some share one.
const COUNTS: usize = 64;

/// What one pool has leased: as it is, and as the budget was told last.
#[derive(Debug, Default)]
struct Count {
    bytes: AtomicUsize,
    told: AtomicUsize,
}

/// Octets of content memory that a set of pools may take from the allocator, and how many are in use. A lease out of a
/// pool's cache writes to what is the pool's own; what all have leased is brought up to date in steps of a 1024th of the
/// limit.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    held_bytes: CachePadded<AtomicUsize>,
    leased_bytes: CachePadded<AtomicUsize>,
    pools: AtomicUsize,
    counts: [CachePadded<Count>; COUNTS],
    caches: OnceLock<Box<Caches>>,
    denials: AtomicUsize,
}

/// What a pool keeps for reuse, and behind it what pools keep that were made later. Only grows: pools are few.
#[derive(Debug)]
struct Caches {
    homes: Weak<Homes>,
    next: OnceLock<Box<Caches>>,
}

impl Budget {
    /// A budget of `limit_bytes` octets.
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            held_bytes: CachePadded::default(),
            leased_bytes: CachePadded::default(),
            pools: AtomicUsize::new(0),
            counts: std::array::from_fn(|_| CachePadded::default()),
            caches: OnceLock::new(),
            denials: AtomicUsize::new(0),
        })
    }

    /// The most that may be held.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Octets pinned by leases now, or charged.
    pub fn leased_bytes(&self) -> usize {
        self.counts.iter().map(|count| count.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Octets taken from the allocator: leased, or cached for reuse.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// How often there was no chunk for somebody, so far: whoever asked waits, and reads nothing meanwhile.
    pub fn denials(&self) -> usize {
        self.denials.load(Ordering::Relaxed)
    }

    /// Leased octets in hundredths of the limit, rounded down (F-040 acts on it), but for a 1024th of it for each pool.
    pub fn percent(&self) -> u32 {
        // Counts that are told on two threads at once may be told in another order: below nothing is nothing.
        let leased = self.leased_bytes.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned();
        u32::try_from(leased.saturating_mul(100) / self.limit_bytes.max(1)).unwrap_or(u32::MAX)
    }

    /// A pool has leased so many octets more or, modulo 2^64, less.
    fn count(&self, pool: usize, change: usize) {
        let count = &self.counts[pool];
        let now = count.bytes.fetch_add(change, Ordering::Relaxed).wrapping_add(change);
        if now.abs_diff(count.told.load(Ordering::Relaxed)) > self.limit_bytes / 1024 {
            let told = count.told.swap(now, Ordering::Relaxed);
            self.leased_bytes.fetch_add(now.wrapping_sub(told), Ordering::Relaxed);
        }
    }

    /// What does not fit is never counted, not for an instant: it would deny another what fits.
    fn try_hold(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.limit_bytes);
        self.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// The same; free chunks give way, `own` ones before those of other pools. An idle shard does nothing for that.
    #[inline(never)]
    fn try_hold_for(&self, own: &Homes, bytes: usize) -> bool {
        let gives_way = |homes: &Homes| homes.iter().rev().any(|home| self.takes_from(home, bytes));
        self.try_hold(bytes) || gives_way(own) || self.caches().any(|homes| gives_way(&homes))
    }

    /// Hands free chunks back to the allocator until so many octets fit.
    fn takes_from(&self, home: &Home, bytes: usize) -> bool {
        while let Some(chunk) = home.pop() {
            drop(chunk);
            if self.try_hold(bytes) {
                return true;
            }
        }
        false
    }

    /// What pools keep that there still are.
    fn caches(&self) -> impl Iterator<Item = Arc<Homes>> {
        std::iter::successors(self.caches.get(), |caches| caches.next.get()).filter_map(|caches| caches.homes.upgrade())
    }

    fn enlist(&self, homes: &Arc<Homes>) {
        let mut new = Box::new(Caches { homes: Arc::downgrade(homes), next: OnceLock::new() });
        let mut end = &self.caches;
        while let Err(back) = end.set(new) {
            new = back;
            end = &end.get().expect("it was set already").next;
        }
    }
}

/// One aligned block of memory. It frees itself.
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    budget: Arc<Budget>,
}

// SAFETY: `Memory` is the sole owner of its allocation; moving the owner to another thread moves nothing else.
unsafe impl Send for Memory {}
// SAFETY: nothing is reachable through `&Memory` but its address and length; who may read or write which range is decided
// by `Fill` (exclusive) and `Slice` (shared, immutable), whose ranges never overlap.
unsafe impl Sync for Memory {}

impl Memory {
    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, BLOCK_BYTES).expect("chunk classes are small multiples of the block")
    }

    fn allocate(bytes: usize, budget: &Arc<Budget>) -> Self {
        let layout = Self::layout(bytes);
        assert!(layout.size() > 0, "a chunk has octets");
        // SAFETY: the layout has a size above zero, asserted above.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, bytes, budget: budget.clone() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this very layout and is freed once, by its only owner.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) };
        self.budget.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where free chunks of one class wait to be leased again, each with its count of references.
type Home = ArrayQueue<Arc<Chunk>>;

/// Those of a pool, one for each class.
type Homes = [Arc<Home>; CHUNK_CLASSES.len()];

/// Memory of a pool's class: on loan, or at home.
struct Chunk {
    memory: Option<Memory>,
    /// Where it returns; `None`: it is there.
    home: Option<Arc<Home>>,
    /// Where the budget counts it.
    count: usize,
}

impl Chunk {
    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("only drop takes the memory")
    }

    /// The loan is over. `None`: there was none.
    fn give_back(&mut self) -> Option<Arc<Home>> {
        let home = self.home.take()?;
        self.memory().budget.count(self.count, self.memory().bytes.wrapping_neg());
        Some(home)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // The last two windows were closed at once, on two threads, and neither saw that it was the last.
        if let Some(home) = self.give_back() {
            let (memory, count) = (self.memory.take(), self.count);
            drop(home.push(Arc::new(Chunk { memory, home: None, count })));
        }
    }
}

/// One of those who hold a leased chunk. The last one brings it home as it is, so that the next lease allocates nothing.
#[derive(Clone)]
struct Lease(Option<Arc<Chunk>>);

impl Deref for Lease {
    type Target = Chunk;

    fn deref(&self) -> &Chunk {
        self.0.as_ref().expect("only drop takes the chunk")
    }
}

impl Lease {
    fn is(&self, other: &Self) -> bool {
        std::ptr::eq(&raw const **self, &raw const **other)
    }
}

/// Brings a chunk home that nobody else holds.
#[inline(never)]
fn come_home(mut chunk: Arc<Chunk>) {
    if let Some(home) = Arc::get_mut(&mut chunk).and_then(Chunk::give_back) {
        // A full cache hands the memory back to the allocator.
        drop(home.push(chunk));
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        // A look before the question, which writes.
        if let Some(chunk) = self.0.take()
            && Arc::strong_count(&chunk) == 1
        {
            come_home(chunk);
        }
    }
}

/// A pool of chunks in a few sizes. Cheap to clone; clones share the cache and the budget.
#[derive(Clone)]
pub struct Pool {
    homes: Arc<Homes>,
    budget: Arc<Budget>,
    count: usize,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty pool that charges `budget`.
    pub fn new(budget: Arc<Budget>) -> Self {
        let count = budget.pools.fetch_add(1, Ordering::Relaxed) % COUNTS;
        let homes = Arc::new(CACHED_CHUNKS.map(|cached| Arc::new(ArrayQueue::new(cached))));
        budget.enlist(&homes);
        Self { homes, budget, count }
    }

    /// The budget that is charged.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A chunk of the smallest class that holds `bytes` octets, or of the largest class when none does: the caller goes
    /// on with another chunk behind it. `None` when the budget does not allow it now.
    pub fn fill(&self, bytes: usize) -> Option<Fill> {
        let class = CHUNK_CLASSES.iter().position(|&size| size >= bytes).unwrap_or(CHUNK_CLASSES.len() - 1);
        let mut chunk = self.homes[class].pop().or_else(|| self.take_from_allocator(CHUNK_CLASSES[class]))?;
        let bytes = chunk.memory().bytes;
        self.budget.count(self.count, bytes);
        let alone = Arc::get_mut(&mut chunk).expect("nobody holds what is at home");
        (alone.home, alone.count) = (Some(self.homes[class].clone()), self.count);
        let end = u32::try_from(bytes).expect("chunk classes are below 4 GiB");
        Some(Fill { chunk: Lease(Some(chunk)), taken: 0, at: 0, cap: end, end })
    }

    fn take_from_allocator(&self, bytes: usize) -> Option<Arc<Chunk>> {
        if !self.budget.try_hold_for(&self.homes, bytes) {
            self.budget.denials.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let memory = Some(Memory::allocate(bytes, &self.budget));
        Some(Arc::new(Chunk { memory, home: None, count: self.count }))
    }
}

/// Octets that stand outside chunks: of the budget they take what a lease of as many would. Dropped, they are gone.
#[derive(Debug)]
pub struct Charge {
    pool: Pool,
    bytes: usize,
}

impl Charge {
    /// Of nothing yet, where `pool` charges what it leases.
    pub fn new(pool: &Pool) -> Self {
        Self { pool: pool.clone(), bytes: 0 }
    }

    /// So many octets are there now, whether the budget allows it or not.
    #[inline]
    pub fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.change(bytes);
        }
    }

    /// The same; `false`: the budget does not allow it now, and nothing has changed.
    pub fn try_set(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let budget = &self.pool.budget;
        let fits = more == 0 || budget.try_hold_for(&self.pool.homes, more);
        if fits {
            budget.held_bytes.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
            budget.count(self.pool.count, bytes.wrapping_sub(self.bytes));
            self.bytes = bytes;
        }
        fits
    }

    #[inline(never)]
    fn change(&mut self, bytes: usize) {
        if !self.try_set(bytes) {
            let more = bytes - self.bytes;
            self.pool.budget.held_bytes.fetch_add(more, Ordering::Relaxed);
            self.pool.budget.count(self.pool.count, more);
            self.bytes = bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The exclusive right to write a range of a chunk, front to back.
///
/// `[taken, at)` is written and not yet handed out, `[at, cap)` is free, `[cap, end)` is free but not to be used now.
pub struct Fill {
    chunk: Lease,
    taken: u32,
    at: u32,
    cap: u32,
    end: u32,
}

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fill({}..{} of {})", self.taken, self.at, self.cap)
    }
}

impl Fill {
    /// Octets that still fit.
    pub fn room(&self) -> usize {
        (self.cap - self.at) as usize
    }

    /// Octets written and not yet taken.
    pub fn filled(&self) -> usize {
        (self.at - self.taken) as usize
    }

    /// Octets written and not yet taken, for reading.
    pub fn written(&self) -> &[u8] {
        // SAFETY: `[taken, at)` lies inside the chunk, was initialised, and is covered by no other `Fill` or `Slice`.
        unsafe { std::slice::from_raw_parts(self.base().add(self.taken as usize), self.filled()) }
    }

    /// The same, for changing in place (a length that is known only at the end, a stuffed dot to close up).
    pub fn written_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `written`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.base().add(self.taken as usize), self.filled()) }
    }

    /// The free part. It holds zeros or old content, never uninitialised memory: what is not overwritten must be padded
    /// before it is written anywhere.
    pub fn spare(&mut self) -> &mut [u8] {
        // SAFETY: `[at, cap)` lies inside the chunk, was initialised when allocated, is covered by no `Slice`, and
        // `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.base().add(self.at as usize), self.room()) }
    }

    /// Declares the first `bytes` octets of the free part written.
    ///
    /// # Panics
    /// When fewer octets are free.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.room(), "a fill is advanced past its end");
        self.at += u32::try_from(bytes).expect("bounded by room");
    }

    /// Takes the last `bytes` written octets back into the free part.
    ///
    /// # Panics
    /// When fewer octets are written and untaken.
    pub fn retreat(&mut self, bytes: usize) {
        assert!(bytes <= self.filled(), "a fill retreats past what was taken");
        self.at -= u32::try_from(bytes).expect("bounded by filled");
    }

    /// Copies as much of `bytes` as fits; returns how much.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.spare()[..count].copy_from_slice(&bytes[..count]);
        self.advance(count);
        count
    }

    /// Zeroes up to the next multiple of `align` octets, counted from the chunk's start, beyond a limit if there is one.
    /// Returns the octets added.
    #[inline]
    pub fn pad_to(&mut self, align: usize) -> usize {
        self.unlimit();
        let at = self.at as usize;
        let gap = (at.next_multiple_of(align) - at).min(self.room());
        self.spare()[..gap].fill(0);
        self.advance(gap);
        gap
    }

    /// Hands out what was written since the last time.
    pub fn take(&mut self) -> Slice {
        let slice = Slice { chunk: self.chunk.clone(), off: self.taken, len: self.at - self.taken };
        self.taken = self.at;
        slice
    }

    /// Splits the first `bytes` free octets off as a `Fill` of their own, to be written later (a header in front of what
    /// is not known yet). Nothing may be written and untaken.
    ///
    /// # Panics
    /// When something is untaken, or fewer octets are free.
    pub fn reserve(&mut self, bytes: usize) -> Fill {
        assert!(self.taken == self.at, "what is written comes before a reservation");
        assert!(bytes <= self.room(), "a reservation fits");
        let end = self.at + u32::try_from(bytes).expect("bounded by room");
        let front = Fill { chunk: self.chunk.clone(), taken: self.at, at: self.at, cap: end, end };
        self.taken = end;
        self.at = end;
        front
    }

    /// Keeps the free part beyond `bytes` octets from being written or received into, until [`Fill::unlimit`].
    pub fn limit(&mut self, bytes: usize) {
        self.unlimit();
        let bytes = u32::try_from(bytes.min(self.room())).expect("bounded by room");
        self.cap = self.at + bytes;
    }

    /// The whole free part may be used again.
    pub fn unlimit(&mut self) {
        self.cap = self.end;
    }

    /// Octets of the whole chunk: what this lease costs the budget.
    pub fn pinned_bytes(&self) -> usize {
        self.chunk.memory().bytes
    }

    fn base(&self) -> *mut u8 {
        self.chunk.memory().start.as_ptr()
    }
}

/// A shared, immutable window onto written memory. Cloning counts a reference.
#[derive(Clone)]
pub struct Slice {
    chunk: Lease,
    off: u32,
    len: u32,
}

impl Slice {
    /// The part `range` of this window.
    ///
    /// # Panics
    /// When the range does not lie inside.
    pub fn sub(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.len as usize, "a sub-slice lies inside its slice");
        let start = u32::try_from(range.start).expect("bounded by len");
        let len = u32::try_from(range.end - range.start).expect("bounded by len");
        Slice { chunk: self.chunk.clone(), off: self.off + start, len }
    }

    /// Octets of the whole chunk that this window keeps alive.
    pub fn pinned_bytes(&self) -> usize {
        self.chunk.memory().bytes
    }

    /// Whether both windows lie in the same chunk and `next` begins where `self` ends.
    pub fn is_followed_by(&self, next: &Slice) -> bool {
        self.chunk.is(&next.chunk) && self.off + self.len == next.off
    }

    /// Both as one window.
    ///
    /// # Panics
    /// Unless `is_followed_by`.
    #[inline]
    pub fn join(&self, next: &Slice) -> Slice {
        assert!(self.is_followed_by(next), "only neighbours join");
        Slice { chunk: self.chunk.clone(), off: self.off, len: self.len + next.len }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies inside the chunk (constructed so, and `sub` asserts it), was written before the slice was
        // handed out, and no `Fill` covers it any more, so nobody writes it while it is shared.
        unsafe {
            std::slice::from_raw_parts(
                self.chunk.memory().start.as_ptr().add(self.off as usize).cast_const(),
                self.len as usize,
            )
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({}+{})", self.off, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(limit: usize) -> Pool {
        Pool::new(Budget::new(limit))
    }

    #[test]
    fn what_was_taken_stays_while_the_rest_is_written() {
        let mut fill = pool(1 << 20).fill(100).expect("within budget");
        fill.put(b"first");
        let first = fill.take();
        fill.put(b"second");
        let second = fill.take();
        assert_eq!((&*first, &*second), (&b"first"[..], &b"second"[..]));
        assert!(first.is_followed_by(&second));
        assert_eq!(&*first.join(&second), b"firstsecond");
        assert_eq!(&*second.sub(1..3), b"ec");
    }

    #[test]
    fn a_reserved_head_is_written_after_its_body() {
        let mut fill = pool(1 << 20).fill(100).expect("within budget");
        let mut head = fill.reserve(4);
        fill.put(b"body");
        let body = fill.take();
        head.put(b"head");
        assert_eq!(head.room(), 0);
        assert_eq!(&*head.take().join(&body), b"headbody");
    }

    #[test]
    fn padding_is_zero_even_in_reused_memory() {
        let pool = pool(4096);
        let mut fill = pool.fill(4096).expect("within budget");
        fill.spare().fill(b'x');
        drop(fill);
        let mut fill = pool.fill(4096).expect("reused");
        fill.put(b"short");
        fill.pad_to(BLOCK_BYTES);
        let block = fill.take();
        assert_eq!(block.len(), BLOCK_BYTES);
        assert!(block[5..].iter().all(|&octet| octet == 0));
    }

    #[test]
    fn the_budget_is_never_exceeded_and_comes_back() {
        let pool = pool(8192);
        let (one, two) = (pool.fill(1).expect("fits"), pool.fill(1).expect("fits"));
        assert!(pool.fill(1).is_none());
        assert_eq!(pool.budget().percent(), 100);
        drop((one, two));
        assert_eq!(pool.budget().leased_bytes(), 0);
        // The cache of one class makes room for another.
        let pool = Pool::new(Budget::new(16 << 10));
        drop(pool.fill(1).expect("fits"));
        assert!(pool.fill(16 << 10).is_some());
    }

    #[test]
    fn f_040_what_one_pool_keeps_for_reuse_starves_no_other() {
        let budget = Budget::new(16 << 20);
        let [idle, busy] = [(); 2].map(|()| Pool::new(budget.clone()));
        // All the memory there is, in chunks of several sizes, comes home to the pool of a shard that has nothing to do now.
        let sizes = [1 << 20, 256 << 10, 64 << 10, 4 << 10];
        let held: Vec<_> = sizes.iter().flat_map(|&bytes| [bytes; 10]).map(|bytes| idle.fill(bytes)).collect();
        drop(held);
        assert!(budget.held_bytes() > 10 << 20, "{} octets at home", budget.held_bytes());
        let held: Vec<Fill> = std::iter::from_fn(|| busy.fill(1 << 20)).collect();
        assert_eq!((held.len(), budget.percent(), budget.held_bytes()), (16, 100, 16 << 20));
        assert!(idle.fill(1).is_none(), "never more than the budget");
        // Pools that are gone keep nothing, and no more is taken from a cache than is wanted.
        drop((held, busy));
        assert_eq!(budget.held_bytes(), 0);
        drop([(); 16].map(|()| idle.fill(1 << 20)));
        let late = Pool::new(budget.clone());
        let small = late.fill(1).expect("what is free gives way");
        assert_eq!(budget.held_bytes(), (15 << 20) + small.pinned_bytes());
    }

    #[test]
    fn f_040_what_stands_outside_chunks_is_charged_like_a_lease() {
        let budget = Budget::new(64 << 10);
        let [one, other] = [(); 2].map(|()| Pool::new(budget.clone()));
        drop(other.fill(32 << 10));
        let (mut first, mut second) = (Charge::new(&one), Charge::new(&one));
        assert!(first.try_set(40 << 10), "what another pool keeps gives way");
        assert_eq!((budget.leased_bytes(), budget.held_bytes(), budget.percent()), (40 << 10, 40 << 10, 62));
        assert!(!second.try_set(25 << 10) && second.try_set(24 << 10), "as much as there is");
        assert!(other.fill(1).is_none() && !second.try_set(25 << 10));
        // What is there already counts all the same, and has to go before anything else comes.
        second.set(80 << 10);
        assert_eq!((budget.held_bytes(), budget.percent()), (120 << 10, 187));
        assert!(first.try_set(1 << 10), "less is always allowed");
        assert!(other.fill(1).is_none());
        drop((first, second));
        assert_eq!((budget.leased_bytes(), budget.held_bytes(), budget.percent()), (0, 0, 0));
        assert!(other.fill(64 << 10).is_some());
    }

    #[test]
    fn a_chunk_comes_home_as_it_is_and_leaves_with_its_pool() {
        let pool = pool(1 << 20);
        let mut fill = pool.fill(1).expect("fits");
        fill.put(b"xy");
        let slices = [fill.take(), fill.take()];
        let lease = |chunk: &Lease| &raw const **chunk;
        let first = lease(&fill.chunk);
        drop(fill);
        drop(slices);
        assert_eq!((pool.budget().leased_bytes(), pool.budget().held_bytes()), (0, BLOCK_BYTES));
        let again = pool.fill(1).expect("fits");
        assert_eq!(lease(&again.chunk), first, "with its count of references");
        let budget = pool.budget().clone();
        drop(pool);
        assert_eq!((budget.leased_bytes(), budget.held_bytes()), (BLOCK_BYTES, BLOCK_BYTES));
        drop(again);
        assert_eq!(
            (budget.leased_bytes(), budget.held_bytes()),
            (0, 0),
            "a home that nobody leases from holds nothing"
        );
    }

    #[test]
    fn whoever_closes_the_last_window_among_several_threads_brings_the_chunk_home() {
        let pool = pool(BLOCK_BYTES);
        for _ in 0..if cfg!(miri) { 20 } else { 2_000 } {
            let mut fill = pool.fill(1).expect("it is at home");
            fill.put(b"x");
            let slice = fill.take();
            std::thread::scope(|scope| {
                scope.spawn(move || drop(fill));
                scope.spawn(move || drop(slice));
            });
            assert_eq!((pool.budget().leased_bytes(), pool.budget().held_bytes()), (0, BLOCK_BYTES));
        }
    }

    #[test]
    fn every_pool_counts_apart_and_the_budget_knows_the_sum() {
        let budget = Budget::new(1 << 20);
        let pools: Vec<Pool> = (0..COUNTS + 2).map(|_| Pool::new(budget.clone())).collect();
        let held: Vec<Fill> = pools.iter().map(|pool| pool.fill(1).expect("fits")).collect();
        let counts = |budget: &Budget| budget.counts.each_ref().map(|count| count.bytes.load(Ordering::Relaxed));
        assert_eq!(
            counts(&budget)[..3],
            [2 * BLOCK_BYTES, 2 * BLOCK_BYTES, BLOCK_BYTES],
            "the last two share with the first"
        );
        assert_eq!(budget.leased_bytes(), (COUNTS + 2) * BLOCK_BYTES);
        assert_eq!(budget.percent() as usize, (COUNTS + 2) * BLOCK_BYTES * 100 / (1 << 20));
        drop(held);
        assert_eq!((counts(&budget), budget.percent()), ([0; COUNTS], 0));
    }

    #[test]
    fn memory_is_aligned_and_returns_from_another_thread() {
        let pool = pool(1 << 20);
        let mut fill = pool.fill(70_000).expect("fits");
        assert_eq!(fill.spare().as_ptr() as usize % BLOCK_BYTES, 0);
        assert_eq!(fill.room(), 128 << 10);
        fill.limit(1);
        assert_eq!(fill.put(b"xy"), 1);
        let slice = fill.take();
        drop(fill);
        std::thread::spawn(move || assert_eq!(&*slice, b"x")).join().expect("no panic");
        assert_eq!(pool.budget().leased_bytes(), 0);
        assert_eq!(pool.budget().held_bytes(), 128 << 10);
    }
}
