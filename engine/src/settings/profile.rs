//! The defaults of the three profiles. `exchange` has the figures of Exchange transport's documents, `rfc` those of the
//! RFCs where they differ, `bench` is `rfc` with rates and caps lifted for measuring.

use super::*;
use crate::queue;
use crate::smtp::server::ServerOptions;
use crate::wire::Span;

impl Settings {
    /// Everything a server of this profile does unless it is told otherwise: no listener, no next hop, no folder.
    pub fn of(profile: Profile) -> Settings {
        Settings {
            profile,
            server: Server::of(profile),
            listeners: Vec::new(),
            receive: Receive::of(profile, Role::Hub),
            delivery: Delivery::of(profile),
            access: Access { relay_from: Network::LOOPBACK.to_vec(), ..Access::default() },
            next_hops: BTreeMap::new(),
            routes: Routes::default(),
            hubs: NextHop::of(Vec::new(), Protocol::Smtp),
            mailboxes: Mailboxes::default(),
            store: Store::Absent,
            spool: Spool::of(profile),
            log: Log { format: LogFormat::Text, level: Level::Info },
        }
    }
}

impl Server {
    fn of(profile: Profile) -> Server {
        Server {
            fqdn: "localhost".into(),
            instance: String::new(),
            data_dir: None,
            user: None,
            cores: vec![None],
            driver: DriverChoice::Auto,
            durability: Durability::Disk,
            memory_budget: 512 << 20,
            admin: None,
            metrics: None,
            drain_wait: if profile == Profile::Bench { Span::seconds(10) } else { Span::seconds(30) },
        }
    }
}

impl Receive {
    /// What a listener of this role does in this profile: what its sessions do by [`ServerOptions`], and how many there are.
    pub fn of(profile: Profile, role: Role) -> Receive {
        let sessions = ServerOptions::new(profile.into(), "localhost");
        let (timers, extensions) = (sessions.timers, sessions.extensions);
        let at_a_hub = profile == Profile::Exchange && role != Role::Frontend;
        let (all, of_a_source) = match (profile, role) {
            (Profile::Bench, _) => (100_000, 100_000),
            (Profile::Rfc, Role::Frontend) => (20_000, 100),
            (Profile::Rfc, _) => (20_000, 20_000),
            (Profile::Exchange, Role::Frontend) => (5_000, 20),
            (Profile::Exchange, _) => (5_000, 5_000),
        };
        Receive {
            size_max: sessions.size_max,
            header_max: sessions.header_bytes_max,
            header_fields_max: sessions.header_fields_max,
            recipients_max: if at_a_hub { 5_000 } else { sessions.recipients_max },
            hops_max: sessions.hops_max.into(),
            errors_max: sessions.errors_max,
            idle_commands_max: sessions.idle_commands_max,
            refused_recipients_max: sessions.refused_recipients_max,
            connections_max: all,
            connections_per_source_max: of_a_source,
            in_flight_max: sessions.slots_max,
            command_wait: timers.command,
            data_wait: timers.block,
            session_max: timers.session,
            tarpit_wait: timers.tarpit,
            rate_min: None,
            greeting_wait: timers.greeting,
            refuse_early_talkers: sessions.refuse_early_talkers,
            odd_names: sessions.odd_ehlo_names,
            strict_paths: sessions.strict_blanks,
            normalize_from: sessions.normalize_from,
            strict_pipelining: sessions.strict_pipelining,
            pipelining: extensions.pipelining,
            chunking: extensions.chunking,
            eight_bit_mime: extensions.eight_bit_mime,
            enhanced_status_codes: extensions.enhanced_status_codes,
            // Who offers it promises reports.
            dsn: profile != Profile::Bench,
            announce_size: extensions.size,
            received: if sessions.exchange_trace { ReceivedForm::Exchange } else { ReceivedForm::Rfc },
        }
    }
}

impl From<Profile> for crate::smtp::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Exchange => Self::Exchange,
            Profile::Rfc => Self::Rfc,
            Profile::Bench => Self::Bench,
        }
    }
}

impl Delivery {
    /// What leaves by: its queues as [`queue::Options`] has them.
    fn of(profile: Profile) -> Delivery {
        let minutes = Span::minutes;
        let queues = match profile {
            Profile::Exchange => queue::Options::exchange(),
            Profile::Rfc => queue::Options::rfc(),
            Profile::Bench => queue::Options::bench(),
        };
        let hasty = profile == Profile::Bench;
        Delivery {
            connections_max: queues.connections_max,
            connections_per_hop_max: queues.connections_per_destination,
            messages_per_connection_max: queues.messages_per_connection,
            in_flight_max: 64,
            recipients_max: queues.recipients_per_transaction,
            chunking: true,
            connect_wait: queues.connect_wait,
            greeting_wait: if hasty { Span::seconds(30) } else { minutes(5) },
            command_wait: if hasty { Span::seconds(30) } else { minutes(5) },
            mail_wait: minutes(5),
            rcpt_wait: minutes(5),
            data_wait: minutes(2),
            block_wait: minutes(3),
            dot_wait: minutes(10),
            quit_wait: Span::seconds(5),
            idle_wait: queues.idle_wait,
            queue_idle_wait: queues.queue_idle_wait,
            session_max: Span::hours(1),
            retry: Ladder::from(&queues.queue_ladder),
            message_retry: queues.message_ladder.last(),
            expire_after: queues.expire_after,
            reports: profile != Profile::Bench,
            host_backoff_min: queues.probe_wait,
            host_backoff_max: queues.probe_wait_max,
        }
    }
}

impl From<&queue::Ladder> for Ladder {
    fn from(ladder: &queue::Ladder) -> Self {
        let steps = ladder.steps().iter().map(|&(count, wait)| (count.into(), wait)).collect();
        Ladder { steps, last: ladder.last() }
    }
}

impl Spool {
    fn of(profile: Profile) -> Spool {
        Spool {
            segment_bytes: 64 << 20,
            settle_wait: Span::millis(10),
            rewrite_rate: 16 << 20,
            free_min: if profile == Profile::Bench { 64 << 20 } else { 500 << 20 },
        }
    }
}
