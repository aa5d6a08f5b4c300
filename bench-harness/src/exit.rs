//! How a command ends, by what went wrong. The codes are the engine's: one place for all programs.

pub use engine::app::exit::{Exit, print, tell};

use crate::interrupt::Interrupted;

/// A command line that cannot be followed; its text is one line that says what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// How a command that could not be carried out ends: by the first cause that it knows. It found no regression, so it is
/// never [`Exit::Failed`]; what is nobody's command line is a part that failed, be it a process or the disk under the results.
pub fn of_error(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if cause.is::<UsageError>() {
            return Exit::Usage;
        }
        if cause.is::<Interrupted>() {
            return Exit::Invalid;
        }
    }
    Exit::Component
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
        assert_eq!(of_error(&anyhow::anyhow!("disk full")).code(), 4);
        assert_eq!(of_error(&anyhow::Error::new(Interrupted)).code(), 3);
    }
}
