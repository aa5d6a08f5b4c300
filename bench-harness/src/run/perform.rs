//! One phase, really done: the load started, faults struck and healed at their moments, processes observed at the edges of
//! the measured time, the drain awaited, what arrived collected.

use super::measure::{Done, Evidences, Measured, Observed, measure};
use crate::failover::{BASELINE_US_MIN, SETTLING_US, Tries};
use crate::html::text::rate;
use crate::interrupt::{Interrupt, Interrupted};
use crate::load::{DRAIN, SendSpec, sent};
use crate::maildir::{Kept, Reader};
use crate::observe::process::{Usage, usage};
use crate::observe::{monotonic, wall_ahead_ns};
use crate::plan::{NOBODY, Part, Phase};
use crate::process::{Component, Program, Spec};
use crate::progress::Progress;
use crate::result::Process;
use crate::stage::{Counts, Stage};
use anyhow::Context;
use engine::wire::{Span, Tick};
use loadgen::ledger::{Delivery, FLAG_UNRECORDED};
use loadgen::record::State;
use loadgen::send::Outcome;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The name of a phase's sender among the processes.
const SENDER: &str = "load";
/// Queues may take so long to empty after the load.
const EMPTY_WAIT: Duration = Duration::from_secs(15);
/// Nothing may be seen in them for so long: more than twice as long as servers take to say what has changed.
const GAUGE_WAIT: Duration = Duration::from_millis(600);
/// They are looked at so often.
const LOOK: Duration = Duration::from_millis(20);
/// It is told so often how fast mail goes.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A sender writes down what it did within this.
const WRITE_WAIT: Duration = Duration::from_secs(15);

/// What a phase needs around it.
#[derive(Debug)]
pub struct Around<'a> {
    /// Where results go.
    pub folder: &'a Path,
    /// Where what is needed only now goes.
    pub scratch: &'a Path,
    /// Ends it early.
    pub interrupt: &'a Interrupt,
    /// Tells how fast it goes.
    pub progress: &'a Progress,
    /// Its number in the run.
    pub number: u32,
    /// For everything that is chosen.
    pub seed: u64,
}

/// Does `phase` on `stage` at `rate_per_s` (`None`: flat out).
///
/// # Errors
/// A component fails that no fault killed, or does not come back.
pub fn perform(
    stage: &mut Stage,
    part: &Part,
    phase: &Phase,
    rate_per_s: Option<f64>,
    around: &Around<'_>,
) -> anyhow::Result<Measured> {
    let spec = spec_of(stage, part, phase, rate_per_s, around)?;
    if phase.held_back {
        stage.hold_back(true)?;
    }
    let mut sender = start_sender(stage, &spec, around)?;
    let started = started_at(&sender)?;
    let (faults, edges) = play(stage, phase, started, &mut sender, around)?;
    await_sender(&mut sender)?;
    if phase.held_back {
        stage.hold_back(false)?;
    }
    let queued = empty_queues(stage)?;
    let outcome = sent::read(&spec.record, &spec)?;
    let ledgers = collect(stage, &outcome, spec.corpus.as_deref())?;
    let mut observed = observe(stage, part, &edges);
    (observed.queued, observed.is_queue_unknown) = (queued.unwrap_or(0), queued.is_none());
    Ok(measure(&Evidences {
        phase,
        outcome: &outcome,
        ledgers: &ledgers,
        faults: &faults,
        observed: &observed,
        started: wall_time(started),
    }))
}

/// Sends a phase's messages and leaves them where they were accepted; gives how many were.
///
/// # Errors
/// As [`perform`].
pub fn fill(stage: &mut Stage, part: &Part, phase: &Phase, around: &Around<'_>) -> anyhow::Result<u64> {
    let rate = match phase.pace {
        crate::plan::Pace::PerSecond(per_s) => Some(per_s),
        _ => None,
    };
    let spec = spec_of(stage, part, phase, rate, around)?;
    let mut sender = start_sender(stage, &spec, around)?;
    let length = Duration::from_secs_f64(phase.length_s());
    // An interrupt ends the fill as its end would; the caller looks at it.
    let _ = around.interrupt.wait_until(Instant::now() + length);
    await_sender(&mut sender)?;
    stage.check()?;
    let outcome = sent::read(&spec.record, &spec)?;
    Ok(outcome.all_records().filter(|record| record.state == State::Accepted).count() as u64)
}

pub(crate) fn spec_of(
    stage: &Stage,
    part: &Part,
    phase: &Phase,
    rate_per_s: Option<f64>,
    around: &Around<'_>,
) -> anyhow::Result<SendSpec> {
    let mut spec = SendSpec {
        target: stage.entry()?,
        rate_per_s,
        warm_up_s: phase.warm_up_s,
        seconds: phase.seconds,
        connections: phase.connections as usize,
        in_flight_max: phase.in_flight as usize,
        by_data: phase.by_data,
        size_bytes: 0,
        corpus: None,
        mailbox_every: part.topology.mailbox_every,
        driver: part.engine.driver.clone(),
        // A number that no other phase and no run before had in its stamps.
        run: ((monotonic().0 >> 16) as u32).wrapping_add(around.number),
        seed: around.seed,
        record: around.scratch.join(format!("sent-{}", around.number)),
    };
    spec.set_content(&phase.content, around.scratch)?;
    Ok(spec)
}

pub(crate) fn start_sender(stage: &Stage, spec: &SendSpec, around: &Around<'_>) -> anyhow::Result<Component> {
    let file = around.scratch.join(format!("send-{}.json", around.number));
    std::fs::write(&file, serde_json::to_vec(spec)?).with_context(|| format!("writing {}", file.display()))?;
    let spec = Spec {
        name: SENDER.into(),
        program: Program::Send,
        cores: stage.placement().load.clone(),
        args: vec![file.display().to_string()],
    };
    Ok(Component::start(&spec, around.folder)?)
}

/// When a sender's schedule starts.
pub(crate) fn started_at(sender: &Component) -> anyhow::Result<Tick> {
    let started = sender.ready().get("started_ns").and_then(serde_json::Value::as_u64);
    started.map(Tick).context("the sender does not say when it starts")
}

/// The sender of each phase of a stage, among its processes.
pub(crate) fn sender_of(stage: &Stage) -> Process {
    Process {
        name: SENDER.to_owned(),
        kind: "loadgen".to_owned(),
        cores: stage.placement().load.clone(),
        command: format!("{}, once for each phase", Program::Send.title()),
        cpu_us_per_message: None,
    }
}

/// What was seen at one moment.
#[derive(Debug, Clone, Default)]
struct Seen {
    at: Tick,
    usage: BTreeMap<String, Usage>,
    load: Usage,
    counts: Counts,
    sinks: Vec<(u64, Vec<u64>)>,
}

fn look(stage: &Stage, sender: &Component) -> Seen {
    Seen {
        at: monotonic(),
        usage: stage.usage(),
        load: usage(sender.pid()).unwrap_or_default(),
        counts: stage.counts(),
        // A sink that does not answer now is dead by a fault; then nothing is said about it.
        sinks: stage.sink_cpu_ns().unwrap_or_default(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Look,
    Strike(usize),
    Heal(usize),
    /// What the fault before disturbed is over: the share of each hub counts from here to this strike.
    Settle(usize),
}

/// What is to be done in `phase`, and when, in order.
fn acts(phase: &Phase) -> Vec<(f64, Act)> {
    let mut acts = vec![(phase.warm_up_s, Act::Look), (phase.length_s(), Act::Look)];
    for (index, fault) in phase.faults.iter().enumerate() {
        acts.extend([(fault.strike_s, Act::Strike(index)), (fault.heal_s, Act::Heal(index))]);
        // A front end comes back to a hub some time behind its return; until then the others have more than their share.
        let settled_s = fault.heal_s + SETTLING_US as f64 / 1e6;
        let enough_s = settled_s + BASELINE_US_MIN as f64 / 1e6;
        acts.extend(
            phase
                .faults
                .get(index + 1)
                .filter(|next| enough_s <= next.strike_s)
                .map(|_| (settled_s, Act::Settle(index + 1))),
        );
    }
    acts.sort_by(|a, b| a.0.total_cmp(&b.0));
    acts
}

/// When all is as before again behind a victim's return, which may have come later than `planned`; `None` where too little is
/// left then before the next strike.
fn settled(planned: Tick, healed: Option<Tick>, next_strike: Tick) -> Option<Tick> {
    let at = healed.map_or(planned, |healed| planned.max(healed + Span::micros(SETTLING_US)));
    (at + Span::micros(BASELINE_US_MIN) <= next_strike).then_some(at)
}

/// Waits for each moment of the phase and does what is due then.
fn play(
    stage: &mut Stage,
    phase: &Phase,
    started: Tick,
    sender: &mut Component,
    around: &Around<'_>,
) -> anyhow::Result<(Vec<Done>, Vec<Seen>)> {
    let (mut done, mut seen, mut told) = (Vec::<Done>::new(), Vec::new(), false);
    let mut before = stage.counts();
    let mut counts_at_strike = Counts::default();
    for (at_s, act) in acts(phase) {
        let moment = |at_s: f64| started + Span::micros((at_s * 1e6) as u64);
        let at = match act {
            Act::Settle(next) => {
                let healed = done.last().and_then(|fault| fault.healed);
                settled(moment(at_s), healed, moment(phase.faults[next].strike_s))
            }
            _ => Some(moment(at_s)),
        };
        let Some(at) = at else { continue };
        let interrupted = wait_until(instant_of(at), phase, sender, around).is_err();
        stage.check()?;
        match act {
            Act::Look => seen.push(look(stage, sender)),
            Act::Settle(_) => before = stage.counts(),
            Act::Strike(_) if interrupted => {}
            Act::Strike(index) => {
                let victim = phase.faults[index].victim.clone();
                let is_somebody = victim != NOBODY;
                let asked = monotonic();
                let now = stage.counts();
                let others_share = share_of_others(stage.hubs_beside(&victim), &victim, &before, &now);
                let (struck, gone) = if is_somebody { stage.kill(&victim)? } else { (monotonic(), monotonic()) };
                let route = stage.route(&victim);
                let is_behind = is_somebody && route.is_none() && !stage.is_entry(&victim);
                counts_at_strike = now;
                done.push(Done {
                    victim,
                    asked,
                    struck,
                    gone,
                    healed: None,
                    route,
                    is_behind,
                    others_share,
                    tries: None,
                });
            }
            // Who was struck is healed, interrupted or not: what rests on it is waited for.
            Act::Heal(index) => {
                if let Some(fault) = done.get_mut(index) {
                    // What rests on it is to leave when it is back: who refuses it then is measured in its place.
                    if phase.held_back {
                        stage.hold_back(false)?;
                    }
                    let is_somebody = fault.victim != NOBODY;
                    fault.tries = tries(&stage.hubs(), &fault.victim, &counts_at_strike, &stage.counts());
                    fault.healed = Some(if is_somebody { stage.revive(&fault.victim)? } else { monotonic() });
                    before = stage.counts();
                }
            }
        }
        // Once: a second signal would end the sender before it has written down what it sent.
        if interrupted && !std::mem::replace(&mut told, true) {
            sender.signal(Signal::TERM);
        }
    }
    Ok((done, seen))
}

/// Waits for `at`, and tells meanwhile how fast mail goes, as its sender says it.
fn wait_until(at: Instant, phase: &Phase, sender: &Component, around: &Around<'_>) -> Result<(), Interrupted> {
    loop {
        around.interrupt.wait_until(at.min(Instant::now() + TELL_EVERY))?;
        if Instant::now() >= at {
            return Ok(());
        }
        let said = sender.last_line().and_then(|line| serde_json::from_str::<Pulse>(&line).ok());
        if let Some(Pulse { per_s, open }) = said {
            around.progress.pulse(&format!("{}: {}/s answered, {open} open", phase.name, rate(per_s)));
        }
    }
}

/// What a sender says once a second.
#[derive(Debug, serde::Deserialize)]
struct Pulse {
    per_s: f64,
    open: u64,
}

/// Which share of what `hubs` accepted between two looks was not the victim's; `None` when nothing was, or one of them does
/// not tell. A counter that is less than before belongs to a new life.
fn share_of_others(hubs: &[String], victim: &str, before: &Counts, now: &Counts) -> Option<f64> {
    const ACCEPTED: &str = "ringpost_messages_accepted_total";
    let (mut all, mut others) = (0.0, 0.0);
    for hub in hubs {
        let of = |counts: &Counts| counts.servers.get(hub)?.get(ACCEPTED).copied();
        let (now, before) = (of(now)?, of(before).unwrap_or(0.0));
        let accepted = if now >= before { now - before } else { now };
        all += accepted;
        others += if hub == victim { 0.0 } else { accepted };
    }
    (all > 0.0).then(|| others / all)
}

/// What `hubs` but the victim did between two looks; `None` when one of them does not tell.
fn tries(hubs: &[&str], victim: &str, before: &Counts, now: &Counts) -> Option<Tries> {
    let mut tries = Tries { attempts: 0.0, delivered: 0.0 };
    for hub in hubs.iter().filter(|hub| **hub != victim) {
        let grown = |counter: &str| {
            let of = |counts: &Counts| counts.servers.get(*hub)?.get(counter).copied();
            Some(of(now)? - of(before)?)
        };
        tries.attempts += grown("ringpost_attempts_total")?;
        tries.delivered += grown("ringpost_recipients_delivered_total")?;
    }
    Some(tries)
}

fn wall_time(at: Tick) -> SystemTime {
    SystemTime::now() - Duration::from_nanos(monotonic().0.saturating_sub(at.0))
}

pub(crate) fn instant_of(at: Tick) -> Instant {
    Instant::now() + Duration::from_nanos(at.0.saturating_sub(monotonic().0))
}

pub(crate) fn await_sender(sender: &mut Component) -> anyhow::Result<()> {
    let patience = Duration::from_nanos(DRAIN.0) + WRITE_WAIT;
    match sender.wait(patience) {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(sender.death().map_or_else(|| anyhow::anyhow!("the sender ended"), anyhow::Error::new)),
        None => Err(sender
            .stop(Duration::from_secs(1))
            .err()
            .map_or_else(|| anyhow::anyhow!("the sender did not end"), anyhow::Error::new)),
    }
}

/// Waits until no hub holds anything; gives what they still hold when the time is over, `None` where one does not say.
fn empty_queues(stage: &mut Stage) -> anyhow::Result<Option<u64>> {
    let until = Instant::now() + EMPTY_WAIT;
    let mut empty_since = None;
    loop {
        stage.check()?;
        let (left, now) = (stage.queued(), Instant::now());
        let since = *empty_since.get_or_insert(now);
        match left {
            Some(0) if now - since >= GAUGE_WAIT => return Ok(Some(0)),
            Some(0) => {}
            left if now >= until => return Ok(left),
            _ => empty_since = None,
        }
        std::thread::park_timeout(LOOK);
    }
}

/// What this phase's messages became: one list for each sink, and one for the mailboxes behind them. Copies of earlier
/// phases' messages are theirs; a gap in a ledger is everybody's.
fn collect(stage: &Stage, outcome: &Outcome, corpus: Option<&Path>) -> anyhow::Result<Vec<Vec<Delivery>>> {
    let mut all = stage.ledgers()?;
    for ledger in &mut all {
        ledger.retain(|delivery| delivery.run == outcome.run || delivery.is(FLAG_UNRECORDED));
    }
    let recipient = |stamp: &loadgen::stamp::Stamp| {
        (stamp.run == outcome.run).then(|| outcome.recipients.of(stamp.seq).next().map(|to| to.key)).flatten()
    };
    let mut stored = Vec::new();
    let folders = stage.mailboxes();
    let corpus = corpus.filter(|_| !folders.is_empty());
    let kept = corpus.map(Kept::of_corpus).transpose()?.unwrap_or_default();
    let reader = Reader { wall_ahead_ns: wall_ahead_ns(), recipient, kept: &kept };
    for folder in folders {
        let found = reader.deliveries(&folder);
        stored.extend(found.with_context(|| format!("reading {}", folder.display()))?);
    }
    all.push(stored);
    Ok(all)
}

fn observe(stage: &mut Stage, part: &Part, edges: &[Seen]) -> Observed {
    let died = stage.lost();
    let [from, to] = edges else { return Observed { died, ..Observed::default() } };
    let mut observed = Observed { died, sink_busy: sink_busy(from, to), ..Observed::default() };
    let mut cpu: BTreeMap<&str, u64> = BTreeMap::new();
    let mut rss: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, now) in &to.usage {
        let Some(kind) = stage.kind(name) else { continue };
        let before = from.usage.get(name).copied().unwrap_or_default();
        let used = now.cpu_us_since(&before);
        observed.cpu_us_of_each.push((name.clone(), used));
        *cpu.entry(kind).or_default() += used;
        let peak = rss.entry(kind).or_default();
        *peak = (*peak).max(now.rss_peak_bytes);
    }
    let used = to.load.cpu_us_since(&from.load);
    observed.cpu_us_of_each.push((SENDER.to_owned(), used));
    cpu.insert("loadgen", used);
    rss.insert("loadgen", to.load.rss_peak_bytes);
    let window_us = to.at.since(from.at).as_micros().max(1) as f64;
    let share = |kinds: &[&str], cores: usize| {
        let used: u64 = kinds.iter().filter_map(|kind| cpu.get(kind)).sum();
        (cores > 0).then(|| used as f64 / window_us / cores as f64)
    };
    let placement = stage.placement();
    let engine_threads = part.engine.shards * part.topology.servers.len();
    observed.engine_busy = share(&["hub", "frontend", "mailbox"], placement.engine.len().min(engine_threads));
    observed.load_busy = share(&["loadgen", "sink"], placement.load.len());
    observed.disk_busy = disk_busy(stage, from, to, part, window_us);
    observed.syscalls = per_kind(stage, from, to, "ringpost_syscalls_total");
    observed.copied_bytes = per_kind(stage, from, to, "ringpost_copied_bytes_total");
    if cfg!(feature = "count-alloc") {
        observed.allocations = per_kind(stage, from, to, "ringpost_allocations_total");
    }
    observed.stable_writes = per_kind(stage, from, to, "ringpost_stable_writes_total");
    observed.written_bytes = per_kind(stage, from, to, "ringpost_written_bytes_total");
    observed.cpu_us = cpu.into_iter().map(|(kind, us)| (kind.to_owned(), us)).collect();
    observed.rss_bytes = rss.into_iter().map(|(kind, bytes)| (kind.to_owned(), bytes)).collect();
    observed
}

/// How much a counter grew between two looks, by kind; a server that was started anew in between makes its kind unknown.
fn per_kind(stage: &Stage, from: &Seen, to: &Seen, counter: &str) -> Vec<(String, f64)> {
    let mut sums: BTreeMap<&str, Option<f64>> = BTreeMap::new();
    for (name, now) in &to.counts.servers {
        let Some(kind) = stage.kind(name) else { continue };
        let grown = || {
            let (now, before) = (now.get(counter)?, from.counts.servers.get(name)?.get(counter)?);
            (now >= before).then_some(now - before)
        };
        let sum = sums.entry(kind).or_insert(Some(0.0));
        *sum = sum.zip(grown()).map(|(sum, grown)| sum + grown);
    }
    sums.into_iter().filter_map(|(kind, sum)| Some((kind.to_owned(), sum?))).collect()
}

fn disk_busy(stage: &Stage, from: &Seen, to: &Seen, part: &Part, window_us: f64) -> Option<f64> {
    let hubs = part.topology.servers.iter().filter(|server| server.role == crate::plan::Role::Hub).count();
    let busy_us = per_kind(stage, from, to, "ringpost_commit_us_total").into_iter().find(|(kind, _)| kind == "hub")?.1;
    Some(busy_us / window_us / (hubs * part.engine.shards).max(1) as f64)
}

fn sink_busy(from: &Seen, to: &Seen) -> Option<f64> {
    if from.sinks.len() != to.sinks.len() {
        return None;
    }
    let shares = from.sinks.iter().zip(&to.sinks).flat_map(|((at, cpu), (later, more))| {
        let over = later.saturating_sub(*at).max(1) as f64;
        cpu.iter().zip(more).map(move |(a, b)| b.saturating_sub(*a) as f64 / over)
    });
    shares.reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Content, Fault, Pace};

    #[test]
    fn shares_before_a_fault_count_from_where_the_one_before_it_is_over() {
        let fault = |strike_s| Fault { victim: "hub-2".into(), strike_s, heal_s: strike_s + 1.5 };
        let mut phase = Phase::new("hub", "", Pace::FlatOut, 1, Content::Bytes(1), 14.0);
        phase.warm_up_s = 0.5;
        phase.faults = vec![fault(2.0), fault(6.5), fault(9.75)];
        let expected = [
            (0.5, Act::Look),
            (2.0, Act::Strike(0)),
            (3.5, Act::Heal(0)),
            (4.5, Act::Settle(1)),
            (6.5, Act::Strike(1)),
            (8.0, Act::Heal(1)),
            // Less than a second would be left behind 9.0.
            (9.75, Act::Strike(2)),
            (11.25, Act::Heal(2)),
            (14.5, Act::Look),
        ];
        assert_eq!(acts(&phase), expected);
    }

    #[test]
    fn a_victim_that_comes_back_late_is_waited_for() {
        let at = |s: f64| Tick((s * 1e9) as u64);
        let from = |healed: Option<f64>| settled(at(4.5), healed.map(at), at(7.0));
        assert_eq!(from(Some(3.5)), Some(at(4.5)));
        assert_eq!(from(Some(4.75)), Some(at(5.75)), "a second behind its return, not behind what was planned");
        assert_eq!(from(Some(5.25)), None, "less than a second would be left");
        assert_eq!(from(None), Some(at(4.5)));
    }

    #[test]
    fn the_share_of_the_others_is_told_by_their_counters() {
        let counts = |of: &[(&str, f64)]| Counts {
            servers: of
                .iter()
                .map(|(name, count)| {
                    ((*name).to_owned(), [("ringpost_messages_accepted_total".to_owned(), *count)].into())
                })
                .collect(),
        };
        let hubs = ["hub-1".to_owned(), "hub-2".to_owned()];
        let before = counts(&[("hub-1", 100.0), ("hub-2", 500.0)]);
        for (now, expected) in [
            (counts(&[("hub-1", 400.0), ("hub-2", 600.0)]), Some(0.75)),
            // Started anew since then.
            (counts(&[("hub-1", 400.0), ("hub-2", 100.0)]), Some(0.75)),
            (counts(&[("hub-1", 100.0), ("hub-2", 600.0)]), Some(0.0)),
            (before.clone(), None),
            (counts(&[("hub-1", 400.0)]), None),
        ] {
            assert_eq!(share_of_others(&hubs, "hub-2", &before, &now), expected, "{now:?}");
        }
        assert_eq!(share_of_others(&[], "hub", &before, &before), None, "nobody is beside it");
    }
}
