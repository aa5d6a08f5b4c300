//! `ringsim`: whole servers under one seed each. Exit 1 when something was not as promised.

#![forbid(unsafe_code)]

use clap::Parser;
use engine::app::exit::Exit;
use engine::sim::scenario::{Plan, Report, run, run_with_story};
use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
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
    let mut broken = 0_u64;
    for seed in seeds {
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let report = match arguments.seed {
            Some(_) => told(seed, plan),
            None => run(seed, plan),
        };
        broken += u64::from(!report.breaches.is_empty());
        if arguments.json {
            reports.push(report);
        } else if print(&report, arguments.seed.is_some()).is_err() {
            break;
        }
    }
    if arguments.json {
        let document = serde_json::json!({ "broken": broken, "seeds": reports });
        // Nobody reading is no failure of ours.
        let _gone = writeln!(std::io::stdout(), "{document}");
    }
    if broken == 0 { Exit::Good.into() } else { Exit::Failed.into() }
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
