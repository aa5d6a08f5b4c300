//! The sink's shell: accepts, moves octets between connections and their sessions, does what faults ask for.

use super::guest::{After, Desk, End, Guest};
use super::shared::{ShardCounts, Shared, needs_clock};
use crate::clock::thread_cpu;
use crate::local::{Gate, either};
use engine::io::driver::{Conn, Driver, Next, Notify};
use engine::io::launch::Program;
use engine::smtp::server::ServerOptions;
use engine::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

/// Look again: set by the shard itself.
const AGAIN: u32 = 1;
/// Open connections get so long to end when the sink stops.
const ENDING: Span = Span::millis(500);
/// How often a plan with times is looked at.
const CLOCK_EVERY: Span = Span::millis(10);
/// After a failed accept (out of descriptors).
const ACCEPT_AGAIN: Span = Span::millis(20);

type Ready = Sender<Result<(), (SocketAddr, io::Error)>>;

#[derive(Clone)]
pub(super) struct Sink {
    pub(super) server: Arc<ServerOptions>,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) shared: Arc<Shared>,
    pub(super) ready: Arc<Mutex<Ready>>,
}

type Handle<D> = <<D as Driver>::Conn as Conn>::Handle;

struct World<D: Driver> {
    driver: D,
    server: Arc<ServerOptions>,
    desk: Desk,
    /// Opens whenever something changed that acceptors must see.
    changed: Gate,
    refusing: Cell<bool>,
    /// A task looks at the clock.
    clocked: Cell<bool>,
    handles: RefCell<BTreeMap<u64, Handle<D>>>,
}

impl Program for Sink {
    async fn run<D: Driver>(self, driver: D, shard: usize) {
        let world = Rc::new(World {
            desk: Desk::new(self.shared.clone(), shard),
            driver: driver.clone(),
            server: self.server,
            changed: Gate::default(),
            refusing: Cell::new(false),
            clocked: Cell::new(false),
            handles: RefCell::default(),
        });
        let remote = driver.remote();
        self.shared.register(shard, move || engine::io::driver::Remote::wake(&remote));
        world.look();
        for at in self.listen {
            // The first listener is bound here, so that an error is told to whoever starts the sink.
            let first = if world.refusing.get() { Ok(None) } else { driver.listen(at).map(Some) };
            let said = match first {
                Ok(listener) => {
                    driver.spawn(accept(world.clone(), at, listener));
                    continue;
                }
                Err(error) => Err((at, error)),
            };
            tell(&self.ready, said);
            return;
        }
        tell(&self.ready, Ok(()));
        start_clock(&world);
        while !world.desk.stopping.get() {
            driver.woken().await;
            world.look();
            start_clock(&world);
        }
        world.end().await;
    }
}

fn tell(ready: &Mutex<Ready>, said: Result<(), (SocketAddr, io::Error)>) {
    if let Ok(ready) = ready.lock() {
        // Nobody listens when another shard failed before.
        let _ = ready.send(said);
    }
}

impl<D: Driver> World<D> {
    /// Takes over what the control side changed, publishes counts, and answers.
    fn look(&self) {
        let shared = &self.desk.shared;
        let asked = shared.asked();
        self.desk.look();
        self.look_at_clock();
        let counts = self.desk.counts();
        counts.cpu_ns.store(thread_cpu().0, Ordering::Relaxed);
        counts.syscalls.store(self.driver.counts().syscalls, Ordering::Relaxed);
        shared.answer(self.desk.shard, asked);
    }

    fn look_at_clock(&self) {
        let shared = &self.desk.shared;
        let refusing = self.desk.plan().refuses(self.driver.now().since(shared.started));
        self.refusing.set(refusing);
        self.changed.open();
    }

    /// Says goodbye to everybody, and waits a little.
    async fn end(&self) {
        self.changed.open();
        self.handles.borrow().values().for_each(|handle| handle.note(AGAIN));
        let until = self.driver.now() + ENDING;
        while !self.handles.borrow().is_empty() && self.driver.now() < until {
            self.driver.sleep(Span::millis(5)).await;
        }
        self.look();
    }

    async fn sleep_through_pause(&self) {
        let until = self.desk.paused_until.get();
        if until > self.driver.now() {
            self.driver.sleep_until(until).await;
        }
    }
}

fn start_clock<D: Driver>(world: &Rc<World<D>>) {
    if needs_clock(&world.desk.plan()) && !world.clocked.replace(true) {
        world.driver.spawn(clock(world.clone()));
    }
}

/// Looks at the clock while the plan has times in it.
async fn clock<D: Driver>(world: Rc<World<D>>) {
    while !world.desk.stopping.get() && needs_clock(&world.desk.plan()) {
        world.driver.sleep(CLOCK_EVERY).await;
        world.look_at_clock();
    }
    world.clocked.set(false);
}

async fn accept<D: Driver>(world: Rc<World<D>>, at: SocketAddr, mut listener: Option<D::Listener>) {
    let counts = world.desk.counts();
    while !world.desk.stopping.get() {
        if world.refusing.get() {
            listener = None;
        }
        let Some(open) = &listener else {
            if !world.refusing.get() {
                listener = world.driver.listen(at).ok();
            }
            if listener.is_none() {
                either(world.changed.opened(), world.driver.sleep(ACCEPT_AGAIN)).await;
            }
            continue;
        };
        let Some(accepted) = either(world.driver.accept(open), world.changed.opened()).await.ok() else { continue };
        world.sleep_through_pause().await;
        match accepted {
            Ok(conn) => {
                ShardCounts::add(&counts.connections, 1);
                let number = counts.connections.load(Ordering::Relaxed);
                world.driver.spawn(serve(world.clone(), conn, number));
            }
            Err(_) => world.driver.sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn serve<D: Driver>(world: Rc<World<D>>, mut conn: D::Conn, number: u64) {
    let counts = world.desk.counts();
    ShardCounts::add(&counts.connections_open, 1);
    world.handles.borrow_mut().insert(number, conn.handle());
    let guest = Guest::new(world.server.clone(), number, conn.peer(), conn.local(), world.driver.now());
    match converse(&world, &mut conn, guest).await {
        End::Reset => conn.abort(),
        _ => drop(conn),
    }
    world.handles.borrow_mut().remove(&number);
    ShardCounts::add(&counts.connections_open, u64::MAX);
}

async fn converse<D: Driver>(world: &World<D>, conn: &mut D::Conn, mut guest: Guest) -> End {
    let driver = &world.driver;
    let mut after = guest.open(&world.desk, driver.now());
    let mut said_goodbye = false;
    loop {
        let end = carry_out(world, conn, &mut guest, after).await;
        if end != End::GoOn {
            return end;
        }
        world.sleep_through_pause().await;
        let now = || driver.precise_now();
        let next = conn.next(guest.deadline(), |bytes| guest.see(bytes, &world.desk, &now)).await;
        after = match next {
            Next::Bytes(after) => after,
            Next::Note(_) if world.desk.stopping.get() && !said_goodbye => {
                said_goodbye = true;
                guest.on_shutdown()
            }
            Next::Note(_) | Next::Room | Next::Filled(..) => After::plain(),
            Next::Deadline => guest.on_timeout(driver.now()),
            Next::End | Next::Broken(_) => return End::Close,
        };
    }
}

/// Sends what is to be sent, when it is to be sent.
async fn carry_out<D: Driver>(world: &World<D>, conn: &mut D::Conn, guest: &mut Guest, after: After) -> End {
    let out = &mut guest.out;
    let at_once = after.from.min(out.len());
    if at_once > 0 {
        conn.put(&out[..at_once]);
    }
    if after.pause > Span::ZERO {
        world.desk.shared.pause_from(world.driver.now(), after.pause);
        world.desk.look();
        world.sleep_through_pause().await;
    }
    if after.wait > Span::ZERO {
        world.driver.sleep(after.wait).await;
    }
    let rest = &out[at_once..];
    if after.every > Span::ZERO {
        for octet in rest {
            conn.put(std::slice::from_ref(octet));
            world.driver.sleep(after.every).await;
        }
    } else if !rest.is_empty() {
        conn.put(rest);
    }
    out.clear();
    match after.end {
        End::Stall => throw_away(world, conn).await,
        End::HalfClose => {
            conn.finish();
            throw_away(world, conn).await
        }
        end => {
            if after.again && end == End::GoOn {
                conn.handle().note(AGAIN);
            }
            end
        }
    }
}

/// Reads until the peer has enough, and says nothing.
async fn throw_away<D: Driver>(world: &World<D>, conn: &mut D::Conn) -> End {
    while !world.desk.stopping.get() {
        match conn.next(Tick::NEVER, |bytes| (bytes.len(), ())).await {
            Next::End | Next::Broken(_) => break,
            _ => {}
        }
    }
    End::Close
}
