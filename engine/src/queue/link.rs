//! One connection as the scheduler sees it, and the lists in which connections of a host wait for work.

use super::entry::NONE;
use super::lane::List;
use super::places::{Leave, Place};
use crate::wire::Tick;
use slab::Slab;

/// Names a connection, from the order to open it until it is closed; a stale one is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Index into a dense table; used again after the connection is gone.
    pub index: u32,
    /// Tells lives of one index apart.
    pub serial: u32,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Being opened; `fresh` while it is young enough to keep others from being tried.
    Connecting { fresh: bool },
    /// Its session takes transactions.
    Ready,
}

/// The list of its host that a connection is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    Nowhere,
    Idle,
    Roomy,
}

#[derive(Debug)]
pub(super) struct Link {
    pub serial: u32,
    pub hop: u32,
    pub host: u32,
    pub phase: Phase,
    /// Its host was not known to live when it was ordered, in a place that others could have.
    pub unproven: bool,
    /// When the order to open it was given; then when it became ready.
    pub since: Tick,
    /// Since when it has nothing under way.
    pub idle_since: Tick,
    /// The last answer on it.
    pub answered: Tick,
    /// Transactions answered on it.
    pub answers: u32,
    /// Transactions it may have under way.
    pub window: u32,
    /// Transactions under way: our entries and those of other shards.
    pub load: u32,
    /// Transactions it was woken for and has not come to take.
    pub promised: u32,
    /// It was woken for a message that other hosts cannot take.
    pub errand: bool,
    /// It gives its place: takes nothing more, and closes when it has nothing under way.
    pub leaves: Option<Leave>,
    /// While it is being opened: whose place it was.
    pub place: Place,
    /// Transactions taken in its life.
    pub taken: u32,
    /// Our entries under way on it.
    pub sending: List,
    pub listed: Listed,
    pub prev: u32,
    pub next: u32,
}

impl Link {
    pub fn new(serial: u32, hop: u32, host: u32, unproven: bool, now: Tick) -> Self {
        Self {
            serial,
            hop,
            host,
            phase: Phase::Connecting { fresh: true },
            unproven,
            since: now,
            idle_since: now,
            answered: now,
            answers: 0,
            window: 1,
            load: 0,
            promised: 0,
            errand: false,
            leaves: None,
            place: Place::Free,
            taken: 0,
            sending: List::default(),
            listed: Listed::Nowhere,
            prev: NONE,
            next: NONE,
        }
    }

    pub fn room(&self) -> u32 {
        self.window.saturating_sub(self.load)
    }
}

pub(super) type Links = Slab<Link>;

/// A list of connections through the connections themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkList {
    pub head: u32,
    pub tail: u32,
}

impl Default for LinkList {
    fn default() -> Self {
        Self { head: NONE, tail: NONE }
    }
}

impl LinkList {
    pub fn push_front(&mut self, links: &mut Links, index: u32) {
        links[index as usize].prev = NONE;
        links[index as usize].next = self.head;
        match self.head {
            NONE => self.tail = index,
            head => links[head as usize].prev = index,
        }
        self.head = index;
    }

    pub fn push_back(&mut self, links: &mut Links, index: u32) {
        links[index as usize].next = NONE;
        links[index as usize].prev = self.tail;
        match self.tail {
            NONE => self.head = index,
            tail => links[tail as usize].next = index,
        }
        self.tail = index;
    }

    pub fn remove(&mut self, links: &mut Links, index: u32) {
        let (prev, next) = (links[index as usize].prev, links[index as usize].next);
        match prev {
            NONE => self.head = next,
            prev => links[prev as usize].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => links[next as usize].prev = prev,
        }
        links[index as usize].prev = NONE;
        links[index as usize].next = NONE;
    }

    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }
}
