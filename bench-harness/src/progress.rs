//! How far a run is: a bar with the time left on a terminal, plain lines elsewhere. People's text, on stderr.

use crate::exit::tell;
use crate::plan::{Phase, Plan};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Seconds that a phase takes besides its load: draining and collecting.
const AROUND_PHASE_S: f64 = 1.5;

/// Off a terminal how fast it goes is told so often.
const PULSE_EVERY: Duration = Duration::from_secs(5);

/// How long a plan takes.
pub fn expected_s(plan: &Plan) -> f64 {
    let phases: usize = plan.parts.iter().map(|part| part.phases.len()).sum();
    plan.length_s() + phases as f64 * AROUND_PHASE_S
}

/// Tells.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    /// When it was last told in a line how fast it goes.
    pulsed: Cell<Option<Instant>>,
}

impl Progress {
    /// On this process's stderr.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        Self { bar, began: Instant::now(), pulsed: Cell::default() }
    }

    /// One that says nothing.
    pub fn silent() -> Self {
        Self { bar: Some(ProgressBar::hidden()), began: Instant::now(), pulsed: Cell::default() }
    }

    /// A run begins.
    pub fn begin(&self, plan: &Plan) {
        let seconds = expected_s(plan);
        match &self.bar {
            Some(bar) => {
                bar.set_length((seconds * 10.0) as u64);
                let style =
                    ProgressStyle::with_template("{spinner} {elapsed_precise} {wide_bar} about {eta} left  {msg}");
                if let Ok(style) = style {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            None => tell(&format!("{}: about {seconds:.0} s\n", plan.scenario)),
        }
    }

    /// Something that takes a moment.
    pub fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position((self.began.elapsed().as_secs_f64() * 10.0) as u64);
                bar.set_message(what.to_owned());
            }
            None => tell(&format!("{:6.1} s  {what}\n", self.began.elapsed().as_secs_f64())),
        }
    }

    /// Something that stays on the screen.
    pub fn line(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.println(what),
            None => tell(&format!("{:6.1} s  {what}\n", self.began.elapsed().as_secs_f64())),
        }
    }

    /// One of many small steps: shown on a terminal alone, where it takes the place of the one before.
    pub fn detail(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
            bar.tick();
        }
    }

    /// How fast it goes just now: on a terminal in the place of what was said before, elsewhere a line every few seconds.
    pub fn pulse(&self, what: &str) {
        let is_due = self.pulsed.get().is_none_or(|at| at.elapsed() >= PULSE_EVERY);
        match &self.bar {
            Some(bar) => {
                bar.set_position((self.began.elapsed().as_secs_f64() * 10.0) as u64);
                bar.set_message(what.to_owned());
            }
            None if is_due => {
                self.pulsed.set(Some(Instant::now()));
                self.line(what);
            }
            None => {}
        }
    }

    /// A phase begins.
    pub fn phase(&self, label: &str, phase: &Phase) {
        self.say(&format!("{label} ({:.0} s): {}", phase.length_s(), phase.about));
    }

    /// The run is over.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
