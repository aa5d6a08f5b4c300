//! Starts whole topologies as real processes, runs scenarios and faults, and writes the report.
//!
//! Modules in layer order: the pure ones first, an import only ever points up this list.

#![forbid(unsafe_code)]

pub mod failover;
pub mod stats;
