//! A connection's end: what the kernel keeps of it ([`End`]), and what its user holds ([`SimConn`]).

use super::driver::Sim;
use super::machine::Process;
use super::net::{Net, Segment, travel};
use super::world::World;
use crate::io::base::inbox::Inbox;
use crate::io::base::outbox::Outbox;
use crate::io::base::signal::{Handle, Signal};
use crate::io::driver::{Conn, Next, UNREAD_BYTES};
use crate::sys::slice::{Fill, Slice};
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Octets that may be on their way or unread on the other side.
const WINDOW_BYTES: usize = 128 << 10;
/// The longest segment.
const SEGMENT_BYTES: u64 = 16 << 10;
/// How long a dropped connection waits for the peer's FIN after its own.
const LINGER: Span = Span::seconds(2);
/// How long a dropped connection waits for a peer that takes no octet of what is queued.
const SEND_STALL: Span = Span::seconds(30);
/// After so many events in a row without a wait, a connection lets the others run.
const STREAK_MAX: u32 = 64;

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
    outbox: RefCell<Outbox>,
    sent_at: Cell<Tick>,
    /// Octets sent in all, those of them that the other side holds or will, and those that its task has taken.
    sent: Cell<u64>,
    untaken: Cell<usize>,
    shown: Cell<u64>,
    received: RefCell<Vec<u8>>,
    fin_received: Cell<bool>,
    broken: Cell<Option<io::ErrorKind>>,
    /// FIN follows what is queued; it was sent.
    finishing: Cell<bool>,
    finished: Cell<bool>,
    /// The user dropped it; the kernel has forgotten it, but for what still travels.
    user_gone: Cell<bool>,
    closed: Cell<bool>,
    flush_asked: Cell<bool>,
    signal: Rc<Signal>,
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
            outbox: RefCell::default(),
            sent_at: Cell::default(),
            sent: Cell::default(),
            untaken: Cell::default(),
            shown: Cell::default(),
            received: RefCell::default(),
            fin_received: Cell::default(),
            broken: Cell::default(),
            finishing: Cell::default(),
            finished: Cell::default(),
            user_gone: Cell::default(),
            closed: Cell::default(),
            flush_asked: Cell::default(),
            signal: Rc::default(),
        }
    }

    /// Whether it may still send.
    pub fn is_open(&self) -> bool {
        self.broken.get().is_none() && !self.closed.get() && !self.finished.get()
    }

    /// The end of a turn: sends what was queued in it.
    pub fn flush(self: &Rc<Self>, world: &Rc<World>) {
        self.flush_asked.set(false);
        self.pump(world);
    }

    /// Sends what is queued as far as the window allows, in pieces cut at random places, and FIN behind it.
    fn pump(self: &Rc<Self>, world: &Rc<World>) {
        if self.broken.get().is_some() || self.closed.get() {
            return;
        }
        let before = self.outbox.borrow().unsent();
        while self.untaken.get() < WINDOW_BYTES {
            let piece = self.next_piece(world, WINDOW_BYTES - self.untaken.get());
            if piece.is_empty() {
                break;
            }
            self.outbox.borrow_mut().sent(piece.len());
            self.untaken.set(self.untaken.get() + piece.len());
            self.sent.set(self.sent.get() + piece.len() as u64);
            self.sent_at.set(world.now());
            self.transit.borrow_mut().push_back(Segment::Octets(piece));
        }
        let unsent = self.outbox.borrow().unsent();
        if unsent == 0 && self.finishing.get() && !self.finished.replace(true) {
            self.transit.borrow_mut().push_back(Segment::Fin);
            self.linger(world);
        }
        travel(world, self);
        if unsent < before && (unsent == 0 || self.outbox.borrow().has_room_to_tell()) {
            self.signal.wake();
        }
    }

    fn next_piece(&self, world: &World, room: usize) -> Vec<u8> {
        let outbox = self.outbox.borrow();
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
            Segment::Octets(octets) => {
                self.received.borrow_mut().extend_from_slice(&octets);
                self.signal.wake();
            }
            Segment::Fin => {
                self.fin_received.set(true);
                self.signal.wake();
                if self.user_gone.get() && self.finished.get() {
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
        if self.lose(io::ErrorKind::ConnectionReset) {
            self.transit.borrow_mut().push_back(Segment::Reset);
            travel(world, self);
        }
        if self.user_gone.get() {
            self.close(world);
        }
    }

    /// Whether it was not lost before.
    fn lose(&self, kind: io::ErrorKind) -> bool {
        let is_new = self.broken.get().is_none();
        if is_new {
            self.broken.set(Some(kind));
            self.outbox.borrow_mut().clear();
            self.transit.borrow_mut().clear();
            self.signal.wake();
        }
        is_new
    }

    /// The process died: the kernel closes for it.
    pub fn orphan(self: &Rc<Self>, world: &Rc<World>) {
        self.user_gone.set(true);
        self.signal.close();
        self.outbox.borrow_mut().clear();
        let unread = !self.received.borrow().is_empty();
        if self.broken.get().is_none() && unread {
            self.reset(world);
        } else if self.broken.get().is_none() {
            self.finishing.set(true);
            self.pump(world);
        }
        self.close(world);
    }

    /// The user dropped it: what is queued is sent, then FIN; then the peer has a bounded time.
    fn let_go(self: &Rc<Self>, world: &Rc<World>) {
        self.user_gone.set(true);
        let unread = self.received.take().len();
        self.free(world, unread);
        if self.broken.get().is_some() {
            return self.close(world);
        }
        self.finishing.set(true);
        self.pump(world);
        if self.finished.get() && self.fin_received.get() {
            self.close(world);
        } else if !self.finished.get() {
            self.watch_stall(world);
        }
    }

    /// A peer that takes nothing of what is left is given up.
    fn watch_stall(self: &Rc<Self>, world: &World) {
        let (end, before) = (self.clone(), self.outbox.borrow().unsent());
        world.after(SEND_STALL, move |world| match end.outbox.borrow().unsent() {
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
    inbox: Inbox,
    /// An event at this time wakes us.
    armed: Tick,
    streak: u32,
    aborted: bool,
}

impl SimConn {
    pub(super) fn new(sim: Sim, end: Rc<End>) -> Self {
        Self { sim, end, inbox: Inbox::new(), armed: Tick::NEVER, streak: 0, aborted: false }
    }

    /// Octets queued so far, from the beginning.
    pub fn said(&self) -> u64 {
        self.end.sent.get() + self.end.outbox.borrow().unsent() as u64
    }

    /// Of those, what the peer's task has certainly been shown.
    pub fn heard(&self) -> u64 {
        self.end.shown.get()
    }

    /// The order of events of [`Next`], as it stands in the contract.
    fn poll_next<R, S>(&mut self, context: &mut Context<'_>, by: Tick, see: &mut Option<S>) -> Poll<Next<R>>
    where
        S: FnOnce(&[u8]) -> (usize, R),
    {
        self.end.signal.register(context.waker());
        let notes = self.end.signal.take_notes();
        if notes != 0 {
            self.inbox.renew();
            return Poll::Ready(Next::Note(notes));
        }
        if !self.end.outbox.borrow().is_above()
            && let Some(next) = self.poll_receive(see)
        {
            return Poll::Ready(next);
        }
        if self.end.outbox.borrow_mut().take_room() {
            return Poll::Ready(Next::Room);
        }
        if let Some(kind) = self.end.broken.get() {
            self.inbox.break_off(kind);
        }
        match self.inbox.tell_end() {
            Some(Ok(())) => return Poll::Ready(Next::End),
            Some(Err(kind)) => return Poll::Ready(Next::Broken(kind)),
            None => {}
        }
        self.poll_deadline(context, by).map(|()| Next::Deadline)
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>, by: Tick) -> Poll<()> {
        let now = self.sim.world.now();
        if now >= by {
            return Poll::Ready(());
        }
        if now >= self.armed {
            self.armed = Tick::NEVER;
        }
        if by < self.armed {
            self.armed = by;
            self.sim.world.wake_at(by, context.waker().clone());
        }
        Poll::Pending
    }

    fn poll_receive<R, S>(&mut self, see: &mut Option<S>) -> Option<Next<R>>
    where
        S: FnOnce(&[u8]) -> (usize, R),
    {
        if let Some((mut fill, moved)) = self.inbox.take_aim() {
            let added = moved + self.receive(fill.room(), |octets| assert_eq!(fill.put(octets), octets.len()));
            if added == 0 {
                self.inbox.keep_aim(fill);
                return None;
            }
            // What the chunk had no room for is shown next, although it may have been seen before the aim.
            self.inbox.renew();
            return Some(Next::Filled(fill, added));
        }
        let room = self.inbox.room();
        if room > 0 {
            let mut arrived = Vec::new();
            self.receive(room.min(UNREAD_BYTES), |octets| arrived.extend_from_slice(octets));
            self.inbox.append(&arrived);
        }
        if self.inbox.is_fresh() {
            let see = see.take().expect("see is called once");
            return Some(Next::Bytes(self.inbox.show(see)));
        }
        None
    }

    /// Takes at most `most` octets of what arrived; the end of the stream goes to the inbox.
    fn receive(&mut self, most: usize, into: impl FnOnce(&[u8])) -> usize {
        let count = {
            let mut received = self.end.received.borrow_mut();
            let count = received.len().min(most);
            into(&received[..count]);
            received.drain(..count);
            if received.is_empty() && self.end.fin_received.get() {
                self.inbox.finish();
            }
            count
        };
        if let Some(other) = self.sim.world.net.end_of(self.end.other) {
            other.shown.set(other.shown.get() + count as u64);
        }
        self.end.free(&self.sim.world, count);
        self.sim.shard.count(|counts| counts.received_bytes += count as u64);
        count
    }

    fn is_sending_over(&self) -> bool {
        self.end.finishing.get() || self.end.broken.get().is_some()
    }

    fn flush_at_end_of_turn(&self) {
        if !self.end.flush_asked.replace(true) {
            self.sim.shard.flushes.borrow_mut().push(self.end.clone());
        }
    }
}

impl Conn for SimConn {
    type Handle = Handle;

    fn next<R>(&mut self, by: Tick, see: impl FnOnce(&[u8]) -> (usize, R)) -> impl Future<Output = Next<R>> {
        let mut see = Some(see);
        poll_fn(move |context| {
            if self.streak >= STREAK_MAX {
                self.streak = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let next = self.poll_next(context, by, &mut see);
            self.streak = if next.is_ready() { self.streak + 1 } else { 0 };
            next
        })
    }

    fn aim(&mut self, into: Fill) {
        self.inbox.aim(into);
    }

    fn give_back(&mut self, bytes: &[u8]) {
        self.inbox.give_back(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        if !self.is_sending_over() {
            self.end.outbox.borrow_mut().put(bytes);
            self.sim.shard.count(|counts| counts.sent_bytes += bytes.len() as u64);
            self.flush_at_end_of_turn();
        }
    }

    fn push(&mut self, slice: Slice) {
        if !self.is_sending_over() {
            self.sim.shard.count(|counts| counts.sent_bytes += slice.len() as u64);
            self.end.outbox.borrow_mut().push(slice);
            self.flush_at_end_of_turn();
        }
    }

    fn unsent(&self) -> usize {
        self.end.outbox.borrow().unsent()
    }

    fn sent_at(&self) -> Tick {
        self.end.sent_at.get()
    }

    fn set_send_room(&mut self, bytes: usize) {
        self.end.outbox.borrow_mut().set_room(bytes);
    }

    fn set_receive_room(&mut self, bytes: usize) {
        self.inbox.set_room(bytes);
    }

    fn finish(&mut self) {
        self.end.finishing.set(true);
        self.flush_at_end_of_turn();
    }

    fn abort(mut self) {
        self.aborted = true;
    }

    fn handle(&self) -> Handle {
        Handle(self.end.signal.clone())
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
        self.end.signal.close();
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
