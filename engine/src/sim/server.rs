//! A whole server of ours on a simulated machine, and the supervisor that starts it again.

use super::ledger::Ledger;
use super::machine::{Doom, Machine, Process};
use super::world::World;
use crate::control::routes::snapshot;
use crate::settings::{Durability, Host, Listener, NextHop, Profile, Protocol, Receive, Role, Settings};
use crate::shell::server::start_on;
use crate::track::counters::{Board, Counter};
use crate::track::desk::{ControlDesk, Links, Notice, Order, ShardLink, desk};
use crate::wire::Span;
use arc_swap::ArcSwap;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// How often the supervisor looks.
const LOOK_EVERY: Span = Span::millis(20);
/// The spool's folder on every machine.
const SPOOL: &str = "/spool";
/// How long a stop may take.
const DRAIN_WAIT: Span = Span::seconds(10);
/// How much longer than that it may take before it counts as stuck (I-12).
const DRAIN_GRACE: Span = Span::seconds(5);

/// A server that is started again whenever it died.
pub struct Server {
    world: Rc<World>,
    ledger: Rc<Ledger>,
    /// Where it runs.
    pub machine: Rc<Machine>,
    settings: Arc<Settings>,
    process: RefCell<Option<Rc<Process>>>,
    desks: RefCell<Vec<ControlDesk>>,
    board: RefCell<Option<Board>>,
    stopped: Cell<usize>,
    starts: Cell<u32>,
    /// What earlier processes counted.
    rewritten: Cell<u64>,
}

impl Server {
    /// Starts it, and keeps it started.
    pub fn start(world: &Rc<World>, ledger: &Rc<Ledger>, machine: &Rc<Machine>, settings: Settings) -> Rc<Self> {
        machine.disk.make_folder(SPOOL.as_ref());
        let server = Rc::new(Self {
            world: world.clone(),
            ledger: ledger.clone(),
            machine: machine.clone(),
            settings: Arc::new(settings),
            process: RefCell::default(),
            desks: RefCell::default(),
            board: RefCell::default(),
            stopped: Cell::new(0),
            starts: Cell::new(0),
            rewritten: Cell::new(0),
        });
        server.boot();
        server.clone().tend();
        server
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts.get()
    }

    /// Whether its process lives.
    pub fn is_alive(&self) -> bool {
        self.process.borrow().as_ref().is_some_and(|process| process.is_alive())
    }

    /// What the shards of the running process count, in sum.
    pub fn counted(&self, counter: Counter) -> u64 {
        self.board.borrow().as_ref().map_or(0, |board| board.sum(counter))
    }

    /// Segments given up because what little was live in them was written elsewhere, by all its processes.
    pub fn rewritten(&self) -> u64 {
        self.rewritten.get() + self.counted(Counter::SegmentsRewritten)
    }

    fn boot(&self) {
        self.rewritten.set(self.rewritten());
        super::inspect::inspect(&self.machine.disk, SPOOL.as_ref(), &self.ledger);
        let settings = self.settings.clone();
        let shards = settings.server.cores.len();
        let (process, drivers) = self.machine.start(&self.world, shards);
        let (board, tallies) = Board::new(shards);
        let (mut links, mut desks) = (Vec::new(), Vec::new());
        for tally in tallies {
            let (shard, control) = desk(Arc::new(|| {}));
            links.push(ShardLink { tally, desk: shard });
            desks.push(control);
        }
        let routes = Arc::new(ArcSwap::from_pointee(snapshot(&settings, |_, _| Vec::new(), 1)));
        self.starts.set(self.starts.get() + 1);
        self.stopped.set(0);
        *self.desks.borrow_mut() = desks;
        *self.board.borrow_mut() = Some(board);
        *self.process.borrow_mut() = Some(process.clone());
        let first = drivers[0].clone();
        let (world, ledger) = (self.world.clone(), self.ledger.clone());
        crate::io::driver::Driver::spawn(&first, async move {
            if start_on(drivers, &settings, Links::new(links), routes).await.is_err() {
                // As in production: the process ends, and is started again.
                world.after(Span::ZERO, move |world| end(world, &ledger, &process));
            }
        });
    }

    /// The supervisor.
    fn tend(self: Rc<Self>) {
        let server = self.clone();
        self.world.after(LOOK_EVERY, move |_| {
            server.look();
            server.tend();
        });
    }

    fn look(&self) {
        let process = self.process.borrow().clone();
        match process {
            Some(process) if process.is_alive() => self.hear(&process),
            Some(_) => {
                // It died by itself or by others: an interval passes before it is started again.
                *self.process.borrow_mut() = None;
                self.ledger.death();
            }
            None if self.machine.is_up() && self.world.chance.once_in(20) => self.boot(),
            None => {}
        }
    }

    fn hear(&self, process: &Rc<Process>) {
        let notices: Vec<Notice> =
            self.desks.borrow().iter().flat_map(|desk| std::iter::from_fn(|| desk.take())).collect();
        for notice in notices {
            match notice {
                Notice::Failed(_) => end(&self.world, &self.ledger, process),
                Notice::Stopped { .. } => self.stopped.set(self.stopped.get() + 1),
                Notice::Ready(_) | Notice::Report(..) | Notice::Page(..) | Notice::Removed(..) => {}
            }
        }
        if self.stopped.get() == self.settings.server.cores.len() {
            end(&self.world, &self.ledger, process);
        }
    }

    /// Its process dies between two steps of its code, soon or at once.
    pub fn doom(&self, how: Doom) {
        let process = self.process.borrow().clone();
        if let Some(process) = process {
            process.doom(self.world.chance.below(400), how);
        }
    }

    /// Tells the ledger who failed, by what stands on its disk.
    pub fn read_failures(&self) {
        super::inspect::read_failures(&self.machine.disk, SPOOL.as_ref(), &self.ledger);
    }

    /// A message that stands on its disk rots, if there is one that is still owed.
    pub fn rot(&self) -> bool {
        super::inspect::rot(&self.machine.disk, SPOOL.as_ref(), &self.ledger)
    }

    /// Its process dies at once.
    pub fn kill(&self) {
        let process = self.process.borrow().clone();
        if let Some(process) = process.filter(|process| process.is_alive()) {
            end(&self.world, &self.ledger, &process);
        }
    }

    /// The power of its machine fails; after `span` it is back.
    pub fn crash(&self, span: Span) {
        self.ledger.death();
        self.machine.crash_for(&self.world, span);
    }

    /// Asks it to stop, as a service manager does; it must end in time (I-12).
    pub fn stop(&self) {
        let Some(process) = self.process.borrow().clone() else { return };
        self.desks.borrow().iter().for_each(|desk| {
            let _full = desk.order(Order::Drain(DRAIN_WAIT));
        });
        let ledger = self.ledger.clone();
        let starts = self.starts.get();
        self.world.after(DRAIN_WAIT + DRAIN_GRACE, move |world| {
            if process.is_alive() {
                ledger.breach("I-12", format!("start {starts} of a server did not end in time when it was told to"));
                end(world, &ledger, &process);
            }
        });
    }
}

fn end(world: &Rc<World>, ledger: &Ledger, process: &Rc<Process>) {
    ledger.death();
    process.machine.clone().kill(world, process);
}

/// A hub that hands mail for each of `hops` (domain, hosts) to its own next hop, and takes the word of `front`.
pub fn hub(at: SocketAddr, shards: usize, hops: &[(String, Vec<SocketAddr>)], front: Option<IpAddr>) -> Settings {
    let mut settings = server(at, Role::Hub, shards);
    let network = |front: IpAddr| front.to_string().parse().expect("an address is a network");
    settings.access.trusted_front_ends = front.into_iter().map(network).collect();
    settings.server.data_dir = Some(PathBuf::from(SPOOL));
    settings.server.durability = Durability::Disk;
    settings.delivery.reports = true;
    for (domain, hosts) in hops {
        let hosts = hosts.iter().copied().map(Host::Address).collect();
        settings.next_hops.insert(domain.clone(), NextHop::of(hosts, Protocol::Smtp));
        settings.routes.domains.insert(domain.clone(), domain.clone());
    }
    settings
}

/// A front end before these hubs.
pub fn front_end(at: SocketAddr, shards: usize, hubs: &[SocketAddr]) -> Settings {
    let mut settings = server(at, Role::Frontend, shards);
    settings.hubs = NextHop::of(hubs.iter().copied().map(Host::Address).collect(), Protocol::Smtp);
    settings
}

fn server(at: SocketAddr, role: Role, shards: usize) -> Settings {
    let mut settings = Settings::of(Profile::Bench);
    settings.server.fqdn = format!("s{}.test", at.ip().to_string().replace('.', "-"));
    settings.server.cores = vec![None; shards];
    settings.server.memory_budget = 64 << 20;
    settings.access.relay_from = vec!["10.0.0.0/8".parse().expect("a network")];
    settings.spool.segment_bytes = 1 << 20;
    settings.spool.free_min = 0;
    let delivery = &mut settings.delivery;
    (delivery.dot_wait, delivery.data_wait, delivery.block_wait) =
        (Span::seconds(40), Span::seconds(30), Span::seconds(30));
    (delivery.mail_wait, delivery.rcpt_wait) = (Span::seconds(30), Span::seconds(30));
    let receive = Receive { size_max: 4 << 20, dsn: true, ..Receive::of(Profile::Bench, role) };
    settings.receive = receive.clone();
    settings.listeners = vec![Listener { address: at, role, protocol: Protocol::Smtp, receive }];
    settings
}
