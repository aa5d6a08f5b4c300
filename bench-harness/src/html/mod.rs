//! The report: one HTML file that needs nothing else. No script, no network (the content policy forbids both), every
//! foreign text escaped (S-030), charts as inline SVG, and behind each chart the exact values in tables.
//!
//! Top down: whether the figures may be used, the figures people look for first, each phase with its charts, then the
//! tables and how it was measured.

pub mod charts;
pub mod svg;
mod tables;
pub mod text;

use crate::failover::Summary;
use crate::result::{Phase, RunResult};
use charts::{Curve, Timeline};
use loadgen::validity::Validity;
use std::fmt::Write;
use svg::Form;
use text::{NOT_MEASURED, bytes, count, duration_ms, duration_us, escape, or_none, outage, rate, significant};

const STYLE: &str = include_str!("style.css");

/// What the report shows beyond `result.json`.
#[derive(Debug, Clone, Default)]
pub struct Views {
    /// One for each phase of the result, in its order.
    pub phases: Vec<PhaseView>,
    /// The command that repeats the run.
    pub command: String,
    /// Random text that no data can know: only the style sheet that carries it counts.
    pub nonce: String,
}

/// The pictures of one phase.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PhaseView {
    /// Latency distributions.
    pub curves: Vec<Curve>,
    /// The whole of it, then a closer look at each fault.
    pub timelines: Vec<Timeline>,
}

/// The whole page.
pub fn page(result: &RunResult, views: &Views) -> String {
    let mut out = String::with_capacity(256 << 10);
    head(&mut out, result, views);
    let _ = write!(out, "<body><main><header><p class=\"kicker\">Ringbench · {}</p>", escape(&result.scenario));
    let _ = write!(out, "<h1>{}</h1>", escape(&headline(result)));
    verdict(&mut out, &result.main.validity);
    cards(&mut out, result);
    facts(&mut out, result);
    out.push_str("</header>");
    tables::overview(&mut out, result);
    let empty = PhaseView::default();
    for (index, phase) in result.phases.iter().enumerate() {
        phase_section(&mut out, phase, views.phases.get(index).unwrap_or(&empty));
    }
    cost_section(&mut out, result);
    tables::section(&mut out, result);
    method_section(&mut out, result, views);
    let _ = write!(
        out,
        "<footer>{} {} · {} · schema {} · everything here is also in <code>result.json</code> beside this file</footer></main></body></html>",
        escape(&result.tool),
        escape(&result.version),
        escape(&result.started),
        result.schema
    );
    out
}

fn head(out: &mut String, result: &RunResult, views: &Views) {
    let nonce: String = views.nonce.chars().filter(char::is_ascii_alphanumeric).collect();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <meta name=\"referrer\" content=\"no-referrer\"><title>{} · Ringbench</title><style nonce=\"{nonce}\">\n{STYLE}</style></head>",
        escape(&result.scenario)
    );
}

/// The result in one sentence.
fn headline(result: &RunResult) -> String {
    let mut parts = Vec::new();
    if let Some(achieved) = result.main.rate.achieved_per_s {
        let part = main_part(result).map_or_else(String::new, |part| format!("{part}: "));
        parts.push(format!("{part}{} messages a second", rate(achieved)));
    }
    if let Some(p99) = result.main.latency_us.response.p99 {
        parts.push(format!("acknowledged within {} (p99)", duration_us(p99)));
    }
    if result.main.pairs.intended > 0 {
        let lost: u64 = result.phases.iter().map(|p| p.figures.pairs.lost).sum();
        parts.push(if lost == 0 { "nothing lost".to_owned() } else { format!("{} lost", count(lost)) });
    }
    if parts.is_empty() { "Nothing was measured".to_owned() } else { parts.join(", ") }
}

/// Of a run of several parts, the one whose figures are the run's.
fn main_part(result: &RunResult) -> Option<&str> {
    let is_main = |phase: &&Phase| {
        let figures = &phase.figures;
        (&figures.latency_us, &figures.rate, &figures.pairs)
            == (&result.main.latency_us, &result.main.rate, &result.main.pairs)
    };
    result.phases.iter().find(is_main)?.part()
}

fn verdict(out: &mut String, validity: &Validity) {
    if validity.valid {
        out.push_str("<div class=\"verdict\"><p><strong>Valid.</strong> The generator kept up, every message has an end, and nothing failed that was not meant to.</p></div>");
        return;
    }
    out.push_str("<div class=\"verdict bad\"><p><strong>Not valid.</strong> Do not quote these figures:</p><ul>");
    for reason in &validity.reasons {
        let _ = write!(out, "<li>{}</li>", escape(reason));
    }
    out.push_str("</ul></div>");
}

struct Card {
    what: String,
    figure: String,
    more: String,
    bad: bool,
}

impl Card {
    fn new(what: &str, figure: String, more: String) -> Self {
        Self { what: what.to_owned(), figure, more, bad: false }
    }
}

fn cards(out: &mut String, result: &RunResult) {
    let mut cards = Vec::new();
    let part = main_part(result);
    let of_part = |what: &str| part.map_or_else(|| what.to_owned(), |part| format!("{what}, {part}"));
    if let Some(probe) = result.phases.iter().find(|phase| phase.saturating && phase.part() == part) {
        let limit = probe.figures.limited_by.as_deref().unwrap_or("unknown");
        let more = if limit == "engine" {
            "limited by the engine".to_owned()
        } else {
            format!("limited by: {limit}; a lower bound")
        };
        let figure = or_none(probe.figures.rate.achieved_per_s, |r| format!("{}/s", rate(r)));
        cards.push(Card::new(&of_part("Highest rate found"), figure, more));
    }
    let main = &result.main;
    let at = main.rate.achieved_per_s.map_or_else(String::new, |achieved| format!("at {}/s, ", rate(achieved)));
    for (what, times, span) in [
        ("Response time", &main.latency_us.response, "due to 250"),
        ("Delivery time", &main.latency_us.delivery, "due to the far end"),
    ] {
        let (p99, max) = (or_none(times.p99, duration_us), or_none(times.max, duration_us));
        let more = format!("median {at}{span}; p99 {p99}, max {max}");
        cards.push(Card::new(&of_part(what), or_none(times.p50, duration_us), more));
    }
    if let Some((kind, Some(cpu))) = main.cpu_us_per_message.iter().find(|(kind, _)| *kind == "hub") {
        cards.push(Card::new(
            &of_part(&format!("CPU per message, {kind}")),
            duration_us(*cpu),
            "user and system time".into(),
        ));
    }
    for failover in &result.failover {
        cards.push(failover_card(failover));
    }
    let (lost, twice) =
        result.phases.iter().map(|p| &p.figures.pairs).fold((0, 0), |(l, d), p| (l + p.lost, d + p.duplicated.total()));
    if main.pairs.intended > 0 {
        let mut card = Card::new("Lost", count(lost), format!("{} delivered more than once", count(twice)));
        card.bad = lost > 0;
        cards.push(card);
    }
    out.push_str("<ul class=\"cards\">");
    for card in cards {
        let class = if card.bad { " class=\"bad\"" } else { "" };
        let (what, more) = (escape(&card.what), escape(&card.more));
        let _ = write!(
            out,
            "<li{class}><div class=\"what\">{what}</div><div class=\"figure\">{}</div><div class=\"more\">{more}</div></li>",
            escape(&card.figure)
        );
    }
    out.push_str("</ul>");
}

fn failover_card(failover: &Summary) -> Card {
    let worst = or_none(failover.outage_ms.max, outage);
    let times = if failover.faults == 1 { String::new() } else { format!("worst of {}, ", failover.faults) };
    let mut more = format!("{times}seen in steps of {}", duration_ms(failover.bucket_ms));
    let _ = write!(more, "; stranded on it: {}", or_none(failover.stranded.messages, count));
    if failover.stranded.messages > Some(0) {
        let last = or_none(failover.stranded.last_delivered_ms, duration_ms);
        let _ = write!(more, ", delivered within {last} of its return");
    }
    Card::new(&format!("Outage, {} killed", failover.kind.replace('-', " ")), worst, more)
}

fn facts(out: &mut String, result: &RunResult) {
    let host = &result.host;
    let sync = format!(
        "{}, sync of 4 KiB p50 {}, p99 {}",
        host.fs.as_deref().unwrap_or("unknown file system"),
        or_none(host.disk_sync_us.p50, duration_us),
        or_none(host.disk_sync_us.p99, duration_us)
    );
    let machine = format!("{} cores, {}, Linux {}", host.cores, host.cpu, host.kernel);
    let version = match &result.git {
        Some(git) => format!("{} ({git})", result.version),
        None => result.version.clone(),
    };
    let promise = match result.durability.as_str() {
        "disk" => "a 250 means synced to stable storage",
        "os" => "a 250 means written to the file, not synced",
        "none" => "a 250 means in memory",
        "unknown" => "who takes the mail does not say what a 250 means",
        _ => "",
    };
    let durability =
        if promise.is_empty() { result.durability.clone() } else { format!("{} – {promise}", result.durability) };
    out.push_str("<dl class=\"facts\">");
    let commit = match result.commit.as_deref() {
        Some("direct") => "direct – past the page cache, one durable write a batch",
        Some("buffered") => "buffered – through the page cache, then synced",
        other => other.unwrap_or(NOT_MEASURED),
    };
    let driver = match result.driver.as_str() {
        "uring" => "uring – our own reactor on io_uring",
        other => other,
    };
    let profile = match result.profile.as_str() {
        "bench" => "bench – as fast as it goes, without the delays for clients without manners",
        other => other,
    };
    let facts: [(&str, &str); 9] = [
        ("Way", &result.way),
        ("Durability", &durability),
        ("Driver", driver),
        ("Commit", commit),
        ("Profile", profile),
        ("Cores", &result.placement),
        ("Machine", &machine),
        ("Disk", &sync),
        ("Version", &version),
    ];
    for (name, value) in facts {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(if value.is_empty() { NOT_MEASURED } else { value }));
    }
    out.push_str("</dl>");
}

fn phase_section(out: &mut String, phase: &Phase, view: &PhaseView) {
    let validity = &phase.figures.validity;
    let tag =
        if validity.valid { "<span class=\"tag\">valid</span>" } else { "<span class=\"tag bad\">not valid</span>" };
    let mut name = phase.name.replace('-', " ");
    if let Some(first) = name.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    let _ = write!(out, "<section><h2>{}{tag}</h2><p class=\"about\">{}</p>", escape(&name), escape(&phase.about));
    if !validity.valid {
        out.push_str("<div class=\"verdict bad\"><ul>");
        validity.reasons.iter().for_each(|reason| {
            let _ = write!(out, "<li>{}</li>", escape(reason));
        });
        out.push_str("</ul></div>");
    }
    let _ = write!(out, "<p>{}</p>", escape(&phase_in_words(phase)));
    if let Some(failover) = &phase.failover {
        // Here the story is what happened when.
        view.timelines.iter().for_each(|timeline| timeline_figure(out, timeline));
        tables::failover(out, failover);
    }
    if !view.curves.is_empty() {
        out.push_str("<h3>How long messages took</h3>");
        figure(
            out,
            |form| charts::percentiles(&view.curves, form),
            "Each curve says how many messages were done within a time: at 99 % one in a hundred took longer. Time counts from the moment a message was due, not from when it was sent.",
        );
    }
    if phase.failover.is_none() {
        if phase.figures.step_us.iter().filter_map(|(_, us)| *us).sum::<f64>() > 0.0 {
            steps_figure(out, phase);
        }
        view.timelines.iter().for_each(|timeline| timeline_figure(out, timeline));
    }
    out.push_str("</section>");
}

fn phase_in_words(phase: &Phase) -> String {
    let rates = &phase.figures.rate;
    let mut words = match (rates.offered_per_s, rates.achieved_per_s) {
        (Some(offered), Some(achieved)) => {
            format!("{} messages a second were due, {} were acknowledged", rate(offered), rate(achieved))
        }
        (None, Some(achieved)) => format!("{} messages a second were acknowledged", rate(achieved)),
        _ => "No rate was measured".to_owned(),
    };
    let _ = write!(words, ", over {} s", significant(phase.seconds));
    if let Some(size) = phase.size_bytes {
        let _ = write!(words, ", {} each", bytes(size as f64));
    }
    let pairs = &phase.figures.pairs;
    if pairs.intended > 0 {
        let _ = write!(
            words,
            ". Of {} messages, warm-up included, {} arrived",
            count(pairs.intended),
            count(pairs.delivered)
        );
        let rest = [
            (pairs.lost, "lost"),
            (pairs.queued, "still queued"),
            (pairs.rejected, "refused for good"),
            (pairs.deferred, "refused for now"),
            (pairs.unknown, "whose sender heard no verdict"),
            (pairs.duplicated.total(), "delivered twice"),
        ];
        for (number, what) in rest.into_iter().filter(|(number, _)| *number > 0) {
            let _ = write!(words, ", {} {what}", count(number));
        }
    }
    words.push('.');
    let refused: Vec<String> =
        phase.figures.not_accepted.iter().map(|(how, number)| format!("{how} ({})", count(*number))).collect();
    if !refused.is_empty() {
        let _ = write!(words, " Not accepted: {}.", refused.join(", "));
    }
    words
}

/// A picture in both forms with its caption.
fn figure(out: &mut String, draw: impl Fn(Form) -> String, caption: &str) {
    out.push_str("<figure>");
    Form::ALL.into_iter().for_each(|form| out.push_str(&draw(form)));
    let _ = write!(out, "<figcaption>{}</figcaption></figure>", escape(caption));
}

fn legend(out: &mut String, entries: impl IntoIterator<Item = (usize, String)>) {
    out.push_str("<ul class=\"legend\">");
    for (key, name) in entries {
        let _ = write!(out, "<li><i class=\"k{key}\"></i>{}</li>", escape(&name));
    }
    out.push_str("</ul>");
}

fn steps_figure(out: &mut String, phase: &Phase) {
    let steps: Vec<(String, f64)> =
        phase.figures.step_us.iter().filter_map(|(name, us)| Some((name.replace('_', " "), (*us)?))).collect();
    let steps: Vec<(String, f64)> = steps.into_iter().filter(|(_, us)| *us > 0.0).collect();
    out.push_str("<h3>Where a transaction’s time goes</h3>");
    if let [(_, us)] = steps[..] {
        let us = duration_us(us);
        let _ = write!(
            out,
            "<p>Its commands and its body leave together and are answered together: one step of {us} on average.</p>"
        );
        return;
    }
    legend(out, steps.iter().enumerate().map(|(i, (name, us))| (i % 5 + 1, format!("{name} {}", duration_us(*us)))));
    figure(
        out,
        |form| charts::steps(&steps, form),
        "Means over all messages, from the first command to the final reply; they add up to the mean service time. What the server answers in one piece is one step: a pipelined transaction waits only once.",
    );
}

fn timeline_figure(out: &mut String, timeline: &Timeline) {
    let _ = write!(out, "<h3>{}</h3>", escape(&timeline.title));
    let entries = [
        (1, "median response, and accepted per second"),
        (2, "p99 response"),
        (5, "largest response, and due per second"),
    ];
    legend(out, entries.map(|(key, name)| (key, name.to_owned())));
    let caption = format!("{} {}", timeline.caption, charts::in_words(timeline));
    figure(out, |form| charts::timeline(timeline, form), caption.trim());
}

fn cost_section(out: &mut String, result: &RunResult) {
    let known = |map: &crate::result::PerProcess| -> Vec<(String, f64)> {
        map.iter().filter_map(|(name, value)| Some((name.clone(), (*value)?))).collect()
    };
    let of_each = |process: &crate::result::Process| Some((process.name.clone(), process.cpu_us_per_message?));
    let each: Vec<(String, f64)> = result.processes.iter().filter_map(of_each).collect();
    let cpu = if each.is_empty() { known(&result.main.cpu_us_per_message) } else { each };
    let phase = main_part(result).map_or_else(String::new, |part| format!(" ({part})"));
    if cpu.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<section><h2>CPU per message</h2><p class=\"about\">User and system time of each process, for each acknowledged message of the main phase{}. Time holds for this machine only; compare ratios.</p>",
        escape(&phase)
    );
    figure(
        out,
        |form| charts::bars(&cpu, form, duration_us),
        "A process that not every message passes costs less for each of all of them. By kind, and for each phase, see the tables.",
    );
    out.push_str("</section>");
}

fn method_section(out: &mut String, result: &RunResult, views: &Views) {
    out.push_str("<section><h2>How this was measured</h2>");
    out.push_str("<p>Messages are sent on a schedule that is fixed beforehand and never waits for the server (open loop). <em>Response time</em> runs from the moment a message is due to its 250; <em>service time</em> from its first command; <em>delivery time</em> from the moment it is due to its arrival at the sink. A message is <em>good</em> when it is acknowledged within the deadline; an <em>outage</em> is the total length of buckets in which fewer than 99 % were good, a <em>hard outage</em> of those in which none was. Messages are accounted one by one: each ends as delivered, bounced, lost, queued, rejected, deferred or unknown.</p>");
    if !views.command.is_empty() {
        let _ = write!(
            out,
            "<p>To repeat it: <code>{}</code>, or, with all that was chosen then, <code>ringbench run run.toml</code> in this folder.</p>",
            escape(&views.command)
        );
    }
    out.push_str("<div class=\"scroll\"><table><caption>Processes</caption><thead><tr><th>Name</th><th>Cores</th><th class=\"text\">Command</th></tr></thead><tbody>");
    for process in &result.processes {
        let cores: Vec<String> = process.cores.iter().map(usize::to_string).collect();
        let cores = if cores.is_empty() { "any".to_owned() } else { cores.join(", ") };
        let _ = write!(
            out,
            "<tr><th>{}</th><td>{cores}</td><td class=\"text\"><code>{}</code></td></tr>",
            escape(&process.name),
            escape(&process.command)
        );
    }
    out.push_str("</tbody></table></div></section>");
}

#[cfg(test)]
mod tests;
