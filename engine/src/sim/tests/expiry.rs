//! Next hops that are dead for good: their mail is given up in its time.

use crate::sim::ledger::Ledger;
use crate::sim::server::{self, Server};
use crate::sim::world::World;
use crate::wire::Span;
use std::net::SocketAddr;

/// A hub of three shards that gives up in five seconds, and 60 messages and more to hosts that are dead.
fn given_up(seed: u64, reports: bool, judge: impl FnOnce(&Ledger, &Server)) {
    let world = World::new(seed, false);
    let ledger = Ledger::new(&world);
    let (machine, nobody, senders) = (world.machine(), world.machine(), world.machine());
    let at = SocketAddr::new(machine.address(), 25);
    let of_senders = super::slow::sink(&world, &ledger, &senders, true);
    let hops = [
        ("gone.test".to_owned(), vec![SocketAddr::new(nobody.address(), 25)]),
        ("sender.test".to_owned(), vec![of_senders]),
    ];
    let mut settings = server::hub(at, 3, &hops, None);
    settings.delivery.expire_after = Span::seconds(5);
    settings.delivery.reports = reports;
    ledger.expires_after(Span::seconds(5));
    if !reports {
        ledger.without_reports();
    }
    let hub = Server::start(&world, &ledger, &machine, settings);
    super::send(&world, &ledger, at, "gone.test", (60, Span::millis(40), 4_000));
    world.run(world.now() + Span::minutes(2), || false);
    judge(&ledger, &hub);
    assert_eq!(ledger.audit(), Vec::new(), "seed {seed}");
    world.end();
}

/// M-097: also what a shard has lent to others, whose connections find the hosts dead as well.
#[test]
fn m_097_what_was_lent_when_the_hosts_died_is_given_up_in_time() {
    for seed in 0..6 {
        given_up(seed, false, |ledger, hub| {
            hub.read_failures();
            let accounts = ledger.accounts();
            assert!(accounts.acknowledged >= 60 && ledger.is_settled(), "seed {seed}: {accounts:?}");
            assert_eq!(accounts.given_up, accounts.acknowledged, "seed {seed}");
        });
    }
}

#[test]
fn m_097_m_100_whose_mail_is_given_up_hears_of_it_once() {
    for seed in 0..6 {
        given_up(seed, true, |ledger, _| {
            let accounts = ledger.accounts();
            assert!(accounts.acknowledged >= 60 && ledger.is_settled(), "seed {seed}: {accounts:?}");
            assert_eq!((accounts.reported, accounts.delivered), (accounts.acknowledged, 0), "seed {seed}");
        });
    }
}
