//! Listening sockets: one multishot accept each.

use super::conn::{self, UringConn};
use super::reactor::{Kind, Reactor, user};
use crate::io::base::errno::{Class, Op, class};
use crate::io::base::reserve::Reserve;
use crate::io::base::sockets;
use crate::sys::ring::Done;
use socket2::Type;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What the reactor keeps of a listener.
pub(super) struct Listening {
    fd: OwnedFd,
    accepted: VecDeque<io::Result<OwnedFd>>,
    /// The accept's key in the ring while it is armed.
    armed: Option<usize>,
    waker: Option<Waker>,
    /// The owner is gone; what is still accepted is closed.
    orphan: bool,
}

/// A listening socket.
pub struct UringListener {
    reactor: Rc<Reactor>,
    key: usize,
    reserve: Reserve,
}

pub(super) fn listen(reactor: &Rc<Reactor>, at: SocketAddr) -> io::Result<UringListener> {
    let fd = sockets::listen(at, Type::STREAM)?;
    let listening = Listening { fd, accepted: VecDeque::new(), armed: None, waker: None, orphan: false };
    let key = reactor.listeners.borrow_mut().insert(listening);
    Ok(UringListener { reactor: reactor.clone(), key, reserve: Reserve::new() })
}

impl UringListener {
    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        let listeners = self.reactor.listeners.borrow();
        socket2::SockRef::from(&listeners[self.key].fd)
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    pub(super) async fn accept(&self) -> io::Result<UringConn> {
        loop {
            let fd = std::future::poll_fn(|context| self.poll_accept(context)).await?;
            match conn::accepted(&self.reactor, fd) {
                // Reset before anybody looked: it says nothing about the listener.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                accepted => return accepted,
            }
        }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let mut listeners = self.reactor.listeners.borrow_mut();
        let listening = &mut listeners[self.key];
        if let Some(accepted) = listening.accepted.pop_front() {
            return Poll::Ready(accepted);
        }
        if listening.armed.is_none() {
            let user = user(Kind::Accept, self.key);
            listening.armed = Some(self.reactor.ring.borrow_mut().accept_many(user, listening.fd.as_fd()));
        }
        listening.waker = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn shed(&self, reply: &[u8]) {
        self.reserve.shed(self.reactor.listeners.borrow()[self.key].fd.as_fd(), reply);
    }
}

impl Drop for UringListener {
    fn drop(&mut self) {
        let mut listeners = self.reactor.listeners.borrow_mut();
        let listening = &mut listeners[self.key];
        listening.orphan = true;
        listening.accepted.clear();
        match listening.armed {
            Some(key) => self.reactor.ring.borrow_mut().cancel(user(Kind::Ignore, 0), key),
            None => drop(listeners.remove(self.key)),
        }
    }
}

/// A completion of an accept.
pub(super) fn on_accept(reactor: &Reactor, key: usize, done: Done) {
    let mut listeners = reactor.listeners.borrow_mut();
    let listening = &mut listeners[key];
    if !done.more {
        listening.armed = None;
    }
    let errno = -done.result;
    match done.into_fd() {
        _ if listening.orphan => {}
        Some(fd) => listening.accepted.push_back(Ok(fd)),
        None if class(Op::Accept, errno) == Class::Again => {}
        None => listening.accepted.push_back(Err(io::Error::from_raw_os_error(errno))),
    }
    if listening.orphan && listening.armed.is_none() {
        listeners.remove(key);
    } else if let Some(waker) = listening.waker.take() {
        waker.wake();
    }
}
