//! Programs that nobody here wrote, started from packages that `tests/peers/fetch` unpacked. Each says why when it cannot
//! run here.

use crate::process::Process;
use crate::source::root;
use crate::talk::{Talk, stuffed};
use crate::wait::until;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// Why a foreign program cannot run here.
pub type Missing = String;

/// A foreign server that answers.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    folder: TempDir,
    address: SocketAddr,
}

impl Peer {
    /// Postfix as a relay that hands everything to `next`.
    ///
    /// # Errors
    /// Why it cannot run here.
    ///
    /// # Panics
    /// When it should run and does not.
    pub fn postfix(next: SocketAddr) -> Result<Self, Missing> {
        let packages = packages("usr/lib/postfix/sbin/master")?;
        as_root()?;
        let next = format!("[{}]:{}", next.ip(), next.port());
        Ok(Self::start("postfix", &packages, &[&next]))
    }

    /// Dovecot as an LMTP server that writes Maildir.
    ///
    /// # Errors
    /// Why it cannot run here.
    ///
    /// # Panics
    /// When it should run and does not.
    pub fn dovecot() -> Result<Self, Missing> {
        let packages = packages("usr/lib/dovecot/lmtp")?;
        as_root()?;
        let folders = Command::new("unshare").args(["--mount", "true"]).output();
        if !folders.is_ok_and(|output| output.status.success()) {
            return Err("mount namespaces are not allowed here".to_owned());
        }
        Ok(Self::start("dovecot", &packages, &[]))
    }

    fn start(name: &str, packages: &Path, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // Where the scripts tell it to listen.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_address().port()));
        let mut command = Command::new(root().join("tests/peers").join(name).join("start"));
        command.arg(packages).arg(folder.path()).arg(address.port().to_string()).args(more);
        let mut process = Process::spawn(command);
        until(&format!("{name} to greet"), || {
            let ended = process.wait(std::time::Duration::ZERO);
            assert!(ended.is_none(), "{name} ended: {ended:?}\n{}", process.complaints());
            Talk::connect(address).ok()?.reply().ok().filter(|reply| reply.code == 220)
        });
        Self { process, folder, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was delivered to `user@domain`, when it is a server of mailboxes. In no order.
    ///
    /// # Panics
    /// When a delivered message cannot be read.
    pub fn mailbox(&self, user: &str, domain: &str) -> Vec<Vec<u8>> {
        let new = self.folder.path().join("spool/vmail").join(domain).join(user).join("new");
        let Ok(entries) = std::fs::read_dir(new) else { return Vec::new() };
        let paths = entries.map(|entry| entry.expect("a readable folder").path());
        paths.map(|path| std::fs::read(path).expect("a delivered message")).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SIGTERM first: both end their children themselves.
        self.process.signal(rustix::process::Signal::TERM);
        let _ = self.process.wait(std::time::Duration::from_secs(10));
    }
}

/// Sends `content` by swaks.
///
/// # Errors
/// Why it cannot run here.
///
/// # Panics
/// When it runs and fails.
pub fn swaks(to: SocketAddr, from: &str, content: &[u8], recipients: &[&str]) -> Result<(), Missing> {
    let script = packages("usr/bin/swaks")?.join("usr/bin/swaks");
    // Left to itself it adds what it misses and takes a last lone dot for its own.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, [&stuffed(content), &b"."[..]].concat()).expect("room for a message");
    let mut command = Command::new("perl");
    command.arg(script).args([
        "--server",
        &to.to_string(),
        "--from",
        from,
        "--to",
        &recipients.join(","),
        "--timeout",
        "60",
    ]);
    command.args(["--no-data-fixup", "--data"]).arg(format!("@{}", file.path().display()));
    let output = command.output().map_err(|_| "perl is not here".to_owned())?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "swaks failed:\n{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Sends the file `message` by Python's smtplib.
///
/// # Errors
/// Why it cannot run here.
///
/// # Panics
/// When it runs and fails.
pub fn smtplib(to: SocketAddr, from: &str, message: &Path, recipients: &[&str]) -> Result<(), Missing> {
    let mut command = Command::new("python3");
    command.arg(root().join("tests/peers/send.py")).args([to.ip().to_string(), to.port().to_string(), from.to_owned()]);
    let output = command.arg(message).args(recipients).output().map_err(|_| "python3 is not here".to_owned())?;
    assert!(output.status.success(), "smtplib failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What Python's email package makes of a delivery report, as `tests/peers/report.py` prints it.
///
/// # Errors
/// Python is missing.
///
/// # Panics
/// When it cannot read the report.
pub fn read_report(message: &[u8]) -> Result<String, Missing> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.eml");
    std::fs::write(&path, message).expect("a file");
    let mut command = Command::new("python3");
    command.arg(root().join("tests/peers/report.py")).arg(path);
    let output = command.output().map_err(|_| "python3 is not here".to_owned())?;
    assert!(output.status.success(), "it cannot be read:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An address of loopback with a port that nobody listens on and nobody else will be given: its host is this process's and
/// this call's own.
///
/// # Panics
/// When there is none.
pub fn free_address() -> SocketAddr {
    static CALLS: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 128 | high, low, CALLS.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((host, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}

/// An address of loopback where connections are refused: bound, so that nobody else gets it, and not listening.
#[derive(Debug)]
pub struct Nowhere {
    at: SocketAddr,
    _held: rustix::fd::OwnedFd,
}

impl Nowhere {
    /// Holds a free port.
    ///
    /// # Panics
    /// When there is none.
    pub fn hold() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&held, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let name = getsockname(&held).expect("a bound socket has an address");
        Self { at: name.try_into().expect("an Internet address"), _held: held }
    }

    /// Where nobody listens.
    pub fn address(&self) -> SocketAddr {
        self.at
    }
}

/// The folder of unpacked packages, when `file` is in it.
fn packages(file: &str) -> Result<PathBuf, Missing> {
    let folder =
        std::env::var_os("RINGPOST_PEERS").map_or_else(|| root().join("target/peers"), PathBuf::from).join("root");
    if folder.join(file).exists() {
        Ok(folder)
    } else {
        Err(format!("{file} is not in {}: fetch it by tests/peers/fetch target/peers", folder.display()))
    }
}

/// `strace`, fetched or installed.
pub fn strace() -> std::process::Command {
    let Ok(folder) = packages("usr/bin/strace") else { return std::process::Command::new("strace") };
    let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"].map(|path| folder.join(path));
    let mut command = std::process::Command::new(folder.join("usr/bin/strace"));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).expect("paths without colons"));
    command
}

fn as_root() -> Result<(), Missing> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err("needs to be root".to_owned()) }
}

/// The trace fields that `got` has in front of `sent`; `None` when anything else was changed.
pub fn trace_before(sent: &[u8], got: &[u8]) -> Option<Vec<String>> {
    let front = got.strip_suffix(sent)?;
    let front = String::from_utf8_lossy(front);
    let mut fields = Vec::new();
    for line in front.split_terminator("\r\n") {
        if !line.starts_with([' ', '\t']) {
            let name = line.split_once(':')?.0;
            matches!(name, "Received" | "Return-Path" | "Delivered-To").then_some(())?;
            fields.push(name.to_owned());
        }
    }
    (front.is_empty() || front.ends_with("\r\n")).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trace_fields_in_front_are_forgiven() {
        let sent = b"Subject: a\r\n\r\nb\r\n";
        let with = |front: &str| [front.as_bytes(), sent].concat();
        assert_eq!(trace_before(sent, sent), Some(vec![]));
        let trace = with("Return-Path: <a@b>\r\nReceived: from c\r\n\tby d; now\r\n");
        assert_eq!(trace_before(sent, &trace), Some(vec!["Return-Path".to_owned(), "Received".to_owned()]));
        assert_eq!(trace_before(sent, &with("X-Other: e\r\n")), None);
        assert_eq!(trace_before(sent, &with("Received: from c\n")), None);
        assert_eq!(trace_before(sent, b"Subject: a\r\n\r\nb \r\n"), None);
    }
}
