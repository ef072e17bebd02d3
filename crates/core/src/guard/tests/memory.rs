//! What earlier treatments of the workload change: a milder or a harder first remedy within the
//! ceiling, or a refusal. Never more.
use fastrand::Rng;

use super::*;
use crate::guard::memory::{COMES_BACK, REMEMBERED};

fn remembered(remedy: Remedy, outcome: Outcome, seconds_ago: u64) -> Memory {
    let mut memories = Memories::default();
    let at = BootTime::from_nanos(at(0).as_nanos() - seconds_ago * 1_000_000_000);
    memories.push("w", Treatment { remedy, symptom: Symptom::Errors, outcome, began: at, at });
    memories.of("w").unwrap().clone()
}

#[test]
fn a_restart_that_did_not_help_is_not_repeated() {
    let mut scene = Scene::new(Action::RestartService);
    scene.memory = remembered(Remedy::Restart, Outcome::NotHealed, 900);
    assert_eq!(scene.ask(), Err(Gate::Futile));
    let Err(Denial::Refused(refusal)) = scene.answer() else { panic!("{:?}", scene.answer()) };
    assert!(refusal.is_by_memory(), "{refusal:?}");
    scene.symptom = Symptom::Silence;
    assert_eq!(scene.ask(), Ok(Remedy::Restart), "it was another illness");
}

#[test]
fn a_symptom_that_came_back_within_ten_minutes_refuses_the_remedy() {
    let mut scene = Scene::new(Action::RestartService);
    scene.memory = remembered(Remedy::Restart, Outcome::Healed, 599);
    assert_eq!(scene.ask(), Err(Gate::Futile));
    scene.memory = remembered(Remedy::Restart, Outcome::Healed, 601);
    assert_eq!(scene.ask(), Ok(Remedy::Restart));
}

#[test]
fn a_reset_that_helped_before_goes_before_the_restart() {
    let mut scene = Scene::new(Action::RestartService);
    scene.memory = remembered(Remedy::Soft, Outcome::Healed, 900);
    assert_eq!(scene.ask(), Ok(Remedy::Soft));
    scene.memory = remembered(Remedy::Soft, Outcome::NotHealed, 900);
    assert_eq!(scene.ask(), Ok(Remedy::Restart));
}

#[test]
fn what_the_memory_changes_is_told() {
    let mut scene = Scene::new(Action::RestartService);
    let changed =
        |scene: &Scene| wanted_without_memory(&scene.question(Some(&scene.memory)), &scene.policy);
    assert_eq!(changed(&scene), None);
    scene.memory = remembered(Remedy::Soft, Outcome::Healed, 900);
    assert_eq!(changed(&scene), Some(Remedy::Restart), "a reset goes first");
    scene.ceiling = Remedy::Soft;
    assert_eq!(changed(&scene), None, "it would go first anyway");
    scene.decision.action = Action::NoAction;
    assert_eq!(changed(&scene), None, "nothing goes first");
}

/// Any memory: full, empty, contradictory, from the future.
fn any_memory(rng: &mut Rng) -> Memory {
    const SYMPTOMS: [Symptom; 5] =
        [Symptom::Silence, Symptom::SaysIll, Symptom::OomKill, Symptom::Errors, Symptom::Level];
    const OUTCOMES: [Outcome; 5] =
        [Outcome::Healed, Outcome::NotHealed, Outcome::Worse, Outcome::Unverified, Outcome::Failed];
    let mut memories = Memories::default();
    // At least one treatment: without any there is no memory.
    let one = |rng: &mut Rng| {
        let ages = [COMES_BACK, REMEMBERED, Duration::from_secs(120)];
        let age = ages[rng.usize(..3)].mul_f64(rng.f64() * 1.2);
        let now = at(400).as_nanos();
        let past = now - u64::try_from(age.as_nanos()).unwrap().min(now);
        let at = BootTime::from_nanos(if rng.u8(..10) == 0 { now + 1_000_000_000 } else { past });
        Treatment {
            remedy: Remedy::ALL[rng.usize(..4)],
            symptom: SYMPTOMS[if rng.bool() { 3 } else { rng.usize(..5) }],
            outcome: OUTCOMES[rng.usize(..5)],
            began: at,
            at,
        }
    };
    for _ in 0..=rng.usize(..20) {
        let treatment = one(rng);
        memories.push("w", treatment);
    }
    memories.of("w").unwrap().clone()
}

/// Any state of the other gates.
fn any_scene(rng: &mut Rng) -> Scene {
    let action = if rng.bool() { Action::ResetErrors } else { Action::RestartService };
    let mut scene = Scene::new(action);
    scene.ceiling = Remedy::ALL[rng.usize(..4)];
    scene.policy.max_remedy = Remedy::ALL[rng.usize(..4)];
    let mut seldom = || rng.u8(..8) == 0;
    if seldom() {
        scene.decision.source = Source::Rules;
    }
    if seldom() {
        scene.decision.confidence = 0.5;
    }
    if seldom() {
        scene.evidence.clear();
    }
    if seldom() {
        scene.causes.recent_error = false;
    }
    if seldom() {
        scene.ready = false;
        scene.started = scene.now;
    }
    if seldom() {
        scene.excuse = Some(Excuse::NotNow);
    }
    if seldom() {
        scene.no_restart = Some(Obstacle::PreStopHook);
    }
    if seldom() {
        scene.no_evict = Some(Obstacle::NoController);
    }
    if seldom() {
        scene.node.journal_writable = false;
    }
    if seldom() {
        scene.node.paused = true;
    }
    if seldom() {
        scene.futile = Some("its disk is full");
    }
    if seldom() {
        scene.fails_since_start.never_served = true;
    }
    if seldom() {
        scene.history.treated(Remedy::Restart, scene.now);
    }
    let failed = [Remedy::Soft, Remedy::Restart][rng.usize(..2)];
    if rng.u8(..4) == 0 {
        let ceiling = scene.policy.ceiling(scene.ceiling, scene.decision.source);
        scene.history.concluded(failed, Outcome::NotHealed, ceiling, scene.now);
    }
    scene
}

#[test]
fn no_memory_leads_above_the_ceiling_or_past_a_gate() {
    let mut rng = Rng::with_seed(7);
    let (mut permitted, mut changed, mut refused) = (0, 0, 0);
    for n in 0..20_000 {
        let mut scene = any_scene(&mut rng);
        scene.memory = any_memory(&mut rng);
        let with = scene.question(Some(&scene.memory));
        let without = scene.question(None);
        let ceiling = scene.policy.ceiling(scene.ceiling, scene.decision.source);
        let remedy = wanted(&with, &scene.policy).unwrap();
        changed += u32::from(wanted_without_memory(&with, &scene.policy).is_some());
        let answer = permit(&with, remedy, &scene.policy);
        let same = permit(&without, remedy, &scene.policy);
        match (answer, same) {
            (Ok(permit), same) => {
                permitted += 1;
                assert!(permit.remedy() <= ceiling, "{n}: {:?} of {ceiling:?}", permit.remedy());
                assert_eq!(same, Ok(permit), "{n}: only with the memory {:?}", scene.memory);
            }
            (Err(Denial::Refused(refusal)), Ok(_)) => {
                refused += 1;
                assert_eq!(refusal.gate, Gate::Futile, "{n}");
            }
            (Err(_), Err(_)) => {}
            (Err(denial), Ok(_)) => panic!("{n}: {denial:?}"),
        }
    }
    assert!(permitted > 1000 && changed > 100 && refused > 100, "{permitted} {changed} {refused}");
}
