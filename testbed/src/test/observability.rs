//! Dashboard and alerts against the real things: promtool runs the alerts' own tests, and a real
//! Prometheus scrapes a real agent while every query of the dashboard is put to it.
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xtask::{process, workspace::Workspace};

use super::suite::Tests;
use crate::stage::{
    Programs,
    agent::{Agent, Setup},
    free_port,
    stubs::StubServices,
};

/// Generous: only what hangs takes this long.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(workspace: &Workspace, tests: Tests) -> Result<()> {
    let folder = workspace.root.join("manifests/observability");
    let missing = "install Debian's package prometheus, or what it is called here";
    let promtool = process::on_path("promtool").context(missing)?;
    let prometheus = process::on_path("prometheus").context(missing)?;
    // The second file is for users who scale through Prometheus.
    let files = [
        ("check", "rules.yaml"),
        ("check", "../prometheus/rules.yaml"),
        ("test", "rules_test.yaml"),
    ];
    for (what, file) in files {
        let mut command = Command::new(&promtool);
        command.arg(what).arg("rules").arg(folder.join(file));
        process::run(&format!("promtool {what} rules"), &mut command)?;
    }
    the_clusters_differs_in_discovery_alone(&folder)?;
    let programs = Programs::as_tested(workspace)?;
    let services = StubServices::start(3)?;
    let state = tempfile::tempdir()?;
    let mut arguments = vec!["--verify-window".to_owned(), "2".to_owned()];
    if !tests.privileged {
        arguments.push("--no-kernel".to_owned());
    }
    let setup =
        Setup { urls: services.urls.clone(), state_dir: state.path().to_path_buf(), arguments };
    let agent = Agent::start(&programs, &setup, |_| ())?;
    let queries = queries(&fs::read_to_string(folder.join("dashboard.json"))?)?;
    process::announce("a real Prometheus scrapes a real agent");
    let home = tempfile::tempdir()?;
    let prometheus = Prometheus::start(&prometheus, home.path(), &agent.url, &folder)?;
    prometheus.wait_for("up == 1")?;
    // A counter has to be seen before it rises.
    prometheus.wait_for("paramedic_samples_total > 0")?;
    services.set_errors(0, 8);
    prometheus.wait_for(r#"sum(paramedic_heals_total{outcome="healed"}) > 0"#)?;
    prometheus.wait_for("sum(rate(paramedic_samples_total[10s])) > 0")?;
    let mut empty = Vec::new();
    for (panel, query) in &queries {
        let answer = prometheus.ask(query).with_context(|| format!("panel {panel:?}: {query}"))?;
        if answer.is_empty() && !may_be_empty(query, tests) {
            empty.push(format!("{panel:?}: {query}"));
        }
    }
    ensure!(empty.is_empty(), "no data for:\n{}", empty.join("\n"));
    println!("    {} queries of the dashboard are answered", queries.len());
    prometheus.rules_are_well()
}

/// Whether a query has a reason to return nothing here.
fn may_be_empty(query: &str, tests: Tests) -> bool {
    // There is no API server.
    let cluster = query.contains("paramedic_api_requests_total");
    // The agent is not blind to its HTTP.
    let blind = query.contains("paramedic_target_blind");
    let kernel = [
        "paramedic_probe_attached",
        "paramedic_target_http_responses_total",
        "paramedic_target_http_requests_per_second",
        "paramedic_target_http_5xx_ratio",
    ];
    cluster || blind || !tests.privileged && kernel.iter().any(|metric| query.contains(metric))
}

/// The dashboard's queries by panel, with its variables as Grafana would fill them in.
fn queries(dashboard: &str) -> Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(dashboard).context("the dashboard is no JSON")?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().context("a target without a query")?;
            let mut query = query.replace("$__rate_interval", "1m");
            for variable in ["instance", "namespace", "pod", "target"] {
                query = query.replace(&format!("${variable}"), ".*");
            }
            ensure!(!query.contains('$'), "a variable without a value: {query}");
            queries.push((panel["title"].as_str().unwrap_or_default().to_owned(), query));
        }
    }
    ensure!(queries.len() > 20, "only {} queries", queries.len());
    Ok(queries)
}

/// The configuration for one machine, with the agent's address and a short interval.
fn hurried(folder: &Path, agent: &str) -> Result<String> {
    let file = folder.join("local.yaml");
    let mut config = fs::read_to_string(&file)?;
    let rules = folder.join("rules.yaml").display().to_string();
    let agent = agent.trim_start_matches("http://");
    for (as_it_is, here) in
        [("localhost:9100", agent), ("- rules.yaml", &format!("- {rules}")), (": 15s", ": 1s")]
    {
        ensure!(config.contains(as_it_is), "{} has no {as_it_is:?}", file.display());
        config = config.replace(as_it_is, here);
    }
    Ok(config)
}

/// The configuration for a cluster is the same but for how agents are found. (Prometheus itself
/// cannot read it everywhere: Debian's is built without Kubernetes.)
fn the_clusters_differs_in_discovery_alone(folder: &Path) -> Result<()> {
    let read = |name: &str| -> Result<Value> {
        let text = fs::read_to_string(folder.join(name))?;
        let mut config: Value = serde_saphyr::from_str(&text).with_context(|| name.to_owned())?;
        let job = config["scrape_configs"][0].as_object_mut().context("no job")?;
        let found = ["static_configs", "kubernetes_sd_configs", "relabel_configs"]
            .iter()
            .filter(|key| job.remove(**key).is_some())
            .count();
        ensure!(found > 0, "{name}: no agent is found");
        Ok(config)
    };
    let (local, cluster) = (read("local.yaml")?, read("prometheus.yaml")?);
    ensure!(local == cluster, "prometheus.yaml is {cluster}, but local.yaml {local}");
    Ok(())
}

/// A running Prometheus; killed when dropped.
struct Prometheus {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Prometheus {
    fn start(program: &Path, home: &Path, agent: &str, folder: &Path) -> Result<Self> {
        let (file, log) = (home.join("prometheus.yaml"), home.join("log"));
        fs::write(&file, hurried(folder, agent)?)?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let child = command.spawn().context("cannot start Prometheus")?;
        Ok(Self { child, url: format!("http://127.0.0.1:{port}"), log })
    }

    /// The series that a query returns.
    fn ask(&self, query: &str) -> Result<Vec<Value>> {
        let mut answer = self.get(&format!("/api/v1/query?query={}", encoded(query)))?;
        ensure!(answer["status"] == "success", "{}", answer["error"]);
        match answer["data"]["result"].take() {
            Value::Array(series) => Ok(series),
            other => bail!("an answer that is no vector: {other}"),
        }
    }

    fn get(&self, path: &str) -> Result<Value> {
        let answer = minreq::get(format!("{}{path}", self.url)).with_timeout(10).send()?;
        serde_json::from_slice(answer.as_bytes()).context("Prometheus answers no JSON")
    }

    fn wait_for(&self, query: &str) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        // It does not listen yet, or has not scraped yet.
        while !self.ask(query).is_ok_and(|series| !series.is_empty()) {
            if Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("never true: {query}\n{log}");
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Checks that each alert is evaluated without an error, and that none fires after a successful
    /// heal.
    fn rules_are_well(&self) -> Result<()> {
        let answer = self.get("/api/v1/rules")?;
        let groups = answer["data"]["groups"].as_array().context("no groups of rules")?;
        let rules: Vec<&Value> =
            groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        ensure!(!rules.is_empty(), "no rules are loaded");
        for rule in rules {
            ensure!(rule["health"] == "ok", "{}: {}", rule["name"], rule["lastError"]);
            ensure!(rule["state"] != "firing", "{} fires: {rule}", rule["name"]);
        }
        Ok(())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A query in the form of a URL.
fn encoded(query: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    query.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(encoded("up == 1"), "up%20%3D%3D%201");
        assert_eq!(encoded(r#"a{b=~".*"}"#), "a%7Bb%3D~%22.%2A%22%7D");
    }
}
