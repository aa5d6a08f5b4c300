//! What is sent: contents (made, or real mail read from disk) and the recipients of each message. Everything is decided by
//! the message's number and a seed, so that two runs of the same options send the same octets to the same people.

pub mod content;
pub mod corpus;
pub mod recipients;
pub mod size;

/// Mixes `value` well enough that neighbouring numbers choose independently (the finalizer of SplitMix64).
pub fn mix(seed: u64, value: u64) -> u64 {
    let mut mixed = seed ^ value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
