//! Linear async code that joins machines and a [`Driver`](crate::io::driver::Driver). The shells perform what the machines
//! decide, and decide nothing themselves.

pub mod body;
mod cause;
pub mod door;
pub mod frontend;
mod gate;
pub mod hooks;
pub mod hub;
pub mod ids;
pub mod inlet;
mod letter;
pub mod mailbox;
pub mod options;
pub mod outbound;
pub mod pump;
pub mod serve;
pub mod server;
mod short;
pub mod signal;
pub mod tarpit;
pub mod trace;
