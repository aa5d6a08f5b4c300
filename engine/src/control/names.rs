//! Names of hosts to addresses, by the system's resolver on threads of its own: a resolver that hangs holds up neither
//! mail nor the control plane. What was found stays until something else is found.

use crate::settings::{Host, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Addresses taken of one name (M-094).
const ADDRESSES_MAX: usize = 100;
/// How long one name may take.
const LOOKUP_WAIT: Duration = Duration::from_secs(10);
/// Names asked for at once.
const AT_ONCE: usize = 4;

/// What is known of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    known: BTreeMap<(String, u16), Vec<SocketAddr>>,
}

impl Names {
    /// The addresses of a name; empty when none was ever found.
    pub fn addresses(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        self.known.get(&(name.to_owned(), port)).cloned().unwrap_or_default()
    }

    /// Asks for every name of `settings`, and knows the better of before and now.
    pub async fn ask(mut self, settings: Arc<Settings>) -> Names {
        let wanted: BTreeSet<(String, u16)> = names_of(&settings).collect();
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut lookups = JoinSet::new();
        for (name, port) in wanted.iter().cloned() {
            let slots = slots.clone();
            lookups.spawn(async move {
                let _slot = slots.acquire_owned().await;
                let found = tokio::time::timeout(LOOKUP_WAIT, lookup(&name, port)).await;
                ((name, port), found.unwrap_or_default())
            });
        }
        self.known.retain(|name, _| wanted.contains(name));
        while let Some(answer) = lookups.join_next().await {
            match answer {
                Ok((name, Some(found))) if !found.is_empty() => {
                    self.known.insert(name, found);
                }
                Ok((name, _)) => {
                    let stale = self.known.contains_key(&name);
                    tracing::warn!(cause = "resolve", host = %name.0, stale, "no address for a host");
                }
                Err(error) => tracing::error!(cause = "resolve", %error, "asking for a host's address failed"),
            }
        }
        self
    }
}

fn names_of(settings: &Settings) -> impl Iterator<Item = (String, u16)> {
    let hosts = settings.next_hops.values().chain([&settings.hubs]).flat_map(|hop| &hop.hosts);
    hosts.filter_map(|host| match host {
        Host::Name(name, port) => Some((name.clone(), *port)),
        Host::Address(_) => None,
    })
}

async fn lookup(name: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((name, port)).await.ok()?;
    Some(found.take(ADDRESSES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{NextHop, Profile, Protocol};

    fn settings(hosts: Vec<Host>) -> Arc<Settings> {
        let mut settings = Settings::of(Profile::Rfc);
        settings.next_hops.insert("a".into(), NextHop::of(hosts, Protocol::Smtp));
        Arc::new(settings)
    }

    #[tokio::test]
    async fn the_system_s_names_are_known_and_what_was_known_stays() {
        let local = Host::Name("localhost".into(), 26);
        let names = Names::default().ask(settings(vec![local.clone()])).await;
        let addresses = names.addresses("localhost", 26);
        assert!(addresses.iter().any(|address| address.ip().is_loopback() && address.port() == 26), "{addresses:?}");
        assert!(names.addresses("localhost", 25).is_empty());

        // `.invalid` never resolves (RFC 6761); an address known before survives that.
        let mut before = Names::default();
        let old: Vec<SocketAddr> = vec!["10.0.0.1:25".parse().expect("an address")];
        before.known.insert(("old.invalid".into(), 25), old.clone());
        before.known.insert(("forgotten.invalid".into(), 25), old.clone());
        let names = before.ask(settings(vec![local, Host::Name("old.invalid".into(), 25)])).await;
        assert_eq!(names.addresses("old.invalid", 25), old);
        assert!(names.addresses("forgotten.invalid", 25).is_empty(), "nobody names it any more");
    }
}
