//! Where a write to the spool dies, or fails, because a test asked for it (hooks K4 to K6, K14, K16, K18).
//!
//! A hook is passed by the writes that it is about alone: K4 to K7 by batches with messages that somebody waits for, K14 and
//! K15 by batches with outcomes. Housekeeping before readiness does not use their passages up.

use super::Hub;
use crate::io::driver::{Driver, Stable};
use crate::shell::hooks::{is_next, pass};
use crate::spool::Carries;
use crate::sys::slice::{BLOCK_BYTES, Slice};
use crate::wire::Span;
use std::pin::pin;
use std::task::Poll;

/// Octets as they stand in the log's order.
pub(super) struct Torn<'a> {
    pub at: u64,
    pub parts: &'a [Slice],
    pub stable: bool,
}

impl Torn<'_> {
    fn stable(&self) -> Stable {
        if self.stable { Stable::Yes } else { Stable::No }
    }
}

/// Passes the hooks of a write that is about to be issued.
pub(super) async fn in_write<D: Driver>(hub: &Hub<D>, file: &D::File, carries: Carries, torn: Torn<'_>) {
    if carries.messages {
        partly(hub, file, &torn).await;
        unsynced(hub, file, &torn, "K5").await;
        under_way(hub, file, &torn).await;
    }
    if carries.settles > 0 {
        unsynced(hub, file, &torn, "K14").await;
    }
    if carries.head {
        unsynced(hub, file, &torn, "K16").await;
        unsynced(hub, file, &torn, "K18").await;
    }
}

/// K4: the record is partly written. Half of what the batch holds reaches the disk; behind the cut it reads as zero, as a
/// new segment does.
async fn partly<D: Driver>(hub: &Hub<D>, file: &D::File, torn: &Torn<'_>) {
    if is_next("K4") {
        let octets: Vec<u8> = torn.parts.iter().flat_map(|part| part.iter().copied()).collect();
        let used = octets.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        let half = octets.get(..used / 2).unwrap_or_default();
        let mut fill = hub.pool.fill(half.len().next_multiple_of(BLOCK_BYTES)).expect("memory to die with");
        fill.put(half);
        fill.pad_to(BLOCK_BYTES);
        let _ = hub.driver.write(file, vec![fill.take()], torn.at, torn.stable()).await;
    }
    pass("K4");
}

/// Written, and its sync not issued.
async fn unsynced<D: Driver>(hub: &Hub<D>, file: &D::File, torn: &Torn<'_>, name: &'static str) {
    if is_next(name) {
        let _ = hub.driver.write(file, torn.parts.to_vec(), torn.at, Stable::No).await;
    }
    pass(name);
}

/// K6: the write that syncs is issued, and nobody has seen it complete.
async fn under_way<D: Driver>(hub: &Hub<D>, file: &D::File, torn: &Torn<'_>) {
    if !is_next("K6") {
        return pass("K6");
    }
    let mut write = pin!(hub.driver.write(file, torn.parts.to_vec(), torn.at, torn.stable()));
    std::future::poll_fn(|context| {
        let _ = write.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
    // The turn ends and gives the write to the kernel.
    hub.driver.sleep(Span::micros(1)).await;
    pass("K6");
}
