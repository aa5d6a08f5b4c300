//! Several listeners in one process, and hosts by name.

use tests::ledger::{content, sender};
use tests::peers::{free_address, trace_before};
use tests::server::{Dialect, Role, Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

/// Everything that stands in a mailbox.
fn letters(store: &tempfile::TempDir, mailbox: &str) -> Vec<Vec<u8>> {
    let Ok(files) = std::fs::read_dir(store.path().join(mailbox).join("new")) else { return Vec::new() };
    files.map(|file| std::fs::read(file.expect("an entry").path()).expect("a message")).collect()
}

/// One process, one file, three listeners and two shards: mail goes in at the front end and rests in the Maildir.
#[test]
fn m_057_mail_goes_through_every_role_of_one_process_into_the_mailbox() {
    for driver in tests::drivers("m_057_mail_goes_through_every_role_of_one_process_into_the_mailbox") {
        let store = tempfile::tempdir().expect("a folder");
        let (hub, mailboxes) = (free_address(), free_address());
        let role = Role::Hub(vec![mailboxes], Dialect::Lmtp);
        let beside = vec![
            "address = \"127.0.0.1:0\"\nrole = \"frontend\"".to_owned(),
            format!("address = \"{mailboxes}\"\nrole = \"mailbox-delivery\"\nprotocol = \"lmtp\""),
        ];
        let told = Told { role, address: hub, driver, shards: 2, beside, ..Told::default() }
            .with("frontend", format!("hubs = [\"{hub}\"]"))
            .with("access", "trusted_front_ends = [\"127.0.0.0/8\"]\naccepted_domains = [\"b.test\", \"c.test\"]")
            .with("store", format!("path = {:?}", store.path()))
            .with("mailboxes", "\"bob@b.test\" = \"bob\"\n\"*@c.test\" = \"others\"");
        let mut server = Server::started(told);
        let front = server.address_of(1);
        const MESSAGES: u64 = 12;
        for id in 0..MESSAGES {
            // Connections of one client are spread over both shards.
            let mut talk = Talk::hello(front).expect("a greeting");
            let to = ["bob@b.test", "any@c.test", "postmaster"];
            let reply = talk.send(&sender(id), &to, &content(id)).expect("a reply");
            assert!(reply.is_positive(), "{driver}: {reply:?}");
        }
        for mailbox in ["bob", "others", "postmaster"] {
            let all = until("the mail", || {
                let all = letters(&store, mailbox);
                (all.len() as u64 == MESSAGES).then_some(all)
            });
            for id in 0..MESSAGES {
                let front = format!("Return-Path: <{}>\r\n", sender(id));
                let one = all.iter().find(|letter| letter.starts_with(front.as_bytes())).expect("this one");
                let trace = ["Return-Path", "Delivered-To", "Received", "Received"].map(str::to_owned);
                assert_eq!(trace_before(&content(id), one), Some(trace.to_vec()), "{driver}: {id} is changed");
            }
        }
        until("the queue to be empty", || (server.queued() == 0).then_some(()));
        server.stop();
    }
}

/// A next hop by name: what its name's port is after a reload counts, for what waits and for what comes.
#[test]
fn m_087_a_next_hop_by_name_is_reached_and_follows_a_reload() {
    let first = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told { by_name: true, ..Told::relaying_to(first.address()) });
    let send = |hub: &Server, ids: std::ops::Range<u64>| {
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        for id in ids {
            assert!(talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply").is_positive());
        }
    };
    send(&hub, 0..5);
    assert_eq!(first.wait_for(5).len(), 5);
    hub.tell(|told| told.relay_to(free_address()));
    hub.reload();
    send(&hub, 5..8);
    until("nobody to be there", || (hub.counter("connect_failures") > 0).then_some(()));
    let second = Sink::start(Offers { chunking: true });
    hub.tell(|told| told.relay_to(second.address()));
    hub.reload();
    send(&hub, 8..10);
    let taken = second.wait_for(5);
    for id in 5..10 {
        let one = taken.iter().find(|one| one.from == sender(id)).unwrap_or_else(|| panic!("{id} did not come"));
        assert!(trace_before(&content(id), &one.content).is_some(), "{id} is changed");
    }
    assert_eq!((first.taken().len(), taken.len()), (5, 5), "nothing comes twice, and nothing to the old port");
    hub.stop();
}

/// The same for hubs behind a front end.
#[test]
fn f_101_hubs_by_name_are_reached_and_follow_a_reload() {
    let sinks = [Sink::start(Offers { chunking: true }), Sink::start(Offers { chunking: true })];
    let mut front = Server::started(Told { by_name: true, ..Told::front_end_of(sinks[0].address()) });
    for (id, sink) in sinks.iter().enumerate() {
        front.tell(|told| told.role = Role::Frontend(vec![sink.address()]));
        front.reload();
        // A hub that was never seen is tried when content begins.
        let mut talk = Talk::hello(front.address()).expect("a greeting");
        let reply = talk.send(&sender(id as u64), &["bob@b.test"], &content(id as u64)).expect("a reply");
        assert!(reply.is_positive(), "{reply:?}");
        assert_eq!(sink.wait_for(1)[0].from, sender(id as u64));
    }
    assert_eq!(sinks[0].taken().len(), 1);
    front.stop();
}
