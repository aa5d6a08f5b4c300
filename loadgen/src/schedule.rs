//! Intended send times: fixed before the run, deaf to the target.
//!
//! A schedule is a function of its plan alone (stages of rate and length, arrivals, a seed): nothing that happens while
//! it runs can move a time in it, which is what makes the load open loop (perf/METHODOLOGY.md, "Times of one message"). It is
//! computed as it is read, so a long one costs no memory. With several shards each takes its share: a constant schedule
//! is dealt out in turn, a Poisson one is the sum of independent Poisson schedules.

use crate::units::{Rate, UnitError, parse_span};
use engine::wire::Span;
use rand::SeedableRng;
use rand_distr::{Distribution, Exp1};
use rand_pcg::Pcg64Mcg;
use std::str::FromStr;

/// How messages follow each other inside a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrivals {
    /// Equally spaced.
    #[default]
    Constant,
    /// Independent, with exponentially distributed gaps: what many senders who do not know each other look like.
    Poisson,
}

/// A part of the schedule with one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Messages per second.
    pub rate: Rate,
    /// How long.
    pub length: Span,
}

/// A stage that a person typed wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// No colon.
    #[error("`{0}` is not a stage: write RATE:DURATION, as 500/s:10s")]
    Shape(String),
    /// One of its figures.
    #[error(transparent)]
    Figure(#[from] UnitError),
}

impl FromStr for Stage {
    type Err = StageError;

    fn from_str(text: &str) -> Result<Self, StageError> {
        let (rate, length) = text.rsplit_once(':').ok_or_else(|| StageError::Shape(text.to_owned()))?;
        Ok(Self { rate: rate.parse()?, length: parse_span(length)? })
    }
}

/// Everything that intended times follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One after another.
    pub stages: Vec<Stage>,
    /// Inside each stage.
    pub arrivals: Arrivals,
    /// For Poisson arrivals.
    pub seed: u64,
    /// No more messages than so many.
    pub messages_max: u64,
}

impl Plan {
    /// One rate for `length`, equally spaced.
    pub fn constant(rate: Rate, length: Span) -> Self {
        Self { stages: vec![Stage { rate, length }], arrivals: Arrivals::Constant, seed: 0, messages_max: u64::MAX }
    }

    /// From the first intended time to the end of the last stage, or to where `messages_max` ends it.
    pub fn length(&self) -> Span {
        if self.arrivals == Arrivals::Poisson || self.messages_max == u64::MAX {
            return self.stages.iter().fold(Span::ZERO, |sum, stage| sum + stage.length);
        }
        let (mut left, mut length) = (self.messages_max, Span::ZERO);
        for stage in &self.stages {
            let count = constant_count(*stage);
            if left <= count {
                return length + constant_at(stage.rate, left);
            }
            left -= count;
            length = length + stage.length;
        }
        length
    }

    /// Messages the whole schedule holds; for Poisson arrivals the expected number.
    pub fn messages(&self) -> u64 {
        self.stages.iter().map(|stage| constant_count(*stage)).sum::<u64>().min(self.messages_max)
    }

    /// Shard `shard`'s share of it, of `shards`.
    ///
    /// # Panics
    /// When `shard` is not below `shards`.
    pub fn share(&self, shard: usize, shards: usize) -> Schedule {
        assert!(shard < shards, "a share belongs to a shard");
        let (shard, shards) = (shard as u64, shards as u64);
        Schedule {
            stages: self.stages.clone(),
            shard,
            shards,
            stage: 0,
            stage_start: Span::ZERO,
            index: 0,
            stage_first: 0,
            messages_max: self.messages_max,
            gaps: (self.arrivals == Arrivals::Poisson).then(|| Gaps {
                random: Pcg64Mcg::seed_from_u64(
                    self.seed ^ (shard.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                ),
                at_nanos: 0.0,
            }),
        }
    }
}

/// A message of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Its number in the run, unique over all shards, from 0.
    pub seq: u64,
    /// Its intended send time, counted from the start of the schedule.
    pub at: Span,
}

/// One shard's share of a plan, in order of time. An iterator that never looks at a clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    stages: Vec<Stage>,
    shard: u64,
    shards: u64,
    stage: usize,
    stage_start: Span,
    /// This shard's messages handed out so far.
    index: u64,
    /// Over all shards, the number of the first message of this stage.
    stage_first: u64,
    messages_max: u64,
    gaps: Option<Gaps>,
}

#[derive(Debug, Clone)]
struct Gaps {
    random: Pcg64Mcg,
    at_nanos: f64,
}

impl Iterator for Schedule {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        let seq = self.index.checked_mul(self.shards)?.checked_add(self.shard)?;
        if seq >= self.messages_max {
            return None;
        }
        let at = if self.gaps.is_some() { self.poisson() } else { self.constant(seq) }?;
        self.index += 1;
        Some(Due { seq, at })
    }
}

impl Schedule {
    fn constant(&mut self, seq: u64) -> Option<Span> {
        loop {
            let stage = *self.stages.get(self.stage)?;
            let count = constant_count(stage);
            if seq - self.stage_first < count {
                return Some(self.stage_start + constant_at(stage.rate, seq - self.stage_first));
            }
            self.stage_first += count;
            self.next_stage(stage);
        }
    }

    fn poisson(&mut self) -> Option<Span> {
        loop {
            let stage = *self.stages.get(self.stage)?;
            let gaps = self.gaps.as_mut()?;
            let unit: f64 = Exp1.sample(&mut gaps.random);
            gaps.at_nanos += unit * 1e9 * self.shards as f64 / stage.rate.as_f64();
            if gaps.at_nanos < stage.length.0 as f64 {
                return Some(self.stage_start + Span(gaps.at_nanos as u64));
            }
            // Exponential gaps have no memory: the next stage starts afresh.
            gaps.at_nanos = 0.0;
            self.next_stage(stage);
        }
    }

    fn next_stage(&mut self, ended: Stage) {
        self.stage_start = self.stage_start + ended.length;
        self.stage += 1;
    }
}

/// Messages of a constant stage: those whose time lies before its end.
fn constant_count(stage: Stage) -> u64 {
    let product = u128::from(stage.length.0) * u128::from(stage.rate.micro_per_second());
    u64::try_from(product.div_ceil(1_000_000_000_000_000)).unwrap_or(u64::MAX)
}

/// When message `index` of a constant stage is due, from the stage's start.
fn constant_at(rate: Rate, index: u64) -> Span {
    let nanos = u128::from(index) * 1_000_000_000_000_000 / u128::from(rate.micro_per_second());
    Span(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(per_second: u64) -> Rate {
        Rate::per_second(per_second).expect("a rate")
    }

    #[test]
    fn a_constant_schedule_is_exact_to_the_nanosecond() {
        let plan = Plan::constant(rate(3), Span::seconds(1));
        let times: Vec<u64> = plan.share(0, 1).map(|due| due.at.0).collect();
        assert_eq!(times, [0, 333_333_333, 666_666_666]);
        assert_eq!((plan.messages(), plan.length()), (3, Span::seconds(1)));
    }

    #[test]
    fn no_drift_after_a_day() {
        let plan = Plan::constant(rate(7), Span::hours(24));
        let last = plan.share(0, 1).last().expect("not empty");
        assert_eq!(last.seq + 1, 7 * 86_400);
        assert_eq!(last.at, Span(86_399_857_142_857));
    }

    #[test]
    fn stages_follow_each_other_and_the_limit_of_messages_ends_them() {
        let mut plan = Plan::constant(rate(10), Span::millis(200));
        plan.stages.push("100/s:30ms".parse().expect("a stage"));
        let times: Vec<u64> = plan.share(0, 1).map(|due| due.at.as_millis()).collect();
        assert_eq!(times, [0, 100, 200, 210, 220]);
        plan.messages_max = 3;
        assert_eq!(plan.share(0, 1).count(), 3);
        assert_eq!(plan.length(), Span::millis(210));
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_their_spread() {
        let plan = Plan { arrivals: Arrivals::Poisson, seed: 7, ..Plan::constant(rate(1000), Span::seconds(100)) };
        let times: Vec<u64> = plan.share(0, 1).map(|due| due.at.0).collect();
        let count = times.len() as f64;
        // 100 000 expected, standard deviation 316: five of them never happen by chance.
        assert!((count - 100_000.0).abs() < 1600.0, "{count}");
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / count;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!(
            (deviation / mean - 1.0).abs() < 0.02,
            "exponential gaps: deviation equals mean, not {deviation}/{mean}"
        );
        assert_eq!(times, plan.share(0, 1).map(|due| due.at.0).collect::<Vec<_>>(), "the same seed, the same times");
        assert_ne!(times[0], Plan { seed: 8, ..plan }.share(0, 1).next().expect("one").at.0);
    }

    #[test]
    fn a_stage_is_refused_with_what_would_be_right() {
        assert!(matches!("500".parse::<Stage>(), Err(StageError::Shape(_))));
        assert!(matches!("x:10s".parse::<Stage>(), Err(StageError::Figure(UnitError::Rate(_)))));
        assert!(matches!("5/s:x".parse::<Stage>(), Err(StageError::Figure(UnitError::Duration(_)))));
    }

    proptest! {
        #[test]
        fn shares_add_up_to_the_whole(per_second in 1u64..5000, millis in 1u64..3000, second in 1u64..900, shards in 1usize..5) {
            let mut plan = Plan::constant(rate(per_second), Span::millis(millis));
            plan.stages.push(Stage { rate: rate(second), length: Span::millis(700) });
            let whole: Vec<Due> = plan.share(0, 1).collect();
            let mut shared: Vec<Due> = (0..shards).flat_map(|shard| plan.share(shard, shards)).collect();
            shared.sort_by_key(|due| due.seq);
            prop_assert_eq!(&whole, &shared);
            prop_assert_eq!(whole.len() as u64, plan.messages());
            prop_assert!(whole.windows(2).all(|pair| pair[0].at <= pair[1].at));
        }

        #[test]
        fn poisson_shares_never_go_back_and_never_share_a_number(seed: u64, shards in 1usize..4) {
            let plan = Plan { arrivals: Arrivals::Poisson, seed, ..Plan::constant(rate(500), Span::seconds(1)) };
            let mut seen = std::collections::BTreeSet::new();
            for shard in 0..shards {
                let share: Vec<Due> = plan.share(shard, shards).collect();
                prop_assert!(share.windows(2).all(|pair| pair[0].at <= pair[1].at));
                prop_assert!(share.iter().all(|due| due.at < Span::seconds(1) && seen.insert(due.seq)));
            }
        }
    }
}
