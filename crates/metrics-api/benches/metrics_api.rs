//! Measures cost and latency of the metrics API at the sizes of a large cluster and of a very large
//! one: 5,000 pods on 100 nodes and 30,000 on 1,000, whose agents push once a second through their
//! real ports. While CPU time is counted, one HPA query comes each second: as many as fifteen HPAs
//! make at the default sync of 15 s.
//!
//! The metrics API is the real program in its own process. This process holds its API server (a
//! fake one), its agents, and the client that queries as the HPA's API server does. Prints one JSON
//! object; `cargo xtask bench` runs it.
use std::{
    fs,
    future::pending,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fake_apiserver::{Endpoint, FakeApi, Kind};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use nix::unistd::{SysconfVar, sysconf};
use paramedic_pod_metrics::{AUDIENCE, Credentials, Feed, Frame, PodMetrics, Port};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};
use serde_json::{Map, Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{interval, sleep},
};
use tokio_rustls::TlsConnector;

const OWN: &str = "paramedic-system";
const NAME: &str = "paramedic-metrics-api";
const SIZES: [Size; 2] =
    [Size { nodes: 100, pods_of_a_node: 50 }, Size { nodes: 1000, pods_of_a_node: 30 }];
/// Pods of the queried workload.
const WORKLOAD: usize = 50;
/// Pods of a namespace.
const NAMESPACE: usize = 5000;
/// CPU time is counted over this many seconds, with one query in each.
const SPAN: u32 = 20;
/// Approximate size of a pod as JSON, with what the API server, kubelet and a service mesh add. The
/// metrics API reads all of it and keeps little.
const POD_BYTES: usize = 10 * 1024;
const QUERIES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);

/// The size of a cluster.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    pods_of_a_node: usize,
}

impl Size {
    const fn pods(self) -> usize {
        self.nodes * self.pods_of_a_node
    }

    fn namespaces(self) -> impl Iterator<Item = String> {
        (0..self.pods().div_ceil(NAMESPACE)).map(namespace)
    }
}

fn namespace(number: usize) -> String {
    format!("team-{number}")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut results = Map::new();
    for size in SIZES {
        results.insert(size.pods().to_string(), of(size).await?);
    }
    println!("{}", json!({ "metrics_api_by_pods": results }));
    Ok(())
}

async fn of(size: Size) -> Result<Value> {
    let fake = cluster(size);
    let (authority, genuine, key) = front_proxy()?;
    fake.set_requestheader(&authority, &["front-proxy-client"]);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    // They end with this size.
    let mut tasks = JoinSet::new();
    tasks.spawn(fake.clone().serve(listener));
    let home = tempfile::tempdir()?;
    let agents = agents(&fake, home.path(), size, &mut tasks)?;

    let (api, address) = start(home.path(), &server)?;
    let map = wait(|| fake.get(Kind::ConfigMap, OWN, NAME)).await.context("no authority")?;
    let bundle = map["data"]["ca.crt"].as_str().context("no certificates")?.to_owned();
    fs::write(home.path().join("ca.crt"), &bundle)?;
    for (node, feed) in agents.into_iter().enumerate() {
        tasks.spawn(measure(node, feed, size));
    }
    let mut client = Client::connect(address, &bundle, genuine, key).await?;
    let begun = Instant::now();
    for namespace in size.namespaces() {
        while client.count(&namespace, "").await? < NAMESPACE {
            ensure!(begun.elapsed() < PATIENCE, "not all pods have values");
            sleep(Duration::from_millis(500)).await;
        }
    }
    sleep(Duration::from_secs(3)).await;

    let (before, since) = (cpu_seconds(&api.0)?, Instant::now());
    let mut seconds = interval(Duration::from_secs(1));
    for second in 0..SPAN {
        seconds.tick().await;
        // A different workload each time, so that no answer comes from a cache.
        let selector = format!("&labelSelector=app%3Dapp-{second}");
        let found = client.count(&namespace(0), &selector).await?;
        ensure!(found == WORKLOAD, "{found} pods have values");
    }
    seconds.tick().await;
    let cpu = (cpu_seconds(&api.0)? - before) / since.elapsed().as_secs_f64();
    let one = client.times("&labelSelector=app%3Dapp-7", WORKLOAD).await?;
    let all = client.times("", NAMESPACE).await?;
    Ok(json!({
        "agents": size.nodes,
        "cpu_percent": (cpu * 1000.0).round() / 10.0,
        "peak_mib": (peak_mib(&api.0)? * 10.0).round() / 10.0,
        "query_ms": { format!("workload of {WORKLOAD}"): one, format!("all {NAMESPACE} of a namespace"): all },
    }))
}

/// The pods, and the objects that the manifests make.
fn cluster(size: Size) -> FakeApi {
    let fake = FakeApi::new();
    fake.open(true);
    for namespace in size.namespaces().chain([OWN.to_owned()]) {
        fake.add_namespace(&namespace, &[], &[]);
    }
    fake.put(Kind::ClusterRole, json!({"metadata": {"name": NAME}, "rules": []}));
    let containers = containers();
    for number in 0..size.pods() {
        // A workload's pods are spread over the nodes.
        let (node, app) = (number % size.nodes, number / WORKLOAD);
        fake.put(
            Kind::Pod,
            json!({
                "metadata": {
                    "name": format!("app-{app}-6d5c7f9b8-{number:05}"),
                    "namespace": namespace(number / NAMESPACE),
                    "uid": format!("0a1b2c3d-0000-4000-8000-{number:012}"),
                    "labels": {
                        "app": format!("app-{app}"), "pod-template-hash": "6d5c7f9b8",
                        "paramedic.dev/heal": "restart",
                    },
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                        "name": format!("app-{app}-6d5c7f9b8"), "uid": format!("set-{app}"),
                    }],
                },
                "spec": {"nodeName": format!("node-{node}"), "containers": containers},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }),
        );
    }
    fake
}

/// Enough containers and variables for a pod to have its size.
fn containers() -> Value {
    let container = |name: String| {
        let variable =
            |n: usize| json!({"name": format!("SETTING_{n:02}"), "value": "x".repeat(80)});
        let variables: Vec<_> = (0..10).map(variable).collect();
        json!({"name": name, "image": "registry.example/team/app:1.2.3", "env": variables})
    };
    let size = container(String::new()).to_string().len();
    (0..POD_BYTES.div_ceil(size)).map(|n| container(format!("app-{n}"))).collect()
}

/// The uids that the fake API server gave to the pods of a node.
fn uids(node: usize, size: Size) -> impl Iterator<Item = String> {
    let numbers = (0..size.pods_of_a_node).map(move |row| row * size.nodes + node);
    numbers.map(|number| format!("0a1b2c3d-0000-4000-8000-{number:012}"))
}

/// A port for each node's agent: different addresses, the same port number.
fn agents(fake: &FakeApi, home: &Path, size: Size, tasks: &mut JoinSet<()>) -> Result<Vec<Feed>> {
    let (mut feeds, mut endpoints, mut number) = (Vec::new(), Vec::new(), 0);
    for node in 0..size.nodes {
        let (high, low) = (node / 250, node % 250);
        let ip = Ipv4Addr::new(127, 0, u8::try_from(high + 1)?, u8::try_from(low + 1)?);
        let token = home.join(format!("token-{node}"));
        fs::write(&token, format!("token-{node}"))?;
        let credentials = Credentials { authority: home.join("ca.crt"), token };
        let port = Port::bind(SocketAddr::from((ip, number)), credentials)?;
        number = port.address()?.port();
        let feed = Feed::default();
        tasks.spawn(port.run(feed.clone(), pending()));
        feeds.push(feed);
        let (pod, uid, name) =
            (format!("agent-{node}"), format!("uid-agent-{node}"), format!("node-{node}"));
        endpoints.push(Endpoint::new(&ip.to_string(), &pod, &uid, &name));
        let user = format!("system:serviceaccount:{OWN}:paramedic-agent");
        let extra = [("authentication.kubernetes.io/pod-uid", uid.as_str())];
        fake.known_token(&format!("token-{node}"), AUDIENCE, &user, &extra);
    }
    fake.set_endpoints(OWN, "paramedic-agent", ("readings", number), &endpoints);
    Ok(feeds)
}

/// A different value each second.
async fn measure(node: usize, feed: Feed, size: Size) {
    for second in 0_u32.. {
        let rate = f32::from(u16::try_from(second % 500).unwrap_or(0)) + 0.5;
        let reading = |uid| PodMetrics {
            uid,
            age_ms: 700,
            window_ms: 10_100,
            verdict_age_ms: 700,
            healing: false,
            values: [Some(rate), Some(0.012), Some(0.25), Some(0.031), Some(0.2), Some(3.0)],
        };
        feed.publish(&Frame { pods: uids(node, size).map(reading).collect() });
        sleep(Duration::from_secs(1)).await;
    }
}

/// The program; dropping it ends the process.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(home: &Path, server: &str) -> Result<(Program, SocketAddr)> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": server}}],
        "users": [{"name": "bench", "user": {"token": "bench"}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    });
    let kubeconfig = home.join("kubeconfig");
    fs::write(&kubeconfig, config.to_string())?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let child = Command::new(env!("CARGO_BIN_EXE_paramedic-metrics-api"))
        .args(["--listen", &free.to_string()])
        .env("KUBECONFIG", kubeconfig)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start paramedic-metrics-api")?;
    Ok((Program(child), free))
}

async fn wait<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return Some(found);
        }
        sleep(Duration::from_millis(50)).await;
    }
    None
}

/// The front-proxy CA in PEM, and a client certificate of it with its key.
fn front_proxy() -> Result<(String, CertificateDer<'static>, Vec<u8>)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "front-proxy-client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.der().clone();
    Ok((authority, certificate, key.serialize_der()))
}

/// Queries as the API server does, on one connection.
struct Client(http1::SendRequest<Empty<Bytes>>);

impl Client {
    async fn connect(
        address: SocketAddr,
        bundle: &str,
        certificate: CertificateDer<'static>,
        key: Vec<u8>,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::pem_slice_iter(bundle.as_bytes());
        roots.add_parsable_certificates(trusted.flatten());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], PrivatePkcs8KeyDer::from(key).into())?;
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(format!("{NAME}.{OWN}.svc"))?;
        let begun = Instant::now();
        let stream = loop {
            // Until it has read the front-proxy CA, it refuses this certificate.
            let attempt = async {
                let stream = TcpStream::connect(address).await?;
                connector.connect(name.clone(), stream).await
            };
            match attempt.await {
                Ok(stream) => break stream,
                Err(_) if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(200)).await,
                Err(error) => return Err(error.into()),
            }
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn get(&mut self, namespace: &str, query: &str) -> Result<(u16, Bytes)> {
        let path = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/%2A/\
             http_requests_per_second"
        );
        let request = Request::get(format!("{path}?timeout=10s{query}"))
            .header("X-Remote-User", "bench")
            .header("X-Remote-Group", "system:masters")
            .header("Accept", "application/vnd.kubernetes.protobuf, */*")
            .body(Empty::new())?;
        let answer = self.0.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    async fn count(&mut self, namespace: &str, query: &str) -> Result<usize> {
        let (status, body) = self.get(namespace, query).await?;
        let body: Value = serde_json::from_slice(&body)?;
        ensure!(status == 200, "{status}: {body}");
        Ok(body["items"].as_array().map_or(0, Vec::len))
    }

    /// Milliseconds from the request to the whole answer, in the first namespace.
    async fn times(&mut self, query: &str, expected: usize) -> Result<Value> {
        let namespace = namespace(0);
        ensure!(self.count(&namespace, query).await? == expected, "not all pods have values");
        let mut times = Vec::with_capacity(QUERIES);
        for _ in 0..QUERIES {
            let begun = Instant::now();
            let (status, _) = self.get(&namespace, query).await?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            // A refusal would be fast.
            ensure!(status == 200, "{query:?} is answered {status}");
            sleep(Duration::from_millis(20)).await;
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let value = times.get((times.len() as f64 * share) as usize).copied();
            value.map(|value| (value * 100.0).round() / 100.0)
        };
        Ok(json!({"p50": at(0.5), "p99": at(0.99)}))
    }
}

/// User and system time of a process so far.
fn cpu_seconds(child: &Child) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let fields = stat.rsplit_once(')').context("/proc/PID/stat")?.1;
    let ticks = |n: usize| -> Result<f64> {
        Ok(fields.split_whitespace().nth(n).context("/proc/PID/stat")?.parse::<f64>()?)
    };
    // utime and stime are fields 14 and 15; the state, 3, is the first after the name.
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok((ticks(11)? + ticks(12)?) / per_second as f64)
}

fn peak_mib(child: &Child) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("VmHWM")?.parse()?;
    Ok(kib / 1024.0)
}
