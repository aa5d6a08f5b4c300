//! How many files this process, and those that it starts, may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Asks for `wanted` open files at least, beyond what is set if that may be. How many are allowed then.
pub fn allow(wanted: usize) -> usize {
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.map_or(wanted as u64, |most| most.max(wanted as u64));
    // Who may not go beyond the hard limit may still go up to it.
    let beyond = Rlimit { current: Some(most), maximum: Some(most) };
    let up_to = Rlimit { current: now.maximum, maximum: now.maximum };
    let _ = setrlimit(Resource::Nofile, beyond).or_else(|_| setrlimit(Resource::Nofile, up_to));
    getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}
