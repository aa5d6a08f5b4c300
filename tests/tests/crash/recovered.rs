//! Killed while it recovers, while it moves what stands on a bad disk, and what a start says about what it found.

use std::fs;
use std::path::PathBuf;
use tests::ledger::{content, sender};
use tests::peers::Nowhere;
use tests::programs::Build;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

/// More passages than any recovery here has.
const PASSAGES_MAX: u64 = 400;

/// A hub whose next hop is down.
fn hub(nowhere: &Nowhere) -> Server {
    Server::new(Told { build: Build::FailPoints, ..Told::relaying_to(nowhere.address()) })
}

/// Hands messages over until `count` were accepted; the codes of all answers.
fn hand_over(hub: &Server, ids: std::ops::Range<u64>) -> Vec<u16> {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let send = |id| talk.send(&sender(id), &["bob@b.test"], &content(id)).map_or(0, |reply| reply.code);
    ids.map(send).collect()
}

/// Lets the hub deliver, until nothing is left; how often each of these came.
fn delivered(hub: &mut Server, ids: std::ops::Range<u64>) -> Vec<usize> {
    let sink = Sink::start(Offers { chunking: true });
    hub.tell(|told| told.relay_to(sink.address()));
    hub.start();
    assert_eq!(hand_over(hub, 1000..1001), [250]);
    until("everything to leave", || {
        (sink.count_by_sender().contains_key(&sender(1000)) && hub.queued() == 0).then_some(())
    });
    hub.stop();
    let taken = sink.taken();
    for one in &taken {
        let id = tests::ledger::id_of(&one.from).expect("one of ours");
        assert!(tests::peers::trace_before(&content(id), &one.content).is_some(), "I-4: message {id} came changed");
    }
    ids.map(|id| taken.iter().filter(|one| one.from == sender(id)).count()).collect()
}

/// The files of a folder below the data folder, by name.
fn files(hub: &Server, folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = match fs::read_dir(hub.data().join(folder)) {
        Ok(entries) => entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    files
}

fn find(octets: &[u8], text: &[u8]) -> Option<usize> {
    octets.windows(text.len()).position(|window| window == text)
}

/// Flips a bit in the content of this message, where it rests. Gives its content as it stands now.
fn rot(hub: &Server, id: u64) -> Vec<u8> {
    let whole = content(id);
    for path in files(hub, "") {
        let mut octets = fs::read(&path).expect("a file of ours");
        if let Some(at) = find(&octets, &whole) {
            octets[at + whole.len() / 2] ^= 4;
            fs::write(&path, &octets).expect("a file of ours");
            return octets[at..at + whole.len()].to_vec();
        }
    }
    panic!("message {id} is in no file");
}

/// Starts it to die at every passage of a hook in turn, until it gets through with `queued` messages.
fn dies_at_every_passage(hub: &mut Server, hook: &str, queued: u64) -> u64 {
    for passage in 1..PASSAGES_MAX {
        if !hub.start_to_die(&format!("{hook}:{passage}")) {
            continue;
        }
        let through = until("its death or its queue", || match hub.has_ended() {
            true => Some(false),
            false => (hub.try_queued() == Some(queued)).then_some(true),
        });
        if through {
            hub.kill();
            return passage - 1;
        }
        hub.died();
    }
    panic!("{hook} is passed more often than {PASSAGES_MAX} times");
}

#[test]
fn f_008_f_014_recovery_that_dies_at_every_step_in_turn_loses_nothing_and_puts_damage_aside_whole() {
    let nowhere = Nowhere::hold();
    let mut hub = hub(&nowhere);
    hub.start();
    assert_eq!(hand_over(&hub, 0..12), [250; 12]);
    hub.kill();
    let rotten = rot(&hub, 5);
    let deaths = dies_at_every_passage(&mut hub, "K18", 11);
    assert!(deaths > 12, "it died {deaths} times, and has 11 messages to queue alone");
    let copies = delivered(&mut hub, 0..12);
    assert_eq!(copies, [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1], "the damaged one alone does not come");
    let aside = files(&hub, "quarantine");
    assert_eq!(aside.len(), 1, "{aside:?}");
    let octets = fs::read(&aside[0]).expect("a file of ours");
    assert!(find(&octets, &rotten).is_some(), "the copy is whole");
}

#[test]
fn f_016_f_033_spool_check_names_rot_as_a_start_finds_it_writes_nothing_and_refuses_a_spool_in_use() {
    let nowhere = Nowhere::hold();
    let mut hub = hub(&nowhere);
    hub.start();
    assert_eq!(hand_over(&hub, 0..6), [250; 6]);
    let (code, _) = check(&hub);
    assert_eq!(code, Some(2), "a server runs on it");
    hub.kill();
    let (code, found) = check(&hub);
    assert_eq!((code, &found["messages"], &found["good"]), (Some(0), &6.into(), &true.into()), "{found}");
    rot(&hub, 2);
    let before: Vec<_> = files(&hub, "").iter().map(|path| (path.clone(), fs::read(path).expect("ours"))).collect();
    for _ in 0..2 {
        let (code, found) = check(&hub);
        assert_eq!((code, &found["messages"]), (Some(1), &5.into()), "{found}");
        assert_eq!(found["damage"].as_array().map(Vec::len), Some(1), "{found}");
        assert!(found["damage"][0]["record"].is_string(), "{found}");
    }
    let after: Vec<_> = files(&hub, "").iter().map(|path| (path.clone(), fs::read(path).expect("ours"))).collect();
    assert!(before == after && files(&hub, "quarantine").is_empty(), "nothing is written");
    assert_eq!(delivered(&mut hub, 0..6), [1, 1, 0, 1, 1, 1]);
}

/// What `ringpost spool check` says: its exit code, and its document.
fn check(hub: &Server) -> (Option<i32>, serde_json::Value) {
    let program = tests::programs::ringpost(Build::FailPoints);
    let done =
        std::process::Command::new(program).args(["spool", "check", "--json", "--data-dir"]).arg(hub.data()).output();
    let done = done.expect("a program");
    (done.status.code(), serde_json::from_slice(&done.stdout).unwrap_or_default())
}

#[test]
fn f_014_f_016_rot_is_put_aside_by_name_said_once_and_counted() {
    // A small one, which stands with its envelope, and a large one, which has blocks of its own.
    [2, 15].into_iter().for_each(is_put_aside);
}

fn is_put_aside(bad: u64) {
    let ids = bad - 2..bad + 4;
    let nowhere = Nowhere::hold();
    let mut hub = hub(&nowhere);
    hub.start();
    assert_eq!(hand_over(&hub, ids.clone()), [250; 6]);
    hub.stop();
    let rotten = rot(&hub, bad);
    hub.start();
    until("the others to be queued", || (hub.queued() == 5).then_some(()));
    assert_eq!(hub.status()["counters"]["spool_damage"], 1);
    let said = hub.process().complaints();
    let damage: Vec<&str> = said.lines().filter(|line| line.contains("damage in the spool")).collect();
    assert_eq!(damage.len(), 1, "said once: {said}");
    assert!(damage[0].contains("file") && damage[0].contains("offset"), "it says where: {}", damage[0]);
    hub.stop();
    let aside = files(&hub, "quarantine");
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert!(find(&fs::read(&aside[0]).expect("a file of ours"), &rotten).is_some(), "the copy is whole");
    hub.start();
    until("the others to be queued", || (hub.queued() == 5).then_some(()));
    assert!(!hub.process().complaints().contains("damage"), "{}", hub.process().complaints());
    hub.stop();
    assert_eq!(delivered(&mut hub, ids), [1, 1, 0, 1, 1, 1]);
    assert_eq!(files(&hub, "quarantine").len(), 1, "nothing more was put aside");
}

/// F-016, P-006: a start reads of a closed segment its footer alone; what rots in it is met when it is to leave. It is put
/// aside then, named once, however often it is tried, and its message stays.
#[test]
fn f_016_what_rotted_in_a_closed_segment_is_put_aside_when_it_is_read() {
    const MESSAGES: u64 = 320;
    let nowhere = Nowhere::hold();
    let mut hub = hub(&nowhere);
    hub.start();
    assert_eq!(hand_over(&hub, 0..MESSAGES), vec![250; MESSAGES as usize]);
    hub.stop();
    assert!(files(&hub, "").iter().filter(|file| file.extension().is_some_and(|end| end == "segment")).count() > 1);
    // A small one, which stands with its envelope, and a large one, which has blocks of its own.
    let rotten = [2, 15].map(|id| rot(&hub, id));
    let sink = Sink::start(Offers { chunking: true });
    hub.tell(|told| told.relay_to(sink.address()));
    hub.start();
    until("the others to leave", || (hub.queued() == 2).then_some(()));
    until("damage to be met again", || (hub.counter("messages_unreadable") > 4).then_some(()));
    assert_eq!(hub.counter("spool_damage"), 2);
    let said = hub.process().complaints();
    let damage: Vec<&str> = said.lines().filter(|line| line.contains("damage in the spool")).collect();
    assert_eq!(damage.len(), 2, "each is said once: {said}");
    assert!(damage.iter().all(|line| line.contains("file") && line.contains("offset")), "it says where: {said}");
    hub.stop();
    let copies = files(&hub, "quarantine");
    assert_eq!(copies.len(), 2, "{copies:?}");
    let copies: Vec<Vec<u8>> = copies.iter().map(|path| fs::read(path).expect("a file of ours")).collect();
    assert!(rotten.iter().all(|whole| copies.iter().any(|copy| find(copy, whole).is_some())), "the copies are whole");
    let came = sink.count_by_sender();
    assert_eq!((came.len() as u64, came.values().max()), (MESSAGES - 2, Some(&1)));
}

#[test]
fn f_013_an_unclean_stop_in_modes_none_and_os_is_said_at_the_start() {
    let nowhere = Nowhere::hold();
    let mut hub = hub(&nowhere);
    for (durability, said) in [("none", true), ("os", true), ("disk", false)] {
        hub.tell(|told| told.durability = durability);
        hub.start();
        assert_eq!(hand_over(&hub, 0..1), [250]);
        hub.kill();
        hub.start();
        let complaints = hub.process().complaints();
        assert_eq!(
            complaints.contains(&format!("unclean stop, mode {durability}")),
            said,
            "{durability}: {complaints}"
        );
        hub.stop();
        hub.start();
        let complaints = hub.process().complaints();
        assert!(!complaints.contains("unclean stop"), "{durability}, after a drain: {complaints}");
        hub.stop();
    }
}

/// F-010, I-10: who keeps nothing says what is gone, and starts over nobody's mail.
#[test]
fn f_010_i_10_mail_is_not_left_lying_by_a_run_that_keeps_none() {
    let nowhere = Nowhere::hold();
    let mut hub = hub(&nowhere);
    hub.tell(|told| told.durability = "none");
    hub.start();
    assert_eq!(hand_over(&hub, 0..2), [250; 2]);
    let said = hub.stop_saying();
    assert!(said.contains("2 messages were in memory alone"), "{said}");
    hub.tell(|told| told.durability = "disk");
    hub.start();
    assert_eq!(hand_over(&hub, 2..5), [250; 3]);
    hub.stop();
    hub.tell(|told| told.durability = "none");
    let said = hub.refuses();
    assert!(said.contains("3 messages of an earlier run") && said.contains("with os or disk"), "{said}");
    hub.tell(|told| told.durability = "disk");
    assert_eq!(delivered(&mut hub, 2..5), [1; 3]);
    hub.tell(|told| told.durability = "none");
    hub.start();
    hub.stop();
}

/// A hub that takes the write of its fourth batch for failed.
fn on_a_bad_disk(nowhere: &Nowhere) -> Server {
    let mut hub = hub(nowhere);
    hub.tell(|told| told.fail_write = Some(4));
    hub
}

#[test]
fn f_026_f_027_a_failed_write_is_refused_and_what_stood_in_its_segment_moves() {
    let nowhere = Nowhere::hold();
    let mut hub = hub(&nowhere);
    hub.tell(|told| told.fail_write = Some(13));
    hub.start();
    // The large ones: half of a segment is full, and a spare one is made.
    let large: Vec<u64> = (0..10).map(|at| 16 * at + 15).collect();
    for &id in &large {
        assert_eq!(hand_over(&hub, id..id + 1), [250]);
    }
    let segments =
        |hub: &Server| files(hub, "").iter().filter(|path| path.extension() == Some("segment".as_ref())).count();
    until("a spare segment", || (segments(&hub) >= 2).then_some(()));
    let small = 200..206;
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    for id in small.clone() {
        let reply = talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply, and no silence");
        let refused = (reply.code, reply.lines[0].starts_with("4.3.0")) == (451, true);
        assert_eq!((refused, reply.is_positive()), (id == 202, id != 202), "{id}: {reply:?}");
    }
    until("the bad segment to be put away", || (files(&hub, "quarantine").len() == 1).then_some(()));
    assert_eq!(hub.queued(), 15);
    hub.kill();
    hub.tell(|told| told.fail_write = None);
    let copies = delivered(&mut hub, 0..206);
    for id in 0..206 {
        let accepted = large.contains(&id) || small.contains(&id) && id != 202;
        assert_eq!(copies[usize::try_from(id).expect("small")], usize::from(accepted), "message {id}");
    }
}

#[test]
fn f_008_killed_between_the_copies_of_a_bad_segment_and_its_end_every_message_comes_once() {
    let nowhere = Nowhere::hold();
    let mut met = Vec::new();
    // The heads of segments pass K16 too: some of these deaths are there.
    for (hook, passage) in std::iter::once(("K17", 1)).chain((1..=10).map(|passage| ("K16", passage))) {
        let mut hub = on_a_bad_disk(&nowhere);
        let ready = hub.start_to_die(&format!("{hook}:{passage}"));
        let codes = if ready { hand_over(&hub, 0..6) } else { Vec::new() };
        if ready && until("its death, or the end of the bad segment", || end_of_story(&mut hub)) {
            hub.died();
            met.push(hook);
        } else if ready {
            hub.kill();
        }
        hub.tell(|told| told.fail_write = None);
        let copies = delivered(&mut hub, 0..6);
        for (id, code) in codes.iter().enumerate() {
            let right = match code {
                250 => 1..=1,
                // It died before it answered.
                0 => 0..=1,
                _ => 0..=0,
            };
            assert!(right.contains(&copies[id]), "{hook}:{passage}: {codes:?} were answered, {copies:?} came");
        }
    }
    assert!(met.contains(&"K17") && met.contains(&"K16"), "{met:?}");
}

/// Whether it died at its hook; `None` while it may still get there.
fn end_of_story(hub: &mut Server) -> Option<bool> {
    if hub.has_ended() {
        return Some(true);
    }
    (files(hub, "quarantine").len() == 1).then_some(false)
}
