//! Planted bugs: the simulation finds each, within so many seeds.

use crate::sim::scenario::{Plan, run};
use crate::sys::planted::Bug;

/// Runs seeds until the bug shows, at most `seeds` of them.
fn is_found(bug: Bug, seeds: u64) {
    for seed in 0..seeds {
        let report = run(seed, Plan { bug: Some(bug), ..Plan::default() });
        if let Some(breach) = report.breaches.first() {
            println!("{}: found by seed {seed}, after {} seeds: {breach}", bug.name(), seed + 1);
            return;
        }
    }
    panic!("{} was not found by {seeds} seeds", bug.name());
}

#[test]
fn an_early_250_is_found() {
    is_found(Bug::Early250, 30);
}

#[test]
fn an_outcome_written_down_twice_is_found() {
    is_found(Bug::DoubleSettle, 30);
}

#[test]
fn outcomes_read_too_late_at_recovery_are_found() {
    is_found(Bug::LateSettles, 20);
}
