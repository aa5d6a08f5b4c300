//! A conversation in lines, for simulated senders and sinks: the peers of our servers, so none of their code.

use super::conn::SimConn;
use super::driver::Sim;
use crate::io::driver::{Conn, Driver, Next};
use crate::wire::Span;
use std::net::SocketAddr;

/// Why a conversation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The peer sends no more.
    End,
    /// The connection broke.
    Broken,
    /// Nothing came in time.
    Late,
}

/// A conversation over one connection.
pub struct Talk {
    sim: Sim,
    /// The connection.
    pub conn: SimConn,
    pending: Vec<u8>,
    wait: Span,
    /// The last line of the last reply.
    pub last: String,
}

impl Talk {
    /// Over `conn`; each answer is waited for so long.
    pub fn new(sim: Sim, conn: SimConn, wait: Span) -> Self {
        Self { sim, conn, pending: Vec::new(), wait, last: String::new() }
    }

    /// The same with `to`, as soon as anybody listens there.
    pub async fn reach(sim: Sim, to: SocketAddr, wait: Span) -> Self {
        loop {
            match sim.connect(to, sim.now() + Span::seconds(5)).await {
                Ok(conn) => return Self::new(sim, conn, wait),
                Err(_) => sim.sleep(Span::millis(50)).await,
            }
        }
    }

    /// Queues octets.
    pub fn say(&mut self, octets: impl AsRef<[u8]>) {
        self.conn.put(octets.as_ref());
    }

    /// Whether something was received and not yet looked at.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    async fn more(&mut self) -> Result<(), Lost> {
        let by = self.sim.now() + self.wait;
        loop {
            match self.conn.next(by, |octets| (octets.len(), octets.to_vec())).await {
                Next::Bytes(octets) => {
                    self.pending.extend(octets);
                    return Ok(());
                }
                Next::Room | Next::Note(_) | Next::Filled(..) => {}
                Next::End => return Err(Lost::End),
                Next::Broken(_) => return Err(Lost::Broken),
                Next::Deadline => return Err(Lost::Late),
            }
        }
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// When there is none.
    pub async fn line(&mut self) -> Result<Vec<u8>, Lost> {
        let mut looked = 0;
        loop {
            if let Some(end) = self.pending[looked..].windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.pending.drain(..looked + end + 2).collect();
                line.truncate(looked + end);
                return Ok(line);
            }
            looked = self.pending.len().saturating_sub(1);
            self.more().await?;
        }
    }

    /// The next `count` octets.
    ///
    /// # Errors
    /// When there are fewer.
    pub async fn octets(&mut self, count: usize) -> Result<Vec<u8>, Lost> {
        while self.pending.len() < count {
            self.more().await?;
        }
        Ok(self.pending.drain(..count).collect())
    }

    /// Everything up to the dot that ends it, unstuffed.
    ///
    /// # Errors
    /// When the dot does not come.
    pub async fn until_dot(&mut self) -> Result<Vec<u8>, Lost> {
        let mut content = Vec::new();
        loop {
            let line = self.line().await?;
            if line == b"." {
                return Ok(content);
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            content.extend_from_slice(b"\r\n");
        }
    }

    /// The code of the next reply.
    ///
    /// # Errors
    /// When none comes.
    pub async fn reply(&mut self) -> Result<u16, Lost> {
        loop {
            let line = self.line().await?;
            if line.get(3) != Some(&b'-') {
                self.last = String::from_utf8_lossy(&line).into_owned();
                let code = line.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
                return code.ok_or(Lost::Broken);
            }
        }
    }
}

/// `content` as DATA sends it: dots doubled, the final dot behind it.
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(content.len() + 64);
    let mut at_start = true;
    for &octet in content {
        if at_start && octet == b'.' {
            sent.push(b'.');
        }
        sent.push(octet);
        at_start = octet == b'\n';
    }
    sent.extend_from_slice(b".\r\n");
    sent
}
