//! The run cut into buckets by intended send time (perf/METHODOLOGY.md, "Failover"): what became of the messages that were due
//! in each. Written as `timeline.csv`.

use super::histogram::Times;
use super::{MessageRecord, State};
use engine::wire::Span;
use std::io;

/// The width of a bucket, where a run is not so long that there would be more than [`BUCKETS_MAX`].
pub const BUCKET: Span = Span::millis(10);
/// An hour of them; those of a longer run are as much wider.
pub const BUCKETS_MAX: u64 = 360_000;
/// The length of an interval of the interval log, where there would not be more than [`INTERVALS_MAX`].
pub const INTERVAL: Span = Span::seconds(1);
/// Ten hours of them.
pub const INTERVALS_MAX: u64 = 36_000;

/// The columns of `timeline.csv`, in order; perf/METHODOLOGY.md says what each means.
pub const COLUMNS: [&str; 13] = [
    "start_ms",
    "intended",
    "accepted",
    "rejected",
    "deferred",
    "unknown",
    "open",
    "delivered",
    "response_p50_us",
    "response_p99_us",
    "response_max_us",
    "connection_wait_max_us",
    "delivery_max_us",
];

/// What became of the messages that were due in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// Due in it.
    pub intended: u32,
    /// Acknowledged with 2yz.
    pub accepted: u32,
    /// Refused for good.
    pub rejected: u32,
    /// Refused for now, or never attempted.
    pub deferred: u32,
    /// The connection broke before the final reply.
    pub unknown: u32,
    /// Still without an outcome when the run ended.
    pub open: u32,
    /// Of which a copy arrived at a sink.
    pub delivered: u32,
    /// Median response time of the acknowledged, in microseconds.
    pub p50_us: Option<u32>,
    /// Their 99th percentile.
    pub p99_us: Option<u32>,
    /// Their greatest.
    pub max_us: Option<u32>,
    /// Connection wait of the slowest message that had a connection, in microseconds.
    pub wait_max_us: Option<u32>,
    /// Greatest time from a message's intended time to its first copy's arrival, in microseconds.
    pub delivery_max_us: Option<u32>,
}

/// A run in buckets, from the start of the schedule to the last intended time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// The width of each.
    pub width: Span,
    /// All of them, in order.
    pub buckets: Vec<Bucket>,
}

/// The smallest multiple of `finest` of which at most `count_max` reach to `last_ns`, behind the start of the schedule.
fn width(last_ns: u64, finest: Span, count_max: u64) -> Span {
    Span((last_ns / (finest.0 * count_max) + 1) * finest.0)
}

/// The timeline of `messages`, in any order, each with how long after its intended time its first copy arrived, where a
/// sink told.
pub fn timeline<'r>(messages: impl IntoIterator<Item = (&'r MessageRecord, Option<Span>)>) -> Timeline {
    let mut messages: Vec<_> = messages.into_iter().collect();
    messages.sort_unstable_by_key(|(record, _)| record.intended_ns);
    let width = width(messages.last().map_or(0, |(last, _)| last.intended_ns), BUCKET, BUCKETS_MAX);
    let bucket_of = |(record, _): &(&MessageRecord, _)| record.intended_ns / width.0;
    let count = messages.last().map_or(0, |last| bucket_of(last) + 1);
    let mut buckets = vec![Bucket::default(); usize::try_from(count).unwrap_or(0)];
    let mut responses = Vec::new();
    for run in messages.chunk_by(|a, b| bucket_of(a) == bucket_of(b)) {
        let Some(bucket) = run.first().and_then(|first| buckets.get_mut(bucket_of(first) as usize)) else { continue };
        responses.clear();
        for (record, delivery) in run {
            bucket.add(record, *delivery, &mut responses);
        }
        responses.sort_unstable();
        bucket.p50_us = nearest_rank(&responses, 0.5);
        bucket.p99_us = nearest_rank(&responses, 0.99);
        bucket.max_us = responses.last().copied();
    }
    Timeline { width, buckets }
}

impl Timeline {
    /// That of a closed loop: no message was due before its turn came, so no time counts from when it was.
    #[must_use]
    pub fn of_closed_loop(mut self) -> Self {
        for bucket in &mut self.buckets {
            (bucket.p50_us, bucket.p99_us, bucket.max_us, bucket.delivery_max_us) = (None, None, None, None);
        }
        self
    }
}

impl Bucket {
    fn add(&mut self, record: &MessageRecord, delivery: Option<Span>, responses: &mut Vec<u32>) {
        let us = |span: u64| u32::try_from(span).unwrap_or(u32::MAX);
        self.intended += 1;
        if !matches!(record.state, State::Waiting | State::NotAttempted) {
            self.wait_max_us = self.wait_max_us.max(Some(us(record.connection_wait_us())));
        }
        if let Some(delivery) = delivery {
            self.delivered += 1;
            self.delivery_max_us = self.delivery_max_us.max(Some(us(delivery.as_micros())));
        }
        match record.state {
            State::Accepted => {
                self.accepted += 1;
                responses.push(record.done_us);
            }
            State::Rejected => self.rejected += 1,
            State::Deferred | State::NotAttempted => self.deferred += 1,
            State::Unknown => self.unknown += 1,
            State::Waiting | State::Started => self.open += 1,
        }
    }
}

fn nearest_rank(sorted: &[u32], quantile: f64) -> Option<u32> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Times of acknowledged messages, by the interval in which each was due. Their histograms are made one at a time:
/// each takes more memory than the messages of its second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervals {
    every: Span,
    count: u64,
    /// Interval and time in microseconds, in the order of the intervals.
    accepted: Vec<(u64, u64)>,
}

impl Intervals {
    /// The response times of `records`, in any order.
    pub fn of<'r>(records: impl IntoIterator<Item = &'r MessageRecord>) -> Intervals {
        Self::of_times(records, MessageRecord::response_us)
    }

    /// What `time` says of `records`, in any order.
    pub fn of_times<'r>(
        records: impl IntoIterator<Item = &'r MessageRecord>,
        time: impl Fn(&MessageRecord) -> u64,
    ) -> Intervals {
        let (mut last, mut accepted) = (None, Vec::new());
        for record in records {
            last = last.max(Some(record.intended_ns));
            if record.state == State::Accepted {
                accepted.push((record.intended_ns, time(record)));
            }
        }
        let every = width(last.unwrap_or(0), INTERVAL, INTERVALS_MAX);
        accepted.iter_mut().for_each(|(at, _)| *at /= every.0);
        accepted.sort_unstable_by_key(|(interval, _)| *interval);
        Intervals { every, count: last.map_or(0, |last| last / every.0 + 1), accepted }
    }

    /// The length of each.
    pub fn every(&self) -> Span {
        self.every
    }

    /// The histogram of each, from the start of the schedule to the last intended time.
    pub fn histograms(&self) -> impl Iterator<Item = Times> + '_ {
        let mut rest = self.accepted.iter().peekable();
        (0..self.count).map(move |interval| {
            let mut times = Times::new();
            while let Some((_, us)) = rest.next_if(|(of, _)| *of == interval) {
                times.record(*us);
            }
            times
        })
    }
}

/// Writes `timeline` as `timeline.csv`: a line of [`COLUMNS`], then one line per bucket. What was not measured is empty;
/// `sinks_told` says whether it was asked what arrived.
///
/// # Errors
/// Those of `into`.
pub fn write_csv(into: &mut impl io::Write, timeline: &Timeline, sinks_told: bool) -> io::Result<()> {
    writeln!(into, "{}", COLUMNS.join(","))?;
    let cell = |value: Option<u32>| value.map_or_else(String::new, |value| value.to_string());
    for (index, bucket) in timeline.buckets.iter().enumerate() {
        let start_ms = (index as u64 * timeline.width.0) as f64 / 1e6;
        let Bucket { intended, accepted, rejected, deferred, unknown, open, .. } = bucket;
        let delivered = cell(sinks_told.then_some(bucket.delivered));
        let [p50, p99, max] = [bucket.p50_us, bucket.p99_us, bucket.max_us].map(cell);
        let [wait, delivery] = [bucket.wait_max_us, bucket.delivery_max_us].map(cell);
        writeln!(
            into,
            "{start_ms},{intended},{accepted},{rejected},{deferred},{unknown},{open},{delivered},{p50},{p99},{max},{wait},\
             {delivery}"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(intended_ms: u64, state: State, done_us: u32) -> MessageRecord {
        MessageRecord { intended_ns: intended_ms * 1_000_000, state, done_us, ..MessageRecord::default() }
    }

    #[test]
    fn messages_count_where_they_were_due_not_where_they_ended() {
        let records = [
            record(0, State::Accepted, 500),
            record(9, State::Accepted, 50_000),
            record(25, State::Unknown, 100),
            record(21, State::NotAttempted, 0),
            record(20, State::Waiting, 0),
        ];
        let arrived = [Some(Span::micros(700)), Some(Span::millis(90)), None, None, None];
        let Timeline { width, buckets } = timeline(records.iter().zip(arrived));
        assert_eq!(width, BUCKET);
        assert_eq!(buckets.len(), 3);
        assert_eq!((buckets[0].intended, buckets[0].accepted, buckets[0].delivered), (2, 2, 2));
        let us = [buckets[0].p50_us, buckets[0].p99_us, buckets[0].max_us, buckets[0].delivery_max_us];
        assert_eq!(us, [Some(500), Some(50_000), Some(50_000), Some(90_000)]);
        assert_eq!(buckets[1], Bucket::default());
        assert_eq!((buckets[2].intended, buckets[2].unknown, buckets[2].deferred, buckets[2].open), (3, 1, 1, 1));
        assert_eq!((buckets[2].p50_us, buckets[2].wait_max_us, buckets[2].delivered), (None, Some(0), 0));
    }

    #[test]
    fn the_csv_leaves_empty_what_was_not_measured() {
        let records = [record(0, State::Accepted, 5), record(35, State::NotAttempted, 0)];
        let all = timeline(records.iter().zip([Some(Span::micros(8)), None]));
        for (sinks_told, told) in [(true, ["1,5,5,5,0,8", "0,,,,,"]), (false, [",5,5,5,0,8", ",,,,,"])] {
            let mut csv = Vec::new();
            write_csv(&mut csv, &all, sinks_told).expect("memory takes it");
            let csv = String::from_utf8(csv).expect("text");
            let lines: Vec<&str> = csv.lines().collect();
            assert!(lines.iter().all(|line| line.split(',').count() == COLUMNS.len()), "{csv}");
            assert_eq!(lines[1], format!("0,1,1,0,0,0,0,{}", told[0]));
            assert_eq!(lines[4], format!("30,1,0,0,1,0,0,{}", told[1]));
        }
    }

    #[test]
    fn every_column_is_explained() {
        let methodology = include_str!("../../../perf/METHODOLOGY.md");
        let (_, section) = methodology.split_once("`timeline.csv`").expect("it is named");
        let named: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(named[..COLUMNS.len()], COLUMNS);
    }

    #[test]
    fn nothing_sent_is_no_bucket() {
        assert!(timeline([]).buckets.is_empty());
        assert_eq!(Intervals::of([]).histograms().count(), 0);
    }

    #[test]
    fn interval_histograms_hold_every_acknowledged_message_once() {
        let records: Vec<MessageRecord> =
            (0..2500).map(|ms| record(ms, if ms % 5 == 0 { State::Deferred } else { State::Accepted }, 300)).collect();
        let counts: Vec<u64> = Intervals::of(&records).histograms().map(|times| times.count()).collect();
        assert_eq!(counts, [800, 800, 400]);
    }

    #[test]
    fn what_a_long_run_leaves_is_coarser_not_larger() {
        let day_ms = 24 * 3_600_000;
        let records = [record(0, State::Accepted, 5), record(day_ms - 1, State::Accepted, 7)];
        let all = timeline(records.iter().map(|record| (record, None)));
        assert_eq!((all.width, all.buckets.len() as u64), (Span::millis(240), BUCKETS_MAX));
        assert_eq!(all.buckets.last().map(|bucket| (bucket.intended, bucket.max_us)), Some((1, Some(7))));
        let intervals = Intervals::of(&records);
        assert_eq!((intervals.every(), intervals.count), (Span::seconds(3), 24 * 1_200));
        assert_eq!(intervals.histograms().take(2).map(|times| times.count()).collect::<Vec<_>>(), [1, 0]);
    }
}
