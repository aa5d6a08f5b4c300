//! How the server stands, from what everybody said. Pure.

use crate::route::{HUBS, Snapshot};
use crate::settings::{Role, Settings};
use crate::track::counters::{Board, Counter};
use crate::track::report::{
    Health, PerMessage, QueueReport, QueueStatus, Reload, RoleReport, ShardLine, ShardReport, Status, Windows, merge,
};
use std::net::SocketAddr;

/// Everything a status is made of.
pub(super) struct Facts<'f> {
    pub settings: &'f Settings,
    pub routes: &'f Snapshot,
    pub board: &'f Board,
    /// By shard; `None` for one that did not answer in time.
    pub reports: &'f [Option<ShardReport>],
    /// The addresses bound, in the order of the settings' listeners.
    pub listen: &'f [SocketAddr],
    pub state: &'static str,
    pub uptime_s: u64,
    pub driver: &'static str,
    pub commit: Option<&'static str>,
    pub reload: &'f Reload,
    pub version: &'static str,
    pub git: Option<&'static str>,
}

impl Facts<'_> {
    /// A suspended queue is seen, so that somebody may let it go, though no shard has it any more.
    fn add_suspended(&self, queues: &mut Vec<QueueReport>) {
        for name in self.routes.suspended.iter() {
            if !queues.iter().any(|queue| queue.next_hop == *name) {
                let status = QueueStatus::Suspended;
                queues.push(QueueReport { next_hop: name.clone(), status, ..QueueReport::default() });
            }
        }
    }

    pub fn status(&self) -> Status {
        let answered: Vec<ShardReport> = self.reports.iter().flatten().cloned().collect();
        let mut queues = merge(&answered);
        self.add_suspended(&mut queues);
        let roles = self.roles(&queues);
        let shards = self.shards();
        let healthy = shards.iter().all(|shard| shard.answered) && roles.iter().all(|role| role.healthy);
        Status {
            server: self.settings.server.fqdn.clone(),
            version: self.version.into(),
            git: self.git.map(str::to_owned),
            pid: std::process::id(),
            data_dir: self.settings.server.data_dir.as_ref().map(|dir| dir.display().to_string()),
            state: self.state.into(),
            uptime_s: self.uptime_s,
            profile: self.settings.profile.to_string(),
            durability: self.settings.server.durability.to_string(),
            driver: self.driver.into(),
            commit: self.commit.map(str::to_owned),
            healthy,
            roles,
            shards,
            queues,
            counters: Counter::ALL.iter().map(|counter| (counter.name().into(), self.sum(*counter))).collect(),
            per_message: self.per_message(),
            windows: self.windows(),
            dsn_owed: self.sum(Counter::DsnOwed),
            reload: self.reload.clone(),
        }
    }

    /// One shard's count, of the moment of its report; of now where it sent none.
    fn read(&self, shard: usize, counter: Counter) -> u64 {
        let report = self.reports.get(shard).and_then(Option::as_ref);
        report.map_or_else(|| self.board.read(shard, counter), |report| report.counts.read(counter))
    }

    fn sum(&self, counter: Counter) -> u64 {
        (0..self.board.shards()).fold(0, |sum, shard| sum.wrapping_add(self.read(shard, counter)))
    }

    fn shards(&self) -> Vec<ShardLine> {
        let line = |shard: usize, report: &Option<ShardReport>| {
            let read = |counter| self.read(shard, counter);
            ShardLine {
                shard: shard as u64,
                core: self.settings.server.cores.get(shard).copied().flatten().map(|core| core as u64),
                answered: report.is_some(),
                connections_in: read(Counter::ConnectionsIn),
                connections_out: read(Counter::ConnectionsOut),
                queued: read(Counter::Queued),
                memory_used_bytes: read(Counter::MemoryUsed),
                messages_accepted: read(Counter::MessagesAccepted),
            }
        };
        self.reports.iter().enumerate().map(|(shard, report)| line(shard, report)).collect()
    }

    fn roles(&self, queues: &[QueueReport]) -> Vec<RoleReport> {
        let listeners = self.settings.listeners.iter().enumerate();
        listeners
            .map(|(index, listener)| {
                let why = self.trouble(listener.role, queues);
                RoleReport {
                    role: listener.role.to_string(),
                    listen: self.listen.get(index).unwrap_or(&listener.address).to_string(),
                    healthy: why.is_none(),
                    why,
                }
            })
            .collect()
    }

    /// What keeps a role from its work now.
    fn trouble(&self, role: Role, queues: &[QueueReport]) -> Option<String> {
        let steps = (0..self.board.shards()).map(|shard| self.read(shard, Counter::MemoryStep));
        if steps.max().unwrap_or(0) >= 2 {
            return Some("memory is short: mail is refused for now".into());
        }
        match role {
            Role::Hub => {
                let failed = (0..self.board.shards()).map(|shard| self.read(shard, Counter::HeadsFailed));
                if failed.max().unwrap_or(0) >= 2 {
                    return Some("the spool's disk takes no new segment: mail is refused when the last is full".into());
                }
                if self.sum(Counter::SpoolShort) > 0 {
                    return Some(
                        "no room for a new segment of the spool: mail is refused when the last is full".into(),
                    );
                }
                // 0 until the first shard has asked the file system.
                let free = (0..self.board.shards())
                    .map(|shard| self.read(shard, Counter::SpoolFree))
                    .filter(|free| *free > 0)
                    .min()?;
                (free < self.settings.spool.free_min)
                    .then(|| "the spool's disk is full: mail is refused for now".into())
            }
            Role::Frontend => {
                if self.routes.hubs.hosts.is_empty() {
                    return Some("no hub has an address".into());
                }
                let hubs = queues.iter().find(|queue| queue.next_hop == HUBS)?;
                let dead = !hubs.hosts.is_empty() && hubs.hosts.iter().all(|host| host.health == Health::Dead);
                dead.then(|| "no hub answers".into())
            }
            Role::MailboxDelivery => None,
        }
    }

    fn windows(&self) -> Windows {
        let (w1, w5) = (self.sum(Counter::SettlesWaiting), self.sum(Counter::Sending));
        Windows { w1, w1_max: self.sum(Counter::SettlesWaitingMax), w5, duplicates_max: w1.saturating_add(w5) }
    }

    fn per_message(&self) -> PerMessage {
        let messages = self.sum(Counter::MessagesAccepted);
        let share = |counter: Counter| (messages > 0).then(|| self.sum(counter) as f64 / messages as f64);
        PerMessage {
            copied_bytes: share(Counter::CopiedBytes),
            syscalls: share(Counter::Syscalls),
            // A figure that was not measured is null, never 0.
            allocations: if cfg!(feature = "count-alloc") { share(Counter::Allocations) } else { None },
            stable_writes: share(Counter::StableWrites),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Host, Listener, NextHop, Profile, Protocol, Receive};
    use crate::track::counters::Tally;
    use crate::track::report::HostReport;

    fn settings(role: Role) -> Settings {
        let mut settings = Settings::of(Profile::Rfc);
        settings.server.cores = vec![Some(0), None];
        settings.listeners.push(Listener {
            address: "127.0.0.1:0".parse().expect("an address"),
            role,
            protocol: Protocol::Smtp,
            receive: Receive::of(Profile::Rfc, role),
        });
        settings
    }

    fn status(settings: &Settings, board: &Board, reports: &[Option<ShardReport>]) -> Status {
        let routes = crate::control::routes::snapshot(settings, |_, _| Vec::new(), 1);
        let facts = Facts {
            settings,
            routes: &routes,
            board,
            reports,
            listen: &["127.0.0.1:2525".parse().expect("an address")],
            state: "serving",
            uptime_s: 3,
            driver: "uring",
            commit: Some("direct"),
            reload: &Reload::default(),
            version: "0",
            git: None,
        };
        facts.status()
    }

    fn said(tallies: &[Tally]) -> Vec<Option<ShardReport>> {
        let report = |tally: &Tally| ShardReport { counts: tally.counts(), ..ShardReport::default() };
        tallies.iter().map(|tally| Some(report(tally))).collect()
    }

    /// P-004: what moved on since a shard answered is in neither window or in both when each is read by itself.
    #[test]
    fn p_004_what_a_shard_counts_is_told_as_of_the_moment_when_it_answered() {
        let (board, tallies) = Board::new(3);
        tallies.iter().for_each(|tally| tally.set(Counter::Sending, 2));
        let mut reports = said(&tallies);
        reports[2] = None;
        for tally in &tallies {
            tally.set(Counter::Sending, 0);
            tally.set(Counter::SettlesWaiting, 1);
            tally.one(Counter::Delivered);
        }
        let status = status(&settings(Role::Hub), &board, &reports);
        let Windows { w1, w5, duplicates_max, .. } = status.windows;
        assert_eq!((w1, w5, duplicates_max), (1, 4, 5), "who does not answer is looked at");
        assert_eq!(status.counters["recipients_delivered"], 1);
    }

    #[test]
    fn a_shard_that_does_not_answer_is_told_and_costs_the_server_its_health() {
        let (board, tallies) = Board::new(2);
        tallies[1].set(Counter::Queued, 5);
        let status = status(&settings(Role::Hub), &board, &[Some(ShardReport::default()), None]);
        assert!(!status.healthy && status.roles[0].healthy);
        assert_eq!(status.roles[0].listen, "127.0.0.1:2525");
        assert_eq!((status.shards[0].answered, status.shards[1].answered), (true, false));
        assert_eq!((status.shards[0].core, status.shards[1].queued), (Some(0), 5));
        assert_eq!(status.counters["queued"], 5);
    }

    #[test]
    fn roles_are_unhealthy_for_a_reason() {
        let (board, tallies) = Board::new(2);
        let hub = settings(Role::Hub);
        let why = || status(&hub, &board, &said(&tallies)).roles[0].why.clone().unwrap_or_default();
        assert_eq!(why(), "");
        tallies[0].set(Counter::SpoolFree, 1);
        assert!(why().contains("disk is full"));
        tallies[1].set(Counter::HeadsFailed, 1);
        assert!(!why().contains("new segment"), "one file may be bad");
        tallies[1].set(Counter::HeadsFailed, 2);
        assert!(why().contains("no new segment"));
        tallies[1].set(Counter::HeadsFailed, 0);
        tallies[1].set(Counter::SpoolShort, 1);
        assert!(why().contains("no room"), "whatever is free");
        tallies[1].set(Counter::MemoryStep, 2);
        assert!(why().contains("memory"));
        tallies[1].set(Counter::MemoryStep, 1);

        let mut front = settings(Role::Frontend);
        let mut reports = said(&tallies);
        assert_eq!(status(&front, &board, &reports).roles[0].why.as_deref(), Some("no hub has an address"));
        let hosts = vec![Host::Address("127.0.0.1:9".parse().expect("an address"))];
        front.hubs = NextHop::of(hosts, Protocol::Smtp);
        assert_eq!(status(&front, &board, &reports).roles[0].why, None);
        let dead = HostReport { health: Health::Dead, ..HostReport::default() };
        let hubs = QueueReport { next_hop: HUBS.into(), hosts: vec![dead], ..QueueReport::default() };
        reports[0] = Some(ShardReport { queues: vec![hubs], ..ShardReport::default() });
        assert_eq!(status(&front, &board, &reports).roles[0].why.as_deref(), Some("no hub answers"));
    }

    #[test]
    fn costs_are_null_before_the_first_message() {
        let (board, tallies) = Board::new(2);
        let hub = settings(Role::Hub);
        tallies[0].add(Counter::Syscalls, 10);
        assert_eq!(status(&hub, &board, &[]).per_message.syscalls, None);
        tallies[1].add(Counter::MessagesAccepted, 4);
        tallies[1].add(Counter::DsnOwed, 2);
        let status = status(&hub, &board, &[]);
        assert_eq!(status.per_message.syscalls, Some(2.5));
        assert_eq!(status.per_message.allocations.is_some(), cfg!(feature = "count-alloc"));
        assert_eq!(status.dsn_owed, 2);
    }
}
