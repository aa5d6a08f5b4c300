//! Our client against our server in memory: every form, every split, refusals in the middle of a pipeline.

use super::support::*;
use crate::smtp::client::*;
use crate::smtp::server::{Event, Policy, ServerOptions, ServerSession, SessionFacts, Slot, Verdict};
use crate::smtp::{Dialect, Profile};
use crate::wire::{EnvelopeBuf, EnvelopeRef, PathLimits, RecipientRef, Refusal, ReversePathRef, Span, Tick};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

const UNKNOWN: Refusal = Refusal::fixed(550, (5, 1, 1), "User unknown");

/// Refuses senders and recipients named `refused`.
struct ByName;

impl Policy for ByName {
    fn mail(&self, _: &SessionFacts, from: ReversePathRef<'_>) -> Result<(), Refusal> {
        match from {
            ReversePathRef::Mailbox(mailbox) if mailbox.local() == b"refused" => Err(UNKNOWN),
            _ => Ok(()),
        }
    }
    fn rcpt(&self, _: &SessionFacts, _: ReversePathRef<'_>, to: RecipientRef<'_>) -> Result<(), Refusal> {
        if to.local() == b"refused" { Err(UNKNOWN) } else { Ok(()) }
    }
    fn room(&self, _: u64) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A server session, its messages, and the verdicts that it owes: each is given one turn late.
struct Server {
    session: ServerSession,
    unread: Vec<u8>,
    out: Vec<u8>,
    body: Option<Vec<u8>>,
    owed: VecDeque<(Slot, Vec<bool>)>,
    messages: Vec<(String, Vec<u8>)>,
    /// The last message's, encoded.
    envelope: Vec<u8>,
    closed: bool,
}

impl Server {
    fn new(options: ServerOptions) -> Self {
        let (peer, local) = ("192.0.2.1:1000".parse().expect("address"), "192.0.2.2:25".parse().expect("address"));
        let mut session = ServerSession::new(Arc::new(options), peer, local, false, Tick(0));
        let mut out = Vec::new();
        session.greet(None, &mut out);
        Self {
            session,
            unread: Vec::new(),
            out,
            body: None,
            owed: VecDeque::new(),
            messages: Vec::new(),
            envelope: Vec::new(),
            closed: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while !self.closed {
            let step = self.session.step(&self.unread, Tick(0), &ByName, &mut self.out);
            let shown = std::mem::take(&mut self.unread);
            self.unread = shown[step.consumed..].to_vec();
            match step.event {
                Event::More | Event::Paused => return,
                Event::Begin { .. } => self.body = Some(Vec::new()),
                Event::Body(range) => self.body.as_mut().expect("begun").extend_from_slice(&shown[range]),
                Event::Message(slot) => self.message(slot),
                Event::Discard => self.body = None,
                Event::Close => self.closed = true,
                Event::Insert(_) => unreachable!("never asked for"),
            }
        }
    }

    fn message(&mut self, slot: Slot) {
        let envelope = EnvelopeRef::parse(self.session.envelope().bytes()).expect("sound");
        let to: Vec<_> = envelope.recipients().map(|to| to.mailbox.to_string()).collect();
        self.envelope = envelope.bytes().to_vec();
        let content = self.body.take().expect("begun");
        // A body that says "no" is refused at its end; in LMTP only for mailboxes that say so.
        let lmtp = self.session.options().dialect == Dialect::Lmtp;
        let bad = content.starts_with(b"no");
        let verdicts = if lmtp { to.iter().map(|to| !to.starts_with("full")).collect() } else { vec![!bad] };
        if lmtp || !bad {
            self.messages.push((to.join(" "), content));
        }
        self.owed.push_back((slot, verdicts));
    }

    fn settle(&mut self) {
        for (slot, verdicts) in std::mem::take(&mut self.owed) {
            for good in verdicts {
                let verdict =
                    if good { Verdict::Accepted { id: 1, message_id: b"" } } else { Verdict::Refused(&UNKNOWN) };
                self.session.on_verdict(slot, verdict, Tick(0), &mut self.out);
            }
        }
        self.feed(b"");
    }
}

/// Sends all of `mails`; the link carries `step` octets at a time. What each fared, in order of the events.
fn run(client: ClientOptions, server: ServerOptions, mails: &[Mail], step: usize) -> (Vec<ClientEvent>, Server) {
    let mut talk = Talk::new(client);
    let mut server = Server::new(server);
    let (mut events, mut offered) = (Vec::new(), 0);
    for _ in 0..1_000_000 {
        while offered < mails.len() && talk.client.room() > 0 {
            talk.offer(u32::try_from(offered).expect("few"), &mails[offered]).expect("can be sent");
            offered += 1;
        }
        if !server.out.is_empty() {
            let octets: Vec<_> = server.out.drain(..step.min(server.out.len())).collect();
            events.extend(talk.hear(&octets));
        } else if !talk.wire.sent.is_empty() {
            let octets: Vec<_> = talk.wire.sent.drain(..step.min(talk.wire.sent.len())).collect();
            server.feed(&octets);
        } else if !server.owed.is_empty() {
            server.settle();
        } else if offered == mails.len() && talk.client.in_flight() == 0 && talk.client.is_ready() {
            talk.client.quit(talk.now, &mut talk.wire);
        } else if server.closed {
            return (events, server);
        }
    }
    panic!("the pair stands still: {events:?}");
}

fn server_options(extensions: fn(&mut ServerOptions)) -> ServerOptions {
    let mut options = ServerOptions { size_max: 0, ..ServerOptions::new(Profile::Rfc, "peer.test") };
    // Time stands still here.
    options.timers.tarpit = Span::ZERO;
    extensions(&mut options);
    options
}

fn mails() -> Vec<Mail> {
    vec![
        mail("a@a.test", &["b@b.test"], b"Subject: 1\r\n\r\none\r\n"),
        mail("", &["b@b.test", "refused@b.test", "c@c.test"], b".\r\n..\r\ntwo\r\n"),
        mail("refused@a.test", &["b@b.test"], b"three\r\n"),
        mail("a@a.test", &["refused@b.test"], b"four\r\n"),
        mail("a@a.test", &["b@b.test"], b"no five\r\n"),
        mail("a@a.test", &["b@b.test"], b""),
        mail("a@a.test", &["b@b.test"], b"seven\r\n.x\r\n"),
    ]
}

fn expected() -> Vec<ClientEvent> {
    use ClientEvent::{Done, Down, Ready, Recipient};
    vec![
        Ready,
        Done { token: 0, class: Class::Accepted },
        Recipient { token: 1, index: 1, class: Class::Refused },
        Done { token: 1, class: Class::Accepted },
        Done { token: 2, class: Class::Refused },
        Recipient { token: 3, index: 0, class: Class::Refused },
        Done { token: 3, class: Class::Refused },
        Done { token: 4, class: Class::Refused },
        Done { token: 5, class: Class::Accepted },
        Done { token: 6, class: Class::Accepted },
        Down(DownReason::Quit),
    ]
}

fn delivered() -> Vec<(String, Vec<u8>)> {
    let mail = |to: &str, content: &[u8]| (to.to_owned(), content.to_vec());
    vec![
        mail("b@b.test", b"Subject: 1\r\n\r\none\r\n"),
        mail("b@b.test c@c.test", b".\r\n..\r\ntwo\r\n"),
        mail("b@b.test", b""),
        mail("b@b.test", b"seven\r\n.x\r\n"),
    ]
}

fn prove(name: &str, client: &ClientOptions, server: &ServerOptions) {
    for step in [1, 2, 3, 5, 7, 16, 64, 100, 1 << 20] {
        let (events, server) = run(client.clone(), server.clone(), &mails(), step);
        assert_eq!(events, expected(), "{name}, {step} octets at a time");
        assert_eq!(server.messages, delivered(), "{name}, {step} octets at a time");
    }
}

#[test]
fn m_118_pipelined_chunking_keeps_every_outcome_apart() {
    prove("chunking", &ClientOptions::new("c.test"), &server_options(|_| {}));
    let narrow = ClientOptions { in_flight_max: 2, ..ClientOptions::new("c.test") };
    prove("two at a time", &narrow, &server_options(|options| options.slots_max = 1));
}

#[test]
fn m_113_pipelined_data_keeps_every_outcome_apart() {
    prove("data", &ClientOptions::new("c.test"), &server_options(|options| options.extensions.chunking = false));
}

#[test]
fn m_113_without_pipelining_commands_go_one_by_one() {
    prove(
        "one by one",
        &ClientOptions::new("c.test"),
        &server_options(|options| {
            options.extensions.chunking = false;
            options.extensions.pipelining = false;
        }),
    );
    prove(
        "one by one, in chunks",
        &ClientOptions::new("c.test"),
        &server_options(|options| options.extensions.pipelining = false),
    );
}

#[test]
fn m_213_lmtp_maps_replies_to_recipients_by_place() {
    let client = ClientOptions { dialect: Dialect::Lmtp, ..ClientOptions::new("c.test") };
    let server = server_options(|options| options.dialect = Dialect::Lmtp);
    let mails = [
        mail("a@a.test", &["refused@b.test", "b@b.test", "full@b.test", "c@b.test"], b"one\r\n"),
        mail("a@a.test", &["refused@b.test"], b"two\r\n"),
        mail("a@a.test", &["b@b.test"], b"three\r\n"),
    ];
    let told = |token, index, class| ClientEvent::Recipient { token, index, class };
    for step in [1, 3, 50, 1 << 20] {
        let (events, server) = run(client.clone(), server.clone(), &mails, step);
        let expected = [
            ClientEvent::Ready,
            told(0, 0, Class::Refused),
            told(0, 1, Class::Accepted),
            told(0, 2, Class::Refused),
            told(0, 3, Class::Accepted),
            ClientEvent::Done { token: 0, class: Class::Accepted },
            told(1, 0, Class::Refused),
            ClientEvent::Done { token: 1, class: Class::Refused },
            told(2, 0, Class::Accepted),
            ClientEvent::Done { token: 2, class: Class::Accepted },
            ClientEvent::Down(DownReason::Quit),
        ];
        assert_eq!(events, expected, "{step} octets at a time");
        assert_eq!(server.messages.len(), 2);
    }
}

/// As from a front end to a hub, or from hub to hub.
#[test]
fn m_149_what_was_said_about_reports_arrives_as_it_left() {
    let sent = with_reports();
    let sent = sent.envelope.as_ref();
    let said = |envelope: EnvelopeRef<'_>| -> Vec<_> {
        envelope.recipients().map(|to| (to.notify(), to.original().map(<[u8]>::to_vec))).collect()
    };
    for (dsn, step) in [(true, 1), (true, 1 << 20), (false, 64)] {
        let server = ServerOptions { paths: PathLimits::RFC, ..server_options(|_| {}) };
        let extensions = crate::smtp::server::Extensions { dsn, ..server.extensions };
        let (_, server) =
            run(ClientOptions::new("c.test"), ServerOptions { extensions, ..server }, &[with_reports()], step);
        let read = EnvelopeRef::parse(&server.envelope).expect("sound");
        if dsn {
            assert_eq!((read.ret(), read.envelope_id()), (sent.ret(), sent.envelope_id()));
            assert_eq!(said(read), said(sent));
        } else {
            assert_eq!((read.ret(), read.envelope_id()), (None, None));
            assert!(said(read).iter().all(|said| *said == (None, None)));
        }
    }
}

#[test]
fn refusing_one_of_64_leaves_the_other_63_unharmed() {
    for bad in [0, 1, 31, 63] {
        for (from, to, content) in [
            ("refused@a.test", "b@b.test", "x\r\n"),
            ("a@a.test", "refused@b.test", "x\r\n"),
            ("a@a.test", "b@b.test", "no\r\n"),
        ] {
            let mut mails: Vec<_> =
                (0..64).map(|n| mail("a@a.test", &["b@b.test"], format!("{n}\r\n").as_bytes())).collect();
            mails[bad] = mail(from, &[to], content.as_bytes());
            let (events, server) = run(ClientOptions::new("c.test"), server_options(|_| {}), &mails, 1 << 20);
            let done: Vec<(usize, Class)> = events
                .iter()
                .filter_map(|event| match event {
                    ClientEvent::Done { token, class } => Some((*token as usize, *class)),
                    _ => None,
                })
                .collect();
            let class = |n| if n == bad { Class::Refused } else { Class::Accepted };
            assert_eq!(done, (0..64).map(|n| (n, class(n))).collect::<Vec<_>>(), "{bad} {from} {to}");
            assert_eq!(server.messages.len(), 63);
        }
    }
}

/// Paths as a hostile client writes them.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let part = proptest::sample::select(vec![
        &b"a"[..],
        b".",
        b"@",
        b"b.test",
        b"\"",
        b"\\",
        b" ",
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"\t",
        b"<",
        b">",
        b":",
        b",",
        b"RCPT TO:<x@y>",
        b"|prog",
        b"../",
        b"%0d%0a",
        b"[127.0.0.1]",
        b"[IPv6:::1]",
        b"\xc3\xa9",
        b"\x1b",
    ]);
    // Most of them are nearly a mailbox.
    let local = proptest::collection::vec(part.clone(), 0..4).prop_map(|parts| parts.concat());
    let quoted = local.clone().prop_map(|local| [b"\"", &local[..], b"\""].concat());
    let domain = proptest::sample::select(vec![&b"b.test"[..], b"[192.0.2.1]", b"x\r\n.y"]);
    let near = (prop_oneof![local, quoted], domain);
    let near = near.prop_map(|(local, domain)| [b"<", &local[..], b"@", domain, b">"].concat());
    let any = proptest::collection::vec(part, 0..6).prop_map(|parts| [b"<", &parts.concat()[..], b">"].concat());
    prop_oneof![4 => near, 1 => any]
}

proptest! {
    // Most of what is near an address is none.
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(2000) })]

    /// Whatever became an envelope leaves as one line for each command, and the peer reads the same mailboxes.
    #[test]
    fn s_026_f_144_no_address_breaks_a_command(from in path(), to in proptest::collection::vec(path(), 1..4)) {
        let mut envelope = EnvelopeBuf::new();
        if envelope.read_reverse_path(&from, PathLimits::EXCHANGE).is_err() {
            envelope.set_reverse_path(ReversePathRef::Null);
        }
        for to in &to {
            if envelope.stage_recipient(to, PathLimits::EXCHANGE).is_ok() {
                envelope.commit();
            }
        }
        prop_assume!(envelope.recipient_count() > 0);
        // The peer takes no single labels that are not its own.
        let from = match envelope.as_ref().reverse_path() {
            ReversePathRef::Null => None,
            ReversePathRef::Mailbox(mailbox) => Some(mailbox),
        };
        let mut mailboxes = from.into_iter().chain(envelope.as_ref().recipients().map(|to| to.mailbox));
        prop_assume!(mailboxes.all(|it| it.is_literal() || it.domain().is_empty() || it.domain().contains(&b'.')));
        let sent = Mail { envelope, ..mail("", &["x@y.test"], b"") };
        let mut talk = Talk::ready(ClientOptions::new("c.test"), &["PIPELINING", "CHUNKING", "8BITMIME"]);
        prop_assert_eq!(talk.offer(0, &sent), Ok(()));
        let text = std::mem::take(&mut talk.wire.sent);
        let lines = text.split_inclusive(|octet| *octet == b'\n');
        let wanted = [&b"RSET\r\n"[..], b"MAIL FROM:<"].into_iter();
        let wanted = wanted.chain((0..sent.envelope.recipient_count()).map(|_| &b"RCPT TO:<"[..])).chain([&b"BDAT 0 LAST\r\n"[..]]);
        prop_assert_eq!(lines.clone().count(), wanted.clone().count());
        for (line, wanted) in lines.zip(wanted) {
            let own = line.strip_suffix(b"\r\n").expect("a whole line");
            prop_assert!(line.starts_with(wanted) && !own.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)));
        }
        let mut server = Server::new(server_options(|options| options.paths = PathLimits::EXCHANGE));
        server.feed(b"EHLO c.test\r\n");
        server.feed(&text);
        prop_assert_eq!(server.messages.len(), 1);
        let read = EnvelopeRef::parse(&server.envelope).expect("sound");
        let paths = |envelope: EnvelopeRef<'_>| -> Vec<String> {
            let from = match envelope.reverse_path() {
                ReversePathRef::Null => String::new(),
                ReversePathRef::Mailbox(mailbox) => mailbox.to_string(),
            };
            std::iter::once(from).chain(envelope.recipients().map(|to| to.mailbox.to_string())).collect()
        };
        prop_assert_eq!(paths(read), paths(sent.envelope.as_ref()));
    }
}
