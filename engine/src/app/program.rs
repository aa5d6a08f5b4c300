//! What every program of ours has alike: its version, how its switches are said in the environment, its manual pages and
//! completions.

use super::exit::Exit;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use std::io;
use std::path::{Path, PathBuf};

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

/// The script by which `shell` completes the words of `command`.
pub fn completions(mut command: Command, shell: Shell) -> Vec<u8> {
    let (name, mut text) = (command.get_name().to_owned(), Vec::new());
    clap_complete::generate(shell, &mut command, name, &mut text);
    text
}

/// A manual page that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ManualError {
    /// Nothing has that name.
    #[error("man: no such command; say one of {0}")]
    Unknown(String),
    /// The folder.
    #[error("cannot write {}: {error}", .folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl ManualError {
    /// How a program ends that was asked for it.
    pub fn exit(&self) -> Exit {
        match self {
            ManualError::Unknown(_) => Exit::Usage,
            ManualError::Folder { .. } => Exit::Component,
        }
    }
}

/// The manual page, in roff, of the program `command` or of the one of its commands that is named; with a folder nothing, and
/// there the pages of all, as `ringpost.1`, `ringpost-run.1`.
///
/// # Errors
/// No command has that name, or the folder cannot be made or written.
pub fn manual(mut command: Command, of: Option<&str>, folder: Option<&Path>) -> Result<Vec<u8>, ManualError> {
    if let Some(folder) = folder {
        let made = std::fs::create_dir_all(folder);
        let written = made.and_then(|()| clap_mangen::generate_to(command, folder));
        return written.map(|()| Vec::new()).map_err(|error| ManualError::Folder { folder: folder.to_owned(), error });
    }
    // Commands know their full names from then on.
    command.build();
    let known = command.get_subcommands().filter(|known| !known.is_hide_set() && known.get_name() != "help");
    let known: Vec<&Command> = known.collect();
    let unknown = || ManualError::Unknown(known.iter().map(|known| known.get_name()).collect::<Vec<_>>().join(", "));
    let page = match of {
        None => &command,
        Some(of) => known.iter().find(|known| known.get_name() == of).ok_or_else(unknown)?,
    };
    let mut text = Vec::new();
    // Memory takes everything.
    let _ = Man::new(page.clone()).render(&mut text);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_a_page_of_its_own() {
        let program = || Command::new("ring").subcommand(Command::new("turn").about("Turns")).about("A ring");
        let page = |of| manual(program(), of, None).map(|page| String::from_utf8(page).expect("text"));
        assert!(page(None).expect("the program's").contains("ring\\-turn"));
        assert!(page(Some("turn")).expect("the command's").contains("ring\\-turn \\- Turns"));
        let error = page(Some("spin")).expect_err("no such command");
        assert_eq!((error.to_string().as_str(), error.exit()), ("man: no such command; say one of turn", Exit::Usage));
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("man1");
        assert!(manual(program(), None, Some(&out)).expect("written").is_empty());
        for name in ["ring.1", "ring-turn.1"] {
            assert!(out.join(name).exists(), "{name}");
        }
        let error = manual(program(), None, Some(&out.join("ring.1"))).expect_err("no folder");
        assert_eq!(error.exit(), Exit::Component);
    }
}
