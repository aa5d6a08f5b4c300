//! Header sections (RFC 5322 §2.2): reading fields, the trace fields that we write (RFC 5321 §4.4), and reports on delivery
//! (RFC 3464).

mod date;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
pub mod header;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#[cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
pub mod report;
mod trace;

pub use date::DateText;
pub use trace::{Received, TraceForm, write_received, write_return_path};
