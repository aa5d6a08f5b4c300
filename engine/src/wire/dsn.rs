//! What a sender says about reports on his message (RFC 3461 §4): RET, ENVID, NOTIFY, ORCPT.

use super::xtext;
use std::ops::BitOr;

/// Longest ENVID, in octets of xtext (RFC 3461 §4.4).
pub const ENVELOPE_ID_BYTES_MAX: usize = 100;
/// Longest ORCPT with its address type, in octets (RFC 3461 §4.2).
pub const ORIGINAL_RECIPIENT_BYTES_MAX: usize = 500;

/// Tags of the fields that keep them in an envelope.
pub(super) const TAG_RET: u8 = 1;
pub(super) const TAG_ENVID: u8 = 2;
pub(super) const TAG_NOTIFY: u8 = 1;
pub(super) const TAG_ORCPT: u8 = 2;

/// How much of the message a report on its failure gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Return {
    /// All of it.
    Full,
    /// Its header section.
    Headers,
}

impl Return {
    /// The value of RET, in any letter case.
    pub fn named(value: &[u8]) -> Option<Self> {
        [Return::Full, Return::Headers].into_iter().find(|ret| value.eq_ignore_ascii_case(ret.name().as_bytes()))
    }

    /// As RET spells it.
    pub fn name(self) -> &'static str {
        match self {
            Return::Full => "FULL",
            Return::Headers => "HDRS",
        }
    }

    pub(super) fn octet(self) -> u8 {
        match self {
            Return::Full => 1,
            Return::Headers => 2,
        }
    }

    pub(super) fn from_octet(octet: u8) -> Option<Self> {
        [Return::Full, Return::Headers].into_iter().find(|ret| ret.octet() == octet)
    }
}

/// What a recipient's sender wants to hear of: any of success, failure, delay, or none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Notify(u8);

impl Notify {
    /// Nothing (`NEVER`).
    pub const NEVER: Self = Self(0);
    /// That it was delivered.
    pub const SUCCESS: Self = Self(1);
    /// That it failed for good.
    pub const FAILURE: Self = Self(2);
    /// That it takes long.
    pub const DELAY: Self = Self(4);

    const NAMES: [(Self, &'static str); 3] =
        [(Self::SUCCESS, "SUCCESS"), (Self::FAILURE, "FAILURE"), (Self::DELAY, "DELAY")];

    /// Whether all of `other` is in it.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The value of NOTIFY, in any letter case; `None` when it is none: `NEVER` beside others, or the same twice.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.eq_ignore_ascii_case(b"NEVER") {
            return Some(Self::NEVER);
        }
        value.split(|&octet| octet == b',').try_fold(Self::NEVER, |all, word| {
            let (one, _) = Self::NAMES.into_iter().find(|(_, name)| word.eq_ignore_ascii_case(name.as_bytes()))?;
            (!all.has(one)).then_some(all | one)
        })
    }

    /// Appends it as NOTIFY spells it.
    pub fn write(self, out: &mut Vec<u8>) {
        let words = Self::NAMES.into_iter().filter(|(one, _)| self.has(*one)).map(|(_, name)| name);
        for (index, word) in words.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(word.as_bytes());
        }
        if self == Self::NEVER {
            out.extend_from_slice(b"NEVER");
        }
    }

    pub(super) fn octet(self) -> u8 {
        self.0
    }

    pub(super) fn from_octet(octet: u8) -> Option<Self> {
        (octet < 8).then_some(Self(octet))
    }
}

impl BitOr for Notify {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Whether this may be the value of ENVID.
pub fn is_envelope_id(value: &[u8]) -> bool {
    (1..=ENVELOPE_ID_BYTES_MAX).contains(&value.len()) && xtext::is(value)
}

/// Whether this may be the value of ORCPT: an address type of any name, a semicolon, xtext (M-147, M-148).
pub fn is_original_recipient(value: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b';', value).filter(|_| value.len() <= ORIGINAL_RECIPIENT_BYTES_MAX) else {
        return false;
    };
    let (kind, rest) = value.split_at(at);
    let is_atom = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(octet);
    !kind.is_empty() && kind.iter().all(is_atom) && rest.get(1..).is_some_and(xtext::is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m_147_notify_is_read_in_any_letter_case_and_written_as_one() {
        for (value, written) in [
            (&b"NEVER"[..], "NEVER"),
            (b"never", "NEVER"),
            (b"success", "SUCCESS"),
            (b"Delay,FAILURE", "FAILURE,DELAY"),
            (b"SUCCESS,FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"),
        ] {
            let notify = Notify::parse(value).expect("sound");
            let mut out = Vec::new();
            notify.write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), written);
            assert_eq!(Notify::from_octet(notify.octet()), Some(notify));
        }
        for bad in [&b""[..], b"NEVER,DELAY", b"DELAY,NEVER", b"DELAY,DELAY", b"DELAY,", b",DELAY", b"ALWAYS"] {
            assert_eq!(Notify::parse(bad), None, "{}", bad.escape_ascii());
        }
        assert_eq!(Notify::from_octet(8), None);
    }

    #[test]
    fn m_148_an_original_recipient_has_a_type_and_xtext_of_any_meaning() {
        for good in [&b"rfc822;Bob+40b.test"[..], b"rfc822;bob@b.test", b"x-400;a/b", b"utf-8;b\\x{FC}b@b.test", b"y;"]
        {
            assert!(is_original_recipient(good), "{}", good.escape_ascii());
        }
        let long = [&b"rfc822;"[..], &[b'a'; 494]].concat();
        for bad in [&b"rfc822"[..], b";bob@b.test", b"a b;c", b"rfc822;a=b", b"rfc822;a+2b", b"rfc822;\xfc", &long] {
            assert!(!is_original_recipient(bad), "{}", bad.escape_ascii());
        }
        assert!(is_original_recipient(&long[..500]));
        assert!(is_envelope_id(b"QQ314159") && is_envelope_id(&[b'a'; 100]));
        for bad in [&b""[..], b"a=b", b"+", &[b'a'; 101], b"a\r\n"] {
            assert!(!is_envelope_id(bad), "{}", bad.escape_ascii());
        }
    }
}
