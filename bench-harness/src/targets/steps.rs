//! Which runs there are, and which figures each tells.

use super::Unmeasured;
use super::beside::{DEAD, IDLE, SILENT, SLOW};
use super::hops;
use super::measured::{Bench, Measured};
use std::time::{Duration, Instant};

/// A group of figures that one series of runs tells.
struct Step<'b> {
    ids: Vec<&'static str>,
    /// Told the first of its ids.
    run: fn(&mut Bench<'b>, &'static str) -> anyhow::Result<()>,
    /// How long it takes by `--quick`; `None`: that leaves it out.
    quick: Option<Duration>,
}

/// What steps take by `--quick`, starts and drains included, on a machine of two cores.
const HOP: Option<Duration> = Some(Duration::from_millis(6_500));
const ACKNOWLEDGEMENT: Option<Duration> = Some(Duration::from_secs(13));
const OUTAGE: Option<Duration> = Some(Duration::from_secs(11));
const IDLE_MEMORY: Option<Duration> = Some(Duration::from_secs(3));

impl<'a> Bench<'a> {
    fn steps() -> Vec<Step<'a>> {
        let step = |ids: &[&'static str], run, quick| Step { ids: ids.to_vec(), run, quick };
        let beside = hops::BESIDE.map(|(id, _)| Step { ids: vec![id], run: |b, id| b.hop_beside(id), quick: None });
        let steps = [
            step(&["T-hop-4k-50", "T-syscalls-50", "T-copies-4k", "T-alloc-4k"], |b, _| b.hop_4k_50(), HOP),
            step(&["T-hop-4k-256", "T-syscalls-256"], |b, _| b.hop_4k_256(), HOP),
            step(&["T-hop-100k-50", "T-copies-100k"], |b, _| b.hop_100k(), HOP),
            step(&["T-ack-p99", "T-ack-p99-load"], |b, _| b.acknowledgement(), ACKNOWLEDGEMENT),
            step(
                &["T-outage-next-hop", "T-outage-next-hop-p50", "T-lost-next-hop"],
                |b, _| b.outage_of_next_hop(),
                OUTAGE,
            ),
            step(&["T-outage-hub", "T-outage-hub-p50", "T-lost-hub"], |b, _| b.outage_of_hub(), OUTAGE),
            step(&["T-hop-data-4k-50"], |b, _| b.hop_data(), HOP),
            step(&["T-outage-none", "T-outage-none-p50", "T-lost-none"], |b, _| b.outage_of_nobody(), None),
            step(&["T-mem-idle"], |b, _| b.idle_memory(), IDLE_MEMORY),
            step(&["T-mem-queued"], |b, _| b.queued_memory(), None),
            step(&["T-load-cpu", "T-sink-cpu", "T-load-cpu-1", "T-sink-cpu-1"], |b, _| b.foreign(), None),
            step(&["T-shards-2", "T-shards-rate"], |b, _| b.shards(), None),
            step(&["T-relay-4k-50"], |b, _| b.relay(), None),
            step(&["T-idle-p99"], |b, id| b.beside_a_crowd(id, IDLE), None),
            step(&["T-slow-p99"], |b, id| b.beside_a_crowd(id, SLOW), None),
            step(&["T-dead-p99", "T-dead-rate"], |b, _| b.beside_trouble(DEAD), None),
            step(&["T-silent-p99", "T-silent-rate"], |b, _| b.beside_trouble(SILENT), None),
        ];
        steps.into_iter().chain(beside).collect()
    }

    /// Measures what is wanted.
    pub(super) fn measure(mut self) -> Measured {
        let is_asked = |step: &Step<'_>| {
            (step.quick.is_some() || self.effort.everything) && step.ids.iter().any(|id| self.is_wanted(id))
        };
        let steps: Vec<Step<'a>> = Self::steps().into_iter().filter(is_asked).collect();
        let began = Instant::now();
        for (index, step) in steps.iter().enumerate() {
            if self.interrupt.asked() {
                break;
            }
            if !fits(began.elapsed(), step.quick, self.effort.seconds_max) {
                self.progress.line(&format!("no time is left, not measured: {}", step.ids.join(", ")));
                continue;
            }
            self.progress.say(&format!("{} of {}: {}", index + 1, steps.len(), step.ids.join(", ")));
            // One that fails says so in its rows; the others are measured all the same.
            if let Err(error) = (step.run)(&mut self, step.ids[0]) {
                let not = Unmeasured::from(&error);
                step.ids.iter().for_each(|id| {
                    self.findings.entry(id).or_insert_with(|| Err(not.clone()));
                });
            }
            step.ids.iter().for_each(|id| self.tell_found(id));
        }
        self.ended()
    }

    fn tell_found(&self, id: &str) {
        let found = match self.findings.get(id) {
            Some(Ok(found)) => format!("{} ({})", crate::html::text::significant(found.value), found.note),
            Some(Err(not)) => not.why.clone(),
            None => return,
        };
        self.progress.line(&format!("{id}: {found}"));
    }
}

/// Whether a step may begin that takes so long.
fn fits(elapsed: Duration, takes: Option<Duration>, seconds_max: Option<f64>) -> bool {
    seconds_max.is_none_or(|max| (elapsed + takes.unwrap_or_default()).as_secs_f64() <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_too_late_is_not_begun() {
        let at = Duration::from_secs;
        assert!(fits(at(0), OUTAGE, Some(60.0)) && fits(at(49), OUTAGE, Some(60.0)));
        assert!(!fits(at(50), OUTAGE, Some(60.0)) && fits(at(4900), None, None));
        assert!(fits(at(57), IDLE_MEMORY, Some(60.0)), "a long one before it is no reason");
        assert_eq!(super::super::Effort::QUICK.seconds_max, Some(60.0), "a minute, as --quick promises");
    }

    #[test]
    fn a_minute_is_enough_for_outages() {
        let until = |last: &str| {
            let steps = Bench::steps();
            let count = steps.iter().position(|step| step.ids.contains(&last)).expect("a step") + 1;
            steps.iter().take(count).filter_map(|step| step.quick).sum::<Duration>()
        };
        assert!(until("T-outage-hub") <= Duration::from_secs(60), "{:?}", until("T-outage-hub"));
    }
}
