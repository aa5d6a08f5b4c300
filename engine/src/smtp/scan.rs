//! One pass over content as it arrives: where DATA ends, which dots to drop, and the facts that are kept about it.
//!
//! Cheapest exact form that was found: vector comparisons give the places of LF, CR, NUL and octets above 127 of 64 octets
//! at a time (`sys::classes`), and each LF is looked at with what stands around it. A search for each of the four took three
//! times as long. Nothing is kept of a line but its length, so memory does not grow with it (M-053).
//!
//! The header section ends at the first empty line, or before the first line that is neither a field nor a continuation
//! (no colon, or white space first): the rule of M-204, which `mime::header` shares.

use crate::sys::classes::{BLOCK, Classes, Look, Run, classes};
use crate::wire::ContentFacts;
use memchr::memchr;
use std::ops::ControlFlow;

/// Octets of a field name that are looked at: the longest that matters is `Message-ID`.
const NAME_BYTES: usize = 10;
/// Longest Message-ID that is located, in octets.
const MESSAGE_ID_BYTES_MAX: u16 = 250;

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
    /// The last octet of content was CR.
    after_cr: bool,
    /// That CR was inserted: the LF behind it ends a line of the content, but none of the stream.
    cr_inserted: bool,
    /// The octets before are CRLF as received, or the body begins: a dot here is not content.
    at_stream_line: bool,
    /// A new line of the content begins here.
    at_line: bool,
    /// The line before it, if any, ended in CRLF.
    after_crlf: bool,
    /// Octets of the line so far.
    line_bytes: u64,
    header: Header,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    open: bool,
    /// A NUL stands in it (M-056), and in the current line, whatever that will turn out to be.
    nul: bool,
    line_nul: bool,
    /// Offset of the current line.
    line_at: u64,
    line: Line,
    name: [u8; NAME_BYTES],
    name_bytes: u8,
    message_id: MessageId,
}

/// How far the first Message-ID was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageId {
    NotYet,
    /// Behind its colon, where it may be folded before it begins.
    Awaited,
    /// Its value goes on.
    Open,
    Over,
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
            after_cr: false,
            cr_inserted: false,
            at_stream_line: true,
            at_line: true,
            after_crlf: true,
            line_bytes: 0,
            header: Header {
                open: true,
                nul: false,
                line_nul: false,
                line_at: 0,
                line: Line::Start,
                name: [0; NAME_BYTES],
                name_bytes: 0,
                message_id: MessageId::NotYet,
            },
        }
    }

    /// Facts so far. `bare` leaves a CR at the very end undecided until [`Scan::finish`].
    pub(super) fn facts(&self) -> &ContentFacts {
        &self.facts
    }

    /// Octets that the longest line has at least, the one going on included: a CR at the very end may end it.
    pub(super) fn longest_line(&self) -> u32 {
        self.facts.longest_line.max(clamp(self.line_bytes.saturating_sub(u64::from(self.after_cr))))
    }

    /// Octets that the header section has at least: a line going on counts as soon as it is known to be a field's.
    pub(super) fn header_bytes(&self) -> u64 {
        match (self.header.open, self.header.line) {
            (false, _) => self.facts.header_bytes,
            (true, Line::Value | Line::Continuation) => self.facts.bytes,
            (true, Line::Start | Line::Name | Line::Gap) => self.header.line_at,
        }
    }

    /// Whether the header section holds a NUL.
    pub(super) fn header_nul(&self) -> bool {
        self.header.nul
    }

    /// The body is complete: settles what only its end decides.
    pub(super) fn finish(&mut self) {
        let facts = &mut self.facts;
        facts.bare |= self.after_cr;
        facts.ends_with_crlf = self.at_line && self.after_crlf;
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
        if self.header.open && self.line_bytes == 0 {
            self.header.line_at = self.facts.bytes;
        }
        self.facts.bytes = self.facts.bytes.saturating_add(1);
        self.line_bytes = self.line_bytes.saturating_add(1);
        self.after_cr = true;
        self.cr_inserted = true;
    }

    /// Takes `input` line by line.
    fn lines<const DOTS: bool>(&mut self, input: &[u8], bare: Bare) -> Found {
        let base = self.facts.bytes;
        if self.at_line && input.first() == Some(&b'.') {
            self.facts.leading_dots.push(base);
        }
        let cr_in_front = u64::from(self.after_cr);
        let found = Found { content: input.len(), then: Then::More };
        let mut lines = Lines::<DOTS> { scan: self, input, bare, cr_in_front, start: 0, found };
        classes(input, &mut lines);
        let Lines { start, found, .. } = lines;
        let taken = input.get(..found.content).unwrap_or_default();
        let rest = taken.get(start..).unwrap_or_default();
        self.at_stream_line &= rest.is_empty() && found.then != Then::Dot;
        if self.header.open && !rest.is_empty() {
            self.header_segment(rest, base.saturating_add(start as u64), None);
        }
        self.line_bytes = self.line_bytes.saturating_add(rest.len() as u64);
        self.close_piece(taken);
        found
    }

    /// The line that begins at `start` of `input`, or before it, ends with the LF at `lf`.
    #[inline(always)]
    fn end_line(&mut self, input: &[u8], start: usize, lf: usize, crlf: bool) {
        self.facts.bare |= !crlf;
        let line = self.line_bytes.saturating_add(lf.saturating_sub(start) as u64).saturating_sub(u64::from(crlf));
        self.facts.longest_line = self.facts.longest_line.max(clamp(line));
        if self.header.open {
            let segment = input.get(start..=lf).unwrap_or_default();
            self.header_segment(segment, self.facts.bytes.saturating_add(start as u64), Some(line));
        }
        self.line_bytes = 0;
        self.after_crlf = crlf;
        self.at_stream_line = crlf && !(lf == 0 && self.cr_inserted);
    }

    /// What is learned at the end of a piece.
    fn close_piece(&mut self, taken: &[u8]) {
        let Some(&last) = taken.last() else { return };
        self.facts.bytes = self.facts.bytes.saturating_add(taken.len() as u64);
        self.after_cr = last == b'\r';
        self.cr_inserted = false;
        self.at_line = last == b'\n';
    }

    /// Reads a part of a header line that begins at offset `at`; `ended` holds the whole line's octets without CRLF when
    /// this part ends it.
    fn header_segment(&mut self, segment: &[u8], at: u64, ended: Option<u64>) {
        if self.header.line == Line::Start && !self.begin_header_line(segment, at, ended) {
            return;
        }
        self.header.line_nul = self.header.line_nul || memchr(0, segment).is_some();
        self.field_segment(segment, at);
        if ended.is_some() {
            match self.header.line {
                Line::Name | Line::Gap => self.end_header(),
                _ => {
                    self.header.line = Line::Start;
                    self.header.nul |= self.header.line_nul;
                }
            }
            if self.header.message_id == MessageId::Open {
                self.header.message_id = MessageId::Over;
            }
        }
    }

    /// What kind of line begins with `segment`. False when there is nothing to look for in it.
    fn begin_header_line(&mut self, segment: &[u8], at: u64, ended: Option<u64>) -> bool {
        self.header.line_nul = false;
        if ended == Some(0) {
            if self.line_bytes == 0 {
                self.header.line_at = at;
            }
            self.end_header();
            return false;
        }
        let header = &mut self.header;
        if self.line_bytes > 0 {
            // A lone CR came before: it was no half of a line's end, so it is the first octet of a name.
            self.begin_name();
            self.name_octets(b"\r");
            return true;
        }
        header.line_at = at;
        match segment.first() {
            // A CR in front may be half of an empty line's end: its other half decides.
            Some(b'\r') if segment.len() == 1 => return false,
            Some(b' ' | b'\t') if at == 0 => {
                self.end_header();
                return false;
            }
            Some(b' ' | b'\t') => header.line = Line::Continuation,
            _ => self.begin_name(),
        }
        true
    }

    fn begin_name(&mut self) {
        let header = &mut self.header;
        header.line = Line::Name;
        header.name_bytes = 0;
        if header.message_id == MessageId::Awaited {
            header.message_id = MessageId::Over;
        }
    }

    fn field_segment(&mut self, segment: &[u8], at: u64) {
        if matches!(self.header.line, Line::Continuation | Line::Value) {
            self.message_id_octets(segment, at);
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
        } else if self.header.message_id == MessageId::NotYet && name.eq_ignore_ascii_case(b"message-id") {
            self.header.message_id = MessageId::Awaited;
            let behind = colon.saturating_add(1);
            self.message_id_octets(segment.get(behind..).unwrap_or_default(), at.saturating_add(behind as u64));
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

    /// Follows the value of the first Message-ID, up to the last octet that is not blank.
    fn message_id_octets(&mut self, octets: &[u8], at: u64) {
        let header = &mut self.header;
        if !matches!(header.message_id, MessageId::Awaited | MessageId::Open) {
            return;
        }
        let solid = |octet: &u8| !octet.is_ascii_whitespace();
        let (Some(first), Some(last)) = (octets.iter().position(solid), octets.iter().rposition(solid)) else { return };
        let mut start = u64::from(self.facts.message_id.0);
        if header.message_id == MessageId::Awaited {
            header.message_id = MessageId::Open;
            start = at.saturating_add(first as u64);
        }
        let bytes = at.saturating_add(last as u64).saturating_add(1).saturating_sub(start);
        match (u32::try_from(start), u16::try_from(bytes)) {
            (Ok(start), Ok(bytes)) if bytes <= MESSAGE_ID_BYTES_MAX => self.facts.message_id = (start, bytes),
            _ => {
                self.facts.message_id = (0, 0);
                header.message_id = MessageId::Over;
            }
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
                self.header.nul |= self.header.line_nul;
                self.facts.header_bytes = self.facts.bytes;
            }
        }
    }
}

/// A piece that is being looked at line by line. With `DOTS`, it ends behind a line of the stream that a dot follows.
struct Lines<'a, const DOTS: bool> {
    scan: &'a mut Scan,
    input: &'a [u8],
    bare: Bare,
    /// 1 when the octet in front of the block was CR.
    cr_in_front: u64,
    /// Where the line under way begins.
    start: usize,
    found: Found,
}

impl<const DOTS: bool> Look for Lines<'_, DOTS> {
    /// Behind the header section, and when no line that stands wholly in one block can be the longest.
    #[inline(always)]
    fn even(&self, at: usize) -> Option<(i64, bool)> {
        let known = !self.scan.header.open && self.scan.facts.longest_line >= BLOCK as u32;
        let before = i64::try_from(self.scan.line_bytes).unwrap_or(i64::MAX);
        let line = (self.start as i64).saturating_sub(before);
        (known && !(at == 0 && self.scan.cr_inserted)).then_some((line, self.cr_in_front == 1))
    }

    #[inline(always)]
    fn run(&mut self, run: Run) {
        let scan = &mut *self.scan;
        scan.facts.longest_line = scan.facts.longest_line.max(clamp(run.longest.unsigned_abs()));
        scan.facts.eight_bit |= run.high;
        scan.facts.nul |= run.nul;
        self.cr_in_front = u64::from(run.ends_in_cr);
        if let Ok(line) = usize::try_from(run.line)
            && line > run.from
        {
            scan.line_bytes = 0;
            scan.after_crlf = true;
            scan.at_stream_line = true;
            self.start = line;
        }
    }

    #[inline(always)]
    fn look(&mut self, at: usize, block: Classes) -> ControlFlow<()> {
        let behind_cr = block.cr << 1 | self.cr_in_front;
        self.cr_in_front = block.cr >> 63;
        self.by_line(at, block, behind_cr)
    }
}

impl<const DOTS: bool> Lines<'_, DOTS> {
    /// Looks at every line that ends in the block.
    #[inline(never)]
    fn by_line(&mut self, at: usize, block: Classes, behind_cr: u64) -> ControlFlow<()> {
        let Self { scan, input, .. } = self;
        let mut ends = block.lf;
        while ends != 0 {
            let bit = ends.trailing_zeros();
            ends &= ends.wrapping_sub(1);
            let lf = at.saturating_add(bit as usize);
            let crlf = behind_cr >> bit & 1 == 1;
            if !crlf && self.bare == Bare::Normalize {
                self.found = Found { content: lf, then: Then::BareLf };
                break;
            }
            scan.end_line(input, self.start, lf, crlf);
            self.start = lf.saturating_add(1);
            if input.get(self.start) == Some(&b'.') {
                if DOTS && scan.at_stream_line {
                    let then = dot(input.get(self.start..).unwrap_or_default());
                    self.found = Found { content: self.start, then };
                    break;
                }
                scan.facts.leading_dots.push(scan.facts.bytes.saturating_add(self.start as u64));
            }
        }
        let bytes = u32::try_from(self.found.content.saturating_sub(at)).unwrap_or(u32::MAX);
        let taken = !u64::MAX.checked_shl(bytes).unwrap_or(0);
        scan.facts.eight_bit |= block.high & taken != 0;
        scan.facts.nul |= block.nul & taken != 0;
        scan.facts.bare |= behind_cr & !block.lf & taken != 0;
        if self.found.then == Then::More { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
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

#[cfg(test)]
mod tests;
