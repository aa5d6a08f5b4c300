//! The scan against plain readings of the same octets, at every split.

use super::*;
use crate::wire::LeadingDots;
use proptest::prelude::*;

/// The facts of chunked content, cut at `cuts`.
fn plain(content: &[u8], cuts: &[usize]) -> ContentFacts {
    let mut scan = Scan::new();
    let mut at = 0;
    for cut in cuts.iter().map(|cut| cut % (content.len() + 1)).chain([content.len()]) {
        if cut > at {
            scan.plain(&content[at..cut]);
            at = cut;
        }
    }
    scan.finish();
    *scan.facts()
}

/// The content of a DATA stream, its facts, and how many octets it took; `None` when it does not end.
fn stuffed(stream: &[u8], cuts: &[usize], bare: Bare) -> Option<(Vec<u8>, ContentFacts, usize)> {
    let (mut scan, mut at, mut content) = (Scan::new(), 0, Vec::new());
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(stream.len());
    for end in ends {
        while at < end {
            let found = scan.stuffed(&stream[at..end], bare);
            content.extend_from_slice(&stream[at..at + found.content]);
            at += found.content;
            match found.then {
                Then::More | Then::Undecided => break,
                Then::Dot => at += 1,
                Then::BareLf => {
                    scan.insert_cr();
                    content.push(b'\r');
                }
                Then::End => {
                    scan.finish();
                    return Some((content, *scan.facts(), at + 3));
                }
            }
        }
    }
    None
}

/// The same by the plainest reading of RFC 5321 §4.1.1.4: find the end, then take the dots out.
fn oracle(stream: &[u8]) -> Option<(Vec<u8>, usize)> {
    let framed = [b"\r\n", stream].concat();
    let end = framed.windows(5).position(|octets| octets == b"\r\n.\r\n")?;
    let mut content = Vec::new();
    for (at, &octet) in framed[..end + 2].iter().enumerate().skip(2) {
        if !(octet == b'.' && framed[..at].ends_with(b"\r\n")) {
            content.push(octet);
        }
    }
    Some((content, end + 3))
}

fn naive(content: &[u8]) -> ContentFacts {
    let mut facts = ContentFacts {
        bytes: content.len() as u64,
        eight_bit: content.iter().any(|&octet| octet > 127),
        nul: content.contains(&0),
        ends_with_crlf: content.is_empty() || content.ends_with(b"\r\n"),
        ..ContentFacts::default()
    };
    let mut dots = LeadingDots::default();
    let mut at = 0;
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        let own = line.strip_suffix(b"\n").map_or(line, |own| own.strip_suffix(b"\r").unwrap_or(own));
        facts.longest_line = facts.longest_line.max(own.len() as u32);
        facts.bare |= own.contains(&b'\r') || (line.ends_with(b"\n") && !line.ends_with(b"\r\n"));
        if line.starts_with(b".") {
            dots.push(at);
        }
        at += line.len() as u64;
    }
    facts.leading_dots = dots;
    facts
}

/// Without what the header section says.
fn lines_only(mut facts: ContentFacts) -> ContentFacts {
    (facts.header_bytes, facts.header_fields, facts.received_count, facts.message_id) = (0, 0, 0, (0, 0));
    facts
}

#[test]
fn m_204_the_header_section_ends_where_it_should() {
    for (content, bytes, fields, received) in [
        (&b"Received: a\r\nreceived : b\r\n c\r\nTo: x\r\n\r\nReceived: no\r\n"[..], 38, 3, 2),
        (b"\r\nReceived: no\r\n", 0, 0, 0),
        (b" folded first\r\nReceived: no\r\n", 0, 0, 0),
        (b"To: x\r\nno colon\r\nReceived: no\r\n", 7, 1, 0),
        (b"To: x\r\n  \r\nReceived: yes\r\n\r\n", 26, 2, 1),
        (b"To: x", 5, 1, 0),
        (b"To", 0, 0, 0),
        (b"", 0, 0, 0),
        (b"Receivedx: a\r\nXReceived: b\r\n: empty\r\n\r\n", 37, 3, 0),
        (b"__proto__: a\r\nMessage-Identity: b\r\n\r\n", 35, 2, 0),
    ] {
        let facts = plain(content, &[]);
        let found = (facts.header_bytes, facts.header_fields, facts.received_count);
        assert_eq!(found, (bytes, fields, received), "{}", content.escape_ascii());
    }
}

#[test]
fn the_message_id_is_found_folded_or_not() {
    for (content, id) in [
        (&b"To: x\r\nMessage-ID: <1@a>  \r\n\r\n"[..], &b"<1@a>"[..]),
        (b"MESSAGE-id:\r\n\t<2@a>\r\n <3>\r\n\r\n", b"<2@a>"),
        (b"Message-ID:\r\nTo: x\r\n\r\n", b""),
        (b"Message-ID: <1>\r\nMessage-ID: <2>\r\n\r\n", b"<1>"),
        (b"\r\nMessage-ID: <1>\r\n", b""),
    ] {
        for cut in 0..=content.len() {
            let (at, bytes) = plain(content, &[cut]).message_id;
            assert_eq!(&content[at as usize..][..bytes.into()], id, "{} cut at {cut}", content.escape_ascii());
        }
    }
    let long = [b"Message-ID: ".to_vec(), vec![b'x'; 251], b"\r\n\r\n".to_vec()].concat();
    assert_eq!(plain(&long, &[]).message_id, (0, 0));
}

/// Octets that matter, in any mixture.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let parts: [&[u8]; 16] = [
        // Behind a line of these, blocks are looked at as a whole.
        &[b'x'; 70],
        &[b'y'; 40],
        b"\r\n",
        b"\r",
        b"\n",
        b".",
        b".\r\n",
        b"\r\n.\r\n",
        b"\0",
        b"\xe9",
        b"a",
        b": ",
        b" ",
        b"Received",
        b"Message-ID: <x>",
        b"To: b\r\n",
    ];
    let part = proptest::sample::select(parts.to_vec());
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn m_053_facts_of_chunks_are_the_same_at_every_split(content in octets(), cuts in proptest::collection::vec(0usize..1000, 0..6)) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (content.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = plain(&content, &[]);
        prop_assert_eq!(plain(&content, &cuts), whole);
        prop_assert_eq!(lines_only(whole), naive(&content));
    }

    #[test]
    fn m_042_data_ends_and_unstuffs_as_the_oracle_says(stream in octets(), cuts in proptest::collection::vec(0usize..1000, 0..6)) {
        let whole = stuffed(&stream, &[], Bare::Note);
        prop_assert_eq!(stuffed(&stream, &cuts, Bare::Note), whole.clone());
        prop_assert_eq!(whole.as_ref().map(|(content, _, taken)| (content.clone(), *taken)), oracle(&stream));
        if let Some((content, facts, _)) = whole {
            prop_assert_eq!(facts, plain(&content, &[]));
        }
    }

    #[test]
    fn m_044_normalizing_changes_lf_alone_and_never_the_end(stream in octets(), cuts in proptest::collection::vec(0usize..1000, 0..6)) {
        let noted = stuffed(&stream, &[], Bare::Note);
        let normal = stuffed(&stream, &cuts, Bare::Normalize);
        prop_assert_eq!(normal.is_some(), noted.is_some());
        if let (Some((content, _, taken)), Some((mended, facts, mended_taken))) = (noted, normal) {
            prop_assert_eq!(taken, mended_taken);
            let mut expected = Vec::new();
            for &octet in &content {
                if octet == b'\n' && expected.last() != Some(&b'\r') {
                    expected.push(b'\r');
                }
                expected.push(octet);
            }
            prop_assert_eq!(&mended, &expected);
            prop_assert_eq!(facts, plain(&expected, &[]));
        }
    }
}
