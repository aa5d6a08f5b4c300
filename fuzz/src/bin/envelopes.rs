//! Envelopes as a disk may give them, and mailboxes as a peer may: what is accepted reads back whole, and what was written
//! is read as it was.
#![no_main]

use engine::wire::{EnvelopeBuf, EnvelopeRef, Mailbox, PathLimits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(envelope) = EnvelopeRef::parse(input) {
        assert_eq!(envelope.recipients().count(), envelope.recipient_count() as usize);
        let _ = (envelope.reverse_path(), envelope.body(), envelope.declared_bytes());
    }
    let mut envelope = EnvelopeBuf::new();
    if envelope.stage_recipient(input, PathLimits::EXCHANGE).is_ok() {
        envelope.commit();
        let read = EnvelopeRef::parse(envelope.bytes()).expect("what was written is sound");
        let to = read.recipient(0).expect("one").mailbox;
        assert!(to.local().iter().chain(to.domain()).all(|octet| (0x20..0x7f).contains(octet)));
        // Canonical: reading it again changes nothing (M-026).
        let mut text = Vec::new();
        to.write(&mut text);
        assert_eq!(Mailbox::parse(&text).expect("canonical").as_ref(), to);
    }
});
