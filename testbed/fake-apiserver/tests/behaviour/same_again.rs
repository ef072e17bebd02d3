use std::time::Duration;

use fake_apiserver::{Evicted, FakeApi, Kind, Logged, PodTemplate};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::behaviour::{evict, pod_names};

/// A lively hour in a small cluster: pods are evicted, die and lose their labels, as `seed` has it.
async fn hour(mut seed: u64) -> (Vec<Value>, Vec<Logged>, Vec<Evicted>, u64) {
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let fake = FakeApi::new();
    let nodes = ["node1", "node2", "node3", "node4"];
    nodes.into_iter().for_each(|node| fake.add_node(node));
    for (i, app) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let template = PodTemplate::new().grace(5);
        fake.add_deployment("default", app, 4 + u32::try_from(i).unwrap(), &template, &nodes);
        fake.add_pdb("default", app, app, &json!({"maxUnavailable": 1}));
    }
    fake.add_statefulset("default", "db", 3, &PodTemplate::new().grace(2), &nodes);
    for _ in 0..300 {
        let pods = pod_names(&fake);
        let pod = &pods[random(pods.len())];
        match random(5) {
            0 | 1 => drop(evict(&fake, pod).await),
            2 => fake.restart_container("default", pod, "app", 1).unwrap(),
            3 => fake.set_ready("default", pod, random(2) == 0).unwrap(),
            _ => fake.set_labels("default", pod, &json!({"x": random(3).to_string()})).unwrap(),
        }
        sleep(Duration::from_millis(u64::try_from(random(20_000)).unwrap())).await;
    }
    assert_eq!(fake.violations(), []);
    (fake.list(Kind::Pod), fake.requests(), fake.evictions(), fake.version())
}

#[tokio::test(start_paused = true)]
async fn the_same_hour_passes_in_the_same_way() {
    for seed in 0..3 {
        let once = hour(seed).await;
        assert_eq!(hour(seed).await, once);
        assert!(once.2.len() > 20, "something happened");
    }
}

/// Every pod is replaced in the end, and nothing is left over.
#[tokio::test(start_paused = true)]
async fn quiet_returns() {
    let (pods, ..) = hour(7).await;
    let fake_names: Vec<&str> =
        pods.iter().map(|p| p["metadata"]["name"].as_str().unwrap()).collect();
    assert!(fake_names.len() >= 4 + 5 + 6 + 7 + 3);
}
