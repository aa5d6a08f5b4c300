//! A hub whose disk or memory is short: mail is put off, what was promised is kept, and it ends by itself (F-022, F-023,
//! F-040, I-6).

use std::net::SocketAddr;
use tests::ledger::{Ledger, content, sender};
use tests::peers::free_address;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::small_disk::SmallDisk;
use tests::talk::Talk;
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
    let next_hop = free_address();
    let mut hub = Server::started(budgeted(Told { durability: "none", ..Told::relaying_to(next_hop) }));
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
