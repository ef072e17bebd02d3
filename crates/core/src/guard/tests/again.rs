//! The second look, after a drain.
use super::*;
use crate::health::Heard;

fn look(scene: &Scene, heard: Option<Heard>) -> Result<(), String> {
    let question = scene.question(None);
    still_permitted(&question, Remedy::Restart, heard, &scene.policy)
}

/// A scene in which the restart is permitted, with one change.
fn refused(change: impl FnOnce(&mut Scene)) -> String {
    let mut scene = Scene::new(Action::RestartService);
    assert_eq!(look(&scene, Some(Heard::Well)), Ok(()));
    change(&mut scene);
    look(&scene, Some(Heard::Well)).unwrap_err()
}

#[test]
fn a_window_that_a_drain_has_emptied_proves_nothing() {
    let mut scene = Scene::new(Action::NoAction);
    scene.causes = Causes::default();
    scene.evidence = Evidence::default();
    for heard in [None, Some(Heard::Well), Some(Heard::Ill), Some(Heard::Silent)] {
        assert_eq!(look(&scene, heard), Ok(()), "{heard:?}");
    }
}

#[test]
fn a_health_check_that_is_good_again_refuses_where_it_was_the_symptom() {
    for (symptom, refused) in [
        (Symptom::Silence, true),
        (Symptom::SaysIll, true),
        (Symptom::Errors, false),
        (Symptom::OomKill, false),
        (Symptom::Level, false),
    ] {
        let scene = Scene { symptom, ..Scene::new(Action::RestartService) };
        assert_eq!(look(&scene, Some(Heard::Well)).is_err(), refused, "{symptom:?}");
        assert_eq!(look(&scene, Some(Heard::Silent)), Ok(()));
        for heard in [Heard::NotNow, Heard::Blames] {
            assert!(look(&scene, Some(heard)).is_err(), "{symptom:?} {heard:?}");
        }
    }
}

#[test]
fn gates_that_have_closed_meanwhile_refuse_by_name() {
    for (gate, change) in [
        ("mode", (|scene| scene.ceiling = Remedy::Soft) as fn(&mut Scene)),
        ("mode", |scene| scene.policy.max_remedy = Remedy::Soft),
        ("journal", |scene| scene.node.journal_writable = false),
        ("paused", |scene| scene.node.paused = true),
        ("window", |scene| scene.not_now = true),
        ("node_network", |scene| {
            scene.causes.failed_poll = true;
            (scene.node.failing, scene.node.polled) = (4, 5);
        }),
    ] {
        let why = refused(change);
        assert!(why.starts_with(&format!("gate {gate}: ")), "{why}");
    }
}

#[test]
fn a_pod_in_quarantine_is_refused_as_such() {
    let mut scene = Scene::new(Action::RestartService);
    (scene.ceiling, scene.no_evict) = (Remedy::Observe, Some(Obstacle::InQuarantine));
    let Err(Denial::Refused(refusal)) = scene.answer() else { panic!("it is permitted") };
    assert_eq!(refusal.gate, Gate::Mode);
    assert!(refusal.why.to_string().contains("paramedic release"), "{}", refusal.why);
}
