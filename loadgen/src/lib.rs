//! Ringload: an open-loop SMTP load generator and a sink that misbehaves on request, as library functions and as the
//! program `ringload`. Terms and definitions: `measurement.md` of the design.
//!
//! Modules in layer order, the pure ones first: an import only ever points up this list.

#![forbid(unsafe_code)]

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
