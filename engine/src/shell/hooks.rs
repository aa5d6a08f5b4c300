//! Named places on a message's way where a test may kill the process (faults.md, hooks K1 to K20).
//!
//! Compiled in by the feature `fail-points` only; a release binary holds neither the code nor the names (S-047). With it,
//! `RINGPOST_KILL_AT=K7:3` ends the process by SIGKILL when K7 is passed for the third time.

/// Passes the hook of this name.
#[macro_export]
macro_rules! hook {
    ($name:literal) => {
        #[cfg(feature = "fail-points")]
        $crate::shell::hooks::pass($name);
    };
}

#[cfg(feature = "fail-points")]
mod asked {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

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

    /// Counts a passage, and ends the process when it is the one that was asked for.
    pub fn pass(name: &str) {
        if asked().is_some_and(|(asked, times)| asked == name && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *times) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(feature = "fail-points")]
pub use asked::{is_next, pass};
