//! One message, several next hops: its recipients grouped by where they go, as bitmaps over their indexes.

use super::table::{NextHopIndex, RouteTable};

/// Recipients of one message that share a next hop: one queue entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// Where they go.
    pub next_hop: NextHopIndex,
    /// Bit `i % 64` of word `i / 64` stands for recipient `i`; no empty words at the end.
    pub recipients: &'a [u64],
}

/// The groups of one message. Kept and filled again: nothing is allocated once it has held the largest message.
#[derive(Debug, Default)]
pub struct Groups {
    words_each: usize,
    hops: Vec<NextHopIndex>,
    words: Vec<u64>,
    /// By next hop: its group in this message, valid when the message's number stands beside it.
    group_of: Vec<(u64, u32)>,
    message: u64,
    unroutable: Vec<u64>,
}

impl Groups {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Groups the recipients of a message, given by their domains in the order of the envelope; what was here before is
    /// forgotten.
    pub fn fill<'a>(&mut self, table: &RouteTable, domains: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.words_each = domains.len().div_ceil(64).max(1);
        self.hops.clear();
        self.words.clear();
        self.unroutable.clear();
        self.message += 1;
        self.group_of.resize(table.next_hops().len().max(self.group_of.len()), (0, 0));
        for (index, domain) in domains.enumerate() {
            match table.next_hop(domain) {
                Ok(hop) => self.add(hop, index),
                Err(_) => {
                    self.unroutable.resize(index / 64 + 1, 0);
                    self.unroutable[index / 64] |= 1 << (index % 64);
                }
            }
        }
    }

    /// One group per distinct next hop, in the order of each one's first recipient.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let words = self.words.chunks_exact(self.words_each.max(1));
        self.hops.iter().zip(words).map(|(&next_hop, words)| {
            let used = words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
            Group { next_hop, recipients: words.get(..used).unwrap_or_default() }
        })
    }

    /// Recipients without a route, as a group's; no words when everybody has one.
    pub fn unroutable(&self) -> &[u64] {
        &self.unroutable
    }

    fn add(&mut self, hop: NextHopIndex, recipient: usize) {
        let known = &mut self.group_of[hop.index()];
        if known.0 != self.message {
            *known = (self.message, u32::try_from(self.hops.len()).expect("as many as recipients at most"));
            self.hops.push(hop);
            self.words.resize(self.words.len() + self.words_each, 0);
        }
        self.words[known.1 as usize * self.words_each + recipient / 64] |= 1 << (recipient % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::table;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn fill(groups: &mut Groups, table: &RouteTable, domains: &[&str]) {
        groups.fill(table, domains.iter().map(|domain| domain.as_bytes()));
    }

    #[test]
    fn m_098_recipients_of_one_next_hop_are_one_entry() {
        let (table, mut groups) = (table(&["a.test", "b.test"]), Groups::new());
        fill(&mut groups, &table, &["a.test", "b.test", "A.TEST", "c.test", "[127.0.0.1]", "b.test"]);
        let seen: Vec<(usize, Vec<u64>)> =
            groups.groups().map(|group| (group.next_hop.index(), group.recipients.to_vec())).collect();
        assert_eq!(seen, [(0, vec![0b101]), (1, vec![0b100010])]);
        assert_eq!(groups.unroutable(), [0b11000]);
        fill(&mut groups, &table, &["b.test"]);
        assert_eq!(groups.groups().count(), 1, "the message before is forgotten");
        assert!(groups.unroutable().is_empty());
    }

    #[test]
    fn a_group_in_the_front_of_a_large_message_has_no_empty_words() {
        let (table, mut groups) = (table(&["a.test", "b.test"]), Groups::new());
        let domains: Vec<&str> = (0..200).map(|index| if index < 3 { "a.test" } else { "b.test" }).collect();
        fill(&mut groups, &table, &domains);
        let lengths: Vec<usize> = groups.groups().map(|group| group.recipients.len()).collect();
        assert_eq!(lengths, [1, 4]);
    }

    proptest! {
        #[test]
        fn every_recipient_is_in_exactly_one_place(messages in prop::collection::vec(prop::collection::vec(0usize..6, 0..200), 1..4)) {
            let names = ["a.test", "b.test", "c.test", "d.test", "nowhere.test", "[127.0.0.1]"];
            let (table, mut groups) = (table(&names[..4]), Groups::new());
            for message in messages {
                let domains: Vec<&str> = message.iter().map(|&at| names[at]).collect();
                fill(&mut groups, &table, &domains);
                let mut naive: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
                message.iter().enumerate().for_each(|(index, &at)| naive.entry(at).or_default().push(index));
                let members = |words: &[u64]| -> Vec<usize> {
                    assert_ne!(words.last(), Some(&0));
                    let bit = |index: &usize| words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1);
                    (0..message.len()).filter(bit).collect()
                };
                let seen: BTreeMap<usize, Vec<usize>> =
                    groups.groups().map(|group| (group.next_hop.index(), members(group.recipients))).collect();
                let unroutable = members(groups.unroutable());
                let naive_unroutable: Vec<usize> = (0..message.len()).filter(|&index| message[index] >= 4).collect();
                naive.retain(|&at, _| at < 4);
                prop_assert_eq!(seen, naive);
                prop_assert_eq!(unroutable, naive_unroutable);
            }
        }
    }
}
