//! A range of addresses as `192.0.2.0/24` writes it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// All addresses that share a prefix. An IPv4 address mapped into IPv6 counts as the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// What stands before the slash is no address.
    #[error("is not an address or a range of addresses")]
    Address,
    /// What stands behind the slash is no length of a prefix of this kind of address.
    #[error("has a prefix length beyond {0}")]
    Prefix(u8),
    /// The address has bits behind the prefix; the range it stands in is given.
    #[error("has bits behind its prefix")]
    HostBits(Network),
}

impl Network {
    /// Loopback of both kinds.
    pub const LOOPBACK: [Network; 2] = [
        Network { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
        Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
    ];

    /// Whether `address` lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }

    /// Whether it holds every address of its kind.
    pub fn is_everybody(&self) -> bool {
        self.prefix == 0
    }

    /// The range of `address`'s first `prefix` bits, which must not be more than it has.
    fn around(address: IpAddr, prefix: u8) -> Network {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Network { address, prefix }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(text) => text.parse().ok().filter(|length| *length <= longest).ok_or(NetworkError::Prefix(longest))?,
        };
        let network = Network::around(address, prefix);
        if network.address == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_018_a_range_holds_its_own_addresses_and_no_others() {
        for (range, inside, outside) in [
            ("127.0.0.0/8", "127.255.255.255", "128.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.0/25", "192.0.2.127", "192.0.2.128"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("::/0", "fe80::1", "127.0.0.1"),
        ] {
            let network: Network = range.parse().expect("a range");
            assert!(network.contains(inside.parse().expect("an address")), "{inside} in {range}");
            assert!(!network.contains(outside.parse().expect("an address")), "{outside} in {range}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_its_reason() {
        assert_eq!("localhost".parse::<Network>(), Err(NetworkError::Address));
        assert_eq!("".parse::<Network>(), Err(NetworkError::Address));
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::Prefix(32)));
        assert_eq!("10.0.0.0/-1".parse::<Network>(), Err(NetworkError::Prefix(32)));
        assert_eq!("::/129".parse::<Network>(), Err(NetworkError::Prefix(128)));
        let right = "10.1.0.0/16".parse().expect("a range");
        assert_eq!("10.1.2.3/16".parse::<Network>(), Err(NetworkError::HostBits(right)));
        assert_eq!(
            "10.1.2.3/0".parse::<Network>().map_err(|error| error.to_string()).err().as_deref(),
            Some("has bits behind its prefix")
        );
    }

    #[test]
    fn ranges_are_read_back_as_they_are_written() {
        for text in ["127.0.0.0/8", "::1/128", "0.0.0.0/0", "2001:db8::/32"] {
            assert_eq!(text.parse::<Network>().expect("a range").to_string(), text);
        }
        assert_eq!(Network::LOOPBACK.map(|network| network.to_string()), ["127.0.0.0/8", "::1/128"]);
    }
}
