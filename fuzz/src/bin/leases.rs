//! Leased memory against a plain vector: whatever is put, padded, reserved, taken and cut stays what it was, and nothing
//! leaks, under the address sanitizer.

#![no_main]

use engine::sys::slice::{Budget, Pool, Slice};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let pool = Pool::new(Budget::new(1 << 20));
    let mut taken: Vec<(Slice, Vec<u8>)> = Vec::new();
    let Some(mut fill) = pool.fill(4096) else { return };
    let mut written: Vec<u8> = Vec::new();
    for pair in input.chunks_exact(2) {
        let (what, amount) = (pair[0], usize::from(pair[1]));
        match what % 7 {
            0 => {
                let octets = vec![what; amount];
                let count = fill.put(&octets);
                written.extend(&octets[..count]);
            }
            1 => {
                let count = fill.pad_to(amount.max(1));
                written.resize(written.len() + count, 0);
            }
            2 => {
                let count = amount.min(fill.filled());
                fill.retreat(count);
                written.truncate(written.len() - count);
            }
            3 => taken.push((fill.take(), std::mem::take(&mut written))),
            4 if fill.filled() == 0 && fill.room() >= amount => {
                let mut head = fill.reserve(amount);
                head.put(&vec![what; amount]);
                taken.push((head.take(), vec![what; amount]));
            }
            5 => {
                if let Some((slice, octets)) = taken.pop() {
                    let from = amount.min(octets.len());
                    taken.push((slice.sub(from..octets.len()), octets[from..].to_vec()));
                }
            }
            6 if fill.filled() == 0 => {
                drop(taken.drain(..taken.len() / 2));
                match pool.fill(amount * 1024) {
                    Some(next) => fill = next,
                    None => return,
                }
            }
            _ => {}
        }
        assert_eq!(fill.written(), written);
    }
    for (slice, octets) in &taken {
        assert_eq!(**slice, octets[..]);
    }
    drop((taken, fill));
    assert_eq!(pool.budget().leased_bytes(), 0);
});
