//! From notices to reports: one for those that failed together, once, whatever the disk does.

use super::notice::{on_disk, refused};
use super::*;

/// What a next hop heard: bodies as they came.
type Heard = Rc<RefCell<Vec<String>>>;

/// A next hop that refuses everybody in `b.test`, and keeps what it takes for others.
fn next_hop_of_senders(driver: &Epoll) -> (SocketAddr, Heard) {
    let heard = Heard::default();
    let (kept, mut in_body) = (heard.clone(), false);
    let at = next_hop(driver, move |command| {
        if std::mem::take(&mut in_body) {
            kept.borrow_mut().push(command.to_owned());
            return "250 2.0.0 taken\r\n";
        }
        in_body = command == "DATA";
        match command {
            "DATA" => "354 go on\r\n",
            _ if command.starts_with("RCPT") && command.contains("@b.test") => "550 5.1.1 nobody of that name\r\n",
            _ => "250 2.0.0 fine\r\n",
        }
    });
    (at, heard)
}

fn reporting() -> Settings {
    let mut settings = settings();
    settings.delivery.reports = true;
    // They come as they are made.
    settings.delivery.connections_per_hop_max = 1;
    settings
}

/// Runs `test` on a hub that makes reports, and whose next hop refuses some.
fn reported(path: &Path, test: impl AsyncFnOnce(&World, &Heard)) {
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::open_as(driver, path, (1, 1), reporting());
        world.hub.start();
        let (at, heard) = next_hop_of_senders(&world.driver);
        world.hub.install_routes(routes("sink", &[at]));
        test(&world, &heard).await;
        world.hub.drain(world.driver.now() + Span::seconds(60)).await;
    })
    .expect("runs");
}

async fn heard_of(world: &World, heard: &Heard, count: usize) {
    world.wait_until("the reports", || heard.borrow().len() == count && world.hub.queued() == 0).await;
}

#[test]
fn m_100_m_152_a_refusal_for_good_becomes_a_report_to_the_sender_and_nothing_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    reported(folder.path(), async |world, heard| {
        world.send(3).await;
        heard_of(world, heard, 3).await;
        for report in heard.borrow().iter() {
            for line in [
                "To: <ann@a.test>",
                "Final-Recipient: rfc822; bob@b.test",
                "Action: failed",
                "Status: 5.1.1",
                "Remote-MTA: dns; [127.0.0.1]",
                "Diagnostic-Code: smtp; 550 5.1.1 nobody of that name",
                "Content-Type: text/rfc822-headers",
                "Subject: x",
            ] {
                assert!(report.contains(&format!("\r\n{line}\r\n")), "{line} in {report}");
            }
            assert!(report.contains("\r\nArrival-Date: ") && report.contains("\r\nLast-Attempt-Date: "), "{report}");
        }
        assert_eq!((world.counts.read(Counter::DsnOwed), world.counts.read(Counter::Reports)), (3, 3));
    });
    assert_eq!(on_disk(folder.path()), []);
}

/// Two recipients refused, one of three asked not to hear of it, one was delivered to.
#[test]
fn m_151_m_157_recipients_that_failed_together_share_a_report_and_who_is_not_to_be_told_is_not_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    reported(folder.path(), async |world, heard| {
        let mut conn =
            world.driver.connect(world.at, world.driver.now() + Span::seconds(20)).await.expect("it listens");
        conn.put(b"EHLO client.test\r\n");
        let said = "MAIL FROM:<ann@a.test> ENVID=QQ+2B RET=FULL\r\nRCPT TO:<bob@b.test> ORCPT=rfc822;Bob@b.test\r\n\
                    RCPT TO:<eve@b.test> NOTIFY=NEVER\r\nRCPT TO:<joe@c.test>\r\nRCPT TO:<max@b.test> NOTIFY=FAILURE\r\n\
                    RCPT TO:<pat@b.test> NOTIFY=SUCCESS\r\nBDAT 20 LAST\r\nSubject: x\r\n\r\nbody\r\n";
        let (mut answers, mut told) = (String::new(), false);
        while !answers.contains("Queued as") {
            let by = world.driver.now() + Span::seconds(60);
            match conn.next(by, |octets| (octets.len(), octets.to_vec())).await {
                Next::Bytes(octets) => answers.push_str(&String::from_utf8_lossy(&octets)),
                Next::Room => {}
                other => panic!("{other:?} after {answers}"),
            }
            if answers.contains("\n250 ") && !std::mem::replace(&mut told, true) {
                conn.put(said.as_bytes());
            }
        }
        heard_of(world, heard, 2).await;
        let heard = heard.borrow();
        let report = heard.iter().find(|body| body.contains("Auto-Submitted")).expect("one");
        let about: Vec<_> = report.lines().filter_map(|line| line.strip_prefix("Final-Recipient: rfc822; ")).collect();
        assert_eq!(about, ["bob@b.test", "max@b.test"]);
        assert!(report.contains("\r\nOriginal-Recipient: rfc822; Bob@b.test\r\n"), "{report}");
        assert!(report.contains("\r\nOriginal-Envelope-Id: QQ+\r\n"), "{report}");
        assert!(report.contains("Content-Type: message/rfc822\r\n") && report.contains("\r\n\r\nbody\r\n"), "{report}");
        assert_eq!((world.counts.read(Counter::DsnOwed), world.counts.read(Counter::FailedUnowed)), (2, 2));
        assert_eq!(world.counts.read(Counter::Reports), 1);
    });
    assert_eq!(on_disk(folder.path()), []);
}

#[test]
fn m_099_nobody_is_told_of_what_came_from_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    reported(folder.path(), async |world, heard| {
        send_from(&world.driver, world.at, 2, "").await;
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == 2).await;
        assert_eq!((world.counts.read(Counter::FailedUnowed), world.counts.read(Counter::Reports)), (2, 0));
        // A report that is refused is the end of it.
        send_from(&world.driver, world.at, 1, "eve@b.test").await;
        world.wait_until("its end", || world.counts.read(Counter::FailedUnowed) == 3).await;
        world.wait_until("an empty queue", || world.hub.queued() == 0).await;
        assert_eq!((heard.borrow().len(), world.counts.read(Counter::Reports)), (0, 1));
    });
    assert_eq!(on_disk(folder.path()), []);
}

#[test]
fn m_100_notices_of_an_earlier_run_become_reports_when_the_server_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(folder.path(), async |world| {
        world.send(3).await;
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == 3).await;
    });
    let mut left = recover::recover(folder.path(), DriverChoice::Epoll, 1).expect("it is read");
    let (adoption, next) = (left.recovered.adoptions.remove(0), (left.recovered.next_number, left.next_file));
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::open_as(driver, folder.path(), next, reporting());
        let (at, heard) = next_hop_of_senders(&world.driver);
        world.hub.install_routes(routes("sink", &[at]));
        world.hub.adopt(adoption).await.expect("its files open");
        world.hub.start();
        heard_of(&world, &heard, 3).await;
        assert!(heard.borrow().iter().all(|report| report.contains("\r\nFinal-Recipient: rfc822; bob@b.test\r\n")));
        world.hub.drain(world.driver.now() + Span::seconds(60)).await;
    })
    .expect("runs");
    assert_eq!(on_disk(folder.path()), []);
}

#[test]
fn f_023_a_report_whose_batch_fails_is_made_again_and_comes_once() {
    let folder = tempfile::tempdir().expect("a folder");
    reported(folder.path(), async |world, heard| {
        // The notices are durable, and what follows them is not, for a while.
        world.hub.reports.pause(true);
        world.send(3).await;
        world
            .wait_until("the notices", || world.hub.notices.borrow().is_empty() && world.hub.log.borrow().is_written())
            .await;
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == 3).await;
        world.faults.inject(Rule::new(Op::StableWrite, Fault::Fails(Errno::IO)));
        let failed = world.counts.read(Counter::CommitErrors);
        world.hub.reports.pause(false);
        world.wait_until("a batch to fail", || world.counts.read(Counter::CommitErrors) > failed).await;
        world.faults.heal();
        world.wait_until("the reports", || heard.borrow().len() == 3 && world.hub.queued() == 0).await;
        world.wait_until("the end of the notices", || world.hub.reports.is_empty()).await;
        assert_eq!(heard.borrow().len(), 3);
    });
    assert_eq!(on_disk(folder.path()), []);
}

/// F-028: what the disk refuses is asked for once more; then it waits, and nobody waits for it.
#[test]
fn f_028_a_notice_that_cannot_be_read_waits_and_the_others_are_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    reported(folder.path(), async |world, heard| {
        world.hub.reports.pause(true);
        for (from, count, all) in [("max@a.test", 1, 1), ("ann@a.test", 2, 3)] {
            send_from(&world.driver, world.at, count, from).await;
            world.wait_until("the notices", || world.hub.reports.waiting() == all).await;
        }
        for nth in [1, 2] {
            world.faults.inject(Rule::new(Op::Read, Fault::Fails(Errno::IO)).nth(nth));
        }
        world.hub.reports.pause(false);
        heard_of(world, heard, 3).await;
        world.wait_until("the end of the notices", || world.hub.reports.is_empty()).await;
        let last = heard.borrow()[2].clone();
        assert!(last.contains("\r\nTo: <max@a.test>\r\n"), "the one that could not be read is made last: {last}");
    });
    assert_eq!(on_disk(folder.path()), []);
}
