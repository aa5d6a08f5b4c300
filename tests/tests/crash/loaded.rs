//! Killed under load, at every hook and at random: batches, segments and pipelined transactions are met in the middle.

use super::rounds;
use serde_json::Value;
use tests::chance::Chance;
use tests::ledger::{Ledger, content, sender};
use tests::programs::Build;
use tests::senders::Senders;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

const SENDERS: usize = 4;
/// Where they are to meet both of two shards.
const MANY_SENDERS: usize = 16;

/// A hub, its senders and its sink, through any number of deaths.
struct World {
    hub: Server,
    senders: Senders,
    sink: Sink,
    deaths: u32,
    /// Copies that deaths at no hook explain.
    explained: u64,
    /// Its shards have one connection between them.
    lends: bool,
}

impl World {
    fn new(durability: &'static str, chunking: bool) -> Self {
        Self::of(1, 2, durability, chunking)
    }

    /// Two shards and one connection: what one of them accepts leaves by the other, whose owner learns its outcome.
    fn lending(chunking: bool) -> Self {
        Self::of(2, 1, "disk", chunking)
    }

    fn of(shards: usize, connections: u32, durability: &'static str, chunking: bool) -> Self {
        let sink = Sink::start(Offers { chunking });
        let more = vec![
            ("delivery", format!("connections_per_hop_max = {connections}\nin_flight_max = 8")),
            ("receive", "connections_per_source_max = 100".to_owned()),
        ];
        let told = Told { build: Build::FailPoints, shards, durability, more, ..Told::relaying_to(sink.address()) };
        let lends = shards > 1;
        let senders = Senders::start(if lends { MANY_SENDERS } else { SENDERS });
        Self { hub: Server::new(told), senders, sink, deaths: 0, explained: 0, lends }
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
        let before = self.sink.taken().len();
        self.hub.start();
        self.senders.aim(Some(self.hub.address()));
        let enough = self.senders.ledger().acked() + messages;
        until("the next acknowledgements", || {
            assert!(!self.hub.has_ended(), "nobody killed it:\n{}", self.hub.process().complaints());
            (self.senders.ledger().acked() >= enough).then_some(())
        });
        let status = self.hub.status();
        self.senders.aim(None);
        self.hub.kill();
        self.deaths += 1;
        until("the sink to read what was on its way", || (self.sink.open() == 0).then_some(()));
        let taken = self.sink.taken().len() - before;
        self.explained += printed(&status) + came_since(&status, taken);
    }

    /// Starts it for good, waits until everything acknowledged has come, drains, and judges.
    fn end(mut self) {
        self.hub.start();
        self.senders.aim(Some(self.hub.address()));
        let some = self.senders.ledger().acked() + 20;
        until("mail to flow again", || (self.senders.ledger().acked() >= some).then_some(()));
        if self.lends {
            until("messages to be lent", || (self.hub.counter("messages_lent") > 0).then_some(()));
        }
        let ledger = self.senders.stop();
        if self.sink.try_wait(|taken| ledger.is_all_there(taken)).is_err() {
            let missing = ledger.judge(&self.sink.taken()).lost;
            panic!("acknowledged and not delivered: {missing:?}; the hub says {:#}", self.hub.status());
        }
        self.hub.stop();
        let verdict = ledger.judge(&self.sink.taken());
        let explained = u32::try_from(self.explained).expect("few") + self.hub.explained();
        println!(
            "{} deaths, {} acknowledged, {} duplicates of {explained} explained",
            self.deaths, verdict.acked, verdict.duplicates
        );
        verdict.assert_kept(explained);
    }
}

/// What an operator is told that a kill repeats at most.
fn printed(status: &Value) -> u64 {
    status["windows"]["duplicates_max"].as_u64().expect("a bound")
}

/// Of the messages that the next hop took in this life, those whose outcome the status does not know of and that were not
/// under way then either: they came behind it.
fn came_since(status: &Value, taken: usize) -> u64 {
    let known = status["counters"]["recipients_delivered"].as_u64().expect("a counter");
    let under_way = status["windows"]["w5"].as_u64().expect("a count");
    u64::try_from(taken).expect("a count").saturating_sub(known + under_way)
}

/// Every round dies at a later passage of the hook.
fn killed_at(hooks: &[&str], chunking: bool) {
    strike(World::new("disk", chunking), hooks, rounds().div_ceil(4));
}

fn strike(mut world: World, hooks: &[&str], rounds: u64) {
    for round in 0..rounds {
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

/// The same where outcomes cross to the shard whose messages they are of.
#[test]
fn f_005_f_006_f_007_shards_that_lend_are_killed_before_outcomes_are_durable() {
    for chunking in [true, false] {
        strike(World::lending(chunking), &["K9", "K12", "K13", "K14", "K15"], rounds().div_ceil(8));
    }
}

/// P-004: of each message one shard alone says that it is under way or that its outcome is not durable, the one that keeps it.
#[test]
fn p_004_what_status_says_holds_where_shards_lend() {
    let mut chance = Chance::new(23);
    let mut world = World::lending(true);
    for _ in 0..rounds().div_ceil(2) {
        world.die_after(usize::try_from(chance.within(1..300)).expect("a small number"));
    }
    world.end();
}

#[test]
fn f_008_i_1_shards_that_lend_are_killed_anywhere_and_lose_nothing() {
    let mut chance = Chance::new(22);
    let mut world = World::lending(true);
    for _ in 0..rounds().div_ceil(2) {
        world.die_at("any", chance.within(1..4000));
        // Both logs are reclaimed and recovered.
        world.die_at("K16", chance.within(1..8));
        world.die_at("K18", chance.within(1..4));
    }
    world.end();
}

/// P-004: of what is under way at a kill, exactly so much comes twice as `status` said (W5), and nothing else.
#[test]
fn p_004_what_status_says_is_under_way_is_what_a_kill_repeats() {
    let sink = Sink::start(Offers { chunking: true });
    let depth = 8;
    let told = Told::relaying_to(sink.address());
    let mut hub = Server::new(told.with("delivery", format!("connections_per_hop_max = 1\nin_flight_max = {depth}")));
    let ledger = Ledger::default();
    for round in 0..rounds().div_ceil(4) {
        // Nothing that the next connection takes is answered.
        let gate = sink.hold_and_cut(usize::MAX, usize::MAX);
        hub.start();
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        for id in round * 20..round * 20 + 20 {
            assert!(talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply").is_positive());
            ledger.note(id, |offered| offered.acked += 1);
        }
        let before = sink.taken().len();
        gate.send(()).expect("the hub has connected");
        sink.wait("as many as may be under way", |taken| taken.len() == before + depth);
        let status = until("all of them to be seen", || {
            let status = hub.status();
            (status["windows"]["w5"] == depth && status["windows"]["w1"] == 0).then_some(status)
        });
        assert_eq!(printed(&status), depth as u64, "{status:#}");
        hub.kill();
        hub.start();
        sink.wait("everything", |taken| ledger.is_all_there(taken));
        until("every outcome", || (hub.queued() == 0).then_some(()));
        hub.stop();
        let verdict = ledger.judge(&sink.taken());
        let explained = u32::try_from((round + 1) * depth as u64).expect("few");
        assert_eq!(verdict.duplicates, explained, "round {round}");
        verdict.assert_kept(explained);
    }
}

#[test]
fn f_008_killed_while_a_segment_gets_its_next_life_and_while_that_is_recovered() {
    let mut world = World::new("disk", true);
    // When it is chosen to be used again, and when its new head is written: a few rounds may miss one of them.
    let places = ["K16 in segments.rs", "K16 in dying.rs"];
    for round in 0..100 + rounds() {
        world.die_at("K16", 1 + round % 11);
        // The recovering process dies again, three times over.
        for passage in 1..=3 {
            world.die_at("K18", passage + round % 5);
        }
        if 2 * round >= rounds() && places.iter().all(|place| world.hub.places().contains(*place)) {
            return world.end();
        }
    }
    panic!("{places:?} were not met: {:?}", world.hub.places());
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
