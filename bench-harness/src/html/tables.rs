//! The exact values behind the charts.

use super::text::{
    NOT_MEASURED, after, bytes, count, duration_ms, duration_us, escape, or_none, outage, rate, significant,
};
use crate::failover::{Impact, Spread, Summary};
use crate::result::{Figures, Phase, RunResult};
use loadgen::correlate::Accounts;
use std::fmt::Write;

struct Table {
    out: String,
}

impl Table {
    fn new(caption: &str, heads: &[&str]) -> Self {
        let mut out = String::from("<div class=\"scroll\"><table>");
        let _ = write!(out, "<caption>{}</caption><thead><tr>", escape(caption));
        for head in heads {
            let _ = write!(out, "<th scope=\"col\">{}</th>", escape(head));
        }
        out.push_str("</tr></thead><tbody>");
        Self { out }
    }

    fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        let _ = write!(self.out, "<tr><th scope=\"row\">{}</th>", escape(name));
        for cell in cells {
            let class = if cell == NOT_MEASURED { " class=\"none\"" } else { "" };
            let _ = write!(self.out, "<td{class}>{}</td>", escape(&cell));
        }
        self.out.push_str("</tr>");
    }

    fn end(mut self, into: &mut String) {
        self.out.push_str("</tbody></table></div>");
        into.push_str(&self.out);
    }
}

fn title(phase: &Phase) -> String {
    phase.name.replace('-', " ")
}

/// All tables of the run.
pub fn section(out: &mut String, result: &RunResult) {
    out.push_str("<section><h2>Exact values</h2>");
    latencies(out, result);
    rates(out, result);
    accounts(out, result);
    costs(out, result);
    out.push_str("</section>");
}

fn latencies(out: &mut String, result: &RunResult) {
    let mut table = Table::new("Latency", &["", "p50", "p90", "p99", "p99.9", "max"]);
    for phase in result.phases.iter().filter(|phase| !phase.saturating) {
        let latency = &phase.figures.latency_us;
        let kinds = [("response", &latency.response), ("service", &latency.service), ("delivery", &latency.delivery)];
        for (kind, times) in kinds.into_iter().filter(|(_, times)| times.p50.is_some()) {
            table.row(&format!("{}, {kind}", title(phase)), times.named().map(|(_, us)| or_none(us, duration_us)));
        }
    }
    table.end(out);
}

fn rates(out: &mut String, result: &RunResult) {
    let mut table =
        Table::new("Rates, messages a second", &["", "offered", "achieved", "seconds", "limited by", "valid"]);
    for phase in &result.phases {
        let figures = &phase.figures;
        let cells = [
            or_none(figures.rate.offered_per_s, rate),
            or_none(figures.rate.achieved_per_s, rate),
            significant(phase.seconds),
            figures.limited_by.clone().unwrap_or_else(|| NOT_MEASURED.to_owned()),
            if figures.validity.valid { "yes" } else { "no" }.to_owned(),
        ];
        table.row(&title(phase), cells);
    }
    table.end(out);
}

/// An account's name and how many pairs ended in it.
type Account = (&'static str, fn(&Accounts) -> u64);

/// The first three are always shown, the others where anything ended in them.
const ACCOUNTS: [Account; 15] = [
    ("intended", |p| p.intended),
    ("delivered", |p| p.delivered),
    ("lost", |p| p.lost),
    ("bounced", |p| p.bounced),
    ("queued", |p| p.queued),
    ("rejected", |p| p.rejected),
    ("deferred", |p| p.deferred),
    ("unknown", |p| p.unknown),
    ("recovered", |p| p.recovered),
    ("taken, yet 4yz", |p| p.deferred_yet_taken),
    ("refused, yet delivered", |p| p.refused_yet_delivered),
    ("duplicated", |p| p.duplicated.total()),
    ("changed", |p| p.content_differs),
    ("unexpected", |p| p.unexpected),
    ("not written down", |p| p.unrecorded),
];

fn accounts(out: &mut String, result: &RunResult) {
    let phases: Vec<&Phase> = result.phases.iter().filter(|phase| phase.figures.pairs.intended > 0).collect();
    let is_any = |of: fn(&Accounts) -> u64| phases.iter().any(|phase| of(&phase.figures.pairs) > 0);
    let (shown, empty): (Vec<(usize, Account)>, _) =
        ACCOUNTS.into_iter().enumerate().partition(|(index, (_, of))| *index < 3 || is_any(*of));
    let heads: Vec<&str> = std::iter::once("").chain(shown.iter().map(|(_, (name, _))| *name)).collect();
    let mut table = Table::new("Accounts of (message, recipient) pairs", &heads);
    for phase in &phases {
        table.row(&title(phase), shown.iter().map(|(_, (_, of))| count(of(&phase.figures.pairs))));
    }
    table.end(out);
    let empty: Vec<&str> = empty.iter().map(|(_, (name, _))| *name).collect();
    if !phases.is_empty() && !empty.is_empty() {
        let _ = write!(out, "<p class=\"note\">0 in every phase: {}.</p>", empty.join("; "));
    }
}

/// Of a run of several parts, one row for each: what differs between them.
pub fn overview(out: &mut String, result: &RunResult) {
    let mut parts: Vec<&str> = result.phases.iter().filter_map(Phase::part).collect();
    parts.dedup();
    if parts.len() < 2 {
        return;
    }
    out.push_str("<section><h2>Side by side</h2>");
    let heads = ["", "highest rate", "limited by", "response p50", "p99", "delivery p50", "p99", "CPU/msg, hub"];
    let mut table = Table::new("Latency at half of the highest rate unless one was given; CPU at the highest", &heads);
    for part in parts {
        let of = |saturating| result.phases.iter().find(|p| p.part() == Some(part) && p.saturating == saturating);
        let (probe, latency) = (of(true).map(|p| &p.figures), of(false).map(|p| &p.figures));
        let time = |of: fn(&Figures) -> Option<f64>| or_none(latency.and_then(of), duration_us);
        let cpu = probe.or(latency).and_then(|f| f.cpu_us_per_message.get("hub").copied().flatten());
        let cells = [
            or_none(probe.and_then(|f| f.rate.achieved_per_s), |r| format!("{}/s", rate(r))),
            probe.and_then(|f| f.limited_by.clone()).unwrap_or_else(|| NOT_MEASURED.to_owned()),
            time(|f| f.latency_us.response.p50),
            time(|f| f.latency_us.response.p99),
            time(|f| f.latency_us.delivery.p50),
            time(|f| f.latency_us.delivery.p99),
            or_none(cpu, duration_us),
        ];
        table.row(part, cells);
    }
    table.end(out);
    out.push_str("</section>");
}

fn costs(out: &mut String, result: &RunResult) {
    let heads = ["", "CPU", "system calls", "copied", "allocations", "durable writes", "written", "peak memory"];
    let mut table = Table::new("Cost of a message by kind of process, and the most memory that it had", &heads);
    for phase in &result.phases {
        for (kind, _) in phase.figures.cpu_us_per_message.iter().filter(|(_, cpu)| cpu.is_some()) {
            table.row(&format!("{}, {kind}", title(phase)), cost_cells(&phase.figures, kind));
        }
    }
    table.end(out);
}

fn cost_cells(figures: &Figures, kind: &str) -> [String; 7] {
    let of = |map: &crate::result::PerProcess| map.get(kind).copied().flatten();
    [
        or_none(of(&figures.cpu_us_per_message), duration_us),
        or_none(of(&figures.syscalls_per_message), significant),
        or_none(of(&figures.copied_bytes_per_message), bytes),
        or_none(of(&figures.allocations_per_message), significant),
        or_none(of(&figures.stable_writes_per_message), significant),
        or_none(of(&figures.written_bytes_per_message), bytes),
        or_none(of(&figures.peak_rss_bytes), bytes),
    ]
}

/// Every single fault of one kind, and their summary where there are several: what senders felt, and how it passed.
pub fn failover(out: &mut String, failover: &Summary) {
    let caption = format!(
        "What each fault cost its senders. A message is good when it is acknowledged within {} (or less: see each). Outage: steps of {} in which less than \
         99 % were good; hard: those with none; brownout: the others.",
        duration_ms(failover.deadline_ms),
        duration_ms(failover.bucket_ms)
    );
    let heads = ["", "outage", "hard", "brownout", "longest silence", "not good", "debt", "good within"];
    let spreads: [Spreads<'_>; 4] = [
        (&failover.outage_ms, outage),
        (&failover.hard_outage_ms, outage),
        (&failover.brownout_ms, outage),
        (&failover.ack_gap_ms, duration_ms),
    ];
    faults(out, failover, (&caption, &heads), &spreads, |impact| {
        vec![
            outage(impact.outage_ms),
            outage(impact.hard_outage_ms),
            outage(impact.brownout_ms),
            duration_ms(impact.ack_gap_ms),
            count(impact.affected),
            format!("{} message·s", significant(impact.debt_message_s)),
            duration_ms(impact.deadline_ms),
        ]
    });
    let heads = [
        "",
        "detection",
        "recovery",
        "outage after heal",
        "stranded",
        "last of them",
        "could double",
        "could go untold",
    ];
    let spreads: [Spreads<'_>; 3] =
        [(&failover.detection_ms, duration_ms), (&failover.recovery_ms, after), (&failover.heal_ms, outage)];
    let caption = "How each fault passed. Detection: until a message came through that must have \
                   taken another way; recovery: until ten good seconds \
                   began; stranded: messages that rested on the dead server, and when the last of them was delivered.";
    faults(out, failover, (caption, &heads), &spreads, |impact| {
        vec![
            or_none(impact.detection_ms, duration_ms),
            or_none(impact.recovery_ms, after),
            or_none(impact.heal_ms, outage),
            or_none(impact.stranded, count),
            or_none(impact.stranded_last_ms, duration_ms),
            count(impact.duplicates_max),
            count(impact.unanswered_max),
        ]
    });
    flow(out, failover);
    explanations(out, failover);
    let twice = failover.duplicated.map_or_else(|| "An unknown number".to_owned(), count);
    let _ = write!(
        out,
        "<p class=\"note\">{twice} delivered twice; {} could have been: delivered so near a fault that the outcome need not have \
         been on disk, or under way then. Of those under way when a server died, the sender may not be told that they were taken: \
         {} could go untold. Debt is the response time beyond the usual median, summed over all messages. One fault proves little: percentiles are given from nine \
         on.</p>",
        count(failover.duplicates_max),
        count(failover.unanswered_max)
    );
}

/// What went through while each fault lasted, and what piled up.
fn flow(out: &mut String, failover: &Summary) {
    let whole = or_none(failover.goodput_per_s, |r| format!("{}/s", rate(r)));
    let caption = format!(
        "What went through from each strike to the return. Goodput: delivered once, within the deadline (over the whole schedule: \
         {whole}). Retry amplification: tries of hubs at next hops for each message that one took. Backlog: due, accepted in the end, and not yet \
         delivered; until it was back at its level before the fault."
    );
    let heads = ["", "retry amplification", "backlog drained", "backlog peak", "due", "goodput"];
    let spreads: [Spreads<'_>; 2] = [(&failover.retry_amplification, two_digits), (&failover.drain_ms, after)];
    let per_s = |value: Option<f64>| or_none(value, |r| format!("{}/s", rate(r)));
    faults(out, failover, (&caption, &heads), &spreads, |impact| {
        vec![
            or_none(impact.retry_amplification, two_digits),
            or_none(impact.drain_ms, after),
            count(impact.backlog_peak),
            per_s(impact.due_per_s),
            per_s(impact.goodput_per_s),
        ]
    });
}

fn two_digits(value: f64) -> String {
    format!("{value:.2}")
}

/// Who was affected, by which fault and how.
fn explanations(out: &mut String, failover: &Summary) {
    if failover.explained.is_empty() {
        out.push_str("<p class=\"note\">No message was late, not accepted, missing or doubled.</p>");
        return;
    }
    let heads = ["", "late", "not accepted", "unanswered", "missing", "twice", "detection", "reroute", "retry"];
    let caption = "Why messages were not good, each of them (they are in affected-PHASE.csv): by the fault, and where they were then. The longest \
                   that one waited until the fault was detected, then for its turn at somebody who lived, then for its answer.";
    let mut table = Table::new(caption, &heads);
    for group in &failover.explained {
        let what = group.cause.names().1;
        let name = if group.fault == 0 { what.to_owned() } else { format!("fault {}, {what}", group.fault) };
        let twice: Vec<String> =
            group.twice.iter().map(|(window, number)| format!("{} ({window})", count(*number))).collect();
        let twice = if twice.is_empty() { count(0) } else { twice.join(", ") };
        let counts = [group.late, group.not_accepted, group.unanswered, group.missing].map(count);
        let times = [group.detection_ms, group.reroute_ms, group.retry_ms].map(after);
        table.row(&name, counts.into_iter().chain([twice]).chain(times));
    }
    table.end(out);
}

/// What is spread over faults, and how it is said.
type Spreads<'s> = (&'s Spread, fn(f64) -> String);

/// A row for each fault, and below several their median and worst for the first columns.
fn faults(
    out: &mut String,
    failover: &Summary,
    (caption, heads): (&str, &[&str]),
    spreads: &[Spreads<'_>],
    cells: impl Fn(&Impact) -> Vec<String>,
) {
    let mut table = Table::new(caption, heads);
    for (index, impact) in failover.each.iter().enumerate() {
        table.row(&format!("fault {} at {}", index + 1, duration_ms(impact.struck_ms)), cells(impact));
    }
    if failover.each.len() > 1 {
        table.row("median", spreads.iter().map(|(spread, word)| or_none(spread.p50, word)));
        table.row("worst", spreads.iter().map(|(spread, word)| or_none(spread.max, word)));
    }
    table.end(out);
}
