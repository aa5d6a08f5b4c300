//! Who gets the next message, and when a connection is opened or closed.
//!
//! A hop whose state changed is *marked*; [`Queues::next_action`] looks at marked hops until nothing more is to be done for
//! them. For one hop, in this order:
//!
//! ```text
//! in Retry                                      nothing, until its timer
//! a message that some hosts cannot take         wake or open a connection of another host
//! a dead host is due and another is connected   probe it with one connection
//! an equal host has none while others work      open one
//! more waits than connections were woken for    wake an idle connection of the cheapest host,
//!                                               else open another if backlog and caps allow it,
//!                                               else wake the cheapest host's connection that has room
//! ```
//! Where a cap forbids a connection, [`super::places`] says who has one.
//! Cheapest = delay x (messages under way + 1), so equal hosts share alike and a slow one gets little; one that is slow
//! beyond tolerance, dead or doubted gets nothing while a better one is connected.

use super::destination::{Hop, HopId};
use super::entry::{EntryId, NONE, State};
use super::health::{Cause, Host, Standing};
use super::link::{ConnId, Link, Phase};
use super::options::Options;
use super::outcome::{Fate, Outcome};
use super::places::{Line, Place, Rate, Turn};
use super::{Queues, flag};
use crate::wire::{HostAddress, Tick};
use std::collections::VecDeque;

/// What the shell is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection; report [`Queues::connected`] when its session takes transactions, else [`Queues::closed`].
    Connect {
        /// Names it from now on.
        conn: ConnId,
        /// For this queue.
        hop: HopId,
        /// To this host.
        host: HostAddress,
        /// The connection attempt ends then; greeting and EHLO have their own timers.
        by: Tick,
    },
    /// Messages wait for this connection: wake it, so that it calls [`Queues::take`].
    Feed {
        /// It is ready and has room.
        conn: ConnId,
    },
    /// Say QUIT and close, within a short time. The queue has forgotten the connection already.
    Close {
        /// It has nothing under way.
        conn: ConnId,
    },
    /// A message waits for a retry of its own and has forgotten this handle of its content (F-040).
    Shed {
        /// What it had.
        content: u32,
    },
    /// Something of this queue that was lent is over its time, or the queue is suspended: report what of it nobody has taken by [`Queues::untaken`].
    Recall {
        /// Which queue.
        hop: HopId,
    },
    /// A message's time is over: write down that all of [`Queues::unsettled`] have failed, then call [`Queues::expire`]. If
    /// that cannot be now, leave it: it is told again.
    Expire {
        /// The message.
        entry: EntryId,
    },
    /// A message that an operator wanted out while it was under way waits again: write down what becomes of it, then call
    /// [`Queues::removed`]. If that cannot be now, it stays.
    Remove {
        /// The message.
        entry: EntryId,
        /// Its sender is to hear of it.
        tells: bool,
    },
    /// A message that was under way when its route went waits again: it is to be routed anew.
    Reroute {
        /// The message.
        entry: EntryId,
    },
    /// A message of another shard waits here in vain for a host that may take it: give it back, as
    /// [`Outcome::Elsewhere`]. The queue has forgotten it already.
    GiveBack {
        /// What [`Queues::keep_guest`] named it.
        entry: EntryId,
    },
    /// More waits than this shard's connections take: call [`Queues::lend`] when another shard waits for tickets, then
    /// [`Queues::has_lent`].
    Lend {
        /// Of this queue.
        hop: HopId,
    },
    /// This shard's connections have room: tickets of others may come, and are told by [`Queues::offered_by_others`].
    Await {
        /// For this queue.
        hop: HopId,
    },
    /// It has connections from now on, however busy, or has none any more.
    Serve {
        /// For this queue.
        hop: HopId,
        /// Whether it has.
        serves: bool,
    },
    /// It takes no tickets any more.
    Leave {
        /// For this queue.
        hop: HopId,
    },
}

/// How much a connection takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Messages at most.
    pub messages: u32,
    /// Octets at most; the first message is taken whatever its size.
    pub bytes: u64,
}

/// A message taken for sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Names it in every report.
    pub id: EntryId,
    /// Its record.
    pub record: u64,
    /// Octets of trace headers and content, saturating.
    pub bytes: u32,
    /// The caller's handle of its content, if it is in memory.
    pub content: Option<u32>,
    /// Which attempt this is, from 1.
    pub attempts: u16,
}

/// The scheduler's own bookkeeping.
#[derive(Debug)]
pub(super) struct Scheduler {
    /// Hops to look at.
    pub(super) marked: VecDeque<u32>,
    /// Hops that there is a place for: they are looked at before the marked ones.
    pub(super) turns: VecDeque<Turn>,
    /// Hops that wait for a place, and when it is looked at again though nothing happens.
    pub(super) line: Line,
    pub(super) line_at: Tick,
    /// No other connection gives its place to another queue before; for a host not known to live.
    pub(super) room_at: Tick,
    pub(super) unproven_at: Tick,
    /// Hops that wait until less is lent.
    pub(super) lenders: VecDeque<u32>,
    /// Messages of queues that no route names, which were under way.
    pub(super) strays: VecDeque<EntryId>,
    /// Messages to be taken out, which wait now, and whether their senders are to hear of it.
    pub(super) removals: VecDeque<(EntryId, bool)>,
    /// Guests to be given back.
    pub(super) parting: VecDeque<EntryId>,
    /// Content that nobody needs in memory for a while.
    pub(super) shed: Vec<u32>,
    /// Connections to be closed, as they were: one may say how it ended before it is told.
    pub(super) closing: VecDeque<(ConnId, Link)>,
    /// Attempts in the order they began, with the time at which each stops keeping others from being tried.
    pub(super) attempts: VecDeque<(Tick, ConnId)>,
    /// Attempts on hosts not known to live, but for those in a queue's own places.
    pub(super) unproven: u32,
    /// Messages lent to other shards.
    pub(super) lent: u32,
    pub(super) serial: u32,
    pub(super) rate: Rate,
}

impl Scheduler {
    pub fn new(options: &Options) -> Self {
        Self {
            marked: VecDeque::new(),
            turns: VecDeque::new(),
            line: Line::default(),
            line_at: Tick::NEVER,
            room_at: Tick(0),
            unproven_at: Tick(0),
            lenders: VecDeque::new(),
            strays: VecDeque::new(),
            removals: VecDeque::new(),
            parting: VecDeque::new(),
            shed: Vec::new(),
            closing: VecDeque::new(),
            attempts: VecDeque::new(),
            unproven: 0,
            lent: 0,
            serial: 0,
            rate: Rate::new(options.connections_per_minute),
        }
    }
}

impl Scheduler {
    fn mark(&mut self, index: u32, hop: &mut Hop) {
        if !hop.dirty {
            hop.dirty = true;
            self.marked.push_back(index);
        }
    }
}

/// Which connections may be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    Idle,
    Roomy,
}

impl Queues {
    /// What to do next. Call it after every report until it answers `None`.
    pub fn next_action(&mut self, now: Tick) -> Option<Action> {
        loop {
            if let Some((conn, _)) = self.scheduler.closing.pop_front() {
                return Some(Action::Close { conn });
            }
            if let Some(entry) = self.scheduler.parting.pop_front() {
                return Some(Action::GiveBack { entry });
            }
            if let Some(content) = self.scheduler.shed.pop() {
                return Some(Action::Shed { content });
            }
            if let Some((entry, tells)) = self.next_removal() {
                return Some(Action::Remove { entry, tells });
            }
            if let Some(entry) = self.next_expired() {
                return Some(Action::Expire { entry });
            }
            if let Some(hop) = self.next_recall() {
                return Some(Action::Recall { hop });
            }
            if let Some(entry) = self.next_stray() {
                return Some(Action::Reroute { entry });
            }
            if let Some(action) = self.connect_in_turn(now) {
                return Some(action);
            }
            let turn = self.scheduler.turns.front().map(|turn| turn.hop);
            let Some(hop) = turn.or_else(|| self.scheduler.marked.front().copied()) else {
                if self.serve_line(now) {
                    continue;
                }
                return None;
            };
            if let Some(action) = self.step(hop, now).or_else(|| self.share(hop)) {
                return Some(action);
            }
            if turn.is_some() {
                // It has no use for the place any more.
                self.scheduler.turns.pop_front();
                self.mark(hop);
                continue;
            }
            self.scheduler.marked.pop_front();
            self.hops[hop as usize].dirty = false;
            self.line_up(hop, now);
            self.retime(hop, now);
        }
    }

    /// A connection's session takes transactions, up to `window` at once (at least one).
    pub fn connected(&mut self, conn: ConnId, window: u32, now: Tick) {
        let Some(index) = self.link(conn) else { return };
        self.end_attempt(index);
        let link = &mut self.links[index as usize];
        assert!(matches!(link.phase, Phase::Connecting { .. }), "a connection becomes ready once");
        link.phase = Phase::Ready;
        link.place = Place::Free;
        link.since = now;
        link.window = window.max(1);
        let hop_index = link.hop;
        let hop = &mut self.hops[hop_index as usize];
        if hop.hosts.iter().all(|host| host.standing == Standing::Dead) {
            hop.limit.restart();
        }
        hop.window = link.window;
        let host = &mut hop.hosts[link.host as usize];
        host.on_connected();
        host.ready += 1;
        // Whoever was given up before is worth another try when this one fails.
        hop.round += 1;
        hop.retry_at = Tick::NEVER;
        self.relist(index, now);
        self.mark(hop_index);
    }

    /// A ready connection may have so many transactions under way from now on (a new EHLO, a learned limit).
    pub fn set_window(&mut self, conn: ConnId, window: u32, now: Tick) {
        let Some(index) = self.link(conn) else { return };
        let link = &mut self.links[index as usize];
        link.window = window.max(1);
        let hop = link.hop;
        self.relist(index, now);
        self.mark(hop);
    }

    /// A connection is gone, or was never made. `None`: as agreed, with nothing to blame (our QUIT, or its FIN while idle).
    ///
    /// Messages not reported before are taken as [`Outcome::Unknown`]. What follows from the cause (M-091): an attempt that
    /// failed makes its host dead, so that messages leave by the next one at once, and the queue go to Retry when it was the
    /// last; `PushBack` halves the concurrency; a broken session makes the host doubted, and dead when the next one breaks
    /// too without an answer; a session that was refused its first MAIL makes it dead like one that was not opened.
    pub fn closed(&mut self, conn: ConnId, cause: Option<Cause>, now: Tick) {
        while let Some(index) = self.link(conn)
            && self.links[index as usize].sending.head != NONE
        {
            let id = self.entries.id(self.links[index as usize].sending.head);
            if self.finish(id, Outcome::Unknown, now) == Fate::AwaitsSettle {
                self.settle_is_overdue(id, now);
            }
        }
        let link = match self.link(conn) {
            Some(index) => self.forget_link(index),
            // The last report of what was under way made it one to be closed.
            None => match self.scheduler.closing.iter().position(|(closing, _)| *closing == conn) {
                Some(at) => self.scheduler.closing.remove(at).expect("found above").1,
                None => return,
            },
        };
        let was_ready = link.phase == Phase::Ready;
        self.failed_in_place(&link, cause == Some(Cause::TimedOut), now);
        let hop = &mut self.hops[link.hop as usize];
        if let Some(cause) = cause {
            hop.trouble.on_failure(conn, cause, now);
        }
        hop.hosts[link.host as usize].last_cause = cause.or(hop.hosts[link.host as usize].last_cause);
        match cause {
            None => {}
            Some(cause) if was_ready => hop.on_session_failed(&link, cause, &self.options, now),
            Some(cause) => hop.on_attempt_failed(&link, cause, &self.options, now),
        }
        if cause.is_some() && hop.all_failed() && !hop.in_retry() {
            hop.failures = hop.failures.saturating_add(1);
            hop.retry_at = now + self.options.queue_ladder.wait(hop.failures);
        }
        self.mark(link.hop);
    }

    /// The host behind a connection is slow by the caller's own measure: it is given one message at a time until it answers.
    pub fn slow(&mut self, conn: ConnId) {
        let Some(index) = self.link(conn) else { return };
        let link = &self.links[index as usize];
        self.hops[link.hop as usize].hosts[link.host as usize].window = 1;
        self.mark(link.hop);
    }

    /// Messages for a ready connection, oldest first within the highest priority, appended to `out`; how many. None when
    /// nothing waits, or when others should have it: a further `Feed` tells.
    pub fn take(&mut self, conn: ConnId, room: Room, now: Tick, out: &mut Vec<Taken>) -> usize {
        let Some(index) = self.link(conn) else { return 0 };
        let link = &mut self.links[index as usize];
        let (hop_index, host) = (link.hop, link.host as usize);
        let hop = &mut self.hops[hop_index as usize];
        hop.promised -= std::mem::take(&mut link.promised);
        let errand = std::mem::take(&mut link.errand);
        hop.errands -= u32::from(errand);
        let share = self.fair_share(index, now).min(room.messages);
        // Whoever was woken for what others cannot take may be slow.
        let most = if errand { share.max(self.room_of(index).min(1)).min(room.messages) } else { share };
        let count = self.take_elsewhere(index, most, now, out);
        let rest = Room { messages: share.saturating_sub(count), ..room };
        let count = count + self.take_some(hop_index, rest, index, now, out);
        self.took_own(hop_index, count);
        let hop = &mut self.hops[hop_index as usize];
        hop.hosts[host].on_taken(count, now);
        if hop.queued() + hop.elsewhere.count > 0 {
            self.scheduler.mark(hop_index, hop);
        }
        let link = &mut self.links[index as usize];
        link.load += count;
        link.taken = link.taken.saturating_add(count);
        self.relist(index, now);
        count as usize
    }

    /// Messages that a connection should take now.
    fn fair_share(&mut self, index: u32, now: Tick) -> u32 {
        let link = &self.links[index as usize];
        let hop = &mut self.hops[link.hop as usize];
        if !hop.admits(&hop.hosts[link.host as usize], &self.options, now) {
            hop.hosts[link.host as usize].window = 1;
            return 0;
        }
        let share = hop.queued().div_ceil(hop.ready().max(1)).max(hop.work_per_connection(&self.options));
        share.min(self.room_of(index))
    }

    /// Messages that a connection could take now.
    fn room_of(&self, index: u32) -> u32 {
        let link = &self.links[index as usize];
        let hop = &self.hops[link.hop as usize];
        let host = &hop.hosts[link.host as usize];
        let takes = link.phase == Phase::Ready && link.leaves.is_none() && !hop.suspended && host.is_usable();
        if !takes || hop.is_over_cap() {
            return 0;
        }
        let left = self.options.messages_per_connection.saturating_sub(link.taken);
        link.room().min(left).min(host.room())
    }

    /// The next time at which [`Queues::on_timer`] must be called.
    pub fn next_timer(&self) -> Tick {
        let stagger = self.scheduler.attempts.front().map_or(Tick::NEVER, |&(at, _)| at);
        let rate = if self.scheduler.rate.awaited { self.scheduler.rate.next() } else { Tick::NEVER };
        self.retries
            .next(&self.entries)
            .min(self.hop_timers.next(&self.hops))
            .min(stagger)
            .min(rate)
            .min(self.scheduler.line_at)
            .min(self.next_expiry())
    }

    /// Does what is due at `now`.
    pub fn on_timer(&mut self, now: Tick) {
        while let Some(index) = self.retries.pop_due(&mut self.entries, now) {
            self.retry_is_due(index);
        }
        while let Some((_, conn)) = self.scheduler.attempts.pop_front_if(|(at, _)| *at <= now) {
            self.attempt_is_stale(conn);
        }
        while let Some(index) = self.hop_timers.pop_due(&mut self.hops, now) {
            self.hop_is_due(index, now);
        }
        if self.scheduler.rate.awaited && self.scheduler.rate.next() <= now {
            self.scheduler.rate.awaited = false;
        }
        self.look_for_expired(now);
    }

    /// Has [`Queues::next_action`] look at a hop.
    pub(super) fn mark(&mut self, hop: u32) {
        self.scheduler.mark(hop, &mut self.hops[hop as usize]);
    }

    pub(super) fn taken(&self, index: u32) -> Taken {
        let entry = &self.entries[index];
        Taken {
            id: self.entries.id(index),
            record: entry.record,
            bytes: entry.bytes,
            content: (entry.content != NONE).then_some(entry.content),
            attempts: entry.attempts,
        }
    }

    /// A message's attempt has ended: its connection has room again, and its host has answered or not.
    pub(super) fn land(&mut self, index: u32, outcome: Outcome, now: Tick) {
        let entry = &self.entries[index];
        let (hop, link_index, taken) = (entry.hop, entry.link, entry.when);
        self.hops[hop as usize].sending -= u32::from(!entry.is_guest());
        if link_index != NONE {
            self.links[link_index as usize].sending.remove(&mut self.entries, index);
            self.unload(link_index, outcome, taken, now);
        } else {
            self.lent_came_back(hop);
        }
        self.entries[index].link = NONE;
        self.mark(hop);
    }

    pub(super) fn take_some(&mut self, hop: u32, room: Room, link: u32, now: Tick, out: &mut Vec<Taken>) -> u32 {
        let (mut count, mut bytes) = (0, 0u64);
        while count < room.messages {
            let Some(index) = self.hops[hop as usize].first() else { break };
            bytes = bytes.saturating_add(u64::from(self.entries[index].bytes));
            if count > 0 && bytes > room.bytes {
                break;
            }
            let state = &mut self.hops[hop as usize];
            state.remove_waiting(&mut self.entries, index);
            self.begin(index, link, now, out);
            count += 1;
        }
        count
    }

    /// An attempt begins: the message has left whatever list it was in.
    pub(super) fn begin(&mut self, index: u32, link: u32, now: Tick, out: &mut Vec<Taken>) {
        let entry = &mut self.entries[index];
        self.hops[entry.hop as usize].sending += u32::from(!entry.is_guest());
        entry.state = State::Sending;
        entry.when = now;
        entry.link = link;
        entry.attempts = entry.attempts.saturating_add(1);
        if link != NONE {
            self.links[link as usize].sending.push_back(&mut self.entries, index);
        }
        self.leave_rest(index);
        out.push(self.taken(index));
    }

    /// Recipients beyond what one transaction offers go in a further one (M-098).
    fn leave_rest(&mut self, index: u32) {
        let most = self.options.recipients_per_transaction.max(1) as usize;
        if !self.entries[index].has(flag::WIDE) && most >= 64 {
            return;
        }
        let Some(first) = self.offered(index).nth(most) else { return };
        let words = self.entries[index].words(&self.wide).len();
        for recipient in first..words * 64 {
            if super::recipients::contains(self.entries[index].words(&self.wide), recipient) {
                self.note_recipient(index, recipient, flag::REST);
            }
        }
    }

    pub(super) fn unload(&mut self, index: u32, outcome: Outcome, taken: Tick, now: Tick) {
        let link = &mut self.links[index as usize];
        link.load -= 1;
        let hop = &mut self.hops[link.hop as usize];
        let host = &mut hop.hosts[link.host as usize];
        if matches!(outcome, Outcome::Delivered | Outcome::Failed | Outcome::Deferred) {
            // Its turn came when it was taken, or when the one before it was answered.
            let delay = now.since(taken.max(link.answered));
            link.answered = now;
            link.answers = link.answers.saturating_add(1);
            host.on_answer(delay, &self.options, now);
            hop.limit.on_answer(delay, now);
            hop.failures = 0;
            hop.retry_at = Tick::NEVER;
        }
        host.load -= 1;
        let hop = link.hop;
        self.relist(index, now);
        self.mark(hop);
    }

    /// One thing to do for a hop, if any.
    fn step(&mut self, hop: u32, now: Tick) -> Option<Action> {
        self.hops[hop as usize].asks = None;
        let state = &self.hops[hop as usize];
        if !state.live || state.in_retry() || state.suspended {
            self.part_with_guests(hop);
            return None;
        }
        if state.elsewhere.count > 0
            && let Some(action) = self.send_elsewhere(hop, now)
        {
            return Some(action);
        }
        let state = &self.hops[hop as usize];
        let idle = state.waiting() <= state.promised;
        let other = match state.host_to_probe(now) {
            Some(host) => self.probe(hop, host, now),
            None if state.is_capped() => None,
            None => state.host_to_spread_to(now).and_then(|host| self.connect(hop, host, now)),
        };
        if let Some(action) = other {
            return Some(action);
        }
        if idle {
            return None;
        }
        if let Some(action) = self.feed(hop, Feed::Idle, now) {
            return Some(action);
        }
        let host =
            if self.wants_connection(hop, now) { self.hops[hop as usize].candidate(&self.options, now) } else { None };
        if let Some(action) = host.and_then(|host| self.connect(hop, host, now)) {
            return Some(action);
        }
        self.feed(hop, Feed::Roomy, now)
    }

    /// Wakes a connection of the cheapest host that has one of the kind asked for.
    fn feed(&mut self, hop_index: u32, kind: Feed, now: Tick) -> Option<Action> {
        let hop = &self.hops[hop_index as usize];
        let half_life = self.options.probe_wait;
        let cost = |host: &Host| u128::from(host.delay_us(half_life, now)) * u128::from(host.load + 1);
        let list = |host: &Host| if kind == Feed::Idle { host.idle } else { host.roomy };
        let hosts = hop.hosts.iter().filter(|host| !list(host).is_empty() && host.room() > 0);
        let host =
            hosts.filter(|host| hop.admits(host, &self.options, now)).min_by_key(|host| (cost(host), host.fed))?;
        let (index, number) = (list(host).head, self.links[list(host).head as usize].host);
        let share = hop.waiting().div_ceil(hop.ready().max(1)).max(hop.work_per_connection(&self.options));
        let link = &self.links[index as usize];
        let promised = link.room().min(host.room()).min(share).max(1);
        self.unlist(index);
        self.links[index as usize].promised = promised;
        let hop = &mut self.hops[hop_index as usize];
        hop.promised += promised;
        hop.feeds += 1;
        hop.hosts[number as usize].fed = hop.feeds;
        Some(Action::Feed { conn: self.conn(index) })
    }

    /// A hop's timer has come: whatever it was set for is looked at again.
    fn hop_is_due(&mut self, index: u32, now: Tick) {
        let hop = &mut self.hops[index as usize];
        hop.timer = Tick::NEVER;
        if hop.retry_at <= now {
            hop.try_again(now);
        }
        for host in 0..self.hops[index as usize].hosts.len() {
            self.close_idle(index, host, now);
        }
        let hop = &self.hops[index as usize];
        let unused = !hop.has_messages() && hop.ready() + hop.connecting() == 0;
        if !hop.pinned && unused && now.since(hop.used) >= self.options.queue_idle_wait {
            return self.forget_hop(index);
        }
        self.mark(index);
    }

    fn forget_hop(&mut self, index: u32) {
        self.leave_line(index);
        let hop = &mut self.hops[index as usize];
        hop.live = false;
        hop.hosts.clear();
        self.by_key.remove(&hop.key);
        self.free_hops.push(index);
    }

    /// Sets the hop's timer to the earliest thing it waits for. A timer that is set too early only looks once more.
    fn retime(&mut self, index: u32, now: Tick) {
        let hop = &self.hops[index as usize];
        if !hop.live {
            return;
        }
        let at = hop.next_wait(&self.options, &self.links, now).min(self.next_errand(index, now));
        let hop = &mut self.hops[index as usize];
        if at < hop.timer {
            hop.timer = at;
            self.hop_timers.put(&mut self.hops, index);
        }
    }
}
