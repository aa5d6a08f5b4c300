//! The hub's decisions over envelopes: who may relay, and whether there is memory for content.

use crate::settings::Settings;
use crate::smtp::server::{Policy, SessionFacts};
use crate::sys::slice::Budget;
use crate::wire::{RecipientRef, Refusal, ReversePathRef};
use std::sync::Arc;

const NO_MEMORY: Refusal = Refusal::fixed(452, (4, 3, 1), "Insufficient system resources");
const NO_RELAY: Refusal = Refusal::fixed(550, (5, 7, 1), "Unable to relay");

/// New mail is refused when so many hundredths of the memory budget are in use (F-040).
const REFUSE_PERCENT: u32 = 90;

/// Judges what clients ask of a hub.
#[derive(Debug)]
pub struct HubPolicy {
    settings: Arc<Settings>,
    budget: Arc<Budget>,
}

impl HubPolicy {
    /// A policy by these settings, for content that `budget` is charged with.
    pub fn new(settings: Arc<Settings>, budget: Arc<Budget>) -> Self {
        Self { settings, budget }
    }
}

impl Policy for HubPolicy {
    fn mail(&self, _: &SessionFacts, _: ReversePathRef<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn rcpt(&self, session: &SessionFacts, _: ReversePathRef<'_>, _: RecipientRef<'_>) -> Result<(), Refusal> {
        // Behind a front end the client counts that it speaks for; a front end that does not say speaks for nobody (S-018).
        match session.client_address() {
            Some(client) if self.settings.access.relays_for(client) => Ok(()),
            _ => Err(NO_RELAY),
        }
    }

    fn room(&self, _: u64) -> Result<(), Refusal> {
        if self.budget.percent() >= REFUSE_PERCENT { Err(NO_MEMORY) } else { Ok(()) }
    }
}
