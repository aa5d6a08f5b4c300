//! Who is let in: connections of a listener, counted over all shards, because the system spreads them unevenly.
//!
//! A lock is taken once when a connection comes and once when it goes: never on a message's path.

use crate::settings::Receive;
use crate::wire::Refusal;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

const TOO_MANY: Refusal = Refusal::fixed(421, (4, 3, 2), "Too many connections; try again later");
/// With so many hundredths of its places taken a listener is crowded.
const CROWDED_PERCENT: u64 = 90;
const TOO_MANY_OF_YOURS: Refusal = Refusal::fixed(421, (4, 7, 0), "Too many connections from your address");

/// Connections without a place that are not gone yet, at most: each holds a descriptor until its last reply has left and its
/// peer has closed, for some seconds if it does not. Beyond it who is refused is closed without a word, and whose session is
/// over keeps its place until it is gone. No source has more of them than it leaves to the others: else one that closes
/// nothing would keep those of others, who are over and come again, in their places.
const LEAVING_MAX: u32 = 128;

/// One listener's door.
#[derive(Debug)]
pub struct Door {
    all_max: u32,
    per_source_max: u32,
    inside: Mutex<Inside>,
}

/// Only who is served counts for the caps: what one source is refused takes nothing from the others (M-016).
#[derive(Debug, Default)]
struct Inside {
    served: u32,
    leaving: u32,
    /// How many of either come from where.
    sources: BTreeMap<IpAddr, Source>,
}

/// The connections of one source.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Source {
    served: u32,
    leaving: u32,
}

/// One connection's place; given back when dropped, which is for its descriptor to do.
#[derive(Debug)]
pub struct Place {
    door: Arc<Door>,
    /// From where.
    source: IpAddr,
    /// Whether it counts as served.
    served: Cell<bool>,
    /// Why it is not served, if it is not (M-016, F-124).
    pub refused: Option<Refusal>,
}

impl Door {
    /// A door with a listener's caps.
    pub fn new(receive: &Receive) -> Arc<Self> {
        Arc::new(Self {
            all_max: receive.connections_max,
            per_source_max: receive.connections_per_source_max,
            inside: Mutex::default(),
        })
    }

    /// Lets a connection from `source` in, or says why not; `None`: too many are being told so already.
    pub fn enter(door: &Arc<Door>, source: IpAddr) -> Option<Place> {
        let source = source.to_canonical();
        let mut inside = door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = inside.sources.get(&source).copied().unwrap_or_default();
        let refused = if of_source.served >= door.per_source_max {
            Some(TOO_MANY_OF_YOURS)
        } else {
            (inside.served >= door.all_max).then_some(TOO_MANY)
        };
        let served = refused.is_none();
        if !served && !inside.may_leave(of_source) {
            return None;
        }
        inside.count(source, served);
        drop(inside);
        Some(Place { door: door.clone(), source, served: Cell::new(served), refused })
    }

    /// Whether few places are left (F-121).
    pub fn is_crowded(&self) -> bool {
        let served = self.inside.lock().unwrap_or_else(PoisonError::into_inner).served;
        u64::from(served) * 100 >= u64::from(self.all_max) * CROWDED_PERCENT
    }
}

impl Inside {
    /// Whether one more connection of a source may be without a place.
    fn may_leave(&self, of_source: Source) -> bool {
        of_source.leaving < LEAVING_MAX.saturating_sub(self.leaving)
    }

    /// One more from there is served, or leaves.
    fn count(&mut self, source: IpAddr, served: bool) {
        for count in self.counts(source, served) {
            *count = count.saturating_add(1);
        }
    }

    /// One of them does no more.
    fn discount(&mut self, source: IpAddr, served: bool) {
        for count in self.counts(source, served) {
            *count = count.saturating_sub(1);
        }
        if self.sources.get(&source) == Some(&Source::default()) {
            self.sources.remove(&source);
        }
    }

    /// How many are served or leave: of all, and of one source.
    fn counts(&mut self, source: IpAddr, served: bool) -> [&mut u32; 2] {
        let of_source = self.sources.entry(source).or_default();
        match served {
            true => [&mut self.served, &mut of_source.served],
            false => [&mut self.leaving, &mut of_source.leaving],
        }
    }
}

impl Place {
    /// The session is over: another may have the place, as far as few are leaving.
    pub fn leave(&self) {
        let mut inside = self.door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = inside.sources.get(&self.source).copied().unwrap_or_default();
        if self.served.get() && inside.may_leave(of_source) {
            self.served.set(false);
            inside.discount(self.source, true);
            inside.count(self.source, false);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.discount(self.source, self.served.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Profile, Role};

    fn door(all: u32, per_source: u32) -> Arc<Door> {
        let own = Receive::of(Profile::Rfc, Role::Hub);
        Door::new(&Receive { connections_max: all, connections_per_source_max: per_source, ..own })
    }

    fn source(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn refused(place: &Option<Place>) -> Option<Refusal> {
        place.as_ref().expect("it is let in or told").refused.clone()
    }

    /// However often one source knocks, and however long its refused connections take to leave.
    #[test]
    fn m_016_s_020_f_124_one_source_never_shuts_the_door_for_others() {
        let door = door(4, 2);
        let (one, mapped, two) = (source("192.0.2.1"), source("::ffff:192.0.2.1"), source("192.0.2.2"));
        let flood: Vec<Option<Place>> = (0..20).map(|at| Door::enter(&door, [one, mapped][at % 2])).collect();
        assert!(flood[..2].iter().all(|place| refused(place).is_none()));
        assert!(flood[2..].iter().all(|place| refused(place) == Some(TOO_MANY_OF_YOURS)));
        assert_eq!(TOO_MANY_OF_YOURS.reply().code(), 421);
        let others = [Door::enter(&door, two), Door::enter(&door, two)];
        assert!(others.iter().all(|place| refused(place).is_none()), "they have their places");
        assert_eq!(
            refused(&Door::enter(&door, source("192.0.2.3"))),
            Some(TOO_MANY),
            "all are taken, by who is served"
        );
        drop(others);
        assert!(refused(&Door::enter(&door, source("192.0.2.3"))).is_none());
        drop(flood);
        assert!(refused(&Door::enter(&door, one)).is_none());
        let inside = door.inside.lock().expect("no panic");
        assert!(inside.sources.is_empty() && (inside.served, inside.leaving) == (0, 0), "nothing is kept: {inside:?}");
    }

    #[test]
    fn f_124_those_who_are_refused_hold_few_descriptors() {
        let door = door(10, 1);
        let one = source("192.0.2.1");
        let inside = Door::enter(&door, one);
        let mut told: Vec<Place> = (0..LEAVING_MAX).filter_map(|_| Door::enter(&door, one)).collect();
        assert_eq!(told.len(), LEAVING_MAX as usize / 2, "one source leaves as many to others");
        assert!(Door::enter(&door, one).is_none(), "the next one is closed without a word");
        assert!(refused(&Door::enter(&door, source("192.0.2.2"))).is_none(), "and who may come in comes in");
        told.pop();
        assert!(Door::enter(&door, one).is_some() && inside.is_some());
        assert!(!door.is_crowded(), "who is refused crowds nobody");
    }

    /// Who says QUIT and comes again at once has a place, while the descriptor of the first connection waits to be closed.
    #[test]
    fn f_124_a_source_that_closes_nothing_keeps_nobody_else_in_his_place() {
        let door = door(10, 1);
        let _flood: Vec<Place> = (0..1000).filter_map(|_| Door::enter(&door, source("192.0.2.1"))).collect();
        let first = Door::enter(&door, source("192.0.2.2"));
        assert_eq!(refused(&first), None);
        first.as_ref().expect("it is let in").leave();
        assert_eq!(refused(&Door::enter(&door, source("192.0.2.2"))), None);
        // However many sources are like the one, there is an end to it.
        let sources = (3..200_u8).flat_map(|last| [IpAddr::from([192, 0, 2, last]); 10]);
        let floods: Vec<Place> = sources.filter_map(|source| Door::enter(&door, source)).collect();
        assert!(floods.len() <= 10 + LEAVING_MAX as usize, "{} descriptors", floods.len());
    }

    /// Of those whose sessions are over a few count no longer; the others do until they are gone.
    #[test]
    fn f_124_who_has_had_his_session_and_stays_holds_few_descriptors() {
        let door = door(LEAVING_MAX + 10, 2);
        let one = source("192.0.2.1");
        let mut gone: Vec<Place> = Vec::new();
        while let Some(place) = Door::enter(&door, one).filter(|place| place.refused.is_none()) {
            place.leave();
            gone.push(place);
        }
        assert_eq!(gone.len(), LEAVING_MAX as usize / 2 + 2);
        let others = Door::enter(&door, source("192.0.2.2"));
        assert!(refused(&others).is_none(), "others have their places");
        gone.truncate(1);
        assert!(refused(&Door::enter(&door, one)).is_none());
        drop((gone, others));
        let inside = door.inside.lock().expect("no panic");
        assert!(inside.sources.is_empty() && (inside.served, inside.leaving) == (0, 0), "nothing is kept: {inside:?}");
    }
}
