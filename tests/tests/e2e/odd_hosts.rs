//! Next hops with ways of their own, each played by a thread of the test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use tests::server::{Dialect, Role, Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::{PATIENCE, until};

const CONTENT: &[u8] = b"Subject: x\r\n\r\nbody\r\n";

/// A host that does this with each of its connections, numbered from 0.
fn host<T: Send + 'static>(
    play: impl Fn(usize, TcpStream, &Sender<T>) -> io::Result<()> + Send + Sync + 'static,
) -> (SocketAddr, Receiver<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("an address");
    let (tell, told) = channel();
    let play = Arc::new(play);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let (play, tell) = (play.clone(), tell.clone());
            // The hub may close when it likes.
            std::thread::spawn(move || drop(play(number, stream, &tell)));
        }
    });
    (at, told)
}

fn path_in(line: &str) -> String {
    line.split(['<', '>']).nth(1).unwrap_or_default().to_owned()
}

/// Reads content to its final dot.
fn read_content(reader: &mut impl BufRead) -> io::Result<()> {
    let mut content = String::new();
    while !content.ends_with("\r\n.\r\n") {
        if reader.read_line(&mut content)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Takes one message by LMTP, answers for so many recipients, and is gone. Gives its recipients.
fn lmtp(stream: TcpStream, answers: usize, tell: &Sender<Vec<String>>) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut to = Vec::new();
    out.write_all(b"220 store.test LMTP\r\n")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.get(..4).unwrap_or_default() {
            "LHLO" => out.write_all(b"250-store.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")?,
            "RCPT" => {
                to.push(path_in(&line));
                out.write_all(b"250 2.1.5 ok\r\n")?;
            }
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                read_content(&mut reader)?;
                for _ in to.iter().take(answers) {
                    out.write_all(b"250 2.1.5 delivered\r\n")?;
                }
                // The test may have seen enough.
                let _ = tell.send(std::mem::take(&mut to));
                if answers < 3 {
                    return Ok(());
                }
            }
            _ => out.write_all(b"250 2.0.0 ok\r\n")?,
        }
    }
}

/// Lost behind two of three answers, an LMTP host gets the third recipient again, and him alone.
#[test]
fn m_213_what_lmtp_answered_before_it_was_lost_is_done() {
    let (at, told) = host(|number, stream, tell| lmtp(stream, if number == 0 { 2 } else { 3 }, tell));
    let mut hub = Server::started(Told { role: Role::Hub(vec![at], Dialect::Lmtp), ..Told::default() });
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let reply = talk.send("a@a.test", &["b@b.test", "c@b.test", "d@b.test"], CONTENT).expect("a reply");
    assert!(reply.is_positive(), "{reply:?}");
    assert_eq!(told.recv_timeout(PATIENCE).expect("a message"), ["b@b.test", "c@b.test", "d@b.test"]);
    assert_eq!(told.recv_timeout(PATIENCE).expect("the rest"), ["d@b.test"]);
    until("all three to be on record", || (hub.status()["counters"]["recipients_delivered"] == 3).then_some(()));
    assert_eq!(hub.status()["counters"]["queued"], 0);
    hub.stop();
}

/// Puts off each recipient on its first connection and is gone at the content; takes everything on others.
fn greylister(number: usize, stream: TcpStream, tell: &Sender<Vec<String>>) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut to = Vec::new();
    out.write_all(b"220 grey.test ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.get(..4).unwrap_or_default() {
            "EHLO" => out.write_all(b"250-grey.test\r\n250 PIPELINING\r\n")?,
            "RCPT" if number == 0 => out.write_all(b"450 4.7.1 come back later\r\n")?,
            "RCPT" => {
                to.push(path_in(&line));
                out.write_all(b"250 2.1.5 ok\r\n")?;
            }
            "DATA" if number == 0 => return Ok(()),
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                read_content(&mut reader)?;
                out.write_all(b"250 2.0.0 taken\r\n")?;
                // The test may have seen enough.
                let _ = tell.send(std::mem::take(&mut to));
            }
            _ => out.write_all(b"250 2.0.0 ok\r\n")?,
        }
    }
}

#[test]
fn f_065_whom_a_host_puts_off_before_it_goes_is_offered_again_in_his_time() {
    let (at, told) = host(greylister);
    let mut hub = Server::started(Told { role: Role::Hub(vec![at], Dialect::Smtp), ..Told::default() });
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let reply = talk.send("a@a.test", &["b@b.test", "c@b.test"], CONTENT).expect("a reply");
    assert!(reply.is_positive(), "{reply:?}");
    assert_eq!(told.recv_timeout(PATIENCE).expect("both"), ["b@b.test", "c@b.test"]);
    until("both to be on record", || (hub.counter("recipients_delivered") == 2).then_some(()));
    hub.stop();
}

/// Takes chunks, but says so much about each command that nothing moves unless its client reads while it writes.
fn talker(stream: TcpStream, tell: &Sender<()>) -> io::Result<()> {
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4 << 10)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, 4 << 10)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(512, stream);
    let long = format!("250-{}\r\n", "x".repeat(480)).repeat(30);
    out.write_all(b"220 talker.test ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace();
        match words.next().unwrap_or_default() {
            "EHLO" => out.write_all(b"250-talker.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING\r\n")?,
            "BDAT" => {
                let octets = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                io::copy(&mut reader.by_ref().take(octets), &mut io::sink())?;
                out.write_all(format!("{long}250 2.0.0 taken\r\n").as_bytes())?;
                // The test may have seen enough.
                let _ = tell.send(());
            }
            _ => out.write_all(format!("{long}250 2.0.0 ok\r\n").as_bytes())?,
        }
    }
}

/// A batch far larger than the peer's window ends well though its replies pile up: reading and writing go on together.
#[test]
fn m_115_a_host_that_talks_while_it_is_talked_to_gets_everything() {
    const MESSAGES: usize = 24;
    let (at, told) = host(|_, stream, tell| talker(stream, tell));
    let more = vec![("delivery", "connections_per_hop_max = 1".to_owned())];
    let mut hub = Server::started(Told { more, ..Told::relaying_to(at) });
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let content = [CONTENT, &b"0123456789\r\n".repeat(2_000)].concat();
    for _ in 0..MESSAGES {
        assert!(talk.send("a@a.test", &["b@b.test"], &content).expect("a reply").is_positive());
    }
    for _ in 0..MESSAGES {
        told.recv_timeout(PATIENCE).expect("a message");
    }
    until("all to be on record", || (hub.status()["counters"]["recipients_delivered"] == MESSAGES).then_some(()));
    hub.stop();
}

/// Greets with `greeting`, answers each command with what `answer` says to it; nothing closes the connection. Tells of each
/// RCPT.
fn refuser(
    stream: TcpStream,
    greeting: &str,
    answer: impl Fn(&str) -> &'static str,
    tell: &Sender<String>,
) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    out.write_all(greeting.as_bytes())?;
    if greeting.is_empty() {
        return Ok(());
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.starts_with("RCPT") {
            let _ = tell.send(path_in(&line));
        }
        out.write_all(answer(line.get(..4).unwrap_or_default()).as_bytes())?;
    }
}

/// A host that refuses everybody, or breaks, costs a message nothing: the next one takes it (M-068: 521 too).
#[test]
fn m_091_a_host_that_refuses_everybody_sends_its_mail_to_the_next() {
    for (greeting, hello) in [
        ("421 4.3.2 not now\r\n", ""),
        ("450 4.3.2 not now\r\n", ""),
        ("521 5.3.2 no mail here\r\n", ""),
        ("554 5.7.1 go away\r\n", ""),
        ("", ""),
        ("220 odd.test ESMTP\r\n", "550 5.7.1 not you\r\n"),
        ("220 odd.test ESMTP\r\n", "421 4.3.2 not now\r\n"),
    ] {
        let (odd, _told) = host(move |_, stream, tell| refuser(stream, greeting, |_| hello, tell));
        let sink = Sink::start(Offers { chunking: true });
        let mut hub = Server::started(Told::relaying_to_any(vec![odd, sink.address()]));
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        for _ in 0..4 {
            assert!(talk.send("a@a.test", &["b@b.test"], CONTENT).expect("a reply").is_positive());
        }
        assert_eq!(sink.wait_for(4).len(), 4, "{greeting}{hello}");
        until("all to be on record", || (hub.status()["counters"]["recipients_delivered"] == 4).then_some(()));
        assert_eq!(hub.status()["counters"]["recipients_failed_dsn_owed"], 0, "{greeting}{hello}");
        hub.stop();
    }
}

/// A host that greets and then says 503 to every MAIL: its mail goes to the next one; without a next one it stays, and the host
/// is left alone.
#[test]
fn f_066_m_118_a_host_that_says_503_to_every_mail_loses_none_and_is_left_alone() {
    let answer = |verb: &str| match verb {
        "EHLO" => "250-odd.test\r\n250 PIPELINING\r\n",
        "MAIL" | "RCPT" | "DATA" => "503 5.5.1 not now\r\n",
        _ => "250 2.0.0 ok\r\n",
    };
    let odd = || host(move |_, stream, tell| refuser(stream, "220 odd.test ESMTP\r\n", answer, tell));
    let (at, _told) = odd();
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told::relaying_to_any(vec![at, sink.address()]));
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    for _ in 0..4 {
        assert!(talk.send("a@a.test", &["b@b.test"], CONTENT).expect("a reply").is_positive());
    }
    assert_eq!(sink.wait_for(4).len(), 4);
    until("all to be on record", || (hub.status()["counters"]["recipients_delivered"] == 4).then_some(()));
    assert_eq!(hub.status()["counters"]["recipients_failed_dsn_owed"], 0);
    hub.stop();

    let (at, told) = odd();
    // Of one connection, so that no other's end takes the place of its words; with the profile's waits.
    let waits = "connections_per_hop_max = 1\nhost_backoff_min = \"30s\"";
    let mut hub = Server::started(Told::relaying_to(at).with("delivery", waits));
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    for _ in 0..4 {
        assert!(talk.send("a@a.test", &["b@b.test"], CONTENT).expect("a reply").is_positive());
    }
    let said = until("the trouble to be seen", || {
        let queue = hub.status()["queues"][0].clone();
        (queue["status"] == "Retry").then(|| queue["last_error"].as_str().unwrap_or_default().to_owned())
    });
    assert_eq!(said, "refused MAIL with 503: 503 5.5.1 not now");
    let counters = hub.status()["counters"].clone();
    assert_eq!((&counters["queued"], &counters["recipients_failed_dsn_owed"]), (&4.into(), &0.into()), "{counters}");
    hub.stop();
    assert!(told.try_iter().count() <= 2, "it is asked again and again");
}

/// What a host says to a recipient is its domain's answer: no other host is asked.
#[test]
fn m_091_a_recipient_refused_by_one_host_is_not_tried_at_the_next() {
    let answer = |verb: &str| match verb {
        "EHLO" => "250-odd.test\r\n250 PIPELINING\r\n",
        "RCPT" => "550 5.1.1 nobody here\r\n",
        "DATA" => "503 5.5.1 nobody\r\n",
        _ => "250 2.0.0 ok\r\n",
    };
    let (first, told) = host(move |_, stream, tell| refuser(stream, "220 odd.test ESMTP\r\n", answer, tell));
    let (second, told_too) = host(move |_, stream, tell| refuser(stream, "220 odd.test ESMTP\r\n", answer, tell));
    let senders = Sink::start(Offers { chunking: true });
    let told_hub = Told::relaying_to_any(vec![first, second]).with_senders_at(senders.address());
    let mut hub = Server::started(told_hub);
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    assert!(talk.send("a@a.test", &["b@b.test"], CONTENT).expect("a reply").is_positive());
    senders.wait_for(1);
    until("an empty queue", || (hub.queued() == 0).then_some(()));
    assert_eq!(hub.status()["counters"]["recipients_failed_dsn_owed"], 1);
    hub.stop();
    assert_eq!(told.try_iter().chain(told_too.try_iter()).count(), 1);
}
