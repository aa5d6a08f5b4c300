//! Replies as they arrive (RFC 5321 §4.2), from servers of any quality.
//!
//! A reply is complete with its last line's end; half a reply is none (F-076). Bounds: a line of 4096 octets, 512 lines,
//! 64 KiB (M-065). A line may end in LF alone when the rest is well formed (F-079). Anything else is a protocol error:
//! there is no telling any more which reply answers what.

use crate::wire::reply::push_clean;
use crate::wire::{EnhancedStatus, Reply};
use memchr::memchr;

/// Longest reply line that is read, in octets with its end.
pub const REPLY_LINE_BYTES_MAX: usize = 4096;
/// Most lines of one reply.
pub const REPLY_LINES_MAX: u32 = 512;
/// Most octets of one reply.
pub const REPLY_BYTES_MAX: usize = 64 << 10;

/// Why what the server sent is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Not three digits of which the first is 2 to 5, or neither space, hyphen nor the end behind them; or a NUL.
    #[error("not a reply")]
    Malformed,
    /// Two codes in one reply.
    #[error("two codes in one reply")]
    MixedCodes,
    /// A line, or all of them, beyond the bound.
    #[error("a reply beyond all bounds")]
    TooLong,
    /// A reply that nothing asked for.
    #[error("a reply to nothing")]
    Unasked,
    /// A reply of a class that the command cannot have, as 250 to DATA.
    #[error("a reply of the wrong class")]
    WrongClass,
}

/// What was made of the octets shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// The reply is not complete.
    More,
    /// It is: `reply()`.
    Complete,
    /// It never will be.
    Bad(ProtocolError),
}

/// Reads one reply after the other into the same memory.
#[derive(Debug)]
pub(super) struct ReplyReader {
    reply: Reply,
    lines: u32,
    bytes: usize,
    /// Lines that ended in LF alone, not yet taken.
    bare_lf: u64,
}

impl ReplyReader {
    pub(super) fn new() -> Self {
        Self { reply: Reply::fixed(220, None, ""), lines: 0, bytes: 0, bare_lf: 0 }
    }

    /// The last complete reply.
    pub(super) fn reply(&self) -> &Reply {
        &self.reply
    }

    pub(super) fn take_bare_lf(&mut self) -> u64 {
        std::mem::take(&mut self.bare_lf)
    }

    /// Takes whole lines of `bytes` up to the end of a reply; `on_line` sees each line's number and text. Returns the octets
    /// taken.
    pub(super) fn read(&mut self, bytes: &[u8], mut on_line: impl FnMut(u32, &[u8])) -> (usize, Read) {
        let mut at = 0usize;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let window = rest.get(..REPLY_LINE_BYTES_MAX).unwrap_or(rest);
            let Some(lf) = memchr(b'\n', window) else {
                let long = rest.len() >= REPLY_LINE_BYTES_MAX;
                return (at, if long { Read::Bad(ProtocolError::TooLong) } else { Read::More });
            };
            let end = lf.saturating_add(1);
            at = at.saturating_add(end);
            self.bytes = self.bytes.saturating_add(end);
            let line = rest.get(..lf).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or_else(|| {
                self.bare_lf = self.bare_lf.saturating_add(1);
                line
            });
            match self.line(line, &mut on_line) {
                Ok(true) => {
                    (self.lines, self.bytes) = (0, 0);
                    return (at, Read::Complete);
                }
                Ok(false) if self.lines >= REPLY_LINES_MAX || self.bytes >= REPLY_BYTES_MAX => {
                    return (at, Read::Bad(ProtocolError::TooLong));
                }
                Ok(false) => {}
                Err(error) => return (at, Read::Bad(error)),
            }
        }
    }

    /// Takes one line; whether it was the last.
    fn line(&mut self, line: &[u8], on_line: &mut impl FnMut(u32, &[u8])) -> Result<bool, ProtocolError> {
        let (code, last, text) = split(line).ok_or(ProtocolError::Malformed)?;
        let status = EnhancedStatus::parse(text, code);
        let clean = status.map_or(text, |(_, text)| text);
        if self.lines == 0 {
            push_clean(self.reply.refill(code, status.map(|(status, _)| status)), clean);
        } else if self.reply.code() != code {
            return Err(ProtocolError::MixedCodes);
        } else {
            let joined = self.reply.text_mut();
            push_clean(joined, b" ");
            push_clean(joined, clean);
        }
        on_line(self.lines, text);
        self.lines = self.lines.saturating_add(1);
        Ok(last)
    }
}

/// Code, whether the line is the last, and text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    let [first @ b'2'..=b'5', second @ b'0'..=b'9', third @ b'0'..=b'9'] = *code else { return None };
    let digit = |octet: u8| u16::from(octet.wrapping_sub(b'0'));
    let code = digit(first).wrapping_mul(100).wrapping_add(digit(second).wrapping_mul(10)).wrapping_add(digit(third));
    if memchr(0, rest).is_some() {
        return None;
    }
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All replies in `bytes`, and how it ended.
    fn read_all(reader: &mut ReplyReader, mut bytes: &[u8]) -> (Vec<String>, Read) {
        let mut all = Vec::new();
        loop {
            let (taken, read) = reader.read(bytes, |_, _| {});
            bytes = &bytes[taken..];
            match read {
                Read::Complete => all.push(reader.reply().to_string()),
                end => return (all, end),
            }
        }
    }

    #[test]
    fn m_065_replies_of_many_lines_are_one() {
        let (all, end) =
            read_all(&mut ReplyReader::new(), b"250-2.1.0 a\r\n250-2.1.0 b\r\n250 2.1.0 c\r\n550\r\n354 \r\n250");
        assert_eq!(all, ["250 2.1.0 a b c", "550 ", "354 "]);
        assert_eq!(end, Read::More);
        assert_eq!(read_all(&mut ReplyReader::new(), b"250-\r\n250\r\n").0, ["250  "]);
    }

    #[test]
    fn f_080_what_is_no_reply_ends_the_reading() {
        for bad in [
            &b"25\r\n"[..],
            b"\r\n",
            b"000 x\r\n",
            b"999 x\r\n",
            b"150 x\r\n",
            b"2x0 x\r\n",
            b"250x\r\n",
            b"250_x\r\n",
            b"\xff\xfe\r\n",
            b"250 a\0b\r\n",
            b" 250 x\r\n",
        ] {
            assert_eq!(
                read_all(&mut ReplyReader::new(), bad),
                (vec![], Read::Bad(ProtocolError::Malformed)),
                "{}",
                bad.escape_ascii()
            );
        }
        let mixed = read_all(&mut ReplyReader::new(), b"250-a\r\n251 b\r\n");
        assert_eq!(mixed, (vec![], Read::Bad(ProtocolError::MixedCodes)));
    }

    #[test]
    fn f_078_replies_have_bounds() {
        let line = |octets: usize| [&b"250 "[..], &vec![b'x'; octets - 6], b"\r\n"].concat();
        assert_eq!(read_all(&mut ReplyReader::new(), &line(4096)).0.len(), 1);
        let bad = Read::Bad(ProtocolError::TooLong);
        assert_eq!(read_all(&mut ReplyReader::new(), &line(4097)).1, bad);
        assert_eq!(read_all(&mut ReplyReader::new(), &[b'2'; 4096]).1, bad);
        assert_eq!(read_all(&mut ReplyReader::new(), &[b'2'; 4095]).1, Read::More);
        let lines = |count: usize| [b"250-\r\n".repeat(count - 1), b"250 \r\n".to_vec()].concat();
        assert_eq!(read_all(&mut ReplyReader::new(), &lines(512)).0.len(), 1);
        assert_eq!(read_all(&mut ReplyReader::new(), &lines(513)).1, bad);
        let fat = [[&b"250-"[..], &[b'x'; 4000], b"\r\n"].concat().repeat(17), b"250 \r\n".to_vec()].concat();
        assert_eq!(read_all(&mut ReplyReader::new(), &fat).1, bad);
    }

    #[test]
    fn f_079_lines_may_end_in_lf_alone_and_are_counted() {
        let mut reader = ReplyReader::new();
        assert_eq!(read_all(&mut reader, b"250-a\n250 b\n").0, ["250 a b"]);
        assert_eq!((reader.take_bare_lf(), reader.take_bare_lf()), (2, 0));
    }

    #[test]
    fn m_067_text_is_clean_and_short() {
        let (all, _) = read_all(&mut ReplyReader::new(), b"550 5.1.1 a\x1b[0m\x07\xc3\xa9\rb\r\n");
        assert_eq!(all, ["550 5.1.1 a?[0m????b"]);
        let long = [b"550-".to_vec(), vec![b'y'; 1000], b"\r\n550 z\r\n".to_vec()].concat();
        assert!(read_all(&mut ReplyReader::new(), &long).0[0].len() <= 500);
    }

    proptest! {
        #[test]
        fn f_077_splits_change_nothing(
            lines in proptest::collection::vec("(250-|550-|421 |250 |354 )[ -~]{0,20}(\r\n|\n)", 0..8),
            cut in 0usize..200,
        ) {
            let whole = lines.concat().into_bytes();
            let expected = read_all(&mut ReplyReader::new(), &whole);
            let mut reader = ReplyReader::new();
            let (mut all, mut end, mut at) = (Vec::new(), Read::More, 0);
            for upto in [cut.min(whole.len()), whole.len()] {
                while at <= upto && end == Read::More {
                    let (taken, read) = reader.read(&whole[at..upto], |_, _| {});
                    at += taken;
                    match read {
                        Read::Complete => all.push(reader.reply().to_string()),
                        Read::More => break,
                        bad => end = bad,
                    }
                }
            }
            prop_assert_eq!((all, end), expected);
        }
    }
}
