//! A server that takes everything and remembers it: the far end of a relay under test. Plain threads and the standard
//! library, so that it shares no code with what it judges.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::wait::PATIENCE;

/// One message as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Reverse-path without brackets.
    pub from: String,
    /// Forward-paths without brackets.
    pub to: Vec<String>,
    /// Header and body, dots unstuffed.
    pub content: Vec<u8>,
    /// The octets of the content as they came: by DATA with stuffing and the final dot.
    pub raw: Vec<u8>,
    /// It came by BDAT.
    pub by_chunks: bool,
}

/// What the sink offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offers {
    /// CHUNKING in its EHLO, and BDAT taken.
    pub chunking: bool,
}

#[derive(Debug, Default)]
struct Ledger {
    taken: Mutex<Vec<Taken>>,
    more: Condvar,
    /// A recipient that is refused, and the reply.
    refused: Mutex<Option<(&'static str, &'static str)>>,
    /// Messages that are still to be taken without a reply.
    silent: AtomicUsize,
    /// The next connection: no greeting before the gate opens, and its replies held back until they are cut.
    held: Mutex<Option<Held>>,
    /// Every other connection is offered less.
    alternates: AtomicBool,
    connections: AtomicUsize,
    /// Of them, those whose session has not ended.
    open: AtomicUsize,
    violations: AtomicUsize,
}

/// How the replies of one connection are cut.
#[derive(Debug)]
struct Held {
    gate: Receiver<()>,
    /// So many messages are taken; then all replies leave at once, up to the middle of that of this one, from 1.
    messages: usize,
    cut_in: usize,
}

/// A listening sink. Its threads live as long as the test's process.
#[derive(Debug)]
pub struct Sink {
    at: SocketAddr,
    ledger: Arc<Ledger>,
}

impl Sink {
    /// Listens on a free port of loopback.
    ///
    /// # Panics
    /// When there is none.
    pub fn start(offers: Offers) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), offers)
    }

    /// Listens there.
    ///
    /// # Panics
    /// When somebody else does.
    pub fn start_at(at: SocketAddr, offers: Offers) -> Self {
        let listener = TcpListener::bind(at).expect("a free port");
        let at = listener.local_addr().expect("an address");
        let ledger = Arc::new(Ledger::default());
        let kept = ledger.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                kept.open.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || serve(stream, offers, &kept));
            }
        });
        Self { at, ledger }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// The next `count` messages are taken, and their connections close without a reply.
    pub fn fall_silent(&self, count: usize) {
        self.ledger.silent.store(count, Ordering::Relaxed);
    }

    /// From now on this recipient, and no other, is answered with this reply.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn refuse(&self, recipient: &'static str, reply: &'static str) {
        *self.ledger.refused.lock().expect("no panic") = Some((recipient, reply));
    }

    /// The next connection is greeted when the gate that this gives is told to, takes so many `messages` in silence, gets
    /// all their replies in one segment that ends in the middle of the last reply of the `cut_in`th message, and is closed.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn hold_and_cut(&self, messages: usize, cut_in: usize) -> Sender<()> {
        let (opener, gate) = channel();
        *self.ledger.held.lock().expect("no panic") = Some(Held { gate, messages, cut_in });
        opener
    }

    /// From now on every other connection is offered neither CHUNKING nor PIPELINING.
    pub fn alternate(&self) {
        self.ledger.alternates.store(true, Ordering::Relaxed);
    }

    /// How often something was used on a connection that was not offered it.
    pub fn violations(&self) -> usize {
        self.ledger.violations.load(Ordering::Relaxed)
    }

    /// Connections whose end was not read yet.
    pub fn open(&self) -> usize {
        self.ledger.open.load(Ordering::Relaxed)
    }

    /// Everything taken so far, in order of arrival.
    pub fn taken(&self) -> Vec<Taken> {
        self.ledger.taken.lock().expect("no panic").clone()
    }

    /// How often each reverse-path came.
    pub fn count_by_sender(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for taken in self.ledger.taken.lock().expect("no panic").iter() {
            *counts.entry(taken.from.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// Waits until `enough` says that what was taken is enough.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`] of the last message.
    pub fn wait(&self, what: &str, enough: impl FnMut(&[Taken]) -> bool) {
        self.try_wait(enough).unwrap_or_else(|count| panic!("waited for {what}; {count} messages came"));
    }

    /// The same for who has more to say when it does not: how many messages came.
    ///
    /// # Errors
    /// When nothing came for [`PATIENCE`] and it is not enough.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn try_wait(&self, mut enough: impl FnMut(&[Taken]) -> bool) -> Result<(), usize> {
        let mut taken = self.ledger.taken.lock().expect("no panic");
        let mut last = (taken.len(), Instant::now());
        while !enough(&taken) {
            taken = self.ledger.more.wait_timeout(taken, PATIENCE).expect("no panic").0;
            if taken.len() != last.0 {
                last = (taken.len(), Instant::now());
            } else if last.1.elapsed() >= PATIENCE {
                return Err(taken.len());
            }
        }
        Ok(())
    }

    /// Waits for `count` messages and gives them.
    pub fn wait_for(&self, count: usize) -> Vec<Taken> {
        self.wait(&format!("{count} messages"), |taken| taken.len() >= count);
        self.taken()
    }
}

fn serve(stream: TcpStream, offers: Offers, ledger: &Ledger) {
    // The peer may be killed at any moment: that ends this session and nothing else.
    let _ = session(stream, offers, ledger);
    ledger.open.fetch_sub(1, Ordering::Relaxed);
}

/// What is said on a connection; held back and cut, where that was asked for.
struct Out {
    stream: TcpStream,
    held: Option<(Held, Vec<u8>)>,
    finals: usize,
}

impl Out {
    fn say(&mut self, reply: &str) -> io::Result<()> {
        let reply = format!("{reply}\r\n");
        match &mut self.held {
            Some((_, octets)) => octets.extend_from_slice(reply.as_bytes()),
            None => self.stream.write_all(reply.as_bytes())?,
        }
        Ok(())
    }

    /// The last reply to a message; an error when the connection ends with it.
    fn say_final(&mut self, reply: &str) -> io::Result<()> {
        self.finals += 1;
        let Some((held, octets)) = &mut self.held else { return self.say(reply) };
        // Behind the cut nothing is said.
        if self.finals < held.cut_in {
            octets.extend_from_slice(format!("{reply}\r\n").as_bytes());
        } else if self.finals == held.cut_in {
            octets.extend_from_slice(&reply.as_bytes()[..2]);
            self.stream.write_all(octets)?;
        }
        if self.finals < held.messages { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }
}

fn session(stream: TcpStream, offers: Offers, ledger: &Ledger) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let number = ledger.connections.fetch_add(1, Ordering::Relaxed);
    let plain = ledger.alternates.load(Ordering::Relaxed) && !number.is_multiple_of(2);
    let mut out = Out { stream: stream.try_clone()?, held: None, finals: 0 };
    let mut reader = BufReader::new(stream);
    let mut open = Transaction::default();
    let mut held = ledger.held.lock().expect("no panic").take();
    if let Some(held) = &held {
        // Whoever opens the gate may be gone: then the test is over.
        let _opened = held.gate.recv_timeout(PATIENCE);
    }
    out.say("220 sink.test ESMTP")?;
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        if plain && (verb == "BDAT" || (!reader.buffer().is_empty() && verb != "DATA")) {
            ledger.violations.fetch_add(1, Ordering::Relaxed);
        }
        let reply: &str = match verb.as_str() {
            "EHLO" if plain => "250-sink.test\r\n250-8BITMIME\r\n250 SIZE 0",
            "EHLO" if offers.chunking => {
                "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250 SIZE 0"
            }
            "EHLO" => "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0",
            "MAIL" => open.begin(&line),
            "RCPT" => open.add(&line, ledger),
            "DATA" if !open.to.is_empty() => {
                out.say("354 go on")?;
                (open.content, open.raw) = read_stuffed(&mut reader)?;
                let Some(reply) = open.end(ledger, false) else { return Ok(()) };
                out.say_final(reply)?;
                continue;
            }
            "BDAT" => {
                let (count, last) = chunk_of(&line);
                io::copy(&mut reader.by_ref().take(count), &mut open.content)?;
                match (open.to.is_empty(), last) {
                    (true, _) => open.refuse(),
                    (false, true) => {
                        open.raw.clone_from(&open.content);
                        let Some(reply) = open.end(ledger, true) else { return Ok(()) };
                        out.say_final(reply)?;
                        continue;
                    }
                    (false, false) => "250 2.0.0 more",
                }
            }
            "RSET" | "HELO" => {
                open = Transaction::default();
                "250 2.0.0 ok"
            }
            "NOOP" => "250 2.0.0 ok",
            "QUIT" => return out.say("221 2.0.0 bye"),
            _ => "503 5.5.1 not now",
        };
        out.say(reply)?;
        if let Some(held) = held.take_if(|_| verb == "EHLO") {
            out.held = Some((held, Vec::new()));
        }
    }
}

/// The transaction that a session is in.
#[derive(Default)]
struct Transaction {
    from: Option<String>,
    to: Vec<String>,
    content: Vec<u8>,
    raw: Vec<u8>,
}

impl Transaction {
    fn begin(&mut self, line: &str) -> &'static str {
        *self = Self { from: Some(path_in(line)), ..Self::default() };
        "250 2.1.0 ok"
    }

    fn add(&mut self, line: &str, ledger: &Ledger) -> &'static str {
        if self.from.is_none() {
            return "503 5.5.1 no sender";
        }
        let path = path_in(line);
        if let Some((_, reply)) = ledger.refused.lock().expect("no panic").filter(|(of, _)| *of == path) {
            return reply;
        }
        self.to.push(path);
        "250 2.1.5 ok"
    }

    /// Takes the message; its reply, unless there is to be none.
    fn end(&mut self, ledger: &Ledger, by_chunks: bool) -> Option<&'static str> {
        let Self { from, to, content, raw } = std::mem::take(self);
        let taken = Taken { from: from.unwrap_or_default(), to, content, raw, by_chunks };
        ledger.taken.lock().expect("no panic").push(taken);
        ledger.more.notify_all();
        let fewer = |silent: usize| silent.checked_sub(1);
        let silent = ledger.silent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok();
        (!silent).then_some("250 2.0.0 taken")
    }

    fn refuse(&mut self) -> &'static str {
        self.content.clear();
        "503 5.5.1 no recipient"
    }
}

/// Octets of a chunk, and whether it is the last.
fn chunk_of(line: &str) -> (u64, bool) {
    let mut words = line.split(' ').skip(1);
    let count = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    (count, words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST")))
}

/// What stands between the first `<` and the next `>`.
fn path_in(line: &str) -> String {
    let path = line.split_once('<').map_or("", |(_, rest)| rest);
    path.split('>').next().unwrap_or_default().to_owned()
}

/// Content up to its final dot: without stuffing, and as it came.
fn read_stuffed(reader: &mut impl BufRead) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut content, mut raw) = (Vec::new(), Vec::new());
    loop {
        let at = raw.len();
        if reader.read_until(b'\n', &mut raw)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = &raw[at..];
        // A line ends with CRLF, whatever stands in it.
        let begins = at == 0 || raw[..at].ends_with(b"\r\n");
        if begins && line == b".\r\n" {
            return Ok((content, raw));
        }
        content.extend_from_slice(if begins { line.strip_prefix(b".").unwrap_or(line) } else { line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::mails;
    use crate::talk::Talk;

    #[test]
    fn client_and_sink_carry_the_corpus_unchanged() {
        let sink = Sink::start(Offers { chunking: true });
        let mut talk = Talk::hello(sink.address()).expect("a greeting");
        for mail in mails() {
            let by_data = talk.send(&mail.name, &["bob@b.test", "eve@b.test"], &mail.content).expect("a reply");
            let by_bdat = talk.send_in_chunks(&mail.name, &["bob@b.test"], &mail.content, 5000).expect("a reply");
            assert!(by_data.is_positive() && by_bdat.is_positive());
        }
        assert_eq!(talk.say("QUIT").expect("a reply").code, 221);
        let taken = sink.wait_for(2 * mails().len());
        for (pair, mail) in taken.chunks(2).zip(mails()) {
            assert!(pair[0].content == mail.content && pair[1].content == mail.content, "{}", mail.name);
            assert_eq!((pair[0].to.len(), pair[1].to.len()), (2, 1));
        }
    }
}
