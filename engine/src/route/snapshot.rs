//! Where mail goes, as of one moment: made by the control plane when names were resolved or routes reloaded, published by
//! pointer, never changed (ARCHITECTURE.md, "Control plane").

use super::{NextHop, RouteTable};
use crate::wire::{DeliveryType, NextHopKey};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

/// The name of the queue of a front end's hubs.
pub const HUBS: &str = "hubs";

/// Where mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Grows with every snapshot, from 1.
    pub generation: u64,
    /// Next hops and the routes to them.
    pub table: RouteTable,
    /// How each next hop is spoken to, by its index in the table.
    pub manners: Vec<Manners>,
    /// The hubs behind a front end; without hosts where there is none, or none has an address.
    pub hubs: NextHop,
    /// How hubs are spoken to.
    pub hub_manners: Manners,
    /// Hosts that have no address now, as configuration names them.
    pub unresolved: Vec<String>,
    /// Domains without a dot that addresses may have, in lower case, sorted (M-028): those that routes name are among them.
    pub single_labels: Vec<String>,
    /// Names of queues that an operator has suspended, whether they exist or not.
    pub suspended: Arc<BTreeSet<String>>,
}

/// How a next hop is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manners {
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Connections to it, of all shards together, where it has a cap of its own.
    pub connections_max: Option<u32>,
    /// 8-bit content goes as it is to hosts without 8BITMIME (M-175).
    pub send_eight_bit: bool,
    /// Lines over 998 octets go as they are (M-054); `None`: as the profile says.
    pub long_lines: Option<bool>,
}

impl Default for Snapshot {
    fn default() -> Self {
        let key = NextHopKey { delivery: DeliveryType::SmartHost, domain: HUBS.into(), connector: "".into() };
        Snapshot {
            generation: 0,
            table: RouteTable::default(),
            manners: Vec::new(),
            hubs: NextHop { key, hosts: Vec::new() },
            hub_manners: Manners::default(),
            unresolved: Vec::new(),
            single_labels: Vec::new(),
            suspended: Arc::default(),
        }
    }
}

impl Snapshot {
    /// Whether both say the same, whatever their generation.
    pub fn says_the_same(&self, other: &Snapshot) -> bool {
        Snapshot { generation: 0, ..self.clone() } == Snapshot { generation: 0, ..other.clone() }
    }

    /// Whether each next hop has the same addresses in both, in whatever order; of the same settings nothing else differs.
    pub fn leads_to_the_same(&self, other: &Snapshot) -> bool {
        let addresses = |snapshot: &Snapshot| -> Vec<BTreeSet<SocketAddr>> {
            let hops = snapshot.table.next_hops().iter().chain([&snapshot.hubs]);
            hops.map(|hop| hop.hosts.iter().map(|host| host.address).collect()).collect()
        };
        addresses(self) == addresses(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_new_when_it_says_something_else() {
        let first = Snapshot { generation: 1, ..Snapshot::default() };
        assert!(first.says_the_same(&Snapshot { generation: 2, ..first.clone() }));
        assert!(!first.says_the_same(&Snapshot { unresolved: vec!["a.test:25".into()], ..first.clone() }));
        assert_eq!(first.hubs.key.to_string(), HUBS);
    }
}
