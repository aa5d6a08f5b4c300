//! Command lines (RFC 5321 §4.1.1): which verb, and what stands behind it. Borrowed from the line, nothing copied.

use crate::wire::cursor::Cursor;

/// A command's verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Greets, with extensions.
    Ehlo,
    /// Greets, without.
    Helo,
    /// Greets in LMTP (RFC 2033).
    Lhlo,
    /// Begins a transaction.
    Mail,
    /// Names a recipient.
    Rcpt,
    /// The content follows, up to the dot.
    Data,
    /// A chunk of content follows (RFC 3030).
    Bdat,
    /// Drops the transaction.
    Rset,
    /// Nothing.
    Noop,
    /// Ends the session.
    Quit,
    /// Asks about a mailbox.
    Vrfy,
    /// Asks for help.
    Help,
    /// Known, and implemented by nobody here: EXPN, TURN, ETRN, SEND, SOML, SAML, and what is not offered.
    Unimplemented,
    /// A request of HTTP: somebody's browser or proxy is being used against us (F-186).
    Foreign,
    /// Anything else.
    Unknown,
}

/// Splits a line without CRLF into verb and argument; blanks around the argument are dropped.
pub(super) fn parse(line: &[u8]) -> (Verb, &[u8]) {
    let mut cursor = Cursor::new(line);
    let word = cursor.take_while(|octet| octet != b' ');
    let argument = cursor.rest().trim_ascii();
    (verb(word), argument)
}

fn verb(word: &[u8]) -> Verb {
    let Ok(word4) = <[u8; 4]>::try_from(word) else { return long_verb(word) };
    // Bit 5 makes a letter small; no octet outside the letters becomes one by it.
    match &word4.map(|octet| octet | 0x20) {
        b"mail" => Verb::Mail,
        b"rcpt" => Verb::Rcpt,
        b"bdat" => Verb::Bdat,
        b"rset" => Verb::Rset,
        b"data" => Verb::Data,
        b"noop" => Verb::Noop,
        b"quit" => Verb::Quit,
        b"ehlo" => Verb::Ehlo,
        b"helo" => Verb::Helo,
        b"lhlo" => Verb::Lhlo,
        b"vrfy" => Verb::Vrfy,
        b"help" => Verb::Help,
        b"expn" | b"turn" | b"etrn" | b"send" | b"soml" | b"saml" | b"auth" => Verb::Unimplemented,
        b"post" | b"head" => Verb::Foreign,
        _ => Verb::Unknown,
    }
}

fn long_verb(word: &[u8]) -> Verb {
    let is = |other: &[u8]| word.eq_ignore_ascii_case(other);
    if is(b"STARTTLS") {
        Verb::Unimplemented
    } else if is(b"GET") || is(b"PUT") || is(b"OPTIONS") || is(b"CONNECT") {
        Verb::Foreign
    } else {
        Verb::Unknown
    }
}

/// A parameter of MAIL or RCPT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    /// Its keyword, as sent.
    pub(super) keyword: &'a [u8],
    /// What follows `=`, never empty; `None` without one.
    pub(super) value: Option<&'a [u8]>,
}

/// A parameter list is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadParameters;

/// The next parameter of `rest`, which begins behind a path or a parameter: `None` at its end.
pub(super) fn next_parameter<'a>(rest: &mut &'a [u8]) -> Result<Option<Parameter<'a>>, BadParameters> {
    let mut cursor = Cursor::new(rest);
    if cursor.rest().is_empty() {
        return Ok(None);
    }
    if !cursor.skip_blanks() {
        return Err(BadParameters);
    }
    if cursor.rest().is_empty() {
        *rest = &[];
        return Ok(None);
    }
    let keyword = cursor.take_while(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    if !keyword.first().is_some_and(u8::is_ascii_alphanumeric) {
        return Err(BadParameters);
    }
    let value = if cursor.eat(b'=') {
        let value = cursor.take_while(|octet| matches!(octet, 0x21..=0x3c | 0x3e..=0x7e));
        if value.is_empty() {
            return Err(BadParameters);
        }
        Some(value)
    } else {
        None
    };
    *rest = cursor.rest();
    Ok(Some(Parameter { keyword, value }))
}

/// A decimal number of 1 to 20 digits; what exceeds 64 bits is the largest (M-104).
pub(super) fn saturating_number(digits: &[u8]) -> Option<u64> {
    if !(1..=20).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0')));
    Some(digits.iter().fold(0, add))
}

/// The argument of BDAT: octets and whether it is the last chunk. Up to 2^63−1 octets (M-121).
pub(super) fn chunk(argument: &[u8]) -> Option<(u64, bool)> {
    let mut cursor = Cursor::new(argument);
    let digits = cursor.take_while(|octet| octet.is_ascii_digit());
    let octets = saturating_number(digits).filter(|&octets| octets <= i64::MAX.unsigned_abs())?;
    if digits.len() > 19 {
        return None;
    }
    if cursor.rest().is_empty() {
        return Some((octets, false));
    }
    (cursor.skip_blanks() && cursor.rest().eq_ignore_ascii_case(b"LAST")).then_some((octets, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m_007_verbs_are_read_in_any_letter_case() {
        for (line, expected) in [
            (&b"MAIL FROM:<>"[..], (Verb::Mail, &b"FROM:<>"[..])),
            (b"mAiL FROM:<>  ", (Verb::Mail, b"FROM:<>")),
            (b"rset", (Verb::Rset, b"")),
            (b"NOOP  x y", (Verb::Noop, b"x y")),
            (b"MAILFROM:<>", (Verb::Unknown, b"")),
            (b"M\x01IL", (Verb::Unknown, b"")),
            (b"starttls", (Verb::Unimplemented, b"")),
            (b"GET / HTTP/1.1", (Verb::Foreign, b"/ HTTP/1.1")),
            (b"", (Verb::Unknown, b"")),
            (b" NOOP", (Verb::Unknown, b"NOOP")),
        ] {
            assert_eq!(parse(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn m_025_parameters_are_split_or_refused() {
        let read = |mut rest: &'static [u8]| {
            let mut all = Vec::new();
            while let Some(parameter) = next_parameter(&mut rest)? {
                all.push((parameter.keyword, parameter.value));
            }
            Ok::<_, BadParameters>(all)
        };
        assert_eq!(read(b""), Ok(vec![]));
        assert_eq!(read(b"  "), Ok(vec![]));
        assert_eq!(read(b" SIZE=1  x-Y"), Ok(vec![(&b"SIZE"[..], Some(&b"1"[..])), (b"x-Y", None)]));
        for bad in [&b"SIZE=1"[..], b" SIZE=", b" =1", b" -a", b" a==b", b" a=b=c", b" a\x01", b" <x>"] {
            assert_eq!(read(bad), Err(BadParameters), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn m_121_chunk_sizes_never_overflow() {
        assert_eq!(chunk(b"0 LAST"), Some((0, true)));
        assert_eq!(chunk(b"9223372036854775807"), Some((i64::MAX.unsigned_abs(), false)));
        assert_eq!(chunk(b"10  last"), Some((10, true)));
        for bad in [
            &b""[..],
            b"LAST",
            b"-1",
            b"+1",
            b"0x10",
            b"10LAST",
            b"10 LAST x",
            b"10 FIRST",
            b"9223372036854775808",
            b"18446744073709551616",
            b"00000000000000000001",
            b"99999999999999999999999999",
        ] {
            assert_eq!(chunk(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(saturating_number(b"99999999999999999999"), Some(u64::MAX));
        assert_eq!(saturating_number(b"100000000000000000000"), None);
    }
}
