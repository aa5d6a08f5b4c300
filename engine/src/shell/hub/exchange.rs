//! What the hubs of a server's shards have in common: the hot rings of their destinations, and the way by which what was
//! lent comes back. A single shard has none of it.
//!
//! A message that another shard is to send crosses as a [`Ticket`]: its octets by reference, its outcome by a [`Return`].
//! Both ways have room for everything that can be under way, so nobody waits and nothing is dropped. The one lock is taken
//! when routes are installed, never on a message's path.

use super::attempt::Answered;
use super::failures::{Failures, Why};
use super::messages::Message;
use crate::queue::{EntryId, LENT_PER_HOP_MAX, Outcome};
use crate::shell::hooks::InFlight;
use crate::sys::lockfree::{HotRing, Receiver, Sender, SleepFlag, WAITERS_MAX, Wake, crossing};
use crate::wire::NextHopKey;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Messages that one shard lends at once, at most, to all destinations: what its returns have room for.
pub(super) const LENT_MAX: u32 = 1024;

/// A message that any shard may send.
#[derive(Debug)]
pub(super) struct Ticket {
    /// The shard that keeps it.
    pub owner: usize,
    /// Its entry there.
    pub entry: EntryId,
    /// What is sent.
    pub message: Message,
    /// The recipients offered, by their indexes in the record; `None`: all of them.
    pub offered: Option<Box<[u32]>>,
}

/// What became of a lent message.
#[derive(Debug)]
pub(super) struct Return {
    /// Its entry at the shard that keeps it.
    pub entry: EntryId,
    /// Recipients that were answered on their own.
    pub answers: Vec<Answered>,
    /// Who of them was refused for good.
    pub failures: Failures,
    /// The end of the attempt, for all others (`None`: nobody has taken it), and why they failed, if they did.
    pub outcome: Option<Outcome>,
    pub why: Option<Why>,
    /// It is in flight until its owner has written down what became of it.
    pub in_flight: InFlight,
}

/// Rings that are told apart when a shard is woken to look into one; those beyond share a mark with others and are looked
/// into with them.
const MARKS: usize = 1024;

/// Tickets of one destination.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    tickets: HotRing<Box<Ticket>>,
    /// Which mark stands for it.
    pub mark: u32,
}

impl Deref for Ring {
    type Target = HotRing<Box<Ticket>>;
    fn deref(&self) -> &Self::Target {
        &self.tickets
    }
}

/// Where one shard is reached.
struct Address {
    returns: Sender<Return>,
    inbox: Mutex<Option<Receiver<Return>>>,
    sleeper: SleepFlag,
    /// A bit for each ring, by its mark, that it is to look into.
    marks: [AtomicU64; MARKS / 64],
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Shared by all shards of a server.
pub struct Exchange {
    rings: Mutex<BTreeMap<NextHopKey, Ring>>,
    shards: Vec<Address>,
}

impl Exchange {
    /// Between so many shards; `None` where there is nothing to exchange: on a single shard, and on more than can be told
    /// apart, which keep to themselves.
    pub fn between(shards: usize) -> Option<Arc<Self>> {
        (2..=WAITERS_MAX).contains(&shards).then(|| {
            let shards = (0..shards).map(|_| {
                let sleeper = SleepFlag::new();
                let (returns, inbox) = crossing(LENT_MAX as usize, &sleeper);
                let marks = [const { AtomicU64::new(0) }; MARKS / 64];
                Address { returns, inbox: Mutex::new(Some(inbox)), sleeper, marks, wake: OnceLock::new() }
            });
            Arc::new(Self { rings: Mutex::default(), shards: shards.collect() })
        })
    }

    /// From now on `wake` is called, on any thread, when this shard must look into its rings and its inbox.
    pub fn wake_by(&self, shard: usize, wake: impl Fn() + Send + Sync + 'static) {
        assert!(self.shards[shard].wake.set(Box::new(wake)).is_ok(), "a shard is reached by one way");
    }

    /// The inbox of a shard, once, and the flag that says whether it sleeps.
    pub(super) fn inbox(&self, shard: usize) -> (Receiver<Return>, SleepFlag) {
        let address = &self.shards[shard];
        let inbox = address.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        (inbox.expect("each shard takes its inbox once"), address.sleeper.clone())
    }

    /// The ring of a destination: room for everything that all shards lend to it. It is kept for as long as the server runs,
    /// because shards take over new routes one after the other: one for each name that configuration ever had.
    pub(super) fn ring(&self, key: &NextHopKey) -> Ring {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ring) = rings.get(key) {
            return ring.clone();
        }
        let mark = u32::try_from(rings.len() % MARKS).expect("marks are few");
        let ring = Ring { tickets: HotRing::new(LENT_PER_HOP_MAX as usize * self.shards.len()), mark };
        rings.insert(key.clone(), ring.clone());
        ring
    }

    /// Wakes a shard to look into this ring.
    pub(super) fn wake(&self, shard: usize, ring: &Ring) {
        if let Some(address) = self.shards.get(shard) {
            // Before it wakes: it looks for marks first, and then sleeps.
            address.marks[ring.mark as usize / 64].fetch_or(1 << (ring.mark % 64), Ordering::Release);
            self.wake_up(shard);
        }
    }

    fn wake_up(&self, shard: usize) {
        if let Some(wake) = self.shards.get(shard).and_then(|address| address.wake.get()) {
            wake();
        }
    }

    /// The marks of rings that a shard is to look into, each once. It costs the same however many rings there are.
    pub(super) fn take_marks(&self, shard: usize, mut look: impl FnMut(u32)) {
        for (at, word) in (0..).zip(&self.shards[shard].marks) {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut marked = word.swap(0, Ordering::Acquire);
            while marked != 0 {
                look(at * 64 + marked.trailing_zeros());
                marked &= marked - 1;
            }
        }
    }

    /// Sends what became of a ticket to the shard that keeps the message.
    pub(super) fn give_back(&self, owner: usize, back: Return) {
        match self.shards[owner].returns.push(back) {
            Ok(Wake::Needed) => self.wake_up(owner),
            Ok(Wake::NotNeeded) => {}
            Err(_) => unreachable!("a shard lends no more than its inbox has room for"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::DeliveryType;
    use std::collections::BTreeSet;

    #[test]
    fn who_is_woken_looks_into_what_it_was_woken_for_however_many_rings_there_are() {
        let exchange = Exchange::between(2).expect("two");
        let key = |number: usize| NextHopKey {
            delivery: DeliveryType::SmartHost,
            domain: format!("hop{number}").into(),
            connector: "".into(),
        };
        let rings: Vec<Ring> = (0..5000).map(|number| exchange.ring(&key(number))).collect();
        let looked = |shard| {
            let mut marks = BTreeSet::new();
            exchange.take_marks(shard, |mark| assert!(marks.insert(mark), "each once"));
            marks
        };
        assert_eq!(looked(1), BTreeSet::new());
        for number in [0, 63, 64, 1023, 4999, 4999] {
            exchange.wake(1, &rings[number]);
        }
        assert_eq!(looked(1), BTreeSet::from([0, 63, 64, 1023, 4999 % 1024]));
        assert_eq!(
            (looked(0), looked(1)),
            (BTreeSet::new(), BTreeSet::new()),
            "nothing is left, and nobody else is meant"
        );
        let shared = rings.iter().filter(|ring| ring.mark == 0).count();
        assert_eq!(shared, 5, "those beyond share marks evenly");
    }
}
