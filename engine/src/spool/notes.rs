//! What a footer will be made of, gathered while its segment is open.
//!
//! It grows by a few hundred octets with each record, to megabytes. It stands in pieces, so that growing copies nothing and
//! takes little fresh memory at a time; and the pieces go from segment to segment, because clearing fresh pages is the
//! longest that a shard would ever stand still (perf/HISTORY.md, "acknowledgements").

/// Octets of a piece; a longer entry gets a piece of its own.
const PIECE_BYTES: usize = 64 << 10;

/// Emptied pieces, waiting to be used again.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<Vec<u8>>);

impl Pieces {
    /// Takes over what `from` has, and keeps at most `bytes` octets of it all.
    pub(super) fn gather(&mut self, from: &mut Pieces, bytes: u64) {
        self.0.append(&mut from.0);
        self.0.truncate(usize::try_from(bytes).unwrap_or(usize::MAX) / PIECE_BYTES);
    }
}

/// Entries, none of them cut in two.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pieces: Vec<Vec<u8>>,
    bytes: u64,
}

impl Notes {
    /// Octets noted.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Notes one entry of at most `bytes` octets: what `write` puts behind what it is given.
    pub(super) fn add(&mut self, spare: &mut Pieces, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let fits = |piece: &&mut Vec<u8>| piece.capacity().saturating_sub(piece.len()) >= bytes;
        if self.pieces.last_mut().filter(fits).is_none() {
            let piece = spare.0.pop_if(|piece| piece.capacity() >= bytes);
            self.pieces.push(piece.unwrap_or_else(|| Vec::with_capacity(bytes.max(PIECE_BYTES))));
        }
        let Some(piece) = self.pieces.last_mut() else { return };
        let before = piece.len();
        write(piece);
        self.bytes = self.bytes.saturating_add(piece.len().saturating_sub(before) as u64);
    }

    /// The entries, in order: one or more of them at a time.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(Vec::as_slice)
    }

    /// Forgets everything; the memory goes to `spare`.
    pub(super) fn clear(&mut self, spare: &mut Pieces) {
        self.bytes = 0;
        spare.0.extend(self.pieces.drain(..).filter(|piece| piece.capacity() == PIECE_BYTES).map(|mut piece| {
            piece.clear();
            piece
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(notes: &Notes) -> Vec<u8> {
        notes.iter().flatten().copied().collect()
    }

    #[test]
    fn entries_stay_whole_and_in_order() {
        let (mut notes, mut spare, mut all) = (Notes::default(), Pieces::default(), Vec::new());
        for (at, bytes) in [1, 40_000, 30_000, 200_000, 7, 65_536, 0].into_iter().enumerate() {
            let entry = vec![at as u8; bytes];
            notes.add(&mut spare, bytes, |into| into.extend_from_slice(&entry));
            assert!(notes.iter().any(|piece| piece.ends_with(&entry)), "{at} is cut");
            all.extend_from_slice(&entry);
        }
        assert_eq!((noted(&notes), notes.bytes()), (all.clone(), all.len() as u64));
    }

    #[test]
    fn memory_is_used_again_up_to_a_bound() {
        let (mut notes, mut spare) = (Notes::default(), Pieces::default());
        for _ in 0..4 {
            notes.add(&mut spare, PIECE_BYTES, |into| into.resize(PIECE_BYTES, 1));
        }
        notes.add(&mut spare, 2 * PIECE_BYTES, |into| into.resize(2 * PIECE_BYTES, 1));
        let memory = notes.pieces[3].as_ptr();
        notes.clear(&mut spare);
        assert_eq!((spare.0.len(), notes.bytes(), noted(&notes)), (4, 0, Vec::new()));
        notes.add(&mut spare, 3, |into| into.extend_from_slice(b"new"));
        assert_eq!((notes.pieces[0].as_ptr(), noted(&notes)), (memory, b"new".to_vec()));
        let mut kept = Pieces::default();
        kept.gather(&mut spare, 2 * PIECE_BYTES as u64);
        assert_eq!((kept.0.len(), spare.0.len()), (2, 0));
    }
}
