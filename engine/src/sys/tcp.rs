//! What the system knows of a TCP connection beyond what passes through it.

use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// For how long the peer of a connection with octets to send has taken none of them, to the millisecond; `None` when the system
/// does not say.
///
/// It is the longer of two times: since octets were last sent, which a peer that has no room for more stops; and since the peer
/// last acknowledged anything, which a peer that is gone stops. What asks a full peer whether it has room carries no octet.
pub fn taken_ago(socket: &impl AsRawFd) -> Option<Duration> {
    let mut known = [0_u32; size_of::<libc::tcp_info>() / size_of::<u32>()];
    let mut bytes = libc::socklen_t::try_from(size_of_val(&known)).ok()?;
    let into = (&raw mut known).cast();
    // SAFETY: `known` is writable for the length given and lives through the call. Whatever the descriptor is, the kernel answers with
    // an error if it is no TCP socket.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut bytes) };
    let field = |offset: usize| known.get(offset / size_of::<u32>()).copied();
    let sent = field(offset_of!(libc::tcp_info, tcpi_last_data_sent))?;
    let heard = field(offset_of!(libc::tcp_info, tcpi_last_ack_recv))?;
    (result == 0).then(|| Duration::from_millis(sent.max(heard).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn only_a_tcp_connection_has_a_peer_that_takes() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let began = std::time::Instant::now();
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let ago = taken_ago(&socket).expect("TCP");
        assert!(ago <= began.elapsed() + Duration::from_millis(20), "{ago:?}: no longer than it exists");
        let null = std::fs::File::open("/dev/null").expect("there");
        assert_eq!(taken_ago(&null), None);
    }
}
