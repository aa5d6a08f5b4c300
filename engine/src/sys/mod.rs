//! Every `unsafe` of the engine, behind safe types. The core uses `slice`, `spare` and the lock-free queues only; `ring` and
//! `calls` belong to `io`.

#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

pub mod alloc;
pub mod classes;
pub mod exec;
pub mod lockfree;
pub mod outgoing;
pub mod owned;
#[cfg(any(test, feature = "bugs"))]
pub mod planted;
pub mod process;
pub mod receive_buffers;
#[cfg(test)]
pub mod refuse;
pub mod ring;
pub mod slice;
pub mod spare;
pub mod tcp;
pub mod watch;

/// Whether the bug of this name is planted: never in a build without the feature `bugs`.
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(any(test, feature = "bugs"))]
        let is_planted = $crate::sys::planted::is($crate::sys::planted::Bug::$bug);
        #[cfg(not(any(test, feature = "bugs")))]
        let is_planted = false;
        is_planted
    }};
}
