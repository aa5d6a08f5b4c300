//! The only module that knows rings, files and sockets. The core never imports it: a shard is given a [`driver::Driver`].

pub(crate) mod base;
pub mod driver;
pub mod epoll;
