//! The flags of `ringpost run`, put over what the file says.

use super::keys::{ListenerText, PROFILE, ROLE, SERVER};
use super::kinds::Kind;
use super::places::{Address, HostPort, Range, StorePath};
use super::problem::{Origin, Weight};
use super::read::{Draft, ListenerDraft, Reader, flag_value};
use crate::settings::*;
use std::path::Path;
use toml::de::DeTable;

/// The name of the next hop that `--next-hop` makes.
pub const SMART_HOST: &str = "smart-host";

/// What the command line says about a run; texts as typed, lists already cut at their commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--role`
    pub role: Option<String>,
    /// `--listen`
    pub listen: Vec<String>,
    /// `--next-hop`: a smart host's hosts; for a front end its hubs.
    pub next_hop: Vec<String>,
    /// `--data-dir`
    pub data_dir: Option<String>,
    /// `--durability`
    pub durability: Option<String>,
    /// `--shards`
    pub shards: Option<String>,
    /// `--driver`
    pub driver: Option<String>,
    /// `--profile`
    pub profile: Option<String>,
    /// `--relay-from`
    pub relay_from: Vec<String>,
    /// `--admin`
    pub admin: Option<String>,
    /// `--metrics`
    pub metrics: Option<String>,
    /// `--store`
    pub store: Option<String>,
}

impl Overrides {
    /// The profile that the command line names.
    pub(super) fn profile(&self, reader: &mut Reader<'_>) -> Option<Profile> {
        self.profile.as_deref().and_then(|text| read(reader, "--profile", text, &PROFILE))
    }

    /// Puts everything that was said over the draft. Relative paths are seen from `folder`.
    pub(super) fn apply<'t>(&self, draft: &mut Draft<'t>, reader: &mut Reader<'t>, folder: &Path) {
        self.server(draft, reader, folder);
        self.listeners(draft, reader);
        self.next_hops(draft, reader);
        if !self.relay_from.is_empty() {
            reader.said_by("access.relay_from", "--relay-from");
            if let Some(list) = read_all(reader, "--relay-from", &self.relay_from, &Range) {
                draft.settings.access.relay_from = list;
            }
        }
        if let Some(text) = &self.store {
            reader.said_by("store.path", "--store");
            let text = if text == "null" { text.clone() } else { absolute(folder, text) };
            if let Some(store) = read(reader, "--store", &text, &StorePath) {
                draft.settings.store = store;
            }
            // A trial without a file has no other way to name a mailbox.
            if !reader.has_file() {
                draft.settings.mailboxes.put(Owner::Everybody, "everybody".to_owned());
            }
        }
    }

    fn server(&self, draft: &mut Draft<'_>, reader: &mut Reader<'_>, folder: &Path) {
        let path = |text: &String| if text == "off" { text.clone() } else { absolute(folder, text) };
        let said = [
            ("--data-dir", "data_dir", self.data_dir.as_ref().map(path)),
            ("--durability", "durability", self.durability.clone()),
            ("--shards", "shards", self.shards.clone()),
            ("--driver", "driver", self.driver.clone()),
            ("--admin", "admin", self.admin.as_ref().map(path)),
            ("--metrics", "metrics", self.metrics.clone()),
        ];
        for (flag, name, text) in said {
            let (Some(text), Some(key)) = (text, SERVER.iter().find(|key| key.name == name)) else { continue };
            reader.said_by(&format!("server.{name}"), flag);
            for complaint in (key.read)(&mut draft.server, &flag_value(&text)) {
                reader.push(Weight::Error, Origin::Flag(flag), String::new(), complaint.wrong, complaint.right);
            }
        }
    }

    /// `--role` with `--listen` replaces the file's listeners; one alone changes the only one there is, which keeps its limits.
    fn listeners<'t>(&self, draft: &mut Draft<'t>, reader: &mut Reader<'t>) {
        let role = self.role.as_deref().map(|text| read(reader, "--role", text, &ROLE));
        let addresses = read_all(reader, "--listen", &self.listen, &Address("127.0.0.1:2525"));
        if addresses.is_none() || role == Some(None) {
            reader.said_by("listener", if addresses.is_none() { "--listen" } else { "--role" });
            return;
        }
        let addresses = addresses.unwrap_or_default();
        let role = role.flatten();
        match (role, addresses.as_slice(), draft.listeners.as_mut_slice()) {
            (None, [], _) => {}
            (Some(role), [_, ..], _) => {
                let receive = reader.receive_for(draft.settings.profile, role, &DeTable::new());
                draft.listeners = addresses
                    .iter()
                    .map(|address| ListenerDraft {
                        path: "listener".into(),
                        text: ListenerText { address: Some(*address), role: Some(role), protocol: Protocol::Smtp },
                        receive: receive.clone(),
                        own: DeTable::new(),
                    })
                    .collect();
                reader.said_by("listener", "--listen");
                reader.said_by("listener.address", "--listen");
            }
            (None, [address], [only]) => {
                only.text.address = Some(*address);
                only.path = "listener".into();
                reader.said_by("listener.address", "--listen");
            }
            (Some(role), [], [only]) => {
                // The role's defaults change with it; what the file says of the listener itself stays.
                only.receive = reader.receive_for(draft.settings.profile, role, &only.own);
                only.text.role = Some(role);
            }
            (None, _, _) => say_both(reader, "--listen", "--role ROLE"),
            (Some(_), [], _) => say_both(reader, "--role", "--listen ADDRESS:PORT"),
        }
    }

    fn next_hops(&self, draft: &mut Draft<'_>, reader: &mut Reader<'_>) {
        if self.next_hop.is_empty() {
            return;
        }
        let front_end = draft.listeners.iter().any(|listener| listener.text.role == Some(Role::Frontend));
        let key = if front_end { "frontend.hubs" } else { "routes" };
        reader.said_by(key, "--next-hop");
        let port = if front_end { 2525 } else { 25 };
        let Some(hosts) = read_all(reader, "--next-hop", &self.next_hop, &HostPort(port)) else { return };
        let hop = NextHop::of(hosts, Protocol::Smtp);
        if front_end {
            draft.settings.hubs = hop;
        } else {
            reader.said_by(&format!("next_hop.{SMART_HOST}.hosts"), "--next-hop");
            draft.settings.next_hops = [(SMART_HOST.to_owned(), hop)].into();
            draft.settings.routes = Routes { rest: Some(SMART_HOST.to_owned()), ..Routes::default() };
        }
    }
}

fn say_both(reader: &mut Reader<'_>, flag: &'static str, other: &str) {
    reader.said_by("listener", flag);
    let wrong = if reader.has_file() {
        "the file has not exactly one listener that this could be about"
    } else {
        "is half a listener"
    };
    reader.push(Weight::Error, Origin::Flag(flag), String::new(), wrong.into(), format!("say {other} too"));
}

fn absolute(folder: &Path, text: &str) -> String {
    folder.join(text).to_string_lossy().into_owned()
}

fn read<K: Kind>(reader: &mut Reader<'_>, flag: &'static str, text: &str, kind: &K) -> Option<K::Out> {
    match kind.read(&flag_value(text)) {
        Ok(found) => Some(found),
        Err(complaints) => {
            for complaint in complaints {
                let right = complaint.right.replacen("write ", "say ", 1);
                reader.push(Weight::Error, Origin::Flag(flag), String::new(), complaint.wrong, right);
            }
            None
        }
    }
}

/// All of a list, or nothing and a problem for each that is wrong.
fn read_all<K: Kind>(reader: &mut Reader<'_>, flag: &'static str, texts: &[String], kind: &K) -> Option<Vec<K::Out>> {
    let before = reader.problems.len();
    let found: Vec<K::Out> = texts.iter().filter_map(|text| read(reader, flag, text, kind)).collect();
    (reader.problems.len() == before).then_some(found)
}
