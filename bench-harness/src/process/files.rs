//! How many files this process, and those that it starts, may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Asks for `wanted` open files at least: up to the hard limit, and beyond it where this process may raise that. How many are
/// allowed then.
pub fn allow(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current < wanted) {
        let most = now.maximum.map(|most| most.max(wanted));
        let (beyond, up_to) =
            (Rlimit { current: Some(wanted), maximum: most }, Rlimit { current: now.maximum, maximum: now.maximum });
        // What is refused is seen below.
        let _refused = setrlimit(Resource::Nofile, beyond).or_else(|_| setrlimit(Resource::Nofile, up_to));
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_told_and_never_lowered() {
        let before = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert_eq!(allow(1), before);
        let told = allow(before.saturating_add(1));
        assert_eq!(told, getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX));
        assert!(told >= before, "{told} after {before}");
    }
}
