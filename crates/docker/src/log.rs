//! The end of a container's log, from the engine.
use std::time::Duration;

use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::{Engine, EngineError};

/// Maximum number of a log's last lines to ask for.
const LOG_LINES: u32 = 500;

/// The end of a container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// Its last bytes, lines of both outputs in the engine's order.
    pub bytes: Vec<u8>,
    /// Whether more came than is kept.
    pub cut: bool,
}

impl LogEnd {
    /// Appends a piece, and keeps the last `most` bytes.
    fn push(&mut self, piece: &[u8], most: usize) {
        self.bytes.extend_from_slice(piece);
        let over = self.bytes.len().saturating_sub(most);
        if over > 0 {
            self.bytes.drain(..over);
            self.cut = true;
        }
    }
}

impl Engine {
    /// The end of a container's log on both outputs, with times: the last 500 lines, of which at
    /// most `most` bytes are kept. What came within `limit` is returned, also if more was to come.
    ///
    /// # Errors
    /// See [`EngineError`]; `Refused` if the container's log driver does not let anyone read.
    pub async fn log_end(
        &self,
        id: &str,
        most: usize,
        limit: Duration,
    ) -> Result<LogEnd, EngineError> {
        let deadline = Instant::now() + limit;
        let (stdout, stderr, timestamps) = (true, true, true);
        let tail = LOG_LINES.to_string();
        let options = LogsOptions { stdout, stderr, timestamps, tail, ..Default::default() };
        let docker = self.client(limit)?;
        let mut pieces = Box::pin(docker.logs(id, Some(options)));
        let mut end = LogEnd::default();
        loop {
            match timeout_at(deadline, pieces.next()).await {
                Ok(Some(Ok(piece))) => end.push(piece.as_ref(), most),
                Ok(None) => return Ok(end),
                Ok(Some(Err(error))) if end.bytes.is_empty() => return Err(self.error(error, id)),
                Err(_) if end.bytes.is_empty() => {
                    let within = format!("no log within {} ms", limit.as_millis());
                    return Err(EngineError::Unanswered(within));
                }
                _ => return Ok(LogEnd { cut: true, ..end }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
        task::JoinHandle,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// One frame of the engine's stream: output, size, text.
    fn frame(output: u8, text: &str) -> Vec<u8> {
        let size = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[output, 0, 0, 0], &size[..], text.as_bytes()].concat()
    }

    /// An engine that answers every request with these bytes; `open` keeps the connection.
    fn engine(answer: Vec<u8>, open: bool) -> (Engine, JoinHandle<String>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(&answer).await.unwrap();
            if open {
                std::future::pending::<()>().await;
            }
            String::from_utf8(request).unwrap()
        });
        (Engine::at(socket), served, folder)
    }

    fn stream_of(frames: &[Vec<u8>]) -> Vec<u8> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
                    Connection: close\r\n\r\n";
        [head.as_bytes().to_vec(), frames.concat()].concat()
    }

    #[tokio::test]
    async fn the_last_lines_of_both_outputs_are_asked_for_and_kept() {
        let frames = [frame(1, "t0 started\n"), frame(2, "t1 failed\n")];
        let (engine, served, _folder) = engine(stream_of(&frames), false);
        let end = engine.log_end("abc", 1000, LIMIT).await.unwrap();
        assert_eq!(end, LogEnd { bytes: b"t0 started\nt1 failed\n".to_vec(), cut: false });
        let request = served.await.unwrap();
        assert!(request.starts_with("GET /containers/abc/logs?"), "{request}");
        for option in ["stdout=true", "stderr=true", "tail=500", "follow=false", "timestamps=true"]
        {
            assert!(request.contains(option), "no {option} in {request}");
        }
    }

    #[tokio::test]
    async fn of_a_long_log_the_newest_bytes_are_kept() {
        let frames: Vec<_> = (0..2000).map(|n| frame(1, &format!("line {n}\n"))).collect();
        let (engine, _served, _folder) = engine(stream_of(&frames), false);
        let end = engine.log_end("abc", 1000, LIMIT).await.unwrap();
        assert!(end.cut && end.bytes.len() == 1000);
        assert!(end.bytes.ends_with(b"line 1999\n"));
    }

    #[tokio::test]
    async fn a_log_that_never_ends_is_kept_as_far_as_it_came() {
        let (engine, served, _folder) = engine(stream_of(&[frame(1, "begun\n")]), true);
        let end = engine.log_end("abc", 1000, Duration::from_millis(300)).await.unwrap();
        assert_eq!(end, LogEnd { bytes: b"begun\n".to_vec(), cut: true });
        served.abort();
    }

    #[tokio::test]
    async fn an_engine_that_refuses_or_is_absent_is_an_error() {
        let body = "{\"message\":\"configured logging driver does not support reading\"}";
        let answer = format!(
            "HTTP/1.1 501 Not Implemented\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (refuses, _served, _folder) = engine(answer.into_bytes(), false);
        let refused = refuses.log_end("abc", 1000, LIMIT).await;
        assert!(
            matches!(&refused, Err(EngineError::Refused(why)) if why.contains("driver")),
            "{refused:?}"
        );
        let absent = Engine::at("/nonexistent/docker.sock".into());
        assert!(matches!(absent.log_end("abc", 9, LIMIT).await, Err(EngineError::Absent(_))));
    }
}
