//! The log: events of every thread, as lines on standard error, written by a thread of its own so that nobody who logs ever
//! waits for a terminal or a pipe.
//!
//! - One event is one line: controls and marks that change the direction of writing are escaped (S-028).
//! - At most [`PER_SECOND_MAX`] events a second of one cause are written (I-10); what is left out is counted and said. The
//!   cause is the event's field `cause` where it has one, else the place in the program that it comes from.
//! - At most [`LINES_MAX`] lines wait; what comes beyond is counted and said.

use crate::settings::{Level, Log, LogFormat};
use crossbeam::queue::ArrayQueue;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Events of one cause that are written in one second.
pub const PER_SECOND_MAX: u32 = 10;
/// Lines that may wait for standard error.
const LINES_MAX: usize = 4_096;
/// Octets of a line; the rest is cut.
const LINE_BYTES_MAX: usize = 8_192;
/// Causes that are told apart.
const CAUSES_MAX: usize = 1_024;

/// Starts the log of this process. Later calls change nothing: there is one log.
pub fn start(log: &Log) -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        let lines = Lines::start(io::stderr(), log.format);
        // Refused only when something else in the process has set a log before; then that one is used.
        let _other = tracing::subscriber::set_global_default(subscriber(log, lines.clone()));
        lines
    })
}

/// What turns events into lines.
fn subscriber(log: &Log, lines: Lines) -> Box<dyn Subscriber + Send + Sync> {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let format = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines.clone());
    let limited = tracing_subscriber::registry().with(level).with(Limit { lines });
    match log.format {
        LogFormat::Text => Box::new(limited.with(format)),
        LogFormat::Json => Box::new(limited.with(format.json().flatten_event(true))),
    }
}

/// The lines on their way to standard error.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Waiting>);

#[derive(Debug)]
struct Waiting {
    lines: ArrayQueue<Vec<u8>>,
    /// Lines that found no room.
    lost: AtomicU64,
    /// The writer holds a line that it has not written yet.
    writing: AtomicBool,
    writer: OnceLock<Thread>,
    causes: Mutex<BTreeMap<String, Window>>,
    format: LogFormat,
    began: Instant,
}

/// One cause in the current second.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    second: u64,
    written: u32,
    left_out: u64,
}

impl Lines {
    fn start(to: impl Write + Send + 'static, format: LogFormat) -> Lines {
        let lines = Lines(Arc::new(Waiting {
            lines: ArrayQueue::new(LINES_MAX),
            lost: AtomicU64::new(0),
            writing: AtomicBool::new(false),
            writer: OnceLock::new(),
            causes: Mutex::new(BTreeMap::new()),
            format,
            began: Instant::now(),
        }));
        let waiting = lines.0.clone();
        // Without a thread there is no log; mail goes on.
        if let Ok(handle) = thread::Builder::new().name("log".into()).spawn(move || waiting.write_to(to)) {
            let _first = lines.0.writer.set(handle.thread().clone());
        }
        lines
    }

    /// Waits until what was logged so far is written, at most `within`: before the process ends.
    pub fn flush(&self, within: Duration) {
        let until = Instant::now() + within;
        self.say_what_was_left_out(u64::MAX);
        self.0.wake();
        while Instant::now() < until && (!self.0.lines.is_empty() || self.0.writing.load(Ordering::Acquire)) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Says how much was left out of causes that have been silent since. Called a few times a second.
    pub fn say_what_was_left_out_since(&self) {
        self.say_what_was_left_out(self.0.began.elapsed().as_secs());
    }

    fn say_what_was_left_out(&self, second: u64) {
        let mut causes = self.0.causes.lock().unwrap_or_else(PoisonError::into_inner);
        for (cause, window) in causes.iter_mut().filter(|(_, window)| window.second < second) {
            self.say_left_out(cause, window);
        }
        causes.retain(|_, window| window.second.saturating_add(60) >= second);
        drop(causes);
        let lost = self.0.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.say("log lines lost", "log", lost);
        }
    }

    fn say_left_out(&self, cause: &str, window: &mut Window) {
        let count = std::mem::take(&mut window.left_out);
        if count > 0 {
            self.say("events left out", cause, count);
        }
    }

    /// A line of our own about the log itself.
    fn say(&self, what: &str, cause: &str, count: u64) {
        let line = match self.0.format {
            LogFormat::Text => format!("WARN {what} cause={cause:?} count={count}"),
            LogFormat::Json => {
                serde_json::json!({"level": "WARN", "message": what, "cause": cause, "count": count}).to_string()
            }
        };
        self.put(line.as_bytes());
    }

    /// Whether one more event of `cause` may be written in this second.
    fn admit(&self, cause: &str, second: u64) -> bool {
        let mut causes = self.0.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if !causes.contains_key(cause) && causes.len() >= CAUSES_MAX {
            causes.pop_first();
        }
        let window = match causes.get_mut(cause) {
            Some(window) => window,
            None => causes.entry(cause.to_owned()).or_default(),
        };
        if window.second != second {
            self.say_left_out(cause, window);
            (window.second, window.written) = (second, 0);
        }
        if window.written < PER_SECOND_MAX {
            window.written += 1;
            return true;
        }
        window.left_out += 1;
        false
    }

    fn put(&self, octets: &[u8]) {
        if self.0.lines.push(one_line(octets)).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.0.wake();
    }
}

impl Waiting {
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    fn write_to(&self, mut to: impl Write) {
        loop {
            self.writing.store(true, Ordering::Release);
            while let Some(line) = self.lines.pop() {
                // Nobody is left to be told that standard error is gone.
                let _gone = to.write_all(&line);
            }
            let _gone = to.flush();
            self.writing.store(false, Ordering::Release);
            thread::park();
        }
    }
}

/// `octets` as exactly one line: controls, and marks that change the direction of writing, are escaped as JSON writes them.
fn one_line(octets: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(octets);
    let mut line = String::with_capacity(text.len() + 1);
    for letter in text.trim_end_matches('\n').chars() {
        if line.len() >= LINE_BYTES_MAX {
            line.push('…');
            break;
        }
        match letter {
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escape(&mut line, letter),
            _ if letter.is_control() => escape(&mut line, letter),
            _ => line.push(letter),
        }
    }
    line.push('\n');
    line.into_bytes()
}

fn escape(line: &mut String, letter: char) {
    // Writing to a String cannot fail.
    let _never = write!(line, "\\u{:04x}", u32::from(letter));
}

/// One event on its way through the formatter.
#[derive(Debug)]
pub struct Line<'l>(&'l Lines);

impl Write for Line<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.put(octets);
        Ok(octets.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = Line<'l>;
    fn make_writer(&'l self) -> Line<'l> {
        Line(self)
    }
}

/// Leaves out what comes too often.
struct Limit {
    lines: Lines,
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let mut cause = Cause(None);
        event.record(&mut cause);
        let place = || {
            let metadata = event.metadata();
            format!("{}:{}", metadata.target(), metadata.line().unwrap_or(0))
        };
        self.lines.admit(&cause.0.unwrap_or_else(place), self.lines.0.began.elapsed().as_secs())
    }
}

/// The value of an event's field `cause`.
struct Cause(Option<String>);

impl Visit for Cause {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "cause" {
            self.0 = Some(value.to_owned());
        }
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "cause" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard error that remembers.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
        }
    }

    fn logged(format: LogFormat, events: impl FnOnce()) -> String {
        let paper = Paper::default();
        let lines = Lines::start(paper.clone(), format);
        let log = Log { format, level: Level::Info };
        tracing::subscriber::with_default(subscriber(&log, lines.clone()), events);
        lines.flush(Duration::from_secs(10));
        paper.text()
    }

    #[test]
    fn s_028_one_event_is_one_line_whatever_a_value_holds() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, || {
                tracing::warn!(name = %"a\r\nb\x1b[31m\u{202e}c\0\u{9b}d", "hello");
            });
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.ends_with('\n') && text.contains("hello"), "{text:?}");
            assert!(!text.trim_end().chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
            assert!(text.contains("\\u202e"), "{text:?}");
        }
    }

    #[test]
    fn i_10_at_most_ten_events_of_one_cause_in_a_second_and_the_rest_is_counted() {
        let lines = Lines::start(io::sink(), LogFormat::Text);
        for (second, expected) in [(0, 10), (0, 0), (1, 10)] {
            assert_eq!((0..50).filter(|_| lines.admit("disk", second)).count(), expected, "second {second}");
        }
        assert!(lines.admit("other", 1), "each cause has its own count");
        let text = logged(LogFormat::Json, || {
            for _ in 0..1_000 {
                tracing::warn!(cause = "disk", "full");
            }
            tracing::warn!(cause = "net", "gone");
        });
        assert!(text.matches("\"full\"").count() <= 2 * PER_SECOND_MAX as usize, "{text}");
        assert_eq!(text.matches("\"gone\"").count(), 1);
        let left_out: u64 = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("every line is JSON"))
            .filter(|line| line["message"] == "events left out")
            .map(|line| line["count"].as_u64().expect("a count"))
            .sum();
        assert_eq!(left_out as usize + text.matches("\"full\"").count(), 1_000);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::start(Stuck, LogFormat::Text);
        for _ in 0..LINES_MAX + 100 {
            lines.put(b"x\n");
        }
        let lost = lines.0.lost.load(Ordering::Relaxed);
        assert!((99..=100).contains(&lost), "{lost}");
    }

    #[test]
    fn the_number_of_causes_is_bounded() {
        let lines = Lines::start(io::sink(), LogFormat::Text);
        for cause in 0..5_000 {
            lines.admit(&cause.to_string(), 0);
        }
        assert!(lines.0.causes.lock().expect("no panic").len() <= CAUSES_MAX);
    }

    #[test]
    fn a_line_has_an_end() {
        let line = one_line(&vec![b'a'; 100_000]);
        assert!(line.len() < LINE_BYTES_MAX + 8);
        assert_eq!(one_line(b"\xff\n"), "\u{fffd}\n".as_bytes());
    }
}
