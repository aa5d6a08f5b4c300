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
    is_quick: bool,
}

impl<'a> Bench<'a> {
    fn steps() -> Vec<Step<'a>> {
        let step = |ids: &[&'static str], run, is_quick| Step { ids: ids.to_vec(), run, is_quick };
        let beside = hops::BESIDE.map(|(id, _)| Step { ids: vec![id], run: |b, id| b.hop_beside(id), is_quick: false });
        let steps = [
            step(&["T-hop-4k-50", "T-syscalls-50", "T-copies-4k", "T-alloc-4k"], |b, _| b.hop_4k_50(), true),
            step(&["T-hop-4k-256", "T-syscalls-256"], |b, _| b.hop_4k_256(), true),
            step(&["T-hop-100k-50", "T-copies-100k"], |b, _| b.hop_100k(), true),
            step(&["T-hop-data-4k-50"], |b, _| b.hop_data(), true),
            step(&["T-ack-p99", "T-ack-p99-load"], |b, _| b.acknowledgement(), true),
            step(
                &["T-outage-next-hop", "T-outage-next-hop-p50", "T-lost-next-hop"],
                |b, _| b.outage_of_next_hop(),
                true,
            ),
            step(&["T-outage-hub", "T-outage-hub-p50", "T-lost-hub"], |b, _| b.outage_of_hub(), true),
            step(&["T-outage-none", "T-outage-none-p50", "T-lost-none"], |b, _| b.outage_of_nobody(), false),
            step(&["T-mem-idle"], |b, _| b.idle_memory(), true),
            step(&["T-mem-queued"], |b, _| b.queued_memory(), false),
            step(&["T-load-cpu", "T-sink-cpu", "T-load-cpu-1", "T-sink-cpu-1"], |b, _| b.foreign(), false),
            step(&["T-shards-2", "T-shards-rate"], |b, _| b.shards(), false),
            step(&["T-relay-4k-50"], |b, _| b.relay(), false),
            step(&["T-idle-p99"], |b, id| b.beside_a_crowd(id, IDLE), false),
            step(&["T-slow-p99"], |b, id| b.beside_a_crowd(id, SLOW), false),
            step(&["T-dead-p99", "T-dead-rate"], |b, _| b.beside_trouble(DEAD), false),
            step(&["T-silent-p99", "T-silent-rate"], |b, _| b.beside_trouble(SILENT), false),
        ];
        steps.into_iter().chain(beside).collect()
    }

    /// Measures what is wanted.
    pub(super) fn measure(mut self) -> Measured {
        let is_asked =
            |step: &Step<'_>| (step.is_quick || self.effort.everything) && step.ids.iter().any(|id| self.is_wanted(id));
        let steps: Vec<Step<'a>> = Self::steps().into_iter().filter(is_asked).collect();
        let (began, mut longest) = (Instant::now(), Duration::ZERO);
        for (index, step) in steps.iter().enumerate() {
            if self.interrupt.asked() {
                break;
            }
            if !fits(began.elapsed(), longest, self.effort.seconds_max) {
                let left: Vec<&str> = steps[index..].iter().flat_map(|step| step.ids.iter().copied()).collect();
                self.progress.line(&format!("the time is over, not measured: {}", left.join(", ")));
                break;
            }
            let step_began = Instant::now();
            self.progress.say(&format!("{} of {}: {}", index + 1, steps.len(), step.ids.join(", ")));
            // One that fails says so in its rows; the others are measured all the same.
            if let Err(error) = (step.run)(&mut self, step.ids[0]) {
                let not = Unmeasured::from(&error);
                step.ids.iter().for_each(|id| {
                    self.findings.entry(id).or_insert_with(|| Err(not.clone()));
                });
            }
            longest = longest.max(step_began.elapsed());
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

/// Whether a step may begin: it ends in time if it takes no longer than the longest so far.
fn fits(elapsed: Duration, longest: Duration, seconds_max: Option<f64>) -> bool {
    seconds_max.is_none_or(|max| (elapsed + longest).as_secs_f64() <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_too_late_is_not_begun() {
        let at = Duration::from_secs;
        assert!(fits(at(0), at(0), Some(60.0)) && fits(at(48), at(12), Some(60.0)));
        assert!(!fits(at(49), at(12), Some(60.0)) && fits(at(4900), at(12), None));
        assert_eq!(super::super::Effort::QUICK.seconds_max, Some(60.0), "a minute, as --quick promises");
    }
}
