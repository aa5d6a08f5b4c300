//! Counters: one line of cells for each shard, written by that shard alone with plain relaxed stores, read by anybody.
//!
//! A shard holds its [`Tally`]; the control plane holds the [`Board`] with everybody's cells. Nothing is locked and no line
//! of cache is written by two threads. The set of counters is fixed when the program is built, so metrics cannot grow with
//! what peers send (S-017).

use crossbeam::utils::CachePadded;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a value only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the server runs.
    Counter,
    /// Goes up and down.
    Gauge,
}

macro_rules! counters {
    ($($name:ident $text:literal $kind:ident: $help:literal;)+) => {
        /// One thing that each shard counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum Counter { $(#[doc = $help] $name),+ }

        impl Counter {
            /// Every one, in the order in which they are shown.
            pub const ALL: &'static [Counter] = &[$(Counter::$name),+];

            /// The name in results; metrics put `ringpost_` before it and, for counters, `_total` behind it.
            pub fn name(self) -> &'static str { match self { $(Counter::$name => $text),+ } }

            /// Whether it only grows.
            pub fn kind(self) -> Kind { match self { $(Counter::$name => Kind::$kind),+ } }

            /// What it counts.
            pub fn help(self) -> &'static str { match self { $(Counter::$name => $help),+ } }
        }
    };
}

counters! {
    // receiving
    ConnectionsAccepted "connections_accepted" Counter: "Connections accepted.";
    ConnectionsRefused "connections_refused" Counter: "Connections refused: caps, shortage, drain.";
    ConnectionsIn "connections_in" Gauge: "Connections from clients, now.";
    MessagesAccepted "messages_accepted" Counter: "Messages answered with 250.";
    MessagesDeferred "messages_deferred" Counter: "Messages answered with 4yz.";
    MessagesRefused "messages_refused" Counter: "Messages answered with 5yz.";
    RecipientsAccepted "recipients_accepted" Counter: "Recipients answered with 250.";
    RecipientsRefused "recipients_refused" Counter: "Recipients answered with 4yz or 5yz.";
    ContentIn "content_in_bytes" Counter: "Octets of content of accepted messages.";
    CommandErrors "command_errors" Counter: "Commands in error from clients.";
    Violations "violations" Counter: "Sessions ended for what the client sent.";
    SessionsEmpty "sessions_empty" Counter: "Sessions of clients that named no recipient (S-021).";
    EarlyTalkers "early_talkers" Counter: "Clients that talked before the greeting, where it is held back.";
    TimeoutsIn "timeouts_in" Counter: "Sessions ended because the client was silent.";
    BrokenIn "connections_broken_in" Counter: "Connections that a client broke.";
    AcknowledgeUs "acknowledge_us" Counter: "Microseconds from the last octet of a message to its 250, in sum.";
    // spool
    Commits "commits" Counter: "Batches made durable.";
    CommitUs "commit_us" Counter: "Microseconds that batches took to become durable, in sum.";
    CommitErrors "commit_errors" Counter: "Batches that failed.";
    Cancels "cancels" Counter: "Records cancelled after a failed write.";
    Settles "settles" Counter: "Outcomes that became durable.";
    SettlesWaiting "settles_waiting" Gauge: "Outcomes not yet durable: what window W1 can hold.";
    SettlesWaitingMax "settles_waiting_max" Gauge: "The most of them at a time since the start.";
    Segments "spool_segments" Gauge: "Segments of the spool.";
    SegmentsRewritten "spool_segments_rewritten" Counter: "Segments given up because little was live in them, and that was written elsewhere.";
    RewrittenBytes "spool_rewritten_bytes" Counter: "Octets written again out of such segments.";
    RewritePauseMax "spool_rewrite_pause_max_us" Gauge: "The longest that one write of it took since the start, while others waited, in us.";
    HeadsFailed "spool_heads_failed" Gauge: "New segments in a row that the disk did not let begin.";
    SpoolShort "spool_short" Gauge: "Shards that found no room for a further segment of the spool.";
    SpoolFree "spool_free_bytes" Gauge: "Octets free on the spool's file system.";
    Damage "spool_damage" Counter: "Damage found: places on disk that were set aside, messages that changed in memory.";
    // queues
    Queued "queued" Gauge: "Messages waiting, once for each next hop.";
    QueuedBytes "queued_bytes" Gauge: "Octets of messages that are not yet settled, once for each next hop.";
    Sending "sending" Gauge: "Messages under way: what window W5 can hold.";
    Attempts "attempts" Counter: "Tries of a message at a next hop.";
    Delivered "recipients_delivered" Counter: "Recipients that a next hop took.";
    Deferred "recipients_deferred" Counter: "Recipients that a next hop put off.";
    DsnOwed "recipients_failed_dsn_owed" Counter: "Recipients that failed for good and whose sender is owed a notice; those of earlier runs too.";
    FailedUnowed "recipients_failed_unowed" Counter: "Recipients that failed for good of messages without a sender, or whose sender wants to hear nothing: no notice is owed.";
    Reports "reports_made" Counter: "Reports made of such notices, and queued.";
    Expired "recipients_expired" Counter: "Of both, given up because their time was over.";
    Removed "recipients_removed" Counter: "Recipients of messages that an operator took out of a queue; those whose senders are told are failed too.";
    Unknown "outcomes_unknown" Counter: "Messages whose outcome at the next hop is unknown (W5).";
    NotAttempted "not_attempted" Counter: "Messages put back because an earlier one spoiled the connection.";
    Unreadable "messages_unreadable" Counter: "Tries that ended because a message's content could not be read from the spool.";
    Rerouted "messages_rerouted" Counter: "Messages routed again because no route named their next hop any more.";
    Redelivered "redelivered_after_restart" Counter: "Messages taken up again after a start.";
    ContentOut "content_out_bytes" Counter: "Octets of content that a next hop took.";
    // sending
    ConnectionsMade "connections_made" Counter: "Connections made to next hops.";
    ConnectFailures "connect_failures" Counter: "Connections to next hops that failed.";
    ConnectionsOut "connections_out" Gauge: "Connections to next hops, now.";
    TimeoutsOut "timeouts_out" Counter: "Sessions ended because the next hop was silent.";
    RefusedOut "sessions_refused_out" Counter: "Sessions that a next hop refused: the greeting, EHLO or every MAIL, or 421 in the middle.";
    ProtocolOut "protocol_errors_out" Counter: "Sessions ended because the next hop did not speak SMTP.";
    LoopsOut "loops_out" Counter: "Sessions ended because the next hop was this server itself.";
    BareLfReplies "bare_lf_reply_lines" Counter: "Reply lines of next hops that ended in LF alone.";
    BrokenOut "connections_broken_out" Counter: "Connections that a next hop broke while they were of use.";
    // crossings
    Lent "messages_lent" Counter: "Messages offered to connections of other shards.";
    Borrowed "messages_borrowed" Counter: "Messages of any shard taken from a hot ring.";
    CrossingsSent "crossings_sent" Counter: "Things sent to other shards.";
    CrossingsFull "crossings_full" Counter: "Times that another shard's crossing was full.";
    // the machine
    Syscalls "syscalls" Counter: "System calls of the I/O layer.";
    RequestsWaited "ring_requests_waited" Counter: "Requests to io_uring that waited because its submission queue was full.";
    CompletionsOverflowed "ring_completions_overflowed" Counter: "Turns that found the completion queue of io_uring overflowed; nothing is lost.";
    CopiedBytes "copied_bytes" Counter: "Octets of content copied in user space.";
    Allocations "allocations" Counter: "Allocations; counted in a build with count-alloc only.";
    SocketIn "socket_in_bytes" Counter: "Octets received.";
    SocketOut "socket_out_bytes" Counter: "Octets sent.";
    Writes "writes" Counter: "Writes to files.";
    StableWrites "stable_writes" Counter: "Of those, writes that are durable when they end.";
    WrittenBytes "written_bytes" Counter: "Octets written to files.";
    MemoryUsed "memory_used_bytes" Gauge: "Octets of the memory budget in use.";
    MemoryStep "memory_step" Gauge: "Steps taken because memory is short: 1 drops bodies, 2 refuses mail, 3 stops reading.";
    // storing
    Stored "messages_stored" Counter: "Messages put into mailboxes.";
    StoreErrors "store_errors" Counter: "Messages that a mailbox could not take.";
}

const COUNT: usize = Counter::ALL.len();

#[derive(Debug)]
struct Cells(CachePadded<[AtomicU64; COUNT]>);

/// Everybody's cells, for reading.
#[derive(Debug, Clone)]
pub struct Board {
    shards: Vec<Arc<Cells>>,
}

/// What one shard has counted, all of one moment of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts([u64; COUNT]);

impl Counts {
    /// One of them.
    pub fn read(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

/// One shard's cells, for writing. It may be sent to its thread once and is then that thread's alone.
#[derive(Debug)]
pub struct Tally {
    cells: Arc<Cells>,
    /// Not `Sync`: a second writer would lose counts.
    alone: PhantomData<Cell<()>>,
}

impl Board {
    /// Cells for so many shards, and each shard's tally.
    pub fn new(shards: usize) -> (Board, Vec<Tally>) {
        let cells = || Arc::new(Cells(CachePadded::new([const { AtomicU64::new(0) }; COUNT])));
        let board = Board { shards: (0..shards).map(|_| cells()).collect() };
        let tallies = board.shards.iter().map(|cells| Tally { cells: cells.clone(), alone: PhantomData }).collect();
        (board, tallies)
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// One shard's count; 0 for a shard that is not there.
    pub fn read(&self, shard: usize, counter: Counter) -> u64 {
        self.shards.get(shard).map_or(0, |cells| cells.of(counter).load(Ordering::Relaxed))
    }

    /// The sum over all shards. Each shard's part is as of its own moment, and of another one for each counter ([`Tally::counts`]).
    pub fn sum(&self, counter: Counter) -> u64 {
        (0..self.shards.len()).fold(0, |sum, shard| sum.wrapping_add(self.read(shard, counter)))
    }
}

impl Tally {
    /// Counts `by` more.
    pub fn add(&self, counter: Counter, by: u64) {
        let cell = self.cells.of(counter);
        // A load and a store, not a locked addition: nobody else writes.
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// Counts one more.
    pub fn one(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Sets a gauge, or a counter that is kept elsewhere.
    pub fn set(&self, counter: Counter, to: u64) {
        self.cells.of(counter).store(to, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self, counter: Counter) -> u64 {
        self.cells.of(counter).load(Ordering::Relaxed)
    }

    /// All that was counted so far: what moved from one to another is in one of them.
    pub fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|index| self.cells.0[index].load(Ordering::Relaxed)))
    }
}

impl Cells {
    fn of(&self, counter: Counter) -> &AtomicU64 {
        // Every `Counter` is the index of one of the `COUNT` cells.
        &self.0[counter as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_counts_alone_and_the_board_reads_all() {
        let (board, tallies) = Board::new(3);
        let threads: Vec<_> = tallies
            .into_iter()
            .enumerate()
            .map(|(shard, tally)| {
                std::thread::spawn(move || {
                    for _ in 0..1_000 {
                        tally.add(Counter::MessagesAccepted, shard as u64 + 1);
                        tally.one(Counter::Commits);
                    }
                    tally.set(Counter::Queued, 7);
                    tally.read(Counter::Commits)
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), 1_000);
        }
        assert_eq!(board.sum(Counter::MessagesAccepted), 6_000);
        assert_eq!(board.read(2, Counter::MessagesAccepted), 3_000);
        assert_eq!(board.sum(Counter::Queued), 21);
        assert_eq!(board.read(3, Counter::Commits), 0, "no such shard");
        assert_eq!(board.sum(Counter::Delivered), 0);
    }

    #[test]
    fn s_017_names_are_distinct_and_plain() {
        let mut names: Vec<&str> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
            assert!(counter.name().bytes().all(|octet| octet.is_ascii_lowercase() || b"_0123456789".contains(&octet)));
            assert!(!counter.name().ends_with("_total"));
        }
    }

    #[test]
    fn cells_of_two_shards_share_no_line_of_cache() {
        let (board, _tallies) = Board::new(2);
        let [a, b] = [0, 1].map(|shard: usize| std::ptr::from_ref(&board.shards[shard].0).addr());
        assert!(a.is_multiple_of(128) && b.is_multiple_of(128));
        assert!(a.abs_diff(b) >= size_of::<Cells>());
    }
}
