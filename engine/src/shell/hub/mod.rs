//! The hub: takes responsibility for messages, keeps them, hands them on. One per shard.
//!
//! A message's way: `accept` appends it to the open batch; `commit` writes the batch and, once it is durable, answers and
//! queues; `deliver` takes from the queues, sends and settles. All three are tasks of one thread that share this state;
//! nothing is borrowed across a wait.

mod accept;
mod commit;
mod messages;
mod segments;

use super::inlet::{Answer, Handle, Inlet};
use super::signal::Signal;
use crate::io::driver::{Driver, Notify};
use crate::settings::Settings;
use crate::smtp::server::Slot;
use crate::spool::{FileId, Log, Ticket};
use crate::sys::slice::Pool;
use crate::track::{Counter, Tally};
use crate::wire::{Tick, Wall};
use accept::Stalled;
use messages::Messages;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

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
