//! What all connections to a destination are told once.

use crate::smtp::Dialect;
use crate::wire::Span;

/// How long the client waits (RFC 5321 §4.5.3.2; M-069): for each reply as a whole, from the last reply or from what asked
/// for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTimers {
    /// For the greeting.
    pub greeting: Span,
    /// For the reply to EHLO, HELO, LHLO and RSET.
    pub hello: Span,
    /// For the reply to MAIL.
    pub mail: Span,
    /// For the reply to RCPT.
    pub rcpt: Span,
    /// For the 354.
    pub data: Span,
    /// For the peer to take some more of a body.
    pub block: Span,
    /// For the reply to the end of a body.
    pub end: Span,
    /// For the reply to QUIT.
    pub quit: Span,
    /// After this no further transaction begins; one that runs is never cut.
    pub session: Span,
}

impl Default for ClientTimers {
    fn default() -> Self {
        Self {
            greeting: Span::minutes(5),
            hello: Span::minutes(5),
            mail: Span::minutes(5),
            rcpt: Span::minutes(5),
            data: Span::minutes(2),
            block: Span::minutes(3),
            end: Span::minutes(10),
            quit: Span::seconds(5),
            session: Span::hours(1),
        }
    }
}

/// Everything that connections to one destination share.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// SMTP or LMTP.
    pub dialect: Dialect,
    /// The name we give with EHLO: our domain, or an address literal. Without a dot it is no domain that others know: the
    /// address of the connection takes its place (M-009).
    pub our_name: String,
    /// What tells our process from every other, as in our own greetings: a greeting with our name and this is a loop
    /// (M-081). Empty: not looked for.
    pub instance: String,
    /// Transactions under way at one time, to a peer with CHUNKING and PIPELINING.
    pub in_flight_max: usize,
    /// Use CHUNKING where it is offered.
    pub chunking: bool,
    /// Use PIPELINING where it is offered.
    pub pipelining: bool,
    /// Send 8-bit content to a host without 8BITMIME as it is. Breaks RFC 6152 §3 (M-175).
    pub just_send_eight_bit: bool,
    /// Of a transaction whose recipients a peer does not all take, nothing is sent but the envelope: its content waits for the
    /// answers to MAIL and every RCPT, and one refusal takes it back. For who has said yes to each of them already. A peer
    /// that announces our keyword answers for all of them alike, so there nothing waits.
    pub all_or_none: bool,
    /// Send lines over 998 octets as they are (M-054).
    pub long_lines: bool,
    /// Waits.
    pub timers: ClientTimers,
}

impl ClientOptions {
    /// The defaults for a client named `our_name`.
    pub fn new(our_name: &str) -> Self {
        Self {
            dialect: Dialect::Smtp,
            our_name: our_name.to_owned(),
            instance: String::new(),
            in_flight_max: 64,
            chunking: true,
            pipelining: true,
            all_or_none: false,
            just_send_eight_bit: false,
            long_lines: false,
            timers: ClientTimers::default(),
        }
    }
}
