//! A browser, driven over the DevTools protocol through two pipes: JSON, each message ended by a
//! zero byte. No port is opened and no WebSocket is needed.
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

/// The time limit of a command.
const LIMIT: Duration = Duration::from_secs(60);

/// One evaluation in the page takes some milliseconds. If one takes longer than this, the machine
/// was stalled.
const STALL: Duration = Duration::from_secs(1);

/// A browser with one page; killed when dropped.
pub(super) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// The complaints of the page: console errors, exceptions, refusals by its policy.
    pub(super) complaints: Vec<String>,
}

impl Browser {
    /// Starts it with one empty page. `profile` is an empty folder.
    pub(super) fn start(chromium: &Command, profile: &Path) -> Result<Self> {
        // The protocol's pipes are the descriptors 3 and 4.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"])
            .arg(chromium.get_program());
        shell.args(["--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"]);
        // Its own sandbox needs rights that root in a container does not have; it opens nothing
        // but the agent's page.
        shell.args(["--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]);
        shell.args(["--disable-background-networking", "--disable-extensions", "--mute-audio"]);
        shell.arg(format!("--user-data-dir={}", profile.display()));
        shell.envs(chromium.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = shell.spawn().context("cannot start the browser")?;
        let to = child.stdin.take().context("the browser has no input")?;
        let stdout = child.stdout.take().context("the browser has no output")?;
        let (send, from) = channel();
        thread::spawn(move || {
            let messages = BufReader::new(stdout).split(0).map_while(Result::ok);
            for message in messages.filter_map(|bytes| serde_json::from_slice(&bytes).ok()) {
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, to, from, session: None, last: 0, complaints: Vec::new() };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        ensure!(browser.session.is_some(), "the browser gives no session: {attached}");
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// One command and its result.
    pub(super) fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let lost = || format!("the browser does not take {method}");
        self.to.write_all(format!("{message}\0").as_bytes()).with_context(lost)?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let mut received = match self.from.recv_timeout(rest) {
                Ok(received) => received,
                Err(RecvTimeoutError::Timeout) => bail!("the browser does not answer {method}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the browser has ended"),
            };
            if received["id"] == self.last {
                ensure!(received.get("error").is_none(), "{method}: {}", received["error"]);
                return Ok(received["result"].take());
            }
            self.complaints.extend(complaint(&received));
        }
    }

    /// The value of an expression in the page; a promise is awaited.
    pub(super) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        self.attempt(expression)?.map_err(|thrown| anyhow!("{expression} throws: {thrown}"))
    }

    /// Evaluates an expression until it is `true`, and returns how long that took, without the
    /// machine's stalls. An exception counts as not yet: a page draws with its next frame, and
    /// until then an element may not exist.
    pub(super) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        expression: &str,
    ) -> Result<Duration> {
        let mut took = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let now = self.attempt(expression)?;
            let step = || begun.elapsed().min(STALL);
            if matches!(now, Ok(Value::Bool(true))) {
                return Ok(took + step());
            }
            let now = now.map_or_else(|thrown| format!("throws: {thrown}"), |is| is.to_string());
            ensure!(took < limit, "not within {limit:?}: {what}: {expression} {now}");
            thread::sleep(Duration::from_millis(20));
            took += step();
        }
    }

    /// The value of an expression, or the exception that it throws.
    fn attempt(&mut self, expression: &str) -> Result<Result<Value, String>> {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true,
        });
        let mut answer = self.call("Runtime.evaluate", &params)?;
        Ok(match answer.get("exceptionDetails") {
            Some(details) => Err(details["exception"]["description"].as_str().map_or_else(
                || details.to_string(),
                |description| description.lines().next().unwrap_or_default().to_owned(),
            )),
            None => Ok(answer["result"]["value"].take()),
        })
    }

    /// A key, as a user presses it.
    pub(super) fn press(&mut self, key: &str) -> Result<()> {
        let text = if key.len() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({ "type": kind, "key": key, "code": key });
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &params)?;
        }
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.call("Browser.close", &json!({}));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The complaint in an event, if it has one.
fn complaint(event: &Value) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(format!("exception: {}", params["exceptionDetails"])),
        "Runtime.consoleAPICalled" if params["type"] == "error" || params["type"] == "warning" => {
            Some(format!("console: {}", params["args"]))
        }
        "Log.entryAdded" if params["entry"]["level"] == "error" => {
            Some(format!("log: {} {}", params["entry"]["text"], params["entry"]["url"]))
        }
        _ => None,
    }
}

/// The bytes of a Base64 text, as the protocol sends pictures.
pub(super) fn bytes(base64: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(base64.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for symbol in base64.bytes().filter(|symbol| *symbol != b'=') {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("no Base64: {symbol}"),
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_decoded() {
        assert_eq!(bytes("UGFyYW1lZGlj").unwrap(), b"Paramedic");
        assert_eq!(bytes("UGFyYQ==").unwrap(), b"Para");
        assert_eq!(bytes("+/8=").unwrap(), [0xfb, 0xff]);
        assert!(bytes("a b").is_err());
    }

    #[test]
    fn only_errors_are_complaints() {
        let said = |level: &str| json!({ "method": "Log.entryAdded", "params": { "entry": { "level": level } } });
        assert!(complaint(&said("error")).is_some());
        assert!(complaint(&said("info")).is_none());
        assert!(complaint(&json!({ "method": "Page.loadEventFired" })).is_none());
    }
}
