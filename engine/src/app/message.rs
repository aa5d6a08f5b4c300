//! `ringpost message`: single messages of a running server's queues.

use super::cli::{ExportFlags, MessageCommand, MessageFlags, RemoveFlags};
use super::{Exit, exit, print, sources};
use crate::admin::select::{Filter, Sort, json};
use crate::admin::{self, AskError, MESSAGE_PROPERTIES, Message, MessageChoice, ViewError, Viewer};
use crate::track::report::Removed;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How a command ends that cannot go on.
struct Stop {
    exit: Exit,
    line: String,
}

impl Stop {
    fn failed(line: String) -> Stop {
        Stop { exit: Exit::Failed, line }
    }
}

impl From<ViewError> for Stop {
    fn from(error: ViewError) -> Stop {
        let exit = match &error {
            ViewError::Ask(AskError::Refused { .. }) | ViewError::Choice(_) => Exit::Failed,
            _ => Exit::Component,
        };
        Stop { exit, line: error.to_string() }
    }
}

/// Lists messages, or does something with them.
pub(super) fn message(command: &MessageCommand) -> Exit {
    let done = match command {
        MessageCommand::List(flags) => list(flags, admin::messages_text),
        MessageCommand::Show(flags) => list(flags, shown),
        MessageCommand::Remove(flags) => remove(flags),
        MessageCommand::Export(flags) => export(flags),
    };
    match done {
        Ok((text, all)) => match print(text.as_bytes()) {
            Exit::Good if !all => Exit::Failed,
            exit => exit,
        },
        Err(Stop { exit, line }) => exit::fail(exit, &line),
    }
}

/// What there is to say, and whether everything that was asked for was done.
type Done = Result<(String, bool), Stop>;

fn list(flags: &MessageFlags, text: impl Fn(&[Message]) -> String) -> Done {
    let path = socket("message list", flags)?;
    let messages = Viewer::of(&path)?.messages(&choice(flags)?)?;
    if messages.is_empty() && flags.identity.is_some() {
        return Err(Stop::failed(nobody("message show")));
    }
    Ok((if flags.json { document(&messages) } else { text(&messages) }, true))
}

fn remove(flags: &RemoveFlags) -> Done {
    let meant = &flags.message;
    if meant.identity.is_none() && meant.filter.is_none() && meant.queue.is_none() {
        let line = "message remove: no message is named; say a MESSAGE, --queue or --filter";
        return Err(Stop { exit: Exit::Usage, line: line.into() });
    }
    let path = socket("message remove", meant)?;
    let mut viewer = Viewer::of(&path)?;
    let messages = viewer.messages(&choice(meant)?)?;
    if messages.is_empty() {
        return Err(Stop::failed(nobody("message remove")));
    }
    let removed = viewer.remove(&messages, flags.ndr == "yes")?;
    let all = removed.iter().all(|(_, what)| matches!(what, Removed::Done | Removed::Pending));
    if meant.json {
        let told: Vec<_> = removed
            .iter()
            .map(|(message, what)| serde_json::json!({ "Identity": message.identity(), "removed": what }))
            .collect();
        return Ok((format!("{}\n", serde_json::Value::Array(told)), all));
    }
    let mut text = String::new();
    for (message, what) in removed {
        let what = match what {
            Removed::Done => "removed",
            Removed::Pending => "under way, removed if that comes to nothing",
            Removed::Gone => "left its queue before",
            Removed::Refused => "NOT REMOVED: nothing can be written to the disk now",
            Removed::Unsure => "removed, NOT YET ON DISK: a kill now would bring it back",
        };
        // Writing to a String cannot fail.
        let _never = writeln!(text, "{}: {what}", admin::plain(&message.identity()));
    }
    Ok((text, all))
}

fn export(flags: &ExportFlags) -> Done {
    let path = socket("message export", &flags.message)?;
    let mut viewer = Viewer::of(&path)?;
    let messages = viewer.messages(&choice(&flags.message)?)?;
    let Some(message) = messages.first() else { return Err(Stop::failed(nobody("message export"))) };
    let content = viewer.content(message)?;
    let content = content.ok_or_else(|| Stop::failed(format!("{} is not on disk (any more)", message.identity())))?;
    if flags.out == Path::new("-") {
        io::stdout().write_all(&content).map_err(|error| cannot_write(&flags.out, &error))?;
        return Ok((String::new(), true));
    }
    // It holds somebody's mail, and takes nobody's place.
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&flags.out);
    let written = file.and_then(|mut file| file.write_all(&content).and_then(|()| file.sync_all()));
    written.map_err(|error| cannot_write(&flags.out, &error))?;
    Ok((format!("{}: {} octets in {}\n", admin::plain(&message.identity()), content.len(), flags.out.display()), true))
}

fn cannot_write(out: &Path, error: &io::Error) -> Stop {
    Stop { exit: Exit::Component, line: format!("message export: {}: {error}; name another --out", out.display()) }
}

fn nobody(command: &str) -> String {
    format!("{command}: no message is as it was asked for; `ringpost message list` names them all")
}

fn socket(command: &str, flags: &MessageFlags) -> Result<std::path::PathBuf, Stop> {
    sources::admin_socket(command, &flags.server).map_err(|line| Stop { exit: Exit::Usage, line })
}

fn choice(flags: &MessageFlags) -> Result<MessageChoice, Stop> {
    let usage = |line: String| Stop { exit: Exit::Usage, line };
    let filter = flags.filter.as_deref().map(|text| Filter::parse(text, MESSAGE_PROPERTIES));
    let sort = flags.sort.as_deref().map(|text| Sort::parse(text, MESSAGE_PROPERTIES));
    Ok(MessageChoice {
        identity: flags.identity.clone(),
        queue: flags.queue.clone(),
        filter: filter.transpose().map_err(|error| usage(format!("--filter: {error}")))?.unwrap_or_else(Filter::all),
        sort: sort.transpose().map_err(|error| usage(format!("--sort: {error}")))?,
        most: flags.result_size,
    })
}

/// Everything about each message, for people.
fn shown(messages: &[Message]) -> String {
    messages.iter().fold(String::new(), |text, message| text + &admin::properties_text(message, MESSAGE_PROPERTIES))
}

fn document(messages: &[Message]) -> String {
    let messages: Vec<_> = messages.iter().map(|message| json(message, MESSAGE_PROPERTIES)).collect();
    format!("{}\n", serde_json::Value::Array(messages))
}
