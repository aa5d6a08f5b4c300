//! `ringsim`: whole servers under one seed each. Exit 1 when something was not as promised.

#![forbid(unsafe_code)]

use clap::{CommandFactory, Parser, Subcommand};
use engine::app::exit::{self, Exit};
use engine::app::interrupt::on_interrupt;
use engine::app::program;
use engine::sim::scenario::{Plan, Report, run, run_with_story};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs whole servers, their senders and next hops in a simulated world: clock, network, disks and crashes drawn from a seed.
#[derive(Debug, Parser)]
#[command(
    name = "ringsim",
    version = program::FULL_VERSION,
    args_conflicts_with_subcommands = true,
    after_help = "Exit code 1 when something was not as promised. SIGINT and SIGTERM end it behind the seeds that run.\n\n\
        Examples:\n  ringsim --seeds 0..1000\n  ringsim --seed 42\n  ringsim --minutes 10 --json"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
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
    /// In one world of so many, by its seed, a domain takes nothing before peace, so that sparse segments are rewritten; 0: in none
    #[arg(long, value_name = "N", default_value_t = Plan::default().stays_once_in, env = "RINGSIM_STAYS_ONCE_IN")]
    stays_once_in: u64,
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

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// What all seeds came to. The keys that every result of ours has come first.
#[derive(Debug, Serialize)]
struct Summary {
    schema: u32,
    tool: &'static str,
    version: &'static str,
    git: Option<&'static str>,
    started: String,
    took_s: f64,
    /// Whether a signal ended it before all seeds were run.
    interrupted: bool,
    broken: usize,
    messages: usize,
    faults: u64,
    /// How many were run; all of them in `seeds`, where JSON was asked for.
    seeds_run: usize,
    seeds: Vec<Report>,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "two numbers, the first below the second: 0..1000".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(command) = &arguments.command {
        return explain(command).into();
    }
    if arguments.list_bugs {
        list_bugs();
        return Exit::Good.into();
    }
    match plan(arguments.bug.as_deref()) {
        Ok(plan) => simulate(&arguments, Plan { stays_once_in: arguments.stays_once_in, ..plan }).into(),
        Err(problem) => {
            exit::tell(&format!("ringsim: --bug: {problem}\n"));
            Exit::Usage.into()
        }
    }
}

fn explain(command: &Command) -> Exit {
    let text = match command {
        Command::Completions { shell } => Ok(program::completions(Arguments::command(), *shell)),
        Command::Man => program::manual(Arguments::command(), None, None).map_err(|error| error.to_string()),
    };
    match text.and_then(|text| exit::print(&text).map_err(|error| error.to_string())) {
        Ok(()) => Exit::Good,
        Err(error) => {
            exit::tell(&format!("ringsim: {error}\n"));
            Exit::Component
        }
    }
}

fn simulate(arguments: &Arguments, plan: Plan) -> Exit {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    if let Err(error) = on_interrupt(move || told.store(true, Ordering::Relaxed)) {
        exit::tell(&format!("ringsim: no signals: {error}\n"));
        return Exit::Component;
    }
    let began = Instant::now();
    let mut sum = Summary::new();
    let until = arguments.minutes.map(|minutes| began + Duration::from_secs(60 * minutes));
    let seeds = match (&arguments.seeds, arguments.seed) {
        (_, Some(seed)) => seed..seed + 1,
        (Some(seeds), None) => seeds.clone(),
        (None, None) if until.is_some() => 0..u64::MAX,
        (None, None) => 0..100,
    };
    let is_heard = AtomicBool::new(true);
    let see = |report: Report| {
        if !arguments.json && print(&report, arguments.seed.is_some()).is_err() {
            is_heard.store(false, Ordering::Relaxed);
        }
        sum.add(report, arguments.json);
    };
    let is_over = || {
        let is_late = until.is_some_and(|until| Instant::now() >= until);
        is_late || stop.load(Ordering::Relaxed) || !is_heard.load(Ordering::Relaxed)
    };
    let jobs = arguments.jobs.map_or_else(cores, usize::from);
    let one = |seed| if arguments.seed.is_some() { told_of(seed, plan) } else { run(seed, plan) };
    run_all(seeds, is_over, jobs, one, see);
    sum.took_s = began.elapsed().as_secs_f64();
    sum.interrupted = stop.load(Ordering::Relaxed);
    sum.show(arguments.json)
}

impl Summary {
    fn new() -> Self {
        Self {
            schema: 1,
            tool: "ringsim",
            version: program::VERSION,
            git: program::GIT,
            started: jiff::Timestamp::now().to_string(),
            took_s: 0.0,
            interrupted: false,
            broken: 0,
            messages: 0,
            faults: 0,
            seeds_run: 0,
            seeds: Vec::new(),
        }
    }

    /// Counts a seed; `keep`s all of it, or what shows a broken one again.
    fn add(&mut self, report: Report, keep: bool) {
        self.seeds_run += 1;
        self.messages += report.accounts.messages;
        self.faults += report.faults;
        self.broken += usize::from(!report.breaches.is_empty());
        if keep || (self.broken == 1 && !report.breaches.is_empty()) {
            self.seeds.push(report);
        }
    }

    fn show(&self, json: bool) -> Exit {
        let Self { seeds_run, broken, messages, faults, took_s, .. } = self;
        let early = if self.interrupted { "interrupted: " } else { "" };
        exit::tell(&format!(
            "{early}{seeds_run} seeds in {took_s:.1} s: {} hold, {broken} broken; {messages} messages, {faults} faults\n",
            seeds_run - broken
        ));
        if let Some(first) = self.seeds.iter().find(|report| !report.breaches.is_empty()) {
            let commit = self.git.unwrap_or("unknown");
            exit::tell(&format!("broken at commit {commit}; to see one again: ringsim --seed {}\n", first.seed));
        }
        if json && let Err(error) = exit::print(format!("{}\n", serde_json::json!(self)).as_bytes()) {
            exit::tell(&format!("ringsim: {error}\n"));
            return Exit::Component;
        }
        if *broken == 0 { Exit::Good } else { Exit::Failed }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs seeds on so many threads until all are run or it is over. `see` sees them in order.
fn run_all(
    seeds: Range<u64>,
    is_over: impl Fn() -> bool + Sync,
    jobs: usize,
    run: impl Fn(u64) -> Report + Sync,
    mut see: impl FnMut(Report),
) {
    let next = AtomicU64::new(seeds.start);
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
                see(report);
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
fn told_of(seed: u64, plan: Plan) -> Report {
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
        let Report { events, millis, starts, rewritten, .. } = report;
        writeln!(out, "{accounts}; {events} events in {millis} ms, {starts} starts, {rewritten} segments rewritten")?;
    }
    breaches.iter().try_for_each(|breach| writeln!(out, "  {breach}"))
}
