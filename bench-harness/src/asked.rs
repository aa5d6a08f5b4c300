//! What a person asked for, looked at before anything is started: what cannot be done is said in one line, with what can.

use crate::exit::UsageError;
use crate::scenario::Scenario;
use loadgen::units::parse_span;
use loadgen::workload::corpus;
use std::path::{Path, PathBuf};

/// Less shows nothing.
const SECONDS_MIN: f64 = 0.1;

/// A measured time.
///
/// # Errors
/// It is no time, or too short.
pub fn seconds(text: &str) -> Result<f64, UsageError> {
    let seconds = parse_span(text).map_err(|error| UsageError(error.to_string()))?.as_secs_f64();
    if seconds < SECONDS_MIN {
        return Err(UsageError(format!("--duration {text}: too short to show anything; write 100ms or more, as 10s")));
    }
    Ok(seconds)
}

/// Mail to replay.
///
/// # Errors
/// It cannot be read, or there is none.
pub fn mail(path: &Path) -> Result<PathBuf, UsageError> {
    let remedy = "name a folder of .eml files, an .eml file or an mbox";
    corpus::read(path).map_err(|error| UsageError(format!("--{error}; {remedy}")))?;
    std::path::absolute(path).map_err(|error| UsageError(format!("--corpus {}: {error}", path.display())))
}

/// The folder of foreign tools.
///
/// # Errors
/// Nothing was unpacked there.
pub fn peers(folder: Option<&Path>) -> Result<(), UsageError> {
    match folder {
        Some(folder) if !folder.join("root").is_dir() => {
            let folder = folder.display();
            let remedy = format!("run `tests/peers/fetch {folder}` first");
            Err(UsageError(format!("--peers {folder}: nothing is unpacked there; {remedy}")))
        }
        _ => Ok(()),
    }
}

/// Options (and whether they were said) that a scenario has its own of.
///
/// # Errors
/// One of them was said.
pub fn nothing_of_its_own(scenario: &Scenario, said: &[(&str, bool)]) -> Result<(), UsageError> {
    match said.iter().find(|(option, is_said)| *is_said && scenario.own.contains(option)) {
        Some((option, _)) => {
            let text = format!("{} has its own {option}: leave it out, or take hub-hop", scenario.name);
            Err(UsageError(text))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_said_with_what_can() {
        let scenario = |name| Scenario::find(name).expect("a scenario");
        let own = |name, option| nothing_of_its_own(scenario(name), &[(option, true)]).map(|()| PathBuf::new());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nowhere = folder.path().join("nowhere");
        for (done, told) in [
            (seconds("0s").map(|_| PathBuf::new()), "--duration 0s: too short"),
            (seconds("soon").map(|_| PathBuf::new()), "write 10s"),
            (mail(&nowhere), "--corpus"),
            (mail(folder.path()), "name a folder of .eml files"),
            (peers(Some(&nowhere)).map(|()| PathBuf::new()), "tests/peers/fetch"),
            (own("payload-sweep", "--size"), "payload-sweep has its own --size: leave it out"),
            (own("payload-sweep", "--corpus"), "leave it out"),
            (own("shard-scaling", "--shards"), "leave it out"),
        ] {
            let error = done.expect_err(told).to_string();
            assert!(error.contains(told) && error.lines().count() == 1, "{error}");
        }
        assert_eq!(seconds("1500ms").expect("a time"), 1.5);
        own("hub-hop", "--size").expect("it has none of its own");
        peers(None).expect("not needed");
        std::fs::write(folder.path().join("one.eml"), "Subject: x\r\n\r\ny\r\n").expect("written");
        assert_eq!(mail(folder.path()).expect("there is mail"), folder.path());
    }
}
