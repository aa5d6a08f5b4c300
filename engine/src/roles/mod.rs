//! What each service decides: machines composed, no I/O.

pub mod frontend;
pub mod hub;
pub mod mailbox_delivery;
