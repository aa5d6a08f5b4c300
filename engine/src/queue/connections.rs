//! Connections from the order to open one until it is forgotten: which host, which caps, and the list that each waits in.

use super::Queues;
use super::destination::HopId;
use super::entry::NONE;
use super::health::Standing;
use super::link::{ConnId, Link, Listed, Phase};
use super::places::Place;
use super::scheduler::Action;
use crate::wire::{Span, Tick};

impl Queues {
    pub(super) fn link(&self, conn: ConnId) -> Option<u32> {
        self.links.get(conn.index as usize).filter(|link| link.serial == conn.serial).map(|_| conn.index)
    }

    pub(super) fn conn(&self, index: u32) -> ConnId {
        ConnId { index, serial: self.links[index as usize].serial }
    }

    /// Whether the hop's own numbers ask for another connection.
    pub(super) fn wants_connection(&mut self, hop: u32, now: Tick) -> bool {
        let hop = &mut self.hops[hop as usize];
        if hop.is_capped() {
            return false;
        }
        // Connections of hosts that take nothing, and attempts that hang, do not count: others must be tried.
        let useful: u32 =
            hop.hosts.iter().filter(|host| hop.admits(host, &self.options, now)).map(|host| host.ready).sum();
        let fresh: u32 = hop.hosts.iter().map(|host| host.fresh).sum();
        // Work that is done side by side is spread over all good hosts, so that losing one loses little.
        let work = hop.work();
        let desired = work.div_ceil(self.options.work_per_connection.max(1)).max(work.min(hop.equals()));
        if useful + fresh >= desired {
            return false;
        }
        if useful + fresh >= hop.limit.allowed() {
            hop.limit.press();
            return false;
        }
        true
    }

    /// The caps hold for probes too: one of several connections gives its place while there is nothing to do, and any of them
    /// when the probe has waited for long (F-091).
    pub(super) fn probe(&mut self, hop: u32, host: u32, now: Tick) -> Option<Action> {
        let state = &self.hops[hop as usize];
        let spare = state.waiting() <= state.promised && state.ready() > 1;
        let turn = state.probe_turn(&state.hosts[host as usize], &self.options);
        if state.is_probing() || (now < turn && !spare) {
            return if state.is_capped() { None } else { self.connect(hop, host, now) };
        }
        self.open(hop, host, turn, now)
    }

    /// Orders a connection, if there is a place for it.
    pub(super) fn connect(&mut self, hop_index: u32, host_index: u32, now: Tick) -> Option<Action> {
        let place = self.place(hop_index, host_index, now)?;
        let hop = &self.hops[hop_index as usize];
        let others = hop.hosts.iter().any(|host| host.ready > 0 && host.is_usable());
        let short = others || !self.scheduler.line.is_empty();
        Some(self.order(hop_index, host_index, place, self.connect_wait(short), now))
    }

    /// How long an attempt may take: less where others can be had instead, or wait for its place.
    pub(super) fn connect_wait(&self, short: bool) -> Span {
        let wait = self.options.connect_wait;
        if short { wait.min(self.options.connect_wait_alternative) } else { wait }
    }

    /// Orders a connection in a place that is there for it, to be open within `wait`.
    pub(super) fn order(&mut self, hop_index: u32, host_index: u32, place: Place, wait: Span, now: Tick) -> Action {
        self.leave_line(hop_index);
        if self.scheduler.turns.pop_front_if(|turn| turn.hop == hop_index).is_some() {
            // What else it wants is looked at when others have had their turn.
            self.mark(hop_index);
        }
        self.scheduler.rate.take(now);
        self.scheduler.serial = self.scheduler.serial.wrapping_add(1);
        let hop = &mut self.hops[hop_index as usize];
        let host = &mut hop.hosts[host_index as usize];
        let unproven = host.standing != Standing::Alive && place != Place::Own;
        self.scheduler.unproven += u32::from(unproven);
        let link = Link { place, ..Link::new(self.scheduler.serial, hop_index, host_index, unproven, now) };
        let conn = ConnId {
            index: u32::try_from(self.links.insert(link)).expect("bounded by the cap"),
            serial: self.scheduler.serial,
        };
        self.scheduler.attempts.push_back((now + self.options.attempt_stagger, conn));
        hop.rotation = hop.rotation.wrapping_add(1);
        hop.totals.connects += 1;
        host.connecting += 1;
        host.fresh += 1;
        host.tried = hop.round;
        if host.standing == Standing::Dead {
            host.connect_at = now + host.probe_wait(&self.options);
            hop.probed = now;
        }
        Action::Connect { conn, hop: HopId(hop_index), host: host.at, by: now + wait }
    }

    /// An attempt has been under way for so long that others are tried beside it.
    pub(super) fn attempt_is_stale(&mut self, conn: ConnId) {
        let Some(index) = self.link(conn) else { return };
        let link = &mut self.links[index as usize];
        if link.phase == (Phase::Connecting { fresh: true }) {
            link.phase = Phase::Connecting { fresh: false };
            let hop = link.hop;
            self.hops[hop as usize].hosts[link.host as usize].fresh -= 1;
            self.mark(hop);
        }
    }

    /// Takes a connection out of the counts of attempts.
    pub(super) fn end_attempt(&mut self, index: u32) {
        let link = &self.links[index as usize];
        let Phase::Connecting { fresh } = link.phase else { return };
        let host = &mut self.hops[link.hop as usize].hosts[link.host as usize];
        host.connecting -= 1;
        host.fresh -= u32::from(fresh);
        if link.unproven {
            self.scheduler.unproven -= 1;
        }
    }

    /// A connection is no more.
    pub(super) fn forget_link(&mut self, index: u32) -> Link {
        self.unlist(index);
        self.end_attempt(index);
        let link = self.links.remove(index as usize);
        let hop = &mut self.hops[link.hop as usize];
        hop.promised -= link.promised;
        hop.errands -= u32::from(link.errand);
        let host = &mut hop.hosts[link.host as usize];
        host.load -= link.load;
        if link.phase == Phase::Ready {
            host.ready -= 1;
        }
        hop.shrinks &= hop.ready() + hop.connecting() > hop.cap;
        if let Some(leave) = link.leaves {
            self.has_left(link.hop, leave);
        }
        link
    }

    pub(super) fn close(&mut self, index: u32) {
        let conn = self.conn(index);
        let link = self.forget_link(index);
        self.mark(link.hop);
        self.scheduler.closing.push_back((conn, link));
    }

    pub(super) fn unlist(&mut self, index: u32) {
        let link = &mut self.links[index as usize];
        let listed = std::mem::replace(&mut link.listed, Listed::Nowhere);
        let host = &mut self.hops[link.hop as usize].hosts[link.host as usize];
        match listed {
            Listed::Nowhere => {}
            Listed::Idle => host.idle.remove(&mut self.links, index),
            Listed::Roomy => host.roomy.remove(&mut self.links, index),
        }
    }

    /// Puts a connection into the list that its load asks for, or closes it when it is spent.
    pub(super) fn relist(&mut self, index: u32, now: Tick) {
        let link = &self.links[index as usize];
        if link.phase != Phase::Ready || link.promised > 0 {
            return;
        }
        let hop = &self.hops[link.hop as usize];
        let host = &hop.hosts[link.host as usize];
        let used_up = link.taken >= self.options.messages_per_connection;
        let spent = used_up || link.leaves.is_some() || host.retired || hop.is_over_cap();
        let wanted = match link.load {
            0 if spent => return self.close(index),
            0 => Listed::Idle,
            _ if !spent && link.room() > 0 => Listed::Roomy,
            _ => Listed::Nowhere,
        };
        if link.listed == wanted {
            return;
        }
        self.unlist(index);
        let link = &mut self.links[index as usize];
        link.listed = wanted;
        let host = &mut self.hops[link.hop as usize].hosts[link.host as usize];
        match wanted {
            Listed::Nowhere => {}
            Listed::Idle => {
                link.idle_since = now;
                host.idle.push_front(&mut self.links, index);
            }
            Listed::Roomy => host.roomy.push_back(&mut self.links, index),
        }
    }

    /// Closes what a host that is no longer configured keeps open for nothing.
    pub(super) fn close_idle_of_retired(&mut self, hop: u32) {
        for host in 0..self.hops[hop as usize].hosts.len() {
            while self.hops[hop as usize].hosts[host].retired && !self.hops[hop as usize].hosts[host].idle.is_empty() {
                let index = self.hops[hop as usize].hosts[host].idle.head;
                self.close(index);
            }
        }
    }

    /// Closes what a queue keeps open for nothing beyond its cap, the longest idle first; others close when they have nothing
    /// under way any more, and take nothing before.
    pub(super) fn shrink(&mut self, hop: u32) {
        while self.hops[hop as usize].is_over_cap()
            && let Some(index) = self.hops[hop as usize].idle_longest(&self.links)
        {
            self.close(index);
        }
    }

    pub(super) fn close_idle(&mut self, hop: u32, host: usize, now: Tick) {
        loop {
            let oldest = self.hops[hop as usize].hosts[host].idle.tail;
            if oldest == NONE || now.since(self.links[oldest as usize].idle_since) < self.options.idle_wait {
                return;
            }
            self.close(oldest);
        }
    }

    /// Closes up to `most` connections that nothing uses, whatever their hop: descriptors are short (F-038). How many it
    /// was.
    pub fn shed_idle(&mut self, most: usize) -> usize {
        let mut shed = 0;
        for hop in 0..self.hops.len() {
            for host in 0..self.hops[hop].hosts.len() {
                while shed < most && self.hops[hop].hosts[host].idle.tail != NONE {
                    let oldest = self.hops[hop].hosts[host].idle.tail;
                    self.close(oldest);
                    shed += 1;
                }
            }
        }
        shed
    }
}
