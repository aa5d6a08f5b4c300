//! The scripts of `tests/scripts`, played against live listeners on every driver; what is accepted is compared at the far
//! end, or in the mailbox behind an LMTP listener. Left out are cases for the bare session alone.

use std::io::ErrorKind;
use tests::peers::trace_before;
use tests::script::{Case, Expected, Line, read_all};
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::source::root;
use tests::talk::{Reply, Talk};

/// An accepted message: its envelope as scripts write it, and its content.
type Accepted = (String, Vec<u8>);

fn cases(profile: &str, lmtp: bool) -> Vec<Case> {
    let mut cases = read_all(&root().join("tests/scripts"));
    cases.retain(|case| !case.bare && case.lmtp == lmtp && case.profiles.iter().any(|one| one == profile));
    assert!(!cases.is_empty(), "scripts for {profile}");
    cases
}

/// All lines of a reply as they came, for what scripts expect.
fn text_of(reply: &Reply) -> String {
    let last = reply.lines.len().saturating_sub(1);
    let lines = reply.lines.iter().enumerate();
    lines.map(|(at, text)| format!("{}{}{text}\r\n", reply.code, if at < last { '-' } else { ' ' })).collect()
}

fn play(case: &Case, profile: &str, hub: &Server) -> Vec<Accepted> {
    let mut talk = Talk::connect(hub.address()).expect("a connection");
    let mut accepted = Vec::new();
    for line in &case.lines {
        match line {
            // A server that has closed may have reset what it never read.
            Line::Client(piece) => drop(talk.write(piece)),
            Line::Reply(all) => {
                let expected = Expected::for_profile(all, profile);
                let reply = talk.reply().unwrap_or_else(|error| panic!("{}: {error}, not {expected:?}", case.name));
                let text = text_of(&reply);
                assert!(expected.holds(&text), "{} ({profile}): {text:?} is not {expected:?}", case.name);
            }
            // A reply too many would be taken for the next one that is expected.
            Line::Nothing => {}
            Line::Close => {
                let end = talk.reply().expect_err("the server closes").kind();
                assert!(matches!(end, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{}: {end}", case.name);
            }
            Line::Message { envelope, content } => accepted.push((envelope.clone(), content.clone())),
        }
    }
    accepted
}

fn scripts_hold(profile: &'static str, driver: &'static str) {
    let sink = Sink::start(Offers { chunking: true });
    let more = vec![("receive", "tarpit_wait = \"0s\"\ndsn = true".to_owned())];
    let mut hub = Server::started(Told { profile, driver, more, ..Told::relaying_to(sink.address()) });
    let accepted: Vec<Accepted> = cases(profile, false).iter().flat_map(|case| play(case, profile, &hub)).collect();
    let mut taken = sink.wait_for(accepted.len());
    hub.stop();
    assert_eq!(taken.len(), accepted.len(), "no message but those");
    for (envelope, content) in accepted {
        let same = taken.iter().position(|one| {
            let from = if one.from.is_empty() { "<>" } else { &one.from };
            format!("{from} {}", one.to.join(" ")) == envelope && trace_before(&content, &one.content).is_some()
        });
        let at = same.unwrap_or_else(|| panic!("{envelope}: {} did not come", content.escape_ascii()));
        taken.swap_remove(at);
    }
}

#[test]
fn scripts_hold_on_epoll_as_the_rfcs_ask() {
    scripts_hold("rfc", "epoll");
}

#[test]
fn scripts_hold_on_tokio_uring_as_the_rfcs_ask() {
    match tests::no_uring() {
        Some(why) => tests::skip("scripts_hold_on_tokio_uring_as_the_rfcs_ask", &why),
        None => scripts_hold("rfc", "tokio-uring"),
    }
}

#[test]
fn scripts_hold_on_the_driver_of_this_machine_as_the_rfcs_ask() {
    scripts_hold("rfc", "auto");
}

#[test]
fn scripts_hold_on_the_driver_of_this_machine_as_exchange_does() {
    scripts_hold("exchange", "auto");
}

/// The same by LMTP, before a mailbox: what is accepted rests there once, whatever the number of its recipients.
fn lmtp_scripts_hold(driver: &'static str) {
    let store = tempfile::tempdir().expect("a folder");
    let told = Told::keeping_in(store.path()).with("mailboxes", "\"b@b.test\" = \"b\"");
    let mut server = Server::started(Told { driver, ..told });
    let accepted: Vec<Accepted> = cases("rfc", true).iter().flat_map(|case| play(case, "rfc", &server)).collect();
    assert!(!accepted.is_empty(), "a message is accepted somewhere");
    server.stop();
    let files = std::fs::read_dir(store.path().join("b/new")).expect("a mailbox");
    let mut kept: Vec<Vec<u8>> =
        files.map(|file| std::fs::read(file.expect("an entry").path()).expect("a message")).collect();
    assert_eq!(kept.len(), accepted.len(), "no message but those");
    for (_, content) in accepted {
        let at = kept.iter().position(|one| trace_before(&content, one).is_some());
        kept.swap_remove(at.unwrap_or_else(|| panic!("{} is not there", content.escape_ascii())));
    }
}

#[test]
fn m_210_m_211_lmtp_scripts_hold_on_epoll() {
    lmtp_scripts_hold("epoll");
}

#[test]
fn m_210_m_211_lmtp_scripts_hold_on_tokio_uring() {
    match tests::no_uring() {
        Some(why) => tests::skip("m_210_m_211_lmtp_scripts_hold_on_tokio_uring", &why),
        None => lmtp_scripts_hold("tokio-uring"),
    }
}

#[test]
fn m_210_m_211_lmtp_scripts_hold_on_the_driver_of_this_machine() {
    lmtp_scripts_hold("auto");
}
