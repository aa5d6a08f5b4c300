//! An envelope as it stands on disk, of any octets: refused, or every part of it can be looked at.

#![no_main]

use engine::wire::EnvelopeRef;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let Ok(envelope) = EnvelopeRef::parse(octets) else { return };
    let mut count = 0;
    for recipient in envelope.recipients() {
        assert!(
            !recipient.domain().contains(&b'\n') && !recipient.local().contains(&b'\n'),
            "a mailbox holds no line end"
        );
        let said = recipient.original().unwrap_or_default();
        assert!(!said.iter().any(|octet| matches!(octet, b'\r' | b'\n')), "nor does what is said of one");
        std::hint::black_box(recipient.notify());
        count += 1;
    }
    assert_eq!(count, envelope.recipient_count());
    assert_eq!(envelope.recipient(count).map(|_| ()), None);
    std::hint::black_box((envelope.reverse_path(), envelope.body(), envelope.declared_bytes()));
    std::hint::black_box((envelope.ret(), envelope.envelope_id()));
});
