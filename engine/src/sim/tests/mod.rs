//! Worlds that prove what the simulation itself promises, and what servers promise in it.

mod bugs;
mod crowd;
mod expiry;
mod slow;
mod stops;
mod worlds;
