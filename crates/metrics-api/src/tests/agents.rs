//! Which agents the metrics API accepts, and which clients the agents accept.
use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use fake_apiserver::{Endpoint, Kind};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use paramedic_pod_metrics::{AUDIENCE, CLIENT_NAME, PATH};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

use super::{
    Front, OWN, Scene,
    scene::{AGENT, Certificate, NAME, endpoint},
};

#[tokio::test]
async fn only_the_token_of_the_agents_own_pod_is_accepted() {
    for (uid, audience, user) in [
        ("uid-agent-2", AUDIENCE, AGENT),
        ("uid-agent-1", "https://kubernetes.default.svc.cluster.local", AGENT),
        ("uid-agent-1", AUDIENCE, "system:serviceaccount:default:default"),
    ] {
        let scene = Scene::quiet().await;
        scene.measure(10.0);
        scene.give_token(1, uid, audience, user);
        is_not_believed(&scene).await;
    }
    let scene = Scene::quiet().await;
    scene.measure(10.0);
    fs::write(scene.credentials.path().join("token-1"), "made up").unwrap();
    is_not_believed(&scene).await;
}

/// The times of the token reviews.
fn reviews(scene: &Scene) -> Vec<Duration> {
    let requests = scene.fake.requests().into_iter();
    requests.filter(|request| request.resource == "tokenreviews").map(|asked| asked.at).collect()
}

/// An accepted agent is not reviewed again.
async fn is_not_believed(scene: &Scene) {
    scene.until("a second review", || async { reviews(scene).len() >= 2 }).await;
    assert!(scene.rates().await.is_empty());
}

#[tokio::test]
async fn an_agents_values_are_accepted_for_pods_of_its_own_node_only() {
    let scene = Scene::quiet().await;
    scene.give_token(1, "uid-agent-1", AUDIENCE, AGENT);
    scene.give_token(2, "uid-agent-2", AUDIENCE, AGENT);
    // Each reports values for all pods of the cluster.
    scene.measure_at(1, 10.0);
    scene.measure_at(2, 20.0);
    scene.until("the values of both nodes", || async { scene.rates().await.len() == 3 }).await;
    for (name, rate) in scene.rates().await {
        let pod = scene.fake.get(Kind::Pod, "default", &name).unwrap();
        let expected = if pod["spec"]["nodeName"] == "node1" { "10" } else { "20" };
        assert_eq!(rate, expected, "{name}");
    }
}

/// The token is valid but the frames are not: retries back off as for an unreachable agent.
#[tokio::test]
async fn an_agent_with_invalid_frames_is_retried_with_back_off() {
    let scene = Scene::quiet().await;
    scene.give_token(1, "uid-agent-1", AUDIENCE, AGENT);
    scene.measure_at(1, -1.0);
    scene.until("a third review", || async { reviews(&scene).len() >= 3 }).await;
    let asked = reviews(&scene);
    // The first retry comes after one to two seconds, the next after two to four.
    assert!(asked[1] - asked[0] >= Duration::from_secs(1), "{asked:?}");
    assert!(asked[2] - asked[1] >= Duration::from_secs(2), "{asked:?}");
    assert!(scene.rates().await.is_empty());
}

#[tokio::test]
async fn new_agents_are_followed() {
    let scene = Scene::quiet().await;
    let port = ("readings", scene.ports[0].port());
    scene.fake.set_endpoints(OWN, "paramedic-agent", port, &[]);
    for node in 1..=2 {
        scene.give_token(node, &format!("uid-agent-{node}"), AUDIENCE, AGENT);
    }
    scene.measure(10.0);
    // One is not ready, which must not stop the stream; the other has an address without a
    // listener.
    let without_listener = Endpoint::new("127.0.0.9", "agent-9", "uid-agent-9", "node9");
    let all = [endpoint(1), endpoint(2).unready(), without_listener];
    scene.fake.set_endpoints(OWN, "paramedic-agent", port, &all);
    scene.until("values of all pods", || async { scene.rates().await.len() == 3 }).await;
}

#[tokio::test]
async fn an_agent_that_stops_ends_its_streams_at_once() {
    let mut scene = Scene::new().await;
    let (stop, ended) = scene.agents.remove(0);
    let begun = Instant::now();
    stop.send(()).unwrap();
    ended.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "before the grace period ends");
}

/// A client that verifies no server, like a thief.
async fn intrude(scene: &Scene, certificate: Option<Certificate>) -> Result<Bytes, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(super::super::run::ProvedByToken(provider)));
    let config = match certificate {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    };
    let stream = TcpStream::connect(scene.ports[0]).await.map_err(|error| text(&error))?;
    let name = ServerName::try_from("paramedic-agent").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    tokio::spawn(connection);
    let request = Request::get(PATH).body(Empty::<Bytes>::new()).unwrap();
    let mut answer = sender.send_request(request).await.map_err(|error| text(&error))?;
    let frame = answer.body_mut().frame().await.ok_or("nothing")?.map_err(|error| text(&error))?;
    frame.into_data().map_err(|_| "no data".to_owned())
}

#[tokio::test]
async fn an_agent_sends_its_token_to_the_metrics_api_only() {
    let scene = Scene::new().await;
    let stranger = Front::new();
    for certificate in [None, Some(stranger.sign(CLIENT_NAME)), Some(scene.front.sign(CLIENT_NAME))]
    {
        let shown = intrude(&scene, certificate).await;
        assert!(shown.is_err(), "{shown:?}");
    }
    // Certificates of the real authority, for another name and for the right one.
    let file = scene.credentials.path().join("ca.crt");
    let authority = Front::new();
    fs::write(file, &authority.pem).unwrap();
    assert!(intrude(&scene, Some(authority.sign("another"))).await.is_err());
    let shown = intrude(&scene, Some(authority.sign(CLIENT_NAME))).await.unwrap();
    assert!(shown.starts_with(b"{\"token\":\"token-1-"), "{shown:?}");
}

#[tokio::test]
async fn without_a_ca_an_agent_refuses_every_client() {
    let scene = Scene::new().await;
    let authority = Front::new();
    for nothing in ["", "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"] {
        fs::write(scene.credentials.path().join("ca.crt"), nothing).unwrap();
        assert!(intrude(&scene, Some(authority.sign(CLIENT_NAME))).await.is_err());
    }
    fs::remove_file(scene.credentials.path().join("ca.crt")).unwrap();
    assert!(intrude(&scene, Some(authority.sign(CLIENT_NAME))).await.is_err());
    assert!(scene.fake.get(Kind::Secret, OWN, NAME).is_some());
}
