//! Reading messages back whose content is not in memory: after a start, after memory ran short, large ones.

use super::Hub;
use super::messages::{Message, from_record};
use super::quarantine::{Quarantine, is_news};
use crate::io::driver::{Driver, Open};
use crate::planted;
use crate::queue::{Outcome, Taken};
use crate::shell::body::Slices;
use crate::spool::{Cause, Damage, Fetch, Fetched, FileId, Read, RecordId, RecordRef, Stretch};
use crate::sys::slice::{Fill, Slice};
use crate::track::counters::Counter;
use crate::wire::{EnvelopeRef, Span};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Content is read in pieces of at most so many octets: the largest chunk.
const PIECE_BYTES: u64 = 1 << 20;
/// One in so many messages that are sent from memory is compared with what was received.
const SAMPLE_EVERY: u32 = 64;
/// How long to wait for memory to read into.
pub(super) const NO_MEMORY_WAIT: Span = Span::millis(5);

/// Why a message cannot be brought into memory.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// It is settled, or moved: nothing to deliver.
    #[error("the record is not there any more")]
    Gone,
    /// Back pressure: it is tried again later.
    #[error("no memory for the content")]
    Memory,
    /// The disk's: tried again later, reported each time (F-028).
    #[error("cannot read the spool: {0}")]
    Read(#[from] io::Error),
    /// What the disk gave back from there is not what was written: it never leaves (F-016).
    #[error("damaged on disk")]
    Damaged(Read),
}

/// A record's head with envelope and trace header, whole, as it was read: the record may have moved since.
pub(super) struct HeadOctets {
    fetch: Fetch,
    octets: Vec<u8>,
}

impl HeadOctets {
    pub fn record(&self) -> Option<RecordRef<'_>> {
        match self.fetch.parse(&self.octets) {
            Ok(Fetched::Record(record)) => Some(record),
            Ok(Fetched::More(_)) | Err(_) => None,
        }
    }

    /// What it says makes no sense.
    pub fn damaged(&self) -> LoadError {
        LoadError::Damaged(self.fetch.first_read())
    }
}

impl<D: Driver> Hub<D> {
    /// A message with its content in memory; its handle. What the disk refuses is asked for once more (F-028).
    ///
    /// # Errors
    /// It cannot be had now.
    pub(super) async fn whole(self: &Rc<Self>, taken: &Taken) -> Result<u32, LoadError> {
        let in_memory = taken.content.filter(|&message| self.messages.borrow().get(message).is_whole());
        let in_memory = in_memory.filter(|&message| self.is_sound(message));
        if let Some(message) = in_memory {
            return Ok(message);
        }
        if self.is_short() && self.loading.get() > 0 {
            // Many that each hold a part of what they need would wait for each other.
            return Err(LoadError::Memory);
        }
        self.loading.set(self.loading.get() + 1);
        let read = match self.read_message(taken).await {
            Err(error) if self.asks_again(&error) => self.read_message(taken).await,
            read => read,
        };
        self.loading.set(self.loading.get() - 1);
        if let (Err(LoadError::Damaged(place)), Some(record)) = (&read, RecordId::from_raw(taken.record)) {
            self.set_aside(record, *place).await;
        }
        let handle = self.messages.borrow_mut().insert(read?);
        // What stood for it before had no content: a large body that was written while it arrived.
        let before = self.queues.borrow_mut().set_content(taken.id, Some(handle));
        if let Some(before) = before {
            self.messages.borrow_mut().release(before);
        }
        Ok(handle)
    }

    /// Compares, on a sample, content that never left memory with what was received; when they differ, it is read from the
    /// spool in its place (F-018). What is read from the disk is always compared.
    fn is_sound(&self, message: u32) -> bool {
        let turn = self.sampled.get();
        self.sampled.set((turn + 1) % SAMPLE_EVERY);
        if turn != 0 {
            return true;
        }
        let mut messages = self.messages.borrow_mut();
        let message = messages.get_mut(message);
        message.spoiled = super::accept::crc(message.content.iter().map(|slice| &**slice)) != message.crc32c;
        if message.spoiled {
            self.tally.one(Counter::Damage);
            tracing::error!(cause = "memory", record = %message.record,
                "a message changed in memory: it is read from the spool again; look at this machine's memory");
        }
        !message.spoiled
    }

    /// A message that was taken cannot be had: it goes back, and no host is blamed for it.
    pub(super) fn not_to_be_had(self: &Rc<Self>, taken: &Taken, error: &LoadError) {
        if matches!(error, LoadError::Memory) {
            return self.put_back(taken);
        }
        self.tally.one(Counter::Unreadable);
        // Damage was named when it was set aside.
        if !matches!(error, LoadError::Damaged(_)) {
            tracing::error!(cause = "spool", record = taken.record, %error, "a message stays where it is");
        }
        self.queues.borrow_mut().finish(taken.id, Outcome::Unreadable, self.driver.now());
    }

    /// A message that was taken is not sent now.
    pub(super) fn put_back(self: &Rc<Self>, taken: &Taken) {
        self.queues.borrow_mut().finish(taken.id, Outcome::NotAttempted, self.driver.now());
        self.part_with(taken.id, Outcome::NotAttempted);
    }

    async fn read_message(self: &Rc<Self>, taken: &Taken) -> Result<Message, LoadError> {
        let id = RecordId::from_raw(taken.record).ok_or(LoadError::Gone)?;
        let head = self.read_head(id).await?;
        let damaged = head.damaged();
        let Some(record) = head.record() else { return Err(damaged) };
        let Ok(stretches) = self.log.borrow().content_of(&record) else { return Err(damaged) };
        let mut content = Slices::new();
        let mut room = self.room_for(&stretches)?;
        for stretch in &stretches {
            self.read_into(stretch, &mut room, &mut content).await?;
        }
        let (envelope, trace) = self.keep_head(&record)?.ok_or(damaged)?;
        Ok(Message {
            id: id.raw(),
            record: id,
            recipients: record.head.recipients,
            envelope,
            trace,
            content,
            facts: from_record(&record.head.facts),
            crc32c: record.head.facts.crc32c,
            received: record.head.received,
            spoiled: false,
            // What was settled before is not known here: recipients are settled one by one.
            undivided: false,
            entries: 1,
        })
    }

    /// A record without its content. What the disk refuses is asked for once more (F-028).
    ///
    /// # Errors
    /// It cannot be had now, or never; not for want of memory.
    pub(super) async fn read_record(self: &Rc<Self>, id: RecordId) -> Result<HeadOctets, LoadError> {
        let read = async || match self.read_head(id).await {
            Err(error) if self.asks_again(&error) => self.read_head(id).await,
            // It moved while it was read, and its file went: it is read where it stands now.
            Err(LoadError::Gone) if self.log.borrow().fetch(id).is_some() => self.read_head(id).await,
            read => read,
        };
        let read = self.patiently(read).await;
        if let Err(LoadError::Damaged(place)) = &read {
            self.set_aside(id, *place).await;
        }
        read
    }

    /// Copies a damaged place to the quarantine, and names and counts it, once. The message stays where it is: a disk may
    /// give back tomorrow what it does not today.
    pub(super) async fn set_aside(self: &Rc<Self>, record: RecordId, place: Read) {
        let Some(dir) = &self.dir else { return };
        if !self.aside.borrow_mut().insert((record, place.at)) {
            return;
        }
        let number = Some(record.number());
        let Read { file, at: offset, bytes } = place;
        let (bytes, cause) = (bytes as u64, Cause::Rot);
        let damage = Damage { file, number, offset, bytes, record: Some(record), content: None, cause };
        let aside = async { Quarantine::open(&self.driver, dir).await?.copy(&self.pool, &damage).await }.await;
        if aside.is_err() {
            self.aside.borrow_mut().remove(&(record, place.at));
        }
        self.tally.add(Counter::Damage, u64::from(is_news(&damage, &aside)));
    }

    /// Whether it is asked for once more: what the disk refuses (F-028), and what is damaged, past the page cache then.
    pub(super) fn asks_again(&self, error: &LoadError) -> bool {
        if let LoadError::Damaged(place) = error {
            self.distrust(place.file);
        }
        matches!(error, LoadError::Read(_) | LoadError::Damaged(_))
    }

    /// Tries again while there is only no memory.
    pub(super) async fn patiently<T>(&self, read: impl AsyncFn() -> Result<T, LoadError>) -> Result<T, LoadError> {
        loop {
            match read().await {
                Err(LoadError::Memory) => {
                    self.relieve();
                    self.driver.sleep(NO_MEMORY_WAIT).await;
                }
                done => return done,
            }
        }
    }

    pub(super) async fn read_head(self: &Rc<Self>, id: RecordId) -> Result<HeadOctets, LoadError> {
        let fetch = self.log.borrow().fetch(id).ok_or(LoadError::Gone)?;
        let mut read = fetch.first_read();
        loop {
            let octets = self.read_octets(read).await?;
            match fetch.parse(&octets) {
                Ok(Fetched::Record(_)) => return Ok(HeadOctets { fetch, octets }),
                Ok(Fetched::More(more)) => read = more,
                Err(_) => return Err(LoadError::Damaged(read)),
            }
        }
    }

    /// The envelope and the trace header in memory of their own; `None` when the envelope makes no sense.
    fn keep_head(&self, record: &RecordRef<'_>) -> Result<Option<(Slice, Slice)>, LoadError> {
        let mut fill = self.pool.fill(record.envelope.len() + record.trace.len()).ok_or(LoadError::Memory)?;
        if fill.put(record.envelope) < record.envelope.len() {
            return Err(LoadError::Memory);
        }
        let envelope = fill.take();
        fill.put(record.trace);
        Ok(EnvelopeRef::parse(&envelope).is_ok().then(|| (envelope, fill.take())))
    }

    /// Memory for all of this, or none of it: readers that each hold a part of what they need would wait for each other,
    /// whichever shards they are of.
    fn room_for(&self, stretches: &[Stretch]) -> Result<VecDeque<Fill>, LoadError> {
        let fills = stretches.iter().flat_map(pieces).map(|(_, bytes)| {
            let mut fill = self.pool.fill(bytes).ok_or(LoadError::Memory)?;
            fill.limit(bytes);
            Ok(fill)
        });
        fills.collect()
    }

    /// Appends a stretch's octets to `content`, checked.
    pub(super) async fn read_stretch(
        self: &Rc<Self>,
        stretch: &Stretch,
        content: &mut Slices,
    ) -> Result<(), LoadError> {
        let mut room = self.room_for(std::slice::from_ref(stretch))?;
        self.read_into(stretch, &mut room, content).await
    }

    /// The same, into what [`Hub::room_for`] gave, from its front.
    async fn read_into(
        self: &Rc<Self>,
        stretch: &Stretch,
        room: &mut VecDeque<Fill>,
        content: &mut Slices,
    ) -> Result<(), LoadError> {
        let mut read = Slices::new();
        let (mut skip, mut left) = (stretch.skip, stretch.bytes);
        for (at, _) in pieces(stretch) {
            let fill = room.pop_front().expect("room was made for every piece");
            let slice = self.read_fill(stretch.file, fill, at).await?.take();
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(slice.len() - skip);
            read.push(slice.sub(skip..skip + count));
            left -= count as u64;
            skip = 0;
        }
        if !stretch.is_whole(read.iter().map(|piece| &**piece)) && !planted!(UncheckedContent) {
            let bytes = usize::try_from(stretch.read_bytes()).unwrap_or(usize::MAX);
            return Err(LoadError::Damaged(Read { file: stretch.file, at: stretch.at, bytes }));
        }
        content.extend(read);
        Ok(())
    }

    async fn read_piece(self: &Rc<Self>, file: FileId, at: u64, bytes: usize) -> Result<Slice, LoadError> {
        let mut fill = self.pool.fill(bytes).ok_or(LoadError::Memory)?;
        fill.limit(bytes);
        let mut fill = self.read_fill(file, fill, at).await?;
        Ok(fill.take())
    }

    /// Fills `fill` from `at` on.
    async fn read_fill(self: &Rc<Self>, file: FileId, fill: Fill, at: u64) -> Result<Fill, LoadError> {
        let file = self.reader(file).await.ok_or(LoadError::Gone)?;
        let mut fill = fill;
        let mut at = at;
        while fill.room() > 0 {
            let (count, back) = self.driver.read(&file, fill, at).await;
            fill = back;
            match count? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => at += count as u64,
            }
        }
        Ok(fill)
    }

    /// The octets of a read that need to stand in one piece, whatever their number.
    pub(super) async fn read_whole(self: &Rc<Self>, read: Read) -> Option<Vec<u8>> {
        self.patiently(async || self.read_octets(read).await).await.ok()
    }

    async fn read_octets(self: &Rc<Self>, read: Read) -> Result<Vec<u8>, LoadError> {
        let mut octets = Vec::with_capacity(read.bytes);
        while octets.len() < read.bytes {
            let bytes = (read.bytes - octets.len()).min(PIECE_BYTES as usize);
            let piece = self.read_piece(read.file, read.at + octets.len() as u64, bytes).await?;
            octets.extend_from_slice(&piece);
        }
        Ok(octets)
    }

    /// Opens the file of a segment that recovery found.
    pub(super) async fn open_segment(&self, id: FileId) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let file = self.driver.open(dir, &super::segments::name(id), Open::Write { direct: self.direct }).await?;
        self.files.borrow_mut().insert(id, super::segments::Segment::new(file));
        Ok(())
    }
}

/// What a stretch is read in: where each piece begins, and its octets.
fn pieces(stretch: &Stretch) -> impl Iterator<Item = (u64, usize)> + use<> {
    let (first, end) = (stretch.at, stretch.at + stretch.read_bytes());
    let starts = (0..).map(move |piece| first + piece * PIECE_BYTES).take_while(move |&at| at < end);
    starts.map(move |at| (at, usize::try_from((end - at).min(PIECE_BYTES)).expect("at most a piece")))
}
