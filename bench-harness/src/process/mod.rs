//! Components as real processes: started, awaited until they say they are ready, stopped or killed, and always cleaned up.
//!
//! A component is this very program under a hidden subcommand (see [`child`]), so that one build makes everything. Its
//! first line on stdout is `ready {json}`; what follows on stdout is kept, what it says on stderr too ([`words`]).
//! No component outlives its owner: dropping a [`Component`] kills and reaps it, and the child asks the kernel for SIGKILL
//! when its parent dies. Every wait has an end.

pub mod child;
pub mod files;
pub mod placement;
pub mod words;

use crate::interrupt::Interrupt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use words::Words;

/// A component that does not say it is ready within this time has failed to start.
pub const READY_WAIT: Duration = Duration::from_secs(15);
/// Lines kept from a component's stdout after its readiness.
const OUTPUT_LINES_MAX: usize = 100_000;

/// What a process is made of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// `ringpost`.
    Engine,
    /// `ringload sink`, or what is like it.
    Sink,
    /// `ringload send`, or what is like it.
    Send,
    /// The byte pump and its load.
    Pump,
    /// Clients that do nothing, or next to nothing.
    Crowd,
    /// Somebody else's: its libraries, its path, its own command line.
    Foreign,
}

impl Program {
    /// Its name on the hidden command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Sink => "sink",
            Self::Send => "send",
            Self::Pump => "pump",
            Self::Crowd => "crowd",
            Self::Foreign => "foreign",
        }
    }

    /// How a person would start it.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Engine => "ringpost",
            Self::Sink => "ringload sink",
            Self::Send => "ringload send",
            Self::Pump => "pump",
            Self::Crowd => "crowd",
            Self::Foreign => "foreign",
        }
    }
}

/// One process to start.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Spec {
    /// Its name in results and file names: `hub-1`, `sink-a`.
    pub name: String,
    /// What it runs.
    pub program: Program,
    /// The cores it may run on; empty for all.
    pub cores: Vec<usize>,
    /// Its command line, without the program's name.
    pub args: Vec<String>,
}

/// Why a component is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentError {
    /// The system refused to start it.
    #[error("{name} could not be started")]
    Spawn {
        /// Which component.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it was ready, or while it was needed.
    #[error("{name} ended with {status}{}", tail_of(.tail))]
    Died {
        /// Which component.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last it wrote to stderr.
        tail: String,
    },
    /// It runs, and did not say `ready` in time.
    #[error("{name} did not become ready within {} s{}", .waited.as_secs(), tail_of(.tail))]
    Silent {
        /// Which component.
        name: String,
        /// How long was waited.
        waited: Duration,
        /// The last it wrote to stderr.
        tail: String,
    },
    /// It was ready, and did not say what it is in time.
    #[error("{name} is ready, and its metrics do not answer")]
    Mute {
        /// Which component.
        name: String,
        /// What the last try ended with.
        source: io::Error,
    },
    /// Its first line was something else.
    #[error("{name} said `{line}` where `ready {{…}}` was due")]
    Garbled {
        /// Which component.
        name: String,
        /// What it said, shortened.
        line: String,
    },
    /// It did not end in time when asked to, and was killed.
    #[error("{name} did not end within {} s of SIGTERM and was killed", .waited.as_secs())]
    Stuck {
        /// Which component.
        name: String,
        /// How long was waited.
        waited: Duration,
    },
}

/// What is left to do when this process ends at once, and its components with it: removes what they have below `scratch`.
pub fn leave_nothing(scratch: &Path) {
    // They must not make anew what is removed, and die with us: until then nobody may take their end for a failure.
    hold_children_still();
    // What is left is removed by a later run.
    let _ = std::fs::remove_dir_all(scratch);
}

/// Stops every component of this process where it is; they can still be killed.
fn hold_children_still() {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    for line in children {
        for child in line.split_ascii_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)) {
            // It may have ended.
            let _ = kill_process(child, Signal::STOP);
        }
    }
}

fn tail_of(tail: &str) -> String {
    match tail.lines().count() {
        0 => String::new(),
        1 => format!("; its last words: {tail}"),
        _ => format!("; its last words:\n{tail}"),
    }
}

/// A running process of ours. Dropping it kills it.
#[derive(Debug)]
pub struct Component {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    ready: serde_json::Value,
    lines: Receiver<String>,
    words: Words,
}

impl Component {
    /// Starts `spec` and waits until it is ready. `folder` keeps its words ([`Words`]).
    ///
    /// The calling thread must live as long as the component: the kernel takes its end for the parent's death.
    ///
    /// # Errors
    /// [`ComponentError`]: the component's or the machine's fault; nothing is left running.
    pub fn start(spec: &Spec, folder: &Path) -> Result<Self, ComponentError> {
        let program = std::env::current_exe().map_err(|source| spawn_error(spec, source))?;
        Self::start_with(Command::new(program).args(child::arguments(spec)), spec, folder, READY_WAIT)
    }

    /// As [`Component::start`], with any command: `command` gets its streams and process group from here.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(
        command: &mut Command,
        spec: &Spec,
        folder: &Path,
        wait: Duration,
    ) -> Result<Self, ComponentError> {
        // Every flag of theirs is a variable too, and comes before the file that we start them with: what a person has there
        // would measure something else than what the result says.
        let given =
            |name: &OsStr| ["RINGPOST_", "RINGLOAD_"].iter().any(|ours| name.as_bytes().starts_with(ours.as_bytes()));
        std::env::vars_os().map(|(name, _)| name).filter(|name| given(name)).for_each(|name| {
            command.env_remove(name);
        });
        // Its own process group: an interrupt from the terminal reaches us alone, and we stop the others in order.
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| spawn_error(spec, source))?;
        let heard = Self::listen(&mut child, spec, folder).map_err(|source| spawn_error(spec, source));
        let (lines, words) = heard.inspect_err(|_| end(&mut child))?;
        let mut component =
            Self { name: spec.name.clone(), child, ended: None, ready: serde_json::Value::Null, lines, words };
        component.ready = component.await_ready(wait)?;
        Ok(component)
    }

    fn listen(child: &mut Child, spec: &Spec, folder: &Path) -> io::Result<(Receiver<String>, Words)> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = stdout.zip(stderr).expect("both were asked to be pipes");
        let words = Words::of(&spec.name, spec.program == Program::Engine, stderr, folder)?;
        let (sender, lines) = channel();
        let name = format!("stdout of {}", spec.name);
        std::thread::Builder::new().name(name).spawn(move || forward(stdout, &sender))?;
        Ok((lines, words))
    }

    fn await_ready(&mut self, wait: Duration) -> Result<serde_json::Value, ComponentError> {
        match self.lines.recv_timeout(wait) {
            Ok(line) => {
                let json = line.strip_prefix("ready").and_then(|rest| serde_json::from_str(rest.trim()).ok());
                json.ok_or_else(|| ComponentError::Garbled {
                    name: self.name.clone(),
                    line: line.chars().take(200).collect(),
                })
            }
            Err(RecvTimeoutError::Timeout) => {
                Err(ComponentError::Silent { name: self.name.clone(), waited: wait, tail: self.tail() })
            }
            Err(RecvTimeoutError::Disconnected) => match self.wait(wait) {
                Some(status) => Err(ComponentError::Died { name: self.name.clone(), status, tail: self.tail() }),
                None => Err(ComponentError::Silent { name: self.name.clone(), waited: wait, tail: self.tail() }),
            },
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said when it was ready.
    pub fn ready(&self) -> &serde_json::Value {
        &self.ready
    }

    /// The addresses it listens on, from its readiness line.
    pub fn listening(&self) -> Vec<String> {
        match self.ready.get("listen") {
            Some(serde_json::Value::Array(all)) => all.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect(),
            Some(serde_json::Value::String(one)) => vec![one.clone()],
            _ => Vec::new(),
        }
    }

    /// A text of its readiness line.
    pub fn said(&self, key: &str) -> Option<String> {
        self.ready.get(key)?.as_str().map(str::to_owned)
    }

    /// Takes the next line that it wrote to stdout after its readiness, waiting at most `wait` or for an interrupt.
    pub fn line(&self, wait: Duration, interrupt: &Interrupt) -> Option<String> {
        interrupt.receive(&self.lines, Instant::now() + wait).ok()
    }

    /// The last of the lines that it wrote to stdout since somebody asked, without waiting.
    pub fn last_line(&self) -> Option<String> {
        self.lines.try_iter().last()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits until it ends, at most `wait`; `None` when it goes on.
    pub fn wait(&mut self, wait: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + wait;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.await_exit(left) {
                return self.ended();
            }
        }
    }

    /// Blocks until the process has ended or `left` has passed; `false` when that is not possible.
    fn await_exit(&self, left: Duration) -> bool {
        let Some(pid) = Pid::from_raw(self.pid().cast_signed()) else { return false };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)).is_ok()
    }

    /// Sends SIGTERM and waits at most `wait`; then kills it.
    ///
    /// # Errors
    /// [`ComponentError::Stuck`] when it had to be killed.
    pub fn stop(&mut self, wait: Duration) -> Result<ExitStatus, ComponentError> {
        self.signal(Signal::TERM);
        match self.wait(wait) {
            Some(status) => Ok(status),
            None => {
                self.kill();
                Err(ComponentError::Stuck { name: self.name.clone(), waited: wait })
            }
        }
    }

    /// Sends SIGKILL and reaps it: when this returns the process is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            // Only fails for a process that has just ended.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none()
            && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
        {
            // Not reaped yet, so the id is still its own; a process that has just ended takes no harm.
            let _ = kill_process(pid, signal);
        }
    }

    /// Everything that it wrote to stdout since the last call.
    pub fn take_output(&self) -> Vec<String> {
        self.lines.try_iter().take(OUTPUT_LINES_MAX).collect()
    }

    /// Waits for the end of stdout and gives the rest of it: for a component that has ended.
    pub fn rest_of_output(&self) -> Vec<String> {
        self.lines.iter().take(OUTPUT_LINES_MAX).collect()
    }

    /// The error that tells how it ended.
    pub fn death(&mut self) -> Option<ComponentError> {
        let status = self.ended()?;
        Some(ComponentError::Died { name: self.name.clone(), status, tail: self.tail() })
    }

    /// The last it said; all of it where it has ended.
    fn tail(&mut self) -> String {
        if self.ended().is_some() {
            self.words.settle();
        }
        self.words.last()
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.kill();
        // What it said is kept when this is over.
        self.words.settle();
    }
}

/// Ends a child that nobody will own.
fn end(child: &mut Child) {
    // Only fails for a process that has just ended.
    let _ = child.kill();
    let _ = child.wait();
}

fn spawn_error(spec: &Spec, source: io::Error) -> ComponentError {
    ComponentError::Spawn { name: spec.name.clone(), source }
}

/// Passes lines on until the pipe or the receiver is gone.
fn forward(stdout: ChildStdout, to: &Sender<String>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        if to.send(line).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, wait: Duration) -> (tempfile::TempDir, Result<Component, ComponentError>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let spec = Spec { name: "part".into(), program: Program::Engine, cores: vec![], args: vec![] };
        let started = Component::start_with(Command::new("sh").args(["-c", script]), &spec, folder.path(), wait);
        (folder, started)
    }

    fn is_gone(pid: u32) -> bool {
        !Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn readiness_is_the_first_line() {
        let (_folder, part) = shell(r#"echo 'ready {"listen":["127.0.0.1:9"],"driver":"uring"}'; cat"#, READY_WAIT);
        let part = part.expect("ready");
        assert_eq!(part.listening(), ["127.0.0.1:9"]);
        assert_eq!(part.said("driver").as_deref(), Some("uring"));
    }

    #[test]
    fn a_component_that_dies_shows_its_last_words() {
        let (_folder, part) = shell("echo 'port 25 is taken' >&2; exit 4", READY_WAIT);
        match part {
            Err(ComponentError::Died { status, tail, .. }) => {
                assert_eq!(status.code(), Some(4));
                assert_eq!(tail, "port 25 is taken");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_component_that_stays_silent_is_killed() {
        let (folder, part) = shell("echo $$ >&2; exec sleep 1000", Duration::from_millis(300));
        assert!(matches!(part, Err(ComponentError::Silent { .. })), "{part:?}");
        let pid = std::fs::read_to_string(folder.path().join("part.stderr")).expect("stderr is kept");
        assert!(is_gone(pid.trim().parse().expect("a process id")));
    }

    #[test]
    fn another_first_line_is_an_error() {
        let (_folder, part) = shell("echo hello; exec sleep 1000", READY_WAIT);
        assert!(matches!(part, Err(ComponentError::Garbled { line, .. }) if line == "hello"));
    }

    #[test]
    fn dropping_kills_and_reaps() {
        let (_folder, part) = shell("trap '' TERM; echo 'ready {}'; while :; do sleep 1; done", READY_WAIT);
        let part = part.expect("ready");
        let pid = part.pid();
        assert!(!is_gone(pid));
        drop(part);
        assert!(is_gone(pid));
    }

    #[test]
    fn stopping_asks_first_and_kills_the_stubborn() {
        let (_folder, part) =
            shell("trap 'echo bye; exit 0' TERM; echo 'ready {}'; while :; do sleep 0.05; done", READY_WAIT);
        let mut part = part.expect("ready");
        assert_eq!(part.stop(READY_WAIT).expect("ends by itself").code(), Some(0));
        assert_eq!(part.rest_of_output(), ["bye"]);
        let (_folder, part) = shell("trap '' TERM; echo 'ready {}'; while :; do sleep 0.05; done", READY_WAIT);
        let mut part = part.expect("ready");
        assert!(matches!(part.stop(Duration::from_millis(200)), Err(ComponentError::Stuck { .. })));
        assert!(is_gone(part.pid()));
    }
}
