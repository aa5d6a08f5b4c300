//! Load generator and harness where nothing more can be written: one line says what and where, what was measured is shown all
//! the same, and nothing ends by a signal.

use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tests::programs::{Build, ringbench, ringload, ringpost};
use tests::sink::{Offers, Sink};
use tests::small_disk::SmallDisk;

/// Takes no octet.
fn full() -> File {
    File::options().write(true).open("/dev/full").expect("a device of every Linux")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// The last line on stderr, which says why.
fn why(done: &Output) -> String {
    text(&done.stderr).lines().last().unwrap_or_default().to_owned()
}

fn small_disk(bytes: u64, test: &str) -> Option<SmallDisk> {
    SmallDisk::of(bytes).inspect_err(|why| tests::skip(test, why)).ok()
}

/// A second of mail to `target`, few of it.
fn send(target: &str, more: &[&str]) -> Command {
    let mut command = Command::new(ringload());
    command.args(["send", "--target", target, "-r", "200/s", "-d", "1s", "-c", "2"]).args(more);
    command
}

#[test]
fn what_is_printed_on_a_full_disk_ends_with_4_and_one_line() {
    for program in [ringpost(Build::Plain), ringload(), ringbench()] {
        for arguments in [&["completions", "bash"][..], &["man"]] {
            let done = Command::new(&program).args(arguments).stdout(full()).output().expect("it starts");
            let (said, name) = (text(&done.stderr), program.display());
            assert_eq!(done.status.code(), Some(4), "{name} {arguments:?}: {said}");
            assert!(said.lines().count() == 1 && said.contains("standard output: No space left"), "{name}: {said}");
        }
        // Nobody can be told, and it ends as it would.
        let unknown = Command::new(&program).arg("explode").stderr(full()).status().expect("it starts");
        assert_eq!(unknown.code(), Some(2), "{}", program.display());
    }
}

#[test]
fn a_result_folder_on_a_full_disk_costs_no_figure() {
    let Some(disk) = small_disk(8 << 10, "a_result_folder_on_a_full_disk_costs_no_figure") else { return };
    let sink = Sink::start(Offers { chunking: true });
    let out = disk.path().join("result");
    let folder = out.to_str().expect("a plain name");
    let done = send(&sink.address().to_string(), &["--out", folder]).output().expect("it starts");
    let (shown, why) = (text(&done.stdout), why(&done));
    assert_eq!(done.status.code(), Some(4), "{why}");
    assert!(why.starts_with(&format!("ringload: cannot write {folder}/")) && why.contains("No space left"), "{why}");
    assert!(shown.contains("200 accepted") && shown.contains("response   p50"), "{shown}");
    let result: Value =
        serde_json::from_slice(&std::fs::read(out.join("result.json")).expect("it came first")).expect("whole");
    assert_eq!(result["messages"]["accepted"], 200);
    assert!(!out.join("timeline.csv").exists(), "what found no room is not left in part");
}

#[test]
fn figures_that_find_no_room_on_stdout_are_shown_on_stderr() {
    let sink = Sink::start(Offers { chunking: true });
    let at = sink.address().to_string();
    for json in [&[][..], &["--json"]] {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("result");
        let more = [json, &["--out", out.to_str().expect("a plain name")]].concat();
        let done = send(&at, &more).stdout(full()).output().expect("it starts");
        assert_eq!(done.status.code(), Some(4));
        assert_eq!(why(&done), "ringload: cannot write standard output: No space left on device (os error 28)");
        assert!(text(&done.stderr).contains("response   p50"), "{}", text(&done.stderr));
        assert!(out.join("result.json").exists(), "the folder has it all the same");
    }
    let unseen = send(&at, &["--json"]).stderr(full()).output().expect("it starts");
    let result: Value = serde_json::from_slice(&unseen.stdout).expect("one document");
    assert_eq!(result["messages"]["accepted"], 200);
    // What people would have read is missed by nobody who asked for JSON; on a busy machine the figures may not be valid.
    assert!(matches!(unseen.status.code(), Some(0 | 3)), "{:?}", unseen.status);
}

/// A sink that is killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

#[test]
fn a_sink_whose_ledger_finds_no_room_shows_what_it_counted() {
    let mut command = Command::new(ringload());
    command.args(["sink", "--listen", "127.0.0.1:0", "--ledger", "/dev/full"]);
    let mut sink = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let mut out = BufReader::new(sink.0.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a first line");
    let ready: Value = serde_json::from_str(line.trim_start_matches("ready ")).expect("JSON");
    let sent = send(ready["listen"][0].as_str().expect("an address"), &["-n", "50"]).output().expect("it starts");
    assert!(text(&sent.stdout).contains("50 accepted"), "{}", text(&sent.stdout));
    let pid = rustix::process::Pid::from_raw(sink.0.id().cast_signed()).expect("it runs");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
    let (mut counted, mut said) = (String::new(), String::new());
    out.read_to_string(&mut counted).expect("text");
    sink.0.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(sink.0.wait().expect("it ends").code(), Some(4), "{said}");
    assert!(counted.contains("50 messages for 50 recipients"), "{counted}");
    assert_eq!(said, "ringload: cannot write ledger /dev/full: No space left on device (os error 28)\n");
}

/// Load straight into a sink: no spool takes part of the disk.
fn bench(out: &Path) -> Command {
    let mut command = Command::new(ringbench());
    command.args(["run", "sink-only", "-r", "200/s", "-d", "1s", "-c", "2", "--out"]).arg(out);
    command
}

#[test]
fn the_harness_shows_what_it_measured_when_its_folder_is_full() {
    let name = "the_harness_shows_what_it_measured_when_its_folder_is_full";
    // Room for what the sender wrote down, not for the report.
    let Some(disk) = small_disk(72 << 10, name) else { return };
    let out = disk.path().join("result");
    let done = bench(&out).output().expect("it starts");
    let (shown, why) = (text(&done.stdout), why(&done));
    assert_eq!(done.status.code(), Some(4), "{why}");
    let folder = out.display();
    assert!(why.starts_with(&format!("ringbench: writing {folder}/")) && why.contains("No space left"), "{why}");
    assert!(shown.contains("sink-only") && shown.contains("response"), "{shown}");
    assert!(!shown.contains("report.html"), "there is none: {shown}");
}

#[test]
fn a_component_that_finds_no_room_is_named_with_its_file() {
    // Not even what the sender wrote down.
    let Some(disk) = small_disk(12 << 10, "a_component_that_finds_no_room_is_named_with_its_file") else { return };
    let out = disk.path().join("result");
    let done = bench(&out).output().expect("it starts");
    let (said, why) = (text(&done.stderr), why(&done));
    assert_eq!(done.status.code(), Some(4), "{said}");
    assert!(why.starts_with("ringbench: load ended with exit status: 4; its last words: "), "{said}");
    assert!(why.contains("sent-1: No space left"), "{said}");
}

#[test]
fn a_harness_whose_log_is_full_measures_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("result");
    let done = bench(&out).stderr(full()).output().expect("it starts");
    // Never valid (3) where it is built for debugging.
    assert!(matches!(done.status.code(), Some(0 | 3)), "{:?}", done.status);
    assert!(text(&done.stdout).contains("report.html"), "{}", text(&done.stdout));
    assert!(out.join("report.html").exists());
}
