//! `ringload` as a person or a script uses it.

#![forbid(unsafe_code)]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

fn ringload(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringload"));
    command.args(arguments).env("NO_COLOR", "1");
    command
}

fn output(arguments: &[&str]) -> Output {
    ringload(arguments).output().expect("the program is there")
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
}

/// A process that is killed with the test.
struct Owned(Child);

impl Owned {
    fn start(arguments: &[&str]) -> Self {
        Self(ringload(arguments).stdout(Stdio::piped()).spawn().expect("the program is there"))
    }

    fn out(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().expect("piped"))
    }

    /// Ends it by SIGTERM; gives its exit code and the rest of what it printed.
    fn stop(mut self, mut out: impl Read) -> (Option<i32>, String) {
        // As `timeout` does it: to the process, and to its group.
        terminate(&self.0);
        terminate(&self.0);
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("text");
        (self.0.wait().expect("it ends").code(), rest)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

struct Sink {
    process: Owned,
    out: Box<dyn BufRead>,
    at: String,
    admin: String,
}

impl Sink {
    fn start(more: &[&str]) -> Self {
        let mut arguments = vec!["sink", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        arguments.extend_from_slice(more);
        let mut process = Owned(
            ringload(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program is there"),
        );
        let mut out: Box<dyn BufRead> = Box::new(process.out());
        let mut words = BufReader::new(process.0.stderr.take().expect("piped"));
        let mut line = String::new();
        // One document on stdout is all that is there with --json.
        if more.contains(&"--json") { words.read_line(&mut line) } else { out.read_line(&mut line) }
            .expect("a first line");
        let ready: Value = serde_json::from_str(line.strip_prefix("ready ").expect("it says ready")).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Self { at: text(&ready["listen"][0]), admin: text(&ready["admin"]), process, out }
    }

    fn stop(self) -> (Option<i32>, String) {
        self.process.stop(self.out)
    }
}

#[test]
fn wrong_input_is_exit_2_with_a_line_that_says_what_is_right() {
    for (arguments, says) in [
        (&["send"][..], "--target"),
        (&["send", "--target", "127.0.0.1:1"], "--rate"),
        (&["send", "--target", "127.0.0.1:1", "-r", "fast"], "500/s"),
        (&["send", "--target", "nowhere", "-r", "5"], "HOST:PORT"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--size", "9k..4k"], "upward"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--corpus", "no/such/folder"], "no/such/folder"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "-n", "0"], "above 0"),
        (&["send", "--target", "127.0.0.1:1", "--closed", "-n", "0"], "above 0"),
        (&["send", "--target", "127.0.0.1:1", "--closed", "-d", "0s"], "above 0"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--corpus", "no/such"], "name a folder of .eml files"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "-c", "0"], "at least 1"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--out", "/proc/no/folder"], "/proc/no/folder"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--stage", "5/s:1s"], "cannot be used with"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--driver", "magic"], "epoll"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--to", "nobody"], "user@dest.test"),
        (&["sink"], "--listen"),
        (&["sink", "--listen", "here"], "here"),
        (&["sink", "--listen", "127.0.0.1:0", "--fault", "eod:explode"], "take+close"),
        (&["sink", "--listen", "127.0.0.1:0", "--fault", "auth:stall"], "TLS"),
        (&["sink", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:1"], "loopback"),
        (&["sink", "--listen", "192.0.2.1:1"], "192.0.2.1:1"),
        (&["sink", "--listen", "127.0.0.1:0", "--name", "a b"], "write one as sink.test"),
        (&["sink", "--listen", "127.0.0.1:0", "--ledger", "/nonexistent/l"], "name a file that may be written"),
        (&["sink", "--listen", "127.0.0.1:0", "--admin", "unix:"], "unix:PATH"),
        (&["sink", "--listen", "127.0.0.1:0", "--cores", "100000"], "write some of "),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--cores", "x"], "write some of "),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--name", "a\r\nQUIT"], "write one as ringload.test"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--from-domain", "a b"], "write one as load.test"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--durability", "stone"], "disk+replica"),
        (&["send", "--target", "127.0.0.1:1", "-r", "5", "--corpus", "/dev/zero"], "neither a folder"),
        (&["explode"], "explode"),
    ] {
        let ended = output(arguments);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(says) && ended.stdout.is_empty(), "{arguments:?}: {said}");
    }
}

#[test]
fn what_is_not_there_is_told_with_what_to_do() {
    let nobody = ["send", "--target", "127.0.0.1:1", "-r", "5", "--connect-wait", "10ms"];
    let no_sink = ["send", "--target", "127.0.0.1:1", "-r", "5", "--sink-admin", "unix:/nonexistent"];
    for (arguments, says) in
        [(&nobody[..], "start a server there"), (&no_sink[..], "start the sink with --admin there")]
    {
        let ended = output(arguments);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), said.contains(says)), (Some(4), true), "{arguments:?}: {said}");
    }
}

/// Two of them at one address would each take a part of the mail, and neither would know.
#[test]
fn a_second_sink_at_an_address_is_refused() {
    let first = Sink::start(&[]);
    let mut second = Owned::start(&["sink", "--listen", &first.at]);
    let mut said = String::new();
    second.out().read_line(&mut said).expect("text, or the end");
    assert_eq!(said, "", "it is not ready");
    assert_eq!(second.0.wait().expect("it ends").code(), Some(2));
    assert_eq!(first.stop().0, Some(0));
}

#[test]
fn a_switch_in_the_environment_is_said_as_people_say_it() {
    for (said, code, json) in [("1", 0, true), ("yes", 0, true), ("0", 0, false), ("maybe", 2, false)] {
        let sink = Sink::start(&[]);
        let mut send = ringload(&["send", "--target", &sink.at, "--closed", "-n", "5", "-c", "1"]);
        let ended = send.env("RINGLOAD_JSON", said).output().expect("the program is there");
        let text = String::from_utf8_lossy(&ended.stderr);
        // The measurement may not be valid (3) on a slow machine.
        assert!(ended.status.code() == Some(code) || code == 0 && ended.status.code() == Some(3), "{said}: {text}");
        assert_eq!(ended.stdout.starts_with(b"{"), json, "{said}: {text}");
        assert_eq!(sink.stop().0, Some(0));
    }
}

#[test]
fn a_sink_that_is_gone_at_the_end_takes_its_accounts_along_and_no_figures() {
    let sink = Sink::start(&[]);
    let base =
        ["send", "--target", &sink.at, "--closed", "-n", "5", "-c", "1", "--json", "--sink-ledger", "/nonexistent/l"];
    let ended = output(&base);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("/nonexistent/l"), "{said}");
    let result = json(&ended);
    assert_eq!((&result["messages"]["accepted"], &result["pairs"]["delivered"]), (&5.into(), &Value::Null));
    assert_eq!(sink.stop().0, Some(0));
}

/// Who asked no sink knows what was answered, and nothing of what became of it: that is `null`, and said in words.
#[test]
fn p_052_without_a_sink_what_became_of_messages_is_null() {
    let sink = Sink::start(&[]);
    let ended = output(&["send", "--target", &sink.at, "--closed", "-n", "5", "-c", "1", "--json"]);
    let pairs = &json(&ended)["pairs"];
    let whole = serde_json::to_value(loadgen::correlate::Accounts::default()).expect("plain data");
    let known = ["intended", "rejected", "deferred", "unknown"];
    for key in whole.as_object().expect("a table").keys().filter(|key| *key != "duplicated") {
        let value = pairs.get(key).unwrap_or_else(|| panic!("{key} is missing: {pairs}"));
        assert_eq!(value.is_null(), !known.contains(&key.as_str()), "{key}: {pairs}");
    }
    assert!(pairs["duplicated"]["W1"].is_null() && pairs["intended"] == 5, "{pairs}");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("no sink was asked"), "{said}");
    assert_eq!(sink.stop().0, Some(0));
}

#[test]
fn a_target_that_is_not_there_is_exit_4() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("bound").to_string();
    drop(taken);
    let ended = output(&["send", "--target", &at, "-r", "5", "-c", "1", "--connect-wait", "300ms"]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(4), "{said}");
    assert!(said.contains(&at), "{said}");
}

fn json(ended: &Output) -> Value {
    let said = String::from_utf8_lossy(&ended.stderr);
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn a_run_leaves_its_figures_in_json_and_in_a_folder() {
    let sink = Sink::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("result");
    let out_text = out.to_str().expect("a plain name");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/plain.eml");
    let arguments = [
        "send",
        "--target",
        &sink.at,
        "--stage",
        "200/s:300ms",
        "--stage",
        "300/s:300ms",
        "-w",
        "100ms",
        "-c",
        "2",
        "--corpus",
        corpus.to_str().expect("a plain name"),
        "--recipients",
        "2",
        "--sink-admin",
        &sink.admin,
        "--out",
        out_text,
        "--json",
        "--durability",
        "none",
    ];
    let ended = output(&arguments);
    let result = json(&ended);
    // A slow machine may make the run invalid; its accounts are right in any case.
    assert!(matches!(ended.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(result["schema"], 1);
    assert_eq!(result["pairs"]["intended"], 300);
    assert_eq!(result["pairs"]["delivered"], 300);
    assert_eq!(result["pairs"]["content_differs"], 0);
    assert_eq!(result["messages"]["intended"], 130);
    assert_eq!(result["durability"], "none");
    assert_eq!(result["git"].as_str(), engine::app::program::GIT, "the commit that it was built from");
    let names: Vec<&str> =
        result["phases"].as_array().expect("phases").iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["warm-up", "stage-1 200/s", "stage-2 300/s", "main"]);
    for key in
        ["git", "host", "rate", "latency_us", "cpu_us_per_message", "syscalls_per_message", "validity", "limited_by"]
    {
        assert!(result.get(key).is_some(), "{key}");
    }
    for time in ["response", "service", "delivery"] {
        assert!(result["latency_us"][time]["p99"].as_f64().is_some_and(|us| us > 0.0), "{time}");
    }
    let files = ["result.json", "run.toml", "timeline.csv", "latency-response.hlog", "latency-response.hgrm"];
    for file in files.into_iter().chain(["latency-service.hgrm", "latency-delivery.hgrm"]) {
        assert!(std::fs::metadata(out.join(file)).is_ok_and(|file| file.len() > 0), "{file}");
    }
    let timeline = std::fs::read_to_string(out.join("timeline.csv")).expect("text");
    let intended: u64 = timeline.lines().skip(1).filter_map(|line| line.split(',').nth(1)?.parse::<u64>().ok()).sum();
    assert_eq!(intended, 150);
    let delivered: u64 = timeline.lines().skip(1).filter_map(|line| line.split(',').nth(7)?.parse::<u64>().ok()).sum();
    assert_eq!(delivered, 150);
    let (code, rest) = sink.stop();
    assert_eq!(code, Some(0));
    assert!(rest.contains("150 messages for 300 recipients"), "{rest}");
}

/// Somebody whose every message is refused reads why.
#[test]
fn what_the_server_said_to_it_is_in_the_summary() {
    let sink = Sink::start(&[
        "--fault",
        "mail:reply 554 5.7.1 not from you;first=3",
        "--fault",
        "rcpt:reply 452 4.2.2 full;after=3",
    ]);
    let words = ["send", "--target", &sink.at, "--closed", "-n", "5", "-c", "1", "--chunking", "data"];
    let ended = output(&[&words[..], &["--json"]].concat());
    let (said, told) = (json(&ended), String::from_utf8_lossy(&ended.stderr).into_owned());
    assert_eq!(said["first_refusal"], "554 5.7.1 not from you", "{told}");
    assert_eq!((&said["not_accepted"]["554"], &said["messages"]["accepted"]), (&3.into(), &0.into()), "{told}");
    let line = told.lines().find(|line| line.starts_with("refused ")).expect("a line of it");
    assert!(line.starts_with("refused    ") && line.contains("3 messages by 554"), "{line}");
    assert!(line.contains(" by 452") && line.ends_with("; the first reply: 554 5.7.1 not from you"), "{line}");
    sink.stop();

    let closed = Sink::start(&["--fault", "banner:reply 554 5.3.2 no service today"]);
    let ended = output(&["send", "--target", &closed.at, "--closed", "-n", "5", "--connect-wait", "300ms"]);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(4), "{told}");
    assert!(told.contains(": it said 554 5.3.2 no service today"), "{told}");
    closed.stop();
}

/// The folder's run.toml makes the same run, but for what is said beside it.
#[test]
fn a_run_is_repeated_from_its_folder() {
    let (first, second) = (Sink::start(&[]), Sink::start(&[]));
    let folder = tempfile::tempdir().expect("a folder");
    let out = |name: &str| folder.path().join(name).to_str().expect("a plain name").to_owned();
    let words =
        ["--target", &first.at, "--stage", "200/s:100ms,300/s:100ms", "-c", "2", "--to", "a{1..9}@b.test", "--poisson"];
    let one =
        output(&[&["send", "--out", &out("one"), "--json", "--seed", "7", "--recipients", "2"][..], &words].concat());
    let file = out("one/run.toml");
    let two = output(&["send", "--run", &file, "--target", &second.at, "--out", &out("two"), "--json"]);
    for ended in [&one, &two] {
        // A slow machine may make a run invalid; what was to be sent is the same in any case.
        assert!(matches!(ended.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(json(ended)["pairs"]["intended"], json(&one)["pairs"]["intended"]);
    }
    let said = |name: &str| {
        let text = std::fs::read_to_string(out(name)).expect("kept");
        text.lines().filter(|line| !line.starts_with("# ringload ")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(said("two/run.toml"), said("one/run.toml").replace(&first.at, &second.at));

    std::fs::write(&file, "target = \"127.0.0.1:2525\"\nrate = \"fast\"\n").expect("written");
    let ended = output(&["send", "--run", &file]);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(told.starts_with(&format!("ringload: {file}:2:8: invalid value 'fast' for '--rate <RATE>': ")), "{told}");
    assert_eq!((first.stop().0, second.stop().0), (Some(0), Some(0)));
}

#[test]
fn thresholds_and_invalid_runs_have_codes_of_their_own() {
    let sink = Sink::start(&["--fault", "eod:delay 20ms"]);
    let slow = output(&["send", "--target", &sink.at, "--closed", "-n", "20", "-c", "1", "--max-p99", "10ms"]);
    let said = String::from_utf8_lossy(&slow.stderr);
    assert_eq!(slow.status.code(), Some(99), "{said}");
    assert!(said.contains("threshold: service p99 "), "{said}");
    // One connection carries at most 50 a second: far from what is offered.
    let short = output(&["send", "--target", &sink.at, "-r", "500", "-d", "400ms", "-c", "1", "--drain", "30s"]);
    let said = String::from_utf8_lossy(&short.stdout);
    assert_eq!(short.status.code(), Some(3), "{said}");
    assert!(said.starts_with("INVALID: achieved"), "{said}");
    assert_eq!(sink.stop().0, Some(0));
}

/// A closed loop that a number of messages ends has no schedule: it took as long as it took.
#[test]
fn so_many_messages_in_turn_take_as_long_as_they_take() {
    let sink = Sink::start(&[]);
    let ended = output(&["send", "--target", &sink.at, "--closed", "-n", "50", "-c", "2", "--json"]);
    assert_eq!(ended.status.code(), Some(0));
    let achieved = json(&ended)["rate"]["achieved_per_s"].as_f64().expect("a rate");
    // 50 in a day would be far below.
    assert!(achieved > 0.1, "{achieved}");
    sink.stop();
}

/// Who waits for each answer is not told that there was none, because the time was over before the first.
#[test]
fn what_was_acknowledged_behind_the_schedule_was_acknowledged() {
    let sink = Sink::start(&["--fault", "eod:delay 500ms"]);
    let ended = output(&["send", "--target", &sink.at, "--closed", "-d", "200ms", "-c", "1", "--json"]);
    let result = json(&ended);
    assert_eq!((&result["messages"]["accepted"], &result["rate"]["achieved_per_s"]), (&1.into(), &0.0.into()));
    assert_eq!(result["validity"]["reasons"], serde_json::json!([]));
    assert_eq!(ended.status.code(), Some(0));
    sink.stop();
}

/// No message of a closed loop is due before its turn comes: what its times count from is their beginning, and they are called so.
#[test]
fn a_closed_loop_has_a_service_time_and_no_response_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let sink = Sink::start(&[]);
    for (loop_of, is_open) in
        [(&["--closed"][..], false), (&["--closed", "-r", "500/s"], false), (&["-r", "500/s"], true)]
    {
        let out = out(&loop_of.len().to_string());
        let words = ["send", "--target", &sink.at, "--sink-admin", &sink.admin, "-n", "50", "--json", "--out", &out];
        let ended = output(&[&words[..], loop_of].concat());
        let said = String::from_utf8_lossy(&ended.stderr);
        let result = json(&ended);
        for times in [&result["latency_us"], &result["phases"][0]["latency_us"]] {
            assert!(times["service"]["p99"].is_f64(), "{loop_of:?}: {times}");
            assert_eq!(times["response"]["p99"].is_f64(), is_open, "{loop_of:?}: {times}");
        }
        assert_eq!(result["latency_us"]["delivery"]["p99"].is_f64(), is_open, "{loop_of:?}: {result}");
        assert_eq!((said.contains("\nresponse "), said.contains("\nservice ")), (is_open, true), "{said}");
        for name in ["latency-response.hgrm", "latency-response.hlog", "latency-delivery.hgrm"] {
            assert_eq!(Path::new(&out).join(name).exists(), is_open, "{loop_of:?}: {name}");
        }
        let timeline = std::fs::read_to_string(Path::new(&out).join("timeline.csv")).expect("kept");
        let cells = timeline.lines().skip(1).flat_map(|line| line.split(',').nth(8));
        assert_eq!(cells.filter(|cell| !cell.is_empty()).count() > 0, is_open, "{loop_of:?}: {timeline}");
        std::fs::remove_dir_all(&out).expect("ours");
    }
    sink.stop();
}

/// What a sink took before is nobody's of this run; and what was acknowledged and never came makes a run one that shows nothing.
#[test]
fn a_sink_that_was_used_before_counts_anew_and_what_does_not_arrive_is_said() {
    let sink = Sink::start(&[]);
    for _ in 0..2 {
        let admin = ["--sink-admin", &sink.admin];
        let ended =
            output(&[&["send", "--target", &sink.at, "-r", "100/s", "-n", "20", "--json"][..], &admin].concat());
        assert_eq!(json(&ended)["pairs"]["delivered"], 20);
    }
    // Its accounts are asked of a sink that gets none of it.
    let other = Sink::start(&[]);
    let ended = output(&[
        "send",
        "--target",
        &sink.at,
        "-r",
        "100/s",
        "-n",
        "20",
        "--json",
        "--drain",
        "1s",
        "--sink-admin",
        &other.admin,
    ]);
    assert_eq!((ended.status.code(), &json(&ended)["pairs"]["lost"]), (Some(3), &20.into()));
    assert!(
        json(&ended)["validity"]["reasons"]
            .to_string()
            .contains("20 recipients were acknowledged and are not at the sink")
    );
    sink.stop();
    other.stop();
}

/// Nobody failed who could have doubled them: no figure of such a run shows what it says it does.
#[test]
fn copies_that_nothing_explains_make_a_run_not_valid() {
    let sink = Sink::start(&[]);
    // Asked twice, it tells of every message twice.
    let admins = ["--sink-admin", &sink.admin, "--sink-admin", &sink.admin];
    let ended = output(&[&["send", "--target", &sink.at, "-r", "100/s", "-n", "20", "--json"][..], &admins].concat());
    let result = json(&ended);
    assert_eq!((ended.status.code(), &result["pairs"]["duplicated"]["unattributed"]), (Some(3), &20.into()));
    let reasons = result["validity"]["reasons"].to_string();
    assert!(reasons.contains("20 surplus copies lie in no window"), "{reasons}");
    sink.stop();
}

#[test]
fn a_file_where_the_admin_socket_is_to_be_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("important");
    std::fs::write(&file, "text").expect("ours");
    let admin = format!("unix:{}", file.display());
    let ended = output(&["sink", "--listen", "127.0.0.1:0", "--admin", &admin]);
    assert!(!ended.status.success());
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "text");
}

#[test]
fn a_terminated_sender_prints_what_it_measured() {
    let sink = Sink::start(&["--json"]);
    let arguments = ["send", "--target", &sink.at, "-r", "200", "-d", "10m", "--json", "--sink-admin", &sink.admin];
    let mut sender = Owned::start(&arguments);
    let out = sender.out();
    let admin = sink.admin.parse().expect("an address");
    let mut client = loadgen::sink::admin::AdminClient::connect(&admin).expect("it listens");
    while client.counts().expect("counts").messages < 20 {
        std::thread::yield_now();
    }
    let (_, result) = sender.stop(out);
    let result: Value = serde_json::from_str(&result).expect("JSON");
    let (intended, delivered) = (&result["pairs"]["intended"], &result["pairs"]["delivered"]);
    assert!(intended.as_u64().is_some_and(|intended| intended >= 20) && intended == delivered, "{result}");
    let (code, rest) = sink.stop();
    assert_eq!(code, Some(0));
    let counts: Value = serde_json::from_str(&rest).expect("JSON");
    assert_eq!(&counts["messages"], delivered);
}

#[test]
fn it_documents_itself() {
    for (arguments, says) in [
        (&["--version"][..], engine::app::program::FULL_VERSION),
        (&["send", "--help"], "Examples:"),
        (&["sink", "--help"], "take+close"),
        (&["completions", "bash"], "complete -F"),
        (&["man"], ".TH ringload"),
    ] {
        let ended = output(arguments);
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
        assert!(String::from_utf8_lossy(&ended.stdout).contains(says), "{arguments:?}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().to_str().expect("a plain name");
    assert_eq!(output(&["man", "--out", to]).status.code(), Some(0));
    assert!(folder.path().join("ringload-send.1").exists());
}
