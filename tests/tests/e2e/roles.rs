//! Front ends as processes: what their clients are told, and what comes out behind them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use tests::server::{Server, Told};
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
