//! What drivers this machine has.

/// Why io_uring cannot be had here, and so neither `uring` nor `tokio-uring`.
pub fn no_uring() -> Option<String> {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match disabled.trim() {
        "" => Some("this kernel has no io_uring, or one before 6.6 that does not say".to_owned()),
        "0" => None,
        other => Some(format!("kernel.io_uring_disabled is {other}")),
    }
}
