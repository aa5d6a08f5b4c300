//! A segment that a write failed in, in a hub that has nothing else to do.

use super::*;

/// What else is wrong while it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Somebody took the file away.
    FileGone,
    /// There is no room for a further segment.
    NoRoom,
}

/// Fills the first segment; all records there are, oldest first.
async fn fill_first_segment(world: &World) -> Vec<spool::RecordId> {
    // The one that is filled, the next one, and the one that is prepared when that is begun.
    while world.hub.files.borrow().len() < 3 {
        world.send(100).await;
    }
    let mut records = Vec::new();
    world.hub.messages.borrow_mut().each(|message| records.push(message.record));
    records.sort_unstable();
    records
}

impl World {
    /// Writes down an outcome, and waits until no write is due.
    async fn settle(&self, record: spool::RecordId) {
        self.hub.settle(record, 0, spool::Outcome::Delivered);
        self.wait_until("everything is written", || self.is_quiet()).await;
    }

    /// Waits until the next segment is there, and no write is due.
    pub(super) async fn prepared(&self) {
        let wants = || self.hub.log.borrow().wants();
        self.wait_until("the next segment is prepared", || wants().is_none() && self.is_quiet()).await;
    }

    fn is_quiet(&self) -> bool {
        let log = self.hub.log.borrow();
        !self.hub.settle_due.get() && !log.pending() && !log.is_writing()
    }
}

/// F-027: what stands in a bad segment, outcomes for records of others too, is written elsewhere, and its file leaves the
/// spool, though nothing else is to be written.
fn given_up(beside: Beside) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::start(driver, &path);
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        let records = fill_first_segment(&world).await;
        let [first, .., last] = records[..] else { panic!("{records:?}") };
        assert_ne!(first.number(), last.number(), "they stand in two segments");
        // Its outcome stands in the second segment, while others of the first are live.
        world.settle(first).await;
        let bad = world.hub.log.borrow().fetch(last).expect("live").first_read().file;
        let name = segments::name(bad);
        match beside {
            Beside::Nothing => {}
            Beside::FileGone => std::fs::remove_file(path.join(&name)).expect("ours"),
            Beside::NoRoom => world.faults.inject(Rule::new(Op::Allocate, Fault::Fails(Errno::NOSPC))),
        }
        world.faults.inject(Rule::new(Op::StableWrite, Fault::Fails(Errno::IO)).nth(1));
        world.faults.inject(Rule::new(Op::Read, Fault::Held).nth(1));
        world.settle(last).await;
        assert_eq!(world.counts.read(Counter::CommitErrors), 1);
        if beside != Beside::NoRoom {
            // The last write that is not for the bad segment's sake.
            world.prepared().await;
        }
        let reads = || world.faults.seen().iter().any(|seen| seen.op == Op::Read);
        world.wait_until("a record of it is read", reads).await;
        world.faults.release();
        world.wait_until("it is given up", || !world.hub.files.borrow().contains_key(&bad)).await;
        assert!(!path.join(&name).exists());
        assert_eq!(path.join("quarantine").join(&name).exists(), beside != Beside::FileGone);
        world.faults.heal();
        let all = || world.stored.read(Counter::Stored) == records.len() as u64;
        world.wait_until("everything is delivered", all).await;
    })
    .expect("runs");
}

#[test]
fn f_027_a_bad_segment_is_given_up_though_nothing_else_is_to_be_written() {
    given_up(Beside::Nothing);
}

#[test]
fn f_027_a_bad_segment_whose_file_is_gone_is_given_up() {
    given_up(Beside::FileGone);
}

#[test]
fn f_027_a_bad_segment_is_given_up_while_there_is_no_room_for_another() {
    given_up(Beside::NoRoom);
}

/// What the page cache says of the content of every message below `path` is wrong.
fn spoil_cache(world: &World, path: &Path) {
    let entries = std::fs::read_dir(path).expect("ours").flatten();
    for entry in entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "segment")) {
        let octets = std::fs::read(entry.path()).expect("ours");
        let name = entry.file_name().into_string().expect("ours");
        let places = memchr::memmem::find_iter(&octets, "Subject: x").collect::<Vec<_>>();
        for at in places {
            let fault = Fault::CachedFlips { at: at as u64, mask: 1 };
            world.faults.inject(Rule::new(Op::Read, fault).named(&name));
        }
    }
}

/// Whether the folder for temporary files takes direct I/O.
async fn takes_direct(world: &World, path: &Path) -> bool {
    let dir = world.driver.root(path).expect("the folder opens");
    let takes = super::takes_direct(&world.driver, &dir, 0).await;
    if !takes {
        skip::skip(std::thread::current().name().unwrap_or("a test"), "no direct I/O below the temporary folder");
    }
    takes
}

/// One message waits for a next hop that is away, in a folder that takes direct I/O.
fn one_waits_on_disk(test: impl AsyncFnOnce(World, &Path)) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::start(driver, &path);
        if takes_direct(&world, &path).await {
            world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
            world.send(1).await;
            test(world, &path).await;
        }
    })
    .expect("runs");
}

/// F-027: what leaves a bad segment is read from the disk, whatever a failed write left in the page cache.
#[test]
fn f_027_a_bad_segment_is_read_past_the_page_cache() {
    one_waits_on_disk(async |world, path| {
        let record = world.record();
        world.prepared().await;
        spoil_cache(&world, path);
        world.faults.inject(Rule::new(Op::StableWrite, Fault::Fails(Errno::IO)).nth(1));
        // An outcome of nobody: its write is what fails.
        world.hub.settle(record, 1, spool::Outcome::Delivered);
        let has_moved = || world.hub.log.borrow().fetch(record).is_some_and(|fetch| fetch.id() != record);
        world.wait_until("it stands elsewhere", || has_moved() || world.counts.read(Counter::Damage) > 0).await;
        assert!(has_moved() && world.counts.read(Counter::Damage) == 0, "it was judged by what the disk has");
        world.faults.heal();
        world.wait_until("it is delivered", || world.stored.read(Counter::Stored) == 1).await;
    });
}

/// F-028: what looks damaged is looked at once more, past the page cache, which would only say the same again.
#[test]
fn f_028_the_second_look_at_damage_is_at_the_disk() {
    one_waits_on_disk(async |world, path| {
        let now = world.driver.now();
        let release = |content| world.hub.messages.borrow_mut().release(content);
        while world.hub.queues.borrow_mut().shed_content(64, now, release) {}
        world.faults.heal();
        spoil_cache(&world, path);
        let told = || world.stored.read(Counter::Stored) == 1 || world.counts.read(Counter::Damage) > 0;
        world.wait_until("it is read", told).await;
        assert!(world.faults.seen().iter().any(|seen| seen.op == Op::Read && !seen.faults.is_empty()));
        assert_eq!((world.stored.read(Counter::Stored), world.counts.read(Counter::Damage)), (1, 0));
    });
}

/// I-1: a record that is relocated while it is read to be queued is queued all the same.
#[test]
fn f_027_a_record_that_moves_while_it_is_read_is_queued() {
    holding(1, async |world| {
        let record = world.record();
        world.faults.inject(Rule::new(Op::Read, Fault::Held).nth(1));
        let hub = world.hub.clone();
        world.driver.spawn(async move { hub.requeue(record, None, None).await });
        world.wait_until("it is being read", || world.faults.seen().iter().any(|seen| seen.op == Op::Read)).await;
        world.faults.inject(Rule::new(Op::StableWrite, Fault::Fails(Errno::IO)).nth(1));
        // An outcome of nobody: its write is what fails.
        world.hub.settle(record, 1, spool::Outcome::Delivered);
        let has_moved = || world.hub.log.borrow().fetch(record).is_some_and(|fetch| fetch.id() != record);
        world.wait_until("it stands elsewhere", has_moved).await;
        assert_eq!(world.hub.queued(), 1);
        world.faults.release();
        world.wait_until("it is queued once more", || world.hub.queued() == 2).await;
    });
}

/// F-027: a body that needs more segments than are at hand leaves a bad one in turns, and what stands behind it too.
#[test]
fn f_027_a_body_larger_than_the_segments_at_hand_is_moved_and_blocks_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    epoll::run(&epoll::Options::default(), async |driver| {
        let mut settings = settings();
        settings.spool.segment_bytes = 2 << 20;
        let world = World::open_as(driver, folder.path(), (1, 1), settings);
        world.hub.start();
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        let large = format!("Subject: large\r\n\r\n{}", format!("{}\r\n", "x".repeat(76)).repeat(5 << 20 >> 6));
        send_each(&world.driver, world.at, ("ann@a.test", &large), 1).await;
        world.send(2).await;
        let mut records = Vec::new();
        world.hub.messages.borrow_mut().each(|message| records.push(message.record));
        let bad = world.hub.log.borrow().fetch(records[0]).expect("live").first_read().file;
        assert!(records.iter().all(|record| record.number() == records[0].number()), "they share a segment");
        world.prepared().await;
        world.faults.inject(Rule::new(Op::StableWrite, Fault::Fails(Errno::IO)).nth(1));
        // An outcome of nobody: its write is what fails.
        world.hub.settle(records[0], 1, spool::Outcome::Delivered);
        let moved = |&record: &spool::RecordId| {
            world.hub.log.borrow().fetch(record).is_some_and(|fetch| fetch.id().number() != record.number())
        };
        world.wait_until("all of them stand elsewhere", || records.iter().all(moved)).await;
        world.wait_until("it is given up", || !world.hub.files.borrow().contains_key(&bad)).await;
        assert!(world.hub.rewriting.moving.borrow().is_empty());
        world.faults.heal();
        let all = || world.stored.read(Counter::Stored) == records.len() as u64;
        world.wait_until("everything is delivered", all).await;
    })
    .expect("runs");
}
