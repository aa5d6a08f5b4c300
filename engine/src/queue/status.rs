//! What queue tools, metrics and tests see.

use super::Queues;
use super::destination::{Hop, HopId, Totals};
use super::health::{Cause, Host, Standing};
use super::trouble::LastError;
use crate::wire::{DeliveryType, NextHopKey, Tick};
use std::net::SocketAddr;

/// Status of a queue (docs/PROFILES.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Transmitting, or about to.
    Active,
    /// Opening its first connection.
    Connecting,
    /// Nothing to send now.
    Ready,
    /// All hosts failed; waits for the next try.
    Retry,
    /// Held by an operator.
    Suspended,
}

/// One queue, as seen by an operator.
#[derive(Debug, Clone)]
pub struct HopStatus<'a> {
    /// Its next hop.
    pub key: &'a NextHopKey,
    /// Its status.
    pub status: Status,
    /// Messages waiting, by priority: high, normal, low.
    pub waiting: [u32; 3],
    /// Messages waiting for their own retry, for a host that can take them, or for their outcome to be durable.
    pub deferred: u32,
    /// Messages under way, here or with other shards: what is lent may lie untaken, or wait there for a host that can take it.
    pub sending: u32,
    /// Connections open, and being opened.
    pub connections: (u32, u32),
    /// Connections that the destination is thought to bear.
    pub concurrency: u32,
    /// In Retry: when it is tried again.
    pub next_retry: Option<Tick>,
    /// When it was tried last from Retry.
    pub last_retry: Option<Tick>,
    /// Failures of all hosts in a row.
    pub retry_count: u16,
    /// The last failure of a connection, or what the next hop said last instead of yes.
    pub last_error: Option<LastError<'a>>,
    /// Counts.
    pub totals: Totals,
}

/// One host of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostStatus {
    /// Its address.
    pub address: SocketAddr,
    /// `None`: never tried.
    pub alive: Option<bool>,
    /// Connections open, and being opened.
    pub connections: (u32, u32),
    /// Messages under way.
    pub sending: u32,
    /// Messages answered.
    pub answers: u64,
    /// Its last failure, until it is connected again.
    pub last_error: Option<Cause>,
}

impl Host {
    fn status(&self) -> HostStatus {
        HostStatus {
            address: self.at.address,
            alive: match self.standing {
                Standing::Unknown => None,
                Standing::Alive => Some(true),
                Standing::Dead => Some(false),
            },
            connections: (self.ready, self.connecting),
            sending: self.load,
            answers: self.answers,
            last_error: self.last_cause,
        }
    }
}

impl Queues {
    /// Every queue, in the order they were made.
    pub fn hops(&self) -> impl Iterator<Item = (HopId, HopStatus<'_>)> {
        let hops = (0u32..).zip(&self.hops).filter(|(_, hop)| hop.live);
        hops.map(|(index, hop)| (HopId(index), hop.status()))
    }

    /// One queue.
    ///
    /// # Panics
    /// When the id is from another shard.
    pub fn hop(&self, hop: HopId) -> HopStatus<'_> {
        self.hops[hop.0 as usize].status()
    }

    /// The hosts of one queue.
    pub fn hosts(&self, hop: HopId) -> impl Iterator<Item = HostStatus> {
        self.hops[hop.0 as usize].hosts.iter().filter(|host| !host.retired).map(Host::status)
    }

    /// Tells of each host that died, and of each dead one that is dead no more, since this was last asked.
    pub fn host_news(&mut self, mut tell: impl FnMut(&NextHopKey, &HostStatus)) {
        for hop in self.hops.iter_mut().filter(|hop| hop.live) {
            for host in &mut hop.hosts {
                let is_dead = host.standing == Standing::Dead;
                if is_dead != std::mem::replace(&mut host.was_dead, is_dead) {
                    tell(&hop.key, &host.status());
                }
            }
        }
    }

    /// Messages queued, once per next hop, whatever they wait for.
    pub fn messages(&self) -> u32 {
        self.entries.live() - self.guests
    }

    /// Octets of those messages.
    pub fn bytes(&self) -> u64 {
        self.entries.bytes()
    }

    /// Messages of one queue that a connection could take now.
    pub fn waiting(&self, hop: HopId) -> u32 {
        self.hops[hop.0 as usize].queued()
    }

    /// Octets of memory that entries hold.
    pub fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes()
    }

    /// Connections open or being opened.
    pub fn connections(&self) -> usize {
        self.links.len()
    }
}

impl Hop {
    fn status(&self) -> HopStatus<'_> {
        let connections = (self.ready(), self.connecting());
        let status = match () {
            () if self.suspended => Status::Suspended,
            () if self.in_retry() => Status::Retry,
            () if self.key.delivery == DeliveryType::Unreachable => Status::Ready,
            () if self.sending > 0 => Status::Active,
            () if connections.0 == 0 && connections.1 > 0 => Status::Connecting,
            () if self.waiting() > 0 => Status::Active,
            () => Status::Ready,
        };
        HopStatus {
            key: &self.key,
            status,
            waiting: self.lanes.map(|lane| lane.count),
            deferred: self.deferred + self.settling + self.elsewhere.count - self.guests,
            sending: self.sending,
            connections,
            concurrency: self.limit.allowed(),
            next_retry: self.in_retry().then_some(self.retry_at),
            last_retry: self.retried_at,
            retry_count: self.failures,
            last_error: self.trouble.last(),
            totals: self.totals,
        }
    }
}
