//! The figures in a few lines for people. The verdict comes first.

use super::result::Document;
use crate::record::histogram::Percentiles;
use std::fmt::Write;

/// Microseconds as a person reads them.
pub fn micros(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} µs"),
        10_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// Several lines, each ended by a line end.
pub fn summary(document: &Document) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_summary(document, &mut text);
    text
}

fn write_summary(document: &Document, text: &mut String) -> std::fmt::Result {
    let main = document.main();
    let figures = &main.figures;
    if document.validity.valid {
        writeln!(text, "valid")?;
    } else {
        writeln!(text, "INVALID: {}", document.validity.reasons.join("; "))?;
    }
    let (offered, achieved) = document.rates();
    let per_second = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}/s"));
    let length = main.part.length();
    writeln!(text, "rate       offered {}, achieved {} over {length}", per_second(offered), per_second(achieved))?;
    writeln!(
        text,
        "messages   {} intended: {} accepted, {} rejected, {} deferred, {} not attempted, {} unknown, {} open",
        figures.intended,
        figures.accepted,
        figures.rejected,
        figures.deferred,
        figures.not_attempted,
        figures.unknown,
        figures.open
    )?;
    if let Some(accounts) = &main.accounts {
        writeln!(
            text,
            "pairs      {} intended: {} delivered, {} bounced, {} lost, {} queued, {} rejected, {} deferred, {} unknown; {} \
             duplicated, {} unexpected, {} with other content",
            accounts.intended,
            accounts.delivered,
            accounts.bounced,
            accounts.lost,
            accounts.queued,
            accounts.rejected,
            accounts.deferred,
            accounts.unknown,
            accounts.duplicated.total(),
            accounts.unexpected,
            accounts.content_differs
        )?;
        if accounts.unrecorded > 0 {
            writeln!(
                text,
                "           {} more were taken and not written down: a sink's ledger was full",
                accounts.unrecorded
            )?;
        }
    } else {
        writeln!(text, "pairs      no sink was asked: where the accepted went, and whether unchanged, is not known")?;
    }
    if let Some(refusals) = refusals(document) {
        writeln!(text, "refused    {refusals}")?;
    }
    let lines = [
        ("response  ", figures.response.percentiles().filter(|_| main.is_open)),
        ("service   ", figures.service.percentiles()),
        ("delivery  ", main.delivery),
        ("lag       ", offered.and(figures.schedule_lag.percentiles())),
        ("conn. wait", figures.connection_wait.percentiles()),
    ];
    for (name, percentiles) in lines {
        if let Some(shown) = percentiles {
            writeln!(text, "{name} {}", percentile_line(shown))?;
        }
    }
    let busy = main.busy.map_or("-".to_owned(), |busy| format!("{:.0} %", busy * 100.0));
    let cpu = main.cpu_us.map_or("-".to_owned(), |cpu| format!("{cpu:.1} µs"));
    writeln!(text, "generator  {cpu} CPU per message (the whole process), busiest thread {busy}")?;
    if let Some(limit) = document.limited_by() {
        writeln!(text, "limited by {limit}: the rate is a lower bound")?;
    }
    Ok(())
}

/// What the server said no to, if it did: how often by code, and its first words.
fn refusals(document: &Document) -> Option<String> {
    let (messages, recipients, first) = document.refusals();
    let of = |what: &'static str| move |(code, count): (&String, &u64)| format!("{count} {what} by {code}");
    let by_code = |(code, _): &(&String, &u64)| code.bytes().all(|octet| octet.is_ascii_digit());
    let counts = messages.iter().filter(by_code).map(of("messages"));
    let counts: Vec<String> = counts.chain(recipients.iter().map(of("recipients"))).collect();
    let first = first.map(|first| format!("the first reply: {first}"));
    let all: Vec<String> = (!counts.is_empty()).then(|| counts.join(", ")).into_iter().chain(first).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn percentile_line(shown: Percentiles) -> String {
    let Percentiles { p50, p90, p99, p999, max } = shown;
    let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(micros);
    format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_their_unit() {
        let shown: Vec<String> = [0, 9_999, 10_000, 1_500_000, 62_000_000].into_iter().map(micros).collect();
        assert_eq!(shown, ["0 µs", "9999 µs", "10.0 ms", "1500.0 ms", "62.0 s"]);
    }
}
