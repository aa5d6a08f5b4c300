//! Where damage is put aside, below the data folder: copies of damaged places, and whole files that are used no more.
//!
//! A name in it stands for octets that are all there and durable: a copy is made under a name of its own, synced, and only
//! then renamed (F-014, F-016). Nothing in it is ever overwritten.

use super::recover::read_some;
use super::segments;
use crate::hook;
use crate::io::driver::{Driver, Open, Stable};
use crate::spool::{Damage, FileId};
use crate::sys::slice::Pool;
use std::collections::BTreeSet;
use std::io;

/// The folder's name.
const FOLDER: &str = "quarantine";
/// The end of the name of a copy that is being made; what a crash left of it is worth nothing.
const UNFINISHED: &str = "tmp";

/// The opened folder.
pub(super) struct Quarantine<D: Driver> {
    driver: D,
    spool: D::Dir,
    dir: D::Dir,
    names: BTreeSet<String>,
}

/// Whether something was put aside just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    Now,
    /// An earlier start did it.
    Before,
}

/// Names damage in the log, whoever found it, unless an earlier start did. Whether it was named, and is to be counted.
pub(super) fn is_news(damage: &Damage, aside: &io::Result<Aside>) -> bool {
    let Damage { file, offset, bytes, record, cause: kind, .. } = damage;
    match aside {
        Ok(Aside::Before) => return false,
        Ok(Aside::Now) => tracing::error!(
            cause = "spool",
            file = file.0,
            offset,
            bytes,
            ?record,
            ?kind,
            "damage in the spool: put aside, never delivered"
        ),
        Err(error) => tracing::error!(cause = "spool", %error, file = file.0, offset, bytes, ?record, ?kind,
            "damage in the spool that cannot be put aside: it stays in place, never delivered"),
    }
    true
}

impl<D: Driver> Quarantine<D> {
    /// Opens the folder, and makes it where it is not there.
    pub(super) async fn open(driver: &D, spool: &D::Dir) -> io::Result<Self> {
        match driver.create_dir(spool, FOLDER).await {
            Ok(()) => driver.sync_dir(spool).await?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let dir = driver.dir(spool, FOLDER).await?;
        let names = driver.list(&dir).await?.into_iter().map(|entry| entry.name).collect();
        Ok(Self { driver: driver.clone(), spool: spool.clone(), dir, names })
    }

    /// Copies a damaged place to a file that is named after it: file, life of the file, offset. The content of a record, where
    /// it stands apart, follows it, as where it stands with it.
    pub(super) async fn copy(&mut self, pool: &Pool, damage: &Damage) -> io::Result<Aside> {
        let life = damage.number.map_or(0, |number| number.get());
        let name = format!("{:08x}-{life:012x}-{:010x}.damage", damage.file.0, damage.offset);
        if self.names.contains(&name) {
            return Ok(Aside::Before);
        }
        // Shards copy beside each other, each its own places.
        let unfinished = format!("{name}.{UNFINISHED}");
        if self.names.remove(&unfinished) {
            self.driver.remove(&self.dir, &unfinished).await?;
        }
        self.names.insert(unfinished.clone());
        let to = self.driver.open(&self.dir, &unfinished, Open::Create { direct: false }).await?;
        let from = self.driver.open(&self.spool, &segments::name(damage.file), Open::Read).await?;
        let (content_at, content_bytes) = damage.content.unwrap_or_default();
        let copied = self.copy_octets(pool, (&from, damage.offset), (&to, 0), damage.bytes).await?;
        self.copy_octets(pool, (&from, content_at), (&to, copied), content_bytes).await?;
        hook!("K18");
        self.driver.sync(&to).await?;
        self.driver.rename(&self.dir, &unfinished, &self.dir, &name).await?;
        hook!("K18");
        self.driver.sync_dir(&self.dir).await?;
        self.names.remove(&unfinished);
        self.names.insert(name);
        Ok(Aside::Now)
    }

    /// Copies so many octets of a file to a place in another; how many there were.
    async fn copy_octets(
        &self,
        pool: &Pool,
        (from, at): (&D::File, u64),
        (to, to_at): (&D::File, u64),
        bytes: u64,
    ) -> io::Result<u64> {
        let mut done = 0;
        while done < bytes {
            let most = usize::try_from(bytes - done).unwrap_or(usize::MAX);
            let piece = read_some(&self.driver, pool, from, at + done, most).await?.take();
            if piece.is_empty() {
                break;
            }
            let mut written = 0;
            while written < piece.len() {
                let rest = vec![piece.sub(written..piece.len())];
                match self.driver.write(to, rest, to_at + done + written as u64, Stable::No).await.0? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => written += count,
                }
            }
            done += piece.len() as u64;
        }
        Ok(done)
    }

    /// Moves a whole file of the spool here; the name that it has now. One that an earlier try moved, and did not get
    /// durable, is made durable. `None`: it is neither there nor here, because somebody took it away.
    pub(super) async fn take(&mut self, file: FileId) -> io::Result<Option<String>> {
        let name = segments::name(file);
        let (last, free) = self.names_of(&name);
        let to = match (self.driver.rename(&self.spool, &name, &self.dir, &free).await, last) {
            (Ok(()), _) => {
                self.names.insert(free.clone());
                free
            }
            (Err(error), last) if error.kind() == io::ErrorKind::NotFound => match last {
                Some(last) => last,
                None => return Ok(None),
            },
            (Err(error), _) => return Err(error),
        };
        hook!("K16");
        hook!("K18");
        self.driver.sync_dir(&self.dir).await?;
        self.driver.sync_dir(&self.spool).await?;
        Ok(Some(to))
    }

    /// Of the names that a file may have here: the last one that is taken, and the first one that is free.
    fn names_of(&self, name: &str) -> (Option<String>, String) {
        let (mut last, mut free) = (None, name.to_owned());
        for index in 1_u64.. {
            if !self.names.contains(&free) {
                break;
            }
            last = Some(std::mem::replace(&mut free, format!("{name}.{index}")));
        }
        (last, free)
    }
}
