//! How many sessions of a shard wait for the answer to a command in error (S-022). Beyond the most, such commands are
//! answered at once: whoever fills the tarpit gains no more than he had without it, and the cap on errors still ends him.

use std::cell::Cell;
use std::rc::Rc;

/// Sessions of one shard that are delayed at a time. Nothing is received from them meanwhile.
pub const DELAYED_MAX: u32 = 256;

/// One shard's delayed sessions.
#[derive(Debug, Default)]
pub struct Tarpit {
    inside: Cell<u32>,
}

/// One delayed session's place; given back when dropped.
#[derive(Debug)]
pub struct Stuck {
    tarpit: Rc<Tarpit>,
}

impl Tarpit {
    /// A place, unless all are taken.
    pub fn enter(tarpit: &Rc<Tarpit>) -> Option<Stuck> {
        let inside = tarpit.inside.get();
        (inside < DELAYED_MAX).then(|| {
            tarpit.inside.set(inside + 1);
            Stuck { tarpit: tarpit.clone() }
        })
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let inside = &self.tarpit.inside;
        inside.set(inside.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_022_delayed_sessions_are_capped_and_places_come_back() {
        let tarpit = Rc::new(Tarpit::default());
        let mut stuck: Vec<Stuck> = (0..DELAYED_MAX).map(|_| Tarpit::enter(&tarpit).expect("a place")).collect();
        assert!(Tarpit::enter(&tarpit).is_none());
        stuck.pop();
        assert!(Tarpit::enter(&tarpit).is_some());
        drop(stuck);
        assert_eq!(tarpit.inside.get(), 0);
    }
}
