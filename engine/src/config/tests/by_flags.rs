//! Trials by flags alone, and flags over a file.

use super::*;

#[test]
fn a_trial_needs_no_file() {
    let flags = flags(|flags| {
        flags.role = Some("hub".into());
        flags.listen = vec!["127.0.0.1:0".into()];
        flags.next_hop = vec!["127.0.0.1:2600".into(), "b.test:26".into()];
        flags.data_dir = Some("data".into());
        flags.durability = Some("os".into());
        flags.shards = Some("3".into());
        flags.driver = Some("epoll".into());
        flags.profile = Some("bench".into());
        flags.relay_from = vec!["192.0.2.0/24".into()];
        flags.admin = Some("a.sock".into());
        flags.metrics = Some("127.0.0.1:0".into());
    });
    let settings = read(None, &flags, &machine()).map_err(|problems| lines(&problems)).expect("a trial").settings;
    assert_eq!(settings.profile, Profile::Bench);
    assert_eq!(settings.server.data_dir.as_deref(), Some("/home/me/data".as_ref()));
    assert_eq!(settings.server.admin.as_deref(), Some("/home/me/a.sock".as_ref()));
    assert_eq!(settings.server.cores, [None, None, None], "more shards than cores are not pinned");
    assert_eq!(settings.server.driver, DriverChoice::Epoll);
    assert_eq!(settings.server.durability, Durability::Os);
    assert_eq!(settings.listeners[0].role, Role::Hub);
    assert_eq!(settings.listeners[0].receive, Receive::of(Profile::Bench, Role::Hub));
    assert_eq!(settings.routes.next_hop("x"), Some(SMART_HOST));
    assert_eq!(settings.next_hops[SMART_HOST].hosts.len(), 2);
    let relay = relay_policy(&settings.access);
    assert!(relay.relays_for(Some([192, 0, 2, 9].into())));
    assert!(!relay.relays_for(Some([127, 0, 0, 1].into())), "a list replaces the default");
}

#[test]
fn a_front_end_and_a_store_by_flags() {
    let front = flags(|flags| {
        flags.role = Some("frontend".into());
        flags.listen = vec!["127.0.0.1:0".into()];
        flags.next_hop = vec!["127.0.0.1".into(), "127.0.0.2".into()];
    });
    let settings = read(None, &front, &machine()).expect("a front end").settings;
    assert_eq!(settings.hubs.hosts[0], Host::Address("127.0.0.1:2525".parse().expect("an address")));
    assert_eq!(settings.server.data_dir, None);
    assert_eq!(settings.server.admin, None);
    let mailbox = flags(|flags| {
        flags.role = Some("mailbox-delivery".into());
        flags.listen = vec!["127.0.0.1:0".into()];
        flags.store = Some("null".into());
    });
    let settings = read(None, &mailbox, &machine()).expect("a mailbox server").settings;
    assert_eq!(settings.store, Store::Null);
    let onward = Overrides { next_hop: vec!["127.0.0.1".into()], ..mailbox.clone() };
    let checked = read(None, &onward, &machine()).expect("a mailbox server");
    let told = "--next-hop: warning: routes: has no effect: mailbox delivery sends nothing on; leave it out, or name another role";
    assert_eq!(lines(&checked.warnings), told);
    let maildir = Overrides { store: Some("mail".into()), ..mailbox };
    let checked = read(None, &maildir, &machine()).expect("a mailbox server");
    assert_eq!(checked.settings.store, Store::Maildir("/home/me/mail".into()));
    assert_eq!(lines(&checked.warnings), "");
    assert_eq!(checked.settings.mailboxes.folder(b"ann", b"example.com"), Some("everybody"), "a trial takes all mail");
    let text = "[[listener]]\naddress = \"127.0.0.1:4750\"\nrole = \"mailbox-delivery\"\n";
    let file = File { name: "a.toml", octets: text.as_bytes() };
    let checked = read(Some(file), &Overrides { store: Some("/mail".into()), ..Overrides::default() }, &machine());
    assert_eq!(
        lines(&checked.expect("a mailbox server").warnings),
        "--store: warning: store.path: no mailbox is named: everybody but postmaster will be refused; write \"ann@example.com\" = \"ann\" in [mailboxes]"
    );
}

#[test]
fn what_is_wrong_with_flags_names_the_flag() {
    type Change = fn(&mut Overrides);
    let cases: [(Change, &str); 10] = [
        (
            |flags| *flags = Overrides::default(),
            "--listen: nothing listens; say --role ROLE --listen ADDRESS:PORT, or --config FILE",
        ),
        (
            |flags| flags.role = Some("hbu".into()),
            "--role: \"hbu\" is unknown; say \"hub\" (\"hub\", \"frontend\" or \"mailbox-delivery\")",
        ),
        (
            |flags| flags.listen = vec!["2525".into()],
            "--listen: 2525 is not an address with a port; say ADDRESS:PORT as \"127.0.0.1:2525\"",
        ),
        (
            |flags| flags.listen = vec!["0.0.0.0:25".into()],
            "--listen: listener.address: 0.0.0.0:25 is beyond loopback, and role ports speak no TLS yet; write a loopback address as \"127.0.0.1:2525\"",
        ),
        (|flags| flags.next_hop.clear(), "--next-hop: a hub needs a next hop; say --next-hop ADDRESS:PORT"),
        (|flags| flags.data_dir = None, "--data-dir: a hub needs a folder for its spool; say --data-dir DIR"),
        (
            |flags| flags.shards = Some("many".into()),
            "--shards: \"many\" is not a whole number; write a number from 1 to 256, or \"auto\"",
        ),
        (
            |flags| flags.metrics = Some("10.0.0.1:1".into()),
            "--metrics: server.metrics: 10.0.0.1:1 is beyond loopback; write a loopback address as \"127.0.0.1:9925\"",
        ),
        (|flags| flags.listen.clear(), "--role: is half a listener; say --listen ADDRESS:PORT too"),
        (|flags| flags.role = None, "--listen: is half a listener; say --role ROLE too"),
    ];
    for (change, expected) in cases {
        let flags = flags(|flags| {
            flags.role = Some("hub".into());
            flags.listen = vec!["127.0.0.1:0".into()];
            flags.next_hop = vec!["127.0.0.1:26".into()];
            flags.data_dir = Some("/d".into());
            change(flags);
        });
        assert_eq!(lines(&read(None, &flags, &machine()).expect_err(expected)), expected);
    }
}

#[test]
fn flags_override_a_file() {
    let flags = flags(|flags| {
        flags.listen = vec!["127.0.0.1:7".into()];
        flags.durability = Some("none".into());
        flags.next_hop = vec!["127.0.0.1:26".into()];
        flags.profile = Some("rfc".into());
    });
    let settings = read_text(&format!("{HUB}[receive]\nsize_max = \"1 MiB\"\n"), &flags).expect("it holds").settings;
    assert_eq!(settings.listeners[0].address.port(), 7);
    assert_eq!(settings.server.durability, Durability::None);
    assert_eq!(settings.next_hops.len(), 1);
    assert_eq!(settings.profile, Profile::Rfc);
    assert_eq!(settings.listeners[0].receive.size_max, 1 << 20);
    assert_eq!(settings.listeners[0].receive.hops_max, 100);
}

/// The role's defaults come with it, and go behind what the file says of all listeners, and of this one.
#[test]
fn a_listener_whose_role_is_changed_by_a_flag_keeps_its_own_limits() {
    let flags = flags(|flags| flags.role = Some("frontend".into()));
    let rest = "[receive]\nhops_max = 7\n[frontend]\nhubs = [\"127.0.0.1:9\"]\n";
    let own = "role = \"hub\"\nsize_max = \"1 MiB\"\nconnections_per_source_max = 3";
    let text = format!("profile = \"exchange\"\n{}{rest}", HUB.replace("role = \"hub\"", own));
    let settings = read_text(&text, &flags).expect("it holds").settings;
    assert_eq!(settings.listeners.len(), 1);
    let (role, receive) = (settings.listeners[0].role, &settings.listeners[0].receive);
    assert_eq!((role, receive.size_max, receive.connections_per_source_max), (Role::Frontend, 1 << 20, 3));
    assert_eq!((receive.hops_max, receive.recipients_max), (7, 200));
}
