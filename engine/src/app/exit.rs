//! How every program of ours ends (SIGINT and SIGTERM apart): ringpost, ringload, ringbench.

use std::io::{self, Write};
use std::process::ExitCode;

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done and good.
    Good,
    /// Ran, and the result is a regression or a failed check.
    Failed,
    /// Usage or configuration error; one line said which.
    Usage,
    /// The measurement is not valid.
    Invalid,
    /// A component failed to start or died.
    Component,
    /// A threshold given by the user was not met.
    Threshold,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Good => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Invalid => 3,
            Exit::Component => 4,
            Exit::Threshold => 99,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Says why in one line, and ends so.
pub(super) fn fail(exit: Exit, line: &str) -> Exit {
    tell(&format!("ringpost: {}\n", line.replace('\n', " ")));
    exit
}

/// People's text, on standard error. Where it cannot be written (it is closed, or a file on a full disk) nobody is told, and
/// nothing else is harmed: the standard macros would end the program by a panic.
pub fn tell(text: &str) {
    let _gone = io::stderr().write_all(text.as_bytes());
}

/// A result, on standard output. Who closed the pipe has read enough.
///
/// # Errors
/// The system's; the text names standard output.
pub fn print(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(io::Error::new(error.kind(), format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_that_scripts_know() {
        let all = [Exit::Good, Exit::Failed, Exit::Usage, Exit::Invalid, Exit::Component, Exit::Threshold];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 99]);
    }
}
