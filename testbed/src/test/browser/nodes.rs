//! An API server as the page of all nodes needs it: it lists two agents and forwards to them. One is
//! real, and the other never answers.
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::crowd::forward;

const AGENTS: &str = "/api/v1/namespaces/paramedic-system/pods";
/// The node of the real agent, and that of the silent one.
pub(super) const NODES: [&str; 2] = ["node-1", "node-2"];

/// Serves until this process ends; returns the address of the page.
pub(super) fn open(agent: &str) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let page = format!("http://{}{AGENTS}/agent-0:9100/proxy/fleet", listener.local_addr()?);
    let agent = agent.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let agent = agent.clone();
            thread::spawn(move || {
                // A page that was closed takes no answer.
                let _ = answer(&stream, &agent);
            });
        }
    });
    Ok(page)
}

fn answer(mut stream: &TcpStream, agent: &str) -> Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().context("no request")??;
    while lines.next().context("half a request")??.trim() != "" {}
    let path = first.split(' ').nth(1).context("no path")?;
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
            let _ = lines.next();
            Ok(())
        }
    }
}
