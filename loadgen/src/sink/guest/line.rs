//! What a fault's selectors look at in a command line. What it means is the session's business.

use crate::sink::fault::Where;

/// Which place a command line is. Only its first word is looked at: what it means is the session's business.
pub(super) fn place_of(line: &[u8]) -> Where {
    let word = line.split(|octet| octet.is_ascii_whitespace() || *octet == b':').next().unwrap_or_default();
    let is = |verb: &str| word.eq_ignore_ascii_case(verb.as_bytes());
    let verbs = [
        ("EHLO", Where::Ehlo),
        ("HELO", Where::Ehlo),
        ("LHLO", Where::Ehlo),
        ("MAIL", Where::Mail),
        ("RCPT", Where::Rcpt),
        ("DATA", Where::Data),
        ("BDAT", Where::Bdat),
        ("RSET", Where::Rset),
        ("NOOP", Where::Noop),
        ("QUIT", Where::Quit),
        ("STARTTLS", Where::Starttls),
        ("AUTH", Where::Auth),
    ];
    verbs.iter().find(|(verb, _)| is(verb)).map_or(Where::Any, |(_, place)| *place)
}

/// What stands between the angle brackets of a command line.
pub(super) fn path_of(line: &[u8]) -> &[u8] {
    let Some(from) = memchr::memchr(b'<', line) else { return b"" };
    let rest = &line[from + 1..];
    &rest[..memchr::memrchr(b'>', rest).unwrap_or(0)]
}

/// The value of `SIZE=` in a MAIL line; 0 without one.
pub(super) fn declared_bytes(line: &[u8]) -> u64 {
    let words = line.split(|octet| octet.is_ascii_whitespace());
    let size = words.filter_map(|word| word.split_at_checked(5)).find(|(name, _)| name.eq_ignore_ascii_case(b"SIZE="));
    size.and_then(|(_, digits)| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}
