//! `ringsim` as a program: the same seeds give the same in every process.
#![forbid(unsafe_code)]

use engine::sim::scenario::{Plan, run};
use serde_json::Value;
use std::process::{Command, Output};

fn ringsim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringsim")).args(arguments).output().expect("it runs")
}

#[test]
fn a_seed_gives_one_trace_in_every_process() {
    let told = || {
        let output = ringsim(&["--seeds", "3..6", "--json"]);
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let first = told();
    assert_eq!(first, told(), "two processes");
    let document: Value = serde_json::from_slice(&first).expect("JSON");
    let traces: Vec<u64> =
        document["seeds"].as_array().expect("a list").iter().filter_map(|seed| seed["trace"].as_u64()).collect();
    let here: Vec<u64> = (3..6).map(|seed| run(seed, Plan::default()).trace).collect();
    assert_eq!(traces, here, "and this one");
}

#[test]
fn it_prints_a_line_for_each_seed_and_a_story_for_one() {
    let output = ringsim(&["--seeds", "3..5"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().filter(|line| line.starts_with("seed ") && line.ends_with("holds")).count(), 2, "{text}");
    let output = ringsim(&["--seed", "3"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Acknowledged"), "the story");
}

#[test]
fn what_cannot_be_run_is_a_usage_error() {
    for wrong in [&["--seeds", "5..5"][..], &["--bug", "none-such"], &["--seeds", "x"]] {
        assert_eq!(ringsim(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
