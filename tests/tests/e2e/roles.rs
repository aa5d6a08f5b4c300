//! Front ends and mailbox delivery as processes: what their clients are told, and what comes out behind them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use tests::peers::trace_before;
use tests::server::{Dialect, Role, Server, Told};
use tests::sink::{Offers, Sink, Taken};
use tests::talk::Talk;

const CONTENT: &[u8] = b"Subject: x\r\n\r\nbody\r\n";

/// Reads commands until the last chunk of a message was read; its octets are swallowed.
fn read_message(stream: &TcpStream) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    out.write_all(b"220 hub.test ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut words = line.split_ascii_whitespace();
        match words.next().unwrap_or_default() {
            "EHLO" => {
                out.write_all(b"250-hub.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250 XRINGPOST\r\n")?
            }
            "BDAT" => {
                let octets = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                std::io::copy(&mut reader.by_ref().take(octets), &mut std::io::sink())?;
                if words.next() == Some("LAST") {
                    return Ok(());
                }
                out.write_all(b"250 2.0.0 more\r\n")?;
            }
            _ => out.write_all(b"250 2.0.0 ok\r\n")?,
        }
    }
}

/// A hub that takes each message whole and is gone before it answers.
fn hub_that_vanishes() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // The front end may have looked whether we live, and gone again.
            let _ = read_message(&stream);
        }
    });
    at
}

/// Whether a hub that vanished has the message is not known: its client is told nothing, rather than something false.
#[test]
fn m_049_a_client_hears_nothing_when_its_hub_was_lost_behind_the_last_octet() {
    for body in [CONTENT.to_vec(), [CONTENT, &b"0123456789\r\n".repeat(20_000)].concat()] {
        let mut front = Server::started(Told::front_end_of(hub_that_vanishes()));
        let mut talk = Talk::hello(front.address()).expect("a greeting");
        let answer = talk.send("a@a.test", &["b@b.test"], &body);
        let answer = answer.map_err(|error| error.kind());
        assert_eq!(answer, Err(std::io::ErrorKind::UnexpectedEof), "{} octets", body.len());
        assert_eq!(front.status()["counters"]["outcomes_unknown"], 1);
        front.stop();
    }
}

/// A hub that does not know us refuses one of two recipients, who were both told 250: neither gets the message, and its client
/// is told so, with that hub's reply. What comes next over the same connection is not troubled by it.
#[test]
fn m_049_i_3_before_a_hub_that_refuses_one_recipient_a_message_is_refused_and_nobody_gets_it() {
    let large = [CONTENT, &b"0123456789\r\n".repeat(20_000)].concat();
    for (chunking, body) in [(true, CONTENT), (false, CONTENT), (true, &large)] {
        let sink = Sink::start(Offers { chunking });
        let mut front = Server::started(Told::front_end_of(sink.address()));
        let mut talk = Talk::hello(front.address()).expect("a greeting");
        for (round, refusal) in ["550 5.1.1 nobody here", "450 4.2.1 not now"].into_iter().enumerate() {
            sink.refuse("eve@b.test", refusal);
            let reply = talk.send("a@a.test", &["bob@b.test", "eve@b.test", "ann@b.test"], body).expect("a reply");
            let said = format!("{} {}", reply.code, reply.lines[0]);
            assert_eq!(said, refusal, "chunking {chunking}, {} octets", body.len());
            assert_eq!(sink.taken().len(), round, "chunking {chunking}, {} octets: nobody has it", body.len());
            let reply = talk.send("a@a.test", &["bob@b.test", "ann@b.test"], body).expect("a reply");
            assert!(reply.is_positive(), "{reply:?}");
            assert_eq!(sink.wait_for(round + 1)[round].to, ["bob@b.test", "ann@b.test"]);
        }
        assert_eq!(sink.taken().len(), 2, "nothing comes twice");
        let counters =
            ["messages_refused", "messages_deferred", "messages_accepted", "outcomes_unknown", "connections_made"];
        let counted = counters.map(|name| front.counter(name));
        assert_eq!(counted, [1, 1, 2, 0, 1], "chunking {chunking}, {} octets: {counters:?}", body.len());
        front.stop();
    }
}

/// Mailbox delivery, with ann's mailbox and one for everybody else at b.test, and the folder of its store.
fn delivery() -> (Server, tempfile::TempDir) {
    let store = tempfile::tempdir().expect("a folder");
    let role = Role::Mailboxes(Some(store.path().to_owned()), Dialect::Smtp);
    let told = Told { role, ..Told::default() }.with("mailboxes", "\"ann@b.test\" = \"ann\"\n\"*@b.test\" = \"rest\"");
    (Server::started(told), store)
}

/// Every message in a mailbox.
fn letters(store: &tempfile::TempDir, mailbox: &str) -> Vec<Vec<u8>> {
    let Ok(files) = std::fs::read_dir(store.path().join(mailbox).join("new")) else { return Vec::new() };
    files.map(|file| std::fs::read(file.expect("an entry").path()).expect("a message")).collect()
}

/// Content reaches a mailbox octet by octet, behind Return-Path, Delivered-To and Received.
#[test]
fn m_057_content_reaches_a_mailbox_byte_for_byte() {
    let (mut delivery, store) = delivery();
    let mut talk = Talk::hello(delivery.address()).expect("a greeting");
    for (at, mail) in tests::corpus::mails().iter().enumerate() {
        let sender = format!("{}@a.test", mail.name);
        let reply = talk.send(&sender, &["ann@b.test", "bob@b.test"], &mail.content).expect("a reply");
        assert!(reply.is_positive(), "{}: {reply:?}", mail.name);
        for (mailbox, recipient) in [("ann", "ann@b.test"), ("rest", "bob@b.test")] {
            let all = letters(&store, mailbox);
            assert_eq!(all.len(), at + 1);
            let front = format!("Return-Path: <{sender}>\r\nDelivered-To: {recipient}\r\nReceived: ");
            let letter = all.iter().find(|letter| letter.starts_with(front.as_bytes())).expect("this one");
            let trace = ["Return-Path", "Delivered-To", "Received"].map(str::to_owned);
            assert_eq!(trace_before(&mail.content, letter), Some(trace.to_vec()), "{} is changed", mail.name);
        }
    }
    delivery.stop();
}

/// The Return-Path in a mailbox is ours alone, whatever a message brought along, and however long its header is.
#[test]
fn m_079_final_delivery_replaces_return_paths() {
    let (mut delivery, store) = delivery();
    let mut talk = Talk::hello(delivery.address()).expect("a greeting");
    let long = "X-Filler: 0123456789012345678901234567890123456789\r\n".repeat(900);
    let body = b"\r\nReturn-Path: <body@a.test>\r\n";
    let theirs =
        format!("Return-Path: <old@a.test>\r\nSubject: x\r\n{long}return-path:\r\n <older@a.test>\r\nTo: y\r\n");
    let reply = talk.send("new@a.test", &["ann@b.test"], &[theirs.as_bytes(), body].concat()).expect("a reply");
    assert!(reply.is_positive(), "{reply:?}");
    let kept = [format!("Subject: x\r\n{long}To: y\r\n").as_bytes(), body].concat();
    let all = letters(&store, "ann");
    let trace = trace_before(&kept, &all[0]).expect("nothing else is changed");
    assert_eq!(trace, ["Return-Path", "Delivered-To", "Received"]);
    assert!(all[0].starts_with(b"Return-Path: <new@a.test>\r\n"));
    delivery.stop();
}

/// What comes out of a mailbox and back to it is refused; for another mailbox it is mail like any other.
#[test]
fn m_080_a_message_does_not_enter_a_mailbox_twice() {
    let (mut delivery, store) = delivery();
    let mut talk = Talk::hello(delivery.address()).expect("a greeting");
    assert!(talk.send("a@a.test", &["ann@b.test"], CONTENT).expect("a reply").is_positive());
    let letter = letters(&store, "ann").remove(0);
    let again = talk.send("a@a.test", &["ann@b.test"], &letter).expect("a reply");
    assert_eq!((again.code, again.lines[0].split(' ').next()), (554, Some("5.4.6")));
    assert!(talk.send("a@a.test", &["bob@b.test"], &letter).expect("a reply").is_positive());
    assert_eq!((letters(&store, "ann").len(), letters(&store, "rest").len()), (1, 1));
    delivery.stop();
}

/// Nobody but those who may relay puts mail into mailboxes, and only into those that exist (M-032).
#[test]
fn m_032_a_mailbox_that_is_not_there_is_refused_for_good_and_trouble_of_the_store_for_now() {
    let (mut delivery, store) = delivery();
    let mut talk = Talk::hello(delivery.address()).expect("a greeting");
    assert_eq!(talk.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
    let unknown = talk.say("RCPT TO:<ann@c.test>").expect("a reply");
    assert_eq!((unknown.code, unknown.lines[0].split(' ').next()), (550, Some("5.1.1")));
    assert_eq!(talk.say("RSET").expect("a reply").code, 250);
    // A file stands where ann's folder would be made.
    std::fs::write(store.path().join("ann"), b"").expect("a file");
    let broken = talk.send("a@a.test", &["ann@b.test"], CONTENT).expect("a reply");
    assert_eq!((broken.code, broken.lines[0].split(' ').next()), (451, Some("4.3.0")));
    std::fs::remove_file(store.path().join("ann")).expect("ours");
    assert!(talk.send("a@a.test", &["ann@b.test"], CONTENT).expect("a reply").is_positive());
    delivery.stop();
}

/// A hub before `sink` that believes front ends on loopback.
fn hub_behind(sink: &Sink, profile: &'static str) -> Server {
    let more = vec![("access", "trusted_front_ends = [\"127.0.0.0/8\"]".to_owned())];
    Server::started(Told { profile, more, ..Told::relaying_to(sink.address()) })
}

/// The Received fields in front of what was sent, unfolded.
fn received(taken: &Taken, sent: &[u8]) -> Vec<String> {
    let trace = trace_before(sent, &taken.content).expect("only trace fields stand in front");
    assert!(trace.iter().all(|name| name == "Received"), "{trace:?}");
    let front = taken.content.strip_suffix(sent).expect("it ends so");
    let text = String::from_utf8_lossy(front).replace("\r\n\t", " ").replace("\r\n ", " ");
    text.split_terminator("\r\n").map(str::to_owned).collect()
}

/// A front end adds no trace field in profile `rfc` and one in profile `exchange`; either way nothing else is changed.
#[test]
fn m_057_m_078_m_127_content_passes_a_front_end_and_a_hub_byte_for_byte() {
    for (profile, fields) in [("rfc", 1), ("exchange", 2)] {
        let sink = Sink::start(Offers { chunking: true });
        let mut hub = hub_behind(&sink, profile);
        let mut front = Server::started(Told { profile, ..Told::front_end_of(hub.address()) });
        let mut talk = Talk::hello(front.address()).expect("a greeting");
        let mails = tests::corpus::mails();
        for mail in &mails {
            let reply = talk.send(&format!("{}@a.test", mail.name), &["bob@b.test"], &mail.content).expect("a reply");
            assert!(reply.is_positive(), "{}: {reply:?}", mail.name);
        }
        let taken = sink.wait_for(mails.len());
        for mail in &mails {
            let from = format!("{}@a.test", mail.name);
            let one = taken.iter().find(|one| one.from == from).expect("it came");
            assert_eq!(received(one, &mail.content).len(), fields, "{} in {profile}", mail.name);
        }
        front.stop();
        hub.stop();
    }
}

/// What our Received says of protocol, client and recipients, as each was.
#[test]
fn m_073_m_074_m_075_received_tells_the_protocol_and_a_recipient_that_is_alone() {
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = hub_behind(&sink, "rfc");
    let mut front = Server::started(Told::front_end_of(hub.address()));
    let mut straight = Server::started(Told::relaying_to(sink.address()));
    let mut expected = Vec::new();
    for (server, way) in [(straight.address(), "straight"), (front.address(), "behind")] {
        for (hello, protocol) in [("HELO", "SMTP"), ("EHLO", "ESMTP")] {
            for recipients in [&["bob@b.test"][..], &["bob@b.test", "eve@b.test"]] {
                let mut talk = Talk::connect(server).expect("a connection");
                assert_eq!(talk.reply().expect("a greeting").code, 220);
                assert_eq!(talk.say(&format!("{hello} {way}.test")).expect("a reply").code, 250);
                let from = format!("{way}-{protocol}-{}@a.test", recipients.len());
                assert_eq!(talk.say(&format!("MAIL FROM:<{from}>")).expect("a reply").code, 250);
                for to in recipients {
                    assert_eq!(talk.say(&format!("RCPT TO:<{to}>")).expect("a reply").code, 250);
                }
                assert_eq!(talk.say("DATA").expect("a reply").code, 354);
                talk.write(&[CONTENT, b".\r\n"].concat()).expect("an open connection");
                assert_eq!(talk.reply().expect("a verdict").code, 250);
                let alone = if recipients.len() == 1 { " for <bob@b.test>;" } else { ";" };
                expected.push((
                    from,
                    format!("Received: from {way}.test ([127.0.0.1]) by server.test with {protocol} id "),
                    alone,
                ));
            }
        }
    }
    let taken = sink.wait_for(expected.len());
    for (from, begin, alone) in expected {
        let one = taken.iter().find(|one| one.from == from).expect("it came");
        let fields = received(one, CONTENT);
        assert_eq!(fields.len(), 1, "{from}");
        let rest = fields[0].strip_prefix(&begin).unwrap_or_else(|| panic!("{from}: {}", fields[0]));
        let (id, rest) = rest.split_at(rest.find([' ', ';']).expect("an end"));
        assert!(!id.is_empty() && id.bytes().all(|octet| octet.is_ascii_alphanumeric()), "{from}: {id}");
        assert!(rest.starts_with(alone) && rest.matches('@').count() == usize::from(alone != ";"), "{from}: {rest}");
    }
    straight.stop();
    front.stop();
    hub.stop();
}

/// A chunk that never ends leaves nothing: no message, no memory, no room in the spool (M-051).
#[test]
fn m_051_m_122_a_connection_that_ends_inside_a_chunk_leaves_nothing() {
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told::relaying_to(sink.address()));
    let memory = |hub: &Server| hub.status()["counters"]["memory_used_bytes"].as_u64().expect("a gauge");
    let mut before = Talk::hello(hub.address()).expect("a greeting");
    assert!(before.send("a@a.test", &["b@b.test"], CONTENT).expect("a reply").is_positive());
    sink.wait_for(1);
    let idle = tests::wait::until("what was delivered to be forgotten", || {
        let seen = memory(&hub);
        (hub.status()["counters"]["queued"].as_u64() == Some(0) && seen == memory(&hub)).then_some(seen)
    });
    // Shown, aimed, and handed over to the spool while it arrives.
    for octets in [10, 100_000, 3_000_000] {
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        let envelope = "MAIL FROM:<half@a.test>\r\nRCPT TO:<b@b.test>\r\n";
        talk.write(format!("{envelope}BDAT {} LAST\r\n", octets * 2).as_bytes()).expect("an open connection");
        talk.write(&vec![b'x'; octets]).expect("an open connection");
        assert_eq!(talk.reply().expect("a reply").code, 250);
        assert_eq!(talk.reply().expect("a reply").code, 250);
        drop(talk);
    }
    tests::wait::until("the memory of half bodies to be free", || (memory(&hub) <= idle).then_some(()));
    let counters = hub.status()["counters"].clone();
    assert_eq!((&counters["messages_accepted"], &counters["queued"]), (&1.into(), &0.into()));
    hub.stop();
    hub.start();
    assert_eq!(hub.status()["counters"]["redelivered_after_restart"], 0);
    assert_eq!(sink.taken().len(), 1);
    hub.stop();
}

/// A listener's own form of trace field counts, whatever the others of its process write.
#[test]
fn m_073_each_listener_has_its_own_form_of_received() {
    let sink = Sink::start(Offers { chunking: true });
    let told = Told::relaying_to(sink.address());
    let other = "address = \"127.0.0.1:0\"\nrole = \"hub\"\nreceived = \"exchange\"".to_owned();
    let mut hub = Server::started(Told { beside: vec![other], ..told });
    for (listener, from) in [(0, "rfc@a.test"), (1, "exchange@a.test")] {
        let mut talk = Talk::hello(hub.address_of(listener)).expect("a greeting");
        assert!(talk.send(from, &["bob@b.test"], CONTENT).expect("a reply").is_positive());
    }
    let taken = sink.wait_for(2);
    for (from, with) in [("rfc@a.test", " with ESMTP id "), ("exchange@a.test", " with Ringpost SMTP Server id ")] {
        let one = taken.iter().find(|one| one.from == from).expect("it came");
        let fields = received(one, CONTENT);
        assert!(fields.len() == 1 && fields[0].contains(with), "{from}: {fields:?}");
    }
    hub.stop();
    let listener = "received = \"exchange\"".to_owned();
    let mut front = Server::started(Told { listener, ..Told::front_end_of(sink.address()) });
    let mut talk = Talk::hello(front.address()).expect("a greeting");
    assert!(talk.send("front@a.test", &["bob@b.test"], CONTENT).expect("a reply").is_positive());
    let one = sink.wait_for(3).into_iter().find(|one| one.from == "front@a.test").expect("it came");
    let fields = received(&one, CONTENT);
    assert!(fields.len() == 1 && fields[0].contains("via Frontend Transport"), "{fields:?}");
    front.stop();
}

/// Names without a dot that the file calls ours are taken, wherever it does; no others are (M-028).
#[test]
fn m_028_single_labels_of_the_configuration_are_ours() {
    let sink = Sink::start(Offers { chunking: true });
    let told = Told { routed: "routed", ..Told::relaying_to(sink.address()) };
    let mut hub = Server::started(told.with("access", "accepted_domains = [\"Accepted\"]\nrelay_from = []"));
    let mut straight = Server::started(Told { routed: "routed", ..Told::relaying_to(sink.address()) });
    let store = tempfile::tempdir().expect("a folder");
    let role = Role::Mailboxes(Some(store.path().to_owned()), Dialect::Smtp);
    let boxes = "\"ann@named\" = \"ann\"\n\"*@Whole\" = \"all\"";
    let mut delivery = Server::started(Told { role, ..Told::default() }.with("mailboxes", boxes));
    for (server, to, reply) in [
        // Ours, and nothing leads there: a warning at the start, and later.
        (&hub, "x@accepted", (451, "4.4.4")),
        (&hub, "x@routed", (550, "5.7.1")),
        (&hub, "x@other", (550, "5.1.2")),
        (&straight, "x@Routed", (250, "2.1.5")),
        (&straight, "x@other", (550, "5.1.2")),
        (&delivery, "ann@Named", (250, "2.1.5")),
        (&delivery, "x@whole", (250, "2.1.5")),
        (&delivery, "x@named", (550, "5.1.1")),
        (&delivery, "x@other", (550, "5.1.2")),
    ] {
        let mut talk = Talk::hello(server.address()).expect("a greeting");
        assert_eq!(talk.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
        let got = talk.say(&format!("RCPT TO:<{to}>")).expect("a reply");
        assert_eq!((got.code, got.lines[0].split(' ').next()), (reply.0, Some(reply.1)), "{to}: {got:?}");
    }
    hub.stop();
    straight.stop();
    delivery.stop();
}

/// Who may not relay is told so at RCPT, for each recipient (M-031).
#[test]
fn m_031_mailbox_delivery_refuses_strangers_recipient_by_recipient() {
    let store = tempfile::tempdir().expect("a folder");
    let role = Role::Mailboxes(Some(store.path().to_owned()), Dialect::Smtp);
    let told = Told { role, ..Told::default() }.with("mailboxes", "\"ann@b.test\" = \"ann\"");
    let mut delivery = Server::started(told.with("access", "relay_from = []"));
    let mut talk = Talk::hello(delivery.address()).expect("a greeting");
    assert_eq!(talk.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
    for to in ["<ann@b.test>", "<nobody@b.test>", "<ann@b.test>"] {
        let got = talk.say(&format!("RCPT TO:{to}")).expect("a reply");
        assert_eq!((got.code, got.lines[0].split(' ').next()), (550, Some("5.7.1")), "{to}");
    }
    assert_eq!(talk.say("DATA").expect("a reply").code, 503);
    delivery.stop();
}

/// A hub takes `<postmaster>` from anybody; the mail goes where its own name does, and `check` says when it goes nowhere.
#[test]
fn m_030_a_hub_routes_postmaster_by_its_own_name_and_check_warns_where_it_cannot() {
    let sink = Sink::start(Offers { chunking: true });
    for routed in ["server.test", "*", "b.test"] {
        let told = Told { routed, ..Told::relaying_to(sink.address()) };
        let mut hub = Server::started(told.with("access", "relay_from = []"));
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        assert_eq!(talk.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
        let got = talk.say("RCPT TO:<Postmaster>").expect("a reply");
        assert_eq!(got.code, if routed == "b.test" { 451 } else { 250 }, "{routed}: {got:?}");
        let warned = hub.process().complaints().contains("mail for postmaster is put off");
        assert_eq!(warned, routed == "b.test", "{routed}: {}", hub.process().complaints());
        hub.stop();
    }
}
