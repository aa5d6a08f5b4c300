//! The queues in a simulated world: hosts that work, refuse, hang, slow down and die, under a clock that jumps.

mod caps;
mod elsewhere;
mod expiry;
mod held;
mod hosts;
mod listing;
mod messages;
mod naive;
mod pace;
mod places;
mod room;
mod sharing;
mod world;
