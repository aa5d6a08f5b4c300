//! Out of a poisoned segment: what is live there is read back and written again elsewhere, under a new name, before the
//! segment is trusted with anything again (F-027). Files that must not be used any more leave the spool.

use super::Hub;
use super::quarantine::Quarantine;
use super::segments;
use crate::hook;
use crate::io::driver::Driver;
use crate::shell::body::Slices;
use crate::spool::{
    Content, Extents, Fetched, FileId, Full, PACKED_BYTES_MAX, Placement, RecordId, RecordRef, Stretch,
};
use crate::sys::slice::{BLOCK_BYTES, Slice};
use crate::wire::Span;
use std::rc::Rc;

/// How long to wait before a record that could not be moved is tried again.
const AGAIN_WAIT: Span = Span::millis(200);

impl<D: Driver> Hub<D> {
    /// Does one piece of this work, if there is any. Whether there was.
    pub(super) async fn tidy(self: &Rc<Self>) -> bool {
        let bad = self.log.borrow().discard();
        if let Some(file) = bad {
            self.put_away(file).await;
            return true;
        }
        let next = self.log.borrow().relocation();
        let Some(id) = next else { return false };
        if !self.move_record(id).await {
            self.driver.sleep(AGAIN_WAIT).await;
        }
        true
    }

    /// Moves a file that holds nothing that is needed out of the spool, durably.
    async fn put_away(self: &Rc<Self>, id: FileId) {
        let name = segments::name(id);
        hook!("K17");
        if let Some(dir) = &self.dir {
            let moved = async { Quarantine::open(&self.driver, dir).await?.take(id).await };
            if let Err(error) = moved.await {
                tracing::error!(cause = "spool", %error, file = name, "a bad segment cannot be put away");
                return self.driver.sleep(AGAIN_WAIT).await;
            }
            tracing::warn!(cause = "spool", file = name, "a bad segment was put away");
        }
        self.files.borrow_mut().remove(&id);
        self.log.borrow_mut().removed(id);
        self.commit.raise();
    }

    /// Writes a record again. Whether it is on its way.
    async fn move_record(self: &Rc<Self>, id: RecordId) -> bool {
        let Some(octets) = self.read_record(id).await else {
            tracing::error!(cause = "spool", record = %id, "a record of a bad segment cannot be read");
            return false;
        };
        let fetch = self.log.borrow().fetch(id);
        let Some(Ok(Fetched::Record(record))) = fetch.map(|fetch| fetch.parse(&octets)) else { return false };
        let stretches = self.log.borrow().content_of(&record);
        let Ok(stretches) = stretches else { return false };
        let result = self.relocate(&record, &stretches).await;
        match result {
            Some(Ok(())) => {
                self.commit.raise();
                true
            }
            Some(Err(full)) => {
                tracing::warn!(cause = "spool", %full, "a record of a bad segment waits for room");
                self.commit.raise();
                false
            }
            None => false,
        }
    }

    async fn relocate(self: &Rc<Self>, record: &RecordRef<'_>, stretches: &[Stretch]) -> Option<Result<(), Full>> {
        let bytes = record.head.facts.body_bytes;
        if bytes <= PACKED_BYTES_MAX as u64 {
            let mut content = Slices::new();
            for stretch in stretches {
                self.read_stretch(stretch, &mut content).await.ok()?;
            }
            let pieces: Vec<&[u8]> = content.iter().map(|slice| &**slice).collect();
            if self.is_gone(record) {
                return Some(Ok(()));
            }
            let moved = self.log.borrow_mut().relocate(record, Content::Octets(&pieces));
            return Some(moved.map(drop));
        }
        let mut pieces = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            pieces.push((self.read_blocks(stretch).await?, stretch.bytes));
        }
        if self.is_gone(record) {
            return Some(Ok(()));
        }
        let mut log = self.log.borrow_mut();
        if let (Placement::Own { .. }, [(chunks, _)]) = (record.head.placement, pieces.as_slice()) {
            return Some(log.relocate(record, Content::Chunks(chunks)).map(drop));
        }
        let mut extents = Extents::default();
        for (chunks, bytes) in &pieces {
            if let Err(full) = log.extent(&mut extents, chunks, *bytes) {
                log.abandon(extents);
                return Some(Err(full));
            }
        }
        let moved = log.relocate(record, Content::Extents(&extents));
        if moved.is_err() {
            log.abandon(extents);
        }
        Some(moved.map(drop))
    }

    /// Whether a record was settled while it was read: it must not come to life again.
    fn is_gone(&self, record: &RecordRef<'_>) -> bool {
        self.log.borrow().fetch(record.head.id).is_none()
    }

    /// A stretch that stands in blocks of its own, as whole blocks, checked.
    async fn read_blocks(self: &Rc<Self>, stretch: &Stretch) -> Option<Vec<Slice>> {
        let mut content = Slices::new();
        self.read_stretch(stretch, &mut content).await.ok()?;
        let mut chunks: Vec<Slice> = content.into_vec();
        if let Some(last) = chunks.last_mut()
            && last.len() % BLOCK_BYTES != 0
        {
            // What was read is whole blocks; the end was cut off. It is padded anew: nobody promises zeros on a bad disk.
            let mut fill = self.pool.fill(last.len().next_multiple_of(BLOCK_BYTES))?;
            fill.put(last);
            fill.pad_to(BLOCK_BYTES);
            *last = fill.take();
        }
        Some(chunks)
    }
}
