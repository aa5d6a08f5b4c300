//! Recipients of one message that fail together: one record as far as its bounds allow, with the header once.

use super::notice::{Owed, on_disk};
use super::*;

/// Octets of the header, with our trace more than a notice takes.
const HEADER_BYTES: usize = 20_000;
/// What a notice takes of it.
const HEADER_BYTES_MAX: usize = 16 << 10;

fn nobody(command: &str) -> &'static str {
    match command {
        "DATA" => "354 go on\r\n",
        // Whose number ends with 1 is refused for another reason.
        _ if command.contains("1@b.test") => "550 5.7.1 not for you\r\n",
        _ if command.starts_with("RCPT") => "550 5.1.1 nobody of that name\r\n",
        _ => "250 2.0.0 fine\r\n",
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("r{number:04}@b.test")).collect()
}

/// Sends one message to so many, with a long header, and waits for the verdict.
async fn send_to(driver: &Epoll, at: SocketAddr, names: &[String]) {
    let mut conn = driver.connect(at, driver.now() + Span::seconds(20)).await.expect("it listens");
    let line = format!("X-Filler: {}\r\n", "x".repeat(88));
    let content = format!("Subject: x\r\n{}\r\nbody\r\n", line.repeat(HEADER_BYTES / line.len()));
    let to: String = names.iter().map(|name| format!("RCPT TO:<{name}>\r\n")).collect();
    let all = format!("MAIL FROM:<ann@a.test>\r\n{to}BDAT {} LAST\r\n{content}", content.len());
    conn.put(b"EHLO client.test\r\n");
    let (mut heard, mut said) = (String::new(), false);
    while !heard.contains("Queued as") {
        let by = driver.now() + Span::seconds(60);
        match conn.next(by, |octets| (octets.len(), octets.to_vec())).await {
            Next::Bytes(octets) => heard.push_str(&String::from_utf8_lossy(&octets)),
            Next::Room => {}
            other => panic!("{other:?} after {heard}"),
        }
        if heard.contains("\n250 ") && !std::mem::replace(&mut said, true) {
            conn.put(all.as_bytes());
        }
    }
}

fn settings() -> Settings {
    let mut settings = super::settings();
    settings.delivery.recipients_max = 1000;
    settings
}

/// Runs `test` on a hub with a next hop that answers so.
fn answered(
    path: &Path,
    settings: Settings,
    answer: impl FnMut(&str) -> &'static str + 'static,
    test: impl AsyncFnOnce(&World),
) {
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::open_as(driver, path, (1, 1), settings);
        world.hub.start();
        world.hub.install_routes(routes("sink", &[next_hop(&world.driver, answer)]));
        test(&world).await;
        world.hub.drain(world.driver.now() + Span::seconds(60)).await;
    })
    .expect("runs");
}

/// Each recipient with the fields that are about him.
fn told(found: &[Owed]) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for owed in found {
        assert_eq!(owed.sender, "ann@a.test");
        let mut recipients = owed.recipients.iter().cloned();
        let fields = owed.fields.split_once("\r\n").filter(|(first, _)| first.starts_with("Arrival-Date: "));
        for group in fields.expect("the date first").1.split("\r\n\r\n") {
            let group = group.trim_end();
            let count = group.strip_prefix("Recipients: ").and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            let fields = group.split_once("\r\n").filter(|_| count.is_some()).map_or(group, |(_, rest)| rest);
            told.extend(recipients.by_ref().take(count.unwrap_or(usize::MAX)).map(|name| (name, fields.to_owned())));
        }
        assert_eq!(recipients.next(), None, "{}", owed.fields);
    }
    told
}

fn octets(found: &[Owed]) -> usize {
    let names = |owed: &Owed| owed.recipients.iter().map(String::len).sum::<usize>();
    found.iter().map(|owed| names(owed) + owed.fields.len() + owed.header.len()).sum()
}

/// Each of them, with the reason that he was refused for.
fn assert_all_refused(found: &[Owed], names: &[String]) {
    let told = told(found);
    assert!(told.iter().map(|(name, _)| name).eq(names), "each once, in order");
    for (name, fields) in told {
        let said = if name.contains("1@") { "5.7.1 not for you" } else { "5.1.1 nobody of that name" };
        let expected = format!("Diagnostic-Code: smtp; 550 {said}");
        assert!(fields.starts_with("Action: failed\r\nStatus: 5.") && fields.ends_with(&expected), "{name}: {fields}");
    }
}

#[test]
fn f_068_f_040_of_a_thousand_refused_together_the_header_is_written_a_few_times() {
    const COUNT: usize = 1000;
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(COUNT));
    answered(folder.path(), settings(), nobody, async |world| {
        send_to(&world.driver, world.at, &names).await;
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == COUNT as u64).await;
        assert_eq!((world.counts.read(Counter::DsnOwed), world.hub.queued()), (COUNT as u64, 0), "each is counted");
    });
    let found = on_disk(folder.path());
    assert!(found.len() <= 5, "{} records", found.len());
    assert!(found.iter().all(|owed| owed.header.len() == HEADER_BYTES_MAX), "each has the header, cut");
    assert!(octets(&found) <= 5 * HEADER_BYTES_MAX + COUNT * 80, "{} octets", octets(&found));
    assert_all_refused(&found, &names);
}

/// In one transaction one is refused, one taken, one put off for the next, one refused.
#[test]
fn f_068_f_065_who_is_refused_among_others_is_on_record_with_his_like_and_the_others_are_not() {
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(4));
    let asked = Rc::new(RefCell::new(Vec::new()));
    let heard = asked.clone();
    let answer = move |command: &str| {
        if command.starts_with("RCPT") {
            heard.borrow_mut().push(command.to_owned());
        }
        match command {
            _ if command.contains("r0001@") => "250 2.1.5 known\r\n",
            _ if command.contains("r0002@") && heard.borrow().len() == 3 => "450 4.2.1 later\r\n",
            _ if command.contains("r0002@") => "250 2.1.5 known\r\n",
            _ => nobody(command),
        }
    };
    answered(folder.path(), settings(), answer, async |world| {
        send_to(&world.driver, world.at, &names).await;
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == 4).await;
        let counts = [Counter::DsnOwed, Counter::Delivered].map(|counter| world.counts.read(counter));
        assert_eq!((counts, world.hub.queued(), asked.borrow().len()), ([2, 2], 0, 5));
    });
    let found = on_disk(folder.path());
    assert_eq!(found.len(), 1, "they failed in one attempt");
    assert_all_refused(&found, &[names[0].clone(), names[3].clone()]);
}

#[test]
fn m_097_those_whose_time_is_over_together_are_on_record_together() {
    const COUNT: usize = 300;
    for on_disk_alone in [false, true] {
        let (folder, names) = (tempfile::tempdir().expect("a folder"), names(COUNT));
        let mut settings = settings();
        settings.delivery.expire_after = Span::seconds(1);
        answered(folder.path(), settings, nobody, async |world| {
            world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
            send_to(&world.driver, world.at, &names).await;
            let now = world.driver.now();
            let release = |content| world.hub.messages.borrow_mut().release(content);
            while on_disk_alone && world.hub.queues.borrow_mut().shed_content(64, now, release) {}
            world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == COUNT as u64).await;
            let counts = [Counter::DsnOwed, Counter::Expired].map(|counter| world.counts.read(counter));
            assert_eq!((counts, world.hub.queued()), ([COUNT as u64; 2], 0));
        });
        let found = on_disk(folder.path());
        assert_eq!(found.len(), 1, "{on_disk_alone}");
        let fields = "Action: failed\r\nStatus: 4.4.7";
        assert!(told(&found).iter().map(|(name, said)| (name, &**said)).eq(names.iter().map(|name| (name, fields))));
        assert_eq!(found[0].header.len(), HEADER_BYTES_MAX);
    }
}

/// A host of so many words that no segment takes what a notice could say: it is told in parts, without the header.
#[test]
fn f_022_a_notice_that_is_too_large_is_divided() {
    const COUNT: usize = 250;
    let (folder, names) = (tempfile::tempdir().expect("a folder"), names(COUNT));
    let words: [&'static str; 2] = ["x", "y"].map(|word| &*format!("550 5.1.1 {}\r\n", word.repeat(450)).leak());
    let answer = move |command: &str| match command.strip_suffix("@b.test>").and_then(|name| name.bytes().last()) {
        Some(last) => words[usize::from(last % 2)],
        None => nobody(command),
    };
    let mut settings = settings();
    settings.spool.segment_bytes = crate::spool::SEGMENT_BYTES_MIN;
    answered(folder.path(), settings, answer, async |world| {
        send_to(&world.driver, world.at, &names).await;
        world.wait_until("the outcomes", || world.counts.read(Counter::Settles) == COUNT as u64).await;
        assert_eq!((world.counts.read(Counter::DsnOwed), world.hub.queued()), (COUNT as u64, 0));
    });
    let found = on_disk(folder.path());
    assert!(found.iter().any(|owed| owed.header.is_empty()) && found.len() > COUNT / 90, "{} records", found.len());
    let told = told(&found);
    assert!(told.iter().map(|(name, _)| name).eq(&names), "each once, in order");
    for (at, (name, fields)) in told.iter().enumerate() {
        assert!(fields.ends_with(words[at % 2].trim_end()), "{name}: {fields}");
    }
}
