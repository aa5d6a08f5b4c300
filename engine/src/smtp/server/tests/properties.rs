//! What holds for every byte stream (smtp-must.md section 26).

use super::support::*;
use crate::smtp::Profile;
use crate::smtp::server::ServerOptions;
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
    let lifted = ServerOptions { size_max: 500, errors_max: u32::MAX, ..options(Profile::Rfc) };
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

/// An independent, strict reading of the same stream: how many replies it must get, and which messages it holds.
fn reference(stream: &[u8]) -> (usize, Vec<Vec<u8>>) {
    let (mut replies, mut messages, mut at) = (0, Vec::new(), 0);
    let (mut mail, mut recipients, mut chunks, mut failed) = (false, 0, None::<Vec<u8>>, false);
    while let Some(end) = stream[at..].windows(2).position(|octets| octets == b"\r\n") {
        let line = String::from_utf8_lossy(&stream[at..at + end]).to_ascii_uppercase();
        at += end + 2;
        replies += 1;
        let reset = |mail: &mut bool, recipients: &mut usize, chunks: &mut Option<Vec<u8>>, failed: &mut bool| {
            (*mail, *recipients, *chunks, *failed) = (false, 0, None, false);
        };
        let text_ok = |body: &[u8]| {
            let lines = String::from_utf8_lossy(body).replace("\r\n", "");
            !lines.contains('\r') && !lines.contains('\n') && body.len() <= 500
        };
        if let Some(argument) = line.strip_prefix("BDAT ") {
            let (size, last) = argument.split_once(' ').map_or((argument, false), |(size, _)| (size, true));
            let size: usize = size.parse().expect("a size");
            if stream.len() < at + size {
                return (replies - 1, messages);
            }
            let octets = &stream[at..at + size];
            at += size;
            if !mail || recipients == 0 || failed {
                continue;
            }
            let fresh = chunks.is_none();
            let body = chunks.get_or_insert_default();
            body.extend_from_slice(octets);
            let pending = body.last() == Some(&b'\r') && !last;
            let judged = if pending { &body[..body.len() - 1] } else { &body[..] };
            let good = text_ok(judged) && body.len() <= 500 && !(fresh && size == 452);
            if last {
                let body = body.clone();
                reset(&mut mail, &mut recipients, &mut chunks, &mut failed);
                if good {
                    messages.push(body);
                }
            } else if !good {
                failed = true;
            }
            continue;
        }
        match line.as_str() {
            "EHLO C.TEST" | "HELO C.TEST" | "RSET" => reset(&mut mail, &mut recipients, &mut chunks, &mut failed),
            "MAIL FROM:<A@A.TEST>" | "MAIL FROM:<> SIZE=9" if !mail => {
                mail = !(line.contains("SIZE") && plain_helo(stream, at));
            }
            "RCPT TO:<B@B.TEST>" | "RCPT TO:<C@B.TEST>" | "RCPT TO:<B@[192.0.2.1]>"
                if mail && chunks.is_none() && !failed =>
            {
                recipients += 1;
            }
            "DATA" if mail && recipients > 0 && chunks.is_some() => failed = true,
            "DATA" if mail && recipients > 0 && !failed => {
                let framed = [b"\r\n", &stream[at..]].concat();
                let Some(end) = framed.windows(5).position(|octets| octets == b"\r\n.\r\n") else {
                    return (replies, messages);
                };
                let stuffed = String::from_utf8_lossy(&framed[..end + 2]).replace("\r\n.", "\r\n");
                at += end + 3;
                replies += 1;
                reset(&mut mail, &mut recipients, &mut chunks, &mut failed);
                if text_ok(&stuffed.as_bytes()[2..])
                    && !stuffed.split("\r\n\r\n").next().is_some_and(|head| head.contains('\0'))
                {
                    messages.push(stuffed.as_bytes()[2..].to_vec());
                }
            }
            _ => {}
        }
    }
    // A bare LF is told at once, without its CRLF (M-020).
    (replies + usize::from(stream[at..].contains(&b'\n')), messages)
}

/// Whether the last greeting before `at` was HELO: its session has no parameters.
fn plain_helo(stream: &[u8], at: usize) -> bool {
    let text = String::from_utf8_lossy(&stream[..at]).to_ascii_uppercase();
    text.rfind("HELO C.TEST").is_some_and(|helo| text.rfind("EHLO C.TEST").is_none_or(|ehlo| helo > ehlo))
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
