//! What a sink's shards and its control side share. Shards publish counts and hand over blocks of ledger entries; the
//! control side replaces the plan of faults, asks for pauses and for the end, and wakes the shards. Nothing here is
//! touched on a message's path but the shard's own counters.

use super::fault::plan::Plan;
use super::fault::{Fault, Where};
use crate::ledger::Delivery;
use engine::wire::{Span, Tick};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

/// Ledger entries that a sink keeps, at most, if not told otherwise: 2 GiB. Beyond it deliveries are counted as unrecorded, the
/// ledger says so ([`crate::ledger::FLAG_UNRECORDED`]), and no account that rests on it is valid.
pub const LEDGER_ENTRIES_MAX: usize = 64 << 20;

/// How long the control side waits for a shard that it woke.
const SHARD_PATIENCE: Duration = Duration::from_secs(5);

/// Counts of one shard, written by it alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardCounts {
    pub(super) connections: AtomicU64,
    pub(super) connections_open: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) recipients: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) reports: AtomicU64,
    pub(super) unstamped: AtomicU64,
    pub(super) content_differs: AtomicU64,
    pub(super) silent: AtomicU64,
    pub(super) faults_struck: AtomicU64,
    pub(super) unrecorded: AtomicU64,
    pub(super) syscalls: AtomicU64,
    pub(super) cpu_ns: AtomicU64,
}

impl ShardCounts {
    /// Adds `count`: a plain load and store, because nobody else writes.
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }
}

/// What a sink did since it started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// When this was read: CLOCK_MONOTONIC in nanoseconds.
    pub at_ns: u64,
    /// When the sink started.
    pub started_ns: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Of those, still open.
    pub connections_open: u64,
    /// Messages taken.
    pub messages: u64,
    /// (Message, recipient) pairs taken.
    pub recipients: u64,
    /// Octets of content taken.
    pub bytes: u64,
    /// Of the messages: reports, with a null reverse-path.
    pub reports: u64,
    /// Of the messages: without a stamp of ours.
    pub unstamped: u64,
    /// Of the messages: with a content that differs from what the stamp says (I-4).
    pub content_differs: u64,
    /// Of the messages: whose sender was not told.
    pub silent: u64,
    /// Faults that struck.
    pub faults_struck: u64,
    /// Pairs that found no room in the ledger.
    pub unrecorded: u64,
    /// System calls of the shards.
    pub syscalls: u64,
    /// CPU time of each shard's thread, user and system, in nanoseconds.
    pub shard_cpu_ns: Vec<u64>,
    /// Pauses: from, until; CLOCK_MONOTONIC in nanoseconds.
    pub pauses_ns: Vec<(u64, u64)>,
}

type Wake = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Kept {
    blocks: Vec<Vec<Delivery>>,
    entries: usize,
    unrecorded: u64,
    answered: Vec<u64>,
}

/// The shared part of a sink.
pub struct Shared {
    pub(super) started: Tick,
    entries_max: usize,
    plan: Mutex<Arc<Plan>>,
    paused_until: AtomicU64,
    pauses: Mutex<Vec<(Tick, Tick)>>,
    stop: AtomicBool,
    counts: Vec<ShardCounts>,
    wakes: Vec<OnceLock<Wake>>,
    asked: AtomicU64,
    kept: Mutex<Kept>,
    answered: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("shards", &self.counts.len()).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these; if something did, the process is ending anyway.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(shards: usize, faults: Vec<Fault>, entries_max: usize, started: Tick) -> Arc<Self> {
        Arc::new(Self {
            started,
            entries_max,
            plan: Mutex::new(Plan::new(faults)),
            paused_until: AtomicU64::new(0),
            pauses: Mutex::default(),
            stop: AtomicBool::new(false),
            counts: (0..shards).map(|_| ShardCounts::default()).collect(),
            wakes: (0..shards).map(|_| OnceLock::new()).collect(),
            asked: AtomicU64::new(0),
            kept: Mutex::new(Kept { answered: vec![0; shards], ..Kept::default() }),
            answered: Condvar::new(),
        })
    }

    // --- the shard's side ---

    pub(super) fn counts_of(&self, shard: usize) -> &ShardCounts {
        &self.counts[shard]
    }

    pub(super) fn register(&self, shard: usize, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wakes[shard].set(Box::new(wake));
    }

    pub(super) fn plan(&self) -> Arc<Plan> {
        locked(&self.plan).clone()
    }

    pub(super) fn paused_until(&self) -> Tick {
        Tick(self.paused_until.load(Ordering::Acquire))
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Takes over a shard's entries; `block` is left empty, with its memory.
    pub(super) fn keep(&self, shard: usize, block: &mut Vec<Delivery>) {
        if block.is_empty() {
            return;
        }
        let mut kept = locked(&self.kept);
        if kept.entries + block.len() > self.entries_max {
            kept.unrecorded += block.len() as u64;
            ShardCounts::add(&self.counts[shard].unrecorded, block.len() as u64);
        } else {
            kept.entries += block.len();
            kept.blocks.push(block.clone());
        }
        block.clear();
    }

    /// Everything that was asked for up to now is done by this shard.
    pub(super) fn answer(&self, shard: usize, asked: u64) {
        let mut kept = locked(&self.kept);
        kept.answered[shard] = kept.answered[shard].max(asked);
        drop(kept);
        self.answered.notify_all();
    }

    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// A fault stops the whole sink from `now`.
    pub(super) fn pause_from(&self, now: Tick, span: Span) {
        let until = now + span;
        if self.paused_until.fetch_max(until.0, Ordering::AcqRel) < until.0 {
            locked(&self.pauses).push((now, until));
        }
        self.wake_all();
    }

    // --- the control side ---

    fn wake_all(&self) {
        self.wakes.iter().filter_map(OnceLock::get).for_each(|wake| wake());
    }

    /// Has every shard look at what changed; `false` when one did not answer in time.
    fn ask(&self) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake_all();
        let kept = locked(&self.kept);
        let waited = self
            .answered
            .wait_timeout_while(kept, SHARD_PATIENCE, |kept| kept.answered.iter().any(|&answered| answered < asked));
        !waited.map_or(true, |(_, timeout)| timeout.timed_out())
    }

    pub(super) fn set_faults(&self, faults: Vec<Fault>) -> bool {
        *locked(&self.plan) = Plan::new(faults);
        self.ask()
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        self.plan().faults().cloned().collect()
    }

    pub(super) fn pause(&self, now: Tick, span: Span) -> bool {
        self.pause_from(now, span);
        self.ask()
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake_all();
    }

    pub(super) fn ledger(&self) -> (Vec<Delivery>, bool) {
        let whole = self.ask();
        (self.kept(), whole)
    }

    /// Everything handed over so far, without asking anybody: complete when the shards have ended.
    pub(super) fn kept(&self) -> Vec<Delivery> {
        let kept = locked(&self.kept);
        let mut all = kept.blocks.concat();
        all.extend((kept.unrecorded > 0).then(|| Delivery::gap(kept.unrecorded, self.started)));
        all
    }

    /// What the shards published; asks them first, so that it is as of now.
    pub(super) fn counts(&self, now: Tick) -> Counts {
        self.ask();
        self.published(now)
    }

    /// What the shards published last.
    pub(super) fn published(&self, now: Tick) -> Counts {
        let sum = |of: fn(&ShardCounts) -> &AtomicU64| -> u64 {
            self.counts.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
        };
        Counts {
            at_ns: now.0,
            started_ns: self.started.0,
            connections: sum(|shard| &shard.connections),
            connections_open: sum(|shard| &shard.connections_open),
            messages: sum(|shard| &shard.messages),
            recipients: sum(|shard| &shard.recipients),
            bytes: sum(|shard| &shard.bytes),
            reports: sum(|shard| &shard.reports),
            unstamped: sum(|shard| &shard.unstamped),
            content_differs: sum(|shard| &shard.content_differs),
            silent: sum(|shard| &shard.silent),
            faults_struck: sum(|shard| &shard.faults_struck),
            unrecorded: sum(|shard| &shard.unrecorded),
            syscalls: sum(|shard| &shard.syscalls),
            shard_cpu_ns: self.counts.iter().map(|shard| shard.cpu_ns.load(Ordering::Relaxed)).collect(),
            pauses_ns: locked(&self.pauses).iter().map(|(from, until)| (from.0, until.0)).collect(),
        }
    }
}

/// Whether the plan needs a look at the clock: something in it begins or ends by time without an occasion.
pub(super) fn needs_clock(plan: &Plan) -> bool {
    use super::fault::Action;
    plan.faults().any(|fault| {
        let timed = fault.select.from.is_some() || fault.select.until.is_some();
        timed && fault.at == Where::Accept && fault.action == Action::Refuse
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::FLAG_UNRECORDED;

    fn entry(seq: u64) -> Delivery {
        Delivery { run: 1, recipient: 2, seq, at: Tick(3), bytes: 4, flags: 0 }
    }

    #[test]
    fn blocks_of_all_shards_make_one_ledger_and_counts_add_up() {
        let shared = Shared::new(2, Vec::new(), 3, Tick(0));
        let mut block = vec![entry(1), entry(2)];
        shared.keep(0, &mut block);
        assert!(block.is_empty());
        shared.keep(1, &mut vec![entry(3)]);
        ShardCounts::add(&shared.counts_of(0).messages, 2);
        ShardCounts::add(&shared.counts_of(1).messages, 1);
        let copy = shared.clone();
        for shard in 0..2 {
            // A shard answers as soon as it is woken.
            let copy = copy.clone();
            shared.register(shard, move || copy.answer(shard, copy.asked()));
        }
        let (ledger, whole) = shared.ledger();
        assert!(whole);
        assert_eq!(ledger.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(shared.counts(Tick(9)).messages, 3);
        shared.keep(1, &mut vec![entry(4), entry(5)]);
        let (ledger, _) = shared.ledger();
        assert_eq!(
            ledger.last().map(|gap| (gap.is(FLAG_UNRECORDED), gap.seq)),
            Some((true, 2)),
            "a full ledger says so"
        );
        assert_eq!((ledger.len(), shared.counts(Tick(9)).unrecorded), (4, 2));
    }

    #[test]
    fn a_pause_is_written_down_and_never_shortened() {
        let shared = Shared::new(0, Vec::new(), 0, Tick(0));
        assert!(shared.pause(Tick(1_000), Span(500)));
        assert!(shared.pause(Tick(1_100), Span(100)));
        assert_eq!(shared.paused_until(), Tick(1_500));
        assert_eq!(shared.published(Tick(0)).pauses_ns, [(1_000, 1_500)]);
    }
}
