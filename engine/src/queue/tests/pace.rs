//! What an operator sees of a queue's way: rates, age, and when it is there at all.

use super::super::*;
use super::world::{Mode, World};
use crate::wire::Span;

/// Sends a message every `each` for so long and looks as often as a server does.
fn run(world: &mut World, each: Option<Span>, span: Span) {
    let end = world.now + span;
    while world.now < end {
        match each {
            Some(each) => world.send_for(0, each, Span::millis(250)),
            None => world.run_for(Span::millis(250)),
        }
        world.queues.look(world.now);
    }
}

fn pace(world: &World) -> PaceStatus {
    world.queues.pace(world.hops[0], world.now)
}

fn near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= expected.abs() * 0.02 + 0.01
}

#[test]
fn rates_are_those_of_the_last_minute() {
    let mut world = World::new(Options::bench(), &[&[1]]);
    assert_eq!(pace(&world), PaceStatus::default());
    world.queues.look(world.now);
    run(&mut world, Some(Span::millis(50)), Span::seconds(20));
    let first = pace(&world);
    assert!(near(first.incoming_per_s, 20.0) && near(first.outgoing_per_s, 20.0), "{first:?}: since the first look");
    world.kill(1);
    run(&mut world, Some(Span::millis(100)), Span::seconds(70));
    let grows = pace(&world);
    assert!(near(grows.incoming_per_s, 10.0) && near(grows.outgoing_per_s, 0.0), "{grows:?}");
    world.set(1, Mode::Up(Span::micros(100)));
    run(&mut world, None, Span::seconds(30));
    let drains = pace(&world);
    assert!(drains.outgoing_per_s > drains.incoming_per_s && drains.outgoing_per_s > 9.0, "{drains:?}");
    world.assert_nothing_lost();
    run(&mut world, None, Span::seconds(70));
    assert_eq!(pace(&world), PaceStatus::default(), "a quiet minute");
}

#[test]
fn the_oldest_message_is_found_wherever_it_waits() {
    // More entries than one look goes through.
    for others in [0, 20_000] {
        let mut world = World::new(Options::rfc(), &[&[1], &[2]]);
        world.set(1, Mode::Defer);
        world.set(2, Mode::Refuse);
        for _ in 0..others / 2 {
            world.send(1);
        }
        world.send_aged(0, Span::hours(3));
        for _ in 0..others / 2 {
            world.send(1);
        }
        world.run_for(Span::seconds(1));
        let looks = if others == 0 { 1 } else { 240 };
        (0..looks).for_each(|_| world.queues.look(world.now));
        let oldest = pace(&world).oldest.expect("it waits");
        let (least, most) = (Span::hours(3), Span::hours(3) + Span::seconds(2));
        assert!(oldest >= least && oldest <= most, "{oldest} beside {others}, deferred by its own reply");
        let other = world.queues.pace(world.hops[1], world.now).oldest;
        assert_eq!(other.is_some(), others > 0);
        assert!(other <= Some(Span::seconds(2)), "{other:?}");
        world.set(1, Mode::Up(Span::millis(1)));
        world.run_for(Span::hours(4));
        assert_eq!(pace(&world).oldest, None, "it left, and nobody looked since");
    }
}

#[test]
fn an_idle_queue_is_gone_after_three_minutes_and_back_with_the_next_message() {
    let mut world = World::new(Options::exchange(), &[&[1]]);
    let seen = |world: &World| world.queues.is_seen(world.hops[0], world.now);
    world.run_for(Span::seconds(1));
    assert!(!seen(&world), "made by its first message");
    for _ in 0..2 {
        world.send(0);
        world.run_for(Span::minutes(2));
        assert!(seen(&world) && world.queues.messages() == 0);
        world.run_for(Span::minutes(2));
        assert!(!seen(&world), "empty for longer than QueueMaxIdleTime");
    }
    world.set(1, Mode::Refuse);
    world.send(0);
    world.run_for(Span::hours(5));
    assert!(seen(&world), "as long as it has messages");
    assert_eq!(world.queues.hop(world.hops[0]).totals.delivered, 2, "its counts stay");
}
