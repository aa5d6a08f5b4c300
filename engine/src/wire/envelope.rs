//! The envelope of a message (RFC 5321 §2.3.1) in its one encoded form: built while MAIL and RCPT arrive, written to disk
//! as it is, read in place for delivery.
//!
//! # Format, version 1 (integers little-endian)
//!
//! | offset | octets | meaning |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | body type: 0 not stated, 1 7BIT, 2 8BITMIME, 3 BINARYMIME |
//! | 2 | 2 | offset of the first recipient |
//! | 4 | 4 | recipients |
//! | 8 | 4 | octets of the whole envelope |
//! | 12 | 8 | size that MAIL declared, 0 when it declared none |
//! | 20 | 2 | `l`: octets of the reverse-path's local-part; 0 is the null reverse-path |
//! | 22 | 2 | `d`: octets of its domain |
//! | 24 | l, d | local-part, domain, canonical |
//! | 24+l+d | | tagged fields of the transaction, up to the first recipient |
//! | then per recipient: 0 | 2 | octets of this recipient, these included |
//! | 2 | 2 | `l`: octets of the local-part |
//! | 4 | 2 | `d`: octets of the domain |
//! | 6 | l, d | local-part, domain, canonical |
//! | 6+l+d | | tagged fields of the recipient, up to its end |
//!
//! A tagged field is tag (1), octets (2), value. Readers skip tags that they do not know, so others can join without a new
//! version; a tag stands in one place once at most.
//!
//! | of | tag | value: what RFC 3461 made MAIL and RCPT say |
//! |---|---|---|
//! | transaction | 1 | RET: 1 FULL, 2 HDRS |
//! | transaction | 2 | ENVID, as xtext, 1 to 100 octets |
//! | recipient | 1 | NOTIFY: 1 SUCCESS, 2 FAILURE, 4 DELAY added up; 0 NEVER |
//! | recipient | 2 | ORCPT, address type and xtext, up to 500 octets |

use super::cursor::Cursor;
use super::dsn::{self, Notify, Return};
use super::mailbox::{MailboxRef, PathError, PathLimits, PathParts, ReversePathRef, parse_path};
use std::fmt;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 24;
const RECIPIENT_HEAD_BYTES: usize = 6;

/// Most octets of an encoded envelope that a reader accepts: a hundred thousand of the longest recipients of 5321 fit in.
pub const ENVELOPE_BYTES_MAX: usize = 64 << 20;

/// Octets of memory that a builder keeps when it is emptied.
pub const ENVELOPE_KEPT_BYTES: usize = 4 << 10;

/// What MAIL said about the body (RFC 6152, RFC 3030 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyType {
    /// `BODY=7BIT`.
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBit,
    /// `BODY=BINARYMIME`.
    Binary,
}

/// Why octets are no envelope: the disk's fault, or a version to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Written by a later version of this program.
    #[error("envelope version {0}")]
    Version(u8),
    /// A length, a count or an octet that no writer of ours leaves.
    #[error("not an envelope")]
    Malformed,
}

/// A reusable builder. Empty after `new` and `clear`: null reverse-path, no recipients.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvelopeBuf {
    octets: Vec<u8>,
    /// Where the staged recipient begins and its parts, while one is staged.
    staged: Option<(usize, PathParts)>,
    recipients: u32,
}

impl Default for EnvelopeBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl EnvelopeBuf {
    /// An empty envelope; allocates when the reverse-path is set.
    pub fn new() -> Self {
        Self { octets: Vec::new(), staged: None, recipients: 0 }
    }

    /// Empties it, keeping its memory up to [`ENVELOPE_KEPT_BYTES`].
    pub fn clear(&mut self) {
        self.octets.clear();
        self.octets.shrink_to(ENVELOPE_KEPT_BYTES);
        self.staged = None;
        self.recipients = 0;
    }

    /// Starts over with this reverse-path; parameters and recipients are forgotten.
    pub fn set_reverse_path(&mut self, path: ReversePathRef<'_>) {
        self.begin();
        let mut parts = PathParts::default();
        if let ReversePathRef::Mailbox(mailbox) = path {
            self.octets.extend_from_slice(mailbox.local());
            self.octets.extend_from_slice(mailbox.domain());
            parts = PathParts { local_bytes: mailbox.local().len(), domain_bytes: mailbox.domain().len() };
        }
        self.end_head(parts);
    }

    /// Starts over with the reverse-path that stands at the start of `text`, in angle brackets. Returns what follows it.
    ///
    /// # Errors
    /// `PathError`; the envelope is empty then.
    pub fn read_reverse_path<'t>(&mut self, text: &'t [u8], limits: PathLimits) -> Result<&'t [u8], PathError> {
        self.begin();
        let mut cursor = Cursor::new(text);
        match parse_path(&mut cursor, limits, &mut self.octets) {
            Ok(parts) => {
                self.end_head(parts);
                Ok(cursor.rest())
            }
            Err(error) => {
                self.clear();
                Err(error)
            }
        }
    }

    /// States the body type.
    pub fn set_body(&mut self, body: Option<BodyType>) {
        self.ensure_head();
        let octet = match body {
            None => 0,
            Some(BodyType::SevenBit) => 1,
            Some(BodyType::EightBit) => 2,
            Some(BodyType::Binary) => 3,
        };
        patch(&mut self.octets, 1, &[octet]);
    }

    /// States the size that the sender declared, in octets; 0 is none.
    pub fn set_declared_bytes(&mut self, bytes: u64) {
        self.ensure_head();
        patch(&mut self.octets, 12, &bytes.to_le_bytes());
    }

    /// States RET and ENVID, as xtext that [`dsn::is_envelope_id`] accepts. To be called before there are recipients.
    pub fn set_report(&mut self, ret: Option<Return>, envelope_id: Option<&[u8]>) {
        self.ensure_head();
        debug_assert!(
            self.recipients == 0 && self.staged.is_none(),
            "the transaction's fields stand before recipients"
        );
        if let Some(ret) = ret {
            push_field(&mut self.octets, dsn::TAG_RET, &[ret.octet()]);
        }
        if let Some(id) = envelope_id {
            push_field(&mut self.octets, dsn::TAG_ENVID, id);
        }
        let first_recipient = length(self.octets.len());
        patch(&mut self.octets, 2, &first_recipient);
        self.patch_totals();
    }

    /// States NOTIFY and ORCPT of the staged recipient, the latter as [`dsn::is_original_recipient`] accepts it. To be
    /// called once.
    pub fn set_staged_report(&mut self, notify: Option<Notify>, original: Option<&[u8]>) {
        if self.staged.is_none() {
            return;
        }
        if let Some(notify) = notify {
            push_field(&mut self.octets, dsn::TAG_NOTIFY, &[notify.octet()]);
        }
        if let Some(original) = original {
            push_field(&mut self.octets, dsn::TAG_ORCPT, original);
        }
    }

    /// Adds a copy of another envelope's recipient, with what it says about reports.
    pub fn add_copy(&mut self, recipient: RecipientRef<'_>) {
        self.add(recipient.mailbox, recipient.notify(), recipient.original());
    }

    /// Adds a recipient behind those there are, with this said about reports.
    pub fn add(&mut self, mailbox: MailboxRef<'_>, notify: Option<Notify>, original: Option<&[u8]>) {
        self.unstage();
        let at = self.begin_recipient();
        self.octets.extend_from_slice(mailbox.local());
        self.octets.extend_from_slice(mailbox.domain());
        let parts = PathParts { local_bytes: mailbox.local().len(), domain_bytes: mailbox.domain().len() };
        self.staged = Some((at, parts));
        self.set_staged_report(notify, original);
        self.commit();
    }

    /// Adds a recipient behind those there are.
    pub fn add_recipient(&mut self, mailbox: MailboxRef<'_>) {
        self.add(mailbox, None, None);
    }

    /// Reads the forward-path at the start of `text`, in angle brackets, without making it a recipient yet. Returns what
    /// follows it. `<>` is a syntax error (M-029).
    ///
    /// # Errors
    /// `PathError`; nothing is staged then.
    pub fn stage_recipient<'t>(&mut self, text: &'t [u8], limits: PathLimits) -> Result<&'t [u8], PathError> {
        self.unstage();
        let at = self.begin_recipient();
        let mut cursor = Cursor::new(text);
        let parts = match parse_path(&mut cursor, limits, &mut self.octets) {
            Ok(parts) if parts != PathParts::default() => parts,
            Ok(_) => {
                self.octets.truncate(at);
                return Err(PathError::Syntax);
            }
            Err(error) => {
                self.octets.truncate(at);
                return Err(error);
            }
        };
        self.staged = Some((at, parts));
        Ok(cursor.rest())
    }

    /// The staged recipient.
    pub fn staged(&self) -> Option<RecipientRef<'_>> {
        let (at, parts) = self.staged?;
        let mut cursor = Cursor::new(self.octets.get(at.saturating_add(RECIPIENT_HEAD_BYTES)..)?);
        let local = cursor.take(parts.local_bytes)?;
        let mailbox = MailboxRef::from_canonical(local, cursor.take(parts.domain_bytes)?).ok()?;
        Some(RecipientRef { index: self.recipients, mailbox, fields: cursor.rest() })
    }

    /// Octets of the encoded form once what is staged is part of it.
    pub fn staged_bytes(&self) -> usize {
        self.octets.len()
    }

    /// Makes the staged recipient one of the envelope's.
    pub fn commit(&mut self) {
        let Some((at, parts)) = self.staged.take() else { return };
        let octets = length(self.octets.len().saturating_sub(at));
        patch(&mut self.octets, at, &octets);
        patch(&mut self.octets, at.saturating_add(2), &length(parts.local_bytes));
        patch(&mut self.octets, at.saturating_add(4), &length(parts.domain_bytes));
        self.recipients = self.recipients.saturating_add(1);
        self.patch_totals();
    }

    /// Forgets the staged recipient.
    pub fn unstage(&mut self) {
        if let Some((at, _)) = self.staged.take() {
            self.octets.truncate(at);
        }
    }

    /// The encoded form; a staged recipient is not part of it.
    pub fn bytes(&self) -> &[u8] {
        let end = self.staged.map_or(self.octets.len(), |(at, _)| at);
        let octets = self.octets.get(..end).unwrap_or_default();
        if octets.is_empty() { &EMPTY } else { octets }
    }

    /// The envelope as it stands.
    pub fn as_ref(&self) -> EnvelopeRef<'_> {
        EnvelopeRef { octets: self.bytes() }
    }

    /// Recipients so far.
    pub fn recipient_count(&self) -> u32 {
        self.recipients
    }

    /// Octets of memory that it keeps.
    pub fn capacity_bytes(&self) -> usize {
        self.octets.capacity()
    }

    fn begin(&mut self) {
        self.clear();
        self.octets.resize(HEAD_BYTES, 0);
    }

    fn ensure_head(&mut self) {
        if self.octets.is_empty() {
            self.begin();
            self.end_head(PathParts::default());
        }
    }

    fn end_head(&mut self, parts: PathParts) {
        patch(&mut self.octets, 0, &[VERSION]);
        let first_recipient = length(self.octets.len());
        patch(&mut self.octets, 2, &first_recipient);
        patch(&mut self.octets, 20, &length(parts.local_bytes));
        patch(&mut self.octets, 22, &length(parts.domain_bytes));
        self.patch_totals();
    }

    fn begin_recipient(&mut self) -> usize {
        self.ensure_head();
        let at = self.octets.len();
        self.octets.extend_from_slice(&[0; RECIPIENT_HEAD_BYTES]);
        at
    }

    fn patch_totals(&mut self) {
        let total = u32::try_from(self.octets.len()).unwrap_or(u32::MAX).to_le_bytes();
        patch(&mut self.octets, 4, &self.recipients.to_le_bytes());
        patch(&mut self.octets, 8, &total);
    }
}

impl fmt::Debug for EnvelopeBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// An envelope of nothing: null reverse-path, no recipients.
const EMPTY: [u8; HEAD_BYTES] = [1, 0, 24, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn length(count: usize) -> [u8; 2] {
    // Paths are bounded by `PathLimits`, far below.
    u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes()
}

fn patch(octets: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = octets.get_mut(at..).and_then(|tail| tail.get_mut(..value.len())) {
        place.copy_from_slice(value);
    }
}

/// One forward-path of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipientRef<'a> {
    /// Its place in the envelope, from 0, in order of arrival.
    pub index: u32,
    /// Where it goes.
    pub mailbox: MailboxRef<'a>,
    /// Its tagged fields.
    fields: &'a [u8],
}

impl<'a> RecipientRef<'a> {
    /// The local-part as it is sent.
    pub fn local(&self) -> &'a [u8] {
        self.mailbox.local()
    }

    /// The domain in lower case; empty for `postmaster` alone.
    pub fn domain(&self) -> &'a [u8] {
        self.mailbox.domain()
    }

    /// What NOTIFY asked for; `None` when nothing was said.
    pub fn notify(&self) -> Option<Notify> {
        Notify::from_octet(*field(self.fields, dsn::TAG_NOTIFY)?.first()?)
    }

    /// What ORCPT said, octet by octet: address type, semicolon, xtext.
    pub fn original(&self) -> Option<&'a [u8]> {
        field(self.fields, dsn::TAG_ORCPT)
    }
}

/// An encoded envelope, read in place. Reading what `parse` accepted never fails.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EnvelopeRef<'a> {
    octets: &'a [u8],
}

impl<'a> EnvelopeRef<'a> {
    /// Checks the whole of `octets`: every length, every count, every octet of an address.
    ///
    /// # Errors
    /// `EnvelopeError`: the record is damaged or from a later version.
    pub fn parse(octets: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut cursor = Cursor::new(octets);
        match cursor.u8() {
            Some(VERSION) => {}
            Some(version) => return Err(EnvelopeError::Version(version)),
            None => return Err(EnvelopeError::Malformed),
        }
        let envelope = Self { octets };
        envelope.check().ok_or(EnvelopeError::Malformed)?;
        Ok(envelope)
    }

    fn check(&self) -> Option<()> {
        let sound = self.u32_at(8)? as usize == self.octets.len()
            && self.octets.len() <= ENVELOPE_BYTES_MAX
            && self.octets.get(1).is_some_and(|&body| body <= 3);
        if !sound {
            return None;
        }
        let mut head = Cursor::new(self.octets.get(..usize::from(self.u16_at(2)?))?);
        head.take(20)?;
        let (local_bytes, domain_bytes) = (head.u16()?, head.u16()?);
        let (local, domain) = (head.take(local_bytes.into())?, head.take(domain_bytes.into())?);
        if local.is_empty() {
            domain.is_empty().then_some(())?;
        } else {
            MailboxRef::from_canonical(local, domain).ok()?;
        }
        check_fields(head, |tag, value| match tag {
            dsn::TAG_RET => is_octet(value, |octet| Return::from_octet(octet).is_some()),
            dsn::TAG_ENVID => dsn::is_envelope_id(value),
            _ => true,
        })?;
        let mut rest = Cursor::new(self.octets.get(usize::from(self.u16_at(2)?)..)?);
        for _ in 0..self.recipient_count() {
            let (_, fields) = next_recipient(&mut rest)?;
            check_fields(fields, |tag, value| match tag {
                dsn::TAG_NOTIFY => is_octet(value, |octet| Notify::from_octet(octet).is_some()),
                dsn::TAG_ORCPT => dsn::is_original_recipient(value),
                _ => true,
            })?;
        }
        rest.rest().is_empty().then_some(())
    }

    /// The encoded form.
    pub fn bytes(&self) -> &'a [u8] {
        self.octets
    }

    /// MAIL FROM.
    pub fn reverse_path(&self) -> ReversePathRef<'a> {
        self.reverse_mailbox().map_or(ReversePathRef::Null, ReversePathRef::Mailbox)
    }

    fn reverse_mailbox(&self) -> Option<MailboxRef<'a>> {
        let mut cursor = Cursor::new(self.octets.get(20..)?);
        let (local_bytes, domain_bytes) = (cursor.u16()?, cursor.u16()?);
        let local = cursor.take(local_bytes.into())?;
        MailboxRef::from_canonical(local, cursor.take(domain_bytes.into())?).ok()
    }

    /// What MAIL said about the body.
    pub fn body(&self) -> Option<BodyType> {
        match self.octets.get(1) {
            Some(1) => Some(BodyType::SevenBit),
            Some(2) => Some(BodyType::EightBit),
            Some(3) => Some(BodyType::Binary),
            _ => None,
        }
    }

    /// What RET asked for; `None` when nothing was said.
    pub fn ret(&self) -> Option<Return> {
        Return::from_octet(*field(self.fields(), dsn::TAG_RET)?.first()?)
    }

    /// What ENVID said, as xtext.
    pub fn envelope_id(&self) -> Option<&'a [u8]> {
        field(self.fields(), dsn::TAG_ENVID)
    }

    /// The transaction's tagged fields.
    fn fields(&self) -> &'a [u8] {
        let fields = || {
            let mut head = Cursor::new(self.octets.get(..usize::from(self.u16_at(2)?))?);
            head.take(20)?;
            let path_bytes = usize::from(head.u16()?).checked_add(head.u16()?.into())?;
            head.take(path_bytes)?;
            Some(head.rest())
        };
        fields().unwrap_or_default()
    }

    /// The size that MAIL declared, in octets.
    pub fn declared_bytes(&self) -> Option<u64> {
        let bytes = Cursor::new(self.octets.get(12..)?).u64()?;
        (bytes != 0).then_some(bytes)
    }

    /// How many recipients there are.
    pub fn recipient_count(&self) -> u32 {
        self.u32_at(4).unwrap_or(0)
    }

    /// All recipients in order of arrival.
    pub fn recipients(&self) -> Recipients<'a> {
        let start = self.u16_at(2).map_or(usize::MAX, usize::from);
        let cursor = Cursor::new(self.octets.get(start..).unwrap_or_default());
        Recipients { cursor, index: 0, count: self.recipient_count() }
    }

    /// The recipient at `index`; walks past those before it, so for many use [`Self::recipients`].
    pub fn recipient(&self, index: u32) -> Option<RecipientRef<'a>> {
        self.recipients().nth(usize::try_from(index).ok()?)
    }

    fn u16_at(&self, at: usize) -> Option<u16> {
        Cursor::new(self.octets.get(at..)?).u16()
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        Cursor::new(self.octets.get(at..)?).u32()
    }
}

impl fmt::Debug for EnvelopeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("from", &self.reverse_path())
            .field("body", &self.body())
            .field("declared_bytes", &self.declared_bytes())
            .field("to", &self.recipients().map(|recipient| recipient.mailbox).collect::<Vec<_>>())
            .finish()
    }
}

/// Checks tagged fields: their lengths, and by `known` what they say.
fn check_fields(mut cursor: Cursor<'_>, known: impl Fn(u8, &[u8]) -> bool) -> Option<()> {
    while !cursor.rest().is_empty() {
        let (tag, value) = next_field(&mut cursor)?;
        known(tag, value).then_some(())?;
    }
    Some(())
}

fn next_field<'a>(cursor: &mut Cursor<'a>) -> Option<(u8, &'a [u8])> {
    let tag = cursor.u8()?;
    let bytes = cursor.u16()?;
    Some((tag, cursor.take(bytes.into())?))
}

/// The value of the field with this tag.
fn field(fields: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut cursor = Cursor::new(fields);
    std::iter::from_fn(|| next_field(&mut cursor)).find(|(tag, _)| *tag == wanted).map(|(_, value)| value)
}

fn push_field(octets: &mut Vec<u8>, tag: u8, value: &[u8]) {
    octets.push(tag);
    octets.extend_from_slice(&length(value.len()));
    octets.extend_from_slice(value);
}

fn is_octet(value: &[u8], good: impl Fn(u8) -> bool) -> bool {
    matches!(value, [octet] if good(*octet))
}

/// The next recipient's mailbox and its tagged fields.
fn next_recipient<'a>(cursor: &mut Cursor<'a>) -> Option<(MailboxRef<'a>, Cursor<'a>)> {
    let bytes = usize::from(cursor.u16()?).checked_sub(2)?;
    let mut own = Cursor::new(cursor.take(bytes)?);
    let (local_bytes, domain_bytes) = (own.u16()?, own.u16()?);
    let local = own.take(local_bytes.into())?;
    let mailbox = MailboxRef::from_canonical(local, own.take(domain_bytes.into())?).ok()?;
    Some((mailbox, own))
}

/// The recipients of an envelope, in order.
#[derive(Debug, Clone)]
pub struct Recipients<'a> {
    cursor: Cursor<'a>,
    index: u32,
    count: u32,
}

impl ExactSizeIterator for Recipients<'_> {}

impl<'a> Iterator for Recipients<'a> {
    type Item = RecipientRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mailbox, fields) = next_recipient(&mut self.cursor)?;
        let index = self.index;
        self.index = index.saturating_add(1);
        Some(RecipientRef { index, mailbox, fields: fields.rest() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count.saturating_sub(self.index) as usize;
        (left, Some(left))
    }
}

#[cfg(test)]
mod tests;
