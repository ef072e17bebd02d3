//! A cluster node: a fake API server behind a kubeconfig, and pods that are real processes in real
//! cgroups, named as containerd and the kubelet name them. The test acts as the kubelet.
use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
};

use crate::{
    agent::{Agent, Directory, PARAMEDIC, get, until},
    servers::patient_program,
};
use fake_apiserver::{FakeApi, Identity, Kind, PodTemplate};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use paramedic_host::procfs::Tree;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Builder, sync::oneshot};

/// Listen address of all pods of these tests: an otherwise unused address of this machine.
const POD_IP: &str = "127.0.0.7";

/// The API server, and what an agent needs to reach it.
pub(crate) struct Node {
    pub(crate) fake: FakeApi,
    directory: Directory,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Node {
    pub(crate) fn new() -> Self {
        let fake = FakeApi::new();
        fake.add_namespace("paramedic-system", &[], &[]);
        fake.add_node("node1");
        let account = Identity::service_account("paramedic-system", "paramedic-agent");
        fake.identity("token-of-node1", account.on_node("node1"));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let serving = fake.clone();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serving.serve(listener) => {}
                    _ = stopped => {}
                }
            });
        });
        let directory = Directory::new();
        let account = kubeconfig(&server, "token-of-node1");
        fs::write(directory.file("kubeconfig"), account.to_string()).unwrap();
        Self { fake, directory, url: server, stop: Some(stop), server: Some(thread) }
    }

    /// Runs the command to its end, with this token.
    pub(crate) fn run_as(&self, token: &str, arguments: &[&str]) -> Output {
        let file = self.directory.file(token);
        fs::write(&file, kubeconfig(&self.url, token).to_string()).unwrap();
        let mut command = Command::new(PARAMEDIC);
        command.args(arguments).env("KUBECONFIG", file).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts the agent at a quick pace; it need not be ready yet.
    pub(crate) fn agent(&self, state: &Directory, arguments: &[&str]) -> Agent {
        let mut command = Command::new(PARAMEDIC);
        command
            .args(["--log", "json", "agent", "--node-name", "node1", "--listen", "127.0.0.1:0"])
            .args(["--interval", "0.5", "--verify-window", "1", "--state-dir"])
            .arg(state.path())
            .args(arguments)
            .env("KUBECONFIG", self.directory.file("kubeconfig"));
        Agent::start(command)
    }

    /// The same, and waits for its first list.
    pub(crate) fn ready_agent(&self, state: &Directory, arguments: &[&str]) -> Agent {
        let agent = self.agent(state, arguments);
        until("the first list", || (agent.get("/readyz").0 == 200).then_some(()));
        agent
    }

    /// Waits for an Event with this reason, and returns its note.
    pub(crate) fn event(&self, reason: &str) -> String {
        self.event_with(reason, "")
    }

    /// Waits for an Event with this reason and this word in its note, and returns the note.
    pub(crate) fn event_with(&self, reason: &str, word: &str) -> String {
        until(reason, || {
            let events = self.fake.list(Kind::Event);
            let of_reason = events.iter().filter(|event| event["reason"] == reason);
            let mut notes = of_reason.map(|event| event["note"].as_str().unwrap());
            notes.find(|note| note.contains(word)).map(str::to_owned)
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn kubeconfig(server: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": { "server": server } }],
        "users": [{ "name": "test", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
    })
}

/// The only pod of a StatefulSet: patient-app in a container's cgroup, and its sandbox beside it.
/// Removed with the test.
pub(crate) struct Pod {
    fake: FakeApi,
    pub(crate) name: String,
    cgroup: PathBuf,
    container: Container,
    pub(crate) sandbox: Container,
    pub(crate) address: SocketAddr,
    arguments: Vec<String>,
    restarts: u32,
}

impl Pod {
    /// With this remedy on its label, or without the label.
    pub(crate) fn start(node: &Node, set: &str, remedy: Option<&str>) -> Self {
        Self::start_with(node, set, remedy, &[])
    }

    /// The same, with more arguments for patient-app.
    pub(crate) fn start_with(
        node: &Node,
        set: &str,
        remedy: Option<&str>,
        arguments: &[&str],
    ) -> Self {
        let template = PodTemplate::new();
        let template = match remedy {
            Some(remedy) => template.label("paramedic.dev/heal", remedy),
            None => template,
        };
        let name = node.fake.add_statefulset("default", set, 1, &template, &["node1"]).remove(0);
        let pod = node.fake.get(Kind::Pod, "default", &name).unwrap();
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        let root = format!("paramedic-test-{}-{}", std::process::id(), next());
        let cgroup = Path::new(&root).join("kubepods/burstable").join(format!("pod{uid}"));
        let sandbox = Container::start(&cgroup, "sleep", &["600"]);
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let (container, address) = Container::patient(&cgroup, 0, &arguments);
        let fake = node.fake.clone();
        let mut pod =
            Self { fake, name, cgroup, container, sandbox, address, arguments, restarts: 0 };
        pod.tell(true);
        pod
    }

    /// Updates the API server, as the kubelet does.
    fn tell(&mut self, running: bool) {
        let now = json!("2026-11-22T21:00:00Z");
        let state = if running {
            json!({ "running": { "startedAt": now } })
        } else {
            json!({ "terminated": { "exitCode": 0, "startedAt": now, "finishedAt": now } })
        };
        let status = json!({
            "name": "app", "image": "patient-app", "imageID": "", "lastState": {},
            "containerID": format!("containerd://{}", self.container.id),
            "ready": running, "started": running, "state": state, "restartCount": self.restarts,
        });
        let port = self.address.port().to_string();
        let patch = json!({
            "metadata": { "annotations": { "paramedic.dev/port": port } },
            "status": {
                "podIP": POD_IP, "podIPs": [{ "ip": POD_IP }], "containerStatuses": [status],
            },
        });
        self.fake.patch(Kind::Pod, "default", &self.name, &patch).unwrap();
    }

    /// Waits for the end of the container and starts it again, as the kubelet does; returns how it
    /// ended.
    pub(crate) fn restart_once_ended(&mut self) -> ExitStatus {
        let status = self.ended();
        self.tell(false);
        self.start_again();
        status
    }

    /// Waits for the end of the container.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = &mut self.container.child;
        until("the container ends", || child.try_wait().unwrap())
    }

    /// Another instance of the container, on the same port.
    pub(crate) fn start_again(&mut self) {
        let port = self.address.port();
        (self.container, self.address) = Container::patient(&self.cgroup, port, &self.arguments);
        self.restarts += 1;
        self.tell(true);
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.container.child.try_wait().unwrap().is_none()
    }

    /// This many errors, one after the other: from the sixth on the app is sick, from the eleventh
    /// critically.
    pub(crate) fn errors(&self, times: usize) {
        for _ in 0..times {
            // It may be about to end.
            let _ = get(self.address, "/simulate-error");
        }
    }

    /// This many good responses.
    pub(crate) fn serves(&self, times: usize) {
        for _ in 0..times {
            get(self.address, "/data").unwrap();
        }
    }

    /// The app's own health report.
    pub(crate) fn health(&self) -> Value {
        serde_json::from_str(&get(self.address, "/health").unwrap().1).unwrap()
    }

    /// `namespace/name`.
    pub(crate) fn full_name(&self) -> String {
        format!("default/{}", self.name)
    }
}

/// A process in a cgroup with a container's name in every relevant hierarchy.
pub(crate) struct Container {
    id: String,
    directories: Vec<(PathBuf, PathBuf)>,
    child: Child,
}

/// Enters each directory before `--`, then executes what comes after it.
const ENTER: &str = "while [ \"$1\" != -- ]; do echo $$ > \"$1/cgroup.procs\" || exit 1; shift; \
                     done; shift; exec \"$@\"";

impl Container {
    fn start(pod: &Path, program: &str, arguments: &[&str]) -> Self {
        let id = format!("{:032x}{:032x}", std::process::id(), next());
        let found = Tree::default().hierarchies().unwrap();
        let mounts = [found.unified, found.cpu, found.cpuacct, found.memory];
        let mut directories: Vec<(PathBuf, PathBuf)> = Vec::new();
        for mount in mounts.into_iter().flatten() {
            let path = mount.point.join(pod).join(&id);
            if directories.iter().all(|(_, known)| *known != path) {
                fs::create_dir_all(&path)
                    .expect("these tests need root, and cgroups mounted writable");
                directories.push((mount.point, path));
            }
        }
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh"]);
        command.args(directories.iter().map(|(_, path)| path)).arg("--");
        command.arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self { id, directories, child: command.spawn().unwrap() }
    }

    /// patient-app, and its address.
    fn patient(pod: &Path, port: u16, arguments: &[String]) -> (Self, SocketAddr) {
        let (program, port) = (patient_program(), port.to_string());
        let mut all = vec!["--address", POD_IP, "--log", "off", "--port", &port];
        all.extend(["--data-failure-ratio", "0"]);
        all.extend(arguments.iter().map(String::as_str));
        let mut container = Self::start(pod, program.to_str().unwrap(), &all);
        let mut line = String::new();
        BufReader::new(container.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let port = said["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.unwrap_or_else(|| panic!("no port in {line:?}"));
        (container, SocketAddr::new(POD_IP.parse().unwrap(), port))
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
        for (mount, path) in &self.directories {
            // Up to the mount point, as far as they are empty.
            let mut directory = path.as_path();
            while directory != mount && fs::remove_dir(directory).is_ok() {
                let Some(parent) = directory.parent() else { break };
                directory = parent;
            }
        }
    }
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
