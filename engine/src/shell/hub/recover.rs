//! Starting on what an earlier run left: every segment is read before anything is accepted, then each shard takes its part
//! over and queues what is live, oldest first, while it already serves.

use super::dsn::Owed;
use super::load::HeadOctets;
use super::quarantine::{Aside, Quarantine, is_news};
use super::{Hub, segments};
use crate::hook;
use crate::io::choice::DriverChoice;
use crate::io::driver::{Driver, Open};
use crate::io::launch::{Launch, LaunchError, Program, give_way, launch};
use crate::queue::{HopId, NewEntry, Priority, Queues};
use crate::spool::{
    Adoption, Backlog, Durability, FileId, Read, RecordHead, RecordId, RecordKind, Recovered, Recovery, Scan,
};
use crate::sys::slice::{Budget, Fill, Pool};
use crate::track::counters::Counter;
use crate::track::desk::Failure;
use crate::wire::{EnvelopeRef, Span, Tick};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

/// Octets read at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Records queued between two looks at everything else.
const RECORDS_PER_TURN: usize = 256;
/// Reads that a disk refuses are asked for again before what stands there is given up (F-028): so many times in a start, and
/// when.
const READS_AGAIN_MAX: u32 = 100;
const AGAIN_WAIT: Span = Span::millis(20);
/// Numbers of segments that are left out where a file could not be read: more than any spool has files.
const NUMBERS_SKIPPED: u64 = 1 << 20;

/// What an earlier run left.
#[derive(Debug)]
pub struct Left {
    /// What is in it.
    pub recovered: Recovered,
    /// The first number that no file of it has.
    pub next_file: u32,
    /// Damaged places that were not named by an earlier start.
    pub damage: u64,
}

/// Reads the spool below `path` and deals it out to `shards` logs.
///
/// # Errors
/// A folder that cannot be read, or segments of a later version: nothing is changed then.
pub fn recover(path: &Path, driver: DriverChoice, shards: usize) -> Result<Left, Failure> {
    in_thread(path, driver, Task::Recover { shards })
}

/// Reads the spool below `path` as [`recover`] does, and changes nothing.
///
/// # Errors
/// As `recover`.
pub fn inspect(path: &Path) -> Result<Left, Failure> {
    in_thread(path, DriverChoice::Epoll, Task::Inspect)
}

fn in_thread(path: &Path, driver: DriverChoice, task: Task) -> Result<Left, Failure> {
    let result = Arc::new(Mutex::new(None));
    let reader = Reader { path: path.to_owned(), task, result: result.clone() };
    let running = launch(&Launch { driver, cores: vec![None] }, reader).map_err(|error| match error {
        LaunchError::Refused { .. } => Failure { usage: true, text: format!("server.driver: {error}") },
        error => Failure { usage: false, text: error.to_string() },
    })?;
    running.join().map_err(|error| Failure { usage: false, text: error.to_string() })?;
    let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.unwrap_or_else(|| Err(Failure { usage: false, text: "the spool was not read".into() }))
}

/// What a reader does with what it reads.
#[derive(Clone, Copy)]
enum Task {
    /// Readies it for a start.
    Recover { shards: usize },
    /// Looks, and changes nothing.
    Inspect,
}

/// Reads all segments on a thread of its own.
#[derive(Clone)]
struct Reader {
    path: PathBuf,
    task: Task,
    result: Arc<Mutex<Option<Result<Left, Failure>>>>,
}

impl Program for Reader {
    async fn run<D: Driver>(self, driver: D, _shard: usize) {
        // Servers that run beside this one go first: reading a spool is a burst of hundreds of megabytes.
        give_way();
        let recovered = match self.task {
            Task::Recover { shards } => read_spool(&driver, &self.path, shards).await,
            Task::Inspect => look(&driver, &self.path).await,
        };
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(recovered);
    }
}

async fn look<D: Driver>(driver: &D, path: &Path) -> Result<Left, Failure> {
    let (dir, pool) = (driver.root(path).map_err(unreadable)?, Pool::new(Budget::new(8 << 20)));
    let mut patience = Patience { left: READS_AGAIN_MAX, refused: BTreeSet::new() };
    let recovered = scan_files(driver, &dir, &pool, &mut patience).await?.finish(1);
    let damage = recovered.damage.len() as u64;
    Ok(Left { next_file: next_file(&recovered), damage, recovered })
}

/// Does what [`recover`] does, on a driver that is there already.
///
/// # Errors
/// As `recover`.
pub async fn read_spool<D: Driver>(driver: &D, path: &Path, shards: usize) -> Result<Left, Failure> {
    let (dir, pool) = (driver.root(path).map_err(unreadable)?, Pool::new(Budget::new(8 << 20)));
    let mut patience = Patience { left: READS_AGAIN_MAX, refused: BTreeSet::new() };
    let recovery = scan_files(driver, &dir, &pool, &mut patience).await?;
    let mut recovered = recovery.finish(shards);
    if !patience.refused.is_empty() {
        // A life that could not be read may have one of the numbers that would be next.
        recovered.next_number = recovered.next_number.saturating_add(NUMBERS_SKIPPED);
    }
    report(&recovered);
    let next_file = next_file(&recovered);
    let mut damage = 0;
    if !recovered.damage.is_empty() {
        damage = put_aside(driver, &dir, &pool, (&mut recovered, &patience.refused)).await.unwrap_or_else(|error| {
            tracing::error!(cause = "spool", %error, places = recovered.damage.len(),
                "damage in the spool cannot be put aside: no room for it below the data folder");
            recovered.damage.len() as u64
        });
    }
    recovered.unread(&patience.refused);
    for id in &recovered.blank {
        hook!("K18");
        let _ = driver.remove(&dir, &segments::name(*id)).await;
    }
    Ok(Left { recovered, next_file, damage })
}

fn unreadable(error: io::Error) -> Failure {
    let text = format!("server.data_dir: the spool cannot be read: {error}; mend the folder, or name another");
    Failure { usage: true, text }
}

/// Reads every segment; changes nothing.
async fn scan_files<D: Driver>(
    driver: &D,
    dir: &D::Dir,
    pool: &Pool,
    patience: &mut Patience,
) -> Result<Recovery, Failure> {
    let mut recovery = Recovery::new();
    for entry in driver.list(dir).await.map_err(unreadable)? {
        let Some(id) = segments::id(&entry.name) else { continue };
        hook!("K18");
        let file = driver.open(dir, &entry.name, Open::Read).await.map_err(unreadable)?;
        let mut scan = Scan::new(id, driver.size(&file).map_err(unreadable)?);
        while let Some(read) = scan.wants() {
            match patience.read(driver, pool, &file, read).await {
                Ok(fill) => scan.feed(fill.written()),
                Err(error) => {
                    tracing::error!(cause = "spool", %error, file = entry.name, at = read.at, "cannot read a segment");
                    scan.failed();
                }
            }
        }
        let unusable = |refused| Failure { usage: true, text: format!("server.data_dir: {refused}") };
        let scanned = scan.finish().map_err(unusable)?;
        recovery.add(scanned);
    }
    Ok(recovery)
}

/// How often a start asks again for what the disk refuses, and the files of which it refused something all the same.
struct Patience {
    left: u32,
    refused: BTreeSet<FileId>,
}

impl Patience {
    async fn read<D: Driver>(&mut self, driver: &D, pool: &Pool, file: &D::File, read: Read) -> io::Result<Fill> {
        loop {
            match read_some(driver, pool, file, read.at, read.bytes).await {
                Err(_) if self.left > 0 => self.left -= 1,
                Err(error) => {
                    self.refused.insert(read.file);
                    return Err(error);
                }
                fill => return fill,
            }
            driver.sleep(AGAIN_WAIT).await;
        }
    }
}

pub(super) async fn read_some<D: Driver>(
    driver: &D,
    pool: &Pool,
    file: &D::File,
    at: u64,
    bytes: usize,
) -> io::Result<Fill> {
    let bytes = bytes.min(PIECE_BYTES);
    let mut fill = pool.fill(bytes).ok_or(io::ErrorKind::OutOfMemory)?;
    fill.limit(bytes);
    while fill.room() > 0 {
        let filled = fill.filled() as u64;
        let (count, back) = driver.read(file, fill, at + filled).await;
        fill = back;
        if count? == 0 {
            break;
        }
    }
    Ok(fill)
}

fn report(recovered: &Recovered) {
    if let Some(mode) = recovered.unclean.filter(|mode| *mode != Durability::Disk) {
        tracing::warn!(cause = "spool", "unclean stop, mode {mode}: what was not written back may be lost");
    }
    let live = recovered.live_count();
    let count: usize = recovered.adoptions.iter().map(Adoption::segment_count).sum();
    if count > 0 {
        tracing::info!(segments = count, messages = live, "the spool was read");
    }
}

/// Puts damage aside, names it once, and counts it. What could not be put aside stays where it is, and is named each time; so
/// does what the disk `refused` to read: it may be sound, and read by the next start.
async fn put_aside<D: Driver>(
    driver: &D,
    dir: &D::Dir,
    pool: &Pool,
    (recovered, refused): (&mut Recovered, &BTreeSet<FileId>),
) -> io::Result<u64> {
    let adopted: BTreeSet<FileId> = recovered.adoptions.iter().flat_map(Adoption::files).collect();
    let mut quarantine = Quarantine::open(driver, dir).await?;
    let mut count = 0;
    let mut left = BTreeSet::new();
    for damage in &recovered.damage {
        // A file that nobody adopts leaves the spool as it is.
        let aside = if refused.contains(&damage.file) {
            Err(io::Error::other("the disk refuses to read it"))
        } else if adopted.contains(&damage.file) {
            quarantine.copy(pool, damage).await
        } else {
            quarantine.take(damage.file).await.map(|_| Aside::Now)
        };
        count += u64::from(is_news(damage, &aside));
        if aside.is_err() {
            left.insert(damage.file);
        }
    }
    adopted.difference(&left).for_each(|&file| recovered.put_aside(file));
    Ok(count)
}

impl<D: Driver> Hub<D> {
    /// Takes over what recovery gave to this shard. To be called before anything is accepted.
    ///
    /// # Errors
    /// A segment's file cannot be opened any more.
    pub async fn adopt(self: &Rc<Self>, adoption: Adoption) -> io::Result<()> {
        for id in adoption.files() {
            hook!("K18");
            self.open_segment(id).await?;
        }
        let backlog = self.log.borrow_mut().adopt(adoption);
        self.rewriting.untold.set(true);
        self.driver.spawn(load_backlog(self.clone(), backlog));
        Ok(())
    }

    /// Queues a record that an earlier run left.
    pub(super) async fn requeue(self: &Rc<Self>, id: RecordId, head: Option<RecordHead>, envelope: Option<Vec<u8>>) {
        if let (Some(head), Some(envelope)) = (&head, &envelope)
            && let Ok(envelope) = EnvelopeRef::parse(envelope)
        {
            return self.enqueue_record(id, head, &envelope);
        }
        self.queue_unread(id).await;
    }

    /// Queues a record by what was read of it; `None` when that makes no sense.
    pub(super) fn enqueue_read(&self, id: RecordId, read: &HeadOctets) -> Option<()> {
        let record = read.record()?;
        let envelope = EnvelopeRef::parse(record.envelope).ok()?;
        self.enqueue_record(id, &record.head, &envelope);
        Some(())
    }

    fn enqueue_record(&self, id: RecordId, head: &RecordHead, envelope: &EnvelopeRef<'_>) {
        self.log.borrow_mut().note_head(id, head);
        if head.kind == RecordKind::Owed {
            self.tally.add(Counter::DsnOwed, u64::from(head.recipients));
            return self.report_is_due(Owed { record: id, original: None, recipients: head.recipients });
        }
        let mut routing = self.routing.borrow_mut();
        let (snapshot, hops, groups) = routing.parts();
        groups.fill(&snapshot.table, envelope.recipients().map(|recipient| recipient.domain()));
        let now = self.driver.now();
        for group in groups.groups() {
            self.enqueue_unsettled((id, head), group.recipients, |_| hops[group.next_hop.index()], now);
        }
        if !groups.unroutable().is_empty() {
            self.enqueue_unsettled((id, head), groups.unroutable(), |queues| queues.unreachable(now), now);
        }
    }

    /// Queues those of these recipients that are not settled.
    fn enqueue_unsettled(
        &self,
        (id, head): (RecordId, &RecordHead),
        group: &[u64],
        hop: impl FnOnce(&mut Queues) -> HopId,
        now: Tick,
    ) {
        let log = self.log.borrow();
        let mut recipients = group.to_vec();
        for (index, word) in recipients.iter_mut().enumerate() {
            for bit in (0..64).filter(|bit| group[index] >> bit & 1 != 0) {
                let recipient = u16::try_from(index * 64 + bit).unwrap_or(u16::MAX);
                if log.is_settled(id, recipient) {
                    *word &= !(1 << bit);
                }
            }
        }
        while recipients.last() == Some(&0) {
            recipients.pop();
        }
        if recipients.is_empty() {
            return;
        }
        let entry = NewEntry {
            record: id.raw(),
            recipients: &recipients,
            bytes: u64::from(head.trace_bytes) + head.facts.body_bytes,
            age: self.driver.wall().since(head.received),
            priority: Priority::Normal,
            content: None,
        };
        self.tally.one(Counter::Redelivered);
        let mut queues = self.queues.borrow_mut();
        let hop = hop(&mut queues);
        queues.enqueue(hop, entry, now);
    }
}

/// Queues everything that is live, a few at a time.
async fn load_backlog<D: Driver>(hub: Rc<Hub<D>>, mut backlog: Backlog) {
    let mut told = 0;
    loop {
        if let Some(read) = backlog.wants() {
            let octets = hub.read_whole(read).await.unwrap_or_default();
            backlog.feed(&octets);
        }
        let loaded = {
            let log = hub.log.borrow();
            let loaded = backlog.next(&log);
            loaded.map(|loaded| (loaded.id, loaded.head, loaded.envelope.map(<[u8]>::to_vec)))
        };
        match loaded {
            Some((id, head, envelope)) => {
                hook!("K18");
                hub.requeue(id, head, envelope).await;
            }
            None if backlog.is_done() => break,
            None => continue,
        }
        told += 1;
        if told % RECORDS_PER_TURN == 0 {
            hub.run_actions();
            hub.driver.yield_now().await;
        }
    }
    hub.run_actions();
    hub.rewriting.untold.set(false);
    hub.rewriting.written.raise();
}

/// The first number that no file of the spool has.
fn next_file(recovered: &Recovered) -> u32 {
    let damaged = recovered.damage.iter().map(|damage| damage.file);
    let used = recovered.adoptions.iter().flat_map(Adoption::files).chain(damaged).map(|id| id.0).max();
    used.map_or(1, |last| last.saturating_add(1))
}
