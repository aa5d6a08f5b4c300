//! Outcomes whose batch failed: they count when the batch is written that carried them in the end.

use super::disk::*;
use super::ledger::*;
use crate::spool::*;

/// A message that is durable, the ticket of its outcome, and the batch with that outcome in flight.
fn outcome_in_flight() -> (World, RecordId, Ticket) {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let kept = world.append_patiently(b"kept", 1);
    world.settle_down();
    let ticket = world.settle_patiently(kept.id, 0);
    assert!(world.start_write(), "the outcome is due");
    (world, kept.id, ticket)
}

/// Whether a start would find the outcome of this record.
fn is_settled_on_disk(world: &World, id: RecordId) -> bool {
    let found = recover(&world.disk, 1, Durability::Disk);
    found.live.iter().all(|live| live.id != id)
}

/// Writes until nothing is left, and compares what is said of the outcome with what is on the disk. How many batches were
/// durable before it was.
fn go_on(world: &mut World, id: RecordId, ticket: Ticket) -> usize {
    let mut before = 0;
    loop {
        let durable = world.durable;
        if !world.write_one() {
            assert!(world.log.settled_upto() >= ticket, "nothing is left to be written");
            return before;
        }
        let is_said = world.log.settled_upto() >= ticket;
        assert!(!is_said || is_settled_on_disk(world, id), "said to be durable, and it is not");
        before += usize::from(world.durable > durable && !is_said);
    }
}

#[test]
fn m_102_an_outcome_counts_with_the_batch_that_carried_it_and_not_by_its_first_ticket() {
    let (mut world, id, ticket) = outcome_in_flight();
    // Meanwhile the next segment is begun, and a batch there is closed.
    let mut bodies = 0;
    let mut fill = |world: &mut World, until: &dyn Fn(RecordId) -> bool| loop {
        bodies += 1;
        let body = content(bodies, 30_000);
        match world.append(&body, 1) {
            Ok(appended) if until(appended.id) => return appended,
            Ok(_) => {}
            Err(full) => panic!("{full}"),
        }
    };
    let first = fill(&mut world, &|other| other.number() != id.number());
    let last = fill(&mut world, &|_| true);
    let next = fill(&mut world, &|_| true);
    assert!(first.ticket < next.ticket && last.id.number() == next.id.number(), "a batch waits behind the failing one");
    world.fates = vec![Fate::Fails(0)];
    world.finish_write();
    assert_eq!(world.failures.len(), 1);
    assert!(world.log.settled_upto() < ticket);
    assert!(go_on(&mut world, id, ticket) > 0, "another batch was written before");
}

#[test]
fn m_102_an_outcome_whose_batches_fail_again_and_again_waits_for_the_one_that_does_not() {
    let (mut world, id, ticket) = outcome_in_flight();
    for failed in 1..=5 {
        // At the disk's heads too: whatever write it is.
        world.fates = vec![Fate::Fails(if failed % 2 == 0 { 4096 } else { 0 })];
        if world.flight.is_none() {
            assert!(world.start_write());
        }
        world.finish_write();
        assert_eq!(world.failures.len(), failed);
        assert!(world.log.settled_upto() < ticket, "{failed} failed");
    }
    go_on(&mut world, id, ticket);
}

#[test]
fn m_102_an_outcome_that_no_segment_takes_does_not_count() {
    let (mut world, id, ticket) = outcome_in_flight();
    // The one that is prepared is taken by others, which fail too; a further one is not to be had.
    world.files_max = world.disk.files.len();
    world.fates = vec![Fate::Fails(0), Fate::Fails(0)];
    while !world.fates.is_empty() {
        assert!(world.flight.is_some() || world.start_write());
        world.finish_write();
    }
    assert!(!world.write_one(), "there is nothing to write to");
    assert!(world.log.settled_upto() < ticket);
    assert!(!world.log.is_written());
    world.files_max += 4;
    go_on(&mut world, id, ticket);
}
