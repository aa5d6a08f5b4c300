//! The names that a record had before it was relocated. Whoever holds an old one means the record by it, however often it
//! moved since, until nothing of it is unsettled.

use super::ids::RecordId;
use std::collections::BTreeMap;

/// Records that were or are being relocated; each chain of names from both ends.
#[derive(Debug, Default)]
pub(super) struct Renamed {
    after: BTreeMap<RecordId, RecordId>,
    before: BTreeMap<RecordId, RecordId>,
}

impl Renamed {
    /// `old` is written again as `new`.
    pub(super) fn add(&mut self, old: RecordId, new: RecordId) {
        self.after.insert(old, new);
        self.before.insert(new, old);
    }

    /// That did not happen.
    pub(super) fn take_back(&mut self, old: RecordId, new: RecordId) {
        if self.after.get(&old) == Some(&new) {
            self.after.remove(&old);
            self.before.remove(&new);
        }
    }

    /// The name after this one.
    pub(super) fn after(&self, old: RecordId) -> Option<RecordId> {
        self.after.get(&old).copied()
    }

    /// The record with this name, its last, is dead space: its earlier names mean nothing.
    pub(super) fn forget(&mut self, last: RecordId) {
        let mut name = last;
        while let Some(old) = self.before.remove(&name) {
            self.after.remove(&old);
            name = old;
        }
    }
}
