//! With parts that nobody here wrote, byte for byte except trace fields.

#![forbid(unsafe_code)]

use tests::corpus::{Mail, folder, mails};
use tests::peers::{Peer, smtplib, swaks, trace_before};
use tests::server::{Dialect, Role, Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

/// The foreign programs themselves carry the corpus unchanged: what differs in a test below is ours.
mod baseline {
    use super::*;

    #[test]
    fn postfix_relays_the_corpus_unchanged() {
        let sink = Sink::start(Offers { chunking: true });
        let postfix = match Peer::postfix(sink.address()) {
            Ok(postfix) => postfix,
            Err(why) => return tests::skip("postfix_relays_the_corpus_unchanged", &why),
        };
        let mut talk = Talk::hello(postfix.address()).expect("a greeting");
        for mail in mails() {
            let reply = talk.send(&sender(&mail), &["bob@b.test"], &mail.content).expect("a reply");
            assert!(reply.is_positive(), "{}: {reply:?}", mail.name);
        }
        all_arrived(&sink, &mails());
    }

    #[test]
    fn dovecot_keeps_the_corpus_unchanged() {
        let dovecot = match Peer::dovecot() {
            Ok(dovecot) => dovecot,
            Err(why) => return tests::skip("dovecot_keeps_the_corpus_unchanged", &why),
        };
        let mut talk = Talk::connect(dovecot.address()).expect("a connection");
        assert_eq!(talk.reply().expect("a greeting").code, 220);
        assert_eq!(talk.say("LHLO client.test").expect("a reply").code, 250);
        for mail in mails() {
            let reply = talk.send(&sender(&mail), &["bob@b.test"], &mail.content).expect("a reply");
            assert!(reply.is_positive(), "{}: {reply:?}", mail.name);
        }
        all_kept(&dovecot, "bob", &mails());
    }

    #[test]
    fn swaks_and_smtplib_send_the_corpus_unchanged() {
        let sink = Sink::start(Offers { chunking: false });
        let mails = mails();
        for mail in &mails {
            let path = folder().join(format!("{}.eml", mail.name));
            if let Err(why) = swaks(sink.address(), &sender(mail), &mail.content, &["bob@b.test"]) {
                return tests::skip("swaks_and_smtplib_send_the_corpus_unchanged", &why);
            }
            if let Err(why) = smtplib(sink.address(), &sender(mail), &path, &["bob@b.test"]) {
                return tests::skip("swaks_and_smtplib_send_the_corpus_unchanged", &why);
            }
        }
        let twice: Vec<Mail> = mails.into_iter().flat_map(|mail| [mail.clone(), mail]).collect();
        all_arrived(&sink, &twice);
    }
}

/// Foreign clients into the engine, and the engine out to foreign servers.
mod engine {
    use super::*;

    #[test]
    fn swaks_and_smtplib_into_the_engine() {
        let sink = Sink::start(Offers { chunking: true });
        let mut hub = Server::started(Told::relaying_to(sink.address()));
        for mail in mails() {
            let path = folder().join(format!("{}.eml", mail.name));
            let sent = swaks(hub.address(), &sender(&mail), &mail.content, &["bob@b.test"])
                .and_then(|()| smtplib(hub.address(), &sender(&mail), &path, &["bob@b.test"]));
            if let Err(why) = sent {
                return tests::skip("swaks_and_smtplib_into_the_engine", &why);
            }
        }
        let twice: Vec<Mail> = mails().into_iter().flat_map(|mail| [mail.clone(), mail]).collect();
        all_arrived(&sink, &twice);
        hub.stop();
    }

    #[test]
    fn the_engine_out_to_postfix() {
        let sink = Sink::start(Offers { chunking: true });
        let postfix = match Peer::postfix(sink.address()) {
            Ok(postfix) => postfix,
            Err(why) => return tests::skip("the_engine_out_to_postfix", &why),
        };
        for chunking in [true, false] {
            let more = vec![("delivery", format!("chunking = {chunking}"))];
            let mut hub = Server::started(Told { more, ..Told::relaying_to(postfix.address()) });
            send_all(&hub);
            let so_far: Vec<Mail> = if chunking { mails() } else { [mails(), mails()].concat() };
            all_arrived(&sink, &so_far);
            hub.stop();
        }
    }

    #[test]
    fn postfix_into_the_engine() {
        let sink = Sink::start(Offers { chunking: true });
        let mut hub = Server::started(Told::relaying_to(sink.address()));
        let postfix = match Peer::postfix(hub.address()) {
            Ok(postfix) => postfix,
            Err(why) => return tests::skip("postfix_into_the_engine", &why),
        };
        let mut talk = Talk::hello(postfix.address()).expect("a greeting");
        for mail in mails() {
            let reply = talk.send(&sender(&mail), &["bob@b.test"], &mail.content).expect("a reply");
            assert!(reply.is_positive(), "{}: {reply:?}", mail.name);
        }
        all_arrived(&sink, &mails());
        hub.stop();
    }

    #[test]
    fn m_213_the_engine_out_to_dovecot_by_lmtp() {
        let dovecot = match Peer::dovecot() {
            Ok(dovecot) => dovecot,
            Err(why) => return tests::skip("m_213_the_engine_out_to_dovecot_by_lmtp", &why),
        };
        let mut hub =
            Server::started(Told { role: Role::Hub(vec![dovecot.address()], Dialect::Lmtp), ..Told::default() });
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        for mail in mails() {
            // Whom Dovecot does not know it refuses at RCPT: behind the content there is a reply for each of the others.
            let to = ["bob@b.test", "nobody@b.test", "eve@b.test"];
            let reply = talk.send(&sender(&mail), &to, &mail.content).expect("a reply");
            assert!(reply.is_positive(), "{}: {reply:?}", mail.name);
        }
        for user in ["bob", "eve"] {
            all_kept(&dovecot, user, &mails());
        }
        until("every outcome", || (hub.queued() == 0).then_some(()));
        let messages = mails().len() as u64;
        for (counter, of_each) in [("recipients_delivered", 2), ("recipients_failed_dsn_owed", 1)] {
            assert_eq!(hub.counter(counter), of_each * messages, "{counter}");
        }
        hub.stop();
        for user in ["bob", "eve"] {
            assert_eq!(dovecot.mailbox(user, "b.test").len(), mails().len(), "once each: {user}");
        }
    }

    fn send_all(hub: &Server) {
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        for mail in mails() {
            let reply = talk.send(&sender(&mail), &["bob@b.test"], &mail.content).expect("a reply");
            assert!(reply.is_positive(), "{}: {reply:?}", mail.name);
        }
    }
}

/// The reverse-path that names a message of the corpus.
fn sender(mail: &Mail) -> String {
    format!("{}@a.test", mail.name)
}

/// Every one of `sent` is in `sink`, whole.
fn all_arrived(sink: &Sink, sent: &[Mail]) {
    let taken = sink.wait_for(sent.len());
    assert_eq!(taken.len(), sent.len());
    for mail in sent {
        let wanted = sent.iter().filter(|other| *other == mail).count();
        let same: Vec<_> = taken.iter().filter(|one| one.from == sender(mail)).collect();
        assert_eq!(same.len(), wanted, "{} came so often", mail.name);
        for one in same {
            assert!(
                trace_before(&mail.content, &one.content).is_some(),
                "{}: {}",
                mail.name,
                difference(&mail.content, &one.content)
            );
        }
    }
}

/// Every one of `sent` is in this user's mailbox, whole.
fn all_kept(dovecot: &Peer, user: &str, sent: &[Mail]) {
    let kept = until("every message in the mailbox", || {
        let kept = dovecot.mailbox(user, "b.test");
        (kept.len() >= sent.len()).then_some(kept)
    });
    assert_eq!(kept.len(), sent.len());
    for mail in sent {
        assert!(
            kept.iter().any(|one| trace_before(&mail.content, one).is_some()),
            "{} is not in the mailbox whole",
            mail.name
        );
    }
}

/// Where what came first differs from what was sent, read from the end.
fn difference(sent: &[u8], got: &[u8]) -> String {
    let same = sent.iter().rev().zip(got.iter().rev()).take_while(|(one, other)| one == other).count();
    let around = |text: &[u8]| {
        let end = text.len() - same;
        String::from_utf8_lossy(&text[end.saturating_sub(60)..(end + 20).min(text.len())]).into_owned()
    };
    format!("the last {same} octets are the same; sent {:?}, got {:?}", around(sent), around(got))
}

/// Reports on failures, read by Python's email package.
mod reports {
    use engine::mime::report::{Action, Original, Recipient, Report};
    use engine::wire::{EnhancedStatus, Mailbox};
    use tests::peers::read_report;

    fn said(original: Original<'_>) -> Result<String, String> {
        let mailbox = |text: &str| Mailbox::parse(text.as_bytes()).expect("a mailbox");
        let (ann, bob, eve) = (mailbox("ann@a.test"), mailbox("bob@b.test"), mailbox("\"e v e\"@b.test"));
        let refused = Recipient {
            mailbox: bob.as_ref(),
            original: Some(b"rfc822;Bob+2Bx@b.test"),
            status: EnhancedStatus::new(5, 1, 1),
            remote: Some(b"dns; [192.0.2.1]"),
            diagnostic: Some(b"smtp; 550 5.1.1 nobody of that name, and as this is said with many words it is folded"),
            last_attempt: None,
        };
        let mut message = Vec::new();
        let report = Report {
            action: Action::Failed,
            reporting: "hub.test",
            to: ann.as_ref(),
            id: 1,
            date: b"Sun, 22 Nov 2026 06:28:17 +0000",
            arrival: None,
            envelope_id: Some(b"QQ"),
            recipients: &[refused, Recipient { mailbox: eve.as_ref(), original: None, ..refused }],
            original,
        };
        report.write(&mut message);
        read_report(&message)
    }

    #[test]
    fn m_153_m_154_python_reads_what_a_report_says() {
        let head = "multipart/report delivery-status 0\npostmaster@hub.test ann@a.test auto-replied\n";
        let body = "text/plain True\nmessage/delivery-status\nReporting-MTA: dns; hub.test\nOriginal-Envelope-Id: QQ\n\n\
                    Original-Recipient: rfc822; Bob+x@b.test\nFinal-Recipient: rfc822; bob@b.test\nAction: failed\n\
                    Status: 5.1.1\nRemote-MTA: dns; [192.0.2.1]\n\
                    Diagnostic-Code: smtp; 550 5.1.1 nobody of that name, and as this is said with many words it is folded\n\n\
                    Final-Recipient: rfc822; \"e v e\"@b.test\nAction: failed\nStatus: 5.1.1\nRemote-MTA: dns; [192.0.2.1]\n\
                    Diagnostic-Code: smtp; 550 5.1.1 nobody of that name, and as this is said with many words it is folded\n\n";
        for (original, subject, third) in [
            (
                Original::Headers(b"Subject: x\r\nTo: b\r\n"),
                "Undeliverable: x",
                "text/rfc822-headers\nSubject: x|To: b|\n",
            ),
            (
                Original::Headers("Subject: caf\u{e9}\r\n".as_bytes()),
                "Undeliverable",
                "text/rfc822-headers\nSubject: caf\u{e9}|\n",
            ),
            (Original::Whole(b"Subject: x\r\n\r\nbody\r\n"), "Undeliverable: x", "message/rfc822\nSubject: x||body|\n"),
        ] {
            match said(original) {
                Ok(said) => assert_eq!(said, format!("{head}{subject}\n{body}{third}")),
                Err(why) => return tests::skip("m_153_m_154_python_reads_what_a_report_says", &why),
            }
        }
    }
}
