//! What the end of a connection says about the host at its other end.

use crate::io::driver::{Next, is_ours};
use crate::queue::Cause;
use crate::smtp::client::{DownReason, Stage};
use crate::track::counters::{Counter, Tally};
use std::io;

/// Why a connection did not come to be.
pub(super) fn of_connect(error: &io::Error) -> Cause {
    match error.kind() {
        _ if is_ours(error) => Cause::Short,
        io::ErrorKind::TimedOut => Cause::TimedOut,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Cause::Refused,
        _ => Cause::Unreachable,
    }
}

/// Why a connection was lost: by its host, or because the system had no memory for it, which is nobody's fault there (F-039).
pub(super) fn of_loss<T>(next: &Next<T>) -> Cause {
    if matches!(next, Next::Broken(io::ErrorKind::OutOfMemory)) { Cause::Short } else { Cause::Broken }
}

/// What a session's end says about the host; `None`: nothing. `code` is that of the last reply.
pub(super) fn of_end(reason: DownReason, code: u16) -> Option<Cause> {
    Some(match reason {
        DownReason::Refused { at: Stage::Greeting, .. } => Cause::Greeting(code),
        DownReason::Refused { .. } => Cause::Hello(code),
        DownReason::Closing => Cause::PushBack,
        DownReason::Protocol(_) => Cause::Protocol,
        DownReason::TimedOut(_) => Cause::TimedOut,
        DownReason::Lost(_) => Cause::Broken,
        DownReason::Loop => Cause::Loop,
        DownReason::Quit => return None,
    })
}

/// Counts the end of a connection, or of an attempt at one, by its cause (I-10).
pub(super) fn count(tally: &Tally, why: Cause) {
    tally.one(match why {
        Cause::Refused | Cause::Unreachable | Cause::Short => Counter::ConnectFailures,
        Cause::Greeting(_) | Cause::Hello(_) | Cause::Mail(_) | Cause::PushBack => Counter::RefusedOut,
        Cause::TimedOut => Counter::TimeoutsOut,
        Cause::Broken => Counter::BrokenOut,
        Cause::Protocol => Counter::ProtocolOut,
        Cause::Loop => Counter::LoopsOut,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_053_f_039_a_connection_without_memory_says_nothing_about_its_host() {
        let of_errno = |errno| of_loss::<()>(&Next::Broken(io::Error::from_raw_os_error(errno).kind()));
        assert_eq!(
            [libc::ENOMEM, libc::ECONNRESET, libc::EPIPE].map(of_errno),
            [Cause::Short, Cause::Broken, Cause::Broken]
        );
        assert_eq!(of_loss::<()>(&Next::End), Cause::Broken);
    }

    #[test]
    fn f_053_f_039_no_host_is_blamed_for_what_we_lack() {
        use libc::*;
        for (errno, cause) in [
            (EMFILE, Cause::Short),
            (ENOBUFS, Cause::Short),
            (EADDRNOTAVAIL, Cause::Short),
            (EINTR, Cause::Short),
            (EAGAIN, Cause::Short),
            (ETIMEDOUT, Cause::TimedOut),
            (ECONNREFUSED, Cause::Refused),
            (ECONNRESET, Cause::Refused),
            (EHOSTUNREACH, Cause::Unreachable),
            (ENETUNREACH, Cause::Unreachable),
        ] {
            assert_eq!(of_connect(&io::Error::from_raw_os_error(errno)), cause, "errno {errno}");
        }
        assert_eq!(of_connect(&io::ErrorKind::TimedOut.into()), Cause::TimedOut);
    }
}
