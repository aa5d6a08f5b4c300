//! A machine's disk: folders and files in memory, a page cache, and what of it survives when the power fails.
//!
//! What was written and not made stable may be there afterwards or not, sector by sector, in any order; of what is being
//! written at that moment one block may be neither the old nor the new. Steps of folders
//! survive up to one of them, in their order, as with a journal; those before a sync of their folder certainly.

use super::chance::Chance;
use super::file::Inode;
use super::world::World;
use crate::io::driver::Entry;
use crate::wire::Span;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Component, Path};
use std::rc::Rc;

/// Octets of a disk that is not full.
const CAPACITY: u64 = 1 << 40;

/// What is in a folder.
#[derive(Clone)]
pub(super) enum Node {
    File(Rc<Inode>),
    Folder(Rc<Folder>),
}

/// A folder.
#[derive(Default)]
pub struct Folder {
    entries: RefCell<BTreeMap<String, Node>>,
}

/// How a step is taken back.
enum Undo {
    Made(Rc<Folder>, String),
    Removed(Rc<Folder>, String, Node),
    Moved { from: (Rc<Folder>, String), to: (Rc<Folder>, String), replaced: Option<Node> },
}

/// What goes wrong with a disk, and how fast it is.
#[derive(Debug, Clone)]
pub struct Wear {
    /// A write, read or sync takes so long.
    pub latency: Range<Span>,
    /// Once in so many operations it takes up to `stall`.
    pub stall_once_in: u64,
    /// How long at most.
    pub stall: Span,
    /// Once in so many writes only a part is written, and that is said.
    pub short_once_in: u64,
    /// Once in so many writes, stable or not, EIO; any of its sectors may have been written.
    pub write_error_once_in: u64,
    /// Once in so many syncs, EIO; what was to be synced is forgotten by the cache and may be on the disk or not.
    pub sync_error_once_in: u64,
    /// Once in so many reads, EIO.
    pub read_error_once_in: u64,
}

impl Default for Wear {
    fn default() -> Self {
        Self {
            latency: Span::micros(60)..Span::micros(300),
            stall_once_in: 0,
            stall: Span::seconds(2),
            short_once_in: 0,
            write_error_once_in: 0,
            sync_error_once_in: 0,
            read_error_once_in: 0,
        }
    }
}

/// What happens to the world once.
type Spring = Box<dyn FnOnce(&Rc<World>)>;

/// What stands in the file of a write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fails {
    /// Any of its sectors.
    InPart,
    /// All of it.
    InWord,
}

/// What lies in wait for a stable write.
pub struct Ambush {
    /// So many pass before it.
    pub passing: u64,
    /// It gets EIO, or not.
    pub fails: Option<Fails>,
    /// Happens when it has ended.
    pub springs: Spring,
}

/// A disk.
pub struct Disk {
    root: Rc<Folder>,
    journal: RefCell<Vec<Undo>>,
    /// Whether any octet of it ever rotted.
    rotten: Cell<bool>,
    files: Cell<u64>,
    /// Every file that may still be seen, for a crash.
    all: RefCell<Vec<std::rc::Weak<Inode>>>,
    pub(super) chance: Chance,
    /// What goes wrong.
    pub wear: RefCell<Wear>,
    ambush: RefCell<Option<Ambush>>,
    /// Octets that it holds.
    pub capacity: Cell<u64>,
    /// The unit that is written whole or not at all: 512 or 4096 octets.
    pub(super) sector: u64,
    /// Whether it takes direct I/O, and with which alignment.
    pub(super) direct_align: Option<u32>,
    machine: usize,
}

impl Disk {
    pub(super) fn new(machine: usize, chance: &Chance) -> Rc<Self> {
        let chance = chance.branch();
        Rc::new(Self {
            root: Rc::default(),
            journal: RefCell::default(),
            rotten: Cell::new(false),
            files: Cell::new(0),
            all: RefCell::default(),
            wear: RefCell::default(),
            ambush: RefCell::default(),
            capacity: Cell::new(CAPACITY),
            sector: *chance.one_of(&[512, 4096]),
            direct_align: *chance.one_of(&[Some(512), Some(4096), None]),
            chance,
            machine,
        })
    }

    pub(super) fn machine(&self) -> usize {
        self.machine
    }

    /// How long the next operation takes.
    pub(super) fn latency(&self) -> Span {
        let wear = self.wear.borrow();
        let stall = match self.chance.once_in(wear.stall_once_in) {
            true => self.chance.span(Span::ZERO..wear.stall),
            false => Span::ZERO,
        };
        self.chance.span(wear.latency.clone()) + stall
    }

    /// From now on this lies in wait.
    pub fn lay(&self, ambush: Ambush) {
        *self.ambush.borrow_mut() = Some(ambush);
    }

    /// What lay in wait for the stable write that begins.
    pub(super) fn ambushed(&self) -> Option<Ambush> {
        let mut laid = self.ambush.borrow_mut();
        let ambush = laid.as_mut()?;
        match ambush.passing.checked_sub(1) {
            Some(passing) => {
                ambush.passing = passing;
                None
            }
            None => laid.take(),
        }
    }

    /// Makes a folder and those above it; they are stable.
    #[expect(clippy::panic, reason = "a world that is laid out wrongly")]
    pub fn make_folder(&self, path: &Path) -> Rc<Folder> {
        names(path).fold(self.root.clone(), |at, name| {
            let made = || Node::Folder(Rc::default());
            match at.entries.borrow_mut().entry(name).or_insert_with(made) {
                Node::Folder(folder) => folder.clone(),
                Node::File(_) => panic!("a file stands where a folder is wanted"),
            }
        })
    }

    pub(super) fn root(&self, path: &Path) -> io::Result<Rc<Folder>> {
        names(path).try_fold(self.root.clone(), |at, name| at.folder(&name))
    }

    pub(super) fn create(&self, at: &Rc<Folder>, name: &str) -> io::Result<Rc<Inode>> {
        at.must_be_free(name)?;
        self.files.set(self.files.get() + 1);
        let inode = Rc::new(Inode::new(self.files.get()));
        self.all.borrow_mut().push(Rc::downgrade(&inode));
        at.entries.borrow_mut().insert(name.to_owned(), Node::File(inode.clone()));
        self.journal.borrow_mut().push(Undo::Made(at.clone(), name.to_owned()));
        Ok(inode)
    }

    pub(super) fn create_dir(&self, at: &Rc<Folder>, name: &str) -> io::Result<()> {
        at.must_be_free(name)?;
        at.entries.borrow_mut().insert(name.to_owned(), Node::Folder(Rc::default()));
        self.journal.borrow_mut().push(Undo::Made(at.clone(), name.to_owned()));
        Ok(())
    }

    pub(super) fn remove(&self, at: &Rc<Folder>, name: &str) -> io::Result<()> {
        at.file(name)?;
        if let Some(node) = at.entries.borrow_mut().remove(name) {
            self.journal.borrow_mut().push(Undo::Removed(at.clone(), name.to_owned(), node));
        }
        Ok(())
    }

    pub(super) fn rename(&self, at: &Rc<Folder>, from: &str, into: &Rc<Folder>, to: &str) -> io::Result<()> {
        is_a_name(to)?;
        let node = at.node(from)?;
        if matches!(into.entries.borrow().get(to), Some(Node::Folder(_))) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        at.entries.borrow_mut().remove(from);
        let replaced = into.entries.borrow_mut().insert(to.to_owned(), node);
        let (from, to) = ((at.clone(), from.to_owned()), (into.clone(), to.to_owned()));
        self.journal.borrow_mut().push(Undo::Moved { from, to, replaced });
        Ok(())
    }

    /// Every step in this folder is stable, and so is what came before it.
    pub(super) fn sync_dir(&self, folder: &Rc<Folder>) {
        let mut journal = self.journal.borrow_mut();
        if let Some(last) = journal.iter().rposition(|undo| undo.touches(folder)) {
            journal.drain(..=last);
        }
    }

    /// The files in a folder, by their names.
    pub(super) fn files(&self, path: &Path) -> Vec<(String, Rc<Inode>)> {
        let Ok(folder) = self.root(path) else { return Vec::new() };
        let entries = folder.entries.borrow();
        let files = entries.iter().filter_map(|(name, node)| match node {
            Node::File(inode) => Some((name.clone(), inode.clone())),
            Node::Folder(_) => None,
        });
        files.collect()
    }

    /// An octet of a file is another one from now on.
    pub(super) fn rot(&self, inode: &Inode, at: u64) {
        self.rotten.set(true);
        inode.flip(at, 1 << self.chance.below(8));
    }

    /// Whether any octet of it ever rotted.
    pub(super) fn is_rotten(&self) -> bool {
        self.rotten.get()
    }

    /// Octets that files take.
    pub(super) fn used(&self) -> u64 {
        let mut all = self.all.borrow_mut();
        all.retain(|file| file.strong_count() > 0);
        all.iter().filter_map(std::rc::Weak::upgrade).map(|file| file.size()).sum()
    }

    pub(super) fn free(&self) -> u64 {
        self.capacity.get().saturating_sub(self.used())
    }

    /// Nothing goes wrong with it any more.
    pub fn heal(&self) {
        *self.wear.borrow_mut() = Wear::default();
        *self.ambush.borrow_mut() = None;
        self.capacity.set(CAPACITY);
    }

    /// The power fails.
    pub(super) fn crash(&self) {
        let kept = self.chance.index(self.journal.borrow().len() + 1);
        let undone = self.journal.borrow_mut().split_off(kept);
        undone.into_iter().rev().for_each(Undo::undo);
        self.journal.borrow_mut().clear();
        for file in self.all.borrow().iter().filter_map(std::rc::Weak::upgrade) {
            file.crash(&self.chance, self.sector);
        }
    }
}

impl Undo {
    fn touches(&self, folder: &Rc<Folder>) -> bool {
        match self {
            Undo::Made(at, _) | Undo::Removed(at, ..) => Rc::ptr_eq(at, folder),
            Undo::Moved { from, to, .. } => Rc::ptr_eq(&from.0, folder) || Rc::ptr_eq(&to.0, folder),
        }
    }

    fn undo(self) {
        match self {
            Undo::Made(at, name) => {
                at.entries.borrow_mut().remove(&name);
            }
            Undo::Removed(at, name, node) => {
                at.entries.borrow_mut().insert(name, node);
            }
            Undo::Moved { from, to, replaced } => {
                // Both may be one folder.
                let node = to.0.entries.borrow_mut().remove(&to.1);
                if let Some(node) = node {
                    from.0.entries.borrow_mut().insert(from.1, node);
                }
                if let Some(node) = replaced {
                    to.0.entries.borrow_mut().insert(to.1, node);
                }
            }
        }
    }
}

impl Folder {
    fn node(&self, name: &str) -> io::Result<Node> {
        is_a_name(name)?;
        self.entries.borrow().get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn folder(&self, name: &str) -> io::Result<Rc<Folder>> {
        match self.node(name)? {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&self, name: &str) -> io::Result<Rc<Inode>> {
        match self.node(name)? {
            Node::File(inode) => Ok(inode),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn must_be_free(&self, name: &str) -> io::Result<()> {
        match self.node(name) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn list(&self) -> Vec<Entry> {
        let entries = self.entries.borrow();
        let entry =
            |(name, node): (&String, &Node)| Entry { name: name.clone(), is_dir: matches!(node, Node::Folder(_)) };
        entries.iter().map(entry).collect()
    }
}

/// Names below a folder never leave it.
fn is_a_name(name: &str) -> io::Result<()> {
    let leaves = name.is_empty() || name == "." || name == ".." || name.contains('/');
    if leaves { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
}

fn names(path: &Path) -> impl Iterator<Item = String> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    })
}
