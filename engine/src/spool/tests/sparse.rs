//! Out of segments in which little is live.

use super::disk::*;
use super::ledger::*;
use crate::spool::*;
use crate::wire::{Span, Tick};
use std::collections::BTreeSet;

/// Longer than what is live in a segment must have stayed.
const CALM: Span = Span::seconds(3);

impl World {
    /// Puts some of what the log wants rewritten elsewhere, as a shell does; octets of the records, when there were any.
    pub(super) fn rewrite(&mut self, now: Tick) -> Result<Option<u64>, Full> {
        self.supply();
        let Sparse::Records(ids) = self.log.sparse(now) else { return Ok(None) };
        let read = |id: &RecordId| {
            let plan = self.log.fetch(*id).expect("live");
            let (_, _, body) = fetch(&self.log, &self.disk, *id).expect("readable");
            let start = plan.first_read().at as usize;
            (plan, self.disk.files[&plan.first_read().file][start..].to_vec(), body)
        };
        let group: Vec<_> = ids.iter().map(read).collect();
        self.log.apart(|log| {
            let mut octets = 0;
            for (plan, file, body) in &group {
                let Fetched::Record(record) = plan.parse(file).expect("sound") else { panic!("all is there") };
                match log.relocate(&record, Content::Octets(&[body])) {
                    Ok(_) => octets += record.head.octets(),
                    Err(full) if octets == 0 => return Err(full),
                    Err(_) => break,
                }
            }
            Ok(Some(octets))
        })
    }

    /// Rewrites until there is nothing to be rewritten; octets moved.
    fn rewrite_all(&mut self, clock: &mut Tick) -> u64 {
        self.settle_down();
        let mut octets = 0;
        for _ in 0..2 {
            // Two looks: one that notes what is live, one that finds it unchanged.
            let _noted = self.log.sparse(*clock);
            *clock = *clock + CALM;
            while let Ok(Some(more)) = self.rewrite(*clock) {
                octets += more;
                self.settle_down();
            }
        }
        octets
    }

    /// These are delivered.
    fn leave(&mut self, ids: impl Iterator<Item = RecordId>) {
        ids.for_each(|id| {
            self.settle_patiently(id, 0);
        });
        self.settle_down();
    }

    fn written(&self) -> u64 {
        self.disk.ops.iter().map(|op| op.bytes.len() as u64).sum()
    }

    /// Messages of `bytes` octets worth so many segments, of which one in `stays` stays; those.
    fn pass(
        &mut self,
        segments: u64,
        bytes: usize,
        stays: u32,
        mut turn: impl FnMut(&mut Self),
    ) -> Vec<(RecordId, u32)> {
        let mut kept = Vec::new();
        for seed in 0..u32::try_from(segments * SEGMENT / bytes as u64).expect("few") {
            let id = self.append_patiently(&content(seed, bytes), 1).id;
            if seed % stays == 0 {
                kept.push((id, seed));
            } else {
                self.settle_patiently(id, 0);
            }
            if seed % 8 == 7 {
                self.settle_down();
                turn(self);
            }
        }
        self.settle_down();
        kept
    }
}

/// Everything that stays is known by its first name, and found by a start, once; nothing else is.
fn all_are_there(world: &World, kept: &[(RecordId, u32)], bytes: usize) {
    let live: BTreeSet<_> = kept.iter().map(|(id, _)| world.log.fetch(*id).expect("live").id()).collect();
    let found = recover(&world.disk, 1, Durability::Disk);
    assert!(found.unreadable.is_empty() && found.damage.is_empty());
    let mut contents: Vec<_> = found.live.iter().map(|live| live.content.clone()).collect();
    let mut expected: Vec<_> = kept.iter().map(|(_, seed)| content(*seed, bytes)).collect();
    contents.sort();
    expected.sort();
    assert!(contents == expected, "{} of {}", contents.len(), expected.len());
    assert_eq!(live, found.live.iter().map(|live| live.id).collect());
}

/// I-8: one message that nobody takes in each segment does not keep them all, nor is it moved again and again.
#[test]
fn p_013_a_message_that_stays_in_every_segment_keeps_none_of_them() {
    let (mut world, mut clock, mut moved) = (World::new(Durability::Disk), Tick(0), 0);
    let kept = world.pass(40, 4000, 64, |world| moved += world.rewrite_all(&mut clock));
    assert!(kept.len() >= 40, "{}", kept.len());
    let (files, rewritten) = (world.disk.files.len(), world.log.rewritten());
    println!("{files} files for 40 segments, {rewritten} rewritten, {moved} octets moved of {}", kept.len() * 4000);
    assert!(files <= 8, "{files} files");
    assert!(rewritten >= 30, "{rewritten}");
    assert!(moved <= kept.len() as u64 * 4500 * 5 / 4, "hardly anything is moved twice: {moved}");
    all_are_there(&world, &kept, 4000);
    world.leave(kept.iter().map(|(id, _)| *id));
    assert!(recover(&world.disk, 1, Durability::Disk).live.is_empty(), "by their first names they are all delivered");
}

/// A next hop that gets a sixth of all mail and takes none of it: what is written for each octet of mail.
#[test]
fn p_013_moving_what_stays_writes_less_than_new_segments_would() {
    let amplification = |rewrites: bool| {
        let (mut world, mut clock) = (World::new(Durability::Disk), Tick(0));
        world.files_max = usize::MAX;
        let kept = world.pass(60, 4000, 6, |world| {
            if rewrites {
                world.rewrite_all(&mut clock);
            }
        });
        all_are_there(&world, &kept, 4000);
        let zeroed = world.disk.files.len() as u64 * SEGMENT;
        ((world.written() + zeroed) as f64 / (60 * SEGMENT) as f64, world.disk.files.len())
    };
    let ((without, all), (with, few)) = (amplification(false), amplification(true));
    println!(
        "octets to the disk for each of mail: {without:.2} with {all} files, {with:.2} with {few} where sparse ones are rewritten"
    );
    assert!(few < all / 2 && with < without, "{with} in {few} files, {without} in {all}");
}

#[test]
fn p_013_what_leaves_by_itself_is_not_moved() {
    let (mut world, mut clock) = (World::new(Durability::Disk), Tick(0));
    let mut kept = world.pass(8, 1000, 10, |_| ());
    assert!(matches!(world.log.sparse(clock), Sparse::Later), "nobody knows yet what stays");
    while kept.len() > 64 {
        // More than an eighth of each segment leaves in every interval.
        let mut turn = 0;
        let leaving: Vec<_> = kept
            .extract_if(.., |_| {
                turn += 1;
                turn % 3 == 0
            })
            .collect();
        world.leave(leaving.into_iter().map(|(id, _)| id));
        clock = clock + CALM;
        let next = world.log.sparse(clock);
        assert!(!matches!(next, Sparse::Records(_)), "{next:?} with {} left", kept.len());
    }
}

/// Large bodies in pieces keep segments that their records do not stand in.
#[test]
fn p_013_a_body_in_pieces_leaves_every_segment_that_it_stands_in() {
    let (mut world, mut clock) = (World::new(Durability::Disk), Tick(0));
    world.warm_up();
    let body = content(7, 40_000);
    let mut extents = Extents::default();
    let mut numbers = BTreeSet::new();
    for (index, piece) in body.chunks(8192).enumerate() {
        let slices = world.chunks(piece);
        while let Err(full) = world.log.extent(&mut extents, &slices, piece.len() as u64) {
            assert_eq!(full, Full::Segment);
            assert!(world.write_one());
        }
        numbers.insert(world.log.current.expect("open"));
        if index == 2 {
            // The rest stands in another segment.
            while numbers.contains(&world.log.current.expect("open")) {
                let id = world.append_patiently(&content(1000, 20_000), 1).id;
                world.settle_patiently(id, 0);
            }
        }
        world.settle_down();
    }
    let facts = facts(&body);
    let envelope = envelope(&body, 1);
    let new = NewRecord { content: Content::Extents(&extents), ..record(&envelope, 1, &facts) };
    let id = world.log.append(&new).expect("room").id;
    numbers.insert(id.number());
    world.settle_down();
    assert!(numbers.len() > 1, "{numbers:?}");
    let others = world.pass(6, 4000, 64, |world| {
        world.rewrite_all(&mut clock);
    });
    world.rewrite_all(&mut clock);
    assert!(world.log.fetch(id).expect("live").id() != id, "it was moved");
    let (_, _, found) = fetch(&world.log, &world.disk, id).expect("readable");
    assert_eq!(found, body);
    let gone = |number: &SegmentNumber| {
        world.log.segments.get(number).is_none_or(|segment| segment.state == crate::spool::segment::State::Free)
    };
    assert!(numbers.iter().all(gone), "nothing keeps them");
    assert_eq!(recover(&world.disk, 1, Durability::Disk).live.len(), others.len() + 1);
}

/// F-027: a write fails in the segment for moved mail. Nothing that was moved there is lost, what was on its way stays.
#[test]
fn f_027_a_write_that_fails_among_moved_mail_loses_none_and_refuses_nobody() {
    let (mut world, mut clock) = (World::new(Durability::Disk), Tick(0));
    let kept = world.pass(8, 4000, 40, |_| ());
    let _noted = world.log.sparse(clock);
    clock = clock + CALM;
    let mut failed = 0;
    for round in 0_u32..40 {
        let new = world.append_patiently(&content(50_000 + round, 3000), 1);
        let moves = matches!(world.rewrite(clock), Ok(Some(_)));
        let newer = world.append_patiently(&content(60_000 + round, 3000), 1);
        if moves && round % 3 == 1 {
            // What was open before, then what moved.
            world.fates = vec![Fate::Good, Fate::Fails(4096)];
        }
        world.settle_down();
        world.fates.clear();
        for failure in std::mem::take(&mut world.failures) {
            failed += 1;
            assert!(!failure.holds(new.ticket) && !failure.holds(newer.ticket), "{failure:?}");
        }
        while let Some(id) = world.log.relocation() {
            world.relocate(id).expect("room");
            world.settle_down();
        }
        world.settle_patiently(new.id, 0);
        world.settle_patiently(newer.id, 0);
        world.settle_down();
    }
    assert!(failed > 0);
    let found = recover(&world.disk, 1, Durability::Disk);
    let mut contents: Vec<_> = found.live.iter().map(|live| live.content.clone()).collect();
    let mut expected: Vec<_> = kept.iter().map(|(_, seed)| content(*seed, 4000)).collect();
    contents.sort();
    expected.sort();
    assert!(contents == expected, "{} of {}", contents.len(), expected.len());
}
