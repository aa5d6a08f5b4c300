//! The fault vocabulary: `WHERE:ACTION[;SELECTOR…]`, what a sink does wrong, where, and to whom.
//!
//! The whole grammar is read; what this version cannot do yet is refused by name when it is asked for, never ignored.
//! The same texts are taken on the command line (`--fault`, repeatable) and at run time by the admin address.

pub mod mangle;
mod parse;
pub mod plan;

use engine::wire::Span;
use std::fmt;

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Where {
    /// A connection is accepted, before its banner.
    Accept,
    /// The banner.
    Banner,
    /// EHLO, HELO or LHLO.
    Ehlo,
    /// STARTTLS.
    Starttls,
    /// The handshake.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The first octets of a body.
    Body,
    /// The end of a message: the final dot or the last chunk.
    Eod,
    /// The end of a message that came by BDAT; `any` means `eod` there.
    Bdat,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
    /// Every one of those that has a reply, the banner included.
    Any,
    /// A transaction is over and its reply sent.
    Idle,
}

impl Where {
    const NAMES: [(&'static str, Where); 17] = [
        ("accept", Where::Accept),
        ("banner", Where::Banner),
        ("ehlo", Where::Ehlo),
        ("starttls", Where::Starttls),
        ("tls", Where::Tls),
        ("auth", Where::Auth),
        ("mail", Where::Mail),
        ("rcpt", Where::Rcpt),
        ("data", Where::Data),
        ("body", Where::Body),
        ("eod", Where::Eod),
        ("bdat", Where::Bdat),
        ("rset", Where::Rset),
        ("noop", Where::Noop),
        ("quit", Where::Quit),
        ("any", Where::Any),
        ("idle", Where::Idle),
    ];

    /// As the vocabulary spells it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, place)| *place == self).map_or("any", |(name, _)| name)
    }

    /// Whether something that happens at `here` is meant.
    pub fn covers(self, here: Where) -> bool {
        self == here || (self == Where::Any && !matches!(here, Where::Accept | Where::Body | Where::Bdat | Where::Idle))
    }
}

/// A reply to be given instead of the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FalseReply {
    /// Three digits, whatever they mean.
    pub code: u16,
    /// What stands behind the code: an enhanced status, a text, both or nothing.
    pub text: String,
}

impl FalseReply {
    /// Appends the reply line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{:03} {}\r\n", self.code, self.text).as_bytes());
    }

    /// The first digit.
    pub fn class(&self) -> u16 {
        self.code / 100
    }
}

/// How a TLS handshake is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFailure {
    /// A fatal alert.
    Alert,
    /// A certificate for another name.
    WrongName,
    /// An expired certificate.
    Expired,
    /// A certificate that nobody signed.
    SelfSigned,
    /// Only versions that nobody should take.
    OldVersion,
    /// The connection ends in the middle.
    Truncate,
    /// The connection ends right behind it.
    AfterHandshake,
    /// Silence.
    Stall,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Another reply. One of the class that success would have lets the session go on; any other, and the session never
    /// saw the command.
    Reply(FalseReply),
    /// Wait, then go on as usual.
    Delay(Span),
    /// The whole sink neither reads nor answers for so long.
    Pause(Span),
    /// Never answer, keep the connection.
    Stall,
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// FIN, and go on reading.
    HalfClose,
    /// At the end of a message: it counts as received; close without a reply.
    TakeClose,
    /// At the end of a message: forget it; close without a reply.
    DropClose,
    /// At the end of a message: it counts as received; refuse it.
    TakeReply(FalseReply),
    /// The first so many octets of the reply, then close.
    Cut(usize),
    /// The reply in segments of one octet.
    Split,
    /// A reply of so many lines.
    Multiline(usize),
    /// A reply line of so many octets.
    Long(usize),
    /// The reply without its line end.
    NoCrlf,
    /// LF for CRLF.
    Lf,
    /// So many octets of anything instead of the reply.
    Garbage(usize),
    /// The reply ahead of what it is to, and none behind that. Of a message: when its content begins, or, at `bdat`, behind
    /// its first recipient, as one to DATA is. Of MAIL: behind EHLO; of the first recipient: behind MAIL.
    Early,
    /// One reply more than was asked for.
    Extra,
    /// A code of two digits.
    TwoDigits,
    /// Two codes in one reply.
    MixedCodes,
    /// Read so many octets per second.
    SlowRead(u64),
    /// Write so many octets of replies per second.
    SlowWrite(u64),
    /// A receive buffer of so many octets.
    Window(u64),
    /// EHLO without this keyword.
    NoExt(String),
    /// EHLO with one more line.
    Ext(String),
    /// Fail the handshake.
    TlsFail(TlsFailure),
    /// Plain octets behind the 220 of STARTTLS.
    Inject(Vec<u8>),
    /// Another SIZE in the reply to EHLO.
    LieSize(u64),
    /// The listener is closed as long as the fault is set.
    Refuse,
    /// SYNs are dropped.
    Blackhole,
}

/// Whom it strikes. Empty: everybody, always.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selector {
    /// With this probability.
    pub probability: Option<f64>,
    /// Every so many occasions.
    pub every: Option<u64>,
    /// Only the first so many.
    pub first: Option<u64>,
    /// Not the first so many.
    pub after: Option<u64>,
    /// Only on this connection, counted from 1.
    pub connection: Option<u64>,
    /// Only when the recipient matches.
    pub recipient: Option<Glob>,
    /// Only when the sender matches.
    pub sender: Option<Glob>,
    /// Only messages of more octets.
    pub larger_than: Option<u64>,
    /// Only from then, counted from the sink's start.
    pub from: Option<Span>,
    /// Only until then.
    pub until: Option<Span>,
    /// For `p=`.
    pub seed: u64,
}

/// A pattern with `*` and `?`, compared without case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// From its text.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase())
    }

    /// Whether the whole of `text` matches. Linear in the text for each star.
    pub fn matches(&self, text: &[u8]) -> bool {
        let pattern = self.0.as_bytes();
        let (mut p, mut t) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, t));
                    p += 1;
                }
                Some(&octet) if octet == b'?' || octet == text[t].to_ascii_lowercase() => {
                    p += 1;
                    t += 1;
                }
                _ => match retry {
                    Some((after_star, at)) => {
                        p = after_star;
                        t = at + 1;
                        retry = Some((after_star, at + 1));
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&octet| octet == b'*')
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Where it strikes.
    pub at: Where,
    /// What it does.
    pub action: Action,
    /// Whom it strikes.
    pub select: Selector,
    text: String,
}

impl fmt::Display for Fault {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A fault that cannot be had. The text says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// No colon.
    #[error("`{0}` is not a fault: write WHERE:ACTION[;SELECTOR...], as eod:reply 451;every=100")]
    Shape(String),
    /// Not a place.
    #[error(
        "fault `{fault}`: `{place}` is not one of accept, banner, ehlo, starttls, tls, auth, mail, rcpt, data, body, eod, bdat, rset, noop, quit, any, idle"
    )]
    Place {
        /// The whole.
        fault: String,
        /// The wrong part.
        place: String,
    },
    /// Not an action, or without what it needs.
    #[error("fault `{fault}`: `{action}` is not an action; {right}")]
    Action {
        /// The whole.
        fault: String,
        /// The wrong part.
        action: String,
        /// What would be right.
        right: &'static str,
    },
    /// Not a selector.
    #[error(
        "fault `{fault}`: `{selector}` is not a selector: p=0.01, every=100, first=5, after=1000, conn=3, rcpt=GLOB, from=GLOB, size>N, t=10s..20s, seed=N"
    )]
    Selector {
        /// The whole.
        fault: String,
        /// The wrong part.
        selector: String,
    },
    /// The action does not belong there.
    #[error("fault `{fault}`: {action} strikes only at {places}")]
    Misplaced {
        /// The whole.
        fault: String,
        /// Its action.
        action: &'static str,
        /// Where it may stand.
        places: &'static str,
    },
    /// Known, and not to be had yet.
    #[error("fault `{fault}`: this version cannot do that yet ({reason})")]
    NotYet {
        /// The whole.
        fault: String,
        /// What it waits for.
        reason: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, matches) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("u*@x.test", "U12@X.test", true),
            ("u*@x.test", "v12@x.test", false),
            ("*@b*.test", "a@abc@b.c.test", true),
            ("u?@x", "u1@x", true),
            ("u?@x", "u12@x", false),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text.as_bytes()), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn any_means_everything_that_has_a_reply() {
        assert!(Where::Any.covers(Where::Banner) && Where::Any.covers(Where::Eod) && Where::Eod.covers(Where::Eod));
        assert!(!Where::Any.covers(Where::Accept) && !Where::Eod.covers(Where::Mail));
    }
}
