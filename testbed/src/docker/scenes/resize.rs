//! More memory for a container before the OOM killer acts, by the engine's update.
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::watch::{VERIFY, life};
use crate::{docker::stage::Stage, stage::http};

/// Until the leak has filled nine tenths of the limit, and the limit has grown.
const GROWN: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

pub(super) fn memory(stage: &mut Stage<'_>) -> Result<String> {
    let options = [
        "--memory",
        "96m",
        "--label",
        "paramedic.dev/heal=soft",
        "--label",
        "paramedic.dev/resize=memory=1.5x",
    ];
    let patient = stage.patient("patient-app", 5000, &options)?;
    let before = life(stage, &patient)?;
    let state = tempfile::tempdir()?;
    let agent = ["agent", "--runtime", "docker", "--interval", "1"];
    let agent = stage.agent(state.path(), &[&agent[..], &VERIFY].concat())?;
    // It grows by a tenth of the limit in five seconds, and ends above the old limit.
    let leak = json!({ "mib_per_second": 2, "max_mib": 92 });
    let answer = http::post(&format!("{}/illness/leak", patient.url), &leak)?;
    ensure!(answer.get("error").is_none(), "the patient refuses its illness: {answer}");
    let line = stage.wait_for_line(&agent, "resized", |line| line.message() == "resized")?;
    ensure!(line.text("step") == "memory 96Mi → 120Mi", "it was {}", line.text("step"));
    stage.until("a limit of 120 MiB", GROWN, || {
        let limit = stage.docker.inspect(patient.name)?["HostConfig"]["Memory"].as_u64();
        ensure!(limit == Some(120 * MIB), "it is {limit:?}");
        Ok(())
    })?;
    let line =
        stage.wait_for_line(&agent, "resize ended", |line| line.message() == "resize ended")?;
    ensure!(line.text("outcome") == "healed", "it ended {}", line.0);
    ensure!(life(stage, &patient)? == before, "the container was restarted");
    Ok("96 MiB became 120 MiB before the OOM killer acted, the container untouched".to_owned())
}
