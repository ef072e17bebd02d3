//! Crash injection: agents die between any two steps. Every request and every act on a pod is a
//! step, and at the last one everything that the agent started stops forever.
use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use fake_apiserver::{Caller, ConnectionError};
use hyper::http::{Request, Response};
use kube::{Client, client::Body};
use tokio::sync::Notify;
use tower_service::Service;

/// Shared by all tasks of one agent process.
#[derive(Clone, Debug)]
pub(super) struct Fuse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    left: AtomicU32,
    /// Number of remedies before the last step.
    remedies: AtomicU32,
    /// Whether the last step still takes effect.
    applied: bool,
    burnt: Notify,
}

/// What happens to one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Lives,
    /// It takes effect, but its result is lost.
    Last,
    Dead,
}

impl Fuse {
    /// Crashes at this step, at this remedy, or never.
    pub(super) fn new(steps: Option<u32>, remedies: Option<u32>, applied: bool) -> Self {
        let number = |number: Option<u32>| AtomicU32::new(number.unwrap_or(u32::MAX));
        let (left, remedies) = (number(steps), number(remedies));
        Self(Arc::new(Inner { left, remedies, applied, burnt: Notify::new() }))
    }

    /// Counts a request.
    pub(super) fn step(&self) -> Step {
        let before = self.0.left.load(Ordering::Relaxed);
        if before != u32::MAX {
            self.0.left.store(before.saturating_sub(1), Ordering::Relaxed);
        }
        match before {
            0 => Step::Dead,
            1 => self.burn(),
            _ => Step::Lives,
        }
    }

    /// Counts a remedy, which is a step too.
    pub(super) fn remedy(&self) -> Step {
        let step = self.step();
        let before = self.0.remedies.load(Ordering::Relaxed);
        if step != Step::Lives || before == u32::MAX {
            return step;
        }
        self.0.remedies.store(before - 1, Ordering::Relaxed);
        if before > 1 { Step::Lives } else { self.burn() }
    }

    fn burn(&self) -> Step {
        self.0.left.store(0, Ordering::Relaxed);
        self.0.burnt.notify_one();
        if self.0.applied { Step::Last } else { Step::Dead }
    }

    pub(super) async fn burnt(&self) {
        self.0.burnt.notified().await;
    }

    /// A client of the fake API server that dies with the agent.
    pub(super) fn client(&self, caller: Caller) -> Client {
        Client::new(Fused { fuse: self.clone(), caller }, "default")
    }
}

struct Fused {
    fuse: Fuse,
    caller: Caller,
}

type Answer = Result<Response<fake_apiserver::ApiBody>, ConnectionError>;

impl Service<Request<Body>> for Fused {
    type Response = Response<fake_apiserver::ApiBody>;
    type Error = ConnectionError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let step = self.fuse.step();
        if step == Step::Dead {
            return Box::pin(pending());
        }
        let answer = self.caller.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if step == Step::Last { pending().await } else { answer }
        })
    }
}
