use paramedic_core::{
    guard::{Refusal, Why},
    target::Quarantine,
};

use super::*;

fn at(seconds: u64) -> Moment {
    Moment {
        now: BootTime::from_nanos((1000 + seconds) * 1_000_000_000),
        unix_s: 1_767_323_045 + i64::try_from(seconds).unwrap(),
    }
}

fn teller() -> Teller {
    Teller::new("worker-1", names("shop, on-call"), Vec::new())
}

fn web() -> Target {
    Target::for_tests("web", 1)
}

fn names(text: &str) -> ChannelNames {
    ChannelNames::read(text).unwrap()
}

/// The target, with these channels.
fn web_for(channels: &str) -> Target {
    let mut target = web();
    target.settings.notify = names(channels);
    target
}

fn ended(remedy: Remedy, outcome: Outcome) -> Ended<'static> {
    Ended {
        incident: Some(4),
        remedy,
        outcome,
        took: Duration::from_secs(15),
        detail: None,
        exhausted: false,
    }
}

fn by(gate: Gate) -> Refusal {
    Refusal { gate, why: Why::ObserveOnly }
}

fn refused(teller: &mut Teller, gate: Gate, seconds: u64) -> Option<Telling> {
    teller.refused(&web(), Remedy::Restart, &by(gate), || "errors".to_owned(), at(seconds))
}

/// Refused every 5 s.
fn refused_from_to(teller: &mut Teller, gate: Gate, from: u64, to: u64) -> Vec<Telling> {
    (from..to).step_by(5).filter_map(|second| refused(teller, gate, second)).collect()
}

#[test]
fn a_remedy_that_helps_alone_is_one_notification_for_information() {
    let mut teller = teller();
    teller.treats(&web(), "errors: error_count=8", at(0));
    let told = teller.concluded(&web(), &ended(Remedy::Soft, Outcome::Healed), at(15)).unwrap();
    let Notification { event, phase, severity, since, at: told_at, .. } = told.notification;
    assert_eq!((event, phase, severity), (Occasion::Healed, Phase::Info, Severity::Info));
    assert_eq!((since, told_at), (at(0).unix_s, at(15).unix_s));
    assert_eq!(told.change, Change::Nothing);
    let Notification { summary, seen, done, incident, .. } = told.notification;
    assert_eq!(summary, "web: healed by soft");
    assert_eq!((seen.as_str(), incident), ("errors: error_count=8", Some(4)));
    assert_eq!(done, ["soft: healed after 15 s"]);
    assert_eq!(teller.decided(&web(), true, at(900)), None);
}

#[test]
fn a_quarantine_is_told_as_such_and_once() {
    let mut kept = web();
    kept.settings.quarantine = Some(Quarantine { lasts: Duration::from_secs(60) });
    let mut teller = teller();
    teller.treats(&kept, "errors", at(0));
    let told = teller.concluded(&kept, &ended(Remedy::Evict, Outcome::Healed), at(30)).unwrap();
    let Notification { summary, advice, done, .. } = told.notification;
    assert_eq!(summary, "web: healed by quarantine");
    assert!(advice.contains("paramedic release web"), "{advice}");
    assert_eq!(done, ["quarantine: healed after 15 s"]);
    // The pod is still ill, and refused for as long as it is kept.
    kept.no_evict = Some(Obstacle::InQuarantine);
    let mut refused = |seconds| {
        teller.refused(&kept, Remedy::Soft, &by(Gate::Mode), || "errors".to_owned(), at(seconds))
    };
    assert!((40..4000).step_by(5).all(|second| refused(second).is_none()));
}

#[test]
fn a_remedy_that_does_not_help_opens_a_problem_which_the_next_one_closes() {
    let mut teller = teller();
    teller.treats(&web(), "errors", at(0));
    let soft = ended(Remedy::Soft, Outcome::NotHealed);
    let trigger = teller.concluded(&web(), &soft, at(15)).unwrap();
    assert_eq!(trigger.notification.phase, Phase::Trigger);
    teller.treats(&web(), "errors", at(20));
    let restart = ended(Remedy::Restart, Outcome::Healed);
    let resolve = teller.concluded(&web(), &restart, at(40)).unwrap();
    assert_eq!(resolve.notification.phase, Phase::Resolve);
    assert_eq!(resolve.notification.key, trigger.notification.key);
    assert_eq!(resolve.notification.since, at(0).unix_s);
    assert_eq!(
        resolve.notification.done,
        ["soft: not_healed after 15 s", "restart: healed after 15 s"]
    );
    assert_eq!(resolve.change, Change::Closes(trigger.notification.key.clone()));
    let Change::Opens(problem) = trigger.change else { panic!("it opens") };
    assert_eq!((problem.uid.as_str(), problem.key), ("web", trigger.notification.key));
}

#[test]
fn every_bad_outcome_is_told_and_exhaustion_replaces_it() {
    for (outcome, event) in [
        (Outcome::NotHealed, Occasion::NotHealed),
        (Outcome::Worse, Occasion::Worse),
        (Outcome::Unverified, Occasion::Unverified),
        (Outcome::Failed, Occasion::Failed),
    ] {
        let mut teller = teller();
        let told = teller.concluded(&web(), &ended(Remedy::Soft, outcome), at(1)).unwrap();
        assert_eq!(told.notification.event, event);
        assert_eq!(told.notification.severity, Severity::Warning);
        let last = Ended { exhausted: true, ..ended(Remedy::Restart, outcome) };
        let told = teller.concluded(&web(), &last, at(60)).unwrap();
        assert_eq!(told.notification.event, Occasion::Exhausted);
        assert_eq!(told.notification.severity, Severity::Critical);
    }
}

#[test]
fn an_error_is_told_in_plain_text() {
    let mut teller = teller();
    let failed =
        Ended { detail: Some("exit\x1b[2J code\n1"), ..ended(Remedy::Restart, Outcome::Failed) };
    let told = teller.concluded(&web(), &failed, at(1)).unwrap().notification;
    assert!(told.outcome.ends_with("(exit\u{fffd}[2J code\u{fffd}1)"), "{}", told.outcome);
    assert_eq!(told.done, ["restart: failed after 15 s (exit\u{fffd}[2J code\u{fffd}1)"]);
}

#[test]
fn what_repeats_within_ten_minutes_is_counted_and_not_told() {
    let mut teller = teller();
    let healed = ended(Remedy::Soft, Outcome::Healed);
    assert!(teller.concluded(&web(), &healed, at(0)).is_some());
    for seconds in [60, 120, 599] {
        assert_eq!(teller.concluded(&web(), &healed, at(seconds)), None);
    }
    let told = teller.concluded(&web(), &healed, at(601)).unwrap().notification;
    assert_eq!(told.left_out, 3);
    assert_eq!(told.done.len(), 1);
    // The first of a problem is told whatever was told before.
    let bad = ended(Remedy::Soft, Outcome::NotHealed);
    for seconds in [700, 800] {
        assert!(teller.concluded(&web(), &bad, at(seconds)).is_some());
        assert_eq!(teller.concluded(&web(), &bad, at(seconds + 10)), None);
        assert!(teller.concluded(&web(), &healed, at(seconds + 20)).is_some());
    }
}

#[test]
fn five_minutes_in_which_it_is_well_end_a_problem() {
    let mut teller = teller();
    let bad = teller.concluded(&web(), &ended(Remedy::Soft, Outcome::Worse), at(0)).unwrap();
    for seconds in [10, 200] {
        assert_eq!(teller.decided(&web(), true, at(seconds)), None);
    }
    assert_eq!(teller.decided(&web(), false, at(201)), None);
    assert_eq!(teller.decided(&web(), true, at(202)), None);
    assert_eq!(teller.decided(&web(), true, at(501)), None);
    let told = teller.decided(&web(), true, at(502)).unwrap();
    assert_eq!(told.notification.event, Occasion::WellAgain);
    assert_eq!(told.change, Change::Closes(bad.notification.key));
    assert_eq!(teller.decided(&web(), true, at(1000)), None);
}

#[test]
fn a_target_that_is_removed_has_no_problem_any_more() {
    let mut teller = teller();
    assert_eq!(teller.removed(&web(), at(0)), None);
    teller.concluded(&web(), &ended(Remedy::Evict, Outcome::Unverified), at(1));
    let told = teller.removed(&web(), at(2)).unwrap().notification;
    assert_eq!((told.event, told.phase), (Occasion::Gone, Phase::Resolve));
    assert!(teller.cases.is_empty() && teller.problems.is_empty());
}

#[test]
fn whoever_is_asked_is_told_at_once_and_once() {
    let mut teller = teller();
    let told = refused_from_to(&mut teller, Gate::Approval, 0, 700);
    let [Telling { notification, .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(notification.at, at(0).unix_s);
    assert_eq!(notification.summary, "web: a remedy (restart) waits for approval");
    assert!(notification.advice.contains("paramedic approve"), "{}", notification.advice);
}

#[test]
fn ten_minutes_of_refusals_by_one_gate_are_told_once() {
    let mut teller = teller();
    assert_eq!(refused_from_to(&mut teller, Gate::Futile, 0, 600), []);
    let told = refused_from_to(&mut teller, Gate::Futile, 600, 1500);
    let [Telling { notification, .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(notification.summary, "web: not healed for 10 min, the gate futile refuses");
    assert_eq!(notification.since, at(0).unix_s);
    assert_eq!(notification.seen, "errors");
    assert!(notification.outcome.contains("restart is refused by the gate futile: its ceiling"));
    assert!(notification.advice.starts_with("look at the service"), "{}", notification.advice);
}

#[test]
fn a_lull_or_another_gate_begins_a_new_series() {
    let mut teller = teller();
    assert_eq!(refused_from_to(&mut teller, Gate::Futile, 0, 590), []);
    assert_eq!(refused_from_to(&mut teller, Gate::Overload, 590, 1190), []);
    assert_eq!(refused_from_to(&mut teller, Gate::Overload, 1255, 1850), []);
    // Gates that ask for time do not interrupt a series.
    assert_eq!(refused(&mut teller, Gate::Evidence, 1851), None);
    assert_eq!(refused_from_to(&mut teller, Gate::Overload, 1855, 1870).len(), 1);
}

#[test]
fn gates_that_ask_for_time_are_not_told() {
    for gate in Gate::ALL {
        let told = refused_from_to(&mut teller(), gate, 0, 900);
        let asks_for_time = [
            "evidence",
            "patience",
            "resize",
            "warm_up",
            "cooldown",
            "confidence",
            "window",
            "identity",
            "workload_lock",
        ]
        .contains(&gate.name());
        assert_eq!(told.is_empty(), asks_for_time, "{}", gate.name());
    }
}

#[test]
fn a_refusal_that_follows_from_what_was_told_is_not_told() {
    let mut teller = teller();
    let last = Ended { exhausted: true, ..ended(Remedy::Restart, Outcome::NotHealed) };
    teller.concluded(&web(), &last, at(0));
    assert_eq!(refused_from_to(&mut teller, Gate::Exhausted, 5, 900), []);
    teller.switch(true, at(900));
    assert_eq!(refused_from_to(&mut teller, Gate::Paused, 900, 1800), []);
}

#[test]
fn a_remedy_after_refusals_closes_their_problem() {
    let mut teller = teller();
    let told = refused_from_to(&mut teller, Gate::Rollout, 0, 605).remove(0);
    teller.treats(&web(), "errors", at(610));
    let end = teller.concluded(&web(), &ended(Remedy::Restart, Outcome::Healed), at(640)).unwrap();
    assert_eq!(end.notification.key, told.notification.key);
    assert_eq!(end.notification.phase, Phase::Resolve);
}

#[test]
fn the_switch_is_told_when_it_changes() {
    let mut teller = teller();
    assert_eq!(teller.switch(false, at(0)), []);
    let paused = teller.switch(true, at(1)).remove(0);
    assert_eq!(paused.notification.summary, "node worker-1: healing is paused");
    assert_eq!(teller.switch(true, at(2)), []);
    let resumed = teller.switch(false, at(3)).remove(0);
    assert_eq!(resumed.notification.key, paused.notification.key);
    assert_eq!(resumed.change, Change::Closes(paused.notification.key));
    assert_eq!(teller.switch(false, at(4)), []);
}

#[test]
fn a_problem_of_an_earlier_agent_is_closed_or_given_up() {
    let open = |uid: &str| Problem {
        key: format!("key of {uid}"),
        uid: uid.to_owned(),
        since: 7,
        channels: names("shop"),
    };
    let mut teller = Teller::new("worker-1", names("shop"), vec![open("web"), open("gone")]);
    assert_eq!(teller.switch(false, at(0)), []);
    assert_eq!(teller.decided(&web(), false, at(5)), None);
    assert_eq!(teller.switch(false, at(599)), []);
    let told = teller.switch(false, at(600));
    let [Telling { notification, to, change }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(notification.summary, "gone: no longer watched");
    assert_eq!(*to, names("shop"), "a channel that got the problem gets its end");
    assert_eq!(*change, Change::Closes("key of gone".to_owned()));
    let end = teller.concluded(&web(), &ended(Remedy::Restart, Outcome::Healed), at(700)).unwrap();
    assert_eq!(end.notification.key, "key of web");
    assert_eq!(end.notification.since, 7);
}

#[test]
fn keys_differ_by_node_target_and_time() {
    let key = |node: &str, uid: &str, since| {
        Teller::new(node, ChannelNames::default(), Vec::new()).problem(uid, since).key
    };
    let all = [key("a", "x", 1), key("b", "x", 1), key("a", "y", 1), key("a", "x", 2)];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4);
    assert!(all.iter().all(|key| key.len() == 42), "{all:?}");
    assert_eq!(all[0], key("a", "x", 1));
}

#[test]
fn a_notification_with_the_longest_texts_fits_into_the_journal() {
    let none = ChannelNames::default();
    let mut teller = Teller::new(&"\u{10ffff}".repeat(999), none, Vec::new());
    let longest = (10..26).map(|n| format!("{}{n}", "a".repeat(61))).collect::<Vec<_>>().join(",");
    let mut target = web_for(&longest);
    target.name = "\u{10ffff}".repeat(999);
    let long = "\u{10ffff}".repeat(9999);
    let mut told = None;
    for seconds in 0..20 {
        teller.treats(&target, &long, at(seconds * 700));
        let ended = Ended { detail: Some(&long), ..ended(Remedy::Restart, Outcome::NotHealed) };
        told = teller.concluded(&target, &ended, at(seconds * 700 + 9));
    }
    let content = serde_json::to_string(&told.unwrap().notification).unwrap();
    assert!(content.len() <= paramedic_record::journal::MAX_CONTENT, "{}", content.len());
}

#[test]
fn whom_a_target_names_is_told_and_stays_told_until_the_end() {
    let mut teller = teller();
    let healed = ended(Remedy::Soft, Outcome::Healed);
    let told = teller.concluded(&web(), &healed, at(0)).unwrap();
    assert!(told.to.is_empty());
    let failed = ended(Remedy::Soft, Outcome::NotHealed);
    let trigger = teller.concluded(&web_for("shop"), &failed, at(10)).unwrap();
    assert_eq!(trigger.to, names("shop"));
    let Change::Opens(problem) = trigger.change else { panic!("it opens") };
    assert_eq!(problem.channels, names("shop"));
    // Its owner changes the setting in between.
    let worse = ended(Remedy::Restart, Outcome::Worse);
    let trigger = teller.concluded(&web_for("on-call"), &worse, at(20)).unwrap();
    assert_eq!(trigger.to, names("shop, on-call"));
    let Change::Opens(problem) = trigger.change else { panic!("it goes on") };
    assert_eq!(problem.channels, names("shop, on-call"));
    let end = teller.removed(&web(), at(30)).unwrap();
    assert_eq!(end.to, names("shop, on-call"));
    // The next problem is another one.
    let trigger = teller.concluded(&web(), &failed, at(40)).unwrap();
    assert!(trigger.to.is_empty());
}

#[test]
fn a_name_that_no_channel_has_is_told_to_those_who_can_correct_it() {
    let mut teller = teller();
    let healed = ended(Remedy::Soft, Outcome::Healed);
    let told = teller.concluded(&web_for("shop, shpo"), &healed, at(0)).unwrap();
    let advice = told.notification.advice;
    assert!(advice.contains("paramedic.dev/notify names shpo, and no channel"), "{advice}");
}
