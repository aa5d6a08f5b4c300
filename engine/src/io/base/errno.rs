//! What an error of the system means for who asked (F-053): one table for every driver.

use std::io;

/// What was asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// The next connection of a listener.
    Accept,
    /// What a connection's peer sent.
    Receive,
    /// Octets to a connection's peer.
    Send,
    /// Opening, reading or writing a file.
    File,
    /// Making a file or folder durable: what that said is final (F-027).
    Sync,
    /// A connection to a peer.
    Connect,
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing came of it, and nothing is wrong: the same again.
    Again,
    /// No shared receive buffer is free: again when one comes back (F-048).
    NoBuffer,
    /// It failed for want of something of our own: may work later, and no peer is to blame (F-039).
    Ours,
    /// The caller hears of it: the connection is broken, the listener has to pause, the file's operation failed.
    Fails,
}

/// The table.
pub(crate) fn class(op: Op, errno: i32) -> Class {
    use libc::{EADDRNOTAVAIL, EAGAIN, ECANCELED, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO};
    match (op, errno) {
        (Op::Sync, _) => Class::Fails,
        // Interrupted, or without a port: whoever wanted it makes another connection, later.
        (Op::Connect, EINTR | EAGAIN | ECANCELED | EMFILE | ENFILE | ENOMEM | ENOBUFS | EADDRNOTAVAIL) => Class::Ours,
        (Op::Connect, _) => Class::Fails,
        (_, EINTR | EAGAIN) => Class::Again,
        // Ended by ourselves: a receive or accept that is still wanted is armed again.
        (Op::Receive | Op::Accept, ECANCELED) => Class::Again,
        // One client's trouble says nothing about the listener.
        (Op::Accept, ECONNABORTED | EPROTO) => Class::Again,
        (Op::Receive, ENOBUFS) => Class::NoBuffer,
        _ => Class::Fails,
    }
}

/// So often an operation on a file is tried when nothing comes of it.
const TRIES_MAX: usize = 16;

/// Whether a connection was not made for want of something of our own, so that its host is not to blame (F-039).
pub(crate) fn is_ours(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| class(Op::Connect, errno) == Class::Ours)
}

/// Tries an operation on a file again while nothing comes of it.
pub(crate) async fn retried<T>(op: Op, mut one: impl AsyncFnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES_MAX {
        match one().await {
            Err(error) if error.raw_os_error().is_some_and(|errno| class(op, errno) == Class::Again) => {}
            done => return done,
        }
    }
    one().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// Every errno of every operation has its class, and these are the only ones that are not told.
    #[test]
    fn f_053_every_errno_of_every_operation_has_its_class() {
        use libc::*;
        let ours = [EINTR, EAGAIN, ECANCELED, EMFILE, ENFILE, ENOMEM, ENOBUFS, EADDRNOTAVAIL];
        let again: [(Op, &[i32]); 6] = [
            (Op::Accept, &[EINTR, EAGAIN, ECANCELED, ECONNABORTED, EPROTO]),
            (Op::Receive, &[EINTR, EAGAIN, ECANCELED]),
            (Op::Send, &[EINTR, EAGAIN]),
            (Op::File, &[EINTR, EAGAIN]),
            (Op::Sync, &[]),
            (Op::Connect, &[]),
        ];
        for (op, again) in again {
            for errno in 1..=133 {
                let expected = match errno {
                    errno if again.contains(&errno) => Class::Again,
                    ENOBUFS if op == Op::Receive => Class::NoBuffer,
                    errno if op == Op::Connect && ours.contains(&errno) => Class::Ours,
                    _ => Class::Fails,
                };
                assert_eq!(class(op, errno), expected, "{op:?}, errno {errno}");
            }
            assert_eq!(class(op, ETIME), Class::Fails, "{op:?}: no operation of ours has a time-out in the kernel");
        }
    }

    fn run(op: Op, mut script: Vec<Result<usize, i32>>) -> (io::Result<usize>, usize) {
        script.reverse();
        let all = script.len();
        let result = {
            let one = async || script.pop().expect("tried too often").map_err(io::Error::from_raw_os_error);
            let mut future = pin!(retried(op, one));
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => result,
                Poll::Pending => panic!("nothing is waited for"),
            }
        };
        (result, all - script.len())
    }

    #[test]
    fn f_053_files_try_again_what_was_interrupted_and_nothing_else() {
        let (done, tries) = run(Op::File, vec![Err(libc::EINTR), Err(libc::EAGAIN), Ok(512)]);
        assert_eq!((done.expect("done"), tries), (512, 3));
        for errno in [libc::EIO, libc::ENOSPC, libc::EROFS, libc::EDQUOT, libc::ECANCELED, libc::ETIME] {
            let (failed, tries) = run(Op::File, vec![Err(errno), Ok(512)]);
            assert_eq!((failed.expect_err("told").raw_os_error(), tries), (Some(errno), 1));
        }
        let (failed, tries) = run(Op::File, vec![Err(libc::EINTR); TRIES_MAX + 1]);
        assert_eq!((failed.expect_err("told").raw_os_error(), tries), (Some(libc::EINTR), TRIES_MAX));
        for errno in [libc::EINTR, libc::EAGAIN, libc::EIO] {
            let (failed, tries) = run(Op::Sync, vec![Err(errno), Ok(0)]);
            assert_eq!((failed.expect_err("F-027").raw_os_error(), tries), (Some(errno), 1));
        }
    }
}
