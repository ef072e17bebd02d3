use std::time::Duration;

use fake_apiserver::{FakeApi, Kind};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::behaviour::ask;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1beta2.custom.metrics.k8s.io";

fn role(fake: &FakeApi, name: &str) -> Value {
    fake.put(Kind::ClusterRole, json!({"metadata": {"name": name}, "rules": []}))
}

fn owner(role: &Value) -> Value {
    json!({"apiVersion": role["apiVersion"], "kind": role["kind"],
        "name": role["metadata"]["name"], "uid": role["metadata"]["uid"]})
}

fn owned_by(owners: &[Value]) -> Value {
    json!({
        "metadata": {"name": NAME, "ownerReferences": owners},
        "spec": {
            "group": "custom.metrics.k8s.io", "version": "v1beta2",
            "groupPriorityMinimum": 100, "versionPriority": 200,
            "service": {"namespace": "default", "name": "metrics"},
        },
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_role_owned_goes_with_it() {
    let fake = FakeApi::new();
    let paramedic = role(&fake, "paramedic");
    let body = owned_by(&[owner(&paramedic)]);
    assert_eq!(ask(&fake, "POST", SERVICES, body).await.0, 201);
    role(&fake, "another");
    sleep(Duration::from_secs(60)).await;
    fake.delete(Kind::ClusterRole, "", "another").unwrap();
    assert!(fake.get(Kind::APIService, "", NAME).is_some());
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/paramedic";
    assert_eq!(ask(&fake, "DELETE", path, Value::Null).await.0, 200);
    assert!(fake.get(Kind::APIService, "", NAME).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_has_another_owner_stays_until_that_is_gone_too() {
    let fake = FakeApi::new();
    let (a, b) = (role(&fake, "a"), role(&fake, "b"));
    fake.put(Kind::APIService, owned_by(&[owner(&a), owner(&b)]));
    fake.delete(Kind::ClusterRole, "", "a").unwrap();
    let left = fake.get(Kind::APIService, "", NAME).unwrap();
    assert_eq!(left["metadata"]["ownerReferences"], json!([owner(&b)]));
    fake.delete(Kind::ClusterRole, "", "b").unwrap();
    assert!(fake.get(Kind::APIService, "", NAME).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_an_earlier_owner_does_not_last() {
    let fake = FakeApi::new();
    let earlier = owner(&role(&fake, "paramedic"));
    fake.delete(Kind::ClusterRole, "", "paramedic").unwrap();
    role(&fake, "paramedic");
    let body = owned_by(&[earlier]);
    assert_eq!(ask(&fake, "POST", SERVICES, body).await.0, 201);
    assert!(fake.get(Kind::APIService, "", NAME).is_some());
    let collected = fake.until(|fake| fake.get(Kind::APIService, "", NAME).is_none());
    timeout(Duration::from_secs(60), collected).await.unwrap();
    assert_eq!(fake.now(), Duration::from_secs(1));
    // What the fake knows nothing of is believed in.
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "name": "a", "uid": "b"});
    assert_eq!(ask(&fake, "POST", SERVICES, owned_by(&[account])).await.0, 201);
    sleep(Duration::from_secs(60)).await;
    assert!(fake.get(Kind::APIService, "", NAME).is_some());
}
