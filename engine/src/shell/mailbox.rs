//! Mailbox delivery: puts messages into Maildir folders, or takes them and keeps nothing. Stateless: its 250 means that the
//! message is in the mailbox, durably; anything less is a 4yz, and the hub keeps the message. By LMTP each recipient has an
//! answer. SMTP has one for all: if a mailbox fails, what the others were given is taken back before it is 4yz, so that a
//! repeat makes no second copies. Where a copy may stay all the same, neither is said.

mod kept;
#[cfg(test)]
mod tests;

use super::body::{Slices, trim};
use super::ids::MessageIds;
use super::inlet::{Answer, Inlet};
use super::letter::{front, was_delivered_to, without_return_paths, write_delivered_to};
use super::serve::{Arrived, Incoming, NO_MEMORY, Service};
use super::trace::Tracer;
use crate::io::driver::{Driver, Open, Stable};
use crate::mime::write_return_path;
use crate::roles::mailbox_delivery::{MailboxPolicy, NO_MAILBOX, refusal};
use crate::settings::{Settings, Store};
use crate::smtp::Dialect;
use crate::smtp::server::{Policy, ServerSession, Slot};
use crate::store::{Names, Placing, Preparing, Step, StoreError, Trouble, is_abandoned};
use crate::sys::slice::{Pool, Slice};
use crate::track::counters::{Counter, Tally};
use crate::wire::{RecipientRef, Refusal};
use kept::Kept;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Full chunks of a body that is still arriving are kept in memory: the store is given whole messages.
const NEVER_SPILL: usize = usize::MAX;

/// A part of the process's descriptors, one in so many, may be folders of mailboxes that nothing is put in just now.
const DESCRIPTORS_SHARE: usize = 4;
/// A mailbox has so many folders open.
const FOLDERS: usize = 2;
/// A shard keeps no more mailboxes open, however many descriptors there are: to open one again costs less than placing a
/// message in it.
const MAILBOXES_OPEN_MAX: usize = 1_024;

/// One shard's mailbox delivery.
pub struct MailboxDelivery<D: Driver> {
    driver: D,
    pool: Pool,
    tally: Rc<Tally>,
    policy: MailboxPolicy,
    trace: Tracer,
    /// The store's root; `None`: nothing is kept.
    root: Option<D::Dir>,
    mailboxes: RefCell<Kept<Rc<Mailbox<D>>>>,
    names: RefCell<Names>,
    /// Folders whose `tmp` was looked through. Configuration names all that there can be.
    swept: RefCell<BTreeSet<String>>,
    ids: MessageIds,
}

/// The open folders of a mailbox.
struct Mailbox<D: Driver> {
    tmp: D::Dir,
    new: D::Dir,
}

/// The reply to a message that was delivered here before (M-080).
const LOOP: Refusal = Refusal::fixed(554, (5, 4, 6), "Routing loop: delivered to this mailbox before");

/// By folder: the copy made there, or why there is none.
type Outcomes<'l> = BTreeMap<&'l str, Result<String, StoreError>>;

/// A message to be placed.
struct Letter<D: Driver> {
    header: Header,
    content: Slices,
    /// Of each recipient, in their order; may repeat. `None`: it was delivered to him before (M-080).
    folders: Vec<Option<String>>,
    /// Each recipient is answered by itself.
    each: bool,
    inlet: Rc<Inlet<D>>,
    slot: Slot,
    id: u64,
}

/// What stands in front of a message's content: one slice for all its copies.
struct Header {
    /// Return-Path, on top (M-079), our Received field, and a Delivered-To for each folder.
    octets: Slice,
    return_path: Range<usize>,
    received: Range<usize>,
    delivered_to: BTreeMap<String, Range<usize>>,
}

impl Header {
    /// The copy with this Delivered-To.
    fn before(&self, delivered_to: &Range<usize>, content: &[Slice]) -> Vec<Slice> {
        let front = [&self.return_path, delivered_to, &self.received].map(|range| self.octets.sub(range.clone()));
        front.into_iter().chain(content.iter().cloned()).collect()
    }
}

impl<D: Driver> MailboxDelivery<D> {
    /// Delivery into the store that the settings name.
    ///
    /// # Errors
    /// The store's folder cannot be opened.
    pub fn open(driver: D, settings: &Arc<Settings>, pool: Pool, tally: Rc<Tally>) -> io::Result<Self> {
        let root = match &settings.store {
            Store::Maildir(path) => Some(driver.root(path)?),
            Store::Null | Store::Absent => None,
        };
        let shards = settings.server.cores.len().max(1);
        let open_max = driver.descriptors_max() / DESCRIPTORS_SHARE / FOLDERS / shards;
        let mut instance = [0; 8];
        driver.random(&mut instance);
        Ok(Self {
            policy: MailboxPolicy::new(settings.clone(), pool.budget().clone()),
            trace: Tracer::new(settings),
            mailboxes: RefCell::new(Kept::new(open_max.min(MAILBOXES_OPEN_MAX))),
            names: RefCell::new(Names::new(&settings.server.fqdn, u64::from_ne_bytes(instance))),
            swept: RefCell::default(),
            ids: MessageIds::new(&driver),
            root,
            pool,
            tally,
            driver,
        })
    }

    /// The folder of each recipient of a message whose content begins with `theirs`; `None` where it goes round in a loop.
    ///
    /// # Errors
    /// It does for one of them, and one reply speaks for all.
    fn folders(&self, session: &ServerSession, theirs: &[u8]) -> Result<Vec<Option<String>>, Refusal> {
        let each = session.options().dialect == Dialect::Lmtp;
        let folder = |to: RecipientRef<'_>| match was_delivered_to(theirs, to.mailbox) {
            true if each => Ok(None),
            true => Err(LOOP),
            // Who has no folder was refused at RCPT.
            false => {
                self.policy.folder(to.local(), to.domain()).map(|folder| Some(folder.to_owned())).ok_or(NO_MAILBOX)
            }
        };
        session.envelope().recipients().map(folder).collect()
    }

    /// What stands in front of the content in each of the `folders` of its recipients.
    fn header(&self, session: &ServerSession, folders: &[Option<String>], id: u64) -> Result<Header, Refusal> {
        let mut text = self.trace.buffer();
        write_return_path(session.envelope().reverse_path(), &mut text);
        let return_path = 0..text.len();
        self.trace.write(session, Some("Mailbox Transport"), (id, self.driver.wall()), &mut text);
        let received = return_path.end..text.len();
        let mut delivered_to = BTreeMap::new();
        for (to, folder) in session.envelope().recipients().zip(folders) {
            let Some(folder) = folder else { continue };
            if !delivered_to.contains_key(folder) {
                let start = text.len();
                write_delivered_to(to.mailbox, &mut text);
                delivered_to.insert(folder.clone(), start..text.len());
            }
        }
        let octets = self.copy(&[&text]).ok_or(NO_MEMORY)?;
        self.trace.keep(text);
        Ok(Header { octets, return_path, received, delivered_to })
    }

    fn copy(&self, pieces: &[&[u8]]) -> Option<Slice> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut fill = self.pool.fill(bytes).filter(|fill| fill.room() >= bytes)?;
        for piece in pieces {
            fill.put(piece);
        }
        Some(fill.take())
    }

    fn letter(&self, arrived: &Arrived<'_, D, ()>) -> Result<Letter<D>, Refusal> {
        let id = self.ids.next();
        let facts = arrived.session.content();
        let content = match &arrived.content {
            Incoming::Octets(pieces) => {
                self.tally.add(Counter::CopiedBytes, facts.bytes);
                Slices::from_iter([self.copy(pieces).ok_or(NO_MEMORY)?])
            }
            Incoming::Chunks(chunks) => trim(chunks, facts.bytes),
            Incoming::Spilled(()) => return Err(NO_MEMORY),
        };
        let theirs = front(&content, facts.header_bytes);
        let folders = self.folders(arrived.session, &theirs)?;
        let header = self.header(arrived.session, &folders, id)?;
        let content = without_return_paths(&content, &theirs);
        let each = arrived.session.options().dialect == Dialect::Lmtp;
        Ok(Letter { header, content, folders, each, inlet: arrived.inlet.clone(), slot: arrived.slot, id })
    }

    fn answer(&self, letter: &Letter<D>, outcomes: &Outcomes<'_>) {
        let stored = outcomes.values().any(|outcome| outcome.is_ok());
        let failed = outcomes.values().find_map(|outcome| outcome.as_ref().err());
        if stored || failed.is_some() {
            self.tally.one(if failed.is_some() { Counter::StoreErrors } else { Counter::Stored });
        }
        self.tally.one(match (stored, failed) {
            (true, _) => Counter::MessagesAccepted,
            (false, Some(_)) => Counter::MessagesDeferred,
            (false, None) => Counter::MessagesRefused,
        });
        letter.inlet.answer(letter.slot, answer(letter.id, letter.each, &letter.folders, outcomes));
    }

    async fn mailbox(&self, root: &D::Dir, folder: &str) -> Result<Rc<Mailbox<D>>, StoreError> {
        if let Some(mailbox) = self.mailboxes.borrow_mut().get(folder) {
            return Ok(mailbox);
        }
        let mailbox = Rc::new(self.prepare(root, folder).await?);
        self.mailboxes.borrow_mut().put(folder, mailbox.clone());
        Ok(mailbox)
    }

    /// Makes what is missing of a mailbox, and opens it.
    async fn prepare(&self, root: &D::Dir, folder: &str) -> Result<Mailbox<D>, StoreError> {
        let mut step = Preparing::FIRST;
        loop {
            let result = match step {
                Preparing::MakeFolder => self.driver.create_dir(root, folder).await,
                Preparing::MakePart(part) => match self.driver.dir(root, folder).await {
                    Ok(inside) => self.driver.create_dir(&inside, part).await,
                    Err(error) => Err(error),
                },
                Preparing::SyncFolder => match self.driver.dir(root, folder).await {
                    Ok(inside) => self.driver.sync_dir(&inside).await,
                    Err(error) => Err(error),
                },
                Preparing::SyncRoot => self.driver.sync_dir(root).await,
                Preparing::Ready => break,
                Preparing::Failed(error) => return Err(error),
            };
            step = step.done(result.map_err(|error| trouble(&error, folder)));
        }
        let open = async |part: &str| -> io::Result<D::Dir> {
            let inside = self.driver.dir(root, folder).await?;
            self.driver.dir(&inside, part).await
        };
        let opened = (open("tmp").await, open("new").await);
        match opened {
            (Ok(tmp), Ok(new)) => {
                self.sweep(folder, &tmp);
                Ok(Mailbox { tmp, new })
            }
            (Err(error), _) | (_, Err(error)) => Err(trouble(&error, folder).into()),
        }
    }

    /// Removes what deaths in the middle of a delivery left in a mailbox long ago: once in this life, and nobody waits for it.
    fn sweep(&self, folder: &str, tmp: &D::Dir) {
        if !self.swept.borrow_mut().insert(folder.to_owned()) {
            return;
        }
        let (driver, tmp) = (self.driver.clone(), tmp.clone());
        self.driver.spawn(async move {
            for entry in driver.list(&tmp).await.unwrap_or_default() {
                if !entry.is_dir && is_abandoned(&entry.name, driver.wall()) {
                    let _ = driver.remove(&tmp, &entry.name).await;
                }
            }
        });
    }

    /// One copy for each folder.
    async fn place_all<'l>(&self, root: &D::Dir, letter: &'l Letter<D>) -> Outcomes<'l> {
        let mut outcomes = Outcomes::new();
        // In the order of the replies: who stands behind a copy of which nobody knows hears nothing, and so must have none.
        for folder in letter.folders.iter().flatten() {
            let Some(delivered_to) = letter.header.delivered_to.get(folder) else { continue };
            if outcomes.contains_key(folder.as_str()) {
                continue;
            }
            let parts = letter.header.before(delivered_to, &letter.content);
            let outcome = match self.mailbox(root, folder).await {
                Ok(mailbox) => self.place(&mailbox, &parts, folder).await,
                Err(error) => Err(error),
            };
            if outcome.is_err() {
                // Its folders may have been replaced under our hands: they are opened again next time.
                self.mailboxes.borrow_mut().remove(folder);
            }
            let (failed, unknown) = (outcome.is_err(), outcome == Err(StoreError::Unknown));
            outcomes.insert(folder, outcome);
            if failed && !letter.each {
                self.take_back(root, &mut outcomes).await;
            }
            if unknown || failed && !letter.each {
                break;
            }
        }
        outcomes
    }

    /// The copies made so far are removed, as well as the store lets us: the sender is told that there are none, or nothing.
    async fn take_back(&self, root: &D::Dir, outcomes: &mut Outcomes<'_>) {
        let placed = std::mem::take(outcomes);
        for (folder, outcome) in placed {
            let Ok(name) = outcome else {
                outcomes.insert(folder, outcome);
                continue;
            };
            if let Err(error) = self.remove(root, folder, &name).await {
                tracing::error!(cause = "store", %error, folder, "a copy may stay of a message that was put off");
                outcomes.insert(folder, Err(StoreError::Unknown));
            }
        }
    }

    /// Removes a copy, durably.
    async fn remove(&self, root: &D::Dir, folder: &str, name: &str) -> io::Result<()> {
        // It may have been closed since.
        let mailbox = self.mailbox(root, folder).await.map_err(io::Error::other)?;
        self.driver.remove(&mailbox.new, name).await?;
        self.driver.sync_dir(&mailbox.new).await
    }

    /// Places one copy: created, written, synced, renamed, and the folder synced. Gives its name.
    async fn place(&self, mailbox: &Mailbox<D>, parts: &[Slice], folder: &str) -> Result<String, StoreError> {
        let (driver, tmp, new) = (&self.driver, &mailbox.tmp, &mailbox.new);
        let mut placing = Placing::new();
        let mut name = String::new();
        let mut file = None;
        loop {
            let result = match (placing.step(), &file) {
                (Step::Create, _) => {
                    self.names.borrow_mut().next(driver.wall(), &mut name);
                    driver.open(tmp, &name, Open::Create { direct: false }).await.map(|opened| file = Some(opened))
                }
                (Step::Write, Some(file)) => write_all(driver, file, parts).await,
                (Step::SyncFile, Some(file)) => driver.sync(file).await,
                (Step::Rename, _) => driver.rename(tmp, &name, new, &name).await,
                (Step::SyncNew | Step::SyncRemoved, _) => driver.sync_dir(new).await,
                (Step::RemoveTmp, _) => driver.remove(tmp, &name).await,
                (Step::RemoveNew, _) => driver.remove(new, &name).await,
                (Step::Placed, _) => return Ok(name),
                (Step::Failed(error), _) => return Err(error),
                (Step::Write | Step::SyncFile, None) => Err(io::ErrorKind::NotFound.into()),
            };
            placing.done(result.map_err(|error| trouble(&error, folder)));
        }
    }
}

/// What the sender of message `id` hears.
fn answer(id: u64, each: bool, folders: &[Option<String>], outcomes: &Outcomes<'_>) -> Answer {
    let failed = outcomes.values().find_map(|outcome| outcome.as_ref().err());
    let is_unknown = outcomes.values().any(|outcome| *outcome == Err(StoreError::Unknown));
    let stored = outcomes.values().any(Result::is_ok);
    match failed {
        None if folders.iter().all(Option::is_some) => Answer::Accepted { id, message_id: None },
        // Who has a copy is told so: a repeat would surely be his second.
        Some(_) if is_unknown && !stored => Answer::Silence,
        Some(error) if !each => Answer::Refused(refusal(*error)),
        _ => Answer::Each { id, outcomes: folders.iter().map_while(|to| verdict(to, outcomes)).collect() },
    }
}

/// What the recipient with this folder is told, `None` within if he has it; `None`: a copy may stay, so nothing, and nothing
/// to those behind him.
fn verdict(folder: &Option<String>, outcomes: &Outcomes<'_>) -> Option<Option<Refusal>> {
    let Some(folder) = folder else { return Some(Some(LOOP)) };
    match outcomes.get(folder.as_str()) {
        None | Some(Err(StoreError::Unknown)) => None,
        Some(Err(error)) => Some(Some(refusal(*error))),
        Some(Ok(_)) => Some(None),
    }
}

async fn write_all<D: Driver>(driver: &D, file: &D::File, parts: &[Slice]) -> io::Result<()> {
    let mut left: Vec<Slice> = parts.to_vec();
    let mut at = 0u64;
    while !left.is_empty() {
        let (written, mut back) = driver.write(file, left, at, Stable::No).await;
        let mut written = written?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written as u64;
        back.retain_mut(|part| {
            let count = written.min(part.len());
            written -= count;
            *part = part.sub(count..part.len());
            !part.is_empty()
        });
        left = back;
    }
    Ok(())
}

fn trouble(error: &io::Error, folder: &str) -> Trouble {
    match error.kind() {
        io::ErrorKind::AlreadyExists => Trouble::Exists,
        io::ErrorKind::NotFound => Trouble::Missing,
        kind => {
            tracing::error!(cause = "store", %error, folder, "the store does not work");
            let full = matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if full { Trouble::NoSpace } else { Trouble::Other }
        }
    }
}

impl<D: Driver> Service<D> for Rc<MailboxDelivery<D>> {
    type Spill = ();

    fn policy(&self) -> &dyn Policy {
        &self.policy
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn spill_bytes(&self, _: bool) -> usize {
        NEVER_SPILL
    }

    fn spill(&self, _: &ServerSession, _: &Rc<Inlet<D>>, (): &mut (), _: Slices, _: u64) -> Result<(), Refusal> {
        Err(NO_MEMORY)
    }

    fn abandon(&self, (): ()) {}

    fn message(&self, arrived: Arrived<'_, D, ()>) {
        self.tally.add(Counter::ContentIn, arrived.session.content().bytes);
        let Some(root) = &self.root else {
            self.tally.one(Counter::Stored);
            self.tally.one(Counter::MessagesAccepted);
            return arrived.inlet.answer(arrived.slot, Answer::Accepted { id: self.ids.next(), message_id: None });
        };
        let letter = match self.letter(&arrived) {
            Ok(letter) => letter,
            Err(refusal) => {
                let refused = if refusal.is_permanent() { Counter::MessagesRefused } else { Counter::MessagesDeferred };
                self.tally.one(refused);
                return arrived.inlet.answer(arrived.slot, Answer::Refused(refusal));
            }
        };
        let (this, root) = (self.clone(), root.clone());
        self.driver.spawn(async move {
            let outcomes = this.place_all(&root, &letter).await;
            this.answer(&letter, &outcomes);
        });
    }
}
