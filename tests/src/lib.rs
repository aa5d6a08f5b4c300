//! What the whole-process tests share.

#![forbid(unsafe_code)]

pub mod source;
