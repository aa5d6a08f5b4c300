//! A small canvas for charts as inline SVG: scales with ticks, lines, areas, labels. No styles here: classes only, so that
//! one style sheet serves light and dark and the page's content policy can forbid style attributes.

use super::text::escape_into;
use std::fmt::Write;

/// A chart is drawn twice: for wide screens, and with fewer words for phones. The page shows the one that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 760 units wide.
    Wide,
    /// 360 units wide.
    Narrow,
}

impl Form {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Wide, Self::Narrow];

    /// Width in units; a unit is about a CSS pixel.
    pub fn width(self) -> f64 {
        match self {
            Self::Wide => 760.0,
            Self::Narrow => 360.0,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }
}

/// The part of a canvas that data is drawn in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Upper edge.
    pub top: f64,
    /// Lower edge.
    pub bottom: f64,
}

/// Maps values to places on the canvas. Values outside are clamped to its ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// Equal steps for equal differences.
    pub fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        Self { low, high: if high > low { high } else { low + 1.0 }, from, to, log: false }
    }

    /// Equal steps for equal ratios; `low` is above 0.
    pub fn log(low: f64, high: f64, from: f64, to: f64) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        Self { low: low.log10(), high: high.max(low * 1.01).log10(), from, to, log: true }
    }

    /// Where `value` stands.
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// Round values to draw lines at: for a log scale powers of ten, with 2 and 5 between where there are few.
    pub fn ticks(&self, about: usize) -> Vec<f64> {
        if self.log { self.log_ticks(about) } else { self.linear_ticks(about) }
    }

    fn linear_ticks(&self, about: usize) -> Vec<f64> {
        let raw = (self.high - self.low) / about.max(1) as f64;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= raw * 0.999).unwrap_or(raw);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }

    fn log_ticks(&self, about: usize) -> Vec<f64> {
        let decades = self.high - self.low;
        let multiples: &[f64] = match () {
            () if decades * 3.0 <= about as f64 => &[1.0, 2.0, 5.0],
            () if decades * 2.0 <= about as f64 => &[1.0, 3.0],
            () => &[1.0],
        };
        let powers = self.low.floor() as i32..=self.high.ceil() as i32;
        powers
            .flat_map(|power| multiples.iter().map(move |m| m * 10f64.powi(power)))
            .filter(|tick| (self.low - 1e-9..=self.high + 1e-9).contains(&tick.log10()))
            .collect()
    }
}

/// How a text stands to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// An SVG picture under construction.
#[derive(Debug)]
pub struct Canvas {
    out: String,
}

impl Canvas {
    /// An empty picture `height` units high; `says` describes it to those who do not see it.
    pub fn new(form: Form, height: f64, says: &str) -> Self {
        let mut out = String::with_capacity(8 << 10);
        let (class, width) = (form.class(), form.width());
        let _ = write!(out, r#"<svg class="{class}" viewBox="0 0 {width} {height}" role="img"><title>"#);
        escape_into(&mut out, says);
        out.push_str("</title>");
        Self { out }
    }

    /// The picture.
    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>");
        self.out
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = write!(
            self.out,
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            from.0, from.1, to.0, to.1
        );
    }

    /// A filled rectangle with an optional tooltip.
    pub fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), tip: Option<&str>) {
        let (w, h) = (size.0.max(0.0), size.1.max(0.0));
        let _ =
            write!(self.out, r#"<rect class="{class}" x="{:.1}" y="{:.1}" width="{w:.1}" height="{h:.1}""#, at.0, at.1);
        match tip {
            Some(tip) => {
                self.out.push_str("><title>");
                escape_into(&mut self.out, tip);
                self.out.push_str("</title></rect>");
            }
            None => self.out.push_str("/>"),
        }
    }

    /// A point with a tooltip.
    pub fn dot(&mut self, class: &str, at: (f64, f64), radius: f64, tip: &str) {
        let _ = write!(self.out, r#"<circle class="{class}" cx="{:.1}" cy="{:.1}" r="{radius}"><title>"#, at.0, at.1);
        escape_into(&mut self.out, tip);
        self.out.push_str("</title></circle>");
    }

    /// Lines through points; `None` breaks them.
    pub fn path(&mut self, class: &str, points: impl IntoIterator<Item = Option<(f64, f64)>>) {
        let _ = write!(self.out, r#"<path class="{class}" d=""#);
        let mut pen_down = false;
        for point in points {
            if let Some((x, y)) = point {
                let _ = write!(self.out, "{}{x:.1} {y:.1}", if pen_down { 'L' } else { 'M' });
            }
            pen_down = point.is_some();
        }
        self.out.push_str("\"/>");
    }

    /// A surface between points and the base line `y`.
    pub fn area(&mut self, class: &str, base: f64, points: &[(f64, f64)]) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let _ = write!(self.out, r#"<path class="{class}" d="M{:.1} {base:.1}"#, first.0);
        for (x, y) in points {
            let _ = write!(self.out, "L{x:.1} {y:.1}");
        }
        let _ = write!(self.out, r#"L{:.1} {base:.1}Z"/>"#, last.0);
    }

    /// A text.
    pub fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let _ = write!(
            self.out,
            r#"<text class="{class}" x="{:.1}" y="{:.1}" text-anchor="{}">"#,
            at.0,
            at.1,
            anchor.name()
        );
        escape_into(&mut self.out, text);
        self.out.push_str("</text>");
    }

    /// Horizontal lines with their values at the left.
    pub fn y_axis(&mut self, frame: &Frame, scale: &Scale, about: usize, name: impl Fn(f64) -> String) {
        for tick in scale.ticks(about) {
            let y = scale.at(tick);
            self.line("grid", (frame.left, y), (frame.right, y));
            self.text("", (frame.left - 8.0, y + 4.0), Anchor::End, &name(tick));
        }
    }

    /// The lower edge with values below it.
    pub fn x_axis(&mut self, frame: &Frame, ticks: impl IntoIterator<Item = (f64, String)>) {
        self.line("axis", (frame.left, frame.bottom), (frame.right, frame.bottom));
        for (x, name) in ticks {
            self.line("axis", (x, frame.bottom), (x, frame.bottom + 4.0));
            self.text("", (x, frame.bottom + 18.0), Anchor::Middle, &name);
        }
    }
}

/// Moves labels apart, so that none is nearer than `gap` to another; each stays as near to its place as that allows, and
/// within `low..=high`. Gives the places in the order of `wanted`.
pub fn spread_labels(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut places = wanted.to_vec();
    let mut least = low;
    for &index in &order {
        places[index] = places[index].max(least);
        least = places[index] + gap;
    }
    let mut most = high;
    for &index in order.iter().rev() {
        places[index] = places[index].min(most);
        most = places[index] - gap;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scales_map_their_ends_and_clamp() {
        let scale = Scale::linear(0.0, 10.0, 100.0, 200.0);
        assert_eq!((scale.at(0.0), scale.at(5.0), scale.at(10.0), scale.at(99.0)), (100.0, 150.0, 200.0, 200.0));
        let log = Scale::log(1.0, 100.0, 0.0, 10.0);
        assert_eq!((log.at(1.0), log.at(10.0), log.at(100.0), log.at(0.0)), (0.0, 5.0, 10.0, 0.0));
        assert!(Scale::linear(3.0, 3.0, 0.0, 1.0).at(3.0).is_finite());
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(Scale::linear(0.0, 23.0, 0.0, 1.0).ticks(5), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(Scale::log(100.0, 20_000.0, 0.0, 1.0).ticks(3), [100.0, 1000.0, 10_000.0]);
        assert_eq!(Scale::log(100.0, 900.0, 0.0, 1.0).ticks(4).len(), 3);
    }

    #[test]
    fn s_030_texts_of_a_picture_are_escaped() {
        let mut canvas = Canvas::new(Form::Wide, 10.0, "<b>");
        canvas.text("", (0.0, 0.0), Anchor::Start, "</text><script>");
        canvas.dot("f1", (0.0, 0.0), 1.0, "\"><script>");
        let svg = canvas.finish();
        assert!(!svg.contains("<script") && !svg.contains("<b>"), "{svg}");
    }

    proptest! {
        #[test]
        fn labels_never_overlap(wanted in prop::collection::vec(0.0f64..300.0, 0..8)) {
            let mut places = spread_labels(&wanted, 14.0, 0.0, 300.0);
            prop_assert!(places.iter().all(|p| (0.0..=300.0).contains(p)));
            places.sort_by(f64::total_cmp);
            prop_assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 14.0 - 1e-6));
        }
    }
}
