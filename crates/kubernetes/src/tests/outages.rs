//! A server that is down, slow or wrong: soft remedies continue, hard ones wait and name the
//! reason.
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use fake_apiserver::{ApiBody, Caller, ConnectionError, Fault};
use hyper::http::{Request as HttpRequest, Response, header::DATE};
use kube::{Client, client::Body};
use paramedic_core::guard::Gate;
use tokio::time::{Instant, sleep};
use tower_service::Service;

use super::*;

#[tokio::test(start_paused = true)]
async fn while_the_server_is_down_soft_remedies_continue_and_hard_ones_wait() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let pod = scene.first();
    scene.fake.down(true);
    assert!(agent.clear(&request(&pod, Remedy::Soft)).await.unwrap().is_none());
    let (refusal, wait) = agent.clear(&request(&pod, Remedy::Restart)).await.unwrap_err();
    assert_eq!((refusal.gate, wait), (Gate::ApiServer, Duration::from_secs(5)));
    assert!(refusal.why.to_string().starts_with("the API server does not answer"));
    scene.fake.down(false);
    // A request had no response, so none follows at once.
    sleep(wait).await;
    assert!(clear(&agent, &pod).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_known_pause_holds_for_soft_remedies_while_the_server_is_down() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    scene.fake.add_namespace(OWN, &[], &[("paramedic.dev/paused", "true")]);
    let soft = request(&scene.first(), Remedy::Soft);
    assert_eq!(agent.clear(&soft).await.unwrap_err().0.gate, Gate::Paused);
    scene.fake.down(true);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(agent.clear(&soft).await.unwrap_err().0.gate, Gate::Paused);
}

#[tokio::test(start_paused = true)]
async fn a_soft_remedy_waits_two_seconds_for_the_server_at_most_every_five() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let soft = request(&scene.first(), Remedy::Soft);
    scene.fake.fail_next(usize::MAX, |_| true, Fault::Hang { applied: false });
    let mut waited = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        assert!(agent.clear(&soft).await.unwrap().is_none());
        waited.push(begun.elapsed().as_secs());
        sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(waited, [2, 0, 2], "the third comes more than five seconds after the first");
}

#[tokio::test(start_paused = true)]
async fn each_check_without_a_response_refuses() {
    for question in ["namespaces", "pods", "replicasets", "deployments", "eviction", "leases"] {
        for fault in [
            Fault::Dropped,
            Fault::Lost,
            Fault::Hang { applied: false },
            Fault::Garbage,
            Fault::Status { code: 500, retry_after: None },
            Fault::Status { code: 503, retry_after: Some(1) },
            Fault::Status { code: 504, retry_after: None },
        ] {
            let scene = Scene::new(3);
            let of = move |asked: &Logged| {
                asked.subresource == question
                    || asked.subresource.is_empty() && asked.resource == question
            };
            scene.fake.fail_next(1, of, fault);
            let (gate, why) = refused(&scene.agent("node1"), &scene.first()).await;
            assert_eq!(gate, "api_server", "{question} {fault:?}: {why}");
            assert!(scene.lease().is_none(), "{question} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn responses_that_took_more_than_three_seconds_together_refuse() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    scene.fake.set_latency(Duration::from_millis(700));
    let (gate, why) = refused(&agent, &scene.first()).await;
    assert_eq!(gate, "api_server");
    assert!(why.contains("too late"), "{why}");
    assert!(scene.lease().is_none());

    scene.fake.set_latency(Duration::from_millis(500));
    let lock = clear(&agent, &scene.first()).await.unwrap();
    let why = lock.holds(scene.clock.now()).unwrap_err();
    assert!(why.contains("too old to be acted on"), "the lock itself came too late: {why}");
}

/// A proxy that removes the server's dates.
struct Undated(Caller);

impl Service<HttpRequest<Body>> for Undated {
    type Response = Response<ApiBody>;
    type Error = ConnectionError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ApiBody>, ConnectionError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            answer.headers_mut().remove(DATE);
            Ok(answer)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_date_from_the_server_no_lock_is_taken() {
    let scene = Scene::new(3);
    let client = Client::new(Undated(scene.fake.caller("node1")), "default");
    let agent = Arc::new(Cluster::new(
        client,
        scene.agent("node1").identity().clone(),
        scene.clock,
        Requests::uncounted(),
    ));
    agent.caps.lock().take(Event::InitDone);
    let (gate, why) = refused(&agent, &scene.first()).await;
    assert_eq!((gate, why.contains("no Date header")), ("api_server", true), "{why}");
    assert!(scene.lease().is_none());
    assert!(agent.clear(&request(&scene.first(), Remedy::Soft)).await.unwrap().is_none());
}
