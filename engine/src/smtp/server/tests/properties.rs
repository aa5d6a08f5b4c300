//! What holds for every byte stream (smtp-must.md section 26).

use super::reference::reference;
use super::support::*;
use crate::smtp::Profile;
use crate::smtp::server::ServerOptions;
use crate::wire::Span;
use proptest::prelude::*;

/// Streams of plausible and implausible commands and bodies, without what makes a reply depend on what is pending (a bare
/// LF in a command line).
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let parts: [&[u8]; 34] = [
        b"EHLO c.test\r\n",
        b"HELO c.test\r\n",
        b"MAIL FROM:<a@a.test>\r\n",
        b"mail from:<> SIZE=9\r\n",
        b"RCPT TO:<b@b.test>\r\n",
        b"rcpt to:<nobody@b.test>\r\n",
        b"RCPT TO:<later@b.test>\r\n",
        b"DATA\r\n",
        b"BDAT 4\r\nab\r\n",
        b"BDAT 4 LAST\r\ncd\r\n",
        b"BDAT 0 LAST\r\n",
        b"BDAT 3\r\nx\ny",
        b"BDAT 2\r\nx\r",
        b"BDAT 1 LAST\r\n\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"VRFY x\r\n",
        b"HELP\r\n",
        b"XYZZY \0\r\n",
        b"QUIT x\r\n",
        b"text\r\n",
        b"..dots\r\n",
        b".\r\n",
        b".x\r\n",
        b"\r\n",
        b"Received: z\r\n",
        b"MAIL FROM:<a@a.test> X=Y\r\n",
        b"BDAT 452\r\n",
        b"RCPT TO:<b@[192.0.2.1]>\r\n",
        b"EXPN x\r\n",
        b"HELO -\r\n",
        b"DATA x\r\n",
        b"MAIL FROM:<refused@a.test>\r\n",
        b"RCPT TO:<b@b.test> X\r\n",
    ];
    // Whole transactions among them, so that messages are not rare.
    let whole: [&[u8]; 3] = [
        b"RSET\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 6 LAST\r\n.\r\nx\r\n",
        b"RSET\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<c@b.test>\r\nDATA\r\n..x\r\n.\r\n",
        b"EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 3\r\nabcBDAT 0 LAST\r\n",
    ];
    let part =
        prop_oneof![3 => proptest::sample::select(parts.to_vec()), 1 => proptest::sample::select(whole.to_vec())];
    proptest::collection::vec(part, 0..40).prop_map(|parts| [b"EHLO c.test\r\n".to_vec(), parts.concat()].concat())
}

fn bench(way: Way) -> Bench {
    bench_of(way, Span::ZERO)
}

fn bench_of(way: Way, tarpit: Span) -> Bench {
    let mut lifted = ServerOptions { size_max: 500, errors_max: u32::MAX, ..options(Profile::Rfc) };
    lifted.timers.tarpit = tarpit;
    let mut bench = Bench::new(ServerOptions { refused_recipients_max: u32::MAX, ..lifted });
    bench.way = way;
    bench.out.clear();
    bench
}

/// Replies and messages of the stream cut at `cuts`; verdicts come at once or late.
fn run(stream: &[u8], cuts: &[usize], way: Way, at_once: bool) -> (Vec<u8>, Vec<Message>, bool) {
    let mut bench = bench(way);
    bench.at_once = at_once;
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.sort_unstable();
    let mut at = 0;
    for cut in cuts.into_iter().chain([stream.len()]) {
        bench.feed(&stream[at..cut]);
        at = cut;
    }
    bench.settle();
    (bench.out, bench.messages, bench.closed)
}

fn count_replies(out: &[u8]) -> usize {
    String::from_utf8_lossy(out).split_terminator("\r\n").filter(|line| line.as_bytes()[3] == b' ').count()
}

fn accepted(out: &[u8]) -> usize {
    String::from_utf8_lossy(out).matches("Queued as").count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn stream_3_every_split_gives_the_same(
        stream in stream(),
        cuts in proptest::collection::vec(0usize..4000, 0..12),
        aimed in any::<bool>(),
    ) {
        let whole = run(&stream, &[], Way::Shown, true);
        // A bare LF in a command line closes if anything is pending behind it (M-020): that alone may hang on the split.
        prop_assume!(!whole.2);
        let way = if aimed { Way::Aimed } else { Way::Shown };
        prop_assert_eq!(&run(&stream, &cuts, way, true), &whole, "{}", stream.escape_ascii());
        let bytes: Vec<_> = (0..stream.len()).collect();
        prop_assert_eq!(&run(&stream, &bytes, way, true), &whole, "{}", stream.escape_ascii());
    }

    #[test]
    fn stream_4_a_message_is_stored_exactly_if_a_250_was_written(stream in stream(), cuts in proptest::collection::vec(0usize..4000, 0..4)) {
        let (out, messages, _) = run(&stream, &cuts, Way::Shown, true);
        prop_assert_eq!(accepted(&out), messages.len());
        // Late verdicts reorder nothing, and give the 250s of the same messages.
        let (late, late_messages, _) = run(&stream, &cuts, Way::Shown, false);
        prop_assert_eq!(&late_messages, &messages);
        prop_assert_eq!(late, out);
    }

    #[test]
    fn stream_1_and_6_replies_and_messages_are_those_of_a_strict_reading(stream in stream()) {
        let (out, messages, closed) = run(&stream, &[], Way::Shown, true);
        prop_assume!(!closed);
        let (replies, expected) = reference(&stream);
        let stored: Vec<_> = messages.into_iter().map(|message| message.content).collect();
        prop_assert_eq!(stored, expected);
        prop_assert_eq!(count_replies(&out), replies);
    }

    #[test]
    fn s_021_delayed_answers_change_no_reply_and_no_message(stream in stream(), cuts in proptest::collection::vec(0usize..4000, 0..4)) {
        let (out, messages, closed) = run(&stream, &[], Way::Shown, true);
        prop_assume!(!closed);
        let mut bench = bench_of(Way::Shown, Span::seconds(5));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.sort_unstable();
        let mut at = 0;
        for cut in cuts.into_iter().chain([stream.len()]) {
            bench.feed(&stream[at..cut]);
            at = cut;
        }
        bench.wait();
        prop_assert_eq!(&bench.messages, &messages);
        prop_assert_eq!(bench.out, out);
    }

    #[test]
    fn stream_2_no_reply_comes_before_its_command(stream in stream()) {
        prop_assume!(!run(&stream, &[], Way::Shown, true).2);
        let mut bench = bench(Way::Shown);
        for (count, octet) in stream.iter().enumerate() {
            bench.feed(&[*octet]);
            let (most, _) = reference(&stream[..=count]);
            prop_assert!(count_replies(&bench.out) <= most, "{}", stream[..=count].escape_ascii());
        }
    }

    #[test]
    fn stream_5_memory_stays_within_its_bound(octets in proptest::collection::vec(any::<u8>(), 0..3000), stream in stream()) {
        let mut bench = bench(Way::Shown);
        bench.at_once = false;
        for part in [&stream, &octets, &stream] {
            bench.feed(part);
            prop_assert!(bench.session.held_bytes() < 128 << 10);
        }
    }
}
