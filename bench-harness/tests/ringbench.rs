//! `ringbench` as a person starts it: real processes, real mail, and nothing left behind.

#![forbid(unsafe_code)]

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn ringbench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringbench"));
    command.args(args).env("NO_COLOR", "1");
    command
}

fn run(args: &[&str]) -> Output {
    ringbench(args).output().expect("ringbench starts")
}

/// Processes whose command line names `text`.
fn processes_naming(text: &Path) -> Vec<String> {
    let text = text.to_string_lossy();
    let all = std::fs::read_dir("/proc").expect("proc is there").flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains("component") && line.contains(text.as_ref()))
        .collect()
}

/// The process id of the component whose command line names both.
fn pid_of(out: &Path, words: &str) -> Option<String> {
    let named = |entry: &std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains("component") && line.contains(words) && line.contains(&*out.to_string_lossy())
    };
    let mut all = std::fs::read_dir("/proc").expect("proc is there").flatten();
    all.find(named).map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Waits until `holds`, at most a while.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A process that is killed with the test; its own components go with it.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// A run that is long enough to be disturbed, once its processes are up.
fn long_run(out: &Path) -> Owned {
    let out_text = out.to_str().expect("a path of letters");
    let mut command = ringbench(&["run", "hub-hop", "-r", "50/s", "-d", "120s", "--out", out_text]);
    let run = Owned(command.stdout(Stdio::null()).spawn().expect("ringbench starts"));
    // The sender is the last to start: its command line names the folder too.
    eventually("hub and load run", || processes_naming(out).len() >= 2);
    run
}

#[test]
fn a_hub_hop_is_measured_accounted_and_reported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let done =
        run(&["run", "hub-hop", "-r", "200/s", "-d", "2s", "-c", "4", "--json", "--out", out.to_str().expect("text")]);
    // On a busy machine the measurement may not be valid (3); anything else is a failure.
    let code = done.status.code();
    // A build for debugging never is.
    assert!(matches!(code, Some(0 | 3)), "{code:?}\n{}", String::from_utf8_lossy(&done.stderr));
    let result: Value = serde_json::from_slice(&done.stdout).expect("one JSON document on stdout");
    assert_eq!(result["validity"]["valid"], Value::Bool(code == Some(0)));
    assert_eq!(result["schema"], 1);
    let pairs = &result["pairs"];
    assert!(pairs["intended"].as_u64() >= Some(400), "{pairs}");
    assert_eq!((&pairs["delivered"], &pairs["lost"], &pairs["unexpected"]), (&pairs["intended"], &0.into(), &0.into()));
    assert!(result["cpu_us_per_message"]["hub"].as_f64() > Some(0.0));
    assert!(result["syscalls_per_message"]["hub"].as_f64() > Some(0.0), "the engine's own counters are read");
    let response = result["latency_us"]["response"]["p50"].as_f64();
    assert!(response > Some(0.0) && result["latency_us"]["delivery"]["p50"].as_f64() > Some(0.0));
    let kept: Value = serde_json::from_slice(&std::fs::read(out.join("result.json")).expect("kept")).expect("JSON");
    assert_eq!(kept, result, "what is printed is what is kept");
    let report = std::fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(report.contains("hub-hop") && !report.contains("http://") && !report.contains("<script"));
    for name in
        ["timeline.csv", "run.toml", "latency-response-latency.hgrm", "latency-response-latency.hlog", "hub.stderr"]
    {
        assert!(out.join(name).exists(), "{name}");
    }
    let log = std::fs::read_to_string(out.join("engine.log")).expect("what the engine said");
    let own = std::fs::read_to_string(out.join("hub.stderr")).expect("what the hub said");
    assert!(own.lines().count() > 0, "a start is told");
    assert_eq!(log.lines().collect::<Vec<_>>(), own.lines().map(|line| format!("hub: {line}")).collect::<Vec<_>>());
    let left: Vec<_> = std::fs::read_dir(&out).expect("kept").flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".running")), "spools are gone: {left:?}");
    assert_eq!(processes_naming(&out), Vec::<String>::new());
}

/// Each of these would come before the file that a server or a sink is started with.
#[test]
fn what_a_person_has_in_the_environment_changes_no_component() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let (out, args) =
        (out.to_str().expect("text"), ["run", "hub-hop", "-r", "20/s", "-d", "1s", "-c", "4", "--json", "--out"]);
    let mut command = ringbench(&[&args[..], &[out]].concat());
    command.envs([("RINGPOST_DURABILITY", "none"), ("RINGPOST_PROFILE", "exchange"), ("RINGLOAD_LISTEN", "nowhere")]);
    let done = command.output().expect("it runs");
    assert!(matches!(done.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&done.stderr));
    let result: Value = serde_json::from_slice(&done.stdout).expect("one JSON document on stdout");
    assert_eq!((&result["durability"], &result["profile"]), (&"disk".into(), &"bench".into()));
    let reasons = result["validity"]["reasons"].to_string();
    assert!(!reasons.contains("as the servers say"), "{reasons}");
    assert!(result["stable_writes_per_message"]["hub"].as_f64() > Some(0.0), "in memory alone nothing is written");
}

#[test]
fn a_sink_alone_promises_nothing_of_what_it_takes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let done =
        run(&["run", "sink-only", "-r", "20/s", "-d", "1s", "-c", "4", "--json", "--out", out.to_str().expect("text")]);
    assert!(matches!(done.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&done.stderr));
    let result: Value = serde_json::from_slice(&done.stdout).expect("one JSON document on stdout");
    assert_eq!((&result["durability"], &result["profile"]), (&"unknown".into(), &"".into()));
}

/// The hub is killed with mail that nobody took from it; what it comes back with is delivered then, while more comes in.
#[test]
fn what_a_restarted_hub_delivers_it_delivers_on_its_return() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let done =
        run(&["run", "restart", "-r", "200/s", "-d", "1s", "-c", "4", "--json", "--out", out.to_str().expect("text")]);
    assert!(matches!(done.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&done.stderr));
    let result: Value = serde_json::from_slice(&done.stdout).expect("one JSON document on stdout");
    let (fault, phase) = (&result["failover"][0], &result["phases"][0]);
    let (healed, last) = (&fault["each"][0]["healed_ms"], &fault["stranded"]["last_delivered_ms"]);
    assert!(fault["stranded"]["messages"].as_u64() > Some(100), "{fault}");
    let (healed, last) = (healed.as_f64().expect("it came back"), last.as_f64().expect("it delivered"));
    let end = phase["seconds"].as_f64().expect("known") * 1000.0;
    assert!(healed + last < end, "{last} ms after {healed}, and mail was sent until {end}");
    assert!(phase["latency_us"]["delivery"]["p50"].is_null(), "how long mail was held back is no delivery time");
}

/// Runs `scenario` as shortly as it can be, and looks at what is kept of it: nothing lost, nothing altered, phase by phase.
fn a_short_run_of(scenario: &str, phases: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let done = run(&["run", scenario, "-r", "20/s", "-d", "1s", "-c", "4", "--out", out.to_str().expect("text")]);
    // Not valid (3) in a build for debugging and on a busy machine; anything else but 0 is a failure.
    let code = done.status.code();
    assert!(matches!(code, Some(0 | 3)), "{scenario}: {code:?}\n{}", String::from_utf8_lossy(&done.stderr));
    let result: Value = serde_json::from_slice(&std::fs::read(out.join("result.json")).expect("kept")).expect("JSON");
    assert_eq!(result["scenario"], scenario);
    let done = result["phases"].as_array().expect("a list");
    assert_eq!(done.len(), phases, "{scenario}: {done:?}");
    for phase in done {
        let pairs = &phase["pairs"];
        assert!(pairs["intended"].as_u64() > Some(0), "{scenario}: {phase}");
        for breach in ["lost", "content_differs", "refused_yet_delivered"] {
            assert_eq!(pairs[breach], 0, "{scenario}: {breach}: {phase}");
        }
    }
    let report = std::fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(report.contains(scenario), "the report names {scenario}");
    assert_eq!(processes_naming(&out), Vec::<String>::new());
}

#[test]
fn every_other_scenario_runs_to_its_report_and_loses_nothing() {
    let cores = std::thread::available_parallelism().expect("known").get();
    // 1, 2, 4 … as far as there are cores.
    let shards = cores.ilog2() as usize + 1;
    // At once: they are rate-bound and mostly wait, the failovers for 20 s each.
    std::thread::scope(|scope| {
        for (scenario, phases) in [
            ("accept-only", 1),
            ("front-end", 1),
            ("mailbox", 1),
            ("shard-scaling", shards),
            ("payload-sweep", 5),
            ("restart", 1),
            ("failover-next-hop", 1),
            ("failover-hub", 1),
        ] {
            scope.spawn(move || a_short_run_of(scenario, phases));
        }
    });
}

/// Everything that a first look at the program is to show: throughput, both latencies, CPU of each process, what a 250
/// meant, the driver, two failovers that lost nothing, validity phase by phase, and a report.
#[test]
fn quickstart_shows_all_that_it_promises_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let done = run(&["quickstart", "--out", out.to_str().expect("text")]);
    let (said, code) = (String::from_utf8_lossy(&done.stdout), done.status.code());
    assert!(matches!(code, Some(0 | 3)), "{code:?}\n{said}\n{}", String::from_utf8_lossy(&done.stderr));
    for words in
        ["response ", "delivery ", "p50 ", "p90 ", "p99 ", "p99.9 ", " max", "CPU per message ", "durability disk"]
    {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    for words in ["driver ", "each process ", "stranded on it: ", " 0 lost", "VALID", "report.html"] {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    let result: Value = serde_json::from_slice(&std::fs::read(out.join("result.json")).expect("kept")).expect("JSON");
    let phases = result["phases"].as_array().expect("a list");
    let names: Vec<_> = phases.iter().filter_map(|phase| phase["name"].as_str()).collect();
    assert_eq!(names, ["probe", "latency", "next-hop-killed", "hub-killed"]);
    for phase in phases {
        assert!(phase["validity"]["valid"].is_boolean(), "{phase}");
        for breach in ["lost", "content_differs", "refused_yet_delivered"] {
            assert_eq!(phase["pairs"][breach], 0, "{breach}: {phase}");
        }
    }
    let kinds: Vec<_> = result["failover"].as_array().expect("a list").iter().map(|of| &of["kind"]).collect();
    assert_eq!(kinds, ["next-hop", "hub"]);
    let processes = result["processes"].as_array().expect("a list");
    for kind in ["frontend", "hub", "mailbox", "sink", "loadgen"] {
        let of_kind = |process: &&Value| process["kind"] == kind && process["cpu_us_per_message"].is_f64();
        let wanted = if ["hub", "sink"].contains(&kind) { 2 } else { 1 };
        assert_eq!(processes.iter().filter(of_kind).count(), wanted, "{kind}: {processes:?}");
    }
    let report = std::fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(report.contains("quickstart") && !report.contains("http://") && !report.contains("<script"));
    assert_eq!(processes_naming(&out), Vec::<String>::new());
}

#[test]
fn the_pump_is_measured_in_each_of_its_forms() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (form, answers, one_per_write) in [
        (&["--size", "4k", "-c", "3"][..], true, None),
        (&["--size", "100k", "--no-answers"], false, None),
        (&["--one-per-write", "--next-hop-connections", "2"], true, Some(2)),
    ] {
        let out = folder.path().join(format!("{}", form.len()));
        let line = [&["pump", "-d", "300ms", "--json", "--out", out.to_str().expect("text")], form].concat();
        let done = run(&line);
        let code = done.status.code();
        // A build for debugging is never valid (3).
        assert!(matches!(code, Some(0 | 3)), "{form:?}: {code:?} {}", String::from_utf8_lossy(&done.stderr));
        let figures: Value = serde_json::from_slice(&done.stdout).expect("one JSON document on stdout");
        assert!(figures["frames"].as_u64() > Some(0) && figures["rate_per_s"].as_f64() > Some(0.0), "{figures}");
        assert_eq!((figures["answers"].as_bool(), figures["one_per_write"].as_u64()), (Some(answers), one_per_write));
        let times = &figures["service_us"];
        assert!(times["p50"].as_f64() > Some(0.0), "{figures}");
        assert_eq!((&figures["commit"], &figures["tool"]), (&"direct".into(), &"ringbench".into()), "{figures}");
        let kept = std::fs::read(out.join("result.json")).expect("kept");
        let kept: Value = serde_json::from_slice(&kept).expect("JSON");
        for key in [
            "schema",
            "version",
            "git",
            "started",
            "scenario",
            "profile",
            "placement",
            "driver",
            "durability",
            "commit",
        ] {
            assert_eq!(figures[key], kept[key], "{key}");
        }
        let latency = &kept["latency_us"];
        assert_eq!((&latency["service"], &latency["response"]["p50"]), (times, &Value::Null), "a closed loop");
        assert_eq!((&kept["schema"], &kept["scenario"]), (&1.into(), &"pump".into()));
        assert_eq!(kept["validity"]["valid"], Value::Bool(code == Some(0)));
        assert_eq!(kept["rate"]["achieved_per_s"], figures["rate_per_s"]);
        assert_eq!(kept["cpu_us_per_message"]["pump"], figures["relay_cpu_us"]);
        let plan = std::fs::read_to_string(out.join("run.toml")).expect("kept");
        assert!(plan.contains("frame_bytes = ") && plan.contains("durability = \"disk\""), "{plan}");
        assert_eq!(processes_naming(&out), Vec::<String>::new());
    }
    assert_eq!(run(&["pump", "--size", "3"]).status.code(), Some(2), "shorter than its answer");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let told = run(&["pump", "-d", "300ms", "--out", folder.path().join("told").to_str().expect("text")]);
    let (said, is_valid) = (String::from_utf8_lossy(&told.stdout), told.status.code() == Some(0));
    assert!(said.starts_with(if is_valid { "pump: VALID\n" } else { "pump: NOT VALID\n  ! " }), "{said}");
    assert!(said.contains(", limited by "), "{said}");
}

#[test]
fn what_a_run_did_is_done_again_from_its_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = |name: &str| folder.path().join(name);
    let text = |name: &str| std::fs::read_to_string(out(name).join("run.toml")).expect("kept");
    let again = |of: &str, name: &str, beside: &[&str]| {
        let (file, out) = (out(of).join("run.toml"), out(name));
        let line = ["run", file.to_str().expect("text"), "--out", out.to_str().expect("text")];
        let done = run(&[&line, beside].concat());
        // A build for debugging is never valid (3).
        let code = done.status.code();
        assert!(matches!(code, Some(0 | 3)), "{of}: {code:?} {}", String::from_utf8_lossy(&done.stderr));
    };
    for (name, line) in [
        ("hop", &["run", "hub-hop", "-r", "20/s", "-d", "300ms", "-c", "2", "--durability", "os"][..]),
        ("pump", &["pump", "-d", "300ms", "-c", "3"]),
    ] {
        let done = run(&[line, &["--out", out(name).to_str().expect("text")]].concat());
        assert!(matches!(done.status.code(), Some(0 | 3)), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        let (second, third) = (format!("{name}-2"), format!("{name}-3"));
        again(name, &second, &[]);
        assert_eq!(text(&second), text(name), "the same run");
        again(&second, &third, &["-c", "5"]);
        let wanted =
            text(name).replace("connections = 2", "connections = 5").replace("connections = 3", "connections = 5");
        assert_eq!(text(&third), wanted, "the same run, but for what was said beside it");
    }
    let bad = out("bad.toml");
    std::fs::write(&bad, text("hop").replace("durability = \"os\"", "durability = \"tape\"")).expect("written");
    let done = run(&["run", bad.to_str().expect("text")]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!((done.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("bad.toml:9:14: parts[0].engine.durability: \"tape\" is no durability; write"), "{said}");
}

#[test]
fn a_wrong_command_line_is_exit_2_and_one_line() {
    let done = run(&["run", "hub-hopp"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!((done.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("there are accept-only, hub-hop"), "{said}");
    assert_eq!(run(&["run", "hub-hop", "-r", "fast"]).status.code(), Some(2));
    assert_eq!(run(&["measure"]).status.code(), Some(2));
    for line in [
        &["run", "hub-hop", "-d", "0s"][..],
        &["run", "hub-hop", "--corpus", "/nowhere"],
        &["run", "hub-hop", "--out", "/proc/nowhere"],
        &["run", "hub-hop", "--size", "4k,8k"],
        &["run", "hub-hop", "--shards", "1,2"],
        &["quickstart", "--shards", "1,2"],
        &["quickstart", "--corpus", "/nowhere"],
        &["targets", "--only", "T-nothing"],
        &["targets", "--grid", "--only", "T-hop"],
        &["targets", "--peers", "/nowhere"],
    ] {
        let done = run(line);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), said.lines().count()), (Some(2), 1), "{line:?}: {said}");
        assert!(said.starts_with("ringbench: "), "{said}");
    }
    assert_eq!(run(&["list"]).status.code(), Some(0));
}

#[test]
fn sweeps_go_through_what_they_are_told_and_say_how_fast() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let swept = |scenario: &str, words: &[&str], parts: &[&str]| {
        let out = folder.path().join(scenario);
        let line = ["run", scenario, "-r", "20/s", "-c", "2", "--out", out.to_str().expect("text")];
        let done = run(&[&line, words].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(matches!(done.status.code(), Some(0 | 3)), "{said}");
        let result: Value =
            serde_json::from_slice(&std::fs::read(out.join("result.json")).expect("kept")).expect("JSON");
        let names: Vec<_> = result["phases"].as_array().expect("a list").iter().map(|p| p["name"].clone()).collect();
        assert_eq!(names, parts);
        said
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            swept("payload-sweep", &["--size", "1k,100k", "-d", "500ms"], &["latency · 1 KiB", "latency · 100 KiB"])
        });
        let said = swept("shard-scaling", &["--shards", "2", "-d", "6s"], &["latency"]);
        assert!(said.contains("latency: ") && said.contains("/s answered, "), "{said}");
    });
}

#[test]
fn a_figure_that_could_not_be_measured_is_exit_3_and_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let done = run(&["targets", "--only", "T-hop-tls-100k", "--out", folder.path().to_str().expect("text")]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{said}");
    assert!(said.ends_with("ringbench: not measured, or not validly (each row says why): T-hop-tls-100k\n"), "{said}");
    let help = run(&["targets", "--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes: 0 what was measured holds"));
}

/// Folders of what is needed only while a run runs.
fn left_behind(out: &Path) -> Vec<std::ffi::OsString> {
    let all = std::fs::read_dir(out).expect("kept").flatten().map(|entry| entry.file_name());
    all.filter(|name| name.to_string_lossy().starts_with(".running")).collect()
}

#[test]
fn a_second_signal_ends_it_at_once_and_clears_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let mut run = long_run(&out);
    let pid = run.0.id().to_string();
    let kill = |args: &[&str]| assert!(Command::new("kill").args(args).status().expect("kill starts").success());
    // A sender that does not end keeps the run from winding up.
    let sender = pid_of(&out, " send -- ").expect("it runs");
    kill(&["-STOP", &sender]);
    assert_eq!(left_behind(&out).len(), 1);
    let until = Instant::now() + Duration::from_secs(20);
    let code = loop {
        // Signals near to the first are that one; a later one is the second.
        if let Some(status) = run.0.try_wait().expect("our child") {
            break status.code();
        }
        assert!(Instant::now() < until, "it did not end");
        // It may end while it is told.
        let _told = Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status();
        std::thread::park_timeout(Duration::from_millis(50));
    };
    assert_eq!((code, left_behind(&out)), (Some(130), Vec::new()));
    eventually("no component outlives the harness", || processes_naming(&out).is_empty());
}

#[test]
fn a_later_run_clears_up_behind_one_that_was_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let mut killed = long_run(&out);
    killed.0.kill().expect("it runs");
    killed.0.wait().expect("our child");
    eventually("no component outlives the harness", || processes_naming(&out).is_empty());
    assert_eq!(left_behind(&out).len(), 1, "nobody could");
    let done = run(&["targets", "--only", "T-hop-tls-100k", "--out", out.to_str().expect("text")]);
    assert_eq!((done.status.code(), left_behind(&out)), (Some(3), Vec::new()));
}

#[test]
fn an_interrupt_keeps_what_was_measured_and_leaves_nobody() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let mut run = long_run(&out);
    let pid = run.0.id().to_string();
    // As `timeout` does it: to the process, and to its group.
    assert!(Command::new("kill").args(["-INT", &pid, &pid]).status().expect("kill starts").success());
    let code = run.0.wait().expect("our child").code();
    assert_eq!(code, Some(3), "an interrupted run is not valid");
    let result: Value = serde_json::from_slice(&std::fs::read(out.join("result.json")).expect("kept")).expect("JSON");
    let reasons = result["validity"]["reasons"].as_array().expect("a list");
    assert!(reasons.contains(&"the run was interrupted".into()), "{reasons:?}");
    assert_eq!(result["pairs"]["lost"], 0);
    assert_eq!(processes_naming(&out), Vec::<String>::new());
}

#[test]
fn a_killed_harness_takes_its_components_along() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let mut run = long_run(&out);
    run.0.kill().expect("it runs");
    run.0.wait().expect("our child");
    eventually("no component outlives the harness", || processes_naming(&out).is_empty());
}
