//! From segments that were read to logs that go on: settles first, wherever they stand, then every segment to one shard.

use super::BLOCK;
use super::Durability;
use super::batch::{Item, Items, Outcome};
use super::footer::{self, Trailer};
use super::ids::{FileId, RecordId, Seed, SegmentNumber};
use super::log::Log;
use super::record::{RecordError, RecordHead, RecordRef};
use super::scan::{Damage, Read, Scanned, ScannedSegment};
use super::segment::{Segment, State};
use super::write::Chore;
use crate::planted;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Gathers what was read of each file.
#[derive(Debug, Default)]
pub struct Recovery {
    segments: BTreeMap<SegmentNumber, ScannedSegment>,
    blank: Vec<FileId>,
    damage: Vec<Damage>,
    number_max: u64,
}

/// What recovery found, all files read.
#[derive(Debug)]
pub struct Recovered {
    /// One for each shard, in order.
    pub adoptions: Vec<Adoption>,
    /// No segment ever had this number or a greater one: where [`super::Numbers`] go on.
    pub next_number: u64,
    /// Files that hold nothing and never did: to be removed.
    pub blank: Vec<FileId>,
    /// Damaged places, to be put aside and reported (F-014 to F-017). Their segments are not overwritten before
    /// [`Recovered::put_aside`] names them.
    pub damage: Vec<Damage>,
    /// The process did not close its segments, and the mode promised less than the machine's survival: what was not
    /// written back may be lost ("unclean stop, mode os", F-013).
    pub unclean: Option<Durability>,
}

/// The segments that one shard's log takes over.
#[derive(Debug, Default)]
pub struct Adoption {
    segments: Vec<ScannedSegment>,
}

impl Adoption {
    /// Live records in it.
    pub fn live_count(&self) -> usize {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.live_count()))
    }

    /// The files of its segments.
    pub fn files(&self) -> impl Iterator<Item = FileId> {
        self.segments.iter().map(|scanned| scanned.segment.file)
    }

    /// Segments in it.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }
}

impl Recovered {
    /// All segments, by shard.
    pub fn segments(&self) -> impl Iterator<Item = &ScannedSegment> {
        self.adoptions.iter().flat_map(|adoption| &adoption.segments)
    }

    /// Live records in all of it.
    pub fn live_count(&self) -> usize {
        self.adoptions.iter().fold(0, |sum, adoption| sum.saturating_add(adoption.live_count()))
    }

    /// Everything damaged in this file was put aside, durably: it may be overwritten when nothing in it is live.
    pub fn put_aside(&mut self, file: FileId) {
        let all = self.adoptions.iter_mut().flat_map(|adoption| &mut adoption.segments);
        for scanned in all.filter(|scanned| scanned.segment.file == file) {
            scanned.segment.kept = false;
        }
    }

    /// What is damaged in these files is so because the disk refused to give it, and the next start may read it (F-028). This
    /// run says nothing of those segments, and overwrites nothing that what stands there may need: its outcomes, and its
    /// content, which stands in front of it. To be called when all else was put aside.
    pub fn unread(&mut self, refused: &BTreeSet<FileId>) {
        let damaged = self.damage.iter().map(|damage| damage.file);
        let unread: BTreeSet<_> = damaged.filter(|file| refused.contains(file)).collect();
        let all = self.adoptions.iter().flat_map(|adoption| &adoption.segments);
        let numbers: BTreeMap<_, _> = all.map(|scanned| (scanned.segment.file, scanned.number.get())).collect();
        // What life it was is not known of a file without heads: it may need anything.
        let upto = unread.iter().map(|file| numbers.get(file).copied().unwrap_or(u64::MAX)).max().unwrap_or(0);
        for scanned in self.adoptions.iter_mut().flat_map(|adoption| &mut adoption.segments) {
            let segment = &mut scanned.segment;
            segment.unread = unread.contains(&segment.file);
            segment.kept |= scanned.number.get() <= upto;
        }
    }
}

impl Recovery {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    pub fn add(&mut self, scanned: Scanned) {
        match scanned {
            Scanned::Blank(file) => self.blank.push(file),
            Scanned::Lost(damage) => self.damage.push(damage),
            Scanned::Segment(scanned) => {
                self.number_max = self.number_max.max(scanned.number_max);
                // A number names one file for ever; a second file with it is a copy, left alone by name.
                if self.segments.contains_key(&scanned.number) {
                    let (file, number) = (scanned.segment.file, Some(scanned.number));
                    let bytes = scanned.segment.segment_bytes;
                    let cause = super::scan::Cause::Rot;
                    self.damage.push(Damage { file, number, offset: 0, bytes, record: None, content: None, cause });
                } else {
                    self.damage.extend(scanned.damage.iter().copied());
                    self.segments.insert(scanned.number, *scanned);
                }
            }
        }
    }

    /// All files are read: applies every settle and mark, and deals the segments out to `shards` logs. Segments that
    /// speak of each other stay together.
    pub fn finish(mut self, shards: usize) -> Recovered {
        self.apply_dependent();
        self.apply_foreign();
        self.apply_pins();
        let unclean = self
            .segments
            .values()
            .filter(|scanned| scanned.trailer.is_none() && scanned.head.durability != Durability::Disk)
            .map(|scanned| scanned.head.durability)
            .min();
        let named = self.segments.values().flat_map(|scanned| scanned.segment.refs.iter().map(|number| number.get()));
        let next_number = named.fold(self.number_max, u64::max).saturating_add(1);
        let groups = self.groups();
        let mut adoptions: Vec<Adoption> = Vec::new();
        adoptions.resize_with(shards.max(1), Adoption::default);
        for (number, scanned) in self.segments {
            let home = groups.get(&number).copied().unwrap_or(0);
            let shard = usize::from(home).checked_rem(shards.max(1)).unwrap_or(0);
            if let Some(adoption) = adoptions.get_mut(shard) {
                adoption.segments.push(scanned);
            }
        }
        Recovered { adoptions, next_number, blank: self.blank, damage: self.damage, unclean }
    }

    /// Outcomes count that hang on records which no later batch cancelled.
    fn apply_dependent(&mut self) {
        let mut cancelled = BTreeSet::new();
        for scanned in self.segments.values().filter(|scanned| !scanned.segment.cancels.is_empty()) {
            for item in scanned.segment.foreign.iter().flat_map(Items::new).flatten() {
                match item {
                    Item::Settle { settle, .. } if settle.outcome == Outcome::Cancelled => {
                        cancelled.insert(settle.id);
                    }
                    _ => {}
                }
            }
        }
        for (&number, scanned) in &mut self.segments {
            for dependent in std::mem::take(&mut scanned.dependent) {
                if !cancelled.contains(&dependent.needs) {
                    scanned.segment.read_settle(number, &dependent.settle);
                }
            }
        }
        // Cancelled records of a segment with a footer never were in it.
        let closed: Vec<_> = self.segments.iter().filter(|(_, s)| s.trailer.is_some()).map(|(&n, _)| n).collect();
        for scanned in self.segments.values_mut() {
            closed.iter().for_each(|number| {
                scanned.segment.cancels.remove(number);
            });
        }
    }

    fn apply_foreign(&mut self) {
        if planted!(LateSettles) {
            return;
        }
        let numbers: Vec<_> = self.segments.keys().copied().collect();
        for holder in numbers {
            let Some(scanned) = self.segments.get_mut(&holder) else { continue };
            let foreign = std::mem::take(&mut scanned.segment.foreign);
            for item in foreign.iter().flat_map(Items::new).flatten() {
                match item {
                    Item::Settle { settle, .. } => {
                        if let Some(target) = self.segments.get_mut(&settle.id.number()) {
                            target.segment.settle(settle.id.place(), settle.recipient);
                        }
                    }
                    Item::Live { number, live } => {
                        if let Some(target) = self.segments.get_mut(&number) {
                            target.segment.live.intersect(&live);
                        }
                    }
                    Item::Record { .. } | Item::Extent { .. } => {}
                }
            }
            if let Some(scanned) = self.segments.get_mut(&holder) {
                scanned.segment.foreign = foreign;
            }
        }
    }

    fn apply_pins(&mut self) {
        let mut pinned: BTreeMap<SegmentNumber, u32> = BTreeMap::new();
        for scanned in self.segments.values_mut() {
            let segment = &mut scanned.segment;
            segment.pins.retain(|&place, _| segment.live.left(place) > 0);
            for &holder in segment.pins.values().flatten() {
                let count = pinned.entry(holder).or_default();
                *count = count.saturating_add(1);
            }
        }
        for (holder, count) in pinned {
            if let Some(scanned) = self.segments.get_mut(&holder) {
                scanned.segment.extent_pins = count;
            }
        }
    }

    /// For each segment the shard that the group of segments it belongs to goes to.
    fn groups(&self) -> BTreeMap<SegmentNumber, u16> {
        // The smallest shard spreads along every connection until nothing changes: as many rounds as the longest chain
        // of shards that adopted each other's logs, which is short.
        let mut home: BTreeMap<_, _> = self.segments.iter().map(|(&number, s)| (number, s.head.shard)).collect();
        loop {
            let mut changed = false;
            for (&number, scanned) in &self.segments {
                let speaks_of = scanned.segment.refs.iter().chain(scanned.segment.pins.values().flatten());
                for other in speaks_of {
                    let (Some(&mine), Some(&theirs)) = (home.get(&number), home.get(other)) else { continue };
                    if mine != theirs {
                        home.insert(number, mine.min(theirs));
                        home.insert(*other, mine.min(theirs));
                        changed = true;
                    }
                }
            }
            if !changed {
                return home;
            }
        }
    }
}

/// Loads what is known of the live records, oldest first, without holding delivery or accepting up.
#[derive(Debug)]
pub struct Backlog {
    segments: VecDeque<Source>,
    /// Entries of the segment being told, and where the next one begins.
    entries: Vec<u8>,
    next: usize,
    /// Live records of that segment that were not told yet.
    left: VecDeque<u32>,
    current: Option<(SegmentNumber, Seed)>,
}

#[derive(Debug)]
struct Source {
    number: SegmentNumber,
    file: FileId,
    seed: Seed,
    /// Places of the live records.
    live: Vec<u32>,
    /// The footer whose property section is to be read, or none: the entries are at hand.
    trailer: Option<Trailer>,
    entries: Vec<u8>,
}

/// A live record.
#[derive(Debug)]
pub struct Loaded<'a> {
    /// Its name.
    pub id: RecordId,
    /// What is known of it without reading it; `None` when the footer is damaged: fetch it.
    pub head: Option<RecordHead>,
    /// Its encoded envelope, unless that is long: fetch it then.
    pub envelope: Option<&'a [u8]>,
}

impl Log {
    /// Takes over segments that recovery read. To be called before anything is appended, with the log's numbers beyond
    /// [`Recovered::next_number`].
    pub fn adopt(&mut self, adoption: Adoption) -> Backlog {
        let mut segments = VecDeque::new();
        for scanned in adoption.segments {
            let ScannedSegment { number, segment, trailer, .. } = scanned;
            let mut entries = Vec::new();
            if trailer.is_none() {
                footer::copy_properties(&segment.properties, &segment.live, &mut entries);
            }
            if segment.live.count() > 0 {
                // Now: what is relocated before its turn stands there no more, and goes by this name all the same.
                let live = segment.live.iter().map(|(place, _)| place).collect();
                segments.push_back(Source { number, file: segment.file, seed: segment.seed, live, trailer, entries });
            }
            self.adopt_segment(number, segment);
        }
        self.reclaim_all();
        Backlog { segments, entries: Vec::new(), next: 0, left: VecDeque::new(), current: None }
    }

    fn adopt_segment(&mut self, number: SegmentNumber, mut segment: Segment) {
        segment.live.shrink();
        if segment.state == State::Closing && segment.cut_at.is_some() {
            // Where its footer would stand there is no file: what is live goes elsewhere, and it is used no more.
            segment.state = State::Poisoned;
        }
        if segment.state == State::Closing {
            self.chores.push_back(Chore::Footer(number));
        } else {
            drop(segment.forget_notes());
        }
        self.segments.insert(number, segment);
    }
}

impl Backlog {
    /// The read that must be answered before more is known; `None` when [`Backlog::next`] has more or all is told.
    pub fn wants(&self) -> Option<Read> {
        if !self.left.is_empty() {
            return None;
        }
        let source = self.segments.front()?;
        let trailer = source.trailer.as_ref()?;
        let block = BLOCK as u64;
        let start = trailer.at.saturating_add(u64::from(trailer.properties.at));
        let end = start.saturating_add(u64::from(trailer.properties.bytes));
        let at = start & !block.saturating_sub(1);
        let bytes = usize::try_from(end.next_multiple_of(block).saturating_sub(at)).unwrap_or(usize::MAX);
        Some(Read { file: source.file, at, bytes })
    }

    /// The octets of the wanted read, all of them; anything else (a failed read: nothing) means that each record of the
    /// segment must be fetched.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Some(source) = self.segments.front_mut() else { return };
        let Some(trailer) = source.trailer.take() else { return };
        let start = trailer.at.saturating_add(u64::from(trailer.properties.at));
        let skip = usize::try_from(start & (BLOCK as u64).saturating_sub(1)).unwrap_or(0);
        let mut section = trailer.properties;
        section.at = u32::try_from(skip).unwrap_or(0);
        source.entries = section.of(bytes, source.seed).map(<[u8]>::to_vec).unwrap_or_default();
    }

    /// The next record that was live when it was taken over and is still; `None` when a read is wanted or all is told.
    pub fn next<'a>(&'a mut self, log: &Log) -> Option<Loaded<'a>> {
        let (id, seed) = self.next_live(log)?;
        let place = id.place();
        // Entries stand in the same order; those of records settled since are passed over.
        while let Some((found, entry, next)) = footer::entry_at(&self.entries, self.next) {
            if found > place {
                break;
            }
            self.next = next;
            if found == place {
                return Some(Self::loaded(id, entry, seed));
            }
        }
        Some(Loaded { id, head: None, envelope: None })
    }

    /// The next record of which something is unsettled.
    fn next_live(&mut self, log: &Log) -> Option<(RecordId, Seed)> {
        loop {
            while self.left.is_empty() {
                let source = self.segments.pop_front_if(|source| source.trailer.is_none())?;
                self.left = source.live.into();
                self.current = Some((source.number, source.seed));
                self.entries = source.entries;
                self.next = 0;
            }
            let (number, seed) = self.current?;
            let id = RecordId::at_place(number, self.left.pop_front()?);
            if log.fetch(id).is_some() {
                return Some((id, seed));
            }
        }
    }

    fn loaded(id: RecordId, entry: &[u8], seed: Seed) -> Loaded<'_> {
        match RecordRef::parse_entry(entry, id, seed) {
            Ok((head, envelope)) => Loaded { id, head: Some(head), envelope },
            Err(RecordError::Short(_) | RecordError::Damaged | RecordError::Misplaced) => {
                Loaded { id, head: None, envelope: None }
            }
        }
    }

    /// Everything was told.
    pub fn is_done(&self) -> bool {
        self.left.is_empty() && self.segments.is_empty()
    }
}
