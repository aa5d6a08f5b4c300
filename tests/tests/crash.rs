//! SIGKILL at every step of durability and at random, under load: nothing acknowledged is lost, nothing comes half, and
//! duplicates stay within their windows (F-001 to F-008, I-1 to I-4).
//!
//! `RINGPOST_KILL_ROUNDS` sets the rounds for each hook (4); the whole matrix is run by hundreds with 100 and more.

#![forbid(unsafe_code)]

use tests::chance::Chance;
use tests::programs::Build;
use tests::senders::Senders;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::wait::until;

const SENDERS: usize = 4;
/// Transactions that the hub may have in flight when it dies: connections times depth, as the configuration below says.
const IN_FLIGHT_MAX: u32 = 2 * 8;

fn rounds() -> u64 {
    std::env::var("RINGPOST_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// A hub, its senders and its sink, through any number of deaths.
struct World {
    hub: Server,
    senders: Senders,
    sink: Sink,
    deaths: u32,
}

impl World {
    fn new(durability: &'static str, chunking: bool) -> Self {
        let sink = Sink::start(Offers { chunking });
        let more = vec![
            ("delivery", "connections_per_hop_max = 2\nin_flight_max = 8".to_owned()),
            ("receive", "connections_per_source_max = 100".to_owned()),
        ];
        let told = Told { build: Build::FailPoints, durability, more, ..Told::relaying_to(sink.address()) };
        Self { hub: Server::new(told), senders: Senders::start(SENDERS), sink, deaths: 0 }
    }

    /// Starts it, lets it take mail, and waits until it died at the hook.
    fn die_at(&mut self, hook: &str, passage: u64) {
        if self.hub.start_to_die(&format!("{hook}:{passage}")) {
            self.senders.aim(Some(self.hub.address()));
            self.hub.died();
        }
        self.senders.aim(None);
        self.deaths += 1;
    }

    /// Starts it, and kills it when so many more messages were acknowledged.
    fn die_after(&mut self, messages: usize) {
        self.hub.start();
        self.senders.aim(Some(self.hub.address()));
        let enough = self.senders.ledger().acked() + messages;
        until("the next acknowledgements", || {
            assert!(!self.hub.has_ended(), "nobody killed it:\n{}", self.hub.process().complaints());
            (self.senders.ledger().acked() >= enough).then_some(())
        });
        self.senders.aim(None);
        self.hub.kill();
        self.deaths += 1;
    }

    /// Starts it for good, waits until everything acknowledged has come, drains, and judges. What one death may duplicate is
    /// what was in flight plus what was settled in the last batch; the latter holds at most what came back in one
    /// settle interval, bounded here by what was in flight twice over.
    fn end(mut self) {
        self.hub.start();
        self.senders.aim(Some(self.hub.address()));
        let some = self.senders.ledger().acked() + 20;
        until("mail to flow again", || (self.senders.ledger().acked() >= some).then_some(()));
        let ledger = self.senders.stop();
        if self.sink.try_wait(|taken| ledger.is_all_there(taken)).is_err() {
            let missing = ledger.judge(&self.sink.taken()).lost;
            panic!("acknowledged and not delivered: {missing:?}; the hub says {:#}", self.hub.status());
        }
        self.hub.stop();
        let verdict = ledger.judge(&self.sink.taken());
        println!("{} deaths, {} acknowledged, {} duplicates", self.deaths, verdict.acked, verdict.duplicates);
        verdict.assert_kept(self.deaths * 3 * IN_FLIGHT_MAX);
    }
}

/// Every round dies at a later passage of the hook, so that batches, segments and transactions are met in the middle.
fn killed_at(hooks: &[&str], chunking: bool) {
    let mut world = World::new("disk", chunking);
    for round in 0..rounds() {
        for hook in hooks {
            world.die_at(hook, 1 + round * 7 % 40);
        }
    }
    world.end();
}

#[test]
fn f_001_killed_before_the_record_is_written() {
    killed_at(&["K1", "K2", "K3"], true);
}

#[test]
fn f_002_killed_while_the_record_is_written() {
    killed_at(&["K4", "K5", "K6"], true);
}

#[test]
fn f_003_killed_between_the_sync_and_the_reply() {
    killed_at(&["K7", "K8"], true);
}

#[test]
fn f_004_killed_before_the_queue_knows() {
    killed_at(&["K9"], true);
}

#[test]
fn f_005_killed_before_the_next_hop_answers() {
    killed_at(&["K12"], true);
    killed_at(&["K12"], false);
}

#[test]
fn f_006_killed_before_the_outcome_is_on_disk() {
    killed_at(&["K13", "K14"], true);
    killed_at(&["K13", "K14"], false);
}

#[test]
fn f_007_killed_before_memory_knows_the_outcome() {
    killed_at(&["K15"], true);
}

#[test]
fn f_008_killed_while_a_segment_is_reused_and_while_it_recovers() {
    let mut world = World::new("disk", true);
    for round in 0..rounds() {
        world.die_at("K16", 1 + round % 3);
        // The recovering process dies again, three times over.
        for passage in 1..=3 {
            world.die_at("K18", passage);
        }
    }
    world.end();
}

#[test]
fn i_1_killed_at_random_it_loses_nothing() {
    let mut chance = Chance::new(20);
    let mut world = World::new("disk", true);
    for _ in 0..5 * rounds() {
        world.die_after(usize::try_from(chance.within(1..300)).expect("a small number"));
    }
    world.end();
}

#[test]
fn i_1_what_the_kernel_has_survives_the_process() {
    let mut chance = Chance::new(21);
    let mut world = World::new("os", true);
    for _ in 0..2 * rounds() {
        world.die_after(usize::try_from(chance.within(1..300)).expect("a small number"));
    }
    world.end();
}
