//! Ringload: an open-loop SMTP load generator and a sink that misbehaves on request, as library functions and as the
//! program `ringload`.
//!
//! - [`send`]: messages on a schedule that was fixed before the run and is deaf to the target. Latency counts from the
//!   intended send time, so that a target that stands still is seen standing still.
//! - [`sink`]: accepts, writes down what arrived and when, checks that it is what was sent, and does wrong what it is told.
//! - [`correlate`]: joins both into accounts: every intended (message, recipient) pair ends in exactly one place.
//! - [`validity`]: says INVALID when a figure is not worth its digits.
//!
//! ```no_run
//! use loadgen::correlate::{Circumstances, correlate};
//! use loadgen::schedule::Plan;
//! use loadgen::send::{SendOptions, lane::Pacing};
//! use loadgen::sink::SinkOptions;
//! use loadgen::units::Rate;
//! use engine::wire::Span;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sink = loadgen::sink::start(SinkOptions::default())?;
//! let pacing = Pacing::Open(Plan::constant(Rate::per_second(500).expect("a rate"), Span::seconds(10)));
//! let sent = loadgen::send::run(SendOptions::new(sink.listen[0], pacing))?;
//! let mut ledger = sink.stop()?.ledger;
//! let joined = correlate(&sent.sent(), &mut ledger, &Circumstances::default(), Span::ZERO);
//! assert!(joined.accounts.add_up());
//! let figures = sent.figures(sent.main_part());
//! println!("p99 {:?} µs, {:?}", figures.response.at(0.99), sent.validity().0);
//! # Ok(())
//! # }
//! ```
//!
//! A message's id travels in the local part of its reverse-path ([`stamp`]); its content is untouched. The sender's hot
//! path writes one fixed-size record per message ([`record`]) and allocates nothing; the sink's one entry per recipient
//! ([`ledger`]). Every figure is computed from these when the run is over.
//!
//! Modules in layer order, the pure ones first: an import only ever points up this list.
//!
//! ```text
//!  cli ─► {send, sink} ─► report ─► {correlate, validity} ─► {ledger, record, stamp} ─► {schedule, workload, units}
//! ```

#![forbid(unsafe_code)]
// A broken invariant says which one it is (`expect`); what a peer or a disk sent is an error, never a panic (S-044).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]
// They panic where a stream cannot be written, a log on a full disk for one: `engine::app::exit::{tell, print}` do not.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

pub mod cli;
mod clock;
pub mod correlate;
pub mod ledger;
mod local;
pub mod record;
pub mod report;
pub mod schedule;
pub mod send;
pub mod sink;
pub mod stamp;
pub mod units;
pub mod validity;
pub mod workload;
