//! How short memory is, in the steps of F-040, for whoever looks now and then.

use crate::roles::hub::REFUSE_PERCENT;
use crate::sys::slice::Budget;
use std::cell::Cell;

/// With so many hundredths of the budget in use, content that is on disk leaves memory.
pub(super) const DROP_PERCENT: u32 = 75;
/// Until so many are left, so that memory is not short again with the next message.
pub(super) const RELIEVED_PERCENT: u32 = 65;

/// The worst since somebody asked.
#[derive(Debug, Default)]
pub(super) struct Short {
    worst: Cell<u64>,
    denials: Cell<usize>,
}

impl Short {
    /// Looks at what is in use. A shortage may have passed when the next one looks.
    pub(super) fn look(&self, budget: &Budget) {
        let denied = self.denials.replace(budget.denials()) != budget.denials();
        let step = match budget.percent() {
            _ if denied => 3,
            100.. => 3,
            REFUSE_PERCENT.. => 2,
            DROP_PERCENT.. => 1,
            _ => 0,
        };
        self.worst.set(self.worst.get().max(step));
    }

    /// The furthest step since the last time: 1 drops bodies, 2 refuses mail, 3 stops reading.
    pub(super) fn worst_since(&self, budget: &Budget) -> u64 {
        self.look(budget);
        self.worst.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::slice::Pool;

    #[test]
    fn f_040_each_step_is_seen_even_when_it_has_passed() {
        let pool = Pool::new(Budget::new(400 << 10));
        let short = Short::default();
        let worst = || short.worst_since(pool.budget());
        let take = |kib: usize| pool.fill(kib << 10).expect("room");
        let mut held = vec![take(256)];
        assert_eq!(worst(), 0);
        held.push(take(64));
        assert_eq!(worst(), 1);
        held.push(take(64));
        assert_eq!(worst(), 2);
        assert!(pool.fill(64 << 10).is_none());
        short.look(pool.budget());
        held.clear();
        assert_eq!([worst(), worst()], [3, 0], "it is told once, and is over");
    }
}
