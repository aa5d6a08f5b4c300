//! A listener with a least rate: for what its own server is behind with no client is given up.

use crate::io::driver::{Conn, Driver};
use crate::shell::body::Slices;
use crate::shell::inlet::{Answer, Inlet, bits};
use crate::shell::serve::{Admission, Arrived, Lobby, Service, serve};
use crate::sim::driver::Sim;
use crate::sim::talk::Talk;
use crate::sim::world::World;
use crate::smtp::Profile;
use crate::smtp::server::{AcceptAll, Policy, ServerOptions, ServerSession};
use crate::sys::slice::{Budget, Fill, Pool};
use crate::track::counters::Board;
use crate::wire::{Refusal, Span};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Octets a second that the client has to keep to, and does.
const RATE: usize = 1_000;
/// What it sends before the server is behind for the first time: enough that some of it was handed over.
const FIRST: usize = 32 << 10;
/// How often the server is behind, for four seconds of five.
const TIMES: usize = 40;

/// Takes content as it comes, and forgets it.
struct Taker {
    pool: Pool,
    is_behind: Cell<bool>,
    inlet: RefCell<Option<Rc<Inlet<Sim>>>>,
}

impl Taker {
    fn set_behind(&self, is_behind: bool) {
        self.is_behind.set(is_behind);
        if let Some(inlet) = &*self.inlet.borrow() {
            inlet.note(bits::AGAIN);
        }
    }
}

impl Service<Sim> for Taker {
    const HELD_BYTES_MAX: usize = 64 << 10;

    type Spill = ();

    fn policy(&self) -> &dyn Policy {
        &AcceptAll
    }
    fn pool(&self) -> &Pool {
        &self.pool
    }
    fn chunk_bytes_max(&self) -> usize {
        16 << 10
    }
    fn spill_bytes(&self, _: bool) -> usize {
        16 << 10
    }
    fn spill(&self, _: &ServerSession, _: &Rc<Inlet<Sim>>, (): &mut (), _: Slices, _: u64) -> Result<(), Refusal> {
        Ok(())
    }
    fn held_bytes(&self, (): &()) -> u64 {
        if self.is_behind.get() { Self::HELD_BYTES_MAX as u64 } else { 0 }
    }
    fn abandon(&self, (): ()) {}
    fn message(&self, arrived: Arrived<'_, Sim, ()>) {
        arrived.inlet.answer(arrived.slot, Answer::Accepted { id: 1, message_id: None });
    }
}

/// One session of `taker`.
async fn host(sim: Sim, at: SocketAddr, taker: Rc<Taker>) {
    let listener = sim.listen(at).expect("a port");
    let conn = sim.accept(&listener).await.expect("a client");
    let mut options = ServerOptions::new(Profile::Bench, "taker.test");
    options.timers.content_bytes_per_second_min = u32::try_from(RATE).expect("small");
    let lobby = Lobby::new(Rc::new(Board::new(1).1.remove(0)));
    let inlet = Rc::new(Inlet::new(conn.handle()));
    *taker.inlet.borrow_mut() = Some(inlet.clone());
    let admission = Admission { inlet, trusted: false, refuse: None, lobby };
    serve(sim.clone(), taker, Arc::new(options), conn, admission).await;
}

async fn begin(sim: &Sim, at: SocketAddr) -> Talk {
    let mut talk = with_envelope(sim, at).await;
    talk.say(format!("BDAT {} LAST\r\n", FIRST + TIMES * RATE));
    talk.say(vec![b'x'; FIRST]);
    sim.sleep(Span::seconds(1)).await;
    talk
}

async fn with_envelope(sim: &Sim, at: SocketAddr) -> Talk {
    let mut talk = Talk::reach(sim.clone(), at, Span::seconds(20)).await;
    assert_eq!(talk.reply().await, Ok(220));
    for line in ["EHLO c.test\r\n", "MAIL FROM:<a@c.test>\r\n", "RCPT TO:<user@d.test>\r\n"] {
        talk.say(line);
        assert_eq!(talk.reply().await, Ok(250), "{line}");
    }
    talk
}

/// What a client hears in the end, whose five seconds pass by `pass`.
fn heard(pass: impl AsyncFn(&Sim, &Taker, &mut Talk) + 'static) -> String {
    heard_by(async move |sim: &Sim, taker: &Taker, at| {
        let mut talk = begin(sim, at).await;
        for _ in 0..TIMES {
            pass(sim, taker, &mut talk).await;
        }
        talk
    })
}

/// The last that a client hears.
fn heard_by(client: impl AsyncFnOnce(&Sim, &Taker, SocketAddr) -> Talk + 'static) -> String {
    let world = World::new(122, false);
    let machine = world.machine();
    let (_, mut drivers) = machine.start(&world, 2);
    let (server, sim) = (drivers.remove(0), drivers.remove(0));
    let at = SocketAddr::new(machine.address(), 25);
    let pool = Pool::new(Budget::new(1 << 20));
    let taker = Rc::new(Taker { pool, is_behind: Cell::default(), inlet: RefCell::default() });
    server.clone().spawn(host(server, at, taker.clone()));
    let heard = Rc::new(RefCell::new(None));
    let told = heard.clone();
    sim.clone().spawn(async move {
        let mut talk = client(&sim, &taker, at).await;
        let _lost = talk.reply().await;
        *told.borrow_mut() = Some(talk.last);
    });
    world.run(world.now() + Span::minutes(10), || heard.borrow().is_some());
    world.end();
    heard.take().unwrap_or_default()
}

/// A chunk is announced while others have all memory, and comes when there is some.
#[test]
fn f_040_who_held_nothing_when_memory_ran_short_is_read_again() {
    let heard = heard_by(async |sim: &Sim, taker: &Taker, at| {
        let mut talk = with_envelope(sim, at).await;
        let all: Vec<Fill> = std::iter::from_fn(|| taker.pool.fill(4 << 10)).collect();
        talk.say(format!("BDAT {FIRST} LAST\r\n"));
        sim.sleep(Span::seconds(1)).await;
        drop(all);
        sim.sleep(Span::seconds(1)).await;
        talk.say(vec![b'x'; FIRST]);
        sim.sleep(Span::seconds(1)).await;
        assert_eq!(talk.reply().await, Ok(250), "{}", talk.last);
        talk
    });
    assert!(heard.starts_with("250 "), "{heard}");
}

/// What the client sends in the fifth second keeps the rate.
#[test]
fn f_122_time_in_which_a_taker_is_behind_is_not_the_clients_slowness() {
    let heard = heard(async |sim: &Sim, taker: &Taker, talk: &mut Talk| {
        taker.set_behind(true);
        sim.sleep(Span::seconds(4)).await;
        taker.set_behind(false);
        sim.sleep(Span::millis(500)).await;
        talk.say(vec![b'x'; RATE]);
        sim.sleep(Span::millis(500)).await;
    });
    assert!(heard.starts_with("250 "), "{heard}");
}

/// Others have all memory for four seconds; in the fifth, what the client has sent is taken.
#[test]
fn f_122_f_040_time_without_memory_is_not_the_clients_slowness() {
    let heard = heard(async |sim: &Sim, taker: &Taker, talk: &mut Talk| {
        let all: Vec<Fill> = std::iter::from_fn(|| taker.pool.fill(4 << 10)).collect();
        assert!(taker.pool.budget().percent() >= 100, "{} chunks", all.len());
        talk.say(vec![b'x'; RATE]);
        sim.sleep(Span::seconds(4)).await;
        drop(all);
        sim.sleep(Span::seconds(1)).await;
    });
    assert!(heard.starts_with("250 "), "{heard}");
}
