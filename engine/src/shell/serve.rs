//! One inbound connection: joins a [`ServerSession`] and a connection, and hands whole messages to a [`Service`].
//!
//! Content that is whole in one view goes to the service as it stands in the shared buffer: the service makes the one
//! copy. Everything else is collected in chunks; a large body is received straight into them, and handed over piece by
//! piece while it arrives (`spill`).

use super::body::{Body, CHUNK_BYTES_MAX, Slices};
use super::inlet::{Answer, Inlet, bits};
use super::tarpit::{Stuck, Tarpit};
use super::trace::LocalDate;
use crate::hook;
use crate::io::driver::{Conn, Driver, Next};
use crate::smtp::server::{Event, Expect, Policy, ServerOptions, ServerSession, SessionCounts, Slot, Verdict};
use crate::smtp::{Dialect, Profile};
use crate::sys::slice::{Charge, Pool};
use crate::sys::spare::Spare;
use crate::track::counters::{Counter, Tally};
use crate::wire::{Refusal, Span, Tick};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// Less than so many octets still to come are not worth leaving the shared buffers for.
const AIM_BYTES_MIN: u64 = 8 << 10;
/// A body of unknown length has shown by so many octets that it is a large one.
const LARGE_BYTES: u64 = 32 << 10;
/// A body that stands in one view is handed over as it stands there up to this size; a burst can show more at once.
const OCTETS_MAX: usize = 64 << 10;
/// Where a body leaves less room than this for what may end it, it is handed over before its end.
const ROOM_BYTES_MIN: usize = 4 << 10;
/// Room that a chunk keeps for what follows an undecided tail.
const TAIL_BYTES: usize = 64;
/// Replies that wait for a verdict, at most.
const HELD_BYTES_MAX: usize = 4 << 10;
/// Nor are they for longer: far more than a verdict takes, and less than whoever waits for them notices.
const HELD_WAIT: Span = Span::millis(50);
/// Emptied buffers of replies kept for reuse.
const SPARE_OUTS: usize = 256;
/// How long a session waits before it looks for memory again.
const STARVED_WAIT: Span = Span::millis(5);
/// How long it goes on looking with a body half-way: all memory may be held by bodies that wait for each other.
const STARVED_MAX: Span = Span::seconds(5);

/// The reply when there is no memory for content (F-040).
pub const NO_MEMORY: Refusal = Refusal::fixed(452, (4, 3, 1), "Insufficient system resources");

/// What stands behind a listener.
pub trait Service<D: Driver>: 'static {
    /// No more octets of a body are held at any time, those received and not looked at among them: a receive asks for no
    /// more than is free. At least four chunks.
    const HELD_BYTES_MAX: usize = usize::MAX;

    /// A large body under way.
    type Spill: Default;

    /// Decides over envelopes.
    fn policy(&self) -> &dyn Policy;

    /// Memory for content.
    fn pool(&self) -> &Pool;

    /// No chunk of a body is larger: what of it may stand in memory, counted in octets, depends on it.
    fn chunk_bytes_max(&self) -> usize {
        CHUNK_BYTES_MAX
    }

    /// From so many octets of full chunks on, or where room gets short, a body is handed over while it arrives. `begun`:
    /// some of it was already.
    fn spill_bytes(&self, begun: bool) -> usize;

    /// The next `bytes` octets of a large body: full chunks, or at its end zero-padded ones.
    ///
    /// # Errors
    /// The reply to the end of the body, the rest of which is swallowed.
    fn spill(
        &self,
        session: &ServerSession,
        inlet: &Rc<Inlet<D>>,
        spill: &mut Self::Spill,
        chunks: Slices,
        bytes: u64,
    ) -> Result<(), Refusal>;

    /// Octets of a large body that were handed over and are held until its taker takes them; it notes `bits::AGAIN` when
    /// it has. They come down to one chunk at most without more being handed over.
    fn held_bytes(&self, spill: &Self::Spill) -> u64 {
        let _ = spill;
        0
    }

    /// The body under way will not be completed.
    fn abandon(&self, spill: Self::Spill);

    /// A message is complete. Its verdict goes to `arrived.inlet`, now or later, exactly once.
    fn message(&self, arrived: Arrived<'_, D, Self::Spill>);
}

/// A complete message.
pub struct Arrived<'a, D: Driver, X> {
    /// Has its envelope, and facts about its content and sender.
    pub session: &'a ServerSession,
    /// Names it in the verdict.
    pub slot: Slot,
    /// Where the verdict goes.
    pub inlet: &'a Rc<Inlet<D>>,
    /// Its octets.
    pub content: Incoming<'a, X>,
}

/// Where a message's octets are.
pub enum Incoming<'a, X> {
    /// In a shared buffer, to be copied now.
    Octets(&'a [&'a [u8]]),
    /// In chunks of their own, the last one zero-padded to whole blocks.
    Chunks(Slices),
    /// Handed over already, every octet.
    Spilled(X),
}

/// What a session does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Go,
    /// No memory: what is left waits.
    Starved,
    Close,
}

/// How a connection comes in.
pub struct Admission<D: Driver> {
    /// Where the session is told what happens elsewhere.
    pub inlet: Rc<Inlet<D>>,
    /// The peer is one of our front ends, and may say for whom it speaks (S-018).
    pub trusted: bool,
    /// Said in place of the greeting.
    pub refuse: Option<Refusal>,
    /// What it shares with all connections of its shard.
    pub lobby: Rc<Lobby>,
}

/// What all connections that clients of one shard made have in common.
#[derive(Debug)]
pub struct Lobby {
    /// Where what happens is counted.
    pub tally: Rc<Tally>,
    /// Where sessions wait whose answers are delayed.
    pub tarpit: Rc<Tarpit>,
    /// The date, for greetings.
    pub date: LocalDate,
    /// Connections or memory run short (F-121, F-122).
    pressed: Cell<bool>,
    /// Emptied buffers of replies: a session that waits for its client holds none (P-108).
    spare_outs: RefCell<Spare<Vec<u8>, SPARE_OUTS>>,
}

impl Lobby {
    /// An empty lobby.
    pub fn new(tally: Rc<Tally>) -> Rc<Self> {
        Rc::new(Self {
            tally,
            tarpit: Rc::default(),
            date: LocalDate::default(),
            pressed: Cell::new(false),
            spare_outs: RefCell::default(),
        })
    }

    /// Says whether connections or memory run short. Whether that is new, so that sessions which wait are to be told.
    pub fn press(&self, pressed: bool) -> bool {
        !self.pressed.replace(pressed) && pressed
    }

    /// A buffer for replies.
    fn lend_out(&self) -> Vec<u8> {
        self.spare_outs.borrow_mut().take()
    }

    /// Takes a buffer for replies back.
    fn keep_out(&self, mut out: Vec<u8>) {
        if (1..=2 * HELD_BYTES_MAX).contains(&out.capacity()) {
            out.clear();
            self.spare_outs.borrow_mut().keep(out);
        }
    }
}

/// Serves one connection to its end.
pub async fn serve<D: Driver, S: Service<D>>(
    driver: D,
    service: Rc<S>,
    options: Arc<ServerOptions>,
    mut conn: D::Conn,
    admission: Admission<D>,
) {
    let Admission { inlet, trusted, refuse, lobby } = admission;
    let session = ServerSession::new(options, conn.peer(), conn.local(), trusted, driver.now());
    let chunk_bytes_max = service.chunk_bytes_max();
    let let_in = refuse.is_none();
    let mut talk = Talk::<D, S> {
        service,
        session,
        envelope: None,
        inlet,
        lobby,
        stuck: None,
        body: Body::in_chunks(chunk_bytes_max),
        undecided: 0,
        aimed: false,
        starved: None,
        left_bytes: 0,
        is_empty: true,
        owed: Vec::new(),
        answered: false,
        held_by: Tick::NEVER,
        spill: S::Spill::default(),
        spilled: 0,
        expected: 0,
        out: Vec::new(),
        answers: Vec::new(),
    };
    let mut event = talk.greet(refuse.as_ref(), &driver, &mut conn).await;
    loop {
        if !talk.holds_replies(driver.now()) {
            conn.put(&talk.out);
            talk.out.clear();
        }
        if talk.out.is_empty() {
            talk.lobby.keep_out(std::mem::take(&mut talk.out));
        }
        if event == Event::Close {
            break;
        }
        if std::mem::take(&mut talk.answered) {
            #[cfg(feature = "fail-points")]
            replied(&driver, &conn).await;
        }
        event = talk.turn(&driver, &mut conn).await;
        while event == Event::Discard {
            talk.drop_body();
            event = talk.step_on(driver.now());
        }
        talk.charge();
        talk.count();
    }
    if !talk.out.is_empty() {
        conn.put(&talk.out);
    }
    if let_in && talk.is_empty {
        talk.lobby.tally.one(Counter::SessionsEmpty);
    }
    talk.drop_body();
}

/// A verdict was put on the connection. Who is to die behind it waits until the kernel has it: on some drivers longer than
/// to the end of the turn. A peer that takes nothing is not waited for for ever.
#[cfg(feature = "fail-points")]
async fn replied<D: Driver>(driver: &D, conn: &D::Conn) {
    use crate::shell::hooks::{is_armed, is_next, pass};
    const TURNS_MAX: usize = 1000;
    if is_next("K8") || is_armed() {
        for _ in 0..TURNS_MAX {
            driver.sleep(Span::micros(1)).await;
            if conn.unsent() == 0 {
                break;
            }
        }
    }
    pass("K8");
    if is_armed() {
        pass("K9");
    }
}

/// A session and what it is receiving.
struct Talk<D: Driver, S: Service<D>> {
    service: Rc<S>,
    session: ServerSession,
    /// What the session holds of a large envelope, since it had one.
    envelope: Option<Charge>,
    inlet: Rc<Inlet<D>>,
    lobby: Rc<Lobby>,
    /// The place in the tarpit, while the answer to a command in error is delayed.
    stuck: Option<Stuck>,
    body: Body,
    /// Octets behind the content in the open chunk that wait for what follows them.
    undecided: usize,
    /// A chunk is with the connection.
    aimed: bool,
    /// Since when there was no memory for what was received.
    starved: Option<Tick>,
    /// Octets received that wait for it.
    left_bytes: usize,
    /// No recipient was named yet.
    is_empty: bool,
    /// How many verdicts each message is owed, where that is not one (LMTP).
    owed: Vec<(Slot, u32)>,
    /// Verdicts were put on the connection in this turn.
    answered: bool,
    /// Replies that are due are held for a verdict until then.
    held_by: Tick,
    spill: S::Spill,
    spilled: u64,
    /// Octets that the body will have, as far as anybody said; 0 is not known.
    expected: u64,
    out: Vec<u8>,
    answers: Vec<(Slot, Answer)>,
}

impl<D: Driver, S: Service<D>> Talk<D, S> {
    /// Greets, after a look at who talks first where the listener says so (M-017).
    async fn greet(&mut self, refuse: Option<&Refusal>, driver: &D, conn: &mut D::Conn) -> Event {
        let wait = self.session.options().timers.greeting;
        if refuse.is_some() || wait == Span::ZERO {
            return self.say_greeting(refuse, driver);
        }
        if S::HELD_BYTES_MAX < usize::MAX {
            conn.set_receive_room(S::HELD_BYTES_MAX);
        }
        let by = driver.now() + wait;
        loop {
            match conn.next(by, |_| (0, ())).await {
                Next::Bytes(()) => break,
                Next::Deadline => return self.say_greeting(None, driver),
                Next::Note(noted) if noted & bits::DRAIN != 0 => return self.session.on_shutdown(&mut self.out),
                Next::End | Next::Broken(_) => return Event::Close,
                Next::Note(_) | Next::Room | Next::Filled(..) => {}
            }
        }
        self.lobby.tally.one(Counter::EarlyTalkers);
        tracing::info!(cause = "early-talker", peer = %conn.peer(), "a client talked before the greeting");
        self.session.on_early_talk();
        // What it said is looked at behind the greeting.
        self.inlet.note(bits::AGAIN);
        self.say_greeting(None, driver)
    }

    fn say_greeting(&mut self, refuse: Option<&Refusal>, driver: &D) -> Event {
        let Self { session, lobby, out, .. } = self;
        match session.options().profile {
            Profile::Exchange => lobby.date.with(driver.wall(), |date| session.greet_on(date, refuse, out)),
            _ => session.greet(refuse, out),
        }
    }

    /// Whether what is to be said waits. The replies to the commands of a transaction that came whole leave with its
    /// verdict (RFC 2920 §3.2: as a unit): a send less for every message. Whoever sent the body has nothing to gain from
    /// them before, and what is to be said behind the verdict waits for it anyway. Where that is long in coming they leave
    /// without it (M-110).
    fn holds_replies(&mut self, now: Tick) -> bool {
        let waits = self.session.in_flight() > 0 && !self.answered && self.out.len() < HELD_BYTES_MAX;
        if self.out.is_empty() || !waits {
            self.held_by = Tick::NEVER;
            return self.out.is_empty();
        }
        self.held_by = self.held_by.min(now + HELD_WAIT);
        let held = now < self.held_by;
        if !held {
            self.held_by = Tick::NEVER;
        }
        held
    }

    /// Something may be said now.
    fn have_out(&mut self) {
        if self.out.capacity() == 0 {
            self.out = self.lobby.lend_out();
        }
    }

    /// Publishes what the session has counted.
    fn count(&mut self) {
        let counts = self.session.take_counts();
        if counts == SessionCounts::default() {
            return;
        }
        self.is_empty &= counts.recipients_accepted + counts.recipients_refused == 0;
        for (counter, count) in [
            (Counter::CommandErrors, counts.errors),
            (Counter::RecipientsAccepted, counts.recipients_accepted),
            (Counter::RecipientsRefused, counts.recipients_refused),
            (Counter::Violations, counts.violations),
            (Counter::TimeoutsIn, counts.timeouts),
        ] {
            self.lobby.tally.add(counter, u64::from(count));
        }
    }

    /// Waits for one thing to happen and deals with it. `Close`: flush and close; anything else: go on.
    async fn turn(&mut self, driver: &D, conn: &mut D::Conn) -> Event {
        if self.is_backed_up() {
            // Nothing is received until the taker of the body can take more.
            let (since, by) = (driver.now(), self.session.verdict_deadline().min(self.held_by));
            let noted = self.inlet.noted(driver.sleep(by.since(since))).await;
            self.session.on_held_up(since, driver.now());
            return match noted {
                Some(bits) => self.noted(bits, driver.now()),
                None => self.late(driver.now()),
            };
        }
        self.aim(conn);
        if S::HELD_BYTES_MAX < usize::MAX && (self.starved.is_none() || self.left_bytes == 0) {
            conn.set_receive_room(self.room());
        }
        self.take_place();
        self.session.set_pressed(self.lobby.pressed.get());
        if self.stuck.is_some() {
            return self.wait_out(driver, conn).await;
        }
        // The connection's one timer serves for both: that of a verdict costs no more where it comes in time.
        let by = self.session.deadline().min(self.held_by);
        match conn.next(by, |octets| self.feed(octets, driver.now())).await {
            Next::Bytes(Flow::Go) => {
                self.is_fed(conn);
                Event::More
            }
            Next::Room => Event::More,
            Next::Bytes(Flow::Close) => Event::Close,
            Next::Broken(_) => self.broken(),
            Next::Bytes(Flow::Starved) => self.starve(driver, conn).await,
            Next::Filled(fill, added) => {
                self.is_fed(conn);
                self.filled(conn, fill, added, driver.now())
            }
            Next::Note(noted) => self.noted(noted, driver.now()),
            // Half-closed: what was accepted is still answered (F-147); what is incomplete never will be complete.
            Next::End => self.drain_answers(driver, conn).await,
            Next::Deadline => self.late(driver.now()),
        }
    }

    /// Receives nothing while an answer is delayed: who waits costs what an idle session does (S-022).
    async fn wait_out(&mut self, driver: &D, conn: &mut D::Conn) -> Event {
        let by = self.session.deadline().min(self.held_by);
        conn.set_receive_room(0);
        let noted = self.inlet.noted(driver.sleep(by.since(driver.now()))).await;
        conn.set_receive_room(S::HELD_BYTES_MAX);
        match noted {
            Some(bits) => self.noted(bits, driver.now()),
            None => self.late(driver.now()),
        }
    }

    /// Reads nothing while there is no memory (F-040, the third step); a body that has waited for long is given up. Nor does the
    /// driver, until what it holds was taken: what it would receive ahead stands beside the budget, for every connection that
    /// waits.
    async fn starve(&mut self, driver: &D, conn: &mut D::Conn) -> Event {
        let now = driver.now();
        let since = *self.starved.get_or_insert(now);
        conn.set_receive_room(0);
        driver.sleep(STARVED_WAIT).await;
        if self.left_bytes == 0 {
            // Only what comes can ask for memory again.
            conn.set_receive_room(S::HELD_BYTES_MAX);
        }
        self.session.on_held_up(now, driver.now());
        if driver.now() >= self.session.deadline() {
            return self.session.on_timeout(driver.now(), &mut self.out);
        }
        if driver.now().since(since) >= STARVED_MAX {
            self.session.refuse_content(&NO_MEMORY);
            self.drop_body();
        }
        self.inlet.note(bits::AGAIN);
        Event::More
    }

    /// What was received found its memory: more may come.
    fn is_fed(&mut self, conn: &mut D::Conn) {
        if self.starved.take().is_some() {
            conn.set_receive_room(S::HELD_BYTES_MAX);
        }
    }

    /// A delayed session takes a place in the tarpit, or is answered at once where there is none (S-022).
    fn take_place(&mut self) {
        if self.session.is_delayed() == self.stuck.is_some() {
            return;
        }
        self.stuck = if self.session.is_delayed() { Tarpit::enter(&self.lobby.tarpit) } else { None };
        if self.session.is_delayed() && self.stuck.is_none() {
            self.session.answer_now(&mut self.out);
            self.inlet.note(bits::AGAIN);
        }
    }

    /// The session's deadline has passed.
    fn late(&mut self, now: Tick) -> Event {
        if now < self.session.deadline() {
            // Only that of the replies that were held.
            return Event::More;
        }
        if now >= self.session.verdict_deadline() {
            tracing::error!(cause = "verdict", "nobody knows what becomes of a message; its sender gets no reply");
        }
        let delayed = self.session.is_delayed();
        // It may have passed while the client was waited for.
        self.session.set_pressed(self.lobby.pressed.get());
        let event = self.session.on_timeout(now, &mut self.out);
        if !delayed {
            return event;
        }
        // What came behind the command in error is looked at now; a session that only waited to close says so.
        self.inlet.note(bits::AGAIN);
        self.step_on(now)
    }

    fn broken(&self) -> Event {
        self.lobby.tally.one(Counter::BrokenIn);
        Event::Close
    }

    /// Looks at octets as long as they make events. Returns how many were consumed.
    fn feed(&mut self, octets: &[u8], now: Tick) -> (usize, Flow) {
        self.have_out();
        let mut pieces: SmallVec<[&[u8]; 8]> = SmallVec::new();
        let mut at = 0;
        loop {
            if self.session.aim_hint().is_some() && self.service.pool().budget().percent() >= 100 {
                self.keep(&pieces);
                self.left_bytes = octets.len() - at;
                return (at, Flow::Starved);
            }
            let shown = octets.get(at..).unwrap_or_default();
            let step = self.session.step(shown, now, self.service.policy(), &mut self.out);
            at += step.consumed;
            match step.event {
                Event::Begin { expected } => {
                    hook!("K1");
                    self.expected = expected.unwrap_or(0);
                }
                Event::Body(range) => pieces.extend(shown.get(range)),
                Event::Insert(octets) => pieces.push(octets),
                Event::Message(slot) => {
                    self.complete(slot, &pieces);
                    pieces.clear();
                }
                Event::Discard => {
                    pieces.clear();
                    self.drop_body();
                }
                Event::More | Event::Paused => {
                    self.keep(&pieces);
                    return (at, Flow::Go);
                }
                Event::Close => return (at, Flow::Close),
            }
        }
    }

    /// How many octets of the body under way may still be received, beside those that are held: what stands in chunks,
    /// what is undecided behind it, and what was handed over.
    fn room(&self) -> usize {
        let handed_over = if self.spilled > 0 { self.service.held_bytes(&self.spill) } else { 0 };
        let held = self.body.bytes() - self.spilled + self.undecided as u64 + handed_over;
        S::HELD_BYTES_MAX.saturating_sub(usize::try_from(held).unwrap_or(usize::MAX))
    }

    /// Whether the taker of a large body is behind: there is no room for a whole chunk.
    fn is_backed_up(&self) -> bool {
        self.spilled > 0 && self.room() < self.service.chunk_bytes_max()
    }

    /// Receives what comes next straight into a chunk, if that pays.
    fn aim(&mut self, conn: &mut D::Conn) {
        if self.aimed {
            return;
        }
        let (room, pays) = match self.session.aim_hint() {
            Some(Expect::Chunk(left)) if left >= AIM_BYTES_MIN => (usize::try_from(left).unwrap_or(usize::MAX), true),
            Some(Expect::UntilDot) => {
                let large = self.expected.max(self.body.bytes() + self.spilled) >= LARGE_BYTES;
                let open = self.body.open_room();
                let room = if open == 0 { usize::MAX } else { open.saturating_sub(TAIL_BYTES) };
                (room, large && room > TAIL_BYTES)
            }
            _ => (0, false),
        };
        if !pays || self.service.pool().budget().percent() >= 100 {
            self.give_back_undecided(conn);
            return;
        }
        let Some(mut fill) = self.body.take_open(self.service.pool(), self.expected) else { return };
        let tail = if self.session.aim_hint() == Some(Expect::UntilDot) { TAIL_BYTES } else { 0 };
        fill.limit(room.min(fill.room() - tail).min(self.room()));
        conn.aim(fill);
        self.aimed = true;
    }

    /// An undecided tail goes back in front of what is shown next.
    fn give_back_undecided(&mut self, conn: &mut D::Conn) {
        let undecided = std::mem::take(&mut self.undecided);
        if undecided == 0 {
            return;
        }
        let Some(mut fill) = self.body.take_open(self.service.pool(), self.expected) else { return };
        let written = fill.written();
        conn.give_back(&written[written.len() - undecided..]);
        fill.retreat(undecided);
        self.body.put_back(fill, 0);
    }

    /// Content arrived in the aimed chunk.
    fn filled(&mut self, conn: &mut D::Conn, mut fill: crate::sys::slice::Fill, added: usize, now: Tick) -> Event {
        self.aimed = false;
        let new = std::mem::take(&mut self.undecided) + added;
        let written = fill.written_mut();
        let from = written.len() - new;
        let aimed = self.session.on_aimed(&mut written[from..], now, &mut self.out);
        conn.give_back(&written[from..][aimed.rest.clone()]);
        fill.retreat(new - aimed.content - aimed.undecided);
        self.undecided = aimed.undecided;
        let written = fill.written();
        let tail: SmallVec<[u8; TAIL_BYTES]> = SmallVec::from_slice(&written[written.len() - aimed.undecided..]);
        self.body.put_back(fill, aimed.content);
        match aimed.event {
            Event::Message(slot) => self.complete(slot, &[]),
            Event::Discard => self.drop_body(),
            Event::Close => return Event::Close,
            _ => {
                hook!("K2");
                self.spill_full();
            }
        }
        if self.undecided == 0 {
            // The body was given up; its undecided octets may still be the beginning of its end.
            conn.give_back(&tail);
        }
        // A session may have said its last word behind a body that it gave up.
        if aimed.event == Event::Discard { Event::Discard } else { Event::More }
    }

    /// Collects pieces of a body that goes on.
    fn keep(&mut self, pieces: &[&[u8]]) {
        if !pieces.is_empty() {
            hook!("K2");
        }
        for piece in pieces {
            if !self.body.put(self.service.pool(), piece, self.expected) {
                self.session.refuse_content(&NO_MEMORY);
                self.drop_body();
                return;
            }
        }
        self.spill_full();
    }

    fn spill_full(&mut self) {
        let is_due = self.body.full_bytes() >= self.service.spill_bytes(self.spilled > 0);
        let is_short = self.spilled == 0 && self.room() < ROOM_BYTES_MIN && self.body.full_bytes() > 0;
        if !is_due && !is_short {
            return;
        }
        let (chunks, bytes) = self.body.take_full();
        self.hand_over(chunks, bytes);
    }

    fn hand_over(&mut self, chunks: Slices, bytes: u64) {
        self.spilled += bytes;
        if let Err(refusal) = self.service.spill(&self.session, &self.inlet, &mut self.spill, chunks, bytes) {
            self.session.refuse_content(&refusal);
            self.drop_body();
        }
    }

    /// The body is complete: the service takes the message.
    fn complete(&mut self, slot: Slot, pieces: &[&[u8]]) {
        let (session, inlet) = (&self.session, &self.inlet);
        if session.options().dialect == Dialect::Lmtp {
            self.owed.push((slot, session.envelope().recipient_count()));
        }
        let shown: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.body.is_empty() && self.spilled == 0 && shown <= OCTETS_MAX {
            self.service.message(Arrived { session, slot, inlet, content: Incoming::Octets(pieces) });
            self.reset_body();
            return;
        }
        for piece in pieces {
            if !self.body.put(self.service.pool(), piece, self.expected) {
                self.inlet.answer(slot, Answer::Refused(NO_MEMORY));
                self.drop_body();
                return;
            }
        }
        let spilled = self.spilled;
        let bytes = self.body.bytes() - spilled;
        let chunks = std::mem::take(&mut self.body).finish();
        let content = if spilled == 0 {
            Incoming::Chunks(chunks)
        } else {
            if let Err(refusal) = self.service.spill(session, inlet, &mut self.spill, chunks, bytes) {
                self.inlet.answer(slot, Answer::Refused(refusal));
                self.drop_body();
                return;
            }
            Incoming::Spilled(std::mem::take(&mut self.spill))
        };
        self.service.message(Arrived { session, slot, inlet, content });
        self.reset_body();
    }

    fn reset_body(&mut self) {
        self.body = Body::in_chunks(self.service.chunk_bytes_max());
        self.spilled = 0;
        self.undecided = 0;
        self.expected = 0;
    }

    fn drop_body(&mut self) {
        if self.spilled > 0 {
            self.service.abandon(std::mem::take(&mut self.spill));
        }
        self.reset_body();
    }

    fn noted(&mut self, noted: u32, now: Tick) -> Event {
        if noted & bits::ANSWERS != 0 {
            if !self.answer_all(now) {
                return Event::Close;
            }
            // A session that only waited for its verdicts to close says so now.
            let event = self.step_on(now);
            if matches!(event, Event::Close | Event::Discard) {
                return event;
            }
        }
        if noted & bits::LAST_CALL != 0 {
            return self.session.on_last_call(&mut self.out);
        }
        if noted & bits::DRAIN != 0 {
            return self.session.on_shutdown(&mut self.out);
        }
        Event::More
    }

    /// What the session has to say without a further octet.
    fn step_on(&mut self, now: Tick) -> Event {
        self.session.step(&[], now, self.service.policy(), &mut self.out).event
    }

    /// Charges what the envelope holds beyond what each may.
    fn charge(&mut self) {
        let excess = self.session.envelope_excess_bytes();
        if excess > 0 || self.envelope.is_some() {
            self.envelope.get_or_insert_with(|| Charge::new(self.service.pool())).set(excess);
        }
    }

    /// So many replies are owed to the message in `slot`.
    fn take_owed(&mut self, slot: Slot) -> u32 {
        self.owed.iter().position(|(of, _)| *of == slot).map_or(1, |at| self.owed.swap_remove(at).1)
    }

    /// Passes verdicts on. `false`: one of them is silence.
    fn answer_all(&mut self, now: Tick) -> bool {
        self.have_out();
        let mut answers = std::mem::take(&mut self.answers);
        self.inlet.swap(&mut answers);
        let mut sound = true;
        for (slot, answer) in answers.drain(..) {
            let verdict = match &answer {
                Answer::Accepted { id, message_id } => {
                    Verdict::Accepted { id: *id, message_id: message_id.as_deref().unwrap_or_default() }
                }
                Answer::Relayed(reply) => Verdict::Relayed(reply),
                Answer::Refused(refusal) => Verdict::Refused(refusal),
                Answer::Each { id, outcomes } => {
                    let owed = self.take_owed(slot);
                    for outcome in outcomes {
                        let accepted = Verdict::Accepted { id: *id, message_id: b"" };
                        let verdict = outcome.as_ref().map_or(accepted, Verdict::Refused);
                        self.session.on_verdict(slot, verdict, now, &mut self.out);
                    }
                    if outcomes.len() < owed as usize {
                        sound = false;
                        break;
                    }
                    continue;
                }
                Answer::Silence => {
                    sound = false;
                    break;
                }
            };
            for _ in 0..self.take_owed(slot) {
                self.session.on_verdict(slot, verdict, now, &mut self.out);
            }
        }
        self.answered = true;
        answers.clear();
        self.answers = answers;
        sound
    }

    /// The peer sends no more; answers that are owed or delayed are waited for and sent, and what they held up is dealt with.
    async fn drain_answers(&mut self, driver: &D, conn: &mut D::Conn) -> Event {
        loop {
            self.take_place();
            if !self.out.is_empty() {
                conn.put(&self.out);
                self.out.clear();
            }
            let by = match (self.session.is_delayed(), self.session.in_flight()) {
                (true, _) => self.session.deadline(),
                (false, 0) => driver.now(),
                (false, _) => self.session.verdict_deadline(),
            };
            match conn.next(by, |octets| self.feed(octets, driver.now())).await {
                Next::Note(noted) if self.noted(noted & bits::ANSWERS, driver.now()) == Event::Close => break,
                Next::Bytes(Flow::Close) | Next::Broken(_) => break,
                Next::Deadline if !self.session.is_delayed() || self.late(driver.now()) == Event::Close => break,
                _ => {}
            }
        }
        Event::Close
    }
}

#[cfg(test)]
mod tests;
