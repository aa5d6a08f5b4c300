//! What must hold between the keys of a configuration, once each is right by itself.

use super::kinds::{Bytes, Kind, quoted};
use super::nearest::nearest;
use super::problem::{Origin, Weight};
use super::read::Reader;
use super::size_said;
use crate::settings::*;
use crate::wire::Span;
use std::collections::BTreeMap;

/// Looks at everything that no single key can show.
pub(super) fn check(settings: &Settings, reader: &mut Reader<'_>) {
    listeners(settings, reader);
    if settings.plays(Role::Hub) {
        hub(settings, reader);
    }
    next_hops(settings, reader);
    routes(settings, reader);
    if settings.plays(Role::Frontend) {
        frontend(settings, reader);
    }
    if settings.plays(Role::MailboxDelivery) {
        mailbox_delivery(settings, reader);
    }
    without_effect(settings, reader);
    access(settings, reader);
    accepted(settings, reader);
    postmaster(settings, reader);
    waits(settings, reader);
    machine(settings, reader);
}

/// Says that something is missing, with the remedy of the file or of the command line.
fn missing(reader: &mut Reader<'_>, key: &str, flag: &'static str, wrong: &str, file: &str, line: &str) {
    if reader.has_file() {
        let origin = reader.origin_of(key);
        reader.push(Weight::Error, origin, String::new(), wrong.into(), format!("write {file}"));
    } else {
        reader.push(Weight::Error, Origin::Flag(flag), String::new(), wrong.into(), format!("say {line}"));
    }
}

fn at(reader: &mut Reader<'_>, weight: Weight, key: &str, wrong: String, right: &str) {
    let origin = reader.origin_of(key);
    reader.push(weight, origin, key.into(), wrong, right.into());
}

fn listener_key(reader: &Reader<'_>, index: usize) -> String {
    // Said by a flag, it holds for all of them.
    let path = format!("listener[{index}].address");
    if reader.was_said(&path) && !reader.was_said("listener.address") { path } else { "listener.address".into() }
}

fn listeners(settings: &Settings, reader: &mut Reader<'_>) {
    if settings.listeners.is_empty() && !reader.was_said("listener") {
        let file = "[[listener]] with address and role";
        missing(reader, "", "--listen", "nothing listens", file, "--role ROLE --listen ADDRESS:PORT, or --config FILE");
    }
    let mut seen = BTreeMap::new();
    for (index, listener) in settings.listeners.iter().enumerate() {
        let key = listener_key(reader, index);
        if !listener.address.ip().to_canonical().is_loopback() {
            let wrong = format!("{} is beyond loopback, and role ports speak no TLS yet", listener.address);
            at(reader, Weight::Error, &key, wrong, "write a loopback address as \"127.0.0.1:2525\"");
        }
        if listener.address.port() != 0 && seen.insert(listener.address, index).is_some() {
            let wrong = format!("{} is listened on twice", listener.address);
            at(reader, Weight::Error, &key, wrong, "write another port");
        }
        if listener.protocol == Protocol::Lmtp && listener.role != Role::MailboxDelivery {
            let key = key.replace("address", "protocol");
            let wrong = format!("a {} does not speak LMTP", listener.role);
            at(reader, Weight::Error, &key, wrong, "write \"smtp\"");
        }
    }
}

fn hub(settings: &Settings, reader: &mut Reader<'_>) {
    if settings.server.data_dir.is_none() && !reader.was_said("server.data_dir") {
        let file = "data_dir = \"/var/lib/ringpost\" in [server]";
        missing(reader, "server", "--data-dir", "a hub needs a folder for its spool", file, "--data-dir DIR");
    }
    if settings.routes.is_empty() && !reader.was_filled("routes") {
        let file = "[next_hop.smart] with hosts, and \"*\" = \"smart\" in [routes]";
        missing(reader, "routes", "--next-hop", "a hub needs a next hop", file, "--next-hop ADDRESS:PORT");
    }
}

fn next_hops(settings: &Settings, reader: &mut Reader<'_>) {
    for (name, hop) in &settings.next_hops {
        let key = format!("next_hop.{name}.hosts");
        if hop.hosts.is_empty() && !reader.was_wrong(&key) {
            let right = "write hosts = [\"smart.example.com:25\"]";
            let path = if reader.was_said(&key) { key.clone() } else { format!("next_hop.{name}") };
            at(reader, Weight::Error, &path, "has no hosts".into(), right);
        }
        hosts(settings, reader, (&key, Role::Hub), hop);
    }
    hosts(settings, reader, ("frontend.hubs", Role::Frontend), &settings.hubs);
}

fn hosts(settings: &Settings, reader: &mut Reader<'_>, (key, role): (&str, Role), hop: &NextHop) {
    for (index, host) in hop.hosts.iter().enumerate() {
        if hop.hosts.iter().take(index).any(|other| other == host) {
            at(reader, Weight::Error, key, format!("{host} is named twice"), "write each host once");
        }
        // M-081: never connect to ourselves.
        if let Host::Address(address) = host
            && settings.comes_back(role, *address)
        {
            let wrong = format!("{address} is this server's own listener: mail would loop");
            at(reader, Weight::Error, key, wrong, "write another host");
        }
    }
}

fn routes(settings: &Settings, reader: &mut Reader<'_>) {
    let routes = &settings.routes;
    let domains = routes.domains.iter().map(|(domain, hop)| (domain.clone(), hop));
    let below = routes.below.iter().map(|(domain, hop)| (format!("*.{domain}"), hop));
    let rest = routes.rest.iter().map(|hop| ("*".to_owned(), hop));
    for (pattern, hop) in domains.chain(below).chain(rest) {
        if settings.next_hops.contains_key(hop) {
            continue;
        }
        let names = settings.next_hops.keys().map(String::as_str);
        let right = match nearest(hop, names) {
            Some(meant) => format!("write \"{meant}\""),
            None => format!("write the section [next_hop.{}]", super::kinds::toml_key(hop)),
        };
        let wrong = format!("there is no next hop {}", quoted(hop));
        at(reader, Weight::Error, &format!("routes.{}", quoted(&pattern)), wrong, &right);
    }
}

fn frontend(settings: &Settings, reader: &mut Reader<'_>) {
    if settings.hubs.hosts.is_empty() && !reader.was_wrong("frontend.hubs") {
        let file = "hubs = [\"127.0.0.1:2525\"] in [frontend]";
        missing(reader, "frontend", "--next-hop", "a front end needs hubs", file, "--next-hop ADDRESS:PORT");
    }
}

fn mailbox_delivery(settings: &Settings, reader: &mut Reader<'_>) {
    if settings.store == Store::Absent && !reader.was_said("store.path") {
        let file = "path = \"/var/mail/ringpost\" in [store], or \"null\"";
        missing(reader, "store", "--store", "mailbox delivery needs a store", file, "--store DIR, or --store null");
    }
    if matches!(settings.store, Store::Maildir(_)) && settings.mailboxes.is_empty() && !reader.was_said("mailboxes") {
        let wrong = "no mailbox is named: everybody but postmaster will be refused".into();
        at(reader, Weight::Warning, "store.path", wrong, "write \"ann@example.com\" = \"ann\" in [mailboxes]");
    }
}

/// What was said for a role that nothing here plays.
fn without_effect(settings: &Settings, reader: &mut Reader<'_>) {
    let relays = settings.plays(Role::Hub) || settings.plays(Role::Frontend);
    let in_vain = [
        ("store.path", !settings.plays(Role::MailboxDelivery), "nothing here delivers to mailboxes"),
        ("routes", !relays, "mailbox delivery sends nothing on"),
        ("frontend.hubs", !settings.plays(Role::Frontend), "nothing here is a front end"),
    ];
    for (key, in_vain, what) in in_vain {
        if in_vain && !settings.listeners.is_empty() && reader.was_said(key) && !reader.was_wrong(key) {
            at(reader, Weight::Warning, key, format!("has no effect: {what}"), "leave it out, or name another role");
        }
    }
}

fn access(settings: &Settings, reader: &mut Reader<'_>) {
    let lists = [
        ("access.relay_from", &settings.access.relay_from, "relays for everybody"),
        (
            "access.trusted_front_ends",
            &settings.access.trusted_front_ends,
            "takes everybody's word for who the client is",
        ),
    ];
    for (key, list, what) in lists {
        for network in list.iter().filter(|network| network.is_everybody()) {
            at(reader, Weight::Warning, key, format!("{network} {what}"), "name the networks that are meant");
        }
    }
}

fn accepted(settings: &Settings, reader: &mut Reader<'_>) {
    let unrouted = |domain: &&String| settings.plays(Role::Hub) && settings.routes.next_hop(domain).is_none();
    for domain in settings.access.accepted_domains.iter().filter(unrouted) {
        let wrong = format!("{domain} is accepted and goes nowhere");
        let right = format!("write {} with its next hop in [routes]", quoted(domain));
        at(reader, Weight::Warning, "access.accepted_domains", wrong, &right);
    }
}

/// `<postmaster>` is taken from everybody, and means the one at our own name (M-030).
fn postmaster(settings: &Settings, reader: &mut Reader<'_>) {
    let own = settings.server.fqdn.as_str();
    let is_lost = !settings.routes.is_empty() && settings.routes.next_hop(own).is_none();
    if settings.plays(Role::Hub) && is_lost && !reader.was_wrong_inside("routes") {
        let wrong = format!("nothing leads to {own}: mail for postmaster is put off");
        let right = format!("write {} or \"*\" with its next hop in [routes]", quoted(own));
        at(reader, Weight::Warning, "routes", wrong, &right);
    }
}

fn waits(settings: &Settings, reader: &mut Reader<'_>) {
    let delivery = &settings.delivery;
    if delivery.host_backoff_min > delivery.host_backoff_max {
        let wrong = "is longer than host_backoff_max".into();
        at(
            reader,
            Weight::Error,
            "delivery.host_backoff_min",
            wrong,
            "write a shorter time, or a longer host_backoff_max",
        );
    }
    if delivery.connections_per_hop_max > delivery.connections_max
        && reader.was_said("delivery.connections_per_hop_max")
    {
        let wrong = "is more than connections_max".into();
        at(reader, Weight::Warning, "delivery.connections_per_hop_max", wrong, "raise connections_max, or lower this");
    }
    for (index, listener) in settings.listeners.iter().enumerate() {
        let receive = &listener.receive;
        unbounded(receive, index, reader);
        fits(settings, (index, listener), reader);
        if receive.session_max.is_some_and(|session| session <= receive.command_wait) {
            let own = format!("listener[{index}].session_max");
            let key = if reader.was_said(&own) { own } else { "receive.session_max".into() };
            let wrong = "is not longer than command_wait".into();
            at(reader, Weight::Error, &key, wrong, "write a longer time, or a shorter command_wait");
        }
        if receive.refuse_early_talkers && receive.greeting_wait == Span::ZERO {
            let own = format!("listener[{index}].refuse_early_talkers");
            let key = if reader.was_said(&own) { own } else { "receive.refuse_early_talkers".into() };
            let wrong = "sees nobody: the greeting is not held back".into();
            at(reader, Weight::Error, &key, wrong, "write greeting_wait = \"2s\" beside it");
        }
    }
}

/// A message that does not fit into memory would be accepted and never leave.
fn fits(settings: &Settings, (index, listener): (usize, &Listener), reader: &mut Reader<'_>) {
    let (most, said) = (settings.server.message_max(), listener.receive.size_max);
    if !listener.role.holds_messages() || said <= most {
        return;
    }
    let Some(key) = size_said(reader, index) else { return };
    let show = |octets: u64| Bytes(0, u64::MAX).show(&octets).unwrap_or_default();
    let wrong = format!("is more than a quarter of memory_budget: a {} must hold a message in memory", listener.role);
    let right =
        format!("write at most {}, or memory_budget = {} in [server]", show(most), show(said.saturating_mul(4)));
    at(reader, Weight::Error, &key, wrong, &right);
}

/// No bound is taken away without a word (S-024).
fn unbounded(receive: &Receive, index: usize, reader: &mut Reader<'_>) {
    for (name, is_off, what, right) in [
        ("session_max", receive.session_max.is_none(), "a session may last for ever", "write a time as \"24h\""),
        ("rate_min", receive.rate_min.is_none(), "a body may come as slowly as it likes", "write a rate as \"100 B\""),
    ] {
        let own = format!("listener[{index}].{name}");
        let shared = format!("receive.{name}");
        let key = if reader.was_said(&own) { own } else { shared };
        if is_off && reader.was_said(&key) {
            at(reader, Weight::Warning, &key, format!("is off: {what}"), right);
        }
    }
}

fn machine(settings: &Settings, reader: &mut Reader<'_>) {
    if let Some(metrics) = settings.server.metrics
        && !metrics.ip().to_canonical().is_loopback()
    {
        let wrong = format!("{metrics} is beyond loopback");
        at(reader, Weight::Error, "server.metrics", wrong, "write a loopback address as \"127.0.0.1:9925\"");
    }
    if !settings.spool.segment_bytes.is_multiple_of(4096) {
        at(reader, Weight::Error, "spool.segment_size", "is not whole blocks of 4 KiB".into(), "write \"64 MiB\"");
    }
    if settings.server.memory_budget < settings.spool.segment_bytes / 4 && reader.was_said("server.memory_budget") {
        let wrong = "is small beside spool.segment_size".into();
        at(reader, Weight::Warning, "server.memory_budget", wrong, "write at least a quarter of a segment");
    }
}
