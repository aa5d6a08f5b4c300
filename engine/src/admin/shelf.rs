//! Reads messages from a spool's files beside the server that writes them: nothing is locked, asked for or changed. Every
//! octet is checked, and what is not there any more has left its queue meanwhile.

use crate::mime::header;
use crate::spool::{Fetch, Fetched, HeadBlock, RecordId, RecordRef, SegmentHead, SegmentNumber, Stretch};
use crate::wire::{EnvelopeRef, ReversePathRef, Wall};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Octets of a segment's head.
const HEAD_BYTES: usize = 4096;

/// Octets of content that are looked through for the fields of its header; longer headers are shown as far as that.
const HEADER_BYTES: u64 = 16 << 10;

/// What a message's record says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// MAIL FROM: `<>` for the empty one.
    pub from: String,
    /// All recipients of the record, by their numbers.
    pub recipients: Vec<String>,
    /// When it was received.
    pub received: Wall,
    /// Its Subject, as it stands there.
    pub subject: Option<String>,
    /// Its Message-ID.
    pub message_id: Option<String>,
}

/// The segments of a folder.
pub(super) struct Shelf {
    folder: PathBuf,
    segments: BTreeMap<SegmentNumber, (SegmentHead, PathBuf)>,
    /// They were read since the last [`Shelf::refresh`].
    fresh: bool,
    /// The one that was read last.
    open: Option<(SegmentNumber, File)>,
    octets: Vec<u8>,
}

impl Shelf {
    pub fn new(folder: &Path) -> Self {
        let (segments, octets) = (BTreeMap::new(), Vec::new());
        Self { folder: folder.to_owned(), segments, fresh: false, open: None, octets }
    }

    /// Segments that were begun from now on are looked for, once, when a record stands in one.
    pub fn refresh(&mut self) {
        self.fresh = false;
    }

    /// What a record says; `None` when it is gone.
    ///
    /// # Errors
    /// The folder or a file in it cannot be read.
    pub fn sheet(&mut self, id: RecordId) -> io::Result<Option<Sheet>> {
        let sheet = |record: &RecordRef<'_>| {
            let envelope = EnvelopeRef::parse(record.envelope).ok()?;
            let recipients = envelope.recipients().map(|recipient| text(|out| recipient.mailbox.write(out)));
            let from = match envelope.reverse_path() {
                ReversePathRef::Null => "<>".to_owned(),
                ReversePathRef::Mailbox(mailbox) => text(|out| mailbox.write(out)),
            };
            let (received, recipients) = (record.head.received, recipients.collect());
            Some(Sheet { from, recipients, received, subject: None, message_id: None })
        };
        let Some((Some(mut sheet), stretches)) = self.record(id, sheet)? else { return Ok(None) };
        let Some(first) = stretches.first() else { return Ok(Some(sheet)) };
        let bytes = usize::try_from(first.bytes.min(HEADER_BYTES)).unwrap_or(0);
        if self.read(first.number, first.at, first.skip.saturating_add(bytes))? {
            for field in header::fields(self.octets.get(first.skip..).unwrap_or_default()) {
                let shown = || Some(text(|out| field.unfold(out)));
                if field.is("Subject") {
                    sheet.subject = sheet.subject.or_else(shown);
                } else if field.is("Message-ID") {
                    sheet.message_id = sheet.message_id.or_else(shown);
                }
            }
        }
        Ok(Some(sheet))
    }

    /// A message as it would leave, our trace header in front; `None` when it is gone, or is not what was received any more.
    ///
    /// # Errors
    /// The folder or a file in it cannot be read.
    pub fn message(&mut self, id: RecordId) -> io::Result<Option<Vec<u8>>> {
        let Some((mut message, stretches)) = self.record(id, |record| record.trace.to_vec())? else { return Ok(None) };
        for stretch in stretches {
            match self.stretch(&stretch)? {
                Some(content) => message.extend_from_slice(content),
                None => return Ok(None),
            }
        }
        Ok(Some(message))
    }

    /// What `read` makes of a record, and where its content stands; `None` when it is gone.
    fn record<T>(&mut self, id: RecordId, read: impl Fn(&RecordRef<'_>) -> T) -> io::Result<Option<(T, Vec<Stretch>)>> {
        if !self.segments.contains_key(&id.number()) && !self.fresh {
            self.look()?;
        }
        let head = self.segments.get(&id.number()).map(|(head, _)| *head);
        let Some(fetch) = head.and_then(|head| Fetch::in_segment(&head, id)) else { return Ok(None) };
        if !self.fetch(&fetch)? {
            return Ok(None);
        }
        let Ok(Fetched::Record(record)) = fetch.parse(&self.octets) else { return Ok(None) };
        let stretches = record.content_in(|number| self.segments.get(&number).map(|(head, _)| *head));
        Ok(stretches.ok().map(|stretches| (read(&record), stretches)))
    }

    fn stretch(&mut self, stretch: &Stretch) -> io::Result<Option<&[u8]>> {
        let (Ok(bytes), Ok(content)) = (usize::try_from(stretch.read_bytes()), usize::try_from(stretch.bytes)) else {
            return Ok(None);
        };
        if !self.read(stretch.number, stretch.at, bytes)? {
            return Ok(None);
        }
        let content = self.octets.get(stretch.skip..stretch.skip.saturating_add(content));
        Ok(content.filter(|content| stretch.is_whole([*content])))
    }

    /// Reads as much as the record's head needs; `false` when that is not there.
    fn fetch(&mut self, fetch: &Fetch) -> io::Result<bool> {
        let mut read = fetch.first_read();
        loop {
            if !self.read(fetch.id().number(), read.at, read.bytes)? {
                return Ok(false);
            }
            match fetch.parse(&self.octets) {
                Ok(Fetched::More(more)) => read = more,
                Ok(Fetched::Record(_)) => return Ok(true),
                Err(_) => return Ok(false),
            }
        }
    }

    fn read(&mut self, number: SegmentNumber, at: u64, bytes: usize) -> io::Result<bool> {
        let file = match self.open.take().filter(|(open, _)| *open == number) {
            Some((_, file)) => file,
            None => {
                let Some((_, path)) = self.segments.get(&number) else { return Ok(false) };
                match File::open(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                    file => file?,
                }
            }
        };
        self.octets.resize(bytes, 0);
        let read = file.read_exact_at(&mut self.octets, at);
        self.open = Some((number, file));
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| true),
        }
    }

    /// Reads the heads of all segments that there are now.
    fn look(&mut self) -> io::Result<()> {
        self.fresh = true;
        self.segments.clear();
        self.open = None;
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != "segment") {
                continue;
            }
            let mut block = [0; HEAD_BYTES];
            let read = File::open(&path).and_then(|file| file.read_exact_at(&mut block, 0));
            // What vanishes while we look, or is only being made, holds nothing for us.
            if read.is_ok()
                && let HeadBlock::Valid(head) = SegmentHead::decode(&block)
            {
                self.segments.insert(head.number, (head, path));
            }
        }
        Ok(())
    }
}

/// What `write` writes, as text.
fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}
