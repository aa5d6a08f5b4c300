//! What a session knows, asks and answers: the types of the contract with its shell and its role.

use crate::wire::{RecipientRef, Refusal, ReversePathRef};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// How a session, or the session at a front end, was spoken: the `with` of a Received field (RFC 3848).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HELO.
    #[default]
    Smtp,
    /// EHLO.
    Esmtp,
    /// LHLO.
    Lmtp,
}

impl Protocol {
    /// Its name in trace fields and in our MAIL parameter.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Smtp => "SMTP",
            Protocol::Esmtp => "ESMTP",
            Protocol::Lmtp => "LMTP",
        }
    }

    /// The protocol called `name`, in any letter case.
    pub fn named(name: &[u8]) -> Option<Self> {
        [Protocol::Smtp, Protocol::Esmtp, Protocol::Lmtp]
            .into_iter()
            .find(|protocol| name.eq_ignore_ascii_case(protocol.name().as_bytes()))
    }
}

/// Who a front end speaks for, as it said with MAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The client's address.
    pub address: IpAddr,
    /// The name that the client gave with EHLO; printable ASCII, empty when unknown.
    pub ehlo_name: Vec<u8>,
    /// How it spoke to the front end.
    pub protocol: Protocol,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIdentityRef<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// The name that the client gave with EHLO; printable ASCII, empty when unknown.
    pub ehlo_name: &'a [u8],
    /// How it spoke to the front end.
    pub protocol: Protocol,
}

impl ClientIdentity {
    /// Borrowed.
    pub fn as_ref(&self) -> ClientIdentityRef<'_> {
        ClientIdentityRef { address: self.address, ehlo_name: &self.ehlo_name, protocol: self.protocol }
    }
}

/// Facts about a session, for policies and trace fields.
#[derive(Debug, Clone)]
pub struct SessionFacts {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) trusted_front_end: bool,
    pub(super) early_talker: bool,
    pub(super) ehlo_name: Vec<u8>,
    pub(super) protocol: Protocol,
    /// Kept between transactions for its memory; valid while `identified`.
    pub(super) identity: ClientIdentity,
    pub(super) identified: bool,
}

impl SessionFacts {
    pub(super) fn new(peer: SocketAddr, local: SocketAddr, trusted_front_end: bool) -> Self {
        let identity = ClientIdentity { address: peer.ip(), ehlo_name: Vec::new(), protocol: Protocol::default() };
        Self {
            peer,
            local,
            trusted_front_end,
            early_talker: false,
            ehlo_name: Vec::new(),
            protocol: Protocol::default(),
            identity,
            identified: false,
        }
    }

    /// The other end of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our end of it.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether the peer is one of our front ends.
    pub fn trusted_front_end(&self) -> bool {
        self.trusted_front_end
    }

    /// Whether the peer talked before it was greeted (M-017).
    pub fn early_talker(&self) -> bool {
        self.early_talker
    }

    /// The name that the peer gave with EHLO: printable ASCII, not verified; empty before.
    pub fn ehlo_name(&self) -> &[u8] {
        &self.ehlo_name
    }

    /// How the peer speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Who a trusted front end speaks for in this transaction, if it said so.
    pub fn identity(&self) -> Option<&ClientIdentity> {
        self.identified.then_some(&self.identity)
    }

    /// The address that relay and rate decisions count by (S-018): the proxied client's behind a trusted front end, else
    /// the peer's. `None` behind a front end that did not say.
    pub fn client_address(&self) -> Option<IpAddr> {
        match self.identity() {
            Some(identity) => Some(identity.address),
            None if self.trusted_front_end => None,
            None => Some(self.peer.ip()),
        }
    }
}

/// What happened in a session since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionCounts {
    /// Commands in error.
    pub errors: u32,
    /// Recipients answered with 250.
    pub recipients_accepted: u32,
    /// Recipients answered with 4yz or 5yz.
    pub recipients_refused: u32,
    /// The session ended for what the client sent: 1, or 0.
    pub violations: u32,
    /// The session ended because the client was silent: 1, or 0.
    pub timeouts: u32,
}

/// Decides over envelopes while a session reads them. Synchronous: it reads snapshots, it never waits.
pub trait Policy {
    /// May `from` begin a transaction? Asked once the syntax and the declared size are good.
    ///
    /// # Errors
    /// The reply to MAIL.
    fn mail(&self, session: &SessionFacts, from: ReversePathRef<'_>) -> Result<(), Refusal>;

    /// May `to` join the transaction from `from`?
    ///
    /// # Errors
    /// The reply to RCPT.
    fn rcpt(&self, session: &SessionFacts, from: ReversePathRef<'_>, to: RecipientRef<'_>) -> Result<(), Refusal>;

    /// Is there room for content? Asked with MAIL (`octets`: what it declared), with each RCPT beyond
    /// [`ENVELOPE_KEPT_BYTES`](crate::wire::ENVELOPE_KEPT_BYTES) of envelope (the same), and before content is taken in
    /// (`octets`: what is known of it by then); 0 is not known.
    ///
    /// # Errors
    /// The reply, usually 452 4.3.1.
    fn room(&self, octets: u64) -> Result<(), Refusal>;
}

/// Accepts everything: for sinks and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct AcceptAll;

impl Policy for AcceptAll {
    fn mail(&self, _: &SessionFacts, _: ReversePathRef<'_>) -> Result<(), Refusal> {
        Ok(())
    }
    fn rcpt(&self, _: &SessionFacts, _: ReversePathRef<'_>, _: RecipientRef<'_>) -> Result<(), Refusal> {
        Ok(())
    }
    fn room(&self, _: u64) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A complete message whose verdict is owed. Counts up within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Responsibility is ours (RFC 5321 §6.1): as durable as the mode promises.
    Accepted {
        /// Names the message in the reply.
        id: u64,
        /// The value of its Message-ID field, for the reply of profile `exchange`; empty when there is none.
        message_id: &'a [u8],
    },
    /// Somebody else took responsibility, and this is what he said (a front end passes its hub's reply on).
    Relayed(&'a crate::wire::Reply),
    /// Not accepted.
    Refused(&'a Refusal),
}

/// What happened in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What can be consumed is: show more.
    More,
    /// A body begins: after the 354 to DATA, or with the first chunk.
    Begin {
        /// Its octets as far as anybody said: exact for a single chunk, else what MAIL declared.
        expected: Option<u64>,
    },
    /// These octets, of those shown, are content; dots are removed by splitting.
    Body(Range<usize>),
    /// These octets are content and were not shown (a CR that a bare LF lacked, where the listener is told to add it).
    Insert(&'static [u8]),
    /// The body is complete. `envelope()` and `content()` describe it until the next `step`; the verdict is owed.
    Message(Slot),
    /// The body begun is void; its reply is taken care of.
    Discard,
    /// Verdicts are owed, and nothing more can be done before the next of them: call `step` again after `on_verdict`. Or an
    /// answer is delayed: call `step` again after `on_timeout`.
    Paused,
    /// Flush, then close.
    Close,
}

/// What one `step` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Octets consumed, of those shown.
    pub consumed: usize,
    /// What happened.
    pub event: Event,
}

/// How much of what comes next is content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// At least the next so many octets (BDAT): all content, as it is.
    Chunk(u64),
    /// Until the final dot, wherever that is (DATA).
    UntilDot,
}

/// What `on_aimed` made of octets that were received straight into a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aimed {
    /// The first so many octets are content now.
    pub content: usize,
    /// So many octets right behind them wait for what follows: show them again, in front of it.
    pub undecided: usize,
    /// These octets are not content: give them back to be shown by `step`.
    pub rest: Range<usize>,
    /// `More` (also when a chunk ended), `Message`, `Discard` or `Close`.
    pub event: Event,
}
