//! Nobody is let in before every shard has bound its listeners: a start that comes to nothing has taken no mail then, whatever
//! kept one of the shards from serving (F-013). Clients that connect meanwhile wait in the system's queue.

use crate::io::driver::Driver;
use crate::wire::Span;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often a shard looks whether the last one is ready: once a start, so that no shard needs to be woken for it.
const LOOK_EVERY: Span = Span::millis(2);

/// What the listeners of all shards wait behind.
#[derive(Debug)]
pub struct Gate {
    /// Shards that have not bound all of theirs. One that fails stays among them.
    unready: AtomicUsize,
}

impl Gate {
    /// A gate that so many shards open together.
    pub fn of(shards: usize) -> Gate {
        Gate { unready: AtomicUsize::new(shards) }
    }

    /// One shard has bound all its listeners; to be said once by each.
    pub fn ready(&self) {
        let before = self.unready.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "each shard is ready once");
    }

    /// Completes when every shard is ready: never, where one has failed. Who waits looks out for the end as well.
    pub async fn opened<D: Driver>(&self, driver: &D) {
        while self.unready.load(Ordering::Acquire) > 0 {
            driver.sleep(LOOK_EVERY).await;
        }
    }
}
