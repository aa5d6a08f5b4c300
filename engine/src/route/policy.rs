//! Who may hand over mail for whom (S-012), and whose word about a client counts (S-018).

use crate::wire::{Network, is_domain};
use std::cmp::Ordering;
use std::net::IpAddr;

/// Why a recipient is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayDenied {
    /// The client may not relay and the domain is not ours: `550 5.7.1`.
    #[error("relaying is denied")]
    NotOurs,
    /// The client may not relay and the local part routes onwards (`a%b`, `a!b`, `"a@b"`): `550 5.7.1`.
    #[error("relaying by a route in the local part is denied")]
    Routed,
}

/// The relay policy of a server: a snapshot.
///
/// Without a word of configuration only clients on loopback relay, nothing is accepted from others, and nobody's word is
/// taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPolicy {
    relay_from: Vec<Network>,
    trusted_front_ends: Vec<Network>,
    /// Lower case, sorted.
    accepted: Vec<Box<[u8]>>,
}

impl Default for RelayPolicy {
    fn default() -> Self {
        Self::new(Network::LOOPBACK.into(), Vec::new(), [""; 0])
    }
}

impl RelayPolicy {
    /// Clients in `relay_from` may relay to anywhere; anybody may send to the `accepted` domains (subdomains are domains of
    /// their own); peers in `trusted_front_ends` may name the client behind them.
    pub fn new(
        relay_from: Vec<Network>,
        trusted_front_ends: Vec<Network>,
        accepted: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        let lower = |domain: &str| domain.to_ascii_lowercase().into_bytes().into();
        let mut domains: Vec<Box<[u8]>> = accepted.into_iter().map(|domain| lower(domain.as_ref())).collect();
        domains.sort();
        domains.dedup();
        Self { relay_from, trusted_front_ends, accepted: domains }
    }

    /// Whether the peer's word about the client behind it is taken.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        contains(&self.trusted_front_ends, peer)
    }

    /// Whether a client may relay to anywhere. `None` is a trusted front end that has not said for whom it speaks: its own
    /// address is nobody's permission (S-018).
    pub fn relays_for(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| contains(&self.relay_from, client))
    }

    /// Whether mail for the domain is taken from anybody.
    pub fn accepts(&self, domain: &[u8]) -> bool {
        let against =
            |known: &[u8]| -> Ordering { known.iter().copied().cmp(domain.iter().map(u8::to_ascii_lowercase)) };
        self.accepted.binary_search_by(|known| against(known)).is_ok()
    }

    /// Judges one recipient, its local part as it is sent, its domain empty for `<postmaster>`.
    ///
    /// # Errors
    /// When the client may not send there.
    pub fn judge(&self, client: Option<IpAddr>, local: &[u8], domain: &[u8]) -> Result<(), RelayDenied> {
        if self.relays_for(client) {
            return Ok(());
        }
        // RFC 5321 §4.5.1: postmaster without a domain is always ours.
        if domain.is_empty() && local.eq_ignore_ascii_case(b"postmaster") {
            return Ok(());
        }
        if !is_domain(domain) || !self.accepts(domain) {
            return Err(RelayDenied::NotOurs);
        }
        match local.iter().any(|octet| matches!(octet, b'%' | b'!' | b'@')) {
            true => Err(RelayDenied::Routed),
            false => Ok(()),
        }
    }
}

fn contains(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn policy(relay_from: &[&str], trusted: &[&str]) -> RelayPolicy {
        let networks = |list: &[&str]| list.iter().map(|text| text.parse().expect("a range")).collect();
        RelayPolicy::new(networks(relay_from), networks(trusted), ["Ours.test"])
    }

    #[test]
    fn s_012_without_a_rule_nobody_relays_but_loopback() {
        let policy = RelayPolicy::default();
        for client in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(policy.judge(ip(client), b"a", b"any.test"), Ok(()), "{client}");
        }
        for client in [
            "10.0.0.1",
            "192.168.1.1",
            "169.254.0.1",
            "128.0.0.1",
            "0.0.0.0",
            "::",
            "::2",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(policy.judge(ip(client), b"a", b"any.test"), Err(RelayDenied::NotOurs), "{client}");
        }
        assert_eq!(policy.judge(None, b"a", b"any.test"), Err(RelayDenied::NotOurs));
    }

    #[test]
    fn s_012_the_open_relay_forms_are_refused() {
        let policy = policy(&["10.0.0.0/8"], &[]);
        let stranger = ip("192.0.2.9");
        for (local, domain, verdict) in [
            ("user", "ours.test", Ok(())),
            ("user", "OURS.TEST", Ok(())),
            ("a+b_c-d=e/f", "ours.test", Ok(())),
            ("user", "elsewhere.test", Err(RelayDenied::NotOurs)),
            ("user", "sub.ours.test", Err(RelayDenied::NotOurs)),
            ("user", "xours.test", Err(RelayDenied::NotOurs)),
            ("user", "ours.test.elsewhere.test", Err(RelayDenied::NotOurs)),
            ("user", "ours", Err(RelayDenied::NotOurs)),
            ("user", "ours.test.", Err(RelayDenied::NotOurs)),
            ("user", ".ours.test", Err(RelayDenied::NotOurs)),
            ("user", "", Err(RelayDenied::NotOurs)),
            ("user", "[127.0.0.1]", Err(RelayDenied::NotOurs)),
            ("user", "[192.0.2.9]", Err(RelayDenied::NotOurs)),
            ("user", "127.0.0.1", Err(RelayDenied::NotOurs)),
            ("user", "localhost", Err(RelayDenied::NotOurs)),
            ("user", "оurs.test", Err(RelayDenied::NotOurs)),
            ("user", "ours\u{ff0e}test", Err(RelayDenied::NotOurs)),
            ("user%elsewhere.test", "ours.test", Err(RelayDenied::Routed)),
            ("user%elsewhere.test%third.test", "ours.test", Err(RelayDenied::Routed)),
            ("elsewhere.test!user", "ours.test", Err(RelayDenied::Routed)),
            ("user@elsewhere.test", "ours.test", Err(RelayDenied::Routed)),
            ("@elsewhere.test:user", "ours.test", Err(RelayDenied::Routed)),
            ("postmaster", "", Ok(())),
            ("PostMaster", "", Ok(())),
            ("postmaster", "elsewhere.test", Err(RelayDenied::NotOurs)),
            ("postmaster%elsewhere.test", "", Err(RelayDenied::NotOurs)),
        ] {
            assert_eq!(policy.judge(stranger, local.as_bytes(), domain.as_bytes()), verdict, "{local} at {domain}");
            assert_eq!(policy.judge(ip("10.1.2.3"), local.as_bytes(), domain.as_bytes()), Ok(()));
        }
    }

    #[test]
    fn s_018_behind_a_front_end_the_proxied_client_counts() {
        let policy = policy(&["127.0.0.0/8", "10.0.0.0/8"], &["127.0.0.1/32"]);
        let front = "127.0.0.1".parse().expect("an address");
        assert!(policy.trusts(front) && !policy.trusts("10.0.0.5".parse().expect("an address")));
        assert!(!RelayPolicy::default().trusts(front), "nobody is trusted unless listed");
        for (client, relays) in [(ip("10.0.0.5"), true), (ip("192.0.2.9"), false), (None, false)] {
            // The front end stands in `relay_from` too, and still does not relay in its own name.
            assert_eq!(policy.relays_for(client), relays, "{client:?}");
            assert_eq!(policy.judge(client, b"user", b"elsewhere.test").is_ok(), relays, "{client:?}");
            assert_eq!(policy.judge(client, b"user", b"ours.test"), Ok(()), "{client:?}");
        }
    }
}
