//! Outcomes whose batch failed, in a hub: what it counts and who goes on.

use super::*;

/// Whether a start on a copy of this folder finds the outcome of this record.
fn is_settled_on_disk(folder: &Path, record: spool::RecordId) -> bool {
    let copy = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(folder).expect("ours").flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("ours");
    }
    let (log, _) = reopened(copy.path());
    log.is_settled(record, 0)
}

/// M-102: of two batches that are written after one that failed, the first is not taken for the one with its outcome.
#[test]
fn m_102_an_outcome_of_a_failed_batch_does_not_count_with_another_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), async |driver| {
        let mut settings = settings();
        settings.spool.segment_bytes = 8 << 20;
        let world = World::open_as(driver, &path, (1, 1), settings);
        world.hub.start();
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        world.send(1).await;
        let record = world.record();
        world.prepared().await;
        // The outcome's write fails, after others were put in behind it; one more succeeds, and then none.
        world.faults.inject(Rule::new(Op::StableWrite, Fault::Held).nth(1));
        world.faults.inject(Rule::new(Op::StableWrite, Fault::Fails(Errno::IO)).nth(1));
        world.faults.inject(Rule::new(Op::StableWrite, Fault::Fails(Errno::IO)).from_nth(3));
        world.hub.settle(record, 0, spool::Outcome::Delivered);
        world.wait_until("it is being written", || world.hub.log.borrow().is_writing()).await;
        while append(&world).expect("room").number() == record.number() {}
        (0..15).for_each(|_| _ = append(&world).expect("room"));
        let commits = world.counts.read(Counter::Commits);
        world.faults.release();
        world.wait_until("the disk fails", || world.counts.read(Counter::CommitErrors) > 1).await;
        assert_eq!(world.counts.read(Counter::Commits), commits + 1, "one was written");
        assert!(!is_settled_on_disk(&path, record), "the outcome was not in it");
        assert_eq!((world.counts.read(Counter::Settles), world.hub.unsynced_settles().0), (0, 1));
        world.faults.heal();
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        world.wait_until("it is written", || world.counts.read(Counter::Settles) == 1).await;
        assert!(is_settled_on_disk(&path, record));
        assert_eq!(world.hub.unsynced_settles().0, 0);
    })
    .expect("runs");
}
