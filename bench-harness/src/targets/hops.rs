//! The hub hop beside the byte pump, and what the engine counts of itself on the way.

use super::measured::{Bench, one_hub, part};
use super::{Compared, Counted, Found};
use crate::plan::{Content, Pace, Phase};
use crate::process::placement::available;
use crate::pump::{self, PumpPlan};
use crate::result;
use crate::stats::{Ratio, median};
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

const HOP: Hop = Hop { connections: 50, bytes: 4096, by_data: false, shards: 1, is_durable: true };
/// Neither side has a disk: what is left of a hub is sessions and queues over the same shells as the pump's.
const RELAY: Hop = Hop { is_durable: false, ..HOP };
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
        let (mut cpu, mut rates) = (Vec::new(), Vec::new());
        for pair in 0..self.effort.pairs {
            let (mut one, mut two) = (None, None);
            for turn in 0..2 {
                let shards = 1 + (pair + turn) % 2;
                let run = self.hub("T-shards-2", Hop { shards, ..HOP })?;
                *(if shards == 1 { &mut one } else { &mut two }) = Some(run);
            }
            let (one, two) = (one.context("one shard ran")?, two.context("two shards ran")?);
            cpu.push((hub_cpu(&one)?, hub_cpu(&two)?));
            let rate = |run: &result::Phase| run.figures.rate.achieved_per_s.context("nothing was acknowledged");
            // At most: what two shards lack to twice the rate of one.
            rates.push((rate(&two)?, 2.0 * rate(&one)?));
        }
        self.ratio("T-shards-2", &cpu, "µs")?;
        if available().len() < 4 {
            bail!("needs four cores: one for each of two shards, two for the load");
        }
        self.ratio("T-shards-rate", &rates, "a second")
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
    fn against_pump(&mut self, id: &'static str, hop: Hop) -> anyhow::Result<result::Phase> {
        self.pairs(id, hop, self.effort.pairs)
    }

    fn pairs(&mut self, id: &'static str, hop: Hop, count: usize) -> anyhow::Result<result::Phase> {
        let mut pairs = Vec::new();
        let mut last = None;
        for pair in 0..count {
            let (pump, hub) = if pair % 2 == 0 {
                let pump = self.pump(id, hop)?;
                (pump, self.hub(id, hop)?)
            } else {
                let hub = self.hub(id, hop)?;
                (self.pump(id, hop)?, hub)
            };
            pairs.push((pump, hub_cpu(&hub)?));
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
    pub(super) fn ratio(&mut self, id: &'static str, pairs: &[(f64, f64)], unit: &str) -> anyhow::Result<()> {
        let ratios: Vec<f64> = pairs.iter().map(|(a, b)| b / a).collect();
        let middle = median(&ratios).context("no pair was measured")?;
        let interval = Ratio::of(pairs, 1).context("a run used no CPU time that the kernel counts")?;
        let of = |of: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(of).collect::<Vec<_>>()).unwrap_or(f64::NAN);
        let compared = Compared {
            ours: of(|pair| pair.1),
            theirs: of(|pair| pair.0),
            low: interval.low,
            high: interval.high,
            pairs: pairs.len(),
            counted: Counted::default(),
        };
        let significant = crate::html::text::significant;
        let note = format!(
            "median of {} pairs, 95 % {:.2}–{:.2}; {} against {} {unit}",
            compared.pairs,
            compared.low,
            compared.high,
            significant(compared.ours),
            significant(compared.theirs),
        );
        self.findings.insert(id, Ok(Found { value: middle, note, invalid: false, compared: Some(compared) }));
        Ok(())
    }

    fn keep(&mut self, kind: Kind, id: &str, hop: Hop, cpu_us: Option<f64>, rate_per_s: Option<f64>) {
        let Hop { connections, bytes, by_data, shards, .. } = hop;
        self.runs.push(serde_json::json!({
            "id": id, "what": kind, "connections": connections, "bytes": bytes, "by_data": by_data, "shards": shards,
            "durability": hop.durability(), "cpu_us_per_message": cpu_us, "rate_per_s": rate_per_s,
        }));
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
        self.keep(Kind::Pump, id, hop, Some(figures.relay_cpu_us), Some(figures.rate_per_s));
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
        let done = self.phases(&part, &[phase])?.remove(0);
        self.keep(Kind::Hub, id, hop, hub_cpu(&done).ok(), done.figures.rate.achieved_per_s);
        Ok(done)
    }
}

fn hub_cpu(phase: &result::Phase) -> anyhow::Result<f64> {
    phase.figures.cpu_us_per_message.get("hub").copied().flatten().context("the hub's CPU time is not known")
}
