//! The scenarios by name, each a function from options to a plan. Pure and seeded.

use crate::plan::{Content, Engine, Fault, Pace, Part, Phase, Plan, Role, Server, Sink, Topology};
use rand::RngExt;
use rand_pcg::Pcg64Mcg;

/// What a person may change about a scenario; what is `None` is the scenario's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What messages are made of.
    pub content: Option<Content>,
    /// Sizes that a sweep goes through; empty: its own.
    pub sizes: Vec<u64>,
    /// Numbers of shards that it goes through; empty: its own.
    pub shard_counts: Vec<usize>,
    /// Connections of the load generator.
    pub connections: Option<u32>,
    /// Open-loop rate; `None`: half of what a probe finds.
    pub rate_per_s: Option<f64>,
    /// Measured time of the main phase.
    pub seconds: Option<f64>,
    /// How the engine is started.
    pub engine: Engine,
    /// Cores of this machine.
    pub cores: usize,
    /// For the moments of faults.
    pub seed: u64,
}

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// As it is typed.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Options that it has its own of.
    pub own: &'static [&'static str],
    /// Options that it takes several values of, and goes through.
    pub several: &'static [&'static str],
    plan: fn(&Options) -> Vec<Part>,
}

impl Scenario {
    /// The scenario of that name.
    pub fn find(name: &str) -> Option<&'static Scenario> {
        ALL.iter().find(|scenario| scenario.name == name)
    }

    /// What it will do.
    pub fn plan(&self, options: &Options) -> Plan {
        Plan { scenario: self.name.to_owned(), seed: options.seed, parts: (self.plan)(options) }
    }
}

/// All of them, as `ringbench list` shows them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "accept-only",
        about: "A hub takes mail and keeps it: nothing leaves until the load is over.",
        own: &[],
        several: &[],
        plan: accept_only,
    },
    Scenario {
        name: "hub-hop",
        about: "Load, one hub, one sink: the hop that everything else is made of.",
        own: &[],
        several: &[],
        plan: hub_hop,
    },
    Scenario {
        name: "front-end",
        about: "Load, a front end, one hub, one sink.",
        own: &[],
        several: &[],
        plan: front_end,
    },
    Scenario {
        name: "mailbox",
        about: "Load, one hub, mailbox delivery into folders.",
        own: &[],
        several: &[],
        plan: mailbox,
    },
    Scenario {
        name: "shard-scaling",
        about: "The hub hop with 1, 2, 4 … shards, as far as there are cores, or with those that --shards names.",
        own: &[],
        several: &["--shards"],
        plan: shard_scaling,
    },
    Scenario {
        name: "payload-sweep",
        about: "The hub hop from 1 KiB to 1 MiB, or with the contents that --size names.",
        own: &["--corpus"],
        several: &["--size"],
        plan: payload_sweep,
    },
    Scenario {
        name: "failover-next-hop",
        about: "One of a hub's two next hops is killed and returns, again and again.",
        own: &[],
        several: &[],
        plan: failover_next_hop,
    },
    Scenario {
        name: "failover-hub",
        about: "One of two hubs behind a front end is killed and returns, again and again.",
        own: &[],
        several: &[],
        plan: failover_hub,
    },
    Scenario {
        name: "restart",
        about: "A hub full of mail is killed and started: what it delivers, and how soon.",
        own: &[],
        several: &[],
        plan: restart,
    },
    Scenario {
        name: "sink-only",
        about: "Load straight into a sink: what the generator and the sink do by themselves.",
        own: &[],
        several: &[],
        plan: sink_only,
    },
];

/// What the latency phase is for, behind a probe.
pub const AT_HALF: &str = "Open loop at half of the rate found: what a sender feels.";
/// The same where the rate is given.
pub const AT_A_RATE: &str = "Open loop at the given rate: what a sender feels.";
const CONNECTIONS: u32 = 50;
const SIZE: u64 = 4096;
const SECONDS: f64 = 10.0;
const PROBE_SECONDS: f64 = 4.0;
/// From one strike to the next: ten steady seconds tell recovery, and some before them.
const FAULT_EVERY_S: f64 = 14.0;
/// A killed process is started again so long after.
const DOWN_S: f64 = 2.0;
/// Faults of a failover scenario: fewer have no percentiles.
const FAULTS: usize = 9;
/// Filling a hub, its death and its return take so long at least.
const RESTART_SECONDS_MIN: f64 = 15.0;
/// From the return of a hub to the end: recovery is ten good seconds.
const RETURN_S: f64 = 12.0;
/// Before the first strike.
const BASELINE_S: f64 = 3.0;

fn sink(name: &str) -> Sink {
    Sink { name: name.into(), chunking: true }
}

fn server(name: &str, role: Role, next: &[&str]) -> Server {
    let next = next.iter().map(|name| (*name).to_owned()).collect();
    Server { name: name.into(), role, next, mailboxes: Vec::new() }
}

fn one_hub() -> Topology {
    Topology {
        sinks: vec![sink("sink")],
        servers: vec![server("hub", Role::Hub, &["sink"])],
        entry: "hub".into(),
        mailbox_every: 0,
    }
}

impl Options {
    fn content(&self) -> Content {
        self.content.clone().unwrap_or(Content::Bytes(SIZE))
    }

    fn connections(&self) -> u32 {
        self.connections.unwrap_or(CONNECTIONS)
    }

    fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(SECONDS)
    }

    /// A probe, unless the rate is given.
    fn probe(&self, content: &Content) -> Option<Phase> {
        let about = "As many messages as are acknowledged: the highest rate, and what limits it.";
        let phase = Phase::new("probe", about, Pace::FlatOut, self.connections(), content.clone(), PROBE_SECONDS);
        self.rate_per_s.is_none().then_some(phase)
    }

    fn pace(&self) -> Pace {
        self.rate_per_s.map_or(Pace::ShareOfProbe(0.5), Pace::PerSecond)
    }

    fn latency(&self, content: &Content) -> Phase {
        let about = match self.rate_per_s {
            None => AT_HALF,
            Some(_) => AT_A_RATE,
        };
        Phase::new("latency", about, self.pace(), self.connections(), content.clone(), self.seconds())
    }

    fn part(&self, label: &str, topology: Topology, phases: Vec<Phase>) -> Part {
        Part { label: label.to_owned(), engine: self.engine.clone(), topology, phases }
    }

    /// A probe and the latency phase.
    fn measured(&self, content: &Content) -> Vec<Phase> {
        self.probe(content).into_iter().chain([self.latency(content).main()]).collect()
    }
}

fn accept_only(options: &Options) -> Vec<Part> {
    let mut phases = options.measured(&options.content());
    phases.iter_mut().for_each(|phase| phase.held_back = true);
    vec![options.part("", one_hub(), phases)]
}

fn hub_hop(options: &Options) -> Vec<Part> {
    vec![options.part("", one_hub(), options.measured(&options.content()))]
}

fn front_end(options: &Options) -> Vec<Part> {
    let mut topology = one_hub();
    topology.servers.push(server("front-end", Role::Frontend, &["hub"]));
    topology.entry = "front-end".into();
    vec![options.part("", topology, options.measured(&options.content()))]
}

fn mailbox(options: &Options) -> Vec<Part> {
    let mut topology = one_hub();
    topology.servers.insert(0, server("mailbox", Role::MailboxDelivery, &[]));
    topology.servers[1].mailboxes = vec!["mailbox".into()];
    topology.mailbox_every = 1;
    vec![options.part("", topology, options.measured(&options.content()))]
}

fn shard_scaling(options: &Options) -> Vec<Part> {
    let mut counts = options.shard_counts.clone();
    if counts.is_empty() {
        counts = (0..).map(|power| 1usize << power).take_while(|shards| *shards <= options.cores.max(1)).collect();
    }
    counts
        .into_iter()
        .enumerate()
        .map(|(place, shards)| {
            let mut phases = options.measured(&options.content());
            phases.iter_mut().for_each(|phase| phase.is_main &= place == 0);
            let mut part = options.part(&plural(shards, "shard"), one_hub(), phases);
            part.engine.shards = shards;
            part
        })
        .collect()
}

fn payload_sweep(options: &Options) -> Vec<Part> {
    let mut sizes = options.sizes.clone();
    if sizes.is_empty() {
        sizes = vec![1 << 10, SIZE, 16 << 10, 100 << 10, 1 << 20];
    }
    let main = sizes.iter().position(|bytes| *bytes == SIZE).unwrap_or(0);
    let part = |(place, bytes): (usize, u64)| {
        let mut phases = options.measured(&Content::Bytes(bytes));
        phases.iter_mut().for_each(|phase| phase.is_main &= place == main);
        options.part(&octets(bytes), one_hub(), phases)
    };
    sizes.into_iter().enumerate().map(part).collect()
}

/// A size as people say it: whole units only, so that no two sizes are called the same.
fn octets(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

fn failover_next_hop(options: &Options) -> Vec<Part> {
    let content = options.content();
    let phase = faulty(options, "next-hop", "sink-b", "One of two next hops is killed and comes back.", &content);
    vec![options.part("", two_sinks(), options.probe(&content).into_iter().chain([phase.main()]).collect())]
}

fn failover_hub(options: &Options) -> Vec<Part> {
    let content = options.content();
    let phase =
        faulty(options, "hub", "hub-2", "One of two hubs behind the front end is killed and comes back.", &content);
    vec![options.part("", two_hubs(), options.probe(&content).into_iter().chain([phase.main()]).collect())]
}

fn restart(options: &Options) -> Vec<Part> {
    let content = options.content();
    let mut fill = options.latency(&content).main();
    fill.name = "restart".into();
    fill.about = "The hub takes mail that nobody takes from it, is killed and started again.".into();
    fill.held_back = true;
    fill.seconds = fill.seconds.max(RESTART_SECONDS_MIN);
    let heal_s = fill.length_s() - RETURN_S;
    fill.faults = vec![Fault { victim: "hub".into(), strike_s: heal_s - 1.0, heal_s }];
    fill.fault_kind = Some("hub".into());
    vec![options.part("", one_hub(), options.probe(&content).into_iter().chain([fill]).collect())]
}

fn sink_only(options: &Options) -> Vec<Part> {
    let topology = Topology { sinks: vec![sink("sink")], entry: "sink".into(), ..Topology::default() };
    vec![options.part("", topology, options.measured(&options.content()))]
}

/// A hub and two next hops of equal right.
fn two_sinks() -> Topology {
    Topology {
        sinks: vec![sink("sink-a"), sink("sink-b")],
        servers: vec![server("hub", Role::Hub, &["sink-a", "sink-b"])],
        entry: "hub".into(),
        mailbox_every: 0,
    }
}

fn two_hubs() -> Topology {
    let hub = |name: &str| server(name, Role::Hub, &["sink-a", "sink-b"]);
    Topology {
        sinks: vec![sink("sink-a"), sink("sink-b")],
        servers: vec![hub("hub-1"), hub("hub-2"), server("front-end", Role::Frontend, &["hub-1", "hub-2"])],
        entry: "front-end".into(),
        mailbox_every: 0,
    }
}

/// A phase in which `victim` is killed at random moments, as often as the time allows (at least once).
fn faulty(options: &Options, kind: &str, victim: &str, about: &str, content: &Content) -> Phase {
    let wanted = BASELINE_S + FAULTS as f64 * FAULT_EVERY_S;
    let seconds = options.seconds.unwrap_or(wanted).max(BASELINE_S + FAULT_EVERY_S);
    let count = ((seconds - BASELINE_S) / FAULT_EVERY_S) as usize;
    let mut phase =
        Phase::new(&format!("{kind}-killed"), about, options.pace(), options.connections(), content.clone(), seconds);
    phase.faults = faults(victim, phase.warm_up_s + BASELINE_S, count, options.seed);
    phase.fault_kind = Some(kind.to_owned());
    phase
}

fn faults(victim: &str, from_s: f64, count: usize, seed: u64) -> Vec<Fault> {
    strikes(victim, (from_s, FAULT_EVERY_S, DOWN_S), count, seed)
}

/// `count` strikes, the first behind `from_s`, `every_s` apart but each at a random moment of its second: faults that keep step
/// with anything in the engine would hide. Each is healed after `down_s`.
pub(crate) fn strikes(victim: &str, (from_s, every_s, down_s): (f64, f64, f64), count: usize, seed: u64) -> Vec<Fault> {
    let mut random = Pcg64Mcg::new(u128::from(seed) << 1 | 1);
    (0..count)
        .map(|index| {
            let strike_s = from_s + index as f64 * every_s + random.random::<f64>();
            Fault { victim: victim.to_owned(), strike_s, heal_s: strike_s + down_s }
        })
        .collect()
}

/// The main job: front end, two hubs, mailbox delivery, two sinks; a probe, latency at half of it, two failovers.
pub fn quickstart(engine: &Engine, content: &Content, seed: u64) -> Plan {
    let mut topology = two_hubs();
    topology.servers.insert(0, server("mailbox", Role::MailboxDelivery, &[]));
    for hub in topology.servers.iter_mut().filter(|server| server.role == Role::Hub) {
        hub.mailboxes = vec!["mailbox".into()];
    }
    topology.mailbox_every = 50;
    let options = Options {
        content: Some(content.clone()),
        sizes: Vec::new(),
        shard_counts: Vec::new(),
        connections: None,
        rate_per_s: None,
        seconds: Some(6.0),
        engine: engine.clone(),
        cores: 2,
        seed,
    };
    let mut probe = options.probe(content).into_iter().collect::<Vec<_>>();
    probe.iter_mut().for_each(|phase| (phase.warm_up_s, phase.seconds) = (1.0, 3.0));
    let mut latency = options.latency(content).main();
    latency.warm_up_s = 1.0;
    let failover = |kind: &str, victim: &str, about: &str, seed: u64| {
        let mut phase =
            Phase::new(&format!("{kind}-killed"), about, Pace::ShareOfProbe(0.5), CONNECTIONS, content.clone(), 14.0);
        phase.warm_up_s = 0.5;
        phase.faults = faults(victim, 1.5, 1, seed);
        phase.fault_kind = Some(kind.to_owned());
        phase
    };
    let next_hop =
        failover("next-hop", "sink-b", "One of the two sinks is killed, and comes back two seconds later.", seed);
    let hub = failover(
        "hub",
        "hub-2",
        "One of the two hubs is killed and comes back two seconds later: what rested on it is delivered then.",
        seed.wrapping_add(1),
    );
    let phases = probe.into_iter().chain([latency, next_hop, hub]).collect();
    Plan { scenario: "quickstart".into(), seed, parts: vec![options.part("", topology, phases)] }
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Engine {
        Engine { durability: "disk".into(), driver: "auto".into(), shards: 1, memory_budget: None, segment_bytes: None }
    }

    fn options() -> Options {
        Options {
            content: None,
            sizes: Vec::new(),
            shard_counts: Vec::new(),
            connections: None,
            rate_per_s: None,
            seconds: None,
            engine: engine(),
            cores: 4,
            seed: 1,
        }
    }

    fn everything() -> Vec<Plan> {
        let quickstart = quickstart(&engine(), &Content::Bytes(4096), 3);
        ALL.iter().map(|scenario| scenario.plan(&options())).chain([quickstart]).collect()
    }

    #[test]
    fn the_names_that_stay() {
        for name in [
            "accept-only",
            "hub-hop",
            "front-end",
            "mailbox",
            "shard-scaling",
            "payload-sweep",
            "failover-next-hop",
            "failover-hub",
            "restart",
        ] {
            assert!(Scenario::find(name).is_some(), "{name}");
        }
        assert!(Scenario::find("quick").is_none());
    }

    #[test]
    fn a_sweep_goes_through_what_it_is_told() {
        let told = Options { sizes: vec![100, 4096, 100 << 10], shard_counts: vec![3, 1], ..options() };
        let plan = |name| Scenario::find(name).expect("a scenario").plan(&told);
        let labels = |plan: &Plan| plan.parts.iter().map(|part| part.label.clone()).collect::<Vec<_>>();
        let sizes = plan("payload-sweep");
        assert_eq!(labels(&sizes), ["100 B", "4 KiB", "100 KiB"]);
        assert!(sizes.parts[1].phases[1].is_main && !sizes.parts[0].phases[1].is_main);
        let shards = plan("shard-scaling");
        assert_eq!(labels(&shards), ["3 shards", "1 shard"]);
        assert_eq!(shards.parts.iter().map(|part| part.engine.shards).collect::<Vec<_>>(), [3, 1]);
        assert!(shards.parts[0].phases[1].is_main && !shards.parts[1].phases[1].is_main);
    }

    #[test]
    fn every_plan_hangs_together() {
        for plan in everything() {
            assert_eq!(plan.parts.iter().flat_map(|p| &p.phases).filter(|p| p.is_main).count(), 1, "{}", plan.scenario);
            for part in &plan.parts {
                let topology = &part.topology;
                let mut known: Vec<&str> = topology.sinks.iter().map(|sink| sink.name.as_str()).collect();
                for server in &topology.servers {
                    for next in server.next.iter().chain(&server.mailboxes) {
                        assert!(
                            known.contains(&next.as_str()),
                            "{}: {next} starts after {}",
                            plan.scenario,
                            server.name
                        );
                    }
                    assert!(!known.contains(&server.name.as_str()), "{} is there twice", server.name);
                    known.push(&server.name);
                }
                assert!(known.contains(&topology.entry.as_str()));
                check_phases(&plan.scenario, part);
            }
        }
    }

    fn check_phases(scenario: &str, part: &Part) {
        let mut probed = false;
        for phase in &part.phases {
            let ready = !matches!(phase.pace, Pace::ShareOfProbe(_)) || probed;
            assert!(ready, "{scenario}: {} needs a probe before it", phase.name);
            probed |= phase.pace == Pace::FlatOut;
            assert_eq!(phase.faults.is_empty(), phase.fault_kind.is_none());
            let mut last = phase.warm_up_s;
            for fault in &phase.faults {
                let known =
                    part.topology.server(&fault.victim).is_some() || part.topology.sink(&fault.victim).is_some();
                assert!(known, "{scenario}: {} is nobody", fault.victim);
                assert!(last < fault.strike_s && fault.strike_s < fault.heal_s && fault.heal_s < phase.length_s());
                last = fault.heal_s;
            }
        }
    }

    #[test]
    fn each_fault_leaves_ten_seconds_to_tell_recovery() {
        for plan in everything() {
            for phase in plan.parts.iter().flat_map(|p| &p.phases).filter(|p| p.name.ends_with("-killed")) {
                let ends = phase.faults.iter().skip(1).map(|f| f.strike_s).chain([phase.length_s()]);
                for (fault, end) in phase.faults.iter().zip(ends) {
                    assert!(end - fault.heal_s > 10.0, "{} {}: {fault:?} {end}", plan.scenario, phase.name);
                }
            }
        }
    }

    #[test]
    fn a_failover_scenario_strikes_often_enough_for_percentiles() {
        let plan = Scenario::find("failover-hub").expect("known").plan(&options());
        assert_eq!(plan.parts[0].phases[1].faults.len(), FAULTS);
        let short = Options { seconds: Some(5.0), ..options() };
        let plan = Scenario::find("failover-hub").expect("known").plan(&short);
        assert_eq!(plan.parts[0].phases[1].faults.len(), 1, "never without any");
    }

    #[test]
    fn the_quickstart_fits_into_a_minute() {
        let plan = quickstart(&engine(), &Content::Bytes(4096), 3);
        assert!(plan.length_s() <= 42.0, "{} s of load leave 18 for starting, draining and writing", plan.length_s());
    }

    #[test]
    fn a_given_rate_needs_no_probe() {
        let plan = Scenario::find("hub-hop").expect("known").plan(&Options { rate_per_s: Some(500.0), ..options() });
        let phases = &plan.parts[0].phases;
        assert_eq!((phases.len(), phases[0].pace), (1, Pace::PerSecond(500.0)));
    }
}
