//! Stand-ins for the mailbox store: Maildir folders, and a store that keeps nothing (for measuring).
//!
//! Pure: names and the order of steps are decided here, files are the shell's. Which folder an address has comes from the
//! directory of mailboxes, never from the address (S-031); configuration takes no folder there that could be read as
//! anything but one name.
//!
//! A message is in a mailbox when its name in `new` is durable: `tmp` is created, written, synced, renamed to `new`, and
//! `new` is synced, in this order ([`Placing`]). A crash before the rename leaves a file in `tmp` that nobody reads and that
//! [`is_abandoned`] lets the shell remove.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod maildir;
mod names;
mod null;

pub use maildir::{Placing, Preparing, Step, StoreError, Trouble};
pub use names::{Names, is_abandoned};
pub use null::NullStore;
