//! Who is refused for good is reported to the sender: through a front end and a hub, to the sender's next hop.

use tests::peers::{free_address, read_report};
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

const CONTENT: &[u8] = b"Subject: x\r\n\r\nbody\r\n";

fn refusing() -> Sink {
    let sink = Sink::start(Offers { chunking: true });
    sink.refuse("bob@b.test", "550 5.1.1 nobody of that name");
    sink
}

fn say(talk: &mut Talk, line: &str, code: u16) {
    let reply = talk.say(line).expect("a reply");
    assert_eq!(reply.code, code, "{line}: {reply:?}");
}

/// With everything that a sender can ask for.
fn send(talk: &mut Talk, notify: &str) {
    say(talk, "MAIL FROM:<ann@a.test> RET=HDRS ENVID=QQ+2B1", 250);
    say(talk, &format!("RCPT TO:<bob@b.test> ORCPT=rfc822;Bob@b.test{notify}"), 250);
    say(talk, "DATA", 354);
    talk.write(CONTENT).expect("it is read");
    say(talk, ".", 250);
}

#[test]
fn m_100_m_149_a_report_comes_to_the_senders_next_hop_and_says_what_he_gave() {
    let sink = refusing();
    let trusting = Told { address: free_address(), ..Told::relaying_to(sink.address()) };
    let mut hub = Server::started(trusting.with("access", "trusted_front_ends = [\"127.0.0.1\"]"));
    let mut front = Server::started(Told::front_end_of(hub.address()));
    let mut talk = Talk::hello(front.address()).expect("a greeting");
    send(&mut talk, " NOTIFY=NEVER");
    send(&mut talk, " NOTIFY=FAILURE");
    let taken = sink.wait_for(1);
    until("nothing to be left", || (hub.queued() == 0).then_some(()));
    front.stop();
    hub.stop();
    assert_eq!(sink.taken().len(), 1, "of the other nobody hears");
    assert_eq!((taken[0].from.as_str(), &taken[0].to[..]), ("", &["ann@a.test".to_owned()][..]));
    match read_report(&taken[0].content) {
        Ok(said) => {
            for line in [
                "Reporting-MTA: dns; server.test",
                "Original-Envelope-Id: QQ+1",
                "Original-Recipient: rfc822; Bob@b.test",
                "Final-Recipient: rfc822; bob@b.test",
                "Action: failed",
                "Diagnostic-Code: smtp; 550 5.1.1 nobody of that name",
                "Undeliverable: x",
            ] {
                assert!(said.lines().any(|one| one == line), "{line} in {said}");
            }
        }
        Err(why) => tests::skip("m_100_m_149_a_report_comes_to_the_senders_next_hop_and_says_what_he_gave", &why),
    }
}

#[test]
fn f_068_where_reports_are_switched_off_failures_stay_on_record() {
    let sink = refusing();
    let mut hub = Server::started(Told::relaying_to(sink.address()).with("delivery", "reports = false"));
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    send(&mut talk, "");
    until("it to fail", || (hub.queued() == 0).then_some(()));
    hub.stop();
    assert_eq!(sink.taken(), []);
    // What was owed then is told when they are switched on.
    hub.tell(|told| told.more.clear());
    hub.start();
    sink.wait_for(1);
    hub.stop();
    assert_eq!(sink.taken().len(), 1);
}
