//! Worlds that prove what the simulation itself promises, and what servers promise in it.

mod bugs;
mod clocks;
mod crowd;
mod cut;
mod expiry;
mod held_up;
mod nth;
mod slow;
mod sparse;
mod starts;
mod stops;
mod worlds;

use crate::io::driver::Driver;
use crate::sim::ledger::Ledger;
use crate::sim::sender::Sender;
use crate::sim::world::World;
use crate::wire::{Span, Tick};
use std::net::SocketAddr;
use std::rc::Rc;

/// A machine that sends so many messages to users at `domain`, at this pace, of so many octets at most.
fn send(
    world: &Rc<World>,
    ledger: &Rc<Ledger>,
    to: SocketAddr,
    domain: &str,
    (messages, pause, bytes_max): (usize, Span, usize),
) {
    let (_, mut drivers) = world.machine().start(world, 1);
    let sim = drivers.remove(0);
    let sender = Sender {
        sim: sim.clone(),
        to: vec![to],
        domains: vec![domain.to_owned()],
        messages,
        until: Tick::NEVER,
        pause,
        bytes_max,
        ledger: ledger.clone(),
        chance: world.chance.branch(),
    };
    sim.spawn(sender.run());
}
