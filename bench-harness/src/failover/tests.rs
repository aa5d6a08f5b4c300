//! Figures of one fault and of many, from timelines made by hand.

use super::*;

const SECOND: u64 = 1_000_000;

/// 10 000 messages a second for `seconds`, each accepted after 1 ms and delivered after 2, on two routes in turn;
/// `bend` may change each.
fn timeline(seconds: u64, bend: impl Fn(&mut Fate)) -> Vec<Fate> {
    (0..seconds * 10_000)
        .map(|i| {
            let intended_us = i * 100;
            let mut fate = Fate {
                seq: 0,
                intended_us,
                begun_us: Some(intended_us),
                answered_us: intended_us + 1_000,
                answer: Answer::Accepted,
                delivered_us: Some(intended_us + 2_000),
                route: (i % 2) as u16,
                doubled: None,
            };
            bend(&mut fate);
            fate
        })
        .collect()
}

fn strike(struck_s: u64, healed_s: Option<u64>, end_s: u64) -> Strike {
    Strike {
        asked_us: struck_s * SECOND,
        struck_us: struck_s * SECOND,
        gone_us: struck_s * SECOND,
        healed_us: healed_s.map(|s| s * SECOND),
        lost_route: Some(0),
        others_share: None,
        tries: None,
        window_start_us: 0,
        window_end_us: end_s * SECOND,
    }
}

/// The only fault's.
fn impact(fates: &[Fate], strike: &Strike) -> Option<Impact> {
    impacts(fates, std::slice::from_ref(strike)).pop().map(|(_, impact)| impact)
}

/// Two faults with three seconds between the heal of the one at 3.5 s and the strike of the other.
fn two_strikes() -> [Strike; 2] {
    let first = Strike { healed_us: Some(3_500_000), window_end_us: 6_500_000, ..strike(2, None, 9) };
    let window_start_us = 3_500_000;
    [
        first,
        Strike { asked_us: 6_500_000, struck_us: 6_500_000, gone_us: 6_500_000, window_start_us, ..strike(6, None, 9) },
    ]
}

#[test]
fn what_a_heal_disturbs_is_in_no_baseline() {
    // For 200 ms behind the first heal messages are 100 ms late; so they are for 50 ms behind the second strike.
    let fates = timeline(9, |f| {
        if (3_500_000..3_700_000).contains(&f.intended_us) || (6_500_000..6_550_000).contains(&f.intended_us) {
            f.answered_us = f.intended_us + 100_000;
            f.delivered_us = Some(f.answered_us + 1_000);
        }
    });
    let [(_, first), (_, second)] = &impacts(&fates, &two_strikes())[..] else { panic!("two faults") };
    assert_eq!((first.deadline_ms, first.outage_ms, first.heal_ms), (20.0, 200.0, Some(200.0)));
    assert_eq!((second.deadline_ms, second.before_p99_ms), (20.0, 1.0));
    assert_eq!((second.outage_ms, second.affected), (50.0, 500));
    assert_eq!(second.drain_ms, Some(150.8), "back at the usual level of before");
}

#[test]
fn a_fault_that_strikes_into_the_trouble_of_the_one_before_is_compared_with_the_first_baseline() {
    let fates = timeline(9, |f| {
        if (3_500_000..5_600_000).contains(&f.intended_us) || (6_500_000..6_550_000).contains(&f.intended_us) {
            f.answered_us = f.intended_us + 100_000;
        }
    });
    let [_, (_, second)] = &impacts(&fates, &two_strikes())[..] else { panic!("two faults") };
    assert_eq!((second.deadline_ms, second.outage_ms), (20.0, 50.0), "less than a second of its own is undisturbed");
}

#[test]
fn a_fault_that_nobody_feels_costs_nothing() {
    let impact = impact(&timeline(14, |_| {}), &strike(2, Some(3), 14)).expect("a baseline");
    assert_eq!((impact.bucket_ms, impact.deadline_ms), (10.0, 20.0));
    assert_eq!((impact.outage_ms, impact.hard_outage_ms, impact.affected), (0.0, 0.0, 0));
    assert_eq!(impact.recovery_ms, Some(0.0));
    assert_eq!(impact.heal_ms, Some(0.0));
    assert_eq!((impact.stranded, impact.stranded_last_ms, impact.dying_ms), (Some(0), None, 0.0));
    assert_eq!(impact.debt_message_s, 0.0);
    assert_eq!(impact.drain_ms, Some(0.0));
    assert!(impact.ack_gap_ms <= 0.1 + 1e-9, "{}", impact.ack_gap_ms);
}

#[test]
fn p_004_what_a_fault_could_double_is_what_was_not_settled_or_not_answered() {
    // 20 ms before and behind the strike, 10 messages a millisecond, both ends included.
    let server = Strike { lost_route: None, ..strike(2, Some(3), 14) };
    assert_eq!(impact(&timeline(14, |_| {}), &server).expect("a baseline").duplicates_max, 401);
    let next_hop = impact(&timeline(14, |_| {}), &strike(2, Some(3), 14)).expect("a baseline");
    assert_eq!(next_hop.duplicates_max, 201, "only what went to the one that died");
    // A hundred more wait for their answer when the server dies.
    let waiting = timeline(14, |f| {
        if (1_900_000..1_910_000).contains(&f.intended_us) {
            (f.answer, f.delivered_us) = (Answer::Other, None);
            f.answered_us = 2_050_000;
        }
    });
    assert_eq!(impact(&waiting, &server).expect("a baseline").duplicates_max, 501);
    let summary = summarise("hub", vec![next_hop.clone(), next_hop], Some(0), Some(3)).expect("two faults");
    assert_eq!(summary.duplicates_max, 402);
    // Without an answer: those hundred, and the usual ten and one that were under way; what was never begun is in no doubt.
    let lost = impact(&waiting, &server).expect("a baseline");
    assert_eq!(lost.unanswered_max, 111);
    let slow = Strike { gone_us: server.gone_us + 1_000, ..server };
    assert_eq!(impact(&waiting, &slow).expect("a baseline").unanswered_max, 121, "what began while it died");
    let unbegun: Vec<Fate> =
        waiting.iter().map(|f| Fate { begun_us: f.begun_us.filter(|_| f.answer == Answer::Accepted), ..*f }).collect();
    assert_eq!(impact(&unbegun, &server).expect("a baseline").unanswered_max, 11);
    assert_eq!(summary.unanswered_max, 0, "a next hop takes no answer of ours with it");
}

#[test]
fn a_silence_of_50_ms_is_a_hard_outage_less_the_deadline() {
    // From 2 s on nothing is accepted until 2.05 s; what was due meanwhile is accepted then.
    let fates = timeline(14, |f| {
        if (2_000_000..2_050_000).contains(&f.intended_us) {
            f.answered_us = 2_050_000;
        }
    });
    let impact = impact(&fates, &strike(2, None, 14)).expect("a baseline");
    // Due at 2.030 s or later is answered within 20 ms: good. The three buckets before hold none that is good.
    assert_eq!((impact.outage_ms, impact.hard_outage_ms, impact.brownout_ms), (30.0, 30.0, 0.0));
    assert_eq!(impact.affected, 300);
    assert_eq!(impact.recovery_ms, Some(30.0));
    assert_eq!(impact.heal_ms, None);
    // The last 250 before it was read at 2.0009 s, the next at 2.05.
    assert!((impact.ack_gap_ms - 49.1).abs() < 0.11, "{}", impact.ack_gap_ms);
    // Each of 500 messages waited 50 - k/10 ms, one of them usual: their sum, by hand.
    let debt: f64 = (0..500).map(|k| (50.0 - f64::from(k) / 10.0 - 1.0).max(0.0)).sum::<f64>() / 1000.0;
    assert!((impact.debt_message_s - debt).abs() < 1e-3, "{} {debt}", impact.debt_message_s);
}

#[test]
fn half_of_the_messages_late_is_a_brownout() {
    let fates = timeline(14, |f| {
        if (2_000_000..2_200_000).contains(&f.intended_us) && f.route == 0 {
            f.answered_us = f.intended_us + 500_000;
        }
    });
    let impact = impact(&fates, &strike(2, Some(4), 14)).expect("a baseline");
    assert_eq!((impact.outage_ms, impact.hard_outage_ms, impact.brownout_ms), (200.0, 0.0, 200.0));
    assert_eq!(impact.affected, 1000);
    assert_eq!(impact.heal_ms, Some(0.0));
    assert!(impact.ack_gap_ms < 1.0);
}

#[test]
fn refused_messages_are_not_good_however_fast() {
    let fates = timeline(13, |f| {
        if (2_000_000..2_100_000).contains(&f.intended_us) {
            f.answer = Answer::Other;
            f.delivered_us = None;
        }
    });
    let impact = impact(&fates, &strike(2, None, 13)).expect("a baseline");
    assert_eq!((impact.outage_ms, impact.hard_outage_ms), (100.0, 100.0));
    assert!(impact.ack_gap_ms >= 99.0 && impact.ack_gap_ms <= 101.1, "{}", impact.ack_gap_ms);
}

#[test]
fn the_heal_has_its_own_disturbance() {
    let fates = timeline(20, |f| {
        if (5_000_000..5_040_000).contains(&f.intended_us) {
            f.answered_us = f.intended_us + 30_000;
        }
    });
    let impact = impact(&fates, &strike(2, Some(5), 20)).expect("a baseline");
    assert_eq!((impact.outage_ms, impact.heal_ms), (40.0, Some(40.0)));
    assert_eq!(impact.recovery_ms, Some(3040.0), "ten steady seconds begin behind the heal");
}

#[test]
fn recovery_is_unknown_when_the_run_ends_before_ten_steady_seconds() {
    let impact = impact(&timeline(8, |_| {}), &strike(2, None, 8)).expect("a baseline");
    assert_eq!(impact.recovery_ms, None);
}

#[test]
fn a_good_but_slow_aftermath_is_not_recovered() {
    // 3 ms is within the deadline, but more than twice the p99 of 1 ms before.
    let fates = timeline(30, |f| {
        if (2_000_000..6_000_000).contains(&f.intended_us) {
            f.answered_us = f.intended_us + 3_000;
        }
    });
    let impact = impact(&fates, &strike(2, None, 30)).expect("a baseline");
    assert_eq!(impact.outage_ms, 0.0);
    let recovery = impact.recovery_ms.expect("steady in the end");
    assert!((3_800.0..=4_000.0).contains(&recovery), "{recovery}: one slow message in a hundred may be inside");
}

#[test]
fn what_rested_on_the_dead_hub_is_stranded_until_its_return() {
    let fates = timeline(14, |f| {
        // Accepted in the last 5 ms before the strike, delivered 80 ms after the return at 4 s.
        if (1_995_000..1_999_000).contains(&f.intended_us) {
            f.delivered_us = Some(4_080_000);
        }
    });
    let impact = impact(&fates, &strike(2, Some(4), 14)).expect("a baseline");
    assert_eq!((impact.stranded, impact.stranded_last_ms), (Some(40), Some(80.0)));
    assert_eq!(impact.drain_ms, Some(2080.0));
    assert!(impact.backlog_peak >= 40);
}

#[test]
fn what_rests_on_one_that_never_came_back_is_not_known() {
    let never =
        impact(&timeline(14, |_| {}), &Strike { gone_us: 2_003_000, ..strike(2, None, 14) }).expect("a baseline");
    assert_eq!((never.stranded, never.stranded_last_ms, never.dying_ms), (None, None, 3.0));
    let known = Impact { stranded: Some(2), ..Impact::default() };
    let summary = summarise("hub", vec![known, never], Some(0), Some(0)).expect("two faults");
    assert_eq!(summary.stranded, StrandedSum { messages: None, last_delivered_ms: None });
}

#[test]
fn detection_needs_more_than_the_survivors_usual_share() {
    // Route 0 is dead from 2 s on: its messages come 30 ms later by route 1, from 2.03 s on all go there directly.
    let fates = timeline(14, |f| {
        if f.intended_us >= 2_000_000 && f.route == 0 {
            f.route = 1;
            if f.intended_us < 2_030_000 {
                f.delivered_us = Some(2_032_000 + (f.intended_us - 2_000_000) / 10);
            }
        }
    });
    let detection = impact(&fates, &strike(2, None, 14)).expect("a baseline").detection_ms.expect("detected");
    assert!((32.0..36.0).contains(&detection), "{detection}");
    let healthy = timeline(14, |_| {});
    assert_eq!(impact(&healthy, &strike(2, None, 14)).expect("a baseline").detection_ms, None);
}

#[test]
fn a_standby_shows_detection_with_its_first_message() {
    let fates = timeline(14, |f| {
        f.route = u16::from(f.intended_us >= 2_017_000);
        if (2_000_000..2_017_000).contains(&f.intended_us) {
            f.delivered_us = None;
        }
    });
    let detection = impact(&fates, &strike(2, None, 14)).expect("a baseline").detection_ms;
    assert_eq!(detection, Some(19.0), "due at 2.017 s, delivered 2 ms later");
}

/// Of two hubs one is dead from 2 s on. Every other message, which was its part, is refused until 2.04 s (or for ever); from
/// then on the other takes them all.
#[test]
fn a_dead_hub_is_detected_when_more_is_acknowledged_than_the_others_usual_share() {
    let routed_around_from = |at_us: u64| {
        timeline(14, |f| {
            if (2_000_000..at_us).contains(&f.intended_us) && f.route == 0 {
                (f.answer, f.delivered_us) = (Answer::Other, None);
            }
        })
    };
    let hub = |others_share| Strike { lost_route: None, others_share, ..strike(2, None, 14) };
    let detected = |fates: &[Fate], strike: &Strike| impact(fates, strike).expect("a baseline").detection_ms;
    // Half of n + 200 of the 2n due is more than half of all by three deviations a little later, and 1 ms for the answer.
    let found = detected(&routed_around_from(2_040_000), &hub(Some(0.5))).expect("detected");
    assert!((41.0..55.0).contains(&found), "{found}");
    let at_once = detected(&routed_around_from(0), &hub(Some(0.5))).expect("detected");
    assert!((1.0..6.0).contains(&at_once), "{at_once}: as soon as it can be told from chance");
    assert_eq!(detected(&routed_around_from(u64::MAX), &hub(Some(0.5))), None, "the usual share proves nothing");
    assert_eq!(detected(&routed_around_from(2_040_000), &hub(None)), None, "nobody beside it, or nobody knows");
    // It was alone: the first acknowledgement of what was begun when it was gone.
    let gone = Strike { gone_us: 2_010_000, ..hub(Some(0.0)) };
    assert_eq!(detected(&routed_around_from(0), &gone), Some(11.0));
}

#[test]
fn a_slow_schedule_has_wider_buckets() {
    assert_eq!(bucket_us(10_000, SECOND), 10_000);
    assert_eq!(bucket_us(500, SECOND), 200_000);
    assert_eq!(bucket_us(9_999, SECOND), 20_000);
    assert_eq!(bucket_us(0, SECOND), 100 * SECOND);
}

#[test]
fn what_the_harness_disturbs_before_it_strikes_is_no_part_of_the_baseline() {
    let asked_us = 1_900_000;
    let fates = timeline(14, |fate| {
        if (asked_us..2 * SECOND).contains(&fate.intended_us) {
            fate.answered_us = fate.intended_us + 7_000;
        }
    });
    let before =
        |asked_us| impact(&fates, &Strike { asked_us, ..strike(2, None, 13) }).expect("a baseline").before_p99_ms;
    assert_eq!([before(asked_us), before(2 * SECOND)], [1.0, 7.0]);
}

#[test]
fn the_deadline_follows_the_p99_before() {
    let fates = timeline(13, |f| f.answered_us = f.intended_us + 7_000);
    assert_eq!(impact(&fates, &strike(2, None, 13)).expect("a baseline").deadline_ms, 35.0);
}

#[test]
fn without_a_baseline_there_is_no_figure() {
    assert_eq!(impact(&timeline(3, |f| f.answer = Answer::Other), &strike(2, None, 3)), None);
    assert_eq!(impact(&[], &strike(2, None, 3)), None);
}

#[test]
fn few_faults_have_a_worst_but_no_percentiles() {
    assert_eq!(spread([3.0, 1.0]), Spread { p50: None, p99: None, max: Some(3.0) });
    assert_eq!(spread([]), Spread::default());
    let nine = spread((1..=9).map(f64::from));
    assert_eq!(nine, Spread { p50: Some(5.0), p99: Some(9.0), max: Some(9.0) });
}

#[test]
fn one_that_never_recovered_leaves_no_worst() {
    let took = |ms| Impact { recovery_ms: ms, detection_ms: Some(1.0), ..Impact::default() };
    let summary = summarise("hub", vec![took(Some(10.0)), took(None)], Some(0), Some(0)).expect("two faults");
    assert_eq!((summary.recovery_ms.max, summary.detection_ms.max), (None, Some(1.0)));
}

#[test]
fn a_summary_keeps_every_fault_and_the_worst() {
    let each = vec![
        Impact { outage_ms: 10.0, stranded: Some(2), stranded_last_ms: Some(5.0), ..Impact::default() },
        Impact { outage_ms: 30.0, stranded: Some(1), stranded_last_ms: None, ..Impact::default() },
    ];
    let summary = summarise("hub", each, Some(0), Some(1)).expect("two faults");
    assert_eq!((summary.faults, summary.outage_ms.max, summary.outage_ms.p50), (2, Some(30.0), None));
    assert_eq!(summary.stranded, StrandedSum { messages: Some(3), last_delivered_ms: Some(5.0) });
    assert_eq!(summary.each.len(), 2);
    assert_eq!(summarise("hub", vec![], None, None), None);
}
