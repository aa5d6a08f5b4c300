//! Listening and connecting by readiness, for the drivers on tokio.

use crate::io::base::errno::{Class, Op, class};
use crate::io::base::reserve::Reserve;
use crate::io::base::sockets;
use crate::io::base::turn::Turn;
use crate::sys::watch::watch;
use crate::wire::Tick;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A listening socket.
pub struct Listener {
    fd: AsyncFd<OwnedFd>,
    reserve: Reserve,
}

impl Listener {
    /// Listens on `at`.
    pub(crate) fn new(at: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            fd: watch(sockets::listen(at, Type::STREAM.nonblocking())?, Interest::READABLE)?,
            reserve: Reserve::new(),
        })
    }

    /// The address really bound.
    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        sockets::local(&self.fd)
    }

    /// The next connection's socket and peer; `flags` beside close-on-exec.
    pub(crate) async fn accept(&self, turn: &Turn, flags: SocketFlags) -> io::Result<(OwnedFd, SocketAddr)> {
        loop {
            let mut ready = self.fd.readable().await?;
            turn.count(|counts| counts.syscalls += 1);
            match rustix::net::acceptfrom_with(&self.fd, flags | SocketFlags::CLOEXEC) {
                Ok((socket, Some(peer))) => return Ok((socket, SocketAddr::try_from(peer).map_err(io::Error::from)?)),
                Err(Errno::WOULDBLOCK) => ready.clear_ready(),
                // The peer was gone before we came.
                Ok((_, None)) => {}
                Err(error) if class(Op::Accept, error.raw_os_error()) == Class::Again => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As `Driver::shed`.
    pub(crate) fn shed(&self, reply: &[u8]) {
        self.reserve.shed(self.fd.get_ref().as_fd(), reply);
    }
}

/// A socket connected to `to`, non-blocking.
pub(crate) async fn connect(turn: &Turn, to: SocketAddr, by: Tick) -> io::Result<OwnedFd> {
    let connected = async {
        let socket = watch(sockets::connect(to)?, Interest::WRITABLE)?;
        let _ = socket.writable().await?;
        sockets::outcome(&socket)?;
        turn.count(|counts| counts.syscalls += 4);
        Ok(socket.into_inner())
    };
    turn.before(by, connected).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}
