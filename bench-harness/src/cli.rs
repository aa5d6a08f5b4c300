//! The command line of `ringbench`.

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Whole mail topologies as real processes: load, faults, figures, report.
#[derive(Debug, Parser)]
#[command(
    name = "ringbench",
    version = engine::app::program::FULL_VERSION,
    max_term_width = 100,
    after_help = "Examples:\n  \
        ringbench quickstart\n  \
        ringbench run hub-hop --size 4k -c 50 -d 10s\n  \
        ringbench run failover-hub --out results/failover\n  \
        ringbench run results/failover/run.toml --durability os\n  \
        ringbench pump -c 256 --size 4k\n  \
        ringbench pump --one-per-write\n  \
        ringbench targets --quick --json\n\n\
        Exit codes: 0 good, 1 failed or worse than promised, 2 wrong command line, 3 the measurement is not valid, \
        4 a component failed to start or died."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Front end, two hubs, mailbox delivery and sinks: throughput, latency, two failovers and a report, in a minute.
    #[command(after_help = "Examples:\n  \
        ringbench quickstart\n  \
        ringbench quickstart --durability os --out results/os\n  \
        ringbench quickstart --corpus mail/ --json")]
    Quickstart(QuickstartArgs),
    /// Runs a scenario by name, or what a run.toml says.
    #[command(after_help = "Examples:\n  \
        ringbench run hub-hop --size 4k -c 50 -d 10s\n  \
        ringbench run failover-hub -r 500/s --out results/failover\n  \
        ringbench run shard-scaling --shards 1,2\n  \
        ringbench run payload-sweep --size 4k,100k -c 16\n  \
        ringbench run results/failover/run.toml --durability os --out results/os")]
    Run(RunArgs),
    /// Lists the scenarios.
    #[command(after_help = "Examples:\n  ringbench list\n  ringbench list --json")]
    List(ListArgs),
    /// Measures the promises of SPECIFICATION.md on this machine.
    #[command(after_help = "Examples:\n  \
        ringbench targets --quick\n  \
        ringbench targets --only T-hop-4k --out results/hops\n  \
        ringbench targets --peers target/peers --only cpu --markdown\n  \
        ringbench targets --grid --only relay --markdown\n\n\
        Exit codes: 0 what was measured holds what is promised, 1 a promise is broken, 2 wrong command line, 3 a figure \
        could not be measured, or not validly (its row says why; no figure of a build for debugging is valid), 4 the same, \
        because a component failed to start or died. Figures that this run leaves out count for nothing, unless none is left.")]
    Targets(TargetsArgs),
    /// The raw byte pump: what a hop costs without mail.
    #[command(after_help = "Examples:\n  \
        ringbench pump -c 256 --size 4k\n  \
        ringbench pump --size 100k --durability os --out results/pump\n  \
        ringbench pump --one-per-write --next-hop-connections 8 --json")]
    Pump(PumpArgs),
    /// Prints the completion script of a shell.
    #[command(after_help = "Examples:\n  ringbench completions bash > ringbench.bash")]
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Prints the manual page of the program or of a command, or writes all of them into a folder.
    #[command(after_help = "Examples:\n  ringbench man run | man -l -\n  ringbench man --out man/")]
    Man {
        /// The command; the program itself without it.
        command: Option<String>,
        /// Write ringbench.1, ringbench-run.1 and so on here instead.
        #[arg(long, env = "RINGBENCH_OUT", value_name = "DIR", conflicts_with = "command")]
        out: Option<PathBuf>,
    },
    /// A component of a run; started by ringbench itself.
    #[command(hide = true)]
    Component(ComponentArgs),
}

/// What every measurement takes.
#[derive(Debug, Clone, Args)]
pub struct OutArgs {
    /// The result folder; made if it is not there [default: ringbench-results/TIME-NAME].
    #[arg(long, env = "RINGBENCH_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// One JSON document on stdout; people's text goes to stderr.
    #[arg(long, env = "RINGBENCH_JSON")]
    pub json: bool,
}

/// How the engine is started.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// What a 250 means [default: disk].
    #[arg(long, env = "RINGBENCH_DURABILITY", value_name = "MODE", value_parser = ["none", "os", "disk"])]
    pub durability: Option<String>,
    /// The I/O driver [default: auto].
    #[arg(long, env = "RINGBENCH_DRIVER", value_name = "DRIVER", value_parser = ["auto", "uring", "tokio-uring", "epoll"])]
    pub driver: Option<String>,
    /// Shards (threads) of each engine process; several (1,2,4) for shard-scaling [default: 1].
    #[arg(long, env = "RINGBENCH_SHARDS", value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Vec<u16>,
}

/// `quickstart`.
#[derive(Debug, Clone, Args)]
pub struct QuickstartArgs {
    /// How the engine is started.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Where results go.
    #[command(flatten)]
    pub out: OutArgs,
    /// Mail to replay: a folder of .eml files or an mbox [default: the corpus that this program brings].
    #[arg(long, env = "RINGBENCH_CORPUS", value_name = "DIR|MBOX")]
    pub corpus: Option<PathBuf>,
}

/// `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Which scenario (`ringbench list` shows them); or the run.toml of a result folder, to run the same again: options beside
    /// it come before what stands there.
    #[arg(value_name = "SCENARIO|FILE")]
    pub scenario: String,
    /// Octets of a message: 4096, 4k, 100k, 1M; several (4k,100k) for payload-sweep.
    #[arg(long, env = "RINGBENCH_SIZE", value_name = "BYTES", value_delimiter = ',')]
    pub size: Vec<String>,
    /// Mail to replay instead: a folder of .eml files or an mbox.
    #[arg(long, env = "RINGBENCH_CORPUS", value_name = "DIR|MBOX", conflicts_with = "size")]
    pub corpus: Option<PathBuf>,
    /// Connections of the load generator.
    #[arg(short = 'c', long = "connections", env = "RINGBENCH_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: Option<u32>,
    /// Open-loop rate, as 500/s; without it a probe finds the highest and half of it is used.
    #[arg(short = 'r', long = "rate", env = "RINGBENCH_RATE", value_name = "RATE")]
    pub rate: Option<String>,
    /// Measured time of the main phase, as 10s; at least what a scenario's faults need.
    #[arg(short = 'd', long = "duration", env = "RINGBENCH_DURATION", value_name = "DURATION")]
    pub duration: Option<String>,
    /// Chooses the moments at which a scenario's faults strike; it is printed [default: 1].
    #[arg(long, env = "RINGBENCH_SEED", value_name = "N")]
    pub seed: Option<u32>,
    /// How the engine is started.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Where results go.
    #[command(flatten)]
    pub out: OutArgs,
}

/// `list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// One JSON document on stdout.
    #[arg(long, env = "RINGBENCH_JSON")]
    pub json: bool,
}

/// `targets`.
#[derive(Debug, Clone, Args)]
pub struct TargetsArgs {
    /// Only what fits into a minute; the rest stays unmeasured.
    #[arg(long, env = "RINGBENCH_QUICK")]
    pub quick: bool,
    /// Relay, shards, acknowledgement, generator and sink at 4 KiB and 100 KiB and 1, 16, 50 and 256 connections instead, each in few
    /// pairs: some fifteen minutes; with --quick single ones, some four.
    #[arg(long, env = "RINGBENCH_GRID")]
    pub grid: bool,
    /// Only the target of this id, or all whose id contains this; with --grid the rows whose name does.
    #[arg(long, env = "RINGBENCH_ONLY", value_name = "TEXT")]
    pub only: Option<String>,
    /// The folder that `tests/peers/fetch` has filled: for smtp-source and smtp-sink, unless they are installed.
    #[arg(long, env = "RINGBENCH_PEERS", value_name = "DIR")]
    pub peers: Option<PathBuf>,
    /// Chooses the moments at which faults strike; it is printed [default: another one each time].
    #[arg(long, env = "RINGBENCH_SEED", value_name = "N")]
    pub seed: Option<u32>,
    /// Tables for perf/README.md on stdout; the others go to stderr.
    #[arg(long, env = "RINGBENCH_MARKDOWN", conflicts_with = "json")]
    pub markdown: bool,
    /// Where results go.
    #[command(flatten)]
    pub out: OutArgs,
}

/// `pump`.
#[derive(Debug, Clone, Args)]
pub struct PumpArgs {
    /// Connections of the source, each with one frame under way.
    #[arg(short = 'c', long = "connections", env = "RINGBENCH_CONNECTIONS", value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Octets of a frame: 4096, 4k, 100k.
    #[arg(long, env = "RINGBENCH_SIZE", value_name = "BYTES", default_value = "4k")]
    pub size: String,
    /// Measured time.
    #[arg(short = 'd', long = "duration", env = "RINGBENCH_DURATION", value_name = "DURATION", default_value = "5s")]
    pub duration: String,
    /// The sink answers nothing: the floor of something that never looks back.
    #[arg(long, env = "RINGBENCH_NO_ANSWERS")]
    pub no_answers: bool,
    /// One frame per write, answered before the next leaves its connection: the floor of a hop by DATA.
    #[arg(long, env = "RINGBENCH_ONE_PER_WRITE")]
    pub one_per_write: bool,
    /// Connections to the sink with --one-per-write.
    #[arg(long, env = "RINGBENCH_NEXT_HOP_CONNECTIONS", value_name = "N", default_value_t = 16, requires = "one_per_write", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub next_hop_connections: u32,
    /// How the pump is started.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Where its log stands while it runs, and its results.
    #[command(flatten)]
    pub out: OutArgs,
}

/// `component`.
#[derive(Debug, Clone, Args)]
pub struct ComponentArgs {
    /// Dies with this process.
    #[arg(long)]
    pub parent: u32,
    /// The cores it may run on.
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// `engine`, `sink`, `send`, `pump` or `crowd`.
    pub program: String,
    /// Its own command line.
    #[arg(last = true)]
    pub args: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_an_environment_variable_too() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            for option in
                command.get_arguments().filter(|a| a.get_long().is_some_and(|l| l != "help" && l != "version"))
            {
                let name = option.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                assert!(name.starts_with("RINGBENCH_"), "{} {}", command.get_name(), option.get_id());
            }
        }
    }

    #[test]
    fn every_command_explains_itself_by_examples() {
        for command in Cli::command().get_subcommands_mut().filter(|command| !command.is_hide_set()) {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
            assert!(help.contains(&format!("Examples:\n  ringbench {name}")), "{help}");
        }
    }

    #[test]
    fn a_component_keeps_its_own_options() {
        let line = "ringbench component --parent 7 --cores 0,1 engine -- run --role hub --help";
        let cli = Cli::try_parse_from(line.split(' ')).expect("our own line");
        let Command::Component(component) = cli.command else { panic!("{cli:?}") };
        assert_eq!((component.cores, component.program.as_str()), (vec![0, 1], "engine"));
        assert_eq!(component.args, ["run", "--role", "hub", "--help"]);
    }
}
