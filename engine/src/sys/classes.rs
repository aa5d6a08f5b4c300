//! Which octets of content matter, 64 at a time: one load and a few vector comparisons in place of a search for each.

use std::ops::ControlFlow;

/// Octets that are looked at together.
pub const BLOCK: usize = 64;

/// Classes of up to 64 octets: bit `n` speaks of the `n`th, the lowest bit of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// LF.
    pub lf: u64,
    /// CR.
    pub cr: u64,
    /// NUL.
    pub nul: u64,
    /// A dot.
    pub dot: u64,
    /// Above 127.
    pub high: u64,
}

/// Who looks at classes, block by block. A trait and no closure, so that `#[inline(always)]` can make it part of the loop.
pub trait Look {
    /// The classes of the next block, whose first octet stands at `at`.
    fn look(&mut self, at: usize, classes: Classes) -> ControlFlow<()>;
}

/// Shows `look` the classes of `input` block by block until it breaks. The last block may be short: bits beyond the input
/// are zero.
#[inline]
pub fn classes(input: &[u8], look: &mut impl Look) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bw") {
        // SAFETY: the processor has AVX-512 for octets.
        return unsafe { x86::wide(input, look) };
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { x86::halves(input, look) };
    }
    walk(input, plain, look);
}

/// The blocks of `input`, each classified by `of`.
#[inline(always)]
fn walk(input: &[u8], of: impl Fn(&[u8; BLOCK]) -> Classes, look: &mut impl Look) {
    let mut at = 0;
    let mut last = [b' '; BLOCK];
    while let rest @ [_, ..] = &input[at..] {
        let block = rest.first_chunk().unwrap_or_else(|| {
            last[..rest.len()].copy_from_slice(rest);
            &last
        });
        if look.look(at, of(block)).is_break() || rest.len() <= BLOCK {
            return;
        }
        at += BLOCK;
    }
}

/// Classes without instructions of a particular processor.
fn plain(block: &[u8; BLOCK]) -> Classes {
    let bits = |is: fn(u8) -> bool| block.iter().rev().fold(0, |bits, &octet| bits << 1 | u64::from(is(octet)));
    Classes {
        lf: bits(|octet| octet == b'\n'),
        cr: bits(|octet| octet == b'\r'),
        nul: bits(|octet| octet == 0),
        dot: bits(|octet| octet == b'.'),
        high: bits(|octet| octet > 127),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, Classes, Look, walk};
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_setzero_si256,
        _mm512_cmpeq_epi8_mask, _mm512_loadu_epi8, _mm512_movepi8_mask, _mm512_set1_epi8, _mm512_setzero_si512,
    };

    /// A block in one register: comparisons give their bits at once.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn wide(input: &[u8], look: &mut impl Look) {
        walk(
            input,
            |block| {
                // SAFETY: 64 octets stand there; the load needs no alignment.
                let octets = unsafe { _mm512_loadu_epi8(block.as_ptr().cast::<i8>()) };
                Classes {
                    lf: _mm512_cmpeq_epi8_mask(octets, _mm512_set1_epi8(b'\n' as i8)),
                    cr: _mm512_cmpeq_epi8_mask(octets, _mm512_set1_epi8(b'\r' as i8)),
                    nul: _mm512_cmpeq_epi8_mask(octets, _mm512_setzero_si512()),
                    dot: _mm512_cmpeq_epi8_mask(octets, _mm512_set1_epi8(b'.' as i8)),
                    high: _mm512_movepi8_mask(octets),
                }
            },
            look,
        );
    }

    /// A block in two registers.
    #[target_feature(enable = "avx2")]
    pub(super) fn halves(input: &[u8], look: &mut impl Look) {
        walk(
            input,
            |block| {
                let half = |at: usize| {
                    // SAFETY: 32 octets stand at 0 and at 32 of the 64; the load needs no alignment.
                    unsafe { _mm256_loadu_si256(block.as_ptr().add(at).cast::<__m256i>()) }
                };
                let (low, high) = (half(0), half(BLOCK / 2));
                let bits = |low, high| {
                    let mask = |half| u64::from(_mm256_movemask_epi8(half) as u32);
                    mask(low) | mask(high) << 32
                };
                let equal = |octet| bits(_mm256_cmpeq_epi8(low, octet), _mm256_cmpeq_epi8(high, octet));
                Classes {
                    lf: equal(_mm256_set1_epi8(b'\n' as i8)),
                    cr: equal(_mm256_set1_epi8(b'\r' as i8)),
                    nul: equal(_mm256_setzero_si256()),
                    dot: equal(_mm256_set1_epi8(b'.' as i8)),
                    high: bits(low, high),
                }
            },
            look,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Notes what it sees, and breaks after `most` blocks.
    struct Seen {
        blocks: Vec<(usize, Classes)>,
        most: usize,
    }

    impl Look for Seen {
        fn look(&mut self, at: usize, classes: Classes) -> ControlFlow<()> {
            self.blocks.push((at, classes));
            if self.blocks.len() == self.most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    fn seen(most: usize, by: impl Fn(&mut Seen)) -> Vec<(usize, Classes)> {
        let mut seen = Seen { blocks: Vec::new(), most };
        by(&mut seen);
        seen.blocks
    }

    proptest! {
        #[test]
        fn every_octet_has_its_bits(
            input in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'.'), Just(0), any::<u8>()], 0..300),
        ) {
            let expected = seen(usize::MAX, |seen| walk(&input, plain, seen));
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                let halves = seen(usize::MAX, |seen| unsafe { x86::halves(&input, seen) });
                prop_assert_eq!(&halves, &expected);
            }
            let seen = seen(usize::MAX, |seen| classes(&input, seen));
            prop_assert_eq!(&seen, &expected);
            prop_assert_eq!(seen.len(), input.len().div_ceil(BLOCK));
            for (at, octet) in input.iter().enumerate() {
                let (from, of) = seen[at / BLOCK];
                let bit = |bits: u64| bits >> (at - from) & 1 == 1;
                prop_assert_eq!(bit(of.lf), *octet == b'\n');
                prop_assert_eq!(bit(of.cr), *octet == b'\r');
                prop_assert_eq!(bit(of.nul), *octet == 0);
                prop_assert_eq!(bit(of.dot), *octet == b'.');
                prop_assert_eq!(bit(of.high), *octet > 127);
            }
        }
    }

    #[test]
    fn it_ends_where_it_is_told() {
        assert_eq!(seen(3, |seen| classes(&[b'x'; 1000], seen)).len(), 3);
        assert_eq!(seen(3, |seen| classes(b"", seen)).len(), 0);
    }
}
