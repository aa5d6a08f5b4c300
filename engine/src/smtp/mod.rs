//! SMTP and LMTP (RFC 5321, 2033, 1870, 2920, 3030, 6152, 2034) as machines without I/O: they are shown octets and told
//! the time, and answer with replies or commands and events.
//!
//! # `XRINGPOST`: who a front end speaks for
//!
//! A server announces the EHLO keyword `XRINGPOST` to trusted front ends only (S-018). It gives MAIL three parameters;
//! from anybody else they are unknown (555 5.5.4). They hold for their transaction alone, so that one connection can carry
//! many clients' messages, pipelined (M-078).
//!
//! | parameter | value |
//! |---|---|
//! | `XADDR=` | the client's address: `192.0.2.1` or `IPv6:2001:db8::1` |
//! | `XHELO=` | the name it gave with EHLO or HELO, as xtext (RFC 3461 §4); left out when it gave none |
//! | `XPROTO=` | how it spoke: `SMTP`, `ESMTP` or `LMTP` |
//!
//! `XADDR` and `XPROTO` come together; `XHELO` only with them. A peer that announces the keyword is of our kind.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod client;
mod command;
mod reader;
mod scan;
pub mod server;
pub mod stuff;

pub use reader::{ProtocolError, REPLY_BYTES_MAX, REPLY_LINE_BYTES_MAX, REPLY_LINES_MAX};

use crate::wire::ContentFacts;
use std::fmt;
use std::str::FromStr;

/// The facts about `content`, which is whole and not dot-stuffed.
pub fn content_facts(content: &[u8]) -> ContentFacts {
    let mut scan = scan::Scan::new();
    scan.plain(content);
    scan.finish();
    *scan.facts()
}

/// The EHLO keyword by which we recognise our own kind, and offer front ends the parameters above.
pub const FRONT_END_KEYWORD: &str = "XRINGPOST";

/// Which documents win where they differ (docs/PROFILES.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// Exchange's documented behaviour wins.
    #[default]
    Exchange,
    /// The RFCs win.
    Rfc,
    /// As `Rfc`, with rates and caps lifted for measuring.
    Bench,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Exchange => "exchange",
            Profile::Rfc => "rfc",
            Profile::Bench => "bench",
        })
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "exchange" => Ok(Profile::Exchange),
            "rfc" => Ok(Profile::Rfc),
            "bench" => Ok(Profile::Bench),
            _ => Err(UnknownProfile),
        }
    }
}

/// No profile has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a profile is \"exchange\", \"rfc\" or \"bench\"")]
pub struct UnknownProfile;

/// Which of the two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// SMTP: one reply for all recipients of a body.
    #[default]
    Smtp,
    /// LMTP (RFC 2033): LHLO, and a reply per accepted recipient.
    Lmtp,
}
