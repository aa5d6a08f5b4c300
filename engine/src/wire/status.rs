//! Enhanced status codes (RFC 3463, RFC 2034).

use std::fmt;

/// `class.subject.detail`: class 2, 4 or 5; subject and detail 0 to 999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedStatus {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedStatus {
    /// A code of ours.
    ///
    /// # Panics
    /// When a part is out of range; in a constant that is a compile error.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        assert!(matches!(class, 2 | 4 | 5) && subject <= 999 && detail <= 999, "RFC 3463 section 2");
        Self { class, subject, detail }
    }

    /// 2, 4 or 5.
    pub fn class(self) -> u8 {
        self.class
    }

    /// 0 to 999.
    pub fn subject(self) -> u16 {
        self.subject
    }

    /// 0 to 999.
    pub fn detail(self) -> u16 {
        self.detail
    }

    /// Reads a code at the start of a reply's text, and the text behind it. `None` when there is none, it is malformed, no
    /// text follows it, or its class is not that of the reply: the basic code decides then (M-145).
    pub fn parse(text: &[u8], reply_code: u16) -> Option<(Self, &[u8])> {
        let end = text.iter().position(|&octet| octet == b' ')?;
        let (token, rest) = text.split_at_checked(end)?;
        let rest = rest.strip_prefix(b" ").filter(|rest| !rest.trim_ascii().is_empty())?;
        let mut parts = token.split(|&octet| octet == b'.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let class = match class {
            b"2" => 2,
            b"4" => 4,
            b"5" => 5,
            _ => return None,
        };
        if u16::from(class) != reply_code / 100 {
            return None;
        }
        let code = Self { class, subject: number(subject)?, detail: number(detail)? };
        Some((code, rest))
    }
}

impl EnhancedStatus {
    /// Reads a code that stands alone, as in a field.
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut parts = text.split(|&octet| octet == b'.');
        let (class, subject, detail) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
        let class = u8::try_from(class).ok().filter(|class| matches!(class, 2 | 4 | 5))?;
        parts.next().is_none().then_some(Self { class, subject, detail })
    }
}

/// One to three digits without leading zeros (M-144).
fn number(digits: &[u8]) -> Option<u16> {
    if digits.len() > 3 || (digits.len() > 1 && digits.first() == Some(&b'0')) || !digits.iter().all(u8::is_ascii_digit)
    {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_stands_alone_is_read_as_it_was_written() {
        for code in [EnhancedStatus::new(5, 1, 1), EnhancedStatus::new(4, 4, 7), EnhancedStatus::new(2, 0, 999)] {
            assert_eq!(EnhancedStatus::read(code.to_string().as_bytes()), Some(code));
        }
        for bad in [&b""[..], b"5.1", b"5.1.1.1", b"3.1.1", b"5.01.1", b"5.1.1 x"] {
            assert_eq!(EnhancedStatus::read(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn m_145_odd_remote_codes_are_ignored() {
        let read = |text: &'static [u8]| EnhancedStatus::parse(text, 550).map(|(code, rest)| (code.to_string(), rest));
        assert_eq!(read(b"5.1.1 no such user"), Some(("5.1.1".into(), &b"no such user"[..])));
        assert_eq!(read(b"5.6.999 x"), Some(("5.6.999".into(), &b"x"[..])));
        for odd in [
            &b""[..],
            b"no",
            b"2.1.1 x",
            b"5.1",
            b"5.1.1.1 x",
            b"5.01.1 x",
            b"5.1.1000 x",
            b"5..1 x",
            b"5.a.1 x",
            b"5.99999999999.1 x",
            b"6.1.1 x",
            b"5.1.1x y",
            b" 5.1.1",
            b"5.1.1",
            b"5.1.1 ",
            b"5.1.1  \t",
        ] {
            assert_eq!(read(odd), None, "{}", String::from_utf8_lossy(odd));
        }
    }
}
