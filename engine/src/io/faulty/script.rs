//! Which operation goes wrong, when, and how: rules, counted and shared with the test that sets them.

use crate::wire::Span;
pub use rustix::io::Errno;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Operations that a rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// All of them.
    Any,
    /// Opening an existing file.
    Open,
    /// Creating a file.
    Create,
    /// Allocating a file's space.
    Allocate,
    /// A write, durable or not.
    Write,
    /// A write with `Stable::Yes`.
    StableWrite,
    /// A read.
    Read,
    /// Making a file durable.
    Sync,
    /// Making a folder durable.
    SyncDir,
    /// Opening a folder.
    Dir,
    /// Making a folder.
    CreateDir,
    /// Renaming; the name is the one before.
    Rename,
    /// Removing.
    Remove,
    /// Listing a folder. It has no name.
    List,
    /// Taking a lock.
    Lock,
    /// Asking for free space: `Fails` means none is free. It has no name.
    FreeBytes,
    /// Accepting a connection. The name is the listener's address.
    Accept,
    /// Connecting. The name is the address.
    Connect,
    /// Waiting for a connection's next event. The name is the peer's address.
    Receive,
    /// Queueing octets on a connection. The name is the peer's address.
    Send,
}

impl Op {
    fn covers(self, other: Op) -> bool {
        self == Op::Any || self == other || (self == Op::Write && other == Op::StableWrite)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the operation fails.
    Fails(Errno),
    /// Everything is done, and the operation fails nevertheless (a sync whose outcome is lost).
    FailsAfterwards(Errno),
    /// A write or read moves at most so many octets, and succeeds.
    Short(usize),
    /// A write writes so many octets, and fails.
    Torn(usize, Errno),
    /// A write changes nothing, and succeeds: the device lied.
    Lost,
    /// A write lands so many octets behind its place, and succeeds.
    Misdirected(u64),
    /// A read delivers the octet at this offset of the file with these bits changed.
    Flips {
        /// Where, from the start of the file.
        at: u64,
        /// Which bits.
        mask: u8,
    },
    /// The same of a read through the page cache; direct I/O delivers what the disk has.
    CachedFlips {
        /// Where, from the start of the file.
        at: u64,
        /// Which bits.
        mask: u8,
    },
    /// The outcome is reported so much later.
    Late(Span),
    /// The outcome is reported when [`Faults::release`] or [`Faults::heal`] is called.
    Held,
    /// The outcome is reported after so many others that were reported since this one began: completions change order.
    Overtaken(u64),
    /// A connection is reset: `Broken` once, and what is sent is lost.
    Reset,
    /// A connection reports nothing but deadlines until [`Faults::heal`]; what arrives meanwhile is reported then.
    Stalls,
}

impl Fault {
    fn is_timing(self) -> bool {
        matches!(self, Fault::Late(_) | Fault::Held | Fault::Overtaken(_))
    }
}

/// Which of the operations that match a rule it acts on, counted from 1 since the rule was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    Nth(u64),
    From(u64),
    Every(u64),
}

/// One thing to go wrong.
#[derive(Debug, Clone)]
pub struct Rule {
    op: Op,
    name: Option<String>,
    when: When,
    fault: Fault,
    matched: u64,
}

impl Rule {
    /// Every operation `op` meets `fault`.
    pub fn new(op: Op, fault: Fault) -> Self {
        Self { op, name: None, when: When::Always, fault, matched: 0 }
    }

    /// Only operations on what is called so: the name contains `part`.
    #[must_use]
    pub fn named(mut self, part: &str) -> Self {
        self.name = Some(part.to_owned());
        self
    }

    /// Only the `n`-th of them.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.when = When::Nth(n);
        self
    }

    /// Only the `n`-th and all that follow.
    #[must_use]
    pub fn from_nth(mut self, n: u64) -> Self {
        self.when = When::From(n);
        self
    }

    /// Only every `n`-th.
    #[must_use]
    pub fn every(mut self, n: u64) -> Self {
        self.when = When::Every(n.max(1));
        self
    }

    /// Counts the operation if it is one of ours; whether the fault strikes.
    fn strikes(&mut self, op: Op, name: &str) -> bool {
        if !self.op.covers(op) || self.name.as_ref().is_some_and(|part| !name.contains(part.as_str())) {
            return false;
        }
        self.matched += 1;
        match self.when {
            When::Always => true,
            When::Nth(n) => self.matched == n,
            When::From(n) => self.matched >= n,
            When::Every(n) => self.matched.is_multiple_of(n),
        }
    }
}

/// An operation as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub op: Op,
    /// On what.
    pub name: String,
    /// What went wrong with it.
    pub faults: Vec<Fault>,
}

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    reported: u64,
    /// Counts releases and heals, so that what waits for one can tell.
    releases: u64,
    heals: u64,
    /// What the wall clock is off by, in microseconds.
    wall_shift: i64,
    send_room: Option<usize>,
}

/// The script, shared by a test and the drivers that it sabotages. Clones share; any thread may hold one.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Script>>);

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// From now on `rule` holds, beside those before it. Of several that strike an operation, every delay counts, and of
    /// the others the first.
    pub fn inject(&self, rule: Rule) {
        self.script().rules.push(rule);
    }

    /// Nothing goes wrong any more; what was held back is reported, and stalled connections move.
    pub fn heal(&self) {
        let mut script = self.script();
        script.rules.clear();
        script.releases += 1;
        script.heals += 1;
    }

    /// The wall clock jumps by so many microseconds, back where that is negative (M-072).
    pub fn jump_wall_clock(&self, by: i64) {
        let mut script = self.script();
        script.wall_shift = script.wall_shift.saturating_add(by);
    }

    /// What the wall clock is off by, in microseconds.
    pub(super) fn wall_shift(&self) -> i64 {
        self.script().wall_shift
    }

    /// What is held back now is reported; the rules stay.
    pub fn release(&self) {
        self.script().releases += 1;
    }

    /// What was done so far, in the order in which it began. Receives and sends are listed only if a fault struck.
    pub fn seen(&self) -> Vec<Seen> {
        self.script().seen.clone()
    }

    /// The send room that a connection was last told, in octets.
    pub fn send_room(&self) -> Option<usize> {
        self.script().send_room
    }

    pub(super) fn note_send_room(&self, bytes: usize) {
        self.script().send_room = Some(bytes);
    }

    /// How often a fault struck.
    pub fn strikes(&self) -> usize {
        self.script().seen.iter().map(|seen| seen.faults.len()).sum()
    }

    /// Counts an operation that begins, and says what is to go wrong with it.
    pub(super) fn begin(&self, op: Op, name: &str) -> Plan {
        let mut script = self.script();
        let faults: Vec<Fault> =
            script.rules.iter_mut().filter_map(|rule| rule.strikes(op, name).then_some(rule.fault)).collect();
        if !matches!(op, Op::Receive | Op::Send) || !faults.is_empty() {
            script.seen.push(Seen { op, name: name.to_owned(), faults: faults.clone() });
        }
        Plan {
            effect: faults.iter().copied().find(|fault| !fault.is_timing()),
            timing: faults.into_iter().filter(|fault| fault.is_timing()).collect(),
            releases: script.releases,
            reported: script.reported,
        }
    }

    /// Whether the outcome of what was planned may not be reported yet.
    pub(super) fn is_held(&self, plan: &Plan) -> bool {
        let script = self.script();
        script.releases == plan.releases
            && plan.timing.iter().any(|fault| match fault {
                Fault::Held => true,
                Fault::Overtaken(by) => script.reported < plan.reported + by,
                _ => false,
            })
    }

    pub(super) fn report(&self) {
        self.script().reported += 1;
    }

    pub(super) fn heals(&self) -> u64 {
        self.script().heals
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to go wrong with one operation.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) effect: Option<Fault>,
    timing: Vec<Fault>,
    /// As they stood when the operation began.
    releases: u64,
    reported: u64,
}

impl Plan {
    /// How much later the outcome is reported.
    pub(super) fn delay(&self) -> Span {
        self.timing.iter().fold(Span::ZERO, |sum, fault| match fault {
            Fault::Late(span) => sum + *span,
            _ => sum,
        })
    }

    /// The error before anything is done, if there is to be one.
    pub(super) fn refusal(&self) -> std::io::Result<()> {
        match self.effect {
            Some(Fault::Fails(errno)) => Err(errno.into()),
            _ => Ok(()),
        }
    }

    /// The outcome that is reported instead of `done`.
    pub(super) fn outcome<T>(&self, done: std::io::Result<T>) -> std::io::Result<T> {
        match self.effect {
            Some(Fault::FailsAfterwards(errno)) => Err(errno.into()),
            _ => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(faults: &Faults, op: Op, name: &str) -> Option<Fault> {
        faults.begin(op, name).effect
    }

    #[test]
    fn rules_count_only_what_they_match() {
        let fault = Fault::Fails(Errno::IO);
        let faults = Faults::none();
        faults.inject(Rule::new(Op::Write, fault).named("segment").nth(2));
        assert_eq!(struck(&faults, Op::Write, "segment-1"), None);
        assert_eq!(struck(&faults, Op::Read, "segment-1"), None);
        assert_eq!(struck(&faults, Op::Write, "lock"), None);
        assert_eq!(struck(&faults, Op::StableWrite, "segment-2"), Some(fault));
        assert_eq!(struck(&faults, Op::Write, "segment-1"), None);
        assert_eq!(faults.strikes(), 1);
        faults.inject(Rule::new(Op::Any, fault).every(2));
        let every: Vec<_> = (0..4).map(|_| struck(&faults, Op::Sync, "x").is_some()).collect();
        assert_eq!(every, [false, true, false, true]);
        faults.heal();
        assert_eq!(struck(&faults, Op::Sync, "x"), None);
    }

    #[test]
    fn the_first_effect_and_every_delay_count() {
        let faults = Faults::none();
        faults.inject(Rule::new(Op::Read, Fault::Late(Span::millis(1))));
        faults.inject(Rule::new(Op::Read, Fault::Short(3)));
        faults.inject(Rule::new(Op::Read, Fault::Late(Span::millis(2))));
        faults.inject(Rule::new(Op::Read, Fault::Fails(Errno::IO)));
        let plan = faults.begin(Op::Read, "x");
        assert_eq!((plan.effect, plan.delay()), (Some(Fault::Short(3)), Span::millis(3)));
    }
}
