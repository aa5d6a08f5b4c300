//! The hub: takes responsibility for messages, keeps them, hands them on. One per shard.
//!
//! A message's way: `accept` appends it to the open batch; `commit` writes the batch and, once it is durable, answers and
//! queues; `deliver` takes from the queues, sends and settles. All three are tasks of one thread that share this state;
//! nothing is borrowed across a wait.

mod accept;
mod attempt;
mod commit;
mod deliver;
mod dsn;
#[cfg(feature = "fail-points")]
mod dying;
mod enqueue;
mod exchange;
mod failures;
mod load;
mod messages;
mod notice;
mod quarantine;
mod recover;
mod relocate;
mod report;
mod reroute;
mod rewrite;
mod segments;
mod settle;
mod share;
mod unread;
mod viewer;

use super::ids::MessageIds;
use super::inlet::{Handle, Inlet};
use super::short::Short;
use super::signal::{Alarm, Signal};
use super::trace::Tracer;
use crate::io::driver::Driver;
use crate::queue::{self, Queues};
use crate::roles::hub::HubPolicy;
use crate::route::Snapshot;
use crate::settings::{Durability, Profile, Settings};
use crate::smtp::server::Slot;
use crate::spool::{self, FileId, Log, LogOptions, Numbers, RecordId, Ticket};
use crate::sys::slice::Pool;
use crate::track::counters::Tally;
use crate::wire::{Span, Tick};
pub use accept::PIECE_BYTES_MAX;
use accept::Stalled;
use commit::Doubt;
use enqueue::{Caps, Routing};
pub use exchange::Exchange;
use messages::Messages;
pub use recover::{Left, inspect, read_spool, recover};
use segments::Segment;
use settle::{Unsettled, Unsynced};
use share::Share;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// A connection to a next hop: the serial of its `ConnId`, and what wakes it.
type Link<D> = (u32, Handle<D>);

/// Who waits for a batch.
struct Waiting<D: Driver> {
    ticket: Ticket,
    inlet: Rc<Inlet<D>>,
    slot: Slot,
    /// The message in memory.
    message: u32,
    /// When its last octet was there.
    since: Tick,
}

/// What a hub is made of, besides its driver.
pub struct HubParts<D: Driver> {
    /// What it was told.
    pub settings: Arc<Settings>,
    /// Its number, and how many there are.
    pub shard: (u32, u32),
    /// Memory for content, shared with the others.
    pub pool: Pool,
    /// Its counters.
    pub tally: Rc<Tally>,
    /// The spool's folder; `None` in durability `none`.
    pub dir: Option<D::Dir>,
    /// Whether segments are opened for direct I/O.
    pub direct: bool,
    /// Where mail goes.
    pub routes: Arc<Snapshot>,
    /// The first numbers for segments and for files that no earlier run used.
    pub next: (u64, u32),
    /// What it has in common with the hubs of other shards, where there are any.
    pub exchange: Option<Arc<Exchange>>,
}

/// One shard's hub.
pub struct Hub<D: Driver> {
    driver: D,
    settings: Arc<Settings>,
    shards: u32,
    pool: Pool,
    tally: Rc<Tally>,
    policy: HubPolicy,
    /// Replies show the message's own id (profile `exchange`).
    shows_message_ids: bool,

    dir: Option<D::Dir>,
    direct: bool,
    log: RefCell<Log>,
    files: RefCell<BTreeMap<FileId, Segment<D>>>,
    next_file: Cell<u32>,
    /// Something is to be written soon.
    commit: Signal,
    /// The log may want a file.
    segments: Signal,
    rewriting: rewrite::Rewriting,
    waiting: RefCell<VecDeque<Waiting<D>>>,
    stalled: RefCell<VecDeque<Stalled<D>>>,
    doubts: RefCell<Vec<Doubt<D>>>,

    messages: RefCell<Messages>,
    routing: RefCell<Routing>,
    queues: RefCell<Queues>,
    /// The queues' next timer may have moved.
    timer: Signal,
    /// Connections to next hops, by the index of their `ConnId`.
    links: RefCell<Vec<Option<Link<D>>>>,
    client: deliver::Clients,

    unsettled: RefCell<VecDeque<Unsettled>>,
    unsynced: RefCell<Unsynced>,
    /// Damaged places that were put aside, by record and offset.
    aside: RefCell<BTreeSet<(RecordId, u64)>>,
    /// How short memory was.
    short: Short,
    /// Messages sent from memory since one was compared with what was received.
    sampled: Cell<u32>,
    /// Entries that wait for their outcomes to be durable.
    settling: RefCell<VecDeque<(Ticket, queue::EntryId)>>,
    /// An outcome was written down that no batch has taken yet.
    settle_due: Cell<bool>,
    last_settle: Cell<Ticket>,
    /// Outcomes up to this ticket are durable.
    settled_upto: Cell<Ticket>,
    settled: Signal,
    notices: RefCell<notice::Notices>,
    /// Notices wait for memory, or for what their messages' records say.
    owed: Signal,
    reports: dsn::Reports,

    /// Messages being read back.
    loading: Cell<u32>,
    reroute: reroute::Reroute,
    unread: unread::Unread,
    caps: Caps,
    /// Work shared with other shards.
    share: Option<Share>,

    trace: Tracer,
    ids: MessageIds,
    /// No new deliveries begin.
    draining: Cell<bool>,
}

impl<D: Driver> Hub<D> {
    /// A hub with an empty log.
    pub fn new(driver: D, parts: HubParts<D>) -> Rc<Self> {
        let HubParts {
            settings,
            shard: (shard, shards),
            pool,
            tally,
            dir,
            direct,
            routes,
            next: (next_number, next_file),
            exchange,
        } = parts;
        let share = exchange.map(|exchange| Share::new(exchange, shard as usize));
        let caps =
            Caps { per_hop_max: settings.delivery.connections_per_hop_max, shard, shards, shared: share.is_some() };
        let mut queues = Queues::new(queue::Options {
            sheds_content: settings.server.durability != Durability::None,
            lent_max: if share.is_some() { exchange::LENT_MAX } else { 0 },
            ..queue_options(&settings).share_of(shards)
        });
        let policy = HubPolicy::new(&settings, routes.clone(), pool.budget().clone());
        let routing = Routing::of(routes, &mut queues, &caps, driver.now());
        Rc::new(Self {
            policy,
            shows_message_ids: settings.profile == Profile::Exchange,
            client: deliver::Clients::of(&settings),
            log: RefCell::new(new_log(&settings, (shard, shards), next_number, &pool)),
            files: RefCell::default(),
            next_file: Cell::new(next_file + shard),
            commit: Signal::default(),
            segments: Signal::default(),
            rewriting: rewrite::Rewriting::default(),
            waiting: RefCell::default(),
            stalled: RefCell::default(),
            doubts: RefCell::default(),
            messages: RefCell::default(),
            routing: RefCell::new(routing),
            queues: RefCell::new(queues),
            timer: Signal::default(),
            links: RefCell::default(),
            unsettled: RefCell::default(),
            unsynced: RefCell::default(),
            aside: RefCell::default(),
            short: Short::default(),
            sampled: Cell::new(0),
            settling: RefCell::default(),
            settle_due: Cell::new(false),
            last_settle: Cell::new(Ticket(0)),
            settled_upto: Cell::new(Ticket(0)),
            settled: Signal::default(),
            notices: RefCell::default(),
            owed: Signal::default(),
            reports: dsn::Reports::default(),
            loading: Cell::new(0),
            reroute: reroute::Reroute::default(),
            unread: unread::Unread::new(queue_options(&settings).queue_ladder),
            caps,
            share,
            trace: Tracer::new(&settings),
            ids: MessageIds::new(&driver),
            draining: Cell::new(false),
            driver,
            settings,
            shards,
            pool,
            tally,
            dir,
            direct,
        })
    }

    /// Starts the tasks that commit, bring segments, and keep the queues' time.
    pub fn start(self: &Rc<Self>) {
        self.driver.spawn(commit::run(self.clone()));
        self.driver.spawn(commit::settle_timer(self.clone()));
        self.driver.spawn(segments::provide(self.clone()));
        self.driver.spawn(keep_time(self.clone()));
        self.driver.spawn(reroute::run(self.clone()));
        self.driver.spawn(unread::run(self.clone()));
        self.driver.spawn(notice::run(self.clone()));
        if self.settings.delivery.reports {
            self.driver.spawn(dsn::run(self.clone()));
        }
        self.driver.spawn(rewrite::run(self.clone()));
        if self.share.is_some() {
            self.install_rings(self.routing.borrow().hops());
            self.driver.spawn(share::lend(self.clone()));
        }
        self.run_actions();
    }

    /// Waits until there is a segment to write to, at most for `within`: a disk that is full does not keep a server from
    /// starting.
    pub async fn ready(&self, within: Span) {
        let by = self.driver.now() + within;
        while !self.log.borrow().has_segment() && self.driver.now() < by {
            self.driver.sleep(Span::millis(1)).await;
        }
    }

    /// Closes up to `most` connections to next hops that nothing uses (F-038). How many it was.
    pub fn shed_idle(self: &Rc<Self>, most: usize) -> usize {
        let shed = self.queues.borrow_mut().shed_idle(most);
        self.run_actions();
        shed
    }

    /// Writes down what is known and waits until it is on disk, at the latest until `by`.
    pub async fn drain(self: &Rc<Self>, by: Tick) {
        self.draining.set(true);
        self.leave_rings();
        self.run_actions();
        self.commit.raise();
        let busy = || {
            !self.waiting.borrow().is_empty()
                || !self.stalled.borrow().is_empty()
                || !self.can_settle()
                || self.log.borrow().pending()
                || self.log.borrow().is_writing()
                || self.queues.borrow().hops().any(|(_, hop)| hop.sending > 0)
                || self.share.as_ref().is_some_and(|share| share.borrowed.get() > 0)
        };
        while busy() && self.driver.now() < by {
            self.commit.raise();
            self.driver.sleep(Span::millis(1)).await;
        }
        if !busy() && self.settings.server.durability == Durability::Os && self.sync_segments(by).await {
            self.log.borrow_mut().close();
            let busy = || self.log.borrow().pending() || self.log.borrow().is_writing();
            while busy() && self.driver.now() < by {
                self.commit.raise();
                self.driver.sleep(Span::millis(1)).await;
            }
            self.sync_segments(by).await;
        }
    }

    /// What the operating system was given is on the disk then (F-010, F-013). Where it is not, no footer may say that all
    /// is well.
    async fn sync_segments(&self, by: Tick) -> bool {
        let files: Vec<D::File> = self.files.borrow().values().map(|segment| segment.file.clone()).collect();
        for file in files {
            if self.driver.now() >= by {
                return false;
            }
            if let Err(error) = self.driver.sync(&file).await {
                tracing::error!(cause = "spool", %error, "a segment cannot be synced; a power cut may take mail with it");
                return false;
            }
        }
        true
    }
}

/// The queues' timers.
async fn keep_time<D: Driver>(hub: Rc<Hub<D>>) {
    let mut alarm = Alarm::new(hub.driver.clone());
    loop {
        let next = hub.queues.borrow().next_timer();
        if alarm.wait(&hub.timer, next).await {
            hub.queues.borrow_mut().on_timer(hub.driver.now());
            hub.run_actions();
        }
    }
}

/// Whether the data folder takes direct I/O: tried with a file, since what a file system says of itself may be emulated.
pub async fn takes_direct<D: Driver>(driver: &D, dir: &D::Dir, shard: usize) -> bool {
    let name = format!("probe-{shard}.tmp");
    // A probe that a crash left behind.
    let _ = driver.remove(dir, &name).await;
    let opened = driver.open(dir, &name, crate::io::driver::Open::Create { direct: true }).await;
    let takes = opened.as_ref().is_ok_and(|file| takes_blocks(driver, file));
    let _ = driver.remove(dir, &name).await;
    takes
}

/// Whether a file that was opened for direct I/O takes our blocks.
fn takes_blocks<D: Driver>(driver: &D, file: &D::File) -> bool {
    let asks = driver.direct_io(file).map_or(0, |asks| asks.offset_align);
    (1..=crate::sys::slice::BLOCK_BYTES as u32).contains(&asks)
}

fn new_log(settings: &Settings, (shard, shards): (u32, u32), next_number: u64, pool: &Pool) -> Log {
    let numbers = Numbers::of_shard(next_number, shard as usize, shards as usize);
    let mut log = Log::new(log_options(settings, shard, numbers), pool.clone());
    if settings.delivery.reports {
        log.know_owed();
    }
    log
}

fn log_options(settings: &Settings, shard: u32, numbers: Numbers) -> LogOptions {
    LogOptions {
        shard: u16::try_from(shard).expect("fewer than 65536 shards"),
        durability: match settings.server.durability {
            Durability::None => spool::Durability::None,
            Durability::Os => spool::Durability::Os,
            Durability::Disk => spool::Durability::Disk,
        },
        segment_bytes: settings.spool.segment_bytes,
        batch_bytes_max: spool::BATCH_BYTES_MAX,
        numbers,
    }
}

fn queue_options(settings: &Settings) -> queue::Options {
    let defaults = match settings.profile {
        Profile::Exchange => queue::Options::exchange(),
        Profile::Rfc => queue::Options::rfc(),
        Profile::Bench => queue::Options::bench(),
    };
    let delivery = &settings.delivery;
    let narrow = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    let steps: Vec<_> = delivery.retry.steps.iter().map(|&(count, wait)| (narrow(count), wait)).collect();
    queue::Options {
        queue_ladder: queue::Ladder::new(&steps, delivery.retry.last),
        message_ladder: queue::Ladder::new(&[], delivery.message_retry),
        probe_wait: delivery.host_backoff_min,
        probe_wait_max: delivery.host_backoff_max,
        expire_after: delivery.expire_after,
        connect_wait: delivery.connect_wait,
        idle_wait: delivery.idle_wait,
        queue_idle_wait: delivery.queue_idle_wait,
        connections_max: delivery.connections_max,
        connections_per_destination: delivery.connections_per_hop_max,
        messages_per_connection: delivery.messages_per_connection_max,
        recipients_per_transaction: delivery.recipients_max,
        ..defaults
    }
}

#[cfg(test)]
mod tests;
