//! Whoever waits for too long is given up, once, after a try, and not much later.

use super::super::*;
use super::world::{Mode, World, host, key};
use crate::wire::Span;

const HOUR: Span = Span::hours(1);

fn world(hops: &[&[u16]]) -> World {
    let ladder = Ladder::new(&[], Span::minutes(5));
    let options =
        Options { expire_after: HOUR, queue_ladder: ladder.clone(), message_ladder: ladder, ..Options::rfc() };
    World::new(options, hops)
}

/// The most that an expiry may be late: a turn, and the second that it is rounded to.
fn is_in_time(at: Tick, began: Tick, after: Span) -> bool {
    let late = at.since(began + after);
    at >= began + after && late <= Span(HOUR.0 / 64) + Span::seconds(1)
}

#[test]
fn m_097_what_is_refused_or_put_off_all_the_time_is_given_up_and_nothing_else() {
    for mode in [Mode::Refuse, Mode::Defer, Mode::Blackhole, Mode::PushBack] {
        let mut world = world(&[&[1], &[2]]);
        world.set(1, mode);
        let began = world.now;
        let stuck = world.send(0);
        world.send(1);
        world.run_for(Span::minutes(59));
        assert!(world.expired.is_empty(), "{mode:?}");
        let late = world.send(0);
        world.run_for(Span::minutes(5));
        assert!(
            matches!(world.expired[..], [(record, at)] if record == stuck && is_in_time(at, began, HOUR)),
            "{mode:?}"
        );
        assert_eq!(world.queues.hop(world.hops[0]).totals.failed, 1);
        world.run_for(HOUR);
        assert_eq!(world.expired.iter().map(|(record, _)| *record).collect::<Vec<_>>(), [stuck, late]);
        assert_eq!((world.queues.messages(), world.delivered.len()), (0, 1));
    }
}

#[test]
fn f_056_an_age_from_before_a_restart_counts_and_nobody_is_given_up_untried() {
    let mut world = world(&[&[1], &[2]]);
    world.set(2, Mode::Refuse);
    let began = world.now;
    let half = world.send_aged(1, Span::minutes(30));
    let over: Vec<u64> = (0..2).map(|hop| world.send_aged(hop, Span::hours(100))).collect();
    world.run_for(Span::minutes(40));
    assert_eq!(world.delivered.iter().map(|(record, ..)| *record).collect::<Vec<_>>(), [over[0]], "its time was over");
    assert!(matches!(world.expired[..], [(first, soon), (second, at)]
        if (first, second) == (over[1], half)
            && is_in_time(soon, began, Span::ZERO)
            && is_in_time(at, began, Span::minutes(30))));
}

/// The server was down for long, and starts while its resolver is slow, or with a route missing.
#[test]
fn f_056_who_comes_aged_to_a_next_hop_without_hosts_is_not_given_up_before_hope_is() {
    let ladder = Ladder::new(&[], Span::minutes(5));
    for comes in [true, false] {
        let options = Options { queue_ladder: ladder.clone(), message_ladder: ladder.clone(), ..Options::rfc() };
        let mut world = World::new(options, &[&[], &[1]]);
        let (began, unreachable) = (world.now, world.queues.unreachable(world.now));
        world.hops.push(unreachable);
        let unrouted = world.send_aged(2, Span::hours(1000));
        let unresolved = world.send_aged(0, Span::hours(1000));
        world.run_for(Span::minutes(59));
        assert!(world.expired.is_empty(), "nobody was tried: {:?}", world.expired);
        if comes {
            let hosts = [[HostAddress::equal(host(2))], [HostAddress::equal(host(1))]];
            let hops = [(&key("hop0"), &hosts[0][..]), (&key("hop1"), &hosts[1][..])];
            world.modes.insert(host(2), Mode::Up(Span::millis(1)));
            world.queues.install(hops, world.now, &mut Vec::new());
        }
        world.run_for(Span::minutes(5));
        let mut given_up: Vec<u64> = world.expired.iter().map(|(record, _)| *record).collect();
        given_up.sort_unstable();
        let never = if comes { vec![unrouted] } else { vec![unrouted, unresolved] };
        assert_eq!((given_up, world.delivered_by(2)), (never, usize::from(comes)));
        assert!(world.expired.iter().all(|(_, at)| *at >= began + HOUR));
        // The last host goes: hope begins anew.
        world.queues.install([(&key("hop1"), &[][..])], world.now, &mut Vec::new());
        world.send_aged(1, Span::hours(1000));
        let before = world.expired.len();
        world.run_for(Span::minutes(59));
        assert_eq!(world.expired.len(), before);
        world.run_for(Span::minutes(5));
        assert_eq!(world.expired.len(), before + 1);
    }
}

#[test]
fn what_no_route_leads_to_is_given_up_too_and_keeps_its_age_when_it_is_routed_again() {
    let mut world = world(&[&[1]]);
    let unreachable = world.queues.unreachable(world.now);
    world.hops.push(unreachable);
    let began = world.now;
    let (stays, moves) = (world.send(1), world.send(1));
    world.run_for(Span::minutes(50));
    let mut walk = world.queues.orphans();
    let ids: Vec<EntryId> = std::iter::from_fn(|| {
        let id = world.queues.next_orphan(&mut walk)?;
        world.queues.to_the_end(id, world.now);
        Some(id)
    })
    .collect();
    world.set(1, Mode::Refuse);
    assert_eq!(world.queues.split(ids[1], &[(world.hops[0], vec![1])], world.now), Some(1));
    world.run_for(Span::minutes(15));
    assert_eq!(world.expired.iter().map(|(record, _)| *record).collect::<Vec<_>>(), [stays, moves]);
    assert!(world.expired.iter().all(|(_, at)| is_in_time(*at, began, HOUR)), "{:?}", world.expired);
}

#[test]
fn a_message_under_way_is_given_up_only_when_it_comes_back() {
    let mut world = world(&[&[1]]);
    world.set(1, Mode::Stall);
    world.send(0);
    world.run_for(Span::hours(3));
    assert!(world.expired.is_empty(), "its outcome is not known");
    world.kill(1);
    world.run_for(Span::minutes(5));
    assert_eq!(world.expired.len(), 1);
}

#[test]
fn a_message_that_the_caller_leaves_is_told_again() {
    let (now, mut ids) = (Tick(0), Vec::new());
    let mut queues = Queues::new(Options { expire_after: HOUR, ..Options::rfc() });
    queues.install([(&key("none"), &[][..])], now, &mut ids);
    let new =
        NewEntry { record: 7, recipients: &[0b101], bytes: 1, age: HOUR, priority: Priority::Normal, content: Some(3) };
    let entry = queues.enqueue(ids[0], new, now);
    for turn in 1..=3 {
        let now = Tick(0) + HOUR + Span::minutes(turn);
        queues.on_timer(now);
        assert_eq!(queues.next_action(now), Some(Action::Expire { entry }), "turn {turn}");
    }
    assert_eq!(queues.expire(entry, now), Some(3));
    assert_eq!((queues.hop(ids[0]).totals.failed, queues.messages(), queues.expire(entry, now)), (2, 0, None));
}

/// A shard without a part of the connections tries nothing itself: to be lent is no try, and what it hears of none is given
/// up an hour beyond its time.
#[test]
fn m_097_what_is_lent_is_not_given_up_untried_nor_kept_for_ever() {
    let (mut now, mut ids) = (Tick(0), Vec::new());
    let mut queues = Queues::new(Options { expire_after: HOUR, lent_max: 100, ..Options::rfc() });
    queues.install([(&key("hop"), &[HostAddress::equal(host(1))][..])], now, &mut ids);
    queues.limit(ids[0], 0);
    let new =
        NewEntry { record: 7, recipients: &[1], bytes: 1, age: HOUR, priority: Priority::Normal, content: Some(3) };
    let entry = queues.enqueue(ids[0], new, now);
    assert_eq!(queues.next_action(now), Some(Action::Lend { hop: ids[0] }));
    assert_eq!(queues.lend(ids[0], 1, now, &mut Vec::new()), 1);
    now = now + Span::minutes(55);
    queues.on_timer(now);
    assert_eq!(queues.next_action(now), None, "its next hop may take it yet");
    now = now + Span::minutes(10);
    queues.on_timer(now);
    assert_eq!(queues.next_action(now), Some(Action::Recall { hop: ids[0] }));
    let outcome = queues.untaken(entry, now);
    queues.finish(entry, outcome, now);
    assert_eq!(queues.next_action(now), Some(Action::Expire { entry }));
}

#[test]
fn a_long_queue_is_looked_at_a_page_at_a_time() {
    const MESSAGES: usize = 50_000;
    let mut world = world(&[&[1]]);
    world.set(1, Mode::Refuse);
    for _ in 0..MESSAGES {
        world.send(0);
    }
    let began = world.now;
    world.run_for(HOUR + Span::minutes(2));
    assert_eq!(world.expired.len(), MESSAGES);
    let mut by_time: Vec<usize> = world.expired.chunk_by(|one, next| one.1 == next.1).map(<[_]>::len).collect();
    by_time.sort_unstable();
    assert!(by_time.last() <= Some(&1024), "one page at a time: {by_time:?}");
    assert!(world.expired.iter().all(|(_, at)| is_in_time(*at, began, HOUR)));
}

#[test]
fn a_dead_host_is_left_alone_for_longer_each_time_until_it_answers() {
    let options = Options { probe_wait: Span::seconds(1), probe_wait_max: Span::seconds(10), ..Options::rfc() };
    let mut world = World::new(options, &[&[1, 2]]);
    world.set(1, Mode::Refuse);
    for round in 0..2 {
        let before = world.connects.len();
        // Enough for both of them to be asked.
        for _ in 0..100 {
            world.send(0);
        }
        world.send_for(0, Span::millis(100), Span::minutes(1));
        let tries = world.connects[before..].iter().filter(|(_, to)| *to == host(1));
        let tries: Vec<Tick> = tries.map(|(at, _)| *at).collect();
        let waits = tries.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() / 1000);
        let waits: Vec<u64> = waits.skip_while(|wait| *wait == 0).collect();
        assert_eq!(waits[..6], [1, 2, 4, 8, 10, 10], "round {round}: {waits:?}");
        world.set(1, Mode::Up(Span::millis(1)));
        let answered = world.delivered_by(1);
        world.send_for(0, Span::millis(1), Span::seconds(15));
        assert!(world.delivered_by(1) > answered, "it is found again, and answers");
        world.kill(1);
    }
    world.run_for(Span::minutes(1));
    world.assert_nothing_lost();
}
