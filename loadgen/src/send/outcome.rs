//! What a sender came to.

use super::SendOptions;
use super::lane::Pacing;
use super::shard::ShardReport;
use crate::correlate::{RecipientRefusal, Sent};
use crate::record::histogram::Times;
use crate::record::{MessageRecord, State};
use crate::report::figures::{Figures, Part};
use crate::validity::{Evidence, Validity, judge, limited_by};
use crate::workload::recipients::Recipients;
use engine::io::driver::IoCounts;
use engine::wire::{Span, Tick};
use std::collections::BTreeMap;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every message has an outcome.
    Finished,
    /// Somebody stopped it; what became due until then has an outcome.
    Stopped,
    /// The drain's time was over first.
    DrainTimedOut,
}

/// What one shard used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardOutcome {
    /// User and system time of its thread between the end of the warm-up and the end of the schedule.
    pub cpu: Span,
    /// How long that was.
    pub over: Span,
    /// What its driver did, from start to end.
    pub io: IoCounts,
}

/// Everything that a sender measured. Figures are made from it: [`Outcome::figures`], [`Outcome::evidence`], and by
/// [`crate::correlate`] with the sinks' ledgers.
#[derive(Debug)]
pub struct Outcome {
    /// The run's number in stamps.
    pub run: u32,
    /// CLOCK_MONOTONIC at the start of the schedule.
    pub started: Tick,
    /// The driver in use.
    pub driver: &'static str,
    /// What decided when a message was sent.
    pub pacing: Pacing,
    /// Messages due before this do not count in the main figures.
    pub warm_up: Span,
    /// Records of each shard: message `seq` stands in `records[seq % shards][seq / shards]`.
    pub records: Vec<Vec<MessageRecord>>,
    /// Recipients that were refused while their message went on, sorted.
    pub refusals: Vec<RecipientRefusal>,
    /// The first reply that refused anything (4yz or 5yz), as it came.
    pub first_refusal: Option<String>,
    /// Who got what.
    pub recipients: Recipients,
    /// What each shard used.
    pub shards: Vec<ShardOutcome>,
    /// User and system time of the whole process between the end of the warm-up and the end of the schedule.
    pub process_cpu: Span,
    /// Microseconds to connect, to the greeting, to the reply to EHLO.
    pub connect: [Times; 3],
    /// Connections that were ready, one after another.
    pub connections: u64,
    /// Connections that ended before we wanted.
    pub broken: u64,
    /// Attempts to connect that failed.
    pub refused: u64,
    /// How it ended.
    pub ended: Ended,
    /// How far the wall clock moved against the monotonic one, in microseconds.
    pub clock_step_us: u64,
}

impl Outcome {
    pub(super) fn new(
        options: &SendOptions,
        recipients: Recipients,
        driver: &'static str,
        started: Tick,
        reports: Vec<ShardReport>,
    ) -> Self {
        let stopped = reports.iter().any(|report| report.stopped);
        let drained = reports.iter().all(|report| report.drained);
        let mut outcome = Self {
            run: options.run,
            started,
            driver,
            pacing: options.pacing.clone(),
            warm_up: options.warm_up,
            records: Vec::with_capacity(reports.len()),
            refusals: Vec::new(),
            first_refusal: None,
            recipients,
            shards: Vec::new(),
            process_cpu: Span::ZERO,
            connect: Default::default(),
            connections: 0,
            broken: 0,
            refused: 0,
            ended: match (stopped, drained) {
                (_, false) => Ended::DrainTimedOut,
                (true, true) => Ended::Stopped,
                (false, true) => Ended::Finished,
            },
            clock_step_us: 0,
        };
        let refusals = reports.iter().filter_map(|report| report.first_refusal.as_ref());
        outcome.first_refusal = refusals.min_by_key(|(at, _)| *at).map(|(_, said)| said.clone());
        for report in reports {
            outcome.add(report);
        }
        outcome.refusals.sort_unstable();
        outcome
    }

    fn add(&mut self, report: ShardReport) {
        self.records.push(report.records);
        self.refusals.extend(report.refusals);
        // Each shard looks at both ends: the same time, but for the moment at which it comes to look.
        self.process_cpu = self.process_cpu.max(report.cpu.process);
        self.shards.push(ShardOutcome { cpu: report.cpu.thread, over: report.cpu_over, io: report.counts });
        for (sum, times) in self.connect.iter_mut().zip([&report.connect, &report.greeting, &report.hello]) {
            sum.merge(times);
        }
        self.connections += report.connections;
        self.broken += report.broken;
        self.refused += report.refused;
    }

    /// Every message's record, in no particular order.
    pub fn all_records(&self) -> impl Iterator<Item = &MessageRecord> {
        self.records.iter().flatten()
    }

    /// What became of the messages that were not accepted, over the whole run: how many by reply code, or in words where there
    /// was no reply.
    pub fn not_accepted(&self) -> BTreeMap<String, u64> {
        let mut by_code = BTreeMap::new();
        for record in self.all_records().filter(|record| record.state != State::Accepted) {
            let name = match (record.state, record.code) {
                (State::Waiting, _) => "never begun".to_owned(),
                (State::NotAttempted, _) => "not attempted".to_owned(),
                (State::Rejected, 0) => "cannot be sent to this peer".to_owned(),
                (_, 0) => "no reply".to_owned(),
                (_, code) => code.to_string(),
            };
            *by_code.entry(name).or_default() += 1;
        }
        by_code
    }

    /// Recipients that were refused before their message's final reply, by reply code.
    pub fn recipients_refused(&self) -> BTreeMap<String, u64> {
        let mut by_code = BTreeMap::new();
        for refusal in &self.refusals {
            *by_code.entry(refusal.code.to_string()).or_default() += 1;
        }
        by_code
    }

    /// For [`crate::correlate::correlate`].
    pub fn sent(&self) -> Sent<'_> {
        Sent {
            run: self.run,
            started: self.started,
            shards: &self.records,
            recipients: &self.recipients,
            refusals: &self.refusals,
        }
    }

    /// From the end of the warm-up to the end of the schedule, or to where somebody stopped it.
    pub fn main_part(&self) -> Part {
        let last = self.all_records().map(|record| record.intended_ns + 1).max().unwrap_or(0);
        let length = self.length();
        let until = if self.ended == Ended::Stopped { length.min(Span(last)) } else { length };
        Part { from: self.warm_up, until: until.max(self.warm_up) }
    }

    /// How long the schedule was; where a number of messages ended it that waited for their turns, until the last outcome.
    fn length(&self) -> Span {
        match self.pacing {
            Pacing::Closed { length, messages_max } if self.all_records().count() as u64 >= messages_max => {
                let last = self.all_records().map(MessageRecord::answered).max().unwrap_or(Span::ZERO);
                length.min(Span(last.0 + 1))
            }
            _ => self.pacing.length(),
        }
    }

    /// The figures of one part of the run.
    pub fn figures(&self, part: Part) -> Figures {
        Figures::of(self.all_records(), part)
    }

    /// Share of a core that the busiest shard used.
    pub fn busiest(&self) -> Option<f64> {
        let busy = self.shards.iter().filter(|shard| shard.over > Span::ZERO);
        busy.map(|shard| shard.cpu.as_secs_f64() / shard.over.as_secs_f64()).reduce(f64::max)
    }

    /// CPU time of the whole process per message acknowledged in the main part, in microseconds.
    pub fn cpu_us_per_message(&self, figures: &Figures) -> Option<f64> {
        let cpu = self.process_cpu.as_secs_f64() * 1e6;
        (figures.accepted_in_time > 0).then(|| cpu / figures.accepted_in_time as f64)
    }

    /// System calls of all shards per message of the whole run.
    pub fn syscalls_per_message(&self) -> Option<f64> {
        let messages: usize = self.records.iter().map(Vec::len).sum();
        let syscalls: u64 = self.shards.iter().map(|shard| shard.io.syscalls).sum();
        (messages > 0).then(|| syscalls as f64 / messages as f64)
    }

    /// What the gate looks at, as far as the sender knows it.
    pub fn evidence(&self, part: Part, figures: &Figures) -> Evidence {
        let seconds = part.length().as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let open = self.pacing.offered_per_s().is_some();
        Evidence {
            schedule_lag_p99_us: if open { figures.schedule_lag.at(0.99) } else { None },
            response_p50_us: figures.response.at(0.5),
            acknowledged: Some(figures.accepted),
            offered_per_s: per_second(figures.intended),
            achieved_per_s: per_second(figures.accepted_in_time),
            generator_busy: self.busiest(),
            sink_busy: None,
            // Of the warm-up too: a message that hangs is none that was measured, but the target holds it.
            undrained: self
                .all_records()
                .filter(|record| matches!(record.state, State::Waiting | State::Started))
                .count() as u64,
            accounts_add_up: figures.add_up(),
            content_differs: 0,
            unrecorded: 0,
            unattributed: 0,
            overflowed: figures.overflowed() + self.connect.iter().map(Times::overflowed).sum::<u64>(),
            clock_step_us: self.clock_step_us,
            restarts: 0,
            saturation: !open,
        }
    }

    /// The verdict on the main part, from what the sender alone knows.
    pub fn validity(&self) -> (Validity, Option<&'static str>) {
        let part = self.main_part();
        let evidence = self.evidence(part, &self.figures(part));
        (judge(&evidence), limited_by(&evidence))
    }
}
