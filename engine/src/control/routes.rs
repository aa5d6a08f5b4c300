//! From settings and what is known of names to a snapshot of the routes.

use crate::route::{HUBS, Manners, NextHop, NextHopIndex, RouteError, RouteTable, Snapshot};
use crate::settings::{self, Host, Protocol, Role, Settings};
use crate::wire::{DeliveryType, HostAddress, NextHopKey};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The routes of `settings`, with the addresses of each name that `addresses` knows.
pub(crate) fn snapshot(
    settings: &Settings,
    addresses: impl Fn(&str, u16) -> Vec<SocketAddr>,
    generation: u64,
) -> Snapshot {
    let mut snapshot = Snapshot { generation, single_labels: settings.single_labels(), ..Snapshot::default() };
    let mut table = RouteTable::builder();
    table.own_name(&settings.server.fqdn);
    let mut indexes: BTreeMap<&str, NextHopIndex> = BTreeMap::new();
    for (name, hop) in &settings.next_hops {
        let found = resolve((hop, Role::Hub), settings, &addresses, &mut snapshot.unresolved);
        // What has no address keeps its queue: its mail waits there and takes no other route.
        let index =
            table.next_hop(key(name, hop), &found).unwrap_or_else(|_| table.next_hop_unresolved(key(name, hop)));
        indexes.insert(name, index);
        snapshot.manners.push(manners(hop));
    }
    let exact = settings.routes.domains.iter().map(|(domain, name)| (domain.clone(), name));
    let below = settings.routes.below.iter().map(|(domain, name)| (format!("*.{domain}"), name));
    let rest = settings.routes.rest.iter().map(|name| ("*".to_owned(), name));
    for (pattern, name) in exact.chain(below).chain(rest) {
        let Some(index) = indexes.get(name.as_str()) else { continue };
        if let Err(error @ (RouteError::Pattern(_) | RouteError::Twice(_) | RouteError::NoHosts(_))) =
            table.route(&pattern, *index)
        {
            // Configuration has refused such patterns already.
            tracing::error!(cause = "route", %error, "a route was left out");
        }
    }
    snapshot.table = table.build();
    let hubs = resolve((&settings.hubs, Role::Frontend), settings, &addresses, &mut snapshot.unresolved);
    snapshot.hubs =
        // Not next hops but front ends' own: whatever a name leads to shares the load.
        NextHop { key: key(HUBS, &settings.hubs), hosts: hubs.into_iter().map(|hub| HostAddress::equal(hub.address)).collect() };
    snapshot.hub_manners = manners(&settings.hubs);
    snapshot
}

fn key(name: &str, hop: &settings::NextHop) -> NextHopKey {
    let delivery = match hop.protocol {
        Protocol::Smtp => DeliveryType::SmartHost,
        Protocol::Lmtp => DeliveryType::Mailbox,
    };
    NextHopKey { delivery, domain: name.into(), connector: "".into() }
}

fn manners(hop: &settings::NextHop) -> Manners {
    Manners {
        lmtp: hop.protocol == Protocol::Lmtp,
        connections_max: hop.connections_max,
        send_eight_bit: hop.send_eight_bit,
        long_lines: hop.long_lines,
    }
}

/// The addresses of a next hop, each once. Its hosts are equals; of the addresses of one name, those that the resolver put
/// first are preferred (M-087).
fn resolve(
    (hop, role): (&settings::NextHop, Role),
    settings: &Settings,
    addresses: &impl Fn(&str, u16) -> Vec<SocketAddr>,
    unresolved: &mut Vec<String>,
) -> Vec<HostAddress> {
    let mut all: Vec<HostAddress> = Vec::new();
    for host in &hop.hosts {
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name, port) => addresses(name, *port),
        };
        if found.is_empty() {
            unresolved.push(host.to_string());
        }
        let mut preference = 0;
        for address in found {
            // M-081: never connect to ourselves, whatever a name says.
            if !settings.comes_back(role, address) && !all.iter().any(|known| known.address == address) {
                all.push(HostAddress { preference, address });
                preference += 1;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Unroutable;
    use crate::settings::{Listener, Profile, Receive};

    fn settings() -> Settings {
        let mut settings = Settings::of(Profile::Rfc);
        let hop = |hosts: Vec<Host>, protocol| settings::NextHop {
            connections_max: Some(3),
            ..settings::NextHop::of(hosts, protocol)
        };
        let names = ["two.test", "none.test"].map(|name| Host::Name(name.into(), 25));
        let hops = [
            ("a", hop(names.to_vec(), Protocol::Smtp)),
            ("b", hop(vec![Host::Address("10.0.0.9:26".parse().expect("an address"))], Protocol::Lmtp)),
            ("c", hop(vec![Host::Name("none.test".into(), 25)], Protocol::Smtp)),
        ];
        settings.next_hops = hops.map(|(name, hop)| (name.to_owned(), hop)).into();
        settings.routes.domains.insert("a.test".into(), "a".into());
        settings.routes.domains.insert("c.test".into(), "c".into());
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
        let snapshot = snapshot(&settings(), known, 4);
        let hops = snapshot.table.next_hops();
        let hosts: Vec<(u16, String)> =
            hops[0].hosts.iter().map(|host| (host.preference, host.address.to_string())).collect();
        assert_eq!(hosts, [(0, "10.0.0.2:25".to_owned()), (1, "10.0.0.1:25".to_owned())]);
        assert_eq!(snapshot.generation, 4);
        assert_eq!(snapshot.unresolved, ["none.test:25", "none.test:25"]);
        assert_eq!(snapshot.manners[1], Manners { lmtp: true, connections_max: Some(3), ..Manners::default() });
        assert_eq!((hops[0].key.delivery, hops[1].key.delivery), (DeliveryType::SmartHost, DeliveryType::Mailbox));
        assert!(snapshot.hubs.hosts.is_empty());
    }

    #[test]
    fn a_next_hop_without_an_address_keeps_its_mail_to_itself() {
        let snapshot = snapshot(&settings(), known, 1);
        let hop = |domain: &str| snapshot.table.next_hop(domain.as_bytes()).map(NextHopIndex::index);
        assert_eq!([hop("a.test"), hop("x.test"), hop("c.test")], [Ok(0), Ok(1), Ok(2)]);
        assert!(snapshot.table.next_hops()[2].hosts.is_empty());
        assert_eq!(hop("a.example"), Err(Unroutable::NoRoute));
    }

    #[test]
    fn the_hubs_of_a_front_end_are_a_next_hop_of_their_own() {
        let mut settings = settings();
        settings.hubs.hosts = vec![Host::Name("two.test".into(), 2525)];
        let snapshot = snapshot(&settings, known, 1);
        assert_eq!(snapshot.hubs.hosts.len(), 3, "another port than our own is not ourselves");
        assert_eq!(snapshot.hubs.key.to_string(), HUBS);
    }
}
