//! Rows about DATA, BDAT, sizes and pipelining.

use super::support::*;
use crate::smtp::Profile;
use crate::smtp::server::*;

const ENVELOPE: &[u8] = b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\n";

fn with_envelope(options: ServerOptions) -> Bench {
    let mut bench = Bench::new(options).hello();
    bench.feed(ENVELOPE);
    bench.out.clear();
    bench
}

fn rfc() -> Bench {
    with_envelope(options(Profile::Rfc))
}

/// The reply to this content by DATA.
fn data(mut bench: Bench, content: &[u8]) -> (Vec<String>, Bench) {
    bench.ask("DATA");
    bench.feed(content);
    bench.feed(b".\r\n");
    (bench.codes(), bench)
}

#[test]
fn m_041_data_needs_a_recipient_that_was_accepted() {
    let refused = || Bench::new(options(Profile::Rfc)).hello();
    for (before, code) in [
        (&[][..], "503 5.5.1"),
        (&["MAIL FROM:<a@a.test>"], "503 5.5.1"),
        (&["MAIL FROM:<a@a.test>", "RCPT TO:<nobody@b.test>"], "503 5.5.1"),
        (&["MAIL FROM:<refused@a.test>", "RCPT TO:<b@b.test>"], "503 5.5.1"),
        (&["MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>", "RSET"], "503 5.5.1"),
        (&["MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>", "RCPT TO:<nobody@b.test>"], "354"),
        (&["MAIL FROM:<a@a.test>", "RCPT TO:<nobody@b.test>", "RCPT TO:<b@b.test>"], "354"),
    ] {
        let mut bench = refused();
        before.iter().for_each(|line| drop(bench.ask(line)));
        assert_eq!(bench.ask("DATA"), [code], "{before:?}");
        // What would have been content is a command then.
        assert_eq!(bench.ask("NOOP").is_empty(), code == "354", "{before:?}");
    }
    let mut bench = Bench::rfc();
    bench.out.clear();
    assert_eq!(bench.ask("DATA"), ["503 5.5.1"], "before EHLO");
}

#[test]
fn m_041_m_052_data_ends_the_transaction_whatever_its_reply() {
    let (codes, mut bench) = data(rfc(), b"bare\nlf\r\n");
    assert_eq!(codes, ["550 5.5.2"]);
    assert_eq!(bench.ask("RCPT TO:<b@b.test>"), ["503 5.5.1"]);
    assert_eq!(bench.ask("MAIL FROM:<a@a.test>"), ["250 2.1.0"]);
}

#[test]
fn m_042_an_empty_body_ends_at_once() {
    let (codes, bench) = data(rfc(), b"");
    assert_eq!(codes, ["250 2.0.0"]);
    assert_eq!(bench.messages[0].content, b"");
}

#[test]
fn m_057_m_174_content_is_kept_byte_for_byte() {
    let content: Vec<u8> =
        [b"\r\n".to_vec(), (1u8..=255).filter(|&octet| octet != b'\r' && octet != b'\n').collect(), b"\r\n".to_vec()]
            .concat();
    let (codes, bench) = data(rfc(), &content);
    assert_eq!(codes, ["250 2.0.0"]);
    assert_eq!(bench.messages[0].content, content);
    assert!(bench.messages[0].facts.eight_bit);
}

#[test]
fn m_044_a_bare_cr_or_lf_refuses_the_message_at_its_real_end() {
    for content in [&b"a\nb\r\n"[..], b"a\rb\r\n", b"a\r\r\n", b"\n\r\n", b"a\n.\nb\r\n"] {
        for profile in [Profile::Rfc, Profile::Exchange, Profile::Bench] {
            let (codes, bench) = data(with_envelope(options(profile)), content);
            assert_eq!(codes, ["550 5.5.2"], "{}", content.escape_ascii());
            assert!(bench.messages.is_empty());
        }
    }
}

#[test]
fn m_044_normalizing_is_for_those_who_ask() {
    let normalize = ServerOptions { normalize_from: networks("192.0.2.0/24"), ..options(Profile::Rfc) };
    let (codes, bench) = data(with_envelope(normalize.clone()), b"a\nb\n\n.\nc\r\n.\n..d\r\n");
    assert_eq!(codes, ["250 2.0.0"]);
    assert_eq!(bench.messages[0].content, b"a\r\nb\r\n\r\n.\r\nc\r\n\r\n..d\r\n");
    let (codes, _) = data(with_envelope(normalize), b"a\rb\r\n");
    assert_eq!(codes, ["550 5.5.2"]);
    // Nobody else, and behind a front end its client counts.
    let others = ServerOptions { normalize_from: networks("198.51.100.0/24"), ..options(Profile::Rfc) };
    assert_eq!(data(with_envelope(others.clone()), b"a\nb\r\n").0, ["550 5.5.2"]);
    for (client, code) in [("198.51.100.7", "250 2.0.0"), ("192.0.2.1", "550 5.5.2")] {
        let mut bench = Bench::with(others.clone(), true).hello();
        bench.ask(&format!("MAIL FROM:<a@a.test> XADDR={client} XPROTO=ESMTP"));
        bench.ask("RCPT TO:<b@b.test>");
        assert_eq!(data(bench, b"a\nb\r\n").0, [code], "{client}");
    }
}

fn networks(text: &str) -> Vec<crate::wire::Network> {
    vec![text.parse().expect("a range")]
}

#[test]
fn m_051_f_147_a_body_without_its_end_is_nobodys_message() {
    for part in
        [&b"DATA\r\nabc\r\n"[..], b"DATA\r\nabc\r\n.", b"DATA\r\nabc\r\n.\r", b"BDAT 4 LAST\r\nabc", b"BDAT 3\r\nabc"]
    {
        let mut bench = rfc();
        bench.feed(part);
        assert!(bench.messages.is_empty(), "{}", part.escape_ascii());
        assert!(!bench.session.idle());
    }
}

#[test]
fn m_053_long_lines_are_taken_up_to_the_cap_in_flat_memory() {
    let line = |octets: usize| [vec![b'x'; octets], b"\r\n".to_vec()].concat();
    let (codes, bench) = data(rfc(), &line(1 << 20));
    assert_eq!(codes, ["250 2.0.0"]);
    assert_eq!(bench.messages[0].facts.longest_line, 1 << 20);
    assert_eq!(data(rfc(), &line((1 << 20) + 1)).0, ["550 5.6.0"]);
    let mut bench = rfc();
    bench.ask("DATA");
    for _ in 0..200 {
        bench.feed(&[b'x'; 10_000]);
        assert!(bench.session.held_bytes() < 10_000);
    }
}

/// Replies and message count of `content` by DATA, its octets and its end cut into `pieces`.
fn data_cut(options: &ServerOptions, way: Way, pieces: &[&[u8]]) -> (Vec<String>, usize) {
    let mut bench = with_envelope(options.clone());
    bench.way = way;
    bench.ask("DATA");
    for piece in pieces {
        bench.feed(piece);
    }
    (bench.codes(), bench.messages.len())
}

#[test]
fn m_053_lines_and_headers_at_their_bounds_are_judged_the_same_at_every_cut() {
    let small = ServerOptions { text_line_bytes_max: 40, header_bytes_max: 30, size_max: 100, ..options(Profile::Rfc) };
    let accepted = "250 2.0.0";
    for (body, reply) in [
        (&b"\r\n0123456789012345678901234567890123456789\r\n"[..], accepted),
        (b"\r\n01234567890123456789012345678901234567890\r\n", "550 5.6.0"),
        (b"\r\n.0123456789012345678901234567890123456789\r\n", accepted),
        // A header section of exactly its bound, and one beyond.
        (b"Subject: 6789012345678901234\r\n\r\nx\r\n", accepted),
        (b"Subject: 67890123456789012345\r\n\r\nx\r\n", "552 5.3.4"),
        // A long first line is no header before its colon comes.
        (b"01234567890123456789012345678901234567\r\nx\r\n", accepted),
        (b"To: x\r\n01234567890123456789012345678901234567\r\nx\r\n", accepted),
        (b"0123456789012345678901234567890123456: \r\nx\r\n", "552 5.3.4"),
        // White space first: no header at all.
        (b" x\0\r\ny\r\n", accepted),
        // Of several broken limits one answers.
        (b"To: x\r\n\r\na\nb\r\n01234567890123456789012345678901234567890\r\n", "550 5.5.2"),
        (
            b"a\nb\r\n0123456789012345678901234567890123456789\r\n0123456789012345678901234567890123456789\r\nx\r\ny\r\n\r\n\r\nz\r\n",
            "552 5.3.4",
        ),
    ] {
        let stream = [body, b".\r\n"].concat();
        let expected = (vec![reply.to_owned()], usize::from(reply == accepted));
        for way in [Way::Shown, Way::Aimed] {
            for cut in 0..=stream.len() {
                let (front, back) = stream.split_at(cut);
                assert_eq!(data_cut(&small, way, &[front, back]), expected, "{} cut at {cut}", body.escape_ascii());
            }
            let octets: Vec<_> = stream.chunks(1).collect();
            assert_eq!(data_cut(&small, way, &octets), expected, "{}", body.escape_ascii());
        }
    }
}

#[test]
fn m_056_a_nul_in_the_header_is_refused_and_in_the_body_kept() {
    for header in
        [&b"Subject: a\0b\r\n\r\n"[..], b"Sub\0ject: a\r\n\r\n", b"Subject: a\r\n b\0\r\n", b"Subject: a\r\nTo: \0\r\n"]
    {
        for cut in 0..header.len() {
            let mut bench = rfc();
            bench.ask("DATA");
            bench.feed(&header[..cut]);
            bench.feed(&header[cut..]);
            assert_eq!(bench.ask("."), ["550 5.6.0"], "{} cut at {cut}", header.escape_ascii());
        }
    }
    // A line that is no field ends the header; it and what follows is body.
    for body in [&b"no colon \0\r\n\r\n"[..], b" \0blank first: x\r\n\r\n", b"Subject: a\r\nno colon\r\nTo: \0\r\n"] {
        assert_eq!(data(rfc(), body).0, ["250 2.0.0"], "{}", body.escape_ascii());
    }
    let (codes, bench) = data(rfc(), b"Subject: \xe9\r\n\r\na\0b\r\n");
    assert_eq!(codes, ["250 2.0.0"]);
    assert!(bench.messages[0].facts.nul);
}

#[test]
fn m_080_f_149_loops_end() {
    for (profile, most) in [(Profile::Rfc, 100), (Profile::Exchange, 30)] {
        let hops = |count: usize| [b"Received: x\r\n".repeat(count), b"\r\n".to_vec()].concat();
        let accepted = if profile == Profile::Rfc { "250 2.0.0" } else { "250 2.6.0" };
        assert_eq!(data(with_envelope(options(profile)), &hops(most)).0, [accepted]);
        assert_eq!(data(with_envelope(options(profile)), &hops(most + 1)).0, ["554 5.4.6"]);
    }
}

#[test]
fn f_127_header_sections_have_bounds() {
    let fields = |count: usize| [b"X: y\r\n".repeat(count), b"\r\n".to_vec()].concat();
    assert_eq!(data(rfc(), &fields(1000)).0, ["250 2.0.0"]);
    assert_eq!(data(rfc(), &fields(1001)).0, ["552 5.3.4"]);
    let big = |octets: usize| [b"X: ".to_vec(), vec![b'y'; octets - 5], b"\r\n\r\n".to_vec()].concat();
    for (profile, most, accepted) in
        [(Profile::Rfc, 64 << 10, "250 2.0.0"), (Profile::Exchange, 256 << 10, "250 2.6.0")]
    {
        assert_eq!(data(with_envelope(options(profile)), &big(most)).0, [accepted]);
        assert_eq!(data(with_envelope(options(profile)), &big(most + 1)).0, ["552 5.3.4"]);
    }
    assert_eq!(data(rfc(), &[&[b'n'; 300_000][..], b": x\r\n\r\n"].concat()).0, ["552 5.3.4"]);
    // A body without a header section is no header section.
    assert_eq!(data(rfc(), &[&b"no colon here\r\n"[..], &b"x\r\n".repeat(40_000)].concat()).0, ["250 2.0.0"]);
}

/// Names that mean something elsewhere, none at all, and one of 100 KB: taken as they came, and the session goes on. Only the
/// size of the section counts, whoever's octets it is made of.
#[test]
fn f_143_odd_header_names_are_ordinary_data() {
    let long = "n".repeat(100_000);
    for name in ["__proto__", "constructor", "toString", "", &long] {
        let content = format!("Subject: x\r\n{name}: 1\r\n\r\nbody\r\n").into_bytes();
        for (profile, accepted) in
            [(Profile::Rfc, "250 2.0.0"), (Profile::Exchange, "250 2.6.0"), (Profile::Bench, "250 2.0.0")]
        {
            let (codes, mut bench) = data(with_envelope(options(profile)), &content);
            if profile == Profile::Rfc && name.len() > 64 << 10 {
                let value = format!("Subject: x\r\nn: {name}\r\n\r\nbody\r\n");
                assert_eq!(codes, data(with_envelope(options(profile)), value.as_bytes()).0);
                assert_eq!(codes, ["552 5.3.4"]);
            } else {
                assert_eq!(codes, [accepted], "{profile:?}: {} octets", name.len());
                assert!(bench.messages[0].content == content, "{profile:?}: {} octets", name.len());
            }
            assert_eq!(bench.ask("NOOP").len(), 1, "{profile:?}: {} octets", name.len());
        }
    }
}

#[test]
fn m_104_m_105_sizes_declared() {
    for (size, code) in [
        ("52428800", "250 2.1.0"),
        ("52428801", "552 5.3.4"),
        ("99999999999999999999", "552 5.3.4"),
        ("100000000000000000000", "501 5.5.4"),
        ("452", "452 4.3.1"),
        ("0", "250 2.1.0"),
    ] {
        assert_eq!(Bench::rfc().hello().ask(&format!("MAIL FROM:<a@a.test> SIZE={size}")), [code], "{size}");
    }
    let unlimited = ServerOptions { size_max: 0, ..options(Profile::Rfc) };
    let mut bench = Bench::new(unlimited);
    bench.out.clear();
    bench.feed(b"EHLO c.test\r\n");
    assert!(String::from_utf8_lossy(&bench.out).contains("250-SIZE 0\r\n"));
    bench.out.clear();
    assert_eq!(bench.ask("MAIL FROM:<a@a.test> SIZE=99999999999999999999"), ["250 2.1.0"]);
}

#[test]
fn m_106_m_108_f_141_the_size_that_counts_is_the_one_that_comes() {
    let small = ServerOptions { size_max: 1000, ..options(Profile::Rfc) };
    // Stuffing dots and the final dot do not count.
    let exact = [b"..\r\n".repeat(333), b"x".to_vec()].concat();
    let (codes, bench) = data(with_envelope(small.clone()), &[&exact[..], b"\r\n"].concat());
    assert_eq!((codes, bench.messages.len()), (vec!["552 5.3.4".to_owned()], 0));
    let (codes, bench) = data(with_envelope(small.clone()), &[&b"..\r\n".repeat(332)[..], b"xx\r\n"].concat());
    assert_eq!((codes, bench.messages[0].content.len()), (vec!["250 2.0.0".to_owned()], 1000));
    // More than declared is fine.
    let mut bench = Bench::new(small.clone()).hello();
    bench.feed(b"MAIL FROM:<a@a.test> SIZE=3\r\nRCPT TO:<b@b.test>\r\n");
    bench.out.clear();
    assert_eq!(data(bench, &b"0123456789\r\n".repeat(10)).0, ["250 2.0.0"]);
    // Over twice the most: the end, at once.
    let mut bench = with_envelope(small.clone());
    bench.ask("DATA");
    bench.feed(&b"0123456789\r\n".repeat(166));
    assert!(bench.codes().is_empty() && !bench.closed);
    bench.feed(&b"0123456789\r\n".repeat(2));
    assert_eq!((bench.codes(), bench.closed), (vec!["552 5.3.4".to_owned()], true));
    // By chunks.
    let mut bench = with_envelope(small.clone());
    bench.feed(
        &[&b"BDAT 600\r\n"[..], &[b'x'; 600], b"BDAT 401\r\n", &[b'x'; 401], b"BDAT 1 LAST\r\nxRSET\r\n"].concat(),
    );
    assert_eq!(bench.codes(), ["250 2.0.0", "552 5.3.4", "503 5.5.1", "250 2.0.0"]);
    let mut bench = with_envelope(small);
    bench.feed(b"BDAT 2001 LAST\r\n");
    assert_eq!((bench.codes().len(), bench.closed), (0, true));
}

#[test]
fn m_109_m_110_m_111_pipelined_commands_are_answered_in_order() {
    let mut bench = Bench::rfc();
    bench.out.clear();
    bench.at_once = false;
    bench.feed(b"EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<nobody@b.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
    bench.feed(b"one\r\n.\r\nMAIL FROM:<c@c.test>\r\nRCPT TO:<d@d.test>\r\nBDAT 3 LAST\r\ntwoNOOP\r\nXYZZY\r\n");
    assert_eq!(bench.codes(), ["250", "250 2.1.0", "550 5.1.1", "250 2.1.5", "354"]);
    assert_eq!(bench.session.in_flight(), 2);
    bench.settle();
    assert_eq!(bench.codes(), ["250 2.0.0", "250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0", "500 5.5.2"]);
    let mut bench = Bench::rfc().hello();
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<nobody@b.test>\r\nDATA\r\n");
    assert_eq!(bench.codes(), ["250 2.1.0", "550 5.1.1", "503 5.5.1"]);
}

#[test]
fn m_112_f_133_strict_listeners_close_on_early_data() {
    let strict = || Bench::new(ServerOptions::new(Profile::Rfc, "mx.test"));
    let mut bench = strict();
    bench.out.clear();
    bench.feed(b"EHLO c.test\r\nMAIL FROM:<a@a.test>\r\n");
    assert_eq!((bench.codes(), bench.closed), (vec!["554 5.5.0".to_owned()], true));
    let mut bench = strict().hello();
    bench.feed(ENVELOPE);
    bench.out.clear();
    bench.feed(b"DATA\r\nSubject: early\r\n");
    assert_eq!((bench.codes(), bench.closed), (vec!["554 5.5.0".to_owned()], true));
    // What stands behind the end of data is legal.
    let mut bench = strict().hello();
    bench.feed(ENVELOPE);
    bench.feed(b"DATA\r\n");
    bench.out.clear();
    bench.feed(&[b"x\r\n.\r\nRSET\r\n", ENVELOPE].concat());
    assert_eq!(bench.codes(), ["250 2.0.0", "250 2.0.0", "250 2.1.0", "250 2.1.5"]);
}

#[test]
fn m_116_f_133_replies_behind_owed_verdicts_are_bounded() {
    let mut bench = Bench::new(options(Profile::Bench)).hello();
    bench.at_once = false;
    bench.feed(&[ENVELOPE, b"BDAT 0 LAST\r\n"].concat());
    bench.feed(&b"NOOP\r\n".repeat(10_000));
    assert!(bench.session.held_bytes() < (64 << 10) + 4096);
    bench.out.clear();
    bench.settle();
    assert_eq!(bench.codes().len(), 1 + 10_000);
    // And no more messages are owed than there are slots.
    let mut bench = Bench::new(options(Profile::Rfc)).hello();
    bench.at_once = false;
    bench.feed(&[ENVELOPE, b"BDAT 0 LAST\r\n"].concat().repeat(70));
    assert_eq!((bench.session.in_flight(), bench.messages.len()), (64, 64));
    bench.settle();
    assert_eq!(bench.messages.len(), 70);
}

#[test]
fn m_117_m_121_f_135_chunk_sizes_that_are_none_close() {
    for argument in
        ["", "x", "-1", "0x10", "9223372036854775808", "99999999999999999999999", "10 FIRST", "10 LAST LAST", "1.5"]
    {
        let mut bench = rfc();
        bench.feed(format!("BDAT {argument}\r\nNOOP\r\n").as_bytes());
        assert_eq!((bench.codes(), bench.closed), (vec!["501 5.5.4".to_owned()], true), "{argument}");
    }
    let unlimited = ServerOptions { size_max: 0, ..options(Profile::Rfc) };
    let mut bench = with_envelope(unlimited);
    bench.feed(b"BDAT 9223372036854775807 LAST\r\nabc");
    assert!(bench.codes().is_empty() && !bench.closed);
    assert_eq!(bench.session.aim_hint(), Some(Expect::Chunk(9_223_372_036_854_775_804)));
}

#[test]
fn m_117_m_120_chunks_make_one_message_and_dots_mean_nothing() {
    let mut bench = rfc();
    bench.feed(b"BDAT 5\r\n.\r\n.\rBDAT 0\r\nBDAT 4\r\n\nx\r\nBDAT 3 LAST\r\n.\r\n");
    assert_eq!(bench.codes(), ["250 2.0.0"; 4]);
    assert_eq!(bench.messages[0].content, b".\r\n.\r\nx\r\n.\r\n");
    assert!(bench.messages[0].facts.ends_with_crlf);
}

#[test]
fn m_118_chunks_outside_a_transaction_are_read_and_refused() {
    let mut bench = Bench::rfc().hello();
    bench.feed(b"BDAT 6\r\nRSET\r\nMAIL FROM:<a@a.test>\r\nBDAT 6 LAST\r\nQUIT\r\nRCPT TO:<b@b.test>\r\n");
    assert_eq!(bench.codes(), ["503 5.5.1", "250 2.1.0", "503 5.5.1", "250 2.1.5"]);
}

#[test]
fn m_003_behind_helo_chunks_are_read_and_refused() {
    let mut bench = Bench::rfc();
    bench.feed(b"HELO c.test\r\n");
    bench.out.clear();
    bench.feed(&[ENVELOPE, b"BDAT 6 LAST\r\nQUIT\r\nBDAT 3\r\nabcDATA\r\nx\r\n.\r\n"].concat());
    assert_eq!(bench.codes(), ["250 2.1.0", "250 2.1.5", "503 5.5.1", "503 5.5.1", "354", "250 2.0.0"]);
    assert_eq!(bench.messages.len(), 1);
    assert_eq!(bench.messages[0].content, b"x\r\n");
}

#[test]
fn m_018_chunks_out_of_order_are_errors_like_others() {
    let mut bench = Bench::rfc().hello();
    bench.feed(&b"BDAT 2\r\nxx".repeat(21));
    let codes = bench.codes();
    assert_eq!((codes.len(), codes.last().map(String::as_str), bench.closed), (21, Some("421 4.7.0"), true));
    assert!(codes[..20].iter().all(|code| code == "503 5.5.1"));
    // Behind a refusal of ours they are what a pipelining client cannot help.
    let mut bench = Bench::rfc().hello();
    let refused = b"RSET\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<nobody@b.test>\r\nBDAT 2 LAST\r\nxx";
    bench.feed(&refused.repeat(21));
    assert!(!bench.closed && bench.codes().last().is_some_and(|code| code == "503 5.5.1"));
}

#[test]
fn f_137_empty_chunks_do_not_go_on_for_ever() {
    let mut bench = rfc();
    bench.feed(&b"BDAT 0\r\n".repeat(1_000));
    let codes = bench.codes();
    assert_eq!((codes.len(), codes.last().map(String::as_str), bench.closed), (201, Some("421 4.7.0"), true));
    assert!(bench.messages.is_empty());
}

#[test]
fn m_118_a_failed_chunk_spoils_those_behind_it_until_rset() {
    let mut bench = rfc();
    bench.feed(b"BDAT 3\r\na\nbBDAT 1\r\ncBDAT 1 LAST\r\ndRCPT TO:<b@b.test>\r\nMAIL FROM:<a@a.test>\r\nRSET\r\n");
    assert_eq!(bench.codes(), ["550 5.5.2", "503 5.5.1", "503 5.5.1", "503 5.5.1", "503 5.5.1", "250 2.0.0"]);
    bench.feed(&[ENVELOPE, b"BDAT 1 LAST\r\nx"].concat());
    assert_eq!(bench.messages.len(), 1);
}

#[test]
fn m_119_f_136_data_and_bdat_do_not_mix() {
    let mut bench = rfc();
    bench.feed(b"BDAT 1\r\nxDATA\r\nBDAT 1 LAST\r\nyRSET\r\n");
    assert_eq!(bench.codes(), ["250 2.0.0", "503 5.5.1", "503 5.5.1", "250 2.0.0"]);
    bench.feed(&[ENVELOPE, b"BDAT 1 LAST\r\nxBDAT 1 LAST\r\ny", ENVELOPE, b"DATA\r\n"].concat());
    bench.feed(b"z\r\n.\r\n");
    assert_eq!(bench.messages.len(), 2);
}

#[test]
fn m_123_binary_bodies_where_they_are_offered() {
    let mut options = options(Profile::Rfc);
    options.extensions.binary_mime = true;
    let mut bench = Bench::new(options).hello();
    let envelope = b"MAIL FROM:<a@a.test> BODY=BINARYMIME\r\nRCPT TO:<b@b.test>\r\n";
    bench.feed(&[&envelope[..], b"BDAT 6 LAST\r\n\n.\r\0\r\rRSET\r\n"].concat());
    assert_eq!(bench.messages[0].content, b"\n.\r\0\r\r");
    bench.out.clear();
    bench.feed(&[&envelope[..], b"DATA\r\nBDAT 1 LAST\r\nx"].concat());
    assert_eq!(bench.codes(), ["250 2.1.0", "250 2.1.5", "503 5.5.1", "503 5.5.1"]);
}

#[test]
fn m_126_a_crlf_over_two_chunks_is_one_line_end_and_bare_ones_refuse() {
    let mut bench = rfc();
    bench.feed(b"BDAT 2\r\na\rBDAT 2 LAST\r\n\nb");
    assert_eq!(bench.codes(), ["250 2.0.0", "250 2.0.0"]);
    for body in [&b"BDAT 2\r\na\rBDAT 2 LAST\r\nbc"[..], b"BDAT 2\r\na\rBDAT 0 LAST\r\n"] {
        let mut bench = rfc();
        bench.feed(body);
        assert_eq!(bench.codes(), ["250 2.0.0", "550 5.5.2"], "{}", body.escape_ascii());
        assert!(bench.messages.is_empty());
    }
}

#[test]
fn a_taker_may_refuse_a_body_half_way() {
    let mut bench = rfc();
    bench.ask("DATA");
    let mut out = Vec::new();
    let step = bench.session.step(b"abc\r\n", bench.now, &ByName, &mut out);
    assert_eq!(step, Step { consumed: 5, event: Event::Body(0..5) });
    bench.session.refuse_content(&LATER);
    assert_eq!(bench.session.aim_hint(), None);
    let step = bench.session.step(b"more\nof it\r\n.\r\nNOOP\r\n", bench.now, &ByName, &mut out);
    assert_eq!(step, Step { consumed: 21, event: Event::More });
    assert_eq!(out, b"451 4.3.0 Try again\r\n250 2.0.0 OK\r\n");
}

/// There was no room for a chunk that has its 250 already: the message is refused, and not taken without that chunk.
#[test]
fn i_2_m_118_a_body_refused_between_its_chunks_fails_at_the_next_one() {
    for way in [Way::Shown, Way::Aimed] {
        for (next, codes) in [
            ("BDAT 3 LAST\r\nxyzNOOP\r\n", &["451 4.3.0", "250 2.0.0"][..]),
            ("BDAT 0 LAST\r\nNOOP\r\n", &["451 4.3.0", "250 2.0.0"]),
            ("BDAT 3\r\nxyzBDAT 1 LAST\r\nxNOOP\r\n", &["451 4.3.0", "503 5.5.1", "250 2.0.0"]),
            ("RSET\r\nNOOP\r\n", &["250 2.0.0", "250 2.0.0"]),
        ] {
            let mut bench = with_envelope(options(Profile::Rfc));
            bench.way = way;
            bench.feed(b"BDAT 3\r\n");
            bench.feed(b"abc");
            assert_eq!(bench.codes(), ["250 2.0.0"], "{way:?}: its reply does not wait");
            bench.give_up_body();
            bench.feed(next.as_bytes());
            assert_eq!(bench.codes(), codes, "{way:?} {next}");
            assert!(bench.messages.is_empty(), "{way:?} {next}");
            bench.feed(b"RSET\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 2 LAST\r\nok");
            assert_eq!(bench.messages.len(), 1, "{way:?} {next}: the next transaction knows nothing of it");
        }
    }
}

#[test]
fn room_is_asked_before_content_is_taken() {
    let mut bench = Bench::new(options(Profile::Rfc)).hello();
    bench.feed(&[ENVELOPE, b"BDAT 452 LAST\r\n", &[b'x'; 452]].concat());
    assert_eq!(bench.codes(), ["250 2.1.0", "250 2.1.5", "452 4.3.1"]);
    // A first chunk that exceeds what was declared is asked about as it is.
    let declared = b"RSET\r\nMAIL FROM:<a@a.test> SIZE=9\r\nRCPT TO:<b@b.test>\r\nBDAT 452\r\n";
    bench.feed(&[declared, &[b'x'; 452][..]].concat());
    assert_eq!(bench.codes(), ["250 2.0.0", "250 2.1.0", "250 2.1.5", "452 4.3.1"]);
    assert!(bench.messages.is_empty());
}

#[test]
fn m_044_a_void_body_that_was_aimed_is_answered_at_once() {
    for (start, body, reply) in [
        (&b"DATA\r\n"[..], &b"a\nb\r\n.\r\nNOOP\r\n"[..], "550 5.5.2"),
        (b"DATA\r\n", b"end in cr\r\r\n.\r\nNOOP\r\n", "550 5.5.2"),
        (b"BDAT 4 LAST\r\n", b"a\nbcNOOP\r\n", "550 5.5.2"),
        (b"BDAT 4 LAST\r\n", b"abc\rNOOP\r\n", "550 5.5.2"),
        (b"BDAT 4\r\n", b"a\nbcNOOP\r\n", "550 5.5.2"),
    ] {
        let mut bench = rfc();
        bench.feed(start);
        bench.out.clear();
        assert!(bench.session.aim_hint().is_some());
        let mut octets = body.to_vec();
        let aimed = bench.session.on_aimed(&mut octets, bench.now, &mut bench.out);
        assert_eq!((aimed.content, aimed.undecided, aimed.event), (0, 0, Event::Discard), "{}", body.escape_ascii());
        assert_eq!(&octets[aimed.rest], b"NOOP\r\n");
        assert_eq!(bench.codes(), [reply], "{}", body.escape_ascii());
    }
}

#[test]
fn m_050_one_reply_speaks_for_all_accepted_recipients() {
    for (content, code) in [(&b"x\r\n"[..], "250 2.0.0"), (b"bare\nlf\r\n", "550 5.5.2")] {
        let mut bench = rfc();
        bench.feed(b"RCPT TO:<nobody@b.test>\r\nRCPT TO:<c@b.test>\r\nRCPT TO:<d@b.test>\r\n");
        bench.out.clear();
        let (codes, bench) = data(bench, content);
        assert_eq!(codes, [code]);
        let taken: Vec<_> = bench.messages.iter().map(|message| message.to.len()).collect();
        assert_eq!(taken, if code == "250 2.0.0" { vec![3] } else { vec![] });
    }
}

#[test]
fn m_055_defects_of_header_or_mime_alone_refuse_nothing() {
    for content in [
        &b"no header at all\r\n"[..],
        b" folded first\r\n\r\nx\r\n",
        b"Resent-From: a\r\nResent-Date: never\r\nReceived: nonsense\r\nReceived\r\n\r\nx\r\n",
        b"Received: from\r\nResent-To: <\r\nResent-To: >\r\nDate: yesterday\r\nDate: today\r\n\r\nx\r\n",
        b"Content-Type: multipart/mixed; boundary=never\r\nContent-Transfer-Encoding: base64\r\n\r\n\xff\xfe\r\n",
        b"From: a, b, c\r\nFrom: <\r\n: no name\r\n =?broken?=\r\n\r\n",
    ] {
        let (codes, bench) = data(rfc(), content);
        assert_eq!(codes, ["250 2.0.0"], "{}", content.escape_ascii());
        assert_eq!(bench.messages[0].content, content);
    }
}

#[test]
fn m_046_one_leading_dot_goes_and_lines_are_those_that_crlf_ends() {
    for (sent, kept) in [
        (&b".a\r\n..b\r\n...\r\n. c\r\n"[..], &b"a\r\n.b\r\n..\r\n c\r\n"[..]),
        (b"a.\r\n a.b\r\n", b"a.\r\n a.b\r\n"),
        (b"..\r\n", b".\r\n"),
    ] {
        for at in 0..=sent.len() {
            let mut bench = rfc();
            bench.ask("DATA");
            bench.feed(&sent[..at]);
            bench.feed(&sent[at..]);
            assert_eq!(bench.ask("."), ["250 2.0.0"]);
            assert_eq!(bench.messages[0].content, kept, "{} cut at {at}", sent.escape_ascii());
        }
    }
    // A bare LF begins no line: the dot behind it is content, in a message that is refused for the LF.
    let normalize = ServerOptions { normalize_from: networks("192.0.2.0/24"), ..options(Profile::Rfc) };
    let (codes, bench) = data(with_envelope(normalize), b"a\n.b\r\n");
    assert_eq!((codes, &bench.messages[0].content[..]), (vec!["250 2.0.0".to_owned()], &b"a\r\n.b\r\n"[..]));
}

#[test]
fn stream_5_the_longest_envelope_stays_within_its_bound() {
    for profile in [Profile::Rfc, Profile::Exchange, Profile::Bench] {
        let mut bench = Bench::new(options(profile)).hello();
        bench.ask("MAIL FROM:<a@a.test>");
        let limits = bench.session.options();
        let most = 2 * limits.envelope_bytes_max + 2 * limits.command_line_bytes_max + (64 << 10);
        let recipient = |number: usize| format!("RCPT TO:<{number:05}{}@{}.test>", "l".repeat(59), "d".repeat(60));
        let mut taken = 0;
        while bench.ask(&recipient(taken)) == ["250 2.1.5"] {
            taken += 1;
            assert!(bench.session.held_bytes() <= most, "{profile:?}: {} recipients", taken);
        }
        assert!(taken >= 100 && !bench.closed, "{profile:?}: {taken}");
    }
}
