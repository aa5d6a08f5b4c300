//! Hostile senders against whole servers: smuggling through a front end and a hub (F-130, F-131), connections that end
//! at once or anywhere (F-125, F-147), addresses that are tricks (F-144, S-031), and what must not be written anywhere (S-040).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use tests::peers::{Nowhere, free_address};
use tests::server::{Dialect, Role, Server, Told};
use tests::sink::{Offers, Sink, Taken};
use tests::smuggling::NOT_THE_END;
use tests::talk::{Talk, stuffed};
use tests::wait::until;

/// What would be a transaction of its own behind an end of data.
const SMUGGLED: &[u8] =
    b"MAIL FROM:<evil@a.test>\r\nRCPT TO:<victim@b.test>\r\nDATA\r\nSubject: evil\r\n\r\nevil\r\n.\r\n";

/// A front end before a hub before a sink that takes DATA alone.
struct Chain {
    front: Server,
    hub: Server,
    sink: Sink,
}

impl Chain {
    fn start() -> Self {
        Self::with(|told| told, |told| told)
    }

    fn with(hub: impl Fn(Told) -> Told, front: impl Fn(Told) -> Told) -> Self {
        let sink = Sink::start(Offers { chunking: false });
        let told = Told::relaying_to(sink.address()).with("access", "trusted_front_ends = [\"127.0.0.1\"]");
        let hub = Server::started(hub(told));
        let told = Told::front_end_of(hub.address());
        Self { front: Server::started(front(told)), hub, sink }
    }

    /// Waits until the last message has come, and judges everything that came: what was sent, in CRLF lines, from nobody
    /// else.
    fn judge(mut self, accepted: usize) {
        let mut talk = Talk::hello(self.front.address()).expect("a greeting");
        let marker = talk.send("marker@a.test", &["b@b.test"], b"Subject: last\r\n\r\nx\r\n").expect("a reply");
        assert!(marker.is_positive(), "{marker:?}");
        let all = accepted + 1;
        let taken = self.sink.wait_for(all);
        until("nothing more to be queued", || (self.hub.queued() == 0).then_some(()));
        self.front.stop();
        self.hub.stop();
        assert_eq!(self.sink.taken().len(), all, "as many go out as were acknowledged");
        assert_eq!(self.sink.violations(), 0, "nothing is pipelined to who does not offer it");
        taken.iter().for_each(is_clean);
    }
}

/// One message, from who sent it, to whom it was for, and nothing in its raw octets that another parser could take for the
/// end of data or for a line.
fn is_clean(one: &Taken) {
    assert!(["a@a.test", "marker@a.test"].contains(&one.from.as_str()), "{one:?}");
    assert_eq!(one.to, ["b@b.test"]);
    let raw = one.raw.strip_suffix(b".\r\n").expect("DATA ends with a dot");
    assert_eq!(bare_ends(raw), [0_usize; 0], "bare line ends in {}", raw.escape_ascii());
    assert!(!raw.windows(5).any(|octets| octets == b"\r\n.\r\n"), "an end of data inside {}", raw.escape_ascii());
}

/// Where a CR or a LF stands alone.
fn bare_ends(octets: &[u8]) -> Vec<usize> {
    let alone = |at: usize| match octets[at] {
        b'\r' => octets.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || octets[at - 1] != b'\r',
        _ => false,
    };
    (0..octets.len()).filter(|at| alone(*at)).collect()
}

/// The final reply's code after `content` was sent in two pieces, the second when the first had been read; in lockstep, or
/// with the commands and the first piece in one.
fn send_cut(at: SocketAddr, content: &[u8], cut: usize, pipelined: bool) -> u16 {
    let mut talk = Talk::hello(at).expect("a greeting");
    let (first, rest) = content.split_at(cut);
    if pipelined {
        let commands = b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n";
        talk.write(&[commands, first].concat()).expect("a connection");
        for code in [250, 250, 354] {
            assert_eq!(talk.reply().expect("a reply").code, code);
        }
    } else {
        talk.begin("a@a.test", &["b@b.test"]).expect("an envelope like any other");
        talk.write(first).expect("a connection");
    }
    talk.until_read();
    talk.write(rest).expect("a connection");
    talk.reply().expect("a reply").code
}

#[test]
fn f_130_nothing_smuggled_by_data_comes_out_of_front_end_and_hub() {
    smuggles_nothing(Chain::start(), false);
}

/// The same from who pipelines all of it, to a next hop whose every other connection offers no PIPELINING.
#[test]
fn f_130_nothing_smuggled_in_a_pipeline_comes_out_of_front_end_and_hub() {
    let chain = Chain::with(
        |told| told.with("delivery", "messages_per_connection_max = 3"),
        |told| told.with("receive", "strict_pipelining = false"),
    );
    chain.sink.alternate();
    smuggles_nothing(chain, true);
}

fn smuggles_nothing(chain: Chain, pipelined: bool) {
    let mut accepted = 0;
    for sequence in NOT_THE_END {
        let content = [b"Subject: outer\r\n\r\nfirst", sequence, SMUGGLED].concat();
        let begins = content.len() - SMUGGLED.len() - sequence.len();
        for cut in begins..=begins + sequence.len() {
            match send_cut(chain.front.address(), &content, cut, pipelined) {
                250 => accepted += 1,
                code => assert_eq!(code, 550, "{} cut at {cut}", sequence.escape_ascii()),
            }
        }
    }
    chain.judge(accepted);
}

/// The reply to the last of two chunks that part at `cut`; to the only one where nothing is behind it.
fn send_two_chunks(at: SocketAddr, content: &[u8], cut: usize) -> u16 {
    let mut talk = Talk::hello(at).expect("a greeting");
    talk.envelope("a@a.test", &["b@b.test"]).expect("an envelope like any other");
    let (first, rest) = content.split_at(cut);
    if !rest.is_empty() {
        talk.write(&[format!("BDAT {}\r\n", first.len()).as_bytes(), first].concat()).expect("a connection");
        match talk.reply().expect("a reply").code {
            250 => {}
            // What it holds already is refused at once.
            code => return code,
        }
    }
    let last = if rest.is_empty() { first } else { rest };
    talk.write(&[format!("BDAT {} LAST\r\n", last.len()).as_bytes(), last].concat()).expect("a connection");
    talk.reply().expect("a reply").code
}

#[test]
fn f_131_nothing_smuggled_by_bdat_comes_out_by_data() {
    let chain = Chain::start();
    let (mut accepted, mut cleans) = (0, 0);
    // An end of data inside of a chunk is content, and leaves stuffed.
    for sequence in NOT_THE_END.into_iter().chain([&b"\r\n.\r\n"[..], b"\r\n..\r\n", b"\r\n"]) {
        let content = [b"Subject: outer\r\n\r\nfirst", sequence, SMUGGLED].concat();
        let clean = bare_ends(&content).is_empty();
        cleans += usize::from(clean);
        let begins = content.len() - SMUGGLED.len() - sequence.len();
        // In one chunk, and in two that part before, inside of and behind the sequence.
        for cut in (begins..=begins + sequence.len()).chain([content.len()]) {
            let reply = send_two_chunks(chain.front.address(), &content, cut);
            let sent = format!("{} cut at {cut}", sequence.escape_ascii());
            assert_eq!(reply, if clean { 250 } else { 550 }, "{sent}");
            if clean {
                accepted += 1;
                let taken = chain.sink.wait_for(accepted);
                let last = &taken[accepted - 1];
                assert!(last.content.ends_with(&content), "{sent}: {}", last.content.escape_ascii());
                let raw = [&stuffed(&content)[..], b".\r\n"].concat();
                assert!(last.raw.ends_with(&raw), "{sent}: {}", last.raw.escape_ascii());
            }
        }
    }
    assert_eq!(cleans, 5, "three with real line ends, and two with a NUL between them");
    chain.judge(accepted);
}

#[test]
fn f_147_who_half_closes_behind_the_end_still_gets_the_reply() {
    tests::drivers("f_147_who_half_closes_behind_the_end_still_gets_the_reply").for_each(half_closed_and_answered);
}

fn half_closed_and_answered(driver: &'static str) {
    let nowhere = Nowhere::hold();
    let mut hub = Server::started(Told { driver, ..Told::relaying_to(nowhere.address()) });
    let large = [b"Subject: large\r\n\r\n".to_vec(), b"0123456789\r\n".repeat(60_000)].concat();
    for round in 0..40 {
        for content in [&b"Subject: small\r\n\r\nx\r\n"[..], &large] {
            if round >= 4 && content.len() > 1000 {
                continue;
            }
            let mut talk = Talk::hello(hub.address()).expect("a greeting");
            talk.envelope("a@a.test", &["b@b.test"]).expect("a fine envelope");
            if round % 2 == 0 {
                talk.write(b"DATA\r\n").expect("a connection");
                assert_eq!(talk.reply().expect("a reply").code, 354);
                talk.write(&[&stuffed(content)[..], b".\r\n"].concat()).expect("a connection");
            } else {
                let command = format!("BDAT {} LAST\r\n", content.len());
                talk.write(&[command.as_bytes(), content].concat()).expect("a connection");
            }
            // The end is there before the write to the spool can have begun.
            talk.finish().expect("our side");
            let reply = talk.reply().expect("the reply is still sent");
            assert_eq!(reply.code, 250, "round {round}, {} octets: {reply:?}", content.len());
            assert!(talk.reply().is_err(), "and then it closes");
        }
    }
    assert_eq!(hub.queued(), 44);
    hub.stop();
}

/// Thousands that connect and go at once, in good order or with a reset, cost descriptors for a moment, no line of the log
/// each, and others nothing.
#[test]
fn f_125_who_connects_and_closes_at_once_leaves_no_descriptor_and_no_flood_of_lines() {
    const COUNT: usize = 3_000;
    for driver in tests::drivers("f_125_who_connects_and_closes_at_once_leaves_no_descriptor_and_no_flood_of_lines") {
        let mut hub = Server::started(Told { driver, ..Told::relaying_to(free_address()) });
        let mut other = Talk::hello(hub.address()).expect("a greeting");
        let before = hub.descriptors();
        let said = hub.process().complaints().lines().count();
        for index in 0..COUNT {
            let stream = TcpStream::connect(hub.address()).expect("it listens");
            if index % 4 > 0 {
                // No time to wait for the last octets: a reset.
                rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).expect("an option");
            }
        }
        // They are taken in turn: whoever comes behind them is greeted when all of them were.
        drop(Talk::hello(hub.address()).expect("a greeting"));
        until("its descriptors back", || (hub.descriptors() <= before).then_some(()));
        let lines = hub.process().complaints().lines().count() - said;
        assert!(lines < COUNT / 100, "{driver}: {lines} lines for {COUNT} connections");
        assert_eq!(other.say("NOOP").expect("a reply").code, 250, "{driver}");
        hub.stop();
    }
}

#[test]
fn f_147_f_098_connections_that_end_anywhere_leave_nothing_behind() {
    tests::drivers("f_147_f_098_connections_that_end_anywhere_leave_nothing_behind").for_each(ended_anywhere);
}

fn ended_anywhere(driver: &'static str) {
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told { driver, ..Told::relaying_to(sink.address()) });
    let mut first = Talk::hello(hub.address()).expect("a greeting");
    assert!(first.send("a@a.test", &["b@b.test"], b"Subject: 0\r\n\r\nx\r\n").expect("a reply").is_positive());
    sink.wait_for(1);
    let before = hub.descriptors();
    let chunks = "EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 5\r\nab\r\ncBDAT 300000\r\n";
    let lines = "EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nSubject: x\r\n\r\n..ab\r\n.\r";
    for stream in [chunks, lines].map(str::as_bytes) {
        for cut in 0..=stream.len() {
            let mut talk = Talk::connect(hub.address()).expect("a connection");
            talk.write(&stream[..cut]).expect("a connection");
            // Some end with a reset, for they leave the greeting unread; some in good order.
            if cut % 2 == 0 {
                talk.finish().expect("our side");
                while talk.reply().is_ok() {}
            }
        }
    }
    let large = vec![b'x'; 290_000];
    // Between the dot and its reply: whoever leaves then may have sent it.
    let whole = lines.replace("RCPT TO:<b@", "RCPT TO:<late@") + "\n";
    for last in [&[chunks.as_bytes(), &large].concat(), whole.as_bytes()] {
        let mut talk = Talk::connect(hub.address()).expect("a connection");
        talk.write(last).expect("a connection");
        drop(talk);
    }
    until("its descriptors back", || (hub.descriptors() <= before).then_some(()));
    assert!(first.send("a@a.test", &["b@b.test"], b"Subject: 1\r\n\r\nx\r\n").expect("a reply").is_positive());
    let known = |taken: &[Taken]| taken.iter().filter(|one| one.to != ["late@b.test"]).count();
    sink.wait("the second", |taken| known(taken) == 2);
    hub.stop();
    let taken = sink.taken();
    assert_eq!(known(&taken), 2, "nothing incomplete is delivered");
    assert!(taken.len() <= 3 && taken.iter().all(|one| one.to != ["late@b.test"] || one.content.ends_with(b".ab\r\n")));
}

/// All files below a folder, with their folders.
fn everything(folder: &Path) -> BTreeSet<std::path::PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(everything(&path));
        }
        found.insert(path);
    }
    found
}

#[test]
fn f_144_s_011_s_031_addresses_that_are_tricks_reach_no_path_and_no_header_raw() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    std::fs::create_dir(&store).expect("a folder");
    let role = Role::Mailboxes(Some(store.clone()), Dialect::Smtp);
    let mailboxes = "\"*@dom.test\" = \"all\"\n\"ann@b.test\" = \"ann\"";
    let told = Told { role, ..Told::default() }.with("mailboxes", mailboxes);
    let mut hub = Server::started(told);
    let mut talk = Talk::connect(hub.address()).expect("a connection");
    assert_eq!(talk.reply().expect("a greeting").code, 220);
    assert_eq!(talk.say("EHLO c.test").expect("a reply").code, 250);
    let content = b"Subject: trick\r\n\r\nx\r\n";
    let mut accepted = 0;
    for path in [
        "../../x@dom.test",
        "|prog@dom.test",
        ";cmd@dom.test",
        "$(reboot)@dom.test",
        "`x`@dom.test",
        "..@dom.test",
        ".@dom.test",
        "/etc/passwd@dom.test",
        "\"../../x\"@dom.test",
        "\"a b|c\"@dom.test",
        "\"a\\\\b\"@dom.test",
        "~root@dom.test",
        "%2e%2e%2fx@dom.test",
        "x/../../y@dom.test",
        "\"a\\\"<b>\"@dom.test",
        "../ann@b.test",
        "x@[127.0.0.1%25eth0]",
        "x@dom.test.",
        "\"a\rb\"@dom.test",
        "\"a\0b\"@dom.test",
    ] {
        // As a sender too: it stands in Return-Path.
        let sender = talk.say(&format!("MAIL FROM:<{path}>")).expect("a reply");
        if sender.is_positive() {
            assert!(talk.say("RCPT TO:<x@dom.test>").expect("a reply").is_positive());
            assert_eq!(talk.data(content).expect("a reply").code, 250, "{path}");
            accepted += 1;
        }
        talk.say("RSET").expect("a reply");
        talk.say("MAIL FROM:<a@a.test>").expect("a reply");
        let reply = talk.say(&format!("RCPT TO:<{path}>")).expect("a reply");
        if reply.is_positive() {
            assert_eq!(talk.data(content).expect("a reply").code, 250, "{path}");
            accepted += 1;
        } else {
            assert_eq!(reply.code / 100, 5, "{path:?}: {reply:?}");
            talk.say("RSET").expect("a reply");
        }
    }
    assert!(accepted > 5, "some of them are addresses");
    hub.stop();
    let files = everything(folder.path());
    let mails: Vec<_> = files.iter().filter(|path| path.parent().is_some_and(|new| new.ends_with("all/new"))).collect();
    assert_eq!(mails.len(), accepted, "{files:?}");
    assert!(files.iter().all(|path| path.starts_with(&store)), "{files:?}");
    let below: BTreeSet<_> =
        std::fs::read_dir(&store).expect("ours").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(below, BTreeSet::from(["all".into()]), "no folder that the configuration does not name");
    for mail in mails {
        let octets = std::fs::read(mail).expect("a mail of ours");
        let header = octets.split(|octet| *octet == b'\n').take_while(|line| line.len() > 1);
        for line in header {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            assert!(line.iter().all(|octet| (b' '..127).contains(octet) || *octet == b'\t'), "{}", line.escape_ascii());
        }
    }
}

/// What one GET brings, head and all.
fn get(at: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("UTF-8");
    text
}

#[test]
fn s_040_what_a_message_holds_and_who_else_gets_it_is_said_nowhere() {
    let sink = Sink::start(Offers { chunking: true });
    let more = vec![
        ("log", "level = \"trace\"".to_owned()),
        ("server", "metrics = \"127.0.0.1:0\"".to_owned()),
        ("delivery", "recipients_max = 100".to_owned()),
    ];
    let mut hub = Server::started(Told { more, ..Told::relaying_to(sink.address()) });
    let content = b"Subject: canary-subject\r\nBcc: hidden@b.test\r\n\r\ncanary-body\r\n";
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let people = ["ann@b.test", "bob@b.test", "hidden@b.test"];
    assert!(talk.send("canary-sender@a.test", &people, content).expect("a reply").is_positive());
    // One that is refused at its end, and one that breaks off.
    assert_eq!(talk.envelope("a@a.test", &people).map_err(|error| error.kind()), Ok(()));
    assert_eq!(talk.data(b"Subject: canary-subject\r\n\r\ncanary-body\n\r\n").expect("a reply").code, 550);
    talk.envelope("a@a.test", &people).expect("an envelope");
    talk.write(b"DATA\r\nSubject: canary-subject\r\n\r\ncanary-body").expect("a connection");
    drop(talk);
    let taken = sink.wait_for(1);
    let metrics = hub.ready()["metrics"].as_str().expect("metrics are served").to_owned();
    let said = [get(&metrics, "/metrics"), hub.status().to_string(), hub.process().said().join("\n")];
    hub.stop();
    assert!(said[0].contains("messages_accepted"), "metrics: {}", said[0]);
    assert!(said[2].contains("engine::"), "it logs: {}", said[2]);
    for secret in ["canary-subject", "canary-body"] {
        assert!(said.iter().all(|text| !text.contains(secret)), "{secret}: {said:?}");
    }
    for person in people {
        assert!(said.iter().all(|text| !text.contains(person)), "S-017, {person}: {said:?}");
    }
    let ours = taken[0].content.strip_suffix(&content[..]).expect("content as it was sent");
    let ours = String::from_utf8_lossy(ours);
    assert!(people.iter().all(|person| !ours.contains(person)), "with several recipients none is named: {ours}");
}

#[test]
fn s_002_the_kernel_polls_no_ring_of_ours() {
    let nowhere = Nowhere::hold();
    let mut hub = Server::started(Told::relaying_to(nowhere.address()));
    let has_rings = hub.ready()["driver"] != "epoll";
    let folder = format!("/proc/{}", hub.process().pid());
    let mut rings = 0;
    for entry in std::fs::read_dir(format!("{folder}/fd")).expect("it runs") {
        let entry = entry.expect("an entry");
        let what = std::fs::read_link(entry.path()).unwrap_or_default();
        if what.to_string_lossy().contains("[io_uring]") {
            rings += 1;
            let info = std::fs::read_to_string(format!("{folder}/fdinfo/{}", entry.file_name().to_string_lossy()));
            let info = info.expect("its own description");
            let thread = info.lines().find_map(|line| line.strip_prefix("SqThread:")).map(str::trim);
            assert!(matches!(thread, None | Some("-1")), "{info}");
            assert!(!info.contains("Personalities") || info.lines().all(|line| !line.contains("uid=")), "{info}");
        }
    }
    assert_eq!(rings > 0, has_rings, "{rings} rings, {}", hub.ready());
    hub.stop();
}

/// A body beyond the most that is taken, however long it goes on: 552 at its end, and neither disk nor memory keep any of it.
#[test]
fn f_141_bodies_beyond_the_most_cost_neither_disk_nor_memory() {
    tests::drivers("f_141_bodies_beyond_the_most_cost_neither_disk_nor_memory").for_each(beyond_the_most);
}

fn beyond_the_most(driver: &'static str) {
    let nowhere = Nowhere::hold();
    let more = vec![("receive", "size_max = \"2 MiB\"".to_owned())];
    let mut hub = Server::started(Told { driver, more, ..Told::relaying_to(nowhere.address()) });
    let line = b"0123456789abcdef0123456789abcdef0123456789abcdef\r\n".repeat(1000);
    let spool = |hub: &Server| -> u64 {
        let files = everything(&hub.data());
        files.iter().filter_map(|path| path.metadata().ok()).filter(|meta| meta.is_file()).map(|meta| meta.len()).sum()
    };
    let mut most = 0;
    for round in 0..12 {
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        talk.envelope("a@a.test", &["b@b.test"]).expect("an envelope");
        talk.write(b"DATA\r\n").expect("a connection");
        assert_eq!(talk.reply().expect("a reply").code, 354);
        for _ in 0..160 {
            talk.write(&line).expect("it goes on reading");
        }
        talk.write(b".\r\n").expect("a connection");
        assert_eq!(talk.reply().expect("a reply").code, 552, "round {round}");
        most = most.max(spool(&hub));
    }
    // Eight megabytes each, two of them written before it was too much: twelve times as much fits in no four segments.
    assert!(most <= 4 * (4 << 20) + (1 << 20), "{most} octets in the spool");
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    assert!(talk.send("a@a.test", &["b@b.test"], b"Subject: x\r\n\r\nx\r\n").expect("a reply").is_positive());
    assert_eq!(hub.queued(), 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.process().pid())).expect("it runs");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    assert!(peak.expect("a peak") < 200 << 10, "{peak:?} KiB");
    hub.stop();
}
