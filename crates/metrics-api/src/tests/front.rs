//! Only the front proxy of the API server may send requests.
use std::time::Duration;

use fake_apiserver::FakeApi;
use hyper::{Method, client::conn::http1};
use hyper_util::rt::TokioIo;
use paramedic_pod_metrics::Metric;
use tokio::{sync::watch, time::sleep};

use super::{
    Front, HPA, Scene,
    scene::{path, send},
};
use crate::{authentication, readiness::Readiness};

/// Headers of a client that claims to be an administrator.
const SPOOFED: [(&str, &str); 3] = [
    ("X-Remote-User", "system:admin"),
    ("X-Remote-Group", "system:masters"),
    ("Authorization", "Bearer anything"),
];

#[tokio::test]
async fn without_the_front_proxys_certificate_everything_is_401() {
    let scene = Scene::new().await;
    for target in [
        path(Metric::HttpRequestsPerSecond),
        "/apis".into(),
        "/apis/custom.metrics.k8s.io/v1beta2".into(),
        "/openapi/v2".into(),
        "/".into(),
        "/metrics".into(),
        "/readyz/".into(),
    ] {
        let another = scene.front.sign("another-name");
        for certificate in [None, Some(another)] {
            let answer = scene.ask(certificate, &target, &SPOOFED).await.unwrap();
            assert_eq!(answer.status, 401, "{target}");
            assert_eq!(answer.body["reason"], "Unauthorized");
        }
        let genuine = scene.front.sign("front-proxy-client");
        let unsaid = scene.ask(Some(genuine), &target, &SPOOFED[1..]).await.unwrap();
        assert_eq!(unsaid.status, 401, "without a user: {target}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_fails_the_handshake() {
    let scene = Scene::new().await;
    let another = Front::new().sign("front-proxy-client");
    let refused = scene.ask(Some(another), &path(Metric::Http5xxRatio), &SPOOFED).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn probes_of_the_kubelet_need_no_certificate() {
    let scene = Scene::new().await;
    scene.until_ready().await;
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(scene.ask(None, path, &[]).await.unwrap().status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_new_front_proxy_ca_is_used_without_a_restart() {
    let scene = Scene::new().await;
    let old = scene.connect(Some(scene.front.sign("front-proxy-client"))).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(old)).await.unwrap();
    let connection = tokio::spawn(connection);
    let asked = path(Metric::Http5xxRatio);
    let user = [("X-Remote-User", HPA)];
    assert_eq!(send(&mut sender, Method::GET, &asked, &user).await.unwrap().status, 200);

    let next = Front::new();
    scene.fake.set_requestheader(&next.pem, &["front-proxy-client"]);
    // A connection that was authenticated by the old CA must authenticate again.
    connection.await.unwrap().unwrap();
    scene
        .until("the new authority is known", || async {
            let answer = scene.ask(Some(next.sign("front-proxy-client")), &asked, &user).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    let old = scene.front.sign("front-proxy-client");
    assert!(scene.ask(Some(old), &asked, &user).await.is_err());
}

/// On the paused clock a second passes when all tasks are idle.
#[tokio::test(start_paused = true)]
async fn an_invalid_config_map_is_ignored() {
    let fake = FakeApi::new();
    let (front, next) = (Front::new(), Front::new());
    let (out, mut known) = watch::channel(None);
    let client = fake.client("a");
    tokio::spawn(async move {
        let readiness = Readiness::default();
        authentication::watch(client, out, &readiness).await;
    });
    for (pem, names, is_news) in [
        (front.pem.as_str(), &["front-proxy-client"][..], true),
        ("nonsense", &[], false),
        // It still watches: it read the invalid content and ignored it.
        (&next.pem, &["front-proxy-client"], true),
    ] {
        fake.set_requestheader(pem, names);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(known.has_changed().unwrap(), is_news, "{pem}");
        assert!(known.borrow_and_update().is_some());
    }
}

/// The API server sends one header for each of a user's groups.
#[tokio::test]
async fn a_user_may_be_in_hundreds_of_groups() {
    let scene = Scene::new().await;
    let groups: Vec<String> = (0..500).map(|n| format!("oidc:team-{n}")).collect();
    let mut headers = vec![("X-Remote-User", HPA)];
    headers.extend(groups.iter().map(|group| ("X-Remote-Group", group.as_str())));
    let genuine = scene.front.sign("front-proxy-client");
    let answer = scene.ask(Some(genuine), &path(Metric::Http5xxRatio), &headers).await.unwrap();
    assert_eq!(answer.status, 200);
}

/// Fewer strangers than their limit connect and send nothing. Authenticated clients still get in.
#[tokio::test]
async fn hundreds_of_strangers_do_not_keep_the_api_server_out() {
    let scene = Scene::new().await;
    let mut strangers = Vec::new();
    for _ in 0..300 {
        strangers.push(tokio::net::TcpStream::connect(scene.address).await.unwrap());
    }
    assert_eq!(scene.get(HPA, &path(Metric::Http5xxRatio)).await.status, 200);
    // A client without a certificate may send one request.
    let stream = scene.connect(None).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    assert_eq!(send(&mut sender, Method::GET, "/livez", &[]).await.unwrap().status, 200);
    assert!(connection.await.unwrap().is_ok());
    assert!(send(&mut sender, Method::GET, "/livez", &[]).await.is_err());
}

/// Header names in any spelling, doubled or mixed.
#[tokio::test]
async fn headers_without_a_certificate_are_ignored() {
    let scene = Scene::new().await;
    let mut random = fastrand::Rng::with_seed(5);
    let names = [
        "X-Remote-User",
        "x-remote-user",
        "X-Remote-Group",
        "X-Remote-Uid",
        "X-Remote-Extra-Scopes",
        "X-Remote-Extra-",
        "Authorization",
        "X-Forwarded-For",
        "Forwarded",
        "X-Client-Cert",
        "X-SSL-Client-Verify",
        "Impersonate-User",
        "Impersonate-Group",
    ];
    let values = ["system:admin", "system:masters", HPA, "Bearer x", "SUCCESS", "", "%2A"];
    let asked = path(Metric::HttpRequestsPerSecond);
    let targets = [asked.as_str(), "/apis", "/openapi/v3", "/apis/custom.metrics.k8s.io/v1beta1"];
    let any = |random: &mut fastrand::Rng| {
        let count = random.usize(0..8);
        let pairs = (0..count)
            .map(|_| (names[random.usize(0..names.len())], values[random.usize(0..values.len())]));
        let headers: Vec<_> = pairs.collect();
        (targets[random.usize(0..targets.len())], headers)
    };
    for _ in 0..50 {
        let (target, headers) = any(&mut random);
        let answer = scene.ask(None, target, &headers).await.unwrap();
        assert_eq!(answer.status, 401, "{target} {headers:?}");
    }
    // Signed by the right CA, but for another name.
    let stream = scene.connect(Some(scene.front.sign("kubelet"))).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..500 {
        let (target, headers) = any(&mut random);
        let answer = send(&mut sender, Method::GET, target, &headers).await.unwrap();
        assert_eq!(answer.status, 401, "{target} {headers:?}");
    }
}
