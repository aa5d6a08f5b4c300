//! The front end's decisions: which hub takes the next message, and which hubs are thought to live.
//!
//! A hub that fails gets no message until a connection made for nothing else has found it alive: looked for after a while
//! that doubles, so no message ever waits to learn whether a dead hub is back. Among the healthy ones the least loaded is
//! taken, so that a slow one gets little, and one that has gone silent over what it was given none. One that is silent for long
//! is looked for like a dead one: it may be the way to it that was cut, and is whole again long before TCP asks again.

use super::{judge, relay_policy};
use crate::queue::Cause;
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
/// Of hubs that have all owed answers for so long, nobody knows whether they live: no mail is taken for them.
const SILENT_MAX: Span = Span::seconds(5);
/// After a want of our own another hub is taken for so long, if there is one.
const SHORT_WAIT: Span = Span::millis(100);
/// Between two words about one hub in the log.
const TELL_EVERY: Span = Span::seconds(1);

/// One hub, as a front end sees it.
#[derive(Debug, Clone, Copy)]
pub struct Hub {
    /// Where it listens.
    pub address: SocketAddr,
    /// Messages under way to it.
    pub load: u32,
    /// It owes answers and has said nothing for a while, as was first seen then.
    silent: Option<Tick>,
    /// When it was last found although it was silent: what connections owe that have heard nothing since is lost on its way.
    found_at: Tick,
    /// It has answered a message since. Who greets and answers none is found once, and not again.
    answered: bool,
    dead: bool,
    /// We lacked what a connection to it takes, and look elsewhere first until then (F-039).
    short_until: Tick,
    /// A session with it worked, ever.
    pub was_reached: bool,
    /// Why the last connection to it failed or broke, until one works.
    pub last_error: Option<Cause>,
    /// A dead hub is looked for then; never while somebody looks.
    probe_at: Tick,
    wait: Span,
    /// Whether it was last told that the hub is dead, and when.
    told: (bool, Tick),
}

impl Hub {
    /// Whether it is not silent, or was not for long.
    fn speaks(&self, now: Tick) -> bool {
        self.silent.is_none_or(|since| now.since(since) < SILENT_MAX)
    }
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
                let fresh = Hub {
                    address,
                    load: 0,
                    silent: None,
                    found_at: Tick(0),
                    answered: true,
                    dead: false,
                    short_until: Tick(0),
                    was_reached: false,
                    last_error: None,
                    probe_at: Tick(0),
                    wait: PROBE_FIRST,
                    told: (false, Tick(0)),
                };
                known.iter().find(|hub| hub.address == address).copied().unwrap_or(fresh)
            })
            .collect();
    }

    fn hub(&mut self, address: SocketAddr) -> Option<&mut Hub> {
        self.hubs.iter_mut().find(|hub| hub.address == address)
    }

    /// The hub for the next message: the least loaded that is healthy and can be reached. `None`: refuse.
    pub fn choose(&mut self, now: Tick) -> Option<SocketAddr> {
        let count = self.hubs.len();
        let order = (0..count).map(|step| (self.turn + step) % count);
        let best = order.filter(|&index| !self.hubs[index].dead).min_by_key(|&index| {
            let hub = &self.hubs[index];
            (hub.silent.is_some(), now < hub.short_until, hub.load)
        })?;
        self.turn = (best + 1) % count;
        Some(self.hubs[best].address)
    }

    /// Whether any hub may be given a message: one that lives, and has not kept silent for too long (F-100).
    pub fn any_usable(&self, now: Tick) -> bool {
        self.hubs.iter().any(|hub| !hub.dead && hub.speaks(now))
    }

    /// Whether a hub beside this one may be given messages and answers.
    pub fn is_another_well(&self, address: SocketAddr) -> bool {
        self.hubs.iter().any(|hub| hub.address != address && !hub.dead && hub.silent.is_none())
    }

    /// A hub that is dead or silent for too long, whose time to be looked for has come. What is found is told by
    /// [`Hubs::failed`] or [`Hubs::greets`].
    pub fn probe(&mut self, now: Tick) -> Option<SocketAddr> {
        let hub = self.hubs.iter_mut().find(|hub| (hub.dead || !hub.speaks(now)) && hub.probe_at <= now)?;
        hub.probe_at = Tick::NEVER;
        Some(hub.address)
    }

    /// Whether this hub owes answers and says nothing.
    pub fn set_silent(&mut self, address: SocketAddr, silent: bool, now: Tick) {
        if let Some(hub) = self.hub(address) {
            if !silent && hub.silent.is_some() && !hub.dead {
                hub.probe_at = Tick(0);
            }
            hub.silent = silent.then(|| hub.silent.unwrap_or(now));
        }
    }

    /// A message was given to this hub (`+1`), or ended there (`-1`).
    pub fn add_load(&mut self, address: SocketAddr, by: i32) {
        if let Some(hub) = self.hub(address) {
            hub.load = hub.load.saturating_add_signed(by);
        }
    }

    /// A connection to it failed or broke. What this server lacks is not its fault (F-039): it stays what it was.
    pub fn failed(&mut self, address: SocketAddr, why: Cause, now: Tick) {
        let Some(hub) = self.hub(address) else { return };
        hub.last_error = Some(why);
        let looked = hub.probe_at == Tick::NEVER;
        if why == Cause::Short {
            hub.short_until = now + SHORT_WAIT;
            if looked {
                hub.probe_at = now + hub.wait;
            }
            return;
        }
        // Of several connections that break when it dies, the first counts.
        if !hub.dead || looked {
            hub.wait = if hub.dead { Span((hub.wait.0 * 2).min(PROBE_LAST.0)) } else { PROBE_FIRST };
            hub.dead = true;
            hub.probe_at = now + hub.wait;
        }
    }

    /// A session with it has begun. If it was silent, and had answered before, its silence was that of its way.
    pub fn greets(&mut self, address: SocketAddr, now: Tick) {
        if let Some(hub) = self.hub(address) {
            hub.dead = false;
            hub.was_reached = true;
            hub.short_until = Tick(0);
            hub.last_error = None;
            if hub.silent.is_some() && hub.answered {
                (hub.silent, hub.found_at, hub.answered) = (None, now, false);
            }
            // One that stays silent is there: nobody need look for it until it has spoken.
            hub.probe_at = if hub.silent.is_some() { Tick::NEVER } else { Tick(0) };
        }
    }

    /// It has said what became of a message.
    pub fn answers(&mut self, address: SocketAddr) {
        if let Some(hub) = self.hub(address) {
            hub.dead = false;
            hub.last_error = None;
            hub.answered = true;
        }
    }

    /// When this hub was last found in its silence.
    pub fn found_at(&self, address: SocketAddr) -> Tick {
        self.hubs.iter().find(|hub| hub.address == address).map_or(Tick(0), |hub| hub.found_at)
    }

    /// Deaths and returns that nobody was told of, of each hub once in [`TELL_EVERY`] at most: one that dies again and again
    /// fills no log.
    pub fn news(&mut self, now: Tick, mut tell: impl FnMut(&Hub, bool)) {
        for hub in &mut self.hubs {
            if hub.dead != hub.told.0 && now >= hub.told.1 {
                hub.told = (hub.dead, now + TELL_EVERY);
                tell(hub, hub.dead);
            }
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

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn hubs(ports: &[u16]) -> Hubs {
        let mut hubs = Hubs::default();
        hubs.install(ports.iter().map(|&port| address(port)));
        hubs
    }

    #[test]
    fn f_039_what_a_front_end_lacks_makes_no_hub_dead_and_does_not_end_the_looking_for_one() {
        let (mut two, now) = (hubs(&[1, 2]), Tick(0));
        two.add_load(address(1), 5);
        two.failed(address(2), Cause::Short, now);
        assert_eq!(two.choose(now), Some(address(1)), "it has connections");
        assert_eq!(two.choose(now + SHORT_WAIT), Some(address(2)), "another try");
        let mut hubs = hubs(&[1]);
        hubs.failed(address(1), Cause::Short, now);
        assert_eq!((hubs.choose(now), hubs.any_usable(now)), (Some(address(1)), true));
        hubs.failed(address(1), Cause::Refused, now);
        let look = now + PROBE_FIRST;
        assert_eq!((hubs.choose(now), hubs.probe(look)), (None, Some(address(1))));
        hubs.failed(address(1), Cause::Short, look);
        assert_eq!((hubs.choose(now), hubs.probe(look)), (None, None), "nobody has found it");
        assert_eq!(hubs.probe(look + PROBE_FIRST), Some(address(1)), "it is looked for again, no later than before");
    }

    #[test]
    fn i_10_a_hub_that_dies_again_and_again_is_told_of_once_a_second() {
        let mut hubs = hubs(&[1, 2]);
        let mut told = Vec::new();
        for ms in 0..2500 {
            let now = Tick(0) + Span::millis(ms);
            match ms % 2 {
                0 => hubs.failed(address(1), Cause::Mail(503), now),
                _ => hubs.greets(address(1), now),
            }
            hubs.news(now, |hub, dead| told.push((hub.address.port(), dead, ms)));
        }
        assert_eq!(told, [(1, true, 0), (1, false, 1001), (1, true, 2002)]);
    }

    #[test]
    fn equals_take_turns_and_the_busy_one_waits() {
        let mut hubs = hubs(&[1, 2]);
        let ports: Vec<u16> = (0..4).filter_map(|_| hubs.choose(Tick(0))).map(|hub| hub.port()).collect();
        assert_eq!(ports, [1, 2, 1, 2]);
        hubs.add_load(address(1), 5);
        assert!((0..3).all(|_| hubs.choose(Tick(0)) == Some(address(2))));
        hubs.set_silent(address(2), true, Tick(0));
        assert!((0..3).all(|_| hubs.choose(Tick(0)) == Some(address(1))), "who says nothing gets nothing");
        assert!(hubs.is_another_well(address(2)) && !hubs.is_another_well(address(1)));
        hubs.set_silent(address(1), true, Tick(1));
        assert!(hubs.choose(Tick(0)).is_some(), "a silent hub is better than none");
        hubs.set_silent(address(1), true, Tick(0) + SILENT_MAX);
        assert!(hubs.any_usable(Tick(0) + SILENT_MAX), "the one may speak yet");
        assert!(!hubs.any_usable(Tick(1) + SILENT_MAX), "silence counts from when it began");
        hubs.set_silent(address(2), false, Tick(1) + SILENT_MAX);
        assert!(hubs.any_usable(Tick(1) + SILENT_MAX));
    }

    #[test]
    fn f_101_a_hub_that_is_silent_for_long_is_looked_for_and_is_dead_if_it_is_not_found() {
        let mut hubs = hubs(&[1]);
        hubs.set_silent(address(1), true, Tick(1));
        assert_eq!(hubs.probe(Tick(0) + SILENT_MAX), None, "it may speak yet");
        let late = Tick(1) + SILENT_MAX;
        assert_eq!([hubs.probe(late), hubs.probe(late + PROBE_LAST)], [Some(address(1)), None], "one looks");
        hubs.greets(address(1), late);
        assert!(hubs.any_usable(late) && hubs.probe(late).is_none(), "it was found");
        assert_eq!(hubs.found_at(address(1)), late);
        hubs.answers(address(1));
        hubs.set_silent(address(1), true, late);
        assert_eq!(hubs.probe(late + SILENT_MAX), Some(address(1)));
        hubs.failed(address(1), Cause::TimedOut, late + SILENT_MAX);
        assert!(hubs.choose(Tick(0)).is_none());
        assert_eq!(hubs.probe(late + SILENT_MAX + PROBE_FIRST), Some(address(1)));
    }

    /// One whose disk hangs, as it may be.
    #[test]
    fn f_100_a_hub_that_greets_and_answers_no_message_is_given_none() {
        let mut hubs = hubs(&[1]);
        hubs.set_silent(address(1), true, Tick(0));
        let mut now = Tick(0) + SILENT_MAX;
        hubs.probe(now);
        hubs.greets(address(1), now);
        hubs.set_silent(address(1), true, now);
        for _ in 0..3 {
            now = now + SILENT_MAX;
            let looked_for = hubs.probe(now).is_some();
            hubs.greets(address(1), now);
            hubs.set_silent(address(1), true, now);
            assert!(!hubs.any_usable(now));
            assert!(!looked_for || hubs.probe(now).is_none(), "one looks");
        }
        hubs.set_silent(address(1), false, now);
        hubs.answers(address(1));
        assert!(hubs.any_usable(now), "it answers");
        hubs.set_silent(address(1), true, now);
        assert_eq!(hubs.probe(now + SILENT_MAX), Some(address(1)), "its way may be cut later");
    }

    #[test]
    fn f_100_f_101_a_dead_hub_is_looked_for_by_one_at_a_time_and_returns_at_once() {
        let mut hubs = hubs(&[1]);
        hubs.failed(address(1), Cause::Refused, Tick(0));
        hubs.failed(address(1), Cause::Refused, Tick(1));
        assert_eq!((hubs.any_usable(Tick(1)), hubs.choose(Tick(0)), hubs.probe(Tick(1))), (false, None, None));
        let later = Tick(0) + PROBE_FIRST;
        assert_eq!(hubs.probe(later), Some(address(1)), "its other connections do not put the probe off");
        assert_eq!(
            (hubs.choose(Tick(0)), hubs.probe(later + PROBE_LAST)),
            (None, None),
            "one looks, and no message waits for it"
        );
        hubs.failed(address(1), Cause::TimedOut, later);
        assert_eq!(hubs.probe(later + PROBE_FIRST), None, "the wait has doubled");
        assert_eq!(hubs.probe(later + PROBE_FIRST + PROBE_FIRST), Some(address(1)));
        let told = |hubs: &Hubs| hubs.iter().map(|(hub, _)| (hub.was_reached, hub.last_error)).next();
        assert_eq!(told(&hubs), Some((false, Some(Cause::TimedOut))));
        hubs.greets(address(1), later);
        assert_eq!((hubs.choose(Tick(0)), told(&hubs)), (Some(address(1)), Some((true, None))));
    }
}
