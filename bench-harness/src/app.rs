//! `ringbench`: from a command line to an exit code.

use crate::cli::{Cli, Command, ComponentArgs};
use crate::commands;
use crate::exit::{Exit, UsageError, of_error, print, tell};
use crate::load;
use crate::process::{Program, child};
use crate::pump;
use clap::{CommandFactory, FromArgMatches};
use engine::app::program::{ManualError, completions, manual, with_switches};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Runs the program with `args`, its own name first.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let said = with_switches(Cli::command()).try_get_matches_from(args);
    let cli = match said.and_then(|said| Cli::from_arg_matches(&said)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; what cannot be printed has no reader.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Good.into() };
        }
    };
    let done = match cli.command {
        Command::Component(component) => return run_component(component),
        Command::Quickstart(args) => commands::quickstart(&args),
        Command::Run(args) => commands::run(&args),
        Command::List(args) => commands::list(&args),
        Command::Targets(args) => commands::targets(&args),
        Command::Pump(args) => commands::pump(&args),
        Command::Completions { shell } => {
            print(&completions(Cli::command(), shell)).map(|()| Exit::Good).map_err(Into::into)
        }
        Command::Man { command, out } => man(command.as_deref(), out.as_deref()),
    };
    finish(done)
}

fn finish(done: anyhow::Result<Exit>) -> ExitCode {
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            tell(&format!("ringbench: {error:#}\n"));
            of_error(&error).into()
        }
    }
}

fn run_component(component: ComponentArgs) -> ExitCode {
    let ComponentArgs { parent, cores, program, args } = component;
    if let Err(error) = child::settle(parent, &cores) {
        tell(&format!("ringbench: {error}\n"));
        return Exit::Component.into();
    }
    let done = match child::program(&program) {
        Some(Program::Engine) => {
            let name = OsString::from("ringpost");
            return engine::app::main(std::iter::once(name).chain(args.into_iter().map(OsString::from)));
        }
        Some(Program::Pump) => pump::component_main(&args),
        Some(Program::Sink) => load::sink::main(&args),
        Some(Program::Send) => load::send::main(&args),
        Some(Program::Crowd) => load::crowd::main(&args),
        Some(Program::Foreign) => child::become_foreign(&args).map(|never| match never {}),
        None => Err(UsageError(format!("there is no component `{program}`")).into()),
    };
    finish(done)
}

fn man(of: Option<&str>, out: Option<&Path>) -> anyhow::Result<Exit> {
    let page = manual(Cli::command(), of, out).map_err(|error| match error {
        ManualError::Unknown(_) => UsageError(error.to_string()).into(),
        ManualError::Folder { .. } => anyhow::Error::new(error),
    })?;
    print(&page)?;
    Ok(Exit::Good)
}
