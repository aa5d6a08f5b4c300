//! What the drivers have in common: the two directions of a connection as plain state, sockets and files as plain
//! system calls, and one thread's turn on tokio.
//!
//! `files` and `sockets`, and of a connection `inbox`, `outbox`, `outlet`, `signal` and `events`, know nothing of a runtime;
//! `turn` and `conn` are for the drivers that run on tokio (`epoll`, `tokio_uring`).

pub(crate) mod conn;
pub(crate) mod errno;
pub(crate) mod events;
pub(crate) mod file_threads;
pub(crate) mod files;
pub(crate) mod inbox;
pub(crate) mod outbox;
pub(crate) mod outlet;
pub(crate) mod readiness;
pub(crate) mod reserve;
pub(crate) mod signal;
pub(crate) mod sockets;
pub(crate) mod turn;
