//! A snapshot of where mail goes: the routes of the settings with every host's addresses. Made by the control plane,
//! published by pointer, never changed (architecture.md, "Control plane").

use super::{Host, NextHop, Protocol, Settings};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The name of the front end's own next hop, its hubs.
pub const HUBS: &str = "hubs";

/// Where mail goes, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// Grows with every snapshot.
    pub generation: u64,
    /// The next hops, sorted by name.
    pub hops: Vec<ResolvedHop>,
    /// The hubs behind a front end; no hosts where there is none.
    pub hubs: ResolvedHop,
    /// Lower-case domains matched whole, and the index of their next hop.
    domains: BTreeMap<String, usize>,
    /// Lower-case domains whose subdomains are matched.
    below: BTreeMap<String, usize>,
    /// Everything else.
    rest: Option<usize>,
}

/// A next hop with the addresses of its hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvedHop {
    /// Its name.
    pub name: String,
    /// Its hosts' addresses in the order of their names and of the resolver (M-087), each once.
    pub hosts: Vec<SocketAddr>,
    /// Whether LMTP is spoken there.
    pub lmtp: bool,
    /// Connections to it, where it has a cap of its own.
    pub connections_max: Option<u32>,
    /// Hosts that have no address now.
    pub unresolved: Vec<String>,
}

impl Routing {
    /// The routes of `settings`, with the addresses of each name that `addresses` knows.
    pub fn new(settings: &Settings, addresses: impl Fn(&str, u16) -> Vec<SocketAddr>, generation: u64) -> Routing {
        let hops: Vec<ResolvedHop> =
            settings.next_hops.iter().map(|(name, hop)| ResolvedHop::new(name, hop, settings, &addresses)).collect();
        let index = |name: &String| hops.iter().position(|hop| hop.name == *name);
        let indexed = |names: &BTreeMap<String, String>| {
            names.iter().filter_map(|(domain, name)| Some((domain.clone(), index(name)?))).collect()
        };
        Routing {
            generation,
            hubs: ResolvedHop::new(HUBS, &settings.hubs, settings, &addresses),
            domains: indexed(&settings.routes.domains),
            below: indexed(&settings.routes.below),
            rest: settings.routes.rest.as_ref().and_then(index),
            hops,
        }
    }

    /// The index in `hops` of the next hop of `domain` (lower case): its own, else the nearest above it, else the rest's.
    pub fn next_hop(&self, domain: &str) -> Option<usize> {
        if let Some(hop) = self.domains.get(domain) {
            return Some(*hop);
        }
        let mut above = domain;
        while let Some((_, parent)) = above.split_once('.') {
            if let Some(hop) = self.below.get(parent) {
                return Some(*hop);
            }
            above = parent;
        }
        self.rest
    }

    /// Whether both say the same, whatever their generation.
    pub fn says_the_same(&self, other: &Routing) -> bool {
        Routing { generation: 0, ..self.clone() } == Routing { generation: 0, ..other.clone() }
    }

    /// Every name of a host without an address.
    pub fn unresolved(&self) -> impl Iterator<Item = &str> {
        self.hops.iter().chain([&self.hubs]).flat_map(|hop| &hop.unresolved).map(String::as_str)
    }
}

impl ResolvedHop {
    fn new(name: &str, hop: &NextHop, settings: &Settings, addresses: &impl Fn(&str, u16) -> Vec<SocketAddr>) -> Self {
        let mut resolved = ResolvedHop {
            name: name.to_owned(),
            hosts: Vec::new(),
            lmtp: hop.protocol == Protocol::Lmtp,
            connections_max: hop.connections_max,
            unresolved: Vec::new(),
        };
        for host in &hop.hosts {
            let found = match host {
                Host::Address(address) => vec![*address],
                Host::Name(name, port) => addresses(name, *port),
            };
            if found.is_empty() {
                resolved.unresolved.push(host.to_string());
            }
            for address in found {
                // M-081: never connect to ourselves, whatever a name says.
                let ours = settings.listeners.iter().any(|listener| listener.address == address);
                if !ours && !resolved.hosts.contains(&address) {
                    resolved.hosts.push(address);
                }
            }
        }
        resolved
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Listener, Profile, Receive, Role};
    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::of(Profile::Rfc);
        let hop = |hosts: Vec<Host>| NextHop { hosts, protocol: Protocol::Smtp, connections_max: Some(3) };
        settings
            .next_hops
            .insert("a".into(), hop(vec![Host::Name("two.test".into(), 25), Host::Name("none.test".into(), 25)]));
        settings.next_hops.insert("b".into(), hop(vec![Host::Address("10.0.0.9:26".parse().expect("an address"))]));
        settings.routes.domains.insert("a.test".into(), "a".into());
        settings.routes.below.insert("test".into(), "b".into());
        settings.listeners.push(Listener {
            address: "127.0.0.1:25".parse().expect("an address"),
            role: Role::Hub,
            protocol: Protocol::Smtp,
            receive: Receive::of(Profile::Rfc, Role::Hub),
        });
        settings
    }

    fn known(name: &str, port: u16) -> Vec<SocketAddr> {
        let at = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), port);
        match name {
            "two.test" => vec![at("10.0.0.2"), at("10.0.0.1"), at("10.0.0.2"), at("127.0.0.1")],
            _ => Vec::new(),
        }
    }

    #[test]
    fn m_087_addresses_keep_the_resolver_s_order_and_m_081_never_name_ourselves() {
        let routing = Routing::new(&settings(), known, 4);
        assert_eq!(routing.generation, 4);
        let hosts: Vec<String> = routing.hops[0].hosts.iter().map(SocketAddr::to_string).collect();
        assert_eq!(hosts, ["10.0.0.2:25", "10.0.0.1:25"]);
        assert_eq!(routing.unresolved().collect::<Vec<_>>(), ["none.test:25"]);
        assert_eq!(routing.hops[0].connections_max, Some(3));
        assert_eq!(routing.next_hop("a.test"), Some(0));
        assert_eq!(routing.next_hop("x.test"), Some(1));
        assert_eq!(routing.next_hop("a.example"), None);
        assert!(routing.hubs.hosts.is_empty());
    }

    #[test]
    fn a_snapshot_is_new_when_it_says_something_else() {
        let first = Routing::new(&settings(), known, 1);
        assert!(first.says_the_same(&Routing::new(&settings(), known, 2)));
        assert!(!first.says_the_same(&Routing::new(&settings(), |_, _| Vec::new(), 2)));
    }
}
