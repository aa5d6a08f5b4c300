//! xtext (RFC 3461 §4): printable text with `+HH` for what could be mistaken.

/// Appends `text` as xtext. Octets outside printable ASCII, `+`, `=` and space are written as `+HH`.
pub(crate) fn encode(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &octet in text {
        if matches!(octet, 0x21..=0x7e) && !matches!(octet, b'+' | b'=') {
            out.push(octet);
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'+', digit(octet >> 4), digit(octet & 15)]);
        }
    }
}

/// Appends what `xtext` stands for; false when it is malformed. What was appended is to be dropped then.
pub(crate) fn decode(xtext: &[u8], out: &mut Vec<u8>) -> bool {
    let mut octets = xtext.iter().copied();
    while let Some(octet) = octets.next() {
        match octet {
            b'+' => {
                let (Some(high), Some(low)) = (octets.next().and_then(digit), octets.next().and_then(digit)) else {
                    return false;
                };
                out.push(high << 4 | low);
            }
            b'=' => return false,
            0x21..=0x7e => out.push(octet),
            _ => return false,
        }
    }
    true
}

/// Whether `text` is xtext.
pub(crate) fn is(text: &[u8]) -> bool {
    let mut octets = text.iter().copied();
    while let Some(octet) = octets.next() {
        let good = match octet {
            b'+' => octets.next().and_then(digit).is_some() && octets.next().and_then(digit).is_some(),
            b'=' => false,
            octet => matches!(octet, 0x21..=0x7e),
        };
        if !good {
            return false;
        }
    }
    true
}

/// An upper-case hexadecimal digit: lower case is not xtext (M-148).
fn digit(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet.wrapping_sub(b'0')),
        b'A'..=b'F' => Some(octet.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn m_148_only_the_one_form_is_read() {
        let mut out = Vec::new();
        assert!(decode(b"a+2Bb", &mut out));
        assert_eq!(out, b"a+b");
        for bad in [&b"+"[..], b"+2", b"+2b", b"a=b", b"a b", b"\xff"] {
            assert!(!decode(bad, &mut Vec::new()) && !is(bad));
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let (mut xtext, mut back) = (Vec::new(), Vec::new());
            encode(&text, &mut xtext);
            prop_assert!(decode(&xtext, &mut back) && is(&xtext));
            prop_assert_eq!(back, text);
        }

        #[test]
        fn what_is_xtext_is_decoded_and_nothing_else(text in proptest::collection::vec(any::<u8>(), 0..8)) {
            prop_assert_eq!(decode(&text, &mut Vec::new()), is(&text));
        }
    }
}
