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

/// Whole blocks of even text, taken together: CR and LF come as pairs, and no dot follows an LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it begins, and the place behind it.
    pub from: usize,
    /// See `from`.
    pub to: usize,
    /// Where the line begins that goes on behind it; before `from` if no line ends in it.
    pub line: i64,
    /// Octets that the longest line has at least, its CRLF left out, as far as it stands in the run or ends there.
    pub longest: i64,
    /// The last octet is a CR.
    pub ends_in_cr: bool,
    /// A NUL stands in it.
    pub nul: bool,
    /// An octet above 127 stands in it.
    pub high: bool,
}

/// Who looks at classes, block by block. A trait and no closure, so that `#[inline(always)]` can make it part of the loop.
pub trait Look {
    /// Where the line under way begins, negative when before the input, and whether the octet before `at` is a CR. `Some`
    /// asks for blocks of even text to be told as one run.
    fn even(&self, at: usize) -> Option<(i64, bool)>;

    /// A run of at least one block, which stands where the next block was due.
    fn run(&mut self, run: Run);

    /// The classes of the next block, whose first octet stands at `at`.
    fn look(&mut self, at: usize, classes: Classes) -> ControlFlow<()>;
}

/// Shows `look` the classes of `input` block by block, or run by run, until it breaks. The last block may be short: bits
/// beyond the input are zero.
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
    loop {
        if let Some((line, after_cr)) = look.even(at) {
            let run = even_text(input, at, line, after_cr, &of);
            if run.to > at {
                at = run.to;
                look.run(run);
            }
        }
        let rest = &input[at..];
        let block = rest.first_chunk().unwrap_or_else(|| {
            last[..rest.len()].copy_from_slice(rest);
            &last
        });
        if rest.is_empty() || look.look(at, of(block)).is_break() || rest.len() <= BLOCK {
            return;
        }
        at += BLOCK;
    }
}

/// The run of even text that begins at `from`. No branch depends on where lines end.
#[inline(always)]
fn even_text(input: &[u8], from: usize, line: i64, after_cr: bool, of: &impl Fn(&[u8; BLOCK]) -> Classes) -> Run {
    let (mut at, mut line, mut behind_cr) = (from as i64, line, u64::from(after_cr));
    let (mut end, mut nul, mut high) = (0, 0, 0);
    let (blocks, tail) = input[from..].as_chunks::<BLOCK>();
    let mut blocks = blocks.iter();
    let mut ahead = blocks.next().map(of);
    while let Some(Classes { lf, cr, dot, nul: some_nul, high: some_high }) = ahead {
        ahead = blocks.next().map(of);
        let dot_next = ahead.map_or(u64::from(tail.first() == Some(&b'.')), |next| next.dot);
        if lf ^ (cr << 1 | behind_cr) | dot & lf << 1 | lf >> 63 & dot_next != 0 {
            break;
        }
        // A line that goes on behind the block ends behind it at the earliest. Nothing here comes near 2^63.
        end = end.max(at.wrapping_add(i64::from(lf.trailing_zeros())).wrapping_sub(line));
        at = at.wrapping_add(BLOCK as i64);
        line = if lf == 0 { line } else { at.wrapping_sub(i64::from(lf.leading_zeros())) };
        behind_cr = cr >> 63;
        nul |= some_nul;
        high |= some_high;
    }
    let ends_in_cr = behind_cr == 1;
    Run { from, to: at as usize, line, longest: end - 1, ends_in_cr, nul: nul != 0, high: high != 0 }
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
        runs: Vec<Run>,
        most: usize,
        /// Where the line under way begins; asks for runs.
        line: Option<i64>,
        after_cr: bool,
    }

    impl Look for Seen {
        fn even(&self, _: usize) -> Option<(i64, bool)> {
            self.line.map(|line| (line, self.after_cr))
        }

        fn run(&mut self, run: Run) {
            self.line = Some(run.line);
            self.after_cr = run.ends_in_cr;
            self.runs.push(run);
        }

        fn look(&mut self, at: usize, classes: Classes) -> ControlFlow<()> {
            self.blocks.push((at, classes));
            self.after_cr = classes.cr >> 63 == 1;
            if let Some(line) = &mut self.line
                && classes.lf != 0
            {
                *line = (at + BLOCK) as i64 - i64::from(classes.lf.leading_zeros());
            }
            if self.blocks.len() == self.most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    fn seen(most: usize, line: Option<i64>, by: impl Fn(&mut Seen)) -> Seen {
        let mut seen = Seen { blocks: Vec::new(), runs: Vec::new(), most, line, after_cr: false };
        by(&mut seen);
        seen
    }

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let odd = prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'.'), Just(0), any::<u8>()];
        prop::collection::vec(odd, 0..300)
    }

    /// Lines of text, seldom with something odd between them.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            20 => "[a-z.]{0,90}\r\n".prop_map(String::into_bytes),
            4 => "[a-z\u{e9}\u{0}]{0,40}".prop_map(String::into_bytes),
            1 => octets(),
        ];
        prop::collection::vec(line, 0..40).prop_map(|lines| lines.concat())
    }

    proptest! {
        #[test]
        fn every_octet_has_its_bits(input in octets()) {
            let expected = seen(usize::MAX, None, |seen| walk(&input, plain, seen)).blocks;
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                let halves = seen(usize::MAX, None, |seen| unsafe { x86::halves(&input, seen) }).blocks;
                prop_assert_eq!(&halves, &expected);
            }
            let seen = seen(usize::MAX, None, |seen| classes(&input, seen)).blocks;
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

        #[test]
        fn runs_take_the_place_of_even_blocks_and_say_what_stands_in_them(input in text(), before in 0..100i64) {
            let by_block = seen(usize::MAX, None, |seen| classes(&input, seen)).blocks;
            let seen = seen(usize::MAX, Some(-before), |seen| classes(&input, seen));
            let mut covered: Vec<usize> = seen.blocks.iter().map(|block| block.0).collect();
            covered.extend(seen.runs.iter().flat_map(|run| (run.from..run.to).step_by(BLOCK)));
            covered.sort_unstable();
            prop_assert_eq!(covered, by_block.iter().map(|block| block.0).collect::<Vec<_>>());
            prop_assert!(seen.blocks.iter().all(|block| by_block.contains(block)));
            for run in &seen.runs {
                let text = &input[run.from..run.to];
                let line_of = |at: usize| match input[..at].iter().rposition(|&octet| octet == b'\n') {
                    Some(lf) => lf as i64 + 1,
                    None => -before,
                };
                prop_assert_eq!(run.line, line_of(run.to));
                prop_assert_eq!(run.nul, text.contains(&0));
                prop_assert_eq!(run.high, !text.is_ascii());
                prop_assert_eq!(run.ends_in_cr, text.ends_with(b"\r"));
                let lines = (run.from..run.to).filter(|&at| input[at] == b'\n');
                let longest = lines.clone().map(|lf| lf as i64 - 1 - line_of(lf)).max().unwrap_or(0);
                let open = run.to as i64 - 1 - run.line;
                prop_assert!((longest..=longest.max(open)).contains(&run.longest.max(0)) || run.longest < BLOCK as i64);
                prop_assert!(run.longest >= open || open < BLOCK as i64);
                for at in lines {
                    prop_assert!(at == 0 || input[at - 1] == b'\r');
                    prop_assert!(input.get(at + 1) != Some(&b'.'));
                }
                for at in (run.from..run.to).filter(|&at| input[at] == b'\r') {
                    prop_assert!(at + 1 == run.to || input[at + 1] == b'\n');
                }
            }
        }
    }

    #[test]
    fn it_ends_where_it_is_told() {
        assert_eq!(seen(3, None, |seen| classes(&[b'x'; 1000], seen)).blocks.len(), 3);
        assert_eq!(seen(3, None, |seen| classes(b"", seen)).blocks.len(), 0);
        let even = seen(3, Some(0), |seen| classes(&[b'x'; 1000], seen));
        assert_eq!((even.runs.len(), even.runs[0].to, even.blocks.len()), (1, 960, 1));
    }
}
