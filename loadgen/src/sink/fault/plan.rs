//! Which faults strike on an occasion. Shared by all shards of a sink; counts are exact over them.

use super::{Action, Fault, Where};
use crate::workload::mix;
use engine::wire::Span;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that happens in a session, as far as selectors look at it.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// Where.
    pub here: Where,
    /// Number of the connection, from 1.
    pub connection: u64,
    /// Reverse-path without brackets, if there is one yet.
    pub sender: &'a [u8],
    /// Forward-path without brackets, at RCPT.
    pub recipient: &'a [u8],
    /// Octets of the message: declared until it is there, then counted.
    pub bytes: u64,
    /// Since the sink started.
    pub since_start: Span,
}

/// The faults in force. Replaced as a whole, never changed.
#[derive(Debug, Default)]
pub struct Plan {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    fault: Fault,
    occasions: AtomicU64,
}

impl Plan {
    /// A plan of `faults`, with fresh counts.
    pub fn new(faults: Vec<Fault>) -> Arc<Self> {
        let entries = faults.into_iter().map(|fault| Entry { fault, occasions: AtomicU64::new(0) }).collect();
        Arc::new(Self { entries })
    }

    /// Nothing goes wrong.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The faults, in order.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.entries.iter().map(|entry| &entry.fault)
    }

    /// Whether the listener is to be closed now.
    pub fn refuses(&self, since_start: Span) -> bool {
        self.faults().any(|fault| fault.action == Action::Refuse && fault.in_time(since_start))
    }

    /// Appends to `strike` everything that strikes on `occasion`, in the order given.
    pub fn strike<'a>(&'a self, occasion: &Occasion<'_>, strike: &mut Vec<&'a Fault>) {
        for entry in &self.entries {
            if entry.fault.concerns(occasion) {
                let number = entry.occasions.fetch_add(1, Ordering::Relaxed);
                if entry.fault.chooses(number) {
                    strike.push(&entry.fault);
                }
            }
        }
    }
}

impl Fault {
    fn in_time(&self, since_start: Span) -> bool {
        let begun = self.select.from.is_none_or(|from| since_start >= from);
        begun && self.select.until.is_none_or(|until| since_start < until)
    }

    /// Whether the occasion is one that counts.
    fn concerns(&self, occasion: &Occasion<'_>) -> bool {
        let select = &self.select;
        // What is early strikes at what comes before.
        let here = match (&self.action, occasion.here) {
            (Action::Early, before) => match self.early(before) {
                Some(here) => here,
                None => return false,
            },
            (_, here) => here,
        };
        self.at.covers(here)
            && self.in_time(occasion.since_start)
            && select.connection.is_none_or(|connection| connection == occasion.connection)
            && select.sender.as_ref().is_none_or(|glob| glob.matches(occasion.sender))
            && select.recipient.as_ref().is_none_or(|glob| glob.matches(occasion.recipient))
            && select.larger_than.is_none_or(|bytes| occasion.bytes > bytes)
    }

    /// What is answered early behind `before`, if anything is.
    pub fn early(&self, before: Where) -> Option<Where> {
        match before {
            Where::Ehlo => Some(Where::Mail),
            Where::Mail => Some(Where::Rcpt),
            Where::Rcpt if self.at == Where::Bdat => Some(Where::Bdat),
            Where::Rcpt => Some(Where::Data),
            Where::Body => Some(Where::Eod),
            _ => None,
        }
    }

    /// Whether the occasion that counts as number `number` (from 0) is struck.
    fn chooses(&self, number: u64) -> bool {
        let select = &self.select;
        let Some(number) = number.checked_sub(select.after.unwrap_or(0)) else { return false };
        // A fault that stops the whole sink does so once, unless it says otherwise.
        let once = matches!(self.action, Action::Pause(_)) && select.every.is_none() && select.probability.is_none();
        let first = select.first.or(once.then_some(1));
        let every = select.every.unwrap_or(1);
        let chance = |p: f64| ((mix(select.seed, number) >> 11) as f64) < p * (1u64 << 53) as f64;
        (number + 1).is_multiple_of(every)
            && first.is_none_or(|first| (number + 1) / every <= first)
            && select.probability.is_none_or(chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occasion(here: Where) -> Occasion<'static> {
        Occasion {
            here,
            connection: 3,
            sender: b"ann@a.test",
            recipient: b"",
            bytes: 100,
            since_start: Span::seconds(15),
        }
    }

    fn struck(text: &str, occasion: Occasion<'_>, times: usize) -> Vec<usize> {
        let plan = Plan::new(vec![text.parse().unwrap_or_else(|error| panic!("{error}"))]);
        let hit = |_: &usize| {
            let mut strike = Vec::new();
            plan.strike(&occasion, &mut strike);
            !strike.is_empty()
        };
        (0..times).filter(hit).collect()
    }

    #[test]
    fn counts_choose_their_occasions() {
        let eod = occasion(Where::Eod);
        assert_eq!(struck("eod:close", eod, 3), [0, 1, 2]);
        assert_eq!(struck("eod:close;first=2", eod, 5), [0, 1]);
        assert_eq!(struck("eod:close;after=3", eod, 5), [3, 4]);
        assert_eq!(struck("eod:close;every=3", eod, 10), [2, 5, 8]);
        assert_eq!(struck("eod:close;every=3;first=2", eod, 10), [2, 5]);
        assert_eq!(struck("eod:close;after=2;every=2;first=1", eod, 10), [3]);
        assert_eq!(struck("any:pause 1s", eod, 4), [0]);
        assert!(struck("mail:close", eod, 4).is_empty());
        assert!(struck("any:early", eod, 4).is_empty());
        assert_eq!(struck("any:early;first=1", occasion(Where::Body), 4), [0]);
        for (fault, before) in [
            ("mail:early", Where::Ehlo),
            ("rcpt:early", Where::Mail),
            ("data:early", Where::Rcpt),
            ("bdat:early", Where::Rcpt),
            ("eod:early", Where::Body),
        ] {
            for here in [Where::Ehlo, Where::Mail, Where::Rcpt, Where::Data, Where::Body, Where::Eod, Where::Bdat] {
                assert_eq!(struck(fault, occasion(here), 1).len(), usize::from(here == before), "{fault} at {here:?}");
            }
        }
    }

    #[test]
    fn conditions_choose_theirs() {
        let rcpt = Occasion { recipient: b"u7@slow.test", ..occasion(Where::Rcpt) };
        for (text, hit) in [
            ("rcpt:reply 550;rcpt=*@slow.test", true),
            ("rcpt:reply 550;rcpt=*@fast.test", false),
            ("rcpt:reply 550;from=ann@*", true),
            ("rcpt:reply 550;from=bob@*", false),
            ("rcpt:reply 550;conn=3", true),
            ("rcpt:reply 550;conn=4", false),
            ("rcpt:reply 550;size>99", true),
            ("rcpt:reply 550;size>100", false),
            ("rcpt:reply 550;t=10s..20s", true),
            ("rcpt:reply 550;t=16s..", false),
            ("rcpt:reply 550;t=..15s", false),
        ] {
            assert_eq!(struck(text, rcpt, 1).len(), usize::from(hit), "{text}");
        }
    }

    #[test]
    fn chance_is_kept_and_repeats_with_its_seed() {
        let eod = occasion(Where::Eod);
        let hits = struck("eod:close;p=0.1;seed=4", eod, 10_000);
        assert!((800..1200).contains(&hits.len()), "{}", hits.len());
        assert_eq!(hits, struck("eod:close;p=0.1;seed=4", eod, 10_000));
        assert_ne!(hits, struck("eod:close;p=0.1;seed=5", eod, 10_000));
        assert!(struck("eod:close;p=0", eod, 100).is_empty());
        assert_eq!(struck("eod:close;p=1", eod, 3), [0, 1, 2]);
    }

    #[test]
    fn f_060_refusal_follows_the_clock() {
        let plan = Plan::new(vec!["accept:refuse;t=1s..2s".parse().expect("a fault")]);
        let refuses = [0, 1, 2].map(|second| plan.refuses(Span::seconds(second)));
        assert_eq!(refuses, [false, true, false]);
    }
}
