//! Messages that an operator sees and takes out.

use super::super::*;
use super::world::{Mode, World};
use std::collections::BTreeMap;

/// All messages with what they do, by record.
fn listed(world: &World) -> BTreeMap<u64, Doing> {
    let pages = 0..world.queues.pages();
    pages.flat_map(|page| world.queues.page(page, world.now)).map(|listed| (listed.record, listed.doing)).collect()
}

fn id_of(world: &World, record: u64) -> EntryId {
    let mut all = (0..world.queues.pages()).flat_map(|page| world.queues.page(page, world.now));
    all.find(|listed| listed.record == record).expect("it is queued").id
}

#[test]
fn every_message_stands_in_one_page_with_what_it_does() {
    let mut world = World::new(Options { expire_after: Span::hours(48), ..Options::rfc() }, &[&[1], &[2], &[3]]);
    world.set(1, Mode::Defer);
    world.set(2, Mode::Refuse);
    world.set(3, Mode::Stall);
    let [deferred, refused, stalled] = [0, 1, 2].map(|hop| world.send(hop));
    world.run_for(Span::seconds(1));
    let expected = [(deferred, Doing::Retry), (refused, Doing::Retry), (stalled, Doing::Active)];
    assert_eq!(listed(&world), BTreeMap::from(expected));
    let pages: Vec<_> = (0..world.queues.pages()).flat_map(|page| world.queues.page(page, world.now)).collect();
    let one = pages.iter().find(|listed| listed.record == deferred).expect("listed");
    assert!(one.attempts == 1 && one.retry_at.is_some_and(|at| at > world.now));
    assert_eq!((one.age.as_millis() / 1_000, one.recipients.clone().collect::<Vec<_>>()), (1, vec![0]));
    assert!(one.left >= Span::hours(47) && one.left <= Span::hours(48));
    // More than a page of them.
    (0..3_000).for_each(|_| world.send_to_each([1]));
    assert_eq!(listed(&world).len(), 3_003);
}

#[test]
fn x_243_what_waits_goes_at_once_and_what_is_under_way_when_that_comes_to_nothing() {
    let mut world = World::new(Options::rfc(), &[&[1], &[2]]);
    world.set(1, Mode::Stall);
    world.set(2, Mode::Refuse);
    let (under_way, waits) = (world.send(0), world.send(1));
    world.run_for(Span::seconds(1));
    let waiting = id_of(&world, waits);
    assert_eq!(world.queues.condemn(waiting, true), Removal::Now);
    assert_eq!(world.queues.removed(waiting, world.now), None);
    assert_eq!(world.queues.condemn(waiting, true), Removal::Gone, "said twice, done once");
    let sent = id_of(&world, under_way);
    assert_eq!(world.queues.condemn(sent, true), Removal::Pending);
    assert_eq!(listed(&world), BTreeMap::from([(under_way, Doing::PendingRemove)]));
    // The attempt comes to nothing.
    assert_eq!(world.queues.finish(sent, Outcome::Deferred, world.now), Fate::Waits);
    let told = std::iter::from_fn(|| world.queues.next_action(world.now));
    let removal = told.into_iter().find(|action| matches!(action, Action::Remove { .. }));
    assert_eq!(removal, Some(Action::Remove { entry: sent, tells: true }));
    world.queues.removed(sent, world.now);
    assert_eq!((world.queues.messages(), listed(&world).len()), (0, 0));
}

#[test]
fn x_243_what_is_delivered_before_it_could_be_taken_out_is_delivered() {
    let mut world = World::new(Options::rfc(), &[&[1]]);
    world.set(1, Mode::Up(Span::seconds(1)));
    let first = world.send(0);
    world.run_for(Span::millis(500));
    let id = id_of(&world, first);
    assert_eq!(world.queues.condemn(id, false), Removal::Pending);
    world.run_for(Span::seconds(1));
    assert_eq!(world.delivered_by(1), 1);
    // Whoever has its place now is not meant.
    world.set(1, Mode::Defer);
    world.send(0);
    world.run_for(Span::seconds(1));
    assert_eq!(world.queues.messages(), 1);
}
