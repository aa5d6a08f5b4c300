//! Each message that felt a fault, and what explains it (perf/METHODOLOGY.md, "Failover"). Pure.
//!
//! From when it was due to its end a message's time is cut in four: what passed *before* the strike, until the fault's
//! *detection*, until it was begun at somebody who lives (*reroute*), and until its answer (*retry*). They add up.

use crate::failover::{Answer, Fate, Impact, Strike, UNSETTLED_US};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A return is felt for so long, however soon all had recovered from the fault.
const NEAR_US: u64 = 1_000_000;

/// What a message suffered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Acknowledged behind the deadline.
    Late,
    /// Refused, or its connection broke off.
    NotAccepted,
    /// Never answered.
    Unanswered,
    /// Acknowledged, and not delivered when the run was over: lost, or still queued.
    Missing,
    /// Delivered more than once, in this window.
    Twice(&'static str),
}

/// Where it was when the fault met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Due before the strike, and not done with then.
    UnderWay,
    /// Due before mail was known to go around the fault.
    Undetected,
    /// Due later, while fewer did the work of all.
    Rerouted,
    /// Due after the return, before all had recovered or soon behind it.
    Returned,
    /// No fault was near.
    Unexplained,
}

impl Cause {
    /// As results spell it, and for people.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::UnderWay => ("under-way", "under way when it struck"),
            Self::Undetected => ("undetected", "due before mail went around it"),
            Self::Rerouted => ("rerouted", "due while others did its work"),
            Self::Returned => ("returned", "due after its return"),
            Self::Unexplained => ("unexplained", "no fault explains it"),
        }
    }
}

/// One affected message. Times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affected {
    /// Its number in the run.
    pub seq: u64,
    /// When it was due, behind the first message that counts.
    pub due_us: u64,
    /// Which fault explains it, from 1; 0 for none.
    pub fault: usize,
    /// What it suffered.
    pub harm: Harm,
    /// Where it was.
    pub cause: Cause,
    /// See the module's head.
    pub before_us: u64,
    /// See the module's head.
    pub detection_us: u64,
    /// See the module's head.
    pub reroute_us: u64,
    /// See the module's head.
    pub retry_us: u64,
    /// From when it was due to its first copy's arrival.
    pub delivery_us: Option<u64>,
}

/// Affected messages with one explanation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Which fault, from 1; 0 for none.
    pub fault: usize,
    /// Where they were.
    pub cause: Cause,
    /// How many, each with one harm.
    pub late: u64,
    /// See above.
    pub not_accepted: u64,
    /// See above.
    pub unanswered: u64,
    /// See above.
    pub missing: u64,
    /// By window.
    pub twice: BTreeMap<String, u64>,
    /// Longest part of each kind, milliseconds.
    pub detection_ms: f64,
    /// See above.
    pub reroute_ms: f64,
    /// See above.
    pub retry_ms: f64,
}

impl Group {
    /// How many messages.
    pub fn messages(&self) -> u64 {
        self.late + self.not_accepted + self.unanswered + self.missing + self.twice.values().sum::<u64>()
    }
}

/// Those of `fates` that were not good, missing or doubled, in their order. `faults` are in order of time.
pub fn affected(fates: &[Fate], faults: &[(Strike, Impact)]) -> Vec<Affected> {
    let first_us = fates.iter().map(|fate| fate.intended_us).min().unwrap_or(0);
    let Some((_, impact)) = faults.first() else { return Vec::new() };
    let one = |fate: &Fate| {
        let place = fault_of(fate, faults);
        let deadline_ms = place.map_or(impact.deadline_ms, |place| faults[place].1.deadline_ms);
        let harm = harm(fate, (deadline_ms * 1000.0) as u64)?;
        let fault = place.map(|place| &faults[place]);
        Some(explain(fate, harm, place.map_or(0, |place| place + 1), fault, first_us))
    };
    fates.iter().filter_map(one).collect()
}

fn harm(fate: &Fate, deadline_us: u64) -> Option<Harm> {
    match (fate.answer, fate.doubled) {
        (_, Some(window)) => Some(Harm::Twice(window.name())),
        (Answer::Accepted, None) if fate.delivered_us.is_none() => Some(Harm::Missing),
        (Answer::Accepted, None) => fate.response_us().filter(|us| *us > deadline_us).map(|_| Harm::Late),
        (Answer::Other, None) => Some(Harm::NotAccepted),
        (Answer::None, None) => Some(Harm::Unanswered),
    }
}

/// The last fault that struck while a message could feel it: before it was done with, and, for a copy more, before its outcome
/// was on disk. What was taken and never came was last at somebody who lived, so the fault that it was taken in tells of it,
/// or else the next. What was neither answered nor seen again hangs since it was due: the same from there.
fn fault_of(fate: &Fate, faults: &[(Strike, Impact)]) -> Option<usize> {
    let next_to = |at_us: u64| {
        let next = faults.iter().position(|(strike, _)| at_us < strike.over_us());
        next.or_else(|| faults.len().checked_sub(1))
    };
    match (fate.answer, fate.delivered_us) {
        (Answer::Accepted, None) => return next_to(fate.answered_us),
        (Answer::None, None) => return next_to(fate.intended_us),
        _ => {}
    }
    let done_us = fate.ended_us().max(fate.delivered_us).unwrap_or(u64::MAX).saturating_add(UNSETTLED_US);
    faults.iter().rposition(|(strike, _)| strike.struck_us <= done_us)
}

fn explain(fate: &Fate, harm: Harm, number: usize, fault: Option<&(Strike, Impact)>, first_us: u64) -> Affected {
    let due = fate.intended_us;
    let end = fate.ended_us().unwrap_or(due).max(due);
    let mut one = Affected {
        seq: fate.seq,
        due_us: due - first_us,
        fault: number,
        harm,
        cause: Cause::Unexplained,
        before_us: 0,
        detection_us: 0,
        reroute_us: 0,
        retry_us: 0,
        delivery_us: fate.delivered_us.map(|at| at.saturating_sub(due)),
    };
    let Some((strike, impact)) = fault else {
        one.retry_us = end - due;
        return one;
    };
    let over = strike.over_us();
    let recovered = impact.recovery_ms.map(|ms| strike.struck_us + (ms * 1000.0) as u64);
    // Where nobody took its place, it was felt until it was back.
    let detected = impact.detection_ms.map_or(over, |ms| strike.struck_us + (ms * 1000.0) as u64);
    one.cause = match () {
        () if due < strike.struck_us => Cause::UnderWay,
        () if due < detected => Cause::Undetected,
        () if due < over => Cause::Rerouted,
        () if recovered.is_none_or(|at| due < at) || due < over + NEAR_US => Cause::Returned,
        () => Cause::Unexplained,
    };
    let end = fate.ended_us().unwrap_or(strike.window_end_us).max(due);
    let struck = strike.struck_us.clamp(due, end);
    let known = detected.clamp(struck, end);
    let begun = fate.begun_us.unwrap_or(end).clamp(known, end);
    (one.before_us, one.detection_us) = (struck - due, known - struck);
    (one.reroute_us, one.retry_us) = (begun - known, end - begun);
    one
}

/// Adds up those with the same fault and cause, in their order.
pub fn groups(affected: &[Affected]) -> Vec<Group> {
    let mut groups: BTreeMap<(usize, Cause), Group> = BTreeMap::new();
    for one in affected {
        let group = groups.entry((one.fault, one.cause)).or_insert_with(|| Group {
            fault: one.fault,
            cause: one.cause,
            late: 0,
            not_accepted: 0,
            unanswered: 0,
            missing: 0,
            twice: BTreeMap::new(),
            detection_ms: 0.0,
            reroute_ms: 0.0,
            retry_ms: 0.0,
        });
        match one.harm {
            Harm::Late => group.late += 1,
            Harm::NotAccepted => group.not_accepted += 1,
            Harm::Unanswered => group.unanswered += 1,
            Harm::Missing => group.missing += 1,
            Harm::Twice(window) => *group.twice.entry(window.to_owned()).or_default() += 1,
        }
        let longest = |ms: &mut f64, us: u64| *ms = ms.max(us as f64 / 1000.0);
        longest(&mut group.detection_ms, one.detection_us);
        longest(&mut group.reroute_ms, one.reroute_us);
        longest(&mut group.retry_ms, one.retry_us);
    }
    groups.into_values().collect()
}

/// `affected-PHASE.csv`: a line of names, then one line for each message.
pub fn csv(affected: &[Affected]) -> String {
    let mut text =
        String::from("message,due_ms,fault,harm,window,cause,before_ms,detection_ms,reroute_ms,retry_ms,delivery_ms\n");
    let ms = |us: u64| us as f64 / 1000.0;
    for one in affected {
        let (harm, window) = match one.harm {
            Harm::Late => ("late", ""),
            Harm::NotAccepted => ("not-accepted", ""),
            Harm::Unanswered => ("unanswered", ""),
            Harm::Missing => ("missing", ""),
            Harm::Twice(window) => ("twice", window),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{},{},{},{harm},{window},{},{},{},{},{},{}",
            one.seq,
            ms(one.due_us),
            one.fault,
            one.cause.names().0,
            ms(one.before_us),
            ms(one.detection_us),
            ms(one.reroute_us),
            ms(one.retry_us),
            one.delivery_us.map_or_else(String::new, |us| ms(us).to_string())
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadgen::correlate::Window;

    fn strike(struck_us: u64, window_end_us: u64) -> Strike {
        Strike {
            asked_us: struck_us,
            struck_us,
            gone_us: struck_us,
            healed_us: Some(struck_us + 2_000_000),
            lost_route: Some(0),
            others_share: None,
            tries: None,
            window_start_us: 0,
            window_end_us,
        }
    }

    fn impact(detection_ms: Option<f64>) -> Impact {
        Impact { deadline_ms: 20.0, detection_ms, ..Impact::default() }
    }

    fn fate(seq: u64, due: u64, begun: u64, end: u64) -> Fate {
        Fate {
            seq,
            intended_us: due,
            begun_us: Some(begun),
            answered_us: end,
            answer: Answer::Accepted,
            delivered_us: Some(end + 500),
            route: 1,
            doubled: None,
        }
    }

    #[test]
    fn each_affected_message_has_its_fault_and_parts_that_add_up() {
        let faults =
            [(strike(10_000_000, 20_000_000), impact(Some(30.0))), (strike(20_000_000, 30_000_000), impact(None))];
        let good = fate(0, 1_000_000, 1_000_000, 1_001_000);
        let early = fate(1, 2_000_000, 2_000_000, 2_100_000);
        let under_way = fate(2, 9_999_000, 9_999_100, 10_050_000);
        let undetected = fate(3, 10_010_000, 10_045_000, 10_046_000);
        let rerouted = fate(4, 10_500_000, 10_530_000, 10_540_000);
        let returned = fate(5, 12_500_000, 12_500_000, 12_600_000);
        let refused = Fate { answer: Answer::Other, delivered_us: None, ..fate(6, 20_100_000, 20_100_000, 20_101_000) };
        let missing = Fate { delivered_us: None, ..fate(7, 19_000_000, 19_000_000, 19_001_000) };
        let twice = Fate { doubled: Some(Window::W1), ..fate(8, 19_990_000, 19_990_000, 19_991_000) };
        let open = Fate { answer: Answer::None, delivered_us: None, ..fate(9, 20_200_000, 20_200_000, 0) };
        let fates = [good, early, under_way, undetected, rerouted, returned, refused, missing, twice, open];
        let found = affected(&fates, &faults);
        let told: Vec<_> = found.iter().map(|one| (one.seq, one.fault, one.harm, one.cause)).collect();
        assert_eq!(
            told,
            [
                (1, 0, Harm::Late, Cause::Unexplained),
                (2, 1, Harm::Late, Cause::UnderWay),
                (3, 1, Harm::Late, Cause::Undetected),
                (4, 1, Harm::Late, Cause::Rerouted),
                (5, 1, Harm::Late, Cause::Returned),
                (6, 2, Harm::NotAccepted, Cause::Undetected),
                (7, 2, Harm::Missing, Cause::UnderWay),
                (8, 2, Harm::Twice("W1"), Cause::UnderWay),
                (9, 2, Harm::Unanswered, Cause::Undetected),
            ]
        );
        let parts = |at: usize| {
            let one = found[at];
            (one.before_us, one.detection_us, one.reroute_us, one.retry_us)
        };
        assert_eq!(parts(1), (1_000, 30_000, 0, 20_000));
        assert_eq!(parts(2), (0, 20_000, 15_000, 1_000));
        assert_eq!(parts(3), (0, 0, 30_000, 10_000));
        assert_eq!(parts(8), (0, 1_800_000, 0, 8_000_000), "until it was back, and then until the end");
        let all = groups(&found);
        assert_eq!(all.iter().map(Group::messages).sum::<u64>(), 9);
        assert_eq!((all[0].fault, all[0].cause, all[0].late), (0, Cause::Unexplained, 1));
        assert_eq!(all.iter().find(|group| group.twice.contains_key("W1")).map(|group| group.fault), Some(2));
        let csv = csv(&found);
        assert_eq!(csv.lines().nth(3), Some("3,9010,1,late,,undetected,0,20,15,1,36.5"), "{csv}");
        assert_eq!(csv.lines().count(), 10);
        let of_first = |due| affected(&[Fate { intended_us: due, begun_us: Some(due), ..open }], &faults)[0];
        let hung = of_first(10_010_000);
        assert_eq!((hung.fault, hung.cause, hung.harm), (1, Cause::Undetected, Harm::Unanswered), "not the last one's");
        assert_eq!(of_first(25_000_000).fault, 2, "behind all of them");
        let recovered = Impact { recovery_ms: Some(100.0), ..impact(Some(30.0)) };
        let late = |due| {
            affected(&[fate(0, due, due, due + 30_000)], &[(strike(10_000_000, 20_000_000), recovered.clone())])[0]
                .cause
        };
        assert_eq!((late(12_900_000), late(13_100_000)), (Cause::Returned, Cause::Unexplained));
        assert!(affected(&fates, &[]).is_empty(), "no fault, no story");
    }
}
