//! The accept loop: a limited number of connections, and a bounded end.
//!
//! [`Stopping::serve`] does the part of `hyper_util::server::graceful::GracefulShutdown`. That type
//! takes the connection away and has one reason to close it. Here a caller keeps the connection
//! (`patient-app` resets some), and may have a reason of its own (the metrics API closes connections
//! that an outdated CA has authenticated).
use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper_util::server::graceful::GracefulConnection;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::warn;

use super::Listener;

/// How long connections may take to end after the shutdown.
const GRACE: Duration = Duration::from_secs(5);
/// Delay after an accept that failed, most likely for lack of file descriptors. The rest of the
/// program continues.
const RETRY: Duration = Duration::from_secs(1);

/// Accepts connections until it is told to stop.
#[derive(Debug)]
pub struct AcceptLoop {
    listener: Listener,
    limit: usize,
    grace: Duration,
    report: fn(&io::Error),
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The connection; without Nagle's delay.
    pub stream: TcpStream,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Its place among the connections. The next one is accepted when it is dropped.
    pub place: OwnedSemaphorePermit,
    /// Tells when to close.
    pub stopping: Stopping,
}

impl AcceptLoop {
    /// A loop without a limit of connections, whose connections have 5 s to end after the shutdown.
    #[must_use]
    pub const fn new(listener: Listener) -> Self {
        Self { listener, limit: Semaphore::MAX_PERMITS, grace: GRACE, report }
    }

    /// Sets the maximum number of connections; more wait in the kernel's queue.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Sets how long connections may take to end after the shutdown.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Sets who is told of failed accepts, for a program without a log.
    #[must_use]
    pub fn report(self, report: fn(&io::Error)) -> Self {
        Self { report, ..self }
    }

    /// Hands each connection to `serve`. When `shutdown` resolves, it closes the listening socket
    /// and waits for the connections to end. Then it drops the others. Returns whether all ended.
    pub async fn run<C>(
        self,
        shutdown: impl Future<Output = ()>,
        mut serve: impl FnMut(Accepted) -> C,
    ) -> bool
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(self.limit));
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                // Frees the memory of those that have ended.
                Some(_) = connections.join_next() => {}
                Some((stream, peer, place)) = self.accept(&places) => {
                    let stopping = Stopping(stopping.clone());
                    connections.spawn(serve(Accepted { stream, peer, place, stopping }));
                }
            }
        }
        drop(self.listener);
        stop.send_replace(true);
        timeout(self.grace, async { while connections.join_next().await.is_some() {} })
            .await
            .is_ok()
    }

    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        // An error would mean that it is closed, which it never is.
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Without it a response may wait for the client's delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Some((stream, peer, place));
                }
                Err(error) => {
                    (self.report)(&error);
                    sleep(RETRY).await;
                }
            }
        }
    }
}

fn report(error: &io::Error) {
    warn!(%error, "cannot accept connections");
}

/// Tells a connection that its server stops.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Resolves when the server stops. An endless response must end then.
    pub async fn requested(&mut self) {
        // An error means that the loop is gone.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Serves requests until the client closes the connection, the server stops or `closing`
    /// resolves. In the last two cases it still answers the request that has arrived.
    ///
    /// # Errors
    /// What broke the connection.
    pub async fn serve<C>(
        &mut self,
        connection: &mut C,
        closing: impl Future<Output = ()>,
    ) -> Result<(), C::Error>
    where
        C: GracefulConnection + Unpin,
    {
        tokio::select! {
            biased;
            served = &mut *connection => return served,
            () = self.requested() => {}
            () = closing => {}
        }
        Pin::new(&mut *connection).graceful_shutdown();
        connection.await
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use http_body_util::Empty;
    use hyper::{
        Request, Response,
        body::{Bytes, Incoming},
        server::conn::http1,
        service::service_fn,
    };
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::{Notify, oneshot},
        task::JoinHandle,
        time::Instant,
    };

    use super::*;

    /// Generous: only a hanging test takes this long.
    const LIMIT: Duration = Duration::from_secs(20);

    /// A server whose `/slow` answers on request.
    struct Scene {
        address: SocketAddr,
        asked: Arc<Notify>,
        answer: Arc<Notify>,
        stop: oneshot::Sender<()>,
        all_ended: JoinHandle<bool>,
    }

    impl Scene {
        fn new(change: impl FnOnce(AcceptLoop) -> AcceptLoop) -> Self {
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.address().unwrap();
            let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (stop, stopped) = oneshot::channel();
            let accept_loop = change(AcceptLoop::new(listener));
            let (told, wait) = (Arc::clone(&asked), Arc::clone(&answer));
            let all_ended = tokio::spawn(accept_loop.run(
                async {
                    let _ = stopped.await;
                },
                move |accepted| serve(accepted, Arc::clone(&told), Arc::clone(&wait)),
            ));
            Self { address, asked, answer, stop, all_ended }
        }

        async fn send(&self, path: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream
        }
    }

    async fn serve(mut accepted: Accepted, asked: Arc<Notify>, answer: Arc<Notify>) {
        let service = service_fn(|request: Request<Incoming>| {
            let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
            async move {
                if request.uri().path() == "/slow" {
                    asked.notify_one();
                    answer.notified().await;
                }
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let io = TokioIo::new(accepted.stream);
        let mut connection = http1::Builder::new().serve_connection(io, service);
        let _ = accepted.stopping.serve(&mut connection, pending()).await;
        drop(accepted.place);
    }

    /// Reads the head of a response, without a body.
    async fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(LIMIT, stream.read_u8()).await.unwrap().unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn is_closed(stream: &mut TcpStream) {
        let read = timeout(LIMIT, stream.read(&mut [0; 64])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    #[tokio::test]
    async fn a_shutdown_answers_open_requests_and_closes_idle_connections() {
        let scene = Scene::new(|accept_loop| accept_loop);
        let mut idle = scene.send("/").await;
        assert!(head(&mut idle).await.starts_with("HTTP/1.1 200"));
        let mut slow = scene.send("/slow").await;
        scene.asked.notified().await;

        scene.stop.send(()).unwrap();
        is_closed(&mut idle).await;
        assert!(TcpStream::connect(scene.address).await.is_err(), "accepts no more");
        assert!(!scene.all_ended.is_finished());

        scene.answer.notify_one();
        assert!(head(&mut slow).await.contains("connection: close"));
        is_closed(&mut slow).await;
        assert!(timeout(LIMIT, scene.all_ended).await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn a_connection_that_does_not_end_is_cut_off_after_the_grace_period() {
        let grace = Duration::from_millis(200);
        let scene = Scene::new(|accept_loop| accept_loop.grace(grace));
        let mut stuck = scene.send("/slow").await;
        scene.asked.notified().await;
        let begun = Instant::now();
        scene.stop.send(()).unwrap();
        assert!(!timeout(LIMIT, scene.all_ended).await.unwrap().unwrap());
        assert!(begun.elapsed() >= grace);
        is_closed(&mut stuck).await;
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_until_another_ends() {
        let scene = Scene::new(|accept_loop| accept_loop.limit(1));
        let mut first = scene.send("/").await;
        head(&mut first).await;
        let mut second = scene.send("/slow").await;
        let early = timeout(Duration::from_millis(200), scene.asked.notified()).await;
        assert!(early.is_err(), "it is not accepted yet");
        drop(first);
        timeout(LIMIT, scene.asked.notified()).await.unwrap();
        scene.answer.notify_one();
        assert!(head(&mut second).await.starts_with("HTTP/1.1 200"));
    }
}
