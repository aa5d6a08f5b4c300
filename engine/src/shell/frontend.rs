//! The front end: takes a client's session, answers its envelope from snapshots, and hands content to a hub. It keeps
//! nothing: the client's 250 is the hub's.
//!
//! A message that comes in one view, or is smaller than 60 KiB, is held until it is complete and travels in a batch with
//! those of other clients, over a connection that all share; it may change hubs as long as its last octet was not handed
//! on. A larger one gets a hub connection of its own and is passed on chunk by chunk as it arrives. Of either at most
//! 64 KiB are held here: what waits for the hub, what the connection to it has not sent, what is being received, and what
//! was received and not looked at. It is so because no receive asks for more than the room that these leave.
//!
//! Each recipient was told 250 before any hub is asked. A hub that trusts us takes them all or none; before another one the
//! content of a message to several waits for what it says of each, and if it refuses one the message is refused to all.

mod trunk;

use super::ids::MessageIds;
use super::inlet::{Answer, Inlet};
use super::options::client_timers;
use super::serve::{Arrived, Incoming, NO_MEMORY, Service};
use super::trace::Tracer;
use crate::io::driver::Driver;
use crate::roles::frontend::{FrontEndPolicy, Hub, Hubs, NO_HUB};
use crate::route::{HUBS, Snapshot};
use crate::settings::Settings;
use crate::shell::body::{Slices, trim};
use crate::smtp::client::{ClientOptions, ClientTimers};
use crate::smtp::server::{ClientIdentity, ClientIdentityRef, Policy, ServerSession, SessionFacts};
use crate::sys::slice::{Fill, Pool, Slice};
use crate::track::counters::{Counter, Tally};
use crate::track::report::{Health, HostReport, QueueReport};
use crate::wire::{ContentFacts, DeliveryType, Refusal, Reply, ReplyClass, Span};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use trunk::{Job, JobContent, Stream, Trunk};

/// More than so many octets of a message are never held.
const HELD_BYTES: usize = 64 << 10;
/// A large body is passed on in chunks of this size.
const PIECE_BYTES: usize = 16 << 10;
/// Small messages of many clients are packed into chunks of this size.
const PACK_BYTES: usize = 256 << 10;
/// A message that found no living hub is refused after so many tries.
const TRIES_MAX: u32 = 4;
/// The longest wait for a hub's answer to the end of a body: the client behind us waits for it too (M-049).
const HUB_WAIT: Span = Span::minutes(3);
/// The longest wait for a connection to a hub: another may be there.
const CONNECT_WAIT: Span = Span::seconds(2);
/// How often the hubs are looked at: which may be given mail, which are to be looked for.
const LOOK_EVERY: Span = Span::millis(20);
/// A hub whose connection brings no greeting for so long is dead.
const GREETING_WAIT: Span = Span::seconds(5);
/// A hub that owes answers and gives none for so long gets no new message while another does.
const SILENCE: Span = Span::millis(200);
/// One that has not greeted after so long gets none either, and what waits for it goes to another. A listener that is
/// closed while a connection comes may leave it unheard, and the kernel asks again after a second.
const LATE: Span = Span::millis(100);

/// One shard's front end.
pub struct FrontEnd<D: Driver> {
    driver: D,
    pool: Pool,
    tally: Rc<Tally>,
    policy: FrontEndPolicy,
    hubs: RefCell<Hubs>,
    trunks: RefCell<Vec<Rc<Trunk<D>>>>,
    client: Arc<ClientOptions>,
    connect_wait: Span,
    trace: Tracer,
    packing: RefCell<Packing>,
    ids: MessageIds,
}

impl<D: Driver> FrontEnd<D> {
    /// A front end before the hubs of `snapshot`.
    pub fn new(driver: D, settings: &Arc<Settings>, pool: Pool, tally: Rc<Tally>, snapshot: &Snapshot) -> Rc<Self> {
        let delivery = &settings.delivery;
        let client = ClientOptions {
            in_flight_max: delivery.in_flight_max as usize,
            long_lines: true,
            just_send_eight_bit: true,
            all_or_none: true,
            timers: ClientTimers {
                greeting: delivery.greeting_wait.min(GREETING_WAIT),
                ..bounded(client_timers(delivery))
            },
            ..ClientOptions::new(&settings.server.fqdn)
        };
        let this = Rc::new(Self {
            policy: FrontEndPolicy::new(settings, pool.budget().clone()),
            hubs: RefCell::default(),
            trunks: RefCell::default(),
            client: Arc::new(client),
            connect_wait: delivery.connect_wait.min(CONNECT_WAIT),
            trace: Tracer::new(settings),
            packing: RefCell::new(Packing { open: None, least: PACK_BYTES }),
            ids: MessageIds::new(&driver),
            driver,
            pool,
            tally,
        });
        this.install_routes(snapshot);
        this.driver.spawn(watch(this.clone()));
        this
    }

    /// Takes over a new list of hubs.
    pub fn install_routes(&self, snapshot: &Snapshot) {
        self.hubs.borrow_mut().install(snapshot.hubs.hosts.iter().map(|host| host.address));
    }

    /// Whether any hub may be tried: what health is.
    pub fn has_hub(&self) -> bool {
        self.hubs.borrow().any_usable(self.driver.now())
    }

    /// Closes up to `most` connections to hubs that nothing uses (F-038). How many it was.
    pub fn shed_idle(&self, most: usize) -> usize {
        let trunks = self.trunks.borrow();
        trunks.iter().filter(|trunk| trunk.close_idle()).take(most).count()
    }

    fn identity(facts: &SessionFacts) -> ClientIdentityRef<'_> {
        let own =
            ClientIdentityRef { address: facts.peer().ip(), ehlo_name: facts.ehlo_name(), protocol: facts.protocol() };
        facts.identity().map_or(own, ClientIdentity::as_ref)
    }

    /// A trace header of our own in the form of Exchange; none otherwise (M-078).
    fn trace_of(&self, session: &ServerSession, packing: &mut Packing) -> Option<Slice> {
        if !session.options().exchange_trace {
            return packing.pack(&self.pool, &[]);
        }
        let id = self.ids.next();
        let mut buffer = self.trace.buffer();
        self.trace.write(session, Some("Frontend Transport"), (id, self.driver.wall()), &mut buffer);
        let slice = packing.pack(&self.pool, &[&buffer]);
        self.trace.keep(buffer);
        slice
    }

    fn job(&self, session: &ServerSession, inlet: &Rc<Inlet<D>>, content: JobContent<D>) -> Option<Job<D>> {
        let client = Self::identity(session.facts());
        // What is streamed lasts as long as its client likes: it must not keep the memory of others.
        let (mut apart, mut shared) = (Packing { open: None, least: 0 }, self.packing.borrow_mut());
        let packing = if matches!(content, JobContent::Stream(_)) { &mut apart } else { &mut *shared };
        Some(Job {
            envelope: packing.pack(&self.pool, &[session.envelope().bytes()])?,
            trace: self.trace_of(session, packing)?,
            facts: *session.content(),
            client: client.address,
            ehlo_name: packing.pack(&self.pool, &[client.ehlo_name])?,
            protocol: client.protocol,
            inlet: inlet.clone(),
            content,
            tries: 0,
        })
    }

    /// Gives a job to a hub, or refuses it.
    fn submit(self: &Rc<Self>, mut job: Job<D>) {
        job.tries += 1;
        let hub = if job.tries > TRIES_MAX { None } else { self.hubs.borrow_mut().choose(self.driver.now()) };
        let Some(hub) = hub else {
            return self.refuse(&job, NO_HUB);
        };
        let alone = matches!(job.content, JobContent::Stream(_));
        let trunk = {
            let trunks = self.trunks.borrow();
            // One that is not there yet may be long in coming, and the way of one that is silent may be lost.
            let now = self.driver.now();
            let rank = |trunk: &&Rc<Trunk<D>>| (trunk.is_silent(now, SILENCE), !trunk.is_ready(), trunk.load());
            trunks.iter().filter(|trunk| trunk.takes(hub, alone)).min_by_key(rank).cloned()
        };
        let trunk = trunk.unwrap_or_else(|| self.open_trunk(hub));
        self.hubs.borrow_mut().add_load(hub, 1);
        trunk.give(job);
    }

    fn open_trunk(self: &Rc<Self>, hub: SocketAddr) -> Rc<Trunk<D>> {
        let trunk = Rc::new(Trunk::new(hub, self.driver.now()));
        self.trunks.borrow_mut().push(trunk.clone());
        self.driver.spawn(trunk::run(self.clone(), trunk.clone()));
        trunk
    }

    /// What waits for a connection that takes nothing more goes to others.
    fn pass_on(self: &Rc<Self>, trunk: &Trunk<D>) {
        for job in trunk.take_all() {
            self.hubs.borrow_mut().add_load(trunk.hub, -1);
            self.submit(job);
        }
    }

    /// What waits for a connection to `hub` that is not there yet goes to a hub that is better off, if there is one.
    fn move_waiting(self: &Rc<Self>, hub: SocketAddr) {
        if !self.hubs.borrow().is_another_well(hub) {
            return;
        }
        let trunks = self.trunks.borrow();
        let waiting: Vec<_> =
            trunks.iter().filter(|trunk| trunk.is_to(hub)).flat_map(|trunk| trunk.take_waiting()).collect();
        drop(trunks);
        for mut job in waiting {
            self.hubs.borrow_mut().add_load(hub, -1);
            // Nobody was asked: it counts as no try.
            job.tries = job.tries.saturating_sub(1);
            self.submit(job);
        }
    }

    /// What the control plane is told: the hubs, as one queue that nothing waits in.
    pub fn report(&self) -> QueueReport {
        let (hubs, trunks) = (self.hubs.borrow(), self.trunks.borrow());
        let report = |(hub, alive): (&Hub, bool)| HostReport {
            address: hub.address.to_string(),
            health: match alive {
                false => Health::Dead,
                true if hub.was_reached => Health::Alive,
                true => Health::Unknown,
            },
            connections: trunks.iter().filter(|trunk| trunk.is_to(hub.address)).count() as u64,
            sending: u64::from(hub.load),
            last_error: hub.last_error.map(|why| why.to_string()),
        };
        let hosts: Vec<HostReport> = hubs.iter().map(report).collect();
        let sending = hosts.iter().map(|host| host.sending).sum();
        let delivery_type = DeliveryType::SmartHost.as_str().to_owned();
        QueueReport { next_hop: HUBS.to_owned(), delivery_type, sending, hosts, ..QueueReport::default() }
    }

    /// Sets the gauges.
    pub fn publish(&self) {
        self.tally.set(Counter::ConnectionsOut, self.trunks.borrow().len() as u64);
    }

    fn refuse(&self, job: &Job<D>, refusal: Refusal) {
        tracing::info!(cause = "hub", reply = %refusal.reply(), "a message was refused here");
        self.tally.one(Counter::MessagesDeferred);
        match &job.content {
            JobContent::Whole { slot, .. } => job.inlet.answer(*slot, Answer::Refused(refusal)),
            JobContent::Stream(stream) => stream.refuse(refusal),
        }
    }

    /// What the hub made of a message is not known: nothing may be said (M-049).
    fn keep_silent(&self, job: &Job<D>) {
        tracing::warn!(cause = "hub", "a hub was lost behind a message's last octet; its sender gets no reply");
        self.tally.one(Counter::Unknown);
        match &job.content {
            JobContent::Whole { slot, .. } => job.inlet.answer(*slot, Answer::Silence),
            JobContent::Stream(stream) => stream.answer(Answer::Silence),
        }
    }

    /// The hub answered: so does the client's session.
    fn relay(&self, job: &Job<D>, reply: &Reply) {
        let is_good = reply.class() == ReplyClass::Positive;
        let answer = match Some(reply).filter(|_| !is_good).and_then(|reply| Refusal::of(reply.clone())) {
            None => {
                self.tally.one(Counter::MessagesAccepted);
                Answer::Relayed(reply.clone())
            }
            Some(refusal) => {
                // Its code alone: the text may name who else gets the message (S-040).
                let streamed = matches!(job.content, JobContent::Stream(_));
                tracing::info!(cause = "hub", code = reply.code(), streamed, "a hub refused a message");
                self.tally.one(if refusal.is_permanent() {
                    Counter::MessagesRefused
                } else {
                    Counter::MessagesDeferred
                });
                Answer::Refused(refusal)
            }
        };
        match &job.content {
            JobContent::Whole { slot, .. } => job.inlet.answer(*slot, answer),
            JobContent::Stream(stream) => stream.answer(answer),
        }
    }
}

/// Memory for what is small, in chunks of at least so many octets.
struct Packing {
    open: Option<Fill>,
    least: usize,
}

impl Packing {
    /// Copies `pieces`, one behind the other: the one copy in. `None`: no memory.
    fn pack(&mut self, pool: &Pool, pieces: &[&[u8]]) -> Option<Slice> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.open.as_ref().is_none_or(|fill| fill.room() < bytes) {
            self.open = Some(pool.fill(bytes.max(self.least))?);
        }
        let fill = self.open.as_mut().filter(|fill| fill.room() >= bytes)?;
        for piece in pieces {
            fill.put(piece);
        }
        Some(fill.take())
    }
}

/// A hub that has not answered by then, whatever it was asked, is no hub to wait for.
fn bounded(timers: ClientTimers) -> ClientTimers {
    let ClientTimers { hello, mail, rcpt, data, end, .. } = timers;
    let [hello, mail, rcpt, data, end] = [hello, mail, rcpt, data, end].map(|wait| wait.min(HUB_WAIT));
    ClientTimers { hello, mail, rcpt, data, end, ..timers }
}

/// Looks for dead hubs, notices silent ones, and keeps the policy's word about them up to date.
async fn watch<D: Driver>(front: Rc<FrontEnd<D>>) {
    loop {
        let now = front.driver.now();
        let dead = front.hubs.borrow_mut().probe(now);
        if let Some(hub) = dead {
            front.open_trunk(hub);
        }
        let hubs: Vec<SocketAddr> = front.hubs.borrow().iter().map(|(hub, _)| hub.address).collect();
        for hub in hubs {
            let any =
                |is: &dyn Fn(&Trunk<D>) -> bool| front.trunks.borrow().iter().any(|one| one.is_to(hub) && is(one));
            let late = any(&|trunk| trunk.is_late(now, LATE));
            // One connection that does not come says little of a hub that answers over others.
            let found_at = front.hubs.borrow().found_at(hub);
            let silent = any(&|trunk| trunk.tells_of_silence(now, SILENCE, found_at));
            let silent = silent || late && !any(&|trunk| trunk.is_ready());
            front.hubs.borrow_mut().set_silent(hub, silent, now);
            if silent || late {
                front.move_waiting(hub);
            }
        }
        front.hubs.borrow_mut().news(now, |hub, dead| match dead {
            true => {
                let why = hub.last_error.map(tracing::field::display);
                tracing::warn!(cause = "hub", hub = %hub.address, why, "a hub is dead: it is looked for");
            }
            false => tracing::info!(cause = "hub", hub = %hub.address, "a hub is dead no more"),
        });
        front.policy.has_hub.set(front.has_hub());
        front.driver.sleep(LOOK_EVERY).await;
    }
}

impl<D: Driver> Service<D> for Rc<FrontEnd<D>> {
    const HELD_BYTES_MAX: usize = HELD_BYTES;

    type Spill = Option<Rc<Stream<D>>>;

    fn policy(&self) -> &dyn Policy {
        &self.policy
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn chunk_bytes_max(&self) -> usize {
        PIECE_BYTES
    }

    fn spill_bytes(&self, begun: bool) -> usize {
        if begun { PIECE_BYTES } else { HELD_BYTES }
    }

    fn spill(
        &self,
        session: &ServerSession,
        inlet: &Rc<Inlet<D>>,
        spill: &mut Self::Spill,
        chunks: Slices,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let stream = match spill {
            Some(stream) => stream.clone(),
            None => {
                let stream = Rc::new(Stream::new(inlet.clone()));
                let job = self.job(session, inlet, JobContent::Stream(stream.clone())).ok_or(NO_MEMORY)?;
                *spill = Some(stream.clone());
                self.submit(job);
                stream
            }
        };
        self.tally.add(Counter::ContentIn, bytes);
        stream.add(trim(&chunks, bytes), bytes)
    }

    fn held_bytes(&self, spill: &Self::Spill) -> u64 {
        spill.as_ref().map_or(0, |stream| stream.held_bytes())
    }

    fn abandon(&self, spill: Self::Spill) {
        if let Some(stream) = spill {
            stream.abandon();
        }
    }

    fn message(&self, arrived: Arrived<'_, D, Self::Spill>) {
        let facts: &ContentFacts = arrived.session.content();
        let content: Option<Slices> = match &arrived.content {
            Incoming::Octets(pieces) => {
                self.tally.add(Counter::CopiedBytes, facts.bytes);
                self.packing.borrow_mut().pack(&self.pool, pieces).map(|slice| Slices::from_iter([slice]))
            }
            Incoming::Chunks(chunks) => Some(trim(chunks, facts.bytes)),
            Incoming::Spilled(stream) => {
                if let Some(stream) = stream {
                    stream.end(arrived.slot);
                }
                return;
            }
        };
        self.tally.add(Counter::ContentIn, facts.bytes);
        let slot = arrived.slot;
        let job =
            content.and_then(|content| self.job(arrived.session, arrived.inlet, JobContent::Whole { content, slot }));
        match job {
            Some(job) => self.submit(job),
            None => arrived.inlet.answer(slot, Answer::Refused(NO_MEMORY)),
        }
    }
}
