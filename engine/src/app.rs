//! The program `ringpost`: a command line, and what each command does with the rest of the crate. `ringbench` starts
//! servers by calling [`main`] in a process of its own.
//!
//! Everything a person sees on failure is one line on standard error that names what, where and what would be right; exit
//! codes are those of [`Exit`].

// The outside of everything: files, the environment, the process.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod check;
mod cli;
mod data_dir;
pub mod exit;
pub mod interrupt;
mod message;
mod process;
pub mod program;
mod queue;
mod run;
mod sources;
mod spool;

pub use cli::command;
pub use exit::Exit;
pub use program::{GIT, VERSION};

use clap::FromArgMatches;
use cli::{Cli, Command, SpoolCommand, StatusFlags};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The whole program: `args` begins with its name.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let parsed = command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let exit = match parsed {
        Ok(cli) => perform(cli.command),
        Err(error) => {
            // To a closed pipe nothing can be said.
            let _closed = error.print();
            if error.use_stderr() { Exit::Usage } else { Exit::Good }
        }
    };
    exit.into()
}

fn perform(command: Command) -> Exit {
    match command {
        Command::Run(flags) => run::run(&flags),
        Command::Check(flags) => check::check(&flags),
        Command::Status(flags) => status(&flags),
        Command::Queue { command } => queue::queue(&command),
        Command::Message { command } => message::message(&command),
        Command::Spool { command: SpoolCommand::Check(flags) } => spool::check(&flags),
        Command::Completions { shell } => print(&program::completions(cli::command(), shell)),
        Command::Man { command, out } => man(command.as_deref(), out.as_deref()),
    }
}

/// `ringpost status`: how a running server stands.
fn status(flags: &StatusFlags) -> Exit {
    let path = match sources::admin_socket("status", &flags.server) {
        Ok(path) => path,
        Err(line) => return exit::fail(Exit::Usage, &line),
    };
    let status = match crate::admin::status(&path) {
        Ok(status) => status,
        Err(error) => return exit::fail(Exit::Component, &error.to_string()),
    };
    let text = if flags.json {
        match serde_json::to_string_pretty(&status) {
            Ok(text) => text + "\n",
            Err(error) => return exit::fail(Exit::Component, &format!("the status cannot be written: {error}")),
        }
    } else {
        crate::admin::status_text(&status)
    };
    match print(text.as_bytes()) {
        Exit::Good if !status.healthy => Exit::Failed,
        exit => exit,
    }
}

/// `ringpost man`: one page, or all of them.
fn man(of: Option<&str>, out: Option<&Path>) -> Exit {
    match program::manual(command(), of, out) {
        Ok(page) => print(&page),
        Err(error) => exit::fail(error.exit(), &error.to_string()),
    }
}

/// Writes a result.
fn print(text: &[u8]) -> Exit {
    match exit::print(text) {
        Err(error) => exit::fail(Exit::Component, &error.to_string()),
        Ok(()) => Exit::Good,
    }
}
