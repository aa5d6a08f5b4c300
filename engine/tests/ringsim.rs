//! `ringsim` as a program: the same seeds give the same in every process.
#![forbid(unsafe_code)]

use engine::sim::scenario::{Plan, run};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

fn ringsim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringsim")).args(arguments).output().expect("it runs")
}

#[test]
fn a_seed_gives_one_trace_in_every_process() {
    let told = || {
        let output = ringsim(&["--seeds", "3..6", "--json"]);
        assert!(output.status.success(), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
        document["seeds"].clone()
    };
    let first = told();
    assert_eq!(first, told(), "two processes");
    let traces: Vec<u64> = first.as_array().expect("a list").iter().filter_map(|seed| seed["trace"].as_u64()).collect();
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

#[test]
fn its_json_is_one_object_with_the_keys_of_every_result() {
    let done = ringsim(&["--seeds", "0..2", "--json"]);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    let said: Value = serde_json::from_slice(&done.stdout).expect("one document");
    assert_eq!(done.status.code(), Some(0), "{told}");
    for key in ["schema", "tool", "version", "git", "started", "took_s", "interrupted", "broken", "messages", "faults"]
    {
        assert!(said.get(key).is_some(), "{key}");
    }
    assert_eq!((&said["schema"], &said["tool"], &said["seeds_run"]), (&1.into(), &"ringsim".into(), &2.into()));
    assert_eq!(said["seeds"].as_array().map(Vec::len), Some(2));
    assert!(told.starts_with("2 seeds in ") && told.contains(": 2 hold, 0 broken; "), "{told}");
}

#[test]
fn a_signal_ends_it_with_a_summary() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringsim"))
        .args(["--seeds", "0..1000000", "--jobs", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is there");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut first = String::new();
    out.read_line(&mut first).expect("a seed was run");
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
    let (mut rest, mut told) = (String::new(), String::new());
    out.read_to_string(&mut rest).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{told}");
    let seeds = 1 + rest.lines().count();
    assert!(told.starts_with(&format!("interrupted: {seeds} seeds in ")), "{told}");
}

#[test]
fn it_explains_itself_as_the_other_programs_do() {
    for (arguments, there) in [(&["man"][..], ".TH ringsim 1"), (&["completions", "bash"], "complete -F _ringsim")] {
        let done = ringsim(arguments);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && said.contains(there), "{arguments:?}: {said}");
    }
}
