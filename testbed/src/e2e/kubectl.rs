//! `kubectl`, as a user would call it: with whatever cluster, context and credentials it is set up
//! for. It uses no client library: what works here works by hand, and each failure shows the
//! command.
use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use xtask::process;

/// The time limit of a call.
const LIMIT: Duration = Duration::from_secs(60);

/// Calls kubectl.
#[derive(Clone, Debug, Default)]
pub(super) struct Kubectl {
    /// Another configuration than the user's.
    config: Option<PathBuf>,
}

/// A list as the API server gives it.
#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

impl Kubectl {
    /// The user's own.
    ///
    /// # Errors
    /// If there is no kubectl.
    pub(super) fn find() -> Result<Self> {
        process::on_path("kubectl").context(
            "no kubectl on PATH: install it (https://kubernetes.io/docs/tasks/tools/), and set \
             KUBECONFIG to the cluster to test on",
        )?;
        Ok(Self::default())
    }

    /// With the configuration in this file.
    pub(super) fn with_config(file: &Path) -> Self {
        Self { config: Some(file.to_owned()) }
    }

    /// What the command prints.
    pub(super) fn text(&self, arguments: &[&str]) -> Result<String> {
        self.call(arguments, None, LIMIT)
    }

    /// What a command that may take `limit` prints.
    pub(super) fn text_within(&self, limit: Duration, arguments: &[&str]) -> Result<String> {
        self.call(arguments, None, limit)
    }

    /// One object, or nothing if it does not exist.
    pub(super) fn get<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<Option<T>> {
        let text =
            self.text(&[&["get", "--output=json", "--ignore-not-found"], arguments].concat())?;
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text).map(Some).with_context(|| not_understood(arguments))
    }

    /// All objects that the arguments select.
    pub(super) fn list<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<Vec<T>> {
        let text = self.text(&[&["get", "--output=json"], arguments].concat())?;
        let list: List<T> =
            serde_json::from_str(&text).with_context(|| not_understood(arguments))?;
        Ok(list.items)
    }

    /// Creates or changes the objects.
    pub(super) fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        self.call(&["apply", "--filename=-"], Some(&list.to_string()), LIMIT)?;
        Ok(())
    }

    /// GET of a path of the API server.
    pub(super) fn get_raw(&self, path: &str) -> Result<String> {
        self.text(&["get", "--raw", path])
    }

    /// POST to a path of the API server.
    pub(super) fn post_raw(&self, path: &str, body: &str) -> Result<String> {
        self.call(&["create", "--raw", path, "--filename=-"], Some(body), LIMIT)
    }

    fn call(&self, arguments: &[&str], input: Option<&str>, limit: Duration) -> Result<String> {
        let mut command = Command::new("kubectl");
        if let Some(config) = &self.config {
            command.arg("--kubeconfig").arg(config);
        }
        command.args(arguments);
        let shown = process::shown(&command);
        let (status, said, complained) =
            run(&mut command, input, limit).with_context(|| format!("cannot run: {shown}"))?;
        match status {
            Some(status) if status.success() => Ok(said.trim().to_owned()),
            Some(status) => bail!("{status}: {shown}\n{}", complained.trim_end()),
            None => bail!("no end after {} s: {shown}", limit.as_secs()),
        }
    }
}

fn not_understood(arguments: &[&str]) -> String {
    format!("kubectl get {} printed something unexpected", arguments.join(" "))
}

/// Runs the command; there is no status if it had to be stopped. The output goes to files, which
/// never block the command.
fn run(
    command: &mut Command,
    input: Option<&str>,
    limit: Duration,
) -> Result<(Option<ExitStatus>, String, String)> {
    let stdin = match input {
        None => Stdio::null(),
        Some(text) => {
            let mut file = tempfile::tempfile()?;
            file.write_all(text.as_bytes())?;
            file.rewind()?;
            file.into()
        }
    };
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(stdin).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(10));
    };
    Ok((status, content(stdout)?, content(stderr)?))
}

fn content(mut file: File) -> Result<String> {
    file.rewind()?;
    Ok(std::io::read_to_string(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: Option<&str>, limit: Duration) -> (bool, String, String) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let (status, said, complained) = run(&mut command, input, limit).unwrap();
        (status.is_some_and(|status| status.success()), said, complained)
    }

    #[test]
    fn what_is_said_and_what_is_complained_are_kept_apart() {
        let script = "cat; echo why >&2; exit 1";
        let said = shell(script, Some("body"), LIMIT);
        assert_eq!(said, (false, "body".into(), "why\n".into()));
        let (good, said, _) = shell("head -c 300000 /dev/zero", None, LIMIT);
        assert!(good && said.len() == 300_000);
    }

    #[test]
    fn what_does_not_end_is_stopped() {
        assert!(!shell("exec sleep 1000", None, Duration::from_millis(50)).0);
    }
}
