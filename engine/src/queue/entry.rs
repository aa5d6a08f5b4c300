//! The 64 octets that a queued message costs per next hop, and the slab they live in.

use super::recipients::Wide;
use super::timers::Timed;
use crate::wire::Tick;
use std::ops::{Index, IndexMut};

/// No entry, no connection, no handle.
pub(super) const NONE: u32 = u32::MAX;

/// Entries that the slab grows by: one page is 64 KiB, so growth never copies what is queued.
const PAGE_ENTRIES: u32 = 1024;

/// [`Entry::expires`] of a message that another shard keeps, which knows its age.
pub(super) const OF_A_GUEST: u32 = u32::MAX;

/// Names an entry for as long as it exists; a stale one is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl EntryId {
    /// As plain numbers, for a while: its place, and which of those that had it.
    pub fn parts(self) -> (u32, u32) {
        (self.index, self.generation)
    }

    /// What [`EntryId::parts`] gave.
    pub fn from_parts((index, generation): (u32, u32)) -> Self {
        Self { index, generation }
    }
}

/// High before Normal before Low (docs/PROFILES.md). With priority queuing off everything is `Normal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Leaves first.
    High = 0,
    /// The default.
    #[default]
    Normal = 1,
    /// Leaves when nothing else waits.
    Low = 2,
}

impl Priority {
    pub(super) const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
}

/// What an entry waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// In the slab's list of free entries.
    Free,
    /// In its hop's lane, ready to leave.
    Waiting,
    /// Taken by a connection or lent to the hot ring.
    Sending,
    /// For the disk: some recipients were settled, and no further attempt may begin before that is durable (M-102).
    Settling,
    /// For another host than those that cannot take it.
    Elsewhere,
    /// For its own retry time.
    Deferred,
}

/// Bits of [`Entry::flags`]; the two lowest hold the priority.
pub(super) mod flag {
    /// `recipients` is an index into [`super::Wide`], not a bitmap.
    pub const WIDE: u8 = 1 << 2;
    /// It was sent again at once after a break; the next break makes it wait (F-072).
    pub const HURRIED: u8 = 1 << 3;
    /// This attempt settled a recipient.
    pub const PROGRESS: u8 = 1 << 4;
    /// This attempt left recipients for a further transaction at once (F-089).
    pub const REST: u8 = 1 << 5;
    /// This attempt left recipients deferred by their own 4yz.
    pub const PUT_OFF: u8 = 1 << 6;
    /// Held by an operator; comes with the queue operations.
    #[expect(dead_code, reason = "the bit is reserved for the operations on messages")]
    pub const SUSPENDED: u8 = 1 << 7;
    /// What one attempt leaves behind.
    pub const OF_ATTEMPT: u8 = PROGRESS | REST | PUT_OFF;
}

/// One message for one next hop. Everything else is in its record on disk.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Entry {
    /// The record on disk.
    pub record: u64,
    /// Bitmap of unsettled recipients of the record that go to this hop, or an index with [`flag::WIDE`].
    pub recipients: u64,
    /// Deferred: when it is due. Sending: when it was taken.
    pub when: Tick,
    /// The second of the monotonic clock in which it is given up.
    pub expires: u32,
    /// Octets of its content, saturating.
    pub bytes: u32,
    /// Index of the hop.
    pub hop: u32,
    /// The caller's handle of the content in memory, or `NONE`.
    pub content: u32,
    /// Neighbours in the list that the state implies; `next` also links free entries.
    pub prev: u32,
    pub next: u32,
    /// Deferred: place in the timer heap. Else: its note, or `NONE`.
    pub place: u32,
    /// Sending: the connection that took it, or `NONE` for a lent one.
    pub link: u32,
    /// Counts the lives of this slot.
    pub generation: u32,
    /// Attempts begun, saturating.
    pub attempts: u16,
    pub state: State,
    pub flags: u8,
}

const _: () =
    assert!(size_of::<Entry>() == 64, "an entry is one cache line: 72 octets are promised per queued message");

impl Entry {
    const FREE: Entry = Entry {
        record: 0,
        recipients: 0,
        when: Tick(0),
        expires: 0,
        bytes: 0,
        hop: NONE,
        content: NONE,
        prev: NONE,
        next: NONE,
        place: NONE,
        link: NONE,
        generation: 0,
        attempts: 0,
        state: State::Free,
        flags: 0,
    };

    pub fn priority(&self) -> Priority {
        Priority::ALL[usize::from(self.flags & 3).min(2)]
    }

    /// It stands for a message that another shard keeps, while that is here for another host than one that cannot take it.
    /// It has no recipients: nothing is settled here.
    pub fn is_guest(&self) -> bool {
        self.expires == OF_A_GUEST
    }

    pub fn has(&self, bit: u8) -> bool {
        self.flags & bit != 0
    }

    pub fn set(&mut self, bit: u8) {
        self.flags |= bit;
    }

    pub fn clear(&mut self, bits: u8) {
        self.flags &= !bits;
    }

    /// Its unsettled recipients as words of a bitmap.
    pub fn words<'a>(&'a self, wide: &'a Wide) -> &'a [u64] {
        match self.has(flag::WIDE) {
            true => wide.words(self.wide_index()),
            false => std::slice::from_ref(&self.recipients),
        }
    }

    /// The same, to settle some.
    pub fn words_mut<'a>(&'a mut self, wide: &'a mut Wide) -> &'a mut [u64] {
        match self.has(flag::WIDE) {
            true => wide.words_mut(self.wide_index()),
            false => std::slice::from_mut(&mut self.recipients),
        }
    }

    pub fn wide_index(&self) -> u32 {
        u32::try_from(self.recipients).expect("a wide entry holds an index that came from a u32")
    }
}

/// All entries of a shard: pages that never move, free entries linked through themselves.
#[derive(Debug)]
pub(super) struct Entries {
    pages: Vec<Box<[Entry]>>,
    free: u32,
    live: u32,
    /// Octets of the messages of all of them.
    bytes: u64,
}

impl Entries {
    pub fn new() -> Self {
        Self { pages: Vec::new(), free: NONE, live: 0, bytes: 0 }
    }

    /// Entries in use.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Octets of the messages of all of them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Says how many octets an entry's message has: once, after `allocate`.
    pub fn weigh(&mut self, index: u32, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self[index].bytes = bytes;
        self.bytes += u64::from(bytes);
    }

    /// Pages of entries, used or free.
    pub fn pages(&self) -> u32 {
        u32::try_from(self.pages.len()).expect("entries are named by 32 bits")
    }

    /// One page, and the index of its first entry; nothing beyond the last.
    pub fn page(&self, page: u32) -> (u32, &[Entry]) {
        let entries = self.pages.get(page as usize).map_or(&[][..], |entries| entries);
        (page * PAGE_ENTRIES, entries)
    }

    /// Octets of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.pages.len() * PAGE_ENTRIES as usize * size_of::<Entry>()
    }

    /// Takes a free entry, all fields but its generation as if new; the caller gives it a state.
    pub fn allocate(&mut self) -> u32 {
        if self.free == NONE {
            self.grow();
        }
        let index = self.free;
        let entry = &mut self[index];
        let (next, generation) = (entry.next, entry.generation);
        *entry = Entry { generation, ..Entry::FREE };
        self.free = next;
        self.live += 1;
        index
    }

    /// Frees an entry; its ids are stale from now on.
    pub fn release(&mut self, index: u32) {
        let free = self.free;
        let entry = &mut self[index];
        assert!(entry.state != State::Free, "an entry is freed once");
        entry.state = State::Free;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = free;
        let bytes = u64::from(entry.bytes);
        self.free = index;
        self.live -= 1;
        self.bytes -= bytes;
    }

    /// The index of a live entry, or `None` for a stale id.
    pub fn find(&self, id: EntryId) -> Option<u32> {
        let page = self.pages.get((id.index / PAGE_ENTRIES) as usize)?;
        let entry = page.get((id.index % PAGE_ENTRIES) as usize)?;
        (entry.generation == id.generation && entry.state != State::Free).then_some(id.index)
    }

    pub fn id(&self, index: u32) -> EntryId {
        EntryId { index, generation: self[index].generation }
    }

    fn grow(&mut self) {
        let first = u32::try_from(self.pages.len()).expect("pages are counted in 32 bits") * PAGE_ENTRIES;
        assert!(first < NONE - PAGE_ENTRIES, "entries are named by 32 bits");
        let page = (0..PAGE_ENTRIES).map(|at| {
            let next = if at + 1 == PAGE_ENTRIES { NONE } else { first + at + 1 };
            Entry { next, ..Entry::FREE }
        });
        self.pages.push(page.collect());
        self.free = first;
    }
}

impl Index<u32> for Entries {
    type Output = Entry;
    fn index(&self, index: u32) -> &Entry {
        &self.pages[(index / PAGE_ENTRIES) as usize][(index % PAGE_ENTRIES) as usize]
    }
}

impl IndexMut<u32> for Entries {
    fn index_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.pages[(index / PAGE_ENTRIES) as usize][(index % PAGE_ENTRIES) as usize]
    }
}

impl Timed for Entries {
    fn at(&self, id: u32) -> Tick {
        self[id].when
    }
    fn place(&self, id: u32) -> u32 {
        self[id].place
    }
    fn set_place(&mut self, id: u32, place: u32) {
        self[id].place = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_message_costs_one_cache_line() {
        assert_eq!(size_of::<Entry>(), 64);
        let mut entries = Entries::new();
        for _ in 0..10_240 {
            let index = entries.allocate();
            entries[index].state = State::Waiting;
        }
        assert_eq!(entries.live(), 10_240);
        assert_eq!(entries.memory_bytes(), 10_240 * 64);
    }

    #[test]
    fn a_stale_id_names_nothing() {
        let mut entries = Entries::new();
        let index = entries.allocate();
        entries[index].state = State::Waiting;
        let id = entries.id(index);
        assert_eq!(entries.find(id), Some(index));
        entries.release(index);
        assert_eq!(entries.find(id), None);
        let again = entries.allocate();
        entries[again].state = State::Waiting;
        assert_eq!(again, index, "a freed entry is used again");
        assert_eq!(entries.find(id), None);
        assert_eq!(entries.find(EntryId { index: 1 << 30, generation: 0 }), None);
    }
}
