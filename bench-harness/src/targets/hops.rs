//! The hub hop beside the byte pump, and what the engine counts of itself on the way.

use super::measured::{Bench, one_hub, part};
use super::pairs::Pairs;
use super::{Compared, Counted, Found, NotHere};
use crate::plan::{Content, Pace, Phase};
use crate::process::placement::available;
use crate::pump::{self, PumpPlan};
use crate::result;
use crate::stats::{median, median_interval};
use anyhow::{Context, bail};

/// Connections of a pump that sends one frame per write to its sink: the cheapest number (perf/METHODOLOGY.md).
const ONE_PER_WRITE_CONNECTIONS: usize = 16;

/// One hub hop to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hop {
    pub connections: u32,
    pub bytes: u64,
    pub by_data: bool,
    pub shards: usize,
    /// Synced before its 250; else in memory alone, on both sides.
    pub is_durable: bool,
}

pub(super) const HOP: Hop = Hop { connections: 50, bytes: 4096, by_data: false, shards: 1, is_durable: true };
/// Neither side has a disk: what is left of a hub is sessions and queues over the same shells as the pump's.
pub(super) const RELAY: Hop = Hop { is_durable: false, ..HOP };
const LARGE: Hop = Hop { bytes: 100 << 10, ..HOP };
const DATA: Hop = Hop { by_data: true, ..HOP };
const LARGE_DATA: Hop = Hop { by_data: true, ..LARGE };

impl Hop {
    pub(super) fn durability(self) -> &'static str {
        if self.is_durable { "disk" } else { "none" }
    }
}

/// Hops that nothing is promised of, shown beside those that are promised.
pub(super) const BESIDE: [(&str, Hop); 12] = [
    ("T-hop-4k-16", Hop { connections: 16, ..HOP }),
    ("T-hop-4k-1", Hop { connections: 1, ..HOP }),
    ("T-hop-100k-256", Hop { connections: 256, ..LARGE }),
    ("T-hop-100k-16", Hop { connections: 16, ..LARGE }),
    ("T-hop-100k-1", Hop { connections: 1, ..LARGE }),
    ("T-hop-data-4k-256", Hop { connections: 256, ..DATA }),
    ("T-hop-data-4k-16", Hop { connections: 16, ..DATA }),
    ("T-hop-data-4k-1", Hop { connections: 1, ..DATA }),
    ("T-hop-data-100k-256", Hop { connections: 256, ..LARGE_DATA }),
    ("T-hop-data-100k-50", LARGE_DATA),
    ("T-hop-data-100k-16", Hop { connections: 16, ..LARGE_DATA }),
    ("T-hop-data-100k-1", Hop { connections: 1, ..LARGE_DATA }),
];

/// Which half of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Pump,
    Hub,
}

impl Bench<'_> {
    pub(super) fn hop_4k_50(&mut self) -> anyhow::Result<()> {
        let phase = self.against_pump("T-hop-4k-50", HOP)?;
        self.counted("T-syscalls-50", &phase.figures.syscalls_per_message, 1.0);
        self.copies("T-copies-4k", &phase.figures.copied_bytes_per_message, 4096.0);
        self.counted("T-alloc-4k", &phase.figures.allocations_per_message, 1.0);
        Ok(())
    }

    pub(super) fn hop_4k_256(&mut self) -> anyhow::Result<()> {
        let phase = self.against_pump("T-hop-4k-256", Hop { connections: 256, ..HOP })?;
        self.counted("T-syscalls-256", &phase.figures.syscalls_per_message, 1.0);
        Ok(())
    }

    pub(super) fn hop_100k(&mut self) -> anyhow::Result<()> {
        let phase = self.against_pump("T-hop-100k-50", LARGE)?;
        self.copies("T-copies-100k", &phase.figures.copied_bytes_per_message, 102_400.0);
        Ok(())
    }

    pub(super) fn hop_data(&mut self) -> anyhow::Result<()> {
        self.against_pump("T-hop-data-4k-50", DATA).map(drop)
    }

    /// A relay by BDAT on both sides, without a disk.
    pub(super) fn relay(&mut self) -> anyhow::Result<()> {
        self.against_pump("T-relay-4k-50", RELAY).map(drop)
    }

    /// A hop that nothing is promised of, in fewer pairs.
    pub(super) fn hop_beside(&mut self, id: &'static str) -> anyhow::Result<()> {
        let (_, hop) = BESIDE.iter().find(|(beside, _)| *beside == id).context("no such hop")?;
        self.pairs(id, *hop, self.effort.pairs_beside).map(drop)
    }

    /// One shard and two, in turn first and second.
    pub(super) fn shards(&mut self) -> anyhow::Result<()> {
        let (cpu, rates) = self.one_and_two("T-shards-2", HOP)?;
        self.ratio("T-shards-2", &cpu, "µs")?;
        if available().len() < 4 {
            let why = "needs four cores: one for each of two shards, two for the load";
            return Err(NotHere(why.to_owned()).into());
        }
        self.ratio("T-shards-rate", &rates, "a second")
    }

    /// CPU time of a hop by one shard and by two, and the rate of two and twice that of one, in pairs.
    pub(super) fn one_and_two(&mut self, id: &'static str, hop: Hop) -> anyhow::Result<(Pairs, Pairs)> {
        let (mut cpu, mut rates) = (Pairs::default(), Pairs::default());
        for pair in 0..self.effort.pairs {
            let (mut one, mut two) = (None, None);
            for turn in 0..2 {
                let shards = 1 + (pair + turn) % 2;
                let run = self.hub(id, Hop { shards, ..hop })?;
                *(if shards == 1 { &mut one } else { &mut two }) = Some(run);
            }
            let (one, two) = (one.context("one shard ran")?, two.context("two shards ran")?);
            let both = [&one.figures.validity, &two.figures.validity];
            cpu.add(hub_cpu(&one)?, hub_cpu(&two)?, &both);
            let rate = |run: &result::Phase| run.figures.rate.achieved_per_s.context("nothing was acknowledged");
            // At most: what two shards lack to twice the rate of one.
            rates.add(rate(&two)?, 2.0 * rate(&one)?, &both);
        }
        Ok((cpu, rates))
    }

    /// To a tenth: envelopes and trace fields are copied too, and are no content.
    fn copies(&mut self, id: &'static str, per_message: &result::PerProcess, content_bytes: f64) {
        self.counted(id, per_message, content_bytes);
        if let Some(Ok(found)) = self.findings.get_mut(id) {
            found.value = (found.value * 10.0).round() / 10.0;
        }
    }

    fn counted(&mut self, id: &'static str, per_message: &result::PerProcess, unit: f64) {
        match per_message.get("hub").copied().flatten() {
            Some(value) => self.found(id, value / unit, "counted by the engine".into()),
            None => {
                self.findings.insert(id, Err("this build or engine does not count it".into()));
            }
        }
    }

    /// Pairs of pump and hub, in turn first and second; their ratio's median, and the last hub run.
    pub(super) fn against_pump(&mut self, id: &'static str, hop: Hop) -> anyhow::Result<result::Phase> {
        self.pairs(id, hop, self.effort.pairs)
    }

    fn pairs(&mut self, id: &'static str, hop: Hop, count: usize) -> anyhow::Result<result::Phase> {
        let mut pairs = Pairs::default();
        let mut last = None;
        for pair in 0..count {
            let (pump, hub) = if pair % 2 == 0 {
                let pump = self.pump(id, hop)?;
                (pump, self.hub(id, hop)?)
            } else {
                let hub = self.hub(id, hop)?;
                (self.pump(id, hop)?, hub)
            };
            pairs.add(pump, hub_cpu(&hub)?, &[&hub.figures.validity]);
            last = Some(hub);
        }
        self.ratio(id, &pairs, "µs")?;
        let last = last.context("no pair was measured")?;
        if let Some(Ok(Found { compared: Some(compared), .. })) = self.findings.get_mut(id) {
            let of = |per_message: &result::PerProcess| per_message.get("hub").copied().flatten();
            let figures = &last.figures;
            compared.counted = Counted {
                syscalls: of(&figures.syscalls_per_message),
                allocations: of(&figures.allocations_per_message),
                copied_bytes: of(&figures.copied_bytes_per_message),
            };
        }
        Ok(last)
    }

    /// The median of b/a over pairs.
    pub(super) fn ratio(&mut self, id: &'static str, pairs: &Pairs, unit: &str) -> anyhow::Result<()> {
        self.findings.insert(id, Ok(found_ratio(pairs, unit)?));
        Ok(())
    }

    fn keep_pump(&mut self, id: &str, hop: Hop, figures: &pump::PumpFigures) {
        let mut run = run_of(Kind::Pump, id, hop);
        run["cpu_us_per_message"] = figures.relay_cpu_us.into();
        run["rate_per_s"] = figures.rate_per_s.into();
        self.runs.push(run);
    }

    fn keep_hub(&mut self, id: &str, hop: Hop, done: &result::Phase) {
        let mut run = run_of(Kind::Hub, id, hop);
        run["cpu_us_per_message"] = hub_cpu(done).ok().into();
        run["rate_per_s"] = done.figures.rate.achieved_per_s.into();
        run["pairs"] = serde_json::json!(done.figures.pairs);
        run["validity"] = serde_json::json!(done.figures.validity);
        self.runs.push(run);
    }

    fn pump(&mut self, id: &'static str, hop: Hop) -> anyhow::Result<f64> {
        let plan = PumpPlan {
            scenario: pump::PUMP.into(),
            connections: hop.connections as usize,
            frame_bytes: hop.bytes as usize,
            seconds: self.effort.seconds,
            durability: hop.durability().into(),
            driver: "auto".into(),
            shards: hop.shards,
            answers: true,
            one_per_write: hop.by_data.then_some(ONE_PER_WRITE_CONNECTIONS),
        };
        self.tell(id, "pump");
        let figures = pump::run(&plan, self.folder, self.interrupt)?;
        self.keep_pump(id, hop, &figures);
        Ok(figures.relay_cpu_us)
    }

    fn hub(&mut self, id: &'static str, hop: Hop) -> anyhow::Result<result::Phase> {
        let content = Content::Bytes(hop.bytes);
        let mut phase = Phase::new("hop", "", Pace::FlatOut, hop.connections, content, self.effort.seconds);
        phase.warm_up_s = self.effort.seconds * 0.2;
        phase.by_data = hop.by_data;
        let mut part = part(hop.shards, one_hub());
        part.engine.durability = hop.durability().into();
        part.topology.sinks[0].chunking = !hop.by_data;
        self.tell(id, "hub");
        let done = self.phases(id, &part, &[phase])?.remove(0);
        self.keep_hub(id, hop, &done);
        Ok(done)
    }
}

fn hub_cpu(phase: &result::Phase) -> anyhow::Result<f64> {
    phase.figures.cpu_us_per_message.get("hub").copied().flatten().context("the hub's CPU time is not known")
}

fn run_of(kind: Kind, id: &str, hop: Hop) -> serde_json::Value {
    let Hop { connections, bytes, by_data, shards, .. } = hop;
    serde_json::json!({
        "id": id, "what": kind, "connections": connections, "bytes": bytes, "by_data": by_data, "shards": shards,
        "durability": hop.durability(),
    })
}

/// The median of ours / theirs over pairs, with its interval where there are enough of them.
fn found_ratio(pairs: &Pairs, unit: &str) -> anyhow::Result<Found> {
    let counted = pairs.counted();
    let invalid = pairs.invalid();
    let ratios: Vec<f64> = counted.iter().map(|(theirs, ours)| ours / theirs).collect();
    let Some(middle) = median(&ratios) else { bail!("{}", invalid.unwrap_or_default()) };
    if !ratios.iter().all(|ratio| ratio.is_finite() && *ratio > 0.0) {
        bail!("a run used no CPU time that the kernel counts");
    }
    let interval = median_interval(&ratios, 1);
    let of = |of: fn(&(f64, f64)) -> f64| median(&counted.iter().map(of).collect::<Vec<_>>()).unwrap_or(f64::NAN);
    let compared = Compared {
        ours: of(|pair| pair.1),
        theirs: of(|pair| pair.0),
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        pairs: counted.len(),
        counted: Counted::default(),
    };
    let significant = crate::html::text::significant;
    let note = format!(
        "{}median of {} pairs{}{}; {} against {} {unit}",
        invalid.as_ref().map_or_else(String::new, |why| format!("{why}; ")),
        compared.pairs,
        super::markdown::interval(compared.low, compared.high)
            .map_or_else(String::new, |told| format!(", 95 % {told}")),
        pairs.told_left_out(),
        significant(compared.ours),
        significant(compared.theirs),
    );
    Ok(Found { value: middle, note, invalid: invalid.is_some(), compared: Some(compared) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadgen::validity::Validity;

    #[test]
    fn a_ratio_holds_nothing_when_a_run_behind_it_is_not_valid() {
        let (good, bad) = (Validity::from_reasons(vec![]), Validity::from_reasons(vec!["a ledger was full".into()]));
        let mut pairs = Pairs::default();
        (0..8).for_each(|_| pairs.add(6.0, 9.0, &[&good]));
        let found = found_ratio(&pairs, "µs").expect("eight pairs");
        assert_eq!((found.value, found.invalid), (1.5, false));
        assert_eq!(found.note, "median of 8 pairs, 95 % 1.50–1.50; 9.00 against 6.00 µs");
        pairs.add(6.0, 6.0, &[&bad]);
        let found = found_ratio(&pairs, "µs").expect("nine pairs");
        assert!(found.invalid && found.note.starts_with("NOT VALID: a ledger was full; median"), "{}", found.note);
    }

    #[test]
    fn few_pairs_have_a_median_and_no_interval() {
        let mut pairs = Pairs::default();
        (0..2).for_each(|_| pairs.add(6.0, 9.0, &[]));
        let found = found_ratio(&pairs, "µs").expect("two pairs");
        assert_eq!(found.compared.map(|of| (of.low, of.high, of.pairs)), Some((None, None, 2)));
        assert_eq!(found.note, "median of 2 pairs; 9.00 against 6.00 µs");
        assert!(found_ratio(&Pairs::default(), "µs").is_err());
    }
}
