//! What a person asked for, looked at before anything is started: what cannot be done is said in one line, with what can.

use crate::exit::UsageError;
use crate::scenario::{ALL, Scenario};
use engine::io::choice::DriverChoice;
use engine::io::launch::choose;
use loadgen::units::{Rate, parse_bytes, parse_span};
use loadgen::workload::corpus;
use std::path::{Path, PathBuf};

/// Less shows nothing.
pub(crate) const SECONDS_MIN: f64 = 0.1;
/// A message has an end of line.
pub(crate) const MESSAGE_BYTES_MIN: u64 = 2;
/// What profile `bench` takes.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 128 << 20;

/// A measured time.
///
/// # Errors
/// It is no time, or too short.
pub fn seconds(text: &str) -> Result<f64, UsageError> {
    let seconds = parse_span(text).map_err(|error| UsageError(format!("--duration {error}")))?.as_secs_f64();
    if seconds < SECONDS_MIN {
        return Err(UsageError(format!("--duration {text}: too short to show anything; write 100ms or more, as 10s")));
    }
    Ok(seconds)
}

/// Octets of a message.
///
/// # Errors
/// It is no size, or none that a message has.
pub fn size(text: &str) -> Result<u64, UsageError> {
    let bytes = parse_bytes(text).map_err(|error| UsageError(format!("--size {error}")))?;
    if (MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(UsageError(format!("--size {text}: a message has {MESSAGE_BYTES_MIN} octets to 128 MiB; write 4k or 100k")))
    }
}

/// The one value of an option, if it was said.
///
/// # Errors
/// Several were.
pub fn one<T: Copy>(option: &str, said: &[T]) -> Result<Option<T>, UsageError> {
    match said {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => {
            let goes_through = ALL.iter().find(|scenario| scenario.several.contains(&option));
            let who = goes_through.map_or("no scenario", |scenario| scenario.name);
            Err(UsageError(format!("{option}: {} values; say one ({who} goes through several)", several.len())))
        }
    }
}

/// An open loop's rate.
///
/// # Errors
/// It is no rate.
pub fn rate_per_s(text: &str) -> Result<f64, UsageError> {
    text.parse::<Rate>().map(Rate::as_f64).map_err(|error| UsageError(format!("--rate {error}")))
}

/// The engine's driver, before a process of it says so.
///
/// # Errors
/// It was named, and is refused here.
pub fn driver(name: &str) -> Result<(), UsageError> {
    let choice = name.parse::<DriverChoice>().map_err(|error| UsageError(format!("--driver: {error}")))?;
    choose(choice).map(drop).map_err(|error| UsageError(error.to_string()))
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
            (size("1").map(|_| PathBuf::new()), "--size 1: a message has 2 octets to 128 MiB; write"),
            (size("1G").map(|_| PathBuf::new()), "--size 1G: a message has"),
            (size("much").map(|_| PathBuf::new()), "--size `much` is not a size"),
            (rate_per_s("fast").map(|_| PathBuf::new()), "--rate `fast` is not a rate: write 500/s"),
            (driver("magic").map(|()| PathBuf::new()), "uring, tokio-uring or epoll"),
            (mail(Path::new("/dev/zero")), "neither a folder"),
            (mail(&nowhere), "--corpus"),
            (mail(folder.path()), "name a folder of .eml files"),
            (peers(Some(&nowhere)).map(|()| PathBuf::new()), "tests/peers/fetch"),
            (own("payload-sweep", "--corpus"), "payload-sweep has its own --corpus: leave it out"),
            (
                one("--size", &[1, 2]).map(|_| PathBuf::new()),
                "--size: 2 values; say one (payload-sweep goes through several)",
            ),
            (one("--shards", &[1, 2]).map(|_| PathBuf::new()), "say one (shard-scaling goes"),
        ] {
            let error = done.expect_err(told).to_string();
            assert!(error.contains(told) && error.lines().count() == 1, "{error}");
        }
        assert_eq!(seconds("1500ms").expect("a time"), 1.5);
        own("hub-hop", "--size").expect("it has none of its own");
        peers(None).expect("not needed");
        driver("auto").expect("there always is one");
        std::fs::write(folder.path().join("one.eml"), "Subject: x\r\n\r\ny\r\n").expect("written");
        assert_eq!(mail(folder.path()).expect("there is mail"), folder.path());
    }
}
