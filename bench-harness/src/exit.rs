//! How a program of ours ends (interfaces.md, "Exit codes"), in one place.

use std::process::ExitCode;

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done and good.
    Good,
    /// Ran, and the result is a regression or a failed check.
    Failed,
    /// The command line or a file is wrong.
    Usage,
    /// The measurement is not valid; why was printed.
    Invalid,
    /// A component failed to start or died.
    Component,
}

impl Exit {
    /// The number that scripts see.
    pub fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::Component => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// A command line that cannot be followed; its text is one line that says what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// How a command that failed with `error` ends: by the first cause that it knows.
pub fn of_error(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if cause.is::<crate::process::ComponentError>() {
            return Exit::Component;
        }
        if cause.is::<UsageError>() {
            return Exit::Usage;
        }
    }
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_ends_by_its_cause() {
        let garbled = crate::process::ComponentError::Garbled { name: "hub-1".into(), line: "x".into() };
        assert_eq!(of_error(&anyhow::Error::new(garbled).context("starting")).code(), 4);
        let usage: anyhow::Result<()> = Err(UsageError("no scenario is called x".into())).context("reading");
        assert_eq!(of_error(&usage.expect_err("made so")).code(), 2);
        assert_eq!(of_error(&anyhow::anyhow!("disk full")).code(), 1);
    }
}
