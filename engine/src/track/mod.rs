//! What a server says about itself, as plain records: the counters that shards keep, the reports they give when asked, and
//! the desk over which shards and the control plane talk. No text for people, no socket, no clock.

pub mod counters;
pub mod desk;
pub mod report;
