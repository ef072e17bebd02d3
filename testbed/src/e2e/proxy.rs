//! `kubectl proxy`: many requests through the API server without a process for each.
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::stage::traffic::Traffic;

/// A running proxy; it ends when dropped.
pub(super) struct Proxy {
    child: Child,
    /// Where it listens: `http://127.0.0.1:PORT`.
    url: String,
}

impl Proxy {
    /// Starts it on a free port.
    pub(super) fn start() -> Result<Self> {
        let mut child = Command::new("kubectl")
            .args(["proxy", "--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run kubectl proxy")?;
        let said = child.stdout.take().context("kubectl proxy has no output")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        // "Starting to serve on 127.0.0.1:36123"
        let address = line.trim().rsplit(' ').next().filter(|address| address.contains(':'));
        let url = address.map(|address| format!("http://{address}"));
        let proxy = url.map(|url| Self { child, url });
        proxy.with_context(|| format!("kubectl proxy says {line:?}, and not where it listens"))
    }

    /// One client that gets this path of the API server again and again, with this pause.
    pub(super) fn client(&self, path: &str, pause: Duration) -> Traffic {
        let url = format!("{}{path}", self.url);
        Traffic::start(pause, move || {
            // Any answer counts as traffic.
            let _ = minreq::get(&url).with_timeout(5).send();
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
