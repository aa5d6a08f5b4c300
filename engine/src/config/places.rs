//! The kinds of values that name something: domains, users, paths, addresses, hosts.

use super::kinds::{Kind, Value, complain, named, quoted, text_of, toml_string};
use super::problem::Complaint;
use crate::settings::{Host, Network, NetworkError, Store};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Octets of a Unix socket's path, without the closing NUL (sockaddr_un).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Octets of a domain (RFC 5321 §4.5.3.1.2).
const DOMAIN_BYTES_MAX: usize = 255;
/// Octets of a label (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A domain of letters, digits and hyphens; kept in lower case.
pub(super) struct DomainName;

impl Kind for DomainName {
    type Out = String;
    fn read(&self, value: &Value<'_>) -> Result<String, Vec<Complaint>> {
        match text_of(value) {
            Some(text) if is_domain(text) => Ok(text.to_ascii_lowercase()),
            _ => complain(value, format!("{} is not a domain name", named(value)), self.rule()),
        }
    }
    fn show(&self, out: &String) -> Option<String> {
        Some(toml_string(out))
    }
    fn rule(&self) -> String {
        "a domain name as \"mail.example.com\"".into()
    }
    fn sample(&self) -> String {
        "\"mail.example.com\"".into()
    }
}

/// Whether `text` is a domain of letters, digits and hyphens (RFC 5321 §4.1.2 without literals).
pub(super) fn is_domain(text: &str) -> bool {
    text.len() <= DOMAIN_BYTES_MAX
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= LABEL_BYTES_MAX
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Whether `text` can name something in the file and in results: letters, digits, `-` and `_`, at most 64.
pub(super) fn toml_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
}

/// The name of a user of the system.
pub(super) struct UserName;

impl Kind for UserName {
    type Out = String;
    fn read(&self, value: &Value<'_>) -> Result<String, Vec<Complaint>> {
        let good = |text: &str| {
            (1..=32).contains(&text.len())
                && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet))
        };
        match text_of(value) {
            Some("root") => complain(value, "\"root\" is what it is to get away from", self.rule()),
            Some(text) if good(text) => Ok(text.into()),
            _ => complain(value, format!("{} is not the name of a user", named(value)), self.rule()),
        }
    }
    fn show(&self, out: &String) -> Option<String> {
        Some(toml_string(out))
    }
    fn rule(&self) -> String {
        "a user of this system as \"ringpost\"".into()
    }
    fn sample(&self) -> String {
        "\"ringpost\"".into()
    }
}

/// An absolute path.
pub(super) struct AbsolutePath(pub &'static str);

impl Kind for AbsolutePath {
    type Out = PathBuf;
    fn read(&self, value: &Value<'_>) -> Result<PathBuf, Vec<Complaint>> {
        match text_of(value).map(Path::new) {
            Some(path) if path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) => Ok(path.into()),
            _ => complain(value, format!("{} is not an absolute path", named(value)), self.rule()),
        }
    }
    fn show(&self, out: &PathBuf) -> Option<String> {
        Some(toml_string(&out.to_string_lossy()))
    }
    fn rule(&self) -> String {
        format!("an absolute path as \"{}\"", self.0)
    }
    fn sample(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// The path of a Unix socket.
pub(super) struct SocketPath;

impl Kind for SocketPath {
    type Out = PathBuf;
    fn read(&self, value: &Value<'_>) -> Result<PathBuf, Vec<Complaint>> {
        let path = AbsolutePath("/run/ringpost/admin.sock").read(value)?;
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return complain(
                value,
                "the path of a socket is too long",
                format!("at most {SOCKET_PATH_BYTES_MAX} octets"),
            );
        }
        Ok(path)
    }
    fn show(&self, out: &PathBuf) -> Option<String> {
        AbsolutePath("").show(out)
    }
    fn rule(&self) -> String {
        AbsolutePath("/run/ringpost/admin.sock").rule()
    }
    fn sample(&self) -> String {
        AbsolutePath("/run/ringpost/admin.sock").sample()
    }
}

/// Where mailbox delivery puts messages: an absolute path, or `"null"`.
pub(super) struct StorePath;

impl Kind for StorePath {
    type Out = Store;
    fn read(&self, value: &Value<'_>) -> Result<Store, Vec<Complaint>> {
        if text_of(value) == Some("null") {
            return Ok(Store::Null);
        }
        let path = AbsolutePath("/var/mail/ringpost").read(value);
        path.map(Store::Maildir)
            .or_else(|_| complain(value, format!("{} is not an absolute path", named(value)), self.rule()))
    }
    fn show(&self, out: &Store) -> Option<String> {
        match out {
            Store::Absent => None,
            Store::Null => Some("\"null\"".into()),
            Store::Maildir(path) => AbsolutePath("").show(path),
        }
    }
    fn rule(&self) -> String {
        "an absolute path as \"/var/mail/ringpost\", or \"null\"".into()
    }
    fn sample(&self) -> String {
        "\"/var/mail/ringpost\"".into()
    }
}

/// An address with a port.
pub(super) struct Address(pub &'static str);

impl Kind for Address {
    type Out = SocketAddr;
    fn read(&self, value: &Value<'_>) -> Result<SocketAddr, Vec<Complaint>> {
        match text_of(value).and_then(|text| text.parse().ok()) {
            Some(address) => Ok(address),
            None => complain(value, format!("{} is not an address with a port", named(value)), self.rule()),
        }
    }
    fn show(&self, out: &SocketAddr) -> Option<String> {
        Some(format!("\"{out}\""))
    }
    fn rule(&self) -> String {
        format!("ADDRESS:PORT as \"{}\"", self.0)
    }
    fn sample(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// A host by name or address, with the port that is meant where none is written.
pub(super) struct HostPort(pub u16);

impl Kind for HostPort {
    type Out = Host;
    fn read(&self, value: &Value<'_>) -> Result<Host, Vec<Complaint>> {
        match text_of(value).and_then(|text| self.parse(text)) {
            Some(host) => Ok(host),
            None => complain(value, format!("{} is not a host", named(value)), self.rule()),
        }
    }
    fn show(&self, out: &Host) -> Option<String> {
        Some(format!("\"{out}\""))
    }
    fn rule(&self) -> String {
        format!("HOST or HOST:PORT as \"smart.example.com:{0}\" or \"192.0.2.1:{0}\"", self.0)
    }
    fn sample(&self) -> String {
        format!("\"smart.example.com:{}\"", self.0)
    }
}

impl HostPort {
    fn parse(&self, text: &str) -> Option<Host> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0).then_some(Host::Address(address));
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Host::Address(SocketAddr::new(address, self.0)));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0)?),
            None => (text, self.0),
        };
        // A last label of digits alone is a mistyped address, never a name.
        let is_number = name.rsplit('.').next().is_some_and(|label| label.bytes().all(|octet| octet.is_ascii_digit()));
        (is_domain(name) && !is_number).then(|| Host::Name(name.to_ascii_lowercase(), port))
    }
}

/// A range of addresses.
pub(super) struct Range;

impl Kind for Range {
    type Out = Network;
    fn read(&self, value: &Value<'_>) -> Result<Network, Vec<Complaint>> {
        let Some(text) = text_of(value) else {
            return complain(value, format!("{} is not a range of addresses", named(value)), self.rule());
        };
        text.parse::<Network>().or_else(|error| match error {
            NetworkError::HostBits(right) => {
                complain(value, format!("{} {error}", quoted(text)), format!("\"{right}\""))
            }
            _ => complain(value, format!("{} {error}", quoted(text)), self.rule()),
        })
    }
    fn show(&self, out: &Network) -> Option<String> {
        Some(format!("\"{out}\""))
    }
    fn rule(&self) -> String {
        "ADDRESS/PREFIX as \"192.0.2.0/24\"".into()
    }
    fn sample(&self) -> String {
        "\"192.0.2.0/24\"".into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::tests::read;
    use super::*;

    #[test]
    fn hosts_by_name_and_address() {
        let kind = HostPort(25);
        let address = |text: &str| Host::Address(text.parse().expect("an address"));
        for (text, host) in [
            ("\"127.0.0.1:2525\"", address("127.0.0.1:2525")),
            ("\"127.0.0.1\"", address("127.0.0.1:25")),
            ("\"[::1]:2525\"", address("[::1]:2525")),
            ("\"::1\"", address("[::1]:25")),
            ("\"[::1]\"", address("[::1]:25")),
            ("\"Smart.Example.com\"", Host::Name("smart.example.com".into(), 25)),
            ("\"localhost:26\"", Host::Name("localhost".into(), 26)),
        ] {
            assert_eq!(read(&kind, text), Ok(host), "{text}");
        }
        for text in [
            "\"\"",
            "\":25\"",
            "\"a:0\"",
            "\"a:65536\"",
            "\"a b\"",
            "\"-a.test\"",
            "\"a..b\"",
            "\"300.1.1.1\"",
            "\"1.2.3.4:0\"",
            "25",
        ] {
            assert!(
                read(&kind, text)
                    .expect_err(text)
                    .ends_with("write HOST or HOST:PORT as \"smart.example.com:25\" or \"192.0.2.1:25\"")
            );
        }
    }

    #[test]
    fn paths() {
        let path = PathBuf::from("/a \"b\"/c\\d");
        assert_eq!(read(&AbsolutePath("/x"), &AbsolutePath("/x").show(&path).expect("shown")), Ok(path));
        assert!(read(&AbsolutePath("/x"), "\"relative\"").is_err());
        assert!(read(&SocketPath, &format!("\"/{}\"", "s".repeat(107))).is_err());
        assert_eq!(read(&StorePath, "\"null\""), Ok(Store::Null));
    }

    #[test]
    fn domains_and_users() {
        assert_eq!(read(&DomainName, "\"Hub1.Example.COM\""), Ok("hub1.example.com".into()));
        for text in [
            "\"\"",
            "\".\"",
            "\"a_b.test\"",
            "\"a.test.\"",
            "\"a-.test\"",
            "\"büro.test\"",
            "1",
            &format!("\"{}\"", "a".repeat(64)),
        ] {
            assert!(read(&DomainName, text).is_err(), "{text}");
        }
        assert_eq!(read(&UserName, "\"ring-post_1\""), Ok("ring-post_1".into()));
        for text in ["\"\"", "\"root\"", "\"a b\"", "\"a:b\"", "0"] {
            assert!(read(&UserName, text).is_err(), "{text}");
        }
    }
}
