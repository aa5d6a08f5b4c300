//! The defaults of the three profiles. `exchange` has the figures of Exchange transport's documents, `rfc` those of the
//! RFCs where they differ, `bench` is `rfc` with rates and caps lifted for measuring.

use super::*;
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
    /// What a listener of this role does in this profile.
    pub fn of(profile: Profile, role: Role) -> Receive {
        let rfc = Receive {
            size_max: 50 << 20,
            header_max: 256 << 10,
            recipients_max: 1_000,
            hops_max: 100,
            errors_max: 20,
            idle_commands_max: 200,
            refused_recipients_max: 100,
            connections_max: 20_000,
            connections_per_source_max: if role == Role::Frontend { 100 } else { 20_000 },
            in_flight_max: 64,
            command_wait: Span::minutes(5),
            data_wait: Span::minutes(5),
            session_max: None,
            tarpit_wait: Span::seconds(1),
            rate_min: None,
            greeting_wait: Span::ZERO,
            refuse_early_talkers: false,
            odd_names: false,
            strict_paths: false,
            normalize_from: Vec::new(),
            strict_pipelining: true,
            pipelining: true,
            chunking: true,
            eight_bit_mime: true,
            // Who offers it promises reports, and none is written yet.
            dsn: false,
            enhanced_status_codes: true,
            announce_size: true,
            received: ReceivedForm::Rfc,
        };
        match profile {
            Profile::Rfc => rfc,
            Profile::Bench => Receive {
                size_max: 128 << 20,
                recipients_max: 10_000,
                idle_commands_max: 1_000_000,
                refused_recipients_max: 1_000_000,
                connections_max: 100_000,
                connections_per_source_max: 100_000,
                tarpit_wait: Span::ZERO,
                ..rfc
            },
            // docs/PROFILES.md, "Receiving"; the hub's own figures where it has some.
            Profile::Exchange => Receive {
                size_max: 37_748_736,
                recipients_max: if role == Role::Frontend { 200 } else { 5_000 },
                hops_max: 30,
                errors_max: 5,
                connections_max: 5_000,
                connections_per_source_max: if role == Role::Frontend { 20 } else { 5_000 },
                session_max: Some(Span::minutes(10)),
                tarpit_wait: Span::seconds(5),
                odd_names: true,
                received: ReceivedForm::Exchange,
                ..rfc
            },
        }
    }
}

impl Delivery {
    fn of(profile: Profile) -> Delivery {
        let minutes = Span::minutes;
        let rfc = Delivery {
            connections_max: 1_000,
            connections_per_hop_max: 20,
            messages_per_connection_max: 1_000,
            in_flight_max: 64,
            recipients_max: 100,
            chunking: true,
            connect_wait: Span::seconds(30),
            greeting_wait: minutes(5),
            command_wait: minutes(5),
            mail_wait: minutes(5),
            rcpt_wait: minutes(5),
            data_wait: minutes(2),
            block_wait: minutes(3),
            dot_wait: minutes(10),
            quit_wait: Span::seconds(5),
            idle_wait: Span::seconds(30),
            queue_idle_wait: Span::minutes(3),
            session_max: Span::hours(1),
            // M-096: two tries within the first hour, at least 30 minutes after the early ones, at most 3 hours.
            retry: Ladder { steps: vec![(2, minutes(15)), (4, minutes(30)), (4, minutes(60))], last: Span::hours(3) },
            message_retry: minutes(30),
            expire_after: Span::hours(5 * 24),
            host_backoff_min: Span::seconds(1),
            host_backoff_max: minutes(5),
        };
        match profile {
            Profile::Rfc => rfc,
            Profile::Bench => Delivery {
                connections_max: 10_000,
                connections_per_hop_max: 256,
                messages_per_connection_max: 1_000_000_000,
                connect_wait: Span::seconds(5),
                greeting_wait: Span::seconds(30),
                command_wait: Span::seconds(30),
                retry: Ladder { steps: vec![(10, Span::millis(100)), (10, Span::millis(500))], last: Span::seconds(2) },
                message_retry: Span::seconds(1),
                host_backoff_min: Span::millis(50),
                host_backoff_max: Span::seconds(1),
                ..rfc
            },
            // docs/PROFILES.md, "Sending": glitch retries, transient retries, then every 10 minutes.
            Profile::Exchange => Delivery {
                messages_per_connection_max: 20,
                retry: Ladder { steps: vec![(4, minutes(1)), (6, minutes(5))], last: minutes(10) },
                message_retry: minutes(15),
                expire_after: Span::hours(48),
                ..rfc
            },
        }
    }
}

impl Spool {
    fn of(profile: Profile) -> Spool {
        Spool {
            segment_bytes: 64 << 20,
            settle_wait: Span::millis(10),
            free_min: if profile == Profile::Bench { 64 << 20 } else { 500 << 20 },
        }
    }
}
