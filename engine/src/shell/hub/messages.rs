//! Messages in memory: what delivery needs, as slices of the batch or of the chunks they arrived in.

use crate::shell::body::Slices;
use crate::spool::{Facts, LeadingDots, RecordId};
use crate::sys::slice::Slice;
use crate::wire::{ContentFacts, LeadingDots as WireDots, Wall};
use slab::Slab;

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Our name for it, in trace and reply.
    pub id: u64,
    /// Its record.
    pub record: RecordId,
    /// The encoded envelope.
    pub envelope: Slice,
    /// Our trace header, sent in front of the content.
    pub trace: Slice,
    /// The content.
    pub content: Slices,
    /// What is known of the content.
    pub facts: ContentFacts,
    /// The checksum of the content as it was received.
    pub crc32c: u32,
    /// When it was received.
    pub received: Wall,
    /// The content in memory was found to be another than what was received.
    pub spoiled: bool,
    /// How many recipients its envelope has.
    pub recipients: u16,
    /// All recipients went into one queue entry.
    pub undivided: bool,
    /// Queue entries that point here; the message goes with the last.
    pub entries: u32,
}

impl Message {
    /// Whether its content is in memory, and fit to be sent.
    pub fn is_whole(&self) -> bool {
        !self.spoiled && self.content.iter().map(|slice| slice.len() as u64).sum::<u64>() == self.facts.bytes
    }

    /// Whether one queue entry speaks for all recipients.
    pub fn whole_in_one_entry(&self) -> bool {
        self.entries == 1 && self.undivided
    }

    /// One of the entries that point here became so many, each for a part of its recipients.
    pub fn split_into(&mut self, entries: u32) {
        self.entries = self.entries + entries - 1;
        self.undivided &= self.entries == 1;
    }

    /// The value of its Message-ID field, if it is in memory in one piece.
    pub fn message_id(&self) -> Option<Slice> {
        let (at, octets) = (self.facts.message_id.0 as usize, usize::from(self.facts.message_id.1));
        let first = self.content.first()?;
        (octets > 0 && at + octets <= first.len()).then(|| first.sub(at..at + octets))
    }
}

/// All of a shard's messages in memory, by handle.
#[derive(Debug, Default)]
pub struct Messages(Slab<Message>);

impl Messages {
    /// Adds one; its handle.
    pub fn insert(&mut self, message: Message) -> u32 {
        u32::try_from(self.0.insert(message)).expect("fewer than 2^32 messages in memory")
    }

    /// The message of a handle.
    pub fn get(&self, handle: u32) -> &Message {
        &self.0[handle as usize]
    }

    /// The same, for changing.
    pub fn get_mut(&mut self, handle: u32) -> &mut Message {
        &mut self.0[handle as usize]
    }

    /// Changes every one.
    #[cfg(test)]
    pub fn each(&mut self, change: impl FnMut(&mut Message)) {
        self.0.iter_mut().map(|(_, message)| message).for_each(change);
    }

    /// One entry less points to it; gone with the last.
    pub fn release(&mut self, handle: u32) {
        let message = self.get_mut(handle);
        message.entries = message.entries.saturating_sub(1);
        if message.entries == 0 {
            self.0.remove(handle as usize);
        }
    }

    /// Takes a message that nothing points to.
    pub fn remove(&mut self, handle: u32) -> Message {
        self.0.remove(handle as usize)
    }
}

/// What a record keeps of a receiver's facts.
pub fn to_record(facts: &ContentFacts, crc32c: u32) -> Facts {
    Facts {
        body_bytes: facts.bytes,
        crc32c,
        longest_line: facts.longest_line,
        header_bytes: u32::try_from(facts.header_bytes).unwrap_or(u32::MAX),
        received_count: facts.received_count,
        eight_bit: facts.eight_bit,
        nul: facts.nul,
        ends_with_crlf: facts.ends_with_crlf,
        leading_dots: match facts.leading_dots.all() {
            Some(dots) => LeadingDots::new(dots.iter().map(|&dot| u64::from(dot))),
            None => LeadingDots::overflow(),
        },
    }
}

/// A receiver's facts, as far as a record keeps them.
pub fn from_record(facts: &Facts) -> ContentFacts {
    let leading_dots = match facts.leading_dots.offsets() {
        Some(dots) => WireDots::from_parts(dots, false),
        None => WireDots::from_parts(&[], true),
    };
    ContentFacts {
        bytes: facts.body_bytes,
        longest_line: facts.longest_line,
        eight_bit: facts.eight_bit,
        nul: facts.nul,
        bare: false,
        ends_with_crlf: facts.ends_with_crlf,
        header_bytes: u64::from(facts.header_bytes),
        header_fields: 0,
        received_count: facts.received_count,
        leading_dots,
        message_id: (0, 0),
    }
}
