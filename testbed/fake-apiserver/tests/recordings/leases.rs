use fake_apiserver::{FakeApi, Identity, Kind, Rule};

use crate::recordings::compare::same;

/// The recorded versions begin here.
const FIRST: u64 = 774;

#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_renewed_fought_over_and_given_back() {
    let fake = FakeApi::new();
    same(&fake, "a", "leases/404-get.json").await;
    fake.skip_versions(FIRST - 1 - fake.version());
    // From here on even the versions are the recorded ones.
    for name in [
        "leases/201-create.json",
        "leases/409-already-exists.json",
        "leases/200-update.json",
        "leases/409-conflict.json",
        "leases/422-update-without-resource-version.json",
        "leases/201-put-creates.json",
        "leases/201-put-absent-with-resource-version.json",
        "leases/400-renew-time-without-micros.json",
        "leases/release-empty-holder.json",
    ] {
        same(&fake, "a", name).await;
    }
    assert_eq!(fake.list(Kind::Lease).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn to_create_with_put_takes_the_verb_create() {
    let fake = FakeApi::new();
    let group = "coordination.k8s.io";
    let rule = Rule::new(group, &["leases"], &["get", "update"]).in_namespace("kube-system");
    fake.identity("a", Identity::new("a").may([rule]));
    let exchange = crate::recordings::compare::recording("leases/201-put-creates.json");
    let answer = crate::recordings::compare::send(&fake, "a", &exchange).await;
    assert_eq!(answer.status, 403);
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains("cannot create resource \"leases\""), "{message}");
}
