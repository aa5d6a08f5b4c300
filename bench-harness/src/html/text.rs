//! Figures and foreign text as people read them, safe inside HTML.

use std::fmt::Write;

/// Appends `text` with everything that HTML could take for markup replaced, in element content and in quoted attributes
/// alike; control characters become a visible replacement (S-030).
pub fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.push('\u{fffd}'),
            // Bidirectional overrides could make a line read as something else.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// As [`escape_into`].
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    escape_into(&mut out, text);
    out
}

/// What stands where a figure was not measured.
pub const NOT_MEASURED: &str = "–";

/// Microseconds in the unit that reads best, three significant digits.
pub fn duration_us(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} µs", significant(us)),
        us if us < 999_500.0 => format!("{} ms", significant(us / 1e3)),
        us if us < 120e6 => format!("{} s", significant(us / 1e6)),
        us => format!("{} min", significant(us / 60e6)),
    }
}

/// As [`duration_us`], without zeros that say nothing: for round values at an axis.
pub fn round_duration_us(us: f64) -> String {
    let text = duration_us(us);
    match text.split_once(' ') {
        Some((figure, unit)) if figure.contains('.') => {
            format!("{} {unit}", figure.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// Milliseconds, as [`duration_us`].
pub fn duration_ms(ms: f64) -> String {
    duration_us(ms * 1000.0)
}

/// An outage, in milliseconds: `none` where no bucket was bad.
pub fn outage(ms: f64) -> String {
    if ms == 0.0 { "none".to_owned() } else { duration_ms(ms) }
}

/// A time that may be none at all, in milliseconds.
pub fn after(ms: f64) -> String {
    if ms == 0.0 { "at once".to_owned() } else { duration_ms(ms) }
}

/// Three significant digits, at least all digits before the point, grouped in thousands by a thin space.
pub fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (value.abs() * 1.0005).log10().floor(); // 999.6 is shown as 1000: it has four digits
    let decimals = (2.0 - digits).clamp(0.0, 6.0) as usize;
    let rounded = format!("{value:.decimals$}");
    match rounded.split_once('.') {
        Some((whole, part)) => format!("{}.{part}", grouped(whole)),
        None => grouped(&rounded),
    }
}

/// A count with its thousands apart.
pub fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// A rate: whole messages from ten a second on.
pub fn rate(per_s: f64) -> String {
    if per_s >= 10.0 { grouped(&format!("{per_s:.0}")) } else { significant(per_s) }
}

/// Octets in binary units.
pub fn bytes(bytes: f64) -> String {
    match bytes {
        b if b < 1023.5 => format!("{b:.0} B"),
        b if b < 1023.5 * 1024.0 => format!("{} KiB", significant(b / 1024.0)),
        b if b < 1023.5 * 1024.0 * 1024.0 => format!("{} MiB", significant(b / 1_048_576.0)),
        b => format!("{} GiB", significant(b / 1_073_741_824.0)),
    }
}

/// `value` formatted, or [`NOT_MEASURED`].
pub fn or_none<T>(value: Option<T>, format: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NOT_MEASURED.to_owned(), format)
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    if digits.len() < 5 {
        return format!("{sign}{digits}");
    }
    let mut out = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        let _ = write!(out, "{digit}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_030_foreign_text_is_only_text() {
        for (text, expected) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onload='x' &amp;", "&quot; onload=&#39;x&#39; &amp;amp;"),
            ("a\u{1b}[31m\u{0}b", "a\u{fffd}[31m\u{fffd}b"),
            ("x\u{202e}y", "x\u{fffd}y"),
            ("größe é", "größe é"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (us, text) in [
            (0.0, "0 µs"),
            (7.0, "7.00 µs"),
            (812.4, "812 µs"),
            (999.9, "1.00 ms"),
            (1_240.0, "1.24 ms"),
            (98_765.0, "98.8 ms"),
            (2_050_000.0, "2.05 s"),
            (3.6e9, "60.0 min"),
        ] {
            assert_eq!(duration_us(us), text);
        }
        assert_eq!(duration_ms(30.0), "30.0 ms");
        assert_eq!((round_duration_us(20_000.0), round_duration_us(1_500.0)), ("20 ms".into(), "1.5 ms".into()));
        assert_eq!(round_duration_us(500.0), "500 µs");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(count(9_999), "9999");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(rate(21_400.4), "21\u{202f}400");
        assert_eq!(rate(0.5), "0.500");
        assert_eq!(significant(-123_456.0), "-123\u{202f}456");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(48.0 * 1_048_576.0), "48.0 MiB");
        assert_eq!(or_none(None, duration_us), NOT_MEASURED);
    }
}
