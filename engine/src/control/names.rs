//! Names of hosts to addresses, by the system's resolver on threads of its own: a resolver that hangs holds up neither
//! mail nor the control plane. What was found stays until something else is found.
//!
//! One round of look-ups asks for every name. Names that are new meanwhile are asked for at once, beside it.

use crate::settings::{Host, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

/// Addresses taken of one name (M-094).
const ADDRESSES_MAX: usize = 100;
/// How long one name may take.
const LOOKUP_WAIT: Duration = Duration::from_secs(10);
/// Names asked for at once.
const AT_ONCE: usize = 4;
/// Threads for look-ups. The usual resolver gives a name up after 40 s at most and keeps its thread until then, four times as
/// long as it is waited for: a round of names that nobody answers for holds sixteen, and leaves as many to those beside it.
pub(super) const THREADS: usize = 32;

/// What is known of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    known: BTreeMap<Name, Vec<SocketAddr>>,
}

impl Names {
    /// The addresses of a name; empty when none was ever found.
    pub fn addresses(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        self.known.get(&(name.to_owned(), port)).cloned().unwrap_or_default()
    }
}

/// What is heard of a round of look-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// One more name was answered for.
    Answer,
    /// Every name was.
    Ended,
}

type Name = (String, u16);

/// Names, and the round of look-ups that makes them better: what it finds counts at once, whoever else is still asked for.
pub(super) struct Lookups {
    names: Names,
    /// Rounds that have not ended: one that asks for every name, and those beside it.
    under_way: usize,
    /// The last that asked for every name.
    round: Option<JoinHandle<()>>,
    /// Names whose answers are still to come.
    asked: BTreeSet<Name>,
    /// Who was asked for, with the addresses found; nothing at the end of a round.
    answers: mpsc::Receiver<Option<(Name, Vec<SocketAddr>)>>,
    answer: mpsc::Sender<Option<(Name, Vec<SocketAddr>)>>,
}

impl Lookups {
    pub fn new() -> Lookups {
        let (answer, answers) = mpsc::channel(AT_ONCE);
        Lookups { names: Names::default(), under_way: 0, round: None, asked: BTreeSet::new(), answers, answer }
    }

    /// What is known by now.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Begins to ask for every name of `settings`, and forgets all others; inside a runtime. `false` while the last
    /// such round is under way.
    pub fn begin(&mut self, settings: &Settings) -> bool {
        self.begin_by(settings, lookup)
    }

    /// The same, with somebody else to ask.
    pub fn begin_by<F>(&mut self, settings: &Settings, lookup: impl Fn(String, u16) -> F) -> bool
    where
        F: Future<Output = Option<Vec<SocketAddr>>> + Send + 'static,
    {
        if self.round.as_ref().is_some_and(|round| !round.is_finished()) {
            return false;
        }
        let wanted: BTreeSet<Name> = names_of(settings).collect();
        self.names.known.retain(|name, _| wanted.contains(name));
        self.round = Some(self.ask(wanted, lookup));
        true
    }

    /// Begins to ask for those names of `settings` that were never found and are not asked for already, whatever is under
    /// way; inside a runtime.
    pub fn begin_beside(&mut self, settings: &Settings) {
        self.begin_beside_by(settings, lookup);
    }

    /// The same, with somebody else to ask.
    pub fn begin_beside_by<F>(&mut self, settings: &Settings, lookup: impl Fn(String, u16) -> F)
    where
        F: Future<Output = Option<Vec<SocketAddr>>> + Send + 'static,
    {
        let is_new = |name: &Name| !self.names.known.contains_key(name) && !self.asked.contains(name);
        let wanted: BTreeSet<Name> = names_of(settings).filter(is_new).collect();
        if !wanted.is_empty() {
            self.ask(wanted, lookup);
        }
    }

    fn ask<F>(&mut self, wanted: BTreeSet<Name>, lookup: impl Fn(String, u16) -> F) -> JoinHandle<()>
    where
        F: Future<Output = Option<Vec<SocketAddr>>> + Send + 'static,
    {
        self.under_way += 1;
        self.asked.extend(wanted.iter().cloned());
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut lookups = JoinSet::new();
        for (name, port) in wanted {
            let (slots, asked) = (slots.clone(), lookup(name.clone(), port));
            lookups.spawn(async move {
                let _slot = slots.acquire_owned().await;
                let found = tokio::time::timeout(LOOKUP_WAIT, asked).await;
                ((name, port), found.ok().flatten().unwrap_or_default())
            });
        }
        let answer = self.answer.clone();
        tokio::spawn(async move {
            while let Some(ended) = lookups.join_next().await {
                match ended {
                    // Nobody listens any more when the process ends.
                    Ok(found) => drop(answer.send(Some(found)).await),
                    Err(error) => tracing::error!(cause = "resolve", %error, "asking for a host's address failed"),
                }
            }
            drop(answer.send(None).await);
        })
    }

    /// Waits for the next answer, and knows it then. May be dropped at any time.
    pub async fn next(&mut self) -> News {
        let (name, found) = loop {
            if let Some(answer) = self.answers.recv().await.flatten() {
                break answer;
            }
            self.under_way -= 1;
            if self.under_way == 0 {
                // Where asking failed there was no answer.
                self.asked.clear();
                return News::Ended;
            }
        };
        self.asked.remove(&name);
        if found.is_empty() {
            let stale = self.names.known.contains_key(&name);
            tracing::warn!(cause = "resolve", host = %name.0, stale, "no address for a host");
        } else {
            self.names.known.insert(name, found);
        }
        News::Answer
    }

    /// Takes answers until the round has ended, for `wait` at most.
    pub async fn hear_for(&mut self, wait: Duration) {
        let all = async { while self.next().await != News::Ended {} };
        // The rest is heard later.
        let _late = tokio::time::timeout(wait, all).await;
    }
}

fn names_of(settings: &Settings) -> impl Iterator<Item = (String, u16)> {
    let hosts = settings.next_hops.values().chain([&settings.hubs]).flat_map(|hop| &hop.hosts);
    hosts.filter_map(|host| match host {
        Host::Name(name, port) => Some((name.clone(), *port)),
        Host::Address(_) => None,
    })
}

async fn lookup(name: String, port: u16) -> Option<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((&*name, port)).await.ok()?;
    Some(found.take(ADDRESSES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{NextHop, Profile, Protocol};

    fn settings(hosts: Vec<Host>) -> Settings {
        let mut settings = Settings::of(Profile::Rfc);
        settings.next_hops.insert("a".into(), NextHop::of(hosts, Protocol::Smtp));
        settings
    }

    #[tokio::test]
    async fn the_system_s_names_are_known_and_what_was_known_stays() {
        let local = Host::Name("localhost".into(), 26);
        let mut lookups = Lookups::new();
        assert!(lookups.begin(&settings(vec![local.clone()])));
        while lookups.next().await != News::Ended {}
        let addresses = lookups.names().addresses("localhost", 26);
        assert!(addresses.iter().any(|address| address.ip().is_loopback() && address.port() == 26), "{addresses:?}");
        assert!(lookups.names().addresses("localhost", 25).is_empty());

        // An address known before survives that nothing is found.
        let old: Vec<SocketAddr> = vec!["10.0.0.1:25".parse().expect("an address")];
        for name in ["old.test", "forgotten.test"] {
            lookups.names.known.insert((name.into(), 25), old.clone());
        }
        let next = settings(vec![local, Host::Name("old.test".into(), 25)]);
        assert!(lookups.begin_by(&next, |_, _| std::future::ready(None)));
        assert!(!lookups.begin(&next), "one round at a time");
        while lookups.next().await != News::Ended {}
        assert_eq!(lookups.names().addresses("old.test", 25), old);
        assert_eq!(lookups.names().addresses("localhost", 26), addresses);
        assert!(lookups.names().addresses("forgotten.test", 25).is_empty(), "nobody names it any more");
    }

    #[tokio::test]
    async fn a_name_that_is_not_answered_for_holds_up_no_other() {
        let address: SocketAddr = "10.0.0.1:25".parse().expect("an address");
        let hosts = ["dead.test", "well.test"].map(|name| Host::Name(name.into(), 25));
        let mut lookups = Lookups::new();
        let asked = move |name: String, _| async move {
            if name == "dead.test" {
                std::future::pending::<()>().await;
            }
            Some(vec![address])
        };
        assert!(lookups.begin_by(&settings(hosts.to_vec()), asked));
        assert_eq!(lookups.next().await, News::Answer);
        assert_eq!(lookups.names().addresses("well.test", 25), [address]);
        assert!(!lookups.begin(&settings(Vec::new())), "the round goes on");
        // What is new is asked for meanwhile, and what is known or asked for is not asked for twice.
        let beside = settings([hosts.to_vec(), vec![Host::Name("new.test".into(), 25)]].concat());
        lookups.begin_beside_by(&beside, move |name, _| {
            assert_eq!(name, "new.test");
            std::future::ready(Some(vec![address]))
        });
        assert_eq!(lookups.next().await, News::Answer);
        assert_eq!(lookups.names().addresses("new.test", 25), [address]);
        // A start that waits no longer keeps what it has.
        lookups.hear_for(Duration::ZERO).await;
        assert_eq!(lookups.names().addresses("well.test", 25), [address]);
    }

    /// A name that nobody answers for, asked for by each reload, puts off no round.
    #[tokio::test]
    async fn names_asked_for_beside_hold_up_no_round() {
        let address: SocketAddr = "10.0.0.1:25".parse().expect("an address");
        let well = settings(vec![Host::Name("well.test".into(), 25)]);
        let mut lookups = Lookups::new();
        assert!(lookups.begin_by(&well, |_, _| std::future::ready(None)));
        while lookups.next().await != News::Ended {}
        lookups.begin_beside_by(&well, |_, _| std::future::pending());
        assert!(lookups.begin_by(&well, move |_, _| std::future::ready(Some(vec![address]))));
        assert_eq!(lookups.next().await, News::Answer);
        assert_eq!(lookups.names().addresses("well.test", 25), [address]);
    }
}
