//! A hub under test: a server in its default role.

pub use crate::server::{Dialect, Server as Hub, Told};
