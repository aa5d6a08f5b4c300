//! The sink's admin address: a line in, a line of JSON out, over a Unix socket or a loopback TCP port.
//!
//! | line | answer |
//! |---|---|
//! | `counts` | `{"ok":true,"counts":{…}}` ([`Counts`]) |
//! | `ledger`, `ledger FROM` | `{"ok":true,"bytes":N}`, then N octets: [`crate::ledger`], without the first FROM entries |
//! | `faults` | `{"ok":true,"faults":["WHERE:ACTION…",…]}` |
//! | `fault FAULT` | adds one; the counts of all begin afresh |
//! | `clear` | no more faults |
//! | `pause DUR` | neither reads nor answers for so long |
//! | `stop` | ends the sink |
//!
//! What went wrong: `{"ok":false,"error":"…"}`. A line is at most 4096 octets. Nothing that is sent here ends the process
//! but `stop` (S-016).

use super::SinkHandle;
use super::shared::Counts;
use crate::ledger::{self, Delivery, LedgerError};
use crate::units::parse_span;
use serde_json::{Value, json};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A request's octets, at most.
const LINE_BYTES_MAX: u64 = 4096;
/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 16;
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

/// Where the admin interface listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// A Unix socket, created with mode 0600.
    Unix(PathBuf),
    /// A loopback port; 0 lets the system choose.
    Tcp(SocketAddr),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    /// `unix:PATH`, a path with a slash in it, or `ADDR:PORT` on loopback.
    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix:").or_else(|| text.contains('/').then_some(text));
        if let Some(path) = path.filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            Ok(address) => {
                Err(format!("{address} is not a loopback address: the admin interface asks for no password"))
            }
            Err(_) => Err(format!("`{text}` is neither unix:PATH nor an address like 127.0.0.1:9025")),
        }
    }
}

/// The bound socket.
#[derive(Debug)]
pub(super) enum AdminListener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl AdminListener {
    pub(super) fn bind(at: &AdminAddress) -> io::Result<Self> {
        match at {
            AdminAddress::Tcp(address) => TcpListener::bind(address).map(Self::Tcp),
            AdminAddress::Unix(path) => {
                // A socket that nobody answers on is left over from a process that was killed; anything else is somebody's.
                let is_socket = std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
                if is_socket && UnixStream::connect(path).is_err() {
                    std::fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    pub(super) fn address(&self) -> io::Result<AdminAddress> {
        match self {
            Self::Unix(_, path) => Ok(AdminAddress::Unix(path.clone())),
            Self::Tcp(listener) => listener.local_addr().map(AdminAddress::Tcp),
        }
    }

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Unix(listener, _) => Ok(Box::new(listener.accept()?.0)),
            Self::Tcp(listener) => Ok(Box::new(listener.accept()?.0)),
        }
    }

    /// Serves until the process ends or the sink stops, on this thread and one for each connection.
    pub(super) fn serve(self, sink: &SinkHandle) {
        let serving = std::sync::Arc::new(());
        while !sink.stopping() {
            let Ok(stream) = self.accept() else {
                std::thread::park_timeout(Duration::from_millis(50));
                continue;
            };
            if sink.stopping() {
                break;
            }
            if std::sync::Arc::strong_count(&serving) > CONNECTIONS_MAX {
                continue;
            }
            let (sink, token) = (sink.clone(), serving.clone());
            let _ = std::thread::Builder::new().name("sink-admin".into()).spawn(move || {
                let _token = token;
                // A client that goes away in the middle is its own affair.
                let _ = converse(stream, &sink);
            });
        }
        if let Self::Unix(_, path) = &self {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn converse(stream: Box<dyn Stream>, sink: &SinkHandle) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if !line.ends_with(b"\n") {
            return say(stream.get_mut(), &refused("a request is one line of at most 4096 octets"));
        }
        let line = String::from_utf8_lossy(&line);
        let (verb, argument) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let from = if argument.is_empty() { Ok(0) } else { argument.trim().parse() };
        if let ("ledger", Ok(from)) = (verb, from) {
            send_ledger(stream.get_mut(), sink, from)?;
        } else {
            let answer = answer(verb, argument.trim(), sink);
            say(stream.get_mut(), &answer)?;
        }
    }
}

fn answer(verb: &str, argument: &str, sink: &SinkHandle) -> Value {
    let done = |whole: bool| if whole { json!({"ok": true}) } else { refused("a shard did not answer in time") };
    match verb {
        "counts" => json!({"ok": true, "counts": sink.counts()}),
        "faults" => {
            let faults: Vec<String> = sink.faults().iter().map(ToString::to_string).collect();
            json!({"ok": true, "faults": faults})
        }
        "fault" => match argument.parse() {
            Ok(fault) => {
                let mut faults = sink.faults();
                faults.push(fault);
                done(sink.set_faults(faults))
            }
            Err(error) => refused(&error),
        },
        "clear" => done(sink.set_faults(Vec::new())),
        "pause" => match parse_span(argument) {
            Ok(span) => done(sink.pause(span)),
            Err(error) => refused(&error),
        },
        "stop" => {
            sink.stop();
            json!({"ok": true})
        }
        _ => refused("write counts, ledger [FROM], faults, fault FAULT, clear, pause DUR or stop"),
    }
}

fn refused(error: impl ToString) -> Value {
    json!({"ok": false, "error": error.to_string()})
}

fn say(stream: &mut dyn Stream, answer: &Value) -> io::Result<()> {
    stream.write_all(format!("{answer}\n").as_bytes())?;
    stream.flush()
}

fn send_ledger(stream: &mut dyn Stream, sink: &SinkHandle, from: usize) -> io::Result<()> {
    let (ledger, whole) = sink.ledger();
    if !whole {
        return say(stream, &refused("a shard did not answer in time"));
    }
    let mut octets = Vec::new();
    ledger::write(&mut octets, ledger.get(from..).unwrap_or_default())?;
    say(stream, &json!({"ok": true, "bytes": octets.len()}))?;
    stream.write_all(&octets)
}

/// Why the admin interface did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// It cannot be reached, or went away.
    #[error("sink admin {0}: {1}")]
    Io(String, io::Error),
    /// It said no.
    #[error("sink admin: {0}")]
    Refused(String),
    /// It answered something that is no answer.
    #[error("sink admin: not an answer: {0}")]
    Malformed(String),
    /// Its ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A client of the admin interface, for a harness in another process. Blocking, with a time-out of 30 s.
pub struct AdminClient {
    stream: BufReader<Box<dyn Stream>>,
    address: String,
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminClient({})", self.address)
    }
}

impl AdminClient {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(at: &AdminAddress) -> Result<Self, AdminError> {
        let stream: io::Result<Box<dyn Stream>> = match at {
            AdminAddress::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
            AdminAddress::Tcp(address) => TcpStream::connect_timeout(address, CLIENT_PATIENCE).and_then(|stream| {
                stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
        };
        let address = at.to_string();
        let stream = stream.map_err(|error| AdminError::Io(address.clone(), error))?;
        Ok(Self { stream: BufReader::new(stream), address })
    }

    /// What the sink did so far.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn counts(&mut self) -> Result<Counts, AdminError> {
        let answer = self.ask("counts")?;
        serde_json::from_value(answer["counts"].clone()).map_err(|error| AdminError::Malformed(error.to_string()))
    }

    /// Everything it took so far.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn ledger(&mut self) -> Result<Vec<Delivery>, AdminError> {
        self.ledger_from(0)
    }

    /// The same without its first `from` entries, which never change: what came since somebody looked.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn ledger_from(&mut self, from: usize) -> Result<Vec<Delivery>, AdminError> {
        let answer = self.ask(&format!("ledger {from}"))?;
        let bytes = answer["bytes"].as_u64().ok_or_else(|| AdminError::Malformed(answer.to_string()))?;
        Ok(ledger::read(&mut self.stream.by_ref().take(bytes))?)
    }

    /// Adds a fault, in the text form of the vocabulary.
    ///
    /// # Errors
    /// [`AdminError`], with what is wrong in the fault.
    pub fn fault(&mut self, fault: &str) -> Result<(), AdminError> {
        self.ask(&format!("fault {fault}")).map(drop)
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn clear(&mut self) -> Result<(), AdminError> {
        self.ask("clear").map(drop)
    }

    /// Stops reading and answering for `milliseconds`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn pause(&mut self, milliseconds: u64) -> Result<(), AdminError> {
        self.ask(&format!("pause {milliseconds}ms")).map(drop)
    }

    /// Ends the sink.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn stop(&mut self) -> Result<(), AdminError> {
        self.ask("stop").map(drop)
    }

    fn ask(&mut self, request: &str) -> Result<Value, AdminError> {
        let mut line = String::new();
        let asked = writeln!(self.stream.get_mut(), "{request}").and_then(|()| self.stream.get_mut().flush());
        asked
            .and_then(|()| self.stream.read_line(&mut line))
            .map_err(|error| AdminError::Io(self.address.clone(), error))?;
        let answer: Value = serde_json::from_str(&line).map_err(|_| AdminError::Malformed(line.trim().to_owned()))?;
        if answer["ok"] == json!(true) {
            Ok(answer)
        } else {
            Err(AdminError::Refused(answer["error"].as_str().unwrap_or("no reason given").to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_016_admin_addresses_are_local() {
        assert!(matches!("unix:sock".parse(), Ok(AdminAddress::Unix(_))));
        assert!(matches!("./a/sock".parse(), Ok(AdminAddress::Unix(_))));
        assert!(matches!("127.0.0.1:0".parse(), Ok(AdminAddress::Tcp(_))));
        assert!("0.0.0.0:9".parse::<AdminAddress>().is_err());
        assert!("nowhere".parse::<AdminAddress>().is_err());
    }
}
