//! The last thing that went wrong with a queue: a connection that failed, or a next hop that said no, in its own words. It
//! stands until the next one; its age tells whether it matters still.

use super::Queues;
use super::health::Cause;
use super::link::ConnId;
use crate::wire::{Reply, Tick};
use std::fmt;

/// Octets of a reply that are kept.
const REPLY_BYTES_MAX: usize = 200;

/// The last trouble of one queue; the memory of its text is used again.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    at: Tick,
    conn: Option<ConnId>,
    cause: Option<Cause>,
    reply: String,
}

/// The last error of a queue on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastError<'a> {
    /// When it was.
    pub at: Tick,
    /// Why a connection ended or was not made; `None`: a message was refused or put off.
    pub cause: Option<Cause>,
    /// What the next hop said, without addresses of people; empty when it said nothing.
    pub reply: &'a str,
}

impl fmt::Display for LastError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.cause, self.reply) {
            (None, reply) => f.write_str(reply),
            (Some(cause), "") => cause.fmt(f),
            (Some(cause), reply) => write!(f, "{cause}: {reply}"),
        }
    }
}

impl Queues {
    /// The host behind a connection said 4yz or 5yz: to a message, or as the end of the session, before
    /// [`Queues::closed`] is told of it.
    pub fn said_no(&mut self, conn: ConnId, reply: &Reply, now: Tick) {
        if let Some(index) = self.link(conn) {
            let hop = self.links[index as usize].hop;
            self.hops[hop as usize].trouble.on_reply(conn, reply, now);
        }
    }
}

impl Trouble {
    fn on_reply(&mut self, conn: ConnId, reply: &Reply, now: Tick) {
        (self.at, self.conn, self.cause) = (now, Some(conn), None);
        keep(&mut self.reply, reply);
    }

    /// A connection failed, or was not made.
    pub fn on_failure(&mut self, conn: ConnId, cause: Cause, now: Tick) {
        let told = matches!(cause, Cause::Greeting(_) | Cause::Hello(_) | Cause::Mail(_) | Cause::PushBack);
        if !told || self.conn != Some(conn) {
            self.reply.clear();
        }
        (self.at, self.conn, self.cause) = (now, Some(conn), Some(cause));
    }

    pub fn last(&self) -> Option<LastError<'_>> {
        self.conn.map(|_| LastError { at: self.at, cause: self.cause, reply: &self.reply })
    }
}

/// Code, status and text, cut to the bound; words with an address in them are left out.
fn keep(kept: &mut String, reply: &Reply) {
    use fmt::Write as _;
    kept.clear();
    // Writing to a String cannot fail.
    let _never = write!(kept, "{}", reply.code());
    if let Some(status) = reply.enhanced() {
        let _never = write!(kept, " {status}");
    }
    for word in words(reply.text()) {
        let word = if word.contains('@') { "<address>" } else { word };
        if kept.len() + 1 + word.len() > REPLY_BYTES_MAX {
            break;
        }
        kept.push(' ');
        kept.push_str(word);
    }
}

/// The words of a text; a path and a quoted string are one word, whatever stands in them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let (mut in_path, mut in_quotes) = (false, false);
    let words = text.split(move |letter: char| {
        match letter {
            '"' => in_quotes = !in_quotes,
            '<' if !in_quotes => in_path = true,
            '>' if !in_quotes => in_path = false,
            _ => {}
        }
        letter.is_ascii_whitespace() && !in_path && !in_quotes
    });
    words.filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::EnhancedStatus;

    fn reply(code: u16, text: &str) -> Reply {
        let status = EnhancedStatus::new(u8::try_from(code / 100).expect("a class"), 2, 1);
        Reply::new(code, Some(status), text.as_bytes()).expect("a reply")
    }

    fn conn(index: u32) -> ConnId {
        ConnId { index, serial: 1 }
    }

    fn said(trouble: &Trouble) -> Option<String> {
        trouble.last().map(|last| last.to_string())
    }

    #[test]
    fn the_last_error_is_what_was_said_last_and_tells_no_address() {
        let mut trouble = Trouble::default();
        assert_eq!(said(&trouble), None);
        trouble.on_reply(conn(0), &reply(450, "<bob@b.test>:  mailbox is busy"), Tick(5));
        assert_eq!(said(&trouble).as_deref(), Some("450 4.2.1 <address> mailbox is busy"));
        trouble.on_reply(conn(0), &reply(450, "no <\"ann smith\"@b.test> or \"bob jones\"@b.test, <x>"), Tick(5));
        assert_eq!(said(&trouble).as_deref(), Some("450 4.2.1 no <address> or <address> <x>"));
        trouble.on_failure(conn(0), Cause::Broken, Tick(6));
        assert_eq!(said(&trouble).as_deref(), Some("connection broken"), "what was said before is no part of it");
        trouble.on_reply(conn(1), &reply(554, "go away"), Tick(7));
        trouble.on_failure(conn(1), Cause::Greeting(554), Tick(7));
        assert_eq!(said(&trouble).as_deref(), Some("greeted with 554: 554 5.2.1 go away"));
        trouble.on_failure(conn(2), Cause::PushBack, Tick(8));
        assert_eq!(said(&trouble).as_deref(), Some("closed with 421"), "another connection's words");
        assert_eq!(trouble.last().map(|last| last.at), Some(Tick(8)));
    }

    #[test]
    fn a_long_reply_is_cut_between_words() {
        let mut kept = String::new();
        keep(&mut kept, &reply(550, &"word ".repeat(90)));
        assert!(kept.len() <= REPLY_BYTES_MAX && kept.ends_with(" word"), "{kept}");
    }
}
