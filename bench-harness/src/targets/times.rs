//! Times at half load: acknowledgements beside the disk alone, and outages when something is killed.

use super::Found;
use super::foreign::{LOAD, Load};
use super::measured::{Bench, one_hub, part, two_hubs, two_sinks};
use super::pairs::{Pairs, time};
use crate::failover::Summary;
use crate::observe::host::{sync_times, write_times};
use crate::plan::{Content, Fault, NOBODY, Pace, Phase};
use crate::result::{Figures, PerProcess};
use crate::scenario::strikes;
use crate::stats::median;
use anyhow::{Context, bail};
use loadgen::correlate::Accounts;
use std::time::Duration;

/// How long a killed process stays away.
const DOWN_S: f64 = 1.5;
/// From one strike to the next: outage needs no ten steady seconds.
const FAULT_EVERY_S: f64 = 4.5;
/// Before the first strike.
const BASELINE_S: f64 = 1.5;

impl Bench<'_> {
    fn probe(&self, load: Load) -> Phase {
        let (connections, content) = (load.connections, Content::Bytes(load.bytes));
        let mut probe = Phase::new("probe", "", Pace::FlatOut, connections, content, self.effort.seconds.max(1.5));
        probe.warm_up_s = 0.5;
        probe
    }

    /// The disk alone, the hub at half load, the disk alone, as often as the effort says; the median of the ratios. And
    /// the disk alone once more, under writes of the size and number that the hub's were: what a load of that kind cannot
    /// be without.
    pub(super) fn acknowledgement(&mut self) -> anyhow::Result<()> {
        let [syncs, loads] = self.acknowledgements("T-ack-p99", LOAD)?;
        self.ratio("T-ack-p99", &syncs, "µs")?;
        self.ratio("T-ack-p99-load", &loads, "µs")
    }

    /// The p99 of the disk's sync and of its writes under the same load, each with that of acknowledgements.
    pub(super) fn acknowledgements(&mut self, id: &'static str, load: Load) -> anyhow::Result<[Pairs; 2]> {
        let (mut syncs, mut loads) = (Pairs::default(), Pairs::default());
        for _ in 0..self.effort.latency_runs {
            self.tell(id, "disk and hub");
            let (connections, content) = (load.connections, Content::Bytes(load.bytes));
            let pace = Pace::ShareOfProbe(0.5);
            let mut latency = Phase::new("latency", "", pace, connections, content, self.effort.latency_s);
            latency.warm_up_s = 0.5;
            let before = self.sync_p99()?;
            let latency = self.phases(id, &part(1, one_hub()), &[self.probe(load), latency])?.remove(1);
            let sync = f64::midpoint(before, self.sync_p99()?);
            let writes = self.write_p99(&latency.figures)?;
            self.runs.push(serde_json::json!({
                "id": id, "what": "acknowledgement", "connections": load.connections, "bytes": load.bytes, "rate_per_s": latency.figures.rate.achieved_per_s,
                "ack_us": latency.figures.latency_us.response, "sync_p99_us": sync, "write_p99_us": writes,
                "pairs": latency.figures.pairs, "validity": latency.figures.validity,
            }));
            let p99 = time(&latency, |figures| figures.latency_us.response.p99);
            syncs.add_times(Ok(sync), p99.clone());
            loads.add_times(Ok(writes), p99);
        }
        Ok([syncs, loads])
    }

    /// What the disk alone makes of as many durable writes of the same size, as long.
    fn write_p99(&self, hub: &Figures) -> anyhow::Result<f64> {
        let of = |each: &PerProcess| each.get("hub").copied().flatten().filter(|each| *each > 0.0);
        let (Some(writes), Some(octets)) = (of(&hub.stable_writes_per_message), of(&hub.written_bytes_per_message))
        else {
            bail!("the hub wrote nothing durably");
        };
        let per_s = writes * hub.rate.achieved_per_s.context("nothing was acknowledged")?;
        let length = Duration::from_secs_f64(self.effort.latency_s);
        let times = write_times(self.folder.scratch(), (octets / writes) as usize, per_s, length)?;
        times.p99.context("the disk's writes cannot be measured")
    }

    fn sync_p99(&self) -> anyhow::Result<f64> {
        let times = sync_times(self.folder.scratch(), Duration::from_secs_f64(self.effort.sync_s))?;
        times.p99.context("the disk's sync cannot be measured")
    }

    pub(super) fn outage_of_next_hop(&mut self) -> anyhow::Result<()> {
        self.outage("next-hop", ["T-outage-next-hop", "T-outage-next-hop-p50", "T-lost-next-hop"])
    }

    pub(super) fn outage_of_hub(&mut self) -> anyhow::Result<()> {
        self.outage("hub", ["T-outage-hub", "T-outage-hub-p50", "T-lost-hub"])
    }

    /// What an outage would be said to be where nothing is killed: pauses of disk and machine count like any other.
    pub(super) fn outage_of_nobody(&mut self) -> anyhow::Result<()> {
        self.outage(NOBODY, ["T-outage-none", "T-outage-none-p50", "T-lost-none"])
    }

    fn outage(&mut self, kind: &'static str, [worst, middle, lost]: [&'static str; 3]) -> anyhow::Result<()> {
        let (topology, victim) = match kind {
            "hub" => (two_hubs(), "hub-2"),
            "next-hop" => (two_sinks(), "sink-b"),
            _ => (two_hubs(), NOBODY),
        };
        let warm_up_s = 0.5;
        let faults = self.effort.faults;
        let mut phase = Phase::new(kind, "", Pace::ShareOfProbe(0.5), 50, Content::Bytes(4096), 0.0);
        phase.warm_up_s = warm_up_s;
        phase.seconds = BASELINE_S + FAULT_EVERY_S * faults as f64;
        phase.fault_kind = Some(kind.to_owned());
        phase.faults = moments(victim, warm_up_s, faults, self.seed);
        self.tell(worst, "all of it");
        let done = self.phases(worst, &part(1, topology), &[self.probe(LOAD), phase])?.remove(1);
        let figures = &done.figures;
        let summary = done.failover.as_ref().context("no fault could be judged")?;
        self.runs.push(serde_json::json!({
            "id": worst, "what": "failover", "seed": self.seed, "rate_per_s": figures.rate.achieved_per_s, "pairs": figures.pairs,
            "failover": summary, "validity": figures.validity,
        }));
        let invalid = !figures.validity.valid;
        let why_not = invalid.then(|| format!("NOT VALID: {}", figures.validity.reasons.join("; ")));
        let note = why_not.clone().unwrap_or_else(|| {
            let Summary { faults, bucket_ms, deadline_ms, .. } = summary;
            let rate = figures.rate.achieved_per_s.unwrap_or(0.0);
            format!(
                "{faults} faults at {rate:.0}/s, each at a random moment (seed {}), buckets of {bucket_ms:.0} ms, good within \
                 {deadline_ms:.0} ms, debt {:.1} message·s",
                self.seed, summary.debt_message_s
            )
        });
        let most = summary.outage_ms.max.context("no fault could be judged")?;
        let each: Vec<f64> = summary.each.iter().map(|impact| impact.outage_ms).collect();
        let median = median(&each).context("no fault could be judged")?;
        self.failover.push(summary.clone());
        self.findings.insert(worst, Ok(Found { value: most, note: note.clone(), invalid, compared: None }));
        self.findings.insert(middle, Ok(Found { value: median, note, invalid, compared: None }));
        self.findings.insert(lost, Ok(lost_in(&figures.pairs, summary.duplicates_max, why_not)));
        Ok(())
    }
}

/// When `victim` is struck and healed, in seconds behind the first message.
fn moments(victim: &str, warm_up_s: f64, faults: usize, seed: u64) -> Vec<Fault> {
    strikes(victim, (warm_up_s + BASELINE_S, FAULT_EVERY_S, DOWN_S), faults, seed)
}

/// What is lost for certain. Where the phase is not valid (`why_not`) nobody knows: what a drain that did not end left in
/// queues, and what a full ledger has no room for, is counted with the lost by nobody.
fn lost_in(pairs: &Accounts, duplicates_max: u64, why_not: Option<String>) -> Found {
    let (invalid, intended, twice) = (why_not.is_some(), pairs.intended, pairs.duplicated.total());
    let counted = || format!("of {intended}; {twice} delivered twice, of {duplicates_max} that could be");
    let value = pairs.lost_for_certain() as f64;
    Found { value, note: why_not.unwrap_or_else(counted), invalid, compared: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same seed strikes at the same moments, another one at others, and each fault has its baseline before it.
    #[test]
    fn p_110_p_111_faults_strike_at_moments_that_a_seed_chooses() {
        let struck = |seed| moments("hub-2", 0.5, 9, seed).iter().map(|fault| fault.strike_s).collect::<Vec<_>>();
        assert_eq!(struck(7), struck(7));
        let shifts = |seed: u64| -> Vec<f64> {
            struck(seed).iter().enumerate().map(|(at, s)| s - 2.0 - FAULT_EVERY_S * at as f64).collect()
        };
        for (a, b) in [(1, 2), (2, 3), (7, 8)] {
            assert!(shifts(a).iter().zip(shifts(b)).all(|(a, b)| (a - b).abs() > 1e-9), "{a} and {b}");
        }
        let all: Vec<f64> = (0..20).flat_map(shifts).collect();
        assert!(all.iter().all(|shift| (0.0..1.0).contains(shift)));
        for part in 0..10 {
            let (from, until) = (f64::from(part) / 10.0, f64::from(part + 1) / 10.0);
            assert!(all.iter().any(|shift| (from..until).contains(shift)), "no tenth of a second is spared");
        }
        let faults = moments("hub-2", 0.5, 9, 3);
        assert!(faults.windows(2).all(|two| two[1].strike_s - two[0].heal_s > BASELINE_S));
    }

    #[test]
    fn nothing_lost_holds_nothing_where_nobody_knows() {
        let undrained = Accounts { intended: 10, queued: 3, ..Accounts::default() };
        let found = lost_in(&undrained, 0, Some("NOT VALID: the drain did not end".into()));
        assert_eq!((found.value, found.invalid), (0.0, true));
        assert!(found.note.contains("drain"), "{}", found.note);
        let full = Accounts { intended: 10, lost: 3, unrecorded: 2, ..Accounts::default() };
        assert_eq!(lost_in(&full, 0, None).value, 1.0, "two of them may have arrived");
    }
}
