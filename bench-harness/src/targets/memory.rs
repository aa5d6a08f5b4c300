//! What a hub's memory holds: connections that do nothing, messages that wait on disk.

use super::measured::{Bench, one_hub, part};
use crate::observe::process::resident_bytes;
use crate::plan::{Content, Pace, Phase};
use crate::run::perform;
use crate::stage::Stage;
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Idle connections to be opened: below the usual limit of descriptors.
const IDLE_CONNECTIONS: usize = 800;
/// Messages left in a queue each time.
const QUEUED_MESSAGES: f64 = 20_000.0;
/// How long a session may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

impl Bench<'_> {
    pub(super) fn idle_memory(&mut self) -> anyhow::Result<()> {
        self.tell("T-mem-idle", "hub");
        let scratch = self.folder.scratch().join("targets-idle");
        let mut stage = Stage::start(&part(1, one_hub()), self.folder.path(), &scratch)?;
        let pid = stage.pid("hub").context("the hub does not run")?;
        let at = stage.entry()?;
        let resident = || resident_bytes(pid).context("the hub's memory cannot be read");
        // The first ones fill what is made once.
        let mut held = vec![idle_connection(at)?];
        let before = resident()?;
        for _ in 0..IDLE_CONNECTIONS {
            held.push(idle_connection(at)?);
        }
        let after = resident()?;
        stage.check()?;
        let each = after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64;
        self.found("T-mem-idle", each, format!("resident memory over {IDLE_CONNECTIONS} connections behind EHLO"));
        drop(held);
        stage.stop();
        Ok(())
    }

    /// Mail that nobody takes, three times the same amount, with little memory for content: what the later two add.
    pub(super) fn queued_memory(&mut self) -> anyhow::Result<()> {
        let mut part = part(1, one_hub());
        part.engine.memory_budget = Some(16 << 20);
        let scratch = self.folder.scratch().join("targets-queued");
        let mut stage = Stage::start(&part, self.folder.path(), &scratch)?;
        let pid = stage.pid("hub").context("the hub does not run")?;
        stage.hold_back(true)?;
        let (mut resident, mut messages) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            self.tell("T-mem-queued", "hub");
            let seconds = 2.0;
            let pace = Pace::PerSecond(QUEUED_MESSAGES / seconds);
            let mut phase = Phase::new("fill", "", pace, 50, Content::Bytes(4096), seconds);
            phase.warm_up_s = 0.0;
            let accepted = perform::fill(&mut stage, &part, &phase, &self.around())?;
            messages.push(accepted as f64);
            resident.push(resident_bytes(pid).context("the hub's memory cannot be read")? as f64);
        }
        let added = messages[1] + messages[2];
        let each = (resident[2] - resident[0]) / added.max(1.0);
        if each < 1.0 {
            bail!(
                "resident memory did not grow over {added:.0} messages: they fitted into what the first ones had left"
            );
        }
        self.found("T-mem-queued", each, format!("resident memory over {added:.0} messages of 4 KiB"));
        Ok(())
    }
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
