//! What holds for every byte stream (docs/ROWS.md, "Commands and states").

use super::reference::{Found, lmtp_reference, reference};
use super::support::*;
use crate::smtp::server::ServerOptions;
use crate::smtp::{Dialect, Profile};
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

/// Sessions whose bodies break one limit or several, some of them with a deliberate end (QUIT, a chunk size that is none,
/// far too much content).
fn broken_bodies() -> impl Strategy<Value = Vec<u8>> {
    let parts: [&[u8]; 17] = [
        b"To: x\r\n",
        b"Received: x\r\n",
        b" folded further\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"x",
        b" ",
        b": ",
        b".\r\n",
        b"..\r\n",
        b"0123456789012345678901234567890123456789",
        b"a rather long line of a header or of a body\r\n",
        b"BDAT 3\r\na\nb",
        b"BDAT 0 LAST\r\n",
        b"NOOP\r\n",
    ];
    let begins: [&[u8]; 3] = [b"DATA\r\n", b"BDAT 60 LAST\r\n", b"BDAT 30\r\n"];
    let ends: [&[u8]; 4] = [b"QUIT\r\n", b"BDAT x\r\n", b"BDAT 9999999 LAST\r\nx", b""];
    let body = (
        proptest::sample::select(begins.to_vec()),
        proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..12),
    );
    let session = proptest::collection::vec(body, 1..4);
    (session, proptest::sample::select(ends.to_vec())).prop_map(|(bodies, end)| {
        let mut stream = b"EHLO c.test\r\n".to_vec();
        for (begin, parts) in bodies {
            stream.extend_from_slice(b"RSET\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\n");
            stream.extend_from_slice(begin);
            stream.extend(parts.concat());
            stream.extend_from_slice(b"\r\n.\r\n");
        }
        stream.extend_from_slice(end);
        stream
    })
}

/// What a session of `broken_bodies` said and kept when its stream came cut at `cuts`.
fn run_broken(stream: &[u8], cuts: &[usize], way: Way, normalize: bool) -> (Vec<u8>, Vec<Message>, bool) {
    let mut bench = Bench::new(ServerOptions {
        size_max: 200,
        text_line_bytes_max: 40,
        header_bytes_max: 50,
        header_fields_max: 3,
        hops_max: 1,
        normalize_from: if normalize { vec!["0.0.0.0/0".parse().expect("everybody")] } else { Vec::new() },
        ..options(Profile::Rfc)
    });
    bench.way = way;
    feed_cut(&mut bench, stream, cuts);
    (bench.out, bench.messages, bench.closed)
}

fn feed_cut(bench: &mut Bench, stream: &[u8], cuts: &[usize]) {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.sort_unstable();
    let mut at = 0;
    for cut in cuts.into_iter().chain([stream.len()]) {
        bench.feed(&stream[at..cut]);
        at = cut;
    }
}

/// Whether a bare LF stands where the session reads commands, which alone may make it close sooner or later (M-020).
fn closes_by_chance(out: &[u8]) -> bool {
    String::from_utf8_lossy(out).contains("500 5.5.2 Line with")
}

fn bench(way: Way) -> Bench {
    bench_of(way, Span::ZERO)
}

fn lifted() -> ServerOptions {
    ServerOptions { size_max: 500, errors_max: u32::MAX, refused_recipients_max: u32::MAX, ..options(Profile::Rfc) }
}

/// A message as the reference tells it.
fn found(message: Message) -> Found {
    let to = message.to.iter().map(|to| to.to_uppercase()).collect();
    (message.from.to_uppercase(), to, message.content)
}

fn bench_of(way: Way, tarpit: Span) -> Bench {
    let mut lifted = lifted();
    lifted.timers.tarpit = tarpit;
    let mut bench = Bench::new(lifted);
    bench.way = way;
    bench.out.clear();
    bench
}

/// Replies and messages of the stream cut at `cuts`; verdicts come at once or late.
fn run(stream: &[u8], cuts: &[usize], way: Way, at_once: bool) -> (Vec<u8>, Vec<Message>, bool) {
    let mut bench = bench(way);
    bench.at_once = at_once;
    feed_cut(&mut bench, stream, cuts);
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
    // Streams that close by chance are many, and skipped.
    #![proptest_config(ProptestConfig { max_global_rejects: 1_000_000, ..ProptestConfig::with_cases(600) })]

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
    fn stream_3_broken_limits_and_ends_are_the_same_at_every_split(
        stream in broken_bodies(),
        cuts in proptest::collection::vec(0usize..2000, 0..12),
        aimed in any::<bool>(),
        normalize in any::<bool>(),
    ) {
        let whole = run_broken(&stream, &[], Way::Shown, normalize);
        prop_assume!(!closes_by_chance(&whole.0));
        let way = if aimed { Way::Aimed } else { Way::Shown };
        prop_assert_eq!(&run_broken(&stream, &cuts, way, normalize), &whole, "{}", stream.escape_ascii());
        let bytes: Vec<_> = (0..stream.len()).collect();
        prop_assert_eq!(&run_broken(&stream, &bytes, way, normalize), &whole, "{}", stream.escape_ascii());
    }

    #[test]
    fn stream_4_a_message_is_stored_exactly_if_a_250_was_written(stream in stream(), cuts in proptest::collection::vec(0usize..4000, 0..4)) {
        let (out, messages, _) = run(&stream, &cuts, Way::Shown, true);
        prop_assert_eq!(accepted(&out), messages.len());
        // A message that was refused has no 250, whoever else has one.
        let mut half = bench(Way::Shown);
        half.refuse_every_second = true;
        feed_cut(&mut half, &stream, &cuts);
        prop_assert_eq!(&half.messages, &messages);
        prop_assert_eq!(accepted(&half.out), messages.len().div_ceil(2));
        prop_assert_eq!(count_replies(&half.out), count_replies(&out));
        // Late verdicts reorder nothing, and give the 250s of the same messages.
        let (late, late_messages, _) = run(&stream, &cuts, Way::Shown, false);
        prop_assert_eq!(&late_messages, &messages);
        prop_assert_eq!(late, out);
    }

    /// Content for which there is no room, found out half-way through or at its last octet. That what is stored is whole, its
    /// facts say when it is taken.
    #[test]
    fn stream_4_content_that_its_taker_refuses_is_no_message(
        stream in stream(),
        cuts in proptest::collection::vec(0usize..4000, 0..4),
        most in 0usize..8,
        aimed in any::<bool>(),
    ) {
        let mut short = bench(if aimed { Way::Aimed } else { Way::Shown });
        short.refuse_beyond = most;
        feed_cut(&mut short, &stream, &cuts);
        prop_assert_eq!(accepted(&short.out), short.messages.len());
        // What was refused while it came is not there.
        prop_assert!(aimed || short.messages.iter().all(|message| message.content.len() <= most));
    }

    /// A connection that ends anywhere: whose last octet came is a message and gets its 250, and nothing else is one.
    #[test]
    fn stream_4_where_a_connection_is_lost_whole_messages_stay_and_no_other(
        stream in stream(),
        cuts in proptest::collection::vec(0usize..4000, 0..4),
        aimed in any::<bool>(),
    ) {
        let way = if aimed { Way::Aimed } else { Way::Shown };
        let (_, messages, closed) = run(&stream, &[], Way::Shown, true);
        prop_assume!(!closed);
        for end in 0..=stream.len() {
            let (out, before, _) = run(&stream[..end], &cuts, way, false);
            prop_assert_eq!(accepted(&out), before.len());
            prop_assert_eq!(Some(&before[..]), messages.get(..before.len()), "{}", stream[..end].escape_ascii());
        }
    }

    #[test]
    fn stream_1_and_6_replies_and_messages_are_those_of_a_strict_reading(stream in stream()) {
        let (out, messages, closed) = run(&stream, &[], Way::Shown, true);
        prop_assume!(!closed);
        let (replies, expected) = reference(&stream);
        prop_assert_eq!(messages.into_iter().map(found).collect::<Vec<_>>(), expected);
        prop_assert_eq!(count_replies(&out), replies);
    }

    #[test]
    fn stream_1_and_6_hold_in_lmtp_with_a_reply_per_recipient(stream in stream()) {
        let stream = String::from_utf8_lossy(&stream).replace("EHLO c.test", "LHLO c.test").into_bytes();
        let mut bench = Bench::new(ServerOptions { dialect: Dialect::Lmtp, ..lifted() });
        bench.out.clear();
        bench.feed(&stream);
        prop_assume!(!bench.closed);
        let (replies, expected) = lmtp_reference(&stream);
        prop_assert_eq!(bench.messages.into_iter().map(found).collect::<Vec<_>>(), expected);
        prop_assert_eq!(count_replies(&bench.out), replies, "{}", stream.escape_ascii());
    }

    #[test]
    fn s_021_delayed_answers_change_no_reply_and_no_message(stream in stream(), cuts in proptest::collection::vec(0usize..4000, 0..4)) {
        let (out, messages, closed) = run(&stream, &[], Way::Shown, true);
        prop_assume!(!closed);
        let mut bench = bench_of(Way::Shown, Span::seconds(5));
        feed_cut(&mut bench, &stream, &cuts);
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
