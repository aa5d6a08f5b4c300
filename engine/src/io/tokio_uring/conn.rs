//! A socket of tokio-uring: one read and one write under way at most, both living with the socket, never with a caller.

use crate::io::base::conn::{Link, Wire};
use crate::io::base::sockets;
use crate::sys::owned;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::task::AbortHandle;
use tokio_uring::BufResult;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

/// What an idle connection holds ready to be read into; a stream that fills it gets the larger one next.
const SMALL_BYTES: usize = 4 << 10;
const LARGE_BYTES: usize = 32 << 10;
/// Windows gathered into one send.
const WINDOWS_MAX: usize = 64;

type Reading = Pin<Box<dyn Future<Output = BufResult<usize, Vec<u8>>>>>;

/// What came and was not yet asked for, and the read under way.
struct Incoming {
    arrived: Vec<u8>,
    taken: usize,
    reading: Option<Reading>,
    next_bytes: usize,
    /// Octets that the read under way asks for.
    asked: usize,
    ended: Option<Result<(), io::ErrorKind>>,
}

/// A connected socket.
pub struct Stream {
    stream: Rc<TcpStream>,
    incoming: RefCell<Incoming>,
    sender: RefCell<Option<AbortHandle>>,
    /// A write is with the kernel.
    is_sending: Cell<bool>,
}

impl Stream {
    pub(super) fn new(socket: OwnedFd) -> Self {
        let incoming =
            Incoming { arrived: Vec::new(), taken: 0, reading: None, next_bytes: SMALL_BYTES, asked: 0, ended: None };
        Self {
            stream: Rc::new(TcpStream::from_std(socket.into())),
            incoming: RefCell::new(incoming),
            sender: RefCell::new(None),
            is_sending: Cell::new(false),
        }
    }
}

impl Incoming {
    /// Waits until something has come that was not taken, or the end. A read asks for `most` octets at most.
    fn poll(&mut self, stream: &Rc<TcpStream>, most: usize, context: &mut Context<'_>) -> Poll<()> {
        while self.taken == self.arrived.len() && self.ended.is_none() {
            let reading = self.reading.get_or_insert_with(|| {
                self.taken = 0;
                let mut buffer = std::mem::take(&mut self.arrived);
                buffer.clear();
                buffer.shrink_to(self.next_bytes);
                buffer.reserve_exact(self.next_bytes);
                self.asked = most.min(self.next_bytes);
                let (stream, asked) = (stream.clone(), self.asked);
                Box::pin(async move {
                    let (result, part) = stream.read(buffer.slice(..asked)).await;
                    (result, part.into_inner())
                })
            });
            let (result, buffer) = ready!(reading.as_mut().poll(context));
            self.reading = None;
            self.arrived = buffer;
            match result {
                Ok(0) => self.ended = Some(Ok(())),
                Ok(count) => {
                    self.arrived.truncate(count);
                    self.next_bytes = if count == self.asked { LARGE_BYTES } else { SMALL_BYTES };
                }
                Err(error) => {
                    self.arrived.clear();
                    if !matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) {
                        self.ended = Some(Err(error.kind()));
                    }
                }
            }
        }
        Poll::Ready(())
    }

    fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = &self.arrived[self.taken..];
        if rest.is_empty() {
            return match self.ended {
                Some(Err(kind)) => Err(kind.into()),
                _ => Ok(0),
            };
        }
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

impl Wire for Stream {
    fn poll_receive(link: &Rc<Link<Self>>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut incoming = link.wire.incoming.borrow_mut();
        ready!(incoming.poll(&link.wire.stream, into.len(), context));
        let received = incoming.take(into);
        link.turn.count(|counts| counts.copied_bytes += *received.as_ref().unwrap_or(&0) as u64);
        Poll::Ready(received)
    }

    fn send(link: &Rc<Link<Self>>) {
        if link.wire.sender.borrow().is_some() {
            return;
        }
        let sending = link.clone();
        let sender = link.turn.spawn_in_house(async move {
            send_everything(&sending).await;
            sending.wire.sender.borrow_mut().take();
            sending.after_sending();
        });
        *link.wire.sender.borrow_mut() = sender;
    }

    fn socket(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    fn finish(link: &Rc<Link<Self>>) {
        link.turn.count(|counts| counts.syscalls += 1);
        // A connection that is gone already tells so when it is read.
        let _ = link.wire.stream.shutdown(Shutdown::Write);
    }

    fn reset(link: &Rc<Link<Self>>) {
        sockets::close_with_reset(owned::socket(&link.wire.stream));
        if let Some(sender) = link.wire.sender.borrow_mut().take() {
            sender.abort();
        }
    }
}

async fn send_everything(link: &Rc<Link<Stream>>) {
    while link.outlet.unsent() > 0 {
        let (windows, copied) = link.outlet.outbox().owned_windows(WINDOWS_MAX);
        link.turn.count(|counts| {
            counts.syscalls += 1;
            counts.copied_bytes += copied as u64;
        });
        link.wire.is_sending.set(true);
        let (result, _windows) = link.wire.stream.writev(windows).await;
        link.wire.is_sending.set(false);
        match result {
            Ok(sent) => link.sent(sent),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => link.fail(error.kind()),
        }
    }
}

impl Drop for Stream {
    /// The kernel's read or write would keep the descriptor open: it is made to end. Shutting down the receiving side says
    /// nothing to the peer; a write that never ends is only here after a reset.
    fn drop(&mut self) {
        let how = if self.is_sending.get() { Shutdown::Both } else { Shutdown::Read };
        if self.is_sending.get() || self.incoming.get_mut().reading.is_some() {
            let _ = self.stream.shutdown(how);
        }
    }
}
