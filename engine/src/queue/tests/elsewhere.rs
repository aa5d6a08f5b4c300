//! Hosts of one next hop that differ in what they take.

use super::super::*;
use super::world::{Mode, World, host};
use crate::wire::Span;

fn world(cap: u32, hosts: &[u16]) -> World {
    World::new(Options { connections_per_destination: cap, ..Options::rfc() }, &[hosts])
}

#[test]
fn m_091_what_one_host_cannot_take_goes_to_another_at_once() {
    for cap in [1, 2, 20] {
        for (unfit, fit) in [(1, 2), (2, 1)] {
            let mut world = world(cap, &[1, 2]);
            world.unfit(&[unfit]);
            world.send_for(0, Span::millis(20), Span::seconds(2));
            world.run_for(Span::seconds(1));
            world.assert_nothing_lost();
            assert_eq!(world.delivered_by(fit), world.delivered.len(), "cap {cap}");
            assert!(world.connections_peak <= cap as usize);
            assert_eq!((world.queues.notes.len(), world.queues.wide.len()), (0, 0));
        }
    }
}

#[test]
fn m_175_what_no_host_takes_fails_when_each_was_asked_once() {
    for cap in [1, 20] {
        let mut world = world(cap, &[1, 2, 3]);
        world.unfit(&[1, 2, 3]);
        let sent: Vec<u64> = (0..5).map(|_| world.send(0)).collect();
        world.run_for(Span::seconds(5));
        world.failed.sort_unstable();
        assert_eq!((world.failed.clone(), world.queues.messages()), (sent, 0), "cap {cap}");
        assert!((1..=3).all(|number| world.connects_to(number) > 0), "everybody was asked");
        assert_eq!((world.queues.notes.len(), world.queues.wide.len()), (0, 0));
    }
}

#[test]
fn m_091_a_host_that_cannot_be_reached_is_waited_for_before_a_message_fails() {
    let mut world = world(20, &[1, 2]);
    world.unfit(&[1]);
    world.set(2, Mode::Refuse);
    world.send(0);
    world.run_for(Span::minutes(20));
    assert!(world.failed.is_empty() && world.delivered.is_empty(), "it waits");
    assert_eq!(world.queues.hop(world.hops[0]).deferred, 1);
    world.set(2, Mode::Up(Span::millis(1)));
    world.run_for(Span::hours(2));
    world.assert_nothing_lost();
    assert_eq!(world.delivered_by(2), 1);
}

/// The new host stands where one stood that could not take the message.
#[test]
fn m_091_a_new_host_in_the_place_of_an_unfit_one_is_asked() {
    let mut world = world(20, &[1, 2]);
    world.unfit(&[1]);
    world.set(2, Mode::Stall);
    world.send(0);
    world.run_for(Span::minutes(1));
    let status = world.queues.hop(world.hops[0]);
    assert_eq!((status.sending, world.connects_to(1), world.connects_to(2)), (1, 1, 1), "the second has it");
    world.reinstall(&[2, 3]);
    assert_eq!(world.queues.hops[0].hosts[0].at.address, host(3));
    world.turn_away_all(2);
    world.run_for(Span::seconds(5));
    assert_eq!((world.failed.len(), world.delivered_by(3)), (0, 1));
    assert_eq!((world.queues.notes.len(), world.queues.wide.len()), (0, 0));
}

#[test]
fn hosts_that_change_are_asked_again_and_a_shard_without_connections_waits() {
    let mut world = world(20, &[1, 2]);
    world.unfit(&[1]);
    world.set(2, Mode::Blackhole);
    world.send(0);
    world.run_for(Span::seconds(1));
    let hop = world.hops[0];
    assert_eq!((world.queues.hop(hop).deferred, world.queues.waiting(hop)), (1, 0), "the second is being tried");
    world.reinstall(&[3]);
    assert_eq!(world.queues.waiting(hop), 1);
    world.run_for(Span::minutes(1));
    assert_eq!(world.delivered_by(3), 1);
    // Lent, and turned away by a host of the borrower.
    world.queues.limit(hop, 0);
    world.send(0);
    let mut lent = Vec::new();
    assert_eq!(world.queues.lend(hop, 1, world.now, &mut lent), 1);
    assert_eq!(world.queues.finish(lent[0].id, Outcome::Elsewhere, world.now), Fate::Waits);
    assert_eq!(world.queues.hop(hop).deferred, 1, "for its own retry");
}

/// When a message was delivered, and by whom.
fn delivery(world: &World, record: u64) -> Option<(Tick, std::net::SocketAddr)> {
    world.delivered.iter().find(|(of, ..)| *of == record).map(|(_, at, by)| (*at, *by))
}

#[test]
fn f_040_what_waits_for_another_host_leaves_memory_when_that_is_short() {
    let mut world = world(1, &[1, 2]);
    world.unfit(&[1]);
    world.set(2, Mode::Blackhole);
    let new =
        NewEntry { record: 1, recipients: &[1], bytes: 1, age: Span::ZERO, priority: Priority::Low, content: Some(7) };
    let id = world.queues.enqueue(world.hops[0], new, world.now);
    world.run_for(Span::seconds(1));
    assert_eq!(world.queues.hop(world.hops[0]).deferred, 1, "the second is being tried");
    let mut shed = Vec::new();
    assert!(world.queues.shed_content(10, world.now, |content| shed.push(content)));
    assert_eq!((shed, world.queues.find(id).and_then(|taken| taken.content)), (vec![7], None));
    assert!(!world.queues.shed_content(10, world.now, |_| ()), "once");
}

#[test]
fn m_091_at_the_cap_what_one_host_cannot_take_has_its_turn_however_busy_it_is() {
    for (cap, hosts) in [(1, &[1, 3][..]), (2, &[1, 2, 3])] {
        let mut world = world(cap, hosts);
        world.window = 1;
        for &number in hosts {
            world.set(number, Mode::Small(Span::millis(20)));
        }
        world.set(3, Mode::Up(Span::millis(20)));
        world.send_for(0, Span::millis(8), Span::seconds(5));
        assert_eq!(world.connects_to(3), 0, "the cap is used up by others");
        for _ in 0..5 {
            let (sent, record) = (world.now, world.send_large(0));
            world.send_for(0, Span::millis(8), Span::seconds(5));
            let (at, by) = delivery(&world, record).expect("delivered");
            assert!(by == host(3) && at.since(sent) <= Span::seconds(4), "cap {cap}: {}", at.since(sent));
        }
        // Once for each of them at most a connection makes room.
        assert!(world.connects.len() <= 15, "cap {cap}: {} connections", world.connects.len());
        world.run_for(Span::minutes(5));
        world.assert_nothing_lost();
        assert!(world.connections_peak <= cap as usize);
    }
}

#[test]
fn m_091_what_one_host_cannot_take_goes_to_a_slow_one_rather_than_wait_for_its_retry() {
    for also in [&[][..], &[4]] {
        let hosts = [&[1, 2][..], also].concat();
        let mut world = world(20, &hosts);
        world.set(1, Mode::Small(Span::millis(1)));
        world.set(2, Mode::Up(Span::seconds(3)));
        // Dead, and no help.
        also.iter().for_each(|&number| world.set(number, Mode::Refuse));
        for _ in 0..50 {
            world.send(0);
        }
        world.send_for(0, Span::millis(2), Span::seconds(20));
        assert!(world.delivered_by(2) > 0, "the slow one is connected");
        let (sent, record) = (world.now, world.send_large(0));
        world.run_for(Span::seconds(20));
        let (at, by) = delivery(&world, record).expect("delivered");
        assert!(by == host(2) && at.since(sent) <= Span::seconds(10), "{}", at.since(sent));
    }
}

#[test]
fn m_091_one_that_waits_for_a_host_keeps_none_behind_it() {
    let mut world = world(20, &[1, 2, 3]);
    world.unfit(&[1]);
    world.set(2, Mode::Blackhole);
    world.set(3, Mode::Small(Span::millis(1)));
    let first = world.send_large(0);
    world.run_for(Span::seconds(1));
    let second = world.send(0);
    world.run_for(Span::seconds(1));
    assert!(delivery(&world, first).is_none(), "the second host is being tried");
    assert_eq!(delivery(&world, second).map(|(_, by)| by), Some(host(3)));
}
