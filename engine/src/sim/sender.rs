//! Simulated senders: SMTP clients of several manners, which write into the ledger what they were told.

use super::chance::Chance;
use super::driver::Sim;
use super::ledger::{Ledger, Verdict};
use super::talk::{Lost, Talk, stuffed};
use crate::io::driver::Driver;
use crate::wire::{Span, Tick};
use std::net::SocketAddr;
use std::rc::Rc;

/// How long a sender waits for an answer.
const ANSWER_WAIT: Span = Span::seconds(60);

/// Who sends what.
pub struct Sender {
    /// Its thread.
    pub sim: Sim,
    /// Where it connects: one of these each time.
    pub to: Vec<SocketAddr>,
    /// Domains that it sends to.
    pub domains: Vec<String>,
    /// Messages that it begins.
    pub messages: usize,
    /// It begins none after this.
    pub until: Tick,
    /// The longest pause between two sessions.
    pub pause: Span,
    /// The largest content.
    pub bytes_max: usize,
    /// Where it writes.
    pub ledger: Rc<Ledger>,
    /// What it draws from.
    pub chance: Chance,
}

/// How a session speaks.
#[derive(Debug, Clone, Copy)]
struct Manner {
    bdat: bool,
    pipelined: bool,
    /// Transactions begun before the first answer is read.
    ahead: usize,
}

/// A message under way.
struct Sending {
    number: usize,
    content: Rc<[u8]>,
    recipients: Vec<String>,
    /// Chunks it was queued in.
    chunks: usize,
}

impl Sender {
    /// Sends until it has begun all its messages or its time is over.
    pub async fn run(mut self) {
        while self.messages > 0 && self.sim.now() < self.until {
            let to = *self.chance.one_of(&self.to);
            if let Ok(conn) = self.sim.connect(to, self.sim.now() + Span::seconds(5)).await {
                let talk = Talk::new(self.sim.clone(), conn, ANSWER_WAIT);
                // However the session ended, the ledger knows what became of its messages.
                let ended = self.session(talk).await;
                self.sim.world.tell(|| format!("a session with {to} ends, {ended:?}"));
            }
            let pause = self.chance.span(Span::micros(10)..self.pause);
            self.sim.sleep(pause).await;
        }
    }

    async fn session(&mut self, mut talk: Talk) -> Result<(), Lost> {
        if talk.reply().await? != 220 {
            return Err(Lost::End);
        }
        talk.say(b"EHLO sender.test\r\n");
        if talk.reply().await? != 250 {
            return Err(Lost::End);
        }
        let bdat = self.chance.once_in(2);
        let pipelined = self.chance.below(4) > 0;
        let ahead = if bdat && pipelined { 1 + self.chance.index(8) } else { 1 };
        let manner = Manner { bdat, pipelined, ahead };
        self.sim.world.tell(|| format!("a session: {manner:?}"));
        let most = 1 + self.chance.index(12);
        for _ in 0..most {
            if self.messages == 0 || self.sim.now() >= self.until {
                break;
            }
            self.round(&mut talk, manner).await?;
        }
        talk.say(b"QUIT\r\n");
        talk.reply().await.map(|_| ())
    }

    fn next_message(&mut self) -> Sending {
        self.messages -= 1;
        let count = if self.chance.once_in(4) { 1 + self.chance.index(5) } else { 1 };
        let mut recipients: Vec<String> = (0..count)
            .map(|_| format!("user{}@{}", self.chance.below(50), self.chance.one_of(&self.domains)))
            .collect();
        recipients.sort();
        recipients.dedup();
        let most = match self.chance.below(16) {
            0 => self.bytes_max,
            1..4 => self.bytes_max / 16,
            _ => 3_000,
        };
        let bytes = 60 + self.chance.index(most);
        let (number, content) = self.ledger.intend(&self.chance, recipients.clone(), bytes);
        Sending { number, content, recipients, chunks: 0 }
    }

    /// Some transactions, begun one behind the other; their answers.
    async fn round(&mut self, talk: &mut Talk, manner: Manner) -> Result<(), Lost> {
        let ahead = manner.ahead.min(self.messages);
        let mut all: Vec<Sending> = (0..ahead).map(|_| self.next_message()).collect();
        let mut lost = Ok(());
        if manner.pipelined && manner.bdat {
            for sending in &mut all {
                self.queue_whole(talk, sending);
            }
        }
        for sending in &mut all {
            if lost.is_ok() {
                lost = self.transaction(talk, sending, manner).await;
            }
            if lost.is_err() {
                self.tell_all(sending, Verdict::Unknown);
            }
        }
        lost
    }

    fn tell_all(&self, sending: &Sending, verdict: Verdict) {
        (0..sending.recipients.len()).for_each(|recipient| self.ledger.tell(sending.number, recipient, verdict));
    }

    fn envelope(&self, sending: &Sending) -> Vec<String> {
        let size = sending.content.len();
        let ret = if sending.number.is_multiple_of(4) { " RET=FULL" } else { "" };
        let mail = format!("MAIL FROM:<n{}@sender.test> SIZE={size}{ret}\r\n", sending.number);
        let recipients = sending.recipients.iter().enumerate().map(|(at, recipient)| {
            let wish = self.ledger.wish(sending.number, at).map(|wish| format!(" NOTIFY={wish}")).unwrap_or_default();
            format!("RCPT TO:<{recipient}>{wish}\r\n")
        });
        std::iter::once(mail).chain(recipients).collect()
    }

    /// Envelope and content, without waiting for anything.
    fn queue_whole(&self, talk: &mut Talk, sending: &mut Sending) {
        // What came of a refused chunk is undefined until RSET (RFC 3030 section 2).
        talk.say(b"RSET\r\n");
        self.envelope(sending).iter().for_each(|line| talk.say(line));
        self.queue_chunks(talk, sending);
    }

    fn queue_chunks(&self, talk: &mut Talk, sending: &mut Sending) {
        let content = sending.content.clone();
        let mut left = &content[..];
        let cuts = self.chance.index(3);
        for _ in 0..cuts {
            let (now, rest) = left.split_at(self.chance.index(left.len()));
            talk.say(format!("BDAT {}\r\n", now.len()));
            talk.say(now);
            left = rest;
        }
        talk.say(format!("BDAT {} LAST\r\n", left.len()));
        talk.say(left);
        sending.chunks = cuts + 1;
    }

    /// One transaction's answers, with what is to be said between them.
    async fn transaction(&self, talk: &mut Talk, sending: &mut Sending, manner: Manner) -> Result<(), Lost> {
        let lines = self.envelope(sending);
        if manner.pipelined && !manner.bdat {
            lines.iter().for_each(|line| talk.say(line));
            talk.say(b"DATA\r\n");
        }
        if manner.pipelined && manner.bdat {
            self.answer(talk, &[]).await?;
        }
        let mut taken = Vec::new();
        // Behind a refusal the rest is out of sequence.
        let mut refused = false;
        for (at, line) in lines.iter().enumerate() {
            if !manner.pipelined {
                talk.say(line);
            }
            let code = self.answer(talk, if refused { &[503] } else { &[] }).await?;
            refused |= code != 250;
            if at > 0 {
                taken.push(code == 250);
            }
        }
        let any = taken.contains(&true);
        let code = match (manner.bdat, any || manner.pipelined) {
            (true, true) => self.finish_chunks(talk, sending, manner).await?,
            (false, true) => self.finish_data(talk, sending, manner).await?,
            (_, false) => 0,
        };
        if code != 250 && !(manner.pipelined && manner.bdat) {
            talk.say(b"RSET\r\n");
            self.answer(talk, &[]).await?;
        }
        for (recipient, taken) in taken.into_iter().enumerate() {
            let verdict = if taken && code == 250 { Verdict::Acknowledged } else { Verdict::Refused };
            self.ledger.tell(sending.number, recipient, verdict);
        }
        Ok(())
    }

    async fn finish_chunks(&self, talk: &mut Talk, sending: &mut Sending, manner: Manner) -> Result<u16, Lost> {
        if !manner.pipelined {
            self.queue_chunks(talk, sending);
        }
        let mut code = 0;
        for _ in 0..sending.chunks {
            code = talk.reply().await?;
            self.is_fair(talk, code, &[503, 554]);
            if code == 421 {
                return Err(Lost::End);
            }
        }
        Ok(code)
    }

    async fn finish_data(&self, talk: &mut Talk, sending: &Sending, manner: Manner) -> Result<u16, Lost> {
        if !manner.pipelined {
            talk.say(b"DATA\r\n");
        }
        let code = talk.reply().await?;
        self.is_fair(talk, code, &[503, 554]);
        if code != 354 {
            return if code == 421 { Err(Lost::End) } else { Ok(code) };
        }
        talk.say(stuffed(&sending.content));
        self.answer(talk, &[]).await
    }

    /// The next answer, which must not blame the message, but by one of these codes.
    async fn answer(&self, talk: &mut Talk, except: &[u16]) -> Result<u16, Lost> {
        let code = talk.reply().await?;
        self.is_fair(talk, code, except);
        if code == 421 { Err(Lost::End) } else { Ok(code) }
    }

    fn is_fair(&self, talk: &Talk, code: u16, except: &[u16]) {
        if code >= 500 && !except.contains(&code) {
            self.ledger.breach("I-9", format!("a good message was answered with {}", talk.last));
        }
    }
}
