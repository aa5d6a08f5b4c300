//! One pass over content as it arrives: where DATA ends, which dots to drop, and the facts that are kept about it.
//!
//! Cheapest exact form that was found: an iterator of LF positions (SIMD in memchr) that looks at the octets around each,
//! one SIMD count of CR, one ASCII check and one search for NUL, all over octets that are in the first cache. A bare CR is
//! then a difference of two counts. Nothing is kept of a line but its length, so memory does not grow with it (M-053).
//!
//! The header section ends at the first empty line, or before the first line that is neither a field nor a continuation
//! (no colon, or white space first): the rule of M-204, which `mime::header` shares.

use crate::wire::ContentFacts;
use memchr::{memchr, memchr_iter};

/// Octets of a field name that are looked at: the longest that matters is `Message-ID`.
const NAME_BYTES: usize = 10;
/// Longest Message-ID that is located, in octets.
const MESSAGE_ID_BYTES_MAX: usize = 250;

/// What follows the octets of content that [`Scan::stuffed`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: all is content.
    More,
    /// A tail that only further octets can decide: `.` or `.CR` at the start of a line.
    Undecided,
    /// One dot that is not content.
    Dot,
    /// `.CRLF`: the end of the data, three octets.
    End,
    /// A bare LF that is to become CRLF: call [`Scan::insert_cr`], then go on with the LF.
    BareLf,
}

/// The first `content` octets are content, `then` follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) content: usize,
    pub(super) then: Then,
}

/// How bare LF are treated while scanning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bare {
    /// Noted in the facts.
    Note,
    /// Reported, so that a CR can be inserted.
    Normalize,
}

/// The state of a scan between two pieces of one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    facts: ContentFacts,
    cr_count: u64,
    crlf_count: u64,
    /// The last octet of content was CR.
    after_cr: bool,
    /// That CR was inserted: the LF behind it ends a line of the content, but none of the stream.
    cr_inserted: bool,
    /// The octets before are CRLF as received, or the body begins: a dot here is not content.
    at_stream_line: bool,
    /// A new line of the content begins here.
    at_line: bool,
    /// Octets of the line so far.
    line_bytes: u64,
    header: Header,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    open: bool,
    /// A NUL stands in it (M-056).
    nul: bool,
    /// Offset of the current line.
    line_at: u64,
    line: Line,
    name: [u8; NAME_BYTES],
    name_bytes: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Start,
    Continuation,
    /// In a field's name.
    Name,
    /// Behind a name, before its colon.
    Gap,
    /// Behind the colon.
    Value,
}

impl Scan {
    pub(super) fn new() -> Self {
        Self {
            facts: ContentFacts { ends_with_crlf: true, ..ContentFacts::default() },
            cr_count: 0,
            crlf_count: 0,
            after_cr: false,
            cr_inserted: false,
            at_stream_line: true,
            at_line: true,
            line_bytes: 0,
            header: Header {
                open: true,
                nul: false,
                line_at: 0,
                line: Line::Start,
                name: [0; NAME_BYTES],
                name_bytes: 0,
            },
        }
    }

    /// Facts so far. `bare` leaves a CR at the very end undecided until [`Scan::finish`].
    pub(super) fn facts(&self) -> &ContentFacts {
        &self.facts
    }

    /// Octets of the longest line so far, the one going on included.
    pub(super) fn longest_line(&self) -> u32 {
        self.facts.longest_line.max(clamp(self.line_bytes))
    }

    /// Whether the header section is still going on.
    pub(super) fn in_header(&self) -> bool {
        self.header.open
    }

    /// Whether the header section holds a NUL.
    pub(super) fn header_nul(&self) -> bool {
        self.header.nul
    }

    /// The body is complete: settles what only its end decides.
    pub(super) fn finish(&mut self) {
        let facts = &mut self.facts;
        facts.bare |= self.after_cr;
        facts.ends_with_crlf = facts.bytes == 0 || (self.at_line && !self.after_cr);
        facts.longest_line = facts.longest_line.max(clamp(self.line_bytes));
        if self.header.open {
            self.end_header_line_at_end();
        }
    }

    /// Octets of a chunk (BDAT): all of them are content.
    pub(super) fn plain(&mut self, piece: &[u8]) {
        let found = self.lines::<false>(piece, Bare::Note);
        debug_assert_eq!(found.content, piece.len());
    }

    /// Octets of DATA, dots still in them.
    pub(super) fn stuffed(&mut self, input: &[u8], bare: Bare) -> Found {
        if self.at_stream_line && input.first() == Some(&b'.') {
            let then = dot(input);
            if then == Then::Dot {
                self.at_stream_line = false;
            }
            return Found { content: 0, then };
        }
        self.lines::<true>(input, bare)
    }

    /// Puts the CR that a bare LF lacks into the content.
    pub(super) fn insert_cr(&mut self) {
        self.facts.bytes = self.facts.bytes.saturating_add(1);
        self.cr_count = self.cr_count.saturating_add(1);
        self.line_bytes = self.line_bytes.saturating_add(1);
        self.after_cr = true;
        self.cr_inserted = true;
    }

    /// Takes `input` line by line. With `DOTS`, stops behind a line of the stream that a dot follows.
    fn lines<const DOTS: bool>(&mut self, input: &[u8], bare: Bare) -> Found {
        let base = self.facts.bytes;
        let mut start = 0;
        let mut content = input.len();
        let mut then = Then::More;
        if self.at_line && input.first() == Some(&b'.') {
            self.facts.leading_dots.push(base);
        }
        for lf in memchr_iter(b'\n', input) {
            let next = lf.saturating_add(1);
            let crlf = if lf == 0 { self.after_cr } else { input.get(lf.wrapping_sub(1)) == Some(&b'\r') };
            if crlf {
                self.crlf_count = self.crlf_count.saturating_add(1);
            } else if bare == Bare::Normalize {
                content = lf;
                then = Then::BareLf;
                break;
            } else {
                self.facts.bare = true;
            }
            let line = self.line_bytes.saturating_add(lf.saturating_sub(start) as u64).saturating_sub(u64::from(crlf));
            self.facts.longest_line = self.facts.longest_line.max(clamp(line));
            if self.header.open {
                let segment = input.get(start..next).unwrap_or_default();
                self.header_segment(segment, base.saturating_add(start as u64), Some(line));
            }
            self.line_bytes = 0;
            self.at_stream_line = crlf && !(lf == 0 && self.cr_inserted);
            start = next;
            if input.get(next) == Some(&b'.') {
                if DOTS && self.at_stream_line {
                    content = next;
                    then = dot(input.get(next..).unwrap_or_default());
                    break;
                }
                self.facts.leading_dots.push(base.saturating_add(next as u64));
            }
        }
        let taken = input.get(..content).unwrap_or_default();
        let rest = taken.get(start..).unwrap_or_default();
        self.at_stream_line &= rest.is_empty() && then != Then::Dot;
        if self.header.open && !rest.is_empty() {
            self.header_segment(rest, base.saturating_add(start as u64), None);
        }
        self.line_bytes = self.line_bytes.saturating_add(rest.len() as u64);
        self.close_piece(taken);
        Found { content, then }
    }

    /// What is learned of a whole piece at once.
    fn close_piece(&mut self, taken: &[u8]) {
        let Some(&last) = taken.last() else { return };
        let facts = &mut self.facts;
        facts.bytes = facts.bytes.saturating_add(taken.len() as u64);
        facts.eight_bit = facts.eight_bit || !taken.is_ascii();
        facts.nul = facts.nul || memchr(0, taken).is_some();
        self.cr_count = self.cr_count.saturating_add(memchr_iter(b'\r', taken).count() as u64);
        self.after_cr = last == b'\r';
        self.cr_inserted = false;
        self.at_line = last == b'\n';
        facts.bare |= self.cr_count > self.crlf_count.saturating_add(u64::from(self.after_cr));
    }

    /// Reads a part of a header line that begins at offset `at`; `ended` holds the whole line's octets without CRLF when
    /// this part ends it.
    fn header_segment(&mut self, segment: &[u8], at: u64, ended: Option<u64>) {
        let header = &mut self.header;
        header.nul = header.nul || memchr(0, segment).is_some();
        if header.line == Line::Start {
            if self.line_bytes == 0 {
                header.line_at = at;
            }
            if ended == Some(0) {
                self.end_header();
                return;
            }
            match segment.first() {
                // A CR in front may be half of an empty line's end: its other half decides.
                Some(b'\r') if segment.len() == 1 => return,
                Some(b' ' | b'\t') if header.line_at == 0 => {
                    self.end_header();
                    return;
                }
                Some(b' ' | b'\t') => header.line = Line::Continuation,
                _ => {
                    header.line = Line::Name;
                    header.name_bytes = 0;
                }
            }
        }
        self.field_segment(segment, at);
        if ended.is_some() {
            match self.header.line {
                Line::Name | Line::Gap => self.end_header(),
                _ => self.header.line = Line::Start,
            }
        }
    }

    fn field_segment(&mut self, segment: &[u8], at: u64) {
        if matches!(self.header.line, Line::Continuation | Line::Value) {
            return;
        }
        let Some(colon) = memchr(b':', segment) else {
            self.name_octets(segment);
            return;
        };
        self.name_octets(segment.get(..colon).unwrap_or_default());
        self.header.line = Line::Value;
        self.facts.header_fields = self.facts.header_fields.saturating_add(1);
        let name = self.header.name.get(..usize::from(self.header.name_bytes)).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"received") {
            self.facts.received_count = self.facts.received_count.saturating_add(1);
        } else if self.facts.message_id.1 == 0 && name.eq_ignore_ascii_case(b"message-id") {
            let behind = colon.saturating_add(1);
            self.locate_message_id(segment.get(behind..).unwrap_or_default(), at.saturating_add(behind as u64));
        }
    }

    /// Collects the name up to the first white space. A name longer than any that matters only has to differ from them.
    fn name_octets(&mut self, octets: &[u8]) {
        let header = &mut self.header;
        for &octet in octets {
            if header.line == Line::Gap {
                return;
            }
            if matches!(octet, b' ' | b'\t') {
                header.line = Line::Gap;
            } else if let Some(place) = header.name.get_mut(usize::from(header.name_bytes)) {
                *place = octet;
                header.name_bytes = header.name_bytes.saturating_add(1);
            } else {
                // Too long: no longer a name of interest.
                if let Some(first) = header.name.first_mut() {
                    *first = 0;
                }
                return;
            }
        }
    }

    fn locate_message_id(&mut self, value: &[u8], at: u64) {
        let blank = |octet: &u8| octet.is_ascii_whitespace();
        let before = value.iter().take_while(|octet| blank(octet)).count();
        let after = value.iter().rev().take_while(|octet| blank(octet)).count();
        let octets = value.len().saturating_sub(before).saturating_sub(after);
        if let (1..=MESSAGE_ID_BYTES_MAX, Ok(offset)) = (octets, u32::try_from(at.saturating_add(before as u64))) {
            self.facts.message_id = (offset, u16::try_from(octets).unwrap_or(0));
        }
    }

    fn end_header(&mut self) {
        self.header.open = false;
        self.facts.header_bytes = self.header.line_at;
    }

    /// The body ended inside the header section: a last line without its end counts as the others do.
    fn end_header_line_at_end(&mut self) {
        match self.header.line {
            Line::Name | Line::Gap => self.end_header(),
            _ => {
                self.header.open = false;
                self.facts.header_bytes = self.facts.bytes;
            }
        }
    }
}

/// What the dot at the start of `input`, itself at the start of a line, is.
fn dot(input: &[u8]) -> Then {
    match (input.get(1), input.get(2)) {
        (Some(b'\r'), Some(b'\n')) => Then::End,
        (None, _) | (Some(b'\r'), None) => Then::Undecided,
        _ => Then::Dot,
    }
}

fn clamp(octets: u64) -> u32 {
    u32::try_from(octets).unwrap_or(u32::MAX)
}
