//! What the whole-process tests share.

#![forbid(unsafe_code)]

pub mod chance;
pub mod corpus;
pub mod descriptors;
mod drivers;
pub mod ledger;
pub mod peers;
pub mod process;
pub mod programs;
pub mod script;
pub mod senders;
pub mod server;
pub mod sink;
mod skip;
pub mod small_disk;
pub mod smuggling;
pub mod source;
pub mod talk;
pub mod wait;

pub use drivers::{driver, drivers, no_uring};
pub use skip::{skip, skip_part};
