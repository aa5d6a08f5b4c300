//! From fates to the report's pictures. Pure.

use crate::failover::{Fate, Summary};
use crate::html::charts::{Curve, Mark, Timeline};
use crate::stats::percentile;
use crate::timeline::moments_from;

/// Buckets of an overview: as narrow as the eye can tell apart.
const OVERVIEW_BUCKETS: u64 = 360;
/// A closer look reaches so far before a strike and behind it, at least.
const BEFORE_US: u64 = 200_000;
const BEHIND_US: u64 = 600_000;
/// Faults that get a closer look of their own.
const CLOSER_LOOKS_MAX: usize = 3;
/// Points of a curve for each power of ten.
const POINTS_PER_NINE: u32 = 24;

/// The distribution of `values` (sorted in place) as a curve up to its largest.
pub fn curve(name: &str, values: &mut [u64]) -> Option<Curve> {
    values.sort_unstable();
    let last = *values.last()? as f64;
    let nines = (values.len() as f64).log10();
    let steps = (nines * f64::from(POINTS_PER_NINE)) as u32;
    let share = |step: u32| 1.0 - 10f64.powf(-f64::from(step) / f64::from(POINTS_PER_NINE));
    let mut points: Vec<(f64, f64)> =
        (0..=steps).filter_map(|step| Some((share(step), percentile(values, share(step) * 100.0)? as f64))).collect();
    points.push((1.0, last));
    Some(Curve { name: name.to_owned(), points })
}

/// One happening for the timelines, in microseconds on the fates' clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at_us: u64,
    /// What, in a word or three.
    pub label: String,
    /// A cure, not a fault.
    pub is_heal: bool,
}

/// The whole of a phase, and a closer look at its first faults.
pub fn timelines(fates: &[Fate], happenings: &[Happening], failover: Option<&Summary>) -> Vec<Timeline> {
    let Some(first) = fates.iter().map(|fate| fate.intended_us).min() else { return Vec::new() };
    let last = fates.iter().map(|fate| fate.intended_us).max().unwrap_or(first);
    let marks: Vec<Mark> = happenings
        .iter()
        .map(|h| Mark { at_s: h.at_us.saturating_sub(first) as f64 / 1e6, label: h.label.clone(), is_heal: h.is_heal })
        .collect();
    let deadline_us = failover.map(|f| (f.deadline_ms * 1000.0) as u64);
    let make = |title: String, from_us: u64, until_us: u64, width_us: u64| {
        let within: Vec<Fate> =
            fates.iter().filter(|fate| (from_us..until_us).contains(&fate.intended_us)).copied().collect();
        let mut moments = moments_from(from_us, &within, width_us);
        moments.iter_mut().for_each(|moment| moment.at_us += from_us - first);
        Timeline { title, caption: String::new(), moments, width_us, marks: marks.clone(), deadline_us }
    };
    let overview_width = round_up((last - first) / OVERVIEW_BUCKETS);
    let mut all = vec![make("Over time".to_owned(), first, last + 1, overview_width)];
    let strikes = happenings.iter().filter(|happening| !happening.is_heal);
    for strike in strikes.take(CLOSER_LOOKS_MAX) {
        let outage_us = failover.and_then(|f| f.outage_ms.max).unwrap_or(0.0) * 1000.0;
        let behind = BEHIND_US.max((outage_us * 2.0) as u64).max(30 * bucket(failover));
        let width = round_up((BEFORE_US + behind) / OVERVIEW_BUCKETS).max(bucket(failover));
        let before = BEFORE_US.max(10 * bucket(failover));
        // A bucket begins with the strike, so that none tells of both sides of it.
        let from =
            strike.at_us.saturating_sub(before.min(strike.at_us.saturating_sub(first)) / width * width).max(first);
        all.push(make(format!("Around the fault: {}", strike.label), from, strike.at_us + behind, width));
    }
    all
}

fn bucket(failover: Option<&Summary>) -> u64 {
    failover.map_or(crate::failover::BUCKET_US, |f| (f.bucket_ms * 1000.0) as u64)
}

/// Whole buckets of 10 ms.
fn round_up(us: u64) -> u64 {
    us.div_ceil(crate::failover::BUCKET_US).max(1) * crate::failover::BUCKET_US
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::Answer;

    fn fates(seconds: u64) -> Vec<Fate> {
        (0..seconds * 1000)
            .map(|ms| Fate {
                seq: 0,
                intended_us: 5_000_000 + ms * 1000,
                begun_us: Some(5_000_000 + ms * 1000),
                answered_us: 5_000_000 + ms * 1000 + 700,
                answer: Answer::Accepted,
                delivered_us: None,
                route: 0,
                doubled: None,
            })
            .collect()
    }

    #[test]
    fn a_curve_ends_at_the_largest_value_and_shows_every_nine() {
        let mut values: Vec<u64> = (1..=10_000).rev().collect();
        let curve = curve("response", &mut values).expect("values");
        assert_eq!(curve.points.last(), Some(&(1.0, 10_000.0)));
        let near = |share: f64| curve.points.iter().find(|p| (p.0 - share).abs() < 1e-9).map(|p| p.1);
        assert_eq!((near(0.0), near(0.9), near(0.99)), (Some(1.0), Some(9_000.0), Some(9_900.0)));
        assert!(curve.points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        assert_eq!(super::curve("x", &mut []), None);
    }

    #[test]
    fn each_fault_has_a_closer_look_around_it() {
        let strike = Happening { at_us: 8_000_000, label: "hub-2 killed".into(), is_heal: false };
        let heal = Happening { at_us: 10_000_000, label: "hub-2 back".into(), is_heal: true };
        let all = timelines(&fates(20), &[strike.clone(), heal], None);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].marks.iter().map(|m| m.at_s).collect::<Vec<_>>(), [3.0, 5.0]);
        assert_eq!(all[0].moments.iter().map(|m| m.due).sum::<u64>(), 20_000);
        assert!(all[0].moments.len() <= OVERVIEW_BUCKETS as usize + 1);
        let closer = &all[1].moments;
        assert_eq!((closer[0].at_us, closer.last().expect("some").at_us), (2_800_000, 3_590_000));
        assert_eq!(all[1].width_us, 10_000);
        // Wherever it strikes, near the beginning too, one of its buckets begins there.
        for at_us in [8_000_350, 5_123_450, 5_000_000] {
            let strike = Happening { at_us, ..strike.clone() };
            let closer = &timelines(&fates(20), &[strike], None)[1].moments;
            assert!(closer.iter().any(|moment| moment.at_us == at_us - 5_000_000), "{at_us}: {:?}", closer.first());
        }
    }

    #[test]
    fn nothing_happened_to_nobody() {
        assert!(timelines(&[], &[], None).is_empty());
        assert_eq!(timelines(&fates(2), &[], None).len(), 1);
    }
}
