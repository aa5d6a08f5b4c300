//! Senders that go on until they are told to stop, whatever happens to the server, and note every answer.

use crate::ledger::{Ledger, content, sender};
use crate::talk::Talk;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Octets of a chunk of those that send by BDAT.
const PIECE_BYTES: usize = 20_000;

/// A server that refused a connection is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct Shared {
    ledger: Arc<Ledger>,
    next_id: AtomicU64,
    stop: AtomicBool,
    /// Where the server is now; `None` while it is down.
    server: Mutex<Option<SocketAddr>>,
    moved: Condvar,
}

/// A few sending threads. They send by DATA and by BDAT in turn.
#[derive(Debug)]
pub struct Senders {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Senders {
    /// `count` threads that wait for a server.
    pub fn start(count: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = (0..count).map(|_| {
            let shared = shared.clone();
            std::thread::spawn(move || run(&shared))
        });
        Self { threads: threads.collect(), shared }
    }

    /// The server is at `server` now, or down. Only the next connection notices.
    pub fn aim(&self, server: Option<SocketAddr>) {
        *self.shared.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
        self.shared.moved.notify_all();
    }

    /// What was offered and answered so far.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Stops after the transactions under way; gives the ledger.
    ///
    /// # Panics
    /// When a sender has panicked.
    pub fn stop(self) -> Arc<Ledger> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.aim(None);
        for thread in self.threads {
            thread.join().expect("a sender does not panic");
        }
        self.shared.ledger.clone()
    }
}

fn run(shared: &Shared) {
    let mut repeat = None;
    while let Some(server) = wait_for_server(shared) {
        // A connection that breaks is the point of these tests; what it carried is offered again on the next.
        if one_connection(shared, server, &mut repeat).is_err() {
            pause_unless_moved(shared, server);
        }
    }
}

fn wait_for_server(shared: &Shared) -> Option<SocketAddr> {
    let mut server = shared.server.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(at) = *server {
            return Some(at);
        }
        server = shared.moved.wait(server).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Waits until the server is said to be elsewhere, or a moment.
fn pause_unless_moved(shared: &Shared, server: SocketAddr) {
    let now = shared.server.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = shared.moved.wait_timeout_while(now, AGAIN_AFTER, |now| *now == Some(server));
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

fn one_connection(shared: &Shared, server: SocketAddr, repeat: &mut Option<u64>) -> io::Result<()> {
    let mut talk = Talk::hello(server)?;
    while !shared.stop.load(Ordering::Relaxed) {
        let id = repeat.take().unwrap_or_else(|| shared.next_id.fetch_add(1, Ordering::Relaxed));
        let content = content(id);
        if let Err(error) = talk.envelope(&sender(id), &["bob@b.test"]) {
            // Nothing of it was offered yet.
            *repeat = Some(id);
            return Err(error);
        }
        let sent =
            if (id ^ id >> 4).is_multiple_of(2) { talk.data(&content) } else { talk.chunks(&content, PIECE_BYTES) };
        match sent {
            Ok(reply) if reply.is_positive() => shared.ledger.note(id, |offered| offered.acked += 1),
            Ok(_) => shared.ledger.note(id, |offered| offered.refused += 1),
            Err(error) => {
                // It may be durable, and our 250 lost (W2): offered again, as an honest sender does.
                shared.ledger.note(id, |offered| offered.unknown += 1);
                *repeat = Some(id);
                return Err(error);
            }
        }
    }
    talk.say("QUIT").map(drop)
}
