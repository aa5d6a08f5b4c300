//! An outbox in memory, messages, and a peer that says what it is told.

use crate::smtp::client::*;
use crate::smtp::scan::Scan;
use crate::smtp::stuff::Stuffer;
use crate::wire::{ContentFacts, EnvelopeBuf, Mailbox, Notify, PathLimits, Return, ReversePathRef, Tick};
use std::sync::Arc;

/// A message to send.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    pub envelope: EnvelopeBuf,
    pub content: Vec<u8>,
    pub facts: ContentFacts,
}

pub(super) fn mail(from: &str, to: &[&str], content: &[u8]) -> Mail {
    let parse = |text: &str| Mailbox::parse(text.as_bytes()).expect("a mailbox");
    let mut envelope = EnvelopeBuf::new();
    match from {
        "" => envelope.set_reverse_path(ReversePathRef::Null),
        from => envelope.set_reverse_path(ReversePathRef::Mailbox(parse(from).as_ref())),
    }
    for to in to {
        envelope.add_recipient(parse(to).as_ref());
    }
    let mut scan = Scan::new();
    scan.plain(content);
    scan.finish();
    Mail { envelope, content: content.to_vec(), facts: *scan.facts() }
}

/// A message whose sender said what he wants to hear of.
pub(super) fn with_reports() -> Mail {
    let mut envelope = EnvelopeBuf::new();
    envelope.read_reverse_path(b"<a@a.test>", PathLimits::RFC).expect("a path");
    envelope.set_report(Some(Return::Headers), Some(b"QQ+2B1"));
    for (to, notify, original) in [
        (&b"<b@b.test>"[..], Some(Notify::FAILURE | Notify::DELAY), Some(&b"rfc822;Bob+2Bx@b.test"[..])),
        (b"<c@b.test>", Some(Notify::NEVER), None),
        (b"<d@b.test>", None, None),
    ] {
        envelope.stage_recipient(to, PathLimits::RFC).expect("a path");
        envelope.set_staged_report(notify, original);
        envelope.commit();
    }
    Mail { envelope, ..mail("a@a.test", &["b@b.test"], b"hi\r\n") }
}

/// What was sent, with bodies in their places.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub sent: Vec<u8>,
    pub bodies: Vec<(u32, Mail)>,
    pub replied: Vec<(u32, Stage)>,
}

impl Outbox for Wire {
    fn text(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
    }

    fn replied(&mut self, token: u32, stage: Stage) {
        self.replied.push((token, stage));
    }

    fn body(&mut self, token: u32, form: BodyForm) {
        let (_, mail) = self.bodies.iter().rev().find(|(of, _)| *of == token).expect("offered").clone();
        match form {
            BodyForm::Bdat => self.sent.extend_from_slice(&mail.content),
            BodyForm::Data => {
                let (mut stuffer, mut at) = (Stuffer::new(), 0);
                for dot in stuffer.dots(&mail.content) {
                    self.sent.extend_from_slice(&mail.content[at..dot]);
                    self.sent.push(b'.');
                    at = dot;
                }
                self.sent.extend_from_slice(&mail.content[at..]);
                self.sent.extend_from_slice(stuffer.end());
            }
        }
    }
}

pub(super) struct Talk {
    pub client: ClientSession,
    pub wire: Wire,
    pub now: Tick,
    unread: Vec<u8>,
}

impl Talk {
    pub fn new(options: ClientOptions) -> Self {
        Self {
            client: ClientSession::new(Arc::new(options), Tick(0)),
            wire: Wire::default(),
            now: Tick(0),
            unread: Vec::new(),
        }
    }

    /// Greeted by a peer that offers these extensions.
    pub fn ready(options: ClientOptions, extensions: &[&str]) -> Self {
        let mut talk = Self::new(options);
        assert_eq!(talk.hear(b"220 peer.test ESMTP\r\n"), []);
        let mut reply = String::from("250-peer.test\r\n");
        for extension in extensions {
            reply += &format!("250-{extension}\r\n");
        }
        reply += "250 HELP\r\n";
        assert_eq!(talk.hear(reply.as_bytes()), [ClientEvent::Ready]);
        talk.sent();
        talk
    }

    pub fn offer(&mut self, token: u32, mail: &Mail) -> Result<(), CannotSend> {
        self.offer_as(Body::Whole(mail.content.len() as u64), token, mail)
    }

    /// The same, its body to follow chunk by chunk: each is the mail's content.
    pub fn stream(&mut self, token: u32, mail: &Mail) -> Result<(), CannotSend> {
        self.offer_as(Body::Streamed, token, mail)
    }

    fn offer_as(&mut self, body: Body, token: u32, mail: &Mail) -> Result<(), CannotSend> {
        self.wire.bodies.push((token, mail.clone()));
        let envelope = mail.envelope.as_ref();
        let transaction = Transaction { envelope, recipients: None, facts: &mail.facts, body, identity: None };
        self.client.offer(token, &transaction, self.now, &mut self.wire)
    }

    /// All events that these octets cause, behind those that were left before, without the `More` at the end.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<ClientEvent> {
        self.unread.extend_from_slice(bytes);
        let mut events = Vec::new();
        loop {
            let (taken, event) = self.client.on_bytes(&self.unread, self.now, &mut self.wire);
            self.unread.drain(..taken);
            match event {
                ClientEvent::More => return events,
                event => events.push(event),
            }
        }
    }

    /// What was sent since the last time.
    pub fn sent(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.wire.sent)).expect("ASCII")
    }
}
