//! The health record of one host of a next hop: whether it may be connected to, how much it may have under way, how slow
//! it is.
//!
//! | standing | connection attempts at once | comes from |
//! |---|---|---|
//! | unknown | 2 | configuration |
//! | alive, trusted | as many as wanted | a session was opened, or a message answered |
//! | alive, doubted | 2; its older connections take nothing | a connection broke; ends with the next answer or session |
//! | dead | 1 per probe | an attempt failed, or new connections break again and again |

use super::link::LinkList;
use super::options::Options;
use crate::wire::{HostAddress, Span, Tick};

/// Attempts at once on a host that has not shown that it lives (F-061).
pub(super) const UNPROVEN_ATTEMPTS_MAX: u32 = 2;

/// Connections that broke one after the other, each opened after the one before broke and none answered: dead.
pub(super) const BREAKS_MAX: u32 = 2;

/// No host is thought quicker than this, so that noise does not decide who gets the work.
const DELAY_MIN_US: u64 = 1_000;

/// Why a connection ended or was not made. What it says about the host is in `Queues::closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No way to it.
    #[error("unreachable")]
    Unreachable,
    /// It did not answer in time: the connection attempt, the greeting or a command (M-069).
    #[error("timed out")]
    TimedOut,
    /// It greeted with 4yz or 5yz.
    #[error("greeted with {0}")]
    Greeting(u16),
    /// It refused EHLO and HELO.
    #[error("refused EHLO with {0}")]
    Hello(u16),
    /// It takes no mail: it refused MAIL for a reason that lies in no message (503, M-118).
    #[error("refused MAIL with {0}")]
    Mail(u16),
    /// It said 421 in a session.
    #[error("closed with 421")]
    PushBack,
    /// The connection ended in the middle of a session, without 421.
    #[error("connection broken")]
    Broken,
    /// It does not speak the protocol (F-071, F-080, F-081).
    #[error("protocol error")]
    Protocol,
    /// It is ourselves (F-082).
    #[error("is ourselves")]
    Loop,
    /// We are short of descriptors or memory: the host's health does not suffer.
    #[error("short of resources here")]
    Short,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Unknown,
    Alive,
    Dead,
}

#[derive(Debug)]
pub(super) struct Host {
    pub at: HostAddress,
    pub standing: Standing,
    /// No attempt before.
    pub connect_at: Tick,
    /// The hop's round in which it was tried last.
    pub tried: u32,
    /// No longer configured: finishes what it has and is not used again.
    pub retired: bool,
    /// A connection broke and nothing was heard since.
    pub doubted: bool,
    pub breaks: u32,
    pub broke: Tick,
    /// Found dead so often since it answered a message, and when last.
    deaths: u32,
    died: Tick,
    /// Attempts under way, of them those young enough to keep other hosts from being tried, and ready connections.
    pub connecting: u32,
    pub fresh: u32,
    pub ready: u32,
    /// Messages under way, and at most.
    pub load: u32,
    pub window: u32,
    delay_us: u64,
    measured: Tick,
    quiet_since: Tick,
    pub idle: LinkList,
    pub roomy: LinkList,
    pub last_cause: Option<Cause>,
    /// It was dead when [`super::Queues::host_news`] was last asked.
    pub was_dead: bool,
    pub answers: u64,
    /// When a connection of it was woken last, by the hop's count.
    pub fed: u64,
}

impl Host {
    pub fn new(at: HostAddress, window: u32) -> Self {
        Self {
            at,
            standing: Standing::Unknown,
            connect_at: Tick(0),
            tried: 0,
            retired: false,
            doubted: false,
            breaks: 0,
            deaths: 0,
            died: Tick(0),
            broke: Tick(0),
            connecting: 0,
            fresh: 0,
            ready: 0,
            load: 0,
            window: window.max(1),
            delay_us: 0,
            measured: Tick(0),
            quiet_since: Tick(0),
            idle: LinkList::default(),
            roomy: LinkList::default(),
            last_cause: None,
            was_dead: false,
            answers: 0,
            fed: 0,
        }
    }

    /// Whether its connections may be given messages.
    pub fn is_usable(&self) -> bool {
        self.standing == Standing::Alive && !self.doubted && !self.retired
    }

    /// How long a message given to it now would take, in microseconds: the mean of its answers, forgotten by half every
    /// `half_life`, or for how long it has owed one.
    pub fn delay_us(&self, half_life: Span, now: Tick) -> u64 {
        let owed = if self.load > 0 { now.since(self.quiet_since).as_micros() } else { 0 };
        self.mean_us(half_life, now).max(owed).max(DELAY_MIN_US)
    }

    fn mean_us(&self, half_life: Span, now: Tick) -> u64 {
        let halvings = now.since(self.measured).0 / half_life.0.max(1);
        self.delay_us.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    /// Messages are given to it.
    pub fn on_taken(&mut self, count: u32, now: Tick) {
        if self.load == 0 {
            self.quiet_since = now;
        }
        self.load += count;
    }

    /// It answered one message `delay` after its turn had come.
    pub fn on_answer(&mut self, delay: Span, options: &Options, now: Tick) {
        let sample = delay.as_micros();
        self.delay_us = match self.mean_us(options.probe_wait, now) {
            0 => sample,
            // Trouble is believed at once, recovery slowly.
            mean if sample > mean => (mean + sample) / 2,
            mean => (mean * 3 + sample) / 4,
        };
        self.measured = now;
        self.quiet_since = now;
        self.standing = Standing::Alive;
        self.doubted = false;
        self.breaks = 0;
        self.deaths = 0;
        self.answers += 1;
        if self.load >= self.window / 2 {
            self.window = self.window.saturating_add(1).min(options.host_window_max);
        }
    }

    /// A session was opened.
    pub fn on_connected(&mut self) {
        if self.standing == Standing::Dead {
            self.window = 1;
        }
        self.standing = Standing::Alive;
        self.doubted = false;
        self.connect_at = Tick(0);
        self.last_cause = None;
    }

    /// It cannot be reached, as a connection of this age has shown: left alone for a while that doubles with each time.
    pub fn on_dead(&mut self, options: &Options, since: Tick, now: Tick, round: u32) {
        self.standing = Standing::Dead;
        // Connections that were under way when it died tell of the same event.
        if self.deaths == 0 || since >= self.died {
            self.connect_at = now + self.probe_wait(options);
            self.deaths = self.deaths.saturating_add(1);
            self.died = now;
        }
        self.tried = round;
        self.window = 1;
    }

    /// How long it is left alone when it is found dead now.
    pub fn probe_wait(&self, options: &Options) -> Span {
        let doubled = options.probe_wait.0.saturating_mul(1u64.checked_shl(self.deaths).unwrap_or(u64::MAX));
        Span(doubled.min(options.probe_wait_max.0.max(options.probe_wait.0)))
    }

    /// Attempts it may have under way.
    pub fn attempts_max(&self) -> u32 {
        match self.standing {
            Standing::Alive if !self.doubted && self.breaks == 0 => u32::MAX,
            Standing::Alive | Standing::Unknown => UNPROVEN_ATTEMPTS_MAX,
            Standing::Dead => 1,
        }
    }

    /// Messages that it may be given.
    pub fn room(&self) -> u32 {
        self.window.saturating_sub(self.load)
    }

    pub fn is_unused(&self) -> bool {
        self.connecting == 0 && self.ready == 0
    }
}
