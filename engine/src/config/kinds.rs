//! The kinds of values a configuration holds: how each is written, read and explained.

use super::nearest::nearest;
use super::problem::Complaint;
use crate::settings::Ladder;
use crate::wire::Span;
use std::fmt::Write as _;
use toml::Spanned;
use toml::de::DeValue;

/// A value of the file with the octets it stands in.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Steps of a retry ladder.
const LADDER_STEPS_MAX: usize = 32;

/// How a value of one kind is read, written and explained.
pub(super) trait Kind {
    /// What it becomes.
    type Out;
    /// Reads `value`, or says everything that is wrong with it.
    fn read(&self, value: &Value<'_>) -> Result<Self::Out, Vec<Complaint>>;
    /// `out` as the file writes it; `None` where it was never said.
    fn show(&self, out: &Self::Out) -> Option<String>;
    /// What would be right, behind "write".
    fn rule(&self) -> String;
    /// An example, as the file writes it.
    fn sample(&self) -> String;
}

/// One complaint about `value`, with the kind's rule as the remedy.
pub(super) fn complain<T>(
    value: &Value<'_>,
    wrong: impl Into<String>,
    rule: impl Into<String>,
) -> Result<T, Vec<Complaint>> {
    Err(vec![Complaint { at: value.span(), wrong: wrong.into(), right: format!("write {}", rule.into()) }])
}

/// The value as a person recognizes it: short, with its type where it is no simple value.
pub(super) fn named(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// `text` in quotes, cut after 60 characters, its controls escaped: it goes to a terminal.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// `text` as a TOML string.
pub(super) fn toml_string(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// `text` as a TOML key: bare where it can be.
pub(super) fn toml_key(text: &str) -> String {
    let bare = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet));
    if bare { text.to_owned() } else { toml_string(text) }
}

pub(super) fn text_of<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    value.get_ref().as_str()
}

fn number_of(value: &Value<'_>) -> Option<i128> {
    let number = value.get_ref().as_integer()?;
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Out = bool;
    fn read(&self, value: &Value<'_>) -> Result<bool, Vec<Complaint>> {
        value
            .get_ref()
            .as_bool()
            .map_or_else(|| complain(value, format!("{} is neither true nor false", named(value)), self.rule()), Ok)
    }
    fn show(&self, out: &bool) -> Option<String> {
        Some(out.to_string())
    }
    fn rule(&self) -> String {
        "true or false".into()
    }
    fn sample(&self) -> String {
        "true".into()
    }
}

/// A whole number between bounds, both included.
pub(super) struct Count(pub u32, pub u32);

impl Kind for Count {
    type Out = u32;
    fn read(&self, value: &Value<'_>) -> Result<u32, Vec<Complaint>> {
        let Some(number) = number_of(value) else {
            return complain(value, format!("{} is not a whole number", named(value)), self.rule());
        };
        match u32::try_from(number) {
            Ok(count) if count >= self.0 && count <= self.1 => Ok(count),
            _ => {
                let side = if number < i128::from(self.0) { "small" } else { "large" };
                complain(value, format!("{number} is too {side}"), self.rule())
            }
        }
    }
    fn show(&self, out: &u32) -> Option<String> {
        Some(out.to_string())
    }
    fn rule(&self) -> String {
        format!("a number from {} to {}", self.0, self.1)
    }
    fn sample(&self) -> String {
        self.0.to_string()
    }
}

const BYTE_UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Octets, between bounds: a whole number, or a text with a unit.
pub(super) struct Bytes(pub u64, pub u64);

impl Kind for Bytes {
    type Out = u64;
    fn read(&self, value: &Value<'_>) -> Result<u64, Vec<Complaint>> {
        let bytes = match (number_of(value), text_of(value)) {
            (Some(number), _) => Some(u64::try_from(number).unwrap_or(if number < 0 { 0 } else { u64::MAX })),
            (None, Some(text)) => parse_bytes(text),
            (None, None) => None,
        };
        match bytes {
            None => complain(value, format!("{} is not a size", named(value)), self.rule()),
            Some(bytes) if bytes < self.0 => complain(value, format!("{} is too small", named(value)), self.rule()),
            Some(bytes) if bytes > self.1 => complain(value, format!("{} is too large", named(value)), self.rule()),
            Some(bytes) => Ok(bytes),
        }
    }
    fn show(&self, out: &u64) -> Option<String> {
        Some(format!("\"{}\"", show_bytes(*out)))
    }
    fn rule(&self) -> String {
        format!("a size from \"{}\" to \"{}\"", show_bytes(self.0), show_bytes(self.1))
    }
    fn sample(&self) -> String {
        format!("\"{}\"", show_bytes(self.0))
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    number.parse::<u64>().ok().map(|number| number.saturating_mul(*factor))
}

/// `bytes` in the largest binary unit that is exact.
fn show_bytes(bytes: u64) -> String {
    let (name, factor) = BYTE_UNITS
        .iter()
        .filter(|(name, _)| name.ends_with("iB"))
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .copied()
        .unwrap_or(("B", 1));
    format!("{} {name}", bytes / factor)
}

const WAIT_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// A length of time, between bounds: `"90s"`, `"1h 30m"`.
pub(super) struct Wait(pub Span, pub Span);

impl Kind for Wait {
    type Out = Span;
    fn read(&self, value: &Value<'_>) -> Result<Span, Vec<Complaint>> {
        if let Some(number) = number_of(value) {
            return complain(value, format!("{number} has no unit"), self.rule());
        }
        match text_of(value).and_then(parse_wait) {
            None => complain(value, format!("{} is not a length of time", named(value)), self.rule()),
            Some(span) if span < self.0 => complain(value, format!("{} is too short", named(value)), self.rule()),
            Some(span) if span > self.1 => complain(value, format!("{} is too long", named(value)), self.rule()),
            Some(span) => Ok(span),
        }
    }
    fn show(&self, out: &Span) -> Option<String> {
        Some(format!("\"{}\"", show_wait(*out)))
    }
    fn rule(&self) -> String {
        format!("a time from \"{}\" to \"{}\"", show_wait(self.0), show_wait(self.1))
    }
    fn sample(&self) -> String {
        format!("\"{}\"", show_wait(self.0))
    }
}

fn parse_wait(text: &str) -> Option<Span> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Span::ZERO);
    }
    let mut nanos: Option<u64> = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.trim_start();
        let end = letters.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(letters.len());
        let (unit, behind) = letters.split_at(end);
        let (_, factor) = WAIT_UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.saturating_mul(*factor);
        nanos = Some(nanos.unwrap_or(0).saturating_add(part));
        rest = behind.trim_start();
    }
    nanos.map(Span)
}

/// `span` in the largest unit that is exact.
fn show_wait(span: Span) -> String {
    if span == Span::ZERO {
        return "0".into();
    }
    let (name, factor) =
        WAIT_UNITS.iter().find(|(_, factor)| span.0.is_multiple_of(*factor)).copied().unwrap_or(("us", 1_000));
    format!("{}{name}", span.0 / factor)
}

/// One of a kind, or `"off"`.
pub(super) struct OrOff<K>(pub K);

impl<K: Kind> Kind for OrOff<K> {
    type Out = Option<K::Out>;
    fn read(&self, value: &Value<'_>) -> Result<Self::Out, Vec<Complaint>> {
        if text_of(value) == Some("off") {
            return Ok(None);
        }
        self.0.read(value).map(Some).map_err(|mut complaints| {
            for complaint in &mut complaints {
                complaint.right.push_str(", or \"off\"");
            }
            complaints
        })
    }
    fn show(&self, out: &Self::Out) -> Option<String> {
        match out {
            None => Some("\"off\"".into()),
            Some(value) => self.0.show(value),
        }
    }
    fn rule(&self) -> String {
        format!("{}, or \"off\"", self.0.rule())
    }
    fn sample(&self) -> String {
        self.0.sample()
    }
}

/// One of a kind, or nothing said.
pub(super) struct Maybe<K>(pub K);

impl<K: Kind> Kind for Maybe<K> {
    type Out = Option<K::Out>;
    fn read(&self, value: &Value<'_>) -> Result<Self::Out, Vec<Complaint>> {
        self.0.read(value).map(Some)
    }
    fn show(&self, out: &Self::Out) -> Option<String> {
        out.as_ref().and_then(|value| self.0.show(value))
    }
    fn rule(&self) -> String {
        self.0.rule()
    }
    fn sample(&self) -> String {
        self.0.sample()
    }
}

/// A whole number, or `"auto"` for what the machine offers.
pub(super) struct OrAuto<K>(pub K);

impl<K: Kind> Kind for OrAuto<K> {
    type Out = Option<K::Out>;
    fn read(&self, value: &Value<'_>) -> Result<Self::Out, Vec<Complaint>> {
        if text_of(value) == Some("auto") {
            return Ok(None);
        }
        self.0.read(value).map(Some).map_err(|mut complaints| {
            for complaint in &mut complaints {
                complaint.right.push_str(", or \"auto\"");
            }
            complaints
        })
    }
    fn show(&self, out: &Self::Out) -> Option<String> {
        match out {
            None => Some("\"auto\"".into()),
            Some(value) => self.0.show(value),
        }
    }
    fn rule(&self) -> String {
        format!("{}, or \"auto\"", self.0.rule())
    }
    fn sample(&self) -> String {
        "\"auto\"".into()
    }
}

/// One of a few names. Names that are known but not to be had yet are refused with their reason.
pub(super) struct Choice<T: 'static> {
    /// What may be written.
    pub names: &'static [(&'static str, T)],
    /// What a later version will take, and what to write until then.
    pub later: &'static [(&'static str, &'static str)],
}

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Out = T;
    fn read(&self, value: &Value<'_>) -> Result<T, Vec<Complaint>> {
        let Some(text) = text_of(value) else {
            return complain(value, format!("{} is not a name in quotes", named(value)), self.rule());
        };
        if let Some((_, found)) = self.names.iter().find(|(name, _)| *name == text) {
            return Ok(*found);
        }
        if let Some((_, instead)) = self.later.iter().find(|(name, _)| *name == text) {
            return complain(value, format!("{} is not built in yet", quoted(text)), *instead);
        }
        let meant = nearest(text, self.names.iter().map(|(name, _)| *name))
            .map_or_else(|| self.rule(), |name| format!("\"{name}\" ({})", self.rule()));
        complain(value, format!("{} is unknown", quoted(text)), meant)
    }
    fn show(&self, out: &T) -> Option<String> {
        self.names.iter().find(|(_, value)| value == out).map(|(name, _)| format!("\"{name}\""))
    }
    fn rule(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        }
    }
    fn sample(&self) -> String {
        self.names.first().map(|(name, _)| format!("\"{name}\"")).unwrap_or_default()
    }
}

/// A list of a kind, bounded.
pub(super) struct List<K>(pub K, pub usize);

impl<K: Kind> Kind for List<K> {
    type Out = Vec<K::Out>;
    fn read(&self, value: &Value<'_>) -> Result<Self::Out, Vec<Complaint>> {
        let Some(items) = value.get_ref().as_array() else {
            return complain(value, format!("{} is not a list", named(value)), self.rule());
        };
        if items.len() > self.1 {
            return complain(value, format!("{} entries are too many", items.len()), format!("at most {}", self.1));
        }
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for item in items.iter() {
            match self.0.read(item) {
                Ok(found) => good.push(found),
                Err(complaints) => bad.extend(complaints),
            }
        }
        if bad.is_empty() { Ok(good) } else { Err(bad) }
    }
    fn show(&self, out: &Self::Out) -> Option<String> {
        let items: Vec<String> = out.iter().filter_map(|item| self.0.show(item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
    fn rule(&self) -> String {
        format!("a list as [{}]", self.0.sample())
    }
    fn sample(&self) -> String {
        format!("[{}]", self.0.sample())
    }
}

/// Waits between tries: `["4 x 1m", "6 x 5m", "10m"]`.
pub(super) struct Steps;

impl Steps {
    fn step(text: &str) -> Option<(u32, Span)> {
        let (count, wait) = match text.split_once('x') {
            Some((count, wait)) => (count.trim().parse().ok()?, wait),
            None => (1, text),
        };
        let wait = parse_wait(wait)?;
        ((1..=1_000).contains(&count) && wait >= Span::millis(1) && wait <= Span::hours(24 * 20))
            .then_some((count, wait))
    }
}

impl Kind for Steps {
    type Out = Ladder;
    fn read(&self, value: &Value<'_>) -> Result<Ladder, Vec<Complaint>> {
        let Some(items) = value.get_ref().as_array() else {
            return complain(value, format!("{} is not a ladder of waits", named(value)), self.rule());
        };
        if !(1..=LADDER_STEPS_MAX).contains(&items.len()) {
            let wrong = format!("{} steps are no ladder of 1 to {LADDER_STEPS_MAX}", items.len());
            return complain(value, wrong, self.rule());
        }
        let mut steps = Vec::new();
        for item in items.iter() {
            match text_of(item).and_then(Steps::step) {
                Some(step) => steps.push(step),
                None => return complain(item, format!("{} is not a step of waits", named(item)), self.rule()),
            }
        }
        let last = steps.pop().map_or(Span::minutes(10), |(_, wait)| wait);
        Ok(Ladder { steps, last })
    }
    fn show(&self, out: &Ladder) -> Option<String> {
        let mut text = String::from("[");
        for (count, wait) in &out.steps {
            write!(text, "\"{count} x {}\", ", show_wait(*wait)).ok()?;
        }
        write!(text, "\"{}\"]", show_wait(out.last)).ok()?;
        Some(text)
    }
    fn rule(&self) -> String {
        "steps from \"1ms\" to \"20d\" as [\"4 x 1m\", \"6 x 5m\", \"10m\"], the last for ever".into()
    }
    fn sample(&self) -> String {
        "[\"4 x 1m\", \"6 x 5m\", \"10m\"]".into()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::places::Range;
    use super::*;
    use crate::settings::Role;

    /// What `kind` makes of `text`, or the first complaint about it.
    pub(in super::super) fn read<K: Kind>(kind: &K, text: &str) -> Result<K::Out, String> {
        let value = DeValue::parse(text).expect("a TOML value");
        kind.read(&value).map_err(|complaints| format!("{}; {}", complaints[0].wrong, complaints[0].right))
    }

    #[test]
    fn sizes() {
        let kind = Bytes(1, 1 << 40);
        for (text, bytes) in [
            ("4096", 4096),
            ("\"64 MiB\"", 64 << 20),
            ("\"64mib\"", 64 << 20),
            ("\"1GB\"", 1_000_000_000),
            ("\"7B\"", 7),
        ] {
            assert_eq!(read(&kind, text), Ok(bytes), "{text}");
        }
        for (text, wrong) in [
            ("0", "0 is too small"),
            ("-5", "-5 is too small"),
            ("\"2 TiB\"", "\"2 TiB\" is too large"),
            ("99999999999999999999", "99999999999999999999 is too large"),
            ("\"99999999999999 TiB\"", "\"99999999999999 TiB\" is too large"),
            ("\"64 Mib it\"", "\"64 Mib it\" is not a size"),
            ("\"\"", "\"\" is not a size"),
            ("true", "true is not a size"),
            ("[1]", "a list is not a size"),
        ] {
            assert_eq!(read(&kind, text), Err(format!("{wrong}; write a size from \"1 B\" to \"1 TiB\"")), "{text}");
        }
    }

    #[test]
    fn waits() {
        let kind = Wait(Span::millis(1), Span::hours(48));
        for (text, span) in [
            ("\"10ms\"", Span::millis(10)),
            ("\"90s\"", Span::seconds(90)),
            ("\"1h 30m\"", Span::minutes(90)),
            ("\"1h30m\"", Span::minutes(90)),
            ("\"2d\"", Span::hours(48)),
            ("\"1500us\"", Span::micros(1500)),
        ] {
            assert_eq!(read(&kind, text), Ok(span), "{text}");
        }
        for (text, wrong) in [
            ("30", "30 has no unit"),
            ("\"30\"", "\"30\" is not a length of time"),
            ("\"s\"", "\"s\" is not a length of time"),
            ("\"\"", "\"\" is not a length of time"),
            ("\"0\"", "\"0\" is too short"),
            ("\"10us\"", "\"10us\" is too short"),
            ("\"3d\"", "\"3d\" is too long"),
            ("\"5 fortnights\"", "\"5 fortnights\" is not a length of time"),
        ] {
            assert_eq!(read(&kind, text), Err(format!("{wrong}; write a time from \"1ms\" to \"2d\"")), "{text}");
        }
    }

    #[test]
    fn counts_flags_and_names() {
        assert_eq!(read(&Count(1, 256), "0x10"), Ok(16));
        assert_eq!(read(&Count(1, 256), "257"), Err("257 is too large; write a number from 1 to 256".into()));
        assert_eq!(read(&Count(1, 256), "-1"), Err("-1 is too small; write a number from 1 to 256".into()));
        assert_eq!(
            read(&Count(1, 256), "\"2\""),
            Err("\"2\" is not a whole number; write a number from 1 to 256".into())
        );
        assert_eq!(read(&Flag, "\"yes\""), Err("\"yes\" is neither true nor false; write true or false".into()));
        let role = Choice { names: Role::NAMES, later: &[("edge", "\"hub\"")] };
        assert_eq!(read(&role, "\"hub\""), Ok(Role::Hub));
        assert_eq!(read(&role, "\"edge\""), Err("\"edge\" is not built in yet; write \"hub\"".into()));
        let names = "\"hub\", \"frontend\" or \"mailbox-delivery\"";
        assert_eq!(
            read(&role, "\"front-end\""),
            Err(format!("\"front-end\" is unknown; write \"frontend\" ({names})"))
        );
        assert_eq!(read(&role, "\"x\\u001b[31m\""), Err(format!("\"x\\u{{1b}}[31m\" is unknown; write {names}")));
        assert_eq!(read(&OrOff(Count(1, 9)), "\"off\""), Ok(None));
        assert_eq!(
            read(&OrOff(Count(1, 9)), "0"),
            Err("0 is too small; write a number from 1 to 9, or \"off\"".into())
        );
    }

    #[test]
    fn every_complaint_of_a_list_is_said_at_its_place() {
        let text = "[\"10.0.0.0/8\", \"10.0.0.1/8\", 7]";
        let value = DeValue::parse(text).expect("a TOML value");
        let complaints = List(Range, 10).read(&value).expect_err("two bad entries");
        assert_eq!(complaints.len(), 2);
        assert_eq!(text.get(complaints[0].at.clone()), Some("\"10.0.0.1/8\""));
        assert_eq!(complaints[0].right, "write \"10.0.0.0/8\"");
        assert_eq!(text.get(complaints[1].at.clone()), Some("7"));
        assert!(read(&List(Range, 1), text).expect_err("too many").starts_with("3 entries are too many"));
    }

    #[test]
    fn ladders() {
        let ladder = read(&Steps, "[\"4 x 1m\", \"6x5m\", \"10m\"]").expect("a ladder");
        assert_eq!(
            ladder,
            Ladder { steps: vec![(4, Span::minutes(1)), (6, Span::minutes(5))], last: Span::minutes(10) }
        );
        assert_eq!(Steps.show(&ladder).as_deref(), Some("[\"4 x 1m\", \"6 x 5m\", \"10m\"]"));
        for text in ["[]", "\"10m\"", "[\"0 x 1m\"]", "[\"x\"]", "[\"1 x\"]", "[\"0\"]", "[\"30d\"]", "[10]"] {
            assert!(read(&Steps, text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for bytes in [1, 1000, 1024, 37_748_736, 500 << 20, 1 << 40, (1 << 30) + 1] {
            let kind = Bytes(0, u64::MAX);
            assert_eq!(read(&kind, &kind.show(&bytes).expect("shown")), Ok(bytes));
        }
        for span in [Span::ZERO, Span::micros(1), Span::millis(1500), Span::seconds(90), Span::hours(120)] {
            let kind = Wait(Span::ZERO, Span::hours(1000));
            assert_eq!(read(&kind, &kind.show(&span).expect("shown")), Ok(span));
        }
    }
}
