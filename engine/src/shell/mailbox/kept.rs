//! What is kept open of many: what was used last, and no more than there are descriptors for.

use std::collections::BTreeMap;

/// Things by name; the one that nobody used for longest goes when there is one too many.
pub(super) struct Kept<T> {
    things: BTreeMap<String, (u64, T)>,
    /// Counts uses, so that the oldest is known.
    uses: u64,
    most: usize,
}

impl<T: Clone> Kept<T> {
    /// Nothing yet; at most `most`, and one at least.
    pub(super) fn new(most: usize) -> Self {
        Self { things: BTreeMap::new(), uses: 0, most: most.max(1) }
    }

    /// What is kept by this name.
    pub(super) fn get(&mut self, name: &str) -> Option<T> {
        self.uses += 1;
        let (used, thing) = self.things.get_mut(name)?;
        *used = self.uses;
        Some(thing.clone())
    }

    /// Keeps `thing`, in the place of what had its name.
    pub(super) fn put(&mut self, name: &str, thing: T) {
        self.uses += 1;
        self.things.insert(name.to_owned(), (self.uses, thing));
        if self.things.len() > self.most {
            // Looking at all costs less than the opening that came before.
            let oldest = self.things.iter().min_by_key(|(_, (used, _))| *used).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.things.remove(&name));
        }
    }

    /// Keeps it no longer.
    pub(super) fn remove(&mut self, name: &str) {
        self.things.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_038_what_was_not_used_for_longest_goes_first() {
        let mut kept = Kept::new(2);
        kept.put("a", 1);
        kept.put("b", 2);
        assert_eq!(kept.get("a"), Some(1));
        kept.put("c", 3);
        assert_eq!((kept.get("a"), kept.get("b"), kept.get("c")), (Some(1), None, Some(3)));
        // What is put again takes no place of another.
        kept.put("c", 4);
        assert_eq!((kept.get("a"), kept.get("c")), (Some(1), Some(4)));
        kept.remove("a");
        kept.put("d", 5);
        assert_eq!((kept.get("a"), kept.get("c"), kept.get("d")), (None, Some(4), Some(5)));
    }
}
