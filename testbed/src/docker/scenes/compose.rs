//! compose.yaml, as it is.
use std::{fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    docker::stage::{PatientContainer, Stage},
    stage::http,
};

/// From `up` to healthy, and from a fault to the end of a remedy, which is verified for 15 s.
const LIMIT: Duration = Duration::from_secs(90);

pub(super) fn story(stage: &mut Stage<'_>) -> Result<String> {
    let told = play(stage);
    let logs = stage.docker.text(&compose(stage, &["logs", "--no-color"]).each())?;
    fs::write(stage.log("containers"), &logs)?;
    let down = stage.docker.text(&compose(stage, &["down", "--volumes"]).each());
    let told = told?;
    down?;
    for (what, list) in [
        ("container", &["ps", "--all", "--quiet"][..]),
        ("volume", &["volume", "ls", "--quiet"]),
        ("network", &["network", "ls", "--quiet", "--filter", "type=custom"]),
    ] {
        let left = stage.docker.text(list)?;
        ensure!(left.is_empty(), "a {what} is left: {left}");
    }
    Ok(told)
}

fn play(stage: &Stage<'_>) -> Result<String> {
    stage.docker.text(&compose(stage, &["up", "--detach", "--wait"]).each())?;
    stage.tell("both are healthy, say their own health checks");
    let patient = PatientContainer { name: "patient-app", url: "http://localhost:5000".to_owned() };
    stage.until("the patient is watched", LIMIT, || {
        let target = http::get("http://localhost:9100/api/v1/targets/patient-app")?;
        ensure!(target["decision"].is_object(), "it has not been looked at");
        Ok(())
    })?;
    stage.errors(&patient, 10, Duration::from_millis(500))?;
    let (healing, ended) = stage.until("a remedy, and its good end", LIMIT, || {
        let lines = log(stage)?;
        let find = |message: &str| lines.iter().find(|line| line["message"] == message).cloned();
        find("watching").context("no patient in the log")?;
        let sick = |line: &&Value| line["message"] == "verdict" && line["action"] != "no_action";
        let verdict = lines.iter().find(sick).context("no verdict but that all is well")?;
        let check = verdict["health_check"].as_str().unwrap_or_default();
        ensure!(check.contains(" ms: the app "), "no health check in the log, but {check:?}");
        let healing = find("healing").context("no remedy in the log")?;
        let healed =
            |line: &&Value| line["message"] == "treatment ended" && line["outcome"] == "healed";
        let ended = lines.iter().find(healed).context("it has not ended well")?;
        Ok((healing, ended.clone()))
    })?;
    let confidence = healing["confidence"].as_f64().context("a remedy without confidence")?;
    ensure!(confidence >= 0.8, "healed with a confidence of {confidence}");
    page(stage)?;
    let remedy = ended["remedy"].as_str().unwrap_or_default();
    Ok(format!("healed by {remedy}, {:.0} % sure; down leaves nothing", confidence * 100.0))
}

/// The status page answers a browser.
fn page(stage: &Stage<'_>) -> Result<()> {
    let page = minreq::get("http://localhost:9100/").with_header("Accept", "text/html").send()?;
    if page.status_code != 200 || !page.as_str()?.contains("<html") {
        bail!("the status page answers {}", page.status_code);
    }
    stage.tell("the status page answers");
    Ok(())
}

/// The agent's log, as `docker compose logs` shows it.
fn log(stage: &Stage<'_>) -> Result<Vec<Value>> {
    let arguments = compose(stage, &["logs", "--no-color", "--no-log-prefix", "paramedic"]);
    let text = stage.docker.text(&arguments.each())?;
    // Compose clears each line before it prints it.
    let json = |line: &str| serde_json::from_str(&line[line.find('{')?..]).ok();
    Ok(text.lines().filter_map(json).collect())
}

/// Arguments for Compose with the file at the top of the checkout.
struct Arguments(Vec<String>);

impl Arguments {
    fn each(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

fn compose(stage: &Stage<'_>, arguments: &[&str]) -> Arguments {
    let file = stage.root.join("compose.yaml").display().to_string();
    let mut all = vec!["compose".to_owned(), "--file".to_owned(), file];
    all.extend(arguments.iter().map(|&argument| argument.to_owned()));
    Arguments(all)
}
