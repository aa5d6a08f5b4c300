//! The command line of `ringload`: arguments to options, outcomes to text, JSON, files and exit codes.

mod run_file;
mod send;
mod sink;
mod sinks;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use engine::app::exit::{self, Exit};
use engine::app::program::{ManualError, completions, manual, with_switches};
use engine::io::choice::DriverChoice;
use engine::io::launch::LaunchError;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An open-loop SMTP load generator, and a sink that misbehaves on request.
#[derive(Debug, Parser)]
#[command(name = "ringload", version = engine::app::program::FULL_VERSION, about, max_term_width = 120)]
#[command(
    after_help = "Exit codes: 0 good, 2 usage, 3 the measurement is not valid, 4 a component failed, 99 a threshold was not met.\n\n\
Examples:\n  \
ringload sink --listen 127.0.0.1:2525\n  \
ringload send --target 127.0.0.1:2525 -r 500/s -d 10s\n  \
ringload send --help"
)]
struct Ringload {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send messages on a schedule and measure from when each was due
    Send(Box<send::SendArgs>),
    /// Accept messages, write down what arrived, misbehave on request
    Sink(sink::SinkArgs),
    /// Print the completion script of a shell
    #[command(after_help = "Examples:\n  ringload completions bash > ringload.bash")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of the program or of a command, or write all of them into a folder
    #[command(after_help = "Examples:\n  ringload man send | man -l -\n  ringload man --out man/")]
    Man {
        /// The command; the program itself without it
        command: Option<String>,
        /// Write ringload.1, ringload-send.1 and so on here instead
        #[arg(long, env = "RINGLOAD_OUT", value_name = "DIR", conflicts_with = "command")]
        out: Option<PathBuf>,
    },
}

/// Threads and their driver.
#[derive(Debug, Clone, Args)]
struct Threads {
    /// How the kernel is asked: auto, uring, tokio-uring or epoll; a named one that is refused here is an error
    #[arg(long, env = "RINGLOAD_DRIVER", default_value = "auto")]
    driver: DriverChoice,
    /// Threads, each with its own connections
    #[arg(long, env = "RINGLOAD_SHARDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: u16,
    /// Processors to pin the threads to, in turn: 1 or 0,2
    #[arg(long, env = "RINGLOAD_CORES", value_delimiter = ',', value_parser = core)]
    cores: Vec<usize>,
}

impl Threads {
    fn cores(&self) -> Vec<Option<usize>> {
        let pin = |shard: usize| (!self.cores.is_empty()).then(|| self.cores[shard % self.cores.len()]);
        (0..usize::from(self.shards)).map(pin).collect()
    }
}

/// A processor that this process may run on.
fn core(text: &str) -> Result<usize, String> {
    let ours: Vec<usize> = rustix::thread::sched_getaffinity(None)
        .map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
        .unwrap_or_default();
    match text.parse() {
        Ok(core) if ours.contains(&core) => Ok(core),
        _ => {
            let ours: Vec<String> = ours.iter().map(usize::to_string).collect();
            let ours = ours.join(",");
            Err(format!("`{text}` is not a processor that this process may run on: write some of {ours}"))
        }
    }
}

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The caller's to mend.
    #[error("{0}")]
    Usage(String),
    /// Something did not start, or died.
    #[error("{0}")]
    Component(String),
    /// What was measured could not be written: where, and why.
    #[error("cannot write {0}")]
    Output(String),
}

impl Failure {
    fn of_launch(error: &LaunchError) -> Self {
        match error {
            LaunchError::Refused { .. } => Failure::Usage(error.to_string()),
            error => Failure::Component(error.to_string()),
        }
    }

    fn component(error: impl ToString) -> Self {
        Failure::Component(error.to_string())
    }

    fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) => Exit::Usage,
            Failure::Component(_) | Failure::Output(_) => Exit::Component,
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    // clap prints usage errors itself and ends with 2, help and version with 0.
    let said = command().get_matches();
    let ringload = Ringload::from_arg_matches(&said).unwrap_or_else(|error| error.exit());
    let ended = match ringload.command {
        Command::Send(args) => send::run(*args, said.subcommand_matches("send").expect("it was said")),
        Command::Sink(args) => sink::run(args),
        Command::Completions { shell } => print(&completions(command(), shell)).map(|()| Exit::Good),
        Command::Man { command, out } => man(command.as_deref(), out.as_deref()),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            exit::tell(&format!("ringload: {failure}\n"));
            failure.exit().into()
        }
    }
}

fn command() -> clap::Command {
    with_switches(Ringload::command())
}

fn man(of: Option<&str>, out: Option<&Path>) -> Result<Exit, Failure> {
    let page = manual(command(), of, out).map_err(|error| match error {
        ManualError::Unknown(_) => Failure::Usage(error.to_string()),
        ManualError::Folder { .. } => Failure::component(error),
    })?;
    print(&page).map(|()| Exit::Good)
}

/// Writes a result on standard output.
fn print(text: &[u8]) -> Result<(), Failure> {
    exit::print(text).map_err(|error| Failure::Output(error.to_string()))
}

/// Whether people see standard error: progress is drawn there, or told in plain lines.
fn draws() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Ringload::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_by_examples() {
        for command in Ringload::command().get_subcommands_mut() {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
            assert!(help.contains(&format!("Examples:\n  ringload {name}")), "{help}");
        }
    }

    #[test]
    fn every_long_option_is_also_an_environment_variable() {
        for command in Ringload::command().get_subcommands() {
            for option in command.get_arguments().filter(|option| option.get_long().is_some_and(|long| long != "help"))
            {
                let env = option.get_env().and_then(|env| env.to_str()).unwrap_or_default();
                assert!(env.starts_with("RINGLOAD_"), "{} {:?}", command.get_name(), option.get_long());
            }
        }
    }
}
