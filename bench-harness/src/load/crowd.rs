//! `component crowd -- --target ADDR --count N [--slow]`: clients that do nothing, or next to nothing, as a process of ours. It
//! says `ready` when all of them are greeted, keeps them until SIGTERM, and says then how many still are.

use crate::exit::{Exit, UsageError};
use crate::interrupt::Interrupt;
use crate::process::child::say;
use crate::process::files;
use anyhow::{Context, bail};
use clap::Parser;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

/// Open files that are no clients, here or in the server that they talk to.
const OTHER_FILES: u64 = 250;
/// How long a session may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Who drips sends an octet so often.
const DRIP_EVERY: Duration = Duration::from_millis(100);
/// Addresses that they come from, in turn.
const SOURCES: usize = 250;

#[derive(Debug, Parser)]
#[command(name = "crowd", no_binary_name = true)]
struct Args {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long)]
    count: usize,
    #[arg(long)]
    slow: bool,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Has said EHLO, and says no more.
    Idle,
    /// Sends a command that never ends.
    InACommand,
    /// Sends a body that never ends.
    InABody,
    /// Stopped in the middle of a body.
    Stalled,
}

impl Manner {
    /// Of slow ones half are in commands, a quarter in bodies, and a quarter has stopped in one.
    fn of(nth: usize, slow: bool) -> Self {
        match nth % 4 {
            _ if !slow => Self::Idle,
            0 => Self::InABody,
            1 => Self::Stalled,
            _ => Self::InACommand,
        }
    }
}

/// Runs it until SIGTERM.
///
/// # Errors
/// Too few open files are allowed, or the target does not take all of them.
pub fn main(args: &[String]) -> anyhow::Result<Exit> {
    let args = Args::try_parse_from(args).map_err(|error| UsageError(error.to_string()))?;
    let interrupt = Interrupt::watch(|| {});
    let possible = possible(args.count);
    if possible < args.count {
        let (wanted, allowed) = (args.count as u64 + OTHER_FILES, possible as u64 + OTHER_FILES);
        bail!("{wanted} open files are needed, {allowed} allowed: raise the hard limit (ulimit -Hn)");
    }
    let mut clients = Vec::with_capacity(args.count);
    for nth in 0..args.count {
        let manner = Manner::of(nth, args.slow);
        let client = join(nth, manner, args.target).with_context(|| format!("client {} of the crowd", nth + 1))?;
        client.set_nonblocking(true)?;
        clients.push((manner, client));
    }
    say(&format!("ready {}", serde_json::json!({ "clients": clients.len() })))?;
    let mut next = Instant::now();
    while interrupt.wait_until(next).is_ok() {
        next += DRIP_EVERY;
        for (manner, client) in &mut clients {
            // Who was cut off is found when they are counted.
            let _cut = match manner {
                Manner::InACommand => client.write(b"N"),
                Manner::InABody => client.write(b"x"),
                Manner::Idle | Manner::Stalled => Ok(0),
            };
        }
    }
    let held = clients.iter_mut().filter_map(|(_, client)| is_held(client).then_some(())).count();
    say(&serde_json::json!({ "held": held }).to_string())?;
    Ok(Exit::Good)
}

/// How many of `count` clients there can be here, and in a server that this process starts afterwards: as many as there may be
/// files, which are asked for.
pub fn possible(count: usize) -> usize {
    let allowed = files::allow(count as u64 + OTHER_FILES);
    count.min(usize::try_from(allowed.saturating_sub(OTHER_FILES)).unwrap_or(count))
}

/// A session in its manner.
fn join(nth: usize, manner: Manner, target: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut client = from_its_address(nth, target)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut replies = BufReader::new(client.try_clone()?);
    await_reply(&mut replies, b'2')?;
    if manner == Manner::InACommand {
        return Ok(client);
    }
    client.write_all(b"EHLO client.test\r\n")?;
    await_reply(&mut replies, b'2')?;
    if manner != Manner::Idle {
        client.write_all(b"MAIL FROM:<slow@crowd.test>\r\nRCPT TO:<user1@sink.test>\r\nDATA\r\n")?;
        for first in *b"223" {
            await_reply(&mut replies, first)?;
        }
        client.write_all(b"Subject: slow\r\n\r\nS")?;
    }
    Ok(client)
}

/// One address may have only so many connections.
fn from_its_address(nth: usize, target: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(target) = target else { return TcpStream::connect(target) };
    let host = u8::try_from(nth % SOURCES).unwrap_or(0) + 1;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, host), 0))?;
    connect(&socket, &target)?;
    Ok(TcpStream::from(socket))
}

/// Reads one reply, of several lines or one; its code begins with `first`.
fn await_reply(replies: &mut impl BufRead, first: u8) -> anyhow::Result<()> {
    loop {
        let mut line = String::new();
        replies.read_line(&mut line)?;
        match line.as_bytes() {
            [code, _, _, b' ', ..] if *code == first => return Ok(()),
            [code, _, _, b'-', ..] if *code == first => {}
            _ => bail!("the server said `{}`", line.trim()),
        }
    }
}

/// Whether the server still has it: it says nothing and has not closed.
fn is_held(client: &mut TcpStream) -> bool {
    matches!(client.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_slow_are_in_commands_and_the_idle_are_idle() {
        let count = |wanted, slow| (0..1000).filter(|&nth| Manner::of(nth, slow) == wanted).count();
        let all = [Manner::InACommand, Manner::InABody, Manner::Stalled, Manner::Idle];
        assert_eq!(all.map(|manner| count(manner, true)), [500, 250, 250, 0]);
        assert_eq!(all.map(|manner| count(manner, false)), [0, 0, 0, 1000]);
    }

    #[test]
    fn replies_are_read_to_their_end_and_others_are_told() {
        let mut replies = &b"250-hub.test\r\n250 CHUNKING\r\n354 go on\r\n421 no\r\n"[..];
        await_reply(&mut replies, b'2').expect("two lines");
        await_reply(&mut replies, b'3').expect("one line");
        assert!(await_reply(&mut replies, b'2').expect_err("not that").to_string().contains("421 no"));
        assert!(await_reply(&mut replies, b'2').is_err(), "closed");
    }
}
