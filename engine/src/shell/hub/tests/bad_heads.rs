//! A disk that takes no head of a new segment.

use super::*;

/// Files of segments below `folder`, and whether anything was put aside.
fn files(folder: &Path) -> (usize, bool) {
    let names = std::fs::read_dir(folder).expect("ours").flatten().map(|entry| entry.file_name());
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    (names.iter().filter(|name| segments::id(name).is_some()).count(), names.iter().any(|name| name == "quarantine"))
}

fn created(world: &World) -> usize {
    let is_segment = |seen: &&crate::io::faulty::Seen| seen.op == Op::Create && segments::id(&seen.name).is_some();
    world.faults.seen().iter().filter(is_segment).count()
}

/// What a hub says to MAIL.
async fn answer_to_mail(world: &World) -> String {
    let mut conn = world.driver.connect(world.at, world.driver.now() + Span::seconds(20)).await.expect("it listens");
    conn.put(b"EHLO client.test\r\n");
    let (mut heard, mut greeted) = (String::new(), false);
    loop {
        let by = world.driver.now() + Span::seconds(60);
        match conn.next(by, |octets| (octets.len(), octets.to_vec())).await {
            Next::Bytes(octets) => heard.push_str(&String::from_utf8_lossy(&octets)),
            Next::Room => {}
            other => panic!("{other:?} after {heard}"),
        }
        if !greeted && heard.contains("\n250 ") {
            greeted = true;
            heard.clear();
            conn.put(b"MAIL FROM:<ann@a.test> SIZE=200000\r\n");
        } else if greeted && heard.ends_with('\n') {
            return heard;
        }
    }
}

/// F-022, F-026: files whose heads cannot be written are not heaped up; mail is refused, and taken again when the disk is
/// well.
#[test]
fn f_022_f_026_a_disk_that_takes_no_head_gets_one_file_at_a_time_and_mail_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::start(driver, &path);
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        world.send(1).await;
        world.prepared().await;
        let (good, began) = (created(&world), world.driver.now());
        let bad = Rule::new(Op::StableWrite, Fault::Fails(Errno::IO));
        (good + 1..good + 40).for_each(|id| {
            let id = spool::FileId(u32::try_from(id).expect("few"));
            world.faults.inject(bad.clone().named(&segments::name(id)));
        });
        while world.hub.log.borrow().has_room_for(200_000) {
            if append(&world).is_err() {
                world.hub.commit.raise();
                world.driver.sleep(Span::millis(1)).await;
            }
        }
        world
            .wait_until("it was tried some times", || {
                let (files, quarantine) = files(&path);
                assert!(files <= good + 1 && !quarantine, "they heap up: {files} beside {good}");
                created(&world) >= good + 4
            })
            .await;
        let passed = world.driver.now().since(began).as_millis();
        assert!((created(&world) - good) as u64 <= 3 + passed / 500, "ever more rarely: {passed} ms");
        assert!(answer_to_mail(&world).await.starts_with("452 4.3.1"));
        world.hub.publish();
        assert!(world.counts.read(Counter::HeadsFailed) >= 3);
        world.faults.heal();
        world.wait_until("the disk takes it", || world.hub.log.borrow().heads_failed() == 0).await;
        assert!(answer_to_mail(&world).await.starts_with("250"));
        world.send(50).await;
        world.hub.publish();
        assert_eq!(world.counts.read(Counter::HeadsFailed), 0);
        let all = || world.stored.read(Counter::Stored) == 51;
        world.wait_until("everything is delivered", all).await;
    })
    .expect("runs");
}

/// F-040: what waits for a segment takes of the budget what it takes of memory, its envelope too.
#[test]
fn f_040_what_waits_for_a_segment_is_charged_with_its_envelope() {
    let folder = tempfile::tempdir().expect("a folder");
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::open(driver.clone(), folder.path(), (1, 1));
        world.faults.inject(Rule::new(Op::Create, Fault::Held));
        world.hub.start();
        let charged = || world.hub.pool.budget().leased_bytes();
        let before = charged();
        let mut conn = driver.connect(world.at, driver.now() + Span::seconds(20)).await.expect("it listens");
        let recipients: String = (0..900).map(|number| format!("RCPT TO:<{number:060}@b.test>\r\n")).collect();
        conn.put(b"EHLO c.test\r\n");
        let mut heard = String::new();
        while !heard.contains("\n250 ") {
            let by = driver.now() + Span::seconds(60);
            match conn.next(by, |octets| (octets.len(), octets.to_vec())).await {
                Next::Bytes(octets) => heard.push_str(&String::from_utf8_lossy(&octets)),
                Next::Room => {}
                other => panic!("{other:?} after {heard}"),
            }
        }
        conn.put(format!("MAIL FROM:<a@a.test>\r\n{recipients}BDAT 3 LAST\r\nx\r\n").as_bytes());
        wait_until(&driver, "it to wait", || !world.hub.stalled.borrow().is_empty()).await;
        let content = crate::sys::slice::BLOCK_BYTES;
        wait_until(&driver, "its session to hold no copy", || charged() < before + content + (80 << 10)).await;
        assert!(charged() >= before + content + 900 * 70, "{} octets", charged() - before);
        world.faults.heal();
        wait_until(&driver, "a segment", || world.hub.stalled.borrow().is_empty()).await;
        drop(conn);
    })
    .expect("runs");
}
