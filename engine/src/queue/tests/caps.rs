//! Bounds: connections per destination, in sum, per minute, per life; memory.

use super::super::*;
use super::world::{Mode, World, host, tries_due};
use crate::wire::Span;

#[test]
fn connections_grow_with_backlog_up_to_the_cap_and_close_when_idle() {
    let mut world = World::new(Options::rfc(), &[&[1, 2]]);
    world.window = 1;
    for number in [1, 2] {
        world.set(number, Mode::Up(Span::millis(20)));
    }
    for _ in 0..2000 {
        world.send(0);
    }
    world.run_for(Span::seconds(30));
    world.assert_nothing_lost();
    assert_eq!(world.connections_peak, 20, "docs/PROFILES.md: 20 to one destination");
    world.run_for(Span::minutes(1));
    assert_eq!(world.queues.connections(), 0);
}

#[test]
fn one_message_opens_one_connection() {
    let mut world = World::new(Options::rfc(), &[&[1, 2, 3]]);
    world.send(0);
    world.run_for(Span::seconds(1));
    assert_eq!(world.connects.len(), 1);
    world.send(0);
    world.run_for(Span::seconds(1));
    assert_eq!(world.connects.len(), 1, "an idle connection takes the next message");
}

#[test]
fn the_global_cap_holds_and_the_dead_leave_half_of_it_to_the_living() {
    let hops: Vec<Vec<u16>> = (1..=100).map(|number| vec![number]).collect();
    let hops: Vec<&[u16]> = hops.iter().map(Vec::as_slice).collect();
    let mut world = World::new(Options { connections_max: 20, ..Options::rfc() }, &hops);
    (1..100).for_each(|number| world.set(number, Mode::Blackhole));
    // The living destination has shown that it lives.
    world.send(99);
    world.run_for(Span::seconds(20));
    for hop in 0..100 {
        for _ in 0..10 {
            world.send(hop);
        }
    }
    world.run_for(Span::seconds(1));
    assert_eq!(world.delivered_by(100), 11, "F-094: the living one does not wait for the dead");
    world.run_for(Span::hours(1));
    assert!(world.connections_peak <= 20);
    assert!((1..100).all(|number| world.connects_to(number) > 0), "everybody is tried in turn");
    assert!(world.attempts_peak[&host(1)] <= 2);
}

#[test]
fn the_rate_of_new_connections_is_bounded() {
    let mut world = World::new(Options { connections_per_minute: Some(60), ..Options::rfc() }, &[&[1]]);
    world.window = 1;
    world.set(1, Mode::OneEach(Span::millis(1)));
    for _ in 0..100 {
        world.send(0);
    }
    world.run_for(Span::seconds(60));
    assert!((58..=63).contains(&world.connects.len()), "{}", world.connects.len());
    world.run_for(Span::seconds(60));
    world.assert_nothing_lost();
}

#[test]
fn a_connection_serves_its_share_of_messages_and_is_replaced() {
    let mut world = World::new(Options { connections_per_destination: 1, ..Options::exchange() }, &[&[1]]);
    for _ in 0..100 {
        world.send(0);
    }
    world.run_for(Span::seconds(10));
    world.assert_nothing_lost();
    assert_eq!(world.connects.len(), 5, "20 messages a connection");
}

#[test]
fn f_095_a_long_queue_for_the_dead_costs_64_octets_a_message() {
    let mut world = World::new(Options::bench(), &[&[1]]);
    world.set(1, Mode::Refuse);
    for _ in 0..100_000 {
        world.send(0);
    }
    world.run_for(Span::seconds(1));
    assert!(world.queues.memory_bytes() <= 100_000 * 72, "{}", world.queues.memory_bytes());
    assert_eq!(world.queues.messages(), 100_000);
}

#[test]
fn shares_of_caps_are_never_nothing() {
    let share = Options::exchange().share_of(64);
    assert_eq!((share.connections_max, share.connections_per_destination, share.connections_start), (16, 1, 1));
    assert_eq!(share.connections_per_minute, Some(19));
}

#[test]
fn f_038_idle_connections_are_closed_when_descriptors_are_short_and_no_other() {
    let mut world = World::new(Options::rfc(), &[&[1], &[2], &[3]]);
    world.set(3, Mode::Stall);
    for hop in 0..3 {
        world.send(hop);
    }
    world.run_for(Span::seconds(1));
    assert_eq!(world.queues.connections(), 3);
    assert_eq!(world.queues.shed_idle(1), 1);
    assert_eq!(world.queues.shed_idle(9), 1, "the third is in use");
    world.run_for(Span::seconds(1));
    assert_eq!(world.queues.connections(), 1);
    world.set(3, Mode::Up(Span::millis(1)));
    for hop in 0..2 {
        world.send(hop);
    }
    world.run_for(Span::seconds(1));
    assert_eq!((world.delivered_by(1), world.delivered_by(2)), (2, 2), "their hosts are not blamed");
}

#[test]
fn parts_of_a_cap_are_the_cap_in_sum_and_differ_by_one_at_most() {
    for cap in 0..20 {
        for shards in 1..9 {
            for turn in [0, 1, 5, u32::MAX] {
                let parts: Vec<u32> = (0..shards).map(|shard| part_of(cap, turn, shard, shards)).collect();
                assert_eq!(parts.iter().sum::<u32>(), cap, "{cap} over {shards}: {parts:?}");
                assert!(parts.iter().all(|part| part.abs_diff(cap / shards) <= 1));
            }
        }
    }
    assert_ne!(part_of(1, 0, 0, 2), part_of(1, 1, 0, 2), "not the same shard for every destination");
}

#[test]
fn f_091_a_probe_of_a_dead_host_stays_within_the_cap() {
    for (cap, busy) in [(1, true), (1, false), (3, true), (3, false)] {
        let mut world = World::new(Options { connections_per_destination: cap, ..Options::rfc() }, &[&[2, 1]]);
        world.window = 1;
        world.set(1, Mode::Up(Span::millis(20)));
        world.set(2, Mode::Refuse);
        for _ in 0..100 {
            world.send(0);
        }
        world.run_for(Span::seconds(10));
        let before = world.connects_to(2);
        assert!(before > 0, "it was tried");
        world.set(2, Mode::Up(Span::millis(20)));
        // Never idle for long enough to be closed: what is looked at is the probe.
        for _ in 0..12 {
            world.run_for(Span::seconds(10));
            for _ in 0..if busy { 2000 } else { 3 } {
                world.send(0);
            }
        }
        world.run_for(Span::minutes(10));
        world.assert_nothing_lost();
        assert!(world.connections_peak <= cap as usize, "{} of {cap}, busy {busy}", world.connections_peak);
        assert!(world.connects_to(2) > before, "{cap}, busy {busy}: a connection makes room");
    }
}

#[test]
fn f_091_a_probe_of_a_dead_host_has_its_turn_while_the_cap_is_used_up() {
    for (cap, most) in [(1, 1000), (3, 1000), (20, 3)] {
        let options = Options { connections_per_destination: cap, connections_max: most, ..Options::rfc() };
        let (wait, wait_max) = (options.probe_wait, options.probe_wait_max);
        let due = tries_due(&options, Span::minutes(3));
        let mut world = World::new(options, &[&[2, 1]]);
        world.window = 1;
        world.set(1, Mode::Up(Span::millis(20)));
        world.set(2, Mode::Refuse);
        let cap = cap.min(most);
        let each = Span::millis(20 / u64::from(cap + 1));
        // All the time there is more to do than the connections can.
        world.send_for(0, each, Span::minutes(3));
        let tries = world.connects_to(2);
        assert!(tries.abs_diff(due) <= 1, "{tries} of {due} tries, cap {cap} of {most}: a turn each time it is due");
        assert!(world.queues.waiting(world.hops[0]) > 0, "and the cap is used up");
        let (healed, before) = (world.now, world.delivered_by(1));
        world.set(2, Mode::Up(Span::millis(20)));
        world.send_for(0, each, Span::minutes(12));
        let back = world.delivered.iter().find(|(_, _, by)| *by == host(2)).map(|(_, at, _)| at.since(healed));
        assert!(back <= Some(wait_max + wait + Span::seconds(2)) && back.is_some(), "{back:?}, cap {cap} of {most}");
        assert!(world.connections_peak <= cap as usize, "{} of {cap}", world.connections_peak);
        let by_both = world.delivered_by(1) - before + world.delivered_by(2);
        let could = 12 * 60 * 50 * cap as usize;
        assert!(by_both * 100 >= could * 98, "{by_both} of {could}: it costs next to nothing");
    }
}

#[test]
fn f_061_f_091_probes_that_hang_take_little_of_a_busy_cap() {
    for cap in [1, 2] {
        let mut world = World::new(Options { connections_per_destination: cap, ..Options::bench() }, &[&[2, 1]]);
        world.window = 1;
        world.set(1, Mode::Up(Span::millis(20)));
        world.set(2, Mode::Blackhole);
        let each = Span::millis(20 / u64::from(cap + 1));
        // It is found dead, and the other works.
        world.send_for(0, each, Span::minutes(1));
        let (from, before) = (world.delivered_by(1), world.connects_to(2));
        world.send_for(0, each, Span::minutes(3));
        let (by_one, could) = (world.delivered_by(1) - from, 3 * 60 * 50 * cap as usize);
        assert!(by_one * 100 >= could * 94, "{by_one} of {could}, cap {cap}");
        assert!(world.connects_to(2) > before, "it is looked for all the same");
        world.set(2, Mode::Up(Span::millis(20)));
        world.send_for(0, each, Span::seconds(25));
        assert!(world.delivered_by(2) > 0, "and found, cap {cap}");
        assert!(world.connections_peak <= cap as usize);
    }
}

#[test]
fn a_cap_lowered_by_a_reload_is_kept_soon_and_no_message_is_lost() {
    for lowered in [0, 1, 2] {
        let mut world = World::new(Options::rfc(), &[&[1, 2]]);
        for number in [1, 2] {
            world.set(number, Mode::Up(Span::millis(20)));
        }
        world.send_for(0, Span::micros(500), Span::seconds(3));
        let open = world.queues.hop(world.hops[0]).connections.0;
        assert!(open > 2, "{open} are open");
        world.queues.limit(world.hops[0], lowered);
        // Under load all the time: connections finish what they have and take nothing while there are too many.
        world.send_for(0, Span::millis(5), Span::seconds(2));
        let open = world.queues.hop(world.hops[0]).connections;
        assert!(open.0 + open.1 <= lowered, "{open:?} of {lowered}");
        world.queues.limit(world.hops[0], 5);
        world.run_for(Span::minutes(1));
        world.assert_nothing_lost();
    }
}

#[test]
fn idle_connections_beyond_a_lowered_cap_are_closed_at_once() {
    let mut world = World::new(Options::rfc(), &[&[1]]);
    world.window = 1;
    world.set(1, Mode::Up(Span::millis(20)));
    for _ in 0..200 {
        world.send(0);
    }
    world.run_for(Span::seconds(5));
    assert!(world.queues.connections() > 3, "they stay for a while");
    world.queues.limit(world.hops[0], 3);
    world.run_for(Span::ZERO);
    assert_eq!(world.queues.connections(), 3);
}
