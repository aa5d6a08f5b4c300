//! A plain SMTP client: one command, one reply, nothing clever. Knows as little of the engine as a stranger does.

use crate::wait::PATIENCE;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

/// A reply: its code and its lines without code and line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text of each line.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether it is 2yz.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Talk {
    reader: BufReader<TcpStream>,
}

impl Talk {
    /// Connects and reads nothing yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&to, PATIENCE)?)
    }

    /// Connects from an address of this machine, any of 127.0.0.0/8 among them.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket(family, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::new(from, 0))?;
        connect(&socket, &to)?;
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Connects, reads the greeting and says EHLO.
    ///
    /// # Errors
    /// What the system says, or a reply that is not positive.
    pub fn hello(to: SocketAddr) -> io::Result<Self> {
        Self::connect(to)?.greeted()
    }

    /// Reads the greeting and says EHLO.
    ///
    /// # Errors
    /// What the system says, or a reply that is not positive.
    pub fn greeted(mut self) -> io::Result<Self> {
        self.positive()?;
        self.write(b"EHLO client.test\r\n")?;
        self.positive()?;
        Ok(self)
    }

    /// Says MAIL, RCPT for each of `to`, and DATA: content may follow.
    ///
    /// # Errors
    /// When the connection breaks or a reply is not positive.
    pub fn begin(&mut self, from: &str, to: &[&str]) -> io::Result<()> {
        self.envelope(from, to)?;
        self.write(b"DATA\r\n")?;
        self.positive().map(drop)
    }

    /// Sends octets as they are.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(octets)
    }

    /// Closes our side: nothing more will be sent.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(&mut self) -> io::Result<()> {
        self.reader.get_ref().shutdown(std::net::Shutdown::Write)
    }

    /// Sends a line and reads its reply.
    ///
    /// # Errors
    /// What the system says, or a reply that cannot be read.
    pub fn say(&mut self, line: &str) -> io::Result<Reply> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Reads one reply, all its lines.
    ///
    /// # Errors
    /// When the connection ends first, or what comes is no reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            self.reader.read_until(b'\n', &mut line)?;
            let text = String::from_utf8_lossy(&line).into_owned();
            let Some(text) = text.strip_suffix("\r\n") else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            let code = text.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else { return Err(io::Error::new(io::ErrorKind::InvalidData, text.to_owned())) };
            lines.push(text.get(4..).unwrap_or_default().to_owned());
            if text.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Waits until the peer's process has taken from its socket all that was written so far: what is written behind comes to
    /// it in a piece of its own.
    ///
    /// # Panics
    /// When it does not take it, or the connection is not one of IPv4.
    pub fn until_read(&self) {
        let stream = self.reader.get_ref();
        let here = hex(stream.local_addr().expect("connected"));
        let there = hex(stream.peer_addr().expect("connected"));
        crate::wait::until("the peer to read", || {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("a table of connections");
            let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
            // Local and remote address, state, and what waits: `sent:received`.
            let waits = |local: &String, remote: &String, queue: fn(&str) -> &str| {
                let mut of = rows.clone().filter(|row| row[1] == local.as_str() && row[2] == remote.as_str());
                of.next().is_some_and(|row| queue(row[4]) != "00000000")
            };
            let unsent = waits(&here, &there, |queues| &queues[..8]);
            let unread = waits(&there, &here, |queues| &queues[9..]);
            (!unsent && !unread).then_some(())
        });
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    fn positive(&mut self) -> io::Result<Reply> {
        let reply = self.reply()?;
        if reply.code / 100 == 2 || reply.code == 354 { Ok(reply) } else { Err(io::Error::other(format!("{reply:?}"))) }
    }

    /// Says MAIL and RCPT, one at a time.
    ///
    /// # Errors
    /// When the connection breaks or a reply is not positive: no octet of a message has left then.
    pub fn envelope(&mut self, from: &str, to: &[&str]) -> io::Result<()> {
        self.write(format!("MAIL FROM:<{from}> BODY=8BITMIME\r\n").as_bytes())?;
        self.positive()?;
        for to in to {
            self.write(format!("RCPT TO:<{to}>\r\n").as_bytes())?;
            self.positive()?;
        }
        Ok(())
    }

    /// Sends content by DATA; the reply to the final dot.
    ///
    /// # Errors
    /// When the connection breaks or DATA is refused.
    pub fn data(&mut self, content: &[u8]) -> io::Result<Reply> {
        self.write(b"DATA\r\n")?;
        self.positive()?;
        self.write(&stuffed(content))?;
        self.write(b".\r\n")?;
        self.reply()
    }

    /// Sends content by BDAT, in pieces of at most `piece` octets; the reply to the last.
    ///
    /// # Errors
    /// When the connection breaks or a chunk is refused.
    pub fn chunks(&mut self, content: &[u8], piece: usize) -> io::Result<Reply> {
        let count = content.chunks(piece).len();
        for (at, chunk) in content.chunks(piece).enumerate() {
            let last = if at + 1 == count { " LAST" } else { "" };
            self.write(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes())?;
            self.write(chunk)?;
            if at + 1 < count {
                self.positive()?;
            }
        }
        self.reply()
    }

    /// Sends one message by MAIL, RCPT and DATA; the reply to the final dot.
    ///
    /// # Errors
    /// When the connection breaks or a reply before the final one is not positive.
    pub fn send(&mut self, from: &str, to: &[&str], content: &[u8]) -> io::Result<Reply> {
        self.envelope(from, to)?;
        self.data(content)
    }

    /// Sends one message by BDAT, in pieces of at most `piece` octets; the reply to the last.
    ///
    /// # Errors
    /// As [`Talk::send`].
    pub fn send_in_chunks(&mut self, from: &str, to: &[&str], content: &[u8], piece: usize) -> io::Result<Reply> {
        self.envelope(from, to)?;
        self.chunks(content, piece)
    }
}

/// An address as the kernel's table of connections has it.
fn hex(at: SocketAddr) -> String {
    let SocketAddr::V4(at) = at else { panic!("{at} is not IPv4") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port())
}

/// `content` with a dot before each line that begins with one (RFC 5321 §4.5.2). It must end with CRLF.
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    assert!(content.ends_with(b"\r\n"), "content that travels by DATA ends with CRLF");
    let mut out = Vec::with_capacity(content.len() + 64);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_has_read_is_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut talk = Talk::connect(listener.local_addr().expect("bound")).expect("a connection");
        let (mut peer, _) = listener.accept().expect("a connection");
        talk.until_read();
        talk.write(b"half a line").expect("room");
        let reader = std::thread::spawn(move || io::Read::read_exact(&mut peer, &mut [0; 11]).map(|()| peer));
        talk.until_read();
        drop(reader.join().expect("no panic").expect("all of it"));
    }

    #[test]
    fn dots_are_doubled_at_the_start_of_lines_alone() {
        assert_eq!(stuffed(b".\r\n..a\r\nb.\r\n"), b"..\r\n...a\r\nb.\r\n");
    }
}
