//! Micro-benchmarks of the hot path (`cargo bench -p perf`). The figures that count are whole runs: see `perf/README.md`.

#![forbid(unsafe_code)]

/// A message of about `bytes` octets with a short header section and CRLF lines.
pub fn message(bytes: usize) -> Vec<u8> {
    let mut text =
        b"From: <ann@a.test>\r\nTo: <bob@b.test>\r\nSubject: a message\r\nMessage-ID: <1@a.test>\r\n\r\n".to_vec();
    while text.len() + 74 < bytes {
        text.extend_from_slice(b"Seventy-two octets of text stand on this line, and then it ends, like so.\r\n");
    }
    text
}
