//! A heap of times that knows where each of its members stands, so that one can leave the middle or change its time.
//!
//! Four children per node: half the levels of a binary heap, and the children of a node are neighbours in memory. A
//! member costs four octets here; its time and its place stand in the member itself.

use super::entry::NONE;
use crate::wire::Tick;

/// Who holds the times of a heap's members, and their places.
pub(super) trait Timed {
    /// When `id` is due.
    fn at(&self, id: u32) -> Tick;
    /// Where `id` stands in the heap; `NONE` when it is not in it.
    fn place(&self, id: u32) -> u32;
    /// Notes where `id` stands now.
    fn set_place(&mut self, id: u32, place: u32);
}

/// Members ordered by their times, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Heap {
    ids: Vec<u32>,
}

const CHILDREN: usize = 4;

impl Heap {
    /// The earliest time, or never.
    pub fn next(&self, times: &impl Timed) -> Tick {
        self.ids.first().map_or(Tick::NEVER, |&id| times.at(id))
    }

    /// Adds `id`, or moves it when it is a member and its time has changed.
    pub fn put(&mut self, times: &mut impl Timed, id: u32) {
        let place = match times.place(id) {
            NONE => {
                self.ids.push(id);
                self.ids.len() - 1
            }
            place => place as usize,
        };
        let place = self.rise(times, place, id);
        self.sink(times, place, id);
    }

    /// Takes `id` out, if it is in.
    pub fn remove(&mut self, times: &mut impl Timed, id: u32) {
        let place = times.place(id);
        if place == NONE {
            return;
        }
        times.set_place(id, NONE);
        let last = self.ids.pop().expect("a heap with a member is not empty");
        if last != id {
            let place = self.rise(times, place as usize, last);
            self.sink(times, place, last);
        }
    }

    /// Takes the earliest member out if it is due at `now`.
    pub fn pop_due(&mut self, times: &mut impl Timed, now: Tick) -> Option<u32> {
        let first = *self.ids.first()?;
        (times.at(first) <= now).then(|| {
            self.remove(times, first);
            first
        })
    }

    /// Its members, in no order.
    pub fn members(&self) -> impl Iterator<Item = u32> {
        self.ids.iter().copied()
    }

    /// Members.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    fn rise(&mut self, times: &mut impl Timed, mut place: usize, id: u32) -> usize {
        let at = times.at(id);
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            let other = self.ids[parent];
            if times.at(other) <= at {
                break;
            }
            self.stand(times, place, other);
            place = parent;
        }
        self.stand(times, place, id);
        place
    }

    fn sink(&mut self, times: &mut impl Timed, mut place: usize, id: u32) {
        let at = times.at(id);
        loop {
            let first = place * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.ids.len());
            let Some(least) = children.min_by_key(|&child| times.at(self.ids[child])) else { break };
            let other = self.ids[least];
            if at <= times.at(other) {
                break;
            }
            self.stand(times, place, other);
            place = least;
        }
        self.stand(times, place, id);
    }

    fn stand(&mut self, times: &mut impl Timed, place: usize, id: u32) {
        self.ids[place] = id;
        times.set_place(id, u32::try_from(place).expect("members are named by 32 bits"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Table(Vec<(Tick, u32)>);

    impl Timed for Table {
        fn at(&self, id: u32) -> Tick {
            self.0[id as usize].0
        }
        fn place(&self, id: u32) -> u32 {
            self.0[id as usize].1
        }
        fn set_place(&mut self, id: u32, place: u32) {
            self.0[id as usize].1 = place;
        }
    }

    #[derive(Debug, Clone)]
    enum Act {
        Put(u32, u64),
        Remove(u32),
        Pop(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => (0u32..40, 0u64..1000).prop_map(|(id, at)| Act::Put(id, at)),
            2 => (0u32..40).prop_map(Act::Remove),
            2 => (0u64..1000).prop_map(Act::Pop),
        ];
        prop::collection::vec(act, 0..300)
    }

    proptest! {
        #[test]
        fn the_heap_equals_sorting_everything(acts in acts()) {
            let mut table = Table(vec![(Tick::NEVER, NONE); 40]);
            let (mut heap, mut naive) = (Heap::default(), [None; 40]);
            for act in acts {
                match act {
                    Act::Put(id, at) => {
                        table.0[id as usize].0 = Tick(at);
                        heap.put(&mut table, id);
                        naive[id as usize] = Some(Tick(at));
                    }
                    Act::Remove(id) => {
                        heap.remove(&mut table, id);
                        naive[id as usize] = None;
                    }
                    Act::Pop(now) => {
                        let earliest = naive.iter().flatten().min().copied().filter(|&at| at <= Tick(now));
                        let popped = heap.pop_due(&mut table, Tick(now));
                        prop_assert_eq!(popped.map(|id| naive[id as usize].take()), earliest.map(Some));
                    }
                }
                prop_assert_eq!(heap.next(&table), naive.iter().flatten().min().copied().unwrap_or(Tick::NEVER));
                prop_assert_eq!(heap.len(), naive.iter().flatten().count());
            }
        }
    }
}
