//! A hub on a disk that goes wrong: what is answered with 250 is delivered, what is refused never is, and the hub goes on.
#![forbid(unsafe_code)]

use engine::io::driver::{Conn, Driver, Next};
use engine::io::faulty::{Errno, Fault, Faults, Op, Rule};
use engine::settings::{Profile, Settings};
use engine::shell::hub::{Left, recover};
use engine::track::counters::Counter;
use engine::track::report::Health;
use engine::wire::Span;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tempfile::TempDir;

mod hub_world;
#[path = "../../tests/src/skip.rs"]
mod skip;
mod under;

use hub_world::{Disk, MESSAGES, OnUringDirectly, Story, VERDICT, World, folder, send};
use under::{OnEpoll, OnTokioUring, OnUring};

/// Every test on each of the drivers; what the disk does to writes and reads with direct ones too.
macro_rules! each {
    (files { $($file:ident)* } others { $($other:ident)* }) => {
        each!(on_epoll OnEpoll $($file)* $($other)*);
        each!(on_uring OnUring $($file)* $($other)*);
        each!(on_tokio_uring OnTokioUring $($file)* $($other)*);
        each!(on_uring_directly OnUringDirectly $($file)*);
    };
    ($module:ident $under:ident $($test:ident)*) => {
        mod $module {
            $(#[test] fn $test() { super::$test::<super::$under>(); })*
        }
    };
}

each!(
    files {
        f_040_content_that_is_on_disk_makes_room_for_more
        f_028_content_that_cannot_be_read_is_tried_again_and_blames_no_host
        f_006_the_gauge_of_w1_is_what_a_kill_repeats
        a_sound_disk_loses_and_refuses_nothing
        f_021_a_short_write_is_continued_and_nobody_notices
        m_048_f_026_f_027_a_write_that_fails_refuses_its_messages_and_no_other_and_none_of_them_is_delivered
        f_015_a_torn_write_is_as_bad_as_a_failed_one_and_no_worse
        f_022_a_full_disk_defers_mail_and_takes_it_again_when_there_is_room
        m_049_a_write_that_hangs_leaves_its_senders_without_a_reply_and_never_with_a_false_one
    }
    others {
        m_072_f_056_a_jump_of_the_wall_clock_moves_no_timer
        m_105_a_full_spool_refuses_at_mail_and_takes_mail_again_when_there_is_room
        f_014_f_016_damage_is_copied_whole_by_name_and_reported_once
        f_016_a_segment_without_heads_leaves_the_spool_whole_and_its_name_is_not_used_again
        f_147_who_half_closes_before_a_slow_commit_is_answered_behind_it
    }
);

async fn run_hub<U: Disk>(
    driver: U::Driver,
    folder: &Path,
    faults: Faults,
    (body_bytes, verdict): (usize, Span),
) -> Story {
    let world = World::<U>::patient(driver, folder, faults, verdict);
    let mut story = world.send_all(body_bytes).await;
    world.faults.heal();
    // A verdict that came too late was no refusal: its message is delivered too.
    let owed = story.accepted + if verdict == VERDICT { 0 } else { story.silent };
    let all = || world.stored.read(Counter::Stored) >= owed as u64;
    world.wait_until(&format!("I-1: {story:?}"), all).await;
    world.hub.drain(world.driver.now() + Span::seconds(10)).await;
    story.delivered = world.stored.read(Counter::Stored);
    story.strikes = world.faults.strikes();
    assert_eq!(world.hub.queued(), 0, "nothing is left");
    story
}

/// Runs a world in this folder to the end of `tell`, which is as good as a kill.
fn in_world<U: Disk, F: Future<Output = ()> + 'static>(folder: &TempDir, tell: impl FnOnce(World<U>) -> F + 'static) {
    let path = folder.path().to_owned();
    U::run(|driver| async move {
        tell(World::<U>::start(driver, &path, Faults::none())).await;
    });
}

/// F-040: mail for a next hop that is down goes on being taken, far beyond what memory holds, and leaves when it is back.
fn f_040_content_that_is_on_disk_makes_room_for_more<U: Disk>() {
    let folder = folder();
    let path = folder.path().to_owned();
    U::run(|driver| async move {
        let world = World::<U>::with_memory(driver, &path, Faults::none(), (VERDICT, 4 << 20));
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        let rounds = 5;
        for _ in 0..rounds {
            assert_eq!(world.send_all(200_000).await.accepted, MESSAGES, "none is refused");
        }
        world.faults.heal();
        let all = (rounds * MESSAGES) as u64;
        world.wait_until("everything", || world.stored.read(Counter::Stored) == all).await;
        assert_eq!((world.counts.read(Counter::Unreadable), world.counts.read(Counter::Deferred)), (0, 0));
        world.hub.drain(world.driver.now() + Span::seconds(10)).await;
        assert_eq!((world.hub.queued(), world.stored.read(Counter::Stored)), (0, all));
    });
}

/// M-072: mail that waits and mail that comes follow a clock that nobody sets. Whichever way the wall clock jumps, nothing is
/// given up before its time, nothing waits for the old time to come again, and sessions go on.
fn m_072_f_056_a_jump_of_the_wall_clock_moves_no_timer<U: Disk>() {
    const DAY: i64 = 86_400_000_000;
    // Everybody's age is looked at within a 64th of the time that he has.
    const TURN: Span = Span::seconds(2);
    for jumps in [[-30 * DAY, 60 * DAY], [30 * DAY, -60 * DAY]] {
        let folder = folder();
        let path = folder.path().to_owned();
        U::run(|driver| async move {
            let mut settings = Settings::of(Profile::Bench);
            settings.delivery.expire_after = Span(64 * TURN.0);
            let world = World::<U>::with_settings(driver, &path, Faults::none(), (VERDICT, 64 << 20), settings);
            world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
            assert_eq!(world.send_all(2_000).await.accepted, MESSAGES);
            let began = world.driver.now();
            for jump in jumps {
                let tried = world.counts.read(Counter::ConnectFailures);
                world.faults.jump_wall_clock(jump);
                assert_eq!(world.send_all(2_000).await.accepted, MESSAGES, "sessions and batches go on");
                world.wait_until("another try", || world.counts.read(Counter::ConnectFailures) > tried).await;
                let looked = world.driver.now() + TURN + Span::millis(500);
                world.wait_until("everybody to be looked at", || world.driver.now() > looked).await;
                assert_eq!(world.counts.read(Counter::DsnOwed), 0, "nothing is given up");
            }
            world.faults.heal();
            let all = (3 * MESSAGES) as u64;
            world.wait_until("everything", || world.stored.read(Counter::Stored) == all).await;
            assert!(world.driver.now().since(began) < Span::hours(1), "the other clock did not jump");
            world.hub.drain(world.driver.now() + Span::seconds(10)).await;
            assert_eq!((world.hub.queued(), world.stored.read(Counter::Stored)), (0, all));
        });
    }
}

fn f_028_content_that_cannot_be_read_is_tried_again_and_blames_no_host<U: Disk>() {
    let folder = folder();
    let path = folder.path().to_owned();
    U::run(|driver| async move {
        // Too little memory to keep them all: delivery reads them back.
        let world = World::<U>::with_memory(driver, &path, Faults::none(), (VERDICT, 2 << 20));
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        assert_eq!(world.send_all(200_000).await.accepted, MESSAGES);
        world.faults.heal();
        world.faults.inject(Rule::new(Op::Read, Fault::Fails(Errno::IO)));
        world.wait_until("reads that fail", || world.counts.read(Counter::Unreadable) >= 4).await;
        let queues = world.hub.report();
        let host = &queues[0].hosts[0];
        assert_eq!((host.health, &host.last_error), (Health::Alive, &None), "it did nothing");
        assert_eq!((world.counts.read(Counter::Deferred), queues[0].put_off), (0, 0));
        world.faults.heal();
        world.wait_until("everything", || world.stored.read(Counter::Stored) == MESSAGES as u64).await;
    });
}

/// F-006, P-004: what may come twice after a kill is what the gauge of window W1 says, neither more nor less.
fn f_006_the_gauge_of_w1_is_what_a_kill_repeats<U: Disk>() {
    for reaches_the_disk in [false, true] {
        let folder = folder();
        in_world::<U, _>(&folder, move |world| async move {
            let refused = Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED));
            world.faults.inject(refused);
            assert_eq!(world.send_all(2_000).await.accepted, MESSAGES);
            world.faults.heal();
            world.faults.inject(Rule::new(Op::Write, Fault::Held));
            if !reaches_the_disk {
                world.faults.inject(Rule::new(Op::Write, Fault::Lost));
            }
            let all_wait = || {
                world.hub.publish();
                world.counts.read(Counter::SettlesWaiting) == MESSAGES as u64
            };
            world.wait_until("delivered: all of them would come again", all_wait).await;
            assert_eq!(world.counts.read(Counter::Settles), 0, "none is durable");
            assert_eq!(world.counts.read(Counter::Sending), 0, "W5 is empty");
            if reaches_the_disk {
                world.faults.heal();
                let none = || {
                    world.hub.publish();
                    world.counts.read(Counter::SettlesWaiting) == 0
                };
                world.wait_until("all on disk", none).await;
                assert_eq!(world.counts.read(Counter::Settles), MESSAGES as u64);
            }
            assert_eq!(world.counts.read(Counter::SettlesWaitingMax), MESSAGES as u64);
        });
        let again = start_on::<U>(&folder).recovered.live_count();
        assert_eq!(again, if reaches_the_disk { 0 } else { MESSAGES });
    }
}

fn start_on<U: Disk>(folder: &TempDir) -> Left {
    recover(folder.path(), U::CHOICE, 1).expect("the spool is readable")
}

/// One run with these faults, and what the next start finds.
fn story<U: Disk>(rules: Vec<Rule>, body_bytes: usize) -> Story {
    story_in::<U>(&folder(), rules, body_bytes)
}

fn story_in<U: Disk>(folder: &TempDir, rules: Vec<Rule>, body_bytes: usize) -> Story {
    story_with::<U>(folder, rules, (body_bytes, VERDICT))
}

fn story_with<U: Disk>(folder: &TempDir, rules: Vec<Rule>, how: (usize, Span)) -> Story {
    let faults = Faults::none();
    rules.into_iter().for_each(|rule| faults.inject(rule));
    let told = Rc::new(std::cell::RefCell::new(None));
    let (tell, path) = (told.clone(), folder.path().to_owned());
    U::run(|driver| async move {
        let story = run_hub::<U>(driver, &path, faults, how).await;
        *tell.borrow_mut() = Some(story);
    });
    assert_eq!(start_on::<U>(folder).recovered.live_count(), 0, "what was delivered or refused does not come back");
    told.take().expect("a story")
}

fn a_sound_disk_loses_and_refuses_nothing<U: Disk>() {
    let story = story::<U>(Vec::new(), 2_000);
    assert_eq!((story.accepted, story.delivered), (MESSAGES, MESSAGES as u64), "{story:?}");
}

fn f_021_a_short_write_is_continued_and_nobody_notices<U: Disk>() {
    let rule = Rule::new(Op::StableWrite, Fault::Short(4096)).every(3);
    let story = story::<U>(vec![rule], 20_000);
    assert_eq!((story.accepted, story.delivered), (MESSAGES, MESSAGES as u64), "{story:?}");
}

fn m_048_f_026_f_027_a_write_that_fails_refuses_its_messages_and_no_other_and_none_of_them_is_delivered<U: Disk>() {
    // Whether the octets reached the disk or not: nobody knows, and nobody is told something false.
    for fault in [Fault::Fails(Errno::IO), Fault::FailsAfterwards(Errno::IO)] {
        let mut struck = 0;
        for nth in 3..9 {
            let rule = Rule::new(Op::StableWrite, fault).nth(nth);
            let story = story::<U>(vec![rule], 2_000);
            assert_eq!(story.delivered, story.accepted as u64, "write {nth}: {story:?}");
            assert_eq!(story.accepted + story.deferred + story.silent, MESSAGES, "write {nth}: {story:?}");
            assert!(story.accepted >= MESSAGES - 4, "write {nth}: the hub goes on: {story:?}");
            // Which of the writes carry messages is the machine's to say; silence is kept where no cancel could be written.
            struck += story.deferred + story.silent;
        }
        assert!(struck > 0, "{fault:?}: some of them struck messages, whose senders were told 451 or nothing");
    }
}

fn f_015_a_torn_write_is_as_bad_as_a_failed_one_and_no_worse<U: Disk>() {
    for nth in [4, 5, 7] {
        let rule = Rule::new(Op::StableWrite, Fault::Torn(512, Errno::IO)).nth(nth);
        let story = story::<U>(vec![rule], 9_000);
        assert_eq!(story.delivered, story.accepted as u64, "write {nth}: {story:?}");
        assert_eq!(story.strikes, 1, "write {nth} was torn: {story:?}");
    }
}

fn f_022_a_full_disk_defers_mail_and_takes_it_again_when_there_is_room<U: Disk>() {
    // The first files are made; then there is no room for more, as long as it takes.
    let full = Rule::new(Op::Allocate, Fault::Fails(Errno::NOSPC)).from_nth(3);
    // Nothing leaves meanwhile, so nothing makes room.
    let rules = [full, Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED))];
    let folder = folder();
    let path = folder.path().to_owned();
    U::run(|driver| async move {
        let world = World::<U>::start(driver, &path, Faults::none());
        rules.into_iter().for_each(|rule| world.faults.inject(rule));
        let story = world.send_all(150_000).await;
        assert!(story.accepted > 0 && story.deferred > 0 && story.silent == 0, "{story:?}");
        let is_short = || {
            world.hub.publish();
            world.counts.read(Counter::SpoolShort) == 1
        };
        assert!(is_short(), "operators see it");
        world.faults.heal();
        let by = world.driver.now() + Span::seconds(30);
        while send(&world.driver, world.at, MESSAGES, 150_000).await != 250 {
            assert!(world.driver.now() < by, "mail is taken again");
            world.driver.sleep(Span::millis(5)).await;
        }
        let all = story.accepted as u64 + 1;
        world.wait_until("what was accepted", || world.stored.read(Counter::Stored) >= all).await;
        world.hub.drain(world.driver.now() + Span::seconds(10)).await;
        assert_eq!((world.hub.queued(), world.stored.read(Counter::Stored)), (0, all), "{story:?}");
        assert!(!is_short(), "{story:?}");
    });
}

fn m_105_a_full_spool_refuses_at_mail_and_takes_mail_again_when_there_is_room<U: Disk>() {
    let folder = folder();
    let path = folder.path().to_owned();
    U::run(|driver| async move {
        let faults = Faults::none();
        faults.inject(Rule::new(Op::Allocate, Fault::Fails(Errno::NOSPC)));
        let world = World::<U>::start(driver, &path, faults);
        let driver = &world.driver;
        // Once the hub has looked for a segment in vain, clients are told before they send anything.
        let mut talk = driver.connect(world.at, driver.now() + Span::seconds(5)).await.expect("the hub listens");
        hear(driver, &mut talk, " ready\r\n").await;
        talk.put(b"EHLO client.test\r\n");
        hear(driver, &mut talk, "250 HELP\r\n").await;
        let refused = ask_until(driver, &mut talk, "MAIL FROM:<a@a.test> SIZE=1000\r\n", "452 4.3.1").await;
        assert!(refused, "a full spool says so at MAIL");
        world.faults.heal();
        let taken = ask_until(driver, &mut talk, "MAIL FROM:<a@a.test> SIZE=1000\r\n", "250 2.1.0").await;
        assert!(taken, "and no longer when there is room");
    });
}

/// Says `line` behind RSET again and again until the answer begins with `reply`; whether it ever does.
async fn ask_until<D: Driver>(driver: &D, conn: &mut D::Conn, line: &str, reply: &str) -> bool {
    let by = driver.now() + Span::seconds(30);
    while driver.now() < by {
        conn.put(format!("RSET\r\n{line}NOOP\r\n").as_bytes());
        let heard = hear(driver, conn, "250 2.0.0 OK\r\n").await;
        if heard.contains(&format!("\r\n{reply}")) {
            return true;
        }
        driver.sleep(Span::millis(5)).await;
    }
    false
}

/// What the hub says up to this.
async fn hear<D: Driver>(driver: &D, conn: &mut D::Conn, end: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(end) {
        match conn.next(driver.now() + Span::seconds(20), |octets| (octets.len(), octets.to_vec())).await {
            Next::Bytes(octets) => heard.push_str(&String::from_utf8_lossy(&octets)),
            Next::Room | Next::Note(_) => {}
            _ => panic!("the hub went away behind {heard:?}"),
        }
    }
    heard
}

/// Flips a bit of the first record's content; the segment's file.
fn rot(folder: &TempDir) -> PathBuf {
    let files = std::fs::read_dir(folder.path()).expect("ours").map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "segment")).collect();
    segments.sort();
    for path in segments {
        let mut octets = std::fs::read(&path).expect("ours");
        if let Some(at) = octets.windows(14).position(|window| window == b"seventy octets") {
            octets[at] ^= 1;
            std::fs::write(&path, octets).expect("ours");
            return path;
        }
    }
    panic!("no segment holds a message");
}

fn quarantined(folder: &TempDir) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder.path().join("quarantine")).expect("there").map(|entry| entry.expect("one"));
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("ours")))
        .collect();
    files.sort();
    files
}

fn f_014_f_016_damage_is_copied_whole_by_name_and_reported_once<U: Disk>() {
    let folder = folder();
    story_in::<U>(&folder, Vec::new(), 2_000);
    let segment = rot(&folder);
    assert_eq!(start_on::<U>(&folder).damage, 1);
    // As if it had died half-way through its copy.
    let [(name, copy)] = &quarantined(&folder)[..] else { panic!("{:?}", quarantined(&folder)) };
    let quarantine = folder.path().join("quarantine");
    std::fs::remove_file(quarantine.join(name)).expect("ours");
    std::fs::write(quarantine.join(format!("{name}.tmp")), &copy[..copy.len() / 2]).expect("ours");
    let left = start_on::<U>(&folder);
    assert_eq!(left.damage, 1, "it is counted once");
    let [damage] = left.recovered.damage[..] else { panic!("{:?}", left.recovered.damage) };
    let [(name, copy)] = &quarantined(&folder)[..] else { panic!("{:?}", quarantined(&folder)) };
    assert!(name.ends_with(".damage"), "{name}");
    let octets = std::fs::read(&segment).expect("ours");
    let part = |(at, bytes): (u64, u64)| {
        let at = usize::try_from(at).expect("small");
        &octets[at..at + usize::try_from(bytes).expect("small")]
    };
    let content = damage.content.expect("the content stands in blocks of its own");
    assert_eq!(*copy, [part((damage.offset, damage.bytes)), part(content)].concat(), "octet by octet");
    // The process dies before the segment is closed: the damage is met again, and nothing is said.
    let again = start_on::<U>(&folder);
    assert_eq!((again.damage, again.recovered.damage.len()), (0, 1));
    assert_eq!(quarantined(&folder).len(), 1);
}

fn f_016_a_segment_without_heads_leaves_the_spool_whole_and_its_name_is_not_used_again<U: Disk>() {
    let folder = folder();
    story_in::<U>(&folder, Vec::new(), 2_000);
    let segment = rot(&folder);
    let mut octets = std::fs::read(&segment).expect("ours");
    let last = octets.len() - 4096;
    (octets[0], octets[last]) = (!octets[0], !octets[last]);
    std::fs::write(&segment, &octets).expect("ours");
    let file_name = segment.file_name().expect("a file").to_string_lossy().into_owned();
    std::fs::create_dir_all(folder.path().join("quarantine")).expect("ours");
    std::fs::write(folder.path().join("quarantine").join(&file_name), b"an earlier one").expect("ours");
    let left = start_on::<U>(&folder);
    assert_eq!(left.damage, 1);
    assert!(!segment.exists(), "it is out of the spool");
    let files = quarantined(&folder);
    assert_eq!(files[0], (file_name.clone(), b"an earlier one".to_vec()), "nothing is overwritten");
    assert_eq!(files[1], (format!("{file_name}.1"), octets));
    let number = u32::from_str_radix(&file_name[..8], 16).expect("a number");
    assert!(left.next_file > number);
    let again = start_on::<U>(&folder);
    assert_eq!((again.damage, again.recovered.damage.len()), (0, 0), "the next start meets nothing");
}

fn m_049_a_write_that_hangs_leaves_its_senders_without_a_reply_and_never_with_a_false_one<U: Disk>() {
    let rule = Rule::new(Op::StableWrite, Fault::Held).nth(6);
    let story = story_with::<U>(&folder(), vec![rule], (2_000, Span::millis(100)));
    assert_eq!(story.accepted + story.silent, MESSAGES, "{story:?}");
    assert!(story.silent > 0 && story.delivered == MESSAGES as u64, "{story:?}");
}

/// A client that closes its side behind the end of its message is answered when the disk has the message, and not before.
fn f_147_who_half_closes_before_a_slow_commit_is_answered_behind_it<U: Disk>() {
    in_world::<U, _>(&folder(), |world| async move {
        let driver = &world.driver;
        let envelope = "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\n";
        for (content, replies) in [("BDAT 6 LAST\r\nx\r\ny\r\n", 3), ("DATA\r\n", 4)] {
            let mut talk = driver.connect(world.at, driver.now() + Span::seconds(5)).await.expect("the hub listens");
            hear(driver, &mut talk, " ready\r\n").await;
            talk.put(b"EHLO client.test\r\n");
            hear(driver, &mut talk, "250 HELP\r\n").await;
            let struck = world.faults.strikes();
            world.faults.inject(Rule::new(Op::StableWrite, Fault::Held));
            talk.put(format!("{envelope}{content}").as_bytes());
            let mut heard = String::new();
            if content.starts_with("DATA") {
                heard = hear(driver, &mut talk, "354 ").await;
                talk.put(b"x\r\ny\r\n.\r\n");
            }
            talk.finish();
            world.wait_until("a write to begin", || world.faults.strikes() > struck).await;
            let goes_on = rest(driver, &mut talk, Span::millis(50), &mut heard).await;
            assert!(goes_on && heard.matches("\r\n").count() < replies, "nothing is promised yet: {heard:?}");
            world.faults.heal();
            let goes_on = rest(driver, &mut talk, Span::seconds(20), &mut heard).await;
            assert!(!goes_on && heard.matches("\r\n").count() == replies, "the reply, and then it closes: {heard:?}");
            assert!(heard.lines().last().is_some_and(|last| last.starts_with("250 2.")), "{heard:?}");
        }
    });
}

/// Adds what the hub says within this time; whether the connection is still open then.
async fn rest<D: Driver>(driver: &D, conn: &mut D::Conn, within: Span, heard: &mut String) -> bool {
    let by = driver.now() + within;
    loop {
        match conn.next(by, |octets| (octets.len(), octets.to_vec())).await {
            Next::Bytes(octets) => heard.push_str(&String::from_utf8_lossy(&octets)),
            Next::Room | Next::Note(_) => {}
            Next::Deadline => return true,
            Next::End => return false,
            other => panic!("{other:?} behind {heard:?}"),
        }
    }
}
