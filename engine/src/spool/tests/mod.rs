//! The log on an in-memory disk.

mod bad_segment;
mod bounds;
mod carried;
mod crash;
mod damage;
mod disk;
mod happy;
mod ledger;
mod marks;
mod sparse;
mod unread;
