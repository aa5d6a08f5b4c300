//! What drivers this machine has, and which of them a test's servers run on.

use crate::skip_part;

/// Names the driver of every server that a test starts without choosing one itself.
const VARIABLE: &str = "RINGPOST_TEST_DRIVER";

/// The driver of a server whose test does not choose one: what `RINGPOST_TEST_DRIVER` names (`uring`, `epoll` or
/// `tokio-uring`), else `auto`, what this machine gives.
///
/// # Panics
/// When it names something else.
pub fn driver() -> &'static str {
    named(std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned()).as_deref())
}

fn named(value: Option<&str>) -> &'static str {
    match value {
        None => "auto",
        Some("uring") => "uring",
        Some("epoll") => "epoll",
        Some("tokio-uring") => "tokio-uring",
        Some(other) => panic!("{VARIABLE} is `{other}`: it names uring, epoll or tokio-uring, or is not set"),
    }
}

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
        skip_part(&format!("{test}_on_tokio_uring"), why);
    }
    let all = ["auto", "tokio-uring", "epoll"].into_iter();
    let here = all.filter(move |driver| refused.is_none() || *driver != "tokio-uring");
    here.inspect(|driver| println!("driver {driver}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_can_be_named_for_tests_that_choose_none() {
        assert_eq!(named(None), "auto");
        assert!(["uring", "epoll", "tokio-uring"].iter().all(|driver| named(Some(driver)) == *driver));
    }

    #[test]
    #[should_panic(expected = "RINGPOST_TEST_DRIVER is `magic`")]
    fn a_driver_that_nobody_has_is_no_driver_for_tests() {
        named(Some("magic"));
    }
}
