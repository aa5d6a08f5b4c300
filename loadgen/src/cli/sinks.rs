//! The sinks behind a target that can be asked what arrived.

use super::Failure;
use crate::ledger::Delivery;
use crate::sink::Counts;
use crate::sink::admin::{AdminAddress, AdminClient, AdminError};
use engine::wire::Tick;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// They are asked so often how many arrived.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of the time at most one part in so many goes into reading ledgers while something is missing.
const READING_SHARE: u32 = 4;

/// One that can be asked.
pub(super) trait Asked {
    /// What it did so far.
    fn counts(&mut self) -> Result<Counts, AdminError>;
    /// Everything it took so far.
    fn ledger(&mut self) -> Result<Vec<Delivery>, AdminError>;
}

impl Asked for AdminClient {
    fn counts(&mut self) -> Result<Counts, AdminError> {
        AdminClient::counts(self)
    }

    fn ledger(&mut self) -> Result<Vec<Delivery>, AdminError> {
        AdminClient::ledger(self)
    }
}

/// All of them.
pub(super) struct Sinks<A = AdminClient>(Vec<A>);

impl Sinks {
    pub(super) fn connect(admins: &[AdminAddress]) -> Result<Self, Failure> {
        let sinks = admins.iter().map(AdminClient::connect).collect::<Result<_, _>>();
        sinks.map(Self).map_err(|error: AdminError| {
            Failure::Component(format!("{error}; start the sink with --admin there first, or name where it listens"))
        })
    }
}

impl<A: Asked> Sinks<A> {
    pub(super) fn counts(&mut self) -> Result<Vec<Counts>, Failure> {
        self.0.iter_mut().map(A::counts).collect::<Result<_, _>>().map_err(Failure::component)
    }

    /// What they did by the end of the warm-up and by the end of the schedule, or by the moment at which nobody sends any more
    /// and `over` is closed: the warm-up and the wait for the last replies would make a busy sink look idle.
    pub(super) fn meter(&mut self, [from, until]: [Tick; 2], over: &Receiver<()>) -> Result<[Vec<Counts>; 2], Failure> {
        let wait = |at: Tick| {
            let left = Duration::from_nanos(at.0.saturating_sub(crate::clock::monotonic().0));
            // Either it is time, or nothing comes any more.
            let _ = over.recv_timeout(left);
        };
        wait(from);
        let before = self.counts()?;
        wait(until);
        Ok([before, self.counts()?])
    }

    fn ledgers(&mut self) -> Result<Vec<Delivery>, Failure> {
        let all = self.0.iter_mut().map(A::ledger).collect::<Result<Vec<_>, _>>().map_err(Failure::component)?;
        Ok(all.concat())
    }

    /// Waits until nothing that is owed is `missing` in what they took, or it is `until`; gives what they took.
    ///
    /// How many came since `before` says only when it is worth a look: copies and others' mail count as well, and one report
    /// may be about many.
    pub(super) fn await_arrivals(
        &mut self,
        missing: impl Fn(&mut [Delivery]) -> u64,
        before: &[Counts],
        until: Tick,
    ) -> Result<Vec<Delivery>, Failure> {
        let owed = missing(&mut []);
        let there = sum(before, |counts| counts.recipients);
        let (mut seen, mut next_look) = (None, Instant::now());
        loop {
            let is_over = crate::clock::monotonic() >= until;
            let counts = self.counts()?;
            let (taken, reports) = (sum(&counts, |counts| counts.recipients), sum(&counts, |counts| counts.reports));
            let is_worth_it = reports > sum(before, |counts| counts.reports) || taken - there.min(taken) >= owed;
            let began = Instant::now();
            if is_over || is_worth_it && seen != Some(taken) && began >= next_look {
                let mut all = self.ledgers()?;
                if is_over || missing(&mut all) == 0 {
                    return Ok(all);
                }
                (seen, next_look) = (Some(taken), Instant::now() + began.elapsed() * READING_SHARE);
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
}

fn sum(counts: &[Counts], of: impl Fn(&Counts) -> u64) -> u64 {
    counts.iter().map(of).sum()
}

/// Share of a core that the busiest shard of any sink used between the two.
pub(super) fn busiest(before: &[Counts], after: &[Counts]) -> Option<f64> {
    let busy = before.iter().zip(after).flat_map(|(before, after)| {
        let span = after.at_ns.saturating_sub(before.at_ns).max(1) as f64;
        let shards = before.shard_cpu_ns.iter().zip(&after.shard_cpu_ns);
        shards.map(move |(before, after)| after.saturating_sub(*before) as f64 / span)
    });
    busy.reduce(f64::max)
}

pub(super) fn cpu_us_per_message(before: &[Counts], after: &[Counts]) -> Option<f64> {
    let messages = sum(after, |counts| counts.messages).saturating_sub(sum(before, |counts| counts.messages));
    let cpu = |counts: &[Counts]| sum(counts, |counts| counts.shard_cpu_ns.iter().sum());
    (messages > 0).then(|| cpu(after).saturating_sub(cpu(before)) as f64 / 1000.0 / messages as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::wire::Span;
    use std::collections::VecDeque;

    fn copy(seq: u64) -> Delivery {
        Delivery { run: 1, recipient: 2, seq, at: Tick(3), bytes: 4, flags: 0 }
    }

    /// What it has whenever it is asked for counts; the last for ever.
    struct Filling(VecDeque<Vec<u64>>);

    impl Asked for Filling {
        fn counts(&mut self) -> Result<Counts, AdminError> {
            if self.0.len() > 1 {
                self.0.pop_front();
            }
            Ok(Counts { recipients: self.0[0].len() as u64, ..Counts::default() })
        }

        fn ledger(&mut self) -> Result<Vec<Delivery>, AdminError> {
            Ok(self.0[0].iter().map(|&seq| copy(seq)).collect())
        }
    }

    /// Of the messages 0 to 2.
    fn missing(all: &mut [Delivery]) -> u64 {
        (0..3).filter(|seq| all.iter().all(|copy| copy.seq != *seq)).count() as u64
    }

    fn arrived(looks: &[&[u64]], until: Tick) -> Vec<u64> {
        let looks = [&[][..]].iter().chain(looks).map(|look| look.to_vec()).collect();
        let all = Sinks(vec![Filling(looks)]).await_arrivals(missing, &[], until).expect("it answers");
        all.iter().map(|copy| copy.seq).collect()
    }

    #[test]
    fn copies_and_the_mail_of_others_do_not_end_the_wait() {
        assert_eq!(arrived(&[&[0], &[0, 1, 0], &[0, 1, 0, 9], &[0, 1, 0, 9, 2]], Tick::NEVER), [0, 1, 0, 9, 2]);
        assert_eq!(arrived(&[&[0, 1, 2]], Tick::NEVER), [0, 1, 2]);
    }

    /// Busy while mail is measured, and idle for as long before and behind it: that is no half.
    #[test]
    fn a_sink_is_as_busy_as_it_is_in_the_measured_time() {
        struct Busy(Tick);
        impl Asked for Busy {
            fn counts(&mut self) -> Result<Counts, AdminError> {
                let now = crate::clock::monotonic();
                let worked_ns = now.since(self.0).0.min(Span::millis(60).0);
                Ok(Counts { at_ns: now.0, shard_cpu_ns: vec![worked_ns], ..Counts::default() })
            }

            fn ledger(&mut self) -> Result<Vec<Delivery>, AdminError> {
                Ok(Vec::new())
            }
        }
        let from = crate::clock::monotonic() + Span::millis(40);
        let (_running, over) = std::sync::mpsc::channel();
        let mut sinks = Sinks(vec![Busy(from)]);
        let [before, after] = sinks.meter([from, from + Span::millis(50)], &over).expect("it answers");
        assert_eq!((before.len(), after.len()), (1, 1));
        assert!(crate::clock::monotonic() >= from + Span::millis(50), "it waits for both");
        let (began, ended) = (before[0].at_ns, after[0].at_ns);
        assert!(began >= from.0 && ended >= from.0 + Span::millis(50).0, "{began} {ended}");
        // A closed channel ends it at once.
        drop(_running);
        let started = crate::clock::monotonic();
        sinks.meter([started + Span::hours(1), started + Span::hours(2)], &over).expect("it answers");
        assert!(crate::clock::monotonic().since(started) < Span::seconds(30), "nobody sends any more");
    }

    #[test]
    fn the_wait_ends_with_its_time() {
        let until = crate::clock::monotonic() + Span::millis(50);
        assert_eq!(arrived(&[&[0, 1, 0]], until), [0, 1, 0]);
    }

    #[test]
    fn a_report_is_looked_at_although_it_counts_as_one() {
        struct Reporting(u64);
        impl Asked for Reporting {
            fn counts(&mut self) -> Result<Counts, AdminError> {
                self.0 += 1;
                let told = u64::from(self.0 > 3);
                Ok(Counts { recipients: told, reports: told, ..Counts::default() })
            }

            fn ledger(&mut self) -> Result<Vec<Delivery>, AdminError> {
                Ok((0..3).map(copy).collect())
            }
        }
        let all = Sinks(vec![Reporting(0)]).await_arrivals(missing, &[], Tick::NEVER).expect("it answers");
        assert_eq!(all.len(), 3);
    }
}
