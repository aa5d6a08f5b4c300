//! Who gets each message: addresses from templates, chosen by the message's number.

use super::mix;
use crate::stamp::recipient_key;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Recipients of one message at most (RFC 5321 §4.5.3.1.8 asks servers for 100; Exchange allows 500 by default).
pub const RECIPIENTS_MAX: u32 = 1000;
/// The greatest weight of a template, as of a size.
const WEIGHT_MAX: u64 = 1_000_000;
/// Different addresses at most.
pub const ADDRESSES_MAX: u64 = 1_000_000;

/// Addresses like `user{1..100}@dest.test`: a text with at most one range of numbers in braces, and a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    before: String,
    numbers: Option<RangeInclusive<u64>>,
    after: String,
    weight: u64,
}

/// Recipients that a person typed wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientsError {
    /// Not an address, or an address with a bad range.
    #[error(
        "`{0}` is not a recipient: write user@dest.test, or user{{1..100}}@dest.test, with *WEIGHT (1 to {WEIGHT_MAX}) behind it if wanted"
    )]
    Template(String),
    /// Too many addresses.
    #[error("more than {ADDRESSES_MAX} different recipients")]
    TooMany,
    /// More recipients per message than addresses, or than allowed.
    #[error(
        "{wanted} recipients per message need as many different addresses (there are {addresses}) and are at most {RECIPIENTS_MAX}"
    )]
    PerMessage {
        /// Asked for.
        wanted: u32,
        /// To be had.
        addresses: u64,
    },
    /// Two addresses that the ledger cannot tell apart.
    #[error("`{0}` and another recipient have the same key (or are the same): leave one out")]
    SameKey(String),
}

impl FromStr for Template {
    type Err = RecipientsError;

    fn from_str(text: &str) -> Result<Self, RecipientsError> {
        let bad = || RecipientsError::Template(text.to_owned());
        let (address, weight) = match text.rsplit_once('*') {
            Some((address, weight)) => {
                let weight = weight.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
                (address, weight.ok_or_else(bad)?)
            }
            None => (text, 1),
        };
        let (before, numbers, after) = match address.split_once('{') {
            None => (address, None, ""),
            Some((before, rest)) => {
                let (range, after) = rest.split_once('}').ok_or_else(bad)?;
                let (from, to) = range.split_once("..").ok_or_else(bad)?;
                let (from, to): (u64, u64) = (from.parse().map_err(|_| bad())?, to.parse().map_err(|_| bad())?);
                if from > to || to - from >= ADDRESSES_MAX {
                    return Err(bad());
                }
                (before, Some(from..=to), after)
            }
        };
        let template = Self { before: before.into(), numbers, after: after.into(), weight };
        let sample = template.address(0);
        let shaped = sample.rsplit_once('@').is_some_and(|(local, domain)| {
            (1..=64).contains(&local.len()) && (1..=255).contains(&domain.len()) && !sample.contains(['{', '}'])
        });
        let printable = sample.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>'));
        if shaped && printable { Ok(template) } else { Err(bad()) }
    }
}

impl Template {
    fn count(&self) -> u64 {
        self.numbers.as_ref().map_or(1, |numbers| numbers.end() - numbers.start() + 1)
    }

    fn address(&self, index: u64) -> String {
        match &self.numbers {
            Some(numbers) => format!("{}{}{}", self.before, numbers.start() + index, self.after),
            None => self.before.clone(),
        }
    }
}

/// An address with its key in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `local@domain`.
    pub text: String,
    /// [`recipient_key`] of it.
    pub key: u32,
}

/// Everybody a run may write to, and how a message's recipients are chosen.
#[derive(Debug, Clone)]
pub struct Recipients {
    addresses: Vec<Address>,
    /// For each template: its first address, how many, and the weights up to and with it.
    groups: Vec<Group>,
    per_message: u32,
    seed: u64,
}

#[derive(Debug, Clone)]
struct Group {
    first: u64,
    count: u64,
    weight_up_to: u64,
}

impl Recipients {
    /// `per_message` recipients from `templates` for each message.
    ///
    /// # Errors
    /// [`RecipientsError`]: the caller's to mend.
    pub fn new(templates: &[Template], per_message: u32, seed: u64) -> Result<Self, RecipientsError> {
        let total: u64 = templates.iter().map(Template::count).sum();
        if total > ADDRESSES_MAX {
            return Err(RecipientsError::TooMany);
        }
        if per_message == 0 || per_message > RECIPIENTS_MAX || u64::from(per_message) > total {
            return Err(RecipientsError::PerMessage { wanted: per_message, addresses: total });
        }
        let (mut addresses, mut groups, mut weight_up_to) = (Vec::new(), Vec::new(), 0);
        let mut keys = BTreeSet::new();
        for template in templates {
            weight_up_to += template.weight;
            groups.push(Group { first: addresses.len() as u64, count: template.count(), weight_up_to });
            for index in 0..template.count() {
                let text = template.address(index);
                let (local, domain) = text.rsplit_once('@').unwrap_or((&text, ""));
                let key = recipient_key(local.as_bytes(), domain.as_bytes());
                if !keys.insert(key) && per_message > 1 {
                    return Err(RecipientsError::SameKey(text));
                }
                addresses.push(Address { text, key });
            }
        }
        Ok(Self { addresses, groups, per_message, seed })
    }

    /// Recipients of each message.
    pub fn per_message(&self) -> u32 {
        self.per_message
    }

    /// All addresses, by index.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Index of message `seq`'s recipient number `place` (below `per_message`). A message's recipients are all different.
    pub fn pick(&self, seq: u64, place: u32) -> usize {
        let total = self.addresses.len() as u64;
        if self.per_message > 1 {
            // Neighbours on the ring of all addresses: different as long as there are enough.
            return ((mix(self.seed, seq) % total + u64::from(place)) % total) as usize;
        }
        let all_weights = self.groups.last().map_or(1, |group| group.weight_up_to);
        let random = mix(self.seed, seq);
        let group = if self.groups.len() == 1 {
            &self.groups[0]
        } else {
            let at = (random >> 32) % all_weights;
            &self.groups[self.groups.partition_point(|group| group.weight_up_to <= at)]
        };
        (group.first + (random & 0xffff_ffff) % group.count) as usize
    }

    /// The recipients of message `seq`, in the order of their RCPT commands.
    pub fn of(&self, seq: u64) -> impl Iterator<Item = &Address> + '_ {
        (0..self.per_message).filter_map(move |place| self.addresses.get(self.pick(seq, place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipients(templates: &[&str], per_message: u32) -> Result<Recipients, RecipientsError> {
        let templates: Vec<Template> = templates.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Recipients::new(&templates, per_message, 1)
    }

    #[test]
    fn templates_name_their_people() {
        let all = recipients(&["user{8..10}@a.test", "bob@b.test"], 1).expect("four");
        let texts: Vec<&str> = all.addresses().iter().map(|address| &address.text[..]).collect();
        assert_eq!(texts, ["user8@a.test", "user9@a.test", "user10@a.test", "bob@b.test"]);
    }

    #[test]
    fn wrong_templates_are_refused() {
        for text in [
            "",
            "bob",
            "@x",
            "bob@",
            "u{1}@x",
            "u{2..1}@x",
            "u{a..b}@x",
            "u{1..2@x",
            "a b@x",
            "a@x*0",
            "a@x*1000001",
            "a@x*18446744073709551615",
            "<a@x>",
            "a@x\r\n",
        ] {
            assert_eq!(text.parse::<Template>(), Err(RecipientsError::Template(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_message_never_has_the_same_recipient_twice() {
        let all = recipients(&["u{1..7}@x.test"], 5).expect("seven");
        for seq in 0..200 {
            let chosen: BTreeSet<usize> = (0..5).map(|place| all.pick(seq, place)).collect();
            assert_eq!(chosen.len(), 5, "{seq}");
        }
        assert!(matches!(recipients(&["u{1..7}@x.test"], 8), Err(RecipientsError::PerMessage { .. })));
        assert!(matches!(recipients(&["a@x.test", "A@X.test"], 2), Err(RecipientsError::SameKey(_))));
    }

    #[test]
    fn weights_are_kept() {
        let all = recipients(&["u{1..9}@slow.test*1", "u{1..9}@fast.test*3"], 1).expect("18");
        let slow = (0..40_000).filter(|&seq| all.pick(seq, 0) < 9).count();
        // Expected 10 000 with a standard deviation of 87.
        assert!((9_500..10_500).contains(&slow), "{slow}");
    }
}
