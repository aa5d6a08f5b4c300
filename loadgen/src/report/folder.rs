//! The result folder of `--out DIR` (README.md, "Reading a result").

use super::result::Document;
use crate::correlate::{Correlation, first_arrivals, with_delivery};
use crate::ledger::Delivery;
use crate::record::histogram::Times;
use crate::record::timeline::{self, Intervals};
use crate::record::{MessageRecord, hlog};
use crate::send::Outcome;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A folder that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}", path = .path.display())]
pub struct FolderError {
    path: PathBuf,
    error: io::Error,
}

/// Makes `folder` if it is not there: what cannot be written is better known before a run than after it.
///
/// # Errors
/// When it cannot be made.
pub fn make(folder: &Path) -> Result<(), FolderError> {
    fs::create_dir_all(folder).map_err(|error| FolderError { path: folder.to_owned(), error })
}

/// Writes everything a run left behind into `folder`, which is made if it is not there. `arrived` is what sinks said, if they
/// were asked; `run_toml` is how to run it again.
/// A file that finds no room is not left in part, and keeps no other from being written.
///
/// # Errors
/// The first file that could not be written.
pub fn write(
    folder: &Path,
    sent: &Outcome,
    arrived: Option<(&Correlation, &[Delivery])>,
    document: &Document,
    run_toml: &str,
) -> Result<(), FolderError> {
    make(folder)?;
    let main = document.main();
    let is_open = main.is_open;
    let mut written = file(folder, "result.json", |into| {
        serde_json::to_writer_pretty(&mut *into, document)?;
        writeln!(into)
    });
    written = written.and(file(folder, "run.toml", |into| into.write_all(run_toml.as_bytes())));
    written = written.and(file(folder, "timeline.csv", |into| {
        let first = first_arrivals(&sent.sent(), arrived.map(|(_, ledger)| ledger));
        let timeline = timeline::timeline(with_delivery(&sent.sent(), &first));
        let timeline = if is_open { timeline } else { timeline.of_closed_loop() };
        timeline::write_csv(into, &timeline, arrived.is_some())
    }));
    let time: fn(&MessageRecord) -> u64 = if is_open { MessageRecord::response_us } else { MessageRecord::service_us };
    let what = if is_open { "response" } else { "service" };
    written = written.and(file(folder, &format!("latency-{what}.hlog"), |into| {
        let intervals = Intervals::of_times(sent.all_records(), time);
        let began = SystemTime::now() - sent_ago(sent);
        hlog::write(into, &intervals, began, &format!("{what} time in microseconds"))
    }));
    let distributions = [
        ("latency-response.hgrm", is_open.then_some(&main.figures.response)),
        ("latency-service.hgrm", Some(&main.figures.service)),
        ("latency-delivery.hgrm", arrived.filter(|_| is_open).map(|(joined, _)| &joined.delivery_main)),
    ];
    for (name, times) in distributions {
        if let Some(times) = times.filter(|times: &&Times| times.count() > 0) {
            written = written.and(file(folder, name, |into| times.write_hgrm(into)));
        }
    }
    written
}

fn sent_ago(sent: &Outcome) -> Duration {
    Duration::from_nanos(crate::clock::monotonic().since(sent.started).0)
}

fn file(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), FolderError> {
    let path = folder.join(name);
    let written = File::create(&path).and_then(|file| {
        let mut into = BufWriter::new(file);
        let written = write(&mut into).and_then(|()| into.flush());
        // Half of it would be taken for all of it.
        written.inspect_err(|_| drop(fs::remove_file(&path)))
    });
    written.map_err(|error| FolderError { path, error })
}
