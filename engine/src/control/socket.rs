//! The admin socket: a Unix socket of mode 0600 on which people of this server ask how it stands (S-016, F-180).
//!
//! One request is one line; so is its answer.
//!
//! | line | answer |
//! |---|---|
//! | `{"ringpost":1,"ask":"status"}` | `{"ringpost":1,"status":{…}}`: `track::report::Status` |
//! | `{"ringpost":1,"ask":"suspend","queue":"NAME"}`, and `resume`, `retry` | `{"ringpost":1,"done":true}` |
//! | `{"ringpost":1,"ask":"messages","shard":0,"page":0}` | `{"ringpost":1,"page":{…}}`: `track::report::MessagePage` |
//! | `{"ringpost":1,"ask":"remove","shard":0,"entries":[[1,0],…],"ndr":true}` | `{"ringpost":1,"removed":["done",…]}`: of each `track::report::Removed` |
//! | anything else | `{"ringpost":1,"error":"…"}` |
//!
//! Version 1 is the number behind `ringpost`; another one is an error that names ours. Bounds: [`PEERS_MAX`] peers at once,
//! lines of [`LINE_BYTES_MAX`], [`REQUESTS_MAX`] requests and [`PEER_WAIT`] for each peer; whatever is sent, the process
//! goes on, and shards are asked at most once in [`super::FRESH`].

use crate::track::report::{MessagePage, Removed, Status};
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// The version of the protocol.
pub const VERSION: u32 = 1;
/// Peers that are served at once; further ones are closed.
const PEERS_MAX: usize = 16;
/// Octets of a request.
const LINE_BYTES_MAX: u64 = 16_384;
/// Messages that one request takes out: their names fit into its line.
pub const REMOVED_MAX: usize = 500;
/// Requests on one connection.
const REQUESTS_MAX: usize = 1_000;
/// How long a peer may take for a request and for taking its answer.
const PEER_WAIT: Duration = Duration::from_secs(10);
/// Pause when the system has no descriptor for a peer.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The protocol's version.
    pub ringpost: u32,
    /// What is asked: `status`, `suspend`, `resume`, `retry`, `messages` or `remove`.
    pub ask: String,
    /// The name of the queue that something is to be done with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queue: Option<String>,
    /// Whose messages.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shard: Option<usize>,
    /// Which page of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub page: Option<u32>,
    /// Which of them, by `MessageReport::entry`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entries: Option<Vec<(u32, u32)>>,
    /// Whether their senders are told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ndr: Option<bool>,
}

impl Request {
    /// Asks this, and says nothing else.
    pub fn new(ask: &str) -> Request {
        let (queue, shard, page, entries, ndr) = (None, None, None, None, None);
        Request { ringpost: VERSION, ask: ask.to_owned(), queue, shard, page, entries, ndr }
    }
}

/// What is to be done with the queue of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Nothing leaves it any more, now and after a restart.
    Suspend(String),
    /// It goes on.
    Resume(String),
    /// If it is in Retry it is tried at once.
    Retry(String),
}

impl Operation {
    /// The name of the queue.
    pub fn queue(&self) -> &str {
        let (Operation::Suspend(queue) | Operation::Resume(queue) | Operation::Retry(queue)) = self;
        queue
    }
}

/// Who answers what is asked here. `None` when it is ending.
pub(super) trait Operator: Clone + Send + Sync + 'static {
    /// How the server stands.
    fn status(&self) -> impl Future<Output = Option<Arc<Status>>> + Send;
    /// Does it, or says in one line why not.
    fn operate(&self, operation: Operation) -> impl Future<Output = Option<Result<(), String>>> + Send;
    /// A page of a shard's messages; `None` when it does not answer.
    fn page(&self, shard: usize, page: u32) -> impl Future<Output = Option<MessagePage>> + Send;
    /// Takes these of a shard's messages out, and tells their senders or not; `None` when it does not answer.
    fn remove(
        &self,
        shard: usize,
        entries: Vec<(u32, u32)>,
        tells: bool,
    ) -> impl Future<Output = Option<Vec<Removed>>> + Send;
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The protocol's version.
    pub ringpost: u32,
    /// How the server stands.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<Box<Status>>,
    /// What was asked for is done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub done: Option<bool>,
    /// Messages.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub page: Option<MessagePage>,
    /// What came of each message that was to be taken out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removed: Option<Vec<Removed>>,
    /// Why there is nothing else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Binds the socket, mode 0600, in place of one that a dead server left.
///
/// # Errors
/// The path is no socket, another server answers on it, or the system refuses: the user's to mend.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket stands there"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server answers there"));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves peers for ever.
pub(super) async fn serve(listener: UnixListener, operator: impl Operator) {
    let places = Arc::new(Semaphore::new(PEERS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(cause = "admin_accept", %error, "the admin socket cannot take a peer");
                tokio::time::sleep(SHORT_WAIT).await;
                continue;
            }
        };
        if !is_ours(&stream) {
            tracing::warn!(cause = "admin_peer", "a stranger at the admin socket was sent away");
            continue;
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(cause = "admin_full", "too many peers at the admin socket");
            continue;
        };
        let operator = operator.clone();
        tokio::spawn(async move {
            let _place = place;
            // A peer that leaves in the middle of its answer is nobody's trouble.
            let _left = peer(stream, operator).await;
        });
    }
}

/// Whether the peer is who we are, or root.
fn is_ours(stream: &UnixStream) -> bool {
    let us = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == us || peer.uid() == 0)
}

async fn peer(stream: UnixStream, operator: impl Operator) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    for _ in 0..REQUESTS_MAX {
        line.clear();
        let read = (&mut reading).take(LINE_BYTES_MAX);
        tokio::time::timeout(PEER_WAIT, { read }.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let mut answer = serde_json::to_vec(&answer(&line, whole, &operator).await)?;
        answer.push(b'\n');
        tokio::time::timeout(PEER_WAIT, writing.write_all(&answer)).await??;
        if !whole {
            return Ok(());
        }
    }
    Ok(())
}

async fn answer(line: &[u8], whole: bool, operator: &impl Operator) -> Answer {
    let answer = Answer { ringpost: VERSION, status: None, done: None, page: None, removed: None, error: None };
    match told(line, whole, operator).await {
        Ok(Told::Status(status)) => Answer { status: Some(Box::new(Status::clone(&status))), ..answer },
        Ok(Told::Done) => Answer { done: Some(true), ..answer },
        Ok(Told::Page(page)) => Answer { page: Some(page), ..answer },
        Ok(Told::Removed(removed)) => Answer { removed: Some(removed), ..answer },
        Err(error) => Answer { error: Some(error), ..answer },
    }
}

/// What there is to answer.
enum Told {
    Status(Arc<Status>),
    Done,
    Page(MessagePage),
    Removed(Vec<Removed>),
}

async fn told(line: &[u8], whole: bool, operator: &impl Operator) -> Result<Told, String> {
    if !whole {
        return Err(format!("a request is one line of at most {LINE_BYTES_MAX} octets"));
    }
    let request = serde_json::from_slice::<Request>(line);
    let request = request.map_err(|_| r#"a request reads {"ringpost":1,"ask":"status"}"#)?;
    if request.ringpost != VERSION {
        return Err("this server speaks version 1".into());
    }
    match (request.ask.as_str(), request.shard, request.page, request.entries, request.ndr) {
        ("messages", Some(shard), Some(page), ..) => {
            return operator.page(shard, page).await.map(Told::Page).ok_or_else(|| SILENT.into());
        }
        ("messages", ..) => return Err("which? say \"shard\":0,\"page\":0".into()),
        ("remove", Some(shard), _, Some(entries), Some(tells)) if entries.len() <= REMOVED_MAX => {
            let removed = operator.remove(shard, entries, tells).await;
            return removed.map(Told::Removed).ok_or_else(|| SILENT.into());
        }
        ("remove", ..) => {
            return Err(format!("which? say \"shard\":0,\"entries\":[[1,0]],\"ndr\":true, of at most {REMOVED_MAX}"));
        }
        _ => {}
    }
    let operation = match (request.ask.as_str(), request.queue) {
        ("status", _) => return operator.status().await.map(Told::Status).ok_or_else(|| STOPPING.into()),
        ("suspend", Some(queue)) => Operation::Suspend(queue),
        ("resume", Some(queue)) => Operation::Resume(queue),
        ("retry", Some(queue)) => Operation::Retry(queue),
        ("suspend" | "resume" | "retry", None) => return Err("which queue? say \"queue\":\"NAME\"".into()),
        _ => return Err("what can be asked is status, suspend, resume, retry, messages and remove".into()),
    };
    operator.operate(operation).await.unwrap_or_else(|| Err(STOPPING.into())).map(|()| Told::Done)
}

/// Said when the plane does not answer any more.
const STOPPING: &str = "the server is stopping";
/// Said when a shard does not answer, or there is no such shard.
const SILENT: &str = "there is no such shard, or it does not answer";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Served {
        folder: tempfile::TempDir,
        asked: Arc<AtomicUsize>,
    }

    /// Answers with a status that counts, and knows one queue.
    #[derive(Clone)]
    struct Counting(Arc<AtomicUsize>);

    impl Operator for Counting {
        async fn status(&self) -> Option<Arc<Status>> {
            let uptime_s = self.0.fetch_add(1, Ordering::Relaxed) as u64;
            Some(Arc::new(Status { uptime_s, ..Status::default() }))
        }

        async fn operate(&self, operation: Operation) -> Option<Result<(), String>> {
            Some(if operation.queue() == "smart" { Ok(()) } else { Err(format!("{operation:?}")) })
        }

        async fn page(&self, shard: usize, page: u32) -> Option<MessagePage> {
            (shard == 0).then(|| MessagePage { pages: page, ..MessagePage::default() })
        }

        async fn remove(&self, shard: usize, entries: Vec<(u32, u32)>, tells: bool) -> Option<Vec<Removed>> {
            let removed = if tells { Removed::Pending } else { Removed::Done };
            (shard == 0).then(|| vec![removed; entries.len()])
        }
    }

    /// A socket that answers so.
    fn serve_here() -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = bind(&folder.path().join("s")).expect("a socket");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(serve(listener, Counting(count)));
        Served { folder, asked }
    }

    impl Served {
        async fn connect(&self) -> UnixStream {
            UnixStream::connect(self.folder.path().join("s")).await.expect("a connection")
        }

        /// Sends `octets` and reads everything until the end.
        async fn exchange(&self, octets: &[u8]) -> String {
            let mut stream = self.connect().await;
            // The peer may have closed before all was sent.
            let _closed = stream.write_all(octets).await;
            let _closed = stream.shutdown().await;
            let mut all = Vec::new();
            let _reset = stream.read_to_end(&mut all).await;
            String::from_utf8(all).expect("UTF-8")
        }
    }

    const ASK: &[u8] = b"{\"ringpost\":1,\"ask\":\"status\"}\n";

    #[tokio::test]
    async fn a_request_is_a_line_and_so_is_its_answer() {
        let served = serve_here();
        let text = served.exchange(&[ASK, ASK].concat()).await;
        let answers: Vec<Answer> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let counts: Vec<u64> = answers.iter().filter_map(|answer| answer.status.as_ref()).map(|s| s.uptime_s).collect();
        assert_eq!(counts, [0, 1]);
        assert_eq!(served.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn s_016_f_180_garbage_never_ends_the_server() {
        let served = serve_here();
        let long = vec![b'x'; 100_000];
        let cases: [(&[u8], &str); 14] = [
            (b"\n", "a request reads"),
            (b"GET / HTTP/1.1\r\n", "a request reads"),
            (b"\xff\xfe\0\n", "a request reads"),
            (b"{\"ringpost\":2,\"ask\":\"status\"}\n", "version 1"),
            (b"{\"ringpost\":1,\"ask\":\"stop\"}\n", "what can be asked"),
            (b"{\"ringpost\":1,\"ask\":\"suspend\"}\n", "which queue?"),
            (b"{\"ringpost\":1,\"ask\":\"retry\",\"queue\":\"x\"}\n", "Retry(\"x\")"),
            (b"{\"ringpost\":1,\"ask\":\"messages\",\"shard\":0}\n", "which? say"),
            (b"{\"ringpost\":1,\"ask\":\"messages\",\"shard\":9,\"page\":0}\n", "no such shard"),
            (b"{\"ringpost\":1,\"ask\":\"remove\",\"shard\":0,\"entries\":[]}\n", "which? say"),
            (b"{\"ringpost\":-1}\n", "a request reads"),
            (b"[[[[[[[[[[[[[[[[[[[[[[\n", "a request reads"),
            (&long, "at most 16384"),
            (b"{\"ringpost\":1,\"ask\":\"status\"}", "at most 16384"),
        ];
        for (octets, expected) in cases {
            let text = served.exchange(octets).await;
            let answer: Answer = serde_json::from_str(text.lines().next().expect("an answer")).expect("JSON");
            assert!(answer.error.as_deref().is_some_and(|error| error.contains(expected)), "{text}");
        }
        assert_eq!(served.exchange(b"").await, "");
        assert!(served.exchange(ASK).await.contains("\"status\""));
        assert_eq!(served.asked.load(Ordering::Relaxed), 1, "garbage asks nobody");
        let done = served.exchange(b"{\"ringpost\":1,\"ask\":\"resume\",\"queue\":\"smart\"}\n").await;
        assert_eq!(done, "{\"ringpost\":1,\"done\":true}\n");
        let entries = vec![(u32::MAX, u32::MAX); REMOVED_MAX];
        let most = Request { shard: Some(0), entries: Some(entries), ndr: Some(true), ..Request::new("remove") };
        let line = [serde_json::to_vec(&most).expect("JSON"), b"\n".to_vec()].concat();
        let answer: Answer = serde_json::from_str(&served.exchange(&line).await).expect("JSON");
        assert_eq!(answer.removed, Some(vec![Removed::Pending; REMOVED_MAX]), "as many as that fit into a line");
    }

    #[tokio::test]
    async fn f_180_slow_peers_take_their_places_only() {
        let served = serve_here();
        let mut idle = Vec::new();
        for _ in 0..PEERS_MAX {
            let mut stream = served.connect().await;
            stream.write_all(ASK).await.expect("sent");
            let mut first = [0];
            stream.read_exact(&mut first).await.expect("served");
            idle.push(stream);
        }
        for _ in 0..100 {
            assert_eq!(served.exchange(ASK).await, "", "no place is left");
        }
        idle.pop();
        // The place comes back when the server has seen the end.
        let mut answer = String::new();
        while answer.is_empty() {
            answer = served.exchange(ASK).await;
        }
        assert!(answer.contains("\"status\""));
    }

    #[tokio::test]
    async fn s_007_the_socket_is_ours_alone_and_stands_in_nobody_s_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let first = bind(&path).expect("a socket");
        let mode = fs::metadata(&path).expect("it stands there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(bind(&path).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind(&path).expect("a dead server's socket is replaced"));
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "mail").expect("written");
        assert_eq!(bind(&path).expect_err("a file").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("still there"), b"mail");
    }
}
