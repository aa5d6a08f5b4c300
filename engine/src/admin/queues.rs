//! The queue viewer: queues as a person lists them, picks them and names them (docs/PROFILES.md).
//!
//! A queue is named `SERVER\NAME`, where the server may be left out; `*` stands for anything in a name. The queue of
//! recipients without a route is `Unreachable`.

use super::select::{Filter, Kind, Property, Sort, Value, like};
use super::text::{plain, span};
use crate::track::report::{QueueReport, QueueStatus, Status};
use crate::wire::{DeliveryType, NextHopKey};
use jiff::{SignedDuration, Timestamp};
use std::fmt::Write as _;

/// One queue of the server, at the moment when it was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// The server's name.
    pub server: String,
    /// How it stands.
    pub report: QueueReport,
    /// The moment.
    pub at: Timestamp,
}

/// Everything that can be asked of a queue.
pub const QUEUE_PROPERTIES: &[Property<Queue>] = &[
    Property { name: "Identity", kind: Kind::Text, get: |queue| text(queue.identity()) },
    Property {
        name: "DeliveryType",
        kind: Kind::Word(&["SmartHostConnectorDelivery", "SmtpDeliveryToMailbox", "Unreachable"]),
        get: |queue| text(queue.report.delivery_type.clone()),
    },
    Property { name: "NextHopDomain", kind: Kind::Text, get: |queue| text(queue.report.next_hop.clone()) },
    Property {
        name: "NextHopCategory",
        kind: Kind::Word(&["Internal", "External"]),
        get: |queue| text(queue.category().to_owned()),
    },
    Property {
        name: "Status",
        kind: Kind::Word(&["Active", "Connecting", "Ready", "Retry", "Suspended"]),
        get: |queue| text(queue.report.status.name().to_owned()),
    },
    Property { name: "MessageCount", kind: Kind::Number, get: |queue| count(queue.report.messages()) },
    Property { name: "DeferredMessageCount", kind: Kind::Number, get: |queue| count(queue.report.deferred) },
    Property { name: "LastError", kind: Kind::Text, get: |queue| text(queue.report.last_error.clone()?) },
    Property { name: "LastRetryTime", kind: Kind::Time, get: |queue| queue.ago(queue.report.last_retry_ms) },
    Property { name: "NextRetryTime", kind: Kind::Time, get: |queue| queue.after(queue.report.next_retry_ms) },
    Property { name: "RetryCount", kind: Kind::Number, get: |queue| count(queue.report.retry_count) },
    Property {
        name: "IncomingRate",
        kind: Kind::Number,
        get: |queue| Some(Value::Number(queue.report.incoming_per_s)),
    },
    Property {
        name: "OutgoingRate",
        kind: Kind::Number,
        get: |queue| Some(Value::Number(queue.report.outgoing_per_s)),
    },
    Property { name: "Velocity", kind: Kind::Number, get: |queue| Some(Value::Number(queue.report.velocity_per_s)) },
    Property { name: "OldestMessageTime", kind: Kind::Time, get: |queue| queue.ago(queue.report.oldest_ms) },
];

#[expect(clippy::unnecessary_wraps, reason = "what a property reads may be missing")]
fn text(text: String) -> Option<Value> {
    Some(Value::Text(text))
}

#[expect(clippy::unnecessary_wraps, reason = "what a property reads may be missing")]
#[expect(clippy::cast_precision_loss, reason = "messages of one server")]
fn count(count: u64) -> Option<Value> {
    Some(Value::Number(count as f64))
}

impl Queue {
    /// `SERVER\NAME`.
    pub fn identity(&self) -> String {
        format!("{}\\{}", self.server, self.short_name())
    }

    /// Its name without the server.
    fn short_name(&self) -> &str {
        if self.is_unreachable() { "Unreachable" } else { &self.report.next_hop }
    }

    fn is_unreachable(&self) -> bool {
        self.report.delivery_type == DeliveryType::Unreachable.as_str()
            && self.report.next_hop == NextHopKey::unreachable().to_string()
    }

    fn category(&self) -> &'static str {
        if self.report.delivery_type == DeliveryType::SmartHost.as_str() { "External" } else { "Internal" }
    }

    fn ago(&self, ms: Option<u64>) -> Option<Value> {
        self.moment(ms, -1)
    }

    fn after(&self, ms: Option<u64>) -> Option<Value> {
        self.moment(ms, 1)
    }

    fn moment(&self, ms: Option<u64>, sign: i64) -> Option<Value> {
        let ms = i64::try_from(ms?).ok()?;
        self.at.checked_add(SignedDuration::from_millis(sign * ms)).ok().map(Value::Time)
    }
}

/// Which queues are meant, and in which order they are told.
pub struct Choice {
    /// A name, with or without the server, `*` for anything; `None`: all.
    pub identity: Option<String>,
    /// Which of them.
    pub filter: Filter<Queue>,
    /// Delivery types, `Empty`, `Internal` or `External`: only these, where any is named.
    pub include: Vec<String>,
    /// The same: none of these.
    pub exclude: Vec<String>,
    /// In which order; as the server tells them without.
    pub sort: Option<Sort<Queue>>,
}

/// The queues of `status`, asked at `at`, that `choice` means.
///
/// # Errors
/// One line: the identity names another server.
pub fn queues(status: &Status, at: Timestamp, choice: &Choice) -> Result<Vec<Queue>, String> {
    let mut queues: Vec<Queue> = (status.queues.iter())
        .map(|report| Queue { server: status.server.clone(), report: report.clone(), at })
        .collect();
    if let Some(identity) = &choice.identity {
        let name = of_server(identity, &status.server)?.to_lowercase();
        queues.retain(|queue| {
            like(&queue.short_name().to_lowercase(), &name) || queue.report.next_hop.to_lowercase() == name
        });
    }
    let is = |queue: &Queue, kind: &String| {
        let matches = |word: &str| kind.eq_ignore_ascii_case(word);
        matches(&queue.report.delivery_type)
            || matches(queue.category())
            || (matches("Empty") && queue.report.messages() == 0)
    };
    queues.retain(|queue| {
        (choice.include.is_empty() || choice.include.iter().any(|kind| is(queue, kind)))
            && !choice.exclude.iter().any(|kind| is(queue, kind))
            && choice.filter.takes(queue)
    });
    if let Some(sort) = &choice.sort {
        sort.sort(&mut queues);
    }
    Ok(queues)
}

/// The name behind `SERVER\`, where that is this server.
///
/// # Errors
/// One line: it is another.
pub fn of_server<'a>(identity: &'a str, server: &str) -> Result<&'a str, String> {
    match identity.split_once('\\') {
        None => Ok(identity),
        Some((of, name)) if of.is_empty() || of.eq_ignore_ascii_case(server) => Ok(name),
        Some((of, _)) => {
            Err(format!("{identity}: this server is {server}, not {of}; ask that one, or leave the server out"))
        }
    }
}

/// A list of queues for people.
pub fn queues_text(queues: &[Queue]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _never = write(&mut out, queues);
    out
}

fn write(out: &mut String, queues: &[Queue]) -> std::fmt::Result {
    let widest = queues.iter().map(|queue| plain(&queue.identity()).chars().count()).max().unwrap_or_default().max(8);
    writeln!(
        out,
        "{:<widest$}  {:<27} {:<10} {:>9} {:>9} {:>9}  LastError",
        "Identity", "DeliveryType", "Status", "Messages", "Velocity", "NextRetry"
    )?;
    for queue in queues {
        let report = &queue.report;
        let retry = match (report.status, report.next_retry_ms) {
            (QueueStatus::Suspended, _) | (_, None) => "-".to_owned(),
            (_, Some(ms)) => span(ms),
        };
        let line = format!(
            "{:<widest$}  {:<27} {:<10} {:>9} {:>+9.2} {retry:>9}  {}",
            plain(&queue.identity()),
            plain(&report.delivery_type),
            report.status.name(),
            report.messages(),
            report.velocity_per_s,
            plain(report.last_error.as_deref().unwrap_or_default()),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let queue = |next_hop: &str, delivery: DeliveryType| QueueReport {
            next_hop: next_hop.into(),
            delivery_type: delivery.as_str().into(),
            ..QueueReport::default()
        };
        let retry = QueueReport {
            status: QueueStatus::Retry,
            waiting: 12,
            deferred: 1,
            next_retry_ms: Some(60_000),
            last_error: Some("refused \x1b[31m".into()),
            ..queue("smart", DeliveryType::SmartHost)
        };
        let unreachable = NextHopKey::unreachable().to_string();
        Status {
            server: "hub1.test".into(),
            queues: vec![
                QueueReport { waiting: 3, ..queue(&unreachable, DeliveryType::Unreachable) },
                queue("mailboxes", DeliveryType::Mailbox),
                retry,
            ],
            ..Status::default()
        }
    }

    fn choice(identity: Option<&str>, filter: &str) -> Choice {
        let filter = match filter {
            "" => Filter::all(),
            text => Filter::parse(text, QUEUE_PROPERTIES).expect("a filter"),
        };
        Choice { identity: identity.map(str::to_owned), filter, include: vec![], exclude: vec![], sort: None }
    }

    fn chosen(choice: &Choice) -> Result<Vec<String>, String> {
        let at = "2026-01-01T00:00:00Z".parse().expect("a time");
        Ok(queues(&status(), at, choice)?.iter().map(|queue| queue.short_name().to_owned()).collect())
    }

    #[test]
    fn x_203_x_221_x_223_queues_are_named_after_their_next_hop() {
        assert_eq!(chosen(&choice(None, "")).expect("all"), ["Unreachable", "mailboxes", "smart"]);
        for (identity, expected) in [
            ("hub1.test\\SMART", &["smart"][..]),
            ("smart", &["smart"]),
            ("unreachable", &["Unreachable"]),
            ("Unreachable Domain", &["Unreachable"]),
            ("HUB1.test\\*", &["Unreachable", "mailboxes", "smart"]),
            ("\\*a*", &["Unreachable", "mailboxes", "smart"]),
            ("x*", &[]),
            ("smrt", &[]),
        ] {
            assert_eq!(chosen(&choice(Some(identity), "")).expect(identity), expected, "{identity}");
        }
        let error = chosen(&choice(Some("hub2.test\\smart"), "")).expect_err("another server");
        assert!(error.contains("this server is hub1.test"), "{error}");
    }

    #[test]
    fn x_206_queues_in_trouble_are_found_by_what_they_say() {
        assert_eq!(chosen(&choice(None, "Status -eq 'Retry' -and MessageCount -ge 13")).expect("one"), ["smart"]);
        assert_eq!(chosen(&choice(None, "LastError -like '*refused*'")).expect("one"), ["smart"]);
        assert_eq!(chosen(&choice(None, "NextRetryTime -le '2026-01-01T00:01:00Z'")).expect("one"), ["smart"]);
        assert_eq!(chosen(&choice(None, "NextRetryTime -lt '2026-01-01T00:01:00Z'")).expect("none"), [""; 0]);
        let external = Choice { include: vec!["external".into()], ..choice(None, "") };
        assert_eq!(chosen(&external).expect("one"), ["smart"]);
        let full = Choice { exclude: vec!["Empty".into(), "Unreachable".into()], ..choice(None, "") };
        assert_eq!(chosen(&full).expect("one"), ["smart"]);
        let sort = Sort::parse("-MessageCount", QUEUE_PROPERTIES).expect("keys");
        let sorted = Choice { sort: Some(sort), ..choice(None, "") };
        assert_eq!(chosen(&sorted).expect("all"), ["smart", "Unreachable", "mailboxes"]);
    }

    #[test]
    fn a_list_is_a_table_without_what_a_terminal_would_obey() {
        let at = "2026-01-01T00:00:00Z".parse().expect("a time");
        let text = queues_text(&queues(&status(), at, &choice(Some("smart"), "")).expect("one"));
        assert_eq!(
            text,
            "Identity         DeliveryType                Status      Messages  Velocity NextRetry  LastError\n\
             hub1.test\\smart  SmartHostConnectorDelivery  Retry             13     +0.00     1m00s  refused ?[31m\n"
        );
    }
}
