//! Planted bugs: the simulation finds each, within so many seeds.

use crate::sim::scenario::{Plan, run};
use crate::sys::planted::Bug;

/// Runs seeds until the bug shows, at most `seeds` of them.
fn is_found(bug: Bug, seeds: u64) {
    is_found_in(Plan { stays_once_in: 0, ..Plan::default() }, bug, seeds);
}

fn is_found_in(plan: Plan, bug: Bug, seeds: u64) {
    for seed in 0..seeds {
        let report = run(seed, Plan { bug: Some(bug), ..plan });
        if let Some(breach) = report.breaches.first() {
            println!("{}: found by seed {seed}, after {} seeds: {breach}", bug.name(), seed + 1);
            return;
        }
    }
    panic!("{} was not found by {seeds} seeds", bug.name());
}

#[test]
fn an_early_250_is_found() {
    is_found(Bug::Early250, 10);
}

#[test]
fn the_end_of_one_batch_taken_for_the_next_ones_is_found() {
    is_found(Bug::WrongBatch, 20);
}

#[test]
fn a_second_sync_that_is_believed_is_found() {
    is_found(Bug::TrustedSync, 30);
}

#[test]
fn a_forgotten_cancel_is_found() {
    is_found(Bug::ForgottenCancel, 200);
}

#[test]
fn an_outcome_written_down_twice_is_found() {
    is_found(Bug::DoubleSettle, 30);
}

#[test]
fn outcomes_read_too_late_at_recovery_are_found() {
    is_found(Bug::LateSettles, 20);
}

#[test]
fn a_segment_used_before_its_folder_is_durable_is_found() {
    is_found(Bug::ForgottenFolder, 20);
}

#[test]
fn f_014_the_end_of_a_write_taken_for_rot_is_found() {
    is_found(Bug::TornAsRot, 20);
}

#[test]
fn f_014_rot_taken_for_the_end_of_a_write_is_found() {
    is_found(Bug::RotAsTorn, 20);
}

#[test]
fn f_016_content_read_back_unchecked_is_found() {
    is_found(Bug::UncheckedContent, 20);
}

#[test]
fn a_tail_that_is_written_again_is_found() {
    is_found(Bug::RewrittenTail, 80);
}

#[test]
fn m_097_an_age_that_counts_only_while_a_next_hop_takes_anything_is_found() {
    is_found(Bug::ExpiryByProgress, 20);
}

#[test]
fn m_151_a_wish_to_hear_nothing_that_is_forgotten_is_found() {
    is_found(Bug::ForgottenNotify, 40);
}

#[test]
fn i_4_a_forgotten_name_of_a_record_that_moved_is_found() {
    is_found_in(Plan { stays_once_in: 1, ..Plan::default() }, Bug::ForgottenName, 20);
}

#[test]
fn a_lost_wake_up_is_found() {
    is_found(Bug::LostWakeUp, 40);
}
