//! Mailbox delivery as a process: Maildir folders, or nothing, behind LMTP and SMTP; and a hub that delivers to it.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tests::chance::Chance;
use tests::corpus::mails;
use tests::ledger::{content, sender};
use tests::peers::trace_before;
use tests::senders::Senders;
use tests::server::{Dialect, Role, Server, Told};
use tests::sink::{Offers, Sink, Taken};
use tests::small_disk::SmallDisk;
use tests::source::root;
use tests::talk::{Reply, Talk, stuffed};
use tests::wait::until;

/// Whose mailbox is where.
const MAILBOXES: &str = "\"bob@b.test\" = \"bob\"\n\"eve@b.test\" = \"eve\"\n\"*@c.test\" = \"everybody\"";

/// A store in a folder of its own, and what delivers into it.
struct House {
    store: TempDir,
    server: Server,
}

impl House {
    fn speaking(driver: &'static str, dialect: Dialect) -> Self {
        let store = tempfile::tempdir().expect("a folder");
        let role = Role::Mailboxes(Some(store.path().to_owned()), dialect);
        let server = Server::started(Told { role, driver, ..Told::default() }.with("mailboxes", MAILBOXES));
        Self { store, server }
    }

    fn part(&self, mailbox: &str, part: &str) -> PathBuf {
        self.store.path().join(mailbox).join(part)
    }

    /// The messages in a mailbox, and nothing in the making.
    fn kept(&self, mailbox: &str) -> Vec<Vec<u8>> {
        assert_eq!(files(&self.part(mailbox, "tmp")), Vec::<PathBuf>::new(), "nothing is left in the making");
        read(&self.part(mailbox, "new"))
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn read(folder: &Path) -> Vec<Vec<u8>> {
    files(folder).iter().map(|path| fs::read(path).expect("a message")).collect()
}

/// More mailboxes than the process may have files open: those that nothing is put in are closed, and all get their mail.
#[test]
fn f_038_many_mailboxes_need_few_descriptors() {
    let names: Vec<String> = (0..300).map(|number| format!("u{number}")).collect();
    let mailboxes: String = names.iter().map(|name| format!("\"{name}@b.test\" = \"{name}\"\n")).collect();
    let to: Vec<String> = names.iter().map(|name| format!("{name}@b.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    for driver in tests::drivers("f_038_many_mailboxes_need_few_descriptors") {
        for dialect in [Dialect::Lmtp, Dialect::Smtp] {
            let store = tempfile::tempdir().expect("a folder");
            let role = Role::Mailboxes(Some(store.path().to_owned()), dialect);
            let under = Some(root().join("tests/peers/some-descriptors"));
            let server =
                Server::started(Told { role, driver, under, ..Told::default() }.with("mailboxes", &*mailboxes));
            if dialect == Dialect::Lmtp {
                let replies = deliver(&mut lhlo(server.address()), "a@a.test", &to, &content(1));
                assert!(replies.iter().all(|reply| reply.code == 250), "{replies:?}");
            } else {
                let mut talk = Talk::hello(server.address()).expect("a greeting");
                assert_eq!(talk.send("a@a.test", &to, &content(1)).expect("a reply").code, 250);
            }
            for name in &names {
                assert_eq!(files(&store.path().join(name).join("new")).len(), 1, "{driver}: {name}");
            }
        }
    }
}

/// An LMTP session.
fn lhlo(to: SocketAddr) -> Talk {
    let mut talk = Talk::connect(to).expect("a connection");
    assert_eq!(talk.reply().expect("a greeting").code, 220);
    assert_eq!(talk.say("LHLO client.test").expect("a reply").code, 250);
    talk
}

/// Sends by LMTP to recipients that are all accepted at RCPT: the final reply of each.
fn deliver(talk: &mut Talk, from: &str, to: &[&str], content: &[u8]) -> Vec<Reply> {
    talk.begin(from, to).expect("an envelope");
    talk.write(&[stuffed(content), b".\r\n".to_vec()].concat()).expect("room");
    to.iter().map(|_| talk.reply().expect("a reply for each")).collect()
}

fn codes(replies: &[Reply]) -> Vec<u16> {
    replies.iter().map(|reply| reply.code).collect()
}

#[test]
fn i_4_m_079_the_corpus_rests_in_a_maildir_as_it_was_sent() {
    for driver in tests::drivers("i_4_m_079_the_corpus_rests_in_a_maildir_as_it_was_sent") {
        let house = House::speaking(driver, Dialect::Lmtp);
        let mut talk = lhlo(house.server.address());
        for mail in mails() {
            let from = format!("{}@a.test", mail.name);
            assert_eq!(codes(&deliver(&mut talk, &from, &["bob@b.test"], &mail.content)), [250], "{}", mail.name);
        }
        let kept = house.kept("bob");
        assert_eq!(kept.len(), mails().len());
        let fields = ["Return-Path", "Delivered-To", "Received"];
        for mail in mails() {
            let front = format!("Return-Path: <{}@a.test>\r\n", mail.name);
            let one = kept.iter().find(|one| one.starts_with(front.as_bytes()));
            let one = one.unwrap_or_else(|| panic!("{} is not there", mail.name));
            let trace = trace_before(&mail.content, one);
            assert_eq!(trace, Some(fields.map(str::to_owned).into()), "{} is changed", mail.name);
        }
        for path in files(&house.part("bob", "new")) {
            let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "S-007: {}", path.display());
        }
        assert!(house.part("bob", "cur").is_dir(), "a mailbox is whole");
    }
}

/// Whoever a message is for, its folder is one that the directory names; what no mailbox is named for is refused.
#[test]
fn s_031_f_144_no_address_makes_a_path_or_a_mailbox() {
    for driver in tests::drivers("s_031_f_144_no_address_makes_a_path_or_a_mailbox") {
        let house = House::speaking(driver, Dialect::Lmtp);
        let mut talk = lhlo(house.server.address());
        for (to, codes) in [
            ("<nobody@b.test>", &[550][..]),
            ("<bob@d.test>", &[550]),
            ("<\"../../bob\"@b.test>", &[550]),
            ("<\"../../../etc/x\"@b.test>", &[550]),
            ("<..@b.test>", &[501, 553, 550]),
            ("<|prog@b.test>", &[550, 553, 501]),
            ("<bob/../eve@b.test>", &[550, 501, 553]),
        ] {
            assert_eq!(talk.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
            let reply = talk.say(&format!("RCPT TO:{to}")).expect("a reply");
            assert!(codes.contains(&reply.code), "{to}: {reply:?}");
            if reply.code == 550 {
                assert!(reply.lines[0].starts_with("5.1.1"), "{to}: {reply:?}");
            }
            assert_eq!(talk.say("RSET").expect("a reply").code, 250);
        }
        // A whole domain has one folder, whatever stands before the @.
        for to in ["\"../../../x\"@c.test", "\".\"@c.test", "a/b@c.test", "BOB@B.TEST"] {
            assert_eq!(codes(&deliver(&mut talk, "a@a.test", &[to], b"Subject: x\r\n\r\nx\r\n")), [250], "{to}");
        }
        assert_eq!((house.kept("everybody").len(), house.kept("bob").len()), (3, 1));
        let there: BTreeSet<String> = files(house.store.path())
            .iter()
            .map(|path| path.file_name().expect("named").to_string_lossy().into())
            .collect();
        assert_eq!(there, BTreeSet::from(["bob".to_owned(), "everybody".to_owned()]));
    }
}

/// Whatever was planted in the store, nothing is written outside of it (S-008): a mailbox, or a folder of one, that is a link
/// is the mailbox's trouble, and no letter's end. That goes for one that was in use before it was exchanged, too.
#[test]
fn s_008_links_in_the_store_lead_nowhere() {
    for driver in tests::drivers("s_008_links_in_the_store_lead_nowhere") {
        let house = House::speaking(driver, Dialect::Lmtp);
        let outside = tempfile::tempdir().expect("a folder");
        for part in ["new", "tmp", "cur"] {
            fs::create_dir(outside.path().join(part)).expect("our folder");
        }
        let mut talk = lhlo(house.server.address());
        let mut to_bob = || codes(&deliver(&mut talk, &sender(1), &["bob@b.test"], &content(1)));
        let bob = house.store.path().join("bob");
        for part in ["", "new", "tmp"] {
            let planted = if part.is_empty() { bob.clone() } else { bob.join(part) };
            fs::create_dir_all(planted.parent().expect("a folder")).expect("our folder");
            std::os::unix::fs::symlink(outside.path().join(part), &planted).expect("our link");
            assert_eq!(to_bob(), [451], "{driver}: {part:?} is a link");
            fs::remove_file(&planted).expect("our link");
            if !part.is_empty() {
                fs::remove_dir_all(&bob).expect("our folder");
            }
        }
        assert_eq!(to_bob(), [250], "{driver}: and it heals");
        assert_eq!(house.kept("bob").len(), 1);
        fs::rename(&bob, house.store.path().join("was bob")).expect("our folder");
        std::os::unix::fs::symlink(outside.path(), &bob).expect("our link");
        assert!([250, 451].contains(&to_bob()[0]), "{driver}: what it has open is in the store still");
        for part in ["new", "tmp", "cur"] {
            assert_eq!(files(&outside.path().join(part)), Vec::<PathBuf>::new(), "{driver}: {part}");
        }
        assert_eq!(files(outside.path()).len(), 3, "{driver}");
    }
}

/// By LMTP every recipient has his own answer: one broken mailbox takes nothing from the others, and they get nothing twice.
#[test]
fn m_211_by_lmtp_each_recipient_is_answered_for_himself() {
    for driver in tests::drivers("m_211_by_lmtp_each_recipient_is_answered_for_himself") {
        let house = House::speaking(driver, Dialect::Lmtp);
        fs::create_dir(house.store.path().join("eve")).expect("our folder");
        fs::write(house.part("eve", "new"), b"no folder").expect("room");
        let mut talk = lhlo(house.server.address());
        let replies = deliver(&mut talk, &sender(1), &["bob@b.test", "eve@b.test", "x@c.test"], &content(1));
        assert_eq!(codes(&replies), [250, 451, 250], "{replies:?}");
        assert!(replies[1].lines[0].starts_with("4.3.0"), "I-9: our failure is 4yz: {replies:?}");
        fs::remove_file(house.part("eve", "new")).expect("our file");
        assert_eq!(codes(&deliver(&mut talk, &sender(1), &["eve@b.test"], &content(1))), [250], "and it heals");
        for mailbox in ["bob", "eve", "everybody"] {
            assert_eq!(house.kept(mailbox).len(), 1, "{mailbox}");
        }
    }
}

/// What one of them had before is refused for him alone (M-080): the others have it.
#[test]
fn m_211_m_080_by_lmtp_a_loop_of_one_mailbox_takes_nothing_from_the_others() {
    for driver in tests::drivers("m_211_m_080_by_lmtp_a_loop_of_one_mailbox_takes_nothing_from_the_others") {
        let house = House::speaking(driver, Dialect::Lmtp);
        let mut talk = lhlo(house.server.address());
        assert_eq!(codes(&deliver(&mut talk, &sender(1), &["bob@b.test", "x@c.test"], &content(1))), [250, 250]);
        let letter = house.kept("bob").remove(0);
        let to = ["eve@b.test", "bob@b.test", "y@c.test"];
        let replies = deliver(&mut talk, &sender(2), &to, &letter);
        assert_eq!(codes(&replies), [250, 554, 250], "{driver}: {replies:?}");
        assert!(replies[1].lines[0].starts_with("5.4.6"), "{replies:?}");
        assert_eq!((house.kept("bob").len(), house.kept("eve").len(), house.kept("everybody").len()), (1, 1, 2));
        let replies = deliver(&mut talk, &sender(3), &["bob@b.test"], &letter);
        assert_eq!(codes(&replies), [554], "{driver}: {replies:?}");
        assert_eq!(house.server.counter("messages_refused"), 1, "{driver}: nobody took it");
    }
}

/// Postmaster has a mailbox without a word about him, at every domain that is ours and without one (M-030).
#[test]
fn m_030_mailbox_delivery_always_has_a_postmaster() {
    let store = tempfile::tempdir().expect("a folder");
    let mut told = Told::keeping_in(store.path())
        .with("mailboxes", "\"bob@b.test\" = \"bob\"\n\"postmaster@d.test\" = \"bob\"")
        .with("access", "accepted_domains = [\"a.test\", \"intra\"]");
    for folder in ["postmaster", "chief"] {
        if folder == "chief" {
            told = told.with("mailboxes", "\"postmaster\" = \"chief\"");
        }
        let mut server = Server::started(told.clone());
        let mut talk = lhlo(server.address());
        let to = ["Postmaster", "postmaster@b.test", "POSTMASTER@A.test", "postmaster@server.test", "postmaster@intra"];
        for to in to {
            assert_eq!(codes(&deliver(&mut talk, &sender(1), &[to], &content(1))), [250], "{to}");
        }
        assert_eq!(codes(&deliver(&mut talk, &sender(1), &["postmaster@d.test"], &content(1))), [250]);
        assert_eq!(talk.say("MAIL FROM:<a@a.test>").expect("a reply").code, 250);
        for stranger in ["<postmaster@e.test>", "<x@a.test>", "<postmaster@b>"] {
            assert_eq!(talk.say(&format!("RCPT TO:{stranger}")).expect("a reply").code, 550, "{stranger}");
        }
        assert_eq!(read(&store.path().join(folder).join("new")).len(), to.len());
        server.stop();
    }
    assert_eq!(read(&store.path().join("bob/new")).len(), 2, "what is said about him counts first");
}

/// SMTP has one answer for all: refused means that nobody keeps a copy.
#[test]
fn i_2_by_smtp_a_message_is_in_every_mailbox_or_in_none() {
    for driver in tests::drivers("i_2_by_smtp_a_message_is_in_every_mailbox_or_in_none") {
        let house = House::speaking(driver, Dialect::Smtp);
        fs::create_dir(house.store.path().join("eve")).expect("our folder");
        fs::write(house.part("eve", "new"), b"no folder").expect("room");
        let mut talk = Talk::hello(house.server.address()).expect("a greeting");
        let to = ["bob@b.test", "eve@b.test", "x@c.test"];
        for _ in 0..3 {
            assert_eq!(talk.send(&sender(1), &to, &content(1)).expect("a reply").code, 451);
        }
        assert_eq!((house.kept("bob").len(), house.kept("everybody").len()), (0, 0));
        fs::remove_file(house.part("eve", "new")).expect("our file");
        assert_eq!(talk.send(&sender(1), &to, &content(1)).expect("a reply").code, 250);
        for mailbox in ["bob", "eve", "everybody"] {
            assert_eq!(house.kept(mailbox).len(), 1, "{mailbox}");
        }
    }
}

/// F-022 for a store: a full disk is 452 4.3.1, leaves nothing behind, and is over when there is room.
#[test]
fn f_022_a_full_store_puts_off_and_keeps_nothing_half() {
    for driver in tests::drivers("f_022_a_full_store_puts_off_and_keeps_nothing_half") {
        let disk = match SmallDisk::of(1 << 20) {
            Ok(disk) => disk,
            Err(why) => return tests::skip("f_022_a_full_store_puts_off_and_keeps_nothing_half", &why),
        };
        let server = Server::started(Told { driver, ..Told::keeping_in(disk.path()).with("mailboxes", MAILBOXES) });
        let mut talk = lhlo(server.address());
        let large =
            [b"Subject: large\r\n\r\n".as_slice(), &b"0123456789abcdef0123456789abcdef\r\n".repeat(6_000)].concat();
        let mut kept = 0;
        let refused = loop {
            let reply = deliver(&mut talk, "a@a.test", &["bob@b.test"], &large).remove(0);
            if reply.code != 250 {
                break reply;
            }
            kept += 1;
        };
        assert_eq!((refused.code, refused.lines[0].starts_with("4.3.1")), (452, true), "{refused:?}");
        assert!(kept > 0 && kept < 6, "{kept} messages of 200 KB on a disk of 1 MiB");
        let (new, tmp) = (disk.path().join("bob/new"), disk.path().join("bob/tmp"));
        assert!(read(&new).iter().all(|one| trace_before(&large, one).is_some()), "whole messages alone");
        assert_eq!((files(&new).len(), files(&tmp).len()), (kept, 0));
        fs::remove_file(&files(&new)[0]).expect("a user reads his mail");
        assert_eq!(codes(&deliver(&mut talk, "a@a.test", &["bob@b.test"], &large)), [250], "there is room again");
    }
}

/// Killed again and again under load: what `new` holds is whole, and what was acknowledged is there.
#[test]
fn f_001_killed_in_mid_delivery_it_leaves_nothing_half() {
    for driver in tests::drivers("f_001_killed_in_mid_delivery_it_leaves_nothing_half") {
        let store = tempfile::tempdir().expect("a folder");
        let role = Role::Mailboxes(Some(store.path().to_owned()), Dialect::Smtp);
        let mut server = Server::new(Told { role, driver, ..Told::default() }.with("mailboxes", MAILBOXES));
        let senders = Senders::start(4);
        let mut chance = Chance::new(22);
        for _ in 0..8 {
            server.start();
            senders.aim(Some(server.address()));
            let enough = senders.ledger().acked() + usize::try_from(chance.within(1..60)).expect("a small number");
            until("the next acknowledgements", || (senders.ledger().acked() >= enough).then_some(()));
            senders.aim(None);
            server.kill();
        }
        let ledger = senders.stop();
        let taken: Vec<Taken> = read(&store.path().join("bob/new")).into_iter().map(taken).collect();
        let verdict = ledger.judge(&taken);
        println!("{} acknowledged, {} kept, {} duplicates", verdict.acked, taken.len(), verdict.duplicates);
        // A sender that lost its reply repeats (W2): nothing else makes a second copy.
        verdict.assert_kept(0);
    }
}

fn taken(content: Vec<u8>) -> Taken {
    let line = content.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    let from = line.strip_prefix("Return-Path: <").and_then(|rest| rest.split('>').next());
    let from = from.unwrap_or_else(|| panic!("`{line}` is no Return-Path")).to_owned();
    Taken { from, content, ..Taken::default() }
}

#[test]
fn the_null_store_takes_everything_and_keeps_nothing() {
    for driver in tests::drivers("the_null_store_takes_everything_and_keeps_nothing") {
        let role = Role::Mailboxes(None, Dialect::Lmtp);
        let mut server = Server::started(Told { role, driver, ..Told::default() });
        let mut talk = lhlo(server.address());
        for mail in mails() {
            let replies = deliver(&mut talk, "a@a.test", &["bob@b.test", "\"../x\"@anywhere.test"], &mail.content);
            assert_eq!(codes(&replies), [250, 250], "{}", mail.name);
        }
        let stored = u64::try_from(mails().len()).expect("few");
        until("the count", || (server.counter("messages_stored") == stored).then_some(()));
        assert_eq!(server.counter("store_errors"), 0);
        server.stop();
    }
}

/// A hub's message for three: one has no mailbox and fails for good, one's is broken and is tried again, one gets it at
/// once and once only.
#[test]
fn m_213_a_hub_keeps_apart_what_lmtp_says_of_each_recipient() {
    for driver in tests::drivers("m_213_a_hub_keeps_apart_what_lmtp_says_of_each_recipient") {
        let house = House::speaking(driver, Dialect::Lmtp);
        fs::create_dir(house.store.path().join("eve")).expect("our folder");
        fs::write(house.part("eve", "new"), b"no folder").expect("room");
        let role = Role::Hub(vec![house.server.address()], Dialect::Lmtp);
        let senders = Sink::start(Offers { chunking: true });
        let mut hub = Server::started(Told { role, driver, ..Told::default() }.with_senders_at(senders.address()));
        let mut talk = Talk::hello(hub.address()).expect("a greeting");
        let to = ["bob@b.test", "nobody@b.test", "eve@b.test"];
        for id in 0..4 {
            assert_eq!(talk.send(&sender(id), &to, &content(id)).expect("a reply").code, 250);
        }
        let outcomes = |key: &str| {
            let status = hub.status();
            let mut queues = status["queues"].as_array().expect("queues").iter();
            queues.find(|queue| queue["next_hop"] == "far").and_then(|queue| queue[key].as_u64()).expect("a count")
        };
        until("the first outcomes", || ((outcomes("delivered"), outcomes("failed")) == (4, 4)).then_some(()));
        until("further tries", || (outcomes("put_off") >= 8).then_some(()));
        fs::remove_file(house.part("eve", "new")).expect("our file");
        until("the rest", || (outcomes("delivered") == 8).then_some(()));
        assert_eq!(outcomes("failed"), 4);
        let heard: BTreeSet<_> = senders.wait_for(4).into_iter().map(|taken| (taken.from, taken.to)).collect();
        assert_eq!(heard, (0..4).map(|id| (String::new(), vec![sender(id)])).collect(), "each sender hears of it once");
        hub.stop();
        assert_eq!(senders.taken().len(), 4);
        for mailbox in ["bob", "eve"] {
            let kept: Vec<Taken> = house.kept(mailbox).into_iter().map(taken).collect();
            assert_eq!(kept.len(), 4, "{mailbox} gets each once");
            for id in 0..4 {
                let one = kept.iter().find(|one| one.from == sender(id)).expect("it came");
                assert!(trace_before(&content(id), &one.content).is_some(), "{id} is changed");
            }
        }
    }
}
