//! `ringpost queue`: the queue viewer.

use super::cli::{QueueCommand, QueueFlags};
use super::{Exit, exit, print, sources};
use crate::admin::select::{Filter, Sort, json};
use crate::admin::{self, AskError, Choice, QUEUE_PROPERTIES, Queue};
use jiff::Timestamp;
use std::path::PathBuf;

/// How a command ends that cannot go on.
struct Stop {
    exit: Exit,
    line: String,
}

impl From<AskError> for Stop {
    fn from(error: AskError) -> Stop {
        let exit = if matches!(error, AskError::Refused { .. }) { Exit::Failed } else { Exit::Component };
        Stop { exit, line: error.to_string() }
    }
}

/// Lists queues, or does something with them.
pub(super) fn queue(command: &QueueCommand) -> Exit {
    let done = match command {
        QueueCommand::List(flags) => list(flags, admin::queues_text),
        QueueCommand::Show(flags) => list(flags, shown),
        QueueCommand::Suspend(flags) => operate("suspend", flags),
        QueueCommand::Resume(flags) => operate("resume", flags),
        QueueCommand::Retry(flags) => operate("retry", flags),
    };
    match done {
        Ok(text) => print(text.as_bytes()),
        Err(Stop { exit, line }) => exit::fail(exit, &line),
    }
}

/// The queues that are meant, as text.
fn list(flags: &QueueFlags, text: impl Fn(&[Queue]) -> String) -> Result<String, Stop> {
    let chosen = Chosen::by("queue list", flags)?;
    match &chosen.name {
        Some(name) if chosen.queues.is_empty() => Err(Stop {
            exit: Exit::Failed,
            line: format!(
                "there is no queue {name} with mail in it now; `ringpost queue list` names those that have some"
            ),
        }),
        _ if flags.json => Ok(document(&chosen.queues)),
        _ => Ok(text(&chosen.queues)),
    }
}

/// Does something with each queue that is meant; their names, as they were done.
fn operate(doing: &str, flags: &QueueFlags) -> Result<String, Stop> {
    let command = format!("queue {doing}");
    if flags.identity.is_none() && flags.filter.is_none() {
        let line = format!("{command}: no queue is named; say a QUEUE, '*' for all, or --filter");
        return Err(Stop { exit: Exit::Usage, line });
    }
    let Chosen { path, name, queues } = Chosen::by(&command, flags)?;
    let mut names: Vec<String> = queues.iter().map(|queue| queue.report.next_hop.clone()).collect();
    // One that has no mail now may be held before it has.
    names.extend(name.filter(|_| queues.is_empty()));
    if names.is_empty() {
        let line = format!("{command}: no queue is as it was asked for; `ringpost queue list` names them all");
        return Err(Stop { exit: Exit::Failed, line });
    }
    for name in &names {
        admin::operate(&path, doing, name)?;
    }
    if flags.json {
        return Ok(format!("{}\n", serde_json::json!({ "done": doing, "queues": names })));
    }
    Ok(names.iter().fold(String::new(), |text, name| text + &format!("{doing}: {}\n", admin::plain(name))))
}

/// The queues that flags mean.
struct Chosen {
    /// The socket of their server.
    path: PathBuf,
    /// The one name that was said, without `*` and without conditions.
    name: Option<String>,
    queues: Vec<Queue>,
}

impl Chosen {
    fn by(command: &str, flags: &QueueFlags) -> Result<Chosen, Stop> {
        let usage = |line: String| Stop { exit: Exit::Usage, line };
        let failed = |line: String| Stop { exit: Exit::Failed, line };
        let filter = flags.filter.as_deref().map(|text| Filter::parse(text, QUEUE_PROPERTIES));
        let sort = flags.sort.as_deref().map(|text| Sort::parse(text, QUEUE_PROPERTIES));
        let choice = Choice {
            identity: flags.identity.clone(),
            filter: filter
                .transpose()
                .map_err(|error| usage(format!("--filter: {error}")))?
                .unwrap_or_else(Filter::all),
            include: flags.include.clone(),
            exclude: flags.exclude.clone(),
            sort: sort.transpose().map_err(|error| usage(format!("--sort: {error}")))?,
        };
        let path = sources::admin_socket(command, &flags.server).map_err(usage)?;
        let status = admin::status(&path)?;
        let mut queues = admin::queues(&status, Timestamp::now(), &choice).map_err(failed)?;
        queues.truncate(flags.result_size);
        let conditions = flags.filter.is_some() || !flags.include.is_empty() || !flags.exclude.is_empty();
        let exact = flags.identity.as_deref().filter(|identity| !identity.contains('*') && !conditions);
        let name = exact.map(|identity| admin::of_server(identity, &status.server).map(str::to_owned));
        Ok(Chosen { path, name: name.transpose().map_err(failed)?, queues })
    }
}

/// Everything about each queue, for people.
fn shown(queues: &[Queue]) -> String {
    queues.iter().fold(String::new(), |text, queue| text + &admin::properties_text(queue, QUEUE_PROPERTIES))
}

fn document(queues: &[Queue]) -> String {
    let queues: Vec<_> = queues.iter().map(|queue| json(queue, QUEUE_PROPERTIES)).collect();
    format!("{}\n", serde_json::Value::Array(queues))
}
