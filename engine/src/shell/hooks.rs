//! Named places on a message's way where a test may kill the process (docs/ROWS.md, K1 to K20).
//!
//! Compiled in by the feature `fail-points` only; a release binary holds neither the code nor the names (S-047). With it,
//! `RINGPOST_KILL_AT=K7:3` ends the process by SIGKILL when K7 is passed for the third time, `any:3` when any
//! is.

//! `RINGPOST_FAIL_WRITE=3` lets the third write of messages or outcomes reach the disk and takes it for failed (F-026).

/// Passes the hook of this name; with a condition, only where that holds.
#[macro_export]
macro_rules! hook {
    ($name:literal) => {
        #[cfg(feature = "fail-points")]
        $crate::shell::hooks::pass($name);
    };
    ($name:literal, $holds:expr) => {
        #[cfg(feature = "fail-points")]
        if $holds {
            $crate::shell::hooks::pass($name);
        }
    };
}

#[cfg(feature = "fail-points")]
mod asked {
    use std::cell::Cell;
    use std::panic::Location;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    static ASKED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    fn asked() -> Option<&'static (String, u64)> {
        let asked = ASKED.get_or_init(|| {
            let asked = std::env::var("RINGPOST_KILL_AT").ok()?;
            let (name, times) = asked.split_once(':').unwrap_or((&asked, "1"));
            Some((name.to_owned(), times.parse().unwrap_or(1)))
        });
        asked.as_ref()
    }

    /// Whether the next passage of this hook ends the process.
    pub fn is_next(name: &str) -> bool {
        asked().is_some_and(|(asked, times)| asked == name && PASSED.load(Ordering::Relaxed) + 1 == *times)
    }

    /// A hook that is passed elsewhere is due.
    static ARMED: AtomicBool = AtomicBool::new(false);

    /// The next passage of a hook was met where the process is not to die yet.
    pub fn arm() {
        ARMED.store(true, Ordering::Relaxed);
    }

    /// Whether [`arm`] was called.
    pub fn is_armed() -> bool {
        ARMED.load(Ordering::Relaxed)
    }

    /// Outcomes written down, and such as are durable.
    static WRITTEN_DOWN: AtomicU64 = AtomicU64::new(0);
    static DURABLE: AtomicU64 = AtomicU64::new(0);

    /// An outcome joined a batch.
    pub fn outcome() {
        WRITTEN_DOWN.fetch_add(1, Ordering::SeqCst);
    }

    /// So many outcomes that were written down are durable.
    pub fn outcomes_durable(count: u64) {
        DURABLE.fetch_add(count, Ordering::SeqCst);
    }

    static IN_FLIGHT: AtomicU64 = AtomicU64::new(0);

    /// The last words are being said.
    static DYING: AtomicBool = AtomicBool::new(false);

    /// Whether a message is in flight: from when its content is given to a connection until its outcome is written down, by
    /// whichever shard keeps it, or nobody waits for it.
    #[derive(Debug, Default)]
    pub struct InFlight(Cell<bool>);

    impl InFlight {
        /// Counts it, once. On a thread that goes on while another one dies it does not return: nothing that the last words
        /// do not count leaves after them.
        pub fn begin(&self) {
            if !self.0.replace(true) {
                IN_FLIGHT.fetch_add(1, Ordering::SeqCst);
                while DYING.load(Ordering::SeqCst) {
                    std::thread::park();
                }
            }
        }

        /// Whether it was counted.
        pub fn is_counted(&self) -> bool {
            self.0.get()
        }
    }

    impl Drop for InFlight {
        fn drop(&mut self) {
            if self.0.get() {
                IN_FLIGHT.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    static FAILING: OnceLock<Option<u64>> = OnceLock::new();
    static WRITES: AtomicU64 = AtomicU64::new(0);

    /// Counts a write of messages or outcomes; whether it is the one that is to fail.
    pub fn fails() -> bool {
        let read = || std::env::var("RINGPOST_FAIL_WRITE").ok()?.parse().ok();
        let failing = FAILING.get_or_init(read);
        failing.is_some_and(|at| WRITES.fetch_add(1, Ordering::Relaxed) + 1 == at)
    }

    /// Counts a passage, and ends the process when it is the one that was asked for. Its last words on stderr
    /// say where it stands, and how many messages it may send again: outcomes that are not durable (W1), and what is in
    /// flight (W5).
    #[track_caller]
    pub fn pass(name: &str) {
        let is_meant = |asked: &str| asked == name || asked == "any";
        if asked().is_some_and(|(asked, times)| is_meant(asked) && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *times)
        {
            DYING.store(true, Ordering::SeqCst);
            // Other threads go on. In this order what moves on meanwhile is counted twice, and never not at all.
            let durable = DURABLE.load(Ordering::SeqCst);
            let flying = IN_FLIGHT.load(Ordering::SeqCst);
            let owed = WRITTEN_DOWN.load(Ordering::SeqCst) - durable;
            let place = Location::caller().file().rsplit('/').next().unwrap_or_default();
            eprintln!("killed at {name} in {place}: {owed} outcomes not durable, {flying} transactions in flight");
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(not(feature = "fail-points"))]
mod absent {
    /// Nothing is counted where nobody dies.
    #[derive(Debug, Default)]
    pub struct InFlight(());

    impl InFlight {
        /// Counts nothing.
        pub fn begin(&self) {}
    }

    /// Counts nothing.
    pub fn outcome() {}

    /// Counts nothing.
    pub fn outcomes_durable(_count: u64) {}
}

#[cfg(not(feature = "fail-points"))]
pub use absent::{InFlight, outcome, outcomes_durable};
#[cfg(feature = "fail-points")]
pub use asked::{InFlight, arm, fails, is_armed, is_next, outcome, outcomes_durable, pass};
