//! Header sections: fields tile their section, and the receiving session counts the same ones (M-204).
#![no_main]

use engine::mime::header::fields;
use engine::smtp::content_facts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let mut all = fields(content);
    let (mut at, mut count, mut received) = (0, 0u32, 0u16);
    for field in all.by_ref() {
        assert_eq!(field.range.start, at);
        at = field.range.end;
        count += 1;
        received += u16::from(field.is("received"));
        let mut text = Vec::new();
        field.unfold(&mut text);
        assert!(!text.contains(&b'\n'));
    }
    let facts = content_facts(content);
    if !facts.bare {
        assert_eq!(
            (facts.header_bytes, facts.header_fields, facts.received_count),
            (all.bytes() as u64, count, received)
        );
    }
});
