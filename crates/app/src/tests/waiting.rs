//! Servers that are slow, that hang, and that serve one connection at a time.
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use super::*;

/// A server like Python's `http.server.HTTPServer` with HTTP/1.1: while one connection is open, it
/// serves no other.
struct Single {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Single {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Single {
    /// Takes this long for a response, and closes a connection on request if `polite`.
    async fn new(takes: Duration, polite: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                while let Some(head) = read_head(&mut stream).await {
                    sleep(takes).await;
                    let gone = stream.write_all(GOOD.as_bytes()).await.is_err();
                    if gone || polite && head.contains("connection: close") {
                        break;
                    }
                }
            }
        });
        Self { address, task }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap().to_ascii_lowercase())
}

/// Longer than this machine may stall, but short against a server that waits for us.
const PROMPT: Duration = Duration::from_secs(5);

/// A client on its own connection, which it closes; returns the duration.
async fn visit(address: SocketAddr) -> Duration {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; GOOD.len()];
    stream.read_exact(&mut answer).await.unwrap();
    begun.elapsed()
}

#[tokio::test]
async fn clients_of_a_single_threaded_server_do_not_notice_the_polls() {
    for polite in [true, false] {
        let server = Single::new(Duration::ZERO, polite).await;
        let mut app = app(server.address);
        for _ in 0..20 {
            healthy(&app.poll(NOW).await);
            let took = visit(server.address).await;
            assert!(took < PROMPT, "{took:?}");
        }
    }
}

#[tokio::test]
async fn clients_are_served_while_polls_are_under_way() {
    let server = Single::new(Duration::from_millis(20), true).await;
    let mut app = app(server.address);
    let polls = tokio::spawn(async move {
        for _ in 0..10 {
            healthy(&app.poll(NOW).await);
        }
    });
    for _ in 0..10 {
        let took = visit(server.address).await;
        assert!(took < PROMPT, "{took:?}");
    }
    polls.await.unwrap();
}

#[tokio::test]
async fn a_late_response_counts() {
    let server = Single::new(Duration::from_millis(1400), true).await;
    let mut app = app(server.address);
    let first = slow_poll(&mut app).await;
    fails(&first, Transport::Timeout, [0; 5]);
    let second = slow_poll(&mut app).await;
    healthy(&second);
    assert!(second.latency >= Duration::from_millis(1400), "{second:?}");
    assert!(second.latency < WAIT_LIMIT, "{second:?}");
    assert_eq!((first.hung_up, second.hung_up), (0, 0));
}

/// It is read, and its connection closed, when it arrives and not at the next poll.
#[tokio::test]
async fn an_answer_between_two_polls_ends_its_connection() {
    let (ended, mut end) = mpsc::unbounded_channel();
    let server = Server::scripted(move |mut peer| {
        let ended = ended.clone();
        async move {
            peer.request().await;
            sleep(Duration::from_millis(1200)).await;
            peer.write(GOOD).await;
            ended.send(peer.stream.read(&mut [0; 16]).await.map_err(|e| e.kind())).unwrap();
        }
    })
    .await;
    let mut app = app(server.address);
    fails(&slow_poll(&mut app).await, Transport::Timeout, [0; 5]);
    assert_eq!(timeout(Duration::from_secs(30), end.recv()).await, Ok(Some(Ok(0))));
    sleep(Duration::from_millis(200)).await;
    let poll = app.poll(NOW).await;
    healthy(&poll);
    assert!(poll.latency >= Duration::from_millis(1200), "{poll:?}");
    assert_eq!(server.accepted(), 1);
}

/// The number of open connections, and its maximum.
#[derive(Clone, Default)]
struct Open(Arc<(AtomicUsize, AtomicUsize)>);

impl Open {
    async fn hang(&self, mut peer: Peer) {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        peer.hung_up().await;
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_hung_server_sees_one_connection_that_waits() {
    let open = Open::default();
    let seen = open.clone();
    let server = Server::scripted(move |peer| {
        let seen = seen.clone();
        async move { seen.hang(peer).await }
    })
    .await;
    let mut app = app(server.address);
    let (mut hung_up, begun) = (0, Instant::now());
    while begun.elapsed() < Duration::from_secs(7) {
        let poll = app.poll(NOW).await;
        assert!(matches!(poll.heard(), Heard::Silent | Heard::NotAsked), "{poll:?}");
        assert_eq!(poll.responses, [0; 5]);
        assert!(poll.latency < WAIT_LIMIT + BUDGET, "{poll:?}");
        hung_up += poll.hung_up;
    }
    assert_eq!(open.most(), 1);
    // Two if this machine did not stall.
    assert!((1..=2).contains(&hung_up), "{hung_up}");
    assert!(server.accepted() <= hung_up as usize + 1);
}

#[tokio::test]
async fn a_request_given_up_between_two_polls_is_sent_again() {
    let server = Server::scripted(|mut peer| async move {
        if peer.number == 0 {
            return peer.hung_up().await;
        }
        keeps_alive(peer).await;
    })
    .await;
    let mut app = app(server.address);
    fails(&app.poll(NOW).await, Transport::Timeout, [0; 5]);
    sleep(WAIT_LIMIT).await;
    let poll = app.poll(NOW).await;
    healthy(&poll);
    assert_eq!((poll.hung_up, server.accepted()), (1, 2));
    assert!(poll.latency < BUDGET, "{poll:?}");
    assert_eq!(app.poll(NOW).await.hung_up, 0);
}

#[tokio::test]
async fn a_dropped_client_closes_its_waiting_request() {
    let (gone, mut closed) = mpsc::unbounded_channel();
    let server = Server::scripted(move |mut peer| {
        let gone = gone.clone();
        async move {
            peer.hung_up().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let mut app = app(server.address);
    slow_poll(&mut app).await;
    assert!(closed.try_recv().is_err());
    drop(app);
    let closed = timeout(Duration::from_secs(1), closed.recv()).await;
    assert_eq!(closed, Ok(Some(())), "the connection is still open");
}
