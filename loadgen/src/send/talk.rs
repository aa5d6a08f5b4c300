//! One connection's messages: which one next, its envelope and body, what each reply means for it, and when. Owns no
//! socket and no clock: the shell moves the octets and tells the time.

use super::lane::Lane;
use crate::record::{MessageRecord, State};
use crate::stamp::Stamp;
use crate::workload::content::{Content, Source};
use crate::workload::recipients::Recipients;
use engine::io::driver::Conn;
use engine::smtp::client::{
    Body, BodyForm, CannotSend, Class, ClientEvent, ClientOptions, ClientSession, DownReason, Outbox, Stage,
    Transaction, Unfinished,
};
use engine::sys::slice::Slice;
use engine::wire::{EnvelopeBuf, Mailbox, PathLimits, Tick};
use std::sync::Arc;

/// What a shard's messages are made of.
pub(super) struct Workload {
    pub(super) source: Source,
    pub(super) contents: Vec<Content>,
    pub(super) recipients: Arc<Recipients>,
    pub(super) mailboxes: Arc<Vec<Mailbox>>,
    pub(super) run: u32,
    pub(super) sender_domain: String,
}

/// Part of what is to be sent.
pub(super) enum Part<'a> {
    /// Commands: to be copied.
    Text(&'a [u8]),
    /// A body.
    Body(&'a Slice),
}

/// What the session wants sent, in order, and what it heard.
#[derive(Default)]
struct Out {
    text: Vec<u8>,
    /// Bodies, each behind so many octets of text.
    bodies: Vec<(usize, u32, BodyForm)>,
    /// Replies read since the last look.
    heard: Vec<(u32, Stage)>,
}

impl Outbox for Out {
    fn text(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    fn body(&mut self, token: u32, form: BodyForm) {
        self.bodies.push((self.text.len(), token, form));
    }

    fn replied(&mut self, token: u32, stage: Stage) {
        self.heard.push((token, stage));
    }
}

/// One connection.
pub(super) struct Talk {
    session: ClientSession,
    out: Out,
    in_flight_max: usize,
    envelope: EnvelopeBuf,
    path: String,
    /// When the greeting was read, and when EHLO was answered.
    pub(super) greeted: Option<Tick>,
    pub(super) ready: Option<Tick>,
    /// Why this target cannot be used, although it greeted us.
    pub(super) useless: Option<&'static str>,
}

impl Talk {
    pub(super) fn new(options: Arc<ClientOptions>, now: Tick) -> Self {
        Self {
            in_flight_max: options.in_flight_max,
            session: ClientSession::new(options, now),
            out: Out::default(),
            envelope: EnvelopeBuf::new(),
            path: String::new(),
            greeted: None,
            ready: None,
            useless: None,
        }
    }

    /// Whether another message may be offered now.
    pub(super) fn has_room(&self) -> bool {
        self.session.in_flight() < self.in_flight_max && self.session.room() > 0
    }

    pub(super) fn is_ready(&self) -> bool {
        self.session.is_ready()
    }

    /// Nothing is under way and nothing more may be offered: its time is over, or its target takes none.
    pub(super) fn is_over(&self) -> bool {
        self.session.is_ready() && self.session.in_flight() == 0 && self.session.room() == 0
    }

    pub(super) fn offers_chunking(&self) -> bool {
        self.session.peer().chunking
    }

    pub(super) fn deadline(&self, unsent: bool) -> Tick {
        self.session.deadline(unsent)
    }

    /// Offers messages of `lane` as long as there is room and anything waits.
    pub(super) fn offer(&mut self, lane: &mut Lane, load: &Workload, now: &impl Fn() -> Tick) {
        while self.has_room() {
            let at = now();
            lane.take_due(at);
            let Some(index) = lane.next(at) else { return };
            match self.offer_one(index, lane, load, at) {
                Ok(()) => {}
                Err(CannotSend::Busy) => {
                    lane.give_back(index);
                    return;
                }
                Err(_) => lane.end(index, State::Rejected, 0, at),
            }
        }
    }

    fn offer_one(&mut self, index: u32, lane: &mut Lane, load: &Workload, now: Tick) -> Result<(), CannotSend> {
        let seq = lane.seq(index);
        let number = load.source.pick(seq);
        let content = load.contents.get(number as usize).ok_or(CannotSend::Nobody)?;
        self.address(seq, content, load);
        let transaction = Transaction {
            envelope: self.envelope.as_ref(),
            recipients: None,
            facts: &content.facts,
            body: Body::Whole(content.bytes),
            identity: None,
        };
        if let Some((record, intended)) = lane.record(index) {
            record.content = number;
            record.started_us = MessageRecord::offset_us(intended, now);
        }
        self.session.offer(index, &transaction, now, &mut self.out)
    }

    fn address(&mut self, seq: u64, content: &Content, load: &Workload) {
        let stamp = Stamp {
            run: load.run,
            seq,
            bytes: content.bytes,
            crc32c: content.crc32c,
            ends_with_crlf: content.facts.ends_with_crlf,
        };
        self.path.clear();
        self.path.push('<');
        stamp.write(&mut self.path);
        self.path.push('@');
        self.path.push_str(&load.sender_domain);
        self.path.push('>');
        self.envelope.clear();
        self.envelope.read_reverse_path(self.path.as_bytes(), PathLimits::RFC).expect("a stamp is a local part");
        for place in 0..load.recipients.per_message() {
            if let Some(mailbox) = load.mailboxes.get(load.recipients.pick(seq, place)) {
                self.envelope.add_recipient(mailbox.as_ref());
            }
        }
    }

    /// Takes what was received; gives the octets consumed, and why the connection is over if it is.
    pub(super) fn see(&mut self, bytes: &[u8], lane: &mut Lane, now: Tick) -> (usize, Option<DownReason>) {
        let mut consumed = 0;
        loop {
            let rest = bytes.get(consumed..).unwrap_or_default();
            let (taken, event) = self.session.on_bytes(rest, now, &mut self.out);
            consumed += taken;
            self.hear(lane, now);
            if event == ClientEvent::More {
                return (consumed, None);
            }
            if let Some(reason) = self.happened(event, lane, now) {
                return (consumed, Some(reason));
            }
        }
    }

    /// Stamps the replies that were read.
    fn hear(&mut self, lane: &mut Lane, now: Tick) {
        for (token, stage) in self.out.heard.drain(..) {
            if stage == Stage::Greeting {
                self.greeted = Some(now);
                continue;
            }
            let Some((record, intended)) = lane.record(token) else { continue };
            let at = MessageRecord::offset_us(intended, now);
            match stage {
                Stage::Mail => record.mail_us = at,
                Stage::Rcpt => record.rcpt_us = at,
                Stage::Data => record.data_us = at,
                _ => {}
            }
        }
    }

    fn happened(&mut self, event: ClientEvent, lane: &mut Lane, now: Tick) -> Option<DownReason> {
        let code = self.session.reply().code();
        let is_turned_away = matches!(event, ClientEvent::NotAttempted { .. }) && self.session.is_refused();
        if is_turned_away || is_refusal(&event) {
            lane.heard(self.session.reply(), now);
        }
        match event {
            ClientEvent::More => {}
            ClientEvent::Ready => self.ready = Some(now),
            ClientEvent::Recipient { token, index, class } => {
                if class != Class::Accepted {
                    lane.refuse(token, u16::try_from(index).unwrap_or(u16::MAX), code);
                }
            }
            ClientEvent::Done { token, class } => {
                let state = match class {
                    Class::Accepted => State::Accepted,
                    Class::Refused => State::Rejected,
                    Class::Deferred | Class::Again => State::Deferred,
                };
                lane.end(token, state, code, now);
            }
            // It would be asked for ever.
            ClientEvent::NotAttempted { token } if is_turned_away => {
                lane.end(token, State::Rejected, code, now);
            }
            ClientEvent::NotAttempted { token } => lane.give_back(token),
            ClientEvent::Down(reason) => {
                self.give_up(lane, now);
                return Some(reason);
            }
        }
        None
    }

    /// What had no outcome: tried again on another connection, unless it may have been taken.
    fn give_up(&mut self, lane: &mut Lane, now: Tick) {
        for (token, unfinished) in self.session.unfinished() {
            match unfinished {
                Unfinished::NotAttempted => lane.give_back(token),
                Unfinished::Unknown => lane.end(token, State::Unknown, 0, now),
            }
        }
    }

    /// The connection ended or broke.
    pub(super) fn on_lost(&mut self, lane: &mut Lane, now: Tick) -> Option<DownReason> {
        let event = self.session.on_lost();
        self.happened(event, lane, now)
    }

    /// The connection took most of what waited, the last of it at `at`.
    pub(super) fn on_room(&mut self, at: Tick) {
        self.session.on_sent(at, true);
    }

    /// The deadline may have passed.
    pub(super) fn on_timeout(&mut self, lane: &mut Lane, conn: &impl Conn, now: Tick) -> Option<DownReason> {
        let unsent = conn.unsent() > 0;
        self.session.on_sent(if unsent { conn.taken_at() } else { conn.sent_at() }, unsent);
        let event = self.session.on_timeout(now, unsent);
        self.happened(event, lane, now)
    }

    /// Why a connection that went down for `reason` was of no use.
    pub(super) fn why(&self, reason: DownReason) -> String {
        match reason {
            _ if self.useless.is_some() => self.useless.unwrap_or_default().to_owned(),
            DownReason::Refused { .. } | DownReason::Closing => format!("it said {}", self.session.reply()),
            DownReason::Protocol(error) => format!("it does not speak SMTP: {error}"),
            DownReason::TimedOut(_) => "it said nothing in time".to_owned(),
            DownReason::Lost(_) => "it closed the connection without a word".to_owned(),
            DownReason::Loop => "it has our own name".to_owned(),
            DownReason::Quit => "stopped before it was ready".to_owned(),
        }
    }

    pub(super) fn quit(&mut self, now: Tick) {
        self.session.quit(now, &mut self.out);
    }

    /// Hands out everything that is to be sent, in order; stamps bodies with `now`.
    pub(super) fn flush(&mut self, lane: &mut Lane, load: &Workload, now: Tick, mut send: impl FnMut(Part<'_>)) {
        let mut at = 0;
        for (behind, token, form) in self.out.bodies.drain(..) {
            if behind > at {
                send(Part::Text(self.out.text.get(at..behind).unwrap_or_default()));
                at = behind;
            }
            let Some((record, intended)) = lane.record(token) else { continue };
            record.body_us = MessageRecord::offset_us(intended, now);
            let Some(content) = load.contents.get(record.content as usize) else { continue };
            let slices = if form == BodyForm::Data { &content.data } else { &content.plain };
            slices.iter().for_each(|slice| send(Part::Body(slice)));
        }
        if self.out.text.len() > at {
            send(Part::Text(self.out.text.get(at..).unwrap_or_default()));
        }
        self.out.text.clear();
    }
}

/// Whether the reply that came with it may be a no.
fn is_refusal(event: &ClientEvent) -> bool {
    match event {
        ClientEvent::Recipient { class, .. } | ClientEvent::Done { class, .. } => *class != Class::Accepted,
        ClientEvent::Down(reason) => matches!(reason, DownReason::Refused { .. } | DownReason::Closing),
        ClientEvent::More | ClientEvent::Ready | ClientEvent::NotAttempted { .. } => false,
    }
}
