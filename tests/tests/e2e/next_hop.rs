//! A next hop that misbehaves: what was acknowledged is delivered as soon as it stops, once, unless the outcome was
//! unknown (F-060 to F-089). Every misbehaviour at every step is in `matrix`; here is what needs more than that.

mod matrix;
mod slow;

use loadgen::ledger::{Delivery, FLAG_DIFFERS, FLAG_REFUSED};
use loadgen::sink::{RunningSink, SinkOptions, start};
use loadgen::stamp::{Stamp, crc32c};
use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tests::peers::free_address;
use tests::server::{Server, Told, waits};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

const RUN: u32 = 7;
const MESSAGES: u64 = 6;
const IN_FLIGHT_MAX: u64 = 8;
/// What most of these messages hold.
const CONTENT: &[u8] = b"Subject: through trouble\r\n\r\n.\r\nhello\r\n";

/// A far end with these faults from the start.
fn sink(faults: &[&str], chunking: bool) -> RunningSink {
    let faults = faults.iter().map(|text| text.parse().unwrap_or_else(|error| panic!("{error}"))).collect();
    start(SinkOptions { faults, chunking, ..SinkOptions::default() }).expect("a sink")
}

/// Waits that end within a test, and a bounded number in flight.
fn impatient(hosts: Vec<SocketAddr>) -> Told {
    waiting(hosts, "400ms")
}

/// All waits the same, and a bounded number in flight.
fn waiting(hosts: Vec<SocketAddr>, wait: &str) -> Told {
    let bounds = format!("connections_per_hop_max = 1\nin_flight_max = {IN_FLIGHT_MAX}");
    Told::relaying_to_any(hosts).with("delivery", waits(wait)).with("delivery", bounds)
}

/// The same; reports to the senders of what fails go to another next hop.
fn reporting(hosts: Vec<SocketAddr>) -> Told {
    impatient(hosts).with_senders_at(Sink::start(Offers { chunking: true }).address())
}

/// Sends numbered messages, each to `recipients` people.
fn send(hub: &Server, messages: u64, recipients: usize, content: &[u8]) {
    send_from(hub, 0..messages, recipients, content);
}

/// The same with these numbers.
fn send_from(hub: &Server, numbers: std::ops::Range<u64>, recipients: usize, content: &[u8]) {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let names: Vec<String> = (0..recipients).map(|at| format!("r{at}@b.test")).collect();
    let to: Vec<&str> = names.iter().map(String::as_str).collect();
    for seq in numbers {
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

/// Two of three hosts refuse connections. Once they are known dead, connections to them are attempted as time goes by and
/// never because a message came: where the time between two attempts is an hour, there is none.
#[test]
fn f_060_a_refusing_host_costs_new_mail_nothing() {
    let sink = sink(&[], true);
    let hosts = vec![free_address(), sink.listen[0], free_address()];
    let patient = "host_backoff_min = \"1h\"\nhost_backoff_max = \"1h\"\nmessages_per_connection_max = 2";
    let mut hub = Server::started(impatient(hosts).with("delivery", patient));
    let mut sent = 0;
    let mut all_there = |what: &str, more: u64| {
        send_from(&hub, sent..sent + more, 1, b"Subject: around a dead host\r\n\r\nhello\r\n");
        sent += more;
        until(what, || (pairs(&sink.handle().ledger().0).len() as u64 == sent).then_some(()));
    };
    until("both of them to be known dead", || {
        all_there("what finds them out", 1);
        (dead_hosts(&hub.status()) == 2).then_some(())
    });
    let tried = hub.counter("connect_failures");
    assert!(tried >= 2, "{tried}");
    all_there("everything at the host that lives", 100);
    assert_eq!(dead_hosts(&hub.status()), 2);
    assert_eq!(hub.counter("connect_failures"), tried, "a hundred messages ask no dead host");
    hub.stop();
    let taken: u64 = pairs(&sink.stop().expect("a ledger").ledger).values().sum();
    assert_eq!(taken, sent);
}

/// Hosts of the one queue that are known dead.
fn dead_hosts(status: &serde_json::Value) -> usize {
    let hosts = status["queues"][0]["hosts"].as_array().expect("hosts");
    hosts.iter().filter(|host| host["health"] == "dead").count()
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

/// 421 in the middle of 64 transactions under way: what stood before it is done, what stood behind it is sent again, and
/// nothing comes twice, since no outcome is unknown.
#[test]
fn f_064_421_to_one_of_64_under_way_leaves_the_others_unharmed() {
    for step in ["mail", "rcpt", "bdat"] {
        for before in [1, 31, 63] {
            let fault = format!("{step}:reply 421 4.3.2 not now;after={before};first=1");
            let sink = sink(&[&fault], true);
            let mut hub = Server::started(Told::relaying_to(free_address()).with("delivery", waits("400ms")));
            send(&hub, 64, 1, CONTENT);
            hub.stop();
            let bounds = "connections_per_hop_max = 1\nin_flight_max = 64";
            let told = Told::relaying_to(sink.listen[0]).with("delivery", waits("400ms"));
            hub.tell(|was| *was = told.with("delivery", bounds.to_owned()));
            hub.start();
            outcomes(&hub, &fault, 64, 0);
            assert_eq!(hub.counter("sessions_refused_out"), 1, "{fault}");
            hub.stop();
            let pairs = pairs(&sink.stop().expect("a ledger").ledger);
            let came: Vec<(u64, u64)> = pairs.into_iter().map(|((seq, _), count)| (seq, count)).collect();
            assert_eq!(came, (0..64).map(|seq| (seq, 1)).collect::<Vec<_>>(), "{fault}");
        }
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
    until("the loop to be counted", || (hub.counter("loops_out") > 0).then_some(()));
    hub.stop();
}

/// Waits until so many recipients were delivered at the next hop `far` and so many failed for good.
fn outcomes(hub: &Server, what: &str, delivered: u64, failed: u64) {
    until(&format!("every outcome of `{what}`"), || {
        let status = hub.status();
        let sum = |key: &str| -> u64 {
            let queues = status["queues"].as_array().expect("queues");
            queues.iter().filter(|queue| queue["next_hop"] == "far").filter_map(|queue| queue[key].as_u64()).sum()
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
            let mut told = reporting(vec![sink.listen[0]]);
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
        let mut hub = Server::started(reporting(vec![sink.listen[0]]));
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
    let mut hub = Server::started(reporting(vec![sink.listen[0]]));
    send(&hub, MESSAGES, 2, b"Subject: to nobody\r\n\r\nhello\r\n");
    outcomes(&hub, "nobody", 0, 2 * MESSAGES);
    hub.stop();
    assert!(pairs(&sink.stop().expect("a ledger").ledger).is_empty());
}

#[test]
fn f_073_a_message_taken_without_a_reply_is_an_unknown_outcome_and_comes_again() {
    let sink = sink(&["eod:take+close;first=1"], false);
    let mut hub = Server::started(waiting(vec![sink.listen[0]], "30s"));
    send(&hub, MESSAGES, 2, CONTENT);
    until("every outcome", || (hub.status()["queues"][0]["delivered"].as_u64() == Some(2 * MESSAGES)).then_some(()));
    assert_eq!(hub.status()["counters"]["outcomes_unknown"], 1);
    hub.stop();
    let pairs = pairs(&sink.stop().expect("a ledger").ledger);
    let twice: Vec<u64> = pairs.iter().filter(|(_, count)| **count == 2).map(|((seq, _), _)| *seq).collect();
    assert_eq!(twice.len(), 2, "one message to two people: {twice:?}");
    assert_eq!((twice[0], pairs.len() as u64), (twice[1], 2 * MESSAGES));
}

/// The replies to a batch arrive in one segment, and the connection ends in the middle of the third message's.
#[test]
fn f_076_f_193_of_replies_in_one_segment_the_whole_ones_count_and_the_rest_is_unknown() {
    let sink = Sink::start(Offers { chunking: true });
    let gate = sink.hold_and_cut(5, 3);
    let mut hub = Server::started(waiting(vec![sink.address()], "30s"));
    send(&hub, 5, 1, CONTENT);
    // Everything waits for the greeting, so that it leaves in one batch.
    until("the queue", || (hub.queued() == 5).then_some(()));
    gate.send(()).expect("a connection waits at the gate");
    until("every outcome", || (hub.status()["queues"][0]["delivered"].as_u64() == Some(5)).then_some(()));
    assert_eq!(hub.status()["counters"]["outcomes_unknown"], 3);
    hub.stop();
    let count = |seq: u64| {
        let is = |from: &str| {
            Stamp::parse(from.split('@').next().unwrap_or_default().as_bytes()).is_some_and(|it| it.seq == seq)
        };
        sink.taken().iter().filter(|one| is(&one.from)).count()
    };
    assert_eq!((0..5).map(count).collect::<Vec<_>>(), [1, 1, 2, 2, 2]);
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
fn f_086_extensions_that_come_and_go_are_used_by_the_session_that_offered_them() {
    let sink = Sink::start(Offers { chunking: true });
    sink.alternate();
    let mut told = waiting(vec![sink.address()], "30s");
    told.more.push(("delivery", "messages_per_connection_max = 1".to_owned()));
    let mut hub = Server::started(told);
    send(&hub, 8, 2, CONTENT);
    let taken = sink.wait_for(8);
    hub.stop();
    assert_eq!((taken.len(), sink.taken().len()), (8, 8));
    assert_eq!(sink.violations(), 0, "nothing is used that the session did not offer");
    let by_chunks = taken.iter().filter(|one| one.by_chunks).count();
    assert_eq!(by_chunks, 4, "every other connection offers it, and it is used there");
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

/// Accepts for two domains, starts again without a route for one of them, and takes more for it from a trusted front end,
/// which cannot take a recipient back; then a reload names the route.
#[test]
fn i_9_what_no_route_leads_to_waits_for_one_over_restarts_and_never_fails() {
    let (one, two) = (sink(&[], true), sink(&[], true));
    let told = impatient(vec![free_address()]).with("access", "trusted_front_ends = [\"127.0.0.9\"]");
    let mut hub = Server::started(told);
    let unreachable = |hub: &Server| {
        let queues = hub.status()["queues"].clone();
        let queue =
            queues.as_array().and_then(|all| all.iter().find(|one| one["delivery_type"] == "Unreachable").cloned());
        queue.map(|queue| (queue["waiting"].as_u64().unwrap_or(0), queue["status"].clone()))
    };
    let envelope = |seq: u64| {
        let (mut from, bytes) = (String::new(), u64::try_from(CONTENT.len()).expect("a length"));
        Stamp { run: RUN, seq, bytes, crc32c: crc32c(CONTENT), ends_with_crlf: true }.write(&mut from);
        format!("{from}@a.test")
    };
    let send = |hub: &Server, seqs: std::ops::Range<u64>| {
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        for seq in seqs {
            let reply = talk.send(&envelope(seq), &["r0@one.test", "r1@two.test"], CONTENT).expect("a reply");
            assert!(reply.is_positive(), "{reply:?}");
        }
    };
    send(&hub, 0..10);
    hub.stop();
    hub.tell(|told| {
        told.relay_to(one.listen[0]);
        told.routed = "one.test";
    });
    hub.start();
    until("those with a route", || (pairs(&one.handle().ledger().0).len() == 10).then_some(()));
    until("the others to wait", || (unreachable(&hub)?.0 == 10).then_some(()));
    // A client of our own is told at RCPT, a front end's is not.
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    assert!(talk.say("MAIL FROM:<>").expect("a reply").is_positive());
    assert_eq!(talk.say("RCPT TO:<r1@two.test>").expect("a reply").code, 451);
    let front_end = "127.0.0.9".parse().expect("an address");
    let mut talk = Talk::connect_from(front_end, hub.address()).and_then(Talk::greeted).expect("a greeting");
    let mail = format!("MAIL FROM:<{}> XADDR=127.0.0.1 XPROTO=ESMTP", envelope(10));
    assert!(talk.say(&mail).expect("a reply").is_positive());
    for to in ["r0@one.test", "r1@two.test"] {
        assert!(talk.say(&format!("RCPT TO:<{to}>")).expect("a reply").is_positive());
    }
    assert!(talk.data(CONTENT).expect("a reply").is_positive());
    until("the rest of it to wait", || (unreachable(&hub)? == (11, "Ready".into())).then_some(()));
    assert_eq!(hub.status()["dsn_owed"].as_u64(), Some(0), "nobody has failed");
    hub.tell(|told| {
        told.more.push(("next_hop.two", format!("hosts = [\"{}\"]", two.listen[0])));
        told.more.push(("routes", "\"two.test\" = \"two\"".to_owned()));
    });
    hub.reload();
    until("everything by the new routes", || {
        let counts = [&one, &two].map(|sink| pairs(&sink.handle().ledger().0).len());
        (counts == [11, 11]).then_some(())
    });
    hub.stop();
    for sink in [one, two] {
        assert!(pairs(&sink.stop().expect("a ledger").ledger).values().all(|count| *count == 1));
    }
}

/// What the far end says is what an operator reads, without whose address it was about.
#[test]
fn x_206_the_last_error_of_a_queue_is_what_the_next_hop_said() {
    for (fault, said) in [
        ("rcpt:reply 450 4.2.1 <r0@b.test> is busy", "450 4.2.1 <address> is busy"),
        ("eod:reply 451 4.3.0 later", "451 4.3.0 later"),
        ("banner:reply 554 5.7.1 go away", "greeted with 554: 554 5.7.1 go away"),
        ("mail:reply 421 4.3.2 closing", "closed with 421: 421 4.3.2 closing"),
    ] {
        let far = sink(&[fault], true);
        let mut hub = Server::started(waiting(vec![far.listen[0]], "30s"));
        assert_eq!(hub.status()["queues"].as_array().map(Vec::len), Some(0), "made by its first message");
        send(&hub, 1, 1, CONTENT);
        let queue = until("an error", || {
            let queue = hub.status()["queues"][0].clone();
            queue["last_error"].is_string().then_some(queue)
        });
        assert_eq!(queue["last_error"].as_str(), Some(said), "{queue}");
        assert!(queue["last_error_ms"].is_u64() && queue["oldest_ms"].is_u64(), "{queue}");
        hub.stop();
        drop(far.stop());
    }
}

#[test]
fn an_empty_queue_is_gone_after_its_wait_and_its_counts_are_not() {
    let far = sink(&[], true);
    let mut hub = Server::started(impatient(vec![far.listen[0]]).with("delivery", "queue_idle_wait = \"5s\""));
    let queues = || hub.status()["queues"].as_array().expect("queues").clone();
    for delivered in [1, 2] {
        send(&hub, 1, 1, CONTENT);
        let is_delivered = || queues().first().filter(|queue| queue["delivered"] == delivered).cloned();
        let queue = until("it to be delivered", is_delivered);
        assert!(queue["oldest_ms"].is_null() && queue["outgoing_per_s"].is_f64(), "{queue}");
        until("the queue to be gone", || queues().is_empty().then_some(()));
    }
    hub.stop();
    drop(far.stop());
}

/// One of two recipients is put off all the time; a restart changes nothing, since what failed is on disk.
#[test]
fn m_097_given_up_is_durable_counted_and_shown() {
    let far = sink(&["rcpt:reply 450 4.2.0 not now;rcpt=r1@*"], true);
    let senders = Sink::start(Offers { chunking: true });
    let told = impatient(vec![far.listen[0]]).with_senders_at(senders.address());
    let mut hub = Server::started(told.with("delivery", "expire_after = \"5s\""));
    send(&hub, 1, 2, CONTENT);
    until("the first to be delivered", || (pairs(&far.handle().ledger().0).len() == 1).then_some(()));
    until("the second to be given up", || (hub.status()["dsn_owed"].as_u64() == Some(1)).then_some(()));
    assert!(senders.wait_for(1)[0].content.windows(15).any(|found| found == b"Status: 4.4.7\r\n"));
    outcomes(&hub, "its time", 1, 1);
    let status = until("nothing to be left", || Some(hub.status()).filter(|status| status["counters"]["queued"] == 0));
    assert_eq!(status["counters"]["recipients_expired"].as_u64(), Some(1), "{status}");
    hub.stop();
    hub.start();
    // Behind what an earlier run left.
    send(&hub, 1, 1, CONTENT);
    until("another", || (pairs(&far.handle().ledger().0).values().sum::<u64>() == 2).then_some(()));
    let status = hub.status();
    assert_eq!(status["counters"]["redelivered_after_restart"].as_u64(), Some(0), "{status}");
    assert_eq!(status["dsn_owed"].as_u64(), Some(0), "its sender has heard of it: {status}");
    hub.stop();
    assert_eq!(senders.taken().len(), 1);
    assert_eq!(pairs(&far.stop().expect("a ledger").ledger).len(), 1, "the first recipient alone");
}

/// The first of two hosts takes no 8-bit content. The cap of one connection makes the second shard lend what it keeps.
#[test]
fn m_091_m_175_what_one_host_cannot_take_goes_to_another_that_can() {
    for (shards, cap) in [(1, 1), (1, 20), (2, 1), (2, 20)] {
        let (plain, able) = (sink(&["ehlo:noext 8BITMIME"], true), sink(&[], true));
        let told = impatient(vec![plain.listen[0], able.listen[0]]);
        let told = Told {
            shards,
            more: vec![("delivery", waits("5s")), ("delivery", format!("connections_per_hop_max = {cap}"))],
            ..told
        };
        let mut hub = Server::started(told);
        for _ in 0..4 {
            // Each connection may meet another shard.
            send(&hub, MESSAGES, 2, "Subject: caf\u{e9}\r\n\r\nhello\r\n".as_bytes());
        }
        let wanted = usize::try_from(MESSAGES * 2 * 4).expect("few");
        until("all of it", || (able.handle().ledger().0.len() >= wanted).then_some(()));
        assert_eq!(hub.status()["dsn_owed"].as_u64(), Some(0), "{shards} shards, cap {cap}");
        hub.stop();
        assert!(pairs(&able.stop().expect("a ledger").ledger).values().all(|count| *count == 4));
        assert!(plain.stop().expect("a ledger").ledger.is_empty());
    }
}

/// What an operator looks for in the log: which host died and came back, and that mail failed for good, of whose record.
#[test]
fn a_host_that_dies_and_mail_that_fails_are_in_the_log() {
    let at = free_address();
    let mut hub = Server::started(impatient(vec![at]));
    send(&hub, 1, 1, CONTENT);
    let mut until_said = |what: &str| {
        let line = until(what, || hub.process().said().into_iter().find(|line| line.contains(what)));
        assert!(line.contains(&at.to_string()), "{line}");
        line
    };
    until_said("a host is dead: it is looked for");
    let faults = vec!["rcpt:reply 550 5.1.1 <r0@b.test> unknown".parse().expect("a fault")];
    let _sink = start(SinkOptions { listen: vec![at], faults, ..SinkOptions::default() }).expect("a sink");
    until_said("a host is dead no more");
    let line = until_said("recipients failed for good");
    assert!(line.contains("code=550") && line.contains("recipients=1") && !line.contains("r0@"), "{line}");
    hub.stop();
}
