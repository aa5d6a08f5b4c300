//! Killed under load, at every hook and at random: batches, segments and pipelined transactions are met in the middle.

use super::rounds;
use tests::chance::Chance;
use tests::programs::Build;
use tests::senders::Senders;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::wait::until;

const SENDERS: usize = 4;
/// Transactions that the hub may have in flight when it dies: connections times depth, as the configuration below says.
const IN_FLIGHT_MAX: u32 = 2 * 8;

/// A hub, its senders and its sink, through any number of deaths.
struct World {
    hub: Server,
    senders: Senders,
    sink: Sink,
    deaths: u32,
    /// Copies that deaths at no hook explain.
    explained: u32,
}

impl World {
    fn new(durability: &'static str, chunking: bool) -> Self {
        let sink = Sink::start(Offers { chunking });
        let more = vec![
            ("delivery", "connections_per_hop_max = 2\nin_flight_max = 8".to_owned()),
            ("receive", "connections_per_source_max = 100".to_owned()),
        ];
        let told = Told { build: Build::FailPoints, durability, more, ..Told::relaying_to(sink.address()) };
        Self { hub: Server::new(told), senders: Senders::start(SENDERS), sink, deaths: 0, explained: 0 }
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
        // Nobody counts what is not durable at a moment of chance: as much again, in the batch that is being written and
        // in the one that fills.
        self.explained += 2 * IN_FLIGHT_MAX;
    }

    /// Starts it for good, waits until everything acknowledged has come, drains, and judges.
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
        let explained = self.explained + self.hub.explained();
        println!(
            "{} deaths, {} acknowledged, {} duplicates of {explained} explained",
            self.deaths, verdict.acked, verdict.duplicates
        );
        verdict.assert_kept(explained);
    }
}

/// Every round dies at a later passage of the hook.
fn killed_at(hooks: &[&str], chunking: bool) {
    let mut world = World::new("disk", chunking);
    for round in 0..rounds().div_ceil(4) {
        for hook in hooks {
            world.die_at(hook, 1 + round * 7 % 40);
        }
    }
    world.end();
}

#[test]
fn f_002_f_003_f_004_batches_of_many_are_killed_while_they_are_written() {
    killed_at(&["K4", "K5", "K6", "K7", "K8", "K9"], true);
}

#[test]
fn f_005_f_006_f_007_pipelined_transactions_are_killed_before_their_outcomes_are_durable() {
    killed_at(&["K12", "K13", "K14", "K15"], true);
    killed_at(&["K12", "K13", "K14", "K15"], false);
}

#[test]
fn f_008_killed_while_a_segment_gets_its_next_life_and_while_that_is_recovered() {
    let mut world = World::new("disk", true);
    for round in 0..rounds().div_ceil(2) {
        world.die_at("K16", 1 + round % 11);
        // The recovering process dies again, three times over.
        for passage in 1..=3 {
            world.die_at("K18", passage + round % 5);
        }
    }
    world.end();
}

#[test]
fn i_1_killed_at_random_it_loses_nothing() {
    let mut chance = Chance::new(20);
    let mut world = World::new("disk", true);
    for _ in 0..rounds() {
        world.die_at("any", chance.within(1..4000));
    }
    world.end();
}

#[test]
fn i_1_what_the_kernel_has_survives_the_process() {
    let mut chance = Chance::new(21);
    let mut world = World::new("os", true);
    for _ in 0..rounds().div_ceil(2) {
        world.die_after(usize::try_from(chance.within(1..300)).expect("a small number"));
    }
    world.end();
}
