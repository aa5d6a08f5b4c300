//! What is live in a segment, said by another.

use super::disk::*;
use super::ledger::*;
use crate::spool::*;

impl World {
    /// Messages until the next segment is begun; all that went into this one.
    pub(super) fn fill_segment(&mut self, seed: u32) -> Vec<RecordId> {
        let mut ids: Vec<RecordId> = Vec::new();
        for seed in seed.. {
            let id = self.append_patiently(&content(seed, 20_000), 1).id;
            if ids.first().is_some_and(|first| first.number() != id.number()) {
                self.settle_patiently(id, 0);
                break;
            }
            ids.push(id);
        }
        self.settle_down();
        ids
    }

    pub(super) fn settle_all(&mut self, ids: &[RecordId]) {
        for &id in ids {
            self.settle_patiently(id, 0);
        }
        self.settle_down();
    }
}

/// F-008: what a mark says was true when it was put in; outcomes that were put into a later segment since then stand nowhere
/// else, however soon that segment is used again.
#[test]
fn f_008_a_mark_stands_for_the_outcomes_before_it_and_not_for_later_ones() {
    let mut world = World::new(Durability::Disk);
    let spoken_of = world.fill_segment(0);
    let [live, early, late, ref others @ ..] = spoken_of[..] else { panic!("{spoken_of:?}") };
    world.settle_all(others);
    world.settle_all(&[early]);
    let mut dying = world.fill_segment(100);
    let last = dying.pop().expect("some");
    world.settle_all(&dying);
    // The third segment is to stay; the second dies there, so that a mark says there what is live in the first.
    let marking = world.append_patiently(b"kept", 1).id.number();
    world.settle_patiently(last, 0);
    assert!(world.write_one());
    assert!(world.log.segments[&last.number()].marking, "a mark stands in the open batch");
    let mut fillers = 200..;
    let later = loop {
        let body = content(fillers.next().expect("endless"), 20_000);
        let id = world.append(&body, 1).expect("a segment is prepared").id;
        if id.number() != marking {
            break id;
        }
    };
    assert!(world.log.segments[&last.number()].marking, "and is not durable yet");
    world.settle_all(&[late, later]);
    for seed in (300..).step_by(100) {
        let all = world.fill_segment(seed);
        world.settle_all(&all);
        if !world.log.segments.contains_key(&later.number()) {
            break;
        }
        assert!(seed < 3000, "the fourth segment is used again");
    }
    let found: Vec<_> = recover(&world.disk, 1, Durability::Disk).live.iter().map(|live| live.id).collect();
    let of_first: Vec<_> = found.into_iter().filter(|id| id.number() == live.number()).collect();
    assert_eq!(of_first, [live]);
}
