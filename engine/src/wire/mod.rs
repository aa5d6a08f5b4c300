//! The plain types that everything else speaks: time, addresses, envelopes, facts about content, replies.
//!
//! What reads a peer's or a disk's octets here never panics on them; where a form is kept on disk, its table stands
//! beside the code ([`envelope`]).

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub(crate) mod cursor;
pub mod dsn;
pub mod envelope;
pub(crate) mod mailbox;
pub(crate) mod xtext;

mod content;
mod network;
mod next_hop;
pub(crate) mod reply;
mod status;
mod tick;

pub use content::{ContentFacts, LEADING_DOTS_KEPT, LeadingDots, TEXT_LINE_BYTES_MAX};
pub use dsn::{Notify, Return};
pub use envelope::{BodyType, ENVELOPE_KEPT_BYTES, EnvelopeBuf, EnvelopeError, EnvelopeRef, RecipientRef, Recipients};
pub use mailbox::{
    DOMAIN_BYTES_MAX, Mailbox, MailboxRef, PathError, PathLimits, ReversePathRef, is_domain, is_ehlo_name,
};
pub use network::{Network, NetworkError};
pub use next_hop::{DeliveryType, HostAddress, NextHopKey};
pub use reply::{REPLY_TEXT_BYTES_MAX, Refusal, Reply, ReplyBuf, ReplyClass};
pub use status::EnhancedStatus;
pub use tick::{Span, Tick, Wall};
