//! The runs behind the targets: which there are, what they share, what is kept of each.

use super::beside::{DEAD, IDLE, SILENT, SLOW};
use super::hops::{self, Hop};
use super::{Effort, Findings, Found, Unmeasured};
use crate::folder::ResultFolder;
use crate::interrupt::Interrupt;
use crate::plan::{Engine, Pace, Part, Phase, Role, Server, Sink, Topology};
use crate::process::ComponentError;
use crate::progress::Progress;
use crate::result;
use crate::run::perform::{Around, perform};
use crate::stage::Stage;
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
}

/// Which half of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Pump,
    Hub,
}

/// Does the runs.
pub(super) struct Bench<'a> {
    pub(super) effort: Effort,
    pub(super) folder: &'a ResultFolder,
    pub(super) interrupt: &'a Interrupt,
    pub(super) peers: Option<&'a Path>,
    pub(super) findings: Findings,
    /// Every single run, in order.
    pub(super) runs: Vec<serde_json::Value>,
    only: &'a str,
    progress: &'a Progress,
    number: u32,
    /// Of the engine: what its processes said of themselves.
    driver: String,
    commit: Option<String>,
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
}

/// A group of figures that one series of runs tells.
struct Step<'b> {
    ids: Vec<&'static str>,
    /// Told the first of its ids.
    run: fn(&mut Bench<'b>, &'static str) -> anyhow::Result<()>,
    is_quick: bool,
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
        }
    }

    fn steps() -> Vec<Step<'a>> {
        let step = |ids: &[&'static str], run, is_quick| Step { ids: ids.to_vec(), run, is_quick };
        let beside = hops::BESIDE.map(|(id, _)| Step { ids: vec![id], run: |b, id| b.hop_beside(id), is_quick: false });
        let steps = [
            step(&["T-hop-4k-50", "T-syscalls-50", "T-copies-4k", "T-alloc-4k"], |b, _| b.hop_4k_50(), true),
            step(&["T-hop-4k-256", "T-syscalls-256"], |b, _| b.hop_4k_256(), true),
            step(&["T-hop-100k-50", "T-copies-100k"], |b, _| b.hop_100k(), true),
            step(&["T-hop-data-4k-50"], |b, _| b.hop_data(), true),
            step(&["T-ack-p99", "T-ack-p99-load"], |b, _| b.acknowledgement(), true),
            step(
                &["T-outage-next-hop", "T-outage-next-hop-p50", "T-lost-next-hop"],
                |b, _| b.outage_of_next_hop(),
                true,
            ),
            step(&["T-outage-hub", "T-outage-hub-p50", "T-lost-hub"], |b, _| b.outage_of_hub(), true),
            step(&["T-outage-none", "T-outage-none-p50", "T-lost-none"], |b, _| b.outage_of_nobody(), false),
            step(&["T-mem-idle"], |b, _| b.idle_memory(), true),
            step(&["T-mem-queued"], |b, _| b.queued_memory(), false),
            step(&["T-load-cpu", "T-sink-cpu", "T-load-cpu-1", "T-sink-cpu-1"], |b, _| b.foreign(), false),
            step(&["T-shards-2", "T-shards-rate"], |b, _| b.shards(), false),
            step(&["T-relay-4k-50"], |b, _| b.relay(), false),
            step(&["T-idle-p99"], |b, id| b.beside_a_crowd(id, IDLE), false),
            step(&["T-slow-p99"], |b, id| b.beside_a_crowd(id, SLOW), false),
            step(&["T-dead-p99", "T-dead-rate"], |b, _| b.beside_trouble(DEAD), false),
            step(&["T-silent-p99", "T-silent-rate"], |b, _| b.beside_trouble(SILENT), false),
        ];
        steps.into_iter().chain(beside).collect()
    }

    /// Measures what is wanted.
    pub(super) fn measure(mut self) -> Measured {
        let is_asked =
            |step: &Step<'_>| (step.is_quick || self.effort.everything) && step.ids.iter().any(|id| self.is_wanted(id));
        let steps: Vec<Step<'a>> = Self::steps().into_iter().filter(is_asked).collect();
        for (index, step) in steps.iter().enumerate() {
            if self.interrupt.asked() {
                break;
            }
            self.progress.say(&format!("{} of {}: {}", index + 1, steps.len(), step.ids.join(", ")));
            // One that fails says so in its rows; the others are measured all the same.
            if let Err(error) = (step.run)(&mut self, step.ids[0]) {
                let component_failed = error.chain().any(|cause| cause.is::<ComponentError>());
                let not = Unmeasured { why: format!("{error:#}"), component_failed };
                step.ids.iter().for_each(|id| {
                    self.findings.entry(id).or_insert_with(|| Err(not.clone()));
                });
            }
            step.ids.iter().for_each(|id| self.tell_found(id));
        }
        Measured { findings: self.findings, runs: self.runs, driver: self.driver, commit: self.commit }
    }

    pub(super) fn is_wanted(&self, id: &str) -> bool {
        super::is_wanted(self.only, id)
    }

    fn tell_found(&self, id: &str) {
        let found = match self.findings.get(id) {
            Some(Ok(found)) => format!("{} ({})", crate::html::text::significant(found.value), found.note),
            Some(Err(not)) => not.why.clone(),
            None => return,
        };
        self.progress.line(&format!("{id}: {found}"));
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
            number: self.number,
            seed: 1,
        }
    }

    pub(super) fn found(&mut self, id: &'static str, value: f64, note: String) {
        self.findings.insert(id, Ok(Found { value, note, invalid: false, compared: None }));
    }

    pub(super) fn keep(&mut self, kind: Kind, id: &str, hop: Hop, cpu_us: Option<f64>, rate_per_s: Option<f64>) {
        let Hop { connections, bytes, by_data, shards, .. } = hop;
        self.runs.push(serde_json::json!({
            "id": id, "what": kind, "connections": connections, "bytes": bytes, "by_data": by_data, "shards": shards,
            "durability": hop.durability(), "cpu_us_per_message": cpu_us, "rate_per_s": rate_per_s,
        }));
    }

    /// The processes of `part`.
    pub(super) fn stage(&mut self, part: &Part) -> anyhow::Result<Stage> {
        let scratch = self.folder.scratch().join(format!("targets-{}", self.number));
        let stage = Stage::start(part, self.folder.path(), &scratch)?;
        self.driver = stage.said("driver").join(", ");
        self.commit = stage.said("commit").into_iter().next();
        Ok(stage)
    }

    /// Runs phases on one stage, each at its pace; flat-out ones give the rate to those behind them.
    pub(super) fn phases(&mut self, part: &Part, phases: &[Phase]) -> anyhow::Result<Vec<result::Phase>> {
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
            let measured = perform(&mut stage, part, phase, rate, &self.around())?.phase;
            if phase.pace == Pace::FlatOut {
                probed = measured.figures.rate.achieved_per_s.unwrap_or(0.0);
            }
            found.push(measured);
        }
        stage.stop();
        Ok(found)
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
