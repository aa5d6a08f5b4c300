//! The client session against a server that says anything, in pieces: no panic, and every transaction is accounted for
//! exactly once.
#![no_main]

use engine::smtp::Dialect;
use engine::smtp::client::{
    Body, BodyForm, ClientEvent, ClientOptions, ClientSession, DownReason, Outbox, Transaction,
};
use engine::wire::{EnvelopeBuf, Mailbox, Tick};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

#[derive(Default)]
struct Sent {
    text: Vec<u8>,
    bodies: u32,
}

impl Outbox for Sent {
    fn text(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }
    fn body(&mut self, _: u32, _: BodyForm) {
        self.bodies += 1;
    }
}

fuzz_target!(|input: &[u8]| {
    let [flags, step, stream @ ..] = input else { return };
    let dialect = if flags & 1 == 0 { Dialect::Smtp } else { Dialect::Lmtp };
    let options = ClientOptions { dialect, in_flight_max: 3, instance: "me".into(), ..ClientOptions::new("c.test") };
    let mut client = ClientSession::new(Arc::new(options), Tick(0));
    let mut envelope = EnvelopeBuf::new();
    for to in ["b@b.test", "c@c.test", "d@d.test"] {
        envelope.add_recipient(Mailbox::parse(to.as_bytes()).expect("a mailbox").as_ref());
    }
    let facts = engine::smtp::content_facts(b"x\r\n");
    let (mut sent, mut events, mut down) = (Sent::default(), Vec::new(), false);
    let (mut offered, mut over) = (0u32, 0u32);
    let mut unread = Vec::new();
    for piece in stream.chunks(usize::from(*step).max(1)) {
        unread.extend_from_slice(piece);
        loop {
            let (taken, event) = client.on_bytes(&unread, Tick(0), &mut sent);
            unread.drain(..taken);
            match event {
                ClientEvent::More => break,
                ClientEvent::Done { token, .. } | ClientEvent::NotAttempted { token } => {
                    assert!(!events.contains(&token), "twice over");
                    events.push(token);
                    over += 1;
                }
                ClientEvent::Recipient { token, index, .. } => {
                    assert!(index < 3 && token < offered && !events.contains(&token));
                }
                ClientEvent::Down(reason) => {
                    down = true;
                    assert_ne!(reason, DownReason::Quit);
                }
                ClientEvent::Ready => {}
            }
        }
        while client.room() > 0 && offered < 50 {
            let transaction = Transaction {
                envelope: envelope.as_ref(),
                recipients: None,
                facts: &facts,
                body: Body::Whole(3),
                identity: None,
            };
            if client.offer(offered, &transaction, Tick(0), &mut sent).is_err() {
                break;
            }
            offered += 1;
        }
    }
    assert!(unread.len() < 4096 || down);
    let left = client.unfinished().count() as u32;
    assert_eq!(over + left, offered, "every transaction is over or unfinished");
});
