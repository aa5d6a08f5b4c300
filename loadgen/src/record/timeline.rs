//! The run cut into buckets by intended send time (perf/METHODOLOGY.md, "Failover"): what became of the messages that were due
//! in each. Written as `timeline.csv`.

use super::histogram::Times;
use super::{MessageRecord, State};
use engine::wire::Span;
use std::io;

/// The width of a bucket where nothing else is asked for.
pub const BUCKET: Span = Span::millis(10);

/// What became of the messages that were due in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// Due in it.
    pub intended: u32,
    /// Acknowledged with 2yz.
    pub accepted: u32,
    /// Of those, within the deadline.
    pub good: u32,
    /// Refused for good.
    pub rejected: u32,
    /// Refused for now, or never attempted.
    pub deferred: u32,
    /// The connection broke before the final reply.
    pub unknown: u32,
    /// Still without an outcome when the run ended.
    pub open: u32,
    /// Median response time of the acknowledged, in microseconds; 0 when there is none.
    pub p50_us: u32,
    /// Their 99th percentile.
    pub p99_us: u32,
    /// Their greatest.
    pub max_us: u32,
    /// Connection wait of the slowest message, in microseconds.
    pub wait_max_us: u32,
}

/// Buckets of `width` from the start of the schedule to the last intended time. `records` in any order.
///
/// `deadline` decides what is good.
///
/// # Panics
/// When `width` is zero.
pub fn buckets(records: &[MessageRecord], width: Span, deadline: Span) -> Vec<Bucket> {
    assert!(width.0 > 0, "a bucket has a width");
    let mut order: Vec<u32> = (0..u32::try_from(records.len()).unwrap_or(u32::MAX)).collect();
    let bucket_of = |index: u32| records[index as usize].intended_ns / width.0;
    order.sort_unstable_by_key(|&index| bucket_of(index));
    let count = order.last().map_or(0, |&last| bucket_of(last) + 1);
    let mut buckets = vec![Bucket::default(); usize::try_from(count).unwrap_or(0)];
    let mut responses = Vec::new();
    for run in order.chunk_by(|&a, &b| bucket_of(a) == bucket_of(b)) {
        let Some(bucket) = run.first().and_then(|&first| buckets.get_mut(bucket_of(first) as usize)) else { continue };
        responses.clear();
        for &index in run {
            bucket.add(&records[index as usize], deadline, &mut responses);
        }
        responses.sort_unstable();
        bucket.p50_us = nearest_rank(&responses, 0.5);
        bucket.p99_us = nearest_rank(&responses, 0.99);
        bucket.max_us = responses.last().copied().unwrap_or(0);
    }
    buckets
}

impl Bucket {
    fn add(&mut self, record: &MessageRecord, deadline: Span, responses: &mut Vec<u32>) {
        self.intended += 1;
        self.wait_max_us = self.wait_max_us.max(u32::try_from(record.connection_wait_us()).unwrap_or(u32::MAX));
        match record.state {
            State::Accepted => {
                self.accepted += 1;
                self.good += u32::from(record.response_us() <= deadline.as_micros());
                responses.push(record.done_us);
            }
            State::Rejected => self.rejected += 1,
            State::Deferred | State::NotAttempted => self.deferred += 1,
            State::Unknown => self.unknown += 1,
            State::Waiting | State::Started => self.open += 1,
        }
    }
}

fn nearest_rank(sorted: &[u32], quantile: f64) -> u32 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// One histogram of response times of acknowledged messages per `every` of intended send time.
pub fn intervals(records: &[MessageRecord], every: Span) -> Vec<Times> {
    let last = records.iter().map(|record| record.intended_ns).max();
    let count = last.map_or(0, |last| last / every.0.max(1) + 1);
    let mut intervals = vec![Times::new(); usize::try_from(count).unwrap_or(0)];
    for record in records.iter().filter(|record| record.state == State::Accepted) {
        if let Some(times) = intervals.get_mut((record.intended_ns / every.0.max(1)) as usize) {
            times.record(record.response_us());
        }
    }
    intervals
}

/// Writes `buckets` as `timeline.csv`: a line of names, then one line per bucket; its first column is the bucket's start
/// in milliseconds since the start of the schedule.
///
/// # Errors
/// Those of `into`.
pub fn write_csv(into: &mut impl io::Write, buckets: &[Bucket], width: Span) -> io::Result<()> {
    writeln!(
        into,
        "start_ms,intended,accepted,good,rejected,deferred,unknown,open,response_p50_us,response_p99_us,response_max_us,\
         connection_wait_max_us"
    )?;
    for (index, bucket) in buckets.iter().enumerate() {
        let start_ms = (index as u64 * width.0) as f64 / 1e6;
        let Bucket { intended, accepted, good, rejected, deferred, unknown, open, .. } = bucket;
        let Bucket { p50_us, p99_us, max_us, wait_max_us, .. } = bucket;
        writeln!(
            into,
            "{start_ms},{intended},{accepted},{good},{rejected},{deferred},{unknown},{open},{p50_us},{p99_us},{max_us},\
             {wait_max_us}"
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
        let buckets = buckets(&records, BUCKET, Span::millis(20));
        assert_eq!(buckets.len(), 3);
        assert_eq!((buckets[0].intended, buckets[0].accepted, buckets[0].good), (2, 2, 1));
        assert_eq!((buckets[0].p50_us, buckets[0].p99_us, buckets[0].max_us), (500, 50_000, 50_000));
        assert_eq!(buckets[1], Bucket::default());
        assert_eq!((buckets[2].intended, buckets[2].unknown, buckets[2].deferred, buckets[2].open), (3, 1, 1, 1));
    }

    #[test]
    fn the_csv_has_a_line_per_bucket_and_as_many_columns_as_names() {
        let mut csv = Vec::new();
        let all = buckets(&[record(0, State::Accepted, 5), record(35, State::Accepted, 5)], BUCKET, BUCKET);
        write_csv(&mut csv, &all, BUCKET).expect("memory takes it");
        let csv = String::from_utf8(csv).expect("text");
        let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns, [12; 5]);
        assert!(csv.lines().last().is_some_and(|line| line.starts_with("30,1,1,")), "{csv}");
    }

    #[test]
    fn nothing_sent_is_no_bucket() {
        assert!(buckets(&[], BUCKET, BUCKET).is_empty());
        assert!(intervals(&[], Span::seconds(1)).is_empty());
    }

    #[test]
    fn interval_histograms_hold_every_acknowledged_message_once() {
        let records: Vec<MessageRecord> =
            (0..2500).map(|ms| record(ms, if ms % 5 == 0 { State::Deferred } else { State::Accepted }, 300)).collect();
        let counts: Vec<u64> = intervals(&records, Span::seconds(1)).iter().map(Times::count).collect();
        assert_eq!(counts, [800, 800, 400]);
    }
}
