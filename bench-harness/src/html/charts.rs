//! The report's charts. Each takes data and a form and gives one picture.

use super::svg::{Anchor, Canvas, Form, Frame, Scale, spread_labels};
use super::text::{count, duration_us, rate, round_duration_us};
use crate::timeline::Moment;

/// A latency distribution.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// `response`, `service`, `delivery`.
    pub name: String,
    /// Share of all at or below, 0 to 1, ascending, and that value in microseconds.
    pub points: Vec<(f64, f64)>,
}

/// Something that happened at a moment of a timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Seconds after the run's first message.
    pub at_s: f64,
    /// In a word or three.
    pub label: String,
    /// A cure, not a fault.
    pub is_heal: bool,
}

/// Part of a run over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    /// For the heading.
    pub title: String,
    /// What to see in it.
    pub caption: String,
    /// Equal buckets; `at_us` counts from the run's first message.
    pub moments: Vec<Moment>,
    /// Their width.
    pub width_us: u64,
    /// What happened.
    pub marks: Vec<Mark>,
    /// Buckets with less than 99 % accepted, or a p99 above this, are shaded.
    pub deadline_us: Option<u64>,
}

impl Timeline {
    fn is_bad(&self, moment: &Moment) -> bool {
        let Some(deadline) = self.deadline_us else { return false };
        moment.accepted * 100 < moment.due * 99 || moment.response_p99_us.is_some_and(|p99| p99 > deadline)
    }
}

/// Percentile curves: latency over "one in so many", both logarithmic.
pub fn percentiles(curves: &[Curve], form: Form) -> String {
    let frame = Frame { left: 62.0, right: form.width() - 92.0, top: 14.0, bottom: 260.0 };
    let mut canvas = Canvas::new(form, 300.0, "Latency by percentile, logarithmic");
    let all = || curves.iter().flat_map(|curve| curve.points.iter());
    let nines = |share: f64| -(1.0 - share).max(1e-9).log10();
    let rarest = all().filter(|(share, _)| *share < 1.0).map(|(share, _)| nines(*share)).fold(2.0, f64::max);
    let x = Scale::linear(0.0, rarest, frame.left, frame.right);
    let values = || all().map(|(_, us)| *us).filter(|us| *us > 0.0);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(1.0, f64::max));
    let y = Scale::log(if low.is_finite() { low * 0.8 } else { 1.0 }, high * 1.25, frame.bottom, frame.top);
    canvas.y_axis(&frame, &y, 6, round_duration_us);
    let names = ["50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
    let places = [nines(0.5), 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let shown = places.iter().zip(names).filter(|(place, _)| **place <= rarest + 1e-9);
    canvas.x_axis(&frame, shown.map(|(place, name)| (x.at(*place), name.to_owned())));
    let ends: Vec<f64> = curves.iter().map(|c| c.points.last().map_or(frame.bottom, |(_, us)| y.at(*us))).collect();
    let labels = spread_labels(&ends, 15.0, frame.top, frame.bottom);
    for (index, curve) in curves.iter().enumerate() {
        let series = index % 5 + 1;
        let place = |(share, us): &(f64, f64)| (x.at(nines(*share).min(rarest)), y.at(*us));
        canvas.path(&format!("line s{series}"), curve.points.iter().map(|point| Some(place(point))));
        if let Some(last) = curve.points.last() {
            canvas.dot(
                &format!("f{series}"),
                place(last),
                3.0,
                &format!("{}: at most {}", curve.name, duration_us(last.1)),
            );
            let text = format!("label f{series}");
            canvas.text(&text, (frame.right + 8.0, labels[index] + 4.0), Anchor::Start, &curve.name);
        }
    }
    canvas.finish()
}

/// Response times above, rates below, marks through both.
pub fn timeline(timeline: &Timeline, form: Form) -> String {
    let right = form.width() - 12.0;
    let upper = Frame { left: 62.0, right, top: 30.0, bottom: 200.0 };
    let lower = Frame { left: 62.0, right, top: 226.0, bottom: 304.0 };
    let mut canvas = Canvas::new(form, 332.0, &format!("{}: response times and rates over time", timeline.title));
    let moments = &timeline.moments;
    let start = moments.first().map_or(0.0, |m| m.at_us as f64);
    let end = moments.last().map_or(1.0, |m| (m.at_us + timeline.width_us) as f64);
    let x = Scale::linear(start, end, upper.left, upper.right);
    shade_bad(&mut canvas, timeline, &x, &upper, &lower);
    let peak = moments.iter().filter_map(|m| m.response_max_us).max().unwrap_or(1_000) as f64;
    let floor = moments.iter().filter_map(|m| m.response_p50_us).min().unwrap_or(100).max(1) as f64;
    let y = Scale::log(floor * 0.7, peak * 1.2, upper.bottom, upper.top);
    canvas.y_axis(&upper, &y, 5, round_duration_us);
    canvas.line("axis", (upper.left, upper.bottom), (upper.right, upper.bottom));
    let middle = timeline.width_us as f64 / 2.0;
    let mut series = |class: &str, of: fn(&Moment) -> Option<u64>| {
        let points = moments.iter().map(|m| of(m).map(|us| (x.at(m.at_us as f64 + middle), y.at(us as f64))));
        canvas.path(class, points);
    };
    series("line thin s5", |m| m.response_max_us);
    series("line s2", |m| m.response_p99_us);
    series("line s1", |m| m.response_p50_us);
    rates(&mut canvas, timeline, &x, &lower);
    draw_marks(&mut canvas, timeline, (start, end), &x, (&upper, &lower), form);
    canvas.finish()
}

fn shade_bad(canvas: &mut Canvas, timeline: &Timeline, x: &Scale, upper: &Frame, lower: &Frame) {
    let is_bad = |m: &Moment| timeline.is_bad(m);
    for run in timeline.moments.chunk_by(|a, b| is_bad(a) == is_bad(b)).filter(|run| is_bad(&run[0])) {
        let from = run[0].at_us as f64;
        let length = run.len() as f64 * timeline.width_us as f64;
        let (left, right) = (x.at(from), x.at(from + length));
        let tip = format!("less than 99 % good for {}", duration_us(length));
        canvas.rect("shade", (left, upper.top), (right - left, lower.bottom - upper.top), Some(&tip));
    }
}

fn rates(canvas: &mut Canvas, timeline: &Timeline, x: &Scale, frame: &Frame) {
    let per_s = 1e6 / timeline.width_us.max(1) as f64;
    // The last bucket is cut short by the schedule's end: it would draw a drop that never was.
    let whole = timeline.moments.split_last().map_or(&[][..], |(_, whole)| whole);
    let top = whole.iter().map(|m| m.due.max(m.accepted) as f64 * per_s).fold(1.0, f64::max);
    let y = Scale::linear(0.0, top * 1.1, frame.bottom, frame.top);
    canvas.y_axis(frame, &y, 2, |v| if v == 0.0 { "0/s".to_owned() } else { format!("{}/s", rate(v)) });
    let middle = timeline.width_us as f64 / 2.0;
    let place = |m: &Moment, messages: u64| (x.at(m.at_us as f64 + middle), y.at(messages as f64 * per_s));
    let accepted: Vec<(f64, f64)> = whole.iter().map(|m| place(m, m.accepted)).collect();
    canvas.area("area", frame.bottom, &accepted);
    canvas.path("line s1", accepted.iter().map(|p| Some(*p)));
    canvas.path("line thin s5", whole.iter().map(|m| Some(place(m, m.due))));
}

fn draw_marks(
    canvas: &mut Canvas,
    timeline: &Timeline,
    (start, end): (f64, f64),
    x: &Scale,
    (upper, lower): (&Frame, &Frame),
    form: Form,
) {
    let span_s = (end - start) / 1e6;
    let seconds = Scale::linear(start / 1e6, end / 1e6, lower.left, lower.right);
    let about = if form == Form::Wide { 10 } else { 4 };
    let ticks = seconds.ticks(about);
    let decimals = usize::from(ticks.windows(2).any(|pair| (pair[1] - pair[0]).fract() > 1e-6));
    let name = |s: f64| if span_s < 2.0 { format!("{:.0} ms", s * 1000.0) } else { format!("{s:.decimals$} s") };
    canvas.x_axis(lower, ticks.into_iter().map(|s| (seconds.at(s), name(s))));
    for mark in timeline.marks.iter().filter(|m| (start..=end).contains(&(m.at_s * 1e6))) {
        let at = x.at(mark.at_s * 1e6);
        let (class, text) = if mark.is_heal { ("heal", "heal-text") } else { ("fault", "fault-text") };
        canvas.line(class, (at, upper.top - 8.0), (at, lower.bottom));
        let near_end = at > upper.left + (upper.right - upper.left) * 0.8;
        let anchor = if near_end { Anchor::End } else { Anchor::Start };
        // Fault and heal may be near each other: one line of text each.
        let y = upper.top - if mark.is_heal { 2.0 } else { 14.0 };
        canvas.text(text, (at + if near_end { -5.0 } else { 5.0 }, y), anchor, &mark.label);
    }
}

/// One bar cut into parts in their order: the steps of a message.
pub fn steps(steps: &[(String, f64)], form: Form) -> String {
    let mut canvas = Canvas::new(form, 34.0, "Mean time of each step of a transaction");
    let total: f64 = steps.iter().map(|(_, us)| us).sum();
    let x = Scale::linear(0.0, total, 0.0, form.width());
    let mut so_far = 0.0;
    for (index, (name, us)) in steps.iter().enumerate() {
        let (left, right) = (x.at(so_far), x.at(so_far + us));
        so_far += us;
        let tip = format!("{name}: {}", duration_us(*us));
        canvas.rect(&format!("f{}", index % 5 + 1), (left, 4.0), ((right - left - 1.5).max(0.0), 26.0), Some(&tip));
    }
    canvas.finish()
}

/// Horizontal bars with their values behind them.
pub fn bars(values: &[(String, f64)], form: Form, format: impl Fn(f64) -> String) -> String {
    let row = 26.0;
    let mut canvas = Canvas::new(form, row * values.len() as f64 + 4.0, "Bars with their values");
    let most = values.iter().map(|(_, v)| *v).fold(0.0, f64::max);
    let x = Scale::linear(0.0, most, 108.0, form.width() - 84.0);
    for (index, (name, value)) in values.iter().enumerate() {
        let y = row * index as f64;
        canvas.text("strong", (100.0, y + 17.0), Anchor::End, name);
        canvas.rect("f1", (108.0, y + 4.0), (x.at(*value) - 108.0, row - 9.0), None);
        canvas.text("", (x.at(*value) + 8.0, y + 17.0), Anchor::Start, &format(*value));
    }
    canvas.finish()
}

/// What a timeline's chart says in words: for its caption.
pub fn in_words(timeline: &Timeline) -> String {
    let due: u64 = timeline.moments.iter().map(|m| m.due).sum();
    let accepted: u64 = timeline.moments.iter().map(|m| m.accepted).sum();
    let width = duration_us(timeline.width_us as f64);
    let mut words = format!("{} messages due, {} accepted; buckets of {width}.", count(due), count(accepted));
    if let Some(deadline_us) = timeline.deadline_us.filter(|_| timeline.moments.iter().any(|m| timeline.is_bad(m))) {
        words.push_str(&format!(" Shaded: less than 99 % acknowledged within {}.", duration_us(deadline_us as f64)));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments() -> Vec<Moment> {
        (0..20)
            .map(|i| Moment {
                at_us: i * 100_000,
                due: 100,
                accepted: if i == 9 { 0 } else { 100 },
                response_p50_us: (i != 9).then_some(800),
                response_p99_us: (i != 9).then_some(2_000),
                response_max_us: (i != 9).then_some(9_000),
                ..Moment::default()
            })
            .collect()
    }

    #[test]
    fn a_fault_is_marked_and_its_outage_shaded() {
        let timeline = Timeline {
            title: "x".into(),
            moments: moments(),
            width_us: 100_000,
            marks: vec![
                Mark { at_s: 0.9, label: "hub-1 killed".into(), is_heal: false },
                Mark { at_s: 7.0, label: "outside".into(), is_heal: true },
            ],
            deadline_us: Some(20_000),
            ..Timeline::default()
        };
        for form in Form::ALL {
            let svg = super::timeline(&timeline, form);
            assert_eq!(svg.matches(r#"class="shade""#).count(), 1);
            assert!(svg.contains("hub-1 killed") && !svg.contains("outside"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert_eq!(
            in_words(&timeline),
            "2000 messages due, 1900 accepted; buckets of 100 ms. Shaded: less than 99 % acknowledged within 20.0 ms."
        );
    }

    #[test]
    fn charts_of_nothing_are_still_pictures() {
        for svg in [
            percentiles(&[], Form::Wide),
            percentiles(&[Curve { name: "x".into(), points: vec![] }], Form::Narrow),
            timeline(&Timeline::default(), Form::Wide),
            steps(&[], Form::Wide),
            bars(&[], Form::Wide, duration_us),
        ] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn the_curve_ends_at_the_largest_value() {
        let points = vec![(0.0, 100.0), (0.5, 200.0), (0.9, 400.0), (0.999, 2_000.0), (1.0, 5_000.0)];
        let svg = percentiles(&[Curve { name: "response".into(), points }], Form::Wide);
        assert!(svg.contains("response: at most 5.00 ms") && svg.contains("99.9 %") && !svg.contains("99.99 %"));
    }
}
