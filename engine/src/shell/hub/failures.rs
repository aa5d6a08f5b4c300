//! Why recipients fail: gathered while an attempt lasts, so that one notice tells of all when it ends.
//!
//! Memory is bounded by construction: the replies on a connection come in order, so that one attempt of each gathers at a
//! time, and it holds [`WORDS_BYTES_MAX`] octets of the host's words at most, beside a hundred octets for each recipient of
//! the transaction.

use crate::mime::header;
use crate::wire::{EnhancedStatus, Reply};
use std::io::Write as _;
use std::net::SocketAddr;

/// Octets of hosts' words that one attempt gathers: reasons beyond them are told by their codes alone. A hundred recipients
/// with the longest of replies stay below it.
const WORDS_BYTES_MAX: usize = 128 << 10;

/// Why recipients failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    /// The code of RFC 3463, where no reply has one.
    status: EnhancedStatus,
    /// The last word of a next hop, and who said it.
    said: Option<(SocketAddr, Reply)>,
    /// What we say ourselves, as `Diagnostic-Code` has it, where no host did.
    ours: Option<&'static str>,
}

/// Taken out of its queue by an operator; the words are the product's (docs/PROFILES.md).
const DELETED: &str = "smtp; 550 4.3.2 QUEUE.Admin; message deleted by administrative action";

impl Why {
    /// A next hop refused it.
    pub fn refused(by: SocketAddr, reply: &Reply) -> Self {
        Self { said: Some((by, reply.clone())), ..Self::unknown() }
    }

    /// Nobody said.
    pub fn unknown() -> Self {
        Self { status: EnhancedStatus::new(5, 0, 0), said: None, ours: None }
    }

    /// It was not delivered in its time.
    pub fn expired() -> Self {
        Self { status: EnhancedStatus::new(4, 4, 7), ..Self::unknown() }
    }

    /// An operator took it out of its queue.
    pub fn deleted() -> Self {
        Self { status: EnhancedStatus::new(4, 3, 2), ours: Some(DELETED), ..Self::unknown() }
    }

    /// The code of RFC 3463.
    pub fn status(&self) -> EnhancedStatus {
        self.said.as_ref().and_then(|(_, reply)| reply.enhanced()).unwrap_or(self.status)
    }

    /// Who said it.
    pub fn host(&self) -> Option<SocketAddr> {
        self.said.as_ref().map(|(host, _)| *host)
    }

    /// The code of the reply.
    pub fn code(&self) -> Option<u16> {
        self.said.as_ref().map(|(_, reply)| reply.code())
    }

    /// Octets of the host's words.
    fn words_bytes(&self) -> usize {
        self.said.as_ref().map_or(0, |(_, reply)| reply.text().len())
    }

    fn without_words(self) -> Self {
        let said = self.said.and_then(|(host, reply)| Some((host, Reply::new(reply.code(), reply.enhanced(), b"")?)));
        Self { said, ..self }
    }

    /// Octets of its fields, at most.
    pub fn fields_bytes(&self) -> usize {
        160 + self.words_bytes()
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _never = write!(out, "Action: failed\r\nStatus: {}\r\n", self.status());
        if let Some(ours) = self.ours {
            let _never = write!(out, "Diagnostic-Code: {ours}\r\n");
        }
        let Some((host, reply)) = &self.said else { return };
        let family = if host.is_ipv6() { "IPv6:" } else { "" };
        let _never = write!(out, "Remote-MTA: dns; [{family}{}]\r\n", host.ip());
        let _never = write!(out, "Diagnostic-Code: smtp; {}", reply.code());
        if let Some(status) = reply.enhanced() {
            let _never = write!(out, " {status}");
        }
        if !reply.text().is_empty() {
            let _never = write!(out, " {}", reply.text());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// What a notice says of its recipients: when the message came, as a date, then each reason in the fields of RFC 3464 §2.3,
/// groups apart by an empty line, with the number of recipients in a row that it is about where there is more than one group.
pub(super) fn fields(arrival: &[u8], whys: &[(Why, u16)]) -> Vec<u8> {
    let mut out = [b"Arrival-Date: ", arrival, b"\r\n"].concat();
    for (index, (why, count)) in whys.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\r\n");
        }
        if whys.len() > 1 {
            let _never = write!(out, "Recipients: {count}\r\n");
        }
        why.write_fields(&mut out);
    }
    out
}

/// What a notice says, read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said<'a> {
    /// Recipients in a row that it is about.
    pub recipients: usize,
    /// When the message came.
    pub arrival: Option<&'a [u8]>,
    /// The code of RFC 3463.
    pub status: EnhancedStatus,
    /// Who said it, as `Remote-MTA` has it.
    pub remote: Option<&'a [u8]>,
    /// What it said, as `Diagnostic-Code` has it.
    pub diagnostic: Option<&'a [u8]>,
}

impl<'a> Said<'a> {
    /// Each group of what [`fields`] wrote.
    pub fn groups(text: &'a [u8]) -> impl Iterator<Item = Self> {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let end = memchr::memmem::find(text, b"\r\n\r\n");
            rest = end.map(|end| &text[end + 4..]);
            Some(Self::of(end.map_or(text, |end| &text[..end + 2])))
        })
    }

    fn of(group: &'a [u8]) -> Self {
        let status = EnhancedStatus::new(5, 0, 0);
        let mut said = Self { recipients: usize::MAX, arrival: None, status, remote: None, diagnostic: None };
        for field in header::fields(group) {
            let value = field.body.trim_ascii();
            if field.is("Recipients") {
                said.recipients = str::from_utf8(value).ok().and_then(|count| count.parse().ok()).unwrap_or(usize::MAX);
            } else if field.is("Arrival-Date") {
                said.arrival = Some(value);
            } else if field.is("Status") {
                said.status = EnhancedStatus::read(value).unwrap_or(said.status);
            } else if field.is("Remote-MTA") {
                said.remote = Some(value);
            } else if field.is("Diagnostic-Code") {
                said.diagnostic = Some(value);
            }
        }
        said
    }
}

/// Recipients of one message that failed for good, each with the reason.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    /// Their numbers in the record, and those of their reasons.
    failed: Vec<(u16, u32)>,
    whys: Vec<Why>,
    words_bytes: usize,
}

impl Failures {
    /// All of these, for one reason.
    pub fn of(failed: impl IntoIterator<Item = u16>, why: Why) -> Self {
        let mut failures = Self::default();
        failures.add_all(failed, why);
        failures
    }

    /// One more.
    pub fn add(&mut self, recipient: u16, why: Why) {
        self.add_all([recipient], why);
    }

    /// All of these too, for one reason.
    pub fn add_all(&mut self, failed: impl IntoIterator<Item = u16>, why: Why) {
        let why = self.index_of(why);
        self.failed.extend(failed.into_iter().map(|recipient| (recipient, why)));
    }

    /// The number of a reason: hosts often say the same to one recipient after the other.
    fn index_of(&mut self, why: Why) -> u32 {
        let fits = self.words_bytes + why.words_bytes() <= WORDS_BYTES_MAX;
        let why = if fits || self.whys.last() == Some(&why) { why } else { why.without_words() };
        if self.whys.last() != Some(&why) {
            self.words_bytes += why.words_bytes();
            self.whys.push(why);
        }
        u32::try_from(self.whys.len() - 1).expect("fewer reasons than recipients")
    }

    pub fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    pub fn len(&self) -> usize {
        self.failed.len()
    }

    /// Their numbers, as they failed.
    pub fn numbers(&self) -> impl Iterator<Item = u16> {
        self.failed.iter().map(|(recipient, _)| *recipient)
    }

    /// The first reason.
    pub fn first(&self) -> Option<&Why> {
        self.whys.first()
    }

    /// Each with the reason, by their numbers.
    pub fn sorted(&mut self) -> impl Iterator<Item = (u16, &Why)> {
        self.failed.sort_unstable();
        self.failed.iter().map(|(recipient, why)| (*recipient, &self.whys[*why as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::REPLY_TEXT_BYTES_MAX;

    fn host() -> SocketAddr {
        ([192, 0, 2, 1], 25).into()
    }

    fn refused(text: &str) -> Why {
        Why::refused(host(), &Reply::new(550, Some(EnhancedStatus::new(5, 1, 1)), text.as_bytes()).expect("a code"))
    }

    #[test]
    fn f_068_each_reason_is_told_with_the_number_of_those_it_is_about() {
        let said =
            "Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; [192.0.2.1]\r\nDiagnostic-Code: smtp; 550 5.1.1";
        let date = "Arrival-Date: now\r\n";
        assert_eq!(fields(b"now", &[(refused("no"), 7)]), format!("{date}{said} no\r\n").as_bytes());
        let more = fields(b"now", &[(refused("no"), 2), (refused(""), 1), (Why::expired(), 3)]);
        let expected = format!(
            "{date}Recipients: 2\r\n{said} no\r\n\r\nRecipients: 1\r\n{said}\r\n\r\nRecipients: 3\r\nAction: failed\r\nStatus: 4.4.7\r\n"
        );
        assert_eq!(str::from_utf8(&more), Ok(&*expected));
        let groups: Vec<_> = Said::groups(&more).collect();
        assert_eq!(groups.iter().map(|said| said.recipients).collect::<Vec<_>>(), [2, 1, 3]);
        assert_eq!(groups.iter().map(|said| said.status.to_string()).collect::<Vec<_>>(), ["5.1.1", "5.1.1", "4.4.7"]);
        assert_eq!((groups[0].arrival, groups[0].remote), (Some(&b"now"[..]), Some(&b"dns; [192.0.2.1]"[..])));
        assert_eq!(groups[0].diagnostic, Some(&b"smtp; 550 5.1.1 no"[..]));
        assert_eq!((groups[2].remote, groups[2].diagnostic), (None, None));
        let longest = refused(&"x".repeat(REPLY_TEXT_BYTES_MAX));
        let twice = fields(b"now", &[(longest.clone(), u16::MAX), (longest.clone(), 1)]);
        assert!(twice.len() <= date.len() + 2 * longest.fields_bytes());
        let one = fields(b"now", &[(longest, 9)]);
        assert!(Said::groups(&one).map(|said| said.recipients).eq([usize::MAX]), "one is about all");
    }

    #[test]
    fn f_068_they_are_told_by_their_numbers_in_whatever_order_they_failed() {
        let mut failures = Failures::of([1, 5], refused("first"));
        failures.add(0, refused("second"));
        failures.add_all([3, 4], Why::unknown());
        assert_eq!((failures.len(), failures.first()), (5, Some(&refused("first"))));
        assert_eq!(failures.numbers().collect::<Vec<_>>(), [1, 5, 0, 3, 4]);
        let told: Vec<_> = failures.sorted().map(|(number, why)| (number, why.clone())).collect();
        let [first, second, unknown] = [refused("first"), refused("second"), Why::unknown()];
        assert_eq!(told, [(0, second), (1, first.clone()), (3, unknown.clone()), (4, unknown), (5, first)]);
    }

    #[test]
    fn f_040_a_host_of_many_words_does_not_fill_the_memory() {
        let mut failures = Failures::default();
        let words = |recipient: u16| format!("{recipient:05}{}", "x".repeat(REPLY_TEXT_BYTES_MAX - 5));
        for recipient in 0..10_000 {
            failures.add(recipient, refused(&words(recipient)));
        }
        assert_eq!(failures.len(), 10_000);
        let held: usize = failures.whys.iter().map(Why::words_bytes).sum();
        assert!(held <= WORDS_BYTES_MAX && failures.whys.len() <= WORDS_BYTES_MAX / REPLY_TEXT_BYTES_MAX + 1, "{held}");
        let told: Vec<_> = failures.sorted().map(|(_, why)| why.clone()).collect();
        assert!(
            (0..100).all(|recipient| told[usize::from(recipient)] == refused(&words(recipient))),
            "a hundred are whole"
        );
        assert_eq!((told[9_999].code(), told[9_999].host(), told[9_999].words_bytes()), (Some(550), Some(host()), 0));
        assert_eq!(told[9_999].status(), EnhancedStatus::new(5, 1, 1), "the codes stay");
    }
}
