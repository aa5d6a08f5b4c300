//! Doubly linked lists of entries through the entries themselves: in, out and away from the middle in constant time.

use super::entry::{Entries, NONE};

/// A list of entries, oldest at the head. An entry is in at most one list; which one follows from its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List {
    pub head: u32,
    pub tail: u32,
    pub count: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, count: 0 }
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
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![Just(Act::Back), Just(Act::Front), (0usize..64).prop_map(Act::Remove)];
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
