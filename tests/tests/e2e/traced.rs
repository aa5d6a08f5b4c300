//! The engine's own count of its system calls, against what a tracer sees.

use rustix::process::Signal;
use std::fs;
use tests::process::Process;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::{PATIENCE, until};

const MESSAGES: u64 = 300;
/// Calls that move no octets and wait for none, which the count is not about: memory, locks, looks at folders and disks.
const NOT_COUNTED: [&str; 11] = [
    "madvise(",
    "mmap(",
    "munmap(",
    "mprotect(",
    "futex(",
    "openat(",
    "close(",
    "getdents64(",
    "newfstatat(",
    "fstatfs(",
    "statx(",
];

/// The thread of the first shard.
fn shard(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let name = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let shard = tasks.filter_map(Result::ok).find(|task| name(task).trim() == "shard-0").expect("a shard");
    shard.file_name().to_string_lossy().into_owned()
}

/// What the figure of P-106 rests on: the calls that a shard counts are those that it makes.
#[test]
fn p_106_a_shard_counts_the_system_calls_that_it_makes() {
    const TEST: &str = "p_106_a_shard_counts_the_system_calls_that_it_makes";
    if tests::peers::strace().arg("-V").output().is_err() {
        return tests::skip(TEST, "strace is not here");
    }
    if let Some(why) = tests::no_uring() {
        return tests::skip(TEST, &why);
    }
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told { driver: "uring", ..Told::relaying_to(sink.address()) });
    let log = hub.data().join("calls");
    let mut command = tests::peers::strace();
    command.args(["-p", &shard(hub.process().pid()), "-o"]).arg(&log);
    let mut tracer = Process::spawn(command);
    until("the tracer to say something", || (!tracer.said().is_empty()).then_some(()));
    if !tracer.said()[0].contains("attached") {
        return tests::skip(TEST, &format!("strace may not look: {:?}", tracer.said()));
    }
    let before = hub.counter("syscalls");
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    for _ in 0..MESSAGES {
        talk.send("a@a.test", &["b@b.test"], b"Subject: counted\r\n\r\ntext\r\n").expect("an open connection");
    }
    until("every message to be delivered", || (hub.counter("recipients_delivered") == MESSAGES).then_some(()));
    tracer.signal(Signal::INT);
    tracer.wait(PATIENCE).expect("strace ends when it is told to");
    let calls = fs::read_to_string(&log).expect("what strace wrote");
    let is_counted = |line: &&str| {
        line.starts_with(|first: char| first.is_ascii_lowercase())
            && !NOT_COUNTED.iter().any(|call| line.starts_with(call))
    };
    let seen = calls.lines().filter(is_counted).count() as u64;
    assert!(seen > MESSAGES, "{seen}");
    // A shard publishes its counts now and then, and makes some calls before the attaching and behind the end.
    let about = seen / 50 + 100;
    let counted = until("the shard to have counted what was seen", || {
        let counted = hub.counter("syscalls") - before;
        (counted + about >= seen).then_some(counted)
    });
    assert!(counted <= seen + about, "{seen} seen, {counted} counted");
    hub.stop();
}
