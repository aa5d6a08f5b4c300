//! The command line. Every option is an environment variable `RINGPOST_*` too.

use super::program::{FULL_VERSION, with_switches};
use crate::config::Overrides;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  ringpost run --config /etc/ringpost.toml
  ringpost run --role hub --listen 127.0.0.1:2525 --next-hop 127.0.0.1:2600 --data-dir data
  ringpost run --role frontend --listen 127.0.0.1:2025 --next-hop 127.0.0.1:2525,127.0.0.1:2526
  ringpost run --role mailbox-delivery --listen 127.0.0.1:4750 --store null
  ringpost check --config /etc/ringpost.toml
  ringpost check --print-defaults > ringpost.toml
  ringpost status --config /etc/ringpost.toml --json
  ringpost queue list --config /etc/ringpost.toml --filter \"Status -eq 'Retry'\"
  ringpost completions bash > /etc/bash_completion.d/ringpost

Exit codes: 0 good, 1 status of a server that is not healthy, 2 usage or configuration, 4 a component failed or died.";

const RUN_EXAMPLES: &str = "\
Examples:
  ringpost run --config /etc/ringpost.toml
  ringpost run --config /etc/ringpost.toml --durability os --driver epoll
  ringpost run --role hub --listen 127.0.0.1:2525 --next-hop 127.0.0.1:2600 --data-dir data

The first line on standard output is `ready {\"listen\":[...],\"metrics\":...,\"driver\":...,\"commit\":...}`.
SIGTERM and SIGINT drain within drain_wait, SIGHUP reloads the routes of the file.";

const CHECK_EXAMPLES: &str = "\
Examples:
  ringpost check --config ringpost.toml
  ringpost check --config ringpost.toml --json
  ringpost check --print-defaults --profile rfc";

const STATUS_EXAMPLES: &str = "\
Examples:
  ringpost status --admin /run/ringpost/admin.sock
  ringpost status --config /etc/ringpost.toml --json

Exit code 1 when the server answers and is not healthy, 4 when none answers.";

const QUEUE_EXAMPLES: &str = "\
Examples:
  ringpost queue list --data-dir /var/lib/ringpost
  ringpost queue list --config ringpost.toml --filter \"MessageCount -gt '100' -and Status -eq 'Retry'\" --sort -MessageCount
  ringpost queue show smart --config ringpost.toml
  ringpost queue suspend smart --config ringpost.toml
  ringpost queue retry 'hub1.example\\*' --config ringpost.toml

A queue is named SERVER\\NAME or NAME; * stands for anything. A filter is Property -op 'value', joined by -and, with the
operators -eq -ne -gt -ge -lt -le -like; `queue show` prints the properties there are. Exit code 1 when nothing is meant or the
server refuses, 4 when none answers.";

const MESSAGE_EXAMPLES: &str = "\
Examples:
  ringpost message list --config ringpost.toml --queue smart
  ringpost message list --config ringpost.toml --filter \"FromAddress -like '*@spam.example' -and Size -gt '100000'\"
  ringpost message show 1099511627776 --config ringpost.toml
  ringpost message remove --config ringpost.toml --filter \"Subject -eq 'test'\" --ndr no
  ringpost message export smart\\1099511627776 --config ringpost.toml --out copy.eml

A message is named SERVER\\QUEUE\\NUMBER, QUEUE\\NUMBER or, in all its queues, NUMBER. Run it on the server itself, as its user:
what is not in its memory is read from its spool. Exit code 1 when nothing is meant or something stays, 4 when no server answers.";

const SPOOL_CHECK_EXAMPLES: &str = "\
Examples:
  ringpost spool check --data-dir /var/lib/ringpost
  ringpost spool check --data-dir /var/lib/ringpost --json

Reads what a start would read and writes nothing: of segments that were closed in good order heads and index, of all others every
record. Rot in the content of a closed segment is found when that message is delivered. Exit code 1 when there is damage, 2 when
a server runs on the folder, or it is no spool of this version.";

/// The command line with everything in it, for parsing, completions and manual pages.
pub fn command() -> clap::Command {
    with_switches(Cli::command().version(FULL_VERSION))
}

/// An SMTP transport engine.
#[derive(Debug, Parser)]
#[command(name = "ringpost", after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the roles of a configuration, or one role by flags, in the foreground
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunFlags>),
    /// Say everything that is wrong with a configuration; change nothing
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckFlags),
    /// Say how a running server stands
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusFlags),
    /// List the queues of a running server, suspend, resume and retry them
    #[command(after_help = QUEUE_EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
    Queue {
        #[command(subcommand)]
        command: QueueCommand,
    },
    /// List single messages of a running server, take them out, copy them into files
    #[command(after_help = MESSAGE_EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
    Message {
        #[command(subcommand)]
        command: MessageCommand,
    },
    /// Look at the spool of a server that does not run
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Spool {
        #[command(subcommand)]
        command: SpoolCommand,
    },
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page of the program or of a command, or write all of them into a folder
    Man {
        /// The command; the program itself without it
        command: Option<String>,
        /// Write ringpost.1, ringpost-run.1 and so on here instead
        #[arg(long, env = "RINGPOST_OUT", value_name = "DIR", conflicts_with = "command")]
        out: Option<PathBuf>,
    },
}

/// Flags of `ringpost run`. They override the file.
#[derive(Debug, Args)]
pub(super) struct RunFlags {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "RINGPOST_CONFIG")]
    pub config: Option<PathBuf>,
    /// The service behind the listener: hub, frontend or mailbox-delivery
    #[arg(long, value_name = "ROLE", env = "RINGPOST_ROLE")]
    role: Option<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDR", env = "RINGPOST_LISTEN", value_delimiter = ',')]
    listen: Vec<String>,
    /// The hosts of the smart host; for a front end its hubs
    #[arg(long, value_name = "ADDR", env = "RINGPOST_NEXT_HOP", value_delimiter = ',')]
    next_hop: Vec<String>,
    /// The folder of the spool
    #[arg(long, value_name = "DIR", env = "RINGPOST_DATA_DIR")]
    data_dir: Option<String>,
    /// What 250 means: none, os or disk
    #[arg(long, value_name = "MODE", env = "RINGPOST_DURABILITY")]
    durability: Option<String>,
    /// Threads that carry mail, or auto
    #[arg(long, value_name = "COUNT", env = "RINGPOST_SHARDS")]
    shards: Option<String>,
    /// Which I/O: auto, uring, tokio-uring or epoll; a named one that is refused ends the start
    #[arg(long, value_name = "DRIVER", env = "RINGPOST_DRIVER")]
    driver: Option<String>,
    /// Whose defaults hold: exchange, rfc or bench
    #[arg(long, value_name = "PROFILE", env = "RINGPOST_PROFILE")]
    profile: Option<String>,
    /// Clients that may relay, instead of those on loopback
    #[arg(long, value_name = "CIDR", env = "RINGPOST_RELAY_FROM", value_delimiter = ',')]
    relay_from: Vec<String>,
    /// The socket of `ringpost status`, or off
    #[arg(long, value_name = "UNIX-PATH", env = "RINGPOST_ADMIN")]
    admin: Option<String>,
    /// Where /metrics is served, or off
    #[arg(long, value_name = "ADDR", env = "RINGPOST_METRICS")]
    metrics: Option<String>,
    /// Where mailbox delivery puts messages: a folder, or null; without a file all mail has one mailbox, `everybody`
    #[arg(long, value_name = "DIR|null", env = "RINGPOST_STORE")]
    store: Option<String>,
    /// Run as root all the same
    #[arg(long, env = "RINGPOST_ALLOW_ROOT")]
    pub allow_root: bool,
}

impl RunFlags {
    /// What the flags say about the configuration.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            role: self.role.clone(),
            listen: self.listen.clone(),
            next_hop: self.next_hop.clone(),
            data_dir: self.data_dir.clone(),
            durability: self.durability.clone(),
            shards: self.shards.clone(),
            driver: self.driver.clone(),
            profile: self.profile.clone(),
            relay_from: self.relay_from.clone(),
            admin: self.admin.clone(),
            metrics: self.metrics.clone(),
            store: self.store.clone(),
        }
    }
}

/// Flags of `ringpost check`.
#[derive(Debug, Args)]
pub(super) struct CheckFlags {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "RINGPOST_CONFIG", required_unless_present = "print_defaults")]
    pub config: Option<PathBuf>,
    /// Print every key with its meaning, its range and its default, as a file to begin with
    #[arg(long, env = "RINGPOST_PRINT_DEFAULTS")]
    pub print_defaults: bool,
    /// Whose defaults are printed
    #[arg(long, value_name = "PROFILE", env = "RINGPOST_PROFILE", default_value = "exchange", value_parser = ["exchange", "rfc", "bench"])]
    pub profile: String,
    /// Say the result as one JSON document
    #[arg(long, env = "RINGPOST_JSON")]
    pub json: bool,
}

/// Flags of `ringpost status`.
#[derive(Debug, Args)]
pub(super) struct StatusFlags {
    #[command(flatten)]
    pub server: ServerFlags,
    /// Say the result as one JSON document
    #[arg(long, env = "RINGPOST_JSON")]
    pub json: bool,
}

/// What is done with queues.
#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// List queues
    List(QueueFlags),
    /// Say everything about queues
    Show(QueueFlags),
    /// Let nothing leave queues any more, now and after a restart; they go on taking messages in
    Suspend(QueueFlags),
    /// Let suspended queues go on
    Resume(QueueFlags),
    /// Try queues in Retry at once
    Retry(QueueFlags),
}

/// Which queues are meant, and how they are told.
#[derive(Debug, Args)]
pub(super) struct QueueFlags {
    /// The queue: SERVER\NAME or NAME, * for anything
    #[arg(value_name = "QUEUE")]
    pub identity: Option<String>,
    /// Only queues of which this holds: Property -op 'value', joined by -and
    #[arg(long, value_name = "FILTER", env = "RINGPOST_FILTER")]
    pub filter: Option<String>,
    /// Only these: a delivery type, Empty, Internal or External
    #[arg(long, value_name = "KIND", env = "RINGPOST_INCLUDE", value_delimiter = ',')]
    pub include: Vec<String>,
    /// None of these: a delivery type, Empty, Internal or External
    #[arg(long, value_name = "KIND", env = "RINGPOST_EXCLUDE", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// The order: +Property rises, -Property falls
    #[arg(long, value_name = "KEYS", env = "RINGPOST_SORT", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", env = "RINGPOST_RESULT_SIZE", default_value_t = 1_000)]
    pub result_size: usize,
    #[command(flatten)]
    pub server: ServerFlags,
    /// Say the result as one JSON document
    #[arg(long, env = "RINGPOST_JSON")]
    pub json: bool,
}

/// What is done with messages.
#[derive(Debug, Subcommand)]
pub(super) enum MessageCommand {
    /// List messages
    List(MessageFlags),
    /// Say everything about messages
    Show(MessageFlags),
    /// Take messages out of their queues, now and for ever
    Remove(RemoveFlags),
    /// Write a copy of a message into a file; it stays in its queue
    Export(ExportFlags),
}

/// Which messages are meant, and how they are told.
#[derive(Debug, Args)]
pub(super) struct MessageFlags {
    /// The message: SERVER\QUEUE\NUMBER, QUEUE\NUMBER or NUMBER
    #[arg(value_name = "MESSAGE", conflicts_with_all = ["filter", "queue"])]
    pub identity: Option<String>,
    /// Only messages of this queue: SERVER\NAME or NAME, * for anything
    #[arg(long, value_name = "QUEUE", env = "RINGPOST_QUEUE")]
    pub queue: Option<String>,
    /// Only messages of which this holds: Property -op 'value', joined by -and
    #[arg(long, value_name = "FILTER", env = "RINGPOST_FILTER")]
    pub filter: Option<String>,
    /// The order: +Property rises, -Property falls
    #[arg(long, value_name = "KEYS", env = "RINGPOST_SORT", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", env = "RINGPOST_RESULT_SIZE", default_value_t = 1_000)]
    pub result_size: usize,
    #[command(flatten)]
    pub server: ServerFlags,
    /// Say the result as one JSON document
    #[arg(long, env = "RINGPOST_JSON")]
    pub json: bool,
}

/// What is done with a spool.
#[derive(Debug, Subcommand)]
pub(super) enum SpoolCommand {
    /// Say what is in the segments, and what is damaged; change nothing
    #[command(after_help = SPOOL_CHECK_EXAMPLES)]
    Check(SpoolFlags),
}

/// Which spool is meant, and how it is told.
#[derive(Debug, Args)]
pub(super) struct SpoolFlags {
    /// The folder of the spool
    #[arg(long, value_name = "DIR", env = "RINGPOST_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Say the result as one JSON document
    #[arg(long, env = "RINGPOST_JSON")]
    pub json: bool,
}

/// Flags of `ringpost message remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveFlags {
    #[command(flatten)]
    pub message: MessageFlags,
    /// Whether the sender is told that it was not delivered: yes or no
    #[arg(long, value_name = "yes|no", env = "RINGPOST_NDR", value_parser = ["yes", "no"], default_value = "yes")]
    pub ndr: String,
}

/// Flags of `ringpost message export`.
#[derive(Debug, Args)]
pub(super) struct ExportFlags {
    #[command(flatten)]
    pub message: MessageFlags,
    /// The file, which must not be there yet; - for standard output
    #[arg(long, value_name = "FILE", env = "RINGPOST_OUT")]
    pub out: PathBuf,
}

/// Which running server is asked.
#[derive(Debug, Args)]
pub(super) struct ServerFlags {
    /// The server's socket
    #[arg(long, value_name = "UNIX-PATH", env = "RINGPOST_ADMIN")]
    pub admin: Option<PathBuf>,
    /// The server's configuration, which names the socket
    #[arg(long, value_name = "FILE", env = "RINGPOST_CONFIG")]
    pub config: Option<PathBuf>,
    /// The server's data folder, which the socket stands in
    #[arg(long, value_name = "DIR", env = "RINGPOST_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_option_is_an_environment_variable() {
        let command = command();
        command.clone().debug_assert();
        let nested = command.get_subcommands().flat_map(|sub| sub.get_subcommands());
        for sub in command.get_subcommands().chain(nested) {
            for option in sub.get_arguments().filter(|option| option.get_long().is_some()) {
                let name = option.get_id().as_str().to_ascii_uppercase();
                let variable = option.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(variable, Some(format!("RINGPOST_{name}")), "{}", sub.get_name());
            }
        }
    }

    #[test]
    fn the_flags_of_the_interface_are_all_there() {
        let command = command();
        let run = command.find_subcommand("run").expect("a command");
        for flag in [
            "config",
            "role",
            "listen",
            "next-hop",
            "data-dir",
            "durability",
            "shards",
            "driver",
            "profile",
            "relay-from",
            "admin",
            "metrics",
            "store",
            "allow-root",
        ] {
            assert!(run.get_arguments().any(|option| option.get_long() == Some(flag)), "--{flag}");
        }
    }
}
