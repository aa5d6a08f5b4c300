//! What a hub's memory holds: connections that do nothing, messages that wait on disk.

use super::beside::{Crowd, IDLE};
use super::measured::{Bench, one_hub, part};
use crate::load::crowd;
use crate::observe::process::{own_bytes, resident_bytes};
use crate::plan::{Content, Pace, Phase};
use crate::run::perform;
use crate::stage::Stage;
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Connections that come and go before.
const PASSING_CONNECTIONS: usize = 2048;
/// Messages left in a queue each time: the first ones fill what may hold content, and what grows by doubling.
const QUEUED_MESSAGES: f64 = 200_000.0;
/// How often, behind the first.
const FILLS: usize = 4;
/// Of each, so that the disk is not what takes the time.
const QUEUED_BYTES: u64 = 1024;
/// What the hub notes of the segments that it writes to, it forgets with them: with small ones that has its full size before
/// anything counts.
const SEGMENT_BYTES: u64 = 8 << 20;
/// So fast.
const QUEUED_PER_S: f64 = 20_000.0;
/// How long a session may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

impl Bench<'_> {
    pub(super) fn idle_memory(&mut self) -> anyhow::Result<()> {
        let crowd = Crowd { count: crowd::possible(IDLE.count), ..IDLE };
        self.tell("T-mem-idle", "hub");
        let mut stage = self.stage(&part(1, one_hub()))?;
        let pid = stage.pid("hub").context("the hub does not run")?;
        let at = stage.entry()?;
        let resident = || resident_bytes(pid).context("the hub's memory cannot be read");
        // What is made once is not theirs: the shared buffers of receives are touched in turn, one by each first command.
        for _ in 0..PASSING_CONNECTIONS {
            drop(idle_connection(at)?);
        }
        let _first = idle_connection(at)?;
        let before = resident()?;
        let held = self.gather("T-mem-idle", &stage, crowd)?;
        let after = resident()?;
        self.disperse(held, crowd)?;
        stage.stop();
        let each = after.saturating_sub(before) as f64 / crowd.count as f64;
        self.found("T-mem-idle", each, idle_note(crowd.count));
        Ok(())
    }

    /// Mail that nobody takes, the same amount again and again, with little memory for content: what all but the first add
    /// is what a message costs whose content is on disk alone. Memory that is the process's own, freed and unused included.
    pub(super) fn queued_memory(&mut self) -> anyhow::Result<()> {
        let mut part = part(1, one_hub());
        part.engine.memory_budget = Some(16 << 20);
        part.engine.segment_bytes = Some(SEGMENT_BYTES);
        let scratch = self.folder.scratch().join("targets-queued");
        let mut stage = Stage::start(&part, self.folder.path(), &scratch)?;
        let pid = stage.pid("hub").context("the hub does not run")?;
        stage.hold_back(true)?;
        let mut seen = Vec::new();
        let mut queued = 0;
        for _ in 0..=FILLS {
            self.tell("T-mem-queued", "hub");
            let mut phase = Phase::new(
                "fill",
                "",
                Pace::PerSecond(QUEUED_PER_S),
                50,
                Content::Bytes(QUEUED_BYTES),
                QUEUED_MESSAGES / QUEUED_PER_S,
            );
            phase.warm_up_s = 0.0;
            queued += perform::fill(&mut stage, &part, &phase, &self.around())?;
            let bytes = own_bytes(pid).context("the hub's memory cannot be read")?;
            seen.push((queued, bytes));
            self.runs
                .push(serde_json::json!({ "id": "T-mem-queued", "what": "hub", "queued": queued, "own_bytes": bytes }));
        }
        let until = Instant::now() + ANSWER_WAIT;
        while stage.queued().context("the hub does not say what it holds")? < queued {
            if Instant::now() > until {
                bail!("not all of {queued} messages are in the queue: they were not held back");
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let (Some(first), Some(last)) = (seen.first(), seen.last()) else { bail!("nothing was queued") };
        let (added, grown) = (last.0 - first.0, last.1.saturating_sub(first.1));
        let note = format!(
            "own memory from {} to {} MiB over {added} messages behind the first {}",
            first.1 >> 20,
            last.1 >> 20,
            first.0
        );
        if added == 0 || grown < added {
            bail!("{note}: what a message takes does not show in it");
        }
        self.found("T-mem-queued", grown as f64 / added as f64, note);
        Ok(())
    }
}

/// On how many connections: all that are wanted, or why fewer.
fn idle_note(count: usize) -> String {
    let fewer = if count < IDLE.count {
        format!(", not {}: no more open files are allowed (ulimit -Hn)", IDLE.count)
    } else {
        String::new()
    };
    format!("resident memory over {count} connections behind EHLO{fewer}")
}

/// A session that has said EHLO and waits.
fn idle_connection(at: std::net::SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&at, ANSWER_WAIT)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    read_reply(&mut reader)?;
    stream.write_all(b"EHLO idle.test\r\n")?;
    read_reply(&mut reader)?;
    Ok(stream)
}

fn read_reply(reader: &mut impl BufRead) -> anyhow::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.as_bytes() {
            [b'2', _, _, b' ', ..] => return Ok(()),
            [b'2', _, _, b'-', ..] => {}
            _ => bail!("the hub said `{}`", line.trim()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_connections_than_wanted_are_told_with_the_reason() {
        assert!(!idle_note(IDLE.count).contains("not"));
        assert!(idle_note(774).contains("774 connections behind EHLO, not 10000: "), "{}", idle_note(774));
    }
}
