//! The images as they are loaded.
use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::docker::stage::{AGENT, PATIENT, Stage};

/// The agent's capabilities in compose.yaml (it has no KILL: the engine ends processes), and those
/// that stand in for the first two on engines that do not know them.
const CAPABILITIES: [&[&str]; 2] =
    [&["BPF", "PERFMON", "NET_ADMIN", "SYSLOG"], &["SYS_ADMIN", "NET_ADMIN", "SYSLOG"]];

/// The signal that is off by default, and takes SYS_ADMIN: the kernel attaches no uprobe without.
const TLS: &str = "tls_responses";

pub(super) fn patient(stage: &mut Stage<'_>) -> Result<String> {
    labelled(stage, PATIENT, "Paramedic: patient")?;
    let patient = stage.patient("patient-app", 5000, &[])?;
    stage.tell("it answers");
    let user = &stage.docker.inspect(patient.name)?["Config"]["User"];
    ensure!(user == "10001:10001", "its user is {user}");
    let status = fs::read_to_string(format!("/proc/{}/status", stage.pid(patient.name)?))
        .context("it has no process")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    ensure!(uids.split_whitespace().all(|uid| uid == "10001"), "its process is of {uids}");
    Ok("healthy, user 10001".to_owned())
}

pub(super) fn agent(stage: &mut Stage<'_>) -> Result<String> {
    labelled(stage, AGENT, "Paramedic: agent")?;
    let outside = Command::new(&stage.programs.agent).args(["check", "--json"]).output()?;
    let outside = check(&outside.stdout).context("paramedic check on the host")?;
    ensure!(outside.get(TLS).is_some_and(|how| how.starts_with("ready")), "no TLS: {outside:?}");
    for capabilities in CAPABILITIES {
        let mut run = vec!["run", "--rm", "--network", "host", "--pid", "host"];
        run.extend(["--cap-drop", "ALL"]);
        for capability in capabilities {
            run.extend(["--cap-add", capability]);
        }
        run.extend(["--volume", "/sys/fs/cgroup:/host/cgroup:ro", "--read-only", AGENT]);
        run.extend(["check", "--json"]);
        let inside = stage.docker.output(&run)?;
        let inside = check(&inside.stdout)
            .with_context(|| String::from_utf8_lossy(&inside.stderr).trim().to_owned())?;
        let mut expected = outside.clone();
        if !capabilities.contains(&"SYS_ADMIN") {
            expected.insert(TLS.to_owned(), "unavailable by uprobe".to_owned());
        }
        ensure!(
            inside == expected,
            "with {} in the container {inside:?}, not {expected:?}",
            capabilities.join(", ")
        );
    }
    Ok(format!("{} kernel signals, as outside; TLS only with SYS_ADMIN", outside.len()))
}

/// Each kernel signal with how it is had.
fn check(printed: &[u8]) -> Result<BTreeMap<String, String>> {
    let told: Value = serde_json::from_slice(printed).context("check --json prints no JSON")?;
    ensure!(told["error"].is_null(), "{}", told["error"]);
    let probes = told["probes"].as_array().context("no probes")?;
    let text = |probe: &Value, field: &str| probe[field].as_str().unwrap_or_default().to_owned();
    Ok(probes
        .iter()
        .map(|probe| {
            let how = format!("{} by {}", text(probe, "status"), text(probe, "mechanism"));
            (text(probe, "signal"), how)
        })
        .collect())
}

fn labelled(stage: &Stage<'_>, image: &str, title: &str) -> Result<()> {
    let labels = &stage.docker.inspect(image)?["Config"]["Labels"];
    for (label, value) in [("title", title), ("version", env!("CARGO_PKG_VERSION"))] {
        let said = &labels[format!("org.opencontainers.image.{label}")];
        ensure!(said == value, "{image} has {said} for its {label}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_has_these_images_and_capabilities() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../compose.yaml");
        let text = fs::read_to_string(file).unwrap();
        let compose: Value = serde_saphyr::from_str(&text).unwrap();
        let services = &compose["services"];
        assert_eq!(services["patient"]["image"], PATIENT);
        assert_eq!(services["paramedic"]["image"], AGENT);
        let added: Vec<_> = services["paramedic"]["cap_add"].as_array().unwrap().clone();
        assert_eq!(added, CAPABILITIES[0]);
    }
}
