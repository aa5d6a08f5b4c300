//! What a person said about a run beside its scenario or its file, and what it changes in a plan. Pure.

use crate::exit::UsageError;
use crate::plan::{Content, Engine, Pace, Part, Plan};
use crate::pump::PumpPlan;
use crate::scenario::{AT_A_RATE, AT_HALF, Options};

/// Options of the command line; `None` for what was not said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Said {
    /// What messages are made of.
    pub content: Option<Content>,
    /// Several sizes, for a scenario that goes through them.
    pub sizes: Vec<u64>,
    /// Several numbers of shards, for one that goes through those.
    pub shard_counts: Vec<usize>,
    /// Connections of the load generator.
    pub connections: Option<u32>,
    /// Open-loop rate.
    pub rate_per_s: Option<f64>,
    /// Measured time.
    pub seconds: Option<f64>,
    /// `none`, `os`, `disk`.
    pub durability: Option<String>,
    /// As `--driver` spells it.
    pub driver: Option<String>,
    /// Threads of each engine process.
    pub shards: Option<usize>,
}

impl Said {
    /// As options of a scenario that is known by name.
    pub fn options(&self, cores: usize, seed: u64) -> Options {
        Options {
            content: self.content.clone(),
            sizes: self.sizes.clone(),
            shard_counts: self.shard_counts.clone(),
            connections: self.connections,
            rate_per_s: self.rate_per_s,
            seconds: self.seconds,
            engine: self.engine(),
            cores,
            seed,
        }
    }

    /// How the engine is started.
    pub fn engine(&self) -> Engine {
        Engine {
            durability: self.durability.clone().unwrap_or_else(|| "disk".to_owned()),
            driver: self.driver.clone().unwrap_or_else(|| "auto".to_owned()),
            shards: self.shards.unwrap_or(1),
            memory_budget: None,
            segment_bytes: None,
        }
    }

    /// Changes `plan` to what was said.
    ///
    /// # Errors
    /// Its parts differ in just that, or the time is too short for its faults.
    pub fn change(&self, plan: &mut Plan) -> Result<(), UsageError> {
        let parts = &plan.parts[..];
        let differ = |of: fn(&Part) -> String| parts.iter().any(|part| Some(of(part)) != parts.first().map(of));
        let content = |part: &Part| part.phases.first().map(|phase| format!("{:?}", phase.content)).unwrap_or_default();
        for (option, is_said, differ) in [
            ("--size or --corpus", self.content.is_some(), differ(content)),
            ("--shards", self.shards.is_some(), differ(|part| part.engine.shards.to_string())),
        ] {
            if is_said && differ {
                return Err(UsageError(format!("{option}: the parts of this plan differ in just that: leave it out")));
            }
        }
        plan.parts.iter_mut().try_for_each(|part| self.change_part(part))
    }

    fn change_part(&self, part: &mut Part) -> Result<(), UsageError> {
        set(&mut part.engine.durability, self.durability.as_ref());
        set(&mut part.engine.driver, self.driver.as_ref());
        set(&mut part.engine.shards, self.shards.as_ref());
        if let Some(rate) = self.rate_per_s {
            let needed_a_probe = part.phases.iter().any(|phase| matches!(phase.pace, Pace::ShareOfProbe(_)));
            part.phases.retain(|phase| !needed_a_probe || phase.is_main || phase.pace != Pace::FlatOut);
            let open = part.phases.iter_mut().filter(|phase| phase.pace != Pace::FlatOut);
            for phase in open {
                phase.pace = Pace::PerSecond(rate);
                if phase.about == AT_HALF {
                    AT_A_RATE.clone_into(&mut phase.about);
                }
            }
        }
        for phase in &mut part.phases {
            set(&mut phase.content, self.content.as_ref());
            set(&mut phase.connections, self.connections.as_ref());
            let is_measured = phase.is_main || (phase.pace != Pace::FlatOut && phase.faults.is_empty());
            set(&mut phase.seconds, self.seconds.as_ref().filter(|_| is_measured));
            let needed_s = phase.faults.last().map_or(0.0, |fault| fault.heal_s) - phase.warm_up_s;
            if phase.seconds <= needed_s {
                let text = format!("--duration: the faults of phase {} need more than {needed_s:.1} s", phase.name);
                return Err(UsageError(text));
            }
        }
        Ok(())
    }

    /// Changes the plan of a pump to what was said.
    ///
    /// # Errors
    /// It was something that a pump has not.
    pub fn change_pump(&self, plan: &mut PumpPlan) -> Result<(), UsageError> {
        let no_such = |option| UsageError(format!("{option}: a pump has none: leave it out"));
        match &self.content {
            None => {}
            Some(Content::Bytes(bytes)) => plan.frame_bytes = usize::try_from(*bytes).unwrap_or(usize::MAX),
            Some(Content::Corpus(_) | Content::OwnCorpus) => return Err(no_such("--corpus")),
        }
        if self.rate_per_s.is_some() {
            return Err(no_such("--rate"));
        }
        set(&mut plan.connections, self.connections.map(|count| count as usize).as_ref());
        set(&mut plan.seconds, self.seconds.as_ref());
        set(&mut plan.durability, self.durability.as_ref());
        set(&mut plan.driver, self.driver.as_ref());
        set(&mut plan.shards, self.shards.as_ref());
        Ok(())
    }
}

fn set<T: Clone>(place: &mut T, said: Option<&T>) {
    if let Some(said) = said {
        place.clone_from(said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn plan(name: &str) -> Plan {
        Scenario::find(name).expect("a scenario").plan(&Said::default().options(2, 1))
    }

    /// What is said beside a file is what it would have said to the scenario itself.
    #[test]
    fn options_beside_a_file_do_what_they_do_beside_a_name() {
        let said = Said {
            content: Some(Content::Bytes(100)),
            connections: Some(7),
            rate_per_s: Some(50.0),
            seconds: Some(20.0),
            durability: Some("os".into()),
            driver: Some("epoll".into()),
            shards: Some(2),
            ..Said::default()
        };
        for name in ["accept-only", "hub-hop", "front-end", "mailbox", "sink-only"] {
            let mut changed = plan(name);
            said.change(&mut changed).expect("it can be done");
            assert_eq!(changed, Scenario::find(name).expect("known").plan(&said.options(2, 1)), "{name}");
        }
        let before = plan("failover-hub");
        let mut after = before.clone();
        Said::default().change(&mut after).expect("nothing was said");
        assert_eq!(after, before);
        Said { connections: Some(3), ..Said::default() }.change(&mut after).expect("it can be done");
        assert!(after.parts[0].phases.iter().all(|phase| phase.connections == 3));
        assert_eq!(after.parts[0].phases[1].faults, before.parts[0].phases[1].faults, "a plan's faults are its own");
    }

    #[test]
    fn what_a_plan_cannot_take_is_told() {
        let short = Said { seconds: Some(5.0), ..Said::default() };
        let sized = Said { content: Some(Content::Bytes(9)), ..Said::default() };
        let threads = Said { shards: Some(2), ..Said::default() };
        for (said, name, told) in [
            (&short, "failover-hub", "--duration: the faults of phase hub-killed need more than 1"),
            (&sized, "payload-sweep", "--size or --corpus: the parts of this plan differ"),
            (&threads, "shard-scaling", "--shards: the parts"),
        ] {
            let error = said.change(&mut plan(name)).expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
