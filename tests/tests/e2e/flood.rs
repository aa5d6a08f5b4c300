//! One source that takes all the connections it can get: it is told so, and nobody else feels it (F-124).

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use tests::ledger::{content, sender};
use tests::peers::free_address;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

/// What the listener allows one source.
const ALLOWED: usize = 3;
/// What the flood wants beyond that.
const BEYOND: usize = 40;

fn from(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 2, last).into()
}

/// One message from `source`, from the greeting to the farewell.
fn is_served(hub: &Server, source: IpAddr, id: u64) {
    let mut talk = Talk::connect_from(source, hub.address()).and_then(Talk::greeted).expect("a greeting");
    assert_eq!(talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply").code, 250, "{source}");
    assert_eq!(talk.say("QUIT").expect("a reply").code, 221);
}

/// Connections of a source that closes none of them.
const KEPT: usize = 400;
/// Those that hold a descriptor beside the ones that are served, and what a server opens now and then.
const LEAVING_MAX: usize = 128 + 16;

/// Neither those that are refused nor those that have said QUIT take the server's descriptors, if their peer keeps them.
#[test]
fn f_124_f_038_a_source_that_never_closes_gets_no_more_descriptors_than_its_own() {
    for driver in tests::drivers("f_124_f_038_a_source_that_never_closes_gets_no_more_descriptors_than_its_own") {
        let more = vec![("receive", format!("connections_per_source_max = {ALLOWED}"))];
        let mut hub = Server::started(Told { driver, more, ..Told::relaying_to(free_address()) });
        let address = hub.address();
        // One that is closed at once may be so before its client looks at it.
        let try_open = || match Talk::connect_from(from(1), address) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            opened => Some(opened.expect("a connection")),
        };
        let open = || try_open().expect("a connection");
        let before = hub.descriptors();
        let held: Vec<Talk> = (0..ALLOWED).map(|_| open().greeted().expect("a greeting")).collect();
        let refused: Vec<Talk> = (0..KEPT).filter_map(|_| try_open()).collect();
        // Who comes behind them is greeted when all of them were heard.
        is_served(&hub, from(2), 0);
        let most = before + ALLOWED + LEAVING_MAX;
        assert!(hub.descriptors() <= most, "{driver}: {} refused, {before} before", hub.descriptors());
        drop((held, refused));
        until("its descriptors back", || (hub.descriptors() <= before + LEAVING_MAX - 128).then_some(()));
        let over: Vec<Talk> = (0..KEPT)
            .filter_map(|_| {
                let mut talk = try_open()?;
                // Greeted or refused: it says what it has to say.
                let _greeting = talk.reply();
                let _farewell = talk.say("QUIT");
                Some(talk)
            })
            .collect();
        assert!(hub.descriptors() <= most, "{driver}: {} are over, {before} before", hub.descriptors());
        is_served(&hub, from(2), 1);
        drop(over);
        hub.stop();
    }
}

#[test]
fn f_124_a_flood_from_one_source_gets_421_and_others_are_served() {
    for driver in tests::drivers("f_124_a_flood_from_one_source_gets_421_and_others_are_served") {
        let sink = Sink::start(Offers { chunking: true });
        let more = vec![("receive", format!("connections_per_source_max = {ALLOWED}"))];
        let mut hub = Server::started(Told { driver, more, ..Told::relaying_to(sink.address()) });
        let open = || Talk::connect_from(from(1), hub.address()).expect("a connection");
        let mut held: Vec<Talk> = (0..ALLOWED).map(|_| open().greeted().expect("a greeting")).collect();
        for id in 0..BEYOND {
            let mut refused = open();
            let reply = refused.reply().expect("it is told why");
            assert_eq!((reply.code, reply.lines[0].split(' ').next()), (421, Some("4.7.0")), "{driver}: {reply:?}");
            let after = refused.reply().expect_err("nothing more is said").kind();
            let closed = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
            assert!(closed.contains(&after), "{driver}: and then the connection is closed: {after}");
            // In the midst of it, others come and go.
            if id % 10 == 0 {
                is_served(&hub, from(2), id as u64);
            }
        }
        until("every refusal counted", || (hub.counter("connections_refused") == BEYOND as u64).then_some(()));
        // The flood's own three are served on, and when they leave, their places are there to be had again.
        for talk in &mut held {
            assert_eq!(talk.say("NOOP").expect("a reply").code, 250, "{driver}");
        }
        drop(held);
        drop(until("a place for the source", || open().greeted().ok()));
        assert_eq!(sink.wait_for(BEYOND / 10).len(), BEYOND / 10, "{driver}");
        hub.stop();
    }
}
