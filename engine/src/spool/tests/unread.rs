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
