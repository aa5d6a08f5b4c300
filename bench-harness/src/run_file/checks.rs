//! Whether a plan hangs together: what every plan of a named scenario does by itself, said of one that somebody wrote. Pure;
//! it stops at the first thing that is wrong.

use super::{At, Wrong};
use crate::asked::{MESSAGE_BYTES_MAX, MESSAGE_BYTES_MIN, SECONDS_MIN};
use crate::plan::{Content, Fault, NOBODY, Pace, Part, Phase, Plan, Role, Server, Topology};
use crate::pump::PumpPlan;
use crate::topology::{Neighbours, configuration};
use engine::config::{File, Machine, Overrides};
use engine::shell::pump::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};
use loadgen::send::lane::MESSAGES_PER_SHARD_MAX;
use loadgen::units::Rate;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

const PARTS_MAX: usize = 100;
const PHASES_MAX: usize = 100;
const CONNECTIONS: RangeInclusive<u32> = 1..=100_000;
const SHARDS: RangeInclusive<usize> = 1..=256;
const IN_FLIGHT: RangeInclusive<u32> = 1..=1_000;
/// A week.
const SECONDS_MAX: f64 = 604_800.0;
/// The names of files in a result folder, or of processes that are there anyway.
const TAKEN: [&str; 3] = ["run", "load", NOBODY];

type Checked = Result<(), Wrong>;

/// Looks at a whole plan.
pub(super) fn plan(plan: &Plan) -> Checked {
    let top = At::default();
    name(&plan.scenario, &top.key("scenario"))?;
    within(plan.parts.len(), 1..=PARTS_MAX, &top.key("parts"), "parts")?;
    for (index, one) in plan.parts.iter().enumerate() {
        let at = top.nth("parts", index);
        let is_label = |c: char| c.is_ascii_alphanumeric() || " .-".contains(c);
        if one.label.len() > 40 || !one.label.chars().all(is_label) {
            let right = "write at most 40 letters, digits, blanks, points and hyphens";
            return Err(Wrong::new(
                at.key("label"),
                format!("`{}` tells no part apart", one.label.escape_debug()),
                right,
            ));
        }
        if plan.parts[..index].iter().any(|before| before.label == one.label) {
            let wrong = format!("`{}` is the label of two parts", one.label.escape_debug());
            return Err(Wrong::new(at.key("label"), wrong, "write another for one of them"));
        }
        part(one, &at)?;
    }
    is_one_main(plan, &top)
}

fn is_one_main(plan: &Plan, top: &At) -> Checked {
    let mut mains = Vec::new();
    for (index, part) in plan.parts.iter().enumerate() {
        let at = top.nth("parts", index);
        let main = part.phases.iter().enumerate().filter(|(_, phase)| phase.is_main);
        mains.extend(main.map(|(index, _)| at.nth("phases", index).key("is_main")));
    }
    match &mains[..] {
        [_] => Ok(()),
        [] => Err(Wrong::new(top.key("parts"), "no phase is the main one", "write is_main = true in one of them")),
        [_, second, ..] => Err(Wrong::new(second.clone(), "two phases are the main one", "write false here")),
    }
}

/// Looks at a pump's plan.
pub(super) fn pump(plan: &PumpPlan) -> Checked {
    let top = At::default();
    within(plan.connections, 1..=10_000, &top.key("connections"), "connections")?;
    within(plan.frame_bytes, FRAME_BYTES_MIN..=FRAME_BYTES_MAX, &top.key("frame_bytes"), "octets of a frame")?;
    seconds(plan.seconds, &top.key("seconds"))?;
    engine(&plan.durability, plan.shards, &top)?;
    let onward = plan.one_per_write.unwrap_or(1);
    within(onward, 1..=1_000, &top.key("one_per_write"), "connections to the sink")
}

fn part(part: &Part, at: &At) -> Checked {
    engine(&part.engine.durability, part.engine.shards, &at.key("engine"))?;
    topology(&part.topology, &at.key("topology"))?;
    servers_take_it(part, at)?;
    within(part.phases.len(), 1..=PHASES_MAX, &at.key("phases"), "phases")?;
    let mut is_probed = false;
    for (index, one) in part.phases.iter().enumerate() {
        let here = at.nth("phases", index);
        name(&one.name, &here.key("name"))?;
        if part.phases[..index].iter().any(|before| before.name == one.name) {
            let wrong = format!("two phases are called \"{}\"", one.name);
            return Err(Wrong::new(here.key("name"), wrong, "write another name for one of them"));
        }
        phase(one, is_probed, &here)?;
        faults(one, &part.topology, &here)?;
        is_probed |= one.pace == Pace::FlatOut;
    }
    Ok(())
}

fn engine(durability: &str, shards: usize, at: &At) -> Checked {
    if !["none", "os", "disk"].contains(&durability) {
        let wrong = format!("\"{durability}\" is no durability");
        return Err(Wrong::new(at.key("durability"), wrong, "write \"none\", \"os\" or \"disk\""));
    }
    within(shards, SHARDS, &at.key("shards"), "shards")
}

fn topology(topology: &Topology, at: &At) -> Checked {
    let mut known: Vec<&str> = Vec::new();
    for (index, sink) in topology.sinks.iter().enumerate() {
        let here = at.nth("sinks", index).key("name");
        is_new(&sink.name, &known, &here)?;
        known.push(&sink.name);
    }
    for (index, server) in topology.servers.iter().enumerate() {
        let here = at.nth("servers", index);
        is_new(&server.name, &known, &here.key("name"))?;
        hands_on(server, topology, &known, &here)?;
        known.push(&server.name);
    }
    if !known.contains(&topology.entry.as_str()) {
        let wrong = format!("nobody is called \"{}\"", topology.entry);
        return Err(Wrong::new(at.key("entry"), wrong, format!("write one of {}", known.join(", "))));
    }
    let has_mailboxes = topology.servers.iter().any(|server| !server.mailboxes.is_empty());
    if topology.mailbox_every > 0 && !has_mailboxes {
        let right = "write 0, or name a mailbox-delivery server in a hub's mailboxes";
        return Err(Wrong::new(at.key("mailbox_every"), "no hub has mailboxes", right));
    }
    Ok(())
}

fn is_new(text: &str, known: &[&str], at: &At) -> Checked {
    name(text, at)?;
    if TAKEN.contains(&text) {
        return Err(Wrong::new(at.clone(), format!("\"{text}\" means something else here"), "write another name"));
    }
    if known.contains(&text) {
        return Err(Wrong::new(at.clone(), format!("two are called \"{text}\""), "write another name for one of them"));
    }
    Ok(())
}

/// Whom a server hands mail to: processes that are started before it, of a role that takes it.
fn hands_on(server: &Server, topology: &Topology, known: &[&str], at: &At) -> Checked {
    let role_of = |name: &str| topology.server(name).map(|server| server.role);
    let takes_from = |name: &str| match server.role {
        Role::Hub => role_of(name) != Some(Role::MailboxDelivery),
        Role::Frontend => role_of(name) == Some(Role::Hub),
        Role::MailboxDelivery => false,
    };
    for name in &server.next {
        if !known.contains(&name.as_str()) || !takes_from(name) {
            let wrong = format!("{} \"{}\" cannot hand mail to \"{name}\"", server.role.name(), server.name);
            let right = match server.role {
                Role::Hub => "name sinks, hubs or front ends that stand before it",
                Role::Frontend => "name hubs that stand before it",
                Role::MailboxDelivery => "write next = []",
            };
            return Err(Wrong::new(at.key("next"), wrong, right));
        }
    }
    let is_store = |name: &&String| known.contains(&name.as_str()) && role_of(name) == Some(Role::MailboxDelivery);
    if !server.mailboxes.iter().all(|name| server.role == Role::Hub && is_store(&name)) {
        let right = "name mailbox-delivery servers that stand before it, in a hub alone";
        return Err(Wrong::new(at.key("mailboxes"), "these cannot be its mailboxes", right));
    }
    if server.role == Role::Frontend && server.next.is_empty() {
        return Err(Wrong::new(at.key("next"), "a front end without hubs takes nothing", "name hubs"));
    }
    Ok(())
}

/// Asks the engine's own reader.
fn servers_take_it(part: &Part, at: &At) -> Checked {
    let machine = Machine { hostname: None, cores: (0..part.engine.shards).collect(), folder: "/".into() };
    let [here, there] = [2525, 2526].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    for (index, server) in part.topology.servers.iter().enumerate() {
        let neighbours = Neighbours { next: vec![there], mailboxes: Vec::new(), behind_front_end: false };
        let text = configuration(server, &part.engine, here, &neighbours, Path::new("/nowhere"));
        let file = File { name: &server.name, octets: text.as_bytes() };
        let Err(problems) = engine::config::read(Some(file), &Overrides::default(), &machine) else { continue };
        let Some(problem) = problems.into_iter().next() else { continue };
        let here = match problem.key.as_str() {
            "memory_budget" | "server.memory_budget" => at.key("engine").key("memory_budget"),
            "spool.segment_size" => at.key("engine").key("segment_bytes"),
            "server.driver" => at.key("engine").key("driver"),
            _ => at.key("topology").nth("servers", index).key("name"),
        };
        return Err(Wrong::new(here, problem.wrong, problem.right));
    }
    Ok(())
}

fn phase(phase: &Phase, is_probed: bool, at: &At) -> Checked {
    within(phase.connections, CONNECTIONS, &at.key("connections"), "connections")?;
    within(phase.in_flight, IN_FLIGHT, &at.key("in_flight"), "transactions under way")?;
    seconds(phase.seconds, &at.key("seconds"))?;
    if !(0.0..=SECONDS_MAX).contains(&phase.warm_up_s) {
        let wrong = format!("{} is no warm-up", phase.warm_up_s);
        return Err(Wrong::new(at.key("warm_up_s"), wrong, "write seconds, 0 or more"));
    }
    if let Content::Bytes(bytes) = phase.content {
        within(bytes, MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX, &at.key("content"), "octets of a message")?;
    }
    let pace = at.key("pace");
    match phase.pace {
        Pace::FlatOut => Ok(()),
        Pace::PerSecond(per_s) => {
            let one = Rate::per_second(1);
            if one.and_then(|one| one.scaled(per_s)).is_none() {
                return Err(Wrong::new(pace, format!("{per_s} messages a second are no rate"), "write 500.0"));
            }
            let messages = per_s * phase.length_s();
            let right = format!("write less, or a shorter time: {MESSAGES_PER_SHARD_MAX} at most");
            let too_many = || Wrong::new(pace, format!("{messages:.0} messages are more than is kept track of"), right);
            if messages > MESSAGES_PER_SHARD_MAX as f64 { Err(too_many()) } else { Ok(()) }
        }
        Pace::ShareOfProbe(share) if !(share > 0.0 && share <= 10.0) => Err(Wrong::new(
            pace,
            format!("{share} is no share of a rate"),
            "write 0.5 for half of what the probe found",
        )),
        Pace::ShareOfProbe(_) if !is_probed => {
            let right = "put a phase with pace = \"flat-out\" before this one, or write { per-second = 500.0 }";
            Err(Wrong::new(pace, "nothing was probed before this phase", right))
        }
        Pace::ShareOfProbe(_) => Ok(()),
    }
}

fn faults(phase: &Phase, topology: &Topology, at: &At) -> Checked {
    if phase.faults.is_empty() != phase.fault_kind.is_none() {
        let right = "write both, or neither";
        return Err(Wrong::new(at.key("fault_kind"), "faults and their kind do not belong together", right));
    }
    if let Some(kind) = &phase.fault_kind {
        name(kind, &at.key("fault_kind"))?;
    }
    let mut last = phase.warm_up_s;
    for (index, Fault { victim, strike_s, heal_s }) in phase.faults.iter().enumerate() {
        let here = at.nth("faults", index);
        let is_somebody = topology.server(victim).is_some() || topology.sink(victim).is_some();
        if victim != NOBODY && !is_somebody {
            let right = format!("name a server or sink of this part, or \"{NOBODY}\"");
            return Err(Wrong::new(here.key("victim"), format!("there is no \"{victim}\""), right));
        }
        if last.total_cmp(strike_s).is_ge() {
            let wrong = format!("{strike_s} s is not behind {last} s, where the warm-up or the fault before it ends");
            return Err(Wrong::new(here.key("strike_s"), wrong, "write faults in the order of time"));
        }
        if !(strike_s < heal_s && *heal_s < phase.length_s()) {
            let wrong = format!("{heal_s} s is not between the strike and the end of the phase");
            let right = format!("write more than {strike_s} and less than {}", phase.length_s());
            return Err(Wrong::new(here.key("heal_s"), wrong, right));
        }
        last = *heal_s;
    }
    Ok(())
}

/// What becomes part of a file's name, of a process's, and of a domain.
fn name(text: &str, at: &At) -> Checked {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let inside = text.trim_matches('-');
    if (1..=40).contains(&text.len()) && text.chars().all(is_good) && inside == text {
        return Ok(());
    }
    let right = "write at most 40 small letters, digits and hyphens inside";
    Err(Wrong::new(at.clone(), format!("`{}` is no name", text.escape_debug()), right))
}

fn seconds(seconds: f64, at: &At) -> Checked {
    if (SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        return Ok(());
    }
    Err(Wrong::new(
        at.clone(),
        format!("{seconds} s cannot be measured"),
        format!("write {SECONDS_MIN} to {SECONDS_MAX}"),
    ))
}

fn within<T: PartialOrd + Display>(number: T, range: RangeInclusive<T>, at: &At, what: &str) -> Checked {
    if range.contains(&number) {
        return Ok(());
    }
    let right = format!("write {} to {}", range.start(), range.end());
    Err(Wrong::new(at.clone(), format!("{number} {what} cannot be"), right))
}
