//! The control plane beside shards that only play their part: ready, reports, reload, drain, garbage, and shards that fail.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use arc_swap::ArcSwap;
use engine::control::{Control, ControlError, Fallen, Plan, Serving};
use engine::route::Snapshot;
use engine::settings::{Host, Listener, NextHop, Profile, Protocol, Receive, Role, Settings};
use engine::track::counters::Counter;
use engine::track::desk::{Failure, Links, Notice, Order, Ready, ShardLink};
use engine::track::report::{QueueReport, ShardReport, Status};
use engine::wire::Span;
use rustix::process::{Signal, getpid, kill_process};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Signals reach every control plane of this process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

type Heard = mpsc::Sender<(Order, Vec<SocketAddr>)>;

/// How a shard plays.
#[derive(Clone, Copy, PartialEq)]
enum Play {
    Good,
    /// Serves, and answers nothing any more.
    Stuck,
    /// Cannot begin.
    Fails {
        usage: bool,
    },
    /// Serves, and its thread ends.
    Dies,
    /// Never begins: its thread ended by an error.
    Falls,
}

struct World {
    _alone: MutexGuard<'static, ()>,
    folder: tempfile::TempDir,
    serving: Option<Serving>,
    ended: JoinHandle<Result<(), ControlError>>,
    /// What shard 0 heard, besides orders to report.
    heard: mpsc::Receiver<(Order, Vec<SocketAddr>)>,
    reloaded: Arc<Mutex<Result<Settings, String>>>,
    began: Instant,
}

fn settings(folder: &tempfile::TempDir, shards: usize) -> Settings {
    let mut settings = Settings::of(Profile::Bench);
    settings.server.cores = vec![None; shards];
    settings.server.admin = Some(folder.path().join("admin.sock"));
    settings.server.metrics = Some("127.0.0.1:0".parse().unwrap());
    settings.server.drain_wait = Span::millis(100);
    settings.listeners.push(Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        role: Role::Hub,
        protocol: Protocol::Smtp,
        receive: Receive::of(Profile::Bench, Role::Hub),
    });
    settings.next_hops.insert("smart".into(), hop("127.0.0.1:2600"));
    settings.routes.rest = Some("smart".into());
    settings
}

fn hop(address: &str) -> NextHop {
    NextHop::of(vec![Host::Address(address.parse().unwrap())], Protocol::Smtp)
}

/// One shard's part.
fn play(number: usize, link: ShardLink, play: Play, routes: &ArcSwap<Snapshot>, heard: &Heard) {
    let me = thread::current();
    link.desk.wake_by(move || me.unpark());
    match play {
        Play::Fails { usage } => {
            let text = "spool: /x is not ours; write another".to_owned();
            link.desk.tell(Notice::Failed(Failure { usage, text })).unwrap();
            return;
        }
        Play::Falls => return,
        Play::Good | Play::Stuck | Play::Dies => {
            let ready = Ready { listen: vec!["127.0.0.1:2525".parse().unwrap()], commit: Some("direct") };
            link.desk.tell(Notice::Ready(ready)).unwrap();
        }
    }
    if play == Play::Dies {
        return;
    }
    link.tally.add(Counter::MessagesAccepted, 21);
    loop {
        match link.desk.take().filter(|_| play != Play::Stuck) {
            None => thread::park(),
            Some(Order::Report(ticket)) => {
                let queue = QueueReport { next_hop: "smart".into(), waiting: 1, ..QueueReport::default() };
                let report = ShardReport { queues: vec![queue], counts: link.tally.counts() };
                link.desk.tell(Notice::Report(ticket, Box::new(report))).unwrap();
            }
            Some(order) => {
                let drains = matches!(order, Order::Drain(_));
                if number == 0 {
                    let _unheard = heard.send((
                        order,
                        routes.load().table.next_hops()[0].hosts.iter().map(|host| host.address).collect(),
                    ));
                }
                if drains {
                    link.desk.tell(Notice::Stopped { left: 2 }).unwrap();
                    return;
                }
            }
        }
    }
}

fn start(plays: &[Play]) -> World {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let settings = Arc::new(settings(&folder, plays.len()));
    let reloaded = Arc::new(Mutex::new(Err("r.toml:1:1: broken; mend it".to_owned())));
    let reload = reloaded.clone();
    let plan =
        Plan { settings, reload: Box::new(move || reload.lock().unwrap().clone()), version: "0.0.1", git: Some("abc") };
    let (control, links): (Control, Links) = Control::prepare(plan).unwrap();
    assert_eq!(links.shards(), plays.len());
    let (hear, heard) = mpsc::channel();
    let threads: Vec<JoinHandle<()>> = plays
        .iter()
        .copied()
        .enumerate()
        .map(|(number, how)| {
            let (link, hear, routes) = (links.take(number).unwrap(), hear.clone(), control.routes());
            thread::spawn(move || play(number, link, how, &routes, &hear))
        })
        .collect();
    assert!(links.take(0).is_none(), "a link is taken once");
    drop(hear);
    let (tell, told) = mpsc::channel();
    let fallen = plays.iter().position(|play| *play == Play::Falls);
    let ended = thread::spawn(move || {
        let join = move || {
            // Its own driver failed; who waits for the threads hears of it before the others end.
            if let Some(shard) = fallen {
                return Err(Fallen { shard, error: io::ErrorKind::OutOfMemory.into() });
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            Ok(())
        };
        control.run("fake", join, |serving| tell.send(serving.clone()).unwrap())
    });
    // Nobody is told when a shard fails: the sender goes away.
    let serving = told.recv().ok();
    World { _alone: alone, folder, serving, ended, heard, reloaded, began: Instant::now() }
}

impl World {
    fn admin(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn status(&self) -> Status {
        let mut stream = UnixStream::connect(self.admin()).unwrap();
        stream.write_all(b"{\"ringpost\":1,\"ask\":\"status\"}\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        serde_json::from_value(answer["status"].clone()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(getpid(), signal).unwrap();
    }

    fn end(self) -> Result<(), ControlError> {
        self.signal(Signal::TERM);
        self.ended.join().unwrap()
    }
}

#[test]
fn it_serves_answers_and_drains() {
    let world = start(&[Play::Good, Play::Good]);
    let serving = world.serving.clone().unwrap();
    assert_eq!(serving.listen, ["127.0.0.1:2525".parse().unwrap()]);
    assert_eq!((serving.driver, serving.commit), ("fake", Some("direct")));
    let status = world.status();
    assert!(status.healthy, "{status:?}");
    assert_eq!(
        (status.state.as_str(), status.version.as_str(), status.git.as_deref()),
        ("serving", "0.0.1", Some("abc"))
    );
    assert_eq!((status.queues.len(), status.queues[0].waiting), (1, 2));
    assert_eq!(status.counters["messages_accepted"], 42);

    let mut metrics = TcpStream::connect(serving.metrics.unwrap()).unwrap();
    metrics.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    metrics.read_to_string(&mut text).unwrap();
    assert!(text.contains("ringpost_messages_accepted_total{shard=\"1\"} 21"), "{text}");
    assert!(text.contains("commit=\"abc\""), "{text}");

    let admin = world.admin();
    world.end().unwrap();
    assert!(!admin.exists(), "the socket is taken away");
}

#[test]
fn f_177_a_bad_file_changes_nothing_and_a_good_one_publishes_its_routes() {
    let world = start(&[Play::Good]);
    world.signal(Signal::HUP);
    let refused = loop {
        let status = world.status();
        if status.reload.refused == 1 {
            break status.reload;
        }
    };
    assert_eq!((refused.done, refused.error.as_deref()), (0, Some("r.toml:1:1: broken; mend it")));
    assert!(world.heard.try_recv().is_err(), "no shard hears of it");

    let mut fresh = settings(&world.folder, 1);
    fresh.next_hops.insert("smart".into(), hop("127.0.0.1:2601"));
    fresh.server.fqdn = "needs-a-restart.test".into();
    *world.reloaded.lock().unwrap() = Ok(fresh);
    world.signal(Signal::HUP);
    let (order, hosts) = world.heard.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!((order, hosts), (Order::Routes, vec!["127.0.0.1:2601".parse().unwrap()]));
    // A status may be as old as a tenth of a second.
    let status = loop {
        let status = world.status();
        if status.reload.done == 1 {
            break status;
        }
    };
    assert_eq!((status.reload.refused, status.reload.error), (1, None));
    assert_eq!(status.server, "localhost", "everything else stays until a restart");
    world.end().unwrap();
}

#[test]
fn f_180_a_stuck_shard_is_told_and_neither_status_nor_the_end_waits_for_it() {
    let world = start(&[Play::Good, Play::Stuck]);
    let status = world.status();
    assert!(!status.healthy);
    assert_eq!(status.shards.iter().map(|shard| shard.answered).collect::<Vec<_>>(), [true, false]);
    // More asking than a desk has room for.
    for _ in 0..20 {
        assert!(!world.status().healthy);
    }
    let began = world.began;
    let ended = world.end();
    assert!(matches!(&ended, Err(ControlError::Late(shards)) if *shards == [1]), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "I-12: in bounded time");
}

#[test]
fn a_shard_that_cannot_begin_ends_the_start_with_its_reason() {
    for usage in [true, false] {
        let world = start(&[Play::Good, Play::Fails { usage }]);
        assert_eq!(world.serving, None);
        let ended = world.ended.join().unwrap();
        let text = match (&ended, usage) {
            (Err(ControlError::Usage(text)), true) | (Err(ControlError::Died(text)), false) => text,
            _ => panic!("{ended:?}"),
        };
        assert_eq!(text, "spool: /x is not ours; write another");
    }
}

#[test]
fn shards_that_end_by_themselves_end_the_server() {
    let world = start(&[Play::Dies, Play::Dies]);
    let ended = world.ended.join().unwrap();
    assert!(matches!(ended, Err(ControlError::Died(_))), "{ended:?}");
}

#[test]
fn a_shard_whose_driver_fails_ends_the_server_beside_one_that_lives() {
    let world = start(&[Play::Good, Play::Falls]);
    assert_eq!(world.serving, None, "it was never ready");
    let ended = world.ended.join().unwrap();
    assert!(matches!(&ended, Err(ControlError::Died(text)) if text == "shard 1 ended: out of memory"), "{ended:?}");
}

#[test]
fn f_010_a_signal_ends_a_start_that_takes_long() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let settings = Arc::new(settings(&folder, 1));
    let admin = settings.server.admin.clone().unwrap();
    let plan = Plan { settings, reload: Box::new(|| Err(String::new())), version: "", git: None };
    let (mut control, _links) = Control::prepare(plan).unwrap();
    assert_eq!(control.unless_ended(|| 7).unwrap(), Some(7), "nobody asked");
    for signal in [Signal::TERM, Signal::INT] {
        // The work is over when the test is.
        let (over, reading) = mpsc::channel::<()>();
        let work = move || {
            kill_process(getpid(), signal).unwrap();
            let _over = reading.recv();
        };
        assert_eq!(control.unless_ended(work).unwrap(), None, "{signal:?}");
        drop(over);
    }
    control.abandon();
    assert!(!admin.exists(), "the socket is taken away");
}

#[test]
fn addresses_that_cannot_be_had_are_the_user_s_to_mend() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(&folder, 1);
    let prepare = |settings: &Settings| {
        let plan = Plan {
            settings: Arc::new(settings.clone()),
            reload: Box::new(|| Err(String::new())),
            version: "",
            git: None,
        };
        match Control::prepare(plan) {
            Err(ControlError::Usage(text)) => text,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("prepared"),
        }
    };
    settings.server.metrics = Some(taken.local_addr().unwrap());
    assert!(prepare(&settings).starts_with("server.metrics: cannot listen on 127.0.0.1:"));
    settings.server.metrics = None;
    settings.server.admin = Some(folder.path().join("missing/admin.sock"));
    assert!(prepare(&settings).starts_with("server.admin: cannot listen on /"));
}
