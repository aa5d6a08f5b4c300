//! Trouble with hosts: dead, silent, slow, flapping, returning.

use super::super::*;
use super::world::{Mode, World, host, tries_due};
use crate::wire::Span;

#[test]
fn f_060_a_dead_host_costs_new_messages_nothing_while_another_lives() {
    let mut world = World::new(Options::bench(), &[&[1, 2]]);
    world.set(1, Mode::Refuse);
    world.send_for(0, Span::millis(10), Span::seconds(2));
    for (at, sent) in world.delivered.iter().map(|(record, at, _)| (*at, *record)) {
        let intended = Tick(0) + Span::hours(1) + Span::millis(10 * (sent - 1));
        assert!(at.since(intended) <= Span::millis(3), "message {sent} took {}", at.since(intended));
    }
    world.assert_nothing_lost();
    // It is known dead: probes only, whose wait doubles to a second.
    let due = tries_due(&Options::bench(), Span::seconds(2));
    assert!(world.connects_to(1) <= due + 1, "{} attempts, {due} were due", world.connects_to(1));
}

#[test]
fn f_060_all_hosts_dead_is_retry_and_enqueuing_connects_to_nobody() {
    let mut world = World::new(Options::exchange(), &[&[1, 2]]);
    world.set(1, Mode::Refuse);
    world.set(2, Mode::Refuse);
    world.send(0);
    world.run_for(Span::seconds(1));
    assert_eq!(world.queues.hop(world.hops[0]).status, Status::Retry);
    let before = world.connects.len();
    assert_eq!(before, 2, "each host was tried (M-087), once");
    for _ in 0..1000 {
        world.send(0);
    }
    world.run_for(Span::seconds(50));
    assert_eq!(world.connects.len(), before, "nothing is tried before the retry time");
    world.set(2, Mode::Up(Span::millis(1)));
    world.run_for(Span::seconds(20));
    world.assert_nothing_lost();
}

#[test]
fn f_066_m_096_a_host_that_refuses_every_mail_is_left_alone_like_one_that_refuses_sessions() {
    let mut world = World::new(Options::exchange(), &[&[1]]);
    world.set(1, Mode::Unwilling);
    for _ in 0..3 {
        world.send(0);
    }
    world.run_for(Span::seconds(50));
    assert_eq!(world.queues.hop(world.hops[0]).status, Status::Retry);
    assert!(world.connects.len() <= 2, "{} connections", world.connects.len());
    world.run_for(Span::minutes(9));
    assert!(world.connects.len() <= 12, "four minutes apart by one, then by five: {}", world.connects.len());
    world.set(1, Mode::Up(Span::millis(1)));
    world.run_for(Span::minutes(20));
    world.assert_nothing_lost();
    // Beside one that works it costs new messages nothing.
    let mut world = World::new(Options::bench(), &[&[1, 2]]);
    world.set(1, Mode::Unwilling);
    world.send_for(0, Span::millis(10), Span::seconds(2));
    world.run_for(Span::seconds(1));
    world.assert_nothing_lost();
    assert!(world.connects_to(1) <= 8, "{} connections", world.connects_to(1));
}

/// The numbers of the hosts that connections were made to, in that order.
fn tries(world: &World) -> Vec<u16> {
    world.connects.iter().map(|(_, at)| at.port()).collect()
}

#[test]
fn m_087_the_addresses_of_a_name_are_tried_in_the_order_given() {
    let mut world = World::named(Options::exchange(), &[&[3, 1, 2]]);
    (1..=3).for_each(|number| world.set(number, Mode::Refuse));
    world.send(0);
    world.run_for(Span::seconds(150));
    assert_eq!(tries(&world), [3, 1, 2, 3, 1, 2, 3, 1, 2], "each of them, in each round");
    // The dead are looked for while one works; then each connection begins again at the first.
    (1..=3).for_each(|number| world.set(number, Mode::Up(Span::millis(1))));
    for _ in 0..20 {
        world.send(0);
        world.run_for(Span::minutes(1));
    }
    for _ in 0..3 {
        world.connects.clear();
        world.send(0);
        world.run_for(Span::minutes(2));
        assert_eq!(tries(&world), [3], "whoever comes first and works has all");
    }
    world.assert_nothing_lost();
}

#[test]
fn m_087_names_share_the_load_by_their_first_addresses() {
    let mut world = World::named(Options::bench(), &[&[1, 2], &[3, 4]]);
    let sent = |world: &mut World| {
        world.connects.clear();
        let before = [1, 2, 3, 4].map(|number| world.delivered_by(number));
        world.send_for(0, Span::micros(300), Span::seconds(2));
        world.run_for(Span::seconds(1));
        [0, 1, 2, 3].map(|at| world.delivered_by(at as u16 + 1) - before[at])
    };
    let shares = sent(&mut world);
    assert!(shares[0].min(shares[2]) > 0 && shares[1] + shares[3] == 0, "{shares:?}");
    world.kill(1);
    let shares = sent(&mut world);
    assert!(shares[2] > 0 && shares[1] + shares[3] == 0, "an equal of the first rank works: {shares:?}");
    world.kill(3);
    let shares = sent(&mut world);
    assert!(shares[1].min(shares[3]) > 0, "then those of the second: {shares:?}");
    world.assert_nothing_lost();
}

#[test]
fn f_060_a_dead_host_that_is_alone_all_at_once_is_tried_again() {
    let mut world = World::new(Options::bench(), &[&[1, 2]]);
    world.set(1, Mode::Refuse);
    world.send_for(0, Span::millis(10), Span::seconds(5));
    assert!(world.connects_to(1) > 2, "it was looked for while the other one was connected");
    // The other one is taken out of the routes with nothing to do, and this one was mended.
    world.run_for(Span::millis(100));
    world.reinstall(&[1]);
    world.set(1, Mode::Up(Span::millis(1)));
    world.send(0);
    world.run_for(Span::minutes(2));
    world.assert_nothing_lost();
}

#[test]
fn f_060_a_host_that_comes_is_tried_at_once_also_in_retry() {
    let mut world = World::new(Options::rfc(), &[&[1]]);
    world.set(1, Mode::Refuse);
    world.send(0);
    world.run_for(Span::minutes(5));
    assert_eq!(world.queues.hop(world.hops[0]).status, Status::Retry);
    world.reinstall(&[1, 2]);
    world.run_for(Span::seconds(1));
    world.assert_nothing_lost();
    assert_eq!(world.delivered_by(2), 1);
}

#[test]
fn m_096_the_exchange_ladder_is_climbed_by_the_queue() {
    let mut world = World::new(Options::exchange(), &[&[1]]);
    world.set(1, Mode::Refuse);
    world.send(0);
    world.run_for(Span::hours(2));
    let minutes: Vec<u64> =
        world.connects.windows(2).map(|pair| pair[1].0.since(pair[0].0).as_micros() / 60_000_000).collect();
    assert_eq!(minutes[..12], [1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 10, 10]);
    assert_eq!(world.queues.hop(world.hops[0]).retry_count as usize, world.connects.len());
}

/// RFC 5321 §4.5.4.1: two tries within the first hour, none of the later ones sooner than 30 minutes, every 2 to 3 hours in the end.
#[test]
fn m_096_the_rfc_ladder_tries_twice_in_the_first_hour_and_grows_to_three_hours() {
    let mut world = World::new(Options::rfc(), &[&[1]]);
    world.set(1, Mode::Refuse);
    world.send(0);
    let began = world.now;
    world.run_for(Span::hours(48));
    let early = world.connects.iter().filter(|(at, _)| at.since(began) < Span::hours(1)).count();
    assert!(early >= 2, "{early} tries within the first hour");
    let waits: Vec<u64> =
        world.connects.windows(2).map(|pair| pair[1].0.since(pair[0].0).as_micros() / 60_000_000).collect();
    assert_eq!(waits[..10], [15, 15, 30, 30, 30, 30, 60, 60, 60, 60]);
    assert!(waits.len() > 20 && waits[10..].iter().all(|wait| *wait == 180), "{waits:?}");
}

#[test]
fn f_091_the_ladder_for_measuring_is_climbed_in_tenths_of_a_second() {
    let mut world = World::new(Options::bench(), &[&[1]]);
    world.set(1, Mode::Refuse);
    world.send(0);
    world.run_for(Span::minutes(1));
    let waits: Vec<u64> =
        world.connects.windows(2).map(|pair| pair[1].0.since(pair[0].0).as_micros() / 100_000).collect();
    let expected = [[1; 10], [5; 10]].concat();
    assert_eq!(waits[..20], expected[..]);
    assert!(waits.len() > 20 && waits[20..].iter().all(|wait| *wait == 20), "{waits:?}");
}

#[test]
fn f_061_at_most_two_attempts_at_once_on_a_host_that_swallows_them() {
    let mut world = World::new(Options::bench(), &[&[1, 2]]);
    world.set(1, Mode::Blackhole);
    world.send_for(0, Span::millis(5), Span::seconds(3));
    world.run_for(Span::seconds(1));
    assert!(world.attempts_peak[&host(1)] <= 2);
    world.assert_nothing_lost();
    let worst = world
        .delivered
        .iter()
        .map(|(record, at, _)| at.since(Tick(0) + Span::hours(1) + Span::millis(5 * (record - 1))));
    // Only what came before the first answer may wait for the other host to be tried beside.
    assert!(worst.max() < Some(Span::millis(50)));
}

#[test]
fn f_062_a_host_that_never_greets_is_penalised_and_the_other_is_first_next_time() {
    let mut world = World::new(Options::exchange(), &[&[1, 2]]);
    world.set(1, Mode::Mute(Span::minutes(5)));
    let began = world.now;
    world.send(0);
    world.run_for(Span::minutes(1));
    assert!(world.delivered[0].1.since(began) < Span::millis(300), "tried beside after the stagger");
    world.run_for(Span::minutes(5));
    let before = world.connects.len();
    world.send(0);
    world.run_for(Span::millis(100));
    assert_eq!((world.delivered.len(), world.delivered[1].2), (2, host(2)));
    assert_eq!(world.connects[before].1, host(2), "the silent host is not asked first");
}

#[test]
fn f_063_a_host_that_stalls_in_a_session_keeps_only_what_it_took() {
    let mut world = World::new(Options::bench(), &[&[1, 2]]);
    world.send_for(0, Span::millis(2), Span::seconds(1));
    world.set(1, Mode::Stall);
    let from = world.now;
    world.send_for(0, Span::millis(2), Span::seconds(2));
    world.run_for(Span::millis(100));
    let stuck = 1500 - world.delivered.len();
    assert!(stuck <= 60, "{stuck} messages wait for the stalled host's timer");
    let late = world.delivered.iter().filter(|(_, at, _)| *at >= from + Span::millis(300)).count();
    assert!(late >= 840, "{late}");
    // Its timers fire: what it took leaves by the other host.
    world.kill(1);
    world.run_for(Span::seconds(3));
    world.assert_nothing_lost();
}

#[test]
fn f_064_421_in_a_session_lowers_concurrency_and_the_message_leaves_by_the_next_host() {
    let mut world = World::new(Options::exchange(), &[&[1, 2]]);
    world.send(0);
    world.run_for(Span::seconds(1));
    let first = world.delivered[0].2;
    let (bad, good) = if first == host(1) { (1, 2) } else { (2, 1) };
    world.set(bad, Mode::PushBack);
    let before = world.queues.hop(world.hops[0]).concurrency;
    let began = world.now;
    world.send(0);
    world.run_for(Span::seconds(1));
    assert_eq!(world.delivered[1].2, host(good), "M-091: the next host after 421");
    assert!(world.delivered[1].1.since(began) < Span::millis(5));
    assert!(world.queues.hop(world.hops[0]).concurrency < before);
}

#[test]
fn f_064_a_single_host_that_always_says_421_is_not_hammered() {
    let mut world = World::new(Options::exchange(), &[&[1]]);
    world.set(1, Mode::PushBack);
    for _ in 0..10 {
        world.send(0);
    }
    world.run_for(Span::minutes(30));
    assert!(world.connects.len() <= 40, "{} connections in half an hour", world.connects.len());
    world.set(1, Mode::Up(Span::millis(1)));
    world.run_for(Span::minutes(30));
    world.assert_nothing_lost();
}

#[test]
fn m_091_the_next_host_after_refusal_silence_greeting_and_break() {
    for trouble in
        [Mode::Refuse, Mode::Blackhole, Mode::Mute(Span::seconds(2)), Mode::UpTo(0, Span::ZERO), Mode::PushBack]
    {
        let mut world = World::new(Options::bench(), &[&[1, 2]]);
        world.set(1, trouble);
        for _ in 0..20 {
            world.send(0);
        }
        world.run_for(Span::seconds(2));
        world.assert_nothing_lost();
        assert_eq!(world.delivered_by(2), 20, "{trouble:?}");
    }
}

#[test]
fn m_101_a_dead_destination_costs_a_bounded_number_of_connections_and_others_nothing() {
    let mut world = World::new(Options::rfc(), &[&[1], &[2]]);
    world.set(1, Mode::Blackhole);
    for _ in 0..500 {
        world.send(0);
        world.send(1);
        world.run_for(Span::millis(10));
    }
    world.run_for(Span::minutes(10));
    assert_eq!(world.delivered_by(2), 500);
    assert!(world.connects_to(1) <= 4, "{}", world.connects_to(1));
    assert_eq!(world.queues.hop(world.hops[0]).status, Status::Retry);
}

#[test]
fn f_091_all_hosts_fail_then_one_recovers_within_a_probe_and_without_a_herd() {
    let mut world = World::new(Options::bench(), &[&[1, 2]]);
    world.send_for(0, Span::millis(1), Span::seconds(1));
    world.kill(1);
    world.kill(2);
    world.send_for(0, Span::millis(1), Span::seconds(20));
    assert_eq!(world.queues.hop(world.hops[0]).status, Status::Retry);
    world.set(2, Mode::Up(Span::micros(100)));
    let (healed, before) = (world.now, world.connects.len());
    world.run_for(Span::seconds(2));
    let back = world.delivered.iter().map(|(_, at, _)| *at).find(|at| *at >= healed).expect("it recovers");
    assert!(back.since(healed) <= Span::millis(1100), "{}", back.since(healed));
    // Slow start: each further connection is earned by an answer.
    let opened = world.connects[before..].iter().filter(|(_, to)| *to == host(2)).map(|(at, _)| *at);
    for (count, at) in (1..).zip(opened) {
        let answers = world.delivered.iter().filter(|(_, when, _)| *when >= healed && *when <= at).count();
        assert!(count <= answers + 2, "{count} connections on {answers} answers");
    }
    world.run_for(Span::seconds(10));
    world.assert_nothing_lost();
}

#[test]
fn f_092_a_flapping_host_still_works_two_fifths_of_the_time() {
    let mut world = World::new(Options::bench(), &[&[1]]);
    let began = world.now;
    for turn in 0..12 {
        match turn % 2 {
            0 => world.set(1, Mode::Up(Span::micros(100))),
            _ => world.kill(1),
        }
        world.send_for(0, Span::millis(20), Span::seconds(10));
    }
    let useful = world.delivered.iter().filter(|(_, at, _)| at.since(began) < Span::minutes(2)).count();
    assert!(useful * 10 >= 120 * 50 * 4, "{useful} of {}", 120 * 50);
    world.set(1, Mode::Up(Span::micros(100)));
    world.run_for(Span::seconds(30));
    world.assert_nothing_lost();
}

#[test]
fn equal_hosts_share_the_load_even_where_one_connection_would_do() {
    let mut world = World::new(Options::bench(), &[&[1, 2]]);
    world.window = 64;
    for number in [1, 2] {
        world.set(number, Mode::Up(Span::micros(300)));
    }
    for _ in 0..1000 {
        world.send(0);
        world.send(0);
        world.run_for(Span::millis(1));
    }
    world.assert_nothing_lost();
    assert!(world.delivered_by(1).abs_diff(world.delivered_by(2)) < 300, "{}", world.delivered_by(1));
    assert!(world.connects.len() <= 4, "{}", world.connects.len());
}

#[test]
fn f_093_one_of_three_hosts_killed_is_an_outage_of_milliseconds() {
    let mut world = World::new(Options::bench(), &[&[1, 2, 3]]);
    world.send_for(0, Span::millis(1), Span::seconds(2));
    let killed = world.now;
    world.kill(2);
    world.send_for(0, Span::millis(1), Span::seconds(2));
    world.run_for(Span::seconds(1));
    world.assert_nothing_lost();
    let mut times: Vec<Tick> = world.delivered.iter().map(|(_, at, _)| *at).filter(|at| *at >= killed).collect();
    times.sort();
    let gap = times.windows(2).map(|pair| pair[1].since(pair[0])).max();
    assert!(gap <= Some(Span::millis(5)), "{gap:?}");
}

#[test]
fn f_093_one_of_three_hosts_slow_loses_its_share() {
    let mut world = World::new(Options::bench(), &[&[1, 2, 3]]);
    (1..=3).for_each(|number| world.set(number, Mode::Up(Span::millis(4))));
    world.send_for(0, Span::millis(1), Span::seconds(2));
    let share = world.delivered_by(2);
    assert!((400..=950).contains(&share), "equal hosts share alike: {share} of 2000");
    world.set(2, Mode::Up(Span::seconds(5)));
    let (from, before) = (world.now + Span::seconds(1), world.delivered.len());
    world.send_for(0, Span::millis(1), Span::seconds(60));
    let by_slow = world.delivered[before..].iter().filter(|(_, _, by)| *by == host(2)).count();
    assert!(by_slow < 200, "{by_slow} of 60000 went to the slow host");
    assert!(world.delivered_since(from) >= 58_500, "{}", world.delivered_since(from));
    world.set(2, Mode::Up(Span::millis(4)));
    let before = world.delivered_by(2);
    world.send_for(0, Span::millis(1), Span::seconds(120));
    assert!(world.delivered_by(2) - before > 20_000, "it is trusted again: {}", world.delivered_by(2) - before);
}

#[test]
fn f_090_a_host_that_takes_one_message_a_connection_gets_a_connection_each() {
    let mut world = World::new(Options::rfc(), &[&[1]]);
    world.window = 1;
    world.set(1, Mode::OneEach(Span::millis(5)));
    for _ in 0..200 {
        world.send(0);
    }
    world.run_for(Span::minutes(1));
    world.assert_nothing_lost();
    assert!((200..=240).contains(&world.connects.len()), "{}", world.connects.len());
    assert!(world.connections_peak <= 20);
}

#[test]
fn a_host_that_wants_no_more_connections_is_not_dead() {
    let wait = Options::bench().probe_wait;
    let mut world = World::new(Options::bench(), &[&[1]]);
    let began = world.now;
    world.window = 1;
    world.set(1, Mode::UpTo(3, Span::millis(5)));
    for _ in 0..600 {
        world.send(0);
    }
    world.run_for(Span::seconds(3));
    world.assert_nothing_lost();
    assert_eq!(world.queues.hosts(world.hops[0]).next().and_then(|host| host.alive), Some(true));
    // Beside the three that it takes, two for each wait that passes while there is work.
    let worked = world.delivered.last().expect("all came").1.since(began).0;
    let most = 3 + 2 * (1 + usize::try_from(worked / wait.0).expect("few"));
    assert!(world.connects.len() <= most, "{} connections, {most} at most", world.connects.len());
}
