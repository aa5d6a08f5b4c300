//! The store that takes everything for everybody and keeps nothing: for measuring what is before it.

/// Counts what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NullStore {
    /// Messages, once per mailbox.
    pub messages: u64,
    /// Their octets.
    pub bytes: u64,
}

impl NullStore {
    /// Takes a message of so many octets for so many mailboxes.
    pub fn take(&mut self, bytes: u64, mailboxes: u64) {
        self.messages = self.messages.saturating_add(mailboxes);
        self.bytes = self.bytes.saturating_add(bytes.saturating_mul(mailboxes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_thrown_away_is_counted() {
        let mut store = NullStore::default();
        store.take(100, 3);
        store.take(u64::MAX, 2);
        assert_eq!(store, NullStore { messages: 5, bytes: u64::MAX });
    }
}
