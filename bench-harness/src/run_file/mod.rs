//! A `run.toml`, read back: the plan that it holds, or file, line, column, what is wrong and what would be right.
//!
//! A file is looked at three times: whether it is TOML of the right shape (here), whether what it says makes sense
//! ([`checks`]), and, after the command line had its say, whether it can be done on this machine ([`RunFile::can_be_done`]).

mod checks;

use crate::exit::UsageError;
use crate::plan::{Content, Plan};
use crate::pump::{PUMP, PumpPlan};
use engine::config::{Origin, Problem, Weight, position};
use engine::io::choice::DriverChoice;
use engine::io::launch::choose;
use loadgen::workload::corpus;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// No plan of ours comes near it.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What stands in front of a plan.
const HEAD: &str = "# All that this run did. `ringbench run run.toml` does it again; options beside it come before what stands here.\n";

/// The text of a file that [`RunFile::read`] reads as `plan`.
///
/// # Errors
/// None is known: plans are plain data.
pub fn text(plan: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(format!("{HEAD}{}", toml::to_string(plan)?))
}

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// Topologies and their phases.
    Run(Plan),
    /// The byte pump.
    Pump(PumpPlan),
}

/// A file that makes sense.
#[derive(Debug)]
pub struct RunFile {
    name: String,
    text: String,
    /// What it says.
    pub asked: Asked,
}

/// Where something stands: keys and places in lists, from the top.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct At(Vec<Step>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Key(&'static str),
    Nth(usize),
}

impl At {
    fn key(&self, key: &'static str) -> Self {
        Self([&self.0[..], &[Step::Key(key)]].concat())
    }

    fn nth(&self, list: &'static str, index: usize) -> Self {
        Self([&self.0[..], &[Step::Key(list), Step::Nth(index)]].concat())
    }

    /// `parts[0].phases[1].connections`.
    fn dotted(&self) -> String {
        let mut out = String::new();
        for step in &self.0 {
            match step {
                Step::Key(key) if out.is_empty() => out.push_str(key),
                Step::Key(key) => out.push_str(&format!(".{key}")),
                Step::Nth(index) => out.push_str(&format!("[{index}]")),
            }
        }
        out
    }

    /// The octets of `text` that it means; of what is not there, those of what it would be in.
    fn range(&self, text: &str) -> Range<usize> {
        let Ok(root) = DeTable::parse(text) else { return 0..0 };
        let (mut range, mut table, mut list) = (root.span(), Some(root.get_ref()), None);
        for step in &self.0 {
            let found = match step {
                Step::Key(key) => table.and_then(|table| table.get(*key)),
                Step::Nth(index) => list.and_then(|list: &toml::de::DeArray<'_>| list.get(*index)),
            };
            let Some(found) = found else { break };
            range = found.span();
            (table, list) = match found.get_ref() {
                DeValue::Table(table) => (Some(table), None),
                DeValue::Array(list) => (None, Some(list)),
                _ => (None, None),
            };
        }
        range
    }
}

/// What is wrong where.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    at: At,
    wrong: String,
    right: String,
}

impl Wrong {
    fn new(at: At, wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self { at, wrong: wrong.into(), right: right.into() }
    }
}

impl RunFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or what stands in it is no plan.
    pub fn read(path: &Path) -> Result<Self, UsageError> {
        let name = path.display().to_string();
        let unreadable = |error: std::io::Error| UsageError(format!("{name}: {error}"));
        let mut octets = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut octets).map_err(unreadable)?;
        if octets.len() as u64 > FILE_BYTES_MAX {
            return Err(UsageError(format!("{name}: more than {} MiB are no plan", FILE_BYTES_MAX >> 20)));
        }
        let text = String::from_utf8(octets).map_err(|error| {
            let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
            refusal(&name, &good, good.len()..good.len(), "", "the file is not UTF-8 here", "write it as UTF-8")
        })?;
        Self::of(name, text)
    }

    fn of(name: String, text: String) -> Result<Self, UsageError> {
        let table = DeTable::parse(&text).map_err(|error| told(&name, &text, &error))?;
        let is_pump = table.get_ref().get("scenario").and_then(|value| value.get_ref().as_str()) == Some(PUMP);
        let asked = if is_pump { Asked::Pump(shaped(&name, &text)?) } else { Asked::Run(shaped(&name, &text)?) };
        let file = Self { name, text, asked };
        match &file.asked {
            Asked::Run(plan) => checks::plan(plan),
            Asked::Pump(plan) => checks::pump(plan),
        }
        .map_err(|wrong| file.refuse(&wrong))?;
        Ok(file)
    }

    /// Whether this machine can do what is asked now.
    ///
    /// # Errors
    /// A driver is refused here, or the mail to replay is not there.
    pub fn can_be_done(&self) -> Result<(), UsageError> {
        let done = match &self.asked {
            Asked::Run(plan) => possible(plan),
            Asked::Pump(plan) => driver(&plan.driver, &At::default()),
        };
        done.map_err(|wrong| self.refuse(&wrong))
    }

    fn refuse(&self, wrong: &Wrong) -> UsageError {
        let Wrong { at, wrong, right } = wrong;
        refusal(&self.name, &self.text, at.range(&self.text), &at.dotted(), wrong, right)
    }
}

fn possible(plan: &Plan) -> Result<(), Wrong> {
    for (index, part) in plan.parts.iter().enumerate() {
        let at = At::default().nth("parts", index);
        driver(&part.engine.driver, &at.key("engine"))?;
        for (index, phase) in part.phases.iter().enumerate() {
            let Content::Corpus(path) = &phase.content else { continue };
            let at = at.nth("phases", index).key("content");
            corpus::read(path).map_err(|error| {
                Wrong::new(at, error.to_string(), "name a folder of .eml files, an .eml file or an mbox")
            })?;
        }
    }
    Ok(())
}

/// What `at` has under `driver`, asked of this machine.
fn driver(name: &str, at: &At) -> Result<(), Wrong> {
    let at = at.key("driver");
    let choice: DriverChoice = name.parse().map_err(|error: String| Wrong::new(at.clone(), error, "write \"auto\""))?;
    choose(choice).map(drop).map_err(|error| Wrong::new(at, error.to_string(), "write \"auto\" or \"epoll\""))
}

fn shaped<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, UsageError> {
    toml::from_str(text).map_err(|error| told(name, text, &error))
}

/// What the reader of TOML complains of, with its words for types in ours.
fn told(name: &str, text: &str, error: &toml::de::Error) -> UsageError {
    let mut wrong = error.message().replace('\n', " ");
    for (theirs, ours) in [
        ("expected u64", "expected a whole number"),
        ("expected u32", "expected a whole number"),
        ("expected usize", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
    ] {
        wrong = wrong.replace(theirs, ours);
    }
    let right = "each run's run.toml shows the form";
    refusal(name, text, error.span().unwrap_or(0..0), "", &wrong, right)
}

fn refusal(name: &str, text: &str, at: Range<usize>, key: &str, wrong: &str, right: &str) -> UsageError {
    let (line, column) = position(text, at.start);
    let problem = Problem {
        weight: Weight::Error,
        origin: Origin::File { name: name.to_owned(), line, column },
        key: key.to_owned(),
        wrong: wrong.to_owned(),
        right: right.to_owned(),
    };
    UsageError(problem.to_string())
}

#[cfg(test)]
mod tests;
