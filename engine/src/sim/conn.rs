//! A connection's end: what the kernel keeps of it ([`End`]), and what its user holds ([`SimConn`]).

use super::driver::Sim;
use super::machine::Process;
use super::net::{Net, Segment, travel};
use super::nth::Op;
use super::world::World;
use crate::io::base::events::{Events, Ways};
use crate::io::base::outlet::{LINGER, Outlet, SEND_STALL};
use crate::io::base::signal::Handle;
use crate::io::driver::{Conn, IoCounts, Next};
use crate::sys::slice::{Fill, Slice};
use crate::wire::Tick;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Octets that may be on their way or unread on the other side.
const WINDOW_BYTES: usize = 128 << 10;
/// The longest segment.
const SEGMENT_BYTES: u64 = 16 << 10;

/// The kernel's side of one end of a connection.
pub(super) struct End {
    pub number: u64,
    /// The number of the other end.
    pub other: u64,
    pub process: Rc<Process>,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub peer_machine: usize,
    /// Sent and not arrived, in order.
    pub transit: RefCell<VecDeque<Segment>>,
    pub travelling: Cell<bool>,
    pub last_arrival: Cell<Tick>,
    outlet: Outlet,
    /// Octets sent in all, those of them that the other side holds or will, and those that its task has taken.
    sent: Cell<u64>,
    untaken: Cell<usize>,
    shown: Cell<u64>,
    received: RefCell<Vec<u8>>,
    fin_received: Cell<bool>,
    /// The user dropped it; the kernel has forgotten it, but for what still travels.
    user_gone: Cell<bool>,
    closed: Cell<bool>,
    /// Kept until then.
    held: RefCell<Option<Rc<dyn Any>>>,
}

impl End {
    /// Both ends of a connection that `from` made to `to`.
    pub fn pair(
        net: &Net,
        (caller, from): (&Rc<Process>, SocketAddr),
        (called, to): (&Rc<Process>, SocketAddr),
    ) -> (Rc<End>, Rc<End>) {
        let numbers = (net.next_number(), net.next_number());
        let near = End::new(numbers, caller, (from, to), called.machine.number());
        let far = End::new((numbers.1, numbers.0), called, (to, from), caller.machine.number());
        (Rc::new(near), Rc::new(far))
    }

    fn new(
        (number, other): (u64, u64),
        process: &Rc<Process>,
        (local, peer): (SocketAddr, SocketAddr),
        peer_machine: usize,
    ) -> End {
        End {
            number,
            other,
            process: process.clone(),
            local,
            peer,
            peer_machine,
            transit: RefCell::default(),
            travelling: Cell::default(),
            last_arrival: Cell::default(),
            outlet: Outlet::default(),
            sent: Cell::default(),
            untaken: Cell::default(),
            shown: Cell::default(),
            received: RefCell::default(),
            fin_received: Cell::default(),
            user_gone: Cell::default(),
            closed: Cell::default(),
            held: RefCell::default(),
        }
    }

    /// Whether it may still send.
    pub fn is_open(&self) -> bool {
        self.outlet.broken().is_none() && !self.closed.get() && !self.outlet.is_finished()
    }

    /// The end of a turn: sends what was queued in it.
    pub fn flush(self: &Rc<Self>, world: &Rc<World>) {
        self.outlet.flushes();
        self.pump(world);
    }

    /// Sends what is queued as far as the window allows, in pieces cut at random places, and FIN behind it.
    fn pump(self: &Rc<Self>, world: &Rc<World>) {
        if self.outlet.broken().is_some() || self.closed.get() {
            return;
        }
        let before = self.outlet.unsent();
        while self.untaken.get() < WINDOW_BYTES {
            let piece = self.next_piece(world, WINDOW_BYTES - self.untaken.get());
            if piece.is_empty() {
                break;
            }
            if !self.passes(world, Op::Send) {
                return;
            }
            self.outlet.sent(piece.len(), world.now());
            self.untaken.set(self.untaken.get() + piece.len());
            self.sent.set(self.sent.get() + piece.len() as u64);
            self.transit.borrow_mut().push_back(Segment::Octets(piece));
        }
        if self.outlet.take_fin() {
            self.transit.borrow_mut().push_back(Segment::Fin);
            self.linger(world);
        }
        travel(world, self);
        if self.outlet.unsent() < before {
            self.outlet.tell_progress();
        }
    }

    fn next_piece(&self, world: &World, room: usize) -> Vec<u8> {
        let outbox = self.outlet.outbox();
        if outbox.unsent() == 0 {
            return Vec::new();
        }
        let chance = &world.chance;
        let most = match (world.net.weather.borrow().cuts, chance.below(4)) {
            (false, _) => SEGMENT_BYTES,
            (true, 0) => chance.within(1..64),
            (true, 1) => chance.within(1..1449),
            (true, _) => chance.within(1448..SEGMENT_BYTES),
        };
        let mut left = usize::try_from(most).unwrap_or(room).min(room);
        let mut piece = Vec::with_capacity(left.min(outbox.unsent()));
        for window in outbox.windows() {
            let step = left.min(window.len());
            piece.extend_from_slice(&window[..step]);
            left -= step;
            if left == 0 {
                break;
            }
        }
        piece
    }

    /// Something arrived.
    pub fn hear(self: &Rc<Self>, world: &Rc<World>, segment: Segment) {
        match segment {
            Segment::Octets(_) if self.closed.get() => self.reset(world),
            // Whoever lingers reads and forgets.
            Segment::Octets(octets) if self.user_gone.get() => self.free(world, octets.len()),
            Segment::Octets(_) if !self.passes(world, Op::Receive) => {}
            Segment::Octets(octets) => {
                self.received.borrow_mut().extend_from_slice(&octets);
                self.outlet.signal().wake();
            }
            Segment::Fin => {
                self.fin_received.set(true);
                self.outlet.signal().wake();
                if self.user_gone.get() && self.outlet.is_finished() {
                    self.close(world);
                }
            }
            Segment::Reset => self.broken(world, io::ErrorKind::ConnectionReset),
        }
    }

    /// Room for so many octets came free: the other side may send more.
    fn free(&self, world: &Rc<World>, octets: usize) {
        if octets > 0
            && let Some(other) = world.net.end_of(self.other)
        {
            other.untaken.set(other.untaken.get().saturating_sub(octets));
            other.pump(world);
        }
    }

    /// The connection is gone on this side.
    pub fn broken(self: &Rc<Self>, world: &World, kind: io::ErrorKind) {
        self.lose(kind);
        if self.user_gone.get() {
            self.close(world);
        }
    }

    /// Both sides lose it; nothing that was queued arrives.
    pub fn reset(self: &Rc<Self>, world: &Rc<World>) {
        self.give_up(world, io::ErrorKind::ConnectionReset);
    }

    /// Counts an operation; with the one that fails the connection is gone.
    fn passes(self: &Rc<Self>, world: &Rc<World>, op: Op) -> bool {
        let passed = self.process.machine.nth.pass(op);
        if let Err(error) = &passed {
            self.give_up(world, error.kind());
        }
        passed.is_ok()
    }

    fn give_up(self: &Rc<Self>, world: &Rc<World>, kind: io::ErrorKind) {
        if self.lose(kind) {
            self.transit.borrow_mut().push_back(Segment::Reset);
            travel(world, self);
        }
        if self.user_gone.get() {
            self.close(world);
        }
    }

    /// Whether it was not lost before.
    fn lose(&self, kind: io::ErrorKind) -> bool {
        let is_new = self.outlet.broken().is_none();
        if is_new {
            self.transit.borrow_mut().clear();
            self.outlet.fail(kind);
        }
        is_new
    }

    /// The process died: the kernel closes for it.
    pub fn orphan(self: &Rc<Self>, world: &Rc<World>) {
        self.user_gone.set(true);
        self.outlet.signal().close();
        self.outlet.clear();
        let unread = !self.received.borrow().is_empty();
        if self.outlet.broken().is_none() && unread {
            self.reset(world);
        } else if self.outlet.broken().is_none() {
            self.outlet.finish();
            self.pump(world);
        }
        self.close(world);
    }

    /// The user dropped it: what is queued is sent, then FIN; then the peer has a bounded time.
    fn let_go(self: &Rc<Self>, world: &Rc<World>) {
        self.user_gone.set(true);
        let unread = self.received.take().len();
        self.free(world, unread);
        if self.outlet.broken().is_some() {
            return self.close(world);
        }
        self.outlet.finish();
        self.pump(world);
        if self.outlet.is_finished() && self.fin_received.get() {
            self.close(world);
        } else if !self.outlet.is_finished() {
            self.watch_stall(world);
        }
    }

    /// A peer that takes nothing of what is left is given up.
    fn watch_stall(self: &Rc<Self>, world: &World) {
        let (end, before) = (self.clone(), self.outlet.unsent());
        world.after(SEND_STALL, move |world| match end.outlet.unsent() {
            0 => {}
            now if now < before => end.watch_stall(world),
            _ => end.reset(world),
        });
    }

    fn linger(self: &Rc<Self>, world: &World) {
        if self.user_gone.get() {
            let end = self.clone();
            world.after(LINGER, move |world| end.close(world));
        }
    }

    fn close(&self, world: &World) {
        self.closed.set(true);
        drop(self.held.take());
        self.forget_if_over(world);
    }

    /// Once closed, and nothing travels any more, the kernel knows nothing of it.
    pub fn forget_if_over(&self, world: &World) {
        if self.closed.get() && self.transit.borrow().is_empty() {
            world.net.forget(self.number);
        }
    }
}

/// A simulated connection.
pub struct SimConn {
    sim: Sim,
    end: Rc<End>,
    events: Events,
    /// An event at this time wakes us.
    armed: Tick,
    aborted: bool,
}

impl SimConn {
    pub(super) fn new(sim: Sim, end: Rc<End>) -> Self {
        Self { sim, end, events: Events::new(), armed: Tick::NEVER, aborted: false }
    }

    /// Octets queued so far, from the beginning.
    pub fn said(&self) -> u64 {
        self.end.sent.get() + self.end.outlet.unsent() as u64
    }

    /// Of those, what the peer's task has certainly been shown.
    pub fn heard(&self) -> u64 {
        self.end.shown.get()
    }

    fn flush_at_end_of_turn(&self) {
        if self.end.outlet.ask_flush() {
            self.sim.shard.flushes.borrow_mut().push(self.end.clone());
        }
    }
}

/// The ways of a simulated connection.
struct InSim<'a> {
    sim: &'a Sim,
    end: &'a End,
    armed: &'a mut Tick,
}

impl Ways for InSim<'_> {
    fn outlet(&self) -> &Outlet {
        &self.end.outlet
    }

    fn poll_receive(&mut self, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = {
            let mut received = self.end.received.borrow_mut();
            let count = received.len().min(into.len());
            into[..count].copy_from_slice(&received[..count]);
            received.drain(..count);
            count
        };
        if count == 0 && !self.end.fin_received.get() {
            return Poll::Pending;
        }
        if let Some(other) = self.sim.world.net.end_of(self.end.other) {
            other.shown.set(other.shown.get() + count as u64);
        }
        self.end.free(&self.sim.world, count);
        Poll::Ready(Ok(count))
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>, by: Tick) -> Poll<()> {
        let now = self.sim.world.now();
        if now >= by {
            return Poll::Ready(());
        }
        if now >= *self.armed {
            *self.armed = Tick::NEVER;
        }
        if by < *self.armed {
            *self.armed = by;
            self.sim.world.wake_at(by, context.waker().clone());
        }
        Poll::Pending
    }

    fn lend_scratch(&self) -> Vec<u8> {
        self.sim.shard.lend_scratch()
    }

    fn keep_scratch(&self, scratch: Vec<u8>) {
        self.sim.shard.scratch.set(scratch);
    }

    fn count(&self, change: impl FnOnce(&mut IoCounts)) {
        self.sim.shard.count(change);
    }
}

impl Conn for SimConn {
    type Handle = Handle;

    fn next<R>(&mut self, by: Tick, see: impl FnOnce(&[u8]) -> (usize, R)) -> impl Future<Output = Next<R>> {
        let ways = InSim { sim: &self.sim, end: &self.end, armed: &mut self.armed };
        self.events.next(ways, by, see)
    }

    fn aim(&mut self, into: Fill) {
        self.events.inbox.aim(into);
    }

    fn give_back(&mut self, bytes: &[u8]) {
        self.events.inbox.give_back(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.end.outlet.put(bytes) {
            self.sim.shard.count(|counts| counts.sent_bytes += bytes.len() as u64);
            self.flush_at_end_of_turn();
        }
    }

    fn push(&mut self, slice: Slice) {
        let bytes = slice.len() as u64;
        if self.end.outlet.push(slice) {
            self.sim.shard.count(|counts| counts.sent_bytes += bytes);
            self.flush_at_end_of_turn();
        }
    }

    fn unsent(&self) -> usize {
        self.end.outlet.unsent()
    }

    fn sent_at(&self) -> Tick {
        self.end.outlet.sent_at()
    }

    fn taken_at(&self) -> Tick {
        self.end.outlet.sent_at()
    }

    fn set_send_room(&mut self, bytes: usize) {
        self.end.outlet.set_room(bytes);
    }

    fn set_receive_room(&mut self, bytes: usize) {
        self.events.inbox.set_room(bytes);
    }

    fn keep(&mut self, held: Rc<dyn Any>) {
        *self.end.held.borrow_mut() = Some(held);
    }

    fn finish(&mut self) {
        self.end.outlet.finish();
        self.flush_at_end_of_turn();
    }

    fn abort(mut self) {
        self.aborted = true;
    }

    fn handle(&self) -> Handle {
        self.end.outlet.handle()
    }

    fn peer(&self) -> SocketAddr {
        self.end.peer
    }

    fn local(&self) -> SocketAddr {
        self.end.local
    }
}

impl Drop for SimConn {
    fn drop(&mut self) {
        self.end.outlet.signal().close();
        // The kernel closes what a dead process held.
        if !self.end.process.is_alive() {
            return;
        }
        let world = self.sim.world.clone();
        if self.aborted {
            self.end.user_gone.set(true);
            self.end.reset(&world);
            self.end.close(&world);
        } else {
            self.end.let_go(&world);
        }
    }
}
