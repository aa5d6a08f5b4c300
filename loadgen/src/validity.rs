//! The gate that says INVALID (perf/METHODOLOGY.md, "Valid or not"): a latency or held-rate figure is worth what its run was.

use serde::{Deserialize, Serialize};

/// What the gate looks at. A component that was not watched is `None` and gates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evidence {
    /// 99th percentile of the schedule lag, in microseconds.
    pub schedule_lag_p99_us: Option<u64>,
    /// Median of the response time, in microseconds.
    pub response_p50_us: Option<u64>,
    /// Messages acknowledged, whenever; `None` of a part of a run in which none was due.
    pub acknowledged: Option<u64>,
    /// Intended messages per second of schedule.
    pub offered_per_s: f64,
    /// Acknowledged inside the schedule, per second of schedule; in a failover run outside the faults.
    pub achieved_per_s: f64,
    /// Share of one core that the busiest generator thread used, 0 to 1.
    pub generator_busy: Option<f64>,
    /// The same of the sink.
    pub sink_busy: Option<f64>,
    /// Messages still without an outcome when the drain's time was over.
    pub undrained: u64,
    /// The accounts of all pairs add up.
    pub accounts_add_up: bool,
    /// Copies whose content is not what was sent: what they cost is the cost of something else.
    pub content_differs: u64,
    /// (Message, recipient) pairs that a sink took and had no room to write down: nobody knows which.
    pub unrecorded: u64,
    /// Surplus copies in no window: what doubled them is not known, so it is not known what was measured either.
    pub unattributed: u64,
    /// Times that fit no histogram.
    pub overflowed: u64,
    /// How far the wall clock moved against the monotonic one, in microseconds.
    pub clock_step_us: u64,
    /// Components that restarted although no fault killed them.
    pub restarts: u32,
    /// Rates are not judged (closed loop, or a run that looks for the limit).
    pub saturation: bool,
}

/// The verdict, as `result.json` has it. The default is that of something nobody measured: not valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Validity {
    /// Whether latency and held rate may be quoted.
    pub valid: bool,
    /// Why not: one sentence each, with the figure and its limit.
    pub reasons: Vec<String>,
}

/// Schedule lag that is always allowed, in microseconds.
pub const SCHEDULE_LAG_US: u64 = 1000;
/// A wall clock that moved further than this against the monotonic one was set, not slewed, in microseconds.
pub const CLOCK_STEP_US: u64 = 50_000;
/// A thread busier than this share of a core did not only wait for the target.
pub const BUSY_MAX: f64 = 0.8;
/// Achieved over offered, at least.
pub const ACHIEVED_MIN: f64 = 0.99;

impl Validity {
    /// A verdict from reasons.
    pub fn from_reasons(reasons: Vec<String>) -> Self {
        Self { valid: reasons.is_empty(), reasons }
    }

    /// The verdict with one more reason against it, if there is one.
    #[must_use]
    pub fn unless(mut self, reason: Option<String>) -> Self {
        self.reasons.extend(reason);
        Self::from_reasons(self.reasons)
    }
}

/// Judges a run.
pub fn judge(evidence: &Evidence) -> Validity {
    let mut reasons = Vec::new();
    if evidence.acknowledged == Some(0) {
        reasons.push("nothing was acknowledged".to_owned());
    }
    let lag_limit = SCHEDULE_LAG_US.max(evidence.response_p50_us.unwrap_or(0) / 20);
    if let Some(lag) = evidence.schedule_lag_p99_us.filter(|&lag| lag > lag_limit) {
        reasons.push(format!("schedule lag p99 {lag} µs is above {lag_limit} µs: the generator did not keep up"));
    }
    let share = evidence.achieved_per_s / evidence.offered_per_s;
    if !evidence.saturation && evidence.offered_per_s > 0.0 && share < ACHIEVED_MIN {
        let (achieved, offered) = (evidence.achieved_per_s, evidence.offered_per_s);
        reasons.push(format!(
            "achieved {achieved:.1}/s of {offered:.1}/s offered ({:.1} %, at least 99 %)",
            share * 100.0
        ));
    }
    for (who, busy) in [("generator", evidence.generator_busy), ("sink", evidence.sink_busy)] {
        if let Some(busy) = busy.filter(|&busy| busy > BUSY_MAX && !evidence.saturation) {
            reasons.push(format!("a {who} thread was {:.0} % busy (at most 80 %)", busy * 100.0));
        }
    }
    if evidence.undrained > 0 {
        reasons.push(format!("the drain did not end: {} messages without an outcome", evidence.undrained));
    }
    if !evidence.accounts_add_up {
        reasons.push("the accounts do not add up".to_owned());
    }
    if evidence.content_differs > 0 {
        reasons.push(format!("{} copies are not what was sent", evidence.content_differs));
    }
    if evidence.unrecorded > 0 {
        reasons.push(format!(
            "a sink's ledger was full: {} recipients that it took are not in it, lost or doubled cannot be told; send fewer",
            evidence.unrecorded
        ));
    }
    if evidence.unattributed > 0 {
        reasons.push(format!(
            "{} surplus copies lie in no window (W1 to W5): nothing explains them",
            evidence.unattributed
        ));
    }
    if evidence.overflowed > 0 {
        reasons.push(format!("{} times were longer than a histogram holds (1 h)", evidence.overflowed));
    }
    if evidence.clock_step_us > CLOCK_STEP_US {
        reasons.push(format!("the wall clock was set during the run (by {} µs)", evidence.clock_step_us));
    }
    if evidence.restarts > 0 {
        reasons.push(format!("{} components restarted that no fault had killed", evidence.restarts));
    }
    Validity::from_reasons(reasons)
}

/// What held a saturation run back, from measured utilisation; `None` when nothing that was measured explains it.
pub fn limited_by(evidence: &Evidence) -> Option<&'static str> {
    let busy = |share: Option<f64>| share.is_some_and(|share| share > BUSY_MAX);
    if busy(evidence.generator_busy) {
        Some("generator")
    } else if busy(evidence.sink_busy) {
        Some("sink")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Evidence {
        Evidence {
            schedule_lag_p99_us: Some(100),
            response_p50_us: Some(500),
            acknowledged: Some(9990),
            offered_per_s: 1000.0,
            achieved_per_s: 999.0,
            generator_busy: Some(0.3),
            accounts_add_up: true,
            ..Evidence::default()
        }
    }

    #[test]
    fn a_good_run_is_valid_and_unwatched_parts_gate_nothing() {
        assert!(judge(&good()).valid);
        let unwatched =
            Evidence { sink_busy: None, generator_busy: None, schedule_lag_p99_us: None, acknowledged: None, ..good() };
        assert!(judge(&unwatched).valid);
    }

    #[test]
    fn every_fault_of_a_run_is_named() {
        let bad: [(Evidence, &str); 13] = [
            (Evidence { acknowledged: Some(0), ..good() }, "nothing was acknowledged"),
            (Evidence { schedule_lag_p99_us: Some(1001), ..good() }, "schedule lag p99 1001 µs is above 1000 µs"),
            (Evidence { achieved_per_s: 989.0, ..good() }, "98.9 %"),
            (Evidence { generator_busy: Some(0.81), ..good() }, "a generator thread was 81 % busy"),
            (Evidence { sink_busy: Some(0.9), ..good() }, "a sink thread was 90 % busy"),
            (Evidence { undrained: 3, ..good() }, "the drain did not end: 3"),
            (Evidence { accounts_add_up: false, ..good() }, "accounts"),
            (Evidence { content_differs: 2, ..good() }, "2 copies are not what was sent"),
            (Evidence { unattributed: 3, ..good() }, "3 surplus copies lie in no window"),
            (Evidence { overflowed: 1, ..good() }, "1 times were longer"),
            (Evidence { unrecorded: 7, ..good() }, "7 recipients that it took are not in it"),
            (Evidence { clock_step_us: 60_000, ..good() }, "60000 µs"),
            (Evidence { restarts: 1, ..good() }, "restarted"),
        ];
        for (evidence, text) in bad {
            let verdict = judge(&evidence);
            assert!(!verdict.valid && verdict.reasons.len() == 1, "{verdict:?}");
            assert!(verdict.reasons[0].contains(text), "{verdict:?}");
        }
    }

    #[test]
    fn a_slow_target_allows_more_lag_and_saturation_allows_a_busy_generator() {
        let slow = Evidence { schedule_lag_p99_us: Some(4000), response_p50_us: Some(100_000), ..good() };
        assert!(judge(&slow).valid);
        let full = Evidence { generator_busy: Some(0.99), achieved_per_s: 500.0, saturation: true, ..good() };
        assert!(judge(&full).valid);
        assert!(
            !judge(&Evidence { acknowledged: Some(0), ..full }).valid,
            "a server that refuses everything proves nothing"
        );
        assert_eq!(limited_by(&full), Some("generator"));
        assert_eq!(limited_by(&Evidence { sink_busy: Some(0.9), ..good() }), Some("sink"));
        assert_eq!(limited_by(&good()), None);
    }
}
