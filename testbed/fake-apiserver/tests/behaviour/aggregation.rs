use fake_apiserver::{Endpoint, FakeApi, Kind};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

const OF_AGENTS: &str = "kubernetes.io/service-name=agents";

fn agents(count: usize) -> Vec<Endpoint> {
    let one = |i| Endpoint::new(&format!("10.0.0.{i}"), &format!("agent-{i}"), "uid", "node1");
    (0..count).map(one).collect()
}

async fn slices(fake: &FakeApi) -> Vec<EndpointSlice> {
    let slices = Api::<EndpointSlice>::namespaced(fake.client("api"), "paramedic");
    slices.list(&ListParams::default().labels(OF_AGENTS)).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn a_service_has_as_many_slices_as_it_takes() {
    let fake = FakeApi::new();
    fake.set_endpoints("paramedic", "other", ("metrics", 1), &agents(1));
    for (count, expected) in
        [(3, vec![3]), (250, vec![50, 100, 100]), (101, vec![1, 100]), (0, vec![0])]
    {
        let names = fake.set_endpoints("paramedic", "agents", ("metrics", 9101), &agents(count));
        let slices = slices(&fake).await;
        assert_eq!(names.len(), slices.len());
        let mut sizes: Vec<usize> =
            slices.iter().map(|slice| slice.endpoints.iter().flatten().count()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, expected);
        let mut addresses: Vec<&String> = slices
            .iter()
            .filter_map(|s| s.endpoints.as_ref())
            .flatten()
            .flat_map(|e| &e.addresses)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), count, "all are different ones");
    }
    let bare = fake.list(Kind::EndpointSlice).into_iter().find(|slice| slice["ports"].is_null());
    assert_eq!(bare.unwrap()["endpoints"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn endpoints_say_where_they_are_and_how() {
    let fake = FakeApi::new();
    fake.put(Kind::Service, json!({"metadata": {"name": "agents", "namespace": "paramedic"}}));
    let [a, b, c]: [Endpoint; 3] = agents(3).try_into().unwrap();
    let all = [a, b.unready(), c.terminating()];
    let names = fake.set_endpoints("paramedic", "agents", ("metrics", 9101), &all);
    let slice = fake.get(Kind::EndpointSlice, "paramedic", &names[0]).unwrap();
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(slice["ports"], json!([{"name": "metrics", "port": 9101, "protocol": "TCP"}]));
    assert_eq!(slice["metadata"]["ownerReferences"][0]["name"], "agents");
    assert_eq!(slice["metadata"]["generation"], 1);
    let target = json!({"kind": "Pod", "namespace": "paramedic", "name": "agent-0", "uid": "uid"});
    let expected = json!({"addresses": ["10.0.0.0"], "nodeName": "node1", "targetRef": target,
        "conditions": {"ready": true, "serving": true, "terminating": false}});
    assert_eq!(slice["endpoints"][0], expected);
    let conditions = |i: usize| slice["endpoints"][i]["conditions"].clone();
    let unready = json!({"ready": false, "serving": false, "terminating": false});
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    assert_eq!([conditions(1), conditions(2)], [unready, leaving]);

    // The same again is no change; another wish raises the generation.
    let version = fake.version();
    assert_eq!(fake.set_endpoints("paramedic", "agents", ("metrics", 9101), &all), names);
    assert_eq!(fake.version(), version);
    let v6 = Endpoint::new("fd00::1", "agent-0", "uid", "node1");
    fake.set_endpoints("paramedic", "agents", ("metrics", 9101), &[v6]);
    let slice = fake.get(Kind::EndpointSlice, "paramedic", &names[0]).unwrap();
    assert_eq!(slice["metadata"]["generation"], 2);
    assert_eq!(slice["addressType"], "IPv6");

    fake.delete(Kind::Service, "paramedic", "agents").unwrap();
    assert!(fake.list(Kind::EndpointSlice).is_empty(), "they belonged to the Service");
}

#[tokio::test(start_paused = true)]
async fn the_front_proxy_can_change() {
    let fake = FakeApi::new();
    let there = || {
        let name = "extension-apiserver-authentication";
        fake.get(Kind::ConfigMap, "kube-system", name).unwrap()
    };
    fake.set_requestheader("old", &["front-proxy-client"]);
    let before = there();
    fake.set_requestheader("new", &["a", "b"]);
    let after = there();
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(before["data"]["requestheader-client-ca-file"], "old");
    assert_eq!(after["data"]["requestheader-client-ca-file"], "new");
    assert_eq!(after["data"]["requestheader-allowed-names"], "[\"a\",\"b\"]");
}
