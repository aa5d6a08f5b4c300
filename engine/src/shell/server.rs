//! One shard's life: listeners and their services, orders of the control plane, draining, the end.

use super::door::Door;
use super::frontend::FrontEnd;
use super::gate::Gate;
use super::hub::{Exchange, Hub, HubParts, Left, read_spool, recover, takes_direct};
use super::inlet::{Inlet, bits};
use super::mailbox::MailboxDelivery;
use super::options::server_options;
use super::serve::{Admission, Lobby, Service, serve};
use super::short::{Short, Shortage};
use super::signal::Signal;
use crate::io::driver::{Conn, Driver, Remote};
use crate::io::launch::{Launch, LaunchError, Program, Running, launch};
use crate::roles::hub::REFUSE_PERCENT;
use crate::roles::relay_policy;
use crate::route::{RelayPolicy, Snapshot};
use crate::settings::{Durability, Listener, Role, Settings, Store};
use crate::smtp::server::ServerOptions;
use crate::spool::Adoption;
use crate::sys::slice::{Budget, Pool};
use crate::track::counters::{Counter, Tally};
use crate::track::desk::{Failure, Links, Notice, Order, Ready, ShardDesk};
use crate::track::report::{Removed, ShardReport};
use crate::wire::{Span, Tick};
use arc_swap::ArcSwap;
use slab::Slab;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a connection beyond our last descriptor is told (F-038).
const NO_DESCRIPTOR: &[u8] = b"421 4.3.2 Too many connections; try again later\r\n";
/// Idle connections to next hops that are closed at a time when descriptors are short.
const SHED_MAX: usize = 16;
/// How long accepting pauses after that.
const NO_DESCRIPTOR_WAIT: Span = Span::millis(50);
/// How long a start waits for the first segment of the spool.
const FIRST_SEGMENT_WAIT: Span = Span::seconds(5);
/// What a drain keeps for its end, where it has it: drivers wait 2 s for peers that do not close.
const END_WAIT: Span = Span::seconds(3);
/// How often gauges and the driver's counts are published.
const PUBLISH_EVERY: Span = Span::millis(250);
/// How often a condition of another shard, or a drain, is looked at.
const LOOK_EVERY: Span = Span::millis(2);
/// How often a shard looks whether connections or memory run short.
const PRESSURE_EVERY: Span = Span::seconds(1);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its shards cannot run.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Its spool cannot be taken over.
    #[error("{}", .0.text)]
    Spool(Failure),
}

impl StartError {
    /// Whether the user can mend it: exit 2, else 4.
    pub fn is_usage(&self) -> bool {
        match self {
            StartError::Launch(error) => matches!(error, LaunchError::Refused { .. }),
            StartError::Spool(failure) => failure.usage,
        }
    }
}

/// Reads what an earlier run left, where this server keeps anything: that may take minutes, and changes nothing that counts.
///
/// # Errors
/// When the driver that was named is refused, or the spool is not one that may be written to.
pub fn read_left(settings: &Settings) -> Result<Option<Left>, StartError> {
    let shards = settings.server.cores.len();
    let left = settings.server.data_dir.as_deref().map(|path| recover(path, settings.server.driver, shards));
    kept(settings, left.transpose().map_err(StartError::Spool)?)
}

/// Starts the shards of a server, which take over what [`read_left`] found.
///
/// # Errors
/// When the driver that was named is refused, or there are no threads.
pub fn start(
    settings: &Arc<Settings>,
    links: Links,
    routes: Arc<ArcSwap<Snapshot>>,
    left: Option<Left>,
) -> Result<Running, StartError> {
    let launching = Launch { driver: settings.server.driver, cores: settings.server.cores.clone() };
    Ok(launch(&launching, Server::new(settings, links, routes, left))?)
}

/// Does both on drivers that are there already, one for each shard, without threads.
///
/// # Errors
/// The spool is not one that may be written to.
///
/// # Panics
/// Unless there are as many drivers as the settings name cores.
pub async fn start_on<D: Driver>(
    drivers: Vec<D>,
    settings: &Arc<Settings>,
    links: Links,
    routes: Arc<ArcSwap<Snapshot>>,
) -> Result<(), StartError> {
    assert_eq!(drivers.len(), settings.server.cores.len(), "a driver for each shard");
    let left = match (settings.server.data_dir.as_deref(), drivers.first()) {
        (Some(path), Some(driver)) => Some(read_spool(driver, path, drivers.len()).await.map_err(StartError::Spool)?),
        _ => None,
    };
    let server = Server::new(settings, links, routes, kept(settings, left)?);
    for (shard, driver) in drivers.into_iter().enumerate() {
        driver.clone().spawn(server.clone().run(driver, shard));
    }
    Ok(())
}

/// The folder that messages are kept in, if this server keeps any.
fn spool_folder(settings: &Settings) -> Option<&Path> {
    let keeps = settings.plays(Role::Hub) && settings.server.durability != Durability::None;
    settings.server.data_dir.as_deref().filter(|_| keeps)
}

/// What an earlier run left, for a server that keeps messages. One that keeps none must not let them lie (I-10).
fn kept(settings: &Settings, left: Option<Left>) -> Result<Option<Left>, StartError> {
    let Some(left) = left else { return Ok(None) };
    let wanting = match settings.server.durability {
        _ if !settings.plays(Role::Hub) => "no hub would be started that delivers them; start one first",
        Durability::None => "durability none keeps nothing there; start with os or disk",
        Durability::Os | Durability::Disk => return Ok(Some(left)),
    };
    match left.recovered.live_count() {
        0 => Ok(None),
        count => {
            let folder = settings.server.data_dir.as_deref().unwrap_or(Path::new("")).display();
            let what = format!("{count} messages of an earlier run, or records of who failed,");
            let text = format!("server.data_dir: {what} stand in {folder}, and {wanting}");
            Err(StartError::Spool(Failure { usage: true, text: format!("{text}, or name another folder") }))
        }
    }
}

/// What the shards of a server have in common.
struct Shared {
    settings: Arc<Settings>,
    links: Links,
    routes: Arc<ArcSwap<Snapshot>>,
    budget: Arc<Budget>,
    /// The port of each listener plus one, once the first shard has bound it.
    ports: Vec<AtomicU32>,
    /// Who is let in by each listener.
    doors: Vec<Arc<Door>>,
    /// From when on.
    gate: Arc<Gate>,
    /// What was said of the memory that they share.
    shortage: Arc<Shortage>,
    /// What an earlier run left to each shard; each takes its own, once, before it serves.
    adoptions: Mutex<Vec<Option<Adoption>>>,
    /// The first numbers for segments and files that no earlier run used.
    next: (u64, u32),
    /// Damaged places that recovery put aside.
    damage: u64,
    /// By which hubs of several shards share their work.
    exchange: Option<Arc<Exchange>>,
}

/// The program of every shard.
#[derive(Clone)]
struct Server(Arc<Shared>);

impl Server {
    /// With what an earlier run left, where this server keeps anything.
    fn new(settings: &Arc<Settings>, links: Links, routes: Arc<ArcSwap<Snapshot>>, left: Option<Left>) -> Self {
        let (adoptions, next, damage) = match left {
            Some(left) => (left.recovered.adoptions, (left.recovered.next_number, left.next_file), left.damage),
            None => (Vec::new(), (1, 1), 0),
        };
        Self(Arc::new(Shared {
            settings: settings.clone(),
            links,
            routes,
            budget: Budget::new(usize::try_from(settings.server.memory_budget).unwrap_or(usize::MAX)),
            ports: settings.listeners.iter().map(|_| AtomicU32::new(0)).collect(),
            doors: settings.listeners.iter().map(|listener| Door::new(&listener.receive)).collect(),
            gate: Arc::new(Gate::of(settings.server.cores.len())),
            shortage: Arc::default(),
            adoptions: Mutex::new(adoptions.into_iter().map(Some).collect()),
            next,
            damage,
            exchange: Exchange::between(settings.server.cores.len()).filter(|_| settings.plays(Role::Hub)),
        }))
    }
}

impl Program for Server {
    async fn run<D: Driver>(self, driver: D, shard: usize) {
        let Some(link) = self.0.links.take(shard) else { return };
        let remote = driver.remote();
        link.desk.wake_by({
            let remote = remote.clone();
            move || remote.wake()
        });
        if let Some(exchange) = &self.0.exchange {
            exchange.wake_by(shard, move || remote.wake());
        }
        let tally = Rc::new(link.tally);
        match Shard::open(driver, &self.0, shard, tally).await {
            Ok((shard, ready)) => {
                self.0.gate.ready();
                tell(&link.desk, Notice::Ready(ready));
                let left = shard.live(&link.desk, &self.0).await;
                tell(&link.desk, Notice::Stopped { left });
            }
            Err(failure) => tell(&link.desk, Notice::Failed(failure)),
        }
    }
}

/// A notice that finds the desk full is dropped: the control plane is stuck, and mail goes on.
fn tell(desk: &ShardDesk, notice: Notice) {
    if desk.tell(notice).is_err() {
        tracing::warn!(cause = "desk", "the control plane does not listen");
    }
}

/// One shard that serves.
struct Shard<D: Driver> {
    driver: D,
    settings: Arc<Settings>,
    tally: Rc<Tally>,
    pool: Pool,
    hub: Option<Rc<Hub<D>>>,
    front: Option<Rc<FrontEnd<D>>>,
    store: Option<Rc<MailboxDelivery<D>>>,
    sessions: RefCell<Slab<Rc<Inlet<D>>>>,
    lobby: Rc<Lobby>,
    relay: RelayPolicy,
    /// What ends the listeners' tasks.
    closing: RefCell<Vec<Rc<Signal>>>,
    /// What they wait behind.
    gate: Arc<Gate>,
    /// How short memory was, where no hub looks.
    short: Short,
    shortage: Arc<Shortage>,
    /// What each listener's next session is made with.
    manners: RefCell<Vec<Rc<RefCell<Arc<ServerOptions>>>>>,
}

impl<D: Driver> Shard<D> {
    async fn open(driver: D, shared: &Shared, shard: usize, tally: Rc<Tally>) -> Result<(Rc<Self>, Ready), Failure> {
        let settings = shared.settings.clone();
        let shards = u32::try_from(settings.server.cores.len()).expect("fewer than 2^32 shards");
        let pool = Pool::new(shared.budget.clone());
        let mut commit = None;
        let hub = if settings.plays(Role::Hub) {
            let (hub, how) = open_hub(&driver, shared, shard, shards, &pool, &tally).await?;
            commit = how;
            Some(hub)
        } else {
            None
        };
        let front = settings
            .plays(Role::Frontend)
            .then(|| FrontEnd::new(driver.clone(), &settings, pool.clone(), tally.clone(), &shared.routes.load()));
        let store = if settings.plays(Role::MailboxDelivery) {
            let opened = MailboxDelivery::open(driver.clone(), &settings, pool.clone(), tally.clone());
            Some(Rc::new(opened.map_err(|error| no_store(&settings.store, &error))?))
        } else {
            None
        };
        let lobby = Lobby::new(tally.clone());
        let this = Rc::new(Self {
            front,
            store,
            driver,
            settings: settings.clone(),
            tally,
            pool,
            hub,
            sessions: RefCell::default(),
            lobby,
            relay: relay_policy(&settings.access),
            closing: RefCell::default(),
            gate: shared.gate.clone(),
            short: Short::default(),
            shortage: shared.shortage.clone(),
            manners: RefCell::default(),
        });
        let mut listen = Vec::new();
        for (index, listener) in settings.listeners.iter().enumerate() {
            let listening = this.listen(listener, (&shared.ports[index], &shared.doors[index]), shard).await;
            let unusable = |text| Failure { usage: true, text: format!("listener[{index}].address: {text}") };
            listen.push(listening.map_err(unusable)?);
        }
        this.driver.spawn(this.clone().publish());
        this.driver.spawn(this.clone().feel_pressure(shared.doors.clone()));
        Ok((this, Ready { listen, commit }))
    }

    /// Binds a listener and serves it. The first shard chooses the port, where the system is to choose.
    async fn listen(
        self: &Rc<Self>,
        listener: &Listener,
        (port, door): (&AtomicU32, &Arc<Door>),
        shard: usize,
    ) -> Result<SocketAddr, String> {
        let mut address = listener.address;
        if shard > 0 {
            while port.load(Ordering::Acquire) == 0 {
                self.driver.sleep(LOOK_EVERY).await;
            }
            address.set_port(u16::try_from(port.load(Ordering::Acquire) - 1).unwrap_or(0));
        }
        let bound = self.driver.listen(address).and_then(|socket| Ok((self.driver.local(&socket)?, socket)));
        let (bound, socket) = bound.map_err(|error| {
            format!("cannot listen on {address}: {error}; choose another address, or end what listens there")
        })?;
        port.store(u32::from(bound.port()) + 1, Ordering::Release);
        let options = Arc::new(server_options(&self.settings, listener));
        match (listener.role, &self.hub, &self.front, &self.store) {
            (Role::Hub, Some(hub), ..) => self.serve_with(socket, door, options, hub.clone()),
            (Role::Frontend, _, Some(front), _) => self.serve_with(socket, door, options, Rc::new(front.clone())),
            (Role::MailboxDelivery, .., Some(store)) => {
                self.serve_with(socket, door, options, Rc::new(store.clone()));
            }
            _ => unreachable!("a shard has the service of each of its listeners"),
        }
        Ok(bound)
    }

    fn serve_with<S: Service<D>>(
        self: &Rc<Self>,
        socket: D::Listener,
        door: &Arc<Door>,
        options: Arc<ServerOptions>,
        service: Rc<S>,
    ) {
        let closing = Rc::new(Signal::default());
        self.closing.borrow_mut().push(closing.clone());
        let options = Rc::new(RefCell::new(options));
        self.manners.borrow_mut().push(options.clone());
        self.driver.spawn(self.clone().accept((socket, closing), door.clone(), options, service));
    }

    /// Looks whether connections or memory run short: then clients are waited for less (F-121, F-122).
    async fn feel_pressure(self: Rc<Self>, doors: Vec<Arc<Door>>) {
        loop {
            self.driver.sleep(PRESSURE_EVERY).await;
            let short = self.pool.budget().percent() >= REFUSE_PERCENT;
            if self.lobby.press(short || doors.iter().any(|door| door.is_crowded())) {
                self.sessions.borrow().iter().for_each(|(_, inlet)| inlet.note(bits::AGAIN));
            }
        }
    }

    /// Accepts connections, as soon as every shard could, until the listener is closed.
    async fn accept<S: Service<D>>(
        self: Rc<Self>,
        (socket, closing): (D::Listener, Rc<Signal>),
        door: Arc<Door>,
        options: Rc<RefCell<Arc<ServerOptions>>>,
        service: Rc<S>,
    ) {
        if closing.unless_raised(self.gate.opened(&self.driver)).await.is_none() {
            return;
        }
        while let Some(accepted) = closing.unless_raised(self.driver.accept(&socket)).await {
            match accepted {
                Ok(conn) => {
                    let options = options.borrow().clone();
                    self.admit(conn, &door, options, &service);
                }
                Err(error) => {
                    tracing::warn!(cause = "accept", %error, "cannot accept connections");
                    if !self.shed_idle() {
                        self.tally.one(Counter::ConnectionsRefused);
                        self.driver.shed(&socket, NO_DESCRIPTOR);
                    }
                    self.driver.sleep(NO_DESCRIPTOR_WAIT).await;
                }
            }
        }
    }

    /// Closes connections that nothing uses, so that others may come in (F-038). Whether there were any.
    fn shed_idle(&self) -> bool {
        let by_hub = self.hub.as_ref().map_or(0, |hub| hub.shed_idle(SHED_MAX));
        let by_front = self.front.as_ref().map_or(0, |front| front.shed_idle(SHED_MAX));
        by_hub + by_front > 0
    }

    /// Serves a connection, or refuses it by its cap.
    fn admit<S: Service<D>>(
        self: &Rc<Self>,
        mut conn: D::Conn,
        door: &Arc<Door>,
        options: Arc<ServerOptions>,
        service: &Rc<S>,
    ) {
        self.tally.one(Counter::ConnectionsAccepted);
        let source = conn.peer().ip();
        let Some(mut place) = Door::enter(door, source) else {
            self.tally.one(Counter::ConnectionsRefused);
            return conn.abort();
        };
        let refuse = place.refused.take();
        if refuse.is_some() {
            self.tally.one(Counter::ConnectionsRefused);
        }
        let place = Rc::new(place);
        conn.keep(place.clone());
        let trusted = self.relay.trusts(source);
        let inlet = Rc::new(Inlet::new(conn.handle()));
        let key = self.sessions.borrow_mut().insert(inlet.clone());
        let admission = Admission { inlet, trusted, refuse, lobby: self.lobby.clone() };
        let (this, service) = (self.clone(), service.clone());
        self.driver.spawn(async move {
            serve(this.driver.clone(), service, options, conn, admission).await;
            this.sessions.borrow_mut().remove(key);
            place.leave();
        });
    }

    /// Looks at what crosses as long as the shard runs; orders raise a signal.
    async fn heed(self: Rc<Self>, ordered: Rc<Signal>) {
        loop {
            ordered.raise();
            if let Some(hub) = &self.hub {
                hub.crossed();
            }
            if self.hub.as_ref().is_none_or(|hub| hub.may_sleep()) {
                self.driver.woken().await;
            }
        }
    }

    /// Obeys the control plane until it says drain; messages that stay on disk.
    async fn live(self: Rc<Self>, desk: &ShardDesk, shared: &Shared) -> u64 {
        let ordered = Rc::new(Signal::default());
        self.driver.spawn(self.clone().heed(ordered.clone()));
        loop {
            while let Some(order) = desk.take() {
                match order {
                    Order::Report(number) => {
                        // Gauges and counters of this moment go with it.
                        self.publish_standing();
                        let mut queues = self.hub.as_ref().map(|hub| hub.report()).unwrap_or_default();
                        queues.extend(self.front.as_ref().map(|front| front.report()));
                        let report = ShardReport { queues, counts: self.tally.counts() };
                        tell(desk, Notice::Report(number, Box::new(report)));
                    }
                    Order::Routes => {
                        let routes = shared.routes.load_full();
                        self.take_names(&routes.single_labels);
                        if let Some(front) = &self.front {
                            front.install_routes(&routes);
                        }
                        if let Some(hub) = &self.hub {
                            hub.install_routes(routes);
                        }
                    }
                    Order::Retry(queue) => {
                        if let Some(hub) = &self.hub {
                            hub.retry(&queue);
                        }
                    }
                    Order::Page(number, page) => {
                        let page = self.hub.as_ref().map(|hub| hub.page(page)).unwrap_or_default();
                        tell(desk, Notice::Page(number, Box::new(page)));
                    }
                    Order::Remove(number, entries, tells) => {
                        let (hub, desk) = (self.hub.clone(), desk.clone());
                        self.driver.spawn(async move {
                            let removed = match &hub {
                                Some(hub) => hub.take_out_all(&entries, tells).await,
                                None => vec![Removed::Gone; entries.len()],
                            };
                            tell(&desk, Notice::Removed(number, removed));
                        });
                    }
                    Order::Drain(within) => return self.drain(within).await,
                }
            }
            ordered.wait().await;
        }
    }

    /// Sessions that begin from now on know these domains without a dot (M-028).
    fn take_names(&self, single_labels: &[String]) {
        for options in self.manners.borrow().iter() {
            let mut options = options.borrow_mut();
            if options.single_label_domains != single_labels {
                let single_label_domains = single_labels.to_vec();
                *options = Arc::new(ServerOptions { single_label_domains, ..(**options).clone() });
            }
        }
    }

    /// Takes no new connections, lets sessions finish what they have begun, writes everything down (F-010).
    async fn drain(&self, within: Span) -> u64 {
        let by = self.driver.now() + within;
        self.closing.borrow().iter().for_each(|closing| closing.raise());
        // Sessions get most of the time; the rest is for the disk, and for peers that do not close.
        let rest = Span((within.0 / 4).max(END_WAIT.0.min(within.0 / 2)));
        self.end_sessions(bits::DRAIN, by - rest).await;
        self.end_sessions(bits::LAST_CALL, by - Span(rest.0 / 2)).await;
        let Some(hub) = &self.hub else { return 0 };
        hub.drain(by).await;
        u64::from(hub.queued())
    }

    /// Tells every session, and waits until the last has ended, at the latest until `by`.
    async fn end_sessions(&self, bit: u32, by: Tick) {
        self.sessions.borrow().iter().for_each(|(_, session)| session.note(bit));
        while !self.sessions.borrow().is_empty() && self.driver.now() < by {
            self.driver.sleep(LOOK_EVERY).await;
        }
    }

    /// Publishes what is not counted as it happens.
    async fn publish(self: Rc<Self>) {
        let mut copied = 0;
        loop {
            self.driver.sleep(PUBLISH_EVERY).await;
            let counts = self.driver.counts();
            let set = |counter, value| self.tally.set(counter, value);
            set(Counter::Syscalls, counts.syscalls);
            set(Counter::RequestsWaited, counts.requests_waited);
            set(Counter::CompletionsOverflowed, counts.completions_overflowed);
            // Copies are counted by the driver and by the services.
            self.tally.add(Counter::CopiedBytes, counts.copied_bytes - copied);
            copied = counts.copied_bytes;
            set(Counter::SocketIn, counts.received_bytes);
            set(Counter::SocketOut, counts.sent_bytes);
            set(Counter::Writes, counts.writes);
            set(Counter::StableWrites, counts.stable_writes);
            set(Counter::WrittenBytes, counts.written_bytes);
            set(Counter::Allocations, counts.allocations);
            set(Counter::ConnectionsIn, self.sessions.borrow().len() as u64);
            set(Counter::MemoryUsed, self.pool.budget().leased_bytes() as u64);
            self.publish_standing();
        }
    }

    /// Publishes how short memory was since the last time, and how the services stand.
    fn publish_standing(&self) {
        let budget = self.pool.budget();
        let step = self.hub.as_ref().map_or_else(|| self.short.worst_since(budget), |hub| hub.memory_step());
        self.tally.set(Counter::MemoryStep, step);
        self.shortage.tell(step, budget, self.driver.now());
        if let Some(hub) = &self.hub {
            hub.publish();
        } else if let Some(front) = &self.front {
            front.publish();
        }
    }
}

fn no_store(store: &Store, error: &io::Error) -> Failure {
    let place = if let Store::Maildir(path) = store { path.display().to_string() } else { String::new() };
    let text = format!("store.path: {place}: {error}; make that folder, or name one that this user may write");
    Failure { usage: true, text }
}

async fn open_hub<D: Driver>(
    driver: &D,
    shared: &Shared,
    shard: usize,
    shards: u32,
    pool: &Pool,
    tally: &Rc<Tally>,
) -> Result<(Rc<Hub<D>>, Option<&'static str>), Failure> {
    let unusable = |error: io::Error| Failure {
        usage: true,
        text: format!("server.data_dir: {error}; name a folder that this user may write"),
    };
    let dir = spool_folder(&shared.settings).map(|path| driver.root(path)).transpose().map_err(unusable)?;
    let direct = match &dir {
        Some(dir) => takes_direct(driver, dir, shard).await,
        None => false,
    };
    if shard == 0 {
        tally.add(Counter::Damage, shared.damage);
    }
    let how = dir.is_some().then_some(if direct { "direct" } else { "buffered" });
    let parts = HubParts {
        settings: shared.settings.clone(),
        shard: (u32::try_from(shard).expect("fewer than 2^32 shards"), shards),
        pool: pool.clone(),
        tally: tally.clone(),
        dir,
        direct,
        routes: shared.routes.load_full(),
        next: shared.next,
        exchange: shared.exchange.clone(),
    };
    let hub = Hub::new(driver.clone(), parts);
    let adoption = {
        let mut adoptions = shared.adoptions.lock().unwrap_or_else(PoisonError::into_inner);
        adoptions.get_mut(shard).and_then(Option::take)
    };
    if let Some(adoption) = adoption {
        hub.adopt(adoption).await.map_err(unusable)?;
    }
    hub.start();
    hub.ready(FIRST_SEGMENT_WAIT).await;
    Ok((hub, how))
}
