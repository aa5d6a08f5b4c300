//! The load side of a run as processes of ours: sinks and senders, made of the load generator's library.

pub mod crowd;
pub mod send;
pub mod sent;
pub mod sink;

use crate::corpus as own_corpus;
use crate::plan::{Content, MAILBOX_DOMAIN, SINK_DOMAIN};
use engine::io::choice::DriverChoice;
use engine::wire::Span;
use loadgen::send::lane::Pacing;
use loadgen::send::{SendError, SendOptions};
use loadgen::units::Rate;
use loadgen::workload::content::Source;
use loadgen::workload::corpus;
use loadgen::workload::recipients::{Recipients, RecipientsError, Template};
use loadgen::workload::size::Sizes;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Replies are waited for so long after the schedule's end.
pub const DRAIN: Span = Span::seconds(10);
/// Different recipients in each domain.
const RECIPIENTS: u32 = 100;

/// Everything that a sender process is told, as one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SendSpec {
    /// Where to.
    pub target: SocketAddr,
    /// Open loop, so many a second; `None`: as many as are acknowledged.
    pub rate_per_s: Option<f64>,
    /// Sent before anything counts.
    pub warm_up_s: f64,
    /// Measured.
    pub seconds: f64,
    /// How many connections.
    pub connections: usize,
    /// Transactions under way on each.
    pub in_flight_max: usize,
    /// DATA even where CHUNKING is offered.
    pub by_data: bool,
    /// Octets of a message.
    pub size_bytes: u64,
    /// Real mail instead.
    pub corpus: Option<PathBuf>,
    /// One message in so many goes to a mailbox; 0 for none, 1 for all.
    pub mailbox_every: u32,
    /// As `--driver` spells it.
    pub driver: String,
    /// The run's number in stamps.
    pub run: u32,
    /// For everything that is chosen.
    pub seed: u64,
    /// Where what was sent is written down.
    pub record: PathBuf,
}

/// A specification that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Not a rate that a schedule takes.
    #[error("{0} messages a second are no rate that a schedule takes")]
    Rate(f64),
    /// The corpus cannot be used.
    #[error(transparent)]
    Corpus(#[from] corpus::CorpusError),
    /// The recipients cannot be made.
    #[error(transparent)]
    Recipients(#[from] RecipientsError),
    /// Not a driver.
    #[error("{0}")]
    Driver(String),
    /// The sender refuses it, or failed.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl SendSpec {
    /// What its messages are made of. Our own corpus is unpacked below `scratch`.
    ///
    /// # Errors
    /// There it cannot be.
    pub fn set_content(&mut self, content: &Content, scratch: &Path) -> anyhow::Result<()> {
        (self.size_bytes, self.corpus) = match content {
            Content::Bytes(bytes) => (*bytes, None),
            Content::Corpus(path) => (0, Some(path.clone())),
            Content::OwnCorpus => (0, Some(own_corpus::unpack(scratch)?)),
        };
        Ok(())
    }

    fn templates(&self) -> Result<Vec<Template>, SpecError> {
        let weighted =
            |domain: &str, weight: u32| format!("user{{1..{RECIPIENTS}}}@{domain}*{weight}").parse::<Template>();
        Ok(match self.mailbox_every {
            0 => vec![weighted(SINK_DOMAIN, 1)?],
            1 => vec![weighted(MAILBOX_DOMAIN, 1)?],
            every => vec![weighted(SINK_DOMAIN, every - 1)?, weighted(MAILBOX_DOMAIN, 1)?],
        })
    }

    /// Who gets what: the same at the sender and here.
    ///
    /// # Errors
    /// [`SpecError::Recipients`].
    pub fn recipients(&self) -> Result<Recipients, SpecError> {
        Ok(Recipients::new(&self.templates()?, 1, self.seed)?)
    }

    /// When messages are sent.
    ///
    /// # Errors
    /// [`SpecError::Rate`].
    pub fn pacing(&self) -> Result<Pacing, SpecError> {
        let length = Span::micros(((self.warm_up_s + self.seconds) * 1e6) as u64);
        match self.rate_per_s {
            None => Ok(Pacing::Closed { length, messages_max: u64::MAX }),
            Some(per_s) => {
                let one = Rate::per_second(1).expect("one a second is a rate");
                let rate = one.scaled(per_s).ok_or(SpecError::Rate(per_s))?;
                Ok(Pacing::Open(loadgen::schedule::Plan::constant(rate, length)))
            }
        }
    }

    /// The warm-up.
    pub fn warm_up(&self) -> Span {
        Span::micros((self.warm_up_s * 1e6) as u64)
    }

    fn options(&self) -> Result<SendOptions, SpecError> {
        let contents = match &self.corpus {
            Some(path) => Source::corpus(corpus::read(path)?, self.seed),
            None => Source::made(&Sizes::fixed(self.size_bytes), self.seed),
        };
        Ok(SendOptions {
            warm_up: self.warm_up(),
            connections: self.connections,
            in_flight_max: self.in_flight_max,
            transfer: if self.by_data { loadgen::send::Transfer::Data } else { loadgen::send::Transfer::Auto },
            contents,
            recipients: self.templates()?,
            drain: DRAIN,
            driver: self.driver.parse::<DriverChoice>().map_err(SpecError::Driver)?,
            // A closed loop has no schedule to keep, and would starve the sinks on its core.
            punctual: self.rate_per_s.is_some(),
            run: self.run,
            seed: self.seed,
            ..SendOptions::new(self.target, self.pacing()?)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn spec() -> SendSpec {
        SendSpec {
            target: SocketAddr::from(([127, 0, 0, 1], 2525)),
            rate_per_s: Some(500.0),
            warm_up_s: 0.5,
            seconds: 2.0,
            connections: 4,
            in_flight_max: 1,
            by_data: false,
            size_bytes: 4096,
            corpus: None,
            mailbox_every: 0,
            driver: "auto".into(),
            run: 7,
            seed: 3,
            record: "sent".into(),
        }
    }

    #[test]
    fn mailboxes_get_their_share() {
        for (every, share) in [(0, 0.0), (1, 1.0), (50, 0.02)] {
            let recipients = SendSpec { mailbox_every: every, ..spec() }.recipients().expect("templates of our own");
            let is_mailbox = |seq: &u64| recipients.of(*seq).all(|to| to.text.ends_with(MAILBOX_DOMAIN));
            let found = (0..20_000).filter(is_mailbox).count() as f64 / 20_000.0;
            assert!((found - share).abs() < 0.005, "{every}: {found}");
        }
    }

    #[test]
    fn a_rate_is_a_schedule_and_none_is_a_closed_loop() {
        assert_eq!(spec().pacing().expect("a rate").messages(), Some(1250));
        assert_eq!(SendSpec { rate_per_s: None, ..spec() }.pacing().expect("closed").messages(), None);
        assert!(matches!(SendSpec { rate_per_s: Some(0.0), ..spec() }.pacing(), Err(SpecError::Rate(_))));
    }
}
