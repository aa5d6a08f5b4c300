//! A connection on tokio: the two directions joined to a socket, and its end.
//!
//! What differs between the drivers is small: how octets come (`poll_receive`) and how the end of a turn sends
//! (`Wire::send`). The connection's two ends of life are `Line`, which its user holds, and `Link`, which lives until the
//! last octet is sent.

use crate::io::base::events::{Events, Ways};
use crate::io::base::outlet::{LINGER, Outlet, SEND_STALL};
use crate::io::base::signal::Handle;
use crate::io::base::sockets;
use crate::io::base::turn::{Flush, LazyTimer, Turn};
use crate::io::driver::{Conn, IoCounts, Next};
use crate::sys::slice::{Fill, Slice};
use crate::wire::Tick;
use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A driver's way to a socket.
pub trait Wire: Sized + 'static {
    /// Receives into `into`, which is not empty: no more is asked of the kernel than fits. 0 is the peer's FIN.
    fn poll_receive(link: &Rc<Link<Self>>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Begins to send what is queued, unless that is under way. Reports by `Link::sent` and `Link::fail`; at the end calls
    /// `Link::after_sending`.
    fn send(link: &Rc<Link<Self>>);
    /// Its socket.
    fn socket(&self) -> RawFd;
    /// Sends FIN.
    fn finish(link: &Rc<Link<Self>>);
    /// Closes with a reset and stops sending; called once, at the end.
    fn reset(link: &Rc<Link<Self>>);
}

/// What outlives the user's end of a connection.
pub struct Link<W: Wire> {
    pub(crate) wire: W,
    pub(crate) turn: Rc<Turn>,
    pub(crate) outlet: Outlet,
    peer: SocketAddr,
    local: SocketAddr,
    /// Kept until the socket is closed: dropped behind it.
    held: RefCell<Option<Rc<dyn Any>>>,
}

impl<W: Wire> Link<W> {
    /// So many octets were handed to the kernel.
    pub(crate) fn sent(&self, bytes: usize) {
        self.turn.count(|counts| counts.sent_bytes += bytes as u64);
        self.outlet.sent(bytes, self.turn.now());
        self.outlet.tell_progress();
    }

    /// Sending failed: the connection is gone.
    pub(crate) fn fail(&self, kind: io::ErrorKind) {
        self.outlet.fail(kind);
    }

    /// Everything queued is sent: the FIN may follow.
    pub(crate) fn after_sending(self: &Rc<Self>) {
        if self.outlet.take_fin() {
            W::finish(self);
        }
    }

    fn flush_at_end_of_turn(self: &Rc<Self>) {
        if self.outlet.ask_flush() {
            self.turn.flush_later(self.clone());
        }
    }

    /// Sends what is left, then FIN, then waits for the peer's, each for a bounded time.
    async fn close(self: Rc<Self>, peer_has_finished: bool) {
        while self.outlet.unsent() > 0 {
            let before = self.outlet.unsent();
            let progress = poll_fn(|context| {
                self.outlet.signal().register(context.waker());
                let now = self.outlet.unsent();
                // The last octets, or a whole room's worth: `sent` wakes for both.
                if now == 0 || now < before { Poll::Ready(()) } else { Poll::Pending }
            });
            let limit = self.turn.now() + SEND_STALL;
            if self.turn.before(limit, progress).await.is_none() && self.outlet.unsent() == before {
                return W::reset(&self);
            }
        }
        self.outlet.finish();
        self.after_sending();
        if self.outlet.broken().is_none() && !peer_has_finished {
            self.turn.linger(self.turn.now() + LINGER, self.read_to_the_end()).await;
        }
    }

    async fn read_to_the_end(self: &Rc<Self>) {
        let received = |context: &mut Context<'_>| {
            let mut scratch = self.turn.lend_scratch();
            let received = W::poll_receive(self, context, &mut scratch);
            self.turn.keep_scratch(scratch);
            received
        };
        while let Ok(1..) = poll_fn(received).await {
            self.turn.heard();
        }
    }
}

impl<W: Wire> Flush for Link<W> {
    fn flush(self: Rc<Self>) {
        self.outlet.flushes();
        if self.outlet.unsent() > 0 {
            W::send(&self);
        } else {
            self.after_sending();
        }
    }
}

/// A connection of a driver on tokio.
pub struct Line<W: Wire> {
    link: Rc<Link<W>>,
    events: Events,
    timer: LazyTimer,
    aborted: bool,
}

impl<W: Wire> Line<W> {
    pub(crate) fn new(turn: Rc<Turn>, wire: W, peer: SocketAddr, local: SocketAddr) -> Self {
        let link = Link { wire, turn, outlet: Outlet::default(), peer, local, held: RefCell::default() };
        Self { link: Rc::new(link), events: Events::new(), timer: LazyTimer::default(), aborted: false }
    }
}

/// The ways of a connection on tokio.
struct OnTokio<'a, W: Wire> {
    link: &'a Rc<Link<W>>,
    timer: &'a mut LazyTimer,
}

impl<W: Wire> Ways for OnTokio<'_, W> {
    fn outlet(&self) -> &Outlet {
        &self.link.outlet
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        W::poll_receive(self.link, context, into)
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>, by: Tick) -> Poll<()> {
        self.timer.poll(&self.link.turn, by, context)
    }

    fn lend_scratch(&self) -> Vec<u8> {
        self.link.turn.lend_scratch()
    }

    fn keep_scratch(&self, scratch: Vec<u8>) {
        self.link.turn.keep_scratch(scratch);
    }

    fn count(&self, change: impl FnOnce(&mut IoCounts)) {
        self.link.turn.count(change);
    }
}

impl<W: Wire> Conn for Line<W> {
    type Handle = Handle;

    fn next<R>(&mut self, by: Tick, see: impl FnOnce(&[u8]) -> (usize, R)) -> impl Future<Output = Next<R>> {
        let ways = OnTokio { link: &self.link, timer: &mut self.timer };
        // Tokio's own budget would make a ready socket look idle and put the deadline before its octets.
        tokio::task::unconstrained(self.events.next(ways, by, see))
    }

    fn aim(&mut self, into: Fill) {
        self.events.inbox.aim(into);
    }

    fn give_back(&mut self, bytes: &[u8]) {
        self.events.inbox.give_back(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.link.outlet.put(bytes) {
            self.link.turn.count(|counts| counts.copied_bytes += bytes.len() as u64);
            self.link.flush_at_end_of_turn();
        }
    }

    fn push(&mut self, slice: Slice) {
        if self.link.outlet.push(slice) {
            self.link.flush_at_end_of_turn();
        }
    }

    fn unsent(&self) -> usize {
        self.link.outlet.unsent()
    }

    fn sent_at(&self) -> Tick {
        self.link.outlet.sent_at()
    }

    fn taken_at(&self) -> Tick {
        let link = &self.link;
        link.turn.count(|counts| counts.syscalls += 1);
        sockets::taken_at(&link.wire.socket(), link.turn.now()).max(self.sent_at())
    }

    fn set_send_room(&mut self, bytes: usize) {
        self.link.outlet.set_room(bytes);
    }

    fn set_receive_room(&mut self, bytes: usize) {
        self.events.inbox.set_room(bytes);
    }

    fn keep(&mut self, held: Rc<dyn Any>) {
        *self.link.held.borrow_mut() = Some(held);
    }

    fn finish(&mut self) {
        self.link.outlet.finish();
        self.link.flush_at_end_of_turn();
    }

    fn abort(mut self) {
        self.aborted = true;
    }

    fn handle(&self) -> Handle {
        self.link.outlet.handle()
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
        link.outlet.signal().close();
        if self.aborted {
            link.outlet.clear();
            W::reset(link);
        } else if !self.events.inbox.is_open() && link.outlet.unsent() == 0 {
            // The peer is done and so are we: nothing to linger for.
        } else {
            link.turn.spawn_closing(link.clone().close(self.events.inbox.is_finished()));
        }
    }
}
