//! Simulated sinks: SMTP servers that take messages into the ledger, and misbehave as they are told.

use super::chance::Chance;
use super::conn::SimConn;
use super::driver::Sim;
use super::ledger::{Arrival, Ledger};
use super::talk::{Lost, Talk};
use crate::io::driver::{Conn, Driver};
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

/// How long a sink waits for the next command.
const COMMAND_WAIT: Span = Span::minutes(5);

/// What addresses of senders end with: to them go reports alone.
const SENDERS: &str = "@sender.test";

/// How a sink misbehaves: each once in so many, 0 for never.
#[derive(Debug, Clone, Default)]
pub struct Vice {
    /// A connection is closed, answered 421, or never answered.
    pub greeting: u64,
    /// A recipient is deferred.
    pub defers: u64,
    /// A recipient is refused for good.
    pub refuses: u64,
    /// At the end of a message: 451, 554, closed before or after it was taken, or never answered.
    pub ends: u64,
    /// Any answer is late.
    pub late: u64,
}

/// A sink.
pub struct Sink {
    /// Its thread.
    pub sim: Sim,
    /// Where it listens.
    pub at: SocketAddr,
    /// Whether it offers CHUNKING.
    pub chunking: bool,
    /// Where it writes.
    pub ledger: Rc<Ledger>,
    /// How it misbehaves now.
    pub vice: Rc<RefCell<Vice>>,
    /// What it draws from.
    pub chance: Chance,
}

/// A 250 that the peer may not have seen yet: where it ends, and whom to tell.
type Unheard = (u64, Rc<Cell<bool>>);

impl Sink {
    /// Serves for ever.
    pub async fn run(self) {
        let Ok(listener) = self.sim.listen(self.at) else { return };
        let this = Rc::new(self);
        while let Ok(conn) = this.sim.accept(&listener).await {
            let (sink, sim) = (this.clone(), this.sim.clone());
            sim.spawn(async move { sink.serve(conn).await });
        }
    }

    fn draws(&self, of: impl Fn(&Vice) -> u64) -> bool {
        let times = of(&self.vice.borrow());
        self.chance.once_in(times)
    }

    async fn serve(&self, conn: SimConn) {
        let mut session = Session {
            sink: self,
            talk: Talk::new(self.sim.clone(), conn, COMMAND_WAIT),
            unheard: Vec::new(),
            number: None,
            recipients: Vec::new(),
            content: Vec::new(),
        };
        let ended = session.run().await;
        session.hear();
        let unheard = session.unheard.len();
        self.sim.world.tell(|| {
            format!("sink {}: session of {} ends, {ended:?}, {unheard} unheard", self.at, session.talk.conn.peer())
        });
    }
}

struct Session<'a> {
    sink: &'a Sink,
    talk: Talk,
    unheard: Vec<Unheard>,
    /// The message's, as its sender's address says.
    number: Option<usize>,
    recipients: Vec<String>,
    content: Vec<u8>,
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), Lost> {
        if self.sink.draws(|vice| vice.greeting) {
            match self.sink.chance.below(3) {
                0 => return Ok(()),
                1 => self.talk.say(b"421 4.3.2 not now\r\n"),
                _ => self.stall().await,
            }
            return Ok(());
        }
        self.talk.say(b"220 sink.test\r\n");
        loop {
            self.hear();
            let line = self.talk.line().await?;
            if self.sink.draws(|vice| vice.late) {
                let wait = self.sink.chance.span(Span::millis(1)..Span::seconds(3));
                self.sink.sim.sleep(wait).await;
            }
            let line = String::from_utf8_lossy(&line).to_ascii_uppercase();
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb {
                "EHLO" => self.hello(),
                "MAIL" => {
                    self.begin("250 2.1.0 ok\r\n");
                    self.number = number_in_path(rest);
                }
                "RCPT" => self.recipient(rest),
                "RSET" | "NOOP" => self.begin("250 2.0.0 ok\r\n"),
                "DATA" => self.data().await?,
                "BDAT" => self.chunk(rest).await?,
                "QUIT" => {
                    self.talk.say(b"221 2.0.0 bye\r\n");
                    return Ok(());
                }
                _ => self.talk.say(b"500 5.5.1 what\r\n"),
            }
        }
    }

    fn hello(&mut self) {
        let chunking = if self.sink.chunking { "250-CHUNKING\r\n" } else { "" };
        self.talk.say(format!("250-sink.test\r\n{chunking}250-8BITMIME\r\n250 PIPELINING\r\n"));
    }

    fn begin(&mut self, reply: &str) {
        self.recipients.clear();
        self.content.clear();
        self.talk.say(reply);
    }

    fn recipient(&mut self, rest: &str) {
        let path = rest.split_once('<').and_then(|(_, path)| path.split_once('>')).map_or("", |(path, _)| path);
        let path = path.to_ascii_lowercase();
        if self.sink.draws(|vice| vice.refuses) {
            self.sink.ledger.fail(&path, self.number);
            return self.talk.say(b"550 5.1.1 unknown\r\n");
        }
        if self.sink.draws(|vice| vice.defers) {
            return self.talk.say(b"450 4.2.1 busy\r\n");
        }
        self.recipients.push(path);
        self.talk.say(b"250 2.1.5 ok\r\n");
    }

    async fn data(&mut self) -> Result<(), Lost> {
        if self.recipients.is_empty() {
            self.talk.say(b"503 5.5.1 no recipient\r\n");
            return Ok(());
        }
        self.talk.say(b"354 go on\r\n");
        self.content = self.talk.until_dot().await?;
        self.end().await
    }

    async fn chunk(&mut self, rest: &str) -> Result<(), Lost> {
        let (size, last) = rest.split_once(' ').unwrap_or((rest, ""));
        let octets = self.talk.octets(size.trim().parse().map_err(|_| Lost::Broken)?).await?;
        if self.recipients.is_empty() {
            self.talk.say(b"503 5.5.1 no recipient\r\n");
            return Ok(());
        }
        self.content.extend(octets);
        if last.trim() == "LAST" {
            return self.end().await;
        }
        self.talk.say(b"250 2.0.0 chunk\r\n");
        Ok(())
    }

    /// The message is whole.
    async fn end(&mut self) -> Result<(), Lost> {
        if !self.sink.draws(|vice| vice.ends) {
            self.take(true);
            return Ok(());
        }
        match self.sink.chance.below(6) {
            0 => self.begin("451 4.3.0 not now\r\n"),
            1 => {
                self.recipients.iter().for_each(|recipient| self.sink.ledger.fail(recipient, self.number));
                self.begin("554 5.6.0 not this one\r\n");
            }
            2 => return Err(Lost::End),
            3 => {
                self.take(false);
                return Err(Lost::End);
            }
            4 => {
                self.take(false);
                self.stall().await;
                return Err(Lost::Late);
            }
            _ => {
                self.stall().await;
                return Err(Lost::Late);
            }
        }
        Ok(())
    }

    /// Takes it, with a 250 or without.
    fn take(&mut self, with_reply: bool) {
        let heard = Rc::new(Cell::new(false));
        self.sink
            .sim
            .world
            .tell(|| format!("sink {}: takes from {}, answers {with_reply}", self.sink.at, self.talk.conn.peer()));
        let arrival = Arrival { at: self.sink.sim.now(), heard: heard.clone() };
        for recipient in &self.recipients {
            if recipient.ends_with(SENDERS) {
                self.sink.ledger.report(recipient, &self.content, &arrival);
            } else {
                self.sink.ledger.arrive(recipient, &self.content, arrival.clone());
            }
        }
        if with_reply {
            let before = self.talk.conn.said();
            self.begin("250 2.0.0 taken\r\n");
            // On a broken connection it is not even sent.
            if self.talk.conn.said() > before {
                self.unheard.push((self.talk.conn.said(), heard));
            }
        }
    }

    /// Notes which of our answers the peer has taken.
    fn hear(&mut self) {
        let heard = self.talk.conn.heard();
        self.unheard.retain(|(end, told)| {
            told.set(*end <= heard);
            *end > heard
        });
    }

    async fn stall(&mut self) {
        let until: Tick = self.sink.sim.now() + Span::minutes(3);
        while self.sink.sim.now() < until {
            // Reads and says nothing.
            match self.talk.conn.next(until, |octets| (octets.len(), ())).await {
                crate::io::driver::Next::End | crate::io::driver::Next::Broken(_) => return,
                _ => {}
            }
        }
    }
}

/// `FROM:<N17@SENDER.TEST>` is the 17th message's.
fn number_in_path(rest: &str) -> Option<usize> {
    rest.split_once("<N")?.1.split_once('@')?.0.parse().ok()
}
