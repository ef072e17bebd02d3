//! Each gate alone: what it permits, what it refuses, and the doubtful cases.
mod again;
mod memory;

use super::*;
use crate::{
    decide::Unfamiliar,
    features::schema::Feature,
    target::{Cap, Settings},
    verify::Outcome,
};

fn at(ms: u64) -> BootTime {
    BootTime::from_nanos(1_000_000_000_000 + ms * 1_000_000)
}

/// A target for which everything speaks for a remedy.
struct Scene {
    now: BootTime,
    decision: Decision,
    causes: Causes,
    ceiling: Remedy,
    capped: Option<Capped>,
    not_now: bool,
    ask_before: Option<Remedy>,
    asked: Option<Asked>,
    names_soft: bool,
    no_soft: Option<Obstacle>,
    no_restart: Option<Obstacle>,
    no_evict: Option<Obstacle>,
    preflight: Option<Preflight>,
    started: BootTime,
    ready: bool,
    excuse: Option<Excuse>,
    symptom: Symptom,
    ill_since: BootTime,
    memory: Memory,
    fails_since_start: FailsSinceStart,
    resize_first: bool,
    futile: Option<&'static str>,
    evidence: Evidence,
    history: History,
    node: NodeState,
    policy: Policy,
}

impl Scene {
    fn new(action: Action) -> Self {
        let mut evidence = Evidence::default();
        for ms in [0, 100, 250, 400] {
            evidence.push(Observation { at: at(ms), action, polled: true });
        }
        Self {
            now: at(400),
            decision: Decision {
                action,
                confidence: 0.95,
                probabilities: [0.0; 3],
                source: Source::Model,
                unfamiliar: None,
            },
            causes: Causes { recent_error: true, ..Causes::default() },
            ceiling: Remedy::Restart,
            capped: None,
            not_now: false,
            ask_before: None,
            asked: None,
            names_soft: false,
            no_soft: None,
            no_restart: None,
            no_evict: None,
            preflight: None,
            started: BootTime::default(),
            ready: true,
            excuse: None,
            symptom: Symptom::Errors,
            ill_since: at(0),
            memory: Memory::default(),
            fails_since_start: FailsSinceStart::default(),
            resize_first: false,
            futile: None,
            evidence,
            history: History::default(),
            node: NodeState { journal_writable: true, ..NodeState::default() },
            policy: Policy::default(),
        }
    }

    fn ask(&self) -> Result<Remedy, Gate> {
        self.answer().map_err(|denial| match denial {
            Denial::Refused(refusal) => refusal.gate,
            Denial::AskCluster => panic!("the cluster is not asked here"),
        })
    }

    fn answer(&self) -> Result<Remedy, Denial> {
        let question = self.question(Some(&self.memory));
        let remedy = wanted(&question, &self.policy).expect("an action is wanted");
        permit(&question, remedy, &self.policy).map(|permit| permit.remedy())
    }

    fn question<'a>(&'a self, memory: Option<&'a Memory>) -> Question<'a> {
        Question {
            now: self.now,
            decision: &self.decision,
            causes: self.causes,
            ceiling: self.ceiling,
            capped: self.capped,
            not_now: self.not_now,
            ask_before: self.ask_before,
            asked: self.asked,
            names_soft: self.names_soft,
            no_soft: self.no_soft,
            no_restart: self.no_restart,
            no_evict: self.no_evict,
            preflight: self.preflight.as_ref(),
            min_confidence: 0.8,
            started: self.started,
            ready: self.ready,
            patience: self.policy.patience,
            warm_up: self.policy.warm_up,
            excuse: self.excuse.clone(),
            symptom: self.symptom,
            ill_since: self.ill_since,
            memory,
            fails_since_start: self.fails_since_start,
            resize_first: self.resize_first,
            futile: self.futile,
            evidence: &self.evidence,
            history: &self.history,
            node: &self.node,
        }
    }
}

#[test]
fn a_fully_supported_remedy_is_permitted() {
    assert_eq!(Scene::new(Action::ResetErrors).ask(), Ok(Remedy::Soft));
    assert_eq!(Scene::new(Action::RestartService).ask(), Ok(Remedy::Restart));
}

#[test]
fn mode_applies_the_lowest_ceiling() {
    let mut scene = Scene::new(Action::RestartService);
    scene.ceiling = Remedy::Soft;
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
    scene.ceiling = Remedy::Observe;
    assert_eq!(scene.ask(), Err(Gate::Mode));
    scene.ceiling = Remedy::Evict;
    scene.policy.max_remedy = Remedy::Observe;
    assert_eq!(scene.ask(), Err(Gate::Mode));
}

#[test]
fn a_capped_ceiling_says_so() {
    let mut scene = Scene::new(Action::RestartService);
    let settings = Settings::up_to(Remedy::Evict).under(Cap::Named(Remedy::Observe));
    (scene.ceiling, scene.capped) = (settings.ceiling, settings.capped);
    let refusal = permit(&scene.question(None), Remedy::Soft, &scene.policy);
    let Err(Denial::Refused(Refusal { gate: Gate::Mode, why })) = refusal else {
        panic!("{refusal:?}")
    };
    assert!(matches!(why, Why::Capped(capped) if capped.owner == Remedy::Evict), "{why}");
}

#[test]
fn rules_heal_softly_unless_told_otherwise() {
    let mut scene = Scene::new(Action::RestartService);
    scene.decision.source = Source::Rules;
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
    scene.policy.rules_may_restart = true;
    assert_eq!(scene.ask(), Ok(Remedy::Restart));
}

#[test]
fn confidence_must_reach_the_bound_and_be_a_number() {
    let mut scene = Scene::new(Action::ResetErrors);
    for (confidence, answer) in
        [(0.8, Ok(Remedy::Soft)), (0.79, Err(Gate::Confidence)), (f32::NAN, Err(Gate::Confidence))]
    {
        scene.decision.confidence = confidence;
        assert_eq!(scene.ask(), answer, "{confidence}");
    }
}

#[test]
fn a_soft_remedy_needs_two_of_three_samples() {
    let mut scene = Scene::new(Action::ResetErrors);
    for (observations, answer) in [
        (vec![Action::ResetErrors], Err(Gate::Evidence)),
        (vec![Action::ResetErrors, Action::NoAction, Action::ResetErrors], Ok(Remedy::Soft)),
        (
            vec![Action::ResetErrors, Action::NoAction, Action::NoAction, Action::ResetErrors],
            Err(Gate::Evidence),
        ),
    ] {
        scene.evidence.clear();
        for (i, action) in observations.into_iter().enumerate() {
            scene.evidence.push(Observation { at: at(i as u64 * 100), action, polled: true });
        }
        assert_eq!(scene.ask(), answer);
    }
}

#[test]
fn a_hard_remedy_needs_three_of_four_samples_over_400_ms_with_two_polls() {
    let restart = Action::RestartService;
    let observation = |ms, action, polled| Observation { at: at(ms), action, polled };
    let too_short = [(0, restart, true), (100, restart, true), (250, restart, true)];
    let cases = [
        (too_short.as_slice(), false),
        (&[(0, restart, true), (200, restart, true), (400, restart, true)], true),
        (&[(0, restart, true), (150, Action::NoAction, true), (400, restart, true)], false),
        (
            &[
                (0, restart, true),
                (100, Action::ResetErrors, true),
                (250, restart, true),
                (400, restart, true),
            ],
            true,
        ),
        (&[(0, restart, true), (200, restart, false), (400, restart, false)], false),
    ];
    for (observations, permitted) in cases {
        let mut scene = Scene::new(restart);
        scene.evidence.clear();
        for (ms, action, polled) in observations {
            scene.evidence.push(observation(*ms, *action, *polled));
        }
        let answer = if permitted { Ok(Remedy::Restart) } else { Err(Gate::Evidence) };
        assert_eq!(scene.ask(), answer, "{observations:?}");
    }
}

#[test]
fn an_old_count_never_justifies_a_hard_remedy() {
    let mut scene = Scene::new(Action::RestartService);
    scene.causes = Causes::default();
    assert_eq!(scene.ask(), Ok(Remedy::Soft), "the mildest remedy may be tried");
    scene.history.concluded(Remedy::Soft, Outcome::NotHealed, Remedy::Restart, scene.now);
    assert_eq!(scene.ask(), Err(Gate::Evidence), "but climbing needs something current");
}

#[test]
fn a_remedy_that_did_not_help_escalates_while_that_is_recent() {
    let mut scene = Scene::new(Action::ResetErrors);
    scene.history.treated(Remedy::Soft, scene.now);
    assert_eq!(scene.ask(), Err(Gate::Cooldown));
    scene.history.concluded(Remedy::Soft, Outcome::NotHealed, Remedy::Restart, scene.now);
    assert_eq!(scene.ask(), Ok(Remedy::Restart), "exempt from the soft cooldown");
    scene.now = scene.now + Duration::from_secs(121);
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
}

#[test]
fn a_new_instance_has_time_to_answer() {
    let mut scene = Scene::new(Action::RestartService);
    scene.ready = false;
    scene.started = scene.now;
    assert_eq!(scene.ask(), Err(Gate::WarmUp));
    scene.now = scene.now + scene.policy.warm_up;
    assert_eq!(scene.ask(), Ok(Remedy::Restart));
}

#[test]
fn a_cooldown_outlives_its_instance() {
    let mut scene = Scene::new(Action::ResetErrors);
    scene.history.treated(Remedy::Soft, scene.now);
    scene.now = scene.now + Duration::from_millis(9_999);
    assert_eq!(scene.ask(), Err(Gate::Cooldown));
    scene.now = scene.now + Duration::from_millis(1);
    assert_eq!(scene.ask(), Ok(Remedy::Soft));

    let mut scene = Scene::new(Action::RestartService);
    scene.history.treated(Remedy::Restart, scene.now);
    scene.now = scene.now + Duration::from_secs(599);
    assert_eq!(scene.ask(), Err(Gate::Cooldown));
    scene.now = scene.now + Duration::from_secs(1);
    assert_eq!(scene.ask(), Ok(Remedy::Restart));
}

#[test]
fn the_node_budget_limits_hard_remedies() {
    let mut scene = Scene::new(Action::RestartService);
    for _ in 0..scene.policy.node_budget {
        scene.node.history.hard_heal(scene.now);
    }
    assert_eq!(scene.ask(), Err(Gate::NodeBudget));
    scene.now = scene.now + Duration::from_secs(60);
    assert_eq!(scene.ask(), Ok(Remedy::Restart));
    scene.node.history.hard_heal(scene.now);
    scene.node.history.hard_heal(scene.now);
    scene.decision.action = Action::ResetErrors;
    assert_eq!(scene.ask(), Ok(Remedy::Soft), "a soft heal does not draw on it");
}

#[test]
fn if_most_targets_fail_together_the_node_is_suspected() {
    let mut scene = Scene::new(Action::RestartService);
    let failing_for = Duration::from_secs(60);
    scene.causes = Causes { failed_poll: true, failing_for, ..Causes::default() };
    for (failing, polled, answer) in [
        (2, 2, Ok(Remedy::Restart)),
        (3, 3, Err(Gate::NodeNetwork)),
        (3, 6, Ok(Remedy::Restart)),
        (4, 6, Err(Gate::NodeNetwork)),
    ] {
        scene.node.failing = failing;
        scene.node.polled = polled;
        assert_eq!(scene.ask(), answer, "{failing} of {polled}");
    }
}

#[test]
fn exhausted_remedies_stay_so_until_the_target_was_well_for_a_while() {
    let mut scene = Scene::new(Action::ResetErrors);
    scene.history.concluded(Remedy::Restart, Outcome::NotHealed, Remedy::Restart, scene.now);
    assert_eq!(scene.ask(), Err(Gate::Exhausted));
    let policy = scene.policy.clone();
    scene.history.seen(true, scene.now, &policy);
    scene.history.seen(false, scene.now + Duration::from_secs(299), &policy);
    scene.history.seen(true, scene.now + Duration::from_secs(301), &policy);
    assert_eq!(scene.ask(), Err(Gate::Exhausted), "an ill observation starts the while anew");
    scene.history.seen(true, scene.now + Duration::from_secs(601), &policy);
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
}

#[test]
fn without_a_journal_no_hard_remedy_and_while_paused_none_at_all() {
    let mut scene = Scene::new(Action::RestartService);
    scene.node.journal_writable = false;
    assert_eq!(scene.ask(), Err(Gate::Journal));
    scene.decision.action = Action::ResetErrors;
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
    scene.node.paused = true;
    assert_eq!(scene.ask(), Err(Gate::Paused));
}

#[test]
fn a_level_of_cpu_or_memory_alone_never_escalates_to_a_restart() {
    let mut scene = Scene::new(Action::ResetErrors);
    scene.causes = Causes { level: true, ..Causes::default() };
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
    scene.history.concluded(Remedy::Soft, Outcome::NotHealed, Remedy::Restart, scene.now);
    assert_eq!(scene.ask(), Err(Gate::Evidence));
    let mut scene = Scene::new(Action::RestartService);
    scene.causes = Causes { level: true, ..Causes::default() };
    assert_eq!(scene.ask(), Ok(Remedy::Restart), "both at 90 % and above is a verdict of its own");
}

#[test]
fn an_unapplied_reset_permits_nothing_stronger() {
    let mut scene = Scene::new(Action::ResetErrors);
    scene.history.treated(Remedy::Soft, scene.now);
    scene.history.concluded(Remedy::Soft, Outcome::Failed, Remedy::Restart, scene.now);
    scene.now = scene.now + scene.policy.soft_cooldown;
    assert_eq!(scene.ask(), Err(Gate::Cooldown), "and is not tried again soon");
    scene.now = scene.now + scene.policy.soft_retry;
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
}

#[test]
fn an_unverified_outcome_never_escalates() {
    let mut scene = Scene::new(Action::ResetErrors);
    scene.history.concluded(Remedy::Soft, Outcome::Unverified, Remedy::Restart, scene.now);
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
}

#[test]
fn the_cluster_is_asked_last_and_its_answer_counts_for_one_remedy() {
    let mut scene = Scene::new(Action::RestartService);
    let refusal = Refusal { gate: Gate::Rollout, why: Why::SwitchedOff };
    for (preflight, answer) in [
        (Preflight::Unasked, Err(Denial::AskCluster)),
        (Preflight::Given(Remedy::Soft), Err(Denial::AskCluster)),
        (Preflight::Given(Remedy::Restart), Ok(Remedy::Restart)),
        (
            Preflight::Refused(Remedy::Restart, refusal.clone()),
            Err(Denial::Refused(refusal.clone())),
        ),
        (Preflight::Refused(Remedy::Soft, refusal.clone()), Err(Denial::Refused(refusal.clone()))),
        (Preflight::Refused(Remedy::Evict, refusal.clone()), Err(Denial::AskCluster)),
    ] {
        scene.preflight = Some(preflight);
        assert_eq!(scene.answer(), answer);
    }
    scene.preflight = Some(Preflight::Unasked);
    scene.node.paused = true;
    assert_eq!(scene.ask(), Err(Gate::Paused), "nobody is asked about what the node refuses");
}

#[test]
fn if_a_restart_is_impossible_the_next_permitted_remedy_is_used() {
    let mut scene = Scene::new(Action::RestartService);
    scene.no_restart = Some(Obstacle::PreStopHook);
    assert_eq!(scene.ask(), Err(Gate::Mode), "its owner does not consent to an eviction");
    scene.ceiling = Remedy::Evict;
    assert_eq!(scene.ask(), Ok(Remedy::Evict));
    scene.policy.max_remedy = Remedy::Restart;
    assert_eq!(scene.ask(), Err(Gate::Mode));
    scene.policy.max_remedy = Remedy::Evict;
    scene.no_evict = Some(Obstacle::NoController);
    assert_eq!(scene.ask(), Err(Gate::Mode));
    scene.decision.action = Action::ResetErrors;
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
}

#[test]
fn an_eviction_follows_a_failed_restart_when_the_share_permits_it() {
    let mut scene = Scene::new(Action::RestartService);
    scene.ceiling = Remedy::Evict;
    scene.history.treated(Remedy::Restart, scene.now);
    scene.history.concluded(Remedy::Restart, Outcome::NotHealed, Remedy::Evict, scene.now);
    assert_eq!(scene.ask(), Ok(Remedy::Evict), "the restart's cooldown is the restart's");
    scene.now = scene.now + Duration::from_secs(1199);
    assert_eq!(scene.ask(), Ok(Remedy::Evict));
    scene.now = scene.now + Duration::from_secs(1);
    assert_eq!(scene.ask(), Ok(Remedy::Restart));
}

#[test]
fn an_unapplied_hard_remedy_starts_a_retry_delay_and_no_cooldown() {
    let mut scene = Scene::new(Action::RestartService);
    scene.history.treated(Remedy::Restart, scene.now);
    scene.history.not_performed(Remedy::Restart, scene.now);
    assert_eq!(scene.ask(), Err(Gate::Cooldown));
    scene.now = scene.now + scene.policy.hard_retry;
    assert_eq!(scene.ask(), Ok(Remedy::Restart));
}

/// A target whose only symptom is that its polls have failed for this many seconds.
fn silent_for(seconds: u64) -> Scene {
    let mut scene = Scene::new(Action::RestartService);
    let failing_for = Duration::from_secs(seconds);
    scene.causes = Causes { failed_poll: true, failing_for, ..Causes::default() };
    scene.symptom = Symptom::Silence;
    scene
}

#[test]
fn silence_counts_only_after_the_patience() {
    assert_eq!(silent_for(9).ask(), Err(Gate::Patience));
    assert_eq!(silent_for(10).ask(), Ok(Remedy::Restart));
    let mut patient = silent_for(29);
    patient.policy.patience = Duration::from_secs(30);
    assert_eq!(patient.ask(), Err(Gate::Patience));
    let mut soft = silent_for(3);
    soft.decision.action = Action::ResetErrors;
    assert_eq!(soft.ask(), Err(Gate::Patience), "a pause is no reason for a reset either");
}

#[test]
fn many_errors_or_an_oom_kill_need_no_patience() {
    let mut errors = silent_for(1);
    errors.causes = Causes { recent_error: true, many_errors: true, ..errors.causes };
    assert_eq!(errors.ask(), Ok(Remedy::Restart));
    let mut killed = silent_for(1);
    killed.causes.oom_kill = true;
    assert_eq!(killed.ask(), Ok(Remedy::Restart));
    let mut one = silent_for(1);
    one.causes.recent_error = true;
    assert_eq!(one.ask(), Err(Gate::Patience), "a single error does not shorten it");
}

#[test]
fn a_failing_health_check_is_excused_while_others_are_served() {
    let mut serves = silent_for(600);
    serves.excuse = Some(Excuse::Serves { good: 40 });
    assert_eq!(serves.ask(), Err(Gate::Excused));
    serves.causes = Causes { recent_error: true, many_errors: true, ..serves.causes };
    assert_eq!(serves.ask(), Ok(Remedy::Restart), "errors are no matter of the health check");
}

#[test]
fn at_times_that_the_owner_excludes_there_is_no_remedy() {
    for action in [Action::ResetErrors, Action::RestartService] {
        let mut scene = Scene::new(action);
        scene.not_now = true;
        assert_eq!(scene.ask(), Err(Gate::Window));
    }
}

#[test]
fn a_hard_remedy_waits_for_the_approval_of_just_that_remedy() {
    let mut soft = Scene::new(Action::ResetErrors);
    soft.ask_before = Some(Remedy::Restart);
    assert_eq!(soft.ask(), Ok(Remedy::Soft), "nobody is asked before a reset");

    let mut scene = Scene::new(Action::RestartService);
    scene.ask_before = Some(Remedy::Evict);
    assert_eq!(scene.ask(), Ok(Remedy::Restart), "people are asked before an eviction only");
    scene.ask_before = Some(Remedy::Restart);
    assert_eq!(scene.ask(), Err(Gate::Approval));
    let request = Request::new(Remedy::Restart, scene.now);
    let approved = |request| {
        let mut asked = Asked::new(request, at(0), at(400));
        assert!(asked.approve(request, at(400)));
        Some(asked)
    };
    scene.asked = Some(Asked::new(request, at(0), at(400)));
    let Err(Denial::Refused(refusal)) = scene.answer() else { panic!("it is not refused") };
    assert_eq!(refusal.why, Why::AskPeople(request), "the same request while it is open");
    scene.asked = approved(Request::new(Remedy::Evict, scene.now));
    assert_eq!(scene.ask(), Err(Gate::Approval), "of another remedy");
    scene.asked = approved(request);
    assert_eq!(scene.ask(), Ok(Remedy::Restart));
    scene.not_now = true;
    assert_eq!(scene.ask(), Err(Gate::Window), "an approval opens no other gate");
}

#[test]
fn what_the_owner_names_goes_before_a_restart_for_errors() {
    let errors = || {
        let mut scene = Scene::new(Action::RestartService);
        scene.names_soft = true;
        scene
    };
    assert_eq!(errors().ask(), Ok(Remedy::Soft));
    let mut tried = errors();
    tried.history.concluded(Remedy::Soft, Outcome::NotHealed, Remedy::Evict, tried.now);
    assert_eq!(tried.ask(), Ok(Remedy::Restart));
    let mut recently = errors();
    recently.history.treated(Remedy::Soft, recently.now);
    assert_eq!(recently.ask(), Ok(Remedy::Restart), "it was reset just now");
    let mut impossible = errors();
    impossible.no_soft = Some(Obstacle::SoftNotOffered);
    assert_eq!(impossible.ask(), Ok(Remedy::Restart));
    let mut silent = silent_for(60);
    silent.names_soft = true;
    assert_eq!(silent.ask(), Ok(Remedy::Restart));
}

/// Nothing stronger takes its place: a restart is called for by its own reasons.
#[test]
fn a_target_that_cannot_be_reset_is_only_restarted_for_reasons_of_a_restart() {
    for obstacle in [Obstacle::NoSoft, Obstacle::SoftNotOffered] {
        let mut scene = Scene::new(Action::ResetErrors);
        scene.no_soft = Some(obstacle);
        assert_eq!(scene.ask(), Err(Gate::Mode));
        let mut scene = Scene::new(Action::RestartService);
        scene.no_soft = Some(obstacle);
        assert_eq!(scene.ask(), Ok(Remedy::Restart));
    }
}

#[test]
fn a_few_errors_must_go_on_for_some_seconds_before_a_restart() {
    let few = |milliseconds| {
        let mut scene = Scene::new(Action::RestartService);
        scene.causes = Causes {
            recent_error: true,
            many_errors: true,
            few_errors: true,
            erring_for: Duration::from_millis(milliseconds),
            ..Causes::default()
        };
        scene
    };
    assert_eq!(few(4_900).ask(), Err(Gate::Patience));
    assert_eq!(few(5_000).ask(), Ok(Remedy::Restart));
    let mut soft = few(100);
    soft.decision.action = Action::ResetErrors;
    assert_eq!(soft.ask(), Ok(Remedy::Soft), "a reset may come at once");
    let mut many = few(100);
    many.causes.few_errors = false;
    assert_eq!(many.ask(), Ok(Remedy::Restart), "each second costs many requests");
    let mut killed = few(100);
    killed.causes.oom_kill = true;
    assert_eq!(killed.ask(), Ok(Remedy::Restart));
}

#[test]
fn clients_that_hold_it_excuse_its_silence_and_not_its_errors() {
    let mut held = silent_for(600);
    held.excuse = Some(Excuse::Held { clients: 32 });
    assert_eq!(held.ask(), Err(Gate::Excused));
    held.causes = Causes { recent_error: true, many_errors: true, ..held.causes };
    assert_eq!(held.ask(), Ok(Remedy::Restart));
}

#[test]
fn an_external_cause_excuses_errors_and_silence_but_no_level() {
    for excuse in [
        Excuse::UpstreamFails { received: 9 },
        Excuse::CannotConnect { failed: 9 },
        Excuse::Denied { received: 9 },
        Excuse::Unanswered { waiting: 9 },
    ] {
        for action in [Action::ResetErrors, Action::RestartService] {
            let mut errors = Scene::new(action);
            errors.excuse = Some(excuse.clone());
            assert_eq!(errors.ask(), Err(Gate::Excused), "{excuse}");
        }
        let mut silent = silent_for(60);
        silent.excuse = Some(excuse.clone());
        assert_eq!(silent.ask(), Err(Gate::Excused), "{excuse}");
        let mut level = Scene::new(Action::RestartService);
        level.causes = Causes { level: true, ..Causes::default() };
        level.excuse = Some(excuse.clone());
        assert_eq!(level.ask(), Ok(Remedy::Restart), "{excuse}");
    }
}

#[test]
fn a_blamed_dependency_or_an_intended_pause_refuses_every_remedy() {
    use crate::health::Component;
    for excuse in [Excuse::NotNow, Excuse::Blames(Component::new("db"))] {
        for action in [Action::ResetErrors, Action::RestartService] {
            let mut scene = Scene::new(action);
            scene.causes = Causes { recent_error: true, many_errors: true, ..scene.causes };
            scene.excuse = Some(excuse.clone());
            assert_eq!(scene.ask(), Err(Gate::Excused), "{excuse}");
        }
    }
}

#[test]
fn an_instance_that_was_never_well_is_not_restarted() {
    let mut never = Scene::new(Action::RestartService);
    never.fails_since_start.never_served = true;
    assert_eq!(never.ask(), Err(Gate::Futile));
    let mut errors = Scene::new(Action::RestartService);
    errors.fails_since_start.only_errors = true;
    assert_eq!(errors.ask(), Err(Gate::Futile));
    errors.symptom = Symptom::OomKill;
    assert_eq!(errors.ask(), Ok(Remedy::Restart));
    let mut soft = Scene::new(Action::ResetErrors);
    soft.fails_since_start.never_served = true;
    assert_eq!(soft.ask(), Ok(Remedy::Soft), "the agent may have come later than the fault");
    soft.fails_since_start.only_errors = true;
    assert_eq!(soft.ask(), Err(Gate::Futile), "a new instance has nothing to reset");
}

#[test]
fn what_the_host_shows_refuses_every_remedy() {
    let mut scene = Scene::new(Action::RestartService);
    scene.futile = Some("the filesystem at /data is full");
    let Err(Denial::Refused(refusal)) = scene.answer() else { panic!("{:?}", scene.answer()) };
    assert_eq!(
        (refusal.gate, refusal.why.to_string()),
        (Gate::Futile, "the filesystem at /data is full".to_owned())
    );
    assert!(!refusal.is_by_memory(), "the host says so");
    scene.decision.action = Action::ResetErrors;
    assert_eq!(scene.ask(), Err(Gate::Futile));
}

#[test]
fn what_the_model_has_never_seen_refuses_hard_remedies_only() {
    let mut scene = Scene::new(Action::RestartService);
    let strange = [Some(Feature::TcpResetRate), Some(Feature::MemoryUsage), None];
    scene.decision.unfamiliar = Some(Unfamiliar { unseen: 9, strange });
    let Err(Denial::Refused(refusal)) = scene.answer() else { panic!("{:?}", scene.answer()) };
    assert_eq!(refusal.gate, Gate::Unfamiliar);
    assert!(refusal.why.to_string().contains("(tcp_reset_rate, memory_usage)"), "{}", refusal.why);
    scene.decision.action = Action::ResetErrors;
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
}

#[test]
fn a_vague_503_permits_only_the_soft_remedy() {
    let mut scene = silent_for(60);
    scene.symptom = Symptom::SaysIll;
    scene.excuse = Some(Excuse::Vague);
    assert_eq!(scene.ask(), Err(Gate::Excused));
    scene.decision.action = Action::ResetErrors;
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
}

#[test]
fn a_resize_goes_before_what_only_a_level_supports() {
    for action in [Action::ResetErrors, Action::RestartService] {
        let mut scene = Scene::new(action);
        scene.causes = Causes { level: true, ..Causes::default() };
        scene.resize_first = true;
        assert_eq!(scene.ask(), Err(Gate::Resize), "{action:?}");
        scene.resize_first = false;
        assert!(scene.ask().is_ok(), "{action:?}");
    }
}

#[test]
fn a_slow_health_check_alone_supports_no_remedy() {
    let slow = Causes { slow_polls: true, ..Causes::default() };
    for action in [Action::ResetErrors, Action::RestartService] {
        let mut scene = Scene::new(action);
        scene.causes = slow;
        assert_eq!(scene.ask(), Err(Gate::Evidence), "{action:?}");
    }
    let mut scene = Scene::new(Action::RestartService);
    scene.causes = Causes { level: true, ..slow };
    assert_eq!(scene.ask(), Ok(Remedy::Restart), "a level that stands beside it does");
    scene.excuse = Some(Excuse::Unanswered { waiting: 4 });
    assert_eq!(scene.ask(), Err(Gate::Excused), "what it waits for makes it slow");
}
