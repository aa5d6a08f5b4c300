//! The load side of a run as processes of ours: sinks and senders, made of the load generator's library.

pub mod sink;
