//! Mailbox delivery's decisions: who has a mailbox here, and what a failure of the store is to its sender.

use super::{NO_RELAY, relay_policy};
use crate::route::RelayPolicy;
use crate::settings::{Settings, Store};
use crate::smtp::server::{Policy, SessionFacts};
use crate::store::StoreError;
use crate::sys::slice::Budget;
use crate::wire::{RecipientRef, Refusal, ReversePathRef};
use std::sync::Arc;

const NO_MEMORY: Refusal = Refusal::fixed(452, (4, 3, 1), "Insufficient system resources");
/// The reply to who has no mailbox here (M-032).
pub const NO_MAILBOX: Refusal = Refusal::fixed(550, (5, 1, 1), "User unknown");
const FULL: Refusal = Refusal::fixed(452, (4, 3, 1), "Insufficient system storage");
const BROKEN: Refusal = Refusal::fixed(451, (4, 3, 0), "The store cannot take the message now");

/// New mail is refused when so many hundredths of the memory budget are in use (F-040).
const REFUSE_PERCENT: u32 = 90;

/// Judges what hubs ask of a store.
#[derive(Debug)]
pub struct MailboxPolicy {
    settings: Arc<Settings>,
    relay: RelayPolicy,
    budget: Arc<Budget>,
}

impl MailboxPolicy {
    /// A policy by these settings.
    pub fn new(settings: Arc<Settings>, budget: Arc<Budget>) -> Self {
        Self { relay: relay_policy(&settings.access), settings, budget }
    }

    /// The folder of a recipient; `None`: there is no such mailbox. Postmaster always has one, at every domain of ours and
    /// without a domain (M-030).
    pub fn folder(&self, local: &[u8], domain: &[u8]) -> Option<&str> {
        let mailboxes = &self.settings.mailboxes;
        let ours = || {
            domain.is_empty()
                || domain.eq_ignore_ascii_case(self.settings.server.fqdn.as_bytes())
                || self.relay.accepts(domain)
                || mailboxes.has_domain(domain)
        };
        let postmaster = || local.eq_ignore_ascii_case(b"postmaster") && ours();
        mailboxes.folder(local, domain).or_else(|| postmaster().then(|| mailboxes.postmaster()))
    }
}

impl Policy for MailboxPolicy {
    fn mail(&self, _: &SessionFacts, _: ReversePathRef<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn rcpt(&self, session: &SessionFacts, _: ReversePathRef<'_>, to: RecipientRef<'_>) -> Result<(), Refusal> {
        // Only our own hubs deliver here; they connect from where relaying is allowed (M-031).
        if !self.relay.relays_for(Some(session.peer().ip())) {
            return Err(NO_RELAY);
        }
        let takes_all = self.settings.store == Store::Null && self.settings.mailboxes.is_empty();
        if takes_all || self.folder(to.local(), to.domain()).is_some() { Ok(()) } else { Err(NO_MAILBOX) }
    }

    fn room(&self, _: u64) -> Result<(), Refusal> {
        if self.budget.percent() >= REFUSE_PERCENT { Err(NO_MEMORY) } else { Ok(()) }
    }
}

/// The reply for a message that could not be placed: always for now, never for good (I-9).
pub fn refusal(error: StoreError) -> Refusal {
    match error {
        StoreError::Full => FULL,
        StoreError::Broken | StoreError::Unknown => BROKEN,
    }
}
