//! The plain types that everything else speaks: time, addresses, envelopes, replies.

mod tick;

pub use tick::{Span, Tick, Wall};
