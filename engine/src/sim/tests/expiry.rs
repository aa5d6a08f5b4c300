//! Next hops that are dead for good: their mail is given up in its time.

use crate::sim::ledger::Ledger;
use crate::sim::server::{self, Server};
use crate::sim::world::World;
use crate::wire::Span;
use std::net::SocketAddr;

/// M-097: also what a shard has lent to others, whose connections find the hosts dead as well.
#[test]
fn m_097_what_was_lent_when_the_hosts_died_is_given_up_in_time() {
    for seed in 0..6 {
        let world = World::new(seed, false);
        let ledger = Ledger::new(&world);
        let (machine, nobody) = (world.machine(), world.machine());
        let at = SocketAddr::new(machine.address(), 25);
        let hops = [("gone.test".to_owned(), vec![SocketAddr::new(nobody.address(), 25)])];
        let mut settings = server::hub(at, 3, &hops, None);
        settings.delivery.expire_after = Span::seconds(5);
        // No route leads to the senders: what is on record is what there is to see.
        settings.delivery.reports = false;
        ledger.expires_after(Span::seconds(5));
        let hub = Server::start(&world, &ledger, &machine, settings);
        super::send(&world, &ledger, at, "gone.test", (60, Span::millis(40), 4_000));
        world.run(world.now() + Span::minutes(2), || false);
        hub.read_failures();
        let accounts = ledger.accounts();
        assert!(accounts.acknowledged >= 60 && ledger.is_settled(), "seed {seed}: {accounts:?}");
        assert_eq!((accounts.given_up, ledger.audit()), (accounts.acknowledged, Vec::new()), "seed {seed}");
        world.end();
    }
}
