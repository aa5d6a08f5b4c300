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
        WRITTEN_DOWN.fetch_add(1, Ordering::Relaxed);
    }

    /// A batch with so many outcomes is durable.
    pub fn outcomes_durable(count: usize) {
        DURABLE.fetch_add(count as u64, Ordering::Relaxed);
    }

    static IN_FLIGHT: AtomicU64 = AtomicU64::new(0);

    /// A message whose content was given to a connection, until its outcome is written down or nobody waits for it.
    #[derive(Debug)]
    pub struct InFlight(());

    impl InFlight {
        /// Counts it.
        pub fn begin() -> Self {
            IN_FLIGHT.fetch_add(1, Ordering::Relaxed);
            Self(())
        }
    }

    impl Drop for InFlight {
        fn drop(&mut self) {
            IN_FLIGHT.fetch_sub(1, Ordering::Relaxed);
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
    /// say how many messages it may send again: outcomes that are not durable (W1), and what is in flight (W5).
    pub fn pass(name: &str) {
        let is_meant = |asked: &str| asked == name || asked == "any";
        if asked().is_some_and(|(asked, times)| is_meant(asked) && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *times)
        {
            let owed = WRITTEN_DOWN.load(Ordering::Relaxed).saturating_sub(DURABLE.load(Ordering::Relaxed));
            let flying = IN_FLIGHT.load(Ordering::Relaxed);
            eprintln!("killed at {name}: {owed} outcomes not durable, {flying} transactions in flight");
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(feature = "fail-points")]
pub use asked::{InFlight, arm, fails, is_armed, is_next, outcome, outcomes_durable, pass};
