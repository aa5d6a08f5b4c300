//! What the disk does to segments at rest.

use super::disk::*;
use super::ledger::*;
use crate::spool::*;

/// A world with messages in several batches of one open segment.
fn world(messages: u32) -> (World, Vec<(RecordId, Vec<u8>)>) {
    let mut world = World::new(Durability::Disk);
    world.warm_up();
    let mut kept = Vec::new();
    for seed in 0..messages {
        let body = content(seed, 3000);
        let id = world.append_patiently(&body, 1).id;
        kept.push((id, body));
        world.settle_down();
    }
    (world, kept)
}

fn flip(world: &mut World, id: RecordId, offset: u64) {
    let file = FileId(1);
    assert_eq!(id.number(), SegmentNumber::new(1).expect("valid"), "the first segment is file 1");
    let at = usize::try_from(id.offset() + offset).expect("small");
    world.disk.files.get_mut(&file).expect("there")[at] ^= 4;
}

#[test]
fn f_016_a_rotten_body_is_set_aside_by_name_and_the_rest_is_read() {
    let (mut world, kept) = world(6);
    flip(&mut world, kept[2].0, 1000);
    let found = recover(&world.disk, 1, Durability::Disk);
    assert_eq!(found.live.len(), 5);
    let [damage] = found.damage[..] else { panic!("{:?}", found.damage) };
    assert_eq!((damage.record, damage.cause, damage.offset), (Some(kept[2].0), Cause::Rot, kept[2].0.offset()));
    assert!(damage.bytes > 3000 && damage.bytes < 3400);
}

/// Content in blocks of its own is named with its record: who puts the damage aside has both.
#[test]
fn f_016_rotten_content_that_stands_apart_is_named_with_its_record() {
    let (mut world, _) = world(3);
    let body = content(9, 9000);
    let (facts, envelope) = (facts(&body), envelope(&body, 1));
    let slices = world.chunks(&body);
    let new = NewRecord { content: Content::Chunks(&slices), ..record(&envelope, 1, &facts) };
    let mail = world.log.append(&new).expect("room");
    world.settle_down();
    world.append_patiently(b"behind it", 1);
    world.settle_down();
    let file = world.disk.files.get_mut(&FileId(1)).expect("there");
    let at = memchr::memmem::find(file, &body).expect("it is there");
    file[at + 5000] ^= 4;
    let found = recover(&world.disk, 1, Durability::Disk);
    let [damage] = found.damage[..] else { panic!("{:?}", found.damage) };
    assert_eq!((damage.record, damage.offset), (Some(mail.id), mail.id.offset()));
    assert_eq!(damage.content, Some((at as u64, 9000)));
}

#[test]
fn f_014_f_016_damage_is_found_again_until_it_was_put_aside_and_never_after() {
    for (aside, damage_then) in [(false, 1), (true, 0)] {
        let (mut world, kept) = world(6);
        flip(&mut world, kept[2].0, 1000);
        let mut found = if aside { recover_aside } else { recover }(&world.disk, 1, Durability::Disk);
        assert_eq!(found.damage.len(), 1);
        let mut next = World::with(found.logs.remove(0), found.pool, world.disk);
        next.secrets = 100;
        next.settle_down();
        let found = recover(&next.disk, 1, Durability::Disk);
        assert_eq!((found.damage.len(), found.live.len()), (damage_then, 5), "put aside: {aside}");
        // What nobody needs any more is given back, unless something stands there that was not put aside.
        for (id, _) in kept.iter().filter(|(id, _)| *id != kept[2].0) {
            next.settle_patiently(*id, 0);
        }
        next.settle_down();
        assert_eq!(next.log.surplus(0) == Some(FileId(1)), aside, "put aside: {aside}");
    }
}

#[test]
fn f_014_a_rotten_last_batch_may_have_been_acknowledged_and_is_kept_aside() {
    let (mut world, kept) = world(6);
    flip(&mut world, kept[5].0, 1000);
    let found = recover(&world.disk, 1, Durability::Disk);
    assert_eq!(found.live.len(), 5);
    assert_eq!(found.damage.len(), 1);
    assert_eq!((found.damage[0].record, found.damage[0].cause), (Some(kept[5].0), Cause::Torn));
}

#[test]
fn f_017_a_rotten_batch_header_costs_its_batch_and_no_other() {
    for octet in [0, 5, 8, 17, 25, 49, 52, 57, 73] {
        let (mut world, kept) = world(6);
        let batch = kept[2].0.offset() & !4095;
        let file = world.disk.files.get_mut(&FileId(1)).expect("there");
        file[usize::try_from(batch).expect("small") + octet] ^= 0x80;
        let found = recover(&world.disk, 1, Durability::Disk);
        assert_eq!(found.live.len(), 5, "octet {octet}");
        let [damage] = found.damage[..] else { panic!("octet {octet}: {:?}", found.damage) };
        assert_eq!((damage.offset, damage.cause), (batch, Cause::Rot), "octet {octet}");
    }
}

#[test]
fn f_019_a_misdirected_block_is_no_batch_where_it_lands() {
    let (mut world, kept) = world(8);
    let file = world.disk.files.get_mut(&FileId(1)).expect("there");
    let (from, to) = ((kept[1].0.offset() & !4095) as usize, (kept[4].0.offset() & !4095) as usize);
    file.copy_within(from..from + 4096, to);
    let found = recover(&world.disk, 1, Durability::Disk);
    let ids: Vec<_> = found.live.iter().map(|live| live.id).collect();
    assert_eq!(ids.len(), 7);
    assert!(!ids.contains(&kept[4].0));
    assert!(found.damage.iter().any(|damage| damage.offset == to as u64 && damage.cause == Cause::Rot));
}

#[test]
fn f_020_a_stale_sector_of_the_life_before_is_not_read_as_new() {
    // Two lives of the same file; the second one's tail is the first one's batches, whole and well-formed.
    let mut world = World::new(Durability::Disk);
    for seed in 0..400 {
        let appended = world.append_patiently(&content(seed, 3000), 1);
        world.write_one();
        world.settle_patiently(appended.id, 0);
    }
    world.settle_down();
    let lives = world.disk.ops.iter().filter(|op| op.at == 0).count();
    assert!(lives > world.disk.files.len(), "files were recycled");
    let found = recover(&world.disk, 1, Durability::Disk);
    assert!(found.live.is_empty());
    assert!(found.damage.is_empty(), "{:?}", found.damage);
}

#[test]
fn f_020_a_mail_that_is_a_copy_of_a_segment_is_only_a_mail() {
    let (world, _) = world(6);
    let image = world.disk.files[&FileId(1)][..120 << 10].to_vec();
    // Sent into the same segment, in its own blocks so that its headers are block-aligned there, and its batch's header
    // rots, so that reading looks for the next header inside the content.
    let (mut world, kept) = self::world(6);
    let (facts, envelope) = (facts(&image), envelope(&image, 1));
    let slices = world.chunks(&image);
    let new = NewRecord { content: Content::Chunks(&slices), ..record(&envelope, 1, &facts) };
    let mail = world.log.append(&new).expect("room");
    world.settle_down();
    assert_eq!(mail.id.number().get(), 1);
    let last = world.append_patiently(b"behind it", 1);
    world.settle_down();
    assert_eq!(recover(&world.disk, 1, Durability::Disk).live.len(), 8);
    let batch = (mail.id.offset() & !4095) as usize;
    world.disk.files.get_mut(&FileId(1)).expect("there")[batch + 20] ^= 1;
    let found = recover(&world.disk, 1, Durability::Disk);
    let ids: Vec<_> = found.live.iter().map(|live| live.id).collect();
    let expected: Vec<_> = kept.iter().map(|(id, _)| *id).chain([last.id]).collect();
    assert_eq!(ids, expected);
    assert_eq!(found.damage.len(), 1);
}

#[test]
fn f_016_one_rotten_head_of_a_segment_is_survived_and_two_set_the_file_aside() {
    let (mut world, kept) = world(3);
    world.disk.files.get_mut(&FileId(1)).expect("there")[20] ^= 1;
    assert_eq!(recover(&world.disk, 1, Durability::Disk).live.len(), kept.len());
    let file = world.disk.files.get_mut(&FileId(1)).expect("there");
    let last = file.len() - 4096;
    file[last + 20] ^= 1;
    let found = recover(&world.disk, 1, Durability::Disk);
    assert!(found.live.is_empty());
    assert_eq!((found.damage.len(), found.damage[0].bytes), (1, SEGMENT));
}

#[test]
fn f_032_f_036_a_newer_format_is_refused_by_name() {
    let (mut world, _) = world(1);
    let file = world.disk.files.get_mut(&FileId(1)).expect("there");
    let last = file.len() - 4096;
    (file[8], file[last + 8]) = (9, 9);
    let refused = scan(&world.disk, FileId(1)).expect_err("newer");
    assert_eq!(refused, Refused::Newer { file: FileId(1), version: 9 });
    assert!(refused.to_string().contains("format version 9"), "{refused}");
}

#[test]
fn f_016_a_rotten_footer_costs_time_and_nothing_else() {
    let mut world = World::new(Durability::Disk);
    let mut kept = Vec::new();
    for seed in 0..120 {
        kept.push(world.append_patiently(&content(seed, 3000), 1).id);
        world.write_one();
    }
    world.settle_down();
    let Scanned::Segment(scanned) = scan(&world.disk, FileId(1)).expect("read") else { panic!("a segment") };
    assert!(scanned.is_closed());
    let before = recover(&world.disk, 1, Durability::Disk);
    assert!(before.damage.is_empty());
    let at = scanned.trailer.expect("closed").at as usize;
    for octet in [at, at + 9, SEGMENT as usize - 2 * 4096 + 33] {
        let mut disk = world.disk.clone();
        disk.files.get_mut(&FileId(1)).expect("there")[octet] ^= 0x10;
        let found = recover(&disk, 1, Durability::Disk);
        assert_eq!(found.live, before.live);
        assert!(!found.damage.is_empty(), "it is reported");
    }
}

#[test]
fn f_028_an_unreadable_block_costs_what_stands_in_it() {
    let (world, kept) = world(6);
    let bad = kept[3].0.offset() & !4095;
    let scanned = scan_without(&world.disk, FileId(1), &[(FileId(1), bad)]);
    let Scanned::Segment(scanned) = scanned.expect("read") else { panic!("a segment") };
    assert_eq!(scanned.live_count(), 5);
    assert_eq!(scanned.damage.len(), 1);
    assert_eq!((scanned.damage[0].offset, scanned.damage[0].cause), (bad, Cause::Rot));
}

#[test]
fn f_017_s_034_flipped_bits_anywhere_never_panic_and_never_change_a_message() {
    let (world, kept) = world(5);
    let used = world.disk.ops.iter().filter(|op| op.file == FileId(1) && op.at > 0 && op.at < SEGMENT - 4096);
    let end = used.map(|op| op.at + op.bytes.len() as u64).max().expect("written") as usize;
    let mut disk = world.disk.clone();
    let step = 13;
    for bit in (0..end * 8).step_by(step) {
        let file = disk.files.get_mut(&FileId(1)).expect("there");
        file[bit / 8] ^= 1 << (bit % 8);
        let found = recover(&disk, 1, Durability::Disk);
        for live in &found.live {
            assert!(kept.iter().any(|(id, body)| *id == live.id && *body == live.content), "bit {bit}");
        }
        // One bit costs one message at most, or it costs nothing.
        assert!(found.live.len() + 1 >= kept.len(), "bit {bit}: {} left", found.live.len());
        disk.files.get_mut(&FileId(1)).expect("there")[bit / 8] ^= 1 << (bit % 8);
    }
}

/// The file of a segment ends early, wherever: what stands in whole batches before that is there, what is behind it is
/// reported, and the log goes on without a write to it.
#[test]
fn f_016_a_file_that_was_cut_short_keeps_what_stands_before_the_cut() {
    let (world, kept) = world(12);
    let whole = &world.disk.files[&FileId(1)];
    let ends: Vec<u64> = world
        .disk
        .ops
        .iter()
        .filter(|op| op.file == FileId(1) && op.at > 0 && op.at < SEGMENT - 4096)
        .map(|op| op.at + op.bytes.len() as u64)
        .collect();
    for cut in (4096..whole.len()).step_by(4096).flat_map(|cut| [cut, cut + 100]) {
        let mut disk = world.disk.clone();
        disk.files.get_mut(&FileId(1)).expect("there").truncate(cut);
        let mut found = recover_aside(&disk, 1, Durability::Disk);
        let before = |id: RecordId| {
            let end = ends.iter().filter(|end| **end > id.offset()).min().expect("each stands in a batch");
            *end <= cut as u64
        };
        let expected: Vec<_> = kept.iter().filter(|(id, _)| before(*id)).collect();
        let ids: Vec<_> = found.live.iter().map(|live| live.id).collect();
        assert_eq!(ids, expected.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "cut at {cut}");
        assert!(found.live.iter().zip(expected).all(|(live, (_, body))| live.content == *body), "cut at {cut}");
        assert!(found.damage.iter().any(|damage| damage.file == FileId(1)), "cut at {cut}: it is reported");
        let mut next = World::with(found.logs.remove(0), found.pool, disk);
        next.secrets = 100;
        next.append_patiently(b"goes on", 1);
        next.settle_down();
        assert_eq!(next.disk.files[&FileId(1)].len(), cut, "nothing is written to it");
        for id in ids {
            next.settle_patiently(id, 0);
        }
        next.settle_down();
        assert_eq!(next.log.surplus(0), None, "cut at {cut}: it is not used again");
        assert_eq!(recover(&next.disk, 1, Durability::Disk).live.len(), 1, "cut at {cut}");
    }
}

/// The footer stands before the cut: only the copied head is gone.
#[test]
fn f_016_a_closed_segment_without_its_copied_head_is_read_by_its_footer() {
    let mut world = World::new(Durability::Disk);
    for seed in 0..120 {
        world.append_patiently(&content(seed, 3000), 1);
        world.write_one();
    }
    world.settle_down();
    let before = recover(&world.disk, 1, Durability::Disk);
    world.disk.files.get_mut(&FileId(1)).expect("there").truncate(SEGMENT as usize - 4096);
    let found = recover(&world.disk, 1, Durability::Disk);
    assert_eq!((found.live, found.damage.len()), (before.live, 0));
}

/// Two faults at once: the first head is rotten, and the last reads as if it had never been written.
#[test]
fn f_014_f_016_mail_between_two_lost_heads_is_set_aside_and_a_torn_beginning_is_not() {
    let (mut world, _) = world(3);
    let file = world.disk.files.get_mut(&FileId(1)).expect("there");
    file[24] ^= 4;
    let last = file.len() - BLOCK;
    file[last..].fill(0);
    let whole = file.len() as u64;
    for is_zeroed in [false, true] {
        let found = recover(&world.disk, 1, Durability::Disk);
        let [damage] = found.damage[..] else { panic!("{:?}", found.damage) };
        assert_eq!((damage.file, damage.offset, damage.bytes), (FileId(1), 0, whole), "zeroed: {is_zeroed}");
        world.disk.files.get_mut(&FileId(1)).expect("there")[..BLOCK].fill(0);
    }

    world.disk.files.get_mut(&FileId(1)).expect("there")[BLOCK..].fill(0);
    let found = recover(&world.disk, 1, Durability::Disk);
    assert_eq!((found.damage.len(), found.live.len()), (0, 0), "preparing never ended");
}
