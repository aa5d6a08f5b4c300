//! Sizes of made contents, and the contents themselves: header section and lines of text, exactly as many octets as asked.

use super::mix;
use crate::units::{UnitError, parse_bytes};
use std::str::FromStr;

/// Which sizes a run sends: one, a range (each equally likely), or a mix with weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    from_bytes: u64,
    to_bytes: u64,
    weight: u64,
}

/// The smallest content that can be made: a line end.
pub const CONTENT_BYTES_MIN: u64 = 2;

/// How many different contents stand for a range of sizes.
const CONTENTS_PER_RANGE: u64 = 64;

/// A size option that a person typed wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizesError {
    /// One of its figures.
    #[error(transparent)]
    Figure(#[from] UnitError),
    /// A range backwards, or below the smallest content.
    #[error("`{0}`: sizes are at least {CONTENT_BYTES_MIN} octets, and a range goes upward, as 1k..100k")]
    Range(String),
    /// A weight that is none.
    #[error("`{0}`: a weight is a whole number above 0, as 4k:70,100k:30")]
    Weight(String),
}

impl FromStr for Sizes {
    type Err = SizesError;

    /// `4k`, `1k..100k`, `4k:70,100k:25,1M:5`.
    fn from_str(text: &str) -> Result<Self, SizesError> {
        let parts = text.split(',').map(parse_part).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { parts })
    }
}

fn parse_part(text: &str) -> Result<Part, SizesError> {
    let (sizes, weight) = match text.split_once(':') {
        Some((sizes, weight)) => {
            let weight = weight.trim().parse().ok().filter(|weight| (1..=1_000_000).contains(weight));
            (sizes, weight.ok_or_else(|| SizesError::Weight(text.to_owned()))?)
        }
        None => (text, 1),
    };
    let (from, to) = sizes.split_once("..").unwrap_or((sizes, sizes));
    let (from_bytes, to_bytes) = (parse_bytes(from)?, parse_bytes(to)?);
    if from_bytes < CONTENT_BYTES_MIN || to_bytes < from_bytes {
        return Err(SizesError::Range(text.to_owned()));
    }
    Ok(Part { from_bytes, to_bytes, weight })
}

impl Sizes {
    /// One size for all, in octets; at least [`CONTENT_BYTES_MIN`].
    pub fn fixed(bytes: u64) -> Self {
        let bytes = bytes.max(CONTENT_BYTES_MIN);
        Self { parts: vec![Part { from_bytes: bytes, to_bytes: bytes, weight: 1 }] }
    }

    /// The contents to make: size in octets and weight of each. A range becomes a set of sizes spread over it.
    pub fn contents(&self) -> Vec<(u64, u64)> {
        let mut contents = Vec::new();
        // A part's weight is shared by its contents: scale so that every share is a whole number.
        for part in &self.parts {
            let width = part.to_bytes - part.from_bytes;
            let count = CONTENTS_PER_RANGE.min(width + 1);
            let share = part.weight * (CONTENTS_PER_RANGE.pow(2) / count).max(1);
            for index in 0..count {
                let offset = if count == 1 { 0 } else { u128::from(width) * u128::from(index) / u128::from(count - 1) };
                contents.push((part.from_bytes + offset as u64, share));
            }
        }
        contents
    }
}

/// A content of exactly `bytes` octets that ends in CRLF: a header section where it fits, then lines of 76 characters.
/// Different for each `number`, the same for each pair of arguments.
pub fn make(bytes: u64, number: u64) -> Vec<u8> {
    let bytes = usize::try_from(bytes.max(CONTENT_BYTES_MIN)).expect("sizes are below 4 GiB");
    let mut content = Vec::with_capacity(bytes);
    let header = format!(
        "From: Ann Example <ann@load.test>\r\nTo: Bob Example <bob@load.test>\r\nSubject: load {number}\r\n\
         Date: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <{number:x}.{bytes:x}@load.test>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    );
    if header.len() == bytes || header.len() + 2 <= bytes {
        content.extend_from_slice(header.as_bytes());
    }
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  ";
    const LINE_CHARACTERS: usize = 76;
    let mut random = mix(number, bytes as u64);
    while content.len() < bytes {
        let left = bytes - content.len();
        // Never leave a single octet for the last line: it could not hold its CRLF.
        let line = match left {
            0..=78 => left - left.min(2),
            79 => LINE_CHARACTERS - 1,
            _ => LINE_CHARACTERS,
        };
        for _ in 0..line {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            content.push(LETTERS[(random >> 58) as usize]);
        }
        content.extend_from_slice(b"\r\n");
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_have_exactly_their_size_and_clean_lines() {
        for bytes in (2..1200).chain([4096, 102_400, 1 << 20]) {
            let content = make(bytes, 5);
            assert_eq!(content.len() as u64, bytes);
            assert!(content.ends_with(b"\r\n"), "{bytes}");
            for line in content.split_inclusive(|&octet| octet == b'\n') {
                assert!(line.ends_with(b"\r\n") && line.len() <= 80, "{bytes}: {line:?}");
            }
        }
        assert_ne!(make(4096, 1), make(4096, 2));
        assert_eq!(make(4096, 1), make(4096, 1));
    }

    #[test]
    fn sizes_are_read_with_their_weights() {
        assert_eq!("4k".parse(), Ok(Sizes::fixed(4096)));
        let mix = "4k:70,100k:30".parse::<Sizes>().expect("a mix").contents();
        assert_eq!(mix.len(), 2);
        assert_eq!(mix[0].1 * 30, mix[1].1 * 70);
        let range = "1k..100k".parse::<Sizes>().expect("a range").contents();
        assert_eq!((range.len(), range[0].0, range[63].0), (64, 1024, 102_400));
        assert_eq!("10..12".parse::<Sizes>().expect("a range").contents().len(), 3);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        for text in ["", "1", "x", "9k..4k", "4k:0", "4k:", "4k:many", "4k,,5k"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}
