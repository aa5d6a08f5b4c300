//! Text to settings: one TOML file and the flags of the command line, or every problem with file, line, column and remedy.
//!
//! Pure: the caller reads the file and asks the machine. The file is read as a tree with places instead of through serde,
//! because serde ends at the first problem and `ringpost check` has to say them all. Unknown keys are problems; a mistyped
//! one is told the name it is nearest to. Bounds: a file of [`FILE_BYTES_MAX`].
//!
//! Tables of a file: `[server]`, `[[listener]]`, `[receive]`, `[delivery]`, `[access]`, `[next_hop.NAME]`, `[routes]`,
//! `[frontend]`, `[mailboxes]`, `[store]`, `[spool]`, `[log]`, and the key `profile`. `keys` has them all;
//! `ringpost check --print-defaults` prints them.

mod checks;
mod flags;
mod keys;
mod kinds;
mod nearest;
mod places;
mod print;
mod problem;
mod read;
mod said;
#[cfg(test)]
mod tests;

pub use flags::{Overrides, SMART_HOST};
pub use print::defaults;
pub use problem::{Origin, Problem, Weight, picture, position};
pub use said::Places;

use crate::settings::*;
use read::{Draft, Reader};
use std::path::PathBuf;

/// Octets of a configuration file.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// A configuration file: its name as given, and what stands in it.
#[derive(Debug, Clone, Copy)]
pub struct File<'t> {
    /// For messages.
    pub name: &'t str,
    /// Everything in it.
    pub octets: &'t [u8],
}

/// What the machine offers, asked by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The machine's name.
    pub hostname: Option<String>,
    /// The cores that this process may run on.
    pub cores: Vec<usize>,
    /// The folder that relative paths of flags are seen from.
    pub folder: PathBuf,
}

/// A configuration that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What it says.
    pub settings: Settings,
    /// What somebody should know about it; no errors.
    pub warnings: Vec<Problem>,
    /// Where it says what.
    pub places: Places,
}

/// Reads a file and flags to settings.
///
/// # Errors
/// Every problem, in the order of the file; at least one of them is an error. They are the user's.
pub fn read(file: Option<File<'_>>, flags: &Overrides, machine: &Machine) -> Result<Checked, Vec<Problem>> {
    let text = file.map(text_of).transpose().map_err(|problem| vec![problem])?;
    let mut reader = Reader::new(text);
    let profile = flags.profile(&mut reader);
    let mut draft = reader.draft(profile);
    flags.apply(&mut draft, &mut reader, &machine.folder);
    let settings = complete(draft, &mut reader, machine);
    if !reader.torn {
        checks::check(&settings, &mut reader);
    }
    let places = reader.places();
    let mut problems = reader.problems;
    problems.sort_by(|a, b| a.origin.cmp(&b.origin));
    if problems.iter().any(|problem| problem.weight == Weight::Error) {
        return Err(problems);
    }
    Ok(Checked { settings, warnings: problems, places })
}

fn text_of(file: File<'_>) -> Result<(&str, &str), Problem> {
    let problem = |line, column, wrong: String, right: &str| Problem {
        weight: Weight::Error,
        origin: Origin::File { name: file.name.to_owned(), line, column },
        key: String::new(),
        wrong,
        right: right.to_owned(),
    };
    if file.octets.len() > FILE_BYTES_MAX {
        let wrong = format!("the file has {} octets", file.octets.len());
        return Err(problem(1, 1, wrong, "write at most 64 MiB"));
    }
    std::str::from_utf8(file.octets).map(|text| (file.name, text)).map_err(|error| {
        let good = file.octets.get(..error.valid_up_to()).and_then(|good| std::str::from_utf8(good).ok());
        let (line, column) = position(good.unwrap_or_default(), error.valid_up_to());
        problem(line, column, "the file is not UTF-8 here".into(), "write it as UTF-8")
    })
}

/// Decides what was left to the machine and to other keys.
fn complete(draft: Draft<'_>, reader: &mut Reader<'_>, machine: &Machine) -> Settings {
    let Draft { mut settings, server, listeners } = draft;
    let fqdn = server.fqdn.or_else(|| machine.hostname.clone().filter(|name| places::is_domain(name)));
    let beside_data = || server.data_dir.as_ref().map(|dir| dir.join("admin.sock"));
    settings.server = Server {
        instance: settings.server.instance,
        fqdn: fqdn.map_or_else(|| "localhost".into(), |name| name.to_ascii_lowercase()),
        admin: server.admin.unwrap_or_else(beside_data),
        cores: cores(server.shards, server.cores.as_ref(), reader, machine),
        data_dir: server.data_dir,
        user: server.user,
        driver: server.driver,
        durability: server.durability,
        memory_budget: server.memory_budget,
        metrics: server.metrics,
        drain_wait: server.drain_wait,
    };
    let fits = settings.server.message_max();
    let listeners = listeners.into_iter().enumerate().filter_map(|(index, listener)| {
        let (address, role) = (listener.text.address?, listener.text.role?);
        let mut receive = listener.receive;
        if role.holds_messages() && size_said(reader, index).is_none() {
            receive.size_max = receive.size_max.min(fits);
        }
        Some(Listener { address, role, protocol: listener.text.protocol, receive })
    });
    settings.listeners = listeners.collect();
    settings
}

/// Where the largest message of a listener was said, if it was.
fn size_said(reader: &Reader<'_>, index: usize) -> Option<String> {
    [format!("listener[{index}].size_max"), "receive.size_max".into()].into_iter().find(|key| reader.was_said(key))
}

/// One shard per element, pinned where `Some`. Unless it is said, shards are pinned only where there is one for every
/// core: several servers on one machine must not all sit on its first core.
fn cores(
    shards: Option<u32>,
    said: Option<&Option<Vec<u32>>>,
    reader: &mut Reader<'_>,
    machine: &Machine,
) -> Vec<Option<usize>> {
    let offered = machine.cores.len().max(1);
    let named = match said {
        Some(Some(list)) if !list.is_empty() => Some(list),
        _ => None,
    };
    let count = shards.map(|count| count as usize).or(named.map(Vec::len)).unwrap_or(offered);
    if let Some(list) = named {
        if list.len() != count {
            let wrong = format!("names {} cores for {count} shards", list.len());
            let origin = reader.origin_of("server.cores");
            reader.push(Weight::Error, origin, "server.cores".into(), wrong, "write one core for each shard".into());
        }
        for core in list.iter().filter(|core| !machine.cores.contains(&(**core as usize))) {
            let wrong = format!("core {core} is not ours to use");
            let ours: Vec<String> = machine.cores.iter().map(usize::to_string).collect();
            let right = format!("write some of {}", ours.join(", "));
            let origin = reader.origin_of("server.cores");
            reader.push(Weight::Error, origin, "server.cores".into(), wrong, right);
        }
        return list.iter().map(|core| Some(*core as usize)).collect();
    }
    let pinned = said != Some(&None) && count == machine.cores.len();
    (0..count).map(|shard| if pinned { machine.cores.get(shard).copied() } else { None }).collect()
}
