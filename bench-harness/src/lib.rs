//! Starts whole topologies as real processes, runs scenarios and faults, and writes the report.
//!
//! ```text
//!  app ─► {quickstart, targets} ─► run ─► {process, fault, observe}     things happen, bounded in time, always cleaned up
//!                                   └──► {scenario, plan, failover, timeline, result, stats, html}     pure
//! ```

#![forbid(unsafe_code)]
// A broken invariant says which one it is (`expect`); what a peer or a disk sent is an error, never a panic (S-044).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]
// They panic where a stream cannot be written, a log on a full disk for one: `exit::{tell, print}` do not.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

pub mod affected;
pub mod app;
pub mod asked;
pub mod cli;
pub mod commands;
pub mod corpus;
pub mod exit;
pub mod failover;
pub mod folder;
pub mod html;
pub mod interrupt;
pub mod load;
pub mod maildir;
pub mod observe;
pub mod plan;
pub mod process;
pub mod progress;
pub mod pump;
pub mod result;
pub mod run;
pub mod run_file;
pub mod said;
pub mod scenario;
pub mod stage;
pub mod stats;
pub mod summary;
pub mod targets;
pub mod timeline;
pub mod topology;
pub mod views;

/// Why no figure of a build for debugging is valid.
pub const DEBUG_BUILD: &str = "this build is not optimised: run `cargo run --release --bin ringbench`";
