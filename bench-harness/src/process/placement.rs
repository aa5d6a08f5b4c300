//! Which process runs on which core: the engine apart from the load and the sinks wherever there are two cores. Pure, but
//! for asking which cores there are.

use rustix::thread::{CpuSet, sched_getaffinity};

/// The cores of a run, and who has which.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Placement {
    /// Engine processes: hubs, front ends, mailbox delivery.
    pub engine: Vec<usize>,
    /// The load generator and the sinks.
    pub load: Vec<usize>,
}

impl Placement {
    /// Splits `cores`: the load side gets one core in two (a generator that is short of CPU measures itself), the engine
    /// at least `shards`; where there are not more cores than shards, both share the last one. With one core, or none
    /// known, nothing is pinned.
    pub fn of(cores: &[usize], shards: usize) -> Self {
        if cores.len() < 2 {
            return Self { engine: Vec::new(), load: Vec::new() };
        }
        let engine = cores.len().div_ceil(2).max(shards).min(cores.len());
        let load = engine.min(cores.len() - 1);
        Self { engine: cores[..engine].to_vec(), load: cores[load..].to_vec() }
    }

    /// On the cores this process may use.
    pub fn here(shards: usize) -> Self {
        Self::of(&available(), shards)
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        match (&self.engine[..], &self.load[..]) {
            ([], _) | (_, []) => "one core: the engine shares it with the load and the sinks".to_owned(),
            (engine, load) if engine.iter().any(|core| load.contains(core)) => {
                format!("engine on {}, load and sinks on {}, which they share", names(engine), names(load))
            }
            (engine, load) => format!("engine on {}, load and sinks on {}", names(engine), names(load)),
        }
    }
}

fn names(cores: &[usize]) -> String {
    match cores {
        [one] => format!("core {one}"),
        [first, .., last] if last - first + 1 == cores.len() => format!("cores {first}–{last}"),
        many => format!("cores {}", many.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// The cores this process may use, ascending.
pub fn available() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_and_the_load_have_cores_of_their_own() {
        for (cores, shards, engine, load) in [
            (&[0, 1][..], 1, &[0][..], &[1][..]),
            (&[0, 1], 2, &[0, 1], &[1]),
            (&[0, 1], 5, &[0, 1], &[1]),
            (&[2, 5, 7], 1, &[2, 5], &[7]),
            (&[0, 1, 2, 3], 1, &[0, 1], &[2, 3]),
            (&[0, 1, 2, 3], 3, &[0, 1, 2], &[3]),
            (&[4], 1, &[], &[]),
            (&[], 1, &[], &[]),
        ] {
            let placement = Placement::of(cores, shards);
            assert_eq!((&placement.engine[..], &placement.load[..]), (engine, load), "{cores:?} {shards}");
        }
    }

    #[test]
    fn the_summary_says_who_runs_where() {
        assert_eq!(Placement::of(&[0, 1], 1).describe(), "engine on core 0, load and sinks on core 1");
        assert_eq!(Placement::of(&[0, 1, 2, 5], 1).describe(), "engine on cores 0–1, load and sinks on cores 2, 5");
        assert_eq!(
            Placement::of(&[0, 1], 2).describe(),
            "engine on cores 0–1, load and sinks on core 1, which they share"
        );
        assert!(Placement::of(&[0], 1).describe().starts_with("one core"));
    }
}
