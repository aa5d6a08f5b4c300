//! Whole servers in simulated worlds.

use crate::sim::scenario::{Faults, Plan, Report, run};
use crate::wire::Span;
use std::ops::Range;

fn must_hold(report: &Report) {
    assert!(report.breaches.is_empty(), "seed {}: {:#?}", report.seed, report.breaches);
    assert!(report.accounts.messages > 0, "seed {}: nothing was sent", report.seed);
}

fn all_hold(seeds: Range<u64>, plan: Plan) {
    let (mut faults, mut starts, mut reported) = (0, 0, 0);
    for seed in seeds {
        let report = run(seed, plan);
        must_hold(&report);
        faults += report.faults;
        starts += report.starts;
        reported += report.accounts.reported;
    }
    println!("{faults} faults, {starts} starts, {reported} failures reported");
    assert!(reported > 0 || !plan.faults.sinks, "sinks refuse, and senders hear of it");
}

#[test]
fn without_faults_everything_arrives_once() {
    let plan = Plan { faults: Faults::default(), hubs_max: 1, shards_max: 1, ..Plan::default() };
    for seed in 0..5 {
        let report = run(seed, plan);
        must_hold(&report);
        let accounts = report.accounts;
        assert_eq!((accounts.refused, accounts.unknown, accounts.duplicates), (0, 0, 0), "{report:?}");
        assert_eq!(accounts.delivered, accounts.acknowledged);
    }
}

/// A sink says no for good: its sender hears of it once, if he wants to, and nobody else does.
#[test]
fn m_100_m_151_who_is_refused_for_good_is_reported_once_to_whoever_wants_to_hear_of_it() {
    all_hold(4000..4060, Plan { faults: Faults { sinks: true, ..Faults::default() }, ..Plan::default() });
}

#[test]
fn a_seed_gives_one_trace() {
    let plan = Plan { trouble: Span::seconds(5), ..Plan::default() };
    for seed in 0..3 {
        let first = run(seed, plan);
        assert_eq!(first, run(seed, plan));
        assert_ne!(first.trace, run(seed + 100, plan).trace);
    }
}

/// F-001 to F-008, F-013 to F-015: processes and machines die between any two steps of one hub.
#[test]
fn f_013_a_hub_that_dies_anywhere_loses_nothing_that_it_acknowledged() {
    let faults = Faults { processes: true, machines: true, sinks: true, ..Faults::default() };
    all_hold(1000..1040, Plan { hubs_max: 1, faults, ..Plan::default() });
}

/// F-021, F-022, F-026 to F-029: and disks that fail, stall and are full.
#[test]
fn f_026_f_027_disks_that_fail_lose_nothing_that_was_acknowledged() {
    let faults = Faults { disks: true, machines: true, sinks: true, ..Faults::default() };
    all_hold(2000..2040, Plan { hubs_max: 1, faults, ..Plan::default() });
}

/// F-014, F-016: what rots on a disk need not come, and never comes changed; the rest of it does come.
#[test]
fn f_014_f_016_disks_that_rot_cost_what_rots_and_nothing_else() {
    let faults = Faults { rot: true, processes: true, machines: true, ..Faults::default() };
    all_hold(3000..3030, Plan { faults, ..Plan::default() });
}

/// I-1, F-008: what stays while other mail comes and goes is written again, and everything goes wrong meanwhile.
#[test]
fn p_013_what_stays_is_written_again_and_neither_lost_nor_doubled() {
    let plan = Plan { stays_once_in: 1, hubs_max: 1, shards_max: 2, ..Plan::default() };
    let (mut rewritten, mut worlds) = (0, 0);
    for seed in 4000..4020 {
        let report = run(seed, plan);
        must_hold(&report);
        rewritten += report.rewritten;
        worlds += u64::from(report.rewritten > 0);
    }
    println!("{rewritten} segments rewritten in {worlds} worlds of 20");
    assert!(worlds >= 5 && rewritten >= 50, "{rewritten} in {worlds} worlds");
}

/// I-1 to I-4, I-8, I-9, I-12: everything at once, behind a front end or not.
#[test]
fn i_1_i_2_i_3_i_4_i_8_i_9_i_12_hold_whatever_goes_wrong() {
    all_hold(0..60, Plan::default());
}
