//! How a server stands, for people.

use super::select::Property;
use crate::track::report::{Health, QueueReport, Status, Windows};
use std::fmt::Write as _;

/// `status` as a page of text.
pub fn status(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _never = write(&mut out, status);
    out
}

fn write(out: &mut String, status: &Status) -> std::fmt::Result {
    let health = if status.healthy { "healthy" } else { "NOT HEALTHY" };
    writeln!(
        out,
        "{} ({}), {health}, up {}",
        status.server,
        status.state,
        span(status.uptime_s.saturating_mul(1_000))
    )?;
    let commit = status.commit.as_deref().map_or(String::new(), |commit| format!(", commit {commit}"));
    writeln!(
        out,
        "  ringpost {} ({}), pid {}, profile {}, durability {}{commit}, driver {}",
        status.version,
        status.git.as_deref().unwrap_or("no commit"),
        status.pid,
        status.profile,
        status.durability,
        status.driver
    )?;
    for role in &status.roles {
        let how = role.why.as_deref().unwrap_or("healthy");
        writeln!(out, "  {:<16} {:<22} {how}", role.role, role.listen)?;
    }
    if let Some(error) = &status.reload.error {
        writeln!(out, "  last reload refused: {}", plain(error))?;
    }
    shards(out, status)?;
    queues(out, status)?;
    writeln!(out, "\nper accepted message")?;
    let costs = &status.per_message;
    for (name, value) in [
        ("copied bytes", costs.copied_bytes),
        ("system calls", costs.syscalls),
        ("allocations", costs.allocations),
        ("durable writes", costs.stable_writes),
    ] {
        let shown = value.map_or("not measured".to_owned(), |value| format!("{value:.3}"));
        writeln!(out, "  {name:<16} {shown}")?;
    }
    let Windows { w1, w1_max, w5, duplicates_max } = status.windows;
    writeln!(
        out,
        "\na kill now repeats at most {duplicates_max}: {w1} outcomes not yet on disk (W1, at most {w1_max} so far), {w5} under way (W5)"
    )?;
    writeln!(out, "failed for good, notice owed: {}", status.dsn_owed)
}

fn shards(out: &mut String, status: &Status) -> std::fmt::Result {
    writeln!(
        out,
        "\n{:<6} {:<5} {:>8} {:>8} {:>9} {:>10} {:>11}",
        "shard", "core", "in", "out", "queued", "memory", "accepted"
    )?;
    for shard in &status.shards {
        let core = shard.core.map_or("any".to_owned(), |core| core.to_string());
        let silent = if shard.answered { "" } else { "  DOES NOT ANSWER" };
        writeln!(
            out,
            "{:<6} {core:<5} {:>8} {:>8} {:>9} {:>9}K {:>11}{silent}",
            shard.shard,
            shard.connections_in,
            shard.connections_out,
            shard.queued,
            shard.memory_used_bytes / 1_024,
            shard.messages_accepted
        )?;
    }
    Ok(())
}

fn queues(out: &mut String, status: &Status) -> std::fmt::Result {
    if status.queues.is_empty() {
        return writeln!(out, "\nno queues");
    }
    writeln!(
        out,
        "\n{:<24} {:<10} {:>8} {:>8} {:>8} {:>9} {:>8} {:>9}",
        "next hop", "status", "waiting", "sending", "deferred", "suspended", "oldest", "retry in"
    )?;
    for queue in &status.queues {
        let age = |ms: Option<u64>| ms.map_or("-".to_owned(), span);
        writeln!(
            out,
            "{:<24} {:<10} {:>8} {:>8} {:>8} {:>9} {:>8} {:>9}",
            plain(&queue.next_hop),
            queue.status.name(),
            queue.waiting,
            queue.sending,
            queue.deferred,
            queue.suspended,
            age(queue.oldest_ms),
            age(queue.next_retry_ms)
        )?;
        queue_details(out, queue)?;
    }
    Ok(())
}

fn queue_details(out: &mut String, queue: &QueueReport) -> std::fmt::Result {
    if queue.incoming_per_s > 0.0 || queue.outgoing_per_s > 0.0 {
        let (incoming, outgoing) = (queue.incoming_per_s, queue.outgoing_per_s);
        writeln!(out, "  {incoming:.2}/s in, {outgoing:.2}/s out, velocity {:+.2}/s", queue.velocity_per_s)?;
    }
    if let Some(error) = &queue.last_error {
        let ago = queue.last_error_ms.map_or(String::new(), |ms| format!(" ({} ago)", span(ms)));
        writeln!(out, "  last error{ago}: {}", plain(error))?;
    }
    for host in &queue.hosts {
        let health = match host.health {
            Health::Unknown => "not tried",
            Health::Alive => "alive",
            Health::Dead => "DEAD",
        };
        let error = host.last_error.as_deref().map_or(String::new(), |error| format!(", {}", plain(error)));
        let (connections, sending) = (host.connections, host.sending);
        writeln!(
            out,
            "  {:<22} {health}, {connections} connections, {sending} under way{error}",
            plain(&host.address)
        )?;
    }
    Ok(())
}

/// Every property of one thing, a line each.
pub fn properties<T>(item: &T, properties: &[Property<T>]) -> String {
    let mut out = String::new();
    for property in properties {
        let value = (property.get)(item).map_or(String::new(), |value| value.to_string());
        // Writing to a String cannot fail.
        let _never = writeln!(out, "{:<22}: {}", property.name, plain(&value));
    }
    out.push('\n');
    out
}

/// Text from elsewhere for a terminal: no controls.
pub fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Milliseconds in two units at most.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::report::{HostReport, PerMessage, QueueStatus, Reload, RoleReport, ShardLine};

    #[test]
    fn a_person_sees_what_is_wrong_and_no_escape_of_a_peer_reaches_the_terminal() {
        let host = HostReport {
            address: "10.0.0.1:25".into(),
            health: Health::Dead,
            last_error: Some("refused".into()),
            ..HostReport::default()
        };
        let status = Status {
            server: "hub1.test".into(),
            state: "serving".into(),
            uptime_s: 3_700,
            roles: vec![RoleReport {
                role: "hub".into(),
                listen: "127.0.0.1:25".into(),
                healthy: false,
                why: Some("memory is short".into()),
            }],
            shards: vec![ShardLine::default()],
            queues: vec![QueueReport {
                next_hop: "smart".into(),
                status: QueueStatus::Retry,
                waiting: 12,
                oldest_ms: Some(90_000),
                next_retry_ms: Some(500),
                last_error: Some("451 \x1b[31mwait".into()),
                hosts: vec![host],
                ..QueueReport::default()
            }],
            per_message: PerMessage { syscalls: Some(0.25), ..PerMessage::default() },
            windows: Windows { w1: 3, w1_max: 9, w5: 8, duplicates_max: 11 },
            dsn_owed: 3,
            reload: Reload { error: Some("r.toml:1:1: broken".into()), ..Reload::default() },
            ..Status::default()
        };
        let text = super::status(&status);
        for part in [
            "hub1.test (serving), NOT HEALTHY, up 1h01m",
            "hub              127.0.0.1:25           memory is short",
            "last reload refused: r.toml:1:1: broken",
            "DOES NOT ANSWER",
            "smart                    Retry            12        0        0         0    1m30s     500ms",
            "last error: 451 ?[31mwait",
            "10.0.0.1:25            DEAD, 0 connections, 0 under way, refused",
            "system calls     0.250",
            "allocations      not measured",
            "notice owed: 3",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn spans() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (59_000, "59s"),
            (61_000, "1m01s"),
            (7_260_000, "2h01m"),
            (180_000_000, "2d02h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }
}
