//! The server session under arbitrary octets, in arbitrary pieces, shown or received into chunks: no panic, bounded memory,
//! consistent events, and the same replies and messages for every split.
#![no_main]

use engine::smtp::Profile;
use engine::smtp::server::{AcceptAll, Aimed, Event, ServerOptions, ServerSession, Slot, Verdict};
use engine::wire::{EnvelopeRef, Tick};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

struct Run {
    session: ServerSession,
    out: Vec<u8>,
    unread: Vec<u8>,
    undecided: Vec<u8>,
    body: Option<Vec<u8>>,
    messages: Vec<(Vec<u8>, Vec<u8>)>,
    closed: bool,
    aimed: bool,
}

impl Run {
    fn new(flags: u8, aimed: bool) -> Self {
        let profile = if flags & 1 == 0 { Profile::Rfc } else { Profile::Exchange };
        let mut options =
            ServerOptions { size_max: 2000, strict_pipelining: false, ..ServerOptions::new(profile, "mx.test") };
        options.extensions.binary_mime = flags & 2 != 0;
        options.timers.tarpit = engine::wire::Span::ZERO;
        let at = "192.0.2.1:25".parse().expect("an address");
        let session = ServerSession::new(Arc::new(options), at, at, flags & 4 != 0, Tick(0));
        Self {
            session,
            out: vec![],
            unread: vec![],
            undecided: vec![],
            body: None,
            messages: vec![],
            closed: false,
            aimed,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.aimed && self.session.aim_hint().is_some() && self.unread.is_empty() && !self.closed {
            self.aim(bytes);
        } else {
            self.unread.extend_from_slice(bytes);
        }
        while !self.closed {
            let step = self.session.step(&self.unread, Tick(0), &AcceptAll, &mut self.out);
            let shown = std::mem::take(&mut self.unread);
            self.unread = shown[step.consumed..].to_vec();
            match step.event {
                Event::More => break,
                Event::Paused => panic!("every verdict is given at once"),
                Event::Body(range) => self.body.as_mut().expect("begun").extend_from_slice(&shown[range]),
                other => self.event(other),
            }
        }
        assert!(self.session.held_bytes() < 256 << 10);
    }

    fn aim(&mut self, bytes: &[u8]) {
        let mut octets = std::mem::take(&mut self.undecided);
        octets.extend_from_slice(bytes);
        let Aimed { content, undecided, rest, event } = self.session.on_aimed(&mut octets, Tick(0), &mut self.out);
        if let Some(body) = &mut self.body {
            body.extend_from_slice(&octets[..content]);
        }
        self.undecided = octets[content..content + undecided].to_vec();
        self.unread = octets[rest].to_vec();
        self.event(event);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Begin { .. } => assert!(self.body.replace(vec![]).is_none()),
            Event::Message(slot) => self.message(slot),
            Event::Discard => assert!(self.body.take().is_some()),
            Event::Close => self.closed = true,
            Event::Insert(_) => panic!("not asked for"),
            Event::More | Event::Paused | Event::Body(_) => {}
        }
    }

    fn message(&mut self, slot: Slot) {
        let envelope = self.session.envelope().bytes().to_vec();
        let read = EnvelopeRef::parse(&envelope).expect("sound");
        assert!(read.recipient_count() > 0);
        let body = self.body.take().expect("begun");
        assert_eq!(engine::smtp::content_facts(&body), *self.session.content());
        self.messages.push((envelope, body));
        self.session.on_verdict(slot, Verdict::Accepted { id: 7, message_id: b"" }, Tick(0), &mut self.out);
    }
}

fuzz_target!(|input: &[u8]| {
    let [flags, step, stream @ ..] = input else { return };
    let (mut whole, mut split) = (Run::new(*flags, false), Run::new(*flags, flags & 8 != 0));
    whole.feed(stream);
    for piece in stream.chunks(usize::from(*step).max(1)) {
        split.feed(piece);
    }
    // A line with a bare CR or LF closes only if octets are pending (M-020), and that hangs on the split.
    let guessed = |out: &[u8]| out.windows(24).any(|text| text == b"an end other than CRLF\r\n");
    if !guessed(&whole.out) && !guessed(&split.out) {
        assert_eq!((&whole.out, &whole.messages), (&split.out, &split.messages));
    }
    assert!(whole.out.is_ascii());
    assert!(
        whole.out.split_inclusive(|&octet| octet == b'\n').all(|line| line.ends_with(b"\r\n") && line.len() <= 512)
    );
});
