//! Slow ways: a mail that takes long to cross them gets there, once.

use crate::io::driver::Driver;
use crate::sim::ledger::{Ledger, Verdict};
use crate::sim::machine::Machine;
use crate::sim::net::Weather;
use crate::sim::server::{self, Server};
use crate::sim::sink::Sink;
use crate::sim::talk::{Talk, stuffed};
use crate::sim::world::World;
use crate::track::counters::Counter;
use crate::wire::Span;
use std::net::SocketAddr;
use std::rc::Rc;

fn at(machine: &Machine, port: u16) -> SocketAddr {
    SocketAddr::new(machine.address(), port)
}

/// Between machines 16 KiB take so long; on one machine they take no time.
fn slow(each: Span) -> Weather {
    Weather { delay_min: each, delay_max: each + Span::millis(50), cuts: false, ..Weather::default() }
}

pub(super) fn sink(world: &Rc<World>, ledger: &Rc<Ledger>, machine: &Rc<Machine>, chunking: bool) -> SocketAddr {
    let (_, mut drivers) = machine.start(world, 1);
    let (sim, at) = (drivers.remove(0), at(machine, 2525));
    let chance = world.chance.branch();
    let sink = Sink { sim: sim.clone(), at, chunking, ledger: ledger.clone(), vice: Rc::default(), chance };
    sim.spawn(sink.run());
    at
}

/// A client on `machine` that sends one message of `bytes` octets to `to`, and waits as long as it takes.
fn client(world: &Rc<World>, ledger: &Rc<Ledger>, machine: &Rc<Machine>, to: SocketAddr, bytes: usize) {
    let (_, mut drivers) = machine.start(world, 1);
    let sim = drivers.remove(0);
    let (number, content) = ledger.intend(&world.chance.branch(), vec!["user@d.test".to_owned()], bytes);
    let ledger = ledger.clone();
    sim.clone().spawn(async move {
        let mut talk = Talk::reach(sim.clone(), to, Span::minutes(30)).await;
        let lines = [
            String::new(),
            "EHLO c.test\r\n".to_owned(),
            format!("MAIL FROM:<n{number}@sender.test>\r\n"),
            "RCPT TO:<user@d.test>\r\n".to_owned(),
            "DATA\r\n".to_owned(),
        ];
        for (line, expected) in lines.iter().zip([220, 250, 250, 250, 354]) {
            talk.say(line);
            assert_eq!(talk.reply().await, Ok(expected), "{line}: {}", talk.last);
        }
        talk.say(stuffed(&content));
        assert_eq!(talk.reply().await, Ok(250), "{}", talk.last);
        ledger.tell(number, 0, Verdict::Acknowledged);
    });
}

/// Everything is acknowledged, and delivered once.
fn all_arrives_once(world: &Rc<World>, ledger: &Ledger, clients: usize) {
    let done = || ledger.accounts().acknowledged == clients && ledger.is_settled();
    let is_done = world.run(world.now() + Span::minutes(30), done);
    let accounts = ledger.accounts();
    assert!(is_done, "{accounts:?}");
    assert_eq!((accounts.delivered, accounts.duplicates), (clients, 0), "{:?}", ledger.audit());
}

/// F-083: while octets of a body leave, the block timer starts anew, however long all of it takes (RFC 5321 §4.5.3.2.5).
#[test]
fn f_083_a_large_mail_crosses_a_slow_way_in_one_attempt() {
    for chunking in [false, true] {
        let world = World::new(83, false);
        let ledger = Ledger::new(&world);
        let (near, far) = (world.machine(), world.machine());
        let hops = [("d.test".to_owned(), vec![sink(&world, &ledger, &far, chunking)])];
        let mut settings = server::hub(at(&near, 25), 1, &hops, None);
        settings.spool.segment_bytes = 8 << 20;
        let hub = Server::start(&world, &ledger, &near, settings);
        // 2 MiB take two minutes, and what is below 256 KiB of them more than the 30 s of the block timer.
        *world.net.weather.borrow_mut() = slow(Span::seconds(1));
        client(&world, &ledger, &near, at(&near, 25), 2 << 20);
        all_arrives_once(&world, &ledger, 1);
        assert_eq!((hub.counted(Counter::Attempts), hub.counted(Counter::TimeoutsOut)), (1, 0), "chunking {chunking}");
        world.end();
    }
}

/// The same between front end and hub: what waits behind a message does not make the hub late with it.
#[test]
fn f_083_a_slow_way_to_the_hub_cuts_no_connection_on_which_octets_move() {
    let world = World::new(84, false);
    let ledger = Ledger::new(&world);
    let (near, far) = (world.machine(), world.machine());
    let hops = [("d.test".to_owned(), vec![sink(&world, &ledger, &far, true)])];
    let hub = server::hub(at(&far, 25), 1, &hops, Some(near.address()));
    let _hub = Server::start(&world, &ledger, &far, hub);
    let mut settings = server::front_end(at(&near, 25), 1, &[at(&far, 25)]);
    (settings.delivery.block_wait, settings.delivery.dot_wait) = (Span::seconds(10), Span::minutes(5));
    let front = Server::start(&world, &ledger, &near, settings);
    world.run(world.now() + Span::seconds(5), || front.counted(Counter::ConnectionsMade) > 0);
    client(&world, &ledger, &near, at(&near, 25), 1_000);
    all_arrives_once(&world, &ledger, 1);
    // From now on a message takes 20 s, and each is behind the others.
    *world.net.weather.borrow_mut() = slow(Span::seconds(5));
    (0..12).for_each(|_| client(&world, &ledger, &near, at(&near, 25), 60_000));
    all_arrives_once(&world, &ledger, 13);
    assert_eq!(front.counted(Counter::ConnectionsMade), 1, "the hub was lost on the way");
    world.end();
}
