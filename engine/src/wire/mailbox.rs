//! Mailboxes and domains (RFC 5321 §4.1.2), parsed once into the one form in which they are kept, compared and sent.
//!
//! Canonical form (M-026): a local-part that needs no quotes has none, otherwise quotes with only `"` and `\` escaped; a
//! domain in lower case; an address literal as its address is usually written. So two spellings of one mailbox are equal
//! octets. Letter case of the local-part is kept (M-007). No form holds CR, LF, NUL or another control (S-026).
//!
//! Bounds: [`PathLimits`]. A path is read in one pass, without allocation beyond the caller's buffer.

use super::cursor::Cursor;
use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest domain in octets (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Longest label of a domain in octets (RFC 1035 §2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// How long paths may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathLimits {
    /// Octets of a local-part as received.
    pub local_bytes: u16,
    /// Octets of a path as received, with `<` and `>`.
    pub path_bytes: u16,
}

impl PathLimits {
    /// RFC 5321 §4.5.3.1.1 and §4.5.3.1.3.
    pub const RFC: PathLimits = PathLimits { local_bytes: 64, path_bytes: 256 };
    /// Addresses of 571 octets, 315 of them before the `@` (docs/PROFILES.md).
    pub const EXCHANGE: PathLimits = PathLimits { local_bytes: 315, path_bytes: 573 };
}

/// Why a path was not accepted. The peer's fault in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not `<path>`, or a malformed or overlong local-part.
    #[error("not a mailbox")]
    Syntax,
    /// The domain or literal is malformed or too long.
    #[error("not a domain")]
    Domain,
    /// An octet beyond ASCII, in an address that would be valid UTF-8.
    #[error("an address beyond ASCII")]
    NotAscii,
}

/// A mailbox in canonical form. The domain is empty for `postmaster` without a domain alone (RFC 5321 §4.5.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxRef<'a> {
    local: &'a [u8],
    domain: &'a [u8],
}

impl<'a> MailboxRef<'a> {
    /// From parts that [`parse_path`] wrote before, here or into a file.
    ///
    /// # Errors
    /// `Syntax` or `Domain` when an octet is there that a canonical form cannot hold: the disk's fault.
    pub(crate) fn from_canonical(local: &'a [u8], domain: &'a [u8]) -> Result<Self, PathError> {
        let printable = |octet: &u8| matches!(octet, 0x20..=0x7e);
        if local.is_empty() || !local.iter().all(printable) {
            return Err(PathError::Syntax);
        }
        if domain.len() > DOMAIN_BYTES_MAX || !domain.iter().all(|octet| matches!(octet, 0x21..=0x7e)) {
            return Err(PathError::Domain);
        }
        Ok(Self { local, domain })
    }

    /// The local-part as it is sent, quotes included where it needs them.
    pub fn local(&self) -> &'a [u8] {
        self.local
    }

    /// The domain in lower case or a literal with its brackets; empty for `postmaster` alone.
    pub fn domain(&self) -> &'a [u8] {
        self.domain
    }

    /// Whether the domain is an address literal.
    pub fn is_literal(&self) -> bool {
        self.domain.first() == Some(&b'[')
    }

    /// Whether the local-part is `postmaster`, in any letter case (RFC 5321 §4.5.1, M-030).
    pub fn is_postmaster(&self) -> bool {
        self.local.eq_ignore_ascii_case(b"postmaster")
    }

    /// Appends `local@domain`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.local);
        if !self.domain.is_empty() {
            out.push(b'@');
            out.extend_from_slice(self.domain);
        }
    }
}

impl fmt::Display for MailboxRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Canonical parts are printable ASCII; the lossy conversion never loses.
        f.write_str(&String::from_utf8_lossy(self.local))?;
        if !self.domain.is_empty() {
            write!(f, "@{}", String::from_utf8_lossy(self.domain))?;
        }
        Ok(())
    }
}

impl fmt::Debug for MailboxRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

/// A mailbox that owns its octets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    octets: Vec<u8>,
    local_bytes: usize,
}

impl Mailbox {
    /// Parses `local@domain`, without angle brackets.
    ///
    /// # Errors
    /// `PathError` when it is not one mailbox and nothing else.
    pub fn parse(text: &[u8]) -> Result<Self, PathError> {
        let mut octets = Vec::with_capacity(text.len());
        let mut cursor = Cursor::new(text);
        let parts = parse_mailbox(&mut cursor, PathLimits::EXCHANGE, &mut octets)?;
        if !cursor.rest().is_empty() {
            return Err(PathError::Syntax);
        }
        Ok(Self { octets, local_bytes: parts.local_bytes })
    }

    /// The mailbox, borrowed.
    pub fn as_ref(&self) -> MailboxRef<'_> {
        let (local, domain) = self.octets.split_at_checked(self.local_bytes).unwrap_or_default();
        MailboxRef { local, domain }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_ref(), f)
    }
}

/// A reverse-path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReversePathRef<'a> {
    /// `<>`: nothing is ever returned to it.
    Null,
    /// A mailbox.
    Mailbox(MailboxRef<'a>),
}

impl ReversePathRef<'_> {
    /// Appends the path with its angle brackets.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'<');
        if let ReversePathRef::Mailbox(mailbox) = self {
            mailbox.write(out);
        }
        out.push(b'>');
    }
}

/// How many octets [`parse_path`] appended for each part; both zero for the null path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PathParts {
    pub(crate) local_bytes: usize,
    pub(crate) domain_bytes: usize,
}

/// Reads `<path>` and appends the canonical local-part and domain to `out`; a source route is read and dropped (M-027).
/// On an error what was appended is to be cut off by the caller.
pub(crate) fn parse_path(
    cursor: &mut Cursor<'_>,
    limits: PathLimits,
    out: &mut Vec<u8>,
) -> Result<PathParts, PathError> {
    let whole = cursor.rest();
    if !cursor.eat(b'<') {
        return Err(PathError::Syntax);
    }
    let parts = if cursor.eat(b'>') {
        PathParts::default()
    } else {
        if cursor.peek() == Some(b'@') {
            skip_source_route(cursor, out)?;
        }
        let parts = parse_mailbox(cursor, limits, out)?;
        if !cursor.eat(b'>') {
            return Err(if cursor.peek().is_some_and(|octet| !octet.is_ascii()) {
                not_ascii(whole)
            } else {
                PathError::Syntax
            });
        }
        parts
    };
    let path_bytes = whole.len().saturating_sub(cursor.rest().len());
    if path_bytes > usize::from(limits.path_bytes) { Err(PathError::Syntax) } else { Ok(parts) }
}

fn skip_source_route(cursor: &mut Cursor<'_>, scratch: &mut Vec<u8>) -> Result<(), PathError> {
    let keep = scratch.len();
    loop {
        if !cursor.eat(b'@') {
            return Err(PathError::Syntax);
        }
        parse_domain(cursor, scratch)?;
        scratch.truncate(keep);
        if cursor.eat(b':') {
            return Ok(());
        }
        if !cursor.eat(b',') {
            return Err(PathError::Syntax);
        }
    }
}

fn parse_mailbox(cursor: &mut Cursor<'_>, limits: PathLimits, out: &mut Vec<u8>) -> Result<PathParts, PathError> {
    let whole = cursor.rest();
    let start = out.len();
    parse_local(cursor, limits, out)?;
    let local_bytes = out.len().saturating_sub(start);
    let after_local = out.len();
    if cursor.eat(b'@') {
        if cursor.eat(b'[') {
            let name = cursor.take_while(|octet| !matches!(octet, b']' | b'>' | b' '));
            if !cursor.eat(b']') {
                return Err(PathError::Domain);
            }
            write_literal(name, out)?;
        } else {
            parse_domain(cursor, out)?;
        }
    } else if cursor.peek().is_some_and(|octet| !octet.is_ascii()) {
        return Err(not_ascii(whole));
    } else if !out.get(start..).is_some_and(|local| local.eq_ignore_ascii_case(b"postmaster")) {
        return Err(PathError::Syntax);
    }
    Ok(PathParts { local_bytes, domain_bytes: out.len().saturating_sub(after_local) })
}

/// A path with an octet beyond ASCII: an internationalized address if it is UTF-8, else merely broken.
fn not_ascii(path: &[u8]) -> PathError {
    if std::str::from_utf8(path).is_ok() { PathError::NotAscii } else { PathError::Syntax }
}

fn parse_local(cursor: &mut Cursor<'_>, limits: PathLimits, out: &mut Vec<u8>) -> Result<(), PathError> {
    let whole = cursor.rest();
    if cursor.peek() == Some(b'"') {
        parse_quoted(cursor, out)?;
    } else {
        let local = cursor.take_while(|octet| is_atext(octet) || octet == b'.');
        if !is_dot_string(local) {
            let beyond = cursor.peek().is_some_and(|octet| !octet.is_ascii());
            return Err(if beyond { not_ascii(whole) } else { PathError::Syntax });
        }
        out.extend_from_slice(local);
    }
    let local_bytes = whole.len().saturating_sub(cursor.rest().len());
    if local_bytes > usize::from(limits.local_bytes) { Err(PathError::Syntax) } else { Ok(()) }
}

/// Unescapes a quoted-string into `out` and quotes it again only if it needs to be.
fn parse_quoted(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), PathError> {
    let whole = cursor.rest();
    cursor.next();
    let start = out.len();
    out.push(b'"');
    loop {
        let octet = cursor.next().ok_or(PathError::Syntax)?;
        let octet = match octet {
            b'"' => break,
            b'\\' => cursor.next().ok_or(PathError::Syntax)?,
            other => other,
        };
        match octet {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
            0x20..=0x7e => out.push(octet),
            0x80.. => return Err(not_ascii(whole)),
            _ => return Err(PathError::Syntax),
        }
    }
    let plain = out.get(start.saturating_add(1)..).is_some_and(is_dot_string);
    if plain {
        out.remove(start);
    } else {
        out.push(b'"');
    }
    Ok(())
}

fn is_dot_string(text: &[u8]) -> bool {
    !text.is_empty()
        && text.split(|&octet| octet == b'.').all(|atom| !atom.is_empty() && atom.iter().all(|&o| is_atext(o)))
}

fn is_atext(octet: u8) -> bool {
    matches!(octet, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'='
        | b'?' | b'^'..=b'`' | b'{'..=b'~')
}

/// Reads a domain name and appends it in lower case.
pub(crate) fn parse_domain(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), PathError> {
    let whole = cursor.rest();
    let name = cursor.take_while(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.'));
    if !is_domain(name) {
        let beyond = cursor.peek().is_some_and(|octet| !octet.is_ascii());
        return Err(if beyond { not_ascii(whole) } else { PathError::Domain });
    }
    if cursor.peek().is_some_and(|octet| !matches!(octet, b'>' | b',' | b':' | b' ' | b'\t')) {
        let beyond = cursor.peek().is_some_and(|octet| !octet.is_ascii());
        return Err(if beyond { not_ascii(whole) } else { PathError::Domain });
    }
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    Ok(())
}

/// Whether `name` is a domain name by RFC 5321 §4.1.2: labels of letters, digits and inner hyphens.
pub fn is_domain(name: &[u8]) -> bool {
    name.len() <= DOMAIN_BYTES_MAX
        && name.split(|&octet| octet == b'.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.first() != Some(&b'-')
                && label.last() != Some(&b'-')
                && label.iter().all(|&octet| octet.is_ascii_alphanumeric() || octet == b'-')
        })
}

/// An address inside brackets: `192.0.2.1` or `IPv6:2001:db8::1`; appended with its brackets as it is usually written.
fn write_literal(inside: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let text = std::str::from_utf8(inside).map_err(|_| PathError::Domain)?;
    // Writing to a Vec cannot fail.
    if let Some((tag, address)) = text.split_once(':').filter(|(tag, _)| tag.eq_ignore_ascii_case("ipv6")) {
        debug_assert_eq!(tag.len(), 4);
        let address: Ipv6Addr = address.parse().map_err(|_| PathError::Domain)?;
        let _ = write!(out, "[IPv6:{address}]");
    } else {
        let address: Ipv4Addr = text.parse().map_err(|_| PathError::Domain)?;
        let _ = write!(out, "[{address}]");
    }
    Ok(())
}

/// Whether `argument` is a domain or an address literal as EHLO takes it, other tagged literals included (M-008).
pub fn is_ehlo_name(argument: &[u8]) -> bool {
    let Some(inside) = argument.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) else {
        return is_domain(argument);
    };
    if argument.len() > DOMAIN_BYTES_MAX {
        return false;
    }
    if write_literal(inside, &mut Vec::new()).is_ok() {
        return true;
    }
    let Some(colon) = inside.iter().position(|&octet| octet == b':') else { return false };
    let (tag, content) = inside.split_at(colon);
    let is_content = |octet: &u8| matches!(octet, 0x21..=0x5a | 0x5e..=0x7e);
    !tag.eq_ignore_ascii_case(b"ipv6")
        && !tag.is_empty()
        && tag.last() != Some(&b'-')
        && tag.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-')
        && content.len() > 1
        && content.iter().all(is_content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<String, PathError> {
        let mut out = Vec::new();
        let mut cursor = Cursor::new(text.as_bytes());
        let parts = parse_path(&mut cursor, PathLimits::RFC, &mut out)?;
        assert_eq!(cursor.rest(), b"", "{text}");
        if parts == PathParts::default() {
            return Ok("<>".into());
        }
        let (local, domain) = out.split_at(parts.local_bytes);
        assert_eq!(domain.len(), parts.domain_bytes);
        Ok(MailboxRef::from_canonical(local, domain).expect("canonical").to_string())
    }

    #[test]
    fn m_026_mailboxes_have_one_form() {
        for (text, canonical) in [
            ("<a@b.test>", "a@b.test"),
            ("<\"a\"@B.Test>", "a@b.test"),
            ("<\"\\a\"@b.test>", "a@b.test"),
            ("<Ann.Lee@b.test>", "Ann.Lee@b.test"),
            ("<\"a b\"@b.test>", "\"a b\"@b.test"),
            ("<\"a\\ b\"@b.test>", "\"a b\"@b.test"),
            ("<\"a\\\"b\"@b.test>", "\"a\\\"b\"@b.test"),
            ("<\"a@b\"@c.test>", "\"a@b\"@c.test"),
            ("<\"a..b\"@c.test>", "\"a..b\"@c.test"),
            ("<\"\"@c.test>", "\"\"@c.test"),
            ("<a!b%c@d.test>", "a!b%c@d.test"),
            ("<|prog@d.test>", "|prog@d.test"),
            ("<../../x@d.test>", ""),
            ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
            ("<a@[ipv6:2001:DB8:0::1]>", "a@[IPv6:2001:db8::1]"),
            ("<PostMaster>", "PostMaster"),
            ("<>", "<>"),
        ] {
            if canonical.is_empty() {
                assert_eq!(path(text), Err(PathError::Syntax), "{text}");
            } else {
                assert_eq!(path(text).as_deref(), Ok(canonical), "{text}");
            }
        }
    }

    #[test]
    fn m_027_a_source_route_is_dropped() {
        assert_eq!(path("<@a.test,@b.test:user@c.test>").as_deref(), Ok("user@c.test"));
        assert_eq!(path("<@a.test:user@c.test>").as_deref(), Ok("user@c.test"));
        assert_eq!(path("<@a.test,user@c.test>"), Err(PathError::Syntax));
        assert_eq!(path("<@a_b:user@c.test>"), Err(PathError::Domain));
    }

    #[test]
    fn f_144_address_tricks_are_refused_by_the_grammar() {
        use PathError::*;
        for (text, error) in [
            ("<;cmd>", Syntax),
            ("<a..b@c.test>", Syntax),
            ("<.a@c.test>", Syntax),
            ("<a.@c.test>", Syntax),
            ("<a b@c.test>", Syntax),
            ("<a@>", Domain),
            ("<a@b..test>", Domain),
            ("<a@b.test.>", Domain),
            ("<a@-b.test>", Domain),
            ("<a@b-.test>", Domain),
            ("<a@b_c.test>", Domain),
            ("<a@[192.0.2.256]>", Domain),
            ("<a@[192.0.2.1>", Domain),
            ("<a@[IPv6:fe80::1%eth0]>", Domain),
            ("<a@[tag:content]>", Domain),
            ("<\"a\r\nRCPT\"@c.test>", Syntax),
            ("<\"a\"@x@y>", Domain),
            ("<\"a@c.test>", Syntax),
            ("<\"a\"b@c.test>", Syntax),
            ("<a", Syntax),
            ("a@b.test", Syntax),
            ("<a@b.test", Syntax),
            ("<nodomain>", Syntax),
            ("<é@b.test>", NotAscii),
            ("<a@é.test>", NotAscii),
            ("<\"é\"@b.test>", NotAscii),
        ] {
            assert_eq!(path(text), Err(error), "{text}");
        }
    }

    #[test]
    fn f_144_lengths_are_held_to_the_octet() {
        let local = |count| format!("<{}@b.test>", "a".repeat(count));
        assert!(path(&local(64)).is_ok());
        assert_eq!(path(&local(65)), Err(PathError::Syntax));
        let label = "b".repeat(63);
        let domain = |last: usize| format!("<a@{label}.{label}.{label}.{}>", "c".repeat(last));
        assert_eq!(domain(60).len(), 256);
        assert!(path(&domain(60)).is_ok());
        assert_eq!(path(&domain(61)), Err(PathError::Syntax));
        assert_eq!(path(&domain(64)), Err(PathError::Domain));
        assert_eq!(path(&format!("<a@{label}b.test>")), Err(PathError::Domain));
        let mut out = Vec::new();
        let long = format!("<{}@b.test>", "a".repeat(315));
        assert!(parse_path(&mut Cursor::new(long.as_bytes()), PathLimits::EXCHANGE, &mut out).is_ok());
    }

    #[test]
    fn m_008_ehlo_takes_domains_and_literals() {
        for name in ["a", "a.test", "[192.0.2.1]", "[IPv6:2001:db8::1]", "[x-tag:content]", "1.2.3.4"] {
            assert!(is_ehlo_name(name.as_bytes()), "{name}");
        }
        for name in ["", "a_b", "a..b", "[192.0.2]", "[IPv6:fe80::1%1]", "[IPv6:zz]", "[tag:]", "[:x]", "a b", "[x"] {
            assert!(!is_ehlo_name(name.as_bytes()), "{name}");
        }
        assert!(is_ehlo_name("a.".repeat(127).trim_end_matches('.').as_bytes()));
        assert!(!is_ehlo_name(format!("{}a", "aa.".repeat(85)).as_bytes()));
    }

    #[test]
    fn mailboxes_can_be_owned() {
        let mailbox = Mailbox::parse(b"\"Ann\"@A.test").expect("a mailbox");
        assert_eq!(mailbox.as_ref().local(), b"Ann");
        assert_eq!(mailbox.as_ref().domain(), b"a.test");
        assert!(Mailbox::parse(b"a@b.test x").is_err());
    }
}
