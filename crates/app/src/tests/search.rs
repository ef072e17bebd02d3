//! Which path is polled.
use super::*;
use crate::search::{Search, Step};

fn searching(address: SocketAddr) -> App {
    App::new(address, false, "patient:5000", None).unwrap()
}

fn empty(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")
}

/// Answers every path as the function says, after this delay.
async fn site<F>(after: Duration, answer: F) -> Server
where
    F: Fn(&str) -> String + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    Server::scripted(move |mut peer| {
        let answer = Arc::clone(&answer);
        async move {
            let Some(request) = peer.request().await else { return };
            sleep(after).await;
            peer.write(answer(request.split(' ').nth(1).unwrap())).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_first_path_that_answers_is_kept() {
    for (known, is_known) in KNOWN_PATHS.iter().enumerate() {
        let server = site(Duration::ZERO, move |path| {
            if path == *is_known { GOOD.to_owned() } else { empty("404 Not Found") }
        })
        .await;
        let mut app = searching(server.address);
        let poll = app.poll(NOW).await;
        assert_eq!(&*poll.path, *is_known);
        assert_eq!(poll.result.unwrap().error_count, Some(4));
        assert_eq!(poll.responses, [0, 1, 0, known as u32, 0]);
        assert_eq!(server.accepted(), known + 1);
        for _ in 0..2 {
            let poll = app.poll(NOW).await;
            assert_eq!(&*poll.path, *is_known);
            healthy(&poll);
        }
        assert_eq!(server.accepted(), known + 3);
    }
}

#[tokio::test]
async fn unreadable_paths_are_skipped() {
    let server = site(Duration::ZERO, |path| match path {
        "/health" => empty("302 Found"),
        "/healthz" => empty("401 Unauthorized"),
        "/livez" => body(6, "<html>"),
        "/actuator/health/liveness" => body(70_000, &" ".repeat(70_000)),
        "/actuator/health" => {
            "HTTP/1.1 503 X\r\ncontent-length: 17\r\n\r\n{\"status\":\"DOWN\"}".into()
        }
        _ => empty("500 Oops"),
    })
    .await;
    let poll = searching(server.address).poll(NOW).await;
    assert_eq!((&*poll.path, poll.heard()), ("/actuator/health", Heard::Ill));
    assert_eq!(poll.responses, [0, 2, 1, 1, 1]);
}

#[tokio::test]
async fn if_no_path_answers_only_the_first_is_polled() {
    let server = site(Duration::ZERO, |_| empty("404 Not Found")).await;
    let mut app = searching(server.address);
    let poll = app.poll(NOW).await;
    assert_eq!(&*poll.path, "/health");
    fails(&poll, HealthError::NotFound(404), [0, 0, 0, 8, 0]);
    for _ in 0..3 {
        let poll = app.poll(NOW).await;
        assert_eq!(&*poll.path, "/health");
        fails(&poll, HealthError::NotFound(404), [0, 0, 0, 1, 0]);
    }
    assert_eq!(server.accepted(), 11);
}

/// Many apps answer 5xx at paths that they do not have.
#[tokio::test]
async fn a_5xx_at_a_guessed_path_is_ignored() {
    let server = site(Duration::ZERO, |path| match path {
        "/health" => empty("404 Not Found"),
        _ => empty("500 Oops"),
    })
    .await;
    let mut app = searching(server.address);
    for (responses, accepted) in [([0, 0, 0, 1, 7], 8), ([0, 0, 0, 1, 0], 9), ([0, 0, 0, 1, 0], 10)]
    {
        let poll = app.poll(NOW).await;
        assert_eq!(&*poll.path, "/health");
        fails(&poll, HealthError::NotFound(404), responses);
        assert_eq!(server.accepted(), accepted);
    }
}

/// While an app starts, or behind a proxy that starts before it, every path answers 503.
#[tokio::test]
async fn a_5xx_at_every_path_does_not_end_the_search() {
    let up = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let server = site(Duration::ZERO, move |path| {
        match (is_up.load(std::sync::atomic::Ordering::SeqCst), path) {
            (false, _) => empty("503 Service Unavailable"),
            (true, "/livez") => GOOD.to_owned(),
            (true, _) => empty("404 Not Found"),
        }
    })
    .await;
    let mut app = searching(server.address);
    for (responses, accepted) in [(8, 8), (1, 9), (1, 10)] {
        let poll = app.poll(NOW).await;
        assert_eq!((&*poll.path, poll.heard()), ("/health", Heard::NotNow));
        assert_eq!(poll.responses, [0, 0, 0, 0, responses]);
        assert_eq!(server.accepted(), accepted);
    }
    up.store(true, std::sync::atomic::Ordering::SeqCst);
    let poll = app.poll(NOW).await;
    assert_eq!((&*poll.path, poll.heard()), ("/livez", Heard::Well));
    assert_eq!(poll.responses, [0, 1, 0, 2, 0]);
}

#[tokio::test]
async fn a_slow_search_continues_in_the_next_poll() {
    let server = site(Duration::from_millis(300), |path| {
        if path == "/live" { GOOD.to_owned() } else { empty("404 Not Found") }
    })
    .await;
    let mut app = searching(server.address);
    let (mut polls, mut not_found) = (0, 0);
    let found = loop {
        let poll = app.poll(NOW).await;
        polls += 1;
        not_found += poll.responses[3];
        assert_eq!(poll.hung_up, 0);
        match poll.result {
            Ok(_) => break poll.path,
            Err(error) => assert_eq!(error, HealthError::NotFound(404)),
        }
    };
    assert_eq!((&*found, not_found, server.accepted()), ("/live", 7, 8));
    assert!((3..=5).contains(&polls), "{polls}");
}

#[tokio::test]
async fn silence_at_the_first_path_is_silence() {
    let server = Server::silent().await;
    let mut app = searching(server.address);
    for _ in 0..2 {
        let poll = slow_poll(&mut app).await;
        assert_eq!((&*poll.path, poll.heard()), ("/health", Heard::Silent));
    }
    assert_eq!(server.accepted(), 1);
    let mut app = searching(free_address().await);
    for _ in 0..2 {
        fails(&app.poll(NOW).await, Transport::ConnectRefused, [0; 5]);
    }
}

/// A guessed path may be one that waits, or that has no handler.
#[tokio::test]
async fn silence_at_a_guessed_path_is_ignored() {
    for hangs in [true, false] {
        let server = Server::scripted(move |mut peer| async move {
            let Some(request) = peer.request().await else { return };
            if request.starts_with("GET /health ") {
                peer.write(empty("404 Not Found")).await;
            } else if hangs {
                peer.hung_up().await;
            }
        })
        .await;
        let mut app = searching(server.address);
        let (mut hung_up, mut polls) = (0, 0);
        while polls < 2 || (hangs && hung_up == 0) {
            let poll = app.poll(NOW).await;
            assert_eq!(poll.result, Err(HealthError::NotFound(404)));
            assert_eq!(&*poll.path, "/health");
            hung_up += poll.hung_up;
            polls += 1;
        }
        let asked = server.accepted();
        fails(&app.poll(NOW).await, HealthError::NotFound(404), [0, 0, 0, 1, 0]);
        assert_eq!(server.accepted(), asked + 1);
    }
}

#[test]
fn all_paths_are_tried_again_after_a_minute() {
    let begun = tokio::time::Instant::now();
    let mut search = Search::new(3);
    let gone = || Err(HealthError::NotFound(404));
    for (path, step) in [(0, Step::Next), (1, Step::Next), (2, Step::GiveUp), (0, Step::Take)] {
        assert_eq!(search.next(begun), path);
        assert_eq!(search.heard(&gone(), begun), step);
    }
    let soon = begun + Duration::from_secs(59);
    assert_eq!((search.next(soon), search.heard(&gone(), soon)), (0, Step::Take));
    let later = begun + Duration::from_secs(60);
    assert_eq!((search.next(later), search.heard(&gone(), later)), (0, Step::Next));
    assert_eq!(search.next(later), 1);
}

#[tokio::test]
async fn with_a_probe_only_its_port_and_path_are_polled() {
    let mut server = Server::answering(empty("404 Not Found")).await;
    let elsewhere = free_address().await;
    let asks = HealthAsk::Path("/up?full=1".to_owned());
    let probe = HealthProbe { port: server.address.port(), tls: false, asks };
    for (host, expected) in [
        (format!("shop:{}", elsewhere.port()), format!("shop:{}", server.address.port())),
        ("shop".to_owned(), "shop".to_owned()),
    ] {
        let mut app = App::new(elsewhere, true, &host, Some(&probe)).unwrap();
        let poll = app.poll(NOW).await;
        fails(&poll, HealthError::NotFound(404), [0, 0, 0, 1, 0]);
        assert_eq!(&*poll.path, "/up?full=1");
        let request = server.request().await;
        let head = format!("GET /up?full=1 HTTP/1.1\r\nhost: {expected}\r\n");
        assert!(request.starts_with(&head), "{request}");
    }
    assert_eq!(server.accepted(), 2);
}
