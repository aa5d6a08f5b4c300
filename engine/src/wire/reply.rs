//! Replies (RFC 5321 §4.2): what a server says, ours and others'. Their text never holds a control or an octet beyond
//! ASCII and has a bound, whoever supplied it (M-066, M-067, S-027).

use super::status::EnhancedStatus;
use std::borrow::Cow;
use std::fmt;
use std::io::Write;

/// Longest text of a reply that is kept, in octets. With code, status and CRLF a line stays under the 512 octets of
/// RFC 5321 §4.5.3.1.5.
pub const REPLY_TEXT_BYTES_MAX: usize = 480;

/// What a reply means for what was asked (RFC 5321 §4.2.1): its first digit alone decides (M-036).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplyClass {
    /// 2yz: done.
    Positive,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now.
    Transient,
    /// 5yz: never.
    Permanent,
}

impl ReplyClass {
    /// The class of `code`; `None` outside 200 to 599.
    pub fn of(code: u16) -> Option<Self> {
        match code {
            200..=299 => Some(Self::Positive),
            300..=399 => Some(Self::Intermediate),
            400..=499 => Some(Self::Transient),
            500..=599 => Some(Self::Permanent),
            _ => None,
        }
    }
}

/// A reply: code, enhanced status and one line of clean text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedStatus>,
    text: Cow<'static, str>,
}

/// A reply that owns its text: what [`Reply`] is when the text came from outside.
pub type ReplyBuf = Reply;

impl Reply {
    /// A reply of ours with a fixed text.
    ///
    /// # Panics
    /// When the code is outside 200 to 599 or the text too long; in a constant that is a compile error.
    pub const fn fixed(code: u16, enhanced: Option<EnhancedStatus>, text: &'static str) -> Self {
        assert!(code >= 200 && code <= 599 && text.len() <= REPLY_TEXT_BYTES_MAX, "RFC 5321 section 4.2");
        Self { code, enhanced, text: Cow::Borrowed(text) }
    }

    /// A reply with text from anywhere: controls and octets beyond ASCII become `?`, the rest beyond the bound is cut.
    /// `None` when the code is outside 200 to 599.
    pub fn new(code: u16, enhanced: Option<EnhancedStatus>, text: &[u8]) -> Option<Self> {
        ReplyClass::of(code)?;
        let mut clean = String::with_capacity(text.len().min(REPLY_TEXT_BYTES_MAX));
        push_clean(&mut clean, text);
        Some(Self { code, enhanced, text: Cow::Owned(clean) })
    }

    /// 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status, if one was given and fits the code.
    pub fn enhanced(&self) -> Option<EnhancedStatus> {
        self.enhanced
    }

    /// The text behind code and status: printable ASCII, lines of a multi-line reply joined by spaces.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The class its first digit gives.
    pub fn class(&self) -> ReplyClass {
        ReplyClass::of(self.code).unwrap_or(ReplyClass::Transient)
    }

    /// Appends `code status text CRLF`.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = match self.enhanced {
            Some(status) => write!(out, "{} {status} {}\r\n", self.code, self.text),
            None => write!(out, "{} {}\r\n", self.code, self.text),
        };
    }

    /// Overwrites this reply, keeping its memory.
    pub(crate) fn refill(&mut self, code: u16, enhanced: Option<EnhancedStatus>) -> &mut String {
        self.code = code;
        self.enhanced = enhanced;
        let text = self.text.to_mut();
        text.clear();
        text
    }

    /// The text, to be added to by `push_clean` alone.
    pub(crate) fn text_mut(&mut self) -> &mut String {
        self.text.to_mut()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enhanced {
            Some(status) => write!(f, "{} {status} {}", self.code, self.text),
            None => write!(f, "{} {}", self.code, self.text),
        }
    }
}

/// Appends `text` with every control and every octet beyond ASCII as `?`, up to the bound of a reply.
pub(crate) fn push_clean(clean: &mut String, text: &[u8]) {
    let room = REPLY_TEXT_BYTES_MAX.saturating_sub(clean.len());
    clean.extend(
        text.iter().take(room).map(|&octet| if matches!(octet, 0x20..=0x7e) { char::from(octet) } else { '?' }),
    );
}

/// A reply that says no: 4yz or 5yz.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(Reply);

impl Refusal {
    /// A refusal of ours: `Refusal::fixed(550, (5, 7, 1), "Unable to relay")`.
    ///
    /// # Panics
    /// When the code is not 4yz or 5yz or the status has another class; in a constant that is a compile error.
    pub const fn fixed(code: u16, (class, subject, detail): (u8, u16, u16), text: &'static str) -> Self {
        assert!((code / 100 == 4 || code / 100 == 5) && code / 100 == class as u16, "a refusal is 4yz or 5yz");
        Self(Reply::fixed(code, Some(EnhancedStatus::new(class, subject, detail)), text))
    }

    /// The refusal in `reply`; `None` when it is none. Without a status it gets `X.0.0`, so that every refusal carries one
    /// (M-143).
    pub fn of(mut reply: Reply) -> Option<Self> {
        let class = match reply.class() {
            ReplyClass::Transient => 4,
            ReplyClass::Permanent => 5,
            ReplyClass::Positive | ReplyClass::Intermediate => return None,
        };
        reply.enhanced = Some(reply.enhanced.unwrap_or(EnhancedStatus::new(class, 0, 0)));
        Some(Self(reply))
    }

    /// The reply.
    pub fn reply(&self) -> &Reply {
        &self.0
    }

    /// Whether it holds for good (5yz).
    pub fn is_permanent(&self) -> bool {
        self.0.class() == ReplyClass::Permanent
    }

    /// Appends the reply line.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m_066_s_027_text_from_outside_cannot_break_a_line() {
        let reply = Reply::new(550, None, b"no\r\n250 ok\0\x1b[1m\xff").expect("a code");
        assert_eq!(reply.text(), "no??250 ok??[1m?");
        let mut out = Vec::new();
        Reply::new(550, Some(EnhancedStatus::new(5, 1, 1)), &[b'x'; 4000]).expect("a code").write(&mut out);
        assert!(out.len() <= 512);
        assert_eq!(out.iter().filter(|&&octet| octet == b'\n').count(), 1);
        assert_eq!(Reply::new(600, None, b""), None);
    }

    #[test]
    fn m_143_a_refusal_always_carries_a_status() {
        let refusal = Refusal::of(Reply::new(451, None, b"later").expect("a code")).expect("4yz");
        assert_eq!(refusal.reply().to_string(), "451 4.0.0 later");
        assert_eq!(Refusal::of(Reply::fixed(250, None, "ok")), None);
    }
}
