//! The engine's own counters, read from its Prometheus page: one short HTTP request, a bounded answer, and a pure parser
//! of the text format.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request that takes longer has failed.
const WAIT: Duration = Duration::from_secs(2);
/// More than any page of ours.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// Samples by name, summed over all their labels.
pub type Counters = BTreeMap<String, f64>;

/// Fetches `http://ADDRESS/metrics`.
///
/// # Errors
/// The engine does not answer, or not with 200.
pub fn fetch(from: SocketAddr) -> io::Result<Counters> {
    page(from).map(|page| parse(&page))
}

/// What the server there says of itself: the labels of `ringpost_build_info`; empty where it says nothing.
///
/// # Errors
/// As [`fetch`].
pub fn facts(from: SocketAddr) -> io::Result<BTreeMap<String, String>> {
    page(from).map(|page| labels(&page, "ringpost_build_info"))
}

fn page(from: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&from, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {from}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut page = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut page)?;
    let page = String::from_utf8_lossy(&page);
    match page.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("{from} answered `{}`", page.lines().next().unwrap_or_default()))),
    }
}

/// Parses the text exposition format. Lines that are no sample are skipped; samples of one name are summed.
pub fn parse(text: &str) -> Counters {
    let mut counters = Counters::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some((name, value)) = parse_sample(line) else { continue };
        *counters.entry(name.to_owned()).or_default() += value;
    }
    counters
}

/// `name{labels} value [timestamp]`; label values may hold escaped quotes, braces and spaces.
fn parse_sample(line: &str) -> Option<(&str, f64)> {
    let name_end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(name_end);
    let rest = if rest.starts_with('{') { &rest[labels_end(rest)?..] } else { rest };
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((name, value))
}

/// The labels of the first sample of `name`.
fn labels(text: &str, name: &str) -> BTreeMap<String, String> {
    let of = |line: &'_ str| -> Option<String> { line.trim().strip_prefix(name)?.strip_prefix('{').map(str::to_owned) };
    let mut rest = text.lines().find_map(of).unwrap_or_default();
    let mut all = BTreeMap::new();
    while let Some((key, value)) = rest.split_once("=\"") {
        let (mut text, mut octets) = (String::new(), value.chars());
        while let Some(octet) = octets.next().filter(|octet| *octet != '"') {
            text.push(if octet == '\\' { octets.next().unwrap_or(octet) } else { octet });
        }
        all.insert(key.trim_start_matches(',').to_owned(), text);
        rest = octets.as_str().to_owned();
    }
    all
}

/// The octet behind the brace that closes the labels.
fn labels_end(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, octet) in labels.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const PAGE: &str = r#"# HELP a_total Something.
# TYPE a_total counter
a_total{shard="0"} 3
a_total{shard="1",note="} \" {"} 4 1700000000
b 1.5e3

broken
c{open="x 1
d NaN
"#;

    #[test]
    fn samples_are_summed_over_labels() {
        let counters = parse(PAGE);
        assert_eq!(counters.get("a_total"), Some(&7.0));
        assert_eq!(counters.get("b"), Some(&1500.0));
        assert_eq!(counters.len(), 2, "{counters:?}");
    }

    #[test]
    fn what_a_server_is_stands_in_its_labels() {
        let page = "ringpost_x 1\nringpost_build_info{driver=\"uring\",durability=\"disk\",odd=\"a \\\" b\"} 1\n";
        let found = labels(page, "ringpost_build_info");
        let expected = [("driver", "uring"), ("durability", "disk"), ("odd", "a \" b")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert!(labels(PAGE, "ringpost_build_info").is_empty());
    }

    fn serve_once(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("one client");
            let mut request = [0; 512];
            let _ = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("the client reads");
        });
        address
    }

    #[test]
    fn a_page_is_fetched() {
        let counters = fetch(serve_once("HTTP/1.1 200 OK\r\n\r\nx 2\n")).expect("a page");
        assert_eq!(counters.get("x"), Some(&2.0));
    }

    #[test]
    fn another_answer_is_an_error() {
        assert!(fetch(serve_once("HTTP/1.1 404 Not Found\r\n\r\n")).is_err());
    }
}
