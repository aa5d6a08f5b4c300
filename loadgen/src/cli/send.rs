//! `ringload send`.

use super::sinks::{Sinks, busiest, cpu_us_per_message};
use super::{Failure, Threads, draws, print, run_file};
use crate::correlate::{Circumstances, Correlation, correlate};
use crate::ledger::{self, Delivery};
use crate::report::result::{Context, Document};
use crate::report::{folder, text};
use crate::schedule::{Arrivals, Plan, Stage};
use crate::send::lane::Pacing;
use crate::send::{Outcome, RunningSend, SendError, SendHandle, SendOptions, Transfer, start};
use crate::sink::Counts;
use crate::sink::admin::AdminAddress;
use crate::units::{Rate, parse_span};
use crate::workload::content::Source;
use crate::workload::corpus;
use crate::workload::recipients::Template;
use crate::workload::size::Sizes;
use clap::{ArgMatches, Args, FromArgMatches};
use engine::app::exit::{self, Exit};
use engine::app::interrupt::on_interrupt;
use engine::wire::Span;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

/// How long a run lasts when nothing says it.
const DURATION: Span = Span::seconds(10);

#[derive(Debug, Args)]
#[command(
    after_help = "Latency counts from the intended send time: the schedule is fixed before the run and does not wait for the target.\n\n\
Examples:\n  \
ringload send --target 127.0.0.1:2525 -r 500/s -d 10s\n  \
ringload send --target mx.test:25 -r 2k/s -w 5s -d 60s -c 50 --size 4k:90,100k:10 --out results/one\n  \
ringload send --target 127.0.0.1:2525 --corpus mail/ -n 1000 -r 100/s --sink-admin unix:sink.sock\n  \
ringload send --target 127.0.0.1:2525 --stage 500/s:10s --stage 2000/s:5s --stage 500/s:10s --json\n  \
ringload send --target 127.0.0.1:2525 --closed -c 256 --in-flight 64 -d 10s\n  \
ringload send --run results/one/run.toml --target 127.0.0.1:2526 --out results/two"
)]
pub(super) struct SendArgs {
    /// Do again what the run.toml of a result folder says; options beside it come before what stands there
    #[arg(long, env = "RINGLOAD_RUN", value_name = "FILE")]
    run: Option<PathBuf>,
    /// Where to; several take connections in turn
    #[arg(
        long,
        env = "RINGLOAD_TARGET",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        required_unless_present = "run"
    )]
    target: Vec<String>,
    /// Messages per second: 500/s, 1.5k/s, 30/m
    #[arg(short, long, env = "RINGLOAD_RATE", conflicts_with = "stage", required_unless_present_any = ["stage", "closed", "run"])]
    rate: Option<Rate>,
    /// A rate for a time, one after another: 500/s:10s
    #[arg(long, env = "RINGLOAD_STAGE", value_name = "RATE:DURATION", value_delimiter = ',')]
    stage: Vec<Stage>,
    /// Independent arrivals instead of equal gaps
    #[arg(long, env = "RINGLOAD_POISSON")]
    poisson: bool,
    /// Send the next message when a connection is free for it; with a rate at most so many. For comparison: it hides waits
    #[arg(long, env = "RINGLOAD_CLOSED", conflicts_with = "poisson")]
    closed: bool,
    /// How long, the warm-up not counted [default: 10s]
    #[arg(short, long, env = "RINGLOAD_DURATION", value_parser = parse_span, conflicts_with = "stage")]
    duration: Option<Span>,
    /// No more messages than so many
    #[arg(short = 'n', long, env = "RINGLOAD_MESSAGES")]
    messages: Option<u64>,
    /// Send for so long before what counts
    #[arg(short, long, env = "RINGLOAD_WARM_UP", value_parser = parse_span, default_value = "0s")]
    warm_up: Span,
    /// Connections
    #[arg(short, long, env = "RINGLOAD_CONNECTIONS", default_value_t = 16)]
    connections: usize,
    /// Transactions under way on one connection
    #[arg(long, env = "RINGLOAD_IN_FLIGHT", default_value_t = 1)]
    in_flight: usize,
    /// How bodies go: auto takes BDAT where it is offered
    #[arg(long, env = "RINGLOAD_CHUNKING", default_value = "auto")]
    chunking: Transfer,
    /// Octets of a message: 4k, 1k..100k, or a mix 4k:70,100k:30
    #[arg(long, env = "RINGLOAD_SIZE", default_value = "4k")]
    size: Sizes,
    /// Send this mail instead: a folder of .eml files, one, or an mbox; byte for byte
    #[arg(long, env = "RINGLOAD_CORPUS", value_name = "DIR|MBOX", conflicts_with = "size")]
    corpus: Option<PathBuf>,
    /// Recipients: user@dest.test, user{1..100}@dest.test, with *WEIGHT behind it if wanted
    #[arg(
        long,
        env = "RINGLOAD_TO",
        value_name = "TEMPLATE",
        value_delimiter = ',',
        default_value = "user{1..100}@dest.test"
    )]
    to: Vec<Template>,
    /// Recipients of each message
    #[arg(long, env = "RINGLOAD_RECIPIENTS", default_value_t = 1)]
    recipients: u32,
    /// Domain of the senders; their local part is the message's id
    #[arg(long, env = "RINGLOAD_FROM_DOMAIN", default_value = "load.test")]
    from_domain: String,
    /// Our name in EHLO
    #[arg(long, env = "RINGLOAD_NAME", default_value = "ringload.test")]
    name: String,
    /// Wait so long for replies, and for arrivals at the sink, after the schedule's end
    #[arg(long, env = "RINGLOAD_DRAIN", value_parser = parse_span, default_value = "10s")]
    drain: Span,
    /// Wait so long for connections before the schedule starts
    #[arg(long, env = "RINGLOAD_CONNECT_WAIT", value_parser = parse_span, default_value = "10s")]
    connect_wait: Span,
    /// Give a connection up when a reply takes longer
    #[arg(long, env = "RINGLOAD_REPLY_WAIT", value_parser = parse_span, default_value = "10m")]
    reply_wait: Span,
    /// Ask this sink what arrived, for accounts and delivery times; may be given several times
    #[arg(long, env = "RINGLOAD_SINK_ADMIN", value_name = "ADDR", value_delimiter = ',')]
    sink_admin: Vec<AdminAddress>,
    /// Read what arrived from this file afterwards; may be given several times
    #[arg(
        long,
        env = "RINGLOAD_SINK_LEDGER",
        value_name = "FILE",
        value_delimiter = ',',
        conflicts_with = "sink_admin"
    )]
    sink_ledger: Vec<PathBuf>,
    /// Durability mode of the target, for the result
    #[arg(long, env = "RINGLOAD_DURABILITY", default_value = "unknown", value_parser = ["none", "os", "disk", "replica", "disk+replica", "unknown"])]
    durability: String,
    /// End with 99 when the 99th percentile of the response time is above this; of the service time with --closed
    #[arg(long, env = "RINGLOAD_MAX_P99", value_parser = parse_span)]
    max_p99: Option<Span>,
    /// End with 99 when fewer messages per second were acknowledged
    #[arg(long, env = "RINGLOAD_MIN_RATE")]
    min_rate: Option<Rate>,
    /// For everything that is chosen: contents, recipients, arrivals
    #[arg(long, env = "RINGLOAD_SEED", default_value_t = 0)]
    seed: u64,
    /// Write the result folder here
    #[arg(long, env = "RINGLOAD_OUT", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print result.json on stdout, and the text on stderr
    #[arg(long, env = "RINGLOAD_JSON")]
    json: bool,
    #[command(flatten)]
    threads: Threads,
}

/// Runs what `said` and the file that it names come to.
pub(super) fn run(args: SendArgs, said: &ArgMatches) -> Result<Exit, Failure> {
    let Some(file) = &args.run else { return send(args, said) };
    let said = run_file::read(file, said)?;
    send(SendArgs::from_arg_matches(&said).unwrap_or_else(|error| error.exit()), &said)
}

fn send(args: SendArgs, said: &ArgMatches) -> Result<Exit, Failure> {
    let options = args.options()?;
    if let Some(out) = &args.out {
        folder::make(out).map_err(|error| Failure::Usage(format!("{error}; name a folder that may be written")))?;
    }
    let mut sinks = Sinks::connect(&args.sink_admin)?;
    let began = jiff::Timestamp::now().to_string();
    let before = sinks.counts()?;
    let sender = start(options).map_err(|error| of(&error))?;
    let handle = sender.handle();
    on_interrupt(move || handle.stop()).map_err(Failure::component)?;
    let (sent, metered) = watch(sender, &mut sinks)?;
    // Measured is measured: a sink that cannot be asked any more takes its accounts with it, and nothing else.
    let arrived = metered.and_then(|metered| Ok((metered, args.arrivals(&sent, &mut sinks, &before)?)));
    let ([from, until], mut ledger, trouble) = match arrived {
        Ok((metered, ledger)) => (metered, ledger, None),
        Err(failure) => (Default::default(), None, Some(failure)),
    };
    let joined =
        ledger.as_mut().map(|ledger| correlate(&sent.sent(), ledger, &Circumstances::default(), sent.main_part().from));
    let context = Context {
        durability: args.durability.clone(),
        started: began,
        profile: None,
        sink_busy: busiest(&from, &until),
        sink_cpu_us_per_message: cpu_us_per_message(&from, &until),
    };
    let document = Document::new(&sent, joined.as_ref(), context);
    let run_toml = run_file::text(said, &circumstances(&sent));
    args.show(&sent, joined.as_ref().zip(ledger.as_deref()), &document, &run_toml)?;
    trouble.map_or_else(|| Ok(args.verdict(&document)), Err)
}

impl SendArgs {
    fn options(&self) -> Result<SendOptions, Failure> {
        let contents = match &self.corpus {
            Some(path) => Source::corpus(corpus::read(path).map_err(no_corpus)?, self.seed),
            None => Source::made(&self.size, self.seed),
        };
        let targets: Vec<SocketAddr> = self.target.iter().map(|target| resolve(target)).collect::<Result<_, _>>()?;
        let first = *targets.first().ok_or_else(|| Failure::Usage("no target".into()))?;
        Ok(SendOptions {
            targets,
            warm_up: self.warm_up,
            connections: self.connections,
            in_flight_max: self.in_flight,
            transfer: self.chunking,
            contents,
            recipients: self.to.clone(),
            recipients_per_message: self.recipients,
            sender_domain: self.from_domain.clone(),
            name: self.name.clone(),
            drain: self.drain,
            connect_wait: self.connect_wait,
            reply_wait: self.reply_wait,
            driver: self.threads.driver,
            cores: self.threads.cores(),
            seed: self.seed,
            ..SendOptions::new(first, self.pacing()?)
        })
    }

    fn pacing(&self) -> Result<Pacing, Failure> {
        let messages_max = self.messages.unwrap_or(u64::MAX);
        let length = match (self.duration, self.messages, self.rate) {
            (Some(duration), _, _) => duration + self.warm_up,
            (None, Some(messages), Some(rate)) => rate.time_of(messages),
            (None, Some(_), None) => Span::hours(24),
            (None, None, _) => DURATION + self.warm_up,
        };
        let stages = match (self.rate, &self.stage[..]) {
            (Some(rate), _) => vec![Stage { rate, length }],
            (None, []) if messages_max == 0 || length == Span::ZERO => return Err(nothing_to_send()),
            (None, []) => return Ok(Pacing::Closed { length, messages_max }),
            (None, stages) => stages.to_vec(),
        };
        if messages_max == 0 || stages.iter().any(|stage| stage.length == Span::ZERO) {
            return Err(nothing_to_send());
        }
        let arrivals = if self.poisson { Arrivals::Poisson } else { Arrivals::Constant };
        let plan = Plan { stages, arrivals, seed: self.seed, messages_max };
        Ok(if self.closed { Pacing::ClosedAt(plan) } else { Pacing::Open(plan) })
    }

    /// What the sinks took, if any were named.
    fn arrivals(&self, sent: &Outcome, sinks: &mut Sinks, before: &[Counts]) -> Result<Option<Vec<Delivery>>, Failure> {
        if self.sink_admin.is_empty() && self.sink_ledger.is_empty() {
            return Ok(None);
        }
        let mut all = Vec::new();
        for path in &self.sink_ledger {
            let read = File::open(path).map_err(|error| error.to_string());
            let read = read.and_then(|mut file| ledger::read(&mut file).map_err(|error| error.to_string()));
            all.extend(read.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?);
        }
        if !self.sink_admin.is_empty() {
            let missing = |all: &mut [Delivery]| {
                correlate(&sent.sent(), all, &Circumstances::default(), Span::ZERO).accounts.lost_for_certain()
            };
            all.extend(sinks.await_arrivals(missing, before, crate::clock::monotonic() + self.drain)?);
        }
        Ok(Some(all))
    }

    /// Prints, and keeps in the folder: what stands in the way of one does not stand in the way of the other.
    fn show(
        &self,
        sent: &Outcome,
        arrived: Option<(&Correlation, &[Delivery])>,
        document: &Document,
        run_toml: &str,
    ) -> Result<(), Failure> {
        let printed = self.print(document);
        let kept = self.out.as_ref().map(|out| folder::write(out, sent, arrived, document, run_toml));
        printed.and(kept.transpose().map(drop).map_err(|error| Failure::Output(error.to_string())))
    }

    fn print(&self, document: &Document) -> Result<(), Failure> {
        let summary = text::summary(document);
        if self.json {
            exit::tell(&summary);
            let mut json = serde_json::to_vec(document).map_err(Failure::component)?;
            json.push(b'\n');
            return print(&json);
        }
        // Measured is measured: what has no place on one stream is shown on the other.
        print(summary.as_bytes()).inspect_err(|_| exit::tell(&summary))
    }

    fn verdict(&self, document: &Document) -> Exit {
        let (figures, is_open) = (&document.main().figures, document.main().is_open);
        // A closed loop has no other.
        let (what, times) = if is_open { ("response", &figures.response) } else { ("service", &figures.service) };
        let p99_us = times.at(0.99);
        let slow = self.max_p99.is_some_and(|max| p99_us.is_none_or(|p99| p99 > max.as_micros()));
        let (_, achieved) = document.rates();
        let few = self.min_rate.is_some_and(|min| achieved.unwrap_or(0.0) < min.as_f64());
        if slow {
            let p99 = p99_us.map_or("not measured".to_owned(), |us| format!("{us} µs"));
            exit::tell(&format!("threshold: {what} p99 {p99} is above --max-p99\n"));
        }
        if few {
            exit::tell(&format!("threshold: {:.1}/s acknowledged is below --min-rate\n", achieved.unwrap_or(0.0)));
        }
        match (document.validity.valid, slow || few) {
            (false, _) => Exit::Invalid,
            (true, true) => Exit::Threshold,
            (true, false) => Exit::Good,
        }
    }
}

fn no_corpus(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("{error}; name a folder of .eml files, an .eml file or an mbox"))
}

fn nothing_to_send() -> Failure {
    Failure::Usage("nothing to send: give a duration and a number of messages above 0".into())
}

fn of(error: &SendError) -> Failure {
    match error {
        SendError::Launch(launch) => Failure::of_launch(launch),
        SendError::Unreachable(..) | SendError::Shard(_) => Failure::Component(error.to_string()),
        error => Failure::Usage(error.to_string()),
    }
}

fn resolve(target: &str) -> Result<SocketAddr, Failure> {
    let wrong = |why: String| Failure::Usage(format!("target `{target}`: {why}; write HOST:PORT, as 127.0.0.1:2525"));
    let mut found = target.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    found.next().ok_or_else(|| wrong("no address".into()))
}

/// What sinks did by the two ends of the measured time.
type Metered = Result<[Vec<Counts>; 2], Failure>;

/// Waits for the sender's end; shows how far it is, drawn on a terminal, in plain lines elsewhere, and looks at the sinks.
fn watch(sender: RunningSend, sinks: &mut Sinks) -> Result<(Outcome, Metered), Failure> {
    let options = sender.options();
    let total = options.pacing.messages();
    let measured = [options.warm_up, options.pacing.length()].map(|span| sender.started + span);
    let ((painted, no_more), (metered, over)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let handle = sender.handle();
    std::thread::scope(|scope| {
        scope.spawn(move || paint(&handle, total, &no_more));
        let meter = scope.spawn(move || sinks.meter(measured, &over));
        let sent = sender.finish();
        drop((painted, metered));
        let metered = meter.join().unwrap_or_else(|_| Err(Failure::Component("the sinks were not looked at".into())));
        Ok((sent.map_err(|error| of(&error))?, metered))
    })
}

fn paint(sender: &SendHandle, total: Option<u64>, over: &mpsc::Receiver<()>) {
    let drawn = draws();
    let every = if drawn { Duration::from_millis(200) } else { Duration::from_secs(5) };
    let bar = match total {
        _ if !drawn => ProgressBar::hidden(),
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    let style = ProgressStyle::with_template("{bar:30} {pos} sent, {per_sec}, {eta} left, {msg} open");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while over.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
        let progress = sender.progress();
        bar.set_position(progress.due);
        bar.set_message(progress.open.to_string());
        if !drawn {
            exit::tell(&format!("{} sent, {} open\n", progress.due, progress.open));
        }
    }
    bar.finish_and_clear();
}

/// What a person may want to know of a run beside what was said.
fn circumstances(sent: &Outcome) -> [String; 1] {
    [format!(
        "ringload {}, driver {}, run {} in its stamps.",
        engine::app::program::FULL_VERSION,
        sent.driver,
        sent.run
    )]
}
