//! The hub's decisions over envelopes: who may relay, whether there is a way, and whether there is memory for content.

use super::{judge, relay_policy};
use crate::route::{RelayPolicy, Snapshot, Unroutable};
use crate::settings::Settings;
use crate::smtp::server::{Policy, SessionFacts};
use crate::sys::slice::Budget;
use crate::wire::{RecipientRef, Refusal, ReversePathRef};
use std::cell::RefCell;
use std::sync::Arc;

const NO_MEMORY: Refusal = Refusal::fixed(452, (4, 3, 1), "Insufficient system resources");
const LITERAL: Refusal = Refusal::fixed(550, (5, 1, 2), "Address literals are not relayed");
/// The routes are ours, so the fault is: for now (I-9).
const NO_ROUTE: Refusal = Refusal::fixed(451, (4, 4, 4), "No route to this domain; try again later");

/// New mail is refused when so many hundredths of the memory budget are in use (F-040).
pub const REFUSE_PERCENT: u32 = 90;

/// Judges what clients ask of a hub.
#[derive(Debug)]
pub struct HubPolicy {
    relay: RelayPolicy,
    routes: RefCell<Arc<Snapshot>>,
    budget: Arc<Budget>,
}

impl HubPolicy {
    /// A policy by these settings and routes, for content that `budget` is charged with.
    pub fn new(settings: &Settings, routes: Arc<Snapshot>, budget: Arc<Budget>) -> Self {
        Self { relay: relay_policy(&settings.access), routes: RefCell::new(routes), budget }
    }

    /// From now on these routes count.
    pub fn install_routes(&self, routes: Arc<Snapshot>) {
        *self.routes.borrow_mut() = routes;
    }
}

impl Policy for HubPolicy {
    fn mail(&self, _: &SessionFacts, _: ReversePathRef<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn rcpt(&self, session: &SessionFacts, _: ReversePathRef<'_>, to: RecipientRef<'_>) -> Result<(), Refusal> {
        // Who was named is the front end's client, and the front end has judged: it said yes to him already and cannot take
        // one recipient back. What no route leads to waits.
        if session.identity().is_some() {
            return Ok(());
        }
        judge(&self.relay, session, to)?;
        match self.routes.borrow().table.next_hop(to.domain()) {
            // It could not take this one back either.
            _ if session.trusted_front_end() => Ok(()),
            Ok(_) => Ok(()),
            Err(Unroutable::Literal) => Err(LITERAL),
            Err(Unroutable::NoRoute) => Err(NO_ROUTE),
        }
    }

    fn room(&self, _: u64) -> Result<(), Refusal> {
        if self.budget.percent() >= REFUSE_PERCENT { Err(NO_MEMORY) } else { Ok(()) }
    }
}
