//! A random day on the log; then the power fails at every write of it, the last one torn in many ways.

use super::disk::*;
use super::ledger::*;
use crate::spool::segment::State;
use crate::spool::*;
use crate::wire::{Span, Tick};

/// A small generator, so that a seed is a story.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }
}

/// How many seeds a test runs: `base`, times what RINGPOST_TEST_ROUNDS says.
fn seeds(base: u64) -> std::ops::RangeInclusive<u64> {
    let times = std::env::var("RINGPOST_TEST_ROUNDS").ok().and_then(|text| text.parse().ok());
    1..=base * times.unwrap_or(1)
}

struct Day {
    world: World,
    ledger: Ledger,
    dice: Dice,
    next_content: u32,
    /// Of ten turns, so many settle.
    settling: usize,
    /// The time, when sparse segments are rewritten.
    clock: Option<Tick>,
}

impl Day {
    fn new(seed: u64, durability: Durability) -> Self {
        Self::with(World::new(durability), seed)
    }

    fn with(world: World, seed: u64) -> Self {
        let dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        // From a growing backlog to one that is nearly empty all day.
        let settling = 3 + seed as usize % 4;
        Self { world, ledger: Ledger::default(), dice, next_content: seed as u32 * 100_000, settling, clock: None }
    }

    /// A write begins or ends, noted: what happens between the two happens while it is in flight.
    fn write(&mut self) -> bool {
        if self.world.flight.is_none() && !self.world.start_write() {
            return false;
        }
        if self.dice.roll(3) > 0 {
            self.finish();
        }
        true
    }

    fn finish(&mut self) {
        let (failures, durable) = (self.world.failures.len(), self.world.durable);
        self.world.finish_write();
        let ops = self.world.disk.ops.len();
        if self.world.durable > durable {
            self.ledger.durable.insert(self.world.durable, ops);
        }
        let settled_upto = self.world.log.settled_upto();
        let before = self.ledger.settled.insert(ops, settled_upto);
        assert!(before <= Some(settled_upto), "what was durable stays so");
        for failure in &self.world.failures[failures..] {
            if let Some(ticket) = failure.in_doubt {
                self.ledger.failed.insert(ticket, failure.cancelled_by);
            }
            for ticket in failure.unwritten.clone().into_iter().flatten() {
                self.ledger.failed.insert(Ticket(ticket), None);
            }
        }
    }

    fn message(&mut self) {
        let sizes = [1, 300, 4096, 9000, 30_000];
        let bytes = 4 + sizes[self.dice.roll(sizes.len())];
        let recipients = [1, 1, 1, 2, 70][self.dice.roll(5)];
        self.next_content += 1;
        let body = content(self.next_content, bytes);
        let facts = facts(&body);
        let envelope = envelope(&body, recipients);
        for _ in 0..40 {
            self.world.supply();
            let new = record(&envelope, recipients, &facts);
            let appended = match self.dice.roll(6) {
                0 => {
                    let slices = self.world.chunks(&body);
                    self.world.log.append(&NewRecord { content: Content::Chunks(&slices), ..new })
                }
                1 => self.in_extents(&body, &new),
                _ => self.world.log.append(&NewRecord { content: Content::Octets(&[&body]), ..new }),
            };
            match appended {
                Ok(appended) => {
                    let ops = self.world.disk.ops.len();
                    return self.ledger.note(&body, recipients, &appended, ops);
                }
                Err(Full::Lost) => return,
                Err(_) => self.write(),
            };
        }
    }

    /// Writes the body piece by piece; now and then it is abandoned, and sent again.
    fn in_extents(&mut self, body: &[u8], new: &NewRecord<'_>) -> Result<Appended, Full> {
        let mut extents = Extents::default();
        for piece in body.chunks(8192) {
            let slices = self.world.chunks(piece);
            while let Err(full) = self.world.log.extent(&mut extents, &slices, piece.len() as u64) {
                if full != Full::Segment || !self.write() {
                    self.world.log.abandon(extents);
                    return Err(full);
                }
            }
            if self.dice.roll(3) == 0 {
                self.write();
            }
        }
        let result = self.world.log.append(&NewRecord { content: Content::Extents(&extents), ..*new });
        if result.is_err() {
            self.world.log.abandon(extents);
        }
        result
    }

    fn settle(&mut self) {
        let durable =
            |entry: &Entry| entry.ticket <= self.world.durable && !self.ledger.failed.contains_key(&entry.ticket);
        let open = |entry: &&Entry| entry.settles.len() < usize::from(entry.recipients) && durable(entry);
        // Where sparse segments are rewritten some mail stays.
        let stays = |crc: u32| self.clock.is_some() && crc.is_multiple_of(8);
        let candidates: Vec<_> = self
            .ledger
            .entries
            .iter()
            .filter(|&(&crc, entry)| open(&entry) && !stays(crc))
            .map(|(&crc, _)| crc)
            .collect();
        if candidates.is_empty() {
            return;
        }
        let crc = candidates[self.dice.roll(candidates.len())];
        let (id, recipients) = (self.ledger.entries[&crc].id, self.ledger.entries[&crc].recipients);
        if recipients == 1 && self.dice.roll(4) == 0 {
            return self.fail_for_good(crc, id);
        }
        let whole = self.dice.roll(3) > 0;
        let some = self.dice.roll(usize::from(recipients)) as u16;
        for recipient in (0..recipients).filter(|&recipient| whole || recipient == some) {
            loop {
                match self.world.log.settle(id, recipient, Outcome::Delivered) {
                    Ok(ticket) => {
                        let at = self.world.disk.ops.len();
                        let entry = self.ledger.entries.get_mut(&crc).expect("known");
                        entry.settles.entry(recipient).or_insert((ticket, at));
                        break;
                    }
                    Err(_) => assert!(self.write(), "settles always find their way here"),
                }
            }
        }
    }

    /// The recipient fails, and a report is owed: both or nothing.
    fn fail_for_good(&mut self, crc: u32, id: RecordId) {
        self.next_content += 1;
        let body = content(self.next_content, 600);
        let (facts, envelope) = (facts(&body), envelope(&body, 1));
        let settle = Settle { id, recipient: 0, outcome: Outcome::Failed };
        let new = NewRecord {
            kind: RecordKind::Owed,
            content: Content::Octets(&[&body]),
            settles: &[settle],
            ..record(&envelope, 1, &facts)
        };
        if let Ok(appended) = self.world.log.append(&new) {
            let at = self.world.disk.ops.len();
            self.ledger.note(&body, 1, &appended, at);
            let entry = self.ledger.entries.get_mut(&crc).expect("known");
            entry.settles.insert(0, (appended.ticket, at));
            entry.owed.insert(0, crc_fast::crc32_iscsi(&body));
        }
    }

    fn live(&mut self, turns: usize) {
        for _ in 0..turns {
            self.rewrite();
            match self.dice.roll(10) {
                turn if turn < self.settling => self.settle(),
                turn if turn < self.settling + 2 => self.message(),
                _ => {
                    self.write();
                }
            }
        }
    }
}

impl Day {
    /// Now and then what is sparse is moved, while whatever else is under way.
    fn rewrite(&mut self) {
        let Some(clock) = self.clock.filter(|_| self.dice.roll(3) == 0) else { return };
        self.clock = Some(clock + Span::seconds(3));
        let _full = self.world.rewrite(clock);
    }
}

/// K17: the power fails at every write of days on which sparse segments are rewritten, with and without failed writes.
#[test]
fn f_008_f_027_every_cut_while_sparse_segments_are_rewritten_keeps_the_ledger() {
    let mut rewritten = 0;
    for seed in seeds(3) {
        let mut day = Day::new(seed + 600, Durability::Disk);
        day.clock = Some(Tick(0));
        day.settling = 5;
        day.live(1200);
        rewritten += day.world.log.rewritten();
        cut_everywhere(&mut day, Durability::Disk, 1);
    }
    for seed in seeds(4) {
        let mut day = Day::new(seed + 700, Durability::Disk);
        day.clock = Some(Tick(0));
        day.settling = 5;
        for _ in 0..5 {
            let turns = 160 + day.dice.roll(100);
            day.live(turns);
            let (good, octets) = (day.dice.roll(3), day.dice.roll(40_000));
            day.world.fates = vec![Fate::Good; good];
            day.world.fates.push(Fate::Fails(octets));
        }
        day.live(60);
        day.relocate();
        day.live(60);
        rewritten += day.world.log.rewritten();
        cut_everywhere_in_failures(&mut day);
    }
    println!("{rewritten} segments rewritten");
    assert!(rewritten > 20, "{rewritten}");
}

/// The disk after write `ops` tore: each sector of `sector` octets of it is there or not.
fn torn(disk: &Disk, op: &Op, sector: usize, dice: &mut Dice) -> Disk {
    let mut disk = disk.clone();
    for (index, bytes) in op.bytes.chunks(sector).enumerate() {
        if dice.roll(2) == 0 {
            let at = op.at + (index * sector) as u64;
            disk.write(&Op { at, bytes: bytes.to_vec(), ..op.clone() });
        }
    }
    disk
}

fn blank_disk(of: &Disk) -> Disk {
    let files = of.files.iter().map(|(&file, bytes)| (file, vec![0; bytes.len()])).collect();
    Disk { files, ops: Vec::new() }
}

/// Cuts the day's writes at every place, and judges.
fn cut_everywhere(day: &mut Day, durability: Durability, tears: usize) {
    let ops = std::mem::take(&mut day.world.disk.ops);
    let mut disk = blank_disk(&day.world.start);
    for (cut, op) in ops.iter().enumerate() {
        let found = recover(&disk, 1 + cut % 3, durability);
        assert!(found.unreadable.is_empty(), "cut {cut}: {:?}", found.unreadable);
        assert!(found.damage.is_empty(), "cut {cut}: whole writes leave no damage: {:?}", found.damage);
        day.ledger.judge(&found, cut, &format!("cut {cut}"));
        for tear in 0..tears {
            let sector = if tear % 2 == 0 { 512 } else { 4096 };
            let torn = torn(&disk, op, sector, &mut day.dice);
            let found = recover(&torn, 1, durability);
            assert!(found.damage.iter().all(|damage| damage.cause == Cause::Torn), "cut {cut}: {:?}", found.damage);
            day.ledger.judge(&found, cut, &format!("cut {cut}, torn at {sector}"));
        }
        disk.write(op);
    }
}

#[test]
fn f_002_f_013_f_014_f_015_every_cut_and_tear_keeps_the_ledger() {
    for seed in seeds(6) {
        let mut day = Day::new(seed, Durability::Disk);
        day.live(350);
        assert!(day.world.failures.is_empty());
        cut_everywhere(&mut day, Durability::Disk, 2);
    }
}

#[test]
fn f_008_f_012_recovery_of_a_recovery_keeps_the_ledger() {
    // K18, and a restart loop: each life ends in the middle of a write, also of the first writes after a recovery.
    for seed in seeds(4) {
        let mut day = Day::new(seed + 100, Durability::Disk);
        for life in 0..8 {
            let turns = day.dice.roll(120);
            day.live(turns);
            let cut = day.world.disk.ops.len() - day.dice.roll(4).min(day.world.disk.ops.len());
            let ops = std::mem::take(&mut day.world.disk.ops);
            let mut disk = day.world.start.clone();
            ops[..cut].iter().for_each(|op| disk.write(op));
            if let Some(op) = ops.get(cut) {
                disk = torn(&disk, op, 512, &mut day.dice);
            }
            let found = recover_aside(&disk, 1, Durability::Disk);
            day.ledger.judge(&found, cut, &format!("seed {seed} life {life}"));
            // Reading changes nothing: again, the same.
            let again = recover(&disk, 1, Durability::Disk);
            assert_eq!(found.live, again.live);
            day.start_again(found, disk);
        }
    }
}

impl Day {
    /// The next life, with a ledger of what is there.
    fn start_again(&mut self, mut found: Found, disk: Disk) {
        let log = found.logs.remove(0);
        let mut world = World::with(log, found.pool, disk);
        world.secrets = self.world.secrets;
        let mut ledger = Ledger::default();
        for live in found.live {
            let recipients = self.ledger.entries[&crc_fast::crc32_iscsi(&live.content)].recipients;
            let settled = (0..recipients).filter(|recipient| !live.unsettled.contains(recipient));
            let entry = Entry {
                recipients,
                id: live.id,
                ticket: Ticket(0),
                appended_at: 0,
                settles: settled.map(|recipient| (recipient, (Ticket(0), 0))).collect(),
                owed: Default::default(),
                content: live.content,
            };
            ledger.entries.insert(crc_fast::crc32_iscsi(&entry.content), entry);
        }
        self.world = world;
        self.ledger = ledger;
    }
}

#[test]
fn f_013_without_syncs_losses_are_reported_and_nothing_is_half() {
    for durability in [Durability::Os, Durability::None] {
        for seed in seeds(6) {
            let mut day = Day::new(seed + 200, durability);
            day.live(250);
            let ops = std::mem::take(&mut day.world.disk.ops);
            for round in 0..12 {
                // Nothing was ever synced, so any sectors of any writes may be there, in any order.
                let mut disk = blank_disk(&day.world.disk);
                let cut = day.dice.roll(ops.len()) + 1;
                let mostly = 1 + day.dice.roll(40);
                for op in &ops[..cut] {
                    for (index, bytes) in op.bytes.chunks(4096).enumerate() {
                        if op.at == 0 || day.dice.roll(mostly) != 0 {
                            disk.write(&Op { at: op.at + index as u64 * 4096, bytes: bytes.to_vec(), ..op.clone() });
                        }
                    }
                }
                let found = recover(&disk, 1, durability);
                let known = |live: &Live| {
                    let entry = day.ledger.entries.get(&crc_fast::crc32_iscsi(&live.content));
                    entry.is_some_and(|entry| live.envelope == envelope(&entry.content, entry.recipients))
                };
                assert!(found.live.iter().all(known), "round {round}: half a message");
                assert!(found.damage.iter().all(|damage| damage.cause == Cause::Torn), "nothing was known synced");
                assert_eq!(found.unclean, Some(durability));
            }
        }
    }
}

#[test]
fn f_004_f_006_f_007_a_killed_process_in_any_mode_finds_what_it_wrote() {
    for durability in [Durability::None, Durability::Os, Durability::Disk] {
        let mut day = Day::new(300 + durability as u64, durability);
        day.live(300);
        cut_everywhere(&mut day, durability, 0);
    }
}

#[test]
fn f_026_f_027_failed_writes_lose_nothing_that_was_acknowledged() {
    for seed in seeds(6) {
        let mut day = Day::new(seed + 400, Durability::Disk);
        for _ in 0..5 {
            let turns = 20 + day.dice.roll(100);
            day.live(turns);
            let octets = day.dice.roll(40_000);
            day.world.fates =
                vec![if day.dice.roll(2) == 0 { Fate::Fails(octets) } else { Fate::Short(octets % 4096) }];
        }
        day.live(60);
        day.relocate();
        day.live(60);
        assert!(!day.world.failures.is_empty());
        cut_everywhere_in_failures(&mut day);
    }
}

/// As `cut_everywhere`, where writes may have failed half-way: what they left is no surprise, and damage neither.
fn cut_everywhere_in_failures(day: &mut Day) {
    let ops = std::mem::take(&mut day.world.disk.ops);
    let mut disk = blank_disk(&day.world.start);
    for (cut, op) in ops.iter().enumerate() {
        let found = recover(&disk, 1, Durability::Disk);
        assert!(found.unreadable.is_empty(), "cut {cut}: {:?}", found.unreadable);
        day.ledger.judge(&found, cut, &format!("cut {cut}"));
        disk.write(op);
    }
    let found = recover(&disk, 1, Durability::Disk);
    day.ledger.judge(&found, ops.len(), "the end");
}

impl Day {
    /// Moves everything out of poisoned segments, as a shell does.
    fn relocate(&mut self) {
        for _ in 0..10_000 {
            let Some(id) = self.world.log.relocation() else {
                if !self.write() {
                    return;
                }
                continue;
            };
            if self.world.relocate(id).is_err() {
                self.write();
            }
        }
        panic!("relocation does not end");
    }
}

#[test]
fn f_027_a_poisoned_segment_is_emptied_and_its_file_given_up() {
    let mut day = Day::new(500, Durability::Disk);
    day.live(60);
    while day.write() {}
    day.world.fates = vec![Fate::Good, Fate::Fails(4096)];
    day.live(40);
    while day.write() {}
    let file = day.world.failures[0].file;
    day.relocate();
    while day.write() {}
    assert_eq!(day.world.log.discard(), Some(file));
    day.world.disk.files.remove(&file);
    day.world.log.removed(file);
    assert_eq!(day.world.log.discard(), None);
    let found = recover(&day.world.disk, 1, Durability::Disk);
    assert!(found.unreadable.is_empty());
    day.ledger.judge(&found, usize::MAX, "without the bad file");
}

impl Day {
    /// Nothing more happens. Writes go on as a shell has them go on: for who waits, for outcomes that are due, and else only
    /// for as long as the log says that something is urgent.
    fn quiet(&mut self) {
        let (mut raised, mut due) = (true, true);
        for _ in 0..10_000 {
            let given = self.world.secrets;
            self.world.supply();
            raised |= self.world.secrets != given;
            if let Some(file) = self.world.log.discard() {
                self.world.disk.files.remove(&file);
                self.world.log.removed(file);
                raised = true;
            } else if let Some(id) = self.world.log.relocation() {
                let _full = self.world.relocate(id);
                raised = true;
            }
            if !std::mem::take(&mut raised) {
                return;
            }
            let durable = self.world.durable;
            let began = self.world.flight.is_some();
            let writes = began || self.world.start_write();
            if writes {
                self.finish();
            }
            // A batch takes all the outcomes that there were when it began.
            due &= began || self.world.durable == durable;
            let waits =
                |entry: &Entry| entry.ticket > self.world.durable && !self.ledger.failed.contains_key(&entry.ticket);
            raised = self.world.log.is_urgent()
                || writes && (due && self.world.log.pending() || self.ledger.entries.values().any(waits));
        }
        panic!("it never becomes quiet");
    }
}

#[test]
fn f_027_no_bad_segment_waits_for_somebody_else_to_write() {
    for seed in seeds(400) {
        let mut day = Day::new(seed + 1000, Durability::Disk);
        let turns = 20 + day.dice.roll(150);
        day.live(turns);
        let octets = day.dice.roll(40_000);
        let good = day.dice.roll(4);
        day.world.fates = vec![Fate::Good; good];
        day.world.fates.push(Fate::Fails(octets));
        let turns = day.dice.roll(30);
        day.live(turns);
        day.quiet();
        let bad: Vec<_> = day
            .world
            .log
            .segments
            .values()
            .filter(|segment| matches!(segment.state, State::Poisoned | State::Bad))
            .collect();
        assert!(bad.is_empty(), "seed {seed}: nobody gives them up: {bad:?}");
        assert!(!day.world.log.pending(), "seed {seed}: something is left to be written");
    }
}
