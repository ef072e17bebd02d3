//! The fleet against an API server that proxies to simulated agents, on a paused clock.
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower_service::Service;

use super::reach::{Answer, Fleet, Reach};
use crate::cli::{approve::Open, explain, top::view::tests::target};

/// What an agent takes to answer.
const ANSWERS: Duration = Duration::from_millis(40);

/// An API server with this many nodes. Their agents watch one pod each; that of `node7` hangs.
#[derive(Clone, Default)]
struct Server {
    nodes: usize,
    changes: Arc<Mutex<Vec<(String, Value)>>>,
    /// What it answers about the forecast of StatefulSet `web`.
    forecast: Arc<Mutex<Option<(u16, Value)>>>,
}

impl Server {
    fn of(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }

    async fn fleet(&self) -> anyhow::Result<Fleet> {
        let client = Client::new(self.clone(), "default");
        Reach::for_tests().fleet_of(vec![(String::new(), client)]).await
    }

    async fn answer(self, request: Request<Body>) -> (u16, Value) {
        let path = request.uri().path().to_owned();
        if *request.method() == Method::PATCH {
            let body = request.into_body().collect_bytes().await.unwrap();
            let change = serde_json::from_slice(&body).unwrap();
            self.changes.lock().unwrap().push((path, change));
            return (200, json!({ "metadata": {} }));
        }
        if path == "/api/v1/namespaces/paramedic-system/pods" {
            let pods = (0..self.nodes).rev().map(|node| {
                json!({
                    "metadata": { "name": format!("agent-{node}") },
                    "spec": { "nodeName": format!("node{node}"), "containers": [] },
                })
            });
            return (200, json!({ "metadata": {}, "items": pods.collect::<Vec<_>>() }));
        }
        if let Some(name) = path.strip_prefix("/api/v1/namespaces/shop/pods/web-") {
            // That of `node0` is a pod by itself.
            let owner = json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u",
                "controller": true,
            });
            let owners = if name == "0" { json!([]) } else { json!([owner]) };
            return (200, json!({ "metadata": { "name": path, "ownerReferences": owners } }));
        }
        if path
            .ends_with("/namespaces/shop/statefulsets.apps/web/http_requests_per_second_forecast")
        {
            let answer = self.forecast.lock().unwrap().clone();
            return answer.unwrap_or((404, json!({ "message": "its day is not known yet" })));
        }
        let rest = path.strip_prefix("/api/v1/namespaces/paramedic-system/pods/agent-");
        let Some((node, path)) = rest.and_then(|rest| rest.split_once(":9100/proxy")) else {
            return (404, json!({ "kind": "Status", "message": "no such thing" }));
        };
        if node == "7" {
            sleep(Duration::from_secs(3600)).await;
        }
        sleep(ANSWERS).await;
        let mut own = target(&format!("shop/web-{node}"), "no_action");
        own["asks"] = json!({ "request": "restart-1a2b3c", "namespace": "shop", "pod": format!("web-{node}") });
        match path {
            "/api/v1/targets" => (200, json!([own])),
            "/api/v1/incidents" => (200, json!([{ "id": 1, "wall_time": 5 }])),
            _ if path == format!("/api/v1/targets/shop/web-{node}") => (200, own),
            "/api/v1/targets/everywhere" => (200, own),
            _ => (404, json!("not watched by this agent")),
        }
    }
}

impl Service<Request<Body>> for Server {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (status, body) = server.answer(request).await;
            let body = Full::new(Bytes::from(body.to_string()));
            Ok(Response::builder().status(status).body(body).unwrap())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn two_hundred_nodes_answer_within_three_seconds_and_one_that_hangs_is_named() {
    let fleet = Server::of(200).fleet().await.unwrap();
    let begun = Instant::now();
    let answers: Vec<Answer<Vec<Value>>> = fleet.ask("/api/v1/targets").await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(answers.len(), 200);
    let silent: Vec<_> = answers.iter().filter(|(_, answer)| answer.is_err()).collect();
    assert_eq!(silent.len(), 1);
    assert_eq!(silent[0].0.place, "node7");
    assert_eq!(silent[0].1.as_ref().unwrap_err(), "no answer within 2500 ms");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_found_on_its_node() {
    let fleet = Server::of(9).fleet().await.unwrap();
    let (agent, body) = fleet.find("shop/web-3").await.unwrap();
    assert_eq!((agent.pod.as_str(), agent.place.as_str()), ("agent-3", "node3"));
    assert_eq!(explain::view(&body).unwrap()["name"], "shop/web-3");
    let error = fleet.find("shop/absent").await.unwrap_err().to_string();
    assert!(error.contains("node7: no answer within 2500 ms"), "{error}");
    let error = fleet.find("everywhere").await.unwrap_err().to_string();
    assert!(error.contains("is on several nodes (node0, node1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn approvals_and_pauses_are_annotations() {
    let server = Server::of(2);
    let fleet = server.fleet().await.unwrap();
    super::act::approve(&fleet, "shop/web-1", None).await.unwrap();
    super::act::pause(&fleet, true).await.unwrap();
    super::act::pause(&fleet, false).await.unwrap();
    let meant = paramedic_core::target::Request::read("restart-ffffff").unwrap();
    assert!(super::act::approve(&fleet, "shop/web-1", Some(meant)).await.is_err());
    let annotate =
        |key: &str, value: Value| json!({ "metadata": { "annotations": { key: value } } });
    assert_eq!(
        *server.changes.lock().unwrap(),
        [
            (
                "/api/v1/namespaces/shop/pods/web-1".to_owned(),
                annotate("paramedic.dev/approve", "restart-1a2b3c".into())
            ),
            (
                "/api/v1/namespaces/paramedic-system".to_owned(),
                annotate("paramedic.dev/paused", "true".into())
            ),
            (
                "/api/v1/namespaces/paramedic-system".to_owned(),
                annotate("paramedic.dev/paused", Value::Null)
            ),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_agents_says_so() {
    let error = Server::of(0).fleet().await.err().unwrap().to_string();
    assert!(error.contains("no agents in namespace paramedic-system"), "{error}");
}

#[test]
fn an_agent_that_asks_nothing_gets_no_approval() {
    let error = Open::of(&json!({ "name": "a" }), "a", None).err().unwrap().to_string();
    assert!(error.contains("asks nothing about a"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_expected_of_a_pods_workload_is_explained_or_why_nothing_is() {
    let server = Server::of(2);
    let fleet = server.fleet().await.unwrap();
    let line = async |pod: &str| {
        let story = explain::story(&super::explained(&fleet, pod).await.unwrap());
        let line = story.lines().find(|line| line.starts_with("  forecast")).unwrap();
        line.trim_start_matches("  forecast    ").to_owned()
    };
    assert_eq!(line("shop/web-1").await, "none of StatefulSet/web: its day is not known yet");
    let alone = "none: the pod belongs to no Deployment or StatefulSet";
    assert_eq!(line("shop/web-0").await, alone);
    let list = json!({ "items": [{ "value": "15500m" }] });
    *server.forecast.lock().unwrap() = Some((200, list));
    assert_eq!(line("shop/web-1").await, "at most 15.5 requests per second of StatefulSet/web");
    let refused = json!({ "message": "user \"jo\" cannot get resource\nmore" });
    *server.forecast.lock().unwrap() = Some((403, refused));
    let expected = "none of StatefulSet/web: user \"jo\" cannot get resource";
    assert_eq!(line("shop/web-1").await, expected);
}
