//! What a fault cost, computed from the fates of messages (perf/METHODOLOGY.md, "Failover"). Pure: it is told when each message
//! was due, answered and delivered, and when the fault struck and was healed; it owns no clock and no file.
//!
//! All times are microseconds on one monotonic clock. A fault's *window* reaches from the end of the one before it (or the
//! schedule's start) to the next one's strike (or the schedule's end). Its *baseline* is what came before `asked` in it, when the
//! harness began to work for the strike, without what the fault before may still have disturbed: a victim that says it is ready
//! has yet to load what it left.
//!
//! ```text
//!  window.start ── settling ── baseline ── asked ── struck ── fault ── healed ── aftermath ── window.end
//!                                          └ buckets of equal width by intended send time, the first begins at `struck` ┘
//! ```

use crate::affected::Group;
use crate::stats::percentile;
use loadgen::correlate::Window;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Buckets are so wide, or a multiple of it.
pub const BUCKET_US: u64 = 10_000;
/// A bucket is widened until it would hold so many messages.
pub const BUCKET_MESSAGES_MIN: u64 = 100;
/// No deadline is shorter than this.
pub const DEADLINE_US_MIN: u64 = 20_000;
/// Recovered means: so long a time without a bad bucket.
pub const STEADY_US: u64 = 10_000_000;
/// What is within this of the last trace of a fault is in no baseline.
pub const SETTLING_US: u64 = 1_000_000;
/// A shorter time before a strike tells no 99th percentile; the first fault's baseline is taken then, which nothing disturbed.
pub const BASELINE_US_MIN: u64 = 1_000_000;
/// Outcomes of deliveries that were not yet on disk at a strike are at most this old (ARCHITECTURE.md: 10 ms, doubled), and
/// what the dead one had sent arrives at most so much later.
pub const UNSETTLED_US: u64 = 20_000;
/// Fewer faults than this have no percentiles.
pub const FAULTS_FOR_PERCENTILES: usize = 9;

/// How one message's transaction ended, as its sender saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 250 after the final dot was read.
    Accepted,
    /// Any other end: a refusal, or the connection broke.
    Other,
    /// Not answered when the run was over.
    None,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// Its number in the run.
    pub seq: u64,
    /// When the schedule said it was due.
    pub intended_us: u64,
    /// When its first command was handed to the kernel; `None` if none was.
    pub begun_us: Option<u64>,
    /// When its transaction ended; meaningless for [`Answer::None`].
    pub answered_us: u64,
    /// How.
    pub answer: Answer,
    /// When the first copy of it was delivered.
    pub delivered_us: Option<u64>,
    /// Which sink delivered that copy (index into the run's sinks).
    pub route: u16,
    /// The window of its last surplus copy, if there was one.
    pub doubled: Option<Window>,
}

impl Fate {
    /// When its 250 was read.
    pub fn accepted_us(&self) -> Option<u64> {
        (self.answer == Answer::Accepted).then_some(self.answered_us)
    }

    /// When any end was seen.
    pub fn ended_us(&self) -> Option<u64> {
        (self.answer != Answer::None).then_some(self.answered_us)
    }

    /// Response time, if it was accepted.
    pub fn response_us(&self) -> Option<u64> {
        self.accepted_us().map(|at| at.saturating_sub(self.intended_us))
    }
}

/// What hubs did while a fault lasted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tries {
    /// Tries of a message at a next hop.
    pub attempts: f64,
    /// Recipients that one took. Messages of this harness have one each.
    pub delivered: f64,
}

/// One fault as it was really injected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strike {
    /// When work for it began that disturbs what is measured: the baseline ends here.
    pub asked_us: u64,
    /// When it struck.
    pub struck_us: u64,
    /// When the victim was no more.
    pub gone_us: u64,
    /// When its cause was gone again (the killed process said it is ready); `None` if it never was.
    pub healed_us: Option<u64>,
    /// The sink it took away; `None` when another component failed.
    pub lost_route: Option<u16>,
    /// Of a hub behind a front end: the share of messages that the other hubs took before, 0 to 1; `None` where nobody could
    /// take its place, or nobody knows.
    pub others_share: Option<f64>,
    /// Tries at next hops and what those took, from the strike to the heal, as the hubs that lived through it counted them.
    pub tries: Option<Tries>,
    /// First instant that belongs to this fault: the heal of the one before.
    pub window_start_us: u64,
    /// First instant that no longer belongs to it.
    pub window_end_us: u64,
}

/// The figures of one fault. Lengths of time in milliseconds; `None` where it cannot be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Impact {
    /// Strike and heal, milliseconds after the schedule's first message.
    pub struck_ms: f64,
    /// The same for the heal.
    pub healed_ms: Option<f64>,
    /// Width of a bucket: the resolution of everything that counts buckets.
    pub bucket_ms: f64,
    /// A message accepted later than this after it was due is not good.
    pub deadline_ms: f64,
    /// From the strike until the victim was no more. A next hop is silent for so long, then dead.
    pub dying_ms: f64,
    /// Response time before the fault.
    pub before_p50_ms: f64,
    /// The same, 99th percentile.
    pub before_p99_ms: f64,
    /// Buckets with less than 99 % good messages.
    pub outage_ms: f64,
    /// Of those, buckets with none good.
    pub hard_outage_ms: f64,
    /// The rest of them.
    pub brownout_ms: f64,
    /// Until the survivors had delivered (a next hop died) or acknowledged (a hub behind a front end died) more of what was
    /// due after the strike than their share before it explains.
    pub detection_ms: Option<f64>,
    /// Until the first ten seconds without a bad bucket and with p99 at most twice the one before.
    pub recovery_ms: Option<f64>,
    /// Outage after the heal.
    pub heal_ms: Option<f64>,
    /// Longest time without any 250 while messages were due.
    pub ack_gap_ms: f64,
    /// Most messages due and not yet delivered, after the strike.
    pub backlog_peak: u64,
    /// Until the backlog was back at its level before the fault.
    pub drain_ms: Option<f64>,
    /// Messages due each second from the strike to the heal (or the end of the window).
    pub due_per_s: Option<f64>,
    /// Of those, delivered once and within the deadline.
    pub goodput_per_s: Option<f64>,
    /// Tries at next hops for each message that one took, from the strike to the heal: 1 where none was in vain.
    pub retry_amplification: Option<f64>,
    /// Messages accepted before the strike and delivered only after the heal, or never.
    pub stranded: Option<u64>,
    /// How long after the heal the last of them was delivered.
    pub stranded_last_ms: Option<f64>,
    /// Response time beyond the median before the fault, summed over messages.
    pub debt_message_s: f64,
    /// Messages due after the strike that were not good.
    pub affected: u64,
    /// Messages that this fault could have doubled: delivered so near the strike that the outcome need not have been on
    /// disk (W1, W5), or, when a server died, not yet answered to their sender at the strike (W2).
    pub duplicates_max: u64,
    /// Messages whose sender need not have been told that they were taken: under way when a server died. At most so many of
    /// the delivered are *recovered* or *deferred yet taken*.
    pub unanswered_max: u64,
}

/// Computes the figures of faults that followed each other. `fates` need no order. One is left out of which nothing is known:
/// no message of its baseline was accepted, there is nothing to compare with.
pub fn impacts(fates: &[Fate], strikes: &[Strike]) -> Vec<(Strike, Impact)> {
    let undisturbed = strikes.first().map(|first| first.window_start_us..first.asked_us);
    let mut settled_us = None;
    let one = |strike: &Strike| {
        let own = settled_us.map_or(strike.window_start_us, |at: u64| at + SETTLING_US)..strike.asked_us;
        let is_long_enough = settled_us.is_none() || own.start + BASELINE_US_MIN <= own.end;
        let baseline = if is_long_enough { own } else { undisturbed.clone()? };
        let found = impact(fates, strike, baseline);
        settled_us = Some(found.as_ref().map_or(strike.healed_us.unwrap_or(strike.struck_us), |(_, settled)| *settled));
        found.map(|(impact, _)| (*strike, impact))
    };
    strikes.iter().filter_map(one).collect()
}

/// One fault's figures, and when the last trace of it was seen.
fn impact(fates: &[Fate], strike: &Strike, baseline: Range<u64>) -> Option<(Impact, u64)> {
    let within = |range: Range<u64>| {
        let mut some: Vec<Fate> = fates.iter().filter(|f| range.contains(&f.intended_us)).copied().collect();
        some.sort_unstable_by_key(|f| f.intended_us);
        some
    };
    let (before, window) = (within(baseline.clone()), within(strike.window_start_us..strike.window_end_us));
    let after = &window[window.partition_point(|f| f.intended_us < strike.struck_us)..];
    let mut quiet: Vec<u64> = before.iter().filter_map(Fate::response_us).collect();
    quiet.sort_unstable();
    let (p50, p99) = (percentile(&quiet, 50.0)?, percentile(&quiet, 99.0)?);
    let deadline = DEADLINE_US_MIN.max(5 * p99);
    let width = bucket_us(before.len() as u64, baseline.end - baseline.start);
    let buckets = buckets(after, strike, width, deadline);
    let recovery = recovery(&buckets, after, strike, width, 2 * p99);
    let last_bad_us = buckets.iter().rfind(|bucket| bucket.is_bad()).map(|bucket| bucket.start_us + width);
    let recovered_us = recovery.map(|after_us| strike.struck_us + after_us);
    let settled_us = strike.struck_us.max(strike.healed_us.max(last_bad_us).max(recovered_us).unwrap_or(0));
    let outage = outage(&buckets, width);
    let epoch = fates.iter().map(|f| f.intended_us).min().unwrap_or(strike.window_start_us);
    let backlog = backlog(&before, &window, strike, baseline.end);
    let stranded = stranded(fates, strike);
    let fault = &after[..after.partition_point(|f| f.intended_us < strike.over_us())];
    let flow = flow(fault, strike.over_us() - strike.struck_us, deadline);
    let impact = Impact {
        struck_ms: ms(strike.struck_us - epoch),
        healed_ms: strike.healed_us.map(|at| ms(at - epoch)),
        bucket_ms: ms(width),
        deadline_ms: ms(deadline),
        dying_ms: ms(strike.gone_us.saturating_sub(strike.struck_us)),
        before_p50_ms: ms(p50),
        before_p99_ms: ms(p99),
        outage_ms: ms(outage.total),
        hard_outage_ms: ms(outage.hard),
        brownout_ms: ms(outage.total - outage.hard),
        detection_ms: detection(&before, &window, strike, baseline.end).map(ms),
        recovery_ms: recovery.map(ms),
        heal_ms: strike.healed_us.map(|at| ms(outage_from(&buckets, width, at))),
        ack_gap_ms: ms(ack_gap(&window, strike)),
        backlog_peak: backlog.peak,
        drain_ms: backlog.drained_us.map(ms),
        due_per_s: flow.map(|flow| flow.due),
        goodput_per_s: flow.map(|flow| flow.good),
        retry_amplification: strike.tries.filter(|t| t.delivered > 0.0).map(|t| t.attempts / t.delivered),
        stranded: stranded.as_ref().map(|stranded| stranded.messages),
        stranded_last_ms: stranded.and_then(|stranded| stranded.last_us).map(ms),
        debt_message_s: debt(after, p50, strike.window_end_us) as f64 / 1e6,
        affected: after.iter().filter(|f| !is_good(f, deadline)).count() as u64,
        duplicates_max: fates.iter().filter(|f| can_double(f, strike)).count() as u64,
        unanswered_max: fates.iter().filter(|f| is_under_way(f, strike)).count() as u64,
    };
    Some((impact, settled_us))
}

impl Strike {
    /// When it was over: healed, or the window's end.
    pub fn over_us(&self) -> u64 {
        self.healed_us.map_or(self.window_end_us, |at| at.min(self.window_end_us)).max(self.struck_us)
    }
}

/// Messages a second.
#[derive(Debug, Clone, Copy)]
struct Flow {
    due: f64,
    good: f64,
}

/// What was due and what of it was goodput in `span_us`; `None` where that is no time.
pub fn goodput_per_s(fates: &[Fate], span_us: u64, deadline_us: u64) -> Option<f64> {
    flow(fates, span_us, deadline_us).map(|flow| flow.good)
}

fn flow(fates: &[Fate], span_us: u64, deadline_us: u64) -> Option<Flow> {
    let is_goodput = |f: &&Fate| {
        f.doubled.is_none() && f.delivered_us.is_some_and(|at| at.saturating_sub(f.intended_us) <= deadline_us)
    };
    let per_s = |count: usize| count as f64 * 1e6 / span_us as f64;
    let good = fates.iter().filter(is_goodput).count();
    (span_us > 0).then(|| Flow { due: per_s(fates.len()), good: per_s(good) })
}

fn can_double(fate: &Fate, strike: &Strike) -> bool {
    let unsettled = strike.struck_us.saturating_sub(UNSETTLED_US)..=strike.struck_us + UNSETTLED_US;
    match strike.lost_route {
        Some(route) => fate.route == route && fate.delivered_us.is_some_and(|at| unsettled.contains(&at)),
        None => is_under_way(fate, strike) || fate.delivered_us.is_some_and(|at| unsettled.contains(&at)),
    }
}

/// A server died with the message's transaction: begun before it was gone, and not yet answered when it was struck.
fn is_under_way(fate: &Fate, strike: &Strike) -> bool {
    strike.lost_route.is_none()
        && fate.begun_us.is_some_and(|begun| begun <= strike.gone_us)
        && fate.ended_us().is_none_or(|answered| answered >= strike.struck_us)
}

/// Width of a bucket: the smallest multiple of [`BUCKET_US`] that holds [`BUCKET_MESSAGES_MIN`] messages at the rate of
/// `messages` in `span_us`.
pub fn bucket_us(messages: u64, span_us: u64) -> u64 {
    let needed = BUCKET_MESSAGES_MIN.saturating_mul(span_us).div_ceil(messages.max(1));
    needed.div_ceil(BUCKET_US).max(1) * BUCKET_US
}

/// Messages that were due in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bucket {
    start_us: u64,
    due: u64,
    good: u64,
}

impl Bucket {
    /// Less than 99 % good. A bucket in which nothing was due is not bad.
    fn is_bad(&self) -> bool {
        self.good * 100 < self.due * 99
    }
}

fn is_good(fate: &Fate, deadline_us: u64) -> bool {
    fate.response_us().is_some_and(|response| response <= deadline_us)
}

/// Whole buckets from the strike to the window's end (a last, partial one is left out: it would hold too few).
fn buckets(after: &[Fate], strike: &Strike, width: u64, deadline: u64) -> Vec<Bucket> {
    let count = strike.window_end_us.saturating_sub(strike.struck_us) / width;
    let mut buckets: Vec<Bucket> =
        (0..count).map(|i| Bucket { start_us: strike.struck_us + i * width, due: 0, good: 0 }).collect();
    for fate in after {
        let index = ((fate.intended_us - strike.struck_us) / width) as usize;
        if let Some(bucket) = buckets.get_mut(index) {
            bucket.due += 1;
            bucket.good += u64::from(is_good(fate, deadline));
        }
    }
    buckets
}

struct Outage {
    total: u64,
    hard: u64,
}

fn outage(buckets: &[Bucket], width: u64) -> Outage {
    let bad = buckets.iter().filter(|b| b.is_bad()).count() as u64;
    let hard = buckets.iter().filter(|b| b.is_bad() && b.good == 0).count() as u64;
    Outage { total: bad * width, hard: hard * width }
}

fn outage_from(buckets: &[Bucket], width: u64, from_us: u64) -> u64 {
    buckets.iter().filter(|b| b.start_us + width > from_us && b.is_bad()).count() as u64 * width
}

/// From the strike to the start of the first [`STEADY_US`] in which no bucket is bad and p99 is at most `p99_max`.
/// `None`: the window ended before that could be seen.
fn recovery(buckets: &[Bucket], after: &[Fate], strike: &Strike, width: u64, p99_max: u64) -> Option<u64> {
    let needed = STEADY_US.div_ceil(width) as usize;
    let mut first = 0;
    while let Some(span) = buckets.get(first..first + needed) {
        if let Some(bad) = span.iter().rposition(Bucket::is_bad) {
            first += bad + 1;
            continue;
        }
        let (from, to) = (span[0].start_us, span[0].start_us + needed as u64 * width);
        let low = after.partition_point(|f| f.intended_us < from);
        let high = after.partition_point(|f| f.intended_us < to);
        let mut response: Vec<u64> = after[low..high].iter().filter_map(Fate::response_us).collect();
        response.sort_unstable();
        if percentile(&response, 99.0).is_some_and(|p99| p99 <= p99_max) {
            return Some(from - strike.struck_us);
        }
        first += 1;
    }
    None
}

/// The first new message that must have been routed around the fault: those due after the strike that survivors took are
/// counted against what their share before the fault explains (three standard deviations above it). A survivor that took
/// nothing before shows it with its first message.
fn detection(before: &[Fate], window: &[Fate], strike: &Strike, baseline_end_us: u64) -> Option<u64> {
    let new = || window.iter().filter(|f| f.intended_us >= strike.struck_us);
    let (share, mut taken): (f64, Vec<u64>) = match (strike.lost_route, strike.others_share) {
        (Some(lost), _) => {
            let survivors = new().filter(|f| f.route != lost);
            (share_before(before, baseline_end_us, lost)?, survivors.filter_map(|f| f.delivered_us).collect())
        }
        // Which hub took a message is not known; the dead one took none that was begun after its end.
        (None, Some(share)) => {
            let later = new().filter(|f| f.begun_us.is_some_and(|begun| begun >= strike.gone_us));
            (share, later.filter_map(Fate::accepted_us).collect())
        }
        (None, None) => return None,
    };
    let due: Vec<u64> = new().map(|f| f.intended_us).collect();
    // A file's time is the kernel's last tick, which may lie before the strike.
    taken.retain(|at| *at >= strike.struck_us);
    taken.sort_unstable();
    taken.iter().enumerate().find_map(|(index, &at)| {
        let due_by_then = due.partition_point(|due| *due <= at) as f64;
        let expected = share * due_by_then;
        let noise = 3.0 * (share * (1.0 - share) * due_by_then).sqrt();
        ((index + 1) as f64 > expected + noise).then(|| at - strike.struck_us)
    })
}

/// The share of what was delivered in the baseline that did not go to `lost`; `None`: nothing was.
fn share_before(before: &[Fate], baseline_end_us: u64, lost: u16) -> Option<f64> {
    let carried = |f: &&Fate| f.delivered_us.is_some_and(|at| at < baseline_end_us);
    let all = before.iter().filter(carried).count() as f64;
    let others = before.iter().filter(carried).filter(|f| f.route != lost).count() as f64;
    (all > 0.0).then(|| others / all)
}

/// The longest time after the strike without any 250 while at least one message was due and unanswered.
fn ack_gap(window: &[Fate], strike: &Strike) -> u64 {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        Accepted,
        Ended,
        Due,
    }
    let mut events: Vec<(u64, Event)> = Vec::with_capacity(window.len() * 2);
    for fate in window {
        events.push((fate.intended_us, Event::Due));
        match fate.answer {
            Answer::Accepted => events.push((fate.answered_us, Event::Accepted)),
            Answer::Other => events.push((fate.answered_us, Event::Ended)),
            Answer::None => {}
        }
    }
    events.sort_unstable();
    let (mut open, mut silent_since, mut longest) = (0u64, strike.window_start_us, 0);
    for (at, event) in events {
        if at >= strike.struck_us && open > 0 {
            longest = longest.max(at.min(strike.window_end_us).saturating_sub(silent_since));
        }
        match event {
            Event::Due => {
                if open == 0 {
                    silent_since = silent_since.max(at);
                }
                open += 1;
            }
            Event::Accepted => {
                open = open.saturating_sub(1);
                silent_since = at;
            }
            Event::Ended => open = open.saturating_sub(1),
        }
    }
    if open > 0 { longest.max(strike.window_end_us.saturating_sub(silent_since)) } else { longest }
}

struct Backlog {
    peak: u64,
    drained_us: Option<u64>,
}

/// Messages due, accepted in the end, and not yet delivered: its peak after the strike, and the time until it is back at
/// its usual level in the baseline (p99), after it first stood clearly above it (by half and a handful: a queue breathes).
fn backlog(before: &[Fate], window: &[Fate], strike: &Strike, baseline_end_us: u64) -> Backlog {
    let mut usual = levels(&backlog_steps(before), baseline_end_us);
    let steps = backlog_steps(window);
    let until_struck = levels(&steps, strike.struck_us);
    let (split, mut level) = (until_struck.len(), until_struck.last().copied().unwrap_or(0));
    usual.sort_unstable();
    let before = percentile(&usual, 99.0).unwrap_or(0);
    let (mut peak, mut is_above, mut drained_us) = (level, level > before + before / 2 + 5, None);
    for (at, step) in &steps[split..] {
        level += step;
        peak = peak.max(level);
        is_above |= level > before + before / 2 + 5;
        if is_above && level <= before && drained_us.is_none() {
            drained_us = Some(at - strike.struck_us);
        }
    }
    let drained_us = if is_above { drained_us } else { Some(0) };
    Backlog { peak: peak.max(0) as u64, drained_us }
}

/// Where the backlog of `fates` grows and shrinks, in order.
fn backlog_steps(fates: &[Fate]) -> Vec<(u64, i64)> {
    let mut steps: Vec<(u64, i64)> = Vec::with_capacity(fates.len() * 2);
    for fate in fates.iter().filter(|f| f.answer == Answer::Accepted) {
        steps.push((fate.intended_us, 1));
        steps.extend(fate.delivered_us.map(|at| (at, -1)));
    }
    steps.sort_unstable();
    steps
}

/// The backlog behind each step before `until_us`, and the last.
fn levels(steps: &[(u64, i64)], until_us: u64) -> Vec<i64> {
    let before = steps.iter().take_while(|(at, _)| *at < until_us);
    before
        .scan(0, |level, (_, step)| {
            *level += step;
            Some(*level)
        })
        .collect()
}

struct Stranded {
    messages: u64,
    last_us: Option<u64>,
}

/// `None`: the victim never came back, and nobody knows what rests on it.
fn stranded(fates: &[Fate], strike: &Strike) -> Option<Stranded> {
    let healed = strike.healed_us?;
    let rested = |f: &&Fate| {
        f.accepted_us().is_some_and(|at| at <= strike.struck_us && at >= strike.window_start_us)
            && f.delivered_us.is_none_or(|at| at >= healed)
    };
    Some(Stranded {
        messages: fates.iter().filter(rested).count() as u64,
        last_us: fates.iter().filter(rested).filter_map(|f| f.delivered_us).max().map(|at| at - healed),
    })
}

/// Response time beyond `usual_us`, summed, in message-microseconds. What was never accepted waited until its refusal, or
/// until the end.
fn debt(after: &[Fate], usual_us: u64, end_us: u64) -> u64 {
    after
        .iter()
        .map(|f| f.ended_us().unwrap_or(end_us).saturating_sub(f.intended_us).saturating_sub(usual_us))
        .fold(0, u64::saturating_add)
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// Median, 99th percentile and worst over several faults; percentiles are `None` below nine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Spread {
    /// Median.
    pub p50: Option<f64>,
    /// 99th percentile (nearest rank).
    pub p99: Option<f64>,
    /// Worst.
    pub max: Option<f64>,
}

/// Spreads `values` (one per fault).
pub fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let enough = sorted.len() >= FAULTS_FOR_PERCENTILES;
    let at = |p: f64| if enough { percentile(&sorted, p) } else { None };
    Spread { p50: at(50.0), p99: at(99.0), max: sorted.last().copied() }
}

/// What rests on a dead server: how many messages, and how late the last of them came.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct StrandedSum {
    /// Over all faults; `None` where it is not known of one.
    pub messages: Option<u64>,
    /// The latest after the heal, milliseconds.
    pub last_delivered_ms: Option<f64>,
}

/// All faults of one kind, as `result.json` names them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Summary {
    /// What failed: `next-hop`, `hub`, …
    pub kind: String,
    /// How many times.
    pub faults: usize,
    /// Widest bucket: the resolution.
    pub bucket_ms: f64,
    /// Longest deadline.
    pub deadline_ms: f64,
    /// As [`Impact`]'s fields of the same names.
    pub outage_ms: Spread,
    /// See above.
    pub hard_outage_ms: Spread,
    /// See above.
    pub brownout_ms: Spread,
    /// See above.
    pub detection_ms: Spread,
    /// See above.
    pub recovery_ms: Spread,
    /// See above.
    pub heal_ms: Spread,
    /// See above.
    pub ack_gap_ms: Spread,
    /// Longest time until the backlog was back at its level before the fault.
    pub drain_ms: Spread,
    /// Highest backlog.
    pub backlog_peak: u64,
    /// As [`Impact`]'s field of the same name.
    pub retry_amplification: Spread,
    /// Messages delivered once and within the deadline, for each second of the whole schedule, faults included.
    pub goodput_per_s: Option<f64>,
    /// What rested on the dead server.
    pub stranded: StrandedSum,
    /// Sum over all faults.
    pub debt_message_s: f64,
    /// Messages due after a strike and not good, over all faults.
    pub affected: u64,
    /// (Message, recipient) pairs lost in this phase; `None` when not accounted.
    pub lost: Option<u64>,
    /// Pairs delivered more than once.
    pub duplicated: Option<u64>,
    /// At most so many could be (P-004): the sum over all faults.
    pub duplicates_max: u64,
    /// At most so many could have been taken without their sender being told so: the sum over all faults.
    pub unanswered_max: u64,
    /// Every single fault.
    pub each: Vec<Impact>,
    /// What became of the messages that were late, refused, lost or doubled, by the fault that explains them and how.
    #[serde(default)]
    pub explained: Vec<Group>,
}

/// Summarises faults of one kind. `None` without any.
pub fn summarise(kind: &str, each: Vec<Impact>, lost: Option<u64>, duplicated: Option<u64>) -> Option<Summary> {
    if each.is_empty() {
        return None;
    }
    // One that is not known, since it never came while it was looked for, is longer than all that are: there is no worst
    // then, and no median either where it is most of them.
    let over = |field: fn(&Impact) -> Option<f64>| {
        let finite = |rank: Option<f64>| rank.filter(|value| value.is_finite());
        let Spread { p50, p99, max } = spread(each.iter().map(|one| field(one).unwrap_or(f64::INFINITY)));
        Spread { p50: finite(p50), p99: finite(p99), max: finite(max) }
    };
    let widest = |field: fn(&Impact) -> f64| each.iter().map(field).fold(0.0, f64::max);
    Some(Summary {
        kind: kind.to_owned(),
        faults: each.len(),
        bucket_ms: widest(|i| i.bucket_ms),
        deadline_ms: widest(|i| i.deadline_ms),
        outage_ms: over(|i| Some(i.outage_ms)),
        hard_outage_ms: over(|i| Some(i.hard_outage_ms)),
        brownout_ms: over(|i| Some(i.brownout_ms)),
        detection_ms: over(|i| i.detection_ms),
        recovery_ms: over(|i| i.recovery_ms),
        heal_ms: over(|i| i.heal_ms),
        ack_gap_ms: over(|i| Some(i.ack_gap_ms)),
        drain_ms: over(|i| i.drain_ms),
        backlog_peak: each.iter().map(|i| i.backlog_peak).max().unwrap_or(0),
        retry_amplification: over(|i| i.retry_amplification),
        goodput_per_s: None,
        stranded: StrandedSum {
            messages: each.iter().map(|i| i.stranded).sum(),
            last_delivered_ms: each.iter().filter_map(|i| i.stranded_last_ms).reduce(f64::max),
        },
        debt_message_s: each.iter().map(|i| i.debt_message_s).sum(),
        affected: each.iter().map(|i| i.affected).sum(),
        lost,
        duplicated,
        duplicates_max: each.iter().map(|i| i.duplicates_max).sum(),
        unanswered_max: each.iter().map(|i| i.unanswered_max).sum(),
        each,
        explained: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
