//! The program `ringpost run` as a real process: how it starts, what it refuses, what it is while it runs, how it ends.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../../tests/src/skip.rs"]
mod skip;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The user that servers become here; every system has one.
const NOBODY: &str = "nobody";

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RINGPOST_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder with a configuration file and a data folder.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::set_permissions(folder.path().join("data"), Permissions::from_mode(0o700)).unwrap();
        let place = Place { folder };
        place.write("[next_hop.far]\nhosts = [\"127.0.0.1:9\"]\n[routes]\n\"*\" = \"far\"\n", "127.0.0.1:0", "");
        place
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("r.toml")
    }

    fn write(&self, routes: &str, listen: &str, server: &str) {
        let text = format!(
            "profile = \"bench\"\n[server]\ndata_dir = {:?}\nshards = 2\nmetrics = \"127.0.0.1:0\"\n{server}\
             [spool]\nsegment_size = \"4 MiB\"\nfree_min = \"1 MiB\"\n\
             [[listener]]\naddress = \"{listen}\"\nrole = \"hub\"\n{routes}",
            self.data()
        );
        fs::write(self.file(), text).unwrap();
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = program();
        command.args(["run", "--config"]).arg(self.file()).args(more);
        command
    }

    /// A start that is refused.
    fn refused(&self, more: &[&str]) -> (Option<i32>, String) {
        ended(&mut self.command(more))
    }

    fn start(&self) -> Server {
        Server::start(self.command(&["--allow-root"]))
    }
}

fn ended(command: &mut Command) -> (Option<i32>, String) {
    let output: Output = command.output().unwrap();
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A process that is killed with the test.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// A running server.
struct Server {
    process: Owned,
    ready: Value,
}

impl Server {
    fn start(mut command: Command) -> Server {
        let mut process = Owned(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(process.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let Some(text) = line.strip_prefix("ready ") else {
            let ended = process.0.wait().unwrap();
            panic!("not ready: {line:?}, {ended}");
        };
        let ready = serde_json::from_str(text).unwrap();
        Server { process, ready }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.process.0.id().to_string()).join(name)
    }

    /// A session with its first listener, behind EHLO, and what it says next.
    fn greeted(&self) -> (TcpStream, impl Iterator<Item = String>) {
        let mut client = TcpStream::connect(self.ready["listen"][0].as_str().unwrap()).unwrap();
        let mut replies = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
        assert!(replies.next().is_some_and(|greeting| greeting.starts_with("220 ")));
        client.write_all(b"EHLO client.test\r\n").unwrap();
        assert!(replies.by_ref().take_while(|line| line.starts_with("250")).any(|line| line.starts_with("250 ")));
        (client, replies)
    }

    /// Ends it as a service manager does.
    fn end(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.process.0.wait().unwrap().code()
    }
}

fn status(socket: &Path) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"{\"ringpost\":1,\"ask\":\"status\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str::<Value>(&line).unwrap()["status"].clone()
}

#[test]
fn it_says_that_it_is_ready_serves_and_ends_cleanly_by_either_signal() {
    let place = Place::new();
    for signal in [Signal::TERM, Signal::INT] {
        let server = place.start();
        let listen = server.ready["listen"].as_array().unwrap();
        assert_eq!(listen.len(), 1, "shards share a port: {}", server.ready);
        assert!(server.ready["metrics"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(["direct", "buffered"].contains(&server.ready["commit"].as_str().unwrap()));
        assert!(["uring", "tokio-uring", "epoll"].contains(&server.ready["driver"].as_str().unwrap()));
        let mut client = TcpStream::connect(listen[0].as_str().unwrap()).unwrap();
        let mut greeting = [0; 4];
        client.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"220 ");
        drop(client);
        let status = status(&place.data().join("admin.sock"));
        assert_eq!((status["state"].as_str(), status["healthy"].as_bool()), (Some("serving"), Some(true)), "{status}");
        assert_eq!(status["queues"], serde_json::json!([]), "a queue comes with its first message: {status}");
        assert_eq!(server.end(signal), Some(0));
        assert!(!place.data().join("admin.sock").exists());
    }
}

#[test]
fn s_001_root_is_refused_without_a_user_to_become() {
    if !is_root() {
        return skip::skip("s_001_root_is_refused_without_a_user_to_become", "needs to be root");
    }
    let place = Place::new();
    let (code, said) = place.refused(&[]);
    assert_eq!(code, Some(2));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("server.user") && said.contains("--allow-root") && said.contains("user = "), "{said}");
    place.write(
        "[next_hop.far]\nhosts = [\"127.0.0.1:9\"]\n[routes]\n\"*\" = \"far\"\n",
        "127.0.0.1:0",
        "user = \"no-such-user\"\n",
    );
    let (code, said) = place.refused(&[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("there is no user \"no-such-user\""), "{said}");
    assert_eq!(fs::read_dir(place.data()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn s_001_s_005_s_007_privileges_are_given_up_before_anything_else_runs() {
    if !is_root() {
        return skip::skip("s_001_s_005_s_007_privileges_are_given_up_before_anything_else_runs", "needs to be root");
    }
    let user = engine::sys::process::user(NOBODY).unwrap().unwrap();
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let low = (600..1_024).rev().find(free).unwrap();
    for (port, kept) in [(0, "0000000000000000"), (low, "0000000000000400")] {
        let place = Place::new();
        fs::set_permissions(place.folder.path(), Permissions::from_mode(0o711)).unwrap();
        chown(place.data(), Some(user.uid), Some(user.gid)).unwrap();
        let routes = "[next_hop.far]\nhosts = [\"127.0.0.1:9\"]\n[routes]\n\"*\" = \"far\"\n";
        place.write(routes, &format!("127.0.0.1:{port}"), &format!("user = \"{NOBODY}\"\n"));
        let server = Server::start(place.command(&[]));
        let mut threads = 0;
        for task in fs::read_dir(server.proc("task")).unwrap() {
            let Ok(text) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
            threads += 1;
            let line = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(line("Uid:"), vec![user.uid.to_string(); 4]);
            assert_eq!(line("Gid:"), vec![user.gid.to_string(); 4]);
            assert!(!line("Groups:").contains(&"0".to_owned()), "root's groups are gone");
            assert_eq!((line("CapEff:"), line("CapPrm:")), (vec![kept.to_owned()], vec![kept.to_owned()]));
            assert_eq!(line("CapInh:"), ["0000000000000000"]);
            assert_eq!(line("NoNewPrivs:"), ["1"]);
        }
        assert!(threads > 2, "every thread was looked at: {threads}");
        leaves_nothing_to_look_at(&server, &place, user.uid);
        assert_eq!(server.end(Signal::TERM), Some(0));
    }
}

/// Whoever starts it: no core file, no memory for others to read, no file that others may open.
fn leaves_nothing_to_look_at(server: &Server, place: &Place, uid: u32) {
    let limits = fs::read_to_string(server.proc("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "S-005");
    // What cannot be dumped belongs to root, so that its user cannot look inside.
    assert_eq!(fs::metadata(server.proc("mem")).unwrap().uid(), 0, "S-005");
    let mut entries = 0;
    for entry in fs::read_dir(place.data()).unwrap() {
        let found = entry.unwrap().metadata().unwrap();
        assert_eq!((found.uid(), found.mode() & 0o077), (uid, 0), "S-007");
        entries += 1;
    }
    assert!(entries > 1, "a spool was made");
}

#[test]
fn s_005_s_007_there_is_nothing_to_look_at_whoever_starts_it() {
    let place = Place::new();
    let server = place.start();
    leaves_nothing_to_look_at(&server, &place, rustix::process::geteuid().as_raw());
    assert_eq!(server.end(Signal::TERM), Some(0));
}

#[test]
fn s_007_f_032_a_data_folder_that_others_may_read_is_refused() {
    let place = Place::new();
    fs::set_permissions(place.data(), Permissions::from_mode(0o755)).unwrap();
    let (code, said) = place.refused(&["--allow-root"]);
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("has mode 0755; say chmod 0700"), "{said}");
    fs::remove_dir(place.data()).unwrap();
    let (code, said) = place.refused(&["--allow-root"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("does not exist; make it: install -d -m 0700"), "{said}");
    assert!(!place.data().exists(), "an unmounted disk is not replaced by an empty spool");
}

#[test]
fn f_033_a_second_server_on_the_same_folder_is_refused() {
    let place = Place::new();
    let server = place.start();
    let (code, said) = place.refused(&["--allow-root", "--admin", "off"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("another server runs on"), "{said}");
    assert_eq!(server.end(Signal::TERM), Some(0));
}

#[test]
fn s_013_role_ports_stay_on_loopback() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:2525"] {
        let roles: [&[&str]; 3] =
            [&["hub", "--data-dir", "/nonexistent"], &["frontend"], &["mailbox-delivery", "--store", "null"]];
        for role in roles {
            let mut command = program();
            command.args(["run", "--allow-root", "--next-hop", "127.0.0.1:9", "--listen", listen, "--role"]).args(role);
            let (code, said) = ended(&mut command);
            assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
            assert!(said.contains("is beyond loopback, and role ports speak no TLS yet"), "{said}");
        }
    }
}

#[test]
fn an_address_that_is_taken_is_the_user_s_to_mend() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _holder = TcpListener::bind(taken).unwrap();
    let (code, said) = place.refused(&["--allow-root", "--listen", &taken.to_string()]);
    assert_eq!(code, Some(2), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("ringpost: --listen: listener[0].address: cannot listen on 127.0.0.1:"), "{said}");
}

#[test]
fn what_only_the_start_finds_out_is_told_with_its_place_in_the_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let routes = "[next_hop.a]\nhosts = [\"127.0.0.1:9\"]\n[routes]\n\"*\" = \"a\"\n";
    let place = Place::new();
    let refused = |listen: &str, server: &str, wanted: &str| {
        place.write(routes, listen, server);
        let (code, said) = place.refused(&["--allow-root"]);
        let last = said.lines().last().unwrap_or_default();
        assert_eq!(code, Some(2), "{said}");
        assert!(last.contains(wanted) && last.contains("; "), "{wanted}: {said}");
    };
    let letter = place.data().join("letter.txt");
    fs::write(&letter, "not a spool").unwrap();
    for mode in [0o700, 0o755] {
        // Who named a folder of other things must not be told to close it.
        fs::set_permissions(place.data(), Permissions::from_mode(mode)).unwrap();
        refused("127.0.0.1:0", "", "is no folder of ours and not empty: letter.txt; name an empty folder");
    }
    fs::remove_file(letter).unwrap();
    refused("127.0.0.1:0", "", "r.toml:3:12: server.data_dir: ");
    fs::set_permissions(place.data(), Permissions::from_mode(0o700)).unwrap();
    refused(&address, "", "r.toml:10:11: listener[0].address: cannot listen on 127.0.0.1:");
    refused("127.0.0.1:0", "admin = \"/nonexistent/a\"\n", "r.toml:6:9: server.admin: cannot listen on /nonexistent/a");
}

#[test]
fn f_177_a_bad_file_at_sighup_changes_nothing_and_names_its_place() {
    let place = Place::new();
    let server = place.start();
    let socket = place.data().join("admin.sock");
    place.write("[next_hop.far]\nhosts = [\"127.0.0.1:0\"]\n[routes]\n\"*\" = \"far\"\n", "127.0.0.1:0", "");
    server.signal(Signal::HUP);
    let until = Instant::now() + Duration::from_secs(30);
    let seen = loop {
        let status = status(&socket);
        if status["reload"]["refused"] == 1 {
            break status;
        }
        assert!(Instant::now() < until, "{status}");
    };
    let error = seen["reload"]["error"].as_str().unwrap();
    assert!(error.contains("r.toml:13:10: next_hop.far.hosts: \"127.0.0.1:0\" is not a host"), "{error}");
    place.write("[next_hop.near]\nhosts = [\"127.0.0.1:10\"]\n[routes]\n\"*\" = \"near\"\n", "127.0.0.1:0", "");
    server.signal(Signal::HUP);
    let wait_for = |is: &dyn Fn(&Value) -> bool| loop {
        let status = status(&socket);
        if is(&status) {
            break;
        }
        assert!(Instant::now() < until, "{status}");
    };
    wait_for(&|status| status["reload"]["done"] == 1);
    let (mut client, replies) = server.greeted();
    client.write_all(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 7 LAST\r\nhello\r\n").unwrap();
    assert!(replies.take(3).all(|line| line.starts_with("250 ")), "by the new routes");
    wait_for(&|status| status["queues"][0]["next_hop"] == "near");
    assert_eq!(server.end(Signal::TERM), Some(0));
}

/// A domain without a dot that a new route names is one of ours from the reload on, and another's no more.
#[test]
fn m_028_domains_of_one_label_follow_the_routes_of_the_file() {
    let place = Place::new();
    let far = "[next_hop.far]\nhosts = [\"127.0.0.1:9\"]\n[routes]\n\"*\" = \"far\"\n";
    place.write(&format!("{far}\"old\" = \"far\"\n"), "127.0.0.1:0", "");
    let server = place.start();
    let takes = |domain: &str| {
        let (mut client, mut replies) = server.greeted();
        client.write_all(format!("MAIL FROM:<a@a.test>\r\nRCPT TO:<b@{domain}>\r\n").as_bytes()).unwrap();
        replies.nth(1).unwrap().starts_with("250 ")
    };
    assert_eq!((takes("old"), takes("new")), (true, false));
    place.write(&format!("{far}\"new\" = \"far\"\n"), "127.0.0.1:0", "");
    server.signal(Signal::HUP);
    let until = Instant::now() + Duration::from_secs(30);
    // Two shards take the word each in its own time.
    while (0..8).any(|_| (takes("old"), takes("new")) != (false, true)) {
        assert!(Instant::now() < until, "the new route's name does not count");
    }
    assert_eq!(server.end(Signal::TERM), Some(0));
}

/// A hub that nothing was ever sent to is not called alive; one that refused connections says so.
#[test]
fn f_100_a_hub_is_shown_as_what_is_known_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = program();
    command.args(["run", "--role", "frontend", "--listen", "127.0.0.1:0", "--next-hop", &nobody, "--allow-root"]);
    let server = Server::start({
        command.arg("--admin").arg(&socket);
        command
    });
    let hub = || status(&socket)["queues"][0]["hosts"][0].clone();
    assert_eq!((&hub()["health"], &hub()["last_error"]), (&"unknown".into(), &Value::Null));
    let (mut client, replies) = server.greeted();
    client.write_all(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 7 LAST\r\nhello\r\n").unwrap();
    let last = replies.take(3).last();
    assert!(last.as_ref().is_some_and(|line| line.starts_with("451 4.4.0 ")), "{last:?}");
    let until = Instant::now() + Duration::from_secs(30);
    while (&hub()["health"], &hub()["last_error"]) != (&"dead".into(), &"connection refused".into()) {
        assert!(Instant::now() < until, "{}", hub());
    }
    assert_eq!(server.end(Signal::TERM), Some(0));
}

#[test]
fn f_180_f_181_garbage_and_floods_of_questions_harm_nobody() {
    let place = Place::new();
    let server = place.start();
    let socket = place.data().join("admin.sock");
    let metrics = server.ready["metrics"].as_str().unwrap().to_owned();
    let flood: Vec<_> = (0..8)
        .map(|number: u8| {
            let (socket, metrics) = (socket.clone(), metrics.clone());
            std::thread::spawn(move || {
                for round in 0..50_u8 {
                    let noise: Vec<u8> =
                        (0..200_u8).map(|octet| octet.wrapping_mul(number).wrapping_add(round)).collect();
                    let mut peer = UnixStream::connect(&socket).unwrap();
                    // Peers beyond the bound are closed while they talk.
                    let _closed = peer.write_all(&noise);
                    let mut scrape = TcpStream::connect(&metrics).unwrap();
                    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
                    let mut text = String::new();
                    scrape.read_to_string(&mut text).unwrap();
                    assert!(text.ends_with("# EOF\n"), "{text}");
                }
            })
        })
        .collect();
    flood.into_iter().for_each(|thread| thread.join().unwrap());
    let status = status(&socket);
    assert_eq!(status["healthy"], true, "{status}");
    assert_eq!(server.end(Signal::TERM), Some(0));
}
