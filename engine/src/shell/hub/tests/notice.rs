//! Recipients that failed for good: what is on disk of them.

use super::*;
use crate::sim::records::live;
use crate::spool::RecordKind;

/// A next hop that refuses one in so many recipients.
pub(super) fn refusing(driver: &Epoll, one_in: u32) -> SocketAddr {
    let mut turn = 0;
    next_hop(driver, move |command| {
        turn += u32::from(command.starts_with("RCPT"));
        match command {
            "DATA" => "354 go on\r\n",
            _ if command.starts_with("RCPT") && turn % one_in == 0 => "550 5.1.1 nobody of that name\r\n",
            _ => "250 2.0.0 fine\r\n",
        }
    })
}

/// What one record says that a notice is owed by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub sender: String,
    pub recipients: Vec<String>,
    pub fields: String,
    pub header: String,
}

/// All that a start on this folder finds of them.
pub(super) fn on_disk(folder: &Path) -> Vec<Owed> {
    let entries = std::fs::read_dir(folder).expect("ours").flatten();
    let files = entries.filter_map(|entry| Some((segments::id(entry.file_name().to_str()?)?, entry.path())));
    let images = files.map(|(file, path)| (file, std::fs::read(path).expect("ours"))).collect();
    let found = live(&images, |_, record, header| {
        assert_eq!(record.head.kind, RecordKind::Owed, "nothing else is left");
        let envelope = crate::wire::EnvelopeRef::parse(record.envelope).expect("ours");
        Owed {
            sender: match envelope.reverse_path() {
                crate::wire::ReversePathRef::Null => String::new(),
                crate::wire::ReversePathRef::Mailbox(mailbox) => mailbox.to_string(),
            },
            recipients: envelope.recipients().map(|recipient| recipient.mailbox.to_string()).collect(),
            fields: String::from_utf8_lossy(record.trace).into_owned(),
            header: String::from_utf8(header.expect("it is sound")).expect("text"),
        }
    });
    found.expect("our format")
}

pub(super) fn assert_owed(found: &[Owed], count: usize, status: &str, said: &str) {
    assert_eq!(found.len(), count, "{found:?}");
    for owed in found {
        assert_eq!((owed.sender.as_str(), &owed.recipients[..]), ("ann@a.test", &["bob@b.test".to_owned()][..]));
        assert!(owed.fields.contains(&format!("Status: {status}\r\n")) && owed.fields.contains(said), "{owed:?}");
        assert!(owed.header.starts_with("Received: ") && owed.header.ends_with("Subject: x\r\n"), "{owed:?}");
    }
}

/// Runs `test` on a hub whose next hop refuses everybody.
pub(super) fn refused(path: &Path, test: impl AsyncFnOnce(&World)) {
    refused_one_in(1, path, test);
}

fn refused_one_in(one_in: u32, path: &Path, test: impl AsyncFnOnce(&World)) {
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::start(driver, path);
        world.hub.install_routes(routes("sink", &[refusing(&world.driver, one_in)]));
        test(&world).await;
        world.hub.drain(world.driver.now() + Span::seconds(60)).await;
    })
    .expect("runs");
}

pub(super) const SAID: &str =
    "Remote-MTA: dns; [127.0.0.1]\r\nDiagnostic-Code: smtp; 550 5.1.1 nobody of that name\r\n";

#[test]
fn f_068_who_was_refused_for_good_is_on_record_with_the_reason_whenever_the_server_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(folder.path(), async |world| {
        world.send(3).await;
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == 3).await;
        assert_eq!((world.hub.queued(), world.counts.read(Counter::DsnOwed)), (0, 3));
    });
    assert_owed(&on_disk(folder.path()), 3, "5.1.1", SAID);
    again(folder.path(), async |world| {
        world.hub.start();
        world.wait_until("they are known again", || world.counts.read(Counter::DsnOwed) == 3).await;
        assert_eq!((world.hub.queued(), world.counts.read(Counter::Redelivered)), (0, 0), "nobody is tried again");
    });
}

#[test]
fn f_023_a_notice_whose_batch_fails_is_written_again() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(folder.path(), async |world| {
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        world.send(2).await;
        world.faults.heal();
        world.faults.inject(Rule::new(Op::StableWrite, Fault::Fails(Errno::IO)));
        let (owed, failed) = (|| world.counts.read(Counter::DsnOwed), || world.counts.read(Counter::CommitErrors));
        world.wait_until("batches with them to fail", || owed() == 2 && failed() > 0).await;
        world.faults.heal();
        world.wait_until("the outcomes", || world.hub.notices.borrow().is_empty()).await;
    });
    assert_owed(&on_disk(folder.path()), 2, "5.1.1", SAID);
}

/// A few notices in every segment do not keep them all.
#[test]
fn f_022_notices_leave_segments_that_are_kept_for_them_alone() {
    const MESSAGES: u64 = 6000;
    let folder = tempfile::tempdir().expect("a folder");
    refused_one_in(50, folder.path(), async |world| {
        for _ in 0..6 {
            world.send(usize::try_from(MESSAGES / 6).expect("few")).await;
        }
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == MESSAGES).await;
        assert!(world.hub.files.borrow().len() > 2, "more than is written to");
        world.wait_until("a segment to be free", || world.hub.log.borrow().surplus(0).is_some()).await;
    });
    assert_owed(&on_disk(folder.path()), usize::try_from(MESSAGES / 50).expect("few"), "5.1.1", SAID);
}

#[test]
fn m_097_who_is_given_up_while_his_message_is_on_disk_alone_is_on_record_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), async |driver| {
        let mut settings = settings();
        settings.delivery.expire_after = Span::seconds(1);
        let world = World::open_as(driver, &path, (1, 1), settings);
        world.hub.start();
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        world.send(3).await;
        let now = world.driver.now();
        let release = |content| world.hub.messages.borrow_mut().release(content);
        while world.hub.queues.borrow_mut().shed_content(64, now, release) {}
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == 3).await;
        assert_eq!((world.hub.queued(), world.counts.read(Counter::Expired)), (0, 3));
        world.hub.drain(world.driver.now() + Span::seconds(60)).await;
    })
    .expect("runs");
    assert_owed(&on_disk(folder.path()), 3, "4.4.7", "Action: failed\r\n");
}

#[test]
fn f_068_nothing_is_owed_to_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(folder.path(), async |world| {
        send_from(&world.driver, world.at, 2, "").await;
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == 2).await;
        assert_eq!((world.counts.read(Counter::DsnOwed), world.counts.read(Counter::FailedUnowed)), (0, 2));
    });
    assert_eq!(on_disk(folder.path()), []);
}
