//! The spool's files: made, opened, recycled and removed as the log asks.

use super::Hub;
use crate::hook;
use crate::io::driver::{Driver, Open};
use crate::planted;
use crate::settings::Durability;
use crate::spool::{FileId, Secret, Want};
use crate::wire::Span;
use std::io;
use std::rc::Rc;

/// How long to wait before looking for space again.
const NO_SPACE_WAIT: Span = Span::millis(500);
/// Before a further file when heads could not be written in so many: nothing, since one may be bad; then from
/// [`NO_SPACE_WAIT`] on twice as long each time, up to 8 s.
const HEAD_DOUBLINGS_MAX: u32 = 4;

/// A segment's file.
pub(super) struct Segment<D: Driver> {
    pub file: D::File,
    look: Look<D::File>,
}

/// How a segment is read.
enum Look<F> {
    /// By the handle that it is written by.
    Same,
    /// By a handle of its own from the next time on: a failed write leaves pages in memory that look as if they were on the
    /// disk.
    Doubted,
    /// Past the page cache.
    Direct(F),
}

impl<D: Driver> Segment<D> {
    pub fn new(file: D::File) -> Self {
        Self { file, look: Look::Same }
    }
}

/// The name of a segment's file.
pub(super) fn name(id: FileId) -> String {
    format!("{:08x}.segment", id.0)
}

/// The file that a name stands for.
pub(super) fn id(name: &str) -> Option<FileId> {
    let hex = name.strip_suffix(".segment").filter(|hex| hex.len() == 8)?;
    u32::from_str_radix(hex, 16).ok().map(FileId)
}

/// Brings what the log asks for, as long as the shard runs.
pub(super) async fn provide<D: Driver>(hub: Rc<Hub<D>>) {
    // How many files in a row, whose heads could not be written, were waited for.
    let mut waited_for = 0;
    loop {
        let (want, failed) = (hub.log.borrow().wants(), hub.log.borrow().heads_failed());
        let Some(want) = want else {
            if !hub.tidy().await {
                hub.segments.wait().await;
            }
            continue;
        };
        let is_news = failed > waited_for;
        waited_for = failed;
        if is_news {
            hub.after_bad_head(failed).await;
            continue;
        }
        let made = match want {
            Want::File => create(&hub).await,
            Want::Recycle(file) => {
                hook!("K16");
                Ok(file)
            }
        };
        match made {
            Ok(file) => hub.begin_segment(file).await,
            Err(error) => hub.after_no_file(&error).await,
        }
    }
}

impl<D: Driver> Hub<D> {
    /// Gives the log its next segment.
    async fn begin_segment(&self, file: FileId) {
        let mut secret = [0; 16];
        self.driver.random(&mut secret);
        let was_short = self.log.borrow().is_short();
        self.log.borrow_mut().give(file, Secret(secret));
        if let Some(segment) = self.files.borrow_mut().get_mut(&file) {
            segment.look = Look::Same;
        }
        if was_short && !self.log.borrow().is_short() {
            tracing::info!(cause = "spool", "there is room for segments of the spool again");
        }
        self.commit.raise();
        // Its head is written next; whoever stalled for it is tried again then.
        self.segments.wait().await;
    }

    /// What is read of a segment from now on comes from the disk, not from the page cache, where the file system lets it
    /// (F-027).
    pub(super) fn distrust(&self, id: FileId) {
        if let Some(segment) = self.files.borrow_mut().get_mut(&id)
            && matches!(segment.look, Look::Same)
            && !self.direct
        {
            segment.look = Look::Doubted;
        }
    }

    /// A segment's file for reading; `None` in durability `none`, and when it is no segment any more.
    pub(super) async fn reader(&self, id: FileId) -> Option<D::File> {
        let (file, is_doubted) = match self.files.borrow().get(&id)? {
            Segment { file, look: Look::Same } => (file.clone(), false),
            Segment { file, look: Look::Doubted } => (file.clone(), true),
            Segment { look: Look::Direct(file), .. } => (file.clone(), false),
        };
        let Some(dir) = self.dir.as_ref().filter(|_| is_doubted) else { return Some(file) };
        let opened = self.driver.open(dir, &name(id), Open::Write { direct: true }).await;
        let look = match opened {
            Ok(file) if super::takes_blocks(&self.driver, &file) => Look::Direct(file),
            Ok(_) => Look::Same,
            Err(error) => {
                tracing::warn!(cause = "spool", %error, file = id.0, "what is read of a segment may come from memory");
                Look::Same
            }
        };
        let reader = if let Look::Direct(direct) = &look { direct.clone() } else { file };
        if let Some(segment) = self.files.borrow_mut().get_mut(&id) {
            segment.look = look;
        }
        Some(reader)
    }

    /// There is no file to be had: told once.
    async fn after_no_file(self: &Rc<Self>, error: &io::Error) {
        if !self.log.borrow().is_short() {
            let spool = &self.settings.spool;
            let free = self.dir.as_ref().and_then(|dir| self.driver.free_bytes(dir).ok());
            tracing::error!(cause = "spool", %error, folder = ?self.settings.server.data_dir, free,
                segment_size = spool.segment_bytes, free_min = spool.free_min,
                "no room for a further segment of the spool: mail is refused when the last one is full");
        }
        self.log.borrow_mut().no_file();
        self.retry_stalled();
        self.pause(NO_SPACE_WAIT).await;
    }

    /// In so many files in a row the head could not be written.
    async fn after_bad_head(self: &Rc<Self>, failed: u32) {
        if failed == 1 {
            return;
        }
        let doublings = (failed - 2).min(HEAD_DOUBLINGS_MAX);
        let wait = Span(NO_SPACE_WAIT.0 << doublings);
        tracing::error!(
            cause = "spool",
            files = failed,
            again_ms = wait.as_millis(),
            "the disk takes no head of a new segment: mail is refused when the last segment is full"
        );
        self.pause(wait).await;
    }

    /// Waits for so long, and tidies up meanwhile.
    async fn pause(self: &Rc<Self>, wait: Span) {
        let again = self.driver.now() + wait;
        while self.driver.now() < again && self.tidy().await {}
        self.driver.sleep_until(again).await;
    }
}

async fn create<D: Driver>(hub: &Rc<Hub<D>>) -> io::Result<FileId> {
    let id = FileId(hub.next_file.get());
    let Some(dir) = hub.dir.as_ref().filter(|_| hub.settings.server.durability != Durability::None) else {
        hub.next_file.set(id.0 + hub.shards);
        return Ok(id);
    };
    let bytes = hub.settings.spool.segment_bytes;
    if hub.driver.free_bytes(dir)? < bytes.saturating_add(hub.settings.spool.free_min) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let name = name(id);
    // A name that is taken is never tried again.
    hub.next_file.set(id.0 + hub.shards);
    let file = hub.driver.open(dir, &name, Open::Create { direct: hub.direct }).await?;
    if let Err(error) = prepare(hub, dir, &file, bytes).await {
        let _ = hub.driver.remove(dir, &name).await;
        return Err(error);
    }
    hub.files.borrow_mut().insert(id, Segment::new(file));
    Ok(id)
}

async fn prepare<D: Driver>(hub: &Rc<Hub<D>>, dir: &D::Dir, file: &D::File, bytes: u64) -> io::Result<()> {
    hub.driver.allocate(file, bytes).await?;
    if planted!(ForgottenFolder) {
        return Ok(());
    }
    hub.driver.sync_dir(dir).await
}
