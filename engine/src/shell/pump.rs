//! The raw byte pump: what a hub hop costs without mail.
//!
//! Frames of a fixed size arrive on many connections, one at a time each; a batch of them is committed as the spool
//! commits (one write in flight, direct and durable, the next batch fills meanwhile), each is acknowledged by one octet
//! and sent on, uncopied, to a sink, whose short answers are read: a frame's memory is held until its answer has come, as
//! whoever stores and forwards must. No protocol, no queue, no bookkeeping: the floor that a hub is compared with, on the
//! same driver, in the same run.
//!
//! Two other floors by choice: without answers (nothing comes back from the sink), and with one frame per write (what
//! DATA forces: the next message leaves a connection when the one before it was answered).
//!
//! [`Pump`] is the relay; [`PumpSource`] and [`PumpSink`] are its two ends. None of them can hang: a connection that ends
//! where it should not, or is silent for [`PATIENCE`], is a [`PumpError`] to whoever started them.

mod ends;
mod relay;
#[cfg(test)]
mod tests;

pub use ends::{PumpSink, PumpSource};
pub use relay::Pump;

use crate::io::driver::{Next, Stable};
use crate::wire::Span;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::Sender;

/// No answer for so long is an error.
pub const PATIENCE: Span = Span::seconds(10);
/// No frame is larger: a batch of the largest fits into the log twice.
pub const FRAME_BYTES_MAX: usize = 32 << 20;
/// No frame is smaller: it would be shorter than its answer.
pub const FRAME_BYTES_MIN: usize = ANSWER.len();
/// What the sink answers to a frame.
const ANSWER: &[u8; 14] = b"250 2.0.0 ok\r\n";

/// How frames leave for the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All that are there in one write, over one connection of each shard.
    Batched,
    /// One per write: a connection takes the next one when the one before it is answered.
    OnePerWrite {
        /// Connections of each shard to the sink.
        connections: usize,
    },
}

/// What the pump is told.
#[derive(Debug, Clone)]
pub struct PumpOptions {
    /// Where frames arrive. Every shard listens here.
    pub listen: SocketAddr,
    /// Where they go.
    pub sink: SocketAddr,
    /// Octets per frame, [`FRAME_BYTES_MIN`] to [`FRAME_BYTES_MAX`].
    pub frame_bytes: usize,
    /// How they go there.
    pub form: Form,
    /// Whether the sink answers each frame.
    pub answers: bool,
    /// The folder for the log; `None` acknowledges from memory.
    pub folder: Option<PathBuf>,
    /// Whether an acknowledgement means stable storage, or the kernel's hands.
    pub stable: Stable,
    /// How long an answer of the sink is waited for: [`PATIENCE`].
    pub patience: Span,
    /// Told why it cannot go on.
    pub trouble: Sender<PumpError>,
}

/// One of the pump's three parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Sends frames.
    Source,
    /// Stands in the middle.
    Relay,
    /// Swallows frames.
    Sink,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Relay => "relay",
            Self::Sink => "sink",
        })
    }
}

/// How a connection ended that was still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The peer closed it.
    Closed,
    /// The system says that it is gone.
    Broken(io::ErrorKind),
    /// Nothing came in time.
    Silent,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("was closed by the peer"),
            Self::Broken(kind) => write!(f, "broke: {kind}"),
            Self::Silent => f.write_str("was silent for too long"),
        }
    }
}

impl Ending {
    /// The ending that `next` tells, if it is one.
    fn of<R>(next: &Next<R>) -> Option<Self> {
        match next {
            Next::End => Some(Self::Closed),
            Next::Broken(kind) => Some(Self::Broken(*kind)),
            Next::Deadline => Some(Self::Silent),
            Next::Bytes(_) | Next::Filled(..) | Next::Note(_) | Next::Room => None,
        }
    }
}

/// Why a part of the pump cannot go on. Nothing is tried again: the run is over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PumpError {
    /// The address is taken, or not ours.
    #[error("the pump's {place} cannot listen on {at}: {error}")]
    Listen {
        /// Who.
        place: Place,
        /// Where.
        at: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// Nobody listens there.
    #[error("the pump's {place} cannot reach {to}: {error}")]
    Connect {
        /// Who.
        place: Place,
        /// Whom.
        to: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The disk or the folder.
    #[error("the pump cannot write its log in {}: {error}", .folder.display())]
    Log {
        /// Where it was to stand.
        folder: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A connection ended in the middle of a frame, or while answers were owed.
    #[error("the pump's {place}: its connection with {peer} {how}, after {frames} frames, with {owed} under way")]
    Lost {
        /// Who tells it.
        place: Place,
        /// The other end.
        peer: SocketAddr,
        /// How.
        how: Ending,
        /// Frames that were done on it.
        frames: u64,
        /// Frames that were not.
        owed: u64,
    },
}
