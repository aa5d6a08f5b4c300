//! The way without trouble: batches, tickets, rotation, recycling.

use super::disk::*;
use crate::spool::*;

#[test]
fn a_message_is_packed_once_and_its_slices_are_what_was_appended() {
    let mut world = World::new(Durability::Disk);
    let body = content(1, 4096);
    let appended = world.append_patiently(&body, 1);
    assert_eq!(&*appended.trace, TRACE);
    assert_eq!(&**appended.content.as_ref().expect("packed"), &body[..]);
    assert!(appended.trace.is_followed_by(appended.content.as_ref().expect("packed")), "one slice serves delivery");
    assert!(world.log.pending());
    world.settle_down();
    assert_eq!(world.durable, appended.ticket);
    assert!(!world.log.pending());
    let file = world.disk.files.values().next().expect("a segment");
    let at = usize::try_from(appended.id.offset()).expect("small");
    assert_eq!(&file[at..at + 4], b"RPrm");
}

#[test]
fn f_194_a_batch_under_sync_is_closed_and_only_it_is_acknowledged() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let first = world.append_patiently(b"first", 1);
    let order = world.log.seal().expect("a batch");
    let second = world.append(b"second", 1).expect("room");
    assert!(second.ticket > first.ticket);
    assert!(world.log.seal().is_none(), "one write at a time");
    let bytes = order.bytes as usize;
    assert!(matches!(
        world.log.written(order.parts, WriteResult::Octets(bytes)),
        Written::Durable(ticket) if ticket == first.ticket
    ));
    world.settle_down();
    assert_eq!(world.durable, second.ticket);
}

#[test]
fn messages_of_one_turn_share_a_write() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let before = world.disk.ops.len();
    let tickets: Vec<_> = (0..8).map(|seed| world.append_patiently(&content(seed, 4096), 1).ticket).collect();
    world.settle_down();
    assert_eq!(world.disk.ops.len() - before, 1);
    assert!(tickets.iter().all(|&ticket| ticket == tickets[0]));
    // 8 messages of 4 KiB with heads, envelopes and traces in at most 12 blocks: header, table and padding included.
    assert!(world.disk.ops[before].bytes.len() <= 13 * 4096, "{}", world.disk.ops[before].bytes.len());
}

/// Messages that are settled as soon as they are durable.
fn many_come_and_go(world: &mut World) {
    for seed in 0..2000 {
        let appended = world.append_patiently(&content(seed, 3000), 1);
        world.write_one();
        world.settle_patiently(appended.id, 0);
    }
    world.settle_down();
}

#[test]
fn settled_segments_get_a_new_life_and_the_spool_stays_small() {
    let mut world = World::new(Durability::Disk);
    many_come_and_go(&mut world);
    assert!(world.disk.files.len() <= 5, "{} files for a spool that is empty", world.disk.files.len());
}

#[test]
fn memory_for_batches_is_used_again_and_does_not_grow_with_their_number() {
    let mut world = World::new(Durability::Disk);
    many_come_and_go(&mut world);
    assert!((1..16).contains(&world.log.spare_batches.count()), "{} batches", world.log.spare_batches.count());
    assert!((1..16).contains(&world.log.spare_parts.count()), "{} lists of parts", world.log.spare_parts.count());
}

#[test]
fn a_message_that_stays_does_not_hold_the_segments_behind_it() {
    let mut world = World::new(Durability::Disk);
    let stays = world.append_patiently(&content(99, 3000), 1);
    many_come_and_go(&mut world);
    assert!(world.disk.files.len() <= 6, "{} files for one message", world.disk.files.len());
    world.settle_patiently(stays.id, 0);
    world.settle_down();
}

#[test]
fn content_in_chunks_is_written_where_it_stands() {
    let mut world = World::new(Durability::Disk);
    let body = content(5, 50_000);
    let (facts, envelope) = (facts(&body), envelope(&body, 3));
    world.warm_up();
    let slices = world.chunks(&body);
    let new = NewRecord { content: Content::Chunks(&slices), ..record(&envelope, 3, &facts) };
    let appended = world.log.append(&new).expect("room");
    assert!(appended.content.is_none());
    let order = world.log.seal().expect("a batch");
    assert!(order.parts.iter().any(|part| part.as_ptr() == slices[0].as_ptr()), "no copy");
}

#[test]
fn f_021_a_short_write_goes_on_at_the_right_offset() {
    let mut whole = World::new(Durability::Disk);
    let mut short = World::new(Durability::Disk);
    for world in [&mut whole, &mut short] {
        world.warm_up();
        for seed in 0..6 {
            world.append_patiently(&content(seed, 6000), 1);
        }
    }
    short.fates = vec![Fate::Short(4096), Fate::Short(5000), Fate::Short(9000)];
    whole.settle_down();
    short.settle_down();
    assert!(short.failures.is_empty());
    assert_eq!(short.durable, whole.durable);
    assert_eq!(short.disk.files, whole.disk.files);
}

#[test]
fn f_052_a_write_of_less_than_a_block_counts_for_nothing() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let appended = world.append_patiently(b"x", 1);
    world.fates = vec![Fate::Short(511)];
    world.write_one();
    assert_eq!(world.failures[0].in_doubt, Some(appended.ticket));
    assert!(world.durable < appended.ticket);
}

#[test]
fn p_011_no_octet_of_one_message_reaches_the_disk_in_the_padding_of_another() {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    // Memory that held a message is used again for what is written next.
    let secret = [b'S'; 20_000];
    for bytes in (1..secret.len()).step_by(97) {
        let appended = world.append_patiently(&secret[..bytes], 1);
        world.write_one();
        world.settle_patiently(appended.id, 0);
    }
    world.settle_down();
    let before = world.disk.ops.len();
    for bytes in (1..6000).step_by(83) {
        let appended = world.append_patiently(&vec![b'n'; bytes], 1);
        let chunks = world.chunks(&vec![b'n'; bytes * 5]);
        let (facts, envelope) = (facts(&vec![b'n'; bytes * 5]), envelope(&secret[..bytes], 1));
        let own = NewRecord { content: Content::Chunks(&chunks), ..record(&envelope, 1, &facts) };
        let own = world.log.append(&own);
        world.write_one();
        world.settle_patiently(appended.id, 0);
        if let Ok(own) = own {
            world.settle_patiently(own.id, 0);
        }
    }
    world.settle_down();
    let written: usize = world.disk.ops[before..].iter().map(|op| op.bytes.len()).sum();
    assert!(written > 1 << 20, "{written}");
    let leaks = |op: &&Op| op.bytes.windows(8).any(|octets| octets == [b'S'; 8]);
    assert_eq!(world.disk.ops[before..].iter().filter(leaks).count(), 0);
}
