//! What is kept of each message while it is sent, and what is made of it afterwards.
//!
//! The sender's hot path writes one fixed-size [`MessageRecord`] per message and nothing else; every figure (histograms,
//! interval log, timeline, accounts) is a pure function of the records, computed when the run is over, and can be
//! computed again differently.

pub mod histogram;
pub mod hlog;
pub mod timeline;

use engine::wire::{Span, Tick};

/// How far a message came at the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum State {
    /// Due, and never given to a connection.
    #[default]
    Waiting,
    /// On a connection, without an outcome yet.
    Started,
    /// A 2yz reply to the final dot or last chunk.
    Accepted,
    /// A 5yz reply, or the message cannot be sent to this peer at all (`code` 0).
    Rejected,
    /// A 4yz reply.
    Deferred,
    /// The connection broke before the final dot or last chunk was sent, or the peer never looked at the message: nothing
    /// of it can arrive.
    NotAttempted,
    /// The connection broke after the final dot or last chunk and before its reply.
    Unknown,
}

/// The times and the outcome of one message. Offsets count from its intended send time in microseconds, rounded down, so
/// that their differences add up; one that was not reached is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageRecord {
    /// Intended send time `t0`, in nanoseconds since the start of the schedule.
    pub intended_ns: u64,
    /// `tp`: the generator turned to it.
    pub taken_us: u32,
    /// `t1`: its first command was handed to the driver.
    pub started_us: u32,
    /// The reply to MAIL was read.
    pub mail_us: u32,
    /// The last reply to RCPT was read.
    pub rcpt_us: u32,
    /// The body may go: 354 was read, or at once for BDAT.
    pub data_us: u32,
    /// The last octet of the body was handed to the driver.
    pub body_us: u32,
    /// `t2`: the last octet of the final reply was read, or the connection was seen broken.
    pub done_us: u32,
    /// Which content.
    pub content: u32,
    /// The reply's code, 0 when there was none.
    pub code: u16,
    /// Recipients that the peer refused for good before the final reply.
    pub rejected: u16,
    /// Recipients that the peer asked to try later before the final reply.
    pub deferred: u16,
    /// How far it came.
    pub state: State,
}

const _: () = assert!(size_of::<MessageRecord>() == 48, "a run of a million messages keeps 48 MB");

/// Parts of a message's service time, in order. They add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// MAIL sent to its reply read.
    Mail,
    /// To the last RCPT's reply.
    Rcpt,
    /// To the 354, or nothing with BDAT.
    Data,
    /// To the last octet of the body handed to the driver.
    Body,
    /// To the final reply.
    FinalReply,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Phase; 5] = [Phase::Mail, Phase::Rcpt, Phase::Data, Phase::Body, Phase::FinalReply];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Mail => "mail",
            Phase::Rcpt => "rcpt",
            Phase::Data => "data",
            Phase::Body => "body",
            Phase::FinalReply => "final_reply",
        }
    }
}

impl MessageRecord {
    /// The offset of `at` for a record whose intended time is `intended`: whole microseconds, at most 71 minutes.
    pub fn offset_us(intended: Tick, at: Tick) -> u32 {
        u32::try_from(at.since(intended).as_micros()).unwrap_or(u32::MAX)
    }

    /// `tp - t0`.
    pub fn schedule_lag_us(&self) -> u64 {
        u64::from(self.taken_us)
    }

    /// `t1 - tp`.
    pub fn connection_wait_us(&self) -> u64 {
        u64::from(self.started_us.saturating_sub(self.taken_us))
    }

    /// `t2 - t1`.
    pub fn service_us(&self) -> u64 {
        u64::from(self.done_us.saturating_sub(self.started_us))
    }

    /// `t2 - t0`.
    pub fn response_us(&self) -> u64 {
        u64::from(self.done_us)
    }

    /// The phases in microseconds, in the order of [`Phase::ALL`]; a stamp that a pipelined peer made late pushes those
    /// behind it, so that the sum is exactly the service time.
    pub fn phases_us(&self) -> [u64; 5] {
        let mut before = self.started_us;
        let stamps = [self.mail_us, self.rcpt_us, self.data_us, self.body_us, self.done_us];
        stamps.map(|stamp| {
            let stamp = stamp.clamp(before, self.done_us.max(before));
            let phase = stamp - before;
            before = stamp;
            u64::from(phase)
        })
    }

    /// When its first command was handed to the driver, as a span since the start of the schedule.
    pub fn begun(&self) -> Span {
        Span(self.intended_ns + u64::from(self.started_us) * 1000)
    }

    /// When it was answered, as a span since the start of the schedule.
    pub fn answered(&self) -> Span {
        Span(self.intended_ns + u64::from(self.done_us) * 1000)
    }

    /// Intended time as a span since the start of the schedule.
    pub fn intended(&self) -> Span {
        Span(self.intended_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn phases_add_up_to_the_service_time(started: u16, stamps: [u16; 4], service: u16, reached in 0usize..5) {
            let done_us = u32::from(started) + u32::from(service);
            let mut stamps = stamps.map(u32::from);
            for missing in &mut stamps[reached.min(4)..] {
                *missing = 0;
            }
            let record = MessageRecord {
                started_us: started.into(), mail_us: stamps[0], rcpt_us: stamps[1], data_us: stamps[2],
                body_us: stamps[3], done_us, ..MessageRecord::default()
            };
            prop_assert_eq!(record.phases_us().iter().sum::<u64>(), record.service_us());
        }

        #[test]
        fn lag_wait_and_service_add_up_to_the_response(taken: u16, wait: u16, service: u16) {
            let started_us = u32::from(taken) + u32::from(wait);
            let record = MessageRecord {
                taken_us: taken.into(), started_us, done_us: started_us + u32::from(service), ..MessageRecord::default()
            };
            let sum = record.schedule_lag_us() + record.connection_wait_us() + record.service_us();
            prop_assert_eq!(sum, record.response_us());
        }
    }
}
