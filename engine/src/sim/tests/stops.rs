//! Servers that are told to stop.

use crate::settings::Durability;
use crate::sim::ledger::Ledger;
use crate::sim::server::{self, Server};
use crate::sim::world::World;
use crate::wire::Span;
use std::net::SocketAddr;

/// F-010, F-013: in mode `os` too, what a stop in good order leaves is on the disk: a power cut behind it costs nothing.
#[test]
fn f_010_f_013_behind_a_stop_in_mode_os_a_power_cut_loses_nothing() {
    const MESSAGES: usize = 40;
    for seed in 0..6 {
        let world = World::new(seed, false);
        let ledger = Ledger::new(&world);
        let (machine, far) = (world.machine(), world.machine());
        let (at, to) = (SocketAddr::new(machine.address(), 25), SocketAddr::new(far.address(), 2525));
        let mut settings = server::hub(at, 2, &[("d.test".to_owned(), vec![to])], None);
        settings.server.durability = Durability::Os;
        let hub = Server::start(&world, &ledger, &machine, settings);
        super::send(&world, &ledger, at, "d.test", (MESSAGES, Span::millis(5), 40_000));
        world.run(world.now() + Span::minutes(1), || false);
        let taken = ledger.accounts().acknowledged;
        assert!(taken >= MESSAGES, "seed {seed}: {:?}", ledger.accounts());
        hub.stop();
        assert!(world.run(world.now() + Span::minutes(1), || !hub.is_alive()), "seed {seed}: it ends");
        hub.crash(Span::millis(10));
        super::slow::sink(&world, &ledger, &far, true);
        let done = world.run(world.now() + Span::minutes(5), || ledger.is_settled());
        assert!(done, "seed {seed}: {:?}, {:?}", ledger.accounts(), ledger.audit());
        assert_eq!((ledger.accounts().delivered, ledger.audit()), (taken, Vec::new()), "seed {seed}");
        world.end();
    }
}
