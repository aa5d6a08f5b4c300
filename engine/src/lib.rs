//! Ringpost: an SMTP transport engine, thread per core, on io_uring.
//!
//! Modules in layer order; an import only ever points up this list.
//!
//! ```text
//!  bin, config, sim ─► admin, control ─► shell ─► roles ─► {queue, route, track, store} ─► {spool, smtp, mime} ─► wire ─► sys
//!                     shell: linear async code that joins machines and Driver      shard: one core's loop
//!                     io: rings, files, sockets; given to a shard as a Driver
//! ```

#![deny(unsafe_code)]
// A broken invariant says which one it is (`expect`); what a peer or a disk sent is an error, never a panic (S-044).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

pub mod admin;
pub mod app;
pub mod config;
pub mod control;
pub mod io;
pub mod mime;
pub mod queue;
pub mod roles;
pub mod route;
pub mod settings;
pub mod shell;
pub mod sim;
pub mod smtp;
pub mod spool;
pub mod store;
pub mod sys;
pub mod track;
pub mod wire;
