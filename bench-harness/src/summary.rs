//! A run in a few lines for a terminal: validity first, then what people look for. Pure.

use crate::failover::Summary;
use crate::html::text::{count, duration_ms, duration_us, or_none, outage, rate};
use crate::result::{Latency, Phase, Process, RunResult};
use std::fmt::Write;

/// What a person reads when a run is over. Plain text, no colour.
pub fn text(result: &RunResult) -> String {
    let mut out = String::new();
    verdict(&mut out, result);
    if !result.way.is_empty() {
        let _ = writeln!(out, "  {}", result.way);
    }
    let _ = writeln!(out, "  {}", how(result));
    out.push('\n');
    throughput(&mut out, result);
    for phase in result.phases.iter().filter(|phase| !phase.saturating && phase.failover.is_none()) {
        latency(&mut out, &phase_title(phase), &phase.figures.latency_us);
    }
    if result.phases.iter().any(|phase| !phase.saturating && phase.figures.latency_us.response.p50.is_some()) {
        out.push_str(
            "    from when a message was due: response to its 250, delivery to the far end having all of it\n",
        );
    }
    costs(&mut out, result);
    for phase in &result.phases {
        if let Some(failover) = &phase.failover {
            fault(&mut out, phase, failover);
        }
    }
    if let Some(seed) = result.seed.filter(|_| !result.failover.is_empty()) {
        let _ = writeln!(out, "\n  seed              {seed}: it chose the moments of the faults");
    }
    accounts(&mut out, result);
    out
}

fn verdict(out: &mut String, result: &RunResult) {
    let validity = &result.main.validity;
    let _ = writeln!(out, "{}: {}", result.scenario, if validity.valid { "VALID" } else { "NOT VALID" });
    for reason in &validity.reasons {
        let _ = writeln!(out, "  ! {reason}");
    }
}

fn how(result: &RunResult) -> String {
    let promise = match result.durability.as_str() {
        "disk" => "durability disk (a 250 means synced)",
        "os" => "durability os (a 250 means written, not synced)",
        "none" => "durability none (a 250 means in memory)",
        "unknown" => "durability unknown (who takes the mail does not say what a 250 means)",
        other => other,
    };
    let mut parts = vec![promise.to_owned(), format!("driver {}", or_unknown(&result.driver))];
    parts.extend(result.commit.as_ref().map(|commit| format!("commit {commit}")));
    parts.push(format!("profile {}", or_unknown(&result.profile)));
    parts.push(result.placement.clone());
    parts.join(" · ")
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

fn phase_title(phase: &Phase) -> String {
    phase.name.replace('-', " ")
}

fn throughput(out: &mut String, result: &RunResult) {
    for phase in &result.phases {
        let figures = &phase.figures;
        let Some(achieved) = figures.rate.achieved_per_s else { continue };
        let _ = write!(out, "  {:<17} {:>9}/s", phase_title(phase), rate(achieved));
        match (phase.saturating, figures.rate.offered_per_s, figures.limited_by.as_deref()) {
            (true, _, Some("engine")) => out.push_str(" at most, limited by the engine"),
            (true, _, limit) => {
                let _ = write!(out, " at least, limited by {}", limit.unwrap_or("something unknown"));
            }
            (false, Some(offered), _) => {
                let _ = write!(out, " of {}/s due", rate(offered));
            }
            _ => {}
        }
        let _ = writeln!(out, "{}", if figures.validity.valid { "   valid" } else { "   NOT VALID" });
    }
}

fn latency(out: &mut String, title: &str, latency: &Latency) {
    let kinds = [("response", &latency.response), ("delivery", &latency.delivery)];
    let measured: Vec<_> = kinds.into_iter().filter(|(_, times)| times.p50.is_some()).collect();
    if measured.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n  {title:<17} {:>9} {:>9} {:>9} {:>9} {:>9}", "p50", "p90", "p99", "p99.9", "max");
    for (kind, times) in measured {
        let _ = write!(out, "    {kind:<15}");
        for (_, us) in times.named() {
            let _ = write!(out, " {:>9}", or_none(us, duration_us));
        }
        out.push('\n');
    }
}

fn costs(out: &mut String, result: &RunResult) {
    let costs: Vec<String> = result
        .main
        .cpu_us_per_message
        .iter()
        .filter_map(|(kind, us)| Some(format!("{kind} {}", duration_us((*us)?))))
        .collect();
    if !costs.is_empty() {
        let _ = writeln!(out, "\n  CPU per message   {}", costs.join(" · "));
    }
    let of_each = |p: &Process| Some(format!("{} {}", p.name, duration_us(p.cpu_us_per_message?)));
    let each: Vec<String> = result.processes.iter().filter_map(of_each).collect();
    if !each.is_empty() {
        let _ = writeln!(out, "    each process    {}", each.join(" · "));
    }
}

fn fault(out: &mut String, phase: &Phase, failover: &Summary) {
    let worst = |spread: &crate::failover::Spread| or_none(spread.max, outage);
    let times = if failover.faults == 1 { String::new() } else { format!(", worst of {}", failover.faults) };
    let nobody = match failover.hard_outage_ms.max {
        Some(hard) if hard > 0.0 => format!("nobody in time for {}; ", outage(hard)),
        _ => String::new(),
    };
    let _ = write!(
        out,
        "\n  {:<17} outage {}{times}, seen in steps of {}: less than 99 % acknowledged within {}\n  {:<17} {nobody}longest time \
         without any 250: {}",
        phase_title(phase),
        worst(&failover.outage_ms),
        duration_ms(failover.bucket_ms),
        duration_ms(failover.deadline_ms),
        "",
        or_none(failover.ack_gap_ms.max, duration_ms),
    );
    let _ = write!(out, "\n  {:<17} stranded on it: {}", "", or_none(failover.stranded.messages, count));
    if failover.stranded.messages > Some(0) {
        let last = or_none(failover.stranded.last_delivered_ms, duration_ms);
        let _ = write!(out, "; the last was delivered {last} after its return");
    }
    if let Some(detected) = failover.detection_ms.max {
        let _ = write!(out, "\n  {:<17} what is left took over within {}", "", duration_ms(detected));
    }
    let per_s = |each: Option<f64>| or_none(each, |per_s| format!("{}/s", rate(per_s)));
    let least = failover.each.iter().filter_map(|one| one.goodput_per_s).reduce(f64::min);
    let _ = write!(
        out,
        "\n  {:<17} meanwhile at least {} delivered once and in time ({} over all), at most {} tries a message;\n  {:<17} backlog at \
         most {}, gone after {}",
        "",
        per_s(least),
        per_s(failover.goodput_per_s),
        or_none(failover.retry_amplification.max, |tries| format!("{tries:.2}")),
        "",
        count(failover.backlog_peak),
        or_none(failover.drain_ms.max, duration_ms),
    );
    let told = |number: Option<u64>| number.map_or_else(|| "an unknown number".to_owned(), count);
    let _ = writeln!(
        out,
        "\n  {:<17} {} lost, {} delivered twice (of {} that could be), {} answered late or not at all",
        "",
        told(failover.lost),
        told(failover.duplicated),
        count(failover.duplicates_max),
        count(failover.affected)
    );
    let pairs = &phase.figures.pairs;
    if pairs.recovered + pairs.deferred_yet_taken > 0 {
        let _ = writeln!(
            out,
            "  {:<17} taken though their sender was told 451 ({}) or nothing ({}), of {} under way then: a repeat would be a copy (W2)",
            "",
            count(pairs.deferred_yet_taken),
            count(pairs.recovered),
            count(failover.unanswered_max)
        );
    }
}

fn accounts(out: &mut String, result: &RunResult) {
    let sum = |of: fn(&Phase) -> u64| result.phases.iter().map(of).sum::<u64>();
    let intended = sum(|phase| phase.figures.pairs.intended);
    if intended == 0 {
        return;
    }
    let _ = write!(
        out,
        "\n  messages          {} due in all phases, {} delivered, {} lost, {} delivered twice",
        count(intended),
        count(sum(|phase| phase.figures.pairs.delivered)),
        count(sum(|phase| phase.figures.pairs.lost)),
        count(sum(|phase| phase.figures.pairs.duplicated.total()))
    );
    let others: [(u64, &str); 6] = [
        (sum(|phase| phase.figures.pairs.queued), "still queued"),
        (sum(|phase| phase.figures.pairs.rejected), "refused for good"),
        (sum(|phase| phase.figures.pairs.deferred), "refused for now"),
        (sum(|phase| phase.figures.pairs.unknown), "whose sender heard no verdict"),
        (sum(|phase| phase.figures.pairs.unexpected), "unexpected"),
        (sum(|phase| phase.figures.pairs.unrecorded), "taken by a sink without room to write them down"),
    ];
    for (number, what) in others.into_iter().filter(|(number, _)| *number > 0) {
        let _ = write!(out, ", {} {what}", count(number));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::{Spread, StrandedSum};
    use crate::result::{Figures, Quantiles};
    use loadgen::validity::Validity;

    fn phase(name: &str) -> Phase {
        let mut phase = Phase { name: name.into(), ..Phase::default() };
        phase.figures.validity = Validity::from_reasons(vec![]);
        phase.figures.rate.achieved_per_s = Some(8_000.0);
        phase
    }

    #[test]
    fn an_invalid_run_says_so_in_its_first_line() {
        let mut result = RunResult { scenario: "hub-hop".into(), ..RunResult::default() };
        result.main.validity = Validity::from_reasons(vec!["latency: late".into()]);
        let text = text(&result);
        assert!(text.starts_with("hub-hop: NOT VALID\n  ! latency: late\n"), "{text}");
    }

    #[test]
    fn a_saturated_phase_is_a_lower_bound_unless_the_engine_limits_it() {
        for (limit, words) in
            [(Some("engine"), "at most, limited by the engine"), (Some("generator"), "at least, limited by generator")]
        {
            let mut probe = phase("probe");
            probe.saturating = true;
            probe.figures.limited_by = limit.map(str::to_owned);
            let result = RunResult { phases: vec![probe], ..RunResult::default() };
            assert!(text(&result).contains(words), "{}", text(&result));
        }
    }

    #[test]
    fn a_failover_tells_outage_strays_and_losses() {
        let mut killed = phase("hub-killed");
        killed.failover = Some(Summary {
            faults: 1,
            bucket_ms: 10.0,
            outage_ms: Spread { max: Some(30.0), ..Spread::default() },
            hard_outage_ms: Spread { max: Some(10.0), ..Spread::default() },
            detection_ms: Spread { max: Some(25.0), ..Spread::default() },
            stranded: StrandedSum { messages: Some(214), last_delivered_ms: Some(180.0) },
            lost: Some(0),
            ..Summary::default()
        });
        let text = text(&RunResult { phases: vec![killed], ..RunResult::default() });
        assert!(text.contains("hub killed        outage 30.0 ms, seen in steps of 10.0 ms: less than 99 %"), "{text}");
        assert!(text.contains("  nobody in time for 10.0 ms; longest time without any 250: –"), "{text}");
        assert!(text.contains("stranded on it: 214; the last was delivered 180 ms after its return"), "{text}");
        assert!(text.contains("                    what is left took over within 25.0 ms\n"), "{text}");
        assert!(text.contains("0 lost, an unknown number delivered twice"), "{text}");
    }

    #[test]
    fn the_seed_of_the_faults_is_printed() {
        let result = RunResult { seed: Some(17), failover: vec![Summary::default()], ..RunResult::default() };
        assert!(text(&result).contains("\n  seed              17: it chose"), "{}", text(&result));
        let calm = RunResult { seed: Some(17), ..RunResult::default() };
        assert!(!text(&calm).contains("seed"));
    }

    #[test]
    fn a_failover_that_stranded_nothing_says_so() {
        let mut killed = phase("next-hop-killed");
        let stranded = StrandedSum { messages: Some(0), ..StrandedSum::default() };
        killed.failover = Some(Summary { faults: 1, stranded, ..Summary::default() });
        let text = text(&RunResult { phases: vec![killed], ..RunResult::default() });
        assert!(text.contains("stranded on it: 0\n"), "{text}");
    }

    #[test]
    fn what_a_message_costs_is_told_by_kind_and_of_each_process() {
        let mut result = RunResult::default();
        result.main.cpu_us_per_message.insert("hub".into(), Some(20.0));
        for (name, us) in [("hub-1", Some(12.0)), ("hub-2", Some(8.0)), ("hub-3", None)] {
            result.processes.push(Process { name: name.into(), cpu_us_per_message: us, ..Process::default() });
        }
        let text = text(&result);
        assert!(
            text.contains("CPU per message   hub 20.0 µs\n    each process    hub-1 12.0 µs · hub-2 8.00 µs\n"),
            "{text}"
        );
    }

    #[test]
    fn latencies_stand_in_columns() {
        let mut measured = phase("latency");
        measured.figures = Figures { ..measured.figures };
        measured.figures.latency_us.response =
            Quantiles { p50: Some(846.0), p90: Some(1_200.0), p99: None, p999: None, max: Some(5e6) };
        let text = text(&RunResult { phases: vec![measured], ..RunResult::default() });
        assert!(text.contains("response           846 µs   1.20 ms         –         –    5.00 s"), "{text}");
        assert!(!text.contains("\n    delivery "), "what was not measured has no line: {text}");
    }
}
