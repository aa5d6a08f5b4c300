//! Whether a figure may be used (measurement.md, "Valid or not"). Pure: facts in, reasons out, in the words a person reads
//! first.

use serde::{Deserialize, Serialize};

/// Schedule lag p99 may be so large at least, microseconds.
pub const LAG_US_MIN: f64 = 1_000.0;
/// And this share of the median response.
pub const LAG_SHARE: f64 = 0.05;
/// Less than this share of the offered messages acknowledged: the rate was not held.
pub const HELD_SHARE: f64 = 0.99;
/// A generator or sink thread busier than this measures itself.
pub const BUSY_MAX: f64 = 0.80;

/// The verdict on a phase or a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Validity {
    /// Whether there is no reason against it.
    pub valid: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

impl Validity {
    /// Valid exactly when there are no reasons.
    pub fn from_reasons(reasons: Vec<String>) -> Self {
        Self { valid: reasons.is_empty(), reasons }
    }

    /// Valid when both are; the reasons of both, each once.
    pub fn and(mut self, other: Self) -> Self {
        for reason in other.reasons {
            if !self.reasons.contains(&reason) {
                self.reasons.push(reason);
            }
        }
        self.valid = self.valid && other.valid;
        self
    }
}

/// What is known about a phase when it is over. `None`: not known, and so no reason.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// 99th percentile of the schedule lag, microseconds.
    pub lag_p99_us: Option<f64>,
    /// Median response time, microseconds.
    pub response_p50_us: Option<f64>,
    /// Acknowledged / offered, outside the time from a fault to its recovery.
    pub held: Option<f64>,
    /// Whether the phase drives the target to its limit on purpose: then it holds no rate and has no latency.
    pub saturating: bool,
    /// Busiest thread of the generator, 0 to 1.
    pub generator_busy: Option<f64>,
    /// Busiest thread of a sink.
    pub sink_busy: Option<f64>,
    /// Everything acknowledged had left the queues before the end.
    pub drained: bool,
    /// The accounts add up.
    pub accounts_add_up: bool,
    /// Values too large for their histogram.
    pub overflows: u64,
    /// Wall clock against monotonic clock over the phase, microseconds.
    pub clock_step_us: Option<f64>,
    /// Components that ended or restarted though no fault killed them.
    pub died: Vec<String>,
}

/// A larger step of the wall clock than this within a phase is a step, not a slew.
const CLOCK_STEP_US_MAX: f64 = 50_000.0;

impl Facts {
    /// The verdict.
    pub fn judge(&self) -> Validity {
        let mut reasons = Vec::new();
        if !self.saturating {
            self.judge_schedule(&mut reasons);
        }
        if !self.drained {
            reasons.push("the drain did not end: messages were still queued".to_owned());
        }
        if !self.accounts_add_up {
            reasons.push("the accounts do not add up: a message has no end, or two".to_owned());
        }
        if self.overflows > 0 {
            reasons.push(format!("a histogram overflowed {} times", self.overflows));
        }
        if let Some(step) = self.clock_step_us.filter(|step| step.abs() > CLOCK_STEP_US_MAX) {
            reasons.push(format!("the clock stepped by {:.0} ms", step / 1000.0));
        }
        reasons.extend(self.died.iter().map(|name| format!("{name} ended though no fault killed it")));
        Validity::from_reasons(reasons)
    }

    fn judge_schedule(&self, reasons: &mut Vec<String>) {
        let lag_max = LAG_US_MIN.max(LAG_SHARE * self.response_p50_us.unwrap_or(0.0));
        if let Some(lag) = self.lag_p99_us.filter(|lag| *lag > lag_max) {
            reasons.push(format!(
                "the generator was late: schedule lag p99 {:.2} ms, at most {:.2} ms",
                lag / 1000.0,
                lag_max / 1000.0
            ));
        }
        if let Some(held) = self.held.filter(|held| *held < HELD_SHARE) {
            reasons.push(format!("the rate was not held: {:.1} % of the offered messages acknowledged", held * 100.0));
        }
        for (who, busy) in [("generator", self.generator_busy), ("sink", self.sink_busy)] {
            if let Some(busy) = busy.filter(|busy| *busy > BUSY_MAX) {
                reasons.push(format!("the {who} was {:.0} % busy, at most {:.0} %", busy * 100.0, BUSY_MAX * 100.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            lag_p99_us: Some(200.0),
            response_p50_us: Some(900.0),
            held: Some(1.0),
            generator_busy: Some(0.5),
            sink_busy: Some(0.3),
            drained: true,
            accounts_add_up: true,
            clock_step_us: Some(20.0),
            ..Facts::default()
        }
    }

    #[test]
    fn a_good_phase_has_no_reasons() {
        assert_eq!(good().judge(), Validity { valid: true, reasons: vec![] });
    }

    #[test]
    fn each_fact_alone_makes_it_invalid() {
        let cases: [(Facts, &str); 10] = [
            (Facts { lag_p99_us: Some(1_001.0), ..good() }, "schedule lag"),
            (Facts { held: Some(0.989), ..good() }, "98.9 %"),
            (Facts { generator_busy: Some(0.81), ..good() }, "generator was 81 %"),
            (Facts { sink_busy: Some(0.95), ..good() }, "sink was 95 %"),
            (Facts { drained: false, ..good() }, "drain"),
            (Facts { accounts_add_up: false, ..good() }, "add up"),
            (Facts { overflows: 2, ..good() }, "overflowed 2"),
            (Facts { clock_step_us: Some(-60_000.0), ..good() }, "stepped by -60 ms"),
            (Facts { died: vec!["hub-1".into()], ..good() }, "hub-1 ended"),
            (Facts { lag_p99_us: Some(2_001.0), response_p50_us: Some(40_000.0), ..good() }, "at most 2.00 ms"),
        ];
        for (facts, word) in cases {
            let verdict = facts.judge();
            assert!(!verdict.valid && verdict.reasons.len() == 1, "{word}: {verdict:?}");
            assert!(verdict.reasons[0].contains(word), "{word}: {verdict:?}");
        }
    }

    #[test]
    fn lag_is_weighed_against_slow_responses() {
        let facts = Facts { lag_p99_us: Some(1_900.0), response_p50_us: Some(40_000.0), ..good() };
        assert!(facts.judge().valid, "5 % of 40 ms is 2 ms");
    }

    #[test]
    fn a_saturating_phase_holds_no_rate() {
        let facts =
            Facts { held: Some(0.4), generator_busy: Some(0.99), lag_p99_us: Some(1e6), saturating: true, ..good() };
        assert!(facts.judge().valid);
        assert!(!Facts { accounts_add_up: false, ..facts }.judge().valid);
    }

    #[test]
    fn a_run_is_as_valid_as_its_worst_phase() {
        let bad = Validity::from_reasons(vec!["x".into(), "y".into()]);
        let both = Validity::from_reasons(vec!["y".into()]).and(bad);
        assert_eq!(both, Validity { valid: false, reasons: vec!["y".into(), "x".into()] });
        assert!(good().judge().and(good().judge()).valid);
    }
}
