//! The table from a recipient's domain to its next hop.

use crate::wire::{HostAddress, NextHopKey};
use std::cmp::Ordering;
use std::net::SocketAddr;

/// A next hop by its place in one table; of no meaning in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHopIndex(u32);

impl NextHopIndex {
    /// Its place in [`RouteTable::next_hops`], and so in what `Queues::install` fills.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A next hop and the hosts behind it, in the order in which they are to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Names its queue.
    pub key: NextHopKey,
    /// Empty only while no name of its hosts has an address.
    pub hosts: Vec<HostAddress>,
}

/// Why a recipient has no next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// No route matches the domain: whoever was accepted waits for another table (docs/PROFILES.md, "Words of queue tools").
    #[error("no route matches the recipient's domain")]
    NoRoute,
    /// An address literal that no route names: refused at RCPT, `550 5.1.2` (M-092); whoever was accepted waits as well.
    #[error("address literals are not relayed")]
    Literal,
}

/// What is wrong with a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A next hop has no address: there is nothing to try.
    #[error("next hop {0} has no address")]
    NoHosts(NextHopKey),
    /// A pattern is routed twice.
    #[error("{0} is routed twice")]
    Twice(String),
    /// A pattern is no domain, no `.domain`, no `*.domain`, no `[literal]` and not `*`.
    #[error("{0} is no pattern of domains: example.com, .example.com, *.example.com or *")]
    Pattern(String),
}

/// Which next hop each domain goes to. A snapshot: built once, read by every shard.
///
/// A domain is looked up whole, then as a subdomain of the nearest `.suffix`, then as `*`. Case does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteTable {
    next_hops: Vec<NextHop>,
    /// Lower case, sorted.
    exact: Vec<(Box<[u8]>, NextHopIndex)>,
    below: Vec<(Box<[u8]>, NextHopIndex)>,
    rest: Option<NextHopIndex>,
    own_name: Box<[u8]>,
}

/// Builds a [`RouteTable`].
#[derive(Debug, Default)]
pub struct RouteTableBuilder {
    table: RouteTable,
}

impl RouteTableBuilder {
    /// Adds a next hop with its hosts in the order given; an address named twice counts once, as the first time.
    ///
    /// # Errors
    /// When there is no address.
    pub fn next_hop(&mut self, key: NextHopKey, hosts: &[HostAddress]) -> Result<NextHopIndex, RouteError> {
        let mut addresses: Vec<HostAddress> = Vec::with_capacity(hosts.len());
        for &host in hosts {
            if !addresses.iter().any(|known| known.address == host.address) {
                addresses.push(host);
            }
        }
        if addresses.is_empty() {
            return Err(RouteError::NoHosts(key));
        }
        let hops = &mut self.table.next_hops;
        let index = NextHopIndex(u32::try_from(hops.len()).expect("next hops are written down by people"));
        hops.push(NextHop { key, hosts: addresses });
        Ok(index)
    }

    /// Adds a next hop whose hosts have no address now: its mail waits in its own queue, and goes to no other route.
    pub fn next_hop_unresolved(&mut self, key: NextHopKey) -> NextHopIndex {
        let hops = &mut self.table.next_hops;
        let index = NextHopIndex(u32::try_from(hops.len()).expect("next hops are written down by people"));
        hops.push(NextHop { key, hosts: Vec::new() });
        index
    }

    /// Routes what `pattern` matches: `example.com` that domain, `.example.com` or `*.example.com` every domain below it,
    /// `*` everything else, `[192.0.2.1]` that literal.
    ///
    /// # Errors
    /// When the pattern is none of these, or routed already.
    pub fn route(&mut self, pattern: &str, to: NextHopIndex) -> Result<(), RouteError> {
        if pattern == "*" {
            return match self.table.rest.replace(to) {
                None => Ok(()),
                Some(_) => Err(RouteError::Twice(pattern.to_owned())),
            };
        }
        let suffix = pattern.strip_prefix('*').unwrap_or(pattern).strip_prefix('.');
        let (list, domain) = match suffix {
            Some(domain) => (&mut self.table.below, domain),
            None => (&mut self.table.exact, pattern),
        };
        let is_literal = suffix.is_none() && domain.starts_with('[') && domain.ends_with(']');
        if !is_literal && !crate::wire::is_domain(domain.as_bytes()) {
            return Err(RouteError::Pattern(pattern.to_owned()));
        }
        match list.binary_search_by(|(known, _)| without_case(known, domain.as_bytes())) {
            Ok(_) => Err(RouteError::Twice(pattern.to_owned())),
            Err(at) => {
                list.insert(at, (domain.to_ascii_lowercase().into_bytes().into(), to));
                Ok(())
            }
        }
    }

    /// The domain that a recipient without one belongs to (`<postmaster>`).
    pub fn own_name(&mut self, fqdn: &str) {
        self.table.own_name = fqdn.as_bytes().into();
    }

    /// The finished table.
    pub fn build(self) -> RouteTable {
        self.table
    }
}

impl RouteTable {
    /// A table with nothing in it.
    pub fn builder() -> RouteTableBuilder {
        RouteTableBuilder::default()
    }

    /// A table that sends everything to one smart host.
    ///
    /// # Errors
    /// When there is no address.
    pub fn smart_host(key: NextHopKey, hosts: &[SocketAddr]) -> Result<Self, RouteError> {
        let mut builder = Self::builder();
        let hosts: Vec<HostAddress> = hosts.iter().copied().map(HostAddress::equal).collect();
        let hop = builder.next_hop(key, &hosts)?;
        builder.table.rest = Some(hop);
        Ok(builder.build())
    }

    /// Every next hop, in the order of their indexes.
    pub fn next_hops(&self) -> &[NextHop] {
        &self.next_hops
    }

    /// The same in the form that `Queues::install` takes.
    pub fn keys_and_hosts(&self) -> impl Iterator<Item = (&NextHopKey, &[HostAddress])> {
        self.next_hops.iter().map(|hop| (&hop.key, hop.hosts.as_slice()))
    }

    /// The next hop of a recipient at `domain` (any case; empty for `<postmaster>`; a literal in its brackets).
    ///
    /// # Errors
    /// When no route matches.
    pub fn next_hop(&self, domain: &[u8]) -> Result<NextHopIndex, Unroutable> {
        let domain = if domain.is_empty() { &self.own_name } else { domain };
        if let Some(hop) = find(&self.exact, domain) {
            return Ok(hop);
        }
        if domain.first() == Some(&b'[') {
            return Err(Unroutable::Literal);
        }
        let mut above = domain;
        while let Some(dot) = memchr::memchr(b'.', above) {
            above = above.get(dot + 1..).unwrap_or_default();
            if let Some(hop) = find(&self.below, above) {
                return Ok(hop);
            }
        }
        self.rest.ok_or(Unroutable::NoRoute)
    }
}

fn find(list: &[(Box<[u8]>, NextHopIndex)], domain: &[u8]) -> Option<NextHopIndex> {
    let at = list.binary_search_by(|(known, _)| without_case(known, domain)).ok()?;
    list.get(at).map(|(_, hop)| *hop)
}

fn without_case(known: &[u8], domain: &[u8]) -> Ordering {
    known.iter().copied().cmp(domain.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::DeliveryType;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    pub fn key(name: &str) -> NextHopKey {
        NextHopKey { delivery: DeliveryType::SmartHost, domain: name.into(), connector: name.into() }
    }

    fn one() -> HostAddress {
        HostAddress::equal("127.0.0.1:25".parse().expect("an address"))
    }

    /// One next hop per pattern, in the order given.
    pub fn table(patterns: &[&str]) -> RouteTable {
        let mut builder = RouteTable::builder();
        for pattern in patterns {
            let hop = builder.next_hop(key(pattern), &[one()]).expect("has hosts");
            builder.route(pattern, hop).expect("a pattern");
        }
        builder.own_name("mx.own.test");
        builder.build()
    }

    #[test]
    fn a_domain_goes_to_the_nearest_route() {
        let table = table(&["a.test", ".a.test", "*.deep.a.test", "[192.0.2.1]", "own.test", ".own.test", "*"]);
        for (domain, expected) in [
            ("a.test", Ok(0)),
            ("A.Test", Ok(0)),
            ("x.a.test", Ok(1)),
            ("y.X.A.TEST", Ok(1)),
            ("deep.a.test", Ok(1)),
            ("x.deep.a.test", Ok(2)),
            ("xa.test", Ok(6)),
            ("a.test.evil", Ok(6)),
            ("test", Ok(6)),
            ("[192.0.2.1]", Ok(3)),
            ("[192.0.2.2]", Err(Unroutable::Literal)),
            ("", Ok(5)),
        ] {
            assert_eq!(table.next_hop(domain.as_bytes()).map(NextHopIndex::index), expected, "{domain}");
        }
    }

    #[test]
    fn m_092_a_literal_is_never_relayed_by_the_route_for_the_rest() {
        let hosts = ["127.0.0.1:25".parse().expect("an address")];
        let table = RouteTable::smart_host(key("smart"), &hosts).expect("has hosts");
        assert_eq!(table.next_hop(b"[127.0.0.1]"), Err(Unroutable::Literal));
        assert_eq!(table.next_hop(b"[IPv6:::1]"), Err(Unroutable::Literal));
        assert!(table.next_hop(b"any.test").is_ok());
        assert!(table.next_hop(b"").is_ok());
    }

    #[test]
    fn without_a_route_a_recipient_is_reported() {
        assert_eq!(table(&["a.test"]).next_hop(b"b.test"), Err(Unroutable::NoRoute));
        assert_eq!(RouteTable::default().next_hop(b""), Err(Unroutable::NoRoute));
    }

    #[test]
    fn m_087_addresses_stay_in_the_order_given_and_count_once() {
        let addresses: Vec<SocketAddr> = ["[2001:db8::1]:25", "192.0.2.1:25", "[2001:db8::1]:25", "192.0.2.1:26"]
            .map(|text| text.parse().expect("an address"))
            .into();
        let table = RouteTable::smart_host(key("smart"), &addresses).expect("has hosts");
        let hosts: Vec<SocketAddr> = table.next_hops()[0].hosts.iter().map(|host| host.address).collect();
        assert_eq!(hosts, [addresses[0], addresses[1], addresses[3]]);
    }

    #[test]
    fn what_is_no_route_is_refused_with_its_reason() {
        let mut builder = RouteTable::builder();
        assert_eq!(builder.next_hop(key("none"), &[]), Err(RouteError::NoHosts(key("none"))));
        let hop = builder.next_hop(key("one"), &[one()]).expect("has hosts");
        for pattern in ["", ".", "*.", "a..test", "*a.test", "a.*.test", "a test", "../x", "-"] {
            assert_eq!(builder.route(pattern, hop), Err(RouteError::Pattern(pattern.into())));
        }
        for pattern in ["a.test", "*.a.test", "*"] {
            assert_eq!(builder.route(pattern, hop), Ok(()));
        }
        for pattern in ["A.test", ".a.test", "*"] {
            assert_eq!(builder.route(pattern, hop), Err(RouteError::Twice(pattern.into())));
        }
    }

    proptest! {
        #[test]
        fn the_table_equals_trying_every_route(
            routes in prop::collection::btree_set("(\\.|)[ab](\\.[ab]){0,3}", 0..12),
            domain in "[abAB](\\.[abAB]){0,4}",
        ) {
            let patterns: Vec<&str> = routes.iter().map(String::as_str).collect();
            let table = table(&patterns);
            let lower = domain.to_ascii_lowercase();
            let matches = |pattern: &str| match pattern.starts_with('.') {
                true => lower.ends_with(pattern),
                false => lower == pattern,
            };
            // The longest match wins; a whole match is longer than any suffix, which has a label less.
            let by_length: BTreeMap<usize, usize> = patterns.iter().enumerate()
                .filter(|(_, pattern)| matches(pattern)).map(|(at, pattern)| (pattern.len(), at)).collect();
            let expected = by_length.last_key_value().map(|(_, at)| *at);
            prop_assert_eq!(table.next_hop(domain.as_bytes()).ok().map(NextHopIndex::index), expected);
        }
    }
}
