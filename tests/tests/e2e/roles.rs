//! Front ends and mailbox delivery as processes: what their clients are told, and what comes out behind them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use tests::server::{Dialect, Role, Server, Told};
use tests::peers::trace_before;
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
