//! TCP connections on the ring.
//!
//! A connection's task sits in [`UringConn::next`]; completions change the connection's state and wake it. Receiving is a
//! multishot into shared buffers, or, while aimed, one receive at a time into the chunk. A lease on a shared buffer ends
//! with the turn: what its task leaves moves to the connection's own `carry`, which is bounded by cancelling the receive.

use super::reactor::{Kind, Reactor, user};
use super::timers::Target;
use crate::io::base::errno::{Class, Op, class};
use crate::io::base::outlet::LINGER;
use crate::io::base::sockets;
use crate::io::driver::{Conn, Next, Notify, SEND_ROOM_BYTES, UNREAD_BYTES};
use crate::sys::outgoing::Outgoing;
use crate::sys::receive_buffers::Lease;
use crate::sys::ring::{Done, Returned, Ring};
use crate::sys::slice::{Fill, Slice};
use crate::sys::spare::Spare;
use crate::wire::{Span, Tick};
use socket2::{SockRef, Type};
use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How long a closed connection may take to send what is queued.
const FLUSH: Span = Span::seconds(30);
/// After an aim so many receives take one small buffer each: a multishot would fill all of the peer's next large body into
/// shared buffers before anybody could aim again.
const SINGLE_RECEIVES: u8 = 32;
/// Octets of such a receive: commands, and the beginning of a body.
const SINGLE_BYTES: u32 = 2 << 10;
/// The receive room of a connection that was given none.
const UNBOUNDED: u32 = u32::MAX;
/// Emptied carries kept for reuse.
pub(super) const SPARE_CARRIES: usize = 256;
/// Emptied gather lists kept for reuse.
pub(super) const SPARE_OUTS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receive {
    /// Nothing is asked of the kernel.
    Idle,
    /// A receive into shared buffers is armed, once or until told otherwise, under this key of the ring.
    Many(usize),
    /// It was asked to end and has not yet.
    Ending,
    /// One receive goes into the aimed chunk.
    Aimed(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    Fin,
    Broken(io::ErrorKind),
}

/// What the reactor keeps of a connection.
pub(super) struct Connection {
    fd: Option<OwnedFd>,
    peer: SocketAddr,
    generation: u32,
    waker: Option<Waker>,
    deadline: Tick,
    /// Instant of the one live timer entry.
    timer_at: Tick,
    notes: u32,

    receive: Receive,
    /// Receives to come that take one small buffer each.
    singles: u8,
    unread: VecDeque<Lease>,
    unread_bytes: u32,
    /// Received, shown or moved here at the end of a turn, not consumed; `carry_from` octets of it are.
    carry: Vec<u8>,
    carry_from: u32,
    /// Something stands unread that was not shown since the last note.
    fresh: bool,
    listed_leased: bool,
    starved: bool,
    aim: Option<Fill>,
    filled: Option<(Fill, usize)>,
    ended: Ended,
    end_told: bool,

    out: Outgoing,
    /// Octets in the kernel's hands.
    sending: usize,
    is_sending: bool,
    /// When it last took some.
    sent_at: Tick,
    choked: bool,
    room: bool,
    send_room: u32,
    /// At most so many octets may stand received and unconsumed; [`UNBOUNDED`] lets the kernel receive ahead.
    receive_room: u32,
    fin_wanted: bool,
    fin_sent: bool,
    dirty: bool,
    /// The task let go: flush, FIN, linger, close.
    orphan: bool,
    close_by: Tick,
    /// Kept until the descriptor is closed.
    held: Option<Rc<dyn Any>>,
}

impl Connection {
    fn new(fd: OwnedFd, peer: SocketAddr, generation: u32) -> Self {
        Self {
            fd: Some(fd),
            peer,
            generation,
            waker: None,
            deadline: Tick::NEVER,
            timer_at: Tick::NEVER,
            notes: 0,
            receive: Receive::Idle,
            singles: 0,
            unread: VecDeque::new(),
            unread_bytes: 0,
            carry: Vec::new(),
            carry_from: 0,
            fresh: false,
            listed_leased: false,
            starved: false,
            aim: None,
            filled: None,
            ended: Ended::No,
            end_told: false,
            out: Outgoing::default(),
            sending: 0,
            is_sending: false,
            sent_at: Tick(0),
            choked: false,
            room: false,
            send_room: SEND_ROOM_BYTES as u32,
            receive_room: UNBOUNDED,
            fin_wanted: false,
            fin_sent: false,
            dirty: false,
            orphan: false,
            close_by: Tick::NEVER,
            held: None,
        }
    }

    /// Instant of its live timer entry.
    pub(super) fn timer_at(&self) -> Tick {
        self.timer_at
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn carried(&self) -> usize {
        self.carry.len() - self.carry_from as usize
    }

    fn unread(&self) -> usize {
        self.carried() + self.unread_bytes as usize
    }

    fn unsent(&self) -> usize {
        self.out.bytes() + self.sending
    }

    fn socket(&self) -> &OwnedFd {
        self.fd.as_ref().expect("closed when removed only")
    }

    /// Moves what stands in shared buffers to the carry. Returns the octets copied.
    fn carry_leases(&mut self, spare: &mut Spare<Vec<u8>, SPARE_CARRIES>) -> usize {
        let mut copied = 0;
        // What was consumed of the carry makes room first: else it would grow with the stream.
        if self.carry_from > 0 && !self.unread.is_empty() {
            self.carry.drain(..self.carry_from as usize);
            self.carry_from = 0;
        }
        if self.carry.capacity() == 0 && !self.unread.is_empty() {
            self.carry = spare.take();
        }
        while let Some(lease) = self.unread.pop_front() {
            self.carry.extend_from_slice(&lease);
            copied += lease.len();
        }
        self.unread_bytes = 0;
        copied
    }

    /// Drops `consumed` octets of the carry; an empty carry is put aside for others.
    fn consume_carry(&mut self, consumed: usize, spare: &mut Spare<Vec<u8>, SPARE_CARRIES>) {
        self.carry_from += u32::try_from(consumed).expect("bounded by UNREAD_BYTES");
        if self.carried() > 0 {
            return;
        }
        self.carry_from = 0;
        let mut carry = std::mem::take(&mut self.carry);
        carry.clear();
        if carry.capacity() <= 2 * UNREAD_BYTES {
            spare.keep(carry);
        }
    }

    /// The connection is gone: told once, even if its end was told before.
    fn break_off(&mut self, kind: io::ErrorKind) {
        if !matches!(self.ended, Ended::Broken(_)) {
            self.ended = Ended::Broken(kind);
            self.end_told = false;
        }
    }

    fn has_ended(&self) -> bool {
        self.ended != Ended::No
    }
}

/// A TCP connection.
pub struct UringConn {
    reactor: Rc<Reactor>,
    key: usize,
    /// `abort` was called.
    aborted: bool,
}

/// Wakes a connection's task.
#[derive(Clone)]
pub struct UringHandle {
    reactor: Rc<Reactor>,
    key: u32,
    generation: u32,
}

impl Notify for UringHandle {
    fn note(&self, bits: u32) {
        let mut conns = self.reactor.conns.borrow_mut();
        if let Some(conn) = conns.get_mut(self.key as usize)
            && conn.generation == self.generation
        {
            conn.notes |= bits;
            conn.wake();
        }
    }
}

fn adopt(reactor: &Rc<Reactor>, fd: OwnedFd, peer: SocketAddr) -> UringConn {
    let generation = reactor.next_generation();
    let key = reactor.conns.borrow_mut().insert(Connection::new(fd, peer, generation));
    UringConn { reactor: reactor.clone(), key, aborted: false }
}

/// Makes a connection of an accepted descriptor.
pub(super) fn accepted(reactor: &Rc<Reactor>, fd: OwnedFd) -> io::Result<UringConn> {
    reactor.count(|counts| counts.syscalls += 1);
    let peer = SockRef::from(&fd).peer_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok(adopt(reactor, fd, peer))
}

/// Connects, at the latest by `by`.
pub(super) async fn connect(reactor: Rc<Reactor>, to: SocketAddr, by: Tick) -> io::Result<UringConn> {
    let socket = sockets::unconnected(to, Type::STREAM)?;
    reactor.count(|counts| counts.syscalls += 2);
    // The ring keeps the descriptor open, should this future be dropped before the kernel has seen its number.
    let fd: Rc<OwnedFd> = Rc::new(socket);
    let (mut connected, ring_key) = reactor.begin_once(|ring, user| ring.connect(user, &fd, to));
    let mut sleep = std::pin::pin!(super::timers::sleep_until(reactor.clone(), by));
    let mut late = false;
    let done = std::future::poll_fn(|context| {
        if let Poll::Ready(done) = std::pin::Pin::new(&mut connected).poll(context) {
            return Poll::Ready(done);
        }
        if !late && sleep.as_mut().poll(context).is_ready() {
            late = true;
            reactor.ring.borrow_mut().cancel(user(Kind::Ignore, 0), ring_key);
        }
        Poll::Pending
    })
    .await;
    match done.result {
        0 => Ok(adopt(&reactor, Rc::into_inner(fd).expect("the ring is done with it"), to)),
        _ if late => Err(io::ErrorKind::TimedOut.into()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

impl UringConn {
    fn poll_next<R, S: FnOnce(&[u8]) -> (usize, R)>(
        &mut self,
        context: &mut Context<'_>,
        by: Tick,
        see: &mut Option<S>,
    ) -> Poll<Next<R>> {
        let reactor = &*self.reactor;
        let mut conns = reactor.conns.borrow_mut();
        let conn = &mut conns[self.key];
        if conn.notes != 0 {
            conn.fresh = conn.unread() > 0;
            return Poll::Ready(Next::Note(std::mem::take(&mut conn.notes)));
        }
        if conn.aim.is_some() && conn.unread() > 0 {
            fill_from_unread(reactor, conn);
        }
        if let Some((fill, octets)) = conn.filled.take() {
            return Poll::Ready(Next::Filled(fill, octets));
        }
        conn.choked = conn.unsent() > conn.send_room as usize;
        if conn.fresh && conn.aim.is_none() && !conn.choked {
            let shown = Shown::take(reactor, conn);
            drop(conns);
            // Nothing of the reactor is borrowed here: `see` may note, spawn and write as it likes.
            let see = see.take().expect("a future is not polled after its end");
            let (consumed, seen) = see(shown.octets());
            let mut conns = reactor.conns.borrow_mut();
            shown.put_back(reactor, &mut conns[self.key], consumed);
            return Poll::Ready(Next::Bytes(seen));
        }
        if std::mem::take(&mut conn.room) {
            return Poll::Ready(Next::Room);
        }
        if conn.has_ended() && !conn.end_told && !conn.fresh {
            conn.end_told = true;
            return Poll::Ready(match conn.ended {
                Ended::Broken(kind) => Next::Broken(kind),
                _ => Next::End,
            });
        }
        if by <= reactor.now() {
            return Poll::Ready(Next::Deadline);
        }
        arm(reactor, self.key, conn);
        conn.deadline = by;
        if by < conn.timer_at {
            conn.timer_at = by;
            reactor.timers.borrow_mut().add(by, Target::Conn(key32(self.key)));
        }
        if !conn.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            conn.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

/// The octets that one call of `see` is shown: a shared buffer as it is, or the carry.
enum Shown {
    Lease(Lease),
    Carry(Vec<u8>, u32),
}

impl Shown {
    fn take(reactor: &Reactor, conn: &mut Connection) -> Shown {
        if conn.carried() == 0
            && let Some(lease) = conn.unread.pop_front()
        {
            conn.unread_bytes -= u32::try_from(lease.len()).expect("a buffer's length");
            return Shown::Lease(lease);
        }
        let copied = conn.carry_leases(&mut reactor.spare_carries.borrow_mut());
        reactor.count(|counts| counts.copied_bytes += copied as u64);
        Shown::Carry(std::mem::take(&mut conn.carry), std::mem::take(&mut conn.carry_from))
    }

    fn octets(&self) -> &[u8] {
        match self {
            Shown::Lease(lease) => lease,
            Shown::Carry(carry, from) => &carry[*from as usize..],
        }
    }

    fn put_back(self, reactor: &Reactor, conn: &mut Connection, consumed: usize) {
        let mut spare = reactor.spare_carries.borrow_mut();
        match self {
            Shown::Lease(lease) => {
                if consumed < lease.len() {
                    // What is left comes before whatever arrived behind it.
                    let mut carry = spare.take();
                    carry.extend_from_slice(&lease[consumed..]);
                    reactor.count(|counts| counts.copied_bytes += (lease.len() - consumed) as u64);
                    conn.carry = carry;
                    conn.carry_from = 0;
                }
            }
            Shown::Carry(carry, from) => {
                conn.carry = carry;
                conn.carry_from = from;
                conn.consume_carry(consumed, &mut spare);
            }
        }
        // What was left has been seen; only what arrived behind it has not.
        conn.fresh = !conn.unread.is_empty();
    }
}

fn fill_from_unread(reactor: &Reactor, conn: &mut Connection) {
    let mut fill = conn.aim.take().expect("checked by the caller");
    let mut spare = reactor.spare_carries.borrow_mut();
    let mut copied = 0;
    if conn.carried() > 0 {
        let put = fill.put(&conn.carry[conn.carry_from as usize..]);
        conn.consume_carry(put, &mut spare);
        copied += put;
    }
    while conn.carried() == 0
        && fill.room() > 0
        && let Some(lease) = conn.unread.pop_front()
    {
        let put = fill.put(&lease);
        conn.unread_bytes -= u32::try_from(lease.len()).expect("a buffer's length");
        copied += put;
        if put < lease.len() {
            conn.carry = spare.take();
            conn.carry.extend_from_slice(&lease[put..]);
        }
    }
    conn.fresh = conn.unread() > 0;
    reactor.count(|counts| counts.copied_bytes += copied as u64);
    conn.filled = Some((fill, copied));
}

/// Asks the kernel for what the connection wants to receive next.
fn arm(reactor: &Reactor, key: usize, conn: &mut Connection) {
    if conn.has_ended() {
        return;
    }
    let full = conn.unread() > UNREAD_BYTES || (conn.choked && conn.unread() > 0);
    match conn.receive {
        // What is unread comes before what is received next: `poll_next` moves it into the chunk first.
        Receive::Idle if conn.starved || (conn.aim.is_some() && conn.unread() > 0) => {}
        Receive::Idle => {
            let user = user(Kind::Receive, key);
            let mut ring = reactor.ring.borrow_mut();
            if let Some(fill) = conn.aim.take() {
                conn.singles = SINGLE_RECEIVES;
                reactor.aimed(fill.room());
                conn.receive = Receive::Aimed(ring.receive_into(user, conn.socket().as_fd(), fill));
            } else if conn.receive_room != UNBOUNDED {
                receive_within_room(&mut ring, user, conn);
            } else if conn.singles > 0 && !full {
                conn.singles -= 1;
                conn.receive = Receive::Many(ring.receive_one(user, conn.socket().as_fd(), SINGLE_BYTES));
            } else if !full {
                conn.receive = Receive::Many(ring.receive_many(user, conn.socket().as_fd()));
            }
        }
        Receive::Many(armed) if full || conn.aim.is_some() => {
            reactor.ring.borrow_mut().cancel(super::reactor::user(Kind::Ignore, 0), armed);
            conn.receive = Receive::Ending;
        }
        Receive::Many(_) | Receive::Ending | Receive::Aimed(_) => {}
    }
}

/// Asks for no more than there is room for: never a receive that goes on by itself.
fn receive_within_room(ring: &mut Ring, user: u64, conn: &mut Connection) {
    let room = conn.receive_room.saturating_sub(u32::try_from(conn.unread()).unwrap_or(UNBOUNDED));
    if room == 0 || (conn.choked && conn.unread() > 0) {
        return;
    }
    let bytes = if conn.singles > 0 { room.min(SINGLE_BYTES) } else { room };
    conn.singles = conn.singles.saturating_sub(1);
    conn.receive = Receive::Many(ring.receive_one(user, conn.socket().as_fd(), bytes));
}

fn key32(key: usize) -> u32 {
    u32::try_from(key).expect("fewer than 2^32 connections")
}

/// A completion of a receive.
pub(super) fn on_receive(reactor: &Rc<Reactor>, key: usize, done: Done) {
    let mut conns = reactor.conns.borrow_mut();
    let conn = &mut conns[key];
    if !done.more {
        conn.receive = Receive::Idle;
    }
    match done.returned {
        Returned::Fill(mut fill) => {
            let octets = usize::try_from(done.result).unwrap_or(0);
            fill.advance(octets);
            if octets > 0 && !conn.orphan {
                conn.filled = Some((fill, octets));
                if let Some(waker) = conn.waker.take() {
                    reactor.wake_next(waker);
                }
            } else {
                conn.aim = Some(fill);
            }
        }
        Returned::Lease(lease) if !conn.orphan && !lease.is_empty() => {
            conn.unread_bytes += u32::try_from(lease.len()).expect("a buffer's length");
            conn.unread.push_back(lease);
            conn.fresh = true;
            if !std::mem::replace(&mut conn.listed_leased, true) {
                reactor.leased.borrow_mut().push(key32(key));
            }
        }
        _ => {}
    }
    match done.result {
        // A reset that a send has met first reads as the end.
        0 if conn.has_ended() => {}
        0 => conn.ended = Ended::Fin,
        1.. => reactor.count(|counts| counts.received_bytes += u64::try_from(done.result).unwrap_or(0)),
        error => on_receive_error(reactor, key, conn, -error),
    }
    if conn.orphan {
        mark_dirty(reactor, key, conn);
    }
    conn.wake();
}

fn on_receive_error(reactor: &Reactor, key: usize, conn: &mut Connection, errno: i32) {
    match class(Op::Receive, errno) {
        // Buffers come back by the end of the turn; the receive is armed again then (F-048).
        Class::NoBuffer => {
            conn.starved = true;
            if !std::mem::replace(&mut conn.listed_leased, true) {
                reactor.leased.borrow_mut().push(key32(key));
            }
        }
        Class::Again => {}
        Class::Fails | Class::Ours => conn.break_off(io::Error::from_raw_os_error(errno).kind()),
    }
}

/// A completion of a send.
pub(super) fn on_send(reactor: &Rc<Reactor>, key: usize, done: Done) {
    let mut conns = reactor.conns.borrow_mut();
    let conn = &mut conns[key];
    let Returned::Sent(mut sending) = done.returned else { return };
    conn.is_sending = false;
    let sent = usize::try_from(done.result).unwrap_or(0);
    sending.out.consume(sent);
    if sent > 0 {
        conn.sent_at = reactor.now();
    }
    reactor.count(|counts| counts.sent_bytes += sent as u64);
    let failed = done.result < 0 && class(Op::Send, -done.result) == Class::Fails;
    let mut ring = reactor.ring.borrow_mut();
    if failed {
        let kind = io::Error::from_raw_os_error(-done.result).kind();
        ring.recycle_send(sending);
        conn.sending = 0;
        conn.out.clear();
        conn.break_off(kind);
    } else if sending.out.is_empty() {
        ring.recycle_send(sending);
        conn.sending = 0;
    } else {
        conn.sending = sending.out.bytes();
        conn.is_sending = true;
        let socket = conn.fd.as_ref().expect("open while sending");
        ring.send_rest(user(Kind::Send, key), socket.as_fd(), sending);
    }
    drop(ring);
    if conn.choked && conn.unsent() <= conn.send_room as usize {
        conn.choked = false;
        conn.room = true;
        conn.wake();
    }
    if failed {
        conn.wake();
    }
    if !conn.out.is_empty() || conn.fin_wanted || conn.orphan {
        mark_dirty(reactor, key, conn);
    }
}

/// What a connection is about to send; a list that was emptied before serves again.
fn outgoing<'a>(reactor: &Reactor, conn: &'a mut Connection) -> &'a mut Outgoing {
    if conn.out.is_bare() {
        conn.out = reactor.spare_outs.borrow_mut().take();
    }
    &mut conn.out
}

fn mark_dirty(reactor: &Reactor, key: usize, conn: &mut Connection) {
    if !std::mem::replace(&mut conn.dirty, true) {
        reactor.dirty.borrow_mut().push(key32(key));
    }
}

/// A timer entry of a connection fired.
pub(super) fn on_timer(reactor: &Reactor, key: usize, at: Tick) {
    let mut conns = reactor.conns.borrow_mut();
    let Some(conn) = conns.get_mut(key) else { return };
    if conn.timer_at != at {
        return;
    }
    conn.timer_at = Tick::NEVER;
    if conn.orphan {
        mark_dirty(reactor, key, conn);
    } else if conn.waker.is_some() {
        if conn.deadline <= reactor.now() {
            conn.wake();
        } else if conn.deadline != Tick::NEVER {
            conn.timer_at = conn.deadline;
            reactor.timers.borrow_mut().add(conn.deadline, Target::Conn(key32(key)));
        }
    }
}

/// What every turn ends with: leases end, starved receives are armed again, what was queued is sent, orphans move on.
pub(super) fn end_of_turn(reactor: &Rc<Reactor>) {
    each_once(&reactor.leased, |key| {
        let mut conns = reactor.conns.borrow_mut();
        let Some(conn) = conns.get_mut(key) else { return };
        conn.listed_leased = false;
        let copied = conn.carry_leases(&mut reactor.spare_carries.borrow_mut());
        reactor.count(|counts| counts.copied_bytes += copied as u64);
        if std::mem::take(&mut conn.starved) || conn.unread() > UNREAD_BYTES {
            arm(reactor, key, conn);
        }
    });
    each_once(&reactor.dirty, |key| settle(reactor, key));
}

/// Empties a list of connections, whose memory it keeps; what is added meanwhile stays for the next time.
fn each_once(list: &RefCell<Vec<u32>>, mut tell: impl FnMut(usize)) {
    let mut listed = std::mem::take(&mut *list.borrow_mut());
    listed.drain(..).for_each(|key| tell(key as usize));
    let mut list = list.borrow_mut();
    listed.append(&mut list);
    *list = listed;
}

/// Sends what a connection has queued, then FIN if wanted, and takes an orphan one step towards its end.
fn settle(reactor: &Rc<Reactor>, key: usize) {
    let mut conns = reactor.conns.borrow_mut();
    let Some(conn) = conns.get_mut(key) else { return };
    conn.dirty = false;
    if matches!(conn.ended, Ended::Broken(_)) {
        conn.out.clear();
        if conn.choked && conn.unsent() <= conn.send_room as usize {
            // Nothing will be sent any more: whoever waited for room goes on to hear that it is broken.
            conn.choked = false;
            conn.room = true;
            conn.wake();
        }
    }
    if !conn.is_sending && !conn.out.is_empty() {
        conn.sending = conn.out.bytes();
        conn.is_sending = true;
        let socket = conn.fd.as_ref().expect("open until removed");
        reactor.ring.borrow_mut().send(user(Kind::Send, key), socket.as_fd(), &mut conn.out);
        // Its memory is for whoever has something to say next (P-108).
        if !conn.out.is_bare() {
            reactor.spare_outs.borrow_mut().keep(std::mem::take(&mut conn.out));
        }
    }
    let drained = !conn.is_sending && conn.out.is_empty();
    if drained && (conn.fin_wanted || conn.orphan) && !conn.fin_sent {
        conn.fin_sent = true;
        if !matches!(conn.ended, Ended::Broken(_)) {
            // Not by the ring: it shuts down on a worker thread that looks the descriptor up when it gets there, and by
            // then the number may belong to another connection.
            reactor.count(|counts| counts.syscalls += 1);
            let _ = SockRef::from(conn.socket()).shutdown(std::net::Shutdown::Write);
        }
    }
    if drained && conn.orphan {
        conn.close_by = conn.close_by.min(reactor.now() + LINGER);
    }
    if conn.orphan && close_orphan(reactor, key, conn, drained) {
        let (fd, held) = (conn.fd.take(), conn.held.take());
        conns.remove(key);
        // Nothing of the reactor is borrowed where others' code may run.
        drop(conns);
        drop(held);
        if let Some(fd) = fd {
            reactor.ring.borrow_mut().close(user(Kind::Ignore, 0), fd);
        }
    }
}

/// Whether an orphan is done and may be removed; otherwise makes sure that it will be looked at again.
fn close_orphan(reactor: &Reactor, key: usize, conn: &mut Connection, drained: bool) -> bool {
    let late = conn.close_by <= reactor.now();
    if late || (drained && conn.has_ended()) {
        match conn.receive {
            Receive::Many(armed) | Receive::Aimed(armed) => {
                reactor.ring.borrow_mut().cancel(user(Kind::Ignore, 0), armed);
                conn.receive = Receive::Ending;
            }
            Receive::Ending => {}
            Receive::Idle if conn.is_sending => {
                // The kernel still holds the gather list: a reset makes it let go.
                let _ = SockRef::from(conn.socket()).shutdown(std::net::Shutdown::Both);
            }
            Receive::Idle => return true,
        }
        return false;
    }
    conn.aim = None;
    conn.starved = false;
    arm(reactor, key, conn);
    if conn.close_by < conn.timer_at {
        conn.timer_at = conn.close_by;
        reactor.timers.borrow_mut().add(conn.close_by, Target::Conn(key32(key)));
    }
    false
}

/// Whether any connection still has octets to send.
pub(super) fn any_unsent(reactor: &Reactor) -> bool {
    reactor.conns.borrow().iter().any(|(_, conn)| conn.unsent() > 0 && !matches!(conn.ended, Ended::Broken(_)))
}

impl Drop for UringConn {
    fn drop(&mut self) {
        let mut conns = self.reactor.conns.borrow_mut();
        let Some(conn) = conns.get_mut(self.key) else { return };
        conn.orphan = true;
        conn.generation = 0;
        conn.waker = None;
        conn.unread.clear();
        conn.unread_bytes = 0;
        conn.carry = Vec::new();
        conn.carry_from = 0;
        conn.fresh = false;
        conn.filled = None;
        // Whatever comes now is dropped as it comes.
        conn.receive_room = UNBOUNDED;
        conn.close_by = self.reactor.now() + FLUSH;
        if self.aborted {
            conn.out.clear();
            conn.close_by = self.reactor.now();
            conn.fin_sent = true; // a reset takes its place
            let _ = SockRef::from(conn.socket()).set_linger(Some(std::time::Duration::ZERO));
        }
        mark_dirty(&self.reactor, self.key, conn);
    }
}

impl Conn for UringConn {
    type Handle = UringHandle;

    async fn next<R>(&mut self, by: Tick, see: impl FnOnce(&[u8]) -> (usize, R)) -> Next<R> {
        let mut see = Some(see);
        std::future::poll_fn(|context| self.poll_next(context, by, &mut see)).await
    }

    fn aim(&mut self, into: Fill) {
        assert!(into.room() > 0, "an aimed chunk has room");
        let mut conns = self.reactor.conns.borrow_mut();
        let conn = &mut conns[self.key];
        assert!(
            conn.aim.is_none() && conn.filled.is_none() && !matches!(conn.receive, Receive::Aimed(_)),
            "one chunk is aimed at a time"
        );
        conn.aim = Some(into);
    }

    fn give_back(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut conns = self.reactor.conns.borrow_mut();
        let conn = &mut conns[self.key];
        let mut carry = self.reactor.spare_carries.borrow_mut().take();
        carry.extend_from_slice(bytes);
        carry.extend_from_slice(&conn.carry[conn.carry_from as usize..]);
        conn.carry = carry;
        conn.carry_from = 0;
        conn.fresh = true;
        self.reactor.count(|counts| counts.copied_bytes += bytes.len() as u64);
    }

    fn put(&mut self, bytes: &[u8]) {
        let mut conns = self.reactor.conns.borrow_mut();
        let conn = &mut conns[self.key];
        outgoing(&self.reactor, conn).put(bytes);
        mark_dirty(&self.reactor, self.key, conn);
    }

    fn push(&mut self, slice: Slice) {
        let mut conns = self.reactor.conns.borrow_mut();
        let conn = &mut conns[self.key];
        outgoing(&self.reactor, conn).push(slice);
        mark_dirty(&self.reactor, self.key, conn);
    }

    fn unsent(&self) -> usize {
        self.reactor.conns.borrow()[self.key].unsent()
    }

    fn sent_at(&self) -> Tick {
        self.reactor.conns.borrow()[self.key].sent_at
    }

    fn taken_at(&self) -> Tick {
        self.reactor.count(|counts| counts.syscalls += 1);
        let conns = self.reactor.conns.borrow();
        let conn = &conns[self.key];
        sockets::taken_at(conn.socket(), super::reactor::clock()).max(conn.sent_at)
    }

    fn set_send_room(&mut self, bytes: usize) {
        let room = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
        self.reactor.conns.borrow_mut()[self.key].send_room = room;
    }

    fn set_receive_room(&mut self, bytes: usize) {
        let room = u32::try_from(bytes).unwrap_or(UNBOUNDED);
        let mut conns = self.reactor.conns.borrow_mut();
        let conn = &mut conns[self.key];
        let before = std::mem::replace(&mut conn.receive_room, room);
        if before == UNBOUNDED
            && room == 0
            && let Receive::Many(armed) = conn.receive
        {
            self.reactor.ring.borrow_mut().cancel(user(Kind::Ignore, 0), armed);
            conn.receive = Receive::Ending;
        }
    }

    fn keep(&mut self, held: Rc<dyn Any>) {
        let before = self.reactor.conns.borrow_mut()[self.key].held.replace(held);
        drop(before);
    }

    fn finish(&mut self) {
        let mut conns = self.reactor.conns.borrow_mut();
        let conn = &mut conns[self.key];
        conn.fin_wanted = true;
        mark_dirty(&self.reactor, self.key, conn);
    }

    fn abort(mut self) {
        self.aborted = true;
    }

    fn handle(&self) -> UringHandle {
        let generation = self.reactor.conns.borrow()[self.key].generation;
        UringHandle { reactor: self.reactor.clone(), key: key32(self.key), generation }
    }

    fn peer(&self) -> SocketAddr {
        self.reactor.conns.borrow()[self.key].peer
    }

    fn local(&self) -> SocketAddr {
        let conns = self.reactor.conns.borrow();
        self.reactor.count(|counts| counts.syscalls += 1);
        let local = SockRef::from(conns[self.key].socket()).local_addr().ok().and_then(|local| local.as_socket());
        local.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into())
    }
}
