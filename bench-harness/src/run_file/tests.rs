//! Plans as text and back, and texts that are no plans.

use super::*;
use crate::said::Said;
use crate::scenario::{ALL, quickstart};

fn plans() -> Vec<Plan> {
    let said = Said::default();
    let given = Said { rate_per_s: Some(0.1), seconds: Some(0.3), ..Said::default() };
    let named = [said.options(4, 1), given.options(4, 7)];
    let mut all: Vec<Plan> =
        named.iter().flat_map(|options| ALL.iter().map(|scenario| scenario.plan(options))).collect();
    all.push(quickstart(&said.engine(), &Content::OwnCorpus, 3));
    let mut bounded = quickstart(&said.engine(), &Content::Bytes(2), 3);
    bounded.parts[0].engine.memory_budget = Some(256 << 20);
    bounded.parts[0].engine.segment_bytes = Some(64 << 20);
    all.push(bounded);
    all
}

#[test]
fn every_plan_reads_back_as_it_was_and_is_written_again_as_it_stood() {
    for plan in plans() {
        let written = text(&plan).expect("plain data");
        let file = RunFile::of("run.toml".into(), written.clone()).unwrap_or_else(|error| panic!("{error}\n{written}"));
        assert_eq!(file.asked, Asked::Run(plan));
        let Asked::Run(again) = file.asked else { unreachable!("just compared") };
        assert_eq!(text(&again).expect("plain data"), written);
    }
}

fn pump() -> PumpPlan {
    PumpPlan {
        scenario: PUMP.into(),
        connections: 3,
        frame_bytes: 4096,
        seconds: 1.5,
        durability: "os".into(),
        driver: "auto".into(),
        shards: 1,
        answers: true,
        one_per_write: Some(16),
    }
}

#[test]
fn a_pump_reads_back_too() {
    let written = text(&pump()).expect("plain data");
    assert_eq!(RunFile::of("run.toml".into(), written).expect("ours").asked, Asked::Pump(pump()));
}

/// What is told of the failover with `from` replaced by `to`, and of line and column where `to` stands then.
fn told_of(plan: &str, from: &str, to: &str) -> (String, String) {
    assert!(plan.contains(from), "{from} in {plan}");
    let bent = plan.replacen(from, to, 1);
    let at = plan.find(from).unwrap_or_default();
    let key_only = to.split(" = ").next().map_or(0, |key| to.len().min(key.len() + 3));
    let (line, column) = position(&bent, at);
    let place = format!("run.toml:{line}:{}: ", if to.contains(" = ") { column + key_only } else { column });
    let error = RunFile::of("run.toml".into(), bent).expect_err(to);
    (error.to_string(), place)
}

/// Bad values are told with the place of the value, the key, and what would be right.
#[test]
fn a_bad_value_is_told_with_line_column_and_remedy() {
    let options = Said::default().options(2, 1);
    let plan = text(&crate::scenario::Scenario::find("failover-hub").expect("known").plan(&options)).expect("plain");
    for (from, to, told) in [
        ("connections = 50", "connections = 0", "parts[0].phases[0].connections: 0 connections cannot be; write 1 to"),
        ("connections = 50", "connections = \"many\"", "invalid type: string \"many\", expected a whole number"),
        ("connections = 50", "connections = -1", "expected a whole number"),
        ("seconds = 4.0", "seconds = 0.0", "parts[0].phases[0].seconds: 0 s cannot be measured; write 0.1 to"),
        ("seconds = 4.0", "seconds = nan", "cannot be measured"),
        ("warm_up_s = 0.8", "warm_up_s = -1.0", "write seconds, 0 or more"),
        ("in_flight = 1", "in_flight = 0", "transactions under way cannot be"),
        ("durability = \"disk\"", "durability = \"tape\"", "write \"none\", \"os\" or \"disk\""),
        ("shards = 1", "shards = 257", "parts[0].engine.shards: 257 shards cannot be; write 1 to 256"),
        ("scenario = \"failover-hub\"", "scenario = \"../up\"", "small letters, digits and hyphens"),
        (
            "entry = \"front-end\"",
            "entry = \"front\"",
            "nobody is called \"front\"; write one of sink-a, sink-b, hub-1",
        ),
        ("victim = \"hub-2\"", "victim = \"hub-3\"", "name a server or sink of this part, or \"nobody\""),
        ("pace = \"flat-out\"", "pace = \"flat\"", "unknown variant `flat`, expected one of `flat-out`, `per-second`"),
        ("name = \"hub-1\"", "name = \"run\"", "means something else here"),
        ("name = \"hub-1\"", "name = \"sink-a\"", "two are called"),
        ("name = \"probe\"", "name = \"a b\"", "is no name"),
        ("role = \"hub\"", "role = \"mailbox-delivery\"", "write next = []"),
        ("mailbox_every = 0", "mailbox_every = 5", "no hub has mailboxes"),
        ("share-of-probe = 0.5", "share-of-probe = 0.0", "write 0.5 for half"),
        ("share-of-probe = 0.5", "per-second = 1e12", "parts[0].phases[1].pace: "),
        ("is_main = false", "is_main = true", "two phases are the main one"),
        ("is_main = true", "is_main = false", "write is_main = true in one of them"),
        ("bytes = 4096", "bytes = 1", "parts[0].phases[0].content: 1 octets of a message cannot be; write 2 to"),
        ("fault_kind = \"hub\"", "fault_kind = \"\"", "is no name"),
    ] {
        let (error, place) = told_of(&plan, from, to);
        assert!(error.contains(told) && error.lines().count() == 1, "{to}: {error}");
        // What is told of a table, of a list or of two values names the place of one of them.
        if !["role", "share-of-probe", "per-second", "is_main", "bytes"].iter().any(|key| to.starts_with(key)) {
            assert!(error.starts_with(&place), "{to}: {error} is at {place}");
        }
    }
}

#[test]
fn unknown_keys_and_torn_files_are_told_with_their_place() {
    let options = Said::default().options(2, 1);
    let plan = text(&crate::scenario::Scenario::find("hub-hop").expect("known").plan(&options)).expect("plain");
    for (from, to, told) in [
        ("connections", "conections", "unknown field `conections`, expected one of `name`,"),
        ("seed", "sede", "unknown field `sede`, expected one of `scenario`, `seed`, `parts`"),
        ("durability", "duration", "unknown field `duration`, expected one of `durability`,"),
    ] {
        let (error, place) = told_of(&plan, from, to);
        assert!(error.contains(told) && error.starts_with(&place), "{to}: {error} is at {place}");
    }
    for (bent, told) in [
        (plan.replacen("seed = 1\n", "", 1), "missing field `seed`"),
        (plan.replacen("seed = 1", "seed = ", 1), "run.toml:3:8: "),
        (String::new(), "missing field `scenario`"),
        ("scenario = \"pump\"".to_owned(), "missing field `connections`"),
        (text(&PumpPlan { frame_bytes: 3, ..pump() }).expect("plain"), "frame_bytes: 3 octets of a frame cannot be"),
        (text(&PumpPlan { connections: 0, ..pump() }).expect("plain"), "run.toml:3:15: connections: 0 connections"),
    ] {
        let error = RunFile::of("run.toml".into(), bent).expect_err(told).to_string();
        assert!(error.contains(told) && error.lines().count() == 1, "{told}: {error}");
    }
}

#[test]
fn the_engines_bounds_are_looked_at_by_its_own_reader() {
    for (budget, segment, told) in
        [(Some(1), None, "parts[0].engine.memory_budget: "), (None, Some(5), "parts[0].engine.segment_bytes: ")]
    {
        let mut plan = quickstart(&Said::default().engine(), &Content::OwnCorpus, 3);
        (plan.parts[0].engine.memory_budget, plan.parts[0].engine.segment_bytes) = (budget, segment);
        let error = RunFile::of("run.toml".into(), text(&plan).expect("plain")).expect_err(told).to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn what_this_machine_cannot_do_is_told_of_the_file() {
    let mut plan = quickstart(&Said::default().engine(), &Content::Corpus("/nowhere/at/all".into()), 3);
    let file = RunFile::of("run.toml".into(), text(&plan).expect("plain")).expect("a plan all the same");
    let error = file.can_be_done().expect_err("nothing is there").to_string();
    assert!(error.starts_with("run.toml:") && error.contains("parts[0].phases[0].content: "), "{error}");
    plan.parts[0].engine.driver = "magic".into();
    let file = RunFile::of("run.toml".into(), text(&plan).expect("plain"));
    let error = file.and_then(|file| file.can_be_done()).expect_err("no driver").to_string();
    assert!(error.contains("parts[0].engine.driver: "), "{error}");
}

#[test]
fn what_is_no_text_or_no_file_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("run.toml");
    std::fs::write(&path, b"scenario = \"\xff\"").expect("written");
    let error = RunFile::read(&path).expect_err("not UTF-8").to_string();
    assert!(error.contains("run.toml:1:13: the file is not UTF-8 here"), "{error}");
    assert!(RunFile::read(folder.path()).expect_err("a folder").to_string().contains("directory"));
    let error = RunFile::read(Path::new("/dev/zero")).expect_err("without an end").to_string();
    assert!(error.contains("more than 4 MiB are no plan"), "{error}");
}
