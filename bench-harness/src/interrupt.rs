//! SIGINT and SIGTERM: the first asks a run to stop cleanly and to keep what was measured; the second ends the program at
//! once (components die with it), and with it what a run needs only while it runs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Signals this near to the first are that one: `timeout` and terminals tell a process and its group, both in one go.
const SAME_WORD: Duration = Duration::from_millis(300);
/// How long a wait for another process's words goes on before it looks at the interrupt again.
const LOOK: Duration = Duration::from_millis(50);

/// Whether somebody asked us to stop. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    asked: Mutex<bool>,
    changed: Condvar,
}

/// Somebody asked us to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Interrupt {
    /// One that listens to this process's signals from now on; the second ends it, behind what it is to do `before_the_end`.
    pub fn watch(before_the_end: impl Fn() + Send + 'static) -> Self {
        let interrupt = Self::default();
        let told = interrupt.clone();
        let (listening, heard) = channel();
        // Without the watcher a signal ends the program at once, as it would anyway.
        let _ =
            std::thread::Builder::new().name("signals".into()).spawn(move || told.listen(listening, &before_the_end));
        // Ends with the word or with the watcher.
        let _ = heard.recv();
        interrupt
    }

    fn listen(&self, listening: Sender<()>, before_the_end: &dyn Fn()) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
                return;
            };
            drop(listening);
            let mut asked: Option<Instant> = None;
            loop {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                match asked {
                    None => self.ask(),
                    Some(at) if at.elapsed() < SAME_WORD => {}
                    Some(_) => {
                        before_the_end();
                        std::process::exit(130)
                    }
                }
                asked.get_or_insert_with(Instant::now);
            }
        });
    }

    /// Asks, as a signal does.
    pub fn ask(&self) {
        *self.lock() = true;
        self.0.changed.notify_all();
    }

    /// Whether somebody did.
    pub fn asked(&self) -> bool {
        *self.lock()
    }

    /// Waits for the time alone.
    ///
    /// # Errors
    /// [`Interrupted`], at once.
    pub fn wait_until(&self, at: Instant) -> Result<(), Interrupted> {
        let mut asked = self.lock();
        loop {
            if *asked {
                return Err(Interrupted);
            }
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            asked = self.0.changed.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the next of `from`, at most until `at`. An interrupt ends the wait as its end would.
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`].
    pub fn receive<T>(&self, from: &Receiver<T>, at: Instant) -> Result<T, RecvTimeoutError> {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            match from.recv_timeout(left.min(LOOK)) {
                Err(RecvTimeoutError::Timeout) if !left.is_zero() && !self.asked() => {}
                other => return other,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn waits_end_with_their_time_or_with_an_interrupt() {
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.wait_until(Instant::now() + Duration::from_millis(5)), Ok(()));
        let other = interrupt.clone();
        let waiter = std::thread::spawn(move || other.wait_until(Instant::now() + LONG));
        interrupt.ask();
        assert_eq!(waiter.join().expect("no panic"), Err(Interrupted));
        assert_eq!(interrupt.wait_until(Instant::now()), Err(Interrupted), "it stays asked");
    }

    #[test]
    fn words_are_awaited_until_an_interrupt() {
        let (say, hear) = channel();
        let interrupt = Interrupt::default();
        say.send(7).expect("heard");
        assert_eq!(interrupt.receive(&hear, Instant::now() + LONG), Ok(7));
        interrupt.ask();
        assert_eq!(interrupt.receive(&hear, Instant::now() + LONG), Err(RecvTimeoutError::Timeout));
        drop(say);
        assert_eq!(interrupt.receive(&hear, Instant::now() + LONG), Err(RecvTimeoutError::Disconnected));
    }
}
