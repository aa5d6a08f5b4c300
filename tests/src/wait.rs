//! Waiting for a condition that nothing announces. The only place in the tests that sleeps, and never for longer than it
//! takes to look again.

use std::time::{Duration, Instant};

/// How long a test waits for anything before it gives up: far beyond what a slow machine takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until `condition` gives something.
///
/// # Panics
/// When it has given nothing for [`PATIENCE`]; `what` is in the message.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}
