//! What the runs behind the targets share, and what is kept of each.

use super::pairs::broken;
use super::{Cell, Effort, Findings, Found};
use crate::failover::Summary;
use crate::folder::ResultFolder;
use crate::interrupt::Interrupt;
use crate::plan::{Engine, Pace, Part, Phase, Role, Server, Sink, Topology};
use crate::progress::Progress;
use crate::result;
use crate::run::perform::{Around, perform};
use crate::stage::Stage;
use anyhow::bail;
use std::path::Path;

/// What `ringbench targets` was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// A part of the ids that are wanted; empty for all.
    pub only: &'a str,
    /// How they are measured.
    pub effort: Effort,
    /// The folder that `tests/peers/fetch` has filled.
    pub peers: Option<&'a Path>,
    /// For the moments of faults.
    pub seed: u64,
    /// Rows by connections and size instead.
    pub grid: bool,
}

/// Does the runs.
pub(super) struct Bench<'a> {
    pub(super) effort: Effort,
    /// For the moments of faults.
    pub(super) seed: u64,
    pub(super) folder: &'a ResultFolder,
    pub(super) interrupt: &'a Interrupt,
    pub(super) peers: Option<&'a Path>,
    pub(super) findings: Findings,
    /// Every single run, in order.
    pub(super) runs: Vec<serde_json::Value>,
    pub(super) only: &'a str,
    pub(super) progress: &'a Progress,
    number: u32,
    /// Of the engine: what its processes said of themselves.
    pub(super) driver: String,
    pub(super) commit: Option<String>,
    broken: Vec<String>,
    pub(super) failover: Vec<Summary>,
    pub(super) grid: Vec<Cell>,
    /// The cell of the grid that is being measured, for people.
    pub(super) cell: Option<String>,
}

/// What was found, and on what.
#[derive(Debug, Default)]
pub struct Measured {
    /// By id.
    pub findings: Findings,
    /// Every single run.
    pub runs: Vec<serde_json::Value>,
    /// The engine's driver.
    pub driver: String,
    /// How the engine commits.
    pub commit: Option<String>,
    /// What runs did to mail that no measurement excuses.
    pub broken: Vec<String>,
    /// Each kind of fault.
    pub failover: Vec<Summary>,
    /// The cells of a grid.
    pub grid: Vec<Cell>,
}

impl<'a> Bench<'a> {
    /// Nothing is measured yet.
    pub(super) fn new(
        asked: &Asked<'a>,
        folder: &'a ResultFolder,
        interrupt: &'a Interrupt,
        progress: &'a Progress,
    ) -> Self {
        Self {
            effort: asked.effort,
            seed: asked.seed,
            folder,
            interrupt,
            peers: asked.peers,
            findings: Findings::new(),
            runs: Vec::new(),
            only: asked.only,
            progress,
            number: 0,
            driver: String::new(),
            commit: None,
            broken: Vec::new(),
            failover: Vec::new(),
            grid: Vec::new(),
            cell: None,
        }
    }

    pub(super) fn is_wanted(&self, id: &str) -> bool {
        super::is_wanted(self.only, id)
    }

    /// A run begins: its number, and the line on the terminal.
    pub(super) fn tell(&mut self, id: &str, what: &str) {
        self.number += 1;
        self.progress.detail(&format!("{id}: {what}, run {}", self.number));
    }

    pub(super) fn around(&self) -> Around<'a> {
        Around {
            folder: self.folder.path(),
            scratch: self.folder.scratch(),
            interrupt: self.interrupt,
            progress: self.progress,
            number: self.number,
            seed: 1,
        }
    }

    pub(super) fn found(&mut self, id: &'static str, value: f64, note: String) {
        self.findings.insert(id, Ok(Found { value, note, invalid: false, compared: None }));
    }

    /// The processes of `part`.
    pub(super) fn stage(&mut self, part: &Part) -> anyhow::Result<Stage> {
        let scratch = self.folder.scratch().join(format!("targets-{}", self.number));
        let stage = Stage::start(part, self.folder.path(), &scratch)?;
        self.driver = stage.said("driver").join(", ");
        self.commit = stage.said("commit").into_iter().next();
        if let Some(differs) = stage.differs() {
            bail!("NOT VALID: {differs}");
        }
        Ok(stage)
    }

    /// Runs phases on one stage, each at its pace; flat-out ones give the rate to those behind them.
    pub(super) fn phases(&mut self, id: &str, part: &Part, phases: &[Phase]) -> anyhow::Result<Vec<result::Phase>> {
        let mut stage = self.stage(part)?;
        let mut found = Vec::new();
        let mut probed = 0.0;
        for phase in phases {
            self.number += 1;
            let rate = match phase.pace {
                Pace::FlatOut => None,
                Pace::PerSecond(per_s) => Some(per_s),
                Pace::ShareOfProbe(share) => Some(f64::max(probed * share, 1.0)),
            };
            let measured = self.performed(id, &mut stage, part, phase, rate)?;
            if phase.pace == Pace::FlatOut {
                probed = measured.figures.rate.achieved_per_s.unwrap_or(0.0);
            }
            found.push(measured);
        }
        stage.stop();
        Ok(found)
    }

    /// One run on a stage. What it did to mail is kept, whatever figure it was for.
    pub(super) fn performed(
        &mut self,
        id: &str,
        stage: &mut Stage,
        part: &Part,
        phase: &Phase,
        rate_per_s: Option<f64>,
    ) -> anyhow::Result<result::Phase> {
        let done = perform(stage, part, phase, rate_per_s, &self.around())?.phase;
        self.broken.extend(broken(self.cell.as_deref().unwrap_or(id), &done));
        Ok(done)
    }

    /// What was measured.
    pub(super) fn ended(self) -> Measured {
        let Self { findings, runs, driver, commit, broken, failover, grid, .. } = self;
        Measured { findings, runs, driver, commit, broken, failover, grid }
    }
}

pub(super) fn part(shards: usize, topology: Topology) -> Part {
    let engine =
        Engine { durability: "disk".into(), driver: "auto".into(), shards, memory_budget: None, segment_bytes: None };
    Part { label: String::new(), engine, topology, phases: Vec::new() }
}

fn sinks(names: &[&str]) -> Vec<Sink> {
    names.iter().map(|name| Sink { name: (*name).into(), chunking: true }).collect()
}

fn server(name: &str, role: Role, next: &[&str]) -> Server {
    let next = next.iter().map(|name| (*name).to_owned()).collect();
    Server { name: name.into(), role, next, mailboxes: Vec::new() }
}

pub(super) fn one_hub() -> Topology {
    let servers = vec![server("hub", Role::Hub, &["sink"])];
    Topology { sinks: sinks(&["sink"]), servers, entry: "hub".into(), mailbox_every: 0 }
}

pub(super) fn two_sinks() -> Topology {
    let servers = vec![server("hub", Role::Hub, &["sink-a", "sink-b"])];
    Topology { sinks: sinks(&["sink-a", "sink-b"]), servers, entry: "hub".into(), mailbox_every: 0 }
}

pub(super) fn two_hubs() -> Topology {
    let hub = |name| server(name, Role::Hub, &["sink"]);
    let servers = vec![hub("hub-1"), hub("hub-2"), server("front-end", Role::Frontend, &["hub-1", "hub-2"])];
    Topology { sinks: sinks(&["sink"]), servers, entry: "front-end".into(), mailbox_every: 0 }
}
