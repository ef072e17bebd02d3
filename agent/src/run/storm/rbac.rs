//! RBAC grants exactly what the agent requests.
use std::{collections::BTreeSet, sync::LazyLock};

use fake_apiserver::{Rule, granted_by};

use super::*;

/// The rules of `manifests/10-rbac.yaml` that its bindings grant to the agent.
pub(super) fn granted() -> Vec<Rule> {
    static GRANTED: LazyLock<Vec<Rule>> =
        LazyLock::new(|| granted_by("10-rbac.yaml", "paramedic-agent"));
    GRANTED.clone()
}

/// A node with a workload of every kind, each with a pod that is about to need every remedy.
pub(super) fn hospital() -> Storm {
    let fake = FakeApi::new();
    fake.add_namespace(OWN, &[], &[]);
    fake.add_node("node1");
    fake.fence(Some("system:serviceaccount:paramedic-system:paramedic-agent"));
    // The agent lists if lists cannot be streamed.
    fake.set_watch_lists(false);
    let pods = |remedy| PodTemplate::new().label("paramedic.dev/heal", remedy);
    let drained = pods("restart")
        .label("paramedic.dev/serving", "true")
        .annotation("paramedic.dev/drain", "5s");
    fake.add_deployment("default", "shop", 3, &drained, &[]);
    add_service(&fake, "shop", true);
    let kept = pods("evict").annotation("paramedic.dev/give-up", "quarantine").spec(&hooked());
    fake.add_deployment("default", "kept", 3, &kept, &[]);
    fake.add_statefulset("default", "db", 3, &pods("evict"), &[]);
    fake.add_daemonset("default", "log", &pods("restart"), &["node1"]);
    // Its memory limit may grow.
    let cache = resizable(&mut Rng::with_seed(0), pods("soft"));
    let cache = cache.annotation("paramedic.dev/resize", "memory=2x");
    fake.add_statefulset("default", "cache", 1, &cache, &["node1"]);
    fake.add_job("default", "batch", 3, &pods("evict"), &[]);
    // Its budget is spent forever, so that the refusal repeats.
    fake.add_deployment("default", "full", 2, &pods("restart"), &[]);
    fake.add_pdb("default", "full", "full", &json!({ "minAvailable": 2 }));
    Storm::over(fake, vec!["node1".to_owned()], Rng::with_seed(0))
}

/// Group, resource and verb.
type Call = (String, String, String);

fn calls_of(rules: &[Rule]) -> BTreeSet<Call> {
    let mut calls = BTreeSet::new();
    for rule in rules {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                for verb in &rule.verbs {
                    calls.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    calls
}

#[tokio::test(start_paused = true)]
async fn what_rbac_grants_equals_what_the_agent_calls() {
    let storm = Arc::new(hospital());
    let lock = StateLock::acquire(&storm.state.path().join("node1")).unwrap();
    let living = Arc::clone(&storm);
    let agent = tokio::spawn(async move {
        let fuse = Fuse::new(None, None, false);
        living.live("node1".to_owned(), &lock, fuse, untold()).await;
    });
    sleep(Duration::from_secs(30)).await;
    for workload in ["shop", "db", "log", "batch", "full", "kept"] {
        let pod = storm.ward.pods_of(workload).remove(0);
        let evict = matches!(workload, "db" | "kept");
        let cure = if evict { Remedy::Evict } else { Remedy::Restart };
        storm.ward.falls_ill(&pod, Illness::grave(cure));
    }
    let cache = storm.ward.pods_of("cache").remove(0);
    storm.ward.leaks_for(&cache, 500_000, Duration::from_secs(300));
    sleep(LENGTH).await;
    assert!(!agent.is_finished(), "the agent has panicked");
    agent.abort();

    let asked = storm.fake.requests();
    let denied: Vec<_> = asked.iter().filter(|asked| asked.status == Some(403)).collect();
    assert!(denied.is_empty(), "{denied:?}");
    let called = asked.iter().map(|asked| {
        let slash = if asked.subresource.is_empty() { "" } else { "/" };
        let resource = format!("{}{slash}{}", asked.resource, asked.subresource);
        (asked.group.clone(), resource, asked.verb.to_owned())
    });
    assert_eq!(called.collect::<BTreeSet<_>>(), calls_of(&granted()));
    assert!(storm.fake.evictions().len() > 1, "of the set and of the job");
    let tally = judge::judge(&storm.ward, &storm.fake).unwrap();
    assert_eq!((tally.drains, tally.quarantines), (1, 1));
    assert!(!storm.fake.resizes().is_empty(), "of the cache");
}

#[test]
fn no_wildcard_is_granted_and_nothing_beyond_pods_and_their_owners_in_the_whole_cluster() {
    for rule in granted() {
        let all = [&rule.api_groups, &rule.resources, &rule.verbs];
        assert!(all.into_iter().flatten().all(|item| !item.contains('*')), "{rule:?}");
        let writes = rule.verbs.iter().any(|verb| !["get", "list", "watch"].contains(&&**verb));
        // All are fenced.
        let told = ["pods/eviction", "pods/resize", "pods", "events"];
        let harmless = rule.resources.iter().all(|resource| told.contains(&&**resource));
        assert!(!writes || harmless || rule.namespace.as_deref() == Some(OWN), "{rule:?}");
    }
}
