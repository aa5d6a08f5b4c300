//! `ringload sink`.

use super::{Failure, Threads, print};
use crate::sink::admin::AdminAddress;
use crate::sink::fault::Fault;
use crate::sink::{Counts, LEDGER_ENTRIES_MAX, SinkError, SinkOptions, start};
use clap::Args;
use engine::app::exit::{self, Exit};
use engine::app::interrupt::on_interrupt;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Faults: WHERE:ACTION[;SELECTOR...]\n  \
WHERE     accept banner ehlo mail rcpt data body eod bdat rset noop quit any idle\n  \
ACTION    reply CODE [ESC] [TEXT], delay DUR, pause DUR, stall, close, reset, halfclose, take+close, drop+close,\n            \
take+reply CODE, cut N, split, multiline N, long N, nocrlf, lf, garbage N, early, extra, twodigits,\n            \
mixedcodes, slowread RATE, slowwrite RATE, noext KEYWORD, ext 'LINE', lie-size N, refuse\n  \
SELECTOR  p=0.01 every=100 first=5 after=1000 conn=3 rcpt=GLOB from=GLOB size>N t=10s..20s seed=N\n\n\
The first line on stdout (on stderr with --json) is: ready {\"listen\":[...],\"admin\":...,\"driver\":...}\n\n\
Examples:\n  \
ringload sink --listen 127.0.0.1:2525\n  \
ringload sink --listen 127.0.0.1:2525 --fault 'eod:reply 451 later;every=100' --fault 'rcpt:reply 550;rcpt=bad*'\n  \
ringload sink --listen 127.0.0.1:2525 --admin unix:sink.sock --ledger sink.ledger\n  \
echo 'pause 2s' | nc -U sink.sock")]
pub(super) struct SinkArgs {
    /// Address to listen on; port 0 lets the system choose; may be given several times
    #[arg(long, env = "RINGLOAD_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',', required = true, value_parser = address)]
    listen: Vec<SocketAddr>,
    /// A fault that is in force from the start; may be given several times
    #[arg(long, env = "RINGLOAD_FAULT", value_name = "FAULT")]
    fault: Vec<Fault>,
    /// Where counts, ledger, faults and pauses are asked for: unix:PATH or a loopback address
    #[arg(long, env = "RINGLOAD_ADMIN", value_name = "ADDR")]
    admin: Option<AdminAddress>,
    /// Write the ledger here at the end
    #[arg(long, env = "RINGLOAD_LEDGER", value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Name in the banner
    #[arg(long, env = "RINGLOAD_NAME", default_value = "sink.test")]
    name: String,
    /// Speak LMTP
    #[arg(long, env = "RINGLOAD_LMTP")]
    lmtp: bool,
    /// Do not offer CHUNKING
    #[arg(long, env = "RINGLOAD_NO_CHUNKING")]
    no_chunking: bool,
    /// Do not offer PIPELINING
    #[arg(long, env = "RINGLOAD_NO_PIPELINING")]
    no_pipelining: bool,
    /// At the end print the counts as JSON, one document on stdout; the line that says `ready` goes to stderr then
    #[arg(long, env = "RINGLOAD_JSON")]
    json: bool,
    #[command(flatten)]
    threads: Threads,
}

impl SinkArgs {
    fn options(&self) -> SinkOptions {
        SinkOptions {
            listen: self.listen.clone(),
            driver: self.threads.driver,
            cores: self.threads.cores(),
            name: self.name.clone(),
            lmtp: self.lmtp,
            chunking: !self.no_chunking,
            pipelining: !self.no_pipelining,
            faults: self.fault.clone(),
            admin: self.admin.clone(),
            ledger: self.ledger.clone(),
            ledger_entries_max: LEDGER_ENTRIES_MAX,
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address with a port: write one as 127.0.0.1:2525"))
}

pub(super) fn run(args: SinkArgs) -> Result<Exit, Failure> {
    let sink = start(args.options()).map_err(|error| of(&error))?;
    let ready = json!({
        "listen": sink.listen,
        "admin": sink.admin.as_ref().map(ToString::to_string),
        "driver": sink.driver,
    });
    let handle = sink.handle();
    on_interrupt(move || handle.stop()).map_err(Failure::component)?;
    // Who reads this may ask for the end at once.
    let ready = format!("ready {ready}\n");
    if args.json {
        exit::tell(&ready);
    } else {
        print(ready.as_bytes())?;
    }
    match sink.join() {
        Ok(outcome) => show(&outcome.counts, args.json).map(|()| verdict(&outcome.counts)),
        // What was counted is shown all the same.
        Err(SinkError::Ledger { path, error, outcome }) => {
            let unwritten = Failure::Output(format!("ledger {}: {error}", path.display()));
            show(&outcome.counts, args.json).and(Err(unwritten))
        }
        Err(error) => Err(of(&error)),
    }
}

fn show(counts: &Counts, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print(format!("{}\n", json!(counts)).as_bytes());
    }
    let text = format!(
        "{} messages for {} recipients in {} octets on {} connections; {} without a stamp, {} with other content, {} \
         without a reply; {} faults struck\n",
        counts.messages,
        counts.recipients,
        counts.bytes,
        counts.connections,
        counts.unstamped,
        counts.content_differs,
        counts.silent,
        counts.faults_struck
    );
    print(text.as_bytes()).inspect_err(|_| exit::tell(&text))
}

/// Who reads a ledger that was full cannot tell what was lost.
fn verdict(counts: &Counts) -> Exit {
    if counts.unrecorded == 0 {
        return Exit::Good;
    }
    exit::tell(&format!(
        "INVALID: the ledger was full: {} recipients are not in it, lost or doubled cannot be told; send fewer to one sink\n",
        counts.unrecorded
    ));
    Exit::Invalid
}

fn of(error: &SinkError) -> Failure {
    match error {
        SinkError::Launch(launch) => Failure::of_launch(launch),
        SinkError::Shard(_) | SinkError::Ledger { .. } => Failure::Component(error.to_string()),
        error => Failure::Usage(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Faults that are read and not done yet.
    const NOT_YET: [&str; 4] = ["window", "tlsfail", "inject", "blackhole"];

    #[test]
    fn a_sink_whose_ledger_was_full_says_so_and_is_not_valid() {
        assert_eq!(verdict(&Counts::default()).code(), 0);
        assert_eq!(verdict(&Counts { unrecorded: 1, ..Counts::default() }).code(), 3);
    }

    #[test]
    fn the_help_names_every_fault_that_works() {
        let mut command = super::super::Ringload::command();
        let sink = command.find_subcommand_mut("sink").expect("it is there");
        let help = sink.render_long_help().to_string();
        let named = help.split_once("ACTION ").and_then(|(_, rest)| rest.split_once("SELECTOR ")).expect("a list").0;
        let named: Vec<&str> = named.split(',').filter_map(|action| action.split_whitespace().next()).collect();
        let error = "eod:nothing".parse::<Fault>().expect_err("no action").to_string();
        let known = error.split_once("write one of ").expect("all of them").1.split(", ");
        let working: Vec<&str> = known.filter(|action| !NOT_YET.contains(action)).collect();
        let sorted = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(sorted(named), sorted(working));
    }
}
