use super::*;
use crate::failover::{Answer, Fate, Strike, Summary, impacts, summarise};
use crate::result::{Figures, Process, Quantiles, Rate};
use crate::timeline::moments;
use charts::Mark;
use rand::RngExt;
use rand_pcg::Pcg64Mcg;

const PER_S: u64 = 8_000;
const SECONDS: u64 = 16;
const STRUCK_US: u64 = 3_000_000;
const HEALED_US: u64 = 5_000_000;

/// A run in which a next hop dies at 3 s and returns at 5 s.
fn fates() -> Vec<Fate> {
    let mut random = Pcg64Mcg::new(7);
    (0..PER_S * SECONDS)
        .map(|i| {
            let intended_us = i * 1_000_000 / PER_S;
            let tail = (1.0 - random.random::<f64>()).powf(-0.55);
            let mut response = 520.0 * tail.min(18.0) + 160.0 * random.random::<f64>();
            let struck = (STRUCK_US..STRUCK_US + 46_000).contains(&intended_us) && i % 2 == 0;
            if struck {
                response += (STRUCK_US + 46_000 - intended_us) as f64 + 6_000.0 * random.random::<f64>();
            }
            let answered_us = intended_us + response as u64;
            let delivered_us = Some(answered_us + 180 + (random.random::<f64>() * 400.0) as u64);
            let (begun_us, route) = (Some(intended_us), (i % 2) as u16);
            Fate {
                seq: 0,
                intended_us,
                begun_us,
                answered_us,
                answer: Answer::Accepted,
                delivered_us,
                route,
                doubled: None,
            }
        })
        .collect()
}

fn quantiles(mut values: Vec<u64>) -> (Quantiles, Vec<(f64, f64)>) {
    values.sort_unstable();
    let at = |share: f64| crate::stats::percentile(&values, share * 100.0).map(|us| us as f64);
    let named = Quantiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) };
    let shares = (0..=100).map(|i| 1.0 - 10f64.powf(-4.0 * f64::from(i) / 100.0)).chain([1.0]);
    (named, shares.filter_map(|share| Some((share, at(share)?))).collect())
}

fn marks() -> Vec<Mark> {
    vec![
        Mark { at_s: 3.0, label: "sink-b killed".into(), is_heal: false },
        Mark { at_s: 5.0, label: "sink-b back".into(), is_heal: true },
    ]
}

fn strike() -> Strike {
    Strike {
        asked_us: STRUCK_US,
        struck_us: STRUCK_US,
        gone_us: STRUCK_US,
        healed_us: Some(HEALED_US),
        lost_route: Some(1),
        others_share: None,
        tries: None,
        window_start_us: 0,
        window_end_us: SECONDS * 1_000_000,
    }
}

fn phases(figures: &Figures, failover: &Option<Summary>) -> Vec<Phase> {
    let probe = Phase {
        name: "probe".into(),
        about: "How much the topology takes: as many messages as it acknowledges.".into(),
        saturating: true,
        seconds: 4.0,
        figures: Figures {
            rate: Rate { offered_per_s: None, achieved_per_s: Some(16_210.0) },
            limited_by: Some("engine".into()),
            validity: Validity::from_reasons(vec![]),
            ..Figures::default()
        },
        ..Phase::default()
    };
    let latency = Phase {
        name: "latency".into(),
        about: "Open loop at half of the rate found.".into(),
        seconds: 10.0,
        figures: figures.clone(),
        ..Phase::default()
    };
    let hop = Phase {
        name: "next-hop-killed".into(),
        about: "One of two sinks is killed and comes back.".into(),
        seconds: SECONDS as f64,
        figures: figures.clone(),
        failover: failover.clone(),
        ..Phase::default()
    };
    vec![probe, latency, hop]
}

fn sample() -> (RunResult, Views) {
    let fates = fates();
    let (response, response_curve) = quantiles(fates.iter().filter_map(Fate::response_us).collect());
    let delivery = fates.iter().filter_map(|f| Some(f.delivered_us? - f.intended_us)).collect();
    let (delivery, delivery_curve) = quantiles(delivery);
    let (service, service_curve) =
        quantiles(fates.iter().filter_map(Fate::response_us).map(|us| us * 9 / 10).collect());
    let mut figures = Figures {
        rate: Rate { offered_per_s: Some(8_000.0), achieved_per_s: Some(7_996.0) },
        latency_us: crate::result::Latency { response, service, delivery },
        validity: Validity::from_reasons(vec![]),
        ..Figures::default()
    };
    let all = PER_S * SECONDS;
    figures.pairs.intended = all;
    figures.pairs.delivered = all;
    figures.step_us = [("mail", 80.0), ("rcpt", 61.0), ("data", 0.0), ("body", 22.0), ("final_reply", 512.0)]
        .map(|(name, us)| (name.to_owned(), Some(us)))
        .to_vec();
    for (kind, us) in [("frontend", 9.8), ("hub", 16.4), ("loadgen", 7.1), ("mailbox", 5.2), ("sink", 6.0)] {
        figures.cpu_us_per_message.insert(kind.into(), Some(us));
        figures.peak_rss_bytes.insert(kind.into(), Some(us * 3_000_000.0));
    }
    figures.syscalls_per_message.insert("hub".into(), Some(0.29));
    let strike = strike();
    let impacts = impacts(&fates, &[strike]).into_iter().map(|(_, impact)| impact).collect();
    let failover = summarise("next-hop", impacts, Some(0), Some(0));
    let curve = |name: &str, points: Vec<(f64, f64)>| Curve { name: name.into(), points };
    let near: Vec<Fate> = fates.iter().filter(|f| (2_800_000..3_400_000).contains(&f.intended_us)).copied().collect();
    let mut near_moments = moments(&near, 10_000);
    near_moments.iter_mut().for_each(|m| m.at_us += 2_800_000);
    let timeline = |title: &str, moments, width_us| Timeline {
        title: title.into(),
        caption: String::new(),
        moments,
        width_us,
        marks: marks(),
        deadline_us: Some(20_000),
    };
    let views = Views {
        phases: vec![
            PhaseView::default(),
            PhaseView {
                curves: vec![
                    curve("response", response_curve),
                    curve("service", service_curve),
                    curve("delivery", delivery_curve),
                ],
                timelines: vec![],
            },
            PhaseView {
                curves: vec![],
                timelines: vec![
                    timeline("The whole phase", moments(&fates, 50_000), 50_000),
                    timeline("Around the fault", near_moments, 10_000),
                ],
            },
        ],
        command: "ringbench quickstart".into(),
        nonce: "abc123".into(),
    };
    let result = RunResult {
        schema: 1,
        tool: "ringbench".into(),
        version: "0.1.0".into(),
        git: Some("0123abc".into()),
        started: "2025-01-01T00:00:00Z".into(),
        scenario: "quickstart".into(),
        phases: phases(&figures, &failover),
        durability: "disk".into(),
        main: figures,
        failover: failover.into_iter().collect(),
        driver: "uring".into(),
        commit: Some("direct".into()),
        profile: "bench".into(),
        processes: vec![Process {
            name: "hub-1".into(),
            kind: "hub".into(),
            cores: vec![0],
            command: "ringpost run --role hub --listen 127.0.0.1:0 --next-hop 127.0.0.1:4001".into(),
            cpu_us_per_message: Some(8.25),
        }],
        placement: "engine on core 0, load and sinks on core 1".into(),
        ..RunResult::default()
    };
    (result, views)
}

/// Where `RINGBENCH_SAMPLE_REPORT` names a file, the sample goes there, to be looked at.
#[test]
fn a_report_is_one_closed_page() {
    let (result, views) = sample();
    let page = page(&result, &views);
    if let Some(path) = std::env::var_os("RINGBENCH_SAMPLE_REPORT") {
        std::fs::write(path, &page).expect("a path that can be written");
    }
    for word in ["<script", "http://", "https://", " style=", "NaN", "inf ", "url(", "@import"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'; style-src 'nonce-abc123'") && page.contains("<style nonce=\"abc123\">"));
    assert!(page.contains("16\u{202f}210/s"), "the rate found");
    assert!(page.contains("sink-b killed") && page.contains("Outage, next hop killed"));
    for words in ["retry amplification", "backlog peak", "backlog drained", "goodput", "No message was late"] {
        assert!(page.contains(words), "a fault's {words}");
    }
    for tag in ["section", "table", "svg", "figure", "div", "ul", "tr"] {
        let (open, close) = (page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
        assert!(
            open >= close
                && close > 0
                && page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count() == close,
            "{tag}: {open} {close}"
        );
    }
}

#[test]
fn an_invalid_run_says_so_before_any_figure() {
    let (mut result, views) = sample();
    result.main.validity = Validity::from_reasons(vec!["latency: the <generator> was late".into()]);
    let page = page(&result, &views);
    let (said, figures) = (page.find("Not valid.").expect("said"), page.find("class=\"cards\"").expect("cards"));
    assert!(said < figures);
    assert!(page.contains("the &lt;generator&gt; was late"));
}

#[test]
fn s_030_no_text_of_a_result_becomes_markup() {
    let evil = "\"'><script>alert(1)</script><img src=x onerror=y>";
    let (mut result, mut views) = sample();
    for text in [
        &mut result.scenario,
        &mut result.tool,
        &mut result.version,
        &mut result.started,
        &mut result.durability,
        &mut result.driver,
        &mut result.profile,
        &mut result.placement,
        &mut result.host.kernel,
        &mut result.host.cpu,
        &mut views.command,
        &mut views.nonce,
        &mut result.failover[0].kind,
    ] {
        *text = evil.to_owned();
    }
    views.phases[1].curves[0].name = evil.into();
    let timeline = &mut views.phases[2].timelines[0];
    (timeline.title, timeline.caption, timeline.marks[0].label) = (evil.into(), evil.into(), evil.into());
    (result.processes[0].name, result.processes[0].command) = (evil.into(), evil.into());
    (result.phases[1].name, result.phases[1].about) = (evil.into(), evil.into());
    result.git = Some(evil.into());
    result.commit = Some(evil.into());
    result.host.fs = Some(evil.into());
    result.main.cpu_us_per_message.insert(evil.into(), Some(1.0));
    result.phases[0].figures.limited_by = Some(evil.into());
    result.phases[1].figures.step_us[0].0 = evil.into();
    result.phases[1].figures.cpu_us_per_message.insert(evil.into(), Some(1.0));
    result.main.validity = Validity::from_reasons(vec![evil.into()]);
    let page = page(&result, &views);
    assert!(!page.contains("<script") && !page.contains("<img"));
    assert!(page.matches("&lt;script&gt;").count() > 20, "they are all shown as text");
}

#[test]
fn a_run_of_nothing_has_a_page() {
    let page = page(&RunResult::default(), &Views::default());
    assert!(page.contains("Nothing was measured") && page.contains("Not valid."));
    assert!(!page.contains("NaN"));
}

#[test]
fn parts_stand_side_by_side_and_empty_accounts_are_named_not_shown() {
    let (mut result, views) = sample();
    assert!(!page(&result, &views).contains("Side by side"), "one part has no side");
    let [probe, latency, _] = &result.phases[..] else { panic!("three phases") };
    let (probe, latency) = (probe.clone(), latency.clone());
    let phase = |of: &Phase, part: &str, per_s: f64| {
        let mut phase = Phase { name: format!("{} · {part}", of.name), ..of.clone() };
        phase.figures.rate.achieved_per_s = Some(per_s);
        phase
    };
    result.phases = vec![
        phase(&probe, "1 KiB", 31_000.0),
        phase(&latency, "1 KiB", 15_500.0),
        phase(&probe, "4 KiB", 21_000.0),
        phase(&latency, "4 KiB", 10_500.0),
    ];
    result.main = result.phases[3].figures.clone();
    result.phases[3].figures.pairs.deferred = 3;
    result.main.pairs.deferred = 3;
    let text = page(&result, &views);
    assert!(text.contains("Side by side"), "{text}");
    assert!(text.contains("<h1>4 KiB: 10"), "the headline says which");
    assert!(text.contains("Highest rate found, 4 KiB</div><div class=\"figure\">21"), "of the same part");
    assert!(text.contains(">deferred</th>") && !text.contains(">bounced</th>"));
    assert!(text.contains("0 in every phase: bounced;"));
}
