//! How short memory is, in the steps of F-040, for whoever looks now and then.

use crate::roles::hub::REFUSE_PERCENT;
use crate::sys::slice::Budget;
use crate::wire::{Span, Tick};
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

/// With so many hundredths of the budget in use, content that is on disk leaves memory.
pub(super) const DROP_PERCENT: u32 = 75;
/// Until so many are left, so that memory is not short again with the next message.
pub(super) const RELIEVED_PERCENT: u32 = 65;
/// A shortage is over when there was none for so long.
const QUIET: Span = Span::seconds(10);

/// The worst since somebody asked.
#[derive(Debug, Default)]
pub(super) struct Short {
    worst: Cell<u64>,
    denials: Cell<usize>,
}

/// What was said of a server's memory: its shards share one budget, and all of them see when it is short.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    /// When mail was last refused or not read, since that was told.
    told: Mutex<Option<Tick>>,
}

/// What an operator is told.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Mail is refused or not read.
    Begins,
    /// It is no more.
    Ends,
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

impl Shortage {
    /// Says in the log when mail begins to suffer and when that is over, whichever shard was at this step first (I-10).
    pub(super) fn tell(&self, step: u64, budget: &Budget, now: Tick) {
        match self.news(step, now) {
            Some(News::Begins) => {
                let what = if step == 2 { "new mail is refused" } else { "connections wait to be read" };
                tracing::warn!(cause = "memory", percent = budget.percent(), "memory is short: {what}");
            }
            Some(News::Ends) => tracing::info!(cause = "memory", "memory is short no more"),
            None => {}
        }
    }

    /// What is worth telling of a shard's step: once when it begins, and once when no shard had it for a while.
    fn news(&self, step: u64, now: Tick) -> Option<News> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if step >= 2 {
            return told.replace(now).is_none().then_some(News::Begins);
        }
        let over = now.since((*told)?) >= QUIET;
        over.then(|| {
            *told = None;
            News::Ends
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::slice::Pool;

    /// Of two shards, the second sees each step a second later.
    #[test]
    fn i_10_a_shortage_is_told_once_however_often_it_comes_and_goes_and_whoever_sees_it() {
        let (short, at) = (Shortage::default(), |seconds| Tick(1) + Span::seconds(seconds));
        let steps = [(0, 0), (1, 1), (2, 2), (3, 0), (4, 3), (5, 1), (14, 0), (15, 1), (16, 0), (99, 2)];
        let mut seen: Vec<(u64, u64)> =
            steps.into_iter().chain(steps.map(|(second, step)| (second + 1, step))).collect();
        seen.sort_unstable();
        let told: Vec<(u64, News)> =
            seen.into_iter().filter_map(|(second, step)| Some((second, short.news(step, at(second))?))).collect();
        assert_eq!(told, [(2, News::Begins), (15, News::Ends), (99, News::Begins)]);
    }

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
