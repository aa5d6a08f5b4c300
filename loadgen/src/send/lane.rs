//! One shard's share of the run: what is due, what waits for a connection, what became of each message. Pure: the shell
//! tells it the time and asks it for work.
//!
//! In an open loop a message becomes due when the schedule says so, whatever the connections do; it then waits here for
//! one. In a closed loop a message comes into being when a connection is free for it: what the schedule held in the
//! meantime is put off, and nobody notices. That is the difference that perf/METHODOLOGY.md begins with.

use crate::correlate::RecipientRefusal;
use crate::record::{MessageRecord, State};
use crate::schedule::{Due, Plan, Schedule};
use engine::wire::{Reply, Span, Tick};
use std::collections::VecDeque;

/// What decides when a message is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pacing {
    /// The schedule alone.
    Open(Plan),
    /// The schedule as far as connections are free; what they miss is put off.
    ClosedAt(Plan),
    /// As fast as connections become free, for so long or so many.
    Closed {
        /// No message begins after so long.
        length: Span,
        /// No more messages than so many.
        messages_max: u64,
    },
}

impl Pacing {
    /// From the start of the schedule to its end.
    pub fn length(&self) -> Span {
        match self {
            Self::Open(plan) | Self::ClosedAt(plan) => plan.length(),
            Self::Closed { length, .. } => *length,
        }
    }

    /// Whether messages have an intended send time. In a closed loop a message comes into being when its turn comes: there is
    /// nothing that response or delivery time could count from.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Intended messages per second; `None` where the target decides.
    pub fn offered_per_s(&self) -> Option<f64> {
        match self {
            Self::Open(plan) => {
                let seconds = plan.length().as_secs_f64();
                (seconds > 0.0).then(|| plan.messages() as f64 / seconds)
            }
            Self::ClosedAt(_) | Self::Closed { .. } => None,
        }
    }

    /// Messages, at most or as expected; `None` where the target decides.
    pub fn messages(&self) -> Option<u64> {
        match self {
            Self::Open(plan) | Self::ClosedAt(plan) => Some(plan.messages()),
            Self::Closed { messages_max, .. } => (*messages_max < u64::MAX).then_some(*messages_max),
        }
    }
}

#[derive(Debug)]
enum Source {
    Open { schedule: Schedule, next: Option<Due> },
    ClosedAt { schedule: Schedule, next: Option<Due>, put_off: Span },
    Closed { seq: u64, messages_max: u64, length: Span },
}

/// One shard's messages. Indexes are into its own records; message `index` of shard `s` of `n` is number `index * n + s`.
#[derive(Debug)]
pub struct Lane {
    source: Source,
    start: Tick,
    shard: u64,
    shards: u64,
    records: Vec<MessageRecord>,
    /// Due and never given to a connection: `records[untouched..]`.
    untouched: usize,
    /// Given to a connection that broke before it sent anything of them.
    returned: VecDeque<u32>,
    /// Without an outcome.
    open: usize,
    stopped: bool,
    refusals: Vec<RecipientRefusal>,
    first_refusal: Option<(Tick, Reply)>,
}

/// What a closed loop of one shard may come to: room for its records is set aside at once, because to grow them while they are
/// kept is a copy and fresh memory each time, 5 % of all that a sender does. What is not used is not touched.
const CLOSED_PER_S_MAX: f64 = 250_000.0;
const CLOSED_EXPECTED_MAX: u64 = 4 << 20;

/// Messages of one shard, at most: their records take 48 octets each.
pub const MESSAGES_PER_SHARD_MAX: u64 = 32 << 20;

impl Lane {
    /// Shard `shard`'s share of `pacing`, from `start` on.
    pub fn new(pacing: &Pacing, shard: usize, shards: usize, start: Tick) -> Self {
        let (source, expected) = match pacing {
            Pacing::Open(plan) => {
                let mut schedule = plan.share(shard, shards);
                let next = schedule.next();
                (Source::Open { schedule, next }, plan.messages() / shards as u64 + 1)
            }
            Pacing::ClosedAt(plan) => {
                let mut schedule = plan.share(shard, shards);
                let next = schedule.next();
                (Source::ClosedAt { schedule, next, put_off: Span::ZERO }, plan.messages() / shards as u64 + 1)
            }
            Pacing::Closed { length, messages_max } => {
                let first = shard as u64;
                let expected = (length.as_secs_f64() * CLOSED_PER_S_MAX) as u64;
                let expected = expected.min(messages_max.div_ceil(shards as u64)).min(CLOSED_EXPECTED_MAX);
                (Source::Closed { seq: first, messages_max: *messages_max, length: *length }, expected)
            }
        };
        Self {
            source,
            start,
            shard: shard as u64,
            shards: shards as u64,
            records: Vec::with_capacity(expected.min(MESSAGES_PER_SHARD_MAX) as usize),
            untouched: 0,
            returned: VecDeque::new(),
            open: 0,
            stopped: false,
            refusals: Vec::new(),
            first_refusal: None,
        }
    }

    /// When the next message becomes due by itself; `None` when none will. In a closed loop only while a connection is
    /// free does that matter.
    pub fn next_due(&self) -> Option<Tick> {
        if self.stopped {
            return None;
        }
        match &self.source {
            Source::Open { next, .. } => next.map(|due| self.start + due.at),
            Source::ClosedAt { next, put_off, .. } => next.map(|due| self.start + due.at + *put_off),
            Source::Closed { .. } => None,
        }
    }

    /// Takes up everything that is due at `now`. Open loop only; the others do nothing.
    pub fn take_due(&mut self, now: Tick) {
        let Source::Open { schedule, next } = &mut self.source else { return };
        while let Some(due) = next.filter(|due| !self.stopped && self.start + due.at <= now) {
            *next = schedule.next();
            let taken_us = MessageRecord::offset_us(self.start + due.at, now);
            self.records.push(MessageRecord { intended_ns: due.at.0, taken_us, ..MessageRecord::default() });
            self.open += 1;
        }
    }

    /// Messages that wait for a connection.
    pub fn waiting(&self) -> usize {
        self.records.len() - self.untouched + self.returned.len()
    }

    /// The next message for a connection that is free at `now`. It counts as started.
    pub fn next(&mut self, now: Tick) -> Option<u32> {
        let index = match self.returned.pop_front() {
            Some(index) => index,
            None => {
                self.come_into_being(now);
                if self.untouched >= self.records.len() {
                    return None;
                }
                self.untouched += 1;
                (self.untouched - 1) as u32
            }
        };
        if let Some(record) = self.records.get_mut(index as usize) {
            record.state = State::Started;
        }
        Some(index)
    }

    /// The closed loops: a message exists as soon as somebody is free for it.
    fn come_into_being(&mut self, now: Tick) {
        if self.stopped {
            return;
        }
        let at = match &mut self.source {
            Source::Open { .. } => return,
            Source::ClosedAt { schedule, next, put_off } => {
                let Some(due) = *next else { return };
                let at = due.at + *put_off;
                let late = now.since(self.start + at);
                if now < self.start + at {
                    return;
                }
                *put_off = *put_off + late;
                *next = schedule.next();
                at + late
            }
            Source::Closed { seq, messages_max, length } => {
                let at = now.since(self.start);
                if *seq >= *messages_max || at >= *length || self.records.len() as u64 >= MESSAGES_PER_SHARD_MAX {
                    return;
                }
                *seq += self.shards;
                at
            }
        };
        self.records.push(MessageRecord { intended_ns: at.0, ..MessageRecord::default() });
        self.open += 1;
    }

    /// The number of message `index` in the run.
    pub fn seq(&self, index: u32) -> u64 {
        u64::from(index) * self.shards + self.shard
    }

    /// The record of message `index`, and its intended send time.
    pub fn record(&mut self, index: u32) -> Option<(&mut MessageRecord, Tick)> {
        let record = self.records.get_mut(index as usize)?;
        let intended = self.start + record.intended();
        Some((record, intended))
    }

    /// Message `index` ended as `state` at `now`.
    pub fn end(&mut self, index: u32, state: State, code: u16, now: Tick) {
        let start = self.start;
        let Some(record) = self.records.get_mut(index as usize).filter(|record| record.state == State::Started) else {
            return;
        };
        record.state = state;
        record.code = code;
        record.done_us = MessageRecord::offset_us(start + record.intended(), now);
        self.open -= 1;
    }

    /// Nothing of message `index` was sent: it goes to the next free connection, before all others.
    pub fn give_back(&mut self, index: u32) {
        let seq = self.seq(index);
        if let Some(record) = self.records.get_mut(index as usize).filter(|record| record.state == State::Started) {
            if record.rejected > 0 || record.deferred > 0 {
                // What was said of it in an attempt that came to nothing is no outcome.
                self.refusals.retain(|refusal| refusal.seq != seq);
            }
            *record = MessageRecord {
                intended_ns: record.intended_ns,
                taken_us: record.taken_us,
                content: record.content,
                ..MessageRecord::default()
            };
            self.returned.push_back(index);
        }
    }

    /// One recipient of message `index` was refused while the message went on.
    pub fn refuse(&mut self, index: u32, place: u16, code: u16) {
        let refusal = RecipientRefusal { seq: self.seq(index), place, code };
        self.refusals.push(refusal);
        if let Some(record) = self.records.get_mut(index as usize) {
            let counter = if code >= 500 { &mut record.rejected } else { &mut record.deferred };
            *counter = counter.saturating_add(1);
        }
    }

    /// The peer said 4yz or 5yz: the first such reply is kept.
    pub fn heard(&mut self, reply: &Reply, now: Tick) {
        if self.first_refusal.is_none() && reply.code() >= 400 {
            self.first_refusal = Some((now, reply.clone()));
        }
    }

    /// The first 4yz or 5yz that was heard, and when.
    pub fn take_first_refusal(&mut self) -> Option<(Tick, Reply)> {
        self.first_refusal.take()
    }

    /// No message becomes due any more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Every message of the share became due, and has an outcome.
    pub fn is_finished(&self, now: Tick) -> bool {
        self.open == 0 && self.is_exhausted(now)
    }

    /// No further message will become due.
    pub fn is_exhausted(&self, now: Tick) -> bool {
        self.stopped
            || match &self.source {
                Source::Open { next, .. } | Source::ClosedAt { next, .. } => next.is_none(),
                Source::Closed { seq, messages_max, length } => {
                    seq >= messages_max
                        || now.since(self.start) >= *length
                        || self.records.len() as u64 >= MESSAGES_PER_SHARD_MAX
                }
            }
    }

    /// Messages that became due so far, and of those how many are without an outcome.
    pub fn counts(&self) -> (usize, usize) {
        (self.records.len(), self.open)
    }

    /// Ends the lane: its records and the refusals of single recipients.
    pub fn into_records(self) -> (Vec<MessageRecord>, Vec<RecipientRefusal>) {
        (self.records, self.refusals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rate;

    const START: Tick = Tick(1_000_000_000);

    fn plan(per_second: u64, millis: u64) -> Plan {
        Plan::constant(Rate::per_second(per_second).expect("a rate"), Span::millis(millis))
    }

    fn at(millis: u64) -> Tick {
        START + Span::millis(millis)
    }

    #[test]
    fn an_open_loop_does_not_wait_for_connections() {
        let mut lane = Lane::new(&Pacing::Open(plan(100, 100)), 0, 1, START);
        assert_eq!(lane.next(at(0)), None, "nothing was taken up yet");
        lane.take_due(at(0));
        assert_eq!(lane.next(at(0)), Some(0));
        // Nobody was free for 50 ms: five more are due, each with its own time.
        lane.take_due(at(50));
        assert_eq!(lane.waiting(), 5);
        let indexes: Vec<u32> = std::iter::from_fn(|| lane.next(at(50))).collect();
        assert_eq!(indexes, [1, 2, 3, 4, 5]);
        lane.end(1, State::Accepted, 250, at(51));
        let (record, intended) = lane.record(1).expect("taken");
        assert_eq!((intended, record.response_us(), record.schedule_lag_us()), (at(10), 41_000, 40_000));
        assert_eq!(lane.next_due(), Some(at(60)));
    }

    #[test]
    fn a_closed_loop_puts_off_what_it_misses() {
        let mut lane = Lane::new(&Pacing::ClosedAt(plan(100, 100)), 0, 1, START);
        assert_eq!(lane.next(at(0)), Some(0));
        assert_eq!(lane.next(at(5)), None, "not before its time");
        // The connection was busy until 50 ms: message 1 was due at 10 ms, and is said to be due now.
        assert_eq!(lane.next(at(50)), Some(1));
        assert_eq!(lane.record(1).map(|(_, intended)| intended), Some(at(50)));
        assert_eq!(lane.next(at(50)), None, "no catching up");
        assert_eq!(lane.next_due(), Some(at(60)));
    }

    #[test]
    fn a_closed_loop_without_a_rate_ends_by_time_or_number() {
        let pacing = Pacing::Closed { length: Span::millis(10), messages_max: 3 };
        let mut lane = Lane::new(&pacing, 1, 2, START);
        assert_eq!((lane.next(at(0)), lane.next(at(1))), (Some(0), None), "numbers 1 and 3: 3 is too many");
        assert_eq!(lane.seq(0), 1);
        assert!(lane.is_exhausted(at(1)) && !lane.is_finished(at(1)));
        lane.end(0, State::Accepted, 250, at(2));
        assert!(lane.is_finished(at(2)));
        let mut lane = Lane::new(&Pacing::Closed { length: Span::millis(10), messages_max: u64::MAX }, 0, 1, START);
        assert_eq!((lane.next(at(9)), lane.next(at(10))), (Some(0), None));
    }

    #[test]
    fn what_comes_back_goes_first_and_keeps_its_time() {
        let mut lane = Lane::new(&Pacing::Open(plan(1000, 10)), 0, 1, START);
        lane.take_due(at(4));
        assert_eq!((lane.next(at(4)), lane.next(at(4))), (Some(0), Some(1)));
        lane.give_back(0);
        assert_eq!(lane.waiting(), 4);
        assert_eq!(lane.next(at(5)), Some(0));
        assert_eq!(lane.record(0).map(|(record, intended)| (record.state, intended)), Some((State::Started, at(0))));
        lane.end(0, State::Unknown, 0, at(6));
        lane.give_back(0);
        assert_eq!(lane.next(at(6)), Some(2), "what has an outcome does not come back");
    }

    #[test]
    fn a_stopped_lane_is_finished_when_its_open_messages_are() {
        let mut lane = Lane::new(&Pacing::Open(plan(1000, 10)), 0, 1, START);
        lane.take_due(at(1));
        assert_eq!(lane.counts(), (2, 2));
        lane.stop();
        lane.take_due(at(9));
        assert_eq!(lane.counts(), (2, 2));
        assert_eq!(lane.next_due(), None);
        for index in 0..2 {
            assert_eq!(lane.next(at(9)), Some(index));
            lane.end(index, State::Accepted, 250, at(9));
        }
        assert!(lane.is_finished(at(9)));
    }

    #[test]
    fn what_was_said_in_an_attempt_that_came_to_nothing_is_forgotten() {
        let mut lane = Lane::new(&Pacing::Open(plan(1000, 10)), 1, 3, START);
        lane.take_due(at(3));
        lane.next(at(3));
        lane.refuse(0, 1, 451);
        lane.give_back(0);
        assert_eq!(lane.next(at(4)), Some(0));
        lane.end(0, State::Accepted, 250, at(5));
        let (records, refusals) = lane.into_records();
        assert_eq!((records[0].state, records[0].deferred, refusals), (State::Accepted, 0, Vec::new()));
    }

    #[test]
    fn a_refused_recipient_is_written_down() {
        let mut lane = Lane::new(&Pacing::Open(plan(1000, 10)), 1, 3, START);
        lane.take_due(at(3));
        lane.next(at(3));
        lane.refuse(0, 2, 550);
        lane.refuse(0, 3, 452);
        let (records, refusals) = lane.into_records();
        assert_eq!((records[0].rejected, records[0].deferred), (1, 1));
        assert_eq!(refusals[0], RecipientRefusal { seq: 1, place: 2, code: 550 });
    }
}
