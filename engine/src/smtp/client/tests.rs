//! The client session: against scripted peers, and against our own server session in memory at every split.

mod all_or_none;
mod pairs;
mod scripted;
mod support;
mod waits;
