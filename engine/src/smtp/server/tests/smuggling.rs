//! M-043 and F-130: no sequence but CRLF.CRLF ends the data, however the octets are split, shown or aimed.

use super::support::*;
use crate::smtp::Profile;
use table::NOT_THE_END;

#[path = "../../../../../tests/src/smuggling.rs"]
mod table;

const SMUGGLED: &[u8] = b"MAIL FROM:<evil@a.test>\r\nRCPT TO:<victim@b.test>\r\nDATA\r\nevil\r\n.\r\n";

/// Feeds `stream` to a session in DATA, cut at `cut`.
fn feed(stream: &[u8], cut: usize, way: Way) -> Bench {
    let mut bench = Bench::new(options(Profile::Bench)).hello();
    bench.way = way;
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
    bench.out.clear();
    bench.feed(&stream[..cut]);
    bench.feed(&stream[cut..]);
    bench
}

#[test]
fn m_043_no_other_sequence_ends_the_data() {
    for sequence in NOT_THE_END {
        let stream = [b"first", sequence, SMUGGLED, b"\r\n.\r\nNOOP\r\n"].concat();
        for way in [Way::Shown, Way::Aimed] {
            for cut in 0..=stream.len() {
                let mut bench = feed(&stream, cut, way);
                let name = sequence.escape_ascii();
                assert!(bench.messages.len() <= 1, "{name} cut at {cut}");
                assert!(bench.messages.iter().all(|message| message.to == ["b@b.test"]), "{name} cut at {cut}");
                let codes = bench.codes();
                // The real end of what the peer sees as one message is the one inside, where its own DATA ends.
                let verdict = if bench.messages.is_empty() { "550 5.5.2" } else { "250 2.0.0" };
                assert_eq!(codes[0], verdict, "{name} cut at {cut}");
            }
        }
    }
}

#[test]
fn m_043_an_extra_cr_before_the_end_is_content_and_refuses() {
    let stream = b"first\r\r\n.\r\nNOOP\r\n";
    for way in [Way::Shown, Way::Aimed] {
        for cut in 0..=stream.len() {
            let mut bench = feed(stream, cut, way);
            assert_eq!(bench.codes(), ["550 5.5.2", "250 2.0.0"], "cut at {cut}");
        }
    }
}

#[test]
fn m_042_the_end_is_found_at_every_split() {
    let stream = b"one\r\n..two\r\n.three\r\n....\r\n\r\n.\r\nNOOP\r\n";
    for way in [Way::Shown, Way::Aimed] {
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut bench = feed(&stream[..second], first, way);
                bench.feed(&stream[second..]);
                assert_eq!(bench.codes(), ["250 2.0.0", "250 2.0.0"], "cut at {first} and {second}");
                assert_eq!(bench.messages[0].content, b"one\r\n.two\r\nthree\r\n...\r\n\r\n");
            }
        }
    }
}
