//! The administrator's side: asks a running server over its socket, and says what it answered. Reads only what the server
//! published; changes nothing in it.

// The administrator's tool lives outside: it has a clock and a socket of its own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod messages;
mod queues;
pub mod select;
mod shelf;
mod text;

pub use messages::{MESSAGE_PROPERTIES, Message, MessageChoice, ViewError, Viewer, messages_text};
pub use queues::{Choice, QUEUE_PROPERTIES, Queue, of_server, queues, queues_text};
pub use text::{plain, properties as properties_text, status as status_text};

use crate::control::socket::{Answer, Request};
use crate::track::report::Status;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Octets of an answer.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Why a server did not say how it stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens there, or we may not: exit 4.
    #[error("no server answers on {path}: {error}; start it, or name its socket with --admin")]
    Absent {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It answers, and not as agreed: exit 4.
    #[error("the server on {path} does not answer as agreed: {what}")]
    Strange {
        /// The socket.
        path: PathBuf,
        /// What it said.
        what: String,
    },
    /// It says why not: exit 1.
    #[error("the server does not do that: {error}")]
    Refused {
        /// In its words.
        error: String,
    },
}

/// Asks the server on `path` how it stands.
///
/// # Errors
/// As `AskError` says.
pub fn status(path: &Path) -> Result<Status, AskError> {
    let answer = Client::connect(path)?.ask(&Request::new("status"))?;
    answer.status.map(|status| *status).ok_or_else(|| silent(path))
}

/// Has the server on `path` do something with a queue: `suspend`, `resume` or `retry`. It is done then, and will be so after
/// a restart.
///
/// # Errors
/// As `AskError` says.
pub fn operate(path: &Path, doing: &str, queue: &str) -> Result<(), AskError> {
    let request = Request { queue: Some(queue.to_owned()), ..Request::new(doing) };
    let answer = Client::connect(path)?.ask(&request)?;
    answer.done.filter(|done| *done).map(|_| ()).ok_or_else(|| silent(path))
}

/// A connection to a server's socket.
struct Client<'a> {
    path: &'a Path,
    stream: BufReader<UnixStream>,
}

impl<'a> Client<'a> {
    fn connect(path: &'a Path) -> Result<Self, AskError> {
        let absent = |error| AskError::Absent { path: path.to_owned(), error };
        let stream = UnixStream::connect(path).map_err(absent)?;
        stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(absent)?;
        stream.set_write_timeout(Some(ANSWER_WAIT)).map_err(absent)?;
        Ok(Self { path, stream: BufReader::new(stream) })
    }

    /// One request, and its answer, which is no refusal.
    fn ask(&mut self, request: &Request) -> Result<Answer, AskError> {
        let absent = |error| AskError::Absent { path: self.path.to_owned(), error };
        let strange = |what: String| AskError::Strange { path: self.path.to_owned(), what };
        let mut line = serde_json::to_vec(request).map_err(|error| strange(error.to_string()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(absent)?;
        line.clear();
        (&mut self.stream).take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line).map_err(absent)?;
        if line.is_empty() {
            return Err(strange("it closed without an answer".into()));
        }
        let answer: Answer = serde_json::from_slice(&line).map_err(|error| strange(error.to_string()))?;
        match answer.error {
            Some(error) => Err(AskError::Refused { error }),
            None => Ok(answer),
        }
    }
}

fn silent(path: &Path) -> AskError {
    AskError::Strange { path: path.to_owned(), what: "it said nothing".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// What asking a server that answers `octets` gives.
    fn asked(octets: &'static [u8]) -> Result<Status, AskError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).expect("a socket");
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a peer");
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).expect("a request");
            (&stream).write_all(octets).expect("sent");
            request
        });
        let status = status(&path);
        assert_eq!(server.join().expect("no panic"), "{\"ringpost\":1,\"ask\":\"status\"}\n");
        status
    }

    #[test]
    fn a_server_is_asked_and_strange_answers_are_told() {
        let missing = status(Path::new("/nonexistent/admin.sock")).expect_err("nobody there").to_string();
        assert!(missing.starts_with("no server answers on /nonexistent/admin.sock: No such file"), "{missing}");
        let said = |octets| asked(octets).expect_err("no status").to_string();
        assert!(said(b"").ends_with("it closed without an answer"));
        assert!(said(b"220 hello\n").contains("does not answer as agreed"));
        assert!(said(b"{\"ringpost\":1,\"error\":\"the server is stopping\"}\n").ends_with("the server is stopping"));
        assert!(said(b"{\"ringpost\":1}\n").ends_with("it said nothing"));
    }
}
