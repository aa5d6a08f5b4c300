//! Where a recipient goes next: the key that names a queue, and the addresses behind it. Made by routing, kept by queues.

use std::fmt;
use std::net::SocketAddr;

/// How a next hop is reached (docs/PROFILES.md). Further values come with routing over sites and connectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryType {
    /// To configured hosts (`SmartHostConnectorDelivery`).
    SmartHost,
    /// To the service that writes into mailboxes (`SmtpDeliveryToMailbox`).
    Mailbox,
    /// Not at all: no route leads there (`Unreachable`).
    Unreachable,
}

impl DeliveryType {
    /// The name that queue tools show.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryType::SmartHost => "SmartHostConnectorDelivery",
            DeliveryType::Mailbox => "SmtpDeliveryToMailbox",
            DeliveryType::Unreachable => "Unreachable",
        }
    }
}

/// What makes two recipients share a queue: (delivery type, domain, connector).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHopKey {
    /// How it is reached.
    pub delivery: DeliveryType,
    /// The next hop's domain as queue tools show it.
    pub domain: Box<str>,
    /// The name of the route or connector; empty where there is none.
    pub connector: Box<str>,
}

impl NextHopKey {
    /// The queue of recipients that no route leads to (docs/PROFILES.md).
    pub fn unreachable() -> Self {
        Self { delivery: DeliveryType::Unreachable, domain: "Unreachable Domain".into(), connector: "".into() }
    }
}

impl fmt::Display for NextHopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.domain)
    }
}

/// One host of a next hop: an address with a health of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostAddress {
    /// Lower is tried first; equal ones share the load (RFC 5321 §5.1). Addresses of one name have it from the resolver's order.
    pub preference: u16,
    /// Where it listens.
    pub address: SocketAddr,
}

impl HostAddress {
    /// A host that is as good as all others of its next hop.
    pub fn equal(address: SocketAddr) -> Self {
        Self { preference: 0, address }
    }
}
