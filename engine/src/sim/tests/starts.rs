//! Servers that start, or do not, without a supervisor.

use crate::control::routes::snapshot;
use crate::io::driver::Driver;
use crate::settings::{Durability, Settings};
use crate::shell::server::start_on;
use crate::sim::driver::Sim;
use crate::sim::server;
use crate::sim::talk::{Lost, Talk};
use crate::sim::world::World;
use crate::track::counters::{Board, Counter};
use crate::track::desk::{ControlDesk, Links, Notice, Order, ShardLink, desk};
use crate::wire::Span;
use arc_swap::ArcSwap;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A server with a shard on each of `drivers`: its desks, and what it counts.
fn start(drivers: Vec<Sim>, settings: Settings) -> (Vec<ControlDesk>, Board) {
    let (settings, (board, tallies)) = (Arc::new(settings), Board::new(drivers.len()));
    let (links, desks) = tallies
        .into_iter()
        .map(|tally| {
            let (shard, control) = desk(Arc::new(|| {}));
            (ShardLink { tally, desk: shard }, control)
        })
        .unzip();
    let routes = Arc::new(ArcSwap::from_pointee(snapshot(&settings, |_, _| Vec::new(), 1)));
    drivers[0].clone().spawn(async move {
        start_on(drivers, &settings, Links::new(links), routes).await.expect("there is no spool to refuse");
    });
    (desks, board)
}

/// F-013: what a start takes before it fails would be lost without a word in mode `none`. The second shard runs on another
/// machine, where it cannot listen on the address of the first.
#[test]
fn f_013_a_start_that_fails_has_let_nobody_in() {
    for seed in 0..10 {
        let world = World::new(seed, false);
        let machines = [world.machine(), world.machine(), world.machine()];
        let [here, there, far] = machines.each_ref().map(|machine| machine.start(&world, 1).1.remove(0));
        let at = SocketAddr::new(machines[0].address(), 25);
        let mut settings = server::hub(at, 2, &[], None);
        (settings.server.data_dir, settings.server.durability) = (None, Durability::None);
        let (desks, _) = start(vec![here, there], settings);
        let heard = Rc::new(Cell::new(None));
        let told = heard.clone();
        far.clone().spawn(async move {
            told.set(Some(Talk::reach(far, at, Span::minutes(1)).await.reply().await));
        });
        assert!(world.run(world.now() + Span::minutes(5), || heard.get().is_some()));
        assert_eq!(heard.get(), Some(Err(Lost::Late)), "seed {seed}: no greeting");
        assert!(matches!(desks[1].take(), Some(Notice::Failed(failure)) if failure.usage));

        // The shard that waits for the other heeds the end.
        assert!(matches!(desks[0].take(), Some(Notice::Ready(_))));
        desks[0].order(Order::Drain(Span::seconds(10))).expect("room for an order");
        let stopped = || matches!(desks[0].take(), Some(Notice::Stopped { left: 0 }));
        assert!(world.run(world.now() + Span::seconds(10), stopped), "seed {seed}");
        world.end();
    }
}

/// A front end holds little of each message, here more than it has of them together: its hub is there and says nothing.
#[test]
fn i_10_f_040_a_front_end_tells_of_its_memory_too() {
    const CLIENTS: usize = 32;
    let world = World::new(40, false);
    let [near, hub, far] = [world.machine(), world.machine(), world.machine()];
    let at = SocketAddr::new(near.address(), 25);
    let silent = hub.start(&world, 1).1.remove(0);
    let _listens = silent.listen(SocketAddr::new(hub.address(), 25)).expect("a port");
    let mut settings = server::front_end(at, 1, &[SocketAddr::new(hub.address(), 25)]);
    settings.server.memory_budget = 1 << 20;
    let (_desks, board) = start(near.start(&world, 1).1, settings);
    let sim = far.start(&world, 1).1.remove(0);
    for _ in 0..CLIENTS {
        let client = sim.clone();
        sim.spawn(async move {
            let mut talk = Talk::reach(client.clone(), at, Span::minutes(1)).await;
            talk.say("EHLO c.test\r\n");
            for code in [220, 250] {
                assert_eq!(talk.reply().await, Ok(code));
            }
            talk.say("MAIL FROM:<a@c.test>\r\nRCPT TO:<user@d.test>\r\nBDAT 1000000 LAST\r\n");
            talk.say(vec![b'x'; 1_000_000]);
            while talk.reply().await.is_ok() {}
        });
    }
    let told = world.run(world.now() + Span::minutes(1), || board.sum(Counter::MemoryStep) >= 2);
    assert!(told, "mail is refused for want of memory, and the status says so");
    world.end();
}
