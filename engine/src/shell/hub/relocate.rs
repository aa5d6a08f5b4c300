//! Out of a poisoned segment: what is live there is read back and written again elsewhere, under a new name, before the
//! segment is trusted with anything again (F-027). Files that must not be used any more leave the spool.

use super::Hub;
use super::load::LoadError;
use super::quarantine::Quarantine;
use super::segments;
use crate::hook;
use crate::io::driver::Driver;
use crate::shell::body::Slices;
use crate::spool::{Content, Extents, FileId, Full, PACKED_BYTES_MAX, Placement, RecordId, RecordRef, Stretch};
use crate::sys::slice::{BLOCK_BYTES, Slice};
use crate::track::counters::Counter;
use crate::wire::Span;
use std::rc::Rc;

/// How long to wait before a record that could not be moved is tried again.
const AGAIN_WAIT: Span = Span::millis(200);

/// The same for a file that cannot be removed.
const REMOVE_WAIT: Span = Span::seconds(2);

/// Why a record was not written again.
#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    /// It cannot be read now, or never.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It waits for room, or for its own outcomes to be written.
    #[error(transparent)]
    Full(#[from] Full),
}

impl MoveError {
    /// It will not be otherwise the next time.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Load(LoadError::Read(_) | LoadError::Damaged(_)) | Self::Full(Full::TooLarge))
    }
}

impl<D: Driver> Hub<D> {
    /// Does one piece of this work, if there is any. Whether there was, and may be more before the log has what it wants.
    pub(super) async fn tidy(self: &Rc<Self>) -> bool {
        let unborn = self.log.borrow().unborn();
        if let Some(file) = unborn {
            self.remove(file).await;
            return true;
        }
        let bad = self.log.borrow().discard();
        if let Some(file) = bad {
            self.put_away(file).await;
            return true;
        }
        self.forget_settled_moves();
        let next = self.log.borrow_mut().relocation();
        let Some(id) = next else { return false };
        let moved = match self.move_record(id).await {
            Err(MoveError::Load(error)) if self.asks_again(&error) => self.move_record(id).await,
            moved => moved,
        };
        match moved {
            Ok(()) => true,
            Err(error) => self.not_moved(id, error).await,
        }
    }

    /// A record was not written again. Whether there is anything to be done before the log has what it wants.
    async fn not_moved(self: &Rc<Self>, id: RecordId, error: MoveError) -> bool {
        if error.is_final() {
            self.leave_in_place(id, error).await;
            return true;
        }
        self.log.borrow_mut().put_off(id);
        match error {
            MoveError::Full(Full::Segment) => return self.await_segment().await,
            MoveError::Full(Full::Memory) | MoveError::Load(_) => self.relieve(),
            MoveError::Full(full) => {
                // What is written of it may be the room that others need, or lost.
                self.stop_moving(id);
                tracing::warn!(cause = "spool", %full, "a record of a bad segment waits for room");
            }
        }
        self.commit.raise();
        self.driver.sleep(AGAIN_WAIT).await;
        true
    }

    /// A record cannot be written again, ever.
    pub(super) async fn leave_in_place(self: &Rc<Self>, id: RecordId, error: MoveError) {
        match error {
            MoveError::Load(LoadError::Damaged(place)) => self.set_aside(id, place).await,
            _ => self.tally.one(Counter::Damage),
        }
        tracing::error!(cause = "spool", record = %id, %error, "a record cannot be written elsewhere: it stays where it is");
        self.stop_moving(id);
        self.log.borrow_mut().leave(id);
    }

    /// Waits for the next segment; not when it has still to be brought, by our caller.
    async fn await_segment(&self) -> bool {
        self.commit.raise();
        if self.log.borrow().wants().is_some() {
            self.segments.raise();
            return false;
        }
        self.segments.unless_raised(self.driver.sleep(AGAIN_WAIT)).await;
        true
    }

    /// What is written of a large body is given up.
    pub(super) fn stop_moving(&self, id: RecordId) {
        let written = self.rewriting.moving.borrow_mut().remove(&id);
        written.into_iter().for_each(|extents| self.abandon_extents(extents));
    }

    /// The same for records that were settled meanwhile, or moved by somebody else.
    fn forget_settled_moves(&self) {
        let gone = |id: &RecordId| !self.log.borrow().is_here(*id);
        let settled: Vec<_> = self.rewriting.moving.borrow().keys().copied().filter(gone).collect();
        settled.into_iter().for_each(|id| self.stop_moving(id));
    }

    /// Removes a file that never became a segment, durably: another would be in its place, and another.
    async fn remove(self: &Rc<Self>, id: FileId) {
        let name = segments::name(id);
        self.files.borrow_mut().remove(&id);
        if let Some(dir) = &self.dir {
            let removed = match self.driver.remove(dir, &name).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => self.driver.sync_dir(dir).await,
            };
            if let Err(error) = removed {
                tracing::error!(cause = "spool", %error, file = name, "a file that became no segment cannot be removed");
                // There will be no other before it is gone: nobody waits for one.
                self.log.borrow_mut().no_file();
                self.retry_stalled();
                return self.driver.sleep(REMOVE_WAIT).await;
            }
        }
        self.log.borrow_mut().removed(id);
        self.commit.raise();
    }

    /// Moves a file that holds nothing that is needed out of the spool, durably.
    async fn put_away(self: &Rc<Self>, id: FileId) {
        let name = segments::name(id);
        hook!("K17");
        if let Some(dir) = &self.dir {
            let moved = async { Quarantine::open(&self.driver, dir).await?.take(id).await };
            match moved.await {
                Ok(Some(_)) => tracing::warn!(cause = "spool", file = name, "a bad segment was put away"),
                // Nothing in it is needed any more, so that nothing is lost with it.
                Ok(None) => tracing::error!(
                    cause = "spool",
                    file = name,
                    "the file of a bad segment is gone from the data folder: somebody else took it away"
                ),
                Err(error) => {
                    tracing::error!(cause = "spool", %error, file = name, "a bad segment cannot be put away");
                    return self.driver.sleep(AGAIN_WAIT).await;
                }
            }
        }
        self.files.borrow_mut().remove(&id);
        self.log.borrow_mut().removed(id);
        self.commit.raise();
    }

    /// Writes a record again.
    async fn move_record(self: &Rc<Self>, id: RecordId) -> Result<(), MoveError> {
        let head = self.read_head(id).await?;
        let Some(record) = head.record() else { return Err(head.damaged().into()) };
        let Ok(stretches) = self.log.borrow().content_of(&record) else { return Err(head.damaged().into()) };
        self.relocate(&record, &stretches).await?;
        self.commit.raise();
        Ok(())
    }

    async fn relocate(self: &Rc<Self>, record: &RecordRef<'_>, stretches: &[Stretch]) -> Result<(), MoveError> {
        let bytes = record.head.facts.body_bytes;
        if bytes <= PACKED_BYTES_MAX as u64 {
            let mut content = Slices::new();
            for stretch in stretches {
                self.read_stretch(stretch, &mut content).await?;
            }
            let pieces: Vec<&[u8]> = content.iter().map(|slice| &**slice).collect();
            if !self.is_gone(record) {
                self.log.borrow_mut().relocate(record, Content::Octets(&pieces))?;
            }
            return Ok(());
        }
        if let (Placement::Own { .. }, [stretch]) = (record.head.placement, stretches) {
            let chunks = self.read_blocks(stretch).await?;
            if !self.is_gone(record) {
                self.log.borrow_mut().relocate(record, Content::Chunks(&chunks))?;
            }
            return Ok(());
        }
        let written = self.rewriting.moving.borrow_mut().remove(&record.head.id);
        let mut extents = written.unwrap_or_default();
        let moved = self.relocate_extents(record, stretches, &mut extents).await;
        if !matches!(moved, Ok(true)) {
            self.go_on_later(record.head.id, extents);
        }
        moved.map(|_| ())
    }

    /// So much of a large body is written. What somebody else has begun of it meanwhile is given up.
    pub(super) fn go_on_later(&self, id: RecordId, extents: Extents) {
        let other = self.rewriting.moving.borrow_mut().insert(id, extents);
        other.into_iter().for_each(|extents| self.abandon_extents(extents));
    }

    /// Goes on writing a body piece by piece, behind what is `written` of it; whether it is whole now, and `written` is the
    /// record's. It may span more segments than are at hand: whenever the log wants one, there is a pause.
    async fn relocate_extents(
        self: &Rc<Self>,
        record: &RecordRef<'_>,
        stretches: &[Stretch],
        written: &mut Extents,
    ) -> Result<bool, MoveError> {
        if !self.log.borrow().has_room_for(record.head.facts.body_bytes.saturating_sub(written.bytes())) {
            return Err(Full::Space.into());
        }
        while let Some(stretch) = stretches.get(written.count()) {
            let chunks = self.read_blocks(stretch).await?;
            self.log.borrow_mut().extent(written, &chunks, stretch.bytes)?;
            self.commit.raise();
            if self.log.borrow().wants().is_some() {
                return Ok(false);
            }
        }
        if self.is_gone(record) {
            return Ok(false);
        }
        self.log.borrow_mut().relocate(record, Content::Extents(written))?;
        Ok(true)
    }

    /// Whether a record was settled or moved while it was read: it must not come to life again.
    fn is_gone(&self, record: &RecordRef<'_>) -> bool {
        !self.log.borrow().is_here(record.head.id)
    }

    /// A stretch that stands in blocks of its own, as whole blocks, checked.
    pub(super) async fn read_blocks(self: &Rc<Self>, stretch: &Stretch) -> Result<Vec<Slice>, LoadError> {
        let mut content = Slices::new();
        self.read_stretch(stretch, &mut content).await?;
        let mut chunks: Vec<Slice> = content.into_vec();
        if let Some(last) = chunks.last_mut()
            && last.len() % BLOCK_BYTES != 0
        {
            // What was read is whole blocks; the end was cut off. It is padded anew: nobody promises zeros on a bad disk.
            let mut fill = self.pool.fill(last.len().next_multiple_of(BLOCK_BYTES)).ok_or(LoadError::Memory)?;
            fill.put(last);
            fill.pad_to(BLOCK_BYTES);
            *last = fill.take();
        }
        Ok(chunks)
    }
}
