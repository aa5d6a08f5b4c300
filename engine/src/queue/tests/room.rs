//! Connections that end while they are being given up, and those that make room for others at the cap.

use super::super::*;
use super::world::{Mode, World, host, tries_due};
use crate::wire::Span;

#[test]
fn m_091_why_a_connection_ended_counts_when_its_last_report_had_closed_it() {
    for reported in [true, false] {
        let mut world = World::new(Options { messages_per_connection: 1, ..Options::rfc() }, &[&[1]]);
        world.set(1, Mode::Stall);
        world.send(0);
        world.run_for(Span::seconds(1));
        let (hop, conn) = (world.hops[0], world.queues.conn(0));
        if reported {
            let sent = world.queues.entries.id(world.queues.links[0].sending.head);
            world.queues.finish(sent, Outcome::Unknown, world.now);
        }
        world.queues.closed(conn, Some(Cause::TimedOut), world.now);
        let status = world.queues.hop(hop);
        assert_eq!(status.last_error.and_then(|error| error.cause), Some(Cause::TimedOut), "reported: {reported}");
        assert_eq!(world.queues.hosts(hop).next().and_then(|host| host.alive), Some(false));
        assert_eq!(status.status, Status::Retry);
        world.queues.closed(conn, Some(Cause::TimedOut), world.now);
        assert_eq!(world.queues.next_action(world.now), None, "it is closed, and told once");
    }
}

/// A queue that has all connections looks for its dead host in its own places, and whoever has none has one before long.
#[test]
fn f_091_a_place_that_is_given_up_for_a_probe_stays_with_its_queue_whoever_waits() {
    let options = Options { connections_max: 4, ..Options::rfc() };
    let due = tries_due(&options, Span::seconds(105));
    let mut world = World::new(options, &[&[2, 1], &[3], &[4], &[5], &[6]]);
    world.window = 1;
    (3..=6).for_each(|number| world.set(number, Mode::Up(Span::millis(500))));
    world.set(1, Mode::Up(Span::millis(20)));
    world.set(2, Mode::Refuse);
    world.send_for(0, Span::millis(4), Span::seconds(5));
    assert_eq!(world.queues.hop(world.hops[0]).connections, (4, 0), "it has them all");
    let began = world.now;
    for _ in 0..100 {
        world.send_to_each(1..=4);
        world.send_for(0, Span::millis(4), Span::seconds(1));
    }
    let tries = world.connects_to(2);
    assert!(tries.abs_diff(due) <= 1, "{tries} of {due} tries");
    for number in [1, 3, 4, 5, 6] {
        let times = world.delivered.iter().filter(|(_, at, by)| *at >= began && *by == host(number));
        let times: Vec<Tick> = std::iter::once(began).chain(times.map(|(_, at, _)| *at)).collect();
        let gap = times.windows(2).map(|pair| pair[1].since(pair[0])).max();
        assert!(gap <= Some(Span::seconds(6)) && gap.is_some(), "{number} waits for {gap:?}");
    }
    assert!(world.connections_peak <= 4);
}

#[test]
fn f_091_nothing_is_given_up_for_a_probe_that_may_not_be_ordered() {
    let hops: Vec<Vec<u16>> = std::iter::once(vec![2, 1]).chain((3..200).map(|number| vec![number])).collect();
    let hops: Vec<&[u16]> = hops.iter().map(Vec::as_slice).collect();
    // No connection ends because it has lived long enough.
    let options = Options {
        connections_max: 8,
        connections_per_destination: 2,
        messages_per_connection: u32::MAX,
        ..Options::rfc()
    };
    let mut world = World::new(options, &hops);
    world.window = 1;
    world.set(1, Mode::Up(Span::millis(20)));
    world.set(2, Mode::Refuse);
    world.send_for(0, Span::millis(8), Span::seconds(5));
    // From now on half of all connections hang, and more want to.
    for (hop, hosts) in hops.iter().enumerate().skip(1) {
        world.set(hosts[0], Mode::Blackhole);
        world.send(hop);
    }
    let before = (world.connects_to(1), world.connects_to(2));
    world.send_for(0, Span::millis(8), Span::minutes(5));
    let (working, probes) = (world.connects_to(1) - before.0, world.connects_to(2) - before.1);
    assert!(working <= probes + 1, "{working} connections opened again for {probes} probes");
    assert!(world.connections_peak <= 8);
}

#[test]
fn f_091_at_the_cap_every_dead_host_is_looked_for_in_turn() {
    let options = Options { connections_per_destination: 1, ..Options::bench() };
    let mut world = World::new(options, &[&[2, 3, 4, 5, 6, 7, 1]]);
    world.window = 1;
    (2..=7).for_each(|number| world.set(number, Mode::Refuse));
    world.set(1, Mode::Up(Span::millis(20)));
    world.send_for(0, Span::millis(10), Span::minutes(1));
    let before: Vec<usize> = (2..=7).map(|number| world.connects_to(number)).collect();
    world.send_for(0, Span::millis(10), Span::minutes(1));
    let tries: Vec<usize> = (2..=7).map(|number| world.connects_to(number) - before[number as usize - 2]).collect();
    let (least, most) = (tries.iter().min(), tries.iter().max());
    assert!(least > Some(&1) && most <= least.map(|least| least + 2).as_ref(), "{tries:?}");
}
