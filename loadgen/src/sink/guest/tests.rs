use super::*;
use crate::stamp::crc32c;
use engine::smtp::Profile;

struct Table {
    desk: Desk,
    guest: Guest,
    at: Tick,
}

fn table_of(faults: &[&str], change: impl FnOnce(&mut ServerOptions)) -> Table {
    let faults = faults.iter().map(|text| text.parse().unwrap_or_else(|error| panic!("{error}"))).collect();
    let desk = Desk::new(Shared::new(1, faults, 1000, Tick(0)), 0);
    let mut options = ServerOptions::new(Profile::Bench, "sink.test");
    change(&mut options);
    let address = SocketAddr::from(([127, 0, 0, 1], 25));
    let guest = Guest::new(Arc::new(options), 1, address, address, Tick(0));
    Table { desk, guest, at: Tick(1_000_000) }
}

fn table(faults: &[&str]) -> Table {
    table_of(faults, |_| {})
}

impl Table {
    fn open(&mut self) -> After {
        self.guest.open(&self.desk, self.at)
    }

    /// Shows `bytes` until nothing more is consumed or the session ends; gives the replies and the last word.
    fn say(&mut self, bytes: &[u8]) -> (String, After) {
        self.guest.out.clear();
        let mut at = 0;
        loop {
            let now = self.at;
            let (consumed, after) = self.guest.see(&bytes[at..], &self.desk, &|| now);
            at += consumed;
            if after.end != End::GoOn || after.wait > Span::ZERO || !after.again || at == bytes.len() {
                return (String::from_utf8_lossy(&self.guest.out).into_owned(), after);
            }
        }
    }

    fn greeted(mut self) -> Self {
        self.open();
        self.say(b"EHLO client.test\r\n");
        self
    }

    fn ledger(&self) -> Vec<Delivery> {
        self.desk.look();
        self.desk.shared.kept()
    }
}

fn mail(content: &[u8], recipients: &[&str]) -> Vec<u8> {
    let mut local = String::new();
    Stamp { run: 5, seq: 77, bytes: content.len() as u64, crc32c: crc32c(content), ends_with_crlf: true }
        .write(&mut local);
    let mut commands = format!("MAIL FROM:<{local}@load.test>\r\n");
    for recipient in recipients {
        commands.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
    }
    commands.into_bytes()
}

fn by_data(content: &str, recipients: &[&str]) -> [Vec<u8>; 3] {
    let body = format!("{content}.\r\n");
    [mail(content.as_bytes(), recipients), b"DATA\r\n".to_vec(), body.into_bytes()]
}

fn by_bdat(content: &str, recipients: &[&str]) -> Vec<u8> {
    let mut all = mail(content.as_bytes(), recipients);
    all.extend_from_slice(format!("BDAT {} LAST\r\n{content}", content.len()).as_bytes());
    all
}

const CONTENT: &str = "Subject: x\r\n\r\nbody\r\n";

/// The whole way of one message by DATA; the replies one by one, and the last word.
fn whole_way(table: &mut Table) -> (Vec<String>, After) {
    let mut replies = Vec::new();
    let mut last = After::plain();
    for part in by_data(CONTENT, &["u1@x.test"]) {
        let (said, after) = table.say(&part);
        replies.extend(said.split_inclusive("\r\n").map(str::to_owned));
        last = after;
        if after.end != End::GoOn {
            break;
        }
    }
    (replies, last)
}

fn codes(replies: &[String]) -> Vec<&str> {
    replies.iter().map(|reply| reply.get(..3).unwrap_or(reply)).collect()
}

#[test]
fn i_11_a_report_is_written_down_for_each_recipient_that_it_calls_failed() {
    let about = |actions: &[(&str, &str)]| {
        let group = |(to, action): &(&str, &str)| format!("Final-Recipient: rfc822; {to}\r\nAction: {action}\r\n\r\n");
        let groups: String = actions.iter().map(group).collect();
        format!(
            "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
             Reporting-MTA: dns; x.test\r\n\r\n{groups}--b--\r\n"
        )
    };
    let mut local = String::new();
    Stamp { run: 5, seq: 77, bytes: 1, crc32c: 2, ends_with_crlf: true }.write(&mut local);
    let [bob, ann] = [recipient_key(b"bob", b"b.test"), recipient_key(b"ann", b"b.test")];
    let sender = recipient_key(local.as_bytes(), b"load.test");
    let two = about(&[("bob@b.test", "failed"), ("eve@b.test", "delayed"), ("ann@b.test", "failed")]);
    for (content, expected) in [
        (two, vec![(bob, FLAG_REPORT), (ann, FLAG_REPORT)]),
        (about(&[("eve@b.test", "delayed")]), vec![(sender, FLAG_REPORT | FLAG_NO_FAILURE)]),
        ("Subject: away\r\n\r\nI am away.\r\n".to_owned(), vec![(sender, FLAG_REPORT)]),
    ] {
        for by_chunks in [true, false] {
            let mut table = table(&[]).greeted();
            let envelope = format!("MAIL FROM:<>\r\nRCPT TO:<{local}@load.test>\r\n");
            if by_chunks {
                table.say(format!("{envelope}BDAT {} LAST\r\n{content}", content.len()).as_bytes());
            } else {
                [envelope.as_str(), "DATA\r\n", &content, ".\r\n"]
                    .iter()
                    .for_each(|part| drop(table.say(part.as_bytes())));
            }
            let ledger = table.ledger();
            let told: Vec<(u32, u8)> = ledger.iter().map(|entry| (entry.recipient, entry.flags)).collect();
            assert_eq!(told, expected, "{content}");
            assert!(ledger.iter().all(|entry| (entry.run, entry.seq) == (5, 77)));
            // What follows on the same connection is no report.
            table.say(&by_bdat(CONTENT, &["u1@x.test"]));
            assert_eq!(table.ledger().last().map(|entry| entry.flags), Some(0));
        }
    }
}

#[test]
fn a_message_is_written_down_once_per_recipient() {
    for chunks in [false, true] {
        let mut table = table(&[]).greeted();
        let to = ["u1@x.test", "U2@Y.test"];
        if chunks {
            assert_eq!(table.say(&by_bdat(CONTENT, &to)).0.matches("250 ").count(), 4);
        } else {
            by_data(CONTENT, &to).iter().for_each(|part| drop(table.say(part)));
        }
        let ledger = table.ledger();
        let keys: Vec<u32> = ledger.iter().map(|entry| entry.recipient).collect();
        assert_eq!(keys, [recipient_key(b"u1", b"x.test"), recipient_key(b"u2", b"y.test")]);
        let expected =
            Delivery { run: 5, recipient: keys[0], seq: 77, at: table.at, bytes: CONTENT.len() as u32, flags: 0 };
        assert_eq!(ledger[0], expected);
        let counts = table.desk.shared.published(Tick(0));
        assert_eq!((counts.messages, counts.recipients, counts.bytes), (1, 2, CONTENT.len() as u64));
    }
}

#[test]
fn faults_or_none_the_same_octets_are_taken_however_they_are_cut() {
    let mut all = by_bdat("A: 1\r\n\r\n.one\r\n", &["u1@x.test"]);
    all.extend(by_bdat("B: 2\r\n\r\ntwo\r\n", &["u2@x.test"]));
    for faults in [&[][..], &["eod:close;after=1000"]] {
        let whole = table(faults).greeted().say(&all).0;
        for cut in 1..all.len() {
            let mut table = table(faults).greeted();
            let now = table.at;
            let mut shown = all[..cut].to_vec();
            table.guest.out.clear();
            let (consumed, _) = table.guest.see(&shown, &table.desk, &|| now);
            shown.drain(..consumed);
            shown.extend_from_slice(&all[cut..]);
            let (rest, _) = table.guest.see(&shown, &table.desk, &|| now);
            assert_eq!(rest, shown.len(), "cut at {cut}");
            assert_eq!(String::from_utf8_lossy(&table.guest.out), whole, "cut at {cut}");
            assert_eq!(table.ledger().len(), 2);
        }
    }
}

#[test]
fn i_4_a_changed_content_and_a_stranger_are_flagged() {
    let mut table = table(&[]).greeted();
    let mut changed = by_bdat(CONTENT, &["u1@x.test"]);
    let end = changed.len() - 3;
    changed[end] ^= 1;
    table.say(&changed);
    table.say(b"MAIL FROM:<ann@a.test>\r\nRCPT TO:<u1@x.test>\r\nBDAT 2 LAST\r\n\r\n");
    table.say(b"MAIL FROM:<>\r\nRCPT TO:<rl-00000005-4d-2-00000000@load.test>\r\nBDAT 2 LAST\r\n\r\n");
    let flags: Vec<(u8, u64)> = table.ledger().iter().map(|entry| (entry.flags, entry.seq)).collect();
    assert_eq!(flags, [(FLAG_DIFFERS, 77), (FLAG_UNSTAMPED, u64::MAX), (FLAG_REPORT, 77)]);
    let counts = table.desk.shared.published(Tick(0));
    assert_eq!((counts.content_differs, counts.unstamped, counts.reports), (1, 1, 1));
}

#[test]
fn f_064_f_065_any_reply_at_any_command() {
    for (place, before) in [("mail", 0), ("rcpt", 1), ("data", 2), ("eod", 3)] {
        for code in [451, 550, 421, 250, 354] {
            let mut table = table(&[&format!("{place}:reply {code} 4.3.2 as told")]).greeted();
            let (replies, last) = whole_way(&mut table);
            let struck = &replies[before];
            assert_eq!(struck, &format!("{code} 4.3.2 as told\r\n"), "{place} {code}: {replies:?}");
            assert_eq!(last.end == End::Close, code == 421, "{place} {code}");
            // A reply of the class that success has lets the session go on.
            let taken = usize::from(code == if place == "data" { 354 } else { 250 });
            assert_eq!(table.ledger().len(), taken, "{place} {code}: {replies:?}");
        }
    }
}

#[test]
fn f_068_one_recipient_of_two_is_refused() {
    let mut table = table(&["rcpt:reply 550 5.1.1 nobody;rcpt=bad*"]).greeted();
    let (replies, _) = table.say(&by_bdat(CONTENT, &["bad@x.test", "good@x.test"]));
    assert_eq!(replies.lines().map(|line| &line[..3]).collect::<Vec<_>>(), ["250", "550", "250", "250"]);
    assert_eq!(table.ledger().len(), 1);
}

#[test]
fn f_066_banner_and_ehlo_replies() {
    let mut banner = table(&["banner:reply 554 go away"]);
    banner.open();
    assert_eq!(banner.guest.out, b"554 go away\r\n");
    let mut ehlo = table(&["ehlo:reply 550 no"]);
    ehlo.open();
    assert_eq!(ehlo.say(b"EHLO x.test\r\n").0, "550 no\r\n");
    assert!(ehlo.say(b"MAIL FROM:<>\r\n").0.starts_with("503"), "the session never saw the EHLO");
}

#[test]
fn f_072_the_end_at_each_place() {
    for (action, end) in
        [("close", End::Close), ("reset", End::Reset), ("stall", End::Stall), ("halfclose", End::HalfClose)]
    {
        for (place, replies_before) in [("mail", 0), ("rcpt", 1), ("data", 2), ("eod", 3)] {
            let mut table = table(&[&format!("{place}:{action}")]).greeted();
            let (replies, last) = whole_way(&mut table);
            assert_eq!((replies.len(), last.end), (replies_before, end), "{place}:{action} {replies:?}");
            assert!(table.ledger().is_empty(), "{place}:{action}");
        }
    }
    let mut at_accept = table(&["accept:close"]);
    assert_eq!(at_accept.open().end, End::Close);
    assert!(at_accept.guest.out.is_empty());
}

#[test]
fn f_073_f_074_taken_and_dropped_at_the_end() {
    for (fault, flags, codes_said) in [
        ("eod:take+close", Some(FLAG_SILENT), "354"),
        ("bdat:take+close", None, "250"),
        ("eod:drop+close", None, "354"),
        ("eod:take+reply 451 later", Some(FLAG_REFUSED), "451"),
        ("eod:take+reply 554 no", Some(FLAG_REFUSED | FLAG_FOR_GOOD), "554"),
        ("eod:cut 2", Some(FLAG_SILENT), "25"),
    ] {
        let mut table = table(&[fault]).greeted();
        let (replies, last) = whole_way(&mut table);
        let ledger = table.ledger();
        if fault.starts_with("bdat") {
            assert_eq!((ledger.len(), last.end), (1, End::GoOn), "a dot is no chunk");
            continue;
        }
        assert_eq!(ledger.first().map(|entry| entry.flags), flags, "{fault}");
        assert!(replies.last().is_some_and(|reply| reply.starts_with(codes_said)), "{fault}: {replies:?}");
        assert_eq!(last.end == End::Close, !fault.contains("reply"), "{fault}");
    }
    let mut chunks = table(&["bdat:take+close"]).greeted();
    let (_, last) = chunks.say(&by_bdat(CONTENT, &["u1@x.test"]));
    assert_eq!((last.end, chunks.ledger()[0].flags), (End::Close, FLAG_SILENT));
}

#[test]
fn f_076_a_cut_reply_keeps_the_replies_before_it() {
    let mut table = table(&["eod:cut 2"]).greeted();
    let (said, last) = table.say(&by_bdat(CONTENT, &["u1@x.test"]));
    assert_eq!(said.lines().map(|line| line.len().min(3)).collect::<Vec<_>>(), [3, 3, 2]);
    assert!(said.ends_with("\r\n25"), "{said}");
    assert_eq!((last.end, &said[last.from..]), (End::Close, "25"));
}

#[test]
fn f_081_one_reply_too_many_for_a_whole_batch() {
    let mut table = table(&["any:extra"]).greeted();
    let (replies, _) = whole_way(&mut table);
    assert_eq!(codes(&replies), ["250", "250", "250", "250", "354", "250", "250", "250"]);
}

#[test]
fn f_081_a_reply_before_the_content_counts_as_the_one_behind_it() {
    let mut early = table(&["eod:early;first=1"]).greeted();
    let [envelope, data, body] = by_data(CONTENT, &["u1@x.test"]);
    early.say(&envelope);
    let (said, _) = early.say(&data);
    let replies: Vec<_> = said.split_inclusive("\r\n").map(str::to_owned).collect();
    assert_eq!(codes(&replies), ["354", "250"], "before an octet of the content");
    assert_eq!(early.say(&body).0, "", "and none behind it");
    assert_eq!(early.ledger().iter().map(|entry| entry.flags).collect::<Vec<_>>(), [FLAG_SILENT]);
    let (replies, _) = whole_way(&mut early);
    assert_eq!(codes(&replies), ["250", "250", "354", "250"], "it struck once");
}

#[test]
fn f_081_a_reply_before_its_command_counts_as_the_one_behind_it() {
    for (fault, at, early) in [("mail:early", 0, "250"), ("rcpt:early", 1, "250"), ("data:early", 2, "354")] {
        let mut table = table(&[&format!("{fault};first=1")]);
        table.open();
        let [envelope, data, body] = by_data(CONTENT, &["u1@x.test"]);
        let lines: Vec<&[u8]> = envelope.split_inclusive(|octet| *octet == b'\n').collect();
        let commands = [b"EHLO client.test\r\n", lines[0], lines[1], &data[..]];
        let said: Vec<Vec<String>> = commands.iter().map(|line| last_lines(&table.say(line).0)).collect();
        let mut wanted = [vec!["250"], vec!["250"], vec!["250"], vec!["354"]];
        wanted[at].push(early);
        wanted[at + 1].clear();
        assert_eq!(said, wanted, "{fault}");
        assert_eq!(last_lines(&table.say(&body).0), ["250"], "{fault}: the session goes on");
        assert_eq!(table.ledger().len(), 1);
    }
    let mut table = table(&["bdat:early;first=1"]).greeted();
    let (said, _) = table.say(&by_bdat(CONTENT, &["u1@x.test"]));
    assert_eq!(last_lines(&said), ["250"; 3], "none behind the content");
    assert_eq!(table.ledger().iter().map(|entry| entry.flags).collect::<Vec<_>>(), [FLAG_SILENT]);
}

/// The codes of the replies in this.
fn last_lines(said: &str) -> Vec<String> {
    let last = |line: &&str| line.as_bytes().get(3) == Some(&b' ');
    said.lines().filter(last).map(|line| line[..3].to_owned()).collect()
}

#[test]
fn f_085_delays_and_slow_writers_are_the_shells_to_keep() {
    let mut slow = table(&["mail:slowwrite 10", "mail:delay 2s"]).greeted();
    let (said, after) = slow.say(b"MAIL FROM:<>\r\nRCPT TO:<u1@x.test>\r\n");
    assert_eq!((after.wait, after.every, after.from), (Span::seconds(2), Span::millis(100), 0));
    assert_eq!(said.lines().count(), 1, "what follows waits");
    assert!(after.again);
}

#[test]
fn f_083_a_slow_reader_takes_little_at_a_time() {
    let mut table = table(&["body:slowread 100"]).greeted();
    let [envelope, data, body] = by_data(&"x: y\r\n".repeat(50), &["u1@x.test"]);
    table.say(&envelope);
    table.say(&data);
    let now = table.at;
    let (consumed, after) = table.guest.see(&body, &table.desk, &|| now);
    assert_eq!((consumed, after.wait, after.again), (10, SLOW_READ_EVERY, true));
}

#[test]
fn a_paused_sink_takes_nothing() {
    let mut table = table(&[]).greeted();
    table.desk.paused_until.set(Tick(2_000_000));
    let now = table.at;
    assert_eq!(table.guest.see(b"NOOP\r\n", &table.desk, &|| now).0, 0);
    table.at = Tick(2_000_000);
    assert_eq!(table.say(b"NOOP\r\n").0.get(..3), Some("250"));
    let mut struck = self::table(&["mail:pause 2s"]).greeted();
    assert_eq!(struck.say(b"MAIL FROM:<>\r\n").1.pause, Span::seconds(2));
}

#[test]
fn lmtp_answers_once_for_each_recipient() {
    for (faults, code) in [(&[][..], "250"), (&["eod:reply 451 later"], "451")] {
        let mut table = table_of(faults, |options| options.dialect = Dialect::Lmtp);
        table.open();
        table.say(b"LHLO client.test\r\n");
        let to = ["u1@x.test", "u2@x.test"];
        let parts = by_data(CONTENT, &to);
        table.say(&parts[0]);
        table.say(&parts[1]);
        let (replies, _) = table.say(&parts[2]);
        assert_eq!(replies.lines().map(|line| &line[..3]).collect::<Vec<_>>(), [code, code]);
        assert_eq!(table.ledger().len(), if faults.is_empty() { 2 } else { 0 });
    }
}

#[test]
fn idle_strikes_behind_the_reply() {
    let mut table = table(&["idle:reply 421 4.3.2 enough"]).greeted();
    let (replies, last) = whole_way(&mut table);
    assert_eq!(replies.last().map(String::as_str), Some("421 4.3.2 enough\r\n"));
    assert_eq!((last.end, table.ledger().len()), (End::Close, 1));
}
