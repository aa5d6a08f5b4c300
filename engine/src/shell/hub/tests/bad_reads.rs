//! Starts on a disk that refuses to be read.

use super::*;

/// What a start finds of the spool below `path` while the disk has these faults: live records and damaged places.
fn start_with(path: &Path, faults: &[Rule]) -> (usize, usize, u64) {
    let found = Rc::new(Cell::new(None));
    epoll::run(&epoll::Options::default(), async |driver| {
        let script = Faults::none();
        faults.iter().for_each(|rule| script.inject(rule.clone()));
        let left = recover::read_spool(&Faulty::new(driver, script), path, 1).await.expect("a start");
        found.set(Some((left.recovered.live_count(), left.recovered.damage.len(), left.recovered.next_number)));
    })
    .expect("runs");
    found.get().expect("it ended")
}

fn files(path: &Path) -> usize {
    std::fs::read_dir(path).expect("ours").flatten().filter(|entry| entry.path().extension().is_some()).count()
}

/// F-028: a start asks again for what the disk refuses. What it never gives stays where it is, and is there for the next
/// start; numbers that it may have are nobody else's.
#[test]
fn f_028_a_start_gives_nothing_up_because_the_disk_refused_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::start(driver, &path);
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        world.send(3).await;
    })
    .expect("runs");
    let refused = || Rule::new(Op::Read, Fault::Fails(Errno::IO));
    let (live, damaged, next) = start_with(&path, &[refused().nth(1), refused().nth(2)]);
    assert_eq!((live, damaged), (3, 0), "it was asked again");
    let segments = files(&path);
    assert!(segments > 0);
    let (live, damaged, apart) = start_with(&path, &[refused().from_nth(1)]);
    assert!(live == 0 && damaged > 0, "it knows that it does not know");
    assert!(apart > next + 1_000, "no life gets a number that the unread ones may have");
    assert_eq!(files(&path), segments, "they stay in the spool");
    assert_eq!(start_with(&path, &[]), (3, 0, next), "and are there when the disk reads again");
}
