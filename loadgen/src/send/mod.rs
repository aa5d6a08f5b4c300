//! Sending on a schedule: the same shards, drivers and SMTP sessions as the engine, and a clock that does not wait.
//!
//! | file | what |
//! |---|---|
//! | `lane` | what is due, what waits, what became of it (pure) |
//! | `talk` | one connection's messages: envelopes, replies, stamps (pure) |
//! | `shard` | the shell: connections, pace, the end |

pub mod lane;
mod outcome;
mod shard;
mod talk;

use crate::clock::{monotonic, wall_offset_ns};
use crate::workload::content::Source;
use crate::workload::recipients::{Recipients, RecipientsError, Template};
use engine::io::choice::DriverChoice;
use engine::io::launch::{Launch, LaunchError, Running, launch};
use engine::smtp::client::{ClientOptions, ClientTimers};
use engine::wire::{Mailbox, Span, Tick};
use lane::{MESSAGES_PER_SHARD_MAX, Pacing};
use shard::{Sender, ShardReport, Shared};
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use shard::Progress;

pub use outcome::{Ended, Outcome, ShardOutcome};

/// Which way bodies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transfer {
    /// BDAT where the target offers CHUNKING, else DATA.
    #[default]
    Auto,
    /// BDAT; a target that does not offer CHUNKING is of no use.
    Bdat,
    /// DATA, whatever the target offers.
    Data,
}

/// No way for bodies has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bodies go by `auto`, `bdat` or `data`")]
pub struct UnknownTransfer;

impl FromStr for Transfer {
    type Err = UnknownTransfer;

    fn from_str(name: &str) -> Result<Self, UnknownTransfer> {
        match name {
            "auto" => Ok(Self::Auto),
            "bdat" => Ok(Self::Bdat),
            "data" => Ok(Self::Data),
            _ => Err(UnknownTransfer),
        }
    }
}

/// What a sender is told.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// Where to: connections are dealt out in turn, and go to the next one when theirs does not answer.
    pub targets: Vec<SocketAddr>,
    /// When.
    pub pacing: Pacing,
    /// Messages due before this are sent and not counted in the main figures.
    pub warm_up: Span,
    /// How many connections, over all shards.
    pub connections: usize,
    /// Transactions under way on one connection; more than 1 only to targets with PIPELINING.
    pub in_flight_max: usize,
    /// Which way bodies go.
    pub transfer: Transfer,
    /// What is sent.
    pub contents: Source,
    /// To whom.
    pub recipients: Vec<Template>,
    /// Recipients of each message.
    pub recipients_per_message: u32,
    /// Domain of the reverse-path, whose local part is the stamp.
    pub sender_domain: String,
    /// Our name in EHLO.
    pub name: String,
    /// After the end of the schedule replies are waited for so long.
    pub drain: Span,
    /// Connections may take so long to be greeted before the schedule starts without them; without any the run fails.
    pub connect_wait: Span,
    /// How long a reply may take before the connection is given up.
    pub reply_wait: Span,
    /// The driver asked for.
    pub driver: DriverChoice,
    /// One shard per element, pinned to that processor where there is one.
    pub cores: Vec<Option<usize>>,
    /// Each shard asks to have its processor before all others, so that it keeps its schedule beside a sink on one core.
    pub punctual: bool,
    /// The run's number in stamps.
    pub run: u32,
    /// For everything that is chosen.
    pub seed: u64,
}

impl SendOptions {
    /// `pacing` to `target`, 4 KiB messages on 16 connections from one shard.
    pub fn new(target: SocketAddr, pacing: Pacing) -> Self {
        Self {
            targets: vec![target],
            pacing,
            warm_up: Span::ZERO,
            connections: 16,
            in_flight_max: 1,
            transfer: Transfer::Auto,
            contents: Source::made(&crate::workload::size::Sizes::fixed(4096), 0),
            recipients: vec!["user{1..100}@dest.test".parse().expect("a template")],
            recipients_per_message: 1,
            sender_domain: "load.test".into(),
            name: "ringload.test".into(),
            drain: Span::seconds(10),
            connect_wait: Span::seconds(10),
            reply_wait: Span::minutes(10),
            driver: DriverChoice::Auto,
            cores: vec![None],
            punctual: false,
            run: (monotonic().0 >> 10) as u32,
            seed: 0,
        }
    }

    fn client(&self) -> ClientOptions {
        let wait = self.reply_wait;
        ClientOptions {
            in_flight_max: self.in_flight_max,
            chunking: self.transfer != Transfer::Data,
            // Real mail is replayed as it is, whatever the target says it takes.
            just_send_eight_bit: true,
            long_lines: true,
            timers: ClientTimers {
                greeting: wait,
                hello: wait,
                mail: wait,
                rcpt: wait,
                data: wait,
                block: wait,
                end: wait,
                quit: Span::seconds(1),
                session: Span::hours(24 * 365),
            },
            ..ClientOptions::new(&self.name)
        }
    }
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// An option that makes no sense.
    #[error("{0}")]
    Option(&'static str),
    /// Wrong recipients.
    #[error(transparent)]
    Recipients(#[from] RecipientsError),
    /// A recipient that is no mailbox.
    #[error("`{0}` is not an address that SMTP can carry")]
    Address(String),
    /// More messages than can be kept track of.
    #[error("{0} messages are more than one run keeps track of ({1} per shard): send fewer, or on more shards")]
    TooMany(u64, u64),
    /// The driver or its threads.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// No connection came about.
    #[error("no connection to {0} within {1}: {2}; start a server there, or name where one listens")]
    Unreachable(SocketAddr, Span, String),
    /// A shard ended with an error.
    #[error("a shard of the sender failed: {0}")]
    Shard(io::Error),
}

/// A sender at work.
#[derive(Debug)]
pub struct RunningSend {
    /// The driver in use.
    pub driver: &'static str,
    /// CLOCK_MONOTONIC at the start of the schedule.
    pub started: Tick,
    /// Connections that were ready by then.
    pub connections: usize,
    options: SendOptions,
    shared: Arc<Shared>,
    recipients: Recipients,
    running: Running,
    reports: Receiver<ShardReport>,
    wall_offset_ns: i128,
}

/// Stops a sender from any thread.
#[derive(Debug, Clone)]
pub struct SendHandle(Arc<Shared>);

impl SendHandle {
    /// Nothing more becomes due; what is under way is waited for. A second call ends the wait.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.0.progress()
    }
}

impl RunningSend {
    /// What it was told.
    pub fn options(&self) -> &SendOptions {
        &self.options
    }

    /// What stops it.
    pub fn handle(&self) -> SendHandle {
        SendHandle(self.shared.clone())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// A shard that failed.
    pub fn finish(self) -> Result<Outcome, SendError> {
        let shards = self.options.cores.len();
        let mut reports: Vec<ShardReport> = Vec::with_capacity(shards);
        while reports.len() < shards {
            match self.reports.recv() {
                Ok(report) => reports.push(report),
                Err(_) => break,
            }
        }
        self.running.join().map_err(|error| SendError::Shard(error.into()))?;
        if reports.len() < shards {
            return Err(SendError::Shard(io::Error::other("it ended without a report")));
        }
        reports.sort_by_key(|report| report.shard);
        let clock_step_ns = (wall_offset_ns() - self.wall_offset_ns).unsigned_abs();
        let mut outcome = Outcome::new(&self.options, self.recipients, self.driver, self.started, reports);
        outcome.clock_step_us = u64::try_from(clock_step_ns / 1000).unwrap_or(u64::MAX);
        Ok(outcome)
    }
}

/// Connects, and starts the schedule; it runs when this returns.
///
/// # Errors
/// [`SendError`]: options, or a target that cannot be reached at all.
pub fn start(options: SendOptions) -> Result<RunningSend, SendError> {
    let recipients = check(&options)?;
    let (report, reports) = mpsc::channel();
    let (ready, readies) = mpsc::channel();
    let shared = Shared::new(options.cores.len());
    let mailboxes = recipients
        .addresses()
        .iter()
        .map(|address| Mailbox::parse(address.text.as_bytes()).map_err(|_| SendError::Address(address.text.clone())));
    let sender = Sender {
        client: Arc::new(options.client()),
        mailboxes: Arc::new(mailboxes.collect::<Result<_, _>>()?),
        recipients: Arc::new(recipients.clone()),
        options: Arc::new(options.clone()),
        shared: shared.clone(),
        ready: Arc::new(Mutex::new(ready)),
        report: Arc::new(Mutex::new(report)),
    };
    let running = launch(&Launch { driver: options.driver, cores: options.cores.clone() }, sender)?;
    let (connections, why) = await_ready(&readies, &options);
    if connections == 0 {
        shared.stop();
        shared.stop();
        let _ = running.join();
        return Err(SendError::Unreachable(options.targets[0], options.connect_wait, why));
    }
    let started = monotonic() + Span::millis(5);
    shared.begin(started);
    Ok(RunningSend {
        driver: running.driver,
        started,
        connections,
        options,
        shared,
        recipients,
        running,
        reports,
        wall_offset_ns: wall_offset_ns(),
    })
}

/// Sends everything, and waits for the end.
///
/// # Errors
/// As [`start`] and [`RunningSend::finish`].
pub fn run(options: SendOptions) -> Result<Outcome, SendError> {
    start(options)?.finish()
}

fn check(options: &SendOptions) -> Result<Recipients, SendError> {
    let wrong = |what| Err(SendError::Option(what));
    let shards = options.cores.len();
    if options.targets.is_empty() {
        return wrong("no target: give at least one address");
    }
    if shards == 0 || options.connections < shards {
        return wrong("too few connections: give at least 1, and as many as there are shards");
    }
    if options.in_flight_max == 0 {
        return wrong("no transaction may be in flight: give at least 1 for each connection");
    }
    if options.connections > u16::MAX.into() {
        return wrong("at most 65535 connections");
    }
    if options.pacing.length() == Span::ZERO {
        return wrong("the schedule is empty: give a duration or a number of messages above 0");
    }
    if options.warm_up >= options.pacing.length() {
        return wrong("the warm-up is as long as the whole schedule: nothing would be measured");
    }
    if !engine::wire::is_domain(options.sender_domain.as_bytes()) {
        return wrong("the senders' domain is no domain name: write one as load.test");
    }
    if !engine::wire::is_domain(options.name.as_bytes()) {
        return wrong("our name in EHLO is no domain name: write one as ringload.test");
    }
    if let Some(messages) = options.pacing.messages().filter(|&n| n > MESSAGES_PER_SHARD_MAX * shards as u64) {
        return Err(SendError::TooMany(messages, MESSAGES_PER_SHARD_MAX));
    }
    Ok(Recipients::new(&options.recipients, options.recipients_per_message, options.seed)?)
}

/// Waits for every shard's word; gives the connections that are ready, and why others are not.
fn await_ready(readies: &Receiver<(usize, String)>, options: &SendOptions) -> (usize, String) {
    let (mut connections, mut why) = (0, String::from("no answer"));
    for _ in &options.cores {
        match readies.recv_timeout(Duration::from_nanos(options.connect_wait.0) + Duration::from_secs(5)) {
            Ok((ready, error)) => {
                connections += ready;
                if !error.is_empty() {
                    why = error;
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    (connections, why)
}
