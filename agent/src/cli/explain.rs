//! `paramedic explain`: what the agent sees of one target, its verdict, and which gate refuses.
use std::{net::SocketAddr, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use hyper::StatusCode;
use paramedic_app::{Connection, Endpoint, read};
use serde_json::Value;

/// Show what the agent sees of a pod or service, what it decides and why, and which gate refuses.
///
/// In a cluster, ask the agent of the pod's node: `kubectl exec -n paramedic-system
/// paramedic-agent-xxxxx -- /paramedic explain default/web`. Exit code 1 if that agent does not
/// watch it.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Target: NAMESPACE/POD, POD if the name is unique, or the URL that is watched.
    #[arg(value_name = "POD")]
    target: String,
    /// Address of the agent's status page.
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    agent: SocketAddr,
    /// Print the agent's JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let body = ask_about(self.agent, &self.target).await?;
        if self.json {
            println!("{}", String::from_utf8_lossy(&body));
        } else {
            print!("{}", story(&view(&body)?));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The agent's JSON about a target; an error if it does not watch it.
pub(super) async fn ask_about(agent: SocketAddr, target: &str) -> anyhow::Result<Vec<u8>> {
    let (status, body) = ask(agent, &format!("/api/v1/targets/{target}")).await?;
    if !status.is_success() {
        bail!("{}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

/// Reads that JSON.
pub(super) fn view(body: &[u8]) -> anyhow::Result<Value> {
    serde_json::from_slice(body).context("cannot read the agent's response")
}

/// Sends `GET path` to an agent.
pub(super) async fn ask(agent: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let endpoint = Endpoint::new(agent, false, &agent.to_string(), path)
        .with_context(|| format!("{path:?} is not a valid path"))?;
    let asked = async {
        let mut connection = Connection::open(&endpoint).await?;
        let request = endpoint.request().body(http_body_util::Full::default());
        let answer = connection.send(request.unwrap_or_default()).await?;
        let status = answer.status();
        anyhow::Ok((status, read(answer.into_body()).await?))
    };
    asked.await.with_context(|| {
        format!("no agent answers at {agent}: is it running? --agent sets the address")
    })
}

/// How its clients fare, in words; `None` where the kernel cannot see that.
fn clients(view: &Value) -> Option<String> {
    let clients = view["clients"].as_object()?;
    let seconds = |field: &str| clients.get(field)?.as_f64().map(|value| format!("{value:.3} s"));
    let in_flight = clients.get("in_flight")?.as_u64()?;
    let mut parts = Vec::new();
    if let (Some(half), Some(most)) = (seconds("duration_p50"), seconds("duration_p95")) {
        parts.push(format!("half of them answered within {half}, 95 % within {most}"));
    }
    parts.push(match seconds("oldest_s") {
        Some(oldest) => format!("{in_flight} without an answer yet, the oldest for {oldest}"),
        None => "none waits for an answer".to_owned(),
    });
    Some(parts.join("; "))
}

/// What the metrics API expects of its workload, in words; `None` if it was not asked.
fn forecast(view: &Value) -> Option<String> {
    let forecast = view["forecast"].as_object()?;
    let of = match forecast.get("workload").and_then(Value::as_str) {
        Some(workload) => format!(" of {workload}"),
        None => String::new(),
    };
    Some(match forecast.get("http_requests_per_second").and_then(Value::as_f64) {
        Some(most) => format!("at most {most:.1} requests per second{of}"),
        None => {
            let why = forecast.get("missing").and_then(Value::as_str).unwrap_or("-");
            format!("none{of}: {why}")
        }
    })
}

/// Formats the view as text.
pub(super) fn story(view: &Value) -> String {
    let text = |field: &str| view[field].as_str().unwrap_or("-").to_owned();
    let mut lines = vec![
        format!("{}  ({}, up to {})", text("name"), text("state"), text("ceiling")),
        format!("  instance    {}", view["id"]["instance"].as_str().unwrap_or("-")),
    ];
    if let Some(capped) = view["capped"].as_str() {
        lines.push(format!("  capped      {capped}"));
    }
    if view["absent"] == true {
        lines.push("  absent      its process has ended; waiting for a successor".to_owned());
    }
    match view["decision"].as_object() {
        None => lines.push("  verdict     none yet: not sampled".to_owned()),
        Some(decision) => {
            let action = decision["action"].as_str().unwrap_or("-");
            let confidence = decision["confidence"].as_f64().unwrap_or_default();
            let source = decision["source"].as_str().unwrap_or("-");
            lines.push(format!("  verdict     {action}, confidence {confidence:.2}, by {source}"));
        }
    }
    for reason in view["reasons"].as_array().into_iter().flatten() {
        let name = reason["feature"].as_str().unwrap_or("-");
        let value = reason["value"].as_f64().unwrap_or_default();
        let share = reason["share"].as_f64().unwrap_or_default();
        lines.push(format!("    because   {name} = {value:.3}  ({share:+.2})"));
    }
    if let Some(gate) = view["refused_by"].as_str() {
        lines.push(format!("  refused by  {gate}: {}", text("refused_why")));
    }
    if let Some(asks) = view["asks"].as_object() {
        let request = asks.get("request").and_then(Value::as_str).unwrap_or("-");
        let approved = asks.get("approved").and_then(Value::as_bool) == Some(true);
        lines.push(match approved {
            true => format!("  approved    {request}"),
            false => format!("  asks        paramedic approve {} ({request})", text("name")),
        });
    }
    if view["resize"].is_string() {
        lines.push(format!("  resize      {}", text("resize")));
    }
    if let Some(clients) = clients(view) {
        lines.push(format!("  clients     {clients}"));
    }
    if let Some(forecast) = forecast(view) {
        lines.push(format!("  forecast    {forecast}"));
    }
    if view["witnesses"].is_string() {
        lines.push(format!("  also seen   {}", text("witnesses")));
    }
    if view["left_alone"].is_string() {
        lines.push(format!("  left alone  {}", text("left_alone")));
    }
    for sentence in view["remembered"].as_array().into_iter().flatten() {
        lines.push(format!("  earlier     {}", sentence.as_str().unwrap_or("-")));
    }
    if view["exhausted"] == true {
        lines.push(
            "  exhausted   every permitted remedy was tried: an operator must look".to_owned(),
        );
    }
    if let Some(health) = view["health"].as_object() {
        let said = |field: &str| health[field].as_str().unwrap_or("-");
        let (path, result, reason) = (said("path"), said("result"), said("reason"));
        lines.push(format!("  health      {result}: {reason} (GET {path})"));
    }
    if view["blind"].is_string() {
        lines.push(format!("  not seen    {}", text("blind")));
    }
    if view["tls"].is_string() {
        lines.push(format!("  in TLS      {}", text("tls")));
    }
    lines.push("  seen".to_owned());
    for (name, value) in view["features"].as_object().into_iter().flatten() {
        lines.push(match value.as_f64() {
            Some(value) => format!("    {name:<22} {value:.3}"),
            None => format!("    {name:<22} not seen"),
        });
    }
    lines.join("\n") + "\n"
}
