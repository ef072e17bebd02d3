//! Set-ups that cannot work: each ends with one sentence that says what to do.
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::docker::{
    engine::SOCKET,
    stage::{SOON, Stage},
};

pub(super) fn setups(stage: &mut Stage<'_>) -> Result<String> {
    let state = tempfile::tempdir()?;
    fs::set_permissions(state.path(), Permissions::from_mode(0o777))?;
    let agent = agent_for_all(stage, state.path())?;
    let watch = ["watch", "http://localhost:5000", "patient-app", "--no-kernel"];
    let follow = ["agent", "--runtime", "docker", "--no-kernel"];

    let absent = "no Docker engine listens at /run/nowhere.sock: start it, or name its socket with \
                  --docker-socket";
    for command in [&watch[..], &follow] {
        let mut command = told(&agent, &[], command, state.path());
        ends_with(command.args(["--docker-socket", "/run/nowhere.sock"]), absent)?;
    }
    stage.tell("no engine");

    let denied = format!(
        "no permission to use the Docker engine at {SOCKET}: run as root, or as a member of the \
         socket's group (docker)"
    );
    let unprivileged = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
    for command in [&watch[..], &follow] {
        ends_with(&mut told(&agent, &unprivileged, command, state.path()), &denied)?;
    }
    stage.tell("no permission");

    let away = stage.waiting_agent(state.path(), &["watch", "http://localhost:5000", "nobody"])?;
    let why = "the Docker engine has no container \"nobody\"; `docker ps --all` lists those that it \
               has";
    stage.until("the agent says that there is no such container", SOON, || {
        let said = away.lines().iter().any(|line| line.text("why") == why);
        ensure!(said, "it has not logged that");
        Ok(())
    })?;
    Ok("one sentence each".to_owned())
}

/// A copy that other users can reach: the checkout may be in root's home.
fn agent_for_all(stage: &Stage<'_>, folder: &Path) -> Result<PathBuf> {
    let copy = folder.join("paramedic");
    fs::copy(&stage.programs.agent, &copy).context("cannot copy the agent")?;
    Ok(copy)
}

fn told(agent: &Path, by: &[&str], arguments: &[&str], state: &Path) -> Command {
    let words: Vec<_> = by.iter().map(Path::new).chain([agent]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["--log", "json"]).args(arguments);
    command.arg("--state-dir").arg(state.join("state")).env_remove("DOCKER_HOST");
    command
}

/// Checks that it ends with code 1 and prints exactly this.
fn ends_with(command: &mut Command, sentence: &str) -> Result<()> {
    let output = command.output().context("cannot start the agent")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    ensure!(last.ends_with(sentence), "it says {said:?}, not {sentence:?}");
    ensure!(output.status.code() == Some(1), "it ends with {}", output.status);
    ensure!(said.lines().count() == 1, "it says more: {said}");
    Ok(())
}
