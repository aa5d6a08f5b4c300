//! Whole servers in simulated worlds.

use crate::sim::scenario::{Faults, Plan, Report, run};
use crate::wire::Span;

fn must_hold(report: &Report) {
    assert!(report.breaches.is_empty(), "seed {}: {:#?}", report.seed, report.breaches);
    assert!(report.accounts.messages > 0, "seed {}: nothing was sent", report.seed);
}

#[test]
fn without_faults_everything_arrives_once() {
    let plan = Plan { faults: Faults::default(), hubs_max: 1, shards_max: 1, ..Plan::default() };
    for seed in 0..10 {
        let report = run(seed, plan);
        must_hold(&report);
        let accounts = report.accounts;
        assert_eq!((accounts.refused, accounts.unknown, accounts.duplicates), (0, 0, 0), "{report:?}");
        assert_eq!(accounts.delivered, accounts.acknowledged);
    }
}

#[test]
fn a_seed_gives_one_trace() {
    let plan = Plan { trouble: Span::seconds(5), ..Plan::default() };
    for seed in 0..5 {
        let first = run(seed, plan);
        assert_eq!(first, run(seed, plan));
        assert_ne!(first.trace, run(seed + 100, plan).trace);
    }
}
