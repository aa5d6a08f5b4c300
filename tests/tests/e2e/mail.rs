//! Mail through a hub arrives as it was sent, whatever the driver, the number of shards and the verbs on either side.

use tests::corpus::{Mail, mails};
use tests::peers::trace_before;
use tests::server::{Dialect, Role, Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;

fn sender(mail: &Mail) -> String {
    format!("{}@a.test", mail.name)
}

/// Sends the corpus by DATA and by BDAT in odd pieces, and compares what comes out.
fn carries_the_corpus(told: Told, offers: Offers) {
    let sink = Sink::start(offers);
    let mut hub = Server::started(Told { role: Role::Hub(vec![sink.address()], Dialect::Smtp), ..told });
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let mails = mails();
    for (at, mail) in mails.iter().enumerate() {
        let by_data = talk.send(&sender(mail), &["bob@b.test"], &mail.content).expect("a reply");
        assert!(by_data.is_positive(), "{}: {by_data:?}", mail.name);
        let piece = 1 + at * 997;
        let by_bdat =
            talk.send_in_chunks(&sender(mail), &["bob@b.test"], &mail.content, piece.max(64)).expect("a reply");
        assert!(by_bdat.is_positive(), "{}: {by_bdat:?}", mail.name);
    }
    let taken = sink.wait_for(2 * mails.len());
    assert_eq!(taken.len(), 2 * mails.len());
    for mail in &mails {
        let same: Vec<_> = taken.iter().filter(|one| one.from == sender(mail)).collect();
        assert_eq!(same.len(), 2, "{}", mail.name);
        for one in same {
            let trace = trace_before(&mail.content, &one.content);
            assert_eq!(trace, Some(vec!["Received".to_owned()]), "{} is changed", mail.name);
            assert_eq!(one.to, ["bob@b.test"]);
        }
    }
    hub.stop();
}

/// The corpus through a hub on a driver that this machine may refuse.
fn carries_the_corpus_on(driver: &'static str, offers: Offers, test: &str) {
    match tests::no_uring() {
        Some(why) => tests::skip(test, &why),
        None => carries_the_corpus(Told { driver, ..Told::default() }, offers),
    }
}

#[test]
fn i_4_from_data_and_bdat_to_bdat_on_uring() {
    carries_the_corpus_on("uring", Offers { chunking: true }, "i_4_from_data_and_bdat_to_bdat_on_uring");
}

#[test]
fn i_4_from_data_and_bdat_to_data_on_uring() {
    carries_the_corpus_on("uring", Offers { chunking: false }, "i_4_from_data_and_bdat_to_data_on_uring");
}

#[test]
fn i_4_from_data_and_bdat_to_bdat_on_tokio_uring() {
    carries_the_corpus_on("tokio-uring", Offers { chunking: true }, "i_4_from_data_and_bdat_to_bdat_on_tokio_uring");
}

#[test]
fn i_4_from_data_and_bdat_to_data_on_tokio_uring() {
    carries_the_corpus_on("tokio-uring", Offers { chunking: false }, "i_4_from_data_and_bdat_to_data_on_tokio_uring");
}

#[test]
fn i_4_from_data_and_bdat_to_bdat_on_epoll() {
    carries_the_corpus(Told { driver: "epoll", ..Told::default() }, Offers { chunking: true });
}

#[test]
fn i_4_from_data_and_bdat_to_data_on_epoll() {
    carries_the_corpus(Told { driver: "epoll", ..Told::default() }, Offers { chunking: false });
}

#[test]
fn i_4_with_more_shards_than_cores() {
    carries_the_corpus(Told { shards: 5, ..Told::default() }, Offers { chunking: true });
}

#[test]
fn i_4_written_and_not_synced() {
    carries_the_corpus(Told { durability: "os", ..Told::default() }, Offers { chunking: true });
}

#[test]
fn i_4_in_memory_alone() {
    carries_the_corpus(Told { durability: "none", ..Told::default() }, Offers { chunking: true });
}

/// A message of so many lines of 34 octets, by DATA and by chunks.
fn a_large_message_goes_through(durability: &'static str, lines: usize) {
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told { durability, ..Told::relaying_to(sink.address()) });
    let content =
        [b"Subject: large\r\n\r\n".as_slice(), &b"0123456789abcdef0123456789abcdef\r\n".repeat(lines)].concat();
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let by_data = talk.send("ann@a.test", &["bob@b.test"], &content).expect("a reply");
    let by_chunks = talk.send_in_chunks("ann@a.test", &["bob@b.test"], &content, 7_000_000).expect("a reply");
    assert!(by_data.is_positive() && by_chunks.is_positive(), "{by_data:?} {by_chunks:?}");
    for one in sink.wait_for(2) {
        assert!(trace_before(&content, &one.content).is_some());
    }
    hub.stop();
}

#[test]
fn a_message_of_ten_segments_goes_through_by_data_and_by_chunks() {
    a_large_message_goes_through(Told::default().durability, 1_234_000);
}

/// In memory nothing bounds a message but `size_max` and the memory there is.
#[test]
fn a_large_message_goes_through_in_memory_alone() {
    a_large_message_goes_through("none", 600_000);
}

/// Many recipients of one message share one transaction to their next hop, each named once.
#[test]
fn every_recipient_of_a_message_gets_it_once() {
    let sink = Sink::start(Offers { chunking: true });
    let mut hub = Server::started(Told::relaying_to(sink.address()));
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let names: Vec<String> = (0..50).map(|at| format!("r{at}@b.test")).collect();
    let to: Vec<&str> = names.iter().map(String::as_str).collect();
    let reply = talk.send("ann@a.test", &to, b"Subject: to many\r\n\r\nhello\r\n").expect("a reply");
    assert!(reply.is_positive(), "{reply:?}");
    sink.wait("every recipient", |taken| taken.iter().map(|one| one.to.len()).sum::<usize>() >= names.len());
    hub.stop();
    let mut got: Vec<String> = sink.taken().into_iter().flat_map(|one| one.to).collect();
    let mut wanted = names.clone();
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted);
}

/// Clients on the list may end lines by LF alone; everybody else's message is refused at its end.
#[test]
fn m_044_a_bare_lf_is_mended_for_clients_on_the_list_alone() {
    for (list, code) in [("127.0.0.0/8", 250), ("192.0.2.0/24", 550)] {
        let sink = Sink::start(Offers { chunking: false });
        let more = vec![("receive", format!("normalize_from = [{list:?}]"))];
        let mut hub = Server::started(Told { more, ..Told::relaying_to(sink.address()) });
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        let reply = talk.send("a@a.test", &["b@b.test"], b"Subject: x\r\n\r\none\ntwo\n\r\n").expect("a reply");
        assert_eq!(reply.code, code, "{list}");
        if code == 250 {
            let content = &sink.wait_for(1)[0].content;
            assert!(content.ends_with(b"Subject: x\r\n\r\none\r\ntwo\r\n\r\n"));
        }
        hub.stop();
    }
}
