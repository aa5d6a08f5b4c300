//! A program under test: started, waited for, and never left behind.

use crate::wait::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many of the last lines of a program's stderr a failing test prints.
const LAST_LINES: usize = 60;

/// A running program. Killed when dropped; a test that panics prints the end of what it said on stderr.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Receiver<String>,
    stderr: Arc<Mutex<Vec<String>>>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `program` with `arguments`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start<A: AsRef<OsStr>>(program: &PathBuf, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts `command` with its output caught.
    ///
    /// # Panics
    /// When it does not start.
    pub fn spawn(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let (lines, stdout) = channel();
        let out = child.stdout.take().expect("a pipe");
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let (kept, err) = (stderr.clone(), child.stderr.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in BufReader::new(err).split(b'\n').map_while(Result::ok) {
                kept.lock().expect("no panic").push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { name, child, stdout, stderr, ended: None }
    }

    /// The next line on stdout; `None` when it ends or says nothing for [`PATIENCE`].
    pub fn line(&mut self) -> Option<String> {
        self.stdout.recv_timeout(PATIENCE).ok()
    }

    /// Waits for the line `ready {…}` and gives what it says.
    ///
    /// # Panics
    /// When the program ends or says something else first.
    pub fn ready(&mut self) -> Value {
        let line = self.line().unwrap_or_else(|| panic!("{} is not ready:\n{}", self.name, self.complaints()));
        let text = line.strip_prefix("ready ").unwrap_or_else(|| panic!("{} says `{line}`, not ready", self.name));
        serde_json::from_str(text).unwrap_or_else(|error| panic!("`{text}` is no JSON: {error}"))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Octets of memory that are its own now and in main memory.
    ///
    /// # Panics
    /// When it has ended.
    pub fn resident_bytes(&self) -> u64 {
        self.figure("smaps_rollup", "Rss:")
    }

    /// The most of them that it ever had.
    ///
    /// # Panics
    /// When it has ended.
    pub fn peak_resident_bytes(&self) -> u64 {
        self.figure("status", "VmHWM:")
    }

    /// A figure in KiB of a file of its folder in `/proc`, in octets.
    fn figure(&self, file: &str, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("a running process");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let figure = line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse::<u64>().ok());
        figure.unwrap_or_else(|| panic!("no {name} in {text}")) << 10
    }

    /// Sends `signal`; does nothing when it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended.is_none()
            && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
        {
            // It may have ended this moment: until it is waited for, its id is nobody else's.
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(PATIENCE).expect("nothing survives SIGKILL")
    }

    /// SIGTERM, and waits until it has drained.
    ///
    /// # Panics
    /// When that takes longer than [`PATIENCE`].
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(PATIENCE).unwrap_or_else(|| panic!("{} does not stop:\n{}", self.name, self.complaints()))
    }

    /// How it ended, when it does within `within`.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        if self.ended.is_none() {
            let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id is positive");
            let handle = pidfd_open(pid, PidfdFlags::empty()).expect("an unwaited child exists");
            let timeout = Timespec::try_from(within).expect("a time-out within range");
            let mut watched = [PollFd::new(&handle, PollFlags::IN)];
            while let Err(rustix::io::Errno::INTR) = poll(&mut watched, Some(&timeout)) {}
            self.ended = self.child.try_wait().expect("our own child");
        }
        self.ended
    }

    /// Every line that it has said on stderr so far.
    ///
    /// # Panics
    /// When the thread that reads it has panicked.
    pub fn said(&self) -> Vec<String> {
        self.stderr.lock().expect("no panic").clone()
    }

    /// The end of what it has said on stderr so far.
    pub fn complaints(&self) -> String {
        let lines = self.stderr.lock().expect("no panic");
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {} said:\n{}", self.name, self.complaints());
        }
        if self.ended.is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn shell(script: &str) -> Process {
        Process::start(&"sh".into(), ["-c", script])
    }

    #[test]
    fn readiness_is_read_and_the_end_is_seen() {
        let mut process = shell("echo 'ready {\"listen\":[\"127.0.0.1:25\"]}'; echo odd >&2; exit 3");
        assert_eq!(process.ready()["listen"][0], "127.0.0.1:25");
        assert_eq!(process.wait(PATIENCE).expect("it ends").code(), Some(3));
        assert_eq!(process.line(), None);
        crate::wait::until("its complaint", || (process.complaints() == "odd").then_some(()));
    }

    #[test]
    fn a_process_is_killed_and_one_that_lives_is_not_waited_for_for_ever() {
        let mut process = shell("exec tail -f /dev/null");
        process.signal(Signal::STOP);
        assert!(process.wait(Duration::ZERO).is_none());
        assert_eq!(process.kill().signal(), Some(9));
    }
}
