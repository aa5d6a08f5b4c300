//! Contents in the form they are sent in, prepared once: sending one is handing out slices.

use super::corpus::RawMessage;
use super::mix;
use super::size::{Sizes, make};
use crate::stamp::crc32c;
use engine::smtp::stuff::Stuffer;
use engine::sys::slice::{Budget, Pool, Slice};
use engine::wire::ContentFacts;
use std::sync::Arc;

/// What a content is made of, before it is put into a shard's memory.
#[derive(Debug, Clone)]
pub struct Source {
    /// The octets of each content: header section and body, not dot-stuffed.
    contents: Arc<Vec<Vec<u8>>>,
    /// Weights up to and with each; the last is the sum.
    weights_up_to: Arc<Vec<u64>>,
    seed: u64,
}

impl Source {
    /// Contents of these sizes.
    pub fn made(sizes: &Sizes, seed: u64) -> Self {
        let sized = sizes.contents();
        let contents = sized.iter().enumerate().map(|(number, (bytes, _))| make(*bytes, number as u64)).collect();
        Self::weighted(contents, sized.iter().map(|(_, weight)| *weight), seed)
    }

    /// Real mail, each message as often as every other.
    pub fn corpus(messages: Vec<RawMessage>, seed: u64) -> Self {
        let weights = vec![1; messages.len()];
        Self::weighted(messages.into_iter().map(|message| message.bytes).collect(), weights.into_iter(), seed)
    }

    fn weighted(contents: Vec<Vec<u8>>, weights: impl Iterator<Item = u64>, seed: u64) -> Self {
        let weights_up_to = weights.scan(0, |sum: &mut u64, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { contents: Arc::new(contents), weights_up_to: Arc::new(weights_up_to.collect()), seed }
    }

    /// How many different contents there are.
    pub fn count(&self) -> usize {
        self.contents.len()
    }

    /// Octets of the smallest and of the largest.
    pub fn bytes_range(&self) -> (u64, u64) {
        let lengths = || self.contents.iter().map(|content| content.len() as u64);
        (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0))
    }

    /// Which content message `seq` has.
    pub fn pick(&self, seq: u64) -> u32 {
        if self.contents.len() < 2 {
            return 0;
        }
        let all = self.weights_up_to.last().copied().unwrap_or(1);
        let at = mix(self.seed, seq) % all;
        self.weights_up_to.partition_point(|&weight| weight <= at) as u32
    }

    /// Puts all contents into memory of the caller's own, so that shards share no reference counts.
    pub fn prepare(&self) -> Vec<Content> {
        let bytes: usize = self.contents.iter().map(Vec::len).sum();
        // Both forms, in chunks that may be twice as large as what they hold; never a limit in practice.
        let pool = Pool::new(Budget::new(bytes.saturating_mul(8).max(64 << 20)));
        self.contents.iter().map(|content| Content::new(content, &pool)).collect()
    }
}

/// One content, ready to leave.
#[derive(Debug)]
pub struct Content {
    /// As it is, for BDAT.
    pub plain: Vec<Slice>,
    /// Dots stuffed, the end of data behind it, for DATA.
    pub data: Vec<Slice>,
    /// Octets of `plain`.
    pub bytes: u64,
    /// Their CRC-32C.
    pub crc32c: u32,
    /// What is known of them.
    pub facts: ContentFacts,
}

impl Content {
    fn new(octets: &[u8], pool: &Pool) -> Self {
        let mut stuffed = Vec::with_capacity(octets.len() + octets.len() / 16 + 5);
        let (mut stuffer, mut at) = (Stuffer::new(), 0);
        for dot in stuffer.dots(octets) {
            stuffed.extend_from_slice(&octets[at..dot]);
            stuffed.push(b'.');
            at = dot;
        }
        stuffed.extend_from_slice(&octets[at..]);
        stuffed.extend_from_slice(stuffer.end());
        Self {
            plain: slices(octets, pool),
            data: slices(&stuffed, pool),
            bytes: octets.len() as u64,
            crc32c: crc32c(octets),
            facts: engine::smtp::content_facts(octets),
        }
    }
}

fn slices(mut octets: &[u8], pool: &Pool) -> Vec<Slice> {
    let mut slices = Vec::new();
    while !octets.is_empty() {
        let mut fill = pool.fill(octets.len()).expect("the pool is larger than its contents");
        let put = fill.put(octets);
        slices.push(fill.take());
        octets = &octets[put..];
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(slices: &[Slice]) -> Vec<u8> {
        slices.iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    fn raw(bytes: &[u8]) -> RawMessage {
        RawMessage { name: "x".into(), bytes: bytes.to_vec() }
    }

    #[test]
    fn both_forms_hold_the_same_content() {
        let contents = Source::corpus(vec![raw(b".a\r\n..b\r\nc"), raw(b"x\r\n")], 0).prepare();
        assert_eq!(joined(&contents[0].plain), b".a\r\n..b\r\nc");
        assert_eq!(joined(&contents[0].data), b"..a\r\n...b\r\nc\r\n.\r\n");
        assert_eq!(joined(&contents[1].data), b"x\r\n.\r\n");
        assert!(!contents[0].facts.ends_with_crlf && contents[1].facts.ends_with_crlf);
    }

    #[test]
    fn a_content_larger_than_a_chunk_is_a_list() {
        let contents = Source::made(&Sizes::fixed(3 << 20), 0).prepare();
        assert!(contents[0].plain.len() >= 3);
        assert_eq!(crc32c(&joined(&contents[0].plain)), contents[0].crc32c);
    }

    #[test]
    fn contents_are_chosen_by_weight_and_by_number_alone() {
        let source = Source::made(&"4k:3,100k:1".parse().expect("sizes"), 9);
        let small = (0..10_000).filter(|&seq| source.pick(seq) == 0).count();
        assert!((7_200..7_800).contains(&small), "{small}");
        assert_eq!(source.pick(77), source.pick(77));
        assert_eq!(source.bytes_range(), (4096, 102_400));
    }
}
