//! Servers that start, and do not.

use crate::control::routes::snapshot;
use crate::io::driver::Driver;
use crate::settings::Durability;
use crate::shell::server::start_on;
use crate::sim::driver::Sim;
use crate::sim::server;
use crate::sim::talk::{Lost, Talk};
use crate::sim::world::World;
use crate::track::counters::Board;
use crate::track::desk::{ControlDesk, Links, Notice, Order, ShardLink, desk};
use crate::wire::Span;
use arc_swap::ArcSwap;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A hub that keeps nothing, with a shard on each of `drivers`, and its desks.
fn start(drivers: Vec<Sim>, at: SocketAddr) -> Vec<ControlDesk> {
    let mut settings = server::hub(at, drivers.len(), &[], None);
    (settings.server.data_dir, settings.server.durability) = (None, Durability::None);
    let settings = Arc::new(settings);
    let tallies = Board::new(drivers.len()).1.into_iter();
    let (links, desks) = tallies
        .map(|tally| {
            let (shard, control) = desk(Arc::new(|| {}));
            (ShardLink { tally, desk: shard }, control)
        })
        .unzip();
    let routes = Arc::new(ArcSwap::from_pointee(snapshot(&settings, |_, _| Vec::new(), 1)));
    drivers[0].clone().spawn(async move {
        start_on(drivers, &settings, Links::new(links), routes).await.expect("there is no spool to refuse");
    });
    desks
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
        let desks = start(vec![here, there], at);
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
