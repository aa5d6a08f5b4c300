//! Out of segments that a write failed in.

use super::disk::*;
use super::ledger::*;
use crate::spool::*;

impl World {
    /// Writes a record again, as a shell does.
    pub(super) fn relocate(&mut self, id: RecordId) -> Result<Appended, Full> {
        self.supply();
        let plan = self.log.fetch(id).expect("live");
        let (_, _, body) = fetch(&self.log, &self.disk, id).expect("readable");
        let file = &self.disk.files[&plan.first_read().file];
        let start = plan.first_read().at as usize;
        let Fetched::Record(record) = plan.parse(&file[start..]).expect("sound") else { panic!("all is there") };
        self.log.relocate(&record, Content::Octets(&[&body]))
    }

    /// A write fails in the segment that is open.
    fn lose_segment(&mut self) {
        self.append_patiently(b"lost", 1);
        self.fates = vec![Fate::Fails(0)];
        self.settle_down();
    }
}

/// F-027: whoever queued a record holds the name that it had then, through any number of bad segments.
#[test]
fn f_027_a_record_that_moved_more_than_once_is_meant_by_each_of_its_names() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let body = content(1, 3000);
    let mut names = vec![world.append_patiently(&body, 2).id];
    world.settle_down();
    world.settle_patiently(names[0], 1);
    for _ in 0..3 {
        world.lose_segment();
        let last = names[names.len() - 1];
        assert_eq!(world.log.relocation(), Some(last), "it stands in the segment that was lost");
        names.push(world.relocate(last).expect("room").id);
        world.settle_down();
    }
    assert_eq!(world.failures.len(), 3);
    let last = names[names.len() - 1];
    for &name in &names {
        assert_eq!(world.log.fetch(name).map(|fetch| fetch.id()), Some(last));
        assert!(world.log.is_settled(name, 1) && !world.log.is_settled(name, 0));
    }
    let [found] = &recover(&world.disk, 1, Durability::Disk).live[..] else { panic!("one message") };
    assert_eq!((found.id, &found.content), (last, &body));
    world.settle_patiently(names[0], 0);
    world.settle_down();
    assert!(names.iter().all(|&name| world.log.fetch(name).is_none()), "it is delivered, by whatever name");
    assert!(recover(&world.disk, 1, Durability::Disk).live.is_empty(), "and not again after a restart");
}

/// I-1: what an earlier run left is told although it moved before its turn, for nobody else has heard of it.
#[test]
fn f_027_a_record_that_moves_before_it_is_told_is_told() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let mut left: Vec<_> = (0..20).map(|seed| world.append_patiently(&content(seed, 3000), 1).id).collect();
    world.settle_down();
    let mut recovery = Recovery::new();
    world.disk.files.keys().for_each(|&file| recovery.add(scan(&world.disk, file).expect("this version")));
    let mut recovered = recovery.finish(1);
    let numbers = Numbers::of_shard(recovered.next_number, 0, 1);
    let mut log = Log::new(LogOptions { numbers, ..options(Durability::Disk) }, world.pool.clone());
    let mut backlog = log.adopt(recovered.adoptions.remove(0));
    let mut next = World::with(log, world.pool, world.disk);
    // Two heads, and the footer of what the earlier run did not close.
    next.fates = vec![Fate::Good, Fate::Good, Fate::Fails(0)];
    next.settle_down();
    assert_eq!(next.failures.len(), 1);
    while let Some(id) = next.log.relocation() {
        next.relocate(id).expect("room");
        next.settle_down();
    }
    next.settle_patiently(left.remove(0), 0);
    next.settle_down();
    let mut told = Vec::new();
    while let Some(loaded) = backlog.next(&next.log) {
        assert!(loaded.head.is_some() && loaded.envelope.is_some());
        assert!(!next.log.is_settled(loaded.id, 0));
        told.push(loaded.id);
    }
    assert!(backlog.is_done());
    assert_eq!(told, left);
}

#[test]
fn f_027_a_record_that_cannot_be_moved_now_lets_others_go_first() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let [first, second, third] = [1, 2, 3].map(|seed| world.append_patiently(&content(seed, 3000), 1).id);
    world.settle_down();
    world.lose_segment();
    for (next, moves) in [(first, false), (second, true), (third, false), (first, false), (third, true), (first, true)]
    {
        assert_eq!(world.log.relocation(), Some(next));
        if moves {
            world.relocate(next).expect("room");
            world.settle_down();
        } else {
            world.log.put_off(next);
        }
    }
    assert_eq!(world.log.relocation(), None);
}
