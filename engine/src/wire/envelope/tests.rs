//! Envelopes built, read back, cut and damaged.

use super::*;
use crate::wire::Mailbox;
use proptest::prelude::*;

fn sample() -> EnvelopeBuf {
    let mut envelope = EnvelopeBuf::new();
    let rest = envelope.read_reverse_path(b"<Ann@A.test> SIZE=7", PathLimits::RFC).expect("a path");
    assert_eq!(rest, b" SIZE=7");
    envelope.set_body(Some(BodyType::EightBit));
    envelope.set_declared_bytes(7);
    for path in [&b"<bob@b.test>"[..], b"<\"c d\"@c.test>", b"<Postmaster>"] {
        envelope.stage_recipient(path, PathLimits::RFC).expect("a path");
        envelope.commit();
    }
    envelope
}

#[test]
fn what_was_built_is_read_back() {
    let envelope = sample();
    let read = EnvelopeRef::parse(envelope.bytes()).expect("sound");
    let ReversePathRef::Mailbox(from) = read.reverse_path() else { panic!("not null") };
    assert_eq!((from.local(), from.domain()), (&b"Ann"[..], &b"a.test"[..]));
    assert_eq!((read.body(), read.declared_bytes()), (Some(BodyType::EightBit), Some(7)));
    let to: Vec<_> = read.recipients().map(|recipient| (recipient.index, recipient.mailbox.to_string())).collect();
    assert_eq!(to, [(0, "bob@b.test".into()), (1, "\"c d\"@c.test".into()), (2, "Postmaster".to_string())]);
    assert_eq!(read.recipient(1).map(|recipient| recipient.domain()), Some(&b"c.test"[..]));
    assert_eq!(read.recipient(3), None);
}

#[test]
fn the_plain_builder_writes_the_same_octets() {
    let parse = |text: &str| Mailbox::parse(text.as_bytes()).expect("a mailbox");
    let mut envelope = EnvelopeBuf::new();
    envelope.set_reverse_path(ReversePathRef::Mailbox(parse("Ann@a.test").as_ref()));
    envelope.set_declared_bytes(7);
    envelope.set_body(Some(BodyType::EightBit));
    for to in ["bob@b.test", "\"c d\"@c.test", "Postmaster"] {
        envelope.add_recipient(parse(to).as_ref());
    }
    assert_eq!(envelope.bytes(), sample().bytes());
}

#[test]
fn a_staged_recipient_counts_only_when_committed() {
    let mut envelope = sample();
    let before = envelope.bytes().to_vec();
    envelope.stage_recipient(b"<d@d.test> X", PathLimits::RFC).expect("a path");
    assert_eq!(envelope.staged().map(|recipient| (recipient.index, recipient.domain())), Some((3, &b"d.test"[..])));
    assert_eq!(envelope.bytes(), before);
    envelope.unstage();
    assert!(envelope.stage_recipient(b"<d@d..test>", PathLimits::RFC).is_err());
    assert!(envelope.stage_recipient(b"<>", PathLimits::RFC).is_err());
    assert_eq!(envelope.bytes(), before);
    assert_eq!(envelope.recipient_count(), 3);
}

#[test]
fn nothing_is_an_envelope_too() {
    let envelope = EnvelopeBuf::new();
    let read = EnvelopeRef::parse(envelope.bytes()).expect("sound");
    assert_eq!(read.reverse_path(), ReversePathRef::Null);
    assert_eq!(read.recipient_count(), 0);
    let mut one = EnvelopeBuf::new();
    one.set_reverse_path(ReversePathRef::Null);
    assert_eq!(one.bytes(), envelope.bytes());
}

fn with_reports() -> EnvelopeBuf {
    let mut envelope = EnvelopeBuf::new();
    envelope.read_reverse_path(b"<ann@a.test>", PathLimits::RFC).expect("a path");
    envelope.set_body(Some(BodyType::EightBit));
    envelope.set_declared_bytes(7);
    envelope.set_report(Some(Return::Full), Some(b"QQ+2B1"));
    for (to, notify, original) in [
        (&b"<b@b.test>"[..], Some(Notify::SUCCESS), Some(&b"rfc822;B@b.test"[..])),
        (b"<c@b.test>", None, Some(b"x;y")),
        (b"<d@b.test>", Some(Notify::NEVER), None),
        (b"<e@b.test>", None, None),
    ] {
        envelope.stage_recipient(to, PathLimits::RFC).expect("a path");
        envelope.set_staged_report(notify, original);
        envelope.commit();
    }
    envelope
}

#[test]
fn m_149_what_was_said_about_reports_is_kept_beside_everything_else() {
    let envelope = with_reports();
    let read = EnvelopeRef::parse(envelope.bytes()).expect("sound");
    assert_eq!((read.ret(), read.envelope_id()), (Some(Return::Full), Some(&b"QQ+2B1"[..])));
    assert_eq!((read.body(), read.declared_bytes()), (Some(BodyType::EightBit), Some(7)));
    let said: Vec<_> = read.recipients().map(|to| (to.mailbox.to_string(), to.notify(), to.original())).collect();
    assert_eq!(
        said,
        [
            ("b@b.test".into(), Some(Notify::SUCCESS), Some(&b"rfc822;B@b.test"[..])),
            ("c@b.test".into(), None, Some(&b"x;y"[..])),
            ("d@b.test".into(), Some(Notify::NEVER), None),
            ("e@b.test".to_owned(), None, None),
        ]
    );
    let mut copy = EnvelopeBuf::new();
    copy.set_reverse_path(read.reverse_path());
    copy.set_body(read.body());
    copy.set_declared_bytes(7);
    copy.set_report(read.ret(), read.envelope_id());
    read.recipients().for_each(|to| copy.add_copy(to));
    assert_eq!(copy.bytes(), envelope.bytes());
    let plain = sample();
    let plain = plain.as_ref();
    assert_eq!((plain.ret(), plain.envelope_id()), (None, None), "old envelopes say nothing");
    assert!(plain.recipients().all(|to| to.notify().is_none() && to.original().is_none()));
}

#[test]
fn m_148_s_026_what_no_sender_can_have_said_is_damage() {
    let octets = with_reports().bytes().to_vec();
    let field = |value: &[u8]| octets.windows(value.len()).position(|window| window == value).expect("it is there");
    for (at, octet) in [(field(b"QQ+2B1"), b'\n'), (field(b"QQ+2B1"), b' '), (field(b"rfc822;B"), b'\r')] {
        let mut damaged = octets.clone();
        damaged[at] = octet;
        assert_eq!(EnvelopeRef::parse(&damaged), Err(EnvelopeError::Malformed), "{at}");
    }
}

#[test]
fn unknown_fields_are_skipped() {
    let mut octets = sample().bytes().to_vec();
    // One field of three octets at the end of the last recipient.
    octets.extend_from_slice(&[77, 3, 0, 1, 2, 3]);
    let grown = octets.len();
    octets[8..12].copy_from_slice(&u32::try_from(grown).expect("small").to_le_bytes());
    let last = grown - 6 - (6 + "Postmaster".len());
    octets[last..last + 2].copy_from_slice(&u16::try_from(grown - last).expect("small").to_le_bytes());
    let read = EnvelopeRef::parse(&octets).expect("sound");
    assert_eq!(read.recipient(2).map(|recipient| recipient.mailbox.to_string()).as_deref(), Some("Postmaster"));
    octets[0] = 2;
    assert_eq!(EnvelopeRef::parse(&octets), Err(EnvelopeError::Version(2)));
}

#[test]
fn every_cut_and_every_flipped_length_is_noticed_or_harmless() {
    every_cut_is_noticed_or_harmless(sample().bytes());
    every_cut_is_noticed_or_harmless(with_reports().bytes());
}

fn every_cut_is_noticed_or_harmless(octets: &[u8]) {
    for end in 0..octets.len() {
        assert!(EnvelopeRef::parse(&octets[..end]).is_err(), "cut at {end}");
    }
    for at in 0..octets.len() {
        for bit in 0..8 {
            let mut damaged = octets.to_vec();
            damaged[at] ^= 1 << bit;
            if let Ok(read) = EnvelopeRef::parse(&damaged) {
                assert_eq!(read.recipients().count(), read.recipient_count() as usize);
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(read) = EnvelopeRef::parse(&octets) {
            prop_assert_eq!(read.recipients().count(), read.recipient_count() as usize);
        }
    }
}
