//! What the client is given, tells and asks for: the types of the contract with its shell.

use crate::smtp::reader::ProtocolError;
use crate::smtp::server::ClientIdentityRef;
use crate::wire::{ContentFacts, EnvelopeRef, Refusal, Reply, ReplyClass};

/// Where commands and bodies go, in this order, to leave in as few segments as possible.
pub trait Outbox {
    /// Octets of commands; a copy is taken.
    fn text(&mut self, bytes: &[u8]);
    /// Here stands the body of the transaction `token` in this form.
    fn body(&mut self, token: u32, form: BodyForm);
    /// A reply was read: of the transaction `token` to what was sent at `stage`, or outside of transactions (`token` 0). For
    /// those who measure; said before anything follows from it.
    fn replied(&mut self, token: u32, stage: Stage) {
        let _ = (token, stage);
    }
}

/// In which form a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// Dots stuffed, CRLF added if missing, then the end of data: see [`crate::smtp::stuff`].
    Data,
    /// As it is: exactly the octets announced.
    Bdat,
}

/// How much is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// All of it is here: so many octets, trace fields included.
    Whole(u64),
    /// It comes in chunks, by [`super::ClientSession::chunk`]; only to peers with CHUNKING.
    Streamed,
}

/// One message for one next hop.
#[derive(Debug, Clone, Copy)]
pub struct Transaction<'a> {
    /// Its envelope.
    pub envelope: EnvelopeRef<'a>,
    /// The recipients to name, as indexes into the envelope, ascending; `None` is all of them.
    pub recipients: Option<&'a [u32]>,
    /// What is known of its content; of a streamed body nothing is.
    pub facts: &'a ContentFacts,
    /// Its body.
    pub body: Body,
    /// For whom we speak, told to peers that announce our keyword.
    pub identity: Option<ClientIdentityRef<'a>>,
}

/// Why a transaction cannot be sent to this peer. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSend {
    /// Not now: ask `room` first.
    #[error("no room for another transaction")]
    Busy,
    /// None of the recipients asked for is in the envelope.
    #[error("no recipient")]
    Nobody,
    /// The peer takes less (M-107).
    #[error("larger than the {0} octets that the host takes")]
    TooLarge(u64),
    /// 8-bit content, and the peer lacks 8BITMIME (M-175).
    #[error("8-bit content, and the host lacks 8BITMIME")]
    EightBit,
    /// Binary content, and the peer lacks BINARYMIME (M-124).
    #[error("binary content, and the host lacks BINARYMIME")]
    Binary,
    /// A line over 998 octets (M-054), or a bare CR or LF in text (M-045).
    #[error("lines that SMTP cannot carry")]
    Lines,
    /// The body is streamed, and the peer lacks CHUNKING.
    #[error("the host lacks CHUNKING")]
    NeedsChunking,
}

impl CannotSend {
    /// The permanent outcome for its recipients at this host; `None` when it only cannot be sent now or in this way.
    pub fn refusal(self) -> Option<Refusal> {
        Some(match self {
            CannotSend::Busy | CannotSend::Nobody | CannotSend::NeedsChunking => return None,
            CannotSend::TooLarge(_) => Refusal::fixed(552, (5, 3, 4), "Message too large for the next host"),
            CannotSend::EightBit => Refusal::fixed(554, (5, 6, 3), "The next host does not take 8-bit content"),
            CannotSend::Binary => Refusal::fixed(554, (5, 6, 3), "The next host does not take binary content"),
            CannotSend::Lines => Refusal::fixed(554, (5, 6, 0), "Lines that the next host cannot be sent"),
        })
    }
}

/// What a reply decides for a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The peer has taken responsibility.
    Accepted,
    /// 4yz: try again later.
    Deferred,
    /// 5yz: never.
    Refused,
    /// One recipient too many for this transaction: offer it again at once in another (M-034).
    Again,
}

impl Class {
    /// The class of a final reply; `None` for 3yz.
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        match reply.class() {
            ReplyClass::Positive => Some(Class::Accepted),
            ReplyClass::Intermediate => None,
            ReplyClass::Transient => Some(Class::Deferred),
            ReplyClass::Permanent => Some(Class::Refused),
        }
    }
}

/// What happened. The reply that caused it is `reply()` until the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEvent {
    /// What was shown is used up: show more.
    More,
    /// Greeted and introduced: transactions may be offered.
    Ready,
    /// The outcome of one recipient alone.
    Recipient {
        /// The transaction.
        token: u32,
        /// Its place among the recipients offered, from 0.
        index: u32,
        /// Never `Accepted` in SMTP, where `Done` says that.
        class: Class,
    },
    /// The transaction is over: the outcome of all its recipients that had none yet. Its token is free.
    Done {
        /// The transaction.
        token: u32,
        /// The outcome.
        class: Class,
    },
    /// The peer did not look at the transaction: none of its recipients has an outcome. Its token is free. Whether it looks at
    /// none: [`super::ClientSession::is_refused`].
    NotAttempted {
        /// The transaction.
        token: u32,
    },
    /// The connection is of no more use: read `unfinished`, flush, close.
    Down(DownReason),
}

/// When a connection went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before the greeting was complete.
    Greeting,
    /// Before the reply to EHLO.
    Hello,
    /// Between transactions.
    Idle,
    /// Waiting for a reply to RSET.
    Reset,
    /// To MAIL.
    Mail,
    /// To RCPT.
    Rcpt,
    /// To DATA.
    Data,
    /// To the end of a body.
    End,
    /// To QUIT.
    Quit,
}

/// Why a connection went down, and so whose trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DownReason {
    /// The host refused us with the greeting or EHLO: the next host is tried (M-091).
    Refused {
        /// `Greeting` or `Hello`.
        at: Stage,
        /// 5yz.
        permanent: bool,
    },
    /// 421: the host closes (M-015).
    Closing,
    /// What it said makes no sense.
    Protocol(ProtocolError),
    /// It said nothing in time.
    TimedOut(Stage),
    /// The connection broke or ended.
    Lost(Stage),
    /// It is ourselves (M-081).
    Loop,
    /// It answered our QUIT, or did not in time.
    Quit,
}

/// What is known of a transaction that has no outcome when the connection is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unfinished {
    /// The peer cannot have accepted it.
    NotAttempted,
    /// The body was handed over and no reply read: it may have been accepted (W5, M-070).
    Unknown,
}

/// What the peer said about itself with EHLO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerFacts {
    /// Its name.
    pub name: String,
    /// It knows EHLO or LHLO.
    pub extended: bool,
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3030 §3.
    pub binary_mime: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// RFC 1870: `Some(0)` is no fixed maximum.
    pub size: Option<u64>,
    /// It is of our kind and trusts us with `XADDR` and the others.
    pub ringpost: bool,
}

impl PeerFacts {
    /// Reads one line of its reply to EHLO: the first names it, others announce (M-010, M-011).
    pub(super) fn line(&mut self, number: u32, text: &[u8]) {
        let mut words = text.split(|&octet| octet == b' ').filter(|word| !word.is_empty());
        let Some(word) = words.next() else { return };
        if number == 0 {
            self.name.clear();
            crate::wire::reply::push_clean(&mut self.name, word.get(..255).unwrap_or(word));
            return;
        }
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        if is("PIPELINING") {
            self.pipelining = true;
        } else if is("CHUNKING") {
            self.chunking = true;
        } else if is("BINARYMIME") {
            self.binary_mime = true;
        } else if is("8BITMIME") {
            self.eight_bit_mime = true;
        } else if is("DSN") {
            self.dsn = true;
        } else if is("ENHANCEDSTATUSCODES") {
            self.enhanced_status_codes = true;
        } else if is("SIZE") && self.size.is_none() {
            // Without a number nothing is said about a maximum.
            self.size = Some(words.next().and_then(crate::smtp::command::saturating_number).unwrap_or(0));
        } else if is(crate::smtp::FRONT_END_KEYWORD) {
            self.ringpost = true;
        }
    }
}
