//! Little-endian fields of headers: a reader that cannot run past the end, and stores into fixed arrays of our own.

/// Reads fields front to back; `None` when too few octets are left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*front)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// A length or a place of our own making, as a field of 32 bits.
///
/// # Panics
/// When it does not fit, our mistake: whatever has a length stands in a segment, and those are below 4 GiB.
pub(super) fn length(octets: impl TryInto<u32>) -> u32 {
    match octets.try_into() {
        Ok(octets) => octets,
        Err(_) => unreachable!("segments are below 4 GiB"),
    }
}

/// Stores fields into a fixed header.
pub(super) trait Store {
    fn store(&mut self, at: usize, bytes: &[u8]);

    fn store_u16(&mut self, at: usize, value: u16) {
        self.store(at, &value.to_le_bytes());
    }
    fn store_u32(&mut self, at: usize, value: u32) {
        self.store(at, &value.to_le_bytes());
    }
    fn store_u64(&mut self, at: usize, value: u64) {
        self.store(at, &value.to_le_bytes());
    }
}

impl<const N: usize> Store for [u8; N] {
    fn store(&mut self, at: usize, bytes: &[u8]) {
        match self.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            Some(place) => place.copy_from_slice(bytes),
            None => unreachable!("fields stand inside their header"),
        }
    }
}
