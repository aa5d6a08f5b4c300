//! A hub whose disk or memory is short: mail is put off, what was promised is kept, and it ends by itself (F-022, F-023,
//! F-040, I-6).

use engine::io::driver::UNREAD_BYTES;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tests::ledger::{Ledger, content, sender};
use tests::peers::free_address;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::small_disk::SmallDisk;
use tests::talk::{Reply, Talk};
use tests::wait::until;

/// Offers a message: its code, whether it was refused before its content or behind it.
fn offer(hub: SocketAddr, from: &str, content: &[u8]) -> (u16, String) {
    let mut talk = Talk::hello(hub).expect("a greeting");
    match talk.send(from, &["bob@b.test"], content) {
        Ok(reply) => (reply.code, reply.lines.concat()),
        Err(refused) => {
            let text = refused.to_string();
            let code = text.split("code: ").nth(1).and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
            (code.unwrap_or_else(|| panic!("no reply: {text}")), text)
        }
    }
}

/// Sends until it is refused: the ids of what was accepted.
fn fill(hub: &Server, ledger: &Ledger, most: u64) -> u64 {
    for id in 0..most {
        // Every sixteenth has more than is written while it arrives; all of them fill.
        let (code, text) = offer(hub.address(), &sender(id * 16 + 15), &content(id * 16 + 15));
        if code != 250 {
            assert!(code == 452 && text.contains("4.3.1"), "I-9: {code} {text}");
            return id;
        }
        ledger.note(id * 16 + 15, |offered| offered.acked += 1);
    }
    panic!("{most} messages fit");
}

#[test]
fn f_022_f_023_a_full_disk_puts_mail_off_and_loses_none() {
    for free_min in ["8 MiB", "0 B"] {
        let disk = match SmallDisk::of(32 << 20) {
            Ok(disk) => disk,
            Err(why) => return tests::skip("f_022_f_023_a_full_disk_puts_mail_off_and_loses_none", &why),
        };
        let next_hop = free_address();
        let spool = format!("segment_size = \"4 MiB\"\nfree_min = {free_min:?}");
        let mut hub = Server::new_in(disk.path(), Told::relaying_to(next_hop).with("spool", spool));
        hub.start();
        let ledger = Ledger::default();
        let accepted = fill(&hub, &ledger, 400);
        assert!(accepted > 10, "{accepted} messages of 290 KB on a disk of 32 MiB, {free_min} kept free");
        // What waits leaves although nothing more may come in, and what it took is free again without anybody's help.
        let sink = Sink::start_at(next_hop, Offers { chunking: true });
        sink.wait("what was acknowledged", |taken| ledger.is_all_there(taken));
        until("mail to be taken again", || {
            let (code, text) = offer(hub.address(), &sender(0), &content(0));
            assert!(code == 250 || (code == 452 && text.contains("4.3.1")), "I-9: {code} {text}");
            (code == 250).then(|| ledger.note(0, |offered| offered.acked += 1))
        });
        sink.wait("the last one", |taken| ledger.is_all_there(taken));
        hub.stop();
        ledger.judge(&sink.taken()).assert_kept(0);
    }
}

/// The memory budget in these tests, octets.
const BUDGET: u64 = 16 << 20;
/// Beside content: the shard's receive buffers, and what its sessions take.
const BESIDE: u64 = 4 << 20;

fn budgeted(told: Told) -> Told {
    told.with("server", "memory_budget = \"16 MiB\"").with("spool", "segment_size = \"16 MiB\"")
}

/// What the process has grown by at its largest, against its budget.
fn assert_within_budget(hub: &mut Server, before: u64) {
    let grown = hub.process().peak_resident_bytes().saturating_sub(before);
    println!("budget {BUDGET} octets, grown by {grown}");
    assert!(grown <= BUDGET + BUDGET / 10 + BESIDE, "I-6: {grown} octets more than at the start");
}

/// In memory alone: what does not fit is refused with 452 4.3.1, and taken again once something has left.
#[test]
fn f_040_messages_in_memory_stay_within_its_budget() {
    tests::drivers("f_040_messages_in_memory_stay_within_its_budget").for_each(stays_within_budget);
}

fn stays_within_budget(driver: &'static str) {
    let next_hop = free_address();
    let mut hub = Server::started(budgeted(Told { driver, durability: "none", ..Told::relaying_to(next_hop) }));
    let before = hub.process().resident_bytes();
    let ledger = Ledger::default();
    let accepted = fill(&hub, &ledger, 400);
    assert!(accepted > 10, "{accepted} messages of 290 KB in 16 MiB");
    assert_within_budget(&mut hub, before);
    let sink = Sink::start_at(next_hop, Offers { chunking: true });
    sink.wait("what was acknowledged", |taken| ledger.is_all_there(taken));
    until("mail to be taken again", || (offer(hub.address(), &sender(0), &content(0)).0 == 250).then_some(()));
    hub.stop();
}

/// The furthest step that a hub took since it was last asked.
fn step(hub: &Server) -> u64 {
    hub.counter("memory_step")
}

/// Octets of a segment in these tests.
const SEGMENT: u64 = 16 << 20;
/// Beside content on a disk: the notes of an open segment and of the one before it, a quarter of a segment at most each; a
/// segment's zeros; and for each connection what was received and is not read, in a buffer up to twice as large, and its session.
const BESIDE_ON_DISK: u64 = BESIDE + SEGMENT / 2 + (1 << 20) + HOLDERS * (2 * UNREAD_BYTES as u64 + (16 << 10));
/// Clients that begin a message and do not end it.
const HOLDERS: u64 = 120;

/// On disk: bodies leave memory and mail goes on being taken; where clients hold it all, new mail is refused and what they
/// send is not read; it is all over when they go. The process never outgrows its budget.
#[test]
fn f_040_the_three_steps_are_taken_and_left_and_the_budget_holds() {
    let next_hop = free_address();
    let mut hub = Server::started(budgeted(Told::relaying_to(next_hop)));
    let before = hub.process().resident_bytes();
    let ledger = Ledger::default();
    let mut steps = BTreeSet::new();
    let mut sent = 0;
    // More than memory holds, and until somebody who looks now and then has seen that bodies are dropped.
    while sent < 160 || !steps.contains(&1) {
        assert!(sent < 10_000, "bodies leave memory: {steps:?}");
        let id = sent * 16 + 15;
        assert_eq!(offer(hub.address(), &sender(id), &content(id)).0, 250, "bodies make room on their own");
        ledger.note(id, |offered| offered.acked += 1);
        steps.insert(step(&hub));
        sent += 1;
    }
    let mut held = Vec::new();
    until("mail to be refused, and nothing more to be read", || {
        // What waits for memory is given up after a while: then there is room for more to wait.
        held = hold_memory(&hub, &mut steps);
        let (code, text) = offer(hub.address(), &sender(0), &content(0));
        assert!(code == 250 || (code == 452 && text.contains("4.3.1")), "I-9: {code} {text}");
        (code == 452 && steps.contains(&3)).then_some(())
    });
    drop(held);
    // Those that waited for memory see that their clients have gone.
    until("mail to be taken again", || (offer(hub.address(), &sender(0), &content(0)).0 == 250).then_some(()));
    until("the shortage to be over", || (step(&hub) == 0).then_some(()));
    let grown = hub.process().peak_resident_bytes().saturating_sub(before);
    println!("budget {BUDGET} octets, grown by {grown} from {before}");
    assert!(grown <= BUDGET + BUDGET / 10 + BESIDE_ON_DISK, "I-6: {grown} octets more than at the start");
    let sink = Sink::start_at(next_hop, Offers { chunking: true });
    sink.wait("what was acknowledged", |taken| ledger.is_all_there(taken));
    hub.stop();
}

/// Clients that send messages of 240 KB, twice what memory holds, and do not end them. None says how much is to come.
fn hold_memory(hub: &Server, steps: &mut BTreeSet<u64>) -> Vec<Talk> {
    let begin = |_| {
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        talk.envelope("a@a.test", &["b@b.test"]).ok()?;
        (talk.say("DATA").expect("a reply").code == 354).then_some(talk)
    };
    let mut held: Vec<Talk> = (0..HOLDERS).filter_map(begin).collect();
    let lines = b"0123456789012345678901234567890123456789\r\n".repeat(200);
    for _ in 0..30 {
        for talk in &mut held {
            talk.stream().set_nonblocking(true).expect("an option");
            // What the hub does not read stays with us.
            let _ = talk.write(&lines);
        }
        steps.insert(step(hub));
    }
    held
}

/// Senders at a time, and messages of 290 KB from each: together ten times what memory holds.
const SENDERS: u64 = 24;
const MESSAGES_EACH: u64 = 24;

/// Two shards with one budget, a next hop that is down, and many senders at once: whatever one shard keeps, the other goes on,
/// memory stays within the budget, and what was put off meanwhile is taken when it is offered again.
#[test]
fn f_040_many_senders_of_two_shards_stay_within_one_budget_and_all_get_through() {
    let next_hop = free_address();
    let mut hub = Server::started(budgeted(Told { shards: 2, ..Told::relaying_to(next_hop) }));
    let before = hub.process().resident_bytes();
    let (ledger, put_off, at) = (Ledger::default(), AtomicU64::new(0), hub.address());
    let send_all = |sender_number: u64| {
        for id in (0..MESSAGES_EACH).map(|number| (sender_number * MESSAGES_EACH + number) * 16 + 15) {
            until("mail to be taken, or taken again", || {
                let (code, text) = offer(at, &sender(id), &content(id));
                assert!(code == 250 || (code == 452 && text.contains("4.3.1")), "I-9: {code} {text}");
                put_off.fetch_add(u64::from(code == 452), Ordering::Relaxed);
                (code == 250).then(|| ledger.note(id, |offered| offered.acked += 1))
            });
        }
    };
    std::thread::scope(|scope| {
        for number in 0..SENDERS {
            scope.spawn(move || send_all(number));
        }
    });
    println!("{} were put off", put_off.into_inner());
    let grown = hub.process().peak_resident_bytes().saturating_sub(before);
    println!("budget {BUDGET} octets, grown by {grown} from {before}");
    let beside = 2 * (BESIDE + SEGMENT / 2 + (1 << 20)) + SENDERS * (2 * UNREAD_BYTES as u64 + (16 << 10));
    assert!(grown <= BUDGET + BUDGET / 10 + beside, "I-6: {grown} octets more than at the start");
    let sink = Sink::start_at(next_hop, Offers { chunking: true });
    sink.wait("what was acknowledged", |taken| ledger.is_all_there(taken));
    // On both shards, wherever a connection comes in.
    (0..SENDERS).for_each(|_| assert_eq!(offer(at, &sender(0), &content(0)).0, 250));
    hub.stop();
}

/// Clients that name as many recipients as they may, and say nothing more.
const NAMERS: u64 = 300;
const RECIPIENTS_EACH: usize = 600;

/// What clients hold of envelopes is memory like any other: it stays within the budget, who wants more of it is put off, and
/// so is new mail, until they go.
#[test]
fn f_040_large_envelopes_stay_within_the_budget_and_more_of_them_wait() {
    let mut hub = Server::started(budgeted(Told::relaying_to(free_address())));
    let before = hub.process().resident_bytes();
    let recipients: String = (0..RECIPIENTS_EACH)
        .map(|number| format!("RCPT TO:<{}{number:04}@{}.{}.test>\r\n", "l".repeat(60), "d".repeat(60), "e".repeat(60)))
        .collect();
    // How often it was put off.
    let name = |talk: &mut Talk| {
        let is_put_off = |reply: Reply| {
            let put_off = reply.code == 452 && reply.lines.concat().contains("4.3.1");
            assert!(reply.code == 250 || put_off, "I-9: {reply:?}");
            put_off
        };
        if is_put_off(talk.say("MAIL FROM:<a@a.test>").expect("a reply")) {
            return 1;
        }
        talk.write(recipients.as_bytes()).expect("it reads");
        (0..RECIPIENTS_EACH).filter(|_| is_put_off(talk.reply().expect("a reply"))).count()
    };
    // Each says hello when its turn comes: who waits between transactions is not waited for long while memory is short.
    let mut held: Vec<Talk> = Vec::new();
    let mut put_off = 0;
    for _ in 0..NAMERS {
        held.push(Talk::hello(hub.address()).expect("a greeting"));
        put_off += held.last_mut().map_or(0, name);
    }
    assert!(step(&hub) >= 2, "F-040: mail is refused");
    let (code, text) = offer(hub.address(), &sender(0), &content(0));
    assert!(code == 452 && text.contains("4.3.1"), "{code} {text}");
    assert!(put_off > 0, "every recipient was taken");
    let grown = hub.process().peak_resident_bytes().saturating_sub(before);
    println!("budget {BUDGET} octets, grown by {grown} from {before}; {put_off} recipients put off");
    // The allocator keeps some of what envelopes have outgrown. All that is named would be three times the budget.
    assert!(grown <= BUDGET * 3 / 2 + BESIDE + NAMERS * (16 << 10), "I-6: {grown} octets more than at the start");
    // A transaction that ends gives back what it had; the connections stay, but for such as were put off long ago.
    let reset = |talk: &mut Talk| talk.say("RSET").is_ok_and(|reply| reply.code == 250);
    assert!(held.iter_mut().map(reset).filter(|done| *done).count() > 0);
    assert_eq!(offer(hub.address(), &sender(0), &content(0)).0, 250, "mail is taken again");
    assert_eq!(name(&mut held[0]), 0, "and large envelopes are");
    hub.stop();
}
