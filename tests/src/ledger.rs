//! What senders were told, against what the far end got: the judge of every fault (I-1 to I-4).

use crate::chance::Chance;
use crate::peers::trace_before;
use crate::sink::Taken;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// How often a message was offered, and how it was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offered {
    /// 250 to the final dot or last chunk.
    pub acked: u32,
    /// 4yz or 5yz to it: refused, must not come.
    pub refused: u32,
    /// The connection ended after the first octet of content and before a reply: it may come.
    pub unknown: u32,
}

/// Senders write, the checker reads. Shared by threads.
#[derive(Debug, Default)]
pub struct Ledger {
    offered: Mutex<BTreeMap<u64, Offered>>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages acknowledged at least once.
    pub acked: usize,
    /// Of those, such as never came: I-1 broken.
    pub lost: Vec<u64>,
    /// Came although no sender offered them, or only such as were refused each time: I-2 broken.
    pub unexpected: Vec<String>,
    /// Came with other octets than were sent: I-2 or I-4 broken.
    pub damaged: Vec<u64>,
    /// Copies beyond those that repeated offers explain: W1 or W5.
    pub duplicates: u32,
}

impl Ledger {
    /// Notes an answer to message `id`.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn note(&self, id: u64, change: impl FnOnce(&mut Offered)) {
        change(self.offered.lock().expect("no panic").entry(id).or_default());
    }

    /// How many messages were acknowledged.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn acked(&self) -> usize {
        self.offered.lock().expect("no panic").values().filter(|offered| offered.acked > 0).count()
    }

    /// Whether everything acknowledged is among what was taken.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn is_all_there(&self, taken: &[Taken]) -> bool {
        let came: std::collections::BTreeSet<u64> = taken.iter().filter_map(|one| id_of(&one.from)).collect();
        let offered = self.offered.lock().expect("no panic");
        offered.iter().filter(|(_, offered)| offered.acked > 0).all(|(id, _)| came.contains(id))
    }

    /// Every message that was offered.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn offered(&self) -> BTreeMap<u64, Offered> {
        self.offered.lock().expect("no panic").clone()
    }

    /// Judges what was taken.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn judge(&self, taken: &[Taken]) -> Verdict {
        let offered = self.offered.lock().expect("no panic");
        let mut verdict = Verdict::default();
        let mut came: BTreeMap<u64, u32> = BTreeMap::new();
        for one in taken {
            let Some(id) = id_of(&one.from).filter(|id| offered.contains_key(id)) else {
                verdict.unexpected.push(one.from.clone());
                continue;
            };
            *came.entry(id).or_default() += 1;
            if trace_before(&content(id), &one.content).is_none() {
                verdict.damaged.push(id);
            }
        }
        for (id, offered) in offered.iter() {
            let copies = came.get(id).copied().unwrap_or(0);
            let explained = offered.acked + offered.unknown;
            verdict.acked += usize::from(offered.acked > 0);
            if offered.acked > 0 && copies == 0 {
                verdict.lost.push(*id);
            }
            if explained == 0 && copies > 0 {
                verdict.unexpected.push(format!("{id} was refused each time"));
            }
            verdict.duplicates += copies.saturating_sub(explained.max(1));
        }
        verdict
    }
}

impl Verdict {
    /// Nothing lost, nothing damaged, nothing out of nowhere, and at most `bound` duplicates.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn assert_kept(&self, bound: u32) {
        assert!(
            self.lost.is_empty(),
            "I-1: {} of {} acknowledged are lost: {:?}",
            self.lost.len(),
            self.acked,
            self.lost
        );
        assert!(self.unexpected.is_empty(), "I-2: out of nowhere: {:?}", self.unexpected);
        assert!(self.damaged.is_empty(), "I-4: not what was sent: {:?}", self.damaged);
        assert!(self.duplicates <= bound, "I-3: {} duplicates, at most {bound} are explained", self.duplicates);
    }
}

/// The reverse-path of message `id`.
pub fn sender(id: u64) -> String {
    format!("m{id}@a.test")
}

/// The message that this reverse-path is of.
pub fn id_of(from: &str) -> Option<u64> {
    from.strip_prefix('m')?.strip_suffix("@a.test")?.parse().ok()
}

/// The content of message `id`: the same each time, so that it need not be kept. Most are small; every sixteenth is larger
/// than what is written while it arrives (256 KiB).
pub fn content(id: u64) -> Vec<u8> {
    let mut chance = Chance::new(id);
    let lines = if id % 16 == 15 { 4500 } else { chance.within(1..100) };
    let mut text = format!("From: <{}>\r\nSubject: message {id}\r\n\r\n", sender(id)).into_bytes();
    for _ in 0..lines {
        match chance.within(0..16) {
            0 => text.extend_from_slice(b".\r\n"),
            1 => text.extend_from_slice(b"..two dots\r\n"),
            2 => text.extend_from_slice("Größe 8-bit ✓\r\n".as_bytes()),
            _ => text.extend_from_slice(
                format!("{:016x} of message {id}, forty more octets to a line\r\n", chance.bits()).as_bytes(),
            ),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(id: u64) -> Taken {
        Taken {
            from: sender(id),
            to: vec!["b@b.test".into()],
            content: [b"Received: x\r\n", &content(id)[..]].concat(),
            ..Taken::default()
        }
    }

    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        ledger.note(1, |offered| offered.acked += 1);
        ledger.note(2, |offered| offered.refused += 1);
        ledger.note(3, |offered| offered.unknown += 1);
        ledger
    }

    #[test]
    fn acknowledged_and_delivered_once_is_well() {
        let verdict = ledger().judge(&[took(1), took(3)]);
        assert_eq!(verdict, Verdict { acked: 1, ..Verdict::default() });
        verdict.assert_kept(0);
    }

    #[test]
    fn loss_and_damage_and_what_was_refused_are_seen() {
        let ledger = ledger();
        assert_eq!(ledger.judge(&[took(3)]).lost, [1]);
        assert!(!ledger.is_all_there(&[took(3)]) && ledger.is_all_there(&[took(1)]));
        assert_eq!(ledger.judge(&[took(1), took(2)]).unexpected.len(), 1);
        assert_eq!(ledger.judge(&[took(1), took(9)]).unexpected, [sender(9)]);
        let mut half = took(1);
        half.content.truncate(half.content.len() - 10);
        assert_eq!(ledger.judge(&[half]).damaged, [1]);
        let mut other = took(1);
        other.content = took(3).content;
        assert_eq!(ledger.judge(&[other]).damaged, [1]);
    }

    #[test]
    fn copies_are_duplicates_unless_the_sender_repeated() {
        let ledger = ledger();
        assert_eq!(ledger.judge(&[took(1), took(1), took(1), took(3)]).duplicates, 2);
        ledger.note(1, |offered| offered.unknown += 1);
        assert_eq!(ledger.judge(&[took(1), took(1), took(1), took(3)]).duplicates, 1);
    }

    #[test]
    #[should_panic(expected = "at most 1")]
    fn a_bound_holds() {
        ledger().judge(&[took(1), took(1), took(1)]).assert_kept(1);
    }
}
