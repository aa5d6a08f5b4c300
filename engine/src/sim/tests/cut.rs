//! A way between servers that is cut, and heals.

use crate::io::driver::Driver;
use crate::sim::driver::Sim;
use crate::sim::ledger::Ledger;
use crate::sim::server::{self, Server};
use crate::sim::talk::Talk;
use crate::sim::world::World;
use crate::track::counters::Counter;
use crate::wire::{Span, Tick};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

/// What a probe of a hub takes at most, until it is given up or answered, and how long the next one waits behind it: both of
/// a front end, and the little that either takes beside.
const PROBE_MAX: Span = Span::seconds(2);
const BETWEEN_MAX: Span = Span::seconds(1);
const BESIDE: Span = Span::millis(500);

/// Whether a message is taken.
async fn is_taken(sim: Sim, at: SocketAddr) -> bool {
    let mut talk = Talk::reach(sim, at, Span::seconds(20)).await;
    let lines = ["EHLO c.test\r\n", "MAIL FROM:<a@c.test>\r\n", "RCPT TO:<user@d.test>\r\n", "DATA\r\n", "x\r\n.\r\n"];
    for (line, code) in lines.into_iter().zip([220, 250, 250, 250, 354]) {
        if talk.reply().await != Ok(code) {
            return false;
        }
        talk.say(line);
    }
    talk.reply().await == Ok(250)
}

/// Clients, one behind the other, each with one message; when the last of them that was taken had come.
fn clients(sim: &Sim, at: SocketAddr, pause: Span) -> Rc<Cell<Tick>> {
    let taken = Rc::new(Cell::new(Tick(0)));
    let (sim, last) = (sim.clone(), taken.clone());
    sim.clone().spawn(async move {
        loop {
            let (client, last, came) = (sim.clone(), last.clone(), sim.now());
            sim.spawn(async move {
                if is_taken(client, at).await {
                    last.set(last.get().max(came));
                }
            });
            sim.sleep(pause).await;
        }
    });
    taken
}

/// F-101: whatever was under way when the way was cut, little or more than one connection holds, and however long TCP would wait
/// before it tries that again.
#[test]
fn f_101_behind_a_way_that_heals_a_hub_is_used_within_one_probe() {
    for seconds in [1, 4, 10, 30, 60, 150] {
        for pause in [Span::millis(50), Span::seconds(2)] {
            heals(seconds, pause);
        }
    }
}

fn heals(seconds: u64, pause: Span) {
    let world = World::new(seconds, false);
    let ledger = Ledger::new(&world);
    let (near, far, client) = (world.machine(), world.machine(), world.machine());
    let [at, hub_at] = [&near, &far].map(|machine| SocketAddr::new(machine.address(), 25));
    let hops = [("d.test".to_owned(), vec![SocketAddr::new(client.address(), 25)])];
    let _hub = Server::start(&world, &ledger, &far, server::hub(hub_at, 1, &hops, Some(near.address())));
    let front = Server::start(&world, &ledger, &near, server::front_end(at, 1, &[hub_at]));
    let sim = client.start(&world, 1).1.remove(0);
    let taken = clients(&sim, at, pause);
    let run = |span: Span| world.run(world.now() + span, || false);
    run(Span::seconds(5));
    assert!(taken.get() > Tick(0), "{seconds} s: mail is taken before");
    let cut = |is_cut| {
        world.net.cut(near.number(), far.number(), is_cut);
        world.net.cut(far.number(), near.number(), is_cut);
    };
    cut(true);
    run(Span::seconds(seconds));
    cut(false);
    let (healed, taken) = (world.now(), clients(&sim, at, Span::millis(50)));
    let tried = || front.counted(Counter::ConnectionsMade) + front.counted(Counter::ConnectFailures);
    let before = tried();
    let back = world.run(healed + PROBE_MAX + BETWEEN_MAX + BESIDE, || taken.get() >= healed);
    assert!(back, "{seconds} s, {pause}: used again");
    let tried = tried() - before;
    assert!(tried <= 2, "{seconds} s, {pause}: by the probe under way or the next, not by {tried}");
    world.end();
}
