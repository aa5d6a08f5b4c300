//! A file: what reads see, what is stable, and the pieces between the two.

use super::chance::Chance;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Octets of a page of memory.
const PAGE: u64 = 4096;

type Page = Rc<[u8; PAGE as usize]>;

/// Octets by pages; what has none reads as zero.
#[derive(Clone, Default)]
struct Content {
    pages: BTreeMap<u64, Page>,
    size: u64,
}

impl Content {
    fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut at = at;
        let mut left = bytes;
        while !left.is_empty() {
            let (page, offset) = (at / PAGE, usize::try_from(at % PAGE).expect("within a page"));
            let step = left.len().min(PAGE as usize - offset);
            let page = self.pages.entry(page).or_insert_with(|| Rc::new([0; PAGE as usize]));
            Rc::make_mut(page)[offset..offset + step].copy_from_slice(&left[..step]);
            at += step as u64;
            left = &left[step..];
        }
        self.size = self.size.max(at);
    }

    /// Reads into `into`; how many octets there were.
    fn read(&self, at: u64, into: &mut [u8]) -> usize {
        let there = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        let mut done = 0;
        while done < there {
            let place = at + done as u64;
            let (page, offset) = (place / PAGE, usize::try_from(place % PAGE).expect("within a page"));
            let step = (there - done).min(PAGE as usize - offset);
            match self.pages.get(&page) {
                Some(page) => into[done..done + step].copy_from_slice(&page[offset..offset + step]),
                None => into[done..done + step].fill(0),
            }
            done += step;
        }
        there
    }
}

/// Something written.
struct Piece {
    at: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    /// The parts of it that a device writes whole or not at all.
    fn sectors(&self, sector: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let mut at = self.at;
        let mut left = &self.bytes[..];
        std::iter::from_fn(move || {
            let step = usize::try_from(sector - at % sector).expect("within a sector").min(left.len());
            let (now, rest) = left.split_at(step);
            let place = at;
            left = rest;
            at += step as u64;
            (step > 0).then_some((place, now))
        })
    }
}

/// A file's content, apart from its names.
pub(super) struct Inode {
    pub number: u64,
    cache: RefCell<Content>,
    stable: RefCell<Content>,
    /// Written to the cache and not stable, in order.
    pending: RefCell<Vec<Piece>>,
    /// Stable writes under way, by their number.
    flying: RefCell<BTreeMap<u64, Piece>>,
    next_write: Cell<u64>,
    pub locked: Cell<bool>,
}

impl Inode {
    pub fn new(number: u64) -> Self {
        Self {
            number,
            cache: RefCell::default(),
            stable: RefCell::default(),
            pending: RefCell::default(),
            flying: RefCell::default(),
            next_write: Cell::default(),
            locked: Cell::default(),
        }
    }

    pub fn size(&self) -> u64 {
        self.cache.borrow().size
    }

    pub fn read(&self, at: u64, into: &mut [u8]) -> usize {
        self.cache.borrow().read(at, into)
    }

    /// All of it that is stable.
    pub fn octets(&self) -> Vec<u8> {
        let stable = self.stable.borrow();
        let mut octets = vec![0; usize::try_from(stable.size).expect("small files")];
        stable.read(0, &mut octets);
        octets
    }

    /// Turns these bits of an octet round, wherever it is kept.
    pub fn flip(&self, at: u64, bits: u8) {
        for content in [&self.stable, &self.cache] {
            let mut octet = [0];
            content.borrow().read(at, &mut octet);
            content.borrow_mut().write(at, &[octet[0] ^ bits]);
        }
    }

    pub fn extend(&self, bytes: u64) {
        let mut cache = self.cache.borrow_mut();
        cache.size = cache.size.max(bytes);
    }

    /// A write begins; any of its sectors may be on the disk from now on.
    pub fn begin(&self, at: u64, bytes: Vec<u8>) -> u64 {
        let number = self.next_write.get();
        self.next_write.set(number + 1);
        self.flying.borrow_mut().insert(number, Piece { at, bytes });
        number
    }

    /// A write ends: the first `done` octets of it are in the file.
    pub fn finish(&self, number: u64, done: usize, is_stable: bool) {
        // A crash came between.
        let Some(mut piece) = self.flying.borrow_mut().remove(&number) else { return };
        piece.bytes.truncate(done);
        self.cache.borrow_mut().write(piece.at, &piece.bytes);
        if is_stable {
            self.settle_below(&piece);
            self.stable.borrow_mut().write(piece.at, &piece.bytes);
            let mut stable = self.stable.borrow_mut();
            stable.size = stable.size.max(self.cache.borrow().size);
        } else {
            self.pending.borrow_mut().push(piece);
        }
    }

    /// A write fails: some sectors of it are in the file, or none, and the cache does not know which.
    pub fn fail(&self, number: u64, chance: &Chance, sector: u64, whole: bool) {
        let Some(piece) = self.flying.borrow_mut().remove(&number) else { return };
        self.settle_below(&piece);
        let written_of_two = if whole { 2 } else { chance.below(3) };
        for (at, bytes) in piece.sectors(sector).filter(|_| chance.below(2) < written_of_two) {
            self.cache.borrow_mut().write(at, bytes);
            self.stable.borrow_mut().write(at, bytes);
        }
    }

    /// What waited in the cache below `piece` is written first.
    fn settle_below(&self, piece: &Piece) {
        let mut pending = self.pending.borrow_mut();
        if pending.iter().any(|other| other.at < piece.end() && piece.at < other.end()) {
            let mut stable = self.stable.borrow_mut();
            pending.drain(..).for_each(|other| stable.write(other.at, &other.bytes));
        }
    }

    /// Everything written is stable.
    pub fn sync(&self) {
        let mut stable = self.stable.borrow_mut();
        self.pending.borrow_mut().drain(..).for_each(|piece| stable.write(piece.at, &piece.bytes));
        stable.size = self.cache.borrow().size;
    }

    /// The sync failed: the cache takes what it held for clean, and only some of it is on the disk.
    pub fn fail_sync(&self, chance: &Chance, sector: u64) {
        let pending = self.pending.take();
        self.keep_some(pending, chance, sector);
    }

    /// Any sectors of these, up to a random one each in their order.
    fn keep_some(&self, pieces: Vec<Piece>, chance: &Chance, sector: u64) {
        let mut stable = self.stable.borrow_mut();
        let kept_of_four = chance.below(5);
        for piece in &pieces {
            for (at, bytes) in piece.sectors(sector).filter(|_| chance.below(4) < kept_of_four) {
                stable.write(at, bytes);
            }
        }
    }

    /// The power failed.
    pub fn crash(&self, chance: &Chance, sector: u64) {
        let mut pieces = self.pending.take();
        let flying: Vec<Piece> = self.flying.take().into_values().collect();
        let torn = torn_block(&flying, chance);
        pieces.extend(flying);
        // A size that nobody made stable is there or not.
        let grown = self.cache.borrow().size.max(self.stable.borrow().size);
        self.keep_some(pieces, chance, sector);
        if let Some((at, bytes)) = torn {
            self.stable.borrow_mut().write(at, &bytes);
        }
        let mut stable = self.stable.borrow_mut();
        if chance.once_in(2) {
            stable.size = stable.size.max(grown);
        }
        *self.cache.borrow_mut() = stable.clone();
        self.locked.set(false);
    }
}

/// The block that was being written when the power failed may be neither old nor new, whatever the unit that is promised:
/// devices of 512 octets to the sector write 4096. Where the write begins as often as anywhere: there it meets what was
/// promised before.
fn torn_block(flying: &[Piece], chance: &Chance) -> Option<(u64, Vec<u8>)> {
    let blocks: Vec<_> = flying.iter().flat_map(|piece| piece.sectors(PAGE)).collect();
    let is_hit = !blocks.is_empty() && chance.once_in(2);
    is_hit.then(|| {
        let (at, bytes) = if chance.once_in(2) { &blocks[0] } else { chance.one_of(&blocks) };
        let mut noise = bytes.to_vec();
        chance.fill(&mut noise);
        (*at, noise)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inode: &Inode, at: u64, bytes: usize) -> Vec<u8> {
        let mut into = vec![9; bytes];
        let count = inode.read(at, &mut into);
        into.truncate(count);
        into
    }

    fn write(inode: &Inode, at: u64, bytes: &[u8], is_stable: bool) {
        let number = inode.begin(at, bytes.to_vec());
        inode.finish(number, bytes.len(), is_stable);
    }

    #[test]
    fn f_013_what_is_stable_survives_and_the_rest_may_be_lost_by_sectors() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let chance = Chance::new(seed);
            let inode = Inode::new(1);
            write(&inode, 0, &[1; 8192], true);
            write(&inode, 512, &[2; 1024], false);
            assert_eq!(read(&inode, 512, 1024), [2; 1024]);
            inode.crash(&chance, 512);
            let after = read(&inode, 0, 8192);
            assert!(after[..512].iter().chain(&after[1536..]).all(|&octet| octet == 1), "what was stable stays");
            for sector in [&after[512..1024], &after[1024..1536]] {
                assert!(sector.iter().all(|octet| *octet == sector[0]), "a sector is whole");
            }
            outcomes.insert((after[512], after[1024]));
        }
        assert_eq!(outcomes.len(), 4, "each sector for itself: {outcomes:?}");
    }

    #[test]
    fn f_014_a_write_under_way_may_be_on_the_disk_and_synced_writes_are() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let inode = Inode::new(1);
            write(&inode, 0, &[1; 512], false);
            inode.sync();
            inode.begin(512, vec![2; 512]);
            inode.crash(&Chance::new(seed), 512);
            assert_eq!(read(&inode, 0, 512), [1; 512]);
            seen.insert(read(&inode, 512, 1));
        }
        assert!(seen.contains(&vec![]) && seen.contains(&vec![2]), "not there, or written: {seen:?}");
        assert!(seen.len() > 2, "or torn: {seen:?}");
    }

    #[test]
    fn f_027_a_failed_sync_is_not_mended_by_another_one() {
        let lost = (0..100).any(|seed| {
            let inode = Inode::new(1);
            write(&inode, 0, &[1; 512], true);
            write(&inode, 0, &[2; 512], false);
            inode.fail_sync(&Chance::new(seed), 512);
            assert_eq!(read(&inode, 0, 1), [2], "the cache still shows it");
            inode.sync();
            inode.crash(&Chance::new(seed), 512);
            read(&inode, 0, 1) == [1]
        });
        assert!(lost);
    }
}
