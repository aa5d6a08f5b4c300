//! A socket that tokio watches: non-blocking calls, and a task that waits for room only while the peer is slow.

use crate::io::base::conn::{Link, Wire};
use crate::io::base::sockets;
use crate::sys::watch::watch;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

/// Windows gathered into one send call.
const WINDOWS_MAX: usize = 64;

/// A connected socket.
pub struct Socket {
    fd: AsyncFd<OwnedFd>,
    /// Runs while the kernel takes no more.
    sender: RefCell<Option<AbortHandle>>,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: watch(fd, Interest::READABLE | Interest::WRITABLE)?, sender: RefCell::new(None) })
    }
}

impl Wire for Socket {
    fn poll_receive(link: &Rc<Link<Self>>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(link.wire.fd.poll_read_ready(context))?;
            link.turn.count(|counts| counts.syscalls += 1);
            match rustix::net::recv(&link.wire.fd, &mut *into, RecvFlags::DONTWAIT) {
                Ok((_, received)) => {
                    // Fewer octets than asked for: nothing is left, the next ones are a new edge. A FIN that came with
                    // them is kept by tokio apart from readiness, so it is not lost.
                    if 0 < received && received < into.len() {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(received));
                }
                Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn send(link: &Rc<Link<Self>>) {
        if link.wire.sender.borrow().is_some() || !send_now(link) {
            return;
        }
        let waiting = link.clone();
        let sender = link.turn.spawn_in_house(async move {
            send_when_writable(&waiting).await;
            waiting.wire.sender.borrow_mut().take();
            waiting.after_sending();
        });
        *link.wire.sender.borrow_mut() = sender;
    }

    fn socket(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn finish(link: &Rc<Link<Self>>) {
        link.turn.count(|counts| counts.syscalls += 1);
        // A connection that is gone already tells so when it is read.
        let _ = rustix::net::shutdown(&link.wire.fd, Shutdown::Write);
    }

    fn reset(link: &Rc<Link<Self>>) {
        sockets::close_with_reset(&link.wire.fd);
        if let Some(sender) = link.wire.sender.borrow_mut().take() {
            sender.abort();
        }
    }
}

/// Sends until everything is sent (`false`) or the kernel takes no more (`true`).
fn send_now(link: &Rc<Link<Socket>>) -> bool {
    while link.outlet.unsent() > 0 {
        match send_once(link) {
            Ok(sent) => link.sent(sent),
            Err(Errno::WOULDBLOCK) => return true,
            Err(Errno::INTR) => {}
            Err(error) => link.fail(io::Error::from(error).kind()),
        }
    }
    link.after_sending();
    false
}

fn send_once(link: &Rc<Link<Socket>>) -> Result<usize, Errno> {
    let outbox = link.outlet.outbox();
    let windows: SmallVec<[IoSlice<'_>; WINDOWS_MAX]> = outbox.windows().take(WINDOWS_MAX).map(IoSlice::new).collect();
    link.turn.count(|counts| counts.syscalls += 1);
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(&link.wire.fd, &windows, &mut SendAncillaryBuffer::default(), flags)
}

async fn send_when_writable(link: &Rc<Link<Socket>>) {
    loop {
        match link.wire.fd.writable().await {
            Ok(mut guard) => {
                if !send_now(link) {
                    return;
                }
                guard.clear_ready();
            }
            Err(error) => return link.fail(error.kind()),
        }
    }
}
