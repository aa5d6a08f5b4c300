//! Trouble with messages and recipients: deferred, refused, cut off, too many.

use super::super::*;
use super::world::{Mode, World, host, key};
use crate::wire::Span;

/// Queues with one ready connection, told everything by hand.
struct Hand {
    queues: Queues,
    hop: HopId,
    conn: ConnId,
    now: Tick,
}

impl Hand {
    fn new(options: Options) -> Self {
        let (now, mut ids) = (Tick(0) + Span::hours(1), Vec::new());
        let mut queues = Queues::new(Options { idle_wait: Span::hours(1), ..options });
        queues.install([(&key("hop"), &[HostAddress::equal(host(1))][..])], now, &mut ids);
        let mut hand = Hand { queues, hop: ids[0], conn: ConnId { index: 0, serial: 0 }, now };
        hand.enqueue(&[1]);
        let Some(Action::Connect { conn, .. }) = hand.queues.next_action(now) else { panic!("it connects") };
        hand.conn = conn;
        hand.queues.connected(conn, 64, now);
        let first = hand.take();
        hand.queues.finish(first[0].id, Outcome::Delivered, now);
        hand
    }

    fn enqueue(&mut self, recipients: &[u64]) -> EntryId {
        self.enqueue_for(self.hop, recipients)
    }

    fn enqueue_for(&mut self, hop: HopId, recipients: &[u64]) -> EntryId {
        let new = NewEntry {
            record: 7,
            recipients,
            bytes: 100,
            age: Span::ZERO,
            priority: Priority::Normal,
            content: Some(3),
        };
        self.queues.enqueue(hop, new, self.now)
    }

    /// How many of these have content in memory.
    fn with_content(&self, ids: &[EntryId]) -> usize {
        ids.iter().filter(|id| self.queues.find(**id).is_some_and(|message| message.content.is_some())).count()
    }

    fn take(&mut self) -> Vec<Taken> {
        let mut taken = Vec::new();
        while self.queues.next_action(self.now).is_some() {}
        self.queues.take(self.conn, Room { messages: 64, bytes: u64::MAX }, self.now, &mut taken);
        taken
    }

    /// The first message of a walk through those of no route.
    fn first_orphan(&self) -> Option<EntryId> {
        self.queues.next_orphan(&mut self.queues.orphans())
    }

    fn recipients(&self, id: EntryId) -> Vec<usize> {
        self.queues.recipients(id).collect()
    }

    fn pass(&mut self, span: Span) {
        let end = self.now + span;
        while self.queues.next_timer() <= end {
            self.now = self.now.max(self.queues.next_timer());
            self.queues.on_timer(self.now);
            while self.queues.next_action(self.now).is_some() {}
        }
        self.now = end;
    }
}

#[test]
fn m_098_recipients_of_one_next_hop_go_in_one_transaction_up_to_the_limit() {
    let mut hand = Hand::new(Options { recipients_per_transaction: 100, ..Options::rfc() });
    let id = hand.enqueue(&[u64::MAX, u64::MAX, 0b1111]);
    for expected in [0..100, 100..132] {
        let taken = hand.take();
        assert_eq!(taken.len(), 1);
        assert_eq!(hand.recipients(id), expected.collect::<Vec<_>>());
        match hand.queues.finish(id, Outcome::Delivered, hand.now) {
            Fate::AwaitsSettle => hand.queues.settle_is_durable(id, hand.now),
            fate => assert_eq!(fate, Fate::Gone { content: Some(3) }),
        }
    }
    assert_eq!(hand.queues.hop(hand.hop).totals.delivered, 133);
    assert_eq!(hand.queues.messages(), 0);
}

#[test]
fn m_102_no_attempt_begins_before_the_outcomes_of_the_last_are_durable() {
    let mut hand = Hand::new(Options::bench());
    let id = hand.enqueue(&[0b111]);
    assert_eq!(hand.take().len(), 1);
    hand.queues.recipient(id, 1, RecipientOutcome::TooMany);
    hand.queues.recipient(id, 2, RecipientOutcome::Deferred);
    assert_eq!(hand.recipients(id), [0]);
    assert_eq!(hand.queues.finish(id, Outcome::Delivered, hand.now), Fate::AwaitsSettle);
    hand.pass(Span::minutes(10));
    assert!(hand.take().is_empty(), "the settle is not durable");
    assert!(!hand.queues.remove(id, hand.now));
    hand.queues.settle_is_durable(id, hand.now);
    assert_eq!(hand.take().len(), 1);
    assert_eq!(hand.recipients(id), [1], "whoever was delivered to is not tried again, whoever was deferred waits");
}

#[test]
fn f_089_recipients_beyond_452_go_in_a_further_transaction_at_once() {
    let mut hand = Hand::new(Options::rfc());
    let id = hand.enqueue(&[0xFFF]);
    hand.take();
    (10..12).for_each(|recipient| hand.queues.recipient(id, recipient, RecipientOutcome::TooMany));
    assert_eq!(hand.queues.finish(id, Outcome::Delivered, hand.now), Fate::AwaitsSettle);
    hand.queues.settle_is_durable(id, hand.now);
    assert_eq!(hand.take().len(), 1, "at once");
    assert_eq!(hand.recipients(id), [10, 11]);
    // 452 to everybody is a deferral: there is no progress that would end.
    (10..12).for_each(|recipient| hand.queues.recipient(id, recipient, RecipientOutcome::TooMany));
    assert_eq!(hand.queues.finish(id, Outcome::Deferred, hand.now), Fate::Waits);
    assert!(hand.take().is_empty());
    hand.pass(Span::minutes(29));
    assert!(hand.take().is_empty());
    hand.pass(Span::minutes(2));
    assert_eq!(hand.take().len(), 1);
    assert_eq!(hand.recipients(id), [10, 11]);
}

#[test]
fn f_065_4yz_to_one_recipient_is_retried_for_that_recipient_only() {
    let mut hand = Hand::new(Options::exchange());
    let id = hand.enqueue(&[0b1011]);
    hand.take();
    hand.queues.recipient(id, 1, RecipientOutcome::Deferred);
    assert_eq!(hand.recipients(id), [0, 3]);
    assert_eq!(hand.queues.finish(id, Outcome::Delivered, hand.now), Fate::AwaitsSettle);
    hand.queues.settle_is_durable(id, hand.now);
    assert!(hand.take().is_empty());
    hand.pass(Span::minutes(14));
    assert!(hand.take().is_empty(), "the message's own retry is 15 min in the exchange profile");
    hand.pass(Span::minutes(2));
    assert_eq!(hand.take().len(), 1);
    assert_eq!(hand.recipients(id), [1]);
}

/// A next hop that is gone, and puts what is left of it off: that waits as ever, whoever else looks for another route.
#[test]
fn a_message_that_no_other_route_takes_keeps_its_own_retry_time() {
    let mut hand = Hand::new(Options::exchange());
    let id = hand.enqueue(&[1]);
    hand.take();
    hand.queues.install([], hand.now, &mut Vec::new());
    assert_eq!(hand.queues.finish(id, Outcome::Deferred, hand.now), Fate::Waits);
    assert_eq!(hand.queues.next_action(hand.now), Some(Action::Reroute { entry: id }));
    hand.queues.stays(id);
    assert!(hand.take().is_empty(), "it was put off");
    hand.pass(Span::minutes(16));
    assert_eq!(hand.take().len(), 1);
}

/// A host that answers each recipient 4yz and goes: there is nobody to be offered to the next connection.
#[test]
fn f_065_a_connection_that_ends_behind_4yz_to_everybody_is_no_reason_to_hurry() {
    for outcome in [Outcome::Interrupted, Outcome::Unknown, Outcome::NotAttempted] {
        let mut hand = Hand::new(Options::exchange());
        let id = hand.enqueue(&[0b11]);
        hand.take();
        (0..2).for_each(|recipient| hand.queues.recipient(id, recipient, RecipientOutcome::Deferred));
        assert_eq!(hand.queues.finish(id, outcome, hand.now), Fate::Waits);
        assert!(hand.take().is_empty(), "{outcome:?}: it is not sent to nobody");
        hand.pass(Span::minutes(16));
        assert_eq!(hand.take().len(), 1, "{outcome:?}");
        assert_eq!(hand.recipients(id), [0, 1]);
    }
}

#[test]
fn f_065_4yz_to_the_message_leaves_host_and_queue_in_health() {
    let mut world = World::new(Options::bench(), &[&[1, 2]]);
    world.set(1, Mode::Defer);
    world.set(2, Mode::Defer);
    let began = world.now;
    world.send(0);
    world.run_for(Span::millis(100));
    assert_eq!(world.connects.len(), 1, "M-091: no next host for a 4yz to the message");
    assert_eq!(world.queues.hop(world.hops[0]).status, Status::Ready);
    world.set(1, Mode::Up(Span::millis(1)));
    world.set(2, Mode::Up(Span::millis(1)));
    world.run_for(Span::seconds(2));
    world.assert_nothing_lost();
    assert!(world.delivered[0].1.since(began) >= Span::seconds(1), "its own retry time");
}

#[test]
fn f_068_5yz_to_one_recipient_fails_it_and_the_others_are_delivered() {
    let mut hand = Hand::new(Options::rfc());
    let id = hand.enqueue(&[0b111]);
    hand.take();
    hand.queues.recipient(id, 1, RecipientOutcome::Failed);
    assert_eq!(hand.recipients(id), [0, 2]);
    assert_eq!(hand.queues.finish(id, Outcome::Delivered, hand.now), Fate::Gone { content: Some(3) });
    let totals = hand.queues.hop(hand.hop).totals;
    assert_eq!((totals.failed, totals.delivered), (1, 3), "one was delivered before");
}

#[test]
fn f_069_5yz_at_the_end_fails_every_accepted_recipient_and_nothing_is_retried() {
    let mut hand = Hand::new(Options::rfc());
    let id = hand.enqueue(&[u64::MAX, 1]);
    hand.take();
    assert!(matches!(hand.queues.finish(id, Outcome::Failed, hand.now), Fate::Gone { .. }));
    assert_eq!(hand.queues.hop(hand.hop).totals.failed, 65);
    assert_eq!(hand.queues.find(id), None);
}

#[test]
fn f_072_a_break_is_repaired_at_once_but_only_once() {
    let mut hand = Hand::new(Options::rfc());
    for outcome in [Outcome::Interrupted, Outcome::Unknown] {
        let id = hand.enqueue(&[1]);
        assert_eq!(hand.take().len(), 1);
        assert_eq!(hand.queues.finish(id, outcome, hand.now), Fate::Waits);
        assert_eq!(hand.take().len(), 1, "at once");
        assert_eq!(hand.queues.finish(id, outcome, hand.now), Fate::Waits);
        assert!(hand.take().is_empty(), "then it waits");
        assert!(hand.queues.remove(id, hand.now));
    }
    assert_eq!(hand.queues.hop(hand.hop).totals.unknown, 2, "W5 is counted");
}

#[test]
fn what_was_not_attempted_is_at_the_head_again_in_its_order_and_not_counted() {
    let mut hand = Hand::new(Options::rfc());
    let ids: Vec<EntryId> = (0..5).map(|_| hand.enqueue(&[1])).collect();
    let taken = hand.take();
    assert_eq!(taken.len(), 5);
    hand.enqueue(&[1]);
    for taken in taken.iter().rev() {
        assert_eq!(hand.queues.finish(taken.id, Outcome::NotAttempted, hand.now), Fate::Waits);
    }
    let again = hand.take();
    assert_eq!(again.iter().take(5).map(|taken| taken.id).collect::<Vec<_>>(), ids);
    assert!(again.iter().all(|taken| taken.attempts == 1));
}

#[test]
fn unreported_messages_of_a_closed_connection_are_unknown_and_never_stuck() {
    let mut hand = Hand::new(Options::bench());
    let (plain, partly) = (hand.enqueue(&[1]), hand.enqueue(&[0b11]));
    assert_eq!(hand.take().len(), 2);
    hand.queues.recipient(partly, 0, RecipientOutcome::Failed);
    hand.queues.closed(hand.conn, Some(Cause::Broken), hand.now);
    let status = hand.queues.hop(hand.hop);
    assert_eq!((status.sending, status.waiting, status.deferred, status.totals.unknown), (0, [0, 1, 0], 1, 2));
    assert!(hand.queues.find(plain).is_some());
    hand.pass(Span::seconds(2));
    assert_eq!(hand.queues.hop(hand.hop).waiting, [0, 2, 0], "I-8: every entry had a timer");
    assert_eq!(hand.recipients(partly), [1]);
}

#[test]
fn high_leaves_before_normal_before_low() {
    let mut hand = Hand::new(Options::rfc());
    for (record, priority) in [(1, Priority::Low), (2, Priority::Normal), (3, Priority::High), (4, Priority::High)] {
        let new = NewEntry { record, recipients: &[1], bytes: 1, age: Span::ZERO, priority, content: None };
        hand.queues.enqueue(hand.hop, new, hand.now);
    }
    let taken: Vec<u64> = hand.take().iter().map(|taken| taken.record).collect();
    assert_eq!(taken, [3, 4, 2, 1]);
}

#[test]
fn a_connection_takes_no_more_octets_than_it_asked_for_but_for_one_message() {
    let mut hand = Hand::new(Options::rfc());
    let _: Vec<EntryId> = (0..5).map(|_| hand.enqueue(&[1])).collect();
    let mut taken = Vec::new();
    assert_eq!(hand.queues.take(hand.conn, Room { messages: 9, bytes: 10 }, hand.now, &mut taken), 1);
    assert_eq!(hand.queues.take(hand.conn, Room { messages: 9, bytes: 250 }, hand.now, &mut taken), 2);
}

#[test]
fn content_is_shed_from_the_tail() {
    let mut hand = Hand::new(Options::rfc());
    let ids: Vec<EntryId> = (0..4).map(|_| hand.enqueue(&[1])).collect();
    let mut dropped = 0;
    assert!(hand.queues.shed_content(3, hand.now, |_| dropped += 1));
    assert_eq!(dropped, 3);
    let with_content: Vec<bool> =
        ids.iter().filter_map(|id| hand.queues.find(*id)).map(|it| it.content.is_some()).collect();
    assert_eq!(with_content, [true, false, false, false]);
    assert_eq!(hand.queues.set_content(ids[0], None), Some(3));
}

#[test]
fn i_005_what_moves_keeps_its_content_until_what_stands_still_has_given_all() {
    let mut hand = Hand::new(Options::rfc());
    let (hosts, mut ids) = ([HostAddress::equal(host(1))], Vec::new());
    hand.queues.install([(&key("hop"), &hosts[..]), (&key("still"), &hosts[..])], hand.now, &mut ids);
    // The one that moves is the longer one, and the first of the two.
    let moving: Vec<EntryId> = (0..100).map(|_| hand.enqueue(&[1])).collect();
    let stuck: Vec<EntryId> = (0..9).map(|_| hand.enqueue_for(ids[1], &[1])).collect();
    hand.now = hand.now + Span::seconds(5);
    for taken in hand.take() {
        hand.queues.finish(taken.id, Outcome::Delivered, hand.now);
    }
    let left = hand.with_content(&moving);
    assert!(left > 0, "some still wait");
    for given in [4, 8, 9] {
        assert!(hand.queues.shed_content(4, hand.now, |_| ()));
        assert_eq!((hand.with_content(&stuck), hand.with_content(&moving)), (9 - given, left));
    }
    while hand.queues.shed_content(4, hand.now, |_| ()) {}
    assert_eq!(hand.with_content(&moving), 0);
}

#[test]
fn f_040_a_message_that_waits_for_its_own_retry_keeps_no_content_that_can_be_had_again() {
    for (sheds_content, expected) in [(true, None), (false, Some(3))] {
        let mut hand = Hand::new(Options { sheds_content, ..Options::rfc() });
        let id = hand.enqueue(&[0b11]);
        hand.take();
        hand.queues.recipient(id, 0, RecipientOutcome::Delivered);
        hand.queues.finish(id, Outcome::Deferred, hand.now);
        assert_eq!(hand.queues.find(id).and_then(|taken| taken.content), Some(3), "it waits for the disk only");
        hand.queues.settle_is_durable(id, hand.now);
        assert_eq!(hand.queues.find(id).and_then(|taken| taken.content), expected);
        let told = hand.queues.next_action(hand.now);
        assert_eq!(told, expected.is_none().then_some(Action::Shed { content: 3 }));
    }
}

#[test]
fn f_028_content_that_cannot_be_read_blames_no_host_and_waits_for_its_retry() {
    let mut hand = Hand::new(Options::rfc());
    let id = hand.enqueue(&[1]);
    hand.take();
    let before: Vec<_> = hand.queues.hosts(hand.hop).collect();
    assert_eq!(hand.queues.finish(id, Outcome::Unreadable, hand.now), Fate::Waits);
    let after: Vec<_> = hand.queues.hosts(hand.hop).collect();
    assert_eq!((before[0].answers, before[0].alive), (after[0].answers, after[0].alive));
    let totals = hand.queues.hop(hand.hop).totals;
    assert_eq!((totals.unreadable, totals.deferred), (1, 0));
    assert!(hand.take().is_empty(), "not at once");
    hand.pass(Span::hours(1));
    assert_eq!(hand.take().len(), 1, "but by its ladder");
}

#[test]
fn lent_tickets_end_like_any_other() {
    let mut hand = Hand::new(Options::rfc());
    let ids: Vec<EntryId> = (0..3).map(|_| hand.enqueue(&[1])).collect();
    let mut lent = Vec::new();
    assert_eq!(hand.queues.lend(hand.hop, 2, hand.now, &mut lent), 2);
    assert_eq!(hand.queues.hop(hand.hop).sending, 2);
    assert!(matches!(hand.queues.finish(ids[0], Outcome::Delivered, hand.now), Fate::Gone { .. }));
    assert_eq!(hand.queues.finish(ids[1], Outcome::NotAttempted, hand.now), Fate::Waits);
    assert_eq!(hand.queues.waiting(hand.hop), 2);
}

#[test]
fn tickets_of_others_get_connections_and_use_their_room() {
    let mut hand = Hand::new(Options::rfc());
    hand.queues.offered_by_others(hand.hop, 3);
    assert_eq!(hand.queues.next_action(hand.now), Some(Action::Feed { conn: hand.conn }));
    hand.queues.borrowed(hand.conn, 3, hand.now);
    hand.queues.offered_by_others(hand.hop, 0);
    while hand.queues.next_action(hand.now).is_some() {}
    assert_eq!(hand.queues.hosts(hand.hop).next().map(|host| host.sending), Some(3));
    for _ in 0..3 {
        hand.queues.returned(hand.conn, Outcome::Delivered, hand.now, hand.now);
    }
    assert_eq!(hand.queues.hosts(hand.hop).next().map(|host| (host.sending, host.answers)), Some((0, 4)));
}

#[test]
fn a_route_that_goes_leaves_its_messages_to_be_routed_again() {
    let mut hand = Hand::new(Options::rfc());
    let id = hand.enqueue(&[1]);
    let (old, mut ids) = (hand.hop, Vec::new());
    hand.queues.install([(&key("new"), &[HostAddress::equal(host(2))][..])], hand.now, &mut ids);
    assert_eq!(hand.first_orphan(), Some(id));
    assert_eq!(hand.queues.split(id, &[(ids[0], vec![0b10])], hand.now), None, "nobody of it goes there");
    assert_eq!(hand.queues.split(id, &[(ids[0], vec![1])], hand.now), Some(1));
    assert_eq!(hand.first_orphan(), None);
    assert_eq!(hand.queues.waiting(ids[0]), 1);
    hand.queues.closed(hand.conn, None, hand.now);
    hand.pass(Span::minutes(10));
    assert!(hand.queues.hops().all(|(id, _)| id != old), "an unused queue of no route is forgotten");
}

#[test]
fn a_queue_whose_messages_all_stay_keeps_no_other_from_being_routed_again() {
    let (now, mut ids) = (Tick(0), Vec::new());
    let mut queues = Queues::new(Options::rfc());
    let hosts = [HostAddress::equal(host(1))];
    queues.install([(&key("one"), &hosts[..]), (&key("two"), &hosts[..])], now, &mut ids);
    let mut waiting = Vec::new();
    for &hop in &ids {
        for priority in [Priority::High, Priority::High, Priority::Normal, Priority::Low] {
            let new = NewEntry { record: 7, recipients: &[1], bytes: 100, age: Span::ZERO, priority, content: None };
            waiting.push(queues.enqueue(hop, new, now));
        }
    }
    queues.install([(&key("new"), &hosts[..])], now, &mut ids);
    // Those of the second queue have a route; nobody of the first has.
    let (mut walk, mut seen) = (queues.orphans(), Vec::new());
    while let Some(orphan) = queues.next_orphan(&mut walk) {
        seen.push(orphan);
        if waiting[..4].contains(&orphan) {
            queues.to_the_end(orphan, now);
        } else {
            assert_eq!(queues.split(orphan, &[(ids[0], vec![1])], now), Some(1));
        }
        assert!(seen.len() <= waiting.len(), "the walk ends");
    }
    assert_eq!(seen, waiting, "each of them once");
    assert_eq!(queues.waiting(ids[0]), 4);
    let (mut walk, mut left) = (queues.orphans(), Vec::new());
    while let Some(orphan) = queues.next_orphan(&mut walk) {
        left.push(orphan);
        queues.to_the_end(orphan, now);
    }
    assert_eq!(left, waiting[..4], "in their order");
}

#[test]
fn recipients_of_a_route_that_went_go_each_where_it_leads_now() {
    let mut hand = Hand::new(Options::rfc());
    let id = hand.enqueue(&[0b1011, 0b1]);
    let mut ids = Vec::new();
    let hosts = [HostAddress::equal(host(2))];
    hand.queues.install([(&key("one"), &hosts[..]), (&key("two"), &hosts[..])], hand.now, &mut ids);
    let sets = [(ids[0], vec![0b101]), (ids[1], vec![0b10, 0b1])];
    assert_eq!(hand.queues.split(id, &sets, hand.now), Some(3), "one has no route and stays");
    let mut taken = Vec::new();
    for (hop, expected) in [(ids[0], vec![0]), (ids[1], vec![1, 64]), (hand.hop, vec![3])] {
        assert_eq!(hand.queues.lend(hop, 9, hand.now, &mut taken), 1);
        assert_eq!(hand.recipients(taken.last().expect("taken").id), expected);
    }
    assert!(taken.iter().all(|taken| (taken.record, taken.content) == (7, Some(3))));
}

#[test]
fn what_was_under_way_or_deferred_when_its_route_went_is_routed_again_too() {
    let mut hand = Hand::new(Options::rfc());
    let ids: Vec<EntryId> = (0..2).map(|_| hand.enqueue(&[1])).collect();
    hand.take();
    hand.queues.finish(ids[0], Outcome::Deferred, hand.now);
    let mut hops = Vec::new();
    hand.queues.install([(&key("new"), &[HostAddress::equal(host(2))][..])], hand.now, &mut hops);
    assert_eq!(hand.first_orphan(), Some(ids[0]), "it waits for no retry any more");
    assert_eq!(hand.queues.split(ids[0], &[(hops[0], vec![1])], hand.now), Some(1));
    while hand.queues.next_action(hand.now).is_some() {}
    for outcome in [Outcome::Deferred, Outcome::Interrupted] {
        let id = if outcome == Outcome::Deferred { ids[1] } else { hand.first_orphan().expect("it waits") };
        if outcome == Outcome::Interrupted {
            assert_eq!(hand.take().len(), 1);
        }
        hand.queues.finish(id, outcome, hand.now);
        assert_eq!(hand.queues.next_action(hand.now), Some(Action::Reroute { entry: id }));
        hand.pass(Span::hours(1));
    }
}

#[test]
fn a_reload_keeps_health_and_lets_a_removed_host_finish() {
    let mut hand = Hand::new(Options::rfc());
    let id = hand.enqueue(&[1]);
    hand.take();
    let hosts = [HostAddress::equal(host(2)), HostAddress::equal(host(3))];
    let mut ids = Vec::new();
    hand.queues.install([(&key("hop"), &hosts[..])], hand.now, &mut ids);
    assert_eq!(ids[0], hand.hop, "the same queue");
    assert!(matches!(hand.queues.finish(id, Outcome::Delivered, hand.now), Fate::Gone { .. }));
    assert_eq!(hand.queues.next_action(hand.now), Some(Action::Close { conn: hand.conn }));
    hand.enqueue(&[1]);
    let Some(Action::Connect { host: to, .. }) = hand.queues.next_action(hand.now) else { panic!("it connects") };
    assert!(hosts.contains(&to));
}

#[test]
fn octets_waiting_are_counted_until_they_are_settled() {
    let mut world = World::new(Options::rfc(), &[&[1]]);
    world.set(1, Mode::Refuse);
    for _ in 0..3 {
        world.send(0);
    }
    let all = world.queues.bytes();
    assert!(all > 0 && all.is_multiple_of(3), "{all}");
    world.set(1, Mode::Up(Span::millis(1)));
    world.run_for(Span::hours(1));
    assert_eq!((world.queues.messages(), world.queues.bytes()), (0, 0));
}
