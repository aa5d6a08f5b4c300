//! The interval log (`.hlog`): one histogram per interval of intended send time, in the V2 compressed form that the
//! HdrHistogram tools of every language read. Values are microseconds; the maximum column is in milliseconds.

use super::timeline::Intervals;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};
use std::io;
use std::time::{Duration, SystemTime};

/// Writes `intervals`, each following the one before, as one log.
///
/// # Errors
/// Those of `into`.
pub fn write(into: &mut impl io::Write, intervals: &Intervals, started: SystemTime, comment: &str) -> io::Result<()> {
    let every = Duration::from_nanos(intervals.every().0);
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment(comment).with_start_time(started).with_base_time(started).with_max_value_divisor(1000.0);
    let mut writer = builder.begin_log_with(into, &mut serializer)?;
    for (index, times) in intervals.histograms().enumerate() {
        let start = every.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
        writer.write_histogram(times.inner(), start, every, None).map_err(|error| match error {
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
            IntervalLogWriterError::IoError(error) => error,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{MessageRecord, State};
    use base64_free::decode;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    /// The log's histograms are base64; a dependency for one test is too much.
    mod base64_free {
        pub fn decode(text: &str) -> Vec<u8> {
            let value = |octet: u8| match octet {
                b'A'..=b'Z' => octet - b'A',
                b'a'..=b'z' => octet - b'a' + 26,
                b'0'..=b'9' => octet - b'0' + 52,
                b'+' => 62,
                _ => 63,
            };
            let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
            for octet in text.bytes().filter(|&octet| octet != b'=') {
                bits = bits << 6 | u32::from(value(octet));
                held += 6;
                if held >= 8 {
                    held -= 8;
                    bytes.push((bits >> held) as u8);
                }
            }
            bytes
        }
    }

    #[test]
    fn the_log_reads_back_interval_by_interval() {
        let due = [(0, 100), (2, 5_000), (2, 7_000)].map(|(second, done_us)| MessageRecord {
            intended_ns: second * 1_000_000_000,
            state: State::Accepted,
            done_us,
            ..MessageRecord::default()
        });
        let mut log = Vec::new();
        write(&mut log, &Intervals::of(&due), SystemTime::UNIX_EPOCH, "response time").expect("written");
        let mut read = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            if let LogEntry::Interval(interval) = entry.expect("well formed") {
                let bytes = decode(interval.encoded_histogram());
                let histogram: hdrhistogram::Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.as_slice()).expect("V2 deflate");
                read.push((interval.start_timestamp().as_secs(), histogram.len(), histogram.max()));
            }
        }
        assert_eq!(read.iter().map(|entry| (entry.0, entry.1)).collect::<Vec<_>>(), [(0, 1), (1, 0), (2, 2)]);
        assert!(read[2].2.abs_diff(7_000) <= 7, "{read:?}");
    }
}
