//! The hidden subcommand that a component runs under: `ringbench component [--cores 0,1] --parent PID engine|sink|send|pump|crowd|foreign -- ARGS…`.
//!
//! Before anything else the child ties its life to its parent's and takes its cores, so that every thread made later
//! inherits them.

use super::{Program, Spec};
use crate::exit::print;
use anyhow::Context;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::os::unix::process::CommandExt;
use std::process;

/// The command line that starts `spec` under this program.
pub fn arguments(spec: &Spec) -> Vec<String> {
    let mut arguments = vec!["component".to_owned(), "--parent".to_owned(), process::id().to_string()];
    if !spec.cores.is_empty() {
        let cores: Vec<String> = spec.cores.iter().map(usize::to_string).collect();
        arguments.extend(["--cores".to_owned(), cores.join(",")]);
    }
    arguments.extend([spec.program.name().to_owned(), "--".to_owned()]);
    arguments.extend(spec.args.iter().cloned());
    arguments
}

/// The program that the hidden subcommand's word names.
pub fn program(word: &str) -> Option<Program> {
    use Program::{Crowd, Engine, Foreign, Pump, Send, Sink};
    [Engine, Sink, Send, Pump, Crowd, Foreign].into_iter().find(|program| program.name() == word)
}

/// Becomes another program: `args` are the folders of its libraries (empty for the system's), its path, its arguments.
/// It keeps our cores, and dies with our parent as we do.
///
/// # Errors
/// It cannot be started; else this never returns.
pub fn become_foreign(args: &[String]) -> anyhow::Result<std::convert::Infallible> {
    let [libraries, program, rest @ ..] = args else {
        return Err(crate::exit::UsageError("foreign: its libraries and its path are wanted".into()).into());
    };
    let mut command = process::Command::new(program);
    command.args(rest);
    if !libraries.is_empty() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    say("ready {}")?;
    Err(command.exec()).with_context(|| format!("starting {program}"))
}

/// A line for our parent, on stdout.
///
/// # Errors
/// The system's.
pub fn say(line: &str) -> io::Result<()> {
    print(format!("{line}\n").as_bytes())
}

/// Makes this process die with its parent and stay on `cores` (all of them when empty).
///
/// # Errors
/// The parent is gone already, or a core does not exist.
pub fn settle(parent: u32, cores: &[usize]) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above.
    if getppid().is_none_or(|now| now.as_raw_nonzero().get().cast_unsigned() != parent) {
        return Err(io::Error::other("the parent has ended"));
    }
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for core in cores {
        if *core >= CpuSet::MAX_CPU {
            return Err(io::Error::other(format!("there is no core {core}")));
        }
        set.set(*core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_becomes_a_hidden_command_line() {
        let spec = Spec {
            name: "hub-1".into(),
            program: Program::Engine,
            cores: vec![0, 2],
            args: vec!["run".into(), "--role".into(), "hub".into()],
        };
        let line = arguments(&spec).join(" ");
        assert_eq!(line, format!("component --parent {} --cores 0,2 engine -- run --role hub", process::id()));
        assert_eq!(program("sink"), Some(Program::Sink));
        assert_eq!(program("sh"), None);
    }

    #[test]
    fn a_stranger_is_no_parent() {
        assert!(settle(1 << 30, &[]).is_err());
    }
}
