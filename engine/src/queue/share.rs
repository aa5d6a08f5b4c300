//! Work between shards: what a queue has beyond what its own connections take is lent to others, and what others lend is
//! taken by connections that have room.
//!
//! A shard's part of a queue is in one of these, as far as others are concerned:
//! ```text
//! backlog beyond its own connections   Action::Lend   to whoever waits; else it is told when somebody does
//! nothing waits, and there is room     Action::Await  tickets of others
//! it has connections, or none any more Action::Serve  whoever has none to hope for, and lends to the busy too
//! in Retry, suspended, not routed      Action::Leave  takes nothing any more
//! ```
//! Each is said once, when it begins to hold. Nothing is said where [`Options::lent_max`] is 0, on a server of one shard.
//!
//! Connections that never run out of messages of their own shard take as many of others in turn (I-5): a shard whose part of
//! the connections is none would else keep its mail for as long as the other is busy.

use super::Queues;
use super::destination::{Hop, HopId};
use super::link::{ConnId, Phase};
use super::options::Options;
use super::outcome::Outcome;
use super::scheduler::{Action, Room, Taken};
use crate::wire::Tick;

/// Messages that one queue lends at once, at most.
pub const LENT_PER_HOP_MAX: u32 = 64;

/// Octets that are lent in one go, at most; a single message may have more.
const LENT_BYTES_MAX: u64 = 4 << 20;

/// What of a shared ring concerns one shard, as it looks into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingView {
    /// Tickets in it.
    pub tickets: u32,
    /// This shard waits for tickets, and nobody has chosen to wake it.
    pub awaiting: bool,
    /// This shard has asked for somebody to lend to, and nobody has woken it for that.
    pub asking: bool,
    /// This shard is known to have connections.
    pub serving: bool,
}

/// What others see of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sharing {
    /// Messages lent and not yet returned.
    pub lent: u32,
    /// Tickets of the ring that wait for a connection of ours, as far as we know.
    pub offered: u32,
    /// `Action::Lend` was said,
    asking: bool,
    /// and that nothing leaves by connections of our own: then whoever is busy is asked too.
    asked_needy: bool,
    /// `Action::Await` was said.
    awaiting: bool,
    /// `Action::Serve` was said.
    serving: bool,
    /// Messages of others whose turn it is, before more of our own: as many as were taken of these, within bounds.
    turn: u32,
    /// Until less is lent by all queues.
    waits: bool,
}

impl Queues {
    /// This many connections at most to this destination, from this shard; none: all it has is lent.
    pub fn limit(&mut self, hop: HopId, connections: u32) {
        let state = &mut self.hops[hop.0 as usize];
        state.cap = connections;
        state.limit.cap_at(connections);
        state.shrinks = state.ready() + state.connecting() > connections;
        self.shrink(hop.0);
        self.mark(hop.0);
    }

    /// Messages that are lent now if asked for: those beyond what this shard's own connections take, within bounds.
    pub fn lendable(&self, hop: HopId) -> u32 {
        let state = &self.hops[hop.0 as usize];
        let room = LENT_PER_HOP_MAX.saturating_sub(state.sharing.lent);
        state.beyond(&self.options).min(room).min(self.options.lent_max.saturating_sub(self.scheduler.lent))
    }

    /// Messages for the hot ring, from where connections of other shards take them; reported as if sent from here. How many.
    pub fn lend(&mut self, hop: HopId, most: u32, now: Tick, out: &mut Vec<Taken>) -> usize {
        let room = Room { messages: most, bytes: LENT_BYTES_MAX };
        let count = self.take_some(hop.0, room, super::entry::NONE, now, out);
        self.hops[hop.0 as usize].sharing.lent += count;
        self.scheduler.lent += count;
        count as usize
    }

    /// What was lendable is in the ring: `Action::Lend` is said again when there is more.
    pub fn has_lent(&mut self, hop: HopId) {
        self.hops[hop.0 as usize].sharing.asking = false;
        self.mark(hop.0);
    }

    /// So many tickets of other shards wait for this queue's connections now.
    pub fn offered_by_others(&mut self, hop: HopId, count: u32) {
        self.hops[hop.0 as usize].sharing.offered = count;
        self.mark(hop.0);
    }

    /// A look into the queue's ring, after this shard was woken: whatever it was chosen for is begun again.
    pub fn saw_ring(&mut self, hop: HopId, view: RingView) {
        let sharing = &mut self.hops[hop.0 as usize].sharing;
        let seen = Sharing {
            offered: view.tickets,
            asking: sharing.asking && view.asking,
            awaiting: sharing.awaiting && view.awaiting,
            serving: sharing.serving && view.serving,
            ..*sharing
        };
        if *sharing != seen {
            *sharing = seen;
            self.mark(hop.0);
        }
    }

    /// Whether tickets of others would leave by this shard now.
    pub fn serves_others(&self, hop: HopId) -> bool {
        self.hops[hop.0 as usize].serves_others()
    }

    /// The queue that a connection belongs to, and how many tickets of others it may take now: while messages of our own wait,
    /// as many as were taken of these since.
    pub fn room_for_others(&self, conn: ConnId, now: Tick) -> Option<(HopId, u32)> {
        let link = &self.links[self.link(conn)? as usize];
        let hop = &self.hops[link.hop as usize];
        let host = &hop.hosts[link.host as usize];
        let turn = match hop.queued() {
            0 if hop.sharing.offered > 0 => u32::MAX,
            0 => 0,
            _ => hop.sharing.turn,
        };
        let serves = link.phase == Phase::Ready && !hop.suspended && turn > 0;
        if !serves || link.leaves.is_some() || hop.is_over_cap() || !hop.admits(host, &self.options, now) {
            return None;
        }
        let left = self.options.messages_per_connection.saturating_sub(link.taken);
        Some((HopId(link.hop), link.room().min(left).min(host.room()).min(turn)))
    }

    /// Messages of our own were taken: it is the turn of others.
    pub(super) fn took_own(&mut self, hop: u32, count: u32) {
        if self.options.lent_max > 0 {
            let turn = &mut self.hops[hop as usize].sharing.turn;
            *turn = turn.saturating_add(count).min(LENT_PER_HOP_MAX);
        }
    }

    /// Whether this queue's messages can only leave by connections of other shards, for now.
    pub fn is_needy(&self, hop: HopId) -> bool {
        self.hops[hop.0 as usize].is_needy()
    }

    /// A connection took `count` tickets of other shards: they use its room.
    pub fn borrowed(&mut self, conn: ConnId, count: u32, now: Tick) {
        let Some(index) = self.link(conn) else { return };
        let link = &mut self.links[index as usize];
        let hop = &mut self.hops[link.hop as usize];
        hop.promised -= std::mem::take(&mut link.promised);
        hop.sharing.turn = hop.sharing.turn.saturating_sub(count);
        hop.hosts[link.host as usize].on_taken(count, now);
        link.load += count;
        link.taken = link.taken.saturating_add(count);
        self.relist(index, now);
    }

    /// One borrowed ticket, taken at `taken`, ended so on this connection. Its owner is told elsewhere.
    pub fn returned(&mut self, conn: ConnId, outcome: Outcome, taken: Tick, now: Tick) {
        let Some(index) = self.link(conn) else { return };
        self.unload(index, outcome, taken, now);
    }

    /// A lent message has come back.
    pub(super) fn lent_came_back(&mut self, hop: u32) {
        self.hops[hop as usize].sharing.lent -= 1;
        self.scheduler.lent -= 1;
        if self.scheduler.lent + 1 == self.options.lent_max {
            while let Some(hop) = self.scheduler.lenders.pop_front() {
                self.hops[hop as usize].sharing.waits = false;
                self.mark(hop);
            }
        }
    }

    /// What is to be said to other shards, if anything.
    pub(super) fn share(&mut self, index: u32) -> Option<Action> {
        if self.options.lent_max == 0 {
            return None;
        }
        let hop = HopId(index);
        let lendable = self.lendable(hop);
        let state = &mut self.hops[index as usize];
        if self.scheduler.lent >= self.options.lent_max && state.beyond(&self.options) > 0 && !state.sharing.waits {
            state.sharing.waits = true;
            self.scheduler.lenders.push_back(index);
        }
        let more_needy = state.is_needy() && !state.sharing.asked_needy;
        if lendable > 0 && (!state.sharing.asking || more_needy) {
            (state.sharing.asking, state.sharing.asked_needy) = (true, state.is_needy());
            return Some(Action::Lend { hop });
        }
        let serves = state.can_serve() && state.ready() > 0;
        if serves != state.sharing.serving {
            state.sharing.serving = serves;
            return Some(Action::Serve { hop, serves });
        }
        if state.sharing.awaiting && !state.can_serve() {
            state.sharing.awaiting = false;
            return Some(Action::Leave { hop });
        }
        if !state.sharing.awaiting && state.sharing.offered == 0 && state.serves_others() {
            state.sharing.awaiting = true;
            return Some(Action::Await { hop });
        }
        None
    }
}

impl Hop {
    /// Messages beyond what connections of this shard take before long.
    fn beyond(&self, options: &Options) -> u32 {
        let queued = self.queued();
        if queued == 0 || self.suspended || !self.pinned {
            return 0;
        }
        if self.is_needy() {
            return queued;
        }
        if self.may_open() {
            return 0;
        }
        queued.saturating_sub(self.room().saturating_add(self.work_per_connection(options)))
    }

    fn is_needy(&self) -> bool {
        self.in_retry() || self.cap == 0
    }

    /// Whether messages of others have anything to hope for here.
    fn can_serve(&self) -> bool {
        let hosts = self.hosts.iter().any(|host| !host.retired);
        self.pinned && !self.suspended && !self.in_retry() && self.cap > 0 && hosts
    }

    fn serves_others(&self) -> bool {
        self.queued() == 0 && self.can_serve() && (self.room() > 0 || self.may_open())
    }

    fn may_open(&self) -> bool {
        self.ready() + self.connecting() < self.limit.allowed().min(self.cap)
    }

    /// Messages that its connections could take now.
    fn room(&self) -> u32 {
        let usable = self.hosts.iter().filter(|host| host.is_usable());
        let room = |window: u32, load: u32| window.saturating_sub(load);
        usable.map(|host| host.room().min(room(host.ready.saturating_mul(self.window), host.load))).sum()
    }
}
