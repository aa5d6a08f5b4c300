//! `result.json` of `ringload send`, schema 1 (README.md, "Reading a result"). What was not measured is `null`.

use super::figures::{Figures, Part};
use super::schema::{Host, Latency, Messages, PerProcess, Quantiles, Rate, SCHEMA};
use crate::correlate::{Accounts, Correlation};
use crate::record::Phase;
use crate::record::histogram::{Percentiles, Times};
use crate::send::Outcome;
use crate::send::lane::Pacing;
use crate::validity::{Evidence, Validity, judge, limited_by};
use engine::wire::Span;
use serde::Serialize;
use std::collections::BTreeMap;

/// What the caller knows and the run does not.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Durability mode of the target, as the caller names it; empty: `unknown`.
    pub durability: String,
    /// Profile of the target, if known.
    pub profile: Option<String>,
    /// When the run began, RFC 3339.
    pub started: String,
    /// The share of a core that a sink's busiest thread used in the measured time, if it was watched.
    pub sink_busy: Option<f64>,
    /// CPU of the sink per message, in microseconds.
    pub sink_cpu_us_per_message: Option<f64>,
}

/// The whole document.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    schema: u32,
    tool: &'static str,
    version: &'static str,
    git: Option<&'static str>,
    started: String,
    host: Host,
    scenario: &'static str,
    phases: Vec<PhaseResult>,
    durability: String,
    rate: Rate,
    pairs: Pairs,
    messages: Messages,
    latency_us: Latency,
    cpu_us_per_message: PerProcess,
    syscalls_per_message: PerProcess,
    copied_bytes_per_message: PerProcess,
    allocations_per_message: PerProcess,
    peak_rss_bytes: PerProcess,
    failover: [(); 0],
    /// Whether the figures may be used.
    pub validity: Validity,
    limited_by: Option<&'static str>,
    driver: &'static str,
    commit: Option<String>,
    profile: Option<String>,
    /// Percentiles of what is not the target's time.
    schedule_lag_us: Quantiles,
    connection_wait_us: Quantiles,
    step_us: BTreeMap<&'static str, Option<Percentiles>>,
    connections: Connections,
    /// What became of the messages that were not accepted, by reply code or in words.
    not_accepted: BTreeMap<String, u64>,
    /// Recipients refused before the final reply, by reply code.
    recipients_refused: BTreeMap<String, u64>,
    /// The first reply that refused anything.
    first_refusal: Option<String>,
    #[serde(skip)]
    main: MainFigures,
}

/// The main part's figures, for text and thresholds.
#[derive(Debug, Clone)]
pub struct MainFigures {
    /// Which part.
    pub part: Part,
    /// Its figures.
    pub figures: Figures,
    /// Whether messages had an intended send time: else only their service time is measured.
    pub is_open: bool,
    /// Where everything ended, if a ledger was read.
    pub accounts: Option<Accounts>,
    /// `t3 - t0`, if a ledger was read and the loop was open.
    pub delivery: Option<Percentiles>,
    /// Share of a core of the busiest shard.
    pub busy: Option<f64>,
    /// CPU of the generator per message, in microseconds.
    pub cpu_us: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
struct PhaseResult {
    name: String,
    rate: Rate,
    messages: Messages,
    latency_us: Latency,
    validity: Validity,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Connections {
    opened: u64,
    broken: u64,
    refused: u64,
}

/// The accounts; without a sink's ledger only what the sender knows.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Pairs {
    Whole(Accounts),
    Sender {
        intended: u64,
        delivered: Option<u64>,
        bounced: Option<u64>,
        lost: Option<u64>,
        queued: Option<u64>,
        rejected: u64,
        deferred: u64,
        unknown: u64,
        recovered: Option<u64>,
        duplicated: BTreeMap<&'static str, Option<u64>>,
        unexpected: Option<u64>,
        deferred_yet_taken: Option<u64>,
        refused_yet_delivered: Option<u64>,
        content_differs: Option<u64>,
        unrecorded: Option<u64>,
    },
}

/// The gate's verdict, and that everything acknowledged arrived where sinks were asked.
fn judged(evidence: &Evidence, joined: Option<&Correlation>) -> Validity {
    let missing = joined.map_or(0, |joined| joined.accounts.lost_for_certain());
    judge(evidence).unless((missing > 0).then(|| {
        format!(
            "the drain did not end: {missing} recipients were acknowledged and are not at the sink; lost, or still queued at the target"
        )
    }))
}

impl Document {
    /// The document of a run; `joined` where a sink's ledger was read.
    pub fn new(sent: &Outcome, joined: Option<&Correlation>, context: Context) -> Self {
        let part = sent.main_part();
        let figures = sent.figures(part);
        let mut evidence = sent.evidence(part, &figures);
        evidence.sink_busy = context.sink_busy;
        evidence.accounts_add_up &= joined.is_none_or(|joined| joined.accounts.add_up());
        evidence.content_differs = joined.map_or(0, |joined| joined.accounts.content_differs);
        evidence.unrecorded = joined.map_or(0, |joined| joined.accounts.unrecorded);
        evidence.unattributed = joined.map_or(0, |joined| joined.accounts.duplicated.unattributed);
        evidence.overflowed += joined.map_or(0, |joined| joined.delivery.overflowed());
        let delivery = joined.filter(|_| sent.pacing.is_open()).and_then(|joined| joined.delivery_main.percentiles());
        let cpu_us = sent.cpu_us_per_message(&figures);
        let messages = sent.records.iter().map(Vec::len).sum::<usize>() as f64;
        let copied: u64 = sent.shards.iter().map(|shard| shard.io.copied_bytes).sum();
        let durability = if context.durability.is_empty() { "unknown".into() } else { context.durability };
        Self {
            schema: SCHEMA,
            tool: "ringload",
            version: env!("CARGO_PKG_VERSION"),
            git: engine::app::program::GIT,
            started: context.started,
            host: Host::here(),
            scenario: "send",
            phases: phases(sent, part, context.sink_busy),
            durability,
            rate: rate(sent, part, &figures),
            pairs: pairs(sent, joined),
            messages: Messages { intended: figures.intended, accepted: figures.accepted },
            latency_us: latency(sent, &figures, delivery),
            cpu_us_per_message: [("loadgen".into(), cpu_us), ("sink".into(), context.sink_cpu_us_per_message)].into(),
            syscalls_per_message: [("loadgen".into(), sent.syscalls_per_message())].into(),
            copied_bytes_per_message: [("loadgen".into(), (messages > 0.0).then(|| copied as f64 / messages))].into(),
            allocations_per_message: [("loadgen".into(), None)].into(),
            peak_rss_bytes: [("loadgen".into(), peak_rss_bytes())].into(),
            failover: [],
            validity: judged(&evidence, joined),
            limited_by: limited_by(&evidence),
            driver: sent.driver,
            commit: None,
            profile: context.profile,
            schedule_lag_us: sent.pacing.offered_per_s().and(figures.schedule_lag.percentiles()).into(),
            connection_wait_us: figures.connection_wait.percentiles().into(),
            step_us: steps(sent, &figures),
            not_accepted: sent.not_accepted(),
            recipients_refused: sent.recipients_refused(),
            first_refusal: sent.first_refusal.clone(),
            connections: Connections { opened: sent.connections, broken: sent.broken, refused: sent.refused },
            main: MainFigures {
                part,
                is_open: sent.pacing.is_open(),
                accounts: joined.map(|joined| joined.accounts),
                delivery,
                busy: sent.busiest(),
                cpu_us,
                figures,
            },
        }
    }

    /// The main part's figures.
    pub fn main(&self) -> &MainFigures {
        &self.main
    }

    /// What held the run back, if anything that was measured did.
    pub fn limited_by(&self) -> Option<&'static str> {
        self.limited_by
    }

    /// Messages and recipients that were refused, by reply code, and the first reply that did.
    pub fn refusals(&self) -> (&BTreeMap<String, u64>, &BTreeMap<String, u64>, Option<&str>) {
        (&self.not_accepted, &self.recipients_refused, self.first_refusal.as_deref())
    }

    /// Messages per second: offered, where the schedule decided, and achieved.
    pub fn rates(&self) -> (Option<f64>, Option<f64>) {
        (self.rate.offered_per_s, self.rate.achieved_per_s)
    }
}

fn rate(sent: &Outcome, part: Part, figures: &Figures) -> Rate {
    let seconds = part.length().as_secs_f64();
    let per_second = |count: u64| (seconds > 0.0).then(|| count as f64 / seconds);
    Rate {
        offered_per_s: sent.pacing.offered_per_s().and(per_second(figures.intended)),
        achieved_per_s: per_second(figures.accepted_in_time),
    }
}

/// A closed loop has a service time and no other: no message of it was due before its turn came.
fn latency(sent: &Outcome, figures: &Figures, delivery: Option<Percentiles>) -> Latency {
    let response = if sent.pacing.is_open() { figures.response.percentiles() } else { None };
    Latency { response: response.into(), service: figures.service.percentiles().into(), delivery: delivery.into() }
}

/// The parts of the run: the warm-up, each stage where there are several, and what counts.
fn phases(sent: &Outcome, main: Part, sink_busy: Option<f64>) -> Vec<PhaseResult> {
    let mut parts = Vec::new();
    if main.from > Span::ZERO {
        parts.push(("warm-up".to_owned(), Part { from: Span::ZERO, until: main.from }));
    }
    let stages = match &sent.pacing {
        Pacing::Open(plan) | Pacing::ClosedAt(plan) if plan.stages.len() > 1 => &plan.stages[..],
        _ => &[],
    };
    let mut from = Span::ZERO;
    for (number, stage) in stages.iter().enumerate() {
        let until = from + stage.length;
        let part = Part { from: from.max(main.from), until: until.min(main.until) };
        if part.from < part.until {
            parts.push((format!("stage-{} {}", number + 1, stage.rate), part));
        }
        from = until;
    }
    parts.push(("main".to_owned(), main));
    let result = |(name, part): (String, Part)| {
        let figures = sent.figures(part);
        // Of the sink nothing is known but in the main part.
        let sink_busy = sink_busy.filter(|_| part == main);
        let mut evidence = crate::validity::Evidence { sink_busy, ..sent.evidence(part, &figures) };
        evidence.acknowledged = evidence.acknowledged.filter(|_| part == main || figures.intended > 0);
        PhaseResult {
            name,
            rate: rate(sent, part, &figures),
            messages: Messages { intended: figures.intended, accepted: figures.accepted },
            latency_us: latency(sent, &figures, None),
            validity: judge(&evidence),
        }
    };
    parts.into_iter().map(result).collect()
}

fn pairs(sent: &Outcome, joined: Option<&Correlation>) -> Pairs {
    if let Some(joined) = joined {
        return Pairs::Whole(joined.accounts);
    }
    // Without a ledger every pair has the end that its reply gave it; where the accepted went nobody knows.
    let nobody = crate::correlate::correlate(&sent.sent(), &mut [], &Default::default(), Span::ZERO).accounts;
    Pairs::Sender {
        intended: nobody.intended,
        delivered: None,
        bounced: None,
        lost: None,
        queued: None,
        rejected: nobody.rejected,
        deferred: nobody.deferred,
        unknown: nobody.unknown,
        recovered: None,
        duplicated: ["W1", "W2", "W3", "W4", "W5", "unattributed"].map(|window| (window, None)).into(),
        unexpected: None,
        deferred_yet_taken: None,
        refused_yet_delivered: None,
        content_differs: None,
        unrecorded: None,
    }
}

fn steps(sent: &Outcome, figures: &Figures) -> BTreeMap<&'static str, Option<Percentiles>> {
    let connection = ["connect", "banner", "ehlo"].into_iter().zip(sent.connect.iter());
    let message = Phase::ALL.iter().map(|phase| phase.name()).zip(figures.phases.iter());
    connection.chain(message).map(|(name, times): (_, &Times)| (name, times.percentiles())).collect()
}

fn peak_rss_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}
