//! SIGKILL at every step of durability and at random: nothing acknowledged is lost, nothing comes half, and duplicates stay
//! within their windows (F-001 to F-008, I-1 to I-4).
//!
//! `RINGPOST_KILL_ROUNDS` sets the rounds for each hook (20); the whole matrix is run by hundreds with 100 and more.

#![forbid(unsafe_code)]

mod crash {
    mod accepted;
    mod delivered;
    mod loaded;
    mod recovered;
    mod reported;

    /// How often each hook is met.
    fn rounds() -> u64 {
        std::env::var("RINGPOST_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
    }
}
