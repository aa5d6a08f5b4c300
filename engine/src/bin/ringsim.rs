//! `ringsim`: whole servers under one seed each. Exit 1 when something was not as promised.

#![forbid(unsafe_code)]

use clap::Parser;
use engine::app::GIT;
use engine::app::exit::Exit;
use engine::sim::scenario::{Plan, Report, run, run_with_story};
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs whole servers, their senders and next hops in a simulated world: clock, network, disks and crashes drawn from a seed.
#[derive(Debug, Parser)]
#[command(name = "ringsim", version = engine::app::VERSION, after_help = "Examples:\n  ringsim --seeds 0..1000\n  ringsim --seed 42\n  ringsim --minutes 10 --json")]
struct Arguments {
    /// Runs these seeds, one line each; the last is left out
    #[arg(long, value_name = "FROM..TO", value_parser = seeds, env = "RINGSIM_SEEDS")]
    seeds: Option<Range<u64>>,
    /// Runs one seed, with its story
    #[arg(long, value_name = "N", conflicts_with = "seeds", env = "RINGSIM_SEED")]
    seed: Option<u64>,
    /// Goes on from the first seed for so long
    #[arg(long, value_name = "N", env = "RINGSIM_MINUTES")]
    minutes: Option<u64>,
    /// Runs so many seeds at a time [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), env = "RINGSIM_JOBS")]
    jobs: Option<u16>,
    /// Plants a bug, to see it found (a build with the feature `bugs`)
    #[arg(long, value_name = "NAME", env = "RINGSIM_BUG")]
    bug: Option<String>,
    /// Names the bugs that can be planted
    #[arg(long)]
    list_bugs: bool,
    /// Prints one JSON document instead of lines
    #[arg(long, env = "RINGSIM_JSON")]
    json: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "two numbers, the first below the second: 0..1000".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list_bugs {
        list_bugs();
        return Exit::Good.into();
    }
    let plan = match plan(arguments.bug.as_deref()) {
        Ok(plan) => plan,
        Err(problem) => {
            eprintln!("ringsim: --bug: {problem}");
            return Exit::Usage.into();
        }
    };
    let began = Instant::now();
    let until = arguments.minutes.map(|minutes| began + Duration::from_secs(60 * minutes));
    let seeds = match (&arguments.seeds, arguments.seed) {
        (_, Some(seed)) => seed..seed + 1,
        (Some(seeds), None) => seeds.clone(),
        (None, None) if until.is_some() => 0..u64::MAX,
        (None, None) => 0..100,
    };
    let mut reports = Vec::new();
    let mut broken = Vec::new();
    let see = |report: Report| {
        if !report.breaches.is_empty() {
            broken.push(report.seed);
        }
        let is_heard = arguments.json || print(&report, arguments.seed.is_some()).is_ok();
        if arguments.json {
            reports.push(report);
        }
        is_heard
    };
    let jobs = arguments.jobs.map_or_else(cores, usize::from);
    run_all(seeds, until, jobs, |seed| if arguments.seed.is_some() { told(seed, plan) } else { run(seed, plan) }, see);
    if let Some(first) = broken.first() {
        eprintln!("{} seeds broken at commit {}; to see one again: ringsim --seed {first}", broken.len(), commit());
    }
    let is_good = broken.is_empty();
    if arguments.json {
        let document = serde_json::json!({ "commit": commit(), "broken": broken.len(), "seeds": reports });
        // Nobody reading is no failure of ours.
        let _gone = writeln!(std::io::stdout(), "{document}");
    }
    if is_good { Exit::Good.into() } else { Exit::Failed.into() }
}

fn commit() -> &'static str {
    GIT.unwrap_or("unknown")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs seeds on so many threads until all are run, the time is over, or `see` has seen enough. It sees them in order.
fn run_all(
    seeds: Range<u64>,
    until: Option<Instant>,
    jobs: usize,
    run: impl Fn(u64) -> Report + Sync,
    mut see: impl FnMut(Report) -> bool,
) {
    let (next, is_enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let is_over = || is_enough.load(Ordering::Relaxed) || until.is_some_and(|until| Instant::now() >= until);
    // A seed that was taken is run, so that none is left out between others.
    let take = || (!is_over()).then(|| next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed));
    std::thread::scope(|scope| {
        let (tell, hear) = mpsc::channel();
        for _ in 0..jobs {
            let (tell, take, run) = (tell.clone(), &take, &run);
            scope.spawn(move || {
                while let Some(seed) = take()
                    && tell.send(run(seed)).is_ok()
                {}
            });
        }
        drop(tell);
        let (mut early, mut due) = (BTreeMap::new(), seeds.start);
        for report in hear {
            early.insert(report.seed, report);
            while let Some(report) = early.remove(&due) {
                due += 1;
                if !see(report) {
                    is_enough.store(true, Ordering::Relaxed);
                }
            }
        }
    });
}

#[cfg(feature = "bugs")]
fn plan(bug: Option<&str>) -> Result<Plan, String> {
    use engine::sys::planted::Bug;
    let known = |name: &str| Bug::ALL.iter().copied().find(|bug| bug.name() == name);
    let named = |name: &str| known(name).ok_or_else(|| format!("{name} is none of them; see --list-bugs"));
    Ok(Plan { bug: bug.map(named).transpose()?, ..Plan::default() })
}

#[cfg(not(feature = "bugs"))]
fn plan(bug: Option<&str>) -> Result<Plan, String> {
    match bug {
        None => Ok(Plan::default()),
        Some(_) => Err("this build has none; build with --features bugs".to_owned()),
    }
}

fn list_bugs() {
    #[cfg(feature = "bugs")]
    for bug in engine::sys::planted::Bug::ALL {
        println!("{:<18} {}", bug.name(), bug.what());
    }
    #[cfg(not(feature = "bugs"))]
    eprintln!("this build has none; build with --features bugs");
}

/// Runs a seed and tells its story on standard error.
fn told(seed: u64, plan: Plan) -> Report {
    let (report, story) = run_with_story(seed, plan);
    let mut err = std::io::stderr().lock();
    // Nobody reading is no failure of ours.
    let _gone = story.iter().try_for_each(|line| writeln!(err, "{line}"));
    report
}

/// A line for a seed; with `story`, what happened in figures.
fn print(report: &Report, story: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let Report { seed, trace, faults, accounts, breaches, .. } = report;
    let verdict = if breaches.is_empty() { "holds" } else { "BROKEN" };
    writeln!(out, "seed {seed} trace {trace:016x} messages {} faults {faults} {verdict}", accounts.messages)?;
    if story {
        writeln!(out, "{accounts:?}, {} events in {} ms, {} starts", report.events, report.millis, report.starts)?;
    }
    breaches.iter().try_for_each(|breach| writeln!(out, "  {breach}"))
}
