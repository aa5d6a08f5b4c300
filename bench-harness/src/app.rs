//! `ringbench`: from a command line to an exit code.

use crate::cli::{Cli, Command, ComponentArgs, PumpArgs};
use crate::exit::{Exit, UsageError, of_error};
use crate::folder::ResultFolder;
use crate::html::text::{duration_us, or_none, rate};
use crate::interrupt::Interrupt;
use crate::load;
use crate::process::{Program, child};
use crate::pump::{self, PumpFigures, PumpPlan};
use clap::{CommandFactory, Parser};
use loadgen::units::{parse_bytes, parse_span};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Runs the program with `args`, its own name first.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; what cannot be printed has no reader.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Good.into() };
        }
    };
    let done = match cli.command {
        Command::Component(component) => return run_component(component),
        Command::Pump(pump) => run_pump(&pump),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "ringbench", &mut std::io::stdout());
            Ok(Exit::Good)
        }
        Command::Man => print_manual(),
        Command::Quickstart(_) | Command::Run(_) | Command::List(_) | Command::Targets(_) => {
            Err(UsageError("this build has no scenarios".to_owned()).into())
        }
    };
    finish(done)
}

fn finish(done: anyhow::Result<Exit>) -> ExitCode {
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("ringbench: {error:#}");
            of_error(&error).into()
        }
    }
}

fn run_component(component: ComponentArgs) -> ExitCode {
    let ComponentArgs { parent, cores, program, args } = component;
    if let Err(error) = child::settle(parent, &cores) {
        eprintln!("ringbench: {error}");
        return Exit::Component.into();
    }
    let done = match child::program(&program) {
        Some(Program::Pump) => pump::component_main(&args),
        Some(Program::Sink) => load::sink::main(&args),
        Some(Program::Engine | Program::Send) | None => {
            Err(UsageError(format!("there is no component `{program}`")).into())
        }
    };
    finish(done)
}

fn run_pump(args: &PumpArgs) -> anyhow::Result<Exit> {
    let usage = |error: loadgen::units::UnitError| UsageError(error.to_string());
    let plan = PumpPlan {
        connections: args.connections as usize,
        frame_bytes: parse_bytes(&args.size).map_err(usage)?.max(1) as usize,
        seconds: parse_span(&args.duration).map_err(usage)?.as_secs_f64(),
        durability: args.engine.durability.clone(),
        driver: args.engine.driver.clone(),
        shards: usize::from(args.engine.shards),
    };
    let folder = ResultFolder::make(args.out.out.as_deref(), "pump")?;
    let figures = pump::run(&plan, folder.path(), &Interrupt::watch())?;
    folder.write_json("pump.json", &figures)?;
    let mut out = std::io::stdout().lock();
    if args.out.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&figures)?)?;
    } else {
        out.write_all(pump_in_words(&plan, &figures).as_bytes())?;
    }
    Ok(Exit::Good)
}

fn pump_in_words(plan: &PumpPlan, figures: &PumpFigures) -> String {
    let times: Vec<String> =
        figures.latency_us.named().iter().map(|(name, us)| format!("{name} {}", or_none(*us, duration_us))).collect();
    format!(
        "pump: {} frames of {} octets a second over {} connections, durability {}, driver {}\n\
         CPU   {} a frame (source and sink {})\n\
         time  {}\n",
        rate(figures.rate_per_s),
        plan.frame_bytes,
        plan.connections,
        figures.durability,
        figures.driver,
        duration_us(figures.relay_cpu_us),
        duration_us(figures.load_cpu_us),
        times.join(" · ")
    )
}

fn print_manual() -> anyhow::Result<Exit> {
    clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
    Ok(Exit::Good)
}
