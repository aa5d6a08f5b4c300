//! The id of a message, carried in the local part of its reverse-path, so that its content is untouched
//! (perf/METHODOLOGY.md, "Times of one message").
//!
//! `rl-RUN-SEQ-BYTES-CRC`, all lower-case hexadecimal: the run (8 digits), the message's number in it, the octets of its
//! content, and their CRC-32C (8 digits). The last two let the sink check what arrived (I-4) without having seen what was
//! sent. A content that does not end in CRLF, which DATA has to add, is stamped `rn-` instead.

/// What the reverse-path of a generated message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Which run it belongs to.
    pub run: u32,
    /// Its number in the run.
    pub seq: u64,
    /// Octets of content as it was sent.
    pub bytes: u64,
    /// CRC-32C of those octets.
    pub crc32c: u32,
    /// They end in CRLF.
    pub ends_with_crlf: bool,
}

/// The longest stamp in octets: below the 64 of a local part (RFC 5321 §4.5.3.1.1).
pub const STAMP_BYTES_MAX: usize = 3 + 8 + 1 + 16 + 1 + 16 + 1 + 8;
const _: () = assert!(STAMP_BYTES_MAX <= 64, "a stamp is a local part");

impl Stamp {
    /// Appends the local part to `into`; allocates only if `into` has no room for [`STAMP_BYTES_MAX`] octets.
    pub fn write(&self, into: &mut String) {
        let Self { run, seq, bytes, crc32c, ends_with_crlf } = *self;
        into.push_str(if ends_with_crlf { "rl" } else { "rn" });
        for (value, digits) in [(u64::from(run), 8), (seq, 1), (bytes, 1), (crc32c.into(), 8)] {
            into.push('-');
            push_hex(value, digits, into);
        }
    }

    /// Reads a local part back. `None` for every local part that no stamp writes.
    pub fn parse(local_part: &[u8]) -> Option<Self> {
        if local_part.len() > STAMP_BYTES_MAX {
            return None;
        }
        let (ends_with_crlf, fields) = match local_part.split_at_checked(3)? {
            (b"rl-", fields) => (true, fields),
            (b"rn-", fields) => (false, fields),
            _ => return None,
        };
        let mut fields = fields.split(|&octet| octet == b'-');
        let run = u32::try_from(hex(fields.next()?, 8..=8)?).ok()?;
        let seq = hex(fields.next()?, 1..=16)?;
        let bytes = hex(fields.next()?, 1..=16)?;
        let crc32c = u32::try_from(hex(fields.next()?, 8..=8)?).ok()?;
        fields.next().is_none().then_some(Self { run, seq, bytes, crc32c, ends_with_crlf })
    }
}

/// `value` with at least so many digits. One for each message: the formatting of the library costs as much as all that is
/// parsed of its replies.
fn push_hex(value: u64, digits_min: u32, into: &mut String) {
    let digits = (u64::BITS - value.leading_zeros()).div_ceil(4).max(digits_min);
    for place in (0..digits).rev() {
        into.push(char::from(b"0123456789abcdef"[(value >> (4 * place) & 15) as usize]));
    }
}

fn hex(digits: &[u8], length: std::ops::RangeInclusive<usize>) -> Option<u64> {
    if !length.contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// A short key for a recipient, alike at sender and sink: CRC-32C of `local@domain` in lower case. Inside one message
/// recipients are told apart by it; a workload with two recipients of one key is refused before the run.
pub fn recipient_key(local_part: &[u8], domain: &[u8]) -> u32 {
    let mut address = [0u8; 64 + 1 + 255];
    let parts = [local_part, b"@", domain];
    let mut length = 0;
    for part in parts {
        let room = address.len() - length;
        for (to, from) in address[length..].iter_mut().zip(part) {
            *to = from.to_ascii_lowercase();
        }
        length += part.len().min(room);
    }
    crc32c(&address[..length])
}

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The CRC-32C of `front` and `back` as one, from the CRC of each and the octets in `back`.
pub fn crc32c_join(front: u32, back: u32, back_bytes: u64) -> u32 {
    product(crc32c_factor(back_bytes), front) ^ back
}

/// What so many octets behind a CRC multiply it by.
///
/// A sink joins for every message, and the library's own way costs more than all else that it does with one: 15 us for
/// matrices where this takes a product for each set bit of the length, and nothing when the length is that of before.
pub fn crc32c_factor(bytes: u64) -> u32 {
    let (mut factor, mut left) = (ONE, bytes);
    for power in &X_TO_EIGHT_TIMES {
        if left & 1 == 1 {
            factor = product(*power, factor);
        }
        left >>= 1;
    }
    factor
}

/// The polynomial 1, its least power in the highest bit.
const ONE: u32 = 1 << 31;

/// The polynomial of CRC-32C, its least power in the highest bit as in the CRC itself (RFC 9260, appendix A).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `x^(8 * 2^n)` modulo the polynomial: what `2^n` octets behind a CRC multiply it by.
const X_TO_EIGHT_TIMES: [u32; 64] = {
    let mut powers = [1 << (31 - 8); 64];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = product(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
};

/// `a * b` modulo the polynomial.
const fn product(a: u32, mut b: u32) -> u32 {
    let mut sum = 0;
    let mut bit = 1u32 << 31;
    while bit != 0 {
        if a & bit != 0 {
            sum ^= b;
        }
        b = if b & 1 == 1 { b >> 1 ^ POLYNOMIAL } else { b >> 1 };
        bit >>= 1;
    }
    sum
}

/// The CRC-32C of the last octets of something, from the CRC of the whole, of what stands before them, and their
/// [`crc32c_factor`].
pub fn crc32c_back(whole: u32, front: u32, factor: u32) -> u32 {
    // Joining is linear: whole = shifted(front) ^ back.
    whole ^ product(factor, front)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn local_parts_that_no_stamp_writes_are_not_stamps() {
        for local in [
            "",
            "rl-",
            "rm-00000001-1-1-00000000",
            "bob",
            "rl-0000001-1-1-00000000",
            "rl-00000001-1-1-0000000",
            "rl-00000001--1-00000000",
            "rl-00000001-1-1-00000000-",
            "rl-0000000A-1-1-00000000",
            "RL-00000001-1-1-00000000",
            "rl-00000001-11112222333344445-1-00000000",
            "srs0=x=rl-00000001-1-1-00000000",
        ] {
            assert_eq!(Stamp::parse(local.as_bytes()), None, "{local}");
        }
    }

    #[test]
    fn recipients_compare_without_case_and_any_length() {
        assert_eq!(recipient_key(b"User1", b"DEST.test"), recipient_key(b"user1", b"dest.test"));
        assert_ne!(recipient_key(b"user1", b"dest.test"), recipient_key(b"user2", b"dest.test"));
        let long = [b'x'; 400];
        assert_eq!(recipient_key(&long, &long), recipient_key(&long, &long));
    }

    #[test]
    fn the_known_check_value_of_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn a_stamp_reads_back(run: u32, seq: u64, bytes: u64, crc32c: u32, ends_with_crlf: bool) {
            let stamp = Stamp { run, seq, bytes, crc32c, ends_with_crlf };
            let mut local = String::new();
            stamp.write(&mut local);
            prop_assert!(local.len() <= STAMP_BYTES_MAX);
            prop_assert_eq!(Stamp::parse(local.as_bytes()), Some(stamp));
        }

        #[test]
        fn checksums_of_parts_and_of_the_whole_agree(front: Vec<u8>, back: Vec<u8>) {
            let whole = crc32c(&[&front[..], &back[..]].concat());
            prop_assert_eq!(crc32c_join(crc32c(&front), crc32c(&back), back.len() as u64), whole);
            prop_assert_eq!(crc32c_back(whole, crc32c(&front), crc32c_factor(back.len() as u64)), crc32c(&back));
        }
    }
}
