//! What each service decides: machines and snapshots composed, no I/O.

pub mod frontend;
pub mod hub;
pub mod mailbox_delivery;

use crate::route::RelayPolicy;
use crate::settings::Access;
use crate::smtp::server::SessionFacts;
use crate::wire::{RecipientRef, Refusal};

const NO_RELAY: Refusal = Refusal::fixed(550, (5, 7, 1), "Unable to relay");

/// The one judge over who may hand over mail for whom, as a server was told.
pub fn relay_policy(access: &Access) -> RelayPolicy {
    let Access { relay_from, trusted_front_ends, accepted_domains } = access;
    RelayPolicy::new(relay_from.clone(), trusted_front_ends.clone(), accepted_domains)
}

/// Judges one recipient: the client counts, behind a front end the one that it speaks for (M-031, S-012, S-018).
fn judge(relay: &RelayPolicy, session: &SessionFacts, to: RecipientRef<'_>) -> Result<(), Refusal> {
    relay.judge(session.client_address(), to.local(), to.domain()).map_err(|_| NO_RELAY)
}
