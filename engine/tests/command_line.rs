//! The program `ringpost` as its user meets it: files, flags, exit codes, what it prints.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs the program with a clean environment.
fn ringpost(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RINGPOST_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name)
}

#[test]
fn the_example_configuration_is_good() {
    let path = packaging("ringpost.toml");
    let output = ringpost(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!((code(&output), err(&output)), (Some(0), String::new()));
    assert!(out(&output).ends_with("ringpost.toml: good\n"));
}

#[test]
fn the_unit_starts_what_exists_and_waits_longer_than_a_drain() {
    let unit = fs::read_to_string(packaging("ringpost.service")).unwrap();
    let help = out(&ringpost(&["--help"]));
    for line in unit.lines().filter(|line| line.starts_with("ExecStart")) {
        let words: Vec<&str> = line.split_once('=').unwrap().1.split(' ').collect();
        assert!(help.contains(&format!("  {} ", words[1])), "{line}\n{help}");
        assert_eq!(words[2..], ["--config", "/etc/ringpost/ringpost.toml"]);
    }
    let patient = ["StartLimitIntervalSec=0", "TimeoutStartSec=infinity", "RestartPreventExitStatus=2"];
    for setting in ["Type=notify", "User=ringpost", "UMask=0077", "LimitCORE=0"].into_iter().chain(patient) {
        assert!(unit.lines().any(|line| line == setting), "{setting}");
    }
    let example = fs::read_to_string(packaging("ringpost.toml")).unwrap();
    assert!(example.contains("drain_wait = \"30s\"") && unit.contains("TimeoutStopSec=60s"));
    assert!(example.contains("data_dir = \"/var/lib/ringpost\"") && unit.contains("StateDirectory=ringpost"));
    assert!(example.contains("admin = \"/run/ringpost/") && unit.contains("RuntimeDirectory=ringpost"));
}

#[test]
fn f_177_check_says_every_problem_with_its_place_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.toml");
    let text = "[server]\nshards = 0\ndata_dir = \"/nonexistent/data\"\n[[listener]]\naddress = \"0.0.0.0:25\"\nrole = \"hbu\"\n";
    fs::write(&path, text).unwrap();
    let output = ringpost(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!((code(&output), out(&output)), (Some(2), String::new()));
    let said = err(&output);
    let name = path.display();
    for line in [
        format!("{name}:2:10: server.shards: 0 is too small; write a number from 1 to 256, or \"auto\""),
        format!(
            "{name}:6:8: listener[0].role: \"hbu\" is unknown; write \"hub\" (\"hub\", \"frontend\" or \"mailbox-delivery\")"
        ),
        "2 | shards = 0".to_owned(),
        "  |          ^".to_owned(),
    ] {
        assert!(said.lines().any(|found| found == line), "{line}\n{said}");
    }
    let output = ringpost(&["check", "--json", "--config", path.to_str().unwrap()]);
    assert_eq!(code(&output), Some(2));
    let report: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(report["good"], false);
    assert_eq!(report["problems"][0]["line"], 2);
    assert_eq!(report["problems"][0]["column"], 10);
    assert_eq!(report["problems"].as_array().unwrap().len(), 2);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn printed_defaults_are_a_file_to_begin_with() {
    for profile in ["exchange", "rfc", "bench"] {
        let output = ringpost(&["check", "--print-defaults", "--profile", profile]);
        assert_eq!(code(&output), Some(0));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        let mut file = fs::File::create(&path).unwrap();
        let text = out(&output).replace("#data_dir", "data_dir");
        file.write_all(text.as_bytes()).unwrap();
        file.write_all(b"[[listener]]\naddress = \"127.0.0.1:0\"\nrole = \"hub\"\n").unwrap();
        file.write_all(b"[next_hop.x]\nhosts = [\"127.0.0.1:9\"]\n[routes]\n\"*\" = \"x\"\n").unwrap();
        let output = ringpost(&["check", "--config", path.to_str().unwrap()]);
        // What a profile leaves unbounded is said aloud once it is written down (S-024); nothing else is.
        let told = err(&output);
        let others: Vec<_> =
            told.lines().filter(|line| line.contains("warning:") && !line.contains(": is off: ")).collect();
        assert_eq!((code(&output), others, told.contains("error:")), (Some(0), vec![], false), "{profile}");
    }
}

#[test]
fn usage_errors_are_exit_2_with_one_line_or_clap_s_own_help() {
    for arguments in [
        &["check"][..],
        &["check", "--config", "/nonexistent/r.toml"],
        &["status"],
        &["completions", "tcsh"],
        &["man", "nothing"],
        &["nothing"],
        &["check", "--print-defaults", "--profile", "none"],
        &[],
    ] {
        let output = ringpost(arguments);
        assert_eq!(code(&output), Some(2), "{arguments:?}: {}", err(&output));
        assert!(!err(&output).is_empty());
    }
    let missing = ringpost(&["check", "--config", "/nonexistent/r.toml"]);
    assert!(err(&missing).starts_with("/nonexistent/r.toml:1:1: the file cannot be read: No such file"));
    assert_eq!(err(&missing).lines().count(), 1);
    let missing = ringpost(&["check", "--config", "/nonexistent/r.toml", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&missing.stdout).unwrap();
    assert_eq!((code(&missing), &told["good"], &told["problems"][0]["line"]), (Some(2), &false.into(), &1.into()));
}

#[test]
fn help_version_completions_and_manual_pages_come_from_the_command_line_itself() {
    let help = ringpost(&["--help"]);
    assert_eq!(code(&help), Some(0));
    assert!(out(&help).contains("Examples:") && out(&help).contains("Exit codes:"));
    assert!(!out(&help).contains('\x1b'), "no colour where there is no terminal");
    let version = ringpost(&["--version"]);
    assert!(out(&version).starts_with(concat!("ringpost ", env!("CARGO_PKG_VERSION"))), "{}", out(&version));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = ringpost(&["completions", shell]);
        assert!(out(&output).contains("print-defaults"), "{shell}");
    }
    assert!(out(&ringpost(&["man"])).contains(".TH ringpost"));
    assert!(out(&ringpost(&["man", "check"])).contains("print\\-defaults"));
}

#[test]
fn status_ends_by_what_it_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let absent = ringpost(&["status", "--admin", path.to_str().unwrap()]);
    assert_eq!(code(&absent), Some(4), "{}", err(&absent));
    assert!(err(&absent).starts_with("ringpost: no server answers on "));

    for (healthy, expected) in [(true, 0), (false, 1)] {
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            use std::io::BufRead;
            let status = engine::track::report::Status { healthy, server: "a.test".into(), ..Default::default() };
            let answer = serde_json::json!({"ringpost": 1, "status": status});
            for _ in 0..2 {
                let (stream, _) = listener.accept().unwrap();
                std::io::BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                writeln!(&stream, "{answer}").unwrap();
            }
        });
        let text = ringpost(&["status", "--data-dir", folder.path().to_str().unwrap()]);
        assert_eq!(code(&text), Some(expected));
        assert!(out(&text).starts_with("a.test"), "{}", out(&text));
        let json = ringpost(&["status", "--json", "--admin", path.to_str().unwrap()]);
        assert_eq!(code(&json), Some(expected));
        let status: serde_json::Value = serde_json::from_str(&out(&json)).unwrap();
        assert_eq!(status["healthy"], healthy);
        server.join().unwrap();
        fs::remove_file(&path).unwrap();
    }
}

/// A pipe may be the configuration, as `<(...)` of a shell is one; while nobody writes, SIGINT ends the wait.
#[test]
fn a_pipe_is_waited_for_until_a_signal_comes() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    for arguments in [&["check"][..], &["run", "--allow-root"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
        let mut waiting = command
            .args(arguments)
            .arg("--config")
            .arg(&pipe)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Open when the program has it open to read.
        let _silent = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        kill_process(Pid::from_child(&waiting), Signal::INT).unwrap();
        assert_eq!(waiting.wait().unwrap().signal(), Some(2), "{arguments:?}");
    }
}
