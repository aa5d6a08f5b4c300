//! Queues that an operator holds, and retries that he asks for.

use super::super::*;
use super::world::{Mode, World, key};
use std::collections::BTreeSet;
use std::sync::Arc;

fn names(names: &[&str]) -> Arc<BTreeSet<String>> {
    Arc::new(names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn x_206_a_suspended_queue_takes_in_and_lets_go_of_nothing_but_what_is_under_way() {
    let mut world = World::new(Options::rfc(), &[&[1], &[2]]);
    world.set(1, Mode::Up(Span::seconds(1)));
    world.send_to_each([0; 40]);
    world.run_for(Span::millis(500));
    let under_way = world.queues.hop(world.hops[0]).sending;
    assert!((1..40).contains(&under_way), "{under_way}");
    world.queues.suspend(names(&["hop0"]));
    world.send_to_each([0; 5]);
    world.send_to_each([1; 5]);
    world.run_for(Span::minutes(10));
    let held = world.queues.hop(world.hops[0]);
    assert_eq!((held.status, held.sending), (Status::Suspended, 0));
    assert_eq!(held.waiting.iter().sum::<u32>(), 45 - under_way);
    assert_eq!(held.connections, (0, 0), "they were idle");
    assert_eq!((world.delivered_by(1) as u32, world.delivered_by(2)), (under_way, 5));
    world.queues.suspend(names(&[]));
    world.run_for(Span::minutes(1));
    world.assert_nothing_lost();
}

#[test]
fn a_queue_is_held_before_it_exists_and_when_no_route_names_it() {
    let mut world = World::new(Options::rfc(), &[&[1]]);
    world.queues.suspend(names(&["later", "Unreachable Domain"]));
    let mut ids = Vec::new();
    world.queues.install([(&key("hop0"), &[][..]), (&key("later"), &[][..])], world.now, &mut ids);
    let status = |queues: &Queues, hop| queues.hop(hop).status;
    assert_eq!((status(&world.queues, ids[0]), status(&world.queues, ids[1])), (Status::Ready, Status::Suspended));
    let unreachable = world.queues.unreachable(world.now);
    assert_eq!(status(&world.queues, unreachable), Status::Suspended);
    world.queues.install([(&key("hop0"), &[][..])], world.now, &mut Vec::new());
    assert_eq!(status(&world.queues, ids[1]), Status::Suspended, "it is held still");
}

/// M-097: time goes on for those that are held.
#[test]
fn m_097_what_is_held_expires_all_the_same() {
    let options = Options { expire_after: Span::hours(4), ..Options::rfc() };
    let mut world = World::new(options, &[&[1]]);
    world.queues.suspend(names(&["hop0"]));
    world.send(0);
    world.run_for(Span::hours(4));
    assert!(world.expired.is_empty(), "it may be let go yet: {:?}", world.expired);
    world.run_for(Span::hours(1) + Span::minutes(5));
    assert_eq!(world.expired.len(), 1);
}

#[test]
fn x_206_a_retry_by_hand_is_an_attempt_at_once_and_waits_anew_when_it_fails() {
    let mut world = World::new(Options::exchange(), &[&[1]]);
    world.set(1, Mode::Refuse);
    world.send(0);
    world.run_for(Span::seconds(1));
    let (hop, tries) = (world.hops[0], world.connects.len());
    let retry_at = |world: &World| world.queues.hop(hop).next_retry.expect("it is in Retry");
    let due = retry_at(&world);
    world.run_for(Span::seconds(20));
    assert_eq!(world.connects.len(), tries);
    assert!(world.queues.retry(hop, world.now));
    world.run_for(Span::seconds(1));
    assert_eq!(
        (world.connects.len(), world.queues.hop(hop).last_retry),
        (tries + 1, Some(world.now - Span::seconds(1)))
    );
    assert!(retry_at(&world) > due, "the timer begins anew");
    world.set(1, Mode::Up(Span::millis(1)));
    assert!(world.queues.retry(hop, world.now));
    world.run_for(Span::seconds(1));
    world.assert_nothing_lost();
    assert!(!world.queues.retry(hop, world.now), "it is not in Retry");
}

/// What lies lent in the ring of several shards comes home when the queue is suspended.
#[test]
fn what_is_lent_is_called_back_when_its_queue_is_suspended() {
    let now = Tick(0);
    let mut queues = Queues::new(Options { lent_max: 100, ..Options::rfc() });
    let mut ids = Vec::new();
    queues.install([(&key("hop0"), &[][..])], now, &mut ids);
    queues.limit(ids[0], 0);
    let new =
        NewEntry { record: 7, recipients: &[1], bytes: 1, age: Span::ZERO, priority: Priority::Normal, content: None };
    queues.enqueue(ids[0], new, now);
    assert_eq!(queues.next_action(now), Some(Action::Lend { hop: ids[0] }));
    let mut lent = Vec::new();
    queues.lend(ids[0], 1, now, &mut lent);
    queues.has_lent(ids[0]);
    while queues.next_action(now).is_some() {}
    queues.suspend(names(&["hop0"]));
    assert_eq!(queues.next_action(now), Some(Action::Recall { hop: ids[0] }));
    let outcome = queues.untaken(lent[0].id, now);
    queues.finish(lent[0].id, outcome, now);
    assert_eq!(queues.next_action(now), None, "it stays");
    assert_eq!(queues.hop(ids[0]).waiting, [0, 1, 0]);
}
