//! What steady mail feels of others: of a crowd of clients that do next to nothing, of a next hop in trouble. With them and
//! without, in turn first and second, on the same processes.

use super::measured::{Bench, one_hub, part, two_sinks};
use super::pairs::{Pairs, time};
use crate::load::crowd;
use crate::plan::{Content, Pace, Part, Phase};
use crate::process::{Component, Program, Spec};
use crate::result;
use crate::run::perform;
use crate::stage::Stage;
use anyhow::{Context, bail};
use std::time::{Duration, Instant};

/// Steady mail: a fraction of what a hub can do, so that p99 tells of others and not of a queue of its own.
const STEADY_PER_S: f64 = 5_000.0;
const CONNECTIONS: u32 = 50;
const BYTES: u64 = 4096;
/// Whatever begins or ends at the start of a run is over by then.
const WARM_UP_S: f64 = 1.0;
/// Mail for the next hop in trouble goes on for so long behind the measured one; the trouble ends with that.
const LONGER_S: f64 = 0.5;
/// A crowd says within this how many of it are left.
const CROWD_WAIT: Duration = Duration::from_secs(10);

/// Clients that do next to nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    pub(super) count: usize,
    pub(super) is_slow: bool,
}

/// F-121, F-123: they have said EHLO.
pub(super) const IDLE: Crowd = Crowd { count: 10_000, is_slow: false };
/// F-122: half of them in commands, half in bodies; three quarters send an octet every 100 ms, the rest nothing.
pub(super) const SLOW: Crowd = Crowd { count: 1_000, is_slow: true };

/// How a next hop fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble {
    p99: &'static str,
    rate: &'static str,
    is_silent: bool,
}

/// I-5: it refuses connections, and closes those that it has.
pub(super) const DEAD: Trouble = Trouble { p99: "T-dead-p99", rate: "T-dead-rate", is_silent: false };
/// I-5: it takes connections, and neither reads nor answers.
pub(super) const SILENT: Trouble = Trouble { p99: "T-silent-p99", rate: "T-silent-rate", is_silent: true };

/// `first` and `second` in turn first: without is what `false` gives, with is what `true` gives.
fn in_turn<T>(pair: usize, mut run: impl FnMut(bool) -> anyhow::Result<T>) -> anyhow::Result<(T, T)> {
    if pair.is_multiple_of(2) {
        let without = run(false)?;
        Ok((without, run(true)?))
    } else {
        let with = run(true)?;
        Ok((run(false)?, with))
    }
}

impl Bench<'_> {
    fn steady(&self) -> Phase {
        let pace = Pace::PerSecond(STEADY_PER_S);
        let mut phase = Phase::new("steady", "", pace, CONNECTIONS, Content::Bytes(BYTES), self.effort.latency_s);
        phase.warm_up_s = WARM_UP_S;
        phase
    }

    fn flat_out(&self) -> Phase {
        let (content, seconds) = (Content::Bytes(BYTES), self.effort.seconds);
        let mut phase = Phase::new("flat-out", "", Pace::FlatOut, CONNECTIONS, content, seconds);
        phase.warm_up_s = WARM_UP_S;
        phase
    }

    /// p99 of acknowledgements beside `crowd`, and without it.
    pub(super) fn beside_a_crowd(&mut self, id: &'static str, crowd: Crowd) -> anyhow::Result<()> {
        let part = part(1, one_hub());
        self.tell(id, "hub");
        // Before the hub starts: it may have as many as we. Too few are told by the crowd.
        let _possible = crowd::possible(crowd.count);
        let mut stage = self.stage(&part)?;
        let mut pairs = Pairs::default();
        for pair in 0..self.effort.latency_runs {
            let (without, with) = in_turn(pair, |is_there| {
                let held = is_there.then(|| self.gather(id, &stage, crowd)).transpose()?;
                let phase = self.one(id, &mut stage, &part, &self.steady(), is_there)?;
                held.map(|held| self.disperse(held, crowd)).transpose()?;
                Ok(time(&phase, |figures| figures.latency_us.response.p99))
            })?;
            pairs.add_times(without, with);
        }
        stage.stop();
        self.ratio(id, &pairs, "µs")
    }

    pub(super) fn gather(&mut self, id: &str, stage: &Stage, crowd: Crowd) -> anyhow::Result<Component> {
        self.tell(id, "the crowd gathers");
        let mut args = vec!["--target".to_owned(), stage.entry()?.to_string()];
        args.extend(["--count".to_owned(), crowd.count.to_string()]);
        args.extend(crowd.is_slow.then(|| "--slow".to_owned()));
        let cores = stage.placement().load.clone();
        let spec = Spec { name: "crowd".into(), program: Program::Crowd, cores, args };
        Ok(Component::start(&spec, self.folder.path())?)
    }

    /// The crowd is there to its last client, or it proves nothing.
    pub(super) fn disperse(&self, mut held: Component, crowd: Crowd) -> anyhow::Result<()> {
        held.stop(CROWD_WAIT)?;
        let said = held.rest_of_output().pop().context("the crowd does not say how many are left")?;
        let left: serde_json::Value =
            serde_json::from_str(&said).with_context(|| format!("the crowd said `{said}`"))?;
        let left = left["held"].as_u64().context("a number")?;
        if left != crowd.count as u64 {
            bail!("{} of {} clients were cut off meanwhile", crowd.count as u64 - left, crowd.count);
        }
        Ok(())
    }

    /// One run; kept.
    fn one(
        &mut self,
        id: &str,
        stage: &mut Stage,
        part: &Part,
        phase: &Phase,
        is_there: bool,
    ) -> anyhow::Result<result::Phase> {
        self.tell(id, if is_there { "with" } else { "without" });
        let rate = match phase.pace {
            Pace::PerSecond(per_s) => Some(per_s),
            _ => None,
        };
        let done = self.performed(id, stage, part, phase, rate)?;
        self.runs.push(serde_json::json!({
            "id": id, "what": phase.name, "with": is_there, "rate_per_s": done.figures.rate.achieved_per_s,
            "latency_us": done.figures.latency_us, "cpu_us_per_message": done.figures.cpu_us_per_message,
            "pairs": done.figures.pairs, "validity": done.figures.validity,
        }));
        Ok(done)
    }

    /// Steady mail for one next hop while mail for another, at the same rate, meets `trouble`, and while it meets none.
    pub(super) fn beside_trouble(&mut self, trouble: Trouble) -> anyhow::Result<()> {
        let mut part = part(1, two_sinks());
        // Two next hops of one host each, told apart by the recipients' domain.
        part.topology.servers[0].next = vec!["sink-a".into()];
        part.topology.servers[0].mailboxes = vec!["sink-b".into()];
        self.tell(trouble.p99, "hub");
        let mut stage = self.stage(&part)?;
        let (mut times, mut rates) = (Pairs::default(), Pairs::default());
        for pair in 0..self.effort.latency_runs {
            let steady = self.steady();
            let (without, with) = in_turn(pair, |is_there| {
                let phase = self.beside_other_mail(&mut stage, &part, &steady, trouble, is_there)?;
                Ok(time(&phase, |figures| figures.latency_us.delivery.p99))
            })?;
            times.add_times(without, with);
            let flat_out = self.flat_out();
            let (without, with) = in_turn(pair, |is_there| {
                let phase = self.beside_other_mail(&mut stage, &part, &flat_out, trouble, is_there)?;
                let rate = phase.figures.rate.achieved_per_s.context("nothing was acknowledged")?;
                Ok((rate, phase.figures.validity))
            })?;
            // At most: what the trouble leaves of the rate.
            rates.add(with.0, without.0, &[&with.1, &without.1]);
        }
        stage.stop();
        self.ratio(trouble.rate, &rates, "a second")?;
        self.ratio(trouble.p99, &times, "µs")
    }

    /// `phase` for sink-a, with steady mail for sink-b, which is in trouble until that ends (`is_there`) or is well.
    fn beside_other_mail(
        &mut self,
        stage: &mut Stage,
        part: &Part,
        phase: &Phase,
        trouble: Trouble,
        is_there: bool,
    ) -> anyhow::Result<result::Phase> {
        let mut other = self.steady();
        other.warm_up_s = 0.0;
        other.seconds = phase.length_s() + LONGER_S;
        let length = Duration::from_secs_f64(other.seconds);
        let mut admin = stage.admin("sink-b")?;
        if is_there && trouble.is_silent {
            admin.pause(length.as_millis() as u64)?;
        } else if is_there {
            admin.fault("accept:refuse")?;
            admin.fault("any:close")?;
        }
        self.tell(trouble.p99, "mail for the other");
        let mut for_other = part.clone();
        for_other.topology.mailbox_every = 1;
        let spec = perform::spec_of(stage, &for_other, &other, Some(STEADY_PER_S), &self.around())?;
        let mut sender = perform::start_sender(stage, &spec, &self.around())?;
        let interrupt = self.interrupt;
        std::thread::scope(|scope| {
            let healed = scope.spawn(move || {
                // An interrupt ends the trouble early, as it ends the run.
                let _ = interrupt.wait_until(Instant::now() + length);
                admin.clear()
            });
            let done = self.one(trouble.p99, stage, part, phase, is_there)?;
            healed.join().map_err(|_| anyhow::anyhow!("the trouble did not end"))??;
            perform::await_sender(&mut sender)?;
            Ok(done)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_first_every_other_time() {
        let mut order = Vec::new();
        for pair in 0..3 {
            let both = in_turn(pair, |is_there| {
                order.push(is_there);
                Ok(is_there)
            });
            assert_eq!(both.expect("both ran"), (false, true), "without, with");
        }
        assert_eq!(order, [false, true, true, false, false, true]);
    }
}
