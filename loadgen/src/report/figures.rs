//! The figures of a run or of a part of it: a pure function of its records.

use crate::record::histogram::Times;
use crate::record::{MessageRecord, Phase, State};
use engine::wire::Span;

/// Which messages count: those with an intended send time in `from..until`, counted from the start of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First intended time in it.
    pub from: Span,
    /// First intended time behind it.
    pub until: Span,
}

impl Part {
    /// Everything.
    pub const ALL: Part = Part { from: Span::ZERO, until: Span(u64::MAX) };

    /// Its length.
    pub fn length(&self) -> Span {
        Span(self.until.0.saturating_sub(self.from.0))
    }

    fn holds(&self, record: &MessageRecord) -> bool {
        (self.from.0..self.until.0).contains(&record.intended_ns)
    }
}

/// What a part of a run came to. Times in microseconds, of acknowledged messages only, except for the schedule lag and
/// the connection wait, which every message has that got so far.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Messages with an intended time in the part.
    pub intended: u64,
    /// Acknowledged with 2yz, whenever.
    pub accepted: u64,
    /// Of those, read before the part was over.
    pub accepted_in_time: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Refused for now.
    pub deferred: u64,
    /// The connection broke before anything was sent.
    pub not_attempted: u64,
    /// The connection broke before the final reply.
    pub unknown: u64,
    /// Without an outcome.
    pub open: u64,
    /// Recipients refused while their message went on.
    pub refused_recipients: u64,
    /// `t2 - t0`.
    pub response: Times,
    /// `t2 - t1`.
    pub service: Times,
    /// `tp - t0`.
    pub schedule_lag: Times,
    /// `t1 - tp`.
    pub connection_wait: Times,
    /// Parts of the service time, in the order of [`Phase::ALL`].
    pub phases: [Times; Phase::ALL.len()],
}

impl Figures {
    /// The figures of those `records` that lie in `part`.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a MessageRecord>, part: Part) -> Self {
        let mut figures = Self::default();
        for record in records.into_iter().filter(|record| part.holds(record)) {
            figures.add(record, part);
        }
        figures
    }

    fn add(&mut self, record: &MessageRecord, part: Part) {
        self.intended += 1;
        self.refused_recipients += u64::from(record.rejected) + u64::from(record.deferred);
        self.schedule_lag.record(record.schedule_lag_us());
        if record.started_us > 0 || matches!(record.state, State::Accepted | State::Rejected | State::Deferred) {
            self.connection_wait.record(record.connection_wait_us());
        }
        match record.state {
            State::Accepted => {
                self.accepted += 1;
                let done = record.intended() + Span::micros(record.response_us());
                self.accepted_in_time += u64::from(done < part.until);
                self.response.record(record.response_us());
                self.service.record(record.service_us());
                for (times, us) in self.phases.iter_mut().zip(record.phases_us()) {
                    times.record(us);
                }
            }
            State::Rejected => self.rejected += 1,
            State::Deferred => self.deferred += 1,
            State::NotAttempted => self.not_attempted += 1,
            State::Unknown => self.unknown += 1,
            State::Waiting | State::Started => self.open += 1,
        }
    }

    /// Times that fitted no histogram.
    pub fn overflowed(&self) -> u64 {
        let phases: u64 = self.phases.iter().map(Times::overflowed).sum();
        let whole = [&self.response, &self.service, &self.schedule_lag, &self.connection_wait];
        phases + whole.iter().map(|times| times.overflowed()).sum::<u64>()
    }

    /// Whether every intended message is in exactly one place.
    pub fn add_up(&self) -> bool {
        let ends = [self.accepted, self.rejected, self.deferred, self.not_attempted, self.unknown, self.open];
        self.intended == ends.iter().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(intended_ms: u64, state: State, started_us: u32, done_us: u32) -> MessageRecord {
        MessageRecord {
            intended_ns: intended_ms * 1_000_000,
            taken_us: started_us / 2,
            started_us,
            done_us,
            state,
            ..MessageRecord::default()
        }
    }

    #[test]
    fn a_part_counts_by_intended_time_and_achieves_by_its_end() {
        let records = [
            record(999, State::Accepted, 10, 100),
            record(1000, State::Accepted, 10, 100),
            record(1998, State::Accepted, 10, 1_999),
            record(1999, State::Accepted, 10, 5_000),
            record(1500, State::Deferred, 10, 20),
            record(1500, State::Unknown, 10, 20),
            record(1500, State::NotAttempted, 0, 20),
            record(1500, State::Started, 0, 0),
            record(2000, State::Accepted, 10, 100),
        ];
        let figures = Figures::of(&records, Part { from: Span::seconds(1), until: Span::seconds(2) });
        assert!(figures.add_up());
        assert_eq!((figures.intended, figures.accepted, figures.accepted_in_time), (7, 3, 2));
        assert_eq!((figures.deferred, figures.unknown, figures.not_attempted, figures.open), (1, 1, 1, 1));
        assert_eq!(figures.response.count(), 3);
        assert!(figures.service.max().is_some_and(|max| max.abs_diff(4990) <= 4), "three digits");
        assert_eq!((figures.schedule_lag.count(), figures.connection_wait.count()), (7, 5));
    }

    #[test]
    fn a_time_that_fits_nowhere_is_reported() {
        let mut figures = Figures::of(&[record(0, State::Accepted, 5, u32::MAX)], Part::ALL);
        assert!(figures.overflowed() > 0);
        figures = Figures::of(&[record(0, State::Accepted, 5, 3_600_000_000)], Part::ALL);
        assert_eq!(figures.overflowed(), 0);
    }
}
