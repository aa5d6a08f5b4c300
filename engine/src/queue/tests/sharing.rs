//! Several shards' queues around one hot ring, joined as the shell joins them, against hosts that answer when told to.

use super::super::*;
use super::world::{host, key};
use crate::sys::lockfree::HotRing;
use crate::wire::Span;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// I-8: a next hop that a reload takes away is no ring's any more: whoever holds mail for it sends that itself.
#[test]
fn what_is_left_of_a_next_hop_that_is_gone_leaves_by_the_shard_that_holds_it() {
    let (now, mut ids) = (Tick(0), Vec::new());
    let mut queues = Queues::new(Options { lent_max: 100, ..Options::rfc() });
    let hosts = [HostAddress::equal(host(1))];
    queues.install([(&key("hop"), &hosts[..])], now, &mut ids);
    queues.limit(ids[0], 0);
    let new = NewEntry {
        record: 7,
        recipients: &[1],
        bytes: 1,
        age: Span::ZERO,
        priority: Priority::Normal,
        content: Some(3),
    };
    let entry = queues.enqueue(ids[0], new, now);
    assert_eq!(queues.next_action(now), Some(Action::Lend { hop: ids[0] }));
    queues.install([], now, &mut Vec::new());
    assert_eq!(queues.next_action(now), None, "it may have another route");
    queues.to_the_end(entry, now);
    assert!(matches!(queues.next_action(now), Some(Action::Connect { .. })));
}

/// A message to be sent: whose it is, its entry, its record.
type Ticket = (usize, EntryId, u64);

/// A message under way on a connection.
#[derive(Debug, PartialEq)]
struct Held {
    ticket: Ticket,
    borrowed: bool,
    /// Borrowed, and what the borrower's queues name it.
    guest: Option<EntryId>,
}

struct Shards {
    queues: Vec<Queues>,
    hop: HopId,
    ring: HotRing<Ticket>,
    /// What each open connection holds, and since when.
    conns: BTreeMap<(usize, ConnId), Vec<Held>>,
    /// The host of each.
    to: BTreeMap<(usize, ConnId), SocketAddr>,
    /// Hosts that take nothing, as their extensions say, and hosts that are not there.
    unfit: BTreeSet<SocketAddr>,
    dead: BTreeSet<SocketAddr>,
    guests: BTreeMap<(usize, EntryId), Ticket>,
    /// Records that no host takes.
    failed: Vec<u64>,
    woken: BTreeSet<usize>,
    /// Shards whose connections are refused.
    refused: BTreeSet<usize>,
    window: u32,
    now: Tick,
    records: u64,
    /// Records delivered, and by which shard.
    delivered: Vec<(u64, usize)>,
    lent: u64,
}

impl Shards {
    /// Shards with these parts of the cap.
    fn new(parts: &[u32], window: u32) -> Self {
        Self::to_hosts(parts, window, &[1])
    }

    fn to_hosts(parts: &[u32], window: u32, hosts: &[u16]) -> Self {
        let (now, mut ids) = (Tick(0) + Span::hours(1), Vec::new());
        let options = Options { lent_max: 100, idle_wait: Span::hours(9), ..Options::rfc() };
        let hosts: Vec<HostAddress> = hosts.iter().map(|&number| HostAddress::equal(host(number))).collect();
        let queues = parts.iter().map(|part| {
            let mut queues = Queues::new(options.clone());
            queues.install([(&key("hop"), &hosts[..])], now, &mut ids);
            queues.limit(ids[0], *part);
            queues
        });
        let queues: Vec<Queues> = queues.collect();
        let ring = HotRing::new(parts.len() * LENT_PER_HOP_MAX as usize);
        let mut shards = Shards {
            hop: ids[0],
            queues,
            ring,
            conns: BTreeMap::new(),
            to: BTreeMap::new(),
            unfit: BTreeSet::new(),
            dead: BTreeSet::new(),
            guests: BTreeMap::new(),
            failed: Vec::new(),
            woken: BTreeSet::new(),
            refused: BTreeSet::new(),
            window,
            now,
            records: 0,
            delivered: Vec::new(),
            lent: 0,
        };
        shards.act();
        shards
    }

    fn send(&mut self, shard: usize, count: u32) {
        for _ in 0..count {
            self.records += 1;
            let new = NewEntry {
                record: self.records,
                recipients: &[1],
                bytes: 100,
                age: Span::ZERO,
                priority: Priority::Normal,
                content: Some(1),
            };
            self.queues[shard].enqueue(self.hop, new, self.now);
        }
        self.act();
    }

    fn view(&self, shard: usize) -> RingView {
        RingView {
            tickets: u32::try_from(self.ring.len()).expect("few"),
            awaiting: self.ring.is_awaited_by(shard),
            asking: self.ring.is_offered_by(shard),
            serving: self.ring.is_served_by(shard),
        }
    }

    fn act(&mut self) {
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < 100_000, "the shards come to rest");
            let action = (0..self.queues.len()).find_map(|at| Some((at, self.queues[at].next_action(self.now)?)));
            if let Some((shard, action)) = action {
                self.perform(shard, action);
            } else if let Some(shard) = self.woken.pop_first() {
                if !self.queues[shard].serves_others(self.hop) {
                    self.woken.extend(self.ring.no_longer_await(shard));
                }
                let view = self.view(shard);
                self.queues[shard].saw_ring(self.hop, view);
            } else {
                return;
            }
        }
    }

    fn perform(&mut self, shard: usize, action: Action) {
        match action {
            Action::Expire { .. } => panic!("nobody waits for days"),
            Action::Connect { conn, host, .. }
                if self.refused.contains(&shard) || self.dead.contains(&host.address) =>
            {
                self.queues[shard].closed(conn, Some(Cause::Refused), self.now);
            }
            Action::Connect { conn, host, .. } => {
                self.to.insert((shard, conn), host.address);
                self.conns.insert((shard, conn), Vec::new());
                self.queues[shard].connected(conn, self.window, self.now);
            }
            Action::Feed { conn } => self.take(shard, conn),
            Action::Close { conn } => assert_eq!(self.conns.remove(&(shard, conn)), Some(Vec::new())),
            Action::GiveBack { entry } => {
                let (owner, entry, _) = self.guests.remove(&(shard, entry)).expect("it is here");
                self.queues[owner].finish(entry, Outcome::Elsewhere, self.now);
            }
            Action::Lend { .. } => self.lend(shard),
            Action::Await { .. } => {
                if self.ring.await_tickets(shard) {
                    self.woken.extend(self.ring.lenders());
                } else {
                    let view = self.view(shard);
                    self.queues[shard].saw_ring(self.hop, view);
                }
            }
            Action::Serve { serves, .. } => {
                self.ring.serve(shard, serves);
                if serves {
                    self.woken.extend(self.ring.lenders());
                }
            }
            Action::Remove { .. } | Action::Reroute { .. } | Action::Shed { .. } | Action::Recall { .. } => {
                panic!("routes stay, there is no content, and nobody's time is over")
            }
            Action::Leave { .. } => self.woken.extend(self.ring.no_longer_await(shard)),
        }
    }

    fn lend(&mut self, shard: usize) {
        self.woken.extend(self.ring.no_longer_await(shard));
        let may = self.ring.may_offer(shard, self.queues[shard].is_needy(self.hop));
        if may {
            let (mut taken, most) = (Vec::new(), self.queues[shard].lendable(self.hop));
            self.queues[shard].lend(self.hop, most, self.now, &mut taken);
            for taken in taken {
                self.lent += 1;
                let pushed = self.ring.push((shard, taken.id, taken.record));
                self.woken.extend(pushed.expect("the ring has room for all that is lent"));
            }
        }
        let view = self.view(shard);
        self.queues[shard].saw_ring(self.hop, view);
        if may {
            self.queues[shard].has_lent(self.hop);
        }
    }

    fn take(&mut self, shard: usize, conn: ConnId) {
        let mut held = Vec::new();
        if !self.ring.is_empty() {
            self.borrow(shard, conn, &mut held);
        }
        let (mut taken, room) = (Vec::new(), Room { messages: self.window, bytes: u64::MAX });
        self.queues[shard].take(conn, room, self.now, &mut taken);
        let own = taken.iter().map(|taken| match self.guests.remove(&(shard, taken.id)) {
            Some(ticket) => Held { ticket, borrowed: true, guest: Some(taken.id) },
            None => Held { ticket: (shard, taken.id, taken.record), borrowed: false, guest: None },
        });
        held.extend(own);
        self.borrow(shard, conn, &mut held);
        if self.unfit.contains(&self.to[&(shard, conn)]) {
            return held.into_iter().for_each(|held| self.turn_away((shard, conn), held));
        }
        self.conns.get_mut(&(shard, conn)).expect("open").extend(held);
    }

    fn borrow(&mut self, shard: usize, conn: ConnId, held: &mut Vec<Held>) {
        if let Some((_, most)) = self.queues[shard].room_for_others(conn, self.now) {
            let tickets: Vec<Ticket> = std::iter::from_fn(|| self.ring.pop()).take(most as usize).collect();
            self.queues[shard].borrowed(conn, u32::try_from(tickets.len()).expect("few"), self.now);
            let view = self.view(shard);
            self.queues[shard].saw_ring(self.hop, view);
            held.extend(tickets.into_iter().map(|ticket| Held { ticket, borrowed: true, guest: None }));
        }
    }

    /// What the host of a connection cannot take.
    fn turn_away(&mut self, (shard, conn): (usize, ConnId), held: Held) {
        let known = held.guest.or((!held.borrowed).then_some(held.ticket.1));
        if !self.queues[shard].has_other_host(conn, known) {
            self.failed.push(held.ticket.2);
            return self.end((shard, conn), held, Outcome::Failed);
        }
        match known {
            Some(known) => drop(self.queues[shard].finish(known, Outcome::Elsewhere, self.now)),
            None => {
                let guest = self.queues[shard].keep_guest(conn, self.now, self.now);
                self.guests.insert((shard, guest), held.ticket);
                return;
            }
        }
        if let Some(guest) = held.guest {
            self.guests.insert((shard, guest), held.ticket);
        }
    }

    fn end(&mut self, (shard, conn): (usize, ConnId), held: Held, outcome: Outcome) {
        let (owner, entry, record) = held.ticket;
        match held.guest {
            Some(guest) => assert_eq!(
                self.queues[shard].finish(guest, outcome, self.now),
                Fate::Gone { content: None },
                "its owner decides"
            ),
            None if held.borrowed => self.queues[shard].returned(conn, outcome, self.now, self.now),
            None => {}
        }
        self.queues[owner].finish(entry, outcome, self.now);
        if outcome == Outcome::Delivered {
            self.delivered.push((record, shard));
        }
    }

    /// The first message of each connection of a shard is answered; whether there was any.
    fn answer(&mut self, shard: usize) -> bool {
        let busy: Vec<_> =
            self.conns.iter().filter(|(at, held)| at.0 == shard && !held.is_empty()).map(|(at, _)| *at).collect();
        self.now = self.now + Span::millis(1);
        for at in &busy {
            let held = self.conns.get_mut(at).expect("open").remove(0);
            self.end(*at, held, Outcome::Delivered);
            self.take(at.0, at.1);
        }
        self.act();
        !busy.is_empty()
    }

    /// Every connection of a shard breaks, and new ones are refused until `heal`.
    fn cut(&mut self, shard: usize) {
        self.refused.insert(shard);
        let broken: Vec<_> = self.conns.keys().filter(|at| at.0 == shard).copied().collect();
        for at in broken {
            let held = self.conns.remove(&at).expect("open");
            for (place, held) in held.into_iter().enumerate().rev() {
                self.end(at, held, if place == 0 { Outcome::Interrupted } else { Outcome::NotAttempted });
            }
            self.queues[shard].closed(at.1, Some(Cause::Broken), self.now);
        }
        self.act();
    }

    fn pass(&mut self, span: Span) {
        self.now = self.now + span;
        for queues in &mut self.queues {
            queues.on_timer(self.now);
        }
        self.act();
    }

    /// Answers everything until nothing is under way.
    fn settle(&mut self) {
        while (0..self.queues.len()).fold(false, |any, shard| self.answer(shard) | any) {}
    }

    fn by(&self, shard: usize) -> usize {
        self.delivered.iter().filter(|(_, by)| *by == shard).count()
    }

    fn assert_each_once(&self) {
        let once: BTreeSet<u64> = self.delivered.iter().map(|(record, _)| *record).collect();
        assert_eq!((self.delivered.len() as u64, once.len() as u64), (self.records, self.records));
        assert!(self.ring.is_empty() && self.queues.iter().all(|queues| queues.messages() == 0));
        assert!(self.guests.is_empty() && self.queues.iter().all(|queues| queues.entries.live() == 0));
    }
}

#[test]
fn what_one_shard_cannot_send_another_does() {
    let mut shards = Shards::new(&[1, 1], 2);
    shards.send(0, 100);
    shards.settle();
    shards.assert_each_once();
    assert!(shards.by(0) >= 30 && shards.by(1) >= 30, "{} and {}", shards.by(0), shards.by(1));
}

#[test]
fn what_a_shard_s_own_connections_take_is_not_lent() {
    let mut shards = Shards::new(&[4, 4], 8);
    for _ in 0..20 {
        shards.send(0, 8);
        shards.settle();
    }
    shards.assert_each_once();
    assert_eq!((shards.lent, shards.by(1)), (0, 0));
}

#[test]
fn a_cap_holds_over_shards_because_those_without_a_part_send_by_the_others() {
    let mut shards = Shards::new(&[0, 1, 0], 2);
    for shard in 0..3 {
        shards.send(shard, 50);
    }
    assert_eq!(shards.conns.len(), 1);
    shards.settle();
    shards.assert_each_once();
    assert_eq!(shards.by(1), 150);
}

#[test]
fn a_shard_that_is_refused_sends_by_one_that_is_not() {
    let mut shards = Shards::new(&[1, 1], 4);
    shards.refused.insert(0);
    shards.send(0, 10);
    shards.settle();
    shards.assert_each_once();
    assert_eq!(shards.by(1), 10);
}

#[test]
fn what_is_lent_comes_back_when_the_borrower_loses_its_connections() {
    let mut shards = Shards::new(&[0, 1], 4);
    shards.send(0, 20);
    assert_eq!(shards.conns.values().map(Vec::len).sum::<usize>(), 4);
    shards.cut(1);
    assert_eq!(shards.queues[0].messages(), 20, "the owner keeps them");
    shards.refused.clear();
    shards.pass(Span::hours(4));
    shards.settle();
    shards.assert_each_once();
}

#[test]
fn i_5_a_shard_without_connections_has_its_turn_beside_one_whose_mail_never_ends() {
    for shards in [2, 3] {
        let mut shards = Shards::new(&[1, 0, 0][..shards], 4);
        shards.send(0, 50);
        for shard in 1..shards.queues.len() {
            shards.send(shard, 100);
        }
        let (theirs, mut answers) = (shards.queues.len() as u64 * 100 - 100, 0);
        let ends_of_theirs = |shards: &Shards| {
            shards.delivered.iter().filter(|(record, _)| (51..51 + theirs).contains(record)).count() as u64
        };
        while ends_of_theirs(&shards) < theirs {
            // More than it delivers.
            shards.send(0, 2);
            assert!(shards.answer(0));
            answers += 1;
            assert!(answers <= 2 * theirs + 20, "half of the places are theirs");
        }
        assert!(shards.queues[0].messages() > 50);
        shards.settle();
        shards.assert_each_once();
    }
}

#[test]
fn i_5_a_shard_that_loses_its_connections_asks_again_though_it_has_asked() {
    let mut shards = Shards::new(&[2, 1], 4);
    shards.send(0, 100);
    shards.send(1, 100);
    assert!(shards.ring.is_offered_by(1), "it has asked, and nobody is idle");
    shards.cut(1);
    let by_others = |shards: &Shards| {
        shards.delivered.iter().filter(|(record, by)| (101..=200).contains(record) && *by == 0).count()
    };
    let mut answers = 0;
    while by_others(&shards) < 95 {
        shards.send(0, 4);
        assert!(shards.answer(0));
        answers += 1;
        assert!(answers < 300, "{} of them came", by_others(&shards));
    }
}

#[test]
fn what_a_busy_shard_s_own_connections_take_crosses_to_no_other_that_has_connections() {
    let mut shards = Shards::new(&[1, 1], 4);
    for _ in 0..100 {
        (0..2).for_each(|shard| shards.send(shard, 3));
        (0..2).for_each(|shard| assert!(shards.answer(shard)));
    }
    assert!(shards.lent <= 1, "what was asked for before there was enough of their own: {}", shards.lent);
    shards.settle();
    shards.assert_each_once();
}

#[test]
fn only_so_many_are_lent_at_once() {
    let mut shards = Shards::new(&[0, 1], 1);
    shards.send(0, 1000);
    assert_eq!(shards.lent, u64::from(LENT_PER_HOP_MAX));
    shards.settle();
    shards.assert_each_once();
}

#[test]
fn a_single_shard_says_nothing_to_others() {
    let mut ids = Vec::new();
    let mut queues = Queues::new(Options::rfc());
    queues.install([(&key("hop"), &[HostAddress::equal(host(1))][..])], Tick(0), &mut ids);
    queues.limit(ids[0], 0);
    let new =
        NewEntry { record: 1, recipients: &[1], bytes: 1, age: Span::ZERO, priority: Priority::Normal, content: None };
    queues.enqueue(ids[0], new, Tick(0));
    assert_eq!(queues.next_action(Tick(0)), None);
}

/// With one connection for three shards, and with one each for two of them.
const PARTS: [[u32; 3]; 3] = [[0, 1, 0], [1, 0, 0], [0, 1, 1]];

#[test]
fn m_175_what_no_host_takes_fails_alike_on_shards_with_and_without_connections() {
    for parts in PARTS {
        let mut shards = Shards::to_hosts(&parts, 3, &[1, 2, 3]);
        shards.unfit.extend([1, 2, 3].map(host));
        (0..3).for_each(|shard| shards.send(shard, 20));
        shards.settle();
        shards.failed.sort_unstable();
        assert_eq!(shards.failed, (1..=60).collect::<Vec<_>>(), "{parts:?}, each once, and at once");
        assert!(shards.queues.iter().all(|queues| queues.messages() == 0 && queues.entries.live() == 0));
        assert!(shards.queues.iter().all(|queues| (queues.notes.len(), queues.wide.len()) == (0, 0)));
    }
}

#[test]
fn m_091_what_is_lent_and_one_host_cannot_take_leaves_by_another() {
    for parts in PARTS {
        let mut shards = Shards::to_hosts(&parts, 3, &[1, 2, 3]);
        shards.unfit.extend([1, 3].map(host));
        (0..3).for_each(|shard| shards.send(shard, 20));
        for _ in 0..5 {
            shards.settle();
            // Longer than a busy connection may keep another from its turn, and shorter than any retry.
            shards.pass(Span::seconds(2));
        }
        shards.assert_each_once();
        assert!(shards.failed.is_empty() && shards.queues.iter().all(|queues| queues.entries.live() == 0));
    }
}

#[test]
fn m_091_what_is_lent_waits_with_its_owner_for_a_host_that_cannot_be_reached() {
    let mut shards = Shards::to_hosts(&[0, 1, 0], 3, &[1, 2]);
    shards.unfit.insert(host(1));
    shards.dead.insert(host(2));
    shards.send(0, 20);
    for _ in 0..10 {
        shards.settle();
        shards.pass(Span::minutes(5));
    }
    assert_eq!((shards.queues[0].messages(), shards.failed.len(), shards.delivered.len()), (20, 0, 0));
    assert_eq!(shards.queues[0].hop(shards.hop).deferred, 20, "for their own retry");
    assert!(shards.guests.is_empty() && shards.queues[1].entries.live() == 0, "none stays with the borrower");
    shards.dead.clear();
    for _ in 0..10 {
        shards.pass(Span::minutes(30));
        shards.settle();
    }
    shards.assert_each_once();
}

#[test]
fn a_reload_sends_guests_home() {
    let mut shards = Shards::to_hosts(&[0, 1], 3, &[1, 2]);
    shards.unfit.insert(host(1));
    shards.send(0, 3);
    shards.settle();
    // The second host is connected and holds what came from the first.
    let hosts = [HostAddress::equal(host(1)), HostAddress::equal(host(2))];
    let before = shards.delivered.len();
    assert_eq!(before, 3);
    let conn = *shards.conns.keys().next().expect("open");
    shards.queues[1].borrowed(conn.1, 1, shards.now);
    let guest = shards.queues[1].keep_guest(conn.1, shards.now, shards.now);
    assert_eq!((shards.queues[1].messages(), shards.queues[1].hop(shards.hop).deferred), (0, 0), "its owner counts it");
    let mut ids = Vec::new();
    shards.queues[1].install([(&key("hop"), &hosts[..])], shards.now, &mut ids);
    let actions: Vec<Action> = std::iter::from_fn(|| shards.queues[1].next_action(shards.now)).collect();
    assert!(actions.contains(&Action::GiveBack { entry: guest }), "{actions:?}");
    assert_eq!(shards.queues[1].entries.live(), 0);
}

#[test]
fn m_091_a_guest_goes_home_when_the_host_that_may_take_it_is_busy_for_too_long() {
    let mut shards = Shards::to_hosts(&[0, 2], 3, &[1, 2]);
    // Both connections have what they can take, and nobody answers.
    shards.send(0, 20);
    let [(_, unfit), (_, _busy)] = *shards.conns.keys().copied().collect::<Vec<_>>() else {
        panic!("{:?}", shards.conns)
    };
    let (queues, began) = (&mut shards.queues[1], shards.now);
    let guest = queues.keep_guest(unfit, began, began);
    let home = loop {
        if std::iter::from_fn(|| queues.next_action(shards.now)).any(|act| act == Action::GiveBack { entry: guest }) {
            break shards.now.since(began);
        }
        assert!(queues.next_timer() < began + Span::minutes(1), "it waits on");
        shards.now = shards.now.max(queues.next_timer());
        queues.on_timer(shards.now);
    };
    assert!((Span::seconds(5)..Span::seconds(8)).contains(&home), "{home:?}");
    assert_eq!(queues.entries.live(), 0);
}

#[derive(Debug, Clone)]
enum Act {
    Send(usize, u32),
    Answer(usize),
    Cut(usize),
    Heal(usize),
    /// Whether the first host takes nothing from now on.
    Unfit(bool),
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0usize..3, 1u32..30).prop_map(|(shard, count)| Act::Send(shard, count)),
        8 => (0usize..3).prop_map(Act::Answer),
        1 => (0usize..3).prop_map(Act::Cut),
        1 => (0usize..3).prop_map(Act::Heal),
        1 => any::<bool>().prop_map(Act::Unfit),
        1 => (1u64..20_000).prop_map(Act::Pass),
    ];
    prop::collection::vec(act, 1..80)
}

proptest! {
    #[test]
    fn i_1_i_2_whatever_happens_each_message_leaves_once(
        parts in prop::collection::vec(0u32..3, 3),
        window in 1u32..5,
        acts in acts(),
    ) {
        prop_assume!(parts.iter().sum::<u32>() > 0);
        let mut shards = Shards::to_hosts(&parts, window, &[1, 2]);
        for act in acts {
            match act {
                Act::Send(shard, count) => shards.send(shard, count),
                Act::Answer(shard) => drop(shards.answer(shard)),
                Act::Cut(shard) => shards.cut(shard),
                Act::Heal(shard) => drop(shards.refused.remove(&shard)),
                Act::Unfit(true) => drop(shards.unfit.insert(host(1))),
                Act::Unfit(false) => drop(shards.unfit.remove(&host(1))),
                Act::Pass(ms) => shards.pass(Span::millis(ms)),
            }
        }
        shards.refused.clear();
        for _ in 0..20 {
            shards.settle();
            shards.pass(Span::hours(4));
        }
        shards.settle();
        shards.assert_each_once();
    }
}
