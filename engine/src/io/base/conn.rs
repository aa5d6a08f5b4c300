//! A connection on tokio: the order of events, the two directions joined to a socket, and its end.
//!
//! What differs between the drivers is small: how octets come (`poll_receive`) and how the end of a turn sends
//! (`Wire::send`). The connection's two ends of life are `Line`, which its user holds, and `Link`, which lives until the
//! last octet is sent.

use crate::io::base::inbox::Inbox;
use crate::io::base::outbox::Outbox;
use crate::io::base::signal::{Handle, Signal};
use crate::io::base::turn::{Flush, LazyTimer, Turn};
use crate::io::driver::{Conn, Next};
use crate::sys::slice::{Fill, Slice};
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

/// How long a dropped connection waits for the peer's FIN after its own.
pub(crate) const LINGER: Span = Span::seconds(2);
/// How long a dropped connection waits for a peer that takes no octet of what is queued.
const SEND_STALL: Span = Span::seconds(30);
/// After so many events in a row without a wait, a connection lets the others run.
const STREAK_MAX: u32 = 64;

/// A driver's way to a socket.
pub trait Wire: Sized + 'static {
    /// Receives into `into`, which is not empty: no more is asked of the kernel than fits. 0 is the peer's FIN.
    fn poll_receive(link: &Rc<Link<Self>>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Begins to send what is queued, unless that is under way. Reports by `Link::sent` and `Link::fail`; at the end calls
    /// `Link::after_sending`.
    fn send(link: &Rc<Link<Self>>);
    /// Sends FIN.
    fn finish(link: &Rc<Link<Self>>);
    /// Closes with a reset and stops sending; called once, at the end.
    fn reset(link: &Rc<Link<Self>>);
}

/// What outlives the user's end of a connection.
pub struct Link<W: Wire> {
    pub(crate) wire: W,
    pub(crate) turn: Rc<Turn>,
    pub(crate) signal: Rc<Signal>,
    pub(crate) outbox: RefCell<Outbox>,
    sent_at: Cell<Tick>,
    /// Sending failed with this.
    broken: Cell<Option<io::ErrorKind>>,
    flush_asked: Cell<bool>,
    finishing: Cell<bool>,
    finished: Cell<bool>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl<W: Wire> Link<W> {
    /// So many octets were handed to the kernel.
    pub(crate) fn sent(&self, bytes: usize) {
        self.turn.count(|counts| counts.sent_bytes += bytes as u64);
        self.sent_at.set(self.turn.now());
        let mut outbox = self.outbox.borrow_mut();
        outbox.sent(bytes);
        let wake = outbox.unsent() == 0 || outbox.has_room_to_tell();
        drop(outbox);
        if wake {
            self.signal.wake();
        }
    }

    /// Sending failed: the connection is gone.
    pub(crate) fn fail(&self, kind: io::ErrorKind) {
        self.outbox.borrow_mut().clear();
        self.broken.set(Some(kind));
        self.signal.wake();
    }

    /// Everything queued is sent: the FIN may follow.
    pub(crate) fn after_sending(self: &Rc<Self>) {
        let done = self.outbox.borrow().unsent() == 0 && self.broken.get().is_none();
        if done && self.finishing.get() && !self.finished.replace(true) {
            W::finish(self);
        }
    }

    fn flush_at_end_of_turn(self: &Rc<Self>) {
        if !self.flush_asked.replace(true) {
            self.turn.flush_later(self.clone());
        }
    }

    /// Sends what is left, then FIN, then waits for the peer's, each for a bounded time.
    async fn close(self: Rc<Self>, peer_has_finished: bool) {
        while self.outbox.borrow().unsent() > 0 {
            let before = self.outbox.borrow().unsent();
            let progress = poll_fn(|context| {
                self.signal.register(context.waker());
                let now = self.outbox.borrow().unsent();
                // The last octets, or a whole room's worth: `sent` wakes for both.
                if now == 0 || now < before { Poll::Ready(()) } else { Poll::Pending }
            });
            let limit = self.turn.now() + SEND_STALL;
            if self.turn.before(limit, progress).await.is_none() && self.outbox.borrow().unsent() == before {
                return W::reset(&self);
            }
        }
        self.finishing.set(true);
        self.after_sending();
        if self.broken.get().is_none() && !peer_has_finished {
            self.turn.before(self.turn.now() + LINGER, self.read_to_the_end()).await;
        }
    }

    async fn read_to_the_end(self: &Rc<Self>) {
        let received =
            |context: &mut Context<'_>| self.turn.with_scratch(|scratch| W::poll_receive(self, context, scratch));
        while let Ok(1..) = poll_fn(received).await {}
    }
}

impl<W: Wire> Flush for Link<W> {
    fn flush(self: Rc<Self>) {
        self.flush_asked.set(false);
        if self.outbox.borrow().unsent() > 0 {
            W::send(&self);
        } else {
            self.after_sending();
        }
    }
}

/// A connection of a driver on tokio.
pub struct Line<W: Wire> {
    link: Rc<Link<W>>,
    inbox: Inbox,
    timer: LazyTimer,
    streak: u32,
    aborted: bool,
}

impl<W: Wire> Line<W> {
    pub(crate) fn new(turn: Rc<Turn>, wire: W, peer: SocketAddr, local: SocketAddr) -> Self {
        let link = Link {
            wire,
            turn,
            signal: Rc::default(),
            outbox: RefCell::default(),
            sent_at: Cell::default(),
            broken: Cell::new(None),
            flush_asked: Cell::new(false),
            finishing: Cell::new(false),
            finished: Cell::new(false),
            peer,
            local,
        };
        Self { link: Rc::new(link), inbox: Inbox::new(), timer: LazyTimer::default(), streak: 0, aborted: false }
    }

    /// The order of events of [`Next`], as it stands in the contract.
    fn poll_next<R, S>(&mut self, context: &mut Context<'_>, by: Tick, see: &mut Option<S>) -> Poll<Next<R>>
    where
        S: FnOnce(&[u8]) -> (usize, R),
    {
        self.link.signal.register(context.waker());
        let notes = self.link.signal.take_notes();
        if notes != 0 {
            self.inbox.renew();
            return Poll::Ready(Next::Note(notes));
        }
        if !self.link.outbox.borrow().is_above()
            && let Some(next) = self.poll_receive(context, see)
        {
            return Poll::Ready(next);
        }
        if self.link.outbox.borrow_mut().take_room() {
            return Poll::Ready(Next::Room);
        }
        if let Some(kind) = self.link.broken.get() {
            self.inbox.break_off(kind);
        }
        match self.inbox.tell_end() {
            Some(Ok(())) => return Poll::Ready(Next::End),
            Some(Err(kind)) => return Poll::Ready(Next::Broken(kind)),
            None => {}
        }
        self.timer.poll(&self.link.turn, by, context).map(|()| Next::Deadline)
    }

    fn poll_receive<R, S>(&mut self, context: &mut Context<'_>, see: &mut Option<S>) -> Option<Next<R>>
    where
        S: FnOnce(&[u8]) -> (usize, R),
    {
        if let Some((fill, moved)) = self.inbox.take_aim() {
            return self.poll_aimed(context, fill, moved);
        }
        let room = self.inbox.room();
        if room > 0 {
            let turn = self.link.turn.clone();
            let shown = turn.with_scratch(|scratch| {
                let most = room.min(scratch.len());
                self.poll_shown(context, &mut scratch[..most], see)
            });
            if shown.is_some() {
                return shown;
            }
        }
        if self.inbox.is_fresh() {
            let see = see.take().expect("see is called once");
            return Some(Next::Bytes(self.inbox.show(see)));
        }
        None
    }

    fn poll_aimed<R>(&mut self, context: &mut Context<'_>, mut fill: Fill, moved: usize) -> Option<Next<R>> {
        let mut added = moved;
        if fill.room() > 0 && self.inbox.is_open() {
            let received = self.receive(context, fill.spare());
            fill.advance(received);
            added += received;
        }
        self.link.turn.count(|counts| counts.copied_bytes += moved as u64);
        if added == 0 {
            self.inbox.keep_aim(fill);
            return None;
        }
        // What the chunk had no room for is shown next, although it may have been seen before the aim.
        self.inbox.renew();
        Some(Next::Filled(fill, added))
    }

    /// Receives into `scratch`; shows it at once if nothing stands before it.
    fn poll_shown<R, S>(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
        see: &mut Option<S>,
    ) -> Option<Next<R>>
    where
        S: FnOnce(&[u8]) -> (usize, R),
    {
        let received = self.receive(context, scratch);
        let bytes = &scratch[..received];
        if bytes.is_empty() {
            return None;
        }
        if self.inbox.unread().is_empty() {
            let see = see.take().expect("see is called once");
            let (answer, kept) = self.inbox.show_directly(bytes, see);
            self.link.turn.count(|counts| counts.copied_bytes += kept as u64);
            return Some(Next::Bytes(answer));
        }
        self.inbox.append(bytes);
        self.link.turn.count(|counts| counts.copied_bytes += received as u64);
        None
    }

    /// Octets received into `into`; 0 when there are none now. The end of the stream goes to the inbox.
    fn receive(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> usize {
        match W::poll_receive(&self.link, context, into) {
            Poll::Pending => return 0,
            Poll::Ready(Ok(0)) => self.inbox.finish(),
            Poll::Ready(Err(error)) => self.inbox.break_off(error.kind()),
            Poll::Ready(Ok(received)) => {
                self.link.turn.count(|counts| counts.received_bytes += received as u64);
                return received;
            }
        }
        0
    }

    fn is_sending_over(&self) -> bool {
        self.link.finishing.get() || self.link.broken.get().is_some()
    }
}

impl<W: Wire> Conn for Line<W> {
    type Handle = Handle;

    fn next<R>(&mut self, by: Tick, see: impl FnOnce(&[u8]) -> (usize, R)) -> impl Future<Output = Next<R>> {
        let mut see = Some(see);
        // Tokio's own budget would make a ready socket look idle and put the deadline before its octets.
        tokio::task::unconstrained(poll_fn(move |context| {
            if self.streak >= STREAK_MAX {
                self.streak = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let next = self.poll_next(context, by, &mut see);
            self.streak = if next.is_ready() { self.streak + 1 } else { 0 };
            next
        }))
    }

    fn aim(&mut self, into: Fill) {
        self.inbox.aim(into);
    }

    fn give_back(&mut self, bytes: &[u8]) {
        self.inbox.give_back(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        if !self.is_sending_over() {
            self.link.turn.count(|counts| counts.copied_bytes += bytes.len() as u64);
            self.link.outbox.borrow_mut().put(bytes);
            self.link.flush_at_end_of_turn();
        }
    }

    fn push(&mut self, slice: Slice) {
        if !self.is_sending_over() {
            self.link.outbox.borrow_mut().push(slice);
            self.link.flush_at_end_of_turn();
        }
    }

    fn unsent(&self) -> usize {
        self.link.outbox.borrow().unsent()
    }

    fn sent_at(&self) -> Tick {
        self.link.sent_at.get()
    }

    fn set_send_room(&mut self, bytes: usize) {
        self.link.outbox.borrow_mut().set_room(bytes);
    }

    fn set_receive_room(&mut self, bytes: usize) {
        self.inbox.set_room(bytes);
    }

    fn finish(&mut self) {
        self.link.finishing.set(true);
        self.link.flush_at_end_of_turn();
    }

    fn abort(mut self) {
        self.aborted = true;
    }

    fn handle(&self) -> Handle {
        Handle(self.link.signal.clone())
    }

    fn peer(&self) -> SocketAddr {
        self.link.peer
    }

    fn local(&self) -> SocketAddr {
        self.link.local
    }
}

impl<W: Wire> Drop for Line<W> {
    fn drop(&mut self) {
        let link = &self.link;
        link.signal.close();
        if self.aborted {
            link.outbox.borrow_mut().clear();
            W::reset(link);
        } else if !self.inbox.is_open() && link.outbox.borrow().unsent() == 0 {
            // The peer is done and so are we: nothing to linger for.
        } else {
            link.turn.spawn_closing(link.clone().close(self.inbox.is_finished()));
        }
    }
}
