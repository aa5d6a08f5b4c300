//! Who gets a connection when a cap allows no more: that of its next hop, that of all (`connections_max`), that of hosts not
//! known to live (half of all), and the rate of new ones.
//!
//! The rule:
//! 1. A place that becomes free goes to the first in the *line*: a queue without any connection before those that have some,
//!    and of these who has waited longest.
//! 2. Who has waited for [`PLACE_WAIT`] for what it cannot do without (a first connection, one to another host for a message
//!    or a probe) takes a place: of its own connections, or if it has none of the queue that has most, one that is idle, else
//!    one that takes nothing more and closes when it has nothing under way.
//! 3. One gives its place at a time, another only when it has not come to its end within [`LEAVE_WAIT`], and the place is had
//!    by whom it was taken for: at once, or by nobody.
//!
//! Two bounds beside it: an idle connection of its own is taken without waiting, and hosts not known to live are tried in
//! places of other queues by one in [`PROBE_PART`] of all connections at most, after a failure not before a probe's wait. So
//! nobody waits for ever, each place that is taken is an attempt, and a mass outage costs who lives next to nothing.
//! Nothing here is looked at while no cap is reached; at the caps it costs a message two look-ups in an ordered set.

use super::Queues;
use super::health::Standing;
use super::link::{Link, Listed, Phase};
use super::options::Options;
use super::scheduler::Action;
use crate::wire::{Span, Tick};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// How long a queue waits before it takes a place, and for how long a connection that is used keeps the one it has from other
/// queues.
pub(super) const PLACE_WAIT: Span = Span::seconds(1);

/// When the one that is to give its place does not come to its end, another does after so long.
pub(super) const LEAVE_WAIT: Span = Span::seconds(10);

/// One part in so many of the connections' time is what attempts on hosts not known to live take at most, in the places of
/// others.
const PROBE_PART: u32 = 20;

/// What a queue asks a place for; the least in this order when it asks for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ask {
    /// It has connections already.
    more: bool,
    /// The host is not known to live.
    unproven: bool,
}

/// Queues that wait for a place, by what they ask for and since when.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeSet<(Ask, Tick, u32)>,
}

impl Line {
    fn first(&self, ask: Ask) -> Option<(Tick, u32)> {
        let (of, since, hop) = self.waiting.range((ask, Tick(0), 0)..).next()?;
        (*of == ask).then_some((*since, *hop))
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// New connections per time: a bucket that holds one second's worth, or one connection.
#[derive(Debug)]
pub(super) struct Rate {
    /// Between two connections; `None`: no limit.
    step: Option<Span>,
    /// The bucket is full at `full_at`, and holds a connection so long before.
    held: Span,
    full_at: Tick,
    /// The line waits for it.
    pub(super) awaited: bool,
}

impl Rate {
    pub fn new(per_minute: Option<u32>) -> Self {
        let step = per_minute.map(|count| Span(Span::minutes(1).0 / u64::from(count.max(1))));
        let held = Span(Span::seconds(1).0.saturating_sub(step.map_or(0, |step| step.0)));
        Self { step, held, full_at: Tick(0), awaited: false }
    }

    /// When the next connection may be made.
    pub(super) fn next(&self) -> Tick {
        self.full_at - self.held
    }

    pub(super) fn take(&mut self, now: Tick) {
        if let Some(step) = self.step {
            self.full_at = self.full_at.max(now) + step;
        }
    }
}

/// Whose place it was that a connection is opened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody's.
    Free,
    /// Another queue's, which has more.
    Given,
    /// A connection's of the same queue.
    Own,
}

/// There is a place for a queue, which is looked at before all others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub hop: u32,
    pub place: Place,
    /// The host that it was taken for; `None`: whichever is best, or it had its turn.
    pub host: Option<SocketAddr>,
}

/// A connection gives its place: it takes nothing more, and closes when it has nothing under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leave {
    /// To this queue,
    hop: u32,
    /// for this host, or any.
    host: Option<SocketAddr>,
    /// After that another one is asked.
    by: Tick,
}

/// How long after an attempt on a host not known to live the next may take the place of one of so many connections: one that
/// hangs has taken the place of work for its whole time.
pub(super) fn patience(options: &Options, hangs: bool, connections: u32) -> Span {
    let attempts = options.connect_wait_alternative.0.saturating_mul(u64::from(PROBE_PART));
    let attempts = Span(attempts / u64::from(connections.max(1)));
    if hangs { options.probe_wait.max(attempts) } else { options.probe_wait }
}

impl Queues {
    /// The place that a connection of this queue would have now, if there is one; else the queue asks for it.
    pub(super) fn place(&mut self, hop_index: u32, host: u32, now: Tick) -> Option<Place> {
        let unproven = self.hops[hop_index as usize].hosts[host as usize].standing != Standing::Alive;
        let ask = Ask { more: self.has_any(hop_index), unproven };
        let place = match self.scheduler.turns.front() {
            // One that was just taken for a host is had by nobody else.
            Some(turn) => (turn.hop == hop_index && turn.host.is_none()).then_some(turn.place),
            None if self.is_full() || self.first_in_line().is_some() => None,
            None if self.scheduler.rate.next() > now => {
                self.scheduler.rate.awaited = true;
                None
            }
            None => Some(Place::Free),
        };
        if place.is_some_and(|place| place == Place::Own || self.may_try(ask)) {
            return place;
        }
        let hop = &mut self.hops[hop_index as usize];
        hop.asks = hop.asks.map_or(Some(ask), |before| Some(before.min(ask)));
        None
    }

    fn has_any(&self, hop: u32) -> bool {
        let hop = &self.hops[hop as usize];
        hop.ready() + hop.connecting() > 0
    }

    fn is_full(&self) -> bool {
        self.links.len() >= self.options.connections_max as usize
    }

    /// Half of all connections at most are being opened to hosts not known to live; those in a queue's own places take
    /// nothing from others, and do not count.
    fn may_try(&self, ask: Ask) -> bool {
        !ask.unproven || self.scheduler.unproven < self.options.connections_max.div_ceil(2)
    }

    /// Opens a connection that a queue cannot do without; in place of an idle one of its own if there is no other place, and
    /// from `busy_at` on of a busy one, which then comes to its end first.
    pub(super) fn open(&mut self, hop: u32, host: u32, busy_at: Tick, now: Tick) -> Option<Action> {
        if !self.hops[hop as usize].is_capped()
            && let Some(action) = self.connect(hop, host, now)
        {
            return Some(action);
        }
        self.make_room(hop, host, now >= busy_at, now);
        None
    }

    fn make_room(&mut self, hop_index: u32, host: u32, busy_too: bool, now: Tick) {
        let hop = &self.hops[hop_index as usize];
        // Those beyond a lowered cap close by themselves.
        let may = !hop.shrinks && hop.ready() > 0 && now >= hop.room_at && self.scheduler.turns.is_empty();
        if !may || self.scheduler.rate.next() > now {
            return;
        }
        let idle = hop.idle_longest(&self.links);
        let giver = idle.or_else(|| busy_too.then(|| self.giver(Some(hop_index), now)).flatten());
        let host = Some(hop.hosts[host as usize].at.address);
        let leave = Leave { hop: hop_index, host, by: now + LEAVE_WAIT };
        let hop = &mut self.hops[hop_index as usize];
        match giver {
            Some(giver) => {
                hop.room_at = leave.by;
                self.give_way(giver, leave, now);
            }
            None if busy_too => hop.room_at = now + PLACE_WAIT,
            None => {}
        }
    }

    /// The connection that costs least when it gives its place: the one that was idle for longest, else of the queue with
    /// most the one that was answered last, which is done first as far as can be known. One that hangs comes last.
    fn giver(&self, own: Option<u32>, now: Tick) -> Option<u32> {
        let cost = |link: &Link| match link.listed == Listed::Idle {
            true => (2, 0, u64::MAX - link.idle_since.0),
            false => {
                let answers = link.answered + LEAVE_WAIT > now;
                (u8::from(answers), self.hops[link.hop as usize].ready(), link.answered.0)
            }
        };
        let may = |link: &Link| match own {
            Some(hop) => link.hop == hop,
            None => link.listed == Listed::Idle || link.since + PLACE_WAIT <= now,
        };
        let stays = |link: &Link| link.phase == Phase::Ready && link.leaves.is_none();
        let links = self.links.iter().filter(|(_, link)| stays(link) && may(link));
        let (index, _) = links.max_by_key(|(_, link)| cost(link))?;
        Some(u32::try_from(index).expect("bounded by the cap"))
    }

    fn give_way(&mut self, index: u32, leave: Leave, now: Tick) {
        self.links[index as usize].leaves = Some(leave);
        self.relist(index, now);
    }

    /// A connection that gave its place is no more.
    pub(super) fn has_left(&mut self, hop: u32, leave: Leave) {
        let own = leave.hop == hop;
        let next = if own { &mut self.hops[hop as usize].room_at } else { &mut self.scheduler.room_at };
        // Unless another was asked instead.
        if *next == leave.by {
            *next = Tick(0);
        }
        let place = if own { Place::Own } else { Place::Given };
        self.scheduler.turns.push_back(Turn { hop: leave.hop, place, host: leave.host });
    }

    /// An attempt in the place of a connection has failed: whoever took the place keeps it for what it wants next.
    pub(super) fn failed_in_place(&mut self, link: &Link, hangs: bool, now: Tick) {
        if link.place == Place::Free {
            return;
        }
        self.scheduler.turns.push_back(Turn { hop: link.hop, place: link.place, host: None });
        if link.place == Place::Given && link.unproven {
            self.scheduler.unproven_at = now + patience(&self.options, hangs, self.options.connections_max);
        }
    }

    /// What was taken for a host is used for it, if that is wanted still.
    pub(super) fn connect_in_turn(&mut self, now: Tick) -> Option<Action> {
        // Whoever was given a place by another queue, and has found one before, leaves it to the line.
        while self.scheduler.turns.front().is_some_and(|turn| turn.place == Place::Given && self.has_any(turn.hop)) {
            self.scheduler.turns.pop_front();
        }
        let turn = self.scheduler.turns.front_mut()?;
        let (hop, wanted) = (turn.hop, turn.host.take()?);
        let state = &self.hops[hop as usize];
        if !state.live || state.in_retry() || state.suspended || state.is_capped() {
            return None;
        }
        // A reload may have put another in its place.
        let (index, host) = (0..).zip(&state.hosts).find(|(_, host)| host.at.address == wanted && !host.retired)?;
        if host.connecting > 0 || host.connect_at > now || (host.ready > 0 && !host.doubted) {
            return None;
        }
        let short = host.standing != Standing::Alive;
        Some(self.order(hop, index, Place::Own, self.connect_wait(short), now))
    }

    /// A queue was looked at: it is in the line when it asks for a place, and only then.
    pub(super) fn line_up(&mut self, index: u32, now: Tick) {
        let hop = &mut self.hops[index as usize];
        let before = hop.waits;
        if hop.asks == before.map(|(ask, _)| ask) {
            return;
        }
        if let Some((ask, since)) = before {
            self.scheduler.line.waiting.remove(&(ask, since, index));
        }
        hop.waits = hop.asks.map(|ask| (ask, before.filter(|(was, _)| was.more == ask.more).map_or(now, |(_, at)| at)));
        if let Some((ask, since)) = hop.waits {
            self.scheduler.line.waiting.insert((ask, since, index));
        }
    }

    pub(super) fn leave_line(&mut self, index: u32) {
        let hop = &mut self.hops[index as usize];
        hop.asks = None;
        if let Some((ask, since)) = hop.waits.take() {
            self.scheduler.line.waiting.remove(&(ask, since, index));
        }
    }

    /// Who has the next free place.
    fn first_in_line(&self) -> Option<u32> {
        if self.scheduler.line.is_empty() {
            return None;
        }
        let first = |more| {
            let asks = [false, true].map(|unproven| Ask { more, unproven });
            asks.into_iter().filter(|&ask| self.may_try(ask)).filter_map(|ask| self.scheduler.line.first(ask)).min()
        };
        first(false).or_else(|| first(true)).map(|(_, hop)| hop)
    }

    /// Nothing else is to be done: whoever waits in the line has a place, if there is one. Whether it has.
    pub(super) fn serve_line(&mut self, now: Tick) -> bool {
        self.scheduler.line_at = Tick::NEVER;
        if self.scheduler.line.is_empty() {
            return false;
        }
        if self.is_full() {
            return self.take_from_others(now);
        }
        let Some(hop) = self.first_in_line() else { return false };
        if self.scheduler.rate.next() > now {
            self.scheduler.rate.awaited = true;
            return false;
        }
        self.leave_line(hop);
        self.scheduler.turns.push_back(Turn { hop, place: Place::Free, host: None });
        true
    }

    /// A queue that has no connection, and has waited for long enough, takes the place of another's. Whether there is
    /// something to do now.
    fn take_from_others(&mut self, now: Tick) -> bool {
        let line = &self.scheduler.line;
        let proven = line.first(Ask { more: false, unproven: false });
        let proven = proven.map(|(since, hop)| (since + PLACE_WAIT, hop));
        let may_try = self.scheduler.unproven < self.options.connections_max.div_ceil(PROBE_PART);
        let unproven = line.first(Ask { more: false, unproven: true }).filter(|_| may_try);
        let unproven = unproven.map(|(since, hop)| ((since + PLACE_WAIT).max(self.scheduler.unproven_at), hop));
        let Some((at, hop)) = proven.into_iter().chain(unproven).min() else { return false };
        let at = at.max(self.scheduler.room_at).max(self.scheduler.rate.next());
        if at > now {
            self.scheduler.line_at = at;
            return false;
        }
        let Some(giver) = self.giver(None, now) else {
            self.scheduler.room_at = now + PLACE_WAIT;
            self.scheduler.line_at = self.scheduler.room_at;
            return false;
        };
        let leave = Leave { hop, host: None, by: now + LEAVE_WAIT };
        self.scheduler.room_at = leave.by;
        self.give_way(giver, leave, now);
        true
    }
}
