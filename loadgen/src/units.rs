//! What a person types for a rate, a length of time, a size: parsed once into exact integers, printed back the same way.

use engine::wire::Span;
use std::fmt;
use std::str::FromStr;

/// Messages per second, exactly: counted in millionths, so that a schedule made from it never drifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    micro_per_second: u64,
}

/// The highest rate that a schedule takes, in messages per second.
pub const RATE_PER_SECOND_MAX: u64 = 10_000_000;

impl Rate {
    /// `count` messages per second; `None` for zero or more than [`RATE_PER_SECOND_MAX`].
    pub fn per_second(count: u64) -> Option<Self> {
        (1..=RATE_PER_SECOND_MAX).contains(&count).then(|| Self { micro_per_second: count * 1_000_000 })
    }

    /// In millionths of a message per second.
    pub fn micro_per_second(self) -> u64 {
        self.micro_per_second
    }

    /// In messages per second.
    pub fn as_f64(self) -> f64 {
        self.micro_per_second as f64 / 1e6
    }

    /// How long `messages` messages take, rounded up.
    pub fn time_of(self, messages: u64) -> Span {
        let nanos = (u128::from(messages) * 1_000_000_000_000_000).div_ceil(u128::from(self.micro_per_second));
        Span(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The same rate times `factor`; `None` when that is no rate any more.
    pub fn scaled(self, factor: f64) -> Option<Self> {
        from_micro(self.micro_per_second as f64 * factor)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.as_f64())
    }
}

/// What is wrong with a figure that a person typed; the text says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// Not a rate.
    #[error("`{0}` is not a rate: write 500/s, 1.5k/s or 30/m (above 0, at most 10000000/s)")]
    Rate(String),
    /// Not a length of time.
    #[error("`{0}` is not a duration: write 10s, 250ms, 5m or 1h")]
    Duration(String),
    /// Not a size.
    #[error("`{0}` is not a size in octets: write 4096, 4k, 100KiB or 1M (at most 4G)")]
    Size(String),
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::Rate(text.to_owned());
        let (number, per) = text.trim().split_once('/').unwrap_or((text.trim(), "s"));
        let seconds = match per.trim() {
            "s" | "sec" | "second" => 1.0,
            "m" | "min" | "minute" => 60.0,
            "h" | "hour" => 3600.0,
            _ => return Err(bad()),
        };
        let number = number.trim();
        let (digits, factor) = match number.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1e3),
            None => (number, 1.0),
        };
        let count = decimal(digits).ok_or_else(bad)?;
        from_micro(count * factor * 1e6 / seconds).ok_or_else(bad)
    }
}

fn from_micro(micro: f64) -> Option<Rate> {
    let rounded = micro.round();
    (rounded >= 1.0 && rounded <= (RATE_PER_SECOND_MAX * 1_000_000) as f64)
        .then_some(Rate { micro_per_second: rounded as u64 })
}

/// A plain decimal number: digits and at most one point. No sign, no exponent, no `inf`.
fn decimal(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

/// `10s`, `250ms`, `5m`, `1h`, `20us`; a bare number is seconds.
pub fn parse_span(text: &str) -> Result<Span, UnitError> {
    let bad = || UnitError::Duration(text.to_owned());
    let text_trimmed = text.trim();
    let split = text_trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text_trimmed.len());
    let (digits, unit) = text_trimmed.split_at(split);
    let nanos = match unit.trim() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "" | "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => return Err(bad()),
    };
    let span = decimal(digits).ok_or_else(bad)? * nanos;
    (span <= 365.0 * 86_400e9).then_some(Span(span.round() as u64)).ok_or_else(bad)
}

/// `4096`, `4k`, `100KiB`, `1M`, `2g`: octets, with binary multiples.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Size(text.to_owned());
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(split);
    let factor = match unit.trim() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(bad()),
    };
    let bytes = (decimal(digits).ok_or_else(bad)? * factor).round();
    (bytes <= 4.0 * 1024.0 * 1024.0 * 1024.0).then_some(bytes as u64).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_exactly() {
        for (text, micro) in [
            ("500/s", 500_000_000),
            ("500", 500_000_000),
            ("1.5k/s", 1_500_000_000),
            ("30/m", 500_000),
            ("1/h", 278),
            ("0.5", 500_000),
        ] {
            assert_eq!(text.parse::<Rate>().map(Rate::micro_per_second), Ok(micro), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_by_name() {
        for text in ["", "0", "0/s", "-1/s", "fast", "500/day", "1e9", "inf", "nan", "1.2.3", "20000000/s"] {
            assert_eq!(text.parse::<Rate>(), Err(UnitError::Rate(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn spans_and_sizes() {
        assert_eq!(parse_span("10s"), Ok(Span::seconds(10)));
        assert_eq!(parse_span("250ms"), Ok(Span::millis(250)));
        assert_eq!(parse_span("1.5"), Ok(Span::millis(1500)));
        assert_eq!(parse_span("2h"), Ok(Span::hours(2)));
        assert_eq!(parse_span("20us"), Ok(Span::micros(20)));
        for bad in ["", "s", "-1s", "1d", "10 parsecs", "99999999h"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_bytes("4k"), Ok(4096));
        assert_eq!(parse_bytes("100KiB"), Ok(102_400));
        assert_eq!(parse_bytes("1M"), Ok(1 << 20));
        for bad in ["", "k", "-4k", "4t", "5g"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
