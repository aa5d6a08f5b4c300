//! Routing: who may relay, which next hop a recipient goes to, and how one message becomes several queue entries without
//! a copy of its content.
//!
//! [`RouteTable`] and [`RelayPolicy`] are immutable snapshots that the control plane builds, with every name resolved, and
//! shards read; a message is routed by the snapshot of its turn. Nothing here asks a resolver, waits, or allocates per
//! message once [`Groups`] has grown to the largest message.
//!
//! Bounds: a look-up costs one binary search per label of the domain; routing a message costs that per recipient.
//!
//! Conformance: M-087 (addresses keep the order they are given in), M-092, M-098; S-012, S-018.

mod bifurcation;
mod policy;
mod snapshot;
mod table;

pub use bifurcation::{Group, Groups};
pub use policy::{RelayDenied, RelayPolicy};
pub use snapshot::{HUBS, Manners, Snapshot};
pub use table::{NextHop, NextHopIndex, RouteError, RouteTable, RouteTableBuilder, Unroutable};
