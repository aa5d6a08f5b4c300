//! A listener whose places run out: who only takes one is waited for less.

use crate::io::driver::Driver;
use crate::sim::ledger::Ledger;
use crate::sim::machine::Machine;
use crate::sim::server::{self, Server};
use crate::sim::talk::{Lost, Talk};
use crate::sim::world::World;
use crate::wire::Span;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

/// Places of the listener.
const PLACES: u32 = 10;

/// When the server had enough of a client, from its greeting on; nothing: it has not.
type Patience = Rc<Cell<Option<Span>>>;

/// A client that says `words` and then a drop of content each 20 s, or nothing.
fn client(world: &Rc<World>, machine: &Rc<Machine>, to: SocketAddr, words: &'static [&'static str]) -> Patience {
    let (_, mut drivers) = machine.start(world, 1);
    let sim = drivers.remove(0);
    let patience = Patience::default();
    let told = patience.clone();
    sim.clone().spawn(async move {
        let mut talk = Talk::reach(sim.clone(), to, Span::seconds(20)).await;
        assert_eq!(talk.reply().await, Ok(220));
        let began = sim.now();
        for word in words {
            talk.say(word);
            assert!(matches!(talk.reply().await, Ok(250 | 354)), "{word}: {}", talk.last);
        }
        let end = loop {
            match talk.reply().await {
                Err(Lost::Late) if !words.is_empty() => talk.say(b"x\r\n"),
                Err(Lost::Late) => {}
                end => break end,
            }
        };
        assert_eq!(end, Ok(421), "{}", talk.last);
        told.set(Some(sim.now().since(began)));
    });
    patience
}

const DRIPS: &[&str] = &["EHLO c.test\r\n", "MAIL FROM:<a@c.test>\r\n", "RCPT TO:<user@d.test>\r\n", "DATA\r\n"];

/// When each of so many idle clients, and one that drips content, is given up; within seven minutes.
fn patience(idle: u32) -> (Vec<Option<Span>>, Option<Span>) {
    let world = World::new(121, false);
    let ledger = Ledger::new(&world);
    let machine = world.machine();
    let at = |port| SocketAddr::new(machine.address(), port);
    let mut settings = server::hub(at(25), 1, &[("d.test".to_owned(), vec![at(2525)])], None);
    settings.listeners[0].receive.connections_max = PLACES;
    let _hub = Server::start(&world, &ledger, &machine, settings);
    let drips = client(&world, &machine, at(25), DRIPS);
    let idle: Vec<Patience> = (0..idle).map(|_| client(&world, &machine, at(25), &[])).collect();
    world.run(world.now() + Span::minutes(7), || false);
    let all = idle.iter().map(|one| one.get()).collect();
    world.end();
    (all, drips.get())
}

/// F-121, F-122: with one place less than crowded everybody has the time that the listener gives; then a minute, and a body
/// the least rate.
#[test]
fn f_121_f_122_who_is_slow_is_waited_for_less_when_few_places_are_left() {
    let seconds = |span: Option<Span>| span.map(|span| (span.as_millis() + 500) / 1_000);
    let (idle, drips) = patience(PLACES - 3);
    assert!(idle.iter().all(|one| seconds(*one) == Some(300)), "M-071: {idle:?}");
    assert_eq!(drips, None, "a drop each 20 s is within the block's time");
    let (idle, drips) = patience(PLACES - 2);
    assert!(idle.iter().all(|one| seconds(*one).is_some_and(|wait| (60..=62).contains(&wait))), "{idle:?}");
    assert!(seconds(drips).is_some_and(|wait| (60..=62).contains(&wait)), "{drips:?}");
}
