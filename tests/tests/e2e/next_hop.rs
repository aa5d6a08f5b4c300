//! A next hop that misbehaves, at every step: what was acknowledged is delivered as soon as it stops, once, unless the
//! outcome was unknown (F-060 to F-089).

use loadgen::ledger::{Delivery, FLAG_DIFFERS, FLAG_REFUSED};
use loadgen::sink::{RunningSink, SinkOptions, start};
use loadgen::stamp::{Stamp, crc32c};
use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tests::peers::free_address;
use tests::server::{Server, Told, waits};
use tests::talk::Talk;
use tests::wait::until;

const RUN: u32 = 7;
const MESSAGES: u64 = 6;
const IN_FLIGHT_MAX: u64 = 8;
/// Pairs whose outcome one broken connection may leave unknown: two recipients to a message.
const UNKNOWN_MAX: u64 = 2 * IN_FLIGHT_MAX;

/// A far end with these faults from the start.
fn sink(faults: &[&str], chunking: bool) -> RunningSink {
    let faults = faults.iter().map(|text| text.parse().unwrap_or_else(|error| panic!("{error}"))).collect();
    start(SinkOptions { faults, chunking, ..SinkOptions::default() }).expect("a sink")
}

/// Waits that end within a test, and a bounded number in flight.
fn impatient(hosts: Vec<SocketAddr>) -> Told {
    let bounds = format!("connections_per_hop_max = 1\nin_flight_max = {IN_FLIGHT_MAX}");
    Told::relaying_to_any(hosts).with("delivery", waits("400ms")).with("delivery", bounds)
}

/// Sends numbered messages, each to `recipients` people.
fn send(hub: &Server, messages: u64, recipients: usize, content: &[u8]) {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let names: Vec<String> = (0..recipients).map(|at| format!("r{at}@b.test")).collect();
    let to: Vec<&str> = names.iter().map(String::as_str).collect();
    for seq in 0..messages {
        let bytes = u64::try_from(content.len()).expect("a length");
        let mut from = String::new();
        Stamp { run: RUN, seq, bytes, crc32c: crc32c(content), ends_with_crlf: true }.write(&mut from);
        let reply = talk.send(&format!("{from}@a.test"), &to, content).expect("a reply");
        assert!(reply.is_positive(), "{reply:?}");
    }
}

/// How often each (message, recipient) was taken, refused ones left out.
fn pairs(ledger: &[Delivery]) -> BTreeMap<(u64, u32), u64> {
    let mut pairs = BTreeMap::new();
    for one in ledger.iter().filter(|one| one.flags & FLAG_REFUSED == 0) {
        assert_eq!(one.run, RUN, "nothing comes that nobody sent");
        assert_eq!(one.flags & FLAG_DIFFERS, 0, "I-4: message {} came changed", one.seq);
        *pairs.entry((one.seq, one.recipient)).or_insert(0) += 1;
    }
    pairs
}

/// One fault, mail through it, and everything there afterwards with at most `extra` copies too many.
fn is_survived(fault: &str, chunking: bool, extra: u64) {
    let sink = sink(&[fault], chunking);
    let mut hub = Server::started(impatient(vec![sink.listen[0]]));
    send(&hub, MESSAGES, 2, b"Subject: through trouble\r\n\r\n.\r\nhello\r\n");
    let wanted = usize::try_from(MESSAGES * 2).expect("few");
    let all_there = until(&format!("everything to come through `{fault}`"), || {
        let found = pairs(&sink.handle().ledger().0);
        (found.len() >= wanted).then_some(found)
    });
    assert_eq!(all_there.len(), wanted, "{fault}");
    // A drain ends with every outcome on record; whatever is sent twice has been sent by then.
    hub.stop();
    let taken: u64 = pairs(&sink.stop().expect("a ledger").ledger).values().sum();
    let copies = taken - MESSAGES * 2;
    assert!(copies <= extra, "`{fault}`, chunking {chunking}: {copies} copies too many, {extra} are explained");
}

/// By BDAT and by DATA. A fault that ends a session leaves the outcome of every other pipelined transaction unknown (W5).
fn are_survived(faults: &[&str], extra: u64) {
    for fault in faults {
        is_survived(fault, true, extra.max(UNKNOWN_MAX));
        is_survived(fault, false, extra);
    }
}

/// Places where a transaction can be struck before its outcome is in doubt.
const EARLY: &[&str] = &["ehlo", "mail", "rcpt"];

fn at_each(places: &[&str], action: &str) -> Vec<String> {
    places.iter().map(|place| format!("{place}:{action};first=1")).collect()
}

fn each_is_survived(places: &[&str], action: &str, extra: u64) {
    let faults = at_each(places, action);
    are_survived(&faults.iter().map(String::as_str).collect::<Vec<_>>(), extra);
}

#[test]
fn f_060_a_refusing_host_costs_new_mail_nothing() {
    let sink = sink(&[], true);
    let mut hub = Server::started(impatient(vec![free_address(), sink.listen[0], free_address()]));
    send(&hub, 50, 1, b"Subject: around a dead host\r\n\r\nhello\r\n");
    until("everything at the host that lives", || (pairs(&sink.handle().ledger().0).len() == 50).then_some(()));
    hub.stop();
    let taken: u64 = pairs(&sink.stop().expect("a ledger").ledger).values().sum();
    assert_eq!(taken, 50);
}

#[test]
fn f_062_a_silent_greeting_ends_by_its_timer() {
    are_survived(&["banner:stall;first=1"], 0);
}

#[test]
fn f_063_silence_at_any_step_ends_by_its_timer() {
    each_is_survived(EARLY, "stall", 0);
    are_survived(&["body:stall;first=1", "quit:stall"], 0);
    are_survived(&["eod:stall;first=1"], UNKNOWN_MAX);
}

#[test]
fn f_064_421_at_any_step_puts_off_and_closes() {
    each_is_survived(&["banner", "ehlo", "mail", "rcpt", "eod"], "reply 421 4.3.2 not now", 0);
    is_survived("data:reply 421 4.3.2 not now;first=1", false, 0);
}

#[test]
fn f_065_4yz_at_any_step_is_tried_again() {
    each_is_survived(&["banner", "ehlo", "mail", "rcpt", "eod"], "reply 451 4.3.0 later", 0);
    is_survived("data:reply 451 4.3.0 later;first=1", false, 0);
}

/// Every host of the next hop refuses everybody, for good as it says: mail waits, and nothing is returned (F-066).
#[test]
fn f_066_5yz_of_every_host_at_greeting_or_ehlo_puts_the_queue_off_and_fails_nobody() {
    for fault in
        ["banner:reply 554 5.3.2 no mail here", "banner:reply 521 no mail here", "ehlo:reply 550 5.7.1 go away"]
    {
        let fault = format!("{fault};first=3");
        let sinks = [sink(&[&fault], true), sink(&[&fault], true)];
        let mut hub = Server::started(impatient(sinks.iter().map(|sink| sink.listen[0]).collect()));
        send(&hub, MESSAGES, 2, b"Subject: refused by the host\r\n\r\nhello\r\n");
        outcomes(&hub, &fault, 2 * MESSAGES, 0);
        hub.stop();
        let taken = sinks.into_iter().map(|sink| pairs(&sink.stop().expect("a ledger").ledger).values().sum::<u64>());
        assert_eq!(taken.sum::<u64>(), 2 * MESSAGES, "{fault}");
    }
}

/// A next hop that is ourselves, seen through somebody who passes connections on, is left with the greeting (M-081).
#[test]
fn m_081_a_hub_that_meets_itself_sends_nothing() {
    let passage = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut hub = Server::started(impatient(vec![passage.local_addr().expect("bound")]));
    let to = hub.address();
    std::thread::spawn(move || {
        for stream in passage.incoming() {
            let (Ok(here), Ok(there)) = (stream, TcpStream::connect(to)) else { return };
            for (mut from, mut into) in [(here.try_clone(), there.try_clone()), (Ok(there), Ok(here))]
                .map(|(from, into)| (from.expect("a stream"), into.expect("a stream")))
            {
                std::thread::spawn(move || {
                    // Either end may go first.
                    let _ended = std::io::copy(&mut from, &mut into);
                    let _closed = into.shutdown(Shutdown::Both);
                });
            }
        }
    });
    send(&hub, 1, 1, b"Subject: round and round\r\n\r\nhello\r\n");
    until("the loop to be seen", || hub.status().to_string().contains("is ourselves").then_some(()));
    let counters = hub.status()["counters"].clone();
    assert_eq!(
        (counters["messages_accepted"].as_u64(), counters["attempts"].as_u64()),
        (Some(1), Some(0)),
        "{counters}"
    );
    hub.stop();
}

/// Waits until so many recipients were delivered and so many failed for good.
fn outcomes(hub: &Server, what: &str, delivered: u64, failed: u64) {
    until(&format!("every outcome of `{what}`"), || {
        let status = hub.status();
        let sum = |key: &str| -> u64 {
            let queues = status["queues"].as_array().expect("queues");
            queues.iter().filter_map(|queue| queue[key].as_u64()).sum()
        };
        (sum("failed") == failed && sum("delivered") == delivered).then_some(())
    });
}

/// What a host cannot take is sent to nobody, unless its next hop is told to send it all the same (M-054, M-175).
#[test]
fn m_054_m_175_what_a_host_cannot_take_fails_unless_its_next_hop_says_otherwise() {
    let eight_bit = b"Subject: gr\xc3\xbc\xc3\x9fe\r\n\r\nhello\r\n".to_vec();
    let long = [b"Subject: long\r\n\r\n".as_slice(), &[b'x'; 1_500], b"\r\n"].concat();
    for (content, key) in [(eight_bit, "send_eight_bit"), (long, "long_lines")] {
        for (sent, delivered) in [(false, 0), (true, 1)] {
            let sink = sink(&["ehlo:noext 8BITMIME"], false);
            let mut told = impatient(vec![sink.listen[0]]);
            told.more.push(("next_hop.far", format!("{key} = {sent}")));
            let mut hub = Server::started(told);
            send(&hub, 1, 1, &content);
            outcomes(&hub, key, delivered, 1 - delivered);
            // It was the message's failure, not the host's.
            let plain = b"Subject: plain\r\n\r\nhello\r\n";
            let reply =
                Talk::hello(hub.address()).expect("a greeting").send("", &["b@b.test"], plain).expect("a reply");
            assert!(reply.is_positive(), "{reply:?}");
            outcomes(&hub, key, delivered + 1, 1 - delivered);
            hub.stop();
            let taken = sink.stop().expect("a ledger").ledger;
            assert_eq!(
                taken.iter().filter(|one| one.run == RUN && one.flags & FLAG_DIFFERS == 0).count() as u64,
                delivered
            );
        }
    }
}

#[test]
fn f_067_f_068_f_069_5yz_is_final_and_on_record() {
    for (fault, delivered) in
        [("mail:reply 550 5.7.1 no", 0), ("rcpt:reply 550 5.1.1 no;every=2", MESSAGES), ("eod:reply 554 5.6.0 no", 0)]
    {
        let sink = sink(&[fault], true);
        let mut hub = Server::started(impatient(vec![sink.listen[0]]));
        send(&hub, MESSAGES, 2, b"Subject: refused\r\n\r\nhello\r\n");
        outcomes(&hub, fault, delivered, 2 * MESSAGES - delivered);
        // On record: the next life does not try again.
        hub.stop();
        hub.start();
        hub.stop();
        let taken: u64 = pairs(&sink.stop().expect("a ledger").ledger).values().sum();
        assert_eq!(taken, delivered, "{fault}");
    }
}

#[test]
fn f_070_a_354_after_every_recipient_was_refused_delivers_nothing() {
    let sink = sink(&["rcpt:reply 550 5.1.1 no", "data:reply 354 go on"], false);
    let mut hub = Server::started(impatient(vec![sink.listen[0]]));
    send(&hub, MESSAGES, 2, b"Subject: to nobody\r\n\r\nhello\r\n");
    until("every recipient to fail", || {
        (hub.status()["queues"][0]["failed"].as_u64() == Some(2 * MESSAGES)).then_some(())
    });
    hub.stop();
    assert!(pairs(&sink.stop().expect("a ledger").ledger).is_empty());
}

#[test]
fn f_071_a_reply_of_another_class_closes_and_is_tried_again() {
    are_survived(&["mail:reply 354 what;first=1", "rcpt:reply 354 what;first=1", "ehlo:reply 354 what;first=1"], 0);
    is_survived("data:reply 250 what;first=1", false, 0);
}

#[test]
fn f_072_a_connection_that_ends_anywhere_is_tried_again() {
    for action in ["close", "reset"] {
        each_is_survived(&["accept", "banner", "ehlo", "mail", "rcpt", "body"], action, 0);
        is_survived(&format!("data:{action};first=1"), false, 0);
    }
}

#[test]
fn f_073_taken_and_closed_without_a_reply_may_come_again_within_bounds() {
    are_survived(&["eod:take+close;first=1"], UNKNOWN_MAX);
}

#[test]
fn f_074_dropped_and_closed_without_a_reply_comes_once() {
    are_survived(&["eod:drop+close;first=1"], 0);
}

#[test]
fn f_076_f_193_a_reply_cut_in_the_middle_is_no_reply() {
    are_survived(&["eod:cut 2;first=1", "eod:cut 3;first=1", "eod:cut 9;first=1"], UNKNOWN_MAX);
}

#[test]
fn f_077_replies_in_single_octets_are_read_the_same() {
    are_survived(&["any:split"], 0);
}

#[test]
fn f_078_endless_replies_are_cut_off_and_memory_stays_flat() {
    are_survived(&["ehlo:long 10000000;first=1", "mail:multiline 1000000;first=1"], 0);
}

#[test]
fn f_079_bare_line_feeds_end_reply_lines() {
    are_survived(&["any:lf"], 0);
}

#[test]
fn f_079_bare_line_feeds_are_counted() {
    let sink = sink(&["any:lf"], true);
    let mut hub = Server::started(impatient(vec![sink.listen[0]]));
    send(&hub, 1, 1, b"Subject: counted\r\n\r\nhello\r\n");
    // Greeting, EHLO, MAIL, RCPT and BDAT.
    until("lines to be counted", || {
        (hub.status()["counters"]["bare_lf_reply_lines"].as_u64() >= Some(5)).then_some(())
    });
    hub.stop();
}

#[test]
fn f_080_replies_that_are_none_close_and_are_tried_again() {
    for action in ["twodigits", "mixedcodes", "garbage 100", "reply 000 what", "reply 999 what"] {
        each_is_survived(&["banner", "ehlo", "mail", "rcpt"], action, 0);
    }
}

#[test]
fn f_081_a_reply_too_many_is_noticed() {
    each_is_survived(&["ehlo", "mail", "rcpt"], "extra", UNKNOWN_MAX);
}

#[test]
fn f_083_f_085_slow_peers_end_by_their_timers() {
    are_survived(&["any:slowwrite 1;first=1"], 0);
    let sink = sink(&["body:slowread 100;first=1"], true);
    let mut told = impatient(vec![sink.listen[0]]);
    told.more.push(("spool", "segment_size = \"64 MiB\"".to_owned()));
    let mut hub = Server::started(told);
    let large =
        [b"Subject: large\r\n\r\n".as_slice(), &b"0123456789abcdef0123456789abcdef\r\n".repeat(300_000)].concat();
    send(&hub, 1, 1, &large);
    until("a large message past a slow reader", || (pairs(&sink.handle().ledger().0).len() == 1).then_some(()));
    hub.stop();
}

#[test]
fn f_086_extensions_that_come_and_go_are_used_by_the_session_that_offered_them() {
    are_survived(&["ehlo:noext PIPELINING;every=2", "ehlo:noext CHUNKING;every=2", "ehlo:noext 8BITMIME;every=2"], 0);
}

#[test]
fn f_089_the_rest_of_too_many_recipients_follows_at_once() {
    let sink = sink(&["rcpt:reply 452 4.5.3 too many;every=11"], true);
    let mut hub = Server::started(impatient(vec![sink.listen[0]]));
    send(&hub, MESSAGES, 25, b"Subject: to many\r\n\r\nhello\r\n");
    let wanted = usize::try_from(MESSAGES * 25).expect("few");
    until("every recipient", || (pairs(&sink.handle().ledger().0).len() == wanted).then_some(()));
    hub.stop();
    assert!(pairs(&sink.stop().expect("a ledger").ledger).values().all(|count| *count == 1));
}

#[test]
fn i_5_trouble_with_one_host_does_not_stop_the_others() {
    let good = sink(&[], true);
    let bad = sink(&["mail:stall"], true);
    let told = impatient(vec![good.listen[0]]);
    let routes = format!("hosts = [\"{}\"]", bad.listen[0]);
    let more =
        [told.more.clone(), vec![("next_hop.bad", routes), ("routes", "\"bad.test\" = \"bad\"".to_owned())]].concat();
    let mut hub = Server::started(Told { more, ..told });
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    for at in 0..40 {
        let reply = talk.send("", &[&format!("x{at}@bad.test")], b"Subject: stuck\r\n\r\nhello\r\n").expect("a reply");
        assert!(reply.is_positive(), "{reply:?}");
    }
    let began = Instant::now();
    send(&hub, MESSAGES, 2, b"Subject: free\r\n\r\nhello\r\n");
    let wanted = usize::try_from(MESSAGES * 2).expect("few");
    until("the others' mail", || (pairs(&good.handle().ledger().0).len() == wanted).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(5), "the others wait for nobody");
    hub.kill();
}

/// Queues messages for a next hop that refuses everybody, to two domains each; then a reload names other next hops.
#[test]
fn after_a_reload_what_waits_goes_where_its_route_leads_now() {
    let (one, two) = (sink(&[], true), sink(&[], true));
    let dead = impatient(vec![free_address()]);
    let mut hub = Server::started(dead.clone());
    let content = b"Subject: another way\r\n\r\nhello\r\n";
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    for seq in 0..40 {
        let (mut from, bytes) = (String::new(), u64::try_from(content.len()).expect("a length"));
        Stamp { run: RUN, seq, bytes, crc32c: crc32c(content), ends_with_crlf: true }.write(&mut from);
        let to: &[&str] = if seq % 2 == 0 { &["r0@one.test", "r1@two.test"] } else { &["r0@one.test"] };
        let reply = talk.send(&format!("{from}@a.test"), to, content).expect("a reply");
        assert!(reply.is_positive(), "{reply:?}");
    }
    hub.tell(|told| {
        let hops = [("next_hop.one", one.listen[0]), ("next_hop.two", two.listen[0])];
        told.hop = "elsewhere";
        told.more.extend(hops.map(|(name, at)| (name, format!("hosts = [\"{at}\"]"))));
        told.more.push(("routes", "\"one.test\" = \"one\"\n\"two.test\" = \"two\"".to_owned()));
    });
    hub.reload();
    until("everything by the new routes", || {
        let counts = [&one, &two].map(|sink| pairs(&sink.handle().ledger().0).len());
        (counts == [40, 20]).then_some(())
    });
    assert!(hub.status()["counters"]["messages_rerouted"].as_u64() >= Some(40));
    hub.stop();
    for sink in [one, two] {
        assert!(pairs(&sink.stop().expect("a ledger").ledger).values().all(|count| *count == 1));
    }
}
