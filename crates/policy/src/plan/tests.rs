//! Which keys are written and taken away, by values.
use fastrand::Rng;
use serde_json::json;

use super::*;
use crate::settings::tests::spec;

const HEAL: &str = "paramedic.dev/heal";
const PATIENCE: &str = "paramedic.dev/patience";

fn plan<'a>(policies: &[Policy], pods: impl IntoIterator<Item = &'a Pod>) -> Plan {
    super::plan(&policies.iter().collect::<Vec<_>>(), pods)
}

fn policy(name: &str, value: Value) -> Policy {
    Policy::new(name, &spec(value))
}

/// A policy for pods with `app: web`.
fn web(name: &str, ceiling: &str) -> Policy {
    policy(name, json!({ "selector": { "matchLabels": { "app": "web" } }, "ceiling": ceiling }))
}

fn pod(app: &str) -> Pod {
    let labels = [("app".to_owned(), app.to_owned())].into();
    let (name, uid) = (format!("{app}-1"), format!("uid-{app}"));
    Pod { name, uid, version: "1".to_owned(), labels, ..Pod::default() }
}

impl Pod {
    fn with(mut self, key: &str, value: Option<&str>) -> Self {
        let place = if key == HEAL { &mut self.labels } else { &mut self.annotations };
        match value {
            Some(value) => drop(place.insert(key.to_owned(), value.to_owned())),
            None => drop(place.remove(key)),
        }
        self
    }

    /// After the change that is planned for it, if any.
    fn after(self, policies: &[Policy]) -> Self {
        let planned = plan(policies, [&self]);
        let changes = planned.changes.into_iter().flat_map(|change| change.keys);
        changes.fold(self, |pod, (key, value)| pod.with(&key, value.as_deref()))
    }

    fn has(&self, key: &str) -> Option<&str> {
        self.value(key).map(String::as_str)
    }
}

#[test]
fn a_matched_pod_gets_the_keys_and_a_record_of_them_in_one_patch() {
    let policies = [web("web", "restart")];
    let (matched, other) = (pod("web"), pod("db"));
    let planned = plan(&policies, [&matched, &other]);
    let record = r#"{"policy":"web","pod":"uid-web","set":{"paramedic.dev/heal":"restart"}}"#;
    let patch = json!({ "metadata": {
        "uid": "uid-web", "resourceVersion": "1",
        "labels": { "paramedic.dev/heal": "restart" },
        "annotations": { "paramedic.dev/from-policy": record },
    }});
    assert_eq!(planned.changes.iter().map(Change::patch).collect::<Vec<_>>(), [patch]);
    let after = matched.after(&policies);
    let planned = plan(&policies, [&after]);
    assert_eq!(planned.changes, []);
    let reach = &planned.reach["web"];
    assert_eq!((reach.matched.len(), reach.applied, reach.rivals.len()), (1, 1, 0));
}

#[test]
fn what_the_policy_sets_is_taken_away_with_it_and_nothing_else() {
    let mut long = json!({ "selector": {}, "ceiling": "evict", "patience": "30s", "ask": "evict" });
    let own = pod("web").with("paramedic.dev/port", Some("81"));
    let after = own.clone().after(&[policy("all", long.clone())]);
    assert_eq!((after.has(HEAL), after.has(PATIENCE)), (Some("evict"), Some("30s")));
    assert_eq!(after.clone().after(&[]), own);
    // A shorter policy takes away what it no longer says, and changes what it says otherwise.
    long["patience"] = Value::Null;
    long["ceiling"] = json!("soft");
    let shorter = after.after(&[policy("all", long)]);
    assert_eq!((shorter.has(HEAL), shorter.has(PATIENCE)), (Some("soft"), None));
    assert_eq!(shorter.has("paramedic.dev/ask"), Some("evict"));
}

#[test]
fn keys_of_the_template_win_even_if_they_say_the_same() {
    let policies =
        [policy("all", json!({ "selector": {}, "ceiling": "evict", "patience": "30s" }))];
    for own in ["observe", "evict", "nonsense"] {
        let own = pod("web").with(HEAL, Some(own));
        let after = own.clone().after(&policies);
        assert_eq!(after.has(HEAL), own.has(HEAL));
        assert_eq!(after.has(PATIENCE), Some("30s"), "key by key");
        assert_eq!(after.after(&[]), own);
    }
    let old = pod("web").with("paramedic.dev/heal-path", Some("/reset"));
    let soft = policy("all", json!({ "selector": {}, "ceiling": "soft", "soft": "signal HUP" }));
    assert_eq!(old.after(&[soft]).has("paramedic.dev/soft"), None, "it would win over heal-path");
}

#[test]
fn what_somebody_changes_afterwards_is_theirs() {
    let (strong, strongest) = ([web("web", "restart")], [web("web", "evict")]);
    for theirs in [Some("observe"), None] {
        let changed = pod("web").after(&strong).with(HEAL, theirs);
        let after = changed.after(&strong).after(&strongest);
        assert_eq!(after.has(HEAL), theirs, "no policy brings it back");
        let disputed = after.after(&[web("web", "evict"), web("web2", "evict")]);
        let after = disputed.after(&strongest);
        assert_eq!(after.has(HEAL), theirs, "nor when a conflict is over");
        let without = after.after(&[]);
        assert_eq!(without, pod("web").with(HEAL, theirs));
    }
}

#[test]
fn a_pod_that_two_policies_match_gets_neither_and_loses_what_it_had() {
    let first = [web("first", "restart")];
    let all = policy("all", json!({ "selector": {}, "ceiling": "restart" }));
    let both = [web("first", "restart"), all.clone()];
    let had = pod("web").after(&first);
    let planned = plan(&both, [&had, &pod("db")]);
    let reach = &planned.reach["all"];
    assert_eq!((reach.matched.len(), reach.shared.as_deref()), (2, Some("web-1")));
    assert_eq!(reach.rivals, ["first".to_owned()].into());
    assert_eq!(planned.reach["first"].applied, 0);
    let now = had.after(&both);
    assert_eq!(now, pod("web"));
    assert_eq!(plan(&both, [&now]).reach["first"].applied, 0, "nothing to do is not applied");
    assert_eq!(pod("db").after(&both).has(HEAL), Some("restart"));
    assert_eq!(now.after(&[all]).has(HEAL), Some("restart"));
}

#[test]
fn an_invalid_policy_sets_nothing_and_yet_conflicts() {
    let broken = policy("bad", json!({ "selector": {}, "ceiling": "evict", "patience": "2h" }));
    assert!(broken.problem().unwrap().contains("paramedic.dev/patience"), "{broken:?}");
    assert_eq!(pod("web").after(std::slice::from_ref(&broken)), pod("web"));
    assert_eq!(plan(std::slice::from_ref(&broken), [&pod("web")]).reach["bad"].applied, 0);
    assert_eq!(pod("web").after(&[broken, web("web", "evict")]), pod("web"));
    let unreadable = policy(
        "bad",
        json!({ "ceiling": "evict", "selector": {
        "matchExpressions": [{ "key": "app", "operator": "Like", "values": ["w"] }] } }),
    );
    assert!(unreadable.problem().is_some_and(|problem| problem.starts_with("selector")));
    assert_eq!(pod("web").after(&[unreadable]), pod("web"));
}

#[test]
fn a_policy_of_another_name_takes_over() {
    let after = pod("web").after(&[web("old", "restart")]).after(&[web("new", "soft")]);
    assert_eq!(after.has(HEAL), Some("soft"));
    assert_eq!(after.record().policy, "new");
}

#[test]
fn a_record_that_was_copied_into_a_template_takes_nothing_away() {
    let other = pod("web").after(&[web("web", "restart")]);
    let copy = Pod { uid: "another".to_owned(), ..other };
    let after = copy.clone().after(&[]);
    assert_eq!(after.has(HEAL), Some("restart"), "it is the template's own now");
    assert_eq!(after.has(FROM_POLICY), None);
    assert_eq!(copy.after(&[web("web", "evict")]).has(HEAL), Some("restart"));
}

#[test]
fn a_forged_record_reaches_no_other_key() {
    let forged =
        r#"{"policy":"x","pod":"uid-web","set":{"app":"web","paramedic.dev/approve":"a"}}"#;
    let pod = pod("web").with(FROM_POLICY, Some(forged)).with("paramedic.dev/approve", Some("a"));
    let planned = plan(&[], [&pod]);
    let keys: Vec<_> = planned.changes[0].keys.keys().collect();
    assert_eq!(keys, [FROM_POLICY]);
}

#[test]
fn a_pod_in_quarantine_keeps_what_it_has() {
    let had = pod("web").after(&[web("web", "evict")]);
    let mut away = had.with("paramedic.dev/quarantined", Some("{}"));
    away.labels.remove("app");
    for policies in [vec![], vec![web("web", "soft")]] {
        assert_eq!(plan(&policies, [&away]).changes, []);
    }
}

/// Whatever happens in whatever order: keys that others set are never changed, and without policies
/// nothing of a policy is left.
#[test]
fn nothing_of_others_is_ever_touched() {
    let mut rng = Rng::with_seed(7);
    for _ in 0..2000 {
        let mut pod = pod("web");
        let mut theirs = BTreeMap::new();
        for key in [HEAL, PATIENCE] {
            if rng.bool() {
                pod = pod.with(key, Some("theirs"));
                theirs.insert(key, Some("theirs"));
            }
        }
        for _ in 0..8 {
            let any = |rng: &mut Rng, number: usize| {
                let ceiling = ["observe", "soft", "restart", "evict"][rng.usize(0..4)];
                let mut value = json!({ "selector": {}, "ceiling": ceiling });
                if rng.bool() {
                    value["patience"] = json!(["30s", "60s", "2h"][rng.usize(0..3)]);
                }
                policy(&format!("p{number}"), value)
            };
            let policies: Vec<_> = (0..rng.usize(0..3)).map(|n| any(&mut rng, n)).collect();
            pod = pod.after(&policies);
            for (key, value) in &theirs {
                assert_eq!(pod.has(key), *value, "{key}");
            }
            if rng.u8(0..4) == 0 {
                let key = [HEAL, PATIENCE][rng.usize(0..2)];
                pod = pod.with(key, Some("theirs"));
                theirs.insert(key, Some("theirs"));
            }
        }
        pod = pod.after(&[]);
        for key in KEYS.into_iter().chain([FROM_POLICY]) {
            assert_eq!(pod.has(key), theirs.get(key).copied().flatten(), "{key}");
        }
    }
}
