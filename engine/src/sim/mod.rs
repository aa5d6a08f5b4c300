//! A simulated world: the fourth driver. Whole servers run in one thread on a virtual clock, network, disk and processes,
//! with the shells and machines of production, and everything that is drawn comes from one seed: the same seed and the
//! same commit do the same, event for event (`trace`).

pub mod chance;
pub mod conn;
pub mod disk;
pub mod driver;
mod file;
mod inspect;
pub mod ledger;
pub mod machine;
mod net;
pub mod nth;
pub(crate) mod records;
pub mod scenario;
pub mod sender;
pub mod server;
pub mod sink;
pub mod talk;
mod tasks;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod world;

pub use driver::Sim;
pub use net::Weather;
pub use world::World;
