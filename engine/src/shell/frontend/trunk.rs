//! One connection to a hub: shared by small messages of many clients, or alone with a large one.

use super::FrontEnd;
use crate::io::driver::{Conn, Driver, Next, Notify, SEND_ROOM_BYTES};
use crate::queue::Cause;
use crate::shell::body::{Slices, push_chunk, push_data};
use crate::shell::cause;
use crate::shell::inlet::{Answer, Handle, Inlet, bits};
use crate::shell::outbound::{Outbound, farewell, on_deadline};
use crate::smtp::client::{Body, BodyForm, CannotSend, Class, ClientEvent, ClientSession, Transaction, Unfinished};
use crate::smtp::server::{ClientIdentityRef, Protocol, Slot};
use crate::sys::slice::Slice;
use crate::track::counters::Counter;
use crate::wire::{ContentFacts, EnvelopeRef, Refusal, Span, Tick};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// A message and those of other clients share a connection up to so many under way; then another is opened.
const SHARED_MAX: usize = 96;
/// Octets of a streamed body handed to the kernel and not yet taken by it.
const STREAM_ROOM: usize = 16 << 10;

/// Bits of a note to a connection: there is something to send.
const JOBS: u32 = 1;
/// It is to say QUIT and close.
const CLOSE: u32 = 2;

/// What is said when the hub was lost with the message half-way (F-103).
const HUB_LOST: Refusal = Refusal::fixed(451, (4, 3, 0), "The hub was lost; try again later");

/// What is said when a hub does not take so many recipients at once.
const TOO_MANY: Refusal = Refusal::fixed(452, (4, 5, 3), "Too many recipients");

/// A message on its way to a hub.
pub(super) struct Job<D: Driver> {
    pub envelope: Slice,
    pub trace: Slice,
    pub facts: ContentFacts,
    pub client: IpAddr,
    /// The name that it gave with EHLO.
    pub ehlo_name: Slice,
    /// How it speaks to us.
    pub protocol: Protocol,
    pub inlet: Rc<Inlet<D>>,
    pub content: JobContent<D>,
    pub tries: u32,
}

impl<D: Driver> Job<D> {
    /// How many recipients its envelope has.
    fn recipients(&self) -> u32 {
        EnvelopeRef::parse(&self.envelope).map_or(0, |envelope| envelope.recipient_count())
    }
}

pub(super) enum JobContent<D: Driver> {
    /// All of it is here.
    Whole { content: Slices, slot: Slot },
    /// It comes piece by piece.
    Stream(Rc<Stream<D>>),
}

/// A large body between the client's session and the hub's.
pub struct Stream<D: Driver> {
    inlet: Rc<Inlet<D>>,
    pieces: RefCell<VecDeque<(Slices, u64)>>,
    /// Octets received and not yet sent, those given to the connection among them.
    held: Cell<u64>,
    /// The client has sent all of it; the verdict goes to this slot.
    slot: Cell<Option<Slot>>,
    ended: Cell<bool>,
    /// The client went away, or its session refused the message.
    abandoned: Cell<bool>,
    /// The verdict, if it came before the end.
    early: RefCell<Option<Answer>>,
    taker: RefCell<Option<Handle<D>>>,
}

impl<D: Driver> Stream<D> {
    pub(super) fn new(inlet: Rc<Inlet<D>>) -> Self {
        Self {
            inlet,
            pieces: RefCell::default(),
            held: Cell::new(0),
            slot: Cell::new(None),
            ended: Cell::new(false),
            abandoned: Cell::new(false),
            early: RefCell::default(),
            taker: RefCell::default(),
        }
    }

    /// Octets handed over and not yet taken by the kernel. Of the last [`STREAM_ROOM`] octets the connection does not tell
    /// at once that they were taken.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held.get()
    }

    /// A further piece.
    ///
    /// # Errors
    /// The hub's verdict, when it came already.
    pub(super) fn add(&self, piece: Slices, bytes: u64) -> Result<(), Refusal> {
        if let Some(early) = self.early.borrow_mut().take() {
            return Err(if let Answer::Refused(refusal) = early { refusal } else { HUB_LOST });
        }
        if bytes > 0 {
            self.held.set(self.held.get() + bytes);
            self.pieces.borrow_mut().push_back((piece, bytes));
            self.wake();
        }
        Ok(())
    }

    /// The body is complete.
    pub(super) fn end(&self, slot: Slot) {
        self.slot.set(Some(slot));
        self.ended.set(true);
        if let Some(early) = self.early.borrow_mut().take() {
            return self.inlet.answer(slot, early);
        }
        self.wake();
    }

    /// There will be no more, and nobody waits for the verdict.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
        self.wake();
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        self.answer(Answer::Refused(refusal));
    }

    /// The verdict: passed on at the end of the body.
    pub(super) fn answer(&self, answer: Answer) {
        self.pieces.borrow_mut().clear();
        self.held.set(0);
        match self.slot.get() {
            Some(slot) => self.inlet.answer(slot, answer),
            None => {
                *self.early.borrow_mut() = Some(answer);
                self.inlet.note(bits::AGAIN);
            }
        }
    }

    fn wake(&self) {
        if let Some(taker) = &*self.taker.borrow() {
            taker.note(JOBS);
        }
    }

    /// The connection has sent so many octets: there is room for others.
    fn sent(&self, bytes: u64) {
        self.held.set(self.held.get().saturating_sub(bytes));
        self.inlet.note(bits::AGAIN);
    }

    /// The next piece, and whether it is the last.
    fn take(&self) -> Option<(Slices, u64, bool)> {
        let mut pieces = self.pieces.borrow_mut();
        match pieces.pop_front() {
            Some((piece, bytes)) => {
                let last = pieces.is_empty() && self.ended.get();
                Some((piece, bytes, last))
            }
            None => self.ended.get().then(|| (Slices::new(), 0, true)),
        }
    }
}

/// A connection to a hub, as the front end sees it.
pub(super) struct Trunk<D: Driver> {
    pub(super) hub: SocketAddr,
    jobs: RefCell<VecDeque<Job<D>>>,
    handle: RefCell<Option<Handle<D>>>,
    under_way: Cell<usize>,
    /// A streamed message is on it: nothing else may be.
    alone: Cell<bool>,
    gone: Cell<bool>,
    /// When it was begun.
    begun_at: Tick,
    /// The hub has greeted: messages leave.
    ready: Cell<bool>,
    /// When the hub last said something, or was first asked for something again.
    heard_at: Cell<Tick>,
    /// When it last said something.
    spoke_at: Cell<Tick>,
}

impl<D: Driver> Trunk<D> {
    pub(super) fn new(hub: SocketAddr, now: Tick) -> Self {
        Self {
            hub,
            begun_at: now,
            ready: Cell::new(false),
            jobs: RefCell::default(),
            handle: RefCell::default(),
            under_way: Cell::new(0),
            alone: Cell::new(false),
            gone: Cell::new(false),
            heard_at: Cell::new(Tick::NEVER),
            spoke_at: Cell::new(Tick(0)),
        }
    }

    /// Whether it leads to `hub`.
    pub(super) fn is_to(&self, hub: SocketAddr) -> bool {
        self.hub == hub
    }

    /// Whether the hub owes answers over it and has given none for `wait`. With a streamed message it may wait for the
    /// client as well as we.
    pub(super) fn is_silent(&self, now: Tick, wait: Span) -> bool {
        self.under_way.get() > 0 && !self.alone.get() && now.since(self.heard_at.get()) >= wait
    }

    /// Whether that is the hub's silence: over a connection that has heard nothing since the hub was found, at `found_at`, the
    /// way is lost. TCP finds it again ever later.
    pub(super) fn tells_of_silence(&self, now: Tick, wait: Span, found_at: Tick) -> bool {
        self.is_silent(now, wait) && self.spoke_at.get() >= found_at
    }

    /// Whether the hub has greeted.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.get()
    }

    /// Whether it has been on its way for `wait` and the hub has not greeted.
    pub(super) fn is_late(&self, now: Tick, wait: Span) -> bool {
        !self.ready.get() && now.since(self.begun_at) >= wait
    }

    /// Takes back what waits for the hub's greeting: no octet of it has left.
    pub(super) fn take_waiting(&self) -> VecDeque<Job<D>> {
        if self.ready.get() { VecDeque::new() } else { self.take_all() }
    }

    /// Takes back all that no octet of has left.
    pub(super) fn take_all(&self) -> VecDeque<Job<D>> {
        let jobs = std::mem::take(&mut *self.jobs.borrow_mut());
        // A streamed message that is under way is on it still.
        self.alone.set(self.alone.get() && self.under_way.get() > 0);
        jobs
    }

    /// Messages given to it and not answered.
    pub(super) fn load(&self) -> usize {
        self.jobs.borrow().len() + self.under_way.get()
    }

    /// Whether it may take another message for `hub`; one that needs it `alone`.
    pub(super) fn takes(&self, hub: SocketAddr, alone: bool) -> bool {
        let most = if alone { 1 } else { SHARED_MAX };
        self.hub == hub && !self.gone.get() && !self.alone.get() && self.load() < most
    }

    /// Nothing is on it: it says QUIT and takes nothing more. Whether that is so.
    pub(super) fn close_idle(&self) -> bool {
        let handle = self.handle.borrow();
        let Some(handle) = handle.as_ref().filter(|_| self.load() == 0 && !self.gone.get()) else { return false };
        self.gone.set(true);
        handle.note(CLOSE);
        true
    }

    pub(super) fn give(&self, job: Job<D>) {
        if let JobContent::Stream(stream) = &job.content {
            self.alone.set(true);
            *stream.taker.borrow_mut() = self.handle.borrow().clone();
        }
        self.jobs.borrow_mut().push_back(job);
        if let Some(handle) = &*self.handle.borrow() {
            handle.note(JOBS);
        }
    }
}

/// A job the hub is working on.
struct Flight<D: Driver> {
    job: Job<D>,
    /// Pieces announced, not yet queued on the connection, and how many octets of the body each has.
    announced: VecDeque<(Slices, u64)>,
    /// The trace header is the first of them, and there is one.
    trace_announced: bool,
    last_announced: bool,
    /// Octets of its pieces given to the connection that may not have left; those announced are not among them.
    unsent: u64,
    /// Recipients that the hub refused although the client was told otherwise, and why: see [`verdict`].
    refused: (u32, Option<Refusal>),
}

impl<D: Driver> Flight<D> {
    fn of(job: Job<D>) -> Self {
        let trace_announced = job.trace.is_empty();
        Self { job, announced: VecDeque::new(), trace_announced, last_announced: false, unsent: 0, refused: (0, None) }
    }
}

/// What a client is told of a message that was refused for several reasons: the first, or the first that asks it to try again.
fn verdict(known: Option<Refusal>, next: Option<Refusal>) -> Option<Refusal> {
    match (known, next) {
        (Some(known), Some(next)) if known.is_permanent() && !next.is_permanent() => Some(next),
        (known, next) => known.or(next),
    }
}

/// Makes the connection and uses it to its end.
pub(super) async fn run<D: Driver>(front: Rc<FrontEnd<D>>, trunk: Rc<Trunk<D>>) {
    let connected = front.driver.connect(trunk.hub, front.driver.now() + front.connect_wait).await;
    let mut line = None;
    let why = match connected {
        Ok(mut conn) => {
            front.tally.one(Counter::ConnectionsMade);
            *trunk.handle.borrow_mut() = Some(conn.handle());
            let session = ClientSession::new(front.client.clone(), front.driver.now()).speaking_from(conn.local().ip());
            let mut talk = Line {
                front: front.clone(),
                trunk: trunk.clone(),
                session,
                ready: false,
                why: None,
                flights: Slab::new(),
                out: Outbound::default(),
                narrow: false,
            };
            talk.talk(&mut conn).await;
            line.insert(talk).why
        }
        Err(error) => {
            front.tally.one(Counter::ConnectFailures);
            Some(cause::of_connect(&error))
        }
    };
    let idle = line.as_ref().is_some_and(|line| line.ready && line.flights.is_empty());
    trunk.gone.set(true);
    front.trunks.borrow_mut().retain(|known| !Rc::ptr_eq(known, &trunk));
    if !idle {
        // One that was given up for want of room before it was greeted says nothing about its hub.
        let why = why.unwrap_or(Cause::Short);
        if line.is_some() {
            cause::count(&front.tally, why);
        }
        front.hubs.borrow_mut().failed(trunk.hub, why, front.driver.now());
        if why != Cause::Short {
            front.move_waiting(trunk.hub);
        }
    }
    if let Some(line) = line {
        line.end();
    }
    front.pass_on(&trunk);
}

struct Line<D: Driver> {
    front: Rc<FrontEnd<D>>,
    trunk: Rc<Trunk<D>>,
    session: ClientSession,
    ready: bool,
    /// Why the session is over, once it is.
    why: Option<Cause>,
    flights: Slab<Flight<D>>,
    out: Outbound,
    /// The connection has the send room of a streamed message.
    narrow: bool,
}

impl<D: Driver> Line<D> {
    async fn talk(&mut self, conn: &mut D::Conn) {
        let driver = self.front.driver.clone();
        loop {
            self.offer_jobs(conn);
            if self.ready && self.session.in_flight() == 0 && self.session.room() == 0 {
                // The session's time is over (M-069): another takes what waits.
                return self.quit(conn).await;
            }
            self.flush(conn);
            while self.announce_piece(conn) {
                self.flush(conn);
            }
            self.note_sent(conn);
            let by = self.session.deadline(conn.unsent() > 0);
            let next = conn.next(by, |octets| self.on_octets(octets, driver.now())).await;
            let goes_on = match next {
                Next::Bytes(goes_on) => {
                    self.front.tally.add(Counter::BareLfReplies, self.session.take_bare_lf());
                    goes_on
                }
                Next::Room => {
                    self.session.on_sent(conn.sent_at(), true);
                    true
                }
                Next::Note(bits) if bits & CLOSE != 0 => return self.quit(conn).await,
                Next::Note(_) | Next::Filled(..) => true,
                Next::Deadline => {
                    let event = on_deadline(&mut self.session, conn, driver.now());
                    self.goes_on(&event)
                }
                lost @ (Next::End | Next::Broken(_)) => {
                    let event = self.session.on_lost();
                    self.goes_on(&event);
                    self.why = Some(cause::of_loss(&lost));
                    false
                }
            };
            if !goes_on {
                self.flush(conn);
                return;
            }
        }
    }

    /// Says QUIT and waits a moment for the answer (M-014). Nothing is given to it meanwhile.
    async fn quit(&mut self, conn: &mut D::Conn) {
        self.trunk.gone.set(true);
        self.front.pass_on(&self.trunk);
        let now = self.front.driver.now();
        self.session.quit(now, &mut self.out);
        self.flush(conn);
        let by = now + self.front.client.timers.quit;
        farewell(conn, by).await;
    }

    fn offer_jobs(&mut self, conn: &mut D::Conn) {
        while self.ready && self.session.room() > 0 && conn.unsent() < SEND_ROOM_BYTES {
            let Some(job) = self.trunk.jobs.borrow_mut().pop_front() else { return };
            let is_stream = matches!(job.content, JobContent::Stream(_));
            if std::mem::replace(&mut self.narrow, is_stream) != is_stream {
                conn.set_send_room(if is_stream { STREAM_ROOM } else { SEND_ROOM_BYTES });
            }
            let body = match &job.content {
                JobContent::Whole { .. } => Body::Whole(job.trace.len() as u64 + job.facts.bytes),
                JobContent::Stream(stream) => {
                    *stream.taker.borrow_mut() = Some(conn.handle());
                    Body::Streamed
                }
            };
            let transaction = Transaction {
                envelope: EnvelopeRef::parse(&job.envelope).expect("an envelope of our own making"),
                recipients: None,
                facts: &job.facts,
                body,
                identity: Some(ClientIdentityRef {
                    address: job.client,
                    ehlo_name: &job.ehlo_name,
                    protocol: job.protocol,
                }),
            };
            let token = u32::try_from(self.flights.vacant_key()).expect("few messages under way");
            match self.session.offer(token, &transaction, self.front.driver.now(), &mut self.out) {
                Ok(()) => {
                    if self.flights.is_empty() {
                        self.trunk.heard_at.set(self.front.driver.now());
                    }
                    self.flights.insert(Flight::of(job));
                    self.trunk.under_way.set(self.flights.len());
                }
                Err(CannotSend::Busy) => {
                    // Its time is over, as it noticed just now: what waits goes to another connection.
                    self.trunk.jobs.borrow_mut().push_front(job);
                    return;
                }
                Err(why) => {
                    self.trunk.alone.set(false);
                    self.front.hubs.borrow_mut().add_load(self.trunk.hub, -1);
                    self.front.refuse(&job, why.refusal().unwrap_or(HUB_LOST));
                }
            }
        }
    }

    /// Announces the next piece of a streamed body, if there is one and the connection takes it.
    fn announce_piece(&mut self, conn: &D::Conn) -> bool {
        if !self.trunk.alone.get() {
            return false;
        }
        let is_stream = |flight: &Flight<D>| matches!(flight.job.content, JobContent::Stream(_));
        let Some((token, flight)) = self.flights.iter_mut().find(|(_, flight)| is_stream(flight)) else { return false };
        let JobContent::Stream(stream) = &flight.job.content else { return false };
        let number = u32::try_from(token).expect("few messages under way");
        if stream.abandoned.get() {
            self.session.abandon(number);
            self.take_flight(token);
            return false;
        }
        if flight.last_announced || conn.unsent() > STREAM_ROOM {
            return false;
        }
        if !self.session.takes_chunk(number) {
            return false;
        }
        let now = self.front.driver.now();
        if !std::mem::replace(&mut flight.trace_announced, true) {
            let trace = flight.job.trace.clone();
            self.session.chunk(number, trace.len() as u64, false, now, &mut self.out);
            // No octet of the body.
            flight.announced.push_back((Slices::from_iter([trace]), 0));
            return true;
        }
        let Some((piece, bytes, last)) = stream.take() else { return false };
        self.session.chunk(number, bytes, last, now, &mut self.out);
        flight.announced.push_back((piece, bytes));
        flight.last_announced = last;
        true
    }

    /// Lets the client send more once its octets have left.
    fn note_sent(&mut self, conn: &D::Conn) {
        if !self.trunk.alone.get() {
            return;
        }
        // What the connection has not sent may all be of the body.
        let unsent = conn.unsent() as u64;
        for (_, flight) in &mut self.flights {
            if let JobContent::Stream(stream) = &flight.job.content
                && flight.unsent > unsent
            {
                stream.sent(flight.unsent - unsent);
                flight.unsent = unsent;
            }
        }
    }

    fn flush(&mut self, conn: &mut D::Conn) {
        let flights = &mut self.flights;
        self.out.flush(conn, |conn, token, form| {
            let Some(flight) = flights.get_mut(token as usize) else { return };
            match &flight.job.content {
                JobContent::Whole { content, .. } => {
                    conn.push(flight.job.trace.clone());
                    match form {
                        BodyForm::Bdat => push_chunk(conn, content),
                        BodyForm::Data => push_data(conn, content, &flight.job.facts),
                    }
                }
                JobContent::Stream(_) => {
                    if let Some((piece, bytes)) = flight.announced.pop_front() {
                        push_chunk(conn, &piece);
                        flight.unsent += bytes;
                    }
                }
            }
        });
    }

    fn on_octets(&mut self, octets: &[u8], now: Tick) -> (usize, bool) {
        let mut at = 0;
        self.trunk.heard_at.set(now);
        self.trunk.spoke_at.set(now);
        loop {
            let (consumed, event) = self.session.on_bytes(&octets[at..], now, &mut self.out);
            at += consumed;
            match event {
                ClientEvent::More => return (at, true),
                ClientEvent::Ready => {
                    self.ready = true;
                    self.trunk.ready.set(true);
                    let mut hubs = self.front.hubs.borrow_mut();
                    hubs.greets(self.trunk.hub, now);
                    self.front.policy.has_hub.set(hubs.any_usable(now));
                }
                ClientEvent::Recipient { token, .. }
                | ClientEvent::Done { token, .. }
                | ClientEvent::NotAttempted { token }
                    if self.out.holds(token) =>
                {
                    self.out.clear();
                    return (at, false);
                }
                ClientEvent::Recipient { token, class, .. } => {
                    if let Some(flight) = self.flights.get_mut(token as usize).filter(|_| class != Class::Accepted) {
                        let (count, why) = &mut flight.refused;
                        *count += 1;
                        let said = Refusal::of(self.session.reply().clone());
                        // 552 is 4yz where it means one recipient too many (M-034).
                        let said = said.filter(|said| class == Class::Refused || !said.is_permanent());
                        *why = verdict(why.take(), said.or(Some(TOO_MANY)));
                    }
                }
                ClientEvent::Done { token, class } => self.done(token as usize, class),
                ClientEvent::NotAttempted { token } => {
                    if let Some(flight) = self.take_flight(token as usize) {
                        self.again(flight);
                    }
                }
                ClientEvent::Down(_) => return (at, self.goes_on(&event)),
            }
        }
    }

    /// Whether the connection is of further use; notes why not.
    fn goes_on(&mut self, event: &ClientEvent) -> bool {
        let ClientEvent::Down(reason) = event else { return true };
        self.why = cause::of_end(*reason, self.session.reply().code());
        false
    }

    fn take_flight(&mut self, token: usize) -> Option<Flight<D>> {
        let flight = self.flights.try_remove(token)?;
        self.trunk.under_way.set(self.flights.len());
        self.front.hubs.borrow_mut().add_load(self.trunk.hub, -1);
        if matches!(flight.job.content, JobContent::Stream(_)) {
            self.trunk.alone.set(false);
        }
        Some(flight)
    }

    fn done(&mut self, token: usize, class: Class) {
        let Some(flight) = self.take_flight(token) else { return };
        self.front.hubs.borrow_mut().answers(self.trunk.hub);
        let reply = self.session.reply();
        let (refused, why) = flight.refused;
        let Some(why) = why else { return self.front.relay(&flight.job, reply) };
        if class == Class::Accepted {
            // A hub whose word was for all of them has the message for some: neither 250 nor 4yz is true (M-049).
            return self.front.keep_silent(&flight.job);
        }
        // Of content to nobody it says nothing that counts.
        let content = Refusal::of(reply.clone()).filter(|_| refused < flight.job.recipients());
        let verdict = verdict(Some(why.clone()), content).unwrap_or(why);
        self.front.relay(&flight.job, verdict.reply());
    }

    /// Nothing of it was looked at: another hub may have it, if all of it is still here.
    fn again(&self, flight: Flight<D>) {
        if self.session.is_refused() {
            let why = Cause::Mail(self.session.reply().code());
            self.front.hubs.borrow_mut().failed(self.trunk.hub, why, self.front.driver.now());
        }
        match &flight.job.content {
            JobContent::Whole { .. } => self.front.submit(flight.job),
            JobContent::Stream(stream) => stream.refuse(HUB_LOST),
        }
    }

    /// The connection is over.
    fn end(mut self) {
        let unfinished: Vec<_> = self.session.unfinished().collect();
        for (token, how) in unfinished {
            let Some(flight) = self.take_flight(token as usize) else { continue };
            match how {
                Unfinished::NotAttempted => self.again(flight),
                // The hub may have it: only silence makes the client try again without being told that nobody has it.
                Unfinished::Unknown => self.front.keep_silent(&flight.job),
            }
        }
        // What had an outcome that was not looked at, because the hub was out of step.
        let rest: Vec<usize> = self.flights.iter().map(|(token, _)| token).collect();
        for token in rest {
            if let Some(flight) = self.take_flight(token) {
                self.front.keep_silent(&flight.job);
            }
        }
    }
}
