//! What a client session wants sent, in order, until it is handed to the connection; and what a connection is asked or told
//! for a session in the same way, whoever holds both.

use crate::io::driver::{Conn, Next};
use crate::smtp::client::{BodyForm, ClientEvent, ClientSession, Outbox};
use crate::wire::Tick;

/// Commands, and the places between them where bodies go. Keeps its memory.
#[derive(Debug, Default)]
pub struct Outbound {
    text: Vec<u8>,
    /// Text up to here, then this body.
    bodies: Vec<(usize, u32, BodyForm)>,
}

impl Outbox for Outbound {
    fn text(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    fn body(&mut self, token: u32, form: BodyForm) {
        self.bodies.push((self.text.len(), token, form));
    }
}

impl Outbound {
    /// Whether the body of a token was asked for and is not yet handed over.
    pub fn holds(&self, token: u32) -> bool {
        self.bodies.iter().any(|(_, of, _)| *of == token)
    }

    /// Forgets everything: nothing more may be said on this connection.
    pub fn clear(&mut self) {
        self.text.clear();
        self.bodies.clear();
    }

    /// Queues everything on `conn`; `body` queues the body of a token.
    pub fn flush<C: Conn>(&mut self, conn: &mut C, mut body: impl FnMut(&mut C, u32, BodyForm)) {
        let mut from = 0;
        for (to, token, form) in self.bodies.drain(..) {
            conn.put(&self.text[from..to]);
            from = to;
            body(conn, token, form);
        }
        conn.put(&self.text[from..]);
        self.text.clear();
    }
}

/// The session's deadline has passed: what it makes of that, once it knows when octets last left, and
/// of those that wait when the peer last took any (F-083).
pub fn on_deadline<C: Conn>(session: &mut ClientSession, conn: &C, now: Tick) -> ClientEvent {
    let unsent = conn.unsent() > 0;
    session.on_sent(if unsent { conn.taken_at() } else { conn.sent_at() }, unsent);
    session.on_timeout(now, unsent)
}

/// Waits for the answer to QUIT, at the latest until `by` (M-014). What is noted meanwhile means nothing any more.
pub async fn farewell<C: Conn>(conn: &mut C, by: Tick) {
    while let Next::Note(_) | Next::Room = conn.next(by, |octets| (octets.len(), ())).await {}
}
