//! A plan, carried out: each part on a stage of its own, phase after phase; then the result folder.

pub mod measure;
pub mod perform;

use crate::affected;
use crate::exit::Exit;
use crate::folder::ResultFolder;
use crate::html::{Views, page};
use crate::interrupt::Interrupt;
use crate::observe::host;
use crate::plan::{Pace, Part, Phase, Plan};
use crate::progress::Progress;
use crate::result::{self, RunResult, judge_whole};
use crate::run_file;
use crate::stage::{self, Stage};
use loadgen::record::timeline;
use loadgen::validity::Validity;
use measure::Measured;
use perform::{Around, perform, sender_of};

/// Everything a run needs besides its plan.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Where results go.
    pub folder: &'a ResultFolder,
    /// Ends it early.
    pub interrupt: &'a Interrupt,
    /// Tells how far it is.
    pub progress: &'a Progress,
    /// The command that repeats it.
    pub command: String,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Ran {
    /// All that was measured.
    pub result: RunResult,
    /// What ended it early, or kept a part of it from the folder.
    pub trouble: Option<anyhow::Error>,
}

/// Carries out `plan`. A component that fails, though no fault killed it, ends it; a folder that has no room does not.
pub fn run(plan: &Plan, setting: &Setting<'_>) -> Ran {
    let started = jiff::Timestamp::now();
    setting.progress.begin(plan);
    let result = RunResult {
        scenario: plan.scenario.clone(),
        seed: Some(plan.seed),
        way: plan.parts.first().map(|part| part.topology.way()).unwrap_or_default(),
        durability: stage::UNKNOWN.into(),
        ..RunResult::begun(started, host::here(setting.folder.scratch()))
    };
    let views = Views { command: setting.command.clone(), nonce: nonce(), ..Views::default() };
    let mut running = Running { result, views, seed: plan.seed, number: 0, against: Vec::new(), unwritten: Ok(()) };
    let mut done = Ok(());
    for part in &plan.parts {
        if setting.interrupt.asked() || done.is_err() {
            break;
        }
        done = running.part(part, plan.parts.len() > 1, setting);
    }
    conclude(plan, &mut running.result, setting.interrupt.asked());
    setting.progress.end();
    let Running { mut result, views, unwritten, against, .. } = running;
    result.main.validity = Validity::from_reasons([against, result.main.validity.reasons].concat());
    let kept = keep_whole(plan, &result, &views, setting.folder);
    Ran { result, trouble: done.and(unwritten).and(kept).err() }
}

fn keep_whole(plan: &Plan, result: &RunResult, views: &Views, folder: &ResultFolder) -> anyhow::Result<()> {
    folder
        .write_json("result.json", result)
        .and(folder.write("run.toml", run_file::text(plan)?.as_bytes()))
        .and(folder.write("report.html", page(result, views).as_bytes()))
}

/// A plan under way.
struct Running {
    result: RunResult,
    views: Views,
    seed: u64,
    number: u32,
    /// Why nothing of it is valid.
    against: Vec<String>,
    /// The first file that could not be written.
    unwritten: anyhow::Result<()>,
}

impl Running {
    fn part(&mut self, part: &Part, is_one_of_many: bool, setting: &Setting<'_>) -> anyhow::Result<()> {
        setting.progress.say("starting the processes");
        let scratch = setting.folder.scratch().join(format!("part-{}", self.number));
        let mut stage = Stage::start(part, setting.folder.path(), &scratch)?;
        self.result.driver = stage.said("driver").join(", ");
        self.result.commit = stage.said("commit").into_iter().next();
        if self.result.processes.is_empty() {
            (self.result.durability, self.result.profile) = (stage.durability(), stage.profile());
        }
        self.against.extend(stage.differs());
        self.result.placement = stage.placement().describe();
        let before = self.result.processes.len();
        self.result.processes.extend(stage.processes());
        self.result.processes.push(sender_of(&stage));
        let mut probed = None;
        for phase in &part.phases {
            if setting.interrupt.asked() {
                break;
            }
            let label = if is_one_of_many {
                [&phase.name, result::PART_MARK, &part.label].concat()
            } else {
                phase.name.clone()
            };
            setting.progress.phase(&label, phase);
            let mut measured = self.phase(&mut stage, part, phase, rate(phase, probed), setting)?;
            if phase.pace == Pace::FlatOut {
                probed = measured.phase.figures.rate.achieved_per_s;
            }
            measured.phase.name = label;
            if phase.is_main {
                for process in &mut self.result.processes[before..] {
                    process.cpu_us_per_message = measured.cpu_us_of_each.get(&process.name).copied().flatten();
                }
            }
            self.take(phase, measured, setting.folder);
        }
        stage.stop();
        Ok(())
    }

    fn phase(
        &mut self,
        stage: &mut Stage,
        part: &Part,
        phase: &Phase,
        rate_per_s: Option<f64>,
        setting: &Setting<'_>,
    ) -> anyhow::Result<Measured> {
        self.number += 1;
        let around = Around {
            folder: setting.folder.path(),
            scratch: setting.folder.scratch(),
            interrupt: setting.interrupt,
            progress: setting.progress,
            number: self.number,
            seed: self.seed,
        };
        perform(stage, part, phase, rate_per_s, &around)
    }

    fn take(&mut self, phase: &Phase, measured: Measured, folder: &ResultFolder) {
        let kept = keep(phase, &measured, folder);
        self.unwritten = std::mem::replace(&mut self.unwritten, Ok(())).and(kept);
        if phase.is_main {
            self.result.main = measured.phase.figures.clone();
        }
        self.result.failover.extend(measured.phase.failover.clone());
        self.result.phases.push(measured.phase);
        self.views.phases.push(measured.view);
    }
}

fn rate(phase: &Phase, probed: Option<f64>) -> Option<f64> {
    match phase.pace {
        Pace::FlatOut => None,
        Pace::PerSecond(per_s) => Some(per_s),
        // A probe that acknowledged nothing leaves the slowest rate that still shows something.
        Pace::ShareOfProbe(share) => Some((probed.unwrap_or(0.0) * share).max(1.0)),
    }
}

/// The phase's own files.
fn keep(phase: &Phase, measured: &Measured, folder: &ResultFolder) -> anyhow::Result<()> {
    if phase.pace == Pace::FlatOut {
        return Ok(());
    }
    let name = measured.phase.name.replace([' ', '·'], "-");
    let mut csv = Vec::new();
    timeline::write_csv(&mut csv, &measured.timeline, true)?;
    folder.write(&format!("timeline-{name}.csv"), &csv)?;
    if phase.is_main {
        folder.write("timeline.csv", &csv)?;
    }
    if let Some(affected) = &measured.affected {
        let csv = affected::csv(affected);
        folder.write(&format!("affected-{name}.csv"), csv.as_bytes())?;
        if phase.is_main {
            folder.write("affected.csv", csv.as_bytes())?;
        }
    }
    for (kind, times) in
        [("response", &measured.response), ("service", &measured.service), ("delivery", &measured.delivery)]
    {
        let mut text = Vec::new();
        times.write_hgrm(&mut text)?;
        folder.write(&format!("latency-{kind}-{name}.hgrm"), &text)?;
    }
    let mut log = Vec::new();
    loadgen::record::hlog::write(&mut log, &measured.intervals, measured.started, "response time, microseconds")?;
    folder.write(&format!("latency-response-{name}.hlog"), &log)
}

/// The verdict on the whole.
fn conclude(plan: &Plan, result: &mut RunResult, interrupted: bool) {
    let phases: Vec<(String, Validity)> =
        result.phases.iter().map(|phase| (phase.name.clone(), phase.figures.validity.clone())).collect();
    let mut whole = judge_whole(phases.iter().map(|(name, validity)| (name.as_str(), validity)));
    let planned: usize = plan.parts.iter().map(|part| part.phases.len()).sum();
    if interrupted {
        whole = Validity::from_reasons([vec!["the run was interrupted".to_owned()], whole.reasons].concat());
    } else if result.phases.len() < planned {
        whole = Validity::from_reasons([whole.reasons, vec!["not every phase was run".to_owned()]].concat());
    }
    if cfg!(debug_assertions) {
        whole = Validity::from_reasons([vec![crate::DEBUG_BUILD.to_owned()], whole.reasons].concat());
    }
    result.main.validity = whole;
}

/// Random text for the report's content policy.
fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// How a command ends that ran to its end: a message that was lost or changed is what it is, however its times were measured.
pub fn exit(result: &RunResult) -> Exit {
    match () {
        () if result.phases.iter().any(breaks_a_promise) => Exit::Failed,
        () if !result.main.validity.valid => Exit::Invalid,
        () if result.phases.iter().any(exceeds_its_faults) => Exit::Failed,
        () => Exit::Good,
    }
}

/// Lost (but for what a sink had no room to write down), altered, delivered though refused or to somebody else, or doubled in no window: P-002 to P-005.
pub(crate) fn breaks_a_promise(phase: &result::Phase) -> bool {
    let pairs = &phase.figures.pairs;
    let undue = pairs.refused_yet_delivered + pairs.unexpected + pairs.duplicated.unattributed;
    pairs.lost_for_certain() + pairs.content_differs + undue > 0
}

/// Doubled beyond what a fault explains, or taken without the sender being told so, beyond what was under way when servers
/// died.
fn exceeds_its_faults(phase: &result::Phase) -> bool {
    let pairs = &phase.figures.pairs;
    let fault = phase.failover.as_ref();
    let doubled_beyond = fault.is_some_and(|of| of.duplicated.is_some_and(|twice| twice > of.duplicates_max));
    let untold = pairs.recovered + pairs.deferred_yet_taken;
    let untold_beyond = untold > fault.map_or(0, |of| of.unanswered_max);
    doubled_beyond || untold_beyond
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::Summary;

    #[test]
    fn what_was_broken_comes_before_how_it_was_measured() {
        let ends_as = |valid: bool, bend: fn(&mut result::Phase)| {
            let mut phase = result::Phase::default();
            bend(&mut phase);
            let mut result = RunResult { phases: vec![result::Phase::default(), phase], ..RunResult::default() };
            result.main.validity.valid = valid;
            exit(&result).code()
        };
        for valid in [true, false] {
            let unbroken = if valid { 0 } else { 3 };
            assert_eq!(ends_as(valid, |_| {}), unbroken);
            assert_eq!(ends_as(valid, |phase| phase.figures.pairs.lost = 1), 1);
            let unseen =
                |phase: &mut result::Phase| (phase.figures.pairs.lost, phase.figures.pairs.unrecorded) = (2, 2);
            assert_eq!(ends_as(valid, unseen), unbroken, "nobody knows whether they are lost");
            assert_eq!(ends_as(valid, |phase| phase.figures.pairs.content_differs = 1), 1);
            assert_eq!(ends_as(valid, |phase| phase.figures.pairs.refused_yet_delivered = 1), 1);
            assert_eq!(ends_as(valid, |phase| phase.figures.pairs.duplicated.unattributed = 1), 1);
            let beyond = if valid { 1 } else { 3 };
            assert_eq!(ends_as(valid, |phase| phase.figures.pairs.recovered = 1), beyond);
            let doubled = |phase: &mut result::Phase| {
                phase.failover = Some(Summary { duplicated: Some(2), duplicates_max: 1, ..Summary::default() });
            };
            assert_eq!(ends_as(valid, doubled), beyond);
        }
    }
}
