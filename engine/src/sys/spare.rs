//! Emptied things that are kept for their memory, up to a bound.

/// At most `MOST` of them; what is kept beyond that is dropped.
#[derive(Debug)]
pub struct Spare<T, const MOST: usize>(Vec<T>);

impl<T, const MOST: usize> Default for Spare<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MOST: usize> Spare<T, MOST> {
    /// The one kept last, if there is one.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// The same, or a new one.
    pub fn take(&mut self) -> T
    where
        T: Default,
    {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps `emptied` for the next [`Spare::take`].
    pub fn keep(&mut self, emptied: T) {
        if self.0.len() < MOST {
            self.0.push(emptied);
        }
    }

    /// How many are kept.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_no_more_than_the_bound_is_kept() {
        let mut spare = Spare::<Vec<u8>, 2>::default();
        assert_eq!((spare.take().capacity(), spare.count()), (0, 0), "a new one where none is kept");
        for bytes in [10, 20, 30] {
            spare.keep(Vec::with_capacity(bytes));
        }
        assert_eq!(spare.count(), 2);
        assert!(spare.take().capacity() >= 20, "the one kept last comes first");
        assert!(spare.pop().is_some_and(|kept| kept.capacity() >= 10));
        assert!(spare.pop().is_none());
    }
}
