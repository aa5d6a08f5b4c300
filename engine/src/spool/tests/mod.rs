//! The log on an in-memory disk.

mod disk;
mod happy;
