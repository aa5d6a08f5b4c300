//! Messages as a person lists them, picks them and names them (docs/PROFILES.md).
//!
//! A message is named `SERVER\QUEUE\NUMBER`; server and queue may be left out, or be `*`: the number is the same in every
//! queue that it is in, as long as it stays where it is on disk. The server tells what its queues know, page by page; sender,
//! recipients and header are read from the spool's files beside it, so that a list of millions costs traffic little.

use super::queues::of_server;
use super::select::{Filter, Kind, Property, Sort, Value, like};
use super::shelf::{Sheet, Shelf};
use super::text::{plain, span};
use super::{AskError, Client, silent};
use crate::control::socket::{REMOVED_MAX, Request};
use crate::spool::RecordId;
use crate::track::report::{MessageReport, Removed, Status};
use crate::wire::NextHopKey;
use jiff::{SignedDuration, Timestamp};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Requests that are made on one connection: the server closes it after some more.
const REQUESTS: usize = 900;
/// Messages of which a sorted list is made, at most: `ResultSize` goes no further (docs/PROFILES.md).
const SORTED_MAX: usize = 250_000;

/// One message in one queue, at the moment when it was asked.
#[derive(Debug, Clone)]
pub struct Message {
    server: String,
    queue: String,
    /// Its shard.
    shard: usize,
    /// What its queue knows.
    report: MessageReport,
    /// What its record says; `None` in durability `none`, and when it left its queue meanwhile.
    sheet: Option<Sheet>,
    at: Timestamp,
}

/// Everything that can be asked of a message.
pub const MESSAGE_PROPERTIES: &[Property<Message>] = &[
    Property { name: "Identity", kind: Kind::Text, get: |message| Some(Value::Text(message.identity())) },
    Property { name: "Queue", kind: Kind::Text, get: |message| Some(Value::Text(message.queue_identity())) },
    Property {
        name: "Status",
        kind: Kind::Word(&["Ready", "Active", "Retry", "PendingRemove"]),
        get: |message| Some(Value::Text(message.report.status.name().to_owned())),
    },
    Property {
        name: "FromAddress",
        kind: Kind::Text,
        get: |message| Some(Value::Text(message.sheet.as_ref()?.from.clone())),
    },
    Property { name: "Recipients", kind: Kind::Text, get: |message| Some(Value::Text(message.recipients()?)) },
    Property {
        name: "Subject",
        kind: Kind::Text,
        get: |message| Some(Value::Text(message.sheet.as_ref()?.subject.clone()?)),
    },
    Property {
        name: "InternetMessageId",
        kind: Kind::Text,
        get: |message| Some(Value::Text(message.sheet.as_ref()?.message_id.clone()?)),
    },
    Property { name: "Size", kind: Kind::Number, get: |message| Some(number(message.report.bytes)) },
    Property { name: "DateReceived", kind: Kind::Time, get: Message::received },
    Property { name: "ExpirationTime", kind: Kind::Time, get: |message| message.after(message.report.left_ms) },
    Property { name: "RetryCount", kind: Kind::Number, get: |message| Some(number(message.report.attempts)) },
    Property { name: "NextRetryTime", kind: Kind::Time, get: |message| message.after(message.report.retry_ms?) },
];

#[expect(clippy::cast_precision_loss, reason = "octets and attempts of one message")]
fn number(count: u64) -> Value {
    Value::Number(count as f64)
}

impl Message {
    /// `SERVER\QUEUE\NUMBER`.
    pub fn identity(&self) -> String {
        format!("{}\\{}", self.queue_identity(), self.report.record)
    }

    /// `SERVER\QUEUE`.
    fn queue_identity(&self) -> String {
        format!("{}\\{}", self.server, self.queue)
    }

    fn recipients(&self) -> Option<String> {
        let all = &self.sheet.as_ref()?.recipients;
        let here = self.report.recipients.iter().filter_map(|&number| all.get(usize::from(number)));
        Some(here.map(String::as_str).collect::<Vec<_>>().join(";"))
    }

    fn received(&self) -> Option<Value> {
        let exact = self.sheet.as_ref().and_then(|sheet| Timestamp::from_microsecond(sheet.received.0).ok());
        let about = || self.at.checked_sub(span_of(self.report.age_ms)).ok();
        exact.or_else(about).map(Value::Time)
    }

    fn after(&self, ms: u64) -> Option<Value> {
        self.at.checked_add(span_of(ms)).ok().map(Value::Time)
    }
}

fn span_of(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Which messages are meant, and in which order they are told.
pub struct MessageChoice {
    /// `SERVER\QUEUE\NUMBER`, `QUEUE\NUMBER` or `NUMBER`.
    pub identity: Option<String>,
    /// `SERVER\QUEUE` or `QUEUE`, `*` for anything.
    pub queue: Option<String>,
    /// Which of them.
    pub filter: Filter<Message>,
    /// In which order; as they are found without.
    pub sort: Option<Sort<Message>>,
    /// At most so many.
    pub most: usize,
}

/// What an identity or a queue says, without the server.
struct Place {
    /// In lower case; `*` for anything.
    queue: String,
    number: Option<u64>,
}

impl Place {
    fn of(choice: &MessageChoice, server: &str) -> Result<Place, String> {
        let queue = |name: Option<&str>| Ok(of_server(name.unwrap_or("*"), server)?.to_lowercase());
        let Some(identity) = &choice.identity else {
            return queue(choice.queue.as_deref()).map(|queue| Place { queue, number: None });
        };
        let (of, number) = identity.rsplit_once('\\').map_or((None, identity.as_str()), |(of, rest)| (Some(of), rest));
        let wrong = || {
            format!(
                "{identity} names no message; say SERVER\\QUEUE\\NUMBER or NUMBER, as `ringpost message list` shows it"
            )
        };
        Ok(Place { queue: queue(of)?, number: Some(number.parse().map_err(|_| wrong())?) })
    }

    fn takes(&self, queue: &str, record: u64) -> bool {
        let long = NextHopKey::unreachable().to_string();
        let alias = queue == "Unreachable" && self.queue == long.to_lowercase();
        self.number.is_none_or(|number| number == record) && (alias || like(&queue.to_lowercase(), &self.queue))
    }
}

/// Why messages cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The server.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The choice means nothing here.
    #[error("{0}")]
    Choice(String),
    /// The spool.
    #[error("the spool in {folder} cannot be read: {error}; run this on the server itself, as its user")]
    Spool {
        /// Its folder.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A running server's messages.
pub struct Viewer<'a> {
    path: &'a Path,
    status: Status,
    shelf: Option<(PathBuf, Shelf)>,
}

impl<'a> Viewer<'a> {
    /// Of the server on `path`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn of(path: &'a Path) -> Result<Self, ViewError> {
        let status = super::status(path)?;
        let keeps = status.durability != "none";
        let folder = status.data_dir.as_ref().filter(|_| keeps).map(PathBuf::from);
        let shelf = folder.map(|folder| (folder.clone(), Shelf::new(&folder)));
        Ok(Self { path, status, shelf })
    }

    /// The messages that `choice` means.
    ///
    /// # Errors
    /// As `ViewError` says.
    pub fn messages(&mut self, choice: &MessageChoice) -> Result<Vec<Message>, ViewError> {
        let place = Place::of(choice, &self.status.server).map_err(ViewError::Choice)?;
        let most = if choice.sort.is_some() { SORTED_MAX } else { choice.most };
        let mut found = Vec::new();
        for shard in 0..self.status.shards.len() {
            self.shard(shard, &place, choice, most, &mut found)?;
        }
        if let Some(sort) = &choice.sort {
            if found.len() >= SORTED_MAX {
                return Err(ViewError::Choice(format!(
                    "more than {SORTED_MAX} messages cannot be sorted; say a narrower --filter"
                )));
            }
            sort.sort(&mut found);
        }
        found.truncate(choice.most);
        Ok(found)
    }

    fn shard(
        &mut self,
        shard: usize,
        place: &Place,
        choice: &MessageChoice,
        most: usize,
        found: &mut Vec<Message>,
    ) -> Result<(), ViewError> {
        let mut client = Client::connect(self.path)?;
        for page in 0u32.. {
            if (page as usize + 1).is_multiple_of(REQUESTS) {
                client = Client::connect(self.path)?;
            }
            let request = Request { shard: Some(shard), page: Some(page), ..Request::new("messages") };
            let told = client.ask(&request)?.page.ok_or_else(|| silent(self.path))?;
            if let Some((_, shelf)) = &mut self.shelf {
                shelf.refresh();
            }
            let mut reports = told.messages;
            // As they stand on disk.
            reports.sort_unstable_by_key(|report| report.record);
            for report in reports {
                if found.len() >= most {
                    return Ok(());
                }
                let queue = told.queues.get(report.queue).map_or("", String::as_str);
                let queue = if queue == NextHopKey::unreachable().to_string() { "Unreachable" } else { queue };
                if !place.takes(queue, report.record) {
                    continue;
                }
                let sheet = self.sheet(report.record)?;
                let (server, queue) = (self.status.server.clone(), queue.to_owned());
                let message = Message { server, queue, shard, report, sheet, at: Timestamp::now() };
                if choice.filter.takes(&message) {
                    found.push(message);
                }
            }
            if page + 1 >= told.pages {
                return Ok(());
            }
        }
        Ok(())
    }

    fn sheet(&mut self, record: u64) -> Result<Option<Sheet>, ViewError> {
        let Some((folder, shelf)) = &mut self.shelf else { return Ok(None) };
        let Some(id) = RecordId::from_raw(record) else { return Ok(None) };
        shelf.sheet(id).map_err(|error| ViewError::Spool { folder: folder.clone(), error })
    }

    /// A message as it would leave; `None` when it has left its queue, or the server keeps it in memory alone.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn content(&mut self, message: &Message) -> Result<Option<Vec<u8>>, ViewError> {
        let Some((folder, shelf)) = &mut self.shelf else { return Ok(None) };
        let Some(id) = RecordId::from_raw(message.report.record) else { return Ok(None) };
        shelf.refresh();
        shelf.message(id).map_err(|error| ViewError::Spool { folder: folder.clone(), error })
    }

    /// Takes messages out of their queues, and tells their senders or not; each with what came of it.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn remove<'m>(&self, messages: &'m [Message], tells: bool) -> Result<Vec<(&'m Message, Removed)>, ViewError> {
        let mut all = Vec::new();
        for shard in 0..self.status.shards.len() {
            let of_shard: Vec<&Message> = messages.iter().filter(|message| message.shard == shard).collect();
            for some in of_shard.chunks(REMOVED_MAX) {
                let entries = some.iter().map(|message| message.report.entry).collect();
                let request =
                    Request { shard: Some(shard), entries: Some(entries), ndr: Some(tells), ..Request::new("remove") };
                let removed = Client::connect(self.path)?.ask(&request)?.removed.ok_or_else(|| silent(self.path))?;
                all.extend(some.iter().copied().zip(removed));
            }
        }
        Ok(all)
    }
}

/// A list of messages for people.
pub fn messages_text(messages: &[Message]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _never = write(&mut out, messages);
    out
}

fn write(out: &mut String, messages: &[Message]) -> std::fmt::Result {
    let widest =
        messages.iter().map(|message| plain(&message.identity()).chars().count()).max().unwrap_or_default().max(8);
    writeln!(
        out,
        "{:<widest$}  {:<13} {:>9} {:>7} {:<28} Subject",
        "Identity", "Status", "Size", "Age", "FromAddress"
    )?;
    for message in messages {
        let sheet = message.sheet.as_ref();
        let line = format!(
            "{:<widest$}  {:<13} {:>9} {:>7} {:<28} {}",
            plain(&message.identity()),
            message.report.status.name(),
            message.report.bytes,
            span(message.report.age_ms),
            plain(sheet.map_or("", |sheet| &sheet.from)),
            plain(sheet.and_then(|sheet| sheet.subject.as_deref()).unwrap_or_default()),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(identity: Option<&str>, queue: Option<&str>) -> Result<Place, String> {
        let choice = MessageChoice {
            identity: identity.map(str::to_owned),
            queue: queue.map(str::to_owned),
            filter: Filter::all(),
            sort: None,
            most: 1,
        };
        Place::of(&choice, "hub1.test")
    }

    #[test]
    fn a_message_is_named_by_its_number_in_one_queue_or_in_all() {
        for (identity, queue, record, taken) in [
            ("hub1.test\\smart\\7", "smart", 7, true),
            ("HUB1.test\\SMART\\7", "smart", 7, true),
            ("smart\\7", "smart", 8, false),
            ("smart\\7", "other", 7, false),
            ("7", "other", 7, true),
            ("*\\7", "other", 7, true),
            ("hub1.test\\*\\7", "other", 7, true),
            ("Unreachable\\7", "Unreachable", 7, true),
            ("Unreachable Domain\\7", "Unreachable", 7, true),
        ] {
            let place = place(Some(identity), None).expect(identity);
            assert_eq!(place.takes(queue, record), taken, "{identity}");
        }
        assert!(place(None, Some("sm*")).expect("a queue").takes("smart", 1));
        assert!(place(None, None).expect("all").takes("smart", 1));
        for (identity, told) in [
            ("smart", "names no message"),
            ("hub2.test\\smart\\7", "this server is hub1.test"),
            ("smart\\x", "names no message"),
        ] {
            let error = place(Some(identity), None).err().expect(identity);
            assert!(error.contains(told), "{identity}: {error}");
        }
    }
}
