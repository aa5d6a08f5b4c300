//! Reading a header section field by field, by the one rule that all parts share (M-204): it ends at the first empty line,
//! or before the first line that is neither a field nor a continuation. The receiving session counts by the same rule as
//! octets arrive.

use memchr::memchr;
use std::ops::Range;

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name, without white space.
    pub name: &'a [u8],
    /// What follows the colon, folding and blanks included, without the end of its last line.
    pub body: &'a [u8],
    /// Where all of it stands, the end of its last line included.
    pub range: Range<usize>,
}

impl Field<'_> {
    /// Whether the field is called `name`, letter case aside.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The octets of the body without folding and outer blanks, appended to `out`.
    pub fn unfold(&self, out: &mut Vec<u8>) {
        out.extend(self.body.trim_ascii().iter().filter(|octet| !matches!(octet, b'\r' | b'\n')));
    }
}

/// The fields at the start of `content`.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    content: &'a [u8],
    at: usize,
}

/// Iterates over the fields of the header section that `content` begins with.
pub fn fields(content: &[u8]) -> Fields<'_> {
    Fields { content, at: 0 }
}

impl Fields<'_> {
    /// Octets of the section so far: all of it once the iterator has ended.
    pub fn bytes(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.at;
        let rest = self.content.get(start..)?;
        if matches!(rest.first(), None | Some(b' ' | b'\t')) {
            return None;
        }
        let mut end = line_end(rest);
        let line = without_end(rest.get(..end)?);
        let colon = memchr(b':', line)?;
        while matches!(rest.get(end), Some(b' ' | b'\t')) {
            end = end.saturating_add(line_end(rest.get(end..)?));
        }
        let name = line.get(..colon)?;
        let blank = name.iter().position(|octet| matches!(octet, b' ' | b'\t')).unwrap_or(colon);
        self.at = start.saturating_add(end);
        Some(Field {
            name: name.get(..blank)?,
            body: without_end(rest.get(colon.saturating_add(1)..end)?),
            range: start..self.at,
        })
    }
}

/// Octets of the first line with its end.
fn line_end(rest: &[u8]) -> usize {
    memchr(b'\n', rest).map_or(rest.len(), |lf| lf.saturating_add(1))
}

fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn m_079_fields_are_found_with_their_place() {
        let content = b"Return-Path: <x>\r\nSubject : a\r\n b\r\nX:\r\n\r\nReturn-Path: body\r\n";
        let found: Vec<_> = fields(content).collect();
        assert_eq!(found.len(), 3);
        assert!(found[0].is("return-path") && found[1].is("SUBJECT") && found[2].is("x"));
        assert_eq!((found[1].body, found[1].range.clone()), (&b" a\r\n b"[..], 18..35));
        let mut text = Vec::new();
        found[1].unfold(&mut text);
        assert_eq!(text, b"a b");
        assert_eq!(found[2].body, b"");
        let mut all = fields(content);
        all.by_ref().for_each(drop);
        assert_eq!(all.bytes(), 39);
    }

    #[test]
    fn f_132_tricks_at_the_boundary_end_the_section() {
        for (content, bytes) in [
            (&b""[..], 0),
            (b" folded first\r\nTo: x\r\n", 0),
            (b"To: x\r\nno colon\r\nCc: y\r\n", 7),
            (b"To: x\r\n  \r\nCc: y\r\n\r\n", 18),
            (b"From someone\r\nTo: x\r\n", 0),
            (b"To: x", 5),
            (b"\r\nTo: x\r\n", 0),
        ] {
            let mut all = fields(content);
            all.by_ref().for_each(drop);
            assert_eq!(all.bytes(), bytes, "{}", content.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fail(content in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), any::<u8>()], 0..80)) {
            let mut at = 0;
            for field in fields(&content) {
                prop_assert_eq!(field.range.start, at);
                at = field.range.end;
            }
        }
    }
}
