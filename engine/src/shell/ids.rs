//! Our names for messages, as replies, trace fields and logs show them.
//!
//! A plain count would tell everybody how much mail passes (S-037). So what is shown is the count, which begins with the
//! time of the start, under a cipher whose key each shard draws when it starts: within a run of a shard no name comes
//! twice, and those of two runs or shards are the same once in 2^64 pairs.

use crate::io::driver::Driver;
use std::cell::Cell;

/// Rounds of Speck64/128 (Beaulieu et al., "The SIMON and SPECK Families of Lightweight Block Ciphers", table 4.1).
const ROUNDS: usize = 27;

/// Gives names.
#[derive(Debug)]
pub struct MessageIds {
    cipher: Cipher,
    next: Cell<u64>,
}

impl MessageIds {
    /// With a key of its own.
    pub fn new<D: Driver>(driver: &D) -> Self {
        let mut key = [0; 16];
        driver.random(&mut key);
        Self { cipher: Cipher::new(key), next: Cell::new(u64::try_from(driver.wall().0).unwrap_or(0)) }
    }

    /// The next message's name.
    pub fn next(&self) -> u64 {
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        self.cipher.of(count)
    }
}

/// Speck64/128: a permutation of the 64-bit numbers that nobody can undo or go on with who has not the key. No secret but
/// a count hangs on it, and it takes 20 ns where the library's hash takes more and is no permutation.
struct Cipher([u32; ROUNDS]);

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    fn new(key: [u8; 16]) -> Self {
        let words: [u32; 4] =
            std::array::from_fn(|word| u32::from_le_bytes(std::array::from_fn(|octet| key[word * 4 + octet])));
        let mut round_key = words[0];
        let mut rest = [words[1], words[2], words[3]];
        Self(std::array::from_fn(|round| {
            let this = round_key;
            (rest[round % 3], round_key) = mix(rest[round % 3], round_key, u32::try_from(round).expect("27 rounds"));
            this
        }))
    }

    fn of(&self, number: u64) -> u64 {
        let (high, low) = ((number >> 32) as u32, number as u32);
        let (high, low) = self.0.iter().fold((high, low), |(high, low), &key| mix(high, low, key));
        u64::from(high) << 32 | u64::from(low)
    }
}

/// One round.
fn mix(high: u32, low: u32, key: u32) -> (u32, u32) {
    let high = high.rotate_right(8).wrapping_add(low) ^ key;
    (high, low.rotate_left(3) ^ high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cipher_is_speck() {
        // The test vector of the paper, appendix C.
        let key: [u8; 16] = std::array::from_fn(|octet| (octet % 4 + octet / 4 * 8) as u8);
        assert_eq!(Cipher::new(key).of(0x3b72_6574_7475_432d), 0x8c6f_a548_454e_028b);
    }

    fn ids(key: u8) -> MessageIds {
        MessageIds { cipher: Cipher::new([key; 16]), next: Cell::new(1_700_000_000_000_000) }
    }

    #[test]
    fn s_037_names_of_messages_do_not_tell_how_many_there_were() {
        let few = ids(7);
        let names: Vec<u64> = (0..10_000).map(|_| few.next()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len(), "each is one message's");
        // Neighbours are as far from each other as random numbers are: half of all differences are above 2^62.
        let far = names.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) > 1 << 62).count();
        assert!((5_000..6_200).contains(&far), "{far}");
        let rising = names.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((4_800..5_200).contains(&rising), "{rising}");
        // Who has seen one run knows nothing of the next.
        let other = ids(8);
        assert!((0..10_000).all(|_| sorted.binary_search(&other.next()).is_err()));
    }
}
