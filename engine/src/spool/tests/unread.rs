//! What one start could not read, and a later one can (F-028): nothing that the run between them did may be to its harm.

use super::disk::*;
use super::ledger::*;
use crate::spool::*;

/// The block that a record begins in.
fn block_of(world: &World, id: RecordId) -> (FileId, u64) {
    (world.log.segments[&id.number()].file, id.offset() & !4095)
}

/// The run of a start that found this.
fn run(mut found: Found, disk: Disk) -> World {
    let mut next = World::with(found.logs.remove(0), found.pool, disk);
    next.secrets = 100;
    next
}

impl World {
    /// Mail comes and goes until any file that is free was used again.
    fn use_up(&mut self, seed: u32) {
        for seed in (seed..).step_by(100).take(8) {
            let all = self.fill_segment(seed);
            self.settle_all(&all);
        }
    }
}

fn ids(found: &Found) -> Vec<RecordId> {
    assert_eq!(found.unreadable, [], "all is there");
    found.live.iter().map(|live| live.id).collect()
}

/// In a file that was used before, octets that are no batch say nothing; that none could be read does.
#[test]
fn f_028_an_unread_last_batch_in_a_file_that_was_used_before_is_there_for_the_next_start() {
    let mut world = World::new(Durability::Disk);
    let last = loop {
        let id = world.append_patiently(&content(1, 3000), 1).id;
        world.settle_down();
        if !world.log.segments[&id.number()].first_life {
            break id;
        }
        world.settle_patiently(id, 0);
    };
    let found = recover_without(&world.disk, &[block_of(&world, last)]);
    assert_eq!((found.live.len(), found.damage.len()), (0, 1), "it knows that it does not know");
    let mut between = run(found, world.disk);
    between.settle_down();
    assert_eq!(ids(&recover(&between.disk, 1, Durability::Disk)), [last]);
}

/// A mark says what is live as far as this run knows it: of what a start could not read in part, none may be written.
#[test]
fn f_028_i_1_a_record_that_one_start_could_not_read_outlives_what_its_run_says_of_the_others() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let [first, unread, last] = [1, 2, 3].map(|seed| {
        let id = world.append_patiently(&content(seed, 3000), 1).id;
        world.settle_down();
        id
    });
    let found = recover_without(&world.disk, &[block_of(&world, unread)]);
    assert_eq!(ids(&found), [first, last]);
    let mut between = run(found, world.disk);
    between.settle_all(&[first, last]);
    between.use_up(100);
    let found = recover(&between.disk, 1, Durability::Disk);
    assert_eq!(ids(&found), [unread]);
    // Nothing is kept for longer than that.
    let mut after = run(found, between.disk);
    after.settle_all(&[unread]);
    after.use_up(1000);
    assert!(!after.log.segments.contains_key(&unread.number()));
}

/// Outcomes of what stands in a file that a start could not read at all: they hold when a later one can, whether the segment
/// that they stand in was closed or not.
#[test]
fn f_028_i_3_outcomes_outlive_a_start_that_could_not_read_what_they_are_about() {
    for is_closed in [false, true] {
        let mut world = World::new(Durability::Disk);
        let mut all = world.fill_segment(0);
        let left = all.pop().expect("some");
        world.settle_all(&all);
        if is_closed {
            world.fill_segment(50);
        }
        let (file, _) = block_of(&world, left);
        let found = recover_without(&world.disk, &[(file, 0), (file, SEGMENT - 4096)]);
        let others = ids(&found);
        let mut between = run(found, world.disk);
        between.settle_all(&others);
        between.use_up(100);
        assert_eq!(ids(&recover(&between.disk, 1, Durability::Disk)), [left], "closed: {is_closed}");
    }
}

/// The content of a record stands in segments in front of it: it is needed when the record is read again.
#[test]
fn f_028_i_1_content_outlives_a_start_that_could_not_read_its_record() {
    for whole_file in [false, true] {
        let mut world = World::new(Durability::Disk);
        let id = world.append_in_extents(&content(7, SEGMENT as usize * 3), 1);
        world.settle_down();
        let (file, block) = block_of(&world, id);
        let refused = if whole_file { vec![(file, 0), (file, SEGMENT - 4096)] } else { vec![(file, block)] };
        let found = recover_without(&world.disk, &refused);
        assert_eq!(ids(&found), []);
        let mut between = run(found, world.disk);
        between.use_up(100);
        assert_eq!(ids(&recover(&between.disk, 1, Durability::Disk)), [id], "the whole file: {whole_file}");
    }
}
