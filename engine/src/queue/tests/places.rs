//! Who gets a connection at the caps, and what that costs those who had it.

use super::super::places::{LEAVE_WAIT, PLACE_WAIT};
use super::super::*;
use super::world::{Mode, World, host};
use crate::wire::Span;
use proptest::prelude::*;

impl Queues {
    /// What holds of places whenever nothing is to be done.
    pub fn assert_places(&self, now: Tick) {
        let links = || self.links.iter().map(|(_, link)| link);
        assert!(self.links.len() <= self.options.connections_max as usize);
        let unproven = links().filter(|link| link.unproven && link.phase != link::Phase::Ready).count();
        assert_eq!(self.scheduler.unproven as usize, unproven);
        assert!(unproven <= self.options.connections_max.div_ceil(2) as usize);
        assert!(
            links().all(|link| link.leaves.is_none() || link.load + link.promised > 0),
            "it leaves when it is done"
        );
        assert!(self.scheduler.turns.is_empty(), "every place is had, or free");
        assert!(self.scheduler.line_at > now, "whoever may take a place has it");
        for hop in self.hops.iter().filter(|hop| !hop.shrinks) {
            assert!(hop.ready() + hop.connecting() <= hop.cap);
        }
    }
}

/// The hosts of connections that are to give their places.
fn leaving(world: &World) -> Vec<u16> {
    let leaving = world.queues.links.iter().filter(|(_, link)| link.leaves.is_some());
    let at = |link: &link::Link| world.queues.hops[link.hop as usize].hosts[link.host as usize].at.address.port();
    leaving.map(|(_, link)| at(link)).collect()
}

/// When the first message was delivered by this host from now on, while the first queue has more than it can send.
fn served_within(world: &mut World, number: u16, most: Span) -> Option<Span> {
    let (began, before) = (world.now, world.delivered_by(number));
    while world.delivered_by(number) == before && world.now.since(began) < most {
        world.send_for(0, EACH, EACH);
    }
    (world.delivered_by(number) > before).then(|| world.now.since(began))
}

/// More than twenty connections can send when each answer takes a second.
const EACH: Span = Span::millis(40);

/// A queue with two hosts that has all connections, busy, and queues with none.
fn one_has_all(max: u32, others: &[u16]) -> World {
    let options = Options { connections_max: max, connections_start: max, ..Options::rfc() };
    let others: Vec<[u16; 1]> = others.iter().map(|&number| [number]).collect();
    let hops: Vec<&[u16]> = std::iter::once(&[1, 2][..]).chain(others.iter().map(|hosts| &hosts[..])).collect();
    let mut world = World::new(options, &hops);
    world.window = 1;
    [1, 2].iter().for_each(|&number| world.set(number, Mode::Up(Span::seconds(1))));
    world.send_for(0, EACH, Span::seconds(5));
    assert_eq!(world.queues.hop(world.hops[0]).connections, (max, 0), "it has them all");
    world
}

#[test]
fn f_094_a_queue_without_a_connection_has_one_within_seconds_however_busy_another_is() {
    for max in [1, 2, 4, 16] {
        let mut world = one_has_all(max, &[3]);
        world.send(1);
        let served = served_within(&mut world, 3, Span::minutes(1));
        assert!(served <= Some(Span::seconds(3)) && served.is_some(), "{served:?} of {max}");
        let before = world.connects.len();
        world.send_for(0, EACH, Span::minutes(1));
        assert!(world.connects.len() - before <= 2, "and the place is had by the busy one again");
        assert_eq!(world.queues.hop(world.hops[0]).connections.0, max);
        assert!(world.connections_peak <= max as usize);
    }
}

#[test]
fn f_094_more_busy_queues_than_connections_take_turns_and_few_connections() {
    let hops: Vec<[u16; 1]> = (1..=8).map(|number| [number]).collect();
    let hops: Vec<&[u16]> = hops.iter().map(|hosts| &hosts[..]).collect();
    let mut world = World::new(Options { connections_max: 4, ..Options::rfc() }, &hops);
    world.window = 1;
    (1..=8).for_each(|number| world.set(number, Mode::Up(Span::millis(50))));
    world.send_all_for(0..8, Span::millis(40), Span::minutes(1));
    for number in 1..=8 {
        let times = world.delivered.iter().filter(|(_, _, by)| *by == host(number)).map(|(_, at, _)| *at);
        let times: Vec<Tick> = times.collect();
        let gap = times.windows(2).map(|pair| pair[1].since(pair[0])).max();
        assert!(gap <= Some(Span::seconds(4)) && gap.is_some(), "{number} waits for {gap:?}");
    }
    assert!(world.connects.len() <= 4 * 60 + 8, "{} connections in a minute", world.connects.len());
    let could = 4 * 60 * 20;
    assert!(world.delivered.len() * 10 >= could * 9, "{} of {could}", world.delivered.len());
}

#[test]
fn f_094_an_idle_connection_of_another_queue_is_taken_before_a_busy_one() {
    let options = Options { connections_max: 2, ..Options::rfc() };
    let mut world = World::new(options, &[&[1], &[2], &[3]]);
    world.window = 1;
    world.set(1, Mode::Up(Span::millis(20)));
    world.send(1);
    world.send_for(0, Span::millis(15), Span::seconds(1));
    let before = world.connects_to(1);
    world.send(2);
    world.send_for(0, Span::millis(15), Span::seconds(2));
    assert_eq!((world.delivered_by(3), world.connects_to(1)), (1, before));
}

/// What takes the place hangs at its last reply.
#[test]
fn f_063_when_the_connection_that_is_to_give_its_place_to_another_queue_hangs_another_does() {
    let mut world = one_has_all(4, &[3]);
    world.send(1);
    let sent = world.now;
    while leaving(&world).is_empty() {
        assert!(world.now.since(sent) < Span::seconds(5) && world.delivered_by(3) == 0, "a busy one gives its place");
        world.send_for(0, Span::millis(10), Span::millis(10));
    }
    let hangs = leaving(&world)[0];
    world.set(hangs, Mode::Stall);
    let served = served_within(&mut world, 3, Span::minutes(2));
    assert!(served <= Some(LEAVE_WAIT + Span::seconds(2)) && served.is_some(), "{served:?}");
    assert!(leaving(&world).contains(&hangs), "it hangs still");
    assert!(world.connections_peak <= 4);
}

#[test]
fn m_091_when_the_connection_that_is_to_give_its_place_to_another_host_hangs_another_does() {
    let mut world = World::new(Options { connections_per_destination: 2, ..Options::rfc() }, &[&[1, 2, 3]]);
    // Whoever turns one away has another under way.
    world.window = 2;
    [1, 2].iter().for_each(|&number| world.set(number, Mode::Small(Span::millis(20))));
    world.set(3, Mode::Up(Span::millis(20)));
    world.send_for(0, Span::millis(8), Span::seconds(5));
    assert_eq!(world.connects_to(3), 0, "the cap is used up by others");
    let (sent, large) = (world.now, world.send_large(0));
    while leaving(&world).is_empty() {
        assert!(world.now.since(sent) < Span::seconds(5), "a busy one gives its place");
        world.send_for(0, Span::millis(1), Span::millis(1));
    }
    world.set(leaving(&world)[0], Mode::Stall);
    world.send_for(0, Span::millis(8), Span::seconds(20));
    let delivery = world.delivered.iter().find(|(record, ..)| *record == large).expect("delivered");
    assert!(delivery.2 == host(3) && delivery.1.since(sent) < Span::seconds(15), "{}", delivery.1.since(sent));
    assert!(world.connections_peak <= 2);
}

/// A place is taken for a probe, and before it is there the host is no host any more.
#[test]
fn f_061_a_place_that_nobody_needs_any_more_shortens_no_wait() {
    for known in [true, false] {
        let options = Options { connections_per_destination: 1, ..Options::rfc() };
        let (short, long) = (options.connect_wait_alternative, options.connect_wait);
        let mut world = World::new(options, &[&[2, 1]]);
        world.window = 1;
        world.set(1, Mode::Up(Span::millis(1900)));
        world.set(2, Mode::Refuse);
        for _ in 0..50 {
            world.send(0);
        }
        while leaving(&world).is_empty() {
            assert!(world.queues.messages() > 0, "a busy one gives its place");
            world.run_for(Span::millis(100));
        }
        // The one host that is left answers slowly to a connect: the one that was known, or a new one.
        let left = if known { 1 } else { 3 };
        world.reinstall(&[left]);
        world.set(left, Mode::Blackhole);
        let before = world.connects_to(left);
        while world.connects_to(left) == before {
            world.run_for(Span::millis(100));
        }
        let alive = |world: &World| world.queues.hosts(world.hops[0]).next().and_then(|host| host.alive);
        world.run_for(short + Span::seconds(1));
        assert_ne!(alive(&world), Some(false), "known: {known}");
        world.run_for(long);
        assert_eq!(alive(&world), Some(false));
    }
}

/// Every other host dies, in one way or another, while one queue has all connections and more than it can send.
#[test]
fn f_094_a_mass_outage_costs_who_lives_few_connections_and_little_work() {
    for (known, mode) in
        [(false, Mode::Refuse), (false, Mode::Blackhole), (true, Mode::Refuse), (true, Mode::Blackhole)]
    {
        let others: Vec<u16> = (3..=100).collect();
        let mut world = one_has_all(20, &others);
        let hops = world.hops.len();
        if known {
            world.send_to_each(1..hops);
            world.send_for(0, EACH, Span::minutes(3));
            assert!(others.iter().all(|&number| world.delivered_by(number) == 1), "they lived");
        }
        for &number in &others {
            world.kill(number);
            world.set(number, mode);
        }
        let by_living = |world: &World| {
            (world.connects_to(1) + world.connects_to(2), world.delivered_by(1) + world.delivered_by(2))
        };
        let (before, minutes) = (by_living(&world), 10);
        for _ in 0..minutes {
            world.send_to_each(1..hops);
            world.send_for(0, EACH, Span::minutes(1));
        }
        let after = by_living(&world);
        let (again, sent, could) = (after.0 - before.0, after.1 - before.1, minutes * 60 * 20);
        let most = if known { 4 * minutes } else { 2 * minutes };
        assert!(again <= most, "{again} connections opened again, known: {known}, {mode:?}");
        assert!(sent * 100 >= could * 80, "{sent} of {could}, known: {known}, {mode:?}");
        assert!(world.connections_peak <= 20);
        others.iter().for_each(|&number| world.set(number, Mode::Up(Span::millis(1))));
        world.send_for(0, EACH, Span::minutes(25));
        let back = others.iter().filter(|&&number| world.delivered_by(number) > usize::from(known)).count();
        assert_eq!(back, others.len(), "all come back, known: {known}, {mode:?}");
    }
}

#[test]
fn nothing_is_given_for_a_connection_that_the_rate_forbids() {
    // No connection ends because it has lived long enough.
    let options = Options {
        connections_max: 4,
        connections_per_minute: Some(2),
        messages_per_connection: u32::MAX,
        ..Options::rfc()
    };
    let mut world = World::new(options, &[&[1], &[2], &[3], &[4], &[5]]);
    world.window = 1;
    world.set(1, Mode::Up(Span::millis(20)));
    world.send_for(0, Span::millis(4), Span::minutes(3));
    assert_eq!(world.queues.hop(world.hops[0]).connections.0, 4);
    world.send_to_each(1..5);
    for _ in 0..1200 {
        world.send_for(0, Span::millis(4), Span::millis(100));
        assert!(world.queues.links.len() + 1 >= 4, "no place is empty but one that is being changed");
    }
    assert!((2..=5).all(|number| world.delivered_by(number) == 1 || world.connects_to(number) <= 1));
    assert!(world.connects.len() <= 4 + 5, "{} in five minutes", world.connects.len());
}

#[test]
fn messages_that_are_lent_ask_for_no_connections_here() {
    let mut world = World::new(Options { lent_max: 100, ..Options::rfc() }, &[&[1]]);
    let (hop, now) = (world.hops[0], world.now);
    let new =
        NewEntry { record: 1, recipients: &[1], bytes: 1, age: Span::ZERO, priority: Priority::Normal, content: None };
    for _ in 0..40 {
        world.queues.enqueue(hop, new, now);
    }
    assert_eq!(world.queues.lend(hop, 39, now, &mut Vec::new()), 39);
    let actions: Vec<Action> = std::iter::from_fn(|| world.queues.next_action(now)).collect();
    let connects = actions.iter().filter(|action| matches!(action, Action::Connect { .. })).count();
    assert_eq!((connects, world.queues.hop(hop).sending), (1, 39), "one message waits for a connection");
}

#[derive(Debug, Clone)]
enum Act {
    Send { hop: usize, count: usize },
    Large { hop: usize },
    Mode { number: u16, mode: Mode },
    Kill { number: u16 },
    Cap { hop: usize, cap: u32 },
    Run { ms: u64 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let mode = prop_oneof![
        4 => (1u64..800).prop_map(|ms| Mode::Up(Span::millis(ms))),
        1 => (1u64..800).prop_map(|ms| Mode::Small(Span::millis(ms))),
        1 => (1u64..100).prop_map(|ms| Mode::OneEach(Span::millis(ms))),
        1 => Just(Mode::UpTo(1, Span::millis(10))),
        1 => Just(Mode::Refuse),
        1 => Just(Mode::Blackhole),
        1 => Just(Mode::Defer),
        1 => Just(Mode::PushBack),
    ];
    let act = prop_oneof![
        6 => (0usize..5, 1usize..20).prop_map(|(hop, count)| Act::Send { hop, count }),
        1 => (0usize..5).prop_map(|hop| Act::Large { hop }),
        2 => (1u16..11, mode).prop_map(|(number, mode)| Act::Mode { number, mode }),
        1 => (1u16..11).prop_map(|number| Act::Kill { number }),
        1 => (0usize..5, 1u32..5).prop_map(|(hop, cap)| Act::Cap { hop, cap }),
        6 => (1u64..4000).prop_map(|ms| Act::Run { ms }),
    ];
    prop::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// What `assert_places` asks holds after every step, whatever hosts do; nothing is lost, and places change hands seldom.
    #[test]
    fn f_094_whatever_hosts_do_places_are_had_by_who_may_have_them(
        acts in acts(), max in 1u32..6, cap in 1u32..5, window in 1u32..3,
    ) {
        let options = Options { connections_max: max, connections_per_destination: cap, ..Options::rfc() };
        let mut world = World::new(options, &[&[1, 2], &[3, 4, 5], &[6], &[7, 8], &[9, 10]]);
        world.window = window;
        for act in acts {
            match act {
                Act::Send { hop, count } => world.send_to_each(std::iter::repeat_n(hop, count)),
                Act::Large { hop } => _ = world.send_large(hop),
                Act::Mode { number, mode } => world.set(number, mode),
                Act::Kill { number } => world.kill(number),
                Act::Cap { hop, cap } => world.queues.limit(world.hops[hop], cap),
                Act::Run { ms } => world.run_for(Span::millis(ms)),
            }
        }
        prop_assert!(world.connections_peak <= max as usize);
        // Once all live, whoever has something to send has a connection before long.
        for number in 1..=10 {
            world.kill(number);
            world.set(number, Mode::Up(Span::millis(200)));
        }
        world.run_for(Span::hours(12));
        world.assert_all_left();
        let began = world.now;
        world.send_all_for(0..5, Span::millis(20), Span::seconds(20));
        for hop in [1..=2, 3..=5, 6..=6, 7..=8, 9..=10] {
            let of_hop = |by: std::net::SocketAddr| hop.contains(&by.port());
            let first = world.delivered.iter().find(|(_, at, by)| *at >= began && of_hop(*by)).map(|(_, at, _)| *at);
            let most = PLACE_WAIT.0 + 5 * 2 * PLACE_WAIT.0;
            prop_assert!(first.is_some_and(|at| at.since(began) <= Span(most)), "{hop:?}: {first:?} after {began:?}");
        }
    }
}
