//! What every program of ours has alike: its version, and how its switches are said in the environment.

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Command};

/// The commit this was built from, where it is known.
pub const GIT: Option<&str> = option_env!("RINGPOST_GIT");
/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version that `--version` prints: with the commit, where that is known.
pub const FULL_VERSION: &str = env!("RINGPOST_VERSION");

/// `command` whose switches can be said in the environment as people do: `1`, `yes`, `on`, `true`, and their opposites.
pub fn with_switches(command: Command) -> Command {
    command.mut_subcommands(|sub| {
        sub.mut_args(|option| match option.get_action() {
            ArgAction::SetTrue if option.get_env().is_some() => option.value_parser(BoolishValueParser::new()),
            _ => option,
        })
    })
}
