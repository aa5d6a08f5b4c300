//! Space, size and number: what happens at the bounds.

use super::disk::*;
use super::ledger::*;
use crate::spool::*;

#[test]
fn f_022_f_024_messages_are_refused_first_and_settles_go_on_in_what_is_left() {
    let mut world = World::new(Durability::Disk);
    world.files_max = 2;
    let mut kept = Vec::new();
    let refused = loop {
        match world.append(&content(kept.len() as u32, 3000), 1) {
            Ok(appended) => kept.push(appended),
            Err(Full::Segment) if world.write_one() => {}
            Err(full) => break full,
        }
    };
    assert_eq!(refused, Full::Space);
    // M-105: nobody has to send what will find no place.
    assert!(!world.log.has_room_for(3000) && !world.log.has_room_for(u64::MAX));
    let mut settled = 0;
    let mut paused = None;
    for appended in &kept {
        match world.log.settle(appended.id, 0, Outcome::Delivered) {
            Ok(_) => settled += 1,
            Err(full) => {
                paused = Some(full);
                break;
            }
        }
        world.write_one();
    }
    assert!(settled >= 3, "a reserve is kept for outcomes: {settled}");
    assert!(paused.is_none_or(|full| full == Full::Space), "{paused:?}");
    // Space returns, and everything goes on by itself.
    world.files_max = 10;
    world.supply();
    world.settle_down();
    assert!(world.log.has_room_for(3000) && world.log.has_room_for(0));
    for appended in &kept {
        world.settle_patiently(appended.id, 0);
    }
    world.settle_down();
    world.append_patiently(b"new", 1);
    world.settle_down();
    assert_eq!(recover(&world.disk, 1, Durability::Disk).live.len(), 1);
}

#[test]
fn a_message_larger_than_a_segment_spans_several_and_lives_until_it_is_settled() {
    let mut world = World::new(Durability::Disk);
    let body = content(7, SEGMENT as usize * 3);
    let id = world.append_in_extents(&body, 2);
    world.settle_down();
    for seed in 100..300 {
        let other = world.append_patiently(&content(seed, 3000), 1);
        world.settle_patiently(other.id, 0);
        world.write_one();
    }
    world.settle_down();
    let found = recover(&world.disk, 2, Durability::Disk);
    assert_eq!(found.live.len(), 1);
    assert_eq!(found.live[0].content, body);
    // Another life of the process, in which it is delivered: its space comes back.
    let shard = found.logs.iter().position(|log| log.fetch(id).is_some()).expect("somebody's");
    let log = found.logs.into_iter().nth(shard).expect("there");
    let mut next = World::with(log, found.pool, world.disk);
    next.settle_patiently(id, 0);
    next.settle_patiently(id, 1);
    next.settle_down();
    let files = next.disk.files.len();
    for seed in 300..500 {
        let other = next.append_patiently(&content(seed, 3000), 1);
        next.settle_patiently(other.id, 0);
        next.write_one();
    }
    assert_eq!(next.disk.files.len(), files, "the message's segments are used again");
}

#[test]
fn f_035_every_record_belongs_to_one_shard_whatever_their_number() {
    let mut disk = Disk::default();
    let mut expected = Vec::new();
    for (life, shards) in [1usize, 3, 2, 1, 4].into_iter().enumerate() {
        let found = recover(&disk, shards, Durability::Disk);
        let mut ids: Vec<_> = found.live.iter().map(|live| live.id).collect();
        ids.sort();
        expected.sort();
        assert_eq!(ids, expected, "life {life}");
        for (shard, log) in found.logs.into_iter().enumerate() {
            let mine: Vec<_> = expected.iter().copied().filter(|id| log.fetch(*id).is_some()).collect();
            let mut world = World::with(log, found.pool.clone(), disk);
            world.next_file = 1000 * (life as u32 + 1) + 100 * shard as u32;
            for seed in 0..5 {
                let body = content((life * 100 + shard * 10 + seed) as u32, 2000);
                expected.push(world.append_patiently(&body, 1).id);
            }
            // Some of what earlier lives left is settled by whoever owns it now.
            for id in mine.into_iter().step_by(3) {
                world.settle_patiently(id, 0);
                expected.retain(|kept| *kept != id);
            }
            world.settle_down();
            disk = world.disk;
            disk.ops.clear();
        }
    }
}

#[test]
fn f_184_the_nth_write_fails_and_nothing_that_was_promised_is_lost() {
    for n in 0.. {
        let mut world = World::new(Durability::Disk);
        world.fates = vec![Fate::Good; n];
        world.fates.push(Fate::Fails(4096 * (n % 3)));
        let mut promised = Vec::new();
        for seed in 0..12 {
            let body = content(seed, 20_000);
            let appended = world.append_patiently(&body, 1);
            let before = world.failures.len();
            world.settle_down();
            let failed = world.failures[before..].iter().any(|failure| {
                let unwritten = failure.unwritten.clone().is_some_and(|range| range.contains(&appended.ticket.0));
                failure.in_doubt == Some(appended.ticket) || unwritten
            });
            if !failed {
                promised.push((appended.id, body));
            }
            if seed % 3 == 0 && !promised.is_empty() {
                world.settle_patiently(promised.remove(0).0, 0);
            }
        }
        world.settle_down();
        let used = world.fates.is_empty();
        let found = recover(&world.disk, 1, Durability::Disk);
        let mut contents: Vec<_> = found.live.iter().map(|live| live.content.clone()).collect();
        let mut expected: Vec<_> = promised.into_iter().map(|(_, body)| body).collect();
        contents.sort();
        expected.sort();
        assert!(contents == expected, "write {n}: {} of {}", contents.len(), expected.len());
        if !used {
            assert!(n > 15, "the story is longer than {n} writes");
            return;
        }
    }
}

#[test]
fn f_026_a_cancel_that_cannot_be_written_is_not_promised() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let appended = world.append_patiently(b"in doubt", 1);
    let twin = world.append_patiently(b"not even tried", 1);
    assert_eq!(appended.ticket, twin.ticket);
    world.fates = vec![Fate::Fails(usize::MAX), Fate::Fails(0)];
    world.write_one();
    let failure = world.failures[0].clone();
    assert_eq!(failure.in_doubt, Some(appended.ticket));
    let cancel = failure.cancelled_by.expect("the next segment was prepared");
    // It stands on disk although the write was reported as failed; only the cancel makes 451 true.
    assert_eq!(recover(&world.disk, 1, Durability::Disk).live.len(), 2);
    while world.failures.len() < 2 {
        assert!(world.write_one());
    }
    assert_eq!(world.failures[1].in_doubt, Some(cancel), "no 451: the connections close without a reply");
    world.settle_down();
    assert!(recover(&world.disk, 1, Durability::Disk).live.is_empty(), "and the cancel is still brought to disk");
}

#[test]
fn bounds_of_a_record_are_refused_and_not_asserted() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let body = content(1, PACKED_BYTES_MAX + 1);
    assert_eq!(world.append(&body, 1).err(), Some(Full::TooLarge));
    let (facts, long) = (facts(b"x"), vec![b'e'; RECORD_TEXT_BYTES_MAX + 1]);
    let new = NewRecord { content: Content::Octets(&[b"x"]), ..record(&long, 1, &facts) };
    assert_eq!(world.log.append(&new).err(), Some(Full::TooLarge));
    // Within the format's bounds, and more than this small segment holds.
    let (facts, long) = (self::facts(b"x"), vec![b'e'; SEGMENT as usize]);
    let new = NewRecord { content: Content::Octets(&[b"x"]), ..record(&long, 1, &facts) };
    assert_eq!(world.log.append(&new).err(), Some(Full::TooLarge));
    assert!(world.append(b"x", 1).is_ok(), "and the log goes on");
}

#[test]
fn without_memory_nothing_is_lost_and_outcomes_are_still_written() {
    let pool = crate::sys::slice::Pool::new(crate::sys::slice::Budget::new(160 << 10));
    let mut world = World::with(Log::new(options(Durability::Disk), pool.clone()), pool, Disk::default());
    world.warm_up();
    let first = world.append_patiently(&content(1, 3000), 1);
    world.settle_down();
    drop((first.trace, first.content));
    let mut held = Vec::new();
    while let Some(fill) = world.pool.fill(4096) {
        held.push(fill);
    }
    assert_eq!(world.append(&content(2, 3000), 1).err(), Some(Full::Memory));
    let ticket = world.settle_patiently(first.id, 0);
    world.settle_down();
    assert_eq!(world.durable, ticket);
    held.clear();
    world.append(&content(3, 3000), 1).expect("memory came back");
    world.settle_down();
}

#[test]
fn f_026_a_record_waits_for_extents_that_could_fail_apart_from_it() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let body = content(1, 30_000);
    let mut extents = Extents::default();
    let mut filler = 10;
    // The extent ends up in the last batch of a segment, in flight when the record would go into the next segment.
    while world.log.extent(&mut extents, &world.chunks(&body), body.len() as u64).is_err() {
        world.write_one();
    }
    let first = world.append_patiently(b"where are we", 1).id.number();
    let mut next = first;
    while next == first {
        filler += 1;
        next = match world.append(&content(filler, 9000), 1) {
            Ok(appended) => appended.id.number(),
            Err(full) => panic!("{full}"),
        };
    }
    assert!(world.start_write());
    let (facts, envelope) = (facts(&body), envelope(&body, 1));
    let new = NewRecord { content: Content::Extents(&extents), ..record(&envelope, 1, &facts) };
    assert_eq!(world.log.append(&new).err(), Some(Full::Segment));
    world.fates = vec![Fate::Fails(4096)];
    world.finish_write();
    assert_eq!(world.log.append(&new).err(), Some(Full::Lost), "and learns that it failed");
    world.log.abandon(extents);
    world.settle_down();
}

#[test]
fn f_027_a_record_that_cannot_be_read_keeps_no_other_from_being_moved() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let kept = [1, 2].map(|seed| world.append_patiently(&content(seed, 3000), 1).id);
    world.settle_down();
    world.append_patiently(&content(3, 3000), 1);
    world.fates = vec![Fate::Fails(0)];
    world.write_one();
    assert_eq!(world.log.relocation(), Some(kept[0]));
    world.log.leave(kept[0]);
    assert_eq!(world.log.relocation(), Some(kept[1]));
    world.log.leave(kept[1]);
    assert_eq!((world.log.relocation(), world.log.discard()), (None, None), "its segment is kept for it");
    for id in kept {
        world.settle_patiently(id, 0);
    }
    world.settle_down();
    assert_eq!(world.log.discard(), Some(FileId(1)), "until nothing in it is needed");
}

#[test]
fn f_027_an_outcome_of_a_relocated_record_is_durable_when_it_stands_at_the_new_place() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let body = content(1, 3000);
    let kept = world.append_patiently(&body, 1).id;
    world.settle_down();
    world.append_patiently(&content(2, 3000), 1);
    world.fates = vec![Fate::Fails(0)];
    world.write_one();
    let file = world.disk.files[&FileId(1)].clone();
    let plan = world.log.fetch(kept).expect("live");
    let start = plan.first_read().at as usize;
    let Fetched::Record(record) = plan.parse(&file[start..]).expect("sound") else { panic!("all is there") };
    world.supply();
    let moved = world.log.relocate(&record, Content::Octets(&[&body])).expect("there is room").id;
    world.settle_down();
    assert_eq!(world.log.discard(), Some(FileId(1)));
    world.disk.files.remove(&FileId(1));
    world.log.removed(FileId(1));
    let ticket = world.settle_patiently(kept, 0);
    assert!(ticket > world.durable, "{ticket:?} is yet to be written");
    let found = recover(&world.disk, 1, Durability::Disk);
    assert_eq!(found.live.iter().map(|live| live.id).collect::<Vec<_>>(), [moved], "a kill now forgets it");
    world.settle_down();
    assert_eq!(world.durable, ticket);
    assert!(recover(&world.disk, 1, Durability::Disk).live.is_empty());
}

#[test]
fn f_027_a_record_is_not_relocated_while_an_outcome_of_it_is_under_way() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let (body, other) = (content(1, 3000), content(2, 3000));
    let kept = world.append_patiently(&body, 3).id;
    world.settle_down();
    world.append_patiently(&other, 1);
    world.fates = vec![Fate::Fails(0)];
    world.write_one();
    assert_eq!(world.log.relocation(), Some(kept));
    let file = world.disk.files[&FileId(1)].clone();
    let plan = world.log.fetch(kept).expect("live");
    let start = plan.first_read().at as usize;
    let Fetched::Record(record) = plan.parse(&file[start..]).expect("sound") else { panic!("all is there") };
    world.settle_patiently(kept, 1);
    assert_eq!(world.log.relocation(), None);
    assert_eq!(world.log.relocate(&record, Content::Octets(&[&body])).err(), Some(Full::Segment));
    world.settle_down();
    let moved = world.log.relocate(&record, Content::Octets(&[&body])).expect("the outcome is written").id;
    world.settle_patiently(kept, 2);
    world.settle_down();
    let found = recover(&world.disk, 1, Durability::Disk);
    assert_eq!((found.live.len(), found.live[0].id, &found.live[0].unsettled[..]), (1, moved, &[0][..]));
    assert_eq!(world.log.fetch(kept).map(|fetch| fetch.id()), Some(moved), "the old name means the new record");
}
