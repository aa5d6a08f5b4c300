//! `/metrics` for Prometheus, on loopback: the counters of every shard as they stand when somebody asks, which disturbs no
//! shard (F-181), and the hosts of next hops as `ringpost status` has them. Labels are the shard's number, and of hosts what
//! configuration and the resolver name, [`HOSTS_MAX`] of them: nothing that a peer could choose (S-017).

use crate::track::counters::{Board, Counter, Kind};
use crate::track::report::{HostReport, Status};
use arc_swap::ArcSwap;
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections that are served at once; further ones wait to be accepted.
const PEERS_MAX: usize = 32;
/// How long a connection may live.
const PEER_WAIT: Duration = Duration::from_secs(60);
/// Pause when the system has no descriptor for a connection.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// Hosts of next hops that have lines of their own; further ones are counted.
const HOSTS_MAX: usize = 200;

/// What a scrape reads.
pub(super) struct Metrics {
    registry: Registry,
    hosts: Hosts,
}

impl Metrics {
    /// Those of a server: its counters, its hosts, and what it is.
    pub(super) fn new(board: Board, facts: Vec<(&'static str, String)>) -> Self {
        let mut registry = Registry::with_prefix("ringpost");
        let hosts = Hosts::default();
        registry.register("build", "What this server is", Info::new(facts));
        registry.register_collector(Box::new(Cells(board)));
        registry.register_collector(Box::new(hosts.clone()));
        Self { registry, hosts }
    }
}

/// Serves for ever. `ask` says how the server stands; `None` when it is ending.
pub(super) async fn serve<A>(
    listener: TcpListener,
    metrics: Metrics,
    ask: impl Fn() -> A + Clone + Send + Sync + 'static,
) -> io::Result<()>
where
    A: Future<Output = Option<Arc<Status>>> + Send + 'static,
{
    let metrics = Arc::new(metrics);
    let scrape = move |headers: HeaderMap| {
        let (metrics, ask) = (metrics.clone(), ask.clone());
        async move { answer(&metrics, &headers, ask).await }
    };
    let router = Router::new().route("/metrics", get(scrape));
    let places = Arc::new(Semaphore::new(PEERS_MAX));
    axum::serve(Bounded { listener, places }, router).await
}

async fn answer<A: Future<Output = Option<Arc<Status>>>>(
    metrics: &Metrics,
    headers: &HeaderMap,
    ask: impl Fn() -> A,
) -> Response {
    // S-016: a page in a browser must not reach us by a name of its own (DNS rebinding).
    if !headers.get(header::HOST).is_some_and(|host| host.to_str().is_ok_and(is_local)) {
        return (StatusCode::MISDIRECTED_REQUEST, "ask by a loopback address\n").into_response();
    }
    if let Some(status) = ask().await {
        metrics.hosts.0.store(status);
    }
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &metrics.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Whether a Host header names loopback.
fn is_local(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.parse::<u16>().is_ok() { name } else { host });
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The cells of every shard, read when they are asked for.
#[derive(Debug)]
struct Cells(Board);

impl Collector for Cells {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for counter in Counter::ALL {
            let kind = match counter.kind() {
                Kind::Counter => ConstCounter::<u64>::TYPE,
                Kind::Gauge => ConstGauge::<i64>::TYPE,
            };
            // The encoder ends help texts with a dot of its own.
            let help = counter.help().trim_end_matches('.');
            let mut family = encoder.encode_descriptor(counter.name(), help, None, kind)?;
            for shard in 0..self.0.shards() {
                let value = self.0.read(shard, *counter);
                let labels = [("shard", shard.to_string())];
                let each = family.encode_family(&labels)?;
                match counter.kind() {
                    Kind::Counter => ConstCounter::new(value).encode(each)?,
                    Kind::Gauge => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(each)?,
                }
            }
        }
        Ok(())
    }
}

/// The hosts of next hops, as the last status had them.
#[derive(Debug, Clone, Default)]
struct Hosts(Arc<ArcSwap<Status>>);

impl Hosts {
    /// A gauge that each host has one value of, with its labels.
    fn gauge(
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        hosts: &[(&str, &HostReport)],
        of: fn(&HostReport) -> (u64, Option<&'static str>),
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, ConstGauge::<i64>::TYPE)?;
        for (next_hop, host) in hosts {
            let (value, health) = of(host);
            let mut labels = vec![("next_hop", *next_hop), ("host", host.address.as_str())];
            labels.extend(health.map(|health| ("health", health)));
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for Hosts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.load();
        let queues = status.queues.iter();
        let all = queues.flat_map(|queue| queue.hosts.iter().map(|host| (queue.next_hop.as_str(), host)));
        let left_out = all.clone().count().saturating_sub(HOSTS_MAX);
        let hosts: Vec<(&str, &HostReport)> = all.take(HOSTS_MAX).collect();
        let health = ("host_health", "1, with how a next hop's host is thought to be: unknown, alive or dead");
        Hosts::gauge(&mut encoder, health, &hosts, |host| (1, Some(host.health.name())))?;
        let connections = ("host_connections", "Connections to a next hop's host");
        Hosts::gauge(&mut encoder, connections, &hosts, |host| (host.connections, None))?;
        let sending = ("host_sending", "Messages under way to a next hop's host");
        Hosts::gauge(&mut encoder, sending, &hosts, |host| (host.sending, None))?;
        let help = "Hosts of next hops beyond those that have lines of their own";
        let one = encoder.encode_descriptor("hosts_left_out", help, None, ConstGauge::<i64>::TYPE)?;
        ConstGauge::new(i64::try_from(left_out).unwrap_or(i64::MAX)).encode(one)
    }
}

/// A listener with few places, each held for a bounded time.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else { continue };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    return (Held { stream, ends: Box::pin(tokio::time::sleep(PEER_WAIT)), _place: place }, peer);
                }
                Err(error) => {
                    tracing::warn!(cause = "metrics_accept", %error, "metrics cannot take a connection");
                    tokio::time::sleep(SHORT_WAIT).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself.
struct Held {
    stream: TcpStream,
    ends: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Held {
    fn over(&mut self, context: &mut Context<'_>) -> Result<(), io::Error> {
        match self.ends.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.over(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.over(context)?;
        Pin::new(&mut self.stream).poll_write(context, octets)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::report::QueueReport;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn s_017_metrics_are_the_shards_counters_and_the_hosts_with_no_label_that_a_peer_chooses() {
        let (board, tallies) = Board::new(2);
        tallies[1].add(Counter::MessagesAccepted, 42);
        tallies[0].set(Counter::Queued, 7);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let host = |port: usize| HostReport { address: format!("127.0.0.1:{port}"), ..HostReport::default() };
        let hosts = (0..HOSTS_MAX + 3).map(host).collect();
        let queue = QueueReport { next_hop: "far".into(), hosts, ..QueueReport::default() };
        let status = Arc::new(Status { queues: vec![queue], ..Status::default() });
        let stand = move || std::future::ready(Some(status.clone()));
        tokio::spawn(serve(listener, Metrics::new(board, vec![("driver", "uring".into())]), stand));
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for line in [
            "# TYPE ringpost_messages_accepted counter",
            "ringpost_messages_accepted_total{shard=\"1\"} 42",
            "ringpost_messages_accepted_total{shard=\"0\"} 0",
            "# TYPE ringpost_queued gauge",
            "ringpost_queued{shard=\"0\"} 7",
            "ringpost_build_info{driver=\"uring\"} 1",
            "ringpost_host_health{next_hop=\"far\",host=\"127.0.0.1:0\",health=\"unknown\"} 1",
            "ringpost_host_connections{next_hop=\"far\",host=\"127.0.0.1:199\"} 0",
            "ringpost_hosts_left_out 3",
            "# EOF",
        ] {
            assert!(answer.lines().any(|found| found == line), "{line}\n{answer}");
        }
        let of_hosts = answer.lines().filter(|line| line.starts_with("ringpost_host_"));
        assert_eq!(of_hosts.count(), 3 * HOSTS_MAX, "their number is bounded");
        let labels = answer.lines().filter(|line| line.starts_with("ringpost_") && !line.contains("_info{"));
        let labels = labels.filter(|line| !line.starts_with("ringpost_host"));
        assert!(labels.clone().count() >= 2 * Counter::ALL.len());
        for line in labels {
            let inside = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("labels").0;
            assert!(inside == "shard=\"0\"" || inside == "shard=\"1\"", "{line}");
        }
        let rebound = ask(address, "GET /metrics HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n").await;
        assert!(rebound.starts_with("HTTP/1.1 421"), "{rebound}");
        assert!(ask(address, "GET / HTTP/1.0\r\n\r\n").await.contains(" 404 "));
        assert!(ask(address, "\x16\x03\x01 garbage\r\n\r\n").await.contains(" 400 "));
    }

    #[test]
    fn s_016_only_loopback_is_a_name_for_us() {
        for (host, local) in [
            ("localhost", true),
            ("LOCALHOST:9925", true),
            ("127.0.0.1:9925", true),
            ("127.0.0.1", true),
            ("[::1]:9925", true),
            ("[::1]", true),
            ("192.0.2.1:9925", false),
            ("localhost.evil.test", false),
            ("evil.test:9925", false),
            ("", false),
        ] {
            assert_eq!(is_local(host), local, "{host}");
        }
    }
}
