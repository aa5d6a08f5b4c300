//! TCP sockets as every driver makes them: close-on-exec, TCP_NODELAY, SO_REUSEPORT for listeners. Drivers by readiness ask
//! for `Type::STREAM.nonblocking()`; on such a socket a ring would complete with EAGAIN instead of waiting.

use crate::wire::Tick;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Connections that may wait to be accepted; the system caps it (net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// A socket that listens on `at` and shares its port with the other shards. What is accepted inherits TCP_NODELAY.
///
/// # Errors
/// The system's: address in use, not ours, no permission, out of descriptors.
pub(crate) fn listen(at: SocketAddr, kind: Type) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(at), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket on its way to `to`: writable once it is there or has failed (`outcome` says which).
///
/// # Errors
/// The system's, when it refuses at once.
pub(crate) fn connect(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = unconnected(to, Type::STREAM.nonblocking())?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::INTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// A socket that can be connected to `to`.
///
/// # Errors
/// Out of descriptors or memory.
pub(crate) fn unconnected(to: SocketAddr, kind: Type) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// What became of a connect, asked once the socket is writable.
///
/// # Errors
/// Why it failed.
pub(crate) fn outcome(socket: impl AsFd) -> io::Result<()> {
    sockopt::socket_error(socket)?.map_err(io::Error::from)
}

/// Our address of a socket.
///
/// # Errors
/// The system's; none for a bound socket.
pub(crate) fn local(socket: impl AsFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(socket)?;
    SocketAddr::try_from(address).map_err(io::Error::from)
}

/// When the peer of a connection last took octets that were sent to it, as the system knows it at `now`; `Tick(0)` when it does not
/// say.
pub(crate) fn taken_at(socket: &impl AsRawFd, now: Tick) -> Tick {
    let ago =
        crate::sys::tcp::taken_ago(socket).map_or(u64::MAX, |ago| u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX));
    Tick(now.0.saturating_sub(ago))
}

/// Makes the coming close send a reset and drop what the kernel has not sent.
pub(crate) fn close_with_reset(socket: impl AsFd) {
    // A socket that is gone already needs no reset.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listeners_share_a_port_and_addresses_read_back() {
        let one = listen(([127, 0, 0, 1], 0).into(), Type::STREAM).expect("a free port");
        let at = local(&one).expect("bound");
        assert_ne!(at.port(), 0);
        let two = listen(at, Type::STREAM.nonblocking()).expect("shared");
        assert_eq!(local(&two).expect("bound"), at);
        let client = std::net::TcpStream::connect(at).expect("listening");
        assert_eq!(client.peer_addr().expect("connected"), at);
    }
}
