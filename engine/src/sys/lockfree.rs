//! What crosses between shards: bounded queues without locks, and the protocol that wakes a sleeper and nobody else.
//!
//! The storage is crossbeam's `ArrayQueue`; our own is the waking. Whoever is about to sleep and whoever has just published
//! must not miss each other (Dekker's problem), so each side writes first and looks second, with a full fence between:
//!
//! ```text
//!  sleeper                                  publisher
//!  announce: waiting |= my bit              publish the item
//!  fence(SeqCst)                            fence(SeqCst)
//!  anything there? ─ yes: withdraw          anybody waiting? ─ no: done, no system call
//!                  └ no: sleep                               └ yes: claim one bit, wake that one
//! ```
//! Of the two looks at least one sees the other's write. A bit is claimed by exactly one publisher, so a sleeper is woken
//! once however many publish. A wake-up that comes to somebody awake does no harm, as long as he looks once more; of several
//! who wait for the same, whoever leaves without looking passes it on.
//!
//! The loom models below prove it, and show that it fails without the fences; crossbeam's part is stressed.

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Threads that one set of waiters can tell apart.
pub const WAITERS_MAX: usize = 64;

/// Who waits to be woken: one bit each.
#[derive(Debug)]
struct Waiters {
    waiting: AtomicU64,
}

impl Waiters {
    fn new() -> Self {
        Self { waiting: AtomicU64::new(0) }
    }

    /// Says that `who` is about to wait, unless `nothing_there` finds, afterwards, that there is something to do. `false`: do
    /// not wait.
    fn announce(&self, who: usize, nothing_there: impl FnOnce() -> bool) -> bool {
        debug_assert!(who < WAITERS_MAX);
        self.waiting.fetch_or(1 << who, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let wait = nothing_there();
        if !wait {
            self.withdraw(who);
        }
        wait
    }

    /// Whether anybody waits, as far as a look without a fence tells.
    fn anybody(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Whether `who` waits and nobody has chosen to wake it.
    fn is_waiting(&self, who: usize) -> bool {
        self.waiting.load(Ordering::Relaxed) & (1 << who) != 0
    }

    /// `who` does not wait (any more).
    fn withdraw(&self, who: usize) {
        if self.is_waiting(who) {
            self.waiting.fetch_and(!(1 << who), Ordering::Relaxed);
        }
    }

    /// `who` does not wait any more and will not look either. The wake-up for something published may have been spent on it:
    /// whom to wake instead, if there is something and anybody waits.
    fn leave(&self, who: usize, nothing_there: impl FnOnce() -> bool) -> Option<usize> {
        self.withdraw(who);
        // If a publisher has claimed our bit, its item is visible behind this fence.
        fence(Ordering::SeqCst);
        if nothing_there() { None } else { self.claim() }
    }

    /// After something was published: whom to wake for it, if anybody waits.
    fn claim(&self) -> Option<usize> {
        fence(Ordering::SeqCst);
        let mut waiting = self.waiting.load(Ordering::Relaxed);
        while waiting != 0 {
            let who = waiting.trailing_zeros();
            let rest = waiting & !(1 << who);
            match self.waiting.compare_exchange(waiting, rest, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(who as usize),
                Err(now) => waiting = now,
            }
        }
        None
    }
}

/// Whether one thread sleeps. One per shard, shared by all crossings that lead to it.
#[derive(Debug, Clone)]
pub struct SleepFlag {
    waiters: Arc<CachePadded<Waiters>>,
}

impl Default for SleepFlag {
    fn default() -> Self {
        Self::new()
    }
}

impl SleepFlag {
    /// Awake.
    pub fn new() -> Self {
        Self { waiters: Arc::new(CachePadded::new(Waiters::new())) }
    }

    /// The owner is about to sleep until it is woken. `all_empty` looks into every crossing that leads here; when it finds
    /// something, the answer is `false` and the owner must not sleep.
    pub fn may_sleep(&self, all_empty: impl FnOnce() -> bool) -> bool {
        self.waiters.announce(0, all_empty)
    }

    /// The owner is awake, for whatever reason: nobody needs to wake it.
    pub fn awake(&self) {
        self.waiters.withdraw(0);
    }

    fn after_publishing(&self) -> Wake {
        if self.waiters.claim().is_some() { Wake::Needed } else { Wake::NotNeeded }
    }
}

/// Whether the other side must be woken for what was just pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a sleeper that is not woken sleeps on"]
pub enum Wake {
    /// It sleeps, and nobody else will wake it.
    Needed,
    /// It is awake and will look, or somebody else wakes it.
    NotNeeded,
}

/// The sending end of a crossing; clones share it.
pub struct Sender<T> {
    items: Arc<ArrayQueue<T>>,
    sleeper: SleepFlag,
}

/// The receiving end of a crossing.
pub struct Receiver<T> {
    items: Arc<ArrayQueue<T>>,
}

/// A crossing: a bounded queue from any number of shards to one.
///
/// `capacity` is the most that can be under way: a caller that sizes it for the worst case never sees it full. `sleeper` is
/// the flag of the receiving shard.
pub fn crossing<T: Send>(capacity: usize, sleeper: &SleepFlag) -> (Sender<T>, Receiver<T>) {
    let items = Arc::new(ArrayQueue::new(capacity.max(1)));
    (Sender { items: items.clone(), sleeper: sleeper.clone() }, Receiver { items })
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), sleeper: self.sleeper.clone() }
    }
}

impl<T> Sender<T> {
    /// Sends `item`. Neither waits nor allocates.
    ///
    /// # Errors
    /// Gives the item back when the crossing is full.
    pub fn push(&self, item: T) -> Result<Wake, T> {
        self.items.push(item)?;
        Ok(self.sleeper.after_publishing())
    }

    /// Sends items from the front of `items` until there is no more room, with one look at the sleeper for all. The others
    /// stay.
    pub fn push_all(&self, items: &mut VecDeque<T>) -> Wake {
        let before = items.len();
        while let Some(item) = items.pop_front() {
            if let Err(item) = self.items.push(item) {
                items.push_front(item);
                break;
            }
        }
        if items.len() < before { self.sleeper.after_publishing() } else { Wake::NotNeeded }
    }

    /// Items that would fit now.
    pub fn room(&self) -> usize {
        self.items.capacity() - self.items.len().min(self.items.capacity())
    }
}

impl<T> Receiver<T> {
    /// The next item, in the order of each sender.
    pub fn pop(&self) -> Option<T> {
        self.items.pop()
    }

    /// Whether nothing is there now.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("room", &self.room()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("waiting", &self.items.len()).finish()
    }
}

/// Tickets of one destination that any shard's idle connection may take: bounded, first in, first out, for any number of
/// shards on both sides. Clones share it.
///
/// A shard whose connections found nothing announces itself by [`HotRing::await_tickets`]; a push then names one shard to
/// wake. A shard that has tickets to offer asks [`HotRing::may_offer`] first, so that none are made while nobody waits, and
/// is named by [`HotRing::lenders`] to whoever begins to wait. One without a connection to hope for need not wait until
/// others have nothing to do: it may offer as soon as one says by [`HotRing::serve`] that it has connections.
pub struct HotRing<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    tickets: ArrayQueue<T>,
    idle: CachePadded<Waiters>,
    lenders: CachePadded<Waiters>,
    /// Shards with connections, which may have enough to do: one bit each.
    serving: CachePadded<AtomicU64>,
}

impl<T> Clone for HotRing<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: Send> HotRing<T> {
    /// Whether both are ends of the same ring.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// A ring for `capacity` tickets.
    pub fn new(capacity: usize) -> Self {
        let tickets = ArrayQueue::new(capacity.max(1));
        let [idle, lenders] = [(); 2].map(|()| CachePadded::new(Waiters::new()));
        let serving = CachePadded::new(AtomicU64::new(0));
        Self { shared: Arc::new(Shared { tickets, idle, lenders, serving }) }
    }

    /// Offers a ticket; the shard to wake for it, if one waits.
    ///
    /// # Errors
    /// Gives the ticket back when the ring is full.
    pub fn push(&self, ticket: T) -> Result<Option<usize>, T> {
        self.shared.tickets.push(ticket)?;
        Ok(self.shared.idle.claim())
    }

    /// Takes the oldest ticket.
    pub fn pop(&self) -> Option<T> {
        self.shared.tickets.pop()
    }

    /// `shard` (below [`WAITERS_MAX`]) has a connection to spare and found no ticket. `false`: there is one now, look again.
    pub fn await_tickets(&self, shard: usize) -> bool {
        self.shared.idle.announce(shard, || self.shared.tickets.is_empty())
    }

    /// `shard` has no connection to spare any more. It may have been chosen to be woken meanwhile, so somebody else must
    /// look: the shard to wake instead, if tickets are there and one waits.
    #[must_use = "a ticket would wait beside a shard that sleeps"]
    pub fn no_longer_await(&self, shard: usize) -> Option<usize> {
        self.shared.idle.leave(shard, || self.shared.tickets.is_empty())
    }

    /// Whether `shard` is announced by [`HotRing::await_tickets`] and was not chosen to be woken since.
    pub fn is_awaited_by(&self, shard: usize) -> bool {
        self.shared.idle.is_waiting(shard)
    }

    /// `shard` has tickets to offer. `true`: somebody waits for them, or has connections, where `needy` says that `shard` has
    /// none to hope for. `false`: nobody does, and `shard` is woken when somebody begins to ([`HotRing::lenders`]).
    pub fn may_offer(&self, shard: usize, needy: bool) -> bool {
        let others_serve = || self.shared.serving.load(Ordering::Relaxed) & !(1 << shard) != 0;
        !self.shared.lenders.announce(shard, || !(self.shared.idle.anybody() || (needy && others_serve())))
    }

    /// `shard` has connections from now on, or has none any more. Where it has, [`HotRing::lenders`] are to be woken.
    pub fn serve(&self, shard: usize, serves: bool) {
        match serves {
            true => self.shared.serving.fetch_or(1 << shard, Ordering::Relaxed),
            false => self.shared.serving.fetch_and(!(1 << shard), Ordering::Relaxed),
        };
    }

    /// Whether `shard` is announced by [`HotRing::may_offer`] and was not woken since.
    pub fn is_offered_by(&self, shard: usize) -> bool {
        self.shared.lenders.is_waiting(shard)
    }

    /// Whether `shard` has said by [`HotRing::serve`] that it has connections.
    pub fn is_served_by(&self, shard: usize) -> bool {
        self.shared.serving.load(Ordering::Relaxed) & (1 << shard) != 0
    }

    /// Who is to be woken, all of them, because a shard has announced itself by [`HotRing::await_tickets`] or
    /// [`HotRing::serve`]: each has tickets to offer.
    pub fn lenders(&self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(|| self.shared.lenders.claim())
    }

    /// Tickets in the ring now.
    pub fn len(&self) -> usize {
        self.shared.tickets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shared.tickets.is_empty()
    }
}

impl<T> fmt::Debug for HotRing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotRing").field("tickets", &self.shared.tickets.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    #[test]
    fn a_full_crossing_gives_the_item_back() {
        let (sender, receiver) = crossing(2, &SleepFlag::new());
        assert_eq!(sender.push(1), Ok(Wake::NotNeeded));
        assert_eq!(sender.push(2), Ok(Wake::NotNeeded));
        assert_eq!(sender.push(3), Err(3));
        assert_eq!(receiver.pop(), Some(1));
        let mut rest = VecDeque::from([4, 5, 6]);
        assert_eq!(sender.push_all(&mut rest), Wake::NotNeeded);
        assert_eq!(rest, [5, 6]);
        assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some(2), Some(4), None));
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let flag = SleepFlag::new();
        let (sender, receiver) = crossing(8, &flag);
        assert!(flag.may_sleep(|| receiver.is_empty()));
        assert_eq!(sender.push(1), Ok(Wake::Needed));
        assert_eq!(sender.push(2), Ok(Wake::NotNeeded), "somebody wakes it already");
        assert!(!flag.may_sleep(|| receiver.is_empty()), "there is something to do");
        assert_eq!(sender.push(3), Ok(Wake::NotNeeded));
        while receiver.pop().is_some() {}
        assert!(flag.may_sleep(|| receiver.is_empty()));
        flag.awake();
        assert_eq!(sender.push(4), Ok(Wake::NotNeeded), "a timer woke it");
        let mut none: VecDeque<i32> = VecDeque::new();
        assert_eq!(sender.push_all(&mut none), Wake::NotNeeded);
    }

    #[test]
    fn a_ticket_wakes_one_shard_that_waits() {
        let ring = HotRing::new(2);
        assert!(ring.await_tickets(3) && ring.await_tickets(5));
        assert_eq!(ring.push('a'), Ok(Some(3)));
        assert_eq!(ring.push('b'), Ok(Some(5)));
        assert_eq!(ring.push('c'), Err('c'));
        assert!(!ring.await_tickets(3), "there is a ticket");
        assert_eq!(ring.pop(), Some('a'));
        assert_eq!(ring.no_longer_await(3), None, "nobody else waits");
        assert_eq!((ring.len(), ring.pop(), ring.pop(), ring.is_empty()), (1, Some('b'), None, true));
        assert!(ring.await_tickets(3));
        assert_eq!(ring.no_longer_await(3), None, "there is no ticket");
        assert_eq!(ring.push('d'), Ok(None));
        assert!(!ring.await_tickets(9));
        assert_eq!(ring.pop(), Some('d'));
        assert!(ring.await_tickets(3) && ring.await_tickets(9));
        assert_eq!(ring.push('e'), Ok(Some(3)));
        assert_eq!(ring.no_longer_await(3), Some(9), "the wake-up is passed on");
    }

    #[test]
    fn tickets_are_made_only_when_somebody_waits_and_whoever_waits_hears_of_lenders() {
        let ring = HotRing::<char>::new(2);
        assert!(!ring.may_offer(1, false) && !ring.may_offer(2, true), "nobody waits");
        assert!(ring.is_offered_by(1) && ring.is_offered_by(2) && !ring.is_offered_by(3));
        assert!(ring.await_tickets(3) && ring.is_awaited_by(3));
        assert_eq!(ring.lenders().collect::<Vec<_>>(), [1, 2]);
        assert!(ring.may_offer(1, false) && !ring.is_offered_by(1), "somebody waits");
        assert_eq!(ring.push('a'), Ok(Some(3)));
        assert!(!ring.is_awaited_by(3) && !ring.may_offer(2, true), "it is busy now");
        ring.serve(2, true);
        assert!(!ring.may_offer(2, true), "its own do not count");
        ring.serve(3, true);
        assert!(!ring.may_offer(1, false) && ring.may_offer(2, true), "busy is enough for who has no connection");
        ring.serve(3, false);
        assert!(!ring.may_offer(2, true) && ring.is_served_by(2) && !ring.is_served_by(3));
    }

    /// How many items each stress thread sends; miri takes its time.
    const ITEMS: usize = if cfg!(miri) { 200 } else { 50_000 };

    /// A thread that sleeps by parking and is woken through its crossing loses nothing and never sleeps beside work.
    #[test]
    fn stress_many_senders_and_a_receiver_that_sleeps() {
        const SENDERS: usize = 3;
        let flag = SleepFlag::new();
        let (sender, receiver) = crossing::<(usize, usize)>(64, &flag);
        let reader = thread::spawn(move || {
            let mut next = [0; SENDERS];
            let mut left = SENDERS * ITEMS;
            while left > 0 {
                while let Some((from, number)) = receiver.pop() {
                    assert_eq!(number, next[from], "each sender's items keep their order");
                    next[from] += 1;
                    left -= 1;
                }
                if left > 0 && flag.may_sleep(|| receiver.is_empty()) {
                    thread::park();
                    flag.awake();
                }
            }
        });
        let wakes = AtomicUsize::new(0);
        thread::scope(|scope| {
            for from in 0..SENDERS {
                let (sender, wakes, reader) = (sender.clone(), &wakes, reader.thread().clone());
                scope.spawn(move || {
                    for number in 0..ITEMS {
                        let mut item = (from, number);
                        let wake = loop {
                            match sender.push(item) {
                                Ok(wake) => break wake,
                                Err(back) => item = back,
                            }
                            thread::yield_now();
                        };
                        if wake == Wake::Needed {
                            wakes.fetch_add(1, Ordering::Relaxed);
                            reader.unpark();
                        }
                    }
                });
            }
        });
        reader.join().expect("the reader saw everything in order");
        assert!(wakes.into_inner() <= SENDERS * ITEMS);
    }

    /// Every ticket is taken once, by whichever shard; shards sleep when there is none.
    #[test]
    fn stress_tickets_between_shards() {
        const SHARDS: usize = 3;
        let (ring, taken) = (HotRing::<usize>::new(16), AtomicUsize::new(0));
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            let shards: Vec<_> = (0..SHARDS)
                .map(|shard| {
                    let (ring, taken, sum) = (ring.clone(), &taken, &sum);
                    scope.spawn(move || {
                        while taken.load(Ordering::SeqCst) < ITEMS {
                            match ring.pop() {
                                Some(ticket) => {
                                    sum.fetch_add(ticket, Ordering::Relaxed);
                                    taken.fetch_add(1, Ordering::SeqCst);
                                }
                                None if ring.await_tickets(shard) && taken.load(Ordering::SeqCst) < ITEMS => {
                                    thread::park()
                                }
                                None => {}
                            }
                        }
                    })
                })
                .collect();
            for ticket in 0..ITEMS {
                let mut back = ticket;
                let wake = loop {
                    match ring.push(back) {
                        Ok(wake) => break wake,
                        Err(full) => back = full,
                    }
                    thread::yield_now();
                };
                if let Some(shard) = wake {
                    shards[shard].thread().unpark();
                }
            }
            while taken.load(Ordering::SeqCst) < ITEMS {
                thread::yield_now();
            }
            shards.iter().for_each(|shard| shard.thread().unpark());
        });
        assert_eq!(sum.into_inner(), ITEMS * (ITEMS - 1) / 2);
    }
}

/// Run by `tests/loom`. The queue is modelled by one counter, written and read
/// as weakly as a queue may do it; sleeping is loom's `Notify`, whose wait without a notification is a found deadlock.
#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::sync::Notify;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    /// Every interleaving with at most so many preemptions: the failure that was found needs three.
    const PREEMPTIONS_MAX: usize = 3;

    fn explore(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(PREEMPTIONS_MAX);
        builder.check(model);
    }

    struct Model {
        items: AtomicUsize,
        waiters: Waiters,
        bells: [Notify; 2],
    }

    impl Model {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                items: AtomicUsize::new(0),
                waiters: Waiters::new(),
                bells: [Notify::new(), Notify::new()],
            })
        }

        fn publish(&self) {
            self.items.fetch_add(1, Ordering::Release);
            if let Some(who) = self.waiters.claim() {
                self.bells[who].notify();
            }
        }

        fn take(&self) -> bool {
            self.items.fetch_update(Ordering::AcqRel, Ordering::Acquire, |items| items.checked_sub(1)).is_ok()
        }

        fn is_empty(&self) -> bool {
            self.items.load(Ordering::Acquire) == 0
        }

        /// Takes so many items, sleeping whenever there is none; then leaves properly.
        fn consume(&self, who: usize, count: usize) {
            self.consume_and_vanish(who, count);
            if let Some(other) = self.waiters.leave(who, || self.is_empty()) {
                self.bells[other].notify();
            }
        }

        fn consume_and_vanish(&self, who: usize, count: usize) {
            let mut left = count;
            while left > 0 {
                if self.take() {
                    left -= 1;
                } else if self.waiters.announce(who, || self.is_empty()) {
                    self.bells[who].wait();
                }
            }
        }
    }

    #[test]
    fn loom_a_sleeper_is_never_left_beside_an_item() {
        explore(|| {
            let model = Model::new();
            let publisher = thread::spawn({
                let model = model.clone();
                move || model.publish()
            });
            model.consume(0, 1);
            publisher.join().expect("published");
        });
    }

    #[test]
    fn loom_two_publishers_wake_one_sleeper_for_both_items() {
        explore(|| {
            let model = Model::new();
            let publishers = [(); 2].map(|()| {
                let model = model.clone();
                thread::spawn(move || model.publish())
            });
            model.consume(0, 2);
            publishers.into_iter().for_each(|publisher| publisher.join().expect("published"));
        });
    }

    /// Two publications, and two who take one each.
    fn two_and_two(consume: fn(&Model, usize)) {
        explore(move || {
            let model = Model::new();
            let sleeper = thread::spawn({
                let model = model.clone();
                move || consume(&model, 1)
            });
            let publisher = thread::spawn({
                let model = model.clone();
                move || {
                    model.publish();
                    model.publish();
                }
            });
            consume(&model, 0);
            publisher.join().expect("published");
            sleeper.join().expect("took its item");
        });
    }

    #[test]
    fn loom_two_sleepers_share_two_items() {
        two_and_two(|model, who| model.consume(who, 1));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn loom_who_leaves_without_passing_a_wake_up_on_leaves_a_sleeper_behind() {
        two_and_two(|model, who| model.consume_and_vanish(who, 1));
    }

    /// One who pushes only when somebody waits, and one who waits: whoever comes second wakes the other.
    #[test]
    fn loom_a_lender_and_a_borrower_always_meet() {
        explore(|| {
            let model = Model::new();
            let lenders = Arc::new(Waiters::new());
            let lender = thread::spawn({
                let (model, lenders) = (model.clone(), lenders.clone());
                move || {
                    while lenders.announce(1, || !model.waiters.anybody()) {
                        model.bells[1].wait();
                    }
                    model.publish();
                }
            });
            while !model.take() {
                if model.waiters.announce(0, || model.is_empty()) {
                    while let Some(who) = lenders.claim() {
                        model.bells[who].notify();
                    }
                    model.bells[0].wait();
                }
            }
            lender.join().expect("lent");
        });
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn loom_without_the_fences_a_sleeper_is_left_behind() {
        explore(|| {
            let model = Model::new();
            let publisher = thread::spawn({
                let model = model.clone();
                move || {
                    model.items.store(1, Ordering::Release);
                    if model.waiters.waiting.load(Ordering::Relaxed) != 0 {
                        model.bells[0].notify();
                    }
                }
            });
            model.waiters.waiting.store(1, Ordering::Relaxed);
            if model.is_empty() {
                model.bells[0].wait();
            }
            publisher.join().expect("published");
        });
    }
}
