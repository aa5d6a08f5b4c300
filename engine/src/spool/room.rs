//! Room in the open batch: asked for once, then used as far as it was asked for.

use super::BLOCK;
use super::batch::{self, Settle};
use super::bytes::length;
use super::ids::{RecordId, Ticket};
use super::log::{Appended, Content, Full, Log, NewRecord};
use super::pack::{Added, Batch, Pending};
use super::record::{Placement, RecordHead, RecordKind};
use super::segment::Segment;

/// A batch's table takes no more octets.
pub(super) const TABLE_BYTES_MAX: u64 = 512 << 10;

/// A batch takes no more parts: Linux gathers 1024 in one write.
const PARTS_MAX: usize = 512;

/// What something needs of the open batch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Need {
    pub(super) packed: u64,
    pub(super) own: u64,
    pub(super) table: u64,
    pub(super) footer: u64,
    /// Settles may use the space that messages leave to them.
    pub(super) message: bool,
}

/// The open batch, which has the room that was asked for, and its segment.
pub(super) struct Room<'a> {
    pub(super) open: &'a mut Batch,
    pub(super) segment: &'a mut Segment,
}

impl Log {
    /// Makes sure that the open batch can take `need`: opens one, closes a full one, goes on in the next segment.
    pub(super) fn make_room(&mut self, need: &Need) -> Result<Room<'_>, Full> {
        // Close the batch (or one that is not of this kind), open the next, close the segment, open in the next.
        for _ in 0..6 {
            let Some(open) = self.open.as_ref() else {
                self.open_batch()?;
                continue;
            };
            if open.is_apart != self.is_apart {
                // It had no memory to be closed with: among moved mail nobody's waits, and is refused, with it.
                self.close_batch()?;
                continue;
            }
            let segment = self.segments.of(open.number);
            let end = open.at.saturating_add(open.bytes_with(need.packed, need.own, need.table));
            let batches_end = segment.batches_end(need.footer);
            let footer = segment.footer_bytes_max().saturating_add(need.footer) <= segment.segment_bytes / 4;
            let fits = end <= batches_end && (footer || segment.ordinal == 0);
            if fits && (open.is_empty() || !self.is_long(open, need)) {
                let reserve = segment.reserve();
                if need.message && self.spare.is_none() && end.saturating_add(reserve) > batches_end {
                    return Err(self.out_of_segments());
                }
                return self.room(need);
            }
            if !open.is_empty() {
                self.close_batch()?;
            } else if open.at == BLOCK as u64 {
                return Err(Full::TooLarge);
            } else {
                self.rotate()?;
            }
        }
        Err(Full::TooLarge)
    }

    /// Whether the batch takes no more, because it would become too long.
    fn is_long(&self, open: &Batch, need: &Need) -> bool {
        open.len.saturating_add(need.packed).saturating_add(need.own) > self.options.batch_bytes_max
            || (open.table.len() as u64).saturating_add(need.table) > TABLE_BYTES_MAX
            || open.parts.len() >= PARTS_MAX
    }

    fn room(&mut self, need: &Need) -> Result<Room<'_>, Full> {
        let Some(open) = self.open.as_mut() else { return Err(Full::Segment) };
        if need.packed > 0 || need.own > 0 {
            // What is kept in hand is for outcomes.
            open.ensure(&self.pool, &mut None, usize::try_from(need.packed).map_err(|_| Full::TooLarge)?)?;
        }
        Ok(Room { segment: self.segments.of_mut(open.number), open })
    }
}

impl Room<'_> {
    /// Puts a record in.
    pub(super) fn put_record(&mut self, new: &NewRecord<'_>, mut head: RecordHead) -> Appended {
        let open = &mut *self.open;
        head.id = RecordId::at(open.number, open.next_place());
        let place = head.id.place();
        let mut extents = Vec::new();
        if let Content::Extents(body) = new.content {
            super::record::encode_extents(&body.list, &mut extents);
            open.pins.push((place, body.list.iter().map(|extent| extent.number).collect()));
        }
        let packed = head.packed_bytes();
        if let Placement::Own { block } = &mut head.placement {
            *block = length(open.next_place().saturating_add(packed).div_ceil(BLOCK as u64));
        }
        let encoded = head.encode(self.segment.seed, [&extents, new.envelope, new.trace]);
        let pieces: &[&[u8]] = if let Content::Octets(pieces) = new.content { pieces } else { &[] };
        let copied: usize = pieces.iter().map(|piece| piece.len()).sum();
        let texts = [encoded.as_slice(), &extents, new.envelope, new.trace];
        let whole = open.pack(texts.into_iter().chain(pieces.iter().copied()));
        if let Content::Octets(_) = new.content {
            assert_eq!(copied as u64, new.facts.body_bytes, "the facts are those of the content");
        }
        if let Content::Chunks(slices) = new.content {
            open.push_own(slices);
        }
        let owed = (new.kind == RecordKind::Owed).then_some(length(packed));
        open.records.push(Added { place, recipients: new.recipients, owed, octets: head.octets() });
        batch::put_record(&mut open.table, place, length(packed));
        self.segment.note_properties(&encoded, &extents, new.envelope);
        self.segment.note_recipients(new.recipients);
        for settle in new.settles {
            self.put_settle(*settle, Some(place));
        }
        let trace_end = whole.len().saturating_sub(copied);
        let envelope_end = trace_end.saturating_sub(new.trace.len());
        Appended {
            id: head.id,
            ticket: Ticket(self.open.ticket),
            envelope: whole.sub(envelope_end.saturating_sub(new.envelope.len())..envelope_end),
            trace: whole.sub(envelope_end..trace_end),
            content: matches!(new.content, Content::Octets(_)).then(|| whole.sub(trace_end..whole.len())),
        }
    }

    /// Puts a settle in; it counts only with the record at place `needs`, if there is one.
    pub(super) fn put_settle(&mut self, settle: Settle, needs: Option<u32>) -> Ticket {
        batch::put_settle(&mut self.open.table, &settle, needs);
        self.open.settles.push(Pending { settle, needs });
        if settle.id.number() != self.open.number {
            self.segment.note_settle(&settle);
        }
        Ticket(self.open.ticket)
    }
}
