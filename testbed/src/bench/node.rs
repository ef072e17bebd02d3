//! What the agent costs as a node's agent, with pods from an API server: CPU and memory of the
//! agent, and requests to the server, at rest.
//!
//! Each pod has a container of its own: patient-app in a cgroup whose name has the container's id.
//! It is polled and counted as in a cluster. The pods' objects are copies of a recorded one of 5
//! KiB. 500 completed pods show the cost of the API watch alone: the agent receives all of them and
//! watches none.
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use xtask::{process, workspace::Workspace};

use super::load::{SETTLE, cpu_ticks, pause, rss_bytes, ticks_per_second};
use crate::stage::{Interrupt, Programs, agent::Agent, apiserver::ApiServer, patient::Patient};

/// Longer than a watch lasts, so that its renewal is among the requests.
const SPAN: Duration = Duration::from_secs(330);
/// Where only memory is asked for.
const SHORT: Duration = Duration::from_secs(30);
/// Until every container has been found.
const FOUND: Duration = Duration::from_secs(120);

/// What is on the node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pods {
    Running(usize),
    Completed(usize),
}

pub(super) fn measure(
    workspace: &Workspace,
    programs: &Programs,
    interrupt: &Interrupt,
) -> Result<Map<String, Value>> {
    let server = build(workspace)?;
    let template = template(workspace)?;
    let mut results = Map::new();
    for (key, pods, span) in [
        ("0", Pods::Running(0), SHORT),
        ("110", Pods::Running(110), SPAN),
        ("500", Pods::Running(500), SPAN),
        ("500_completed", Pods::Completed(500), SHORT),
    ] {
        process::announce(&format!("cost with {key} pods, {} s", span.as_secs()));
        let mut server = ApiServer::start(&server)?;
        let cost = one(programs, &mut server, interrupt, &template, pods, span)?;
        for (figure, value) in cost {
            let Value::Object(of_all) = results.entry(figure).or_insert_with(|| json!({})) else {
                continue;
            };
            of_all.insert(key.to_owned(), value);
        }
    }
    Ok(results)
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&workspace.root);
    cargo.args(["build", "--release", "--package", "fake-apiserver", "--example", "serve"]);
    process::run("build the fake API server for release", &mut cargo)?;
    Ok(workspace.target.join("release/examples/serve"))
}

/// A pod as a real API server sent it.
fn template(workspace: &Workspace) -> Result<Value> {
    let file = workspace.root.join("testbed/fixtures/kubernetes/pods/list.json");
    let recorded = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let recorded: Value = serde_json::from_str(&recorded)?;
    let pod = recorded.pointer("/response/body/items/0").context("no pod in the recording")?;
    Ok(pod.clone())
}

fn one(
    programs: &Programs,
    server: &mut ApiServer,
    interrupt: &Interrupt,
    template: &Value,
    pods: Pods,
    span: Duration,
) -> Result<[(String, Value); 4]> {
    let mut patients = Vec::new();
    let (count, watched) = match pods {
        Pods::Running(count) => (count, count),
        Pods::Completed(count) => (count, 0),
    };
    for number in 0..count {
        interrupt.check()?;
        let id = format!("{:032x}{number:032x}", std::process::id());
        let port = if let Pods::Running(_) = pods {
            patients.push(Patient::start_in(programs, &id, &["--data-failure-ratio", "0"])?);
            patients.last().and_then(|patient| patient.url.rsplit(':').next())
        } else {
            None
        };
        server.add(&pod(template, number, &id, port))?;
    }
    let state = tempfile::tempdir()?;
    let agent = Agent::start_on_node(programs, &server.kubeconfig(), state.path())?;
    let deadline = Instant::now() + FOUND;
    while agent.metric("paramedic_targets")? < watched as f64 {
        ensure!(Instant::now() < deadline, "not all pods are watched within {FOUND:?}");
        pause(Duration::from_millis(200), interrupt)?;
    }
    pause(SETTLE, interrupt)?;
    let to_begin = server.requests()?;
    let (before, begun) = (cpu_ticks(agent.pid())?, Instant::now());
    pause(span, interrupt)?;
    let took = begun.elapsed().as_secs_f64();
    let used = (cpu_ticks(agent.pid())? - before) as f64 / ticks_per_second();
    let at_rest = server.requests()? - to_begin;
    let per_minute = at_rest as f64 / (took / 60.0);
    Ok([
        ("node_agent_cpu_cores".to_owned(), ((used / took * 1e5).round() / 1e5).into()),
        ("node_agent_rss_bytes".to_owned(), rss_bytes(agent.pid())?.into()),
        ("api_requests_to_begin".to_owned(), to_begin.into()),
        ("api_requests_per_minute".to_owned(), ((per_minute * 100.0).round() / 100.0).into()),
    ])
}

/// A pod on `node1`: with a port it runs and is ready, without one it has completed.
fn pod(template: &Value, number: usize, id: &str, port: Option<&str>) -> Value {
    let mut pod = template.clone();
    let metadata = &mut pod["metadata"];
    metadata["name"] = json!(format!("web-{number}"));
    metadata["uid"] = json!(format!("b273b0a9-6e7d-4028-b835-{number:012x}"));
    metadata["labels"]["paramedic.dev/heal"] = json!("evict");
    pod["spec"]["nodeName"] = json!("node1");
    let status = &mut pod["status"];
    status["containerStatuses"][0]["containerID"] = json!(format!("containerd://{id}"));
    match port {
        Some(port) => {
            pod["metadata"]["annotations"]["paramedic.dev/port"] = json!(port);
            pod["status"]["podIP"] = json!("127.0.0.1");
        }
        None => status["phase"] = json!("Succeeded"),
    }
    pod
}
