//! Replays recordings of a few lines with the shipped model.
use std::time::Duration;

use paramedic_core::{
    guard::{Symptom, Treatment},
    health::{Health, Poll, Says},
    signal::{CgroupReading, KernelReading, Polled, Sample},
};
use paramedic_record::trace::{Absurd, testing::header};

use paramedic_core::target::Settings;

use super::*;

const MS: u64 = 1_000_000;

fn confirming(ms: u64, errors: u32) -> Line {
    sample(ms, errors, Trigger::Confirm)
}

/// A sample with this many errors, this many milliseconds after the start, of a service that was
/// well before.
fn sample(ms: u64, errors: u32, trigger: Trigger) -> Line {
    let at = BootTime::from_nanos(1_000 + ms * MS);
    let mut kernel = KernelReading::default();
    kernel.counters.responses = [0, if ms < 100 { 0 } else { 9 }, 0, 0, errors.into()];
    let health = Health {
        says: Says::Well,
        cpu_usage: Some(5.0),
        memory_usage: Some(20.0),
        error_count: Some(errors),
        uptime: Some(600.0),
        ..Health::default()
    };
    let poll = Poll { latency: Duration::from_millis(2), ..Poll::for_tests(at, Ok(health)) };
    let sample = Sample {
        at,
        trigger,
        kernel: Some(kernel),
        poll: Polled::Now(poll),
        usage: CgroupReading::default(),
        process: None,
        host: None,
    };
    line(ms, &Event::Sampled(0, Box::new(sample)))
}

fn line(ms: u64, event: &Event) -> Line {
    Line(1_000 + ms * MS, 12, What::of(event).unwrap())
}

fn added(ceiling: Remedy) -> Line {
    let target = Target { settings: Settings::up_to(ceiling), ..Target::for_tests("shop", 1) };
    line(0, &Event::Added(0, Box::new(target)))
}

/// Eight errors, and what an agent did that was permitted a reset.
fn eight_errors(ceiling: Remedy) -> Vec<Line> {
    vec![
        added(ceiling),
        confirming(10, 0),
        confirming(2000, 8),
        confirming(2100, 8),
        confirming(2200, 8),
    ]
}

struct Heard {
    player: Player,
    remedies: Vec<(u64, Remedy)>,
    refusals: Vec<&'static str>,
    preferred: Vec<(Remedy, Remedy)>,
    rows: usize,
}

fn play(lines: Vec<Line>, trial: Trial) -> Heard {
    let mut player = Player::new(Arc::new(Classifier::embedded()), trial);
    player.part(&header());
    let (mut remedies, mut refusals, mut preferred, mut rows) =
        (Vec::new(), Vec::new(), Vec::new(), 0);
    for line in lines {
        let mut tell = |told: Told<'_>| match told.what {
            Seen::Row { .. } => rows += 1,
            Seen::Remedy(intent) => {
                remedies.push(((told.at.as_nanos() - 1_000) / MS, intent.remedy));
            }
            Seen::Refused(_, refusal, _) => refusals.push(refusal.gate.name()),
            Seen::Preferred(seen) => preferred.push((seen.first, seen.otherwise)),
            _ => {}
        };
        player.take(line, wrong, &mut tell).unwrap();
    }
    Heard { player, remedies, refusals, preferred, rows }
}

#[test]
fn a_replay_repeats_the_recorded_remedies() {
    let mut lines = eight_errors(Remedy::Soft);
    lines.insert(4, Line(1_000 + 2100 * MS, 0, What::Did(0, Remedy::Soft, 0.9)));
    let treated = Event::Treated {
        index: 0,
        incident: None,
        result: paramedic_core::engine::Remedied::Given,
    };
    lines.insert(5, line(2150, &treated));
    lines.extend([confirming(2300, 0), confirming(18_000, 0)]);
    let heard = play(lines, Trial::default());
    assert_eq!(heard.remedies, [(2100, Remedy::Soft)]);
    assert_eq!(heard.player.summary().difference(), None);
    assert_eq!(heard.rows, 6);
    assert_eq!(heard.player.summary().samples, 6);
}

#[test]
fn a_remedy_that_differs_from_the_recorded_one_is_reported() {
    let mut lines = eight_errors(Remedy::Soft);
    lines.push(Line(1_000 + 2300 * MS, 0, What::Did(0, Remedy::Restart, 0.9)));
    let heard = play(lines, Trial::default());
    let (given, recorded) = heard.player.summary().difference().unwrap();
    assert_eq!((given[0].remedy, recorded[0].remedy), (Remedy::Soft, Remedy::Restart));
}

#[test]
fn a_higher_ceiling_shows_what_an_observing_agent_would_have_done() {
    let heard = play(eight_errors(Remedy::Observe), Trial::default());
    assert_eq!(heard.remedies, []);
    assert_eq!(heard.refusals, ["mode"]);
    let permitted = Trial { max_remedy: Some(Remedy::Restart), ..Trial::default() };
    let heard = play(eight_errors(Remedy::Observe), permitted.clone());
    assert_eq!(heard.remedies, [(2100, Remedy::Soft)]);
    // It had no effect, so the cooldown passes and it would be applied again.
    let mut lines = eight_errors(Remedy::Observe);
    lines.extend([confirming(13_000, 9), confirming(13_100, 9)]);
    assert_eq!(play(lines, permitted).remedies, [(2100, Remedy::Soft), (13_000, Remedy::Soft)]);
}

/// An agent that observes examines no host, and what it would have done is told all the same.
#[test]
fn a_trial_needs_no_examination_of_the_host() {
    let lines = vec![
        added(Remedy::Observe),
        sample(10, 0, Trigger::Tick),
        sample(2000, 8, Trigger::Tick),
        sample(4000, 8, Trigger::Tick),
    ];
    let permitted = Trial { max_remedy: Some(Remedy::Restart), ..Trial::default() };
    assert_eq!(play(lines, permitted).remedies, [(4000, Remedy::Soft)]);
}

/// Where the memory of the workload changed the decision, a replay says so and counts it.
#[test]
fn what_earlier_outcomes_changed_is_told_and_counted() {
    let treatment = |remedy, outcome| Treatment {
        remedy,
        symptom: Symptom::Errors,
        outcome,
        began: BootTime::from_nanos(900),
        at: BootTime::from_nanos(900),
    };
    let play_with = |treatments: &[Treatment], trial| {
        let mut lines = eight_errors(Remedy::Restart);
        let late = 700_000;
        for line in &mut lines[1..] {
            let Line(at, hour, what) = line.clone();
            let What::Sample(record) = &what else { panic!("no sample") };
            let Some(Event::Sampled(index, mut look)) =
                What::Sample(record.clone()).event().unwrap()
            else {
                panic!("no sample")
            };
            look.at = look.at + Duration::from_millis(late);
            let what = What::of(&Event::Sampled(index, look)).unwrap();
            *line = Line(at + late * MS, hour, what);
        }
        for treatment in treatments {
            let (workload, treatment) = ("shop".to_owned(), *treatment);
            lines.insert(1, line(0, &Event::Remembered { workload, treatment }));
        }
        play(lines, trial)
    };
    let trial = || Trial { max_remedy: Some(Remedy::Restart), ..Trial::default() };
    let none = play_with(&[], trial());
    assert_eq!(none.remedies, [(702_100, Remedy::Soft)]);
    assert_eq!(none.player.summary().memory, ByMemory::default());

    let (soft_failed, restart_helped) =
        (treatment(Remedy::Soft, Outcome::NotHealed), treatment(Remedy::Restart, Outcome::Healed));
    let changed = play_with(&[soft_failed, restart_helped], trial());
    assert_eq!(changed.player.summary().memory, ByMemory { preferred: 1, refused: 0 });
    assert_eq!(changed.preferred, [(Remedy::Restart, Remedy::Soft)]);
    assert_eq!(changed.remedies, [], "three samples are no evidence for a restart");
}

/// Whatever is tried, a trace reports what its agent decided, did and found, for removed targets
/// too.
#[test]
fn a_trial_also_reports_what_the_recorded_agent_did() {
    let mut lines = eight_errors(Remedy::Observe);
    let at = 1_000 + 2300 * MS;
    lines.extend([
        Line(at, 0, What::Said(0, Action::RestartService)),
        Line(at, 0, What::Did(0, Remedy::Evict, 0.9)),
        Line(at, 0, What::Removed(0)),
        Line(at, 0, What::Concluded(0, Remedy::Evict, Outcome::Healed)),
    ]);
    let mut told = Vec::new();
    let mut player = Player::new(Arc::new(Classifier::embedded()), other_model());
    player.part(&header());
    for line in lines {
        let mut tell = |seen: Told<'_>| {
            if let Seen::Recorded(recorded) = seen.what {
                told.push((seen.target.name.clone(), recorded));
            }
        };
        player.take(line, wrong, &mut tell).unwrap();
    }
    let expected = [
        Recorded::Verdict(Action::RestartService),
        Recorded::Remedy(Remedy::Evict),
        Recorded::Outcome(Remedy::Evict, Outcome::Healed),
    ];
    let name = Target::for_tests("shop", 1).name;
    assert_eq!(told, expected.map(|recorded| (name.clone(), recorded)));
}

fn other_model() -> Trial {
    Trial { other_model: true, ..Trial::default() }
}

fn wrong(why: &dyn std::fmt::Display) -> TraceError {
    TraceError::NoTrace { path: "x".into(), why: why.to_string() }
}

#[test]
fn a_changed_confidence_is_a_trial() {
    let trial = Trial { min_confidence: Some(1.0), ..Trial::default() };
    let heard = play(eight_errors(Remedy::Soft), trial);
    assert_eq!(heard.remedies, []);
    assert_eq!(heard.refusals, ["confidence"]);
}

#[test]
fn a_later_part_continues_a_run_and_can_be_read_alone() {
    let Line(.., What::Added(0, who)) = added(Remedy::Soft) else { panic!("not added") };
    let known = Line(1_000 + 2050 * MS, 0, What::Known(0, who));
    let later = Header { part: 1, ..header() };
    let mut both = play(eight_errors(Remedy::Soft)[..3].to_vec(), Trial::default());
    both.player.part(&later);
    let mut remedies = 0;
    for line in [known.clone(), confirming(2100, 8)] {
        let mut tell =
            |told: Told<'_>| remedies += usize::from(matches!(told.what, Seen::Remedy(_)));
        both.player.take(line, wrong, &mut tell).unwrap();
    }
    assert_eq!(remedies, 1, "the sample before, in the first part, counts");
    assert!(!both.player.summary().begins_late);

    let mut alone = Player::new(Arc::new(Classifier::embedded()), Trial::default());
    alone.part(&later);
    for line in [known, confirming(2100, 8)] {
        alone.take(line, wrong, &mut |_| ()).unwrap();
    }
    assert_eq!((alone.summary().samples, alone.summary().begins_late), (1, true));
    assert!(alone.summary().remedies.is_empty(), "one sample is no evidence");
}

#[test]
fn a_gap_of_years_is_skipped() {
    let mut lines = eight_errors(Remedy::Soft);
    let Line(.., what) = confirming(0, 8);
    lines.push(Line(u64::MAX / 2, 12, what));
    assert_eq!(play(lines, Trial::default()).rows, 5);
}

#[test]
fn extreme_numbers_do_not_overflow() {
    let missing = Line(1_000, 0, What::Missing(u64::MAX));
    let mut heard = play(vec![missing.clone(), missing], Trial::default());
    assert_eq!(heard.player.summary().missing, u64::MAX);
    heard.player.part(&Header { part: u32::MAX, ..header() });
    heard.player.part(&header());
    assert!(heard.player.summary().begins_late);
}

#[test]
fn an_absurd_line_is_an_error_of_the_caller() {
    let mut player = Player::new(Arc::new(Classifier::embedded()), Trial::default());
    player.part(&header());
    let error = player.take(Line(2_000, 0, What::Lost(1 << 40)), wrong, &mut |_| ()).unwrap_err();
    assert!(error.to_string().ends_with(&Absurd::Place.to_string()), "{error}");
}
