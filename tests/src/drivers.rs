//! What drivers this machine has.

use crate::skip;

/// Why io_uring cannot be had here, and so neither `uring` nor `tokio-uring`.
pub fn no_uring() -> Option<String> {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match disabled.trim() {
        "" => Some("this kernel has no io_uring, or one before 6.6 that does not say".to_owned()),
        "0" => None,
        other => Some(format!("kernel.io_uring_disabled is {other}")),
    }
}

/// Every driver that `test` is for, as a configuration names it: the one this machine gives (`uring` where there is
/// io_uring), `tokio-uring`, and `epoll`. Where there is no io_uring `tokio-uring` is left out, and counted as skipped.
/// Each is named in the test's output when its turn comes.
pub fn drivers(test: &str) -> impl Iterator<Item = &'static str> {
    let refused = no_uring();
    if let Some(why) = &refused {
        skip(&format!("{test}_on_tokio_uring"), why);
    }
    let all = ["auto", "tokio-uring", "epoll"].into_iter();
    let here = all.filter(move |driver| refused.is_none() || *driver != "tokio-uring");
    here.inspect(|driver| println!("driver {driver}"))
}
