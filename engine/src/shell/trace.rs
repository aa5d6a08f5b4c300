//! Our own trace header, in front of every message (RFC 5321 §4.4).

use crate::mime::{DateText, Received, TraceForm, write_received};
use crate::settings::Settings;
use crate::smtp::server::ServerSession;
use crate::wire::Wall;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// How long the local zone's offset is believed, in microseconds.
const ZONE_US: i64 = 60_000_000;

/// Writes trace headers, and keeps what makes that cheap.
pub struct Tracer {
    settings: Arc<Settings>,
    date: LocalDate,
    scratch: Cell<Vec<u8>>,
}

/// The date as headers and greetings write it, in the zone of this machine (M-076).
#[derive(Debug)]
pub struct LocalDate {
    text: RefCell<DateText>,
    /// Seconds east of UTC, and until when that is believed.
    zone: Cell<(i32, i64)>,
}

impl Tracer {
    /// For a server with these settings.
    pub fn new(settings: &Arc<Settings>) -> Self {
        Self { settings: settings.clone(), date: LocalDate::default(), scratch: Cell::default() }
    }

    /// An empty buffer; give it back by [`Tracer::keep`].
    pub fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.scratch.take();
        buffer.clear();
        buffer
    }

    /// The date of `at`, as headers write it.
    pub fn date(&self, at: Wall) -> Vec<u8> {
        self.date.with(at, <[u8]>::to_vec)
    }

    /// Takes a buffer back for its memory.
    pub fn keep(&self, buffer: Vec<u8>) {
        self.scratch.set(buffer);
    }

    /// Appends the header of a message that `session` received at `at` and that we call `id`.
    /// In the form of Exchange the peer is named, and `via` what it came through; in that of the RFC the client that a front
    /// end speaks for.
    pub fn write(&self, session: &ServerSession, via: Option<&str>, (id, at): (u64, Wall), out: &mut Vec<u8>) {
        let facts = session.facts();
        let envelope = session.envelope();
        let exchange = session.options().exchange_trace;
        let identity = facts.identity().filter(|_| !exchange);
        let recipient = (envelope.recipient_count() == 1).then(|| envelope.recipient(0)).flatten();
        let form = if exchange {
            TraceForm::Exchange { version: env!("CARGO_PKG_VERSION"), via }
        } else {
            TraceForm::Rfc {
                protocol: identity.map_or(facts.protocol(), |client| client.protocol).name(),
                id,
                recipient: recipient.as_ref().map(|recipient| recipient.mailbox),
            }
        };
        self.date.with(at, |date| {
            let received = Received {
                from_name: identity.map_or(facts.ehlo_name(), |client| &client.ehlo_name),
                from_address: identity.map_or(facts.peer().ip(), |client| client.address),
                by_name: &self.settings.server.fqdn,
                by_address: facts.local().ip(),
                date,
                form,
            };
            write_received(&received, out);
        });
    }
}

impl Default for LocalDate {
    fn default() -> Self {
        Self { text: RefCell::default(), zone: Cell::new((0, i64::MIN)) }
    }
}

impl LocalDate {
    /// Shows the text for `at` to `see`.
    pub fn with<R>(&self, at: Wall, see: impl FnOnce(&[u8]) -> R) -> R {
        see(self.text.borrow_mut().at(at, self.offset(at)))
    }

    fn offset(&self, at: Wall) -> i32 {
        let (offset, until) = self.zone.get();
        if at.0 < until && at.0 > until - 2 * ZONE_US {
            return offset;
        }
        let now = jiff::Timestamp::from_microsecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let offset = jiff::tz::TimeZone::system().to_offset(now).seconds();
        self.zone.set((offset, at.0 + ZONE_US));
        offset
    }
}
