//! What a receiver learned about content while it arrived, so that nobody has to scan it again.

/// Offsets of lines with a leading dot that are kept one by one; more only set a flag.
pub const LEADING_DOTS_KEPT: usize = 6;

/// A line is too long for others' DATA beyond this many octets without CRLF (RFC 5321 §4.5.3.1.6).
pub const TEXT_LINE_BYTES_MAX: u32 = 998;

/// Where lines begin with a dot: a dot is inserted there when the content leaves by DATA (RFC 5321 §4.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeadingDots {
    offsets: [u32; LEADING_DOTS_KEPT],
    kept: u8,
    overflow: bool,
}

impl LeadingDots {
    /// From the parts that a record keeps.
    pub fn from_parts(offsets: &[u32], overflow: bool) -> Self {
        let mut dots = Self { overflow, ..Self::default() };
        for &offset in offsets {
            dots.push(u64::from(offset));
        }
        dots
    }

    /// Notes a line that begins with a dot, `offset` octets into the content.
    pub fn push(&mut self, offset: u64) {
        match (u32::try_from(offset), self.offsets.get_mut(usize::from(self.kept))) {
            (Ok(offset), Some(place)) if !self.overflow => {
                *place = offset;
                self.kept = self.kept.saturating_add(1);
            }
            _ => self.overflow = true,
        }
    }

    /// All offsets in ascending order; `None` when there were too many to keep: the content has to be scanned.
    pub fn all(&self) -> Option<&[u32]> {
        if self.overflow { None } else { Some(self.kept()) }
    }

    /// The offsets kept.
    pub fn kept(&self) -> &[u32] {
        self.offsets.get(..usize::from(self.kept)).unwrap_or_default()
    }

    /// Whether there were more than could be kept.
    pub fn overflowed(&self) -> bool {
        self.overflow
    }
}

/// Facts about a message's content as received, dots removed; its trace headers are not part of it. Octets are counted
/// with CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentFacts {
    /// Octets of the content.
    pub bytes: u64,
    /// Octets of the longest line without its CRLF.
    pub longest_line: u32,
    /// An octet beyond 127 is there.
    pub eight_bit: bool,
    /// A NUL is there.
    pub nul: bool,
    /// A CR without LF, or an LF without CR, is there. Only binary content may keep them (M-044, M-126).
    pub bare: bool,
    /// The last two octets are CRLF, or there are none at all.
    pub ends_with_crlf: bool,
    /// Octets of the header section, without the empty line that ends it.
    pub header_bytes: u64,
    /// Fields in the header section.
    pub header_fields: u32,
    /// Fields named Received in the header section (M-080).
    pub received_count: u16,
    /// Lines with a leading dot.
    pub leading_dots: LeadingDots,
    /// Where the value of the first Message-ID stands in the content: offset and octets, of its first line that has any.
    /// 0 octets: none.
    pub message_id: (u32, u16),
}

impl ContentFacts {
    /// Whether it may leave by DATA as it is: text lines of permitted length, no bare CR or LF.
    pub fn is_text(&self) -> bool {
        !self.bare && self.longest_line <= TEXT_LINE_BYTES_MAX
    }
}
