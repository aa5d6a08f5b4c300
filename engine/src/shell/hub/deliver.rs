//! The fourth step: one connection to a next hop. It takes messages as its session has room for them, sends them without
//! a copy, and turns replies into outcomes.

use super::Hub;
use super::attempt::{Answered, Attempt};
use super::exchange::Ticket;
use super::failures::{Failures, Why};
use super::load::{LoadError, NO_MEMORY_WAIT};
use super::messages::Message;
use super::share::{Guest, Loan};
use crate::hook;
use crate::io::driver::{Conn, Driver, Next, SEND_ROOM_BYTES};
use crate::queue::{Cause, ConnId, EntryId, HopId, Outcome, RecipientOutcome, Room, Taken};
use crate::route::Manners;
use crate::settings::{Profile, Settings};
use crate::shell::body::{push_chunk, push_data};
use crate::shell::cause;
use crate::shell::hooks::InFlight;
use crate::shell::options::client_timers;
use crate::shell::outbound::{Outbound, farewell, on_deadline};
use crate::smtp::Dialect;
use crate::smtp::client::{
    Body, BodyForm, CannotSend, Class, ClientEvent, ClientOptions, ClientSession, DownReason, Transaction, Unfinished,
};
use crate::track::counters::Counter;
use crate::wire::{EnvelopeRef, HostAddress, Tick};
use slab::Slab;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Bits of a note to a connection: messages wait for it.
pub(super) const FEED: u32 = 1;
/// It is to say QUIT and close.
pub(super) const CLOSE: u32 = 2;

/// What a host says to MAIL that takes none.
const BAD_SEQUENCE: u16 = 503;

/// A connection to be made.
pub(super) struct Order {
    pub conn: ConnId,
    pub hop: HopId,
    pub host: HostAddress,
    pub by: Tick,
}

/// Makes the connection and uses it to its end.
pub(super) async fn run<D: Driver>(hub: Rc<Hub<D>>, order: Order) {
    let cause = converse(&hub, &order).await;
    hub.unlink(order.conn);
    hub.queues.borrow_mut().closed(order.conn, cause, hub.driver.now());
    hub.run_actions();
}

/// How a connection ended: what its host is blamed for, if anything.
async fn converse<D: Driver>(hub: &Rc<Hub<D>>, order: &Order) -> Option<Cause> {
    let mut conn = match hub.driver.connect(order.host.address, order.by).await {
        Ok(conn) => conn,
        Err(error) => {
            hub.tally.one(Counter::ConnectFailures);
            return Some(cause::of_connect(&error));
        }
    };
    hub.tally.one(Counter::ConnectionsMade);
    hub.link(order.conn, conn.handle());
    let manners = hub.routing.borrow().manners(order.hop);
    let mut line = Line {
        hub: hub.clone(),
        id: order.conn,
        host: order.host.address,
        session: ClientSession::new(hub.client.options(manners), hub.driver.now()).speaking_from(conn.local().ip()),
        ready: false,
        flights: Slab::new(),
        out: Outbound::default(),
        taken: Vec::new(),
        hungry_until: Tick(0),
        window: 0,
        refused: false,
    };
    let cause = line.talk(&mut conn).await;
    line.end(hub.driver.now());
    let cause = if line.refused { Some(Cause::Mail(BAD_SEQUENCE)) } else { cause };
    if let Some(cause) = cause {
        cause::count(&hub.tally, cause);
    }
    cause
}

/// A message under way.
struct Flight {
    entry: EntryId,
    message: u32,
    /// The recipients offered, by their indexes in the record; `None`: all of them.
    offered: Option<Box<[u32]>>,
    /// Some recipients were answered on their own: the rest are settled one by one.
    split: bool,
    /// Who was refused for good on his own.
    failures: Failures,
    /// Why the others failed, if they did.
    why: Option<Why>,
    /// Another shard keeps the message; and what our queues name it, if a host of ours could not take it.
    loan: Option<Loan>,
    guest: Option<EntryId>,
    /// Begins when its content is given to the connection.
    in_flight: InFlight,
}

impl Flight {
    /// What our queues name the message, if they know it.
    fn known(&self) -> Option<EntryId> {
        self.guest.or(self.loan.is_none().then_some(self.entry))
    }

    fn new(entry: EntryId, message: u32, offered: Option<Box<[u32]>>, mut loan: Option<Loan>) -> Self {
        Self {
            entry,
            message,
            offered,
            split: false,
            failures: loan.as_mut().map(|loan| std::mem::take(&mut loan.failures)).unwrap_or_default(),
            why: None,
            loan,
            guest: None,
            in_flight: InFlight::default(),
        }
    }
}

/// What a connection does next.
enum Flow {
    Go,
    Down(Option<Cause>),
}

/// One connection's state.
struct Line<D: Driver> {
    hub: Rc<Hub<D>>,
    id: ConnId,
    host: SocketAddr,
    session: ClientSession,
    ready: bool,
    flights: Slab<Flight>,
    out: Outbound,
    taken: Vec<Taken>,
    /// There was no memory to read messages back: none are taken before.
    hungry_until: Tick,
    /// What the queues were told that the session takes at once.
    window: u32,
    /// The host takes no mail, and has said so to a message.
    refused: bool,
}

impl<D: Driver> Line<D> {
    async fn talk(&mut self, conn: &mut D::Conn) -> Option<Cause> {
        let hub = self.hub.clone();
        loop {
            self.tell_window();
            self.take(conn).await;
            if self.ready && self.session.in_flight() == 0 && self.session.room() == 0 {
                // The session's time is over (M-069), and another connection takes what waits; or its host takes nothing (M-118).
                return self.quit(conn).await;
            }
            self.flush(conn);
            let by = self.session.deadline(conn.unsent() > 0);
            let hungry = hub.driver.now() < self.hungry_until;
            let first = if hungry { by.min(self.hungry_until) } else { by };
            let next = conn.next(first, |octets| self.on_octets(octets, hub.driver.now())).await;
            let flow = match next {
                Next::Bytes(flow) => {
                    hub.tally.add(Counter::BareLfReplies, self.session.take_bare_lf());
                    hub.run_actions();
                    flow
                }
                Next::Note(bits) if bits & CLOSE != 0 => return self.quit(conn).await,
                Next::Room => {
                    self.session.on_sent(conn.sent_at(), true);
                    Flow::Go
                }
                Next::Note(_) | Next::Filled(..) => Flow::Go,
                Next::Deadline if hub.driver.now() < by => Flow::Go,
                Next::Deadline => self.on_timeout(conn),
                ended @ (Next::End | Next::Broken(_)) => {
                    hook!("K12", self.flights.iter().any(|(_, flight)| flight.in_flight.is_counted()));
                    self.session.on_lost();
                    // An idle connection that its host closed says nothing about the host.
                    let idle = self.ready && self.flights.is_empty();
                    Flow::Down((!idle).then_some(cause::of_loss(&ended)))
                }
            };
            if let Flow::Down(cause) = flow {
                self.flush(conn);
                return cause;
            }
        }
    }

    /// Tells the queues how much the session takes: by DATA a second transaction has room behind the body of the first only.
    fn tell_window(&mut self) {
        let window = u32::try_from(self.session.window()).unwrap_or(u32::MAX);
        if self.ready && window != self.window {
            self.window = window;
            self.hub.queues.borrow_mut().set_window(self.id, window, self.hub.driver.now());
        }
    }

    /// Takes messages for which the session has room, and offers them.
    async fn take(&mut self, conn: &D::Conn) {
        if !self.ready || !self.hub.can_settle() || self.hub.draining.get() {
            return;
        }
        let room = self.room(conn);
        if room.messages == 0 || room.bytes == 0 {
            return;
        }
        let now = self.hub.driver.now();
        if now < self.hungry_until {
            return;
        }
        if self.hub.is_turn_of_others(self.id) {
            self.borrow(conn);
        }
        let (room, mut taken) = (self.room(conn), std::mem::take(&mut self.taken));
        self.hub.queues.borrow_mut().take(self.id, room, now, &mut taken);
        let mut rest = taken.drain(..);
        while let Some(next) = rest.next() {
            if let Some(guest) = self.hub.take_guest(next.id) {
                self.offer_guest(next.id, guest);
                continue;
            }
            match self.hub.whole(&next).await {
                Ok(message) => self.offer_own(next.id, message),
                Err(error) => {
                    if matches!(error, LoadError::Memory) {
                        self.hungry_until = self.hub.driver.now() + NO_MEMORY_WAIT;
                        // The last one first: each goes back to the head of its queue, so that their order stays.
                        rest.by_ref().rev().for_each(|later| self.hub.put_back(&later));
                        self.hub.relieve();
                    }
                    self.hub.not_to_be_had(&next, &error);
                    self.hub.run_actions();
                }
            }
        }
        drop(rest);
        self.taken = taken;
        if self.hub.share.is_some() {
            self.borrow(conn);
        }
    }

    /// Takes messages of other shards, when nothing of our own waits or it is their turn.
    fn borrow(&mut self, conn: &D::Conn) {
        let (room, now) = (self.room(conn), self.hub.driver.now());
        let mut tickets = Vec::new();
        self.hub.borrow(self.id, room, now, &mut tickets);
        if tickets.is_empty() {
            // Somebody else was faster: the queue may want to wait for tickets again.
            self.hub.run_actions();
        }
        for ticket in tickets {
            let Ticket { owner, entry, message, offered } = ticket;
            let message = self.hub.messages.borrow_mut().insert(message);
            let loan = Some(Loan::new(owner, now));
            self.offer(Flight::new(entry, message, offered, loan), now);
        }
    }

    fn room(&self, conn: &D::Conn) -> Room {
        Room {
            messages: u32::try_from(self.session.room()).unwrap_or(u32::MAX),
            bytes: SEND_ROOM_BYTES.saturating_sub(conn.unsent()) as u64,
        }
    }

    fn offer_own(&mut self, entry: EntryId, message: u32) {
        let offered = self.hub.offered(entry, self.hub.messages.borrow().get(message));
        self.offer(Flight::new(entry, message, offered, None), self.hub.driver.now());
    }

    fn offer_guest(&mut self, id: EntryId, guest: Guest) {
        let Guest { entry, loan, message, offered } = guest;
        let flight = Flight { guest: Some(id), ..Flight::new(entry, message, offered, Some(loan)) };
        self.offer(flight, self.hub.driver.now());
    }

    fn offer(&mut self, mut flight: Flight, now: Tick) {
        self.hub.tally.one(Counter::Attempts);
        let messages = self.hub.messages.borrow();
        let of = messages.get(flight.message);
        let transaction = Transaction {
            envelope: EnvelopeRef::parse(&of.envelope).expect("an envelope of our own making"),
            recipients: flight.offered.as_deref(),
            facts: &of.facts,
            body: Body::Whole(of.trace.len() as u64 + of.facts.bytes),
            identity: None,
        };
        let token = self.flights.vacant_key();
        let sent = self.session.offer(token_of(token), &transaction, now, &mut self.out);
        drop(messages);
        match sent {
            Ok(()) => drop(self.flights.insert(flight)),
            Err(why) => {
                flight.split = true;
                let known = flight.known();
                let outcome = match why.refusal() {
                    None if why == CannotSend::Nobody => Outcome::Deferred,
                    None => Outcome::NotAttempted,
                    Some(_) if self.hub.queues.borrow().has_other_host(self.id, known) => Outcome::Elsewhere,
                    Some(refusal) => {
                        flight.why = Some(Why::refused(self.host, refusal.reply()));
                        Outcome::Failed
                    }
                };
                tracing::info!(%why, elsewhere = outcome == Outcome::Elsewhere, "a message cannot be sent to this host");
                self.finish(flight, outcome, now);
                self.hub.run_actions();
            }
        }
    }

    /// Hands what the session wrote to the connection.
    fn flush(&mut self, conn: &mut D::Conn) {
        let messages = self.hub.messages.borrow();
        let flights = &self.flights;
        self.out.flush(conn, |conn, token, form| {
            let Some(flight) = flights.get(token as usize) else { return };
            flight.in_flight.begin();
            let message: &Message = messages.get(flight.message);
            conn.push(message.trace.clone());
            match form {
                BodyForm::Bdat => push_chunk(conn, &message.content),
                BodyForm::Data => push_data(conn, &message.content, &message.facts),
            }
        });
    }

    fn on_octets(&mut self, octets: &[u8], now: Tick) -> (usize, Flow) {
        hook!("K12", self.flights.iter().any(|(_, flight)| flight.in_flight.is_counted()));
        let mut at = 0;
        loop {
            let (consumed, event) = self.session.on_bytes(&octets[at..], now, &mut self.out);
            at += consumed;
            match event {
                ClientEvent::More => return (at, Flow::Go),
                ClientEvent::Ready => {
                    self.ready = true;
                    self.window = u32::try_from(self.session.window()).unwrap_or(u32::MAX);
                    self.hub.queues.borrow_mut().connected(self.id, self.window, now);
                }
                ClientEvent::Recipient { token, .. }
                | ClientEvent::Done { token, .. }
                | ClientEvent::NotAttempted { token }
                    if self.out.holds(token) =>
                {
                    // Answered before its body left: whatever it means, it is no verdict on that body (F-081).
                    self.out.clear();
                    return (at, Flow::Down(Some(Cause::Protocol)));
                }
                ClientEvent::Recipient { token, index, class } => {
                    if class != Class::Accepted {
                        self.said_no(now);
                    }
                    self.answer_recipient(token, index, class);
                }
                ClientEvent::Done { token, class } => {
                    // Where recipients were refused one by one, that says more than what follows from it.
                    let split = self.flights.get(token as usize).is_some_and(|flight| flight.split);
                    if class != Class::Accepted && !split {
                        self.said_no(now);
                    }
                    let outcome = match class {
                        Class::Accepted => Outcome::Delivered,
                        Class::Refused => {
                            self.refused(token);
                            Outcome::Failed
                        }
                        Class::Deferred | Class::Again => Outcome::Deferred,
                    };
                    self.done(token, outcome, now);
                }
                ClientEvent::NotAttempted { token } => self.not_attempted(token, now),
                ClientEvent::Down(reason) => {
                    if matches!(reason, DownReason::Refused { .. } | DownReason::Closing) {
                        self.said_no(now);
                    }
                    return (at, Flow::Down(cause::of_end(reason, self.session.reply().code())));
                }
            }
        }
    }

    /// The host did not look at a message, because of one before it or because it takes none. That may be for what this one is, so it is
    /// not tried for ever before all others (F-072).
    fn not_attempted(&mut self, token: u32, now: Tick) {
        let first = self.session.is_refused() && !std::mem::replace(&mut self.refused, true);
        if first {
            self.said_no(now);
        }
        self.done(token, if first { Outcome::Interrupted } else { Outcome::NotAttempted }, now);
    }

    /// The host has just said no: an operator sees why.
    fn said_no(&self, now: Tick) {
        self.hub.queues.borrow_mut().said_no(self.id, self.session.reply(), now);
    }

    fn done(&mut self, token: u32, outcome: Outcome, now: Tick) {
        if let Some(flight) = self.flights.try_remove(token as usize) {
            self.finish(flight, outcome, now);
        }
    }

    fn on_timeout(&mut self, conn: &D::Conn) -> Flow {
        match on_deadline(&mut self.session, conn, self.hub.driver.now()) {
            ClientEvent::Down(reason) => Flow::Down(cause::of_end(reason, 0)),
            _ => Flow::Go,
        }
    }

    /// An attempt ended: whoever keeps the message is told.
    fn finish(&self, flight: Flight, outcome: Outcome, now: Tick) {
        let Flight { entry, message, offered, split, failures, why, loan, guest, in_flight } = flight;
        let whole = !split && offered.is_none();
        match loan {
            None => self.hub.conclude(Attempt { entry, message, whole, failures, why }, outcome, now),
            Some(loan) => self.hub.borrowed_ended(
                self.id,
                guest,
                Guest { entry, loan: Loan { failures, why, in_flight, ..loan }, message, offered },
                outcome,
            ),
        }
    }

    /// Whoever was not answered on his own was refused for good.
    fn refused(&mut self, token: u32) {
        if let Some(flight) = self.flights.get_mut(token as usize) {
            flight.why = Some(Why::refused(self.host, self.session.reply()));
        }
    }

    /// A recipient was answered on its own.
    fn answer_recipient(&mut self, token: u32, index: u32, class: Class) {
        let Some(flight) = self.flights.get_mut(token as usize) else { return };
        flight.split = true;
        let recipient = flight.offered.as_ref().map_or(index, |offered| offered[index as usize]);
        let outcome = match class {
            Class::Accepted => RecipientOutcome::Delivered,
            Class::Refused => RecipientOutcome::Failed,
            Class::Again => RecipientOutcome::TooMany,
            Class::Deferred => RecipientOutcome::Deferred,
        };
        if outcome == RecipientOutcome::Failed {
            let number = u16::try_from(recipient).expect("recipients are numbered by 16 bits");
            flight.failures.add(number, Why::refused(self.host, self.session.reply()));
        }
        let answer = Answered { recipient, outcome };
        match &mut flight.loan {
            None => self.hub.answered(flight.entry, flight.message, answer),
            Some(loan) => loan.answers.push(answer),
        }
    }

    /// Says QUIT and waits a moment for the answer.
    async fn quit(&mut self, conn: &mut D::Conn) -> Option<Cause> {
        self.session.quit(self.hub.driver.now(), &mut self.out);
        self.flush(conn);
        let by = self.hub.driver.now() + self.hub.settings.delivery.quit_wait;
        farewell(conn, by).await;
        None
    }

    /// The connection is over: what is unfinished ends as the session says. The first that the host may have stumbled over
    /// is tried again at once, but once only (F-072); those behind it were not looked at.
    fn end(&mut self, now: Tick) {
        let unfinished: Vec<_> = self.session.unfinished().collect();
        let first = unfinished.iter().position(|(_, how)| *how == Unfinished::NotAttempted);
        // The last one first: each goes back to the head of its queue, so that their order stays.
        for (index, (token, how)) in unfinished.into_iter().enumerate().rev() {
            let outcome = match how {
                Unfinished::Unknown => Outcome::Unknown,
                Unfinished::NotAttempted if Some(index) == first => Outcome::Interrupted,
                Unfinished::NotAttempted => Outcome::NotAttempted,
            };
            self.done(token, outcome, now);
        }
        // What had an outcome that was not looked at, because the host was out of step.
        let rest: Vec<usize> = self.flights.iter().map(|(token, _)| token).collect();
        for token in rest {
            self.done(token_of(token), Outcome::Unknown, now);
        }
    }
}

fn token_of(key: usize) -> u32 {
    u32::try_from(key).expect("few messages under way")
}

/// The options of sessions to next hops: one set for each of their manners.
pub(super) struct Clients {
    /// LMTP, 8-bit content as it is, long lines as they are: a bit each.
    sets: [Arc<ClientOptions>; 8],
    /// What the profile says about lines over 998 octets.
    long_lines: bool,
}

impl Clients {
    pub fn of(settings: &Settings) -> Self {
        let delivery = &settings.delivery;
        let common = ClientOptions {
            instance: settings.server.instance.clone(),
            in_flight_max: delivery.in_flight_max as usize,
            chunking: delivery.chunking,
            timers: client_timers(delivery),
            ..ClientOptions::new(&settings.server.fqdn)
        };
        let set = |index: usize| {
            Arc::new(ClientOptions {
                dialect: if index & 1 != 0 { Dialect::Lmtp } else { Dialect::Smtp },
                just_send_eight_bit: index & 2 != 0,
                long_lines: index & 4 != 0,
                ..common.clone()
            })
        };
        // A relay passes on what it was given (M-054); the strict profile refuses instead.
        Self { sets: std::array::from_fn(set), long_lines: settings.profile != Profile::Rfc }
    }

    /// The options for a next hop of these manners.
    pub fn options(&self, manners: Manners) -> Arc<ClientOptions> {
        let long_lines = manners.long_lines.unwrap_or(self.long_lines);
        let index = usize::from(manners.lmtp) | usize::from(manners.send_eight_bit) << 1 | usize::from(long_lines) << 2;
        self.sets[index].clone()
    }
}

impl<D: Driver> Hub<D> {
    fn link(&self, conn: ConnId, handle: crate::shell::inlet::Handle<D>) {
        let mut links = self.links.borrow_mut();
        let index = conn.index as usize;
        if links.len() <= index {
            links.resize_with(index + 1, || None);
        }
        links[index] = Some((conn.serial, handle));
    }

    fn unlink(&self, conn: ConnId) {
        if let Some(link) = self.links.borrow_mut().get_mut(conn.index as usize)
            && link.as_ref().is_some_and(|(serial, _)| *serial == conn.serial)
        {
            *link = None;
        }
    }
}
