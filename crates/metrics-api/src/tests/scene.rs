//! Test environment: a cluster of two nodes with an agent each, and a client that queries the
//! metrics API as the API server does.
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fake_apiserver::{Endpoint, FakeApi, Identity, Kind, PodTemplate, Rule, granted_by};
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use paramedic_pod_metrics::{AUDIENCE, Credentials, Feed, Frame, Metric, PodMetrics, Port};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::sleep};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Config, MetricsApi};

/// Paramedic's namespace.
pub(super) const OWN: &str = "paramedic-system";
/// The shared name of the metrics API's objects.
pub(super) const NAME: &str = "paramedic-metrics-api";
/// The user of HPA queries.
pub(super) const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
/// The user name in an agent's token.
pub(super) const AGENT: &str = "system:serviceaccount:paramedic-system:paramedic-agent";

/// Maximum wait for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// The front-proxy CA.
pub(super) struct Front {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// A certificate with its key.
pub(super) type Certificate = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Front {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "front-proxy-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Signs a client certificate for this name.
    pub(super) fn sign(&self, name: &str) -> Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (certificate, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

/// A cluster, with the metrics API in it.
pub(super) struct Scene {
    pub(super) fake: FakeApi,
    pub(super) front: Front,
    pub(super) address: SocketAddr,
    /// Name and uid of each pod of `app`, and of the node's agent.
    pub(super) pods: Vec<(String, String)>,
    /// The values that each node's agent sends.
    pub(super) feeds: Vec<Feed>,
    /// The address of each agent.
    pub(super) ports: Vec<SocketAddr>,
    /// Stops each agent, and tells when it has ended.
    pub(super) agents: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
    pub(super) credentials: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<anyhow::Result<()>>,
}

/// A cluster with the relevant objects of the manifests.
pub(super) fn installed() -> FakeApi {
    let fake = FakeApi::new();
    fake.add_namespace(OWN, &[], &[]);
    fake.put(Kind::ClusterRole, json!({"metadata": {"name": NAME}, "rules": []}));
    put_deployment(&fake, 2);
    fake
}

pub(super) fn put_deployment(fake: &FakeApi, replicas: u32) {
    fake.put(
        Kind::Deployment,
        json!({
            "metadata": {"name": NAME, "namespace": OWN},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}},
            },
        }),
    );
}

/// The endpoint of a node's agent.
pub(super) fn endpoint(node: usize) -> Endpoint {
    let (ip, name) = (format!("127.0.0.{node}"), format!("agent-{node}"));
    Endpoint::new(&ip, &name, &format!("uid-agent-{node}"), &format!("node{node}"))
}

impl Scene {
    /// A ready metrics API with values for every pod.
    pub(super) async fn new() -> Self {
        let scene = Self::quiet().await;
        for node in 1..=2 {
            scene.give_token(node, &format!("uid-agent-{node}"), AUDIENCE, AGENT);
        }
        scene.measure(10.0);
        scene
            .until("values of all pods", || async { scene.rates().await.len() == scene.pods.len() })
            .await;
        scene
    }

    /// The same with agents that have no token yet.
    pub(super) async fn quiet() -> Self {
        Self::within(installed()).await
    }

    pub(super) async fn within(fake: FakeApi) -> Self {
        let front = Front::new();
        fake.set_requestheader(&front.pem, &["front-proxy-client"]);
        let reader = Rule::new("", &["configmaps"], &["get", "list", "watch"])
            .named(&["extension-apiserver-authentication"])
            .in_namespace("kube-system");
        let rules = granted_by("50-metrics-api.yaml", NAME);
        let account = Identity::service_account(OWN, NAME).may(rules.into_iter().chain([reader]));
        fake.identity(NAME, account);
        fake.grant(HPA, Rule::new("custom.metrics.k8s.io", &["*"], &["get", "list", "watch"]));
        for node in ["node1", "node2"] {
            fake.add_node(node);
        }
        let template = PodTemplate::new().label("paramedic.dev/heal", "observe");
        let names = fake.add_deployment("default", "app", 3, &template, &["node1", "node2"]);
        let uid = |name: &str| {
            let pod = fake.get(Kind::Pod, "default", name).unwrap();
            pod["metadata"]["uid"].as_str().unwrap().to_owned()
        };
        let pods = names.iter().map(|name| (name.clone(), uid(name))).collect();

        let credentials = tempfile::tempdir().unwrap();
        let (mut feeds, mut ports, mut agents) = (Vec::new(), Vec::<SocketAddr>::new(), Vec::new());
        for node in 1..=2 {
            // All agents share one port number, as a Service requires.
            let port = ports.first().map_or(0, SocketAddr::port);
            let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, node), port));
            let files = Credentials {
                authority: credentials.path().join("ca.crt"),
                token: credentials.path().join(format!("token-{node}")),
            };
            let port = Port::bind(address, files).unwrap();
            ports.push(port.address().unwrap());
            let feed = Feed::default();
            let (stop, stopped) = oneshot::channel();
            let stopped = async {
                let _ = stopped.await;
            };
            agents.push((stop, tokio::spawn(port.run(feed.clone(), stopped))));
            feeds.push(feed);
        }
        let readings = ("readings", ports[0].port());
        fake.set_endpoints(OWN, "paramedic-agent", readings, &[endpoint(1), endpoint(2)]);

        let config = Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            namespace: OWN.to_owned(),
            name: NAME.to_owned(),
            agents: "paramedic-agent".to_owned(),
            agent_account: "paramedic-agent".to_owned(),
            forecasts: 500,
            forecast_horizon: 3,
        };
        let api = MetricsApi::bind(config).unwrap();
        let address = api.address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let client = fake.client(NAME);
        let server = tokio::spawn(api.run(client, async move {
            let _ = stopped.await;
        }));
        let stop = Some(stop);
        let scene =
            Self { fake, front, address, pods, feeds, ports, agents, credentials, stop, server };
        scene.mount_authority().await;
        scene
            .until("the front proxy is known", || async {
                let genuine = scene.front.sign("front-proxy-client");
                scene.ask(Some(genuine), "/apis", &[("X-Remote-User", HPA)]).await.is_ok()
            })
            .await;
        scene
    }

    /// Writes the ConfigMap to a file in the agents' pods, as the kubelet does.
    async fn mount_authority(&self) {
        self.until("the ConfigMap of the authority", || async {
            let map = self.fake.get(Kind::ConfigMap, OWN, NAME);
            let bundle = map.and_then(|map| Some(map["data"]["ca.crt"].as_str()?.to_owned()));
            let file = self.credentials.path().join("ca.crt");
            bundle.is_some_and(|bundle| fs::write(file, bundle).is_ok())
        })
        .await;
    }

    /// Writes a token for the agent of a node.
    pub(super) fn give_token(&self, node: usize, pod_uid: &str, audience: &str, user: &str) {
        let token = format!("token-{node}-{pod_uid}-{audience}-{user}");
        let extra = [
            ("authentication.kubernetes.io/pod-uid", pod_uid),
            ("authentication.kubernetes.io/node-name", &format!("node{node}")),
        ];
        self.fake.known_token(&token, audience, user, &extra);
        fs::write(self.credentials.path().join(format!("token-{node}")), token).unwrap();
    }

    /// Every agent keeps reporting this rate for every pod in the cluster.
    pub(super) fn measure(&self, rate: f32) {
        for node in 1..=self.feeds.len() {
            self.measure_at(node, rate);
        }
    }

    /// The agent of one node reports it.
    pub(super) fn measure_at(&self, node: usize, rate: f32) {
        let reading = |(_, uid): &(String, String)| PodMetrics {
            uid: uid.clone(),
            age_ms: 100,
            window_ms: 10_000,
            verdict_age_ms: 3000,
            healing: false,
            values: [Some(rate), Some(0.25), None, Some(0.01), Some(0.2), Some(3.0)],
        };
        let frame = Frame { pods: self.pods.iter().map(reading).collect() };
        let feed = self.feeds[node - 1].clone();
        tokio::spawn(async move {
            loop {
                feed.publish(&frame);
                sleep(Duration::from_millis(50)).await;
            }
        });
    }

    pub(super) async fn until<F: Future<Output = bool>>(&self, what: &str, look: impl Fn() -> F) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !look().await {
            assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it as SIGTERM does, and returns when it has ended.
    pub(super) async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.server).await.unwrap().unwrap();
    }

    /// The published CA bundle.
    pub(super) fn bundle(&self) -> Option<String> {
        let map = self.fake.get(Kind::ConfigMap, OWN, NAME)?;
        Some(map["data"]["ca.crt"].as_str()?.to_owned())
    }

    /// The CA bundle in the APIService.
    pub(super) fn registered(&self) -> Option<String> {
        let service = self.fake.get(Kind::APIService, "", "v1beta2.custom.metrics.k8s.io")?;
        let bundle: ByteString =
            serde_json::from_value(service["spec"]["caBundle"].clone()).ok()?;
        String::from_utf8(bundle.0).ok()
    }

    /// Connects as the API server does, and verifies the server.
    pub(super) async fn connect(
        &self,
        certificate: Option<Certificate>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.until("the authority", || async { self.bundle().is_some() }).await;
        let mut roots = RootCertStore::empty();
        let bundle = self.bundle().unwrap();
        let certificates = CertificateDer::pem_slice_iter(bundle.as_bytes());
        roots.add_parsable_certificates(certificates.map(Result::unwrap));
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
        let config = match certificate {
            Some((certificate, key)) => {
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let name = ServerName::try_from(format!("{NAME}.{OWN}.svc")).unwrap();
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// One request on its own connection; returns status and body.
    pub(super) async fn ask(
        &self,
        certificate: Option<Certificate>,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let stream = self.connect(certificate).await.map_err(|error| error.to_string())?;
        let connection = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connection.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        send(&mut sender, Method::GET, path, headers).await
    }

    /// Waits until it is ready.
    pub(super) async fn until_ready(&self) {
        self.until("ready", || async {
            let answer = self.ask(None, "/readyz", &[]).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// A request of the API server on behalf of a user.
    pub(super) async fn get(&self, user: &str, path: &str) -> Answer {
        let genuine = self.front.sign("front-proxy-client");
        self.ask(Some(genuine), path, &[("X-Remote-User", user)]).await.unwrap()
    }

    /// The rates that the HPA receives, by pod name.
    pub(super) async fn rates(&self) -> Vec<(String, String)> {
        let path = path(Metric::HttpRequestsPerSecond);
        let Answer { status, body, .. } = self.get(HPA, &path).await;
        assert_eq!(status, 200, "{body}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let items = body["items"].as_array().unwrap().iter();
        items.map(|item| (text(&item["describedObject"]["name"]), text(&item["value"]))).collect()
    }
}

/// All pods of `app`.
pub(super) fn path(metric: Metric) -> String {
    let name = metric.name();
    format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A/{name}?labelSelector=app%3Dapp"
    )
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: String,
    /// `null` if it is not JSON.
    pub(super) body: Value,
}

pub(super) async fn send(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, String> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok(Answer { status, kind, body: serde_json::from_slice(&body).unwrap_or_default() })
}
