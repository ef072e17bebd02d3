mod aggregation;
mod compare;
mod events;
mod eviction;
mod fence;
mod leases;
mod pods;
mod rbac;
mod replay;
mod restart;

use std::collections::BTreeMap;

use fake_apiserver::recorded;

/// Which file is used by the tests of which module. Where a module names its files in a list of
/// its own, that list counts.
const USED: [(&str, &str, &[&str]); 10] = [
    (
        "aggregation",
        include_str!("aggregation.rs"),
        &[
            "aggregation/apiservice-available.json",
            "aggregation/extension-apiserver-authentication.json",
            "aggregation/subject-access-review-allowed.json",
            "aggregation/subject-access-review-denied.json",
        ],
    ),
    (
        "pods",
        include_str!("pods.rs"),
        &[
            "pods/list-continue-expired.json",
            "pods/list-empty.json",
            "pods/list-exact-expired.json",
            "pods/list-rv-too-large.json",
            "pods/list.json",
            "pods/watch-expired.json",
            "pods/watch-list.jsonl",
            "pods/watch-list.request.json",
            "pods/watch.jsonl",
            "pods/watch.request.json",
        ],
    ),
    (
        "eviction",
        include_str!("eviction.rs"),
        &[
            "eviction/201-dry-run-in-body.json",
            "eviction/201-dry-run.json",
            "eviction/201-evicted.json",
            "eviction/400-name-mismatch.json",
            "eviction/404-gone.json",
            "eviction/409-dry-run-wrong-uid.json",
            "eviction/409-wrong-uid.json",
            "eviction/429-after-409-wrong-uid.json",
            "eviction/429-budget-not-processed.json",
            "eviction/429-budget.json",
            "eviction/429-dry-run.json",
            "eviction/429-straight-after-201.json",
            "eviction/500-two-budgets.json",
            "eviction/budget-after-409.json",
            "eviction/not-ready.always-allow.201.json",
            "eviction/not-ready.if-healthy-budget.201.json",
            "eviction/not-ready.if-healthy-budget.429.json",
            "eviction/pod-status-after-201.json",
        ],
    ),
    (
        "events",
        include_str!("events.rs"),
        &[
            "events/200-series-patch.json",
            "events/201-create-with-series.json",
            "events/201-create.json",
            "events/201-regarding-other-namespace.json",
            "events/400-event-time-without-micros.json",
            "events/404-series-patch.json",
            "events/409-already-exists.json",
            "events/422-no-action.json",
            "events/422-no-event-time.json",
            "events/422-note-too-long.json",
            "events/core-v1-view.json",
            "events/kubectl-shows.txt",
        ],
    ),
    (
        "leases",
        include_str!("leases.rs"),
        &[
            "leases/200-update.json",
            "leases/201-create.json",
            "leases/201-put-absent-with-resource-version.json",
            "leases/201-put-creates.json",
            "leases/400-renew-time-without-micros.json",
            "leases/404-get.json",
            "leases/409-already-exists.json",
            "leases/409-conflict.json",
            "leases/422-update-without-resource-version.json",
            "leases/release-empty-holder.json",
        ],
    ),
    (
        "rbac",
        include_str!("rbac.rs"),
        &[
            "rbac/401-bad-token.json",
            "rbac/401-token-of-deleted-pod.json",
            "rbac/403-delete-lease.json",
            "rbac/403-evict.json",
            "rbac/403-extension-apiserver-authentication.json",
            "rbac/403-list-nodes.json",
            "rbac/403-watch-pods.json",
        ],
    ),
    (
        "fence",
        include_str!("fence.rs"),
        &[
            "fence/201-evict-own-node.json",
            "fence/403-delete-other-node.json",
            "fence/403-delete-unbound-token.json",
            "fence/403-evict-no-consent.json",
            "fence/403-evict-other-node.json",
            "fence/403-evict-unbound-token.json",
            "fence/422-evict-no-params.json",
            "fence/policy.yaml",
        ],
    ),
    (
        "restart",
        include_str!("restart.rs"),
        &[
            "restart/kubectl-events.txt",
            "restart/status-after-sigkill.json",
            "restart/status-after-sigterm-shared-pid-namespace.json",
            "restart/status-after.json",
            "restart/status-before.json",
            "restart/status-crash-loop-back-off.json",
            "restart/timeline.json",
        ],
    ),
    ("replay, exchanges", include_str!("replay.rs"), &replay::EXCHANGES),
    ("replay, objects", include_str!("replay.rs"), &replay::OBJECTS),
];

#[test]
fn every_recording_is_used_and_every_file_used_is_there() {
    let mut used: BTreeMap<String, &str> = BTreeMap::new();
    for (module, source, files) in USED {
        for file in files {
            assert!(source.contains(&format!("\"{file}\"")), "{module} does not use {file}");
            let before = used.insert((*file).to_owned(), module);
            assert_eq!(before, None, "{file} is used twice");
        }
    }
    let there = recorded::names().unwrap();
    let unused: Vec<_> = there.iter().filter(|name| !used.contains_key(*name)).collect();
    assert!(unused.is_empty(), "no test uses {unused:?}");
    let missing: Vec<_> = used.keys().filter(|name| !there.contains(name)).collect();
    assert!(missing.is_empty(), "there is no {missing:?}");
    assert!(there.len() > 100);
}
