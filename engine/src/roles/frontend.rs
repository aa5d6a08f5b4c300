//! The front end's decisions: which hub takes the next message, and which hubs are thought to live.
//!
//! A hub that fails is left alone for a while that doubles; whatever works again is used again at once. Among the healthy
//! ones the least loaded is taken, so that a slow one gets little.

use super::{judge, relay_policy};
use crate::route::RelayPolicy;
use crate::settings::Settings;
use crate::smtp::server::{Policy, SessionFacts};
use crate::sys::slice::Budget;
use crate::wire::{RecipientRef, Refusal, ReversePathRef, Span, Tick};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a client is told when no hub takes mail (F-100).
pub const NO_HUB: Refusal = Refusal::fixed(451, (4, 4, 0), "No hub is available; try again later");
const NO_MEMORY: Refusal = Refusal::fixed(452, (4, 3, 1), "Insufficient system resources");
/// New mail is refused when so many hundredths of the memory budget are in use (F-040).
const REFUSE_PERCENT: u32 = 90;
/// The first wait before a dead hub is tried again, and the longest (F-101: one probe).
const PROBE_FIRST: Span = Span::millis(50);
const PROBE_LAST: Span = Span::seconds(1);

/// One hub, as a front end sees it.
#[derive(Debug, Clone, Copy)]
pub struct Hub {
    /// Where it listens.
    pub address: SocketAddr,
    /// Messages under way to it.
    pub load: u32,
    dead: bool,
    /// A dead hub is tried again then.
    probe_at: Tick,
    wait: Span,
}

/// All hubs behind a front end.
#[derive(Debug, Default)]
pub struct Hubs {
    hubs: Vec<Hub>,
    /// Where the next search begins, so that equals take turns.
    turn: usize,
}

impl Hubs {
    /// Takes over a list of addresses; hubs that stay keep their health.
    pub fn install(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let known = std::mem::take(&mut self.hubs);
        self.hubs = addresses
            .into_iter()
            .map(|address| {
                let fresh = Hub { address, load: 0, dead: false, probe_at: Tick(0), wait: PROBE_FIRST };
                known.iter().find(|hub| hub.address == address).copied().unwrap_or(fresh)
            })
            .collect();
    }

    /// The hub for the next message: the least loaded that is healthy, else a dead one whose time has come. `None`: refuse.
    pub fn choose(&mut self, now: Tick) -> Option<SocketAddr> {
        let count = self.hubs.len();
        let usable = |hub: &Hub| !hub.dead || hub.probe_at <= now;
        let order = (0..count).map(|step| (self.turn + step) % count);
        let best = order.filter(|&index| usable(&self.hubs[index])).min_by_key(|&index| {
            let hub = &self.hubs[index];
            // A probe that is due goes first: its message moves on when it fails, and without it nobody would come back.
            (!hub.dead, hub.load)
        })?;
        self.turn = (best + 1) % count;
        let hub = &mut self.hubs[best];
        if hub.dead {
            // One message probes; the others wait for how it ends.
            hub.probe_at = now + hub.wait;
        }
        Some(hub.address)
    }

    /// Whether any hub may be tried.
    pub fn any_usable(&self, now: Tick) -> bool {
        self.hubs.iter().any(|hub| !hub.dead || hub.probe_at <= now)
    }

    /// A message was given to this hub (`+1`), or ended there (`-1`).
    pub fn add_load(&mut self, address: SocketAddr, by: i32) {
        if let Some(hub) = self.hubs.iter_mut().find(|hub| hub.address == address) {
            hub.load = hub.load.saturating_add_signed(by);
        }
    }

    /// A connection to it failed or broke.
    pub fn failed(&mut self, address: SocketAddr, now: Tick) {
        if let Some(hub) = self.hubs.iter_mut().find(|hub| hub.address == address) {
            hub.wait = if hub.dead { Span((hub.wait.0 * 2).min(PROBE_LAST.0)) } else { PROBE_FIRST };
            hub.dead = true;
            hub.probe_at = now + hub.wait;
        }
    }

    /// A session with it works.
    pub fn works(&mut self, address: SocketAddr) {
        if let Some(hub) = self.hubs.iter_mut().find(|hub| hub.address == address) {
            hub.dead = false;
        }
    }

    /// Every hub, for reports.
    pub fn iter(&self) -> impl Iterator<Item = (&Hub, bool)> {
        self.hubs.iter().map(|hub| (hub, !hub.dead))
    }
}

/// Judges what clients ask of a front end: from snapshots, since it keeps nothing.
#[derive(Debug)]
pub struct FrontEndPolicy {
    relay: RelayPolicy,
    budget: Arc<Budget>,
    /// Whether any hub may be tried; kept up to date by the shell.
    pub has_hub: Cell<bool>,
}

impl FrontEndPolicy {
    /// A policy by these settings.
    pub fn new(settings: &Settings, budget: Arc<Budget>) -> Self {
        Self { relay: relay_policy(&settings.access), budget, has_hub: Cell::new(true) }
    }
}

impl Policy for FrontEndPolicy {
    fn mail(&self, _: &SessionFacts, _: ReversePathRef<'_>) -> Result<(), Refusal> {
        if self.has_hub.get() { Ok(()) } else { Err(NO_HUB) }
    }

    fn rcpt(&self, session: &SessionFacts, _: ReversePathRef<'_>, to: RecipientRef<'_>) -> Result<(), Refusal> {
        judge(&self.relay, session, to)
    }

    fn room(&self, _: u64) -> Result<(), Refusal> {
        if self.budget.percent() >= REFUSE_PERCENT { Err(NO_MEMORY) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hubs(ports: &[u16]) -> Hubs {
        let mut hubs = Hubs::default();
        hubs.install(ports.iter().map(|&port| ([127, 0, 0, 1], port).into()));
        hubs
    }

    #[test]
    fn equals_take_turns_and_the_busy_one_waits() {
        let mut hubs = hubs(&[1, 2]);
        let ports: Vec<u16> = (0..4).filter_map(|_| hubs.choose(Tick(0))).map(|hub| hub.port()).collect();
        assert_eq!(ports, [1, 2, 1, 2]);
        hubs.add_load(([127, 0, 0, 1], 1).into(), 5);
        assert!((0..3).all(|_| hubs.choose(Tick(0)).is_some_and(|hub| hub.port() == 2)));
    }

    #[test]
    fn f_100_f_101_a_dead_hub_is_probed_by_one_message_at_a_time_and_returns_at_once() {
        let mut hubs = hubs(&[1]);
        let hub = hubs.choose(Tick(0)).expect("healthy");
        hubs.failed(hub, Tick(0));
        assert!(!hubs.any_usable(Tick(0)));
        assert_eq!(hubs.choose(Tick(0)), None);
        let later = Tick(0) + PROBE_FIRST;
        assert_eq!(hubs.choose(later), Some(hub));
        assert_eq!(hubs.choose(later), None, "one probes");
        hubs.failed(hub, later);
        assert_eq!(hubs.choose(later + PROBE_FIRST), None, "the wait has doubled");
        hubs.works(hub);
        assert!(hubs.choose(later).is_some());
    }
}
