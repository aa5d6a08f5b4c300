//! From what was recorded in a phase to its figures. Pure: it is given everything after the drain.

use crate::affected::{Affected, affected, groups};
use crate::failover::{Answer, Fate, Strike, Summary, Tries, UNSETTLED_US, goodput_per_s, impacts, summarise};
use crate::html::PhaseView;
use crate::plan;
use crate::result::{Figures, Latency, Messages, PerProcess, Phase, Quantiles, Rate};
use crate::views::{Happening, curve, timelines};
use engine::wire::{Span, Tick};
use loadgen::correlate::{Circumstances, Correlation, Window, correlate, first_arrivals, with_delivery};
use loadgen::ledger::Delivery;
use loadgen::record::histogram::Times;
use loadgen::record::timeline::{Intervals, Timeline, timeline};
use loadgen::record::{Phase as Step, State};
use loadgen::report::figures::Part;
use loadgen::send::{Ended, Outcome};
use loadgen::validity::{Evidence, Validity, judge, limited_by};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// A fault as it was really done.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// Who.
    pub victim: String,
    /// When the harness began to disturb: it asks for counts, and a sink that is to die for what it took.
    pub asked: Tick,
    /// When the harness acted.
    pub struck: Tick,
    /// When the process had ended.
    pub gone: Tick,
    /// When the victim said it was ready again.
    pub healed: Option<Tick>,
    /// Its place among the sinks, if it is one.
    pub route: Option<u16>,
    /// Whether it is a server that another one hands messages to before it answers.
    pub is_behind: bool,
    /// Of such a hub: the share of messages that the others of its front end took since the fault before, if that is known.
    pub others_share: Option<f64>,
    /// What the hubs that lived through it did from the strike to the heal, if all of them tell.
    pub tries: Option<Tries>,
}

/// What each kind of process used in the measured time, from all observations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// User and system time, microseconds.
    pub cpu_us: Vec<(String, u64)>,
    /// The same of each process, by its name.
    pub cpu_us_of_each: Vec<(String, u64)>,
    /// System calls, by kind.
    pub syscalls: Vec<(String, f64)>,
    /// Octets of content copied, by kind.
    pub copied_bytes: Vec<(String, f64)>,
    /// Allocations, by kind; empty unless the build counts them.
    pub allocations: Vec<(String, f64)>,
    /// Durable writes, by kind.
    pub stable_writes: Vec<(String, f64)>,
    /// Octets written to files, by kind.
    pub written_bytes: Vec<(String, f64)>,
    /// Peak memory, octets.
    pub rss_bytes: Vec<(String, u64)>,
    /// Busiest sink thread, 0 to 1.
    pub sink_busy: Option<f64>,
    /// Share of its cores that the engine side used.
    pub engine_busy: Option<f64>,
    /// The same of the load side.
    pub load_busy: Option<f64>,
    /// Share of the time in which a batch was being made durable.
    pub disk_busy: Option<f64>,
    /// Messages that hubs still held when the drain's time was over.
    pub queued: u64,
    /// One of them did not say so: whether the drain ended is not known.
    pub is_queue_unknown: bool,
    /// Processes that ended though no fault killed them.
    pub died: Vec<String>,
}

/// Everything about one phase.
#[derive(Debug)]
pub struct Evidences<'a> {
    /// What was planned.
    pub phase: &'a plan::Phase,
    /// What the sender recorded.
    pub outcome: &'a Outcome,
    /// What arrived where: one list for each route.
    pub ledgers: &'a [Vec<Delivery>],
    /// What was done to whom.
    pub faults: &'a [Done],
    /// What processes used.
    pub observed: &'a Observed,
    /// When the schedule began, by the wall clock.
    pub started: SystemTime,
}

/// A phase's figures and pictures.
#[derive(Debug)]
pub struct Measured {
    /// For `result.json`.
    pub phase: Phase,
    /// User and system time of each process, by its name, for each acknowledged message.
    pub cpu_us_of_each: PerProcess,
    /// For the report.
    pub view: PhaseView,
    /// For the histogram files.
    pub response: Times,
    /// See above.
    pub service: Times,
    /// See above.
    pub delivery: Times,
    /// Response times of each second.
    pub intervals: Intervals,
    /// When the schedule began, by the wall clock.
    pub started: SystemTime,
    /// For `timeline.csv`.
    pub timeline: Timeline,
    /// For `affected-PHASE.csv`; `None` of a phase without faults.
    pub affected: Option<Vec<Affected>>,
}

/// Settles accounts and computes every figure.
pub fn measure(given: &Evidences<'_>) -> Measured {
    let outcome = given.outcome;
    let part = outcome.main_part();
    let figures = outcome.figures(part);
    let correlation = settle(given);
    let arrivals = first_arrivals(&outcome.sent(), given.ledgers.iter().map(Vec::as_slice));
    let fates = fates(outcome, &arrivals, &correlation.doubled);
    let (failover, affected) = failover(given, &fates, &correlation, part).unzip();
    let evidence = evidence(given, part, &figures, &correlation, failover.as_ref());
    let seconds = part.length().as_secs_f64();
    let per_s = |count: u64| (seconds > 0.0).then(|| count as f64 / seconds);
    let messages = figures.accepted_in_time;
    // Where sinks refused mail, how long it took to arrive is how long they did.
    let delivery = if given.phase.held_back { Times::new() } else { correlation.delivery_main.clone() };
    let quantiles = |times: &Times| if evidence.saturation { Quantiles::default() } else { quantiles(times) };
    let phase = Phase {
        name: given.phase.name.clone(),
        about: given.phase.about.clone(),
        saturating: evidence.saturation,
        seconds,
        size_bytes: match given.phase.content {
            plan::Content::Bytes(bytes) => Some(bytes),
            plan::Content::Corpus(_) | plan::Content::OwnCorpus => None,
        },
        figures: Figures {
            rate: Rate {
                offered_per_s: if evidence.saturation { None } else { per_s(figures.intended) },
                achieved_per_s: per_s(messages),
            },
            pairs: correlation.accounts,
            not_accepted: outcome.not_accepted(),
            messages: Messages { intended: figures.intended, accepted: figures.accepted },
            latency_us: Latency {
                response: quantiles(&figures.response),
                service: quantiles(&figures.service),
                delivery: quantiles(&delivery),
            },
            schedule_lag_us: quantiles(&figures.schedule_lag),
            step_us: if evidence.saturation { Vec::new() } else { steps(outcome, part) },
            cpu_us_per_message: each(&given.observed.cpu_us, &ALL_KINDS, messages, |us| us as f64),
            syscalls_per_message: each(&given.observed.syscalls, &ENGINE_KINDS, messages, |n| n),
            copied_bytes_per_message: each(&given.observed.copied_bytes, &ENGINE_KINDS, messages, |n| n),
            allocations_per_message: each(&given.observed.allocations, &ENGINE_KINDS, messages, |n| n),
            stable_writes_per_message: each(&given.observed.stable_writes, &ENGINE_KINDS, messages, |n| n),
            written_bytes_per_message: each(&given.observed.written_bytes, &ENGINE_KINDS, messages, |n| n),
            peak_rss_bytes: each(&given.observed.rss_bytes, &ALL_KINDS, 1, |bytes| bytes as f64),
            validity: judged(given, &evidence, failover.as_ref()),
            limited_by: if evidence.saturation { limit(given, &evidence) } else { None },
        },
        failover,
    };
    let view = if evidence.saturation { PhaseView::default() } else { view(given, &fates, part, &phase) };
    Measured {
        phase,
        cpu_us_of_each: each(&given.observed.cpu_us_of_each, &[], messages, |us| us as f64),
        view,
        response: figures.response,
        service: figures.service,
        delivery,
        intervals: Intervals::of(outcome.all_records()),
        started: given.started,
        timeline: timeline(with_delivery(&outcome.sent(), &arrivals)),
        affected,
    }
}

/// The gate's verdict, and that each fault could be judged: one without an acknowledgement before it has nothing to be
/// compared with.
fn judged(given: &Evidences<'_>, evidence: &Evidence, failover: Option<&Summary>) -> Validity {
    let (of, judged) = (given.faults.len(), failover.map_or(0, |failover| failover.each.len()));
    let without = of.saturating_sub(judged);
    let unknown = given.observed.is_queue_unknown.then(|| {
        "a hub does not say how many messages it holds (do its metrics answer?): whether the drain ended is not known".to_owned()
    });
    judge(evidence).unless(unknown).unless(
        (without > 0)
            .then(|| format!("{without} of {of} faults had nothing acknowledged before them to be compared with")),
    )
}

/// The accounts: duplicates whose first copy arrived while something was dead belong to that death.
fn settle(given: &Evidences<'_>) -> Correlation {
    let mut all: Vec<Delivery> = given.ledgers.iter().flatten().copied().collect();
    let after = Span::seconds(5);
    let span = |f: &Done| (before_death(f), f.healed.map_or(Tick::NEVER, |at| at + after));
    let around = Circumstances {
        // What a hub that does not say holds may be all that is missing: then nothing is lost for certain.
        queued: if given.observed.is_queue_unknown { u64::MAX } else { given.observed.queued },
        server_breaks: given.faults.iter().map(span).collect(),
        deaths_behind: given.faults.iter().filter(|f| f.is_behind).map(|f| (f.struck, f.gone)).collect(),
        resubmissions: Vec::new(),
    };
    correlate(&given.outcome.sent(), &mut all, &around, given.outcome.warm_up)
}

fn before_death(fault: &Done) -> Tick {
    Tick(fault.struck.0.saturating_sub(UNSETTLED_US * 1000))
}

/// One fate for each message, in the order of their numbers; `arrivals` are their [`first_arrivals`], `doubled` their surplus
/// copies in the same order.
fn fates(outcome: &Outcome, arrivals: &[Option<(Tick, u16)>], doubled: &[(u64, Window)]) -> Vec<Fate> {
    let sent = outcome.sent();
    let doubled: BTreeMap<u64, Window> = doubled.iter().copied().collect();
    let fate = |(seq, delivered): (usize, &Option<(Tick, u16)>)| {
        let record = sent.record(seq as u64)?;
        let intended_us = (outcome.started + record.intended()).0 / 1000;
        Some(Fate {
            seq: seq as u64,
            intended_us,
            begun_us: match record.state {
                State::Waiting | State::NotAttempted => None,
                _ => Some((outcome.started + record.begun()).0 / 1000),
            },
            answered_us: intended_us + record.response_us(),
            answer: match record.state {
                State::Accepted => Answer::Accepted,
                State::Waiting | State::Started => Answer::None,
                State::Rejected | State::Deferred | State::NotAttempted | State::Unknown => Answer::Other,
            },
            delivered_us: delivered.map(|(at, _)| at.0 / 1000),
            route: delivered.map_or(u16::MAX, |(_, route)| route),
            doubled: doubled.get(&(seq as u64)).copied(),
        })
    };
    arrivals.iter().enumerate().filter_map(fate).collect()
}

/// What the faults of a phase cost, and each message that felt one.
fn failover(
    given: &Evidences<'_>,
    fates: &[Fate],
    settled: &Correlation,
    part: Part,
) -> Option<(Summary, Vec<Affected>)> {
    let kind = given.phase.fault_kind.as_deref()?;
    let begin = (given.outcome.started + part.from).0 / 1000;
    let end = (given.outcome.started + part.until).0 / 1000;
    // The warm-up is no part of the story: times count from the first message behind it, as in the charts.
    let main: Vec<Fate> = fates.iter().filter(|fate| fate.intended_us >= begin).copied().collect();
    let strikes: Vec<Strike> = given
        .faults
        .iter()
        .enumerate()
        .map(|(index, fault)| {
            let previous = index.checked_sub(1).and_then(|before| given.faults.get(before));
            let window_start_us = previous.map_or(begin, |before| before.healed.unwrap_or(before.struck).0 / 1000);
            let next = given.faults.get(index + 1);
            Strike {
                asked_us: fault.asked.0 / 1000,
                struck_us: fault.struck.0 / 1000,
                gone_us: fault.gone.0 / 1000,
                healed_us: fault.healed.map(|at| at.0 / 1000),
                lost_route: fault.route,
                others_share: fault.others_share,
                tries: fault.tries,
                window_start_us: window_start_us.max(begin),
                window_end_us: next.map_or(end, |next| next.struck.0 / 1000),
            }
        })
        .collect();
    let judged = impacts(&main, &strikes);
    let accounts = &settled.accounts;
    let impacts = judged.iter().map(|(_, impact)| impact.clone()).collect();
    let mut summary = summarise(kind, impacts, Some(accounts.lost), Some(accounts.duplicated.total()))?;
    let deadline_us = (summary.deadline_ms * 1000.0) as u64;
    summary.goodput_per_s = goodput_per_s(&main, end.saturating_sub(begin), deadline_us);
    let affected = affected(&main, &judged);
    summary.explained = groups(&affected);
    Some((summary, affected))
}

fn evidence(
    given: &Evidences<'_>,
    part: Part,
    figures: &loadgen::report::figures::Figures,
    settled: &Correlation,
    failover: Option<&Summary>,
) -> Evidence {
    let mut evidence = given.outcome.evidence(part, figures);
    evidence.sink_busy = given.observed.sink_busy;
    evidence.undrained += given.observed.queued;
    evidence.accounts_add_up &= settled.accounts.add_up();
    evidence.content_differs = settled.accounts.content_differs;
    evidence.unrecorded = settled.accounts.unrecorded;
    evidence.unattributed = settled.accounts.duplicated.unattributed;
    evidence.overflowed += settled.delivery.overflowed();
    evidence.restarts += given.observed.died.len() as u32;
    if let Some(failover) = failover {
        (evidence.offered_per_s, evidence.achieved_per_s) = outside_faults(given, part, failover);
    }
    if given.outcome.ended == Ended::Stopped {
        // What an interrupted schedule did not send was never due.
        evidence.offered_per_s = evidence.offered_per_s.min(evidence.achieved_per_s / 0.99);
    }
    evidence
}

/// Offered and achieved messages (not per second: only their ratio counts) outside the time from each fault to the
/// recovery from it. Where recovery is unknown, up to the next baseline.
fn outside_faults(given: &Evidences<'_>, part: Part, failover: &Summary) -> (f64, f64) {
    let started = given.outcome.started;
    let gaps: Vec<(u64, u64)> = given
        .faults
        .iter()
        .zip(&failover.each)
        .map(|(fault, impact)| {
            let struck = fault.struck.since(started).0;
            let unknown = fault.healed.map_or(part.until.0, |healed| healed.since(started).0 + 1_000_000_000);
            (struck, impact.recovery_ms.map_or(unknown, |ms| struck + (ms * 1e6) as u64))
        })
        .collect();
    let outside =
        |ns: u64| (part.from.0..part.until.0).contains(&ns) && !gaps.iter().any(|(a, b)| (*a..*b).contains(&ns));
    let counted = given.outcome.all_records().filter(|record| outside(record.intended_ns));
    let (mut offered, mut achieved) = (0u64, 0u64);
    for record in counted {
        offered += 1;
        // What a drain works off behind the schedule is no rate that was held.
        achieved += u64::from(record.state == State::Accepted && record.answered() < part.until);
    }
    (offered as f64, achieved as f64)
}

/// Cores of one side that are busier than this have nothing left, nor has a disk.
pub(crate) const CORES_BUSY: f64 = 0.85;

/// What kept a flat-out phase from being faster, by what was busy.
fn limit(given: &Evidences<'_>, evidence: &Evidence) -> Option<String> {
    let busy = |share: Option<f64>| share.is_some_and(|share| share > CORES_BUSY);
    let observed = given.observed;
    let named = match limited_by(evidence) {
        Some(named) => named,
        None if busy(observed.load_busy) => "generator",
        None if busy(observed.engine_busy) => "engine",
        None if busy(observed.disk_busy) => "disk",
        None => return None,
    };
    Some(named.to_owned())
}

fn view(given: &Evidences<'_>, fates: &[Fate], part: Part, phase: &Phase) -> PhaseView {
    let begin = (given.outcome.started + part.from).0 / 1000;
    let main: Vec<Fate> = fates.iter().filter(|fate| fate.intended_us >= begin).copied().collect();
    let mut response: Vec<u64> = main.iter().filter_map(Fate::response_us).collect();
    let taken = main.iter().filter(|_| !given.phase.held_back);
    let mut delivery: Vec<u64> =
        taken.filter_map(|fate| Some(fate.delivered_us?.saturating_sub(fate.intended_us))).collect();
    let counted = given.outcome.all_records().filter(|r| r.state == State::Accepted && r.intended() >= part.from);
    let mut service: Vec<u64> = counted.map(loadgen::record::MessageRecord::service_us).collect();
    let curves = [curve("response", &mut response), curve("service", &mut service), curve("delivery", &mut delivery)];
    let mut happenings = Vec::new();
    for fault in given.faults {
        let struck =
            Happening { at_us: fault.struck.0 / 1000, label: format!("{} killed", fault.victim), is_heal: false };
        happenings.push(struck);
        happenings.extend(fault.healed.map(|at| Happening {
            at_us: at.0 / 1000,
            label: format!("{} back", fault.victim),
            is_heal: true,
        }));
    }
    let timelines = timelines(&main, &happenings, phase.failover.as_ref());
    PhaseView { curves: curves.into_iter().flatten().collect(), timelines }
}

fn quantiles(times: &Times) -> Quantiles {
    let at = |quantile: f64| times.at(quantile).map(|us| us as f64);
    Quantiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: times.max().map(|us| us as f64) }
}

/// Mean time of each step of a transaction, over accepted messages: they add up to the mean service time.
fn steps(outcome: &Outcome, part: Part) -> Vec<(String, Option<f64>)> {
    let (mut sums, mut count) = ([0u64; Step::ALL.len()], 0u64);
    let within = |at: Span| part.from <= at && at < part.until;
    for record in outcome.all_records().filter(|r| r.state == State::Accepted && within(r.intended())) {
        count += 1;
        sums.iter_mut().zip(record.phases_us()).for_each(|(sum, us)| *sum += us);
    }
    let mean = |sum: u64| (count > 0).then(|| sum as f64 / count as f64);
    Step::ALL.iter().zip(sums).map(|(step, sum)| (step.name().to_owned(), mean(sum))).collect()
}

/// Every kind of process that a run may have.
const ALL_KINDS: [&str; 5] = ["hub", "frontend", "mailbox", "loadgen", "sink"];
/// Those that count for themselves.
const ENGINE_KINDS: [&str; 3] = ["hub", "frontend", "mailbox"];

/// Each sum divided by `messages`; one of `kinds` of which nothing is known is there too, and `None`.
fn each<T: Copy>(sums: &[(String, T)], kinds: &[&str], messages: u64, number: impl Fn(T) -> f64) -> PerProcess {
    let share = |sum: T| (messages > 0).then(|| number(sum) / messages as f64);
    let unknown = kinds.iter().map(|kind| ((*kind).to_owned(), None));
    unknown.chain(sums.iter().map(|(kind, sum)| (kind.clone(), share(*sum)))).collect()
}

#[cfg(test)]
mod tests;
