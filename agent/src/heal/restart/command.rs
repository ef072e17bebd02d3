//! Runs the restart command of the target's owner.
use std::{
    io::{self, PipeReader},
    os::fd::OwnedFd,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use parking_lot::Mutex;
use tokio::{
    io::AsyncReadExt, net::unix::pipe::Receiver, process::Command, task::JoinHandle, time::timeout,
};

use super::RestartError;

/// Number of output bytes that are kept.
const TAIL: usize = 4096;

/// How long to wait for the last output. A service that the command left running may hold the pipe
/// open forever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs `sh -c command` in its own process group and returns the end of its output.
pub(super) async fn run(command: &str, limit: Duration) -> Result<String, RestartError> {
    let (reader, writer) = io::pipe()?;
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let tail = Tail::of(reader)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    match timeout(limit, child.wait()).await {
        Ok(status) => {
            let status = status?;
            let output = tail.text().await;
            if status.success() {
                Ok(output)
            } else {
                Err(RestartError::Command { status, output })
            }
        }
        Err(_) => {
            // Not yet reaped, so the number of the group is still its own.
            if let Some(group) = group {
                killpg(Pid::from_raw(group), Signal::SIGKILL).map_err(io::Error::from)?;
            }
            child.wait().await?;
            Err(RestartError::CommandTimeout { limit, output: tail.text().await })
        }
    }
}

/// The end of a stream. It is read as long as there is a writer: a service that the command started
/// must not die of a closed pipe.
struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Tail {
    fn of(reader: PipeReader) -> io::Result<Self> {
        let mut reader = Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let kept = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&kept);
        let reading = tokio::spawn(async move {
            let mut buffer = [0; TAIL];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                let mut kept = to.lock();
                kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
                let surplus = kept.len().saturating_sub(TAIL);
                kept.drain(..surplus);
            }
        });
        Ok(Self { kept, reading })
    }

    async fn text(mut self) -> String {
        // Either the stream has ended, or its present content must do.
        let _ = timeout(LAST_WORDS, &mut self.reading).await;
        let kept = self.kept.lock();
        String::from_utf8_lossy(&kept).into_owned()
    }
}
