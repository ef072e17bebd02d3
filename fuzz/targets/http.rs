//! What a hostile server sends to the agent's client of health checks.
//!
//! The first byte of an input says how many bytes arrive at a time, the rest is what arrives.
#![no_main]
use std::{
    io,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_executor::block_on;
use http_body_util::Full;
use libfuzzer_sys::{Corpus, fuzz_target};
use paramedic_app::{Endpoint, Head, converse};
use paramedic_core::health::{
    BODY_LIMIT, Transport,
    classify::{self, Answer},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

static ENDPOINT: LazyLock<Endpoint> = LazyLock::new(|| {
    Endpoint::new(([127, 0, 0, 1], 80).into(), false, "patient:80", "/health").unwrap()
});

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((chunk, bytes)) = input.split_first() else { return Corpus::Reject };
    let (result, head) = answer(bytes, usize::from(*chunk).max(1));
    match &result {
        Ok(answer) => {
            assert!(answer.body.len() <= BODY_LIMIT, "{} bytes", answer.body.len());
            assert!(answer.headers.len() <= 100, "{} headers", answer.headers.len());
            assert_eq!(head.take(), Some(answer.status), "told as soon as it is known");
            // 101 ends the exchange; every other interim response is followed by the final one.
            assert!(matches!(answer.status.as_u16(), 101 | 200..), "{} is final", answer.status);
            let _ = classify::read(answer);
        }
        Err(error) => assert!(
            matches!(
                error,
                Transport::Closed | Transport::NotHttp | Transport::Http2 | Transport::TooLarge
            ),
            "{error}: the server did nothing but send and close"
        ),
    }
    let _ = head.take();
    assert_eq!(head.take(), None, "it is taken once");
    // In whatever portions it arrives.
    let (whole, _) = answer(bytes, bytes.len().max(1));
    if let (Ok(portions), Ok(whole)) = (&result, &whole) {
        assert_eq!((portions.status, &portions.headers), (whole.status, &whole.headers));
        assert_eq!(portions.body, whole.body);
    }
    Corpus::Keep
});

fn answer(bytes: &[u8], chunk: usize) -> (Result<Answer, Transport>, Head) {
    let request = ENDPOINT.request().body(Full::<Bytes>::default()).unwrap();
    let mut server = Server { left: bytes.to_vec(), sent: 0, chunk, waiting: None, asked: false };
    let head = Head::default();
    let result = block_on(converse(&mut server, request, &head));
    (result, head)
}

/// Sends its bytes once it is asked, and closes.
struct Server {
    left: Vec<u8>,
    sent: usize,
    chunk: usize,
    asked: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        let left = &self.left[self.sent..];
        let now = left.len().min(self.chunk).min(buffer.remaining());
        buffer.put_slice(&left[..now]);
        self.sent += now;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
