//! The client session: against scripted peers, and against our own server session in memory at every split.

mod pairs;
mod scripted;
mod support;
mod waits;
