//! Every place where a next hop can misbehave, against everything it can do there (F-062 to F-065, F-071 to F-081, F-085):
//! one hub, a next hop for each place, and in each one fault that strikes once. Whatever it was, everything is delivered,
//! and no copy comes without a reason.
//!
//! By DATA one transaction is under way at a time: a copy comes only where the sink took a message and its reply did not
//! arrive. By BDAT the transactions behind it are sent already, and their outcomes may be unknown (W5): there the hub's own
//! count of them is the bound, and no message comes more than twice.

use super::{CONTENT, MESSAGES, RUN, pairs, waiting};
use loadgen::ledger::{Delivery, FLAG_SILENT};
use loadgen::sink::fault::{Fault, FaultError};
use loadgen::sink::{RunningSink, SinkOptions, start};
use loadgen::stamp::{Stamp, crc32c};
use tests::server::Server as Hub;
use tests::talk::Talk;
use tests::wait::until;

const RECIPIENTS: u64 = 2;

/// Everything that a session comes by, and the configuration's name for the next hop that misbehaves there.
const PLACES: &[(&str, &str)] = &[
    ("accept", "next_hop.accept"),
    ("banner", "next_hop.banner"),
    ("ehlo", "next_hop.ehlo"),
    ("mail", "next_hop.mail"),
    ("rcpt", "next_hop.rcpt"),
    ("data", "next_hop.data"),
    ("body", "next_hop.body"),
    ("eod", "next_hop.eod"),
    ("bdat", "next_hop.bdat"),
    ("rset", "next_hop.rset"),
    ("quit", "next_hop.quit"),
    ("idle", "next_hop.idle"),
];

/// What comes behind the fault, as far as copies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Both sides know what was taken: the sink stops, or goes on and is understood.
    Clear,
    /// The connection ends with replies on their way.
    Confused,
}

/// One misbehaving next hop.
struct Cell {
    place: &'static str,
    section: &'static str,
    fault: String,
    sink: RunningSink,
}

impl Cell {
    fn domain(&self) -> String {
        format!("{}.test", self.place)
    }

    fn ledger(&self) -> Vec<Delivery> {
        self.sink.handle().ledger().0
    }

    fn is_there(&self) -> bool {
        pairs(&self.ledger()).len() as u64 == MESSAGES * RECIPIENTS
    }

    fn was_struck(&self) -> bool {
        self.sink.handle().counts().faults_struck > 0
    }

    /// Copies that have a reason of their own: taken, and the reply was hidden or not read.
    fn explained(&self, then: Then, chunking: bool) -> Option<u64> {
        match then {
            Then::Clear => Some(self.ledger().iter().filter(|one| one.flags & FLAG_SILENT != 0).count() as u64),
            Then::Confused if chunking => None,
            // The one message under way.
            Then::Confused => Some(if matches!(self.place, "eod" | "idle") { RECIPIENTS } else { 0 }),
        }
    }
}

/// The cells of an action: one for each place where the vocabulary has it and the way of sending comes by.
fn cells(action: &str, chunking: bool, pipelining: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &(place, section) in PLACES {
        // A 354 is the right answer to DATA: there it is a 250 that is out of class.
        let action = if place == "data" { action.replace("reply 354", "reply 250") } else { action.to_owned() };
        // RSET stands before pipelined transactions alone, DATA before the others.
        let comes_by = match place {
            "data" => !chunking,
            "bdat" => chunking,
            "rset" => chunking && pipelining,
            _ => true,
        };
        let fault = format!("{place}:{action};first=1");
        match fault.parse::<Fault>() {
            Ok(parsed) if comes_by => {
                let options = SinkOptions { faults: vec![parsed], chunking, pipelining, ..SinkOptions::default() };
                cells.push(Cell { place, section, fault, sink: start(options).expect("a sink") });
            }
            Ok(_) | Err(FaultError::Misplaced { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    cells
}

/// A hub that has a next hop for each cell. Two connections at least carry the mail, so that QUIT comes by.
fn hub(cells: &[Cell], wait: &str) -> Hub {
    let mut told = waiting(vec![cells[0].sink.listen[0]], wait);
    told.more.push(("delivery", "messages_per_connection_max = 4".to_owned()));
    for cell in cells {
        told.more.push((cell.section, format!("hosts = [\"{}\"]", cell.sink.listen[0])));
        told.more.push(("routes", format!("\"{}\" = \"{}\"", cell.domain(), cell.place)));
    }
    Hub::started(told)
}

fn send(hub: &Hub, cell: &Cell) {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    let names: Vec<String> = (0..RECIPIENTS).map(|at| format!("r{at}@{}", cell.domain())).collect();
    let to: Vec<&str> = names.iter().map(String::as_str).collect();
    for seq in 0..MESSAGES {
        let mut from = String::new();
        let bytes = CONTENT.len() as u64;
        Stamp { run: RUN, seq, bytes, crc32c: crc32c(CONTENT), ends_with_crlf: true }.write(&mut from);
        let reply = talk.send(&format!("{from}@a.test"), &to, CONTENT).expect("a reply");
        assert!(reply.is_positive(), "{reply:?}");
    }
}

fn is_survived(action: &str, then: Then, wait: &str, (chunking, pipelining): (bool, bool)) {
    let cells = cells(action, chunking, pipelining);
    let mut hub = hub(&cells, wait);
    cells.iter().for_each(|cell| send(&hub, cell));
    for cell in &cells {
        let fault = format!("`{}`, chunking {chunking}", cell.fault);
        until(&format!("everything to come through {fault}"), || cell.is_there().then_some(()));
        until(&format!("{fault} to strike"), || cell.was_struck().then_some(()));
    }
    until("every outcome", || (hub.queued() == 0).then_some(()));
    let counters = hub.status()["counters"].clone();
    let count = |key: &str| counters[key].as_u64().expect("a counter");
    let unknown = count("outcomes_unknown");
    if let Some(counter) = counted_as(action) {
        assert!(count(counter) > 0, "`{action}`, chunking {chunking}: {counter} in {counters}");
    }
    hub.stop();
    let mut all = 0;
    for cell in cells {
        let pairs = pairs(&cell.ledger());
        let copies = pairs.values().sum::<u64>() - pairs.len() as u64;
        let most = pairs.values().copied().max().unwrap_or(0);
        assert!(most <= 2, "`{}`, chunking {chunking}: it struck once, a message came {most} times", cell.fault);
        if let Some(explained) = cell.explained(then, chunking) {
            assert!(
                copies <= explained,
                "`{}`, chunking {chunking}: {copies} copies, {explained} are explained",
                cell.fault
            );
        }
        all += copies;
        drop(cell.sink.stop().expect("a ledger"));
    }
    assert!(all <= unknown * RECIPIENTS, "`{action}`, chunking {chunking}: {all} copies, {unknown} outcomes unknown");
}

/// What a session that ends by this is counted as (I-10); `None`: not every one ends.
fn counted_as(action: &str) -> Option<&'static str> {
    Some(match action.split(' ').next()? {
        "stall" | "nocrlf" => "timeouts_out",
        "halfclose" | "close" | "reset" | "take+close" | "drop+close" | "cut" => "connections_broken_out",
        "long" | "multiline" | "twodigits" | "mixedcodes" | "garbage" => "protocol_errors_out",
        "reply" if action.starts_with("reply 421") => "sessions_refused_out",
        "reply" if action.ends_with(" what") => "protocol_errors_out",
        _ => return None,
    })
}

/// Nothing here may run into a wait.
const PATIENT: &str = "30s";
/// Only the wait ends it.
const SHORT: &str = "1500ms";

fn each_is_survived(actions: &[&str], then: Then, wait: &str) {
    for action in actions {
        for chunking in [true, false] {
            is_survived(action, then, wait, (chunking, true));
        }
    }
}

#[test]
fn f_062_f_063_silence_anywhere_ends_by_its_timer() {
    each_is_survived(&["stall", "halfclose"], Then::Clear, SHORT);
}

#[test]
fn f_064_421_anywhere_puts_off_and_closes() {
    each_is_survived(&["reply 421 4.3.2 not now"], Then::Confused, PATIENT);
}

#[test]
fn f_065_4yz_anywhere_is_tried_again() {
    each_is_survived(&["reply 451 4.3.0 later", "take+reply 451 4.3.0 taken"], Then::Confused, PATIENT);
}

#[test]
fn f_071_a_reply_of_another_class_anywhere_closes_and_is_tried_again() {
    each_is_survived(&["reply 354 what"], Then::Confused, PATIENT);
}

#[test]
fn f_072_f_073_f_074_a_connection_that_ends_anywhere_is_made_again() {
    each_is_survived(&["close", "reset", "take+close", "drop+close"], Then::Confused, PATIENT);
}

#[test]
fn f_076_a_reply_that_is_cut_anywhere_is_no_reply() {
    each_is_survived(&["cut 2", "cut 3", "cut 9"], Then::Confused, PATIENT);
    each_is_survived(&["nocrlf"], Then::Confused, SHORT);
}

#[test]
fn f_077_f_079_replies_in_octets_with_bare_line_feeds_or_late_are_read_the_same() {
    each_is_survived(&["split", "lf", "delay 50ms"], Then::Clear, PATIENT);
}

#[test]
fn f_078_endless_replies_anywhere_are_cut_off() {
    each_is_survived(&["long 10000000", "multiline 1000000"], Then::Confused, PATIENT);
}

#[test]
fn f_080_what_is_no_reply_anywhere_closes_and_is_tried_again() {
    let actions = ["twodigits", "mixedcodes", "garbage 100", "reply 000 what", "reply 999 what"];
    each_is_survived(&actions, Then::Confused, PATIENT);
}

#[test]
fn f_081_a_reply_too_many_anywhere_is_noticed() {
    each_is_survived(&["extra"], Then::Confused, PATIENT);
}

/// Before the command that it is to, or behind the 354 and before the content: whatever it says, it is no verdict on what it
/// has not seen. Where one command waits for the reply to the one before it comes when nothing was asked.
#[test]
fn f_081_a_reply_before_its_command_or_the_content_is_no_verdict() {
    for chunking in [true, false] {
        for pipelining in [true, false] {
            is_survived("early", Then::Confused, PATIENT, (chunking, pipelining));
        }
    }
}

#[test]
fn f_085_a_peer_that_writes_octet_by_octet_ends_by_the_timer() {
    each_is_survived(&["slowwrite 1"], Then::Confused, SHORT);
}
