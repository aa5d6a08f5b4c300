//! The queues against an oracle that keeps plain lists, under random histories.

use super::super::*;
use super::world::{host, key};
use crate::wire::Span;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum Act {
    Enqueue {
        recipients: u64,
        priority: usize,
    },
    Take {
        messages: u32,
    },
    /// The n-th message under way.
    Recipient {
        at: usize,
        bit: u32,
        outcome: usize,
    },
    Finish {
        at: usize,
        outcome: usize,
    },
    Settled,
    Remove {
        at: usize,
    },
    Pass {
        ms: u64,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1u64..256, 0usize..3).prop_map(|(recipients, priority)| Act::Enqueue { recipients, priority }),
        4 => (1u32..6).prop_map(|messages| Act::Take { messages }),
        2 => (0usize..8, 0u32..8, 0usize..4).prop_map(|(at, bit, outcome)| Act::Recipient { at, bit, outcome }),
        5 => (0usize..8, 0usize..6).prop_map(|(at, outcome)| Act::Finish { at, outcome }),
        2 => Just(Act::Settled),
        1 => (0usize..8).prop_map(|at| Act::Remove { at }),
        2 => (1u64..3000).prop_map(|ms| Act::Pass { ms }),
    ];
    prop::collection::vec(act, 1..120)
}

/// What the oracle knows of a message.
#[derive(Debug, Clone, Default)]
struct Plain {
    record: u64,
    open: BTreeSet<usize>,
    put_off: BTreeSet<usize>,
    rest: BTreeSet<usize>,
    progress: bool,
    hurried: bool,
    attempts: u16,
    at_once: bool,
}

#[derive(Debug, Default)]
struct Naive {
    known: BTreeMap<EntryId, Plain>,
    lanes: [Vec<EntryId>; 3],
    priority: BTreeMap<EntryId, usize>,
    sending: Vec<EntryId>,
    settling: Vec<EntryId>,
    deferred: Vec<(Tick, EntryId)>,
}

impl Naive {
    fn offered(&self, id: EntryId) -> Vec<usize> {
        let plain = &self.known[&id];
        plain.open.iter().copied().filter(|it| !plain.put_off.contains(it) && !plain.rest.contains(it)).collect()
    }

    fn take(&mut self, most: usize) -> Vec<EntryId> {
        let mut taken = Vec::new();
        for lane in &mut self.lanes {
            let count = lane.len().min(most - taken.len());
            taken.extend(lane.drain(..count));
        }
        taken.iter().for_each(|id| self.known.get_mut(id).expect("known").attempts += 1);
        self.sending.extend(&taken);
        taken
    }

    fn finish(&mut self, id: EntryId, outcome: Outcome, now: Tick, retry: &Ladder) -> Option<Fate> {
        let offered = self.offered(id);
        self.sending.retain(|it| *it != id);
        let plain = self.known.get_mut(&id)?;
        if matches!(outcome, Outcome::Delivered | Outcome::Failed) {
            plain.progress |= !offered.is_empty();
            plain.open.retain(|it| !offered.contains(it));
        }
        if outcome == Outcome::NotAttempted {
            plain.attempts -= 1;
        }
        if plain.open.is_empty() {
            self.forget(id);
            return Some(Fate::Gone { content: None });
        }
        plain.at_once = match outcome {
            Outcome::NotAttempted => true,
            Outcome::Interrupted | Outcome::Unknown => !std::mem::replace(&mut plain.hurried, true),
            _ => !plain.rest.is_empty() && plain.progress,
        };
        plain.rest.clear();
        plain.at_once &= plain.open.iter().any(|it| !plain.put_off.contains(it));
        if !plain.at_once {
            plain.put_off.clear();
        }
        if std::mem::take(&mut plain.progress) {
            self.settling.push(id);
            return Some(Fate::AwaitsSettle);
        }
        self.put_back(id, now, retry);
        Some(Fate::Waits)
    }

    fn put_back(&mut self, id: EntryId, now: Tick, retry: &Ladder) {
        let plain = &self.known[&id];
        match plain.at_once {
            true => self.lanes[self.priority[&id]].insert(0, id),
            false => self.deferred.push((now + retry.wait(plain.attempts), id)),
        }
    }

    /// Earliest first; the order of equals is not promised, so it is read off the real queue by the caller.
    fn due(&mut self, now: Tick) -> Vec<EntryId> {
        let due: Vec<EntryId> = self.deferred.iter().filter(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        self.deferred.retain(|(at, _)| *at > now);
        due.iter().for_each(|id| self.known.get_mut(id).expect("known").hurried = false);
        due
    }

    fn forget(&mut self, id: EntryId) {
        self.known.remove(&id);
        self.priority.remove(&id);
    }
}

/// The real queues and the oracle, side by side.
struct Pair {
    queues: Queues,
    naive: Naive,
    hop: HopId,
    conn: ConnId,
    now: Tick,
    retry: Ladder,
    next_record: u64,
}

impl Pair {
    fn new() -> Self {
        let options = Options { idle_wait: Span::hours(1), connections_per_destination: 1, ..Options::bench() };
        let (now, mut ids, retry) = (Tick(0) + Span::hours(1), Vec::new(), options.message_ladder.clone());
        let mut queues = Queues::new(options);
        queues.install([(&key("hop"), &[HostAddress::equal(host(1))][..])], now, &mut ids);
        let conn = ConnId { index: 0, serial: 0 };
        let mut pair = Pair { queues, naive: Naive::default(), hop: ids[0], conn, now, retry, next_record: 0 };
        pair.enqueue(1, 1);
        let Some(Action::Connect { conn, .. }) = pair.queues.next_action(now) else { panic!("it connects") };
        pair.conn = conn;
        pair.queues.connected(conn, u32::MAX, now);
        pair
    }

    fn enqueue(&mut self, recipients: u64, priority: usize) {
        self.next_record += 1;
        let new = NewEntry {
            record: self.next_record,
            recipients: &[recipients],
            bytes: 1,
            age: Span::ZERO,
            priority: Priority::ALL[priority],
            content: None,
        };
        let id = self.queues.enqueue(self.hop, new, self.now);
        let open = (0..64).filter(|bit| recipients & (1 << bit) != 0).collect();
        self.naive.known.insert(id, Plain { record: self.next_record, open, ..Plain::default() });
        self.naive.priority.insert(id, priority);
        self.naive.lanes[priority].push(id);
    }

    fn take(&mut self, messages: u32) {
        while self.queues.next_action(self.now).is_some() {}
        let mut taken = Vec::new();
        self.queues.take(self.conn, Room { messages, bytes: u64::MAX }, self.now, &mut taken);
        let expected = self.naive.take(messages as usize);
        assert_eq!(taken.iter().map(|it| it.id).collect::<Vec<_>>(), expected);
        for it in taken {
            let plain = &self.naive.known[&it.id];
            assert_eq!((it.record, it.attempts), (plain.record, plain.attempts));
        }
    }

    fn recipient(&mut self, at: usize, bit: u32, outcome: usize) {
        let Some(&id) = self.naive.sending.get(at) else { return };
        let offered = self.naive.offered(id);
        let Some(&recipient) = offered.get(bit as usize) else { return };
        let plain = self.naive.known.get_mut(&id).expect("known");
        let outcome = match outcome {
            0 => RecipientOutcome::Delivered,
            1 => RecipientOutcome::Failed,
            2 => RecipientOutcome::Deferred,
            _ => RecipientOutcome::TooMany,
        };
        match outcome {
            RecipientOutcome::Deferred => {
                plain.put_off.insert(recipient);
            }
            RecipientOutcome::TooMany => {
                plain.rest.insert(recipient);
            }
            _ => {
                plain.open.remove(&recipient);
                plain.progress = true;
            }
        }
        self.queues.recipient(id, recipient, outcome);
    }

    fn finish(&mut self, at: usize, outcome: usize) {
        let Some(&id) = self.naive.sending.get(at) else { return };
        let outcome = [
            Outcome::Delivered,
            Outcome::Failed,
            Outcome::Deferred,
            Outcome::NotAttempted,
            Outcome::Interrupted,
            Outcome::Unknown,
        ][outcome];
        // A real 503 follows a refusal: nobody of the message was answered.
        let fate = self.queues.finish(id, outcome, self.now);
        assert_eq!(Some(fate), self.naive.finish(id, outcome, self.now, &self.retry));
    }

    fn settled(&mut self) {
        for id in std::mem::take(&mut self.naive.settling) {
            self.queues.settle_is_durable(id, self.now);
            self.naive.put_back(id, self.now, &self.retry);
        }
    }

    fn remove(&mut self, at: usize) {
        let Some(&id) = self.naive.known.keys().nth(at) else { return };
        let busy = self.naive.sending.contains(&id) || self.naive.settling.contains(&id);
        assert_eq!(self.queues.remove(id, self.now), !busy);
        if !busy {
            self.naive.lanes.iter_mut().for_each(|lane| lane.retain(|it| *it != id));
            self.naive.deferred.retain(|(_, it)| *it != id);
            self.naive.forget(id);
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + Span::millis(ms);
        let earliest = self.naive.deferred.iter().map(|(at, _)| *at).min().unwrap_or(Tick::NEVER);
        assert!(self.queues.next_timer() <= earliest, "I-8: no entry without a timer");
        while self.queues.next_timer() <= end {
            self.now = self.now.max(self.queues.next_timer());
            self.queues.on_timer(self.now);
            while self.queues.next_action(self.now).is_some() {}
            let mut due = self.naive.due(self.now);
            // Equal times come back in any order: take the order of the real lanes.
            let order = self.order();
            due.sort_by_key(|id| order.get(id).copied());
            due.iter().for_each(|id| self.naive.lanes[self.naive.priority[id]].push(*id));
        }
        self.now = end;
    }

    fn order(&self) -> BTreeMap<EntryId, usize> {
        let mut order = BTreeMap::new();
        for lane in &self.queues.hops[self.hop.0 as usize].lanes {
            let mut at = lane.head;
            while at != NONE {
                order.insert(self.queues.entries.id(at), order.len());
                at = self.queues.entries[at].next;
            }
        }
        order
    }

    fn check(&self) {
        let status = self.queues.hop(self.hop);
        let waiting: Vec<u32> = self.naive.lanes.iter().map(|lane| lane.len() as u32).collect();
        assert_eq!(status.waiting[..], waiting[..]);
        assert_eq!(status.sending as usize, self.naive.sending.len());
        assert_eq!(status.deferred as usize, self.naive.deferred.len() + self.naive.settling.len());
        assert_eq!(self.queues.messages() as usize, self.naive.known.len());
        for &id in &self.naive.sending {
            assert_eq!(self.queues.recipients(id).collect::<Vec<_>>(), self.naive.offered(id));
        }
        let lanes: Vec<EntryId> = self.naive.lanes.concat();
        let order = self.order();
        assert_eq!(order.len(), lanes.len());
        lanes.iter().enumerate().for_each(|(at, id)| assert_eq!(order.get(id), Some(&at)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_queues_equal_plain_lists(acts in acts()) {
        let mut pair = Pair::new();
        for act in acts {
            match act {
                Act::Enqueue { recipients, priority } => pair.enqueue(recipients, priority),
                Act::Take { messages } => pair.take(messages),
                Act::Recipient { at, bit, outcome } => pair.recipient(at, bit, outcome),
                Act::Finish { at, outcome } => pair.finish(at, outcome),
                Act::Settled => pair.settled(),
                Act::Remove { at } => pair.remove(at),
                Act::Pass { ms } => pair.pass(ms),
            }
            pair.check();
        }
        // Whatever happened, everything can leave in the end, and nothing is kept aside.
        pair.settled();
        for _ in 0..4 {
            while !pair.naive.sending.is_empty() {
                pair.finish(0, 0);
                pair.settled();
                pair.check();
            }
            pair.pass(5000);
            pair.take(u32::MAX);
        }
        pair.check();
        prop_assert_eq!(pair.queues.messages(), 0);
        prop_assert_eq!((pair.queues.notes.len(), pair.queues.wide.len()), (0, 0));
    }
}
