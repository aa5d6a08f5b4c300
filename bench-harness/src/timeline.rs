//! A run over time: messages in equal buckets by intended send time, for the report's chart. Pure. (`timeline.csv` is
//! [`loadgen::record::timeline`]'s.)

use crate::failover::{Answer, Fate};
use crate::stats::percentile;

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moment {
    /// Start of the bucket, microseconds after the first message of the run.
    pub at_us: u64,
    /// Messages due in it.
    pub due: u64,
    /// Of those, accepted.
    pub accepted: u64,
    /// Of those, refused or broken off.
    pub failed: u64,
    /// Of those, delivered.
    pub delivered: u64,
    /// Response times of those due in it; `None` where none was accepted.
    pub response_p50_us: Option<u64>,
    /// See above.
    pub response_p99_us: Option<u64>,
    /// See above.
    pub response_max_us: Option<u64>,
    /// Largest delivery time.
    pub delivery_max_us: Option<u64>,
}

/// Cuts `fates` (in any order) into buckets of `width_us`, from the first intended time to the last. Empty buckets in
/// between are kept.
pub fn moments(fates: &[Fate], width_us: u64) -> Vec<Moment> {
    let first = fates.iter().map(|f| f.intended_us).min();
    first.map_or_else(Vec::new, |first| moments_from(first, fates, width_us))
}

/// The same in buckets that begin at `first`, before which nothing of `fates` was due.
pub fn moments_from(first: u64, fates: &[Fate], width_us: u64) -> Vec<Moment> {
    let Some(last) = fates.iter().map(|f| f.intended_us).max() else { return Vec::new() };
    let count = (last - first) / width_us + 1;
    let mut moments: Vec<Moment> = (0..count).map(|i| Moment { at_us: i * width_us, ..Moment::default() }).collect();
    let mut sorted: Vec<(u64, &Fate)> = fates.iter().map(|f| ((f.intended_us - first) / width_us, f)).collect();
    sorted.sort_unstable_by_key(|(bucket, _)| *bucket);
    let mut responses = Vec::new();
    for members in sorted.chunk_by(|a, b| a.0 == b.0) {
        let moment = &mut moments[members[0].0 as usize];
        responses.clear();
        for (_, fate) in members {
            moment.due += 1;
            moment.accepted += u64::from(fate.answer == Answer::Accepted);
            moment.failed += u64::from(fate.answer == Answer::Other);
            if let Some(at) = fate.delivered_us {
                moment.delivered += 1;
                moment.delivery_max_us = moment.delivery_max_us.max(Some(at.saturating_sub(fate.intended_us)));
            }
            responses.extend(fate.response_us());
        }
        responses.sort_unstable();
        moment.response_p50_us = percentile(&responses, 50.0);
        moment.response_p99_us = percentile(&responses, 99.0);
        moment.response_max_us = responses.last().copied();
    }
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(intended_us: u64, response_us: u64, answer: Answer) -> Fate {
        let answered_us = intended_us + response_us;
        let delivered_us = (answer == Answer::Accepted).then_some(answered_us + 50);
        Fate {
            seq: 0,
            intended_us,
            begun_us: Some(intended_us),
            answered_us,
            answer,
            delivered_us,
            route: 0,
            doubled: None,
        }
    }

    #[test]
    fn messages_count_where_they_were_due() {
        let fates = [
            fate(1_035_000, 100, Answer::Accepted),
            fate(1_000_000, 40_000, Answer::Accepted),
            fate(1_009_999, 200, Answer::Other),
            fate(1_001_000, 300, Answer::None),
        ];
        let moments = moments(&fates, 10_000);
        assert_eq!(
            moments.iter().map(|m| (m.at_us, m.due)).collect::<Vec<_>>(),
            [(0, 3), (10_000, 0), (20_000, 0), (30_000, 1)]
        );
        let first = moments[0];
        assert_eq!((first.accepted, first.failed, first.delivered), (1, 1, 1));
        assert_eq!(
            (first.response_p50_us, first.response_max_us, first.delivery_max_us),
            (Some(40_000), Some(40_000), Some(40_050))
        );
        assert_eq!(moments[1].response_p99_us, None);
        assert!(super::moments(&[], 10).is_empty());
    }
}
