//! The open-loop load generator and the fault-injecting sink.

#![forbid(unsafe_code)]
