//! A real agent's page with 500 targets: it forwards the page's files as the agent serves them, and
//! reports the agent's one target five hundred times, each with its own name and values. A quarter
//! of them changes twice a second, as from an agent that samples every two seconds.
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Between two events.
const PERIOD: Duration = Duration::from_millis(500);
/// One of this many is sampled between two events.
const ROUND: usize = 4;

/// Serves the page until this process ends.
pub(super) struct Crowd {
    pub(super) url: String,
}

impl Crowd {
    /// Starts it with this many copies of the agent's first target.
    pub(super) fn gather(agent: &str, patients: usize) -> Result<Self> {
        let targets = minreq::get(format!("{agent}/api/v1/targets")).with_timeout(5).send()?;
        let targets: Value = serde_json::from_slice(targets.as_bytes())?;
        let model = targets.get(0).context("the agent has no target")?.clone();
        let agent = agent.to_owned();
        let answer =
            move |stream: &TcpStream, path: &str| answer(stream, path, &agent, &model, patients);
        Ok(Self { url: format!("http://{}", serve(answer)?) })
    }
}

/// Answers each request by its stream and path, until this process ends. Returns the address.
pub(super) fn serve(
    answer: impl Fn(&TcpStream, &str) -> Result<()> + Send + Sync + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (address, answer) = (listener.local_addr()?, Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            // A page that was closed takes no answer.
            thread::spawn(move || path_of(&stream).and_then(|path| answer(&stream, &path)));
        }
    });
    Ok(address)
}

/// Reads the head of a request.
fn path_of(stream: &TcpStream) -> Result<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().context("no request")??;
    while lines.next().context("half a request")??.trim() != "" {}
    Ok(first.split(' ').nth(1).context("no path")?.to_owned())
}

fn answer(
    mut stream: &TcpStream,
    path: &str,
    agent: &str,
    model: &Value,
    patients: usize,
) -> Result<()> {
    if path == "/events" {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
        for round in 0.. {
            stream.write_all(event(model, patients, round).as_bytes())?;
            thread::sleep(PERIOD);
        }
    }
    forward(stream, agent, path)
}

/// Answers as the agent does.
pub(super) fn forward(mut stream: &TcpStream, agent: &str, path: &str) -> Result<()> {
    let page = minreq::get(format!("{agent}{path}"));
    let page = page.with_header("Accept", "text/html").with_timeout(5).send()?;
    let mut head = format!("HTTP/1.1 {} OK\r\nConnection: close\r\n", page.status_code);
    for name in ["content-type", "content-security-policy", "x-content-type-options"] {
        let value = page.headers.get(name).with_context(|| format!("{path} has no {name}"))?;
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    Ok(stream.write_all(page.as_bytes())?)
}

/// The first event has the roster and all targets; the others have a part of them.
fn event(model: &Value, patients: usize, round: usize) -> String {
    let changed = |n: &usize| round == 0 || n % ROUND == round % ROUND;
    let target = |n: usize| {
        let mut target = model.clone();
        target["id"]["uid"] = format!("uid-{n}").into();
        target["name"] = format!("shop-{}/web-{n:03}-7d9c5b8f6d-x2k4p", n % 7).into();
        let wave = ((round as f64 / 8.0) + n as f64).sin();
        target["features"]["cpu_usage"] = (40.0 + 30.0 * wave).into();
        target["features"]["memory_usage"] = (30.0 + (n % 50) as f64 + 5.0 * wave).into();
        target["features"]["http_request_rate"] = (120.0 + 100.0 * wave).round().into();
        target
    };
    let targets: Vec<Value> = (0..patients).filter(changed).map(target).collect();
    let mut event = json!({ "at": 1, "targets": targets });
    if round == 0 {
        let uids: Vec<String> = (0..patients).map(|n| format!("uid-{n}")).collect();
        event["roster"] = uids.into();
        event["incidents"] = json!([]);
        event["refusals"] = json!({});
        event["about"] = json!({
            "node": "node1", "version": "0.1.0", "max_remedy": "evict", "dry_run": false,
            "journal": true,
        });
    }
    format!("data: {event}\n\n")
}
