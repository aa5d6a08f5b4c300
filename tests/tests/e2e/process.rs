//! Starts, stops and refusals of the process.

use rustix::process::Signal;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::ledger::{content, sender};
use tests::peers::{free_address, trace_before};
use tests::programs::{Build, ringpost};
use tests::senders::Senders;
use tests::server::{Dialect, Role, Server, Told};
use tests::sink::{Offers, Sink};
use tests::source::root;
use tests::talk::Talk;
use tests::wait::{PATIENCE, until};

/// Runs `ringpost` with these words to its end: exit code and stderr.
fn run(words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(ringpost(Build::Plain)).args(words).output().expect("ringpost runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn send_to(hub: &Server, ids: std::ops::Range<u64>) {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    for id in ids {
        let reply = talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply");
        assert!(reply.is_positive(), "{reply:?}");
    }
}

fn all_came(sink: &Sink, ids: std::ops::Range<u64>) {
    let count = usize::try_from(ids.end - ids.start).expect("few");
    let taken = sink.wait_for(count);
    assert_eq!(taken.len(), count, "nothing comes twice");
    for id in ids {
        let one = taken.iter().find(|one| one.from == sender(id)).unwrap_or_else(|| panic!("{id} did not come"));
        assert!(trace_before(&content(id), &one.content).is_some(), "{id} is changed");
    }
}

/// What waits for a next hop that is down survives a clean stop, a kill, and another number of shards (F-035). It leaves
/// by BDAT and by DATA.
#[test]
fn f_035_what_waits_is_delivered_after_restarts_with_other_shards() {
    for chunking in [true, false] {
        let nobody = free_address();
        let mut hub = Server::started(Told { shards: 2, ..Told::relaying_to(nobody) });
        send_to(&hub, 0..40);
        hub.stop();
        hub.tell(|told| told.shards = 3);
        hub.start();
        send_to(&hub, 40..80);
        hub.kill();
        let sink = Sink::start(Offers { chunking });
        hub.tell(|told| *told = Told::relaying_to(sink.address()));
        hub.start();
        if sink.try_wait(|taken| taken.len() >= 80).is_err() {
            panic!("{} of 80 came, chunking {chunking}: {:#}", sink.taken().len(), hub.status());
        }
        all_came(&sink, 0..80);
        hub.stop();
    }
}

/// A service manager hears that the server is ready, behind which the listeners answer, and that it stops; nothing before.
#[test]
fn a_service_manager_hears_of_readiness_and_of_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("notify");
    let manager = UnixDatagram::bind(&at).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    let heard = || {
        let mut octets = [0; 256];
        let count = manager.recv(&mut octets).expect("a word in time");
        String::from_utf8_lossy(&octets[..count]).trim_end().to_owned()
    };
    let mut hub = Server::new(Told { notify: Some(at.clone()), ..Told::relaying_to(free_address()) });
    hub.start();
    assert_eq!(heard(), "READY=1");
    Talk::hello(hub.address()).expect("who was told ready is answered");
    manager.set_nonblocking(true).expect("an open socket");
    assert_eq!(manager.recv(&mut [0; 1]).expect_err("nothing more is said").kind(), ErrorKind::WouldBlock);
    manager.set_nonblocking(false).expect("an open socket");
    hub.stop();
    assert_eq!(heard(), "STOPPING=1");
}

/// What waited longest leaves first, over restarts too: the messages of every segment in the order in which they were taken.
#[test]
fn what_waited_longest_leaves_first_behind_a_restart() {
    const MESSAGES: u64 = 300;
    let bounds = "connections_per_hop_max = 1\nin_flight_max = 1".to_owned();
    let mut hub = Server::started(Told::relaying_to(free_address()));
    send_to(&hub, 0..MESSAGES / 2);
    // The second life has segments of its own.
    hub.kill();
    hub.start();
    send_to(&hub, MESSAGES / 2..MESSAGES);
    hub.stop();
    let sink = Sink::start(Offers { chunking: true });
    hub.tell(|told| *told = Told::relaying_to(sink.address()).with("delivery", bounds));
    hub.start();
    let taken = sink.wait_for(usize::try_from(MESSAGES).expect("few"));
    let order: Vec<&str> = taken.iter().map(|one| one.from.as_str()).collect();
    let sent: Vec<String> = (0..MESSAGES).map(sender).collect();
    assert_eq!(order, sent);
    hub.stop();
}

/// SIGTERM under full load: every connection ends in order, exit 0, and what was acknowledged comes (F-010, I-12).
#[test]
fn f_010_a_drain_under_load_ends_well_and_loses_nothing() {
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told::relaying_to(sink.address()));
    let senders = Senders::start(4);
    for _ in 0..3 {
        senders.aim(Some(hub.address()));
        let enough = senders.ledger().acked() + 100;
        until("load", || (senders.ledger().acked() >= enough).then_some(()));
        hub.stop();
        senders.aim(None);
        hub.start();
    }
    let ledger = senders.stop();
    sink.wait("everything acknowledged", |taken| ledger.is_all_there(taken));
    hub.stop();
    ledger.judge(&sink.taken()).assert_kept(0);
}

/// Time to drain in the test below.
const DRAIN_WAIT: Duration = Duration::from_secs(6);

/// What a body under way at SIGTERM may expect (F-010, M-012, I-12): it is taken when it ends in time, and told 421 4.3.2
/// when it does not; either way the process ends within its deadline. So it is at a hub, at a front end whose hub has a part
/// of it already, and at mailbox delivery.
#[test]
fn f_010_bodies_under_way_finish_or_are_told_before_the_deadline() {
    for driver in tests::drivers("f_010_bodies_under_way_finish_or_are_told_before_the_deadline") {
        let told = |told: Told| {
            let more = format!("drain_wait = \"{}s\"", DRAIN_WAIT.as_secs());
            Server::started(Told { driver, ..told }.with("server", more))
        };
        let sink = Sink::start(Offers { chunking: true });
        let mut hub = told(Told::relaying_to(sink.address()));
        let behind = Told::relaying_to(sink.address()).with("access", "trusted_front_ends = [\"127.0.0.1\"]");
        let mut behind = Server::started(behind);
        let mut front = told(Told::front_end_of(behind.address()));
        let store = tempfile::tempdir().expect("a folder");
        let role = Role::Mailboxes(Some(store.path().to_owned()), Dialect::Smtp);
        let mailboxes = Told { role, ..Told::default() }.with("mailboxes", "\"bob@b.test\" = \"bob\"");
        let mut mailboxes = told(mailboxes);
        std::thread::scope(|scope| {
            scope.spawn(|| ends_in_time(&mut hub, None, &format!("a hub on {driver}")));
            scope.spawn(|| ends_in_time(&mut front, Some(&mut behind), &format!("a front end on {driver}")));
            scope.spawn(|| ends_in_time(&mut mailboxes, None, &format!("mailbox delivery on {driver}")));
        });
        until("what the front end took", || (behind.counter("recipients_delivered") == 1).then_some(()));
        behind.stop();
        let files = |part: &str| std::fs::read_dir(store.path().join("bob").join(part)).expect("a folder").count();
        assert_eq!((files("new"), files("tmp")), (1, 0), "{driver}: half a body is nobody's");
        // The hub that was stopped may have kept its one for its next life.
        assert!(sink.taken().len() <= 2, "{driver}: half a body is nobody's");
        assert!(sink.taken().iter().all(|one| one.content.ends_with(b"\r\n\r\nwhole\r\n")), "{driver}");
    }
}

/// SIGTERM with three bodies under way, one of which ends: in octets that stand in no server's memory alone, where there is
/// one `behind` it.
fn ends_in_time(server: &mut Server, behind: Option<&mut Server>, what: &str) {
    let half = format!("Subject: half\r\n\r\n{}half a bo", "a line of content, and many of them\r\n".repeat(6_000));
    let begin = |command: &str| {
        let mut talk = Talk::hello(server.address()).expect("a greeting");
        assert!(talk.say("MAIL FROM:<ann@a.test>").expect("a reply").is_positive());
        assert!(talk.say("RCPT TO:<bob@b.test>").expect("a reply").is_positive());
        talk.write(command.as_bytes()).expect("it reads");
        talk
    };
    let mut ends = begin("DATA\r\n");
    assert_eq!(ends.reply().expect("a reply").code, 354, "{what}");
    let mut stalls = [begin("DATA\r\n"), begin(&format!("BDAT 900000 LAST\r\n{half}"))];
    assert_eq!(stalls[0].reply().expect("a reply").code, 354, "{what}");
    stalls[0].write(half.as_bytes()).expect("it reads");
    let all = 2 * half.len() as u64;
    until("both halves to be there", || (server.counter("socket_in_bytes") >= all).then_some(()));
    if let Some(behind) = behind {
        // A front end may hold 64 KiB of each.
        let most = all - 2 * (64 << 10);
        until("most of both to be behind it", || (behind.counter("socket_in_bytes") >= most).then_some(()));
    }
    let began = Instant::now();
    server.process().signal(Signal::TERM);
    // Nobody is let in any more, so the drain has begun.
    until("the listener to close", || Talk::hello(server.address()).is_err().then_some(()));
    ends.write(b"Subject: whole\r\n\r\nwhole\r\n.\r\n").expect("it reads");
    assert_eq!(ends.reply().expect("a reply").code, 250, "{what}");
    assert_eq!(ends.reply().expect("a reply").code, 421, "{what}: nothing more is begun");
    for stalled in &mut stalls {
        let reply = stalled.reply().expect("a reply before the end");
        assert_eq!((reply.code, reply.lines[0].get(..5)), (421, Some("4.3.2")), "{what}");
        assert!(stalled.reply().is_err(), "{what}: closed");
    }
    let ended = server.process().wait(PATIENCE).unwrap_or_else(|| panic!("{what}: it does not end"));
    assert_eq!(ended.code(), Some(0), "{what}: {}", server.process().complaints());
    assert!(began.elapsed() < DRAIN_WAIT, "{what}: {:?}", began.elapsed());
}

/// Runs a hub on this spool folder until it ends by itself: its exit code, and what it said.
fn run_hub_on(data: &Path) -> (Option<i32>, String) {
    let data = data.to_string_lossy();
    let hub = ["run", "--allow-root", "--role", "hub", "--listen", "127.0.0.1:0", "--next-hop", "127.0.0.1:9"];
    run(&[&hub[..], &["--data-dir", &*data]].concat())
}

#[test]
fn f_033_a_second_process_on_one_spool_is_refused() {
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told::relaying_to(sink.address()));
    let data = hub.data();
    let (code, said) = run_hub_on(&data);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&*data.to_string_lossy()), "it names the folder: {said}");
    send_to(&hub, 0..5);
    all_came(&sink, 0..5);
    hub.stop();
}

#[test]
fn f_032_a_spool_folder_that_is_not_there_or_open_to_others_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = folder.path().join("open");
    std::fs::create_dir(&open).expect("a folder");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("our own folder");
    let file = folder.path().join("file");
    std::fs::write(&file, b"not a folder").expect("a file");
    for bad in [&open, &file] {
        let (code, said) = run_hub_on(bad);
        assert_eq!(code, Some(2), "{}: {said}", bad.display());
        assert!(said.contains(&*bad.to_string_lossy()), "it names the folder: {said}");
        assert!(said.trim_end().lines().count() <= 3, "one clear line: {said}");
    }
    assert_eq!(std::fs::read_dir(&open).expect("our own folder").count(), 0, "nothing was written there");
}

#[test]
fn s_007_files_are_ours_alone() {
    let mut hub = Server::started(Told::relaying_to(free_address()));
    send_to(&hub, 0..3);
    let mut folders = vec![hub.data()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).expect("our own folder") {
            let path = entry.expect("an entry").path();
            seen += 1;
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
            }
        }
    }
    assert!(seen > 1, "a spool was made");
    hub.stop();
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn s_001_root_is_refused_unless_allowed_by_name() {
    if !rustix::process::geteuid().is_root() {
        return tests::skip("s_001_root_is_refused_unless_allowed_by_name", "needs to be root");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").to_string_lossy().into_owned();
    let words = ["run", "--role", "hub", "--listen", "127.0.0.1:0", "--next-hop", "127.0.0.1:9", "--data-dir", &data];
    let (code, said) = run(&words);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--allow-root"), "it names the remedy: {said}");
}

#[test]
fn s_013_a_role_port_beyond_loopback_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_string_lossy().into_owned();
    for wide in ["0.0.0.0:0", "[::]:0", "192.0.2.1:25"] {
        let roles: [&[&str]; 3] =
            [&["hub", "--data-dir", &data], &["frontend"], &["mailbox-delivery", "--store", "null"]];
        for role in roles {
            let words = ["run", "--allow-root", "--listen", wide, "--next-hop", "127.0.0.1:9", "--role"];
            let (code, said) = run(&[&words[..], role].concat());
            assert_eq!(code, Some(2), "{wide}, {role:?}: {said}");
            assert!(said.contains("is beyond loopback"), "{wide}, {role:?}: {said}");
        }
    }
}

/// S-016: whoever is neither the server's user nor root is not answered, even where the files would let him in.
#[test]
fn s_016_another_user_is_not_answered_at_the_admin_socket() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return tests::skip("s_016_another_user_is_not_answered_at_the_admin_socket", "needs to be root");
    }
    let mut hub = Server::started(Told::relaying_to(free_address()));
    let socket = hub.data().join("admin.sock");
    let folder = hub.data().parent().expect("a folder").to_owned();
    for (path, mode) in [(&folder, 0o755), (&hub.data(), 0o755), (&socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    }
    // The program may lie where others may not look: they get a copy.
    let program = folder.join("ringpost");
    std::fs::copy(ringpost(Build::Plain), &program).expect("room for a copy");
    let ask = |uid: u32| {
        let mut command = Command::new(&program);
        command.args(["status", "--json", "--admin"]).arg(&socket).uid(uid).gid(uid);
        command.current_dir("/").output().expect("it runs")
    };
    assert!(ask(0).status.success(), "the way is right");
    let refused = ask(NOBODY);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    assert!(!said.contains("Permission denied"), "it got as far as the server: {said}");
    assert!(ask(0).status.success(), "and the server goes on");
    hub.stop();
}

/// S-047: what users build holds neither the hooks, nor the driver that goes wrong, nor what refuses io_uring to itself.
/// `tests/run` looks at the release build in the same way.
#[test]
fn s_047_hooks_are_compiled_out() {
    let holds = |build, name: &str| {
        let program = std::fs::read(ringpost(build)).expect("the program");
        program.windows(name.len()).any(|window| window == name.as_bytes())
    };
    // As they stand in symbols: `engine::io::faulty`, `engine::sys::refuse`.
    for name in ["RINGPOST_KILL_AT", "io6faulty", "sys6refuse"] {
        assert!(!holds(Build::Plain, name), "{name}");
    }
    assert!(
        holds(Build::FailPoints, "RINGPOST_KILL_AT") && holds(Build::Plain, "io5uring"),
        "the search finds what is there"
    );
}

/// S-004, F-045: where io_uring is refused the same program runs on epoll and says so; asked for by name it is exit 2.
#[test]
fn f_045_where_io_uring_is_refused_it_runs_on_epoll() {
    let wrapper = root().join("tests/peers/refuse-uring");
    if !Command::new(&wrapper).arg("true").status().is_ok_and(|status| status.success()) {
        return tests::skip("f_045_where_io_uring_is_refused_it_runs_on_epoll", "python3 or seccomp is not here");
    }
    let sink = Sink::start(Offers { chunking: true });
    let told = Told { under: Some(wrapper.clone()), driver: "auto", ..Told::relaying_to(sink.address()) };
    let mut hub = Server::started(told);
    assert_eq!(hub.ready()["driver"], "epoll");
    send_to(&hub, 0..20);
    all_came(&sink, 0..20);
    // What the probe found, and one warning that says why it is not what was to be had.
    let said = hub.process().said();
    let of = |what: &str| said.iter().filter(|line| line.contains(what)).collect::<Vec<_>>();
    assert!(of("io_uring").len() >= 2, "{said:#?}");
    let warned = of("WARN");
    assert!(warned.len() == 1 && warned[0].contains("io_uring"), "{said:#?}");
    hub.stop();
    let mut command = Command::new(&wrapper);
    command.arg(ringpost(Build::Plain)).args(["run", "--allow-root", "--driver", "uring", "--role", "hub"]);
    command.args(["--listen", "127.0.0.1:0", "--next-hop", "127.0.0.1:9", "--data-dir"]).arg(hub.data());
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--driver: server.driver: the driver uring is not to be had here"), "{said}");
}

#[test]
fn s_021_sessions_that_name_no_recipient_are_counted() {
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told::relaying_to(sink.address()));
    drop(Talk::hello(hub.address()).expect("a greeting"));
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    assert_eq!(talk.send("a@a.test", &["b@b.test"], b"Subject: x\r\n\r\ny\r\n").expect("a reply").code, 250);
    drop(talk);
    until("both to be gone", || (hub.counter("connections_in") == 0).then_some(()));
    assert_eq!(hub.counter("sessions_empty"), 1);
    hub.stop();
}
