//! Whole incidents on a clock that is only a number: the engine against a target that is a few
//! counters. The rules decide here, so that these tests show what the engine does and not what a
//! model was trained to do.
use std::collections::BTreeMap;

use paramedic_pod_metrics::Metric;

use super::*;
use crate::{
    decide::Action,
    features::Blind,
    guard::{Gate, Symptom, Treatment},
    health::{Health, HealthError, Poll, Says, Transport},
    signal::{CgroupReading, HostFacts, KernelReading, Polled, ProcessState, Requests, Waiting},
    target::{Settings, Target},
    verify::Outcome,
};

const URL: &str = "http://localhost:5000";

/// A target as the agent sees it: its counters, and how it reacts to remedies.
#[derive(Clone, Debug, Default)]
struct Patient {
    errors: u32,
    counters: agent_common::Counters,
    throttled_periods: u64,
    cpu: f32,
    stuck: bool,
    /// It speaks another protocol than HTTP.
    not_http: bool,
    /// A signal has stopped its process.
    stopped: bool,
    /// When the oldest request that waits for it came.
    oldest: Option<BootTime>,
    /// Requests of its clients that are overdue, in spite of its good polls.
    overdue: u32,
    /// Whether its host has no CPU for it.
    starved: bool,
    stubborn: bool,
    lives: u32,
    /// Why its host shows that a restart would not help.
    futile: Option<&'static str>,
}

impl Patient {
    fn fail(&mut self) {
        self.errors += 1;
        self.counters.responses[4] += 1;
    }

    fn sample(&self, at: BootTime, trigger: Trigger) -> Sample {
        let health = Health {
            says: Says::Well,
            cpu_usage: Some(self.cpu),
            memory_usage: Some(20.0),
            error_count: Some(self.errors),
            uptime: None,
            ..Health::default()
        };
        let result = if self.stuck || self.stopped {
            Err(HealthError::Transport(Transport::Timeout))
        } else if self.not_http {
            Err(HealthError::Transport(Transport::NotHttp))
        } else {
            Ok(health)
        };
        Sample {
            at,
            trigger,
            kernel: Some(KernelReading {
                counters: self.counters,
                throttling: agent_common::Throttling {
                    periods: self.throttled_periods,
                    nanoseconds: 0,
                    period_ns: 100_000_000,
                },
                own_responses: [0; 5],
                own_in_trailers: 0,
                own_resets: 0,
                own_unavailable: 0,
                latencies: None,
                waiting: Some(Waiting { requests: 3, oldest: self.oldest }),
                requests: Some(Requests {
                    overdue_after: Some(1),
                    overdue: self.overdue,
                    ..Requests::default()
                }),
            }),
            poll: Polled::Now(Poll {
                latency: Duration::from_millis(1),
                responses: [0, u32::from(result.is_ok()), 0, 0, 0],
                ..Poll::for_tests(at, result)
            }),
            usage: CgroupReading::default(),
            process: Some(if self.stopped { ProcessState::Stopped } else { ProcessState::Active }),
            host: (self.futile.is_some() || self.starved).then(|| {
                let (futile, starved) = (self.futile.map(Box::from), self.starved);
                Box::new(HostFacts { futile, starved, ..HostFacts::default() })
            }),
        }
    }
}

fn target(instance: u32) -> Box<Target> {
    Box::new(Target::for_tests(URL, instance))
}

/// A treatment of silence at this time.
fn treatment(remedy: Remedy, outcome: Outcome, at: BootTime) -> Treatment {
    Treatment { remedy, symptom: Symptom::Silence, outcome, began: at, at }
}

/// Runs the engine against simulated targets, millisecond by millisecond.
struct Stage {
    engine: Engine,
    now: BootTime,
    patients: Vec<Patient>,
    /// Events by time, in milliseconds since the start.
    script: BTreeMap<u64, Vec<fn(&mut Patient)>>,
    heals: Vec<(u64, Index, Remedy)>,
    outcomes: Vec<(u64, Remedy, Outcome)>,
    refusals: Vec<(u64, Gate)>,
    left_alone: Vec<Notable>,
    preferred: Vec<Preferred>,
    samples: u64,
    polled: Vec<(u64, Index)>,
    /// Whether the end of a remedy is ever reported, and its error.
    reports: bool,
    fails: Option<&'static str>,
    /// Whether the app says that it offers no reset.
    not_offered: bool,
    /// Whether a restarted target returns, and whether a sample ever does.
    comes_back: bool,
    answers: bool,
    /// The cluster's response, the checks it received, and the number of released grants.
    cluster: Option<Result<(), (Refusal, Duration)>>,
    asked: Vec<(u64, Remedy)>,
    released: u32,
    withheld: Vec<(u64, Remedy)>,
    /// Of the last treatment.
    took: Duration,
}

impl Stage {
    fn new(patients: usize) -> Self {
        let policy = Policy { rules_may_restart: true, ..Policy::default() };
        let classifier = Classifier::Rules { reason: "tests".to_owned() };
        let mut stage = Self {
            engine: Engine::new(Arc::new(classifier), policy, Pace::default()),
            now: BootTime::from_nanos(3_600_000_000_000),
            patients: vec![Patient { lives: 1, ..Patient::default() }; patients],
            script: BTreeMap::new(),
            heals: Vec::new(),
            outcomes: Vec::new(),
            refusals: Vec::new(),
            left_alone: Vec::new(),
            preferred: Vec::new(),
            samples: 0,
            polled: Vec::new(),
            reports: true,
            fails: None,
            not_offered: false,
            comes_back: true,
            answers: true,
            cluster: None,
            asked: Vec::new(),
            released: 0,
            withheld: Vec::new(),
            took: Duration::ZERO,
        };
        for index in 0..patients {
            stage.handle(0, Event::Added(index, target(1)));
        }
        stage
    }

    fn at(&mut self, ms: u64, what: fn(&mut Patient)) {
        self.script.entry(ms).or_default().push(what);
    }

    /// Runs until `end`, in milliseconds. Each event of the script wakes the engine.
    fn play(&mut self, end: u64) {
        let begun = self.now;
        for ms in 0..end {
            self.now = begun + Duration::from_millis(ms);
            for what in self.script.remove(&ms).unwrap_or_default() {
                for index in 0..self.patients.len() {
                    what(&mut self.patients[index]);
                    let at = self.now;
                    self.handle(ms, Event::Woken { index, at, throttled: false });
                }
            }
            if self.engine.next_due().is_some_and(|due| due <= self.now) {
                self.handle(ms, Event::Tick);
            }
        }
        self.now = begun + Duration::from_millis(end);
    }

    fn handle(&mut self, ms: u64, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut commands = Vec::new();
            self.engine.handle(self.now, 12, event, &mut commands);
            for command in commands {
                match command {
                    Command::Sample { index, trigger, polls } => {
                        self.samples += 1;
                        // Counters are read a moment after the sample starts.
                        let at = self.now + Duration::from_micros(300);
                        let mut sample = self.patients[index].sample(at, trigger);
                        if !polls {
                            sample.poll = Polled::LastStands;
                        }
                        if polls {
                            self.polled.push((ms, index));
                        }
                        if self.answers {
                            events.push(Event::Sampled(index, Box::new(sample)));
                        }
                    }
                    Command::Heal(index, _, intent) => {
                        self.heals.push((ms, index, intent.remedy));
                        self.treat(index, intent.remedy, &mut events);
                    }
                    Command::Tell(_, fact) => self.note(ms, fact),
                    Command::Ask(index, remedy) => {
                        self.asked.push((ms, remedy));
                        if let Some(answer) = self.cluster.clone() {
                            events.push(Event::Cleared { index, remedy, answer });
                        }
                    }
                    Command::Resize(..) => unreachable!("no target here permits it"),
                    Command::Release(_) => self.released += 1,
                    Command::Forget(index) => self.engine.forget(index),
                }
            }
        }
    }

    fn treat(&mut self, index: Index, remedy: Remedy, events: &mut Vec<Event>) {
        let patient = &mut self.patients[index];
        match remedy {
            _ if self.fails.is_some() => {}
            Remedy::Soft if !patient.stubborn => patient.errors = 0,
            Remedy::Restart => {
                patient.lives += 1;
                let (lives, not_http) = (patient.lives, patient.not_http);
                *patient = Patient { lives, not_http, ..Patient::default() };
                if self.comes_back {
                    let is_pod =
                        self.engine.case(index).is_some_and(|case| case.target.pod().is_some());
                    let next = if is_pod { pod(lives) } else { target(lives) };
                    events.push(Event::Changed(index, next));
                }
                events.push(Event::Lost(index));
            }
            _ => {}
        }
        if self.reports {
            let result = match (self.fails, remedy) {
                _ if self.not_offered => Remedied::NotOffered("HTTP 404".to_owned()),
                (Some(detail), _) => Remedied::Failed(detail.to_owned()),
                (None, Remedy::Evict) => Remedied::Ended(Outcome::Healed, "replaced".to_owned()),
                (None, _) => Remedied::Given,
            };
            events.push(Event::Treated { index, incident: Some(1), result });
        }
    }

    fn note(&mut self, ms: u64, fact: Fact) {
        match fact {
            Fact::Concluded { remedy, outcome, took, .. } => {
                self.outcomes.push((ms, remedy, outcome));
                self.took = took;
            }
            Fact::Refused { refusal, news: true, .. } => self.refusals.push((ms, refusal.gate)),
            Fact::LeftAlone { notable, .. } => self.left_alone.push(notable),
            Fact::Preferred(preferred) => self.preferred.push(preferred),
            Fact::DryRun(intent) => self.withheld.push((ms, intent.remedy)),
            _ => {}
        }
    }

    /// An earlier agent process restarted target 0 when it was the instance `judged`.
    fn recover(&mut self, judged: &str) {
        let (index, remedy, treated) = (0, Remedy::Restart, self.now);
        self.handle(0, Event::Recalled { index, remedy, treated, ended: None });
        let recovered = Recovered {
            incident: 7,
            remedy,
            before: Action::RestartService,
            judged: judged.to_owned(),
            symptom: Symptom::Errors,
        };
        self.handle(0, Event::Recovered(index, recovered));
    }

    fn ends(&self) -> Vec<(Remedy, Outcome)> {
        self.outcomes.iter().map(|(_, remedy, outcome)| (*remedy, *outcome)).collect()
    }

    fn change_settings(&mut self, index: Index, change: impl FnOnce(&mut Settings)) {
        let mut target = self.engine.case(index).expect("a case").target.clone();
        change(&mut target.settings);
        self.handle(0, Event::Changed(index, Box::new(target)));
    }

    /// The request that is open.
    fn asked(&self, index: Index) -> Option<Request> {
        self.engine.case(index)?.asked(self.now).map(|asked| asked.request)
    }

    fn remedies(&self) -> Vec<Remedy> {
        self.heals.iter().map(|(_, _, remedy)| *remedy).collect()
    }
}

#[test]
fn eight_errors_one_a_second_end_well_after_one_soft_heal_at_the_sixth() {
    let mut stage = Stage::new(1);
    for n in 0..8 {
        stage.at(3000 + n * 1000, Patient::fail);
    }
    stage.play(30_000);
    assert_eq!(stage.remedies(), [Remedy::Soft]);
    let (ms, ..) = stage.heals[0];
    assert!((8000..8500).contains(&ms), "healed at {ms} ms, the sixth error was at 8000 ms");
    assert_eq!(stage.ends(), [(Remedy::Soft, Outcome::Healed)]);
    assert_eq!(stage.patients[0].errors, 2);
}

#[test]
fn fifteen_errors_two_a_second_climb_to_a_restart() {
    let mut stage = Stage::new(1);
    for n in 0..15 {
        stage.at(3000 + n * 500, Patient::fail);
    }
    stage.play(60_000);
    assert_eq!(stage.remedies(), [Remedy::Soft, Remedy::Restart]);
    assert_eq!(
        stage.ends(),
        [(Remedy::Soft, Outcome::NotHealed), (Remedy::Restart, Outcome::Healed)]
    );
    assert_eq!(stage.patients[0].lives, 2);
}

#[test]
fn a_burst_beyond_a_reset_is_restarted_after_400_ms_of_evidence() {
    let mut stage = Stage::new(1);
    stage.at(3000, |p| (0..25).for_each(|_| p.fail()));
    stage.play(30_000);
    assert_eq!(stage.remedies(), [Remedy::Restart]);
    let (ms, ..) = stage.heals[0];
    assert!((3400..3700).contains(&ms), "restarted at {ms} ms");
    assert_eq!(stage.outcomes.len(), 1);
}

#[test]
fn errors_that_a_reset_does_not_clear_climb_to_the_next_remedy() {
    let mut stage = Stage::new(1);
    stage.at(3000, |p| {
        p.stubborn = true;
        (0..8).for_each(|_| p.fail());
    });
    // A current cause must support the restart.
    for n in 0..20 {
        stage.at(4000 + n * 500, Patient::fail);
    }
    stage.play(60_000);
    assert_eq!(stage.remedies(), [Remedy::Soft, Remedy::Restart]);
}

#[test]
fn an_old_count_causes_no_remedy() {
    let mut stage = Stage::new(1);
    stage.patients[0].errors = 400;
    stage.patients[0].stubborn = true;
    // Its first sample finds them.
    stage.handle(0, Event::Changed(0, target(2)));
    stage.play(120_000);
    assert_eq!(stage.remedies(), []);
}

#[test]
fn a_total_that_rises_slowly_is_never_restarted() {
    let mut stage = Stage::new(1);
    stage.patients[0].errors = 1200;
    stage.patients[0].stubborn = true;
    stage.handle(0, Event::Changed(0, target(2)));
    for second in (6..600).step_by(6) {
        stage.at(second * 1000, Patient::fail);
    }
    stage.play(600_000);
    assert!(!stage.remedies().contains(&Remedy::Restart), "{:?}", stage.heals);
}

#[test]
fn a_pause_shorter_than_the_patience_is_left_alone() {
    let mut stage = Stage::new(1);
    stage.at(5000, |p| p.stuck = true);
    stage.at(14_500, |p| p.stuck = false);
    stage.play(40_000);
    assert_eq!(stage.remedies(), []);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Patience));
}

#[test]
fn a_restart_that_did_not_help_is_not_repeated_for_the_next_instance() {
    let mut stage = Stage::new(1);
    let treatment = treatment(Remedy::Restart, Outcome::NotHealed, stage.now);
    stage.handle(0, Event::Remembered { workload: URL.to_owned(), treatment });
    stage.at(5000, |p| p.stuck = true);
    stage.play(60_000);
    assert_eq!(stage.remedies(), []);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Futile));
}

/// What did not help one version of the program says nothing about the next.
#[test]
fn another_version_of_the_program_is_restarted_again() {
    for (version, remedies) in [("1", vec![]), ("2", vec![Remedy::Restart])] {
        let mut stage = Stage::new(1);
        let treatment = treatment(Remedy::Restart, Outcome::NotHealed, stage.now);
        stage.handle(0, Event::Remembered { workload: format!("{URL} 1"), treatment });
        let deployed = Target { version: Some(version.to_owned()), ..*target(1) };
        stage.handle(0, Event::Changed(0, Box::new(deployed)));
        stage.at(5000, |p| p.stuck = true);
        stage.play(40_000);
        assert_eq!(stage.remedies(), remedies, "version {version}");
    }
}

/// A restart that also starts another version is remembered for the one that was sick.
#[test]
fn a_treatment_is_remembered_for_the_version_that_was_treated() {
    let mut stage = Stage::new(1);
    let old = Target { version: Some("1".to_owned()), ..*target(1) };
    let workload = old.workload();
    stage.handle(0, Event::Changed(0, Box::new(old)));
    stage.at(5000, |p| p.stuck = true);
    stage.play(40_000);
    assert_eq!(stage.ends(), [(Remedy::Restart, Outcome::Healed)]);
    assert!(stage.engine.memories.of(&workload).is_some());
    assert!(stage.engine.memory(0).is_none(), "the version that runs now has none yet");
}

#[test]
fn a_remedy_that_goes_first_because_it_helped_is_told_once() {
    let mut stage = Stage::new(1);
    let healed = treatment(Remedy::Soft, Outcome::Healed, BootTime::default());
    stage.handle(0, Event::Remembered { workload: URL.to_owned(), treatment: healed });
    stage.at(5000, |p| p.stuck = true);
    stage.play(20_000);
    let preferred =
        Preferred { first: Remedy::Soft, otherwise: Remedy::Restart, symptom: Symptom::Silence };
    assert_eq!(stage.preferred, [preferred]);
}

#[test]
fn the_outcome_of_a_restart_is_remembered_for_its_workload() {
    let mut stage = Stage::new(1);
    stage.at(5000, |p| p.stuck = true);
    stage.play(60_000);
    assert_eq!(stage.ends(), [(Remedy::Restart, Outcome::Healed)]);
    // It returns after five minutes, and is still sick when the cooldown has passed.
    stage.at(300_000, |p| p.stuck = true);
    stage.play(1_000_000);
    assert_eq!(stage.remedies(), [Remedy::Restart]);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Futile));
}

#[test]
fn a_stuck_worker_is_restarted_and_a_blip_is_not() {
    let mut stage = Stage::new(1);
    stage.at(5000, |p| p.stuck = true);
    stage.at(5800, |p| p.stuck = false);
    stage.play(20_000);
    assert_eq!(stage.remedies(), []);

    let mut stage = Stage::new(1);
    stage.at(5000, |p| p.stuck = true);
    stage.play(30_000);
    assert_eq!(stage.remedies(), [Remedy::Restart]);
}

#[test]
fn throttling_excuses_a_high_cpu_level_and_is_told_once() {
    let mut stage = Stage::new(1);
    for n in 0..100 {
        stage.at(5000 + n * 100, |p| {
            p.throttled_periods += 1;
            p.cpu = 100.0;
        });
    }
    stage.play(14_000);
    assert_eq!(stage.remedies(), []);
    assert_eq!(stage.left_alone, [Notable::Throttled]);
}

#[test]
fn an_intention_of_an_earlier_process_is_verified_and_not_repeated() {
    let mut stage = Stage::new(1);
    stage.recover("0@1");
    stage.play(30_000);
    assert_eq!(stage.remedies(), []);
    assert_eq!(stage.ends(), [(Remedy::Restart, Outcome::Healed)]);
    // Its cooldown holds too.
    stage.at(0, |p| (0..25).for_each(|_| p.fail()));
    stage.play(5000);
    assert_eq!(stage.remedies(), []);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Cooldown), "{:?}", stage.refusals);
}

#[test]
fn a_target_is_treated_by_one_remedy_at_a_time() {
    let mut stage = Stage::new(1);
    stage.reports = false;
    for n in 0..100 {
        stage.at(3000 + n * 50, Patient::fail);
    }
    stage.play(30_000);
    assert_eq!(stage.heals.len(), 1, "the first remedy never came back");
}

#[test]
fn many_sick_targets_share_the_nodes_budget_of_hard_heals() {
    let mut stage = Stage::new(20);
    stage.at(3000, |p| (0..25).for_each(|_| p.fail()));
    stage.play(10_000);
    assert_eq!(stage.heals.len(), 2);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::NodeBudget));
}

#[test]
fn targets_that_fail_together_are_not_restarted() {
    let mut stage = Stage::new(10);
    stage.at(5000, |p| p.stuck = true);
    stage.play(30_000);
    assert_eq!(stage.remedies(), []);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::NodeNetwork));
}

/// Targets that lack CPU are answered in turns: that some were answered just now does not make the
/// others sick.
#[test]
fn targets_that_just_failed_together_are_not_restarted_one_by_one() {
    let mut stage = Stage::new(4);
    stage.at(5000, |p| p.stuck = true);
    stage.play(8000);
    for patient in &mut stage.patients[2..] {
        patient.stuck = false;
    }
    stage.play(15_000);
    assert_eq!(stage.remedies(), []);
    // Long after that two remain, and no other fails with them.
    stage.play(15_000);
    assert_eq!(stage.remedies(), [Remedy::Restart; 2]);
}

#[test]
fn a_storm_of_errors_is_sampled_quickly_then_at_a_bounded_rate() {
    let mut stage = Stage::new(1);
    stage.engine.set_paused(true);
    for ms in 3000..33_000 {
        stage.at(ms, |p| p.counters.responses[4] += 1);
    }
    stage.play(33_000);
    let per_second = stage.samples / 30;
    assert!((1..=8).contains(&per_second), "{} samples in 30 s", stage.samples);
}

#[test]
fn samples_on_one_node_are_bounded_in_any_storm() {
    let mut stage = Stage::new(300);
    stage.play(3000);
    let before = stage.samples;
    for ms in 0..2000 {
        stage.at(ms, |p| p.counters.responses[4] += 1);
    }
    stage.play(2000);
    let per_second = (stage.samples - before) / 2;
    assert!(per_second <= 230, "{per_second} samples a second");
}

/// The budget does not suffice for 500 targets, so that regular samples are late.
#[test]
fn an_urgent_sample_does_not_wait_for_regular_ones() {
    let mut stage = Stage::new(500);
    stage.play(20_000);
    let before = stage.samples;
    stage.play(10_000);
    let per_second = (stage.samples - before) / 10;
    assert!((195..=205).contains(&per_second), "{per_second}: the budget is spent");
    let begun = stage.now;
    for index in [77, 333] {
        for _ in 0..6 {
            stage.patients[index].fail();
        }
        stage.handle(0, Event::Woken { index, at: begun, throttled: false });
    }
    stage.play(1000);
    let healed: Vec<_> = stage.heals.iter().map(|(ms, index, _)| (*index, *ms <= 300)).collect();
    assert_eq!(healed, [(77, true), (333, true)], "{:?}", stage.heals);
}

/// 300 targets fail all the time. The other 100 are sampled too.
#[test]
fn in_a_storm_the_others_are_sampled_too() {
    let mut stage = Stage::new(400);
    stage.engine.set_paused(true);
    stage.play(5000);
    let begun = stage.now;
    for _ in 0..100 {
        for index in 0..300 {
            stage.patients[index].fail();
            let at = stage.now;
            stage.handle(0, Event::Woken { index, at, throttled: false });
        }
        stage.play(100);
    }
    let seen = stage.engine.cases().filter(|(_, case)| case.decided_at > begun).count();
    assert_eq!(seen, 400);
}

#[test]
fn a_removed_target_leaves_no_state() {
    let mut stage = Stage::new(3);
    stage.at(3000, |p| p.stuck = true);
    stage.play(3500);
    stage.handle(3500, Event::Removed(1));
    assert_eq!(stage.engine.vacant(), 1);
    assert_eq!(stage.engine.cases().count(), 2);
    stage.handle(
        3500,
        Event::Sampled(1, Box::new(Patient::default().sample(stage.now, Trigger::Tick))),
    );
    assert_eq!(stage.engine.cases().count(), 2, "a late answer revives nobody");
}

#[test]
fn a_target_replaced_during_a_sample_is_sampled_again() {
    let mut stage = Stage::new(1);
    stage.answers = false;
    stage.play(3000);
    assert_eq!(stage.samples, 2, "the second is under way, and never answered");
    stage.answers = true;
    stage.handle(3000, Event::Changed(0, target(2)));
    stage.play(10_000);
    assert!(stage.samples >= 5, "{} samples", stage.samples);
}

#[test]
fn a_lost_sample_is_repeated() {
    let mut stage = Stage::new(1);
    stage.answers = false;
    stage.play(3000);
    stage.answers = true;
    stage.play(15_000);
    assert!(stage.samples >= 3, "{} samples", stage.samples);
}

#[test]
fn an_absent_target_gets_no_remedy() {
    let mut stage = Stage::new(1);
    stage.play(5000);
    stage.patients[0].stuck = true;
    stage.handle(0, Event::Lost(0));
    let before = stage.samples;
    stage.play(60_000);
    assert_eq!((stage.remedies(), stage.samples), (vec![], before));
    stage.patients[0].stuck = false;
    stage.handle(0, Event::Changed(0, target(2)));
    stage.at(2000, |p| p.counters.responses[1] += 5);
    stage.at(5000, |p| (0..8).for_each(|_| p.fail()));
    stage.play(30_000);
    assert_eq!(stage.remedies(), [Remedy::Soft], "and nothing of its absence is held against it");
}

#[test]
fn a_busy_target_is_not_restarted_because_a_reset_did_not_make_it_idle() {
    let mut stage = Stage::new(1);
    stage.patients[0].cpu = 85.0;
    stage.play(100_000);
    assert_eq!(stage.remedies().first(), Some(&Remedy::Soft));
    assert!(!stage.remedies().contains(&Remedy::Restart), "{:?}", stage.heals);
    let (ms, ..) = stage.outcomes[0];
    assert!(ms >= 15_000, "judged after {ms} ms: a level needs time to fall");
}

#[test]
fn an_app_without_the_soft_remedy_is_not_restarted_because_of_it() {
    let mut stage = Stage::new(1);
    stage.fails = Some("HTTP 404");
    for n in 0..200 {
        stage.at(3000 + n * 100, |p| {
            p.fail();
            p.errors = 7;
        });
    }
    stage.play(60_000);
    assert_eq!(stage.remedies(), [Remedy::Soft]);
    assert_eq!(stage.ends(), [(Remedy::Soft, Outcome::Failed)]);
}

/// It is asked once in its life, and its next instance is asked again.
#[test]
fn an_app_that_says_it_offers_no_reset_is_not_asked_again() {
    let mut stage = Stage::new(1);
    stage.not_offered = true;
    stage.patients[0].counters.responses[1] = 9;
    let errs = |stage: &mut Stage| {
        for n in 0..4_000 {
            stage.at(3_000 + n * 100, |p| {
                p.fail();
                p.errors = 7;
            });
        }
        stage.play(400_000);
    };
    errs(&mut stage);
    assert_eq!(stage.remedies(), [Remedy::Soft]);
    assert_eq!(stage.ends(), [(Remedy::Soft, Outcome::Failed)]);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Mode));
    stage.handle(0, Event::Lost(0));
    stage.handle(0, Event::Changed(0, target(2)));
    stage.patients[0].counters.responses[1] = 900;
    errs(&mut stage);
    assert_eq!(stage.remedies(), [Remedy::Soft, Remedy::Soft]);
}

#[test]
fn a_restarted_target_that_does_not_return_gets_no_further_remedy() {
    let mut stage = Stage::new(1);
    stage.comes_back = false;
    stage.at(3000, |p| (0..25).for_each(|_| p.fail()));
    stage.play(120_000);
    assert_eq!(stage.ends(), [(Remedy::Restart, Outcome::NotHealed)]);
    assert!(stage.engine.case(0).is_some_and(|case| case.history.is_exhausted()));
}

#[test]
fn a_target_that_dies_again_after_its_restart_is_not_healed() {
    let mut stage = Stage::new(1);
    stage.at(3000, |p| (0..25).for_each(|_| p.fail()));
    stage.play(8000);
    assert_eq!(stage.remedies(), [Remedy::Restart]);
    stage.handle(8000, Event::Lost(0));
    stage.handle(8200, Event::Changed(0, target(3)));
    stage.play(1000);
    assert_eq!(stage.ends(), [(Remedy::Restart, Outcome::NotHealed)]);
}

#[test]
fn a_soft_remedy_is_not_credited_to_another_instance() {
    let mut stage = Stage::new(1);
    stage.reports = false;
    stage.at(3000, |p| (0..8).for_each(|_| p.fail()));
    stage.play(5000);
    assert_eq!(stage.remedies(), [Remedy::Soft]);
    stage.handle(0, Event::Changed(0, target(2)));
    stage.handle(0, Event::Treated { index: 0, incident: Some(1), result: Remedied::Given });
    assert_eq!(stage.ends(), [(Remedy::Soft, Outcome::Unverified)]);
}

#[test]
fn a_recovered_restart_is_not_verified_on_the_instance_that_was_judged() {
    let mut stage = Stage::new(1);
    stage.recover("1@1");
    stage.play(59_000);
    assert_eq!(stage.ends(), []);
    stage.handle(0, Event::Changed(0, target(2)));
    stage.play(30_000);
    assert_eq!(stage.ends(), [(Remedy::Restart, Outcome::Healed)]);
}

#[test]
fn the_cooldowns_of_an_earlier_process_hold() {
    let mut stage = Stage::new(1);
    let ended = Some((Outcome::Healed, stage.now));
    let (remedy, treated) = (Remedy::Restart, stage.now);
    stage.handle(0, Event::Recalled { index: 0, remedy, treated, ended });
    stage.at(3000, |p| (0..25).for_each(|_| p.fail()));
    stage.play(10_000);
    assert_eq!(stage.remedies(), []);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Cooldown), "{:?}", stage.refusals);
}

#[test]
fn every_target_of_a_full_node_is_sampled() {
    let mut stage = Stage::new(500);
    stage.play(10_000);
    let unseen = stage.engine.cases().filter(|(_, case)| case.decision.is_none()).count();
    assert_eq!(unseen, 0);
    assert!(stage.samples <= 2100, "{} samples in 10 s", stage.samples);
}

/// A stage whose only target is a pod that may be evicted.
fn ward() -> Stage {
    let mut stage = Stage::new(1);
    stage.handle(0, Event::Removed(0));
    stage.handle(0, Event::Added(0, pod(1)));
    stage
}

fn pod(life: u32) -> Box<Target> {
    Box::new(Target {
        settings: Settings::up_to(Remedy::Evict),
        ..Target::pod_for_tests("web", life)
    })
}

fn refusal(gate: Gate) -> Refusal {
    Refusal { gate, why: Why::SwitchedOff }
}

/// Fails enough for a restart, again and again.
fn fails_for_ever(stage: &mut Stage) {
    stage.at(3000, |p| p.stubborn = true);
    for ms in (3000..100_000).step_by(100) {
        stage.at(ms, |p| (0..3).for_each(|_| p.fail()));
    }
}

#[test]
fn a_pod_gets_a_hard_remedy_only_after_the_cluster_permits_it() {
    let mut stage = ward();
    stage.at(3000, |p| (0..8).for_each(|_| p.fail()));
    stage.play(6000);
    assert_eq!(stage.remedies(), [], "it was asked and has not answered");
    assert_eq!(stage.asked.len(), 1, "and is not asked again meanwhile");
    stage.play(30_000);
    assert_eq!(stage.asked.len(), 2, "but after a while it must have been lost");

    let mut stage = ward();
    stage.cluster = Some(Ok(()));
    stage.at(3000, |p| (0..8).for_each(|_| p.fail()));
    stage.play(25_000);
    assert_eq!(stage.remedies(), [Remedy::Soft]);
    assert_eq!(stage.ends(), [(Remedy::Soft, Outcome::Healed)]);
    assert_eq!(stage.released, 0, "what is used is not given back");
}

#[test]
fn a_refusal_of_the_cluster_is_reported_once_and_asked_again_later() {
    let mut stage = ward();
    stage.cluster = Some(Err((refusal(Gate::Rollout), Duration::from_secs(15))));
    fails_for_ever(&mut stage);
    stage.play(60_000);
    assert_eq!(stage.remedies(), []);
    let refused = stage.refusals.iter().filter(|(_, gate)| *gate == Gate::Rollout).count();
    assert!((1..=4).contains(&refused), "{refused}");
    assert!((3..=5).contains(&stage.asked.len()), "{:?}", stage.asked);
}

#[test]
fn an_unused_grant_is_released() {
    let mut stage = ward();
    fails_for_ever(&mut stage);
    stage.play(6000);
    assert_eq!(stage.asked.len(), 1);
    let remedy = stage.asked[0].1;
    // Meanwhile it has died and returned: nothing was judged of the new instance.
    let changed =
        Target { settings: Settings::up_to(Remedy::Evict), ..Target::pod_for_tests("web", 2) };
    stage.handle(0, Event::Changed(0, Box::new(changed)));
    stage.handle(0, Event::Cleared { index: 0, remedy, answer: Ok(()) });
    assert_eq!((stage.released, stage.remedies().len()), (1, 0));
    stage.handle(0, Event::Cleared { index: 7, remedy, answer: Ok(()) });
    assert_eq!(stage.released, 2, "of a target that is gone too");
}

#[test]
fn a_grant_is_released_if_the_target_is_well_by_then() {
    let mut stage = ward();
    stage.at(3000, |p| (0..8).for_each(|_| p.fail()));
    stage.at(3500, |p| p.errors = 0);
    stage.play(3400);
    let (_, remedy) = stage.asked[0];
    stage.play(20_000);
    stage.handle(0, Event::Cleared { index: 0, remedy, answer: Ok(()) });
    stage.play(3000);
    assert_eq!((stage.released, stage.remedies().len()), (1, 0));
}

#[test]
fn an_evicted_pod_is_removed_when_its_outcome_is_known() {
    let mut stage = ward();
    let pod = Target {
        settings: Settings::up_to(Remedy::Evict),
        no_restart: Some(crate::target::Obstacle::PreStopHook),
        ..Target::pod_for_tests("web", 1)
    };
    stage.handle(0, Event::Changed(0, Box::new(pod)));
    stage.cluster = Some(Ok(()));
    stage.reports = false;
    fails_for_ever(&mut stage);
    stage.play(30_000);
    assert_eq!(stage.remedies().last(), Some(&Remedy::Evict), "a restart is out of the question");
    stage.handle(0, Event::Removed(0));
    assert_eq!(stage.engine.cases().count(), 1, "what came of it is yet to be told");
    stage.play(20_000);
    let result = Remedied::Ended(Outcome::Healed, "2 of 2 are ready".to_owned());
    stage.handle(0, Event::Treated { index: 0, incident: Some(1), result });
    assert_eq!(stage.ends().last(), Some(&(Remedy::Evict, Outcome::Healed)));
    assert!(stage.took.as_secs() >= 20, "it was watched while it was given: {:?}", stage.took);
    assert_eq!(stage.engine.cases().count(), 0);
}

#[test]
fn after_a_drain_the_restart_in_progress_is_asked_about_again() {
    let mut stage = ward();
    stage.cluster = Some(Ok(()));
    stage.reports = false;
    fails_for_ever(&mut stage);
    let still = |stage: &Stage, heard| stage.engine.still_permits(0, heard, stage.now);
    assert!(still(&stage, None).is_err(), "nothing is in progress");
    stage.play(10_000);
    assert_eq!(stage.remedies(), [Remedy::Restart]);
    assert_eq!(still(&stage, Some(Heard::Well)), Ok(()), "of errors a poll knows nothing");
    assert!(still(&stage, Some(Heard::NotNow)).is_err());
    stage.engine.set_paused(true);
    assert!(still(&stage, None).unwrap_err().contains("paused"));
    stage.engine.set_paused(false);
    stage.handle(0, Event::Lost(0));
    assert!(still(&stage, None).unwrap_err().contains("ended meanwhile"));
    assert!(stage.engine.still_permits(7, None, stage.now).is_err(), "no such target");
}

#[test]
fn a_pod_deleted_under_verification_ends_unverified() {
    let mut stage = ward();
    stage.cluster = Some(Ok(()));
    stage.at(3000, |p| (0..8).for_each(|_| p.fail()));
    stage.play(5000);
    assert_eq!(stage.remedies(), [Remedy::Soft]);
    stage.handle(0, Event::Removed(0));
    assert_eq!(stage.ends(), [(Remedy::Soft, Outcome::Unverified)]);
    assert_eq!(stage.engine.vacant(), 0);
}

#[test]
fn changed_settings_of_an_instance_keep_its_samples() {
    let mut stage = ward();
    stage.cluster = Some(Ok(()));
    stage.at(3000, |p| (0..8).for_each(|_| p.fail()));
    stage.play(3050);
    let observed =
        Target { settings: Settings::up_to(Remedy::Observe), ..Target::pod_for_tests("web", 1) };
    stage.handle(0, Event::Changed(0, Box::new(observed)));
    stage.play(5000);
    assert_eq!(stage.remedies(), [], "its owner took consent back");
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Mode));
}

#[test]
fn a_dry_run_applies_nothing_and_reports_the_remedy() {
    let mut stage = ward();
    stage.engine.policy.dry_run = true;
    stage.cluster = Some(Ok(()));
    fails_for_ever(&mut stage);
    stage.play(60_000);
    assert_eq!(stage.remedies(), []);
    assert!((1..=6).contains(&stage.withheld.len()), "{:?}", stage.withheld);
}

#[test]
fn a_container_that_is_not_ready_is_warming_up() {
    let mut stage = ward();
    let kernel_only = Target {
        address: None,
        started: stage.now,
        settings: Settings::up_to(Remedy::Soft),
        ..Target::pod_for_tests("web", 1)
    };
    stage.handle(0, Event::Removed(0));
    stage.answers = false;
    stage.handle(0, Event::Added(0, Box::new(kernel_only)));
    stage.handle(0, Event::Ready(0, false));
    let case = stage.engine.case(0).unwrap();
    assert!(!case.is_ready());
    stage.handle(0, Event::Ready(0, true));
    assert!(stage.engine.case(0).unwrap().is_ready());
}

#[test]
fn a_sample_in_progress_at_the_end_of_a_process_does_not_shorten_the_wait() {
    let mut stage = Stage::new(1);
    stage.comes_back = false;
    stage.at(3000, |p| p.stuck = true);
    stage.play(16_000);
    assert_eq!(stage.remedies(), [Remedy::Restart]);
    let late = stage.patients[0].sample(stage.now, Trigger::Confirm);
    stage.handle(0, Event::Sampled(0, Box::new(late)));
    stage.play(5000);
    assert_eq!(stage.ends(), [], "a successor is waited for");
    stage.handle(0, Event::Changed(0, target(2)));
    stage.play(20_000);
    assert_eq!(stage.ends(), [(Remedy::Restart, Outcome::Healed)]);
}

#[test]
fn an_unapplied_remedy_is_distinguished_from_a_failed_one() {
    for (result, counts) in [
        (Remedied::NotPerformed("the lock ran out".to_owned()), false),
        (Remedied::Failed("stuck in the kernel".to_owned()), true),
    ] {
        let mut stage = Stage::new(1);
        stage.reports = false;
        stage.at(3000, |p| p.stuck = true);
        stage.play(16_000);
        assert_eq!(stage.remedies(), [Remedy::Restart]);
        let mut commands = Vec::new();
        let event = Event::Treated { index: 0, incident: Some(1), result };
        stage.engine.handle(stage.now, 12, event, &mut commands);
        let told = commands.iter().find_map(|command| match command {
            Command::Tell(_, Fact::Concluded { outcome, done, .. }) => Some((*outcome, *done)),
            _ => None,
        });
        assert_eq!(told, Some((Outcome::Failed, counts)));
    }
}

#[test]
fn if_all_pods_are_sick_the_cluster_checks_are_bounded() {
    let mut stage = Stage::new(20);
    for index in 0..20 {
        stage.handle(0, Event::Removed(index));
        let pod = Target::pod_for_tests(&format!("web-{index}"), 1);
        stage.handle(0, Event::Added(index, Box::new(pod)));
    }
    stage.cluster = Some(Err((refusal(Gate::Overload), Duration::from_secs(30))));
    for ms in (3000..63_000).step_by(100) {
        stage.at(ms, |p| (0..3).for_each(|_| p.fail()));
    }
    stage.play(63_000);
    let hard = stage.asked.iter().filter(|(_, remedy)| remedy.is_hard()).count();
    assert!((6..=13).contains(&hard), "{hard} in a minute");
}

/// Without a metric it would look idle, and a workload must not shrink for being healed.
#[test]
fn a_pod_that_is_being_healed_keeps_its_metric() {
    let mut stage = ward();
    stage.cluster = Some(Ok(()));
    let rates: Vec<f32> = (0..30)
        .filter_map(|second| {
            for ms in (0..1000).step_by(100) {
                stage.at(ms, |p| p.counters.responses[1] += 1);
            }
            if second == 12 {
                stage.at(500, |p| (0..8).for_each(|_| p.fail()));
            }
            stage.play(1000);
            let reading = pod_metrics_of(stage.engine.case(0).unwrap(), stage.now)?;
            assert!(reading.window_ms >= 2000 && reading.age_ms < 5000, "{reading:?}");
            reading.value(Metric::HttpRequestsPerSecond)
        })
        .collect();
    assert_eq!(stage.ends(), [(Remedy::Soft, Outcome::Healed)]);
    assert!(rates.len() >= 27, "missing but for the first seconds: {rates:?}");
    assert!(rates.iter().all(|rate| (6.0..12.5).contains(rate)), "{rates:?}");
}

/// The new instance starts without a load: neither that nor its first few responses are the load of
/// its workload.
#[test]
fn a_pod_that_is_being_restarted_keeps_its_metric() {
    let mut stage = Stage::new(1);
    stage.handle(0, Event::Removed(0));
    let mut impatient = *pod(1);
    impatient.settings.patience.set = Some(Duration::from_secs(1));
    stage.handle(0, Event::Added(0, Box::new(impatient)));
    stage.cluster = Some(Ok(()));
    let mut rates = Vec::new();
    for second in 0..60 {
        for ms in (0..1000).step_by(100) {
            stage.at(ms, |p| p.counters.responses[1] += u64::from(p.lives == 1 && !p.stuck));
        }
        if second == 12 {
            stage.at(500, |p| p.stuck = true);
        }
        // Silent for some seconds, then one a second.
        if second >= 20 {
            stage.at(0, |p| p.counters.responses[1] += u64::from(p.lives == 2));
        }
        stage.play(1000);
        let reading = pod_metrics_of(stage.engine.case(0).unwrap(), stage.now);
        rates.push(reading.and_then(|r| r.value(Metric::HttpRequestsPerSecond)));
        if !stage.ends().is_empty() {
            break;
        }
    }
    assert_eq!(stage.ends(), [(Remedy::Restart, Outcome::Healed)]);
    // In the last second its treatment ended, and its present load counts.
    let now = rates.pop().unwrap();
    assert!(now.is_some_and(|rate| (0.5..2.0).contains(&rate)), "{now:?}");
    assert!(rates.len() > 24, "{rates:?}");
    for rate in &rates[3..] {
        assert!(rate.is_some_and(|rate| (6.0..12.5).contains(&rate)), "{rates:?}");
    }
}

#[test]
fn a_pod_without_samples_loses_its_metric_and_during_a_remedy_later() {
    for (healing, missing_after) in [(false, 10), (true, 60)] {
        let mut stage = ward();
        stage.reports = !healing;
        stage.play(8000);
        if healing {
            stage.cluster = Some(Ok(()));
            stage.at(0, |p| (0..8).for_each(|_| p.fail()));
            stage.play(2000);
            assert_eq!(stage.remedies().len(), 1);
        }
        let last = stage.now;
        let case = stage.engine.case(0).unwrap();
        let at = |seconds| pod_metrics_of(case, last + Duration::from_secs(seconds));
        assert!(at(missing_after - 3).is_some(), "healing: {healing}");
        assert_eq!(at(missing_after + 1), None, "healing: {healing}");
    }
}

#[test]
fn a_futile_restart_is_refused_while_the_host_shows_the_reason() {
    let mut stage = Stage::new(1);
    stage.patients[0].futile = Some("the disk is full");
    stage.at(5000, |p| p.stuck = true);
    stage.play(30_000);
    assert_eq!(stage.remedies(), []);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Futile));
    stage.patients[0].futile = None;
    stage.play(5000);
    assert_eq!(stage.remedies(), [Remedy::Restart]);
}

#[test]
fn a_stopped_process_is_restarted_after_the_patience_whatever_it_serves() {
    for not_http in [false, true] {
        let mut stage = Stage::new(1);
        stage.patients[0].not_http = not_http;
        stage.play(30_000);
        stage.patients[0].stopped = true;
        stage.play(30_000);
        let [(ms, _, remedy)] = stage.heals[..] else { panic!("{not_http}: {:?}", stage.heals) };
        assert_eq!(remedy, Remedy::Restart, "a stopped process cannot reset itself");
        assert!((10_000..13_000).contains(&ms), "{not_http}: after {ms} ms");
        assert!(stage.left_alone.contains(&Notable::Stopped) || !stage.refusals.is_empty());
        stage.play(60_000);
        // Without HTTP the agent sees that it runs, but not that it is well.
        let expected = if not_http { Outcome::Unverified } else { Outcome::Healed };
        let outcomes: Vec<_> = stage.outcomes.iter().map(|(.., outcome)| *outcome).collect();
        assert_eq!(outcomes, [expected], "{not_http}");
        assert_eq!(stage.heals.len(), 1, "{not_http}");
    }
}

#[test]
fn a_process_that_is_continued_within_the_patience_is_left_alone() {
    let mut stage = Stage::new(1);
    stage.patients[0].not_http = true;
    stage.play(30_000);
    stage.patients[0].stopped = true;
    stage.play(7_000);
    stage.patients[0].stopped = false;
    stage.play(60_000);
    assert_eq!(stage.heals, []);
}

#[test]
fn a_hang_under_traffic_is_reported_within_six_seconds() {
    let mut stage = Stage::new(1);
    stage.patients[0].counters.responses[1] = 500;
    stage.play(20_000);
    stage.patients[0].oldest = Some(stage.now);
    stage.play(3_900);
    assert_eq!(stage.left_alone, [], "a long request is no hang");
    stage.play(2_100);
    assert_eq!(stage.left_alone, [Notable::Unanswered]);
}

#[test]
fn at_times_that_the_owner_excludes_a_remedy_waits_for_their_end() {
    let mut stage = Stage::new(1);
    stage.play(5_000);
    stage.handle(0, Event::NotNow(0, true));
    stage.patients[0].stuck = true;
    stage.play(60_000);
    assert_eq!(stage.remedies(), []);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Window));
    stage.handle(0, Event::NotNow(0, false));
    stage.play(5_000);
    assert_eq!(stage.remedies(), [Remedy::Restart]);
}

#[test]
fn a_restart_waits_until_people_approve_it() {
    let mut stage = Stage::new(1);
    stage.change_settings(0, |settings| settings.ask_before = Some(Remedy::Restart));
    stage.play(5_000);
    stage.patients[0].stuck = true;
    stage.play(120_000);
    assert_eq!(stage.remedies(), []);
    let asked = stage.asked(0).expect("it asks");
    let earlier = Request::new(Remedy::Restart, BootTime::default());
    stage.handle(0, Event::Approved(0, earlier));
    stage.play(5_000);
    assert_eq!(stage.remedies(), [], "an approval of another request");
    assert_eq!(stage.asked(0), Some(asked), "the request stays the same while it is open");
    stage.handle(0, Event::Approved(0, asked));
    stage.play(2_000);
    assert_eq!(stage.remedies(), [Remedy::Restart]);
    assert_eq!(stage.asked(0), None, "an approval is used once");
}

#[test]
fn an_approval_of_what_is_no_longer_wanted_does_nothing() {
    let mut stage = Stage::new(1);
    stage.change_settings(0, |settings| settings.ask_before = Some(Remedy::Restart));
    stage.play(5_000);
    stage.patients[0].stuck = true;
    stage.play(30_000);
    let asked = stage.asked(0).expect("it asks");
    stage.patients[0].stuck = false;
    stage.play(10_000);
    stage.handle(0, Event::Approved(0, asked));
    stage.play(620_000);
    stage.patients[0].stuck = true;
    stage.play(60_000);
    assert_eq!(stage.remedies(), [], "the next incident asks anew");
    assert_ne!(stage.asked(0).expect("it asks"), asked);
}

#[test]
fn the_host_is_asked_again_when_the_patience_ends() {
    let mut stage = Stage::new(1);
    stage.play(5_000);
    stage.patients[0].stuck = true;
    stage.play(7_000);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Patience));
    stage.patients[0].futile = Some("the disk is full");
    stage.play(30_000);
    assert_eq!(stage.remedies(), [], "{:?}", stage.refusals);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Futile));
}

/// A busy service whose clients get no responses any more for so long, while its polls are well.
fn leaves_its_clients(ms: u64, starved: bool) -> Stage {
    let mut stage = Stage::new(1);
    stage.play(6_000);
    for _ in 0..4 {
        stage.patients[0].counters.responses[1] += 30;
        stage.play(3_000);
    }
    (stage.patients[0].overdue, stage.patients[0].starved) = (40, starved);
    stage.play(ms);
    stage.patients[0].overdue = 0;
    stage
}

#[test]
fn clients_without_responses_lead_to_a_restart_after_the_patience() {
    let mut stage = leaves_its_clients(5_000, false);
    assert_eq!(stage.remedies(), [], "told first");
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Patience));
    stage = leaves_its_clients(13_000, false);
    assert_eq!(stage.remedies(), [Remedy::Restart], "{:?}", stage.refusals);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Patience));
}

#[test]
fn a_pause_under_traffic_is_told_and_never_restarted() {
    let mut stage = leaves_its_clients(8_000, false);
    stage.play(60_000);
    assert_eq!(stage.remedies(), []);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Patience));
}

#[test]
fn clients_without_responses_for_want_of_a_cpu_lead_to_no_restart() {
    let stage = leaves_its_clients(30_000, true);
    assert_eq!(stage.remedies(), []);
    assert!(stage.refusals.iter().any(|(_, gate)| *gate == Gate::Futile));
}

/// Why the kernel does not see a target of TLS whose polls are answered.
fn blind_in_tls(probed: bool, counted: &[u64]) -> Option<Blind> {
    let mut stage = Stage::new(0);
    let mut target = target(1);
    target.tls = true;
    target.settings.tls_probes = probed;
    let (mut out, index) = (Vec::new(), stage.engine.vacant());
    stage.engine.handle(stage.now, 0, Event::Added(index, target), &mut out);
    for counted in counted {
        stage.now = stage.now + Duration::from_secs(2);
        let mut sample = Patient::default().sample(stage.now, Trigger::Tick);
        if let Some(kernel) = &mut sample.kernel {
            kernel.own_responses[1] = 9;
            kernel.counters.responses[1] = *counted;
        }
        stage.engine.handle(stage.now, 0, Event::Sampled(index, Box::new(sample)), &mut out);
    }
    stage.engine.case(index).and_then(Case::blind)
}

#[test]
fn the_kernel_is_blind_to_tls_unless_its_responses_are_counted() {
    assert_eq!(blind_in_tls(false, &[0]), Some(Blind::Tls));
    assert_eq!(blind_in_tls(false, &[0, 9]), Some(Blind::Tls));
    assert_eq!(blind_in_tls(true, &[0]), Some(Blind::Tls), "nothing to attach to");
    assert_eq!(blind_in_tls(true, &[9]), None);
    assert_eq!(blind_in_tls(true, &[0, 0, 9]), None, "its library was found late");
}

/// Targets whose responses the kernel sees.
fn seen_by_the_kernel(patients: usize) -> Stage {
    let mut stage = Stage::new(patients);
    for patient in &mut stage.patients {
        patient.counters.responses[1] = 9;
    }
    stage
}

/// When this target was polled from `from` on, in milliseconds.
fn polls_of(stage: &Stage, index: Index, from: u64) -> Vec<u64> {
    let of_it = stage.polled.iter().filter(|(at, polled)| *polled == index && *at >= from);
    of_it.map(|(at, _)| *at).collect()
}

#[test]
fn with_many_targets_polls_thin_out_while_all_is_well() {
    let mut few = seen_by_the_kernel(50);
    few.play(60_000);
    assert_eq!(few.polled.len() as u64, few.samples, "a few are polled at each sample");

    let mut many = seen_by_the_kernel(250);
    many.play(60_000);
    for index in 0..250 {
        let polls = polls_of(&many, index, 20_000);
        assert!((3..=6).contains(&polls.len()), "{index}: {polls:?}");
        let widest = polls.windows(2).map(|two| two[1] - two[0]).max().unwrap();
        assert!((8_000..=11_000).contains(&widest), "{index}: {polls:?}");
    }
    assert!(many.samples > 250 * 25, "what the kernel sees is still read: {}", many.samples);
}

#[test]
fn the_first_doubt_is_settled_by_a_poll_at_once() {
    let doubts: [fn(&mut Patient); 4] = [
        |patient| patient.counters.responses[4] += 1,
        |patient| patient.oldest = Some(BootTime::from_nanos(3_600_000_000_000)),
        |patient| patient.stopped = true,
        |patient| patient.counters.resets_received += 50,
    ];
    for (number, begins) in doubts.into_iter().enumerate() {
        let mut stage = seen_by_the_kernel(250);
        stage.play(30_000);
        // Without a wake-up: at the next sample.
        begins(&mut stage.patients[7]);
        stage.polled.clear();
        stage.play(10_000);
        let polls = polls_of(&stage, 7, 0);
        assert!(polls[0] <= 2_300, "doubt {number}: {polls:?}");
        assert!(polls.len() >= 5, "doubt {number}, while it lasts: {polls:?}");
        assert!(polls_of(&stage, 8, 0).len() <= 2, "doubt {number}: the others are not asked");
    }
}

#[test]
fn what_the_kernel_does_not_see_is_polled_as_ever() {
    let mut stage = Stage::new(250);
    stage.play(30_000);
    assert_eq!(stage.polled.len() as u64, stage.samples);
}

#[test]
fn a_poll_that_stands_is_no_news_and_does_not_make_it_well() {
    let mut stage = seen_by_the_kernel(250);
    stage.play(30_000);
    let case = stage.engine.case(7).unwrap();
    assert!(case.health().is_some(), "what was heard last is still known");
    let last = *polls_of(&stage, 7, 0).last().unwrap();
    let heard_at = BootTime::from_nanos(3_600_000_000_000) + Duration::from_millis(last + 1);
    assert!(case.well_at().unwrap() <= heard_at, "it was not seen well since");
}
