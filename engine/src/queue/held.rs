//! What an operator does with queues: holds them, lets them go, has them tried again.

use super::Queues;
use super::destination::{Hop, HopId};
use crate::wire::Tick;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Queues {
    /// From now on just the queues of these names are suspended, whether they exist yet or not: they take messages in, what is
    /// under way in them ends, and nothing else leaves. Their messages age as all others do.
    pub fn suspend(&mut self, names: Arc<BTreeSet<String>>) {
        if self.suspended == names {
            return;
        }
        self.suspended = names;
        for index in 0u32.. {
            let Some(hop) = self.hops.get_mut(index as usize) else { break };
            let held = hop.live && is_held(&self.suspended, hop);
            if std::mem::replace(&mut hop.suspended, held) == held {
                continue;
            }
            if held && hop.sharing.lent > 0 {
                // What lies lent and untaken comes home, and stays.
                self.expiry.recall(index);
            }
            self.mark(index);
        }
    }

    /// Has a queue in Retry tried at once, whatever it waits for; `false`, and nothing is changed, when it is not in Retry.
    /// A further failure makes it wait from then on.
    pub fn retry(&mut self, hop: HopId, now: Tick) -> bool {
        let state = &mut self.hops[hop.0 as usize];
        let waits = state.live && state.in_retry();
        if waits {
            state.try_again(now);
            self.mark(hop.0);
        }
        waits
    }
}

/// Whether the queue's name is among those that are held.
pub(super) fn is_held(names: &BTreeSet<String>, hop: &Hop) -> bool {
    names.contains(&*hop.key.domain)
}

impl Hop {
    /// Every host is tried once more.
    pub fn try_again(&mut self, now: Tick) {
        self.retry_at = Tick::NEVER;
        self.retried_at = Some(now);
        self.round += 1;
    }
}
