//! A hub that runs out of descriptors.

use std::time::Duration;
use tests::ledger::{content, sender};
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::source::root;
use tests::talk::Talk;
use tests::wait::until;

/// CPU time that the process has used, in ticks of 10 ms.
fn cpu_ticks(hub: &mut Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", hub.process().pid())).expect("it runs");
    let behind_the_name = stat.rsplit_once(')').expect("a name").1;
    behind_the_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

fn deliver(hub: &Server, id: u64) {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let reply = talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply");
    assert!(reply.is_positive(), "{reply:?}");
}

/// F-038: the connection to the next hop that nothing uses goes first; then whoever comes is told 421 4.3.2, the hub does
/// not spin, those inside are served, and when descriptors come back so does everything.
#[test]
fn f_038_out_of_descriptors_idle_connections_go_first_and_the_rest_is_told_421() {
    for driver in tests::drivers("f_038_out_of_descriptors_idle_connections_go_first_and_the_rest_is_told_421") {
        let sink = Sink::start(Offers { chunking: true });
        let more = vec![
            ("receive", "connections_per_source_max = 1000".to_owned()),
            ("delivery", "idle_wait = \"10m\"".to_owned()),
        ];
        let under = Some(root().join("tests/peers/few-descriptors"));
        let mut hub = Server::started(Told { driver, more, under, ..Told::relaying_to(sink.address()) });
        deliver(&hub, 1);
        sink.wait_for(1);
        until("an idle connection", || (hub.status()["counters"]["connections_out"] == 1).then_some(()));

        let mut inside = Vec::new();
        let refused = loop {
            let mut talk = Talk::connect(hub.address()).expect("the system accepts");
            let greeting = talk.reply().expect("a greeting");
            match greeting.code {
                220 => inside.push(talk),
                _ => break greeting,
            }
            assert!(inside.len() < 100, "{driver}: the limit holds");
        };
        assert_eq!((refused.code, refused.lines[0].get(..5)), (421, Some("4.3.2")), "{driver}");

        // People go on knocking; each is answered, and nothing spins.
        let before = cpu_ticks(&mut hub);
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            let mut talk = Talk::connect(hub.address()).expect("the system accepts");
            assert_eq!(talk.reply().expect("a greeting").code, 421, "{driver}");
        }
        let used = Duration::from_millis(10 * (cpu_ticks(&mut hub) - before));
        assert!(used < began.elapsed() / 2, "{driver}: {used:?} of CPU time in {:?}", began.elapsed());
        for talk in &mut inside {
            assert!(talk.say("EHLO client.test").expect("a reply").is_positive(), "{driver}: those inside are served");
        }

        inside.truncate(0);
        until("room for a client", || Talk::hello(hub.address()).is_ok().then_some(()));
        deliver(&hub, 2);
        sink.wait_for(2);
        let status = hub.status();
        let made = &status["counters"]["connections_made"];
        assert_eq!(made, 2, "{driver}: what nothing used was closed first, and made again");
        assert!(status["counters"]["connections_refused"].as_u64() >= Some(1), "{driver}: {status:#}");
        hub.stop();
    }
}
