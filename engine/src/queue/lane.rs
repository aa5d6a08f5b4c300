//! Doubly linked lists of entries through the entries themselves: in, out and away from the middle in constant time.

use super::entry::{Entries, NONE};

/// A list of entries, oldest at the head. An entry is in at most one list; which one follows from its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List {
    pub head: u32,
    pub tail: u32,
    pub count: u32,
    /// The ends of the stretch that has given its content away, or `NONE`: it is stepped over when more is asked for.
    bare: (u32, u32),
}

impl Default for List {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, count: 0, bare: (NONE, NONE) }
    }
}

impl List {
    /// Adds `index` behind all others.
    pub fn push_back(&mut self, entries: &mut Entries, index: u32) {
        entries[index].prev = self.tail;
        entries[index].next = NONE;
        match self.tail {
            NONE => self.head = index,
            tail => entries[tail].next = index,
        }
        self.tail = index;
        self.count += 1;
    }

    /// Adds `index` before all others.
    pub fn push_front(&mut self, entries: &mut Entries, index: u32) {
        entries[index].prev = NONE;
        entries[index].next = self.head;
        match self.head {
            NONE => self.tail = index,
            head => entries[head].prev = index,
        }
        self.head = index;
        self.count += 1;
    }

    /// Takes `index`, which is in this list, out of it.
    pub fn remove(&mut self, entries: &mut Entries, index: u32) {
        let (prev, next) = (entries[index].prev, entries[index].next);
        self.bare = match self.bare {
            (first, last) if first == index && last == index => (NONE, NONE),
            (first, last) if first == index => (next, last),
            (first, last) if last == index => (first, prev),
            bare => bare,
        };
        match prev {
            NONE => self.head = next,
            prev => entries[prev].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => entries[next].prev = prev,
        }
        entries[index].prev = NONE;
        entries[index].next = NONE;
        self.count -= 1;
    }

    /// Everything in it has given its content away, and nothing came since.
    pub fn is_bare(&self) -> bool {
        self.count == 0 || (self.head, self.tail) == self.bare
    }

    /// Takes the content handles of `most` entries at most, the last ones first, and hands each to `drop`. What was stripped
    /// before is stepped over, so that no entry is looked at twice.
    pub fn strip(&mut self, entries: &mut Entries, most: usize, mut drop: impl FnMut(u32)) {
        for _ in 0..most {
            let (first, last) = self.bare;
            let at = match last {
                NONE => self.tail,
                // What came since, then what leaves sooner.
                last if last != self.tail => entries[last].next,
                _ => entries[first].prev,
            };
            if at == NONE {
                break;
            }
            let content = std::mem::replace(&mut entries[at].content, NONE);
            if content != NONE {
                drop(content);
            }
            self.bare = match self.bare {
                (NONE, _) => (at, at),
                (first, last) if last != self.tail => (first, at),
                (_, last) => (at, last),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::State;
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Debug, Clone)]
    enum Act {
        Back,
        Front,
        Remove(usize),
        Strip(usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            Just(Act::Back),
            Just(Act::Front),
            (0usize..64).prop_map(Act::Remove),
            (0usize..9).prop_map(Act::Strip)
        ];
        prop::collection::vec(act, 0..200)
    }

    proptest! {
        #[test]
        fn a_list_equals_a_plain_deque(acts in acts()) {
            let (mut entries, mut list, mut naive) = (Entries::new(), List::default(), VecDeque::new());
            for act in acts {
                match act {
                    Act::Back | Act::Front => {
                        let index = entries.allocate();
                        entries[index].state = State::Waiting;
                        entries[index].content = index;
                        match act {
                            Act::Back => { list.push_back(&mut entries, index); naive.push_back(index); }
                            _ => { list.push_front(&mut entries, index); naive.push_front(index); }
                        }
                    }
                    Act::Remove(at) => {
                        let Some(index) = naive.remove(at) else { continue };
                        list.remove(&mut entries, index);
                        entries.release(index);
                    }
                    Act::Strip(most) => {
                        let had = naive.iter().filter(|&&index| entries[index].content != NONE).count();
                        let mut dropped = 0;
                        list.strip(&mut entries, most, |_| dropped += 1);
                        prop_assert_eq!(dropped, had.min(most), "nothing is looked at twice");
                        prop_assert_eq!(list.is_bare(), dropped == had && (most > 0 || naive.is_empty() || had == 0));
                    }
                }
                let mut seen = VecDeque::new();
                let mut at = list.head;
                while at != NONE {
                    seen.push_back(at);
                    at = entries[at].next;
                }
                prop_assert_eq!(&seen, &naive);
                prop_assert_eq!(list.count as usize, naive.len());
                prop_assert_eq!(list.tail, naive.back().copied().unwrap_or(NONE));
            }
        }
    }
}
