//! Tests of the tracker with containers that come and go, on a fake engine of a few lines behind a
//! real socket.
use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use paramedic_core::target::{Remedy, Settings};
use paramedic_host::instances::Unchanging;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::broadcast,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{RestartError, restart};

/// The state and events of a fake engine.
#[derive(Clone)]
struct Fake {
    containers: Arc<Mutex<BTreeMap<String, Value>>>,
    events: broadcast::Sender<String>,
    /// Number of restarts.
    restarts: Arc<AtomicU32>,
}

impl Fake {
    fn new() -> Self {
        Self {
            containers: Arc::default(),
            events: broadcast::channel(64).0,
            restarts: Arc::default(),
        }
    }

    /// Adds a container in its present state, and sends the event `action`.
    fn put(&self, number: u8, name: &str, pid: i32, labels: &Value, action: &str) {
        let id = id(number);
        let container = json!({
            "Id": id, "Name": format!("/{name}"),
            "State": { "Running": pid > 0, "Pid": pid, "StartedAt": format!("life {pid}") },
            "Config": { "Labels": labels, "ExposedPorts": { "5000/tcp": {} } },
            "NetworkSettings": {
                "Ports": { "5000/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "5000" }] },
                "Networks": { "bridge": { "IPAddress": "172.17.0.9" } },
            },
        });
        self.containers.lock().insert(id, container);
        self.tell(number, name, action);
    }

    fn remove(&self, number: u8, name: &str) {
        self.containers.lock().remove(&id(number));
        self.tell(number, name, "destroy");
    }

    fn tell(&self, number: u8, name: &str, action: &str) {
        self.send(number, action, json!({ "name": name, HEAL_LABEL: "" }));
    }

    fn send(&self, number: u8, action: &str, attributes: Value) {
        let actor = json!({ "ID": id(number), "Attributes": attributes });
        let event = json!({ "Type": "container", "Action": action, "Actor": actor });
        // There may be no listener yet.
        let _ = self.events.send(event.to_string());
    }

    fn serve(&self, socket: &Path) -> JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        let fake = self.clone();
        tokio::spawn(async move {
            // Ends with this task, as an engine's connections end with the engine.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(fake.clone().answer(stream));
            }
        })
    }

    async fn answer(self, mut stream: UnixStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                return;
            }
            request.push(byte[0]);
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.split_whitespace().nth(1).unwrap();
        let path = path.split('?').next().unwrap();
        let mut heard = self.events.subscribe();
        let (status, body) = match path {
            "/events" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                while let Ok(event) = heard.recv().await {
                    if stream.write_all(format!("{event}\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
                return;
            }
            "/_ping" | "/info" => ("200 OK", json!({ "SecurityOptions": ["name=seccomp"] })),
            "/containers/json" => ("200 OK", self.list()),
            restart if restart.ends_with("/restart") => {
                self.restarts.fetch_add(1, Ordering::Relaxed);
                ("200 OK", Value::Null)
            }
            other => {
                let asked = other.trim_start_matches("/containers/").trim_end_matches("/json");
                match self.find(asked) {
                    Some(container) if container["stuck"] == true => {
                        ("500 Internal Server Error", json!({ "message": "stuck" }))
                    }
                    Some(container) => ("200 OK", container),
                    None => ("404 Not Found", json!({ "message": "No such container" })),
                }
            }
        };
        let (body, mime) = (body.to_string(), "Content-Type: application/json");
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\n{mime}\r\nContent-Length: {length}\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    fn list(&self) -> Value {
        let containers = self.containers.lock();
        let labelled = containers.values().filter(|one| one["Config"]["Labels"] != json!({}));
        let summary = |one: &Value| {
            let (id, name, host) = (&one["Id"], &one["Name"], &one["HostConfig"]);
            json!({ "Id": id, "Names": [name], "HostConfig": host })
        };
        labelled.map(summary).collect()
    }

    /// By its name, its id or a prefix of that.
    fn find(&self, asked: &str) -> Option<Value> {
        let containers = self.containers.lock();
        let has_id = |one: &Value| one["Id"].as_str().is_some_and(|id| id.starts_with(asked));
        let is = |one: &&Value| has_id(one) || one["Name"] == format!("/{asked}");
        containers.values().find(is).cloned()
    }
}

fn id(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

/// A machine on which a container's first process is the one that the engine reports.
fn machine(fake: Fake) -> Arc<dyn Instances> {
    Arc::new(Unchanging(move |id: &str| {
        let pid = fake.find(id).and_then(|one| one["State"]["Pid"].as_i64()).unwrap_or(0);
        i32::try_from(pid).unwrap()
    }))
}

/// A tracker, and its output.
struct Scene {
    fake: Fake,
    folder: tempfile::TempDir,
    engine: JoinHandle<()>,
    changes: mpsc::Receiver<Change>,
}

impl Scene {
    async fn begin(fake: Fake, selection: Selection) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let engine = fake.serve(&socket);
        let config = Containers { engine: Engine::at(socket), selection };
        let (sender, changes) = mpsc::channel(64);
        tokio::spawn(track_containers(config, machine(fake.clone()), sender));
        let scene = Self { fake, folder, engine, changes };
        // This engine loses a change without a listener, because it does not support `since`; a
        // real one does not.
        timeout(Duration::from_secs(5), async {
            while scene.fake.events.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        scene
    }

    async fn expect(&mut self, told: &[&str]) {
        for one in told {
            assert_eq!(self.next().await, *one);
        }
    }

    async fn next(&mut self) -> String {
        let told = timeout(Duration::from_secs(10), self.changes.recv()).await;
        match told.expect("nothing is told").unwrap() {
            Change::Found(target) => {
                let (name, ceiling) = (&target.name, target.settings.ceiling.name());
                format!("found {name} {} {ceiling}", target.id.instance)
            }
            Change::Lost { uid, instance } => format!("lost {uid} {instance}"),
            Change::Gone(uid) => format!("gone {uid}"),
            Change::Listed(names) => {
                let mut names: Vec<_> = names.into_iter().collect();
                names.sort();
                format!("listed {}", names.join(" "))
            }
            other => panic!("{other:?}"),
        }
    }
}

fn consents(remedy: &str) -> Value {
    json!({ HEAL_LABEL: remedy })
}

/// A container that the user named.
fn named(name: &str) -> Selection {
    let service = WatchedService {
        url: "http://localhost:5000".to_owned(),
        port: 5000,
        addresses: vec![[127, 0, 0, 1].into()],
        host: "localhost:5000".to_owned(),
        tls: false,
        settings: Settings::up_to(Remedy::Soft),
    };
    Selection::Named(name.to_owned(), Box::new(service))
}

#[tokio::test]
async fn labelled_containers_come_and_go() {
    let fake = Fake::new();
    fake.put(1, "web", 101, &consents("restart"), "start");
    fake.put(2, "stranger", 102, &json!({}), "start");
    fake.put(3, "asleep", 0, &consents("soft"), "die");
    let mut scene = Scene::begin(fake, Selection::Labelled).await;
    assert_eq!(scene.next().await, "listed asleep web", "one that does not run is there too");
    assert_eq!(scene.next().await, "found web 101@1 restart");

    scene.fake.put(4, "other", 104, &consents("observe"), "start");
    assert_eq!(scene.next().await, "found other 104@1 observe");
    scene.fake.put(1, "web", 0, &consents("restart"), "die");
    assert_eq!(scene.next().await, "lost web 101@1");
    scene.fake.put(1, "web", 111, &consents("restart"), "start");
    assert_eq!(scene.next().await, "found web 111@1 restart", "another life");
    scene.fake.put(4, "renamed", 104, &consents("observe"), "rename");
    assert_eq!(scene.next().await, "gone other");
    assert_eq!(scene.next().await, "found renamed 104@1 observe");
    scene.fake.tell(2, "stranger", "start");
    scene.fake.remove(4, "renamed");
    assert_eq!(scene.next().await, "gone renamed", "and nothing of the stranger");
}

#[tokio::test]
async fn the_tracker_reconnects_after_an_engine_restart() {
    let fake = Fake::new();
    fake.put(1, "web", 101, &consents("restart"), "start");
    fake.put(2, "other", 102, &consents("soft"), "start");
    let mut scene = Scene::begin(fake, Selection::Labelled).await;
    assert_eq!(scene.next().await, "listed other web");
    let mut begin = [scene.next().await, scene.next().await];
    begin.sort();
    assert_eq!(begin, ["found other 102@1 soft", "found web 101@1 restart"]);

    scene.engine.abort();
    let socket = scene.folder.path().join("docker.sock");
    std::fs::remove_file(&socket).unwrap();
    scene.fake.remove(2, "other");
    scene.fake.put(1, "web", 111, &consents("restart"), "start");
    sleep(Duration::from_millis(300)).await;
    scene.engine = scene.fake.serve(&socket);
    assert_eq!(scene.next().await, "gone other", "it went while nobody told");
    assert_eq!(scene.next().await, "listed web");
    assert_eq!(scene.next().await, "found web 111@1 restart", "the engine started it again");
}

#[tokio::test]
async fn a_container_that_is_being_stopped_is_suspended() {
    let fake = Fake::new();
    fake.put(1, "web", 101, &consents("restart"), "start");
    let mut scene = Scene::begin(fake, Selection::Labelled).await;
    scene.expect(&["listed web", "found web 101@1 restart"]).await;
    scene.fake.send(1, "kill", json!({ "name": "web", "signal": "1" }));
    scene.fake.send(1, "kill", json!({ "name": "web", "signal": "15" }));
    assert_eq!(scene.next().await, "lost web 101@1", "by the second: SIGHUP ends nothing");
    // It drains, and another of its properties changes.
    scene.fake.put(1, "web", 101, &consents("soft"), "unpause");
    scene.fake.put(2, "other", 102, &consents("soft"), "start");
    assert_eq!(scene.next().await, "found other 102@1 soft", "nothing of one that drains");
    scene.fake.put(1, "web", 111, &consents("restart"), "start");
    assert_eq!(scene.next().await, "found web 111@1 restart");
}

#[tokio::test]
async fn a_container_with_a_reused_name_is_the_same_target() {
    let fake = Fake::new();
    fake.put(1, "web", 101, &consents("restart"), "start");
    let mut scene = Scene::begin(fake, Selection::Labelled).await;
    scene.expect(&["listed web", "found web 101@1 restart"]).await;
    // As compose does: the new one gets the name before the end of the old one is reported.
    scene.fake.containers.lock().remove(&id(1));
    scene.fake.put(2, "web", 102, &consents("restart"), "rename");
    assert_eq!(scene.next().await, "found web 102@1 restart");
    scene.fake.tell(1, "web", "destroy");
    scene.fake.put(3, "other", 103, &consents("soft"), "start");
    assert_eq!(scene.next().await, "found other 103@1 soft", "and web is not gone");
}

#[tokio::test]
async fn an_inspect_that_fails_delays_no_other_container() {
    let fake = Fake::new();
    fake.put(1, "web", 101, &consents("restart"), "start");
    fake.put(2, "stuck", 102, &consents("restart"), "start");
    fake.containers.lock().get_mut(&id(2)).unwrap()["stuck"] = json!(true);
    let mut scene = Scene::begin(fake, Selection::Labelled).await;
    scene.expect(&["listed stuck web", "found web 101@1 restart"]).await;
    scene.fake.put(3, "other", 103, &consents("soft"), "start");
    assert_eq!(scene.next().await, "found other 103@1 soft");
    scene.fake.put(2, "stuck", 102, &consents("restart"), "exec_start");
    assert_eq!(scene.next().await, "found stuck 102@1 restart", "asked for again and again");
}

#[tokio::test]
async fn a_named_container_stays_a_target_when_it_is_replaced() {
    let mut scene = Scene::begin(Fake::new(), named("web")).await;
    scene.fake.put(9, "stranger", 109, &consents("restart"), "start");
    scene.fake.put(1, "web", 101, &json!({}), "start");
    assert_eq!(scene.next().await, "found web 101@1 soft", "by the user's consent, no label's");
    scene.fake.remove(1, "web");
    assert_eq!(scene.next().await, "lost web 101@1");
    scene.fake.put(2, "web", 102, &json!({}), "start");
    assert_eq!(scene.next().await, "found web 102@1 soft");
}

#[tokio::test]
async fn a_container_named_by_id_is_absent_while_it_is_paused() {
    for word in [&id(1)[..12], &id(1)] {
        let fake = Fake::new();
        fake.put(1, "web", 101, &json!({}), "start");
        let mut scene = Scene::begin(fake, named(word)).await;
        assert_eq!(scene.next().await, format!("found {word} 101@1 soft"));
        for (paused, action) in [(true, "pause"), (false, "unpause")] {
            let change = |one: &mut Value| one["State"]["Paused"] = paused.into();
            change(scene.fake.containers.lock().get_mut(&id(1)).unwrap());
            scene.fake.tell(1, "web", action);
            let told = if paused { "lost" } else { "found" };
            let next = scene.next().await;
            assert!(next.starts_with(&format!("{told} {word} 101@1")), "{action}: {next}");
        }
        scene.fake.put(1, "web", 0, &json!({}), "die");
        assert_eq!(scene.next().await, format!("lost {word} 101@1"));
    }
}

#[tokio::test]
async fn an_unreachable_engine_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let ping = || async { Engine::at(socket.clone()).ping().await.unwrap_err().to_string() };
    let absent = ping().await;
    assert!(absent.starts_with("no Docker engine listens at /") && absent.contains("start it"));
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(ping().await.starts_with("no Docker engine listens"), "a socket that was left behind");
    std::fs::remove_file(&socket).unwrap();
    let fake = Fake::new();
    let _engine = fake.serve(&socket);
    let engine = Engine::at(socket.clone());
    engine.ping().await.unwrap();
    let unknown = engine.inspect("web").await.unwrap_err();
    assert!(unknown.to_string().contains("docker ps --all"), "{unknown}");
}

#[tokio::test]
async fn a_changed_container_or_a_shared_network_refuses_the_restart() {
    let fake = Fake::new();
    fake.put(1, "web", 101, &consents("restart"), "start");
    let mut scene = Scene::begin(fake.clone(), Selection::Labelled).await;
    assert_eq!(scene.next().await, "listed web");
    let Some(Change::Found(target)) = scene.changes.recv().await else { panic!("not found") };
    let Kind::Container(judged) = &target.kind else { panic!("{:?}", target.kind) };
    let engine = Engine::at(scene.folder.path().join("docker.sock"));
    let refused = async |why: &str| match restart(&engine, judged).await {
        Err(RestartError::NotPerformed(said)) => assert!(said.contains(why), "{said}"),
        other => panic!("{why}: {other:?}"),
    };
    let change = |place: &str, value: Value| {
        *fake.containers.lock().get_mut(&id(1)).unwrap().pointer_mut(place).unwrap() = value;
    };
    for (place, now, before) in [
        ("/State/Pid", json!(111), json!(101)),
        ("/State/StartedAt", json!("another life"), json!("life 101")),
        ("/NetworkSettings/Networks/bridge/IPAddress", json!("172.17.0.8"), json!("172.17.0.9")),
    ] {
        change(place, now);
        refused("has changed since it was judged").await;
        change(place, before);
    }
    change("/State/Running", json!(false));
    refused("it is not running").await;
    change("/State/Running", json!(true));
    fake.put(2, "guest", 102, &consents("observe"), "start");
    let network = json!({ "NetworkMode": format!("container:{}", id(1)) });
    fake.containers.lock().get_mut(&id(2)).unwrap()["HostConfig"] = network;
    refused("container guest uses the network of web").await;
    assert_eq!(fake.restarts.load(Ordering::Relaxed), 0, "nothing was done so far");
    fake.remove(2, "guest");
    restart(&engine, judged).await.unwrap();
    assert_eq!(fake.restarts.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_never_ends_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let _engine = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let begun =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
        stream.write_all(begun).await.unwrap();
        std::future::pending::<()>().await;
    });
    let stuck = Engine::at(socket).inspect("web").await.unwrap_err().to_string();
    assert!(stuck.contains("did not answer: not within 10 s"), "{stuck}");
}
