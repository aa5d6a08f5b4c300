//! The commands a person types, from their options to what is printed.

use crate::asked;
use crate::cli::{EngineArgs, ListArgs, OutArgs, PumpArgs, QuickstartArgs, RunArgs, TargetsArgs};
use crate::exit::{Exit, UsageError, print, tell};
use crate::folder::ResultFolder;
use crate::html::text::{duration_us, or_none, rate};
use crate::interrupt::{Interrupt, Interrupted};
use crate::plan::{Content, Plan};
use crate::process::{leave_nothing, placement};
use crate::progress::Progress;
use crate::pump::{PUMP, PumpFigures, PumpPlan, run as run_pump};
use crate::result::{Figures, Host, RunResult};
use crate::run::{self, Ran, Setting};
use crate::run_file::{self, Asked, RunFile};
use crate::said::Said;
use crate::scenario::{self, ALL, Scenario};
use crate::summary;
use crate::targets::{self, Effort, TARGETS};
use engine::shell::pump::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};
use loadgen::validity::Validity;
use serde::Serialize;
use std::path::Path;

/// The seed of every run, unless its file has another: so that two runs strike at the same moments.
const SEED: u64 = 1;

/// `ringbench quickstart`.
///
/// # Errors
/// See [`crate::exit`].
pub fn quickstart(args: &QuickstartArgs) -> anyhow::Result<Exit> {
    let said = said(&args.engine)?;
    let mail = args.corpus.as_deref().map(asked::mail).transpose()?.map_or(Content::OwnCorpus, Content::Corpus);
    let folder = ResultFolder::make(args.out.out.as_deref(), "quickstart")?;
    let plan = scenario::quickstart(&said.engine(), &mail, SEED);
    carry_out(&plan, &folder, &args.out)
}

/// `ringbench run`.
///
/// # Errors
/// See [`crate::exit`].
pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let scenario = Scenario::find(&args.scenario);
    let goes_through = |option: &str| scenario.is_some_and(|scenario| scenario.several.contains(&option));
    let mut sizes = args.size.iter().map(|size| asked::size(size)).collect::<Result<Vec<_>, _>>()?;
    let mut shards: Vec<usize> = args.engine.shards.iter().copied().map(usize::from).collect();
    let content = match &args.corpus {
        Some(path) => Some(Content::Corpus(asked::mail(path)?)),
        None if goes_through("--size") => None,
        None => asked::one("--size", &std::mem::take(&mut sizes))?.map(Content::Bytes),
    };
    let mut engine = args.engine.clone();
    if goes_through("--shards") {
        engine.shards.clear();
    } else {
        shards.clear();
    }
    let said = Said {
        content,
        sizes,
        shard_counts: shards,
        connections: args.connections,
        rate_per_s: args.rate.as_deref().map(asked::rate_per_s).transpose()?,
        seconds: args.duration.as_deref().map(asked::seconds).transpose()?,
        ..said(&engine)?
    };
    let Some(scenario) = scenario else { return run_again(args, &said) };
    asked::nothing_of_its_own(scenario, &[("--corpus", args.corpus.is_some())])?;
    let folder = ResultFolder::make(args.out.out.as_deref(), scenario.name)?;
    let seed = args.seed.map_or(SEED, u64::from);
    carry_out(&scenario.plan(&said.options(placement::available().len(), seed)), &folder, &args.out)
}

/// Runs what a file says.
fn run_again(args: &RunArgs, said: &Said) -> anyhow::Result<Exit> {
    let path = Path::new(&args.scenario);
    if !path.exists() {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        let text = format!("no scenario or file is called `{}`: there are {}", args.scenario, names.join(", "));
        return Err(UsageError(text).into());
    }
    if args.seed.is_some() {
        return Err(UsageError("--seed: a file says when its faults strike: leave it out".into()).into());
    }
    let mut file = RunFile::read(path)?;
    match &mut file.asked {
        Asked::Run(plan) => said.change(plan)?,
        Asked::Pump(plan) => {
            said.change_pump(plan)?;
            frame_bytes(plan.frame_bytes)?;
        }
    }
    file.can_be_done()?;
    match &file.asked {
        Asked::Run(plan) => {
            let folder = ResultFolder::make(args.out.out.as_deref(), &plan.scenario)?;
            carry_out(plan, &folder, &args.out)
        }
        Asked::Pump(plan) => carry_out_pump(plan, &args.out),
    }
}

/// Listens to signals: the second ends us at once, and leaves nothing of what is needed only while we run.
fn watch(folder: &ResultFolder) -> Interrupt {
    let scratch = folder.scratch().to_owned();
    Interrupt::watch(move || leave_nothing(&scratch))
}

/// How the engine is to be started, as far as it was said; a driver that is refused here is told at once.
fn said(args: &EngineArgs) -> Result<Said, UsageError> {
    args.driver.as_deref().map_or(Ok(()), asked::driver)?;
    let EngineArgs { durability, driver, shards } = args.clone();
    let shards = asked::one("--shards", &shards)?.map(usize::from);
    Ok(Said { durability, driver, shards, ..Said::default() })
}

fn carry_out(plan: &Plan, folder: &ResultFolder, out: &OutArgs) -> anyhow::Result<Exit> {
    let setting = Setting {
        folder,
        interrupt: &watch(folder),
        progress: &Progress::new(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
    };
    let Ran { result, trouble } = run::run(plan, &setting);
    if result.phases.is_empty() {
        // Nothing was measured that could be shown.
        let why = anyhow::Error::from(Interrupted).context("nothing was measured");
        return Err(trouble.unwrap_or(why));
    }
    let report = folder.path().join("report.html");
    let mut text = summary::text(&result);
    if trouble.is_none() {
        text.push_str(&format!("\n  report            {} (for a browser; it needs no network)\n", report.display()));
    }
    show(&text, out.json.then_some(&result))?;
    trouble.map_or_else(|| Ok(run::exit(&result)), Err)
}

/// Prints what was found: `text`, or, where JSON was asked for, that, and `text` beside it. Measured is measured: what finds no
/// place on stdout is told on stderr.
fn show(text: &str, json: Option<&impl Serialize>) -> anyhow::Result<()> {
    match json {
        Some(json) => {
            tell(text);
            print(format!("{}\n", serde_json::to_string_pretty(json)?).as_bytes())?;
        }
        None => print(text.as_bytes()).inspect_err(|_| tell(text))?,
    }
    Ok(())
}

/// `ringbench list`.
///
/// # Errors
/// Nobody reads what is printed.
pub fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let text = if args.json {
        let json = |s: &Scenario| serde_json::json!({ "name": s.name, "about": s.about, "seconds": length_s(s) });
        let all: Vec<_> = ALL.iter().map(json).collect();
        serde_json::to_string_pretty(&all)? + "\n"
    } else {
        let line = |s: &Scenario| format!("{:<18} {:>4} s  {}\n", s.name, length_s(s), s.about);
        ALL.iter().map(line).collect()
    };
    print(text.as_bytes())?;
    Ok(Exit::Good)
}

/// Whole seconds that a scenario takes here unless it is told otherwise.
fn length_s(scenario: &Scenario) -> u64 {
    let options = Said::default().options(placement::available().len(), SEED);
    crate::progress::expected_s(&scenario.plan(&options)).round() as u64
}

/// `ringbench targets`.
///
/// # Errors
/// See [`crate::exit`].
pub fn targets(args: &TargetsArgs) -> anyhow::Result<Exit> {
    let only = args.only.as_deref().unwrap_or_default();
    if args.grid && !targets::is_grid_row(only) {
        let text =
            format!("--only {only}: no row of the grid contains it; there are {}", targets::grid_names().join(", "));
        return Err(UsageError(text).into());
    }
    if !args.grid && !TARGETS.iter().any(|target| targets::is_wanted(only, target.id)) {
        let ids: Vec<&str> = TARGETS.iter().map(|target| target.id).collect();
        let text = format!("--only {only}: no target's id contains it; there are {}", ids.join(", "));
        return Err(UsageError(text).into());
    }
    asked::peers(args.peers.as_deref())?;
    let folder = ResultFolder::make(args.out.out.as_deref(), "targets")?;
    let effort = match (args.grid, args.quick) {
        (false, true) => Effort::QUICK,
        (false, false) => Effort::FULL,
        (true, true) => Effort::GRID_QUICK,
        (true, false) => Effort::GRID,
    };
    let seed = args.seed.unwrap_or_else(rand::random).into();
    let asked = targets::Asked { only, effort, peers: args.peers.as_deref(), seed, grid: args.grid };
    let interrupt = watch(&folder);
    let report = targets::measure(&asked, &folder, &interrupt, &Progress::new());
    if args.grid {
        return show_grid(args, &folder, &report, &interrupt);
    }
    let rows = &report.targets;
    let table = format!(
        "{}  seed              {seed}\n  results           {}\n",
        targets::table(rows),
        folder.path().display()
    );
    let kept = keep_targets(&folder, &report, &table);
    if args.markdown {
        tell(&table);
        print(targets::markdown(&report).as_bytes())?;
    } else {
        show(&table, args.out.json.then_some(rows))?;
    }
    kept?;
    if interrupt.asked() {
        return Err(Interrupted.into());
    }
    if let Some(missing) = targets::missing(rows) {
        tell(&format!("ringbench: {missing}\n"));
    }
    tell_broken(&report);
    Ok(targets::exit(rows, &report.broken))
}

/// A grid has no other form than its tables.
fn show_grid(
    args: &TargetsArgs,
    folder: &ResultFolder,
    report: &targets::Report,
    interrupt: &Interrupt,
) -> anyhow::Result<Exit> {
    let tables = targets::markdown(report);
    let kept = folder
        .write_json("result.json", &report.document()?)
        .and(folder.write_json("grid.json", &report.grid))
        .and(folder.write("targets.md", tables.as_bytes()));
    show(&tables, args.out.json.then_some(&report.grid))?;
    tell(&format!("  results           {}\n", folder.path().display()));
    kept?;
    if interrupt.asked() {
        return Err(Interrupted.into());
    }
    tell_broken(report);
    Ok(targets::grid_exit(&report.grid, &report.broken))
}

fn tell_broken(report: &targets::Report) {
    report.broken.iter().for_each(|broken| tell(&format!("ringbench: {broken}\n")));
}

fn keep_targets(folder: &ResultFolder, report: &targets::Report, table: &str) -> anyhow::Result<()> {
    folder.write_json("result.json", &report.document()?)?;
    folder.write_json("targets.json", &report.targets)?;
    folder.write("targets.md", targets::markdown(report).as_bytes())?;
    folder.write("targets.txt", table.as_bytes())
}

/// `ringbench pump`.
///
/// # Errors
/// See [`crate::exit`].
pub fn pump(args: &PumpArgs) -> anyhow::Result<Exit> {
    let frame_bytes = frame_bytes(usize::try_from(asked::size(&args.size)?).unwrap_or(usize::MAX))?;
    let engine = said(&args.engine)?.engine();
    let plan = PumpPlan {
        scenario: PUMP.into(),
        connections: args.connections as usize,
        frame_bytes,
        seconds: asked::seconds(&args.duration)?,
        durability: engine.durability,
        driver: engine.driver,
        shards: engine.shards,
        answers: !args.no_answers,
        one_per_write: args.one_per_write.then_some(args.next_hop_connections as usize),
    };
    carry_out_pump(&plan, &args.out)
}

fn frame_bytes(bytes: usize) -> Result<usize, UsageError> {
    if (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    Err(UsageError(format!("--size {bytes}: a frame has {FRAME_BYTES_MIN} to {FRAME_BYTES_MAX} octets")))
}

fn carry_out_pump(plan: &PumpPlan, out: &OutArgs) -> anyhow::Result<Exit> {
    let folder = ResultFolder::make(out.out.as_deref(), PUMP)?;
    let started = jiff::Timestamp::now();
    let figures = run_pump(plan, &folder, &watch(&folder))?;
    let result = crate::pump::result(plan, &figures, started, folder.scratch());
    let kept = keep_pump(&folder, plan, &figures, &result);
    show(&pump_in_words(plan, &figures, &result), out.json.then(|| PumpDocument::of(&result, &figures)).as_ref())?;
    kept.map(|()| run::exit(&result))
}

/// A pump's own figures, and where they come from.
#[derive(Serialize)]
struct PumpDocument<'a> {
    schema: u32,
    tool: &'a str,
    version: &'a str,
    git: Option<&'a str>,
    started: &'a str,
    host: &'a Host,
    scenario: &'a str,
    profile: &'a str,
    placement: &'a str,
    validity: &'a Validity,
    #[serde(flatten)]
    figures: &'a PumpFigures,
}

impl<'a> PumpDocument<'a> {
    fn of(result: &'a RunResult, figures: &'a PumpFigures) -> Self {
        let RunResult { schema, tool, version, git, started, host, scenario, profile, placement, .. } = result;
        let (git, validity) = (git.as_deref(), &result.main.validity);
        Self { schema: *schema, tool, version, git, started, host, scenario, profile, placement, validity, figures }
    }
}

fn keep_pump(folder: &ResultFolder, plan: &PumpPlan, figures: &PumpFigures, result: &RunResult) -> anyhow::Result<()> {
    folder.write_json("pump.json", &PumpDocument::of(result, figures))?;
    folder.write_json("result.json", result)?;
    folder.write("run.toml", run_file::text(plan)?.as_bytes())
}

fn pump_in_words(plan: &PumpPlan, figures: &PumpFigures, result: &RunResult) -> String {
    let Figures { validity, limited_by, .. } = &result.main;
    let mut verdict = format!("pump: {}\n", if validity.valid { "VALID" } else { "NOT VALID" });
    validity.reasons.iter().for_each(|reason| verdict.push_str(&format!("  ! {reason}\n")));
    let limit = match limited_by.as_deref() {
        Some("engine") => ", limited by the pump".to_owned(),
        Some(other) => format!(", limited by the {other}: a lower bound"),
        None => ", limited by no processor".to_owned(),
    };
    let times: Vec<String> =
        figures.service_us.named().iter().map(|(name, us)| format!("{name} {}", or_none(*us, duration_us))).collect();
    let onward = match plan.one_per_write {
        None => "all that are there in a write".to_owned(),
        Some(connections) => format!("one per write over {connections} connections"),
    };
    format!(
        "{verdict}\
         rate  {} frames of {} octets a second over {} connections{limit}; durability {}{}, driver {}\n\
         on    {onward}, {}\n\
         CPU   {} a frame (source and sink {})\n\
         time  {} (service; the loop is closed, so there is no response time)\n",
        rate(figures.rate_per_s),
        plan.frame_bytes,
        plan.connections,
        figures.durability,
        figures.commit.as_ref().map_or_else(String::new, |commit| format!(" ({commit})")),
        figures.driver,
        if plan.answers { "each answered" } else { "nothing answered" },
        duration_us(figures.relay_cpu_us),
        duration_us(figures.load_cpu_us),
        times.join(" · ")
    )
}
