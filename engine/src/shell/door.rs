//! Who is let in: connections of a listener, counted over all shards, because the system spreads them unevenly.
//!
//! A lock is taken once when a connection comes and once when it goes: never on a message's path.

use crate::settings::Receive;
use crate::wire::Refusal;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

const TOO_MANY: Refusal = Refusal::fixed(421, (4, 3, 2), "Too many connections; try again later");
/// With so many hundredths of its places taken a listener is crowded.
const CROWDED_PERCENT: u64 = 90;
const TOO_MANY_OF_YOURS: Refusal = Refusal::fixed(421, (4, 7, 0), "Too many connections from your address");

/// One listener's door.
#[derive(Debug)]
pub struct Door {
    all_max: u32,
    per_source_max: u32,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: u32,
    sources: BTreeMap<IpAddr, u32>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    door: Arc<Door>,
    source: IpAddr,
    /// Why it is not served, if it is not (M-016, F-124). Refused connections are counted until they are gone.
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

    /// Lets a connection from `source` in, or says why not.
    pub fn enter(door: &Arc<Door>, source: IpAddr) -> Place {
        let source = source.to_canonical();
        let mut inside = door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all = inside.all.saturating_add(1);
        let all = inside.all;
        let of_source = inside.sources.entry(source).or_insert(0);
        *of_source = of_source.saturating_add(1);
        let refused = if *of_source > door.per_source_max {
            Some(TOO_MANY_OF_YOURS)
        } else {
            (all > door.all_max).then_some(TOO_MANY)
        };
        drop(inside);
        Place { door: door.clone(), source, refused }
    }

    /// Whether few places are left (F-121).
    pub fn is_crowded(&self) -> bool {
        let all = self.inside.lock().unwrap_or_else(PoisonError::into_inner).all;
        u64::from(all) * 100 >= u64::from(self.all_max) * CROWDED_PERCENT
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all = inside.all.saturating_sub(1);
        let left = inside.sources.get_mut(&self.source).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            inside.sources.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Profile, Role};

    #[test]
    fn m_016_f_124_one_source_never_shuts_the_door_for_others() {
        let receive =
            Receive { connections_max: 4, connections_per_source_max: 2, ..Receive::of(Profile::Rfc, Role::Hub) };
        let door = Door::new(&receive);
        let one: IpAddr = "192.0.2.1".parse().expect("an address");
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        let two: IpAddr = "192.0.2.2".parse().expect("an address");
        let places: Vec<Place> = [one, mapped, one, two].map(|source| Door::enter(&door, source)).into();
        let refused: Vec<Option<u16>> =
            places.iter().map(|place| place.refused.as_ref().map(|refusal| refusal.reply().code())).collect();
        assert_eq!(refused, [None, None, Some(421), None]);
        assert_eq!(places[2].refused, Some(TOO_MANY_OF_YOURS));
        assert_eq!(Door::enter(&door, two).refused, Some(TOO_MANY));
        drop(places);
        assert!(Door::enter(&door, one).refused.is_none());
        assert!(door.inside.lock().expect("no panic").sources.is_empty(), "nothing is kept of those who left");
    }
}
