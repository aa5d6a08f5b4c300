//! Whole files and command lines against what is said about them.

mod by_flags;

use super::*;
use crate::roles::relay_policy;
use crate::wire::Span;

fn machine() -> Machine {
    Machine { hostname: Some("Host.Example.org".into()), cores: vec![0, 1], folder: "/home/me".into() }
}

fn flags(of: impl FnOnce(&mut Overrides)) -> Overrides {
    let mut flags = Overrides::default();
    of(&mut flags);
    flags
}

fn read_text(text: &str, flags: &Overrides) -> Result<Checked, Vec<Problem>> {
    read(Some(File { name: "r.toml", octets: text.as_bytes() }), flags, &machine())
}

fn good(text: &str) -> Checked {
    read_text(text, &Overrides::default()).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.to_string()).collect::<Vec<_>>().join("\n")
}

/// What is said about `text`, one problem a line.
fn said(text: &str) -> String {
    read_text(text, &Overrides::default()).map_or_else(|problems| lines(&problems), |checked| lines(&checked.warnings))
}

const HUB: &str = r#"
[server]
data_dir = "/var/lib/ringpost"
[[listener]]
address = "127.0.0.1:2525"
role = "hub"
[next_hop.smart]
hosts = ["127.0.0.1:2600", "smart.example.com"]
[routes]
"*" = "smart"
"#;

#[test]
fn a_hub_needs_a_listener_a_folder_and_a_next_hop_and_nothing_more() {
    let Checked { settings, warnings, .. } = good(HUB);
    assert_eq!(warnings, []);
    assert_eq!(settings.profile, Profile::Exchange);
    assert_eq!(settings.server.fqdn, "host.example.org");
    assert_eq!(settings.server.admin.as_deref(), Some("/var/lib/ringpost/admin.sock".as_ref()));
    assert_eq!(settings.server.cores, [Some(0), Some(1)], "a shard for every core is pinned");
    assert_eq!(settings.server.metrics, None);
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.listeners[0].receive.size_max, 37_748_736);
    assert_eq!(settings.next_hops["smart"].hosts[1], Host::Name("smart.example.com".into(), 25));
    assert_eq!(settings.routes.next_hop("anywhere.test"), Some("smart"));
    let relay = relay_policy(&settings.access);
    assert!(relay.relays_for(Some([127, 0, 0, 1].into())), "S-012: loopback may relay");
    assert!(!relay.relays_for(Some([192, 0, 2, 1].into())), "S-012: and nobody else");
    assert!(!relay.trusts([127, 0, 0, 1].into()), "S-018: nobody is trusted");
    assert_eq!(settings.access.accepted_domains, Vec::<String>::new());
}

/// One line of a file that is wrong, and exactly what is said about it. The line is put in place of `@` or behind HUB.
#[test]
fn every_class_of_error_names_line_column_and_remedy() {
    let mut different = Vec::new();
    for (added, expected) in [
        // not TOML
        ("x = ", "r.toml:11:5: string values must be quoted, expected literal string; mend the TOML here"),
        ("[spool", "r.toml:11:7: unclosed table, expected `]`; mend the TOML here"),
        ("[routes]", "r.toml:11:2: duplicate key; mend the TOML here"),
        // unknown names
        ("[spol]", "r.toml:11:2: \"spol\" is unknown here; write spool"),
        (
            "[relay]\nfrom = []",
            "r.toml:11:2: \"relay\" is unknown here; the sections are server, listener, receive, delivery, access, next_hop, routes, frontend, mailboxes, store, spool, log",
        ),
        ("[receive]\nsize_mx = 1", "r.toml:12:1: receive: \"size_mx\" is unknown; write size_max"),
        ("[delivery]\nsize_max = 1", "r.toml:12:1: delivery: \"size_max\" is unknown; write it in [receive]"),
        ("[log]\nx = 1", "r.toml:12:1: log: \"x\" is unknown; the keys here are format, level"),
        (
            "[next_hop.b]\nhosts = [\"b\"]\nport = 1",
            "r.toml:13:1: next_hop.b: \"port\" is unknown; the keys here are hosts, protocol, connections_max, send_eight_bit, long_lines",
        ),
        // wrong values
        (
            "[receive]\nsize_max = true",
            "r.toml:12:12: receive.size_max: true is not a size; write a size from \"64 KiB\" to \"1 TiB\"",
        ),
        (
            "[receive]\nrecipients_max = 99",
            "r.toml:12:18: receive.recipients_max: 99 is too small; write a number from 100 to 1000000",
        ),
        (
            "[receive]\ncommand_wait = 300",
            "r.toml:12:16: receive.command_wait: 300 has no unit; write a time from \"1s\" to \"1d\"",
        ),
        (
            "[receive]\ncommand_wait = \"infinite\"",
            "r.toml:12:16: receive.command_wait: \"infinite\" is not a length of time; write a time from \"1s\" to \"1d\"",
        ),
        ("[receive]\nchunking = 1", "r.toml:12:12: receive.chunking: 1 is neither true nor false; write true or false"),
        (
            "[log]\nformat = \"jsno\"",
            "r.toml:12:10: log.format: \"jsno\" is unknown; write \"json\" (\"text\" or \"json\")",
        ),
        (
            "[delivery]\nretry = [\"1m\", \"soon\"]",
            "r.toml:12:16: delivery.retry: \"soon\" is not a step of waits; write steps from \"1ms\" to \"20d\" as [\"4 x 1m\", \"6 x 5m\", \"10m\"], the last for ever",
        ),
        (
            "[access]\nrelay_from = [\"10.0.0.0/8\", \"10.0.0.1/24\"]",
            "r.toml:12:29: access.relay_from: \"10.0.0.1/24\" has bits behind its prefix; write \"10.0.0.0/24\"",
        ),
        (
            "[spool]\nsegment_size = \"5000000 B\"",
            "r.toml:12:16: spool.segment_size: is not whole blocks of 4 KiB; write \"64 MiB\"",
        ),
        (
            "[spool]\nsegment_size = \"1 MiB\"",
            "r.toml:12:16: spool.segment_size: \"1 MiB\" is too small; write a size from \"4 MiB\" to \"256 MiB\"",
        ),
        (
            "[spool]\nsegment_size = \"1 GiB\"",
            "r.toml:12:16: spool.segment_size: \"1 GiB\" is too large; write a size from \"4 MiB\" to \"256 MiB\"",
        ),
        // wrong shapes
        (
            "[frontend.hubs]\nx = 1",
            "r.toml:11:1: frontend.hubs: a table is not a list; write a list as [\"smart.example.com:2525\"]",
        ),
        (
            "[next_hop.\"a b\"]\nhosts = [\"b\"]",
            "r.toml:11:11: next_hop.a b: is no name for a next hop; write letters, digits, - and _, at most 64",
        ),
        (
            "[next_hop.b]\nprotocol = \"smtp\"",
            "r.toml:11:11: next_hop.b: has no hosts; write hosts = [\"smart.example.com:25\"]",
        ),
        (
            "[next_hop.b]\nhosts = []",
            "r.toml:12:9: next_hop.b.hosts: has no hosts; write hosts = [\"smart.example.com:25\"]",
        ),
        (
            "[next_hop.b]\nhosts = [\"b c\"]",
            "r.toml:12:10: next_hop.b.hosts: \"b c\" is not a host; write HOST or HOST:PORT as \"smart.example.com:25\" or \"192.0.2.1:25\"",
        ),
        (
            "[next_hop.b]\nhosts = [\"b\", \"B:25\"]",
            "r.toml:12:9: next_hop.b.hosts: b:25 is named twice; write each host once",
        ),
        (
            "[mailboxes]\n\"ann@a.test\" = \"../ann\"",
            "r.toml:12:16: mailboxes.\"ann@a.test\": is not given a safe folder name; write a name of letters, digits, '.', '-' and '_' that begins with no dot, at most 255",
        ),
        (
            "[mailboxes]\n\"ann\" = \"ann\"",
            "r.toml:12:1: mailboxes.\"ann\": is not an address; write \"local@domain\", \"*@domain\" for a whole domain, \"*\" for everybody, or \"postmaster\"",
        ),
        // a listener
        (
            "[[listener]]\nrole = \"hub\"",
            "r.toml:11:1: listener[1]: has no address; write address = ADDRESS:PORT as \"127.0.0.1:2525\"",
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:26\"",
            "r.toml:11:1: listener[1]: has no role; write role = \"hub\", \"frontend\" or \"mailbox-delivery\"",
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:2525\"\nrole = \"hub\"",
            "r.toml:12:11: listener[1].address: 127.0.0.1:2525 is listened on twice; write another port",
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:26\"\nrole = \"edge\"",
            "r.toml:13:8: listener[1].role: \"edge\" is not built in yet; write \"hub\", \"frontend\" or \"mailbox-delivery\"",
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:26\"\nrole = \"hub\"\nprotocol = \"lmtp\"",
            "r.toml:14:12: listener[1].protocol: a hub does not speak LMTP; write \"smtp\"",
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:26\"\nrole = \"hub\"\nsize_max = 1\ncolour = 1",
            "r.toml:14:12: listener[1].size_max: 1 is too small; write a size from \"64 KiB\" to \"1 TiB\"\nr.toml:15:1: listener[1]: \"colour\" is unknown; the keys here are address, role, protocol, size_max, header_max, header_fields_max, recipients_max, hops_max, errors_max, idle_commands_max, refused_recipients_max, connections_max, connections_per_source_max, in_flight_max, command_wait, data_wait, session_max, tarpit_wait, rate_min, greeting_wait, refuse_early_talkers, odd_names, strict_paths, normalize_from, strict_pipelining, pipelining, chunking, eight_bit_mime, dsn, enhanced_status_codes, announce_size, received",
        ),
        // what does not hold together
        (
            "[[listener]]\naddress = \"127.0.0.1:26\"\nrole = \"frontend\"",
            "r.toml:1:1: a front end needs hubs; write hubs = [\"127.0.0.1:2525\"] in [frontend]",
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:26\"\nrole = \"mailbox-delivery\"",
            "r.toml:1:1: mailbox delivery needs a store; write path = \"/var/mail/ringpost\" in [store], or \"null\"",
        ),
        (
            "[next_hop.me]\nhosts = [\"127.0.0.1:2525\"]",
            "r.toml:12:9: next_hop.me.hosts: 127.0.0.1:2525 is this server's own listener: mail would loop; write another host",
        ),
        (
            "[delivery]\nhost_backoff_min = \"1h\"",
            "r.toml:12:20: delivery.host_backoff_min: is longer than host_backoff_max; write a shorter time, or a longer host_backoff_max",
        ),
        (
            "[receive]\nsession_max = \"5m\"",
            "r.toml:12:15: receive.session_max: is not longer than command_wait; write a longer time, or a shorter command_wait",
        ),
        (
            "[receive]\nidle_commands_max = 0",
            "r.toml:12:21: receive.idle_commands_max: 0 is too small; write a number from 1 to 1000000",
        ),
        (
            "[receive]\nrefused_recipients_max = 0",
            "r.toml:12:26: receive.refused_recipients_max: 0 is too small; write a number from 1 to 1000000",
        ),
        (
            "[receive]\nrefuse_early_talkers = true",
            "r.toml:12:24: receive.refuse_early_talkers: sees nobody: the greeting is not held back; write greeting_wait = \"2s\" beside it",
        ),
        // warnings
        (
            "[access]\nrelay_from = [\"0.0.0.0/0\"]",
            "r.toml:12:14: warning: access.relay_from: 0.0.0.0/0 relays for everybody; name the networks that are meant",
        ),
        (
            "[access]\ntrusted_front_ends = [\"::/0\"]",
            "r.toml:12:22: warning: access.trusted_front_ends: ::/0 takes everybody's word for who the client is; name the networks that are meant",
        ),
        (
            "[store]\npath = \"null\"",
            "r.toml:12:8: warning: store.path: has no effect: nothing here delivers to mailboxes; leave it out, or name another role",
        ),
        (
            "[frontend]\nhubs = [\"127.0.0.1:25\"]",
            "r.toml:12:8: warning: frontend.hubs: has no effect: nothing here is a front end; leave it out, or name another role",
        ),
    ] {
        let said = said(&format!("{HUB}{added}\n"));
        if said != expected {
            different.push(format!("{added}:\n  said     {said}\n  expected {expected}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// S-024: each time has a greatest value, and the two bounds that can be turned off say what that means.
#[test]
fn s_024_no_wait_is_unbounded_without_a_warning() {
    fn times<S>(section: &'static str, keys: &[keys::Key<S>]) -> Vec<(&'static str, &'static str)> {
        let is_bound = |key: &&keys::Key<S>| (key.rule)().starts_with("a time") || key.name == "rate_min";
        keys.iter().filter(is_bound).map(|key| (section, key.name)).collect()
    }
    let all = [
        times("server", keys::SERVER),
        times("receive", keys::RECEIVE),
        times("delivery", keys::DELIVERY),
        times("spool", keys::SPOOL),
    ]
    .concat();
    assert!(all.len() >= 22, "the keys are listed: {all:?}");
    let mut can_be_off = Vec::new();
    for (section, name) in all {
        for value in ["off", "none", "never", "100000h"] {
            let line = format!("[{section}]\n{name} = \"{value}\"\n");
            let text = if section == "server" { HUB.replace("[server]\n", &line) } else { format!("{HUB}{line}") };
            match read_text(&text, &Overrides::default()) {
                Err(_) => {}
                Ok(checked) => {
                    let told = lines(&checked.warnings);
                    assert!(told.contains(&format!("warning: {section}.{name}: is off")), "{line} says `{told}`");
                    can_be_off.push(name);
                }
            }
        }
    }
    assert_eq!(can_be_off, ["session_max", "rate_min"]);
    let own = HUB.replace("role = \"hub\"\n", "role = \"hub\"\nsession_max = \"off\"\n");
    assert_eq!(
        said(&own),
        "r.toml:7:15: warning: listener[0].session_max: is off: a session may last for ever; write a time as \"24h\""
    );
}

#[test]
fn an_accepted_domain_without_a_route_is_warned_of() {
    let text = HUB.replace("\"*\" = \"smart\"", "\"*.test\" = \"smart\"");
    assert_eq!(
        said(&format!("{text}[access]\naccepted_domains = [\"A.Test\", \"Ours.Example\"]\n")),
        "r.toml:9:2: warning: routes: nothing leads to host.example.org: mail for postmaster is put off; write \"host.example.org\" or \"*\" with its next hop in [routes]\n\
         r.toml:12:20: warning: access.accepted_domains: ours.example is accepted and goes nowhere; write \"ours.example\" with its next hop in [routes]"
    );
}

/// One line of HUB changed, and exactly what is said about it.
#[test]
fn what_is_wrong_inside_a_section_is_told_where_it_stands() {
    let mut different = Vec::new();
    for (line, changed, expected) in [
        (
            "[server]",
            "[server]\nfqdn = \"my_host\"",
            "r.toml:3:8: server.fqdn: \"my_host\" is not a domain name; write a domain name as \"mail.example.com\"",
        ),
        (
            "[server]",
            "[server]\nshards = 0",
            "r.toml:3:10: server.shards: 0 is too small; write a number from 1 to 256, or \"auto\"",
        ),
        (
            "[server]",
            "[server]\ncores = [0]\nshards = 2",
            "r.toml:3:9: server.cores: names 1 cores for 2 shards; write one core for each shard",
        ),
        (
            "[server]",
            "[server]\ncores = [0, 7]",
            "r.toml:3:9: server.cores: core 7 is not ours to use; write some of 0, 1",
        ),
        (
            "[server]",
            "[server]\ndurability = \"replica\"",
            "r.toml:3:14: server.durability: \"replica\" is not built in yet; write \"disk\" until shadow copies are",
        ),
        (
            "[server]",
            "[server]\nmetrics = \"0.0.0.0:9925\"",
            "r.toml:3:11: server.metrics: 0.0.0.0:9925 is beyond loopback; write a loopback address as \"127.0.0.1:9925\"",
        ),
        (
            "[server]",
            "[server]\nuser = \"root\"",
            "r.toml:3:8: server.user: \"root\" is what it is to get away from; write a user of this system as \"ringpost\"",
        ),
        (
            "[server]",
            "[server]\ndriver = \"io-uring\"",
            "r.toml:3:10: server.driver: \"io-uring\" is unknown; write \"auto\", \"uring\", \"tokio-uring\" or \"epoll\"",
        ),
        (
            "data_dir = \"/var/lib/ringpost\"",
            "data_dir = \"spool\"",
            "r.toml:3:12: server.data_dir: \"spool\" is not an absolute path; write an absolute path as \"/var/lib/ringpost\"",
        ),
        (
            "data_dir = \"/var/lib/ringpost\"",
            "",
            "r.toml:2:2: a hub needs a folder for its spool; write data_dir = \"/var/lib/ringpost\" in [server]",
        ),
        (
            "address = \"127.0.0.1:2525\"",
            "address = \"0.0.0.0:25\"",
            "r.toml:5:11: listener[0].address: 0.0.0.0:25 is beyond loopback, and role ports speak no TLS yet; write a loopback address as \"127.0.0.1:2525\"",
        ),
        (
            "address = \"127.0.0.1:2525\"",
            "address = \"[::ffff:10.0.0.1]:25\"",
            "r.toml:5:11: listener[0].address: [::ffff:10.0.0.1]:25 is beyond loopback, and role ports speak no TLS yet; write a loopback address as \"127.0.0.1:2525\"",
        ),
        (
            "address = \"127.0.0.1:2525\"",
            "address = \"localhost:25\"",
            "r.toml:5:11: listener[0].address: \"localhost:25\" is not an address with a port; write ADDRESS:PORT as \"127.0.0.1:2525\"",
        ),
        ("\"*\" = \"smart\"", "", "r.toml:9:2: a hub needs a next hop"),
        (
            "\"*\" = \"smart\"",
            "\"*\" = \"smrt\"",
            "r.toml:10:7: routes.\"*\": there is no next hop \"smrt\"; write \"smart\"",
        ),
        (
            "\"*\" = \"smart\"",
            "\"a.test\" = \"partner\"",
            "r.toml:10:12: routes.\"a.test\": there is no next hop \"partner\"; write the section [next_hop.partner]",
        ),
        (
            "\"*\" = \"smart\"",
            "\"a_b\" = \"smart\"",
            "r.toml:10:1: routes.\"a_b\": is not a domain; write \"example.com\", \"*.example.com\" for what is below it, or \"*\" for the rest",
        ),
        (
            "\"*\" = \"smart\"",
            "\"A.test\" = \"smart\"\n\"a.test\" = \"smart\"",
            "r.toml:11:1: routes.\"a.test\": stands here twice; write one of them",
        ),
        (
            "\"*\" = \"smart\"",
            "\"*\" = 7",
            "r.toml:10:7: routes.\"*\": is not the name of a next hop; write the name of a next hop in quotes",
        ),
        (
            "[server]",
            "profile = \"exchnage\"\n[server]",
            "r.toml:2:11: profile: \"exchnage\" is unknown; write \"exchange\" (\"exchange\", \"rfc\" or \"bench\")",
        ),
    ] {
        assert!(HUB.contains(line), "{line}");
        let text = HUB.replacen(line, changed, 1);
        let said = said(&text);
        if !said.starts_with(expected) || said.lines().count() != 1 {
            different.push(format!("{changed}:\n  said     {said}\n  expected {expected}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn every_problem_is_said_and_not_only_the_first() {
    let text = "[server]\nshards = 0\nfqnd = \"a\"\n[receive]\nchunking = \"yes\"\nsize_max = 1\n[[listener]]\naddress = \"0.0.0.0:25\"\nrole = \"hub\"\n";
    let said = said(text);
    let places: Vec<&str> = said.lines().map(|line| &line[..line.find(": ").expect("a place")]).collect();
    assert_eq!(
        places,
        ["r.toml:1:1", "r.toml:1:2", "r.toml:2:10", "r.toml:3:1", "r.toml:5:12", "r.toml:6:12", "r.toml:8:11"],
        "{said}"
    );
}

#[test]
fn all_of_a_broken_file_is_said_without_guesses_about_the_rest() {
    let said = said("[server]\nshards = \ncores = [0\n[routes]\n[routes]\n");
    assert!(said.lines().count() >= 2, "{said}");
    assert!(said.lines().all(|line| line.ends_with("mend the TOML here")), "{said}");
}

#[test]
fn a_file_that_is_no_text_or_too_large_is_refused_with_its_place() {
    let refused = |octets: &[u8]| {
        lines(&read(Some(File { name: "r.toml", octets }), &Overrides::default(), &machine()).expect_err("refused"))
    };
    assert_eq!(refused(b"a = 1\nb = \"\xff\""), "r.toml:2:6: the file is not UTF-8 here; write it as UTF-8");
    let large = vec![b'\n'; FILE_BYTES_MAX + 1];
    assert_eq!(refused(&large), "r.toml:1:1: the file has 67108865 octets; write at most 64 MiB");
    assert!(refused(b"").starts_with("r.toml:1:1: nothing listens; write [[listener]] with address and role"));
}

#[test]
fn a_listener_has_its_role_s_defaults_then_the_section_s_then_its_own() {
    let text = format!(
        "profile = \"exchange\"\n{HUB}[receive]\nhops_max = 7\n[frontend]\nhubs = [\"127.0.0.1:9\"]\n[[listener]]\naddress = \"127.0.0.1:26\"\nrole = \"frontend\"\nsize_max = \"1 MiB\"\n"
    );
    let settings = good(&text).settings;
    let (hub, front) = (&settings.listeners[0].receive, &settings.listeners[1].receive);
    assert_eq!((hub.recipients_max, front.recipients_max), (5_000, 200));
    assert_eq!((hub.hops_max, front.hops_max), (7, 7));
    assert_eq!((hub.size_max, front.size_max), (37_748_736, 1 << 20));
}

#[test]
fn printed_defaults_are_a_file_that_changes_nothing() {
    for (_, profile) in Profile::NAMES {
        let printed = defaults(*profile);
        let text = format!(
            "{printed}\n[[listener]]\naddress = \"127.0.0.1:25\"\nrole = \"hub\"\n[frontend]\n[mailboxes]\n[next_hop.x]\nhosts = [\"b\"]\n[routes]\n\"*\" = \"x\"\n"
        );
        let text = text.replace("#data_dir", "data_dir");
        let settings = good(&text).settings;
        let plain = format!("profile = \"{profile}\"\n{HUB}").replace("2525", "25");
        let plain = good(&plain).settings;
        assert_eq!(settings.receive, plain.receive);
        assert_eq!(settings.delivery, plain.delivery);
        assert_eq!((settings.server, settings.spool, settings.log), (plain.server, plain.spool, plain.log));
        assert_eq!((settings.access, settings.listeners), (plain.access, plain.listeners));
    }
}

#[test]
fn printed_defaults_have_every_key_and_their_examples_hold() {
    let printed = defaults(Profile::Exchange);
    for (table, keys) in keys::tables() {
        assert!(printed.contains(&format!("[{table}]")) || printed.contains(&format!("[{table}.")), "{table}");
        for key in keys {
            assert!(
                printed.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} = "))),
                "{key}"
            );
        }
    }
    // With every `#` taken from in front of a key, the examples are a configuration too.
    let opened: String = printed
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let settings = good(&opened).settings;
    assert_eq!(settings.server.user.as_deref(), Some("ringpost"));
    assert_eq!(settings.mailboxes.folder(b"ann", b"example.com"), Some("ann"));
}

#[test]
fn profiles_differ_where_the_documents_do() {
    for (profile, retry, hops, expire, tarpit) in [
        (Profile::Exchange, Span::minutes(1), 30, Span::hours(48), Span::seconds(5)),
        (Profile::Rfc, Span::minutes(15), 100, Span::hours(120), Span::seconds(1)),
        (Profile::Bench, Span::millis(100), 100, Span::hours(120), Span::ZERO),
    ] {
        let settings = Settings::of(profile);
        assert_eq!(settings.delivery.retry.wait(0), retry, "{profile}");
        assert_eq!(settings.receive.hops_max, hops, "{profile}");
        assert_eq!(settings.receive.tarpit_wait, tarpit, "S-021: {profile}");
        assert_eq!(settings.receive.greeting_wait, Span::ZERO, "M-017: {profile}");
        assert_eq!(settings.delivery.expire_after, expire, "{profile}");
        assert!(settings.receive.recipients_max >= 100, "M-033: {profile}");
    }
}

proptest::proptest! {
    /// Whatever stands in a file, it is read or refused with places inside it, and nothing else happens.
    #[test]
    fn s_034_no_file_harms_its_reader(
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        at in 0..HUB.len(),
        cut in 0..40_usize,
    ) {
        let mut octets = HUB.as_bytes().to_vec();
        let end = (at + cut).min(octets.len());
        octets.splice(at..end, noise);
        if let Err(problems) = read(Some(File { name: "r.toml", octets: &octets }), &Overrides::default(), &machine()) {
            let lines = octets.split(|octet| *octet == b'\n').count();
            for problem in problems {
                let Origin::File { line, column, .. } = problem.origin else { panic!("{problem}") };
                proptest::prop_assert!(line >= 1 && line <= lines && column >= 1, "{problem}");
                proptest::prop_assert!(!problem.to_string().contains('\n'), "{problem}");
            }
        }
    }

    /// Slips of the pen in names and values: the same.
    #[test]
    fn a_letter_more_or_less_is_read_or_refused(at in 0..HUB.len(), letter in "[ -~]", drop in proptest::prelude::any::<bool>()) {
        let mut text = HUB.to_owned();
        text.replace_range(at..at + usize::from(drop), &letter);
        if let Err(problems) = read_text(&text, &Overrides::default()) {
            proptest::prop_assert!(!problems.is_empty());
        }
    }
}

#[test]
fn f_040_a_message_that_would_not_fit_into_memory_is_refused_by_configuration() {
    let tight = |more: &str| HUB.replace("[server]\n", "[server]\nmemory_budget = \"64 MiB\"\nshards = 8\n") + more;
    // Unless it is said, the most is what fits, however many shards share the memory.
    assert_eq!(good(&tight("")).settings.listeners[0].receive.size_max, 16 << 20);
    assert_eq!(good(&tight("[receive]\nsize_max = \"16 MiB\"\n")).settings.listeners[0].receive.size_max, 16 << 20);
    let wrong = "is more than a quarter of memory_budget: a hub must hold a message in memory; \
        write at most \"16 MiB\", or memory_budget = \"80 MiB\" in [server]";
    assert_eq!(said(&tight("[receive]\nsize_max = \"20 MiB\"\n")), format!("r.toml:14:12: receive.size_max: {wrong}"));
    let listener = "[[listener]]\naddress = \"127.0.0.1:26\"\nrole = \"hub\"\nsize_max = \"20 MiB\"\n";
    assert_eq!(said(&tight(listener)), format!("r.toml:16:12: listener[1].size_max: {wrong}"));
    // A front end holds no message.
    let listener = listener.replace("\"hub\"", "\"frontend\"") + "[frontend]\nhubs = [\"127.0.0.1:9\"]\n";
    assert_eq!(said(&tight(&listener)), "");
}

#[test]
fn f_040_the_defaults_of_every_profile_fit() {
    for (name, profile) in Profile::NAMES {
        let settings = Settings::of(*profile);
        assert!(settings.receive.size_max <= settings.server.message_max(), "{name}");
    }
}
