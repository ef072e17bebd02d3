//! An API server as the page of all nodes needs it: it lists two agents and forwards to them. One is
//! real, and the other never answers.
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::crowd::{forward, serve};

const AGENTS: &str = "/api/v1/namespaces/paramedic-system/pods";
/// The node of the real agent, and that of the silent one.
pub(super) const NODES: [&str; 2] = ["node-1", "node-2"];

/// Serves until this process ends; returns the address of the page.
pub(super) fn open(agent: &str) -> Result<String> {
    let agent = agent.to_owned();
    let address = serve(move |stream, path| answer(stream, path, &agent))?;
    Ok(format!("http://{address}{AGENTS}/agent-0:9100/proxy/fleet"))
}

fn answer(mut stream: &TcpStream, path: &str, agent: &str) -> Result<()> {
    let of_pod = path.strip_prefix(AGENTS).context("not a path of pods")?;
    match of_pod.strip_prefix("/agent-0:9100/proxy") {
        Some(path) => forward(stream, agent, path),
        None if of_pod.starts_with('?') => {
            let pod = |number: usize| {
                let name = format!("agent-{number}");
                json!({ "metadata": { "name": name }, "spec": { "nodeName": NODES[number] } })
            };
            let list = json!({ "kind": "PodList", "items": [pod(1), pod(0)] });
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n";
            Ok(stream.write_all(format!("{head}\r\n{list}").as_bytes())?)
        }
        None => {
            // Until the page gives up.
            let _ = stream.read(&mut [0]);
            Ok(())
        }
    }
}
